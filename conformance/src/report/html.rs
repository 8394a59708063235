//! The report as one page: what failed and why first, then every check by area.
//!
//! No other files and nothing from the network: it can be attached to a build, or sent by mail.
//! Without scripts it lacks the filter and nothing else.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::{CheckResult, DeviceReport, Report, Totals, Verdict};

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Classes of verdicts, in the order of bars and legends, with what readers call them.
const CLASSES: [(&str, &str); 5] = [
    ("pass", "passed"),
    ("reject", "refused correctly"),
    ("fail", "failed"),
    ("wedged", "stopped answering"),
    ("skip", "skipped"),
];

/// The report as HTML.
#[must_use]
pub fn html(report: &Report) -> String {
    let (class, word) = if report.passed() { ("pass", "passed") } else { ("fail", "failed") };
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Conformance: {word}</title>\n<style>\n{STYLE}</style>\n\
         <header><h1>Conformance report</h1><span class=\"mark {class}\">{word}</span>\
         <span class=\"soft\">{}, seed {}, {:.1} s</span></header>\n",
        escaped(&report.tool),
        report.seed,
        report.duration().as_secs_f64()
    );
    bar(&mut out, report.totals, "");
    legend(&mut out, report.totals);
    failures(&mut out, report);
    out.push_str(
        "<h2>All checks</h2>\n<div class=\"tools\" hidden>\
         <input type=\"search\" aria-label=\"Filter\" placeholder=\"Filter by id, text or clause\">",
    );
    for (class, name) in CLASSES {
        let _ = write!(
            out,
            "<label><input type=\"checkbox\" value=\"{class}\" checked> {name}</label>"
        );
    }
    out.push_str("</div>\n");
    for device in &report.devices {
        device_section(&mut out, device);
    }
    coverage(&mut out, report);
    let _ = write!(out, "<script>\n{SCRIPT}</script>\n</html>\n");
    out
}

fn class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Rejected { .. } => "reject",
        Verdict::Fail { .. } => "fail",
        Verdict::Wedged { .. } => "wedged",
        Verdict::Skipped { .. } => "skip",
    }
}

/// Counts in the order of [`CLASSES`].
fn counts(totals: Totals) -> [u32; 5] {
    [totals.passed, totals.rejected, totals.failed, totals.wedged, totals.skipped]
}

fn bar(out: &mut String, totals: Totals, more: &str) {
    let _ = write!(out, "<div class=\"bar{more}\" aria-hidden=\"true\">");
    for ((class, _), count) in CLASSES.iter().zip(counts(totals)).filter(|(_, count)| *count > 0) {
        let _ = write!(out, "<i class=\"{class}\" style=\"flex:{count}\"></i>");
    }
    out.push_str("</div>");
}

fn legend(out: &mut String, totals: Totals) {
    out.push_str("\n<ul class=\"legend\">");
    for ((class, name), count) in CLASSES.iter().zip(counts(totals)) {
        let _ = write!(out, "<li class=\"dot {class}\"><span><b>{count}</b> {name}</span></li>");
    }
    out.push_str("</ul>\n");
}

fn failures(out: &mut String, report: &Report) {
    let bad = || {
        report.devices.iter().flat_map(|device| {
            let bad = device.results.iter().filter(|result| result.verdict.is_bad());
            bad.map(move |result| (device, result))
        })
    };
    if bad().next().is_none() {
        return;
    }
    out.push_str("<h2>What failed</h2>\n");
    for (device, result) in bad() {
        failure(out, device, result);
    }
}

fn failure(out: &mut String, device: &DeviceReport, result: &CheckResult) {
    let CheckResult { id, title, clause, verdict, requirements, replay, trace, .. } = result;
    let _ = write!(
        out,
        "<article class=\"{}\"><h3><code>{}</code> on {}</h3><p>{}</p><dl>",
        class(verdict),
        escaped(id),
        escaped(&device.device),
        escaped(title)
    );
    let mut entry = |name: &str, value: &str| {
        let _ = write!(out, "<dt>{name}</dt><dd>{value}</dd>");
    };
    match verdict {
        Verdict::Fail { expected, seen } => {
            entry("Expected", &escaped(expected));
            entry("Seen", &escaped(seen));
        }
        verdict => entry("Seen", &escaped(&verdict.detail())),
    }
    entry("Clause", &escaped(clause));
    if !requirements.is_empty() {
        entry("Requirement", &escaped(&requirements.join(", ")));
    }
    if !replay.is_empty() {
        entry("Run again", &format!("<code>{}</code>", escaped(replay)));
    }
    out.push_str("</dl>");
    if !trace.is_empty() {
        let _ = write!(
            out,
            "<details class=\"more\"><summary>The last {} messages before the verdict \
             (<code>-&gt;</code> from the client)</summary><pre>{}</pre></details>",
            trace.len(),
            escaped(&trace.join("\n"))
        );
    }
    out.push_str("</article>\n");
}

fn device_section(out: &mut String, device: &DeviceReport) {
    let _ = writeln!(
        out,
        "<h2>{} <span class=\"soft\">{}</span></h2>",
        escaped(&device.device),
        escaped(&device.pci_id)
    );
    let mut areas: Vec<&str> = Vec::new();
    let mut results: BTreeMap<&str, Vec<&CheckResult>> = BTreeMap::new();
    for result in &device.results {
        if !areas.contains(&result.area()) {
            areas.push(result.area());
        }
        results.entry(result.area()).or_default().push(result);
    }
    for area in areas {
        area_section(out, area, results.get(area).map_or(&[], Vec::as_slice));
    }
}

fn area_section(out: &mut String, area: &str, results: &[&CheckResult]) {
    let mut totals = Totals::default();
    for result in results {
        totals.count(&result.verdict);
    }
    let bad = totals.failed + totals.wedged;
    let open = if bad > 0 { " open" } else { "" };
    let _ = write!(out, "<details class=\"area\"{open}><summary><b>{}</b>", escaped(area));
    bar(out, totals, " thin");
    let good = totals.passed + totals.rejected;
    let _ = write!(out, "<span class=\"counts\">{good} of {} hold", totals.checks - totals.skipped);
    if bad > 0 {
        let _ = write!(out, ", <b class=\"fail\">{bad} do not</b>");
    }
    out.push_str(
        "</span></summary><div class=\"wide\"><table><thead><tr><th>Verdict</th><th>Check</th>\
         <th>What must hold</th><th class=\"clause\">Clause</th>\
         <th class=\"time number\">ms</th></tr></thead><tbody>\n",
    );
    for result in results {
        row(out, result);
    }
    out.push_str("</tbody></table></div></details>\n");
}

fn row(out: &mut String, result: &CheckResult) {
    let verdict = &result.verdict;
    let class = class(verdict);
    let _ = write!(
        out,
        "<tr data-verdict=\"{class}\"><td class=\"verdict {class}\">{}</td>\
         <td class=\"id\"><code>{}</code></td><td>{}",
        verdict.word().to_lowercase(),
        escaped(&result.id),
        escaped(&result.title)
    );
    let detail = verdict.detail();
    if !detail.is_empty() {
        let _ = write!(out, "<small>{}</small>", escaped(&detail));
    }
    let millis = Millis(result.micros);
    let _ = writeln!(
        out,
        "</td><td class=\"clause soft\">{}</td><td class=\"time number\">{millis}</td></tr>",
        escaped(&result.clause)
    );
}

fn coverage(out: &mut String, report: &Report) {
    if report.coverage.is_empty() {
        return;
    }
    out.push_str(
        "<h2>What the specifications demand</h2>\n<div class=\"wide\"><table><thead><tr><th>Area</th>\
         <th class=\"number\">Demands</th><th class=\"number\">Tested</th>\
         <th class=\"number\">Watched in drivers</th><th class=\"number\">Waived</th>\
         <th class=\"number\">Not testable</th></tr></thead><tbody>\n",
    );
    for area in &report.coverage {
        let c = area.coverage;
        let _ = write!(out, "<tr><td>{}</td>", escaped(&area.area));
        for number in [c.requirements, c.tested, c.watched, c.waived, c.untestable] {
            let _ = write!(out, "<td class=\"number\">{number}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

/// Microseconds as milliseconds with a decimal.
struct Millis(u64);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 100)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
