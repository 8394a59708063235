//! Descriptors and used elements (virtio 1.3 §2.7, §2.8); headers of crypto requests (§5.9.7).

use std::fmt::Write;

use super::number;

const NEXT: u64 = 1;
const WRITE: u64 = 2;
const INDIRECT: u64 = 4;
/// Feature bit 34, `VIRTIO_F_RING_PACKED`, as a bit of the second word.
const RING_PACKED: u64 = 1 << 2;
/// Descriptors that are shown.
const SHOWN: usize = 8;

/// What decoding needs to remember.
#[derive(Debug)]
pub(crate) struct Entries {
    crypto: bool,
    feature_word: u64,
    packed: bool,
    /// Where the table or the header of the entry that was fetched last lies.
    table: Option<u64>,
    header: Option<u64>,
}

impl Entries {
    pub(crate) fn new(device: &str) -> Self {
        let crypto = device == "virtio-crypto";
        Self { crypto, feature_word: 0, packed: false, table: None, header: None }
    }

    pub(crate) fn written(&mut self, register: &str, value: u64) {
        match register {
            "common.driver_feature_select" => self.feature_word = value,
            "common.driver_feature" if self.feature_word == 1 => {
                self.packed = value & RING_PACKED != 0;
            }
            _ => {}
        }
    }

    pub(crate) fn fetched(&mut self, entry: &[u8]) -> String {
        let flags = number(entry, if self.packed { 14 } else { 12 }, 2);
        let first = Some(number(entry, 0, 8));
        (self.table, self.header) =
            if flags & INDIRECT != 0 { (first, None) } else { (None, first) };
        self.descriptors(entry)
    }

    pub(crate) fn read(&mut self, iova: u64, data: &[u8]) -> String {
        if self.table == Some(iova) {
            self.table = None;
            self.header = Some(number(data, 0, 8));
            return format!("indirect table: {}", self.descriptors(data));
        }
        if self.crypto && self.header == Some(iova) && data.len() >= 16 {
            self.header = None;
            return crypto_header(data);
        }
        String::new()
    }

    fn descriptors(&self, bytes: &[u8]) -> String {
        let mut out = String::new();
        for raw in bytes.chunks_exact(16).take(SHOWN) {
            let (addr, len) = (number(raw, 0, 8), number(raw, 8, 4));
            let (low, high) = (number(raw, 12, 2), number(raw, 14, 2));
            let (flags, name, other) =
                if self.packed { (high, "id", low) } else { (low, "next", high) };
            let _ = write!(out, "{{{addr:#x}+{len}");
            for (bit, word) in [(NEXT, "NEXT"), (WRITE, "WRITE"), (INDIRECT, "INDIRECT")] {
                if flags & bit != 0 {
                    let _ = write!(out, " {word}");
                }
            }
            if self.packed || flags & NEXT != 0 {
                let _ = write!(out, " {name} {other}");
            }
            out.push('}');
        }
        let hidden = (bytes.len() / 16).saturating_sub(SHOWN);
        if hidden > 0 {
            let _ = write!(out, " and {hidden} more");
        }
        out
    }
}

pub(crate) fn used(entry: &[u8]) -> String {
    format!("used: id {}, {} bytes written", number(entry, 0, 4), number(entry, 4, 4))
}

/// `struct virtio_crypto_op_header` or `virtio_crypto_ctrl_header`: both start with the opcode.
fn crypto_header(data: &[u8]) -> String {
    let opcode = number(data, 0, 4);
    let service = match opcode >> 8 {
        0 => "CIPHER",
        1 => "HASH",
        2 => "MAC",
        3 => "AEAD",
        4 => "AKCIPHER",
        _ => return format!("opcode {opcode:#x}"),
    };
    // Operations with data count from 0, those with sessions from 2 or, for AKCIPHER, 4.
    let operation = match (opcode >> 8, opcode & 0xff) {
        (0 | 3 | 4, 0) => "ENCRYPT",
        (0 | 3 | 4, 1) => "DECRYPT",
        (1 | 2, 0) => "",
        (4, 2) => "SIGN",
        (4, 3) => "VERIFY",
        (0..=3, 2) | (4, 4) => "CREATE_SESSION",
        (0..=3, 3) | (4, 5) => "DESTROY_SESSION",
        _ => return format!("opcode {opcode:#x}"),
    };
    let join = if operation.is_empty() { "" } else { "_" };
    format!("header: {service}{join}{operation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(addr: u64, len: u32, flags: u16, next: u16) -> Vec<u8> {
        let mut raw = addr.to_le_bytes().to_vec();
        raw.extend(len.to_le_bytes());
        raw.extend(flags.to_le_bytes());
        raw.extend(next.to_le_bytes());
        raw
    }

    #[test]
    fn a_request_is_followed_to_its_header() {
        let mut entries = Entries::new("virtio-crypto");
        assert_eq!(entries.fetched(&split(0x1000, 32, 4, 0)), "{0x1000+32 INDIRECT}");
        let table = [split(0x2000, 72, 1, 1), split(0x3000, 16, 2, 0)].concat();
        assert_eq!(
            entries.read(0x1000, &table),
            "indirect table: {0x2000+72 NEXT next 1}{0x3000+16 WRITE}"
        );
        let mut header = vec![0; 24];
        header[..4].copy_from_slice(&0x0301u32.to_le_bytes());
        assert_eq!(entries.read(0x2000, &header), "header: AEAD_DECRYPT");
        assert_eq!(entries.read(0x2000, &header), "");
    }

    #[test]
    fn packed_descriptors_have_ids() {
        let mut entries = Entries::new("virtio-crypto");
        entries.written("common.driver_feature_select", 1);
        entries.written("common.driver_feature", 5);
        // In a packed ring the id comes before the flags.
        assert_eq!(entries.fetched(&split(0x1000, 9, 7, 0x82)), "{0x1000+9 WRITE id 7}");
    }
}
