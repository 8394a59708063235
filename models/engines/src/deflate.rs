//! DEFLATE (RFC 1951) without a wrapper, and the checksums that go with it.
//!
//! `zlib-rs`, which is the one maintained pure-Rust codec with zlib's strategies (fixed Huffman
//! codes), streams that can be continued, and reasons why a stream is bad.

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status, Strategy};

use crate::Error;

/// Which Huffman codes blocks are written with. Stored blocks occur with both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Huffman {
    /// The codes of RFC 1951 §3.2.6.
    Fixed,
    /// Codes made for the data (§3.2.7), or fixed ones where these are shorter.
    Dynamic,
}

/// How to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Codes.
    pub huffman: Huffman,
    /// How hard to look for matches: 1 to 9, as in zlib.
    pub level: u8,
    /// Mark the last block as final. Else the output ends with an empty stored block, so that more
    /// can follow on a byte boundary.
    pub last: bool,
    /// Decompress the output and compare it with the input.
    pub verify: bool,
}

/// What came of compressing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// The compressed data; complete blocks.
    pub data: Vec<u8>,
    /// Bytes of input it stands for: less than all if the output would have been too long. Its last
    /// block is not final then.
    pub consumed: usize,
}

/// Pieces that input which does not fit is cut into.
const PIECES: usize = 64;
/// Shortest piece in bytes.
const MIN_PIECE: usize = 512;

/// Compresses `input` into at most `room` bytes.
///
/// # Errors
/// [`Error::OutOfRange`] if the level is none; [`Error::Unverified`] if the output does not
/// decompress to the input, which is a mistake of the codec.
pub fn compress(input: &[u8], room: usize, options: Options) -> Result<Compressed, Error> {
    if !(1..=9).contains(&options.level) {
        return Err(Error::OutOfRange);
    }
    let compressed = match whole(input, room, options)? {
        Some(data) => Compressed { data, consumed: input.len() },
        None => pieces(input, room, options)?,
    };
    if options.verify {
        let covered = input.get(..compressed.consumed).unwrap_or_default();
        check(&compressed.data, covered)?;
    }
    Ok(compressed)
}

/// All of the input at once, or `None` if it does not fit.
fn whole(input: &[u8], room: usize, options: Options) -> Result<Option<Vec<u8>>, Error> {
    // What an empty block at the end takes is not part of the bound.
    let bound = zlib_rs::compress_bound(input.len()).saturating_add(16);
    let mut data = vec![0; room.min(bound)];
    let mut stream = deflate(options);
    let flush = if options.last { DeflateFlush::Finish } else { DeflateFlush::SyncFlush };
    let status = run(&mut stream, input, &mut data, flush)?;
    let len = usize::try_from(stream.total_out()).map_err(|_| Error::OutOfRange)?;
    let done = match options.last {
        true => status == Status::StreamEnd,
        false => len < data.len() || is_flushed(&mut stream)?,
    };
    data.truncate(len);
    Ok(done.then_some(data))
}

/// As many pieces of the input as fit.
fn pieces(input: &[u8], room: usize, options: Options) -> Result<Compressed, Error> {
    let mut stream = deflate(options);
    let mut data = vec![0; room];
    let (mut consumed, mut produced) = (0, 0);
    for piece in input.chunks((input.len() / PIECES).max(MIN_PIECE)) {
        let rest = data.get_mut(produced..).unwrap_or_default();
        let before = stream.total_out();
        run(&mut stream, piece, rest, DeflateFlush::SyncFlush)?;
        let len = usize::try_from(stream.total_out() - before).map_err(|_| Error::OutOfRange)?;
        if len == rest.len() && !is_flushed(&mut stream)? {
            break;
        }
        consumed += piece.len();
        produced += len;
    }
    data.truncate(produced);
    Ok(Compressed { data, consumed })
}

fn deflate(options: Options) -> Deflate {
    let strategy = match options.huffman {
        Huffman::Fixed => Strategy::Fixed,
        Huffman::Dynamic => Strategy::Default,
    };
    let level = i32::from(options.level);
    // A negative size means no wrapper.
    Deflate::new_with_config(DeflateConfig {
        level,
        window_bits: -15,
        strategy,
        ..DeflateConfig::default()
    })
}

fn run(
    stream: &mut Deflate,
    input: &[u8],
    output: &mut [u8],
    flush: DeflateFlush,
) -> Result<Status, Error> {
    stream.compress(input, output, flush).map_err(|_| Error::Unsupported)
}

/// Whether a stream that has filled its output has nothing left to write.
fn is_flushed(stream: &mut Deflate) -> Result<bool, Error> {
    let before = stream.total_out();
    run(stream, &[], &mut [0; 64], DeflateFlush::NoFlush)?;
    Ok(stream.total_out() == before)
}

fn check(data: &[u8], expected: &[u8]) -> Result<(), Error> {
    let mut output = vec![0; expected.len()];
    let mut inflater = Inflater::new();
    let inflated = inflater.inflate(data, &mut output).map_err(|_| Error::Unverified)?;
    let whole = inflated.produced == expected.len() && inflated.consumed == data.len();
    let more = inflated.progress == Progress::NeedsRoom;
    if whole && !more && output == expected { Ok(()) } else { Err(Error::Unverified) }
}

/// Where a decompression has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// The final block has ended. Input behind it is not consumed.
    End,
    /// All input is consumed, and what it stands for is written; the stream goes on.
    NeedsInput,
    /// The output is full, and there is more to write.
    NeedsRoom,
}

/// What came of decompressing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inflated {
    /// Bytes of input taken.
    pub consumed: usize,
    /// Bytes of output written.
    pub produced: usize,
    /// Where the stream is.
    pub progress: Progress,
}

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Defect {
    /// A block of the reserved type.
    #[error("invalid block type")]
    BlockType,
    /// A stored block whose length and its complement differ.
    #[error("invalid stored block lengths")]
    StoredLengths,
    /// More length or distance codes than there are.
    #[error("too many length or distance codes")]
    TooManyCodes,
    /// The code for code lengths is over- or under-subscribed.
    #[error("invalid code lengths")]
    CodeLengths,
    /// A repeated code length has nothing to repeat, or repeats too often.
    #[error("invalid repeat")]
    Repeat,
    /// The literal and length code is impossible or lacks the end of the block.
    #[error("invalid literal or length code")]
    LiteralCodes,
    /// The distance code is impossible.
    #[error("invalid distance code")]
    DistanceCodes,
    /// Bits that are no code.
    #[error("invalid literal, length or distance")]
    Code,
    /// A distance that reaches before the start.
    #[error("distance too far back")]
    Distance,
}

/// A stream being decompressed.
pub struct Inflater {
    stream: Inflate,
    /// A byte that was made to see whether there is more when the output was full.
    held: Option<u8>,
    /// The codec tells what is wrong only once.
    defect: Option<Defect>,
}

impl Inflater {
    /// At the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self { stream: Inflate::new(false, 15), held: None, defect: None }
    }

    /// Decompresses the next `input` into `output`.
    ///
    /// # Errors
    /// What is wrong with the stream, which then cannot go on. What was written is unspecified.
    pub fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Result<Inflated, Defect> {
        if let Some(defect) = self.defect {
            return Err(defect);
        }
        let (mut room, mut held) = (output, 0);
        if let Some(byte) = self.held {
            let Some((first, rest)) = room.split_first_mut() else {
                let progress = Progress::NeedsRoom;
                return Ok(Inflated { consumed: 0, produced: 0, progress });
            };
            (*first, room, held) = (byte, rest, 1);
            self.held = None;
        }
        let (consumed, produced, result) = self.step(input, room);
        let progress = match result {
            Ok(Status::StreamEnd) => Progress::End,
            Ok(_) if consumed < input.len() => Progress::NeedsRoom,
            Ok(_) if produced == room.len() => self.peek()?,
            Ok(_) => Progress::NeedsInput,
            Err(defect) => return Err(defect),
        };
        Ok(Inflated { consumed, produced: produced + held, progress })
    }

    /// Whether there is more to write without more input.
    fn peek(&mut self) -> Result<Progress, Defect> {
        let mut byte = [0];
        let (_, produced, result) = self.step(&[], &mut byte);
        if produced > 0 {
            let [byte] = byte;
            self.held = Some(byte);
            return Ok(Progress::NeedsRoom);
        }
        match result {
            Ok(Status::StreamEnd) => Ok(Progress::End),
            Ok(_) => Ok(Progress::NeedsInput),
            Err(defect) => Err(defect),
        }
    }

    /// Bytes consumed and produced, and what the codec says.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> (usize, usize, Result<Status, Defect>) {
        let (consumed, produced) = (self.stream.total_in(), self.stream.total_out());
        let result = self.stream.decompress(input, output, InflateFlush::NoFlush);
        let since = |now: u64, then: u64| usize::try_from(now - then).unwrap_or(usize::MAX);
        let consumed = since(self.stream.total_in(), consumed);
        let result = result.map_err(|_| {
            let defect = self.message();
            self.defect = Some(defect);
            defect
        });
        (consumed, since(self.stream.total_out(), produced), result)
    }

    fn message(&self) -> Defect {
        let message = self.stream.error_message().unwrap_or_default();
        match message {
            "invalid block type" => Defect::BlockType,
            "invalid stored block lengths" => Defect::StoredLengths,
            "too many length or distance symbols" => Defect::TooManyCodes,
            "invalid code lengths set" => Defect::CodeLengths,
            "invalid bit length repeat" => Defect::Repeat,
            "invalid code -- missing end-of-block" | "invalid literal/lengths set" => {
                Defect::LiteralCodes
            }
            "invalid distances set" => Defect::DistanceCodes,
            message if message.contains("too far back") => Defect::Distance,
            _ => Defect::Code,
        }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total_in = self.stream.total_in();
        f.debug_struct("Inflater").field("total_in", &total_in).finish_non_exhaustive()
    }
}

/// Continues a CRC-32 (that of RFC 1952), which starts from 0.
#[must_use]
pub fn crc32(start: u32, data: &[u8]) -> u32 {
    zlib_rs::crc32::crc32(start, data)
}

/// Continues an Adler-32 (RFC 1950 §8.2), which starts from 1.
#[must_use]
pub fn adler32(start: u32, data: &[u8]) -> u32 {
    zlib_rs::adler32::adler32(start, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_stands_for_something_else_is_not_verified() {
        let input = b"compressed and verified, verified and compressed";
        let options = Options { huffman: Huffman::Fixed, level: 6, last: false, verify: true };
        let data = compress(input, 100, options).unwrap().data;
        assert_eq!(check(&data, input), Ok(()));
        let (short, other) = (&input[..input.len() - 1], input.map(|byte| byte ^ 1));
        for wrong in [&[], short, &other] {
            assert_eq!(check(&data, wrong), Err(Error::Unverified));
        }
        assert_eq!(check(&data[..data.len() / 2], input), Err(Error::Unverified));
    }
}
