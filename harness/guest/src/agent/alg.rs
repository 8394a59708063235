//! Ciphers of the kernel's crypto API, used from user space over `AF_ALG` sockets.

use std::io::{IoSlice, Read};
use std::os::fd::OwnedFd;

use nix::sys::socket::sockopt::{AlgSetAeadAuthSize, AlgSetKey};
use nix::sys::socket::{
    AddressFamily, AlgAddr, ControlMessage, MsgFlags, SockFlag, SockType, bind, sendmsg,
    setsockopt, socket,
};
use rustix::net::{SendFlags, accept, send};

use super::Failure;

/// Which way a cipher runs. The numbers are `linux/if_alg.h`'s `ALG_OP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Decrypt = 0,
    Encrypt = 1,
}

fn failed(driver: &str, what: &str, why: &str) -> Failure {
    format!("AF_ALG {driver}: {what}: {why}")
}

/// A socket bound to a driver, or the best one for an algorithm's name, with its key set. The size
/// of tags goes first: there are drivers that take note of it with the key.
fn keyed(kind: &str, driver: &str, tag_len: Option<usize>, key: &[u8]) -> Result<OwnedFd, Failure> {
    let failed = |what: &str, why: &str| failed(driver, what, why);
    let control = socket(AddressFamily::Alg, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| failed("socket", &e.to_string()))?;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&control);
    // AlgAddr::new would panic: struct sockaddr_alg has room for 63 bytes and a NUL.
    if driver.len() >= 64 {
        return Err(failed("bind", "the name is too long"));
    }
    bind(raw, &AlgAddr::new(kind, driver)).map_err(|e| failed("bind", &e.to_string()))?;
    if let Some(tag_len) = tag_len {
        setsockopt(&control, AlgSetAeadAuthSize, &tag_len)
            .map_err(|e| failed("set tag size", &e.to_string()))?;
    }
    setsockopt(&control, AlgSetKey::default(), &key.to_vec())
        .map_err(|e| failed("set key", &e.to_string()))?;
    Ok(control)
}

/// A keyed transform: one session of the driver, for as long as it lives.
pub(super) struct Transform {
    operation: std::fs::File,
    /// Kept open: closing it would let the transform go.
    _control: OwnedFd,
}

impl Transform {
    /// Opens a transform of the named driver, or of the best one for an algorithm's name.
    pub(super) fn open(driver: &str, key: &[u8]) -> Result<Self, Failure> {
        let control = keyed("skcipher", driver, None, key)?;
        let operation = accept(&control).map_err(|e| failed(driver, "accept", &e.to_string()))?;
        Ok(Self { operation: operation.into(), _control: control })
    }

    /// Runs one request: its input sent in the given pieces, its output read at once.
    ///
    /// # Errors
    /// The kernel's error, and `UnexpectedEof` if the output is shorter than `output`.
    pub(super) fn run(
        &mut self,
        direction: Direction,
        iv: &[u8],
        pieces: &[&[u8]],
        output: &mut [u8],
    ) -> std::io::Result<()> {
        let empty: &[u8] = &[];
        let (first, rest) = pieces.split_first().unwrap_or((&empty, &[]));
        let flags = if rest.is_empty() { 0 } else { SendFlags::MORE.bits() };
        let control = [ControlMessage::AlgSetIv(iv), ControlMessage::AlgSetOp(&(direction as i32))];
        let flags = MsgFlags::from_bits_retain(i32::try_from(flags).unwrap_or_default());
        let raw = std::os::fd::AsRawFd::as_raw_fd(&self.operation);
        sendmsg::<()>(raw, &[IoSlice::new(first)], &control, flags, None)?;
        for (index, piece) in rest.iter().enumerate() {
            let more = index + 1 < rest.len();
            let flags = if more { SendFlags::MORE } else { SendFlags::empty() };
            send(&self.operation, piece, flags)?;
        }
        self.operation.read_exact(output)
    }
}

/// A keyed transform of authenticated encryption. Associated data, text and tag are one buffer.
pub(super) struct Aead {
    operation: std::fs::File,
    /// Kept open: closing it would let the transform go.
    _control: OwnedFd,
}

impl Aead {
    /// Opens a transform of the named driver, or of the best one for an algorithm's name.
    pub(super) fn open(driver: &str, key: &[u8], tag_len: usize) -> Result<Self, Failure> {
        let control = keyed("aead", driver, Some(tag_len), key)?;
        let operation = accept(&control).map_err(|e| failed(driver, "accept", &e.to_string()))?;
        Ok(Self { operation: operation.into(), _control: control })
    }

    /// Runs one request, whose output has `output_len` bytes.
    ///
    /// # Errors
    /// The kernel's error: `EBADMSG` if the tag is not the right one.
    pub(super) fn run(
        &mut self,
        direction: Direction,
        iv: &[u8],
        aad_len: usize,
        input: &[u8],
        output_len: usize,
    ) -> std::io::Result<Vec<u8>> {
        let aad_len = u32::try_from(aad_len).unwrap_or(u32::MAX);
        let operation = direction as i32;
        let control = [
            ControlMessage::AlgSetIv(iv),
            ControlMessage::AlgSetOp(&operation),
            ControlMessage::AlgSetAeadAssoclen(&aad_len),
        ];
        let raw = std::os::fd::AsRawFd::as_raw_fd(&self.operation);
        sendmsg::<()>(raw, &[IoSlice::new(input)], &control, MsgFlags::empty(), None)?;
        let mut output = vec![0; output_len];
        self.operation.read_exact(&mut output)?;
        Ok(output)
    }
}
