//! Registers of the virtio-pci modern transport, as tables.

use understudy_device::{Register, RegisterBlock, Width};

use crate::layout::NO_VECTOR;

/// BAR of the MSI-X table and pending bits, as QEMU places them.
pub const MSIX_BAR: u8 = 1;
/// BAR of everything else, 64 bits wide.
pub const MODERN_BAR: u8 = 4;
/// Size of [`MODERN_BAR`] in bytes.
pub const MODERN_SIZE: u64 = 0x4000;
/// Each structure has a page, so that a VMM can treat notifications apart.
pub const PAGE: u64 = 0x1000;
/// Offset of the common configuration in [`MODERN_BAR`].
pub const COMMON_OFFSET: u64 = 0;
/// Offset of the ISR status.
pub const ISR_OFFSET: u64 = 0x1000;
/// Offset of the device-specific configuration.
pub const DEVICE_OFFSET: u64 = 0x2000;
/// Offset of the notification area.
pub const NOTIFY_OFFSET: u64 = 0x3000;
/// `notify_off_multiplier`: distance of queues in the notification area, in bytes.
pub const NOTIFY_MULTIPLIER: u32 = 4;
/// Most queues: what the notification area holds.
pub const MAX_QUEUES: u16 = 1024;

/// Fields of `struct virtio_pci_common_cfg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub enum Common {
    DeviceFeatureSelect,
    DeviceFeature,
    DriverFeatureSelect,
    DriverFeature,
    ConfigMsixVector,
    NumQueues,
    DeviceStatus,
    ConfigGeneration,
    QueueSelect,
    QueueSize,
    QueueMsixVector,
    QueueEnable,
    QueueNotifyOff,
    QueueDesc,
    QueueDriver,
    QueueDevice,
    QueueReset,
}

/// The common configuration (virtio 1.3 §4.1.4.3). `queue_notif_config_data` and the
/// administration queue fields are absent: their features are not offered.
pub static COMMON: RegisterBlock<Common> = RegisterBlock::new(
    "common",
    0x3c,
    &[
        Register::rw(Common::DeviceFeatureSelect, "device_feature_select", 0x00, Width::B4),
        Register::ro(Common::DeviceFeature, "device_feature", 0x04, Width::B4),
        Register::rw(Common::DriverFeatureSelect, "driver_feature_select", 0x08, Width::B4),
        Register::rw(Common::DriverFeature, "driver_feature", 0x0c, Width::B4),
        Register::rw(Common::ConfigMsixVector, "config_msix_vector", 0x10, Width::B2)
            .reset(NO_VECTOR as u64),
        Register::ro(Common::NumQueues, "num_queues", 0x12, Width::B2),
        Register::rw(Common::DeviceStatus, "device_status", 0x14, Width::B1),
        Register::ro(Common::ConfigGeneration, "config_generation", 0x15, Width::B1),
        Register::rw(Common::QueueSelect, "queue_select", 0x16, Width::B2),
        Register::rw(Common::QueueSize, "queue_size", 0x18, Width::B2),
        Register::rw(Common::QueueMsixVector, "queue_msix_vector", 0x1a, Width::B2)
            .reset(NO_VECTOR as u64),
        Register::rw(Common::QueueEnable, "queue_enable", 0x1c, Width::B2),
        Register::ro(Common::QueueNotifyOff, "queue_notify_off", 0x1e, Width::B2),
        Register::rw(Common::QueueDesc, "queue_desc", 0x20, Width::B8),
        Register::rw(Common::QueueDriver, "queue_driver", 0x28, Width::B8),
        Register::rw(Common::QueueDevice, "queue_device", 0x30, Width::B8),
        Register::rw(Common::QueueReset, "queue_reset", 0x3a, Width::B2),
    ],
);

/// The only register of its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isr {
    /// Bit 0: a queue; bit 1: the device configuration.
    Status,
}

/// The ISR status (virtio 1.3 §4.1.4.5).
pub static ISR: RegisterBlock<Isr> =
    RegisterBlock::new("isr", 4, &[Register::rc(Isr::Status, "status", 0, Width::B1)]);
