//! The kernel's own log, judged: crashes, warnings and errors end a scenario.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use serde_json::{Value, json};

use super::Failure;

/// Text of the messages that mean the kernel is unwell, whatever their level.
///
/// Not `Call Trace`: a host that is short of time makes the kernel print some for information.
const ALARMS: [&str; 7] = [
    "------------[ cut here",
    "WARNING:",
    "BUG:",
    "Oops",
    "general protection fault",
    "blocked for more than",
    "alg: self-tests for",
];

/// `KERN_ERR`: messages of this level and below (worse) are alarms once the agent runs.
const ERROR_LEVEL: u32 = 3;

/// The most messages quoted in a failure.
const MAX_QUOTED: usize = 8;

/// A reader of `/dev/kmsg`, which hands out one message a read.
pub(super) struct KernelLog {
    device: File,
    /// Errors logged before the agent ran are the platform's, not the scenario's.
    booted: bool,
}

impl KernelLog {
    pub(super) fn open() -> Result<Self, Failure> {
        let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let device = OpenOptions::new().read(true).custom_flags(nonblock).open("/dev/kmsg");
        let mut log =
            Self { device: device.map_err(|e| format!("/dev/kmsg: {e}"))?, booted: false };
        let alarms = log.alarms()?;
        log.booted = true;
        // A kernel that is unwell before it is used can prove nothing.
        if alarms.is_empty() { Ok(log) } else { Err(quote(&alarms)) }
    }

    /// Fails with the alarms logged since the last call.
    pub(super) fn check(&mut self) -> Result<Value, Failure> {
        let alarms = self.alarms()?;
        if alarms.is_empty() { Ok(json!({})) } else { Err(quote(&alarms)) }
    }

    fn alarms(&mut self) -> Result<Vec<String>, Failure> {
        let mut alarms = Vec::new();
        // A record is at most 8 KiB: the kernel says EINVAL to less room than it needs.
        let mut record = [0; 8 << 10];
        loop {
            match self.device.read(&mut record) {
                Ok(length) => {
                    let record = String::from_utf8_lossy(&record[..length]).into_owned();
                    alarms.extend(alarm(&record, self.booted));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(alarms),
                // Records were overwritten before they were read; go on with the oldest left.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => return Err(format!("/dev/kmsg: {error}")),
            }
        }
    }
}

/// The message of a record `level,sequence,time,flags;message` if it is an alarm.
fn alarm(record: &str, booted: bool) -> Option<String> {
    let (head, message) = record.split_once(';')?;
    let message = message.lines().next().unwrap_or_default();
    // The prefix holds facility << 3 | level.
    let level = head.split(',').next()?.parse::<u32>().ok()? & 7;
    let is_error = booted && level <= ERROR_LEVEL;
    (is_error || ALARMS.iter().any(|text| message.contains(text))).then(|| message.to_owned())
}

fn quote(alarms: &[String]) -> Failure {
    let quoted = alarms[..alarms.len().min(MAX_QUOTED)].join(" | ");
    format!("the kernel logged {} alarms: {quoted}", alarms.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_alarms_only_once_booted() {
        let record = "3,500,6000,-;virtio_crypto virtio0: failed\n SUBSYSTEM=virtio\n";
        assert_eq!(alarm(record, false), None);
        assert_eq!(alarm(record, true).as_deref(), Some("virtio_crypto virtio0: failed"));
        assert_eq!(alarm("6,501,6001,-;all is well\n", true), None);
    }

    #[test]
    fn traces_are_alarms_at_any_level_and_time() {
        let record = "4,7,8,-;WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2\n";
        assert!(alarm(record, false).is_some());
    }
}
