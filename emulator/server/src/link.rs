//! What the device sees of its client: the [`Host`] of its PCI function.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use serde::Serialize;
use understudy_device::{Bar, DmaFault, DmaFaultKind, Job, JobId, Nanos};
use understudy_pci::{Host, Irq};
use understudy_trace::TracedFunction;
use understudy_wire::version::DEFAULT_MAX_DATA_XFER_SIZE;
use understudy_wire::{
    Command, DmaAccess, DmaLayout, DmaReadReply, Kind, Limits, Reply, Request, WireError,
};

use crate::Options;
use crate::dma::{Direction, IovaMap, MapFault, Piece};
use crate::interrupts::Interrupts;
use crate::jobs::Jobs;
use crate::log::Limiter;
use crate::shared::SharedAreas;
use crate::transport::{Channel, Closed, Message};

/// What a device's sessions have done since the device was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Clients that attached.
    pub clients: u64,
    /// Clients that were turned away because one was attached.
    pub refused_clients: u64,
    /// Messages received: requests and replies.
    pub messages: u64,
    /// Requests that failed, answered or posted.
    pub errors: u64,
    /// Replies that nothing waited for.
    pub stray_replies: u64,
    /// Region accesses that the function did not take; reads among them were answered as a bus
    /// would, writes ignored.
    pub access_errors: u64,
    /// DMA regions mapped just now.
    pub dma_maps: u64,
    /// Bytes that the device read from client memory.
    pub dma_read_bytes: u64,
    /// Bytes that the device wrote to client memory.
    pub dma_write_bytes: u64,
    /// DMA_READ and DMA_WRITE messages sent.
    pub dma_messages: u64,
    /// Interrupts signalled to the client.
    pub interrupts: u64,
}

/// Requests kept while a reply to DMA_READ or DMA_WRITE is awaited.
const MAX_QUEUED: usize = 1024;
/// Bytes that they may hold on to.
const MAX_QUEUED_BYTES: usize = 16 << 20;

/// DMA by messages.
#[derive(Debug)]
struct Messenger {
    next_id: u16,
    /// Most bytes in one message.
    chunk: usize,
    /// Where the client puts data, once a message has told.
    layout: Option<DmaLayout>,
    /// A request that was not answered in time. Until it is, no other is sent: one slow client
    /// costs the device one time limit, not one for every access.
    overdue: Option<(u16, Command)>,
}

impl Messenger {
    fn new(chunk: u32) -> Self {
        let chunk = usize::try_from(chunk).unwrap_or(usize::MAX);
        Self { next_id: 0, chunk, layout: None, overdue: None }
    }
}

/// The client, as the device reaches it.
pub(crate) struct Link<C> {
    /// `None` while no client is attached.
    pub(crate) channel: Option<C>,
    pub(crate) dma: IovaMap,
    pub(crate) interrupts: Interrupts,
    pub(crate) jobs: Jobs,
    pub(crate) shared: SharedAreas,
    pub(crate) counters: Counters,
    pub(crate) log: Limiter,
    limits: Limits,
    max_dma_maps: usize,
    dma_timeout: Duration,
    messenger: Messenger,
    /// Requests that arrived while a reply was awaited, in order.
    queued: VecDeque<Message>,
    queued_bytes: usize,
    incoming: Message,
    outgoing: Vec<u8>,
    start: Instant,
}

impl<C: Channel> Link<C> {
    pub(crate) fn new(function: &TracedFunction, options: &Options) -> rustix::io::Result<Self> {
        let max_dma_maps = usize::try_from(options.max_dma_maps).unwrap_or(usize::MAX);
        Ok(Self {
            channel: None,
            dma: IovaMap::new(max_dma_maps),
            interrupts: Interrupts::new(function)?,
            jobs: Jobs::new()?,
            shared: SharedAreas::new(function.identity())?,
            counters: Counters::default(),
            log: Limiter::new(),
            limits: Limits { max_data_xfer_size: options.max_data_xfer_size },
            max_dma_maps,
            dma_timeout: options.dma_timeout,
            messenger: Messenger::new(DEFAULT_MAX_DATA_XFER_SIZE),
            queued: VecDeque::new(),
            queued_bytes: 0,
            incoming: Message::default(),
            outgoing: Vec::new(),
            start: Instant::now(),
        })
    }

    /// Limits agreed with the client.
    pub(crate) fn set_limits(&mut self, peer_max_data_xfer_size: u32, max_dma_maps: u32) {
        let chunk = peer_max_data_xfer_size.min(self.limits.max_data_xfer_size);
        self.messenger = Messenger::new(chunk);
        let agreed = usize::try_from(max_dma_maps).unwrap_or(usize::MAX);
        self.dma.set_limit(agreed.min(self.max_dma_maps));
    }

    /// Forgets everything of a client. Its memory is unmapped, its descriptors closed.
    pub(crate) fn disconnect(&mut self, function: &TracedFunction) {
        self.channel = None;
        // What the jobs worked on is the model's past; it is about to be reset.
        self.jobs.abandon();
        self.interrupts.clear_all();
        self.dma = IovaMap::new(self.max_dma_maps);
        self.messenger = Messenger::new(DEFAULT_MAX_DATA_XFER_SIZE);
        self.queued = VecDeque::new();
        self.queued_bytes = 0;
        self.incoming = Message::default();
        self.outgoing = Vec::new();
        match SharedAreas::new(function.identity()) {
            Ok(shared) => self.shared = shared,
            Err(errno) => tracing::error!(%errno, "shared areas keep what the last client left"),
        }
    }

    /// Counters, with those that others keep.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            dma_maps: self.dma.len() as u64,
            interrupts: self.interrupts.fired,
            ..self.counters
        }
    }

    /// The next message of the client that is there: first those that arrived during DMA.
    pub(crate) fn receive(&mut self, into: &mut Message) -> Result<bool, Closed> {
        if let Some(message) = self.queued.pop_front() {
            self.queued_bytes = self.queued_bytes.saturating_sub(message.footprint());
            *into = message;
            return Ok(true);
        }
        self.channel.as_mut().ok_or(Closed)?.receive(into)
    }

    /// Whether there is something to serve that no descriptor tells of: a message that was read
    /// already, from a client that takes replies, or a connection given up during DMA.
    pub(crate) fn can_serve(&self) -> bool {
        self.channel.as_ref().is_none_or(|channel| {
            !channel.is_congested() && (channel.has_message() || !self.queued.is_empty())
        })
    }

    /// A reply that nothing waits for, except perhaps as a sign of life.
    pub(crate) fn stray_reply(&mut self, id: u16, command: Command) {
        if self.messenger.overdue == Some((id, command)) {
            self.messenger.overdue = None;
        } else {
            self.counters.stray_replies += 1;
        }
    }

    /// Reads by messages.
    fn message_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFaultKind> {
        let chunk = self.messenger.chunk.max(1);
        for (index, piece) in into.chunks_mut(chunk).enumerate() {
            let address = iova + (index * chunk) as u64;
            let probe = self.read_chunk(address, piece)?;
            // Both layouts fit what arrived, and they differ: a second look tells.
            if let Some(offset) = probe {
                let left = piece.len().saturating_sub(usize::try_from(offset).unwrap_or(0));
                self.read_chunk(address + offset, &mut [0; 4][..left.min(4)])?;
                self.messenger.layout.get_or_insert(DmaLayout::Standard);
                self.read_chunk(address, piece)?;
            }
        }
        Ok(())
    }

    /// One DMA_READ. `Some` if it is not certain yet where the data were: then the offset that
    /// another read would have to start from.
    fn read_chunk(&mut self, address: u64, into: &mut [u8]) -> Result<Option<u64>, DmaFaultKind> {
        let count = into.len() as u64;
        let id = self.next_id();
        self.outgoing.clear();
        Request::DmaRead(DmaAccess { address, count }).encode(id, false, &mut self.outgoing);
        self.exchange(id, Command::DMA_READ)?;
        let message = &self.incoming;
        let reply = Reply::decode(&message.header, &message.payload, &self.limits);
        let read = match reply {
            Ok(Reply::DmaRead(read)) if u64::from(read.count) == count => read,
            other => return Err(self.bad_reply(other.err())),
        };
        let layout = self.messenger.layout.or_else(|| read.layout());
        self.messenger.layout = layout;
        into.copy_from_slice(read.data(layout.unwrap_or(DmaLayout::Standard)));
        Ok(if layout.is_none() { ambiguity(&read) } else { None })
    }

    /// Writes by messages. A device reads a descriptor before it writes anything, so by now the
    /// layout is known.
    fn message_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFaultKind> {
        let chunk = self.messenger.chunk.max(1);
        for (index, piece) in from.chunks(chunk).enumerate() {
            let address = iova + (index * chunk) as u64;
            let id = self.next_id();
            let layout = self.messenger.layout.unwrap_or(DmaLayout::Standard);
            self.outgoing.clear();
            Request::encode_dma_write(id, address, piece, layout, &mut self.outgoing);
            self.exchange(id, Command::DMA_WRITE)?;
            let message = &self.incoming;
            let reply = Reply::decode(&message.header, &message.payload, &self.limits);
            let count = piece.len() as u64;
            match reply {
                Ok(Reply::DmaWrite(None)) => {}
                Ok(Reply::DmaWrite(Some(access))) if access.count == count => {}
                other => return Err(self.bad_reply(other.err())),
            }
        }
        Ok(())
    }

    fn next_id(&mut self) -> u16 {
        self.messenger.next_id = self.messenger.next_id.wrapping_add(1);
        self.messenger.next_id
    }

    fn bad_reply(&mut self, error: Option<WireError>) -> DmaFaultKind {
        let (id, command) = (self.incoming.header.id, self.incoming.header.command);
        let errno = self.incoming.header.errno();
        if let Some(suppressed) = self.log.admit() {
            let error = error.map(|error| error.to_string());
            tracing::warn!(%command, id, ?errno, error, suppressed, "client refused DMA");
        }
        DmaFaultKind::Failed
    }

    /// Sends `outgoing` and waits until its reply is in `incoming`. Requests that arrive meanwhile
    /// are kept for later.
    fn exchange(&mut self, id: u16, command: Command) -> Result<(), DmaFaultKind> {
        let failed = |_| DmaFaultKind::Failed;
        if self.messenger.overdue.is_some() {
            return Err(DmaFaultKind::Failed);
        }
        let channel = self.channel.as_mut().ok_or(DmaFaultKind::Failed)?;
        channel.send(&self.outgoing, None).map_err(failed)?;
        self.counters.dma_messages += 1;
        let until = Instant::now() + self.dma_timeout;
        loop {
            let channel = self.channel.as_mut().ok_or(DmaFaultKind::Failed)?;
            if !channel.receive(&mut self.incoming).map_err(failed)? {
                if channel.wait(until).map_err(failed)? {
                    continue;
                }
                self.messenger.overdue = Some((id, command));
                if let Some(suppressed) = self.log.admit() {
                    tracing::warn!(%command, id, suppressed, "client does not answer DMA");
                }
                return Err(DmaFaultKind::Failed);
            }
            let Message { header, refused, last, .. } = self.incoming;
            if header.kind() != Kind::Reply || last {
                self.queue_incoming()?;
                if last {
                    return Err(DmaFaultKind::Failed);
                }
                continue;
            }
            self.counters.messages += 1;
            if (header.id, header.command) != (id, command) {
                self.counters.stray_replies += 1;
            } else if refused.is_some() {
                return Err(self.bad_reply(None));
            } else {
                return Ok(());
            }
        }
    }

    fn queue_incoming(&mut self) -> Result<(), DmaFaultKind> {
        let bytes = self.queued_bytes + self.incoming.footprint();
        if self.queued.len() >= MAX_QUEUED || bytes > MAX_QUEUED_BYTES {
            if let Some(suppressed) = self.log.admit() {
                tracing::warn!(suppressed, "client sends without end during DMA: disconnecting it");
            }
            self.channel = None;
            return Err(DmaFaultKind::Failed);
        }
        self.queued_bytes = bytes;
        self.queued.push_back(std::mem::take(&mut self.incoming));
        Ok(())
    }
}

/// If both layouts fit the reply and give different data: where the early layout would have its
/// first data that are not zero.
fn ambiguity(read: &DmaReadReply<'_>) -> Option<u64> {
    let early = read.data(DmaLayout::Early);
    let word = early.chunks(4).position(|word| word.iter().any(|byte| *byte != 0))?;
    Some(word as u64 * 4)
}

impl<C: Channel> Host for Link<C> {
    #[inline]
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        let len = into.len();
        let fault = |kind| DmaFault { iova, len: len as u64, kind };
        check_wrap(iova, len).map_err(fault)?;
        let mut at = iova;
        let mut rest = into;
        while !rest.is_empty() {
            let piece = self.dma.find(at, rest.len(), Direction::Read).map_err(fault)?;
            let count = match piece {
                Piece::Mapped(memory, offset, count) => {
                    memory.read(offset, &mut rest[..count]).map_err(lost).map_err(fault)?;
                    count
                }
                Piece::Messages(count) => {
                    self.message_read(at, &mut rest[..count]).map_err(fault)?;
                    count
                }
            };
            rest = &mut rest[count..];
            at = at.wrapping_add(count as u64);
        }
        self.counters.dma_read_bytes += len as u64;
        Ok(())
    }

    #[inline]
    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        let fault = |kind| DmaFault { iova, len: from.len() as u64, kind };
        check_wrap(iova, from.len()).map_err(fault)?;
        let mut at = iova;
        let mut rest = from;
        while !rest.is_empty() {
            let piece = self.dma.find(at, rest.len(), Direction::Write).map_err(fault)?;
            let count = match piece {
                Piece::Mapped(memory, offset, count) => {
                    memory.write(offset, &rest[..count]).map_err(lost).map_err(fault)?;
                    count
                }
                Piece::Messages(count) => {
                    self.message_write(at, &rest[..count]).map_err(fault)?;
                    count
                }
            };
            rest = &rest[count..];
            at = at.wrapping_add(count as u64);
        }
        self.counters.dma_write_bytes += from.len() as u64;
        Ok(())
    }

    #[inline]
    fn dma_fence(&mut self) {
        fence(Ordering::SeqCst);
    }

    #[inline]
    fn signal(&mut self, irq: Irq, vector: u16) -> bool {
        self.interrupts.fire(irq, vector)
    }

    fn has_triggers(&self, irq: Irq) -> bool {
        self.interrupts.any(irq)
    }

    #[inline]
    fn now(&self) -> Nanos {
        nanos(self.start.elapsed())
    }

    fn submit(&mut self, job: Job) -> JobId {
        self.jobs.submit(job)
    }

    fn shared_read(&mut self, bar: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.shared.read(bar, offset, into)
    }

    fn shared_write(&mut self, bar: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.shared.write(bar, offset, from)
    }
}

/// An access does not continue at address 0.
#[inline]
fn check_wrap(iova: u64, len: usize) -> Result<(), DmaFaultKind> {
    let last = (len as u64).saturating_sub(1);
    if iova.checked_add(last).is_none() { Err(DmaFaultKind::Unmapped) } else { Ok(()) }
}

fn lost(fault: MapFault) -> DmaFaultKind {
    match fault {
        MapFault::OutOfRange => DmaFaultKind::Unmapped,
        MapFault::Lost => DmaFaultKind::Failed,
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
