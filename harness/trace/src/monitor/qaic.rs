//! Cloud AI 100: MHI with its boot interface, its rings and channels, and the DMA bridge. The clauses
//! are the documents and headers that Linux's drivers are written to.
//!
//! Here: registers. `rings`: contexts, commands and transfers. `bridge`: the DMA bridge.

mod bridge;
mod rings;

use std::collections::BTreeMap;

use understudy_device::Tap;
use understudy_pci::Irq;

use super::{Monitor, Touch};
use crate::decode::number;
use crate::names::index_of;
use crate::pipe::Place;
use crate::record::Record;
use crate::watch::Findings;
use bridge::Bridge;

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
const STATE_CHANGE: u64 = 0x20;

/// Elements and requests in flight that are remembered, for each queue.
const MAX_IN_FLIGHT: usize = 4096;
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
}
