//! The virtio crypto device (virtio 1.3 §5.9), PCI 1af4:1054.
//!
//! - [`layout`]: requests, opcodes, status codes.
//! - [`registers`]: the device configuration.
//! - [`algorithms`]: which engines stand behind which of virtio's numbers; what is announced.
//! - [`parameters`]: what a user can choose.
//! - [`device`]: configuration, counters, status bytes.
//! - `control`, `session`: the control queue and the bounded table of sessions.
//! - `queue`: data requests, in session and in stateless mode.
//! - `service`: what CIPHER (alone or chained), HASH, MAC, AEAD and AKCIPHER do with byte streams.
//!
//! A request is parsed as a stream of bytes, whatever descriptors it is cut into. Ciphers and
//! digests pass through a small buffer that stays in the cache, in place or not; AEAD decryption
//! writes nothing before the tag was checked; RSA and ECDSA run as jobs.
//!
//! # Not implemented
//! - The IPSEC service; the curves P-192 and P-224; RSA with MD2 or MD3.
//! - KASUMI, SNOW 3G, ZUC, AES-F8 and Twofish; GMAC, whose requests have no place for an IV.
//! - Nested hashes (`VIRTIO_CRYPTO_SYM_HASH_MODE_NESTED`), specified by name only.
//!
//! # Where the specification is open
//! - With a stateless feature negotiated, the flag of each request decides its layout; the
//!   specification says in one place that the stateless layout is used then, and describes
//!   session mode requests in another.
//! - The status is the last writable byte, even where the destination is longer than the request
//!   says: Linux sends such requests. The used length is all of the writable part; for AKCIPHER
//!   it is the result's length and one.
//! - AEAD decryption takes ciphertext and tag as one source. CCM nonces are `iv_len` bytes without
//!   the reserved byte in front; GCM takes 16 bytes as J0.
//! - The destination of a chain gets all of the source, changed where the cipher ran; the digest
//!   covers the additional data and then its part of the source (hash then cipher) or of the
//!   destination (cipher then hash).
//! - ECDSA is algorithm 2 as in the specification; Linux's header calls that DSA and uses neither.
//! - An opcode that contradicts the direction of its session fails with `ERR`; a session of
//!   another service or type is `INVSESS`.
#![forbid(unsafe_code)]

pub mod algorithms;
mod control;
pub mod device;
pub mod layout;
pub mod parameters;
mod queue;
pub mod registers;
mod service;
mod session;

pub use device::VirtioCrypto;
pub use parameters::{Parameters, SetupError};

#[cfg(test)]
mod tests;
