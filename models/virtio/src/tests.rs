//! A device that answers with what it was sent, on a bus that is a plain buffer.

mod driver;
mod hostile;
mod queues;
mod transport;

use std::collections::VecDeque;

use understudy_device::{
    AccessError, Bar, Bus, Counter, DeviceModel, DmaFault, DmaFaultKind, FinishedJob,
    InterruptMode, Job, JobId, Nanos, RegisterState, ResetKind, Vector,
};
use zerocopy::IntoBytes;

use crate::registers::{COMMON, Common, MODERN_BAR};
use crate::{Description, Outcome, QueueSpec, Request, VirtioDevice, VirtioPci, feature, status};

/// First address of guest memory.
const BASE: u64 = 0x10_0000;

/// Guest memory and what the device did with its host.
struct Guest {
    memory: Vec<u8>,
    next: usize,
    msix: bool,
    raised: Vec<u16>,
    intx: bool,
    jobs: VecDeque<(JobId, Job)>,
    submitted: u64,
    bus_master: bool,
}

impl Guest {
    fn new() -> Self {
        Self {
            memory: vec![0; 1 << 20],
            next: 0,
            msix: true,
            raised: Vec::new(),
            intx: false,
            jobs: VecDeque::new(),
            submitted: 0,
            bus_master: true,
        }
    }

    /// Memory that is zero and nobody else's.
    fn alloc(&mut self, len: usize) -> u64 {
        let at = self.next.next_multiple_of(64);
        self.next = at + len;
        assert!(self.next <= self.memory.len(), "the test needs more memory");
        self.memory[at..at + len].fill(0);
        BASE + at as u64
    }

    fn range(&self, iova: u64, len: usize) -> Result<std::ops::Range<usize>, DmaFault> {
        let fault = |kind| DmaFault { iova, len: len as u64, kind };
        if !self.bus_master {
            return Err(fault(DmaFaultKind::BusMasterDisabled));
        }
        let start = iova.checked_sub(BASE).and_then(|at| usize::try_from(at).ok());
        let end = start.and_then(|start| start.checked_add(len));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.memory.len() => Ok(start..end),
            _ => Err(fault(DmaFaultKind::Unmapped)),
        }
    }

    fn get<const N: usize>(&mut self, iova: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.dma_read(iova, &mut bytes).unwrap();
        bytes
    }

    fn u16(&mut self, iova: u64) -> u16 {
        u16::from_le_bytes(self.get(iova))
    }

    fn put(&mut self, iova: u64, bytes: impl IntoBytes + zerocopy::Immutable) {
        self.dma_write(iova, bytes.as_bytes()).unwrap();
    }

    /// Runs one job and gives its output back.
    fn finish_job(&mut self, model: &mut dyn DeviceModel) -> bool {
        let Some((id, job)) = self.jobs.pop_front() else { return false };
        model.finish(self, FinishedJob { id, output: job.run() });
        true
    }
}

impl Bus for Guest {
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
    fn raise(&mut self, vector: Vector) {
        self.raised.push(vector.0);
    }
    fn set_intx(&mut self, asserted: bool) {
        self.intx = asserted;
    }
    fn interrupt_mode(&self) -> InterruptMode {
        if self.msix { InterruptMode::Msix { vectors: 3 } } else { InterruptMode::Intx }
    }
    fn now(&self) -> Nanos {
        Nanos(0)
    }
    fn submit(&mut self, job: Job) -> JobId {
        self.submitted += 1;
        let id = JobId(self.submitted);
        self.jobs.push_back((id, job));
        id
    }
    fn shared_read(&mut self, _: Bar, _: u64, _: &mut [u8]) -> Result<(), DmaFault> {
        unreachable!()
    }
    fn shared_write(&mut self, _: Bar, _: u64, _: &[u8]) -> Result<(), DmaFault> {
        unreachable!()
    }
}

/// A feature bit of the echo device that needs [`ECHO_OTHER`].
const ECHO_LOUD: u64 = 1;
const ECHO_OTHER: u64 = 2;

/// Answers with what it was sent, as far as there is room. Queue 1 does so in jobs.
///
/// What begins with an exclamation mark becomes the end of its configuration.
struct Echo {
    description: Description,
    config: [u8; 8],
    changed: bool,
}

impl Echo {
    fn model(max_size: u16) -> VirtioPci<Self> {
        let queues = ["direct", "jobs"];
        let queues = queues.map(|name| QueueSpec { name: name.to_owned(), max_size }).to_vec();
        VirtioPci::new(Self {
            description: Description {
                name: "echo",
                device_id: 63,
                class_code: 0xff_00_00,
                features: ECHO_LOUD | ECHO_OTHER,
                queues,
            },
            config: *b"echo1234",
            changed: false,
        })
        .unwrap()
    }

    fn answer(bus: &mut dyn Bus, request: &Request, data: &[u8]) -> Outcome {
        let room = usize::try_from(request.writable.bytes()).unwrap();
        let data = &data[..data.len().min(room)];
        match request.writable.cursor().write(bus, data) {
            Ok(()) => Outcome::Done(u32::try_from(data.len()).unwrap()),
            Err(_) => Outcome::Broken("cannot answer"),
        }
    }
}

impl VirtioDevice for Echo {
    fn description(&self) -> &Description {
        &self.description
    }
    fn accepts(&self, features: u64) -> bool {
        features & ECHO_LOUD == 0 || features & ECHO_OTHER != 0
    }
    fn start(&mut self, _: u64) {}
    fn read_config(
        &mut self,
        _: &mut dyn Bus,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let start = usize::try_from(offset).unwrap();
        let from = self.config.get(start..).filter(|from| !from.is_empty());
        let from = from.ok_or(AccessError::Unmapped { offset })?;
        let len = from.len().min(data.len());
        data[..len].copy_from_slice(&from[..len]);
        Ok(())
    }
    fn take_config_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
    fn execute(&mut self, bus: &mut dyn Bus, request: &mut Request) -> Outcome {
        // A guest can ask for 4 GiB; the echo is shorter than that.
        let len = usize::try_from(request.readable.bytes().min(4096)).unwrap();
        let mut data = vec![0; len];
        if request.readable.cursor().read(bus, &mut data).is_err() {
            return Outcome::Broken("cannot listen");
        }
        if let [b'!', end @ ..] = &data[..]
            && end.len() == 4
        {
            self.config[4..].copy_from_slice(end);
            self.changed = true;
        }
        if request.queue() == 1 {
            return Outcome::Pending(bus.submit(Job::new(move || data)));
        }
        Self::answer(bus, request, &data)
    }
    fn finish(&mut self, bus: &mut dyn Bus, request: &mut Request, done: FinishedJob) -> Outcome {
        let data: Vec<u8> = done.into_output().unwrap();
        Self::answer(bus, request, &data)
    }
    fn reset(&mut self, _: ResetKind) {}
    fn config_state(&self, _: Bar, _: u64) -> Vec<RegisterState> {
        Vec::new()
    }
    fn counters(&self) -> Vec<Counter> {
        Vec::new()
    }
}

const BAR: Bar = Bar(MODERN_BAR);

fn offset(id: Common) -> u64 {
    let row = COMMON.registers.iter().find(|row| row.id == id).unwrap();
    u64::from(row.offset)
}

fn write(model: &mut dyn DeviceModel, guest: &mut Guest, id: Common, value: u64) {
    let row = COMMON.registers.iter().find(|row| row.id == id).unwrap();
    let bytes = value.to_le_bytes();
    model.write(guest, BAR, offset(id), &bytes[..row.width.bytes() as usize]).unwrap();
}

fn read(model: &mut dyn DeviceModel, guest: &mut Guest, id: Common) -> u64 {
    let row = COMMON.registers.iter().find(|row| row.id == id).unwrap();
    let mut bytes = [0; 8];
    model.read(guest, BAR, offset(id), &mut bytes[..row.width.bytes() as usize]).unwrap();
    u64::from_le_bytes(bytes)
}

/// Goes through the initialisation of virtio 1.3 §3.1.1 up to `FEATURES_OK`. Returns the status.
fn negotiate(model: &mut dyn DeviceModel, guest: &mut Guest, features: u64) -> u8 {
    write(model, guest, Common::DeviceStatus, 0);
    let mut bits = 0;
    for bit in [status::ACKNOWLEDGE, status::DRIVER] {
        bits |= u64::from(bit);
        write(model, guest, Common::DeviceStatus, bits);
    }
    for select in [0, 1] {
        write(model, guest, Common::DriverFeatureSelect, select);
        write(model, guest, Common::DriverFeature, features >> (32 * select) & 0xffff_ffff);
    }
    write(model, guest, Common::DeviceStatus, bits | u64::from(status::FEATURES_OK));
    u8::try_from(read(model, guest, Common::DeviceStatus)).unwrap()
}

/// The least features a driver can accept.
const PLAIN: u64 = feature::VERSION_1;
