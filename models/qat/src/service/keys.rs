//! Expanded keys of recent requests.
//!
//! Every request carries its key, most often the same as one before it. Keys are found by their
//! bytes, so memory that changes cannot be mistaken for what it was.

use understudy_engines::{Error, aead, cipher};

/// Longest key: XTS-AES-256.
const MAX_KEY_LEN: usize = 64;
/// Keys remembered.
const SLOTS: usize = 16;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Cipher(cipher::Algorithm),
    Gcm,
}

#[derive(Debug, Clone)]
enum Expanded {
    Cipher(cipher::Key),
    Aead(aead::Key),
}

#[derive(Debug)]
struct Slot {
    purpose: Purpose,
    key: [u8; MAX_KEY_LEN],
    len: usize,
    expanded: Expanded,
}

/// The keys, the most recently used first.
#[derive(Debug, Default)]
pub(crate) struct KeyCache {
    slots: Vec<Slot>,
}

impl KeyCache {
    /// Forgets all keys.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
    }

    /// A cipher's key.
    pub(crate) fn cipher(
        &mut self,
        algorithm: cipher::Algorithm,
        key: &[u8],
    ) -> Result<&cipher::Key, Error> {
        match self.get(Purpose::Cipher(algorithm), key)? {
            Expanded::Cipher(key) => Ok(key),
            Expanded::Aead(_) => Err(Error::Unsupported),
        }
    }

    /// A key of AES-GCM.
    pub(crate) fn gcm(&mut self, key: &[u8]) -> Result<&aead::Key, Error> {
        match self.get(Purpose::Gcm, key)? {
            Expanded::Aead(key) => Ok(key),
            Expanded::Cipher(_) => Err(Error::Unsupported),
        }
    }

    fn get(&mut self, purpose: Purpose, key: &[u8]) -> Result<&Expanded, Error> {
        let found = self
            .slots
            .iter()
            .position(|slot| slot.purpose == purpose && slot.key.get(..slot.len) == Some(key));
        match found {
            Some(0) => {}
            Some(at) => self.slots.get_mut(..=at).unwrap_or_default().rotate_right(1),
            None => {
                let slot = Slot::new(purpose, key)?;
                self.slots.truncate(SLOTS - 1);
                self.slots.insert(0, slot);
            }
        }
        self.slots.first().map(|slot| &slot.expanded).ok_or(Error::InvalidKey)
    }
}

impl Slot {
    fn new(purpose: Purpose, key: &[u8]) -> Result<Self, Error> {
        let mut bytes = [0; MAX_KEY_LEN];
        let start = bytes.get_mut(..key.len()).ok_or(Error::InvalidKeyLength(key.len()))?;
        start.copy_from_slice(key);
        let expanded = match purpose {
            Purpose::Cipher(algorithm) => Expanded::Cipher(cipher::Key::new(algorithm, key)?),
            Purpose::Gcm => Expanded::Aead(aead::Key::new(aead::Algorithm::AesGcm, key)?),
        };
        Ok(Self { purpose, key: bytes, len: key.len(), expanded })
    }
}
