//! A virtio driver's transport and rings (virtio 1.3 §2 and §4.1).
//!
//! - [`Device`]: the modern PCI transport: structures, features, status, queues, notifications.
//! - [`Queue`]: a virtqueue, split or packed, with direct or indirect
//!   descriptors and with event flags or event index.
//!
//! Nothing that a driver must remember is read back from memory that the device can write.
//!
//! # Not implemented
//! Legacy and transitional devices, in-order use, shared memory regions, the admin queue.

mod packed;
mod queue;
mod split;
mod transport;

pub use queue::{Queue, QueueOptions, Segment, Used};
pub use transport::{Completion, Device, Structure};

/// Feature bits of the ring and the transport (virtio 1.3 §6), as masks.
pub mod feature {
    /// A descriptor may point to a table of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Event index: notifications are asked for by ring position.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
    /// Addresses go through the platform's translation.
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
    /// Packed rings.
    pub const RING_PACKED: u64 = 1 << 34;
    /// Notifications carry the ring position.
    pub const NOTIFICATION_DATA: u64 = 1 << 38;
    /// A queue can be reset alone.
    pub const RING_RESET: u64 = 1 << 40;
}

/// Bits of the device status field (virtio 1.3 §2.1).
pub mod status {
    /// The driver has seen the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The driver knows how to drive it.
    pub const DRIVER: u8 = 2;
    /// The driver is set up.
    pub const DRIVER_OK: u8 = 4;
    /// Features are agreed on.
    pub const FEATURES_OK: u8 = 8;
    /// The device cannot go on.
    pub const DEVICE_NEEDS_RESET: u8 = 64;
    /// The driver has given up.
    pub const FAILED: u8 = 128;
}
