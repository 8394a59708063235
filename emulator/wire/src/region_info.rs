//! What the regions are: DEVICE_GET_REGION_INFO with its capabilities, DEVICE_GET_REGION_IO_FDS.
//! Structures as in `<linux/vfio.h>`.

use crate::device::RegionIndex;
use crate::error::{Problem, WireError};
use crate::header::Command;
use crate::layout::{
    self, Payload, region_cap, region_info, region_io_fds, sparse_mmap, sub_region,
};

/// DEVICE_GET_REGION_INFO request ("VFIO_USER_DEVICE_GET_REGION_INFO"). Its other fields, which
/// should be zero, are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetRegionInfo {
    /// Maximum size of the reply's payload in bytes, at least 32.
    pub argsz: u32,
    /// Which region.
    pub index: RegionIndex,
}

impl GetRegionInfo {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let command = Command::DEVICE_GET_REGION_INFO;
        let payload = Payload::new(command, bytes, &region_info::OFFSET)?;
        Ok(Self {
            argsz: payload.argsz(&region_info::ARGSZ, region_info::OFFSET.end())?,
            index: RegionIndex(payload.u32(&region_info::INDEX)?),
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values =
            [(&region_info::ARGSZ, self.argsz.into()), (&region_info::INDEX, self.index.0.into())];
        layout::put(out, &region_info::OFFSET, &values);
    }
}

/// `VFIO_REGION_INFO_FLAG_*`.
#[derive(Debug, Clone, Copy)]
pub struct RegionInfoFlags;

impl RegionInfoFlags {
    /// The client may read.
    pub const READ: u32 = 1 << 0;
    /// The client may write.
    pub const WRITE: u32 = 1 << 1;
    /// The client may map it; a descriptor comes with the reply.
    pub const MMAP: u32 = 1 << 2;
    /// Capabilities follow in the reply.
    pub const CAPS: u32 = 1 << 3;
}

/// DEVICE_GET_REGION_INFO reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionInfo<'a> {
    /// Size that the whole reply payload needs, in bytes: more than it has if the capabilities did
    /// not fit.
    pub argsz: u32,
    /// [`RegionInfoFlags`].
    pub flags: u32,
    /// Which region.
    pub index: RegionIndex,
    /// First capability, in bytes from the start of the payload; 0 for none.
    pub cap_offset: u32,
    /// Size of the region in bytes.
    pub size: u64,
    /// Where the region starts in the descriptor, in bytes.
    pub offset: u64,
    /// The capabilities, from byte 32 of the payload.
    pub caps: &'a [u8],
}

impl<'a> RegionInfo<'a> {
    /// The reply to `request`. Capabilities go in if the whole of them fits its `argsz`; if not,
    /// `argsz` of the reply tells the client how much to ask for ("Message sizes").
    pub fn reply(
        request: &GetRegionInfo,
        flags: u32,
        size: u64,
        offset: u64,
        caps: &'a RegionCaps,
    ) -> Self {
        let argsz = u32::try_from(region_info::OFFSET.end() + caps.bytes.len()).unwrap_or(u32::MAX);
        let index = request.index;
        let flags = flags & !RegionInfoFlags::CAPS;
        if caps.bytes.is_empty() || argsz > request.argsz {
            return Self { argsz, flags, index, cap_offset: 0, size, offset, caps: &[] };
        }
        let flags = flags | RegionInfoFlags::CAPS;
        let caps = caps.bytes.as_slice();
        Self { argsz, flags, index, cap_offset: FIRST_CAP, size, offset, caps }
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let command = Command::DEVICE_GET_REGION_INFO;
        let payload = Payload::new(command, bytes, &region_info::OFFSET)?;
        let info = Self {
            argsz: payload.argsz(&region_info::ARGSZ, bytes.len())?,
            flags: payload.u32(&region_info::FLAGS)?,
            index: RegionIndex(payload.u32(&region_info::INDEX)?),
            cap_offset: payload.u32(&region_info::CAP_OFFSET)?,
            size: payload.u64(&region_info::SIZE)?,
            offset: payload.u64(&region_info::OFFSET)?,
            caps: payload.tail(&region_info::OFFSET),
        };
        // The chain must be sound, so that later readers of it need not fail.
        info.walk().try_for_each(|cap| cap.map(|_| ()))?;
        Ok(info)
    }

    /// The capabilities, in the order of their chain. It ends where it stops making sense, which
    /// it does not in a decoded message.
    pub fn capabilities(&self) -> impl Iterator<Item = RegionCap<'a>> + use<'a> {
        self.walk().map_while(Result::ok)
    }

    /// The parts of the region that can be mapped: `None` if there is no such capability.
    pub fn sparse_areas(&self) -> Option<Vec<SparseArea>> {
        self.capabilities().find(|cap| cap.id == RegionCaps::SPARSE_MMAP).map(|cap| {
            let areas = cap.body.get(sparse_mmap::RESERVED.end()..).unwrap_or(&[]);
            let count = sparse_count(&cap.payload());
            areas.chunks_exact(AREA_SIZE).take(count).map(SparseArea::read).collect()
        })
    }

    fn walk(&self) -> CapWalk<'a> {
        let has_caps = self.flags & RegionInfoFlags::CAPS != 0;
        CapWalk { caps: self.caps, next: if has_caps { self.cap_offset } else { 0 }, last: 0 }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (&region_info::ARGSZ, self.argsz.into()),
            (&region_info::FLAGS, self.flags.into()),
            (&region_info::INDEX, self.index.0.into()),
            (&region_info::CAP_OFFSET, self.cap_offset.into()),
            (&region_info::SIZE, self.size),
            (&region_info::OFFSET, self.offset),
        ];
        layout::put(out, &region_info::OFFSET, &values);
        out.extend_from_slice(self.caps);
    }
}

/// Where the first capability goes, in bytes from the start of the payload.
const FIRST_CAP: u32 = 32;
/// Size of one area of a sparse mmap capability, in bytes.
const AREA_SIZE: usize = 16;

/// One capability of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionCap<'a> {
    /// `VFIO_REGION_INFO_CAP_*`.
    pub id: u16,
    /// Version of the capability.
    pub version: u16,
    /// What follows the capability's header, up to the next capability or the end.
    pub body: &'a [u8],
}

impl<'a> RegionCap<'a> {
    fn payload(&self) -> Payload<'a> {
        Payload { command: Command::DEVICE_GET_REGION_INFO, bytes: self.body }
    }
}

/// A part of a region that can be mapped (`struct vfio_region_sparse_mmap_area`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseArea {
    /// Where it starts in the region, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
}

impl SparseArea {
    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| {
            bytes
                .get(at..)
                .and_then(|rest| rest.first_chunk())
                .copied()
                .map_or(0, u64::from_ne_bytes)
        };
        Self { offset: word(0), size: word(8) }
    }
}

/// How many areas a sparse mmap capability announces.
fn sparse_count(body: &Payload<'_>) -> usize {
    body.u32(&sparse_mmap::NR_AREAS).ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
}

/// Walks a capability chain: each step must go forward, so it ends.
struct CapWalk<'a> {
    caps: &'a [u8],
    next: u32,
    last: u32,
}

impl<'a> CapWalk<'a> {
    fn step(&mut self) -> Result<RegionCap<'a>, WireError> {
        let at = self.next;
        let all = Payload { command: Command::DEVICE_GET_REGION_INFO, bytes: self.caps };
        if at < FIRST_CAP || at <= self.last {
            let rule = "capabilities must follow the fields, each after the one before";
            return Err(all.forbid(&region_info::CAP_OFFSET, at.into(), rule));
        }
        self.last = at;
        let start = usize::try_from(at - FIRST_CAP).unwrap_or(usize::MAX);
        let Some(bytes) = self.caps.get(start..) else {
            let rule = "a capability must lie within the message";
            return Err(all.forbid(&region_info::CAP_OFFSET, at.into(), rule));
        };
        let cap = Payload::new(all.command, bytes, &region_cap::NEXT)
            .map_err(|error| shift(error, start))?;
        self.next = cap.u32(&region_cap::NEXT)?;
        let body = cap.tail(&region_cap::NEXT);
        // A capability does not say how long it is; it ends where the next one starts.
        let end = self.next.saturating_sub(at).saturating_sub(CAP_HEADER);
        let body = match usize::try_from(end) {
            Ok(end) if self.next > at => body.get(..end).unwrap_or(body),
            _ => body,
        };
        let cap = RegionCap {
            id: cap.u16(&region_cap::ID)?,
            version: cap.u16(&region_cap::VERSION)?,
            body,
        };
        check_sparse(&cap).map_err(|error| shift(error, start + region_cap::NEXT.end()))?;
        Ok(cap)
    }
}

/// Size of a capability's header, in bytes.
const CAP_HEADER: u32 = 8;

impl<'a> Iterator for CapWalk<'a> {
    type Item = Result<RegionCap<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == 0 {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.next = 0;
        }
        Some(step)
    }
}

/// Makes an error about a capability name its place in the message.
fn shift(mut error: WireError, start: usize) -> WireError {
    let before = FIRST_CAP as usize + start;
    error.offset += before;
    if let Problem::Truncated { need, have } = &mut error.problem {
        *need += before;
        *have += before;
    }
    error
}

/// A sparse mmap capability holds the areas it announces.
fn check_sparse(cap: &RegionCap<'_>) -> Result<(), WireError> {
    if cap.id != RegionCaps::SPARSE_MMAP {
        return Ok(());
    }
    let payload = Payload::new(Command::DEVICE_GET_REGION_INFO, cap.body, &sparse_mmap::RESERVED)?;
    let room = payload.tail(&sparse_mmap::RESERVED).len() / AREA_SIZE;
    if sparse_count(&payload) > room {
        let value = sparse_count(&payload) as u64;
        let problem = Problem::TooBig { value, max: room as u64 };
        return Err(payload.reject(&sparse_mmap::NR_AREAS, problem));
    }
    Ok(())
}

/// A chain of region capabilities being built ("VFIO region capabilities").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegionCaps {
    bytes: Vec<u8>,
    /// Where the last capability starts in `bytes`.
    last: usize,
}

impl RegionCaps {
    /// `VFIO_REGION_INFO_CAP_SPARSE_MMAP`.
    pub const SPARSE_MMAP: u16 = 1;
    /// `VFIO_REGION_INFO_CAP_TYPE`.
    pub const TYPE: u16 = 2;
    /// `VFIO_REGION_INFO_CAP_MSIX_MAPPABLE`.
    pub const MSIX_MAPPABLE: u16 = 3;

    /// No capabilities.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a capability. Bodies are padded to 8 bytes.
    pub fn push(&mut self, id: u16, version: u16, body: &[u8]) {
        let start = self.bytes.len();
        if start != 0 {
            let next = u64::from(FIRST_CAP) + start as u64;
            if let Some(last) = self.bytes.get_mut(self.last..) {
                region_cap::NEXT.patch(last, next);
            }
        }
        let values = [(&region_cap::ID, id.into()), (&region_cap::VERSION, version.into())];
        layout::put(&mut self.bytes, &region_cap::NEXT, &values);
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.last = start;
    }

    /// Adds a sparse mmap capability (version 1).
    pub fn push_sparse_mmap(&mut self, areas: &[SparseArea]) {
        let mut body = Vec::with_capacity(sparse_mmap::RESERVED.end() + areas.len() * AREA_SIZE);
        let values = [(&sparse_mmap::NR_AREAS, areas.len() as u64)];
        layout::put(&mut body, &sparse_mmap::RESERVED, &values);
        for area in areas {
            body.extend_from_slice(&area.offset.to_ne_bytes());
            body.extend_from_slice(&area.size.to_ne_bytes());
        }
        self.push(Self::SPARSE_MMAP, 1, &body);
    }

    /// The chain as it follows the fields of the reply.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// DEVICE_GET_REGION_IO_FDS request ("VFIO_USER_DEVICE_GET_REGION_IO_FDS"): flags and count are
/// zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetRegionIoFds {
    /// Maximum size of the reply's payload in bytes, at least 16.
    pub argsz: u32,
    /// Which region.
    pub index: RegionIndex,
}

impl GetRegionIoFds {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let command = Command::DEVICE_GET_REGION_IO_FDS;
        let payload = Payload::new(command, bytes, &region_io_fds::COUNT)?;
        let argsz = payload.argsz(&region_io_fds::ARGSZ, region_io_fds::COUNT.end())?;
        for field in [&region_io_fds::FLAGS, &region_io_fds::COUNT] {
            let value = payload.u32(field)?;
            if value != 0 {
                return Err(payload.forbid(field, value.into(), "must be zero in a request"));
            }
        }
        Ok(Self { argsz, index: RegionIndex(payload.u32(&region_io_fds::INDEX)?) })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (&region_io_fds::ARGSZ, self.argsz.into()),
            (&region_io_fds::INDEX, self.index.0.into()),
        ];
        layout::put(out, &region_io_fds::COUNT, &values);
    }
}

/// A part of a region that a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubRegionIoFd {
    /// Where it starts in the region, in bytes.
    pub offset: u64,
    /// Its size in bytes; 0 if the access size does not matter.
    pub size: u64,
    /// Which of the descriptors beside the message.
    pub fd_index: u32,
    /// [`SubRegionIoFd::IOEVENTFD`] or [`SubRegionIoFd::IOREGIONFD`].
    pub kind: u32,
    /// `KVM_IOEVENTFD_FLAG_*` or `KVM_IOREGION_*`.
    pub flags: u32,
    /// `datamatch` of an ioeventfd, `user_data` of an ioregionfd.
    pub data: u64,
}

impl SubRegionIoFd {
    /// Type: an ioeventfd.
    pub const IOEVENTFD: u32 = 0;
    /// Type: an ioregionfd.
    pub const IOREGIONFD: u32 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (&sub_region::OFFSET, self.offset),
            (&sub_region::SIZE, self.size),
            (&sub_region::FD_INDEX, self.fd_index.into()),
            (&sub_region::TYPE, self.kind.into()),
            (&sub_region::FLAGS, self.flags.into()),
            (&sub_region::DATA, self.data),
        ];
        layout::put(out, &sub_region::DATA, &values);
    }

    fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let command = Command::DEVICE_GET_REGION_IO_FDS;
        let entry = Payload::new(command, bytes, &sub_region::DATA)?;
        Ok(Self {
            offset: entry.u64(&sub_region::OFFSET)?,
            size: entry.u64(&sub_region::SIZE)?,
            fd_index: entry.u32(&sub_region::FD_INDEX)?,
            kind: entry.u32(&sub_region::TYPE)?,
            flags: entry.u32(&sub_region::FLAGS)?,
            data: entry.u64(&sub_region::DATA)?,
        })
    }
}

/// DEVICE_GET_REGION_IO_FDS reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionIoFds<'a> {
    /// Size that the whole reply payload needs, in bytes: more than it has if the sub-regions did
    /// not fit.
    pub argsz: u32,
    /// Which region.
    pub index: RegionIndex,
    /// How many sub-regions there are.
    pub count: u32,
    /// The sub-regions as they lie in the message, all of the same size; empty if they did not fit.
    pub entries: &'a [u8],
}

impl<'a> RegionIoFds<'a> {
    /// The reply to `request`, with the sub-regions if all of them fit its `argsz`. `scratch` holds
    /// them in wire form.
    pub fn reply(
        request: &GetRegionIoFds,
        regions: &[SubRegionIoFd],
        scratch: &'a mut Vec<u8>,
    ) -> Self {
        scratch.clear();
        regions.iter().for_each(|region| region.encode(scratch));
        let argsz = region_io_fds::COUNT.end() + scratch.len();
        let argsz = u32::try_from(argsz).unwrap_or(u32::MAX);
        let entries = if argsz > request.argsz { &[] } else { scratch.as_slice() };
        let count = u32::try_from(regions.len()).unwrap_or(u32::MAX);
        Self { argsz, index: request.index, count, entries }
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let command = Command::DEVICE_GET_REGION_IO_FDS;
        let payload = Payload::new(command, bytes, &region_io_fds::COUNT)?;
        let fds = Self {
            argsz: payload.argsz(&region_io_fds::ARGSZ, bytes.len())?,
            index: RegionIndex(payload.u32(&region_io_fds::INDEX)?),
            count: payload.u32(&region_io_fds::COUNT)?,
            entries: payload.tail(&region_io_fds::COUNT),
        };
        if fds.entries.is_empty() {
            return Ok(fds);
        }
        let count = u64::from(fds.count);
        let len = fds.entries.len() as u64;
        // Entries may grow in later versions of the protocol, all by the same amount.
        let whole = count != 0 && len.is_multiple_of(count);
        if !whole || len / count < sub_region::DATA.end() as u64 {
            let what = "bytes hold the sub-regions";
            let problem = Problem::Mismatch { value: count, expected: len, what };
            return Err(payload.reject(&region_io_fds::COUNT, problem));
        }
        Ok(fds)
    }

    /// The sub-regions; none if they did not fit.
    pub fn iter(&self) -> impl Iterator<Item = SubRegionIoFd> + use<'a> {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX).max(1);
        let size = (self.entries.len() / count).max(1);
        self.entries.chunks_exact(size).map_while(|bytes| SubRegionIoFd::read(bytes).ok())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (&region_io_fds::ARGSZ, self.argsz.into()),
            (&region_io_fds::INDEX, self.index.0.into()),
            (&region_io_fds::COUNT, self.count.into()),
        ];
        layout::put(out, &region_io_fds::COUNT, &values);
        out.extend_from_slice(self.entries);
    }
}

const _: () = assert!(FIRST_CAP as usize == region_info::OFFSET.end());
const _: () = assert!(CAP_HEADER as usize == region_cap::NEXT.end());
