//! What a stock driver is put through in one case of `understudy fuzz driver`.

use std::time::Duration;

use understudy_catalog::Device;
use understudy_guest::{Action, Scenario, Task, qaic as qaic_guest};

use crate::failure::Failure;
use crate::guest;

/// Seconds after which whatever runs in the guest's user space is killed: a driver that lets its
/// users wait is not wrong, one whose users cannot be killed is.
const LIMIT: u32 = 8;

/// A driver's module, the guest in which it runs, and what makes it work.
pub(super) struct Workload {
    pub(super) module: &'static str,
    /// Its guest and its device's parameters count, not its steps.
    pub(super) scenario: Scenario,
    pub(super) tasks: Vec<Task>,
    /// Lets the module go.
    pub(super) unload: Task,
}

impl Workload {
    /// That of a device's stock driver.
    pub(super) fn of(device: &Device) -> Result<Self, Failure> {
        let scenario = guest::all_scenarios(device, 1)?.into_iter().next().ok_or_else(|| {
            let expected = "qaic, qat or virtio-crypto";
            Failure::usage("there are no guest scenarios", device.name, expected)
        })?;
        let performed = scenario.steps.iter().filter_map(|step| match &step.action {
            Action::Perform(task) => Some(task.clone()),
            _ => None,
        });
        let performed: Vec<Task> = performed.collect();
        let (module, tasks) = match device.name {
            "qat" => ("qat_c62xvf", qat(&performed)),
            "qaic" => ("qaic", qaic(&performed)),
            _ => ("virtio_crypto", crypto(&performed)),
        };
        // Our build of qaic is in none of the lists that modprobe goes by.
        let unload = match module {
            "qaic" => Task::Shell { script: "rmmod qaic".to_owned() },
            module => Task::Unload { module: module.to_owned() },
        };
        Ok(Self { module, scenario, tasks, unload })
    }
}

fn loads(performed: &[Task]) -> impl Iterator<Item = Task> + '_ {
    performed.iter().filter(|task| matches!(task, Task::Load { .. })).cloned()
}

fn crypto(performed: &[Task]) -> Vec<Task> {
    let vectors = performed.iter().filter(|task| matches!(task, Task::CbcVectors { .. }));
    let mut tasks: Vec<Task> = loads(performed).take(1).collect();
    tasks.push(self_tests("virtio_crypto"));
    tasks.extend(vectors.take(1).cloned());
    tasks
}

fn qat(performed: &[Task]) -> Vec<Task> {
    let comparisons: Vec<&Task> =
        performed.iter().filter(|task| matches!(task, Task::Compare { .. })).collect();
    let mut all = loads(performed);
    let mut tasks: Vec<Task> = all.next().into_iter().collect();
    tasks.push(self_tests("intel_qat"));
    tasks.extend(all.next());
    // A cipher, and a cipher with a hash.
    tasks.extend(comparisons.first().into_iter().chain(comparisons.last()).copied().cloned());
    tasks
}

fn qaic(performed: &[Task]) -> Vec<Task> {
    let runs = performed.iter().find_map(|task| match task {
        Task::Shell { script } if script.starts_with("qaic-run ") => Some(script.clone()),
        _ => None,
    });
    let mut tasks: Vec<Task> = loads(performed).take(1).collect();
    let online = qaic_guest::online(Duration::from_secs(LIMIT.into()));
    tasks.push(Task::Shell { script: format!("{} || exit 1\n{online}", qaic_guest::INSERT) });
    tasks.extend(runs.map(|run| Task::Shell { script: format!("timeout -s KILL {LIMIT} {run}") }));
    tasks
}

/// Waits until the self-tests of what a module registers have passed, but not for long.
fn self_tests(module: &str) -> Task {
    let turns = LIMIT * 10;
    let script = format!(
        "passed() {{ awk -v m={module} '$1 == \"module\" {{ ours = $3 == m }}
            $1 == \"selftest\" && ours {{ all++; if ($3 == \"passed\") good++ }}
            END {{ exit !(all && all == good) }}' /proc/crypto; }}
        n=0; until passed; do n=$((n+1)); [ $n -lt {turns} ] || exit 1; sleep 0.1; done"
    );
    Task::Shell { script }
}
