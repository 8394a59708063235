//! Log lines that a client can cause, at a bounded rate.

use std::time::{Duration, Instant};

/// Lines allowed in one [`WINDOW`].
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Lets a few log lines through each second.
#[derive(Debug)]
pub(crate) struct Limiter {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

impl Limiter {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), lines: 0, suppressed: 0 }
    }

    /// Whether a line may be written now, and if so, how many could not be since the last one.
    pub(crate) fn admit(&mut self) -> Option<u64> {
        let now = Instant::now();
        if now.duration_since(self.since) >= WINDOW {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines == LINES {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }

    /// The same for details that are logged only if someone wants them, so that they do not use up
    /// what is there for warnings otherwise.
    pub(crate) fn admit_detail(&mut self) -> Option<u64> {
        if tracing::enabled!(tracing::Level::DEBUG) { self.admit() } else { None }
    }
}
