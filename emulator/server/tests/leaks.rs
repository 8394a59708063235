//! A thousand clients that attach, use the device and die leave nothing behind. Alone in its
//! process, since it counts what the process has.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "in tests, what must not be is a failure"
)]

#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

use std::os::fd::AsFd;

use common::device::{COPY, COPY_BY_JOB, DONE, SHARED_BAR, reg};
use common::peer::{access, event, memory};
use common::{Fixture, SOON};
use understudy_wire::{Command, GetRegionInfo, IrqIndex, RegionIndex, Request};

/// What a process has of what it could leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Footprint {
    fds: usize,
    threads: usize,
    mappings: usize,
    /// Resident memory in KiB.
    resident: usize,
}

impl Footprint {
    fn now() -> Self {
        let entries = |path| std::fs::read_dir(path).unwrap().count();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Self {
            fds: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            mappings: std::fs::read_to_string("/proc/self/maps")
                .unwrap()
                .lines()
                .filter(|line| line.contains("memfd:"))
                .count(),
            resident: resident.trim().trim_end_matches(" kB").parse().unwrap(),
        }
    }
}

/// One client's life: everything that costs the server something, and then sudden death.
fn live_and_die(fixture: &Fixture, round: u64) {
    let mut peer = fixture.enabled();
    let memory = memory(0x10_0000);
    peer.map(Some(memory.as_fd()), 0, 0, 0x10_0000).ok();
    peer.map(None, 0, 1 << 32, 0x10_0000).ok();
    let fds: Vec<_> = (0..16).map(|_| event()).collect();
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    peer.set_triggers(IrqIndex::MSIX, 0, 16, &borrowed).ok();
    let get = GetRegionInfo { argsz: 64, index: RegionIndex(SHARED_BAR) };
    assert_eq!(peer.request(&Request::GetRegionInfo(get), &[]).fds.len(), 1);
    peer.prepare_copy(0, 0x8_0000, 0x1000);
    assert_eq!(peer.ring(COPY), DONE);
    assert_eq!(peer.ring(COPY_BY_JOB), DONE);
    match round % 4 {
        // With a job in flight.
        0 => peer.set_reg(reg::DOORBELL, COPY_BY_JOB),
        // While the server waits for its memory.
        1 => {
            peer.set_reg64(reg::SOURCE, 1 << 32);
            peer.post(Command::REGION_READ, &access(0, reg::PEEK, 4), &[]);
            assert_eq!(peer.receive().header.command, Command::DMA_READ);
        }
        // In the middle of a message that has descriptors.
        2 => peer.send(&[1; 20], &[memory.as_fd(), fds[0].as_fd()]),
        // With its memory gone.
        _ => {
            rustix::fs::ftruncate(&memory, 0).unwrap();
            assert!(peer.ring(COPY) > DONE);
        }
    }
    drop(peer);
    assert!(fixture.server.wait_detached(round + 1, SOON), "round {round}");
}

#[test]
fn a_thousand_lives_leave_nothing() {
    const WARM_UP: u64 = 100;
    const ROUNDS: u64 = 1000;
    let fixture = Fixture::new();
    let idle = Footprint::now();
    for round in 0..WARM_UP {
        live_and_die(&fixture, round);
    }
    let before = Footprint::now();
    for round in WARM_UP..WARM_UP + ROUNDS {
        live_and_die(&fixture, round);
    }
    let after = Footprint::now();
    println!("idle {idle:?}\nafter {WARM_UP} lives {before:?}\nafter {ROUNDS} more {after:?}");
    let counts = |footprint: Footprint| (footprint.fds, footprint.threads, footprint.mappings);
    assert_eq!(counts(before), counts(after));
    // The pool's threads and nothing else have come since the server was idle.
    assert_eq!((idle.fds, idle.mappings), (after.fds, after.mappings));
    let growth = after.resident.saturating_sub(before.resident);
    assert!(growth < 1024, "{growth} KiB more after {ROUNDS} lives");
    fixture.server.stop().unwrap();
}
