//! Virtqueues: from rings in guest memory to requests, and back.

mod packed;
mod split;

use understudy_device::{Bus, DmaFault};
use understudy_ring::{Entry, Limits, Ring, SgError, SgList};
use zerocopy::{FromBytes, IntoBytes};

use crate::layout::{
    DESCRIPTOR_LEN, PackedDescriptor, SplitDescriptor, UsedElement, descriptor, feature,
};
use packed::Packed;
use split::Split;

/// Most entries of a queue (virtio 1.3 §2.7, §2.8).
pub const MAX_QUEUE_SIZE: u16 = 32768;

/// Most segments of one request, direct or indirect. More than any queue here has entries, since
/// Linux makes indirect tables that are longer than their queue.
pub const MAX_SEGMENTS: usize = 1024;

/// What is wrong with a queue. All of it is the driver's doing (or that of the memory), and ends
/// in `DEVICE_NEEDS_RESET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The available index is further ahead than the queue has entries.
    #[error("available index is {0} entries ahead")]
    IndexJump(u16),
    /// A head or `next` is not an index of the queue or table.
    #[error("descriptor index {0} is out of range")]
    DescriptorIndex(u16),
    /// A chain has more descriptors than its queue or table.
    #[error("descriptor chain is longer than its table")]
    ChainTooLong,
    /// A table is empty, not whole descriptors, or has more than [`MAX_SEGMENTS`].
    #[error("indirect table of {0} bytes")]
    IndirectLength(u32),
    /// A table within a table.
    #[error("nested indirect table")]
    IndirectNested,
    /// A descriptor has both `NEXT` and `INDIRECT`.
    #[error("indirect descriptor with a successor")]
    IndirectNext,
    /// A device-readable descriptor follows a device-writable one.
    #[error("readable descriptor after a writable one")]
    Order,
    /// The buffers of a request are impossible.
    #[error("buffers: {0}")]
    Buffers(#[from] SgError),
    /// The rings cannot be accessed.
    #[error("ring: {0}")]
    Ring(#[from] DmaFault),
}

/// One request: the buffers of a descriptor chain.
#[derive(Debug)]
pub struct Request {
    /// Device-readable bytes, in order.
    pub readable: SgList,
    /// Device-writable bytes, in order.
    pub writable: SgList,
    queue: u16,
    chain: Chain,
}

impl Request {
    pub(crate) fn new(queue: u16) -> Self {
        // A chain's total length is below 4 GiB (virtio 1.3 §2.7.5).
        let limits = Limits { segments: MAX_SEGMENTS, bytes: u64::from(u32::MAX) };
        Self {
            readable: SgList::new(limits),
            writable: SgList::new(limits),
            queue,
            chain: Chain::default(),
        }
    }

    /// Reuses the memory for a chain of another queue.
    pub(crate) fn retarget(&mut self, queue: u16) {
        self.queue = queue;
    }

    /// Index of the queue it came from.
    #[must_use]
    pub fn queue(&self) -> u16 {
        self.queue
    }
}

/// Names a chain towards the driver.
#[derive(Debug, Clone, Copy, Default)]
struct Chain {
    /// Head index (split) or buffer ID (packed).
    id: u16,
    /// Descriptors it takes in the ring.
    len: u16,
}

/// A chain as it lies in the ring: its descriptors, head first, without indirect tables.
#[derive(Debug, Clone, Default)]
pub struct Available {
    descriptors: Vec<u8>,
    chain: Chain,
}

impl Entry for Available {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.descriptors
    }
}

/// A completion: a [`UsedElement`].
#[derive(Debug, Clone, Default)]
pub struct Used {
    element: [u8; size_of::<UsedElement>()],
    chain: Chain,
}

impl Used {
    /// The completion of `request`, with `written` bytes of its writable part.
    pub(crate) fn new(request: &Request, written: u32) -> Self {
        let element = UsedElement { id: u32::from(request.chain.id).into(), len: written.into() };
        let mut bytes = [0; size_of::<UsedElement>()];
        bytes.copy_from_slice(element.as_bytes());
        Self { element: bytes, chain: request.chain }
    }

    fn element(&self) -> UsedElement {
        zerocopy::transmute!(self.element)
    }
}

impl Entry for Used {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.element
    }
}

/// Where a queue lies and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Entries.
    pub size: u16,
    /// Descriptor area.
    pub desc: u64,
    /// Driver area: available ring (split), driver event suppression (packed).
    pub driver: u64,
    /// Device area: used ring (split), device event suppression (packed).
    pub device: u64,
}

impl Placement {
    /// Whether a queue with these features can lie so (virtio 1.3 §2.7, §2.8): size, alignment,
    /// no area wrapping around the address space.
    #[must_use]
    pub fn is_valid(&self, features: u64) -> bool {
        let size = u64::from(self.size);
        let packed = features & feature::RING_PACKED != 0;
        let sized = if packed { self.size > 0 } else { self.size.is_power_of_two() };
        let (driver, device) =
            if packed { ((4, 4), (4, 4)) } else { ((2, 6 + 2 * size), (4, 6 + 8 * size)) };
        let areas = [(self.desc, (16, 16 * size)), (self.driver, driver), (self.device, device)];
        let placed = |(at, (align, len)): &(u64, (u64, u64))| {
            at % align == 0 && at.checked_add(*len).is_some()
        };
        sized && self.size <= MAX_QUEUE_SIZE && areas.iter().all(placed)
    }
}

/// The device's side of one virtqueue in use.
#[derive(Debug)]
pub struct Virtqueue {
    place: Placement,
    features: u64,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Split(Split),
    Packed(Packed),
}

impl Virtqueue {
    /// A queue that the driver has just enabled. `place` [is valid](Placement::is_valid).
    #[must_use]
    pub fn new(place: Placement, features: u64) -> Self {
        let format = if features & feature::RING_PACKED == 0 {
            Format::Split(Split::default())
        } else {
            Format::Packed(Packed::default())
        };
        Self { place, features, format }
    }

    /// Where it lies.
    #[must_use]
    pub fn place(&self) -> &Placement {
        &self.place
    }

    fn event_idx(&self) -> bool {
        self.features & feature::EVENT_IDX != 0
    }

    /// Position of the next chain to fetch, and of the next to use.
    #[must_use]
    pub fn positions(&self) -> (u16, u16) {
        match &self.format {
            Format::Split(split) => split.positions(),
            Format::Packed(packed) => packed.positions(),
        }
    }

    /// Whether the driver has made more available than was fetched.
    ///
    /// # Errors
    /// [`QueueError::Ring`].
    pub fn has_more(&mut self, bus: &mut dyn Bus) -> Result<bool, QueueError> {
        match &mut self.format {
            Format::Split(split) => split.has_more(&self.place, bus),
            Format::Packed(packed) => packed.has_more(&self.place, bus),
        }
    }

    /// Asks the driver to notify of what it makes available from now on, or not to.
    ///
    /// # Errors
    /// [`QueueError::Ring`].
    pub fn want_notifications(&self, bus: &mut dyn Bus, want: bool) -> Result<(), QueueError> {
        match &self.format {
            Format::Split(split) => split.want(&self.place, bus, self.event_idx(), want),
            Format::Packed(_) => Packed::want(&self.place, bus, want),
        }
    }

    /// Whether the driver wants an interrupt for what was used since the last call.
    ///
    /// # Errors
    /// [`QueueError::Ring`].
    pub fn wants_interrupt(&mut self, bus: &mut dyn Bus) -> Result<bool, QueueError> {
        // The completion before the driver's wish: else both sides could wait for the other.
        bus.dma_fence();
        let event_idx = self.event_idx();
        match &mut self.format {
            Format::Split(split) => split.wants_interrupt(&self.place, bus, event_idx),
            Format::Packed(packed) => packed.wants_interrupt(&self.place, bus, event_idx),
        }
    }

    /// Turns a fetched chain into a request: follows its indirect table, sorts and checks its
    /// buffers. `table` is scratch memory.
    ///
    /// Descriptors with `INDIRECT` are followed even if `VIRTIO_F_INDIRECT_DESC` was not
    /// accepted: DPDK's crypto driver accepts only `VIRTIO_F_VERSION_1` and uses them.
    ///
    /// # Errors
    /// Whatever is wrong with the chain.
    pub fn open(
        &self,
        bus: &mut dyn Bus,
        entry: &Available,
        table: &mut Vec<u8>,
        request: &mut Request,
    ) -> Result<(), QueueError> {
        request.readable.clear();
        request.writable.clear();
        request.chain = entry.chain;
        for raw in entry.descriptors.chunks_exact(DESCRIPTOR_LEN) {
            let at = self.decode(raw);
            if at.flags & descriptor::INDIRECT == 0 {
                push(request, &at)?;
                continue;
            }
            if at.flags & descriptor::NEXT != 0 {
                return Err(QueueError::IndirectNext);
            }
            let len = at.len as usize;
            if len == 0
                || !len.is_multiple_of(DESCRIPTOR_LEN)
                || len / DESCRIPTOR_LEN > MAX_SEGMENTS
            {
                return Err(QueueError::IndirectLength(at.len));
            }
            table.resize(len, 0);
            bus.dma_read(at.addr, table)?;
            self.open_table(table, request)?;
        }
        Ok(())
    }

    fn open_table(&self, table: &[u8], request: &mut Request) -> Result<(), QueueError> {
        let packed = matches!(self.format, Format::Packed(_));
        let mut index = 0_u16;
        // At most one step for each descriptor of the table, so a loop ends.
        for _ in 0..table.len() / DESCRIPTOR_LEN {
            let start = usize::from(index) * DESCRIPTOR_LEN;
            let raw = table
                .get(start..start + DESCRIPTOR_LEN)
                .ok_or(QueueError::DescriptorIndex(index))?;
            let at = self.decode(raw);
            if at.flags & descriptor::INDIRECT != 0 {
                return Err(QueueError::IndirectNested);
            }
            push(request, &at)?;
            // A packed table has no links: all of it is the list (virtio 1.3 §2.8.8).
            if packed {
                index += 1;
            } else if at.flags & descriptor::NEXT == 0 {
                return Ok(());
            } else {
                index = at.next;
            }
        }
        if packed { Ok(()) } else { Err(QueueError::ChainTooLong) }
    }

    fn decode(&self, raw: &[u8]) -> Descriptor {
        let split = |d: SplitDescriptor| Descriptor {
            addr: d.addr.get(),
            len: d.len.get(),
            flags: d.flags.get(),
            next: d.next.get(),
        };
        let packed = |d: PackedDescriptor| Descriptor {
            addr: d.addr.get(),
            len: d.len.get(),
            flags: d.flags.get(),
            next: 0,
        };
        match &self.format {
            Format::Split(_) => SplitDescriptor::read_from_bytes(raw).ok().map(split),
            Format::Packed(_) => PackedDescriptor::read_from_bytes(raw).ok().map(packed),
        }
        .unwrap_or_default()
    }
}

impl Ring for Virtqueue {
    type Entry = Available;
    type Completion = Used;
    type Error = QueueError;

    fn fetch(&mut self, bus: &mut dyn Bus, entry: &mut Available) -> Result<bool, QueueError> {
        entry.descriptors.clear();
        match &mut self.format {
            Format::Split(split) => split.fetch(&self.place, bus, entry),
            Format::Packed(packed) => packed.fetch(&self.place, bus, entry),
        }
    }

    fn complete(&mut self, bus: &mut dyn Bus, used: &mut Used) -> Result<(), QueueError> {
        let element = used.element();
        match &mut self.format {
            Format::Split(split) => split.complete(&self.place, bus, &element),
            Format::Packed(packed) => packed.complete(&self.place, bus, &element, used.chain.len),
        }
    }
}

/// A descriptor of either kind.
#[derive(Debug, Clone, Copy, Default)]
struct Descriptor {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

fn push(request: &mut Request, at: &Descriptor) -> Result<(), QueueError> {
    if at.flags & descriptor::WRITE != 0 {
        request.writable.push(at.addr, at.len)?;
    } else if request.writable.segments().is_empty() {
        request.readable.push(at.addr, at.len)?;
    } else {
        return Err(QueueError::Order);
    }
    Ok(())
}

fn read_u16(bus: &mut dyn Bus, iova: u64) -> Result<u16, DmaFault> {
    let mut bytes = [0; 2];
    bus.dma_read(iova, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

/// Whether an event at `event` lies in what was done from `old` to `new` (virtio 1.3 §2.7.7.1).
fn passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
