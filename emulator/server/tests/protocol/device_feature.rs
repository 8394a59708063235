//! DEVICE_FEATURE and migration data: a proper error, and the body drained.

use understudy_wire::{Command, DeviceFeature, Errno, MigData, Request};

use crate::common::Fixture;

#[test]
fn no_feature_is_supported() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for feature in [0, 1, 2, 6, 7, 8, 0xffff] {
        for operation in [DeviceFeature::GET, DeviceFeature::SET, DeviceFeature::PROBE] {
            for length in [0, 8, 4096] {
                let data = vec![0; length];
                let argsz = 8 + u32::try_from(length).unwrap();
                let request = DeviceFeature { argsz, flags: operation | feature, data: &data };
                peer.request(&Request::Feature(request), &[]).refused(Errno::NOTTY);
            }
        }
    }
    peer.check_in_step();
}

#[test]
fn malformed_features_are_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for flags in [1, DeviceFeature::GET | DeviceFeature::SET, 1 << 19 | 1] {
        let request = DeviceFeature { argsz: 8, flags, data: &[] };
        peer.request(&Request::Feature(request), &[]).refused(Errno::INVAL);
    }
    peer.call(Command::DEVICE_FEATURE, &[0; 7], &[]).refused(Errno::INVAL);
    peer.check_in_step();
}

#[test]
fn migration_data_are_not_supported() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let data = [7; 100];
    let read = MigData { argsz: 108, size: 100, data: &[] };
    let write = MigData { argsz: 108, size: 100, data: &data };
    peer.request(&Request::MigDataRead(read), &[]).refused(Errno::NOTSUP);
    peer.request(&Request::MigDataWrite(write), &[]).refused(Errno::NOTSUP);
    peer.check_in_step();
}
