//! Sessions: keys made ready, and the bounded table that holds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use understudy_engines::{aead, cipher, hash, mac};

use crate::algorithms::{self, AEADS, CIPHERS, HASHES, MACS};
use crate::layout::{
    CIPHER_THEN_HASH, HASH_MODE_AUTH, HASH_MODE_PLAIN, HASH_THEN_CIPHER, OP_DECRYPT, OP_ENCRYPT,
    Service, Status,
};
use crate::service::akcipher::Akcipher;

/// What a session id, or the parameters of a stateless request, stand for.
#[derive(Debug)]
pub(crate) enum Session {
    Cipher(Cipher),
    Chain(Box<Chain>),
    Hash(hash::Algorithm),
    Mac(mac::Key),
    Aead(Aead),
    Akcipher(Arc<Akcipher>),
}

impl Session {
    pub(crate) fn service(&self) -> Service {
        match self {
            Self::Cipher(_) | Self::Chain(_) => Service::Cipher,
            Self::Hash(_) => Service::Hash,
            Self::Mac(_) => Service::Mac,
            Self::Aead(_) => Service::Aead,
            Self::Akcipher(_) => Service::Akcipher,
        }
    }
}

fn direction(op: u32) -> Result<cipher::Direction, Status> {
    match op {
        OP_ENCRYPT => Ok(cipher::Direction::Encrypt),
        OP_DECRYPT => Ok(cipher::Direction::Decrypt),
        _ => Err(Status::NotSupp),
    }
}

/// A cipher key and the direction it was meant for.
#[derive(Debug)]
pub(crate) struct Cipher {
    pub(crate) key: cipher::Key,
    pub(crate) direction: cipher::Direction,
}

impl Cipher {
    pub(crate) fn new(algo: u32, op: u32, key: &[u8]) -> Result<Self, Status> {
        let algorithm = algorithms::find(CIPHERS, algo).ok_or(Status::NotSupp)?;
        let direction = direction(op)?;
        Ok(Self { key: cipher::Key::new(algorithm, key)?, direction })
    }
}

/// The hash or MAC of a chain.
#[derive(Debug)]
pub(crate) enum Authenticator {
    Hash(hash::Algorithm),
    Mac(mac::Key),
}

impl Authenticator {
    /// Nested hashes (mode 3) are not specified beyond their name.
    pub(crate) fn new(mode: u32, algo: u32, key: &[u8]) -> Result<Self, Status> {
        match mode {
            HASH_MODE_PLAIN => hash_algorithm(algo).map(Self::Hash),
            HASH_MODE_AUTH => mac_key(algo, key).map(Self::Mac),
            _ => Err(Status::NotSupp),
        }
    }
}

pub(crate) fn hash_algorithm(algo: u32) -> Result<hash::Algorithm, Status> {
    algorithms::find(HASHES, algo).ok_or(Status::NotSupp)
}

pub(crate) fn mac_key(algo: u32, key: &[u8]) -> Result<mac::Key, Status> {
    let algorithm = algorithms::find(MACS, algo).ok_or(Status::NotSupp)?;
    Ok(mac::Key::new(algorithm, key)?)
}

/// What the hash or MAC of a chain covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The source.
    HashThenCipher,
    /// What the cipher has made of the source.
    CipherThenHash,
}

impl Order {
    pub(crate) fn new(order: u32) -> Result<Self, Status> {
        match order {
            HASH_THEN_CIPHER => Ok(Self::HashThenCipher),
            CIPHER_THEN_HASH => Ok(Self::CipherThenHash),
            _ => Err(Status::NotSupp),
        }
    }
}

/// A cipher chained with a hash or MAC.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) cipher: Cipher,
    pub(crate) authenticator: Authenticator,
    pub(crate) order: Order,
}

/// An AEAD key.
#[derive(Debug)]
pub(crate) struct Aead {
    pub(crate) key: aead::Key,
    pub(crate) direction: cipher::Direction,
    pub(crate) tag_len: u32,
}

impl Aead {
    pub(crate) fn new(algo: u32, op: u32, tag_len: u32, key: &[u8]) -> Result<Self, Status> {
        let algorithm = algorithms::find(AEADS, algo).ok_or(Status::NotSupp)?;
        let direction = direction(op)?;
        if !algorithm.accepts_tag_len(tag_len as usize) {
            return Err(Status::Err);
        }
        Ok(Self { key: aead::Key::new(algorithm, key)?, direction, tag_len })
    }
}

/// The sessions of a device.
#[derive(Debug)]
pub(crate) struct Sessions {
    by_id: BTreeMap<u64, Session>,
    /// Ids are never used twice, so a stale one cannot hit a stranger's session.
    next_id: u64,
    max: usize,
}

impl Sessions {
    pub(crate) fn new(max: usize) -> Self {
        Self { by_id: BTreeMap::new(), next_id: 1, max }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.by_id.len() >= self.max
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Adds a session; the caller has checked that there is room.
    pub(crate) fn add(&mut self, session: Session) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.by_id.insert(id, session);
        id
    }

    pub(crate) fn get(&self, id: u64, service: Service) -> Option<&Session> {
        self.by_id.get(&id).filter(|session| session.service() == service)
    }

    pub(crate) fn remove(&mut self, id: u64, service: Service) -> Option<Session> {
        self.get(id, service)?;
        self.by_id.remove(&id)
    }

    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
    }
}
