//! Messages of any size, in any pieces: the stream stays in step, or is closed.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use understudy_server::Options;
use understudy_wire::{Command, Errno, Header, Request};

use crate::common::device::reg;
use crate::common::peer::{access, version};
use crate::common::{Fixture, Peer, SOON};
use crate::tracked_fd;

fn header(command: Command, size: u32) -> Header {
    Header::request(0xbad1, command, size)
}

#[test]
fn a_message_smaller_than_its_header_breaks_the_stream() {
    let fixture = Fixture::new();
    for size in [0, 1, 15] {
        let mut peer = fixture.attach();
        peer.send(&header(Command::DEVICE_SET_IRQS, size).to_bytes(), &[]);
        peer.receive().refused(Errno::INVAL);
        assert!(peer.try_receive().is_none(), "the connection stays open");
    }
    fixture.attach_after(3).check_in_step();
}

#[test]
fn an_oversized_message_is_refused_at_once_and_skipped() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let size = (1 << 20) + 16 + 16 + 1;
    peer.send(&header(Command::REGION_WRITE, size).to_bytes(), &[]);
    peer.receive().refused(Errno::TOO_BIG);
    let rest = vec![0xa5; size as usize - 16];
    peer.send(&rest, &[]);
    peer.check_in_step();
}

#[test]
fn a_claim_of_four_gigabytes_takes_no_memory() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    peer.send(&header(Command::REGION_WRITE, u32::MAX).to_bytes(), &[]);
    peer.receive().refused(Errno::TOO_BIG);
    peer.send(&[0; 4096], &[]);
    drop(peer);
    fixture.attach_after(1).check_in_step();
}

#[test]
fn unknown_commands_are_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for command in [0, 14, 19, 999, u16::MAX] {
        peer.call(Command(command), &[0; 5], &[]).refused(Errno::NOTSUP);
    }
    peer.check_in_step();
}

#[test]
fn what_the_server_sends_is_refused_from_a_client() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for command in [Command::DMA_READ, Command::DMA_WRITE] {
        peer.call(command, &[0; 16], &[]).refused(Errno::INVAL);
    }
    peer.check_in_step();
}

#[test]
fn a_reply_to_nothing_is_ignored() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let reply = Header::reply(7, Command::DMA_READ, 20).to_bytes();
    peer.send(&[&reply[..], &[0; 4]].concat(), &[]);
    peer.check_in_step();
    // Nor is one answered that is too large.
    let large = (1 << 20) + 33;
    peer.send(&Header::reply(8, Command::DMA_WRITE, large).to_bytes(), &[]);
    peer.send(&vec![0; large as usize - 16], &[]);
    peer.check_in_step();
    assert_eq!(fixture.server.counters().unwrap().stray_replies, 2);
}

#[test]
fn an_unknown_message_type_is_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let mut message = header(Command::DEVICE_RESET, 16);
    message.flags = 5;
    peer.send(&message.to_bytes(), &[]);
    peer.receive().refused(Errno::INVAL);
    peer.check_in_step();
}

/// Every command, cut off at every length and continued with every kind of rubbish.
#[test]
fn truncated_and_overlong_requests_leave_the_stream_in_step() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for command in Command::ALL {
        for length in 0..48 {
            for fill in [0, 1, 0xff] {
                let answer = peer.call(*command, &vec![fill; length], &[]);
                let quiet = answer.header.errno().is_none();
                let valid = *command == Command::DEVICE_RESET && length == 0
                    || *command == Command::REGION_READ && fill == 0 && length == 16
                    || *command == Command::REGION_WRITE && fill == 0 && length == 16
                    || *command == Command::REGION_WRITE_MULTI && fill == 0 && length == 8
                    || *command == Command::DEVICE_GET_INFO && fill != 0 && length >= 16;
                assert_eq!(quiet, valid, "{command} with {length} bytes of {fill:#x}");
            }
        }
    }
    peer.check_in_step();
}

#[test]
fn messages_may_come_a_byte_at_a_time() {
    let fixture = Fixture::new();
    let mut peer = fixture.connect();
    let mut bytes = Vec::new();
    let payload = version(0, 1, b"");
    bytes.extend_from_slice(&Header::request(1, Command::VERSION, 20).to_bytes());
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(&Header::request(2, Command::REGION_READ, 32).to_bytes());
    bytes.extend_from_slice(&access(7, 0, 2));
    for byte in bytes {
        peer.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(peer.receive().header.id, 1);
    assert_eq!(peer.receive().payload[16..], [0x34, 0x12]);
}

#[test]
fn many_messages_may_come_at_once() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let mut bytes = Vec::new();
    for id in 0..500 {
        bytes.extend_from_slice(&Header::request(id, Command::REGION_READ, 32).to_bytes());
        bytes.extend_from_slice(&access(7, u64::from(id % 64), 1));
    }
    peer.send(&bytes, &[]);
    for id in 0..500 {
        assert_eq!(peer.receive().header.id, id, "replies are out of order");
    }
}

/// Messages that arrive with one read are all served, though a turn of the server ends after a
/// write, and though it sleeps as soon as it can.
#[test]
fn a_server_that_does_not_stay_awake_serves_all_that_came_at_once() {
    let fixture = Fixture::with(Options { spin: Duration::ZERO, ..Options::default() });
    let mut peer = fixture.enabled();
    for round in 0..100u32 {
        let mut bytes = Vec::new();
        for value in 0..10 {
            let write = [access(0, reg::SCRATCH, 4), (round + value).to_le_bytes().to_vec()];
            let head = Header::request(1, Command::REGION_WRITE, 36).posted().to_bytes();
            bytes.extend_from_slice(&[&head[..], &write.concat()].concat());
        }
        bytes.extend_from_slice(&Header::request(2, Command::REGION_READ, 32).to_bytes());
        bytes.extend_from_slice(&access(0, reg::SCRATCH, 4));
        peer.send(&bytes, &[]);
        assert_eq!(peer.receive().ok()[16..], (round + 9).to_le_bytes());
    }
}

/// Descriptors belong to the message they were sent with, whatever arrived before it.
#[test]
fn descriptors_stay_with_their_message() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let memory = crate::common::peer::memory(0x4000);
    for round in 0..100u64 {
        let mut first = Vec::new();
        first.extend_from_slice(&Header::request(1, Command::REGION_READ, 32).to_bytes());
        first.extend_from_slice(&access(7, 0, 4));
        let mut map = Vec::new();
        let request = understudy_wire::DmaMap::new(3, 0, round * 0x1000, 0x1000);
        Request::DmaMap(request).encode(2, false, &mut map);
        peer.send(&first, &[]);
        peer.send(&map, &[memory.as_fd()]);
        peer.send(&first, &[]);
        peer.receive().ok();
        peer.receive().ok();
        peer.receive().ok();
    }
    // With its descriptor, each was mapped: a file of four pages has no fifth.
    let past_end = peer.map(Some(memory.as_fd()), 0x4000, 0x100_0000, 0x1000);
    past_end.refused(Errno::INVAL);
}

#[test]
fn descriptors_with_a_command_that_takes_none_are_closed() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for command in [Command::DEVICE_RESET, Command::REGION_READ, Command(77)] {
        let (fd, tracker) = tracked_fd();
        let answer = peer.call(command, &access(7, 0, 4), &[fd.as_fd(), fd.as_fd()]);
        assert!(answer.header.errno().is_some(), "{command}");
        drop(fd);
        tracker.wait_closed();
    }
    peer.check_in_step();
}

#[test]
fn more_descriptors_than_a_message_may_have_are_refused_and_closed() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let (fd, tracker) = tracked_fd();
    let answer = peer.call(Command::DEVICE_RESET, &[], &[fd.as_fd(); 40]);
    answer.refused(Errno::INVAL);
    drop(fd);
    tracker.wait_closed();
    peer.check_in_step();
}

/// A message of many sends, each with descriptors: they are not hoarded.
#[test]
fn descriptors_without_end_in_one_message_are_not_kept() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let size = 16 + 16 + 2000;
    peer.send(&header(Command::REGION_WRITE, size).to_bytes(), &[]);
    peer.send(&access(0, 0, 2000), &[]);
    let (fd, tracker) = tracked_fd();
    for _ in 0..2000 {
        peer.send(&[0], &[fd.as_fd(); 16]);
    }
    peer.receive().refused(Errno::INVAL);
    drop(fd);
    tracker.wait_closed();
    peer.check_in_step();
}

#[test]
fn a_posted_request_is_never_answered() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for (command, payload) in [
        (Command::REGION_READ, access(7, 0, 4)),
        (Command::REGION_READ, access(7, u64::MAX, 4)),
        (Command(999), vec![1]),
        (Command::DEVICE_RESET, vec![]),
    ] {
        let size = u32::try_from(16 + payload.len()).unwrap();
        let head = Header::request(9, command, size).posted().to_bytes();
        peer.send(&[&head[..], &payload].concat(), &[]);
    }
    peer.check_in_step();
}

/// A client that sends requests and never reads the replies is sent away, and costs the server a
/// bounded amount of memory; the next one is served.
#[test]
fn a_client_that_never_reads_is_disconnected() {
    let options = Options { send_timeout: Duration::from_millis(200), ..Options::default() };
    let fixture = Fixture::with(options);
    let mut peer = fixture.attach();
    peer.stream.set_nonblocking(true).unwrap();
    let mut request = Header::request(1, Command::REGION_READ, 32).to_bytes().to_vec();
    request.extend_from_slice(&access(7, 0, 4096));
    // Until both directions are full.
    let full = loop {
        match peer.stream.write(&request) {
            Ok(_) => {}
            Err(error) => break error.kind(),
        }
        if fixture.server.sessions().ended == 1 {
            break ErrorKind::BrokenPipe;
        }
    };
    assert!(matches!(full, ErrorKind::WouldBlock | ErrorKind::BrokenPipe), "{full}");
    assert!(fixture.server.wait_detached(1, SOON), "it was kept");
    fixture.attach().check_in_step();
}

/// A reply larger than the socket's buffer arrives whole, however slowly it is read.
#[test]
fn large_replies_arrive_in_order() {
    let fixture = Fixture::new();
    let mut peer: Peer = fixture.enabled();
    let area = crate::common::device::SHARED;
    let data: Vec<u8> = (0..area.size).map(|index| (index % 251) as u8).collect();
    peer.write(4, area.offset, &data).ok();
    let mut requests = Vec::new();
    for id in 0..64 {
        requests.extend_from_slice(&Header::request(id, Command::REGION_READ, 32).to_bytes());
        requests.extend_from_slice(&access(4, area.offset, area.size as u32));
    }
    peer.send(&requests, &[]);
    let mut all = vec![0; 64 * (32 + data.len())];
    for piece in all.chunks_mut(1000) {
        peer.stream.read_exact(piece).unwrap();
    }
    for (id, reply) in (0..).zip(all.chunks(32 + data.len())) {
        assert_eq!(Header::from_bytes(reply.first_chunk().unwrap()).id, id);
        assert_eq!(reply[32..], data, "reply {id}");
    }
}
