//! A virtio-crypto driver (virtio 1.3 §5.9).
//!
//! - [`request`]: what can be asked, and its encoding: sessions and operations of the five services,
//!   in session and stateless mode, before and after revision 1.
//! - [`buffer`]: a request in memory for DMA: scatter-gather layouts and guard bytes.
//! - [`Driver`]: queues, submission, completion; [blocking calls](Driver::cipher) on top.
//!
//! # Not implemented
//! The IPsec service.

pub mod buffer;
mod driver;
pub mod request;

pub use buffer::Scatter;
pub use driver::{Config, CryptoError, Driver, Finished, Options, Ticket};
pub use request::{
    AeadKey, Akcipher, AkcipherKey, Chain, ChainKey, CipherKey, Direction, Encoded, HashKey,
    HashMode, KeyKind, MacKey, Operation, Order, Parameters, Scheme, Session, Span, Status, Target,
};

/// Device-specific feature bits (§5.9.3), as masks.
pub mod feature {
    /// Revision 1 of the request format.
    pub const REVISION_1: u64 = 1 << 0;
    /// Stateless cipher requests.
    pub const CIPHER_STATELESS: u64 = 1 << 1;
    /// Stateless hash requests.
    pub const HASH_STATELESS: u64 = 1 << 2;
    /// Stateless MAC requests.
    pub const MAC_STATELESS: u64 = 1 << 3;
    /// Stateless AEAD requests.
    pub const AEAD_STATELESS: u64 = 1 << 4;
    /// Stateless akcipher requests.
    pub const AKCIPHER_STATELESS: u64 = 1 << 5;
    /// All stateless modes.
    pub const STATELESS: u64 = 0x3e;
}

/// Bit numbers of services in the device configuration (§5.9.4).
pub mod service {
    /// Symmetric ciphers, alone or chained with a hash or MAC.
    pub const CIPHER: u32 = 0;
    /// Hashes.
    pub const HASH: u32 = 1;
    /// Message authentication codes.
    pub const MAC: u32 = 2;
    /// Authenticated encryption.
    pub const AEAD: u32 = 3;
    /// Asymmetric ciphers and signatures.
    pub const AKCIPHER: u32 = 4;
}

/// Cipher algorithms (§5.9.4.1).
pub mod cipher {
    /// ARC4.
    pub const ARC4: u32 = 1;
    /// AES-ECB.
    pub const AES_ECB: u32 = 2;
    /// AES-CBC.
    pub const AES_CBC: u32 = 3;
    /// AES-CTR.
    pub const AES_CTR: u32 = 4;
    /// DES-ECB.
    pub const DES_ECB: u32 = 5;
    /// DES-CBC.
    pub const DES_CBC: u32 = 6;
    /// 3DES-ECB.
    pub const TDES_ECB: u32 = 7;
    /// 3DES-CBC.
    pub const TDES_CBC: u32 = 8;
    /// 3DES-CTR.
    pub const TDES_CTR: u32 = 9;
    /// KASUMI F8.
    pub const KASUMI_F8: u32 = 10;
    /// SNOW 3G UEA2.
    pub const SNOW3G_UEA2: u32 = 11;
    /// AES-F8.
    pub const AES_F8: u32 = 12;
    /// AES-XTS.
    pub const AES_XTS: u32 = 13;
    /// ZUC EEA3.
    pub const ZUC_EEA3: u32 = 14;
}

/// Hash algorithms (§5.9.4.2).
pub mod hash {
    /// MD5.
    pub const MD5: u32 = 1;
    /// SHA-1.
    pub const SHA1: u32 = 2;
    /// SHA-224.
    pub const SHA_224: u32 = 3;
    /// SHA-256.
    pub const SHA_256: u32 = 4;
    /// SHA-384.
    pub const SHA_384: u32 = 5;
    /// SHA-512.
    pub const SHA_512: u32 = 6;
    /// SHA3-224.
    pub const SHA3_224: u32 = 7;
    /// SHA3-256.
    pub const SHA3_256: u32 = 8;
    /// SHA3-384.
    pub const SHA3_384: u32 = 9;
    /// SHA3-512.
    pub const SHA3_512: u32 = 10;
    /// SHAKE128.
    pub const SHAKE128: u32 = 11;
    /// SHAKE256.
    pub const SHAKE256: u32 = 12;
}

/// MAC algorithms (§5.9.4.3).
pub mod mac {
    /// HMAC-MD5.
    pub const HMAC_MD5: u32 = 1;
    /// HMAC-SHA-1.
    pub const HMAC_SHA1: u32 = 2;
    /// HMAC-SHA-224.
    pub const HMAC_SHA_224: u32 = 3;
    /// HMAC-SHA-256.
    pub const HMAC_SHA_256: u32 = 4;
    /// HMAC-SHA-384.
    pub const HMAC_SHA_384: u32 = 5;
    /// HMAC-SHA-512.
    pub const HMAC_SHA_512: u32 = 6;
    /// CMAC-3DES.
    pub const CMAC_3DES: u32 = 25;
    /// CMAC-AES.
    pub const CMAC_AES: u32 = 26;
    /// KASUMI F9.
    pub const KASUMI_F9: u32 = 27;
    /// SNOW 3G UIA2.
    pub const SNOW3G_UIA2: u32 = 28;
    /// GMAC-AES.
    pub const GMAC_AES: u32 = 41;
    /// GMAC-Twofish.
    pub const GMAC_TWOFISH: u32 = 42;
    /// CBC-MAC-AES.
    pub const CBCMAC_AES: u32 = 49;
    /// CBC-MAC KASUMI F9.
    pub const CBCMAC_KASUMI_F9: u32 = 50;
    /// XCBC-AES.
    pub const XCBC_AES: u32 = 53;
    /// ZUC EIA3.
    pub const ZUC_EIA3: u32 = 54;
}

/// AEAD algorithms (§5.9.4.4).
pub mod aead {
    /// GCM.
    pub const GCM: u32 = 1;
    /// CCM.
    pub const CCM: u32 = 2;
    /// ChaCha20-Poly1305.
    pub const CHACHA20_POLY1305: u32 = 3;
}

/// Akcipher algorithms, paddings, digests and curves (§5.9.4.5, §5.9.7.2.1.6).
pub mod akcipher {
    /// RSA.
    pub const RSA: u32 = 1;
    /// ECDSA.
    pub const ECDSA: u32 = 2;
    /// RSA without padding.
    pub const RSA_RAW: u32 = 0;
    /// RSA with PKCS#1 v1.5 padding.
    pub const RSA_PKCS1: u32 = 1;
    /// No digest.
    pub const RSA_NO_HASH: u32 = 0;
    /// MD5.
    pub const RSA_MD5: u32 = 4;
    /// SHA-1.
    pub const RSA_SHA1: u32 = 5;
    /// SHA-256.
    pub const RSA_SHA256: u32 = 6;
    /// SHA-384.
    pub const RSA_SHA384: u32 = 7;
    /// SHA-512.
    pub const RSA_SHA512: u32 = 8;
    /// SHA-224.
    pub const RSA_SHA224: u32 = 9;
    /// NIST P-192.
    pub const P192: u32 = 1;
    /// NIST P-224.
    pub const P224: u32 = 2;
    /// NIST P-256.
    pub const P256: u32 = 3;
    /// NIST P-384.
    pub const P384: u32 = 4;
    /// NIST P-521.
    pub const P521: u32 = 5;
}
