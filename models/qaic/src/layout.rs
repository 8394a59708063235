//! What lies in guest memory: MHI contexts and ring elements, DMA bridge requests and responses,
//! Sahara packets. Everything is little-endian.
//!
//! Names are those of `drivers/bus/mhi/common.h`, `drivers/accel/qaic/qaic_data.c` and `sahara.c`.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Context of a ring (`mhi_event_ctxt`, `mhi_chan_ctxt`, `mhi_cmd_ctxt`): the first three words
/// differ in meaning.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Context {
    /// Channel: state, burst mode, polling. Event ring: moderation. Command ring: reserved.
    pub config: U32,
    /// Channel: direction. Event ring: 1 if it is valid.
    pub kind: U32,
    /// Channel: its event ring. Event ring: its interrupt vector.
    pub index: U32,
    /// Address of the ring.
    pub base: U64,
    /// Bytes of the ring.
    pub len: U64,
    /// Address that the consumer of the ring has reached; for event rings, the producer.
    pub rp: U64,
    /// Address behind the last element that the host has given.
    pub wp: U64,
}
const _: () = assert!(size_of::<Context>() == 44);

/// Offset of [`Context::rp`].
pub const CONTEXT_RP: u64 = 28;

/// Bytes of a ring element.
pub const ELEMENT_LEN: usize = 16;

/// Element of a command, transfer or event ring (`mhi_ring_element`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Element {
    /// Buffer, or the element that an event is about.
    pub ptr: U64,
    /// Length; of an event also its code.
    pub word0: U32,
    /// Type and channel; flags of a transfer.
    pub word1: U32,
}
const _: () = assert!(size_of::<Element>() == ELEMENT_LEN);

impl Element {
    /// An event.
    #[must_use]
    pub fn event(kind: u8, code: u8, channel: u8, ptr: u64, len: u16) -> Self {
        Self {
            ptr: U64::new(ptr),
            word0: U32::new(u32::from(code) << 24 | u32::from(len)),
            word1: U32::new(u32::from(channel) << 24 | u32::from(kind) << 16),
        }
    }

    /// What the element is.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.word1.get().to_le_bytes()[2]
    }

    /// The channel that a command is about.
    #[must_use]
    pub fn channel(&self) -> u8 {
        self.word1.get().to_le_bytes()[3]
    }

    /// Bytes of a transfer.
    #[must_use]
    pub fn len(&self) -> u16 {
        let [low, high, ..] = self.word0.get().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Whether a transfer has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Flags of a transfer element.
pub mod transfer {
    /// The next element belongs to the same transfer.
    pub const CHAIN: u32 = 1 << 0;
    /// Event at the end of this block.
    pub const IEOB: u32 = 1 << 8;
    /// Event at the end of the transfer.
    pub const IEOT: u32 = 1 << 9;
    /// The event does not interrupt.
    pub const BEI: u32 = 1 << 10;
}

/// Types of elements (`enum mhi_pkt_type`).
pub mod kind {
    /// Nothing.
    pub const NOOP: u8 = 0x01;
    /// A buffer.
    pub const TRANSFER: u8 = 0x02;
    /// Command: forget the channel.
    pub const RESET_CHANNEL: u8 = 0x10;
    /// Command: pause the channel.
    pub const STOP_CHANNEL: u8 = 0x11;
    /// Command: take the channel's context and serve it.
    pub const START_CHANNEL: u8 = 0x12;
    /// Event: the power state changed.
    pub const STATE_CHANGE: u8 = 0x20;
    /// Event: a command is done.
    pub const COMMAND_COMPLETION: u8 = 0x21;
    /// Event: buffers were used.
    pub const TRANSFER_EVENT: u8 = 0x22;
    /// Event: another execution environment.
    pub const ENVIRONMENT: u8 = 0x40;
}

/// Completion codes (`enum mhi_ev_ccs`).
pub mod code {
    /// The command succeeded.
    pub const SUCCESS: u8 = 0x01;
    /// End of transfer.
    pub const EOT: u8 = 0x02;
    /// The message was longer than the transfer; the rest is lost.
    pub const OVERFLOW: u8 = 0x03;
    /// End of block.
    pub const EOB: u8 = 0x04;
    /// The command failed.
    pub const UNDEFINED: u8 = 0x10;
    /// The transfer element makes no sense.
    pub const BAD_TRE: u8 = 0x11;
}

/// Channel states in a context (`enum mhi_ch_state`).
pub mod channel_state {
    /// Not in use.
    pub const DISABLED: u8 = 0;
    /// Served.
    pub const RUNNING: u8 = 2;
    /// Paused.
    pub const STOP: u8 = 4;
    /// An element made no sense.
    pub const ERROR: u8 = 5;
}

/// Bytes of a request.
pub const REQUEST_LEN: usize = 64;
/// Bytes of a response.
pub const RESPONSE_LEN: usize = 4;

/// Request of a DMA bridge channel (`struct dbc_req`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Request {
    /// Returned in the response.
    pub id: U16,
    /// Ignored.
    pub sequence: u8,
    /// See [`command`].
    pub command: u8,
    reserved_1: U32,
    /// Where the bytes are.
    pub source: U64,
    /// Where they go.
    pub destination: U64,
    /// How many.
    pub len: U32,
    reserved_2: U32,
    /// Device address of the doorbell.
    pub doorbell: U64,
    /// See [`doorbell`].
    pub doorbell_kind: u8,
    reserved_3: [u8; 3],
    /// What is written to the doorbell.
    pub doorbell_data: U32,
    /// See [`semaphore`].
    pub semaphores: [U32; 4],
}
const _: () = assert!(size_of::<Request>() == REQUEST_LEN);

/// Response of a DMA bridge channel (`struct dbc_rsp`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Response {
    /// The request's.
    pub id: U16,
    /// 0 for success.
    pub status: U16,
}
const _: () = assert!(size_of::<Response>() == RESPONSE_LEN);

/// Bits of [`Request::command`].
pub mod command {
    /// Which way.
    pub const DIRECTION: u8 = 0x03;
    /// No transfer.
    pub const NONE: u8 = 0;
    /// From the host.
    pub const TO_DEVICE: u8 = 1;
    /// To the host.
    pub const FROM_DEVICE: u8 = 2;
    /// One run of bytes, not a linked list.
    pub const BULK: u8 = 1 << 3;
    /// A response is wanted.
    pub const COMPLETION: u8 = 1 << 4;
    /// The response interrupts even if another is there already.
    pub const FORCE_MSI: u8 = 1 << 7;
}

/// Bits of [`Request::doorbell_kind`].
pub mod doorbell {
    /// There is one.
    pub const ENABLE: u8 = 1 << 7;
    /// How wide: 0 to 2 for 32, 16 and 8 bits.
    pub const LEN: u8 = 0x03;
}

/// A semaphore command: bits, and operations.
pub mod semaphore {
    /// There is one.
    pub const ENABLE: u32 = 1 << 31;
    /// Only after all transfers to the device.
    pub const FENCE_IN: u32 = 1 << 30;
    /// Only after all transfers from the device.
    pub const FENCE_OUT: u32 = 1 << 29;
    /// Before the transfer, not after.
    pub const PRESYNC: u32 = 1 << 22;
    /// Sets.
    pub const INIT: u8 = 1;
    /// Adds one.
    pub const INC: u8 = 2;
    /// Takes one away.
    pub const DEC: u8 = 3;
    /// Waits until equal.
    pub const EQUAL: u8 = 4;
    /// Waits until as large.
    pub const AT_LEAST: u8 = 5;
    /// Waits until it is not 0, and takes one away.
    pub const P: u8 = 6;
}

/// Sahara, version 2.
pub mod sahara {
    /// Device: let us begin.
    pub const HELLO: u32 = 0x1;
    /// Host: yes.
    pub const HELLO_RESPONSE: u32 = 0x2;
    /// Device: give me these bytes of that image.
    pub const READ_DATA: u32 = 0x3;
    /// Device: that is all of the image, or, with a status other than 0, all there will be of it.
    pub const END_OF_IMAGE: u32 = 0x4;
    /// Host: done.
    pub const DONE: u32 = 0x5;
    /// Device: indeed.
    pub const DONE_RESPONSE: u32 = 0x6;
    /// Host: I cannot.
    pub const RESET: u32 = 0x7;
    /// Status in the end of an image that the host has not got. Only that 0 is success is published.
    pub const STATUS_ABSENT: u32 = 1;
    /// Bytes of a hello and its response.
    pub const HELLO_LEN: u32 = 0x30;
}
