//! Published vectors, as many as a check has time for.

use understudy_engines::vectors::{Algorithm, Case, cases};

use crate::Stop;

/// At most about `most` vectors of an algorithm, spread over all that there are.
pub(super) fn sample(
    most: usize,
    algorithm: Algorithm,
    wanted: impl Fn(&Case) -> bool,
) -> Result<Vec<Case>, Stop> {
    let broken = |error| Stop::skip(format!("the vectors cannot be read: {error}"));
    let all: Vec<_> = cases(algorithm).map_err(broken)?.filter(wanted).collect();
    if all.is_empty() {
        return Err(Stop::skip(format!("no vectors for {}", algorithm.name())));
    }
    let step = all.len().div_ceil(most);
    Ok(all.into_iter().step_by(step).collect())
}
