//! What is wrong with the code under test, and how two of a kind are recognised.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Once;

use serde::{Deserialize, Serialize};

/// Kinds of defects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefectKind {
    /// A Rust panic.
    Panic,
    /// A process ended by a signal, or by itself.
    Crash,
    /// Work without end, or no answer.
    Hang,
    /// Memory that is not the driver's, or no longer.
    Memory,
    /// Something that is never given back.
    Leak,
    /// More memory or descriptors without end.
    Growth,
    /// A result that cannot be: a request completed twice, an answer that breaks the protocol.
    Logic,
    /// A kernel's oops, warning, lockdep or KASAN report.
    Kernel,
}

impl fmt::Display for DefectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Panic => "panic",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Memory => "memory",
            Self::Leak => "leak",
            Self::Growth => "growth",
            Self::Logic => "logic",
            Self::Kernel => "kernel",
        };
        f.write_str(name)
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defect {
    /// Kind.
    pub kind: DefectKind,
    /// The rule that was broken, or the place where it broke: the same for the same defect.
    pub clause: String,
    /// What happened this time.
    pub detail: String,
    /// Functions that led there, innermost first, if they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
}

impl Defect {
    /// A defect of which no stack is known.
    pub fn new(kind: DefectKind, clause: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, clause: clause.into(), detail: detail.into(), stack: Vec::new() }
    }

    /// What two defects have in common that are one: the kind, and the stack or else the clause.
    #[must_use]
    pub fn key(&self) -> String {
        if self.stack.is_empty() {
            return format!("{}: {}", self.kind, self.clause);
        }
        format!("{}: {} < {}", self.kind, self.clause, self.stack.join(" < "))
    }

    /// Whether another is the same, going by the clause alone: stacks are known of few.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.kind, &self.clause) == (other.kind, &other.clause)
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.clause)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// Text in which numbers do not count, so that the same mistake has the same name.
pub(crate) fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            '\n' => break,
            other => out.push(other),
        }
    }
    out
}

/// Functions on the stack that are the driver's, innermost first, three at most.
pub(crate) fn stack() -> Vec<String> {
    let text = Backtrace::force_capture().to_string();
    let ours = ["platform", "world", "steering", "executor", "engine", "defect", "minimise"];
    let mut names = Vec::new();
    for line in text.lines() {
        let Some((number, name)) = line.trim_start().split_once(": ") else { continue };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let plain = name.trim_start_matches(['<', '&']);
        let of_runtime = ["std::", "core::", "alloc::", "rust_", "__", "_start", "main", "test::"]
            .iter()
            .any(|start| plain.starts_with(start));
        let of_fuzzer = ours.iter().any(|module| {
            plain.strip_prefix("understudy_fuzzing::").is_some_and(|at| at.starts_with(module))
        });
        if of_runtime || of_fuzzer {
            continue;
        }
        // Without the hash that ends mangled names.
        let name = name.rsplit_once("::h").filter(|(_, hash)| hash.len() == 16);
        names.push(name.map_or(plain, |(name, _)| name).to_owned());
        if names.len() == 3 {
            break;
        }
    }
    names
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static STACKS: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<Defect>> = const { RefCell::new(None) };
}

/// What ends a run whose driver does not come to an end.
pub(crate) struct Overrun;

/// Runs code that may panic; what it panicked with is a defect. Panics of other threads, and of
/// this one at other times, go their usual way.
pub(crate) fn catching<T>(stacks: bool, run: impl FnOnce() -> T) -> Result<T, Option<Defect>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                return usual(info);
            }
            let place = info.location().map_or_else(String::new, |at| {
                let file = at.file().rsplit_once("/src/").map_or(at.file(), |(_, file)| file);
                format!("{file}:{}", at.line())
            });
            let message = info.payload_as_str().unwrap_or("no message");
            let clause = format!("{place}: {}", without_numbers(message));
            let mut defect = Defect::new(DefectKind::Panic, clause, message);
            if STACKS.get() {
                defect.stack = stack();
            }
            LAST.set(Some(defect));
        }));
    });
    LAST.set(None);
    STACKS.set(stacks);
    CATCHING.set(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    CATCHING.set(false);
    result.map_err(|payload| if payload.is::<Overrun>() { None } else { LAST.take() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_tell_defects_apart() {
        assert_eq!(without_numbers("index 17 of 4\nand"), "index # of #");
    }

    #[test]
    fn a_panic_is_a_defect_with_its_place() {
        let empty: Vec<u8> = Vec::new();
        let caught = catching(true, || empty[std::hint::black_box(3)]);
        let defect = caught.unwrap_err().unwrap();
        assert_eq!(defect.kind, DefectKind::Panic);
        assert!(defect.clause.contains("index out of bounds"), "{defect}");
        assert!(catching(false, || 1).is_ok());
    }
}
