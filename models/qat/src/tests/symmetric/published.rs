//! Ciphers, hashes and MACs with published vectors.

use understudy_client::qat::content::{aes, aes_block};
use understudy_client::qat::message::{cipher, command, flag, hash, mode};
use understudy_client::qat::{Content, SymmetricCall, status};
use understudy_engines::vectors::Algorithm;
use understudy_engines::{cipher as ciphers, hash as hashes, mac};

use super::{HASHES, PIECES, TestDriver, byte, counter, driver, len, run, valid_cases};

/// Algorithm, mode and key as a content descriptor has them.
fn cipher_numbers(algorithm: ciphers::Algorithm, key: &[u8]) -> (u32, u32) {
    use ciphers::Algorithm as C;
    match algorithm {
        C::AesEcb => (aes(key.len()), mode::ECB),
        C::AesCbc => (aes(key.len()), mode::CBC),
        C::AesCtr => (aes(key.len()), mode::CTR),
        C::AesXts => (aes(key.len() / 2), mode::XTS),
        C::DesEcb => (cipher::DES, mode::ECB),
        C::DesCbc => (cipher::DES, mode::CBC),
        C::TdesEcb => (cipher::TDES, mode::ECB),
        C::TdesCbc => (cipher::TDES, mode::CBC),
        C::TdesCtr => (cipher::TDES, mode::CTR),
        other => panic!("{other:?}"),
    }
}

#[test]
fn published_ciphers() {
    use ciphers::Algorithm as C;
    let mut driver = driver();
    let all = [
        C::AesEcb,
        C::AesCbc,
        C::AesCtr,
        C::AesXts,
        C::DesEcb,
        C::DesCbc,
        C::TdesEcb,
        C::TdesCbc,
        C::TdesCtr,
    ];
    for algorithm in all {
        let mut count = 0;
        for (case, piece) in
            valid_cases(Algorithm::Cipher(algorithm)).iter().zip(PIECES.iter().cycle())
        {
            driver.set_piece(*piece);
            let key = match (algorithm, case.key.len()) {
                // Two keys: the first is used again.
                (C::TdesEcb | C::TdesCbc | C::TdesCtr, 16) => [&case.key, &case.key[..8]].concat(),
                _ => case.key.clone(),
            };
            let (number, mode) = cipher_numbers(algorithm, &key);
            // Counter mode is encryption both ways, as both drivers ask for it.
            for decrypt in [false, mode != mode::CTR] {
                let content = Content::default().cipher(number, mode, decrypt, &key);
                let (from, to) =
                    if decrypt { (&case.output, &case.input) } else { (&case.input, &case.output) };
                let call = SymmetricCall {
                    command: command::CIPHER,
                    iv: &case.iv,
                    source: from,
                    cipher: (0, len(from)),
                    ..SymmetricCall::default()
                };
                let result = run(&mut driver, &content, &call);
                assert_eq!(result.response.status(), 0, "{}", case.name);
                assert_eq!(result.data, *to, "{}", case.name);
            }
            count += 1;
        }
        assert!(count > 0, "{algorithm:?}");
    }
    assert_eq!(counter(&mut driver, "cipher.errors"), 0);
}

/// A hash of the whole source: the digest beside it.
fn digest(driver: &mut TestDriver, content: &Content, data: &[u8], tag_len: usize) -> Vec<u8> {
    let call = SymmetricCall {
        command: command::AUTH,
        flags: flag::RETURN_DIGEST,
        source: data,
        auth: (0, len(data)),
        digest: &vec![0; tag_len],
        ..SymmetricCall::default()
    };
    let result = run(driver, content, &call);
    assert_eq!(result.response.status(), 0);
    assert_eq!(result.data, data);
    result.digest
}

/// Whether the device accepts a digest.
fn verifies(driver: &mut TestDriver, content: &Content, data: &[u8], tag: &[u8]) -> bool {
    let call = SymmetricCall {
        command: command::AUTH,
        flags: flag::COMPARE_DIGEST,
        source: data,
        auth: (0, len(data)),
        digest: tag,
        ..SymmetricCall::default()
    };
    match run(driver, content, &call).response.status() {
        0 => true,
        status::CRYPTO => false,
        other => panic!("status {other:#x}"),
    }
}

#[test]
fn published_hashes() {
    let mut driver = driver();
    for (algorithm, hash) in HASHES {
        let content = Content::default().plain_hash(hash, algorithm.digest_len());
        for (case, piece) in
            valid_cases(Algorithm::Hash(algorithm)).iter().zip(PIECES.iter().cycle())
        {
            driver.set_piece(*piece);
            let found = digest(&mut driver, &content, &case.input, algorithm.digest_len());
            assert_eq!(found, case.output, "{}", case.name);
        }
    }
    for (algorithm, number) in [
        (hashes::Algorithm::Sha3_224, hash::SHA3_256 - 1),
        (hashes::Algorithm::Sha3_256, hash::SHA3_256),
        (hashes::Algorithm::Sha3_384, hash::SHA3_256 + 1),
        (hashes::Algorithm::Sha3_512, hash::SHA3_256 + 2),
    ] {
        let tag_len = byte(algorithm.digest_len());
        let content = Content::default().auth(number, 0, 0, [&[0; 8], &[]], tag_len);
        for case in valid_cases(Algorithm::Hash(algorithm)) {
            let found = digest(&mut driver, &content, &case.input, algorithm.digest_len());
            assert_eq!(found, case.output, "{}", case.name);
        }
    }
}

#[test]
fn published_hmacs() {
    let mut driver = driver();
    for (algorithm, hash) in HASHES {
        let mut count = 0;
        let vectors = valid_cases(Algorithm::Mac(mac::Algorithm::Hmac(algorithm)));
        for (case, piece) in vectors.iter().zip(PIECES.iter().cycle()) {
            driver.set_piece(*piece);
            let tag_len = case.tag.len();
            let content = Content::default().hmac(hash, &case.key, tag_len);
            assert_eq!(
                digest(&mut driver, &content, &case.input, tag_len),
                case.tag,
                "{}",
                case.name
            );
            assert!(verifies(&mut driver, &content, &case.input, &case.tag));
            let mut other = case.tag.clone();
            other[tag_len - 1] ^= 1;
            assert!(!verifies(&mut driver, &content, &case.input, &other));
            count += 1;
        }
        assert!(count > 0, "{algorithm:?}");
    }
    assert_eq!(counter(&mut driver, "mismatches"), counter(&mut driver, "auth.errors"));
}

fn double(block: [u8; 16]) -> [u8; 16] {
    let number = u128::from_be_bytes(block);
    (number << 1 ^ if number >> 127 != 0 { 0x87 } else { 0 }).to_be_bytes()
}

#[test]
fn published_block_cipher_macs() {
    let mut driver = driver();
    for algorithm in [mac::Algorithm::XcbcAes, mac::Algorithm::CmacAes] {
        let mut count = 0;
        // The slice has XCBC and CMAC for AES-128.
        let vectors = valid_cases(Algorithm::Mac(algorithm));
        for case in vectors.iter().filter(|case| case.key.len() == 16) {
            let keys = match algorithm {
                mac::Algorithm::XcbcAes => [1, 2, 3].map(|n| aes_block(&case.key, [n; 16])),
                _ => {
                    let whole = double(aes_block(&case.key, [0; 16]));
                    [case.key.clone().try_into().unwrap(), whole, double(whole)]
                }
            };
            let tag_len = case.tag.len();
            let states = [&[0; 16][..], &keys.concat()];
            let content = Content::default().auth(hash::AES_XCBC, 1, 0, states, byte(tag_len));
            assert_eq!(
                digest(&mut driver, &content, &case.input, tag_len),
                case.tag,
                "{}",
                case.name
            );
            assert!(verifies(&mut driver, &content, &case.input, &case.tag));
            count += 1;
        }
        assert!(count > 0, "{algorithm:?}");
    }
}
