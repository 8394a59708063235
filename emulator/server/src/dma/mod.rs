//! What the client lets the device reach: I/O virtual addresses to mapped memory or to messages.

mod mapping;

use std::os::fd::BorrowedFd;

pub(crate) use mapping::{Access, MapError, MapFault, Mapping};
use understudy_device::DmaFaultKind;
use understudy_wire::{DmaMap as MapRequest, Errno};

/// Granularity of mappings in bytes: the page size offered in VERSION.
pub(crate) const PAGE_SIZE: u64 = 4096;

/// One region of the client's memory.
#[derive(Debug)]
struct Region {
    start: u64,
    /// Last address, inclusive: a region may end at the top of the address space.
    last: u64,
    access: Access,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    Mapped(Mapping),
    /// Reached by DMA_READ and DMA_WRITE messages.
    Messages,
}

/// The direction of an access, seen from the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// The part of an access that lies in one region.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// Mapped memory, the offset in it, and the length in bytes.
    Mapped(&'a Mapping, u64, usize),
    /// The length in bytes.
    Messages(usize),
}

/// All regions, by address.
#[derive(Debug)]
pub(crate) struct IovaMap {
    regions: Vec<Region>,
    /// Index of the region used last: most accesses hit the same one again.
    recent: usize,
    limit: usize,
}

impl IovaMap {
    pub(crate) fn new(limit: usize) -> Self {
        Self { regions: Vec::new(), recent: 0, limit }
    }

    pub(crate) fn len(&self) -> usize {
        self.regions.len()
    }

    /// Adds a region. The descriptor may be closed afterwards.
    pub(crate) fn map(
        &mut self,
        request: &MapRequest,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(), Errno> {
        let MapRequest { flags, offset, address: start, size, .. } = *request;
        let aligned = [offset, start, size].iter().all(|value| value % PAGE_SIZE == 0);
        let last = size.checked_sub(1).and_then(|span| start.checked_add(span));
        let (true, Some(last)) = (aligned, last) else { return Err(Errno::INVAL) };
        let at = self.regions.partition_point(|region| region.last < start);
        if self.regions.get(at).is_some_and(|region| region.start <= last) {
            return Err(Errno::EXIST);
        }
        if self.regions.len() >= self.limit {
            return Err(Errno::NOSPC);
        }
        let access =
            Access { read: flags & MapRequest::READ != 0, write: flags & MapRequest::WRITE != 0 };
        let backing = match file {
            Some(file) => Backing::Mapped(Mapping::new(file, offset, size, access).map_err(errno)?),
            None => Backing::Messages,
        };
        self.regions.insert(at, Region { start, last, access, backing });
        Ok(())
    }

    /// Removes the region that has exactly this range.
    pub(crate) fn unmap(&mut self, start: u64, size: u64) -> Result<(), Errno> {
        let at = self.regions.partition_point(|region| region.last < start);
        let exact = self.regions.get(at).is_some_and(|region| {
            region.start == start && region.last - start == size.wrapping_sub(1)
        });
        if !exact {
            return Err(Errno::NOENT);
        }
        self.regions.remove(at);
        Ok(())
    }

    /// Removes all regions.
    pub(crate) fn clear(&mut self) {
        self.regions.clear();
    }

    /// Changes how many regions there may be.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Where an access of up to `len` bytes at `iova` goes, as far as the first region reaches.
    #[inline]
    pub(crate) fn find(
        &mut self,
        iova: u64,
        len: usize,
        direction: Direction,
    ) -> Result<Piece<'_>, DmaFaultKind> {
        let holds = |region: &Region| region.start <= iova && iova <= region.last;
        if !self.regions.get(self.recent).is_some_and(holds) {
            self.recent = self.regions.partition_point(|region| region.last < iova);
        }
        let region = match self.regions.get(self.recent) {
            Some(region) if holds(region) => region,
            _ => return Err(DmaFaultKind::Unmapped),
        };
        let allowed = match direction {
            Direction::Read => region.access.read,
            Direction::Write => region.access.write,
        };
        if !allowed {
            return Err(DmaFaultKind::Denied);
        }
        // One less than the bytes up to the end, which may be 2^64.
        let rest = region.last - iova;
        let len = usize::try_from(rest).map_or(len, |rest| len.min(rest.saturating_add(1)));
        Ok(match &region.backing {
            Backing::Mapped(mapping) => Piece::Mapped(mapping, iova - region.start, len),
            Backing::Messages => Piece::Messages(len),
        })
    }
}

fn errno(error: MapError) -> Errno {
    match error {
        MapError::NotAFile | MapError::PastEnd => Errno::INVAL,
        MapError::TooMany => Errno::NOSPC,
        MapError::Kernel(errno) => crate::errno(errno),
    }
}
