//! One thing that happened, and its bytes.
//!
//! A record is either a **call** (something that the host did to the function), an **event** within
//! the last call (something that the function did to its host), or a **note** of the host. Calls and
//! events together are all inputs and outputs of a function, so a fresh one can be driven by them.

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;
use understudy_device::{AccessError, Bar, DmaFaultKind, JobId, Progress, ResetKind, Tap, Verdict};
use understudy_pci::Irq;

/// Bytes of a device's write to memory that are kept; of the rest there is a hash.
pub const KEPT_OF_WRITE: usize = 64;

/// One record. Bytes are borrowed from whoever made it or from the buffer it was read from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record<'a> {
    /// Call: the driver read config space, and got `data`.
    ConfigRead {
        /// Host's clock in nanoseconds.
        at: u64,
        /// Offset in bytes.
        offset: u64,
        /// What was returned, whether or not the access was taken.
        #[serde(borrow, with = "serde_bytes")]
        data: &'a [u8],
        /// Why it was not taken.
        error: Option<AccessError>,
    },
    /// Call: the driver wrote config space.
    ConfigWrite {
        /// Host's clock in nanoseconds.
        at: u64,
        /// Offset in bytes.
        offset: u64,
        /// What was written.
        #[serde(borrow, with = "serde_bytes")]
        data: &'a [u8],
        /// Why it was not taken.
        error: Option<AccessError>,
    },
    /// Call: the driver read a BAR, and got `data`.
    BarRead {
        /// Host's clock in nanoseconds.
        at: u64,
        /// Which BAR.
        bar: Bar,
        /// Offset in bytes.
        offset: u64,
        /// What was returned, whether or not the access was taken.
        #[serde(borrow, with = "serde_bytes")]
        data: &'a [u8],
        /// Why it was not taken.
        error: Option<AccessError>,
    },
    /// Call: the driver wrote a BAR.
    BarWrite {
        /// Host's clock in nanoseconds.
        at: u64,
        /// Which BAR.
        bar: Bar,
        /// Offset in bytes.
        offset: u64,
        /// What was written.
        #[serde(borrow, with = "serde_bytes")]
        data: &'a [u8],
        /// Why it was not taken.
        error: Option<AccessError>,
    },
    /// Call: the host let the function work.
    Poll {
        /// Host's clock in nanoseconds.
        at: u64,
        /// Queue entries allowed.
        budget: u32,
        /// What the function said is left.
        progress: Progress,
    },
    /// Call: the last poll, which found nothing to do, again and again with the same result.
    Repeat {
        /// How many more times.
        count: u64,
        /// What the function last read from the clock, if it did.
        clock: Option<u64>,
    },
    /// Call: the host told the function that it will sleep.
    Park {
        /// Host's clock in nanoseconds.
        at: u64,
        /// What the function said is left.
        progress: Progress,
    },
    /// Call: a job's output came back.
    Finish {
        /// Host's clock in nanoseconds.
        at: u64,
        /// Which job.
        job: JobId,
    },
    /// Call: the host reset the function.
    Reset {
        /// Host's clock in nanoseconds, of the call before if that is not known.
        at: u64,
        /// How.
        kind: ResetKind,
    },
    /// Call: the client masked or unmasked vectors (`SET_IRQS`).
    Mask {
        /// Host's clock in nanoseconds.
        at: u64,
        /// Kind.
        irq: Irq,
        /// First vector.
        first: u16,
        /// How many.
        count: u16,
        /// Masked or unmasked.
        masked: bool,
    },
    /// Call: the client set or removed triggers (`SET_IRQS`).
    Triggers {
        /// Host's clock in nanoseconds.
        at: u64,
    },

    /// Event: what the function read from the clock during this call, in order.
    Clock {
        /// Nanoseconds.
        values: Vec<u64>,
    },
    /// Event: the device read guest memory.
    DmaRead {
        /// First address.
        iova: u64,
        /// Bytes asked for.
        len: u64,
        /// What it got; empty if it got nothing. Cut off in traces that are not for replay.
        #[serde(borrow, with = "serde_bytes")]
        data: &'a [u8],
        /// Why it got nothing.
        fault: Option<DmaFaultKind>,
    },
    /// Event: the device wrote guest memory.
    DmaWrite {
        /// First address.
        iova: u64,
        /// Bytes written.
        len: u64,
        /// XXH3 of all of them; 0 in traces that are not for replay.
        hash: u64,
        /// The first [`KEPT_OF_WRITE`] of them.
        #[serde(borrow, with = "serde_bytes")]
        data: &'a [u8],
        /// Why they did not get there.
        fault: Option<DmaFaultKind>,
    },
    /// Event: the device ordered its DMA.
    Fence,
    /// Event: the function sent an interrupt.
    Signal {
        /// Kind.
        irq: Irq,
        /// Vector.
        vector: u16,
        /// Whether the client listened.
        heard: bool,
    },
    /// Event: the function asked whether the client listens.
    HasTriggers {
        /// Kind.
        irq: Irq,
        /// The answer.
        any: bool,
    },
    /// Event: the model handed out work.
    Submit {
        /// The name that the host gave it.
        job: JobId,
    },
    /// Event: the ring engine showed an entry.
    Tap {
        /// Where.
        point: Tap,
        /// Queue index.
        queue: u16,
        /// The entry as the device had it.
        #[serde(borrow, with = "serde_bytes")]
        entry: &'a [u8],
        /// As the host left it, if it changed it.
        #[serde(borrow, with = "serde_bytes")]
        edited: Option<&'a [u8]>,
        /// What the host decided.
        verdict: Verdict,
    },
    /// Event: the model read a shared area.
    SharedRead {
        /// Which BAR.
        bar: Bar,
        /// Offset in bytes.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// What it got; empty if it got nothing.
        #[serde(borrow, with = "serde_bytes")]
        data: &'a [u8],
        /// Why it got nothing.
        fault: Option<DmaFaultKind>,
    },
    /// Event: the model wrote a shared area.
    SharedWrite {
        /// Which BAR.
        bar: Bar,
        /// Offset in bytes.
        offset: u64,
        /// What was written.
        #[serde(borrow, with = "serde_bytes")]
        data: &'a [u8],
        /// Why it did not get there.
        fault: Option<DmaFaultKind>,
    },

    /// Note: a vfio-user message.
    Message {
        /// Host's clock in nanoseconds.
        at: u64,
        /// From the client, or to it.
        received: bool,
        /// Message ID.
        id: u16,
        /// Command number.
        command: u16,
        /// Flags: type, no-reply, error.
        flags: u32,
        /// Size of the whole message in bytes.
        size: u64,
        /// Error number of an error reply.
        errno: u32,
    },
    /// Note: a client attached.
    Attach {
        /// Host's clock in nanoseconds.
        at: u64,
    },
    /// Note: the client is gone.
    Detach {
        /// Host's clock in nanoseconds.
        at: u64,
    },
    /// Note: the client mapped memory.
    DmaMap {
        /// Host's clock in nanoseconds.
        at: u64,
        /// First address.
        iova: u64,
        /// Bytes.
        size: u64,
    },
    /// Note: the client unmapped memory.
    DmaUnmap {
        /// Host's clock in nanoseconds.
        at: u64,
        /// First address.
        iova: u64,
        /// Bytes.
        size: u64,
    },
    /// Note: a fault was injected.
    Fault {
        /// Host's clock in nanoseconds.
        at: u64,
        /// Which, in the words of its plan.
        what: &'a str,
    },
    /// Note: an entry changed in guest memory between the device's fetch and its completion.
    EntryChanged {
        /// Queue index.
        queue: u16,
        /// Where it lies.
        iova: u64,
        /// As fetched.
        #[serde(borrow, with = "serde_bytes")]
        was: &'a [u8],
        /// As it is now.
        #[serde(borrow, with = "serde_bytes")]
        is: &'a [u8],
    },
    /// Note: records were lost here, as the file could not be written fast enough or is full.
    Dropped {
        /// How many.
        records: u64,
        /// Bytes of them.
        bytes: u64,
    },
}

/// What kind of record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The host did something to the function.
    Call,
    /// The function did something to its host, during the last call.
    Event,
    /// The host noted something.
    Note,
}

/// The bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes are needed.
    #[error("the record is cut off")]
    Short,
    /// No bytes can make this a record.
    #[error("not a record")]
    Invalid,
}

impl<'a> Record<'a> {
    /// Appends the record's bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        // Neither a growing vector nor these types can fail.
        let _ = postcard::serialize_with_flavor(self, Append(into));
    }

    /// The record at the start of `bytes`, and what follows it.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        postcard::take_from_bytes(bytes).map_err(|error| match error {
            postcard::Error::DeserializeUnexpectedEnd => DecodeError::Short,
            _ => DecodeError::Invalid,
        })
    }

    /// A device's write of `data`, as it is recorded.
    #[must_use]
    pub fn dma_write(iova: u64, data: &'a [u8], fault: Option<DmaFaultKind>) -> Self {
        let kept = &data[..data.len().min(KEPT_OF_WRITE)];
        Self::DmaWrite {
            iova,
            len: data.len() as u64,
            hash: XxHash3_64::oneshot(data),
            data: kept,
            fault,
        }
    }

    /// The same for a trace that is not for replay.
    #[must_use]
    pub fn dma_write_shown(iova: u64, data: &'a [u8], fault: Option<DmaFaultKind>) -> Self {
        let kept = &data[..data.len().min(KEPT_OF_WRITE)];
        Self::DmaWrite { iova, len: data.len() as u64, hash: 0, data: kept, fault }
    }

    /// Call, event or note.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::ConfigRead { .. }
            | Self::ConfigWrite { .. }
            | Self::BarRead { .. }
            | Self::BarWrite { .. }
            | Self::Poll { .. }
            | Self::Repeat { .. }
            | Self::Park { .. }
            | Self::Finish { .. }
            | Self::Reset { .. }
            | Self::Mask { .. }
            | Self::Triggers { .. } => Role::Call,
            Self::Clock { .. }
            | Self::DmaRead { .. }
            | Self::DmaWrite { .. }
            | Self::Fence
            | Self::Signal { .. }
            | Self::HasTriggers { .. }
            | Self::Submit { .. }
            | Self::Tap { .. }
            | Self::SharedRead { .. }
            | Self::SharedWrite { .. } => Role::Event,
            Self::Message { .. }
            | Self::Attach { .. }
            | Self::Detach { .. }
            | Self::DmaMap { .. }
            | Self::DmaUnmap { .. }
            | Self::Fault { .. }
            | Self::EntryChanged { .. }
            | Self::Dropped { .. } => Role::Note,
        }
    }

    /// The host's clock, for records that carry it; others belong to the record before.
    #[must_use]
    pub fn at(&self) -> Option<u64> {
        match self {
            Self::ConfigRead { at, .. }
            | Self::ConfigWrite { at, .. }
            | Self::BarRead { at, .. }
            | Self::BarWrite { at, .. }
            | Self::Poll { at, .. }
            | Self::Park { at, .. }
            | Self::Finish { at, .. }
            | Self::Reset { at, .. }
            | Self::Mask { at, .. }
            | Self::Triggers { at }
            | Self::Message { at, .. }
            | Self::Attach { at }
            | Self::Detach { at }
            | Self::DmaMap { at, .. }
            | Self::DmaUnmap { at, .. }
            | Self::Fault { at, .. } => Some(*at),
            Self::Repeat { clock, .. } => *clock,
            _ => None,
        }
    }
}

/// Puts bytes at the end of a vector, slices at once.
struct Append<'v>(&'v mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_and_say_when_they_are_cut_off() {
        let data = [7; 300];
        let record = Record::DmaRead { iova: 1 << 40, len: 300, data: &data, fault: None };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        Record::Fence.encode(&mut bytes);
        let (first, rest) = Record::decode(&bytes).unwrap();
        assert_eq!(first, record);
        assert_eq!(Record::decode(rest).unwrap(), (Record::Fence, &[][..]));
        for cut in 0..bytes.len() - 1 {
            assert_eq!(Record::decode(&bytes[..cut]), Err(DecodeError::Short), "cut at {cut}");
        }
        assert_eq!(Record::decode(&[0x7f]), Err(DecodeError::Invalid));
    }

    #[test]
    fn a_write_keeps_its_start_and_a_hash_of_all() {
        let mut data = [1; 100];
        let Record::DmaWrite { len, hash, data: kept, .. } = Record::dma_write(0, &data, None)
        else {
            unreachable!()
        };
        assert_eq!((len, kept.len()), (100, KEPT_OF_WRITE));
        data[99] = 2;
        let Record::DmaWrite { hash: other, .. } = Record::dma_write(0, &data, None) else {
            unreachable!()
        };
        assert_ne!(hash, other);
    }
}
