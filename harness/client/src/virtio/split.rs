//! Split virtqueues (virtio 1.3 §2.7).

use crate::error::DriverError;
use crate::platform::{Access, DmaBuffer, Platform};
use crate::virtio::queue::{
    DESCRIPTOR_LEN, INDIRECT, NEXT, QueueOptions, Segment, Slots, Used, descriptor, passes,
    segments,
};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`.
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`.
const NO_NOTIFY: u16 = 1;

#[derive(Debug)]
pub(super) struct Split {
    pub(super) slots: Slots,
    /// Descriptor table, available ring, used ring.
    pub(super) areas: [DmaBuffer; 3],
    options: QueueOptions,
    /// Descriptors that are not in a chain.
    free: Vec<u16>,
    /// Our copy of `next` in the table, which we never read back.
    links: Vec<u16>,
    /// `idx` of the available ring.
    available: u16,
    /// The same when the device was last considered for a notification.
    announced: u16,
    /// Used entries taken.
    taken: u16,
}

impl Split {
    pub(super) fn new(
        p: &mut impl Platform,
        queue: u16,
        size: u16,
        options: QueueOptions,
    ) -> Result<Self, DriverError> {
        let n = usize::from(size);
        let table = p.dma_alloc(DESCRIPTOR_LEN * n, 16)?;
        let available = p.dma_alloc(6 + 2 * n, 2)?;
        let used = p.dma_alloc(6 + 8 * n, 4)?;
        Ok(Self {
            slots: Slots::new(queue, size),
            areas: [table, available, used],
            options,
            free: (0..size).rev().collect(),
            links: vec![0; n],
            available: 0,
            announced: 0,
            taken: 0,
        })
    }

    pub(super) fn add(
        &mut self,
        p: &mut impl Platform,
        readable: &[Segment],
        writable: &[Segment],
        token: u64,
    ) -> Result<(), DriverError> {
        let (count, room) = self.slots.measure(readable, writable)?;
        let indirect = self.options.indirect && count > 1;
        let taken = if indirect { 1 } else { count };
        if self.free.len() < usize::from(taken) {
            return Err(self.slots.full());
        }
        let Some(&head) = self.free.last() else { return Err(self.slots.full()) };
        if indirect {
            let table = self.slots.table(p, head, readable, writable, true)?;
            self.free.pop();
            self.describe(p, head, table, INDIRECT, 0)?;
        } else {
            self.chain(p, readable, writable)?;
        }
        self.slots.hold(head, token, room, taken);
        self.publish(p, head)
    }

    /// Writes a chain of direct descriptors, taking them off the free list.
    fn chain(
        &mut self,
        p: &mut impl Platform,
        readable: &[Segment],
        writable: &[Segment],
    ) -> Result<(), DriverError> {
        let mut left = readable.len() + writable.len();
        for (segment, flags) in segments(readable, writable) {
            let Some(at) = self.free.pop() else { return Err(self.slots.full()) };
            left -= 1;
            let next = if left > 0 { self.free.last().copied().unwrap_or(0) } else { 0 };
            let flags = if left > 0 { flags | NEXT } else { flags };
            self.describe(p, at, segment, flags, next)?;
            if let Some(link) = self.links.get_mut(usize::from(at)) {
                *link = next;
            }
        }
        Ok(())
    }

    fn describe(
        &self,
        p: &mut impl Platform,
        at: u16,
        segment: Segment,
        flags: u16,
        next: u16,
    ) -> Result<(), DriverError> {
        let iova = self.areas[0].at(usize::from(at) * DESCRIPTOR_LEN);
        Ok(p.dma_write(iova, &descriptor(segment, [flags, next]))?)
    }

    /// Puts a head in the available ring. The index is written last: it exposes the rest.
    fn publish(&mut self, p: &mut impl Platform, head: u16) -> Result<(), DriverError> {
        let place = usize::from(self.available & (self.slots.size() - 1));
        p.dma_write(self.areas[1].at(4 + 2 * place), &head.to_le_bytes())?;
        p.fence();
        self.available = self.available.wrapping_add(1);
        Ok(p.dma_write(self.areas[1].at(2), &self.available.to_le_bytes())?)
    }

    pub(super) fn must_notify(&mut self, p: &mut impl Platform) -> Result<bool, DriverError> {
        // The index must be visible before the device's wish is read (§2.7.13.4.1).
        p.fence();
        let (new, old) = (self.available, self.announced);
        self.announced = new;
        if new == old {
            return Ok(false);
        }
        if self.options.event_idx {
            let event = p.dma_u16(self.areas[2].at(4 + 8 * usize::from(self.slots.size())))?;
            return Ok(passes(event, new, old));
        }
        Ok(p.dma_u16(self.areas[2].at(0))? & NO_NOTIFY == 0)
    }

    pub(super) fn position(&self) -> u16 {
        self.available
    }

    pub(super) fn take(&mut self, p: &mut impl Platform) -> Result<Option<Used>, DriverError> {
        let found = p.dma_u16(self.areas[2].at(2))?;
        if found == self.taken {
            return Ok(None);
        }
        let limit = self.taken.wrapping_add(self.slots.outstanding);
        if found.wrapping_sub(self.taken) > self.slots.outstanding {
            return Err(DriverError::BadUsedIndex { queue: self.slots.queue, found, limit });
        }
        p.fence();
        let place = usize::from(self.taken & (self.slots.size() - 1));
        let mut entry = [0; 8];
        p.dma_read(self.areas[2].at(4 + 8 * place), &mut entry)?;
        let [a, b, c, d, e, f, g, h] = entry;
        let (id, len) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let slot = self.slots.take(id, len)?;
        self.taken = self.taken.wrapping_add(1);
        // `take` has checked that the ID is one of ours, so it fits.
        let mut at = u16::try_from(id).unwrap_or(0);
        for _ in 0..slot.count {
            self.free.push(at);
            at = self.links.get(usize::from(at)).copied().unwrap_or(0);
        }
        Ok(Some(Used { token: slot.token, len }))
    }

    pub(super) fn has_used(&self, p: &mut impl Platform) -> Result<bool, DriverError> {
        Ok(p.dma_u16(self.areas[2].at(2))? != self.taken)
    }

    pub(super) fn want_interrupt(
        &mut self,
        p: &mut impl Platform,
        on: bool,
    ) -> Result<(), DriverError> {
        if self.options.event_idx {
            // One behind what was taken is a whole lap away.
            let event = if on { self.taken } else { self.taken.wrapping_sub(1) };
            let at = self.areas[1].at(4 + 2 * usize::from(self.slots.size()));
            p.dma_write(at, &event.to_le_bytes())?;
        } else {
            let flags = if on { 0 } else { NO_INTERRUPT };
            p.dma_write(self.areas[1].at(0), &flags.to_le_bytes())?;
        }
        p.fence();
        Ok(())
    }
}
