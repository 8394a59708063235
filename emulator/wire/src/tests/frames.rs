//! The frame reader: in step whatever arrives, in whatever pieces.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{LIMITS, blank};
use crate::{Command, Errno, Frame, FrameReader, HEADER_SIZE, Header, Limits};

/// What a reader yields, without the borrow.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message(Header, Vec<u8>, u64),
    Oversized(Header, Errno, u64),
    Broken(Header, Errno, u64),
}

impl From<Frame<'_>> for Seen {
    fn from(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Message { header, payload, at } => Self::Message(header, payload.to_vec(), at),
            Frame::Oversized { header, error, at } => Self::Oversized(header, error.errno, at),
            Frame::Broken { header, error, at } => Self::Broken(header, error.errno, at),
        }
    }
}

/// Feeds `stream` in pieces as long as `pieces` says, again and again.
fn read(reader: &mut FrameReader, mut stream: &[u8], pieces: &[usize]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut pieces = pieces.iter().cycle();
    while !stream.is_empty() {
        let missing = reader.missing();
        let broken = reader.is_broken();
        let space = reader.space();
        let enough = space.len() >= missing && missing > 0;
        assert!(enough || broken && !space.is_empty(), "{missing} in {}", space.len());
        let piece = (*pieces.next().expect("a piece")).clamp(1, space.len()).min(stream.len());
        let (now, later) = stream.split_at(piece);
        space[..piece].copy_from_slice(now);
        stream = later;
        reader.filled(piece);
        while let Some(frame) = reader.next_frame() {
            seen.push(frame.into());
        }
    }
    seen
}

fn message(id: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = blank(Header::request(id, Command::REGION_WRITE, 0), payload.len());
    message[HEADER_SIZE..].copy_from_slice(payload);
    message
}

fn header_of(message: &[u8]) -> Header {
    super::split(message).0
}

proptest! {
    #[test]
    fn pieces_do_not_matter(
        payloads in vec(vec(any::<u8>(), 0..600), 1..8),
        big in 0..8_usize,
        pieces in vec(1..5000_usize, 1..6),
    ) {
        let limit = LIMITS.max_message_size();
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (index, payload) in payloads.iter().enumerate() {
            let id = u16::try_from(index).expect("few");
            let at = stream.len() as u64;
            let message = if index == big {
                let message = message(id, &vec![0xee; limit + payload.len()]);
                expected.push(Seen::Oversized(header_of(&message), Errno::TOO_BIG, at));
                message
            } else {
                let message = message(id, payload);
                expected.push(Seen::Message(header_of(&message), payload.clone(), at));
                message
            };
            stream.extend_from_slice(&message);
        }
        let mut reader = FrameReader::new(&LIMITS);
        prop_assert_eq!(read(&mut reader, &stream, &pieces), expected);
        prop_assert!(reader.is_between_messages());
        prop_assert_eq!(reader.received(), stream.len() as u64);
    }
}

#[test]
fn a_message_of_exactly_the_limit_passes_and_one_more_byte_does_not() {
    let limit = LIMITS.max_message_size();
    let fits = message(1, &vec![1; limit - HEADER_SIZE]);
    let over = message(2, &vec![2; limit - HEADER_SIZE + 1]);
    let stream = [fits.clone(), over.clone(), message(3, b"in step")].concat();
    let seen = read(&mut FrameReader::new(&LIMITS), &stream, &[1000]);
    let at = [0, limit as u64, 2 * limit as u64 + 1];
    assert_eq!(
        seen,
        [
            Seen::Message(header_of(&fits), vec![1; limit - HEADER_SIZE], at[0]),
            Seen::Oversized(header_of(&over), Errno::TOO_BIG, at[1]),
            Seen::Message(header_of(&message(3, b"in step")), b"in step".to_vec(), at[2]),
        ]
    );
}

#[test]
fn an_oversized_message_is_reported_before_its_payload_arrives() {
    let header = Header::request(9, Command::REGION_WRITE, u32::MAX);
    let mut reader = FrameReader::new(&LIMITS);
    let seen = read(&mut reader, &header.to_bytes(), &[16]);
    assert_eq!(seen, [Seen::Oversized(header, Errno::TOO_BIG, 0)]);
    assert!(!reader.is_between_messages());
    // 4 GiB to throw away, through a buffer that does not grow.
    for _ in 0..100 {
        let length = reader.space().len();
        assert!(length <= 4096, "{length}");
        reader.filled(length);
        assert_eq!(reader.next_frame(), None);
    }
}

#[test]
fn a_size_below_the_header_breaks_the_stream() {
    for size in 0..16 {
        let header = Header::request(4, Command::DEVICE_RESET, size);
        let stream = [header.to_bytes().to_vec(), message(5, &[0; 8000])].concat();
        let mut reader = FrameReader::new(&LIMITS);
        // The second list fills the buffer before the reader looks at it.
        for pieces in [&[1, 7, 100][..], &[8000]] {
            let mut reader = FrameReader::new(&LIMITS);
            let seen = read(&mut reader, &stream, pieces);
            assert_eq!(seen, [Seen::Broken(header, Errno::INVAL, 0)], "size {size}");
        }
        read(&mut reader, &stream, &[8000]);
        assert!(reader.is_broken() && !reader.is_between_messages());
    }
}

#[test]
fn a_cut_off_message_is_not_between_messages() {
    let message = message(1, b"12345");
    for end in 1..message.len() {
        let mut reader = FrameReader::new(&LIMITS);
        assert_eq!(read(&mut reader, &message[..end], &[3]), []);
        assert!(!reader.is_between_messages(), "{end} bytes");
        let missing = reader.missing();
        let to_header = HEADER_SIZE.saturating_sub(end);
        assert_eq!(missing, if to_header > 0 { to_header } else { message.len() - end });
    }
}

#[test]
fn receiving_only_what_is_missing_never_crosses_a_message() {
    let stream: Vec<u8> = (0..20).flat_map(|id| message(id, &vec![7; id.into()])).collect();
    let mut reader = FrameReader::new(&LIMITS);
    let mut rest = &stream[..];
    let mut ids = Vec::new();
    while !rest.is_empty() {
        let missing = reader.missing();
        let (now, later) = rest.split_at(missing);
        reader.space()[..missing].copy_from_slice(now);
        reader.filled(missing);
        rest = later;
        while let Some(frame) = reader.next_frame() {
            let Frame::Message { header, .. } = frame else { panic!("{frame:?}") };
            ids.push(header.id);
            assert!(reader.is_between_messages(), "nothing of the next message is here");
        }
    }
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
}

#[test]
fn the_buffer_grows_to_one_message_and_no_further() {
    let limits = Limits { max_data_xfer_size: 1 << 20 };
    let mut reader = FrameReader::new(&limits);
    assert_eq!(reader.space().len(), 4096);
    let big = message(1, &vec![3; 1 << 20]);
    let seen = read(&mut reader, &big.repeat(3), &[65536]);
    assert_eq!(seen.len(), 3);
    assert_eq!(reader.space().len(), big.len());
}

#[test]
fn limits_change_between_messages() {
    let mut reader = FrameReader::new(&Limits { max_data_xfer_size: 1 });
    let big = message(1, &[0; 20_000]);
    assert!(matches!(read(&mut reader, &big, &[512])[..], [Seen::Oversized(..)]));
    reader.set_limits(&Limits::default());
    assert!(matches!(read(&mut reader, &big, &[512])[..], [Seen::Message(..)]));
}
