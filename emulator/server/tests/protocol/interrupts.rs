//! Interrupts of the device, from the register that raises them to the client's eventfd.

use std::os::fd::AsFd;

use understudy_wire::{IrqAction, IrqData, IrqIndex};

use crate::common::device::{MSIX_BAR, PBA, reg};
use crate::common::peer::{count_events, event, wait_event};
use crate::common::{Fixture, Peer};

const ONE: (u32, u32) = (0, 1);

/// The level is signalled once, then masked until the client unmasks it, and signalled again if it
/// is still there.
#[test]
fn intx_masks_itself() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let line = event();
    peer.set_triggers(IrqIndex::INTX, 0, 1, &[line.as_fd()]).ok();
    peer.set_reg(reg::LINE, 1);
    assert_eq!(wait_event(&line), 1);
    peer.set_reg(reg::LINE, 0);
    peer.set_reg(reg::LINE, 1);
    assert_eq!(count_events(&line), 0, "signalled while masked");
    peer.irqs(IrqIndex::INTX, ONE, IrqAction::Unmask, IrqData::None);
    assert_eq!(count_events(&line), 1, "still asserted, but not signalled");
    peer.set_reg(reg::LINE, 0);
    peer.irqs(IrqIndex::INTX, ONE, IrqAction::Unmask, IrqData::Bool(&[1]));
    assert_eq!(count_events(&line), 0);
    peer.irqs(IrqIndex::INTX, ONE, IrqAction::Mask, IrqData::Bool(&[1]));
    peer.set_reg(reg::LINE, 1);
    assert_eq!(count_events(&line), 0, "signalled while the client masks it");
    peer.irqs(IrqIndex::INTX, ONE, IrqAction::Unmask, IrqData::Bool(&[0]));
    assert_eq!(count_events(&line), 0, "unmasked by a false boolean");
    peer.irqs(IrqIndex::INTX, ONE, IrqAction::Unmask, IrqData::None);
    assert_eq!(count_events(&line), 1);
}

/// KVM's resampler signals an eventfd when the guest has served the interrupt.
#[test]
fn intx_is_unmasked_by_an_eventfd() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let (line, mask, unmask) = (event(), event(), event());
    peer.set_triggers(IrqIndex::INTX, 0, 1, &[line.as_fd()]).ok();
    set_control(&mut peer, IrqAction::Unmask, Some(&unmask));
    set_control(&mut peer, IrqAction::Mask, Some(&mask));
    peer.set_reg(reg::LINE, 1);
    for _ in 0..5 {
        assert_eq!(wait_event(&line), 1);
        rustix::io::write(&unmask, &1u64.to_ne_bytes()).unwrap();
    }
    assert_eq!(wait_event(&line), 1);
    // Replaced, and then taken away: the old one does nothing.
    let other = event();
    set_control(&mut peer, IrqAction::Unmask, Some(&other));
    rustix::io::write(&unmask, &1u64.to_ne_bytes()).unwrap();
    peer.check_in_step();
    assert_eq!(count_events(&line), 0);
    rustix::io::write(&other, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(wait_event(&line), 1);
    set_control(&mut peer, IrqAction::Unmask, None);
    set_control(&mut peer, IrqAction::Mask, None);
    rustix::io::write(&other, &1u64.to_ne_bytes()).unwrap();
    peer.check_in_step();
    assert_eq!(count_events(&line), 0);
}

fn set_control(peer: &mut Peer, action: IrqAction, fd: Option<&std::os::fd::OwnedFd>) {
    let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
    let index = IrqIndex::INTX;
    let set =
        understudy_wire::SetIrqs { index, start: 0, count: 1, action, data: IrqData::Eventfd };
    peer.request(&understudy_wire::Request::SetIrqs(set), &fds).ok();
}

#[test]
fn msix_vectors_reach_their_eventfds() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let (low, high) = (event(), event());
    peer.set_triggers(IrqIndex::MSIX, 0, 1, &[low.as_fd()]).ok();
    peer.set_triggers(IrqIndex::MSIX, 39, 1, &[high.as_fd()]).ok();
    for vector in [0, 39] {
        peer.set_msix_table_entry(vector, false);
    }
    peer.enable_msix();
    peer.set_reg(reg::RAISE, 39);
    assert_eq!((count_events(&low), wait_event(&high)), (0, 1));
    peer.set_reg(reg::RAISE, 0);
    assert_eq!((wait_event(&low), count_events(&high)), (1, 0));
    // Neither a vector without a trigger nor one that does not exist does harm.
    peer.set_reg(reg::RAISE, 5);
    peer.set_reg(reg::RAISE, 4000);
    peer.check_in_step();
}

#[test]
fn masked_vectors_are_pending_until_unmasked() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let fd = event();
    peer.set_triggers(IrqIndex::MSIX, 3, 1, &[fd.as_fd()]).ok();
    peer.enable_msix();
    peer.set_msix_table_entry(3, true);
    peer.set_reg(reg::RAISE, 3);
    assert_eq!(count_events(&fd), 0);
    assert_eq!(peer.read(MSIX_BAR, PBA.into(), 8).ok()[16..], [8, 0, 0, 0, 0, 0, 0, 0]);
    peer.set_msix_table_entry(3, false);
    assert_eq!(count_events(&fd), 1);
    assert_eq!(peer.read(MSIX_BAR, PBA.into(), 8).ok()[16..], [0; 8]);
    // The client's own mask works the same way.
    peer.irqs(IrqIndex::MSIX, (3, 1), IrqAction::Mask, IrqData::None);
    peer.set_reg(reg::RAISE, 3);
    assert_eq!(count_events(&fd), 0);
    peer.irqs(IrqIndex::MSIX, (3, 1), IrqAction::Unmask, IrqData::None);
    assert_eq!(count_events(&fd), 1);
}

#[test]
fn a_vector_without_a_trigger_is_sent_once_it_has_one() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    peer.set_msix_table_entry(7, false);
    peer.enable_msix();
    peer.set_reg(reg::RAISE, 7);
    let fd = event();
    peer.set_triggers(IrqIndex::MSIX, 7, 1, &[fd.as_fd()]).ok();
    assert_eq!(count_events(&fd), 1);
}

/// A device that sleeps until an instant is woken then, without any message.
#[test]
fn a_timer_of_the_device_expires() {
    let fixture = Fixture::new();
    let mut peer = fixture.enabled();
    let fd = event();
    peer.set_triggers(IrqIndex::MSIX, 0, 1, &[fd.as_fd()]).ok();
    peer.set_msix_table_entry(0, false);
    peer.enable_msix();
    let start = std::time::Instant::now();
    peer.set_reg(reg::TIMER, 30_000_000);
    assert_eq!(wait_event(&fd), 1);
    assert!(start.elapsed() >= std::time::Duration::from_millis(30));
}
