//! Heavy work of models, on a small pool of threads that all devices of the process share.

use std::any::Any;
use std::collections::VecDeque;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;

use rustix::fd::{AsFd, BorrowedFd};
use understudy_device::{FinishedJob, Job, JobId};

use crate::wake::Wake;

/// Jobs waiting for a thread, over all devices. Beyond this a device does its work itself, which
/// slows it down to the pace of the pool.
const MAX_QUEUED: usize = 1024;

/// Most threads; fewer on small machines, where device threads need processors too.
const MAX_THREADS: usize = 8;

/// A job that panicked returns this; no model takes it for its own output.
struct Panicked;

/// The pool.
struct Pool {
    queue: Mutex<VecDeque<Work>>,
    ready: Condvar,
}

struct Work {
    id: JobId,
    job: Job,
    done: Arc<Done>,
}

/// Where a device's finished jobs arrive.
struct Done {
    finished: Mutex<Vec<FinishedJob>>,
    /// Length of `finished`, to be looked at without its lock.
    count: AtomicUsize,
    wake: Wake,
    arrived: Condvar,
}

impl Pool {
    fn shared() -> &'static Self {
        static POOL: OnceLock<&'static Pool> = OnceLock::new();
        POOL.get_or_init(|| {
            let pool: &'static Self = Box::leak(Box::new(Self {
                queue: Mutex::new(VecDeque::new()),
                ready: Condvar::new(),
            }));
            let processors = thread::available_parallelism().map_or(1, NonZero::get);
            for index in 0..processors.saturating_sub(1).clamp(1, MAX_THREADS) {
                let name = format!("job-{index}");
                if let Err(error) = thread::Builder::new().name(name).spawn(|| pool.work()) {
                    tracing::error!(%error, "cannot start a job thread");
                }
            }
            pool
        })
    }

    fn work(&self) {
        loop {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let work = loop {
                match queue.pop_front() {
                    Some(work) => break work,
                    None => {
                        queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(queue);
            work.done.put(run(work.id, work.job));
        }
    }

    /// Forgets work that is to arrive there and that no thread has begun. Returns how many.
    fn withdraw(&self, done: &Arc<Done>) -> usize {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let before = queue.len();
        queue.retain(|work| !Arc::ptr_eq(&work.done, done));
        before - queue.len()
    }

    /// Queues work, or gives it back if the queue is full.
    fn push(&self, work: Work) -> Result<(), Work> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= MAX_QUEUED {
            return Err(work);
        }
        queue.push_back(work);
        drop(queue);
        self.ready.notify_one();
        Ok(())
    }
}

fn run(id: JobId, job: Job) -> FinishedJob {
    let output = catch_unwind(AssertUnwindSafe(|| job.run())).unwrap_or_else(|_| {
        tracing::error!(?id, "a job panicked");
        Box::new(Panicked) as Box<dyn Any + Send>
    });
    FinishedJob { id, output }
}

impl Done {
    fn put(&self, job: FinishedJob) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.push(job);
        self.count.store(finished.len(), Ordering::Release);
        drop(finished);
        self.arrived.notify_one();
        self.wake.wake();
    }
}

/// The jobs of one device. Used from the device's thread only.
pub(crate) struct Jobs {
    done: Arc<Done>,
    next: u64,
    in_flight: usize,
}

impl Jobs {
    pub(crate) fn new() -> rustix::io::Result<Self> {
        let done = Done {
            finished: Mutex::new(Vec::new()),
            count: AtomicUsize::new(0),
            wake: Wake::new()?,
            arrived: Condvar::new(),
        };
        Ok(Self { done: Arc::new(done), next: 0, in_flight: 0 })
    }

    /// Hands out work.
    pub(crate) fn submit(&mut self, job: Job) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        self.in_flight += 1;
        let work = Work { id, job, done: Arc::clone(&self.done) };
        if let Err(work) = Pool::shared().push(work) {
            self.done.put(run(work.id, work.job));
        }
        id
    }

    /// Whether [`Jobs::take`] would return something.
    pub(crate) fn any_finished(&self) -> bool {
        self.done.count.load(Ordering::Acquire) != 0
    }

    /// The jobs that are done by now, in the order in which they finished.
    pub(crate) fn take(&mut self) -> Vec<FinishedJob> {
        if !self.any_finished() {
            return Vec::new();
        }
        let mut finished = self.done.finished.lock().unwrap_or_else(PoisonError::into_inner);
        self.done.count.store(0, Ordering::Release);
        self.in_flight = self.in_flight.saturating_sub(finished.len());
        std::mem::take(&mut *finished)
    }

    /// Waits until all jobs in flight are done, and returns them.
    pub(crate) fn wait_all(&mut self) -> Vec<FinishedJob> {
        if self.in_flight == 0 {
            return Vec::new();
        }
        let mut finished = self.done.finished.lock().unwrap_or_else(PoisonError::into_inner);
        while finished.len() < self.in_flight {
            finished = self.done.arrived.wait(finished).unwrap_or_else(PoisonError::into_inner);
        }
        self.done.count.store(0, Ordering::Release);
        self.in_flight = 0;
        std::mem::take(&mut *finished)
    }

    /// Forgets all jobs: those that have not begun, never do, and the others are waited for.
    pub(crate) fn abandon(&mut self) {
        if self.in_flight > 0 {
            self.in_flight -= Pool::shared().withdraw(&self.done);
            drop(self.wait_all());
        }
    }

    /// Readable when jobs have finished; see [`Jobs::rearm`].
    pub(crate) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.done.wake.as_fd()
    }

    /// Makes [`Jobs::wake_fd`] quiet until the next job finishes.
    pub(crate) fn rearm(&self) {
        self.done.wake.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Jobs that have not begun never do, and those of others are left alone.
    #[test]
    fn abandoned_jobs_do_not_begin() {
        let (mut mine, mut other) = (Jobs::new().unwrap(), Jobs::new().unwrap());
        let (begun, begins) = mpsc::channel();
        let mut gates = Vec::new();
        for _ in 0..MAX_THREADS {
            let (gate, opens) = mpsc::channel::<()>();
            gates.push(gate);
            mine.submit(Job::new(move || opens.recv().is_err()));
        }
        for _ in 0..100 {
            let begun = begun.clone();
            mine.submit(Job::new(move || begun.send("mine")));
        }
        other.submit(Job::new(move || begun.send("other")));
        // All threads are busy until the gates fall, once the jobs are withdrawn.
        let waiter = std::thread::spawn(move || {
            while Pool::shared().queue.lock().unwrap().len() > 1 {
                std::thread::yield_now();
            }
            drop(gates);
        });
        mine.abandon();
        waiter.join().unwrap();
        assert_eq!(begins.recv().unwrap(), "other");
        assert_eq!(other.wait_all().len(), 1);
        assert!(begins.recv().is_err());
        assert!(mine.take().is_empty());
        mine.submit(Job::new(|| ()));
        assert_eq!(mine.wait_all().len(), 1);
    }
}
