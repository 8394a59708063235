//! The device against the engine alone, in the same run.

use std::time::{Duration, Instant};

/// Runs both by turns, so that both see the same machine. The goal is about the median; where the
/// machine is busy with other things, the fastest of many runs says more of what is intrinsic.
pub(crate) fn ratio(mut device: impl FnMut(), mut engine: impl FnMut()) -> [f64; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..400 {
        let works: [&mut dyn FnMut(); 2] = [&mut device, &mut engine];
        for (times, work) in times.iter_mut().zip(works) {
            let start = Instant::now();
            for _ in 0..4 {
                work();
            }
            times.push(start.elapsed());
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    [200, 0].map(|rank| {
        let [device, engine] =
            [0, 1].map(|which| times[which].get(rank).map_or(0.0, Duration::as_secs_f64));
        engine / device
    })
}
