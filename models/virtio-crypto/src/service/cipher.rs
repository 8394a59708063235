//! The CIPHER service: ciphers alone, and chained with a hash or MAC (virtio 1.3 §5.9.7.6).

use std::ops::Range;

use understudy_device::Bus;
use understudy_engines::cipher::{MAX_BLOCK_LEN, Stream};
use understudy_ring::Cursor;

use super::digest::Digester;
use super::{Scratch, each_chunk, read_all};
use crate::layout::Status;
use crate::session::{Chain, Cipher, Order};

/// An initialisation vector as a request carries it.
pub(crate) struct Iv {
    bytes: [u8; MAX_BLOCK_LEN],
    len: usize,
}

impl Iv {
    /// Reads all of `from`.
    pub(crate) fn read(bus: &mut dyn Bus, mut from: Cursor<'_>) -> Result<Self, Status> {
        let len = usize::try_from(from.remaining()).map_err(|_| Status::Err)?;
        let mut bytes = [0; MAX_BLOCK_LEN];
        from.read(bus, bytes.get_mut(..len).ok_or(Status::Err)?)?;
        Ok(Self { bytes, len })
    }

    /// Drivers may send one with ciphers that take none.
    fn start<'k>(&self, cipher: &'k Cipher) -> Result<Stream<'k>, Status> {
        let len = if cipher.key.algorithm().iv_len() == 0 { 0 } else { self.len };
        Ok(cipher.key.start(cipher.direction, &self.bytes[..len])?)
    }
}

/// Runs a cipher from `src` to `dst`, which may be the same memory.
pub(crate) fn run(
    bus: &mut dyn Bus,
    cipher: &Cipher,
    iv: &Iv,
    mut src: Cursor<'_>,
    mut dst: Cursor<'_>,
    scratch: &mut Scratch,
) -> Result<(), Status> {
    let len = usize::try_from(src.remaining()).map_err(|_| Status::Err)?;
    let algorithm = cipher.key.algorithm();
    if !algorithm.accepts_len(len) || dst.remaining() < src.remaining() {
        return Err(Status::Err);
    }
    let mut stream = iv.start(cipher)?;
    let tail_len = algorithm.final_len(len);
    each_chunk(bus, &mut src, len - tail_len, &mut scratch.bounce, |bus, chunk| {
        stream.update(chunk)?;
        Ok(dst.write(bus, chunk)?)
    })?;
    let tail = &mut scratch.bounce[..tail_len];
    src.read(bus, tail)?;
    stream.finish(tail)?;
    Ok(dst.write(bus, tail)?)
}

/// The parts of a chain request.
pub(crate) struct ChainRequest<'a> {
    pub(crate) iv: Iv,
    pub(crate) src: Cursor<'a>,
    pub(crate) aad: Cursor<'a>,
    /// Bytes of the source that the cipher covers.
    pub(crate) to_cipher: Range<usize>,
    /// Bytes of the source that the hash or MAC covers, after the additional data.
    pub(crate) to_hash: Range<usize>,
    pub(crate) dst: Cursor<'a>,
    pub(crate) result: Cursor<'a>,
}

/// The bytes of `chunk`, which lies at `at`, that are in `range`.
fn overlap(chunk: &[u8], at: usize, range: &Range<usize>) -> Range<usize> {
    let start = range.start.clamp(at, at + chunk.len()) - at;
    let end = range.end.clamp(at, at + chunk.len()) - at;
    start..end.max(start)
}

/// Runs a chain. The destination gets the whole source, in which the cipher has changed what it
/// covers, and the result the hash or MAC. All in one pass.
pub(crate) fn chain(
    bus: &mut dyn Bus,
    chain: &Chain,
    request: ChainRequest<'_>,
    scratch: &mut Scratch,
) -> Result<(), Status> {
    let ChainRequest { iv, mut src, aad, to_cipher, to_hash, mut dst, mut result } = request;
    let len = usize::try_from(src.remaining()).map_err(|_| Status::Err)?;
    let algorithm = chain.cipher.key.algorithm();
    if to_cipher.end > len
        || to_hash.end > len
        || dst.remaining() < src.remaining()
        || !algorithm.accepts_len(to_cipher.len())
    {
        return Err(Status::Err);
    }
    let mut digester = Digester::start(&chain.authenticator)?;
    read_all(bus, aad, &mut scratch.aad)?;
    digester.update(&scratch.aad)?;

    let mut stream = iv.start(&chain.cipher)?;
    let tail = to_cipher.end - algorithm.final_len(to_cipher.len());
    let mut at = 0;
    let mut step = |bus: &mut dyn Bus,
                    until: usize,
                    transform: &mut dyn FnMut(&mut [u8]) -> Result<(), Status>|
     -> Result<(), Status> {
        let len = until - at;
        each_chunk(bus, &mut src, len, &mut scratch.bounce, |bus, chunk| {
            let hashed = overlap(chunk, at, &to_hash);
            if chain.order == Order::HashThenCipher {
                digester.update(&chunk[hashed.clone()])?;
            }
            transform(chunk)?;
            if chain.order == Order::CipherThenHash {
                digester.update(&chunk[hashed])?;
            }
            at += chunk.len();
            Ok(dst.write(bus, chunk)?)
        })
    };
    step(bus, to_cipher.start, &mut |_| Ok(()))?;
    step(bus, tail, &mut |chunk| Ok(stream.update(chunk)?))?;
    // A tail is shorter than a chunk, so this runs at most once; without one the stream just ends.
    let mut stream = Some(stream);
    let mut finish = |chunk: &mut [u8]| match stream.take() {
        Some(stream) => Ok(stream.finish(chunk).map(|_| ())?),
        None => Err(Status::Err),
    };
    step(bus, to_cipher.end, &mut finish)?;
    step(bus, len, &mut |_| Ok(()))?;

    let result_len = usize::try_from(result.remaining()).map_err(|_| Status::Err)?;
    let out = scratch.bounce.get_mut(..result_len).ok_or(Status::Err)?;
    digester.finish(out)?;
    Ok(result.write(bus, out)?)
}
