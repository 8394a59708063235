//! Rings and scatter-gather lists, once for all devices.
//!
//! - [`sg`]: a bounded list of guest memory segments and a byte cursor over it, so that a device
//!   reads and writes a request as one stream, wherever its driver cut it into segments.
//! - [`pump`]: the life of a ring entry: fetch, [`Tap::Fetched`], execute, [`Tap::Completing`],
//!   completion. It is the only caller of [`Bus::tap`], so faults that edit, drop, delay,
//!   duplicate or reorder entries work on every device and need nothing from a model.
//!
//! A kind of ring (virtqueue, memory ring with empty markers, …) implements [`Ring`]: how one
//! entry is fetched and how one completion is written. Everything here is bounded: segments and
//! bytes of a list, entries that faults hold back, steps of one call.
//!
//! Not here: the layout of any ring (`understudy-virtio` has virtqueues), doorbells, interrupts.
//!
//! [`Tap::Fetched`]: understudy_device::Tap::Fetched
//! [`Tap::Completing`]: understudy_device::Tap::Completing
//! [`Bus::tap`]: understudy_device::Bus::tap
#![forbid(unsafe_code)]

pub mod pump;
pub mod sg;

pub use pump::{Entry, Next, Pump, Ring};
pub use sg::{Cursor, Limits, Segment, SgError, SgList};

#[cfg(test)]
mod tests;
