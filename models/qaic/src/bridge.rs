//! A channel of the DMA bridge: requests, semaphores, transfers, doorbells, responses.
//!
//! A request goes through four steps: its semaphore commands before the transfer, the transfer, its
//! other semaphore commands, its doorbell. One that waits holds up no other, except that requests
//! that wait for the same semaphore before their transfers are served in their order.

use std::collections::VecDeque;

use understudy_device::{Bus, DmaFault, Progress, Vector};
use understudy_ring::{Entry, Next, Pump, Ring};
use zerocopy::{FromBytes, IntoBytes};

use crate::layout::{REQUEST_LEN, RESPONSE_LEN, Request, Response, command, doorbell, semaphore};
use crate::mhi::raise;
use crate::workload::{FREE, Workload};

/// Requests of one channel that are under way.
const WAITING_MAX: usize = 512;
/// Semaphores of a channel.
const SEMAPHORES: usize = 32;
/// Their largest value.
const VALUE_MAX: u16 = 0xfff;

/// Statuses of responses. Only that 0 is success is published; these are ours.
pub mod status {
    /// Done.
    pub const SUCCESS: u16 = 0;
    /// The command, a semaphore command or the doorbell is none that there is.
    pub const ILLEGAL: u16 = 1;
    /// Not in the device memory of this channel.
    pub const DEVICE_ADDRESS: u16 = 2;
    /// The host's memory cannot be accessed.
    pub const HOST_FAULT: u16 = 3;
    /// No doorbell is there.
    pub const DOORBELL: u16 = 4;
}

/// The semaphores of a channel.
#[derive(Debug)]
pub(crate) struct Semaphores([u16; SEMAPHORES]);

impl Semaphores {
    fn new() -> Self {
        let mut values = [0; SEMAPHORES];
        values[FREE] = 1;
        Self(values)
    }

    pub(crate) fn get(&self, index: usize) -> u16 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Adds one. The largest value stays.
    pub(crate) fn increment(&mut self, index: usize) {
        if let Some(value) = self.0.get_mut(index) {
            *value = (*value + 1).min(VALUE_MAX);
        }
    }

    /// Takes one away. 0 stays.
    pub(crate) fn decrement(&mut self, index: usize) {
        if let Some(value) = self.0.get_mut(index) {
            *value = value.saturating_sub(1);
        }
    }

    fn set(&mut self, index: usize, to: u16) {
        if let Some(value) = self.0.get_mut(index) {
            *value = to;
        }
    }
}

/// A semaphore command, decoded.
#[derive(Debug, Clone, Copy)]
struct Operation {
    index: usize,
    operation: u8,
    value: u16,
    presync: bool,
    fence_in: bool,
    fence_out: bool,
}

impl Operation {
    /// `None` if it is not enabled.
    fn of(word: u32) -> Option<Self> {
        (word & semaphore::ENABLE != 0).then_some(Self {
            index: usize::try_from(word >> 16 & 0x1f).unwrap_or(0),
            operation: u8::try_from(word >> 24 & 0x7).unwrap_or(0),
            value: u16::try_from(word & 0xfff).unwrap_or(0),
            presync: word & semaphore::PRESYNC != 0,
            fence_in: word & semaphore::FENCE_IN != 0,
            fence_out: word & semaphore::FENCE_OUT != 0,
        })
    }

    /// Carries it out. `false` if it has to wait.
    fn run(&self, semaphores: &mut Semaphores) -> bool {
        let now = semaphores.get(self.index);
        match self.operation {
            semaphore::INIT => semaphores.set(self.index, self.value),
            semaphore::INC => semaphores.increment(self.index),
            semaphore::DEC => semaphores.decrement(self.index),
            semaphore::EQUAL => return now == self.value,
            semaphore::AT_LEAST => return now >= self.value,
            semaphore::P => {
                if now == 0 {
                    return false;
                }
                semaphores.decrement(self.index);
            }
            // 0 does nothing but fence.
            _ => {}
        }
        true
    }
}

/// A request under way.
#[derive(Debug)]
struct Waiting {
    request: Request,
    /// Semaphore commands that are not carried out yet; `None` for those that are.
    operations: [Option<Operation>; 4],
    moved: bool,
    status: u16,
    done: bool,
}

impl Waiting {
    fn new(request: Request) -> Self {
        let operations = request.semaphores.map(|word| Operation::of(word.get()));
        let mut it =
            Self { request, operations, moved: false, status: status::SUCCESS, done: false };
        if !it.is_legal() {
            it.fail(status::ILLEGAL);
        }
        it
    }

    fn is_legal(&self) -> bool {
        let presyncs = self.operations.iter().flatten().filter(|it| it.presync).count();
        let known = self.operations.iter().flatten().all(|it| it.operation <= semaphore::P);
        let kind = self.request.doorbell_kind;
        let bell = kind & doorbell::ENABLE == 0 || kind & doorbell::LEN != doorbell::LEN;
        let way = self.direction();
        let transfer = match way {
            command::NONE => true,
            command::TO_DEVICE | command::FROM_DEVICE => self.request.command & command::BULK != 0,
            _ => false,
        };
        presyncs <= 1 && known && bell && transfer
    }

    fn direction(&self) -> u8 {
        self.request.command & command::DIRECTION
    }

    /// It ends here; what was not done yet is not done any more.
    fn fail(&mut self, status: u16) {
        self.status = status;
        self.done = true;
    }
}

/// What earlier requests keep later ones from.
#[derive(Debug, Default)]
struct Ahead {
    /// One bit for each semaphore for which a request waits before its transfer.
    semaphores: u32,
    to_device: bool,
    from_device: bool,
}

impl Ahead {
    fn blocks(&self, operation: &Operation) -> bool {
        let queued = operation.presync && self.semaphores >> operation.index & 1 != 0;
        let fenced =
            operation.fence_in && self.to_device || operation.fence_out && self.from_device;
        queued || fenced
    }

    fn note(&mut self, waiting: &Waiting) {
        if waiting.done {
            return;
        }
        for operation in waiting.operations.iter().flatten().filter(|it| it.presync) {
            self.semaphores |= 1 << operation.index;
        }
        if !waiting.moved {
            self.to_device |= waiting.direction() == command::TO_DEVICE;
            self.from_device |= waiting.direction() == command::FROM_DEVICE;
        }
    }
}

/// A request as it lies in the ring.
#[derive(Debug, Clone)]
pub(crate) struct Slot([u8; REQUEST_LEN]);

impl Default for Slot {
    fn default() -> Self {
        Self([0; REQUEST_LEN])
    }
}

impl Entry for Slot {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A response as it will lie in the ring.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer([u8; RESPONSE_LEN]);

impl Entry for Answer {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The two rings of a channel.
#[derive(Debug)]
pub(crate) struct Rings {
    requests: u64,
    responses: u64,
    elements: u32,
    pub(crate) request_head: u32,
    pub(crate) request_tail: u32,
    pub(crate) response_head: u32,
    pub(crate) response_tail: u32,
    /// A response was put into an empty ring.
    woke: bool,
}

impl Rings {
    fn has_room(&self) -> bool {
        (self.response_tail + 1) % self.elements != self.response_head
    }
}

impl Ring for Rings {
    type Entry = Slot;
    type Completion = Answer;
    type Error = DmaFault;

    fn fetch(&mut self, bus: &mut dyn Bus, slot: &mut Slot) -> Result<bool, DmaFault> {
        if self.request_head == self.request_tail {
            return Ok(false);
        }
        let at = u64::from(self.request_head) * REQUEST_LEN as u64;
        bus.dma_read(self.requests.wrapping_add(at), &mut slot.0)?;
        self.request_head = (self.request_head + 1) % self.elements;
        Ok(true)
    }

    /// A response more than there is room for, which only a fault can cause, is lost.
    fn complete(&mut self, bus: &mut dyn Bus, answer: &mut Answer) -> Result<(), DmaFault> {
        if !self.has_room() {
            return Ok(());
        }
        let at = u64::from(self.response_tail) * RESPONSE_LEN as u64;
        bus.dma_write(self.responses.wrapping_add(at), &answer.0)?;
        bus.dma_fence();
        self.woke |= self.response_tail == self.response_head;
        self.response_tail = (self.response_tail + 1) % self.elements;
        Ok(())
    }
}

/// What the host gives an activation for its rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) requests: u64,
    pub(crate) responses: u64,
    pub(crate) request_elements: u32,
    pub(crate) response_elements: u32,
}

impl Memory {
    /// Most elements of a ring.
    const ELEMENTS_MAX: u32 = 1 << 16;

    /// Whether rings can be made of it.
    pub(crate) fn is_usable(&self) -> bool {
        let elements = self.request_elements;
        let sized = (2..=Self::ELEMENTS_MAX).contains(&elements);
        let end = |base: u64, len: usize| base.checked_add(u64::from(elements) * len as u64);
        let ends = end(self.requests, REQUEST_LEN).zip(end(self.responses, RESPONSE_LEN));
        let apart = ends.is_some_and(|(requests, responses)| {
            requests <= self.responses || responses <= self.requests
        });
        sized && self.response_elements == elements && apart
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) responses: u64,
    pub(crate) errors: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) doorbells: u64,
    pub(crate) interrupts: u64,
    pub(crate) broken: u64,
}

/// A channel that is assigned to an active network.
#[derive(Debug)]
pub(crate) struct Channel {
    number: u16,
    pump: Pump<Rings>,
    waiting: VecDeque<Waiting>,
    semaphores: Semaphores,
    pub(crate) workload: Workload,
    /// Its rings cannot be accessed.
    broken: bool,
}

impl Channel {
    pub(crate) fn new(number: u16, memory: Memory, workload: Workload) -> Self {
        let rings = Rings {
            requests: memory.requests,
            responses: memory.responses,
            elements: memory.request_elements.max(2),
            request_head: 0,
            request_tail: 0,
            response_head: 0,
            response_tail: 0,
            woke: false,
        };
        Self {
            number,
            pump: Pump::new(number, rings),
            waiting: VecDeque::new(),
            semaphores: Semaphores::new(),
            workload,
            broken: false,
        }
    }

    pub(crate) fn rings(&self) -> &Rings {
        self.pump.ring()
    }

    /// The host has put requests in. An index beyond the ring is ignored.
    pub(crate) fn set_request_tail(&mut self, tail: u32) {
        let rings = self.pump.ring_mut();
        if tail < rings.elements {
            rings.request_tail = tail;
        }
    }

    /// The host has taken responses. An index beyond the ring is ignored.
    pub(crate) fn set_response_head(&mut self, head: u32) {
        let rings = self.pump.ring_mut();
        if head < rings.elements {
            rings.response_head = head;
        }
    }

    /// Does what can be done.
    pub(crate) fn poll(
        &mut self,
        bus: &mut dyn Bus,
        budget: &mut u32,
        tally: &mut Tally,
    ) -> Progress {
        let mut progress = Progress::Idle;
        loop {
            let (fetched, then) = self.fetch(bus, budget, tally);
            progress = progress.sooner(then);
            let worked = self.advance(bus, tally);
            let ran = self.workload.step(bus, &mut self.semaphores);
            let answered = self.answer(bus, tally);
            let again = fetched || worked || ran || answered;
            if !again || self.broken {
                break;
            }
            if *budget == 0 {
                return Progress::More;
            }
        }
        let drained = self.waiting.is_empty() && progress == Progress::Idle;
        match self.pump.flush(bus, drained) {
            Ok(0) => {}
            Ok(_) => self.interrupt(bus, false, tally),
            Err(_) => self.break_down(tally),
        }
        self.pump.next_due().map_or(progress, |due| progress.sooner(Progress::Until(due)))
    }

    fn fetch(
        &mut self,
        bus: &mut dyn Bus,
        budget: &mut u32,
        tally: &mut Tally,
    ) -> (bool, Progress) {
        let mut fetched = false;
        while !self.broken && self.waiting.len() < WAITING_MAX && *budget > 0 {
            match self.pump.next(bus) {
                Ok(Next::Entry(slot)) => {
                    *budget -= 1;
                    fetched = true;
                    tally.requests += 1;
                    if let Ok(request) = Request::read_from_bytes(&slot.0) {
                        self.waiting.push_back(Waiting::new(request));
                    }
                    self.pump.recycle(slot);
                }
                Ok(Next::Again) => *budget -= 1,
                Ok(Next::Empty) => break,
                Ok(Next::Until(due)) => return (fetched, Progress::Until(due)),
                Err(_) => self.break_down(tally),
            }
        }
        (fetched, Progress::Idle)
    }

    /// The rings' memory is gone: nothing more happens until the network is activated anew.
    fn break_down(&mut self, tally: &mut Tally) {
        self.broken = true;
        self.waiting.clear();
        tally.broken += 1;
    }

    /// Takes each request as far as it goes, in order. `true` if any moved.
    fn advance(&mut self, bus: &mut dyn Bus, tally: &mut Tally) -> bool {
        // A workload that has crashed is not there to be synchronised with.
        if self.workload.is_crashed() {
            return false;
        }
        let mut ahead = Ahead::default();
        let mut moved = false;
        for waiting in &mut self.waiting {
            if !waiting.done {
                moved |=
                    step(bus, waiting, &ahead, &mut self.semaphores, &mut self.workload, tally);
            }
            ahead.note(waiting);
        }
        moved
    }

    /// Answers requests that are done, while there is room. `true` if there were any.
    fn answer(&mut self, bus: &mut dyn Bus, tally: &mut Tally) -> bool {
        let mut any = false;
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at) {
            if !waiting.done {
                at += 1;
                continue;
            }
            let wanted = waiting.request.command & command::COMPLETION != 0;
            if wanted && !self.pump.ring().has_room() {
                break;
            }
            let Some(waiting) = self.waiting.remove(at) else { break };
            any = true;
            tally.errors += u64::from(waiting.status != status::SUCCESS);
            if !wanted {
                self.pump.abandon();
                continue;
            }
            let response = Response { id: waiting.request.id, status: waiting.status.into() };
            let mut answer = Answer::default();
            answer.0.copy_from_slice(response.as_bytes());
            let force = waiting.request.command & command::FORCE_MSI != 0;
            tally.responses += 1;
            match self.pump.complete(bus, answer) {
                Ok(0) => {}
                Ok(_) => self.interrupt(bus, force, tally),
                Err(_) => {
                    self.break_down(tally);
                    break;
                }
            }
        }
        any
    }

    /// Interrupts if the response ring was empty.
    fn interrupt(&mut self, bus: &mut dyn Bus, force: bool, tally: &mut Tally) {
        let rings = self.pump.ring_mut();
        if std::mem::take(&mut rings.woke) || force {
            tally.interrupts += 1;
            raise(bus, Vector(self.number + 1));
        }
    }

    pub(crate) fn fields(&self) -> (u32, bool, Vec<(String, u64)>) {
        let rings = self.pump.ring();
        let mut fields: Vec<(String, u64)> = [
            ("requests", rings.requests),
            ("requests.head", rings.request_head.into()),
            ("requests.tail", rings.request_tail.into()),
            ("responses", rings.responses),
            ("responses.head", rings.response_head.into()),
            ("responses.tail", rings.response_tail.into()),
            ("waiting", self.waiting.len() as u64),
            ("running", self.workload.is_running().into()),
            ("crashed", self.workload.is_crashed().into()),
            ("broken", self.broken.into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let set = self.semaphores.0.iter().enumerate().filter(|(_, value)| **value != 0);
        fields.extend(set.map(|(index, value)| (format!("semaphore.{index}"), (*value).into())));
        (rings.elements, !self.broken, fields)
    }
}

/// One request, as far as it goes. `true` if it moved.
fn step(
    bus: &mut dyn Bus,
    waiting: &mut Waiting,
    ahead: &Ahead,
    semaphores: &mut Semaphores,
    workload: &mut Workload,
    tally: &mut Tally,
) -> bool {
    let mut moved = false;
    if !waiting.moved {
        if !synchronise(waiting, ahead, semaphores, true, &mut moved) {
            return moved;
        }
        match transfer(bus, &waiting.request, waiting.direction(), workload, tally) {
            Ok(()) => waiting.moved = true,
            Err(status) => {
                waiting.fail(status);
                return true;
            }
        }
        moved = true;
    }
    if !synchronise(waiting, ahead, semaphores, false, &mut moved) {
        return moved;
    }
    match ring(&waiting.request, workload) {
        Ok(rung) => tally.doorbells += u64::from(rung),
        Err(status) => waiting.status = status,
    }
    waiting.done = true;
    true
}

/// Carries out semaphore commands of one kind. `false` if one has to wait.
fn synchronise(
    waiting: &mut Waiting,
    ahead: &Ahead,
    semaphores: &mut Semaphores,
    presync: bool,
    moved: &mut bool,
) -> bool {
    for slot in &mut waiting.operations {
        let Some(operation) = slot.filter(|it| it.presync == presync) else { continue };
        if ahead.blocks(&operation) || !operation.run(semaphores) {
            return false;
        }
        *slot = None;
        *moved = true;
    }
    true
}

fn transfer(
    bus: &mut dyn Bus,
    request: &Request,
    direction: u8,
    workload: &mut Workload,
    tally: &mut Tally,
) -> Result<(), u16> {
    let len = request.len.get();
    match direction {
        command::TO_DEVICE => {
            let memory = workload.memory(request.destination.get(), len);
            let memory = memory.ok_or(status::DEVICE_ADDRESS)?;
            bus.dma_read(request.source.get(), memory).map_err(|_| status::HOST_FAULT)?;
            tally.bytes_in += u64::from(len);
        }
        command::FROM_DEVICE => {
            let memory = workload.memory(request.source.get(), len);
            let memory = memory.ok_or(status::DEVICE_ADDRESS)?;
            bus.dma_write(request.destination.get(), memory).map_err(|_| status::HOST_FAULT)?;
            tally.bytes_out += u64::from(len);
        }
        _ => {}
    }
    Ok(())
}

/// Writes the doorbell, if there is one.
fn ring(request: &Request, workload: &mut Workload) -> Result<bool, u16> {
    if request.doorbell_kind & doorbell::ENABLE == 0 {
        return Ok(false);
    }
    let len = 4_u64 >> (request.doorbell_kind & doorbell::LEN);
    let address = request.doorbell.get();
    if !address.is_multiple_of(len) || !workload.ring(address, len) {
        return Err(status::DOORBELL);
    }
    Ok(true)
}
