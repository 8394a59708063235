//! What the function sees: memory, clock, interrupts and jobs, with a program's acts in between.

mod memory;

use understudy_device::{
    Bar, DmaFault, DmaFaultKind, FinishedJob, Identity, Job, JobId, Nanos, Tap, Verdict,
};
use understudy_pci::{Host, Irq};
use vm_memory::MmapRegion;

use crate::defect::{Defect, DefectKind};
use crate::program::{Edit, Program, Site, What};
use crate::steering::Steering;
use memory::Block;
pub(crate) use memory::Place;

/// Where memory starts for the device: beyond what 32 bits can say.
pub(crate) const MEMORY_BASE: u64 = 0x1_4000_0000;
/// Bytes of memory of a run, freed ones included: none is used twice, so that late accesses show.
pub(crate) const MEMORY_SIZE: usize = 8 << 20;
/// Places in the map of what was seen.
pub(crate) const MAP_SIZE: usize = 1 << 12;
/// Lines of a trace that are kept: its end.
const MAX_TRACE: usize = 400;

pub(crate) struct World {
    memory: MmapRegion,
    /// By address.
    blocks: Vec<Block>,
    /// Indices of blocks that are live, ascending.
    live: Vec<usize>,
    /// For each [`GRANULE`] of memory up to `end`: the last block that starts in or before it.
    granules: Vec<u32>,
    end: usize,
    red_zones: bool,
    clock: u64,
    pub(crate) jobs: Vec<(JobId, Job)>,
    next_job: u64,
    /// Arrived and not taken, by vector of the connected kind.
    pending: Vec<u32>,
    pub(crate) connected: Option<Irq>,
    shared: Vec<(Bar, u64, Vec<u8>)>,
    pub(crate) steering: Steering,
    pub(crate) defect: Option<Defect>,
    pub(crate) gone: bool,
    last: [(usize, [u8; 16]); Site::COUNT],
    pub(crate) map: Box<[u8; MAP_SIZE]>,
    previous: usize,
    trace: Option<Vec<String>>,
    /// Acts of a turn, while they are done.
    due: Vec<What>,
    /// What the device writes instead.
    copy: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> Result<Self, String> {
        let memory = MmapRegion::new(MEMORY_SIZE).map_err(|error| error.to_string())?;
        Ok(Self {
            memory,
            blocks: Vec::new(),
            live: Vec::new(),
            granules: Vec::new(),
            end: 0,
            red_zones: false,
            clock: 0,
            jobs: Vec::new(),
            next_job: 0,
            pending: Vec::new(),
            connected: None,
            shared: Vec::new(),
            steering: Steering::default(),
            defect: None,
            gone: false,
            last: [(0, [0; 16]); Site::COUNT],
            map: Box::new([0; MAP_SIZE]),
            previous: 0,
            trace: None,
            due: Vec::new(),
            copy: Vec::new(),
        })
    }

    /// Everything as at first, for a function of this identity.
    pub(crate) fn restart(&mut self, identity: &Identity, program: &Program, trace: bool) {
        self.blocks.clear();
        self.live.clear();
        self.granules.clear();
        self.end = 0;
        self.clock = 0;
        self.jobs.clear();
        self.next_job = 0;
        self.pending.clear();
        let vectors = identity.msix_vectors().max(identity.msi_vectors()).max(1);
        self.pending.resize(usize::from(vectors), 0);
        self.connected = None;
        self.shared.clear();
        for spec in &identity.bars {
            for area in &spec.shared {
                let size = usize::try_from(area.size).unwrap_or(0);
                self.shared.push((spec.bar, area.offset, vec![0; size]));
            }
        }
        self.steering.restart(program);
        self.defect = None;
        self.gone = false;
        self.last = [(0, [0; 16]); Site::COUNT];
        self.map.fill(0);
        self.previous = 0;
        self.trace = trace.then(Vec::new);
    }

    /// Puts bytes around buffers and looks at them when they are given back.
    pub(crate) fn guard(&mut self) {
        self.red_zones = true;
    }

    /// The address of memory in this process: constant for the life of the world.
    pub(crate) fn address(&self) -> *mut u8 {
        self.memory.as_ptr()
    }

    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    pub(crate) fn pass(&mut self, nanos: u64) {
        self.clock = self.clock.saturating_add(nanos);
    }

    pub(crate) fn pass_until(&mut self, instant: Nanos) {
        self.clock = self.clock.max(instant.0);
    }

    /// The first defect counts: later ones may be its consequences.
    pub(crate) fn report(&mut self, kind: DefectKind, clause: &str, detail: impl Into<String>) {
        if self.defect.is_none() {
            let mut defect = Defect::new(kind, clause, detail);
            if self.trace.is_some() {
                defect.stack = crate::defect::stack();
            }
            self.note(|| format!("DEFECT {defect}"));
            self.defect = Some(defect);
        }
    }

    /// Adds a line to the trace, if there is one.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= 2 * MAX_TRACE {
                trace.drain(..MAX_TRACE);
            }
            trace.push(format!("{:>9} {}", self.steering.steps(), line()));
        }
    }

    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        let mut trace = self.trace.take().unwrap_or_default();
        let excess = trace.len().saturating_sub(MAX_TRACE);
        trace.drain(..excess);
        trace
    }

    /// Marks that one thing came after another.
    pub(crate) fn seen(&mut self, site: Site, what: u64) {
        let mixed = what.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let mixed = usize::try_from(mixed).unwrap_or(0);
        let here = (mixed ^ (site as usize) << 9) % MAP_SIZE;
        let edge = (here ^ self.previous) % MAP_SIZE;
        self.previous = here >> 1;
        if let Some(count) = self.map.get_mut(edge) {
            *count = count.saturating_add(1);
        }
    }

    /// A step whose data can change.
    pub(crate) fn steer(&mut self, site: Site, data: &mut [u8]) {
        let (len, before) = self.last[site as usize];
        let mut changed = false;
        self.steering.step(site, |what| {
            if let Some(edit) = what.edit() {
                edit.apply(data, before.get(..len).unwrap_or(&[]));
                changed = true;
            }
        });
        if changed {
            self.note(|| format!("act: {site:?} is now {}", hex(data)));
        }
        self.keep(site, data);
    }

    /// Keeps the first bytes of what a step had, for the next of its kind.
    fn keep(&mut self, site: Site, data: &[u8]) {
        if !self.steering.wants_last(site) {
            return;
        }
        let (len, bytes) = &mut self.last[site as usize];
        match data.first_chunk() {
            Some(whole) => (*len, *bytes) = (16, *whole),
            None => {
                *len = data.len();
                bytes[..data.len()].copy_from_slice(data);
            }
        }
    }

    /// The device writes somewhere into a buffer.
    fn scribble(&mut self, buffer: u8, at: u16, edit: Edit) {
        let count = self.live.len().max(1);
        let Some(index) = self.live.get(usize::from(buffer) % count) else { return };
        let Some(block) = self.blocks.get(*index).copied() else { return };
        let room = block.len.min(16);
        let start = block.start + usize::from(at) % (block.len - room + 1);
        let mut bytes = [0; 16];
        if let Some(bytes) = bytes.get_mut(..room) {
            self.copy_out(start, bytes);
            edit.apply(bytes, &[]);
            self.copy_in(start, bytes);
            let iova = start as u64 + MEMORY_BASE;
            self.note(|| format!("act: the device writes {} at {iova:#x}", hex(bytes)));
        }
    }

    // Interrupts.

    pub(crate) fn forget_interrupts(&mut self) {
        self.pending.fill(0);
    }

    pub(crate) fn take_interrupt(&mut self, vector: u16) -> bool {
        match self.pending.get_mut(usize::from(vector)) {
            // As with an event counter, those that came since the last time are one.
            Some(count) if *count > 0 => {
                *count = 0;
                true
            }
            _ => false,
        }
    }

    fn arrive(&mut self, vector: u16) {
        if let Some(count) = self.pending.get_mut(usize::from(vector)) {
            *count = count.saturating_add(1);
        }
    }

    /// A turn of the device: what it does instead of its work.
    pub(crate) fn turn(&mut self) -> Turn {
        let mut turn = Turn::default();
        let mut others = std::mem::take(&mut self.due);
        self.steering.step(Site::Turn, |what| match what {
            What::Stall => turn.stall = true,
            What::Reset => turn.reset = true,
            What::Gone => turn.gone = true,
            other => others.push(*other),
        });
        for what in others.drain(..) {
            match what {
                What::Interrupt(vector) => {
                    turn.idle = true;
                    let vectors = self.pending.len().max(1);
                    let vector = usize::from(vector) % vectors;
                    self.note(|| format!("act: interrupt {vector} for nothing"));
                    self.arrive(u16::try_from(vector).unwrap_or(0));
                }
                What::Scribble(buffer, at, edit) => self.scribble(buffer, at, edit),
                _ => {}
            }
        }
        self.due = others;
        if turn != Turn::default() {
            self.note(|| format!("act: {turn:?}"));
        }
        turn
    }

    /// Why the device's DMA does not happen. If the device is still as specified, the driver is to
    /// blame for what it told it.
    fn fault(&mut self, iova: u64, len: usize, place: Place) -> DmaFault {
        let told = match place {
            Place::Freed => "the device was left with a buffer that the driver gave back",
            _ => "the device was given memory that the driver does not have",
        };
        if self.steering.fired() == 0 {
            self.report(DefectKind::Memory, told, format!("{iova:#x}+{len:#x}"));
        }
        DmaFault { iova, len: len as u64, kind: DmaFaultKind::Unmapped }
    }

    fn area(&mut self, bar: Bar, offset: u64, len: usize) -> Result<&mut [u8], DmaFault> {
        let kind = DmaFaultKind::Unmapped;
        let fault = DmaFault { iova: offset, len: len as u64, kind };
        let areas = self.shared.iter_mut().filter(|(at, _, _)| *at == bar);
        let mut found = areas.filter_map(|(_, start, bytes)| {
            let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
            bytes.get_mut(from..from.checked_add(len)?)
        });
        found.next().ok_or(fault)
    }
}

/// What a turn has instead of the device's work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) stall: bool,
    /// Interrupts come for nothing.
    pub(crate) idle: bool,
    pub(crate) reset: bool,
    pub(crate) gone: bool,
}

/// The first bytes, for people.
pub(crate) fn hex(data: &[u8]) -> String {
    let mut out: String = data.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    if data.len() > 16 {
        out.push_str(&format!("... {} bytes", data.len()));
    }
    out
}

impl Host for World {
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.seen(Site::DeviceRead, into.len() as u64);
        let place = self.place(iova, into.len());
        let Place::Live(start) = place else { return Err(self.fault(iova, into.len(), place)) };
        self.copy_out(start, into);
        let mut fault = false;
        let (len, before) = self.last[Site::DeviceRead as usize];
        self.steering.step(Site::DeviceRead, |what| match what {
            What::ReadFault => fault = true,
            other => {
                if let Some(edit) = other.edit() {
                    edit.apply(into, before.get(..len).unwrap_or(&[]));
                }
            }
        });
        self.keep(Site::DeviceRead, into);
        self.note(|| format!("device reads {} at {iova:#x}, fault {fault}", hex(into)));
        let kind = DmaFaultKind::Failed;
        if fault { Err(DmaFault { iova, len: into.len() as u64, kind }) } else { Ok(()) }
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.seen(Site::DeviceWrite, from.len() as u64);
        let place = self.place(iova, from.len());
        let Place::Live(start) = place else { return Err(self.fault(iova, from.len(), place)) };
        let (mut lost, mut changed) = (false, false);
        let mut copy = std::mem::take(&mut self.copy);
        let (len, before) = self.last[Site::DeviceWrite as usize];
        self.steering.step(Site::DeviceWrite, |what| match what {
            What::WriteLost => lost = true,
            other => {
                if let Some(edit) = other.edit() {
                    if !changed {
                        copy.clear();
                        copy.extend_from_slice(from);
                        changed = true;
                    }
                    edit.apply(&mut copy, before.get(..len).unwrap_or(&[]));
                }
            }
        });
        let data = if changed { copy.as_slice() } else { from };
        self.keep(Site::DeviceWrite, data);
        if !lost {
            self.copy_in(start, data);
        }
        self.note(|| format!("device writes {} at {iova:#x}, lost {lost}", hex(data)));
        self.copy = copy;
        Ok(())
    }

    fn dma_fence(&mut self) {}

    fn signal(&mut self, irq: Irq, vector: u16) -> bool {
        if self.connected != Some(irq) {
            return false;
        }
        self.seen(Site::Interrupt, vector.into());
        let mut lost = false;
        self.steering.step(Site::Interrupt, |_| lost = true);
        self.note(|| format!("interrupt {irq:?} {vector}, lost {lost}"));
        if !lost {
            self.arrive(vector);
        }
        true
    }

    fn has_triggers(&self, irq: Irq) -> bool {
        self.connected == Some(irq)
    }

    fn now(&self) -> Nanos {
        Nanos(self.clock)
    }

    fn submit(&mut self, job: Job) -> JobId {
        self.next_job += 1;
        let id = JobId(self.next_job);
        self.jobs.push((id, job));
        id
    }

    fn tap(&mut self, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        self.seen(Site::Entry, u64::from(queue) << 1 | u64::from(at == Tap::Completing));
        let mut verdict = Verdict::Pass;
        let (len, before) = self.last[Site::Entry as usize];
        self.steering.step(Site::Entry, |what| match what {
            What::EntryLost => verdict = Verdict::Drop,
            What::EntryTwice => verdict = Verdict::Duplicate,
            What::EntryLater => verdict = Verdict::Reorder,
            other => {
                if let Some(edit) = other.edit() {
                    edit.apply(entry, before.get(..len).unwrap_or(&[]));
                }
            }
        });
        self.keep(Site::Entry, entry);
        self.note(|| format!("{at:?} in queue {queue}: {}, {verdict:?}", hex(entry)));
        verdict
    }

    fn shared_read(&mut self, bar: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        into.copy_from_slice(self.area(bar, offset, into.len())?);
        Ok(())
    }

    fn shared_write(&mut self, bar: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.area(bar, offset, from.len())?.copy_from_slice(from);
        Ok(())
    }
}

/// Gives the first job that waits back to the function.
pub(crate) fn finish_job(world: &mut World) -> Option<FinishedJob> {
    if world.jobs.is_empty() {
        return None;
    }
    let (id, job) = world.jobs.remove(0);
    Some(FinishedJob { id, output: job.run() })
}
