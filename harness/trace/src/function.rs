//! A PCI function that is recorded, or not.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use understudy_device::{
    AccessError, Bar, DmaFault, FinishedJob, Job, JobId, Nanos, Progress, ResetKind, Tap, Verdict,
};
use understudy_pci::{Host, Irq, PciFunction};

use crate::record::Record;
use crate::recorder::{Call, Recorder};

/// A [`PciFunction`] with a recorder between it and its host. Without one it costs a comparison
/// for each call.
///
/// Methods are those of the function.
pub struct TracedFunction {
    function: PciFunction,
    recorder: Option<Box<Recorder>>,
}

/// For what is not recorded: looking, and putting an interposer in.
impl Deref for TracedFunction {
    type Target = PciFunction;

    fn deref(&self) -> &PciFunction {
        &self.function
    }
}

impl DerefMut for TracedFunction {
    fn deref_mut(&mut self) -> &mut PciFunction {
        &mut self.function
    }
}

impl From<PciFunction> for TracedFunction {
    fn from(function: PciFunction) -> Self {
        Self { function, recorder: None }
    }
}

impl TracedFunction {
    /// Starts recording, or stops with `None`. Recording that shall be replayed starts while the
    /// function is as new.
    pub fn set_recorder(&mut self, recorder: Option<Recorder>) {
        self.recorder = recorder.map(Box::new);
    }

    /// Whether somebody records.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorder.is_some()
    }

    /// Records something that the host noticed. `note` is given the time.
    pub fn note<'a>(&mut self, host: &dyn Host, note: impl FnOnce(u64) -> Record<'a>) {
        if let Some(recorder) = &mut self.recorder {
            let at = host.now().0;
            recorder.note(at, &note(at));
        }
    }

    /// As [`PciFunction::config_read`].
    ///
    /// # Errors
    /// As that.
    pub fn config_read(
        &mut self,
        host: &mut dyn Host,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let Self { function, recorder } = self;
        let Some(recorder) = recorder else { return function.config_read(host, offset, data) };
        let at = host.now().0;
        let mut call = recorder.begin(at);
        let result = function.config_read(&mut Tee::new(host, &mut call), offset, data);
        call.end(&Record::ConfigRead { at, offset, data, error: result.err() });
        result
    }

    /// As [`PciFunction::config_write`].
    ///
    /// # Errors
    /// As that.
    pub fn config_write(
        &mut self,
        host: &mut dyn Host,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let Self { function, recorder } = self;
        let Some(recorder) = recorder else { return function.config_write(host, offset, data) };
        let at = host.now().0;
        let mut call = recorder.begin(at);
        let result = function.config_write(&mut Tee::new(host, &mut call), offset, data);
        call.end(&Record::ConfigWrite { at, offset, data, error: result.err() });
        result
    }

    /// As [`PciFunction::bar_read`].
    ///
    /// # Errors
    /// As that.
    pub fn bar_read(
        &mut self,
        host: &mut dyn Host,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let Self { function, recorder } = self;
        let Some(recorder) = recorder else { return function.bar_read(host, bar, offset, data) };
        let at = host.now().0;
        let mut call = recorder.begin(at);
        let result = function.bar_read(&mut Tee::new(host, &mut call), bar, offset, data);
        call.end(&Record::BarRead { at, bar, offset, data, error: result.err() });
        result
    }

    /// As [`PciFunction::bar_write`].
    ///
    /// # Errors
    /// As that.
    pub fn bar_write(
        &mut self,
        host: &mut dyn Host,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let Self { function, recorder } = self;
        let Some(recorder) = recorder else { return function.bar_write(host, bar, offset, data) };
        let at = host.now().0;
        let mut call = recorder.begin(at);
        let result = function.bar_write(&mut Tee::new(host, &mut call), bar, offset, data);
        call.end(&Record::BarWrite { at, bar, offset, data, error: result.err() });
        result
    }

    /// As [`PciFunction::poll`].
    pub fn poll(&mut self, host: &mut dyn Host, budget: u32) -> Progress {
        let Self { function, recorder } = self;
        let Some(recorder) = recorder else { return function.poll(host, budget) };
        let at = host.now().0;
        let mut call = recorder.begin(at);
        let progress = function.poll(&mut Tee::new(host, &mut call), budget);
        call.end_poll(at, budget, progress);
        progress
    }

    /// As [`PciFunction::park`].
    pub fn park(&mut self, host: &mut dyn Host) -> Progress {
        let Self { function, recorder } = self;
        let Some(recorder) = recorder else { return function.park(host) };
        let at = host.now().0;
        let mut call = recorder.begin(at);
        let progress = function.park(&mut Tee::new(host, &mut call));
        call.end(&Record::Park { at, progress });
        progress
    }

    /// As [`PciFunction::finish`].
    pub fn finish(&mut self, host: &mut dyn Host, done: FinishedJob) {
        let Self { function, recorder } = self;
        let Some(recorder) = recorder else { return function.finish(host, done) };
        let at = host.now().0;
        let mut call = recorder.begin(at);
        let job = done.id;
        function.finish(&mut Tee::new(host, &mut call), done);
        call.end(&Record::Finish { at, job });
    }

    /// As [`PciFunction::reset`].
    pub fn reset(&mut self, kind: ResetKind) {
        self.function.reset(kind);
        if let Some(recorder) = &mut self.recorder {
            let at = recorder.last();
            recorder.note(at, &Record::Reset { at, kind });
        }
    }

    /// As [`PciFunction::set_irq_mask`].
    pub fn set_irq_mask(
        &mut self,
        host: &mut dyn Host,
        irq: Irq,
        first: u16,
        count: u16,
        masked: bool,
    ) {
        let Self { function, recorder } = self;
        let Some(recorder) = recorder else {
            return function.set_irq_mask(host, irq, first, count, masked);
        };
        let at = host.now().0;
        let mut call = recorder.begin(at);
        function.set_irq_mask(&mut Tee::new(host, &mut call), irq, first, count, masked);
        call.end(&Record::Mask { at, irq, first, count, masked });
    }

    /// As [`PciFunction::triggers_changed`].
    pub fn triggers_changed(&mut self, host: &mut dyn Host) {
        let Self { function, recorder } = self;
        let Some(recorder) = recorder else { return function.triggers_changed(host) };
        let at = host.now().0;
        let mut call = recorder.begin(at);
        function.triggers_changed(&mut Tee::new(host, &mut call));
        call.end(&Record::Triggers { at });
    }
}

/// Longest entry that is copied without an allocation, in bytes.
const SHORT_ENTRY: usize = 128;

/// The host, with what passes written down.
struct Tee<'a, 'r> {
    host: &'a mut dyn Host,
    call: RefCell<&'a mut Call<'r>>,
}

impl<'a, 'r> Tee<'a, 'r> {
    fn new(host: &'a mut dyn Host, call: &'a mut Call<'r>) -> Self {
        Self { host, call: RefCell::new(call) }
    }
}

impl Host for Tee<'_, '_> {
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        let result = self.host.dma_read(iova, into);
        let fault = result.err().map(|fault| fault.kind);
        let len = into.len() as u64;
        let call = self.call.get_mut();
        let kept = call.kept_of_read(into.len());
        let data = if fault.is_none() { &into[..kept] } else { &[] };
        call.look(&Record::DmaRead { iova, len, data, fault });
        result
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        let result = self.host.dma_write(iova, from);
        let fault = result.err().map(|fault| fault.kind);
        let call = self.call.get_mut();
        let record = if call.is_whole() { Record::dma_write } else { Record::dma_write_shown };
        call.act(&record(iova, from, fault));
        result
    }

    fn dma_fence(&mut self) {
        self.host.dma_fence();
        self.call.get_mut().look(&Record::Fence);
    }

    fn signal(&mut self, irq: Irq, vector: u16) -> bool {
        let heard = self.host.signal(irq, vector);
        self.call.get_mut().act(&Record::Signal { irq, vector, heard });
        heard
    }

    fn has_triggers(&self, irq: Irq) -> bool {
        let any = self.host.has_triggers(irq);
        self.call.borrow_mut().look(&Record::HasTriggers { irq, any });
        any
    }

    fn now(&self) -> Nanos {
        let now = self.host.now();
        self.call.borrow_mut().read_clock(now.0);
        now
    }

    fn submit(&mut self, job: Job) -> JobId {
        let job = self.host.submit(job);
        self.call.get_mut().act(&Record::Submit { job });
        job
    }

    fn tap(&mut self, point: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        // Most entries are short, and an allocation for each shows.
        let mut short = [0; SHORT_ENTRY];
        let long;
        let before = match short.get_mut(..entry.len()) {
            Some(short) => {
                short.copy_from_slice(entry);
                &*short
            }
            None => {
                long = entry.to_vec();
                &long
            }
        };
        let verdict = self.host.tap(point, queue, entry);
        let edited = (before != entry).then_some(&*entry);
        let record = Record::Tap { point, queue, entry: before, edited, verdict };
        self.call.get_mut().act(&record);
        verdict
    }

    fn shared_read(&mut self, bar: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        let result = self.host.shared_read(bar, offset, into);
        let fault = result.err().map(|fault| fault.kind);
        let data = if fault.is_none() { &*into } else { &[] };
        let len = into.len() as u64;
        self.call.get_mut().look(&Record::SharedRead { bar, offset, len, data, fault });
        result
    }

    fn shared_write(&mut self, bar: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault> {
        let result = self.host.shared_write(bar, offset, from);
        let fault = result.err().map(|fault| fault.kind);
        self.call.get_mut().act(&Record::SharedWrite { bar, offset, data: from, fault });
        result
    }
}
