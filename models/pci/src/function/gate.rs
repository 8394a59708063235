//! What stands between a model and its host: Bus Master Enable, interrupt masks, the interposer.

use understudy_device::{
    Bar, Bus, DmaFault, DmaFaultKind, InterruptMode, Job, JobId, Nanos, Tap, Vector, Verdict,
};

use super::Shell;
use crate::Host;
use crate::interpose::Signal;

/// The host as the model sees it.
pub(super) struct Gate<'a> {
    pub(super) host: &'a mut dyn Host,
    pub(super) shell: &'a mut Shell,
}

impl Gate<'_> {
    fn may_master(&self, iova: u64, len: usize) -> Result<(), DmaFault> {
        if self.shell.config.master_enabled() {
            return Ok(());
        }
        Err(DmaFault { iova, len: len as u64, kind: DmaFaultKind::BusMasterDisabled })
    }
}

impl Bus for Gate<'_> {
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.may_master(iova, into.len())?;
        let result = match &mut self.shell.interposer {
            None => self.host.dma_read(iova, into),
            Some(it) => it.dma_read(self.host, iova, into),
        };
        // Not `inspect_err`: it would copy what is not there.
        let Err(fault) = result else { return Ok(()) };
        // A read that nobody answers ends in Unsupported Request (PCI Express 5.0 §7.5.1.1.4).
        // Writes are posted: their fate is not known.
        if fault.kind == DmaFaultKind::Unmapped {
            self.shell.config.record_master_abort();
        }
        Err(fault)
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.may_master(iova, from.len())?;
        match &mut self.shell.interposer {
            None => self.host.dma_write(iova, from),
            Some(it) => it.dma_write(self.host, iova, from),
        }
    }

    /// Not if there is an interposer, which is to see what is read and written.
    fn dma_lend(&mut self, iova: u64, len: usize, work: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
        let lends = self.shell.interposer.is_none() && self.shell.config.master_enabled();
        lends && self.host.dma_lend(iova, len, work)
    }

    fn dma_fence(&mut self) {
        self.host.dma_fence();
    }

    fn raise(&mut self, vector: Vector) {
        let signal = match &mut self.shell.interposer {
            None => Signal::Pass,
            Some(it) => it.raise(self.host.now(), vector),
        };
        let vector = match signal {
            Signal::Pass => vector,
            Signal::Drop => return,
            Signal::Instead(other) => other,
        };
        self.shell.interrupts.raise(&self.shell.config, self.host, vector);
    }

    fn set_intx(&mut self, asserted: bool) {
        if let Some(it) = &mut self.shell.interposer
            && !it.line(self.host.now(), asserted)
        {
            return;
        }
        self.shell.interrupts.set_line(&self.shell.config, self.host, asserted);
    }

    fn interrupt_mode(&self) -> InterruptMode {
        self.shell.interrupts.mode(&self.shell.config, self.host)
    }

    fn now(&self) -> Nanos {
        self.host.now()
    }

    fn submit(&mut self, job: Job) -> JobId {
        let bytes = job.bytes();
        let id = self.host.submit(job);
        self.shell.jobs.insert(id, bytes);
        id
    }

    fn tap(&mut self, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        let Some(it) = &mut self.shell.interposer else {
            return self.host.tap(at, queue, entry);
        };
        let verdict = it.tap(self.host, at, queue, entry);
        let of_host = self.host.tap(at, queue, entry);
        if verdict == Verdict::Pass { of_host } else { verdict }
    }

    fn may_fetch(&mut self, queue: u16) -> bool {
        match &mut self.shell.interposer {
            None => true,
            Some(it) => it.may_fetch(self.host.now(), queue),
        }
    }

    fn shared_read(&mut self, bar: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.host.shared_read(bar, offset, into)
    }

    fn shared_write(&mut self, bar: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.host.shared_write(bar, offset, from)
    }
}
