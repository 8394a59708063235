//! QAT: symmetric, public-key and compression requests on a pair of rings each.

use std::collections::BTreeMap;

use understudy_client::qat::message::{
    self, Buffers, Compression, Content, PublicKey, Symmetric, cipher, command, compression_flag,
    flag, mode,
};
use understudy_client::qat::{Buffer, Driver, Memory, Options as DriverOptions, Response, status};
use understudy_client::{DmaBuffer, DriverError, Platform};
use understudy_engines::deflate::{self, Huffman};
use understudy_engines::{cipher as ec, modular};

use super::{Overlooked, PATIENCE, Strangers, Working, bytes};
use crate::book::{Book, Expect, Outcome};
use crate::case::{Completion, Operation, Options, Work};
use crate::planted::Bug;
use crate::watch::Watched;

pub(super) const WORK: &[Work] = &[
    Work::Null,
    Work::Cipher,
    Work::Compress,
    Work::Decompress,
    Work::Power,
    Work::Wrong,
    Work::Renew,
];

/// Pairs of rings, and the length of their messages.
const PAIRS: [(u16, usize); 3] = [(0, 64), (2, 128), (6, 128)];
const PUBLIC_KEY: u16 = 0;
const SYMMETRIC: u16 = 2;
const COMPRESSION: u16 = 6;
/// Slots of a ring.
const SLOTS: usize = 32;
/// `PKE_RSA_EP_512`: a modular exponentiation of 512 bits.
const POWER_512: u32 = 0x1c16_1b21;
/// What a destination holds before the device writes it.
const UNWRITTEN: u8 = 0xa5;

/// What a request left in memory, and how to read it.
enum Result {
    None,
    Buffer(Buffer),
    /// As much of a buffer as the response says.
    Produced(Buffer),
    Flat(DmaBuffer),
}

struct Flying {
    id: u64,
    memory: Memory,
    result: Result,
}

pub(super) struct Worker {
    driver: Driver<Watched>,
    /// By pair, then by what ties a response to its request.
    flying: BTreeMap<(u16, u64), Flying>,
    pieces: Option<usize>,
    depth: usize,
    bug: Option<Bug>,
    overlooked: Overlooked,
    strangers: Strangers,
}

impl Worker {
    pub(super) fn start(
        platform: Watched,
        options: &Options,
        bug: Option<Bug>,
    ) -> std::result::Result<Self, DriverError> {
        let interrupts = options.completion != Completion::Polling;
        let pieces = options.pieces.map(|len| usize::try_from(len).unwrap_or(0).max(16));
        let driver_options = DriverOptions { interrupts, piece: pieces, timeout_nanos: PATIENCE };
        let mut driver = Driver::new(platform, driver_options)?;
        driver.introduce()?;
        for (pair, len) in PAIRS {
            driver.open(pair, SLOTS, len)?;
        }
        let (flying, depth) = (BTreeMap::new(), usize::from(options.depth.max(1)).min(SLOTS - 2));
        let (overlooked, strangers) = (Overlooked::default(), Strangers::default());
        Ok(Self { driver, flying, pieces, depth, bug, overlooked, strangers })
    }

    fn pending(&self, pair: u16) -> usize {
        self.flying.range((pair, 0)..=(pair, u64::MAX)).count()
    }

    fn took(
        &mut self,
        pair: u16,
        response: &Response,
        book: &mut Book,
    ) -> std::result::Result<(), DriverError> {
        let Some(flying) = self.flying.remove(&(pair, response.opaque())) else {
            return self.strangers.met(&format!("pair {pair}"), book);
        };
        self.strangers.forget();
        if self.overlooked.strikes(self.bug) {
            return Ok(());
        }
        let Flying { id, memory, result } = flying;
        let p = &mut self.driver.platform;
        memory.check(p)?;
        let data = match result {
            Result::None => Vec::new(),
            Result::Buffer(buffer) => buffer.read(p)?,
            Result::Produced(buffer) => {
                let mut data = buffer.read(p)?;
                let produced =
                    response.bytes[20..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
                data.truncate(usize::try_from(produced).unwrap_or(usize::MAX));
                data
            }
            Result::Flat(buffer) => {
                let mut data = vec![0; buffer.len];
                p.dma_read(buffer.iova, &mut data)?;
                data
            }
        };
        memory.release(p);
        let (status, error) = (response.status() & !status::END_OF_LAST_BLOCK, response.error());
        let outcome = match (status, error) {
            (0, 0) => Outcome::Done(data),
            _ => Outcome::Refused(format!("status {status:#x}, error {error}")),
        };
        book.complete(id, &outcome);
        Ok(())
    }

    /// Builds and submits a request.
    fn submit(
        &mut self,
        operation: &Operation,
        book: &mut Book,
    ) -> std::result::Result<(), DriverError> {
        let mut memory = Memory::default();
        let opaque = self.driver.opaque();
        let (pair, message, result, expect) = self.request(operation, opaque, &mut memory)?;
        let name = format!("{:?} of {} bytes on pair {pair}", operation.work, operation.len);
        let id = book.submit(name, expect);
        match self.driver.submit(pair, &message) {
            Ok(()) => {
                self.flying.insert((pair, opaque), Flying { id, memory, result });
                Ok(())
            }
            Err(error) => {
                book.withdraw(id);
                memory.release(&mut self.driver.platform);
                Err(error)
            }
        }
    }

    fn request(
        &mut self,
        operation: &Operation,
        opaque: u64,
        memory: &mut Memory,
    ) -> std::result::Result<(u16, Vec<u8>, Result, Expect), DriverError> {
        let p = &mut self.driver.platform;
        let len = usize::from(operation.len) % 4096;
        Ok(match operation.work {
            Work::Cipher => {
                let source = bytes(operation.salt, len.max(1));
                let key = vec![operation.salt & 3; 16];
                let content = Content::default().cipher(cipher::AES_128, mode::CTR, false, &key);
                let mut wanted = source.clone();
                let engine = ec::Key::new(ec::Algorithm::AesCtr, &key);
                // A key of 16 bytes is one.
                let done = engine.and_then(|key| {
                    key.apply(ec::Direction::Encrypt, &IV, &mut wanted).map(|_| ())
                });
                done.map_err(|_| DriverError::BadRequest("cipher"))?;
                let described = memory.copy(p, &content.bytes)?;
                let source = memory.buffer(p, &source, self.pieces)?;
                let room = vec![UNWRITTEN; source.len];
                let destination = memory.buffer(p, &room, self.pieces)?;
                let request = Symmetric {
                    command: command::CIPHER,
                    flags: flag::IV_INLINE,
                    content: described.iova,
                    content_len: content.bytes.len(),
                    control: content.control,
                    buffers: self.buffers(opaque, &source, &destination),
                    cipher: (0, u32::try_from(source.len).unwrap_or(u32::MAX)),
                    iv: IV,
                    ..Symmetric::default()
                };
                (SYMMETRIC, request.encode(), Result::Buffer(destination), Expect::Bytes(wanted))
            }
            Work::Compress => {
                let source = text(operation.salt, len);
                let wanted = Expect::Inflates(source.clone());
                let (message, destination) =
                    self.compression(memory, opaque, command::DYNAMIC, &source, len + 256)?;
                (COMPRESSION, message, Result::Produced(destination), wanted)
            }
            Work::Decompress | Work::Wrong => {
                let plain = text(operation.salt, len.max(64));
                let options = deflate::Options {
                    huffman: Huffman::Fixed,
                    level: 1,
                    last: true,
                    verify: false,
                };
                let packed = deflate::compress(&plain, plain.len() + 256, options)
                    .map_err(|_| DriverError::BadRequest("text"))?;
                let wrong = operation.work == Work::Wrong;
                // What does not fit is refused.
                let room = if wrong { plain.len() / 2 } else { plain.len() + 1 };
                let (message, destination) =
                    self.compression(memory, opaque, command::DECOMPRESS, &packed.data, room)?;
                let expect = if wrong { Expect::Refusal } else { Expect::Bytes(plain) };
                (COMPRESSION, message, Result::Produced(destination), expect)
            }
            Work::Power => {
                let mut operands = [1_u8, 2, 3].map(|n| bytes(operation.salt ^ n << 6, 64));
                // A base below an odd modulus, and a short exponent.
                operands[0][0] = 0;
                operands[1][..62].fill(0);
                operands[2][0] |= 0x80;
                operands[2][63] |= 1;
                let wanted = modular::power(&operands[0], &operands[1], &operands[2])
                    .map_err(|_| DriverError::BadRequest("operands"))?;
                let mut tables = [Vec::new(), Vec::new()];
                for operand in &operands {
                    tables[0].extend(memory.copy(p, operand)?.iova.to_le_bytes());
                }
                let result = memory.guarded(p, &[UNWRITTEN; 64])?;
                tables[1].extend(result.iova.to_le_bytes());
                let [from, to] = tables;
                let (from, to) = (memory.copy(p, &from)?, memory.copy(p, &to)?);
                let (operands, results) = (operands.to_vec(), vec![64]);
                let call = PublicKey { function: POWER_512, operands, results };
                let message = call.encode(opaque, from.iova, to.iova);
                (PUBLIC_KEY, message, Result::Flat(result), Expect::Bytes(wanted))
            }
            _ => {
                let (pair, len) = PAIRS[usize::from(operation.queue) % PAIRS.len()];
                let mut message = vec![0; len];
                message[3] = 0x80;
                message[24..32].copy_from_slice(&opaque.to_le_bytes());
                (pair, message, Result::None, Expect::Bytes(Vec::new()))
            }
        })
    }

    fn compression(
        &mut self,
        memory: &mut Memory,
        opaque: u64,
        command: u8,
        source: &[u8],
        room: usize,
    ) -> std::result::Result<(Vec<u8>, Buffer), DriverError> {
        let p = &mut self.driver.platform;
        let len = source.len();
        let source = memory.buffer(p, source, self.pieces)?;
        let destination = memory.buffer(p, &vec![UNWRITTEN; room], self.pieces)?;
        let packs = command != message::command::DECOMPRESS;
        let request = Compression {
            command,
            depth: u32::from(packs),
            buffers: self.buffers(opaque, &source, &destination),
            len: u32::try_from(len).unwrap_or(u32::MAX),
            room: u32::try_from(room).unwrap_or(u32::MAX),
            flags: compression_flag::START | compression_flag::END | compression_flag::FINAL_BLOCK,
            ..Compression::default()
        };
        Ok((request.encode(), destination))
    }

    fn buffers(&self, opaque: u64, source: &Buffer, destination: &Buffer) -> Buffers {
        let lists = self.pieces.is_some();
        let len = |buffer: &Buffer| match lists {
            true => 0,
            false => u32::try_from(buffer.len).unwrap_or(u32::MAX),
        };
        Buffers {
            opaque,
            source: source.address,
            destination: destination.address,
            source_len: len(source),
            destination_len: len(destination),
            lists,
        }
    }
}

const IV: [u8; 16] = [0x17; 16];

/// Text that compresses.
fn text(salt: u8, len: usize) -> Vec<u8> {
    let words = ["engine", "ring", "bundle", "mailbox", "of ", "the ", "\n", "7f7f"];
    let choices = bytes(salt, len);
    let mut text: Vec<u8> =
        choices.iter().flat_map(|at| words[usize::from(at >> 5)].bytes()).take(len).collect();
    text.truncate(len);
    text
}

impl Working for Worker {
    fn perform(
        &mut self,
        operation: &Operation,
        book: &mut Book,
    ) -> std::result::Result<(), DriverError> {
        if operation.work == Work::Renew {
            self.collect(0, book)?;
            let (pair, len) = PAIRS[usize::from(operation.queue) % PAIRS.len()];
            self.driver.close(pair)?;
            return self.driver.open(pair, SLOTS, len);
        }
        self.collect(self.depth.saturating_sub(1), book)?;
        self.submit(operation, book)?;
        self.collect(usize::from(operation.leave), book)
    }

    fn collect(&mut self, leave: usize, book: &mut Book) -> std::result::Result<(), DriverError> {
        while self.flying.len() > leave {
            let busy = PAIRS.map(|(pair, _)| (self.pending(pair), pair));
            let Some((_, pair)) = busy.into_iter().max() else { break };
            let response = self.driver.wait(pair)?;
            self.took(pair, &response, book)?;
        }
        Ok(())
    }

    fn reap(&mut self, book: &mut Book) -> std::result::Result<(), DriverError> {
        for (pair, _) in PAIRS {
            while let Some(response) = self.driver.take(pair)? {
                self.took(pair, &response, book)?;
            }
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.flying.len()
    }
}
