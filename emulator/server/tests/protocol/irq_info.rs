//! DEVICE_GET_IRQ_INFO.

use understudy_wire::{Command, Errno, GetIrqInfo, IrqIndex, Request};

use crate::common::Fixture;
use crate::common::device::VECTORS;

#[test]
fn kinds_counts_and_masks() {
    const EVENTFD: u32 = 1;
    const MASKABLE: u32 = 2;
    const AUTOMASKED: u32 = 4;
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let expected = [
        (EVENTFD | MASKABLE | AUTOMASKED, 1),
        (EVENTFD | MASKABLE, 4),
        (EVENTFD | MASKABLE, u32::from(VECTORS)),
        (EVENTFD, 1),
        (EVENTFD, 0),
    ];
    for (index, (flags, count)) in (0..).zip(expected) {
        let get = GetIrqInfo { argsz: 16, index: IrqIndex(index) };
        let reply = peer.request(&Request::GetIrqInfo(get), &[]).ok();
        let words: Vec<u32> =
            reply.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
        assert_eq!(words, [16, flags, index, count]);
    }
}

#[test]
fn bad_requests_are_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for (argsz, index) in [(15, 0), (16, 5), (16, u32::MAX)] {
        let get = GetIrqInfo { argsz, index: IrqIndex(index) };
        peer.request(&Request::GetIrqInfo(get), &[]).refused(Errno::INVAL);
    }
    peer.call(Command::DEVICE_GET_IRQ_INFO, &[0; 15], &[]).refused(Errno::INVAL);
    peer.check_in_step();
}
