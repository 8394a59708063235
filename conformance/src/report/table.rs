//! The report for people.

use std::fmt::Write;

use crate::{Check, DeviceReport, Report, Totals, Verdict};

/// Each check on a line, then a summary. Plain text, no colours.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    for device in &report.devices {
        device_table(&mut out, device);
    }
    for device in &report.devices {
        failures(&mut out, device);
    }
    summary(&mut out, report);
    out
}

/// Checks without results: id, title, clause.
#[must_use]
pub fn list<'a>(checks: impl IntoIterator<Item = &'a Check>) -> String {
    let checks: Vec<_> = checks.into_iter().collect();
    let id = widest(checks.iter().map(|check| check.id));
    let title = widest(checks.iter().map(|check| check.title));
    let mut out = String::new();
    for check in checks {
        line(&mut out, &format!("{:id$}  {:title$}  {}", check.id, check.title, check.clause));
    }
    out
}

fn device_table(out: &mut String, device: &DeviceReport) {
    line(out, &format!("{} ({})", device.device, device.pci_id));
    let id = widest(device.results.iter().map(|result| result.id.as_str()));
    let title = widest(device.results.iter().map(|result| result.title.as_str()));
    for result in &device.results {
        let (word, clause) = (result.verdict.word(), &result.clause);
        line(out, &format!("{word:>6}  {:id$}  {:title$}  {clause}", result.id, result.title));
    }
    out.push('\n');
}

fn failures(out: &mut String, device: &DeviceReport) {
    for result in device.results.iter().filter(|result| result.verdict.is_bad()) {
        line(out, &format!("{} {} on {}", result.verdict.word(), result.id, device.device));
        line(out, &format!("  {} ({})", result.title, result.clause));
        match &result.verdict {
            Verdict::Fail { expected, seen } => {
                line(out, &format!("  expected: {expected}"));
                line(out, &format!("  seen:     {seen}"));
            }
            verdict => line(out, &format!("  {}", verdict.detail())),
        }
        if !result.replay.is_empty() {
            line(out, &format!("  replay:   {}", result.replay));
        }
        out.push('\n');
    }
}

fn summary(out: &mut String, report: &Report) {
    let names = report.devices.iter().map(|device| device.device.as_str());
    let width = widest(names.chain(["all devices"]));
    let mut row = |name: &str, totals: Totals| {
        let Totals { checks, passed, rejected, failed, skipped, wedged } = totals;
        line(
            out,
            &format!(
                "{name:width$}  {checks:>4} checks  {passed:>4} passed  {rejected:>3} rejected  \
                 {failed:>3} failed  {wedged:>3} wedged  {skipped:>3} skipped"
            ),
        );
    };
    for device in &report.devices {
        row(&device.device, device.totals());
    }
    if report.devices.len() > 1 {
        row("all devices", report.totals);
    }
    if !report.coverage.is_empty() {
        out.push('\n');
        out.push_str(&super::coverage::table(&report.coverage));
    }
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

/// A line without trailing blanks. Writing to a string cannot fail.
fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{}", text.trim_end());
}
