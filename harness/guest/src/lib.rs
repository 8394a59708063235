//! Boots QEMU guests with stock kernels, attaches devices, takes them through scenarios, and
//! returns verdicts.
//!
//! - [`Kit`] is what `ci/prepare` made: QEMU, kernels, a root file system.
//! - [`Guest`] is one running QEMU with an agent inside; [`Config`] says how it is built. Devices
//!   are [`Attachment`]s: a vfio-user socket, or anything else that QEMU knows.
//! - [`agent`] is the guest's first process: this crate's user's own executable, started again
//!   inside the guest, so that host and guest always speak the same protocol. It answers [`Task`]s
//!   over a serial port of its own, so kernel messages cannot garble a verdict.
//! - [`Scenario`]s are data: a config and steps. Whoever serves the devices is a [`Devices`]; it
//!   also says how much the devices did, so that a step can demand that they did the work.
//! - A [`Report`] has a [`Verdict`] for each step: pass, fail, or missing (panic, timeout, QEMU's
//!   end).
//!
//! Plain emulation (TCG) only: no KVM, no `/dev/vfio`, no root. Linux on x86-64 hosts, x86-64
//! guests, Debian kernels.
//!
//! Not implemented: disks and networks in guests, more than one guest at a time in a scenario,
//! migration, other architectures.

pub mod agent;
mod error;
mod executable;
mod guest;
mod initramfs;
mod kit;
mod machine;
mod modules;
pub mod operators;
mod protocol;
pub mod qaic;
pub mod qat;
mod report;
mod scenario;
pub mod virtio_crypto;

pub use error::Error;
pub use guest::{Attachment, Booting, Config, Guest};
pub use kit::{DEFAULT_FOLDER, FOLDER_VARIABLE, Kernel, Kit};
pub use protocol::{Float, Hello, Shape, Task};
pub use report::{Report, StepReport, Verdict};
pub use scenario::{Action, Devices, For, Scenario, Step, Wanted, Work};
