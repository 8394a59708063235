//! Queue entries in the words of their device.
//!
//! Written from the specifications, not from the models: what is decoded here is a second reading.

mod qaic;
mod qat;
mod virtio;

use understudy_device::Tap;

/// Decodes entries of one device, with what earlier records told.
#[derive(Debug)]
pub(crate) enum Entries {
    Virtio(virtio::Entries),
    Qat,
    Qaic,
    /// Nothing is known about the device's entries.
    Plain,
}

impl Entries {
    pub(crate) fn new(device: &str) -> Self {
        match device {
            "qat" => Self::Qat,
            "qaic" => Self::Qaic,
            name if name.starts_with("virtio-") => Self::Virtio(virtio::Entries::new(name)),
            _ => Self::Plain,
        }
    }

    /// The driver wrote a register.
    pub(crate) fn written(&mut self, register: &str, value: u64) {
        if let Self::Virtio(entries) = self {
            entries.written(register, value);
        }
    }

    /// The device read memory.
    pub(crate) fn read(&mut self, iova: u64, data: &[u8]) -> String {
        match self {
            Self::Virtio(entries) => entries.read(iova, data),
            Self::Qat | Self::Qaic | Self::Plain => String::new(),
        }
    }

    /// The ring engine showed an entry.
    pub(crate) fn entry(&mut self, point: Tap, entry: &[u8]) -> String {
        match (self, point) {
            (Self::Virtio(entries), Tap::Fetched) => entries.fetched(entry),
            (Self::Virtio(_), Tap::Completing) => virtio::used(entry),
            (Self::Qat, Tap::Fetched) => qat::request(entry),
            (Self::Qat, Tap::Completing) => qat::response(entry),
            (Self::Qaic, Tap::Fetched) => qaic::fetched(entry),
            (Self::Qaic, Tap::Completing) => qaic::completing(entry),
            (Self::Plain, _) => String::new(),
        }
    }
}

/// Little-endian number of `len` bytes at `at`, 0 where there are none.
pub(crate) fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    crate::line::little_endian(bytes.get(at..at + len).unwrap_or_default())
}
