//! A vfio-user client made for checking: it sends any bytes, and judges every reply's header.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::bytes::{Bytes, le16, le32, le64};
use crate::{Memory, Stop, errno, log};

/// Size of the header before every message, in bytes.
pub(crate) const HEADER: usize = 16;
const TYPE_MASK: u32 = 0xf;
const TYPE_REPLY: u32 = 1;
pub(crate) const NO_REPLY: u32 = 0x10;
const ERROR: u32 = 0x20;

/// More than any reply to what the checks ask for.
const MAX_MESSAGE: usize = 4 << 20;
/// Descriptors taken from one message.
const MAX_FDS: usize = 32;

/// Command numbers ("Commands").
pub(crate) mod command {
    pub(crate) const VERSION: u16 = 1;
    pub(crate) const DMA_MAP: u16 = 2;
    pub(crate) const DMA_UNMAP: u16 = 3;
    pub(crate) const GET_INFO: u16 = 4;
    pub(crate) const GET_REGION_INFO: u16 = 5;
    pub(crate) const GET_REGION_IO_FDS: u16 = 6;
    pub(crate) const GET_IRQ_INFO: u16 = 7;
    pub(crate) const SET_IRQS: u16 = 8;
    pub(crate) const REGION_READ: u16 = 9;
    pub(crate) const REGION_WRITE: u16 = 10;
    pub(crate) const DMA_READ: u16 = 11;
    pub(crate) const DMA_WRITE: u16 = 12;
    pub(crate) const DEVICE_RESET: u16 = 13;
    pub(crate) const WRITE_MULTI: u16 = 15;
    pub(crate) const FEATURE: u16 = 16;
    pub(crate) const MIG_DATA_READ: u16 = 17;
    pub(crate) const MIG_DATA_WRITE: u16 = 18;
}

/// A whole message as received.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) command: u16,
    pub(crate) flags: u32,
    pub(crate) error: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Message {
    pub(crate) fn is_reply(&self) -> bool {
        self.flags & TYPE_MASK == TYPE_REPLY
    }
}

/// The server's answer to a command.
#[derive(Debug)]
pub(crate) struct Reply {
    /// What was asked, for texts.
    what: String,
    /// The errno of an error reply, which may be 0.
    pub(crate) error: Option<u32>,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Reply {
    /// The payload of a reply without error.
    pub(crate) fn ok(self) -> Result<Vec<u8>, Stop> {
        self.accepted().map(|reply| reply.payload)
    }

    /// The reply, if it is without error.
    pub(crate) fn accepted(self) -> Result<Self, Stop> {
        match self.error {
            None => Ok(self),
            Some(error) => Err(Stop::fail(
                format!("{} succeeds", self.what),
                format!("error reply {}", errno::name(error)),
            )),
        }
    }

    /// Fails the check unless the reply is an error, whichever.
    pub(crate) fn refused(&self) -> Result<(), Stop> {
        let Some(error) = self.error else {
            return Err(Stop::fail(format!("{} is refused", self.what), "a reply without error"));
        };
        log::refused(format!("{} with {}", self.what, errno::name(error)));
        Ok(())
    }

    /// Fails the check unless the reply is an error with one of these numbers.
    pub(crate) fn refused_with(&self, allowed: &[u32]) -> Result<(), Stop> {
        self.refused()?;
        let error = self.error.unwrap_or_default();
        if allowed.contains(&error) {
            return Ok(());
        }
        let names: Vec<_> = allowed.iter().map(|number| errno::name(*number)).collect();
        Err(Stop::fail(
            format!("{} is refused with {}", self.what, names.join(" or ")),
            errno::name(error),
        ))
    }
}

/// What a server may do with a connection that has broken the protocol.
#[derive(Debug)]
pub(crate) enum Aftermath {
    /// It answered.
    Replied(Message),
    /// It hung up.
    Closed,
}

/// One connection. All waiting ends at the deadline.
pub(crate) struct Peer {
    stream: UnixStream,
    deadline: Instant,
    next_id: u16,
    /// Serves the server's DMA_READ and DMA_WRITE while a reply is awaited.
    pub(crate) memory: Option<Memory>,
    /// DMA messages served.
    pub(crate) dma_messages: u32,
}

impl Peer {
    /// Connects and sends nothing.
    pub(crate) fn connect(socket: &Path, deadline: Instant) -> Result<Self, Stop> {
        let stream = dial(socket, deadline)
            .map_err(|error| Stop::fail("the server takes a connection", error.to_string()))?;
        Ok(Self { stream, deadline, next_id: 1, memory: None, dma_messages: 0 })
    }

    /// A header in front of a payload, with the right size.
    pub(crate) fn frame(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
        Bytes::new().u16(id).u16(command).u32(size).u32(flags).u32(0).bytes(payload).0
    }

    /// Sends raw bytes, with descriptors on the first of them.
    pub(crate) fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Stop> {
        log::message(true, bytes);
        let mut sent = 0;
        while sent < bytes.len() {
            let left = self.left("room to send")?;
            let broken = |e: std::io::Error| Stop::fail("a message can be sent", e.to_string());
            self.stream.set_write_timeout(Some(left)).map_err(broken)?;
            let mut space =
                vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if sent == 0 && !fds.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(fds));
            }
            let rest = [IoSlice::new(bytes.get(sent..).unwrap_or(&[]))];
            match sendmsg(&self.stream, &rest, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Stop::Wedged("room to send".into())),
                Err(error) => return Err(Stop::fail("a message can be sent", error.to_string())),
            }
        }
        Ok(())
    }

    /// Sends the same bytes until the socket takes no more at once, at most `times` over.
    pub(crate) fn send_until_full(&mut self, bytes: &[u8], times: u32) -> Result<(), Stop> {
        for _ in 0..times {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&self.stream, bytes, flags) {
                Ok(count) if count == bytes.len() => {}
                // A server may well hang up on such a client.
                Ok(_) | Err(Errno::AGAIN | Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                Err(error) => return Err(Stop::fail("a message can be sent", error.to_string())),
            }
        }
        Ok(())
    }

    /// Receives the next whole message, or `None` if the server closed the connection.
    pub(crate) fn receive(&mut self, what: &str) -> Result<Option<Message>, Stop> {
        let mut fds = Vec::new();
        let mut header = [0; HEADER];
        if !self.fill(&mut header, &mut fds, what)? {
            return Ok(None);
        }
        let size = usize::try_from(le32(&header, 4)).unwrap_or(usize::MAX);
        let Some(len) = size.checked_sub(HEADER).filter(|len| *len <= MAX_MESSAGE) else {
            return Err(Stop::fail("a message size of 16 bytes to 4 MiB", size.to_string()));
        };
        let mut payload = vec![0; len];
        if !self.fill(&mut payload, &mut fds, what)? {
            return Err(Stop::closed("a whole message", " inside it"));
        }
        log::message(false, &[&header[..], &payload].concat());
        Ok(Some(Message {
            id: le16(&header, 0),
            command: le16(&header, 2),
            flags: le32(&header, 8),
            error: le32(&header, 12),
            payload,
            fds,
        }))
    }

    /// Fills `into`; false if the connection closed before its first byte.
    fn fill(&mut self, into: &mut [u8], fds: &mut Vec<OwnedFd>, what: &str) -> Result<bool, Stop> {
        let mut have = 0;
        while have < into.len() {
            let left = self.left(what)?;
            let broken = |e: std::io::Error| Stop::fail(what.to_owned(), e.to_string());
            self.stream.set_read_timeout(Some(left)).map_err(broken)?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let rest = into.get_mut(have..).unwrap_or_default();
            let mut slices = [IoSliceMut::new(rest)];
            match recvmsg(&self.stream, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(got) if got.bytes == 0 => {
                    if have == 0 {
                        return Ok(false);
                    }
                    return Err(Stop::closed(what, " inside a message"));
                }
                Ok(got) => have += got.bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Stop::Wedged(what.to_owned())),
                Err(Errno::CONNRESET) if have == 0 => return Ok(false),
                Err(error) => return Err(Stop::fail(what, error.to_string())),
            }
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
        }
        Ok(true)
    }

    /// Time left, or the verdict if there is none.
    fn left(&self, what: &str) -> Result<Duration, Stop> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Stop::Wedged(what.to_owned())) } else { Ok(left) }
    }

    /// A command without No_reply, its reply checked against the rules of the header.
    pub(crate) fn call(
        &mut self,
        command: u16,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, Stop> {
        let id = self.fresh_id();
        self.send(&Self::frame(id, command, 0, payload), fds)?;
        self.reply(id, command)
    }

    /// A command with No_reply: nothing is awaited.
    pub(crate) fn post(&mut self, command: u16, payload: &[u8]) -> Result<(), Stop> {
        let id = self.fresh_id();
        self.send(&Self::frame(id, command, NO_REPLY, payload), &[])
    }

    pub(crate) fn fresh_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// The reply to the command `id`, which must be the next one to come. Serves DMA meanwhile.
    pub(crate) fn reply(&mut self, id: u16, command: u16) -> Result<Reply, Stop> {
        let what = format!("command {command} ({})", name(command));
        loop {
            let message = self
                .receive(&format!("a reply to {what}"))?
                .ok_or_else(|| Stop::closed(format!("a reply to {what}"), ""))?;
            if message.is_reply() {
                return judge(what, id, command, message);
            }
            self.serve(&message)?;
        }
    }

    /// Answers a command of the server's.
    fn serve(&mut self, message: &Message) -> Result<(), Stop> {
        let (address, count) = (le64(&message.payload, 0), le64(&message.payload, 8));
        let len = usize::try_from(count).ok().filter(|len| *len <= 1 << 20);
        let answer = match (&self.memory, message.command, len) {
            (Some(memory), command::DMA_READ, Some(len)) => {
                let head = Bytes::new().u64(address).u64(count);
                memory.read_at(address, len).map(|data| head.bytes(&data).0)
            }
            (Some(memory), command::DMA_WRITE, Some(len)) => {
                let data = message.payload.get(16..16 + len).unwrap_or(&[]);
                memory.write_at(address, data).map(|()| Bytes::new().u64(address).u64(count).0)
            }
            _ => {
                return Err(Stop::fail(
                    "no command from the server but DMA_READ and DMA_WRITE of mapped memory",
                    format!("command {} for {address:#x}+{count:#x}", message.command),
                ));
            }
        };
        self.dma_messages += 1;
        let frame = match answer {
            Ok(payload) => Self::frame(message.id, message.command, TYPE_REPLY, &payload),
            Err(_) => {
                let mut frame = Self::frame(message.id, message.command, TYPE_REPLY | ERROR, &[]);
                frame.truncate(12);
                frame.extend(14_u32.to_le_bytes());
                frame
            }
        };
        self.send(&frame, &[])
    }

    /// After a broken message: what the server did. Both answers are allowed, silence is not.
    pub(crate) fn aftermath(&mut self) -> Result<Aftermath, Stop> {
        Ok(match self.receive("an error reply, or the end of the connection")? {
            Some(message) => Aftermath::Replied(message),
            None => Aftermath::Closed,
        })
    }

    /// Fails the check unless the server refuses: an error reply, or the end of the connection.
    pub(crate) fn refused_or_closed(&mut self, what: &str) -> Result<(), Stop> {
        match self.aftermath()? {
            Aftermath::Closed => {
                log::refused(format!("{what}: the connection closed"));
                Ok(())
            }
            Aftermath::Replied(message) if message.flags & ERROR != 0 => {
                log::refused(format!("{what} with {}", errno::name(message.error)));
                Ok(())
            }
            Aftermath::Replied(message) => Err(Stop::fail(
                format!("{what} is answered with an error or the end of the connection"),
                format!("a reply to command {} without error", message.command),
            )),
        }
    }

    /// Stops sending, as a client does that dies.
    pub(crate) fn shut(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Whether something has arrived and was not read.
    pub(crate) fn has_input(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(&self.stream, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// How long a server that has just ended may take to be there again, and how often that is tried.
const RESTART: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(20));

/// Connects. Servers that end with their client, and are started again by whoever runs them, are
/// given a moment.
pub(crate) fn dial(socket: &Path, deadline: Instant) -> std::io::Result<UnixStream> {
    let until = deadline.min(Instant::now() + RESTART.0);
    loop {
        match UnixStream::connect(socket) {
            Err(error) if is_away(&error) && Instant::now() < until => {
                std::thread::sleep(RESTART.1);
            }
            done => return done,
        }
    }
}

fn is_away(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error.kind(), ConnectionRefused | NotFound)
}

/// Checks a reply against "Header": id and command echoed, the error bit, no payload with an error.
fn judge(what: String, id: u16, command: u16, message: Message) -> Result<Reply, Stop> {
    if (message.id, message.command) != (id, command) {
        return Err(Stop::fail(
            format!("{what}: the reply echoes message id {id:#x}"),
            format!("id {:#x} of command {}", message.id, message.command),
        ));
    }
    let failed = message.flags & ERROR != 0;
    if failed && !message.payload.is_empty() {
        return Err(Stop::fail(
            format!("{what}: an error reply is the header alone"),
            format!("{} bytes after it", message.payload.len()),
        ));
    }
    Ok(Reply {
        what,
        error: failed.then_some(message.error),
        payload: message.payload,
        fds: message.fds,
    })
}

/// The command's name, for texts.
pub(crate) fn name(number: u16) -> &'static str {
    match number {
        command::VERSION => "VERSION",
        command::DMA_MAP => "DMA_MAP",
        command::DMA_UNMAP => "DMA_UNMAP",
        command::GET_INFO => "DEVICE_GET_INFO",
        command::GET_REGION_INFO => "DEVICE_GET_REGION_INFO",
        command::GET_REGION_IO_FDS => "DEVICE_GET_REGION_IO_FDS",
        command::GET_IRQ_INFO => "DEVICE_GET_IRQ_INFO",
        command::SET_IRQS => "DEVICE_SET_IRQS",
        command::REGION_READ => "REGION_READ",
        command::REGION_WRITE => "REGION_WRITE",
        command::DMA_READ => "DMA_READ",
        command::DMA_WRITE => "DMA_WRITE",
        command::DEVICE_RESET => "DEVICE_RESET",
        command::WRITE_MULTI => "REGION_WRITE_MULTI",
        command::FEATURE => "DEVICE_FEATURE",
        command::MIG_DATA_READ => "MIG_DATA_READ",
        command::MIG_DATA_WRITE => "MIG_DATA_WRITE",
        _ => "unknown",
    }
}
