//! VERSION.

use std::os::fd::AsFd;

use understudy_server::Options;
use understudy_wire::{Command, Errno};

use crate::common::peer::version;
use crate::common::{Fixture, Peer};
use crate::tracked_fd;

fn capabilities(json: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(json).unwrap()["capabilities"].clone()
}

#[test]
fn a_client_without_version_data_gets_none() {
    let fixture = Fixture::new();
    let mut peer = fixture.connect();
    let reply = peer.call(Command::VERSION, &version(0, 1, b""), &[]).ok();
    assert_eq!(reply, version(0, 1, b""));
    peer.check_in_step();
}

#[test]
fn an_empty_object_is_enough() {
    let fixture = Fixture::new();
    assert_eq!(fixture.connect().negotiate_with("{}"), "{}");
}

/// QEMU receives the reply into the buffer of its request.
#[test]
fn the_reply_is_never_larger_than_the_request() {
    let fixture = Fixture::new();
    let offers = [
        "{}",
        "{\"capabilities\":{}}",
        "{\"capabilities\":{\"max_msg_fds\":1}}",
        "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\
         \"max_dma_maps\":65535,\"pgsizes\":4096,\"write_multiple\":true,\
         \"migration\":{\"pgsize\":4096,\"max_bitmap_size\":268435456}}}",
    ];
    for (index, offer) in (1..).zip(offers) {
        let mut peer = fixture.connect();
        let reply = peer.negotiate_with(offer);
        assert!(reply.len() <= offer.len(), "{offer} was answered by {reply}");
        peer.check_in_step();
        drop(peer);
        assert!(fixture.server.wait_detached(index, crate::common::SOON));
    }
}

#[test]
fn limits_are_told_to_a_client_that_asks() {
    let options = Options { write_multiple: true, ..Options::default() };
    let fixture = Fixture::with(options);
    let told = fixture.connect().negotiate_with(
        "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":2097152,\
         \"max_dma_maps\":65535,\"pgsizes\":4096,\"write_multiple\":true}}",
    );
    let told = capabilities(&told);
    assert_eq!(told["max_dma_maps"], 4096);
    assert_eq!(told["write_multiple"], true);
    assert_eq!(told["max_msg_fds"], 16);
    assert!(told.get("twin_socket").is_none());
}

#[test]
fn a_later_minor_version_is_answered_with_ours() {
    let fixture = Fixture::new();
    let reply = fixture.connect().call(Command::VERSION, &version(0, 9, b""), &[]).ok();
    assert_eq!(reply, version(0, 1, b""));
}

#[track_caller]
fn refused(payload: &[u8]) {
    let fixture = Fixture::new();
    let mut peer = fixture.connect();
    peer.call(Command::VERSION, payload, &[]).refused(Errno::INVAL);
    // The stream is in step, and a better proposal is taken.
    peer.negotiate();
    peer.check_in_step();
}

#[test]
fn malformed_versions_are_refused() {
    refused(&[]);
    refused(&[0, 0, 1]);
    refused(&version(1, 0, b""));
    refused(&version(999, 0, b"{}"));
    refused(&[&version(0, 1, b"")[..], b"{}"].concat());
    let texts: [&[u8]; 9] = [
        b"{",
        b"\"",
        b"\xff\xfe",
        b"{ \"capabilities\": \"23\" }",
        b"{ \"capabilities\": { \"max_msg_fds\": \"foo\" } }",
        b"{ \"capabilities\": { \"max_msg_fds\": -1 } }",
        b"{ \"capabilities\": { \"max_data_xfer_size\": 0 } }",
        b"{ \"capabilities\": { \"migration\": \"23\" } }",
        b"{ \"capabilities\": { \"migration\": { \"pgsize\": 4095 } } }",
    ];
    for text in texts {
        refused(&version(0, 1, text));
    }
}

#[test]
fn nothing_is_served_before_the_version() {
    let fixture = Fixture::new();
    let mut peer = fixture.connect();
    for command in Command::ALL.iter().filter(|command| **command != Command::VERSION) {
        peer.call(*command, &[0; 32], &[]).refused(Errno::INVAL);
    }
    peer.call(Command(999), &[0], &[]).refused(Errno::INVAL);
    peer.negotiate();
    peer.check_in_step();
}

#[test]
fn the_version_is_agreed_on_once() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    peer.call(Command::VERSION, &version(0, 1, b"{}"), &[]).refused(Errno::INVAL);
    peer.check_in_step();
}

#[test]
fn descriptors_with_the_version_are_refused_and_closed() {
    let fixture = Fixture::new();
    let mut peer = fixture.connect();
    let (fd, tracker) = tracked_fd();
    peer.call(Command::VERSION, &version(0, 1, b""), &[fd.as_fd()]).refused(Errno::INVAL);
    drop(fd);
    tracker.wait_closed();
    peer.negotiate();
    peer.check_in_step();
}

#[test]
fn the_data_limit_of_the_client_bounds_dma_messages_only() {
    let fixture = Fixture::new();
    let mut peer: Peer = fixture.connect();
    peer.negotiate_with("{\"capabilities\":{\"max_data_xfer_size\":16}}");
    assert_eq!(peer.read_config(0, 64).len(), 64);
}
