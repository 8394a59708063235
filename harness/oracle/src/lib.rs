//! What devices must answer, computed by other code than the models' engines, so that a mistake of
//! theirs is not expected too.
//!
//! | What | Here | `understudy-engines` |
//! |---|---|---|
//! | AES-CBC, AES-CTR | `cbc`, `ctr` | aws-lc |
//! | AES-XTS | `xts-mode` | its own, over the same AES |
//! | AES-GCM (96-bit IV) | `ctr` and `ghash` | aws-lc |
//! | SHA-1, SHA-2 and their HMAC | aws-lc | `sha1`, `sha2`, its own HMAC |
//! | MD5, one block of AES | `md-5`, `aes` | the same crates |
//! | Modular powers, RSA | `num-bigint` | `crypto-bigint` |
//! | Deflate | `miniz_oxide` | `zlib-rs` |
//!
//! Keys and IVs of lengths that an algorithm does not have give `None`.
#![forbid(unsafe_code)]

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt,
    BlockSizeUser, KeyInit, KeyIvInit, StreamCipher, consts::U16,
};
use aes::{Aes128, Aes192, Aes256};
use ghash::universal_hash::UniversalHash;
use miniz_oxide::inflate::core::{DecompressorOxide, inflate_flags};
use num_bigint::BigUint;
use xts_mode::Xts128;

/// Which way a cipher runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To ciphertext.
    Encrypt,
    /// To plaintext.
    Decrypt,
}

/// AES of any key length, for a function that is generic over it.
macro_rules! with_aes {
    ($key:expr, $function:ident($($argument:expr),*)) => {
        match $key.len() {
            16 => $function::<Aes128>($key, $($argument),*),
            24 => $function::<Aes192>($key, $($argument),*),
            32 => $function::<Aes256>($key, $($argument),*),
            _ => None,
        }
    };
}

/// One block under an AES key (FIPS 197).
#[must_use]
pub fn aes_block(key: &[u8], block: [u8; 16]) -> Option<[u8; 16]> {
    fn run<C: KeyInit + BlockCipherEncrypt<BlockSize = U16>>(
        key: &[u8],
        block: [u8; 16],
    ) -> Option<[u8; 16]> {
        let mut block = Array::from(block);
        C::new_from_slice(key).ok()?.encrypt_block(&mut block);
        Some(block.into())
    }
    with_aes!(key, run(block))
}

/// AES-CBC without padding (SP 800-38A §6.2), of whole blocks.
#[must_use]
pub fn aes_cbc(direction: Direction, key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    fn run<C>(key: &[u8], direction: Direction, iv: &[u8], data: &[u8]) -> Option<Vec<u8>>
    where
        C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt,
    {
        let mut data = data.to_vec();
        let len = data.len();
        match direction {
            Direction::Encrypt => {
                let mode = cbc::Encryptor::<C>::new_from_slices(key, iv).ok()?;
                mode.encrypt_padded::<NoPadding>(&mut data, len).ok()?;
            }
            Direction::Decrypt => {
                let mode = cbc::Decryptor::<C>::new_from_slices(key, iv).ok()?;
                mode.decrypt_padded::<NoPadding>(&mut data).ok()?;
            }
        }
        Some(data)
    }
    with_aes!(key, run(direction, iv, data))
}

/// AES-CTR with a counter of 128 bits (SP 800-38A §6.5), both ways.
#[must_use]
pub fn aes_ctr(key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    fn run<C>(key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>>
    where
        C: KeyInit + BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
    {
        let mut data = data.to_vec();
        ctr::Ctr128BE::<C>::new_from_slices(key, iv).ok()?.apply_keystream(&mut data);
        Some(data)
    }
    with_aes!(key, run(iv, data))
}

/// XTS-AES-128 and -256 (IEEE 1619) of at least one block. The tweak is encrypted first.
#[must_use]
pub fn aes_xts(direction: Direction, key: &[u8], tweak: [u8; 16], data: &[u8]) -> Option<Vec<u8>> {
    fn run<C>(
        key: &[u8],
        second: &[u8],
        direction: Direction,
        tweak: [u8; 16],
        data: &[u8],
    ) -> Option<Vec<u8>>
    where
        C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
    {
        let mode = Xts128::<C>::new(C::new_from_slice(key).ok()?, C::new_from_slice(second).ok()?);
        let (mut data, tweak) = (data.to_vec(), tweak.into());
        match direction {
            Direction::Encrypt => mode.encrypt_sector(&mut data, tweak),
            Direction::Decrypt => mode.decrypt_sector(&mut data, tweak),
        }
        Some(data)
    }
    if data.len() < 16 {
        return None;
    }
    let (first, second) = key.split_at(key.len() / 2);
    with_aes!(first, run(second, direction, tweak, data))
}

/// AES-GCM with an IV of 96 bits (SP 800-38D §7.1): ciphertext and tag.
#[must_use]
pub fn aes_gcm_seal(
    key: &[u8],
    iv: [u8; 12],
    aad: &[u8],
    plain: &[u8],
) -> Option<(Vec<u8>, [u8; 16])> {
    let counter = |number: u8| {
        let mut block = [0; 16];
        block[..12].copy_from_slice(&iv);
        block[15] = number;
        block
    };
    // A message is shorter than 2^32 blocks, so the counter may as well have 128 bits.
    let cipher = aes_ctr(key, &counter(2), plain)?;
    let mut hash = ghash::GHash::new(&aes_block(key, [0; 16])?.into());
    hash.update_padded(aad);
    hash.update_padded(&cipher);
    let bits = ((aad.len() as u128 * 8) << 64) | (cipher.len() as u128 * 8);
    hash.update(&[bits.to_be_bytes().into()]);
    let hashed: [u8; 16] = hash.finalize().into();
    let tag = u128::from_be_bytes(hashed) ^ u128::from_be_bytes(aes_block(key, counter(1))?);
    Some((cipher, tag.to_be_bytes()))
}

/// A hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// MD5 (RFC 1321).
    Md5,
    /// SHA-1 (FIPS 180-4).
    Sha1,
    /// SHA-224 (FIPS 180-4).
    Sha224,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-384 (FIPS 180-4).
    Sha384,
    /// SHA-512 (FIPS 180-4).
    Sha512,
}

impl Hash {
    fn block_len(self) -> usize {
        if matches!(self, Self::Sha384 | Self::Sha512) { 128 } else { 64 }
    }
}

/// The digest of all parts, one after the other.
#[must_use]
pub fn digest(hash: Hash, parts: &[&[u8]]) -> Vec<u8> {
    use aws_lc_rs::digest as aws;
    let algorithm = match hash {
        Hash::Md5 => {
            use md5::Digest;
            return md5::Md5::digest(parts.concat()).to_vec();
        }
        Hash::Sha1 => &aws::SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha224 => &aws::SHA224,
        Hash::Sha256 => &aws::SHA256,
        Hash::Sha384 => &aws::SHA384,
        Hash::Sha512 => &aws::SHA512,
    };
    let mut context = aws::Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

/// HMAC (RFC 2104) of all parts, one after the other.
#[must_use]
pub fn hmac(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut key = if key.len() > hash.block_len() { digest(hash, &[key]) } else { key.to_vec() };
    key.resize(hash.block_len(), 0);
    let masked = |mask: u8| key.iter().map(|byte| byte ^ mask).collect::<Vec<_>>();
    let (inner, outer) = (masked(0x36), masked(0x5c));
    let inner = digest(hash, &[&[&inner[..]], parts].concat());
    digest(hash, &[&outer, &inner])
}

/// A power of big-endian numbers, as long as the modulus. `None` if that is 0.
#[must_use]
pub fn power(base: &[u8], exponent: &[u8], modulus: &[u8]) -> Option<Vec<u8>> {
    let [base, exponent, number] = [base, exponent, modulus].map(BigUint::from_bytes_be);
    if number == BigUint::ZERO {
        return None;
    }
    wide(&base.modpow(&exponent, &number), modulus.len())
}

/// The product of big-endian numbers, as so many bytes. `None` if it is longer.
#[must_use]
pub fn product(a: &[u8], b: &[u8], len: usize) -> Option<Vec<u8>> {
    wide(&(BigUint::from_bytes_be(a) * BigUint::from_bytes_be(b)), len)
}

/// What a number times the value is 1 modulo the modulus, as long as that. `None` if nothing is.
#[must_use]
pub fn inverse(value: &[u8], modulus: &[u8]) -> Option<Vec<u8>> {
    let number = BigUint::from_bytes_be(value).modinv(&BigUint::from_bytes_be(modulus))?;
    wide(&number, modulus.len())
}

fn wide(number: &BigUint, len: usize) -> Option<Vec<u8>> {
    let digits = number.to_bytes_be();
    let zeros = len.checked_sub(digits.len())?;
    Some([vec![0; zeros], digits].concat())
}

/// Deflates (RFC 1951): level 0 stores, 1 is quick, 9 is thorough.
#[must_use]
pub fn deflate(plain: &[u8], level: u8) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(plain, level)
}

/// Inflates a whole stream to at most `most` bytes. `None` if it is bad, cut short, or longer.
#[must_use]
pub fn inflate(stream: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut plain = vec![0; most];
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut inflater = DecompressorOxide::new();
    let (status, _, len) =
        miniz_oxide::inflate::core::decompress(&mut inflater, stream, &mut plain, 0, flags);
    plain.truncate(len);
    (status == miniz_oxide::inflate::TINFLStatus::Done).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    const KEY: &str = "2b7e151628aed2a6abf7158809cf4f3c";
    const BLOCK: &str = "6bc1bee22e409f96e93d7e117393172a";

    /// SP 800-38A F.1.1, F.2.1, F.5.1.
    #[test]
    fn modes_of_aes() {
        let (key, block) = (bytes(KEY), bytes(BLOCK));
        let one = aes_block(&key, block.clone().try_into().unwrap()).unwrap();
        assert_eq!(hex::encode(one), "3ad77bb40d7a3660a89ecaf32466ef97");
        let iv: Vec<u8> = (0..16).collect();
        let closed = aes_cbc(Direction::Encrypt, &key, &iv, &block).unwrap();
        assert_eq!(hex::encode(&closed), "7649abac8119b246cee98e9b12e9197d");
        assert_eq!(aes_cbc(Direction::Decrypt, &key, &iv, &closed), Some(block.clone()));
        let iv: Vec<u8> = (0xf0..=0xff).collect();
        let closed = aes_ctr(&key, &iv, &block).unwrap();
        assert_eq!(hex::encode(closed), "874d6191b620e3261bef6864990db6ce");
        assert_eq!(aes_ctr(&key[1..], &iv, &block), None);
    }

    /// IEEE 1619 vector 1.
    #[test]
    fn xts() {
        let closed = aes_xts(Direction::Encrypt, &[0; 32], [0; 16], &[0; 32]).unwrap();
        let wanted = "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e";
        assert_eq!(hex::encode(&closed), wanted);
        assert_eq!(aes_xts(Direction::Decrypt, &[0; 32], [0; 16], &closed), Some(vec![0; 32]));
    }

    /// Test case 4 of the GCM specification (McGrew and Viega).
    #[test]
    fn gcm() {
        let plain = bytes(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
             1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let aad = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let iv = bytes("cafebabefacedbaddecaf888").try_into().unwrap();
        let key = bytes("feffe9928665731c6d6a8f9467308308");
        let (cipher, tag) = aes_gcm_seal(&key, iv, &aad, &plain).unwrap();
        assert_eq!(hex::encode(&cipher[..16]), "42831ec2217774244b7221b784d0d49c");
        assert_eq!(hex::encode(tag), "5bc94fbc3221a5db94fae95ae7121a47");
    }

    /// RFC 4231 §4.3 and §4.7; RFC 2202 §2.
    #[test]
    fn keyed_hashes() {
        let tag = hmac(Hash::Sha256, b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        let wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(tag), wanted);
        let data = b"Test Using Larger Than Block-Size Key - Hash Key First";
        let tag = hmac(Hash::Sha512, &[0xaa; 131], &[data]);
        assert_eq!(hex::encode(&tag[..8]), "80b24263c7c1a3eb");
        let tag = hmac(Hash::Md5, b"Jefe", &[b"what do ya want for nothing?"]);
        assert_eq!(hex::encode(tag), "750c783e6ab0b503eaa86e310a5db738");
    }

    #[test]
    fn numbers() {
        assert_eq!(power(&[4], &[13], &[0x01, 0xf1]), Some(vec![0x01, 0xbd]));
        assert_eq!(power(&[4], &[13], &[0, 0]), None);
        assert_eq!(product(&[200], &[200], 4), Some(vec![0, 0, 0x9c, 0x40]));
        assert_eq!(inverse(&[3], &[0, 11]), Some(vec![0, 4]));
        assert_eq!(inverse(&[3], &[9]), None);
    }

    #[test]
    fn streams() {
        let plain = b"over and over and over and over".repeat(9);
        for level in [0, 1, 9] {
            let stream = deflate(&plain, level);
            assert_eq!(inflate(&stream, plain.len()), Some(plain.clone()));
            assert_eq!(inflate(&stream, plain.len() - 1), None);
            assert_eq!(inflate(&stream[..stream.len() - 1], plain.len()), None);
        }
    }
}
