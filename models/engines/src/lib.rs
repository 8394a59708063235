//! Crypto engines: bytes in, bytes out.
//!
//! The algorithms that accelerators implement in hardware, shared by all device models. The lists
//! follow virtio 1.3 §5.9.4 (crypto device) and grow with the devices modelled.
//!
//! - [`cipher`]: ECB, CBC, CTR and XTS over AES and SM4; ECB, CBC and (3DES) CTR over DES; ARC4.
//! - [`hash`]: MD5, SHA-1, SHA-2, SHA-3, SHAKE, SM3, RIPEMD-160.
//! - [`mac`]: HMAC over all of these, CMAC (AES, 3DES), CBC-MAC, XCBC-MAC, GMAC (AES).
//! - [`aead`]: AES-GCM, AES-CCM, ChaCha20-Poly1305.
//! - [`rsa`], [`ecdsa`]: raw and PKCS #1 v1.5 RSA to 4096 bits; ECDSA on P-256, P-384 and P-521.
//! - [`modular`], [`weierstrass`]: the arithmetic of public-key accelerators, on operands as given.
//! - [`wireless`]: SNOW 3G (UEA2, UIA2), ZUC (EEA3, EIA3) and KASUMI (F8, F9) of 3GPP.
//! - [`deflate`]: DEFLATE with fixed or dynamic codes, one-shot and continued; CRC-32, Adler-32.
//! - `vectors` (a feature): published test vectors, for tests here and through devices.
//!
//! # Shape
//! - An `Algorithm` names it; it knows which lengths are valid.
//! - A `Key` is the prepared key that a session keeps: shared by clones, `Send` and `Sync`, so that
//!   a job can run elsewhere.
//! - A `Stream` is one request in progress. It takes data in chunks (ciphers in place), so that a
//!   device can copy a large request through a small buffer that stays in the cache. Starting and
//!   running a symmetric request does not allocate.
//! - Chains of a cipher and a MAC (virtio's algorithm chaining, IPsec's authenc) are two streams
//!   fed with the same chunks in the order wanted; they need no engine of their own.
//!
//! Engines do no I/O and know neither time nor randomness; what RSA padding needs of it is passed
//! in. Their input is hostile: lengths are checked and answered with a typed [`Error`], numbers in
//! keys are bounded, nothing panics.
//!
//! # Which implementation
//! By the `engines` benchmark, on x86-64 with AES-NI, VAES and SHA extensions:
//!
//! | Algorithm | From | Why |
//! |---|---|---|
//! | AES-CBC, AES-CTR | aws-lc | a quarter (CBC encryption) to twice as fast as RustCrypto at 16 KiB and more; no faster for one block |
//! | AES-GCM, ChaCha20-Poly1305 | aws-lc | four and nearly two times as fast; GCM with odd IV or tag lengths is composed from aws-lc's CTR and RustCrypto's GHASH |
//! | AES-XTS | here, over RustCrypto's AES | no crate runs it in chunks or many blocks at once; ten times as fast as `xts-mode` |
//! | AES-CCM, CMAC, CBC-MAC, XCBC | here, over aws-lc's CBC and CTR | the crates fix lengths at compile time or lack the mode |
//! | Hashes | RustCrypto | as fast as aws-lc (SHA-3 a fifth slower), cloned without allocating, and their states can be loaded |
//! | HMAC | here, over the hashes | its inner and outer state can be loaded, as QAT's drivers do |
//! | ECB, SM4, DES, ARC4 | RustCrypto | in place over many blocks at once, or nothing else has them |
//! | RSA | here, over `crypto-bigint` | short keys, raw operations, errors as devices report them |
//! | ECDSA | RustCrypto | digests in, deterministic signatures out |
//! | SNOW 3G, ZUC, KASUMI | here | no kept crate has them |
//! | DEFLATE | zlib-rs | zlib's strategies, streams and reasons of errors, in Rust alone |
//!
//! Nothing here is constant-time beyond what its parts are, and keys are not wiped: an emulator's
//! guests own the keys they send.
//!
//! # Not implemented
//! - Twofish GMAC: no kept crate has it.
//! - AES F8: virtio does not pass its salting key.
//! - MD2, MD3: no published or kept implementation is in use.
//! - ECDSA on P-192 and P-224: no stable release of their crates.
#![forbid(unsafe_code)]

pub mod aead;
pub mod cipher;
pub mod deflate;
mod der;
pub mod ecdsa;
mod error;
pub mod hash;
pub mod mac;
pub mod modular;
pub mod rsa;
#[cfg(feature = "vectors")]
pub mod vectors;
pub mod weierstrass;
pub mod wireless;

pub use error::Error;
