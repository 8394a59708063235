//! What the function has done.

use understudy_device::Counter;

use crate::mailbox;
use crate::service::Failure;

/// What requests are counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Cipher,
    Auth,
    Chain,
    Aead,
    PublicKey,
    Compress,
    Decompress,
    Null,
    Unknown,
}

impl Work {
    pub(crate) const ALL: [(Self, &'static str); 9] = [
        (Self::Cipher, "cipher"),
        (Self::Auth, "auth"),
        (Self::Chain, "chain"),
        (Self::Aead, "aead"),
        (Self::PublicKey, "public_key"),
        (Self::Compress, "compress"),
        (Self::Decompress, "decompress"),
        (Self::Null, "null"),
        (Self::Unknown, "unknown"),
    ];
}

/// Requests, bytes that they covered, and failures.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
}

/// All counters of the function but its mailbox's.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) work: [Tally; Work::ALL.len()],
    pub(crate) mismatches: u64,
    pub(crate) responses: u64,
    pub(crate) rings_broken: u64,
    pub(crate) interrupts: u64,
}

impl Counters {
    /// Takes note of a request's outcome: the bytes that it covered, or why it failed.
    pub(crate) fn count(&mut self, work: Work, result: Result<u64, Failure>) {
        let tally = &mut self.work[work as usize];
        match result {
            Ok(bytes) => tally.bytes += bytes,
            Err(failure) => {
                tally.errors += 1;
                self.mismatches += u64::from(failure == Failure::Mismatch);
            }
        }
    }

    /// By name, with those of the mailbox.
    pub(crate) fn list(&self, mail: mailbox::Tally) -> Vec<Counter> {
        let mut list = Vec::new();
        let mut add = |name: String, value| list.push(Counter { name, value });
        for (work, name) in Work::ALL {
            let tally = self.work[work as usize];
            add(format!("{name}.requests"), tally.requests);
            add(format!("{name}.bytes"), tally.bytes);
            add(format!("{name}.errors"), tally.errors);
        }
        let rest = [
            ("mismatches", self.mismatches),
            ("responses", self.responses),
            ("interrupts", self.interrupts),
            ("rings.broken", self.rings_broken),
            ("mailbox.received", mail.received),
            ("mailbox.sent", mail.sent),
            ("mailbox.ignored", mail.ignored),
            ("mailbox.restarts", mail.restarts),
            ("mailbox.fatal_errors", mail.fatal_errors),
        ];
        for (name, value) in rest {
            add(name.to_owned(), value);
        }
        list
    }
}
