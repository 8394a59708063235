//! A host in this process, and devices to try drivers on.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::{BTreeMap, VecDeque};

use understudy_client::allocator::Allocator;
use understudy_client::{Activity, DmaBuffer, Interrupts, Platform, PlatformError};
use understudy_device::{
    Bar, DeviceModel, DmaFault, DmaFaultKind, FinishedJob, Job, JobId, Nanos, Progress,
};
use understudy_pci::{Host, Irq, PciFunction};

const BASE: u64 = 0x1_4000_0000;
/// What one look of a polling driver costs in virtual time.
const LOOK_NANOS: u64 = 100;

/// The host's side: memory, triggers, clock and jobs.
struct World {
    memory: Vec<u8>,
    now: u64,
    listening: Interrupts,
    signals: BTreeMap<u16, u64>,
    jobs: VecDeque<(JobId, Job)>,
    next_job: u64,
}

impl World {
    fn range(&self, iova: u64, len: usize) -> Result<std::ops::Range<usize>, DmaFault> {
        let fault = DmaFault { iova, len: len as u64, kind: DmaFaultKind::Unmapped };
        let start = iova.checked_sub(BASE).and_then(|at| usize::try_from(at).ok()).ok_or(fault)?;
        let end = start.checked_add(len).filter(|end| *end <= self.memory.len()).ok_or(fault)?;
        Ok(start..end)
    }

    fn listens(&self, irq: Irq, vector: u16) -> bool {
        match (self.listening, irq) {
            (Interrupts::Intx, Irq::Intx) => vector == 0,
            (Interrupts::Msi(n), Irq::Msi) | (Interrupts::Msix(n), Irq::Msix) => vector < n,
            _ => false,
        }
    }
}

impl Host for World {
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        let range = self.range(iova, into.len())?;
        into.copy_from_slice(&self.memory[range]);
        Ok(())
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        let range = self.range(iova, from.len())?;
        self.memory[range].copy_from_slice(from);
        Ok(())
    }

    fn dma_fence(&mut self) {}

    fn signal(&mut self, irq: Irq, vector: u16) -> bool {
        let listens = self.listens(irq, vector);
        if listens {
            *self.signals.entry(vector).or_default() += 1;
        }
        listens
    }

    fn has_triggers(&self, irq: Irq) -> bool {
        self.listens(irq, 0)
    }

    fn now(&self) -> Nanos {
        Nanos(self.now)
    }

    fn submit(&mut self, job: Job) -> JobId {
        self.next_job += 1;
        let id = JobId(self.next_job);
        self.jobs.push_back((id, job));
        id
    }

    fn shared_read(&mut self, _: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        let len = into.len() as u64;
        Err(DmaFault { iova: offset, len, kind: DmaFaultKind::Unmapped })
    }

    fn shared_write(&mut self, _: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault> {
        let len = from.len() as u64;
        Err(DmaFault { iova: offset, len, kind: DmaFaultKind::Unmapped })
    }
}

/// A function in this process. The device runs when the driver waits.
pub(crate) struct InProcess {
    function: PciFunction,
    world: World,
    allocator: Allocator,
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InProcess")
    }
}

impl InProcess {
    pub(crate) fn new(model: Box<dyn DeviceModel>) -> Self {
        let size = 16 << 20;
        Self {
            function: PciFunction::new(model).unwrap(),
            world: World {
                memory: vec![0; size],
                now: 0,
                listening: Interrupts::None,
                signals: BTreeMap::new(),
                jobs: VecDeque::new(),
                next_job: 0,
            },
            allocator: Allocator::new(BASE, size as u64),
        }
    }

    pub(crate) fn in_use(&self) -> u64 {
        self.allocator.in_use()
    }

    /// Lets the device work; whether it did anything, or will.
    fn step(&mut self) -> Activity {
        if let Some((id, job)) = self.world.jobs.pop_front() {
            let output = job.run();
            self.function.finish(&mut self.world, FinishedJob { id, output });
            return Activity::Active;
        }
        let mut progress = self.function.poll(&mut self.world, 64);
        if progress == Progress::Idle {
            progress = self.function.park(&mut self.world);
        }
        match progress {
            Progress::More => Activity::Active,
            Progress::Until(due) => {
                self.world.now = self.world.now.max(due.0);
                Activity::Active
            }
            Progress::Idle if !self.world.jobs.is_empty() => Activity::Active,
            Progress::Idle => Activity::Quiet,
        }
    }
}

impl Platform for InProcess {
    fn config_size(&self) -> u64 {
        self.function.config_size()
    }

    fn config_read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        let read = self.function.config_read(&mut self.world, offset, into);
        read.map_err(|error| PlatformError::Refused(error.to_string()))
    }

    fn config_write(&mut self, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        let written = self.function.config_write(&mut self.world, offset, from);
        written.map_err(|error| PlatformError::Refused(error.to_string()))
    }

    fn bar_read(&mut self, bar: u8, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        let read = self.function.bar_read(&mut self.world, Bar(bar), offset, into);
        read.map_err(|error| PlatformError::Refused(error.to_string()))
    }

    fn bar_write(&mut self, bar: u8, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        let written = self.function.bar_write(&mut self.world, Bar(bar), offset, from);
        written.map_err(|error| PlatformError::Refused(error.to_string()))
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
        let read = Host::dma_read(&mut self.world, iova, into);
        read.map_err(|_| PlatformError::OutsideMemory { iova, len })
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), PlatformError> {
        let written = Host::dma_write(&mut self.world, iova, from);
        written.map_err(|_| PlatformError::OutsideMemory { iova, len: from.len() })
    }

    fn fence(&mut self) {}

    fn connect_interrupts(&mut self, interrupts: Interrupts) -> Result<(), PlatformError> {
        self.world.listening = interrupts;
        self.world.signals.clear();
        self.function.triggers_changed(&mut self.world);
        Ok(())
    }

    fn unmask_intx(&mut self) -> Result<(), PlatformError> {
        self.function.set_irq_mask(&mut self.world, Irq::Intx, 0, 1, false);
        Ok(())
    }

    fn wait_interrupt(&mut self, vector: u16, deadline: Nanos) -> Result<bool, PlatformError> {
        loop {
            if let Some(count) = self.world.signals.get_mut(&vector)
                && *count > 0
            {
                *count -= 1;
                return Ok(true);
            }
            if self.idle(deadline)? == Activity::Quiet || self.now() >= deadline {
                return Ok(self.world.signals.get(&vector).is_some_and(|count| *count > 0));
            }
        }
    }

    fn idle(&mut self, _: Nanos) -> Result<Activity, PlatformError> {
        self.world.now += LOOK_NANOS;
        Ok(self.step())
    }

    fn now(&self) -> Nanos {
        Nanos(self.world.now)
    }
}
