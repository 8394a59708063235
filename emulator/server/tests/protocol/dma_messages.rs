//! DMA without a descriptor: the server asks the client with DMA_READ and DMA_WRITE.

use std::time::Duration;

use understudy_device::DmaFaultKind;
use understudy_server::Options;
use understudy_wire::{Command, DmaLayout, Errno, Header, Kind, Reply};

use crate::common::device::{COPY, DONE, ID, fault_status, reg};
use crate::common::peer::{Answer, access};
use crate::common::{Fixture, Peer, SOON};

const BASE: u64 = 0x10_0000;
const SIZE: usize = 0x1_0000;

/// A client whose memory is reached by messages.
struct Memory {
    bytes: Vec<u8>,
    layout: DmaLayout,
    requests: Vec<(Command, u64, u64)>,
    /// Answers of ours that came in between.
    others: Vec<Answer>,
}

impl Memory {
    fn new(layout: DmaLayout) -> Self {
        let bytes = (0..SIZE).map(|index| (index * 31 % 255 + 1) as u8).collect();
        Self { bytes, layout, requests: Vec::new(), others: Vec::new() }
    }

    /// Carries out one request of the server.
    fn serve(&mut self, peer: &mut Peer, request: Answer) {
        let (address, count, offset) = self.parse(&request);
        let range = offset..offset + count as usize;
        let header = request.header;
        let mut reply = Vec::new();
        match header.command {
            Command::DMA_READ => {
                let data = &self.bytes[range];
                Reply::encode_dma_read(header.id, address, data, self.layout, &mut reply);
            }
            Command::DMA_WRITE => {
                let at = if self.layout == DmaLayout::Early { 12 } else { 16 };
                self.bytes[range].copy_from_slice(&request.payload[at..at + count as usize]);
                Reply::DmaWrite(None).encode(header.id, &mut reply);
            }
            other => panic!("the server sent {other}"),
        }
        peer.send(&reply, &[]);
    }

    fn parse(&mut self, request: &Answer) -> (u64, u64, usize) {
        assert_eq!(request.header.kind(), Kind::Command);
        let word = |at: usize| u64::from_ne_bytes(request.payload[at..at + 8].try_into().unwrap());
        let mut count = word(8);
        if self.layout == DmaLayout::Early {
            count &= 0xffff_ffff;
        }
        self.requests.push((request.header.command, word(0), count));
        (word(0), count, (word(0) - BASE) as usize)
    }

    /// Serves until the reply to request `id` arrives.
    fn serve_until(&mut self, peer: &mut Peer, id: u16) -> Answer {
        loop {
            let message = peer.receive();
            match message.header.kind() {
                Kind::Command => self.serve(peer, message),
                _ if message.header.id == id => return message,
                _ => self.others.push(message),
            }
        }
    }

    fn reg(&mut self, peer: &mut Peer, offset: u64) -> u32 {
        let id = peer.post(Command::REGION_READ, &access(0, offset, 4), &[]);
        let reply = self.serve_until(peer, id).ok();
        u32::from_le_bytes(reply[16..].try_into().unwrap())
    }

    fn copy(&mut self, peer: &mut Peer, from: u64, to: u64, length: u32) -> u32 {
        peer.prepare_copy(BASE + from, BASE + to, length);
        peer.set_reg(reg::DOORBELL, COPY);
        loop {
            let status = self.reg(peer, reg::STATUS);
            if status >= DONE {
                return status;
            }
        }
    }
}

fn attach(fixture: &Fixture, max_data: u32) -> Peer {
    let mut peer = fixture.connect();
    peer.negotiate_with(&format!("{{\"capabilities\":{{\"max_data_xfer_size\":{max_data}}}}}"));
    peer.enable();
    peer.map(None, 0, BASE, SIZE as u64).ok();
    peer
}

#[test]
fn data_come_and_go_in_pieces_that_the_client_takes() {
    let fixture = Fixture::new();
    for (round, layout) in (1..).zip([DmaLayout::Standard, DmaLayout::Early]) {
        let mut peer = attach(&fixture, 4096);
        let mut memory = Memory::new(layout);
        let expected = memory.bytes[100..100 + 10_000].to_vec();
        assert_eq!(memory.copy(&mut peer, 100, 0x8000, 10_000), DONE);
        assert!(memory.bytes[0x8000..0x8000 + 10_000] == expected, "{layout:?}");
        let sizes: Vec<_> = memory.requests.iter().map(|request| (request.0, request.2)).collect();
        let (read, write) = (Command::DMA_READ, Command::DMA_WRITE);
        let pieces = [4096, 4096, 10_000 - 8192];
        let all = [pieces.map(|size| (read, size)), pieces.map(|size| (write, size))].concat();
        assert_eq!(sizes, all, "{layout:?}");
        drop(peer);
        assert!(fixture.server.wait_detached(round, SOON));
    }
    assert_eq!(fixture.server.counters().unwrap().dma_messages, 12);
}

/// Data that look the same in both layouts are looked at again.
#[test]
fn a_layout_that_is_not_obvious_is_found_out() {
    let fixture = Fixture::new();
    let patterns: [&[u8]; 4] = [
        &[0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
        &[0; 16],
        &[0, 0, 0, 0, 5, 0],
    ];
    let mut ended = 0;
    for layout in [DmaLayout::Standard, DmaLayout::Early] {
        for pattern in patterns {
            let mut peer = attach(&fixture, 4096);
            let mut memory = Memory::new(layout);
            memory.bytes[..pattern.len()].copy_from_slice(pattern);
            let length = u32::try_from(pattern.len()).unwrap();
            assert_eq!(memory.copy(&mut peer, 0, 0x100, length), DONE);
            // Zeroes tell nothing, and are the same in both.
            if pattern.iter().any(|byte| *byte != 0) {
                assert_eq!(&memory.bytes[0x100..0x100 + pattern.len()], pattern, "{layout:?}");
            }
            drop(peer);
            ended += 1;
            assert!(fixture.server.wait_detached(ended, SOON));
        }
    }
}

/// While the server waits for memory, the client goes on sending requests. They are answered
/// afterwards, in order.
#[test]
fn requests_that_arrive_meanwhile_are_served_in_order() {
    let fixture = Fixture::new();
    let mut peer = attach(&fixture, 4096);
    let mut memory = Memory::new(DmaLayout::Standard);
    peer.set_reg64(reg::SOURCE, BASE);
    // This read needs memory of ours before it can be answered.
    let first = peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
    let request = peer.receive();
    assert_eq!(request.header.command, Command::DMA_READ);
    let later: Vec<_> = (0..100)
        .map(|offset| peer.post(Command::REGION_READ, &access(7, offset % 64, 1), &[]))
        .collect();
    memory.serve(&mut peer, request);
    let reply = memory.serve_until(&mut peer, first).ok();
    assert_eq!(reply[16..], memory.bytes[..4]);
    assert!(memory.others.is_empty(), "later requests were answered first");
    let answered: Vec<_> = later.iter().map(|_| peer.receive().header.id).collect();
    assert_eq!(answered, later);
}

#[test]
fn a_refusal_of_the_client_is_a_fault() {
    let fixture = Fixture::new();
    let mut peer = attach(&fixture, 4096);
    peer.set_reg64(reg::SOURCE, BASE);
    let id = peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
    let request = peer.receive();
    let command = request.header.command;
    peer.send(&Header::error_reply(request.header.id, command, Errno::IO).to_bytes(), &[]);
    let reply = peer.receive();
    assert_eq!(reply.header.id, id);
    let failed = fault_status(DmaFaultKind::Failed);
    assert_eq!(reply.ok()[16..], failed.to_le_bytes());
}

/// A reply with the wrong size, address or count is a fault; with the wrong id or command it is
/// nobody's.
#[test]
fn wrong_replies_are_not_taken_for_data() {
    let fixture = Fixture::new();
    let mut peer = attach(&fixture, 4096);
    let mut memory = Memory::new(DmaLayout::Standard);
    peer.set_reg64(reg::SOURCE, BASE);
    let failed = fault_status(DmaFaultKind::Failed).to_le_bytes();
    for (count, length) in [(3, 3), (5, 5), (4, 3), (4, 5), (0, 0), (u64::MAX, 4)] {
        let id = peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
        let request = peer.receive();
        let payload = [&BASE.to_ne_bytes()[..], &u64::to_ne_bytes(count), &vec![1; length]];
        let payload = payload.concat();
        let size = u32::try_from(16 + payload.len()).unwrap();
        let head = Header::reply(request.header.id, Command::DMA_READ, size).to_bytes();
        peer.send(&[&head[..], &payload].concat(), &[]);
        let reply = peer.receive();
        assert_eq!(reply.header.id, id);
        assert_eq!(reply.ok()[16..], failed, "count {count} with {length} bytes");
    }
    let id = peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
    let request = peer.receive();
    let mut stray = Vec::new();
    let other = request.header.id.wrapping_add(1);
    Reply::encode_dma_read(other, BASE, &[7; 4], DmaLayout::Standard, &mut stray);
    Reply::DmaWrite(None).encode(request.header.id, &mut stray);
    peer.send(&stray, &[]);
    memory.serve(&mut peer, request);
    let reply = memory.serve_until(&mut peer, id);
    assert_eq!(reply.ok()[16..], memory.bytes[..4]);
    assert_eq!(fixture.server.counters().unwrap().stray_replies, 2);
}

/// Replies that are too large, or that break the stream, end the wait at once.
#[test]
fn impossible_replies_are_faults_at_once() {
    let options = Options { dma_timeout: Duration::from_secs(3600), ..Options::default() };
    let fixture = Fixture::with(options);
    let mut peer = attach(&fixture, 4096);
    peer.set_reg64(reg::SOURCE, BASE);
    let id = peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
    let request = peer.receive();
    let size = (1 << 20) + 33;
    peer.send(&Header::reply(request.header.id, Command::DMA_READ, size).to_bytes(), &[]);
    let reply = peer.receive();
    assert_eq!(reply.header.id, id);
    assert_eq!(reply.ok()[16..], fault_status(DmaFaultKind::Failed).to_le_bytes());
    peer.send(&vec![0; size as usize - 16], &[]);
    peer.check_in_step();
    peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
    let request = peer.receive();
    peer.send(&Header::reply(request.header.id, Command::DMA_READ, 3).to_bytes(), &[]);
    assert_eq!(peer.receive().header.command, Command::REGION_READ);
    assert!(peer.try_receive().is_none(), "the connection stays open");
    fixture.attach_after(1).check_in_step();
}

/// A client that does not answer costs one time limit, not one for each access; when it answers
/// after all, DMA works again.
#[test]
fn a_client_that_does_not_answer_costs_one_time_limit() {
    let fixture =
        Fixture::with(Options { dma_timeout: Duration::from_millis(100), ..Options::default() });
    let mut peer = attach(&fixture, 4096);
    let mut memory = Memory::new(DmaLayout::Standard);
    peer.set_reg64(reg::SOURCE, BASE);
    let failed = fault_status(DmaFaultKind::Failed);
    let id = peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
    let unanswered = peer.receive();
    let reply = peer.receive();
    assert_eq!(reply.header.id, id);
    assert_eq!(reply.ok()[16..], failed.to_le_bytes());
    for _ in 0..1000 {
        assert_eq!(peer.reg(reg::PEEK), failed);
    }
    memory.serve(&mut peer, unanswered);
    let word = memory.reg(&mut peer, reg::PEEK);
    assert_eq!(word.to_le_bytes(), memory.bytes[..4]);
    assert_eq!(fixture.server.counters().unwrap().dma_messages, 2);
}

#[test]
fn a_client_may_die_while_the_server_waits() {
    let fixture = Fixture::new();
    let mut peer = attach(&fixture, 4096);
    peer.set_reg64(reg::SOURCE, BASE);
    peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
    assert_eq!(peer.receive().header.command, Command::DMA_READ);
    drop(peer);
    fixture.attach_after(1).check_in_step();
}

#[test]
fn the_server_may_stop_while_it_waits() {
    let options = Options { dma_timeout: Duration::from_secs(3600), ..Options::default() };
    let fixture = Fixture::with(options);
    let mut peer = attach(&fixture, 4096);
    peer.set_reg64(reg::SOURCE, BASE);
    peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
    assert_eq!(peer.receive().header.command, Command::DMA_READ);
    fixture.server.stop().unwrap();
}

/// Requests are kept while the server waits, but not without end.
#[test]
fn a_flood_of_requests_during_dma_ends_the_connection() {
    let options = Options {
        spin: Duration::ZERO,
        dma_timeout: Duration::from_secs(3600),
        ..Options::default()
    };
    let fixture = Fixture::with(options);
    let mut peer = attach(&fixture, 4096);
    peer.set_reg64(reg::SOURCE, BASE);
    peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
    assert_eq!(peer.receive().header.command, Command::DMA_READ);
    let mut flood = Vec::new();
    for id in 0..2000 {
        flood.extend_from_slice(&Header::request(id, Command::REGION_READ, 32).to_bytes());
        flood.extend_from_slice(&access(7, 0, 4));
    }
    peer.send(&flood, &[]);
    assert!(fixture.server.wait_detached(1, SOON), "the flood was kept");
    fixture.attach().check_in_step();
}

/// The device touches memory as the server goes to sleep. What the client asks meanwhile has left
/// the socket by then, so nothing would wake the server for it.
#[test]
fn a_request_that_arrives_while_the_server_goes_to_sleep_is_answered() {
    let fixture = Fixture::new();
    let mut peer = attach(&fixture, 4096);
    let mut memory = Memory::new(DmaLayout::Standard);
    peer.set_reg64(reg::SOURCE, BASE);
    peer.set_reg(reg::PARK_PEEK, 1);
    let request = peer.receive();
    assert_eq!(request.header.command, Command::DMA_READ);
    let id = peer.post(Command::REGION_READ, &access(0, reg::ID, 4), &[]);
    memory.serve(&mut peer, request);
    let reply = memory.serve_until(&mut peer, id).ok();
    assert_eq!(reply[16..], ID.to_le_bytes());
}
