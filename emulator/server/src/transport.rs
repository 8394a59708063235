//! The socket: whole messages in, whole messages out, descriptors beside them. Never blocks.
//!
//! [`Channel`] is what a session needs of it, so that tests and fuzzers can put bytes in its place.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use understudy_wire::version::MAX_MAX_MSG_FDS;
use understudy_wire::{
    Command, Errno as WireErrno, Frame, FrameReader, HEADER_SIZE, Header, Limits,
};

use crate::wake::Wake;

/// Most descriptors taken with one message. The kernel closes the rest.
pub(crate) const MAX_FDS: usize = MAX_MAX_MSG_FDS as usize;

/// The other side is gone, or can no longer be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub(crate) struct Closed;

/// A message from the client.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) header: Header,
    /// What follows the header. Its allocation is kept from message to message.
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// Why it cannot be served, whatever it says: too large, or descriptors were lost.
    pub(crate) refused: Option<WireErrno>,
    /// No message can follow.
    pub(crate) last: bool,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            header: Header::request(0, Command(0), 0),
            payload: Vec::new(),
            fds: Vec::new(),
            refused: None,
            last: false,
        }
    }
}

impl Message {
    /// Bytes that it holds on to.
    pub(crate) fn footprint(&self) -> usize {
        size_of::<Self>() + self.payload.capacity()
    }

    /// Becomes the frame. Returns where the message ends in the stream.
    pub(crate) fn set(&mut self, frame: Frame<'_>) -> u64 {
        self.payload.clear();
        self.fds.clear();
        let (header, at) = match frame {
            Frame::Message { header, payload, at } => {
                self.payload.extend_from_slice(payload);
                (self.refused, self.last) = (None, false);
                (header, at)
            }
            Frame::Oversized { header, error, at } => {
                (self.refused, self.last) = (Some(error.errno), false);
                (header, at)
            }
            Frame::Broken { header, error, at } => {
                (self.refused, self.last) = (Some(error.errno), true);
                (header, at)
            }
        };
        self.header = header;
        at + u64::from(header.size)
    }
}

/// A way to a client.
pub(crate) trait Channel {
    /// Takes the next message that is there, without waiting. `false` if there is none.
    fn receive(&mut self, into: &mut Message) -> Result<bool, Closed>;

    /// Sends a message, or keeps what the client does not take now. `fd` goes with its first byte.
    fn send(&mut self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Closed>;

    /// Waits until a message may have arrived. `false` when there is no more time.
    fn wait(&mut self, until: Instant) -> Result<bool, Closed>;

    /// Whether a whole message has been read that [`Channel::receive`] has not returned yet.
    fn has_message(&self) -> bool;

    /// Whether the client has yet to take earlier messages.
    fn is_congested(&self) -> bool;
}

/// Descriptors that arrived with the bytes of the stream before `end`.
#[derive(Debug)]
struct Parcel {
    end: u64,
    fds: Vec<OwnedFd>,
    /// Whether there were more than could be taken.
    lost: bool,
}

/// A message that the client has not taken in whole.
#[derive(Debug)]
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
    fd: Option<OwnedFd>,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    reader: FrameReader,
    parcels: VecDeque<Parcel>,
    unsent: VecDeque<Unsent>,
    /// Since when there is something unsent.
    congested_since: Option<Instant>,
    /// Ends waits when the server is to stop.
    stop: Arc<Wake>,
    closed: bool,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd, limits: &Limits, stop: Arc<Wake>) -> Self {
        Self {
            socket,
            reader: FrameReader::new(limits),
            parcels: VecDeque::new(),
            unsent: VecDeque::new(),
            congested_since: None,
            stop,
            closed: false,
        }
    }

    /// Since when the client has not taken what was sent.
    pub(crate) fn congested_since(&self) -> Option<Instant> {
        self.congested_since
    }

    /// Whether the client has closed its end, even if there is still something to read.
    pub(crate) fn is_hung_up(&self) -> bool {
        let mut ready = [PollFd::new(&self.socket, PollFlags::empty())];
        let polled = poll(&mut ready, Some(&Timespec::default()));
        polled.is_ok() && ready[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// One read. `false` if nothing is there.
    fn fill(&mut self) -> Result<bool, Closed> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            let mut iov = [IoSliceMut::new(self.reader.space())];
            match recvmsg(&self.socket, &mut iov, &mut control, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(_) => return Err(Closed),
                Ok(received) if received.bytes == 0 => return Err(Closed),
                Ok(received) => break received,
            }
        };
        self.reader.filled(received.bytes);
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let lost = received.flags.contains(ReturnFlags::CTRUNC);
        if lost || !fds.is_empty() {
            self.store(Parcel { end: self.reader.received(), fds, lost });
        }
        Ok(true)
    }

    /// Keeps descriptors for their message, no more than two messages may have: those of one that
    /// is complete and those of one that is not.
    fn store(&mut self, mut parcel: Parcel) {
        let held: usize = self.parcels.iter().map(|parcel| parcel.fds.len()).sum();
        if held + parcel.fds.len() > 2 * MAX_FDS || self.parcels.len() > 2 * MAX_FDS {
            parcel.fds.clear();
            parcel.lost = true;
            // Nothing more is known of them than that they were too many: one entry is enough.
            if let Some(last) = self.parcels.back_mut().filter(|last| last.fds.is_empty()) {
                last.end = parcel.end;
                last.lost = true;
                return;
            }
        }
        self.parcels.push_back(parcel);
    }

    /// Gives a message that ends at `end` the descriptors received with its bytes: the kernel ends
    /// a read at the end of the send that carried descriptors, so they belong to the message that
    /// the last byte read belongs to.
    fn attach(&mut self, end: u64, message: &mut Message) {
        while let Some(parcel) = self.parcels.pop_front_if(|parcel| parcel.end <= end) {
            message.fds.extend(parcel.fds);
            if parcel.lost || message.fds.len() > MAX_FDS {
                message.refused = Some(WireErrno::INVAL);
            }
        }
    }

    /// Sends what is unsent, as far as the client takes it.
    pub(crate) fn flush(&mut self) -> Result<(), Closed> {
        while let Some(next) = self.unsent.front_mut() {
            let rest = next.bytes.get(next.sent..).unwrap_or(&[]);
            let fd = next.fd.as_ref().map(AsFd::as_fd);
            match send_some(&self.socket, rest, fd)? {
                0 => return Ok(()),
                sent => {
                    next.sent += sent;
                    next.fd = None;
                }
            }
            if next.sent >= next.bytes.len() {
                self.unsent.pop_front();
            }
        }
        self.congested_since = None;
        Ok(())
    }

    fn sticky<T>(&mut self, result: Result<T, Closed>) -> Result<T, Closed> {
        self.closed |= result.is_err();
        result
    }
}

/// One `sendmsg`. 0 if the client has to read first.
fn send_some(socket: &OwnedFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<usize, Closed> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.as_slice();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Closed);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            Err(_) => return Err(Closed),
            Ok(sent) => return Ok(sent),
        }
    }
}

impl Channel for Connection {
    fn receive(&mut self, into: &mut Message) -> Result<bool, Closed> {
        if self.closed {
            return Err(Closed);
        }
        loop {
            if let Some(frame) = self.reader.next_frame() {
                let end = into.set(frame);
                self.attach(end, into);
                return Ok(true);
            }
            let filled = self.fill();
            if !self.sticky(filled)? {
                return Ok(false);
            }
        }
    }

    fn send(&mut self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Closed> {
        if self.closed {
            return Err(Closed);
        }
        debug_assert!(message.len() >= HEADER_SIZE, "not a message");
        let sent = if self.unsent.is_empty() {
            let sent = send_some(&self.socket, message, fd);
            self.sticky(sent)?
        } else {
            0
        };
        let rest = message.get(sent..).unwrap_or(&[]);
        if rest.is_empty() {
            return Ok(());
        }
        let fd = match fd.filter(|_| sent == 0) {
            Some(fd) => Some(fd.try_clone_to_owned().map_err(|_| Closed)?),
            None => None,
        };
        self.unsent.push_back(Unsent { bytes: rest.to_vec(), sent: 0, fd });
        self.congested_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn wait(&mut self, until: Instant) -> Result<bool, Closed> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, self.is_congested());
        let mut ready =
            [PollFd::new(&self.socket, interest), PollFd::new(&*self.stop, PollFlags::IN)];
        if poll(&mut ready, Some(&timespec(left))).is_err() {
            return Ok(true);
        }
        let (writable, stopped) =
            (ready[0].revents().contains(PollFlags::OUT), !ready[1].revents().is_empty());
        let result = if stopped { Err(Closed) } else { Ok(()) };
        let result = result.and_then(|()| if writable { self.flush() } else { Ok(()) });
        self.sticky(result)?;
        Ok(true)
    }

    fn has_message(&self) -> bool {
        self.reader.missing() == 0
    }

    fn is_congested(&self) -> bool {
        !self.unsent.is_empty()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A duration for the kernel.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
