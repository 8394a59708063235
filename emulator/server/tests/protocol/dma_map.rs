//! DMA_MAP with a descriptor: memory of the client, mapped.

use std::os::fd::AsFd;

use rustix::io::{pread, pwrite};
use understudy_device::DmaFaultKind;
use understudy_server::Options;
use understudy_wire::{Command, DmaMap, Errno, Request};

use crate::common::device::{COPY, COPY_BY_JOB, DONE, MAX_COPY, fault_status, reg};
use crate::common::peer::memory;
use crate::common::{Fixture, Peer};
use crate::tracked_fd;

const PAGE: u64 = 0x1000;

#[test]
fn the_device_copies_in_client_memory() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let size = 2 * MAX_COPY as u64;
    let memory = memory(size);
    peer.map(Some(memory.as_fd()), 0, 0x8000_0000, size).ok();
    let data: Vec<u8> = (0..MAX_COPY).map(|index| (index * 7 % 256) as u8).collect();
    pwrite(&memory, &data, 0).unwrap();
    for (doorbell, length) in [(COPY, 1), (COPY_BY_JOB, 4097), (COPY, MAX_COPY)] {
        let target = MAX_COPY as u64;
        peer.prepare_copy(0x8000_0000, 0x8000_0000 + target, length as u32);
        assert_eq!(peer.ring(doorbell), DONE);
        let mut copy = vec![0; length];
        pread(&memory, &mut copy, target).unwrap();
        assert!(copy == data[..length], "{length} bytes were not copied as they are");
    }
    let counters = fixture.server.counters().unwrap();
    assert_eq!(counters.dma_read_bytes, (1 + 4097 + MAX_COPY) as u64);
    assert_eq!(counters.dma_write_bytes, counters.dma_read_bytes);
    assert_eq!(counters.dma_messages, 0);
}

#[test]
fn an_access_may_span_regions() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let (low, high) = (memory(PAGE), memory(PAGE));
    peer.map(Some(high.as_fd()), 0, 0x11 * PAGE, PAGE).ok();
    peer.map(Some(low.as_fd()), 0, 0x10 * PAGE, PAGE).ok();
    pwrite(&low, b"left", PAGE - 4).unwrap();
    pwrite(&high, b"right", 0).unwrap();
    peer.prepare_copy(0x11 * PAGE - 4, 0x10 * PAGE, 9);
    assert_eq!(peer.ring(COPY), DONE);
    let mut copy = [0; 9];
    pread(&low, &mut copy, 0).unwrap();
    assert_eq!(&copy, b"leftright");
    // Off the end of the second there is nothing.
    peer.prepare_copy(0x12 * PAGE - 4, 0x10 * PAGE, 9);
    assert_eq!(peer.ring(COPY), fault_status(DmaFaultKind::Unmapped));
}

#[test]
fn file_offsets_are_honoured() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let memory = memory(4 * PAGE);
    peer.map(Some(memory.as_fd()), 2 * PAGE, 0, PAGE).ok();
    pwrite(&memory, b"second", 2 * PAGE).unwrap();
    peer.prepare_copy(0, 0x100, 6);
    assert_eq!(peer.ring(COPY), DONE);
    let mut copy = [0; 6];
    pread(&memory, &mut copy, 2 * PAGE + 0x100).unwrap();
    assert_eq!(&copy, b"second");
}

#[test]
fn the_last_page_of_the_address_space_can_be_mapped() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let memory = memory(PAGE);
    let top = u64::MAX - PAGE + 1;
    peer.map(Some(memory.as_fd()), 0, top, PAGE).ok();
    pwrite(&memory, b"top", PAGE - 3).unwrap();
    peer.prepare_copy(u64::MAX - 2, top, 3);
    assert_eq!(peer.ring(COPY), DONE);
    // An access that wraps leaves the region, even if there is memory at address 0.
    peer.map(Some(memory.as_fd()), 0, 0, PAGE).ok();
    peer.prepare_copy(u64::MAX - 2, top, 4);
    assert_eq!(peer.ring(COPY), fault_status(DmaFaultKind::Unmapped));
    peer.map(Some(memory.as_fd()), 0, top, PAGE).refused(Errno::EXIST);
}

#[test]
fn directions_are_enforced() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let memory = memory(PAGE);
    for (flags, address) in [(DmaMap::READ, 0), (DmaMap::WRITE, PAGE)] {
        let map = DmaMap::new(flags, 0, address, PAGE);
        peer.request(&Request::DmaMap(map), &[memory.as_fd()]).ok();
    }
    peer.prepare_copy(0, PAGE, 8);
    assert_eq!(peer.ring(COPY), DONE);
    peer.prepare_copy(PAGE, 0, 8);
    assert_eq!(peer.ring(COPY), fault_status(DmaFaultKind::Denied));
    peer.prepare_copy(0, 0, 8);
    assert_eq!(peer.ring(COPY), fault_status(DmaFaultKind::Denied));
}

#[test]
fn memory_that_is_not_mapped_faults() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    peer.prepare_copy(0x5000, 0x6000, 8);
    assert_eq!(peer.ring(COPY), fault_status(DmaFaultKind::Unmapped));
    peer.write_config(4, &[2, 0]);
    assert_eq!(peer.ring(COPY), fault_status(DmaFaultKind::BusMasterDisabled));
}

#[track_caller]
fn refused(peer: &mut Peer, map: DmaMap, errno: Errno) {
    let memory = memory(4 * PAGE);
    peer.request(&Request::DmaMap(map), &[memory.as_fd()]).refused(errno);
    peer.check_in_step();
}

#[test]
fn impossible_regions_are_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let good = DmaMap::new(3, 0, 0x10_0000, 4 * PAGE);
    for bad in [
        DmaMap { argsz: 31, ..good },
        DmaMap { flags: 0, ..good },
        DmaMap { flags: 3 | 1 << 7, ..good },
        DmaMap { size: 0, ..good },
        // Not whole pages.
        DmaMap { address: 0x10_0001, ..good },
        DmaMap { size: PAGE + 1, ..good },
        DmaMap { size: 1, ..good },
        DmaMap { offset: 0x10, size: PAGE, ..good },
        // Past the end of the file.
        DmaMap { size: 5 * PAGE, ..good },
        DmaMap { offset: PAGE, ..good },
        DmaMap { offset: u64::MAX - PAGE + 1, size: PAGE, ..good },
        DmaMap { size: 1 << 62, ..good },
        // Wrapping.
        DmaMap { address: u64::MAX - PAGE + 1, size: 2 * PAGE, ..good },
        DmaMap { address: PAGE, size: u64::MAX - PAGE + 1, ..good },
    ] {
        refused(&mut peer, bad, Errno::INVAL);
    }
    assert_eq!(fixture.server.counters().unwrap().dma_maps, 0);
    for length in [0, 1, 16, 31] {
        peer.call(Command::DMA_MAP, &vec![1; length], &[]).refused(Errno::INVAL);
    }
    peer.map(None, 0, 0, PAGE).ok();
}

#[test]
fn overlapping_regions_are_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    peer.map(None, 0, 0x10 * PAGE, 4 * PAGE).ok();
    peer.map(None, 0, 0x20 * PAGE, 4 * PAGE).ok();
    let good = DmaMap::new(3, 0, 0x10 * PAGE, 4 * PAGE);
    for (address, pages) in
        [(0x10, 4), (0x0f, 2), (0x13, 1), (0x13, 2), (0x11, 1), (0x0f, 6), (0x0f, 0x40), (0, 0x100)]
    {
        let map = DmaMap { address: address * PAGE, size: pages * PAGE, ..good };
        peer.request(&Request::DmaMap(map), &[]).refused(Errno::EXIST);
    }
    // Next to one, and between two, there is room.
    peer.map(None, 0, 0x0f * PAGE, PAGE).ok();
    peer.map(None, 0, 0x14 * PAGE, 12 * PAGE).ok();
    assert_eq!(fixture.server.counters().unwrap().dma_maps, 4);
}

#[test]
fn the_number_of_regions_is_bounded() {
    let fixture = Fixture::with(Options { max_dma_maps: 8, ..Options::default() });
    let mut peer = fixture.attach();
    for index in 0..8 {
        peer.map(None, 0, index * PAGE, PAGE).ok();
    }
    peer.map(None, 0, 8 * PAGE, PAGE).refused(Errno::NOSPC);
    peer.check_in_step();
}

#[test]
fn only_files_can_be_mapped() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let (pipe, tracker) = tracked_fd();
    peer.map(Some(pipe.as_fd()), 0, 0, PAGE).refused(Errno::INVAL);
    drop(pipe);
    tracker.wait_closed();
    let event = crate::common::peer::event();
    peer.map(Some(event.as_fd()), 0, 0, PAGE).refused(Errno::INVAL);
    let socket = peer.stream.try_clone().unwrap();
    peer.map(Some(socket.as_fd()), 0, 0, PAGE).refused(Errno::INVAL);
    let directory = std::fs::File::open("/").unwrap();
    peer.map(Some(directory.as_fd()), 0, 0, PAGE).refused(Errno::INVAL);
    let device = std::fs::File::open("/dev/zero").unwrap();
    peer.map(Some(device.as_fd()), 0, 0, PAGE).refused(Errno::INVAL);
    peer.check_in_step();
}

#[test]
fn a_file_that_may_not_be_written_is_not_mapped_for_writing() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let path = fixture.dir.path().join("read-only");
    std::fs::write(&path, vec![1; PAGE as usize]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    peer.map(Some(file.as_fd()), 0, 0, PAGE).refused(Errno::ACCES);
    let map = DmaMap::new(DmaMap::READ, 0, 0, PAGE);
    peer.request(&Request::DmaMap(map), &[file.as_fd()]).ok();
}

#[test]
fn two_descriptors_are_refused_and_closed() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let (pipe, tracker) = tracked_fd();
    let map = Request::DmaMap(DmaMap::new(3, 0, 0, PAGE));
    peer.request(&map, &[pipe.as_fd(), pipe.as_fd()]).refused(Errno::INVAL);
    drop(pipe);
    tracker.wait_closed();
    peer.check_in_step();
}

/// The client truncates its memory while it is mapped: the device sees a fault, not a SIGBUS.
#[test]
fn memory_truncated_after_mapping_faults() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let (lost, kept) = (memory(16 * PAGE), memory(16 * PAGE));
    peer.map(Some(lost.as_fd()), 0, 0, 16 * PAGE).ok();
    peer.map(Some(kept.as_fd()), 0, 16 * PAGE, 16 * PAGE).ok();
    rustix::fs::ftruncate(&lost, 4 * PAGE).unwrap();
    let failed = fault_status(DmaFaultKind::Failed);
    // As far as it is still there, it works.
    peer.prepare_copy(0, 16 * PAGE, 64);
    assert_eq!(peer.ring(COPY), DONE);
    // Reading, across the end and over many pages; then nothing of that region works any more.
    peer.prepare_copy(3 * PAGE, 16 * PAGE, 8 * PAGE as u32);
    assert_eq!(peer.ring(COPY), failed);
    peer.prepare_copy(0, 16 * PAGE, 64);
    assert_eq!(peer.ring(COPY), failed);
    peer.prepare_copy(16 * PAGE, 5 * PAGE, 64);
    assert_eq!(peer.ring(COPY), failed);
    // Other regions, other accesses and other clients are as they were.
    peer.prepare_copy(16 * PAGE, 17 * PAGE, 64);
    assert_eq!(peer.ring(COPY), DONE);
    peer.request(&Request::DmaUnmap(understudy_wire::DmaUnmap::new(0, 16 * PAGE)), &[]).ok();
    peer.map(Some(kept.as_fd()), 0, 0, 16 * PAGE).ok();
    peer.prepare_copy(0, 16 * PAGE, 64);
    assert_eq!(peer.ring(COPY), DONE);
}

#[test]
fn writing_to_truncated_memory_faults() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let (lost, kept) = (memory(4 * PAGE), memory(4 * PAGE));
    peer.map(Some(lost.as_fd()), 0, 0, 4 * PAGE).ok();
    peer.map(Some(kept.as_fd()), 0, 4 * PAGE, 4 * PAGE).ok();
    rustix::fs::ftruncate(&lost, 0).unwrap();
    peer.prepare_copy(4 * PAGE, PAGE, 8);
    assert_eq!(peer.ring(COPY), fault_status(DmaFaultKind::Failed));
    // Also from within a register access.
    peer.set_reg64(reg::SOURCE, PAGE);
    assert_eq!(peer.reg(reg::PEEK), fault_status(DmaFaultKind::Failed));
}
