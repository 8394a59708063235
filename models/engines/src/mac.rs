//! Message authentication codes.
//!
//! HMAC runs over [`crate::hash`]; the block-cipher MACs run over CBC mode of [`crate::cipher`],
//! from which they differ only in what they do to the last block.

mod block;

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::aead::Nonce;
use crate::aead::gcm::{self, Gcm};
use crate::{Error, hash};
use block::{BlockMac, BlockStream};

/// The longest MAC, in bytes.
pub const MAX_MAC_LEN: usize = hash::MAX_DIGEST_LEN;

/// A message authentication code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC (RFC 2104, FIPS 198-1) over any hash but SHAKE.
    Hmac(hash::Algorithm),
    /// CMAC with AES-128, -192 or -256 (SP 800-38B, RFC 4493).
    CmacAes,
    /// CMAC with 3DES of two or three keys (SP 800-38B).
    CmacTdes,
    /// CBC-MAC with AES: the last block of a CBC encryption with a zero IV. The message is padded
    /// with zeros to whole blocks; the MAC of an empty one is zero.
    CbcMacAes,
    /// AES-XCBC-MAC with a 128-bit key (RFC 3566), in full or cut to 96 bits.
    XcbcAes,
    /// GMAC with AES-128, -192 or -256 (SP 800-38D §6.4); takes an IV.
    GmacAes,
}

impl Algorithm {
    /// The MAC in bytes before it is cut.
    #[must_use]
    pub const fn mac_len(self) -> usize {
        match self {
            Self::Hmac(hash) => hash.digest_len(),
            Self::CmacTdes => 8,
            _ => 16,
        }
    }

    /// Whether a key of `len` bytes is valid. HMAC takes any, even none.
    #[must_use]
    pub const fn accepts_key_len(self, len: usize) -> bool {
        match self {
            Self::Hmac(_) => true,
            Self::CmacAes | Self::CbcMacAes | Self::GmacAes => matches!(len, 16 | 24 | 32),
            Self::CmacTdes => matches!(len, 16 | 24),
            Self::XcbcAes => len == 16,
        }
    }

    /// Whether an IV of `len` bytes is valid. Only GMAC has one, of any length but 0.
    #[must_use]
    pub const fn accepts_iv_len(self, len: usize) -> bool {
        match self {
            Self::GmacAes => len > 0,
            _ => len == 0,
        }
    }
}

/// A prepared MAC key, made once per session and used for any number of requests.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    schedule: Schedule,
}

#[derive(Clone)]
enum Schedule {
    /// Both hashers have absorbed their padded key.
    Hmac {
        inner: Box<hash::Hasher>,
        outer: Box<hash::Hasher>,
    },
    Block(Arc<BlockMac>),
    Gmac(Arc<Gcm>),
}

impl Key {
    /// Prepares `key`.
    ///
    /// # Errors
    /// [`Error::InvalidKeyLength`]; [`Error::Unsupported`] for HMAC over SHAKE.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        if !algorithm.accepts_key_len(key.len()) {
            return Err(Error::InvalidKeyLength(key.len()));
        }
        let schedule = match algorithm {
            Algorithm::Hmac(hash) => return Self::hmac(hash, key),
            Algorithm::CmacAes => Schedule::Block(Arc::new(BlockMac::cmac_aes(key)?)),
            Algorithm::CmacTdes => Schedule::Block(Arc::new(BlockMac::cmac_tdes(key)?)),
            Algorithm::CbcMacAes => Schedule::Block(Arc::new(BlockMac::cbc_mac_aes(key)?)),
            Algorithm::XcbcAes => Schedule::Block(Arc::new(BlockMac::xcbc_aes(key)?)),
            Algorithm::GmacAes => Schedule::Gmac(Arc::new(Gcm::new(key)?)),
        };
        Ok(Self { algorithm, schedule })
    }

    fn hmac(hash: hash::Algorithm, key: &[u8]) -> Result<Self, Error> {
        let mut block = [0; hash::MAX_BLOCK_LEN];
        let block = block.get_mut(..hash.block_len()).ok_or(Error::Unsupported)?;
        let key_len = if key.len() > block.len() { hash.digest_len() } else { key.len() };
        let start = block.get_mut(..key_len).ok_or(Error::Unsupported)?;
        if key.len() > key_len {
            hash::digest(hash, key, start)?;
        } else {
            start.copy_from_slice(key);
        }
        let mut padded = |pad: u8| {
            let mut hasher = hash::Hasher::new(hash);
            block.iter_mut().for_each(|byte| *byte ^= pad);
            hasher.update(block);
            block.iter_mut().for_each(|byte| *byte ^= pad);
            hasher
        };
        let (inner, outer) = (padded(0x36), padded(0x5c));
        Self::hmac_from_states(inner, outer)
    }

    /// Makes an HMAC key from hashers that have already absorbed the inner and the outer padded
    /// key, for devices whose drivers load precomputed states (see [`hash::Hasher::resume`]).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the two hashers differ in their algorithm or HMAC is not defined
    /// over it.
    pub fn hmac_from_states(inner: hash::Hasher, outer: hash::Hasher) -> Result<Self, Error> {
        let hash = inner.algorithm();
        if hash.is_xof() || outer.algorithm() != hash {
            return Err(Error::Unsupported);
        }
        Ok(Self {
            algorithm: Algorithm::Hmac(hash),
            schedule: Schedule::Hmac { inner: Box::new(inner), outer: Box::new(outer) },
        })
    }

    /// The algorithm this key was made for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Starts one MAC. `iv` is empty for all algorithms but GMAC.
    ///
    /// # Errors
    /// [`Error::InvalidIvLength`].
    pub fn start(&self, iv: &[u8]) -> Result<Stream<'_>, Error> {
        if !self.algorithm.accepts_iv_len(iv.len()) {
            return Err(Error::InvalidIvLength(iv.len()));
        }
        let state = match &self.schedule {
            Schedule::Hmac { inner, outer } => {
                State::Hmac { inner: (**inner).clone(), outer: outer.as_ref() }
            }
            Schedule::Block(mac) => State::Block(mac.start()?),
            Schedule::Gmac(gcm) => State::Gmac(gcm.start(Nonce::Bytes(iv))?),
        };
        Ok(Stream { algorithm: self.algorithm, state })
    }

    /// Writes the MAC of `data`, or its leading bytes if `out` is shorter.
    ///
    /// # Errors
    /// As [`Key::start`] and [`Stream::finish`].
    pub fn mac(&self, iv: &[u8], data: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let mut stream = self.start(iv)?;
        stream.update(data)?;
        stream.finish(out)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// One MAC in progress.
pub struct Stream<'k> {
    algorithm: Algorithm,
    state: State<'k>,
}

enum State<'k> {
    Hmac { inner: hash::Hasher, outer: &'k hash::Hasher },
    Block(BlockStream<'k>),
    Gmac(gcm::Stream),
}

impl Stream<'_> {
    /// Takes the next bytes, any number of them.
    ///
    /// # Errors
    /// [`Error::InvalidLength`] if the message outgrows the algorithm (GMAC: 2^61 - 1 bytes).
    pub fn update(&mut self, data: &[u8]) -> Result<(), Error> {
        match &mut self.state {
            State::Hmac { inner, .. } => {
                inner.update(data);
                Ok(())
            }
            State::Block(stream) => stream.update(data),
            State::Gmac(stream) => stream.authenticate(data),
        }
    }

    /// Writes the MAC, or its leading bytes if `out` is shorter.
    ///
    /// # Errors
    /// [`Error::InvalidOutputLength`] if `out` is empty or longer than [`Algorithm::mac_len`].
    pub fn finish(self, out: &mut [u8]) -> Result<(), Error> {
        if out.is_empty() || out.len() > self.algorithm.mac_len() {
            return Err(Error::InvalidOutputLength(out.len()));
        }
        let mut mac = [0; MAX_MAC_LEN];
        match self.state {
            State::Hmac { inner, outer } => {
                let digest = mac.get_mut(..self.algorithm.mac_len()).unwrap_or_default();
                inner.finish(digest)?;
                let mut outer = outer.clone();
                outer.update(digest);
                outer.finish(digest)?;
            }
            State::Block(stream) => stream.finish(&mut mac)?,
            State::Gmac(stream) => stream.finish(&mut mac),
        }
        for (to, from) in out.iter_mut().zip(mac) {
            *to = from;
        }
        Ok(())
    }

    /// Compares the MAC with `expected`, which may be cut short.
    ///
    /// # Errors
    /// [`Error::TagMismatch`]; [`Error::InvalidOutputLength`] as [`Stream::finish`].
    pub fn verify(self, expected: &[u8]) -> Result<(), Error> {
        let mut mac = [0; MAX_MAC_LEN];
        let mac =
            mac.get_mut(..expected.len()).ok_or(Error::InvalidOutputLength(expected.len()))?;
        self.finish(mac)?;
        if bool::from(mac.ct_eq(expected)) { Ok(()) } else { Err(Error::TagMismatch) }
    }
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
