//! Symmetric ciphers of the kernel's crypto API, used from user space over `AF_ALG` sockets.

use std::io::{IoSlice, Read};
use std::os::fd::OwnedFd;

use nix::sys::socket::sockopt::AlgSetKey;
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

/// A keyed transform: one session of the driver, for as long as it lives.
pub(super) struct Transform {
    operation: std::fs::File,
    /// Kept open: closing it would let the transform go.
    _control: OwnedFd,
}

impl Transform {
    /// Opens a transform of the named driver, or of the best one for an algorithm's name.
    pub(super) fn open(driver: &str, key: &[u8]) -> Result<Self, Failure> {
        let failed = |what: &str, why: String| format!("AF_ALG {driver}: {what}: {why}");
        let control = socket(AddressFamily::Alg, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|e| failed("socket", e.to_string()))?;
        let raw = std::os::fd::AsRawFd::as_raw_fd(&control);
        // AlgAddr::new would panic: struct sockaddr_alg has room for 63 bytes and a NUL.
        if driver.len() >= 64 {
            return Err(failed("bind", "the name is too long".to_owned()));
        }
        bind(raw, &AlgAddr::new("skcipher", driver)).map_err(|e| failed("bind", e.to_string()))?;
        setsockopt(&control, AlgSetKey::default(), &key.to_vec())
            .map_err(|e| failed("set key", e.to_string()))?;
        let operation = accept(&control).map_err(|e| failed("accept", e.to_string()))?;
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
