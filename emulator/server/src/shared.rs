//! Parts of BARs that the client may map: one sealed memfd for each BAR that has any.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io;
use understudy_device::{Bar, DmaFault, DmaFaultKind, Identity, SharedArea};

use crate::dma::{Access, Mapping};

/// The memory behind one BAR's shared areas. Offsets are those in the BAR.
#[derive(Debug)]
struct Memory {
    bar: Bar,
    file: OwnedFd,
    mapping: Mapping,
    areas: Vec<SharedArea>,
}

/// The shared memory of a device. Each client gets fresh, zeroed memory, so that what an earlier
/// one may still have mapped is nobody's business.
#[derive(Debug)]
pub(crate) struct SharedAreas(Vec<Memory>);

impl SharedAreas {
    pub(crate) fn new(identity: &Identity) -> io::Result<Self> {
        let bars = identity.bars.iter().filter(|spec| !spec.shared.is_empty());
        bars.map(|spec| Memory::new(spec.bar, spec.size, &spec.shared))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// What a client maps to see the shared areas of a BAR, at their offsets in the BAR.
    pub(crate) fn file(&self, bar: Bar) -> Option<BorrowedFd<'_>> {
        self.0.iter().find(|memory| memory.bar == bar).map(|memory| memory.file.as_fd())
    }

    pub(crate) fn read(&self, bar: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        let len = into.len() as u64;
        let memory = self.at(bar, offset, len)?;
        memory.mapping.read(offset, into).map_err(|_| fault(offset, len))
    }

    pub(crate) fn write(&self, bar: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault> {
        let len = from.len() as u64;
        let memory = self.at(bar, offset, len)?;
        memory.mapping.write(offset, from).map_err(|_| fault(offset, len))
    }

    /// The memory of a BAR, if the range lies in one area.
    fn at(&self, bar: Bar, offset: u64, len: u64) -> Result<&Memory, DmaFault> {
        let inside = |area: &SharedArea| {
            offset >= area.offset
                && offset.checked_add(len).is_some_and(|end| end <= area.offset + area.size)
        };
        self.0
            .iter()
            .find(|memory| memory.bar == bar && memory.areas.iter().any(inside))
            .ok_or_else(|| fault(offset, len))
    }
}

fn fault(offset: u64, len: u64) -> DmaFault {
    DmaFault { iova: offset, len, kind: DmaFaultKind::Unmapped }
}

impl Memory {
    fn new(bar: Bar, size: u64, areas: &[SharedArea]) -> io::Result<Self> {
        let file = memfd_create("understudy-bar", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, size)?;
        // The client holds it too: it must not be able to take the memory away.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let access = Access { read: true, write: true };
        let mapping = Mapping::new(file.as_fd(), 0, size, access).map_err(|error| {
            tracing::error!(%error, bar = bar.0, "cannot map a shared area");
            io::Errno::NOMEM
        })?;
        Ok(Self { bar, file, mapping, areas: areas.to_vec() })
    }
}
