//! The vfio-user message codec: every command, requests and replies, in both directions.
//!
//! Specification: QEMU `docs/interop/vfio-user.rst`, protocol 0.1; VFIO structures as in
//! `<linux/vfio.h>`. Section names in the docs below are that document's.
//!
//! * [`layout`]: where each field lies, once, for decoding, encoding, error texts and for tests
//!   that break one field on purpose.
//! * [`Header`], [`Command`]: the 16 bytes before every message; unknown commands are kept.
//! * [`Request`] and [`Reply`]: one variant for each command. Decoding borrows payloads from the
//!   caller's buffer; encoding appends to the caller's `Vec`. Neither allocates otherwise.
//! * [`version`]: capabilities, and the negotiation as two pure functions.
//! * [`FrameReader`]: bytes in pieces to whole messages, in step even past oversized ones.
//! * [`WireError`]: what is wrong, in which field, and the errno to reply with.
//!
//! Decoding checks everything that can be checked without knowing the device: lengths, `argsz`,
//! flag combinations, counts against the negotiated limit, sums that wrap. Encoding checks nothing:
//! it writes the fields it is given, so that a test can also write wrong ones.
//!
//! All integers are in host byte order ("Protocol Specification").
//!
//! Not implemented: the data of each DEVICE_FEATURE (it is passed through as bytes),
//! shadow ioeventfds (a libvfio-user extension), and DIRTY_PAGES (14, withdrawn).

#![forbid(unsafe_code)]

mod device;
mod dma;
mod error;
mod feature;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod irqs;
pub mod layout;
mod region;
mod region_info;
mod reply;
mod request;
mod summary;
#[cfg(test)]
mod tests;
pub mod version;

pub use device::{
    DeviceInfo, DeviceInfoFlags, GetIrqInfo, IrqIndex, IrqInfo, IrqInfoFlags, RegionIndex,
};
pub use dma::{DirtyBitmap, DmaAccess, DmaLayout, DmaMap, DmaReadReply, DmaUnmap};
pub use error::{Errno, Problem, WireError};
pub use feature::{DeviceFeature, Feature, MigData};
pub use frame::{Frame, FrameReader};
pub use header::{Command, HEADER_SIZE, Header, Kind, Side};
pub use irqs::{IrqAction, IrqData, SetIrqs};
pub use region::{RegionAccess, RegionWrite, WriteMulti};
pub use region_info::{
    GetRegionInfo, GetRegionIoFds, RegionCap, RegionCaps, RegionInfo, RegionInfoFlags, RegionIoFds,
    SparseArea, SubRegionIoFd,
};
pub use reply::Reply;
pub use request::Request;
pub use summary::{Summary, summary};
pub use version::Version;

/// Bounds that the receiver of a message enforces while decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that one read, write or migration message may ask for or carry: the receiver's
    /// own `max_data_xfer_size`, in bytes.
    pub max_data_xfer_size: u32,
}

impl Limits {
    /// The largest message that these limits let through, in bytes, header included.
    ///
    /// A data message is header, 16 bytes of fields and the data. The floor leaves room for
    /// VERSION, REGION_WRITE_MULTI (QEMU batches 200 writes) and SET_IRQS with 2048 booleans even
    /// if data transfers are limited to a few bytes.
    pub fn max_message_size(&self) -> usize {
        let data = usize::try_from(self.max_data_xfer_size).unwrap_or(usize::MAX);
        data.max(version::MAX_JSON_SIZE + 1).saturating_add(HEADER_SIZE + 16)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_data_xfer_size: version::DEFAULT_MAX_DATA_XFER_SIZE }
    }
}
