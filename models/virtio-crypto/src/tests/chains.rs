//! Algorithm chaining, against the engines put together by hand.

use proptest::prelude::*;
use understudy_client::virtio_crypto::{
    Chain, ChainKey, CipherKey, Direction, HashMode, MacKey, Operation, Options, Order, Parameters,
    Scatter, Span, Target,
};
use understudy_engines::{cipher, hash, mac};

use super::{TestDriver, driver, legacy, packed, pattern, run, status};
use crate::algorithms::{self, CIPHERS, HASHES, MACS};
use crate::layout::Status;

/// One chain request.
#[derive(Debug, Clone)]
struct Case {
    cipher: (u32, usize),
    mode: HashMode,
    hash: u32,
    order: Order,
    direction: Direction,
    aad: usize,
    src: usize,
    to_cipher: Span,
    to_hash: Span,
    result: u32,
}

impl Case {
    fn key(&self) -> ChainKey {
        let direction = self.direction;
        let key = pattern(self.cipher.1, 0x11);
        let auth = if self.mode == HashMode::Auth { pattern(16, 0x22) } else { Vec::new() };
        ChainKey {
            order: self.order,
            cipher: CipherKey { algorithm: self.cipher.0, direction, key },
            mode: self.mode,
            hash: MacKey { algorithm: self.hash, result_len: self.result, key: auth },
            aad_len: u32::try_from(self.aad).unwrap(),
        }
    }

    fn span(span: Span) -> std::ops::Range<usize> {
        span.start as usize..(span.start + span.len) as usize
    }

    /// What the device must make of it: destination and result.
    fn expected(&self, iv: &[u8], aad: &[u8], src: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let key = self.key();
        let algorithm = algorithms::find(CIPHERS, self.cipher.0).unwrap();
        let direction = match self.direction {
            Direction::Encrypt => cipher::Direction::Encrypt,
            Direction::Decrypt => cipher::Direction::Decrypt,
        };
        let mut dst = src.to_vec();
        let covered = &mut dst[Self::span(self.to_cipher)];
        cipher::Key::new(algorithm, &key.cipher.key)
            .unwrap()
            .apply(direction, iv, covered)
            .unwrap();
        let hashed = match self.order {
            Order::HashThenCipher => &src[Self::span(self.to_hash)],
            Order::CipherThenHash => &dst[Self::span(self.to_hash)],
        };
        let message = [aad, hashed].concat();
        let mut result = vec![0; self.result as usize];
        match self.mode {
            HashMode::Auth => {
                let algorithm = algorithms::find(MACS, self.hash).unwrap();
                let key = mac::Key::new(algorithm, &key.hash.key).unwrap();
                key.mac(&[], &message, &mut result).unwrap();
            }
            _ => {
                let algorithm = algorithms::find(HASHES, self.hash).unwrap();
                hash::digest(algorithm, &message, &mut result).unwrap();
            }
        }
        (dst, result)
    }
}

fn case() -> impl Strategy<Value = Case> {
    let ciphers = vec![(3, 16), (3, 32), (4, 24), (13, 64), (6, 8), (9, 24), (2, 16)];
    let hashes = vec![(HashMode::Auth, 2, 20), (HashMode::Auth, 4, 32), (HashMode::Auth, 26, 16)]
        .into_iter()
        .chain([(HashMode::Plain, 2, 20), (HashMode::Plain, 10, 64)])
        .collect::<Vec<_>>();
    (
        prop::sample::select(ciphers),
        prop::sample::select(hashes),
        any::<(bool, bool)>(),
        0_usize..40,
        (0_u32..100, 1_u32..2500, 0_u32..100),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_u32..=20),
    )
        .prop_map(
            |(cipher, hash, (first, encrypt), aad, (before, blocks, after), (a, b, cut))| {
                // Only CTR takes parts of blocks; XTS does too, beyond the first.
                let len = if matches!(cipher.0, 4 | 13) { blocks.max(16) } else { blocks * 16 };
                let src = (before + len + after) as usize;
                let (a, b) = (a.index(src + 1), b.index(src + 1));
                let (start, end) = (a.min(b), a.max(b));
                Case {
                    cipher,
                    mode: hash.0,
                    hash: hash.1,
                    order: if first { Order::HashThenCipher } else { Order::CipherThenHash },
                    direction: if encrypt { Direction::Encrypt } else { Direction::Decrypt },
                    aad,
                    src,
                    to_cipher: Span { start: before, len },
                    to_hash: Span {
                        start: u32::try_from(start).unwrap(),
                        len: u32::try_from(end - start).unwrap(),
                    },
                    result: hash.2.min(cut + 4),
                }
            },
        )
}

fn check(driver: &mut TestDriver, stateless: bool, case: &Case) {
    let algorithm = algorithms::find(CIPHERS, case.cipher.0).unwrap();
    let iv = pattern(algorithm.iv_len(), 0x33);
    let (aad, src) = (pattern(case.aad, 0x44), pattern(case.src, 0x55));
    let chain = Chain {
        direction: case.direction,
        iv: &iv,
        aad: &aad,
        src: &src,
        cipher: case.to_cipher,
        hash: case.to_hash,
        dst_len: u32::try_from(case.src).unwrap(),
        hash_len: case.result,
    };
    let parameters = Parameters::Chain(case.key());
    let result = run(driver, stateless, &parameters, &Operation::Chain(chain)).unwrap();
    let (dst, hash) = case.expected(&iv, &aad, &src);
    assert!(result[..case.src] == dst, "destination of {case:?}");
    assert_eq!(result[case.src..], hash);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Any chain over any parts of the source, in either mode and however cut.
    #[test]
    fn chains_are_their_parts(case in case(), pieces in 1_u32..600) {
        check(&mut driver(legacy()), false, &case);
        let scatter = Scatter::Pieces { max: pieces };
        let cut = Options { queues: packed(), scatter, ..Options::default() };
        check(&mut driver(cut), false, &case);
        check(&mut driver(Options { scatter, ..Options::default() }), true, &case);
    }
}

#[test]
fn parts_outside_the_source_are_refused() {
    let mut driver = driver(legacy());
    let good = Case {
        cipher: (3, 16),
        mode: HashMode::Auth,
        hash: 2,
        order: Order::CipherThenHash,
        direction: Direction::Encrypt,
        aad: 0,
        src: 64,
        to_cipher: Span { start: 16, len: 48 },
        to_hash: Span { start: 0, len: 64 },
        result: 20,
    };
    check(&mut driver, false, &good);
    let session = driver.create_session(&Parameters::Chain(good.key())).unwrap();
    let (iv, src) = (pattern(16, 0), pattern(64, 0));
    let span = |start, len| Span { start, len };
    let mut refused = |cipher, hash, dst_len, hash_len| {
        let direction = Direction::Encrypt;
        let (iv, src) = (&iv, &src);
        let chain = Chain { direction, iv, aad: &[], src, cipher, hash, dst_len, hash_len };
        let result = driver.run(Target::Session(session), &Operation::Chain(chain));
        assert_eq!(status(result) as u8, Status::Err as u8);
    };
    refused(span(16, 64), span(0, 64), 64, 20);
    refused(span(u32::MAX, 16), span(0, 64), 64, 20);
    refused(span(16, 48), span(1, 64), 64, 20);
    refused(span(16, 48), span(u32::MAX, u32::MAX), 64, 20);
    refused(span(16, 47), span(0, 64), 64, 20);
    refused(span(16, 48), span(0, 64), 48, 20);
    refused(span(16, 48), span(0, 64), 64, 21);
    refused(span(16, 48), span(0, 64), 64, 0);
}
