//! The `vfio_user` crate's client, written by others, drives our server: everything it can do.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "in tests, what must not be is a failure"
)]

#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

use std::os::fd::{AsRawFd, RawFd};

use common::Fixture;
use common::device::{self, COPY, DONE, SHARED, SHARED_BAR, reg};
use common::peer::{count_events, event, memory, wait_event};
use rustix::io::{pread, pwrite};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_CONFIG_REGION_INDEX as CONFIG,
    VFIO_PCI_INTX_IRQ_INDEX as INTX, VFIO_PCI_MSIX_IRQ_INDEX as MSIX,
};
use vfio_user::Client;

fn attach(fixture: &Fixture) -> Client {
    let mut client = Client::new(fixture.server.path()).unwrap();
    client.region_write(CONFIG, 4, &[6, 0]).unwrap();
    client
}

fn read(client: &mut Client, offset: u64) -> u32 {
    let mut data = [0; 4];
    client.region_read(0, offset, &mut data).unwrap();
    u32::from_le_bytes(data)
}

fn write(client: &mut Client, offset: u64, value: u32) {
    client.region_write(0, offset, &value.to_le_bytes()).unwrap();
}

#[test]
fn it_learns_the_regions_and_interrupts() {
    let fixture = Fixture::new();
    let mut client = attach(&fixture);
    let sizes: Vec<_> = (0..9).map(|index| client.region(index).unwrap().size).collect();
    assert_eq!(sizes, [0x1000, 0, 0x1000, 0, 0x4000, 0, 0, 0x1000, 0]);
    // Sic: this client says the opposite of what it was told.
    assert!(!client.resettable());
    let counts: Vec<_> = (0..5).map(|index| client.get_irq_info(index).unwrap().count).collect();
    assert_eq!(counts, [1, 4, u32::from(device::VECTORS), 1, 0]);
}

#[test]
fn it_reads_and_writes_regions() {
    let fixture = Fixture::new();
    let mut client = attach(&fixture);
    let mut ids = [0; 4];
    client.region_read(CONFIG, 0, &mut ids).unwrap();
    assert_eq!(ids, [0x34, 0x12, 0x78, 0x56]);
    assert_eq!(read(&mut client, reg::ID), device::ID);
    write(&mut client, reg::SCRATCH, 77);
    assert_eq!(read(&mut client, reg::SCRATCH), 77);
    client.reset().unwrap();
    client.region_write(CONFIG, 4, &[6, 0]).unwrap();
    assert_eq!(read(&mut client, reg::SCRATCH), 0);
}

#[test]
fn it_maps_a_shared_area() {
    let fixture = Fixture::new();
    let mut client = attach(&fixture);
    let region = client.region(SHARED_BAR).unwrap();
    let areas: Vec<_> = region.sparse_areas.iter().map(|area| (area.offset, area.size)).collect();
    assert_eq!(areas, [(SHARED.offset, SHARED.size)]);
    let file = region.file_offset.as_ref().unwrap();
    pwrite(file.file(), b"shared", file.start() + SHARED.offset).unwrap();
    let mut seen = [0; 6];
    client.region_read(SHARED_BAR, SHARED.offset, &mut seen).unwrap();
    assert_eq!(&seen, b"shared");
}

#[test]
fn it_lends_memory_and_takes_interrupts() {
    let fixture = Fixture::new();
    let mut client = attach(&fixture);
    let (memory, fds) = (memory(0x2000), [event(), event()]);
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    client.dma_map(0, 0x4000, 0x2000, memory.as_raw_fd()).unwrap();
    let eventfds = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    client.set_irqs(MSIX, eventfds, 0, 2, &raw).unwrap();
    pwrite(&memory, b"payload", 0).unwrap();
    write(&mut client, reg::SOURCE, 0x4000);
    write(&mut client, reg::TARGET, 0x5000);
    write(&mut client, reg::LENGTH, 7);
    write(&mut client, reg::DOORBELL, COPY);
    // This client never enables MSI-X in config space: its triggers say that it listens.
    assert_eq!(wait_event(&fds[0]), 1);
    assert_eq!(read(&mut client, reg::STATUS), DONE);
    let mut copy = [0; 7];
    pread(&memory, &mut copy, 0x1000).unwrap();
    assert_eq!(&copy, b"payload");
    client.dma_unmap(0x4000, 0x2000).unwrap();
    assert_eq!(fixture.server.counters().unwrap().dma_maps, 0);
    client.set_irqs(MSIX, eventfds, 0, 0, &[]).unwrap();
}

#[test]
fn it_masks_and_unmasks_intx() {
    let fixture = Fixture::new();
    let mut client = attach(&fixture);
    let line = event();
    let eventfds = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    client.set_irqs(INTX, eventfds, 0, 1, &[line.as_raw_fd()]).unwrap();
    client.set_irqs(INTX, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, 0, 1, &[]).unwrap();
    write(&mut client, reg::LINE, 1);
    assert_eq!(count_events(&line), 0);
    let unmask = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
    client.set_irqs(INTX, unmask, 0, 1, &[]).unwrap();
    assert_eq!(count_events(&line), 1);
    let trigger = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    client.set_irqs(INTX, trigger, 0, 1, &[]).unwrap();
    assert_eq!(count_events(&line), 1);
    client.set_irqs(INTX, trigger, 0, 0, &[]).unwrap();
    client.set_irqs(INTX, trigger, 0, 1, &[]).unwrap();
    assert_eq!(count_events(&line), 0);
}

#[test]
fn it_leaves_and_comes_back() {
    let fixture = Fixture::new();
    for round in 1..=20 {
        let mut client = attach(&fixture);
        assert_eq!(read(&mut client, reg::SCRATCH), 0, "what a former client wrote is still there");
        write(&mut client, reg::SCRATCH, round);
        if round % 2 == 0 {
            client.shutdown().unwrap();
        }
        drop(client);
        assert!(fixture.server.wait_detached(round.into(), common::SOON));
    }
}
