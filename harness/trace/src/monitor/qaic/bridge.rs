//! The DMA bridge: activations, pointers, requests.

use super::{MAX_IN_FLIGHT, Qaic};
use crate::decode::number;
use crate::monitor::Touch;
use crate::names::index_of;
use crate::pipe::Place;
use crate::watch::Findings;

const REQUEST_LEN: u64 = 64;
/// Activations that are remembered.
const MAX_MEMORIES: usize = 256;
/// `MANAGE_MAGIC_NUMBER`, bytes of its header, and the transaction with memory for a channel.
const MAGIC: u64 = 0x4349_4151;
const HEADER_LEN: usize = 32;
const ACTIVATE: u64 = 9;

/// A channel of the DMA bridge.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    requests: u64,
    elements: u64,
    head: u64,
    /// Responses that the host has not moved its head over.
    pub(super) responses: u64,
    pub(super) in_flight: Vec<(u64, (u64, u64))>,
}

impl Bridge {
    /// Elements from one pointer to another.
    fn between(&self, from: u64, to: u64) -> u64 {
        let elements = self.elements.max(1);
        (to % elements + elements - from % elements) % elements
    }
}

impl Qaic {
    /// A piece of a message to the device: transactions, perhaps after a header.
    pub(super) fn activation(&mut self, data: &[u8], len: u64) {
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
    pub(super) fn pointer(&mut self, touch: &Touch<'_>) {
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
    pub(super) fn bridge(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
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

    pub(super) fn request(
        &mut self,
        place: Place,
        queue: u16,
        entry: &[u8],
        findings: &mut Findings,
    ) {
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
}
