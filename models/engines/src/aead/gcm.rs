//! GCM and GMAC with any IV, a ready-made J0 and short tags, over CTR of [`crate::cipher`].
//!
//! This is SP 800-38D put together from its parts, since no crate takes IV and tag lengths at run
//! time. The common case (96-bit IV, 128-bit tag) does not come here.

use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;

use super::{MAX_TAG_LEN, Nonce};
use crate::Error;
use crate::cipher::{self, Direction};

type Block = [u8; 16];

/// The longest message in bytes (SP 800-38D §5.2.1.1).
const MAX_DATA_LEN: u64 = (1 << 36) - 32;
/// The longest associated data in bytes.
const MAX_AAD_LEN: u64 = (1 << 61) - 1;

pub(crate) struct Gcm {
    ctr: cipher::Key,
    /// Keyed with H, nothing absorbed.
    ghash: GHash,
}

impl Gcm {
    pub(crate) fn new(key: &[u8]) -> Result<Self, Error> {
        let ctr = cipher::Key::new(cipher::Algorithm::AesCtr, key)?;
        let mut h = [0; 16];
        ctr.apply(Direction::Encrypt, &[0; 16], &mut h)?;
        Ok(Self { ctr, ghash: GHash::new(&h.into()) })
    }

    /// Starts a message.
    pub(crate) fn start(&self, nonce: Nonce<'_>) -> Result<Stream, Error> {
        self.start_at(&self.j0(nonce)?)
    }

    fn start_at(&self, j0: &Block) -> Result<Stream, Error> {
        let mut mask = [0; 16];
        self.ctr.apply(Direction::Encrypt, j0, &mut mask)?;
        Ok(Stream {
            ghash: self.ghash.clone(),
            mask,
            held: [0; 16],
            held_len: 0,
            aad_len: 0,
            data_len: 0,
        })
    }

    /// The pre-counter block (SP 800-38D §7.1 step 2).
    fn j0(&self, nonce: Nonce<'_>) -> Result<Block, Error> {
        let iv = match nonce {
            Nonce::J0(block) => return Ok(*block),
            Nonce::Bytes(iv) => iv,
        };
        if let Ok(iv) = <[u8; 12]>::try_from(iv) {
            let mut block = [0; 16];
            block[..12].copy_from_slice(&iv);
            block[15] = 1;
            return Ok(block);
        }
        let len = u64::try_from(iv.len()).ok().filter(|len| (1..=MAX_AAD_LEN).contains(len));
        let len = len.ok_or(Error::InvalidIvLength(iv.len()))?;
        let mut ghash = self.ghash.clone();
        ghash.update_padded(iv);
        ghash.update(&[u128::from(len * 8).to_be_bytes().into()]);
        Ok(ghash.finalize().0)
    }

    pub(super) fn encrypt(
        &self,
        nonce: Nonce<'_>,
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), Error> {
        let j0 = self.j0(nonce)?;
        let mut stream = self.start_at(&j0)?;
        stream.authenticate(aad)?;
        stream.check_len(data)?;
        self.counter_mode(j0, data)?;
        stream.ciphertext(data);
        let mut full = [0; MAX_TAG_LEN];
        stream.finish(&mut full);
        for (to, from) in tag.iter_mut().zip(full) {
            *to = from;
        }
        Ok(())
    }

    pub(super) fn decrypt(
        &self,
        nonce: Nonce<'_>,
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Error> {
        let j0 = self.j0(nonce)?;
        let mut stream = self.start_at(&j0)?;
        stream.authenticate(aad)?;
        stream.check_len(data)?;
        stream.ciphertext(data);
        let mut full = [0; MAX_TAG_LEN];
        stream.finish(&mut full);
        if !bool::from(full.get(..tag.len()).unwrap_or_default().ct_eq(tag)) {
            return Err(Error::TagMismatch);
        }
        self.counter_mode(j0, data)
    }

    /// Encrypts or decrypts the whole message from the block after J0. GCM counts in the last 32
    /// bits only, so CTR with its 128-bit counter runs from one overflow of these to the next.
    fn counter_mode(&self, j0: Block, mut data: &mut [u8]) -> Result<(), Error> {
        let [prefix @ .., a, b, c, d] = j0;
        let mut count = u32::from_be_bytes([a, b, c, d]).wrapping_add(1);
        while !data.is_empty() {
            let mut counter = [0; 16];
            counter[..12].copy_from_slice(&prefix);
            counter[12..].copy_from_slice(&count.to_be_bytes());
            let until_overflow = ((1 << 32) - u64::from(count)) * 16;
            let run = usize::try_from(until_overflow).unwrap_or(usize::MAX).min(data.len());
            let (now, rest) = data.split_at_mut(run);
            self.ctr.apply(Direction::Encrypt, &counter, now)?;
            data = rest;
            count = 0;
        }
        Ok(())
    }
}

/// A message in progress.
pub(crate) struct Stream {
    ghash: GHash,
    /// The encrypted J0, which hides the tag.
    mask: Block,
    /// Associated data that does not fill a block yet.
    held: Block,
    held_len: usize,
    aad_len: u64,
    data_len: u64,
}

impl Stream {
    /// Takes the next bytes of associated data.
    pub(crate) fn authenticate(&mut self, mut aad: &[u8]) -> Result<(), Error> {
        let invalid = Error::InvalidLength(aad.len());
        let len = u64::try_from(aad.len()).map_err(|_| invalid)?;
        let total = self.aad_len.checked_add(len).filter(|total| *total <= MAX_AAD_LEN);
        self.aad_len = total.ok_or(invalid)?;
        if self.held_len > 0 {
            let room = self.held.get_mut(self.held_len..).unwrap_or_default();
            let (taken, rest) = aad.split_at(aad.len().min(room.len()));
            for (to, from) in room.iter_mut().zip(taken) {
                *to = *from;
            }
            self.held_len += taken.len();
            aad = rest;
            if self.held_len < self.held.len() {
                return Ok(());
            }
            self.ghash.update(&[self.held.into()]);
            self.held_len = 0;
        }
        let (whole, rest) = aad.split_at(aad.len() - aad.len() % self.held.len());
        self.ghash.update_padded(whole);
        for (to, from) in self.held.iter_mut().zip(rest) {
            *to = *from;
        }
        self.held_len = rest.len();
        Ok(())
    }

    /// Authenticates the whole ciphertext, whose length was checked.
    fn ciphertext(&mut self, data: &[u8]) {
        self.pad();
        self.ghash.update_padded(data);
    }

    fn check_len(&mut self, data: &[u8]) -> Result<(), Error> {
        let len = u64::try_from(data.len()).ok().filter(|len| *len <= MAX_DATA_LEN);
        self.data_len = len.ok_or(Error::InvalidLength(data.len()))?;
        Ok(())
    }

    /// Absorbs the last, padded block of associated data.
    fn pad(&mut self) {
        self.ghash.update_padded(self.held.get(..self.held_len).unwrap_or_default());
        self.held_len = 0;
    }

    /// Writes the tag to the start of `out`.
    pub(crate) fn finish(mut self, out: &mut [u8]) {
        self.pad();
        let lengths = u128::from(self.aad_len * 8) << 64 | u128::from(self.data_len * 8);
        self.ghash.update(&[lengths.to_be_bytes().into()]);
        for ((to, hash), mask) in out.iter_mut().zip(self.ghash.finalize()).zip(self.mask) {
            *to = hash ^ mask;
        }
    }
}
