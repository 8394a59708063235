//! The smallest case that fails in the same way.

use understudy_faults::When;

use crate::book::Failure;
use crate::case::{Case, Operation, Options};
use crate::run::{Run, run};

/// Runs that shrinking may take.
const MAX_RUNS: u32 = 2000;

/// What shrinking found.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The smallest case found.
    pub case: Case,
    /// Its run, which fails in the same way as the one that was given.
    pub run: Run,
    /// Runs that it took.
    pub runs: u32,
}

/// Makes a failing case smaller while it fails in the same way: first its faults, then its
/// operations, then what each of them says. `None` if the case does not fail.
#[must_use]
pub fn shrink(case: &Case) -> Option<Shrunk> {
    let first = run(case).ok()?;
    let failure = first.failure.clone()?;
    let mut shrinker = Shrinker { best: case.clone(), run: first, failure, runs: 1 };
    // Until nothing gets smaller any more.
    while shrinker.pass() && shrinker.runs < MAX_RUNS {}
    let Shrinker { best, run, runs, .. } = shrinker;
    Some(Shrunk { case: best, run, runs })
}

struct Shrinker {
    best: Case,
    run: Run,
    failure: Failure,
    runs: u32,
}

impl Shrinker {
    /// Takes the case if it fails in the same way.
    fn take(&mut self, case: Case) -> bool {
        if case == self.best || self.runs >= MAX_RUNS {
            return false;
        }
        self.runs += 1;
        let Ok(run) = run(&case) else { return false };
        let same = run.failure.as_ref().is_some_and(|it| it.is_like(&self.failure));
        if same {
            (self.best, self.run) = (case, run);
        }
        same
    }

    fn pass(&mut self) -> bool {
        let mut smaller = false;
        if !self.best.plan.faults.is_empty() {
            let mut case = self.best.clone();
            case.plan.faults.clear();
            smaller |= self.take(case);
        }
        smaller |= self.remove(|case, at, len| {
            let faults = &mut case.plan.faults;
            let end = (at + len).min(faults.len());
            (at < end).then(|| faults.drain(at..end)).is_some()
        });
        smaller |= self.remove(|case, at, len| {
            let operations = &mut case.operations;
            let end = (at + len).min(operations.len());
            (at < end).then(|| operations.drain(at..end)).is_some()
        });
        smaller |= self.simplify_operations();
        smaller |= self.simplify_faults();
        smaller |= self.simplify_options();
        smaller
    }

    /// Removes runs of elements, long ones first.
    fn remove(&mut self, remove: impl Fn(&mut Case, usize, usize) -> bool) -> bool {
        let mut smaller = false;
        let mut len = self.best.operations.len().max(self.best.plan.faults.len()).max(1);
        while len > 0 {
            let mut at = 0;
            loop {
                let mut case = self.best.clone();
                if !remove(&mut case, at, len) {
                    break;
                }
                if self.take(case) {
                    smaller = true;
                } else {
                    at += len;
                }
            }
            len /= 2;
        }
        smaller
    }

    fn simplify_operations(&mut self) -> bool {
        let mut smaller = false;
        for at in 0..self.best.operations.len() {
            let simpler: [fn(&mut Operation); 6] = [
                |it| (it.queue, it.salt, it.leave) = (0, 0, 0),
                |it| it.len = 0,
                |it| it.len /= 2,
                |it| it.queue = 0,
                |it| it.salt = 0,
                |it| it.leave = 0,
            ];
            for simplify in simpler {
                let mut case = self.best.clone();
                let Some(operation) = case.operations.get_mut(at) else { break };
                simplify(operation);
                smaller |= self.take(case);
            }
        }
        smaller
    }

    fn simplify_faults(&mut self) -> bool {
        let mut smaller = false;
        for at in 0..self.best.plan.faults.len() {
            let simpler: [fn(&mut When); 6] = [
                |when| (when.after, when.rearm) = (Vec::new(), false),
                |when| when.time = None,
                |when| when.queue = None,
                |when| when.probability = None,
                |when| (when.every, when.range) = (None, None),
                |when| when.nth = when.nth.map(|nth| nth.div_ceil(2)),
            ];
            for simplify in simpler {
                let mut case = self.best.clone();
                let Some(fault) = case.plan.faults.get_mut(at) else { break };
                simplify(&mut fault.when);
                smaller |= self.take(case);
            }
            let mut case = self.best.clone();
            if let Some(fault) = case.plan.faults.get_mut(at) {
                (fault.once, fault.count) = (true, None);
                smaller |= self.take(case);
            }
        }
        smaller
    }

    fn simplify_options(&mut self) -> bool {
        let plain = Options::default();
        let simpler: [fn(&mut Options, &Options); 7] = [
            |it, plain| *it = *plain,
            |it, plain| it.completion = plain.completion,
            |it, plain| it.pieces = plain.pieces,
            |it, plain| it.packed = plain.packed,
            |it, plain| (it.indirect, it.event_idx) = (plain.indirect, plain.event_idx),
            |it, plain| (it.queues, it.full_boot) = (plain.queues, plain.full_boot),
            |it, plain| it.depth = plain.depth,
        ];
        let mut smaller = false;
        for simplify in simpler {
            let mut case = self.best.clone();
            simplify(&mut case.options, &plain);
            smaller |= self.take(case);
        }
        smaller
    }
}
