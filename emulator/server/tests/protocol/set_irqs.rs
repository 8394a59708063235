//! DEVICE_SET_IRQS: every combination of index, range, data, action and descriptors.

use std::os::fd::{AsFd, OwnedFd};

use understudy_wire::{Command, Errno, IrqAction, IrqData, IrqIndex};

use crate::common::device::VECTORS;
use crate::common::peer::{Answer, count_events, event, memory};
use crate::common::{Fixture, Peer};
use crate::tracked_fd;

const NONE: u32 = 1;
const BOOL: u32 = 2;
const EVENTFD: u32 = 4;
const MASK: u32 = 8;
const UNMASK: u32 = 16;
const TRIGGER: u32 = 32;

const INTX: u32 = 0;
const MSI: u32 = 1;
const MSIX: u32 = 2;

fn set(peer: &mut Peer, words: [u32; 5], data: &[u8], fds: &[&OwnedFd]) -> Answer {
    let payload = [&words.map(u32::to_ne_bytes).concat()[..], data].concat();
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    peer.call(Command::DEVICE_SET_IRQS, &payload, &fds)
}

#[test]
fn bad_requests_are_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let fd = event();
    let vectors = u32::from(VECTORS);
    let plain = |flags, index, start, count| [20, flags, index, start, count];
    let cases: &[([u32; 5], &[u8], &[&OwnedFd])] = &[
        // argsz does not cover the request.
        ([3, TRIGGER | NONE, MSIX, 0, 0], &[], &[]),
        ([20, TRIGGER | BOOL, MSIX, 0, 1], &[1], &[]),
        // No such index, or no interrupts of it.
        (plain(TRIGGER | NONE, 5, 0, 0), &[], &[]),
        (plain(TRIGGER | NONE, u32::MAX, 0, 0), &[], &[]),
        (plain(TRIGGER | NONE, 4, 0, 0), &[], &[]),
        (plain(TRIGGER | NONE, 4, 0, 1), &[], &[]),
        // Errors are one, and cannot be masked.
        (plain(TRIGGER | NONE, 3, 0, 2), &[], &[]),
        (plain(MASK | NONE, 3, 0, 1), &[], &[]),
        (plain(UNMASK | EVENTFD, 3, 0, 1), &[], &[&fd]),
        // Flags that are not exactly one action and one kind of data.
        (plain(MASK | UNMASK, MSIX, 0, 0), &[], &[]),
        (plain(MASK | NONE | BOOL, MSIX, 0, 0), &[], &[]),
        (plain(NONE, MSIX, 0, 1), &[], &[]),
        (plain(TRIGGER, MSIX, 0, 1), &[], &[]),
        (plain(0, MSIX, 0, 0), &[], &[]),
        (plain(TRIGGER | NONE | 64, MSIX, 0, 1), &[], &[]),
        // Ranges.
        (plain(MASK | NONE, MSIX, vectors - 1, 2), &[], &[]),
        (plain(MASK | NONE, MSIX, vectors, 1), &[], &[]),
        (plain(MASK | NONE, MSIX, vectors + 1, 1), &[], &[]),
        (plain(TRIGGER | EVENTFD, MSIX, 7, u32::MAX), &[], &[]),
        (plain(TRIGGER | EVENTFD, MSIX, u32::MAX, u32::MAX), &[], &[]),
        (plain(MASK | NONE, INTX, 0, 2), &[], &[]),
        (plain(MASK | NONE, INTX, 1, 1), &[], &[]),
        // A count of 0 means all, and only goes with trigger and none.
        (plain(MASK | NONE, MSIX, 1, 0), &[], &[]),
        (plain(MASK | NONE, MSIX, 0, 0), &[], &[]),
        (plain(TRIGGER | BOOL, MSIX, 0, 0), &[], &[]),
        (plain(TRIGGER | NONE, MSIX, 1, 0), &[], &[]),
        // Booleans too few, too many, or with descriptors.
        ([21, TRIGGER | BOOL, MSIX, 0, 2], &[0], &[]),
        ([23, TRIGGER | BOOL, MSIX, 0, 2], &[0; 3], &[]),
        ([21, TRIGGER | BOOL, MSIX, 0, 1], &[0], &[&fd]),
        (plain(TRIGGER | NONE, MSIX, 0, 1), &[0], &[]),
        // Descriptors too few, too many, or where there should be none.
        (plain(TRIGGER | EVENTFD, MSIX, 0, 2), &[], &[&fd]),
        (plain(TRIGGER | EVENTFD, MSIX, 0, 1), &[], &[&fd, &fd]),
        (plain(TRIGGER | NONE, MSIX, 0, 1), &[], &[&fd]),
        // VFIO has eventfds that mask for INTx only.
        (plain(MASK | EVENTFD, MSIX, 0, 1), &[], &[&fd]),
        (plain(UNMASK | EVENTFD, MSI, 0, 1), &[], &[&fd]),
    ];
    for (words, data, fds) in cases {
        let answer = set(&mut peer, *words, data, fds);
        assert_eq!(answer.header.errno(), Some(Errno::INVAL), "{words:?} {data:?} {}", fds.len());
    }
    for length in 0..20 {
        peer.call(Command::DEVICE_SET_IRQS, &vec![0; length], &[]).refused(Errno::INVAL);
    }
    peer.check_in_step();
    assert_eq!(count_events(&fd), 0);
}

#[test]
fn what_is_not_an_eventfd_is_refused_and_closed() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let (pipe, tracker) = tracked_fd();
    for index in [IrqIndex::INTX, IrqIndex::MSI, IrqIndex::MSIX] {
        peer.set_triggers(index, 0, 1, &[pipe.as_fd()]).refused(Errno::INVAL);
    }
    set(&mut peer, [20, UNMASK | EVENTFD, INTX, 0, 1], &[], &[&pipe]).refused(Errno::INVAL);
    drop(pipe);
    tracker.wait_closed();
    let file = memory(4096);
    peer.set_triggers(IrqIndex::MSIX, 0, 1, &[file.as_fd()]).refused(Errno::INVAL);
    // All of them or none: the good one among them is not kept.
    let good = event();
    peer.set_triggers(IrqIndex::MSIX, 0, 2, &[good.as_fd(), file.as_fd()]).refused(Errno::INVAL);
    peer.irqs(IrqIndex::MSIX, (0, 2), IrqAction::Trigger, IrqData::None);
    assert_eq!(count_events(&good), 0);
}

/// The loopback test: the client triggers its own eventfds, with none and with booleans.
#[test]
fn the_client_triggers_its_own_interrupts() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let kinds = [(IrqIndex::INTX, 1), (IrqIndex::MSI, 4), (IrqIndex::MSIX, 16), (IrqIndex::ERR, 1)];
    for (index, count) in kinds {
        let fds: Vec<_> = (0..count).map(|_| event()).collect();
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        peer.set_triggers(index, 0, count, &borrowed).ok();
        let counts = || fds.iter().map(count_events).collect::<Vec<_>>();
        peer.irqs(index, (0, count), IrqAction::Trigger, IrqData::None);
        assert!(counts().iter().all(|count| *count == 1), "{index}");
        let last = count - 1;
        peer.irqs(index, (last, 1), IrqAction::Trigger, IrqData::None);
        let mut expected = vec![0; count as usize];
        expected[last as usize] = 1;
        assert_eq!(counts(), expected, "{index}");
        let even: Vec<u8> = (0..count).map(|vector| u8::from(vector % 2 == 0)).collect();
        peer.irqs(index, (0, count), IrqAction::Trigger, IrqData::Bool(&even));
        assert_eq!(counts(), even.iter().map(|on| u64::from(*on)).collect::<Vec<_>>(), "{index}");
        // Taken away one by one, then all at once: nothing is left to trigger.
        peer.set_triggers(index, 0, 1, &[]).ok();
        peer.irqs(index, (0, count), IrqAction::Trigger, IrqData::None);
        assert_eq!(counts()[0], 0, "{index}");
        peer.irqs(index, (0, 0), IrqAction::Trigger, IrqData::None);
        peer.irqs(index, (0, count), IrqAction::Trigger, IrqData::None);
        assert!(counts().iter().all(|count| *count == 0), "{index}");
    }
}

#[test]
fn a_trigger_can_be_replaced() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let (old, new) = (event(), event());
    peer.set_triggers(IrqIndex::MSIX, 5, 1, &[old.as_fd()]).ok();
    peer.set_triggers(IrqIndex::MSIX, 5, 1, &[new.as_fd()]).ok();
    peer.irqs(IrqIndex::MSIX, (5, 1), IrqAction::Trigger, IrqData::None);
    assert_eq!((count_events(&old), count_events(&new)), (0, 1));
}

/// An eventfd that the client never reads, and made blocking, does not stop the device.
#[test]
fn a_full_eventfd_does_not_block_the_device() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let full = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    peer.set_triggers(IrqIndex::MSIX, 0, 1, &[full.as_fd()]).ok();
    peer.irqs(IrqIndex::MSIX, (0, 1), IrqAction::Trigger, IrqData::None);
    peer.check_in_step();
}

/// QEMU sends as many descriptors at a time as it was told the server takes.
#[test]
fn all_vectors_are_set_in_batches() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let fds: Vec<_> = (0..VECTORS).map(|_| event()).collect();
    for (batch, start) in fds.chunks(16).zip((0..).step_by(16)) {
        let borrowed: Vec<_> = batch.iter().map(AsFd::as_fd).collect();
        let count = u32::try_from(batch.len()).unwrap();
        peer.set_triggers(IrqIndex::MSIX, start, count, &borrowed).ok();
    }
    peer.irqs(IrqIndex::MSIX, (0, VECTORS.into()), IrqAction::Trigger, IrqData::None);
    assert!(fds.iter().all(|fd| count_events(fd) == 1));
}
