use std::io;
use std::path::PathBuf;

/// Why a guest could not be started, or what went wrong in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder lacks what `ci/prepare` puts there.
    #[error("{} has no {missing}: run ci/prepare", folder.display())]
    NotPrepared {
        /// Where it was looked for.
        folder: PathBuf,
        /// What was not found.
        missing: &'static str,
    },
    /// No prepared kernel has this name.
    #[error("no kernel {wanted:?}; prepared are: {prepared}")]
    UnknownKernel {
        /// The name that was asked for.
        wanted: String,
        /// The names there are.
        prepared: String,
    },
    /// A module was asked for that the kernel neither has nor contains.
    #[error("kernel {release} has no module {module:?}")]
    UnknownModule {
        /// The kernel's release.
        release: String,
        /// What was asked for.
        module: String,
    },
    /// The agent's executable cannot be used in a guest.
    #[error("{}: {reason}", program.display())]
    UnfitAgent {
        /// The executable.
        program: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The host's own files, sockets or processes failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path if there is one.
        what: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The guest, or QEMU, answered that something is not as it must be. The guest still runs.
    #[error("{reason}")]
    Failed {
        /// What is not as it must be.
        reason: String,
    },
    /// There will be no answer: the kernel panicked, QEMU ended, or time ran out.
    #[error("{reason}")]
    Missing {
        /// What is known about why.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into() }
    }

    pub(crate) fn missing(reason: impl Into<String>) -> Self {
        Self::Missing { reason: reason.into() }
    }
}
