//! Split virtqueues (virtio 1.3 §2.7).

use understudy_device::Bus;
use zerocopy::IntoBytes;

use super::{Available, Chain, Placement, QueueError, passed, read_u16};
use crate::layout::{DESCRIPTOR_LEN, UsedElement, descriptor, event};

/// The device's indices. They run free; a slot is an index modulo the queue size.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// Next available entry to fetch.
    next_avail: u16,
    /// `avail.idx` as last read.
    seen_avail: u16,
    /// `used.idx` as last written.
    next_used: u16,
    /// `used.idx` when an interrupt was last considered; `None` before the first time.
    considered: Option<u16>,
}

impl Split {
    pub(super) fn positions(&self) -> (u16, u16) {
        (self.next_avail, self.next_used)
    }

    pub(super) fn has_more(
        &mut self,
        place: &Placement,
        bus: &mut dyn Bus,
    ) -> Result<bool, QueueError> {
        if self.next_avail == self.seen_avail {
            self.seen_avail = read_u16(bus, place.driver + 2)?;
            let ahead = self.seen_avail.wrapping_sub(self.next_avail);
            if ahead > place.size {
                self.seen_avail = self.next_avail;
                return Err(QueueError::IndexJump(ahead));
            }
            // The index before the entries it covers.
            bus.dma_fence();
        }
        Ok(self.next_avail != self.seen_avail)
    }

    /// Copies the next chain to `into`. `false` if there is none.
    pub(super) fn fetch(
        &mut self,
        place: &Placement,
        bus: &mut dyn Bus,
        into: &mut Available,
    ) -> Result<bool, QueueError> {
        if !self.has_more(place, bus)? {
            return Ok(false);
        }
        let slot = u64::from(self.next_avail % place.size);
        let head = read_u16(bus, place.driver + 4 + 2 * slot)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        let mut index = head;
        for len in 1..=place.size {
            if index >= place.size {
                return Err(QueueError::DescriptorIndex(index));
            }
            let mut raw = [0; DESCRIPTOR_LEN];
            bus.dma_read(place.desc + DESCRIPTOR_LEN as u64 * u64::from(index), &mut raw)?;
            into.descriptors.extend_from_slice(&raw);
            let flags = u16::from_le_bytes([raw[12], raw[13]]);
            index = u16::from_le_bytes([raw[14], raw[15]]);
            // What is after an indirect descriptor is refused when the chain is opened.
            if flags & descriptor::NEXT == 0 || flags & descriptor::INDIRECT != 0 {
                into.chain = Chain { id: head, len };
                return Ok(true);
            }
        }
        Err(QueueError::ChainTooLong)
    }

    pub(super) fn complete(
        &mut self,
        place: &Placement,
        bus: &mut dyn Bus,
        element: &UsedElement,
    ) -> Result<(), QueueError> {
        let slot = u64::from(self.next_used % place.size);
        bus.dma_write(place.device + 4 + 8 * slot, element.as_bytes())?;
        // The element before the index that covers it.
        bus.dma_fence();
        self.next_used = self.next_used.wrapping_add(1);
        bus.dma_write(place.device + 2, &self.next_used.to_le_bytes())?;
        Ok(())
    }

    pub(super) fn want(
        &self,
        place: &Placement,
        bus: &mut dyn Bus,
        event_idx: bool,
        want: bool,
    ) -> Result<(), QueueError> {
        match (event_idx, want) {
            // avail_event: notify when this entry becomes available.
            (true, true) => {
                let at = place.device + 4 + 8 * u64::from(place.size);
                bus.dma_write(at, &self.next_avail.to_le_bytes())?;
            }
            // An event that has passed does not come again for 65536 entries.
            (true, false) => {}
            (false, _) => {
                let flags = if want { 0 } else { event::USED_NO_NOTIFY };
                bus.dma_write(place.device, &flags.to_le_bytes())?;
            }
        }
        Ok(())
    }

    pub(super) fn wants_interrupt(
        &mut self,
        place: &Placement,
        bus: &mut dyn Bus,
        event_idx: bool,
    ) -> Result<bool, QueueError> {
        let new = self.next_used;
        let old = self.considered.replace(new);
        if event_idx {
            let used_event = read_u16(bus, place.driver + 4 + 2 * u64::from(place.size))?;
            return Ok(old.is_none_or(|old| passed(used_event, new, old)));
        }
        Ok(read_u16(bus, place.driver)? & event::AVAIL_NO_INTERRUPT == 0)
    }
}
