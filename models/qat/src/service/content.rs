//! Content descriptors: keys, configuration and precomputed states (`icp_qat_hw.h`).

use understudy_engines::cipher::{Algorithm as Cipher, Direction};
use understudy_engines::hash::{Algorithm as Hash, Hasher, MAX_DIGEST_LEN};
use understudy_engines::wireless;

use super::Failure;
use crate::layout::{AuthConfig, CipherConfig, ContentControl};

/// Longest content descriptor in bytes: its length is 8 bits of 8-byte words.
pub(crate) const MAX_CONTENT_LEN: usize = 255 * 8;
/// `icp_qat_hw_cipher_config`, before the key.
const CIPHER_CONFIG_LEN: usize = 8;
/// `icp_qat_hw_auth_setup`, before the first state.
const AUTH_SETUP_LEN: usize = 16;

/// Algorithms of ciphers (`icp_qat_hw_cipher_algo`).
mod cipher_algorithm {
    pub(super) const NULL: u32 = 0;
    pub(super) const DES: u32 = 1;
    pub(super) const TDES: u32 = 2;
    pub(super) const AES_128: u32 = 3;
    pub(super) const AES_192: u32 = 4;
    pub(super) const AES_256: u32 = 5;
    pub(super) const KASUMI: u32 = 7;
    pub(super) const SNOW_3G: u32 = 8;
    pub(super) const ZUC: u32 = 9;
}

/// Modes of ciphers (`icp_qat_hw_cipher_mode`).
mod cipher_mode {
    pub(super) const ECB: u32 = 0;
    pub(super) const CBC: u32 = 1;
    pub(super) const CTR: u32 = 2;
    pub(super) const F8: u32 = 3;
    pub(super) const XTS: u32 = 6;
}

/// Algorithms of hashes (`icp_qat_hw_auth_algo`).
mod auth_algorithm {
    pub(super) const NULL: u32 = 0;
    pub(super) const SHA_1: u32 = 1;
    pub(super) const MD5: u32 = 2;
    pub(super) const SHA_224: u32 = 3;
    pub(super) const SHA_256: u32 = 4;
    pub(super) const SHA_384: u32 = 5;
    pub(super) const SHA_512: u32 = 6;
    pub(super) const AES_XCBC: u32 = 7;
    pub(super) const AES_CBC_MAC: u32 = 8;
    pub(super) const GALOIS_128: u32 = 10;
    pub(super) const KASUMI_F9: u32 = 12;
    pub(super) const SNOW_3G_UIA2: u32 = 13;
    pub(super) const ZUC_EIA3: u32 = 14;
    pub(super) const SHA3_224: u32 = 16;
    pub(super) const SHA3_256: u32 = 17;
    pub(super) const SHA3_384: u32 = 18;
    pub(super) const SHA3_512: u32 = 19;
}

/// Modes of hashes (`icp_qat_hw_auth_mode`): plain, and with precomputed states of a key.
mod auth_mode {
    pub(super) const PLAIN: u32 = 0;
    pub(super) const KEYED: u32 = 1;
}

/// The engine of a cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Leaves the data as it is.
    Null,
    Block(Cipher),
    Wireless(wireless::Cipher),
}

/// What a content descriptor says about the cipher.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CipherContent<'a> {
    pub(crate) engine: Engine,
    pub(crate) direction: Direction,
    pub(crate) key: &'a [u8],
}

impl<'a> CipherContent<'a> {
    pub(crate) fn parse(content: &'a [u8], control: &ContentControl) -> Result<Self, Failure> {
        let start = usize::from(control.cipher_words) * 8;
        let config = CipherConfig(word(content, start)?);
        let (engine, key_len) = cipher(config)?;
        let key = content.get(start + CIPHER_CONFIG_LEN..).unwrap_or_default();
        let key = key.get(..key_len).ok_or(Failure::Invalid)?;
        let direction = if config.decrypts() { Direction::Decrypt } else { Direction::Encrypt };
        let ready_made = config.decrypts() && !config.converts_key();
        match engine {
            // Counter mode has one direction and a key of its own in both.
            Engine::Block(Cipher::AesCtr | Cipher::TdesCtr) => {
                Ok(Self { engine, direction: Direction::Encrypt, key })
            }
            // The key would be the last round's, from which the slice computes backwards.
            Engine::Block(Cipher::AesEcb | Cipher::AesCbc | Cipher::AesXts) if ready_made => {
                Err(Failure::Unsupported)
            }
            _ => Ok(Self { engine, direction, key }),
        }
    }
}

/// The engine, and the length of its key in bytes.
fn cipher(config: CipherConfig) -> Result<(Engine, usize), Failure> {
    use cipher_algorithm::{AES_128, AES_192, AES_256, DES, KASUMI, NULL, SNOW_3G, TDES, ZUC};
    let mode = config.mode();
    let wireless = |cipher: wireless::Cipher| Ok((Engine::Wireless(cipher), cipher.key_len()));
    let len = match config.algorithm() {
        NULL => return Ok((Engine::Null, 0)),
        KASUMI if mode == cipher_mode::F8 => return wireless(wireless::Cipher::Kasumi),
        SNOW_3G if mode == cipher_mode::ECB => return wireless(wireless::Cipher::Snow3g),
        ZUC if mode == cipher_mode::ECB => return wireless(wireless::Cipher::Zuc),
        DES => 8,
        TDES | AES_192 => 24,
        AES_128 => 16,
        AES_256 => 32,
        _ => return Err(Failure::Unsupported),
    };
    let is_aes = !matches!(config.algorithm(), DES | TDES);
    let algorithm = match (config.algorithm(), mode) {
        (DES, cipher_mode::ECB) => Cipher::DesEcb,
        (DES, cipher_mode::CBC) => Cipher::DesCbc,
        (TDES, cipher_mode::ECB) => Cipher::TdesEcb,
        (TDES, cipher_mode::CBC) => Cipher::TdesCbc,
        (TDES, cipher_mode::CTR) => Cipher::TdesCtr,
        (_, cipher_mode::ECB) if is_aes => Cipher::AesEcb,
        (_, cipher_mode::CBC) if is_aes => Cipher::AesCbc,
        (_, cipher_mode::CTR) if is_aes => Cipher::AesCtr,
        (_, cipher_mode::XTS) if is_aes => return Ok((Engine::Block(Cipher::AesXts), len * 2)),
        _ => return Err(Failure::Unsupported),
    };
    Ok((Engine::Block(algorithm), len))
}

/// Where a hash starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashState<'a> {
    pub(crate) algorithm: Hash,
    /// The state after so many blocks; `None` at the start of the sponge, whose state drivers
    /// cannot load.
    state: Option<&'a [u8]>,
    blocks: u32,
}

impl HashState<'_> {
    pub(crate) fn hasher(self) -> Result<Hasher, Failure> {
        Ok(match self.state {
            Some(state) => Hasher::resume(self.algorithm, state, self.blocks.into())?,
            None => Hasher::new(self.algorithm),
        })
    }
}

/// What a content descriptor says about the hash.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AuthContent<'a> {
    /// A digest of zeros.
    Null,
    /// A hash; with a second state, whose hash covers the digest of the first.
    Hash { inner: HashState<'a>, outer: Option<HashState<'a>> },
    /// XCBC and CMAC: the last block of a CBC encryption, which is changed with one of two masks.
    Block { key: &'a [u8], whole: &'a [u8], padded: &'a [u8] },
    /// The MAC of CCM.
    CbcMac { key: &'a [u8] },
    /// GHASH, with the length of the associated data in bytes.
    Galois { aad_len: usize },
    /// A MAC of 3GPP. Its IV is where associated data would be.
    Wireless { mac: wireless::Mac, key: &'a [u8] },
}

impl<'a> AuthContent<'a> {
    pub(crate) fn parse(content: &'a [u8], control: &ContentControl) -> Result<Self, Failure> {
        use auth_algorithm as algorithm;
        let start = usize::from(control.hash_words) * 8;
        let config = AuthConfig(word(content, start)?);
        let state1 = content.get(start + AUTH_SETUP_LEN..).unwrap_or_default();
        let state2 = content.get(usize::from(control.state2_words) * 8..).unwrap_or_default();
        let part = |range| state2.get(range).ok_or(Failure::Invalid);
        match (config.algorithm(), config.mode()) {
            (algorithm::NULL, auth_mode::PLAIN | auth_mode::KEYED) => Ok(Self::Null),
            (algorithm::AES_XCBC, auth_mode::KEYED) => {
                Ok(Self::Block { key: part(0..16)?, whole: part(16..32)?, padded: part(32..48)? })
            }
            (algorithm::AES_CBC_MAC, auth_mode::KEYED) => Ok(Self::CbcMac { key: part(0..16)? }),
            (algorithm::GALOIS_128, auth_mode::KEYED) => {
                // After H: the length in bytes, big-endian.
                let len = part(16..20)?.first_chunk().map_or(0, |len| u32::from_be_bytes(*len));
                let aad_len = usize::try_from(len).map_err(|_| Failure::Invalid)?;
                Ok(Self::Galois { aad_len })
            }
            (algorithm::KASUMI_F9, auth_mode::PLAIN | auth_mode::KEYED) => {
                Ok(Self::Wireless { mac: wireless::Mac::Kasumi, key: part(0..32)? })
            }
            // Behind the state: the configuration of the cipher, then its key.
            (algorithm::SNOW_3G_UIA2, auth_mode::PLAIN | auth_mode::KEYED) => {
                Ok(Self::Wireless { mac: wireless::Mac::Snow3g, key: part(32..48)? })
            }
            (algorithm::ZUC_EIA3, auth_mode::PLAIN | auth_mode::KEYED) => {
                Ok(Self::Wireless { mac: wireless::Mac::Zuc, key: part(0..16)? })
            }
            (number, mode @ (auth_mode::PLAIN | auth_mode::KEYED)) => {
                let counter = content.get(start + 8..).and_then(|rest| rest.first_chunk());
                let counter = counter.map_or(0, |bytes| u32::from_be_bytes(*bytes));
                let outer = (mode == auth_mode::KEYED).then_some(state2);
                Self::hash(number, counter, state1, outer)
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn hash(
        number: u32,
        counter: u32,
        state1: &'a [u8],
        state2: Option<&'a [u8]>,
    ) -> Result<Self, Failure> {
        let (hash, state_len) = hash_algorithm(number).ok_or(Failure::Unsupported)?;
        let Some(state_len) = state_len else {
            // The sponge has no keyed mode.
            let plain = state2.is_none();
            let inner = HashState { algorithm: hash, state: None, blocks: 0 };
            return plain.then_some(Self::Hash { inner, outer: None }).ok_or(Failure::Unsupported);
        };
        let block = u32::try_from(hash.block_len()).map_err(|_| Failure::Unsupported)?;
        let load = |state: &'a [u8], blocks| {
            let state = Some(state.get(..state_len).ok_or(Failure::Invalid)?);
            Ok::<_, Failure>(HashState { algorithm: hash, state, blocks })
        };
        let inner = load(state1, counter / block)?;
        let outer = state2.map(|state| load(state, 1)).transpose()?;
        Ok(Self::Hash { inner, outer })
    }

    /// Bytes of the digest, at most.
    pub(crate) fn max_digest_len(&self) -> usize {
        match self {
            Self::Null => MAX_DIGEST_LEN,
            Self::Hash { inner, .. } => inner.algorithm.digest_len(),
            Self::Wireless { .. } => wireless::MAC_LEN,
            _ => 16,
        }
    }
}

/// The engine, and the length of a state in bytes if states can be loaded.
fn hash_algorithm(number: u32) -> Option<(Hash, Option<usize>)> {
    use auth_algorithm as algorithm;
    Some(match number {
        algorithm::MD5 => (Hash::Md5, Some(16)),
        algorithm::SHA_1 => (Hash::Sha1, Some(20)),
        algorithm::SHA_224 => (Hash::Sha224, Some(32)),
        algorithm::SHA_256 => (Hash::Sha256, Some(32)),
        algorithm::SHA_384 => (Hash::Sha384, Some(64)),
        algorithm::SHA_512 => (Hash::Sha512, Some(64)),
        algorithm::SHA3_224 => (Hash::Sha3_224, None),
        algorithm::SHA3_256 => (Hash::Sha3_256, None),
        algorithm::SHA3_384 => (Hash::Sha3_384, None),
        algorithm::SHA3_512 => (Hash::Sha3_512, None),
        _ => return None,
    })
}

/// The little-endian word at an offset.
fn word(content: &[u8], at: usize) -> Result<u32, Failure> {
    let bytes = content.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Failure::Invalid)?;
    Ok(u32::from_le_bytes(*bytes))
}
