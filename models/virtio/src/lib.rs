//! Virtio 1.3: virtqueues and the modern PCI transport, once for all virtio devices.
//!
//! A device implements [`VirtioDevice`]: features, configuration, and what a request does. A
//! request is two byte streams, readable and writable. [`VirtioPci`] makes a PCI function of it:
//!
//! - [`contract`]: what a device type brings.
//! - [`layout`]: descriptors, feature and status bits.
//! - [`registers`]: the common configuration (§4.1.4.3) and ISR as tables; where things lie.
//! - [`queue`]: split (§2.7) and packed (§2.8) virtqueues with indirect descriptors, event
//!   suppression, and checks on everything a driver writes.
//! - [`device`]: status and feature negotiation (§3.1), queue set-up and reset, MSI-X and INTx,
//!   notifications, fair service of queues, jobs.
//!
//! A notification is only counted; [`poll`](understudy_device::DeviceModel::poll) looks at all
//! queues and, while it is being called, asks the driver not to notify.
//! [`park`](understudy_device::DeviceModel::park) asks for notifications again. What a driver must
//! not do ends in `DEVICE_NEEDS_RESET` with a configuration change notification (§2.1.2), never in
//! a guess.
//!
//! # Not implemented
//! Legacy and transitional interfaces; MMIO and channel I/O; `VIRTIO_F_IN_ORDER`,
//! `ORDER_PLATFORM`, `SR_IOV`, `NOTIFICATION_DATA`, `NOTIF_CONFIG_DATA`; administration queues;
//! shared memory regions.
//!
//! # Kinder than the specification
//! - Indirect descriptors work without `VIRTIO_F_INDIRECT_DESC` having been accepted (DPDK).
//! - Indirect tables may be longer than the queue, up to [`queue::MAX_SEGMENTS`] (Linux).
//! - Writes of 0 to `queue_enable`, and to fields of enabled queues, are ignored (DPDK).
#![forbid(unsafe_code)]

pub mod contract;
pub mod device;
pub mod layout;
pub mod queue;
pub mod registers;

pub use contract::{Description, Outcome, QueueSpec, VirtioDevice};
pub use device::{Broken, BuildError, VirtioPci};
pub use layout::{feature, status};
pub use queue::{QueueError, Request};

#[cfg(test)]
mod tests;
