//! Memory that a device may reach, kept in a memfd and touched with `pread` and `pwrite`.
//!
//! The server maps the same pages; the kernel keeps both views coherent, and a system call is a
//! fence, so ring indexes written this way are seen in order.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

/// A range of I/O virtual addresses with bytes behind it.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    file: Rc<File>,
    pub(crate) base: u64,
    pub(crate) size: u64,
}

impl Memory {
    /// `size` zero bytes at `base`.
    pub(crate) fn new(base: u64, size: u64) -> io::Result<Self> {
        let fd = memfd_create("conformance", MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, size)?;
        Ok(Self { file: Rc::new(File::from(fd)), base, size })
    }

    /// Copies `len` bytes at an address out.
    pub(crate) fn read_at(&self, address: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut data = vec![0; len];
        self.file.read_exact_at(&mut data, self.offset(address, len)?)?;
        Ok(data)
    }

    /// Copies bytes in.
    pub(crate) fn write_at(&self, address: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, self.offset(address, data.len())?)
    }

    /// Makes the file shorter or longer than its range, as a misbehaving client may.
    pub(crate) fn resize_file(&self, size: u64) -> io::Result<()> {
        Ok(ftruncate(&self.file, size)?)
    }

    fn offset(&self, address: u64, len: usize) -> io::Result<u64> {
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "outside the memory");
        let offset = address.checked_sub(self.base).ok_or_else(outside)?;
        let end = offset.checked_add(len as u64).ok_or_else(outside)?;
        if end <= self.size { Ok(offset) } else { Err(outside()) }
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
