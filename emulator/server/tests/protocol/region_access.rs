//! REGION_READ, REGION_WRITE and REGION_WRITE_MULTI.

use std::time::Duration;

use understudy_server::Options;
use understudy_wire::{Command, Errno, Header, RegionWrite, WriteMulti};

use crate::common::device::{self, ID, SHARED, SHARED_BAR, reg};
use crate::common::peer::{CONFIG, access};
use crate::common::{Fixture, Peer};

#[test]
fn config_space_is_read_and_written() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    assert_eq!(peer.read_config(0, 8), [0x34, 0x12, 0x78, 0x56, 0, 0, 0x10, 0]);
    peer.write_config(0x3c, &[11]);
    assert_eq!(peer.read_config(0x3c, 1), [11]);
    assert_eq!(peer.read_config(0, 4096).len(), 4096);
}

#[test]
fn bars_are_sized_through_config_space() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    peer.write_config(0x10, &[0xff; 8]);
    assert_eq!(peer.read_config(0x10, 8), [0x04, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn registers_are_read_and_written() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    assert_eq!(peer.reg(reg::ID), ID);
    peer.set_reg(reg::SCRATCH, 0xdead_beef);
    assert_eq!(peer.reg(reg::SCRATCH), 0xdead_beef);
}

#[test]
fn replies_repeat_the_access() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    assert_eq!(peer.read(0, reg::ID, 4).ok()[..16], access(0, reg::ID, 4));
    assert_eq!(peer.write(0, reg::SCRATCH, &[1, 2, 3, 4]).ok(), access(0, reg::SCRATCH, 4));
    assert_eq!(peer.read(0, 0, 0).ok(), access(0, 0, 0));
    assert_eq!(peer.write(0, 0, &[]).ok(), access(0, 0, 0));
}

#[test]
fn a_bar_that_is_not_enabled_reads_all_ones_and_drops_writes() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    assert_eq!(peer.reg(reg::ID), u32::MAX);
    peer.set_reg(reg::SCRATCH, 1);
    peer.enable();
    assert_eq!(peer.reg(reg::SCRATCH), 0);
}

#[test]
fn an_offset_without_a_register_reads_what_the_device_says() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    assert_eq!(peer.reg(reg::HOLE), 0xeeee_eeee);
    peer.set_reg(reg::HOLE, 1);
    assert_eq!(fixture.server.counters().unwrap().access_errors, 2);
}

#[track_caller]
fn refused(peer: &mut Peer, region: u32, offset: u64, count: u32, errno: Errno) {
    peer.read(region, offset, count).refused(errno);
    if count <= 1 << 20 {
        peer.write(region, offset, &vec![0; count as usize]).refused(errno);
    }
    peer.check_in_step();
}

#[test]
fn accesses_outside_their_region_are_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    for (region, offset, count) in [
        (0, 0x1000, 1),
        (0, 0xffd, 4),
        (0, 0, 0x1001),
        (0, 0x1001, 0),
        (0, u64::MAX, 4),
        (0, u64::MAX - 3, 4),
        (CONFIG, 0x1000, 1),
        (CONFIG, 0xfff, 2),
        // Regions that the function does not have.
        (1, 0, 4),
        (6, 0, 4),
        (8, 0, 4),
        (9, 0, 4),
        (u32::MAX, 0, 4),
    ] {
        refused(&mut peer, region, offset, count, Errno::INVAL);
    }
    refused(&mut peer, 0, 0, (1 << 20) + 1, Errno::TOO_BIG);
    refused(&mut peer, 0, 0, u32::MAX, Errno::TOO_BIG);
}

#[test]
fn a_write_whose_count_is_not_its_size_is_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    for (count, size) in [(4, 3), (4, 5), (0, 1), (1, 0)] {
        let payload = [access(0, reg::SCRATCH, count), vec![1; size]].concat();
        peer.call(Command::REGION_WRITE, &payload, &[]).refused(Errno::INVAL);
    }
    let payload = [access(0, reg::SCRATCH, 4), vec![1; 4]].concat();
    peer.call(Command::REGION_READ, &payload, &[]).refused(Errno::INVAL);
    assert_eq!(peer.reg(reg::SCRATCH), 0);
}

#[test]
fn posted_writes_are_done_in_order_and_not_answered() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let mut bytes = Vec::new();
    for value in 0..1000u32 {
        let head = Header::request(1, Command::REGION_WRITE, 36).posted().to_bytes();
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&access(0, reg::SCRATCH, 4));
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    peer.send(&bytes, &[]);
    assert_eq!(peer.reg(reg::SCRATCH), 999);
}

/// The socket says nothing of a message that was read together with the one before it.
#[test]
fn a_server_that_never_spins_does_not_sleep_on_what_it_has_read() {
    let fixture = Fixture::with(Options { spin: Duration::ZERO, ..Options::default() });
    let mut peer = fixture.enabled();
    let mut bytes = Header::request(1, Command::REGION_WRITE, 36).posted().to_bytes().to_vec();
    bytes.extend_from_slice(&access(0, reg::SCRATCH, 4));
    bytes.extend_from_slice(&7u32.to_le_bytes());
    bytes.extend_from_slice(&Header::request(2, Command::REGION_READ, 32).to_bytes());
    bytes.extend_from_slice(&access(0, reg::SCRATCH, 4));
    peer.send(&bytes, &[]);
    assert_eq!(peer.receive().ok()[16..], 7u32.to_le_bytes());
}

fn multi(writes: &[RegionWrite<'_>]) -> Vec<u8> {
    let mut payload = Vec::new();
    WriteMulti::encode_writes(writes, &mut payload);
    payload
}

#[test]
fn many_writes_come_in_one_message() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let writes = [
        RegionWrite { offset: reg::SOURCE, region: 0, data: &[1, 2, 3, 4, 5, 6, 7, 8] },
        RegionWrite { offset: reg::SCRATCH, region: 0, data: &[9, 0, 0, 0] },
        RegionWrite { offset: 0x3c, region: CONFIG, data: &[7] },
    ];
    let reply = peer.call(Command::REGION_WRITE_MULTI, &multi(&writes), &[]).ok();
    assert_eq!(reply, 3u64.to_ne_bytes());
    assert_eq!(peer.read(0, reg::SOURCE, 8).ok()[16..], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(peer.reg(reg::SCRATCH), 9);
    assert_eq!(peer.read_config(0x3c, 1), [7]);
}

#[test]
fn a_bad_write_among_many_is_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let good = RegionWrite { offset: reg::SCRATCH, region: 0, data: &[5, 0, 0, 0] };
    let bad = RegionWrite { offset: 0x1000, region: 0, data: &[6] };
    let late = RegionWrite { offset: reg::SCRATCH, region: 0, data: &[7, 0, 0, 0] };
    let payload = multi(&[good, bad, late]);
    peer.call(Command::REGION_WRITE_MULTI, &payload, &[]).refused(Errno::INVAL);
    assert_eq!(peer.reg(reg::SCRATCH), 5, "writes before the bad one are done, later ones are not");
    for cut in [8, 9, payload.len() - 1] {
        peer.call(Command::REGION_WRITE_MULTI, &payload[..cut], &[]).refused(Errno::INVAL);
    }
    let mut absurd = payload.clone();
    absurd[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
    peer.call(Command::REGION_WRITE_MULTI, &absurd, &[]).refused(Errno::INVAL);
    peer.check_in_step();
}

#[test]
fn a_shared_area_is_memory_for_messages_too() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let last = SHARED.offset + SHARED.size - 4;
    peer.write(SHARED_BAR, last, &[1, 2, 3, 4]).ok();
    assert_eq!(peer.read(SHARED_BAR, last, 4).ok()[16..], [1, 2, 3, 4]);
    // Across its end, and outside it, there is nothing.
    assert_eq!(peer.read(SHARED_BAR, last, 8).ok()[16..], [0xee; 8]);
    assert_eq!(peer.read(SHARED_BAR, 0, 4).ok()[16..], [0xee; 4]);
}

/// A ring that never runs dry does not starve the socket, nor the other way round.
#[test]
fn an_endless_device_still_answers() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    peer.set_reg(reg::ENDLESS, 1);
    for value in 0..1000 {
        peer.set_reg(reg::SCRATCH, value);
        assert_eq!(peer.reg(reg::SCRATCH), value);
    }
    let mut second = fixture.connect();
    assert!(second.try_receive().is_none(), "the second client was not turned away");
    assert_eq!(device::IDLE, peer.reg(reg::STATUS));
    drop(peer);
    assert!(fixture.server.wait_detached(1, crate::common::SOON));
    fixture.attach().check_in_step();
}
