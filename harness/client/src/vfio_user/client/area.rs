//! Regions, and the parts of them that can be mapped.

use std::fs::File;
use std::os::fd::OwnedFd;

use understudy_wire::{RegionIndex, SparseArea};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use crate::vfio_user::ClientError;

/// A region, as DEVICE_GET_REGION_INFO describes it.
#[derive(Debug)]
pub struct Region {
    /// Which region.
    pub index: RegionIndex,
    /// [`RegionInfoFlags`].
    pub flags: u32,
    /// Size in bytes; 0 for a region that does not exist.
    pub size: u64,
    /// Where the region starts in the descriptor, in bytes.
    pub offset: u64,
    /// Parts that can be mapped: all of it if there is a descriptor but no capability that says so.
    pub areas: Vec<SparseArea>,
    /// The descriptor to map, if the region can be mapped.
    pub fd: Option<OwnedFd>,
}

/// A part of a region that is mapped into this process.
#[derive(Debug)]
pub struct MappedArea {
    /// Which part, relative to the region.
    pub area: SparseArea,
    memory: MmapRegion,
}

impl MappedArea {
    /// Reads at a region offset; `false` if the range is not inside.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        self.slice(offset, into.len()).is_some_and(|slice| slice.copy_to(into) == into.len())
    }

    /// Writes at a region offset; `false` if the range is not inside.
    pub fn write(&self, offset: u64, from: &[u8]) -> bool {
        self.slice(offset, from.len()).is_some_and(|slice| {
            slice.copy_from(from);
            true
        })
    }

    fn slice(&self, offset: u64, len: usize) -> Option<vm_memory::VolatileSlice<'_>> {
        let at = usize::try_from(offset.checked_sub(self.area.offset)?).ok()?;
        self.memory.get_slice(at, len).ok()
    }
}

pub(super) fn map_area(
    region: &Region,
    fd: &OwnedFd,
    area: SparseArea,
) -> Result<MappedArea, ClientError> {
    let end = area.offset.checked_add(area.size);
    let start = region.offset.checked_add(area.offset);
    let (Some(true), Some(start)) = (end.map(|end| end <= region.size), start) else {
        return Err(ClientError::Unexpected("a mappable area outside its region".into()));
    };
    let what = "mapping a region";
    let file = fd.try_clone().map(File::from).map_err(|error| ClientError::io(what, error))?;
    let size = usize::try_from(area.size).map_err(|_| ClientError::Limit("address space"))?;
    let memory = MmapRegion::from_file(FileOffset::new(file, start), size)
        .map_err(|error| ClientError::io(what, std::io::Error::other(error)))?;
    Ok(MappedArea { area, memory })
}
