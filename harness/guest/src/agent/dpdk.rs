//! DPDK's own tests of a driver (`dpdk-test`), with what they print taken apart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use nix::pty::openpty;
use serde_json::{Value, json};

use super::Failure;
use crate::protocol::Reason;

const PROGRAM: &str = "/usr/bin/dpdk-test";
/// Most lines of notes kept before one result; the first matter.
const MAX_NOTES: usize = 32;
/// Most failures that are quoted.
const MAX_QUOTED: usize = 400;

/// How one test case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// `skipped` or `unsupported`: DPDK has both words.
    Skipped,
    Failed,
}

/// One test case, with what was printed since the one before.
#[derive(Debug, PartialEq, Eq)]
struct Case<'a> {
    name: &'a str,
    verdict: Verdict,
    notes: Vec<&'a str>,
}

/// What was printed, taken apart.
#[derive(Debug, Default)]
struct Printed<'a> {
    cases: Vec<Case<'a>>,
    /// Suites that were skipped as a whole: why, in DPDK's words, and their number of cases.
    suites: BTreeMap<&'a str, usize>,
    /// Cases skipped, by DPDK's own count.
    left_out: usize,
}

/// Runs a command of `dpdk-test` on a PCI function. Fails unless it ran to its end without a failed
/// case, and each skipped one has a reason among `reasons`.
pub(super) fn check(
    command: &str,
    function: &str,
    drivers: &[String],
    reasons: &[Reason],
) -> Result<Value, Failure> {
    let (status, printed) = run(command, function, drivers)?;
    let Printed { cases, suites, left_out } = parse(&printed);
    let count = |verdict| cases.iter().filter(|case| case.verdict == verdict).count();
    let [passed, skipped, failed] = [Verdict::Passed, Verdict::Skipped, Verdict::Failed].map(count);
    let skipped = skipped + suites.values().sum::<usize>();
    let total = format!("{command}: passed {passed}, skipped {skipped}, failed {failed}");
    let (why, unexplained) = explain(&cases, reasons);
    let complete = status.success() && passed > 0 && skipped == left_out;
    if failed > 0 || !unexplained.is_empty() || !complete {
        let quoted: Vec<String> = cases
            .iter()
            .filter(|case| case.verdict == Verdict::Failed)
            .map(|case| format!("failed: {}: {}", case.name, case.notes.join("; ")))
            .chain(unexplained.iter().map(|case| format!("skipped without a reason: {case}")))
            .take(MAX_QUOTED)
            .collect();
        let end = status.signal().map_or_else(|| status.to_string(), |s| format!("signal {s}"));
        let quoted = quoted.join("\n");
        let tail = tail(&printed);
        return Err(format!("{total}; it says it skipped {left_out}; {end}; {quoted}; {tail}"));
    }
    Ok(json!({
        "passed": passed,
        "skipped": skipped,
        "failed": failed,
        "reasons": why,
        "suites": suites,
    }))
}

/// Runs the program on a terminal, so that each line comes as it is printed and all are in order.
fn run(command: &str, function: &str, drivers: &[String]) -> Result<(ExitStatus, String), Failure> {
    let pty = openpty(None, None).map_err(|e| format!("pseudo-terminal: {e}"))?;
    let errors = pty.slave.try_clone().map_err(|e| format!("pseudo-terminal: {e}"))?;
    let mut child = Command::new(PROGRAM)
        .args(["-l", "0", "-a", function])
        .args(drivers.iter().flat_map(|driver| ["-d", driver]))
        .env("DPDK_TEST", command)
        .stdin(Stdio::null())
        .stdout(pty.slave)
        .stderr(errors)
        .spawn()
        .map_err(|e| format!("{PROGRAM}: {e}"))?;
    // The terminal ends with an error when the last of the other side is closed.
    let mut printed = Vec::new();
    let _ = File::from(pty.master).read_to_end(&mut printed);
    let status = child.wait().map_err(|e| format!("{PROGRAM}: {e}"))?;
    Ok((status, String::from_utf8_lossy(&printed).into_owned()))
}

/// The last lines, in which a crash or a refusal to start shows.
fn tail(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

fn parse(printed: &str) -> Printed<'_> {
    let mut found = Printed::default();
    let (mut notes, mut unmet) = (Vec::new(), None);
    let (mut skipped, mut unsupported) = (0, 0);
    for line in printed.lines().map(str::trim) {
        if let Some((name, verdict)) = result(line) {
            found.cases.push(Case { name, verdict, notes: std::mem::take(&mut notes) });
            unmet = None;
        } else if let Some(count) = tally(line, "Tests Skipped") {
            if let Some(why) = unmet.take() {
                *found.suites.entry(why).or_default() += count;
            }
            // Of the whole, at the end.
            skipped = count;
            notes.clear();
        } else if let Some(count) = tally(line, "Tests Unsupported") {
            unsupported = count;
        } else if line.ends_with("not met") {
            unmet = line.strip_prefix("USER1: ");
        } else {
            // Dumps of keys and texts are no notes.
            let starts = ["USER1:", "QAT", "CRYPTODEV:", "COMPRESSDEV:", "EAL: Test assert"];
            let is_note = starts.iter().any(|start| line.starts_with(start))
                || line.contains("support")
                || line.contains("kipped");
            if is_note && notes.len() < MAX_NOTES {
                notes.push(line);
            }
        }
    }
    found.left_out = skipped + unsupported;
    found
}

/// `+ Tests Skipped :     12`
fn tally(line: &str, what: &str) -> Option<usize> {
    let (_, rest) = line.strip_prefix("+ ")?.split_once(what)?;
    rest.trim_start().strip_prefix(':')?.trim().parse().ok()
}

/// ` + TestCase [ 3] : NAME succeeded`
fn result(line: &str) -> Option<(&str, Verdict)> {
    let (_, rest) = line.strip_prefix("+ TestCase [")?.split_once("] : ")?;
    let (name, word) = rest.trim_end().rsplit_once(' ')?;
    let verdict = match word {
        "succeeded" => Verdict::Passed,
        "skipped" | "unsupported" => Verdict::Skipped,
        "failed" => Verdict::Failed,
        _ => return None,
    };
    Some((name, verdict))
}

/// The skipped cases by their reason, and those that have none.
fn explain<'a>(
    cases: &[Case<'a>],
    reasons: &[Reason],
) -> (BTreeMap<String, Vec<&'a str>>, Vec<String>) {
    let (mut why, mut unexplained) = (BTreeMap::<_, Vec<_>>::new(), Vec::new());
    for case in cases.iter().filter(|case| case.verdict == Verdict::Skipped) {
        let says = |mark: &String| {
            case.name.contains(mark) || case.notes.iter().any(|note| note.contains(mark))
        };
        match reasons.iter().find(|reason| reason.marks.iter().any(says)) {
            Some(reason) => why.entry(reason.why.clone()).or_default().push(case.name),
            None => unexplained.push(format!("{}: {}", case.name, case.notes.join("; "))),
        }
    }
    (why, unexplained)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
USER1: one test suite
 + TestCase [ 0] : AES-128-CBC Encryption succeeded
key: at [0x1], len=16
QAT: no such slice
 + TestCase [ 1] : PDCP Proto skipped
 + TestCase [13] : test_recoverable unsupported
EAL: Test assert test_x line 3 failed: no
 + TestCase [14] : x failed
 + TestCase [15] : y garbled
 + Tests Skipped :      1
 + Test Suite : SM4 Chain
USER1: Capability for SM4 Chain testsuite not met
 + Tests Skipped :     24
 + Tests Unsupported:   0
 + Tests Skipped :     25
 + Tests Unsupported:   1
";

    #[test]
    fn output_is_taken_apart() {
        let Printed { cases, suites, left_out } = parse(PRINTED);
        let found: Vec<_> = cases.iter().map(|case| (case.name, case.verdict)).collect();
        let expected = [
            ("AES-128-CBC Encryption", Verdict::Passed),
            ("PDCP Proto", Verdict::Skipped),
            ("test_recoverable", Verdict::Skipped),
            ("x", Verdict::Failed),
        ];
        assert_eq!(found, expected);
        assert_eq!(suites, BTreeMap::from([("Capability for SM4 Chain testsuite not met", 24)]));
        assert_eq!(left_out, 26);
        assert_eq!(cases[1].notes, ["QAT: no such slice"]);
        assert_eq!(cases[3].notes, ["EAL: Test assert test_x line 3 failed: no"]);
    }

    #[test]
    fn a_skip_needs_a_reason() {
        let reasons = [Reason { marks: vec!["such slice".into()], why: "no slice".into() }];
        let (why, unexplained) = explain(&parse(PRINTED).cases, &reasons);
        assert_eq!(why["no slice"], ["PDCP Proto"]);
        assert_eq!(unexplained, ["test_recoverable: "]);
    }
}
