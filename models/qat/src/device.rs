//! The function: parameters, registers, rings, counters.

use std::collections::VecDeque;

use understudy_device::{
    AccessError, Bar, BarKind, BarSpec, Bus, Capability, Counter, Decoder, DeviceModel,
    FinishedJob, Identity, JobId, Nanos, Progress, QueueState, RegisterOps, RegisterRef,
    RegisterState, ResetKind, State, Vector,
};
use understudy_ring::{Next, Pump};
use zerocopy::FromBytes;
use zerocopy::little_endian::U64;

use crate::interrupts::Interrupts;
use crate::layout::{
    CompressionRequest, FLAG_VALID, Header, PUBLIC_KEY_REQUEST_LEN, PublicKeyRequest, REQUEST_LEN,
    Response, SymmetricRequest, compression, error, service, status,
};
use crate::mailbox::{Facts, LATEST_VERSION, Mailbox};
use crate::queue::{Completion, Pair, Request, RingState};
use crate::registers::{
    BAR_SIZE, MISC, MISC_BAR, MiscRegister, PAIRS, RINGS, RINGS_BAR, RingRegister, SOURCE_BUNDLE,
    SOURCE_MAILBOX,
};
use crate::service::symmetric::{self, Kind};
use crate::service::{Failure, compression as deflate, public_key};

/// Request rings that carry public-key requests, which are half as long.
const PUBLIC_KEY_PAIRS: u16 = 2;
/// Most jobs of one ring pair at a time.
const MAX_JOBS: usize = 32;
/// Bytes of data in jobs, above which no more are started.
const MAX_JOB_BYTES: usize = 64 << 20;

/// `CRYPTO_SYMMETRIC`, `CRYPTO_ASYMMETRIC`, `CIPHER`, `AUTHENTICATION`, `COMPRESSION`
/// (`icp_qat_capabilities_mask`), as physical functions of this generation have them.
const CAPABILITIES: u32 = 0x2f;
/// Crypto on pairs 0 to 3, compression on 6 and 7 (`ADF_GEN2_DEFAULT_RING_TO_SRV_MAP`).
const RING_MAP: u16 = 0x409;

/// The part whose virtual function this is. They differ in their PCI device id.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Part {
    /// C62x (Lewisburg): 37c9.
    C62x,
    /// C3xxx (Denverton): 19e3.
    C3xxx,
    /// DH895xCC (Coleto Creek): 0443.
    Dh895xcc,
}

impl Part {
    /// PCI device id of the virtual function.
    #[must_use]
    pub const fn device_id(self) -> u16 {
        match self {
            Self::C62x => 0x37c9,
            Self::C3xxx => 0x19e3,
            Self::Dh895xcc => 0x0443,
        }
    }
}

/// What a user can choose.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Which part.
    pub part: Part,
    /// Version of the mailbox protocol that the physical function speaks, 1 to 5.
    pub mailbox_version: u8,
    /// Most bytes that one request covers, and that its output takes: 65536 to 64 MiB.
    pub max_request: u32,
    /// The physical function announces a restart after so many responses; 0 for never.
    pub restart_after: u64,
    /// Milliseconds from that response to the announcement.
    pub restart_delay_ms: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            part: Part::C62x,
            mailbox_version: LATEST_VERSION,
            max_request: 16 << 20,
            restart_after: 0,
            restart_delay_ms: 0,
        }
    }
}

/// A parameter out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}, which is not {range}")]
pub struct ParameterError {
    /// Name of the parameter.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// What it may be.
    pub range: &'static str,
}

impl Parameters {
    fn check(&self) -> Result<(), ParameterError> {
        let checks = [
            ("mailbox_version", u64::from(self.mailbox_version), 1..=5, "1 to 5"),
            ("max_request", u64::from(self.max_request), 65536..=64 << 20, "65536 to 67108864"),
        ];
        for (name, value, allowed, range) in checks {
            if !allowed.contains(&value) {
                return Err(ParameterError { name, value, range });
            }
        }
        Ok(())
    }
}

/// What requests are counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Cipher,
    Auth,
    Chain,
    Aead,
    PublicKey,
    Compress,
    Decompress,
    Null,
    Unknown,
}

impl Work {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Cipher, "cipher"),
        (Self::Auth, "auth"),
        (Self::Chain, "chain"),
        (Self::Aead, "aead"),
        (Self::PublicKey, "public_key"),
        (Self::Compress, "compress"),
        (Self::Decompress, "decompress"),
        (Self::Null, "null"),
        (Self::Unknown, "unknown"),
    ];
}

/// Requests, bytes that they covered, and failures.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    requests: u64,
    bytes: u64,
    errors: u64,
}

#[derive(Debug, Default)]
struct Counters {
    work: [Tally; Work::ALL.len()],
    mismatches: u64,
    responses: u64,
    rings_broken: u64,
    interrupts: u64,
}

/// What a job's output becomes part of.
#[derive(Debug)]
enum Pending {
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

    fn is_served(&self, arbiter: u8) -> bool {
        arbiter >> self.index & 1 != 0 && self.pump.ring().is_ready() && !self.broken
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

    fn ring_register(&self, at: RegisterRef<RingRegister>) -> u32 {
        let ring = self.ring(at.index);
        let of_ring = |value: fn(&RingState) -> u32| ring.map_or(0, value);
        let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or(0);
        match at.id {
            RingRegister::Config => of_ring(RingState::config),
            RingRegister::LowBase => ring.map_or(0, |ring| low(ring.base())),
            RingRegister::HighBase => ring.map_or(0, |ring| low(ring.base() >> 32)),
            RingRegister::Head => of_ring(RingState::head),
            RingRegister::Tail => of_ring(RingState::tail),
            RingRegister::EmptyStatus => u32::from(!self.busy_rings()),
            RingRegister::InterruptFlag => self.interrupts.flag().into(),
            RingRegister::SourceSelect => self.interrupts.select[usize::from(at.index & 1)],
            RingRegister::CoalesceEnable | RingRegister::FlagAndCoalesce => {
                self.interrupts.enable().into()
            }
            RingRegister::CoalesceControl => self.interrupts.control(),
            RingRegister::ArbiterEnable => self.arbiter.into(),
        }
    }

    fn misc_register(&self, id: MiscRegister) -> u32 {
        match id {
            MiscRegister::Mailbox => self.mailbox.value(),
            MiscRegister::InterruptSource => self.sources(),
            MiscRegister::InterruptMask => self.mask,
        }
    }

    /// Takes requests of one pair while there is budget, room for responses, and nothing holds it
    /// back.
    fn serve(&mut self, bus: &mut dyn Bus, index: usize, budget: &mut u32) -> Progress {
        let mut progress = Progress::Idle;
        let mut drained = false;
        while self.queues[index].is_served(self.arbiter) {
            let queue = &mut self.queues[index];
            if *budget == 0 {
                let waits = queue.pump.ring().waiting() > 0 || queue.pump.has_ready();
                progress = if waits { Progress::More } else { progress };
                break;
            }
            if queue.pump.ring().room() <= queue.slots.len() || self.jobs_are_full(index) {
                // Until the driver takes responses, or a job is done.
                break;
            }
            match self.queues[index].pump.next(bus) {
                Ok(Next::Entry(request)) => {
                    *budget -= 1;
                    let slot = self.execute(bus, &request);
                    self.queues[index].pump.recycle(request);
                    self.queues[index].slots.push_back(slot);
                    self.settle(bus, index);
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
        let mut visible = 0;
        while let Some(Slot::Ready(work, response)) = self.queues[index].slots.front() {
            let (work, response) = (*work, *response);
            self.queues[index].slots.pop_front();
            self.counters.responses += 1;
            self.counters.work[work as usize].requests += 1;
            match self.queues[index].pump.complete(bus, Completion::from(response)) {
                Ok(written) => visible += written,
                Err(_) => self.break_ring(index),
            }
            if self.counters.responses == self.parameters.restart_after {
                let delay = u64::from(self.parameters.restart_delay_ms) * 1_000_000;
                self.restart_at = Some(bus.now().plus(delay));
                self.restart(bus);
            }
        }
        if visible > 0 {
            self.interrupt(bus);
        }
    }

    fn count(&mut self, work: Work, result: Result<u64, Failure>) {
        let tally = &mut self.counters.work[work as usize];
        match result {
            Ok(bytes) => tally.bytes += bytes,
            Err(failure) => {
                tally.errors += 1;
                self.counters.mismatches += u64::from(failure == Failure::Mismatch);
            }
        }
    }

    fn execute(&mut self, bus: &mut dyn Bus, request: &Request) -> Slot {
        let bytes = request.as_slice();
        let Ok((header, _)) = Header::read_from_prefix(bytes) else {
            return Slot::Ready(Work::Unknown, Response::empty());
        };
        // Of any request the opaque value is at the same place.
        let opaque = bytes.get(24..).and_then(|rest| U64::read_from_prefix(rest).ok());
        let opaque = opaque.map_or(U64::ZERO, |(opaque, _)| opaque);
        if header.service == service::NULL {
            return Slot::Ready(Work::Null, Response::null(&header, opaque));
        }
        let valid = header.flags & FLAG_VALID != 0;
        match header.service {
            service::SYMMETRIC if valid => match SymmetricRequest::ref_from_bytes(bytes) {
                Ok(request) => self.symmetric(bus, request),
                Err(_) => self.refuse(&header, opaque),
            },
            service::PUBLIC_KEY if valid => match PublicKeyRequest::read_from_prefix(bytes) {
                Ok((request, _)) => self.public_key(bus, &request),
                Err(_) => self.refuse(&header, opaque),
            },
            service::COMPRESSION if valid => match CompressionRequest::ref_from_bytes(bytes) {
                Ok(request) => self.compression(bus, request),
                Err(_) => self.refuse(&header, opaque),
            },
            _ => self.refuse(&header, opaque),
        }
    }

    /// A request that is none: too short for its service, not valid, or of no service there is.
    fn refuse(&mut self, header: &Header, opaque: U64) -> Slot {
        self.count(Work::Unknown, Err(Failure::Unsupported));
        let failed = status::CRYPTO | status::PUBLIC_KEY | status::COMPRESSION;
        let mut response = Response::to(header, opaque);
        response.status = failed | status::UNSUPPORTED;
        response.error = error::FATAL;
        if header.service == service::PUBLIC_KEY {
            response = Response::public_key(header, opaque, [0; 2], Err(Failure::Unsupported));
        }
        Slot::Ready(Work::Unknown, response)
    }

    fn symmetric(&mut self, bus: &mut dyn Bus, request: &SymmetricRequest) -> Slot {
        let work = match Kind::of(request) {
            Some(Kind::Cipher) => Work::Cipher,
            Some(Kind::Auth) => Work::Auth,
            Some(Kind::Chain) => Work::Chain,
            Some(Kind::Aead) => Work::Aead,
            None => Work::Unknown,
        };
        let result = symmetric::run(bus, request, &mut self.symmetric);
        self.count(work, result);
        let mut response = Response::to(&request.header, request.buffers.opaque);
        if let Err(failure) = result {
            response.fail(status::CRYPTO, failure);
        }
        Slot::Ready(work, response)
    }

    fn public_key(&mut self, bus: &mut dyn Bus, request: &PublicKeyRequest) -> Slot {
        match public_key::start(bus, request) {
            Ok((job, bytes, pending)) => {
                let pending = Pending::PublicKey(pending);
                Slot::Running { id: bus.submit(job), bytes, pending }
            }
            Err(failure) => {
                self.count(Work::PublicKey, Err(failure));
                let tables = [request.source.get(), request.destination.get()];
                let result = Err(failure);
                let response =
                    Response::public_key(&request.header, request.opaque, tables, result);
                Slot::Ready(Work::PublicKey, response)
            }
        }
    }

    fn compression(&mut self, bus: &mut dyn Bus, request: &CompressionRequest) -> Slot {
        let work = compression_work(request.header.command);
        let max_len = usize::try_from(self.parameters.max_request).unwrap_or(usize::MAX);
        match deflate::start(bus, request, &mut self.streams, max_len) {
            Ok((job, bytes, pending)) => {
                let pending = Pending::Compression(Box::new(pending));
                Slot::Running { id: bus.submit(job), bytes, pending }
            }
            Err(failure) => {
                self.count(work, Err(failure));
                let mut response = Response::to(&request.header, request.buffers.opaque);
                response.fail(status::COMPRESSION, failure);
                response.error =
                    if failure == Failure::Fault { error::ENDPOINT } else { error::FATAL };
                Slot::Ready(work, response)
            }
        }
    }

    /// The response to a request whose job is done.
    fn conclude(&mut self, bus: &mut dyn Bus, pending: Pending, done: FinishedJob) -> Slot {
        match pending {
            Pending::PublicKey(pending) => {
                let (response, result) = pending.finish(bus, done);
                self.count(Work::PublicKey, result);
                Slot::Ready(Work::PublicKey, response)
            }
            Pending::Compression(pending) => {
                let work = compression_work(pending.command());
                let (response, result) = pending.finish(bus, done, &mut self.streams);
                self.count(work, result);
                Slot::Ready(work, response)
            }
        }
    }

    fn queue_states(&self) -> Vec<QueueState> {
        let queues = self.queues.iter().enumerate();
        let states = queues.map(|(index, queue)| {
            let pair = queue.pump.ring();
            let fields = [
                ("requests.size", u64::from(pair.requests.size())),
                ("requests.head", pair.requests.head().into()),
                ("requests.tail", pair.requests.tail().into()),
                ("responses.size", pair.responses.size().into()),
                ("responses.head", pair.responses.head().into()),
                ("responses.tail", pair.responses.tail().into()),
                ("in_flight", queue.slots.len() as u64),
                ("broken", queue.broken.into()),
            ];
            QueueState {
                index: u16::try_from(index).unwrap_or(u16::MAX),
                name: format!("pair {index}"),
                enabled: queue.is_served(self.arbiter),
                size: pair.requests.size(),
                fields: fields.map(|(name, value)| (name.to_owned(), value)).into(),
            }
        });
        states.collect()
    }

    fn counter_list(&self) -> Vec<Counter> {
        let mut list = Vec::new();
        let mut add = |name: String, value| list.push(Counter { name, value });
        for (work, name) in Work::ALL {
            let tally = self.counters.work[work as usize];
            add(format!("{name}.requests"), tally.requests);
            add(format!("{name}.bytes"), tally.bytes);
            add(format!("{name}.errors"), tally.errors);
        }
        let mail = self.mailbox.tally();
        let rest = [
            ("mismatches", self.counters.mismatches),
            ("responses", self.counters.responses),
            ("interrupts", self.counters.interrupts),
            ("rings.broken", self.counters.rings_broken),
            ("mailbox.received", mail.received),
            ("mailbox.sent", mail.sent),
            ("mailbox.ignored", mail.ignored),
            ("mailbox.restarts", mail.restarts),
        ];
        for (name, value) in rest {
            add(name.to_owned(), value);
        }
        list
    }
}

fn compression_work(command: u8) -> Work {
    match command {
        compression::STATIC | compression::DYNAMIC => Work::Compress,
        compression::DECOMPRESS => Work::Decompress,
        _ => Work::Unknown,
    }
}

fn identity(part: Part) -> Identity {
    let bar = |bar| BarSpec {
        bar,
        kind: BarKind::Memory64,
        prefetchable: false,
        size: BAR_SIZE,
        shared: Vec::new(),
    };
    Identity {
        name: "qat",
        vendor_id: 0x8086,
        device_id: part.device_id(),
        subsystem_vendor_id: 0x8086,
        subsystem_id: 0x0000,
        revision_id: 0x04,
        // Co-processor.
        class_code: 0x0b_40_00,
        interrupt_pin: 0,
        bars: vec![bar(RINGS_BAR), bar(MISC_BAR)],
        capabilities: vec![
            Capability::Msi { vectors: 1, maskable: true },
            Capability::Express { flr: true },
        ],
        unmapped_read: 0x00,
    }
}

impl RegisterOps<RingRegister> for Qat {
    fn load(&mut self, _: &mut dyn Bus, at: RegisterRef<RingRegister>) -> u64 {
        self.ring_register(at).into()
    }

    fn store(&mut self, bus: &mut dyn Bus, at: RegisterRef<RingRegister>, value: u64, mask: u64) {
        let row = RINGS.row(at);
        let mask = mask & row.writable;
        let old = u64::from(self.ring_register(at));
        let new = u32::try_from(old & !mask | value & mask).unwrap_or(0);
        let [low, high, ..] = new.to_le_bytes();
        let rings = u16::from_le_bytes([low, high]);
        match at.id {
            RingRegister::Config
            | RingRegister::LowBase
            | RingRegister::HighBase
            | RingRegister::Head
            | RingRegister::Tail => self.store_ring(at, new),
            RingRegister::EmptyStatus => {}
            RingRegister::InterruptFlag => {
                let [low, high, ..] = (value & mask).to_le_bytes();
                self.interrupts.clear_flags(u16::from_le_bytes([low, high]));
            }
            RingRegister::SourceSelect => {
                self.interrupts.select[usize::from(at.index & 1)] = new;
            }
            RingRegister::CoalesceEnable => self.interrupts.set_enable(rings),
            RingRegister::FlagAndCoalesce => self.interrupts.set_flag_and_enable(rings),
            RingRegister::CoalesceControl => self.interrupts.set_control(new),
            RingRegister::ArbiterEnable => self.arbiter = low,
        }
        self.interrupt(bus);
    }
}

impl Qat {
    fn store_ring(&mut self, at: RegisterRef<RingRegister>, value: u32) {
        let Some((queue, is_requests)) = self.ring_mut(at.index) else { return };
        let pair = queue.pump.ring_mut();
        let ring = if is_requests { &mut pair.requests } else { &mut pair.responses };
        let (low, high) = (ring.base() & 0xffff_ffff, ring.base() >> 32 << 32);
        match at.id {
            RingRegister::Config => ring.set_config(value),
            RingRegister::LowBase => ring.set_base(high | u64::from(value)),
            RingRegister::HighBase => ring.set_base(u64::from(value) << 32 | low),
            RingRegister::Head => return ring.set_head(value),
            _ => return ring.set_tail(value),
        }
        queue.restart();
    }
}

impl RegisterOps<MiscRegister> for Qat {
    fn load(&mut self, _: &mut dyn Bus, at: RegisterRef<MiscRegister>) -> u64 {
        self.misc_register(at.id).into()
    }

    fn store(&mut self, bus: &mut dyn Bus, at: RegisterRef<MiscRegister>, value: u64, mask: u64) {
        let mask = mask & MISC.row(at).writable;
        let old = u64::from(self.misc_register(at.id));
        let new = u32::try_from(old & !mask | value & mask).unwrap_or(0);
        match at.id {
            MiscRegister::Mailbox => self.mailbox.write(new),
            MiscRegister::InterruptSource => {}
            MiscRegister::InterruptMask => self.mask = new,
        }
        self.deliver_mail(bus);
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
        let mut registers: Vec<RegisterState> =
            RINGS.describe(RINGS_BAR, 0, |at| self.ring_register(at).into());
        registers.extend(MISC.describe(MISC_BAR, 0, |at| self.misc_register(at.id).into()));
        let peer = self.mailbox.peer();
        if let Some(mailbox) = registers.iter_mut().find(|register| register.name == "misc.pf2vf") {
            let words = [(peer.initialised, "INIT"), (peer.restarting, "RESTARTING")];
            let words = words.iter().filter(|(on, _)| *on).map(|(_, word)| *word);
            mailbox.meaning = words.collect::<Vec<_>>().join("|");
        }
        State { registers, queues: self.queue_states(), counters: self.counter_list() }
    }
}
