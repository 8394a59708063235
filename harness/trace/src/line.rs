//! Records for people and for other programs: named, decoded, one line each.

use std::borrow::Cow;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use understudy_device::{AccessError, DmaFaultKind, Progress, Tap, Verdict};
use understudy_pci::{CONFIG_REGION, Irq};
use understudy_wire::Command;

use crate::decode::Entries;
use crate::file::Header;
use crate::names::{Names, index_of};
use crate::pipe::Place;
use crate::record::Record;

/// Bytes of data that are shown.
const SHOWN: usize = 64;

/// One record as a line of a `.jsonl` trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Number of the record in its trace, from 0.
    pub position: u64,
    /// Nanoseconds of the host's clock.
    pub time: u64,
    /// What happened: `bar-write`, `dma-read`, `interrupt` …
    pub kind: Cow<'static, str>,
    /// Register touched.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub register: String,
    /// Queue concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u16>,
    /// Offset in a BAR or config space, or an address in guest memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// Bytes concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// The value read or written, if it has at most eight bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// The first bytes, in hexadecimal, if there are more than eight.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Everything else, decoded, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Line {
    /// One line for people.
    #[must_use]
    pub fn text(&self) -> String {
        let (seconds, nanos) = (self.time / 1_000_000_000, self.time % 1_000_000_000);
        let mut out =
            format!("{:>7} {seconds:>4}.{:06} {:<14}", self.position, nanos / 1000, self.kind);
        if !self.register.is_empty() {
            let _ = write!(out, " {}", self.register);
        }
        if let Some(queue) = self.queue.filter(|_| self.register.is_empty()) {
            let _ = write!(out, " queue {queue}");
        }
        if let Some(address) = self.address {
            let _ = write!(out, " @{address:#x}");
        }
        if let Some(length) = self.length {
            let _ = write!(out, "+{length}");
        }
        if let Some(value) = self.value {
            let _ = write!(out, " = {value:#x}");
        } else if !self.data.is_empty() {
            let _ = write!(out, " = {}", self.data);
        }
        if !self.detail.is_empty() {
            let _ = write!(out, " {}", self.detail);
        }
        if !self.error.is_empty() {
            let _ = write!(out, " !! {}", self.error);
        }
        out
    }
}

/// Makes lines of records, in order: what a descriptor said is used for the data that follow.
#[derive(Debug)]
pub struct Decoder {
    names: Names,
    entries: Entries,
}

impl Decoder {
    /// For records of a recording with this header.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let names = Names::new(&header.registers);
        Self { names, entries: Entries::new(&header.device) }
    }

    /// One record as a line.
    pub fn line(&mut self, place: Place, record: &Record<'_>) -> Line {
        let mut line = Line { position: place.position, time: place.at, ..Line::default() };
        match record {
            Record::ConfigRead { offset, data, error, .. } => {
                self.access(&mut line, "config-read", (CONFIG_REGION.0, *offset, data), *error);
            }
            Record::ConfigWrite { offset, data, error, .. } => {
                self.access(&mut line, "config-write", (CONFIG_REGION.0, *offset, data), *error);
            }
            Record::BarRead { bar, offset, data, error, .. } => {
                self.access(&mut line, "bar-read", (bar.0, *offset, data), *error);
            }
            Record::BarWrite { bar, offset, data, error, .. } => {
                self.access(&mut line, "bar-write", (bar.0, *offset, data), *error);
                if let (Some(value), None) = (line.value, error) {
                    self.entries.written(&line.register, value);
                }
            }
            Record::DmaRead { iova, len, data, fault } => {
                memory(&mut line, "dma-read", *iova, (*len, data), *fault);
                line.detail = self.entries.read(*iova, data);
            }
            Record::DmaWrite { iova, len, data, fault, .. } => {
                memory(&mut line, "dma-write", *iova, (*len, data), *fault);
            }
            Record::Tap { point, queue, entry, edited, verdict } => {
                line.kind = match point {
                    Tap::Fetched => "entry-fetched",
                    Tap::Completing => "completion",
                }
                .into();
                line.queue = Some(*queue);
                line.length = Some(entry.len() as u64);
                line.data = hex(entry);
                line.detail = self.entries.entry(*point, entry);
                if edited.is_some() || *verdict != Verdict::Pass {
                    let edited = edited.map(|bytes| format!(", edited to {}", hex(bytes)));
                    let _ = write!(line.detail, " [{verdict:?}{}]", edited.unwrap_or_default());
                }
            }
            Record::SharedRead { bar, offset, len, data, fault } => {
                memory(&mut line, "shared-read", *offset, (*len, data), *fault);
                line.register = format!("bar{}", bar.0);
            }
            Record::SharedWrite { bar, offset, data, fault } => {
                let len = data.len() as u64;
                memory(&mut line, "shared-write", *offset, (len, data), *fault);
                line.register = format!("bar{}", bar.0);
            }
            Record::EntryChanged { queue, iova, was, is } => {
                line.kind = "entry-changed".into();
                (line.queue, line.address) = (Some(*queue), Some(*iova));
                line.data = hex(is);
                line.detail = format!("was {}", hex(was));
            }
            other => plain(&mut line, other),
        }
        line
    }

    fn access(
        &self,
        line: &mut Line,
        kind: &'static str,
        (bar, offset, data): (u8, u64, &[u8]),
        error: Option<AccessError>,
    ) {
        let len = data.len() as u64;
        line.kind = kind.into();
        line.register = self.names.name(bar, offset, len);
        if line.register.is_empty() {
            line.register =
                if bar == CONFIG_REGION.0 { "config".into() } else { format!("bar{bar}") };
        }
        line.queue = ["notify", "rings.tail", "rings.head"]
            .iter()
            .find_map(|register| index_of(&line.register, register));
        (line.address, line.length) = (Some(offset), Some(len));
        bytes(line, data, len);
        line.error = error.map(|error| error.to_string()).unwrap_or_default();
    }
}

/// Records that need no state to be decoded.
fn plain(line: &mut Line, record: &Record<'_>) {
    let (kind, detail) = match record {
        Record::Poll { budget, progress, .. } => {
            ("poll", format!("budget {budget}, {}", progress_words(*progress)))
        }
        Record::Repeat { count, .. } => ("repeat", format!("{count} more idle polls")),
        Record::Park { progress, .. } => ("park", progress_words(*progress)),
        Record::Finish { job, .. } => ("job-finished", format!("job {}", job.0)),
        Record::Submit { job } => ("job-submitted", format!("job {}", job.0)),
        Record::Reset { kind, .. } => ("reset", format!("{kind:?}")),
        Record::Mask { irq, first, count, masked, .. } => {
            let what = if *masked { "masked" } else { "unmasked" };
            ("mask", format!("{} {first}+{count} {what}", irq_name(*irq)))
        }
        Record::Triggers { .. } => ("triggers", "changed".to_owned()),
        Record::Clock { values } => ("clock", format!("read {} times", values.len())),
        Record::Fence => ("fence", String::new()),
        Record::Signal { irq, vector, heard } => {
            let unheard = if *heard { "" } else { ", nobody listens" };
            ("interrupt", format!("{} vector {vector}{unheard}", irq_name(*irq)))
        }
        Record::HasTriggers { irq, any } => ("has-triggers", format!("{} {any}", irq_name(*irq))),
        Record::Message { received, id, command, flags, size, errno, .. } => {
            let command = Command(*command);
            let what = if flags & 1 == 0 { "request" } else { "reply" };
            let posted = if flags & 0x10 == 0 { "" } else { ", posted" };
            if *errno != 0 {
                line.error = format!("errno {errno}");
            }
            let kind = if *received { "message-in" } else { "message-out" };
            (kind, format!("{command} {what} id {id}, {size} bytes{posted}"))
        }
        Record::Attach { .. } => ("attach", "a client".to_owned()),
        Record::Detach { .. } => ("detach", "the client".to_owned()),
        Record::DmaMap { iova, size, .. } => {
            (line.address, line.length) = (Some(*iova), Some(*size));
            ("dma-map", String::new())
        }
        Record::DmaUnmap { iova, size, .. } => {
            (line.address, line.length) = (Some(*iova), Some(*size));
            ("dma-unmap", String::new())
        }
        Record::Fault { what, .. } => ("fault", (*what).to_owned()),
        Record::Dropped { records, bytes } => {
            ("dropped", format!("{records} records of {bytes} bytes are missing here"))
        }
        // Those are decoded elsewhere.
        _ => ("", String::new()),
    };
    line.kind = kind.into();
    line.detail = detail;
}

fn memory(
    line: &mut Line,
    kind: &'static str,
    iova: u64,
    (len, data): (u64, &[u8]),
    fault: Option<DmaFaultKind>,
) {
    line.kind = kind.into();
    (line.address, line.length) = (Some(iova), Some(len));
    bytes(line, data, len);
    line.error = fault.map(|fault| format!("{fault:?}")).unwrap_or_default();
}

/// A number for up to eight bytes, else hexadecimal digits.
fn bytes(line: &mut Line, data: &[u8], len: u64) {
    if data.is_empty() {
        return;
    }
    if len <= 8 && data.len() as u64 == len {
        line.value = Some(little_endian(data));
    } else {
        line.data = hex(data);
    }
}

/// Up to eight bytes as a number.
#[must_use]
pub fn little_endian(data: &[u8]) -> u64 {
    data.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn hex(data: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |number: u8| char::from(DIGITS[usize::from(number & 0xf)]);
    let mut out = String::with_capacity(2 * data.len().min(SHOWN) + 3);
    for byte in data.iter().take(SHOWN) {
        out.push(digit(byte >> 4));
        out.push(digit(*byte));
    }
    if data.len() > SHOWN {
        out.push('…');
    }
    out
}

fn irq_name(irq: Irq) -> &'static str {
    match irq {
        Irq::Intx => "INTx",
        Irq::Msi => "MSI",
        Irq::Msix => "MSI-X",
    }
}

fn progress_words(progress: Progress) -> String {
    match progress {
        Progress::Idle => "idle".to_owned(),
        Progress::More => "more to do".to_owned(),
        Progress::Until(at) => format!("idle until {} ns", at.0),
    }
}
