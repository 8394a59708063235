//! What came of a scenario, for people and for programs.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// As it must be.
    Pass,
    /// The guest, the device or QEMU answered, and not as it must.
    Fail {
        /// What is not as it must be.
        reason: String,
    },
    /// There was no answer: the kernel panicked, QEMU ended, time ran out, or the step was not
    /// reached.
    Missing {
        /// What is known about why.
        reason: String,
    },
}

/// One step of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// The step's name, unique in its scenario.
    pub id: String,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Operations that each device completed during the step, where that was counted.
    pub operations: Vec<u64>,
    /// What the step measured; its shape is the task's own.
    pub measured: Value,
}

/// One run of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The kernel's release.
    pub kernel: String,
    /// The seed of everything random in it.
    pub seed: u64,
    /// From power-on to the last verdict, in seconds.
    pub seconds: f64,
    /// Every step, `boot` first, in order; also those that were not reached.
    pub steps: Vec<StepReport>,
    /// The end of the guest's console, unless the scenario passed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log: String,
}

impl Verdict {
    /// Splits an outcome into its verdict and what was measured.
    pub(crate) fn of(outcome: Result<Value, Error>) -> (Self, Value) {
        match outcome {
            Ok(measured) => (Self::Pass, measured),
            Err(Error::Missing { reason }) => (Self::Missing { reason }, Value::Null),
            Err(error) => (Self::Fail { reason: error.to_string() }, Value::Null),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => write!(f, "pass"),
            Self::Fail { reason } => write!(f, "FAIL: {reason}"),
            Self::Missing { reason } => write!(f, "MISSING: {reason}"),
        }
    }
}

impl Report {
    /// Pass if every step did, else the first verdict that is none.
    pub fn verdict(&self) -> &Verdict {
        let verdicts = self.steps.iter().map(|step| &step.verdict);
        verdicts.into_iter().find(|v| **v != Verdict::Pass).unwrap_or(&Verdict::Pass)
    }

    /// Whether every step passed.
    pub fn passed(&self) -> bool {
        *self.verdict() == Verdict::Pass
    }
}

/// A line for the scenario, one for each step, and the log if there is one.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, kernel, seconds, seed, .. } = self;
        let outcome = if self.passed() { "pass" } else { "FAIL" };
        writeln!(f, "{outcome} {scenario} on {kernel} in {seconds:.1} s (seed {seed})")?;
        for step in &self.steps {
            write!(f, "  {:<24} {:>5.1} s  {}", step.id, step.seconds, step.verdict)?;
            if !step.operations.is_empty() {
                write!(f, "  operations {:?}", step.operations)?;
            }
            if !step.measured.is_null() {
                write!(f, "  {}", step.measured)?;
            }
            writeln!(f)?;
        }
        if !self.log.is_empty() {
            writeln!(f, "  the guest's console, its end:")?;
            self.log.lines().try_for_each(|line| writeln!(f, "  | {line}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(verdicts: Vec<Verdict>) -> Report {
        let step = |(index, verdict): (usize, Verdict)| StepReport {
            id: format!("step-{index}"),
            verdict,
            seconds: 1.25,
            operations: vec![3; index],
            measured: if index == 1 { json!({ "files": 7 }) } else { Value::Null },
        };
        Report {
            scenario: "example".into(),
            kernel: "6.12.1".into(),
            seed: 7,
            seconds: 2.5,
            steps: verdicts.into_iter().enumerate().map(step).collect(),
            log: String::new(),
        }
    }

    #[test]
    fn a_report_passes_only_if_every_step_does() {
        assert!(report(vec![Verdict::Pass, Verdict::Pass]).passed());
        let missing = Verdict::Missing { reason: "time ran out".into() };
        let fail = Verdict::Fail { reason: "wrong".into() };
        let mixed = report(vec![Verdict::Pass, missing.clone(), fail]);
        assert_eq!(*mixed.verdict(), missing);
    }

    #[test]
    fn a_report_reads_well() {
        let fail = Verdict::Fail { reason: "byte 5 and on differ".into() };
        let missing = Verdict::Missing { reason: "not reached".into() };
        let mut report = report(vec![Verdict::Pass, Verdict::Pass, fail, missing]);
        report.log = "[    0.1] hello\n[    0.2] bye\n".into();
        insta::assert_snapshot!(report, @r#"
        FAIL example on 6.12.1 in 2.5 s (seed 7)
          step-0                     1.2 s  pass
          step-1                     1.2 s  pass  operations [3]  {"files":7}
          step-2                     1.2 s  FAIL: byte 5 and on differ  operations [3, 3]
          step-3                     1.2 s  MISSING: not reached  operations [3, 3, 3]
          the guest's console, its end:
          | [    0.1] hello
          | [    0.2] bye
        "#);
    }

    #[test]
    fn a_report_is_one_object_with_flat_verdicts() {
        let fail = Verdict::Fail { reason: "wrong".into() };
        let value = serde_json::to_value(report(vec![fail])).unwrap();
        let expected = json!({
            "scenario": "example", "kernel": "6.12.1", "seed": 7, "seconds": 2.5,
            "steps": [{
                "id": "step-0", "verdict": "fail", "reason": "wrong", "seconds": 1.25,
                "operations": [], "measured": null,
            }],
        });
        assert_eq!(value, expected);
    }
}
