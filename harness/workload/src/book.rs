//! What was asked, what came of it, and what is wrong with that.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// In which way a run fails. Shrinking keeps this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// A result is wrong.
    Wrong,
    /// A request that is right was refused.
    Refused,
    /// A request that is wrong was carried out.
    Accepted,
    /// A request never completed.
    Lost,
    /// Something completed that was not in flight.
    Twice,
    /// A request completed, and the interrupt that its driver waited for did not come.
    Silent,
    /// The device accessed memory that its driver had not given it.
    Stray,
    /// The driver found the device at fault, or waited in vain.
    Driver,
    /// After the faults, the driver could not use the device again.
    NotRecovered,
    /// The device does not come to rest.
    Stuck,
    /// Something panicked.
    Panic,
    /// Two runs of the same case were different.
    Different,
}

impl FailureKind {
    /// Its name, as in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Refused => "refused",
            Self::Accepted => "accepted",
            Self::Lost => "lost",
            Self::Twice => "twice",
            Self::Silent => "silent",
            Self::Stray => "stray",
            Self::Driver => "driver",
            Self::NotRecovered => "not-recovered",
            Self::Stuck => "stuck",
            Self::Panic => "panic",
            Self::Different => "different",
        }
    }
}

/// What is wrong with a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In which way.
    pub kind: FailureKind,
    /// What, for people.
    pub what: String,
    /// Number of the operation, from 0; `None` after the last one.
    pub operation: Option<usize>,
    /// Virtual time in nanoseconds.
    pub at: u64,
}

impl Failure {
    /// Whether the two are failures of the same kind, both during the operations or both after.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.operation.is_some() == other.operation.is_some()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operation {
            Some(operation) => write!(f, "operation {operation}")?,
            None => f.write_str("after the last operation")?,
        }
        let micros = self.at / 1000;
        write!(f, ", {micros} us: {} ({})", self.what, self.kind.name())
    }
}

/// What a request is expected to come to.
#[derive(Debug, Clone)]
pub(crate) enum Expect {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Bytes that inflate to these.
    Inflates(Vec<u8>),
    /// Some of these bytes, from the first on.
    Begins(Vec<u8>),
    /// A refusal.
    Refusal,
    /// This refusal, which leaves these bytes in memory.
    RefusedAs { status: String, left: Vec<u8> },
}

/// What a request came to.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Success.
    Done(Vec<u8>),
    /// The device's own error status, and what is in memory then, if somebody looked.
    Refused { status: String, left: Vec<u8> },
}

/// Something that is not as it should be, unless a fault explains it.
#[derive(Debug, Clone)]
pub(crate) struct Deviation {
    pub(crate) kind: FailureKind,
    pub(crate) what: String,
}

/// Every request of a run.
#[derive(Debug, Default)]
pub(crate) struct Book {
    next: u64,
    open: BTreeMap<u64, (String, Expect)>,
    pub(crate) deviations: Vec<Deviation>,
    pub(crate) submitted: u64,
    pub(crate) completed: u64,
    /// Requests whose queue was taken away under them.
    pub(crate) abandoned: u64,
    /// Requests in the order in which they completed.
    pub(crate) order: Vec<u64>,
}

impl Book {
    /// A request is about to be submitted.
    pub(crate) fn submit(&mut self, name: impl Into<String>, expect: Expect) -> u64 {
        self.next += 1;
        self.submitted += 1;
        self.open.insert(self.next, (name.into(), expect));
        self.next
    }

    /// It was not submitted after all.
    pub(crate) fn withdraw(&mut self, id: u64) {
        self.submitted -= u64::from(self.open.remove(&id).is_some());
    }

    /// It will never complete, and need not: its driver took its queue away.
    pub(crate) fn abandon(&mut self, id: u64) {
        self.abandoned += u64::from(self.open.remove(&id).is_some());
    }

    /// Something that nobody asked for.
    pub(crate) fn deviate(&mut self, kind: FailureKind, what: impl Into<String>) {
        self.deviations.push(Deviation { kind, what: what.into() });
    }

    /// A request has completed.
    pub(crate) fn complete(&mut self, id: u64, outcome: &Outcome) {
        let Some((name, expect)) = self.open.remove(&id) else {
            self.deviate(FailureKind::Twice, format!("request {id} completed twice"));
            return;
        };
        self.completed += 1;
        self.order.push(id);
        let wrong = match (expect, outcome) {
            (Expect::Refusal, Outcome::Refused { .. }) => None,
            (
                Expect::RefusedAs { status: wanted, left: kept },
                Outcome::Refused { status, left },
            ) if wanted == *status => difference(&kept, left),
            (Expect::Refusal | Expect::RefusedAs { .. }, Outcome::Done(_)) => {
                Some((FailureKind::Accepted, "was carried out and should be refused".to_owned()))
            }
            (_, Outcome::Refused { status, .. }) => {
                Some((FailureKind::Refused, format!("was refused: {status}")))
            }
            (Expect::Begins(wanted), Outcome::Done(found)) => {
                difference(wanted.get(..found.len()).unwrap_or(&wanted), found)
            }
            (Expect::Bytes(wanted), Outcome::Done(found)) => difference(&wanted, found),
            (Expect::Inflates(wanted), Outcome::Done(found)) => {
                match understudy_oracle::inflate(found, wanted.len() + 64) {
                    Some(plain) => difference(&wanted, &plain),
                    None => Some((FailureKind::Wrong, "returned what does not inflate".to_owned())),
                }
            }
        };
        if let Some((kind, what)) = wrong {
            self.deviate(kind, format!("request {id} ({name}) {what}"));
        }
    }

    /// Requests that will never complete: their names.
    pub(crate) fn give_up(&mut self) -> Vec<String> {
        let open = std::mem::take(&mut self.open);
        open.into_iter().map(|(id, (name, _))| format!("request {id} ({name})")).collect()
    }
}

fn difference(wanted: &[u8], found: &[u8]) -> Option<(FailureKind, String)> {
    if wanted.len() != found.len() {
        let what = format!("returned {} bytes, not {}", found.len(), wanted.len());
        return Some((FailureKind::Wrong, what));
    }
    let at = wanted.iter().zip(found).position(|(wanted, found)| wanted != found)?;
    let what = format!("returned {:#04x} at byte {at}, not {:#04x}", found[at], wanted[at]);
    Some((FailureKind::Wrong, what))
}
