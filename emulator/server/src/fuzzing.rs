//! The body of the `session` fuzz target: any bytes as a client's stream, without a socket.

use std::time::Instant;

use rustix::fd::BorrowedFd;
use understudy_pci::PciFunction;
use understudy_wire::{FrameReader, Header, Kind, Limits};

use crate::Options;
use crate::session::Session;
use crate::transport::{Channel, Closed, Message};

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
                return Ok(true);
            }
            let space = self.reader.space();
            let count = space.len().min(self.rest.len());
            let (now, later) = self.rest.split_at(count);
            if now.is_empty() {
                return Err(Closed);
            }
            space[..count].copy_from_slice(now);
            self.rest = later;
            self.reader.filled(count);
        }
    }

    fn send(&mut self, message: &[u8], _: Option<BorrowedFd<'_>>) -> Result<(), Closed> {
        let Some(header) = message.first_chunk().map(Header::from_bytes) else {
            unreachable!("a message without a header was sent")
        };
        assert_eq!(header.size as usize, message.len(), "a message has the wrong size");
        self.replies += u64::from(header.kind() == Kind::Reply);
        Ok(())
    }

    fn wait(&mut self, _: Instant) -> Result<bool, Closed> {
        Ok(false)
    }

    fn is_congested(&self) -> bool {
        false
    }
}

/// Serves `input` as a client's whole stream, letting the function work after each message.
/// Panics if a property of sessions does not hold.
pub fn session(function: PciFunction, input: &[u8]) {
    let options = Options { max_data_xfer_size: 4096, max_dma_maps: 8, ..Options::default() };
    let Ok(mut session) = Session::new(function, &options) else { return };
    let limits = Limits { max_data_xfer_size: options.max_data_xfer_size };
    session.attach(Script { rest: input, reader: FrameReader::new(&limits), replies: 0 });
    while session.serve(1).is_ok() {
        let _ = session.poll(options.budget);
        session.finish_jobs();
    }
    let counters = session.link.counters();
    let replies = session.link.channel.as_ref().map_or(0, |script| script.replies);
    assert!(replies <= counters.messages, "more replies than requests");
    session.detach();
    assert_eq!(session.link.counters().dma_maps, 0, "a client's memory outlives it");
}
