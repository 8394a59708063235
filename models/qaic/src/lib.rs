//! The Qualcomm Cloud AI 100 (17cb:a100): an inference accelerator that Linux's `qaic` drives.
//!
//! There is no public specification. Linux is the authority (6.12 and later: `Documentation/accel/qaic`,
//! `drivers/accel/qaic`, `drivers/bus/mhi`), and for what lies above the vendor's open runtime
//! (`quic/software-kit-for-qualcomm-cloud-ai-100`).
//!
//! - [`registers`]: MHI with its boot interface (BAR 0), the DMA bridge (BAR 2).
//! - [`layout`]: what lies in guest memory. [`message`]: NNC messages.
//! - [`parameters`]: what a user can choose, and what the function is as a PCI device.
//! - [`device`]: power states, boot, counters.
//! - `rings`, `mhi`: command, event and transfer rings; channels. `boot`: the second boot loader.
//! - `control`: the service manager: loads, activations, users. `info`: what it tells of itself.
//! - [`bridge`]: requests, semaphores, transfers, doorbells. [`workload`]: an active network.
//!
//! Computing is real: the network is ONNX, in a section of the program that is loaded, and
//! `understudy-tensor` runs it. A program without that section is refused (`METADATA_ERROR`). How
//! such a program uses device memory, semaphores and doorbells is ours, and in [`workload`].
//!
//! # Not implemented
//! - Programs for the chip's own processors; constants are accepted, accounted for, and not used.
//! - Checks of firmware: images are taken whatever is in them. Of runtime firmware only the first
//!   64 bytes of each image are fetched.
//! - NNC reservations (resource groups, activations, channels), activation states, device
//!   configuration: `UNDEFINED_REQUEST`. CRCs within commands are not looked at.
//! - Linked-list transfers of the DMA bridge, whose format is not published: refused.
//! - BHIe and ramdumps; the dump of a crashed workload (SSR): its events come, its data does not.
//! - MHI power states M1 and M3_FAST; event moderation; bandwidth requests.
//! - DIAG, QDSS, TELEMETRY and DEBUG channels: they open, take messages and say nothing. STATUS
//!   never reports a RAS event, as the model has no errors to correct.
//! - Temperatures, power and frequencies: 0.
//!
//! # Where the sources leave it open
//! - Statuses of bridge responses other than 0 ([`bridge::status`]).
//! - Semaphores saturate at 0 and 4095. Each channel has its own 32.
//! - A message that is not understood is answered with a status transaction that refuses it.
//! - After a crash (SYS_ERR) the device waits for MHI reset and then is where it was at power-on.
#![forbid(unsafe_code)]

mod boot;
pub mod bridge;
mod control;
pub mod device;
mod info;
pub mod layout;
pub mod message;
mod mhi;
pub mod parameters;
pub mod registers;
mod rings;
pub mod workload;

pub use control::refusal;
pub use device::Qaic;
pub use parameters::{Boot, Parameters};

#[cfg(test)]
mod tests;
