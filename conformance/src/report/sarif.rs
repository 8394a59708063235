//! The report as SARIF 2.1.0: a rule for each check that ran, a result for each failure and skip.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{CheckResult, DeviceReport, Report, Verdict};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The report as SARIF, indented.
///
/// # Errors
/// Never in practice: the document has no keys but strings.
pub fn sarif(report: &Report) -> serde_json::Result<String> {
    let mut indexes = BTreeMap::new();
    let mut rules = Vec::new();
    let mut results = Vec::new();
    for device in &report.devices {
        for result in &device.results {
            let index = *indexes.entry(result.id.as_str()).or_insert_with(|| {
                rules.push(rule(result));
                rules.len() - 1
            });
            if !matches!(result.verdict, Verdict::Pass | Verdict::Rejected { .. }) {
                results.push(finding(device, result, index));
            }
        }
    }
    let (name, version) = report.tool.split_once(' ').unwrap_or((&report.tool, "0"));
    let document = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": name, "semanticVersion": version, "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "invocations": [{ "executionSuccessful": true }],
            "results": results,
        }],
    });
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}

fn rule(result: &CheckResult) -> Value {
    json!({
        "id": result.id,
        "shortDescription": { "text": result.title },
        "fullDescription": { "text": format!("{} ({})", result.title, result.clause) },
        "help": { "text": format!("What the device is held to: {}", result.clause) },
        "defaultConfiguration": { "level": "error" },
        "properties": { "tags": [result.area()], "requirements": result.requirements },
    })
}

fn finding(device: &DeviceReport, result: &CheckResult, index: usize) -> Value {
    let (kind, level) = match result.verdict {
        Verdict::Skipped { .. } => ("notApplicable", "none"),
        _ => ("fail", "error"),
    };
    let text = format!("{}: {} ({})", result.title, result.verdict.detail(), result.clause);
    let name = format!("{}/{}", device.device, result.id);
    let mut finding = json!({
        "ruleId": result.id,
        "ruleIndex": index,
        "kind": kind,
        "level": level,
        "message": { "text": text },
        "locations": [{ "logicalLocations": [{
            "name": device.device, "fullyQualifiedName": name, "kind": "module",
        }]}],
        "partialFingerprints": { "deviceAndCheck/v1": name },
        "properties": { "device": device.device, "pciId": device.pci_id, "round": result.round },
    });
    if !result.replay.is_empty() {
        finding["properties"]["replay"] = json!(result.replay);
    }
    if !result.trace.is_empty() {
        finding["properties"]["trace"] = json!(result.trace);
    }
    finding
}
