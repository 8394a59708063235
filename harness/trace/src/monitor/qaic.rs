//! Cloud AI 100: MHI with its boot interface, its rings and channels, and the DMA bridge. The clauses
//! are the documents and headers that Linux's drivers are written to.

use std::collections::BTreeMap;

use understudy_device::{Tap, Verdict};
use understudy_pci::Irq;

use super::{Monitor, Touch};
use crate::line::little_endian;
use crate::names::index_of;
use crate::pipe::Place;
use crate::record::Record;
use crate::watch::Findings;

/// `MHICTRL`: bit 1 resets, bits 8 to 15 ask for a state.
const CONTROL_RESET: u64 = 1 << 1;
const CONTROL_RESERVED: u64 = 0xffff_00fd;
const READY: u64 = 1 << 0;
/// States, and those that a host asks for.
const M0: u64 = 2;
const ASKED_FOR: std::ops::RangeInclusive<u64> = 2..=6;
/// Execution environments in which the boot loader is not there any more: SBL and AMSS.
const BOOTED: std::ops::RangeInclusive<u64> = 1..=2;

/// The doorbell that wakes the device: no ring's.
const WAKE: &str = "mhi.chdb[127]";

/// Queues: those of the bridge come first, then channels, then the command ring.
const BRIDGES: u16 = 16;
const CHANNELS: u16 = 24;
const COMMANDS: u16 = BRIDGES + CHANNELS;

const CONTEXT_LEN: u64 = 44;
const ELEMENT_LEN: u64 = 16;
const REQUEST_LEN: u64 = 64;
/// The control channel to the device.
const CONTROL: u16 = 10;

const TRANSFER: u64 = 0x02;
const RESET_CHANNEL: u64 = 0x10;
const STOP_CHANNEL: u64 = 0x11;
const START_CHANNEL: u64 = 0x12;
const STATE_CHANGE: u64 = 0x20;
/// Flags of a transfer element: the chain bit, two for events, one against interrupts; the type.
const TRANSFER_BITS: u64 = 0x00ff_0701;

/// `MANAGE_MAGIC_NUMBER`, bytes of its header, and the transaction with memory for a channel.
const MAGIC: u64 = 0x4349_4151;
const HEADER_LEN: usize = 32;
const ACTIVATE: u64 = 9;

/// Elements and requests in flight that are remembered, for each queue.
const MAX_IN_FLIGHT: usize = 4096;
/// Activations that are remembered.
const MAX_MEMORIES: usize = 256;
/// Interrupts without a look at anything.
const IGNORED: u64 = 256;

/// A ring as its context says.
#[derive(Debug, Clone, Copy)]
struct Ring {
    base: u64,
    len: u64,
}

impl Ring {
    fn has(&self, address: u64) -> bool {
        let offset = address.wrapping_sub(self.base);
        offset < self.len && offset.is_multiple_of(ELEMENT_LEN)
    }
}

#[derive(Debug, Default)]
struct Channel {
    started: bool,
    ring: Option<Ring>,
    /// Elements in flight in their order: where they lie, and the memory of each.
    in_flight: Vec<(u64, (u64, u64))>,
}

/// A channel of the DMA bridge.
#[derive(Debug, Default)]
struct Bridge {
    requests: u64,
    elements: u64,
    head: u64,
    /// Responses that the host has not moved its head over.
    responses: u64,
    in_flight: Vec<(u64, (u64, u64))>,
}

impl Bridge {
    /// Elements from one pointer to another.
    fn between(&self, from: u64, to: u64) -> u64 {
        let elements = self.elements.max(1);
        (to % elements + elements - from % elements) % elements
    }
}

#[derive(Debug, Default)]
pub(crate) struct Qaic {
    /// RESET was written, and not read as clear since.
    reset_pending: bool,
    ready: bool,
    m0: bool,
    environment: u64,
    image: (u64, u64),
    /// An image is being taken.
    loading: bool,
    /// Addresses of contexts: channels, event rings, commands; and how many event rings there are.
    contexts: [u64; 3],
    event_rings: u64,
    events: BTreeMap<u16, Ring>,
    commands: Option<Ring>,
    channels: BTreeMap<u16, Channel>,
    /// Halves of doorbells that wait for the low one.
    high: BTreeMap<String, u64>,
    /// Where the device read last, which is where a fetched entry lies.
    read_at: u64,
    /// Where the piece of a control message lies that is read next.
    message: Option<u64>,
    /// Memory of activations: place and number of requests; and whether all could be seen.
    memories: Vec<(u64, u64)>,
    blind: bool,
    bridges: BTreeMap<u16, Bridge>,
    unanswered: u64,
}

impl Monitor for Qaic {
    fn read(&mut self, _: Place, touch: &Touch<'_>, _: &mut Findings) {
        match touch.name {
            "mhi.mhictrl" if touch.value & CONTROL_RESET == 0 => self.reset_pending = false,
            "mhi.mhistatus" => {
                self.ready |= touch.value & READY != 0;
                self.m0 = touch.value >> 8 & 0xff == M0;
            }
            "mhi.execenv" => self.environment = touch.value,
            "mhi.status" if touch.value >> 30 != 0 => self.loading = false,
            _ => {}
        }
        if touch.name.starts_with("dbc.") {
            self.unanswered = 0;
            self.pointer(touch);
        }
    }

    fn write(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
        let name = touch.name;
        let free = ["mhi.mhictrl", "mhi.soc_reset_req"].contains(&name);
        if self.reset_pending && name.starts_with("mhi.") && !free {
            let what = format!("{name} was written before RESET was seen clear");
            findings.add(place, "qaic/reset-not-awaited", what);
            self.reset_pending = false;
        }
        match name {
            "mhi.mhictrl" => self.control(place, touch.value, findings),
            "mhi.mhicfg" => self.event_rings = touch.value >> 16 & 0xff,
            "mhi.soc_reset_req" if touch.value & 1 != 0 => self.forget(),
            "mhi.ccabap" => self.context(place, 0, touch, findings),
            "mhi.ecabap" => self.context(place, 1, touch, findings),
            "mhi.crcbap" => self.context(place, 2, touch, findings),
            "mhi.imgaddr" | "mhi.imgsize" | "mhi.imgtxdb" => self.boot(place, touch, findings),
            WAKE => {}
            _ if ["mhi.crdb", "mhi.erdb[", "mhi.chdb["].iter().any(|it| name.starts_with(it)) => {
                self.unanswered = 0;
                self.doorbell(place, touch, findings);
            }
            _ => self.bridge(place, touch, findings),
        }
    }

    fn record(&mut self, place: Place, record: &Record<'_>, findings: &mut Findings) {
        match record {
            Record::DmaRead { iova, len, data, fault: None } => {
                self.read_at = *iova;
                if *len == CONTEXT_LEN && data.len() as u64 == *len {
                    self.ring(place, *iova, data, findings);
                } else if self.message.take_if(|at| at == iova).is_some() {
                    self.activation(data, *len);
                }
            }
            Record::DmaWrite { len: ELEMENT_LEN, data, .. }
                if number(data, 14, 1) == STATE_CHANGE =>
            {
                self.m0 = number(data, 11, 1) == M0;
            }
            Record::Tap { point: Tap::Fetched, queue, entry, .. } => match *queue {
                COMMANDS => self.command(place, entry, findings),
                BRIDGES..COMMANDS => self.element(place, *queue - BRIDGES, entry, findings),
                _ => self.request(place, *queue, entry, findings),
            },
            Record::Tap { point: Tap::Completing, queue, entry, verdict, .. } => {
                self.complete(*queue, entry, *verdict);
            }
            Record::EntryChanged { queue, iova, .. } => {
                let what = format!("queue {queue}: the element at {iova:#x} changed in flight");
                findings.add(place, "qaic/element-changed", what);
            }
            Record::DmaUnmap { iova, size, .. } => self.unmap(place, (*iova, *size), findings),
            Record::Signal { irq: Irq::Msi, heard: true, .. } => {
                self.unanswered += 1;
                if self.unanswered == IGNORED {
                    let what = format!("{IGNORED} interrupts, and nothing was looked at");
                    findings.add(place, "qaic/interrupt-ignored", what);
                }
            }
            Record::Reset { .. } => self.forget(),
            _ => {}
        }
    }
}

/// Little-endian number of `len` bytes at `at`, 0 where there are none.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    little_endian(bytes.get(at..at + len).unwrap_or_default())
}

impl Qaic {
    /// The device is as new.
    fn forget(&mut self) {
        *self = Self::default();
    }

    fn control(&mut self, place: Place, value: u64, findings: &mut Findings) {
        let mut find = |id, what: String| findings.add(place, id, what);
        if value & CONTROL_RESERVED != 0 {
            find("qaic/reserved-bits", format!("reserved bits of mhictrl: {value:#x}"));
        }
        if value & CONTROL_RESET != 0 {
            let (environment, image, blind) = (self.environment, self.image, self.blind);
            let memories = std::mem::take(&mut self.memories);
            let bridges = std::mem::take(&mut self.bridges);
            let kept = Self { environment, image, blind, memories, bridges, ..Self::default() };
            *self = Self { reset_pending: true, ..kept };
            return;
        }
        let state = value >> 8 & 0xff;
        if state != 0 && !ASKED_FOR.contains(&state) {
            find(
                "qaic/state-asked-for",
                format!("state {state:#x} is not for the host to ask for"),
            );
        }
        if state == M0 {
            if !self.ready {
                find("qaic/m0-before-ready", "M0 was asked for before READY was seen".to_owned());
            }
            if self.contexts.contains(&0) || self.event_rings == 0 {
                let what = "M0 was asked for before contexts and event rings were there";
                find("qaic/m0-before-contexts", what.to_owned());
            }
        }
        self.m0 &= state == M0;
    }

    fn context(&mut self, place: Place, which: usize, touch: &Touch<'_>, findings: &mut Findings) {
        if self.m0 {
            let what = format!("{} was written in M0", touch.name);
            findings.add(place, "qaic/contexts-moved", what);
        }
        self.contexts[which] = touch.onto(self.contexts[which]);
    }

    fn boot(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
        let mut find = |id, what: String| findings.add(place, id, what);
        if self.loading {
            find("qaic/image-while-loading", format!("{} was written while it is", touch.name));
        }
        match touch.name {
            "mhi.imgaddr" => self.image.0 = touch.onto(self.image.0),
            "mhi.imgsize" => self.image.1 = touch.value,
            _ => {
                if self.image.0 == 0 || self.image.1 == 0 {
                    find("qaic/image-not-set", "imgtxdb without an image's place and size".into());
                }
                if BOOTED.contains(&self.environment) {
                    let what = format!("imgtxdb in execution environment {}", self.environment);
                    find("qaic/image-outside-pbl", what);
                }
                self.loading = true;
            }
        }
    }

    /// Doorbells come whole, or as two halves, of which the low one rings.
    fn doorbell(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
        let mut find = |id, what: String| findings.add(place, id, what);
        let (low, high) = (touch.mask & 0xffff_ffff != 0, touch.mask >> 32 != 0);
        if !low {
            self.high.insert(touch.name.to_owned(), touch.value);
            return;
        }
        let before = self.high.remove(touch.name);
        if !high && before.is_none() {
            let what = format!("{}: the low half before the high one", touch.name);
            find("qaic/doorbell-halves", what);
            return;
        }
        let address = touch.value | before.unwrap_or(0);
        let channel = index_of(touch.name, "mhi.chdb");
        let ring = if let Some(number) = channel {
            let channel = self.channels.get(&number).filter(|channel| channel.started);
            if channel.is_none() {
                let what = format!("channel {number} was rung and is not started");
                find("qaic/channel-not-started", what);
            }
            channel.and_then(|channel| channel.ring)
        } else if let Some(ring) = index_of(touch.name, "mhi.erdb") {
            self.events.get(&ring).copied()
        } else {
            self.commands
        };
        // Event rings are given their elements before M0.
        if !self.m0 && !touch.name.starts_with("mhi.erdb") {
            find("qaic/doorbell-before-m0", format!("{} was rung before M0", touch.name));
        }
        if let Some(Ring { base, len }) = ring.filter(|ring| !ring.has(address)) {
            let what = format!("{}: {address:#x} is no element of {base:#x}+{len:#x}", touch.name);
            find("qaic/doorbell-outside-ring", what);
        }
    }

    /// A context was read: of a channel, an event ring, or the command ring.
    fn ring(&mut self, place: Place, at: u64, data: &[u8], findings: &mut Findings) {
        let index = |base: u64, count: u64| {
            let offset = at.checked_sub(base)?;
            let index = offset / CONTEXT_LEN;
            (base != 0 && offset.is_multiple_of(CONTEXT_LEN) && index < count).then_some(index)
        };
        let [channels, events, commands] = self.contexts;
        let ring = Ring { base: number(data, 12, 8), len: number(data, 20, 8) };
        let ends = [28, 36].map(|at| number(data, at, 8));
        let mut faults = Vec::new();
        if ring.len == 0 || !ring.len.is_multiple_of(ELEMENT_LEN) {
            faults.push("its length is no number of elements");
        } else if !ends.iter().all(|end| ring.has(*end)) {
            faults.push("a pointer is outside the ring");
        }
        let name = if at == commands && commands != 0 {
            self.commands = Some(ring);
            "the command ring".to_owned()
        } else if let Some(index) = index(channels, 128) {
            let way = number(data, 4, 4);
            if way != 1 + index % 2 {
                faults.push("its direction is the other one's");
            }
            if number(data, 8, 4) >= self.event_rings {
                faults.push("its event ring is none that there is");
            }
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            self.channels.entry(number).or_default().ring = Some(ring);
            format!("channel {index}")
        } else if let Some(index) = index(events, self.event_rings) {
            self.events.insert(u16::try_from(index).unwrap_or(u16::MAX), ring);
            format!("event ring {index}")
        } else {
            return;
        };
        for fault in faults {
            findings.add(place, "qaic/context", format!("{name}: {fault}"));
        }
    }

    fn command(&mut self, place: Place, entry: &[u8], findings: &mut Findings) {
        let mut find = |id, what: String| findings.add(place, id, what);
        let (kind, channel) = (number(entry, 14, 1), number(entry, 15, 1));
        let reserved = number(entry, 0, 8) | number(entry, 8, 4) | number(entry, 12, 2);
        let known = [1, RESET_CHANNEL, STOP_CHANNEL, START_CHANNEL].contains(&kind);
        if !known || reserved != 0 || channel >= 128 {
            let what = format!("command {kind:#x} of channel {channel}, reserved {reserved:#x}");
            find("qaic/command-element", what);
        }
        let number = u16::try_from(channel).unwrap_or(u16::MAX);
        let it = self.channels.entry(number).or_default();
        match kind {
            START_CHANNEL => {
                if it.started {
                    find("qaic/channel-order", format!("channel {channel} is started again"));
                }
                it.started = true;
            }
            RESET_CHANNEL | STOP_CHANNEL => {
                if !it.started {
                    let what = format!("channel {channel} is stopped or reset, and not started");
                    find("qaic/channel-order", what);
                }
                it.started = false;
                it.in_flight.clear();
            }
            _ => {}
        }
    }

    fn element(&mut self, place: Place, channel: u16, entry: &[u8], findings: &mut Findings) {
        let (low, high) = (number(entry, 8, 4), number(entry, 12, 4));
        let len = low & 0xffff;
        let odd = high >> 16 & 0xff != TRANSFER || high & !TRANSFER_BITS != 0 || low != len;
        if odd || len == 0 {
            let what = format!("channel {channel}: element with words {low:#x} and {high:#x}");
            findings.add(place, "qaic/transfer-element", what);
        }
        let at = number(entry, 0, 8);
        if channel == CONTROL {
            self.message = Some(at);
        }
        let it = self.channels.entry(channel).or_default();
        if it.in_flight.len() < MAX_IN_FLIGHT {
            it.in_flight.push((self.read_at, (at, len)));
        }
    }

    /// A piece of a message to the device: transactions, perhaps after a header.
    fn activation(&mut self, data: &[u8], len: u64) {
        let start = if number(data, 4, 4) == MAGIC { HEADER_LEN } else { 0 };
        let mut rest = data.get(start..).unwrap_or_default();
        while rest.len() >= 8 {
            let (kind, size) = (number(rest, 0, 4), number(rest, 4, 4));
            let size = usize::try_from(size).unwrap_or(usize::MAX).max(8);
            if kind == ACTIVATE && rest.len() >= 40 {
                let (requests, elements) = (number(rest, 8, 8), number(rest, 24, 4));
                // Its channel begins anew.
                self.bridges.retain(|_, bridge| bridge.requests != requests);
                self.memories.push((requests, elements));
            }
            rest = rest.get(size..).unwrap_or_default();
        }
        self.blind |= (data.len() as u64) < len || self.memories.len() > MAX_MEMORIES;
        self.memories.truncate(MAX_MEMORIES);
    }

    /// What the device says of its responses: after a crash that is not what it said before.
    fn pointer(&mut self, touch: &Touch<'_>) {
        let tail = index_of(touch.name, "dbc.rsptp");
        let Some(index) = tail.or_else(|| index_of(touch.name, "dbc.rsphp")) else { return };
        let Some(bridge) = self.bridges.get_mut(&index) else { return };
        if tail.is_none() {
            bridge.head = touch.value;
        } else {
            bridge.responses = bridge.between(bridge.head, touch.value);
        }
    }

    /// Pointers of the DMA bridge.
    fn bridge(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
        let mut find = |id, what: String| findings.add(place, id, what);
        let tail = index_of(touch.name, "dbc.reqtp");
        let Some(index) = tail.or_else(|| index_of(touch.name, "dbc.rsphp")) else { return };
        self.unanswered = 0;
        match self.memories.iter().map(|it| it.1).max() {
            _ if self.blind => {}
            None => {
                let what = format!("{} was written and nothing is activated", touch.name);
                find("qaic/bridge-before-activation", what);
            }
            Some(most) if touch.value >= most => {
                let what = format!("{}: {} is outside the ring", touch.name, touch.value);
                find("qaic/bridge-pointer", what);
            }
            Some(_) => {}
        }
        if let Some(bridge) = self.bridges.get_mut(&index).filter(|_| tail.is_none()) {
            let taken = bridge.between(bridge.head, touch.value);
            if taken > bridge.responses {
                let what = format!("channel {index}: {taken} responses taken of those written");
                find("qaic/response-head", what);
            }
            bridge.responses = bridge.responses.saturating_sub(taken);
            bridge.head = touch.value;
        }
    }

    fn request(&mut self, place: Place, queue: u16, entry: &[u8], findings: &mut Findings) {
        let mut faults = Vec::new();
        let (command, bell) = (number(entry, 3, 1), number(entry, 40, 1));
        let way = command & 3;
        if command & 0x64 != 0 || number(entry, 4, 4) != 0 || number(entry, 28, 4) != 0 {
            faults.push("reserved bits");
        }
        if way == 3 || way != 0 && command & 8 == 0 {
            faults.push("its direction or kind of transfer");
        }
        if bell & 0x80 != 0 && bell & 3 == 3 {
            faults.push("the width of its doorbell");
        }
        let semaphores = [48, 52, 56, 60].map(|at| number(entry, at, 4));
        let enabled = || semaphores.iter().filter(|word| *word >> 31 != 0);
        if enabled().any(|word| word >> 24 & 7 == 7) {
            faults.push("a semaphore's operation");
        }
        if enabled().filter(|word| *word >> 22 & 1 != 0).count() > 1 {
            faults.push("two semaphores before the transfer");
        }
        for fault in faults {
            let what = format!("channel {queue}: a request with what there is not: {fault}");
            findings.add(place, "qaic/request", what);
        }
        let at = self.read_at;
        let found = self.memories.iter().rev().copied().find(|(base, elements)| {
            at.checked_sub(*base).is_some_and(|offset| offset / REQUEST_LEN < *elements)
        });
        let bridge = self.bridges.entry(queue).or_default();
        if let Some((requests, elements)) = found
            && bridge.requests != requests
        {
            *bridge = Bridge { requests, elements, ..Bridge::default() };
        }
        // The host's memory: the source of what goes to the device, or the destination.
        let host = number(entry, if way == 1 { 8 } else { 16 }, 8);
        if way != 0 && bridge.in_flight.len() < MAX_IN_FLIGHT {
            bridge.in_flight.push((number(entry, 0, 2), (host, number(entry, 24, 4))));
        }
    }

    fn complete(&mut self, queue: u16, entry: &[u8], verdict: Verdict) {
        if queue < BRIDGES {
            let bridge = self.bridges.entry(queue).or_default();
            let id = number(entry, 0, 2);
            bridge.in_flight.retain(|(of, _)| *of != id);
            bridge.responses += match verdict {
                Verdict::Drop => 0,
                Verdict::Duplicate => 2,
                _ => 1,
            };
        } else if let Some(channel) = self.channels.get_mut(&(queue - BRIDGES)) {
            let at = number(entry, 0, 8);
            if let Some(last) = channel.in_flight.iter().position(|(of, _)| *of == at) {
                channel.in_flight.drain(..=last);
            }
        }
    }

    fn unmap(&self, place: Place, (iova, size): (u64, u64), findings: &mut Findings) {
        let end = iova.saturating_add(size);
        let channels = self.channels.iter().map(|(at, it)| (format!("MHI {at}"), &it.in_flight));
        let bridges = self.bridges.iter().map(|(at, it)| (format!("DMA {at}"), &it.in_flight));
        for (name, in_flight) in channels.chain(bridges) {
            let hit = in_flight
                .iter()
                .find(|(_, (addr, len))| *addr < end && addr.saturating_add((*len).max(1)) > iova);
            if let Some((_, (addr, len))) = hit {
                let what = format!("channel {name}: {addr:#x}+{len} was unmapped in flight");
                findings.add(place, "qaic/unmapped-in-flight", what);
            }
        }
    }
}
