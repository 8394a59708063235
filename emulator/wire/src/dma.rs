//! Client memory: DMA_MAP, DMA_UNMAP, and DMA_READ and DMA_WRITE, which the server sends.

use crate::error::{Errno, Problem, WireError};
use crate::header::Command;
use crate::layout::{self, Payload, dma_access, dma_access_early, dma_bitmap, dma_map, dma_unmap};

/// DMA_MAP request ("VFIO_USER_DMA_MAP"). A descriptor may come with it; without one the region is
/// reached by messages only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaMap {
    /// Size of this structure in bytes, at least 32.
    pub argsz: u32,
    /// [`DmaMap::READ`] and the other bits.
    pub flags: u32,
    /// Offset of the region in the descriptor, in bytes.
    pub offset: u64,
    /// First DMA address.
    pub address: u64,
    /// Size in bytes, not 0; the last address does not wrap.
    pub size: u64,
}

impl DmaMap {
    /// Flag: the server may read.
    pub const READ: u32 = 1 << 0;
    /// Flag: the server may write.
    pub const WRITE: u32 = 1 << 1;
    /// Flag of libvfio-user's header: reach the descriptor with `mmap`. This is what a descriptor
    /// means anyway.
    pub const MMAP: u32 = 1 << 2;

    /// A map request for a region.
    pub fn new(flags: u32, offset: u64, address: u64, size: u64) -> Self {
        Self { argsz: 32, flags, offset, address, size }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DMA_MAP, bytes, &dma_map::SIZE)?;
        let flags = payload.u32(&dma_map::FLAGS)?;
        let map = Self {
            argsz: payload.argsz(&dma_map::ARGSZ, dma_map::SIZE.end())?,
            flags,
            offset: payload.u64(&dma_map::OFFSET)?,
            address: payload.u64(&dma_map::ADDRESS)?,
            size: payload.u64(&dma_map::SIZE)?,
        };
        if flags & !(Self::READ | Self::WRITE | Self::MMAP) != 0 {
            let rule = "only the read, write and mmap flags (bits 0 to 2) are defined";
            return Err(payload.forbid(&dma_map::FLAGS, flags.into(), rule));
        }
        if flags & (Self::READ | Self::WRITE) == 0 {
            let rule = "a region must be readable or writable";
            return Err(payload.forbid(&dma_map::FLAGS, flags.into(), rule));
        }
        let Some(last) = map.size.checked_sub(1) else {
            return Err(payload.forbid(&dma_map::SIZE, 0, "a region cannot be empty"));
        };
        if map.address.checked_add(last).is_none() {
            let rule = "the region wraps around the address space";
            return Err(payload.forbid(&dma_map::SIZE, map.size, rule));
        }
        if map.offset.checked_add(last).is_none() {
            let rule = "the region wraps around the file";
            return Err(payload.forbid(&dma_map::OFFSET, map.offset, rule));
        }
        Ok(map)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (&dma_map::ARGSZ, self.argsz.into()),
            (&dma_map::FLAGS, self.flags.into()),
            (&dma_map::OFFSET, self.offset),
            (&dma_map::ADDRESS, self.address),
            (&dma_map::SIZE, self.size),
        ];
        layout::put(out, &dma_map::SIZE, &values);
    }
}

/// DMA_UNMAP, request and reply ("VFIO_USER_DMA_UNMAP"; flags as in `<linux/vfio.h>`). The reply
/// repeats the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaUnmap<'a> {
    /// Maximum size of the reply's payload in bytes, at least 24.
    pub argsz: u32,
    /// Exactly one of none, [`DmaUnmap::GET_DIRTY_BITMAP`] and [`DmaUnmap::ALL`].
    pub flags: u32,
    /// First DMA address; must match a mapping. Zero with [`DmaUnmap::ALL`].
    pub address: u64,
    /// Size in bytes; must match a mapping. Zero with [`DmaUnmap::ALL`].
    pub size: u64,
    /// Present with [`DmaUnmap::GET_DIRTY_BITMAP`]. A server without dirty tracking answers
    /// [`Errno::NOTSUP`] and keeps the mapping.
    pub bitmap: Option<DirtyBitmap<'a>>,
}

/// The dirty bitmap of an unmap: `struct vfio_bitmap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirtyBitmap<'a> {
    /// Bytes that one bit stands for.
    pub page_size: u64,
    /// Size of the bitmap in bytes.
    pub size: u64,
    /// The bitmap: empty in a request, `size` bytes in a reply.
    pub data: &'a [u8],
}

impl<'a> DmaUnmap<'a> {
    /// Flag: also return which pages were written.
    pub const GET_DIRTY_BITMAP: u32 = 1 << 0;
    /// Flag: remove every mapping.
    pub const ALL: u32 = 1 << 1;

    /// A request to remove one mapping.
    pub fn new(address: u64, size: u64) -> Self {
        Self { argsz: 24, flags: 0, address, size, bitmap: None }
    }

    /// A request to remove every mapping.
    pub fn all() -> Self {
        Self { flags: Self::ALL, ..Self::new(0, 0) }
    }

    pub(crate) fn decode_request(bytes: &'a [u8], max: u32) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DMA_UNMAP, bytes, &dma_unmap::SIZE)?;
        let mut unmap = Self::fields(&payload)?;
        payload.at_most(&dma_unmap::ARGSZ, unmap.argsz.into(), max)?;
        match unmap.flags {
            0 => {}
            Self::ALL if unmap.address == 0 && unmap.size == 0 => {}
            Self::ALL => {
                let (field, value) = match unmap.address {
                    0 => (&dma_unmap::SIZE, unmap.size),
                    address => (&dma_unmap::ADDRESS, address),
                };
                return Err(payload.forbid(field, value, "must be zero to unmap everything"));
            }
            Self::GET_DIRTY_BITMAP => {
                let bitmap = DirtyBitmap { data: &[], ..DirtyBitmap::decode(bytes)? };
                let need = bitmap.size.saturating_add(dma_bitmap::SIZE.end() as u64);
                if u64::from(unmap.argsz) < need {
                    let problem = Problem::TooSmall { value: unmap.argsz.into(), min: need };
                    return Err(payload.reject(&dma_unmap::ARGSZ, problem));
                }
                unmap.bitmap = Some(bitmap);
            }
            flags => {
                let rule = "only one of get-dirty-bitmap (bit 0) and all (bit 1) may be set";
                return Err(payload.forbid(&dma_unmap::FLAGS, flags.into(), rule));
            }
        }
        Ok(unmap)
    }

    pub(crate) fn decode_reply(bytes: &'a [u8]) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DMA_UNMAP, bytes, &dma_unmap::SIZE)?;
        let mut unmap = Self::fields(&payload)?;
        if unmap.flags & Self::GET_DIRTY_BITMAP != 0 {
            let bitmap = DirtyBitmap::decode(bytes)?;
            payload.exactly(&dma_bitmap::SIZE, bitmap.size, &dma_bitmap::SIZE, bitmap.size)?;
            unmap.bitmap = Some(bitmap);
        }
        Ok(unmap)
    }

    fn fields(payload: &Payload<'_>) -> Result<Self, WireError> {
        Ok(Self {
            argsz: payload.argsz(&dma_unmap::ARGSZ, dma_unmap::SIZE.end())?,
            flags: payload.u32(&dma_unmap::FLAGS)?,
            address: payload.u64(&dma_unmap::ADDRESS)?,
            size: payload.u64(&dma_unmap::SIZE)?,
            bitmap: None,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let bitmap = self.bitmap.unwrap_or(DirtyBitmap { page_size: 0, size: 0, data: &[] });
        let values = [
            (&dma_unmap::ARGSZ, self.argsz.into()),
            (&dma_unmap::FLAGS, self.flags.into()),
            (&dma_unmap::ADDRESS, self.address),
            (&dma_unmap::SIZE, self.size),
            (&dma_bitmap::PAGE_SIZE, bitmap.page_size),
            (&dma_bitmap::SIZE, bitmap.size),
        ];
        // Fields past the end of a payload without a bitmap are not written.
        let last = if self.bitmap.is_some() { &dma_bitmap::SIZE } else { &dma_unmap::SIZE };
        layout::put(out, last, &values);
        out.extend_from_slice(bitmap.data);
    }
}

impl<'a> DirtyBitmap<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DMA_UNMAP, bytes, &dma_bitmap::SIZE)?;
        let page_size = payload.u64(&dma_bitmap::PAGE_SIZE)?;
        if !page_size.is_power_of_two() {
            let rule = "a page size must be a power of two";
            return Err(payload.forbid(&dma_bitmap::PAGE_SIZE, page_size, rule));
        }
        let size = payload.u64(&dma_bitmap::SIZE)?;
        Ok(Self { page_size, size, data: payload.tail(&dma_bitmap::SIZE) })
    }
}

/// The fixed fields of DMA_READ and DMA_WRITE ("VFIO_USER_DMA_READ", "VFIO_USER_DMA_WRITE").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaAccess {
    /// First DMA address.
    pub address: u64,
    /// Size of the data in bytes; the last address does not wrap.
    pub count: u64,
}

impl DmaAccess {
    fn decode(payload: &Payload<'_>, max: u32) -> Result<Self, WireError> {
        let address = payload.u64(&dma_access::ADDRESS)?;
        let count = payload.u64(&dma_access::COUNT)?;
        payload.at_most(&dma_access::COUNT, count, max)?;
        if address.checked_add(count.saturating_sub(1)).is_none() {
            let rule = "the access wraps around the address space";
            return Err(payload.forbid(&dma_access::COUNT, count, rule));
        }
        Ok(Self { address, count })
    }

    pub(crate) fn decode_read(bytes: &[u8], max: u32) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DMA_READ, bytes, &dma_access::COUNT)?;
        let access = Self::decode(&payload, max)?;
        payload.exactly(&dma_access::COUNT, 0, &dma_access::COUNT, access.count)?;
        Ok(access)
    }

    pub(crate) fn decode_write(bytes: &[u8], max: u32) -> Result<(Self, &[u8]), WireError> {
        let payload = Payload::new(Command::DMA_WRITE, bytes, &dma_access::COUNT)?;
        let access = Self::decode(&payload, max)?;
        payload.exactly(&dma_access::COUNT, access.count, &dma_access::COUNT, access.count)?;
        Ok((access, payload.tail(&dma_access::COUNT)))
    }

    /// A DMA_WRITE reply. The specification's table has a count of 4 bytes, libvfio-user sends and
    /// expects 8, QEMU sends the header alone: all three are understood.
    pub(crate) fn decode_written(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() == dma_access_early::COUNT.end() {
            let payload = Payload::new(Command::DMA_WRITE, bytes, &dma_access_early::COUNT)?;
            let address = payload.u64(&dma_access_early::ADDRESS)?;
            let count = payload.u32(&dma_access_early::COUNT)?.into();
            return Ok(Some(Self { address, count }));
        }
        let payload = Payload::new(Command::DMA_WRITE, bytes, &dma_access::COUNT)?;
        let access = Self::decode(&payload, u32::MAX)?;
        payload.exactly(&dma_access::COUNT, 0, &dma_access::COUNT, access.count)?;
        Ok(Some(access))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [(&dma_access::ADDRESS, self.address), (&dma_access::COUNT, self.count)];
        layout::put(out, &dma_access::COUNT, &values);
    }
}

/// Where a peer puts the data of DMA_READ replies and looks for them in DMA_WRITE requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DmaLayout {
    /// After a count of 8 bytes, at byte 32 of the message, as specified.
    Standard,
    /// After a count of 4 bytes, at byte 28, as QEMU 10.1 does. Its messages are as long as
    /// standard ones; the last 4 bytes are padding.
    Early,
}

impl DmaLayout {
    /// Appends the payload of a DMA_WRITE request or of a DMA_READ reply.
    pub fn encode(self, address: u64, data: &[u8], out: &mut Vec<u8>) {
        let access = DmaAccess { address, count: data.len() as u64 };
        match self {
            Self::Standard => {
                access.encode(out);
                out.extend_from_slice(data);
            }
            Self::Early => {
                let values = [
                    (&dma_access_early::ADDRESS, address),
                    (&dma_access_early::COUNT, access.count),
                ];
                layout::put(out, &dma_access_early::COUNT, &values);
                out.extend_from_slice(data);
                out.extend_from_slice(&[0; EARLY_SHIFT]);
            }
        }
    }
}

/// How much earlier [`DmaLayout::Early`] puts the data, in bytes.
const EARLY_SHIFT: usize = dma_access::COUNT.end() - dma_access_early::COUNT.end();

/// A DMA_READ reply. Both layouts have the same length, so the message alone may leave open where
/// its data are: see [`DmaReadReply::layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaReadReply<'a> {
    /// First DMA address.
    pub address: u64,
    /// Size of the data in bytes.
    pub count: u32,
    /// What follows the low half of the count: data and 4 more bytes, in an order that depends on
    /// the layout.
    tail: &'a [u8],
}

impl<'a> DmaReadReply<'a> {
    pub(crate) fn decode(bytes: &'a [u8], max: u32) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DMA_READ, bytes, &dma_access::COUNT)?;
        let count = payload.u32(&dma_access_early::COUNT)?;
        payload.at_most(&dma_access::COUNT, count.into(), max)?;
        payload.exactly(&dma_access::COUNT, count.into(), &dma_access::COUNT, count.into())?;
        let address = payload.u64(&dma_access::ADDRESS)?;
        Ok(Self { address, count, tail: payload.tail(&dma_access_early::COUNT) })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (&dma_access_early::ADDRESS, self.address),
            (&dma_access_early::COUNT, self.count.into()),
        ];
        layout::put(out, &dma_access_early::COUNT, &values);
        out.extend_from_slice(self.tail);
    }

    /// The layout this message must have; `None` if it fits both.
    ///
    /// Byte 28 is the high half of a standard count, always zero, or the first data of an early
    /// layout; the last 4 bytes are data, or padding that is always zero. A message of which both
    /// are zero fits both layouts. If all its data are zero this makes no difference; otherwise
    /// reading again, from the address where the early layout would have its first non-zero word,
    /// settles it.
    pub fn layout(&self) -> Option<DmaLayout> {
        let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let head = self.tail.get(..EARLY_SHIFT).unwrap_or(&[]);
        let end = self.tail.len().saturating_sub(EARLY_SHIFT).max(EARLY_SHIFT);
        let last = self.tail.get(end..).unwrap_or(&[]);
        if !zero(head) {
            Some(DmaLayout::Early)
        } else if !zero(last) {
            Some(DmaLayout::Standard)
        } else {
            None
        }
    }

    /// The data, `count` bytes, read with `layout`.
    pub fn data(&self, layout: DmaLayout) -> &'a [u8] {
        let skip = match layout {
            DmaLayout::Standard => EARLY_SHIFT,
            DmaLayout::Early => 0,
        };
        let count = self.tail.len().saturating_sub(EARLY_SHIFT);
        self.tail.get(skip..).and_then(|rest| rest.get(..count)).unwrap_or(&[])
    }
}

/// Checks the number of descriptors that came with a DMA_MAP.
pub(crate) fn check_map_fds(map: &DmaMap, count: usize) -> Result<(), WireError> {
    let payload = Payload { command: Command::DMA_MAP, bytes: &[] };
    if count > 1 {
        let problem =
            Problem::Mismatch { value: count as u64, expected: 1, what: "descriptor is the most" };
        return Err(dma_map::FLAGS.reject(Command::DMA_MAP, Errno::INVAL, problem));
    }
    if count == 0 && map.flags & DmaMap::MMAP != 0 {
        let rule = "the mmap flag needs a descriptor";
        return Err(payload.forbid(&dma_map::FLAGS, map.flags.into(), rule));
    }
    Ok(())
}
