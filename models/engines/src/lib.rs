//! Crypto engines: bytes in, bytes out.
//!
//! The algorithms that accelerators implement in hardware, shared by all device models. The
//! lists follow virtio 1.2 §5.9.3 (crypto device) and grow with the devices modelled.
//!
//! - [`cipher`]: ECB, CBC, CTR and XTS over AES, SM4, DES and 3DES, and ARC4.
//!
//! Every engine has the same shape: an [`Algorithm`](cipher::Algorithm) names it, a
//! [`Key`](cipher::Key) is the expanded key that a session keeps (cheap to clone, `Send` and
//! `Sync`), and a [`Stream`](cipher::Stream) is one request in progress. A stream takes its data
//! in chunks, in place, so that a device can copy a large request through a small buffer that
//! stays in the cache. Starting and running a request does not allocate.
//!
//! Engines do no I/O and know neither time nor randomness. Their input is hostile: lengths are
//! checked and answered with a typed [`Error`]; nothing panics.
//!
//! # Not implemented
//! KASUMI F8, SNOW 3G UEA2 and AES F8.
#![forbid(unsafe_code)]

pub mod aead;
pub mod cipher;
mod der;
pub mod ecdsa;
mod error;
pub mod hash;
pub mod mac;
pub mod rsa;
#[cfg(feature = "vectors")]
pub mod vectors;

pub use error::Error;
