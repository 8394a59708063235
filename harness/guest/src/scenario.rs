//! Scenarios: what a guest is put through, as data, and how that is run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::Error;
use crate::guest::{Attachment, Booting, Config, Guest, tenths};
use crate::kit::{Kernel, Kit};
use crate::protocol::Task;
use crate::report::{Report, StepReport, Verdict};

/// How long one step may take, unless it says something else.
const STEP_LIMIT: Duration = Duration::from_secs(90);

/// A guest and what it is put through.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// A stable name, unique among the scenarios of a device.
    pub id: &'static str,
    /// What it shows, in a phrase.
    pub title: &'static str,
    /// The guest. Its devices are filled in from [`Scenario::devices`].
    pub config: Config,
    /// The devices it needs.
    pub devices: Wanted,
    /// The steps, in order. The first that does not pass ends the scenario.
    pub steps: Vec<Step>,
}

/// The devices that a scenario needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How many.
    pub count: usize,
    /// Whether they have MSI-X; if not, drivers fall back to the interrupt line.
    pub msix: bool,
    /// The parameters of our models, in JSON: of all, or a list with those of each. Empty for their
    /// defaults.
    pub parameters: &'static str,
}

/// Which kernels a step is for, by the first two numbers of their releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// All of them.
    All,
    /// Those before this version.
    Before(u32, u32),
    /// This version and those after it.
    Since(u32, u32),
}

/// One step of a scenario.
#[derive(Clone, Debug)]
pub struct Step {
    /// A stable name, unique in its scenario.
    pub id: String,
    /// What is done.
    pub action: Action,
    /// What the devices must have done meanwhile, by their own count.
    pub work: Work,
    /// The kernels that take this step; others go on with the next.
    pub kernels: For,
    /// How long it may take.
    pub limit: Duration,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// The agent performs a task in the guest.
    Perform(Task),
    /// The guest is reset from outside.
    Reset,
    /// A device is unplugged, and the guest lets it go.
    Unplug(usize),
    /// A device is plugged in again.
    Plug(usize),
    /// Passes if the devices hold nothing for any user of theirs.
    Released,
}

/// What the devices must complete during a step, so that nothing else can have done the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing in particular; not counted.
    Any,
    /// At least so many operations, over all devices.
    Total(u64),
    /// At least so many operations, each device.
    Each(u64),
    /// At least so many operations, over all devices, since the step of that id began.
    Since(&'static str, u64),
}

/// Whoever serves the devices of a scenario.
pub trait Devices {
    /// Gets the wanted devices ready, fresh, for one guest.
    ///
    /// # Errors
    /// Why that cannot be, for people.
    fn attach(&mut self, wanted: Wanted) -> Result<Vec<Attachment>, String>;

    /// How many operations a device (by its index in what [`Devices::attach`] returned) has
    /// completed since then: an ever-growing count.
    ///
    /// # Errors
    /// Why that is not known, for people.
    fn operations(&mut self, guest: &mut Guest, device: usize) -> Result<u64, String>;

    /// What a device holds for its users, in words; nothing if they are all gone.
    ///
    /// # Errors
    /// Why that is not known, for people.
    fn held(&mut self, device: usize) -> Result<String, String> {
        Err(format!("device {device} does not tell what it holds"))
    }
}

/// What the devices had completed when a step began, by its id.
type Marks = BTreeMap<String, Result<Vec<u64>, String>>;

impl Step {
    /// A step whose work is not counted.
    pub fn new(id: impl Into<String>, action: Action) -> Self {
        let (work, kernels) = (Work::Any, For::All);
        Self { id: id.into(), action, work, kernels, limit: STEP_LIMIT }
    }

    /// A step that the agent performs, not counted.
    pub fn perform(id: impl Into<String>, task: Task) -> Self {
        Self::new(id, Action::Perform(task))
    }

    /// The same step, with work to be shown.
    #[must_use]
    pub fn with_work(self, work: Work) -> Self {
        Self { work, ..self }
    }

    /// The same step, which may take longer or must be done sooner than others.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The same step, for some kernels only.
    #[must_use]
    pub fn on(self, kernels: For) -> Self {
        Self { kernels, ..self }
    }
}

impl For {
    fn includes(self, version: (u32, u32)) -> bool {
        match self {
            Self::All => true,
            Self::Before(major, minor) => version < (major, minor),
            Self::Since(major, minor) => version >= (major, minor),
        }
    }
}

impl Scenario {
    /// Boots the guest, takes it through the steps, and says what came of it.
    pub fn run(&self, kit: &Kit, kernel: &Kernel, seed: u64, devices: &mut dyn Devices) -> Report {
        let start = Instant::now();
        let planned: Vec<&Step> =
            self.steps.iter().filter(|step| step.kernels.includes(kernel.version())).collect();
        let mut steps = Vec::new();
        let booted = self.boot(kit, kernel, devices);
        let (mut guest, log, boot) = match booted {
            Ok(guest) => (Some(guest), String::new(), Ok(Value::Null)),
            Err(Booting { error, log }) => (None, log, Err(error)),
        };
        let boot_time = guest.as_ref().map_or_else(|| start.elapsed(), Guest::boot_time);
        steps.push(report("boot", boot_time, boot, Vec::new()));
        if let Some(guest) = &mut guest {
            let since = |step: &&Step| match step.work {
                Work::Since(id, _) => Some(id),
                _ => None,
            };
            let marked: Vec<&str> = planned.iter().filter_map(since).collect();
            let mut marks = Marks::new();
            for step in &planned {
                let start = Instant::now();
                if marked.contains(&step.id.as_str()) {
                    marks.insert(step.id.clone(), self.count(guest, devices));
                }
                let (outcome, operations) = self.run_step(step, guest, devices, &marks);
                steps.push(report(&step.id, start.elapsed(), outcome, operations));
                if steps.last().is_some_and(|step| step.verdict != Verdict::Pass) {
                    break;
                }
            }
            if steps.iter().all(|step| step.verdict == Verdict::Pass) {
                // What the devices did in the end is told also where no step demanded it.
                for device in 0..self.devices.count {
                    let _ = devices.operations(guest, device);
                }
            }
        }
        let seconds = tenths(start.elapsed());
        let log = if steps.iter().all(|step| step.verdict == Verdict::Pass) {
            String::new()
        } else {
            guest.as_ref().map_or(log, Guest::log)
        };
        // `boot` is one more than the scenario's own steps.
        for step in planned.iter().skip(steps.len() - 1) {
            let outcome = Err(Error::missing("not reached"));
            steps.push(report(&step.id, Duration::ZERO, outcome, Vec::new()));
        }
        let (scenario, kernel) = (self.id.to_owned(), kernel.release().to_owned());
        Report { scenario, kernel, seed, seconds, steps, log }
    }

    fn boot(
        &self,
        kit: &Kit,
        kernel: &Kernel,
        devices: &mut dyn Devices,
    ) -> Result<Guest, Booting> {
        let attachments = devices.attach(self.devices).map_err(|reason| Booting {
            error: Error::failed(format!("the devices are not ready: {reason}")),
            log: String::new(),
        })?;
        let config = Config { devices: attachments, ..self.config.clone() };
        Guest::boot(kit, kernel, &config)
    }

    /// How many operations each device has completed.
    fn count(&self, guest: &mut Guest, devices: &mut dyn Devices) -> Result<Vec<u64>, String> {
        (0..self.devices.count).map(|device| devices.operations(guest, device)).collect()
    }

    /// Runs a step and, if its work is counted, returns how much each device did.
    fn run_step(
        &self,
        step: &Step,
        guest: &mut Guest,
        devices: &mut dyn Devices,
        marks: &Marks,
    ) -> (Result<Value, Error>, Vec<u64>) {
        if matches!(step.action, Action::Released) {
            return (self.released(devices), Vec::new());
        }
        if step.work == Work::Any {
            return (act(step, guest), Vec::new());
        }
        let before = match step.work {
            Work::Since(id, _) => marks.get(id).cloned().unwrap_or_else(|| {
                Err(format!("the step {id}, since which work is counted, was not performed"))
            }),
            _ => self.count(guest, devices),
        };
        let before = match before {
            Ok(before) => before,
            Err(reason) => return (Err(Error::failed(reason)), Vec::new()),
        };
        let outcome = act(step, guest);
        match self.count(guest, devices).map_err(Error::failed) {
            Ok(after) => {
                let pairs = after.iter().zip(&before);
                let done: Vec<u64> =
                    pairs.map(|(after, before)| after.saturating_sub(*before)).collect();
                (outcome.and_then(|measured| step.work.judge(&done).map(|()| measured)), done)
            }
            // A guest that is gone cannot be asked; why it is gone matters more.
            Err(error) => (outcome.and(Err(error)), Vec::new()),
        }
    }
}

impl Scenario {
    fn released(&self, devices: &mut dyn Devices) -> Result<Value, Error> {
        for device in 0..self.devices.count {
            let held = devices.held(device).map_err(Error::failed)?;
            if !held.is_empty() {
                return Err(Error::failed(format!("device {device} still holds {held}")));
            }
        }
        Ok(Value::Null)
    }
}

impl Work {
    fn judge(self, done: &[u64]) -> Result<(), Error> {
        let (enough, wanted) = match self {
            Self::Any => (true, 0),
            Self::Total(wanted) | Self::Since(_, wanted) => {
                (done.iter().sum::<u64>() >= wanted, wanted)
            }
            Self::Each(wanted) => (done.iter().all(|&done| done >= wanted), wanted),
        };
        let scope = if matches!(self, Self::Each(_)) { "each" } else { "in all" };
        if enough {
            return Ok(());
        }
        let reason = format!("the devices completed {done:?} operations, not {wanted} {scope}");
        Err(Error::failed(reason))
    }
}

fn act(step: &Step, guest: &mut Guest) -> Result<Value, Error> {
    match &step.action {
        Action::Perform(task) => guest.perform(task, step.limit),
        Action::Reset => guest.reset(),
        Action::Unplug(device) => guest.unplug(*device).map(|()| Value::Null),
        Action::Plug(device) => guest.plug(*device).map(|()| Value::Null),
        // Asked of the devices, before it comes to this.
        Action::Released => Ok(Value::Null),
    }
}

fn report(
    id: &str,
    time: Duration,
    outcome: Result<Value, Error>,
    operations: Vec<u64>,
) -> StepReport {
    let (verdict, measured) = Verdict::of(outcome);
    StepReport { id: id.to_owned(), verdict, seconds: tenths(time), operations, measured }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_chosen_by_number() {
        assert!(For::All.includes((0, 0)));
        assert!(For::Before(7, 2).includes((6, 12)) && !For::Before(7, 2).includes((7, 2)));
        assert!(For::Since(7, 2).includes((7, 10)) && !For::Since(7, 2).includes((7, 1)));
    }

    #[test]
    fn work_is_judged_in_all_or_each() {
        assert!(Work::Any.judge(&[]).is_ok());
        assert!(Work::Total(5).judge(&[2, 3]).is_ok());
        assert!(Work::Each(2).judge(&[2, 3]).is_ok());
        assert!(Work::Since("begins", 5).judge(&[2, 3]).is_ok());
        assert!(Work::Since("begins", 6).judge(&[2, 3]).is_err());
        let error = Work::Total(6).judge(&[2, 3]).unwrap_err().to_string();
        assert_eq!(error, "the devices completed [2, 3] operations, not 6 in all");
        let error = Work::Each(3).judge(&[2, 3]).unwrap_err().to_string();
        assert_eq!(error, "the devices completed [2, 3] operations, not 3 each");
    }
}
