//! Our small QAT driver.

use std::sync::LazyLock;

use understudy_client::qat::content::Hash;
use understudy_client::qat::message::{
    self, Compression, cipher, command, compression_flag, flag, mode,
};
use understudy_client::qat::{
    CompressionCall, Content, Driver, Memory, Options, PublicKey, SymmetricCall, status,
};
use understudy_client::{DriverError, Platform};
use understudy_device::DeviceModel;
use understudy_qat::{Parameters, Qat};

use crate::platform::FuzzPlatform;
use crate::program::Call;
use crate::target::Target;

/// `understudy_client::qat`. The first call chooses interrupts and lists.
#[derive(Debug, Clone, Copy)]
pub struct QatDriver;

/// Rings of each service: pair, slots, bytes of a request.
const PUBLIC_KEY: (u16, usize, usize) = (0, 16, 64);
const SYMMETRIC: (u16, usize, usize) = (2, 16, 128);
const COMPRESSION: (u16, usize, usize) = (6, 16, 128);
const HEADER: u32 = 16;
const IV: [u8; 16] = [0x17; 16];

/// Content descriptors, which a driver computes once for its keys.
struct Contents {
    ctr: Content,
    cbc: [Content; 2],
    xts: [Content; 2],
    hash: Content,
    mac: Content,
    /// Sealing, then opening.
    chain: [Content; 2],
    gcm: Content,
    aad: Vec<u8>,
}

static CONTENTS: LazyLock<Contents> = LazyLock::new(|| {
    let cipher =
        |mode, decrypt, key: &[u8]| Content::default().cipher(cipher::AES_128, mode, decrypt, key);
    let hmac = |content: Content| content.hmac(Hash::Sha256, b"secret", 32);
    let (gcm, aad) = Content::gcm(&[9; 16], b"additional", 16);
    let two = super::pattern(32);
    Contents {
        ctr: cipher(mode::CTR, false, &[7; 16]),
        cbc: [false, true].map(|decrypt| cipher(mode::CBC, decrypt, &[7; 16])),
        xts: [false, true].map(|decrypt| cipher(mode::XTS, decrypt, &two)),
        hash: Content::default().plain_hash(Hash::Sha256, 32),
        mac: hmac(Content::default()),
        chain: [
            hmac(cipher(mode::CBC, false, &[7; 16])),
            hmac(Content::default()).cipher(cipher::AES_128, mode::CBC, true, &[7; 16]),
        ],
        gcm,
        aad,
    }
});

/// "abc", stored, in two halves.
const STREAM: ([u8; 4], [u8; 4]) = ([1, 3, 0, 0xfc], [0xff, b'a', b'b', b'c']);

impl Target for QatDriver {
    fn name(&self) -> &str {
        "qat"
    }

    fn model(&self) -> Result<Box<dyn DeviceModel>, String> {
        let model = Qat::new(Parameters::default()).map_err(|error| error.to_string())?;
        Ok(Box::new(model))
    }

    fn drive(&self, device: &mut FuzzPlatform, calls: &[Call]) -> Result<(), String> {
        let how = calls.first().map_or(0, |call| call.1);
        let options = Options {
            interrupts: how & 1 != 0,
            piece: (how & 2 != 0).then_some(64),
            timeout_nanos: 100_000_000,
        };
        let driver = Driver::new(device, options).map_err(|error| error.to_string())?;
        let mut work = Work { driver, open: Vec::new() };
        work.serve(calls).map_err(|error| error.to_string())
    }

    fn calls(&self) -> u8 {
        16
    }
}

/// A driver, and its rings.
struct Work<'a> {
    driver: Driver<&'a mut FuzzPlatform>,
    open: Vec<(u16, usize, usize)>,
}

impl Work<'_> {
    fn serve(&mut self, calls: &[Call]) -> Result<(), DriverError> {
        self.driver.introduce()?;
        self.open(COMPRESSION)?;
        for call in calls {
            self.make(*call)?;
        }
        while let Some((pair, ..)) = self.open.pop() {
            self.driver.close(pair)?;
        }
        Ok(())
    }

    /// Sets rings up when they are first needed.
    fn open(&mut self, rings: (u16, usize, usize)) -> Result<(), DriverError> {
        if !self.open.contains(&rings) {
            self.open.push(rings);
            let (pair, slots, message_len) = rings;
            self.driver.open(pair, slots, message_len)?;
        }
        Ok(())
    }

    fn make(&mut self, call: Call) -> Result<(), DriverError> {
        // What is asked for in which way: the upper bits choose.
        let (source, form) = (super::pattern(call.1 % 1024), call.1 >> 10);
        let driver = &mut self.driver;
        match call.0 % 16 {
            0 => driver.introduce().map(|_| ()),
            1 => match driver.block(u32::from(call.1 % 8)) {
                // Not every block is there.
                Ok(_) | Err(DriverError::Missing(_)) => Ok(()),
                Err(error) => Err(error),
            },
            2 => self.renew(COMPRESSION),
            3 | 4 => driver.mailbox().map(|_| ()),
            5 => self.compress(command::DECOMPRESS, &source),
            6 | 7 => self.compress(command::STATIC, &source),
            8 => self.cipher(&source, form),
            9 => self.authenticate(&source, form),
            10 => self.chain(&source, form),
            11 => self.gcm(&source, form),
            12 => self.power(&source),
            13 => self.stream(),
            14 => self.leave(form),
            _ => self.several(&source),
        }
    }

    fn renew(&mut self, rings: (u16, usize, usize)) -> Result<(), DriverError> {
        let (pair, slots, message_len) = rings;
        self.driver.close(pair)?;
        self.driver.open(pair, slots, message_len)
    }

    /// What a device that has done nothing wrong yet must hold to.
    fn check(&mut self, holds: bool, clause: &str) {
        if !holds && self.driver.platform.fired() == 0 {
            self.driver.platform.wrong(clause, "");
        }
    }

    fn compress(&mut self, command: u8, source: &[u8]) -> Result<(), DriverError> {
        let flags = compression_flag::START | compression_flag::END | compression_flag::FINAL_BLOCK;
        let room = source.len() + 64;
        let call = CompressionCall { command, state: None, depth: 1, source, room, flags };
        let found = self.driver.compression(&call)?;
        if found.data.len() > room {
            self.driver.platform.wrong("a result is longer than its buffer", "");
        }
        Ok(())
    }

    /// A symmetric request, in place or not, that must end with this status.
    fn symmetric(
        &mut self,
        content: &Content,
        call: &SymmetricCall<'_>,
        wanted: u8,
    ) -> Result<Vec<u8>, DriverError> {
        self.open(SYMMETRIC)?;
        let found = self.driver.symmetric(content, call)?;
        let len = call.destination.unwrap_or(call.source.len());
        if found.data.len() != len || found.digest.len() != call.digest.len() {
            self.driver.platform.wrong("a result has another length than its buffer", "");
        }
        self.check(found.response.status() == wanted, "a symmetric request ends otherwise");
        Ok(found.data)
    }

    fn cipher(&mut self, source: &[u8], form: u16) -> Result<(), DriverError> {
        let decrypt = usize::from(form & 1);
        // Blocks are whole, and XTS needs one.
        let blocks = source.len().next_multiple_of(16).max(16);
        let (content, len) = match form >> 2 & 3 {
            0 | 1 => (&CONTENTS.ctr, source.len()),
            2 => (&CONTENTS.cbc[decrypt], blocks),
            _ => (&CONTENTS.xts[decrypt], blocks),
        };
        let mut source = source.to_vec();
        source.resize(len, 0);
        let source = &source;
        let call = SymmetricCall {
            command: command::CIPHER,
            iv: &IV,
            source,
            destination: (form & 2 != 0).then_some(len),
            cipher: (0, len32(source)),
            ..SymmetricCall::default()
        };
        self.symmetric(content, &call, 0).map(|_| ())
    }

    fn authenticate(&mut self, source: &[u8], form: u16) -> Result<(), DriverError> {
        let (compares, keyed) = (form & 1 != 0, form & 2 != 0);
        let call = SymmetricCall {
            command: command::AUTH,
            flags: if compares { flag::COMPARE_DIGEST } else { flag::RETURN_DIGEST },
            source,
            auth: (0, len32(source)),
            digest: &[0xa5; 32],
            ..SymmetricCall::default()
        };
        let content = if keyed { &CONTENTS.mac } else { &CONTENTS.hash };
        // No digest is that.
        self.symmetric(content, &call, if compares { status::CRYPTO } else { 0 }).map(|_| ())
    }

    /// Seals a message with its digest in the buffer, and opens it or a forgery of it; or seals it
    /// with its digest beside the buffer.
    fn chain(&mut self, source: &[u8], form: u16) -> Result<(), DriverError> {
        let len = source.len() / 16 * 16;
        let mut message = super::pattern(16);
        message.extend(&source[..len]);
        let covered = len32(&message);
        let beside = form & 1 != 0;
        if !beside {
            message.extend([0; 32]);
        }
        let seal = SymmetricCall {
            command: command::CIPHER_HASH,
            flags: flag::RETURN_DIGEST | if beside { 0 } else { flag::DIGEST_IN_BUFFER },
            iv: &IV,
            source: &message,
            destination: (form & 2 != 0).then_some(message.len()),
            cipher: (HEADER, covered - HEADER),
            auth: (0, covered),
            digest: if beside { &[0; 32] } else { &[] },
            ..SymmetricCall::default()
        };
        let mut sealed = self.symmetric(&CONTENTS.chain[0], &seal, 0)?;
        if beside {
            return Ok(());
        }
        let is_forged = form & 4 != 0;
        if let Some(last) = sealed.last_mut() {
            *last ^= u8::from(is_forged);
        }
        let open = SymmetricCall {
            command: command::HASH_CIPHER,
            flags: flag::COMPARE_DIGEST | flag::DIGEST_IN_BUFFER,
            source: &sealed,
            destination: seal.destination.map(|_| sealed.len()),
            ..seal
        };
        let wanted = if is_forged { status::CRYPTO } else { 0 };
        let opened = self.symmetric(&CONTENTS.chain[1], &open, wanted)?;
        let same = opened.get(..len) == message.get(..len);
        self.check(is_forged || same, "a message that was sealed opens as another");
        Ok(())
    }

    fn gcm(&mut self, source: &[u8], form: u16) -> Result<(), DriverError> {
        let all = (0, len32(source));
        let opens = form & 1 != 0;
        let call = SymmetricCall {
            command: if opens { command::HASH_CIPHER } else { command::CIPHER_HASH },
            flags: flag::GCM
                | flag::IV_12_BYTES
                | if opens { flag::COMPARE_DIGEST } else { flag::RETURN_DIGEST },
            iv: &IV[..12],
            source,
            destination: (form & 2 != 0).then_some(source.len()),
            cipher: all,
            auth: all,
            aad: &CONTENTS.aad,
            digest: &[0xa5; 16],
            ..SymmetricCall::default()
        };
        self.symmetric(&CONTENTS.gcm, &call, if opens { status::CRYPTO } else { 0 }).map(|_| ())
    }

    /// `PKE_RSA_EP_512`, with a short exponent.
    fn power(&mut self, source: &[u8]) -> Result<(), DriverError> {
        self.open(PUBLIC_KEY)?;
        let mut base = vec![0; 64];
        base.iter_mut().skip(1).zip(source).for_each(|(to, from)| *to = *from);
        let mut exponent = vec![0; 64];
        exponent[63] = 3;
        let operands = vec![base, exponent, vec![0xff; 64]];
        let call = PublicKey { function: 0x1c16_1b21, operands, results: vec![64] };
        let (response, results) = self.driver.public_key(&call)?;
        self.check(response.status() == 0, "a public-key request ends otherwise");
        let lengths = results.iter().map(Vec::len).eq([64]);
        self.check(lengths, "a public-key request has other results");
        Ok(())
    }

    /// A stream in two requests.
    fn stream(&mut self) -> Result<(), DriverError> {
        let state = self.driver.platform.dma_alloc(4096, 64)?;
        let streamed = self.stream_in(state.iova);
        self.driver.platform.dma_free(state);
        streamed
    }

    fn stream_in(&mut self, state: u64) -> Result<(), DriverError> {
        let end = compression_flag::END | compression_flag::FINAL_BLOCK;
        let mut found = Vec::new();
        for (source, flags) in [(&STREAM.0, compression_flag::START), (&STREAM.1, end)] {
            let call = CompressionCall {
                command: command::DECOMPRESS,
                state: Some(state),
                depth: 0,
                source,
                room: 16,
                flags,
            };
            found.extend(self.driver.compression(&call)?.data);
        }
        self.check(found == *b"abc", "a stream in two requests is another");
        Ok(())
    }

    /// Takes rings away from requests that are in flight, and goes on.
    fn leave(&mut self, form: u16) -> Result<(), DriverError> {
        let mut memory = Memory::default();
        let left = self.leave_in(&mut memory, form);
        memory.release(&mut self.driver.platform);
        left
    }

    fn leave_in(&mut self, memory: &mut Memory, form: u16) -> Result<(), DriverError> {
        let room = vec![0xa5; 64 + usize::from(form)];
        let source = memory.buffer(&mut self.driver.platform, &super::pattern(200), None)?;
        let target = memory.buffer(&mut self.driver.platform, &room, None)?;
        for _ in 0..=form % 4 {
            let opaque = self.driver.opaque();
            let request = Compression {
                command: command::DYNAMIC,
                depth: 1,
                buffers: message::Buffers {
                    opaque,
                    source: source.address,
                    destination: target.address,
                    source_len: len32(&[0; 200]),
                    destination_len: len32(&room),
                    lists: false,
                },
                len: len32(&[0; 200]),
                room: len32(&room),
                flags: compression_flag::FINAL_BLOCK,
                ..Compression::default()
            };
            self.driver.submit(COMPRESSION.0, &request.encode())?;
        }
        if form & 4 != 0 {
            self.driver.wait(COMPRESSION.0)?;
        }
        self.renew(COMPRESSION)?;
        let late = self.driver.take(COMPRESSION.0)?;
        self.check(late.is_none(), "a ring that was set up anew has a response");
        memory.check(&mut self.driver.platform)
    }

    /// A burst of requests that do nothing, with a doorbell for all of them.
    fn several(&mut self, source: &[u8]) -> Result<(), DriverError> {
        self.open(SYMMETRIC)?;
        let count = source.len() % 12;
        let mut messages = vec![[0; 128]; count];
        for message in &mut messages {
            message[3] = 0x80;
            message[24..32].copy_from_slice(&self.driver.opaque().to_le_bytes());
        }
        let all = messages.iter().map(<[u8; 128]>::as_slice);
        self.driver.submit_burst(SYMMETRIC.0, all)?;
        let mut answered = 0;
        self.driver.wait_burst(SYMMETRIC.0, count, |_| answered += 1)?;
        if answered != count {
            self.driver.platform.wrong("a burst has another number of responses", "");
        }
        Ok(())
    }
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
