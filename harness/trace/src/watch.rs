//! Watches a driver: what it does against the specifications, which registers it wants that are
//! not modelled, and what it polls in vain.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use understudy_device::{AccessError, Progress};
use understudy_pci::CONFIG_REGION;

use crate::file::Header;
use crate::line::little_endian;
use crate::monitor::rules::{self, Rule};
use crate::monitor::{Monitor, Touch};
use crate::names::Names;
use crate::pipe::Place;
use crate::record::Record;

/// Findings, registers and polls that are kept, each.
const MAX_KEPT: usize = 256;
/// Reads of one register in a row that make a poll, if they take long enough.
const POLL_READS: u64 = 16;
/// How long a poll has led nowhere before it is reported, in nanoseconds.
const POLL_NANOS: u64 = 1_000_000_000;

/// Something that a driver did against a specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name (`virtio/notify-before-driver-ok`).
    pub id: &'static str,
    /// Where the specification says so.
    pub clause: &'static str,
    /// What was done.
    pub what: String,
    /// Position of the first record that shows it.
    pub position: u64,
    /// The host's clock then, in nanoseconds.
    pub at: u64,
    /// How often.
    pub count: u64,
}

/// Findings as they are made.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: Vec<Finding>,
}

impl Findings {
    pub(crate) fn add(&mut self, place: Place, id: &str, what: String) {
        // A test sees to it that there are no others.
        let Some(Rule { id, clause }) = rules::find(id).copied() else { return };
        let known = self.found.iter_mut().find(|known| known.id == id && known.what == what);
        if let Some(known) = known {
            known.count += 1;
        } else if self.found.len() < MAX_KEPT {
            let Place { position, at } = place;
            self.found.push(Finding { id, clause, what, position, at, count: 1 });
        }
    }
}

/// A place that the driver accessed and where nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmodelled {
    /// BAR.
    pub bar: u8,
    /// Offset in bytes.
    pub offset: u64,
    /// Length of the access in bytes.
    pub length: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Position of the first.
    pub position: u64,
}

/// A register that was read again and again, and always said the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StuckPoll {
    /// Name, or BAR and offset.
    pub register: String,
    /// What it always said.
    pub value: u64,
    /// Bits that changed at last; 0 if nothing did before the driver gave up or the trace ended.
    pub changed: u64,
    /// For how long, in nanoseconds.
    pub nanos: u64,
    /// Reads.
    pub reads: u64,
    /// Position of the first.
    pub position: u64,
    /// What the device was waiting for meanwhile.
    pub device: String,
}

/// What a watch has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WatchReport {
    /// What the driver did against the specifications.
    pub findings: Vec<Finding>,
    /// Registers it wanted that are not modelled.
    pub unmodelled: Vec<Unmodelled>,
    /// Polls that led nowhere.
    pub stuck: Vec<StuckPoll>,
    /// Records that were missing, so that there may have been more.
    pub missing: u64,
}

impl fmt::Display for WatchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let Finding { id, clause, what, position, at, count } = finding;
            let times = if *count > 1 { format!(", {count} times") } else { String::new() };
            writeln!(
                f,
                "driver: {id}: {what} ({clause}); record {position}, {}{times}",
                time(*at)
            )?;
        }
        for poll in &self.stuck {
            let StuckPoll { register, value, changed, nanos, reads, position, device } = poll;
            let until = match changed {
                0 => String::new(),
                bits => format!(" until bits {bits:#x} changed"),
            };
            writeln!(
                f,
                "poll: {register} = {value:#x} for {}{until}, {reads} reads from record {position} \
                 on; {device}",
                time(*nanos)
            )?;
        }
        for place in &self.unmodelled {
            let Unmodelled { bar, offset, length, reads, writes, position } = place;
            writeln!(
                f,
                "unmodelled: bar{bar} @{offset:#x}+{length}: {reads} reads, {writes} writes, first \
                 at record {position}"
            )?;
        }
        if self.missing > 0 {
            writeln!(f, "watch: {} records were missing, so there may be more", self.missing)?;
        }
        Ok(())
    }
}

fn time(nanos: u64) -> String {
    format!("{}.{:03} s", nanos / 1_000_000_000, nanos / 1_000_000 % 1000)
}

/// One register being read again and again.
#[derive(Debug, Clone)]
struct Poll {
    since: Place,
    last: u64,
    value: u64,
    reads: u64,
}

/// Watches a trace, record by record.
pub struct Watch {
    names: Names,
    monitors: Vec<Box<dyn Monitor>>,
    findings: Findings,
    unmodelled: Vec<Unmodelled>,
    polls: BTreeMap<(u8, u64, u64), Poll>,
    stuck: Vec<StuckPoll>,
    missing: u64,
    device: DeviceView,
}

/// What the device is up to, as far as its records tell.
#[derive(Debug, Default)]
struct DeviceView {
    progress: Option<Progress>,
    jobs: u64,
    command: u64,
    injected: String,
}

impl DeviceView {
    /// What the device waits for, in words.
    fn words(&self) -> String {
        let mut words = Vec::new();
        words.push(match self.progress {
            Some(Progress::More) => "the device is at work".to_owned(),
            Some(Progress::Until(_)) => "the device waits for time to pass".to_owned(),
            _ if self.jobs > 0 => format!("the device waits for {} jobs", self.jobs),
            _ => "the device is idle and waits for its driver".to_owned(),
        });
        if self.command & 4 == 0 {
            words.push("bus mastering is off".to_owned());
        }
        if !self.injected.is_empty() {
            words.push(format!("the last injected fault was {}", self.injected));
        }
        words.join("; ")
    }
}

impl Watch {
    /// Watches a trace with this header, from its beginning.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        Self {
            names: Names::new(&header.registers),
            monitors: crate::monitor::all(&header.device),
            findings: Findings::default(),
            unmodelled: Vec::new(),
            polls: BTreeMap::new(),
            stuck: Vec::new(),
            missing: 0,
            device: DeviceView::default(),
        }
    }

    /// Looks at the next record.
    pub fn record(&mut self, place: Place, record: &Record<'_>) {
        match record {
            Record::ConfigRead { offset, data, .. } => {
                self.access(place, (CONFIG_REGION.0, *offset, data), false, None);
            }
            Record::ConfigWrite { offset, data, error: None, .. } => {
                self.access(place, (CONFIG_REGION.0, *offset, data), true, None);
            }
            Record::BarRead { bar, offset, data, error, .. } => {
                self.access(place, (bar.0, *offset, data), false, *error);
                if error.is_none() {
                    self.poll(place, (bar.0, *offset, data));
                }
            }
            Record::BarWrite { bar, offset, data, error, .. } => {
                self.end_polls();
                self.access(place, (bar.0, *offset, data), true, *error);
            }
            Record::Poll { progress, .. } | Record::Park { progress, .. } => {
                self.device.progress = Some(*progress);
            }
            Record::Submit { .. } => self.device.jobs += 1,
            Record::Finish { .. } => self.device.jobs = self.device.jobs.saturating_sub(1),
            Record::Reset { .. } => {
                self.end_polls();
                self.device.jobs = 0;
            }
            Record::Fault { what, .. } => (*what).clone_into(&mut self.device.injected),
            Record::Dropped { records, .. } => self.missing += records,
            _ => {}
        }
        for monitor in &mut self.monitors {
            monitor.record(place, record, &mut self.findings);
        }
    }

    /// What was seen so far.
    #[must_use]
    pub fn report(&self) -> WatchReport {
        let mut stuck = self.stuck.clone();
        for (key, poll) in &self.polls {
            stuck.extend(self.stuck(*key, poll, 0));
        }
        WatchReport {
            findings: self.findings.found.clone(),
            unmodelled: self.unmodelled.clone(),
            stuck,
            missing: self.missing,
        }
    }

    fn access(
        &mut self,
        place: Place,
        (bar, offset, data): (u8, u64, &[u8]),
        write: bool,
        error: Option<AccessError>,
    ) {
        if let Some(AccessError::Unmapped { .. }) = error {
            self.miss(place, (bar, offset, data.len() as u64), write);
        }
        if error.is_some() {
            return;
        }
        let Self { names, monitors, findings, device, .. } = self;
        for name in names.touched(bar, offset, data.len() as u64) {
            let touch = Touch::new(name, offset, data);
            if write && touch.name == "pci.command" {
                device.command = touch.value | device.command & !touch.mask;
            }
            for monitor in &mut *monitors {
                if write {
                    monitor.write(place, &touch, findings);
                } else {
                    monitor.read(place, &touch, findings);
                }
            }
        }
    }

    fn miss(&mut self, place: Place, (bar, offset, length): (u8, u64, u64), write: bool) {
        let same = |known: &&mut Unmodelled| {
            (known.bar, known.offset, known.length) == (bar, offset, length)
        };
        let (reads, writes) = (u64::from(!write), u64::from(write));
        if let Some(known) = self.unmodelled.iter_mut().find(same) {
            known.reads += reads;
            known.writes += writes;
        } else if self.unmodelled.len() < MAX_KEPT {
            let position = place.position;
            self.unmodelled.push(Unmodelled { bar, offset, length, reads, writes, position });
        }
    }

    /// A read of a BAR, which may be one more of a poll.
    fn poll(&mut self, place: Place, (bar, offset, data): (u8, u64, &[u8])) {
        let (key, value) = ((bar, offset, data.len() as u64), little_endian(data));
        let room = self.polls.len() < MAX_KEPT;
        match self.polls.get_mut(&key) {
            Some(poll) if poll.value == value => {
                poll.last = place.at;
                poll.reads += 1;
            }
            Some(_) => {
                if let Some(poll) = self.polls.remove(&key) {
                    let stuck = self.stuck(key, &poll, poll.value ^ value);
                    self.keep(stuck);
                }
            }
            None if room => {
                self.polls.insert(key, Poll { since: place, last: place.at, value, reads: 1 });
            }
            None => {}
        }
    }

    /// The driver goes on to something else.
    fn end_polls(&mut self) {
        for (key, poll) in std::mem::take(&mut self.polls) {
            let stuck = self.stuck(key, &poll, 0);
            self.keep(stuck);
        }
    }

    fn keep(&mut self, stuck: Option<StuckPoll>) {
        if self.stuck.len() < MAX_KEPT {
            self.stuck.extend(stuck);
        }
    }

    fn stuck(
        &self,
        (bar, offset, length): (u8, u64, u64),
        poll: &Poll,
        changed: u64,
    ) -> Option<StuckPoll> {
        let nanos = poll.last.saturating_sub(poll.since.at);
        if poll.reads < POLL_READS || nanos < POLL_NANOS {
            return None;
        }
        let mut register = self.names.name(bar, offset, length);
        if register.is_empty() {
            register = format!("bar{bar} @{offset:#x}");
        }
        Some(StuckPoll {
            register,
            value: poll.value,
            changed,
            nanos,
            reads: poll.reads,
            position: poll.since.position,
            device: self.device.words(),
        })
    }
}
