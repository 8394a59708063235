//! Which request an entry, a completion or a piece of memory belongs to.

use std::collections::{BTreeMap, VecDeque};

use understudy_device::{
    DmaFault, FeatureWindow, Field, Named, Requests as Format, StatusPlace, Tap, Vocabulary,
};
use understudy_pci::Host;

use crate::resolve::{Effect, Rule, Target};
use crate::trigger::Place;

/// Bytes of a request that plans can match.
const REQUEST_BYTES: usize = 64;
/// Segments of a chain that are looked at.
const MAX_SEGMENTS: usize = 1024;
/// Requests in flight that are known by opcode.
const MAX_KNOWN: usize = 4096;
/// Entries held back by our own delays.
const MAX_HELD: usize = 256;
/// Pieces of payload written for one request that are remembered, and their bytes.
const MAX_PIECES: usize = 1024;
const MAX_OLD_BYTES: usize = 16 << 20;
/// Earlier reads that are remembered, and the longest of them.
const MAX_READS: usize = 1024;
const MAX_READ_LEN: usize = 64 << 10;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR: usize = 16;

/// Where the ring engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ring,
    Execution,
}

/// Memory written for a request.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) iova: u64,
    pub(super) len: usize,
    /// What was written and what was there before, if that is needed.
    pub(super) change: Option<(Vec<u8>, Vec<u8>)>,
}

/// An entry that was delayed.
struct Held {
    at: Tap,
    queue: u16,
    entry: Vec<u8>,
    /// It passes when it is offered again from then on.
    until: u64,
    /// When the ring engine offers it again.
    offered: u64,
}

/// What a fetched entry asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    pub(super) opcode: Option<u64>,
    key: Option<u64>,
}

pub(super) struct Requests {
    words: &'static Vocabulary,
    /// Selector and value registers of what the driver accepts, and whether it accepts packed rings.
    accept: Option<(Place, Place)>,
    accept_select: u64,
    packed: bool,
    phase: Phase,
    opcodes: BTreeMap<u64, u64>,
    order: VecDeque<u64>,
    /// Entries that were delayed here, to be known when they are offered again.
    held: VecDeque<Held>,
    pieces: Vec<Piece>,
    old_bytes: usize,
    /// The half of the next completion that comes later by this.
    tear: Option<(u32, u64)>,
    reads: BTreeMap<(u64, usize), Vec<u8>>,
    needs_requests: bool,
    needs_old: bool,
    needs_reads: bool,
}

impl Requests {
    pub(super) fn new(target: &Target) -> Self {
        let words = target.vocabulary;
        let accept =
            words.features.and_then(|FeatureWindow { accept_select, accepted, .. }| {
                Some((target.place(accept_select)?, target.place(accepted)?))
            });
        Self {
            words,
            accept,
            accept_select: 0,
            packed: false,
            phase: Phase::Ring,
            opcodes: BTreeMap::new(),
            order: VecDeque::new(),
            held: VecDeque::new(),
            pieces: Vec::new(),
            old_bytes: 0,
            tear: None,
            reads: BTreeMap::new(),
            needs_requests: false,
            needs_old: false,
            needs_reads: false,
        }
    }

    /// What these rules need to know.
    pub(super) fn look(&mut self, rules: &[Rule]) {
        self.needs_requests = rules.iter().any(|rule| rule.trigger.needs_requests());
        self.needs_old = rules.iter().any(|rule| matches!(rule.effect, Effect::BeforeData(_)));
        self.needs_reads = rules.iter().any(|rule| rule.effect == Effect::DmaStale);
    }

    pub(super) fn forget(&mut self) {
        let packed = self.packed;
        *self = Self {
            words: self.words,
            accept: self.accept,
            accept_select: self.accept_select,
            needs_requests: self.needs_requests,
            needs_old: self.needs_old,
            needs_reads: self.needs_reads,
            packed,
            phase: Phase::Ring,
            opcodes: BTreeMap::new(),
            order: VecDeque::new(),
            held: VecDeque::new(),
            pieces: Vec::new(),
            old_bytes: 0,
            tear: None,
            reads: BTreeMap::new(),
        };
    }

    /// Delays are over: what comes again is not known here, and so passes.
    pub(super) fn release(&mut self, now: u64) {
        self.held.iter_mut().for_each(|held| held.until = now);
        self.tear = None;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tear.is_none()
    }

    /// The driver writes a register that says how its rings look.
    pub(super) fn written(&mut self, bar: understudy_device::Bar, offset: u64, data: &[u8]) {
        let Some((select, accepted)) = self.accept else { return };
        let value = Field::new(0, data.len().min(8)).get(data).unwrap_or(0);
        if bar == select.bar && offset == select.offset {
            self.accept_select = value;
        } else if bar == accepted.bar && offset == accepted.offset {
            let features = self.words.features.map_or(&[][..], |window| window.features);
            let packed = |named: &&Named| named.name == "ring_packed";
            let bit = features.iter().find(packed).map_or(64, |named| named.value);
            if bit / 32 == self.accept_select {
                self.packed = value >> (bit % 32) & 1 != 0;
            }
        }
    }

    pub(super) fn is_payload(&self) -> bool {
        self.phase == Phase::Execution
    }

    /// The engine looks at rings again.
    pub(super) fn at_ring(&mut self) {
        self.phase = Phase::Ring;
    }

    /// A request's work begins, or goes on after its job.
    pub(super) fn execute(&mut self) {
        self.phase = Phase::Execution;
        self.pieces.clear();
        self.old_bytes = 0;
    }

    /// An entry that a delay of ours held back.
    pub(super) fn take_held(&mut self, at: Tap, queue: u16, entry: &[u8], now: u64) -> bool {
        let is_it = |held: &Held| {
            held.at == at && held.queue == queue && held.entry == entry && held.until <= now
        };
        match self.held.iter().position(is_it) {
            Some(index) => self.held.remove(index).is_some(),
            None => false,
        }
    }

    pub(super) fn hold(&mut self, at: Tap, queue: u16, entry: &[u8], until: u64) {
        if self.held.len() == MAX_HELD {
            self.held.pop_front();
        }
        let entry = entry.to_vec();
        self.held.push_back(Held { at, queue, entry, until, offered: until });
    }

    /// Whether a fetched entry of the queue is held, which no other may overtake.
    pub(super) fn holds(&self, queue: u16, now: u64) -> bool {
        let blocks = |held: &Held| held.at == Tap::Fetched && held.queue == queue;
        self.held.iter().any(|held| blocks(held) && held.offered > now)
    }

    /// What a fetched entry asks for, as far as a plan wants to know.
    pub(super) fn request(&mut self, host: &mut dyn Host, entry: &[u8]) -> Request {
        if !self.needs_requests {
            return Request::default();
        }
        let request = match self.words.requests {
            Format::Inline { opcode, tag } => Request {
                bytes: entry[..entry.len().min(REQUEST_BYTES)].to_vec(),
                opcode: opcode.get(entry),
                key: tag.and_then(|tag| tag.get(entry)),
            },
            Format::Virtqueue { opcode } => {
                let (bytes, key) = self.chain(host, entry);
                Request { opcode: opcode.get(&bytes), bytes, key }
            }
        };
        if let (Some(key), Some(opcode)) = (request.key, request.opcode) {
            if self.order.len() == MAX_KNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.opcodes.remove(&oldest);
            }
            if self.opcodes.insert(key, opcode).is_none() {
                self.order.push_back(key);
            }
        }
        request
    }

    /// The first readable bytes of a chain, and the end of its last writable buffer, which names
    /// the request as long as it is in flight.
    fn chain(&self, host: &mut dyn Host, entry: &[u8]) -> (Vec<u8>, Option<u64>) {
        let (mut bytes, mut end) = (Vec::new(), None);
        let mut table = Vec::new();
        let mut descriptors: &[u8] = entry;
        if let Some(first) = entry.get(..DESCRIPTOR)
            && self.flags(first) & INDIRECT != 0
        {
            let (at, len) = place(first);
            table.resize(usize::try_from(len).unwrap_or(0).min(MAX_SEGMENTS * DESCRIPTOR), 0);
            if host.dma_read(at, &mut table).is_err() {
                return (bytes, None);
            }
            descriptors = &table;
        }
        let chained = !table.is_empty() && !self.packed;
        let mut index = 0;
        for _ in 0..MAX_SEGMENTS {
            let start = index * DESCRIPTOR;
            let Some(raw) = descriptors.get(start..start + DESCRIPTOR) else { break };
            let ((at, len), flags) = (place(raw), self.flags(raw));
            if flags & WRITE != 0 {
                end = Some(at.wrapping_add(len));
            } else if bytes.len() < REQUEST_BYTES {
                let room = REQUEST_BYTES - bytes.len();
                let mut part = vec![0; usize::try_from(len).unwrap_or(room).min(room)];
                if host.dma_read(at, &mut part).is_ok() {
                    bytes.append(&mut part);
                }
            }
            match (chained, flags & NEXT != 0) {
                (true, false) => break,
                (true, true) => index = usize::from(word(raw, 14)),
                (false, _) => index += 1,
            }
        }
        (bytes, end)
    }

    fn flags(&self, raw: &[u8]) -> u16 {
        word(raw, if self.packed { 14 } else { 12 })
    }

    /// The opcode of the request that a completion answers.
    pub(super) fn opcode_of(&mut self, entry: &[u8]) -> Option<u64> {
        let key = match self.words.requests {
            Format::Inline { .. } => self.words.tag.and_then(|tag| tag.get(entry))?,
            Format::Virtqueue { .. } => {
                let last = self.pieces.last()?;
                last.iova.wrapping_add(last.len as u64)
            }
        };
        let opcode = self.opcodes.remove(&key)?;
        self.order.retain(|known| *known != key);
        Some(opcode)
    }

    /// Notes what the device writes for a request, before it does.
    pub(super) fn note_write(&mut self, host: &mut dyn Host, iova: u64, from: &[u8]) {
        if self.phase != Phase::Execution || self.pieces.len() >= MAX_PIECES {
            return;
        }
        let mut change = None;
        if self.needs_old && self.old_bytes + from.len() <= MAX_OLD_BYTES {
            let mut old = vec![0; from.len()];
            if host.dma_read(iova, &mut old).is_ok() {
                self.old_bytes += from.len();
                change = Some((from.to_vec(), old));
            }
        }
        self.pieces.push(Piece { iova, len: from.len(), change });
    }

    /// What was written for the request that is about to complete, but not its status.
    pub(super) fn output(&self) -> &[Piece] {
        let count = match self.words.status {
            StatusPlace::Entry(_) => self.pieces.len(),
            StatusPlace::LastWrite(_) => self.pieces.len().saturating_sub(1),
        };
        &self.pieces[..count]
    }

    /// The status of a completion: its value and, if it is not in the entry, its address and field.
    pub(super) fn status(
        &self,
        host: &mut dyn Host,
        entry: &[u8],
    ) -> Option<(u64, Option<(u64, Field)>)> {
        match self.words.status {
            StatusPlace::Entry(field) => Some((field.get(entry)?, None)),
            StatusPlace::LastWrite(forms) => {
                let last = self.pieces.last()?;
                let (_, field) = forms.iter().find(|(len, _)| *len == last.len)?;
                let mut bytes = vec![0; last.len];
                host.dma_read(last.iova, &mut bytes).ok()?;
                Some((field.get(&bytes)?, Some((last.iova + field.offset as u64, *field))))
            }
        }
    }

    /// Whether a status is a success.
    pub(super) fn is_good(&self, status: u64) -> bool {
        status & self.words.status_mask == self.words.good
    }

    /// The next write of the engine is the first half now, the rest by `delay` later.
    pub(super) fn tear(&mut self, rule: u32, delay: u64) {
        self.tear = Some((rule, delay));
    }

    pub(super) fn take_tear(&mut self) -> Option<(u32, u64)> {
        if self.phase == Phase::Ring { self.tear.take() } else { None }
    }

    /// Remembers what was read, and says what was read there before.
    pub(super) fn read(&mut self, iova: u64, now: &[u8]) -> Option<Vec<u8>> {
        if !self.needs_reads || now.len() > MAX_READ_LEN {
            return None;
        }
        if self.reads.len() >= MAX_READS {
            self.reads.pop_first();
        }
        self.reads.insert((iova, now.len()), now.to_vec())
    }
}

/// Writes a field of a status to guest memory.
///
/// # Errors
/// As the host's.
pub(super) fn write_status(
    host: &mut dyn Host,
    at: u64,
    field: Field,
    value: u64,
) -> Result<(), DmaFault> {
    let bytes = value.to_le_bytes();
    host.dma_write(at, &bytes[..field.width.min(8)])
}

fn place(raw: &[u8]) -> (u64, u64) {
    let address = Field::new(0, 8).get(raw).unwrap_or(0);
    (address, Field::new(8, 4).get(raw).unwrap_or(0))
}

fn word(raw: &[u8], at: usize) -> u16 {
    let value = Field::new(at, 2).get(raw).unwrap_or(0);
    u16::try_from(value).unwrap_or(0)
}
