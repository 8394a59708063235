use proptest::prelude::*;
use understudy_device::{DmaFault, DmaFaultKind};

use super::{BASE, TestBus};
use crate::{Limits, SgError, SgList};

const LIMITS: Limits = Limits { segments: 4, bytes: 100 };

#[test]
fn a_list_keeps_its_limits() {
    let mut list = SgList::new(LIMITS);
    assert_eq!(list.push(u64::MAX - 1, 3), Err(SgError::Wraps(u64::MAX - 1, 3)));
    assert_eq!(list.push(u64::MAX - 1, 2), Ok(()));
    assert_eq!(list.push(0, 99), Err(SgError::TooLong(100)));
    for _ in 0..3 {
        assert_eq!(list.push(0, 1), Ok(()));
    }
    assert_eq!(list.push(7, 0), Ok(()));
    assert_eq!(list.push(0, 1), Err(SgError::TooManySegments(4)));
    assert_eq!(list.bytes(), 5);
    list.clear();
    assert_eq!((list.bytes(), list.segments().len()), (0, 0));
}

#[test]
fn a_short_stream_moves_nothing() {
    let mut bus = TestBus::new(64);
    let mut list = SgList::new(LIMITS);
    list.push(BASE, 10).unwrap();
    let mut cursor = list.cursor();
    let short = Err(SgError::Short { wanted: 11, left: 10 });
    assert_eq!(cursor.skip(11), short);
    assert_eq!(cursor.read(&mut bus, &mut [0; 11]), short);
    assert_eq!(cursor.write(&mut bus, &[0; 11]), short);
    assert_eq!(cursor.take(11).map(|_| ()), short);
    assert_eq!(cursor.remaining(), 10);
    assert_eq!(cursor.take(10).map(|taken| taken.remaining()), Ok(10));
    assert_eq!(cursor.remaining(), 0);
}

#[test]
fn a_fault_names_its_address() {
    let mut bus = TestBus::new(16);
    let mut list = SgList::new(LIMITS);
    list.push(BASE, 16).unwrap();
    list.push(0x9000, 4).unwrap();
    let fault = DmaFault { iova: 0x9000, len: 4, kind: DmaFaultKind::Unmapped };
    assert_eq!(list.cursor().read(&mut bus, &mut [0; 20]), Err(SgError::Fault(fault)));
}

#[test]
fn one_segment_is_lent_and_more_are_copied() {
    for (lens, lent) in [(vec![16], 1), (vec![4, 12], 0)] {
        let mut bus = TestBus { lends: true, ..TestBus::new(64) };
        let mut list = SgList::new(LIMITS);
        for (at, len) in (0..).step_by(32).zip(lens) {
            list.push(BASE + at, len).unwrap();
        }
        let work = |_: &mut [u8]| Ok::<_, SgError>(());
        list.cursor().update(&mut bus, 16, &mut Vec::new(), work).unwrap();
        assert_eq!(bus.lent, lent);
    }
}

proptest! {
    /// Whether memory is lent or copied, the same comes of it: of work that fails nothing, of a
    /// fault or a short stream its error.
    #[test]
    fn lending_does_not_show(
        segments in prop::collection::vec((0_u64..260, 1_u32..40), 1..3),
        before in 0_u64..10,
        len in 0_usize..60,
        changes: bool,
        fails: bool,
    ) {
        let runs = [false, true].map(|lends| {
            let mut bus = TestBus { lends, ..TestBus::new(256) };
            let mut list = SgList::new(LIMITS);
            for (at, len) in &segments {
                list.push(BASE + at, *len).unwrap();
            }
            let mut cursor = list.cursor();
            let skipped = cursor.skip(before);
            let mut seen = Vec::new();
            let failed = SgError::TooLong(7);
            let mut copy = vec![9; 3];
            let result = if changes {
                cursor.update(&mut bus, len, &mut copy, |data| {
                    seen.extend_from_slice(data);
                    if fails {
                        return Err(failed);
                    }
                    data.iter_mut().for_each(|byte| *byte ^= 0x5a);
                    Ok(())
                })
            } else {
                cursor.view(&mut bus, len, &mut copy, |data| {
                    seen.extend_from_slice(data);
                    if fails { Err(failed) } else { Ok(()) }
                })
            };
            (bus.memory, skipped, seen, result, cursor.remaining())
        });
        let [copied, lent] = runs;
        prop_assert_eq!(copied, lent);
    }

    /// However a stream is cut into segments and pieces, its bytes are the same.
    #[test]
    fn cuts_do_not_show(
        segments in prop::collection::vec((0_u64..200, 0_u32..40), 1..12),
        pieces in prop::collection::vec(0_usize..50, 0..20),
    ) {
        let mut bus = TestBus::new(256);
        let mut list = SgList::new(Limits { segments: 12, bytes: 1 << 20 });
        let mut all = Vec::new();
        for (at, len) in &segments {
            list.push(BASE + at, *len).unwrap();
            let start = usize::try_from(*at).unwrap();
            all.extend_from_slice(&bus.memory[start..start + *len as usize]);
        }
        let mut cursor = list.cursor();
        let mut seen = Vec::new();
        for (n, piece) in pieces.iter().enumerate() {
            let len = (*piece as u64).min(cursor.remaining());
            let mut buffer = vec![0; usize::try_from(len).unwrap()];
            if n % 2 == 0 {
                cursor.read(&mut bus, &mut buffer).unwrap();
            } else {
                cursor.take(len).unwrap().read(&mut bus, &mut buffer).unwrap();
            }
            seen.extend(buffer);
        }
        prop_assert_eq!(cursor.remaining(), (all.len() - seen.len()) as u64);
        prop_assert_eq!(&seen[..], &all[..seen.len()]);
    }

    /// What is written through one cut is read back through it.
    #[test]
    fn writes_read_back(lens in prop::collection::vec(1_u32..20, 1..8)) {
        let mut bus = TestBus::new(512);
        let mut list = SgList::new(Limits { segments: 8, bytes: 1 << 20 });
        for (n, len) in (0_u64..).zip(&lens) {
            list.push(BASE + n * 32, *len).unwrap();
        }
        let data: Vec<u8> = (0..list.bytes()).map(|i| u8::try_from(i).unwrap() ^ 0xa5).collect();
        list.cursor().write(&mut bus, &data).unwrap();
        let mut back = vec![0; data.len()];
        list.cursor().read(&mut bus, &mut back).unwrap();
        prop_assert_eq!(back, data);
    }
}
