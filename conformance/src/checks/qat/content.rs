//! Content descriptors as drivers make them: precomputed states, derived keys, first blocks.

use digest::Update;
use digest::common::hazmat::SerializableState;
use understudy_client::qat::Content;
use understudy_client::qat::message::{cipher, hash, mode};
use understudy_engines::cipher::{Algorithm as Cipher, Direction, Key};
use understudy_engines::hash::{Algorithm as Hash, digest as hash_of};
use understudy_engines::vectors::{Algorithm, Case};

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

/// The AES of a key's length.
pub(super) fn aes(key_len: usize) -> u32 {
    match key_len {
        16 => cipher::AES_128,
        24 => cipher::AES_192,
        _ => cipher::AES_256,
    }
}

/// The state of a hash after a block, as its standard writes it.
fn state_of<H: SerializableState + Update + Default>(
    block: &[u8],
    len: usize,
    word: usize,
) -> Vec<u8> {
    let mut hasher = H::default();
    hasher.update(block);
    let serialized = hasher.serialize();
    let words = serialized.chunks_exact(word).take(len / word);
    words.flat_map(|word| word.iter().rev().copied()).collect()
}

/// Number of a hash, and its state after a block, or at the start.
pub(super) fn hash_state(algorithm: Hash, block: &[u8]) -> (u32, Vec<u8>) {
    match algorithm {
        Hash::Md5 => (hash::MD5, state_of::<md5::Md5>(block, 16, 1)),
        Hash::Sha1 => (hash::SHA_1, state_of::<sha1::Sha1>(block, 20, 4)),
        Hash::Sha224 => (hash::SHA_224, state_of::<sha2::Sha224>(block, 32, 4)),
        Hash::Sha256 => (hash::SHA_256, state_of::<sha2::Sha256>(block, 32, 4)),
        Hash::Sha384 => (hash::SHA_384, state_of::<sha2::Sha384>(block, 64, 8)),
        Hash::Sha512 => (hash::SHA_512, state_of::<sha2::Sha512>(block, 64, 8)),
        Hash::Sha3_224 => (hash::SHA3_256 - 1, vec![0; 8]),
        Hash::Sha3_256 => (hash::SHA3_256, vec![0; 8]),
        Hash::Sha3_384 => (hash::SHA3_256 + 1, vec![0; 8]),
        _ => (hash::SHA3_256 + 2, vec![0; 8]),
    }
}

/// A plain hash.
pub(super) fn plain(content: Content, algorithm: Hash, digest_len: usize) -> Content {
    let (number, start) = hash_state(algorithm, &[]);
    content.auth(number, 0, 0, [&start, &[]], byte(digest_len))
}

/// HMAC, with the states that a driver computes from the key.
pub(super) fn hmac(content: Content, algorithm: Hash, key: &[u8], tag_len: usize) -> Content {
    let block_len = algorithm.block_len();
    let mut padded = key.to_vec();
    if key.len() > block_len {
        padded = vec![0; algorithm.digest_len()];
        // The length fits by construction.
        let _ = hash_of(algorithm, key, &mut padded);
    }
    padded.resize(block_len, 0);
    let block = |mask: u8| padded.iter().map(|byte| byte ^ mask).collect::<Vec<_>>();
    let (number, inner) = hash_state(algorithm, &block(0x36));
    let (_, outer) = hash_state(algorithm, &block(0x5c));
    let counter = u32::try_from(block_len).unwrap_or(0);
    content.auth(number, 1, counter, [&inner, &outer], byte(tag_len))
}

/// One block under a key.
fn encrypt_block(key: &[u8], mut block: [u8; 16]) -> Result<[u8; 16], Stop> {
    let failed = |error| Stop::skip(format!("a key of the vectors cannot be used: {error}"));
    let key = Key::new(Cipher::AesEcb, key).map_err(failed)?;
    key.apply(Direction::Encrypt, &[], &mut block).map_err(failed)?;
    Ok(block)
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

/// GCM: the content, and the padded associated data.
pub(super) fn gcm(key: &[u8], aad: &[u8], tag_len: usize) -> Result<(Content, Vec<u8>), Stop> {
    // The hash key, the length of the associated data, and room for the first counter block.
    let mut state = encrypt_block(key, [0; 16])?.to_vec();
    state.extend(len32(aad).to_be_bytes());
    state.extend([0; 20]);
    let content = Content::default().cipher(aes(key.len()), mode::CTR, false, key);
    let content = content.auth(hash::GALOIS_128, 1, 0, [&[0; 16], &state], byte(tag_len));
    let mut padded = aad.to_vec();
    padded.resize(aad.len().next_multiple_of(16), 0);
    Ok((content, padded))
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
