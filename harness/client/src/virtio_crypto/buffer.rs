//! A request in memory for DMA.

use crate::error::DriverError;
use crate::platform::{DmaBuffer, Platform};
use crate::virtio::Segment;
use crate::virtio_crypto::request::Encoded;

/// Between segments, and before the first: bytes that nobody may write.
const GAP: usize = 16;
const GUARD: u8 = 0xa5;
/// What writable memory holds until the device writes it. No valid status.
const UNWRITTEN: u8 = 0xff;

/// How a request is cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scatter {
    /// One for the headers, then one for each variable-length field, as operating systems do.
    Fields,
    /// One to read, one to write.
    Merged,
    /// Many of 1 to `max` bytes, cutting through all fields and never contiguous; as many as the
    /// queue allows, then one with the rest.
    Pieces {
        /// Largest piece in bytes, at least 1.
        max: u32,
    },
}

/// A request that can be given to the device, again and again.
#[derive(Debug, Clone)]
pub struct Prepared {
    buffer: DmaBuffer,
    /// What the device reads.
    pub readable: Vec<Segment>,
    /// What the device writes: results, then status.
    pub writable: Vec<Segment>,
    pub(crate) room: u32,
    pub(crate) status_len: u32,
    pub(crate) exact: bool,
    /// What the whole buffer held at first, to find stray writes.
    image: Option<Vec<u8>>,
}

impl Prepared {
    /// Allocates memory, lays the request out in at most `max_segments` segments and copies it in.
    ///
    /// # Errors
    /// Out of memory, or a request without readable bytes.
    pub fn new(
        p: &mut impl Platform,
        encoded: &Encoded,
        scatter: Scatter,
        max_segments: u16,
        guard: bool,
    ) -> Result<Self, DriverError> {
        let bytes = encoded.readable.concat();
        let readable: Vec<usize> = encoded.readable.iter().map(Vec::len).collect();
        let writable = encoded.writable.iter().map(|len| usize::try_from(*len).unwrap_or(0));
        let half = usize::from(max_segments / 2).max(1);
        let readable = cut(&readable, scatter, half);
        let writable = cut(&writable.collect::<Vec<_>>(), scatter, half);
        let mut end = 0;
        let readable = place(&mut end, &readable, scatter);
        let writable = place(&mut end, &writable, scatter);
        let buffer = p.dma_alloc(end + GAP, 64)?;
        let mut image = vec![GUARD; buffer.len];
        let mut rest = bytes.as_slice();
        for (offset, len) in &readable {
            let (part, tail) = rest.split_at_checked(*len).unwrap_or((rest, &[]));
            fill(&mut image, *offset, |slot| slot.copy_from_slice(part), part.len());
            rest = tail;
        }
        for (offset, len) in &writable {
            fill(&mut image, *offset, |slot| slot.fill(UNWRITTEN), *len);
        }
        p.dma_write(buffer.iova, &image)?;
        let status_len = encoded.writable.last().copied().unwrap_or(0);
        Ok(Self {
            buffer,
            readable: segments(buffer, &readable)?,
            writable: segments(buffer, &writable)?,
            room: encoded.writable.iter().fold(0u32, |sum, len| sum.saturating_add(*len)),
            status_len,
            exact: encoded.exact,
            image: guard.then_some(image),
        })
    }

    /// All writable bytes, in order.
    ///
    /// # Errors
    /// If memory cannot be read.
    pub fn written(&self, p: &mut impl Platform) -> Result<Vec<u8>, DriverError> {
        let mut all = vec![0; usize::try_from(self.room).unwrap_or(0)];
        let mut rest = all.as_mut_slice();
        for segment in &self.writable {
            let len = usize::try_from(segment.len).unwrap_or(usize::MAX).min(rest.len());
            let (part, tail) = rest.split_at_mut(len);
            p.dma_read(segment.iova, part)?;
            rest = tail;
        }
        Ok(all)
    }

    /// The status field alone.
    ///
    /// # Errors
    /// If memory cannot be read.
    pub(crate) fn status_bytes(&self, p: &mut impl Platform) -> Result<Vec<u8>, DriverError> {
        let len = usize::try_from(self.status_len).unwrap_or(0);
        match self.writable.last() {
            // The common case: the status has a segment of its own.
            Some(last) if last.len == self.status_len => {
                let mut bytes = vec![0; len];
                p.dma_read(last.iova, &mut bytes)?;
                Ok(bytes)
            }
            _ => {
                let mut all = self.written(p)?;
                Ok(all.split_off(all.len().saturating_sub(len)))
            }
        }
    }

    /// Fails if anything but the writable segments has changed. Does nothing without guards.
    ///
    /// # Errors
    /// [`DriverError::StrayWrite`].
    pub(crate) fn check(&self, p: &mut impl Platform, queue: u16) -> Result<(), DriverError> {
        let Some(image) = &self.image else { return Ok(()) };
        let mut now = vec![0; image.len()];
        p.dma_read(self.buffer.iova, &mut now)?;
        // Between the writable segments, which lie in ascending order, nothing may change.
        let mut from = 0;
        let end = (self.buffer.at(image.len()), 0);
        let ranges = self.writable.iter().map(|segment| (segment.iova, segment.len));
        for (iova, len) in ranges.chain([end]) {
            let until = usize::try_from(iova - self.buffer.iova).unwrap_or(usize::MAX);
            let pair = image.get(from..until).zip(now.get(from..until));
            let stray = pair.and_then(|(was, is)| was.iter().zip(is).position(|(a, b)| a != b));
            if let Some(at) = stray {
                return Err(DriverError::StrayWrite { queue, iova: self.buffer.at(from + at) });
            }
            from = until.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    /// Frees the memory. The device must not hold the request any more.
    pub fn release(self, p: &mut impl Platform) {
        p.dma_free(self.buffer);
    }
}

fn align(scatter: Scatter) -> usize {
    if matches!(scatter, Scatter::Pieces { .. }) { 1 } else { 64 }
}

/// Segment lengths for fields of these lengths.
fn cut(fields: &[usize], scatter: Scatter, max_segments: usize) -> Vec<usize> {
    let total: usize = fields.iter().sum();
    match scatter {
        Scatter::Fields if fields.len() <= max_segments => fields.to_vec(),
        Scatter::Pieces { max } => {
            let max = usize::try_from(max).unwrap_or(usize::MAX).max(1);
            let (mut pieces, mut left) = (Vec::new(), total);
            while left > 0 {
                // Lengths that vary, but not from run to run.
                let wanted = 1 + (pieces.len() * 7919 + 5) % max;
                let last = pieces.len() + 1 == max_segments;
                let piece = if last { left } else { wanted.min(left) };
                pieces.push(piece);
                left -= piece;
            }
            pieces
        }
        _ => [total].into_iter().filter(|len| *len > 0).collect(),
    }
}

/// Offsets and lengths, each after a gap.
fn place(next: &mut usize, lengths: &[usize], scatter: Scatter) -> Vec<(usize, usize)> {
    let mut placed = Vec::with_capacity(lengths.len());
    for len in lengths {
        let at = (*next + GAP).next_multiple_of(align(scatter));
        placed.push((at, *len));
        *next = at + len;
    }
    placed
}

fn fill(image: &mut [u8], at: usize, write: impl FnOnce(&mut [u8]), len: usize) {
    if let Some(slot) = image.get_mut(at..at + len) {
        write(slot);
    }
}

fn segments(buffer: DmaBuffer, placed: &[(usize, usize)]) -> Result<Vec<Segment>, DriverError> {
    let segment = |(offset, len): &(usize, usize)| {
        let len = u32::try_from(*len).map_err(|_| DriverError::BadRequest("segment too long"))?;
        Ok(Segment { iova: buffer.at(*offset), len })
    };
    placed.iter().map(segment).collect()
}
