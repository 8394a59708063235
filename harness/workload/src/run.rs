//! One run, and what must hold in it.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use understudy_catalog::Device;
use understudy_client::{DriverError, Platform, SimulationPlatform};
use understudy_device::ResetKind;
use understudy_faults::Faults;
use understudy_simulation::Step;

use crate::book::{Book, Failure, FailureKind};
use crate::case::{Case, Operation, Work};
use crate::devices::{self, Working};
use crate::excuse::{Circumstances, Excuse, Judge};
use crate::generate::WorkloadError;
use crate::planted::plant;
use crate::watch::Watched;

/// Steps in which a device must come to rest.
const REST_STEPS: u64 = 20_000;
/// Steps in which what is in flight must complete, once the faults are over.
const DRAIN_STEPS: u64 = 100_000;
/// Waits in vain after which a driver gives up and starts anew.
const MAX_WAITS: u32 = 3;
/// Starts that fail one after the other, after which the driver waits for the faults to be over.
const MAX_STARTS: u32 = 2;
/// Last events of a run that failed.
const TAIL: usize = 64;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Operations begun.
    pub operations: u64,
    /// Requests submitted.
    pub submitted: u64,
    /// Requests completed.
    pub completed: u64,
    /// Requests in flight when their driver took their queue away.
    #[serde(default)]
    pub abandoned: u64,
    /// Times that the driver started anew.
    pub restarts: u64,
    /// Times that each kind of fault happened.
    pub fired: BTreeMap<String, u64>,
    /// Events of the simulation.
    pub events: u64,
    /// Virtual time in nanoseconds.
    pub nanos: u64,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is wrong, if anything.
    pub failure: Option<Failure>,
    /// Everything that happened, as one number ([`Trace::hash`](understudy_simulation::Trace)).
    pub hash: u64,
    /// What it did.
    pub stats: Stats,
    /// The last events, if it failed.
    pub tail: Vec<String>,
}

/// Runs a case. A panic of the model, its driver or a fault is a failure of the run.
///
/// # Errors
/// The case cannot be run: no such device, or a plan that is not for it.
pub fn run(case: &Case) -> Result<Run, WorkloadError> {
    let device = understudy_catalog::find(&case.device)
        .map_err(|error| WorkloadError::Device(error.to_string()))?;
    if devices::work_of(device.name).is_empty() {
        return Err(WorkloadError::NoDriver(device.name.to_owned()));
    }
    // What is caught is given up as a whole.
    match catch_unwind(AssertUnwindSafe(|| Runner::new(device, case).map(Runner::run))) {
        Ok(run) => run,
        Err(panic) => Ok(panicked(panic.as_ref())),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Run {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let what = format!("panicked: {text}");
    let failure = Failure { kind: FailureKind::Panic, what, operation: None, at: 0 };
    Run { failure: Some(failure), hash: 0, stats: Stats::default(), tail: Vec::new() }
}

struct Runner<'a> {
    case: &'a Case,
    platform: Watched,
    worker: Option<Box<dyn Working>>,
    book: Book,
    judge: Judge,
    /// Faults still happen.
    faulty: bool,
    operation: Option<usize>,
    /// Waits in vain since the driver started.
    waits: u32,
    failed_starts: u32,
    failure: Option<Failure>,
    stats: Stats,
}

impl<'a> Runner<'a> {
    fn new(device: &'static Device, case: &'a Case) -> Result<Self, WorkloadError> {
        let failed = |error: &dyn std::fmt::Display| WorkloadError::Device(error.to_string());
        let model = device.build(devices::parameters(device.name, &case.options, &case.parameters));
        let model = plant(model.map_err(|error| failed(&error))?, device.vocabulary, case.planted);
        let simulated = SimulationPlatform::new(model, case.seed);
        let simulated = simulated.map_err(|error| failed(&error))?;
        let platform = Watched::new(simulated, device.vocabulary, case.planted);
        if !case.plan.faults.is_empty() {
            let injected = platform.simulation(|it| {
                Faults::inject_into(it.function_mut(), &case.plan, device.vocabulary)
            });
            injected.map_err(WorkloadError::Plan)?;
        }
        Ok(Self {
            case,
            platform,
            worker: None,
            book: Book::default(),
            judge: Judge::default(),
            faulty: true,
            operation: None,
            waits: 0,
            failed_starts: 0,
            failure: None,
            stats: Stats::default(),
        })
    }

    fn run(mut self) -> Run {
        self.work();
        let excuse = self.excuse();
        self.stop_faults();
        self.operation = None;
        if self.failure.is_none() {
            self.drain(&excuse);
        }
        self.faulty = false;
        self.judge = Judge::default();
        if self.failure.is_none() {
            self.use_again();
        }
        if self.failure.is_none() {
            self.rest("the device does not come to rest");
        }
        if self.failure.is_none() {
            self.shut_down();
        }
        if self.platform.is_exhausted() {
            self.fail(FailureKind::Stuck, "the driver goes round in circles");
        }
        self.finish()
    }

    /// The operations, while faults happen.
    fn work(&mut self) {
        self.start();
        for (index, operation) in self.case.operations.iter().enumerate() {
            if self.failure.is_some() {
                return;
            }
            self.operation = Some(index);
            if self.worker.is_none() {
                if self.failed_starts > MAX_STARTS {
                    return;
                }
                self.restart();
            }
            if self.worker.is_some() {
                self.stats.operations += 1;
                self.perform(operation);
            }
        }
    }

    fn perform(&mut self, operation: &Operation) {
        let Some(worker) = &mut self.worker else { return };
        let done = match operation.work {
            Work::Reset => return self.restart(),
            Work::Wait => worker.collect(0, &mut self.book),
            Work::Idle => {
                let steps = u64::from(operation.len) % 256;
                self.platform.simulation(|it| {
                    for _ in 0..steps {
                        it.step();
                    }
                });
                worker.reap(&mut self.book)
            }
            _ => worker.perform(operation, &mut self.book),
        };
        if let Err(error) = done {
            self.went_wrong(&error);
        }
        self.settle();
    }

    /// Starts the driver.
    fn start(&mut self) {
        let Case { device, options, parameters, planted, .. } = self.case;
        let options = devices::possible(*options, parameters);
        let started = devices::start(device, self.platform.clone(), &options, *planted);
        self.waits = 0;
        match started {
            Ok(worker) => {
                self.worker = Some(worker);
                self.failed_starts = 0;
            }
            Err(error) => {
                self.failed_starts += 1;
                let excuse = self.excuse();
                let explained = match &error {
                    DriverError::Timeout(_) => excuse.is_slow() || excuse.is_confused(),
                    _ => excuse.is_confused(),
                };
                if !(self.faulty && explained) {
                    let kind =
                        if self.faulty { FailureKind::Driver } else { FailureKind::NotRecovered };
                    self.fail(kind, format!("the driver does not start: {error}"));
                }
            }
        }
        self.settle();
    }

    /// Resets the function and starts the driver anew. What was in flight is gone.
    fn restart(&mut self) {
        self.stats.restarts += 1;
        self.worker = None;
        self.book.give_up();
        self.platform.simulation(|it| it.reset(ResetKind::Function));
        self.platform.free_all();
        self.start();
    }

    /// The driver found something wrong, or waited in vain.
    fn went_wrong(&mut self, error: &DriverError) {
        let excuse = self.excuse();
        let waits = matches!(error, DriverError::Timeout(_) | DriverError::QueueFull { .. });
        let explained = excuse.is_confused() || waits && excuse.is_slow();
        if !(self.faulty && explained) {
            let kind = if self.faulty { FailureKind::Driver } else { FailureKind::NotRecovered };
            return self.fail(kind, format!("the driver: {error}"));
        }
        self.waits += 1;
        let lost = self.worker.as_ref().is_none_or(|worker| worker.is_lost());
        if !waits || lost || self.waits > MAX_WAITS {
            self.restart();
        }
    }

    /// Judges what deviates.
    fn settle(&mut self) {
        for stray in self.platform.take_strays() {
            self.book.deviate(FailureKind::Stray, stray);
        }
        if self.book.deviations.is_empty() {
            return;
        }
        let excuse = if self.faulty { self.excuse() } else { Excuse::default() };
        for deviation in std::mem::take(&mut self.book.deviations) {
            if !self.judge.explains(&excuse, &deviation) {
                self.fail(deviation.kind, deviation.what);
            }
        }
    }

    /// What the faults that happened so far explain.
    fn excuse(&self) -> Excuse {
        self.platform.simulation(|it| match it.function_mut().interposer::<Faults>() {
            None => Excuse::default(),
            Some(faults) => {
                let list = faults.list();
                let run = Circumstances {
                    ordered: devices::completes_in_order(&self.case.device),
                    abandons: self.book.abandoned > 0,
                };
                Excuse::of(list.iter().map(|it| (&it.fault.fault, it.fired)), run)
            }
        })
    }

    fn stop_faults(&mut self) {
        let fired = &mut self.stats.fired;
        self.platform.simulation(|it| {
            if let Some(faults) = it.function_mut().interposer::<Faults>() {
                for one in faults.list() {
                    *fired.entry(one.fault.fault.name().to_owned()).or_default() += one.fired;
                }
                faults.clear(None);
                it.wake();
            }
        });
    }

    /// What is in flight completes, unless a fault lost it.
    fn drain(&mut self, excuse: &Excuse) {
        for _ in 0..DRAIN_STEPS {
            let Some(worker) = &mut self.worker else { break };
            if let Err(error) = worker.reap(&mut self.book) {
                if !excuse.is_confused() {
                    let kind = FailureKind::Driver;
                    return self.fail(kind, format!("the driver, after the faults: {error}"));
                }
                self.worker = None;
                break;
            }
            let quiet = self.platform.simulation(|it| it.step()) == Step::Quiet;
            if worker.in_flight() == 0 || quiet && worker.reap(&mut self.book).is_ok() {
                break;
            }
        }
        let deviations = std::mem::take(&mut self.book.deviations);
        for deviation in deviations {
            if !self.judge.explains(excuse, &deviation) {
                self.fail(deviation.kind, deviation.what);
            }
        }
        let lost = self.book.give_up();
        if !excuse.loses(lost.len() as u64) && self.failure.is_none() {
            let what = format!("{} never completed: {}", lost.len(), lost.join(", "));
            self.fail(FailureKind::Lost, what);
        }
        let strays = self.platform.take_strays();
        let deviations = strays.into_iter();
        for what in deviations {
            let stray = crate::book::Deviation { kind: FailureKind::Stray, what };
            if !self.judge.explains(excuse, &stray) {
                self.fail(stray.kind, stray.what);
            }
        }
        let starts_anew = excuse.starts_anew()
            || !lost.is_empty()
            || self.worker.as_ref().is_none_or(|worker| worker.is_lost());
        if starts_anew {
            self.worker = None;
        }
    }

    /// After the faults, everything works.
    fn use_again(&mut self) {
        if self.worker.is_none() {
            self.restart();
        }
        let all = devices::work_of(&self.case.device);
        for (index, work) in (0_u8..).zip(all) {
            if self.failure.is_some() || matches!(work, Work::Reset | Work::Idle) {
                continue;
            }
            let operation = Operation { work, queue: index, len: 100, salt: index, leave: 0 };
            self.perform(&operation);
        }
        let lost = self.book.give_up();
        if !lost.is_empty() {
            let what = format!("after the faults, never completed: {}", lost.join(", "));
            self.fail(FailureKind::NotRecovered, what);
        }
    }

    fn rest(&mut self, what: &str) {
        let rests = self.platform.simulation(|it| it.drain(REST_STEPS)).is_ok();
        let jobs = self.platform.simulation(|it| it.host().jobs_in_flight());
        let idle = self.platform.simulation(|it| {
            it.function_mut().interposer::<Faults>().is_none_or(|faults| faults.is_idle())
        });
        if !rests || jobs > 0 {
            self.fail(FailureKind::Stuck, format!("{what}: {jobs} jobs in flight"));
        } else if !idle {
            self.fail(FailureKind::Stuck, "faults that are over still wait for something");
        }
        self.settle();
    }

    /// The driver goes away.
    fn shut_down(&mut self) {
        self.worker = None;
        self.platform.simulation(|it| it.reset(ResetKind::Function));
        self.platform.free_all();
        self.rest("the device does not come to rest after a reset");
    }

    /// The first failure counts.
    fn fail(&mut self, kind: FailureKind, what: impl Into<String>) {
        let at = self.platform.now().0;
        let (what, operation) = (what.into(), self.operation);
        self.failure.get_or_insert(Failure { kind, what, operation, at });
    }

    fn finish(mut self) -> Run {
        self.stats.submitted = self.book.submitted;
        self.stats.completed = self.book.completed;
        self.stats.abandoned = self.book.abandoned;
        self.stats.nanos = self.platform.now().0;
        let failed = self.failure.is_some();
        let (hash, events, tail) = self.platform.simulation(|it| {
            let trace = it.trace();
            let recent = trace.recent().skip(understudy_simulation::Trace::RECENT - TAIL);
            let lines = recent.map(|(at, event)| format!("{:>12} {event:?}", at.0));
            let tail = if failed { lines.collect() } else { Vec::new() };
            (trace.hash(), trace.events(), tail)
        });
        self.stats.events = events;
        Run { failure: self.failure, hash, stats: self.stats, tail }
    }
}
