//! A deterministic host: one function in one thread, with all that happens drawn from one seed.
//!
//! The same [`PciFunction`](understudy_pci::PciFunction) that the vfio-user server runs, with
//! nothing of the operating system around it. The same seed and the same calls give the same run,
//! event for event; [`Trace::hash`] shows it.
//!
//! - [`Simulation`]: a function and its host. A driver's accesses happen where it makes them; the
//!   device's own work happens in [`Simulation::step`], one piece at a time: a poll, a park, or a
//!   finished job, which one being drawn from the seed. Time is virtual and passes only in steps.
//! - [`SimHost`]: the host that the function sees: guest memory, shared areas, clock, jobs,
//!   interrupt triggers. Can be used without [`Simulation`].
//! - [`Memory`]: guest memory as ranges of I/O virtual addresses, bounded.
//! - [`Hooks`]: where faults come in: ring entries, and each DMA access, before they take effect.
//! - [`Trace`]: everything a driver or device could observe, hashed, with the last events kept.
//!
//! Not here: message-based DMA and the vfio-user protocol (`understudy-server`), drivers
//! (`understudy-client`), and faults themselves.
#![forbid(unsafe_code)]

mod host;
mod jobs;
mod memory;
mod simulation;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "counts in tests are small")]
mod tests;
mod trace;

pub use host::{DmaAccess, Hooks, NoSuchVector, SimHost};
pub use memory::{MapError, Memory, Permission};
pub use simulation::{Simulation, Step, Stuck, StuckReason};
pub use trace::{Event, Trace};
