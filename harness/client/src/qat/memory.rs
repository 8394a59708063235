//! A request's memory: buffers, guards around what the device may write.

use crate::error::DriverError;
use crate::platform::{DmaBuffer, Platform};

/// A source or destination: where it is, or where its list is, and its pieces.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// Address of the data, or of the list.
    pub address: u64,
    /// Bytes of data.
    pub len: usize,
    /// Where they are.
    pub pieces: Vec<DmaBuffer>,
}

impl Buffer {
    /// The data that are there now.
    ///
    /// # Errors
    /// If memory cannot be read.
    pub fn read(&self, p: &mut impl Platform) -> Result<Vec<u8>, DriverError> {
        let mut data = Vec::new();
        for piece in &self.pieces {
            let mut bytes = vec![0; piece.len];
            p.dma_read(piece.iova, &mut bytes)?;
            data.extend(bytes);
        }
        Ok(data)
    }
}

/// Bytes on both sides of what the device may write.
const GUARD: [u8; 64] = [0xc3; 64];

/// Memory of one request.
#[derive(Debug, Default)]
pub struct Memory {
    held: Vec<DmaBuffer>,
    guards: Vec<u64>,
}

impl Memory {
    /// A copy of bytes that the device only reads.
    ///
    /// # Errors
    /// Out of memory.
    pub fn copy(&mut self, p: &mut impl Platform, bytes: &[u8]) -> Result<DmaBuffer, DriverError> {
        let buffer = p.dma_alloc(bytes.len().max(1), 64)?;
        self.held.push(buffer);
        p.dma_write(buffer.iova, bytes)?;
        Ok(DmaBuffer { len: bytes.len(), ..buffer })
    }

    /// A copy of bytes with guards on both sides.
    ///
    /// # Errors
    /// Out of memory.
    pub fn guarded(
        &mut self,
        p: &mut impl Platform,
        bytes: &[u8],
    ) -> Result<DmaBuffer, DriverError> {
        let whole = self.copy(p, &[&GUARD, bytes, &GUARD].concat())?;
        self.guards.extend([whole.iova, whole.at(GUARD.len() + bytes.len())]);
        Ok(DmaBuffer { iova: whole.at(GUARD.len()), len: bytes.len() })
    }

    /// A flat buffer, or a list of pieces.
    ///
    /// # Errors
    /// Out of memory.
    pub fn buffer(
        &mut self,
        p: &mut impl Platform,
        bytes: &[u8],
        piece: Option<usize>,
    ) -> Result<Buffer, DriverError> {
        let len = bytes.len();
        let Some(piece) = piece else {
            let flat = self.guarded(p, bytes)?;
            return Ok(Buffer { address: flat.iova, len, pieces: vec![flat] });
        };
        let mut pieces = Vec::new();
        let mut list = Vec::new();
        for part in bytes.chunks(piece.max(1)) {
            let part = self.guarded(p, part)?;
            list.extend(u32::try_from(part.len).unwrap_or(u32::MAX).to_le_bytes());
            list.extend([0; 4]);
            list.extend(part.iova.to_le_bytes());
            pieces.push(part);
        }
        let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX).to_le_bytes();
        let header = [[0; 4], [0; 4], count, count].concat();
        let list = self.copy(p, &[header, list].concat())?;
        Ok(Buffer { address: list.iova, len, pieces })
    }

    /// Nothing beside the buffers was written.
    ///
    /// # Errors
    /// [`DriverError::StrayWrite`].
    pub fn check(&self, p: &mut impl Platform) -> Result<(), DriverError> {
        for guard in &self.guards {
            let mut found = GUARD;
            p.dma_read(*guard, &mut found)?;
            if let Some(at) = found.iter().zip(GUARD).position(|(a, b)| *a != b) {
                let iova = guard.wrapping_add(at as u64);
                return Err(DriverError::StrayWrite { queue: 0, iova });
            }
        }
        Ok(())
    }

    /// Gives the memory back. The device must not hold the request any more.
    pub fn release(self, p: &mut impl Platform) {
        for buffer in self.held {
            p.dma_free(buffer);
        }
    }
}
