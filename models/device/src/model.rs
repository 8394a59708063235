//! The trait every device implements.

use crate::{Bar, Bus, FinishedJob, Identity, Nanos, State};

/// An access that the function does not take. About the access only; a device's own errors are the
/// device's own status codes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize,
)]
pub enum AccessError {
    /// No register is there. Hosts answer reads with the device's [`Identity::unmapped_read`].
    #[error("no register at offset {offset:#x}")]
    Unmapped {
        /// Offset in the region.
        offset: u64,
    },
    /// The register does not take accesses of this size.
    #[error("access of {size} bytes at offset {offset:#x} is not supported")]
    Width {
        /// Offset in the region.
        offset: u64,
        /// Size of the access in bytes.
        size: u64,
    },
    /// The register does not take accesses at this alignment.
    #[error("unaligned access of {size} bytes at offset {offset:#x}")]
    Unaligned {
        /// Offset in the region.
        offset: u64,
        /// Size of the access in bytes.
        size: u64,
    },
    /// The access reaches past the end of the region, or the region does not exist.
    #[error("access of {size} bytes at offset {offset:#x} is outside the region")]
    OutOfRange {
        /// Offset in the region.
        offset: u64,
        /// Size of the access in bytes.
        size: u64,
    },
    /// Memory Space Enable is clear (answered as the bus would: all ones, writes ignored).
    #[error("memory space is disabled")]
    Disabled,
}

/// What is left to do after a [`DeviceModel::poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Progress {
    /// Nothing until the next register access, finished job, or doorbell.
    Idle,
    /// There is more to do now: the budget was used up.
    More,
    /// Nothing until this instant of [`Bus::now`].
    Until(Nanos),
}

impl Progress {
    /// The more urgent of two.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::More, _) | (_, Self::More) => Self::More,
            (Self::Idle, x) | (x, Self::Idle) => x,
            (Self::Until(a), Self::Until(b)) => Self::Until(a.min(b)),
        }
    }
}

/// Why a model is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ResetKind {
    /// Power-on, or the client went away: everything, counters included, is as new.
    PowerOn,
    /// A reset of the function asked for by its driver or VMM (VFIO `DEVICE_RESET`, FLR).
    Function,
}

/// A device as a pure state machine.
///
/// A model holds no sockets, threads, clocks, eventfds or randomness. It may be moved between
/// threads between calls. Hosts call it from one thread at a time and have let all jobs finish
/// before [`reset`](Self::reset).
pub trait DeviceModel: Send {
    /// What the function is. Constant for the life of the model.
    fn identity(&self) -> &Identity;

    /// A read of `data.len()` bytes of a BAR. Hosts have checked the range against the BAR's size.
    ///
    /// # Errors
    /// [`AccessError`] if there is nothing there that takes such an access.
    fn read(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError>;

    /// A write to a BAR. Records what was written, and little else: work is done in
    /// [`poll`](Self::poll), after the host has answered the client.
    ///
    /// # Errors
    /// [`AccessError`] if there is nothing there that takes such an access.
    fn write(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError>;

    /// Does up to `budget` queue entries' worth of work.
    fn poll(&mut self, bus: &mut dyn Bus, budget: u32) -> Progress;

    /// The host is about to stop polling and sleep: ask the driver for doorbells again where the
    /// device can suppress them. [`Progress::More`] means that work arrived meanwhile.
    fn park(&mut self, bus: &mut dyn Bus) -> Progress {
        let _ = bus;
        Progress::Idle
    }

    /// A job that the model submitted is done. Jobs from before a reset never come back.
    fn finish(&mut self, bus: &mut dyn Bus, done: FinishedJob);

    /// Puts registers and queues back to their reset values.
    fn reset(&mut self, kind: ResetKind);

    /// Registers, queues and counters by name, without side effects.
    fn inspect(&self) -> State;
}

/// A model around another: it does what that does, but for the methods that it has itself.
pub trait Around: Send {
    /// The other.
    fn model(&self) -> &dyn DeviceModel;

    /// The other, to be called.
    fn model_mut(&mut self) -> &mut dyn DeviceModel;

    /// [`DeviceModel::identity`].
    fn identity(&self) -> &Identity {
        self.model().identity()
    }

    /// [`DeviceModel::write`].
    ///
    /// # Errors
    /// As there.
    fn write(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        self.model_mut().write(bus, bar, offset, data)
    }
}

impl<T: Around> DeviceModel for T {
    fn identity(&self) -> &Identity {
        Around::identity(self)
    }

    fn read(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        self.model_mut().read(bus, bar, offset, data)
    }

    fn write(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        Around::write(self, bus, bar, offset, data)
    }

    fn poll(&mut self, bus: &mut dyn Bus, budget: u32) -> Progress {
        self.model_mut().poll(bus, budget)
    }

    fn park(&mut self, bus: &mut dyn Bus) -> Progress {
        self.model_mut().park(bus)
    }

    fn finish(&mut self, bus: &mut dyn Bus, done: FinishedJob) {
        self.model_mut().finish(bus, done);
    }

    fn reset(&mut self, kind: ResetKind) {
        self.model_mut().reset(kind);
    }

    fn inspect(&self) -> State {
        self.model().inspect()
    }
}

/// A model that says that it is something else, and does what `model` does. Hosts validate the
/// identity when they take the model.
#[must_use]
pub fn with_identity(model: Box<dyn DeviceModel>, identity: Identity) -> Box<dyn DeviceModel> {
    Box::new(Renamed { identity, model })
}

struct Renamed {
    identity: Identity,
    model: Box<dyn DeviceModel>,
}

impl Around for Renamed {
    fn model(&self) -> &dyn DeviceModel {
        &*self.model
    }

    fn model_mut(&mut self) -> &mut dyn DeviceModel {
        &mut *self.model
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }
}
