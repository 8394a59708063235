//! DEVICE_FEATURE, MIG_DATA_READ and MIG_DATA_WRITE. The data of features pass through as bytes.

use std::fmt;

use crate::error::{Problem, WireError};
use crate::header::Command;
use crate::layout::{self, Payload, device_feature, mig_data};

/// Index of a device feature ("Device Features"). Open: unknown numbers are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Feature(pub u16);

impl Feature {
    /// What kinds of migration the device can do.
    pub const MIGRATION: Self = Self(1);
    /// The device's migration state.
    pub const MIG_DEVICE_STATE: Self = Self(2);
    /// Start logging DMA writes.
    pub const DMA_LOGGING_START: Self = Self(6);
    /// Stop logging DMA writes.
    pub const DMA_LOGGING_STOP: Self = Self(7);
    /// Which pages DMA wrote to.
    pub const DMA_LOGGING_REPORT: Self = Self(8);
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MIGRATION => f.write_str("migration"),
            Self::MIG_DEVICE_STATE => f.write_str("device-state"),
            Self::DMA_LOGGING_START => f.write_str("dma-logging-start"),
            Self::DMA_LOGGING_STOP => f.write_str("dma-logging-stop"),
            Self::DMA_LOGGING_REPORT => f.write_str("dma-logging-report"),
            Self(other) => write!(f, "feature{other}"),
        }
    }
}

impl fmt::Debug for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// DEVICE_FEATURE, request and reply ("VFIO_USER_DEVICE_FEATURE"). The reply repeats the request,
/// with the data added for a get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFeature<'a> {
    /// Maximum size of the reply's payload in bytes; in a reply, its size. At least 8.
    pub argsz: u32,
    /// Index in bits 0 to 15, and [`DeviceFeature::GET`] and the other bits.
    pub flags: u32,
    /// The feature's data.
    pub data: &'a [u8],
}

impl<'a> DeviceFeature<'a> {
    /// Flag: return the feature's data.
    pub const GET: u32 = 1 << 16;
    /// Flag: set the feature from the data.
    pub const SET: u32 = 1 << 17;
    /// Flag: only say whether get or set would be supported.
    pub const PROBE: u32 = 1 << 18;

    /// Which feature.
    pub fn feature(&self) -> Feature {
        let [b0, b1, ..] = self.flags.to_le_bytes();
        Feature(u16::from_le_bytes([b0, b1]))
    }

    /// Whether data are to be returned.
    pub fn is_get(&self) -> bool {
        self.flags & Self::GET != 0
    }

    /// Whether data are to be set.
    pub fn is_set(&self) -> bool {
        self.flags & Self::SET != 0
    }

    /// Whether this only asks what is supported.
    pub fn is_probe(&self) -> bool {
        self.flags & Self::PROBE != 0
    }

    pub(crate) fn decode_request(bytes: &'a [u8]) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DEVICE_FEATURE, bytes, &device_feature::FLAGS)?;
        let feature = Self::fields(&payload, device_feature::FLAGS.end())?;
        let forbid = |rule| payload.forbid(&device_feature::FLAGS, feature.flags.into(), rule);
        let operations = feature.flags & !0xffff;
        if operations & !(Self::GET | Self::SET | Self::PROBE) != 0 {
            return Err(forbid("only get, set and probe (bits 16 to 18) are defined"));
        }
        if operations == 0 {
            return Err(forbid("one of get, set and probe must be set"));
        }
        if operations == Self::GET | Self::SET {
            return Err(forbid("get and set exclude each other, except when probing"));
        }
        // The reply to a set or a probe repeats the request, so it must fit.
        if !feature.is_get() && (feature.argsz as usize) < bytes.len() {
            let problem =
                Problem::TooSmall { value: feature.argsz.into(), min: bytes.len() as u64 };
            return Err(payload.reject(&device_feature::ARGSZ, problem));
        }
        Ok(feature)
    }

    pub(crate) fn decode_reply(bytes: &'a [u8]) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DEVICE_FEATURE, bytes, &device_feature::FLAGS)?;
        Self::fields(&payload, bytes.len())
    }

    fn fields(payload: &Payload<'a>, min: usize) -> Result<Self, WireError> {
        Ok(Self {
            argsz: payload.argsz(&device_feature::ARGSZ, min)?,
            flags: payload.u32(&device_feature::FLAGS)?,
            data: payload.tail(&device_feature::FLAGS),
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (&device_feature::ARGSZ, self.argsz.into()),
            (&device_feature::FLAGS, self.flags.into()),
        ];
        layout::put(out, &device_feature::FLAGS, &values);
        out.extend_from_slice(self.data);
    }
}

/// MIG_DATA_READ and MIG_DATA_WRITE ("VFIO_USER_MIG_DATA_READ", "VFIO_USER_MIG_DATA_WRITE").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigData<'a> {
    /// Maximum size of the reply's payload in bytes; in a read reply, its size.
    pub argsz: u32,
    /// Bytes to read, or bytes of data here.
    pub size: u32,
    /// The data of a write request or of a read reply, `size` bytes; otherwise empty.
    pub data: &'a [u8],
}

impl<'a> MigData<'a> {
    /// A read request: no data, but room for them in the reply.
    pub(crate) fn decode_read(bytes: &'a [u8], max: u32) -> Result<Self, WireError> {
        let payload = Payload::new(Command::MIG_DATA_READ, bytes, &mig_data::SIZE)?;
        let data = Self::fields(&payload, max)?;
        payload.exactly(&mig_data::SIZE, 0, &mig_data::SIZE, data.size.into())?;
        data.check_argsz(&payload)?;
        Ok(data)
    }

    /// A read reply: `size` bytes of data.
    pub(crate) fn decode_read_reply(bytes: &'a [u8], max: u32) -> Result<Self, WireError> {
        let payload = Payload::new(Command::MIG_DATA_READ, bytes, &mig_data::SIZE)?;
        let data = Self::fields(&payload, max)?;
        payload.exactly(&mig_data::SIZE, data.size.into(), &mig_data::SIZE, data.size.into())?;
        data.check_argsz(&payload)?;
        Ok(data)
    }

    /// A write request: `size` bytes of data. Its `argsz` bounds a reply that has no payload, so
    /// any value will do.
    pub(crate) fn decode_write(bytes: &'a [u8], max: u32) -> Result<Self, WireError> {
        let payload = Payload::new(Command::MIG_DATA_WRITE, bytes, &mig_data::SIZE)?;
        let data = Self::fields(&payload, max)?;
        payload.exactly(&mig_data::SIZE, data.size.into(), &mig_data::SIZE, data.size.into())?;
        Ok(data)
    }

    fn fields(payload: &Payload<'a>, max: u32) -> Result<Self, WireError> {
        let size = payload.u32(&mig_data::SIZE)?;
        payload.at_most(&mig_data::SIZE, size.into(), max)?;
        let argsz = payload.u32(&mig_data::ARGSZ)?;
        Ok(Self { argsz, size, data: payload.tail(&mig_data::SIZE) })
    }

    /// `argsz` covers the fields and the data.
    fn check_argsz(&self, payload: &Payload<'_>) -> Result<(), WireError> {
        let min = mig_data::SIZE.end().saturating_add(self.size as usize);
        payload.argsz(&mig_data::ARGSZ, min).map(|_| ())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [(&mig_data::ARGSZ, self.argsz.into()), (&mig_data::SIZE, self.size.into())];
        layout::put(out, &mig_data::SIZE, &values);
        out.extend_from_slice(self.data);
    }
}
