//! Where each field lies. One table serves decoding, encoding, error texts and tests that break a
//! single field of a valid message.
//!
//! Offsets count from the end of the header, as in the specification, except in [`header`].

use crate::error::{Errno, Problem, WireError};
use crate::header::{Command, HEADER_SIZE};

/// One integer field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name in the specification.
    pub name: &'static str,
    /// Its first byte: from the start of the payload, or of the message for [`header`] fields.
    pub offset: usize,
    /// Its width in bytes: 2, 4 or 8.
    pub width: usize,
}

impl Field {
    /// The first byte after the field.
    pub const fn end(&self) -> usize {
        self.offset + self.width
    }

    /// Overwrites this field of a payload with the low bytes of `value`. Returns false, and changes
    /// nothing, if the payload is too short.
    pub fn patch(&self, payload: &mut [u8], value: u64) -> bool {
        let Some(slot) = payload.get_mut(self.offset..self.end()) else { return false };
        if cfg!(target_endian = "little") {
            for (to, from) in slot.iter_mut().zip(value.to_le_bytes()) {
                *to = from;
            }
        } else {
            for (to, from) in slot.iter_mut().rev().zip(value.to_le_bytes()) {
                *to = from;
            }
        }
        true
    }

    /// Overwrites this field of a whole message (header first), as [`Field::patch`] does.
    pub fn patch_message(&self, message: &mut [u8], value: u64) -> bool {
        message.get_mut(HEADER_SIZE..).is_some_and(|payload| self.patch(payload, value))
    }

    /// An error about this field of a payload.
    pub(crate) fn reject(&self, command: Command, errno: Errno, problem: Problem) -> WireError {
        let offset = HEADER_SIZE + self.offset;
        WireError { errno, command, field: self.name, offset, problem }
    }
}

/// A payload being decoded: every access is checked.
#[derive(Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) command: Command,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Payload<'a> {
    /// The payload of a message whose fixed part ends with `last`.
    pub(crate) fn new(command: Command, bytes: &'a [u8], last: &Field) -> Result<Self, WireError> {
        if bytes.len() < last.end() {
            return Err(truncated(command, bytes, last));
        }
        Ok(Self { command, bytes })
    }

    /// Fails unless the payload is exactly as long as its fixed part and `extra` bytes.
    pub(crate) fn exactly(
        &self,
        last: &Field,
        extra: u64,
        field: &Field,
        value: u64,
    ) -> Result<(), WireError> {
        let have = self.tail(last).len() as u64;
        if have == extra {
            return Ok(());
        }
        let problem = Problem::Mismatch { value, expected: have, what: "bytes follow the fields" };
        Err(self.reject(field, problem))
    }

    /// The bytes after the fixed part.
    pub(crate) fn tail(&self, last: &Field) -> &'a [u8] {
        self.bytes.get(last.end()..).unwrap_or(&[])
    }

    pub(crate) fn u16(&self, field: &Field) -> Result<u16, WireError> {
        Ok(u16::from_ne_bytes(self.chunk(field)?))
    }

    pub(crate) fn u32(&self, field: &Field) -> Result<u32, WireError> {
        Ok(u32::from_ne_bytes(self.chunk(field)?))
    }

    pub(crate) fn u64(&self, field: &Field) -> Result<u64, WireError> {
        Ok(u64::from_ne_bytes(self.chunk(field)?))
    }

    /// `argsz`, which must be at least `min` bytes.
    pub(crate) fn argsz(&self, field: &Field, min: usize) -> Result<u32, WireError> {
        let argsz = self.u32(field)?;
        let min = min as u64;
        if u64::from(argsz) < min {
            let problem = Problem::TooSmall { value: argsz.into(), min };
            return Err(self.reject(field, problem));
        }
        Ok(argsz)
    }

    /// Fails with EINVAL on account of `field`.
    pub(crate) fn reject(&self, field: &Field, problem: Problem) -> WireError {
        field.reject(self.command, Errno::INVAL, problem)
    }

    /// Fails with EINVAL because `value` breaks `rule`.
    pub(crate) fn forbid(&self, field: &Field, value: u64, rule: &'static str) -> WireError {
        self.reject(field, Problem::Forbidden { value, rule })
    }

    /// Fails with E2BIG if `value` is over `max`.
    pub(crate) fn at_most(&self, field: &Field, value: u64, max: u32) -> Result<(), WireError> {
        let max = u64::from(max);
        if value > max {
            let problem = Problem::TooBig { value, max };
            return Err(field.reject(self.command, Errno::TOO_BIG, problem));
        }
        Ok(())
    }

    fn chunk<const N: usize>(&self, field: &Field) -> Result<[u8; N], WireError> {
        self.bytes
            .get(field.offset..)
            .and_then(|rest| rest.first_chunk::<N>())
            .copied()
            .ok_or_else(|| truncated(self.command, self.bytes, field))
    }
}

fn truncated(command: Command, bytes: &[u8], last: &Field) -> WireError {
    let need = HEADER_SIZE + last.end();
    let have = HEADER_SIZE + bytes.len();
    last.reject(command, Errno::INVAL, Problem::Truncated { need, have })
}

/// Appends the fixed part of a payload: zeroes up to the end of `last`, then each value in place.
pub(crate) fn put(out: &mut Vec<u8>, last: &Field, values: &[(&Field, u64)]) {
    let base = out.len();
    out.resize(base + last.end(), 0);
    if let Some(payload) = out.get_mut(base..) {
        for (field, value) in values {
            field.patch(payload, *value);
        }
    }
}

macro_rules! layouts {
    ($($(#[$doc:meta])* $module:ident { $($field:ident = $name:literal, $offset:literal, $width:literal;)* })*) => {
        $($(#[$doc])* pub mod $module {
            use super::Field;
            $(
                #[doc = concat!("`", $name, "`, ", $width, " bytes at ", $offset, ".")]
                pub const $field: Field = Field { name: $name, offset: $offset, width: $width };
            )*
            #[cfg(test)]
            pub(crate) const ALL: &[Field] = &[$($field),*];
        })*

        /// The fields of every layout, for tests over all of them.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &[Field])] = &[$((stringify!($module), $module::ALL)),*];
    };
}

layouts! {
    /// The message header; offsets count from the start of the message.
    header {
        ID = "message id", 0, 2;
        COMMAND = "command", 2, 2;
        SIZE = "message size", 4, 4;
        FLAGS = "flags", 8, 4;
        ERROR = "error", 12, 4;
    }
    /// VERSION, request and reply. JSON text and its NUL follow.
    version {
        MAJOR = "version major", 0, 2;
        MINOR = "version minor", 2, 2;
    }
    /// DMA_MAP request.
    dma_map {
        ARGSZ = "argsz", 0, 4;
        FLAGS = "flags", 4, 4;
        OFFSET = "offset", 8, 8;
        ADDRESS = "address", 16, 8;
        SIZE = "size", 24, 8;
    }
    /// DMA_UNMAP, request and reply.
    dma_unmap {
        ARGSZ = "argsz", 0, 4;
        FLAGS = "flags", 4, 4;
        ADDRESS = "address", 8, 8;
        SIZE = "size", 16, 8;
    }
    /// DMA_UNMAP with a dirty bitmap: after the fields of [`dma_unmap`]. The bitmap follows in a
    /// reply.
    dma_bitmap {
        PAGE_SIZE = "bitmap pgsize", 24, 8;
        SIZE = "bitmap size", 32, 8;
    }
    /// DEVICE_GET_INFO, request and reply.
    device_info {
        ARGSZ = "argsz", 0, 4;
        FLAGS = "flags", 4, 4;
        NUM_REGIONS = "num_regions", 8, 4;
        NUM_IRQS = "num_irqs", 12, 4;
    }
    /// DEVICE_GET_REGION_INFO, request and reply. Capabilities follow in a reply.
    region_info {
        ARGSZ = "argsz", 0, 4;
        FLAGS = "flags", 4, 4;
        INDEX = "index", 8, 4;
        CAP_OFFSET = "cap_offset", 12, 4;
        SIZE = "size", 16, 8;
        OFFSET = "offset", 24, 8;
    }
    /// A capability header; offsets count from the start of the capability.
    region_cap {
        ID = "cap id", 0, 2;
        VERSION = "cap version", 2, 2;
        NEXT = "cap next", 4, 4;
    }
    /// A sparse mmap capability after its header; offsets count from the end of [`region_cap`].
    /// Areas of 16 bytes (offset, size) follow.
    sparse_mmap {
        NR_AREAS = "nr_areas", 0, 4;
        RESERVED = "reserved", 4, 4;
    }
    /// DEVICE_GET_REGION_IO_FDS, request and reply. Sub-regions follow in a reply.
    region_io_fds {
        ARGSZ = "argsz", 0, 4;
        FLAGS = "flags", 4, 4;
        INDEX = "index", 8, 4;
        COUNT = "count", 12, 4;
    }
    /// A sub-region; offsets count from its start.
    sub_region {
        OFFSET = "offset", 0, 8;
        SIZE = "size", 8, 8;
        FD_INDEX = "fd_index", 16, 4;
        TYPE = "type", 20, 4;
        FLAGS = "flags", 24, 4;
        PADDING = "padding", 28, 4;
        DATA = "datamatch or user_data", 32, 8;
    }
    /// DEVICE_GET_IRQ_INFO, request and reply.
    irq_info {
        ARGSZ = "argsz", 0, 4;
        FLAGS = "flags", 4, 4;
        INDEX = "index", 8, 4;
        COUNT = "count", 12, 4;
    }
    /// DEVICE_SET_IRQS request. One byte for each interrupt follows if the data are booleans.
    set_irqs {
        ARGSZ = "argsz", 0, 4;
        FLAGS = "flags", 4, 4;
        INDEX = "index", 8, 4;
        START = "start", 12, 4;
        COUNT = "count", 16, 4;
    }
    /// REGION_READ and REGION_WRITE, requests and replies. Data follow in a write request and in a
    /// read reply.
    region_access {
        OFFSET = "offset", 0, 8;
        REGION = "region", 8, 4;
        COUNT = "count", 12, 4;
    }
    /// DMA_READ and DMA_WRITE, requests and replies. Data follow in a write request and in a read
    /// reply.
    dma_access {
        ADDRESS = "address", 0, 8;
        COUNT = "count", 8, 8;
    }
    /// The same, as QEMU up to 10.1 reads and writes it: the count has 4 bytes, data start at 12.
    dma_access_early {
        ADDRESS = "address", 0, 8;
        COUNT = "count", 8, 4;
    }
    /// REGION_WRITE_MULTI, request and reply. Writes follow in a request.
    write_multi {
        COUNT = "wr_cnt", 0, 8;
    }
    /// One write of REGION_WRITE_MULTI; offsets count from its start.
    write_one {
        OFFSET = "offset", 0, 8;
        REGION = "region", 8, 4;
        COUNT = "count", 12, 4;
        DATA = "data", 16, 8;
    }
    /// DEVICE_FEATURE, request and reply. The feature's data follow.
    device_feature {
        ARGSZ = "argsz", 0, 4;
        FLAGS = "flags", 4, 4;
    }
    /// MIG_DATA_READ and MIG_DATA_WRITE. Data follow in a write request and in a read reply.
    mig_data {
        ARGSZ = "argsz", 0, 4;
        SIZE = "size", 4, 4;
    }
}
