//! A restart and a reset while requests of all services are in flight.

use std::collections::BTreeMap;

use understudy_client::SimulationPlatform;
use understudy_client::platform::{Activity, Platform};
use understudy_client::qat::content::Hash;
use understudy_client::qat::message::{
    Buffers, Compression, Symmetric, cipher, command, compression_flag, flag, mode,
};
use understudy_client::qat::{Buffer, Content, Memory, Options, PublicKey, status};
use understudy_device::ResetKind;
use understudy_oracle::{self as oracle, Direction};

use super::{TestDriver, counter, null, pattern};
use crate::{Parameters, Qat};

const PAIRS: [(u16, usize); 3] = [(0, 64), (2, 128), (6, 128)];
/// Requests at a time: on each pair fewer than its ring takes.
const LOAD: u64 = 105;
/// Bytes of a symmetric request that is a job.
const LONG: usize = (256 << 10) + 16;
const IV: [u8; 16] = [9; 16];

/// A request in flight.
struct Asked {
    memory: Memory,
    result: Option<Buffer>,
    wanted: Wanted,
}

enum Wanted {
    Bytes(Vec<u8>),
    /// As much as the response says, which inflates to these.
    Inflates(Vec<u8>),
}

/// What is in flight, by pair and opaque value.
type Load = BTreeMap<(u16, u64), Asked>;

fn start(seed: u64, parameters: Parameters, options: Options) -> TestDriver {
    let model = Qat::new(parameters).unwrap();
    begin(SimulationPlatform::new(Box::new(model), seed).unwrap(), options)
}

fn begin(platform: SimulationPlatform, options: Options) -> TestDriver {
    let mut driver = TestDriver::new(platform, options).unwrap();
    driver.introduce().unwrap();
    for (pair, len) in PAIRS {
        driver.open(pair, 64, len).unwrap();
    }
    driver
}

/// The request of that number: its pair, its message, and what it must come to.
fn request(driver: &mut TestDriver, number: u64) -> (u16, Vec<u8>, Asked) {
    let mut memory = Memory::default();
    let p = &mut driver.platform;
    let piece = (number % 2 == 1).then_some(250);
    let buffers = |source: &Buffer, destination: &Buffer, piece: Option<usize>| {
        let len = |it: &Buffer| if piece.is_some() { 0 } else { u32::try_from(it.len).unwrap() };
        Buffers {
            opaque: number,
            source: source.address,
            destination: destination.address,
            source_len: len(source),
            destination_len: len(destination),
            lists: piece.is_some(),
        }
    };
    let salt = number.to_le_bytes()[0];
    let key = pattern(16, salt);
    let word = |len: usize| u32::try_from(len).unwrap();
    let mut symmetric = |content: &Content, wide: Symmetric| {
        let described = memory.copy(p, &content.bytes).unwrap().iova;
        let content_len = content.bytes.len();
        let flags = wide.flags | flag::IV_INLINE;
        let control = content.control;
        Symmetric { content: described, content_len, control, flags, iv: IV, ..wide }.encode()
    };
    let (pair, message, result, wanted) = match number % 7 {
        // In place; the first as a job.
        0 | 6 => {
            let (len, piece) =
                if number.is_multiple_of(LOAD) { (LONG, None) } else { (480, piece) };
            let plain = pattern(len, salt);
            let content = Content::default().cipher(cipher::AES_128, mode::CBC, false, &key);
            let wide = Symmetric {
                command: command::CIPHER,
                cipher: (0, word(len)),
                ..Symmetric::default()
            };
            let mut message = symmetric(&content, wide);
            let data = memory.buffer(p, &plain, piece).unwrap();
            place(&mut message, buffers(&data, &data, piece));
            let wanted = oracle::aes_cbc(Direction::Encrypt, &key, &IV, &plain).unwrap();
            (2, message, Some(data), Wanted::Bytes(wanted))
        }
        1 => {
            let plain = pattern(160, salt);
            let content = Content::default().cipher(cipher::AES_128, mode::CBC, false, &key);
            let content = content.hmac(Hash::Sha256, b"secret", 32);
            let wide = Symmetric {
                command: command::CIPHER_HASH,
                flags: flag::RETURN_DIGEST | flag::DIGEST_IN_BUFFER,
                cipher: (0, 160),
                auth: (0, 160),
                ..Symmetric::default()
            };
            let mut message = symmetric(&content, wide);
            let source = memory.buffer(p, &plain, piece).unwrap();
            let destination = memory.buffer(p, &[0xa5; 192], piece).unwrap();
            place(&mut message, buffers(&source, &destination, piece));
            let mut wanted = oracle::aes_cbc(Direction::Encrypt, &key, &IV, &plain).unwrap();
            let tag = oracle::hmac(oracle::Hash::Sha256, b"secret", &[&wanted]);
            wanted.extend(tag);
            (2, message, Some(destination), Wanted::Bytes(wanted))
        }
        2 => (2, null(number, 128), None, Wanted::Bytes(Vec::new())),
        3 => {
            // `PKE_RSA_EP_512`: below an odd modulus, with a short exponent.
            let mut operands = [1, 2, 3].map(|it: u8| pattern(64, salt ^ it << 5));
            operands[0][0] = 0;
            operands[1][..60].fill(0);
            operands[2][0] |= 0x80;
            operands[2][63] |= 1;
            let wanted = oracle::power(&operands[0], &operands[1], &operands[2]).unwrap();
            let mut table = Vec::new();
            for operand in &operands {
                table.extend(memory.copy(p, operand).unwrap().iova.to_le_bytes());
            }
            let result = memory.buffer(p, &[0xa5; 64], None).unwrap();
            let from = memory.copy(p, &table).unwrap().iova;
            let to = memory.copy(p, &result.address.to_le_bytes()).unwrap().iova;
            let (operands, results) = (operands.to_vec(), vec![64]);
            let call = PublicKey { function: 0x1c16_1b21, operands, results };
            (0, call.encode(number, from, to), Some(result), Wanted::Bytes(wanted))
        }
        kind => {
            let plain = pattern(3000, salt & 3);
            let packs = kind == 4;
            let input = if packs { plain.clone() } else { oracle::deflate(&plain, 6) };
            let source = memory.buffer(p, &input, piece).unwrap();
            let destination = memory.buffer(p, &[0xa5; 4000], piece).unwrap();
            let request = Compression {
                command: if packs { command::DYNAMIC } else { command::DECOMPRESS },
                depth: u32::from(packs),
                buffers: buffers(&source, &destination, piece),
                len: word(input.len()),
                room: 4000,
                flags: compression_flag::START
                    | compression_flag::END
                    | compression_flag::FINAL_BLOCK,
                ..Compression::default()
            };
            let wanted = if packs { Wanted::Inflates(plain) } else { Wanted::Bytes(plain) };
            (6, request.encode(), Some(destination), wanted)
        }
    };
    (pair, message, Asked { memory, result, wanted })
}

/// Puts the opaque value and the buffers into a request.
fn place(message: &mut [u8], buffers: Buffers) {
    let like = Symmetric { buffers, ..Symmetric::default() }.encode();
    // The flag for lists, then opaque value, addresses and lengths.
    message[6] = like[6];
    message[24..56].copy_from_slice(&like[24..56]);
}

fn submit(driver: &mut TestDriver, numbers: impl Iterator<Item = u64>) -> Load {
    let mut load = Load::new();
    for number in numbers {
        let (pair, message, asked) = request(driver, number);
        driver.submit(pair, &message).unwrap();
        load.insert((pair, number), asked);
    }
    load
}

/// Waits for everything: it is answered in the order of its ring, and right.
fn collect(driver: &mut TestDriver, load: Load) {
    for ((pair, number), asked) in load {
        let response = driver.wait(pair).unwrap();
        assert_eq!(response.opaque(), number, "pair {pair}");
        let failed = response.status() & !status::END_OF_LAST_BLOCK;
        assert_eq!((failed, response.error()), (0, 0), "request {number}");
        let p = &mut driver.platform;
        asked.memory.check(p).unwrap();
        let mut found = asked.result.map_or(Vec::new(), |result| result.read(p).unwrap());
        if pair == 6 {
            found.truncate(usize::try_from(response.word(20)).unwrap());
        }
        match asked.wanted {
            Wanted::Bytes(wanted) => assert!(found == wanted, "request {number}"),
            Wanted::Inflates(plain) => {
                assert!(oracle::inflate(&found, plain.len()) == Some(plain), "request {number}");
            }
        }
        asked.memory.release(p);
    }
}

fn jobs(driver: &mut TestDriver) -> usize {
    driver.platform.simulation().host().jobs_in_flight()
}

/// What is in flight when the announcement comes is answered, and right; the driver then goes and
/// comes back.
#[test]
fn a_restart_under_load_loses_nothing() {
    for seed in 0..2 {
        let parameters = Parameters { restart_after: 20, ..Parameters::default() };
        let options = Options { interrupts: true, ..Options::default() };
        let mut driver = start(seed, parameters, options);
        let load = submit(&mut driver, 0..LOAD);
        assert_eq!(driver.receive().unwrap(), (1, 0));
        assert!(jobs(&mut driver) > 0, "nothing was in flight any more");
        // Linux takes its rings down only once their requests are answered, and may submit more.
        let more = submit(&mut driver, LOAD..LOAD + 3);
        collect(&mut driver, load);
        collect(&mut driver, more);
        for (pair, _) in PAIRS {
            driver.close(pair).unwrap();
        }
        driver.send(10, 0, false).unwrap();
        driver.platform.simulation().reset(ResetKind::Function);
        let mut driver = begin(driver.into_platform(), options);
        let load = submit(&mut driver, 0..LOAD);
        collect(&mut driver, load);
        assert_eq!(counter(&mut driver, "responses"), 2 * LOAD + 3);
        assert_eq!(counter(&mut driver, "mailbox.restarts"), 1);
    }
}

/// A reset forgets what is in flight: no memory is written any more, no response comes, and the
/// function works as before once it is set up.
#[test]
fn a_reset_under_load_forgets_everything() {
    for (seed, kind) in (0..4).zip([ResetKind::Function, ResetKind::PowerOn].into_iter().cycle()) {
        let mut driver = start(seed, Parameters::default(), Options::default());
        for round in 0..2 {
            let load = submit(&mut driver, 0..LOAD);
            let deadline = driver.platform.now().plus(1_000_000);
            // Further in each round.
            for _ in 0..=round * 12 {
                driver.platform.idle(deadline).unwrap();
            }
            assert!(jobs(&mut driver) > 0, "nothing was in flight any more");
            driver.platform.simulation().reset(kind);
            for result in load.values().filter_map(|asked| asked.result.as_ref()) {
                for piece in &result.pieces {
                    driver.platform.dma_write(piece.iova, &vec![0xee; piece.len]).unwrap();
                }
            }
            driver = begin(driver.into_platform(), Options::default());
            while driver.platform.idle(deadline).unwrap() == Activity::Active {}
            assert_eq!(jobs(&mut driver), 0);
            for (pair, _) in PAIRS {
                assert!(matches!(driver.take(pair), Ok(None)), "a response from before the reset");
            }
            for (key, asked) in load {
                let p = &mut driver.platform;
                let result = asked.result.map_or(Vec::new(), |result| result.read(p).unwrap());
                assert!(result.iter().all(|byte| *byte == 0xee), "request {key:?} was written");
                asked.memory.check(p).unwrap();
                asked.memory.release(p);
            }
            let load = submit(&mut driver, 0..LOAD / 3);
            collect(&mut driver, load);
        }
    }
}

/// A ring that is torn down forgets its own requests; those of the others are answered.
#[test]
fn a_ring_set_up_anew_under_load_leaves_the_others_alone() {
    for (pair, len) in PAIRS {
        let mut driver = start(pair.into(), Parameters::default(), Options::default());
        let mut load = submit(&mut driver, 0..LOAD);
        driver.platform.idle(driver.platform.now().plus(1_000_000)).unwrap();
        driver.close(pair).unwrap();
        driver.open(pair, 64, len).unwrap();
        load.retain(|(of, _), _| *of != pair);
        collect(&mut driver, load);
        assert!(matches!(driver.take(pair), Ok(None)), "a response from before");
        let load = submit(&mut driver, 0..LOAD);
        collect(&mut driver, load);
    }
}
