//! virtio-crypto: sessions and stateless requests of four services, on three data queues.

use std::collections::{BTreeMap, VecDeque};

use understudy_client::DriverError;
use understudy_client::virtio::{Completion as How, QueueOptions};
use understudy_client::virtio_crypto::{
    AeadKey, Akcipher, AkcipherKey, CipherKey, CryptoError, Direction, Driver, Finished, HashKey,
    KeyKind, MacKey, Operation, Options as DriverOptions, Parameters, Scatter, Scheme, Session,
    Target, Ticket, aead, akcipher, cipher, hash, mac,
};
use understudy_engines::{aead as ea, mac as em};
use understudy_oracle as oracle;

use super::{Overlooked, PATIENCE, Working, bytes, heard};
use crate::book::{Book, Expect, FailureKind, Outcome};
use crate::case::{self, Completion, Options, Work};
use crate::planted::Bug;
use crate::watch::Watched;

pub(super) const WORK: &[Work] =
    &[Work::Cipher, Work::Hash, Work::Mac, Work::Aead, Work::Power, Work::Wrong, Work::Renew];

const IV: [u8; 16] = [0x42; 16];
const AAD: &[u8] = b"additional";
/// Bytes of an RSA modulus.
const MODULUS: usize = 64;
const EXPONENT: u8 = 3;

/// What sessions are kept by: work, key, and whether it is the second form of it.
type SessionKey = (Work, u8);

pub(super) struct Worker {
    driver: Driver<Watched>,
    platform: Watched,
    sessions: BTreeMap<SessionKey, Session>,
    flying: VecDeque<(Ticket, u64)>,
    depth: usize,
    queues: usize,
    /// A request of the control queue went wrong: what sessions there are is not known.
    lost: bool,
    bug: Option<Bug>,
    overlooked: Overlooked,
}

impl Worker {
    pub(super) fn start(
        platform: Watched,
        options: &Options,
        bug: Option<Bug>,
    ) -> Result<Self, DriverError> {
        let completion = match options.completion {
            Completion::Polling => How::Polling,
            Completion::Single => How::Intx,
            Completion::Vectors => How::Msix,
        };
        let scatter = match options.pieces {
            None => Scatter::Fields,
            Some(0) => Scatter::Merged,
            Some(max) => Scatter::Pieces { max: max.max(24) },
        };
        let Options { packed, indirect, event_idx, .. } = *options;
        let queues = usize::from(options.queues.clamp(1, 3));
        let driver = Driver::new(
            platform.clone(),
            DriverOptions {
                queues: QueueOptions { packed, indirect, event_idx },
                queue_size: 256,
                data_queues: u16::try_from(queues).unwrap_or(1),
                completion,
                scatter,
                timeout_nanos: PATIENCE,
                ..DriverOptions::default()
            },
        )?;
        // The device may have fewer.
        let queues = driver.data_queues().clamp(1, queues);
        Ok(Self {
            driver,
            platform,
            sessions: BTreeMap::new(),
            flying: VecDeque::new(),
            depth: usize::from(options.depth.max(1)),
            queues,
            lost: false,
            bug,
            overlooked: Overlooked::default(),
        })
    }

    fn take(
        &mut self,
        ticket: Ticket,
        finished: Finished,
        book: &mut Book,
    ) -> Result<(), DriverError> {
        let Some(at) = self.flying.iter().position(|(flying, _)| *flying == ticket) else {
            book.deviate(FailureKind::Twice, "a request completed that is not in flight");
            return Ok(());
        };
        let id = self.flying.remove(at).map_or(0, |(_, id)| id);
        if self.overlooked.strikes(self.bug) {
            return Ok(());
        }
        match self.driver.result(finished) {
            Ok(data) => book.complete(id, &Outcome::Done(data)),
            Err(CryptoError::Status(status)) => {
                book.complete(
                    id,
                    &Outcome::Refused { status: status.to_string(), left: Vec::new() },
                );
            }
            Err(CryptoError::Driver(error)) => return Err(error),
        }
        Ok(())
    }

    /// The session of this kind and key.
    fn session(
        &mut self,
        key: SessionKey,
        parameters: &Parameters,
        book: &mut Book,
    ) -> Result<Option<Session>, DriverError> {
        if let Some(session) = self.sessions.get(&key) {
            return Ok(Some(*session));
        }
        match self.driver.create_session(parameters) {
            Ok(session) => {
                self.sessions.insert(key, session);
                Ok(Some(session))
            }
            Err(CryptoError::Status(status)) => {
                book.deviate(FailureKind::Refused, format!("a session was refused: {status}"));
                Ok(None)
            }
            Err(CryptoError::Driver(error)) => {
                self.lost = true;
                Err(error)
            }
        }
    }

    fn renew(&mut self, book: &mut Book) -> Result<(), DriverError> {
        self.collect(0, book)?;
        while let Some((_, session)) = self.sessions.pop_first() {
            match self.driver.destroy_session(session) {
                Ok(()) => {}
                Err(CryptoError::Status(status)) => {
                    let what = format!("the end of a session was refused: {status}");
                    book.deviate(FailureKind::Refused, what);
                }
                Err(CryptoError::Driver(error)) => {
                    self.lost = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Working for Worker {
    fn perform(&mut self, operation: &case::Operation, book: &mut Book) -> Result<(), DriverError> {
        if operation.work == Work::Renew {
            return self.renew(book);
        }
        let asked = Asked::new(operation);
        self.collect(self.depth.saturating_sub(1), book)?;
        let parameters = asked.parameters();
        let target = match operation.work {
            // A session that nobody created.
            Work::Wrong => Target::Session(Session { id: 0xdead_0000_0000, service: 0 }),
            _ if operation.salt & 4 != 0 => Target::Stateless(&parameters),
            work => match self.session((work, asked.key), &parameters, book)? {
                Some(session) => Target::Session(session),
                None => return Ok(()),
            },
        };
        let queue = usize::from(operation.queue) % self.queues;
        let id = book.submit(asked.name(), asked.expect());
        loop {
            match self.driver.submit(queue, target, &asked.operation()) {
                Ok(ticket) => {
                    self.flying.push_back((ticket, id));
                    return self.collect(usize::from(operation.leave), book);
                }
                Err(DriverError::QueueFull { .. }) if !self.flying.is_empty() => {
                    let leave = self.flying.len() - 1;
                    if let Err(error) = self.collect(leave, book) {
                        book.withdraw(id);
                        return Err(error);
                    }
                }
                Err(error) => {
                    book.withdraw(id);
                    return Err(error);
                }
            }
        }
    }

    fn collect(&mut self, leave: usize, book: &mut Book) -> Result<(), DriverError> {
        while self.flying.len() > leave {
            let Some((ticket, _)) = self.flying.front().copied() else { break };
            let finished = heard(&self.platform, book, || self.driver.wait(ticket))?;
            self.take(ticket, finished, book)?;
        }
        Ok(())
    }

    fn reap(&mut self, book: &mut Book) -> Result<(), DriverError> {
        while let Some(finished) = self.driver.reap()? {
            self.take(finished.ticket, finished, book)?;
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.flying.len()
    }

    fn is_lost(&self) -> bool {
        self.lost
    }
}

/// An operation with its contents.
struct Asked {
    work: Work,
    key: u8,
    source: Vec<u8>,
}

impl Asked {
    fn new(operation: &case::Operation) -> Self {
        let mut len = usize::from(operation.len) % 4096;
        // CBC takes whole blocks.
        if operation.work == Work::Cipher {
            len = len / 16 * 16;
        }
        let mut source = bytes(operation.salt, len);
        if operation.work == Work::Power {
            // Below every modulus.
            source.resize(MODULUS, 1);
            source[0] = 0;
        }
        Self { work: operation.work, key: operation.salt & 3, source }
    }

    fn name(&self) -> String {
        let work = match self.work {
            Work::Cipher if self.key & 2 == 0 => "AES-CBC",
            Work::Cipher => "AES-CTR",
            Work::Hash => "SHA-256",
            Work::Mac if self.key & 2 == 0 => "HMAC-SHA-256",
            Work::Mac => "CMAC-AES",
            Work::Aead => "ChaCha20-Poly1305",
            Work::Power => "RSA",
            _ => "a session that is none",
        };
        format!("{work} of {} bytes", self.source.len())
    }

    fn key_bytes(&self) -> Vec<u8> {
        vec![self.key.wrapping_mul(91) ^ 0x3c; 32]
    }

    fn modulus(&self) -> Vec<u8> {
        let mut modulus = bytes(self.key | 0x40, MODULUS);
        modulus[0] |= 0x80;
        modulus[MODULUS - 1] |= 1;
        modulus
    }

    /// An `RSAPublicKey` (RFC 8017 A.1.1).
    fn public_key(&self) -> Vec<u8> {
        let wide = u8::try_from(MODULUS).unwrap_or(0) + 1;
        let start = [0x30, wide + 5, 2, wide, 0];
        [&start[..], &self.modulus(), &[2, 1, EXPONENT]].concat()
    }

    fn parameters(&self) -> Parameters {
        let key = self.key_bytes();
        let direction = Direction::Encrypt;
        match self.work {
            Work::Hash => Parameters::Hash(HashKey { algorithm: hash::SHA_256, result_len: 32 }),
            Work::Mac if self.key & 2 == 0 => {
                Parameters::Mac(MacKey { algorithm: mac::HMAC_SHA_256, result_len: 32, key })
            }
            Work::Mac => Parameters::Mac(MacKey { algorithm: mac::CMAC_AES, result_len: 16, key }),
            Work::Aead => Parameters::Aead(AeadKey {
                algorithm: aead::CHACHA20_POLY1305,
                direction,
                key,
                tag_len: 16,
                aad_len: 10,
            }),
            Work::Power => Parameters::Akcipher(AkcipherKey {
                scheme: Scheme::Rsa { padding: akcipher::RSA_RAW, hash: akcipher::RSA_NO_HASH },
                kind: KeyKind::Public,
                key: self.public_key(),
            }),
            _ => {
                let algorithm = if self.key & 2 == 0 { cipher::AES_CBC } else { cipher::AES_CTR };
                Parameters::Cipher(CipherKey { algorithm, direction, key })
            }
        }
    }

    fn operation(&self) -> Operation<'_> {
        let (direction, src) = (Direction::Encrypt, self.source.as_slice());
        match self.work {
            Work::Hash => Operation::Hash { src, result_len: 32 },
            Work::Mac => {
                let result_len = if self.key & 2 == 0 { 32 } else { 16 };
                Operation::Mac { src, result_len }
            }
            Work::Aead => Operation::Aead { direction, iv: &IV[..12], aad: AAD, src, tag_len: 16 },
            Work::Power => {
                let dst_len = u32::try_from(MODULUS).unwrap_or(u32::MAX);
                Operation::Akcipher { operation: Akcipher::Encrypt, src, dst_len }
            }
            _ => Operation::Cipher { direction, iv: &IV, src },
        }
    }

    /// The result as it is computed without a device: by the engines where there is no other code.
    fn expect(&self) -> Expect {
        if self.work == Work::Wrong {
            return Expect::Refusal;
        }
        // Known algorithms with keys of the right length do not fail.
        Expect::Bytes(self.compute().unwrap_or_default())
    }

    fn compute(&self) -> Result<Vec<u8>, understudy_engines::Error> {
        let (key, mut data) = (self.key_bytes(), self.source.clone());
        // Keys and data here are of the lengths that the algorithms have.
        let fits = |made: Option<Vec<u8>>| made.ok_or(understudy_engines::Error::OutOfRange);
        match self.work {
            Work::Hash => Ok(oracle::digest(oracle::Hash::Sha256, &[&data])),
            Work::Mac if self.key & 2 == 0 => {
                Ok(oracle::hmac(oracle::Hash::Sha256, &key, &[&data]))
            }
            Work::Mac => {
                let mut tag = vec![0; 16];
                em::Key::new(em::Algorithm::CmacAes, &key)?.mac(&[], &data, &mut tag)?;
                Ok(tag)
            }
            Work::Aead => {
                let mut tag = [0; 16];
                let key = ea::Key::new(ea::Algorithm::ChaCha20Poly1305, &key)?;
                key.encrypt(ea::Nonce::Bytes(&IV[..12]), AAD, &mut data, &mut tag)?;
                data.extend(tag);
                Ok(data)
            }
            Work::Power => fits(oracle::power(&data, &[EXPONENT], &self.modulus())),
            _ if self.key & 2 == 0 => {
                fits(oracle::aes_cbc(oracle::Direction::Encrypt, &key, &IV, &data))
            }
            _ => fits(oracle::aes_ctr(&key, &IV, &data)),
        }
    }
}
