//! The report as JUnit XML: a suite for each device, a case for each check. Valid by the schema of
//! Jenkins' xUnit plugin (`junit-10.xsd`).

use std::time::Duration;

use quick_junit::{NonSuccessKind, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::{CheckResult, Report, Verdict};

/// The report as JUnit XML.
///
/// # Errors
/// If the XML cannot be written to memory.
pub fn junit(report: &Report) -> Result<String, SerializeError> {
    let mut xml = quick_junit::Report::new("understudy check");
    xml.set_time(report.duration());
    for device in &report.devices {
        let mut suite = TestSuite::new(&device.device);
        suite.add_property(("pci-id", device.pci_id.as_str()));
        for result in &device.results {
            suite.add_test_case(case(result));
        }
        xml.add_test_suite(suite);
    }
    // Not in that schema either: Jenkins' `junit-10.xsd` counts skips by suite alone.
    let skipped = format!(" skipped=\"{}\"", report.totals.skipped);
    Ok(xml.to_string()?.replacen(&skipped, "", 1))
}

fn case(result: &CheckResult) -> TestCase {
    let mut case = TestCase::new(&result.id, status(&result.verdict));
    let area = result.id.rsplit_once('/').map_or(result.id.as_str(), |(area, _)| area);
    case.set_classname(area.replace('/', "."));
    case.set_time(Duration::from_micros(result.micros));
    // The schema that consumers agree on has no properties of cases.
    let mut out = vec![result.title.clone(), format!("clause: {}", result.clause)];
    if let Verdict::Rejected { how } = &result.verdict {
        out.push(format!("refused: {how}"));
    }
    if !result.replay.is_empty() {
        out.push(format!("replay: {}", result.replay));
    }
    out.extend(result.trace.iter().cloned());
    case.set_system_out(out.join("\n"));
    case
}

/// A wedged device is an error, something else than a device that answers wrongly.
fn status(verdict: &Verdict) -> TestCaseStatus {
    let (mut status, message) = match verdict {
        Verdict::Pass | Verdict::Rejected { .. } => return TestCaseStatus::success(),
        Verdict::Skipped { reason } => (TestCaseStatus::skipped(), reason.clone()),
        Verdict::Fail { .. } => {
            (TestCaseStatus::non_success(NonSuccessKind::Failure), verdict.detail())
        }
        Verdict::Wedged { .. } => {
            (TestCaseStatus::non_success(NonSuccessKind::Error), verdict.detail())
        }
    };
    status.set_message(message);
    status
}
