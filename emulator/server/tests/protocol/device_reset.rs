//! DEVICE_RESET.

use understudy_wire::{Command, Errno, IrqIndex};

use crate::common::peer::{event, memory, wait_event};
use crate::common::{Fixture, device};
use std::os::fd::AsFd;

#[test]
fn registers_and_config_space_are_as_new() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    peer.set_reg(device::reg::SCRATCH, 0x1234_5678);
    peer.call(Command::DEVICE_RESET, &[], &[]).ok();
    assert_eq!(peer.read_config(4, 2), [0, 0], "memory and bus mastering are still enabled");
    peer.enable();
    assert_eq!(peer.reg(device::reg::SCRATCH), 0);
    let state = fixture.server.inspect().unwrap();
    assert_eq!(state.counter("resets"), Some(1));
}

/// Mappings and triggers are the client's, not the function's.
#[test]
fn memory_and_triggers_stay() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let memory = memory(0x2000);
    let interrupt = event();
    peer.map(Some(memory.as_fd()), 0, 0x10_0000, 0x2000).ok();
    peer.set_triggers(IrqIndex::MSIX, 0, 1, &[interrupt.as_fd()]).ok();
    peer.call(Command::DEVICE_RESET, &[], &[]).ok();
    peer.enable();
    rustix::io::pwrite(&memory, b"still here", 0).unwrap();
    peer.prepare_copy(0x10_0000, 0x10_1000, 10);
    assert_eq!(peer.ring(device::COPY), device::DONE);
    let mut copy = [0; 10];
    rustix::io::pread(&memory, &mut copy, 0x1000).unwrap();
    assert_eq!(&copy, b"still here");
    peer.set_msix_table_entry(0, false);
    peer.enable_msix();
    assert_eq!(wait_event(&interrupt), 1);
}

#[test]
fn a_job_in_flight_is_forgotten() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let memory = memory(0x2000);
    peer.map(Some(memory.as_fd()), 0, 0, 0x2000).ok();
    for _ in 0..50 {
        peer.prepare_copy(0, 0x1000, 0x1000);
        peer.set_reg(device::reg::DOORBELL, device::COPY_BY_JOB);
        peer.call(Command::DEVICE_RESET, &[], &[]).ok();
        peer.enable();
        assert_eq!(peer.reg(device::reg::STATUS), device::IDLE);
        assert_eq!(peer.reg(device::reg::COPIES), 0);
    }
}

#[test]
fn a_payload_is_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    peer.call(Command::DEVICE_RESET, &[0], &[]).refused(Errno::INVAL);
    peer.check_in_step();
}
