//! The HASH and MAC services (virtio 1.3 §5.9.7.4, §5.9.7.5).

use understudy_device::Bus;
use understudy_engines::{hash, mac};
use understudy_ring::Cursor;

use super::{Scratch, each_chunk};
use crate::layout::Status;
use crate::session::Authenticator;

/// A hash or MAC in progress.
pub(crate) enum Digester<'k> {
    Hash(hash::Hasher),
    Mac(mac::Stream<'k>),
}

impl<'k> Digester<'k> {
    pub(crate) fn start(authenticator: &'k Authenticator) -> Result<Self, Status> {
        match authenticator {
            Authenticator::Hash(algorithm) => Ok(Self::Hash(hash::Hasher::new(*algorithm))),
            Authenticator::Mac(key) => Self::mac(key),
        }
    }

    pub(crate) fn mac(key: &'k mac::Key) -> Result<Self, Status> {
        Ok(Self::Mac(key.start(&[])?))
    }

    pub(crate) fn update(&mut self, data: &[u8]) -> Result<(), Status> {
        match self {
            Self::Hash(hasher) => hasher.update(data),
            Self::Mac(stream) => stream.update(data)?,
        }
        Ok(())
    }

    /// Fills `out`, whose length was asked for: the whole result or its beginning.
    pub(crate) fn finish(self, out: &mut [u8]) -> Result<(), Status> {
        match self {
            Self::Hash(hasher) => Ok(hasher.finish(out)?),
            Self::Mac(stream) => Ok(stream.finish(out)?),
        }
    }
}

/// Digests `src` into `result`, all of which is filled.
pub(crate) fn run(
    bus: &mut dyn Bus,
    mut digester: Digester<'_>,
    mut src: Cursor<'_>,
    mut result: Cursor<'_>,
    scratch: &mut Scratch,
) -> Result<(), Status> {
    let len = usize::try_from(src.remaining()).map_err(|_| Status::Err)?;
    each_chunk(bus, &mut src, len, &mut scratch.bounce, |_, chunk| digester.update(chunk))?;
    let result_len = usize::try_from(result.remaining()).map_err(|_| Status::Err)?;
    // SHAKE has results of any length; they are bounded as all of a request is.
    scratch.data.resize(result_len, 0);
    digester.finish(&mut scratch.data)?;
    Ok(result.write(bus, &scratch.data)?)
}
