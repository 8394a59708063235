//! Files that traces go to: recordings, JSON lines, pcapng.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::file::{Header, Writer};
use crate::line::Decoder;
use crate::pcapng::Packets;
use crate::pipe::{Consumer, Place, Wants};
use crate::record::Record;

/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;

/// How a trace lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Everything that a replay needs ([`crate::file`]).
    Recording,
    /// One JSON object in each line ([`crate::line::Line`]).
    JsonLines,
    /// Packets for Wireshark ([`crate::pcapng`]).
    Pcapng,
}

impl Format {
    /// What the file's extension says: `.jsonl`, `.pcapng`, or a recording.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl") => Self::JsonLines,
            Some("pcapng") => Self::Pcapng,
            _ => Self::Recording,
        }
    }
}

/// Makes a trace file at `path`, in the format that its extension says, for a trace with this
/// header. Once the file has `limit` bytes, further records are counted and not written.
///
/// # Errors
/// The file cannot be made.
pub fn create(path: &Path, header: &Header, limit: u64) -> io::Result<Box<dyn Consumer>> {
    let out = Limited { out: BufWriter::with_capacity(BUFFER, File::create(path)?), left: limit };
    Ok(match Format::of(path) {
        Format::Recording => {
            Box::new(Recording { writer: Some(Writer::new(out, header)?), full: false })
        }
        Format::JsonLines => {
            let mut lines =
                Lines { out, decoder: Decoder::new(header), buffer: Vec::new(), full: false };
            lines.write(header)?;
            Box::new(lines)
        }
        Format::Pcapng => Box::new(Packets::new(out, header)?),
    })
}

/// Writes until its bytes are used up.
pub(crate) struct Limited {
    out: BufWriter<File>,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len() as u64;
        self.left = self.left.checked_sub(len).ok_or_else(full)?;
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The file has its size: the trace ends here.
fn full() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "the trace file has reached its limit and ends")
}

struct Recording {
    writer: Option<Writer<Limited>>,
    full: bool,
}

impl Consumer for Recording {
    fn bytes(&mut self, records: &[u8]) -> io::Result<()> {
        match &mut self.writer {
            Some(writer) if !self.full => writer.append(records).inspect_err(|_| self.full = true),
            _ => Ok(()),
        }
    }

    fn record(&mut self, _: Place, _: &Record<'_>) -> io::Result<()> {
        Ok(())
    }

    fn wants(&self) -> Wants {
        Wants::Bytes
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.writer {
            Some(writer) if !self.full => writer.flush().inspect_err(|_| self.full = true),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer.take().map_or(Ok(()), |writer| writer.finish().map(drop))
    }
}

struct Lines {
    out: Limited,
    decoder: Decoder,
    buffer: Vec<u8>,
    full: bool,
}

impl Lines {
    fn write(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, value)?;
        self.buffer.push(b'\n');
        self.out.write_all(&self.buffer).inspect_err(|_| self.full = true)
    }
}

impl Consumer for Lines {
    fn record(&mut self, place: Place, record: &Record<'_>) -> io::Result<()> {
        if self.full {
            return Ok(());
        }
        let line = self.decoder.line(place, record);
        self.write(&line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
