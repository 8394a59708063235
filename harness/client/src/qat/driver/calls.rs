//! Requests with their buffers.

use super::{Driver, Response};
use crate::error::DriverError;
use crate::platform::Platform;
use crate::qat::memory::{Buffer, Memory};
use crate::qat::message::{self, Buffers, Compression, Content, PublicKey, Symmetric};

/// A symmetric request with its data.
#[derive(Debug, Clone, Copy, Default)]
pub struct SymmetricCall<'a> {
    /// Command.
    pub command: u8,
    /// Flags, without those for IV and digest placement that follow from the rest.
    pub flags: u16,
    /// The IV, 16 bytes at most.
    pub iv: &'a [u8],
    /// The source.
    pub source: &'a [u8],
    /// Bytes of destination; `None` for a request in place.
    pub destination: Option<usize>,
    /// First byte and length of what is ciphered.
    pub cipher: (u32, u32),
    /// First byte and length of what is hashed.
    pub auth: (u32, u32),
    /// Associated data, padded.
    pub aad: &'a [u8],
    /// A digest beside the buffers: what is there before.
    pub digest: &'a [u8],
    /// Extended protocol flags.
    pub extended: u8,
}

/// What a symmetric request left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymmetricResult {
    /// The response.
    pub response: Response,
    /// The destination.
    pub data: Vec<u8>,
    /// The digest beside the buffers.
    pub digest: Vec<u8>,
}

/// A compression request with its data.
#[derive(Debug, Clone, Copy)]
pub struct CompressionCall<'a> {
    /// Command.
    pub command: u8,
    /// The session has state, kept at this address.
    pub state: Option<u64>,
    /// Search depth.
    pub depth: u32,
    /// The source.
    pub source: &'a [u8],
    /// Bytes of destination.
    pub room: usize,
    /// Flags.
    pub flags: u32,
}

/// What a compression request left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressionResult {
    /// The response.
    pub response: Response,
    /// Bytes taken.
    pub consumed: u32,
    /// What was produced.
    pub data: Vec<u8>,
    /// CRC-32 of the uncompressed data.
    pub crc32: u32,
    /// Adler-32 of the uncompressed data.
    pub adler32: u32,
}

impl<P: Platform> Driver<P> {
    /// Executes a symmetric request on pair 2, whose rings must be open.
    ///
    /// # Errors
    /// Out of memory, [`DriverError::StrayWrite`], or as [`run`](Self::run).
    pub fn symmetric(
        &mut self,
        content: &Content,
        call: &SymmetricCall<'_>,
    ) -> Result<SymmetricResult, DriverError> {
        let mut memory = Memory::default();
        let result = self.symmetric_in(&mut memory, content, call);
        memory.release(&mut self.platform);
        result
    }

    fn symmetric_in(
        &mut self,
        memory: &mut Memory,
        content: &Content,
        call: &SymmetricCall<'_>,
    ) -> Result<SymmetricResult, DriverError> {
        let p = &mut self.platform;
        let piece = self.options.piece;
        let described = memory.copy(p, &content.bytes)?;
        let source = memory.buffer(p, call.source, piece)?;
        let destination = match call.destination {
            Some(len) => memory.buffer(p, &vec![0xa5; len], piece)?,
            None => source.clone(),
        };
        let aad = memory.copy(p, call.aad)?;
        let digest = memory.copy(p, call.digest)?;
        let mut iv = [0; 16];
        iv.iter_mut().zip(call.iv).for_each(|(to, from)| *to = *from);
        let opaque = self.opaque();
        let request = Symmetric {
            command: call.command,
            flags: call.flags | message::flag::IV_INLINE,
            content: described.iova,
            content_len: content.bytes.len(),
            control: content.control,
            buffers: buffers(opaque, &source, &destination, piece),
            cipher: call.cipher,
            iv,
            auth: call.auth,
            aad: aad.iova,
            aad_len: u8::try_from(call.aad.len()).unwrap_or(u8::MAX),
            digest: digest.iova,
            extended: call.extended,
        };
        let response = self.run(2, &request.encode())?;
        memory.check(&mut self.platform)?;
        let p = &mut self.platform;
        let mut found = vec![0; call.digest.len()];
        p.dma_read(digest.iova, &mut found)?;
        Ok(SymmetricResult { response, data: destination.read(p)?, digest: found })
    }

    /// Executes a compression request on pair 6, whose rings must be open.
    ///
    /// # Errors
    /// As [`symmetric`](Self::symmetric).
    pub fn compression(
        &mut self,
        call: &CompressionCall<'_>,
    ) -> Result<CompressionResult, DriverError> {
        let mut memory = Memory::default();
        let result = self.compression_in(&mut memory, call);
        memory.release(&mut self.platform);
        result
    }

    fn compression_in(
        &mut self,
        memory: &mut Memory,
        call: &CompressionCall<'_>,
    ) -> Result<CompressionResult, DriverError> {
        let p = &mut self.platform;
        let piece = self.options.piece;
        let source = memory.buffer(p, call.source, piece)?;
        let destination = memory.buffer(p, &vec![0xa5; call.room], piece)?;
        let opaque = self.opaque();
        let request = Compression {
            command: call.command,
            state: call.state,
            depth: call.depth,
            buffers: buffers(opaque, &source, &destination, piece),
            len: u32::try_from(call.source.len()).unwrap_or(u32::MAX),
            room: u32::try_from(call.room).unwrap_or(u32::MAX),
            flags: call.flags,
        };
        let response = self.run(6, &request.encode())?;
        memory.check(&mut self.platform)?;
        let mut data = destination.read(&mut self.platform)?;
        data.truncate(usize::try_from(response.word(20)).unwrap_or(usize::MAX));
        Ok(CompressionResult {
            response,
            consumed: response.word(16),
            data,
            crc32: response.word(24),
            adler32: response.word(28),
        })
    }

    /// Executes a public-key request on pair 0, whose rings must be open: response and results.
    ///
    /// # Errors
    /// As [`symmetric`](Self::symmetric).
    pub fn public_key(
        &mut self,
        call: &PublicKey,
    ) -> Result<(Response, Vec<Vec<u8>>), DriverError> {
        let mut memory = Memory::default();
        let result = self.public_key_in(&mut memory, call);
        memory.release(&mut self.platform);
        result
    }

    fn public_key_in(
        &mut self,
        memory: &mut Memory,
        call: &PublicKey,
    ) -> Result<(Response, Vec<Vec<u8>>), DriverError> {
        let p = &mut self.platform;
        let mut tables = [Vec::new(), Vec::new()];
        let mut results = Vec::new();
        for operand in &call.operands {
            tables[0].extend(memory.copy(p, operand)?.iova.to_le_bytes());
        }
        for len in &call.results {
            let result = memory.guarded(p, &vec![0xa5; *len])?;
            tables[1].extend(result.iova.to_le_bytes());
            results.push(result);
        }
        let [source, destination] = tables;
        let (source, destination) = (memory.copy(p, &source)?, memory.copy(p, &destination)?);
        let opaque = self.opaque();
        let response = self.run(0, &call.encode(opaque, source.iova, destination.iova))?;
        memory.check(&mut self.platform)?;
        let mut found = Vec::new();
        for result in results {
            let mut bytes = vec![0; result.len];
            self.platform.dma_read(result.iova, &mut bytes)?;
            found.push(bytes);
        }
        Ok((response, found))
    }
}

fn buffers(opaque: u64, source: &Buffer, destination: &Buffer, piece: Option<usize>) -> Buffers {
    let len = |buffer: &Buffer| u32::try_from(buffer.len).unwrap_or(u32::MAX);
    Buffers {
        opaque,
        source: source.address,
        destination: destination.address,
        source_len: if piece.is_some() { 0 } else { len(source) },
        destination_len: if piece.is_some() { 0 } else { len(destination) },
        lists: piece.is_some(),
    }
}
