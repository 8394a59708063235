//! DEVICE_GET_INFO.

use understudy_wire::{Command, DeviceInfo, Errno, Request};

use crate::common::Fixture;

#[test]
fn it_is_a_resettable_pci_device() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let reply = peer.request(&Request::GetInfo(DeviceInfo::request()), &[]).ok();
    let words: Vec<u32> =
        reply.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [16, 3, 9, 5]);
}

#[test]
fn a_small_argsz_is_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let info = DeviceInfo { argsz: 15, ..DeviceInfo::request() };
    peer.request(&Request::GetInfo(info), &[]).refused(Errno::INVAL);
    peer.call(Command::DEVICE_GET_INFO, &[0; 12], &[]).refused(Errno::INVAL);
    peer.check_in_step();
}
