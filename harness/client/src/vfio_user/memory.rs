//! Guest memory, in a memfd.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::MemfdFlags;
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use crate::vfio_user::ClientError;

/// A contiguous range of guest memory. Shared with the server by its descriptor, or reached by the
/// server through messages only; drivers do not see the difference.
#[derive(Debug)]
pub struct GuestMemory {
    base: u64,
    file: File,
    region: MmapRegion,
}

impl GuestMemory {
    /// `size` zero bytes (whole pages) at address `base` for the device.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn new(base: u64, size: usize) -> Result<Self, ClientError> {
        let what = "creating guest memory";
        let fd = rustix::fs::memfd_create("understudy-guest-memory", MemfdFlags::CLOEXEC)
            .map_err(|error| ClientError::io(what, error))?;
        let file = File::from(fd);
        file.set_len(size as u64).map_err(|error| ClientError::io(what, error))?;
        let clone = file.try_clone().map_err(|error| ClientError::io(what, error))?;
        let region = MmapRegion::from_file(FileOffset::new(clone, 0), size)
            .map_err(|error| ClientError::io(what, std::io::Error::other(error)))?;
        Ok(Self { base, file, region })
    }

    /// First address for the device.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.region.len() as u64
    }

    /// The memfd; the memory starts at its beginning.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Copies out; `false`, and nothing is copied, if the range is not inside.
    pub fn read(&self, iova: u64, into: &mut [u8]) -> bool {
        self.slice(iova, into.len()).is_some_and(|slice| slice.copy_to(into) == into.len())
    }

    /// Copies in; `false`, and nothing is copied, if the range is not inside.
    pub fn write(&self, iova: u64, from: &[u8]) -> bool {
        self.slice(iova, from.len()).is_some_and(|slice| {
            slice.copy_from(from);
            true
        })
    }

    fn slice(&self, iova: u64, len: usize) -> Option<vm_memory::VolatileSlice<'_>> {
        let offset = usize::try_from(iova.checked_sub(self.base)?).ok()?;
        self.region.get_slice(offset, len).ok()
    }
}
