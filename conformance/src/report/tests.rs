use super::*;
use crate::ledger::Coverage;
use crate::{AreaCoverage, CheckResult, DeviceReport, Report, Totals, Verdict};

fn result(id: &str, verdict: Verdict) -> CheckResult {
    let bad = verdict.is_bad();
    CheckResult {
        id: id.into(),
        title: format!("What {id} says"),
        clause: "spec §1".into(),
        verdict,
        micros: 1500,
        round: 1,
        requirements: vec!["pci/1/1".into()],
        replay: if bad { format!("understudy check --only {id}") } else { String::new() },
        trace: if bad { vec!["-> VERSION #1: 00".into()] } else { vec![] },
    }
}

fn sample() -> Report {
    let fail = Verdict::Fail { expected: "vendor 0x1af4".into(), seen: "0x1 & <2> # 50%".into() };
    let results = vec![
        result("pci/header/1", Verdict::Pass),
        result("pci/header/2", fail),
        result("pci/header/3", Verdict::Rejected { how: "a write with EINVAL (22)".into() }),
        result("pci/msix/1", Verdict::Skipped { reason: "no MSI-X".into() }),
        result("virtio/status/10", Verdict::Wedged { waiting_for: "a reply".into() }),
    ];
    let one = DeviceReport { device: "virtio-crypto".into(), pci_id: "1af4:1054".into(), results };
    let other = DeviceReport {
        device: "other".into(),
        pci_id: "8086:0001".into(),
        results: vec![CheckResult { round: 2, ..result("pci/header/1", Verdict::Pass) }],
    };
    let mut report = Report::new("understudy 0.1.0".into(), vec![one, other]).with_seed(7);
    let coverage = Coverage { requirements: 3, tested: 2, waived: 1, ..Coverage::default() };
    report.coverage = vec![AreaCoverage { area: "pci".into(), coverage }];
    report
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
fn tap_has_a_subtest_for_each_device() {
    insta::assert_snapshot!(tap(&sample()));
}

#[test]
fn sarif_has_a_rule_for_each_check_and_a_result_for_each_failure() {
    insta::assert_snapshot!(sarif(&sample()).unwrap());
}

#[test]
fn github_is_told_of_failures_on_one_line_each() {
    insta::assert_snapshot!(github(&sample()));
    insta::assert_snapshot!("github_summary", github_summary(&sample()));
}

#[test]
fn the_page_needs_nothing_else_and_escapes_what_it_quotes() {
    let page = html(&sample());
    for outside in ["http:", "https:", "src=", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("0x1 &amp; &lt;2&gt;") && !page.contains("<2>"));
    for text in ["understudy check --only pci/header/2", "-&gt; VERSION #1", "spec §1", "seed 7"] {
        assert!(page.contains(text), "{text}");
    }
    // Every element that is opened is closed, as far as counting tells.
    for tag in ["div", "table", "tr", "td", "details", "article", "dl", "ul", "span", "pre"] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
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
    assert!(pass(vec![Verdict::Rejected { how: String::new() }]));
    assert!(pass(vec![Verdict::Pass, Verdict::Skipped { reason: String::new() }]));
    assert!(!pass(vec![Verdict::Pass, Verdict::Wedged { waiting_for: String::new() }]));
}

#[test]
fn totals_add_up() {
    let Totals { checks, passed, rejected, failed, skipped, wedged } = sample().totals;
    assert_eq!((checks, passed, rejected, failed, skipped, wedged), (6, 2, 1, 1, 1, 1));
}
