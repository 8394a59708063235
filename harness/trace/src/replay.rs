//! Plays a recording to a fresh function, and finds where the two part.
//!
//! Every input of a function is in the recording: what its host called, what the clock said, what
//! memory held, which job was done when. So a function that behaves as the recorded one did makes
//! the same calls to its host, in the same order, and returns the same. The first difference is
//! where something else happens than happened then.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Read;

use understudy_device::{
    Bar, DmaFault, DmaFaultKind, FinishedJob, Job, JobId, Nanos, Progress, ResetKind, Tap, Verdict,
};
use understudy_pci::{Host, Irq, PciFunction};

use crate::file::{ReadError, Reader};
use crate::record::{Record, Role};

/// A record as it was, and what happened now in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergence {
    /// Number of the record, from 0.
    pub position: u64,
    /// The host's clock then, in nanoseconds.
    pub at: u64,
    /// The call that it belongs to.
    pub call: Seen,
    /// What the recording has. `None`: nothing more in this call.
    pub expected: Option<Seen>,
    /// What the function did. `None`: nothing more in this call.
    pub seen: Option<Seen>,
}

/// A record kept as its bytes.
#[derive(Clone, PartialEq)]
pub struct Seen(Vec<u8>);

impl Seen {
    fn new(record: &Record<'_>) -> Self {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        Self(bytes)
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> Record<'_> {
        // It was made from one.
        Record::decode(&self.0).map_or(Record::Fence, |(record, _)| record)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record().fmt(f)
    }
}

/// What a replay came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All of it happened again.
    Same {
        /// Records that were played.
        records: u64,
        /// Calls among them.
        calls: u64,
    },
    /// Something else happened.
    Diverged(Box<Divergence>),
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Records are missing, so that what follows cannot be compared.
    #[error("{records} records are missing at record {position}: the trace was too slow or full")]
    Missing {
        /// Where.
        position: u64,
        /// How many.
        records: u64,
    },
    /// An event comes before any call.
    #[error("record {0} belongs to no call")]
    Order(u64),
}

/// Plays a recording to `function`, which is as new.
///
/// # Errors
/// [`ReplayError`]: the recording does not allow it.
pub fn replay<R: Read>(
    function: &mut PciFunction,
    reader: &mut Reader<R>,
) -> Result<Outcome, ReplayError> {
    let mut player = Player { function, jobs: BTreeMap::new(), calls: 0, idle: None };
    let mut group: Option<Group> = None;
    let (mut at, mut records) = (0, 0);
    while let Some((position, record)) = reader.read()? {
        records = position + 1;
        at = record.at().unwrap_or(at);
        match record.role() {
            Role::Event => {
                group.as_mut().ok_or(ReplayError::Order(position))?.add(position, &record);
                continue;
            }
            Role::Call => {
                if let Some(divergence) = player.play(group.take()) {
                    return Ok(Outcome::Diverged(divergence));
                }
                group = Some(Group::new(position, at, &record));
            }
            Role::Note => {
                if let Record::Dropped { records, .. } = record {
                    return Err(ReplayError::Missing { position, records });
                }
            }
        }
    }
    if let Some(divergence) = player.play(group.take()) {
        return Ok(Outcome::Diverged(divergence));
    }
    Ok(Outcome::Same { records, calls: player.calls })
}

/// A call with its events.
struct Group {
    position: u64,
    at: u64,
    call: Seen,
    clock: Vec<u64>,
    events: VecDeque<(u64, Seen)>,
}

impl Group {
    fn new(position: u64, at: u64, call: &Record<'_>) -> Self {
        let (clock, events) = (Vec::new(), VecDeque::new());
        Self { position, at, call: Seen::new(call), clock, events }
    }

    fn add(&mut self, position: u64, event: &Record<'_>) {
        match event {
            Record::Clock { values } => self.clock.clone_from(values),
            event => self.events.push_back((position, Seen::new(event))),
        }
    }
}

/// A poll that found nothing, to be repeated.
struct Idle {
    budget: u32,
    progress: Progress,
    events: VecDeque<(u64, Seen)>,
}

struct Player<'f> {
    function: &'f mut PciFunction,
    jobs: BTreeMap<JobId, Job>,
    calls: u64,
    idle: Option<Idle>,
}

impl Player<'_> {
    fn play(&mut self, group: Option<Group>) -> Option<Box<Divergence>> {
        let mut group = group?;
        let call = group.call.clone();
        let record = call.record();
        if let Record::Repeat { count, clock } = record {
            return self.repeat(&group, count, clock);
        }
        self.idle = match record {
            Record::Poll { budget, progress, .. } if progress != Progress::More => {
                Some(Idle { budget, progress, events: group.events.clone() })
            }
            _ => None,
        };
        self.calls += 1;
        let mut host =
            Script::new(std::mem::take(&mut group.events), &group.clock, group.at, &mut self.jobs);
        let (expected, seen) = call_again(self.function, &mut host, &record);
        let difference = host
            .into_difference()
            .or_else(|| (expected != seen).then_some((group.position, Some(expected), Some(seen))));
        difference.map(|difference| diverged(&group, difference))
    }

    /// The same poll again: with the same memory it does the same.
    fn repeat(&mut self, group: &Group, count: u64, clock: Option<u64>) -> Option<Box<Divergence>> {
        let Idle { budget, progress, events } = self.idle.as_ref()?;
        let clock: Vec<u64> = clock.into_iter().collect();
        for _ in 0..count {
            self.calls += 1;
            let mut host = Script::new(events.clone(), &clock, group.at, &mut self.jobs);
            let now = self.function.poll(&mut host, *budget);
            let at = group.at;
            let poll = |progress| Seen::new(&Record::Poll { at, budget: *budget, progress });
            let difference = host.into_difference().or_else(|| {
                let (expected, seen) = (poll(*progress), poll(now));
                (expected != seen).then_some((group.position, Some(expected), Some(seen)))
            });
            if let Some(difference) = difference {
                return Some(diverged(group, difference));
            }
        }
        None
    }
}

type Difference = (u64, Option<Seen>, Option<Seen>);

fn diverged(group: &Group, (position, expected, seen): Difference) -> Box<Divergence> {
    let (at, call) = (group.at, group.call.clone());
    Box::new(Divergence { position, at, call, expected, seen })
}

/// Does what the record says was done. Returns the record, and the record that it would be now.
fn call_again(
    function: &mut PciFunction,
    host: &mut Script<'_>,
    record: &Record<'_>,
) -> (Seen, Seen) {
    let expected = Seen::new(record);
    let seen = match *record {
        Record::ConfigRead { at, offset, data, .. } => {
            let mut now = vec![0; data.len()];
            let error = function.config_read(host, offset, &mut now).err();
            Seen::new(&Record::ConfigRead { at, offset, data: &now, error })
        }
        Record::ConfigWrite { at, offset, data, .. } => {
            let error = function.config_write(host, offset, data).err();
            Seen::new(&Record::ConfigWrite { at, offset, data, error })
        }
        Record::BarRead { at, bar, offset, data, .. } => {
            let mut now = vec![0; data.len()];
            let error = function.bar_read(host, bar, offset, &mut now).err();
            Seen::new(&Record::BarRead { at, bar, offset, data: &now, error })
        }
        Record::BarWrite { at, bar, offset, data, .. } => {
            let error = function.bar_write(host, bar, offset, data).err();
            Seen::new(&Record::BarWrite { at, bar, offset, data, error })
        }
        Record::Poll { at, budget, .. } => {
            let progress = function.poll(host, budget);
            Seen::new(&Record::Poll { at, budget, progress })
        }
        Record::Park { at, .. } => {
            let progress = function.park(host);
            Seen::new(&Record::Park { at, progress })
        }
        Record::Finish { job: id, .. } => {
            // A job that was not submitted now was a difference then already.
            if let Some(job) = host.jobs.remove(&id) {
                function.finish(host, FinishedJob { id, output: job.run() });
            }
            expected.clone()
        }
        Record::Reset { kind, .. } => {
            function.reset(kind);
            if kind == ResetKind::PowerOn {
                host.jobs.clear();
            }
            expected.clone()
        }
        Record::Mask { irq, first, count, masked, .. } => {
            function.set_irq_mask(host, irq, first, count, masked);
            expected.clone()
        }
        Record::Triggers { .. } => {
            function.triggers_changed(host);
            expected.clone()
        }
        _ => expected.clone(),
    };
    (expected, seen)
}

/// A host that answers as the recorded one did.
struct Script<'a> {
    state: RefCell<State>,
    clock: RefCell<VecDeque<u64>>,
    last_clock: u64,
    jobs: &'a mut BTreeMap<JobId, Job>,
}

struct State {
    events: VecDeque<(u64, Seen)>,
    last: Option<u64>,
    difference: Option<Difference>,
}

impl State {
    /// The function does something. Returns what the recording has there, if that is the same.
    fn next(&mut self, seen: &Record<'_>, same: impl Fn(&Record<'_>) -> bool) -> Option<Seen> {
        if self.difference.is_some() {
            return None;
        }
        let next = self.events.pop_front();
        match next {
            Some((position, event)) if same(&event.record()) => {
                self.last = Some(position);
                Some(event)
            }
            Some((position, event)) => {
                self.difference = Some((position, Some(event), Some(Seen::new(seen))));
                None
            }
            None => {
                let position = self.last.unwrap_or(0);
                self.difference = Some((position, None, Some(Seen::new(seen))));
                None
            }
        }
    }

    /// The first difference: something else was done, or something was not.
    fn into_difference(mut self) -> Option<Difference> {
        let left = self.events.pop_front();
        self.difference.or_else(|| left.map(|(position, event)| (position, Some(event), None)))
    }
}

impl<'a> Script<'a> {
    fn new(
        events: VecDeque<(u64, Seen)>,
        clock: &[u64],
        at: u64,
        jobs: &'a mut BTreeMap<JobId, Job>,
    ) -> Self {
        Self {
            state: RefCell::new(State { events, last: None, difference: None }),
            clock: RefCell::new(clock.iter().copied().collect()),
            last_clock: clock.last().copied().unwrap_or(at),
            jobs,
        }
    }

    fn into_difference(self) -> Option<Difference> {
        self.state.into_inner().into_difference()
    }
}

fn fault(iova: u64, len: u64, kind: Option<DmaFaultKind>) -> Result<(), DmaFault> {
    kind.map_or(Ok(()), |kind| Err(DmaFault { iova, len, kind }))
}

impl Host for Script<'_> {
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        let len = into.len() as u64;
        let seen = Record::DmaRead { iova, len, data: &[], fault: None };
        let next = self.state.get_mut().next(&seen, |record| {
            matches!(record, Record::DmaRead { iova: a, len: l, .. } if (*a, *l) == (iova, len))
        });
        match next.as_ref().map(Seen::record) {
            Some(Record::DmaRead { data, fault: None, .. }) if data.len() == into.len() => {
                into.copy_from_slice(data);
                Ok(())
            }
            Some(Record::DmaRead { fault: Some(kind), .. }) => fault(iova, len, Some(kind)),
            _ => fault(iova, len, Some(DmaFaultKind::Failed)),
        }
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        let seen = Record::dma_write(iova, from, None);
        let what = |record: &Record<'_>| match *record {
            Record::DmaWrite { iova, len, hash, .. } => Some((iova, len, hash)),
            _ => None,
        };
        let mine = what(&seen);
        let next = self.state.get_mut().next(&seen, |record| what(record) == mine);
        match next.as_ref().map(Seen::record) {
            Some(Record::DmaWrite { fault: kind, len, .. }) => fault(iova, len, kind),
            _ => fault(iova, from.len() as u64, Some(DmaFaultKind::Failed)),
        }
    }

    fn dma_fence(&mut self) {
        self.state.get_mut().next(&Record::Fence, |record| *record == Record::Fence);
    }

    fn signal(&mut self, irq: Irq, vector: u16) -> bool {
        let seen = Record::Signal { irq, vector, heard: true };
        let next = self.state.get_mut().next(&seen, |record| {
            matches!(record, Record::Signal { irq: i, vector: v, .. } if (*i, *v) == (irq, vector))
        });
        matches!(next.as_ref().map(Seen::record), Some(Record::Signal { heard: true, .. }))
    }

    fn has_triggers(&self, irq: Irq) -> bool {
        let seen = Record::HasTriggers { irq, any: true };
        let next = self.state.borrow_mut().next(
            &seen,
            |record| matches!(record, Record::HasTriggers { irq: i, .. } if *i == irq),
        );
        matches!(next.as_ref().map(Seen::record), Some(Record::HasTriggers { any: true, .. }))
    }

    fn now(&self) -> Nanos {
        let next = self.clock.borrow_mut().pop_front();
        Nanos(next.unwrap_or(self.last_clock))
    }

    fn submit(&mut self, job: Job) -> JobId {
        let seen = Record::Submit { job: JobId(0) };
        let next =
            self.state.get_mut().next(&seen, |record| matches!(record, Record::Submit { .. }));
        match next.as_ref().map(Seen::record) {
            Some(Record::Submit { job: id }) => {
                self.jobs.insert(id, job);
                id
            }
            _ => JobId(u64::MAX),
        }
    }

    fn tap(&mut self, point: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        let was = entry.to_vec();
        let verdict = Verdict::Pass;
        let seen = Record::Tap { point, queue, entry: &was, edited: None, verdict };
        let next = self.state.get_mut().next(&seen, |record| {
            matches!(record, Record::Tap { point: p, queue: q, entry: e, .. }
                if (*p, *q, *e) == (point, queue, &was[..]))
        });
        match next.as_ref().map(Seen::record) {
            Some(Record::Tap { edited, verdict, .. }) => {
                if let Some(edited) = edited.filter(|edited| edited.len() == entry.len()) {
                    entry.copy_from_slice(edited);
                }
                verdict
            }
            _ => Verdict::Drop,
        }
    }

    fn shared_read(&mut self, bar: Bar, offset: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        let len = into.len() as u64;
        let seen = Record::SharedRead { bar, offset, len, data: &[], fault: None };
        let next = self.state.get_mut().next(&seen, |record| {
            matches!(record, Record::SharedRead { bar: b, offset: o, len: l, .. }
                if (*b, *o, *l) == (bar, offset, len))
        });
        match next.as_ref().map(Seen::record) {
            Some(Record::SharedRead { data, fault: None, .. }) if data.len() == into.len() => {
                into.copy_from_slice(data);
                Ok(())
            }
            Some(Record::SharedRead { fault: Some(kind), .. }) => fault(offset, len, Some(kind)),
            _ => fault(offset, len, Some(DmaFaultKind::Unmapped)),
        }
    }

    fn shared_write(&mut self, bar: Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault> {
        let seen = Record::SharedWrite { bar, offset, data: from, fault: None };
        let next = self.state.get_mut().next(&seen, |record| {
            matches!(record, Record::SharedWrite { bar: b, offset: o, data, .. }
                if (*b, *o, *data) == (bar, offset, from))
        });
        match next.as_ref().map(Seen::record) {
            Some(Record::SharedWrite { fault: kind, .. }) => fault(offset, 0, kind),
            _ => fault(offset, from.len() as u64, Some(DmaFaultKind::Unmapped)),
        }
    }
}
