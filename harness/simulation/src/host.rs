//! The host that the function sees.

use std::collections::BTreeMap;

use understudy_device::{
    Bar, DmaFault, DmaFaultKind, FinishedJob, Identity, Job, JobId, Nanos, Tap, Verdict,
};
use understudy_pci::{Host, Irq};

use crate::jobs::Jobs;
use crate::memory::{Direction, Memory};
use crate::trace::{Event, Trace};

/// A DMA access that the device is about to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaAccess {
    /// The device writes memory, not reads it.
    pub write: bool,
    /// First address.
    pub iova: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Where faults come in. The defaults let everything pass.
pub trait Hooks: Send {
    /// Sees, may edit, and decides about a ring entry. See [`Tap`] and [`Verdict`].
    fn tap(&mut self, now: Nanos, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        let (_, _, _, _) = (now, at, queue, entry);
        Verdict::Pass
    }

    /// Decides about a DMA access before it is made.
    ///
    /// # Errors
    /// The kind of fault that the device gets instead.
    fn dma(&mut self, now: Nanos, access: DmaAccess) -> Result<(), DmaFaultKind> {
        let (_, _) = (now, access);
        Ok(())
    }
}

/// The function has no such interrupt vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the function has no {irq:?} vectors {first}..{first}+{count}")]
pub struct NoSuchVector {
    /// Kind.
    pub irq: Irq,
    /// First vector.
    pub first: u16,
    /// How many.
    pub count: u16,
}

/// What arrived at one trigger.
#[derive(Debug, Clone, Copy, Default)]
struct Trigger {
    set: bool,
    arrived: u64,
    taken: u64,
}

/// Guest memory, shared areas, clock, jobs and triggers of one function.
pub struct SimHost {
    /// Guest memory.
    pub memory: Memory,
    clock: Nanos,
    jobs: Jobs,
    triggers: BTreeMap<(Irq, u16), Trigger>,
    /// Bytes of each shared area, and where it lies in which BAR.
    shared: Vec<(Bar, u64, Vec<u8>)>,
    hooks: Option<Box<dyn Hooks>>,
    trace: Trace,
}

impl SimHost {
    /// A host for a function: no memory, no triggers, time zero.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let areas = identity.bars.iter().flat_map(|spec| {
            spec.shared.iter().filter_map(|area| {
                let size = usize::try_from(area.size).ok()?;
                Some((spec.bar, area.offset, vec![0; size]))
            })
        });
        let kinds = [
            (Irq::Intx, u16::from(identity.interrupt_pin != 0)),
            (Irq::Msi, identity.msi_vectors()),
            (Irq::Msix, identity.msix_vectors()),
        ];
        let vectors = kinds.iter().flat_map(|(irq, count)| (0..*count).map(|v| (*irq, v)));
        Self {
            memory: Memory::default(),
            clock: Nanos(0),
            jobs: Jobs::default(),
            triggers: vectors.map(|key| (key, Trigger::default())).collect(),
            shared: areas.collect(),
            hooks: None,
            trace: Trace::new(),
        }
    }

    /// Puts hooks in, or takes them out with `None`.
    pub fn set_hooks(&mut self, hooks: Option<Box<dyn Hooks>>) {
        self.hooks = hooks;
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Adds an event at the present time.
    pub(crate) fn record(&mut self, event: Event, data: &[u8]) {
        self.trace.record(self.clock, event, data);
    }

    /// Moves the clock. It never goes back.
    pub fn advance_to(&mut self, to: Nanos) {
        self.clock = self.clock.max(to);
    }

    /// Jobs in flight.
    #[must_use]
    pub fn jobs_in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// Does the `pick`th job in flight, from 0. `None` if there are not so many.
    pub fn finish_job(&mut self, pick: usize) -> Option<FinishedJob> {
        let done = self.jobs.finish(pick)?;
        self.record(Event::Finish { id: done.id }, &[]);
        Some(done)
    }

    /// Sets or removes triggers. The function must then be told by
    /// [`triggers_changed`](understudy_pci::PciFunction::triggers_changed), as
    /// [`Simulation::set_triggers`](crate::Simulation::set_triggers) does.
    ///
    /// # Errors
    /// [`NoSuchVector`]; nothing changed.
    pub fn set_triggers(
        &mut self,
        irq: Irq,
        first: u16,
        count: u16,
        set: bool,
    ) -> Result<(), NoSuchVector> {
        let end = first.checked_add(count).ok_or(NoSuchVector { irq, first, count })?;
        if (first..end).any(|vector| !self.triggers.contains_key(&(irq, vector))) {
            return Err(NoSuchVector { irq, first, count });
        }
        for (_, trigger) in self.triggers.range_mut((irq, first)..(irq, end)) {
            trigger.set = set;
        }
        self.record(Event::Triggers { irq, first, count, set }, &[]);
        Ok(())
    }

    /// Interrupts that have arrived at a trigger since the start.
    #[must_use]
    pub fn interrupts(&self, irq: Irq, vector: u16) -> u64 {
        self.triggers.get(&(irq, vector)).map_or(0, |trigger| trigger.arrived)
    }

    /// Takes one interrupt that has arrived and was not taken yet.
    pub fn take_interrupt(&mut self, irq: Irq, vector: u16) -> bool {
        match self.triggers.get_mut(&(irq, vector)) {
            Some(trigger) if trigger.taken < trigger.arrived => {
                trigger.taken += 1;
                true
            }
            _ => false,
        }
    }

    /// Takes all interrupts that have arrived, of all kinds, as a driver that starts afresh.
    pub fn forget_interrupts(&mut self) {
        for trigger in self.triggers.values_mut() {
            trigger.taken = trigger.arrived;
        }
    }

    fn admit(&mut self, direction: Direction, iova: u64, len: usize) -> Result<(), DmaFault> {
        let len = len as u64;
        let access = DmaAccess { write: direction == Direction::Write, iova, len };
        match &mut self.hooks {
            None => Ok(()),
            Some(hooks) => {
                hooks.dma(self.clock, access).map_err(|kind| DmaFault { iova, len, kind })
            }
        }
    }

    fn area(&mut self, bar: Bar, offset: u64, len: usize) -> Result<&mut [u8], DmaFault> {
        let kind = DmaFaultKind::Unmapped;
        let fault = DmaFault { iova: offset, len: len as u64, kind };
        let areas = self.shared.iter_mut().filter(|(at, _, _)| *at == bar);
        areas
            .filter_map(|(_, start, bytes)| {
                let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
                bytes.get_mut(from..from.checked_add(len)?)
            })
            .next()
            .ok_or(fault)
    }
}

impl Host for SimHost {
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        let admitted = self.admit(Direction::Read, iova, into.len());
        let result = admitted.and_then(|()| self.memory.device_read(iova, into));
        let data = if result.is_ok() { &*into } else { &[] };
        let event = Event::DmaRead { iova, len: into.len() as u64, ok: result.is_ok() };
        self.trace.record(self.clock, event, data);
        result
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        let admitted = self.admit(Direction::Write, iova, from.len());
        let result = admitted.and_then(|()| self.memory.device_write(iova, from));
        let event = Event::DmaWrite { iova, len: from.len() as u64, ok: result.is_ok() };
        self.record(event, from);
        result
    }

    /// Recorded as a read, and a write if anything was changed. Not with hooks, which may refuse
    /// either.
    fn dma_lend(&mut self, iova: u64, len: usize, work: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
        if self.hooks.is_some() {
            return false;
        }
        let Some(data) = self.memory.device_lend(iova, len) else { return false };
        let len = len as u64;
        self.trace.record(self.clock, Event::DmaRead { iova, len, ok: true }, data);
        if work(data) {
            self.trace.record(self.clock, Event::DmaWrite { iova, len, ok: true }, data);
        }
        true
    }

    fn dma_fence(&mut self) {
        self.record(Event::Fence, &[]);
    }

    fn signal(&mut self, irq: Irq, vector: u16) -> bool {
        let trigger = self.triggers.get_mut(&(irq, vector)).filter(|trigger| trigger.set);
        let heard = trigger.is_some();
        if let Some(trigger) = trigger {
            trigger.arrived += 1;
        }
        self.record(Event::Signal { irq, vector, heard }, &[]);
        heard
    }

    fn has_triggers(&self, irq: Irq) -> bool {
        self.triggers.range((irq, 0)..=(irq, u16::MAX)).any(|(_, trigger)| trigger.set)
    }

    fn now(&self) -> Nanos {
        self.clock
    }

    fn submit(&mut self, job: Job) -> JobId {
        let id = self.jobs.submit(job);
        self.record(Event::Submit { id }, &[]);
        id
    }

    fn tap(&mut self, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        let verdict = match &mut self.hooks {
            None => Verdict::Pass,
            Some(hooks) => hooks.tap(self.clock, at, queue, entry),
        };
        self.trace.record(self.clock, Event::Tap { at, queue }, entry);
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
