//! Messages and guest structures, written field by field as their specifications' tables have them.
//!
//! Deliberately not the codec that the server under test uses: a mistake in a shared layout would
//! be invisible.

/// A structure being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    /// Zeroes up to a length of `len` bytes.
    pub(crate) fn pad(mut self, len: usize) -> Self {
        self.0.resize(self.0.len().max(len), 0);
        self
    }
}

/// The little-endian integer at `offset`; bytes that are not there count as zero.
pub(crate) fn le(bytes: &[u8], offset: usize, width: usize) -> u64 {
    let mut raw = [0; 8];
    for (to, from) in raw.iter_mut().take(width).zip(bytes.iter().skip(offset)) {
        *to = *from;
    }
    u64::from_le_bytes(raw)
}

/// As [`le`], of 16 bits.
pub(crate) fn le16(bytes: &[u8], offset: usize) -> u16 {
    u16::try_from(le(bytes, offset, 2)).unwrap_or_default()
}

/// As [`le`], of 32 bits.
pub(crate) fn le32(bytes: &[u8], offset: usize) -> u32 {
    u32::try_from(le(bytes, offset, 4)).unwrap_or_default()
}

/// As [`le`], of 64 bits.
pub(crate) fn le64(bytes: &[u8], offset: usize) -> u64 {
    le(bytes, offset, 8)
}

/// CRC-32 of IEEE 802.3 (RFC 1952 §8), bit by bit.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 0 { 0 } else { 0xedb8_8320 }
        })
    })
}
