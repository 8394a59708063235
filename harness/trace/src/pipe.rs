//! From the device's thread to files and monitors, without ever stopping the device.
//!
//! The device's thread appends to a buffer; another thread takes the whole buffer now and then and
//! hands it to the [`Consumer`]s. If they cannot keep up the buffer is full, and records are lost,
//! counted, and noted where they are missing.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::record::Record;
use crate::recorder::Sink;

/// How long records may lie before they are looked at.
const PERIOD: Duration = Duration::from_millis(100);
/// Bytes that wake the consumers earlier.
const WAKE_BYTES: usize = 1 << 20;
/// Most bytes that wait.
pub const MAX_WAITING_BYTES: usize = 64 << 20;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Its number in the trace, from 0.
    pub position: u64,
    /// The host's clock in nanoseconds, at the call that it belongs to.
    pub at: u64,
}

/// Something that is shown every record, in order.
pub trait Consumer: Send {
    /// Takes records as bytes, before [`record`](Self::record) is called for each. For those that
    /// keep them.
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

    /// Whether [`record`](Self::record) does anything.
    fn wants_records(&self) -> bool {
        true
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

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    count: u64,
    /// Lost since the last that was not, and since ever.
    lost: (u64, u64),
    dropped: u64,
    closed: bool,
    /// Flushes asked for, and done.
    asked: u64,
    flushed: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let of_thread = Arc::clone(&shared);
        let feeder = Feeder::new(consumers);
        let thread = std::thread::Builder::new()
            .name("trace".into())
            .spawn(move || feeder.run(&of_thread))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Where a [`Recorder`](crate::Recorder) puts what it records.
    #[must_use]
    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(PipeSink(Arc::clone(&self.shared)))
    }

    /// Waits until the consumers have seen what was recorded by now.
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
struct PipeSink(Arc<Shared>);

impl Sink for PipeSink {
    fn push(&mut self, records: [&[u8]; 2], count: u64) {
        let len: usize = records.iter().map(|part| part.len()).sum();
        let mut state = self.0.lock();
        if state.closed {
            return;
        }
        if state.buffer.len() + len > MAX_WAITING_BYTES {
            state.lost.0 += count;
            state.lost.1 += len as u64;
            state.dropped += count;
            return;
        }
        state.note_lost();
        let before = state.buffer.len();
        records.iter().for_each(|part| state.buffer.extend_from_slice(part));
        state.count += count;
        if before < WAKE_BYTES && state.buffer.len() >= WAKE_BYTES {
            self.0.wake.notify_one();
        }
    }
}

impl State {
    /// Says where records are missing.
    fn note_lost(&mut self) {
        if self.lost.0 > 0 {
            let (records, bytes) = std::mem::take(&mut self.lost);
            Record::Dropped { records, bytes }.encode(&mut self.buffer);
            self.count += 1;
        }
    }
}

/// The consumers and where they are.
struct Feeder {
    consumers: Vec<Option<Box<dyn Consumer>>>,
    place: Place,
    summary: Summary,
}

impl Feeder {
    fn new(consumers: Vec<Box<dyn Consumer>>) -> Self {
        let consumers = consumers.into_iter().map(Some).collect();
        Self { consumers, place: Place::default(), summary: Summary::default() }
    }

    fn run(mut self, shared: &Shared) -> Summary {
        let mut batch = Vec::new();
        loop {
            let mut state = shared.lock();
            let waiting = |state: &mut State| {
                state.buffer.len() < WAKE_BYTES && !state.closed && state.asked == state.flushed
            };
            (state, _) = shared
                .wake
                .wait_timeout_while(state, PERIOD, waiting)
                .unwrap_or_else(PoisonError::into_inner);
            let (closed, asked) = (state.closed, state.asked);
            if closed {
                state.note_lost();
            }
            batch.clear();
            std::mem::swap(&mut batch, &mut state.buffer);
            self.summary.records += std::mem::take(&mut state.count);
            self.summary.dropped = state.dropped;
            drop(state);
            self.feed(&batch);
            batch.shrink_to(2 * WAKE_BYTES);
            shared.lock().flushed = asked;
            shared.done.notify_all();
            if closed {
                self.each(Consumer::finish);
                return self.summary;
            }
        }
    }

    /// Calls all consumers; one that fails is not called again.
    fn each(&mut self, call: impl Fn(&mut (dyn Consumer + 'static)) -> io::Result<()>) {
        for slot in &mut self.consumers {
            let Some(consumer) = slot else { continue };
            if let Err(error) = call(consumer.as_mut()) {
                self.summary.errors.push(error);
                *slot = None;
            }
        }
    }

    fn feed(&mut self, batch: &[u8]) {
        if batch.is_empty() {
            return;
        }
        self.each(|consumer| consumer.bytes(batch));
        if self.consumers.iter().flatten().any(|consumer| consumer.wants_records()) {
            let mut rest = batch;
            // Whole records only: they were encoded here.
            while let Ok((record, next)) = Record::decode(rest) {
                rest = next;
                self.place.at = record.at().unwrap_or(self.place.at);
                let place = self.place;
                self.each(|consumer| consumer.record(place, &record));
                self.place.position += 1;
            }
        }
        self.each(Consumer::flush);
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
            recorder.note(&write);
        }
        go.send(()).unwrap();
        pipe.flush();
        recorder.note(&Record::Attach { at: 1 });
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
        recorder.note(&Record::Attach { at: 1 });
        recorder.note(&Record::Detach { at: 2 });
        let errors = pipe.finish().errors;
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), ["full"]);
    }
}
