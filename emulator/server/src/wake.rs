//! An eventfd that wakes an event loop.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;

/// Wakes the thread that waits for it to become readable.
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map(Self)
    }

    /// Makes the descriptor readable.
    pub(crate) fn wake(&self) {
        // It fails only if the counter is at its maximum, and then it is readable already.
        let _ = io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes the descriptor quiet again.
    pub(crate) fn clear(&self) {
        let mut count = [0; 8];
        // It fails only if it is quiet already.
        let _ = io::read(&self.0, &mut count);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
