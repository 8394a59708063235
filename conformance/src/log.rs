//! What a check and its device said to each other, and what the device refused.
//!
//! A check runs on one thread from its start to its end, so its log is that thread's: helpers deep
//! in a check need not be handed it. The runner starts a log before each check and takes it after.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write;

use crate::bytes::{le16, le32, le64};
use crate::peer::{HEADER, command, name};

/// Messages that are remembered: the last ones before a verdict.
const MAX_MESSAGES: usize = 24;
/// Bytes that are remembered of each.
const MAX_BYTES: usize = HEADER + 48;
/// Refusals that are remembered.
const MAX_REFUSALS: usize = 4;

thread_local! {
    static LOG: RefCell<Log> = RefCell::new(Log::default());
}

/// One check's log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    messages: VecDeque<Seen>,
    /// What the device refused as it must.
    pub(crate) refusals: Vec<String>,
}

#[derive(Debug)]
struct Seen {
    sent: bool,
    /// Bytes of the message, header included.
    len: usize,
    /// Its beginning.
    bytes: Vec<u8>,
}

/// Forgets what an earlier check said.
pub(crate) fn start() {
    LOG.with_borrow_mut(|log| *log = Log::default());
}

/// Ends the check's log.
pub(crate) fn take() -> Log {
    LOG.take()
}

/// A message of the client's (`sent`) or of the server's, header included.
pub(crate) fn message(sent: bool, bytes: &[u8]) {
    LOG.with_borrow_mut(|log| {
        if log.messages.len() == MAX_MESSAGES {
            log.messages.pop_front();
        }
        let kept = bytes.get(..MAX_BYTES).unwrap_or(bytes).to_vec();
        log.messages.push_back(Seen { sent, len: bytes.len(), bytes: kept });
    });
}

/// The device refused something that it must refuse.
pub(crate) fn refused(what: impl Into<String>) {
    LOG.with_borrow_mut(|log| {
        if log.refusals.len() < MAX_REFUSALS {
            log.refusals.push(what.into());
        }
    });
}

impl Log {
    /// The messages, oldest first, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.messages.iter().map(Seen::line).collect()
    }
}

impl Seen {
    fn line(&self) -> String {
        let arrow = if self.sent { "->" } else { "<-" };
        if self.bytes.len() < HEADER {
            return format!("{arrow} {} bytes: {}", self.len, hex::encode(&self.bytes));
        }
        let (id, number) = (le16(&self.bytes, 0), le16(&self.bytes, 2));
        let (flags, error) = (le32(&self.bytes, 8), le32(&self.bytes, 12));
        let mut line = format!("{arrow} {} #{id}", name(number));
        if flags & 0xf == 1 {
            line.push_str(" reply");
        }
        if flags & 0x20 != 0 {
            let _ = write!(line, ", error {}", crate::errno::name(error));
        }
        let payload = self.bytes.get(HEADER..).unwrap_or(&[]);
        let accesses = [command::REGION_READ, command::REGION_WRITE];
        let (head, data) = match payload.split_at_checked(16) {
            Some((head, data)) if accesses.contains(&number) => {
                let (offset, region, count) = (le64(head, 0), le32(head, 8), le32(head, 12));
                (format!(" region {region} @{offset:#x}+{count}"), data)
            }
            _ => (String::new(), payload),
        };
        line.push_str(&head);
        if !data.is_empty() {
            let more = if self.len > self.bytes.len() { "…" } else { "" };
            let _ = write!(line, ": {}{more}", hex::encode(data));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peer;

    #[test]
    fn messages_are_lines_and_only_the_last_are_kept() {
        start();
        let read = [&0x10_u64.to_le_bytes()[..], &[7, 0, 0, 0, 4, 0, 0, 0]].concat();
        for id in 0..30 {
            message(true, &Peer::frame(id, command::REGION_READ, 0, &read));
        }
        let mut error = Peer::frame(29, command::REGION_READ, 0x21, &[]);
        error[12] = 22;
        message(false, &error);
        refused("REGION_READ with EINVAL");
        let log = take();
        let lines = log.lines();
        assert_eq!(lines.len(), MAX_MESSAGES);
        assert_eq!(lines[MAX_MESSAGES - 2], "-> REGION_READ #29 region 7 @0x10+4");
        assert_eq!(lines[MAX_MESSAGES - 1], "<- REGION_READ #29 reply, error EINVAL (22)");
        assert_eq!(log.refusals, ["REGION_READ with EINVAL"]);
        assert!(take().lines().is_empty());
    }
}
