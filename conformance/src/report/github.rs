//! The report for GitHub: annotations in a workflow's log, and a summary in Markdown.

use std::fmt::Write;

use crate::Report;

/// Failures that are annotated. GitHub shows ten of a step, and a log of thousands helps nobody.
const MAX_ANNOTATIONS: usize = 50;

/// A workflow command for each failure; nothing if there is none.
#[must_use]
pub fn github(report: &Report) -> String {
    let mut out = String::new();
    let mut left = MAX_ANNOTATIONS;
    for device in &report.devices {
        for result in device.results.iter().filter(|result| result.verdict.is_bad()) {
            if left == 0 {
                let _ = writeln!(out, "::notice::more checks failed than are annotated here");
                return out;
            }
            left -= 1;
            let title = format!("{} on {}: {}", result.id, device.device, result.verdict.word());
            let mut text =
                format!("{}\n{}\n{}", result.title, result.verdict.detail(), result.clause);
            if !result.replay.is_empty() {
                let _ = write!(text, "\nreplay: {}", result.replay);
            }
            let _ = writeln!(out, "::error title={}::{}", property(&title), data(&text));
        }
    }
    out
}

/// What `GITHUB_STEP_SUMMARY` takes: totals, and the failures.
#[must_use]
pub fn github_summary(report: &Report) -> String {
    let word = if report.passed() { "passed" } else { "failed" };
    let mut out = format!("### {} check {word}\n\n", report.tool);
    out.push_str("| device | checks | passed | refused | failed | wedged | skipped |\n");
    out.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    for device in &report.devices {
        let t = device.totals();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            cell(&device.device),
            t.checks,
            t.passed,
            t.rejected,
            t.failed,
            t.wedged,
            t.skipped
        );
    }
    let bad = report.devices.iter().flat_map(|device| {
        let bad = device.results.iter().filter(|result| result.verdict.is_bad());
        bad.map(move |result| (device, result))
    });
    for (number, (device, result)) in bad.take(MAX_ANNOTATIONS).enumerate() {
        if number == 0 {
            out.push_str("\n| check | device | what | clause |\n|---|---|---|---|\n");
        }
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            cell(&result.id),
            cell(&device.device),
            cell(&result.verdict.detail()),
            cell(&result.clause)
        );
    }
    out
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\r', '\n'], " ")
}

/// As workflow commands want their message.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As workflow commands want their properties.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
