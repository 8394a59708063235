//! A ring that is a plain list, and a bus that is a plain buffer.

mod pump;
mod sg;

use std::collections::VecDeque;

use understudy_device::{
    Bar, Bus, DmaFault, DmaFaultKind, InterruptMode, Job, JobId, Nanos, Tap, Vector, Verdict,
};

/// First address of the memory of [`TestBus`].
const BASE: u64 = 0x1000;

/// Decides what happens to an entry.
type TapFn = Box<dyn FnMut(Tap, &mut [u8]) -> Verdict>;

struct TestBus {
    memory: Vec<u8>,
    now: Nanos,
    fences: usize,
    tap: TapFn,
    lends: bool,
    lent: usize,
}

impl TestBus {
    fn new(len: usize) -> Self {
        let memory = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let tap: TapFn = Box::new(|_, _| Verdict::Pass);
        Self { memory, now: Nanos(0), fences: 0, tap, lends: false, lent: 0 }
    }

    fn range(&self, iova: u64, len: usize) -> Result<std::ops::Range<usize>, DmaFault> {
        let fault = DmaFault { iova, len: len as u64, kind: DmaFaultKind::Unmapped };
        let start = iova.checked_sub(BASE).and_then(|at| usize::try_from(at).ok()).ok_or(fault)?;
        let end = start.checked_add(len).filter(|end| *end <= self.memory.len()).ok_or(fault)?;
        Ok(start..end)
    }
}

impl Bus for TestBus {
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
    fn dma_lend(&mut self, iova: u64, len: usize, work: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
        let Some(range) = self.range(iova, len).ok().filter(|_| self.lends) else { return false };
        work(&mut self.memory[range]);
        self.lent += 1;
        true
    }
    fn dma_fence(&mut self) {
        self.fences += 1;
    }
    fn raise(&mut self, _: Vector) {}
    fn set_intx(&mut self, _: bool) {}
    fn interrupt_mode(&self) -> InterruptMode {
        InterruptMode::Intx
    }
    fn now(&self) -> Nanos {
        self.now
    }
    fn submit(&mut self, _: Job) -> JobId {
        unreachable!()
    }
    fn tap(&mut self, at: Tap, _: u16, entry: &mut [u8]) -> Verdict {
        (self.tap)(at, entry)
    }
    fn shared_read(&mut self, _: Bar, _: u64, _: &mut [u8]) -> Result<(), DmaFault> {
        unreachable!()
    }
    fn shared_write(&mut self, _: Bar, _: u64, _: &[u8]) -> Result<(), DmaFault> {
        unreachable!()
    }
}

/// Entries to fetch and completions written, in order.
#[derive(Default)]
struct ListRing {
    entries: VecDeque<u8>,
    completed: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct Byte([u8; 1]);

impl crate::Entry for Byte {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl crate::Ring for ListRing {
    type Entry = Byte;
    type Completion = Byte;
    type Error = std::convert::Infallible;

    fn fetch(&mut self, _: &mut dyn Bus, entry: &mut Byte) -> Result<bool, Self::Error> {
        let next = self.entries.pop_front();
        entry.0 = [next.unwrap_or(0)];
        Ok(next.is_some())
    }

    fn complete(&mut self, _: &mut dyn Bus, completion: &mut Byte) -> Result<(), Self::Error> {
        self.completed.push(completion.0[0]);
        Ok(())
    }
}
