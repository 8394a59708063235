//! From the device's thread to files and monitors, without ever stopping the device.
//!
//! The device's thread appends to a block of memory, which it has for itself during a call. Another
//! thread looks now and then for full blocks, or takes one that is not, shows them to the
//! [`Consumer`]s, and gives them back. If it cannot keep up, records are lost, counted, and noted
//! where they are missing.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::block::{self, Block};
use crate::record::Record;

/// How long records may lie before they are looked at: while there are many, and after there were
/// none. The device wakes nobody, as that costs it microseconds.
const SHORTEST_NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_millis(100);
/// Only if so many bytes wait the device wakes the consumers.
const WAKE_BYTES: usize = 2 << 20;
/// Most bytes that wait.
pub const MAX_WAITING_BYTES: usize = 64 << 20;
/// Bytes of records that are kept at once.
const CHUNK: usize = 64 << 10;
/// Empty blocks that there shall be, and that are kept: few, so that they stay in the caches.
const SPARE: std::ops::RangeInclusive<usize> = 2..=8;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Its number in the trace, from 0.
    pub position: u64,
    /// The host's clock in nanoseconds, at the call that it belongs to.
    pub at: u64,
}

/// What a [`Consumer`] is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Each record.
    Records,
    /// Bytes, as [`Record::encode`] makes them.
    Bytes,
}

/// Something that is shown every record, in order.
pub trait Consumer: Send {
    /// Takes bytes of records in a row, for those that keep them. A record may come in pieces.
    ///
    /// # Errors
    /// Whatever went wrong; the consumer is not called again.
    fn bytes(&mut self, records: &[u8]) -> io::Result<()> {
        let _ = records;
        Ok(())
    }

    /// Looks at one record.
    ///
    /// # Errors
    /// Whatever went wrong; the consumer is not called again.
    fn record(&mut self, place: Place, record: &Record<'_>) -> io::Result<()>;

    /// What it is to be shown.
    fn wants(&self) -> Wants {
        Wants::Records
    }

    /// Everything so far has been shown; more may come later.
    ///
    /// # Errors
    /// Whatever went wrong; the consumer is not called again.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// There will be no more.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What became of a trace.
#[derive(Debug, Default)]
pub struct Summary {
    /// Records that the consumers have seen.
    pub records: u64,
    /// Records that were lost because the consumers were too slow.
    pub dropped: u64,
    /// What went wrong with a consumer, if something did.
    pub errors: Vec<io::Error>,
}

/// What the device appends to.
#[derive(Debug, Default)]
pub(crate) struct Current {
    pub(crate) block: Block,
    /// Records and bytes lost since the last record that was not, and records since ever.
    lost: (u64, u64),
    dropped: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Blocks for the consumers.
    full: Vec<Block>,
    spare: Vec<Block>,
    closed: bool,
    /// Flushes asked for, and done.
    asked: u64,
    flushed: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// Locked during each call. Nothing that is waited for here needs a call to end.
    current: Mutex<Current>,
    /// The device shall hand on its block after the call.
    wanted: AtomicBool,
    /// Bytes of full blocks.
    waiting: AtomicUsize,
    /// Locked for moments, after `current` if that is locked too.
    state: Mutex<State>,
    /// The thread has something to do.
    wake: Condvar,
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The consumers get what there is.
    fn hand_on(&self, current: &mut Current) {
        self.wanted.store(false, Ordering::Relaxed);
        current.block.drop_unfinished();
        if current.block.len() == 0 {
            return;
        }
        let waiting = self.waiting.fetch_add(current.block.len(), Ordering::Relaxed);
        let mut state = self.lock();
        let next = state.spare.pop().unwrap_or_else(Block::unused);
        state.full.push(std::mem::replace(&mut current.block, next));
        drop(state);
        if waiting >= WAKE_BYTES {
            self.wake.notify_one();
        }
    }
}

/// The thread that feeds the consumers.
pub struct Pipe {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Summary>>>,
}

impl Pipe {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(consumers: Vec<Box<dyn Consumer>>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.current().block = Block::fresh();
        shared.lock().spare = (0..*SPARE.start()).map(|_| Block::fresh()).collect();
        let of_thread = Arc::clone(&shared);
        let feeder = Feeder::new(consumers);
        let thread = std::thread::Builder::new()
            .name("trace".into())
            .spawn(move || feeder.run(&of_thread))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Where a [`Recorder`](crate::Recorder) puts what it records.
    #[must_use]
    pub fn sink(&self) -> Sink {
        Sink(Arc::clone(&self.shared))
    }

    /// Waits until the consumers have seen what was recorded by now, which includes the call that
    /// goes on.
    pub fn flush(&self) {
        let mut state = self.shared.lock();
        state.asked += 1;
        let mine = state.asked;
        self.shared.wake.notify_one();
        while state.flushed < mine && !state.closed {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the consumers see all that was recorded, and ends the thread. What is recorded later
    /// is lost. Only the first call has a summary.
    pub fn finish(&self) -> Summary {
        self.end().unwrap_or_default()
    }

    fn end(&self) -> Option<Summary> {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = thread?.join();
        Some(ended.unwrap_or_else(|_| Summary {
            errors: vec![io::Error::other("a consumer of the trace panicked")],
            ..Summary::default()
        }))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// The device's end.
pub struct Sink(Arc<Shared>);

impl Sink {
    /// A call begins.
    pub(crate) fn begin(&self) -> MutexGuard<'_, Current> {
        let mut current = self.0.current();
        current.block.begin();
        current
    }

    /// The call ended: its group is finished ([`Block::finish`]) if there is room for it.
    pub(crate) fn end(&self, current: &mut Current, rest: impl FnOnce(&mut Vec<u8>) -> u64) {
        let (records, bytes) = current.lost;
        let noted = u64::from(records > 0);
        let count = current.block.finish(|into| {
            // Says where records are missing.
            if noted > 0 {
                Record::Dropped { records, bytes }.encode(into);
            }
            noted + rest(into)
        });
        let waiting = self.0.waiting.load(Ordering::Relaxed) + current.block.len();
        if current.closed {
            current.block.undo(count);
        } else if waiting > MAX_WAITING_BYTES {
            let len = current.block.undo(count) as u64;
            current.lost = (records + count - noted, bytes + len);
            current.dropped += count - noted;
        } else if noted > 0 {
            current.lost = (0, 0);
        }
        self.settle(current);
    }

    /// The call ended, and is not recorded.
    pub(crate) fn forget(&self, current: &mut Current) {
        current.block.undo(0);
        self.settle(current);
    }

    fn settle(&self, current: &mut Current) {
        if current.block.len() >= block::FULL || self.0.wanted.load(Ordering::Relaxed) {
            self.0.hand_on(current);
        }
    }
}

impl Current {
    /// The last group, if records are missing at the end.
    fn note_lost(&mut self) {
        if self.lost.0 > 0 {
            let (records, bytes) = std::mem::take(&mut self.lost);
            self.block.begin();
            self.block.finish(|into| {
                Record::Dropped { records, bytes }.encode(into);
                1
            });
        }
    }
}

/// The consumers and where they are.
struct Feeder {
    consumers: Vec<Option<Box<dyn Consumer>>>,
    place: Place,
    summary: Summary,
    /// Memory for records that are kept.
    bytes: Vec<u8>,
}

impl Feeder {
    fn new(consumers: Vec<Box<dyn Consumer>>) -> Self {
        let consumers = consumers.into_iter().map(Some).collect();
        let (place, summary) = (Place::default(), Summary::default());
        Self { consumers, place, summary, bytes: Vec::new() }
    }

    fn run(mut self, shared: &Shared) -> Summary {
        let mut nap = LONGEST_NAP;
        loop {
            let bored = |state: &mut State| {
                let few = shared.waiting.load(Ordering::Relaxed) < WAKE_BYTES;
                few && !state.closed && state.asked == state.flushed
            };
            let waited = shared.wake.wait_timeout_while(shared.lock(), nap, bored);
            let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let (closed, asked, flushed) = (state.closed, state.asked, state.flushed);
            drop(state);
            let current = if closed || asked != flushed {
                Some(shared.current())
            } else {
                match shared.current.try_lock() {
                    Ok(current) => Some(current),
                    Err(TryLockError::Poisoned(current)) => Some(current.into_inner()),
                    Err(TryLockError::WouldBlock) => None,
                }
            };
            if let Some(mut current) = current {
                if closed {
                    current.block.drop_unfinished();
                    current.note_lost();
                    current.closed = true;
                }
                shared.hand_on(&mut current);
                self.summary.dropped = current.dropped;
            } else {
                shared.wanted.store(true, Ordering::Relaxed);
            }
            let some = self.turn(shared);
            nap = if some { SHORTEST_NAP } else { LONGEST_NAP.min(2 * nap) };
            shared.lock().flushed = asked;
            shared.done.notify_all();
            if closed {
                self.each(Consumer::finish);
                return self.summary;
            }
        }
    }

    /// Shows the consumers all blocks that are full. `false` if there was none.
    fn turn(&mut self, shared: &Shared) -> bool {
        let mut state = shared.lock();
        let batch = std::mem::take(&mut state.full);
        shared.waiting.store(0, Ordering::Relaxed);
        let few = SPARE.start().saturating_sub(state.spare.len());
        drop(state);
        // Made here, as the first access of memory costs much.
        for _ in 0..few {
            let fresh = Block::fresh();
            shared.lock().spare.push(fresh);
        }
        let some = !batch.is_empty();
        for mut block in batch {
            self.feed(&block);
            if block.recycle() {
                let mut state = shared.lock();
                if state.spare.len() < *SPARE.end() {
                    state.spare.push(block);
                }
            }
        }
        if some {
            self.each(Consumer::flush);
        }
        some
    }

    /// Calls consumers; one that fails is not called again.
    fn each(&mut self, call: impl Fn(&mut (dyn Consumer + 'static)) -> io::Result<()>) {
        for slot in &mut self.consumers {
            let Some(consumer) = slot else { continue };
            if let Err(error) = call(consumer.as_mut()) {
                self.summary.errors.push(error);
                *slot = None;
            }
        }
    }

    fn want(&self, what: Wants) -> bool {
        self.consumers.iter().flatten().any(|consumer| consumer.wants() == what)
    }

    fn feed(&mut self, block: &Block) {
        self.summary.records += block.records();
        if self.want(Wants::Records) {
            block.each(|record| {
                self.place.at = record.at().unwrap_or(self.place.at);
                let place = self.place;
                self.each(|consumer| match consumer.wants() {
                    Wants::Records => consumer.record(place, record),
                    Wants::Bytes => Ok(()),
                });
                self.place.position += 1;
            });
        }
        if self.want(Wants::Bytes) {
            let mut bytes = std::mem::take(&mut self.bytes);
            block.each(|record| {
                record.encode(&mut bytes);
                if bytes.len() > CHUNK {
                    self.keep(&mut bytes);
                }
            });
            self.keep(&mut bytes);
            self.bytes = bytes;
        }
    }

    fn keep(&mut self, bytes: &mut Vec<u8>) {
        self.each(|consumer| match consumer.wants() {
            Wants::Bytes => consumer.bytes(bytes),
            Wants::Records => Ok(()),
        });
        bytes.clear();
        bytes.shrink_to(2 * CHUNK);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::Recorder;

    /// Waits at the first record until it is told to go on.
    struct Slow {
        go: Option<mpsc::Receiver<()>>,
        seen: Arc<Mutex<Vec<String>>>,
    }

    impl Consumer for Slow {
        fn record(&mut self, _: Place, record: &Record<'_>) -> io::Result<()> {
            if let Some(go) = self.go.take() {
                go.recv().unwrap();
            }
            if !matches!(record, Record::ConfigWrite { .. }) {
                self.seen.lock().unwrap().push(format!("{record:?}"));
            }
            Ok(())
        }
    }

    #[test]
    fn a_slow_consumer_costs_records_and_not_the_device() {
        let (go, wait) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let slow = Slow { go: Some(wait), seen: Arc::clone(&seen) };
        let pipe = Pipe::start(vec![Box::new(slow)]).unwrap();
        let mut recorder = Recorder::new(pipe.sink());
        let data = vec![0; 1 << 20];
        let write = Record::ConfigWrite { at: 0, offset: 0, data: &data, error: None };
        // What is being consumed, what waits, and at least one too many.
        for _ in 0..200 {
            recorder.note(0, &write);
        }
        go.send(()).unwrap();
        pipe.flush();
        recorder.note(1, &Record::Attach { at: 1 });
        let summary = pipe.finish();
        assert!(summary.dropped > 70, "{summary:?}");
        let seen = seen.lock().unwrap();
        assert!(seen[0].contains(&format!("Dropped {{ records: {}", summary.dropped)), "{seen:?}");
        assert_eq!(seen[1], "Attach { at: 1 }");
        assert_eq!(summary.records, 200 - summary.dropped + 2);
    }

    #[test]
    fn a_consumer_that_fails_is_not_called_again() {
        struct Broken;
        impl Consumer for Broken {
            fn record(&mut self, _: Place, _: &Record<'_>) -> io::Result<()> {
                Err(io::Error::other("full"))
            }
        }
        let pipe = Pipe::start(vec![Box::new(Broken)]).unwrap();
        let mut recorder = Recorder::new(pipe.sink());
        recorder.note(1, &Record::Attach { at: 1 });
        recorder.note(2, &Record::Detach { at: 2 });
        let errors = pipe.finish().errors;
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), ["full"]);
    }
}
