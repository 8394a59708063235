//! What is wrong with a message, and the errno that says so on the wire.

use std::fmt;

use crate::header::Command;

/// A UNIX errno as the header's error field carries it ("Header").
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub u32);

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The C name, or `None` for a number not listed here.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    /// An error without a number: the error field may be zero even in an error reply.
    UNSPECIFIED = 0, "unspecified";
    /// Operation not permitted.
    PERM = 1, "EPERM";
    /// No such mapping.
    NOENT = 2, "ENOENT";
    /// Input or output failed.
    IO = 5, "EIO";
    /// Larger than a negotiated limit.
    TOO_BIG = 7, "E2BIG";
    /// Not a usable file descriptor.
    BADF = 9, "EBADF";
    /// Out of memory.
    NOMEM = 12, "ENOMEM";
    /// Access refused.
    ACCES = 13, "EACCES";
    /// Address not mapped.
    FAULT = 14, "EFAULT";
    /// Busy.
    BUSY = 16, "EBUSY";
    /// Overlaps an existing mapping.
    EXIST = 17, "EEXIST";
    /// No such device.
    NODEV = 19, "ENODEV";
    /// Malformed or out of range.
    INVAL = 22, "EINVAL";
    /// Unknown device feature.
    NOTTY = 25, "ENOTTY";
    /// No room left, for example for another mapping.
    NOSPC = 28, "ENOSPC";
    /// Not implemented.
    NOSYS = 38, "ENOSYS";
    /// The peer broke the protocol.
    PROTO = 71, "EPROTO";
    /// Known, but not supported.
    NOTSUP = 95, "ENOTSUP";
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A message that cannot be accepted. For a request, reply with [`WireError::errno`]; for a reply,
/// the errno is only a class of mistake, there is nobody to send it to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{command}: {field} at byte {offset}: {problem} ({errno})")]
pub struct WireError {
    /// The errno for the error reply.
    pub errno: Errno,
    /// The command of the message at fault.
    pub command: Command,
    /// The field at fault, as [`crate::layout`] names it.
    pub field: &'static str,
    /// Where that field starts, in bytes from the start of the message (header included).
    pub offset: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The message ends before the field does.
    #[error("the message has {have} bytes, this needs {need}")]
    Truncated {
        /// Size that the message would need, in bytes, header included.
        need: usize,
        /// Size that it has.
        have: usize,
    },
    /// Below the least acceptable value.
    #[error("{value} is less than {min}")]
    TooSmall {
        /// The value received.
        value: u64,
        /// The least acceptable.
        min: u64,
    },
    /// Above the greatest acceptable value.
    #[error("{value} is more than {max}")]
    TooBig {
        /// The value received.
        value: u64,
        /// The greatest acceptable.
        max: u64,
    },
    /// Two parts of the message disagree.
    #[error("{value}, but {expected} {what}")]
    Mismatch {
        /// The value received.
        value: u64,
        /// What the rest of the message says.
        expected: u64,
        /// What the expected value counts.
        what: &'static str,
    },
    /// A value that the rule given forbids.
    #[error("{value:#x}: {rule}")]
    Forbidden {
        /// The value received.
        value: u64,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// VERSION data that is not acceptable JSON.
    #[error("{0}")]
    Json(String),
}
