//! The `vfio_user` crate's client, written by others, drives our server.

mod common;

use common::Fixture;
use vfio_user::Client;

#[test]
fn it_reads_config_space() {
    let fixture = Fixture::new();
    let mut client = Client::new(fixture.server.path()).unwrap();
    let mut ids = [0; 4];
    client.region_read(7, 0, &mut ids).unwrap();
    assert_eq!(ids, [0x34, 0x12, 0x78, 0x56]);
}
