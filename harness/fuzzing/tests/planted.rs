//! Bugs that are planted in a driver are found, made small, and seen again from their file.
#![cfg(test)]

use understudy_fuzzing::engine::Engine;
use understudy_fuzzing::minimise::minimise;
use understudy_fuzzing::targets::{BUGS, Bug, Planted};
use understudy_fuzzing::{Executor, Finding};

/// Where all randomness starts.
const SEED: u64 = 1;
/// Executions in which each bug must be found.
const BUDGET: u64 = 30_000;
/// Executions in which the driver without a bug must show none.
const CLEAN: u64 = 4_000;

/// Found, minimised, written, read and replayed. Executions, size at first, size at last.
fn hunt(bug: Bug, folder: &std::path::Path) -> (u64, usize, usize) {
    let target = Planted::new(bug);
    let name = bug.name();
    let mut engine = Engine::new(&target, SEED).unwrap();
    let found = engine.search(BUDGET).unwrap();
    let Some((outcome, first)) = found else {
        panic!("{name}: not found in {BUDGET} executions from seed {SEED}")
    };
    let execution = engine.executions();
    let defect = outcome.defect().unwrap().clone();
    let (smaller, _) = minimise(engine.executor(), &first, &defect).unwrap();
    let executor = engine.executor();
    let finding =
        Finding::in_process(executor, SEED, execution, &first, &smaller, &defect).unwrap();
    assert!(!finding.trace.is_empty());
    let (path, new) = finding.write(folder).unwrap();
    assert!(new, "{name}: {path:?} is another finding's name");

    let again = Finding::read(&path).unwrap();
    assert_eq!(again, finding);
    let outcome = Executor::new(&target).unwrap().run(&again.in_process_program().unwrap());
    let outcome = outcome.unwrap();
    assert!(outcome.defect().is_some_and(|it| it.is_same(&defect)), "{name}: {outcome:?}");
    println!(
        "{name:22} {execution:>6} executions, {:>5} -> {:>3} bytes: {}",
        finding.first_bytes, finding.bytes, finding.defect
    );
    (execution, finding.first_bytes, finding.bytes)
}

#[test]
fn ten_planted_bugs_are_found_and_made_small() {
    let folder = tempfile::tempdir().unwrap();
    let mut ratios: Vec<f64> = BUGS
        .into_iter()
        .filter(|bug| *bug != Bug::None)
        .map(|bug| {
            let (_, first, last) = hunt(bug, folder.path());
            last as f64 / first as f64
        })
        .collect();
    assert_eq!(ratios.len(), 10);
    ratios.sort_by(f64::total_cmp);
    let median = (ratios[4] + ratios[5]) / 2.0;
    println!("the median of what is left: {:.1} %", median * 100.0);
    assert!(median <= 0.10, "{ratios:?}");
}

#[test]
fn the_driver_without_a_bug_shows_none() {
    let target = Planted::new(Bug::None);
    let mut engine = Engine::new(&target, SEED).unwrap();
    let found = engine.search(CLEAN).unwrap();
    assert!(found.is_none(), "seed {SEED}: {found:?}");
}

#[test]
fn the_same_seed_gives_the_same_runs() {
    let target = Planted::new(Bug::None);
    let runs = [0; 2].map(|_| {
        let mut engine = Engine::new(&target, 7).unwrap();
        let outcomes: Vec<_> = (0..300).map(|_| engine.step().unwrap().0).collect();
        (outcomes, engine.corpus().to_vec(), engine.steps())
    });
    assert_eq!(runs[0], runs[1]);
}

#[test]
fn a_device_that_stays_honest_serves_its_driver() {
    use understudy_fuzzing::{Call, Outcome, Program, targets};
    let calls: Vec<Call> = (0..8).map(|kind| Call(kind, 64)).collect();
    let target = targets::find("virtio-crypto").unwrap();
    let program = Program { honest: u32::MAX, calls, ..Program::default() };
    let outcome = Executor::new(target.as_ref()).unwrap().run(&program).unwrap();
    assert_eq!(outcome, Outcome::Done);
}
