//! The device against the engine alone, in the same run.

use std::time::{Duration, Instant};

const TURNS: usize = 400;
/// About how long a turn takes: caches and predictors get used to the one whose turn it is, as they do
/// where nothing else runs.
const TURN: Duration = Duration::from_millis(1);

/// Runs both by turns, so that both see the same machine. The goal is about the median; where the
/// machine is busy with other things, the fastest of many runs says more of what is intrinsic.
pub(crate) fn ratio(mut device: impl FnMut(), mut engine: impl FnMut()) -> [f64; 2] {
    engine();
    let start = Instant::now();
    engine();
    let calls = TURN.as_nanos() / start.elapsed().as_nanos().max(1);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        let works: [&mut dyn FnMut(); 2] = [&mut device, &mut engine];
        for (times, work) in times.iter_mut().zip(works) {
            let start = Instant::now();
            for _ in 0..calls.max(1) {
                work();
            }
            times.push(start.elapsed());
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    [TURNS / 2, 0].map(|rank| {
        let [device, engine] =
            [0, 1].map(|which| times[which].get(rank).map_or(0.0, Duration::as_secs_f64));
        engine / device
    })
}
