//! The ciphers and MACs of 3GPP's radio: SNOW 3G (UEA2, UIA2), ZUC (EEA3, EIA3), KASUMI (F8, F9).
//!
//! No maintained crate has any of them. Written from ETSI/SAGE's documents for UEA2 and UIA2
//! (version 2.1) and for EEA3 and EIA3 (version 1.7), and from 3GPP TS 35.201 and 35.202.
//!
//! Keys are 16 bytes. Data is whole bytes, though the documents count bits. How counters, bearers
//! and directions become an IV is for the caller: here IVs are as the generators take them.

mod kasumi;
mod snow_3g;
mod zuc;

use crate::Error;

/// A cipher. Encryption and decryption are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// SNOW 3G UEA2: a key of 16 bytes, an IV of 16.
    Snow3g,
    /// ZUC EEA3: a key of 16 bytes, an IV of 16.
    Zuc,
    /// KASUMI F8: the key and the key with its modifier (32 bytes), an IV of 8.
    Kasumi,
}

/// A MAC of 4 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mac {
    /// SNOW 3G UIA2: a key of 16 bytes, an IV of 16.
    Snow3g,
    /// ZUC EIA3: a key of 16 bytes, an IV of 16.
    Zuc,
    /// KASUMI F9: the key and the key with its modifier (32 bytes), no IV. The data begins with
    /// counter and nonce, ends with direction and padding, and has whole blocks of 8 bytes.
    Kasumi,
}

/// Bytes of any MAC here.
pub const MAC_LEN: usize = 4;

impl Cipher {
    /// Length of the key in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Snow3g | Self::Zuc => 16,
            Self::Kasumi => 32,
        }
    }

    /// Length of the IV in bytes.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        match self {
            Self::Snow3g | Self::Zuc => 16,
            Self::Kasumi => 8,
        }
    }

    /// Encrypts or decrypts in place. On errors `data` is unchanged.
    ///
    /// # Errors
    /// [`Error::InvalidKeyLength`], [`Error::InvalidIvLength`].
    pub fn apply(self, key: &[u8], iv: &[u8], data: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::Snow3g => {
                let mut generator = snow_3g::Generator::new(array(key)?, iv_of(iv)?);
                add(data, || generator.word().to_be_bytes());
            }
            Self::Zuc => {
                let mut generator = zuc::Generator::new(array(key)?, iv_of(iv)?);
                add(data, || generator.word().to_be_bytes());
            }
            Self::Kasumi => {
                let (key, modified) = key_pair(key)?;
                let iv = iv.try_into().map_err(|_| Error::InvalidIvLength(iv.len()))?;
                let mut generator = kasumi::Generator::new(key, modified, u64::from_be_bytes(iv));
                add(data, || generator.block().to_be_bytes());
            }
        }
        Ok(())
    }
}

impl Mac {
    /// Length of the key in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Snow3g | Self::Zuc => 16,
            Self::Kasumi => 32,
        }
    }

    /// Length of the IV in bytes.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        match self {
            Self::Snow3g | Self::Zuc => 16,
            Self::Kasumi => 0,
        }
    }

    /// The MAC of `data`.
    ///
    /// # Errors
    /// [`Error::InvalidKeyLength`], [`Error::InvalidIvLength`].
    pub fn compute(self, key: &[u8], iv: &[u8], data: &[u8]) -> Result<[u8; MAC_LEN], Error> {
        let mac = match self {
            Self::Snow3g => snow_3g::mac(array(key)?, iv_of(iv)?, data),
            Self::Zuc => zuc::mac(array(key)?, iv_of(iv)?, data),
            Self::Kasumi => {
                let (key, modified) = key_pair(key)?;
                if !iv.is_empty() {
                    return Err(Error::InvalidIvLength(iv.len()));
                }
                // What does not fill a block is filled up with zeros, as DPDK's tests have it.
                let (blocks, rest) = data.as_chunks();
                let mut last = [0; 8];
                last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                let last = (!rest.is_empty()).then_some(last);
                kasumi::mac(key, modified, blocks.iter().copied().chain(last))
            }
        };
        Ok(mac.to_be_bytes())
    }
}

fn array(key: &[u8]) -> Result<&[u8; 16], Error> {
    key.try_into().map_err(|_| Error::InvalidKeyLength(key.len()))
}

fn iv_of(iv: &[u8]) -> Result<&[u8; 16], Error> {
    iv.try_into().map_err(|_| Error::InvalidIvLength(iv.len()))
}

fn key_pair(keys: &[u8]) -> Result<(&[u8; 16], &[u8; 16]), Error> {
    let (key, modified) = keys.split_at_checked(16).ok_or(Error::InvalidKeyLength(keys.len()))?;
    Ok((array(key)?, array(modified)?))
}

/// Adds a key stream, which comes in pieces.
fn add<const N: usize>(data: &mut [u8], mut stream: impl FnMut() -> [u8; N]) {
    for piece in data.chunks_mut(N) {
        piece.iter_mut().zip(stream()).for_each(|(byte, key)| *byte ^= key);
    }
}

/// The words of a key or an IV, most significant byte first.
fn words(bytes: &[u8; 16]) -> [u32; 4] {
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|at| words.get(at).map_or(0, |word| u32::from_be_bytes(*word)))
}

#[cfg(test)]
mod tests;
