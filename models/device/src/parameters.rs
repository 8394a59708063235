//! What users can choose about a model, held to its ranges.

use std::ops::RangeInclusive;

/// A parameter out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}, which is not {range}")]
pub struct ParameterError {
    /// Name of the parameter.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// What it may be.
    pub range: &'static str,
}

/// A parameter's name, its value, what it may be, and that in words.
pub type ParameterCheck = (&'static str, u64, RangeInclusive<u64>, &'static str);

impl ParameterError {
    /// Looks at all of `checks`.
    ///
    /// # Errors
    /// For the first that is out of its range.
    pub fn check(checks: impl IntoIterator<Item = ParameterCheck>) -> Result<(), Self> {
        for (name, value, allowed, range) in checks {
            if !allowed.contains(&value) {
                return Err(Self { name, value, range });
            }
        }
        Ok(())
    }
}
