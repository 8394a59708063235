//! DPDK's own tests of a driver (`dpdk-test`), with what they print taken apart.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Failure;
use crate::protocol::Reason;

const PROGRAM: &str = "/usr/bin/dpdk-test";
/// Its output, which grows to megabytes.
const OUTPUT: &str = "/tmp/dpdk-test";
/// Most lines of notes kept before one result; the first matter.
const MAX_NOTES: usize = 32;
/// Most failures that are quoted.
const MAX_QUOTED: usize = 40;

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

/// Runs a command of `dpdk-test` on a PCI function. Fails unless it ran to its end without a failed
/// case, and each skipped one has a reason among `reasons`.
pub(super) fn check(
    command: &str,
    function: &str,
    drivers: &[String],
    reasons: &[Reason],
) -> Result<Value, Failure> {
    let io = |e: std::io::Error| format!("{OUTPUT}: {e}");
    let output = File::create(OUTPUT).map_err(io)?;
    let errors = output.try_clone().map_err(io)?;
    let status = Command::new(PROGRAM)
        .args(["-l", "0", "-a", function])
        .args(drivers.iter().flat_map(|driver| ["-d", driver]))
        .env("DPDK_TEST", command)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(|e| format!("{PROGRAM}: {e}"))?;
    let printed = String::from_utf8_lossy(&fs::read(OUTPUT).map_err(io)?).into_owned();
    let cases = parse(&printed);
    let count = |verdict| cases.iter().filter(|case| case.verdict == verdict).count();
    let [passed, skipped, failed] = [Verdict::Passed, Verdict::Skipped, Verdict::Failed].map(count);
    let total = format!("{command}: passed {passed}, skipped {skipped}, failed {failed}");
    let (why, unexplained) = explain(&cases, reasons);
    if failed > 0 || !unexplained.is_empty() || !status.success() || passed == 0 {
        let quoted: Vec<String> = cases
            .iter()
            .filter(|case| case.verdict == Verdict::Failed)
            .map(|case| format!("failed: {}: {}", case.name, case.notes.join("; ")))
            .chain(unexplained.iter().map(|case| format!("skipped without a reason: {case}")))
            .take(MAX_QUOTED)
            .collect();
        let end = status.signal().map_or_else(|| status.to_string(), |s| format!("signal {s}"));
        return Err(format!("{total}; {end}; {}; {}", quoted.join("\n"), tail(&printed)));
    }
    Ok(json!({ "passed": passed, "skipped": skipped, "failed": failed, "reasons": why }))
}

/// The last lines, in which a crash or a refusal to start shows.
fn tail(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

fn parse(printed: &str) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    let mut notes = Vec::new();
    for line in printed.lines() {
        let Some((name, verdict)) = result(line) else {
            // Dumps of keys and texts are no notes.
            let is_note = ["USER1:", "QAT", "CRYPTODEV:", "COMPRESSDEV:", "EAL: Test assert"]
                .iter()
                .any(|start| line.trim_start().starts_with(start));
            if is_note && notes.len() < MAX_NOTES {
                notes.push(line.trim());
            }
            continue;
        };
        cases.push(Case { name, verdict, notes: std::mem::take(&mut notes) });
    }
    cases
}

/// ` + TestCase [ 3] : NAME succeeded`
fn result(line: &str) -> Option<(&str, Verdict)> {
    let (_, rest) = line.trim_start().strip_prefix("+ TestCase [")?.split_once("] : ")?;
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
) -> (BTreeMap<String, Vec<&'a str>>, Vec<&'a str>) {
    let (mut why, mut unexplained) = (BTreeMap::<_, Vec<_>>::new(), Vec::new());
    for case in cases.iter().filter(|case| case.verdict == Verdict::Skipped) {
        let says = |mark: &String| {
            case.name.contains(mark) || case.notes.iter().any(|note| note.contains(mark))
        };
        match reasons.iter().find(|reason| reason.marks.iter().any(says)) {
            Some(reason) => why.entry(reason.why.clone()).or_default().push(case.name),
            None => unexplained.push(case.name),
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
";

    #[test]
    fn output_is_taken_apart() {
        let cases = parse(PRINTED);
        let found: Vec<_> = cases.iter().map(|case| (case.name, case.verdict)).collect();
        let expected = [
            ("AES-128-CBC Encryption", Verdict::Passed),
            ("PDCP Proto", Verdict::Skipped),
            ("test_recoverable", Verdict::Skipped),
            ("x", Verdict::Failed),
        ];
        assert_eq!(found, expected);
        assert_eq!(cases[1].notes, ["QAT: no such slice"]);
        assert_eq!(cases[3].notes, ["EAL: Test assert test_x line 3 failed: no"]);
    }

    #[test]
    fn a_skip_needs_a_reason() {
        let reasons = [Reason { marks: vec!["such slice".into()], why: "no slice".into() }];
        let (why, unexplained) = explain(&parse(PRINTED), &reasons);
        assert_eq!(why["no slice"], ["PDCP Proto"]);
        assert_eq!(unexplained, ["test_recoverable"]);
    }
}
