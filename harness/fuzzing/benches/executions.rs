//! Executions per second of our small virtio-crypto driver under our own engine, on one core.
//!
//! The goal is 20,000. Prints and fails nothing: `cargo bench -p understudy-fuzzing`.

use std::time::{Duration, Instant};

use understudy_fuzzing::engine::Engine;
use understudy_fuzzing::targets;

fn main() {
    for name in ["virtio-crypto", "qat", "qaic", "planted/none"] {
        let Some(target) = targets::find(name) else { continue };
        let mut best = 0.0f64;
        let mut findings = 0u64;
        let mut total = 0;
        let mut steps = 0;
        for seed in 1..=5 {
            let Ok(mut engine) = Engine::new(target.as_ref(), seed) else { continue };
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(2) {
                for _ in 0..64 {
                    findings += u64::from(matches!(engine.step(), Ok((_, Some(_)))));
                }
            }
            let rate = engine.executions() as f64 / start.elapsed().as_secs_f64();
            best = best.max(rate);
            total += engine.executions();
            steps += engine.steps();
        }
        let each = steps / total.max(1);
        println!("{name:14} {best:>9.0} executions/s, {each} steps each, {findings} defects");
    }
}
