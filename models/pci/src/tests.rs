//! A host and a model that record, and helpers. The facts are in the submodules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};

use understudy_device::{
    AccessError, Bar, BarKind, BarSpec, Bus, Capability, DeviceModel, DmaFault, DmaFaultKind,
    FinishedJob, Identity, InterruptMode, Job, JobId, Nanos, Progress, ResetKind, SharedArea,
    State, Vector,
};

use crate::{Host, Irq, PciFunction};

mod config_space;
mod function;
mod interrupts;

/// Guest memory is 0x1000 bytes at 0.
#[derive(Default)]
struct FakeHost {
    triggers: BTreeSet<(Irq, u16)>,
    signals: Vec<(Irq, u16)>,
    memory: BTreeMap<u64, u8>,
    shared: BTreeMap<u64, u8>,
    jobs: u64,
}

impl FakeHost {
    fn listening(irq: Irq, vectors: u16) -> Self {
        Self { triggers: (0..vectors).map(|v| (irq, v)).collect(), ..Self::default() }
    }

    fn take_signals(&mut self) -> Vec<(Irq, u16)> {
        std::mem::take(&mut self.signals)
    }
}

fn mapped(iova: u64, len: usize) -> Result<(), DmaFault> {
    let len = len as u64;
    let fault = DmaFault { iova, len, kind: DmaFaultKind::Unmapped };
    iova.checked_add(len).filter(|end| *end <= 0x1000).map(|_| ()).ok_or(fault)
}

impl Host for FakeHost {
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        mapped(iova, into.len())?;
        for (at, byte) in (iova..).zip(into) {
            *byte = self.memory.get(&at).copied().unwrap_or(0);
        }
        Ok(())
    }
    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        mapped(iova, from.len())?;
        self.memory.extend((iova..).zip(from.iter().copied()));
        Ok(())
    }
    fn dma_lend(&mut self, iova: u64, len: usize, work: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
        mapped(iova, len).is_ok_and(|()| {
            work(&mut vec![0; len]);
            true
        })
    }
    fn dma_fence(&mut self) {}
    fn signal(&mut self, irq: Irq, vector: u16) -> bool {
        let heard = self.triggers.contains(&(irq, vector));
        if heard {
            self.signals.push((irq, vector));
        }
        heard
    }
    fn has_triggers(&self, irq: Irq) -> bool {
        self.triggers.iter().any(|(kind, _)| *kind == irq)
    }
    fn now(&self) -> Nanos {
        Nanos(7)
    }
    fn submit(&mut self, _: Job) -> JobId {
        self.jobs += 1;
        JobId(self.jobs)
    }
    fn shared_read(&mut self, _: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        for (at, byte) in (offset..).zip(into) {
            *byte = self.shared.get(&at).copied().unwrap_or(0);
        }
        Ok(())
    }
    fn shared_write(&mut self, _: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.shared.extend((offset..).zip(from.iter().copied()));
        Ok(())
    }
}

/// What a test asks the model to do when it is next polled.
#[derive(Debug, Clone, Copy)]
enum Act {
    Raise(u16),
    Line(bool),
    Read(u64),
    Write(u64),
    Lend(u64),
    /// With as many bytes.
    Submit(usize),
}

/// What the model saw.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Saw {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Dma(Result<(), DmaFault>),
    Lent(bool),
    Mode(InterruptMode),
    Finished(JobId),
    Reset(ResetKind),
}

/// BAR 0 holds 0x100 bytes of storage and nothing else; each access is recorded.
struct FakeModel {
    identity: Identity,
    storage: Vec<u8>,
    acts: Receiver<Act>,
    saw: Sender<Saw>,
}

impl FakeModel {
    fn note(&self, saw: Saw) {
        // A test that has stopped listening is over.
        let _ = self.saw.send(saw);
    }
}

impl DeviceModel for FakeModel {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn read(
        &mut self,
        _: &mut dyn Bus,
        _: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        self.note(Saw::Read(offset, data.len()));
        let start = offset as usize;
        let from = self.storage.get(start..start + data.len());
        data.copy_from_slice(from.ok_or(AccessError::Unmapped { offset })?);
        Ok(())
    }
    fn write(
        &mut self,
        _: &mut dyn Bus,
        _: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        self.note(Saw::Write(offset, data.to_vec()));
        let start = offset as usize;
        let to = self.storage.get_mut(start..start + data.len());
        to.ok_or(AccessError::Unmapped { offset })?.copy_from_slice(data);
        Ok(())
    }
    fn poll(&mut self, bus: &mut dyn Bus, _: u32) -> Progress {
        while let Ok(act) = self.acts.try_recv() {
            match act {
                Act::Raise(vector) => bus.raise(Vector(vector)),
                Act::Line(asserted) => bus.set_intx(asserted),
                Act::Read(iova) => self.note(Saw::Dma(bus.dma_read(iova, &mut [0; 4]))),
                Act::Write(iova) => self.note(Saw::Dma(bus.dma_write(iova, &[1; 4]))),
                Act::Lend(iova) => {
                    self.note(Saw::Lent(bus.dma_lend(iova, 4, &mut |_| true)));
                }
                Act::Submit(bytes) => {
                    bus.submit(Job::new(|| ()).holding(bytes));
                }
            }
        }
        self.note(Saw::Mode(bus.interrupt_mode()));
        Progress::Idle
    }
    fn finish(&mut self, _: &mut dyn Bus, done: FinishedJob) {
        self.note(Saw::Finished(done.id));
    }
    fn reset(&mut self, kind: ResetKind) {
        self.storage.fill(0);
        self.note(Saw::Reset(kind));
    }
    fn inspect(&self) -> State {
        State::default()
    }
}

const VECTORS: u16 = 5;
/// Offsets in BAR 0.
const TABLE: u64 = 0x1000;
const PBA: u64 = 0x1800;
const SHARED: u64 = 0x2000;

fn identity(capabilities: Vec<Capability>) -> Identity {
    Identity {
        name: "fake",
        vendor_id: 0x1af4,
        device_id: 0x1054,
        subsystem_vendor_id: 0x8086,
        subsystem_id: 0x1100,
        revision_id: 3,
        class_code: 0x12_34_56,
        interrupt_pin: 1,
        bars: vec![
            BarSpec {
                bar: Bar(0),
                kind: BarKind::Memory64,
                prefetchable: true,
                size: 0x4000,
                shared: vec![SharedArea { offset: SHARED, size: 0x1000 }],
            },
            BarSpec {
                bar: Bar(2),
                kind: BarKind::Memory32,
                prefetchable: false,
                size: 0x100,
                shared: vec![],
            },
        ],
        capabilities,
        unmapped_read: 0x5a,
    }
}

fn msix() -> Capability {
    Capability::Msix { vectors: VECTORS, table: (Bar(0), TABLE as u32), pba: (Bar(0), PBA as u32) }
}

fn msi(maskable: bool) -> Capability {
    Capability::Msi { vectors: 4, maskable }
}

fn every_capability() -> Vec<Capability> {
    vec![
        Capability::PowerManagement,
        Capability::Express { flr: true },
        msi(true),
        msix(),
        Capability::Vendor { body: vec![1, 2, 3, 4, 5, 6] },
        Capability::VirtioConfigWindow { cfg_type: 5 },
    ]
}

/// A function, its host, and both ends of its model's strings.
struct Bench {
    function: PciFunction,
    host: FakeHost,
    acts: Sender<Act>,
    saw: Receiver<Saw>,
}

impl Bench {
    fn new(capabilities: Vec<Capability>) -> Self {
        Self::with(identity(capabilities), FakeHost::default())
    }

    fn with(identity: Identity, host: FakeHost) -> Self {
        let (acts, to_do) = channel();
        let (seen, saw) = channel();
        let model = FakeModel { identity, storage: vec![0; 0x100], acts: to_do, saw: seen };
        Self { function: PciFunction::new(Box::new(model)).unwrap(), host, acts, saw }
    }

    fn act(&mut self, act: Act) {
        self.acts.send(act).unwrap();
        self.function.poll(&mut self.host, 1);
    }

    fn saw(&self) -> Vec<Saw> {
        self.saw.try_iter().collect()
    }

    fn mode(&mut self) -> InterruptMode {
        self.saw();
        self.function.poll(&mut self.host, 1);
        match self.saw().as_slice() {
            [Saw::Mode(mode)] => *mode,
            other => panic!("saw {other:?}"),
        }
    }

    fn read(&mut self, offset: usize, len: usize) -> u64 {
        let mut data = [0; 8];
        self.function.config_read(&mut self.host, offset as u64, &mut data[..len]).unwrap();
        u64::from_le_bytes(data)
    }

    fn write(&mut self, offset: usize, len: usize, value: u64) {
        let data = value.to_le_bytes();
        self.function.config_write(&mut self.host, offset as u64, &data[..len]).unwrap();
    }

    fn bar_read(&mut self, offset: u64, len: usize) -> Result<u64, AccessError> {
        let mut data = [0; 8];
        self.function.bar_read(&mut self.host, Bar(0), offset, &mut data[..len])?;
        Ok(u64::from_le_bytes(data))
    }

    fn bar_write(&mut self, offset: u64, len: usize, value: u64) -> Result<(), AccessError> {
        self.function.bar_write(&mut self.host, Bar(0), offset, &value.to_le_bytes()[..len])
    }

    /// Walks the chain for a capability; vendor capabilities by position.
    fn find(&mut self, id: u8, nth: usize) -> usize {
        let mut at = self.read(0x34, 1) as usize;
        let mut left = nth;
        while at != 0 {
            if self.read(at, 1) == u64::from(id) {
                if left == 0 {
                    return at;
                }
                left -= 1;
            }
            at = self.read(at + 1, 1) as usize;
        }
        panic!("no capability {id:#x}");
    }

    /// Memory Space Enable and Bus Master Enable.
    fn enable(&mut self) {
        self.write(0x04, 2, 0x6);
    }

    fn image(&mut self) -> Vec<u8> {
        let mut data = vec![0; self.function.config_size() as usize];
        self.function.config_read(&mut self.host, 0, &mut data).unwrap();
        data
    }
}
