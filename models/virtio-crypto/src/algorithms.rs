//! Virtio's algorithm numbers and the engines that stand behind them (virtio 1.3 §5.9.4).
//!
//! What is in these tables is announced, and nothing else is.

use understudy_engines::{aead, cipher, ecdsa, hash, mac, rsa};

/// A number, its name in the specification without the common prefix, and the engine.
pub type Row<T> = (u32, &'static str, T);

/// `VIRTIO_CRYPTO_CIPHER_*`
pub const CIPHERS: &[Row<cipher::Algorithm>] = &[
    (1, "ARC4", cipher::Algorithm::Arc4),
    (2, "AES_ECB", cipher::Algorithm::AesEcb),
    (3, "AES_CBC", cipher::Algorithm::AesCbc),
    (4, "AES_CTR", cipher::Algorithm::AesCtr),
    (5, "DES_ECB", cipher::Algorithm::DesEcb),
    (6, "DES_CBC", cipher::Algorithm::DesCbc),
    (7, "3DES_ECB", cipher::Algorithm::TdesEcb),
    (8, "3DES_CBC", cipher::Algorithm::TdesCbc),
    (9, "3DES_CTR", cipher::Algorithm::TdesCtr),
    (13, "AES_XTS", cipher::Algorithm::AesXts),
];

/// `VIRTIO_CRYPTO_HASH_*`
pub const HASHES: &[Row<hash::Algorithm>] = &[
    (1, "MD5", hash::Algorithm::Md5),
    (2, "SHA1", hash::Algorithm::Sha1),
    (3, "SHA_224", hash::Algorithm::Sha224),
    (4, "SHA_256", hash::Algorithm::Sha256),
    (5, "SHA_384", hash::Algorithm::Sha384),
    (6, "SHA_512", hash::Algorithm::Sha512),
    (7, "SHA3_224", hash::Algorithm::Sha3_224),
    (8, "SHA3_256", hash::Algorithm::Sha3_256),
    (9, "SHA3_384", hash::Algorithm::Sha3_384),
    (10, "SHA3_512", hash::Algorithm::Sha3_512),
    (11, "SHA3_SHAKE128", hash::Algorithm::Shake128),
    (12, "SHA3_SHAKE256", hash::Algorithm::Shake256),
];

/// `VIRTIO_CRYPTO_MAC_*`. GMAC is missing: its requests have no place for the IV.
pub const MACS: &[Row<mac::Algorithm>] = &[
    (1, "HMAC_MD5", mac::Algorithm::Hmac(hash::Algorithm::Md5)),
    (2, "HMAC_SHA1", mac::Algorithm::Hmac(hash::Algorithm::Sha1)),
    (3, "HMAC_SHA_224", mac::Algorithm::Hmac(hash::Algorithm::Sha224)),
    (4, "HMAC_SHA_256", mac::Algorithm::Hmac(hash::Algorithm::Sha256)),
    (5, "HMAC_SHA_384", mac::Algorithm::Hmac(hash::Algorithm::Sha384)),
    (6, "HMAC_SHA_512", mac::Algorithm::Hmac(hash::Algorithm::Sha512)),
    (25, "CMAC_3DES", mac::Algorithm::CmacTdes),
    (26, "CMAC_AES", mac::Algorithm::CmacAes),
    (49, "CBCMAC_AES", mac::Algorithm::CbcMacAes),
    (53, "XCBC_AES", mac::Algorithm::XcbcAes),
];

/// `VIRTIO_CRYPTO_AEAD_*`
pub const AEADS: &[Row<aead::Algorithm>] = &[
    (1, "GCM", aead::Algorithm::AesGcm),
    (2, "CCM", aead::Algorithm::AesCcm),
    (3, "CHACHA20_POLY1305", aead::Algorithm::ChaCha20Poly1305),
];

/// `VIRTIO_CRYPTO_AKCIPHER_*`
pub const AKCIPHERS: &[Row<Akcipher>] = &[(1, "RSA", Akcipher::Rsa), (2, "ECDSA", Akcipher::Ecdsa)];

/// An asymmetric algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Akcipher {
    /// RSA (RFC 8017).
    Rsa,
    /// ECDSA (FIPS 186-5 §6).
    Ecdsa,
}

/// `VIRTIO_CRYPTO_CURVE_*`
pub const CURVES: &[Row<ecdsa::Curve>] = &[
    (3, "NIST_P256", ecdsa::Curve::P256),
    (4, "NIST_P384", ecdsa::Curve::P384),
    (5, "NIST_P521", ecdsa::Curve::P521),
];

/// `VIRTIO_CRYPTO_RSA_*` hashes.
pub const RSA_HASHES: &[Row<Option<rsa::Digest>>] = &[
    (0, "NO_HASH", None),
    (3, "MD4", Some(rsa::Digest::Md4)),
    (4, "MD5", Some(rsa::Digest::Md5)),
    (5, "SHA1", Some(rsa::Digest::Sha1)),
    (6, "SHA256", Some(rsa::Digest::Sha256)),
    (7, "SHA384", Some(rsa::Digest::Sha384)),
    (8, "SHA512", Some(rsa::Digest::Sha512)),
    (9, "SHA224", Some(rsa::Digest::Sha224)),
];

/// Longest cipher or AEAD key in bytes: that of ARC4.
pub const MAX_CIPHER_KEY_LEN: u32 = 256;

/// Longest MAC key in bytes. HMAC takes any; this is what QEMU announces.
pub const MAX_AUTH_KEY_LEN: u32 = 512;

/// The engine of a number.
#[must_use]
pub fn find<T: Copy>(rows: &[Row<T>], number: u32) -> Option<T> {
    rows.iter().find(|(n, _, _)| *n == number).map(|(_, _, engine)| *engine)
}

/// The bit mask that announces a table.
#[must_use]
pub fn mask<T>(rows: &[Row<T>]) -> u64 {
    rows.iter().fold(0, |mask, (number, _, _)| mask | 1 << number)
}

/// The names of the bits of a mask.
#[must_use]
pub fn names<T>(rows: &[Row<T>], mask: u64) -> String {
    let set = rows.iter().filter(|(number, _, _)| mask >> number & 1 != 0);
    set.map(|(_, name, _)| *name).collect::<Vec<_>>().join("|")
}
