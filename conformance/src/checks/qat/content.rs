//! Content descriptors as drivers make them: precomputed states, derived keys, first blocks.

use understudy_client::qat::Content;
use understudy_client::qat::content::Hash;
use understudy_client::qat::message::{cipher, hash, mode};
use understudy_engines::hash::Algorithm as Named;
use understudy_engines::vectors::{Algorithm, Case};
use understudy_oracle as oracle;

use super::{byte, len32};
use crate::Stop;
use crate::checks::vectors;

/// Most vectors that one check sends. Many sets have hundreds.
const MOST: usize = 40;

/// Vectors of an algorithm, spread over all that there are.
pub(super) fn sample(
    algorithm: Algorithm,
    wanted: impl Fn(&Case) -> bool,
) -> Result<Vec<Case>, Stop> {
    vectors::sample(MOST, algorithm, wanted)
}

/// The hash of published vectors, if drivers compute states of it: of SHA-3 there are none.
pub(super) fn stateful(named: Named) -> Option<Hash> {
    Some(match named {
        Named::Md5 => Hash::Md5,
        Named::Sha1 => Hash::Sha1,
        Named::Sha224 => Hash::Sha224,
        Named::Sha256 => Hash::Sha256,
        Named::Sha384 => Hash::Sha384,
        Named::Sha512 => Hash::Sha512,
        _ => return None,
    })
}

/// The hash by which the oracle knows it.
pub(super) fn known(hash: Hash) -> oracle::Hash {
    match hash {
        Hash::Md5 => oracle::Hash::Md5,
        Hash::Sha1 => oracle::Hash::Sha1,
        Hash::Sha224 => oracle::Hash::Sha224,
        Hash::Sha256 => oracle::Hash::Sha256,
        Hash::Sha384 => oracle::Hash::Sha384,
        Hash::Sha512 => oracle::Hash::Sha512,
    }
}

/// A plain hash.
pub(super) fn plain(content: Content, named: Named, digest_len: usize) -> Content {
    if let Some(hash) = stateful(named) {
        return content.plain_hash(hash, digest_len);
    }
    let number = match named {
        Named::Sha3_224 => hash::SHA3_256 - 1,
        Named::Sha3_256 => hash::SHA3_256,
        Named::Sha3_384 => hash::SHA3_256 + 1,
        _ => hash::SHA3_256 + 2,
    };
    content.auth(number, 0, 0, [&[0; 8], &[]], byte(digest_len))
}

/// One block under a key.
fn encrypt_block(key: &[u8], block: [u8; 16]) -> Result<[u8; 16], Stop> {
    let unfit = || Stop::skip("a key of the vectors is none of AES");
    oracle::aes_block(key, block).ok_or_else(unfit)
}

/// Doubling in GF(2^128), as CMAC wants it.
fn double(block: [u8; 16]) -> [u8; 16] {
    let number = u128::from_be_bytes(block);
    (number << 1 ^ if number >> 127 == 0 { 0 } else { 0x87 }).to_be_bytes()
}

/// AES-XCBC-MAC with its three derived keys (RFC 3566).
pub(super) fn xcbc(key: &[u8], tag_len: usize) -> Result<Content, Stop> {
    let mut keys = Vec::new();
    for number in [1, 2, 3] {
        keys.extend(encrypt_block(key, [number; 16])?);
    }
    Ok(Content::default().auth(hash::AES_XCBC, 1, 0, [&[0; 16], &keys], byte(tag_len)))
}

/// AES-CMAC in the same engine, as DPDK has it.
pub(super) fn cmac(key: &[u8], tag_len: usize) -> Result<Content, Stop> {
    let whole = double(encrypt_block(key, [0; 16])?);
    let keys = [key, &whole, &double(whole)].concat();
    Ok(Content::default().auth(hash::AES_XCBC, 1, 0, [&[0; 16], &keys], byte(tag_len)))
}

/// CCM: first counter block, B0 with the padded associated data, and the content.
pub(super) fn ccm(case: &Case, message_len: usize) -> ([u8; 16], Vec<u8>, Content) {
    let (nonce, tag_len) = (&case.iv, byte(case.tag.len()));
    let mut iv = [0; 16];
    iv[0] = 14_u8.saturating_sub(byte(nonce.len()));
    iv.iter_mut().skip(1).zip(nonce).for_each(|(to, from)| *to = *from);
    let mut first = iv;
    first[0] |= (tag_len.saturating_sub(2) / 2) << 3 | u8::from(!case.aad.is_empty()) << 6;
    let mut blocks = (u128::from_be_bytes(first) | message_len as u128).to_be_bytes().to_vec();
    if !case.aad.is_empty() {
        let [.., high, low] = len32(&case.aad).to_be_bytes();
        blocks.extend([high, low]);
        blocks.extend(&case.aad);
        blocks.resize(blocks.len().next_multiple_of(16), 0);
    }
    let content = Content::default().cipher(cipher::AES_128, mode::CTR, false, &case.key);
    let content = content.auth(hash::AES_CBC_MAC, 1, 0, [&[0; 16], &case.key], tag_len);
    (iv, blocks, content)
}
