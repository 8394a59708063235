//! Ciphers, hashes and both, in the drivers' layouts.
//!
//! - `published`: ciphers, hashes and MACs with published vectors.
//! - `aead`: GCM, GMAC and CCM with published vectors.
//! - `long`: long requests, which are jobs.

mod aead;
mod long;
mod published;

use understudy_client::qat::content::{Hash, aes_block};
use understudy_client::qat::message::{cipher, command, flag, hash, hash_flag, mode};
use understudy_client::qat::{Content, SymmetricCall, SymmetricResult, status};
use understudy_engines::vectors::{Algorithm, Case, cases};
use understudy_engines::{cipher as ciphers, hash as hashes, mac, wireless};

use super::{TestDriver, counter, driver, pattern};

/// As many as keep the test short; published sets come first.
const CASES: usize = 120;

fn valid_cases(algorithm: Algorithm) -> Vec<Case> {
    cases(algorithm).unwrap().filter(|case| case.valid).take(CASES).collect()
}

fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

fn byte(len: usize) -> u8 {
    u8::try_from(len).unwrap()
}

/// Layouts of buffers that each test goes through.
const PIECES: [Option<usize>; 3] = [None, Some(1 << 20), Some(37)];

fn run(driver: &mut TestDriver, content: &Content, call: &SymmetricCall<'_>) -> SymmetricResult {
    let result = driver.symmetric(content, call).unwrap();
    assert_eq!(result.response.service(), 4);
    assert_eq!(result.response.flags(), 0x80);
    result
}

/// As engines and as drivers call them.
const HASHES: [(hashes::Algorithm, Hash); 6] = [
    (hashes::Algorithm::Md5, Hash::Md5),
    (hashes::Algorithm::Sha1, Hash::Sha1),
    (hashes::Algorithm::Sha224, Hash::Sha224),
    (hashes::Algorithm::Sha256, Hash::Sha256),
    (hashes::Algorithm::Sha384, Hash::Sha384),
    (hashes::Algorithm::Sha512, Hash::Sha512),
];

/// Associated data, padding, ciphertext and digest in one buffer, as the kernel has them.
#[test]
fn authenticated_encryption_both_ways() {
    let mut driver = driver();
    let (key, iv, aad, plain) = (pattern(32, 1), pattern(16, 2), pattern(24, 3), pattern(160, 4));
    for (algorithm, hash) in HASHES {
        let tag_len = algorithm.digest_len();
        let mac_key = pattern(tag_len, 5);
        let mut ciphertext = plain.clone();
        let engine = ciphers::Key::new(ciphers::Algorithm::AesCbc, &key).unwrap();
        engine.apply(ciphers::Direction::Encrypt, &iv, &mut ciphertext).unwrap();
        let mut tag = vec![0; tag_len];
        let engine = mac::Key::new(mac::Algorithm::Hmac(algorithm), &mac_key).unwrap();
        let mut stream = engine.start(&[]).unwrap();
        stream.update(&aad).unwrap();
        stream.update(&ciphertext).unwrap();
        stream.finish(&mut tag).unwrap();

        let open = [&aad[..], &plain, &vec![0; tag_len]].concat();
        let sealed = [&aad[..], &ciphertext, &tag].concat();
        for (piece, out_of_place) in PIECES.into_iter().zip([false, true, true]) {
            driver.set_piece(piece);
            let destination = out_of_place.then_some(open.len());
            let call = |command, digest, source| SymmetricCall {
                command,
                flags: digest | flag::DIGEST_IN_BUFFER,
                iv: &iv,
                source,
                destination,
                cipher: (24, 160),
                auth: (0, 184),
                ..SymmetricCall::default()
            };
            let content = Content::default().cipher(cipher::AES_256, mode::CBC, false, &key);
            let content = content.hmac(hash, &mac_key, tag_len);
            let encryption = call(command::CIPHER_HASH, flag::RETURN_DIGEST, &open[..]);
            let result = run(&mut driver, &content, &encryption);
            assert_eq!((result.response.status(), &result.data), (0, &sealed), "{algorithm:?}");

            // The kernel puts the hash first for this direction.
            let content = Content::default().hmac(hash, &mac_key, tag_len);
            let content = content.cipher(cipher::AES_256, mode::CBC, true, &key);
            let decryption = call(command::HASH_CIPHER, flag::COMPARE_DIGEST, &sealed[..]);
            let result = run(&mut driver, &content, &decryption);
            assert_eq!(result.response.status(), 0);
            assert_eq!(result.data[..184], open[..184]);

            let mut forged = sealed.clone();
            forged[30] ^= 1;
            let result =
                run(&mut driver, &content, &SymmetricCall { source: &forged, ..decryption });
            assert_eq!(result.response.status(), status::CRYPTO);
            let untouched = if out_of_place { vec![0xa5; forged.len()] } else { forged };
            assert_eq!(result.data, untouched);
        }
    }
    assert_eq!(counter(&mut driver, "mismatches"), 18);
    assert_eq!(counter(&mut driver, "chain.errors"), 18);
}

#[test]
fn the_null_cipher_and_the_null_hash_leave_data_alone() {
    let mut driver = driver();
    let data = pattern(64, 0);
    let content = Content::default().cipher(cipher::NULL, mode::ECB, false, &[]);
    let call = SymmetricCall { source: &data, cipher: (0, 64), ..SymmetricCall::default() };
    let result = run(&mut driver, &content, &SymmetricCall { destination: Some(64), ..call });
    assert_eq!((result.response.status(), &result.data), (0, &data));
    let content = content.auth(hash::NULL, 1, 0, [&[0; 8], &[]], 8);
    let call = SymmetricCall {
        command: command::CIPHER_HASH,
        flags: flag::RETURN_DIGEST,
        auth: (0, 64),
        digest: &[0xff; 8],
        ..call
    };
    let result = run(&mut driver, &content, &call);
    assert_eq!((result.response.status(), result.data, result.digest), (0, data, vec![0; 8]));
}

#[test]
fn only_what_the_cipher_covers_is_changed() {
    let mut driver = driver();
    let (key, data) = (pattern(16, 1), pattern(100, 2));
    let content = Content::default().cipher(cipher::AES_128, mode::CTR, false, &key);
    for piece in PIECES {
        driver.set_piece(piece);
        let call = SymmetricCall {
            command: command::CIPHER,
            iv: &[9; 16],
            source: &data,
            cipher: (17, 50),
            ..SymmetricCall::default()
        };
        let result = run(&mut driver, &content, &call);
        assert_eq!(result.data[..17], data[..17]);
        assert_ne!(result.data[17..67], data[17..67]);
        assert_eq!(result.data[67..], data[67..]);
        // Out of place, what comes before goes along; what follows is nobody's.
        let moved = run(&mut driver, &content, &SymmetricCall { destination: Some(100), ..call });
        assert_eq!(moved.data[..67], result.data[..67]);
        assert_eq!(moved.data[67..], [0xa5; 33]);
    }
}

/// The ciphers and MACs of 3GPP, with descriptors as DPDK lays them out.
#[test]
fn wireless() {
    let data = pattern(72, 0);
    let key: Vec<u8> = (1..=16).collect();
    let twice = |modifier: u8| {
        let modified = key.iter().map(|byte| byte ^ modifier);
        key.iter().copied().chain(modified).collect::<Vec<u8>>()
    };
    let (doubled, nines) = (twice(0x55), twice(0xaa));
    let iv = pattern(16, 7);
    let snow_key = [&[0; 32], key.as_slice(), &[0; 16]].concat();
    let zuc_key = [key.as_slice(), &[0; 32]].concat();
    let ciphers = [
        (cipher::SNOW_3G, mode::ECB, 4 << 7, wireless::Cipher::Snow3g, &key),
        (cipher::ZUC, mode::ECB, 1 << 12, wireless::Cipher::Zuc, &key),
        (cipher::KASUMI, mode::F8, 0, wireless::Cipher::Kasumi, &doubled),
    ];
    let macs = [
        (13, 4 << 7, wireless::Mac::Snow3g, &snow_key, &key),
        (14, 1 << 12, wireless::Mac::Zuc, &zuc_key, &key),
        (12, 0, wireless::Mac::Kasumi, &nines, &nines),
    ];
    for piece in [None, Some(20)] {
        let mut driver = super::driver();
        driver.set_piece(piece);
        for (number, mode, flags, engine, key) in ciphers {
            let content = Content::default().cipher(number, mode, false, key);
            let iv = &iv[..engine.iv_len()];
            let call =
                SymmetricCall { flags, source: &data, iv, cipher: (3, 50), ..Default::default() };
            let mut expected = data.clone();
            engine.apply(key, iv, &mut expected[3..53]).unwrap();
            assert_eq!(run(&mut driver, &content, &call).data, expected, "{engine:?}");
        }
        for (number, flags, engine, state, key) in macs {
            let content = Content::default().auth(number, 1, 0, [&[0; 8], state], 4);
            let aad = &iv[..engine.iv_len()];
            let call = SymmetricCall {
                command: command::AUTH,
                flags: flags | flag::RETURN_DIGEST,
                source: &data,
                auth: (8, 56),
                aad,
                digest: &[0; 4],
                ..SymmetricCall::default()
            };
            let expected = engine.compute(key, aad, &data[8..64]).unwrap();
            assert_eq!(run(&mut driver, &content, &call).digest, expected, "{engine:?}");
            let compare = flags | flag::COMPARE_DIGEST;
            let right = SymmetricCall { flags: compare, digest: &expected, ..call };
            assert_eq!(run(&mut driver, &content, &right).response.status(), 0);
            let wrong = SymmetricCall { flags: compare, digest: &[0; 4], ..call };
            assert_eq!(run(&mut driver, &content, &wrong).response.status(), status::CRYPTO);
        }
    }
}

/// The flags for the hash's protocol count if the request says so, and then must be right.
#[test]
fn flags_of_the_hash_tell_its_protocol() {
    let mut driver = driver();
    let (data, key) = (pattern(64, 0), pattern(16, 1));
    let zuc_key = [key.as_slice(), &[0; 32]].concat();
    let content = Content::default().cipher(cipher::AES_128, mode::CTR, false, &key);
    let content = content.auth(14, 1, 0, [&[0; 8], &zuc_key], 4);
    let invalid = status::CRYPTO | status::INVALID;
    for (extended, hash_flags, expected) in [
        (0, 0, 0),
        (1, hash_flag::ZUC, 0),
        (1, 0, invalid),
        (1, hash_flag::SNOW_3G, invalid),
        (1, hash_flag::SNOW_3G | hash_flag::ZUC, invalid),
        (2, hash_flag::ZUC, status::CRYPTO | status::UNSUPPORTED),
        (3, hash_flag::ZUC, status::CRYPTO | status::UNSUPPORTED),
    ] {
        let mut content = content.clone();
        content.control[5] = hash_flags;
        let call = SymmetricCall {
            command: command::CIPHER_HASH,
            flags: flag::RETURN_DIGEST,
            source: &data,
            cipher: (0, 64),
            auth: (0, 64),
            aad: &key,
            digest: &[0; 4],
            extended,
            ..SymmetricCall::default()
        };
        let found = run(&mut driver, &content, &call).response.status();
        assert_eq!(found, expected, "{extended:#x}, {hash_flags:#x}");
    }
}

#[test]
fn what_the_part_has_not_is_unsupported() {
    let unsupported = status::CRYPTO | status::UNSUPPORTED;
    let mut driver = driver();
    let data = [0; 16];
    let call = SymmetricCall { source: &data, cipher: (0, 16), ..SymmetricCall::default() };
    for (algorithm, mode) in [
        (cipher::KASUMI, mode::ECB),
        (cipher::SNOW_3G, mode::CBC),
        (cipher::ZUC, mode::CTR),
        (cipher::AES_128, mode::F8),
        (cipher::TDES, mode::XTS),
        (6, mode::ECB),
        (15, mode::CBC),
    ] {
        let content = Content::default().cipher(algorithm, mode, false, &[0; 32]);
        let result = run(&mut driver, &content, &call);
        assert_eq!(result.response.status(), unsupported, "{algorithm} {mode}");
    }
    // Partial messages, configuration elsewhere, written-back IVs, and slices of newer parts.
    let content = Content::default().cipher(cipher::AES_128, mode::CBC, false, &[0; 16]);
    for flags in [1, 2, 1 << 3, 1 << 4, 1 << 13, 1 << 15, 3 << 7, 7 << 7] {
        let result = run(&mut driver, &content, &SymmetricCall { flags, ..call });
        assert_eq!(result.response.status(), unsupported, "{flags:#x}");
        assert_eq!(result.data, data);
    }
    for command in [4, 9, 255] {
        let result = run(&mut driver, &content, &SymmetricCall { command, ..call });
        assert_eq!(result.response.status(), unsupported, "{command}");
    }
    for (algorithm, mode) in [(9, 1), (11, 0), (hash::SHA3_256, 1), (hash::SHA_1, 2)] {
        let content = Content::default().auth(algorithm, mode, 64, [&[0; 64], &[0; 64]], 16);
        let call = SymmetricCall { command: command::AUTH, auth: (0, 16), ..call };
        let result = run(&mut driver, &content, &call);
        assert_eq!(result.response.status(), unsupported, "{algorithm} {mode}");
    }
    assert_eq!(counter(&mut driver, "unknown.errors"), 3);
}

#[test]
fn impossible_lengths_are_invalid() {
    let invalid = status::CRYPTO | status::INVALID;
    let mut driver = driver();
    let data = pattern(64, 0);
    let content = Content::default().cipher(cipher::AES_128, mode::CBC, false, &[0; 16]);
    let content = content.hmac(Hash::Sha256, b"key", 32);
    let call = SymmetricCall {
        command: command::CIPHER_HASH,
        flags: flag::RETURN_DIGEST,
        source: &data,
        cipher: (0, 64),
        auth: (0, 64),
        digest: &[0; 32],
        ..SymmetricCall::default()
    };
    assert_eq!(run(&mut driver, &content, &call).response.status(), 0);
    for piece in [None, Some(16)] {
        driver.set_piece(piece);
        for (cipher, auth) in [
            // No whole number of blocks; beyond the source; beyond all limits.
            ((0, 63), (0, 64)),
            ((64, 16), (0, 64)),
            ((0, 64), (1, 64)),
            ((u32::MAX, 16), (0, 64)),
            ((0, 16), (0, u32::MAX)),
        ] {
            let result = run(&mut driver, &content, &SymmetricCall { cipher, auth, ..call });
            assert_eq!(result.response.status(), invalid, "{cipher:?} {auth:?}");
            assert_eq!(result.data, data);
        }
        let small = run(&mut driver, &content, &SymmetricCall { destination: Some(32), ..call });
        assert_eq!(small.response.status(), invalid);
    }
    // A digest longer than the hash's, and none at all.
    for tag_len in [0, 33, 255] {
        let mut content = content.clone();
        content.control[10] = tag_len;
        assert_eq!(run(&mut driver, &content, &call).response.status(), invalid);
    }
    // Keys and states beyond the content.
    for at in [2, 6, 14] {
        let mut content = content.clone();
        content.control[at] = 200;
        assert_eq!(run(&mut driver, &content, &call).response.status(), invalid, "{at}");
    }
}

#[test]
fn requests_have_a_limit() {
    let parameters = crate::Parameters { max_request: 65536, ..crate::Parameters::default() };
    let mut driver = super::driver_with(parameters, Default::default());
    let content = Content::default().cipher(cipher::AES_128, mode::CTR, false, &[0; 16]);
    for (size, expected) in [(65536, 0), (65537, status::CRYPTO | status::INVALID)] {
        let data = pattern(size, 0);
        let call = SymmetricCall { source: &data, cipher: (0, len(&data)), ..Default::default() };
        assert_eq!(run(&mut driver, &content, &call).response.status(), expected);
    }
}

#[test]
fn keys_are_told_apart_by_all_their_bytes() {
    let mut driver = driver();
    let data = [0; 16];
    let mut seen = Vec::new();
    for round in 0..60 {
        let mut key = vec![0; 16];
        key[15] = round % 30;
        let content = Content::default().cipher(cipher::AES_128, mode::ECB, false, &key);
        let call = SymmetricCall { source: &data, cipher: (0, 16), ..Default::default() };
        let found = run(&mut driver, &content, &call).data;
        assert_eq!(found, aes_block(&key, data));
        seen.push(found);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 30);
}
