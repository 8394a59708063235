//! Packed virtqueues (virtio 1.3 §2.8).

use understudy_device::Bus;

use super::{Available, Chain, Placement, QueueError, passed, read_u16};
use crate::layout::{DESCRIPTOR_LEN, UsedElement, descriptor, event};

/// A position in the ring and how often it has come around, modulo 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    index: u16,
    wrap: bool,
}

impl Position {
    /// `by` is at most `size`.
    fn advance(&mut self, by: u16, size: u16) {
        let next = u32::from(self.index) + u32::from(by);
        let wrapped = next.checked_sub(u32::from(size));
        self.wrap ^= wrapped.is_some();
        self.index = u16::try_from(wrapped.unwrap_or(next)).unwrap_or(0);
    }
}

/// The device's positions.
#[derive(Debug)]
pub(super) struct Packed {
    /// Next descriptor to fetch.
    avail: Position,
    /// Next descriptor to write as used.
    used: Position,
    /// `used` when an interrupt was last considered.
    considered: Option<Position>,
}

impl Default for Packed {
    fn default() -> Self {
        let start = Position { index: 0, wrap: true };
        Self { avail: start, used: start, considered: None }
    }
}

impl Packed {
    pub(super) fn positions(&self) -> (u16, u16) {
        (self.avail.index, self.used.index)
    }

    pub(super) fn has_more(
        &mut self,
        place: &Placement,
        bus: &mut dyn Bus,
    ) -> Result<bool, QueueError> {
        let flags = read_u16(bus, at(place, self.avail.index) + 14)?;
        let avail = flags & descriptor::AVAIL != 0;
        let used = flags & descriptor::USED != 0;
        if avail != self.avail.wrap || used == self.avail.wrap {
            return Ok(false);
        }
        // The flags before the rest of the list.
        bus.dma_fence();
        Ok(true)
    }

    /// Copies the next list to `into`. `false` if there is none.
    pub(super) fn fetch(
        &mut self,
        place: &Placement,
        bus: &mut dyn Bus,
        into: &mut Available,
    ) -> Result<bool, QueueError> {
        if !self.has_more(place, bus)? {
            return Ok(false);
        }
        let mut position = self.avail;
        for len in 1..=place.size {
            let mut raw = [0; DESCRIPTOR_LEN];
            bus.dma_read(at(place, position.index), &mut raw)?;
            position.advance(1, place.size);
            into.descriptors.extend_from_slice(&raw);
            let id = u16::from_le_bytes([raw[12], raw[13]]);
            let flags = u16::from_le_bytes([raw[14], raw[15]]);
            if flags & descriptor::NEXT == 0 || flags & descriptor::INDIRECT != 0 {
                self.avail = position;
                into.chain = Chain { id, len };
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
        descriptors: u16,
    ) -> Result<(), QueueError> {
        let at = at(place, self.used.index);
        let [id0, id1, ..] = element.id.to_bytes();
        let [l0, l1, l2, l3] = element.len.to_bytes();
        bus.dma_write(at + 8, &[l0, l1, l2, l3, id0, id1])?;
        // Length and ID before the flags that hand them over.
        bus.dma_fence();
        let mut flags = if element.len.get() > 0 { descriptor::WRITE } else { 0 };
        if self.used.wrap {
            flags |= descriptor::AVAIL | descriptor::USED;
        }
        bus.dma_write(at + 14, &flags.to_le_bytes())?;
        self.used.advance(descriptors, place.size);
        Ok(())
    }

    pub(super) fn want(place: &Placement, bus: &mut dyn Bus, want: bool) -> Result<(), QueueError> {
        let flags = if want { event::PACKED_ENABLE } else { event::PACKED_DISABLE };
        bus.dma_write(place.device + 2, &flags.to_le_bytes())?;
        Ok(())
    }

    pub(super) fn wants_interrupt(
        &mut self,
        place: &Placement,
        bus: &mut dyn Bus,
        event_idx: bool,
    ) -> Result<bool, QueueError> {
        let new = self.used;
        let old = self.considered.replace(new);
        let mut raw = [0; 4];
        bus.dma_read(place.driver, &mut raw)?;
        let off_wrap = u16::from_le_bytes([raw[0], raw[1]]);
        let flags = u16::from_le_bytes([raw[2], raw[3]]);
        Ok(match flags & 3 {
            event::PACKED_DISABLE => false,
            event::PACKED_DESC if event_idx => {
                let wanted = Position { index: off_wrap & 0x7fff, wrap: off_wrap >> 15 != 0 };
                // Both relative to this time around.
                let relative = |p: Position| {
                    if p.wrap == new.wrap { p.index } else { p.index.wrapping_sub(place.size) }
                };
                old.is_none_or(|old| passed(relative(wanted), new.index, relative(old)))
            }
            _ => true,
        })
    }
}

fn at(place: &Placement, index: u16) -> u64 {
    place.desc + DESCRIPTOR_LEN as u64 * u64::from(index)
}
