//! What goes over the control channel and the DMA bridge.

use crate::platform::DmaBuffer;

/// Bytes of a request and of its response.
pub(super) const REQUEST: usize = 64;
pub(super) const RESPONSE: usize = 4;

/// Semaphore commands of a request.
pub mod sem {
    /// A command after the transfer.
    #[must_use]
    pub const fn post(operation: u32, index: u32, value: u32) -> u32 {
        1 << 31 | operation << 24 | index << 16 | value
    }

    /// A command before the transfer.
    #[must_use]
    pub const fn pre(operation: u32, index: u32, value: u32) -> u32 {
        post(operation, index, value) | 1 << 22
    }

    /// Sets.
    pub const INIT: u32 = 1;
    /// Adds one.
    pub const INC: u32 = 2;
    /// Takes one away.
    pub const DEC: u32 = 3;
    /// Waits until equal.
    pub const EQUAL: u32 = 4;
    /// Waits until as large.
    pub const AT_LEAST: u32 = 5;
    /// Waits until not 0, and takes one away.
    pub const P: u32 = 6;
}

/// A transaction of a message: type and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Type.
    pub kind: u32,
    /// All but type and length.
    pub body: Vec<u8>,
}

impl Transaction {
    /// A transaction.
    #[must_use]
    pub fn new(kind: u32, body: Vec<u8>) -> Self {
        Self { kind, body }
    }

    /// A command of these words.
    #[must_use]
    pub fn command(words: &[u32]) -> Self {
        Self::new(4, words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    /// A word of the body; 0 where there is none.
    #[must_use]
    pub fn word(&self, index: usize) -> u32 {
        let bytes = self.body.get(index * 4..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    pub(super) fn long(&self, at: usize) -> u64 {
        let bytes = self.body.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// An active network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activation {
    /// Its number.
    pub id: u32,
    /// Its DMA bridge channel.
    pub channel: u32,
    /// Device address of its memory.
    pub memory: u64,
    /// Device address of its doorbells.
    pub doorbells: u64,
    pub(super) queues: DmaBuffer,
    pub(super) elements: u32,
    pub(super) responses: u64,
}

impl Activation {
    /// Its channel, as errors name queues.
    pub(super) fn queue(&self) -> u16 {
        u16::try_from(self.channel).unwrap_or(u16::MAX)
    }
}

/// A request of the DMA bridge.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    /// Returned in the response.
    pub id: u16,
    /// Direction and flags.
    pub command: u8,
    /// From where.
    pub source: u64,
    /// To where.
    pub destination: u64,
    /// Bytes.
    pub len: u32,
    /// Device address of the doorbell.
    pub doorbell: u64,
    /// Bit 7 and width.
    pub doorbell_kind: u8,
    /// What is written to it.
    pub doorbell_data: u32,
    /// Semaphore commands.
    pub semaphores: [u32; 4],
}

impl Request {
    pub(super) fn encode(&self) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        bytes[0..2].copy_from_slice(&self.id.to_le_bytes());
        bytes[3] = self.command;
        bytes[8..16].copy_from_slice(&self.source.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.destination.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.doorbell.to_le_bytes());
        bytes[40] = self.doorbell_kind;
        bytes[44..48].copy_from_slice(&self.doorbell_data.to_le_bytes());
        for (slot, word) in bytes[48..].chunks_exact_mut(4).zip(self.semaphores) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}
