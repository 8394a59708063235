use std::collections::VecDeque;

use proptest::prelude::*;
use understudy_device::{Bus, Nanos, Tap, Verdict};

use super::{Byte, ListRing, TestBus};
use crate::pump::MAX_HELD;
use crate::{Next, Pump};

/// Executes and completes everything that can be now. Returns what was executed.
fn run(pump: &mut Pump<ListRing>, bus: &mut TestBus) -> Vec<u8> {
    let mut executed = Vec::new();
    loop {
        match pump.next(bus).unwrap() {
            Next::Entry(entry) => {
                let byte = entry.0[0];
                executed.push(byte);
                pump.recycle(entry);
                pump.complete(bus, Byte([byte])).unwrap();
            }
            Next::Again => {}
            Next::Empty | Next::Until(_) => break,
        }
    }
    pump.flush(bus, true).unwrap();
    executed
}

fn pump(entries: &[u8]) -> Pump<ListRing> {
    Pump::new(0, ListRing { entries: entries.iter().copied().collect(), completed: Vec::new() })
}

/// A bus whose `at` taps answer with these verdicts in turn, then pass.
fn bus(at: Tap, verdicts: &[Verdict]) -> TestBus {
    let mut verdicts: VecDeque<_> = verdicts.iter().copied().collect();
    let mut bus = TestBus::new(0);
    bus.tap = Box::new(move |tap, _| {
        if tap == at { verdicts.pop_front().unwrap_or(Verdict::Pass) } else { Verdict::Pass }
    });
    bus
}

/// Runs entries 1, 2, 3 with one verdict on the first. Returns what was executed and completed.
fn first(at: Tap, verdict: Verdict) -> (Vec<u8>, Vec<u8>) {
    let (mut pump, mut bus) = (pump(&[1, 2, 3]), bus(at, &[verdict]));
    let executed = run(&mut pump, &mut bus);
    assert_eq!(pump.in_flight(), 0);
    (executed, pump.ring().completed.clone())
}

#[test]
fn verdicts_on_fetched_entries() {
    let all = |bytes: &[u8]| (bytes.to_vec(), bytes.to_vec());
    assert_eq!(first(Tap::Fetched, Verdict::Pass), all(&[1, 2, 3]));
    assert_eq!(first(Tap::Fetched, Verdict::Drop), all(&[2, 3]));
    assert_eq!(first(Tap::Fetched, Verdict::Duplicate), all(&[1, 1, 2, 3]));
    assert_eq!(first(Tap::Fetched, Verdict::Reorder), all(&[2, 1, 3]));
    assert_eq!(first(Tap::Fetched, Verdict::Delay(Nanos(5))), all(&[2, 3]));
}

#[test]
fn verdicts_on_completions() {
    let executed = |completed: &[u8]| (vec![1, 2, 3], completed.to_vec());
    assert_eq!(first(Tap::Completing, Verdict::Drop), executed(&[2, 3]));
    assert_eq!(first(Tap::Completing, Verdict::Duplicate), executed(&[1, 1, 2, 3]));
    assert_eq!(first(Tap::Completing, Verdict::Reorder), executed(&[2, 1, 3]));
    assert_eq!(first(Tap::Completing, Verdict::Delay(Nanos(5))), executed(&[2, 3]));
}

#[test]
fn a_delay_ends_at_its_time_and_is_tapped_again() {
    for at in [Tap::Fetched, Tap::Completing] {
        let verdicts = [Verdict::Delay(Nanos(5)), Verdict::Pass, Verdict::Delay(Nanos(9))];
        let (mut pump, mut bus) = (pump(&[1, 2]), bus(at, &verdicts));
        run(&mut pump, &mut bus);
        assert_eq!((pump.next_due(), pump.ring().completed.clone()), (Some(Nanos(5)), vec![2]));
        bus.now = Nanos(5);
        run(&mut pump, &mut bus);
        assert_eq!((pump.next_due(), pump.ring().completed.clone()), (Some(Nanos(9)), vec![2]));
        bus.now = Nanos(9);
        run(&mut pump, &mut bus);
        assert_eq!((pump.next_due(), pump.ring().completed.clone()), (None, vec![2, 1]));
    }
}

#[test]
fn the_last_entry_is_not_held_forever() {
    for at in [Tap::Fetched, Tap::Completing] {
        let (mut pump, mut bus) = (pump(&[1]), bus(at, &[Verdict::Reorder]));
        run(&mut pump, &mut bus);
        assert_eq!(pump.ring().completed, [1], "{at:?}");
    }
}

#[test]
fn a_tap_can_edit() {
    let mut bus = TestBus::new(0);
    bus.tap = Box::new(|at, entry| {
        entry[0] += if at == Tap::Fetched { 10 } else { 100 };
        Verdict::Pass
    });
    let mut pump = pump(&[1]);
    assert_eq!(run(&mut pump, &mut bus), [11]);
    assert_eq!(pump.ring().completed, [111]);
}

#[test]
fn delays_are_bounded() {
    let entries: Vec<u8> = (0..200).collect();
    let (mut pump, mut bus) = (pump(&entries), TestBus::new(0));
    bus.tap = Box::new(|_, _| Verdict::Delay(Nanos(100)));
    assert_eq!(run(&mut pump, &mut bus), []);
    assert!(matches!(pump.next(&mut bus).unwrap(), Next::Until(Nanos(100))));
    assert_eq!(pump.ring().entries.len(), entries.len() - MAX_HELD, "the rest is not fetched");
}

#[test]
fn a_payload_is_ordered_before_its_completion() {
    let (mut pump, mut bus) = (pump(&[1]), TestBus::new(0));
    let Next::Entry(_) = pump.next(&mut bus).unwrap() else { panic!("no entry") };
    let before = bus.fences;
    pump.complete(&mut bus, Byte([1])).unwrap();
    assert_eq!(bus.fences, before + 1);
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        3 => Just(Verdict::Pass),
        1 => Just(Verdict::Drop),
        1 => Just(Verdict::Duplicate),
        1 => Just(Verdict::Reorder),
        1 => (0_u64..50).prop_map(|at| Verdict::Delay(Nanos(at))),
    ]
}

proptest! {
    /// Whatever faults do, once they stop the queue drains, and without drops and duplicates
    /// everything is executed and completed exactly once.
    #[test]
    fn everything_drains_once_faults_stop(
        entries in prop::collection::vec(any::<u8>(), 0..120),
        verdicts in prop::collection::vec(verdict(), 0..300),
    ) {
        let (mut pump, mut bus) = (pump(&entries), TestBus::new(0));
        let mut queue: VecDeque<_> = verdicts.iter().copied().collect();
        bus.tap = Box::new(move |_, _| queue.pop_front().unwrap_or(Verdict::Pass));
        let mut executed = run(&mut pump, &mut bus);
        while let Some(due) = pump.next_due() {
            bus.now = due.max(bus.now().plus(1));
            executed.extend(run(&mut pump, &mut bus));
        }
        prop_assert_eq!(pump.in_flight(), 0);
        prop_assert!(!pump.has_ready());
        prop_assert!(pump.ring().entries.is_empty());
        let harmless =
            |verdict: &Verdict| !matches!(verdict, Verdict::Drop | Verdict::Duplicate);
        if verdicts.iter().all(harmless) {
            let sorted = |mut bytes: Vec<u8>| {
                bytes.sort_unstable();
                bytes
            };
            prop_assert_eq!(sorted(executed), sorted(entries.clone()));
            prop_assert_eq!(sorted(pump.ring().completed.clone()), sorted(entries));
        }
    }
}
