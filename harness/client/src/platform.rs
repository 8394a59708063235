//! What a guest's kernel gives a driver.

use understudy_device::Nanos;

use crate::error::PlatformError;

/// Memory that the device can reach. Owned by whoever allocated it; plain numbers, so that drivers
/// can hold it without borrowing the platform. What is never freed goes with the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaBuffer {
    /// Address for the device.
    pub iova: u64,
    /// Length in bytes.
    pub len: usize,
}

impl DmaBuffer {
    /// The address `offset` bytes in.
    #[must_use]
    pub fn at(&self, offset: usize) -> u64 {
        self.iova.wrapping_add(offset as u64)
    }
}

/// An interrupt kind and how many vectors of it a driver wants to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupts {
    /// None: the driver polls.
    None,
    /// The INTx line, as vector 0.
    Intx,
    /// MSI vectors from 0.
    Msi(u16),
    /// MSI-X vectors from 0.
    Msix(u16),
}

/// Whether waiting longer can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// The device did something, or may be doing something.
    Active,
    /// The device is idle and stays so until the driver acts: the awaited thing will not come.
    Quiet,
}

/// One function, seen from its driver.
///
/// Offsets are in bytes. Register accesses are 1, 2, 4 or 8 bytes, little-endian.
pub trait Platform {
    /// Size of config space in bytes: 256 or 4096.
    fn config_size(&self) -> u64;

    /// Reads config space.
    ///
    /// # Errors
    /// If the access is refused or the device is gone.
    fn config_read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PlatformError>;

    /// Writes config space.
    ///
    /// # Errors
    /// If the access is refused or the device is gone.
    fn config_write(&mut self, offset: u64, from: &[u8]) -> Result<(), PlatformError>;

    /// Reads BAR `bar` (0 to 5).
    ///
    /// # Errors
    /// If the access is refused or the device is gone.
    fn bar_read(&mut self, bar: u8, offset: u64, into: &mut [u8]) -> Result<(), PlatformError>;

    /// Writes BAR `bar` (0 to 5). The write may be posted: an error can surface later.
    ///
    /// # Errors
    /// If the access is refused or the device is gone.
    fn bar_write(&mut self, bar: u8, offset: u64, from: &[u8]) -> Result<(), PlatformError>;

    /// Allocates zeroed memory that the device can reach, aligned to `align` bytes (a power of
    /// two).
    ///
    /// # Errors
    /// [`PlatformError::OutOfMemory`].
    fn dma_alloc(&mut self, len: usize, align: usize) -> Result<DmaBuffer, PlatformError>;

    /// Gives memory back. A buffer that is not allocated is ignored.
    fn dma_free(&mut self, buffer: DmaBuffer);

    /// Copies memory at `iova` into `into`. Accesses of 2, 4 and 8 aligned bytes do not tear.
    ///
    /// # Errors
    /// [`PlatformError::OutsideMemory`].
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), PlatformError>;

    /// Copies `from` to memory at `iova`. Accesses of 2, 4 and 8 aligned bytes do not tear.
    ///
    /// # Errors
    /// [`PlatformError::OutsideMemory`].
    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), PlatformError>;

    /// Orders all earlier memory accesses before all later ones, as the device sees them.
    fn fence(&mut self);

    /// Receives these interrupts from now on, and no others. What was pending here is forgotten.
    ///
    /// # Errors
    /// If the function does not have them, or the device is gone.
    fn connect_interrupts(&mut self, interrupts: Interrupts) -> Result<(), PlatformError>;

    /// INTx only: the driver has served the device, the line may interrupt again.
    ///
    /// # Errors
    /// If the device is gone.
    fn unmask_intx(&mut self) -> Result<(), PlatformError>;

    /// Takes one delivered interrupt of `vector`, or waits for it until `deadline`. `false` if none
    /// came, or none will come.
    ///
    /// # Errors
    /// If the device is gone.
    fn wait_interrupt(&mut self, vector: u16, deadline: Nanos) -> Result<bool, PlatformError>;

    /// Lets the device run for a while and serves its requests. A polling driver calls this between
    /// looks at memory. Returns soon, and after `deadline` at the latest.
    ///
    /// # Errors
    /// If the device is gone.
    fn idle(&mut self, deadline: Nanos) -> Result<Activity, PlatformError>;

    /// The clock. Virtual in a simulation.
    fn now(&self) -> Nanos;
}

/// A platform behind a pointer is a platform.
macro_rules! forward {
    ($pointer:ty) => {
        impl<P: Platform + ?Sized> Platform for $pointer {
            fn config_size(&self) -> u64 {
                (**self).config_size()
            }

            fn config_read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
                (**self).config_read(offset, into)
            }

            fn config_write(&mut self, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
                (**self).config_write(offset, from)
            }

            fn bar_read(
                &mut self,
                bar: u8,
                offset: u64,
                into: &mut [u8],
            ) -> Result<(), PlatformError> {
                (**self).bar_read(bar, offset, into)
            }

            fn bar_write(
                &mut self,
                bar: u8,
                offset: u64,
                from: &[u8],
            ) -> Result<(), PlatformError> {
                (**self).bar_write(bar, offset, from)
            }

            fn dma_alloc(&mut self, len: usize, align: usize) -> Result<DmaBuffer, PlatformError> {
                (**self).dma_alloc(len, align)
            }

            fn dma_free(&mut self, buffer: DmaBuffer) {
                (**self).dma_free(buffer)
            }

            fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), PlatformError> {
                (**self).dma_read(iova, into)
            }

            fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), PlatformError> {
                (**self).dma_write(iova, from)
            }

            fn fence(&mut self) {
                (**self).fence()
            }

            fn connect_interrupts(&mut self, interrupts: Interrupts) -> Result<(), PlatformError> {
                (**self).connect_interrupts(interrupts)
            }

            fn unmask_intx(&mut self) -> Result<(), PlatformError> {
                (**self).unmask_intx()
            }

            fn wait_interrupt(
                &mut self,
                vector: u16,
                deadline: Nanos,
            ) -> Result<bool, PlatformError> {
                (**self).wait_interrupt(vector, deadline)
            }

            fn idle(&mut self, deadline: Nanos) -> Result<Activity, PlatformError> {
                (**self).idle(deadline)
            }

            fn now(&self) -> Nanos {
                (**self).now()
            }
        }
    };
}

forward!(&mut P);
forward!(Box<P>);

/// Registers and memory by width. Little-endian, as all of PCI and modern virtio is.
pub trait Access: Platform {
    /// Reads an 8-bit config register.
    ///
    /// # Errors
    /// As [`Platform::config_read`].
    fn config_u8(&mut self, offset: u64) -> Result<u8, PlatformError> {
        let mut bytes = [0; 1];
        self.config_read(offset, &mut bytes)?;
        Ok(u8::from_le_bytes(bytes))
    }

    /// Reads a 16-bit config register.
    ///
    /// # Errors
    /// As [`Platform::config_read`].
    fn config_u16(&mut self, offset: u64) -> Result<u16, PlatformError> {
        let mut bytes = [0; 2];
        self.config_read(offset, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Reads a 32-bit config register.
    ///
    /// # Errors
    /// As [`Platform::config_read`].
    fn config_u32(&mut self, offset: u64) -> Result<u32, PlatformError> {
        let mut bytes = [0; 4];
        self.config_read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads an 8-bit register.
    ///
    /// # Errors
    /// As [`Platform::bar_read`].
    fn bar_u8(&mut self, bar: u8, offset: u64) -> Result<u8, PlatformError> {
        let mut bytes = [0; 1];
        self.bar_read(bar, offset, &mut bytes)?;
        Ok(u8::from_le_bytes(bytes))
    }

    /// Reads a 16-bit register.
    ///
    /// # Errors
    /// As [`Platform::bar_read`].
    fn bar_u16(&mut self, bar: u8, offset: u64) -> Result<u16, PlatformError> {
        let mut bytes = [0; 2];
        self.bar_read(bar, offset, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Reads a 32-bit register.
    ///
    /// # Errors
    /// As [`Platform::bar_read`].
    fn bar_u32(&mut self, bar: u8, offset: u64) -> Result<u32, PlatformError> {
        let mut bytes = [0; 4];
        self.bar_read(bar, offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads 16 bits of memory.
    ///
    /// # Errors
    /// As [`Platform::dma_read`].
    fn dma_u16(&mut self, iova: u64) -> Result<u16, PlatformError> {
        let mut bytes = [0; 2];
        self.dma_read(iova, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }
}

impl<P: Platform + ?Sized> Access for P {}
