//! Modes of operation over any block cipher.
//!
//! ECB, CBC and CTR come from RustCrypto. XTS is here because no crate runs it in chunks, nor over
//! several blocks at once (`xts-mode` is the oracle of its tests).

use std::marker::PhantomData;

use cipher::array::Array;
use cipher::consts::U16;
use cipher::{
    Block, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt,
    BlockSizeUser, InOutBuf, InnerIvInit, IvState, StreamCipherCore,
};
use ctr::CtrCore;
use ctr::flavors::CtrFlavor;

use super::{Direction, MAX_BLOCK_LEN};
use crate::Error;

/// What a request carries from one chunk to the next; 8-byte ciphers use the first half.
pub(super) type Chain = [u8; MAX_BLOCK_LEN];

/// A keyed mode of operation. Lengths were checked by the caller; the errors only spare panics.
pub(super) trait Mode: Send + Sync {
    /// Turns the IV into the first chaining value.
    fn start(&self, _chain: &mut Chain) {}

    /// Transforms whole blocks.
    fn blocks(&self, direction: Direction, chain: &mut Chain, data: &mut [u8])
    -> Result<(), Error>;

    /// Transforms the last bytes, as many as [`super::Algorithm::final_len`] says (not none).
    fn tail(
        &self,
        _direction: Direction,
        _chain: &mut Chain,
        data: &mut [u8],
    ) -> Result<(), Error> {
        Err(Error::InvalidLength(data.len()))
    }
}

/// Splits off whole blocks; `data` must consist of them.
fn whole<C: BlockSizeUser>(data: &mut [u8]) -> Result<&mut [Block<C>], Error> {
    let len = data.len();
    match Array::slice_as_chunks_mut(data) {
        (blocks, []) => Ok(blocks),
        _ => Err(Error::InvalidLength(len)),
    }
}

/// The part of the chain that a cipher's block covers.
fn part<C: BlockSizeUser>(chain: &mut Chain) -> Result<&mut [u8], Error> {
    let len = C::block_size();
    chain.get_mut(..len).ok_or(Error::InvalidIvLength(len))
}

pub(super) struct Ecb<C>(pub(super) C);

impl<C> Mode for Ecb<C>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + Send + Sync,
{
    fn blocks(&self, direction: Direction, _: &mut Chain, data: &mut [u8]) -> Result<(), Error> {
        let blocks = whole::<C>(data)?;
        match direction {
            Direction::Encrypt => self.0.encrypt_blocks(blocks),
            Direction::Decrypt => self.0.decrypt_blocks(blocks),
        }
        Ok(())
    }
}

pub(super) struct Cbc<C>(pub(super) C);

impl<C> Mode for Cbc<C>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + Send + Sync,
{
    fn blocks(
        &self,
        direction: Direction,
        chain: &mut Chain,
        data: &mut [u8],
    ) -> Result<(), Error> {
        let blocks = whole::<C>(data)?;
        let iv = part::<C>(chain)?;
        match direction {
            Direction::Encrypt => {
                let mut mode = cbc::Encryptor::inner_iv_slice_init(&self.0, iv)
                    .map_err(|_| Error::InvalidIvLength(iv.len()))?;
                mode.encrypt_blocks(blocks);
                iv.copy_from_slice(&mode.iv_state());
            }
            Direction::Decrypt => {
                let mut mode = cbc::Decryptor::inner_iv_slice_init(&self.0, iv)
                    .map_err(|_| Error::InvalidIvLength(iv.len()))?;
                mode.decrypt_blocks(blocks);
                iv.copy_from_slice(&mode.iv_state());
            }
        }
        Ok(())
    }
}

pub(super) struct Ctr<C, F> {
    cipher: C,
    counter: PhantomData<fn() -> F>,
}

impl<C, F> Ctr<C, F> {
    pub(super) fn new(cipher: C) -> Self {
        Self { cipher, counter: PhantomData }
    }
}

impl<C, F> Mode for Ctr<C, F>
where
    C: BlockCipherEncrypt + Send + Sync,
    F: CtrFlavor<C::BlockSize>,
{
    fn blocks(&self, _: Direction, chain: &mut Chain, data: &mut [u8]) -> Result<(), Error> {
        let blocks = whole::<C>(data)?;
        let iv = part::<C>(chain)?;
        let mut mode = CtrCore::<&C, F>::inner_iv_slice_init(&self.cipher, iv)
            .map_err(|_| Error::InvalidIvLength(iv.len()))?;
        mode.apply_keystream_blocks_inout(InOutBuf::from(blocks));
        iv.copy_from_slice(&mode.iv_state());
        Ok(())
    }

    fn tail(&self, direction: Direction, chain: &mut Chain, data: &mut [u8]) -> Result<(), Error> {
        let mut block = Block::<C>::default();
        let (used, _) =
            block.split_at_mut_checked(data.len()).ok_or(Error::InvalidLength(data.len()))?;
        used.copy_from_slice(data);
        self.blocks(direction, chain, &mut block)?;
        for (to, from) in data.iter_mut().zip(block) {
            *to = from;
        }
        Ok(())
    }
}

/// XTS (IEEE 1619-2018 §5.3, §5.4). The chain is the tweak of the next block, already encrypted.
pub(super) struct Xts<C> {
    pub(super) data: C,
    pub(super) tweak: C,
}

/// Blocks whose tweaks are computed ahead, so that the cipher can work on many at once: two of
/// the widest AES backend's strides.
const XTS_BATCH: usize = 64;

/// Multiplies a tweak by α in GF(2^128).
fn next_tweak(tweak: u128) -> u128 {
    (tweak << 1) ^ if tweak >> 127 == 1 { 0x87 } else { 0 }
}

fn xor(block: &mut Array<u8, U16>, tweak: u128) {
    block.0 = (u128::from_le_bytes(block.0) ^ tweak).to_le_bytes();
}

impl<C> Xts<C>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
{
    /// Transforms `blocks` and returns the tweak after them.
    fn run(&self, direction: Direction, first: u128, blocks: &mut [Block<C>]) -> u128 {
        let mut next = first;
        for batch in blocks.chunks_mut(XTS_BATCH) {
            let mut tweaks = [0; XTS_BATCH];
            for (block, tweak) in batch.iter_mut().zip(&mut tweaks) {
                xor(block, next);
                *tweak = next;
                next = next_tweak(next);
            }
            match direction {
                Direction::Encrypt => self.data.encrypt_blocks(batch),
                Direction::Decrypt => self.data.decrypt_blocks(batch),
            }
            for (block, tweak) in batch.iter_mut().zip(tweaks) {
                xor(block, tweak);
            }
        }
        next
    }
}

impl<C> Mode for Xts<C>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16> + Send + Sync,
{
    fn start(&self, chain: &mut Chain) {
        let mut block = Array(*chain);
        self.tweak.encrypt_block(&mut block);
        *chain = block.0;
    }

    fn blocks(
        &self,
        direction: Direction,
        chain: &mut Chain,
        data: &mut [u8],
    ) -> Result<(), Error> {
        let next = self.run(direction, u128::from_le_bytes(*chain), whole::<C>(data)?);
        *chain = next.to_le_bytes();
        Ok(())
    }

    /// Ciphertext stealing: `data` is one whole block and a shorter rest.
    fn tail(&self, direction: Direction, chain: &mut Chain, data: &mut [u8]) -> Result<(), Error> {
        let len = data.len();
        let (block, rest) = data.split_first_chunk_mut::<16>().ok_or(Error::InvalidLength(len))?;
        if rest.is_empty() || rest.len() >= block.len() {
            return Err(Error::InvalidLength(len));
        }
        let here = u128::from_le_bytes(*chain);
        // Decryption meets the two blocks in the other order, so their tweaks are exchanged.
        let (first, second) = match direction {
            Direction::Encrypt => (here, next_tweak(here)),
            Direction::Decrypt => (next_tweak(here), here),
        };
        let mut whole = [Array(*block)];
        self.run(direction, first, &mut whole);
        let [mut stolen] = whole;
        rest.swap_with_slice(stolen.get_mut(..rest.len()).unwrap_or_default());
        let mut last = [stolen];
        self.run(direction, second, &mut last);
        let [last] = last;
        *block = last.0;
        Ok(())
    }
}
