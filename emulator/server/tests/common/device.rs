//! A device with registers, a copy engine, INTx, MSI, MSI-X, a timer and a shared page.

use understudy_device::{
    AccessError, Bar, BarKind, BarSpec, Bus, Capability, Counter, DeviceModel, DmaFault,
    DmaFaultKind, FinishedJob, Identity, Job, Nanos, Progress, ResetKind, SharedArea, State,
    Vector,
};

/// Registers of BAR 0, 4 bytes each unless it says otherwise.
pub(crate) mod reg {
    /// Always [`super::ID`].
    pub(crate) const ID: u64 = 0x00;
    pub(crate) const SCRATCH: u64 = 0x04;
    /// 8 bytes.
    pub(crate) const SOURCE: u64 = 0x08;
    /// 8 bytes.
    pub(crate) const TARGET: u64 = 0x10;
    pub(crate) const LENGTH: u64 = 0x18;
    /// Starts a copy: [`super::COPY`] or [`super::COPY_BY_JOB`].
    pub(crate) const DOORBELL: u64 = 0x1c;
    /// [`super::IDLE`], [`super::BUSY`], [`super::DONE`] or 0x100 + a fault kind.
    pub(crate) const STATUS: u64 = 0x20;
    /// The level of INTx.
    pub(crate) const LINE: u64 = 0x24;
    /// Raises this vector.
    pub(crate) const RAISE: u64 = 0x28;
    /// Raises vector 0 after this many nanoseconds.
    pub(crate) const TIMER: u64 = 0x2c;
    /// While it is 1, there is always more to do.
    pub(crate) const ENDLESS: u64 = 0x30;
    /// Copies done.
    pub(crate) const COPIES: u64 = 0x34;
    /// Reads SOURCE from client memory before it returns 4 bytes of it.
    pub(crate) const PEEK: u64 = 0x38;
    /// While it is 1, the device reads SOURCE from client memory once before the host sleeps.
    pub(crate) const PARK_PEEK: u64 = 0x3c;
    /// Nothing is there.
    pub(crate) const HOLE: u64 = 0x800;
}

pub(crate) const ID: u32 = 0x7465_7374;
pub(crate) const COPY: u32 = 1;
pub(crate) const COPY_BY_JOB: u32 = 2;
pub(crate) const IDLE: u32 = 0;
pub(crate) const BUSY: u32 = 1;
pub(crate) const DONE: u32 = 2;
/// Most bytes of one copy.
pub(crate) const MAX_COPY: usize = 4 << 20;
/// Vectors of MSI-X.
pub(crate) const VECTORS: u16 = 40;
/// The BAR with MSI-X table and pending bits.
pub(crate) const MSIX_BAR: u32 = 2;
pub(crate) const PBA: u32 = 0x800;
/// The BAR with the shared area, and the area.
pub(crate) const SHARED_BAR: u32 = 4;
pub(crate) const SHARED: SharedArea = SharedArea { offset: 0x1000, size: 0x2000 };

pub(crate) fn fault_status(kind: DmaFaultKind) -> u32 {
    0x100 + kind as u32
}

#[derive(Debug, Default)]
struct Registers {
    scratch: u32,
    source: u64,
    target: u64,
    length: u32,
    status: u32,
    start: u32,
    endless: bool,
    timer: Option<Nanos>,
    copies: u64,
    park_peek: bool,
}

pub(crate) struct TestDevice {
    identity: Identity,
    now: Registers,
    resets: u64,
}

impl TestDevice {
    pub(crate) fn new() -> Self {
        let bar = |index, size, shared: &[SharedArea]| BarSpec {
            bar: Bar(index),
            kind: BarKind::Memory64,
            prefetchable: false,
            size,
            shared: shared.to_vec(),
        };
        let identity = Identity {
            name: "test",
            vendor_id: 0x1234,
            device_id: 0x5678,
            subsystem_vendor_id: 0x1234,
            subsystem_id: 1,
            revision_id: 2,
            class_code: 0x0b_40_00,
            interrupt_pin: 1,
            bars: vec![bar(0, 0x1000, &[]), bar(2, 0x1000, &[]), bar(4, 0x4000, &[SHARED])],
            capabilities: vec![
                Capability::Express { flr: true },
                Capability::Msi { vectors: 4, maskable: true },
                Capability::Msix { vectors: VECTORS, table: (Bar(2), 0), pba: (Bar(2), PBA) },
            ],
            unmapped_read: 0xee,
        };
        Self { identity, now: Registers::default(), resets: 0 }
    }

    fn load(&mut self, bus: &mut dyn Bus, offset: u64) -> Option<u64> {
        let now = &self.now;
        Some(match offset {
            reg::ID => ID.into(),
            reg::SCRATCH => now.scratch.into(),
            reg::SOURCE => now.source,
            reg::TARGET => now.target,
            reg::LENGTH => now.length.into(),
            reg::STATUS => now.status.into(),
            reg::COPIES => now.copies,
            reg::PEEK => {
                let mut word = [0; 4];
                match bus.dma_read(now.source, &mut word) {
                    Ok(()) => u32::from_le_bytes(word).into(),
                    Err(fault) => fault_status(fault.kind).into(),
                }
            }
            _ => return None,
        })
    }

    fn store(&mut self, bus: &mut dyn Bus, offset: u64, value: u64) -> Option<()> {
        let now = &mut self.now;
        let [b0, b1, b2, b3, ..] = value.to_le_bytes();
        let word = u32::from_le_bytes([b0, b1, b2, b3]);
        match offset {
            reg::SCRATCH => now.scratch = word,
            reg::SOURCE => now.source = value,
            reg::TARGET => now.target = value,
            reg::LENGTH => now.length = word,
            reg::DOORBELL => (now.start, now.status) = (word, BUSY),
            reg::LINE => bus.set_intx(word != 0),
            reg::RAISE => bus.raise(Vector(u16::try_from(word).unwrap_or(u16::MAX))),
            reg::TIMER => now.timer = Some(bus.now().plus(value)),
            reg::ENDLESS => now.endless = word != 0,
            reg::PARK_PEEK => now.park_peek = word != 0,
            _ => return None,
        }
        Some(())
    }

    /// Reads the source of a copy.
    fn fetch(&self, bus: &mut dyn Bus) -> Result<Vec<u8>, DmaFault> {
        let mut data = vec![0; (self.now.length as usize).min(MAX_COPY)];
        bus.dma_read(self.now.source, &mut data).map(|()| data)
    }

    /// Writes the target of a copy and tells the driver.
    fn complete(&mut self, bus: &mut dyn Bus, data: Result<Vec<u8>, DmaFault>) {
        let target = self.now.target;
        let result = data.and_then(|data| bus.dma_write(target, &data));
        bus.dma_fence();
        self.now.status = result.map_or_else(|fault| fault_status(fault.kind), |()| DONE);
        self.now.copies += 1;
        bus.raise(Vector(0));
    }
}

impl DeviceModel for TestDevice {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        if bar != Bar(0) || !offset.is_multiple_of(4) || data.len() > 8 {
            return Err(AccessError::Unmapped { offset });
        }
        let value = self.load(bus, offset).ok_or(AccessError::Unmapped { offset })?;
        data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
        Ok(())
    }

    fn write(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        if bar != Bar(0) || !offset.is_multiple_of(4) || data.len() > 8 {
            return Err(AccessError::Unmapped { offset });
        }
        let mut value = [0; 8];
        value[..data.len()].copy_from_slice(data);
        self.store(bus, offset, u64::from_le_bytes(value)).ok_or(AccessError::Unmapped { offset })
    }

    fn poll(&mut self, bus: &mut dyn Bus, _: u32) -> Progress {
        match std::mem::take(&mut self.now.start) {
            COPY => {
                let data = self.fetch(bus);
                self.complete(bus, data);
            }
            COPY_BY_JOB => match self.fetch(bus) {
                Ok(data) => {
                    bus.submit(Job::new(move || data));
                }
                Err(fault) => self.complete(bus, Err(fault)),
            },
            _ => {}
        }
        if self.now.timer.is_some_and(|at| bus.now() >= at) {
            self.now.timer = None;
            bus.raise(Vector(0));
        }
        match self.now.timer {
            _ if self.now.endless => Progress::More,
            Some(at) => Progress::Until(at),
            None => Progress::Idle,
        }
    }

    fn park(&mut self, bus: &mut dyn Bus) -> Progress {
        if std::mem::take(&mut self.now.park_peek) {
            let _ = bus.dma_read(self.now.source, &mut [0; 4]);
        }
        Progress::Idle
    }

    fn finish(&mut self, bus: &mut dyn Bus, done: FinishedJob) {
        let data: Vec<u8> = done.into_output().unwrap();
        self.complete(bus, Ok(data));
    }

    fn reset(&mut self, kind: ResetKind) {
        self.now = Registers::default();
        self.resets = if kind == ResetKind::PowerOn { 0 } else { self.resets + 1 };
    }

    fn inspect(&self) -> State {
        let counter = |name: &str, value| Counter { name: name.into(), value };
        let counters = vec![counter("copies", self.now.copies), counter("resets", self.resets)];
        State { counters, ..State::default() }
    }
}
