//! A PCI function around a model: config space, BAR decoding, interrupt delivery.
//!
//! Everything between a host and a [`DeviceModel`] that PCI specifies is here once, with no I/O, so
//! that the vfio-user server and the simulation show a driver the same function.
//!
//! - [`Host`]: what a host gives a function: guest memory, clock, jobs, interrupt triggers.
//! - [`PciFunction`]: the function: config space built from the [`Identity`], BARs, MSI, MSI-X and
//!   INTx with their masks and pending bits, Bus Master Enable and Memory Space Enable.
//! - [`Interposer`]: what may stand between the two and the driver: faults.
//! - `registers`: header and capabilities as register tables. `config_space`: an image, write masks
//!   and reset values made from them. `interrupts`, `msix`: what is masked, pending and sent.
//!   `function`: routes accesses to these and the model, and gates what the model does.
//!
//! Specifications: PCI Local Bus 3.0, PCI Power Management 1.2 (capability version 3), PCI Express
//! Base 5.0 (capability version 2), virtio 1.3 §4.1.4.9.
//!
//! Not here: I/O BARs, expansion ROMs, bridges, multi-function devices, PME, D1 and D2, extended
//! capabilities (the extended space is empty), error reporting beyond Received Master Abort, and
//! the addresses in BARs and messages: hosts route accesses and interrupts themselves.
//!
//! [`DeviceModel`]: understudy_device::DeviceModel
//! [`Identity`]: understudy_device::Identity
#![forbid(unsafe_code)]

use understudy_device::{Bar, DmaFault, Job, JobId, Nanos, Tap, Verdict};

mod config_space;
mod function;
mod interpose;
mod interrupts;
mod jobs;
mod msix;
mod registers;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "offsets and lengths in tests are small")]
mod tests;

pub use config_space::CONFIG_REGION;
pub use function::PciFunction;
pub use interpose::{Access, Action, Interposer, Region, Route, Signal};

/// VFIO's names for a PCI function's interrupt kinds (`linux/vfio.h`, `VFIO_PCI_*_IRQ_INDEX`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Irq {
    /// Index 0.
    Intx = 0,
    /// Index 1.
    Msi = 1,
    /// Index 2.
    Msix = 2,
}

/// What a host gives a function. The model sees it as a [`Bus`](understudy_device::Bus), through
/// the gates of Bus Master Enable and the interrupt masks.
pub trait Host {
    /// As [`Bus::dma_read`](understudy_device::Bus::dma_read).
    ///
    /// # Errors
    /// [`DmaFault`] if any byte cannot be read.
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault>;
    /// As [`Bus::dma_write`](understudy_device::Bus::dma_write).
    ///
    /// # Errors
    /// [`DmaFault`] if any byte cannot be written.
    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault>;
    /// As [`Bus::dma_lend`](understudy_device::Bus::dma_lend).
    fn dma_lend(&mut self, iova: u64, len: usize, work: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
        let (_, _, _) = (iova, len, work);
        false
    }
    /// As [`Bus::dma_fence`](understudy_device::Bus::dma_fence).
    fn dma_fence(&mut self);
    /// Fires the trigger that the client set for this vector. `false` if it has set none: the
    /// function then keeps the interrupt pending until [`PciFunction::triggers_changed`].
    fn signal(&mut self, irq: Irq, vector: u16) -> bool;
    /// Whether the client has set a trigger for at least one vector of this kind just now. Has no
    /// effect on anything: clients that never write config space are served by what they listen to.
    fn has_triggers(&self, irq: Irq) -> bool;
    /// The clock.
    fn now(&self) -> Nanos;
    /// Takes heavy work.
    fn submit(&mut self, job: Job) -> JobId;
    /// As [`Bus::tap`](understudy_device::Bus::tap).
    fn tap(&mut self, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        let (_, _, _) = (at, queue, entry);
        Verdict::Pass
    }
    /// As [`Bus::shared_read`](understudy_device::Bus::shared_read).
    ///
    /// # Errors
    /// [`DmaFault`] if the range is not inside one shared area.
    fn shared_read(&mut self, bar: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault>;
    /// As [`Bus::shared_write`](understudy_device::Bus::shared_write).
    ///
    /// # Errors
    /// [`DmaFault`] if the range is not inside one shared area.
    fn shared_write(&mut self, bar: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault>;
}
