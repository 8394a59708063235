//! What the user is told when something does not work: one line, and an exit code.

use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// `Ok(false)` means that checks, or steps of a guest, failed.
pub(crate) type Outcome = Result<bool, Failure>;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usage,
    Environment,
}

/// What is wrong, where, and what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Failure {
    kind: Kind,
    what: String,
    place: String,
    remedy: String,
}

impl Failure {
    /// The command line or a configuration is wrong.
    pub(crate) fn usage(
        what: impl fmt::Display,
        place: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Self::new(Kind::Usage, what, place, remedy)
    }

    /// The machine does not let us: sockets, files, missing programs.
    pub(crate) fn environment(
        what: impl fmt::Display,
        place: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Self::new(Kind::Environment, what, place, remedy)
    }

    fn new(
        kind: Kind,
        what: impl fmt::Display,
        place: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        let line = |text: &dyn fmt::Display| one_line(&text.to_string());
        Self { kind, what: line(&what), place: line(&place), remedy: line(&remedy) }
    }

    /// What clap has to say, on one line.
    pub(crate) fn command_line(error: &clap::Error) -> Self {
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::usage("no command", "command line", "see --help");
        }
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        let what = first.strip_prefix("error: ").unwrap_or(first);
        // A missing argument is named on the lines that follow.
        let names = error.get(ContextKind::InvalidArg).filter(|_| what.ends_with(':'));
        let what = match names {
            Some(names) => format!("{what} {}", context(names)),
            None => what.to_owned(),
        };
        let suggestion = [
            ContextKind::SuggestedArg,
            ContextKind::SuggestedSubcommand,
            ContextKind::ValidValue,
            ContextKind::ValidSubcommand,
        ]
        .into_iter()
        .find_map(|kind| error.get(kind).map(context).filter(|text| !text.is_empty()));
        let remedy = match suggestion {
            Some(suggestion) => format!("try {suggestion}, or --help"),
            None => "see --help".to_owned(),
        };
        Self::usage(what.trim_end_matches(':'), "command line", remedy)
    }

    /// The process' exit code.
    pub(crate) fn code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 2,
            Kind::Environment => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.what, self.place, self.remedy)
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn context(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(all) => all.join(", "),
        ContextValue::String(one) => one.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_it_quotes() {
        let failure = Failure::environment("cannot\nwrite", "a  file", "make\troom\n");
        assert_eq!(failure.to_string(), "cannot write: a file: make room");
        assert_eq!(failure.code(), 3);
        assert_eq!(Failure::usage("a", "b", "c").code(), 2);
    }
}
