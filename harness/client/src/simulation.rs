//! A driver's platform in a simulation.

use std::fmt;

use understudy_device::{AccessError, Bar, DeviceModel, DmaFault, IdentityError, Nanos};
use understudy_pci::Irq;
use understudy_simulation::{Permission, Simulation, Step};

use crate::allocator::Allocator;
use crate::error::PlatformError;
use crate::platform::{Activity, DmaBuffer, Interrupts, Platform};

/// Where guest memory starts: not at zero, and beyond what 32 bits can say.
const MEMORY_BASE: u64 = 0x1_4000_0000;
/// Guest memory in bytes. Pages that nobody touches cost nothing.
const MEMORY_SIZE: u64 = 64 << 20;

/// A function in a [`Simulation`]. The device works only while its driver waits.
pub struct SimulationPlatform {
    simulation: Simulation,
    allocator: Allocator,
    interrupts: Interrupts,
}

impl SimulationPlatform {
    /// Puts a model at power-on into a simulation with 64 MiB of guest memory.
    ///
    /// # Errors
    /// As [`Simulation::new`].
    pub fn new(model: Box<dyn DeviceModel>, seed: u64) -> Result<Self, IdentityError> {
        let mut simulation = Simulation::new(model, seed)?;
        // A fresh simulation has room for this; if it had not, every access would say so.
        let mapped = simulation.memory().map(MEMORY_BASE, MEMORY_SIZE, Permission::ReadWrite);
        let size = if mapped.is_ok() { MEMORY_SIZE } else { 0 };
        let allocator = Allocator::new(MEMORY_BASE, size);
        Ok(Self { simulation, allocator, interrupts: Interrupts::None })
    }

    /// The simulation beneath.
    pub fn simulation(&mut self) -> &mut Simulation {
        &mut self.simulation
    }

    /// Bytes of guest memory in use.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.allocator.in_use()
    }

    fn trigger(&mut self, set: bool) -> Result<(), PlatformError> {
        let Some((irq, count)) = irq(self.interrupts) else { return Ok(()) };
        let done = self.simulation.set_triggers(irq, 0, count, set);
        done.map_err(|_| PlatformError::NoInterrupts)
    }

    fn take_interrupt(&mut self, vector: u16) -> bool {
        irq(self.interrupts).is_some_and(|(irq, _)| self.simulation.take_interrupt(irq, vector))
    }
}

fn irq(interrupts: Interrupts) -> Option<(Irq, u16)> {
    match interrupts {
        Interrupts::None => None,
        Interrupts::Intx => Some((Irq::Intx, 1)),
        Interrupts::Msi(count) => Some((Irq::Msi, count)),
        Interrupts::Msix(count) => Some((Irq::Msix, count)),
    }
}

fn refused(error: AccessError) -> PlatformError {
    PlatformError::Refused(error.to_string())
}

fn outside(fault: DmaFault) -> PlatformError {
    let len = usize::try_from(fault.len).unwrap_or(usize::MAX);
    PlatformError::OutsideMemory { iova: fault.iova, len }
}

impl Platform for SimulationPlatform {
    fn config_size(&self) -> u64 {
        self.simulation.function().config_size()
    }

    fn config_read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.simulation.config_read(offset, into).map_err(refused)
    }

    fn config_write(&mut self, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.simulation.config_write(offset, from).map_err(refused)
    }

    fn bar_read(&mut self, bar: u8, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.simulation.bar_read(Bar(bar), offset, into).map_err(refused)
    }

    fn bar_write(&mut self, bar: u8, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.simulation.bar_write(Bar(bar), offset, from).map_err(refused)
    }

    fn dma_alloc(&mut self, len: usize, align: usize) -> Result<DmaBuffer, PlatformError> {
        let at = self.allocator.alloc(len as u64, align as u64);
        let iova = at.ok_or(PlatformError::OutOfMemory { len })?;
        self.dma_write(iova, &vec![0; len])?;
        Ok(DmaBuffer { iova, len })
    }

    fn dma_free(&mut self, buffer: DmaBuffer) {
        self.allocator.free(buffer.iova);
    }

    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.simulation.memory().read(iova, into).map_err(outside)
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.simulation.memory().write(iova, from).map_err(outside)
    }

    fn fence(&mut self) {
        // One thread: everything is in order.
    }

    fn connect_interrupts(&mut self, interrupts: Interrupts) -> Result<(), PlatformError> {
        self.trigger(false)?;
        self.interrupts = interrupts;
        self.simulation.host_mut().forget_interrupts();
        self.trigger(true)
    }

    fn unmask_intx(&mut self) -> Result<(), PlatformError> {
        self.simulation.set_irq_mask(Irq::Intx, 0, 1, false);
        Ok(())
    }

    fn wait_interrupt(&mut self, vector: u16, deadline: Nanos) -> Result<bool, PlatformError> {
        loop {
            if self.take_interrupt(vector) {
                return Ok(true);
            }
            if self.idle(deadline)? == Activity::Quiet || self.now() >= deadline {
                return Ok(self.take_interrupt(vector));
            }
        }
    }

    fn idle(&mut self, deadline: Nanos) -> Result<Activity, PlatformError> {
        match self.simulation.step_before(deadline) {
            Step::Quiet => Ok(Activity::Quiet),
            _ => Ok(Activity::Active),
        }
    }

    fn now(&self) -> Nanos {
        self.simulation.now()
    }
}

impl fmt::Debug for SimulationPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let simulation = &self.simulation;
        f.debug_struct("SimulationPlatform")
            .field("seed", &simulation.seed())
            .field("trace", simulation.trace())
            .finish_non_exhaustive()
    }
}
