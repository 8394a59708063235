//! `understudy fuzz driver`: a stock driver in a guest, on a device with faults.
//!
//! A case: a plan is put into the device, the driver is loaded and made to work, the plan is taken
//! out, the driver is unloaded. What the driver answers does not matter; what the kernel says does:
//! an oops, a warning, a lockdep or KASAN report, a task that does not come to an end. After such a
//! case the guest is restarted; otherwise the next case uses it as it is.
//!
//! A finding that is new is tried again in a guest of its own, then with fewer faults. One that
//! needs the cases before it in its guest keeps them.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Value, json};
use understudy_catalog::Device;
use understudy_faults::{Faults, Plan};
use understudy_fuzzing::{Defect, DefectKind, Finding, plans};
use understudy_guest::{Attachment, Config, Error, Guest, Kernel, Kit, Task};
use understudy_server::{DeviceServer, Options};

use super::workload::Workload;
use super::{count_findings, end, keep, make_folder, plain, rounds, seed, stopped, write_stats};
use crate::failure::{Failure, Outcome};
use crate::fuzz::args::DriverArgs;
use crate::{faults, guest, host, print};

/// What the kernel prints when it is unwell.
const ALARMS: [&str; 13] = [
    "BUG:",
    "WARNING:",
    "Oops",
    "KASAN:",
    "UBSAN:",
    "general protection fault",
    "Kernel panic",
    "possible recursive locking",
    "possible circular locking",
    "inconsistent lock state",
    "blocked for more than",
    "soft lockup",
    "rcu: INFO:",
];
/// What the kernel's self-tests print of a device that computes wrongly: they are right.
const EXPECTED: [&str; 1] = ["crypto/testmgr.c"];
/// Cases of one boot at most.
const PER_BOOT: usize = 40;
/// How long a boot may take, and how often it is tried again.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
const MAX_BOOTS: u32 = 3;
/// Boots that minimising may take.
const MAX_ATTEMPTS: u32 = 6;
/// Lines of the console in a finding.
const MAX_LINES: usize = 200;

#[derive(Debug, Clone, Default, Serialize)]
struct Stats {
    rounds: u64,
    executions: u64,
    boots: u64,
    /// Boots that took too long, on a machine with much else to do.
    boots_failed: u64,
    steps_failed: u64,
    faults_fired: u64,
    not_unloaded: u64,
    seconds: f64,
    per_minute: f64,
    findings: usize,
    defects: u64,
}

impl Stats {
    fn end(&mut self, start: &Instant, out: &Path) {
        self.seconds = start.elapsed().as_secs_f64();
        self.per_minute = self.executions as f64 / (self.seconds / 60.0).max(0.001);
        self.findings = count_findings(out);
    }
}

/// A guest, the device it has, and how much of its console has been judged.
struct Rig<'a> {
    device: &'static Device,
    workload: Workload,
    kit: &'a Kit,
    kernel: &'a Kernel,
    patience: Duration,
    running: Option<Running>,
    stats: Stats,
}

struct Running {
    guest: Guest,
    server: DeviceServer,
    /// The plans of its cases so far.
    before: Vec<Plan>,
    judged: usize,
    _folder: tempfile::TempDir,
}

impl Rig<'_> {
    /// Boots, again if it takes too long.
    fn boot(&mut self) -> Result<(), Failure> {
        let mut attempts = 0;
        loop {
            match self.boot_once() {
                Err(_) if attempts < MAX_BOOTS => {
                    attempts += 1;
                    self.stats.boots_failed += 1;
                }
                done => return done,
            }
        }
    }

    fn boot_once(&mut self) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::environment("the guest does not boot", self.kernel.release(), error)
        };
        let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
        let socket = folder.path().join("device.sock");
        let parameters = match self.workload.scenario.devices.parameters {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|error| failed(&error))?,
        };
        let server = host::serve(self.device, parameters, &socket, Options::default())
            .map_err(|error| error.into_failure(&socket))?;
        let mut config = Config {
            devices: vec![Attachment::vfio_user(&socket)],
            boot_limit: BOOT_LIMIT,
            total_limit: Duration::from_secs(86_400),
            ..self.workload.scenario.config.clone()
        };
        // A task that waits so long will wait for ever; and it says where.
        config.kernel_arguments.push("sysctl.kernel.hung_task_timeout_secs=15".to_owned());
        let guest = Guest::boot(self.kit, self.kernel, &config)
            .map_err(|booting| failed(&booting.error))?;
        let judged = guest.log().len();
        self.stats.boots += 1;
        self.running = Some(Running { guest, server, before: Vec::new(), judged, _folder: folder });
        Ok(())
    }

    /// One case.
    fn case(&mut self, plan: &Plan) -> Result<Option<Found>, Failure> {
        if self.running.as_ref().is_none_or(|running| running.before.len() >= PER_BOOT) {
            self.running = None;
            self.boot()?;
        }
        let Some(mut running) = self.running.take() else { return Ok(None) };
        self.stats.executions += 1;
        inject(&running.server, self.device, plan)?;
        let mut hung = self.work(&mut running);
        self.stats.faults_fired += clear(&running.server);
        let mut usable = true;
        if hung.is_none() {
            let unloaded = running.guest.perform(&self.workload.unload, self.patience);
            usable = unloaded.is_ok();
            hung = lost(unloaded).map(|why| ("unload", why));
        }
        let log = running.guest.log();
        // The console's beginning is dropped in time.
        let new = log.get(running.judged.min(log.len())..).unwrap_or(&log).to_owned();
        running.judged = log.len();
        let lines: Vec<String> = new.lines().map(str::to_owned).collect();
        let Some(defect) = judge(&lines, hung) else {
            if usable {
                running.before.push(plan.clone());
                self.running = Some(running);
            } else {
                self.stats.not_unloaded += 1;
            }
            return Ok(None);
        };
        let tail = lines.len().saturating_sub(MAX_LINES);
        Ok(Some(Found { defect, lines: lines[tail..].to_vec(), before: running.before }))
    }

    /// Whether a guest of its own shows the same defect.
    fn again(&mut self, before: &[Plan], plan: &Plan, defect: &Defect) -> Result<bool, Failure> {
        self.running = None;
        for earlier in before {
            if self.case(earlier)?.is_some() {
                return Ok(false);
            }
        }
        Ok(self.case(plan)?.is_some_and(|found| found.defect.is_same(defect)))
    }

    /// Leaves out what the defect does not need, as long as that takes few boots: the plans that
    /// must come before, the plan, and whether it was seen again.
    fn minimise(&mut self, found: &Found, plan: &Plan) -> Result<(Vec<Plan>, Plan, bool), Failure> {
        let Found { defect, before, .. } = found;
        if !self.again(&[], plan, defect)? {
            let seen = !before.is_empty() && self.again(before, plan, defect)?;
            return Ok((before.clone(), plan.clone(), seen));
        }
        let (mut failure, mut boots) = (None, 0);
        let faults = understudy_fuzzing::minimise::without(&plan.faults, |faults| {
            boots += 1;
            if boots > MAX_ATTEMPTS {
                return false;
            }
            let candidate = Plan { faults: faults.to_vec(), ..plan.clone() };
            self.again(&[], &candidate, defect).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                false
            })
        });
        let plan = Plan { faults, ..plan.clone() };
        failure.map_or(Ok((Vec::new(), plan, true)), Err)
    }

    /// Loads the driver and makes it work. The step that did not come to an end, if one did not.
    fn work(&mut self, running: &mut Running) -> Option<(&'static str, String)> {
        for task in &self.workload.tasks {
            let result = running.guest.perform(task, self.patience);
            let failed = result.is_err();
            self.stats.steps_failed += u64::from(failed);
            if let Some(why) = lost(result) {
                return Some(("work", why));
            }
            // A driver that is not there has no work; one that failed some may do the rest.
            if failed && matches!(task, Task::Load { .. }) {
                break;
            }
        }
        None
    }
}

/// A defect, the console's last lines, and the cases that the guest had before.
struct Found {
    defect: Defect,
    lines: Vec<String>,
    before: Vec<Plan>,
}

/// Why a guest did not answer, if it did not: a task that failed has answered.
fn lost(result: Result<Value, Error>) -> Option<String> {
    match result {
        Err(error @ Error::Missing { .. }) => Some(error.to_string()),
        _ => None,
    }
}

fn inject(server: &DeviceServer, device: &'static Device, plan: &Plan) -> Result<(), Failure> {
    let plan = plan.clone();
    let vocabulary = device.vocabulary;
    let done = server
        .control()
        .call(move |device| Faults::inject_into(device.function, &plan, vocabulary).map(drop));
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(mistakes)) => Err(faults::failure(&mistakes, "the plan")),
        Err(_) => Err(Failure::environment("the device's thread is gone", device.name, "a report")),
    }
}

/// Ends all faults. How often they happened.
fn clear(server: &DeviceServer) -> u64 {
    let done = server.control().call(|device| {
        let Some(faults) = device.function.interposer::<Faults>() else { return 0 };
        let fired = faults.fired();
        faults.clear(None);
        if faults.is_idle() {
            device.function.interpose(None);
        }
        fired
    });
    done.unwrap_or(0)
}

/// What the console says, or that nothing came.
fn judge(lines: &[String], hung: Option<(&str, String)>) -> Option<Defect> {
    let has = |line: &String, texts: &[&str]| texts.iter().any(|text| line.contains(text));
    let alarm = lines.iter().position(|line| has(line, &ALARMS) && !has(line, &EXPECTED));
    if let Some(at) = alarm {
        let mut defect = Defect::new(DefectKind::Kernel, name_of(&lines[at]), lines[at].clone());
        defect.stack = kernel_stack(&lines[at..]);
        return Some(defect);
    }
    let (step, why) = hung?;
    Some(Defect::new(DefectKind::Hang, format!("the guest does not answer: {step}"), why))
}

/// What an alarm says, without what differs from one time to the next. The console may have had
/// something else in the same line before it.
fn name_of(line: &str) -> String {
    let places = ALARMS.iter().filter_map(|text| line.find(text));
    let start = line[..places.min().unwrap_or(0)].rfind("] ").map_or(0, |at| at + 2);
    let text = line.get(start..).unwrap_or(line);
    let text = text.split_once(" address: ").map_or(text, |(what, _)| what);
    plain(without_process(text))
}

/// Without the processor and the process that a warning names.
fn without_process(text: &str) -> &str {
    match (text.starts_with("WARNING: CPU:"), text.split_once(" at ")) {
        (true, Some((_, place))) => place,
        _ => text,
    }
}

/// Functions of a kernel's trace, innermost first, three at most.
fn kernel_stack(lines: &[String]) -> Vec<String> {
    let names = lines.iter().take(60).filter_map(|line| {
        let text = line.split_once("] ").map_or(line.as_str(), |(_, text)| text).trim();
        let text = text.strip_prefix("RIP: 0010:").unwrap_or(text);
        let (name, rest) = text.split_once("+0x")?;
        let whole = rest.contains("/0x") && !name.contains(' ') && !name.starts_with('?');
        whole.then(|| name.to_owned())
    });
    let of_scheduler = ["__schedule", "schedule", "schedule_timeout", "__wait_for_common"];
    names.filter(|name| !of_scheduler.contains(&name.as_str())).take(3).collect()
}

pub(crate) fn run(args: &DriverArgs) -> Outcome {
    let device = host::device(&args.device)?;
    let workload = Workload::of(device)?;
    let target = faults::target(device)?;
    let kit = guest::kit(device)?;
    let kernel = one_kernel(&kit, &args.kernel)?;
    make_folder(&args.campaign.out)?;
    let stop = stopped()?;
    let rounds = rounds(&args.campaign.out);
    let seed = seed(&args.campaign, rounds);
    let (stats, patience) = (Stats { rounds: rounds + 1, ..Stats::default() }, args.patience);
    let mut rig = Rig { device, workload, kit: &kit, kernel, patience, running: None, stats };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let start = Instant::now();
    while start.elapsed() < args.campaign.time && !stop.load(Ordering::Relaxed) {
        let plan = plans::plan(&mut random, &target);
        let found = rig.case(&plan)?;
        // Whatever ends this, what was done so far is known.
        rig.stats.end(&start, &args.campaign.out);
        write_stats(&args.campaign.out, &rig.stats)?;
        let Some(found) = found else { continue };
        rig.stats.defects += 1;
        let execution = rig.stats.executions;
        let mut finding = Finding {
            format: understudy_fuzzing::finding::FORMAT,
            kind: "driver".to_owned(),
            target: device.name.to_owned(),
            seed,
            execution,
            config: json!({ "kernel": kernel.release(), "module": rig.workload.module,
                "patience": args.patience.as_secs() }),
            defect: found.defect.clone(),
            first_bytes: 0,
            bytes: 0,
            program: Value::Null,
            trace: found.lines.clone(),
        };
        if args.campaign.out.join("findings").join(finding.file_name()).exists() {
            continue;
        }
        let size = |plan: &Plan| serde_json::to_vec(plan).map_or(0, |bytes| bytes.len());
        let (before, smaller, again) = rig.minimise(&found, &plan)?;
        finding.first_bytes = size(&plan);
        finding.bytes = size(&smaller);
        finding.program = serde_json::to_value(&smaller).unwrap_or_default();
        finding.config["seen_again"] = again.into();
        if !before.is_empty() {
            finding.config["before"] = serde_json::to_value(&before).unwrap_or_default();
        }
        keep(&finding, &args.campaign.out)?;
    }
    let mut stats = rig.stats;
    stats.end(&start, &args.campaign.out);
    let line = format!(
        "{} on {}: {} cases in {:.0} s, {:.1} a minute, {} boots, {} faults fired, {} findings\n",
        rig.workload.module,
        kernel.release(),
        stats.executions,
        stats.seconds,
        stats.per_minute,
        stats.boots,
        stats.faults_fired,
        stats.findings
    );
    end(&args.campaign, &stats, &line)?;
    Ok(stats.findings == 0)
}

fn one_kernel<'k>(kit: &'k Kit, name: &str) -> Result<&'k Kernel, Failure> {
    let kernels = kit
        .select(name)
        .map_err(|error| Failure::usage(error, "--kernel", "a version, a release or a suite"))?;
    let first = kernels.into_iter().next();
    first.ok_or_else(|| Failure::usage("no kernel", "--kernel", "a version that is prepared"))
}

pub(crate) fn replay(finding: &Finding) -> Result<Option<Defect>, Failure> {
    let broken = |error: &dyn std::fmt::Display| {
        Failure::usage(error, "finding", "a whole finding of fuzz driver")
    };
    let plan: Plan =
        serde_json::from_value(finding.program.clone()).map_err(|error| broken(&error))?;
    let device = host::device(&finding.target)?;
    let workload = Workload::of(device)?;
    let kit = guest::kit(device)?;
    let release = finding.config["kernel"].as_str().ok_or_else(|| broken(&"no kernel"))?;
    let kernel = one_kernel(&kit, release)?;
    let patience = Duration::from_secs(finding.config["patience"].as_u64().unwrap_or(30));
    let stats = Stats::default();
    let mut rig = Rig { device, workload, kit: &kit, kernel, patience, running: None, stats };
    let before = finding.config.get("before").cloned().unwrap_or_else(|| json!([]));
    let before: Vec<Plan> = serde_json::from_value(before).map_err(|error| broken(&error))?;
    print(&format!("booting {release}\n"))?;
    for earlier in &before {
        if let Some(found) = rig.case(earlier)? {
            return Ok(Some(found.defect));
        }
    }
    Ok(rig.case(&plan)?.map(|found| found.defect))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn alarms_are_told_apart_by_what_they_say_and_where() {
        let lines = console(
            "agent: {\"task\":1}[   90.712957] BUG: unable to handle page fault for address: 28fe\n\
             [   90.8] #PF: supervisor read access in kernel mode\n\
             [   90.9] RIP: 0010:qat_alg_callback+0x16/0x40 [intel_qat]\n\
             [   91.0]  ? __die_body.cold+0x19/0x27\n\
             [   91.1]  adf_response_handler+0x50/0xe0 [intel_qat]",
        );
        let defect = judge(&lines, None).unwrap();
        assert_eq!(defect.clause, "BUG: unable to handle page fault for");
        assert_eq!(defect.stack, ["qat_alg_callback", "adf_response_handler"]);
        let blocked = console("[ 1.5] INFO: task a:12 blocked for more than 15 seconds.");
        let clause = judge(&blocked, None).unwrap().clause;
        assert_eq!(clause, "INFO: task a:# blocked for more than # seconds.");
    }

    #[test]
    fn self_tests_that_fail_are_no_finding() {
        let lines = console("[ 1.5] WARNING: CPU: 0 PID: 9 at crypto/testmgr.c:5928 alg_test+0x1");
        assert_eq!(judge(&lines, None), None);
        let hung = judge(&lines, Some(("work", "time ran out".to_owned()))).unwrap();
        assert_eq!(hung.kind, DefectKind::Hang);
    }
}
