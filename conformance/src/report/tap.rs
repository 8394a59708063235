//! The report as TAP version 14: a subtest for each device, a test point for each check.
//!
//! <https://testanything.org/tap-version-14-specification.html>

use std::fmt::Write;

use crate::{CheckResult, Report, Verdict};

/// The report as TAP 14.
#[must_use]
pub fn tap(report: &Report) -> String {
    let mut out = format!("TAP version 14\n1..{}\n", report.devices.len());
    for (number, device) in (1..).zip(&report.devices) {
        let name = escaped(&device.device);
        let totals = device.totals();
        let failed = totals.failed + totals.wedged;
        let _ = writeln!(out, "# Subtest: {name}\n    1..{}", device.results.len());
        for (number, result) in (1..).zip(&device.results) {
            point(&mut out, number, result);
        }
        let word = if failed == 0 { "ok" } else { "not ok" };
        let _ = writeln!(out, "{word} {number} - {name}");
    }
    out
}

fn point(out: &mut String, number: u32, result: &CheckResult) {
    let CheckResult { id, title, clause, verdict, round, replay, trace, .. } = result;
    let word = if verdict.is_bad() { "not ok" } else { "ok" };
    let again = if *round > 1 { format!(" (round {round})") } else { String::new() };
    let name = escaped(&format!("{id} {title}{again}"));
    let skip = match verdict {
        Verdict::Skipped { reason } => format!(" # SKIP {}", one_line(reason)),
        _ => String::new(),
    };
    let _ = writeln!(out, "    {word} {number} - {name}{skip}");
    let mut block = Vec::new();
    match verdict {
        Verdict::Pass | Verdict::Skipped { .. } => return,
        Verdict::Rejected { how } => block.push(("refused", how)),
        Verdict::Fail { expected, seen } => {
            block.extend([("expected", expected), ("seen", seen)]);
        }
        Verdict::Wedged { waiting_for } => block.push(("waiting_for", waiting_for)),
    }
    block.push(("clause", clause));
    if !replay.is_empty() {
        block.push(("replay", replay));
    }
    let _ = writeln!(out, "      ---");
    for (key, value) in block {
        let _ = writeln!(out, "      {key}: {}", quoted(value));
    }
    if !trace.is_empty() {
        let _ = writeln!(out, "      trace:");
        for line in trace {
            let _ = writeln!(out, "        - {}", quoted(line));
        }
    }
    let _ = writeln!(out, "      ...");
}

/// A description: `#` would begin a directive.
fn escaped(text: &str) -> String {
    one_line(&text.replace('\\', r"\\").replace('#', r"\#"))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A scalar of YAML: its double-quoted ones hold all that JSON's strings hold.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
