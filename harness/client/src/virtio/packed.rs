//! Packed virtqueues (virtio 1.3 §2.8).

use crate::error::DriverError;
use crate::platform::{Access, DmaBuffer, Platform};
use crate::virtio::queue::{
    DESCRIPTOR_LEN, INDIRECT, NEXT, QueueOptions, Segment, Slots, Used, WRITE, descriptor, passes,
    segments,
};

/// `VIRTQ_DESC_F_AVAIL`.
const AVAIL: u16 = 1 << 7;
/// `VIRTQ_DESC_F_USED`.
const USED: u16 = 1 << 15;
/// `RING_EVENT_FLAGS_ENABLE`, `_DISABLE` and `_DESC`.
const EVENTS_ON: u16 = 0;
const EVENTS_OFF: u16 = 1;
const EVENTS_AT: u16 = 2;

/// A place in the ring and the wrap counter there.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    at: u16,
    wrap: bool,
}

impl Cursor {
    fn advance(&mut self, by: u16, size: u16) {
        // Sizes are at most 2^15 and steps at most the size, so this does not overflow.
        self.at += by;
        if self.at >= size {
            self.at -= size;
            self.wrap = !self.wrap;
        }
    }

    /// As event suppression structures hold it.
    fn position(self) -> u16 {
        self.at | u16::from(self.wrap) << 15
    }

    fn available_flags(self) -> u16 {
        if self.wrap { AVAIL } else { USED }
    }
}

#[derive(Debug)]
pub(super) struct Packed {
    pub(super) slots: Slots,
    /// Descriptor ring, driver event suppression, device event suppression.
    pub(super) areas: [DmaBuffer; 3],
    options: QueueOptions,
    ids: Vec<u16>,
    /// Ring descriptors not taken.
    room: u16,
    next: Cursor,
    used: Cursor,
    /// Descriptors added since the device was last considered for a notification.
    added: u16,
}

impl Packed {
    pub(super) fn new(
        p: &mut impl Platform,
        queue: u16,
        size: u16,
        options: QueueOptions,
    ) -> Result<Self, DriverError> {
        let ring = p.dma_alloc(DESCRIPTOR_LEN * usize::from(size), 16)?;
        let driver = p.dma_alloc(4, 4)?;
        let device = p.dma_alloc(4, 4)?;
        let start = Cursor { at: 0, wrap: true };
        Ok(Self {
            slots: Slots::new(queue, size),
            areas: [ring, driver, device],
            options,
            ids: (0..size).rev().collect(),
            room: size,
            next: start,
            used: start,
            added: 0,
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
        if self.room < taken {
            return Err(self.slots.full());
        }
        let Some(&id) = self.ids.last() else { return Err(self.slots.full()) };
        if indirect {
            let table = self.slots.table(p, id, readable, writable, false)?;
            self.write(p, std::iter::once((table, INDIRECT)), taken, id)?;
        } else {
            self.write(p, segments(readable, writable), taken, id)?;
        }
        self.ids.pop();
        self.room -= taken;
        self.added = self.added.saturating_add(taken);
        self.slots.hold(id, token, room, taken);
        Ok(())
    }

    /// Writes a list into the ring. The flags of its first descriptor are written last: they
    /// expose the rest.
    fn write(
        &mut self,
        p: &mut impl Platform,
        list: impl Iterator<Item = (Segment, u16)>,
        count: u16,
        id: u16,
    ) -> Result<(), DriverError> {
        let first = self.next;
        let mut first_flags = 0;
        let mut cursor = first;
        for (done, (segment, flags)) in (1..=count).zip(list) {
            let more = if done < count { NEXT } else { 0 };
            let flags = flags | more | cursor.available_flags();
            let bytes = descriptor(segment, [id, flags]);
            let iova = self.place(cursor);
            if done == 1 {
                first_flags = flags;
                p.dma_write(iova, &bytes[..DESCRIPTOR_LEN - 2])?;
            } else {
                p.dma_write(iova, &bytes)?;
            }
            cursor.advance(1, self.slots.size());
        }
        p.fence();
        p.dma_write(self.place(first) + 14, &first_flags.to_le_bytes())?;
        self.next = cursor;
        Ok(())
    }

    fn place(&self, cursor: Cursor) -> u64 {
        self.areas[0].at(usize::from(cursor.at) * DESCRIPTOR_LEN)
    }

    pub(super) fn must_notify(&mut self, p: &mut impl Platform) -> Result<bool, DriverError> {
        // The flags must be visible before the device's wish is read (§2.8.21.3.1).
        p.fence();
        let added = std::mem::take(&mut self.added);
        if added == 0 {
            return Ok(false);
        }
        let mut bytes = [0; 4];
        p.dma_read(self.areas[2].iova, &mut bytes)?;
        let [a, b, c, d] = bytes;
        let (position, flags) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        match flags & 3 {
            EVENTS_OFF => Ok(false),
            EVENTS_AT if self.options.event_idx => {
                let mut event = position & 0x7fff;
                if (position >> 15 != 0) != self.next.wrap {
                    // A position of the lap before.
                    event = event.wrapping_sub(self.slots.size());
                }
                let new = self.next.at;
                Ok(passes(event, new, new.wrapping_sub(added)))
            }
            _ => Ok(true),
        }
    }

    pub(super) fn position(&self) -> u16 {
        self.next.position()
    }

    /// Whether these flags, read at the `used` cursor, mean that the device is done there.
    fn is_used(&self, flags: u16) -> bool {
        let (avail, used) = (flags & AVAIL != 0, flags & USED != 0);
        avail == used && used == self.used.wrap
    }

    pub(super) fn has_used(&self, p: &mut impl Platform) -> Result<bool, DriverError> {
        let flags = p.dma_u16(self.place(self.used) + 14)?;
        Ok(self.is_used(flags))
    }

    pub(super) fn take(&mut self, p: &mut impl Platform) -> Result<Option<Used>, DriverError> {
        let iova = self.place(self.used);
        let flags = p.dma_u16(iova + 14)?;
        if !self.is_used(flags) {
            return Ok(None);
        }
        p.fence();
        let mut bytes = [0; 8];
        p.dma_read(iova + 8, &mut bytes)?;
        let [a, b, c, d, e, f, _, _] = bytes;
        let id = u16::from_le_bytes([e, f]);
        // The length is reserved unless the device says that it wrote (§2.8.4).
        let wrote = flags & WRITE != 0;
        let len = if wrote { u32::from_le_bytes([a, b, c, d]) } else { 0 };
        let slot = self.slots.take(u32::from(id), len)?;
        self.ids.push(id);
        self.room += slot.count;
        self.used.advance(slot.count, self.slots.size());
        Ok(Some(Used { token: slot.token, len }))
    }

    pub(super) fn want_interrupt(
        &mut self,
        p: &mut impl Platform,
        on: bool,
    ) -> Result<(), DriverError> {
        let flags = match (on, self.options.event_idx) {
            (false, _) => EVENTS_OFF,
            (true, false) => EVENTS_ON,
            (true, true) => {
                p.dma_write(self.areas[1].iova, &self.used.position().to_le_bytes())?;
                p.fence();
                EVENTS_AT
            }
        };
        p.dma_write(self.areas[1].iova + 2, &flags.to_le_bytes())?;
        p.fence();
        Ok(())
    }
}
