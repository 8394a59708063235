//! Jobs that the model has handed out.

use std::collections::BTreeMap;

use understudy_device::JobId;

/// Most jobs of a function at a time.
const MAX_JOBS: usize = 256;
/// Bytes that jobs of a function hold, above which it starts no more.
const MAX_JOB_BYTES: usize = 256 << 20;

/// Jobs handed out since the last reset and not finished yet, with the bytes that they hold.
///
/// Models bound the jobs that they know of. But drivers can have them forget some, by tearing down a
/// queue, and a host has all of them: so they are bounded here.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    running: BTreeMap<JobId, usize>,
    bytes: usize,
}

impl Jobs {
    pub(crate) fn insert(&mut self, id: JobId, bytes: usize) {
        let before = self.running.insert(id, bytes).unwrap_or(0);
        self.bytes = self.bytes.saturating_sub(before).saturating_add(bytes);
    }

    /// Whether there was such a job.
    pub(crate) fn remove(&mut self, id: JobId) -> bool {
        let bytes = self.running.remove(&id);
        self.bytes = self.bytes.saturating_sub(bytes.unwrap_or(0));
        bytes.is_some()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// No more are to be started until one is finished.
    pub(crate) fn are_full(&self) -> bool {
        self.running.len() >= MAX_JOBS || self.bytes >= MAX_JOB_BYTES
    }
}
