//! The physical function's end of the mailbox (`adf_pfvf_msg.h`, `adf_gen2_pfvf.c`).
//!
//! One 32-bit register holds a message in each direction: to the virtual function in the lower
//! half, from it in the upper. Bit 0 of a half says that there is a message; its receiver clears
//! it. The sender marks the other half as in use. The receiver clears that mark if both sides know
//! how to and the message is no notification; otherwise the sender does.
//!
//! There is no physical function, so the model answers as one, at once: between two accesses of
//! the driver everything that can happen has happened.

use std::collections::VecDeque;

/// There is a message in the half.
const PENDING: u16 = 1 << 0;
/// `ADF_PFVF_MSGORIGIN_SYSTEM`: others are ignored.
const SYSTEM: u16 = 1 << 1;
/// `ADF_GEN2_CSR_IN_USE` in a half, apart from its bit 0.
const IN_USE: u16 = 0x6ac2;
const IN_USE_MASK: u16 = 0xfffe;

/// The latest version of the protocol (`ADF_PFVF_COMPAT_THIS_VERSION`).
pub(crate) const LATEST_VERSION: u8 = 5;
/// Block messages with capabilities exist from here.
const VERSION_CAPABILITIES: u8 = 2;
/// The receiver clears the mark from here.
const VERSION_FAST_ACK: u8 = 3;
/// The map of rings to services can be asked for from here.
const VERSION_RING_MAP: u8 = 4;
/// Fatal errors are told of from here (`ADF_PFVF_COMPAT_FALLBACK`).
const VERSION_FATAL_ERROR: u8 = 5;

/// Most messages that wait to be sent.
const MAX_QUEUED: usize = 8;

/// Messages from the virtual function (`vf2pf_msgtype`).
mod from_vf {
    pub(super) const INIT: u16 = 3;
    pub(super) const SHUTDOWN: u16 = 4;
    pub(super) const VERSION: u16 = 5;
    pub(super) const COMPATIBLE_VERSION: u16 = 6;
    pub(super) const LARGE_BLOCK: u16 = 7;
    pub(super) const MEDIUM_BLOCK: u16 = 8;
    pub(super) const SMALL_BLOCK: u16 = 9;
    pub(super) const RESTARTING_COMPLETE: u16 = 10;
}

/// Messages to the virtual function (`pf2vf_msgtype`).
mod to_vf {
    pub(super) const RESTARTING: u16 = 1;
    pub(super) const VERSION_RESPONSE: u16 = 2;
    pub(super) const BLOCK_RESPONSE: u16 = 3;
    pub(super) const FATAL_ERROR: u16 = 4;
}

/// Results of a version request (`pf2vf_compat_response`).
mod compatible {
    pub(super) const YES: u16 = 1;
    pub(super) const NO: u16 = 2;
    pub(super) const UNKNOWN: u16 = 3;
}

/// Kinds of block responses (`pf2vf_blkmsg_resp_type`) and error codes (`pf2vf_blkmsg_error`).
mod block {
    pub(super) const DATA: u16 = 0;
    pub(super) const CRC: u16 = 1;
    pub(super) const ERROR: u16 = 2;
    pub(super) const INVALID_TYPE: u8 = 0;
    pub(super) const INVALID_BYTE: u8 = 1;
    pub(super) const CAPABILITIES: u16 = 2;
    pub(super) const RING_MAP: u16 = 3;
}

/// What the physical function tells about the part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Version of the protocol that it speaks.
    pub(crate) version: u8,
    /// `icp_qat_capabilities_mask`
    pub(crate) capabilities: u32,
    /// `extended_dc_capabilities`
    pub(crate) compression: u32,
    /// Service of each kind of ring, three bits each (`ring_to_svc_map`).
    pub(crate) ring_map: u16,
}

/// A message in the format of both halves: four bits of type, ten of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    kind: u16,
    data: u16,
}

impl Message {
    fn of(half: u16) -> Self {
        Self { kind: half >> 2 & 0xf, data: half >> 6 }
    }

    fn half(self) -> u16 {
        PENDING | SYSTEM | (self.kind & 0xf) << 2 | self.data << 6
    }
}

/// What the virtual function has said about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Version of the protocol that it speaks, 0 if it did not say.
    pub(crate) version: u8,
    /// It has sent INIT and no SHUTDOWN.
    pub(crate) initialised: bool,
    /// It was told of a restart and is not done with its preparations.
    pub(crate) restarting: bool,
}

/// Messages since power-on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) ignored: u64,
    pub(crate) restarts: u64,
    pub(crate) fatal_errors: u64,
}

/// The mailbox with the physical function behind it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    facts: Facts,
    to_vf: u16,
    from_vf: u16,
    peer: Peer,
    queued: VecDeque<Message>,
    /// Sent and not acknowledged.
    sent: Option<Message>,
    tally: Tally,
}

impl Mailbox {
    pub(crate) fn new(facts: Facts) -> Self {
        Self {
            facts,
            to_vf: 0,
            from_vf: 0,
            peer: Peer::default(),
            queued: VecDeque::new(),
            sent: None,
            tally: Tally::default(),
        }
    }

    /// As after a reset of the function.
    pub(crate) fn reset(&mut self) {
        *self = Self { tally: self.tally, ..Self::new(self.facts) };
    }

    /// Forgets what was counted.
    pub(crate) fn reset_tally(&mut self) {
        self.tally = Tally::default();
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// The register.
    pub(crate) fn value(&self) -> u32 {
        u32::from(self.from_vf) << 16 | u32::from(self.to_vf)
    }

    /// Whether there is a message for the virtual function.
    pub(crate) fn interrupts(&self) -> bool {
        self.to_vf & PENDING != 0
    }

    /// The driver writes the register: an acknowledgement, a message, or both halves' clean-up.
    pub(crate) fn write(&mut self, value: u32) {
        let [a, b, c, d] = value.to_le_bytes();
        self.to_vf = u16::from_le_bytes([a, b]);
        self.from_vf = u16::from_le_bytes([c, d]);
        if self.to_vf & PENDING != 0 {
            return;
        }
        let Some(sent) = self.sent.take() else { return };
        if self.from_vf & PENDING != 0 {
            // Both sides sent at once and ours is lost. Requests are repeated by their sender.
            if sent.kind == to_vf::RESTARTING {
                self.queued.push_front(sent);
            }
        } else if self.from_vf & IN_USE_MASK == IN_USE {
            self.from_vf &= !IN_USE_MASK;
        }
    }

    /// Lets the physical function act once. `false` if it has nothing to do.
    pub(crate) fn act(&mut self) -> bool {
        self.receive() || self.send()
    }

    /// Announces a restart, as a physical function does that is about to be reset.
    pub(crate) fn announce_restart(&mut self) {
        if self.peer.initialised && self.enqueue(to_vf::RESTARTING, 0) {
            self.peer.restarting = self.peer.version >= LATEST_VERSION;
            self.tally.restarts += 1;
        }
    }

    /// Tells of a fatal error of the part. It is no notification to the protocol: the receiver clears
    /// the mark, and it is lost if both sides send at once.
    pub(crate) fn announce_fatal_error(&mut self) {
        let version = self.peer.version.min(self.facts.version);
        let knows = self.peer.initialised && version >= VERSION_FATAL_ERROR;
        if knows && self.enqueue(to_vf::FATAL_ERROR, 0) {
            self.tally.fatal_errors += 1;
        }
    }

    fn enqueue(&mut self, kind: u16, data: u16) -> bool {
        let room = self.queued.len() < MAX_QUEUED;
        if room {
            self.queued.push_back(Message { kind, data });
        }
        room
    }

    fn send(&mut self) -> bool {
        let busy = self.to_vf & IN_USE_MASK == IN_USE || self.from_vf & PENDING != 0;
        if busy || self.sent.is_some() {
            return false;
        }
        let Some(message) = self.queued.pop_front() else { return false };
        self.to_vf = message.half();
        self.from_vf = IN_USE;
        self.sent = Some(message);
        self.tally.sent += 1;
        true
    }

    fn receive(&mut self) -> bool {
        if self.from_vf & (PENDING | SYSTEM) != PENDING | SYSTEM {
            return false;
        }
        let message = Message::of(self.from_vf);
        let notification = matches!(message.kind, from_vf::INIT | from_vf::SHUTDOWN);
        let version = self.peer.version.min(self.facts.version);
        if version >= VERSION_FAST_ACK && !notification {
            self.to_vf &= !IN_USE_MASK;
        }
        self.from_vf &= !PENDING;
        self.tally.received += 1;
        self.handle(message);
        true
    }

    fn handle(&mut self, Message { kind, data }: Message) {
        match kind {
            from_vf::INIT => self.peer.initialised = true,
            from_vf::SHUTDOWN => self.peer.initialised = false,
            from_vf::RESTARTING_COMPLETE => {
                self.peer.initialised = false;
                self.peer.restarting = false;
            }
            from_vf::VERSION => {
                self.peer.version = 0;
                // Major and minor version of the last protocol that had them.
                self.enqueue(to_vf::VERSION_RESPONSE, 0x11 | compatible::YES << 8);
            }
            from_vf::COMPATIBLE_VERSION => self.answer_version(data),
            from_vf::SMALL_BLOCK => {
                self.answer_block(data & 0xf, data >> 4 & 0x1f, data >> 9 != 0);
            }
            // Blocks of the larger classes begin behind the last of the smaller.
            from_vf::MEDIUM_BLOCK => {
                self.answer_block((data & 0x7) + 16, data >> 3 & 0x3f, data >> 9 != 0);
            }
            from_vf::LARGE_BLOCK => {
                self.answer_block((data & 0x3) + 24, data >> 2 & 0x7f, data >> 9 != 0);
            }
            _ => self.tally.ignored += 1,
        }
    }

    fn answer_version(&mut self, data: u16) {
        self.peer.version = data.to_le_bytes()[0];
        let result = match self.peer.version {
            0 => compatible::NO,
            version if version <= self.facts.version => compatible::YES,
            _ => compatible::UNKNOWN,
        };
        self.enqueue(to_vf::VERSION_RESPONSE, u16::from(self.facts.version) | result << 8);
    }

    /// One byte of a block message, or the CRC of its first `byte + 1` bytes.
    fn answer_block(&mut self, kind: u16, byte: u16, crc: bool) {
        let message = self.block(kind);
        let (result, value) = match message.get(..=usize::from(byte)) {
            _ if message.is_empty() => (block::ERROR, block::INVALID_TYPE),
            None => (block::ERROR, block::INVALID_BYTE),
            Some(bytes) if crc => (block::CRC, crc8(bytes)),
            Some(bytes) => (block::DATA, bytes.last().copied().unwrap_or(0)),
        };
        self.enqueue(to_vf::BLOCK_RESPONSE, result | u16::from(value) << 2);
    }

    /// A block message: version, length of the payload, payload. Empty if there is none.
    fn block(&self, kind: u16) -> Vec<u8> {
        let facts = &self.facts;
        match kind {
            block::CAPABILITIES if facts.version >= VERSION_CAPABILITIES => {
                let words = [facts.compression, facts.capabilities];
                let payload = words.iter().flat_map(|word| word.to_le_bytes());
                [2, 8].into_iter().chain(payload).collect()
            }
            block::RING_MAP if facts.version >= VERSION_RING_MAP => {
                [1, 2].into_iter().chain(facts.ring_map.to_le_bytes()).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The CRC of block messages: polynomial 0x97, most significant bit first, from 0xff.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0xff, |crc: u8, byte| {
        (0..8).fold(crc ^ byte, |crc, _| crc << 1 ^ if crc & 0x80 != 0 { 0x97 } else { 0 })
    })
}
