//! The AKCIPHER service: RSA and ECDSA (virtio 1.3 §5.9.7.8). They are slow, so they run as jobs.

use std::sync::Arc;

use understudy_device::Job;
use understudy_engines::{Error, ecdsa, hash, rsa};

use crate::algorithms::{self, AKCIPHERS, CURVES, RSA_HASHES};
use crate::layout::{
    AkcipherParameters, KEY_TYPE_PRIVATE, KEY_TYPE_PUBLIC, Operation, RSA_PKCS1_PADDING,
    RSA_RAW_PADDING, Status,
};

/// Longest key, source and destination in bytes. RSA-4096 needs less than half.
pub(crate) const MAX_LEN: u32 = 8192;

/// An asymmetric key and what goes with it.
#[derive(Debug)]
pub(crate) enum Akcipher {
    Rsa(Key<rsa::PublicKey, rsa::PrivateKey>, Padding),
    Ecdsa(Key<ecdsa::PublicKey, ecdsa::PrivateKey>),
}

#[derive(Debug)]
pub(crate) enum Key<Public, Private> {
    Public(Public),
    Private(Box<Private>),
}

impl<Public, Private> Key<Public, Private> {
    fn read(
        key_type: u32,
        public: impl FnOnce() -> Result<Public, Error>,
        private: impl FnOnce() -> Result<Private, Error>,
    ) -> Result<Self, Status> {
        match key_type {
            KEY_TYPE_PUBLIC => Ok(Self::Public(public()?)),
            KEY_TYPE_PRIVATE => Ok(Self::Private(Box::new(private()?))),
            _ => Err(Status::NotSupp),
        }
    }

    /// The public half, which `of` finds in a private key.
    fn public<'k>(&'k self, of: impl FnOnce(&'k Private) -> &'k Public) -> &'k Public {
        match self {
            Self::Public(key) => key,
            Self::Private(key) => of(key),
        }
    }

    fn private(&self) -> Result<&Private, Status> {
        match self {
            Self::Public(_) => Err(Status::Err),
            Self::Private(key) => Ok(key),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Padding {
    Raw,
    Pkcs1(Option<rsa::Digest>),
}

impl Akcipher {
    pub(crate) fn new(
        algo: u32,
        key_type: u32,
        parameters: &AkcipherParameters,
        key: &[u8],
    ) -> Result<Self, Status> {
        match algorithms::find(AKCIPHERS, algo).ok_or(Status::NotSupp)? {
            algorithms::Akcipher::Rsa => {
                let padding = Padding::new(parameters)?;
                let public = || rsa::PublicKey::from_der(key);
                let private = || rsa::PrivateKey::from_der(key);
                Ok(Self::Rsa(Key::read(key_type, public, private)?, padding))
            }
            algorithms::Akcipher::Ecdsa => {
                let curve = algorithms::find(CURVES, parameters.padding_or_curve.get());
                let curve = curve.ok_or(Status::NotSupp)?;
                let public = || ecdsa::PublicKey::from_sec1(curve, key);
                let private = || ecdsa::PrivateKey::from_der(curve, key);
                Ok(Self::Ecdsa(Key::read(key_type, public, private)?))
            }
        }
    }

    fn run(&self, request: &AkcipherRequest) -> Result<Vec<u8>, Status> {
        match self {
            Self::Rsa(key, Padding::Raw) => run_raw(key, request),
            Self::Rsa(key, Padding::Pkcs1(hash)) => run_pkcs1(key, *hash, request),
            Self::Ecdsa(key) => run_ecdsa(key, request),
        }
    }
}

impl Padding {
    fn new(parameters: &AkcipherParameters) -> Result<Self, Status> {
        match parameters.padding_or_curve.get() {
            RSA_RAW_PADDING => Ok(Self::Raw),
            RSA_PKCS1_PADDING => {
                let hash = algorithms::find(RSA_HASHES, parameters.hash_algo.get());
                Ok(Self::Pkcs1(hash.ok_or(Status::NotSupp)?))
            }
            _ => Err(Status::NotSupp),
        }
    }
}

type RsaKey = Key<rsa::PublicKey, rsa::PrivateKey>;

/// Raw keys neither sign nor verify (virtio 1.3 §5.9.7.2.1.6).
fn run_raw(key: &RsaKey, request: &AkcipherRequest) -> Result<Vec<u8>, Status> {
    match request.operation {
        Operation::AkcipherEncrypt => Ok(key.public(rsa::PrivateKey::public).raw(&request.src)?),
        Operation::AkcipherDecrypt => Ok(key.private()?.raw(&request.src)?),
        _ => Err(Status::NotSupp),
    }
}

fn run_pkcs1(
    key: &RsaKey,
    hash: Option<rsa::Digest>,
    request: &AkcipherRequest,
) -> Result<Vec<u8>, Status> {
    let (src, public) = (&request.src, key.public(rsa::PrivateKey::public));
    match request.operation {
        Operation::AkcipherEncrypt => Ok(public.encrypt(src, &mut |into| request.fill(into))?),
        Operation::AkcipherDecrypt => Ok(key.private()?.decrypt(src)?),
        Operation::AkcipherSign => Ok(key.private()?.sign(hash, src)?),
        Operation::AkcipherVerify => {
            public.verify(hash, &request.digest, src)?;
            Ok(Vec::new())
        }
        _ => Err(Status::NotSupp),
    }
}

/// ECDSA neither encrypts nor decrypts.
fn run_ecdsa(
    key: &Key<ecdsa::PublicKey, ecdsa::PrivateKey>,
    request: &AkcipherRequest,
) -> Result<Vec<u8>, Status> {
    match request.operation {
        Operation::AkcipherSign => Ok(key.private()?.sign(&request.src)?),
        Operation::AkcipherVerify => {
            key.public(ecdsa::PrivateKey::public).verify(&request.digest, &request.src)?;
            Ok(Vec::new())
        }
        _ => Err(Status::NotSupp),
    }
}

/// Where the key of a request is.
#[derive(Debug)]
pub(crate) enum KeySource {
    /// In a session.
    Session(Arc<Akcipher>),
    /// In the request itself. Reading the DER is part of the job.
    Stateless { algo: u32, key_type: u32, parameters: AkcipherParameters, der: Vec<u8> },
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
        let bytes = self.src.len();
        let job = Job::new(move || {
            let result = match key {
                KeySource::Session(akcipher) => akcipher.run(&self),
                KeySource::Stateless { algo, key_type, parameters, der } => {
                    Akcipher::new(algo, key_type, &parameters, &der)
                        .and_then(|akcipher| akcipher.run(&self))
                }
            };
            let fits = |bytes: &Vec<u8>| bytes.len() <= self.room;
            AkcipherResult {
                operation: self.operation,
                bytes: self.src.len() as u64,
                output: result.and_then(|bytes| fits(&bytes).then_some(bytes).ok_or(Status::Err)),
            }
        });
        job.holding(bytes)
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
