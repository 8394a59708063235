//! What a client may say, and what it may not: one module for each command.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "in tests, what must not be is a failure"
)]

#[path = "../common/mod.rs"]
mod common;

mod device_feature;
mod device_info;
mod device_reset;
mod dma_map;
mod dma_messages;
mod dma_unmap;
mod framing;
mod interrupts;
mod irq_info;
mod negotiate;
mod region_access;
mod region_info;
mod region_io_fds;
mod set_irqs;

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// A descriptor that no command takes, and a way to see when all copies of it are closed.
fn tracked_fd() -> (OwnedFd, Tracker) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (writer, Tracker(reader))
}

struct Tracker(OwnedFd);

impl Tracker {
    /// Waits until the last copy is closed.
    #[track_caller]
    fn wait_closed(&self) {
        let timeout = Timespec { tv_sec: common::SOON.as_secs() as i64, tv_nsec: 0 };
        let mut ready = [PollFd::new(&self.0, PollFlags::empty())];
        assert_eq!(poll(&mut ready, Some(&timeout)), Ok(1), "a descriptor was left open");
    }
}
