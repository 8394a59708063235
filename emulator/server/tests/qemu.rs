//! QEMU's client, with no guest: `-accel qtest` lets the test be the processor.
//!
//! Needs a QEMU with `vfio-user-pci`: the one that `ci/prepare` puts under `target/guest`, or the
//! one that `UNDERSTUDY_QEMU` names. Without one the tests say so and pass.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "in tests, what must not be is a failure"
)]

#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::device::{
    self, COPY, COPY_BY_JOB, DONE, MSIX_BAR, PBA, SHARED, SHARED_BAR, fault_status, reg,
};
use common::{Fixture, SOON};
use understudy_device::{Bar, DmaFaultKind};

/// Where the test puts the BARs: in the machine's hole for 32-bit devices.
const BARS: [(u32, u64); 3] =
    [(0, 0xe000_0000), (MSIX_BAR, 0xe001_0000), (SHARED_BAR, 0xe002_0000)];
/// The function's address on bus 0 for configuration mechanism 1.
const CONFIG_ADDRESS: u32 = 0x8000_0000 | 4 << 11;
/// Guest memory that nothing else uses.
const SOURCE: u64 = 0x10_0000;
const TARGET: u64 = 0x20_0000;
const MESSAGE: u64 = 0x30_0000;

fn qemu_path() -> Option<PathBuf> {
    let prepared = std::env::var_os("UNDERSTUDY_GUEST_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/guest")),
        PathBuf::from,
    );
    let path = std::env::var_os("UNDERSTUDY_QEMU")
        .map_or_else(|| prepared.join("qemu/bin/qemu-system-x86_64"), PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no {} (run ci/prepare, or set UNDERSTUDY_QEMU)", path.display());
    None
}

/// A machine without a running processor, driven over the qtest protocol.
struct Qemu {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Qemu {
    /// Starts a machine with the fixture's device in slot 4. `shared` memory comes with
    /// descriptors; other memory is reached by messages.
    fn start(fixture: &Fixture, shared: bool) -> Option<Self> {
        let socket = fixture.server.path().display();
        let memory = if shared { "memory-backend-memfd,share=on" } else { "memory-backend-ram" };
        let mut child = Command::new(qemu_path()?)
            .args(["-M", "q35", "-accel", "qtest", "-m", "64M", "-nodefaults", "-display", "none"])
            .args(["-object", &format!("{memory},id=m0,size=64M")])
            .args(["-machine", "memory-backend=m0", "-qtest", "stdio", "-qtest-log", "none"])
            .args(["-device"])
            .arg(format!(
                "{{\"driver\":\"vfio-user-pci\",\"addr\":\"0x4\",\
                 \"socket\":{{\"type\":\"unix\",\"path\":\"{socket}\"}}}}"
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut qemu = Self { child, input, output };
        qemu.place_bars();
        Some(qemu)
    }

    /// One command; returns what follows "OK".
    fn command(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").unwrap();
        let mut line = String::new();
        assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "QEMU ended at {command}");
        let answer = line.trim_end().strip_prefix("OK");
        answer.unwrap_or_else(|| panic!("{command}: {line}")).trim().to_owned()
    }

    fn number(&mut self, command: &str) -> u64 {
        let answer = self.command(command);
        u64::from_str_radix(answer.trim_start_matches("0x"), 16).unwrap()
    }

    fn read_config(&mut self, offset: u32) -> u32 {
        self.command(&format!("outl 0xcf8 {:#x}", CONFIG_ADDRESS | offset));
        self.number("inl 0xcfc") as u32
    }

    fn write_config(&mut self, offset: u32, value: u32) {
        self.command(&format!("outl 0xcf8 {:#x}", CONFIG_ADDRESS | offset));
        self.command(&format!("outl 0xcfc {value:#x}"));
    }

    fn place_bars(&mut self) {
        for (bar, address) in BARS {
            self.write_config(0x10 + 4 * bar, address as u32);
            self.write_config(0x14 + 4 * bar, 0);
        }
        self.write_config(4, 6);
    }

    fn bar(bar: u32) -> u64 {
        BARS.iter().find(|(index, _)| *index == bar).unwrap().1
    }

    fn reg(&mut self, offset: u64) -> u32 {
        self.number(&format!("readl {:#x}", Self::bar(0) + offset)) as u32
    }

    fn set_reg(&mut self, offset: u64, value: u32) {
        self.command(&format!("writel {:#x} {value:#x}", Self::bar(0) + offset));
    }

    fn write(&mut self, address: u64, data: &[u8]) {
        let digits: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        self.command(&format!("write {address:#x} {:#x} 0x{digits}", data.len()));
    }

    fn read(&mut self, address: u64, length: usize) -> Vec<u8> {
        let digits = self.command(&format!("read {address:#x} {length:#x}"));
        let digits = digits.trim_start_matches("0x").as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    /// Starts a copy by the device.
    fn start_copy(&mut self, source: u64, target: u64, length: u32, doorbell: u32) {
        self.set_reg(reg::SOURCE, source as u32);
        self.set_reg(reg::TARGET, target as u32);
        self.set_reg(reg::LENGTH, length);
        self.set_reg(reg::DOORBELL, doorbell);
    }

    /// A copy by the device. Returns its last status.
    fn copy(&mut self, source: u64, target: u64, length: u32, doorbell: u32) -> u32 {
        self.start_copy(source, target, length, doorbell);
        loop {
            let status = self.reg(reg::STATUS);
            if status >= DONE {
                return status;
            }
        }
    }

    /// The offset of a capability in config space.
    fn capability(&mut self, id: u32) -> u32 {
        let mut at = self.read_config(0x34) & 0xff;
        loop {
            assert_ne!(at, 0, "no capability {id:#x}");
            let head = self.read_config(at);
            if head & 0xff == id {
                return at;
            }
            at = head >> 8 & 0xff;
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn config_space_and_registers() {
    let fixture = Fixture::new();
    let Some(mut qemu) = Qemu::start(&fixture, true) else { return };
    assert_eq!(qemu.read_config(0), 0x5678_1234);
    assert_eq!(qemu.read_config(8), 0x0b40_0002);
    assert_eq!(qemu.read_config(0x2c), 0x0001_1234);
    assert_eq!(qemu.read_config(0x10), Qemu::bar(0) as u32 | 4);
    for id in [0x05, 0x10, 0x11] {
        qemu.capability(id);
    }
    assert_eq!(qemu.reg(reg::ID), device::ID);
    qemu.set_reg(reg::SCRATCH, 0x0bad_cafe);
    assert_eq!(qemu.reg(reg::SCRATCH), 0x0bad_cafe);
    assert_eq!(qemu.reg(reg::HOLE), 0xeeee_eeee);
    assert_eq!(fixture.server.counters().unwrap().errors, 0, "QEMU was refused something");
}

/// Waits for the end of a copy at the device. With qtest, QEMU's main thread does what a processor
/// would, and while it waits for a register it does not serve DMA messages.
fn copy_status(fixture: &Fixture) -> u32 {
    loop {
        let status = fixture.server.control().call(|device| {
            let mut status = [0; 4];
            device.function.bar_read(device.host, Bar(0), reg::STATUS, &mut status).unwrap();
            u32::from_le_bytes(status)
        });
        if status.unwrap() >= DONE {
            return status.unwrap();
        }
    }
}

fn copies_memory(shared: bool) {
    let fixture = Fixture::new();
    let Some(mut qemu) = Qemu::start(&fixture, shared) else { return };
    let data: Vec<u8> = (0..9000).map(|index| (index * 13 % 253) as u8).collect();
    qemu.write(SOURCE + 5, &data);
    for doorbell in [COPY, COPY_BY_JOB] {
        qemu.write(TARGET, &vec![0; data.len()]);
        qemu.start_copy(SOURCE + 5, TARGET, data.len() as u32, doorbell);
        assert_eq!(copy_status(&fixture), DONE);
        assert!(qemu.read(TARGET, data.len()) == data, "memory was not copied as it is");
    }
    // Nothing is there.
    qemu.start_copy(0xd000_0000, TARGET, 16, COPY);
    assert_eq!(copy_status(&fixture), fault_status(DmaFaultKind::Unmapped));
    let counters = fixture.server.counters().unwrap();
    assert_eq!(counters.dma_messages == 0, shared, "memory was reached the other way");
    assert_eq!(counters.errors, 0, "QEMU was refused something");
}

#[test]
fn memory_with_descriptors() {
    copies_memory(true);
}

#[test]
fn memory_by_messages() {
    copies_memory(false);
}

/// The device sees what is written to a shared area, and the other way round, without a message.
#[test]
fn a_shared_area_is_mapped() {
    let fixture = Fixture::new();
    let Some(mut qemu) = Qemu::start(&fixture, true) else { return };
    let at = Qemu::bar(SHARED_BAR) + SHARED.offset + 0x40;
    let before = fixture.server.counters().unwrap().messages;
    qemu.command(&format!("writel {at:#x} 0x11223344"));
    let seen = fixture.server.control().call(|device| {
        let mut word = [0; 4];
        let bar = Bar(SHARED_BAR as u8);
        device.host.shared_read(bar, SHARED.offset + 0x40, &mut word).unwrap();
        device.host.shared_write(bar, SHARED.offset + 0x44, &[1, 0, 0, 0]).unwrap();
        word
    });
    assert_eq!(seen, Ok([0x44, 0x33, 0x22, 0x11]));
    assert_eq!(qemu.number(&format!("readl {:#x}", at + 4)), 1);
    assert_eq!(fixture.server.counters().unwrap().messages, before, "accesses were trapped");
}

/// MSI-X messages reach the address in the table: here, plain memory.
#[test]
fn msix_messages_arrive() {
    let fixture = Fixture::new();
    let Some(mut qemu) = Qemu::start(&fixture, true) else { return };
    let msix = qemu.capability(0x11);
    let table = Qemu::bar(MSIX_BAR);
    for vector in 0..device::VECTORS {
        let entry = table + u64::from(vector) * 16;
        let address = MESSAGE + u64::from(vector) * 4;
        qemu.command(&format!("writel {entry:#x} {address:#x}"));
        qemu.command(&format!("writel {:#x} 0", entry + 4));
        qemu.command(&format!("writel {:#x} {:#x}", entry + 8, 0xa000 + u32::from(vector)));
        qemu.command(&format!("writel {:#x} 0", entry + 12));
    }
    let control = qemu.read_config(msix);
    qemu.write_config(msix, control | 0x8000_0000);
    for vector in [0, 1, device::VECTORS - 1] {
        let vector = u32::from(vector);
        qemu.set_reg(reg::RAISE, vector);
        let address = MESSAGE + u64::from(vector) * 4;
        // Each turn is a round trip through QEMU's main loop, which delivers it.
        let arrived = (0..10_000)
            .any(|_| qemu.number(&format!("readl {address:#x}")) == u64::from(0xa000 + vector));
        assert!(arrived, "vector {vector} was not delivered");
    }
    // The function mask holds messages back, and the pending bits are the device's.
    qemu.write_config(msix, control | 0xc000_0000);
    qemu.set_reg(reg::RAISE, 2);
    let pending = format!("readq {:#x}", Qemu::bar(MSIX_BAR) + u64::from(PBA));
    assert_eq!(qemu.number(&pending), 4);
    qemu.write_config(msix, control | 0x8000_0000);
    let address = MESSAGE + 8;
    let arrived = (0..10_000).any(|_| qemu.number(&format!("readl {address:#x}")) == 0xa002);
    assert!(arrived, "the pending vector was not delivered");
    assert_eq!(qemu.number(&pending), 0);
}

/// QEMU is killed; the next one finds the device as new.
#[test]
fn machines_come_and_go() {
    let fixture = Fixture::new();
    for round in 1..=3 {
        let Some(mut qemu) = Qemu::start(&fixture, true) else { return };
        assert_eq!(qemu.reg(reg::SCRATCH), 0);
        qemu.set_reg(reg::SCRATCH, 1);
        qemu.write(SOURCE, b"round");
        assert_eq!(qemu.copy(SOURCE, TARGET, 5, COPY), DONE);
        drop(qemu);
        assert!(fixture.server.wait_detached(round, SOON));
        assert_eq!(fixture.server.counters().unwrap().dma_maps, 0);
    }
}
