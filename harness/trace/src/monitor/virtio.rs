//! virtio 1.3 over PCI: initialisation, features, queues, descriptors.

use std::collections::BTreeMap;

use understudy_device::Tap;
use understudy_pci::Irq;

use super::{Monitor, Touch};
use crate::line::little_endian;
use crate::names::index_of;
use crate::pipe::Place;
use crate::record::Record;
use crate::watch::Findings;

const ACKNOWLEDGE: u64 = 1;
const DRIVER: u64 = 2;
const DRIVER_OK: u64 = 4;
const FEATURES_OK: u64 = 8;
const FAILED: u64 = 128;
const STATUS_RESERVED: u64 = 0x30;
const INDIRECT_DESC: u64 = 1 << 28;
const VERSION_1: u64 = 1 << 32;
const RING_PACKED: u64 = 1 << 34;

const NEXT: u64 = 1;
const WRITE: u64 = 2;
const INDIRECT: u64 = 4;

/// Buffers in flight that are remembered, over all queues.
const MAX_IN_FLIGHT: usize = 4096;
/// Queue interrupts by INTx without a read of the ISR status that make it ignored.
const IGNORED: u64 = 16;

#[derive(Debug, Default, Clone)]
struct Queue {
    size: u64,
    desc: u64,
    driver: u64,
    enabled: bool,
    /// Head of the chain that is being fetched (split), as read from the available ring.
    head: u64,
    /// The available index as last read.
    available: Option<u64>,
    /// Requests in flight by the id that completes them: the memory that each covers.
    in_flight: BTreeMap<u64, Vec<(u64, u64)>>,
}

#[derive(Debug, Default)]
pub(crate) struct Virtio {
    status: u64,
    /// `device_status` was written with 0, and not read as 0 since.
    reset_pending: bool,
    /// `FEATURES_OK` was written, and `device_status` not read since.
    features_unread: bool,
    offered: [Option<u64>; 2],
    offer_select: u64,
    accepted: u64,
    accept_select: u64,
    select: u64,
    queues: BTreeMap<u64, Queue>,
    /// An indirect table that is about to be read: where, and for which queue and request.
    table: Option<(u64, u64, u64)>,
    in_flight: usize,
    unread_isr: u64,
}

impl Monitor for Virtio {
    fn read(&mut self, place: Place, touch: &Touch<'_>, _: &mut Findings) {
        let _ = place;
        match touch.name {
            "common.device_status" => {
                self.features_unread = false;
                if touch.value == 0 {
                    self.reset_pending = false;
                }
            }
            "common.device_feature" => {
                let word = usize::try_from(self.offer_select).unwrap_or(usize::MAX);
                if let Some(offered) = self.offered.get_mut(word) {
                    *offered = Some(touch.value);
                }
            }
            "common.queue_size" => {
                let queue = self.queues.entry(self.select).or_default();
                queue.size = touch.value;
            }
            "isr.status" => self.unread_isr = 0,
            _ => {}
        }
    }

    fn write(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
        let mut find = |id, what: String| findings.add(place, id, what);
        if touch.name.starts_with("common.") && touch.name != "common.device_status" {
            if self.reset_pending {
                let what = format!("{} was written before the reset was seen done", touch.name);
                find("virtio/reset-not-awaited", what);
                self.reset_pending = false;
            }
            if self.features_unread && touch.name.starts_with("common.queue_") {
                let what = "queues were set up before FEATURES_OK was read back".to_owned();
                find("virtio/features-ok-not-read", what);
                self.features_unread = false;
            }
        }
        match touch.name {
            "common.device_status" => self.status(place, touch.value, findings),
            "common.device_feature_select" => self.offer_select = touch.value,
            "common.driver_feature_select" => self.accept_select = touch.value,
            "common.driver_feature" => self.accept(place, touch.value, findings),
            "common.queue_select" => self.select = touch.value,
            "common.queue_size"
            | "common.queue_desc"
            | "common.queue_driver"
            | "common.queue_device"
            | "common.queue_enable"
            | "common.queue_reset" => {
                self.queue(place, touch, findings);
            }
            name => {
                if let Some(queue) = index_of(name, "notify") {
                    self.notify(place, queue, findings);
                }
            }
        }
    }

    fn record(&mut self, place: Place, record: &Record<'_>, findings: &mut Findings) {
        match record {
            Record::DmaRead { iova, data, .. } => self.dma_read(place, *iova, data, findings),
            Record::Tap { point: Tap::Fetched, queue, entry, .. } => {
                self.fetched(place, u64::from(*queue), entry, findings);
            }
            Record::Tap { point: Tap::Completing, queue, entry, .. } => {
                let id = little_endian(entry.get(..4).unwrap_or_default());
                let queue = self.queues.get_mut(&u64::from(*queue));
                if let Some(ranges) = queue.and_then(|queue| queue.in_flight.remove(&id)) {
                    self.in_flight = self.in_flight.saturating_sub(ranges.len());
                }
            }
            Record::DmaUnmap { iova, size, .. } => self.unmap(place, (*iova, *size), findings),
            Record::EntryChanged { queue, iova, .. } => {
                let what =
                    format!("queue {queue}: the descriptor at {iova:#x} changed while in flight");
                let id = "virtio/descriptor-changed";
                findings.add(place, id, what);
            }
            Record::Signal { irq: Irq::Intx, heard: true, .. } => {
                self.unread_isr += 1;
                if self.unread_isr == IGNORED {
                    let what = format!("{IGNORED} INTx interrupts without a read of ISR status");
                    let id = "virtio/isr-not-read";
                    findings.add(place, id, what);
                }
            }
            Record::Reset { .. } => *self = Self::default(),
            _ => {}
        }
    }
}

impl Virtio {
    fn negotiated(&self, feature: u64) -> bool {
        self.accepted & feature != 0
    }

    fn status(&mut self, place: Place, value: u64, findings: &mut Findings) {
        let mut find = |id, what: &str| findings.add(place, id, what.to_owned());
        if value == 0 {
            let offered = self.offered;
            *self = Self { reset_pending: true, offered, ..Self::default() };
            return;
        }
        if value & STATUS_RESERVED != 0 {
            find("virtio/reserved-bits", "reserved bits of device_status");
        }
        if self.reset_pending {
            let what = "device_status was written before the reset was seen done";
            find("virtio/reset-not-awaited", what);
            self.reset_pending = false;
        }
        if self.status & !value & !FAILED != 0 {
            let what = "a bit of device_status was cleared";
            find("virtio/status-bit-cleared", what);
        }
        let mut needs = |bit: u64, before: u64, what: &str| {
            // The bits may come in one write: only what is missing altogether is out of order.
            if value & bit != 0
                && self.status & bit == 0
                && (self.status | value) & before != before
            {
                find("virtio/initialisation-order", what);
            }
        };
        needs(DRIVER, ACKNOWLEDGE, "DRIVER without ACKNOWLEDGE");
        needs(FEATURES_OK, ACKNOWLEDGE | DRIVER, "FEATURES_OK without ACKNOWLEDGE and DRIVER");
        needs(DRIVER_OK, FEATURES_OK, "DRIVER_OK without FEATURES_OK");
        if value & FEATURES_OK != 0 && self.status & FEATURES_OK == 0 {
            self.features_unread = true;
            if !self.negotiated(VERSION_1) {
                let what = "FEATURES_OK without VERSION_1";
                find("virtio/version-1-not-accepted", what);
            }
        }
        self.status = value;
    }

    fn accept(&mut self, place: Place, value: u64, findings: &mut Findings) {
        if self.status & FEATURES_OK != 0 {
            let what = "driver_feature was written after FEATURES_OK".to_owned();
            findings.add(place, "virtio/features-after-ok", what);
        }
        let word = usize::try_from(self.accept_select).unwrap_or(usize::MAX);
        let Some(offered) = self.offered.get(word) else { return };
        if let Some(extra) = offered.map(|offered| value & !offered).filter(|extra| *extra != 0) {
            let what = format!("features {:#x} of word {word} were not offered", extra);
            findings.add(place, "virtio/feature-not-offered", what);
        }
        let shift = 32 * word;
        self.accepted = self.accepted & !(0xffff_ffff << shift) | value << shift;
    }

    fn queue(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
        let mut find = |id, what: String| findings.add(place, id, what);
        let index = self.select;
        let packed = self.negotiated(RING_PACKED);
        let queue = self.queues.entry(index).or_default();
        let field = touch.name.trim_start_matches("common.");
        match field {
            "queue_enable" => {
                if touch.value == 0 {
                    let what = format!("queue {index}: 0 was written to queue_enable");
                    find("virtio/queue-enable-0", what);
                } else if queue.desc == 0 || queue.driver == 0 {
                    let what = format!("queue {index} was enabled before its addresses were set");
                    find("virtio/queue-not-configured", what);
                }
                queue.enabled = touch.value != 0;
                queue.available = Some(0).filter(|_| !packed);
                return;
            }
            "queue_reset" => {
                let gone = std::mem::take(queue);
                self.in_flight -= gone.in_flight.values().map(Vec::len).sum::<usize>();
                return;
            }
            _ => {}
        }
        if queue.enabled {
            let what = format!("queue {index}: {field} was written while it is enabled");
            find("virtio/enabled-queue-changed", what);
        }
        match field {
            "queue_size" => {
                if !packed && !touch.value.is_power_of_two() {
                    let what = format!("queue {index}: size {}", touch.value);
                    find("virtio/queue-size", what);
                }
                queue.size = touch.value;
            }
            "queue_desc" => queue.desc = touch.onto(queue.desc),
            "queue_driver" => queue.driver = touch.onto(queue.driver),
            _ => {}
        }
    }

    fn notify(&self, place: Place, queue: u16, findings: &mut Findings) {
        let mut find = |id, what: String| findings.add(place, id, what);
        if self.status & DRIVER_OK == 0 {
            let what = format!("queue {queue} was notified before DRIVER_OK");
            find("virtio/notify-before-driver-ok", what);
        }
        let enabled = self.queues.get(&u64::from(queue)).is_some_and(|queue| queue.enabled);
        if !enabled {
            let what = format!("queue {queue} was notified and is not enabled");
            find("virtio/notify-disabled-queue", what);
        }
    }

    /// Reads of the available ring and of indirect tables.
    fn dma_read(&mut self, place: Place, iova: u64, data: &[u8], findings: &mut Findings) {
        if let Some((table, queue, id)) = self.table
            && table == iova
        {
            self.table = None;
            self.descriptors(place, (queue, id), data, findings);
            return;
        }
        if data.len() != 2 || self.negotiated(RING_PACKED) {
            return;
        }
        let value = little_endian(data);
        for (index, queue) in &mut self.queues {
            let Some(at) = iova.checked_sub(queue.driver).filter(|_| queue.enabled) else {
                continue;
            };
            if at == 2 {
                let forward = queue.available.map(|last| value.wrapping_sub(last) & 0xffff);
                if forward.is_some_and(|forward| forward > queue.size.max(1)) {
                    let what = format!("queue {index}: the available index moved back, to {value}");
                    let id = "virtio/available-index";
                    findings.add(place, id, what);
                }
                queue.available = Some(value);
            } else if at >= 4 && at < 4 + 2 * queue.size {
                queue.head = value;
            }
        }
    }

    fn fetched(&mut self, place: Place, queue: u64, entry: &[u8], findings: &mut Findings) {
        let id = if self.negotiated(RING_PACKED) {
            // The id is that of the last descriptor of a chain (virtio 1.3 §2.8.6).
            let last = entry.len().saturating_sub(16);
            little_endian(entry.get(last + 12..last + 14).unwrap_or_default())
        } else {
            self.queues.get(&queue).map_or(0, |queue| queue.head)
        };
        if self.queues.get(&queue).is_some_and(|queue| queue.in_flight.contains_key(&id)) {
            let what = format!("queue {queue}: {id} was made available again while in flight");
            findings.add(place, "virtio/descriptor-reused", what);
        }
        self.descriptors(place, (queue, id), entry, findings);
    }

    fn descriptors(
        &mut self,
        place: Place,
        (queue, id): (u64, u64),
        bytes: &[u8],
        findings: &mut Findings,
    ) {
        let mut find = |id, what: &str| {
            findings.add(place, id, format!("queue {queue}: {what}"));
        };
        let packed = self.negotiated(RING_PACKED);
        let may_indirect = self.negotiated(INDIRECT_DESC);
        let mut written = false;
        let mut ranges = Vec::new();
        for raw in bytes.chunks_exact(16) {
            let number = |at: usize, len: usize| little_endian(&raw[at..at + len]);
            let (addr, len) = (number(0, 8), number(8, 4));
            let flags = number(if packed { 14 } else { 12 }, 2);
            ranges.push((addr, len));
            if flags & INDIRECT != 0 {
                self.table = Some((addr, queue, id));
                if !may_indirect {
                    let what = "INDIRECT without VIRTIO_F_INDIRECT_DESC";
                    find("virtio/indirect-not-accepted", what);
                }
                if flags & NEXT != 0 {
                    let what = "INDIRECT and NEXT in one descriptor";
                    find("virtio/indirect-next", what);
                }
            }
            if flags & WRITE == 0 && written {
                let what = "a device-readable descriptor after a device-writable one";
                find("virtio/descriptor-order", what);
            }
            written |= flags & WRITE != 0;
        }
        let room = MAX_IN_FLIGHT.saturating_sub(self.in_flight);
        ranges.truncate(room);
        self.in_flight += ranges.len();
        let queue = self.queues.entry(queue).or_default();
        queue.in_flight.entry(id).or_default().append(&mut ranges);
    }

    fn unmap(&self, place: Place, (iova, size): (u64, u64), findings: &mut Findings) {
        let end = iova.saturating_add(size);
        for (index, queue) in &self.queues {
            let ranges = queue.in_flight.values().flatten();
            let hit = ranges
                .clone()
                .find(|(addr, len)| *addr < end && addr.saturating_add(*len) > iova && *len > 0);
            if let Some((addr, len)) = hit {
                let what = format!(
                    "queue {index}: memory {addr:#x}+{len} was unmapped with its request in flight"
                );
                findings.add(place, "virtio/unmapped-in-flight", what);
            }
        }
    }
}
