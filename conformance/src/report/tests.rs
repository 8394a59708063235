use super::*;
use crate::{CheckResult, DeviceReport, Report, Totals, Verdict};

fn result(id: &str, verdict: Verdict) -> CheckResult {
    CheckResult {
        id: id.into(),
        title: format!("What {id} says"),
        clause: "spec §1".into(),
        verdict,
        micros: 1500,
    }
}

fn sample() -> Report {
    let results = vec![
        result("pci/header/1", Verdict::Pass),
        result(
            "pci/header/2",
            Verdict::Fail { expected: "vendor 0x1af4".into(), seen: "0x1 & <2>".into() },
        ),
        result("pci/msix/1", Verdict::Skipped { reason: "no MSI-X".into() }),
        result("virtio/status/10", Verdict::Wedged { waiting_for: "a reply".into() }),
    ];
    let one = DeviceReport { device: "virtio-crypto".into(), pci_id: "1af4:1054".into(), results };
    let other = DeviceReport {
        device: "other".into(),
        pci_id: "8086:0001".into(),
        results: vec![result("pci/header/1", Verdict::Pass)],
    };
    Report::new("understudy 0.1.0".into(), vec![one, other])
}

#[test]
fn the_table_names_every_check_and_explains_what_is_bad() {
    insta::assert_snapshot!(table(&sample()));
}

#[test]
fn junit_tells_failures_errors_and_skips_apart() {
    insta::assert_snapshot!(junit(&sample()).unwrap());
}

#[test]
fn json_reads_back_as_the_same_report() {
    let text = json(&sample()).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), sample());
    insta::assert_snapshot!(text);
}

#[test]
fn a_run_passes_only_if_something_passed_and_nothing_is_bad() {
    let pass = |verdicts: Vec<Verdict>| {
        let results = verdicts.into_iter().map(|verdict| result("a/b/1", verdict)).collect();
        let device = DeviceReport { device: "d".into(), pci_id: String::new(), results };
        Report::new(String::new(), vec![device]).passed()
    };
    assert!(!pass(vec![]));
    assert!(pass(vec![Verdict::Pass]));
    assert!(pass(vec![Verdict::Pass, Verdict::Skipped { reason: String::new() }]));
    assert!(!pass(vec![Verdict::Pass, Verdict::Wedged { waiting_for: String::new() }]));
}

#[test]
fn totals_add_up() {
    let Totals { checks, passed, failed, skipped, wedged } = sample().totals;
    assert_eq!((checks, passed, failed, skipped, wedged), (5, 2, 1, 1, 1));
}
