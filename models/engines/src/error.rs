//! The one error type of all engines.

/// Why an engine refused its input.
///
/// Lengths are in bytes. A device model maps these to its own status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The combination of algorithms does not exist.
    #[error("unsupported combination of algorithms")]
    Unsupported,
    /// The algorithm has no such key length.
    #[error("invalid key length {0}")]
    InvalidKeyLength(usize),
    /// The algorithm and mode take no initialisation vector (or nonce) of this length.
    #[error("invalid IV length {0}")]
    InvalidIvLength(usize),
    /// The data length does not fit the mode: not whole blocks, too short to steal
    /// ciphertext from, or longer than the algorithm allows.
    #[error("invalid data length {0}")]
    InvalidLength(usize),
    /// The output (digest, tag, signature, …) cannot have this length.
    #[error("invalid output length {0}")]
    InvalidOutputLength(usize),
    /// The data or its tag was changed, or another key was used.
    #[error("authentication tag mismatch")]
    TagMismatch,
    /// The encoded key is malformed, or a number in it is out of bounds.
    #[error("invalid key")]
    InvalidKey,
    /// The number that the data stands for is not below the modulus.
    #[error("input out of range")]
    OutOfRange,
    /// The decrypted data is not padded as it must be.
    #[error("invalid padding")]
    InvalidPadding,
    /// The signature is not one of this data by this key.
    #[error("signature mismatch")]
    SignatureMismatch,
    /// The output does not decompress to the input.
    #[error("output does not decompress to the input")]
    Unverified,
}
