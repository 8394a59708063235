//! The body of the `session` fuzz target: any bytes as a client's stream, without a socket.

use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io;
use understudy_pci::PciFunction;
use understudy_wire::{FrameReader, Header, Kind, Limits};

use crate::session::Session;
use crate::transport::{Channel, Closed, Message};
use crate::{Counters, Options};

/// Size of the memory that a client of the fuzzer can lend, in bytes.
const MEMORY: u64 = 0x1_0000;

/// A client whose every byte is known beforehand, and who reads everything.
struct Script<'a> {
    rest: &'a [u8],
    reader: FrameReader,
    /// Replies that the session sent.
    replies: u64,
}

impl Channel for Script<'_> {
    fn receive(&mut self, into: &mut Message) -> Result<bool, Closed> {
        loop {
            if let Some(frame) = self.reader.next_frame() {
                into.set(frame);
                into.fds = descriptors(&into.header).map_err(|_| Closed)?;
                return Ok(true);
            }
            let space = self.reader.space();
            let count = space.len().min(self.rest.len());
            let (now, later) = self.rest.split_at(count);
            if now.is_empty() {
                return Err(Closed);
            }
            space.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
            self.rest = later;
            self.reader.filled(count);
        }
    }

    fn send(&mut self, message: &[u8], _: Option<BorrowedFd<'_>>) -> Result<(), Closed> {
        let header = message.first_chunk().map(Header::from_bytes);
        let size = header.map(|header| u64::from(header.size));
        assert_eq!(size, Some(message.len() as u64), "a message has the wrong size");
        let reply = header.is_some_and(|header| header.kind() == Kind::Reply);
        self.replies += u64::from(reply);
        Ok(())
    }

    fn wait(&mut self, _: Instant) -> Result<bool, Closed> {
        Ok(false)
    }

    fn has_message(&self) -> bool {
        self.reader.missing() == 0
    }

    fn is_congested(&self) -> bool {
        false
    }
}

/// Descriptors cannot be bytes of the stream. The error field, reserved in requests, says what
/// comes with one: 1 for memory, 2 for memory that is truncated, 0x10 and more for eventfds, as
/// many as the low digit says.
fn descriptors(header: &Header) -> io::Result<Vec<OwnedFd>> {
    match header.error {
        kind @ 1..=2 => {
            let memory = memfd_create("fuzz", MemfdFlags::CLOEXEC)?;
            ftruncate(&memory, if kind == 1 { MEMORY } else { MEMORY / 2 })?;
            Ok(vec![memory])
        }
        kind @ 0x10..=0x1f => {
            let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
            (0x10..kind).map(|_| eventfd(0, flags)).collect()
        }
        _ => Ok(Vec::new()),
    }
}

/// Serves `input` as a client's whole stream, letting the function work after each message.
/// Returns what the session did.
///
/// # Panics
/// If a property of sessions does not hold.
pub fn session(function: PciFunction, input: &[u8]) -> Counters {
    let options = Options { max_data_xfer_size: 4096, max_dma_maps: 8, ..Options::default() };
    let Ok(mut session) = Session::new(function.into(), &options) else {
        return Counters::default();
    };
    let limits = Limits { max_data_xfer_size: options.max_data_xfer_size };
    session.attach(Script { rest: input, reader: FrameReader::new(&limits), replies: 0 });
    while session.serve(1).is_ok() {
        // What is left to do is done after the next message.
        let _ = session.poll(options.budget);
        session.finish_jobs();
    }
    let counters = session.link.counters();
    let replies = session.link.channel.as_ref().map_or(0, |script| script.replies);
    assert!(replies <= counters.messages, "more replies than requests");
    assert!(counters.dma_maps <= options.max_dma_maps.into(), "more maps than allowed");
    session.detach();
    assert_eq!(session.link.counters().dma_maps, 0, "a client's memory outlives it");
    counters
}
