//! First-fit allocation of an address range, for DMA memory.
//!
//! Keeps no data in the memory it hands out, so a device that scribbles on it cannot confuse it.

use std::collections::BTreeMap;

/// Free and used parts of one address range.
#[derive(Debug, Clone)]
pub struct Allocator {
    /// Start to length; neighbours are merged.
    free: BTreeMap<u64, u64>,
    used: BTreeMap<u64, u64>,
}

impl Allocator {
    /// All of `base..base + size` is free. The range is cut short where it would wrap.
    #[must_use]
    pub fn new(base: u64, size: u64) -> Self {
        let size = size.min(u64::MAX - base);
        Self { free: BTreeMap::from([(base, size)]), used: BTreeMap::new() }
    }

    /// Takes `len` bytes (at least one) aligned to `align`, a power of two. `None` if no free part
    /// is large enough.
    pub fn alloc(&mut self, len: u64, align: u64) -> Option<u64> {
        let len = len.max(1);
        let mask = align.max(1).checked_next_power_of_two()? - 1;
        let (start, size, at) = self.free.iter().find_map(|(&start, &size)| {
            let at = start.checked_add(mask)? & !mask;
            let end = at.checked_add(len)?;
            (end <= start + size).then_some((start, size, at))
        })?;
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        let (end, all) = (at + len, start + size);
        if all > end {
            self.free.insert(end, all - end);
        }
        self.used.insert(at, len);
        Some(at)
    }

    /// Gives back what [`alloc`](Self::alloc) returned. `false` if nothing is allocated there.
    pub fn free(&mut self, at: u64) -> bool {
        let Some(len) = self.used.remove(&at) else { return false };
        let (mut start, mut end) = (at, at + len);
        if let Some((&before, &size)) = self.free.range(..at).next_back()
            && before + size == at
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(size) = self.free.remove(&end) {
            end += size;
        }
        self.free.insert(start, end - start);
        true
    }

    /// Bytes in use.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.used.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Allocator;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn allocations_never_overlap_and_all_comes_back(
            steps in prop::collection::vec((1u64..300, 0u32..8, any::<prop::sample::Index>()), 1..80),
        ) {
            let mut allocator = Allocator::new(0x1000, 0x4000);
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (len, shift, victim) in steps {
                let align = 1u64 << shift;
                if let Some(at) = allocator.alloc(len, align) {
                    prop_assert_eq!(at % align, 0);
                    prop_assert!(at >= 0x1000 && at + len <= 0x5000);
                    prop_assert!(held.iter().all(|&(a, l)| at + len <= a || a + l <= at));
                    held.push((at, len));
                }
                if held.len() > 10 {
                    let (at, _) = held.swap_remove(victim.index(held.len()));
                    prop_assert!(allocator.free(at));
                    prop_assert!(!allocator.free(at));
                }
            }
            for (at, _) in held {
                prop_assert!(allocator.free(at));
            }
            prop_assert_eq!(allocator.in_use(), 0);
            prop_assert_eq!(allocator.alloc(0x4000, 1), Some(0x1000));
        }
    }
}
