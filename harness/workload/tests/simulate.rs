//! Runs of models that have no bugs.

#[cfg(test)]
mod tests {
    use serde_json::json;
    use understudy_workload::{Case, Generator, run};

    /// Debug builds run networks slowly.
    const RUNS: [(&str, u64); 3] = [("virtio-crypto", 60), ("qat", 60), ("qaic", 12)];

    fn generator(device: &str) -> Generator {
        Generator::new(understudy_catalog::find(device).unwrap()).unwrap()
    }

    #[test]
    fn every_seed_passes_and_is_the_same_twice() {
        for (device, seeds) in RUNS {
            let generator = generator(device);
            let (mut fired, mut restarts) = (0, 0);
            for seed in 0..seeds {
                let case = generator.case(seed);
                let first = run(&case).unwrap();
                let failure = first.failure.as_ref().map(ToString::to_string);
                assert_eq!(
                    failure, None,
                    "understudy simulate {device} --seeds 1 --seed {seed}: {:#?}",
                    case.plan
                );
                assert_eq!(run(&case).unwrap(), first, "{device}, seed {seed}");
                fired += first.stats.fired.values().sum::<u64>();
                restarts += first.stats.restarts;
            }
            assert!(
                fired > seeds / 2 && restarts > 0,
                "{device}: {fired} faults, {restarts} restarts"
            );
        }
    }

    #[test]
    fn a_case_survives_its_file() {
        for (device, _) in RUNS {
            let case = generator(device).case(3);
            let text = serde_json::to_string(&case).unwrap();
            let again: Case = serde_json::from_str(&text).unwrap();
            assert_eq!(again, case);
            assert_eq!(run(&again).unwrap().hash, run(&case).unwrap().hash);
        }
    }

    #[test]
    fn parameters_are_part_of_a_case() {
        for (device, parameters) in [
            ("qat", json!({ "part": "c3xxx", "mailbox_version": 1 })),
            ("virtio-crypto", json!({ "data_queues": 1, "packed_queues": false })),
        ] {
            let parameters = parameters.as_object().unwrap();
            let device = understudy_catalog::find(device).unwrap();
            let generator = Generator::with_parameters(device, parameters.clone()).unwrap();
            for seed in 0..6 {
                let case = generator.case(seed);
                assert_eq!(&case.parameters, parameters);
                let done = run(&case).unwrap();
                assert_eq!(done.failure, None, "{}", serde_json::to_string(&case).unwrap());
            }
            let wrong = [("nonsense".to_owned(), json!(1))].into_iter().collect();
            assert!(run(&Case { parameters: wrong, ..generator.case(0) }).is_err());
        }
        // The model is another one with them.
        let plain = generator("qat").case(3);
        let old = json!({ "mailbox_version": 1 }).as_object().unwrap().clone();
        let old = run(&Case { parameters: old, ..plain.clone() }).unwrap();
        assert_ne!(old.hash, run(&plain).unwrap().hash);
    }

    #[test]
    fn other_seeds_are_other_runs() {
        let generator = generator("qat");
        let hashes: std::collections::BTreeSet<u64> =
            (0..20).map(|seed| run(&generator.case(seed)).unwrap().hash).collect();
        assert_eq!(hashes.len(), 20);
    }

    #[test]
    fn any_bytes_are_a_case() {
        for (device, runs) in [("virtio-crypto", 30_u8), ("qat", 30), ("qaic", 5)] {
            let generator = generator(device);
            for salt in 0..runs {
                let bytes: Vec<u8> = (0..600_u32)
                    .map(|at| (at.wrapping_mul(u32::from(salt) * 77 + 13) >> 3).to_le_bytes()[0])
                    .collect();
                let case = generator.case_from_bytes(&bytes[..usize::from(salt) * 20]);
                let done = run(&case).unwrap();
                assert_eq!(done.failure, None, "{}", serde_json::to_string(&case).unwrap());
            }
        }
    }

    #[test]
    fn what_cannot_be_run_is_told() {
        let case = generator("qat").case(1);
        let wrong = |case: &Case| run(case).unwrap_err().to_string();
        assert!(wrong(&Case { device: "toaster".to_owned(), ..case.clone() }).contains("toaster"));
        let plan =
            understudy_faults::text::plan(r#"{"fault":{"kind":"feature-missing","feature":1}}"#);
        let refused = wrong(&Case { plan: plan.unwrap(), ..case });
        assert!(refused.contains("feature-missing is not possible on qat"), "{refused}");
    }
}
