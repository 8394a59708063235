//! Bugs that are planted in a driver are found, made small, and seen again from their file.
#![cfg(test)]

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_fuzzing::engine::Engine;
use understudy_fuzzing::minimise::minimise;
use understudy_fuzzing::targets::{BUGS, Bug, Planted};
use understudy_fuzzing::{Call, Executor, Finding, Outcome, Program, mutate_bytes, targets};

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

/// A used index that is another one at every look, and a device that does nothing: the driver looks
/// on until its own time is over, or it sees what cannot be, and says so. That is no hang.
#[test]
fn waits_that_end_with_their_time_are_no_hangs() {
    let programs = [
        r#"{"honest":0,"acts":[{"nth":0,"times":255,"what":{"look":{"flip":[16,7]}}}],"calls":[[4,3609]]}"#,
        r#"{"honest":0,"acts":[{"nth":3,"times":255,"what":{"look":{"flip":[2,7]}}}],"calls":[[6,48]]}"#,
        r#"{"honest":0,"acts":[{"nth":2,"times":255,"what":{"look":{"flip":[0,5]}}}],"calls":[[0,246]]}"#,
        r#"{"honest":216,"acts":[{"nth":5,"times":255,"what":{"look":{"flip":[3,4]}}},
            {"nth":2,"what":"write-lost"}],"calls":[[3,24],[0,0],[3,34],[0,0]]}"#,
        r#"{"honest":37,"acts":[{"nth":1,"what":"stall"},{"nth":0,"what":"stall"},
            {"nth":4,"what":{"config":{"word":[3,1]}}}],"calls":[[3,52],[6,1468]]}"#,
    ];
    let target = targets::find("virtio-crypto").unwrap();
    let mut executor = Executor::new(target.as_ref()).unwrap();
    for json in programs {
        let outcome = executor.run(&serde_json::from_str(json).unwrap()).unwrap();
        assert!(matches!(outcome, Outcome::Refused(_)), "{json}: {outcome:?}");
    }
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

/// A device without acts is a good one: the driver has nothing to complain of, whatever it is asked
/// to do.
#[test]
fn a_device_that_stays_honest_serves_its_driver() {
    const RUNS: u32 = 60;
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    for name in targets::names() {
        // Those with bugs too: no bug of theirs shows on a good device.
        let target = targets::find(&name).unwrap();
        let mut executor = Executor::new(target.as_ref()).unwrap();
        for run in 0..RUNS {
            let count = random.random_range(0..=24);
            let calls = (0..count).map(|_| Call(random.random(), random.random())).collect();
            let program = Program { calls, ..Program::default() };
            let outcome = executor.run(&program).unwrap();
            if name == "qaic" {
                // It is asked for things out of order, which its device refuses.
                assert_eq!(outcome.defect(), None, "run {run}, seed {SEED}: {program:?}");
                continue;
            }
            assert_eq!(outcome, Outcome::Done, "{name}, run {run}, seed {SEED}: {program:?}");
        }
    }
}

#[test]
fn bytes_become_programs_that_fit_and_programs_become_others() {
    let program = |bytes: &[u8]| serde_json::from_slice::<Program>(bytes).unwrap();
    let mut data = [b'x'; 4096];
    let len = mutate_bytes(&mut data, 3, 1);
    let first = program(&data[..len]);
    let len = mutate_bytes(&mut data, len, 2);
    assert!(first.parts() > 0 && first != program(&data[..len]));
    for room in [0, 1, 30, 60, 200, 1000] {
        let mut data = vec![0; room];
        let len = mutate_bytes(&mut data, 0, 5);
        assert!(len == 0 || program(&data[..len]).parts() <= first.parts(), "{room}");
    }
}

#[test]
fn findings_that_are_kept_can_be_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/findings");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let findings: Vec<Finding> = files.map(|file| Finding::read(&file).unwrap()).collect();
    assert!(findings.len() >= 8 && findings.iter().all(|finding| finding.bytes > 0));
}

#[test]
fn programs_to_start_from_are_programs_and_their_drivers_do_well() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/corpus");
    for (folder, name) in [("driver_virtio_crypto", "virtio-crypto"), ("driver_qat", "qat")] {
        let target = targets::find(name).unwrap();
        let mut executor = Executor::new(target.as_ref()).unwrap();
        let files =
            std::fs::read_dir(corpus.join(folder)).unwrap().map(|file| file.unwrap().path());
        let programs: Vec<_> = files.filter(|file| file.extension().unwrap() == "json").collect();
        assert!(!programs.is_empty());
        for file in programs {
            let program: Program = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            let outcome = executor.run(&program).unwrap();
            assert_eq!(outcome.defect(), None, "{}", file.display());
        }
    }
}
