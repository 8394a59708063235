//! From what is available to what is used: queues by turns, jobs, notifications.

use understudy_device::{Bus, DmaFaultKind, Nanos, Progress};
use understudy_ring::Next;

use super::{Broken, VirtioPci};
use crate::contract::{Outcome, VirtioDevice};
use crate::queue::{Available, QueueError, Request, Used};

/// Requests of one queue served before the next queue has its turn.
const TURN: u32 = 16;

/// Bytes of requests after which a poll ends, so that one poll has a bounded length.
const MAX_POLL_BYTES: u64 = 1 << 20;

/// Most jobs in flight. Queues are not fetched from meanwhile.
const MAX_JOBS: usize = 64;

/// Requests whose memory is kept for reuse.
const MAX_SPARE: usize = 64;

/// How a queue's turn ended.
enum Turn {
    /// Nothing more to fetch.
    Drained,
    /// Perhaps more to fetch.
    More,
    /// Nothing before then.
    Until(Nanos),
}

impl<D: VirtioDevice> VirtioPci<D> {
    /// Gives a queue its turn. `budget` counts requests, `bytes` their length.
    fn serve(
        &mut self,
        bus: &mut dyn Bus,
        index: usize,
        budget: &mut u32,
        bytes: &mut u64,
    ) -> Result<Turn, Broken> {
        let at = u16::try_from(index).unwrap_or(u16::MAX);
        let on_queue = |error| Broken::Queue(at, error);
        if self.queues[index].listening {
            self.listen(bus, index, false).map_err(on_queue)?;
        }
        let mut written = 0;
        let mut turn = Turn::More;
        for _ in 0..TURN.min(*budget) {
            if self.pending.len() >= MAX_JOBS {
                turn = Turn::Drained;
                break;
            }
            let Some(pump) = &mut self.queues[index].pump else { return Ok(Turn::Drained) };
            match pump.next(bus).map_err(on_queue)? {
                Next::Entry(entry) => {
                    *budget -= 1;
                    written += self.execute(bus, index, entry, bytes)?;
                    if *bytes >= MAX_POLL_BYTES {
                        *budget = 0;
                        break;
                    }
                }
                Next::Again => *budget -= 1,
                Next::Empty => {
                    turn = Turn::Drained;
                    break;
                }
                Next::Until(due) => {
                    turn = Turn::Until(due);
                    break;
                }
            }
        }
        if let Some(pump) = &mut self.queues[index].pump {
            let drained = matches!(turn, Turn::Drained);
            written += pump.flush(bus, drained).map_err(on_queue)?;
            if let (Turn::Drained, Some(due)) = (&turn, pump.next_due()) {
                turn = Turn::Until(due);
            }
        }
        if written > 0 {
            self.interrupt_queue(bus, index).map_err(on_queue)?;
        }
        Ok(turn)
    }

    /// Executes one chain. Returns completions written.
    fn execute(
        &mut self,
        bus: &mut dyn Bus,
        index: usize,
        entry: Available,
        bytes: &mut u64,
    ) -> Result<u32, Broken> {
        let at = u16::try_from(index).unwrap_or(u16::MAX);
        let on_queue = |error| Broken::Queue(at, error);
        let queue = &mut self.queues[index];
        let Some(pump) = &mut queue.pump else { return Ok(0) };
        let mut request = match self.spare.pop() {
            Some(mut request) => {
                request.retarget(at);
                request
            }
            None => Request::new(at),
        };
        let opened = pump.ring().open(bus, &entry, &mut self.table, &mut request);
        pump.recycle(entry);
        opened.map_err(on_queue)?;
        queue.requests += 1;
        *bytes += request.readable.bytes() + request.writable.bytes();
        let outcome = self.device.execute(bus, &mut request);
        self.settle(bus, request, outcome)
    }

    /// Acts on an outcome. Returns completions written.
    pub(super) fn settle(
        &mut self,
        bus: &mut dyn Bus,
        request: Request,
        outcome: Outcome,
    ) -> Result<u32, Broken> {
        let index = request.queue();
        let written = match outcome {
            Outcome::Pending(job) => {
                self.pending.insert(job, request);
                return Ok(0);
            }
            Outcome::Broken(why) => return Err(Broken::Request(index, why)),
            Outcome::Done(written) => written,
        };
        let queue = self.queues.get_mut(usize::from(index));
        let completions = match queue.and_then(|queue| queue.pump.as_mut()) {
            Some(pump) => pump
                .complete(bus, Used::new(&request, written))
                .map_err(|error| Broken::Queue(index, error))?,
            None => 0,
        };
        if self.spare.len() < MAX_SPARE {
            self.spare.push(request);
        }
        Ok(completions)
    }

    /// Asks for notifications of a queue, or asks for none.
    fn listen(&mut self, bus: &mut dyn Bus, index: usize, on: bool) -> Result<(), QueueError> {
        let queue = &mut self.queues[index];
        if let Some(pump) = &mut queue.pump {
            pump.ring().want_notifications(bus, on)?;
            queue.listening = on;
        }
        Ok(())
    }

    /// Whether the error is that the driver has taken the bus away, which is no fault of anyone:
    /// the device just cannot work now.
    fn is_off_bus(error: &Broken) -> bool {
        matches!(error, Broken::Queue(_, QueueError::Ring(fault))
            if fault.kind == DmaFaultKind::BusMasterDisabled)
    }

    pub(super) fn serve_all(&mut self, bus: &mut dyn Bus, budget: u32) -> Result<Progress, Broken> {
        let (mut budget, mut bytes) = (budget, 0);
        let mut progress = Progress::Idle;
        let mut busy = true;
        while busy {
            busy = false;
            progress = Progress::Idle;
            for _ in 0..self.queues.len() {
                if budget == 0 {
                    return Ok(Progress::More);
                }
                let index = self.turn;
                self.turn = (index + 1) % self.queues.len();
                if self.queues[index].pump.is_none() {
                    continue;
                }
                match self.serve(bus, index, &mut budget, &mut bytes)? {
                    Turn::Drained => {}
                    Turn::More => busy = true,
                    Turn::Until(due) => progress = progress.sooner(Progress::Until(due)),
                }
            }
        }
        Ok(progress)
    }

    /// Turns notifications on, then looks once more: what became available in between was not
    /// notified of.
    pub(super) fn park_all(&mut self, bus: &mut dyn Bus) -> Result<Progress, Broken> {
        let mut progress = Progress::Idle;
        for index in 0..self.queues.len() {
            let at = u16::try_from(index).unwrap_or(u16::MAX);
            if !self.queues[index].listening {
                self.listen(bus, index, true).map_err(|error| Broken::Queue(at, error))?;
            }
        }
        bus.dma_fence();
        let stalled = self.pending.len() >= MAX_JOBS;
        for queue in &mut self.queues {
            let Some(pump) = &mut queue.pump else { continue };
            if let Some(due) = pump.next_due() {
                progress = progress.sooner(Progress::Until(due));
            }
            let more = pump.has_ready()
                || pump.may_fetch(bus)
                    && pump
                        .ring_mut()
                        .has_more(bus)
                        .map_err(|error| Broken::Queue(queue.index, error))?;
            if more && !stalled {
                progress = Progress::More;
            }
        }
        Ok(progress)
    }

    pub(super) fn settled(
        &mut self,
        bus: &mut dyn Bus,
        result: Result<Progress, Broken>,
    ) -> Progress {
        if self.device.take_config_change() {
            self.config_changed = true;
            self.notify_config(bus);
        }
        match result {
            Ok(progress) => progress,
            Err(error) if Self::is_off_bus(&error) => Progress::Idle,
            Err(error) => {
                self.fail(bus, error);
                Progress::Idle
            }
        }
    }
}
