//! DMA memory of a run: buffers, what of them is live, and the bytes around them.

use vm_memory::VolatileMemory;

use super::{MEMORY_BASE, MEMORY_SIZE, World};
use crate::defect::DefectKind;

/// Around each buffer: bytes that nobody may touch.
const RED_ZONE: usize = 64;
/// No two buffers start in as many bytes.
const GRANULE: usize = RED_ZONE;
const RED: u8 = 0xfd;

/// Memory that the driver has allocated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) len: usize,
    live: bool,
}

/// What an access found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Offset in memory.
    Live(usize),
    Freed,
    Outside,
}

impl World {
    pub(crate) fn alloc(&mut self, len: usize, align: usize) -> Option<u64> {
        let start = (self.end + RED_ZONE).next_multiple_of(align.max(16));
        let end = start.checked_add(len.max(1))?;
        if end + RED_ZONE > MEMORY_SIZE {
            return None;
        }
        self.fill(start, end - start, 0);
        if self.red_zones {
            self.fill(start - RED_ZONE, RED_ZONE, RED);
            self.fill(end, RED_ZONE, RED);
        }
        self.end = end;
        let index = self.blocks.len();
        let before = u32::try_from(index.saturating_sub(1)).unwrap_or(u32::MAX);
        self.granules.resize(start / GRANULE, before);
        self.granules.resize(end.div_ceil(GRANULE), u32::try_from(index).unwrap_or(u32::MAX));
        self.live.push(index);
        self.blocks.push(Block { start, len: len.max(1), live: true });
        Some(MEMORY_BASE + start as u64)
    }

    /// Gives a buffer back: `false` if there is none at that address.
    pub(crate) fn free(&mut self, iova: u64) -> bool {
        let start = usize::try_from(iova.wrapping_sub(MEMORY_BASE)).unwrap_or(usize::MAX);
        let found = self.block(start).filter(|index| self.blocks[*index].start == start);
        let Some(index) = found.filter(|index| self.blocks[*index].live) else { return false };
        self.blocks[index].live = false;
        self.live.retain(|at| *at != index);
        if self.red_zones {
            self.check_red_zones(self.blocks[index]);
        }
        true
    }

    fn check_red_zones(&mut self, block: Block) {
        let ends = [block.start - RED_ZONE, block.start + block.len];
        for (start, side) in ends.into_iter().zip(["before", "after"]) {
            let mut zone = [0; RED_ZONE];
            self.copy_out(start, &mut zone);
            if zone.iter().any(|byte| *byte != RED) {
                let detail = format!("a buffer of {} bytes", block.len);
                let clause = format!("the driver wrote just {side} a DMA buffer");
                self.report(DefectKind::Memory, &clause, detail);
            }
        }
    }

    /// Looks at all red zones of buffers that are still held.
    pub(crate) fn check_all(&mut self) {
        if self.red_zones {
            for at in 0..self.live.len() {
                self.check_red_zones(self.blocks[self.live[at]]);
            }
        }
    }

    /// Buffers and bytes that were not given back.
    pub(crate) fn held(&self) -> (usize, usize) {
        let bytes = self.live.iter().filter_map(|index| self.blocks.get(*index));
        (self.live.len(), bytes.map(|block| block.len).sum())
    }

    pub(crate) fn place(&self, iova: u64, len: usize) -> Place {
        let Some(start) = iova.checked_sub(MEMORY_BASE).and_then(|at| usize::try_from(at).ok())
        else {
            return Place::Outside;
        };
        let Some(block) = self.block(start).and_then(|index| self.blocks.get(index)) else {
            return Place::Outside;
        };
        let inside = start.checked_add(len).is_some_and(|end| end <= block.start + block.len);
        match (inside, block.live) {
            (true, true) => Place::Live(start),
            (true, false) => Place::Freed,
            (false, _) => Place::Outside,
        }
    }

    /// The last block that starts at or before `start`, if that is before the end of all blocks.
    fn block(&self, start: usize) -> Option<usize> {
        let index = usize::try_from(*self.granules.get(start / GRANULE)?).ok()?;
        if self.blocks.get(index)?.start <= start { Some(index) } else { index.checked_sub(1) }
    }

    pub(crate) fn copy_out(&self, start: usize, into: &mut [u8]) {
        // Indices and flags of rings: most accesses.
        if let Ok(into) = <&mut [u8; 2]>::try_from(&mut *into) {
            if let Ok(half) = self.memory.get_ref::<u16>(start) {
                *into = half.load().to_ne_bytes();
            }
            return;
        }
        if let Ok(slice) = self.memory.get_slice(start, into.len()) {
            slice.copy_to(into);
        }
    }

    pub(crate) fn copy_in(&self, start: usize, from: &[u8]) {
        if let Ok(from) = <[u8; 2]>::try_from(from) {
            if let Ok(half) = self.memory.get_ref::<u16>(start) {
                half.store(u16::from_ne_bytes(from));
            }
            return;
        }
        if let Ok(slice) = self.memory.get_slice(start, from.len()) {
            slice.copy_from(from);
        }
    }

    fn fill(&self, start: usize, len: usize, byte: u8) {
        let piece = [byte; 512];
        let mut at = start;
        while at < start + len {
            let count = piece.len().min(start + len - at);
            self.copy_in(at, piece.get(..count).unwrap_or(&piece));
            at += count;
        }
    }
}
