//! CCM (SP 800-38C), put together from CBC-MAC and CTR since no crate takes nonce and tag lengths
//! at run time (the `ccm` crate is the oracle of its tests).

use subtle::ConstantTimeEq;

use super::MAX_TAG_LEN;
use crate::cipher::{self, Direction};
use crate::{Error, mac};

type Block = [u8; 16];

pub(super) struct Ccm {
    ctr: cipher::Key,
    mac: mac::Key,
}

impl Ccm {
    pub(super) fn new(key: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            ctr: cipher::Key::new(cipher::Algorithm::AesCtr, key)?,
            mac: mac::Key::new(mac::Algorithm::CbcMacAes, key)?,
        })
    }

    pub(super) fn encrypt(
        &self,
        nonce: &[u8],
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), Error> {
        let mut full = self.cbc_mac(nonce, aad, data, tag.len())?;
        self.counter_mode(nonce, &mut full, data)?;
        for (to, from) in tag.iter_mut().zip(full) {
            *to = from;
        }
        Ok(())
    }

    pub(super) fn decrypt(
        &self,
        nonce: &[u8],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Error> {
        let mut received = [0; MAX_TAG_LEN];
        for (to, from) in received.iter_mut().zip(tag) {
            *to = *from;
        }
        first_block(nonce, aad, data.len(), tag.len())?;
        self.counter_mode(nonce, &mut received, data)?;
        let expected = self.cbc_mac(nonce, aad, data, tag.len())?;
        let received = received.get(..tag.len()).unwrap_or_default();
        let expected = expected.get(..tag.len()).unwrap_or_default();
        if bool::from(received.ct_eq(expected)) { Ok(()) } else { Err(Error::TagMismatch) }
    }

    /// The MAC over the formatted input (SP 800-38C A.2).
    fn cbc_mac(
        &self,
        nonce: &[u8],
        aad: &[u8],
        data: &[u8],
        tag_len: usize,
    ) -> Result<Block, Error> {
        const ZEROS: Block = [0; 16];
        let mut stream = self.mac.start(&[])?;
        stream.update(&first_block(nonce, aad, data.len(), tag_len)?)?;
        let (prefix, prefix_len) = aad_prefix(aad.len())?;
        stream.update(prefix.get(..prefix_len).unwrap_or_default())?;
        stream.update(aad)?;
        let padding = (prefix_len + aad.len()).next_multiple_of(16) - prefix_len - aad.len();
        stream.update(ZEROS.get(..padding).unwrap_or_default())?;
        stream.update(data)?;
        let mut mac = [0; 16];
        stream.finish(&mut mac)?;
        Ok(mac)
    }

    /// Runs counter block 0 over the tag and the following ones over the data (A.3).
    fn counter_mode(&self, nonce: &[u8], tag: &mut Block, data: &mut [u8]) -> Result<(), Error> {
        let mut counter = [0; 16];
        counter[0] = flag(length_len(nonce))?;
        for (to, from) in counter.iter_mut().skip(1).zip(nonce) {
            *to = *from;
        }
        let mut stream = self.ctr.start(Direction::Encrypt, &counter)?;
        stream.update(tag)?;
        stream.finish(data).map(|_| ())
    }
}

/// How many bytes hold the message length, `q` in the standard.
fn length_len(nonce: &[u8]) -> usize {
    15_usize.saturating_sub(nonce.len())
}

/// A length field of the flags byte, which counts from one.
fn flag(len: usize) -> Result<u8, Error> {
    len.checked_sub(1).and_then(|len| u8::try_from(len).ok()).ok_or(Error::InvalidIvLength(len))
}

/// Block B0: flags, nonce and message length (A.2.1).
fn first_block(nonce: &[u8], aad: &[u8], data_len: usize, tag_len: usize) -> Result<Block, Error> {
    let length_len = length_len(nonce);
    let invalid = Error::InvalidLength(data_len);
    let len = u128::try_from(data_len).map_err(|_| invalid)?;
    if len >> (length_len * 8) != 0 {
        return Err(invalid);
    }
    let mut block = len.to_be_bytes();
    block[0] = u8::from(!aad.is_empty()) << 6 | flag(tag_len / 2)? << 3 | flag(length_len)?;
    for (to, from) in block.iter_mut().skip(1).zip(nonce) {
        *to = *from;
    }
    Ok(block)
}

/// What precedes the associated data: its length (A.2.2), and the length of that.
fn aad_prefix(len: usize) -> Result<([u8; 10], usize), Error> {
    let mut prefix = [0; 10];
    let len = u64::try_from(len).map_err(|_| Error::InvalidLength(len))?;
    let [a, b, c, d, e, f, g, h] = len.to_be_bytes();
    let used: &[u8] = match len {
        0 => &[],
        1..0xff00 => &[g, h],
        0xff00..0x1_0000_0000 => &[0xff, 0xfe, e, f, g, h],
        _ => &[0xff, 0xff, a, b, c, d, e, f, g, h],
    };
    for (to, from) in prefix.iter_mut().zip(used) {
        *to = *from;
    }
    Ok((prefix, used.len()))
}
