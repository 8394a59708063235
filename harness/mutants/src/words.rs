//! Which request the device is at, from what it reads.

use understudy_device::{Requests, Tap, Vocabulary};

/// Longest header of a request that an opcode is looked for in, and shortest: those of virtio
/// devices. Descriptors are as long as the shortest, and begin with an address, which is no opcode.
const HEADERS: [usize; 2] = [16, 24];

/// What is known of the request at hand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) opcode: Option<u64>,
    /// The request's beginning.
    pub(crate) head: Vec<u8>,
    /// Its completion is being written.
    pub(crate) completing: bool,
}

impl Request {
    /// The ring engine shows an entry.
    pub(crate) fn tap(&mut self, words: &Vocabulary, at: Tap, entry: &[u8]) {
        match (at, words.requests) {
            (Tap::Completing, _) => self.completing = true,
            (Tap::Fetched, Requests::Inline { opcode, .. }) => {
                *self = Self { opcode: opcode.get(entry), head: entry.to_vec(), completing: false };
            }
            (Tap::Fetched, Requests::Virtqueue { .. }) => *self = Self::default(),
        }
    }

    /// The device has read guest memory. Whether that told what the request is.
    pub(crate) fn read(&mut self, words: &Vocabulary, data: &[u8]) -> bool {
        let Requests::Virtqueue { opcode } = words.requests else { return false };
        if self.opcode.is_some() || !HEADERS.contains(&data.len()) {
            return false;
        }
        let Some(found) = opcode.get(data) else { return false };
        if !words.opcodes.iter().any(|named| named.value == found) {
            return false;
        }
        self.opcode = Some(found);
        self.head = data.to_vec();
        true
    }

    /// A little-endian word of the request's beginning.
    pub(crate) fn word(&self, at: usize) -> Option<u32> {
        let raw = self.head.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(raw.try_into().ok()?))
    }
}
