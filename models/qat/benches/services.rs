//! What the services cost: requests in process against the engine alone on the same bytes, in the
//! same run, and requests per second. Run with `cargo bench -p understudy-qat`.
//!
//! The ratios are printed at the end; the goal is a median of 0.90. Symmetric requests come in bursts,
//! one by one, and in bursts with their data copied, as it is for guests; compression is one by one,
//! as one request takes long, and always copied.

#![expect(clippy::disallowed_methods, reason = "models have no clock, benches do")]

#[path = "../../../harness/client/benches/virtio_crypto/by_turns.rs"]
mod by_turns;
#[path = "../../../harness/client/benches/virtio_crypto/in_process.rs"]
mod in_process;

use std::hint::black_box;
use std::ops::Range;

use anyhow::ensure;
use by_turns::ratio;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use in_process::InProcess;
use understudy_client::Platform;
use understudy_client::qat::content::Hash;
use understudy_client::qat::message::{
    Buffers, Compression, Symmetric, cipher, command, compression_flag, flag, mode,
};
use understudy_client::qat::{Content, Driver, Options};
use understudy_engines::aead::{self, Nonce};
use understudy_engines::cipher::{Algorithm, Direction, Key};
use understudy_engines::deflate::{self, Huffman};
use understudy_engines::hash as digests;
use understudy_qat::{Parameters, Qat};

const KEY: [u8; 32] = [7; 32];
const IV: [u8; 16] = [9; 16];
const TAG_LEN: usize = 16;
const SYMMETRIC_LEN: usize = 16 << 10;
const COMPRESSION_LEN: usize = 64 << 10;
const SMALL_LEN: usize = 64;
const PAGE: usize = 4096;
/// Requests of a burst, as many as DPDK's applications are used to.
const BURST: usize = 32;
/// The pair for symmetric requests, and the one for compression.
const SYMMETRIC: u16 = 2;
const COMPRESSION: u16 = 6;

/// A request in guest memory, ready to be given to the device again and again.
struct Bench {
    driver: Driver<InProcess>,
    pair: u16,
    request: Vec<u8>,
}

impl Bench {
    fn new(pair: u16) -> anyhow::Result<Self> {
        let platform = InProcess::new(Box::new(Qat::new(Parameters::default())?))?;
        let mut driver = Driver::new(platform, Options::default())?;
        driver.introduce()?;
        driver.open(pair, 64, 128)?;
        Ok(Self { driver, pair, request: Vec::new() })
    }

    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<u64> {
        let buffer = self.driver.platform.dma_alloc(bytes.len().max(1), PAGE)?;
        self.driver.platform.dma_write(buffer.iova, bytes)?;
        Ok(buffer.iova)
    }

    /// `len` bytes in place, with room for a digest behind them.
    fn symmetric(content: &Content, command: u8, flags: u16, len: usize) -> anyhow::Result<Self> {
        let mut bench = Self::new(SYMMETRIC)?;
        let descriptor = bench.put(&content.bytes)?;
        let data = bench.put(&vec![0x5a; len + 64])?;
        let aad = bench.put(&[0; 16])?;
        let span = (0, u32::try_from(len)?);
        let buffer_len = u32::try_from(len + 64)?;
        let request = Symmetric {
            command,
            flags: flags | flag::IV_INLINE,
            content: descriptor,
            content_len: content.bytes.len(),
            control: content.control,
            buffers: Buffers {
                opaque: 1,
                source: data,
                destination: data,
                source_len: buffer_len,
                destination_len: buffer_len,
                lists: false,
            },
            cipher: span,
            iv: IV,
            auth: span,
            aad,
            aad_len: 16,
            digest: data + len as u64,
            ..Symmetric::default()
        };
        bench.request = request.encode();
        Ok(bench)
    }

    /// `source` into a buffer that its output fits into. Returns the output, too.
    fn compression(command: u8, source: &[u8]) -> anyhow::Result<(Self, Vec<u8>)> {
        let mut bench = Self::new(COMPRESSION)?;
        let from = bench.put(source)?;
        let room = 2 * COMPRESSION_LEN;
        let to = bench.put(&vec![0; room])?;
        let request = Compression {
            command,
            state: None,
            depth: 0,
            buffers: Buffers {
                opaque: 1,
                source: from,
                destination: to,
                source_len: u32::try_from(source.len())?,
                destination_len: u32::try_from(room)?,
                lists: false,
            },
            len: u32::try_from(source.len())?,
            room: u32::try_from(room)?,
            flags: compression_flag::START
                | compression_flag::END
                | compression_flag::FINAL_BLOCK
                | compression_flag::VERIFY,
        };
        bench.request = request.encode();
        bench.driver.submit(bench.pair, &bench.request)?;
        let produced = bench.driver.wait(bench.pair)?.word(20);
        let mut output = vec![0; produced as usize];
        bench.driver.platform.dma_read(to, &mut output)?;
        Ok((bench, output))
    }

    /// Doorbell to response: `count` requests told of at once, and as many responses.
    fn round_trip(&mut self, count: usize) -> anyhow::Result<()> {
        let requests = std::iter::repeat_n(self.request.as_slice(), count);
        self.driver.submit_burst(self.pair, requests)?;
        let mut failed = 0;
        self.driver.wait_burst(self.pair, count, |response| {
            // The end of a stream is no failure.
            failed |= response.status() & !0x08;
        })?;
        ensure!(failed == 0, "the device answers {failed:#x}");
        Ok(())
    }
}

fn must<T>(result: anyhow::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        std::process::exit(1)
    })
}

/// Bytes for the engine alone, and where they begin: at a page, as the device's do.
fn symmetric_data() -> (Vec<u8>, Range<usize>) {
    let bytes = vec![0x5a; SYMMETRIC_LEN + PAGE];
    let first = bytes.as_ptr().align_offset(PAGE);
    (bytes, first..first + SYMMETRIC_LEN)
}

/// The service and the engine alone, doing the same.
struct Case {
    name: &'static str,
    len: usize,
    device: Bench,
    engine: Box<dyn FnMut()>,
}

fn expand(algorithm: Algorithm, len: usize) -> anyhow::Result<Key> {
    Ok(Key::new(algorithm, KEY.get(..len).unwrap_or_default())?)
}

fn ciphers(cases: &mut Vec<Case>) -> anyhow::Result<()> {
    for (name, algorithm, number, key_len, decrypt) in [
        ("AES-128-CBC encrypt", Algorithm::AesCbc, mode::CBC, 16, false),
        ("AES-128-CBC decrypt", Algorithm::AesCbc, mode::CBC, 16, true),
        ("AES-128-XTS encrypt", Algorithm::AesXts, mode::XTS, 32, false),
        ("AES-128-XTS decrypt", Algorithm::AesXts, mode::XTS, 32, true),
    ] {
        let bytes = KEY.get(..key_len).unwrap_or_default();
        let content = Content::default().cipher(cipher::AES_128, number, decrypt, bytes);
        let device = Bench::symmetric(&content, command::CIPHER, 0, SYMMETRIC_LEN)?;
        let (key, (mut data, at)) = (expand(algorithm, key_len)?, symmetric_data());
        let direction = if decrypt { Direction::Decrypt } else { Direction::Encrypt };
        let engine = Box::new(move || {
            let data = data.get_mut(at.clone()).unwrap_or_default();
            must(key.apply(direction, &IV, black_box(data)).map_err(Into::into));
        });
        cases.push(Case { name, len: SYMMETRIC_LEN, device, engine });
    }
    Ok(())
}

fn gcm(cases: &mut Vec<Case>) -> anyhow::Result<()> {
    let bytes = KEY.get(..16).unwrap_or_default();
    let (content, _) = Content::gcm(bytes, &[0; 16], TAG_LEN);
    let flags = flag::GCM | flag::IV_12_BYTES | flag::RETURN_DIGEST;
    let device = Bench::symmetric(&content, command::CIPHER_HASH, flags, SYMMETRIC_LEN)?;
    let key = aead::Key::new(aead::Algorithm::AesGcm, bytes)?;
    let ((mut data, at), mut tag) = (symmetric_data(), [0; TAG_LEN]);
    let engine = Box::new(move || {
        let nonce = Nonce::Bytes(IV.get(..12).unwrap_or_default());
        let data = data.get_mut(at.clone()).unwrap_or_default();
        must(key.encrypt(nonce, &[0; 16], black_box(data), &mut tag).map_err(Into::into));
    });
    cases.push(Case { name: "AES-128-GCM encrypt", len: SYMMETRIC_LEN, device, engine });
    Ok(())
}

fn sha_256(cases: &mut Vec<Case>) -> anyhow::Result<()> {
    let content = Content::default().plain_hash(Hash::Sha256, 32);
    let device = Bench::symmetric(&content, command::AUTH, flag::RETURN_DIGEST, SYMMETRIC_LEN)?;
    let ((data, at), mut digest) = (symmetric_data(), [0; 32]);
    let engine = Box::new(move || {
        let data = black_box(data.get(at.clone()).unwrap_or_default());
        must(digests::digest(digests::Algorithm::Sha256, data, &mut digest).map_err(Into::into));
    });
    cases.push(Case { name: "SHA-256", len: SYMMETRIC_LEN, device, engine });
    Ok(())
}

/// Words in no order: about what text compresses to.
fn text() -> Vec<u8> {
    let words = ["engine", "ring", "bundle", "mailbox", "of ", "the ", "\n", "7f7f"];
    let mut seed = 1_u32;
    let mut text = Vec::new();
    while text.len() < COMPRESSION_LEN {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend(words.get((seed >> 29) as usize).map_or("", |word| word).as_bytes());
    }
    text.truncate(COMPRESSION_LEN);
    text
}

/// With the checksums and the verification that each response tells of.
fn deflates(cases: &mut Vec<Case>) -> anyhow::Result<()> {
    let source = text();
    let mut packed = Vec::new();
    for (name, command, huffman, level) in [
        ("deflate static", command::STATIC, Huffman::Fixed, 1),
        ("deflate dynamic", command::DYNAMIC, Huffman::Dynamic, 2),
    ] {
        let (device, output) = Bench::compression(command, &source)?;
        packed = output;
        let options = deflate::Options { huffman, level, last: true, verify: true };
        let source = source.clone();
        let engine = Box::new(move || {
            let source = black_box(&source);
            let room = 2 * COMPRESSION_LEN;
            must(deflate::compress(source, room, options).map(drop).map_err(Into::into));
            black_box((deflate::crc32(0, source), deflate::adler32(1, source)));
        });
        cases.push(Case { name, len: COMPRESSION_LEN, device, engine });
    }
    let (device, _) = Bench::compression(command::DECOMPRESS, &packed)?;
    let engine = Box::new(move || {
        let mut output = vec![0; 2 * COMPRESSION_LEN];
        let inflated = deflate::Inflater::new().inflate(black_box(&packed), &mut output);
        output.truncate(must(inflated.map_err(Into::into)).produced);
        black_box((deflate::crc32(0, &output), deflate::adler32(1, &output)));
    });
    cases.push(Case { name: "inflate dynamic", len: COMPRESSION_LEN, device, engine });
    Ok(())
}

fn cases() -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    ciphers(&mut cases)?;
    gcm(&mut cases)?;
    sha_256(&mut cases)?;
    deflates(&mut cases)?;
    Ok(cases)
}

fn throughput(c: &mut Criterion) {
    let mut ratios = Vec::new();
    for Case { name, len, mut device, mut engine } in must(cases()) {
        let mut group = c.benchmark_group(format!("{} KiB, {name}", len >> 10));
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function("device in process", |b| b.iter(|| must(device.round_trip(1))));
        group.bench_function("engine alone", |b| b.iter(&mut engine));
        group.finish();
        let mut part = |device: &mut Bench, count| {
            let engine = || (0..count).for_each(|_| engine());
            let [median, fastest] = ratio(|| must(device.round_trip(count)), engine);
            format!("{median:.3}, {fastest:.3}")
        };
        let mut parts = [String::new(), part(&mut device, 1), String::new()];
        if len == SYMMETRIC_LEN {
            parts[0] = part(&mut device, BURST);
            device.driver.platform.world.lends = false;
            parts[2] = part(&mut device, BURST);
        }
        ratios.push((name, parts));
    }
    println!(
        "\nthroughput of the device in process, as a part of the engine's own: median, fastest"
    );
    let line = |[name, burst, single, copied]: [&str; 4]| {
        println!("  {name:20} {burst:>14} {single:>14} {copied:>14}");
    };
    line(["", &format!("bursts of {BURST}"), "one by one", "bursts, copied"]);
    for (name, [burst, single, copied]) in &ratios {
        line([name, burst, single, copied]);
    }
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("64 B, AES-128-CBC encrypt");
    let bytes = KEY.get(..16).unwrap_or_default();
    let content = Content::default().cipher(cipher::AES_128, mode::CBC, false, bytes);
    let mut bench = must(Bench::symmetric(&content, command::CIPHER, 0, SMALL_LEN));
    for count in [1, BURST] {
        group.throughput(Throughput::Elements(count as u64));
        let name = format!("{count} in flight");
        group.bench_function(name, |b| b.iter(|| must(bench.round_trip(count))));
    }
    group.finish();
}

criterion_group!(benches, throughput, requests);
criterion_main!(benches);
