//! Published vectors through the device, for every algorithm that it announces, in session and
//! in stateless mode.

use understudy_client::virtio_crypto::{
    AeadKey, Akcipher, AkcipherKey, CipherKey, CryptoError, Direction, HashKey, KeyKind, MacKey,
    Operation, Parameters, Scheme, Status, Target, akcipher,
};
use understudy_engines::ecdsa::Curve;
use understudy_engines::hash::digest;
use understudy_engines::rsa::Digest;
use understudy_engines::vectors::{Algorithm, Case, cases, ecdsa_keys, rsa_keys};

use crate::rig::{ALL, AnyDriver, Rig, Transport};

/// Virtio's numbers by the vectors' names, written down a second time.
const CIPHERS: [(u32, &str); 10] = [
    (1, "arc4"),
    (2, "aes-ecb"),
    (3, "aes-cbc"),
    (4, "aes-ctr"),
    (5, "des-ecb"),
    (6, "des-cbc"),
    (7, "tdes-ecb"),
    (8, "tdes-cbc"),
    (9, "tdes-ctr"),
    (13, "aes-xts"),
];
const HASHES: [(u32, &str); 12] = [
    (1, "md5"),
    (2, "sha1"),
    (3, "sha224"),
    (4, "sha256"),
    (5, "sha384"),
    (6, "sha512"),
    (7, "sha3-224"),
    (8, "sha3-256"),
    (9, "sha3-384"),
    (10, "sha3-512"),
    (11, "shake128"),
    (12, "shake256"),
];
const MACS: [(u32, &str); 10] = [
    (1, "hmac-md5"),
    (2, "hmac-sha1"),
    (3, "hmac-sha224"),
    (4, "hmac-sha256"),
    (5, "hmac-sha384"),
    (6, "hmac-sha512"),
    (25, "cmac-tdes"),
    (26, "cmac-aes"),
    (49, "cbc-mac-aes"),
    (53, "xcbc-aes"),
];
const AEADS: [(u32, &str); 3] = [(1, "aes-gcm"), (2, "aes-ccm"), (3, "chacha20-poly1305")];

/// Runs an operation in a session of its own and statelessly; both must agree.
fn both_modes(
    driver: &mut AnyDriver,
    parameters: &Parameters,
    operation: &Operation<'_>,
) -> Result<Vec<u8>, Status> {
    let status = |error: CryptoError| match error {
        CryptoError::Status(status) => status,
        CryptoError::Driver(error) => panic!("{error}"),
    };
    let stateless = driver.run(Target::Stateless(parameters), operation).map_err(status);
    let in_session = driver.create_session(parameters).map_err(status).and_then(|session| {
        let result = driver.run(Target::Session(session), operation).map_err(status);
        driver.destroy_session(session).unwrap();
        result
    });
    assert_eq!(stateless, in_session, "stateless and session mode differ");
    stateless
}

fn cipher_case(driver: &mut AnyDriver, number: u32, case: &Case) {
    assert!(case.valid, "{}", case.name);
    let mut run = |direction, src| {
        let key = CipherKey { algorithm: number, direction, key: case.key.clone() };
        let operation = Operation::Cipher { direction, iv: &case.iv, src };
        both_modes(driver, &Parameters::Cipher(key), &operation)
    };
    let encrypted = run(Direction::Encrypt, &case.input);
    assert_eq!(encrypted.as_deref(), Ok(&case.output[..]), "{}", case.name);
    let decrypted = run(Direction::Decrypt, &case.output);
    assert_eq!(decrypted.as_deref(), Ok(&case.input[..]), "{}", case.name);
}

fn hash_case(driver: &mut AnyDriver, number: u32, case: &Case) {
    assert!(case.valid, "{}", case.name);
    let result_len = u32::try_from(case.output.len()).unwrap();
    let parameters = Parameters::Hash(HashKey { algorithm: number, result_len });
    let operation = Operation::Hash { src: &case.input, result_len };
    let digest = both_modes(driver, &parameters, &operation);
    assert_eq!(digest.as_deref(), Ok(&case.output[..]), "{}", case.name);
}

fn mac_case(driver: &mut AnyDriver, number: u32, case: &Case) {
    let result_len = u32::try_from(case.tag.len()).unwrap();
    let key = MacKey { algorithm: number, result_len, key: case.key.clone() };
    let operation = Operation::Mac { src: &case.input, result_len };
    let tag = both_modes(driver, &Parameters::Mac(key), &operation);
    assert_eq!(tag.as_deref() == Ok(&case.tag[..]), case.valid, "{}: {tag:02x?}", case.name);
}

fn aead_case(driver: &mut AnyDriver, number: u32, case: &Case) {
    let tag_len = u32::try_from(case.tag.len()).unwrap();
    let aad_len = u32::try_from(case.aad.len()).unwrap();
    let sealed = [&case.output[..], &case.tag[..]].concat();
    let mut run = |direction, src| {
        let (key, algorithm) = (case.key.clone(), number);
        let key = AeadKey { algorithm, direction, key, tag_len, aad_len };
        let (iv, aad) = (&case.iv[..], &case.aad[..]);
        let operation = Operation::Aead { direction, iv, aad, src, tag_len };
        both_modes(driver, &Parameters::Aead(key), &operation)
    };
    let opened = run(Direction::Decrypt, &sealed);
    if case.valid {
        assert_eq!(opened.as_deref(), Ok(&case.input[..]), "{}", case.name);
        let result = run(Direction::Encrypt, &case.input);
        assert_eq!(result.as_deref(), Ok(&sealed[..]), "{}", case.name);
    } else {
        assert!(opened.is_err(), "{}: opened", case.name);
    }
}

fn by_name(name: &str) -> Algorithm {
    Algorithm::all().find(|algorithm| algorithm.name() == name).unwrap()
}

/// Whether a request can say this at all.
fn expressible(case: &Case) -> bool {
    match case.algorithm {
        // 16 bytes would be taken for the pre-counter block, and more are not allowed.
        Algorithm::Aead(_) if case.algorithm.name() == "aes-gcm" => case.iv.len() < 16,
        // Longer keys than the device announces.
        Algorithm::Mac(_) => case.key.len() <= 512,
        _ => true,
    }
}

type Table = &'static [(u32, &'static str)];
type Run = fn(&mut AnyDriver, u32, &Case);

/// Runs every `step`th case of every announced algorithm.
fn run_all(transport: Transport, step: usize) {
    let mut rig = Rig::plain(transport);
    let config = *rig.driver.config();
    let tables: [(u64, Table, Run); 4] = [
        (config.ciphers, &CIPHERS, cipher_case),
        (config.hashes.into(), &HASHES, hash_case),
        (config.macs, &MACS, mac_case),
        (config.aeads.into(), &AEADS, aead_case),
    ];
    let mut total = 0;
    for (announced, table, run) in tables {
        let known = table.iter().fold(0, |mask, (number, _)| mask | 1u64 << number);
        assert_eq!(announced, known, "announced algorithms without vectors, or the reverse");
        for (number, name) in table {
            let algorithm = by_name(name);
            let some = cases(algorithm).unwrap().filter(expressible).step_by(step);
            let count = some.map(|case| run(&mut rig.driver, *number, &case)).count();
            assert!(count > 0, "no vectors of {name}");
            total += count;
        }
    }
    println!("{transport:?}: {total} cases");
    assert_eq!(rig.driver.in_flight(), 0);
}

#[test]
fn published_vectors_pass_in_the_simulation() {
    run_all(ALL[0], 1);
}

#[test]
fn published_vectors_pass_over_the_socket() {
    run_all(Transport::Shared, 2);
}

#[test]
fn published_vectors_pass_over_the_socket_with_message_dma() {
    run_all(Transport::Messages, 7);
}

fn rsa_hash(digest: Digest) -> (u32, &'static str) {
    match digest {
        Digest::Sha1 => (akcipher::RSA_SHA1, "sha1"),
        Digest::Sha224 => (akcipher::RSA_SHA224, "sha224"),
        Digest::Sha256 => (akcipher::RSA_SHA256, "sha256"),
        Digest::Sha384 => (akcipher::RSA_SHA384, "sha384"),
        Digest::Sha512 => (akcipher::RSA_SHA512, "sha512"),
        other => panic!("no vectors use {other:?}"),
    }
}

fn digest_of(name: &str, message: &[u8]) -> Vec<u8> {
    let Algorithm::Hash(algorithm) = by_name(name) else { panic!("{name}") };
    let mut out = vec![0; algorithm.digest_len()];
    digest(algorithm, message, &mut out).unwrap();
    out
}

fn rsa_key(kind: KeyKind, key: &[u8], padding: u32, hash: u32) -> Parameters {
    let scheme = Scheme::Rsa { padding, hash };
    Parameters::Akcipher(AkcipherKey { scheme, kind, key: key.to_vec() })
}

fn run_rsa(transport: Transport, step: usize) {
    let mut rig = Rig::plain(transport);
    let announced = rig.driver.config().akciphers;
    assert_eq!(announced, 1 << akcipher::RSA | 1 << akcipher::ECDSA);
    let driver = &mut rig.driver;
    let mut total = 0;
    for key in rsa_keys().unwrap() {
        for case in key.signatures.iter().step_by(step) {
            let (hash, name) = rsa_hash(case.hash);
            let digest = digest_of(name, &case.message);
            let name = format!("{}/{}", key.name, case.name);
            let public = rsa_key(KeyKind::Public, &key.public_key, akcipher::RSA_PKCS1, hash);
            let verify = Operation::Verify { signature: &case.signature, digest: &digest };
            let verdict = both_modes(driver, &public, &verify);
            let expected = if case.valid { Ok(vec![]) } else { Err(Status::KeyRejected) };
            assert_eq!(verdict, expected, "{name}");
            if case.valid && !key.private_key.is_empty() {
                let private =
                    rsa_key(KeyKind::Private, &key.private_key, akcipher::RSA_PKCS1, hash);
                let operation = Akcipher::Sign;
                let sign = Operation::Akcipher { operation, src: &digest, dst_len: 1024 };
                let signature = both_modes(driver, &private, &sign);
                assert_eq!(signature.as_deref(), Ok(&case.signature[..]), "{name}");
            }
            total += 1;
        }
        for case in key.encryptions.iter().step_by(step) {
            let name = format!("{}/{}", key.name, case.name);
            let private = rsa_key(KeyKind::Private, &key.private_key, akcipher::RSA_PKCS1, 0);
            let operation = Akcipher::Decrypt;
            let src = &case.ciphertext;
            let decrypt = Operation::Akcipher { operation, src, dst_len: 1024 };
            let message = both_modes(driver, &private, &decrypt);
            assert_eq!(message.as_deref() == Ok(&case.message[..]), case.valid, "{name}");
            total += 1;
        }
    }
    println!("{transport:?}: {total} RSA cases");
}

#[test]
fn rsa_vectors_pass_in_the_simulation() {
    run_rsa(ALL[0], 8);
}

#[test]
fn rsa_vectors_pass_over_the_socket() {
    run_rsa(Transport::Shared, 24);
}

fn run_ecdsa(transport: Transport, step: usize) {
    let mut rig = Rig::plain(transport);
    let driver = &mut rig.driver;
    let (mut verified, mut signed) = (0, 0);
    for key in ecdsa_keys().unwrap() {
        let curve = match key.curve {
            Curve::P256 => akcipher::P256,
            Curve::P384 => akcipher::P384,
            Curve::P521 => akcipher::P521,
            other => panic!("virtio has no number for {other:?}"),
        };
        let half = |kind, key: &[u8]| {
            let scheme = Scheme::Ecdsa { curve };
            Parameters::Akcipher(AkcipherKey { scheme, kind, key: key.to_vec() })
        };
        let public = half(KeyKind::Public, &key.public_key);
        let private = half(KeyKind::Private, &key.private_key);
        for case in key.signatures.iter().step_by(step) {
            let name = format!("{}/{}", key.name, case.name);
            let digest = &case.digest[..];
            let verify = Operation::Verify { signature: &case.signature, digest };
            let verdict = both_modes(driver, &public, &verify);
            assert_eq!(verdict.is_ok(), case.valid, "{name}: {verdict:?}");
            verified += 1;
            if case.valid && !key.private_key.is_empty() {
                let operation = Akcipher::Sign;
                let sign = Operation::Akcipher { operation, src: digest, dst_len: 160 };
                let signature = driver.run(Target::Stateless(&private), &sign).unwrap();
                driver.verify(Target::Stateless(&public), &signature, digest).unwrap();
                signed += 1;
            }
        }
    }
    println!("{transport:?}: {verified} ECDSA signatures verified, {signed} made");
    assert!(verified > 0 && signed > 0);
}

#[test]
fn ecdsa_vectors_pass_in_the_simulation() {
    run_ecdsa(ALL[0], 16);
}

#[test]
fn ecdsa_vectors_pass_over_the_socket() {
    run_ecdsa(Transport::Shared, 40);
}

/// Raw RSA is its own inverse with the other key, and keeps leading zeros.
#[test]
fn raw_rsa_round_trips_on_every_transport() {
    let keys = rsa_keys().unwrap();
    let key = keys.iter().find(|key| !key.private_key.is_empty()).unwrap();
    let len = key.encryptions.first().map_or(128, |case| case.ciphertext.len());
    let public = rsa_key(KeyKind::Public, &key.public_key, akcipher::RSA_RAW, 0);
    let private = rsa_key(KeyKind::Private, &key.private_key, akcipher::RSA_RAW, 0);
    let dst_len = u32::try_from(len).unwrap();
    for transport in ALL {
        let mut rig = Rig::plain(transport);
        let mut message = vec![0; len];
        message[len - 5..].copy_from_slice(b"hello");
        let operation = Akcipher::Encrypt;
        let encrypt = Operation::Akcipher { operation, src: &message, dst_len };
        let secret = both_modes(&mut rig.driver, &public, &encrypt).unwrap();
        assert_eq!(secret.len(), len);
        let operation = Akcipher::Decrypt;
        let decrypt = Operation::Akcipher { operation, src: &secret, dst_len };
        assert_eq!(both_modes(&mut rig.driver, &private, &decrypt).unwrap(), message);
    }
}
