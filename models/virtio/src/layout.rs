//! What lies in guest memory and in capabilities, byte for byte.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A descriptor of a split virtqueue (virtio 1.3 §2.7.5, `struct virtq_desc`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SplitDescriptor {
    /// Address of the buffer, or of the indirect table.
    pub addr: U64,
    /// Length in bytes.
    pub len: U32,
    /// [`descriptor`] bits.
    pub flags: U16,
    /// Index of the next descriptor, if [`descriptor::NEXT`] is set.
    pub next: U16,
}

/// A descriptor of a packed virtqueue (virtio 1.3 §2.8.13, `struct pvirtq_desc`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PackedDescriptor {
    /// Address of the buffer, or of the indirect table.
    pub addr: U64,
    /// Length in bytes; bytes written when used.
    pub len: U32,
    /// Buffer ID, valid in the last descriptor of a list.
    pub id: U16,
    /// [`descriptor`] bits.
    pub flags: U16,
}

/// A used element (virtio 1.3 §2.7.8, `struct virtq_used_elem`). Also what the fault taps see of a
/// completion of a packed virtqueue.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct UsedElement {
    /// Head index (split) or buffer ID (packed).
    pub id: U32,
    /// Bytes written to the device-writable part.
    pub len: U32,
}

const _: () = assert!(size_of::<SplitDescriptor>() == 16);
const _: () = assert!(size_of::<PackedDescriptor>() == 16);
const _: () = assert!(size_of::<UsedElement>() == 8);

/// Size of a descriptor of either kind in bytes.
pub const DESCRIPTOR_LEN: usize = 16;

/// Descriptor flags (virtio 1.3 §2.7.5, §2.8.13).
pub mod descriptor {
    /// The buffer continues in another descriptor.
    pub const NEXT: u16 = 1;
    /// The buffer is device-writable, otherwise device-readable.
    pub const WRITE: u16 = 2;
    /// The buffer holds a table of descriptors.
    pub const INDIRECT: u16 = 4;
    /// Packed: equals the wrap counter when made available.
    pub const AVAIL: u16 = 1 << 7;
    /// Packed: equals the wrap counter when used.
    pub const USED: u16 = 1 << 15;
}

/// Values of event suppression structures (virtio 1.3 §2.7.6, §2.7.8, §2.8.14).
pub mod event {
    /// Split, `used.flags`: the driver need not notify.
    pub const USED_NO_NOTIFY: u16 = 1;
    /// Split, `avail.flags`: the device need not interrupt.
    pub const AVAIL_NO_INTERRUPT: u16 = 1;
    /// Packed: events are wanted.
    pub const PACKED_ENABLE: u16 = 0;
    /// Packed: events are not wanted.
    pub const PACKED_DISABLE: u16 = 1;
    /// Packed: an event is wanted for one descriptor (with [`EVENT_IDX`](super::feature::EVENT_IDX)).
    pub const PACKED_DESC: u16 = 2;
}

/// Feature bits of all virtio devices (virtio 1.3 §6), as masks.
pub mod feature {
    /// `VIRTIO_F_INDIRECT_DESC`
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// `VIRTIO_F_EVENT_IDX`
    pub const EVENT_IDX: u64 = 1 << 29;
    /// `VIRTIO_F_VERSION_1`
    pub const VERSION_1: u64 = 1 << 32;
    /// `VIRTIO_F_ACCESS_PLATFORM`
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
    /// `VIRTIO_F_RING_PACKED`
    pub const RING_PACKED: u64 = 1 << 34;
    /// `VIRTIO_F_RING_RESET`
    pub const RING_RESET: u64 = 1 << 40;

    /// What this transport offers for every device.
    pub const TRANSPORT: u64 =
        INDIRECT_DESC | EVENT_IDX | VERSION_1 | ACCESS_PLATFORM | RING_PACKED | RING_RESET;
}

/// Device status bits (virtio 1.3 §2.1).
pub mod status {
    /// The driver has noticed the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The driver knows how to drive the device.
    pub const DRIVER: u8 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// Feature negotiation is complete.
    pub const FEATURES_OK: u8 = 8;
    /// The device cannot go on without a reset.
    pub const DEVICE_NEEDS_RESET: u8 = 64;
    /// The driver has given up.
    pub const FAILED: u8 = 128;
}

/// `cfg_type` of the vendor capabilities (virtio 1.3 §4.1.4).
pub mod cap {
    /// Common configuration.
    pub const COMMON: u8 = 1;
    /// Notifications.
    pub const NOTIFY: u8 = 2;
    /// ISR status.
    pub const ISR: u8 = 3;
    /// Device-specific configuration.
    pub const DEVICE: u8 = 4;
    /// Access to a BAR through config space.
    pub const PCI: u8 = 5;
}

/// The MSI-X vector that means "none" (virtio 1.3 §4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xffff;

/// `VIRTIO_PCI_VENDOR_ID` (virtio 1.3 §4.1.2).
pub const VENDOR_ID: u16 = 0x1af4;

/// PCI device id of the modern device with virtio device id 0 (virtio 1.3 §4.1.2.1).
pub const MODERN_DEVICE_ID: u16 = 0x1040;
