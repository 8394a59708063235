//! Bugs planted in models and drivers are found, and made small.

#[cfg(test)]
mod tests {
    use understudy_workload::planted::Bug;
    use understudy_workload::{Case, FailureKind, Generator, run, shrink};

    /// Seeds in which a bug must show.
    const SEEDS: u64 = 200;
    /// What is left of a case at most.
    const OPERATIONS: usize = 6;
    const FAULTS: usize = 1;
    /// Seeds after which a bug that shows in the end is good enough.
    const LATE_SEEDS: u64 = 20;

    /// How a bug shows: the kinds of failure that tell of it.
    fn shows_as(bug: Bug) -> &'static [FailureKind] {
        use FailureKind::{
            Driver, Lost, NotRecovered, Refused, Silent, Stray, Stuck, Twice, Wrong,
        };
        match bug {
            Bug::ModelLosesCompletion | Bug::ModelLosesJob => &[Lost, Driver, NotRecovered],
            Bug::ModelCompletesTwice | Bug::ModelExecutesTwice => {
                &[Twice, Driver, Wrong, NotRecovered, Stray]
            }
            Bug::ModelFlipsBit => &[Wrong, NotRecovered, Driver],
            Bug::ModelWritesLate => &[Wrong, Stray, Driver, NotRecovered],
            Bug::ModelWritesTooFar => &[Stray, Driver, NotRecovered],
            Bug::ModelWritesAfterReset => &[Stray],
            Bug::ModelForgetsInterrupt => &[Silent, Driver, Lost, NotRecovered],
            Bug::ModelMissesDoorbell | Bug::DriverSkipsDoorbell => &[Driver, Lost, NotRecovered],
            Bug::ModelFailsRequest => &[Refused, NotRecovered, Driver],
            Bug::ModelNeverRests => &[Stuck],
            Bug::DriverTearsBuffer => &[Wrong, Refused, Driver, Lost, Stray, NotRecovered],
            Bug::DriverOverlooksCompletion => &[Lost, NotRecovered],
        }
    }

    /// Finds a bug on a device, and makes the case small. One that shows during the operations says
    /// more than one that every run shows in the end.
    fn find(device: &str, bug: Bug) -> Result<String, String> {
        let generator = Generator::new(understudy_catalog::find(device).unwrap()).unwrap();
        let mut last = None;
        for seed in 0..SEEDS {
            let case = Case { planted: Some(bug), ..generator.case(seed) };
            if let Some(failure) = run(&case).unwrap().failure {
                let early = failure.operation.is_some();
                last = Some((seed, case));
                if early || seed >= LATE_SEEDS {
                    break;
                }
            }
        }
        let missing = || format!("{device} {}: not found in {SEEDS} seeds", bug.name());
        let (seed, case) = last.ok_or_else(missing)?;
        let small = shrink(&case).unwrap();
        let failure = small.run.failure.unwrap();
        let (operations, faults) = (small.case.operations.len(), small.case.plan.faults.len());
        let runs = small.runs;
        let what = format!(
            "{device} {}: seed {seed}, {operations} operations, {faults} faults, {runs} runs: {failure}",
            bug.name(),
        );
        // What is left fails again in the same way, and not without the bug.
        let again = run(&small.case).unwrap().failure;
        assert_eq!(again.as_ref(), Some(&failure), "{what}");
        let without = run(&Case { planted: None, ..small.case }).unwrap().failure;
        assert_eq!(without, None, "{what}");
        let right = shows_as(bug).contains(&failure.kind);
        let small = operations <= OPERATIONS && faults <= FAULTS;
        if right && small { Ok(what) } else { Err(what) }
    }

    fn find_all(device: &str, bugs: &[Bug]) {
        let found: Vec<_> = bugs.iter().map(|bug| find(device, *bug)).collect();
        for one in &found {
            println!("{one:?}");
        }
        let missing: Vec<_> = found.iter().filter_map(|found| found.as_ref().err()).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn bugs_of_virtio_crypto_are_found() {
        find_all("virtio-crypto", &Bug::ALL);
    }

    #[test]
    fn bugs_of_qat_are_found() {
        find_all("qat", &Bug::ALL);
    }

    #[test]
    fn bugs_of_qaic_are_found() {
        find_all("qaic", &Bug::ALL);
    }
}
