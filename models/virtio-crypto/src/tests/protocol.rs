//! Configuration, sessions, status codes, counters.

use understudy_client::virtio::{Completion, QueueOptions};
use understudy_client::virtio_crypto::{
    AeadKey, Akcipher, AkcipherKey, Chain, ChainKey, CipherKey, Direction, HashKey, HashMode,
    KeyKind, MacKey, Operation, Options, Order, Parameters as Session, Scheme, Span, Status,
    Target, request,
};
use understudy_engines::vectors::rsa_keys;

use super::{
    TestDriver, counter, driver, driver_with, inspect, legacy, packed, pattern, run, status,
};
use crate::algorithms::{self, AEADS, AKCIPHERS, CIPHERS, HASHES, MACS};
use crate::{Parameters, SetupError, VirtioCrypto};

fn cbc(direction: Direction) -> Session {
    Session::Cipher(CipherKey { algorithm: 3, direction, key: pattern(16, 1) })
}

fn encrypt(src: &[u8]) -> Operation<'_> {
    Operation::Cipher { direction: Direction::Encrypt, iv: &[7; 16], src }
}

#[test]
fn the_configuration_announces_what_there_is() {
    let mut driver = driver_with(
        Parameters { data_queues: 3, max_size: 65536, ..Parameters::default() },
        Options { data_queues: 2, ..Options::default() },
        1,
    );
    let config = *driver.config();
    assert_eq!((config.status, config.max_dataqueues), (1, 3));
    assert_eq!(config.services, 0b11111);
    assert_eq!(config.ciphers, algorithms::mask(CIPHERS));
    assert_eq!(u64::from(config.hashes), algorithms::mask(HASHES));
    assert_eq!(config.macs, algorithms::mask(MACS));
    assert_eq!(u64::from(config.aeads), algorithms::mask(AEADS));
    assert_eq!(u64::from(config.akciphers), algorithms::mask(AKCIPHERS));
    assert_eq!(config.max_size, 65536);
    let state = inspect(&mut driver);
    let names: Vec<_> = state.queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["dataq 0", "dataq 1", "dataq 2", "controlq"]);
    let register = |name| state.registers.iter().find(|r| r.name == name).unwrap();
    assert_eq!(register("config.status").meaning, "HW_READY");
    assert_eq!(register("config.mac_algo_h").meaning, "CBCMAC_AES|XCBC_AES");
}

#[test]
fn parameters_out_of_range_are_refused() {
    let refused =
        |parameters| matches!(VirtioCrypto::new(parameters), Err(SetupError::Parameter(_)));
    let good = Parameters::default;
    assert!(VirtioCrypto::new(good()).is_ok());
    assert!(refused(Parameters { data_queues: 65, ..good() }));
    assert!(refused(Parameters { queue_size: 48, ..good() }));
    assert!(refused(Parameters { max_sessions: 0, ..good() }));
    assert!(refused(Parameters { max_size: 1 << 40, ..good() }));
}

#[test]
fn packed_queues_can_be_withheld() {
    let parameters = Parameters { packed_queues: false, ..Parameters::default() };
    let mut driver = driver_with(parameters, Options::default(), 1);
    let packed = understudy_client::virtio::feature::RING_PACKED;
    assert_eq!(driver.device.offered_features().unwrap() & packed, 0);
    let mut driver = super::driver(Options::default());
    assert_eq!(driver.device.offered_features().unwrap() & packed, packed);
}

#[test]
fn sessions_live_from_creation_to_destruction() {
    for options in [legacy(), Options::default()] {
        let mut driver = driver(options);
        let session = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
        let other = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
        assert_ne!(session.id, other.id);
        let src = pattern(64, 0);
        assert!(driver.run(Target::Session(session), &encrypt(&src)).is_ok());
        assert_eq!(counter(&mut driver, "sessions.open"), 2);
        driver.destroy_session(session).unwrap();
        let gone = driver.run(Target::Session(session), &encrypt(&src));
        assert_eq!(status(gone), Status::InvSess);
        assert_eq!(status(driver.destroy_session(session)), Status::Err);
        let third = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
        assert!(third.id != session.id && third.id != other.id, "ids are not used again");
        assert_eq!(counter(&mut driver, "sessions.created"), 3);
        assert_eq!(counter(&mut driver, "sessions.destroyed"), 1);
    }
}

#[test]
fn a_session_serves_its_own_service_only() {
    let mut driver = driver(legacy());
    let hash = driver.create_session(&Session::Hash(HashKey { algorithm: 4, result_len: 32 }));
    let mut hash = hash.unwrap();
    let result = driver.run(Target::Session(hash), &encrypt(&[0; 16]));
    assert_eq!(status(result), Status::InvSess);
    hash.service = 0;
    assert_eq!(status(driver.destroy_session(hash)), Status::Err);
    // A cipher session is none for chains.
    let cipher = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
    let span = Span { start: 0, len: 16 };
    let chain = Chain {
        direction: Direction::Encrypt,
        iv: &[0; 16],
        aad: &[],
        src: &[0; 16],
        cipher: span,
        hash: span,
        dst_len: 16,
        hash_len: 20,
    };
    let result = driver.run(Target::Session(cipher), &Operation::Chain(chain));
    assert_eq!(status(result), Status::InvSess);
}

#[test]
fn the_table_of_sessions_is_bounded() {
    for (revision_1, expected) in [(true, Status::NoSpc), (false, Status::Err)] {
        let options = Options { revision_1, stateless: 0, ..Options::default() };
        let mut driver =
            driver_with(Parameters { max_sessions: 2, ..Parameters::default() }, options, 1);
        let first = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
        driver.create_session(&cbc(Direction::Decrypt)).unwrap();
        assert_eq!(status(driver.create_session(&cbc(Direction::Encrypt))), expected);
        driver.destroy_session(first).unwrap();
        driver.create_session(&cbc(Direction::Encrypt)).unwrap();
    }
}

#[test]
fn what_is_not_announced_is_not_supported() {
    for options in [legacy(), Options::default()] {
        let mut driver = driver(options);
        let mut create = |session: Session| status(driver.create_session(&session));
        let key = || pattern(16, 1);
        let direction = Direction::Encrypt;
        for algorithm in [0, 10, 11, 12, 14, 31, 99] {
            let cipher = CipherKey { algorithm, direction, key: key() };
            assert_eq!(create(Session::Cipher(cipher)), Status::NotSupp);
        }
        for algorithm in [0, 13, 99] {
            let hash = HashKey { algorithm, result_len: 20 };
            assert_eq!(create(Session::Hash(hash)), Status::NotSupp);
        }
        for algorithm in [0, 27, 28, 41, 42, 50, 54, 99] {
            let mac = MacKey { algorithm, result_len: 16, key: key() };
            assert_eq!(create(Session::Mac(mac)), Status::NotSupp);
        }
        for algorithm in [0, 4] {
            let (tag_len, aad_len) = (16, 0);
            let aead = AeadKey { algorithm, direction, key: key(), tag_len, aad_len };
            assert_eq!(create(Session::Aead(aead)), Status::NotSupp);
        }
        let akcipher =
            |scheme| Session::Akcipher(AkcipherKey { scheme, kind: KeyKind::Public, key: key() });
        for curve in [0, 1, 2, 6] {
            assert_eq!(create(akcipher(Scheme::Ecdsa { curve })), Status::NotSupp);
        }
        assert_eq!(create(akcipher(Scheme::Ecdsa { curve: 3 })), Status::Err, "no point");
        assert_eq!(create(akcipher(Scheme::Rsa { padding: 2, hash: 0 })), Status::NotSupp);
        assert_eq!(create(akcipher(Scheme::Rsa { padding: 1, hash: 1 })), Status::NotSupp);
        assert_eq!(create(akcipher(Scheme::Rsa { padding: 1, hash: 5 })), Status::Err, "no DER");
        let chain = ChainKey {
            order: Order::HashThenCipher,
            cipher: CipherKey { algorithm: 3, direction, key: key() },
            mode: HashMode::Nested,
            hash: MacKey { algorithm: 2, result_len: 20, key: key() },
            aad_len: 0,
        };
        assert_eq!(create(Session::Chain(chain)), Status::NotSupp);
    }
}

#[test]
fn keys_of_wrong_length_are_refused() {
    let mut driver = driver(legacy());
    let mut create = |session: Session| status(driver.create_session(&session));
    let direction = Direction::Encrypt;
    for (algorithm, len) in [(3, 15), (3, 0), (13, 40), (6, 7), (8, 8), (1, 257), (3, 5000)] {
        let cipher = CipherKey { algorithm, direction, key: pattern(len, 1) };
        assert_eq!(create(Session::Cipher(cipher)), Status::Err, "{algorithm}, {len} bytes");
    }
    let mac = MacKey { algorithm: 4, result_len: 32, key: pattern(513, 1) };
    assert_eq!(create(Session::Mac(mac)), Status::Err);
    let aead = |len, tag_len| {
        let key = pattern(len, 1);
        Session::Aead(AeadKey { algorithm: 1, direction, key, tag_len, aad_len: 0 })
    };
    assert_eq!(create(aead(17, 16)), Status::Err);
    assert_eq!(create(aead(16, 17)), Status::Err);
}

#[test]
fn stateless_requests_need_their_feature() {
    for options in [legacy(), Options { stateless: 0, ..Options::default() }] {
        let mut driver = driver(options);
        let parameters = Session::Hash(HashKey { algorithm: 4, result_len: 32 });
        let operation = Operation::Hash { src: &[0; 64], result_len: 32 };
        let result = run(&mut driver, true, &parameters, &operation);
        // Without REVISION_1 the flag is ignored and there is no session 0.
        let expected = if options.revision_1 { Status::NotSupp } else { Status::InvSess };
        assert_eq!(status(result), expected);
    }
    // With it, both modes work side by side.
    let mut driver = driver(Options::default());
    let operation = Operation::Hash { src: b"abc", result_len: 32 };
    let parameters = Session::Hash(HashKey { algorithm: 4, result_len: 32 });
    let stateless = run(&mut driver, true, &parameters, &operation).unwrap();
    assert_eq!(run(&mut driver, false, &parameters, &operation).unwrap(), stateless);
    assert_eq!(counter(&mut driver, "requests.stateless"), 1);
}

#[test]
fn a_direction_that_contradicts_the_session_fails() {
    let mut driver = driver(legacy());
    let session = driver.create_session(&cbc(Direction::Decrypt)).unwrap();
    let result = driver.run(Target::Session(session), &encrypt(&[0; 16]));
    assert_eq!(status(result), Status::Err);
}

#[test]
fn lengths_that_do_not_fit_fail() {
    let max_size = 4096;
    let parameters = Parameters { max_size, ..Parameters::default() };
    let mut driver = driver_with(parameters, legacy(), 1);
    let session = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
    let target = Target::Session(session);
    // IV, source and destination together.
    assert!(driver.run(target, &encrypt(&[0; 2032])).is_ok());
    assert_eq!(status(driver.run(target, &encrypt(&[0; 2048]))), Status::Err);
    assert_eq!(status(driver.run(target, &encrypt(&[0; 15]))), Status::Err);
    let iv = Operation::Cipher { direction: Direction::Encrypt, iv: &[0; 8], src: &[0; 16] };
    assert_eq!(status(driver.run(target, &iv)), Status::Err);
    // Lengths that say more than there is: iv_len, src_data_len, dst_data_len.
    for field in 0..3 {
        let mut encoded = driver.encode(target, &encrypt(&[0; 16])).unwrap();
        encoded.readable[0][24 + 4 * field] += 16;
        assert_eq!(status(submit(&mut driver, &encoded)), Status::Err, "field {field}");
    }
}

/// Submits on the first data queue and waits.
fn submit(
    driver: &mut TestDriver,
    encoded: &request::Encoded,
) -> Result<Vec<u8>, understudy_client::virtio_crypto::CryptoError> {
    let ticket = driver.submit_encoded(0, encoded)?;
    let finished = driver.wait(ticket)?;
    driver.result(finished)
}

#[test]
fn a_destination_longer_than_it_says_has_its_status_at_the_end() {
    let mut driver = driver(legacy());
    let session = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
    let src = pattern(48, 3);
    let expected = driver.run(Target::Session(session), &encrypt(&src)).unwrap();
    // As Linux does with scatterlists that go on after the data.
    let mut encoded = driver.encode(Target::Session(session), &encrypt(&src)).unwrap();
    encoded.writable[0] += 100;
    let result = submit(&mut driver, &encoded).unwrap();
    assert_eq!(result[..48], expected);
    assert_eq!(result[48..], [0xff; 100], "the rest is untouched");
}

#[test]
fn source_and_destination_can_be_the_same_memory() {
    let mut driver = driver(Options { guard: false, ..legacy() });
    for len in [16, 4096, 40_000, 65_536] {
        let session = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
        let src = pattern(len, 3);
        let expected = driver.run(Target::Session(session), &encrypt(&src)).unwrap();
        let encoded = driver.encode(Target::Session(session), &encrypt(&src)).unwrap();
        let mut request = driver.prepare(0, &encoded).unwrap();
        // Header, IV, source.
        request.writable[0] = request.readable[2];
        let ticket = driver.post(0, request).unwrap();
        driver.kick(0).unwrap();
        let finished = driver.wait(ticket).unwrap();
        assert_eq!(finished.status, None);
        let mut result = vec![0; len];
        use understudy_client::platform::Platform;
        let at = finished.request.writable[0].iova;
        driver.device.platform.dma_read(at, &mut result).unwrap();
        assert!(result == expected, "{len} bytes");
    }
}

fn aead<'a>(direction: Direction, iv: &'a [u8], src: &'a [u8]) -> Operation<'a> {
    Operation::Aead { direction, iv, aad: b"extra", src, tag_len: 16 }
}

#[test]
fn a_wrong_tag_releases_nothing() {
    for (algorithm, key_len, iv_len) in [(1, 16, 12), (1, 32, 16), (2, 24, 13), (3, 32, 12)] {
        let mut driver = driver(Options::default());
        let parameters = |direction| {
            let key = pattern(key_len, 1);
            Session::Aead(AeadKey { algorithm, direction, key, tag_len: 16, aad_len: 5 })
        };
        let iv = pattern(iv_len, 2);
        let text = pattern(100, 3);
        let (there, back) = (Direction::Encrypt, Direction::Decrypt);
        let mut sealed =
            run(&mut driver, false, &parameters(there), &aead(there, &iv, &text)).unwrap();
        assert_eq!(sealed.len(), 116);
        let opened = run(&mut driver, true, &parameters(back), &aead(back, &iv, &sealed));
        assert_eq!(opened.unwrap(), text);
        sealed[115] ^= 1;
        let session = driver.create_session(&parameters(back)).unwrap();
        let operation = aead(back, &iv, &sealed);
        let ticket = driver.submit(0, Target::Session(session), &operation).unwrap();
        let finished = driver.wait(ticket).unwrap();
        assert_eq!(finished.status, Some(Status::BadMsg));
        let written = finished.request.written(&mut driver.device.platform).unwrap();
        assert_eq!(written[..100], [0xff; 100], "plaintext without a good tag");
        assert_eq!(counter(&mut driver, "status.badmsg"), 1);
        assert_eq!(counter(&mut driver, "aead.decrypt.errors"), 1);
    }
}

#[test]
fn tag_lengths_come_from_the_session_if_the_request_has_none() {
    let mut driver = driver(legacy());
    let direction = Direction::Encrypt;
    let key = AeadKey { algorithm: 1, direction, key: pattern(16, 1), tag_len: 12, aad_len: 0 };
    let session = driver.create_session(&Session::Aead(key)).unwrap();
    let (iv, src) = (&[0; 12], &[0; 20]);
    let operation = Operation::Aead { direction, iv, aad: &[], src, tag_len: 12 };
    let expected = driver.run(Target::Session(session), &operation).unwrap();
    let mut encoded = driver.encode(Target::Session(session), &operation).unwrap();
    encoded.readable[0][24 + 16] = 0;
    assert_eq!(submit(&mut driver, &encoded).unwrap(), expected);
    encoded.readable[0][24 + 16] = 16;
    assert_eq!(status(submit(&mut driver, &encoded)), Status::Err);
}

#[test]
fn digests_can_be_cut_short_but_not_stretched() {
    let mut driver = driver(Options::default());
    let mut hash = |algorithm, result_len| {
        let parameters = Session::Hash(HashKey { algorithm, result_len });
        run(&mut driver, true, &parameters, &Operation::Hash { src: b"abc", result_len })
    };
    let full = hash(4, 32).unwrap();
    assert_eq!(hash(4, 12).unwrap(), full[..12]);
    assert_eq!(status(hash(4, 33)), Status::Err);
    assert_eq!(status(hash(4, 0)), Status::Err);
    assert_eq!(hash(12, 1000).unwrap().len(), 1000, "SHAKE is of any length");
}

#[test]
fn unknown_opcodes_are_not_supported() {
    let mut driver = driver(legacy());
    let session = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
    let encoded = driver.encode(Target::Session(session), &encrypt(&[0; 16])).unwrap();
    for opcode in [0x0002_u32, 0x0101, 0x0404, 0x0500, 0xffff_ffff] {
        let mut encoded = encoded.clone();
        encoded.readable[0][..4].copy_from_slice(&opcode.to_le_bytes());
        assert_eq!(status(submit(&mut driver, &encoded)), Status::NotSupp);
    }
    assert_eq!(counter(&mut driver, "requests.unknown"), 5);
    let mut create = request::create_session(driver.features(), &cbc(Direction::Encrypt));
    create.readable[0][0] = 9;
    let ticket = driver.submit_encoded(driver.control_queue(), &create).unwrap();
    assert_eq!(driver.wait(ticket).unwrap().status, Some(Status::NotSupp));
}

#[test]
fn a_reset_forgets_sessions() {
    let mut driver = driver(legacy());
    let session = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
    let platform = driver.shut_down().unwrap();
    let mut driver = TestDriver::new(platform, legacy()).unwrap();
    let result = driver.run(Target::Session(session), &encrypt(&[0; 16]));
    assert_eq!(status(result), Status::InvSess);
    assert_eq!(counter(&mut driver, "sessions.destroyed"), 1);
}

#[test]
fn counters_tell_what_was_done() {
    let mut driver = driver(legacy());
    let session = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
    for len in [16, 32, 15] {
        let _ = driver.run(Target::Session(session), &encrypt(&pattern(len, 0)));
    }
    assert_eq!(counter(&mut driver, "cipher.encrypt.requests"), 3);
    assert_eq!(counter(&mut driver, "cipher.encrypt.bytes"), 48);
    assert_eq!(counter(&mut driver, "cipher.encrypt.errors"), 1);
    assert_eq!(counter(&mut driver, "status.ok"), 3);
    assert_eq!(counter(&mut driver, "status.err"), 1);
    assert_eq!(counter(&mut driver, "device.needs_reset"), 0);
}

/// Many requests of all kinds at once, on several queues; jobs finish in an order drawn from the
/// seed. Each is answered once, with its own result.
#[test]
fn requests_in_flight_do_not_mix() {
    let key = rsa_keys().unwrap().into_iter().find(|key| !key.private_key.is_empty()).unwrap();
    let rsa = Session::Akcipher(AkcipherKey {
        scheme: Scheme::Rsa { padding: 0, hash: 0 },
        kind: KeyKind::Public,
        key: key.public_key,
    });
    for seed in 0..8 {
        let queues = if seed % 2 == 0 {
            packed()
        } else {
            QueueOptions { packed: false, indirect: true, event_idx: false }
        };
        let completion = if seed < 4 { Completion::Polling } else { Completion::Msix };
        let options = Options { queues, completion, data_queues: 3, ..Options::default() };
        let parameters = Parameters { data_queues: 3, ..Parameters::default() };
        let mut driver = driver_with(parameters, options, seed);
        let cipher = driver.create_session(&cbc(Direction::Encrypt)).unwrap();
        let public = driver.create_session(&rsa).unwrap();
        let sources: Vec<_> = (0..24).map(|n| pattern(16 + 16 * n, 9)).collect();
        let raise = |src| Operation::Akcipher { operation: Akcipher::Encrypt, src, dst_len: 512 };
        let expected: Vec<_> = sources
            .iter()
            .enumerate()
            .map(|(n, src)| match n % 2 {
                0 => driver.run(Target::Session(cipher), &encrypt(src)).unwrap(),
                _ => driver.run(Target::Session(public), &raise(&src[..16])).unwrap(),
            })
            .collect();
        let mut tickets = Vec::new();
        for (n, src) in sources.iter().enumerate() {
            let ticket = match n % 2 {
                0 => driver.submit(n % 3, Target::Session(cipher), &encrypt(src)),
                _ => driver.submit(n % 3, Target::Session(public), &raise(&src[..16])),
            };
            tickets.push(ticket.unwrap());
        }
        for (n, ticket) in tickets.into_iter().enumerate().rev() {
            let finished = driver.wait(ticket).unwrap();
            assert_eq!(driver.result(finished).unwrap(), expected[n], "seed {seed}, request {n}");
        }
        assert_eq!(driver.in_flight(), 0);
    }
}
