//! A man in the middle of a vfio-user socket, who makes the server get the protocol wrong.
//!
//! Messages are taken apart here and not by `understudy-wire`: what is broken on purpose must not
//! depend on the code that is checked.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

const HEADER: usize = 16;
/// Larger messages, and smaller ones than a header, are passed on as they come.
const MAX_MESSAGE: usize = 4 << 20;
const MAX_FDS: usize = 64;
const REPLY: u32 = 1;
const NO_REPLY: u32 = 0x10;
const ERROR: u32 = 0x20;
const EINVAL: u32 = 22;
/// How often a proxy looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);

/// One thing that a server gets wrong. A command is meant by its number; 0 means every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The command.
    pub command: u16,
    /// What is wrong.
    pub wrong: Wrong,
}

/// What is wrong with a command or its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing: what is in the middle must not be noticed itself.
    Nothing,
    /// Bits of a byte of the reply are flipped, header included.
    Reply(usize, u8),
    /// Bits of a byte of the request are flipped before the server sees it.
    Request(usize, u8),
    /// The reply is shorter by so many bytes.
    Shorter(usize),
    /// The reply is longer by so many bytes.
    Longer(usize),
    /// What is refused is answered as if it were done.
    Accepted,
    /// What is done is answered as if it were refused.
    Refused,
    /// An error has this number, whatever it was.
    Errno(u32),
    /// An error reply carries a payload.
    ErrorPayload,
    /// There is no reply.
    Silent,
    /// It is answered as done, and not done.
    Undone,
    /// It is done twice.
    Twice,
    /// A posted command is answered.
    Answered,
    /// A posted command is not done.
    PostLost,
    /// Descriptors of the request do not arrive.
    NoRequestFds,
    /// Descriptors of the reply do not arrive.
    NoReplyFds,
    /// An error ends the connection.
    Hangup,
    /// Replies are held back until the next one has gone.
    Late,
    /// The server does not notice that its client has gone: state stays for the next.
    Keeps,
    /// Messages of the wrong type are taken for commands.
    AnyType,
    /// A command is taken for this one.
    Other(u16),
    /// A message that comes in pieces is not waited for.
    Impatient,
}

/// A socket of its own in front of a server's.
#[derive(Debug)]
pub struct Proxy {
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Proxy {
    /// Listens at `path` for clients of the server at `server`.
    ///
    /// # Errors
    /// If that cannot be listened at.
    pub fn start(path: &Path, server: &Path, change: Change) -> io::Result<Self> {
        let socket = UnixListener::bind(path)?;
        socket.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, server) = (Arc::clone(&stop), server.to_owned());
        let kept = Arc::new(Mutex::new(None));
        let listener = thread::Builder::new().name("proxy".into()).spawn(move || {
            let mut earlier: Vec<(UnixStream, JoinHandle<()>)> = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                let mut fds = [PollFd::new(&socket, PollFlags::IN)];
                let _ = poll(&mut fds, Some(&tick()));
                let Ok((client, _)) = socket.accept() else { continue };
                // The server must learn that a client has gone before it meets the next one.
                for (_, done) in earlier.extract_if(.., |(client, _)| has_gone(client)) {
                    let _ = done.join();
                }
                let Ok(watched) = client.try_clone() else { continue };
                let Ok(last) = client.try_clone() else { continue };
                let (stopped, server) = (Arc::clone(&stopped), server.clone());
                let kept = Arc::clone(&kept);
                // A client whose thread cannot be started is hung up on.
                let thread = thread::Builder::new().name("proxied".into()).spawn(move || {
                    // Ends with either side.
                    let _ = serve(client, &server, change, &stopped, &kept);
                    let _ = last.shutdown(Shutdown::Both);
                });
                earlier.extend(thread.ok().map(|thread| (watched, thread)));
            }
        })?;
        Ok(Self { stop, listener: Some(listener), path: path.to_owned() })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the other end of a connection has been closed, or this one has been shut down.
fn has_gone(client: &UnixStream) -> bool {
    let mut fds = [PollFd::new(client, PollFlags::HUP)];
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&none)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

fn tick() -> Timespec {
    Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() }
}

/// A connection to the server that outlives its client, and the server's answer to VERSION.
type Kept = Arc<Mutex<Option<(UnixStream, Option<Vec<u8>>)>>>;

fn serve(
    client: UnixStream,
    server: &Path,
    change: Change,
    stop: &AtomicBool,
    kept: &Kept,
) -> io::Result<()> {
    let keeps = change.wrong == Wrong::Keeps;
    let mut held = keeps.then(|| kept.lock().unwrap_or_else(PoisonError::into_inner));
    let old = held.as_mut().and_then(|held| held.take());
    let (upstream, version) = match old {
        Some((stream, version)) => (stream, version),
        None => (UnixStream::connect(server)?, None),
    };
    let mut link = Link {
        change,
        client: Side::new(client)?,
        server: Side::new(upstream)?,
        pending: BTreeMap::new(),
        late: None,
        version,
        is_old: false,
    };
    link.is_old = link.version.is_some();
    while !stop.load(Ordering::SeqCst) && link.step()? {}
    if let Some(held) = &mut held {
        **held = Some((link.server.stream, link.version));
    }
    Ok(())
}

/// One end of a connection.
struct Side {
    stream: UnixStream,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    /// The stream is out of step: pass on what comes.
    raw: bool,
}

struct Message {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Message {
    fn word(&self, at: usize) -> u32 {
        let raw = self.bytes.get(at..at + 4).and_then(|raw| raw.try_into().ok());
        raw.map_or(0, u32::from_le_bytes)
    }

    fn set(&mut self, at: usize, value: u32) {
        if let Some(raw) = self.bytes.get_mut(at..at + 4) {
            raw.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn id(&self) -> u16 {
        u16::try_from(self.word(0) & 0xffff).unwrap_or_default()
    }

    fn command(&self) -> u16 {
        u16::try_from(self.word(0) >> 16).unwrap_or_default()
    }

    fn flip(&mut self, at: usize, bits: u8) {
        if let Some(byte) = self.bytes.get_mut(at) {
            *byte ^= bits;
        }
    }

    /// A payload of another length.
    fn resize(&mut self, len: usize) {
        self.bytes.resize(len.max(HEADER), 0);
        let size = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.set(4, size);
    }
}

impl Side {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, bytes: Vec::new(), fds: Vec::new(), raw: false })
    }

    /// Takes in what has arrived. False at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let got = match recvmsg(&self.stream, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        {
            Ok(got) => got.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                self.fds.extend(rights);
            }
        }
        self.bytes.extend_from_slice(buffer.get(..got).unwrap_or(&[]));
        Ok(got > 0)
    }

    /// Whole messages that have arrived. Descriptors belong to the last of them: a read that brings
    /// descriptors ends with the message that they came with.
    fn messages(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while !self.raw && self.bytes.len() >= HEADER {
            let raw = self.bytes.get(4..8).and_then(|raw| raw.try_into().ok()).unwrap_or([0; 4]);
            let size = usize::try_from(u32::from_le_bytes(raw)).unwrap_or(usize::MAX);
            if !(HEADER..=MAX_MESSAGE).contains(&size) {
                self.raw = true;
                break;
            }
            if self.bytes.len() < size {
                break;
            }
            let rest = self.bytes.split_off(size);
            let bytes = std::mem::replace(&mut self.bytes, rest);
            messages.push(Message { bytes, fds: Vec::new() });
        }
        if let Some(last) = messages.last_mut() {
            last.fds = std::mem::take(&mut self.fds);
        }
        messages
    }

    /// What arrived of a stream that is out of step.
    fn rest(&mut self) -> Option<Message> {
        let is_some = self.raw && !self.bytes.is_empty();
        is_some.then(|| Message {
            bytes: std::mem::take(&mut self.bytes),
            fds: std::mem::take(&mut self.fds),
        })
    }

    /// Sends a message, waiting for room as long as the other end is there.
    fn send(&self, message: &Message) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = message.fds.iter().map(AsFd::as_fd).collect();
        let mut sent = 0;
        while sent < message.bytes.len() {
            let mut space =
                vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&fds).size()];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if sent == 0 && !fds.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&fds));
            }
            let rest = [IoSlice::new(message.bytes.get(sent..).unwrap_or(&[]))];
            match sendmsg(&self.stream, &rest, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut fds = [PollFd::new(&self.stream, PollFlags::OUT)];
                    poll(&mut fds, Some(&tick()))?;
                    if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

struct Link {
    change: Change,
    client: Side,
    server: Side,
    /// Requests that wait for their reply, by id.
    pending: BTreeMap<u16, Vec<u8>>,
    late: Option<Message>,
    /// The server's answer to VERSION, if it is kept for the next client.
    version: Option<Vec<u8>>,
    /// The server is attached already.
    is_old: bool,
}

impl Link {
    /// Passes on what has arrived. False once either side has hung up.
    fn step(&mut self) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(&self.client.stream, PollFlags::IN),
            PollFd::new(&self.server.stream, PollFlags::IN),
        ];
        poll(&mut fds, Some(&tick()))?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (mut from_client, mut from_server) = (true, true);
        if ready.first() == Some(&true) {
            from_client = self.client.fill()?;
            for message in self.client.messages() {
                self.request(message)?;
            }
            if let Some(rest) = self.client.rest() {
                self.server.send(&rest)?;
            }
            if self.change.wrong == Wrong::Impatient && !self.client.bytes.is_empty() {
                return Ok(false);
            }
            if !from_client && !self.client.bytes.is_empty() && self.change.wrong != Wrong::Keeps {
                // Whatever a dying client sent.
                let bytes = std::mem::take(&mut self.client.bytes);
                self.server.send(&Message { bytes, fds: Vec::new() })?;
            }
        }
        if ready.get(1) == Some(&true) {
            from_server = self.server.fill()?;
            for message in self.server.messages() {
                if !self.reply(message)? {
                    return Ok(false);
                }
            }
            if let Some(rest) = self.server.rest() {
                self.client.send(&rest)?;
            }
        }
        // A reply that is held back with nothing to follow comes after all.
        if !ready.contains(&true)
            && let Some(late) = self.late.take()
        {
            self.client.send(&late)?;
        }
        Ok(from_client && from_server)
    }

    fn is_meant(&self, command: u16) -> bool {
        self.change.command == 0 || self.change.command == command
    }

    fn request(&mut self, mut message: Message) -> io::Result<()> {
        let (id, command, flags) = (message.id(), message.command(), message.word(8));
        if self.change.wrong == Wrong::Keeps && command == 1 && self.is_old {
            self.is_old = false;
            if let Some(mut bytes) = self.version.clone() {
                bytes.splice(..2, id.to_le_bytes());
                return self.client.send(&Message { bytes, fds: Vec::new() });
            }
        }
        let is_command = flags & 0xf == 0;
        if !is_command {
            if self.change.wrong == Wrong::AnyType && flags & 0xf != REPLY {
                message.set(8, flags & !0xf);
                self.pending.insert(id, message.bytes.clone());
            }
            return self.server.send(&message);
        }
        let posted = flags & NO_REPLY != 0;
        if !posted && self.pending.len() < 1024 {
            self.pending.insert(id, message.bytes.clone());
        }
        if !self.is_meant(command) {
            return self.server.send(&message);
        }
        match self.change.wrong {
            Wrong::Request(at, bits) => message.flip(at, bits),
            Wrong::Undone if !posted => return self.client.send(&done(&message)),
            Wrong::PostLost if posted => return Ok(()),
            Wrong::Answered if posted => {
                self.client.send(&done(&message))?;
            }
            Wrong::Twice => {
                let copy = Message { bytes: message.bytes.clone(), fds: Vec::new() };
                self.server.send(&message)?;
                let mut copy = copy;
                copy.set(8, flags | NO_REPLY);
                return self.server.send(&copy);
            }
            Wrong::NoRequestFds => message.fds.clear(),
            Wrong::Other(other) => {
                let word = u32::from(id) | u32::from(other) << 16;
                message.set(0, word);
            }
            _ => {}
        }
        self.server.send(&message)
    }

    /// Passes a reply on. False if that ends the connection.
    fn reply(&mut self, mut message: Message) -> io::Result<bool> {
        let flags = message.word(8);
        if flags & 0xf != REPLY {
            // A command of the server's.
            if self.is_meant(message.command()) {
                match self.change.wrong {
                    Wrong::Reply(at, bits) => message.flip(at, bits),
                    Wrong::Silent => return Ok(true),
                    _ => {}
                }
            }
            self.client.send(&message)?;
            return Ok(true);
        }
        let request = self.pending.remove(&message.id());
        let asked = request.as_deref().map_or(message.command(), |bytes| {
            Message { bytes: bytes.to_vec(), fds: Vec::new() }.command()
        });
        if self.change.wrong == Wrong::Keeps && asked == 1 {
            self.version = Some(message.bytes.clone());
        }
        if let Wrong::Other(_) = self.change.wrong
            && self.is_meant(asked)
        {
            let word = u32::from(message.id()) | u32::from(asked) << 16;
            message.set(0, word);
        }
        if self.is_meant(asked) && !self.spoil(&mut message, request.as_deref(), flags)? {
            return Ok(self.change.wrong != Wrong::Hangup || flags & ERROR == 0);
        }
        self.client.send(&message)?;
        if let Some(late) = self.late.take() {
            self.client.send(&late)?;
        }
        Ok(true)
    }

    /// Makes a reply wrong. False if it is not to be passed on.
    fn spoil(
        &mut self,
        message: &mut Message,
        request: Option<&[u8]>,
        flags: u32,
    ) -> io::Result<bool> {
        let failed = flags & ERROR != 0;
        match self.change.wrong {
            Wrong::Reply(at, bits) if !failed || at < 8 => message.flip(at, bits),
            Wrong::Shorter(by) if !failed => message.resize(message.bytes.len().saturating_sub(by)),
            Wrong::Longer(by) if !failed => message.resize(message.bytes.len() + by),
            Wrong::Accepted if failed => {
                if let Some(request) = request {
                    *message = done(&Message { bytes: request.to_vec(), fds: Vec::new() });
                }
            }
            Wrong::Refused if !failed => {
                message.resize(HEADER);
                message.set(8, REPLY | ERROR);
                message.set(12, EINVAL);
                message.fds.clear();
            }
            Wrong::Errno(errno) if failed => message.set(12, errno),
            Wrong::ErrorPayload if failed => message.resize(HEADER + 4),
            Wrong::Silent => return Ok(false),
            Wrong::NoReplyFds => message.fds.clear(),
            Wrong::Hangup if failed => return Ok(false),
            Wrong::Late if self.late.is_none() => {
                let empty = Message { bytes: Vec::new(), fds: Vec::new() };
                self.late = Some(std::mem::replace(message, empty));
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }
}

/// The answer of a server that says that it did what it was asked for.
fn done(request: &Message) -> Message {
    let fixed = |len: usize| request.bytes.get(HEADER..).unwrap_or(&[]).iter().take(len).copied();
    let payload: Vec<u8> = match request.command() {
        1 => vec![0; 4],
        // Those that answer with what they were asked.
        3 => fixed(24).collect(),
        4 | 7 => fixed(16).collect(),
        5 | 6 => fixed(32).collect(),
        9 => {
            let count = usize::try_from(request.word(HEADER + 12)).unwrap_or(0).min(1 << 20);
            fixed(16).chain(std::iter::repeat_n(0, count)).collect()
        }
        10 => fixed(16).collect(),
        15 => fixed(8).collect(),
        16 => fixed(usize::MAX).collect(),
        _ => Vec::new(),
    };
    let mut reply =
        Message { bytes: request.bytes.get(..HEADER).unwrap_or(&[]).to_vec(), fds: vec![] };
    reply.bytes.extend(payload);
    let len = reply.bytes.len();
    reply.resize(len);
    reply.set(8, REPLY);
    reply.set(12, 0);
    reply
}
