//! The oracle: AES in user space, to say what a driver must give.

use aes::cipher::consts::U16;
use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeEncrypt, BlockSizeUser, KeyInit,
    KeyIvInit,
};

use super::Failure;

pub(super) const BLOCK_BYTES: usize = 16;

/// CBC over whole blocks, with a key of 16, 24 or 32 bytes.
pub(super) fn encrypt_cbc(
    key: &[u8],
    iv: &[u8; BLOCK_BYTES],
    plain: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut data = plain.to_vec();
    match key.len() {
        16 => run_cbc::<aes::Aes128>(key, iv, &mut data)?,
        24 => run_cbc::<aes::Aes192>(key, iv, &mut data)?,
        _ => run_cbc::<aes::Aes256>(key, iv, &mut data)?,
    }
    Ok(data)
}

fn run_cbc<C>(key: &[u8], iv: &[u8], data: &mut [u8]) -> Result<(), Failure>
where
    C: BlockCipherEncrypt + KeyInit + BlockSizeUser<BlockSize = U16>,
{
    let mut mode = cbc::Encryptor::<C>::new_from_slices(key, iv).map_err(|e| e.to_string())?;
    let (blocks, _) = Array::slice_as_chunks_mut(data);
    mode.encrypt_blocks(blocks);
    Ok(())
}

/// One block, with AES-128.
pub(super) fn decrypt_block(key: [u8; 16], block: [u8; BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
    let mut block = Array(block);
    aes::Aes128::new(&Array(key)).decrypt_block(&mut block);
    block.0
}
