//! What the fuzz targets and the corpus test run: any bytes, in both directions. Panics if a
//! property of the codec does not hold.

use crate::{Frame, FrameReader, Header, Kind, Limits, Reply, Request, Side, summary};

/// Cuts `input` into messages in pieces whose sizes its first bytes choose, and decodes each as
/// both sides would. Whatever decodes must decode to the same again after encoding.
pub fn wire(input: &[u8]) {
    let Some((pieces, stream)) = input.split_at_checked(4) else { return };
    let limits = Limits { max_data_xfer_size: 4096 };
    let mut whole = Vec::new();
    frames(stream, stream.len(), &limits, |frame| check(frame, &limits, &mut whole));
    let mut cut = Vec::new();
    for piece in pieces {
        cut.clear();
        let piece = usize::from(*piece).max(1);
        frames(stream, piece, &limits, |frame| check(frame, &limits, &mut cut));
        assert_eq!(whole, cut, "messages depend on how they arrive, in pieces of {piece}");
    }
}

/// Feeds `stream` to a reader, at most `piece` bytes at a time.
fn frames(stream: &[u8], piece: usize, limits: &Limits, mut take: impl FnMut(Frame<'_>)) {
    let mut reader = FrameReader::new(limits);
    let mut rest = stream;
    loop {
        while let Some(frame) = reader.next_frame() {
            take(frame);
        }
        let bound = limits.max_message_size().max(4096);
        let space = reader.space();
        assert!(!space.is_empty() && space.len() <= bound, "{} bytes of room", space.len());
        let count = piece.min(space.len()).min(rest.len());
        if count == 0 {
            return;
        }
        let (now, later) = rest.split_at(count);
        space.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        rest = later;
        reader.filled(count);
    }
}

/// Decodes a frame every way there is, and notes what it was.
fn check(frame: Frame<'_>, limits: &Limits, seen: &mut Vec<(u64, Header, bool)>) {
    let (header, payload, at) = match frame {
        Frame::Message { header, payload, at } => (header, payload, at),
        Frame::Oversized { header, at, .. } | Frame::Broken { header, at, .. } => {
            seen.push((at, header, false));
            return;
        }
    };
    seen.push((at, header, true));
    for side in [Side::Client, Side::Server] {
        request(side, &header, payload, limits);
        assert!(!summary(side, &header, payload).to_string().contains('\n'));
    }
    reply(&header, payload, limits);
}

fn request(side: Side, header: &Header, payload: &[u8], limits: &Limits) {
    let Ok(request) = Request::decode(side, header, payload, limits) else { return };
    assert_eq!((request.command(), header.kind()), (header.command, Kind::Command));
    let mut bytes = Vec::new();
    request.encode(header.id, header.no_reply(), &mut bytes);
    let (again, payload) = split(&bytes);
    assert_eq!(Request::decode(side, &again, payload, limits), Ok(request));
    for fds in 0..3 {
        let _ = request.check_fds(fds);
    }
    match request {
        Request::Version(version) => negotiate(&version),
        Request::RegionWriteMulti(multi) => assert_eq!(multi.iter().count(), multi.len()),
        Request::SetIrqs(set) => {
            let within = u64::from(set.start) + u64::from(set.count) <= 2048;
            assert!(within || set.check_range(2048).is_err());
        }
        _ => {}
    }
}

fn negotiate(version: &crate::Version<'_>) {
    let offer = crate::version::Offer { max_dma_maps: 64, twin_socket: true, ..Default::default() };
    let _ = crate::version::accept(&offer, version);
    let Ok((negotiated, reply)) = crate::version::negotiate(&offer, version) else { return };
    let size = |json: Option<&str>| json.map_or(0, str::len);
    assert!(size(reply.json.as_deref()) <= size(version.json), "the reply outgrows the request");
    let theirs = crate::version::accept(&offer, &reply.as_version());
    assert!(theirs.is_ok_and(|theirs| theirs.twin_socket == negotiated.twin_socket));
}

fn reply(header: &Header, payload: &[u8], limits: &Limits) {
    let Ok(reply) = Reply::decode(header, payload, limits) else { return };
    assert_eq!((reply.command(), header.kind()), (header.command, Kind::Reply));
    let mut bytes = Vec::new();
    reply.encode(header.id, &mut bytes);
    let (again, payload) = split(&bytes);
    assert_eq!(Reply::decode(&again, payload, limits), Ok(reply));
    match reply {
        Reply::RegionInfo(info) => {
            assert!(info.capabilities().count() <= info.caps.len() / 8);
        }
        Reply::DmaRead(read) => {
            for layout in [crate::DmaLayout::Standard, crate::DmaLayout::Early] {
                assert_eq!(read.data(layout).len() as u64, u64::from(read.count));
            }
        }
        Reply::RegionIoFds(fds) if !fds.entries.is_empty() => {
            assert_eq!(fds.iter().count() as u64, u64::from(fds.count));
        }
        _ => {}
    }
}

/// A whole message: its header, which must give its size, and its payload.
fn split(message: &[u8]) -> (Header, &[u8]) {
    let Some((head, payload)) = message.split_first_chunk() else {
        return (Header::request(0, crate::Command(0), 0), &[]);
    };
    let header = Header::from_bytes(head);
    assert_eq!(header.size as usize, message.len(), "the header's size is wrong");
    (header, payload)
}
