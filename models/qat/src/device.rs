//! The function: rings and what runs in them, interrupts, counters.

mod access;
mod execute;
mod inspect;

use std::collections::VecDeque;

use understudy_device::{
    AccessError, Bar, Bus, Decoder, DeviceModel, FinishedJob, Identity, JobId, Nanos,
    ParameterError, Progress, ResetKind, State, Vector,
};
use understudy_ring::{Next, Pump};

use crate::counters::{Counters, Work};
use crate::interrupts::Interrupts;
use crate::layout::{PUBLIC_KEY_REQUEST_LEN, REQUEST_LEN, Response};
use crate::mailbox::{Facts, Mailbox};
use crate::parameters::{Parameters, identity};
use crate::queue::{Completion, Pair, RingState};
use crate::registers::{MISC, PAIRS, RINGS, RINGS_BAR, SOURCE_BUNDLE, SOURCE_MAILBOX};
use crate::service::{compression as deflate, public_key, symmetric};

/// Request rings that carry public-key requests, which are half as long.
const PUBLIC_KEY_PAIRS: u16 = 2;
/// Most jobs of one ring pair at a time: the driver may have to wait for all of them.
const MAX_JOBS: usize = 8;
/// Bytes of data in jobs, above which no more are started.
const MAX_JOB_BYTES: usize = 32 << 20;
/// Bytes that requests may cover in one go before the host has its turn.
const MAX_POLL_BYTES: u64 = 1 << 20;

/// `CRYPTO_SYMMETRIC`, `CRYPTO_ASYMMETRIC`, `CIPHER`, `AUTHENTICATION`, `COMPRESSION`
/// (`icp_qat_capabilities_mask`), as physical functions of this generation have them.
const CAPABILITIES: u32 = 0x2f;
/// Crypto on pairs 0 to 3, compression on 6 and 7 (`ADF_GEN2_DEFAULT_RING_TO_SRV_MAP`).
const RING_MAP: u16 = 0x409;

/// What a job's output becomes part of.
#[derive(Debug)]
enum Pending {
    Symmetric(Box<symmetric::Pending>),
    PublicKey(public_key::Pending),
    Compression(Box<deflate::Pending>),
}

/// A request whose response is due.
#[derive(Debug)]
enum Slot {
    Ready(Work, Response),
    Running { id: JobId, bytes: usize, pending: Pending },
}

/// A ring pair and its requests in flight, which are answered in order.
#[derive(Debug)]
struct Queue {
    index: u16,
    pump: Pump<Pair>,
    slots: VecDeque<Slot>,
    /// Its memory cannot be accessed; nothing more happens until it is set up anew.
    broken: bool,
}

impl Queue {
    fn new(index: u16) -> Self {
        let len = if index < PUBLIC_KEY_PAIRS { PUBLIC_KEY_REQUEST_LEN } else { REQUEST_LEN };
        let pair = Pair::new(u32::try_from(len).unwrap_or(u32::MAX));
        Self { index, pump: Pump::new(index, pair), slots: VecDeque::new(), broken: false }
    }

    /// A ring of the pair was set up or torn down: what was on its way is gone.
    fn restart(&mut self) {
        self.pump = Pump::new(self.index, self.pump.ring().clone());
        self.slots.clear();
        self.broken = false;
    }

    /// By the driver.
    fn is_enabled(&self, arbiter: u8) -> bool {
        arbiter >> self.index & 1 != 0 && self.pump.ring().is_ready()
    }

    fn is_served(&self, arbiter: u8) -> bool {
        self.is_enabled(arbiter) && !self.broken
    }

    /// Nothing can come of looking at it.
    fn is_idle(&self, arbiter: u8) -> bool {
        !self.is_served(arbiter) && !self.pump.holds()
    }

    fn running(&self) -> impl Iterator<Item = usize> + '_ {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Running { bytes, .. } => Some(*bytes),
            Slot::Ready(..) => None,
        })
    }
}

/// A QAT virtual function of the second generation.
pub struct Qat {
    identity: Identity,
    parameters: Parameters,
    queues: Vec<Queue>,
    /// The pair to look at first, so that none starves.
    first: usize,
    arbiter: u8,
    interrupts: Interrupts,
    mailbox: Mailbox,
    /// When the physical function announces its restart.
    restart_at: Option<Nanos>,
    mask: u32,
    /// Unmasked sources as they were last, for edges.
    level: u32,
    symmetric: symmetric::Scratch,
    streams: deflate::Streams,
    counters: Counters,
}

impl Qat {
    /// The function at power-on.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn new(parameters: Parameters) -> Result<Self, ParameterError> {
        parameters.check()?;
        let max_len = usize::try_from(parameters.max_request).unwrap_or(usize::MAX);
        let facts = Facts {
            version: parameters.mailbox_version,
            capabilities: CAPABILITIES,
            compression: 0,
            ring_map: RING_MAP,
        };
        Ok(Self {
            identity: identity(parameters.part),
            queues: (0..PAIRS).map(Queue::new).collect(),
            first: 0,
            arbiter: 0,
            interrupts: Interrupts::default(),
            mailbox: Mailbox::new(facts),
            restart_at: None,
            mask: 0,
            level: 0,
            symmetric: symmetric::Scratch::new(max_len),
            streams: deflate::Streams::default(),
            counters: Counters::default(),
            parameters,
        })
    }

    /// One bit for each ring that has messages.
    fn busy_rings(&self) -> u16 {
        let pairs = self.queues.iter().enumerate();
        pairs.fold(0, |all, (index, queue)| {
            let pair = queue.pump.ring();
            let requests = u16::from(!pair.requests.is_empty()) << index;
            let responses = u16::from(!pair.responses.is_empty()) << PAIRS << index;
            all | requests | responses
        })
    }

    fn sources(&self) -> u32 {
        let bundle = if self.interrupts.line() { SOURCE_BUNDLE } else { 0 };
        bundle | if self.mailbox.interrupts() { SOURCE_MAILBOX } else { 0 }
    }

    /// Sends a message if a source was asserted or unmasked since the last time.
    fn interrupt(&mut self, bus: &mut dyn Bus) {
        // What was deasserted since then sends another message if it is asserted again at once.
        self.level &= self.sources() & !self.mask;
        // Drivers that poll enable none, and then nobody need look.
        let busy = if self.interrupts.enable() == 0 { 0 } else { self.busy_rings() };
        self.interrupts.update(busy & 0xff << PAIRS, bus);
        let level = self.sources() & !self.mask;
        if level & !self.level != 0 {
            self.counters.interrupts += 1;
            bus.raise(Vector(0));
        }
        self.level = level;
    }

    /// Announces the restart if it is time.
    fn restart(&mut self, bus: &mut dyn Bus) {
        if self.restart_at.is_some_and(|at| at <= bus.now()) {
            self.restart_at = None;
            self.mailbox.announce_restart();
            self.deliver_mail(bus);
        }
    }

    fn deliver_mail(&mut self, bus: &mut dyn Bus) {
        self.interrupt(bus);
        while self.mailbox.act() {
            self.interrupt(bus);
        }
    }

    fn ring(&self, index: u16) -> Option<&RingState> {
        let pair = self.queues.get(usize::from(index % PAIRS))?.pump.ring();
        Some(if index < PAIRS { &pair.requests } else { &pair.responses })
    }

    fn ring_mut(&mut self, index: u16) -> Option<(&mut Queue, bool)> {
        let queue = self.queues.get_mut(usize::from(index % PAIRS))?;
        Some((queue, index < PAIRS))
    }

    /// Takes requests of one pair while there is budget, room for responses, and nothing holds it
    /// back.
    fn serve(&mut self, bus: &mut dyn Bus, index: usize, budget: &mut u32) -> Progress {
        let mut progress = Progress::Idle;
        let mut drained = false;
        let mut full = self.jobs_are_full(index);
        while self.queues[index].is_served(self.arbiter) {
            let queue = &mut self.queues[index];
            if *budget == 0 {
                let waits = queue.pump.ring().waiting() > 0 || queue.pump.has_ready();
                progress = if waits { Progress::More } else { progress };
                break;
            }
            if queue.pump.ring().room() <= queue.slots.len() || full {
                // Until the driver takes responses, or a job is done.
                break;
            }
            match self.queues[index].pump.next(bus) {
                Ok(Next::Entry(request)) => {
                    *budget -= 1;
                    let slot = self.execute(bus, &request);
                    if self.symmetric.covered >= MAX_POLL_BYTES {
                        *budget = 0;
                    }
                    let queue = &mut self.queues[index];
                    queue.pump.recycle(request);
                    match slot {
                        Slot::Ready(work, response) if queue.slots.is_empty() => {
                            self.answer(bus, index, work, response);
                        }
                        slot => {
                            queue.slots.push_back(slot);
                            full = self.jobs_are_full(index);
                        }
                    }
                }
                Ok(Next::Again) => *budget -= 1,
                Ok(Next::Empty) => {
                    drained = true;
                    break;
                }
                Ok(Next::Until(due)) => {
                    progress = Progress::Until(due);
                    break;
                }
                Err(_) => self.break_ring(index),
            }
        }
        progress.sooner(self.flush(bus, index, drained))
    }

    /// Lets responses go that a fault held back.
    fn flush(&mut self, bus: &mut dyn Bus, index: usize, drained: bool) -> Progress {
        let queue = &mut self.queues[index];
        if queue.broken {
            return Progress::Idle;
        }
        let drained = drained && queue.slots.is_empty();
        match queue.pump.flush(bus, drained) {
            Ok(0) => {}
            Ok(_) => self.interrupt(bus),
            Err(_) => self.break_ring(index),
        }
        self.queues[index].pump.next_due().map_or(Progress::Idle, Progress::Until)
    }

    fn jobs_are_full(&self, index: usize) -> bool {
        let here = self.queues[index].running().count();
        let bytes: usize = self.queues.iter().flat_map(Queue::running).sum();
        here >= MAX_JOBS || (bytes >= MAX_JOB_BYTES)
    }

    fn break_ring(&mut self, index: usize) {
        let queue = &mut self.queues[index];
        queue.restart();
        queue.broken = true;
        self.counters.rings_broken += 1;
    }

    /// Writes the responses that are ready and have none before them that is not.
    fn settle(&mut self, bus: &mut dyn Bus, index: usize) {
        while let Some(Slot::Ready(work, response)) = self.queues[index].slots.front() {
            let (work, response) = (*work, *response);
            self.queues[index].slots.pop_front();
            self.answer(bus, index, work, response);
        }
    }

    /// Writes a response.
    fn answer(&mut self, bus: &mut dyn Bus, index: usize, work: Work, response: Response) {
        self.counters.responses += 1;
        self.counters.work[work as usize].requests += 1;
        match self.queues[index].pump.complete(bus, Completion::from(response)) {
            Ok(0) => {}
            // Drivers that poll are told nothing of responses.
            Ok(_) if self.interrupts.enable() == 0 => {}
            Ok(_) => self.interrupt(bus),
            Err(_) => self.break_ring(index),
        }
        if self.counters.responses == self.parameters.restart_after {
            let delay = u64::from(self.parameters.restart_delay_ms) * 1_000_000;
            self.restart_at = Some(bus.now().plus(delay));
            self.restart(bus);
        }
        if self.counters.responses == self.parameters.fatal_error_after {
            self.mailbox.announce_fatal_error();
            self.deliver_mail(bus);
        }
    }
}

impl DeviceModel for Qat {
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
        let found = match bar {
            RINGS_BAR => Decoder(&RINGS).read(self, bus, offset, data),
            _ => Decoder(&MISC).read(self, bus, offset, data),
        };
        found.map_err(|_| AccessError::Unmapped { offset })
    }

    fn write(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let found = match bar {
            RINGS_BAR => Decoder(&RINGS).write(self, bus, offset, data),
            _ => Decoder(&MISC).write(self, bus, offset, data),
        };
        found.map_err(|_| AccessError::Unmapped { offset })
    }

    fn poll(&mut self, bus: &mut dyn Bus, budget: u32) -> Progress {
        let mut budget = budget;
        self.symmetric.covered = 0;
        let mut progress = Progress::Idle;
        let count = self.queues.len();
        for index in (self.first..count).chain(0..self.first) {
            if !self.queues[index].is_idle(self.arbiter) {
                progress = progress.sooner(self.serve(bus, index, &mut budget));
            }
        }
        self.first = if self.first + 1 < count { self.first + 1 } else { 0 };
        self.restart(bus);
        self.interrupt(bus);
        let deadlines = [self.interrupts.deadline(), self.restart_at];
        deadlines.into_iter().flatten().map(Progress::Until).fold(progress, Progress::sooner)
    }

    fn finish(&mut self, bus: &mut dyn Bus, done: FinishedJob) {
        let is_it = |slot: &Slot| matches!(slot, Slot::Running { id, .. } if *id == done.id);
        let place =
            self.queues.iter().enumerate().find_map(|(index, queue)| {
                queue.slots.iter().position(is_it).map(|at| (index, at))
            });
        // A ring that was torn down meanwhile has forgotten its jobs.
        let Some((index, at)) = place else { return };
        let parked = Slot::Ready(Work::Unknown, Response::empty());
        let Some(slot) = self.queues[index].slots.get_mut(at) else { return };
        let Slot::Running { pending, .. } = std::mem::replace(slot, parked) else { return };
        let ready = self.conclude(bus, pending, done);
        if let Some(slot) = self.queues[index].slots.get_mut(at) {
            *slot = ready;
        }
        self.settle(bus, index);
    }

    fn reset(&mut self, kind: ResetKind) {
        self.queues = (0..PAIRS).map(Queue::new).collect();
        self.first = 0;
        self.arbiter = 0;
        self.interrupts = Interrupts::default();
        self.mailbox.reset();
        self.restart_at = None;
        self.mask = 0;
        self.level = 0;
        self.symmetric.clear();
        self.streams = deflate::Streams::default();
        if kind == ResetKind::PowerOn {
            self.counters = Counters::default();
            self.mailbox.reset_tally();
        }
    }

    fn inspect(&self) -> State {
        self.described()
    }
}
