//! DEVICE_GET_REGION_INFO, and mapping what it offers.

use std::os::fd::OwnedFd;

use understudy_wire::{
    Command, Errno, GetRegionInfo, Header, Limits, RegionIndex, Reply, Request, SparseArea,
};

use crate::common::device::{SHARED, SHARED_BAR};
use crate::common::{Fixture, Peer};

#[derive(Debug)]
struct Info {
    argsz: u32,
    flags: u32,
    size: u64,
    offset: u64,
    areas: Option<Vec<SparseArea>>,
    fds: Vec<OwnedFd>,
}

fn info(peer: &mut Peer, index: u32, argsz: u32) -> Info {
    let get = GetRegionInfo { argsz, index: RegionIndex(index) };
    let answer = peer.request(&Request::GetRegionInfo(get), &[]);
    assert!(answer.payload.len() <= argsz as usize, "the reply is larger than argsz");
    let header = Header::reply(0, Command::DEVICE_GET_REGION_INFO, 0);
    let reply = Reply::decode(&header, &answer.payload, &Limits::default());
    let Ok(Reply::RegionInfo(info)) = reply else { panic!("{reply:?}") };
    assert_eq!(info.index.0, index);
    Info {
        argsz: info.argsz,
        flags: info.flags,
        size: info.size,
        offset: info.offset,
        areas: info.sparse_areas(),
        fds: answer.fds,
    }
}

#[test]
fn regions_are_those_of_the_identity() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let regions: Vec<_> = (0..9).map(|index| info(&mut peer, index, 32)).collect();
    let seen: Vec<_> = regions.iter().map(|region| (region.size, region.flags)).collect();
    let absent = (0, 0);
    let expected = [
        (0x1000, 3),
        absent,
        (0x1000, 3),
        absent,
        (0x4000, 3),
        absent,
        absent,
        (0x1000, 3),
        absent,
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_shared_area_is_offered_with_a_descriptor_if_there_is_room() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let small = info(&mut peer, SHARED_BAR, 32);
    assert_eq!((small.argsz, small.flags, small.fds.len()), (64, 3, 0));
    let whole = info(&mut peer, SHARED_BAR, small.argsz);
    assert_eq!((whole.argsz, whole.flags, whole.fds.len()), (64, 0xf, 1));
    let area = SparseArea { offset: SHARED.offset, size: SHARED.size };
    assert_eq!((whole.offset, whole.areas), (0, Some(vec![area])));
}

#[test]
fn mapped_memory_and_messages_show_the_same_bytes() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let fd = info(&mut peer, SHARED_BAR, 64).fds.remove(0);
    rustix::io::pwrite(&fd, b"written by the client", SHARED.offset + 0x10).unwrap();
    let seen = peer.read(SHARED_BAR, SHARED.offset + 0x10, 21).ok();
    assert_eq!(&seen[16..], b"written by the client");
    peer.write(SHARED_BAR, SHARED.offset + 0x20, b"by message").ok();
    let mut back = [0; 10];
    rustix::io::pread(&fd, &mut back, SHARED.offset + 0x20).unwrap();
    assert_eq!(&back, b"by message");
}

#[test]
fn a_client_cannot_take_shared_memory_away() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let fd = info(&mut peer, SHARED_BAR, 64).fds.remove(0);
    assert_eq!(rustix::fs::ftruncate(&fd, 0), Err(rustix::io::Errno::PERM));
}

/// What one client may still have mapped is not what the next one sees.
#[test]
fn each_client_gets_fresh_shared_memory() {
    let fixture = Fixture::new();
    let mut first = fixture.enabled();
    let fd = info(&mut first, SHARED_BAR, 64).fds.remove(0);
    first.write(SHARED_BAR, SHARED.offset, b"secret").ok();
    drop(first);
    assert!(fixture.server.wait_detached(1, crate::common::SOON));
    let mut second = fixture.enabled();
    assert_eq!(second.read(SHARED_BAR, SHARED.offset, 6).ok()[16..], [0; 6]);
    rustix::io::pwrite(&fd, b"forged", SHARED.offset).unwrap();
    assert_eq!(second.read(SHARED_BAR, SHARED.offset, 6).ok()[16..], [0; 6]);
}

#[test]
fn regions_that_cannot_exist_are_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for index in [9, 10, u32::MAX] {
        let get = GetRegionInfo { argsz: 32, index: RegionIndex(index) };
        peer.request(&Request::GetRegionInfo(get), &[]).refused(Errno::INVAL);
    }
    let get = GetRegionInfo { argsz: 31, index: RegionIndex(0) };
    peer.request(&Request::GetRegionInfo(get), &[]).refused(Errno::INVAL);
    peer.call(Command::DEVICE_GET_REGION_INFO, &[0; 31], &[]).refused(Errno::INVAL);
    peer.check_in_step();
}
