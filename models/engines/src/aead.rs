//! Authenticated encryption with associated data.

mod ccm;
pub(crate) mod gcm;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{self as aws, Aad, LessSafeKey, UnboundKey};

use crate::Error;
use ccm::Ccm;
use gcm::Gcm;

/// The longest tag, in bytes.
pub const MAX_TAG_LEN: usize = 16;

/// A cipher with authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// GCM with AES-128, -192 or -256 (SP 800-38D).
    AesGcm,
    /// CCM with AES-128, -192 or -256 (SP 800-38C).
    AesCcm,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305,
}

impl Algorithm {
    /// Every algorithm of this module.
    pub const ALL: [Self; 3] = [Self::AesGcm, Self::AesCcm, Self::ChaCha20Poly1305];

    /// Whether a key of `len` bytes is valid.
    #[must_use]
    pub const fn accepts_key_len(self, len: usize) -> bool {
        match self {
            Self::AesGcm | Self::AesCcm => matches!(len, 16 | 24 | 32),
            Self::ChaCha20Poly1305 => len == 32,
        }
    }

    /// Whether a nonce of `len` bytes is valid.
    #[must_use]
    pub const fn accepts_nonce_len(self, len: usize) -> bool {
        match self {
            Self::AesGcm => len > 0,
            Self::AesCcm => matches!(len, 7..=13),
            Self::ChaCha20Poly1305 => len == 12,
        }
    }

    /// Whether a tag of `len` bytes is valid (SP 800-38D §5.2.1.2, SP 800-38C A.1, RFC 8439 §2.8).
    #[must_use]
    pub const fn accepts_tag_len(self, len: usize) -> bool {
        match self {
            Self::AesGcm => matches!(len, 4 | 8 | 12..=16),
            Self::AesCcm => matches!(len, 4 | 6 | 8 | 10 | 12 | 14 | 16),
            Self::ChaCha20Poly1305 => len == 16,
        }
    }
}

/// The value that makes a message unique under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonce<'a> {
    /// The nonce or initialisation vector itself.
    Bytes(&'a [u8]),
    /// GCM only: the pre-counter block J0 of SP 800-38D §7.1, ready made (virtio 1.3 §5.9.7.7).
    J0(&'a [u8; 16]),
}

impl Nonce<'_> {
    /// The nonce as bytes, for algorithms that know no J0.
    fn bytes(&self) -> Result<&[u8], Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::J0(_) => Err(Error::Unsupported),
        }
    }
}

/// A prepared key, made once per session and used for any number of requests.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    schedule: Schedule,
}

#[derive(Clone)]
enum Schedule {
    /// aws-lc handles the nonces and tags that everybody uses, four times as fast.
    Gcm(Arc<(LessSafeKey, Gcm)>),
    Ccm(Arc<Ccm>),
    ChaCha20Poly1305(Arc<LessSafeKey>),
}

impl Key {
    /// Prepares `key`.
    ///
    /// # Errors
    /// [`Error::InvalidKeyLength`].
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        let schedule = match (algorithm, key.len()) {
            (Algorithm::AesGcm, 16) => gcm(&aws::AES_128_GCM, key)?,
            (Algorithm::AesGcm, 24) => gcm(&aws::AES_192_GCM, key)?,
            (Algorithm::AesGcm, 32) => gcm(&aws::AES_256_GCM, key)?,
            (Algorithm::AesCcm, 16 | 24 | 32) => Schedule::Ccm(Arc::new(Ccm::new(key)?)),
            (Algorithm::ChaCha20Poly1305, 32) => {
                Schedule::ChaCha20Poly1305(Arc::new(fast(&aws::CHACHA20_POLY1305, key)?))
            }
            _ => return Err(Error::InvalidKeyLength(key.len())),
        };
        Ok(Self { algorithm, schedule })
    }

    /// The algorithm this key was made for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Encrypts `data` in place and fills `tag`, whose length is the tag length asked for. On errors
    /// `data` is unchanged.
    ///
    /// # Errors
    /// [`Error::InvalidOutputLength`] for the tag, [`Error::InvalidIvLength`] for the nonce,
    /// [`Error::InvalidLength`] if `data` is longer than the algorithm or its nonce length allows,
    /// [`Error::Unsupported`] for [`Nonce::J0`] with anything but GCM.
    pub fn encrypt(
        &self,
        nonce: Nonce<'_>,
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), Error> {
        self.check(nonce, tag.len())?;
        match &self.schedule {
            Schedule::Gcm(keys) => match gcm_nonce(nonce) {
                Some(nonce) => seal(&keys.0, nonce, aad, data, tag),
                None => keys.1.encrypt(nonce, aad, data, tag),
            },
            Schedule::Ccm(ccm) => ccm.encrypt(nonce.bytes()?, aad, data, tag),
            Schedule::ChaCha20Poly1305(key) => seal(key, aws_nonce(&nonce)?, aad, data, tag),
        }
    }

    /// Checks `tag` and decrypts `data` in place. On a mismatch `data` is zeroed, so that nothing
    /// unauthenticated can leak; on other errors it is unchanged.
    ///
    /// # Errors
    /// [`Error::TagMismatch`], or as [`Key::encrypt`].
    pub fn decrypt(
        &self,
        nonce: Nonce<'_>,
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Error> {
        self.check(nonce, tag.len())?;
        let result = match &self.schedule {
            Schedule::Gcm(keys) => match gcm_nonce(nonce) {
                Some(nonce) if tag.len() == MAX_TAG_LEN => open(&keys.0, nonce, aad, data, tag),
                _ => keys.1.decrypt(nonce, aad, data, tag),
            },
            Schedule::Ccm(ccm) => ccm.decrypt(nonce.bytes()?, aad, data, tag),
            Schedule::ChaCha20Poly1305(key) => open(key, aws_nonce(&nonce)?, aad, data, tag),
        };
        if result == Err(Error::TagMismatch) {
            data.fill(0);
        }
        result
    }

    fn check(&self, nonce: Nonce<'_>, tag_len: usize) -> Result<(), Error> {
        if !self.algorithm.accepts_tag_len(tag_len) {
            return Err(Error::InvalidOutputLength(tag_len));
        }
        match nonce {
            Nonce::Bytes(bytes) if !self.algorithm.accepts_nonce_len(bytes.len()) => {
                Err(Error::InvalidIvLength(bytes.len()))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn fast(algorithm: &'static aws::Algorithm, key: &[u8]) -> Result<LessSafeKey, Error> {
    let key = UnboundKey::new(algorithm, key).map_err(|_| Error::InvalidKeyLength(key.len()))?;
    Ok(LessSafeKey::new(key))
}

fn gcm(algorithm: &'static aws::Algorithm, key: &[u8]) -> Result<Schedule, Error> {
    Ok(Schedule::Gcm(Arc::new((fast(algorithm, key)?, Gcm::new(key)?))))
}

/// The 96-bit nonce, given as such or inside the J0 that stands for it.
fn gcm_nonce(nonce: Nonce<'_>) -> Option<aws::Nonce> {
    match nonce {
        Nonce::Bytes(bytes) => aws::Nonce::try_assume_unique_for_key(bytes).ok(),
        Nonce::J0(block) => match block.split_last_chunk::<4>() {
            Some((nonce, [0, 0, 0, 1])) => aws::Nonce::try_assume_unique_for_key(nonce).ok(),
            _ => None,
        },
    }
}

fn aws_nonce(nonce: &Nonce<'_>) -> Result<aws::Nonce, Error> {
    let bytes = nonce.bytes()?;
    aws::Nonce::try_assume_unique_for_key(bytes).map_err(|_| Error::InvalidIvLength(bytes.len()))
}

fn seal(
    key: &LessSafeKey,
    nonce: aws::Nonce,
    aad: &[u8],
    data: &mut [u8],
    tag: &mut [u8],
) -> Result<(), Error> {
    let len = data.len();
    let full = key
        .seal_in_place_separate_tag(nonce, Aad::from(aad), data)
        .map_err(|_| Error::InvalidLength(len))?;
    for (to, from) in tag.iter_mut().zip(full.as_ref()) {
        *to = *from;
    }
    Ok(())
}

fn open(
    key: &LessSafeKey,
    nonce: aws::Nonce,
    aad: &[u8],
    data: &mut [u8],
    tag: &[u8],
) -> Result<(), Error> {
    key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, data)
        .map(|_| ())
        .map_err(|_| Error::TagMismatch)
}
