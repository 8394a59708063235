//! Why some mutants are none, why some survive, and why some checks notice none.

use serde::Deserialize;
use understudy_conformance::Filter;

const FILE: &str = include_str!("reasons.json");

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What is generated and violates nothing: not counted.
    equivalent: Vec<Reason>,
    /// What survives.
    survives: Vec<Reason>,
    /// Checks that notice no mutant.
    not_mutated: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    /// The device; any if it is not said.
    #[serde(default)]
    device: String,
    /// Ids as filters take them.
    ids: Vec<String>,
    why: String,
}

/// Reasons, with their filters understood.
pub(super) struct Reasons {
    equivalent: Vec<Known>,
    survives: Vec<Known>,
    not_mutated: Vec<Known>,
}

struct Known {
    device: String,
    filters: Vec<Filter>,
    why: String,
}

impl Reasons {
    pub(super) fn load() -> Result<Self, String> {
        let file: File = serde_json::from_str(FILE).map_err(|error| error.to_string())?;
        let known = |reasons: Vec<Reason>| {
            let known = reasons.into_iter().map(|Reason { device, ids, why }| {
                let filters = ids.iter().map(|id| Filter::new(id)).collect::<Result<_, _>>()?;
                Ok(Known { device, filters, why })
            });
            known.collect::<Result<Vec<_>, String>>()
        };
        Ok(Self {
            equivalent: known(file.equivalent)?,
            survives: known(file.survives)?,
            not_mutated: known(file.not_mutated)?,
        })
    }

    /// Why a mutant is none.
    pub(super) fn equivalent(&self, device: &str, id: &str) -> Option<&str> {
        find(&self.equivalent, device, id)
    }

    /// Why a mutant survives.
    pub(super) fn survives(&self, device: &str, id: &str) -> Option<&str> {
        find(&self.survives, device, id)
    }

    /// Why a check notices no mutant.
    pub(super) fn not_mutated(&self, check: &str) -> Option<&str> {
        find(&self.not_mutated, "", check)
    }
}

fn find<'a>(known: &'a [Known], device: &str, id: &str) -> Option<&'a str> {
    let found = known.iter().find(|known| {
        (known.device.is_empty() || known.device == device)
            && known.filters.iter().any(|filter| filter.matches(id))
    });
    found.map(|known| known.why.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_are_some() {
        let reasons = Reasons::load().unwrap();
        for known in reasons.equivalent.iter().chain(&reasons.survives).chain(&reasons.not_mutated)
        {
            assert!(known.why.len() > 20 && !known.filters.is_empty(), "{}", known.why);
        }
    }
}
