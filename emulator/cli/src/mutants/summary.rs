//! What came of the mutants, for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};
use understudy_mutants::Mutant;

use super::Subject;
use super::reasons::Reasons;
use crate::failure::Failure;

/// Per cent of mutants that must be noticed.
const NEEDED: usize = 95;

/// What became of one mutant.
pub(super) struct Fate {
    pub(super) mutant: Mutant,
    /// The check that noticed it first, and what it said.
    pub(super) killer: Option<(String, String)>,
}

/// What became of all mutants of a device.
pub(super) struct Summary {
    pub(super) name: &'static str,
    pub(super) fates: Vec<Fate>,
    /// Checks that were tried.
    pub(super) checks: Vec<&'static str>,
    /// Checks that noticed nothing.
    pub(super) idle: BTreeSet<&'static str>,
}

impl Summary {
    fn survivors(&self) -> impl Iterator<Item = &Mutant> {
        self.fates.iter().filter(|fate| fate.killer.is_none()).map(|fate| &fate.mutant)
    }

    fn killed(&self) -> usize {
        self.fates.len() - self.survivors().count()
    }

    /// Whether enough are noticed, and there is a reason for each other.
    pub(super) fn is_good(&self, reasons: &Reasons) -> bool {
        self.killed() * 100 >= self.fates.len() * NEEDED
            && self.survivors().all(|mutant| reasons.survives(self.name, &mutant.id).is_some())
    }

    pub(super) fn text(&self, reasons: &Reasons) -> String {
        let mut out = String::new();
        let (killed, all) = (self.killed(), self.fates.len());
        let mut by_check: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for fate in &self.fates {
            if let Some((check, _)) = &fate.killer {
                by_check.entry(check).or_default().push(&fate.mutant.id);
            }
        }
        let width = by_check.keys().map(|id| id.len()).max().unwrap_or(0);
        let _ = writeln!(out, "{}: noticed by", self.name);
        for (check, mutants) in by_check {
            let (first, more) = (mutants.first().unwrap_or(&""), mutants.len() - 1);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let _ = writeln!(out, "  {check:width$}  {first}{more}");
        }
        for mutant in self.survivors() {
            let why = reasons.survives(self.name, &mutant.id).unwrap_or("NO REASON");
            let _ = writeln!(out, "survives: {} ({}): {why}", mutant.id, mutant.what);
        }
        // In tenths of a per cent.
        let share = 1000 * killed / all.max(1);
        let _ = writeln!(
            out,
            "{}: {killed} of {all} mutants noticed ({}.{} %)\n",
            self.name,
            share / 10,
            share % 10
        );
        out
    }
}

/// Mutants without fates.
pub(super) fn list(subjects: &[Subject]) -> String {
    let mut out = String::new();
    for subject in subjects {
        for mutant in &subject.mutants {
            let _ = writeln!(out, "{:14}  {:44}  {}", subject.name, mutant.id, mutant.what);
        }
    }
    out
}

pub(super) fn json(summaries: &[Summary], reasons: &Reasons) -> Result<String, Failure> {
    let devices: Vec<Value> = summaries
        .iter()
        .map(|summary| {
            let mutants = summary.fates.iter().map(|Fate { mutant, killer }| {
                let why = match killer {
                    Some(_) => None,
                    None => reasons.survives(summary.name, &mutant.id),
                };
                json!({
                    "id": mutant.id,
                    "what": mutant.what,
                    "noticed_by": killer.as_ref().map(|(check, _)| check),
                    "said": killer.as_ref().map(|(_, said)| said),
                    "survives_because": why,
                })
            });
            json!({
                "device": summary.name,
                "mutants": mutants.collect::<Vec<_>>(),
                "noticed": summary.killed(),
                "idle_checks": summary.idle,
            })
        })
        .collect();
    serde_json::to_string_pretty(&devices)
        .map(|text| text + "\n")
        .map_err(|error| Failure::environment("cannot print", "JSON", error))
}

/// Checks that noticed nothing, on any device that they were tried on.
pub(super) fn idle_checks(summaries: &[Summary]) -> BTreeSet<&'static str> {
    let tried = summaries.iter().flat_map(|summary| summary.checks.iter().copied());
    let noticed = |check: &&str| {
        let mut tried = summaries.iter().filter(|summary| summary.checks.contains(check));
        tried.any(|summary| !summary.idle.contains(*check))
    };
    tried.filter(|check| !noticed(check)).collect()
}

/// Checks that noticed nothing with their reasons, and whether there is one for each.
pub(super) fn idle(checks: &BTreeSet<&str>, reasons: &Reasons) -> (String, bool) {
    let mut out = String::new();
    let mut all = true;
    for check in checks {
        let why = reasons.not_mutated(check);
        all &= why.is_some();
        let _ = writeln!(out, "notices nothing: {check}: {}", why.unwrap_or("NO REASON"));
    }
    let _ = writeln!(out, "{} checks notice no mutant", checks.len());
    (out, all)
}
