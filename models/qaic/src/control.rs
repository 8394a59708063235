//! The service manager: it answers NNC messages, and accounts for what users hold.
//!
//! - `commands`: loads of constants, unloads, activations.
//!
//! One message is answered at a time. Loading a network is a job; messages behind it wait.

mod commands;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use understudy_device::{Bus, FinishedJob, Job, JobId};
use understudy_tensor::{Limits, LoadError, Network};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use crate::bridge::Channel;
use crate::info;
use crate::message::{
    self, ActivateAnswer, ActivateCommand, ActivateTransaction, Header, Malformed, Reply,
    Transaction, command, long, number, status, transaction,
};
use crate::registers::CHANNELS;
use crate::workload::addresses;

/// Neural processors. Each active network has one.
pub(crate) const PROCESSORS: usize = 16;
/// Programs, and sets of constants, each.
const LOADED_MAX: usize = 64;
/// Users whose transfers are under way.
const GATHERING_MAX: usize = 16;
/// Bytes of the tag and addresses of a piece that is read at once.
const READ_STEP: usize = 1 << 20;

#[derive(Debug)]
struct Program {
    owner: u32,
    bytes: u64,
    network: Arc<Network>,
}

#[derive(Debug)]
struct Constants {
    owner: u32,
    bytes: u64,
}

#[derive(Debug)]
struct Activation {
    owner: u32,
    program: u32,
    constants: u32,
    channel: u16,
    bytes: u64,
}

/// A message that is being answered.
#[derive(Debug)]
struct Answering {
    header: Header,
    rest: VecDeque<Transaction>,
    reply: Reply,
    /// Data of transfers, by tag.
    data: BTreeMap<u32, Vec<u8>>,
    channel_memory: Option<ActivateTransaction>,
    /// What became of it.
    activated: Option<(i32, u16)>,
}

/// A transfer whose addresses come in several messages.
#[derive(Debug)]
struct Gathering {
    chunk: u32,
    tag: u32,
    wanted: u64,
    data: Vec<u8>,
    rest: VecDeque<Transaction>,
    header: Header,
}

/// A network that is being loaded.
#[derive(Debug)]
struct Loading {
    job: JobId,
    bytes: u64,
    answering: Answering,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) refused: u64,
    pub(crate) malformed: u64,
    pub(crate) commands: u64,
    pub(crate) command_errors: u64,
    pub(crate) loaded: u64,
    pub(crate) load_errors: u64,
    pub(crate) activated: u64,
    pub(crate) deactivated: u64,
    pub(crate) terminated: u64,
    pub(crate) continued: u64,
}

/// What users hold, and the message that is being answered.
#[derive(Debug)]
pub(crate) struct Control {
    crc: bool,
    memory: u64,
    programs: BTreeMap<u32, Program>,
    constants: BTreeMap<u32, Constants>,
    activations: BTreeMap<u32, Activation>,
    gathering: BTreeMap<u32, Gathering>,
    loading: Option<Box<Loading>>,
    next_id: u32,
    /// Why the last program was refused, in words.
    pub(crate) refusal: String,
    pub(crate) tally: Tally,
}

/// The DMA bridge channels, by number.
pub(crate) type Channels = [Option<Box<Channel>>];

impl Control {
    /// A manager of `memory` bytes of device memory.
    pub(crate) fn new(memory: u64, crc: bool) -> Self {
        Self {
            crc,
            memory,
            programs: BTreeMap::new(),
            constants: BTreeMap::new(),
            activations: BTreeMap::new(),
            gathering: BTreeMap::new(),
            loading: None,
            next_id: 1,
            refusal: String::new(),
            tally: Tally::default(),
        }
    }

    /// Forgets everything but what was counted.
    pub(crate) fn reset(&mut self) {
        let refusal = std::mem::take(&mut self.refusal);
        *self = Self { tally: self.tally, refusal, ..Self::new(self.memory, self.crc) };
    }

    /// Whether the next message has to wait.
    pub(crate) fn is_busy(&self) -> bool {
        self.loading.is_some()
    }

    /// Bytes of device memory in use.
    pub(crate) fn used(&self) -> u64 {
        let programs = self.programs.values().map(|it| it.bytes);
        let constants = self.constants.values().map(|it| it.bytes);
        let activations = self.activations.values().map(|it| it.bytes);
        let gathering = self.gathering.values().map(|it| it.wanted);
        let loading = self.loading.iter().map(|it| it.bytes);
        programs.chain(constants).chain(activations).chain(gathering).chain(loading).sum()
    }

    fn has_room(&self, bytes: u64) -> bool {
        bytes <= self.memory.saturating_sub(self.used())
    }

    /// What is loaded, active, and free.
    pub(crate) fn facts(&self) -> info::Facts {
        info::Facts {
            memory: self.memory,
            used: self.used(),
            programs: self.programs.len(),
            constants: self.constants.len(),
            constants_used: self.activations.values().filter(|it| it.constants != 0).count(),
            active: self.activations.len(),
        }
    }

    /// Answers a message, or begins to. `None` if the answer comes later, or never.
    pub(crate) fn handle(
        &mut self,
        bus: &mut dyn Bus,
        channels: &mut Channels,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        self.tally.messages += 1;
        let Some(header) = message::header(bytes).filter(|it| it.magic.get() == message::MAGIC)
        else {
            // There is nobody to answer.
            self.tally.malformed += 1;
            return None;
        };
        let len = usize::try_from(header.len.get()).unwrap_or(usize::MAX);
        let whole = bytes.get(..len).unwrap_or(bytes);
        if self.crc && message::crc(whole) != header.crc.get() {
            return Some(self.refuse(&header, status::SAFETY_BCS_MHI_ERROR));
        }
        let Ok(transactions) = message::transactions(bytes, &header) else {
            self.tally.malformed += 1;
            return Some(self.refuse(&header, status::PARAMETER_ERROR));
        };
        let mut data = BTreeMap::new();
        let mut rest = VecDeque::from(transactions);
        match self.gather(bus, &header, &mut rest, &mut data) {
            Ok(None) => {}
            Ok(Some(reply)) => return Some(reply),
            Err(status) => return Some(self.refuse(&header, status)),
        }
        let channel_memory = rest.iter().find_map(|it| match it {
            Transaction::Activate(activate) => Some(*activate),
            _ => None,
        });
        let reply = Reply::to(&header);
        let activated = None;
        let answering = Answering { header, rest, reply, data, channel_memory, activated };
        self.go_on(bus, channels, answering)
    }

    /// Refuses a message as such.
    fn refuse(&mut self, header: &Header, status: i32) -> Vec<u8> {
        self.tally.refused += 1;
        let mut reply = Reply::to(header);
        reply.status(status, self.crc);
        reply.finish(self.crc)
    }

    /// Reads what transfers point to. A reply asks for the rest of one.
    fn gather(
        &mut self,
        bus: &mut dyn Bus,
        header: &Header,
        rest: &mut VecDeque<Transaction>,
        data: &mut BTreeMap<u32, Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, i32> {
        let handle = header.handle.get();
        let continued = self.gathering.remove(&handle);
        let transfer = rest.iter().position(|it| matches!(it, Transaction::Transfer { .. }));
        let Some(Transaction::Transfer { tag, chunk, pieces }) =
            transfer.and_then(|at| rest.remove(at))
        else {
            return Ok(None);
        };
        if rest.iter().any(|it| matches!(it, Transaction::Transfer { .. })) {
            // Each load has one, and a message has one load.
            return Err(status::PARAMETER_ERROR);
        }
        let mut gathering = match continued {
            Some(it) if chunk != 0 && it.chunk == chunk => {
                if pieces.is_empty() {
                    // The host gives up.
                    return Err(status::DMA_ERROR);
                }
                it
            }
            _ => {
                let wanted = wanted(rest, tag)?;
                if !self.has_room(wanted) {
                    return Err(status::MEM_ALLOC_ERROR);
                }
                let rest = std::mem::take(rest);
                Gathering { chunk, tag, wanted, data: Vec::new(), rest, header: *header }
            }
        };
        read(bus, &mut gathering, &pieces)?;
        let have = gathering.data.len() as u64;
        if have < gathering.wanted {
            if gathering.chunk == 0 || self.gathering.len() >= GATHERING_MAX {
                return Err(status::DMA_ERROR);
            }
            self.tally.continued += 1;
            let mut body = gathering.chunk.to_le_bytes().to_vec();
            body.extend([0; 4]);
            body.extend(have.to_le_bytes());
            let mut reply = Reply::to(header);
            reply.push(transaction::DMA_CONTINUE, &body);
            self.gathering.insert(handle, gathering);
            return Ok(Some(reply.finish(self.crc)));
        }
        let _ = gathering.header;
        *rest = gathering.rest;
        data.insert(gathering.tag, gathering.data);
        Ok(None)
    }

    /// Carries out transactions until one is a job.
    fn go_on(
        &mut self,
        bus: &mut dyn Bus,
        channels: &mut Channels,
        mut it: Answering,
    ) -> Option<Vec<u8>> {
        while let Some(next) = it.rest.pop_front() {
            match next {
                Transaction::Command(body) => {
                    self.tally.commands += 1;
                    match self.command(bus, channels, &mut it, &body) {
                        Ok(None) => {}
                        Ok(Some((job, bytes))) => {
                            self.loading = Some(Box::new(Loading { job, bytes, answering: it }));
                            return None;
                        }
                        Err(Malformed) => {
                            let kind = number(&body, 0).unwrap_or(0);
                            self.fail(&mut it, kind, status::CMD_LENGTH_ERROR);
                        }
                    }
                }
                // Taken note of before; answered at the end.
                Transaction::Activate(_) | Transaction::Transfer { .. } => {}
                Transaction::Status => it.reply.status(status::SUCCESS, self.crc),
                Transaction::Terminate(handle) => {
                    self.terminate(channels, handle);
                    let body = [0; 8];
                    it.reply.push(transaction::TERMINATE_FROM_DEVICE, &body);
                }
                Transaction::Partition(partition) => {
                    let there = partition == message::NO_PARTITION;
                    let status = if there { status::SUCCESS } else { status::PARAMETER_ERROR };
                    let mut body = status.to_le_bytes().to_vec();
                    body.extend([0; 4]);
                    it.reply.push(transaction::PARTITION_FROM_DEVICE, &body);
                }
                Transaction::Unknown => {
                    return Some(self.refuse(&it.header, status::UNDEFINED_REQUEST));
                }
            }
        }
        if it.channel_memory.is_some() {
            let (status, channel) = it.activated.unwrap_or((status::UNDEFINED_REQUEST, 0));
            let mut body = status.to_le_bytes().to_vec();
            body.extend(u32::from(channel).to_le_bytes());
            body.extend(U64::ZERO.as_bytes());
            it.reply.push(transaction::ACTIVATE_FROM_DEVICE, &body);
        }
        Some(it.reply.finish(self.crc))
    }

    /// Answers a command with a status alone, in the form that its answer has.
    fn fail(&mut self, it: &mut Answering, kind: u32, status: i32) {
        self.tally.command_errors += 1;
        let status = status.cast_unsigned();
        match kind {
            command::LOAD_ELF => it.reply.answer(&[kind + 1, 0, status, 0]),
            command::LOAD_CONSTANTS
            | command::LOAD_CONSTANTS_EX
            | command::LOAD_CONSTANTS_PAYLOAD => {
                it.reply.answer(&[command::LOAD_CONSTANTS_ANSWER, 0, status, 0]);
            }
            command::ACTIVATE => {
                it.activated = Some((status.cast_signed(), 0));
                it.reply.push(
                    transaction::PASSTHROUGH_FROM_DEVICE,
                    activate_answer(status.cast_signed(), 0, 0).as_bytes(),
                );
            }
            _ => it.reply.answer(&[kind.wrapping_add(1), status]),
        }
    }

    /// A job and its bytes, if the command is one.
    fn command(
        &mut self,
        bus: &mut dyn Bus,
        channels: &mut Channels,
        it: &mut Answering,
        body: &[u8],
    ) -> Result<Option<(JobId, u64)>, Malformed> {
        let kind = number(body, 0)?;
        let handle = it.header.handle.get();
        let result = match kind {
            command::LOAD_ELF => match self.load(it, body)? {
                Ok(container) => {
                    let container_len = container.len();
                    let bytes = container_len as u64;
                    let limits = limits(self.memory);
                    let load = move || Network::load(&container, &limits);
                    let job = Job::new(load).holding(container_len);
                    return Ok(Some((bus.submit(job), bytes)));
                }
                Err(status) => Err(status),
            },
            command::LOAD_CONSTANTS => self.load_constants(it, number(body, 8)?, handle),
            command::LOAD_CONSTANTS_EX => self.reserve_constants(it, body, handle)?,
            command::LOAD_CONSTANTS_PAYLOAD => self.fill_constants(it, body, handle)?,
            command::UNLOAD_ELF => self.unload_program(number(body, 4)?, handle),
            command::UNLOAD_CONSTANTS => self.unload_constants(number(body, 4)?, handle),
            command::ACTIVATE => {
                let (command, _) =
                    ActivateCommand::read_from_prefix(body).map_err(|_| Malformed)?;
                match self.activate(channels, it, &command) {
                    Ok(()) => return Ok(None),
                    Err(status) => Err(status),
                }
            }
            command::DEACTIVATE => {
                let (activation, teardown) = (number(body, 4)?, number(body, 8)?);
                let (result, channel) = self.deactivate(channels, activation, handle);
                let status = result.err().unwrap_or(status::SUCCESS);
                self.tally.command_errors += u64::from(result.is_err());
                it.reply.answer(&[kind + 1, status.cast_unsigned()]);
                if let Some(channel) = channel.filter(|_| teardown != 0) {
                    let mut body = status.to_le_bytes().to_vec();
                    body.extend(u32::from(channel).to_le_bytes());
                    it.reply.push(transaction::DEACTIVATE_FROM_DEVICE, &body);
                }
                return Ok(None);
            }
            command::STATUS => {
                it.reply.push(transaction::PASSTHROUGH_FROM_DEVICE, &info::status(&self.facts()));
                return Ok(None);
            }
            command::RESOURCE_INFO => {
                let group = number(body, 8)?;
                let answer = info::resources(&self.facts(), group);
                it.reply.push(transaction::PASSTHROUGH_FROM_DEVICE, &answer);
                return Ok(None);
            }
            command::PERFORMANCE_INFO => {
                it.reply.push(transaction::PASSTHROUGH_FROM_DEVICE, &info::performance());
                return Ok(None);
            }
            _ => Err(status::UNDEFINED_REQUEST),
        };
        match result {
            Ok(()) if matches!(kind, command::UNLOAD_ELF | command::UNLOAD_CONSTANTS) => {
                it.reply.answer(&[kind + 1, 0]);
            }
            Ok(()) => {}
            Err(status) => self.fail(it, kind, status),
        }
        Ok(None)
    }

    /// The container that a command is to load.
    fn load(&mut self, it: &mut Answering, body: &[u8]) -> Result<Result<Vec<u8>, i32>, Malformed> {
        let (tag, len) = (number(body, 4)?, long(body, 80)?);
        let Some(data) = it.data.remove(&tag) else { return Ok(Err(status::DMA_ERROR)) };
        if data.len() as u64 != len {
            return Ok(Err(status::DMA_ERROR));
        }
        if self.programs.len() >= LOADED_MAX {
            return Ok(Err(status::DATABASE_IDS_EXHAUSTED));
        }
        Ok(if self.has_room(len) { Ok(data) } else { Err(status::MEM_ALLOC_ERROR) })
    }

    /// A load is done: the reply of its message, if that is complete. `None` if it was another job.
    pub(crate) fn finish(
        &mut self,
        bus: &mut dyn Bus,
        channels: &mut Channels,
        done: &mut Option<FinishedJob>,
    ) -> Option<Vec<u8>> {
        let loading =
            self.loading.take_if(|it| done.as_ref().is_some_and(|job| job.id == it.job))?;
        let Loading { bytes, mut answering, .. } = *loading;
        let job = done.take()?;
        let network = job.into_output::<Result<Network, LoadError>>();
        let network = network.unwrap_or_else(|| Err(LoadError::Unsupported("no answer".into())));
        match network {
            Ok(network) => {
                self.tally.loaded += 1;
                let id = self.id();
                let owner = answering.header.handle.get();
                self.programs.insert(id, Program { owner, bytes, network: Arc::new(network) });
                answering.reply.answer(&[command::LOAD_ELF + 1, id, 0, 0]);
            }
            Err(error) => {
                self.tally.load_errors += 1;
                self.refusal = error.to_string();
                self.fail(&mut answering, command::LOAD_ELF, refusal(&error));
            }
        }
        self.go_on(bus, channels, answering)
    }

    fn id(&mut self) -> u32 {
        loop {
            let id = self.next_id;
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            let taken = self.programs.contains_key(&id)
                || self.constants.contains_key(&id)
                || self.activations.contains_key(&id);
            if !taken {
                return id;
            }
        }
    }

    /// A user is gone: everything of it is free again.
    fn terminate(&mut self, channels: &mut Channels, handle: u32) {
        self.tally.terminated += 1;
        let active = self.activations.iter().filter(|(_, it)| it.owner == handle);
        for id in active.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.release(channels, id);
        }
        self.programs.retain(|_, it| it.owner != handle);
        self.constants.retain(|_, it| it.owner != handle);
        self.gathering.remove(&handle);
    }
}

/// Bytes that the command wants which goes with a transfer.
fn wanted(rest: &VecDeque<Transaction>, tag: u32) -> Result<u64, i32> {
    let find = |it: &Transaction| {
        let Transaction::Command(body) = it else { return None };
        let (at, len) = match number(body, 0).ok()? {
            command::LOAD_ELF => (4, long(body, 80).ok()?),
            command::LOAD_CONSTANTS => (8, long(body, 16).ok()?),
            command::LOAD_CONSTANTS_PAYLOAD => (8, long(body, 16).ok()?),
            _ => return None,
        };
        (number(body, at).ok()? == tag).then_some(len)
    };
    rest.iter().find_map(find).ok_or(status::PARAMETER_ERROR)
}

/// Reads the pieces of a transfer, step by step, so that memory is taken only for what is there.
fn read(bus: &mut dyn Bus, it: &mut Gathering, pieces: &[(u64, u64)]) -> Result<(), i32> {
    for &(address, len) in pieces {
        let have = it.data.len() as u64;
        let fits = have.checked_add(len).is_some_and(|end| end <= it.wanted);
        if !fits || address.checked_add(len).is_none() {
            return Err(status::DMA_ERROR);
        }
        let mut done = 0;
        while done < len {
            let step = usize::try_from(len - done).unwrap_or(usize::MAX).min(READ_STEP);
            let start = it.data.len();
            it.data.resize(start + step, 0);
            let read = bus.dma_read(address + done, &mut it.data[start..]);
            read.map_err(|_| status::DMA_ERROR)?;
            done += step as u64;
        }
    }
    Ok(())
}

fn activate_answer(status: i32, activation: u32, channel: u16) -> ActivateAnswer {
    let good = status == status::SUCCESS;
    let (memory, doorbells) = if good { addresses(channel) } else { (0, 0) };
    let processors = if good { 1 << (channel % CHANNELS) } else { 0 };
    ActivateAnswer {
        kind: (command::ACTIVATE + 1).into(),
        status: status.cast_unsigned().into(),
        activation: activation.into(),
        channel: u32::from(channel).into(),
        memory: memory.into(),
        dynamic_memory: memory.into(),
        doorbells: doorbells.into(),
        doorbells_dma: doorbells.into(),
        dma_type: 0.into(),
        dma_mask: 0.into(),
        polling_address: 0.into(),
        polling_len: 0.into(),
        polling_data: 0.into(),
        command_doorbell: 0.into(),
        command_doorbell_len: 0,
        command_doorbell_valid: 0,
        processors: processors.into(),
        padding: [0; 2],
    }
}

/// The device's status ([`status`]) for a network that is not loaded.
#[must_use]
pub fn refusal(error: &LoadError) -> i32 {
    match error {
        LoadError::Container(_) | LoadError::NoNetwork | LoadError::Malformed(_) => {
            status::METADATA_ERROR
        }
        LoadError::Unsupported(_) => status::VER_MISMATCH_ERROR,
        LoadError::Limit { .. } => status::MEM_ALLOC_ERROR,
    }
}

/// No network is larger than the device's memory.
fn limits(memory: u64) -> Limits {
    let it = Limits::default();
    Limits {
        container_bytes: it.container_bytes.min(memory),
        tensor_bytes: it.tensor_bytes.min(memory),
        memory_bytes: it.memory_bytes.min(memory),
        ..it
    }
}
