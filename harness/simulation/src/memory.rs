//! Guest memory by I/O virtual address.

use std::ops::Range;

use understudy_device::{DmaFault, DmaFaultKind};

/// What the device may do with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Read only.
    Read,
    /// Write only.
    Write,
    /// Read and write.
    ReadWrite,
}

/// Why a range cannot be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// It is empty or passes the end of the address space.
    #[error("the range is empty or wraps")]
    Range,
    /// Part of it is mapped already.
    #[error("part of the range is mapped already")]
    Overlap,
    /// [`Memory::LIMIT`] would be passed.
    #[error("more memory than a simulation may have")]
    Limit,
}

/// Direction of an access by the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Read,
    Write,
}

#[derive(Debug, Clone)]
struct Mapping {
    iova: u64,
    permission: Permission,
    bytes: Vec<u8>,
}

impl Mapping {
    /// Lengths are bounded by [`Memory::LIMIT`] and ranges never wrap.
    fn end(&self) -> u64 {
        self.iova + self.bytes.len() as u64
    }
}

/// Guest memory: zeroed ranges that do not overlap. An access may span ranges that touch.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// In ascending order.
    mappings: Vec<Mapping>,
    total: u64,
}

impl Memory {
    /// Most bytes that can be mapped at a time.
    pub const LIMIT: u64 = 1 << 30;

    /// Maps zeroed memory at `iova..iova + len`.
    ///
    /// # Errors
    /// [`MapError`]; nothing was mapped.
    pub fn map(&mut self, iova: u64, len: u64, permission: Permission) -> Result<(), MapError> {
        let end = iova.checked_add(len).filter(|_| len > 0).ok_or(MapError::Range)?;
        let total = self.total.saturating_add(len);
        let size = usize::try_from(len).map_err(|_| MapError::Limit)?;
        if total > Self::LIMIT {
            return Err(MapError::Limit);
        }
        let at = self.mappings.partition_point(|mapping| mapping.end() <= iova);
        if self.mappings.get(at).is_some_and(|mapping| mapping.iova < end) {
            return Err(MapError::Overlap);
        }
        self.mappings.insert(at, Mapping { iova, permission, bytes: vec![0; size] });
        self.total = total;
        Ok(())
    }

    /// Unmaps the range that was mapped at `iova`. `false` if there is none.
    pub fn unmap(&mut self, iova: u64) -> bool {
        let Ok(at) = self.mappings.binary_search_by_key(&iova, |mapping| mapping.iova) else {
            return false;
        };
        let mapping = self.mappings.remove(at);
        self.total -= mapping.bytes.len() as u64;
        true
    }

    /// Copies memory as the guest's processor does, whatever the device may do with it.
    ///
    /// # Errors
    /// [`DmaFaultKind::Unmapped`] if part of the range is not mapped.
    pub fn read(&self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        let first = self.span(iova, into.len(), None)?;
        for (mapping, here, there) in pieces(&self.mappings[first..], iova, into.len()) {
            into[there].copy_from_slice(&mapping.bytes[here]);
        }
        Ok(())
    }

    /// Copies to memory as the guest's processor does, whatever the device may do with it.
    ///
    /// # Errors
    /// [`DmaFaultKind::Unmapped`] if part of the range is not mapped; nothing was written.
    pub fn write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        let first = self.span(iova, from.len(), None)?;
        self.store(first, iova, from);
        Ok(())
    }

    /// A read by the device.
    pub(crate) fn device_read(&self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.span(iova, into.len(), Some(Direction::Read))?;
        self.read(iova, into)
    }

    /// A write by the device.
    pub(crate) fn device_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        let first = self.span(iova, from.len(), Some(Direction::Write))?;
        self.store(first, iova, from);
        Ok(())
    }

    /// Memory that the device may read and write, in one mapping.
    pub(crate) fn device_lend(&mut self, iova: u64, len: usize) -> Option<&mut [u8]> {
        let at = self.mappings.partition_point(|mapping| mapping.end() <= iova);
        let mapping = self.mappings.get_mut(at)?;
        let here = part(mapping, iova, len).filter(|here| here.len() == len)?;
        let may = mapping.permission == Permission::ReadWrite;
        mapping.bytes.get_mut(here).filter(|_| may)
    }

    fn store(&mut self, first: usize, iova: u64, from: &[u8]) {
        let mut at = iova;
        let mut rest = from;
        for mapping in &mut self.mappings[first..] {
            let Some(here) = part(mapping, at, rest.len()) else { break };
            let (piece, left) = rest.split_at(here.len());
            mapping.bytes[here].copy_from_slice(piece);
            at += piece.len() as u64;
            rest = left;
        }
    }

    /// Checks that all of a range is mapped and may be accessed. Returns the first mapping's index.
    fn span(&self, iova: u64, len: usize, direction: Option<Direction>) -> Result<usize, DmaFault> {
        let fault = |kind| DmaFault { iova, len: len as u64, kind };
        let end = iova.checked_add(len as u64).ok_or(fault(DmaFaultKind::Unmapped))?;
        let first = self.mappings.partition_point(|mapping| mapping.end() <= iova);
        let mut at = iova;
        for mapping in &self.mappings[first..] {
            if at >= end || mapping.iova > at {
                break;
            }
            let denied = matches!(
                (direction, mapping.permission),
                (Some(Direction::Read), Permission::Write)
                    | (Some(Direction::Write), Permission::Read)
            );
            if denied {
                return Err(fault(DmaFaultKind::Denied));
            }
            at = mapping.end();
        }
        if at < end { Err(fault(DmaFaultKind::Unmapped)) } else { Ok(first) }
    }
}

/// The part of a mapping that an access of `len` bytes at `at`, inside it or not, can take.
fn part(mapping: &Mapping, at: u64, len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(at.checked_sub(mapping.iova)?).ok()?;
    let room = mapping.bytes.len().checked_sub(start)?;
    (len > 0).then(|| start..start + room.min(len))
}

/// The pieces of an access: mapping, range in it, range in the access.
fn pieces(
    mappings: &[Mapping],
    iova: u64,
    len: usize,
) -> impl Iterator<Item = (&Mapping, Range<usize>, Range<usize>)> {
    let mut done = 0;
    mappings.iter().map_while(move |mapping| {
        let here = part(mapping, iova + done as u64, len - done)?;
        let there = done..done + here.len();
        done = there.end;
        Some((mapping, here, there))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_neither_overlap_nor_wrap_nor_pass_the_limit() {
        let mut memory = Memory::default();
        let map = |memory: &mut Memory, iova, len| memory.map(iova, len, Permission::ReadWrite);
        assert_eq!(map(&mut memory, 0x1000, 0x1000), Ok(()));
        assert_eq!(map(&mut memory, 0x3000, 0x1000), Ok(()));
        for (iova, len) in [(0x1000, 1), (0x1fff, 1), (0, 0x1001), (0x2000, 0x1001), (0, 0x9000)] {
            assert_eq!(map(&mut memory, iova, len), Err(MapError::Overlap), "{iova:#x}");
        }
        assert_eq!(map(&mut memory, 0x8000, 0), Err(MapError::Range));
        assert_eq!(map(&mut memory, u64::MAX, 2), Err(MapError::Range));
        assert_eq!(map(&mut memory, 0x10000, Memory::LIMIT), Err(MapError::Limit));
        assert_eq!(map(&mut memory, 0x2000, 0x1000), Ok(()));
        assert!(memory.unmap(0x1000));
        assert!(!memory.unmap(0x1000));
        assert!(!memory.unmap(0x2001));
        assert_eq!(map(&mut memory, 0x0, 0x2000), Ok(()));
    }

    #[test]
    fn permissions_bind_the_device_only() {
        let mut memory = Memory::default();
        memory.map(0, 16, Permission::Read).unwrap();
        memory.map(16, 16, Permission::Write).unwrap();
        let denied = |iova, len| Err(DmaFault { iova, len, kind: DmaFaultKind::Denied });
        assert_eq!(memory.device_write(0, &[1]), denied(0, 1));
        assert_eq!(memory.device_read(16, &mut [0]), denied(16, 1));
        assert_eq!(memory.device_write(12, &[1; 8]), denied(12, 8));
        assert_eq!(memory.device_write(16, &[7]), Ok(()));
        assert_eq!(memory.device_read(15, &mut [0]), Ok(()));
        assert_eq!(memory.write(12, &[1; 8]), Ok(()));
        let mut all = [0; 8];
        assert_eq!(memory.read(12, &mut all), Ok(()));
        assert_eq!(all, [1; 8]);
    }

    proptest! {
        /// Reads and writes over any ranges do what they do byte by byte, or nothing.
        #[test]
        fn accesses_are_those_of_a_map_of_bytes(
            maps in prop::collection::vec((0u64..64, 1u64..24), 0..6),
            accesses in prop::collection::vec((0u64..80, prop::collection::vec(any::<u8>(), 0..40)), 1..12),
        ) {
            let (mut memory, mut plain) = (Memory::default(), BTreeMap::new());
            for (iova, len) in maps {
                let free = (iova..iova + len).all(|at| !plain.contains_key(&at));
                prop_assert_eq!(memory.map(iova, len, Permission::ReadWrite).is_ok(), free);
                if free {
                    plain.extend((iova..iova + len).map(|at| (at, 0)));
                }
            }
            for (iova, data) in accesses {
                let range = iova..iova + data.len() as u64;
                let mapped = range.clone().all(|at| plain.contains_key(&at));
                prop_assert_eq!(memory.device_write(iova, &data).is_ok(), mapped);
                if mapped {
                    plain.extend(range.zip(data.iter().copied()));
                }
                let mut back = vec![0; data.len()];
                prop_assert_eq!(memory.device_read(iova, &mut back).is_ok(), mapped);
                if mapped {
                    prop_assert_eq!(back, data);
                }
            }
            for (at, byte) in plain {
                let mut one = [0];
                memory.read(at, &mut one).unwrap();
                prop_assert_eq!(one[0], byte);
            }
        }
    }
}
