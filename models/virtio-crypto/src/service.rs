//! What the services do with byte streams, whatever mode asked for it.

pub(crate) mod aead;
pub(crate) mod akcipher;
pub(crate) mod cipher;
pub(crate) mod digest;

use understudy_device::Bus;
use understudy_engines::Error;
use understudy_ring::{Cursor, SgError};

use crate::layout::Status;

/// Bytes that streams pass through at a time, in and out: a multiple of every cipher's block that
/// stays in the first-level cache. 4, 8 and 16 KiB measure alike; what counts is that there are
/// two copies, which AES-CBC encryption hides and the modes that run blocks in parallel do not.
pub(crate) const BOUNCE_LEN: usize = 16 << 10;

/// Memory that requests use one after the other.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// [`BOUNCE_LEN`] bytes.
    pub(crate) bounce: Vec<u8>,
    /// A whole source, for operations that need it at once.
    pub(crate) data: Vec<u8>,
    /// Additional authenticated data.
    pub(crate) aad: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { bounce: vec![0; BOUNCE_LEN], data: Vec::new(), aad: Vec::new() }
    }
}

/// Anything about the buffers: too short, or out of reach.
impl From<SgError> for Status {
    fn from(_: SgError) -> Self {
        Self::Err
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::TagMismatch => Self::BadMsg,
            Error::SignatureMismatch => Self::KeyRejected,
            Error::Unsupported => Self::NotSupp,
            _ => Self::Err,
        }
    }
}

/// Reads all of `from` into `into`, resized to fit. Lengths are bounded by `max_size` before.
pub(crate) fn read_all(
    bus: &mut dyn Bus,
    mut from: Cursor<'_>,
    into: &mut Vec<u8>,
) -> Result<(), Status> {
    let len = usize::try_from(from.remaining()).map_err(|_| Status::Err)?;
    into.resize(len, 0);
    Ok(from.read(bus, into)?)
}

/// Passes the next `len` bytes of `from` through `bounce`, chunk by chunk.
pub(crate) fn each_chunk(
    bus: &mut dyn Bus,
    from: &mut Cursor<'_>,
    len: usize,
    bounce: &mut [u8],
    mut visit: impl FnMut(&mut dyn Bus, &mut [u8]) -> Result<(), Status>,
) -> Result<(), Status> {
    let mut left = len;
    while left > 0 {
        let chunk = &mut bounce[..left.min(BOUNCE_LEN)];
        from.read(bus, chunk)?;
        visit(bus, chunk)?;
        left -= chunk.len();
    }
    Ok(())
}
