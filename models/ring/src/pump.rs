//! The life of a ring entry, and what faults may do to it.
//!
//! ```text
//! Ring::fetch → tap(Fetched) → the device executes → tap(Completing) → Ring::complete
//! ```
//!
//! A [`Verdict`] acts on the entry or completion that the tap saw:
//! - `Pass`: goes on.
//! - `Drop`: forgotten; a fetched entry is never executed, a completion never written.
//! - `Delay`: kept, and tapped again when its time has come.
//! - `Duplicate`: executed, or written, twice.
//! - `Reorder`: held until the next one of the queue has gone on, or until the ring is drained,
//!   so that nothing is held forever.
//!
//! Held entries are bounded: with [`MAX_HELD`] entries delayed the ring is not fetched from, and
//! completions beyond that are written at once.

use std::collections::VecDeque;

use understudy_device::{Bus, Nanos, Tap, Verdict};

/// Most entries, and most completions, that verdicts can hold back in one queue.
pub const MAX_HELD: usize = 64;

/// Most taps of one call of [`Pump::next`].
const MAX_STEPS: usize = 256;

/// Something that a tap may look at and edit.
pub trait Entry: Clone + Default {
    /// The bytes as they are in guest memory.
    fn bytes(&mut self) -> &mut [u8];
}

/// What differs between kinds of ring.
pub trait Ring {
    /// A request as it lies in the ring.
    type Entry: Entry;
    /// A completion as it will lie in the ring.
    type Completion: Entry;
    /// Why the ring is broken.
    type Error;

    /// Copies the next entry into `entry`, whose memory may be reused, and moves past it. `false`
    /// if there is none. Orders the read that found the entry before the reads of the entry.
    ///
    /// # Errors
    /// The ring is broken or its memory cannot be read.
    fn fetch(&mut self, bus: &mut dyn Bus, entry: &mut Self::Entry) -> Result<bool, Self::Error>;

    /// Writes a completion and makes it visible. The payload is ordered before this already; the
    /// parts of the completion are for the ring to order.
    ///
    /// # Errors
    /// The ring is broken or its memory cannot be written.
    fn complete(
        &mut self,
        bus: &mut dyn Bus,
        completion: &mut Self::Completion,
    ) -> Result<(), Self::Error>;
}

/// What [`Pump::next`] found.
#[derive(Debug)]
pub enum Next<E> {
    /// Execute this, then call [`Pump::complete`] or [`Pump::abandon`] once.
    Entry(E),
    /// The ring is empty.
    Empty,
    /// Nothing before this instant: a delayed entry blocks the ring or is all that is left.
    Until(Nanos),
    /// Many entries were dropped; call again.
    Again,
}

/// Entries on one side of the device that verdicts hold back.
#[derive(Debug)]
struct Held<T> {
    delayed: Vec<(Nanos, T)>,
    reordered: VecDeque<T>,
}

impl<T> Held<T> {
    fn new() -> Self {
        Self { delayed: Vec::new(), reordered: VecDeque::new() }
    }

    fn is_empty(&self) -> bool {
        self.delayed.is_empty() && self.reordered.is_empty()
    }

    fn is_full(&self) -> bool {
        self.delayed.len() + self.reordered.len() >= MAX_HELD
    }

    fn next_due(&self) -> Option<Nanos> {
        self.delayed.iter().map(|(at, _)| *at).min()
    }

    /// The first of the earliest entries that are due. Where nothing is delayed, which is the rule,
    /// nobody looks at the clock: that takes longer than all the rest.
    fn take_due(&mut self, bus: &dyn Bus) -> Option<T> {
        let due = self.next_due().filter(|at| *at <= bus.now())?;
        let at = self.delayed.iter().position(|(at, _)| *at == due)?;
        Some(self.delayed.remove(at).1)
    }
}

/// One queue's ring and the entries on their way through it.
#[derive(Debug)]
pub struct Pump<R: Ring> {
    ring: R,
    queue: u16,
    entries: Held<R::Entry>,
    completions: Held<R::Completion>,
    /// Tapped already; next to be executed.
    ready: VecDeque<R::Entry>,
    /// Entries whose memory can be reused.
    spare: Vec<R::Entry>,
    in_flight: usize,
}

impl<R: Ring> Pump<R> {
    /// A pump for the queue of that index.
    #[must_use]
    pub fn new(queue: u16, ring: R) -> Self {
        Self {
            ring,
            queue,
            entries: Held::new(),
            completions: Held::new(),
            ready: VecDeque::new(),
            spare: Vec::new(),
            in_flight: 0,
        }
    }

    /// The ring.
    #[must_use]
    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// The ring, to set it up or to look at its memory.
    pub fn ring_mut(&mut self) -> &mut R {
        &mut self.ring
    }

    /// Entries handed out and neither completed nor abandoned.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// When a delayed entry or completion is due, if there is one.
    #[must_use]
    pub fn next_due(&self) -> Option<Nanos> {
        match (self.entries.next_due(), self.completions.next_due()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Whether entries wait here, apart from those in the ring and those delayed.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.entries.reordered.is_empty()
    }

    /// Whether anything is here that came out of the ring or is to go into it.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.in_flight > 0
            || !self.ready.is_empty()
            || !self.entries.is_empty()
            || !self.completions.is_empty()
    }

    /// Fetches and taps entries until one is to be executed.
    ///
    /// # Errors
    /// As [`Ring::fetch`].
    pub fn next(&mut self, bus: &mut dyn Bus) -> Result<Next<R::Entry>, R::Error> {
        for _ in 0..MAX_STEPS {
            if let Some(entry) = self.ready.pop_front() {
                self.in_flight += 1;
                return Ok(Next::Entry(entry));
            }
            let mut entry = match self.entries.take_due(bus) {
                Some(entry) => entry,
                None if self.entries.delayed.len() >= MAX_HELD => break,
                None if !bus.may_fetch(self.queue) => {
                    return Ok(self.entries.next_due().map_or(Next::Empty, Next::Until));
                }
                None => {
                    let mut entry = self.spare.pop().unwrap_or_default();
                    if !self.ring.fetch(bus, &mut entry)? {
                        self.spare.push(entry);
                        if self.entries.reordered.is_empty() {
                            return Ok(self.entries.next_due().map_or(Next::Empty, Next::Until));
                        }
                        self.ready.append(&mut self.entries.reordered);
                        continue;
                    }
                    entry
                }
            };
            match bus.tap(Tap::Fetched, self.queue, entry.bytes()) {
                Verdict::Drop => self.recycle(entry),
                Verdict::Delay(until) => self.entries.delayed.push((until, entry)),
                Verdict::Reorder if !self.entries.is_full() => {
                    self.entries.reordered.push_back(entry);
                }
                verdict => {
                    if verdict == Verdict::Duplicate {
                        self.ready.push_back(entry.clone());
                    }
                    if !self.entries.reordered.is_empty() {
                        self.ready.append(&mut self.entries.reordered);
                    }
                    self.in_flight += 1;
                    return Ok(Next::Entry(entry));
                }
            }
        }
        match self.entries.next_due() {
            Some(due) if due > bus.now() => Ok(Next::Until(due)),
            _ => Ok(Next::Again),
        }
    }

    /// Whether [`next`](Self::next) would look into the ring now. A host that is about to sleep asks
    /// before it looks itself.
    pub fn may_fetch(&self, bus: &mut dyn Bus) -> bool {
        bus.may_fetch(self.queue)
    }

    /// Gives back the memory of an entry that is not needed any more.
    pub fn recycle(&mut self, entry: R::Entry) {
        if self.spare.len() < MAX_HELD {
            self.spare.push(entry);
        }
    }

    /// An entry in flight will have no completion.
    pub fn abandon(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Completes an entry in flight: its payload has been written. Returns how many completions
    /// the driver can see now that it could not before.
    ///
    /// # Errors
    /// As [`Ring::complete`].
    pub fn complete(
        &mut self,
        bus: &mut dyn Bus,
        completion: R::Completion,
    ) -> Result<u32, R::Error> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.offer(bus, completion)
    }

    /// Offers again the completions whose delay is over, and releases reordered ones once the
    /// queue is drained. Returns how many completions the driver can see now.
    ///
    /// # Errors
    /// As [`Ring::complete`].
    pub fn flush(&mut self, bus: &mut dyn Bus, drained: bool) -> Result<u32, R::Error> {
        let mut written = 0;
        for _ in 0..MAX_HELD {
            let Some(completion) = self.completions.take_due(bus) else { break };
            written += self.offer(bus, completion)?;
        }
        if drained && self.in_flight == 0 && self.completions.delayed.is_empty() {
            written += self.release(bus)?;
        }
        Ok(written)
    }

    fn offer(&mut self, bus: &mut dyn Bus, mut completion: R::Completion) -> Result<u32, R::Error> {
        let full = self.completions.is_full();
        match bus.tap(Tap::Completing, self.queue, completion.bytes()) {
            Verdict::Drop => Ok(0),
            Verdict::Delay(until) if !full => {
                self.completions.delayed.push((until, completion));
                Ok(0)
            }
            Verdict::Reorder if !full => {
                self.completions.reordered.push_back(completion);
                Ok(0)
            }
            verdict => {
                let mut written = self.write(bus, &mut completion)?;
                if verdict == Verdict::Duplicate {
                    written += self.write(bus, &mut completion)?;
                }
                Ok(written + self.release(bus)?)
            }
        }
    }

    fn release(&mut self, bus: &mut dyn Bus) -> Result<u32, R::Error> {
        let mut written = 0;
        while let Some(mut completion) = self.completions.reordered.pop_front() {
            written += self.write(bus, &mut completion)?;
        }
        Ok(written)
    }

    fn write(
        &mut self,
        bus: &mut dyn Bus,
        completion: &mut R::Completion,
    ) -> Result<u32, R::Error> {
        // The payload, the status, everything the device wrote: before the completion.
        bus.dma_fence();
        self.ring.complete(bus, completion)?;
        Ok(1)
    }
}
