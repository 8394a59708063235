//! Runs of models that have no bugs.

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use understudy_faults::Plan;
    use understudy_workload::{
        Case, Completion, Generator, Operation, Options, Work, run, work_of,
    };

    /// Debug builds run networks slowly.
    const RUNS: [(&str, u64); 3] = [("virtio-crypto", 60), ("qat", 60), ("qaic", 12)];

    fn generator(device: &str) -> Generator {
        Generator::new(understudy_catalog::find(device).unwrap()).unwrap()
    }

    /// A run of the default QAT function.
    fn qat(seed: u64, options: Options, plan: Plan, operations: Vec<Operation>) -> Case {
        let (device, parameters) = ("qat".to_owned(), Map::new());
        Case { device, parameters, seed, options, plan, operations, planted: None }
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

    /// Each kind of request in each of its forms, one at a time and many in flight, in buffers and in
    /// lists: all are answered right.
    #[test]
    fn every_form_of_qats_requests_is_right() {
        let kinds = work_of("qat");
        let kinds = kinds.iter().filter(|work| !matches!(work, Work::Idle | Work::Reset));
        for work in kinds.filter(|work| **work != Work::Renew) {
            for (pieces, leave) in [(None, 0), (None, 7), (Some(16), 7)] {
                let operations = [0, 1, 100, 700].into_iter().zip(0..).flat_map(|(len, first)| {
                    let forms = (0..48_u8).filter(move |form| form % 4 == first);
                    let operation = move |form| {
                        let (queue, salt) = (form / 16, form % 16);
                        Operation { work: *work, queue, len, salt, leave }
                    };
                    forms.map(operation)
                });
                let options = Options {
                    pieces,
                    depth: 9,
                    completion: Completion::Vectors,
                    ..Options::default()
                };
                let case = qat(1, options, Plan::default(), operations.collect());
                let done = run(&case).unwrap();
                let what = format!("{work:?}, pieces of {pieces:?}, {leave} left");
                assert_eq!(done.failure, None, "{what}");
                assert_eq!(done.stats.completed, done.stats.submitted, "{what}");
                assert!(*work == Work::Wait || done.stats.completed > 48, "{what}");
            }
        }
    }

    /// A ring that is torn down with requests in flight answers none of them, and the next requests
    /// are right.
    #[test]
    fn rings_are_set_up_anew_under_requests() {
        let mut abandoned = 0;
        for queue in 0..3 {
            for work in [Work::Chain, Work::Compress, Work::Power] {
                let one = |work, salt, leave| Operation { work, queue, len: 500, salt, leave };
                let begin = (0..6).map(|salt| one(work, salt, 7));
                let renew = [one(Work::Renew, 1, 0)];
                let again = (0..6).map(|salt| one(work, salt, 0));
                let operations = begin.chain(renew).chain(again).collect();
                let options = Options { depth: 9, ..Options::default() };
                let case = qat(7, options, Plan::default(), operations);
                let done = run(&case).unwrap();
                assert_eq!(done.failure, None, "{work:?}, ring {queue}");
                let stats = done.stats;
                assert_eq!(stats.completed + stats.abandoned, stats.submitted);
                abandoned += stats.abandoned;
            }
        }
        assert_eq!(abandoned, 18);
    }

    /// A late doorbell tells a ring that was set up anew of messages that are not there. The driver
    /// finds responses to nothing, starts anew, and works.
    #[test]
    fn a_doorbell_may_come_when_its_ring_was_set_up_anew() {
        let mut late = 0;
        for micros in [1, 4, 16, 64, 256, 1024] {
            let plan = format!(
                r#"{{"fault":{{"kind":"doorbell-late","delay":"{micros}us"}},"when":{{"every":4}}}}"#
            );
            let plan = understudy_faults::text::plan(&plan).unwrap();
            let one = |work, salt, len| Operation { work, queue: 1, len, salt, leave: 7 };
            let mut operations = vec![one(Work::Null, 0, 0); 4];
            operations.push(one(Work::Renew, 1, 0));
            operations.extend([one(Work::Idle, 0, 255); 3]);
            operations.extend([one(Work::Hash, 0, 100); 4]);
            let operations = operations.repeat(4);
            let options = Options { depth: 9, ..Options::default() };
            let case = qat(7, options, plan, operations);
            let done = run(&case).unwrap();
            assert_eq!(done.failure, None, "{micros} us");
            late += done.stats.fired["doorbell-late"];
        }
        assert!(late > 6, "{late}");
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
