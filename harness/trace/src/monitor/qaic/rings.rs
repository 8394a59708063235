//! Contexts of rings, commands, and transfers.

use understudy_device::Verdict;

use super::{BRIDGES, CONTEXT_LEN, ELEMENT_LEN, MAX_IN_FLIGHT, Qaic, Ring};
use crate::decode::number;
use crate::pipe::Place;
use crate::watch::Findings;

/// The control channel to the device.
const CONTROL: u16 = 10;

const TRANSFER: u64 = 0x02;
const RESET_CHANNEL: u64 = 0x10;
const STOP_CHANNEL: u64 = 0x11;
const START_CHANNEL: u64 = 0x12;
/// Flags of a transfer element: the chain bit, two for events, one against interrupts; the type.
const TRANSFER_BITS: u64 = 0x00ff_0701;

impl Qaic {
    /// A context was read: of a channel, an event ring, or the command ring.
    pub(super) fn ring(&mut self, place: Place, at: u64, data: &[u8], findings: &mut Findings) {
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

    pub(super) fn command(&mut self, place: Place, entry: &[u8], findings: &mut Findings) {
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

    pub(super) fn element(
        &mut self,
        place: Place,
        channel: u16,
        entry: &[u8],
        findings: &mut Findings,
    ) {
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

    pub(super) fn complete(&mut self, queue: u16, entry: &[u8], verdict: Verdict) {
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

    pub(super) fn unmap(&self, place: Place, (iova, size): (u64, u64), findings: &mut Findings) {
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
