//! A register's place, and the bytes that accesses share with it.

use understudy_pci::{Access, Region};

/// Up to 8 bytes of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub region: Region,
    /// First byte.
    pub offset: u64,
    /// Bytes, 1 to 8.
    pub width: u8,
}

impl Place {
    /// Calls `each` with every byte of an access that lies here, and its number in the register.
    pub(crate) fn shared(
        self,
        access: Access,
        data: &mut [u8],
    ) -> impl Iterator<Item = (&mut u8, u32)> {
        let here = access.region == self.region;
        let bytes = data.iter_mut().zip(access.offset..).filter(move |_| here);
        bytes.filter_map(move |(byte, at)| {
            let index = at.checked_sub(self.offset)?;
            let index = u32::try_from(index).ok().filter(|i| *i < u32::from(self.width))?;
            Some((byte, index))
        })
    }

    /// Whether an access touches it.
    pub(crate) fn touches(self, access: Access, len: usize) -> bool {
        let end = access.offset.saturating_add(len as u64);
        access.region == self.region
            && access.offset < self.offset + u64::from(self.width)
            && self.offset < end
    }

    /// What an access writes here: the bits, and which of them.
    pub(crate) fn written(self, access: Access, data: &mut [u8]) -> (u64, u64) {
        let (mut value, mut mask) = (0, 0);
        for (byte, index) in self.shared(access, data) {
            value |= u64::from(*byte) << (8 * index);
            mask |= 0xff << (8 * index);
        }
        (value, mask)
    }

    /// Puts the bits in `mask` of a value over the data of an access.
    pub(crate) fn overlay(self, access: Access, data: &mut [u8], value: u64, mask: u64) {
        for (byte, index) in self.shared(access, data) {
            let (value, mask) = (low(value >> (8 * index)), low(mask >> (8 * index)));
            *byte = *byte & !mask | value & mask;
        }
    }

    /// Flips bits of the data of an access.
    pub(crate) fn flip(self, access: Access, data: &mut [u8], bits: u64) {
        for (byte, index) in self.shared(access, data) {
            *byte ^= low(bits >> (8 * index));
        }
    }
}

fn low(value: u64) -> u8 {
    value.to_le_bytes()[0]
}
