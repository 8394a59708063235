//! A vfio-user client and small guest-side drivers.
//!
//! The drivers are written once against [`Platform`], which is all that a guest's kernel gives a
//! driver: config space, BARs, memory for DMA, interrupts and a clock. They follow PCI, and virtio
//! 1.3 (§2.7, §2.8, §4.1, §5.9), from the specification and share no code with the models, so that
//! a test compares two readings of it.
//!
//! - [`platform`]: the trait, and [`Access`] helpers on top of it.
//! - [`vfio_user`]: the client, and the platform over a socket.
//! - [`simulation`]: the platform in a deterministic simulation.
//! - [`pci`]: discovery, BARs, MSI-X.
//! - [`virtio`]: the modern PCI transport and both ring layouts.
//! - [`virtio_crypto`]: sessions and requests of all five services.
//! - [`qaic`]: boot, control channel and DMA bridge of the Cloud AI 100, after Linux.
//! - [`qat`]: mailbox, rings and requests of QAT virtual functions, after Linux and DPDK.
//!
//! A device that misbehaves is an error, [`DriverError`], that says what it did; the drivers never
//! panic on it, and every wait has a limit.
#![forbid(unsafe_code)]

pub mod allocator;
pub mod error;
pub mod pci;
pub mod platform;
pub mod qaic;
pub mod qat;
pub mod simulation;
pub mod vfio_user;
pub mod virtio;
pub mod virtio_crypto;

pub use error::{DriverError, PlatformError};
pub use platform::{Access, Activity, DmaBuffer, Interrupts, Platform};
pub use simulation::SimulationPlatform;
