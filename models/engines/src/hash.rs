//! Message digests.

use digest::common::hazmat::{SerializableState, SerializedState};
use digest::{ExtendableOutput, FixedOutput, Update, XofReader};
use md5::Md5;
use ripemd::Ripemd160;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use sha3::{Sha3_224, Sha3_256, Sha3_384, Sha3_512};
use shake::{Shake128, Shake256};
use sm3::Sm3;

use crate::Error;

/// The longest fixed digest, in bytes.
pub const MAX_DIGEST_LEN: usize = 64;

/// The longest block a hash of this module compresses at once, in bytes (SHAKE128).
pub const MAX_BLOCK_LEN: usize = 168;

/// Generates what has to name every hash, from one table.
macro_rules! hashes {
    ($($(#[$doc:meta])* $name:ident($hasher:ty): $digest_len:literal, $block_len:literal;)*) => {
        /// A hash function.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Algorithm {
            $($(#[$doc])* $name,)*
        }

        impl Algorithm {
            /// Every algorithm of this module.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The digest in bytes; for SHAKE, the output that reaches its full strength.
            #[must_use]
            pub const fn digest_len(self) -> usize {
                match self { $(Self::$name => $digest_len,)* }
            }

            /// The block in bytes that the function takes at once.
            #[must_use]
            pub const fn block_len(self) -> usize {
                match self { $(Self::$name => $block_len,)* }
            }
        }

        #[derive(Clone)]
        enum State {
            $($name($hasher),)*
        }

        impl State {
            fn new(algorithm: Algorithm) -> Self {
                match algorithm { $(Algorithm::$name => Self::$name(Default::default()),)* }
            }

            fn update(&mut self, data: &[u8]) {
                match self { $(Self::$name(hasher) => hasher.update(data),)* }
            }

            fn finish(self, out: &mut [u8]) {
                match self { $(Self::$name(hasher) => hasher.finish(out),)* }
            }
        }
    };
}

hashes! {
    /// MD5 (RFC 1321).
    Md5(Md5): 16, 64;
    /// SHA-1 (FIPS 180-4).
    Sha1(Sha1): 20, 64;
    /// SHA-224 (FIPS 180-4).
    Sha224(Sha224): 28, 64;
    /// SHA-256 (FIPS 180-4).
    Sha256(Sha256): 32, 64;
    /// SHA-384 (FIPS 180-4).
    Sha384(Sha384): 48, 128;
    /// SHA-512 (FIPS 180-4).
    Sha512(Sha512): 64, 128;
    /// SHA3-224 (FIPS 202).
    Sha3_224(Sha3_224): 28, 144;
    /// SHA3-256 (FIPS 202).
    Sha3_256(Sha3_256): 32, 136;
    /// SHA3-384 (FIPS 202).
    Sha3_384(Sha3_384): 48, 104;
    /// SHA3-512 (FIPS 202).
    Sha3_512(Sha3_512): 64, 72;
    /// SHAKE128 (FIPS 202), of any output length.
    Shake128(Shake128): 32, 168;
    /// SHAKE256 (FIPS 202), of any output length.
    Shake256(Shake256): 64, 136;
    /// SM3 (GB/T 32905).
    Sm3(Sm3): 32, 64;
    /// RIPEMD-160.
    Ripemd160(Ripemd160): 20, 64;
}

impl Algorithm {
    /// Whether `len` bytes of output can be asked for: a digest may be cut short but not be empty.
    #[must_use]
    pub const fn accepts_output_len(self, len: usize) -> bool {
        len > 0 && (self.is_xof() || len <= self.digest_len())
    }

    /// Whether the output has any length (SHAKE).
    #[must_use]
    pub const fn is_xof(self) -> bool {
        matches!(self, Self::Shake128 | Self::Shake256)
    }
}

/// Writes the leading bytes of the output, as many as `out` has room for.
trait Finish {
    fn finish(self, out: &mut [u8]);
}

macro_rules! finish_fixed {
    ($($hasher:ty),*) => {$(
        impl Finish for $hasher {
            fn finish(self, out: &mut [u8]) {
                for (to, from) in out.iter_mut().zip(self.finalize_fixed()) {
                    *to = from;
                }
            }
        }
    )*};
}
finish_fixed!(Md5, Sha1, Sha224, Sha256, Sha384, Sha512, Sm3, Ripemd160);
finish_fixed!(Sha3_224, Sha3_256, Sha3_384, Sha3_512);

macro_rules! finish_xof {
    ($($hasher:ty),*) => {$(
        impl Finish for $hasher {
            fn finish(self, out: &mut [u8]) {
                self.finalize_xof().read(out);
            }
        }
    )*};
}
finish_xof!(Shake128, Shake256);

/// A digest in progress. Cloning it forks the computation.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    state: State,
}

impl Hasher {
    /// Starts a digest.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, state: State::new(algorithm) }
    }

    /// Continues a digest from an intermediate state, which hardware lets drivers load.
    ///
    /// `state` is the chaining value as its standard serialises it (big-endian words, for MD5
    /// little-endian) after `blocks` whole blocks: 16 bytes for MD5, 20 for SHA-1, 32 for SHA-224,
    /// SHA-256 and SM3, 64 for SHA-384 and SHA-512.
    ///
    /// # Errors
    /// [`Error::InvalidLength`] if `state` has another length or the algorithm has no such state
    /// (SHA-3, SHAKE, RIPEMD-160).
    pub fn resume(algorithm: Algorithm, state: &[u8], blocks: u64) -> Result<Self, Error> {
        let counter = blocks.to_le_bytes();
        let wide_counter = u128::from(blocks).to_le_bytes();
        let state = match algorithm {
            Algorithm::Md5 => State::Md5(load(state, 16, 1, &counter)?),
            Algorithm::Sha1 => State::Sha1(load(state, 20, 4, &counter)?),
            Algorithm::Sha224 => State::Sha224(load(state, 32, 4, &counter)?),
            Algorithm::Sha256 => State::Sha256(load(state, 32, 4, &counter)?),
            Algorithm::Sha384 => State::Sha384(load(state, 64, 8, &wide_counter)?),
            Algorithm::Sha512 => State::Sha512(load(state, 64, 8, &wide_counter)?),
            Algorithm::Sm3 => State::Sm3(load(state, 32, 4, &counter)?),
            _ => return Err(Error::InvalidLength(state.len())),
        };
        Ok(Self { algorithm, state })
    }

    /// The algorithm this digest was started with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Takes the next bytes, any number of them.
    pub fn update(&mut self, data: &[u8]) {
        self.state.update(data);
    }

    /// Writes the digest, or its leading bytes if `out` is shorter.
    ///
    /// # Errors
    /// [`Error::InvalidOutputLength`] if `out` is empty or longer than the digest (SHAKE fills any
    /// length).
    pub fn finish(self, out: &mut [u8]) -> Result<(), Error> {
        if !self.algorithm.accepts_output_len(out.len()) {
            return Err(Error::InvalidOutputLength(out.len()));
        }
        self.state.finish(out);
        Ok(())
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Makes a hasher whose serialised form is `state` with the bytes of each `word` reversed, then the
/// block counter, then an empty block buffer.
fn load<H: SerializableState>(
    state: &[u8],
    len: usize,
    word: usize,
    counter: &[u8],
) -> Result<H, Error> {
    let invalid = Error::InvalidLength(state.len());
    if state.len() != len {
        return Err(invalid);
    }
    let words = state.chunks_exact(word).flat_map(|word| word.iter().rev());
    let mut serialized = SerializedState::<H>::default();
    for (to, from) in serialized.iter_mut().zip(words.chain(counter)) {
        *to = *from;
    }
    H::deserialize(&serialized).map_err(|_| invalid)
}

/// Digests `data` in one go.
///
/// # Errors
/// As [`Hasher::finish`].
pub fn digest(algorithm: Algorithm, data: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(data);
    hasher.finish(out)
}
