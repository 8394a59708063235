//! The AEAD service (virtio 1.3 §5.9.7.7).

use understudy_device::Bus;
use understudy_engines::aead::{Algorithm, MAX_TAG_LEN, Nonce};
use understudy_engines::cipher::Direction;
use understudy_ring::Cursor;

use super::{Scratch, read_all};
use crate::layout::Status;
use crate::session::Aead;

/// Longest nonce in bytes: that of GCM given as J0.
const MAX_NONCE_LEN: usize = 16;

/// The parts of a request.
pub(crate) struct AeadRequest<'a> {
    pub(crate) nonce: Cursor<'a>,
    pub(crate) src: Cursor<'a>,
    pub(crate) aad: Cursor<'a>,
    pub(crate) dst: Cursor<'a>,
}

/// Encrypts `src` to ciphertext and tag, or checks and decrypts ciphertext and tag. Nothing is
/// written before the tag was found good.
pub(crate) fn run(
    bus: &mut dyn Bus,
    aead: &Aead,
    request: AeadRequest<'_>,
    scratch: &mut Scratch,
) -> Result<(), Status> {
    let AeadRequest { mut nonce, src, aad, mut dst } = request;
    let nonce_len = usize::try_from(nonce.remaining()).map_err(|_| Status::Err)?;
    let mut bytes = [0; MAX_NONCE_LEN];
    nonce.read(bus, bytes.get_mut(..nonce_len).ok_or(Status::Err)?)?;
    // 16 bytes of GCM are the pre-counter block itself (virtio 1.3 §5.9.7.7).
    let nonce = match (aead.key.algorithm(), nonce_len) {
        (Algorithm::AesGcm, MAX_NONCE_LEN) => Nonce::J0(&bytes),
        _ => Nonce::Bytes(&bytes[..nonce_len]),
    };
    let tag_len = aead.tag_len as usize;
    let written = match aead.direction {
        Direction::Encrypt => src.remaining().checked_add(tag_len as u64),
        Direction::Decrypt => src.remaining().checked_sub(tag_len as u64),
    };
    if written.is_none_or(|written| written > dst.remaining()) {
        return Err(Status::Err);
    }
    read_all(bus, aad, &mut scratch.aad)?;
    read_all(bus, src, &mut scratch.data)?;
    match aead.direction {
        Direction::Encrypt => {
            let mut tag = [0; MAX_TAG_LEN];
            let tag = tag.get_mut(..tag_len).ok_or(Status::Err)?;
            aead.key.encrypt(nonce, &scratch.aad, &mut scratch.data, tag)?;
            dst.write(bus, &scratch.data)?;
            dst.write(bus, tag)?;
        }
        Direction::Decrypt => {
            let text_len = scratch.data.len() - tag_len;
            let (text, tag) = scratch.data.split_at_mut(text_len);
            aead.key.decrypt(nonce, &scratch.aad, text, tag)?;
            dst.write(bus, text)?;
        }
    }
    Ok(())
}
