//! The file that holds a recording: everything needed to play it again.
//!
//! ```text
//! 8 bytes   "USTRACE1"
//! 4 bytes   length of the header, little-endian
//! …         the header, JSON
//! …         the records, one after the other, in LZ4 frames
//! ```

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_device::{Capability, Identity, State};

use crate::record::{DecodeError, Record};

const MAGIC: &[u8; 8] = b"USTRACE1";
/// Longest header, in bytes.
const MAX_HEADER: u32 = 16 << 20;
/// Longest record, in bytes: a transfer of 64 MiB and what is said about it.
const MAX_RECORD: usize = 80 << 20;
/// Vendor of virtio devices, and `VIRTIO_PCI_CAP_NOTIFY_CFG`.
const VIRTIO_VENDOR: u16 = 0x1af4;
const VIRTIO_NOTIFY: u8 = 2;
/// Bytes read at once.
const READ: usize = 256 << 10;

/// What a recording is of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of understudy that recorded.
    pub version: String,
    /// The device's name in the catalog.
    pub device: String,
    /// The model's parameters, all of them.
    pub parameters: Value,
    /// The function was shown without its MSI-X capability.
    #[serde(default)]
    pub without_msix: bool,
    /// Where the host's random choices started, if it made any.
    #[serde(default)]
    pub seed: Option<u64>,
    /// The fault plan, or null.
    #[serde(default)]
    pub faults: Value,
    /// What ran, for people.
    #[serde(default)]
    pub session: String,
    /// Whether the clock was virtual.
    #[serde(default)]
    pub virtual_time: bool,
    /// Names of registers.
    pub registers: Vec<RegisterName>,
}

/// Where a register lies and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterName {
    /// `block.register` or `block.register[index]`.
    pub name: String,
    /// BAR, or [`CONFIG_REGION`](understudy_pci::CONFIG_REGION).
    pub bar: u8,
    /// Offset in bytes.
    pub offset: u64,
    /// Width in bytes.
    pub width: u8,
}

impl RegisterName {
    /// Names of all registers of a function, as it inspects itself, and of the notification area
    /// of a virtio device.
    #[must_use]
    pub fn all(identity: &Identity, state: &State) -> Vec<Self> {
        let registers = state.registers.iter().map(|register| Self {
            name: register.name.clone(),
            bar: register.bar,
            offset: register.offset,
            width: register.width,
        });
        registers.chain(notifications(identity, state)).collect()
    }
}

/// Where each queue of a virtio device is notified (virtio 1.3 §4.1.4.4).
fn notifications(identity: &Identity, state: &State) -> Vec<RegisterName> {
    let of = |body: &[u8], at: usize| {
        let word = body.get(at..at + 4).and_then(|word| word.try_into().ok());
        word.map_or(0, |word| u64::from(u32::from_le_bytes(word)))
    };
    let mut names = Vec::new();
    if identity.vendor_id != VIRTIO_VENDOR {
        return names;
    }
    for capability in &identity.capabilities {
        // After the length byte: type, BAR, identifier, two bytes of padding, offset, length and
        // the distance between queues.
        let Capability::Vendor { body } = capability else { continue };
        let [VIRTIO_NOTIFY, bar, ..] = body[..] else { continue };
        names.extend(state.queues.iter().map(|queue| RegisterName {
            name: format!("notify[{}]", queue.index),
            bar,
            offset: of(body, 5) + u64::from(queue.index) * of(body, 13),
            width: 2,
        }));
    }
    names
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is something else.
    #[error("not a recording of understudy")]
    Foreign,
    /// The header is no header.
    #[error("header: {0}")]
    Header(#[from] serde_json::Error),
    /// A record is no record.
    #[error("record {0} is damaged")]
    Damaged(u64),
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Writes a recording.
pub struct Writer<W: Write> {
    frames: FrameEncoder<W>,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// Whatever `out` has to say.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        let header = serde_json::to_vec(header)?;
        let len = u32::try_from(header.len()).ok().filter(|len| *len <= MAX_HEADER);
        let len = len.ok_or_else(|| io::Error::other("the header is too long"))?;
        out.write_all(MAGIC)?;
        out.write_all(&len.to_le_bytes())?;
        out.write_all(&header)?;
        let info = FrameInfo::new().block_size(BlockSize::Max256KB).block_mode(BlockMode::Linked);
        Ok(Self { frames: FrameEncoder::with_frame_info(info, out) })
    }

    /// Appends records.
    ///
    /// # Errors
    /// Whatever the output has to say.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        self.frames.write_all(records)
    }

    /// What was appended so far can be read after a crash.
    ///
    /// # Errors
    /// Whatever the output has to say.
    pub fn flush(&mut self) -> io::Result<()> {
        self.frames.flush()
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// Whatever the output has to say.
    pub fn finish(self) -> io::Result<W> {
        let mut out = self.frames.finish().map_err(io::Error::other)?;
        out.flush()?;
        Ok(out)
    }
}

/// Reads a recording, record by record.
pub struct Reader<R: Read> {
    header: Header,
    frames: FrameDecoder<R>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were given out.
    used: usize,
    piece: Vec<u8>,
    records: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn new(mut from: R) -> Result<Self, ReadError> {
        let mut start = [0; 12];
        from.read_exact(&mut start).map_err(|_| ReadError::Foreign)?;
        let [magic @ .., a, b, c, d] = start;
        let len = u32::from_le_bytes([a, b, c, d]);
        if &magic != MAGIC || len > MAX_HEADER {
            return Err(ReadError::Foreign);
        }
        let mut header = Vec::new();
        from.by_ref().take(len.into()).read_to_end(&mut header)?;
        let header = serde_json::from_slice(&header)?;
        let frames = FrameDecoder::new(from);
        let piece = vec![0; READ];
        Ok(Self { header, frames, buffer: Vec::new(), used: 0, piece, records: 0, ended: false })
    }

    /// What the recording is of.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next record and its position, from 0. `None` at the end, which for a recording that was
    /// cut off is the last whole record.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], [`ReadError::Io`].
    pub fn read(&mut self) -> Result<Option<(u64, Record<'_>)>, ReadError> {
        loop {
            match Record::decode(&self.buffer[self.used..]) {
                Ok((_, rest)) => {
                    let start = self.used;
                    self.used = self.buffer.len() - rest.len();
                    let position = self.records;
                    self.records += 1;
                    // Decoded again, as the borrow checker does not see that the loop ends here.
                    let (record, _) = Record::decode(&self.buffer[start..self.used])
                        .map_err(|_| ReadError::Damaged(position))?;
                    return Ok(Some((position, record)));
                }
                Err(DecodeError::Invalid) => return Err(ReadError::Damaged(self.records)),
                Err(DecodeError::Short) if self.ended => return Ok(None),
                Err(DecodeError::Short) => self.fill()?,
            }
        }
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        if self.buffer.len() > MAX_RECORD {
            return Err(ReadError::Damaged(self.records));
        }
        let read = match self.frames.read(&mut self.piece) {
            Ok(read) => read,
            // Cut off within a frame.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error.into()),
        };
        self.buffer.extend_from_slice(&self.piece[..read]);
        self.ended = read == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(records: u64) -> Vec<u8> {
        let header = Header { device: "toaster".into(), ..Header::default() };
        let mut writer = Writer::new(Vec::new(), &header).unwrap();
        for at in 0..records {
            let mut bytes = Vec::new();
            let data = vec![7; usize::try_from(at * 10).unwrap()];
            Record::ConfigWrite { at, offset: 4, data: &data, error: None }.encode(&mut bytes);
            writer.append(&bytes).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap()
    }

    fn count(file: &[u8]) -> Result<u64, ReadError> {
        let mut reader = Reader::new(file)?;
        assert_eq!(reader.header().device, "toaster");
        let mut count = 0;
        while let Some((position, record)) = reader.read()? {
            assert_eq!((position, record.at()), (count, Some(count)));
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(count(&recording(300)).unwrap(), 300);
    }

    #[test]
    fn a_file_that_was_cut_off_gives_its_whole_records() {
        let file = recording(100);
        let read = count(&file[..file.len() - 100]).unwrap();
        assert!((90..100).contains(&read), "{read}");
    }

    #[test]
    fn other_files_are_refused() {
        assert!(matches!(count(b"{}"), Err(ReadError::Foreign)));
        assert!(matches!(count(b"USTRACE1\xff\xff\xff\xff"), Err(ReadError::Foreign)));
        assert!(matches!(count(b"USTRACE1\x02\0\0\0[]"), Err(ReadError::Header(_))));
    }
}
