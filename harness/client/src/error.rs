//! What can go wrong beneath a driver, and what a device can do wrong to it.

/// The access itself failed; the device's driver-visible state is not to blame.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The function refuses this access.
    #[error("access refused: {0}")]
    Refused(String),
    /// No answer came within the time limit.
    #[error("no answer within the time limit")]
    Timeout,
    /// The device is gone.
    #[error("the device is gone")]
    Gone,
    /// No memory for DMA is left.
    #[error("no room for {len} bytes of DMA memory")]
    OutOfMemory {
        /// Bytes asked for.
        len: usize,
    },
    /// The driver touched memory that it does not have.
    #[error("{iova:#x}+{len:#x} is outside the memory for DMA")]
    OutsideMemory {
        /// First address of the access.
        iova: u64,
        /// Length of the access in bytes.
        len: usize,
    },
    /// The function has no such interrupts.
    #[error("the function has no such interrupts")]
    NoInterrupts,
}

/// What the device did wrong, or why the driver cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// An access failed.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// Another device is there.
    #[error("found device {vendor:04x}:{device:04x}")]
    WrongDevice {
        /// Vendor ID.
        vendor: u16,
        /// Device ID.
        device: u16,
    },
    /// Config space is inconsistent.
    #[error("config space at {offset:#x}: {what}")]
    BadConfig {
        /// Offset in config space.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A structure that the driver needs is absent.
    #[error("the device has no {0}")]
    Missing(&'static str),
    /// The device did not do its part in time.
    #[error("timeout waiting for {0}")]
    Timeout(&'static str),
    /// The device does not offer these feature bits, or cleared `FEATURES_OK` on them.
    #[error("features {0:#x} refused")]
    FeaturesRefused(u64),
    /// The device set `DEVICE_NEEDS_RESET` (virtio §2.1.2).
    #[error("the device needs a reset")]
    NeedsReset,
    /// The device does not keep what the driver wrote to a register.
    #[error("{register} reads {found:#x} after {written:#x} was written")]
    NotKept {
        /// Name of the register in the specification.
        register: &'static str,
        /// What was written.
        written: u64,
        /// What was read.
        found: u64,
    },
    /// A queue that must exist has an impossible size.
    #[error("queue {queue} has size {size}")]
    BadQueueSize {
        /// Queue index.
        queue: u16,
        /// Size read.
        size: u16,
    },
    /// The used index moved past everything that the driver had made available.
    #[error("queue {queue}: used index {found}, at most {limit} possible")]
    BadUsedIndex {
        /// Queue index.
        queue: u16,
        /// Index that the device wrote.
        found: u16,
        /// Largest possible.
        limit: u16,
    },
    /// The device used a buffer that it does not have.
    #[error("queue {queue}: used buffer {id} is not outstanding")]
    UnknownId {
        /// Queue index.
        queue: u16,
        /// Buffer ID, or head descriptor.
        id: u32,
    },
    /// The device claims to have written more than there is room for.
    #[error("queue {queue}: {len} bytes written into a buffer of {room}")]
    TooLong {
        /// Queue index.
        queue: u16,
        /// Length that the device wrote.
        len: u32,
        /// Writable bytes of the buffer.
        room: u64,
    },
    /// The device used a buffer without writing all that a result must have.
    #[error("queue {queue}: {len} bytes written, at least {need} needed")]
    TooShort {
        /// Queue index.
        queue: u16,
        /// Length that the device wrote.
        len: u32,
        /// Bytes needed.
        need: u64,
    },
    /// The device completed a request without a valid status.
    #[error("queue {queue}: status {status:#x} is not one of the specification's")]
    BadStatus {
        /// Queue index.
        queue: u16,
        /// What the status field holds.
        status: u32,
    },
    /// The device wrote outside the buffers it was given, or into ones it may only read.
    #[error("queue {queue}: the device wrote at {iova:#x}, which it may not")]
    StrayWrite {
        /// Queue index.
        queue: u16,
        /// First byte that changed.
        iova: u64,
    },
    /// The queue is full. The request was not submitted.
    #[error("queue {queue} is full")]
    QueueFull {
        /// Queue index.
        queue: u16,
    },
    /// The request cannot be expressed: too many segments, no writable part, or too large.
    #[error("impossible request: {0}")]
    BadRequest(&'static str),
}
