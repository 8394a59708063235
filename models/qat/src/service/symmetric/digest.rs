//! Hashes and MACs as content descriptors have them.

use understudy_engines::cipher::{self, Algorithm as Cipher, Direction};
use understudy_engines::mac;

use super::MAX_TAG_LEN;
use crate::service::Failure;
use crate::service::content::AuthContent;
use crate::service::keys::KeyCache;

/// Computes the digest of `data` behind `prefix`. `mask` is added to a CBC-MAC.
pub(super) fn digest(
    auth: &AuthContent<'_>,
    keys: &mut KeyCache,
    prefix: &[u8],
    data: &[u8],
    mask: &[u8; 16],
    tag: &mut [u8; MAX_TAG_LEN],
) -> Result<(), Failure> {
    match auth {
        AuthContent::Null => {
            tag.fill(0);
            Ok(())
        }
        AuthContent::Hash { inner, outer } => {
            let len = inner.algorithm.digest_len();
            let out = tag.get_mut(..len).ok_or(Failure::Invalid)?;
            let mut hasher = inner.hasher()?;
            hasher.update(data);
            hasher.finish(out)?;
            if let Some(outer) = outer {
                let mut hasher = outer.hasher()?;
                hasher.update(out);
                hasher.finish(out)?;
            }
            Ok(())
        }
        AuthContent::Block { key, whole, padded } => {
            let key = keys.cipher(Cipher::AesCbc, key)?;
            block_mac(key, whole, padded, data, tag)
        }
        AuthContent::CbcMac { key } => {
            let key = mac::Key::new(mac::Algorithm::CbcMacAes, key)?;
            let mut stream = key.start(&[])?;
            stream.update(prefix)?;
            stream.update(data)?;
            let out = tag.get_mut(..16).ok_or(Failure::Invalid)?;
            stream.finish(out)?;
            out.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
            Ok(())
        }
        AuthContent::Wireless { mac, key } => {
            let mac = mac.compute(key, prefix, data)?;
            tag.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
            Ok(())
        }
        // GCM does this along with the cipher.
        AuthContent::Galois { .. } => Err(Failure::Unsupported),
    }
}

/// XCBC and CMAC with their derived keys (RFC 3566 §4, SP 800-38B §6.2): all but the last block go
/// through CBC as they are; the last, padded if need be, is changed with its mask.
fn block_mac(
    key: &cipher::Key,
    whole: &[u8],
    padded: &[u8],
    data: &[u8],
    tag: &mut [u8; MAX_TAG_LEN],
) -> Result<(), Failure> {
    let mut stream = key.start(Direction::Encrypt, &[0; 16])?;
    let last_len = match data.len() % 16 {
        0 if data.is_empty() => 0,
        0 => 16,
        rest => rest,
    };
    let (head, rest) = data.split_at(data.len() - last_len);
    let mut chunk = [0; 512];
    for part in head.chunks(chunk.len()) {
        let chunk = chunk.get_mut(..part.len()).unwrap_or_default();
        chunk.copy_from_slice(part);
        stream.update(chunk)?;
    }
    let mut last = [0; 16];
    for (to, from) in last.iter_mut().zip(rest.iter().chain(&[0x80])) {
        *to = *from;
    }
    let mask = if rest.len() == 16 { whole } else { padded };
    last.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    stream.finish(&mut last)?;
    tag.iter_mut().zip(last).for_each(|(to, from)| *to = from);
    Ok(())
}
