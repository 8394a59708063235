//! A client that sends what it is told, right or wrong.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use understudy_wire::{
    Command, DmaMap, Errno, Header, IrqAction, IrqData, IrqIndex, Request, SetIrqs,
};

use super::SOON;
use super::device::{DONE, MSIX_BAR, reg};

pub(crate) const CONFIG: u32 = 7;

/// A reply, or a request of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Answer {
    /// The payload of a reply that is not an error.
    pub(crate) fn ok(self) -> Vec<u8> {
        assert_eq!(self.header.errno(), None, "{} failed", self.header.command);
        self.payload
    }

    /// Checks that this is an error reply: the header alone.
    #[track_caller]
    pub(crate) fn refused(self, errno: Errno) {
        assert_eq!(
            self.header.errno(),
            Some(errno),
            "{} was answered otherwise",
            self.header.command
        );
        assert!(self.payload.is_empty() && self.fds.is_empty());
    }
}

pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    next_id: u16,
}

impl Peer {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        // A test that waits for what never comes fails rather than hangs.
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Self { stream, next_id: 0 }
    }

    /// Agrees on a version with the defaults.
    pub(crate) fn negotiate(&mut self) {
        self.negotiate_with("{\"capabilities\":{\"write_multiple\":true,\"max_msg_fds\":16}}");
    }

    pub(crate) fn negotiate_with(&mut self, json: &str) -> String {
        let payload = self.call(Command::VERSION, &version(0, 1, json.as_bytes()), &[]).ok();
        assert_eq!(payload.last(), Some(&0), "the version data do not end with a NUL");
        String::from_utf8(payload[4..payload.len() - 1].to_vec()).unwrap()
    }

    /// Sends a request with any payload and returns the reply to it.
    pub(crate) fn call(
        &mut self,
        command: Command,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Answer {
        let id = self.post(command, payload, fds);
        let answer = self.receive();
        assert_eq!((answer.header.id, answer.header.command), (id, command), "out of step");
        answer
    }

    /// Sends a request with any payload.
    pub(crate) fn post(&mut self, command: Command, payload: &[u8], fds: &[BorrowedFd<'_>]) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        let size = u32::try_from(16 + payload.len()).unwrap();
        let header = Header::request(self.next_id, command, size);
        self.send(&[&header.to_bytes()[..], payload].concat(), fds);
        self.next_id
    }

    /// Sends a request that the codec can form, and returns the reply.
    pub(crate) fn request(&mut self, request: &Request<'_>, fds: &[BorrowedFd<'_>]) -> Answer {
        let mut payload = Vec::new();
        request.encode_payload(&mut payload);
        self.call(request.command(), &payload, fds)
    }

    /// Sends any bytes, all of them.
    pub(crate) fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let iov = [IoSlice::new(bytes)];
        let sent = sendmsg(&self.stream, &iov, &mut control, SendFlags::NOSIGNAL).unwrap();
        self.stream.write_all(&bytes[sent..]).unwrap();
    }

    /// The next message of the server.
    pub(crate) fn receive(&mut self) -> Answer {
        self.try_receive().expect("the server closed the connection")
    }

    /// The next message of the server, or `None` if it has closed the connection.
    pub(crate) fn try_receive(&mut self) -> Option<Answer> {
        let mut head = [0; 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut iov = [IoSliceMut::new(&mut head)];
        let received = match recvmsg(&self.stream, &mut iov, &mut control, RecvFlags::empty()) {
            Ok(received) if received.bytes == 0 => return None,
            Err(rustix::io::Errno::CONNRESET) => return None,
            received => received.unwrap(),
        };
        assert_eq!(received.bytes, 16, "a header came in pieces");
        let fds = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect();
        let header = Header::from_bytes(&head);
        let mut payload = vec![0; header.size as usize - 16];
        self.stream.read_exact(&mut payload).unwrap();
        Some(Answer { header, payload, fds })
    }

    /// Whether the stream is in step: a request after whatever was sent is answered as it should.
    #[track_caller]
    pub(crate) fn check_in_step(&mut self) {
        assert_eq!(self.read_config(0, 4), [0x34, 0x12, 0x78, 0x56], "out of step");
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> Answer {
        self.call(Command::REGION_READ, &access(region, offset, count), &[])
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Answer {
        let count = u32::try_from(data.len()).unwrap();
        let payload = [&access(region, offset, count)[..], data].concat();
        self.call(Command::REGION_WRITE, &payload, &[])
    }

    pub(crate) fn read_config(&mut self, offset: u64, count: u32) -> Vec<u8> {
        self.read(CONFIG, offset, count).ok()[16..].to_vec()
    }

    pub(crate) fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.write(CONFIG, offset, data).ok();
    }

    /// Enables memory space and bus mastering.
    pub(crate) fn enable(&mut self) {
        self.write_config(4, &[6, 0]);
    }

    pub(crate) fn reg(&mut self, offset: u64) -> u32 {
        let payload = self.read(0, offset, 4).ok();
        u32::from_le_bytes(payload[16..].try_into().unwrap())
    }

    pub(crate) fn set_reg(&mut self, offset: u64, value: u32) {
        self.write(0, offset, &value.to_le_bytes()).ok();
    }

    pub(crate) fn set_reg64(&mut self, offset: u64, value: u64) {
        self.write(0, offset, &value.to_le_bytes()).ok();
    }

    /// Prepares a copy by the device.
    pub(crate) fn prepare_copy(&mut self, source: u64, target: u64, length: u32) {
        self.set_reg64(reg::SOURCE, source);
        self.set_reg64(reg::TARGET, target);
        self.set_reg(reg::LENGTH, length);
    }

    /// Rings a doorbell and reads the status until the device is done. Returns the last status.
    pub(crate) fn ring(&mut self, doorbell: u32) -> u32 {
        self.set_reg(reg::DOORBELL, doorbell);
        loop {
            let status = self.reg(reg::STATUS);
            if status >= DONE {
                return status;
            }
        }
    }

    pub(crate) fn map(
        &mut self,
        fd: Option<BorrowedFd<'_>>,
        offset: u64,
        start: u64,
        size: u64,
    ) -> Answer {
        let map = DmaMap::new(DmaMap::READ | DmaMap::WRITE, offset, start, size);
        self.request(&Request::DmaMap(map), fd.as_slice())
    }

    /// Sends the triggers of MSI-X vectors from `start` on; an empty slice takes `count` away.
    pub(crate) fn set_triggers(
        &mut self,
        index: IrqIndex,
        start: u32,
        count: u32,
        fds: &[BorrowedFd<'_>],
    ) -> Answer {
        let action = IrqAction::Trigger;
        let set = SetIrqs { index, start, count, action, data: IrqData::Eventfd };
        self.request(&Request::SetIrqs(set), fds)
    }

    /// Sets up an MSI-X table entry.
    pub(crate) fn set_msix_table_entry(&mut self, vector: u64, masked: bool) {
        let address = 0xfee0_0000u64.to_le_bytes();
        let control = u32::from(masked).to_le_bytes();
        let entry = [&address[..], &(vector as u32).to_le_bytes(), &control].concat();
        self.write(MSIX_BAR, vector * 16, &entry).ok();
    }

    /// Enables MSI-X in config space.
    pub(crate) fn enable_msix(&mut self) {
        let config = self.read_config(0, 256);
        let mut at = usize::from(config[0x34]);
        while config[at] != 0x11 {
            at = usize::from(config[at + 1]);
            assert_ne!(at, 0, "no MSI-X capability");
        }
        let control = config[at + 3] | 0x80;
        self.write_config(at as u64 + 3, &[control]);
    }

    pub(crate) fn irqs(
        &mut self,
        index: IrqIndex,
        range: (u32, u32),
        action: IrqAction,
        data: IrqData<'_>,
    ) {
        let set = SetIrqs { index, start: range.0, count: range.1, action, data };
        self.request(&Request::SetIrqs(set), &[]).ok();
    }
}

/// The payload of VERSION.
pub(crate) fn version(major: u16, minor: u16, data: &[u8]) -> Vec<u8> {
    let nul: &[u8] = if data.is_empty() { &[] } else { &[0] };
    [&major.to_ne_bytes()[..], &minor.to_ne_bytes(), data, nul].concat()
}

/// The payload of a region access.
pub(crate) fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    [&offset.to_ne_bytes()[..], &region.to_ne_bytes(), &count.to_ne_bytes()].concat()
}

/// Memory of a client, as a file.
pub(crate) fn memory(size: u64) -> OwnedFd {
    let fd = memfd_create("client", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, size).unwrap();
    fd
}

/// An eventfd.
pub(crate) fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap()
}

/// Waits until an eventfd is signalled and returns how often it was.
pub(crate) fn wait_event(fd: impl AsFd) -> u64 {
    let timeout = Timespec { tv_sec: SOON.as_secs() as i64, tv_nsec: 0 };
    let mut ready = [PollFd::new(&fd, PollFlags::IN)];
    assert_eq!(poll(&mut ready, Some(&timeout)), Ok(1), "no interrupt came");
    count_events(fd)
}

/// How often an eventfd was signalled since it was last read.
pub(crate) fn count_events(fd: impl AsFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(fd, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(errno) => {
            assert_eq!(errno, rustix::io::Errno::AGAIN);
            0
        }
    }
}
