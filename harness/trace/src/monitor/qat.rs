//! QAT gen2 virtual functions: rings, interrupts, mailbox. The clauses are the headers that Linux's
//! driver is written to.

use std::collections::BTreeMap;

use understudy_device::Tap;
use understudy_pci::Irq;

use super::{Monitor, Touch};
use crate::line::little_endian;
use crate::names::index_of;
use crate::pipe::Place;
use crate::record::Record;
use crate::watch::Findings;

/// Requests in flight that are remembered for a ring.
const MAX_IN_FLIGHT: usize = 1024;
/// Message interrupts without any access to the bundle's interrupt registers or ring heads.
const IGNORED: u64 = 256;
/// Responses that a driver may have taken without moving its head: DPDK saves writes.
const HEAD_LAG: u64 = 64;
/// Request rings; the ring of the responses is as many further on.
const PAIRS: u16 = 8;

/// Reserved bits by register.
const RESERVED: [(&str, u64); 4] = [
    ("rings.int_col_ctl", 0x7ff0_0000),
    ("rings.int_col_en", 0xffff_0000),
    ("rings.ringsrvarben", 0xffff_ff00),
    ("misc.vintmsk", 0xffff_fffc),
];

#[derive(Debug, Default)]
struct Ring {
    config: u64,
    base: u64,
    head: u64,
    tail: u64,
    /// Responses that the driver has not moved its head over, in a ring of responses.
    responses: u64,
    /// Source, destination and lengths of requests in flight, by opaque value.
    in_flight: BTreeMap<u64, [(u64, u64); 2]>,
}

#[derive(Debug, Default)]
pub(crate) struct Qat {
    rings: BTreeMap<u16, Ring>,
    arbiter: u64,
    /// INIT was sent to the physical function.
    initialised: bool,
    unanswered: u64,
}

impl Monitor for Qat {
    fn read(&mut self, _: Place, touch: &Touch<'_>, _: &mut Findings) {
        if answers(touch.name) {
            self.unanswered = 0;
        }
    }

    fn write(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
        if answers(touch.name) {
            self.unanswered = 0;
        }
        let reserved = RESERVED.iter().find(|(name, _)| *name == touch.name);
        if let Some((name, bits)) = reserved.filter(|(_, bits)| touch.value & bits != 0) {
            let what = format!("{name}: reserved bits {:#x}", touch.value & bits);
            findings.add(place, "qat/reserved-bits", what);
        }
        match touch.name {
            "rings.ringsrvarben" => self.arbiter = touch.value,
            "misc.pf2vf" => self.mailbox(place, touch.value, findings),
            name => self.ring(place, name, touch, findings),
        }
    }

    fn record(&mut self, place: Place, record: &Record<'_>, findings: &mut Findings) {
        match record {
            Record::Tap { point: Tap::Fetched, queue, entry, .. } => {
                self.fetched(place, *queue, entry, findings);
            }
            Record::Tap { point: Tap::Completing, queue, entry, .. } => {
                let opaque = little_endian(entry.get(8..16).unwrap_or_default());
                self.rings.entry(*queue).or_default().in_flight.remove(&opaque);
                self.rings.entry(*queue + PAIRS).or_default().responses += 1;
            }
            Record::EntryChanged { queue, iova, .. } => {
                let what =
                    format!("ring {queue}: the request at {iova:#x} changed while in flight");
                findings.add(place, "qat/request-changed", what);
            }
            Record::DmaUnmap { iova, size, .. } => self.unmap(place, (*iova, *size), findings),
            Record::Signal { irq: Irq::Msi | Irq::Msix, heard: true, .. } => {
                self.unanswered += 1;
                if self.unanswered == IGNORED {
                    let what = format!("{IGNORED} interrupts, and nothing was looked at");
                    findings.add(place, "qat/interrupt-ignored", what);
                }
            }
            Record::Detach { .. } | Record::Reset { .. } => {
                self.untaken(place, findings);
                if matches!(record, Record::Reset { .. }) {
                    *self = Self::default();
                }
            }
            _ => {}
        }
    }
}

/// Registers that show that an interrupt was seen.
fn answers(name: &str) -> bool {
    ["rings.int_", "rings.head", "misc.vint"].iter().any(|start| name.starts_with(start))
}

impl Qat {
    fn mailbox(&mut self, place: Place, value: u64, findings: &mut Findings) {
        let half = value >> 16;
        // A message of its own, not an acknowledgement: pending, with four bits of type.
        if half & 1 == 0 {
            return;
        }
        if half & 2 == 0 {
            let what = format!("a message without MSGORIGIN_SYSTEM: {half:#x}");
            findings.add(place, "qat/mailbox-origin", what);
        }
        match half >> 2 & 0xf {
            3 => self.initialised = true,
            4 => self.initialised = false,
            _ => {}
        }
    }

    fn ring(&mut self, place: Place, name: &str, touch: &Touch<'_>, findings: &mut Findings) {
        let registers = ["config", "lbase", "ubase", "head", "tail"];
        let Some((index, register)) = registers.iter().find_map(|register| {
            index_of(name, &format!("rings.{register}")).map(|index| (index, *register))
        }) else {
            return;
        };
        let (initialised, arbiter) = (self.initialised, self.arbiter);
        let ring = self.rings.entry(index).or_default();
        let mut find = |id, what: String| findings.add(place, id, what);
        let busy = !ring.in_flight.is_empty();
        match register {
            "config" | "lbase" | "ubase" if busy => {
                let what = format!("ring {index}: {register} changed with requests in flight");
                find("qat/ring-changed-in-flight", what);
            }
            "tail" if index < PAIRS => {
                let moved = touch.value != ring.tail;
                if moved && (ring.config == 0 || ring.base == 0) {
                    find("qat/tail-before-setup", format!("ring {index} has no size or place yet"));
                } else if moved && arbiter >> index & 1 == 0 {
                    let what = format!("ring {index} is not served (ringsrvarben)");
                    find("qat/tail-before-enable", what);
                }
                if moved && !initialised {
                    let what = format!("ring {index} was used before INIT was sent");
                    find("qat/rings-before-init", what);
                }
                let size = 64u64 << (ring.config & 0x1f);
                if touch.value >= size || !touch.value.is_multiple_of(64) {
                    let what = format!("ring {index}: tail {:#x} is no slot of it", touch.value);
                    find("qat/tail-value", what);
                }
            }
            _ => {}
        }
        match register {
            "config" => (ring.config, ring.head, ring.tail) = (touch.value, 0, 0),
            "lbase" => ring.base = ring.base & !0xffff_ffff | touch.value,
            "ubase" => ring.base = ring.base & 0xffff_ffff | touch.value << 32,
            "head" => {
                let size = 64u64 << (ring.config & 0x1f);
                let taken = touch.value.wrapping_sub(ring.head) & (size - 1);
                ring.responses = ring.responses.saturating_sub(taken / 32);
                ring.head = touch.value;
            }
            _ => ring.tail = touch.value,
        }
    }

    fn fetched(&mut self, place: Place, queue: u16, entry: &[u8], findings: &mut Findings) {
        let number =
            |at: usize, len: usize| little_endian(entry.get(at..at + len).unwrap_or_default());
        if number(3, 1) & 0x80 == 0 {
            let what = format!("ring {queue}: a request without the valid flag");
            findings.add(place, "qat/request-not-valid", what);
        }
        let opaque = number(24, 8);
        let ring = self.rings.entry(queue).or_default();
        if ring.in_flight.len() < MAX_IN_FLIGHT {
            let ranges = [(number(32, 8), number(48, 4)), (number(40, 8), number(52, 4))];
            ring.in_flight.insert(opaque, ranges);
        }
    }

    fn unmap(&self, place: Place, (iova, size): (u64, u64), findings: &mut Findings) {
        let end = iova.saturating_add(size);
        for (index, ring) in &self.rings {
            let mut ranges = ring.in_flight.values().flatten();
            let hit = ranges.find(|(addr, len)| {
                *addr != 0 && *addr < end && addr.saturating_add((*len).max(1)) > iova
            });
            if let Some((addr, _)) = hit {
                let what = format!(
                    "ring {index}: memory at {addr:#x} was unmapped with a request in flight"
                );
                findings.add(place, "qat/unmapped-in-flight", what);
            }
        }
    }

    /// Responses that nobody took: completions that the driver missed.
    fn untaken(&self, place: Place, findings: &mut Findings) {
        let missed = |ring: &Ring| ring.responses > HEAD_LAG;
        for (index, ring) in self.rings.iter().filter(|(_, ring)| missed(ring)) {
            let what = format!("ring {index}: {} responses were never taken", ring.responses);
            findings.add(place, "qat/completions-missed", what);
        }
    }
}
