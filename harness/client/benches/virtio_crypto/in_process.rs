//! The least that a host can be: the function and plain memory in the driver's own thread. What it
//! measures is driver, function, ring and engine, and nothing else.

use std::time::Instant;

use understudy_client::allocator::Allocator;
use understudy_client::{Activity, DmaBuffer, Interrupts, Platform, PlatformError};
use understudy_device::{
    AccessError, Bar, DeviceModel, DmaFault, DmaFaultKind, FinishedJob, Job, JobId, Nanos, Progress,
};
use understudy_pci::{Host, Irq, PciFunction};

const BASE: u64 = 0x1_4000_0000;
const SIZE: usize = 16 << 20;
const PAGE: usize = 4096;

/// Memory and jobs. Interrupts go nowhere: the driver polls.
pub(crate) struct World {
    /// Lends memory to the device, which no other can touch. A host of guests cannot.
    pub(crate) lends: bool,
    memory: Vec<u8>,
    /// Where guest memory begins in `memory`: at a page, as it does for a guest.
    first: usize,
    start: Instant,
    jobs: Vec<FinishedJob>,
    next_job: u64,
}

fn fault(iova: u64, len: usize) -> DmaFault {
    DmaFault { iova, len: len as u64, kind: DmaFaultKind::Unmapped }
}

impl World {
    fn slice(&mut self, iova: u64, len: usize) -> Result<&mut [u8], DmaFault> {
        let start = iova.checked_sub(BASE).and_then(|at| usize::try_from(at).ok());
        let start = start.and_then(|at| at.checked_add(self.first));
        let range = start.and_then(|start| Some(start..start.checked_add(len)?));
        range.and_then(|range| self.memory.get_mut(range)).ok_or(fault(iova, len))
    }
}

impl Host for World {
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        into.copy_from_slice(self.slice(iova, into.len())?);
        Ok(())
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.slice(iova, from.len())?.copy_from_slice(from);
        Ok(())
    }

    fn dma_lend(&mut self, iova: u64, len: usize, work: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
        self.lends && self.slice(iova, len).map(work).is_ok()
    }

    fn dma_fence(&mut self) {}

    fn signal(&mut self, _: Irq, _: u16) -> bool {
        false
    }

    fn has_triggers(&self, _: Irq) -> bool {
        false
    }

    fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn submit(&mut self, job: Job) -> JobId {
        self.next_job += 1;
        let id = JobId(self.next_job);
        self.jobs.push(FinishedJob { id, output: job.run() });
        id
    }

    fn shared_read(&mut self, _: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        Err(fault(offset, into.len()))
    }

    fn shared_write(&mut self, _: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault> {
        Err(fault(offset, from.len()))
    }
}

/// A function as it is called here.
pub(crate) trait Function {
    fn config_size(&self) -> u64;
    fn config_read(&mut self, host: &mut dyn Host, at: u64, data: &mut [u8]) -> Access;
    fn config_write(&mut self, host: &mut dyn Host, at: u64, data: &[u8]) -> Access;
    fn bar_read(&mut self, host: &mut dyn Host, bar: Bar, at: u64, data: &mut [u8]) -> Access;
    fn bar_write(&mut self, host: &mut dyn Host, bar: Bar, at: u64, data: &[u8]) -> Access;
    fn poll(&mut self, host: &mut dyn Host, budget: u32) -> Progress;
    fn finish(&mut self, host: &mut dyn Host, done: FinishedJob);
}

pub(crate) type Access = Result<(), AccessError>;

/// Implements [`Function`] by the methods of those names.
macro_rules! function {
    ($function:ty) => {
        impl $crate::in_process::Function for $function {
            fn config_size(&self) -> u64 {
                understudy_pci::PciFunction::config_size(self)
            }

            fn config_read(
                &mut self,
                host: &mut dyn understudy_pci::Host,
                at: u64,
                data: &mut [u8],
            ) -> $crate::in_process::Access {
                <$function>::config_read(self, host, at, data)
            }

            fn config_write(
                &mut self,
                host: &mut dyn understudy_pci::Host,
                at: u64,
                data: &[u8],
            ) -> $crate::in_process::Access {
                <$function>::config_write(self, host, at, data)
            }

            fn bar_read(
                &mut self,
                host: &mut dyn understudy_pci::Host,
                bar: understudy_device::Bar,
                at: u64,
                data: &mut [u8],
            ) -> $crate::in_process::Access {
                <$function>::bar_read(self, host, bar, at, data)
            }

            fn bar_write(
                &mut self,
                host: &mut dyn understudy_pci::Host,
                bar: understudy_device::Bar,
                at: u64,
                data: &[u8],
            ) -> $crate::in_process::Access {
                <$function>::bar_write(self, host, bar, at, data)
            }

            fn poll(
                &mut self,
                host: &mut dyn understudy_pci::Host,
                budget: u32,
            ) -> understudy_device::Progress {
                <$function>::poll(self, host, budget)
            }

            fn finish(
                &mut self,
                host: &mut dyn understudy_pci::Host,
                done: understudy_device::FinishedJob,
            ) {
                <$function>::finish(self, host, done);
            }
        }
    };
}

function!(PciFunction);

/// A function in this thread.
pub(crate) struct InProcess<F = PciFunction> {
    function: F,
    /// What the function's work runs in, for those who measure it.
    pub(crate) around: fn(&mut dyn FnMut()),
    pub(crate) world: World,
    allocator: Allocator,
}

impl InProcess {
    pub(crate) fn new(model: Box<dyn DeviceModel>) -> anyhow::Result<Self> {
        Ok(Self::with(PciFunction::new(model)?))
    }
}

impl<F> InProcess<F> {
    pub(crate) fn with(function: F) -> Self {
        let memory = vec![0; SIZE + PAGE];
        let first = memory.as_ptr().align_offset(PAGE);
        let world = World {
            lends: true,
            memory,
            first,
            start: Instant::now(),
            jobs: Vec::new(),
            next_job: 0,
        };
        let allocator = Allocator::new(BASE, SIZE as u64);
        let around = |work: &mut dyn FnMut()| work();
        Self { function, around, world, allocator }
    }
}

fn refused(error: AccessError) -> PlatformError {
    PlatformError::Refused(error.to_string())
}

impl<F: Function> Platform for InProcess<F> {
    fn config_size(&self) -> u64 {
        self.function.config_size()
    }

    fn config_read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.function.config_read(&mut self.world, offset, into).map_err(refused)
    }

    fn config_write(&mut self, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.function.config_write(&mut self.world, offset, from).map_err(refused)
    }

    fn bar_read(&mut self, bar: u8, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.function.bar_read(&mut self.world, Bar(bar), offset, into).map_err(refused)
    }

    fn bar_write(&mut self, bar: u8, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.function.bar_write(&mut self.world, Bar(bar), offset, from).map_err(refused)
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
        let len = into.len();
        let outside = |_| PlatformError::OutsideMemory { iova, len };
        Host::dma_read(&mut self.world, iova, into).map_err(outside)
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), PlatformError> {
        let len = from.len();
        let outside = |_| PlatformError::OutsideMemory { iova, len };
        Host::dma_write(&mut self.world, iova, from).map_err(outside)
    }

    fn fence(&mut self) {}

    fn connect_interrupts(&mut self, interrupts: Interrupts) -> Result<(), PlatformError> {
        if interrupts == Interrupts::None { Ok(()) } else { Err(PlatformError::NoInterrupts) }
    }

    fn unmask_intx(&mut self) -> Result<(), PlatformError> {
        Ok(())
    }

    fn wait_interrupt(&mut self, _: u16, _: Nanos) -> Result<bool, PlatformError> {
        Err(PlatformError::NoInterrupts)
    }

    fn idle(&mut self, _: Nanos) -> Result<Activity, PlatformError> {
        for job in std::mem::take(&mut self.world.jobs) {
            self.function.finish(&mut self.world, job);
        }
        let (function, world) = (&mut self.function, &mut self.world);
        let mut progress = Progress::Idle;
        (self.around)(&mut || progress = function.poll(world, 64));
        let quiet = progress == Progress::Idle && self.world.jobs.is_empty();
        // Idle also means that all is done: the driver must look once more before it gives up.
        Ok(if quiet { Activity::Quiet } else { Activity::Active })
    }

    fn now(&self) -> Nanos {
        Host::now(&self.world)
    }
}
