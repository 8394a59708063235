//! A PCI function around a model: config space, BAR decoding, interrupt delivery.
//!
//! Everything between a host and a [`DeviceModel`] that PCI specifies is here once, with no I/O, so
//! that the vfio-user server and the simulation show a driver the same function.
//!
//! - [`Host`]: what a host gives a function: guest memory, clock, jobs, interrupt triggers.
//! - [`PciFunction`]: the function: config space built from the [`Identity`], BARs, MSI, MSI-X and
//!   INTx with their masks and pending bits, Bus Master Enable and Memory Space Enable.
#![forbid(unsafe_code)]

use understudy_device::{
    AccessError, Bar, DeviceModel, DmaFault, FinishedJob, Identity, IdentityError, Job, JobId,
    Nanos, Progress, ResetKind, State, Tap, Verdict,
};

/// VFIO's names for a PCI function's interrupt kinds (`linux/vfio.h`, `VFIO_PCI_*_IRQ_INDEX`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// A model with its PCI config space and interrupts.
pub struct PciFunction {
    model: Box<dyn DeviceModel>,
}

impl PciFunction {
    /// Wraps a model, checking its identity. All state is at power-on.
    ///
    /// # Errors
    /// [`IdentityError`] if the identity cannot be a PCI function.
    pub fn new(model: Box<dyn DeviceModel>) -> Result<Self, IdentityError> {
        model.identity().validate()?;
        Ok(Self { model })
    }

    /// What the function is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.model.identity()
    }

    /// Size of config space in bytes: 4096 for PCI Express, else 256.
    #[must_use]
    pub fn config_size(&self) -> u64 {
        if self.identity().is_express() { 4096 } else { 256 }
    }

    /// Reads config space.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] past its end.
    pub fn config_read(
        &mut self,
        host: &mut dyn Host,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let _ = (host, offset, data);
        Ok(())
    }

    /// Writes config space. May deliver pending interrupts (function mask cleared, MSI-X enabled)
    /// or reset the function (FLR).
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] past its end.
    pub fn config_write(
        &mut self,
        host: &mut dyn Host,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let _ = (host, offset, data);
        Ok(())
    }

    /// Reads a BAR: MSI-X table and PBA, or the model.
    ///
    /// # Errors
    /// [`AccessError`]; `data` then holds what the bus would have returned (all ones if memory
    /// space is disabled, the identity's `unmapped_read` otherwise).
    pub fn bar_read(
        &mut self,
        host: &mut dyn Host,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let _ = (host, bar, offset, data);
        Ok(())
    }

    /// Writes a BAR.
    ///
    /// # Errors
    /// [`AccessError`]; nothing was written.
    pub fn bar_write(
        &mut self,
        host: &mut dyn Host,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let _ = (host, bar, offset, data);
        Ok(())
    }

    /// Lets the model work. See [`DeviceModel::poll`].
    pub fn poll(&mut self, host: &mut dyn Host, budget: u32) -> Progress {
        let _ = (host, budget);
        Progress::Idle
    }

    /// The host is about to sleep. See [`DeviceModel::park`].
    pub fn park(&mut self, host: &mut dyn Host) -> Progress {
        let _ = host;
        Progress::Idle
    }

    /// Gives a finished job back to the model.
    pub fn finish(&mut self, host: &mut dyn Host, done: FinishedJob) {
        let _ = (host, done);
    }

    /// Resets model, config space and interrupts. The caller has let jobs in flight finish.
    pub fn reset(&mut self, kind: ResetKind) {
        self.model.reset(kind);
    }

    /// Masks (`true`) or unmasks vectors `first..first + count` as VFIO `SET_IRQS` does, apart from
    /// the masks in config space and table. Unmasking delivers what is pending; for INTx, what is
    /// still asserted.
    pub fn set_irq_mask(
        &mut self,
        host: &mut dyn Host,
        irq: Irq,
        first: u16,
        count: u16,
        masked: bool,
    ) {
        let _ = (host, irq, first, count, masked);
    }

    /// The client has set or removed triggers: delivers what is pending and deliverable now.
    pub fn triggers_changed(&mut self, host: &mut dyn Host) {
        let _ = host;
    }

    /// Vectors of an interrupt kind, as VFIO `GET_IRQ_INFO` reports them; 0 if it has none.
    #[must_use]
    pub fn irq_count(&self, irq: Irq) -> u16 {
        match irq {
            Irq::Intx => u16::from(self.identity().interrupt_pin != 0),
            Irq::Msi => self.identity().msi_vectors(),
            Irq::Msix => self.identity().msix_vectors(),
        }
    }

    /// Registers (config space first), queues and counters by name, without side effects.
    #[must_use]
    pub fn inspect(&self) -> State {
        self.model.inspect()
    }
}
