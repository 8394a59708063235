//! The requirements ledger: what the specifications demand, and what becomes of each demand.
//!
//! One JSON file for each area in `conformance/requirements/`, one requirement on a line. Texts are
//! our own words; the section says where the original stands. Every requirement is tested by checks,
//! watched in drivers by monitors, or has a reason why neither.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The files, in the order in which areas are reported.
const FILES: &[(&str, &str)] = &[
    ("vfio-user", include_str!("../requirements/vfio-user.json")),
    ("pci", include_str!("../requirements/pci.json")),
    ("virtio", include_str!("../requirements/virtio.json")),
    ("virtio-crypto", include_str!("../requirements/virtio-crypto.json")),
    ("qat", include_str!("../requirements/qat.json")),
    ("qaic", include_str!("../requirements/qaic.json")),
    ("driver", include_str!("../requirements/driver.json")),
];

/// One statement that a specification makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requirement {
    /// Stable name, `area/section/number`. Never reused for something else.
    pub id: String,
    /// Section of the area's source.
    pub section: String,
    /// The demand, in our words.
    pub text: String,
    /// What becomes of it.
    #[serde(flatten)]
    pub status: Status,
}

/// What becomes of a requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// These checks hold devices to it.
    Tested(Vec<String>),
    /// These rules of the monitors in `understudy-trace` hold drivers to it.
    Watched(Vec<String>),
    /// It could be tested, and is not: why.
    Waived(String),
    /// It cannot be tested from outside: why.
    Untestable(String),
}

/// The requirements of one area.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// Its name: the first part of its ids.
    pub area: String,
    /// The documents, with versions.
    pub source: String,
    /// In the order of the source.
    pub requirements: Vec<Requirement>,
}

/// All requirements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Ledger {
    /// By area.
    pub areas: Vec<Area>,
}

/// How the requirements of an area divide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// All of them.
    pub requirements: u32,
    /// Tested by checks.
    pub tested: u32,
    /// Watched by monitors.
    pub watched: u32,
    /// Waived, with a reason.
    pub waived: u32,
    /// Not testable, with a reason.
    pub untestable: u32,
}

impl Coverage {
    fn count(&mut self, status: &Status) {
        self.requirements += 1;
        match status {
            Status::Tested(_) => self.tested += 1,
            Status::Watched(_) => self.watched += 1,
            Status::Waived(_) => self.waived += 1,
            Status::Untestable(_) => self.untestable += 1,
        }
    }

    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.requirements += other.requirements;
        self.tested += other.tested;
        self.watched += other.watched;
        self.waived += other.waived;
        self.untestable += other.untestable;
    }

    /// Of these requirements.
    pub fn of<'a>(requirements: impl IntoIterator<Item = &'a Requirement>) -> Self {
        let mut coverage = Self::default();
        for requirement in requirements {
            coverage.count(&requirement.status);
        }
        coverage
    }
}

impl Ledger {
    /// The ledger of this build.
    ///
    /// # Errors
    /// The first file that is no ledger, and where. The tests hold the files to be right.
    pub fn load() -> Result<Self, String> {
        let areas = FILES.iter().map(|(name, text)| {
            serde_json::from_str(text).map_err(|error| format!("requirements/{name}.json: {error}"))
        });
        Ok(Self { areas: areas.collect::<Result<_, _>>()? })
    }

    /// Every requirement, in order.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.areas.iter().flat_map(|area| &area.requirements)
    }

    /// What a check, or a monitor's rule, holds somebody to.
    pub fn of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Requirement> {
        self.requirements().filter(move |requirement| match &requirement.status {
            Status::Tested(ids) | Status::Watched(ids) => ids.iter().any(|named| named == id),
            Status::Waived(_) | Status::Untestable(_) => false,
        })
    }

    /// All requirements together.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        Coverage::of(self.requirements())
    }

    /// What is wrong between the ledger and these checks, a line each; nothing if all is well.
    #[must_use]
    pub fn mistakes(&self, checks: &[&str]) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut ids = BTreeSet::new();
        let mut named = BTreeSet::new();
        for area in &self.areas {
            for Requirement { id, section, text, status } in &area.requirements {
                let mut wrong = |what: String| mistakes.push(format!("{id}: {what}"));
                if !ids.insert(id) {
                    wrong("the id is used twice".into());
                }
                if id.strip_prefix(&area.area).is_none_or(|rest| !rest.starts_with('/')) {
                    wrong(format!("the id is not in area {}", area.area));
                }
                if section.is_empty() || text.len() < 10 || text.ends_with('.') {
                    wrong("wants a section, and a text without a full stop".into());
                }
                match status {
                    Status::Tested(by) => {
                        if by.is_empty() {
                            wrong("neither a check nor a reason".into());
                        }
                        for check in by {
                            if !checks.contains(&check.as_str()) {
                                wrong(format!("there is no check {check}"));
                            }
                            named.insert(check.as_str());
                        }
                    }
                    Status::Watched(by) if by.is_empty() => {
                        wrong("neither a rule nor a reason".into());
                    }
                    Status::Waived(why) | Status::Untestable(why) if why.len() < 10 => {
                        wrong("neither a check nor a reason".into());
                    }
                    _ => {}
                }
            }
        }
        for check in checks.iter().filter(|check| !named.contains(*check)) {
            mistakes
                .push(format!("check {check}: names no requirement (conformance/requirements)"));
        }
        mistakes
    }
}

#[cfg(test)]
mod tests;
