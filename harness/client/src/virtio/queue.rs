//! What both ring layouts share.

use crate::error::DriverError;
use crate::platform::{DmaBuffer, Platform};
use crate::virtio::packed::Packed;
use crate::virtio::split::Split;

/// Bytes of a descriptor, in either layout.
pub(super) const DESCRIPTOR_LEN: usize = 16;
/// `VIRTQ_DESC_F_NEXT`.
pub(super) const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`.
pub(super) const WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`.
pub(super) const INDIRECT: u16 = 4;

/// One contiguous piece of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Address for the device.
    pub iova: u64,
    /// Length in bytes.
    pub len: u32,
}

/// A buffer that the device gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// What [`Queue::add`] was given.
    pub token: u64,
    /// Bytes that the device says it wrote, at most the buffer's writable bytes.
    pub len: u32,
}

/// How a queue is laid out and used. Each needs its feature bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueOptions {
    /// Packed layout (`RING_PACKED`).
    pub packed: bool,
    /// Put buffers of several segments in indirect tables (`INDIRECT_DESC`).
    pub indirect: bool,
    /// Event index (`EVENT_IDX`).
    pub event_idx: bool,
}

/// A virtqueue.
#[derive(Debug)]
pub struct Queue {
    index: u16,
    ring: Ring,
}

#[derive(Debug)]
enum Ring {
    Split(Split),
    Packed(Packed),
}

impl Queue {
    /// Allocates the ring of queue `index` with `size` descriptors: for a split ring a power of two.
    ///
    /// # Errors
    /// [`DriverError::BadQueueSize`], or out of memory.
    pub fn new(
        p: &mut impl Platform,
        index: u16,
        size: u16,
        options: QueueOptions,
    ) -> Result<Self, DriverError> {
        let limit_ok = (1..=1 << 15).contains(&size);
        if !limit_ok || !(options.packed || size.is_power_of_two()) {
            return Err(DriverError::BadQueueSize { queue: index, size });
        }
        let ring = if options.packed {
            Ring::Packed(Packed::new(p, index, size, options)?)
        } else {
            Ring::Split(Split::new(p, index, size, options)?)
        };
        Ok(Self { index, ring })
    }

    /// The queue's index.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Descriptors in the ring.
    #[must_use]
    pub fn size(&self) -> u16 {
        match &self.ring {
            Ring::Split(ring) => ring.slots.size(),
            Ring::Packed(ring) => ring.slots.size(),
        }
    }

    /// Buffers that the device holds.
    #[must_use]
    pub fn outstanding(&self) -> u16 {
        match &self.ring {
            Ring::Split(ring) => ring.slots.outstanding,
            Ring::Packed(ring) => ring.slots.outstanding,
        }
    }

    /// Descriptor area, driver area and device area.
    #[must_use]
    pub fn areas(&self) -> [DmaBuffer; 3] {
        match &self.ring {
            Ring::Split(ring) => ring.areas,
            Ring::Packed(ring) => ring.areas,
        }
    }

    /// Makes a buffer available: segments for the device to read, then segments to write.
    ///
    /// # Errors
    /// [`DriverError::QueueFull`]; [`DriverError::BadRequest`] without segments or with more than
    /// the queue has descriptors.
    pub fn add(
        &mut self,
        p: &mut impl Platform,
        readable: &[Segment],
        writable: &[Segment],
        token: u64,
    ) -> Result<(), DriverError> {
        match &mut self.ring {
            Ring::Split(ring) => ring.add(p, readable, writable, token),
            Ring::Packed(ring) => ring.add(p, readable, writable, token),
        }
    }

    /// Whether the device wants to be notified of what was added since the last call.
    ///
    /// # Errors
    /// If memory cannot be read.
    pub fn must_notify(&mut self, p: &mut impl Platform) -> Result<bool, DriverError> {
        match &mut self.ring {
            Ring::Split(ring) => ring.must_notify(p),
            Ring::Packed(ring) => ring.must_notify(p),
        }
    }

    /// Ring position as `NOTIFICATION_DATA` reports it, in the upper half of the notification.
    #[must_use]
    pub fn position(&self) -> u16 {
        match &self.ring {
            Ring::Split(ring) => ring.position(),
            Ring::Packed(ring) => ring.position(),
        }
    }

    /// Takes the next buffer that the device has used, if there is one.
    ///
    /// # Errors
    /// What the device did wrong. The ring is then broken and stays so until the device is reset.
    pub fn take(&mut self, p: &mut impl Platform) -> Result<Option<Used>, DriverError> {
        match &mut self.ring {
            Ring::Split(ring) => ring.take(p),
            Ring::Packed(ring) => ring.take(p),
        }
    }

    /// Whether [`take`](Self::take) has something to say.
    ///
    /// # Errors
    /// If memory cannot be read.
    pub fn has_used(&self, p: &mut impl Platform) -> Result<bool, DriverError> {
        match &self.ring {
            Ring::Split(ring) => ring.has_used(p),
            Ring::Packed(ring) => ring.has_used(p),
        }
    }

    /// Asks for an interrupt with the next used buffer (`true`), or for none. After asking, look
    /// again with [`take`](Self::take) before sleeping.
    ///
    /// # Errors
    /// If memory cannot be written.
    pub fn want_interrupt(&mut self, p: &mut impl Platform, on: bool) -> Result<(), DriverError> {
        match &mut self.ring {
            Ring::Split(ring) => ring.want_interrupt(p, on),
            Ring::Packed(ring) => ring.want_interrupt(p, on),
        }
    }

    /// Frees the ring's memory. The device must be reset, or the queue never enabled.
    pub fn release(self, p: &mut impl Platform) {
        let (areas, slots) = match self.ring {
            Ring::Split(ring) => (ring.areas, ring.slots),
            Ring::Packed(ring) => (ring.areas, ring.slots),
        };
        let tables = slots.slots.into_iter().filter_map(|slot| slot.table);
        for buffer in areas.into_iter().chain(tables) {
            p.dma_free(buffer);
        }
    }
}

/// A descriptor chain that the device holds, or may hold again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) busy: bool,
    pub(super) token: u64,
    /// Writable bytes.
    pub(super) room: u64,
    /// Ring descriptors taken.
    pub(super) count: u16,
    /// Indirect table, kept for the next use.
    table: Option<DmaBuffer>,
}

/// Outstanding buffers by ID: the head descriptor (split) or the buffer ID (packed).
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) queue: u16,
    pub(super) outstanding: u16,
    slots: Vec<Slot>,
    scratch: Vec<u8>,
}

impl Slots {
    pub(super) fn new(queue: u16, size: u16) -> Self {
        let slots = vec![Slot::default(); usize::from(size)];
        Self { queue, outstanding: 0, slots, scratch: Vec::new() }
    }

    pub(super) fn size(&self) -> u16 {
        u16::try_from(self.slots.len()).unwrap_or(u16::MAX)
    }

    /// Checks a request: the number of its segments and its writable bytes.
    pub(super) fn measure(
        &self,
        readable: &[Segment],
        writable: &[Segment],
    ) -> Result<(u16, u64), DriverError> {
        let count = u16::try_from(readable.len() + writable.len()).unwrap_or(u16::MAX);
        if count == 0 {
            return Err(DriverError::BadRequest("no segments"));
        }
        if count > self.size() {
            return Err(DriverError::BadRequest("more segments than the queue has descriptors"));
        }
        Ok((count, writable.iter().map(|segment| u64::from(segment.len)).sum()))
    }

    pub(super) fn full(&self) -> DriverError {
        DriverError::QueueFull { queue: self.queue }
    }

    pub(super) fn hold(&mut self, id: u16, token: u64, room: u64, count: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(id)) {
            *slot = Slot { busy: true, token, room, count, table: slot.table };
            self.outstanding += 1;
        }
    }

    /// Takes a used buffer back, if the device holds it and what it claims is possible.
    pub(super) fn take(&mut self, id: u32, len: u32) -> Result<Slot, DriverError> {
        let queue = self.queue;
        let slot = usize::try_from(id).ok().and_then(|id| self.slots.get_mut(id));
        let slot = slot.filter(|slot| slot.busy).ok_or(DriverError::UnknownId { queue, id })?;
        if u64::from(len) > slot.room {
            return Err(DriverError::TooLong { queue, len, room: slot.room });
        }
        slot.busy = false;
        self.outstanding -= 1;
        Ok(*slot)
    }

    /// Writes an indirect table for slot `id` and returns the segment that covers it. `chained`
    /// tables link their descriptors by index (split layout).
    pub(super) fn table(
        &mut self,
        p: &mut impl Platform,
        id: u16,
        readable: &[Segment],
        writable: &[Segment],
        chained: bool,
    ) -> Result<Segment, DriverError> {
        let count = readable.len() + writable.len();
        let len = count * DESCRIPTOR_LEN;
        self.scratch.clear();
        let mut index = 0u16;
        for (segment, flags) in segments(readable, writable) {
            index = index.wrapping_add(1);
            let more = chained && usize::from(index) < count;
            let (next, flags) = if more { (index, flags | NEXT) } else { (0, flags) };
            // A split descriptor ends in flags and next, a packed one in buffer ID and flags.
            let tail = if chained { [flags, next] } else { [0, flags] };
            self.scratch.extend(descriptor(segment, tail));
        }
        let slot = self.slots.get_mut(usize::from(id)).ok_or(DriverError::BadRequest("slot"))?;
        let table = match slot.table {
            Some(table) if table.len >= len => table,
            old => {
                if let Some(old) = old {
                    slot.table = None;
                    p.dma_free(old);
                }
                let table = p.dma_alloc(len.next_power_of_two(), DESCRIPTOR_LEN)?;
                slot.table = Some(table);
                table
            }
        };
        p.dma_write(table.iova, &self.scratch)?;
        let len = u32::try_from(len).map_err(|_| DriverError::BadRequest("table too long"))?;
        Ok(Segment { iova: table.iova, len })
    }
}

/// All segments in order with their `WRITE` flag.
pub(super) fn segments<'a>(
    readable: &'a [Segment],
    writable: &'a [Segment],
) -> impl Iterator<Item = (Segment, u16)> + 'a {
    let readable = readable.iter().map(|segment| (*segment, 0));
    readable.chain(writable.iter().map(|segment| (*segment, WRITE)))
}

/// A descriptor: address, length and the two 16-bit fields that end it.
pub(super) fn descriptor(segment: Segment, [a, b]: [u16; 2]) -> [u8; DESCRIPTOR_LEN] {
    let tail = u64::from(segment.len) | u64::from(a) << 32 | u64::from(b) << 48;
    (u128::from(segment.iova) | u128::from(tail) << 64).to_le_bytes()
}

/// Whether moving from `old` to `new` passes `event` (virtio 1.3 §2.7.7.1: `vring_need_event`).
pub(super) fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
