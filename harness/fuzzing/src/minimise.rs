//! The same defect with less.

use crate::defect::Defect;
use crate::executor::Executor;
use crate::program::{Call, Program};

/// Runs that minimising may make.
const LIMIT: u32 = 4000;

/// Takes out of a program what its defect does not need. Returns what is left, and the runs made.
///
/// # Errors
/// If the target's model cannot be made.
pub fn minimise(
    executor: &mut Executor<'_>,
    program: &Program,
    defect: &Defect,
) -> Result<(Program, u32), String> {
    let mut failure = None;
    let mut check = |candidate: &Program| match executor.run(candidate) {
        Ok(outcome) => outcome.defect().is_some_and(|found| found.is_same(defect)),
        Err(error) => {
            failure = Some(error);
            false
        }
    };
    let (smaller, runs) = shrink(program, &mut check);
    match failure {
        Some(error) => Err(error),
        None => Ok((smaller, runs)),
    }
}

/// The same for whatever says that a program still has its defect.
pub fn shrink(program: &Program, holds: &mut dyn FnMut(&Program) -> bool) -> (Program, u32) {
    let mut best = program.clone();
    let mut runs = 0;
    let mut holds = |candidate: &Program| {
        runs += 1;
        runs <= LIMIT && holds(candidate)
    };
    loop {
        let before = best.clone();
        best.acts =
            without(&best.acts, |acts| holds(&Program { acts: acts.to_vec(), ..best.clone() }));
        best.calls =
            without(&best.calls, |calls| holds(&Program { calls: calls.to_vec(), ..best.clone() }));
        simplify(&mut best, &mut holds);
        if best == before {
            return (best, runs.min(LIMIT));
        }
    }
}

/// Simpler numbers, as long as it holds.
fn simplify(best: &mut Program, holds: &mut impl FnMut(&Program) -> bool) {
    let mut attempt = |best: &mut Program, change: &dyn Fn(&mut Program)| {
        let mut candidate = best.clone();
        change(&mut candidate);
        if candidate != *best && holds(&candidate) {
            *best = candidate;
        }
    };
    attempt(best, &|program| program.honest = 0);
    for index in 0..best.acts.len() {
        attempt(best, &|program| program.acts[index].times = 0);
    }
    for index in 0..best.calls.len() {
        attempt(best, &|program| program.calls[index] = Call(0, 0));
        attempt(best, &|program| program.calls[index].1 = 0);
    }
}

/// As few elements as possible, in halves, quarters and so on (delta debugging).
pub fn without<T: Clone>(all: &[T], mut holds: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut kept = all.to_vec();
    if kept.is_empty() || holds(&[]) {
        return Vec::new();
    }
    let mut chunk = kept.len().div_ceil(2);
    loop {
        let mut start = 0;
        let mut smaller = false;
        while start < kept.len() {
            let end = (start + chunk).min(kept.len());
            let candidate = [&kept[..start], &kept[end..]].concat();
            if candidate.len() < kept.len() && !candidate.is_empty() && holds(&candidate) {
                kept = candidate;
                smaller = true;
            } else {
                start = end;
            }
        }
        if chunk == 1 && !smaller {
            return kept;
        }
        chunk = if smaller { chunk.min(kept.len()).max(1) } else { (chunk / 2).max(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_kept_and_nothing_else() {
        let all: Vec<u32> = (0..100).collect();
        let mut runs = 0;
        let kept = without(&all, |some| {
            runs += 1;
            some.contains(&17) && some.contains(&83)
        });
        assert_eq!(kept, [17, 83]);
        assert!(runs < 200, "{runs} runs");
        assert!(without(&all, |_| true).is_empty());
    }
}
