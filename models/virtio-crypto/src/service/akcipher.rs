//! The AKCIPHER service: RSA (virtio 1.3 §5.9.7.8). It is slow, so it runs as jobs.

use std::sync::Arc;

use understudy_device::Job;
use understudy_engines::hash;
use understudy_engines::rsa::{Digest, PrivateKey, PublicKey};

use crate::algorithms::{self, AKCIPHERS, RSA_HASHES};
use crate::layout::{
    KEY_TYPE_PRIVATE, KEY_TYPE_PUBLIC, Operation, RSA_PKCS1_PADDING, RSA_RAW_PADDING,
    RsaParameters, Status,
};

/// Longest key, source and destination in bytes. RSA-4096 needs less than half.
pub(crate) const MAX_LEN: u32 = 8192;

/// An RSA key and what goes with it.
#[derive(Debug)]
pub(crate) struct Akcipher {
    key: Key,
    padding: Padding,
}

#[derive(Debug)]
enum Key {
    Public(PublicKey),
    Private(Box<PrivateKey>),
}

#[derive(Debug, Clone, Copy)]
enum Padding {
    Raw,
    Pkcs1(Option<Digest>),
}

impl Akcipher {
    pub(crate) fn new(
        algo: u32,
        key_type: u32,
        rsa: &RsaParameters,
        der: &[u8],
    ) -> Result<Self, Status> {
        algorithms::find(AKCIPHERS, algo).ok_or(Status::NotSupp)?;
        let padding = match rsa.padding_algo.get() {
            RSA_RAW_PADDING => Padding::Raw,
            RSA_PKCS1_PADDING => {
                let hash = algorithms::find(RSA_HASHES, rsa.hash_algo.get());
                Padding::Pkcs1(hash.ok_or(Status::NotSupp)?)
            }
            _ => return Err(Status::NotSupp),
        };
        let key = match key_type {
            KEY_TYPE_PUBLIC => Key::Public(PublicKey::from_der(der)?),
            KEY_TYPE_PRIVATE => Key::Private(Box::new(PrivateKey::from_der(der)?)),
            _ => return Err(Status::NotSupp),
        };
        Ok(Self { key, padding })
    }

    fn public(&self) -> &PublicKey {
        match &self.key {
            Key::Public(key) => key,
            Key::Private(key) => key.public(),
        }
    }

    fn private(&self) -> Result<&PrivateKey, Status> {
        match &self.key {
            Key::Public(_) => Err(Status::Err),
            Key::Private(key) => Ok(key),
        }
    }

    fn run(&self, request: &AkcipherRequest) -> Result<Vec<u8>, Status> {
        let src = &request.src[..];
        Ok(match (request.operation, self.padding) {
            (Operation::AkcipherEncrypt, Padding::Raw) => self.public().raw(src)?,
            (Operation::AkcipherDecrypt, Padding::Raw) => self.private()?.raw(src)?,
            (Operation::AkcipherEncrypt, Padding::Pkcs1(_)) => {
                self.public().encrypt(src, &mut |into| request.fill(into))?
            }
            (Operation::AkcipherDecrypt, Padding::Pkcs1(_)) => self.private()?.decrypt(src)?,
            (Operation::AkcipherSign, Padding::Pkcs1(hash)) => self.private()?.sign(hash, src)?,
            (Operation::AkcipherVerify, Padding::Pkcs1(hash)) => {
                self.public().verify(hash, &request.digest, src)?;
                Vec::new()
            }
            // Raw sessions neither sign nor verify (virtio 1.3 §5.9.7.2.1.5).
            _ => return Err(Status::NotSupp),
        })
    }
}

/// Where the key of a request is.
#[derive(Debug)]
pub(crate) enum KeySource {
    /// In a session.
    Session(Arc<Akcipher>),
    /// In the request itself. Reading the DER is part of the job.
    Stateless { algo: u32, key_type: u32, rsa: RsaParameters, der: Vec<u8> },
}

/// A request with everything that its job needs.
#[derive(Debug)]
pub(crate) struct AkcipherRequest {
    pub(crate) operation: Operation,
    pub(crate) src: Vec<u8>,
    /// What was signed, when verifying.
    pub(crate) digest: Vec<u8>,
    /// Room for the result in bytes.
    pub(crate) room: usize,
    /// Makes the padding of this request unlike that of others, and the same in every run.
    pub(crate) seed: (u64, u64),
}

impl AkcipherRequest {
    /// Padding bytes: SHA-256 of seed and counter. Not for secrets that matter.
    fn fill(&self, into: &mut [u8]) {
        for (counter, piece) in (0_u64..).zip(into.chunks_mut(32)) {
            let mut hasher = hash::Hasher::new(hash::Algorithm::Sha256);
            for word in [self.seed.0, self.seed.1, counter] {
                hasher.update(&word.to_le_bytes());
            }
            // A piece is at most a digest long, so this cannot fail.
            let _ = hasher.finish(piece);
        }
    }

    /// The work as a job that returns an [`AkcipherResult`].
    pub(crate) fn into_job(self, key: KeySource) -> Job {
        Job::new(move || {
            let result = match key {
                KeySource::Session(akcipher) => akcipher.run(&self),
                KeySource::Stateless { algo, key_type, rsa, der } => {
                    Akcipher::new(algo, key_type, &rsa, &der)
                        .and_then(|akcipher| akcipher.run(&self))
                }
            };
            let fits = |bytes: &Vec<u8>| bytes.len() <= self.room;
            AkcipherResult {
                operation: self.operation,
                bytes: self.src.len() as u64,
                output: result.and_then(|bytes| fits(&bytes).then_some(bytes).ok_or(Status::Err)),
            }
        })
    }
}

/// What a job returns.
#[derive(Debug)]
pub(crate) struct AkcipherResult {
    pub(crate) operation: Operation,
    /// Bytes of the source.
    pub(crate) bytes: u64,
    pub(crate) output: Result<Vec<u8>, Status>,
}
