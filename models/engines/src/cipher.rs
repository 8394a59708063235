//! Symmetric ciphers without authentication.

mod aes;
mod modes;

use std::fmt;
use std::sync::Arc;

use ::aes::{Aes128, Aes192, Aes256};
use ::cipher::{KeyInit, StreamCipher};
use ctr::flavors::{Ctr64BE, Ctr128BE};
use des::{Des, TdesEde2, TdesEde3};
use rc4::Rc4;
use sm4::Sm4;

use crate::Error;
use aes::{AesCbc, AesCtr};
use modes::{Cbc, Ctr, Ecb, Mode, Xts};

/// The largest block of any cipher here, in bytes.
pub const MAX_BLOCK_LEN: usize = 16;

/// A cipher and its mode of operation.
///
/// Names follow the field: `Tdes` is 3DES in its EDE form (SP 800-67).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// AES-128, -192 or -256 in ECB mode (FIPS 197, SP 800-38A §6.1).
    AesEcb,
    /// AES-128, -192 or -256 in CBC mode (SP 800-38A §6.2).
    AesCbc,
    /// AES-128, -192 or -256 in CTR mode (SP 800-38A §6.5) with a 128-bit big-endian counter.
    AesCtr,
    /// XTS-AES-128 or -256 (IEEE 1619, SP 800-38E), with ciphertext stealing. AES-192 works alike,
    /// though the standard does not name it.
    AesXts,
    /// SM4 in ECB mode (GB/T 32907).
    Sm4Ecb,
    /// SM4 in CBC mode.
    Sm4Cbc,
    /// SM4 in CTR mode with a 128-bit big-endian counter.
    Sm4Ctr,
    /// SM4 in XTS mode with the tweak arithmetic of IEEE 1619 (not that of GB/T 17964).
    Sm4Xts,
    /// Single DES in ECB mode.
    DesEcb,
    /// Single DES in CBC mode.
    DesCbc,
    /// 3DES with two or three keys in ECB mode.
    TdesEcb,
    /// 3DES with two or three keys in CBC mode.
    TdesCbc,
    /// 3DES with two or three keys in CTR mode with a 64-bit big-endian counter.
    TdesCtr,
    /// The ARC4 stream cipher.
    Arc4,
}

impl Algorithm {
    /// Every algorithm of this module.
    pub const ALL: [Self; 14] = [
        Self::AesEcb,
        Self::AesCbc,
        Self::AesCtr,
        Self::AesXts,
        Self::Sm4Ecb,
        Self::Sm4Cbc,
        Self::Sm4Ctr,
        Self::Sm4Xts,
        Self::DesEcb,
        Self::DesCbc,
        Self::TdesEcb,
        Self::TdesCbc,
        Self::TdesCtr,
        Self::Arc4,
    ];

    /// The block in bytes: chunks given to [`Stream::update`] are multiples of it.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::Arc4 => 1,
            Self::DesEcb | Self::DesCbc | Self::TdesEcb | Self::TdesCbc | Self::TdesCtr => 8,
            _ => 16,
        }
    }

    /// The length of the initialisation vector, counter block or tweak in bytes; 0 if none.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        match self {
            Self::AesEcb | Self::Sm4Ecb | Self::DesEcb | Self::TdesEcb | Self::Arc4 => 0,
            _ => self.block_len(),
        }
    }

    /// Whether a key of `len` bytes is valid.
    #[must_use]
    pub const fn accepts_key_len(self, len: usize) -> bool {
        match self {
            Self::AesEcb | Self::AesCbc | Self::AesCtr => matches!(len, 16 | 24 | 32),
            Self::AesXts => matches!(len, 32 | 48 | 64),
            Self::Sm4Ecb | Self::Sm4Cbc | Self::Sm4Ctr => len == 16,
            Self::Sm4Xts => len == 32,
            Self::DesEcb | Self::DesCbc => len == 8,
            Self::TdesEcb | Self::TdesCbc | Self::TdesCtr => matches!(len, 16 | 24),
            Self::Arc4 => matches!(len, 1..=256),
        }
    }

    /// The longest valid key in bytes.
    #[must_use]
    pub const fn max_key_len(self) -> usize {
        match self {
            Self::AesEcb | Self::AesCbc | Self::AesCtr | Self::Sm4Xts => 32,
            Self::AesXts => 64,
            Self::Sm4Ecb | Self::Sm4Cbc | Self::Sm4Ctr => 16,
            Self::DesEcb | Self::DesCbc => 8,
            Self::TdesEcb | Self::TdesCbc | Self::TdesCtr => 24,
            Self::Arc4 => 256,
        }
    }

    /// Whether a request of `len` bytes in total is valid.
    #[must_use]
    pub const fn accepts_len(self, len: usize) -> bool {
        match self {
            Self::AesCtr | Self::Sm4Ctr | Self::TdesCtr | Self::Arc4 => true,
            Self::AesXts | Self::Sm4Xts => len >= 16,
            _ => len.is_multiple_of(self.block_len()),
        }
    }

    /// How many of the last bytes of a request of `len` bytes must be kept together for
    /// [`Stream::finish`]; the bytes before them go through [`Stream::update`] in chunks of whole
    /// blocks. It is 0 for whole blocks, and less than two blocks otherwise.
    #[must_use]
    pub const fn final_len(self, len: usize) -> usize {
        let rest = len % self.block_len();
        match self {
            // Stealing needs the last whole block together with the rest.
            Self::AesXts | Self::Sm4Xts if rest > 0 && len > 16 => 16 + rest,
            _ => rest,
        }
    }
}

/// Which way a cipher runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Plaintext to ciphertext.
    Encrypt,
    /// Ciphertext to plaintext.
    Decrypt,
}

/// An expanded key, made once per session and used for any number of requests.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    schedule: Schedule,
}

#[derive(Clone)]
enum Schedule {
    Blocks(Arc<dyn Mode>),
    /// ARC4 has no key schedule apart from its state, so a request starts from the key.
    Arc4(Arc<[u8]>),
}

impl Key {
    /// Expands `key`. XTS takes the data key followed by the tweak key; they may be equal
    /// (rejecting that is a policy of SP 800-38E implementations, not of the algorithm). Parity
    /// bits of DES keys are ignored and weak keys work.
    ///
    /// # Errors
    /// [`Error::InvalidKeyLength`].
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        if !algorithm.accepts_key_len(key.len()) {
            return Err(Error::InvalidKeyLength(key.len()));
        }
        let schedule = match algorithm {
            Algorithm::AesEcb => match key.len() {
                16 => blocks(Ecb(expand::<Aes128>(key)?)),
                24 => blocks(Ecb(expand::<Aes192>(key)?)),
                _ => blocks(Ecb(expand::<Aes256>(key)?)),
            },
            Algorithm::AesCbc => blocks(AesCbc::new(key)?),
            Algorithm::AesCtr => blocks(AesCtr::new(key)?),
            Algorithm::AesXts => match key.len() {
                32 => xts::<Aes128>(key)?,
                48 => xts::<Aes192>(key)?,
                _ => xts::<Aes256>(key)?,
            },
            Algorithm::Sm4Ecb => blocks(Ecb(expand::<Sm4>(key)?)),
            Algorithm::Sm4Cbc => blocks(Cbc(expand::<Sm4>(key)?)),
            Algorithm::Sm4Ctr => blocks(Ctr::<_, Ctr128BE>::new(expand::<Sm4>(key)?)),
            Algorithm::Sm4Xts => xts::<Sm4>(key)?,
            Algorithm::DesEcb => blocks(Ecb(expand::<Des>(key)?)),
            Algorithm::DesCbc => blocks(Cbc(expand::<Des>(key)?)),
            Algorithm::TdesEcb => match key.len() {
                16 => blocks(Ecb(expand::<TdesEde2>(key)?)),
                _ => blocks(Ecb(expand::<TdesEde3>(key)?)),
            },
            Algorithm::TdesCbc => match key.len() {
                16 => blocks(Cbc(expand::<TdesEde2>(key)?)),
                _ => blocks(Cbc(expand::<TdesEde3>(key)?)),
            },
            Algorithm::TdesCtr => match key.len() {
                16 => blocks(Ctr::<_, Ctr64BE>::new(expand::<TdesEde2>(key)?)),
                _ => blocks(Ctr::<_, Ctr64BE>::new(expand::<TdesEde3>(key)?)),
            },
            Algorithm::Arc4 => Schedule::Arc4(key.into()),
        };
        Ok(Self { algorithm, schedule })
    }

    /// The algorithm this key was made for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Starts one request. `iv` is the initialisation vector (CBC), the first counter block
    /// (CTR) or the tweak (XTS), and empty for the others.
    ///
    /// # Errors
    /// [`Error::InvalidIvLength`] if `iv` is not [`Algorithm::iv_len`] long.
    pub fn start(&self, direction: Direction, iv: &[u8]) -> Result<Stream<'_>, Error> {
        if iv.len() != self.algorithm.iv_len() {
            return Err(Error::InvalidIvLength(iv.len()));
        }
        let state = match &self.schedule {
            Schedule::Blocks(mode) => {
                let mut chain = [0; MAX_BLOCK_LEN];
                for (to, from) in chain.iter_mut().zip(iv) {
                    *to = *from;
                }
                mode.start(&mut chain);
                State::Blocks { mode: mode.as_ref(), direction, chain }
            }
            Schedule::Arc4(key) => State::Arc4(
                Rc4::new_from_slice(key).map_err(|_| Error::InvalidKeyLength(key.len()))?,
            ),
        };
        Ok(Stream { algorithm: self.algorithm, state, started: false })
    }

    /// Runs a whole request over `data` in place and returns the chained IV (see [`Stream::iv`]).
    ///
    /// # Errors
    /// As [`Key::start`] and [`Stream::finish`].
    pub fn apply(&self, direction: Direction, iv: &[u8], data: &mut [u8]) -> Result<Iv, Error> {
        self.start(direction, iv)?.finish(data)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn expand<C: KeyInit>(key: &[u8]) -> Result<C, Error> {
    C::new_from_slice(key).map_err(|_| Error::InvalidKeyLength(key.len()))
}

fn blocks(mode: impl Mode + 'static) -> Schedule {
    Schedule::Blocks(Arc::new(mode))
}

fn xts<C>(key: &[u8]) -> Result<Schedule, Error>
where
    C: KeyInit,
    Xts<C>: Mode + 'static,
{
    let (data, tweak) = key.split_at(key.len() / 2);
    Ok(blocks(Xts { data: expand::<C>(data)?, tweak: expand::<C>(tweak)? }))
}

/// One request in progress: any number of [`update`](Stream::update)s, then one
/// [`finish`](Stream::finish).
pub struct Stream<'k> {
    algorithm: Algorithm,
    state: State<'k>,
    started: bool,
}

#[expect(clippy::large_enum_variant, reason = "boxing ARC4's state would allocate per request")]
enum State<'k> {
    Blocks { mode: &'k dyn Mode, direction: Direction, chain: [u8; MAX_BLOCK_LEN] },
    Arc4(Rc4),
}

impl Stream<'_> {
    /// Transforms the next chunk in place.
    ///
    /// # Errors
    /// [`Error::InvalidLength`] if `data` is not a multiple of [`Algorithm::block_len`]; nothing
    /// is changed then.
    pub fn update(&mut self, data: &mut [u8]) -> Result<(), Error> {
        if !data.len().is_multiple_of(self.algorithm.block_len()) {
            return Err(Error::InvalidLength(data.len()));
        }
        self.started |= !data.is_empty();
        match &mut self.state {
            State::Blocks { mode, direction, chain } => mode.blocks(*direction, chain, data),
            State::Arc4(rc4) => {
                rc4.apply_keystream(data);
                Ok(())
            }
        }
    }

    /// Transforms the last chunk in place: at least [`Algorithm::final_len`] bytes of the request,
    /// possibly all of it, possibly none. Returns the chained IV.
    ///
    /// # Errors
    /// [`Error::InvalidLength`] if the request cannot end so (part of a block in ECB or CBC, or in
    /// XTS without the whole block before it); nothing is changed then.
    pub fn finish(mut self, data: &mut [u8]) -> Result<Iv, Error> {
        // An XTS data unit holds at least one block (IEEE 1619-2018 §5.1).
        let ends = if self.started && data.is_empty() {
            true
        } else {
            self.algorithm.accepts_len(data.len())
        };
        if !ends {
            return Err(Error::InvalidLength(data.len()));
        }
        let (whole, tail) = data.split_at_mut(data.len() - self.algorithm.final_len(data.len()));
        self.update(whole)?;
        if let State::Blocks { mode, direction, chain } = &mut self.state
            && !tail.is_empty()
        {
            mode.tail(*direction, chain, tail)?;
        }
        Ok(self.iv())
    }

    /// The IV with which another request would continue after the bytes so far: the last
    /// ciphertext block (CBC) or the next counter block (CTR). Empty for ECB, XTS and ARC4, which
    /// have none.
    #[must_use]
    pub fn iv(&self) -> Iv {
        let len = match self.algorithm {
            Algorithm::AesXts | Algorithm::Sm4Xts => 0,
            other => other.iv_len(),
        };
        match &self.state {
            State::Blocks { chain, .. } => Iv { bytes: *chain, len },
            State::Arc4(_) => Iv { bytes: [0; MAX_BLOCK_LEN], len: 0 },
        }
    }
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A chained IV of 0, 8 or 16 bytes; dereferences to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iv {
    bytes: [u8; MAX_BLOCK_LEN],
    len: usize,
}

impl std::ops::Deref for Iv {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
