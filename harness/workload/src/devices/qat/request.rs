//! Requests: their buffers, and what must come of them.
//!
//! What is expected is computed by `understudy_oracle`, which has other code for it than the model.

use understudy_client::DriverError;
use understudy_client::qat::content::{Hash, aes};
use understudy_client::qat::functions::P256;
use understudy_client::qat::message::{
    self, Buffers, Compression, Content, PublicKey, Symmetric, cipher, command, compression_flag,
    flag, mode,
};
use understudy_client::qat::{Buffer, Memory, status};
use understudy_oracle::{self as oracle, Direction};

use super::super::bytes;
use super::{COMPRESSION, PAIRS, PUBLIC_KEY, SYMMETRIC, UNWRITTEN};
use crate::book::Expect;
use crate::case::{Operation, Work};
use crate::watch::Watched;

/// `PKE_RSA_EP_512` and `PKE_RSA_DP2_512`: with an exponent and a modulus, and with the primes.
const POWER_512: u32 = 0x1c16_1b21;
const RSA_CRT_512: u32 = 0x1c13_1b57;
/// Bytes of their modulus.
const MODULUS: usize = 64;
/// Bytes before those that a chain ciphers, which it hashes too.
const HEADER: usize = 24;
const TAG: usize = 32;
const GCM_TAG: usize = 16;
const IV: [u8; 16] = [0x17; 16];
/// Memory for the state of a stream.
const STATE: usize = 4096;

/// What the memory of a request will hold once it is answered.
#[derive(Default)]
pub(super) struct Left {
    places: Vec<Buffer>,
    /// Of the first place there is as much as the response says.
    produced: bool,
}

impl Left {
    /// What is there, one place after the other. The response says how much was produced.
    pub(super) fn read(&self, p: &mut Watched, produced: u32) -> Result<Vec<u8>, DriverError> {
        let mut data = Vec::new();
        for place in &self.places {
            data.extend(place.read(p)?);
        }
        if self.produced {
            data.truncate(usize::try_from(produced).unwrap_or(usize::MAX));
        }
        Ok(data)
    }
}

/// A request as it lies in a ring.
pub(super) struct Request {
    pub(super) pair: u16,
    pub(super) message: Vec<u8>,
    pub(super) left: Left,
    pub(super) expect: Expect,
    /// What follows once it has succeeded.
    pub(super) next: Option<Next>,
}

/// The rest of a stream, whose beginning is in another request.
pub(super) struct Next {
    /// Holds the state.
    pub(super) memory: Memory,
    state: u64,
    stream: Vec<u8>,
    plain: Vec<u8>,
}

/// What a symmetric request does with its buffers.
#[derive(Clone, Copy)]
struct Layout<'a> {
    command: u8,
    flags: u16,
    content: &'a Content,
    source: &'a [u8],
    in_place: bool,
    /// First byte and length of what is ciphered.
    cipher: (usize, usize),
    /// First byte and length of what is hashed.
    auth: (usize, usize),
    aad: &'a [u8],
    /// The digest beside the buffers, before the request; `None` if it is in the buffer.
    digest: Option<&'a [u8]>,
}

/// Makes requests.
pub(super) struct Maker<'a> {
    pub(super) p: &'a mut Watched,
    pub(super) memory: &'a mut Memory,
    pub(super) pieces: Option<usize>,
    pub(super) opaque: u64,
}

/// Inputs here are of the lengths that algorithms have.
const UNFIT: DriverError = DriverError::BadRequest("lengths");

/// One of a few forms of the same work: 12 of them.
fn form(operation: &Operation) -> usize {
    usize::from(operation.salt >> 2 & 3) + 4 * usize::from(operation.queue % 3)
}

fn word(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Bytes changed in one bit.
fn forged(bytes: &[u8], salt: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = usize::from(salt) * 7 % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (salt % 8);
    }
    bytes
}

impl Maker<'_> {
    /// The first request of an operation.
    pub(super) fn make(&mut self, operation: &Operation) -> Result<Request, DriverError> {
        match operation.work {
            Work::Cipher => self.cipher(operation),
            Work::Hash => self.hash(operation, false),
            Work::Chain => self.chain(operation, false),
            Work::Aead => self.gcm(operation, false),
            Work::Forged => match operation.queue % 3 {
                0 => self.chain(operation, true),
                1 => self.gcm(operation, true),
                _ => self.hash(operation, true),
            },
            Work::Compress => self.compress(operation),
            Work::Decompress => self.decompress(operation, false),
            Work::Wrong => self.decompress(operation, true),
            Work::Stream => self.begin(operation),
            Work::Power if form(operation) & 1 == 1 => self.rsa(operation),
            Work::Power => self.power(operation),
            _ => {
                let (pair, len) = PAIRS[usize::from(operation.queue) % PAIRS.len()];
                let mut message = vec![0; len];
                message[3] = 0x80;
                message[24..32].copy_from_slice(&self.opaque.to_le_bytes());
                let (left, expect) = (Left::default(), Expect::Bytes(Vec::new()));
                Ok(Request { pair, message, left, expect, next: None })
            }
        }
    }

    /// CTR, CBC or XTS, either way, in place or not.
    fn cipher(&mut self, operation: &Operation) -> Result<Request, DriverError> {
        let form = form(operation);
        let (decrypt, in_place) = (form & 1 == 1, form & 2 == 2);
        let direction = if decrypt { Direction::Decrypt } else { Direction::Encrypt };
        let len = len(operation).max(1);
        let (key_len, number, len) = match form / 4 {
            0 => (16, mode::CTR, len),
            1 => (32, mode::CBC, len.next_multiple_of(16)),
            _ => (32, mode::XTS, len.max(16)),
        };
        let (source, key) = (bytes(operation.salt, len), key(operation, key_len));
        let wanted = match number {
            mode::CTR => oracle::aes_ctr(&key, &IV, &source),
            mode::CBC => oracle::aes_cbc(direction, &key, &IV, &source),
            _ => oracle::aes_xts(direction, &key, IV, &source),
        };
        // XTS has two keys, and counter mode encrypts both ways.
        let algorithm = if number == mode::XTS { cipher::AES_128 } else { aes(key_len) };
        let decrypt = decrypt && number != mode::CTR;
        let content = Content::default().cipher(algorithm, number, decrypt, &key);
        let layout = Layout {
            command: command::CIPHER,
            flags: 0,
            content: &content,
            source: &source,
            in_place,
            cipher: (0, len),
            auth: (0, 0),
            aad: &[],
            digest: None,
        };
        self.symmetric(layout, Expect::Bytes(wanted.ok_or(UNFIT)?))
    }

    /// SHA-256, written or compared.
    fn hash(&mut self, operation: &Operation, is_forged: bool) -> Result<Request, DriverError> {
        let source = bytes(operation.salt, len(operation));
        let digest = oracle::digest(oracle::Hash::Sha256, &[&source]);
        let compares = is_forged || form(operation) & 1 == 1;
        let before = match (compares, is_forged) {
            (_, true) => forged(&digest, operation.salt),
            (true, false) => digest.clone(),
            (false, false) => vec![UNWRITTEN; TAG],
        };
        let content = Content::default().plain_hash(Hash::Sha256, TAG);
        let layout = Layout {
            command: command::AUTH,
            flags: if compares { flag::COMPARE_DIGEST } else { flag::RETURN_DIGEST },
            content: &content,
            source: &source,
            in_place: true,
            cipher: (0, 0),
            auth: (0, source.len()),
            aad: &[],
            digest: Some(&before),
        };
        let after = if is_forged { &before } else { &digest };
        let after = [&source[..], after].concat();
        self.symmetric(layout, if is_forged { mismatch(after) } else { Expect::Bytes(after) })
    }

    /// AES-CBC with HMAC-SHA-256 in the drivers' order: sealed, or opened again. The digest is
    /// beside the buffer or in it.
    fn chain(&mut self, operation: &Operation, is_forged: bool) -> Result<Request, DriverError> {
        let form = form(operation);
        let (opens, in_place) = (is_forged || form & 1 == 1, form & 2 == 2);
        let behind = if is_forged { form & 1 == 1 } else { form & 4 == 4 };
        let len = len(operation).max(1).next_multiple_of(16);
        let (header, plain) = (bytes(operation.salt ^ 0x20, HEADER), bytes(operation.salt, len));
        let (key, mac_key) = (key(operation, 16), bytes(operation.salt | 0x80, 40));
        let sealed = oracle::aes_cbc(Direction::Encrypt, &key, &IV, &plain).ok_or(UNFIT)?;
        let tag = oracle::hmac(oracle::Hash::Sha256, &mac_key, &[&header, &sealed]);
        let told = match (opens, is_forged) {
            (true, true) => forged(&tag, operation.salt),
            (true, false) => tag.clone(),
            (false, _) => vec![UNWRITTEN; TAG],
        };
        // The kernel has the hash first in the descriptor of decryption.
        let cipher = |content: Content| content.cipher(cipher::AES_128, mode::CBC, opens, &key);
        let hash = |content: Content| content.hmac(Hash::Sha256, &mac_key, TAG);
        let content = match opens {
            false => hash(cipher(Content::default())),
            true => cipher(hash(Content::default())),
        };
        let (from, to) = if opens { (&sealed, &plain) } else { (&plain, &sealed) };
        let digest_in_buffer = if behind { flag::DIGEST_IN_BUFFER } else { 0 };
        let room: &[u8] = if behind { &told } else { &[] };
        let source = [&header, &from[..], room].concat();
        let digest_flag = if opens { flag::COMPARE_DIGEST } else { flag::RETURN_DIGEST };
        let layout = Layout {
            command: if opens { command::HASH_CIPHER } else { command::CIPHER_HASH },
            flags: digest_flag | digest_in_buffer,
            content: &content,
            source: &source,
            in_place,
            cipher: (HEADER, len),
            auth: (0, HEADER + len),
            aad: &[],
            digest: (!behind).then_some(&told),
        };
        self.authenticated(layout, &[&header, &to[..]].concat(), &tag, is_forged)
    }

    /// AES-GCM, sealed or opened, with the digest beside the buffer or in it.
    fn gcm(&mut self, operation: &Operation, is_forged: bool) -> Result<Request, DriverError> {
        let form = form(operation);
        let (opens, in_place) = (is_forged || form & 1 == 1, form & 2 == 2);
        let behind = if is_forged { form & 1 == 1 } else { form & 4 == 4 };
        let (plain, key) = (bytes(operation.salt, len(operation).max(1)), key(operation, 16));
        let header = bytes(operation.salt ^ 0x20, 20);
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&IV[..12]);
        let (sealed, tag) = oracle::aes_gcm_seal(&key, nonce, &header, &plain).ok_or(UNFIT)?;
        let told = match (opens, is_forged) {
            (true, true) => forged(&tag, operation.salt),
            (true, false) => tag.to_vec(),
            (false, _) => vec![UNWRITTEN; GCM_TAG],
        };
        let (content, aad) = Content::gcm(&key, &header, GCM_TAG);
        let (from, to) = if opens { (&sealed, &plain) } else { (&plain, &sealed) };
        let room: &[u8] = if behind { &told } else { &[] };
        let source = [&from[..], room].concat();
        let digest_flag = if opens { flag::COMPARE_DIGEST } else { flag::RETURN_DIGEST };
        let digest_in_buffer = if behind { flag::DIGEST_IN_BUFFER } else { 0 };
        let layout = Layout {
            command: if opens { command::HASH_CIPHER } else { command::CIPHER_HASH },
            flags: digest_flag | digest_in_buffer | flag::GCM | flag::IV_12_BYTES,
            content: &content,
            source: &source,
            in_place,
            cipher: (0, plain.len()),
            auth: (0, plain.len()),
            aad: &aad,
            digest: (!behind).then_some(&told),
        };
        self.authenticated(layout, to, &tag, is_forged)
    }

    /// A request that writes or compares a digest, with the data that it makes.
    fn authenticated(
        &mut self,
        layout: Layout<'_>,
        data: &[u8],
        tag: &[u8],
        is_forged: bool,
    ) -> Result<Request, DriverError> {
        let Layout { source, in_place, digest, .. } = layout;
        let mut after = if in_place { source.to_vec() } else { vec![UNWRITTEN; source.len()] };
        let writes = layout.flags & flag::RETURN_DIGEST != 0;
        if !is_forged {
            after[..data.len()].copy_from_slice(data);
        }
        match digest {
            Some(before) => after.extend(if writes { tag } else { before }),
            // Out of place, a digest that is compared stays behind.
            None if writes => after[data.len()..].copy_from_slice(tag),
            None => {}
        }
        self.symmetric(layout, if is_forged { mismatch(after) } else { Expect::Bytes(after) })
    }

    fn symmetric(&mut self, layout: Layout<'_>, expect: Expect) -> Result<Request, DriverError> {
        let Layout { content, .. } = layout;
        let described = self.memory.copy(self.p, &content.bytes)?;
        let source = self.memory.buffer(self.p, layout.source, self.pieces)?;
        let destination = match layout.in_place {
            true => source.clone(),
            false => self.memory.buffer(self.p, &vec![UNWRITTEN; source.len], self.pieces)?,
        };
        let aad = self.memory.copy(self.p, layout.aad)?;
        let mut places = vec![destination.clone()];
        let mut digest = 0;
        if let Some(before) = layout.digest {
            let beside = self.memory.buffer(self.p, before, None)?;
            digest = beside.address;
            places.push(beside);
        }
        let span = |(at, len)| (word(at), word(len));
        let request = Symmetric {
            command: layout.command,
            flags: layout.flags | flag::IV_INLINE,
            content: described.iova,
            content_len: content.bytes.len(),
            control: content.control,
            buffers: self.buffers(&source, &destination),
            cipher: span(layout.cipher),
            iv: IV,
            auth: span(layout.auth),
            aad: aad.iova,
            aad_len: u8::try_from(layout.aad.len()).unwrap_or(u8::MAX),
            digest,
            extended: 0,
        };
        let left = Left { places, produced: false };
        Ok(Request { pair: SYMMETRIC, message: request.encode(), left, expect, next: None })
    }

    fn compress(&mut self, operation: &Operation) -> Result<Request, DriverError> {
        let source = text(operation.salt, len(operation));
        let room = source.len() + 256;
        let dynamic = form(operation) & 1 == 0;
        let command = if dynamic { command::DYNAMIC } else { command::STATIC };
        self.compression(command, &source, room, None, Expect::Inflates(source.clone()))
    }

    fn decompress(&mut self, operation: &Operation, wrong: bool) -> Result<Request, DriverError> {
        let plain = text(operation.salt, len(operation).max(64));
        let level = [1, 9, 0, 6][form(operation) & 3];
        let packed = oracle::deflate(&plain, level);
        // What does not fit is refused.
        let room = if wrong { plain.len() / 2 } else { plain.len() + 1 };
        let expect = if wrong { Expect::Refusal } else { Expect::Bytes(plain) };
        self.compression(command::DECOMPRESS, &packed, room, None, expect)
    }

    /// The first request of a stream that goes on in another.
    fn begin(&mut self, operation: &Operation) -> Result<Request, DriverError> {
        let plain = text(operation.salt, len(operation).max(200));
        let stream = oracle::deflate(&plain, [6, 1, 9, 0][form(operation) & 3]);
        let mut memory = Memory::default();
        let state = memory.copy(self.p, &[0; STATE])?.iova;
        let part = &stream[..stream.len() / 2];
        let stateful = Some((state, compression_flag::START));
        // How much of a stream comes out at once is up to the device.
        let expect = Expect::Begins(plain.clone());
        let made = self.compression(command::DECOMPRESS, part, plain.len(), stateful, expect);
        match made {
            Ok(request) => {
                let next = Some(Next { memory, state, stream, plain });
                Ok(Request { next, ..request })
            }
            Err(error) => {
                memory.release(self.p);
                Err(error)
            }
        }
    }

    /// The request that ends a stream of which so much was taken and came out.
    pub(super) fn end(
        &mut self,
        next: &Next,
        consumed: u32,
        produced: u32,
    ) -> Result<Request, DriverError> {
        let rest = |all: &[u8], at: u32| {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(all.len());
            all[at..].to_vec()
        };
        let (stream, plain) = (rest(&next.stream, consumed), rest(&next.plain, produced));
        let flags = compression_flag::END | compression_flag::FINAL_BLOCK;
        let stateful = Some((next.state, flags));
        let room = plain.len() + 1;
        self.compression(command::DECOMPRESS, &stream, room, stateful, Expect::Bytes(plain))
    }

    /// A request of the compression service. A stateful one has the address of its state, and its
    /// place in the stream.
    fn compression(
        &mut self,
        command: u8,
        source: &[u8],
        room: usize,
        stateful: Option<(u64, u32)>,
        expect: Expect,
    ) -> Result<Request, DriverError> {
        let len = source.len();
        let source = self.memory.buffer(self.p, source, self.pieces)?;
        let destination = self.memory.buffer(self.p, &vec![UNWRITTEN; room], self.pieces)?;
        let whole = compression_flag::START | compression_flag::END | compression_flag::FINAL_BLOCK;
        let packs = command != message::command::DECOMPRESS;
        let request = Compression {
            command,
            state: stateful.map(|(state, _)| state),
            depth: u32::from(packs),
            buffers: self.buffers(&source, &destination),
            len: word(len),
            room: word(room),
            flags: stateful.map_or(whole, |(_, flags)| flags),
        };
        let left = Left { places: vec![destination], produced: true };
        Ok(Request { pair: COMPRESSION, message: request.encode(), left, expect, next: None })
    }

    fn power(&mut self, operation: &Operation) -> Result<Request, DriverError> {
        let mut operands = [1_u8, 2, 3].map(|n| bytes(operation.salt ^ n << 6, MODULUS));
        // A base below an odd modulus, and a short exponent.
        operands[0][0] = 0;
        operands[1][..62].fill(0);
        operands[2][0] |= 0x80;
        operands[2][63] |= 1;
        let wanted = oracle::power(&operands[0], &operands[1], &operands[2]).ok_or(UNFIT)?;
        self.public_key(POWER_512, operands.to_vec(), wanted)
    }

    /// RSA with the Chinese remainder theorem. Two primes of the right length are known from P-256.
    fn rsa(&mut self, operation: &Operation) -> Result<Request, DriverError> {
        let half = MODULUS / 2;
        let [p, _, q, ..] = P256.digits.map(number);
        let modulus = oracle::product(&p, &q, MODULUS).ok_or(UNFIT)?;
        let inverse = oracle::inverse(&q, &p).ok_or(UNFIT)?;
        let mut input = bytes(operation.salt, MODULUS);
        input[0] = 0;
        // Below both primes, so it is its own remainder.
        let mut exponent = bytes(operation.salt | 0xc0, half);
        exponent[..half - 4].fill(0);
        let wanted = oracle::power(&input, &exponent, &modulus).ok_or(UNFIT)?;
        let operands = vec![input, p, q, exponent.clone(), exponent, inverse];
        self.public_key(RSA_CRT_512, operands, wanted)
    }

    fn public_key(
        &mut self,
        function: u32,
        operands: Vec<Vec<u8>>,
        wanted: Vec<u8>,
    ) -> Result<Request, DriverError> {
        let mut table = Vec::new();
        for operand in &operands {
            table.extend(self.memory.copy(self.p, operand)?.iova.to_le_bytes());
        }
        let result = self.memory.buffer(self.p, &vec![UNWRITTEN; wanted.len()], None)?;
        let from = self.memory.copy(self.p, &table)?;
        let to = self.memory.copy(self.p, &result.address.to_le_bytes())?;
        let call = PublicKey { function, operands, results: vec![wanted.len()] };
        let message = call.encode(self.opaque, from.iova, to.iova);
        let left = Left { places: vec![result], produced: false };
        Ok(Request { pair: PUBLIC_KEY, message, left, expect: Expect::Bytes(wanted), next: None })
    }

    fn buffers(&self, source: &Buffer, destination: &Buffer) -> Buffers {
        let lists = self.pieces.is_some();
        let len = |buffer: &Buffer| if lists { 0 } else { word(buffer.len) };
        Buffers {
            opaque: self.opaque,
            source: source.address,
            destination: destination.address,
            source_len: len(source),
            destination_len: len(destination),
            lists,
        }
    }
}

/// A digest that does not match is told as that and nothing else, and nothing is written.
fn mismatch(left: Vec<u8>) -> Expect {
    Expect::RefusedAs { status: super::told(status::CRYPTO, 0), left }
}

fn len(operation: &Operation) -> usize {
    usize::from(operation.len) % 4096
}

fn key(operation: &Operation, len: usize) -> Vec<u8> {
    bytes(0x40 | operation.salt & 3, len)
}

/// Digits of a number.
fn number(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter_map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Text that compresses.
fn text(salt: u8, len: usize) -> Vec<u8> {
    let words = ["engine", "ring", "bundle", "mailbox", "of ", "the ", "\n", "7f7f"];
    let choices = bytes(salt, len);
    choices.iter().flat_map(|at| words[usize::from(at >> 5)].bytes()).take(len).collect()
}
