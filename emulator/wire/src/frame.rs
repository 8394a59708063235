//! From a stream of bytes to whole messages.

use crate::Limits;
use crate::error::{Errno, Problem, WireError};
use crate::header::{HEADER_SIZE, Header};
use crate::layout;

/// Cuts a stream into messages. Pure: it gives out room to receive into, is told how much arrived,
/// and lends whole messages out of the same buffer.
///
/// ```text
/// loop {
///     while let Some(frame) = reader.next_frame() { … }
///     let n = receive(reader.space());
///     reader.filled(n);
/// }
/// ```
///
/// Memory: one buffer, which grows to at most the largest message allowed.
///
/// A message over the limit is reported once, as soon as its header is there, and its payload is
/// thrown away as it arrives, so that the stream stays in step. A message size below 16 cannot be
/// stepped over: the stream is broken from there on ("Header", message size).
///
/// Descriptors: on Linux, descriptors received with a read belong to the last message that *starts*
/// within the bytes of that read, because the kernel ends a read at the end of the send that
/// carried them. [`Frame::Message`] and [`FrameReader::received`] count the same stream offsets, so
/// that a receiver can match them up.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// The bytes that have arrived and are not used up.
    start: usize,
    end: usize,
    /// Stream offset of `start`, in bytes.
    position: u64,
    /// Bytes of an oversized message still to be thrown away.
    drain: u64,
    max_message_size: usize,
    broken: bool,
}

/// What [`FrameReader::next_frame`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole message.
    Message {
        /// Its header.
        header: Header,
        /// What follows the header.
        payload: &'a [u8],
        /// Where it starts in the stream, in bytes.
        at: u64,
    },
    /// A message over the limit. Answer a request with the error; the stream stays in step.
    Oversized {
        /// Its header.
        header: Header,
        /// E2BIG.
        error: WireError,
        /// Where it starts in the stream, in bytes.
        at: u64,
    },
    /// A message shorter than its own header. Answer with the error and close the connection:
    /// where the next message starts is unknown. Nothing follows.
    Broken {
        /// Its header.
        header: Header,
        /// EINVAL.
        error: WireError,
        /// Where it starts in the stream, in bytes.
        at: u64,
    },
}

/// Size of the buffer at first, in bytes: enough for several small messages at once.
const INITIAL_SIZE: usize = 4096;

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new(limits: &Limits) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            position: 0,
            drain: 0,
            max_message_size: limits.max_message_size(),
            broken: false,
        }
    }

    /// Changes the limit, after negotiation, for messages not yet looked at.
    pub fn set_limits(&mut self, limits: &Limits) {
        self.max_message_size = limits.max_message_size();
    }

    /// How many bytes are missing to the end of the current header, or message, if that is known:
    /// receiving no more than this never takes in the start of a following message. 0 if a frame
    /// is ready.
    pub fn missing(&self) -> usize {
        if self.drain > 0 {
            return usize::try_from(self.drain).unwrap_or(usize::MAX).min(INITIAL_SIZE);
        }
        self.wanted().saturating_sub(self.end - self.start)
    }

    /// Room to receive into: at least [`FrameReader::missing`] bytes, and usually more, so that one
    /// read may take in several messages. It is empty only if a frame is ready, so take frames
    /// until there are none before asking for room: a read into no room looks like an end of file.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        let wanted = self.wanted().max(INITIAL_SIZE);
        if self.buffer.len() - self.start < wanted {
            // Only the beginning of one message can be left here: this is the only copy there is.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
        }
        self.buffer.get_mut(self.end..).unwrap_or(&mut [])
    }

    /// Says that the first `count` bytes of [`FrameReader::space`] have arrived.
    pub fn filled(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.buffer.len());
        self.discard();
    }

    /// Stream offset after the last byte that arrived.
    pub fn received(&self) -> u64 {
        self.position + (self.end - self.start) as u64
    }

    /// Whether the stream cannot be read any further.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether the stream is between two messages: an end of file here cuts nothing off.
    pub fn is_between_messages(&self) -> bool {
        self.start == self.end && self.drain == 0 && !self.broken
    }

    /// The next whole message; `None` if more bytes are needed.
    pub fn next_frame(&mut self) -> Option<Frame<'_>> {
        if self.broken || self.drain > 0 {
            return None;
        }
        let header = self.header()?;
        let at = self.position;
        let value = u64::from(header.size);
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        let field = &layout::header::SIZE;
        if size < HEADER_SIZE {
            self.broken = true;
            self.discard();
            let problem = Problem::TooSmall { value, min: HEADER_SIZE as u64 };
            let error = header.reject(Errno::INVAL, field, problem);
            return Some(Frame::Broken { header, error, at });
        }
        if size > self.max_message_size {
            self.drain = value;
            self.discard();
            let problem = Problem::TooBig { value, max: self.max_message_size as u64 };
            let error = header.reject(Errno::TOO_BIG, field, problem);
            return Some(Frame::Oversized { header, error, at });
        }
        if self.end - self.start < size {
            return None;
        }
        let from = self.start;
        self.advance(size);
        let payload = self.buffer.get(from + HEADER_SIZE..from + size)?;
        Some(Frame::Message { header, payload, at })
    }

    fn header(&self) -> Option<Header> {
        let arrived = self.buffer.get(self.start..self.end)?;
        arrived.first_chunk().map(Header::from_bytes)
    }

    /// Bytes from `start` that the current message needs, as far as is known.
    fn wanted(&self) -> usize {
        let Some(header) = self.header() else { return HEADER_SIZE };
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        if size > self.max_message_size { HEADER_SIZE } else { size.max(HEADER_SIZE) }
    }

    fn advance(&mut self, count: usize) {
        self.start += count;
        self.position += count as u64;
    }

    /// Throws away what has arrived of an oversized message, or of a broken stream.
    fn discard(&mut self) {
        let arrived = self.end - self.start;
        let drop = if self.broken {
            arrived
        } else {
            arrived.min(usize::try_from(self.drain).unwrap_or(usize::MAX))
        };
        self.advance(drop);
        self.drain = self.drain.saturating_sub(drop as u64);
    }
}
