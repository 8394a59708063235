//! Puts records in order and hands them on.

use understudy_device::Progress;

use crate::record::Record;

/// Most bytes of the events of one call. Those beyond are lost, and said to be.
const MAX_CALL_BYTES: usize = 64 << 20;
/// Bytes of a device's read of memory that are enough to decode it and to watch its driver.
pub const SHOWN_OF_READ: usize = 512;
/// Memory that is kept for the next call.
const KEPT_BYTES: usize = 1 << 20;

/// Where whole calls, as the bytes of their records, go. Called on the device's thread: does not
/// block, and counts what it cannot keep.
pub trait Sink: Send {
    /// Takes `count` records, in two parts. They belong together: all or none are kept.
    fn push(&mut self, records: [&[u8]; 2], count: u64);
}

/// Keeps records in memory, up to a limit.
#[derive(Debug, Default)]
pub struct MemorySink {
    /// What was kept.
    pub bytes: Vec<u8>,
    /// Most bytes that are kept.
    pub limit: usize,
    /// Records that were not kept.
    pub dropped: u64,
}

impl Sink for std::sync::Arc<std::sync::Mutex<MemorySink>> {
    fn push(&mut self, records: [&[u8]; 2], count: u64) {
        let mut sink = self.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let len: usize = records.iter().map(|part| part.len()).sum();
        if sink.dropped == 0 && sink.bytes.len() + len <= sink.limit {
            records.iter().for_each(|part| sink.bytes.extend_from_slice(part));
        } else {
            sink.dropped += count;
        }
    }
}

/// What happened during the call that goes on.
#[derive(Debug)]
pub(crate) struct Step {
    /// Bytes of each read of memory that are kept.
    pub(crate) kept_of_read: usize,
    /// Bytes of its events.
    events: Vec<u8>,
    count: u64,
    /// What the function read from the clock.
    clock: Vec<u64>,
    /// It did something that others can see.
    active: bool,
    dropped: (u64, u64),
}

impl Step {
    /// Whether everything that a replay needs is kept.
    pub(crate) fn is_whole(&self) -> bool {
        self.kept_of_read == usize::MAX
    }

    fn new() -> Self {
        Self {
            kept_of_read: usize::MAX,
            events: Vec::new(),
            count: 0,
            clock: Vec::new(),
            active: false,
            dropped: (0, 0),
        }
    }

    /// An event that changes nothing outside the function.
    pub(crate) fn look(&mut self, record: &Record<'_>) {
        if self.events.len() > MAX_CALL_BYTES {
            self.dropped.0 += 1;
            return;
        }
        record.encode(&mut self.events);
        self.count += 1;
    }

    /// An event that others can see.
    pub(crate) fn act(&mut self, record: &Record<'_>) {
        self.active = true;
        self.look(record);
    }

    pub(crate) fn read_clock(&mut self, nanos: u64) {
        self.clock.push(nanos);
    }

    fn clear(&mut self) {
        self.events.clear();
        self.events.shrink_to(KEPT_BYTES);
        (self.count, self.active, self.dropped) = (0, false, (0, 0));
        self.clock.clear();
    }
}

/// A poll that found nothing to do, and how often it was repeated.
#[derive(Debug, Default)]
struct Idle {
    /// Its events, budget and progress.
    of: Option<(u32, Progress)>,
    events: Vec<u8>,
    repeats: u64,
    clock: Option<u64>,
}

/// Puts records in order: first a call with its result, then its events. Polls that find nothing
/// to do come in thousands while a host stays awake, and are counted instead.
pub struct Recorder {
    sink: Box<dyn Sink>,
    pub(crate) step: Step,
    idle: Idle,
    scratch: Vec<u8>,
    last: u64,
}

impl Recorder {
    /// A recorder that hands on to `sink`.
    #[must_use]
    pub fn new(sink: Box<dyn Sink>) -> Self {
        Self { sink, step: Step::new(), idle: Idle::default(), scratch: Vec::new(), last: 0 }
    }

    /// Keeps only the first bytes of each of the device's reads of memory, as
    /// [`SHOWN_OF_READ`], and no hashes of its writes. Such a trace cannot be replayed.
    #[must_use]
    pub fn keep_of_reads(mut self, bytes: usize) -> Self {
        self.step.kept_of_read = bytes;
        self
    }

    /// A call begins at this time, or another one is noted.
    pub(crate) fn begin(&mut self, now: u64) -> u64 {
        self.last = now;
        now
    }

    /// The time of the last call.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The call ended: it becomes a record, with its events after it.
    pub(crate) fn end(&mut self, call: &Record<'_>) {
        self.flush_idle();
        self.emit(call);
    }

    /// A poll ended.
    pub(crate) fn end_poll(&mut self, at: u64, budget: u32, progress: Progress) {
        let step = &mut self.step;
        let looks_idle = !step.active && progress != Progress::More && step.dropped.0 == 0;
        if looks_idle && self.idle.of == Some((budget, progress)) && self.idle.events == step.events
        {
            self.idle.repeats += 1;
            self.idle.clock = step.clock.last().copied();
            step.clear();
            return;
        }
        self.flush_idle();
        if looks_idle {
            self.idle.of = Some((budget, progress));
            self.idle.events.clear();
            self.idle.events.extend_from_slice(&self.step.events);
        }
        self.emit(&Record::Poll { at, budget, progress });
    }

    /// Something that is no call.
    pub(crate) fn note(&mut self, note: &Record<'_>) {
        self.flush_idle();
        self.scratch.clear();
        note.encode(&mut self.scratch);
        self.sink.push([&self.scratch, &[]], 1);
    }

    fn flush_idle(&mut self) {
        let Idle { repeats, clock, .. } = self.idle;
        self.idle.of = None;
        self.idle.repeats = 0;
        if repeats > 0 {
            self.scratch.clear();
            Record::Repeat { count: repeats, clock }.encode(&mut self.scratch);
            self.sink.push([&self.scratch, &[]], 1);
        }
    }

    fn emit(&mut self, call: &Record<'_>) {
        self.scratch.clear();
        let mut count = 1 + self.step.count;
        call.encode(&mut self.scratch);
        if !self.step.clock.is_empty() {
            let values = std::mem::take(&mut self.step.clock);
            let clock = Record::Clock { values };
            clock.encode(&mut self.scratch);
            if let Record::Clock { values } = clock {
                self.step.clock = values;
            }
            count += 1;
        }
        let (records, bytes) = self.step.dropped;
        if records > 0 {
            Record::Dropped { records, bytes }.encode(&mut self.step.events);
            count += 1;
        }
        self.sink.push([&self.scratch, &self.step.events], count);
        self.step.clear();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush_idle();
    }
}
