//! What can go wrong between client and server.

use understudy_wire::{Command, Errno, WireError};

use crate::error::PlatformError;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A system call failed.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
    /// Nothing came, or nothing could be sent, within the time limit.
    #[error("timeout waiting {0}")]
    Timeout(&'static str),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server answered with an error.
    #[error("{command}: {errno}")]
    Refused {
        /// What was asked.
        command: Command,
        /// The server's errno.
        errno: Errno,
    },
    /// The server sent a malformed message.
    #[error("malformed message: {0}")]
    Malformed(#[from] WireError),
    /// The server sent a well-formed message that does not belong here.
    #[error("unexpected message: {0}")]
    Unexpected(String),
    /// The request does not fit what was negotiated.
    #[error("beyond what was negotiated: {0}")]
    Limit(&'static str),
}

impl ClientError {
    pub(crate) fn io(what: &'static str, error: impl Into<std::io::Error>) -> Self {
        Self::Io { what, error: error.into() }
    }

    /// The server's errno, if it answered with one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

impl From<ClientError> for PlatformError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Timeout(_) => Self::Timeout,
            ClientError::Closed => Self::Gone,
            other => Self::Refused(other.to_string()),
        }
    }
}
