//! Fuzzes a vfio-user client: a hostile server for QEMU and other VMMs.
//!
//! An honest server stands behind; what it answers is passed on, and changed where the plan says.
//! So the client gets as far as it would with a good device before anything is wrong.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use serde::{Deserialize, Serialize};
use understudy_client::vfio_user::{ClientError, Connection, Message};
use understudy_wire::{Command, DmaAccess, Errno, Header, Request};

use crate::program::Edit;

/// What a hostile server does to its client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Arbitrary)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Messages that are passed on as they are.
    pub honest: u16,
    /// What happens then.
    pub acts: Vec<Deed>,
}

/// One thing that a hostile server does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Arbitrary)]
#[serde(deny_unknown_fields)]
pub struct Deed {
    /// To which message after the honest ones, from 0.
    pub nth: u16,
    /// What.
    pub what: Ill,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Arbitrary)]
#[serde(rename_all = "kebab-case")]
pub enum Ill {
    /// Another payload.
    Payload(Edit),
    /// Another header.
    Header(Edit),
    /// A payload that is longer or shorter, and a header that says so.
    Resize(i16),
    /// No answer.
    Silent,
    /// The answer comes twice.
    Twice,
    /// An error instead.
    Error(u8),
    /// The descriptors are missing.
    NoFds,
    /// Other descriptors come along.
    Fds(u8),
    /// The server reads memory that it may not have: address in pages, bytes.
    DmaRead(u64, u32),
    /// The server writes memory that it may not have: address in pages, bytes.
    DmaWrite(u64, u16),
    /// Any message.
    Raw(u16, u32, Vec<u8>),
    /// The connection ends.
    Close,
    /// The connection ends in the middle of the answer.
    Half,
}

/// What came of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Served {
    /// Messages of the client.
    pub requests: u32,
    /// Messages to the client.
    pub answers: u32,
    /// Deeds done.
    pub deeds: u32,
}

/// A plan from a seed.
pub fn plan(random: &mut ChaCha8Rng) -> Plan {
    // A client asks about 60 things before it is ready.
    let honest = random.random_range(0..80);
    let count = 1 << random.random_range(0..4);
    let acts =
        (0..count).map(|_| Deed { nth: random.random_range(0..16), what: ill(random) }).collect();
    Plan { honest, acts }
}

fn ill(random: &mut ChaCha8Rng) -> Ill {
    match random.random_range(0..20) {
        0..=7 => Ill::Payload(edit(random)),
        8 => Ill::Header(edit(random)),
        9 | 10 => Ill::Resize(random.random_range(-64..=64)),
        11 => Ill::Twice,
        12 => Ill::Error(random.random()),
        13 => Ill::NoFds,
        14 => Ill::Fds(random.random_range(1..=16)),
        15 => Ill::DmaRead(random.random_range(0..1 << 21), 1 << random.random_range(0..24)),
        16 => Ill::DmaWrite(random.random_range(0..1 << 21), 1 << random.random_range(0..12)),
        17 => {
            let payload = (0..random.random_range(0..64)).map(|_| random.random()).collect();
            Ill::Raw(random.random_range(0..20), random.random_range(0..64), payload)
        }
        18 => Ill::Half,
        _ if random.random_ratio(1, 4) => Ill::Silent,
        _ => Ill::Close,
    }
}

fn edit(random: &mut ChaCha8Rng) -> Edit {
    let at = random.random_range(0..24);
    match random.random_range(0..7) {
        0 => Edit::Flip(at, random.random_range(0..8)),
        1 => Edit::Word(at, u32::MAX),
        2 => Edit::Word(at, random.random()),
        3 => Edit::Plus(at, random.random_range(-64..=64)),
        4 => Edit::Word(at, 1 << random.random_range(0..32)),
        5 => Edit::Ones,
        _ => Edit::Zeros,
    }
}

/// A hostile server at a socket, with an honest one behind.
#[derive(Debug)]
pub struct HostileServer {
    listener: UnixListener,
}

impl HostileServer {
    /// Listens at a path, at which nothing may be.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn bind(path: &Path) -> std::io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Waits for a client: `None` at the deadline.
    ///
    /// # Errors
    /// If a system call fails.
    pub fn accept(&self, deadline: Instant) -> std::io::Result<Option<UnixStream>> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    return Ok(Some(stream));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            wait(&mut [PollFd::new(&self.listener, PollFlags::IN)], left);
        }
    }
}

/// Serves a client by a plan, with the honest server at `honest`, until it goes, the deadline, or
/// `stop` is set.
///
/// # Errors
/// If the honest server cannot be reached.
pub fn serve(
    client: UnixStream,
    honest: &Path,
    plan: &Plan,
    deadline: Instant,
    stop: &AtomicBool,
) -> Result<Served, ClientError> {
    let mut near = Connection::new(client);
    // The last client's cleaning up may still be going on.
    let mut far = loop {
        match Connection::connect(honest) {
            Ok(far) => break far,
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut served = Served::default();
    while Instant::now() < deadline && !stop.load(Ordering::Relaxed) {
        let mut idle = true;
        match near.try_receive() {
            Ok(Some(message)) => {
                idle = false;
                served.requests += 1;
                if pass(&mut far, &message, deadline).is_err() {
                    return Ok(served);
                }
            }
            Ok(None) => {}
            Err(_) => return Ok(served),
        }
        match far.try_receive() {
            Ok(Some(message)) => {
                idle = false;
                let nth = served.answers;
                served.answers += 1;
                if !hurt(&mut near, message, plan, nth, &mut served, deadline) {
                    return Ok(served);
                }
            }
            Ok(None) => {}
            Err(_) => return Ok(served),
        }
        if idle {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(&near, PollFlags::IN), PollFd::new(&far, PollFlags::IN)];
            wait(&mut fds, left.min(Duration::from_millis(50)));
        }
    }
    Ok(served)
}

fn wait(fds: &mut [PollFd<'_>], left: Duration) {
    let left = Timespec::try_from(left).ok();
    // A signal is as good as a message: whoever waits looks again.
    let _ = poll(fds, left.as_ref());
}

fn bytes_of(message: &Message) -> Vec<u8> {
    let mut bytes = message.header.to_bytes().to_vec();
    bytes.extend_from_slice(&message.payload);
    bytes
}

fn pass(to: &mut Connection, message: &Message, deadline: Instant) -> Result<(), ClientError> {
    let fds: Vec<_> = message.fds.iter().map(AsFd::as_fd).collect();
    to.send(&bytes_of(message), &fds, deadline)
}

/// Passes an answer on, changed as the plan says. `false` if the connection is to end.
fn hurt(
    near: &mut Connection,
    message: Message,
    plan: &Plan,
    nth: u32,
    served: &mut Served,
    deadline: Instant,
) -> bool {
    let Some(nth) = nth.checked_sub(plan.honest.into()) else {
        return pass(near, &message, deadline).is_ok();
    };
    let Message { header, payload, mut fds } = message;
    let (mut header, mut payload) = (header, payload);
    let (mut count, mut half, mut close) = (1, false, false);
    let mut before: Vec<Vec<u8>> = Vec::new();
    for deed in plan.acts.iter().filter(|deed| u32::from(deed.nth) == nth) {
        served.deeds += 1;
        match &deed.what {
            Ill::Payload(edit) => edit.apply(&mut payload, &[]),
            Ill::Header(edit) => {
                let mut bytes = header.to_bytes();
                edit.apply(&mut bytes, &[]);
                header = Header::from_bytes(&bytes);
            }
            Ill::Resize(more) => {
                let len = payload.len().saturating_add_signed((*more).into());
                payload.resize(len, 0xa5);
                header.size = u32::try_from(16 + len).unwrap_or(u32::MAX);
            }
            Ill::Silent => count = 0,
            Ill::Twice => count = 2,
            Ill::Error(errno) => {
                header = Header::error_reply(header.id, header.command, Errno((*errno).into()));
                payload.clear();
            }
            Ill::NoFds => fds.clear(),
            Ill::Fds(more) => {
                let flags = EventfdFlags::CLOEXEC;
                let more = (0..more % 17).filter_map(|_| eventfd(0, flags).ok());
                fds.extend(more.collect::<Vec<OwnedFd>>());
            }
            Ill::DmaRead(page, count) => {
                let access = DmaAccess { address: page << 12, count: (*count).into() };
                before.push(request(&Request::DmaRead(access)));
            }
            Ill::DmaWrite(page, count) => {
                let data = vec![0x5a; usize::from(*count)];
                let access = DmaAccess { address: page << 12, count: (*count).into() };
                before.push(request(&Request::DmaWrite(access, &data)));
            }
            Ill::Raw(command, flags, payload) => {
                let size = u32::try_from(16 + payload.len()).unwrap_or(u32::MAX);
                let mut raw = Header::request(0x7777, Command(*command), size);
                raw.flags = *flags;
                let mut bytes = raw.to_bytes().to_vec();
                bytes.extend_from_slice(payload);
                before.push(bytes);
            }
            Ill::Close => close = true,
            Ill::Half => half = true,
        }
    }
    let mut ok = before.iter().all(|bytes| near.send(bytes, &[], deadline).is_ok());
    let mut bytes = bytes_of(&Message { header, payload, fds: Vec::new() });
    if half {
        bytes.truncate(bytes.len() / 2);
    }
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    for _ in 0..count {
        ok &= !close && near.send(&bytes, &fds, deadline).is_ok();
    }
    ok && !half
}

fn request(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(0x7776, false, &mut bytes);
    bytes
}
