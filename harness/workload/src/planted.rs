//! Bugs planted in models and in drivers, to see that simulation finds them.
//!
//! A model's bug is made by a wrapper around the model, which changes what it is told and what it
//! does to its bus; a driver's bug by its platform, or where it takes completions.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use understudy_device::{
    AccessError, Bar, Bus, DeviceModel, DmaFault, FinishedJob, Identity, InterruptMode, Job, JobId,
    Nanos, Progress, ResetKind, State, StatusPlace, Tap, Vector, Verdict, Vocabulary,
};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bug {
    /// The model forgets some completions.
    ModelLosesCompletion,
    /// The model writes some completions twice.
    ModelCompletesTwice,
    /// The model executes some requests twice.
    ModelExecutesTwice,
    /// The model gets a bit of some outputs wrong.
    ModelFlipsBit,
    /// The model writes some outputs after their completions.
    ModelWritesLate,
    /// The model writes a byte too much of some outputs.
    ModelWritesTooFar,
    /// The model writes an old output again after a reset.
    ModelWritesAfterReset,
    /// The model does not send some interrupts.
    ModelForgetsInterrupt,
    /// The model does not hear some doorbells, and does not look into their queues before the next.
    ModelMissesDoorbell,
    /// The model says of some good requests that they failed.
    ModelFailsRequest,
    /// The model forgets the results of some jobs.
    ModelLosesJob,
    /// The model has work to do for ever.
    ModelNeverRests,
    /// The driver does not ring some doorbells.
    DriverSkipsDoorbell,
    /// The driver writes only half of some buffers.
    DriverTearsBuffer,
    /// The driver overlooks some completions.
    DriverOverlooksCompletion,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::ModelLosesCompletion,
        Self::ModelCompletesTwice,
        Self::ModelExecutesTwice,
        Self::ModelFlipsBit,
        Self::ModelWritesLate,
        Self::ModelWritesTooFar,
        Self::ModelWritesAfterReset,
        Self::ModelForgetsInterrupt,
        Self::ModelMissesDoorbell,
        Self::ModelFailsRequest,
        Self::ModelLosesJob,
        Self::ModelNeverRests,
        Self::DriverSkipsDoorbell,
        Self::DriverTearsBuffer,
        Self::DriverOverlooksCompletion,
    ];

    /// Its name, as on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ModelLosesCompletion => "model-loses-completion",
            Self::ModelCompletesTwice => "model-completes-twice",
            Self::ModelExecutesTwice => "model-executes-twice",
            Self::ModelFlipsBit => "model-flips-bit",
            Self::ModelWritesLate => "model-writes-late",
            Self::ModelWritesTooFar => "model-writes-too-far",
            Self::ModelWritesAfterReset => "model-writes-after-reset",
            Self::ModelForgetsInterrupt => "model-forgets-interrupt",
            Self::ModelMissesDoorbell => "model-misses-doorbell",
            Self::ModelFailsRequest => "model-fails-request",
            Self::ModelLosesJob => "model-loses-job",
            Self::ModelNeverRests => "model-never-rests",
            Self::DriverSkipsDoorbell => "driver-skips-doorbell",
            Self::DriverTearsBuffer => "driver-tears-buffer",
            Self::DriverOverlooksCompletion => "driver-overlooks-completion",
        }
    }

    /// The bug of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }

    fn is_of_model(self) -> bool {
        self.name().starts_with("model")
    }
}

/// The model with a bug in it, if it is one of a model.
#[must_use]
pub fn plant(
    model: Box<dyn DeviceModel>,
    vocabulary: &'static Vocabulary,
    bug: Option<Bug>,
) -> Box<dyn DeviceModel> {
    match bug.filter(|bug| bug.is_of_model()) {
        None => model,
        Some(bug) => {
            let state = Planted {
                bug,
                vocabulary,
                count: 0,
                payload: false,
                late: Vec::new(),
                last: None,
                deaf: BTreeSet::new(),
            };
            Box::new(Broken { model, state, polls: 0 })
        }
    }
}

struct Broken {
    model: Box<dyn DeviceModel>,
    state: Planted,
    polls: u64,
}

/// What a bug remembers.
struct Planted {
    bug: Bug,
    vocabulary: &'static Vocabulary,
    /// Times that it could have struck.
    count: u64,
    /// A request is being executed, so that writes are its output.
    payload: bool,
    /// Writes that come later.
    late: Vec<(u64, Vec<u8>)>,
    /// The last output.
    last: Option<(u64, Vec<u8>)>,
    /// Queues whose last doorbell was not heard.
    deaf: BTreeSet<u16>,
}

impl Planted {
    /// Whether it strikes this time: every `period`th.
    fn strikes(&mut self, bug: Bug, period: u64) -> bool {
        if self.bug != bug {
            return false;
        }
        self.count += 1;
        self.count.is_multiple_of(period)
    }
}

impl Broken {
    fn bus<'a>(state: &'a mut Planted, bus: &'a mut dyn Bus) -> BrokenBus<'a> {
        BrokenBus { bus, state }
    }
}

impl DeviceModel for Broken {
    fn identity(&self) -> &Identity {
        self.model.identity()
    }

    fn read(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        self.model.read(&mut Self::bus(&mut self.state, bus), bar, offset, data)
    }

    fn write(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let bells = self.state.vocabulary.doorbells;
        if let Some(queue) = bells.iter().find_map(|bell| bell.queue(bar, offset)) {
            self.state.deaf.remove(&queue);
            if self.state.strikes(Bug::ModelMissesDoorbell, 3) {
                self.state.deaf.insert(queue);
                return Ok(());
            }
        }
        self.model.write(&mut Self::bus(&mut self.state, bus), bar, offset, data)
    }

    fn poll(&mut self, bus: &mut dyn Bus, budget: u32) -> Progress {
        self.polls += 1;
        self.state.payload = false;
        for (iova, data) in std::mem::take(&mut self.state.late) {
            // After a reset, once its driver lets it write again.
            if bus.dma_write(iova, &data).is_err() && self.state.bug == Bug::ModelWritesAfterReset {
                self.state.late.push((iova, data));
            }
        }
        let progress = self.model.poll(&mut Self::bus(&mut self.state, bus), budget);
        let late = !self.state.late.is_empty() && self.state.bug == Bug::ModelWritesLate;
        if late || self.state.bug == Bug::ModelNeverRests && self.polls > 5 {
            return Progress::More;
        }
        progress
    }

    fn park(&mut self, bus: &mut dyn Bus) -> Progress {
        self.model.park(&mut Self::bus(&mut self.state, bus))
    }

    fn finish(&mut self, bus: &mut dyn Bus, done: FinishedJob) {
        self.state.payload = true;
        if !self.state.strikes(Bug::ModelLosesJob, 2) {
            self.model.finish(&mut Self::bus(&mut self.state, bus), done);
        }
    }

    fn reset(&mut self, kind: ResetKind) {
        self.model.reset(kind);
        self.state.deaf.clear();
        if self.state.bug == Bug::ModelWritesAfterReset {
            self.state.late.extend(self.state.last.take());
        }
    }

    fn inspect(&self) -> State {
        self.model.inspect()
    }
}

/// The bus as a model with a bug uses it.
struct BrokenBus<'a> {
    bus: &'a mut dyn Bus,
    state: &'a mut Planted,
}

impl BrokenBus<'_> {
    /// The write of a status: its field set to a failure, if this is one.
    fn failed_status(&self, from: &[u8]) -> Option<Vec<u8>> {
        let words = self.state.vocabulary;
        let StatusPlace::LastWrite(forms) = words.status else { return None };
        let (_, field) = forms.iter().find(|(len, _)| *len == from.len())?;
        let mut data = from.to_vec();
        let failure = words.statuses.first()?;
        (field.get(from)? == words.good && field.set(&mut data, failure.value)).then_some(data)
    }

    fn output(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        let state = &mut *self.state;
        state.last = Some((iova, from.to_vec()));
        if state.strikes(Bug::ModelFlipsBit, 3) {
            let mut data = from.to_vec();
            data[from.len() / 2] ^= 0x10;
            return self.bus.dma_write(iova, &data);
        }
        if state.strikes(Bug::ModelWritesLate, 3) {
            state.late.push((iova, from.to_vec()));
            return Ok(());
        }
        if state.strikes(Bug::ModelWritesTooFar, 3) {
            let mut data = from.to_vec();
            data.push(0x77);
            return self.bus.dma_write(iova, &data);
        }
        self.bus.dma_write(iova, from)
    }
}

impl Bus for BrokenBus<'_> {
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.bus.dma_read(iova, into)
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        if !self.state.payload {
            return self.bus.dma_write(iova, from);
        }
        if let Some(failed) = self.failed_status(from)
            && self.state.strikes(Bug::ModelFailsRequest, 3)
        {
            return self.bus.dma_write(iova, &failed);
        }
        if from.len() >= 4 { self.output(iova, from) } else { self.bus.dma_write(iova, from) }
    }

    fn dma_fence(&mut self) {
        self.bus.dma_fence();
    }

    fn raise(&mut self, vector: Vector) {
        if !self.state.strikes(Bug::ModelForgetsInterrupt, 3) {
            self.bus.raise(vector);
        }
    }

    fn set_intx(&mut self, asserted: bool) {
        if !(asserted && self.state.strikes(Bug::ModelForgetsInterrupt, 3)) {
            self.bus.set_intx(asserted);
        }
    }

    fn interrupt_mode(&self) -> InterruptMode {
        self.bus.interrupt_mode()
    }

    fn now(&self) -> Nanos {
        self.bus.now()
    }

    fn submit(&mut self, job: Job) -> JobId {
        self.bus.submit(job)
    }

    fn tap(&mut self, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        let words = self.state.vocabulary;
        self.state.payload = at == Tap::Fetched;
        let state = &mut *self.state;
        let planted = match at {
            Tap::Fetched if state.strikes(Bug::ModelExecutesTwice, 3) => Verdict::Duplicate,
            Tap::Completing if state.strikes(Bug::ModelLosesCompletion, 3) => Verdict::Drop,
            Tap::Completing if state.strikes(Bug::ModelCompletesTwice, 3) => Verdict::Duplicate,
            _ => Verdict::Pass,
        };
        if let (Tap::Completing, StatusPlace::Entry(field)) = (at, words.status)
            && let Some(failure) = words.statuses.first()
            && field.get(entry).is_some_and(|is| is & words.status_mask == words.good)
            && state.strikes(Bug::ModelFailsRequest, 3)
        {
            field.set(entry, failure.value);
        }
        match self.bus.tap(at, queue, entry) {
            Verdict::Pass => planted,
            verdict => verdict,
        }
    }

    fn may_fetch(&mut self, queue: u16) -> bool {
        !self.state.deaf.contains(&queue) && self.bus.may_fetch(queue)
    }

    fn shared_read(&mut self, bar: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.bus.shared_read(bar, offset, into)
    }

    fn shared_write(&mut self, bar: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.bus.shared_write(bar, offset, from)
    }
}
