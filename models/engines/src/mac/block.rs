//! MACs that are the last block of a CBC encryption: CMAC, XCBC and plain CBC-MAC.

use super::MAX_MAC_LEN;
use crate::Error;
use crate::cipher::{self, Direction, MAX_BLOCK_LEN};

type Block = [u8; MAX_BLOCK_LEN];

/// Message bytes encrypted at once. CBC works in place and the message is not ours to change.
const SCRATCH_LEN: usize = 512;

/// A CBC key and what the last block is changed with. 8-byte ciphers use the first half of blocks.
pub(super) struct BlockMac {
    cbc: cipher::Key,
    last: Last,
}

enum Last {
    /// Padded with zeros.
    Plain,
    /// Mixed with the first subkey if whole; else padded with a one bit and mixed with the second.
    Masked { whole: Block, padded: Block },
}

impl BlockMac {
    pub(super) fn cbc_mac_aes(key: &[u8]) -> Result<Self, Error> {
        Ok(Self { cbc: cipher::Key::new(cipher::Algorithm::AesCbc, key)?, last: Last::Plain })
    }

    /// SP 800-38B §6.1 with the constant of 128-bit blocks.
    pub(super) fn cmac_aes(key: &[u8]) -> Result<Self, Error> {
        let double = |block: Block| {
            let value = u128::from_be_bytes(block);
            ((value << 1) ^ if value >> 127 == 1 { 0x87 } else { 0 }).to_be_bytes()
        };
        Self::cmac(cipher::Key::new(cipher::Algorithm::AesCbc, key)?, double)
    }

    /// SP 800-38B §6.1 with the constant of 64-bit blocks, which are the upper half here.
    pub(super) fn cmac_tdes(key: &[u8]) -> Result<Self, Error> {
        let double = |block: Block| {
            let value = u128::from_be_bytes(block);
            ((value << 1) ^ if value >> 127 == 1 { 0x1b << 64 } else { 0 }).to_be_bytes()
        };
        Self::cmac(cipher::Key::new(cipher::Algorithm::TdesCbc, key)?, double)
    }

    fn cmac(cbc: cipher::Key, double: impl Fn(Block) -> Block) -> Result<Self, Error> {
        let whole = double(encrypt(&cbc, [0; MAX_BLOCK_LEN])?);
        Ok(Self { last: Last::Masked { whole, padded: double(whole) }, cbc })
    }

    /// RFC 3566 §4: three keys, encryptions of constant blocks.
    pub(super) fn xcbc_aes(key: &[u8]) -> Result<Self, Error> {
        let base = cipher::Key::new(cipher::Algorithm::AesCbc, key)?;
        let derived = |byte| encrypt(&base, [byte; MAX_BLOCK_LEN]);
        Ok(Self {
            cbc: cipher::Key::new(cipher::Algorithm::AesCbc, &derived(1)?)?,
            last: Last::Masked { whole: derived(2)?, padded: derived(3)? },
        })
    }

    pub(super) fn start(&self) -> Result<BlockStream<'_>, Error> {
        Ok(BlockStream { mac: self, cbc: start(&self.cbc)?, held: [0; MAX_BLOCK_LEN], held_len: 0 })
    }
}

/// Starts CBC with a zero IV.
fn start(cbc: &cipher::Key) -> Result<cipher::Stream<'_>, Error> {
    let iv = [0; MAX_BLOCK_LEN];
    cbc.start(Direction::Encrypt, iv.get(..cbc.algorithm().iv_len()).unwrap_or_default())
}

/// Encrypts one block; of an 8-byte cipher the first half is meaningful.
fn encrypt(cbc: &cipher::Key, mut block: Block) -> Result<Block, Error> {
    let len = cbc.algorithm().block_len();
    start(cbc)?.update(block.get_mut(..len).unwrap_or_default())?;
    // The other half must be zero for the arithmetic of subkeys.
    block.get_mut(len..).unwrap_or_default().fill(0);
    Ok(block)
}

pub(super) struct BlockStream<'k> {
    mac: &'k BlockMac,
    cbc: cipher::Stream<'k>,
    /// The last block, or part of one, which waits for what follows it.
    held: Block,
    held_len: usize,
}

impl BlockStream<'_> {
    fn block_len(&self) -> usize {
        self.mac.cbc.algorithm().block_len()
    }

    pub(super) fn update(&mut self, mut data: &[u8]) -> Result<(), Error> {
        let block_len = self.block_len();
        while !data.is_empty() {
            if self.held_len == block_len {
                // More follows, so the held block is not the last; take those like it along.
                let mut scratch = [0; SCRATCH_LEN];
                let more = (data.len() - 1) / block_len * block_len;
                let more = more.min(SCRATCH_LEN - block_len);
                let (whole, rest) = data.split_at(more);
                for (to, from) in scratch.iter_mut().zip(self.held.iter().take(block_len)) {
                    *to = *from;
                }
                for (to, from) in scratch.iter_mut().skip(block_len).zip(whole) {
                    *to = *from;
                }
                self.cbc.update(scratch.get_mut(..block_len + more).unwrap_or_default())?;
                self.held_len = 0;
                data = rest;
            }
            let room = self.held.get_mut(self.held_len..block_len).unwrap_or_default();
            let (taken, rest) = data.split_at(data.len().min(room.len()));
            for (to, from) in room.iter_mut().zip(taken) {
                *to = *from;
            }
            self.held_len += taken.len();
            data = rest;
        }
        Ok(())
    }

    /// Writes the MAC to the start of `out`.
    pub(super) fn finish(mut self, out: &mut [u8; MAX_MAC_LEN]) -> Result<(), Error> {
        let block_len = self.block_len();
        self.held.get_mut(self.held_len..).unwrap_or_default().fill(0);
        match &self.mac.last {
            // An empty message has no block; its MAC is the IV.
            Last::Plain if self.held_len == 0 => return Ok(()),
            Last::Plain => {}
            Last::Masked { whole, .. } if self.held_len == block_len => {
                xor(&mut self.held, whole);
            }
            Last::Masked { padded, .. } => {
                if let Some(byte) = self.held.get_mut(self.held_len) {
                    *byte = 0x80;
                }
                xor(&mut self.held, padded);
            }
        }
        let last = self.held.get_mut(..block_len).unwrap_or_default();
        self.cbc.update(last)?;
        for (to, from) in out.iter_mut().zip(last) {
            *to = *from;
        }
        Ok(())
    }
}

fn xor(block: &mut Block, mask: &Block) {
    for (byte, mask) in block.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}
