//! A host with nothing in it, to probe registers with.

use understudy_device::{Bar, DmaFault, DmaFaultKind, Job, JobId, Nanos};
use understudy_pci::{Host, Irq};

pub(crate) struct Nobody;

fn unmapped(iova: u64, len: usize) -> DmaFault {
    DmaFault { iova, len: len as u64, kind: DmaFaultKind::Unmapped }
}

impl Host for Nobody {
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        Err(unmapped(iova, into.len()))
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        Err(unmapped(iova, from.len()))
    }

    fn dma_fence(&mut self) {}

    fn signal(&mut self, _: Irq, _: u16) -> bool {
        false
    }

    fn has_triggers(&self, _: Irq) -> bool {
        false
    }

    fn now(&self) -> Nanos {
        Nanos(0)
    }

    fn submit(&mut self, _: Job) -> JobId {
        JobId(0)
    }

    fn shared_read(&mut self, _: Bar, _: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        into.fill(0);
        Ok(())
    }

    fn shared_write(&mut self, _: Bar, _: u64, _: &[u8]) -> Result<(), DmaFault> {
        Ok(())
    }
}
