//! A check: one statement that a specification makes, tried on a device.

use crate::{Context, Stop};

/// How a check ends: nothing to object to, or a reason to stop.
pub type Outcome = Result<(), Stop>;

/// One requirement and the code that tries it.
///
/// A check starts on a fresh attachment of a device at power-on, and may leave it in any state.
#[derive(Clone, Copy)]
pub struct Check {
    /// Stable name, `area/part/number`. Never reused for something else.
    pub id: &'static str,
    /// The requirement, as a sentence that is true of a device that passes.
    pub title: &'static str,
    /// Where it is written: document and section.
    pub clause: &'static str,
    /// Tries it.
    pub run: fn(&mut Context<'_>) -> Outcome,
}

impl Check {
    /// The id without its number: what a summary groups by.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.id.rsplit_once('/').map_or(self.id, |(group, _)| group)
    }

    /// The first part of the id: which specification is checked.
    #[must_use]
    pub fn area(&self) -> &'static str {
        self.id.split('/').next().unwrap_or(self.id)
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A choice of checks by id.
///
/// `vfio-user/dma/3` is one check, `vfio-user/dma` all that start with it, and `*`, `?` and `[…]`
/// match as in a shell, `*` also across slashes.
#[derive(Debug, Clone)]
pub struct Filter {
    text: String,
    pattern: glob::Pattern,
}

impl Filter {
    /// Parses a choice.
    ///
    /// # Errors
    /// What is wrong with the pattern, and at which character.
    pub fn new(text: &str) -> Result<Self, String> {
        let pattern = glob::Pattern::new(text)
            .map_err(|error| format!("{} at character {}", error.msg, error.pos + 1))?;
        Ok(Self { text: text.to_owned(), pattern })
    }

    /// Whether the check is chosen.
    #[must_use]
    pub fn matches(&self, id: &str) -> bool {
        let below = id.strip_prefix(self.text.trim_end_matches('/'));
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            || self.pattern.matches(id)
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_one_check_a_folder_or_a_pattern() {
        let matches = |text: &str, id: &str| Filter::new(text).unwrap().matches(id);
        assert!(matches("vfio-user/dma/1", "vfio-user/dma/1"));
        assert!(!matches("vfio-user/dma/1", "vfio-user/dma/12"));
        assert!(matches("vfio-user", "vfio-user/dma/12"));
        assert!(matches("vfio-user/", "vfio-user/dma/12"));
        assert!(!matches("vfio", "vfio-user/dma/12"));
        assert!(matches("*/dma/*", "vfio-user/dma/12"));
        assert!(matches("*", "vfio-user/dma/12"));
        assert!(!matches("pci/*", "vfio-user/dma/12"));
    }

    #[test]
    fn a_broken_pattern_says_where() {
        assert_eq!(Filter::new("a[").unwrap_err(), "invalid range pattern at character 2");
    }
}
