//! A function and its host, run one step at a time.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_device::{
    AccessError, Bar, DeviceModel, DmaFault, FinishedJob, IdentityError, JobId, Nanos, Progress,
    ResetKind,
};
use understudy_pci::{Host, Irq, PciFunction};

use crate::host::{NoSuchVector, SimHost};
use crate::memory::Memory;
use crate::trace::{Event, Trace};

/// Virtual time that one step takes.
const STEP_NANOS: u64 = 1_000;
/// Largest budget of a poll, in entries.
const MAX_BUDGET: u32 = 64;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Let the model work.
    Polled,
    /// Told the model that the host is about to sleep.
    Parked,
    /// Did a job and gave it back.
    Finished(JobId),
    /// Nothing was due: moved the clock to the next deadline.
    Advanced(Nanos),
    /// Nothing: the device is idle and stays so until its driver acts.
    Quiet,
}

/// Why a condition did not come true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StuckReason {
    /// The device is idle: more steps change nothing.
    Quiet,
    /// The steps were used up.
    Steps,
}

/// A condition did not come true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stuck after {steps} steps ({reason:?}), seed {seed:#x}")]
pub struct Stuck {
    /// Seed of the run.
    pub seed: u64,
    /// Steps made by this call.
    pub steps: u64,
    /// Why it gave up.
    pub reason: StuckReason,
}

/// When the host lets the model work next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    Poll,
    /// The model was idle: tell it, then sleep until that time if there is one.
    Park(Option<Nanos>),
    Asleep(Option<Nanos>),
}

/// A function in a deterministic host.
pub struct Simulation {
    function: PciFunction,
    host: SimHost,
    random: ChaCha8Rng,
    seed: u64,
    wake: Wake,
}

impl Simulation {
    /// Puts a model at power-on into a host without memory or triggers. `seed` decides the order of
    /// the device's work and nothing else does.
    ///
    /// # Errors
    /// As [`PciFunction::new`].
    pub fn new(model: Box<dyn DeviceModel>, seed: u64) -> Result<Self, IdentityError> {
        let function = PciFunction::new(model)?;
        let host = SimHost::new(function.identity());
        let random = ChaCha8Rng::seed_from_u64(seed);
        Ok(Self { function, host, random, seed, wake: Wake::Poll })
    }

    /// The seed of this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The function, to look at.
    #[must_use]
    pub fn function(&self) -> &PciFunction {
        &self.function
    }

    /// The function, to put faults in; then [`wake`](Self::wake) it. What a driver does goes
    /// through the methods below.
    pub fn function_mut(&mut self) -> &mut PciFunction {
        &mut self.function
    }

    /// The host, to look at.
    #[must_use]
    pub fn host(&self) -> &SimHost {
        &self.host
    }

    /// The host: memory to map and fill, hooks to set, interrupts to take.
    pub fn host_mut(&mut self) -> &mut SimHost {
        &mut self.host
    }

    /// Guest memory, as the driver accesses it.
    pub fn memory(&mut self) -> &mut Memory {
        &mut self.host.memory
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        self.host.trace()
    }

    /// The virtual clock.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.host.now()
    }

    /// The driver reads config space.
    ///
    /// # Errors
    /// As [`PciFunction::config_read`].
    pub fn config_read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let result = self.function.config_read(&mut self.host, offset, data);
        let event = Event::ConfigRead { offset, len: data.len() as u64, ok: result.is_ok() };
        self.host.record(event, data);
        self.wake();
        result
    }

    /// The driver writes config space.
    ///
    /// # Errors
    /// As [`PciFunction::config_write`].
    pub fn config_write(&mut self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let result = self.function.config_write(&mut self.host, offset, data);
        let event = Event::ConfigWrite { offset, len: data.len() as u64, ok: result.is_ok() };
        self.host.record(event, data);
        self.wake();
        result
    }

    /// The driver reads a BAR.
    ///
    /// # Errors
    /// As [`PciFunction::bar_read`].
    pub fn bar_read(&mut self, bar: Bar, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let result = self.function.bar_read(&mut self.host, bar, offset, data);
        let event = Event::BarRead { bar, offset, len: data.len() as u64, ok: result.is_ok() };
        self.host.record(event, data);
        self.wake();
        result
    }

    /// The driver writes a BAR.
    ///
    /// # Errors
    /// As [`PciFunction::bar_write`].
    pub fn bar_write(&mut self, bar: Bar, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let result = self.function.bar_write(&mut self.host, bar, offset, data);
        let event = Event::BarWrite { bar, offset, len: data.len() as u64, ok: result.is_ok() };
        self.host.record(event, data);
        self.wake();
        result
    }

    /// The driver reads a shared area that it has mapped.
    ///
    /// # Errors
    /// [`DmaFault`] if the range is not inside one shared area.
    pub fn shared_read(&mut self, bar: Bar, offset: u64, data: &mut [u8]) -> Result<(), DmaFault> {
        self.host.shared_read(bar, offset, data)
    }

    /// The driver writes a shared area that it has mapped.
    ///
    /// # Errors
    /// [`DmaFault`] if the range is not inside one shared area.
    pub fn shared_write(&mut self, bar: Bar, offset: u64, data: &[u8]) -> Result<(), DmaFault> {
        self.host.shared_write(bar, offset, data)?;
        self.wake();
        Ok(())
    }

    /// Sets or removes triggers, as VFIO `SET_IRQS` does.
    ///
    /// # Errors
    /// [`NoSuchVector`]; nothing changed.
    pub fn set_triggers(
        &mut self,
        irq: Irq,
        first: u16,
        count: u16,
        set: bool,
    ) -> Result<(), NoSuchVector> {
        self.host.set_triggers(irq, first, count, set)?;
        self.function.triggers_changed(&mut self.host);
        Ok(())
    }

    /// Masks or unmasks vectors, as VFIO `SET_IRQS` does. An INTx that was delivered is masked.
    pub fn set_irq_mask(&mut self, irq: Irq, first: u16, count: u16, masked: bool) {
        self.host.record(Event::Mask { irq, first, count, masked }, &[]);
        self.function.set_irq_mask(&mut self.host, irq, first, count, masked);
    }

    /// Interrupts that have arrived at a trigger since the start.
    #[must_use]
    pub fn interrupts(&self, irq: Irq, vector: u16) -> u64 {
        self.host.interrupts(irq, vector)
    }

    /// Takes one interrupt that has arrived and was not taken yet.
    pub fn take_interrupt(&mut self, irq: Irq, vector: u16) -> bool {
        self.host.take_interrupt(irq, vector)
    }

    /// Resets the function. Jobs in flight stay in flight and come back later, when the function
    /// must know them for stale: a host that waits for them first is a special case of this.
    pub fn reset(&mut self, kind: ResetKind) {
        self.host.record(Event::Reset { power_on: kind == ResetKind::PowerOn }, &[]);
        self.function.reset(kind);
        self.wake();
    }

    /// The device may have something to do: any access can be a doorbell.
    pub fn wake(&mut self) {
        self.wake = Wake::Poll;
    }

    /// Does one piece of the device's work: a poll, a park or a job, drawn from the seed among what
    /// is due. If nothing is, the clock moves to the next deadline.
    pub fn step(&mut self) -> Step {
        self.step_before(Nanos(u64::MAX))
    }

    /// As [`step`](Self::step), but to sleep moves the clock to `limit` at most.
    pub fn step_before(&mut self, limit: Nanos) -> Step {
        let now = self.now();
        let due = match self.wake {
            Wake::Asleep(until) => until.is_some_and(|until| until <= now),
            Wake::Poll | Wake::Park(_) => true,
        };
        let jobs = self.host.jobs_in_flight();
        match (jobs + usize::from(due), self.wake) {
            (0, Wake::Asleep(Some(until))) => self.sleep(until.min(limit).max(now)),
            (0, _) => Step::Quiet,
            (choices, _) => {
                self.host.advance_to(now.plus(STEP_NANOS));
                let pick = self.random.random_range(0..choices);
                // The last choice, if there is one more than jobs, is the model's own work.
                match self.host.finish_job(pick) {
                    Some(done) => self.finish(done),
                    None => self.work(),
                }
            }
        }
    }

    fn sleep(&mut self, until: Nanos) -> Step {
        self.host.record(Event::Advance { to: until }, &[]);
        self.host.advance_to(until);
        Step::Advanced(until)
    }

    fn finish(&mut self, done: FinishedJob) -> Step {
        let id = done.id;
        self.function.finish(&mut self.host, done);
        self.wake();
        Step::Finished(id)
    }

    fn work(&mut self) -> Step {
        if let Wake::Park(until) = self.wake {
            self.host.record(Event::Park, &[]);
            let progress = self.function.park(&mut self.host);
            self.wake = match progress.sooner(until.map_or(Progress::Idle, Progress::Until)) {
                Progress::More => Wake::Poll,
                Progress::Idle => Wake::Asleep(None),
                Progress::Until(until) => Wake::Asleep(Some(until)),
            };
            return Step::Parked;
        }
        let budget = self.random.random_range(1..=MAX_BUDGET);
        self.host.record(Event::Poll { budget }, &[]);
        self.wake = match self.function.poll(&mut self.host, budget) {
            Progress::More => Wake::Poll,
            Progress::Idle => Wake::Park(None),
            Progress::Until(until) => Wake::Park(Some(until)),
        };
        Step::Polled
    }

    /// Steps until the condition holds, looking before each step. Returns the steps made.
    ///
    /// # Errors
    /// [`Stuck`] after `max_steps`, or as soon as the device is quiet.
    pub fn run_until(
        &mut self,
        mut condition: impl FnMut(&mut Self) -> bool,
        max_steps: u64,
    ) -> Result<u64, Stuck> {
        let stuck = |steps, reason, seed| Stuck { seed, steps, reason };
        for steps in 0..max_steps {
            if condition(self) {
                return Ok(steps);
            }
            if self.step() == Step::Quiet {
                return Err(stuck(steps, StuckReason::Quiet, self.seed));
            }
        }
        if condition(self) {
            return Ok(max_steps);
        }
        Err(stuck(max_steps, StuckReason::Steps, self.seed))
    }

    /// Steps until the device is quiet. Returns the steps made.
    ///
    /// # Errors
    /// [`Stuck`] after `max_steps`.
    pub fn drain(&mut self, max_steps: u64) -> Result<u64, Stuck> {
        for steps in 0..max_steps {
            if self.step() == Step::Quiet {
                return Ok(steps);
            }
        }
        Err(Stuck { seed: self.seed, steps: max_steps, reason: StuckReason::Steps })
    }
}
