//! Puts records in order and hands them on.

use std::sync::MutexGuard;

use understudy_device::Progress;

use crate::pipe::{Current, Sink};
use crate::raw;
use crate::record::Record;

/// Most bytes of the events of one call. Those beyond are lost, and said to be.
const MAX_CALL_BYTES: usize = 64 << 20;
/// Bytes of a device's read of memory that are enough to decode it and to watch its driver.
pub const SHOWN_OF_READ: usize = 512;
/// Bytes of longer reads, which are payload: as much of them is shown.
const SHOWN_OF_PAYLOAD: usize = 128;

/// What happened during the call that goes on, besides its events.
#[derive(Debug)]
struct Step {
    /// Bytes of the longest read of memory that is kept whole.
    kept_of_read: usize,
    count: u64,
    /// What the function read from the clock.
    clock: Vec<u64>,
    /// It did something that others can see.
    active: bool,
    dropped: (u64, u64),
}

impl Step {
    fn clear(&mut self) {
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
    sink: Sink,
    step: Step,
    idle: Idle,
    last: u64,
}

impl Recorder {
    /// A recorder that hands on to `sink`.
    #[must_use]
    pub fn new(sink: Sink) -> Self {
        let clock = Vec::new();
        let step =
            Step { kept_of_read: usize::MAX, count: 0, clock, active: false, dropped: (0, 0) };
        Self { sink, step, idle: Idle::default(), last: 0 }
    }

    /// Keeps only the device's reads of at most so many bytes of memory, as [`SHOWN_OF_READ`], the
    /// first 128 bytes of longer ones, and no hashes of its writes. Such a trace cannot be replayed.
    #[must_use]
    pub fn keep_of_reads(mut self, bytes: usize) -> Self {
        self.step.kept_of_read = bytes;
        self
    }

    /// A call begins at this time.
    pub(crate) fn begin(&mut self, now: u64) -> Call<'_> {
        let Self { sink, step, idle, last } = self;
        *last = now;
        // Of a call that panicked.
        step.clear();
        Call { current: sink.begin(), sink, step, idle }
    }

    /// The time of the last call or note.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Something that is no call.
    pub(crate) fn note(&mut self, at: u64, note: &Record<'_>) {
        self.begin(at).end(note);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let Idle { repeats: count, clock, .. } = self.idle;
        if count > 0 {
            self.idle.repeats = 0;
            self.note(self.last, &Record::Repeat { count, clock });
        }
    }
}

/// A call that goes on.
pub(crate) struct Call<'r> {
    current: MutexGuard<'r, Current>,
    sink: &'r Sink,
    step: &'r mut Step,
    idle: &'r mut Idle,
}

impl Call<'_> {
    /// Bytes that are kept of a read of memory.
    pub(crate) fn kept_of_read(&self, len: usize) -> usize {
        if len <= self.step.kept_of_read { len } else { len.min(SHOWN_OF_PAYLOAD) }
    }

    /// Whether everything that a replay needs is kept.
    pub(crate) fn is_whole(&self) -> bool {
        self.step.kept_of_read == usize::MAX
    }

    /// An event that changes nothing outside the function.
    #[inline]
    pub(crate) fn look(&mut self, record: &Record<'_>) {
        let Self { current, step, .. } = self;
        if current.block.events().len() > MAX_CALL_BYTES {
            step.dropped.0 += 1;
            return;
        }
        raw::encode(record, current.block.end());
        step.count += 1;
    }

    /// An event that others can see.
    #[inline]
    pub(crate) fn act(&mut self, record: &Record<'_>) {
        self.step.active = true;
        self.look(record);
    }

    pub(crate) fn read_clock(&mut self, nanos: u64) {
        self.step.clock.push(nanos);
    }

    /// The call ended: it becomes a record, with its events after it.
    #[inline]
    pub(crate) fn end(mut self, call: &Record<'_>) {
        self.finish(call);
    }

    #[inline]
    fn finish(&mut self, call: &Record<'_>) {
        let Self { current, sink, step, idle } = self;
        let (records, bytes) = step.dropped;
        if records > 0 {
            Record::Dropped { records, bytes }.encode(current.block.end());
            step.count += 1;
        }
        let Idle { repeats: count, clock, .. } = **idle;
        (idle.of, idle.repeats) = (None, 0);
        sink.end(current, |into| {
            let mut records = 1 + step.count;
            if count > 0 {
                Record::Repeat { count, clock }.encode(into);
                records += 1;
            }
            raw::encode(call, into);
            if !step.clock.is_empty() {
                let record = Record::Clock { values: std::mem::take(&mut step.clock) };
                record.encode(into);
                records += 1;
                if let Record::Clock { values } = record {
                    step.clock = values;
                }
            }
            records
        });
        step.clear();
    }

    /// A poll ended.
    pub(crate) fn end_poll(mut self, at: u64, budget: u32, progress: Progress) {
        let poll = Record::Poll { at, budget, progress };
        let Self { current, sink, step, idle } = &mut self;
        if step.active || progress == Progress::More || step.dropped.0 > 0 {
            return self.end(&poll);
        }
        let events = current.block.events();
        if idle.of == Some((budget, progress)) && idle.events == events {
            idle.repeats += 1;
            idle.clock = step.clock.last().copied();
            sink.forget(current);
            step.clear();
            return;
        }
        idle.events.clear();
        idle.events.extend_from_slice(events);
        self.finish(&poll);
        self.idle.of = Some((budget, progress));
    }
}
