//! The client against a scripted peer that misbehaves, and every command against the real server.

#![cfg(test)]

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use understudy_client::vfio_user::{
    Client, ClientError, ClientOptions, Connection, GuestMemory, Message, Pending,
};
use understudy_pci::PciFunction;
use understudy_server::DeviceServer;
use understudy_virtio_crypto::{Parameters, VirtioCrypto};
use understudy_wire::{
    Command, DeviceFeature, DmaAccess, DmaMap, Errno, Header, IrqAction, IrqData, IrqIndex, Kind,
    RegionAccess, RegionIndex, RegionInfoFlags, RegionWrite, Reply, Request, SetIrqs, Version,
};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);
const BASE: u64 = 0x10_0000;

/// A server made of a script. The script's own failures fail the test when it is joined.
struct Scripted(JoinHandle<()>);

impl Scripted {
    /// Runs `script` after VERSION was answered.
    fn attach(
        timeout: Duration,
        script: impl FnOnce(&mut Connection) + Send + 'static,
    ) -> (Client, Self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let mut peer = Connection::new(theirs);
            let hello = peer.receive(soon()).unwrap();
            let version = Version { major: 0, minor: 1, json: Some(r#"{"capabilities":{}}"#) };
            reply(&mut peer, &hello, &Reply::Version(version), &[]);
            script(&mut peer);
        });
        let options = ClientOptions { timeout, ..ClientOptions::default() };
        (Client::new(Connection::new(ours), options).unwrap(), Self(thread))
    }

    fn done(self) {
        self.0.join().unwrap();
    }
}

fn soon() -> Instant {
    Instant::now() + LONG
}

fn reply(peer: &mut Connection, to: &Message, reply: &Reply<'_>, fds: &[OwnedFd]) {
    let mut bytes = Vec::new();
    reply.encode(to.header.id, &mut bytes);
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    peer.send(&bytes, &fds, soon()).unwrap();
}

fn ask(peer: &mut Connection, id: u16, request: &Request<'_>) {
    let mut bytes = Vec::new();
    request.encode(id, false, &mut bytes);
    peer.send(&bytes, &[], soon()).unwrap();
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap()
}

fn signals(event: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(event, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(_) => 0,
    }
}

#[test]
fn a_silent_server_is_a_timeout() {
    let (mut client, server) = Scripted::attach(SHORT, |peer| {
        // The request arrives; then the client gives up and hangs up.
        peer.receive(soon()).unwrap();
        assert!(matches!(peer.receive(soon()), Err(ClientError::Closed)));
    });
    assert!(matches!(client.device_info(), Err(ClientError::Timeout(_))));
    drop(client);
    server.done();
}

#[test]
fn a_server_that_does_not_read_is_a_timeout() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (mut client, server) = Scripted::attach(SHORT, move |_| held.recv().unwrap_or(()));
    let data = vec![0; 1 << 20];
    let result = (0..64).try_for_each(|_| client.write_posted(RegionIndex(0), 0, &data));
    assert!(matches!(result, Err(ClientError::Timeout(_))), "{result:?}");
    drop(release);
    server.done();
}

#[test]
fn a_server_that_dies_is_closed() {
    let (mut client, server) = Scripted::attach(LONG, |_| ());
    server.done();
    assert!(matches!(client.device_info(), Err(ClientError::Closed)));
    assert!(matches!(client.serve(), Err(ClientError::Closed)));
}

#[test]
fn an_error_reply_carries_its_errno() {
    let (mut client, server) = Scripted::attach(LONG, |peer| {
        let request = peer.receive(soon()).unwrap();
        reply(peer, &request, &Reply::Error(request.header.command, Errno::BUSY), &[]);
    });
    let error = client.reset().unwrap_err();
    assert_eq!(error.errno(), Some(Errno::BUSY));
    assert_eq!(error.to_string(), "DEVICE_RESET: EBUSY");
    server.done();
}

#[test]
fn replies_may_come_in_any_order() {
    let (mut client, server) = Scripted::attach(LONG, |peer| {
        let requests: Vec<_> = (0..50).map(|_| peer.receive(soon()).unwrap()).collect();
        for request in requests.iter().rev() {
            let offset = u64::from_ne_bytes(*request.payload.first_chunk().unwrap());
            let access = RegionAccess { offset, region: 0, count: 1 };
            let data = [u8::try_from(offset).unwrap()];
            reply(peer, request, &Reply::RegionRead(access, &data), &[]);
        }
    });
    let read = |offset| Request::RegionRead(RegionAccess { offset, region: 0, count: 1 });
    let pending: Vec<Pending> =
        (0..50).map(|offset| client.submit(&read(offset), &[]).unwrap()).collect();
    for (offset, pending) in (0..50).zip(pending) {
        assert_eq!(client.finish(pending).unwrap().payload.last(), Some(&offset));
    }
    server.done();
}

#[test]
fn answers_to_something_else_are_not_taken() {
    // A reply to another command; a reply to another range; a reply that is no reply at all.
    let (mut client, server) = Scripted::attach(LONG, |peer| {
        let request = peer.receive(soon()).unwrap();
        reply(peer, &request, &Reply::Reset, &[]);
        let request = peer.receive(soon()).unwrap();
        let other = RegionAccess { offset: 8, region: 0, count: 1 };
        reply(peer, &request, &Reply::RegionRead(other, &[0]), &[]);
        let request = peer.receive(soon()).unwrap();
        let mut bytes = Vec::new();
        Reply::RegionRead(RegionAccess { offset: 0, region: 0, count: 1 }, &[0])
            .encode(request.header.id, &mut bytes);
        bytes.truncate(20);
        bytes[4] = 20;
        peer.send(&bytes, &[], soon()).unwrap();
    });
    assert!(matches!(client.device_info(), Err(ClientError::Unexpected(_))));
    let mut byte = [0];
    let result = client.read(RegionIndex(0), 0, &mut byte);
    assert!(matches!(result, Err(ClientError::Unexpected(_))), "{result:?}");
    let result = client.read(RegionIndex(0), 0, &mut byte);
    assert!(matches!(result, Err(ClientError::Malformed(_))), "{result:?}");
    server.done();
}

#[test]
fn broken_frames_are_errors() {
    for size in [3u32, 0x7fff_ffff] {
        let (mut client, server) = Scripted::attach(LONG, move |peer| {
            let request = peer.receive(soon()).unwrap();
            let mut header = Header::reply(request.header.id, request.header.command, size);
            header.size = size;
            peer.send(&header.to_bytes(), &[], soon()).unwrap();
        });
        let result = client.device_info();
        assert!(matches!(result, Err(ClientError::Malformed(_))), "{result:?}");
        server.done();
    }
}

/// What a server may ask of memory, and what it may not.
#[test]
fn dma_requests_are_served_from_mapped_memory_only() {
    let (mut client, server) = Scripted::attach(LONG, |peer| {
        let map = peer.receive(soon()).unwrap();
        assert!(map.fds.is_empty());
        reply(peer, &map, &Reply::DmaMap, &[]);
        let map = peer.receive(soon()).unwrap();
        reply(peer, &map, &Reply::DmaMap, &[]);
        let reset = peer.receive(soon()).unwrap();
        let mut exchange = |request: &Request<'_>| {
            ask(peer, 7, request);
            let answer = peer.receive(soon()).unwrap();
            assert_eq!((answer.header.id, answer.header.kind()), (7, Kind::Reply));
            answer
        };
        let at = |address, count| DmaAccess { address, count };
        let read = exchange(&Request::DmaRead(at(BASE, 4)));
        assert_eq!(read.payload[16..], [1, 2, 3, 4]);
        let write = exchange(&Request::DmaWrite(at(BASE + 4094, 2), &[8, 9]));
        assert_eq!(write.header.errno(), None);
        for (request, errno) in [
            (Request::DmaRead(at(BASE - 1, 4)), Errno::FAULT),
            (Request::DmaRead(at(BASE + 4093, 4)), Errno::FAULT),
            (Request::DmaRead(at(u64::MAX - 3, 4)), Errno::FAULT),
            (Request::DmaWrite(at(BASE + 8192, 1), &[1]), Errno::ACCES),
            (Request::DmaRead(at(BASE, 1 << 40)), Errno::TOO_BIG),
            (Request::Reset, Errno::INVAL),
        ] {
            let answer = exchange(&request);
            assert_eq!(answer.header.errno(), Some(errno), "{request:?}");
            assert!(answer.payload.is_empty());
        }
        reply(peer, &reset, &Reply::Reset, &[]);
    });
    let memory = Arc::new(GuestMemory::new(BASE, 0x4000).unwrap());
    assert!(memory.write(BASE, &[1, 2, 3, 4]));
    let both = DmaMap::READ | DmaMap::WRITE;
    client.map(&memory, BASE, 0x1000, both, false).unwrap();
    client.map(&memory, BASE + 0x2000, 0x1000, DmaMap::READ, false).unwrap();
    client.reset().unwrap();
    let mut written = [0; 2];
    assert!(memory.read(BASE + 4094, &mut written));
    assert_eq!(written, [8, 9]);
    let counts = client.dma_counts();
    assert_eq!((counts.reads, counts.writes, counts.refused), (1, 1, 6));
    server.done();
}

/// Both sides send more than the socket holds: neither may wait for the other to read first.
#[test]
fn both_sides_can_send_much_at_once() {
    let (mut client, server) = Scripted::attach(LONG, |peer| {
        let map = peer.receive(soon()).unwrap();
        reply(peer, &map, &Reply::DmaMap, &[]);
        let data = vec![5; 1 << 20];
        for id in 0..8 {
            let access = DmaAccess { address: BASE, count: data.len() as u64 };
            ask(peer, id, &Request::DmaWrite(access, &data));
        }
        let mut answered = 0;
        while answered < 8 {
            let message = peer.receive(soon()).unwrap();
            if message.header.kind() == Kind::Reply {
                answered += 1;
            }
        }
        assert!(matches!(peer.receive(soon()), Err(ClientError::Closed)));
    });
    let memory = Arc::new(GuestMemory::new(BASE, 1 << 20).unwrap());
    client.map(&memory, BASE, 1 << 20, DmaMap::WRITE, false).unwrap();
    let data = vec![6; 1 << 20];
    for _ in 0..8 {
        client.write_posted(RegionIndex(0), 0, &data).unwrap();
    }
    while client.dma_counts().writes < 8 {
        client.serve().unwrap();
    }
    drop(client);
    server.done();
}

/// Descriptors belong to the message they came with, however messages are cut by the socket.
#[test]
fn descriptors_stay_with_their_message() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut ours, mut theirs) = (Connection::new(ours), Connection::new(theirs));
    let bare = |id| {
        let mut bytes = Vec::new();
        Request::Reset.encode(id, false, &mut bytes);
        bytes
    };
    let fds: Vec<_> = (0..3).map(|_| event()).collect();
    theirs.send(&bare(0), &[], soon()).unwrap();
    theirs.send(&bare(1), &[fds[0].as_fd()], soon()).unwrap();
    theirs.send(&bare(2), &[], soon()).unwrap();
    theirs.send(&bare(3), &[fds[1].as_fd(), fds[2].as_fd()], soon()).unwrap();
    let counts: Vec<_> = (0..4).map(|_| ours.receive(soon()).unwrap().fds.len()).collect();
    assert_eq!(counts, [0, 1, 0, 2]);
    // A message in two parts, the descriptor with the first.
    let whole = bare(4);
    theirs.send(&whole[..5], &[fds[0].as_fd()], soon()).unwrap();
    assert!(ours.try_receive().unwrap().is_none());
    theirs.send(&whole[5..], &[], soon()).unwrap();
    assert_eq!(ours.receive(soon()).unwrap().fds.len(), 1);
}

/// A real server with a device.
struct Served {
    _server: DeviceServer,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let model = VirtioCrypto::new(Parameters::default()).unwrap();
        let function = PciFunction::new(Box::new(model)).unwrap();
        let options = understudy_server::Options {
            write_multiple: true,
            ..understudy_server::Options::default()
        };
        let server = DeviceServer::bind(&socket, function, options).unwrap();
        Self { _server: server, socket, _directory: directory }
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket, ClientOptions::default()).unwrap()
    }
}

const CONFIG: RegionIndex = RegionIndex::CONFIG;

#[test]
fn the_server_describes_the_device() {
    let served = Served::new();
    let mut client = served.client();
    let info = client.device_info().unwrap();
    assert_eq!((info.num_regions, info.num_irqs), (9, 5));
    let config = client.region(CONFIG).unwrap();
    assert_eq!(config.size, 4096);
    assert_eq!(config.flags & (RegionInfoFlags::READ | RegionInfoFlags::WRITE), 3);
    let sizes: Vec<_> =
        (0..6).map(|bar| client.region(RegionIndex(bar)).unwrap().size > 0).collect();
    assert_eq!(sizes, [false, true, false, false, true, false]);
    assert_eq!(client.region(RegionIndex(99)).unwrap_err().errno(), Some(Errno::INVAL));
    let irqs: Vec<_> = (0..5).map(|i| client.irq_info(IrqIndex(i)).unwrap().count).collect();
    assert_eq!(irqs[..3], [1, 0, 3]);
    let (regions, fds) = client.region_io_fds(RegionIndex(4)).unwrap();
    assert!(regions.is_empty() && fds.is_empty());
    let mut ids = [0; 4];
    client.read(CONFIG, 0, &mut ids).unwrap();
    assert_eq!(ids, [0xf4, 0x1a, 0x54, 0x10]);
}

#[test]
fn writes_are_done_in_order_however_they_are_sent() {
    let served = Served::new();
    let mut client = served.client();
    assert!(client.negotiated().write_multiple);
    // Interrupt Line: a byte of config space that does nothing.
    let line = 0x3c;
    let read = |client: &mut Client| {
        let mut byte = [0];
        client.read(CONFIG, line, &mut byte).unwrap();
        byte[0]
    };
    client.write(CONFIG, line, &[1]).unwrap();
    assert_eq!(read(&mut client), 1);
    for value in 2..200 {
        client.write_posted(CONFIG, line, &[value]).unwrap();
    }
    assert_eq!(read(&mut client), 199);
    let writes = [3, 4, 5].map(|value| [value]);
    let writes: Vec<_> =
        writes.iter().map(|data| RegionWrite { offset: line, region: CONFIG.0, data }).collect();
    assert_eq!(client.write_multi(&writes).unwrap(), 3);
    assert_eq!(read(&mut client), 5);
    // A posted write to nowhere is not answered, and the stream stays in step.
    client.write_posted(CONFIG, 4096, &[1]).unwrap();
    assert_eq!(read(&mut client), 5);
    assert!(client.write(CONFIG, 4096, &[1]).unwrap_err().errno().is_some());
    client.reset().unwrap();
    assert_eq!(read(&mut client), 0);
}

#[test]
fn memory_is_mapped_and_unmapped() {
    let served = Served::new();
    let mut client = served.client();
    let memory = Arc::new(GuestMemory::new(BASE, 0x10000).unwrap());
    let both = DmaMap::READ | DmaMap::WRITE;
    for shared in [true, false] {
        client.map(&memory, BASE, 0x1000, both, shared).unwrap();
        client.map(&memory, BASE + 0x2000, 0x1000, both, shared).unwrap();
        let overlap = client.map(&memory, BASE, 0x3000, both, shared).unwrap_err();
        assert_eq!(overlap.errno(), Some(Errno::EXIST));
        client.unmap(BASE, 0x1000).unwrap();
        assert!(client.unmap(BASE, 0x1000).unwrap_err().errno().is_some());
        client.unmap_all().unwrap();
        client.unmap_all().unwrap();
    }
}

#[test]
fn every_form_of_set_irqs_is_understood() {
    let served = Served::new();
    let mut client = served.client();
    let msix = IrqIndex::MSIX;
    let events: Vec<_> = (0..3).map(|_| event()).collect();
    let fds: Vec<_> = events.iter().map(AsFd::as_fd).collect();
    client.set_eventfds(msix, 0, &fds).unwrap();
    let set = |start, count, action, data| SetIrqs { index: msix, start, count, action, data };
    let trigger = IrqAction::Trigger;
    let arrived = || events.iter().map(signals).collect::<Vec<_>>();
    // Triggering from the client's side tests the connection of the eventfds themselves.
    client.set_irqs(&set(0, 3, trigger, IrqData::None), &[]).unwrap();
    assert_eq!(arrived(), [1, 1, 1]);
    client.set_irqs(&set(0, 3, trigger, IrqData::Bool(&[0, 1, 1])), &[]).unwrap();
    assert_eq!(arrived(), [0, 1, 1]);
    // One vector loses its eventfd, then all do.
    client.set_irqs(&set(1, 1, trigger, IrqData::Eventfd), &[]).unwrap();
    client.set_irqs(&set(0, 3, trigger, IrqData::None), &[]).unwrap();
    assert_eq!(arrived(), [1, 0, 1]);
    client.set_irqs(&SetIrqs::disable(msix), &[]).unwrap();
    client.set_irqs(&set(0, 3, trigger, IrqData::None), &[]).ok();
    assert_eq!(arrived(), [0, 0, 0]);
    // Out of range; a descriptor too few.
    let error = client.set_irqs(&set(2, 2, trigger, IrqData::None), &[]).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL));
    let error = client.set_irqs(&set(0, 2, trigger, IrqData::Eventfd), &fds[..1]).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL));
    // INTx can be masked and unmasked.
    let intx =
        |action| SetIrqs { index: IrqIndex::INTX, start: 0, count: 1, action, data: IrqData::None };
    client.set_eventfds(IrqIndex::INTX, 0, &fds[..1]).unwrap();
    client.set_irqs(&intx(IrqAction::Mask), &[]).unwrap();
    client.set_irqs(&intx(IrqAction::Unmask), &[]).unwrap();
    client.set_irqs(&SetIrqs::disable(IrqIndex::INTX), &[]).unwrap();
}

#[test]
fn what_the_server_does_not_have_is_refused_and_it_goes_on() {
    let served = Served::new();
    let mut client = served.client();
    let error = client.feature(DeviceFeature::PROBE | 1, &[]).unwrap_err();
    assert!(matches!(error.errno(), Some(Errno::NOTTY | Errno::INVAL)), "{error}");
    assert!(client.mig_data_read(16).unwrap_err().errno().is_some());
    assert!(client.mig_data_write(&[1; 16]).unwrap_err().errno().is_some());
    let pending = client.submit_raw(Command(77), &[1; 40], &[]).unwrap();
    assert!(client.finish(pending).unwrap_err().errno().is_some());
    let stray = event();
    let pending = client.submit(&Request::Reset, &[stray.as_fd()]).unwrap();
    assert!(client.finish(pending).unwrap_err().errno().is_some());
    client.device_info().unwrap();
}

#[test]
fn many_requests_can_be_under_way() {
    let served = Served::new();
    let mut client = served.client();
    let read = Request::RegionRead(RegionAccess { offset: 0, region: CONFIG.0, count: 4 });
    let pending: Vec<_> = (0..200).map(|_| client.submit(&read, &[]).unwrap()).collect();
    for pending in pending.into_iter().rev() {
        assert_eq!(client.finish(pending).unwrap().payload[16..], [0xf4, 0x1a, 0x54, 0x10]);
    }
}
