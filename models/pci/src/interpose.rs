//! Where something can stand between a driver, a function and its host: how faults come in.
//!
//! A function without an interposer pays one branch for each crossing. An interposer sees every
//! access, DMA transfer, interrupt and ring entry before it takes effect, and needs nothing from a
//! model. It is plain state like a model: it does nothing on its own, and says through
//! [`Interposer::next_due`] when it wants to.

use std::any::Any;

use understudy_device::{Bar, DmaFault, FinishedJob, Nanos, ResetKind, Tap, Vector, Verdict};

use crate::Host;

/// What a driver accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// Config space.
    Config,
    /// A BAR, the MSI-X table included.
    Bar(Bar),
}

/// An access of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Where.
    pub region: Region,
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// Whether it writes.
    pub write: bool,
}

/// What becomes of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// It goes on, with the data as they now are.
    Pass,
    /// It ends here: a write is lost, a read returns the data as they now are.
    Absorb,
    /// A write reaches the function twice. A read passes.
    Twice,
}

/// What becomes of an interrupt that the model raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// It goes on.
    Pass,
    /// It is lost, or comes later as an [`Action`].
    Drop,
    /// This vector is raised instead. Has no effect on the INTx line.
    Instead(Vector),
}

/// Something that an interposer has the function do.
#[derive(Debug)]
pub enum Action {
    /// Writes a BAR, as its driver would.
    Write {
        /// Which.
        bar: Bar,
        /// Offset in bytes.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// Raises a vector, as the model would.
    Raise(Vector),
    /// Drives the INTx line, as the model would.
    Line(bool),
    /// Writes guest memory, as the model would.
    Dma {
        /// First address.
        iova: u64,
        /// What.
        data: Vec<u8>,
    },
    /// Resets the function, though nobody asked.
    Reset,
    /// Gives a job back to the model that was [held](Interposer::finish).
    Finish(FinishedJob),
}

/// Stands between a function and everything around it. Without its own methods it lets everything
/// pass. Methods that get `host` may use it, for instance to look at guest memory.
pub trait Interposer: Send + Any {
    /// A driver's access on its way to the function. `data` is what a write writes; for a read, the
    /// answer if the access is [absorbed](Route::Absorb).
    fn access(&mut self, host: &mut dyn Host, access: Access, data: &mut [u8]) -> Route {
        let (_, _, _) = (host, access, data);
        Route::Pass
    }

    /// The function's answer to a read on its way back.
    fn answer(&mut self, host: &mut dyn Host, access: Access, data: &mut [u8]) {
        let (_, _, _) = (host, access, data);
    }

    /// Whether the model may work now.
    fn may_work(&mut self, now: Nanos) -> bool {
        let _ = now;
        true
    }

    /// A job is done. `None` keeps it, until an [`Action::Finish`].
    fn finish(&mut self, now: Nanos, done: FinishedJob) -> Option<FinishedJob> {
        let _ = now;
        Some(done)
    }

    /// The model reads guest memory.
    ///
    /// # Errors
    /// [`DmaFault`], the host's or the interposer's own.
    fn dma_read(
        &mut self,
        host: &mut dyn Host,
        iova: u64,
        into: &mut [u8],
    ) -> Result<(), DmaFault> {
        host.dma_read(iova, into)
    }

    /// The model writes guest memory.
    ///
    /// # Errors
    /// [`DmaFault`], the host's or the interposer's own.
    fn dma_write(&mut self, host: &mut dyn Host, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        host.dma_write(iova, from)
    }

    /// The model raises a vector, not masked yet.
    fn raise(&mut self, now: Nanos, vector: Vector) -> Signal {
        let (_, _) = (now, vector);
        Signal::Pass
    }

    /// The model drives the INTx line. `false` leaves the line as it is.
    fn line(&mut self, now: Nanos, asserted: bool) -> bool {
        let (_, _) = (now, asserted);
        true
    }

    /// The ring engine shows an entry. Anything but `Pass` overrides the host's own verdict.
    fn tap(&mut self, host: &mut dyn Host, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        let (_, _, _, _) = (host, at, queue, entry);
        Verdict::Pass
    }

    /// Whether entries may be taken from a queue now.
    fn may_fetch(&mut self, now: Nanos, queue: u16) -> bool {
        let (_, _) = (now, queue);
        true
    }

    /// The function is about to be reset. `false` prevents it; not asked for a power-on.
    fn reset(&mut self, kind: ResetKind) -> bool {
        let _ = kind;
        true
    }

    /// What is to be done now, one thing at a time.
    fn due(&mut self, now: Nanos) -> Option<Action> {
        let _ = now;
        None
    }

    /// When there will be something to do, or may work again that may not now.
    fn next_due(&self) -> Option<Nanos> {
        None
    }
}
