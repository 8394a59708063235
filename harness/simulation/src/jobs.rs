//! Jobs in flight. The work is done when its result is due, so a run needs no threads.

use understudy_device::{FinishedJob, Job, JobId};

#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// In an order that depends on nothing but the calls made.
    waiting: Vec<(JobId, Job)>,
    last: u64,
}

impl Jobs {
    /// Takes a job.
    pub(crate) fn submit(&mut self, job: Job) -> JobId {
        self.last += 1;
        let id = JobId(self.last);
        self.waiting.push((id, job));
        id
    }

    /// Jobs in flight.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Does the `pick`th job in flight, if there are so many.
    pub(crate) fn finish(&mut self, pick: usize) -> Option<FinishedJob> {
        if pick >= self.waiting.len() {
            return None;
        }
        let (id, job) = self.waiting.swap_remove(pick);
        Some(FinishedJob { id, output: job.run() })
    }
}
