//! Whole messages over a socket, with descriptors.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use understudy_wire::{Frame, FrameReader, HEADER_SIZE, Header, Limits};

use crate::vfio_user::ClientError;

/// Descriptors taken from one read; the kernel closes the rest. Linux allows 253 in a message.
const MAX_FDS: usize = 64;
/// Bytes of messages kept while we are busy sending. A server that sends more is not ours to save.
const MAX_INBOX: usize = 64 << 20;

/// A message as it came.
#[derive(Debug)]
pub struct Message {
    /// Its header.
    pub header: Header,
    /// What followed the header.
    pub payload: Vec<u8>,
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

/// Is shown every message, header included, and whether it was sent. Called on the thread that sends
/// and receives.
#[derive(Clone, Copy)]
pub struct Observer(fn(bool, &[u8]));

impl Observer {
    /// Calls this function.
    #[must_use]
    pub fn new(show: fn(bool, &[u8])) -> Self {
        Self(show)
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// A connection to a server, below the level of commands.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    observer: Option<Observer>,
    reader: FrameReader,
    /// Descriptors that belong to the message in which the stream offset falls.
    arrived: VecDeque<(u64, Vec<OwnedFd>)>,
    inbox: VecDeque<Message>,
    inbox_bytes: usize,
    closed: bool,
}

impl Connection {
    /// Connects to a server's socket.
    ///
    /// # Errors
    /// If that fails.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket);
        Ok(Self::new(stream.map_err(|error| ClientError::io("connecting", error))?))
    }

    /// Uses a connected socket.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            observer: None,
            reader: FrameReader::new(&Limits::default()),
            arrived: VecDeque::new(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            closed: false,
        }
    }

    /// Has every message shown to somebody from now on.
    pub fn observe(&mut self, observer: Option<Observer>) {
        self.observer = observer;
    }

    /// Changes how large a received message may be.
    pub fn set_limits(&mut self, limits: &Limits) {
        self.reader.set_limits(limits);
    }

    /// Sends any bytes, with descriptors on the first of them. What arrives meanwhile is kept, so
    /// that two sides that both send do not wait for each other.
    ///
    /// # Errors
    /// [`ClientError::Timeout`], [`ClientError::Closed`], or a failed system call.
    pub fn send(
        &mut self,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), ClientError> {
        if let Some(Observer(show)) = self.observer {
            show(true, bytes);
        }
        let mut fds = fds;
        let mut rest = bytes;
        while !rest.is_empty() {
            match send_some(&self.stream, rest, fds) {
                Ok(count) => {
                    fds = &[];
                    rest = rest.get(count..).unwrap_or(&[]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let ready = self.wait(PollFlags::IN | PollFlags::OUT, deadline)?;
                    if ready.is_empty() {
                        return Err(ClientError::Timeout("to send"));
                    }
                    if ready.contains(PollFlags::IN) {
                        self.fill()?;
                    }
                }
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ClientError::Closed),
                Err(error) => return Err(ClientError::io("sending", error)),
            }
        }
        Ok(())
    }

    /// The next message, in order of arrival.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] at `deadline`; [`ClientError::Closed`] after the last message;
    /// [`ClientError::Malformed`] for one that is too large or too small.
    pub fn receive(&mut self, deadline: Instant) -> Result<Message, ClientError> {
        loop {
            if let Some(message) = self.try_receive()? {
                return Ok(message);
            }
            if self.wait(PollFlags::IN, deadline)?.is_empty() {
                return Err(ClientError::Timeout("for a message"));
            }
        }
    }

    /// The next message, if it has arrived.
    ///
    /// # Errors
    /// As [`receive`](Self::receive), without the timeout.
    pub fn try_receive(&mut self) -> Result<Option<Message>, ClientError> {
        if self.inbox.is_empty() && !self.closed {
            self.fill()?;
        }
        match self.inbox.pop_front() {
            Some(message) => {
                self.inbox_bytes = self.inbox_bytes.saturating_sub(message.payload.len());
                Ok(Some(message))
            }
            None if self.closed => Err(ClientError::Closed),
            None => Ok(None),
        }
    }

    /// Says that nothing more will be sent, received, or both.
    pub fn shutdown(&self, how: std::net::Shutdown) {
        // Only fails if the connection is gone already.
        let _ = self.stream.shutdown(how);
    }

    /// Waits for readiness; empty at the deadline.
    fn wait(&self, flags: PollFlags, deadline: Instant) -> Result<PollFlags, ClientError> {
        let mut fds = [PollFd::new(&self.stream, flags)];
        wait_for(&mut fds, deadline)?;
        let [fd] = fds;
        Ok(fd.revents())
    }

    /// Takes in what has arrived, without waiting.
    fn fill(&mut self) -> Result<(), ClientError> {
        loop {
            let before = self.reader.received();
            let mut fds = Vec::new();
            let space = self.reader.space();
            let room = space.len();
            let count = match receive_some(&self.stream, space, &mut fds) {
                Ok(0) => {
                    self.closed = true;
                    return Ok(());
                }
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNRESET) => {
                    self.closed = true;
                    return Ok(());
                }
                Err(error) => return Err(ClientError::io("receiving", error)),
            };
            self.reader.filled(count);
            if !fds.is_empty() {
                self.arrived.push_back((before + count as u64, fds));
            }
            self.collect()?;
            if count < room {
                return Ok(());
            }
        }
    }

    /// Moves whole messages to the inbox.
    fn collect(&mut self) -> Result<(), ClientError> {
        while let Some(frame) = self.reader.next_frame() {
            let (header, payload, at) = match frame {
                Frame::Message { header, payload, at } => (header, payload.to_vec(), at),
                Frame::Oversized { error, .. } | Frame::Broken { error, .. } => {
                    return Err(error.into());
                }
            };
            // A read that brings descriptors ends with the send that carried them, so they belong
            // to the message that reaches its end.
            let end = at + (HEADER_SIZE + payload.len()) as u64;
            let mut fds = Vec::new();
            while self.arrived.front().is_some_and(|(to, _)| *to <= end) {
                fds.extend(self.arrived.pop_front().map(|(_, fds)| fds).unwrap_or_default());
            }
            if let Some(Observer(show)) = self.observer {
                show(false, &[&header.to_bytes()[..], &payload].concat());
            }
            self.inbox_bytes += payload.len();
            if self.inbox_bytes > MAX_INBOX {
                return Err(ClientError::Limit("messages that nobody asked for"));
            }
            self.inbox.push_back(Message { header, payload, fds });
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Polls until something is ready or the deadline has passed. Readiness is in the descriptors.
pub(super) fn wait_for(fds: &mut [PollFd<'_>], deadline: Instant) -> Result<(), ClientError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| ClientError::Limit("timeout"))?;
        match poll(fds, Some(&left)) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(ClientError::io("polling", error)),
        }
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, flags)
}

fn receive_some(
    stream: &UnixStream,
    into: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream, &mut [IoSliceMut::new(into)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(received.bytes)
}
