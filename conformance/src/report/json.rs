//! The report as JSON, and its schema.

use crate::Report;

/// The report as indented JSON with a final newline.
///
/// # Errors
/// Never in practice: the model has no map with keys that JSON cannot hold.
pub fn json(report: &Report) -> serde_json::Result<String> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}

/// The JSON schema of [`json`].
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Report)
}
