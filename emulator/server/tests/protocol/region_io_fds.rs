//! DEVICE_GET_REGION_IO_FDS: no region has any.

use understudy_wire::{Command, Errno, GetRegionIoFds, RegionIndex, Request};

use crate::common::Fixture;

#[test]
fn the_list_is_empty() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    for index in [0, 7] {
        let get = GetRegionIoFds { argsz: 512, index: RegionIndex(index) };
        let answer = peer.request(&Request::GetRegionIoFds(get), &[]);
        assert!(answer.fds.is_empty());
        let words: Vec<u32> = answer
            .ok()
            .chunks(4)
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(words, [16, 0, index, 0]);
    }
}

#[test]
fn bad_requests_are_refused() {
    let fixture = Fixture::new();
    let mut peer = fixture.attach();
    let words = |words: [u32; 4]| words.map(u32::to_ne_bytes).concat();
    for bad in [
        [15, 0, 0, 0],
        [512, 1, 0, 0],
        [512, 0, 0, 1],
        [512, 0, 9, 0],
        // A region that the function does not have.
        [512, 0, 1, 0],
        [(1 << 20) + 1, 0, 0, 0],
    ] {
        let answer = peer.call(Command::DEVICE_GET_REGION_IO_FDS, &words(bad), &[]);
        answer.refused(Errno::INVAL);
    }
    peer.check_in_step();
}
