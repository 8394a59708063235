//! What came of a check.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ledger::{Coverage, Ledger};

/// What came of one check on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// The device does what the clause says.
    Pass,
    /// The clause demands that something is refused, and the device refused it.
    Rejected {
        /// What was refused, and how.
        how: String,
    },
    /// It does something else.
    Fail {
        /// What the clause demands.
        expected: String,
        /// What the device did.
        seen: String,
    },
    /// The clause does not apply to this device.
    Skipped {
        /// Why not.
        reason: String,
    },
    /// The device did not answer within the time limit, and was replaced by a new one.
    Wedged {
        /// What did not come.
        waiting_for: String,
    },
}

impl Verdict {
    /// The word for it in tables.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Rejected { .. } => "reject",
            Self::Fail { .. } => "FAIL",
            Self::Skipped { .. } => "skip",
            Self::Wedged { .. } => "WEDGED",
        }
    }

    /// Whether it makes the run fail.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        matches!(self, Self::Fail { .. } | Self::Wedged { .. })
    }

    /// The rest of the story, on one line; empty for a pass.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Pass => String::new(),
            Self::Rejected { how } => format!("refused {how}"),
            Self::Fail { expected, seen } => format!("expected {expected}; saw {seen}"),
            Self::Skipped { reason } => reason.clone(),
            Self::Wedged { waiting_for } => format!("no answer within the limit: {waiting_for}"),
        }
    }
}

/// Why a check stopped before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The device did something else than the clause demands.
    Fail {
        /// What the clause demands.
        expected: String,
        /// What the device did.
        seen: String,
    },
    /// The clause does not apply.
    Skip(String),
    /// The time limit passed while waiting for this.
    Wedged(String),
}

const CLOSED: &str = "the connection closed";

impl Stop {
    /// A failure.
    pub fn fail(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::Fail { expected: expected.into(), seen: seen.into() }
    }

    /// The connection closed instead; `whereabouts` says where in a message, if not between two.
    pub(crate) fn closed(expected: impl Into<String>, whereabouts: &str) -> Self {
        Self::fail(expected, format!("{CLOSED}{whereabouts}"))
    }

    /// Whether the connection closed instead of something that was expected.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Self::Fail { seen, .. } if seen.starts_with(CLOSED))
    }

    /// A clause that does not apply.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self::Skip(reason.into())
    }

    /// The same, said of a larger step: `step` is put before what was expected.
    #[must_use]
    pub fn during(self, step: &str) -> Self {
        match self {
            Self::Fail { expected, seen } => {
                Self::Fail { expected: format!("{step}: {expected}"), seen }
            }
            Self::Wedged(what) => Self::Wedged(format!("{step}: {what}")),
            skip @ Self::Skip(_) => skip,
        }
    }
}

impl From<Stop> for Verdict {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fail { expected, seen } => Self::Fail { expected, seen },
            Stop::Skip(reason) => Self::Skipped { reason },
            Stop::Wedged(waiting_for) => Self::Wedged { waiting_for },
        }
    }
}

/// Fails the check unless `seen` is `expected`. `what` names the thing compared.
///
/// # Errors
/// [`Stop::Fail`] if they differ.
pub(crate) fn expect_eq<T: PartialEq + std::fmt::Debug>(
    what: &str,
    seen: &T,
    expected: &T,
) -> Result<(), Stop> {
    if seen == expected {
        return Ok(());
    }
    Err(Stop::fail(format!("{what} {expected:?}"), format!("{seen:?}")))
}

/// Fails the check unless `seen` is `expected`; numbers are printed in hexadecimal.
///
/// # Errors
/// [`Stop::Fail`] if they differ.
pub(crate) fn expect_hex<T: Copy + PartialEq + std::fmt::LowerHex>(
    what: &str,
    seen: T,
    expected: T,
) -> Result<(), Stop> {
    if seen == expected {
        return Ok(());
    }
    Err(Stop::fail(format!("{what} {expected:#x}"), format!("{seen:#x}")))
}

/// Fails the check unless two byte strings are equal, and shows where they part.
///
/// # Errors
/// [`Stop::Fail`] if they differ.
pub(crate) fn expect_bytes(what: &str, seen: &[u8], expected: &[u8]) -> Result<(), Stop> {
    if seen == expected {
        return Ok(());
    }
    let at = seen.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let tail = |bytes: &[u8]| {
        let shown = bytes.get(at..bytes.len().min(at + 16)).unwrap_or(&[]);
        format!("{} bytes, from byte {at}: {}", bytes.len(), hex::encode(shown))
    };
    Err(Stop::fail(format!("{what} of {}", tail(expected)), tail(seen)))
}

/// Fails the check unless `holds`.
///
/// # Errors
/// [`Stop::Fail`] if it does not.
pub(crate) fn expect(
    holds: bool,
    expected: &str,
    seen: impl FnOnce() -> String,
) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(Stop::fail(expected, seen())) }
}

/// One check's result on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// Stable id of the check.
    pub id: String,
    /// The requirement.
    pub title: String,
    /// Where it is written.
    pub clause: String,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// Which time it ran, from 1, if checks were repeated.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub round: u32,
    /// The demands of the specification that it holds the device to: ids in the ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    /// The command that runs it again, for what failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replay: String,
    /// What client and device last said to each other, for what failed: a line for each message,
    /// `->` for the client's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<String>,
}

fn first() -> u32 {
    1
}

fn is_first(round: &u32) -> bool {
    *round == 1
}

impl CheckResult {
    /// The first part of the id.
    #[must_use]
    pub fn area(&self) -> &str {
        self.id.split('/').next().unwrap_or(&self.id)
    }
}

/// All results on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceReport {
    /// The name it was asked for by.
    pub device: String,
    /// Vendor and device id as its config space has them (`1af4:1054`).
    pub pci_id: String,
    /// In the order in which they ran.
    pub results: Vec<CheckResult>,
}

impl DeviceReport {
    /// How the results divide.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for result in &self.results {
            totals.count(&result.verdict);
        }
        totals
    }
}

/// Numbers of results by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Checks that ran.
    pub checks: u32,
    /// Of these, passed.
    pub passed: u32,
    /// Passed because the device refused what it must refuse.
    #[serde(default)]
    pub rejected: u32,
    /// Failed.
    pub failed: u32,
    /// Did not apply.
    pub skipped: u32,
    /// Never answered.
    pub wedged: u32,
}

impl Totals {
    /// Adds one result.
    pub fn count(&mut self, verdict: &Verdict) {
        self.checks += 1;
        match verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Rejected { .. } => self.rejected += 1,
            Verdict::Fail { .. } => self.failed += 1,
            Verdict::Skipped { .. } => self.skipped += 1,
            Verdict::Wedged { .. } => self.wedged += 1,
        }
    }

    /// Whether something failed.
    #[must_use]
    pub fn is_bad(self) -> bool {
        self.failed + self.wedged > 0
    }

    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.checks += other.checks;
        self.passed += other.passed;
        self.rejected += other.rejected;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.wedged += other.wedged;
    }
}

/// The outcome of a run: what all reports are rendered from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this format: 1.
    pub format: u32,
    /// The program that ran the checks, with its version.
    pub tool: String,
    /// Where all that was drawn at random started: contents and, if asked for, the order.
    #[serde(default)]
    pub seed: u64,
    /// All devices together.
    pub totals: Totals,
    /// Each device that was checked.
    pub devices: Vec<DeviceReport>,
    /// What the specifications demand, by area, and how much of it checks stand for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coverage: Vec<AreaCoverage>,
}

/// How the requirements of one area divide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AreaCoverage {
    /// The area.
    pub area: String,
    /// How they divide.
    #[serde(flatten)]
    pub coverage: Coverage,
}

impl Report {
    /// A report on these devices.
    #[must_use]
    pub fn new(tool: String, devices: Vec<DeviceReport>) -> Self {
        let mut totals = Totals::default();
        for device in &devices {
            totals.add(device.totals());
        }
        Self { format: 1, tool, seed: 0, totals, devices, coverage: Vec::new() }
    }

    /// With the seed of the run.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// With what a ledger says.
    #[must_use]
    pub fn with_coverage(mut self, ledger: &Ledger) -> Self {
        let area = |area: &crate::ledger::Area| AreaCoverage {
            area: area.area.clone(),
            coverage: Coverage::of(&area.requirements),
        };
        self.coverage = ledger.areas.iter().map(area).collect();
        self
    }

    /// Whether something was checked and nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.totals.checks > 0 && !self.totals.is_bad()
    }

    /// Time taken by all checks together.
    #[must_use]
    pub fn duration(&self) -> Duration {
        let micros = self.devices.iter().flat_map(|d| &d.results).map(|r| r.micros).sum();
        Duration::from_micros(micros)
    }
}
