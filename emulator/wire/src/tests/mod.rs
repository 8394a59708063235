//! Unit tests, by subject.

mod corpus;
mod frames;
mod layouts;
mod malformed;
mod negotiation;
mod round_trip;
mod summaries;

use crate::{HEADER_SIZE, Header, Limits, Reply, Request, Side};

/// Limits small enough to cross in a test.
const LIMITS: Limits = Limits { max_data_xfer_size: 4096 };

/// A whole message, taken apart.
fn split(message: &[u8]) -> (Header, &[u8]) {
    let (head, payload) = message.split_first_chunk().expect("a header");
    (Header::from_bytes(head), payload)
}

fn encode(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(7, false, &mut out);
    out
}

fn encode_reply(reply: &Reply<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    reply.encode(7, &mut out);
    out
}

/// The side that sends requests like this one.
fn sender(header: &Header) -> Side {
    header.command.requester().expect("a known command")
}

/// A message of zeroes, payload included, whose header is right.
fn blank(header: Header, payload: usize) -> Vec<u8> {
    let size = u32::try_from(HEADER_SIZE + payload).expect("a small message");
    let mut message = Header { size, ..header }.to_bytes().to_vec();
    message.resize(HEADER_SIZE + payload, 0);
    message
}
