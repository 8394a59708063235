//! What a driver computes for its content descriptors: states of hashes, and keys of keys.

use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use digest::Digest;
use digest::common::hazmat::SerializableState;

use super::message::{Content, cipher, hash, mode};

/// A hash whose states drivers compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// The state of a hash after a block, as its standard writes it: `len` bytes of words of `word`.
fn state_of<H: SerializableState + Digest>(block: &[u8], len: usize, word: usize) -> Vec<u8> {
    let mut hasher = H::new();
    hasher.update(block);
    let serialized = hasher.serialize();
    let words = serialized.chunks_exact(word).take(len / word);
    words.flat_map(|word| word.iter().rev().copied()).collect()
}

impl Hash {
    /// Bytes of a digest.
    #[must_use]
    pub fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Bytes that are compressed at once.
    #[must_use]
    pub fn block_len(self) -> usize {
        if matches!(self, Self::Sha384 | Self::Sha512) { 128 } else { 64 }
    }

    /// Its number in a content descriptor.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Md5 => hash::MD5,
            Self::Sha1 => hash::SHA_1,
            Self::Sha224 => hash::SHA_224,
            Self::Sha256 => hash::SHA_256,
            Self::Sha384 => hash::SHA_384,
            Self::Sha512 => hash::SHA_512,
        }
    }

    /// Its state after a block, or at the start if that is empty.
    #[must_use]
    pub fn state(self, block: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => state_of::<md5::Md5>(block, 16, 1),
            Self::Sha1 => state_of::<sha1::Sha1>(block, 20, 4),
            Self::Sha224 => state_of::<sha2::Sha224>(block, 32, 4),
            Self::Sha256 => state_of::<sha2::Sha256>(block, 32, 4),
            Self::Sha384 => state_of::<sha2::Sha384>(block, 64, 8),
            Self::Sha512 => state_of::<sha2::Sha512>(block, 64, 8),
        }
    }

    /// The digest of bytes.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => md5::Md5::digest(bytes).to_vec(),
            Self::Sha1 => sha1::Sha1::digest(bytes).to_vec(),
            Self::Sha224 => sha2::Sha224::digest(bytes).to_vec(),
            Self::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
            Self::Sha384 => sha2::Sha384::digest(bytes).to_vec(),
            Self::Sha512 => sha2::Sha512::digest(bytes).to_vec(),
        }
    }
}

/// A length as a byte. Those that do not fit are for the device to refuse.
fn byte(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

/// The number of AES with a key of so many bytes.
#[must_use]
pub fn aes(key_len: usize) -> u32 {
    match key_len {
        16 => cipher::AES_128,
        24 => cipher::AES_192,
        _ => cipher::AES_256,
    }
}

/// A block under an AES key. A key of no length that AES has leaves it as it is.
#[must_use]
pub fn aes_block(key: &[u8], block: [u8; 16]) -> [u8; 16] {
    fn under<C: KeyInit + BlockCipherEncrypt>(key: &[u8], bytes: [u8; 16]) -> [u8; 16] {
        let Ok(cipher) = C::new_from_slice(key) else { return bytes };
        let Ok(mut block) = Block::<C>::try_from(&bytes[..]) else { return bytes };
        cipher.encrypt_block(&mut block);
        let mut out = bytes;
        out.iter_mut().zip(block).for_each(|(to, from)| *to = from);
        out
    }
    match key.len() {
        16 => under::<Aes128>(key, block),
        24 => under::<Aes192>(key, block),
        _ => under::<Aes256>(key, block),
    }
}

impl Content {
    /// Adds a plain hash.
    #[must_use]
    pub fn plain_hash(self, hash: Hash, digest_len: usize) -> Self {
        self.auth(hash.number(), 0, 0, [&hash.state(&[]), &[]], byte(digest_len))
    }

    /// Adds HMAC, with the states that a driver computes from the key.
    #[must_use]
    pub fn hmac(self, hash: Hash, key: &[u8], tag_len: usize) -> Self {
        let block_len = hash.block_len();
        let mut padded = if key.len() > block_len { hash.digest(key) } else { key.to_vec() };
        padded.resize(block_len, 0);
        let block = |mask: u8| padded.iter().map(|byte| byte ^ mask).collect::<Vec<_>>();
        let (inner, outer) = (hash.state(&block(0x36)), hash.state(&block(0x5c)));
        let counter = u32::try_from(block_len).unwrap_or(0);
        self.auth(hash.number(), 1, counter, [&inner, &outer], byte(tag_len))
    }

    /// AES-GCM: the content, and the padded associated data.
    #[must_use]
    pub fn gcm(key: &[u8], aad: &[u8], tag_len: usize) -> (Self, Vec<u8>) {
        // The hash key, the length of the associated data, and room for the first counter block.
        let mut state = aes_block(key, [0; 16]).to_vec();
        state.extend(u32::try_from(aad.len()).unwrap_or(u32::MAX).to_be_bytes());
        state.extend([0; 20]);
        let content = Self::default().cipher(aes(key.len()), mode::CTR, false, key);
        let content = content.auth(hash::GALOIS_128, 1, 0, [&[0; 16], &state], byte(tag_len));
        let mut padded = aad.to_vec();
        padded.resize(aad.len().next_multiple_of(16), 0);
        (content, padded)
    }
}
