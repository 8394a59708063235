//! DMA_UNMAP.

use std::os::fd::AsFd;

use rustix::io::{pread, pwrite};
use understudy_device::DmaFaultKind;
use understudy_wire::{Command, DirtyBitmap, DmaUnmap, Errno, Request};

use crate::common::device::{COPY, COPY_BY_JOB, DONE, fault_status, reg};
use crate::common::peer::{Answer, memory};
use crate::common::{Fixture, Peer};

const PAGE: u64 = 0x1000;

fn unmap(peer: &mut Peer, unmap: DmaUnmap<'_>) -> Answer {
    peer.request(&Request::DmaUnmap(unmap), &[])
}

fn maps(fixture: &Fixture) -> u64 {
    fixture.server.counters().unwrap().dma_maps
}

#[test]
fn the_reply_repeats_the_request() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    peer.map(None, 0, PAGE, PAGE).ok();
    let mut request = Vec::new();
    Request::DmaUnmap(DmaUnmap::new(PAGE, PAGE)).encode_payload(&mut request);
    assert_eq!(peer.call(Command::DMA_UNMAP, &request, &[]).ok(), request);
    assert_eq!(maps(&fixture), 0);
}

#[test]
fn only_exact_regions_are_removed() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    peer.map(None, 0, 4 * PAGE, 4 * PAGE).ok();
    peer.map(None, 0, 8 * PAGE, 4 * PAGE).ok();
    for (address, pages) in [(4, 3), (4, 5), (4, 8), (5, 3), (3, 5), (0, 1), (12, 1), (5, 1)] {
        unmap(&mut peer, DmaUnmap::new(address * PAGE, pages * PAGE)).refused(Errno::NOENT);
    }
    unmap(&mut peer, DmaUnmap::new(4 * PAGE, 0)).refused(Errno::NOENT);
    assert_eq!(maps(&fixture), 2);
    unmap(&mut peer, DmaUnmap::new(8 * PAGE, 4 * PAGE)).ok();
    unmap(&mut peer, DmaUnmap::new(4 * PAGE, 4 * PAGE)).ok();
    unmap(&mut peer, DmaUnmap::new(4 * PAGE, 4 * PAGE)).refused(Errno::NOENT);
}

#[test]
fn all_regions_are_removed_at_once() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for index in 0..20 {
        peer.map(None, 0, index * 3 * PAGE, PAGE).ok();
    }
    unmap(&mut peer, DmaUnmap { address: PAGE, ..DmaUnmap::all() }).refused(Errno::INVAL);
    unmap(&mut peer, DmaUnmap { size: PAGE, ..DmaUnmap::all() }).refused(Errno::INVAL);
    assert_eq!(maps(&fixture), 20);
    unmap(&mut peer, DmaUnmap::all()).ok();
    assert_eq!(maps(&fixture), 0);
    // Also if there are none.
    unmap(&mut peer, DmaUnmap::all()).ok();
}

#[test]
fn malformed_requests_are_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    peer.map(None, 0, PAGE, PAGE).ok();
    let good = DmaUnmap::new(PAGE, PAGE);
    unmap(&mut peer, DmaUnmap { argsz: 23, ..good }).refused(Errno::INVAL);
    unmap(&mut peer, DmaUnmap { argsz: (1 << 20) + 8, ..good }).refused(Errno::TOO_BIG);
    unmap(&mut peer, DmaUnmap { flags: 4, ..good }).refused(Errno::INVAL);
    unmap(&mut peer, DmaUnmap { flags: 3, ..good }).refused(Errno::INVAL);
    peer.call(Command::DMA_UNMAP, &[0; 8], &[]).refused(Errno::INVAL);
    assert_eq!(maps(&fixture), 1);
}

#[test]
fn dirty_pages_are_not_tracked() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    peer.map(None, 0, PAGE, PAGE).ok();
    let bitmap = DirtyBitmap { page_size: PAGE, size: 8, data: &[] };
    let flags = DmaUnmap::GET_DIRTY_BITMAP;
    let request = DmaUnmap { argsz: 48, flags, bitmap: Some(bitmap), ..DmaUnmap::new(PAGE, PAGE) };
    unmap(&mut peer, request).refused(Errno::NOTSUP);
    assert_eq!(maps(&fixture), 1, "the region is gone all the same");
}

#[test]
fn the_device_does_not_reach_what_was_unmapped() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let memory = memory(2 * PAGE);
    peer.map(Some(memory.as_fd()), 0, 0, 2 * PAGE).ok();
    peer.prepare_copy(0, PAGE, 16);
    assert_eq!(peer.ring(COPY), DONE);
    unmap(&mut peer, DmaUnmap::new(0, 2 * PAGE)).ok();
    assert_eq!(peer.ring(COPY), fault_status(DmaFaultKind::Unmapped));
}

/// When the reply is there, nothing in flight will touch the memory any more.
#[test]
fn the_reply_comes_after_jobs_in_flight() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let memory = memory(2 * PAGE);
    for round in 1..100u8 {
        peer.map(Some(memory.as_fd()), 0, 0, 2 * PAGE).ok();
        pwrite(&memory, &[round; 64], 0).unwrap();
        pwrite(&memory, &[0; 64], PAGE).unwrap();
        peer.prepare_copy(0, PAGE, 64);
        peer.set_reg(reg::DOORBELL, COPY_BY_JOB);
        // The device has worked before it served this, and the job is in flight or done.
        unmap(&mut peer, DmaUnmap::new(0, 2 * PAGE)).ok();
        let mut copy = [0; 64];
        pread(&memory, &mut copy, PAGE).unwrap();
        assert_eq!((peer.reg(reg::STATUS), copy), (DONE, [round; 64]));
    }
}
