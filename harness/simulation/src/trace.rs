//! What happened, as one number and as the last events.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};

use twox_hash::XxHash3_64;
use understudy_device::{Bar, JobId, Nanos, Tap};
use understudy_pci::Irq;

/// One thing that a driver or a device could observe. The bytes that were moved are in the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The driver read config space.
    ConfigRead {
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Whether the access was taken.
        ok: bool,
    },
    /// The driver wrote config space.
    ConfigWrite {
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Whether the access was taken.
        ok: bool,
    },
    /// The driver read a BAR.
    BarRead {
        /// Which.
        bar: Bar,
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Whether the access was taken.
        ok: bool,
    },
    /// The driver wrote a BAR.
    BarWrite {
        /// Which.
        bar: Bar,
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Whether the access was taken.
        ok: bool,
    },
    /// The device read guest memory.
    DmaRead {
        /// First address.
        iova: u64,
        /// Length in bytes.
        len: u64,
        /// Whether it got the bytes.
        ok: bool,
    },
    /// The device wrote guest memory.
    DmaWrite {
        /// First address.
        iova: u64,
        /// Length in bytes.
        len: u64,
        /// Whether the bytes got there.
        ok: bool,
    },
    /// The device ordered its DMA.
    Fence,
    /// The ring engine showed an entry to the hooks.
    Tap {
        /// Where.
        at: Tap,
        /// Queue index.
        queue: u16,
    },
    /// The function sent an interrupt.
    Signal {
        /// Kind.
        irq: Irq,
        /// Vector.
        vector: u16,
        /// Whether the driver had set a trigger for it.
        heard: bool,
    },
    /// The client set or removed triggers.
    Triggers {
        /// Kind.
        irq: Irq,
        /// First vector.
        first: u16,
        /// How many.
        count: u16,
        /// Set or removed.
        set: bool,
    },
    /// The client masked or unmasked vectors.
    Mask {
        /// Kind.
        irq: Irq,
        /// First vector.
        first: u16,
        /// How many.
        count: u16,
        /// Masked or unmasked.
        masked: bool,
    },
    /// The model handed out work.
    Submit {
        /// Its name.
        id: JobId,
    },
    /// Work came back.
    Finish {
        /// Its name.
        id: JobId,
    },
    /// The host let the model work.
    Poll {
        /// Entries' worth of work allowed.
        budget: u32,
    },
    /// The host told the model that it is about to sleep.
    Park,
    /// Nothing was due: the clock moved to the next deadline.
    Advance {
        /// The time after that.
        to: Nanos,
    },
    /// The function was reset by its host.
    Reset {
        /// As at power-on, not as by Function Level Reset.
        power_on: bool,
    },
}

/// A run so far. Costs the same for a run of any length.
pub struct Trace {
    hash: XxHash3_64,
    events: u64,
    recent: VecDeque<(Nanos, Event)>,
}

impl Trace {
    /// How many of the last events are kept.
    pub const RECENT: usize = 256;

    pub(crate) fn new() -> Self {
        Self { hash: XxHash3_64::new(), events: 0, recent: VecDeque::with_capacity(Self::RECENT) }
    }

    /// Adds an event and the bytes that it moved.
    pub(crate) fn record(&mut self, now: Nanos, event: Event, data: &[u8]) {
        (now, event).hash(&mut self.hash);
        self.hash.write(data);
        self.events += 1;
        if self.recent.len() == Self::RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((now, event));
    }

    /// Everything that happened, its order, time and data, in one number. Comparable between runs
    /// of the same build.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last events, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = (Nanos, Event)> {
        self.recent.iter().copied()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} events, hash {:#018x}; the last {}:",
            self.events,
            self.hash(),
            self.recent.len()
        )?;
        for (now, event) in self.recent() {
            writeln!(f, "{:>12} {event:?}", now.0)?;
        }
        Ok(())
    }
}
