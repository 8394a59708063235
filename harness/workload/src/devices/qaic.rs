//! Cloud AI 100: networks, copies and requests that do nothing, on up to three channels.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use understudy_client::qaic::{
    Activation, Driver, Options as DriverOptions, Request, Transaction, sem,
};
use understudy_client::{DmaBuffer, DriverError, Platform};
use understudy_tensor::{Limits, Network, pack};

use super::{Overlooked, PATIENCE, Strangers, Working, bytes, heard};
use crate::book::{Book, Expect, FailureKind, Outcome};
use crate::case::{Completion, Operation, Options, Work};
use crate::planted::Bug;
use crate::watch::Watched;

pub(super) const WORK: &[Work] =
    &[Work::Null, Work::Infer, Work::Copy, Work::Control, Work::Wrong, Work::Renew];

/// The user that everything is for.
const USER: u32 = 1;
/// Elements of a ring.
const ELEMENTS: u32 = 32;
/// Commands of the DMA bridge, each with a response.
const NOTHING: u8 = 0x18;
const TO_DEVICE: u8 = 0x19;
const FROM_DEVICE: u8 = 0x1a;
const ILLEGAL: u8 = 0x1b;
/// A semaphore that the network does not use.
const COPIED: u32 = 5;
/// Bytes of the network's input, and of its output.
const TENSOR: usize = 16;
const GUARD: u8 = 0xc3;
const GUARDS: usize = 32;

/// Several bridge requests that belong together: what is left of them.
struct Flying {
    id: u64,
    left: usize,
    /// The first status that was no success.
    status: u16,
    source: Option<DmaBuffer>,
    /// With guards on both sides.
    destination: Option<(DmaBuffer, usize)>,
}

pub(super) struct Worker {
    driver: Driver<Watched>,
    platform: Watched,
    program: u32,
    channels: Vec<Activation>,
    /// By channel (its place in `channels`), then by the id of each bridge request.
    ids: BTreeMap<(usize, u16), u64>,
    flying: BTreeMap<u64, Flying>,
    next: u16,
    /// A message got no answer: what there is on the device is not known.
    lost: bool,
    depth: usize,
    bug: Option<Bug>,
    overlooked: Overlooked,
    strangers: Strangers,
}

impl Worker {
    pub(super) fn start(
        platform: Watched,
        options: &Options,
        bug: Option<Bug>,
    ) -> Result<Self, DriverError> {
        let vectors = match options.completion {
            Completion::Polling => 0,
            Completion::Single => 1,
            Completion::Vectors => 32,
        };
        let driver_options =
            DriverOptions { vectors, timeout_nanos: PATIENCE, ..DriverOptions::default() };
        let mut driver = Driver::new(platform.clone(), driver_options)?;
        driver.power_up()?;
        let program = driver
            .load(USER, doubler(), 1 << 20, 64)?
            .map_err(|_| DriverError::Missing("room for a network"))?;
        let mut worker = Self {
            driver,
            platform,
            program,
            channels: Vec::new(),
            ids: BTreeMap::new(),
            flying: BTreeMap::new(),
            next: 1,
            lost: false,
            depth: usize::from(options.depth.max(1)).min(8),
            bug,
            overlooked: Overlooked::default(),
            strangers: Strangers::default(),
        };
        for _ in 0..options.queues.clamp(1, 3) {
            let channel = worker.activate()?;
            worker.channels.push(channel);
        }
        Ok(worker)
    }

    fn activate(&mut self) -> Result<Activation, DriverError> {
        let active = self.driver.activate(USER, self.program, ELEMENTS)?;
        active.map_err(|_| DriverError::Missing("channel for a network"))
    }

    fn pending(&self, channel: usize) -> usize {
        self.ids.range((channel, 0)..=(channel, u16::MAX)).count()
    }

    fn next_id(&mut self) -> u16 {
        self.next = self.next.checked_add(1).unwrap_or(1);
        self.next
    }

    /// Submits requests that belong together.
    fn submit(
        &mut self,
        channel: usize,
        requests: &mut [Request],
        mut flying: Flying,
        book: &mut Book,
    ) -> Result<(), DriverError> {
        flying.left = requests.len();
        let active = self.channels[channel];
        for request in requests.iter_mut() {
            request.id = self.next_id();
        }
        match self.driver.submit(&active, requests) {
            Ok(()) => {
                self.ids.extend(requests.iter().map(|it| ((channel, it.id), flying.id)));
                self.flying.insert(flying.id, flying);
                Ok(())
            }
            Err(error) => {
                book.withdraw(flying.id);
                Err(error)
            }
        }
    }

    fn took(
        &mut self,
        channel: usize,
        (id, status): (u16, u16),
        book: &mut Book,
    ) -> Result<(), DriverError> {
        let whole = self.ids.remove(&(channel, id));
        let flying = whole.and_then(|whole| self.flying.get_mut(&whole));
        let (Some(whole), Some(flying)) = (whole, flying) else {
            return self.strangers.met(&format!("channel {channel}"), book);
        };
        self.strangers.forget();
        if flying.status == 0 {
            flying.status = status;
        }
        flying.left -= 1;
        if flying.left > 0 {
            return Ok(());
        }
        let Some(flying) = self.flying.remove(&whole) else { return Ok(()) };
        if self.overlooked.strikes(self.bug) {
            return Ok(());
        }
        let p = &mut self.driver.host.platform;
        let mut data = Vec::new();
        if let Some((buffer, len)) = flying.destination {
            let mut all = vec![0; buffer.len];
            p.dma_read(buffer.iova, &mut all)?;
            data = all[GUARDS..GUARDS + len].to_vec();
            let around = all[..GUARDS].iter().chain(&all[GUARDS + len..]);
            if around.into_iter().any(|byte| *byte != GUARD) {
                let queue = u16::try_from(channel).unwrap_or(u16::MAX);
                return Err(DriverError::StrayWrite { queue, iova: buffer.iova });
            }
            p.dma_free(buffer);
        }
        if let Some(source) = flying.source {
            p.dma_free(source);
        }
        let outcome = match flying.status {
            0 => Outcome::Done(data),
            status => {
                let status = format!("status {status}");
                Outcome::Refused { status, left: Vec::new() }
            }
        };
        book.complete(flying.id, &outcome);
        Ok(())
    }

    /// Data to the device and back: through a network, or as they are.
    fn transfer(
        &mut self,
        channel: usize,
        operation: &Operation,
        book: &mut Book,
    ) -> Result<(), DriverError> {
        // The memory of a channel is one: nobody else may use it.
        self.collect_channel(channel, 0, book)?;
        let active = self.channels[channel];
        let infers = operation.work == Work::Infer;
        let len = if infers { TENSOR } else { 1 + usize::from(operation.len) % 2048 };
        let (input, wanted) = if infers {
            let numbers = [0_u8, 1, 2, 3].map(|n| f32::from(operation.salt.wrapping_add(n)) - 7.5);
            let words = |scale: f32| numbers.map(|n| (n * scale).to_le_bytes()).concat();
            (words(1.0), words(2.0))
        } else {
            let data = bytes(operation.salt, len);
            (data.clone(), data)
        };
        let p = &mut self.driver.host.platform;
        let source = p.dma_alloc(len, 64)?;
        p.dma_write(source.iova, &input)?;
        let destination = p.dma_alloc(len + 2 * GUARDS, 64)?;
        p.dma_write(destination.iova, &vec![GUARD; destination.len])?;
        // Inputs and outputs begin at multiples of 4096.
        let back = if infers { active.memory + 4096 } else { active.memory };
        let (done, wait) = if infers {
            (sem::post(sem::INC, 0, 0), sem::pre(sem::P, 1, 0))
        } else {
            (sem::post(sem::INC, COPIED, 0), sem::pre(sem::P, COPIED, 0))
        };
        let wide = u32::try_from(len).unwrap_or(u32::MAX);
        let there = Request {
            command: TO_DEVICE,
            source: source.iova,
            destination: active.memory,
            len: wide,
            semaphores: [done, 0, 0, 0],
            ..Request::default()
        };
        let again = Request {
            command: FROM_DEVICE,
            source: back,
            destination: destination.at(GUARDS),
            len: wide,
            semaphores: [wait, 0, 0, 0],
            ..Request::default()
        };
        let name = format!("{:?} of {len} bytes on channel {channel}", operation.work);
        let flying = Flying {
            id: book.submit(name, Expect::Bytes(wanted)),
            left: 0,
            status: 0,
            source: Some(source),
            destination: Some((destination, len)),
        };
        self.submit(channel, &mut [there, again], flying, book)
    }

    fn single(
        &mut self,
        channel: usize,
        command: u8,
        expect: Expect,
        book: &mut Book,
    ) -> Result<(), DriverError> {
        let request = Request { command, ..Request::default() };
        let name = format!("command {command:#x} on channel {channel}");
        let id = book.submit(name, expect);
        let flying = Flying { id, left: 0, status: 0, source: None, destination: None };
        self.submit(channel, &mut [request], flying, book)
    }

    fn collect_channel(
        &mut self,
        channel: usize,
        leave: usize,
        book: &mut Book,
    ) -> Result<(), DriverError> {
        while self.pending(channel) > leave {
            let active = self.channels[channel];
            let response = heard(&self.platform, book, || self.driver.wait_response(&active))?;
            self.took(channel, response, book)?;
        }
        Ok(())
    }

    fn renew(&mut self, channel: usize, book: &mut Book) -> Result<(), DriverError> {
        let old = self.channels[channel];
        if self.driver.deactivate(USER, old)? != 0 {
            book.deviate(FailureKind::Refused, "the end of an activation was refused");
        }
        self.channels[channel] = self.activate()?;
        Ok(())
    }
}

impl Working for Worker {
    fn perform(&mut self, operation: &Operation, book: &mut Book) -> Result<(), DriverError> {
        let channel = usize::from(operation.queue) % self.channels.len();
        self.collect(self.depth.saturating_sub(1), book)?;
        match operation.work {
            Work::Renew => {
                self.collect_channel(channel, 0, book)?;
                let done = self.renew(channel, book);
                self.lost |= done.is_err();
                return done;
            }
            Work::Control => {
                // STATUS, which every firmware answers.
                let answer = self.driver.request(USER, &[Transaction::new(15, Vec::new())]);
                self.lost |= answer.is_err();
                if answer?.first().map(|it| it.word(0)) != Some(5) {
                    book.deviate(FailureKind::Wrong, "a status request got another answer");
                }
            }
            Work::Infer | Work::Copy => self.transfer(channel, operation, book)?,
            Work::Wrong => self.single(channel, ILLEGAL, Expect::Refusal, book)?,
            _ => self.single(channel, NOTHING, Expect::Bytes(Vec::new()), book)?,
        }
        self.collect(usize::from(operation.leave), book)
    }

    fn collect(&mut self, leave: usize, book: &mut Book) -> Result<(), DriverError> {
        while self.flying.len() > leave {
            let busy = (0..self.channels.len()).map(|channel| (self.pending(channel), channel));
            let Some((count, channel)) = busy.max().filter(|(count, _)| *count > 0) else { break };
            self.collect_channel(channel, count - 1, book)?;
        }
        Ok(())
    }

    fn reap(&mut self, book: &mut Book) -> Result<(), DriverError> {
        for channel in 0..self.channels.len() {
            let active = self.channels[channel];
            while let Some(response) = self.driver.take(&active)? {
                self.took(channel, response, book)?;
            }
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.flying.len()
    }

    fn is_lost(&self) -> bool {
        self.lost
    }
}

/// A container with a network that doubles four numbers. Made once.
fn doubler() -> &'static [u8] {
    static DOUBLER: OnceLock<Vec<u8>> = OnceLock::new();
    DOUBLER.get_or_init(|| {
        let onnx = add_to_itself();
        // A network that cannot be packed is one that the device refuses, too.
        let network = Network::from_onnx(&onnx, &Limits::default());
        let packed =
            network.ok().and_then(|it| pack("doubler", &onnx, it.inputs(), it.outputs()).ok());
        packed.unwrap_or_default()
    })
}

/// `y = x + x` for four 32-bit floats, as ONNX (field numbers of `onnx.proto`).
fn add_to_itself() -> Vec<u8> {
    fn number(field: u8, value: u8) -> Vec<u8> {
        vec![field << 3, value]
    }
    /// Of fewer than 128 bytes.
    fn nested(field: u8, value: &[u8]) -> Vec<u8> {
        let len = u8::try_from(value.len()).unwrap_or(0);
        [&[field << 3 | 2, len], value].concat()
    }
    fn tensor(name: &str) -> Vec<u8> {
        let shape = nested(1, &number(1, 4));
        let kind = nested(1, &[number(1, 1), nested(2, &shape)].concat());
        [nested(1, name.as_bytes()), nested(2, &kind)].concat()
    }
    let node = [nested(1, b"x"), nested(1, b"x"), nested(2, b"y"), nested(4, b"Add")].concat();
    let graph =
        [nested(1, &node), nested(2, b"g"), nested(11, &tensor("x")), nested(12, &tensor("y"))];
    [number(1, 8), nested(7, &graph.concat()), nested(8, &number(2, 13))].concat()
}
