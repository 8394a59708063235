//! Clients that come, die and come back; servers that start, stop and share a process.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "in tests, what must not be is a failure"
)]

#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use common::device::{self, COPY, COPY_BY_JOB, DONE, reg};
use common::peer::{access, event, memory, version, wait_event};
use common::{Fixture, SOON, TestDevice};
use understudy_device::{Bar, ResetKind};
use understudy_pci::PciFunction;
use understudy_server::{BindError, DeviceServer, Options};
use understudy_wire::{Command, Header, IrqIndex};

fn function() -> PciFunction {
    PciFunction::new(Box::new(TestDevice::new())).unwrap()
}

#[test]
fn a_second_client_is_turned_away() {
    let fixture = Fixture::new();
    let mut first = fixture.attach();
    for _ in 0..3 {
        let mut second = fixture.connect();
        assert!(second.try_receive().is_none(), "the second client was served");
    }
    first.check_in_step();
    assert_eq!(fixture.server.counters().unwrap().refused_clients, 3);
    drop(first);
    fixture.attach_after(1).check_in_step();
}

/// A client that is gone does not stand in the way of the next, even if the server has not yet
/// seen that it is gone.
#[test]
fn the_next_client_may_come_at_once() {
    let fixture = Fixture::new();
    for _ in 0..200 {
        let mut peer = fixture.attach();
        peer.post(Command::REGION_READ, &access(7, 0, 4), &[]);
    }
    assert_eq!(fixture.server.counters().unwrap().refused_clients, 0);
}

#[test]
fn clients_may_die_anywhere_in_a_message() {
    let fixture = Fixture::new();
    let mut message = Header::request(1, Command::VERSION, 16 + 26).to_bytes().to_vec();
    message.extend_from_slice(&version(0, 1, b"{\"capabilities\":{} }  "));
    let mut ended = 0;
    for cut in 0..message.len() {
        let mut peer = fixture.connect();
        peer.stream.write_all(&message[..cut]).unwrap();
        drop(peer);
        ended += 1;
        assert!(fixture.server.wait_detached(ended, SOON), "cut at {cut}");
    }
    fixture.attach().check_in_step();
}

#[test]
fn the_device_is_as_new_for_each_client() {
    let fixture = Fixture::new();
    let memory = memory(0x2000);
    let interrupt = event();
    let mut first = fixture.enabled();
    first.map(Some(memory.as_fd()), 0, 0, 0x2000).ok();
    first.set_triggers(IrqIndex::MSIX, 0, 1, &[interrupt.as_fd()]).ok();
    first.set_reg(reg::SCRATCH, 5);
    first.set_reg(reg::ENDLESS, 1);
    first.prepare_copy(0, 0x1000, 0x1000);
    first.set_reg(reg::DOORBELL, COPY_BY_JOB);
    drop(first);
    let mut second = fixture.attach_after(1);
    assert_eq!(second.read_config(4, 2), [0, 0]);
    second.enable();
    assert_eq!(second.reg(reg::SCRATCH), 0);
    assert_eq!(second.reg(reg::STATUS), device::IDLE);
    second.prepare_copy(0, 0x1000, 16);
    assert_eq!(second.ring(COPY), 0x100, "what the first client had mapped can still be reached");
    let counters = fixture.server.counters().unwrap();
    assert_eq!((counters.clients, counters.dma_maps), (2, 0));
}

#[test]
fn one_process_serves_many_devices() {
    let fixtures: Vec<_> = (0..8).map(|_| Fixture::new()).collect();
    let mut peers: Vec<_> = fixtures.iter().map(Fixture::enabled).collect();
    for (value, peer) in (100..).zip(&mut peers) {
        peer.set_reg(reg::SCRATCH, value);
    }
    for (value, peer) in (100..).zip(&mut peers) {
        assert_eq!(peer.reg(reg::SCRATCH), value);
    }
    // One that is stopped, or whose client dies, does not disturb the others.
    let mut fixtures = fixtures;
    fixtures.remove(0).server.stop().unwrap();
    assert!(peers.remove(0).try_receive().is_none(), "a stopped server keeps its client");
    drop(peers.remove(0));
    for (value, peer) in (102..).zip(&mut peers) {
        assert_eq!(peer.reg(reg::SCRATCH), value);
    }
}

#[test]
fn closures_run_on_the_devices_thread() {
    let fixture = Fixture::new();
    let control = fixture.server.control().clone();
    let name = control.call(|_| std::thread::current().name().map(String::from)).unwrap();
    assert_eq!(name.as_deref(), Some("test"));
    let mut peer = fixture.enabled();
    peer.set_reg(reg::SCRATCH, 0x55);
    let seen = control.call(|device| {
        let mut data = [0; 4];
        device.function.bar_read(device.host, Bar(0), reg::SCRATCH, &mut data).unwrap();
        (device.attached, data)
    });
    assert_eq!(seen, Ok((true, [0x55, 0, 0, 0])));
    control.call(|device| device.function.reset(ResetKind::Function)).unwrap();
    assert_eq!(fixture.server.inspect().unwrap().counter("resets"), Some(1));
    fixture.server.stop().unwrap();
    assert!(control.call(|_| ()).is_err(), "a stopped server runs closures");
}

#[test]
fn work_that_a_closure_starts_is_done() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let (memory, interrupt) = (memory(0x2000), event());
    peer.map(Some(memory.as_fd()), 0, 0, 0x2000).ok();
    peer.set_triggers(IrqIndex::MSIX, 0, 1, &[interrupt.as_fd()]).ok();
    peer.prepare_copy(0, 0x1000, 64);
    let ring = |device: &mut understudy_server::Device<'_>| {
        let doorbell = COPY.to_le_bytes();
        device.function.bar_write(device.host, Bar(0), reg::DOORBELL, &doorbell).unwrap();
    };
    fixture.server.control().call(ring).unwrap();
    assert_eq!(wait_event(&interrupt), 1);
    assert_eq!(peer.reg(reg::STATUS), DONE);
}

#[test]
fn stopping_disconnects_the_client_and_removes_the_socket() {
    let fixture = Fixture::new();
    let path = fixture.server.path().to_path_buf();
    let mut peer = fixture.attach();
    assert!(path.exists());
    fixture.server.stop().unwrap();
    assert!(!path.exists());
    assert!(peer.try_receive().is_none());
}

#[test]
fn a_busy_server_stops_too() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    peer.set_reg(reg::ENDLESS, 1);
    fixture.server.stop().unwrap();
}

#[test]
fn sockets_of_the_dead_are_replaced_and_those_of_the_living_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead server's socket");
    let server = DeviceServer::bind(&path, function(), Options::default()).unwrap();
    let second = DeviceServer::bind(&path, function(), Options::default());
    assert!(matches!(second.err(), Some(BindError::InUse { .. })));
    server.stop().unwrap();
    std::fs::write(&path, "precious").unwrap();
    let third = DeviceServer::bind(&path, function(), Options::default());
    assert!(matches!(third.err(), Some(BindError::NotASocket { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_path_that_no_socket_can_have_is_explained() {
    let path = format!("/tmp/{}", "x".repeat(200));
    let error = DeviceServer::bind(path, function(), Options::default()).err().unwrap();
    assert!(
        error.to_string().ends_with("too long for a socket path (at most 107 bytes)"),
        "{error}"
    );
    let missing = DeviceServer::bind("/nowhere/at/all", function(), Options::default());
    assert!(matches!(missing.err(), Some(BindError::System { action: "bind", .. })));
}

/// A socket that someone else has put in the place of ours is not removed.
#[test]
fn only_its_own_socket_is_removed() {
    let fixture = Fixture::new();
    let path = fixture.server.path().to_path_buf();
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    fixture.server.stop().unwrap();
    assert!(path.exists());
    drop(other);
}

#[test]
fn waiting_for_clients_ends_when_they_come_and_go() {
    let fixture = Fixture::new();
    assert!(!fixture.server.sessions().is_attached());
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(fixture.server.wait_attached(1, SOON)));
        let stream = UnixStream::connect(fixture.server.path()).unwrap();
        scope.spawn(|| assert!(fixture.server.wait_detached(1, SOON)));
        assert!(fixture.server.wait_attached(1, SOON));
        drop(stream);
    });
    let sessions = fixture.server.sessions();
    assert_eq!((sessions.started, sessions.ended, sessions.stopped), (1, 1, false));
    assert!(!fixture.server.wait_attached(2, std::time::Duration::from_millis(1)));
}
