//! Published vectors of every announced algorithm, through the device.

use understudy_client::virtio_crypto::{
    AeadKey, Akcipher, AkcipherKey, CipherKey, CryptoError, Direction, HashKey, KeyKind, MacKey,
    Operation, Options, Parameters, Scatter, Scheme, Status, akcipher,
};
use understudy_engines::aead;
use understudy_engines::hash::{self, digest};
use understudy_engines::rsa::Digest;
use understudy_engines::vectors::{Algorithm, Case, cases, ecdsa_keys, rsa_keys};

use super::{TestDriver, driver, legacy, packed, run};
use crate::algorithms::{AEADS, CIPHERS, CURVES, HASHES, MACS, RSA_HASHES};

/// Ways to drive the device, each with all vectors: sessions as old drivers, sessions with
/// everything cut to pieces on packed queues, and no sessions.
fn ways() -> [(TestDriver, bool); 3] {
    let pieces = Scatter::Pieces { max: 37 };
    let cut = Options { queues: packed(), scatter: pieces, ..Options::default() };
    let merged = Options { scatter: Scatter::Merged, ..Options::default() };
    [(driver(legacy()), false), (driver(cut), false), (driver(merged), true)]
}

/// Runs `check` on all cases of one algorithm, all ways. Returns how many cases there were.
fn each(
    algorithm: Algorithm,
    mut check: impl FnMut(&mut TestDriver, bool, &Case) -> Result<(), CryptoError>,
) -> usize {
    let mut count = 0;
    for (mut driver, stateless) in ways() {
        for case in cases(algorithm).unwrap() {
            // Long ones make tests slow and show nothing that the shorter ones do not.
            if case.input.len() > 16_384 {
                continue;
            }
            count += 1;
            if let Err(error) = check(&mut driver, stateless, &case) {
                panic!("{} (stateless: {stateless}): {error}", case.name);
            }
        }
    }
    count
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

#[test]
fn ciphers() {
    for (number, name, algorithm) in CIPHERS {
        let count = each(Algorithm::Cipher(*algorithm), |driver, stateless, case| {
            let both = [
                (Direction::Encrypt, &case.input, &case.output),
                (Direction::Decrypt, &case.output, &case.input),
            ];
            for (direction, src, expected) in both {
                let key = CipherKey { algorithm: *number, direction, key: case.key.clone() };
                let operation = Operation::Cipher { direction, iv: &case.iv, src };
                let result = run(driver, stateless, &Parameters::Cipher(key), &operation);
                if case.valid {
                    assert_eq!(&result?, expected, "{}", case.name);
                } else {
                    assert_ne!(result.ok().as_ref(), Some(expected), "{}", case.name);
                }
            }
            Ok(())
        });
        assert!(count > 0, "no vectors of {name}");
    }
}

#[test]
fn hashes() {
    for (number, name, algorithm) in HASHES {
        let count = each(Algorithm::Hash(*algorithm), |driver, stateless, case| {
            let result_len = len32(&case.output);
            let key = HashKey { algorithm: *number, result_len };
            let operation = Operation::Hash { src: &case.input, result_len };
            let result = run(driver, stateless, &Parameters::Hash(key), &operation)?;
            assert_eq!(result, case.output, "{}", case.name);
            Ok(())
        });
        assert!(count > 0, "no vectors of {name}");
    }
}

#[test]
fn macs() {
    for (number, name, algorithm) in MACS {
        let count = each(Algorithm::Mac(*algorithm), |driver, stateless, case| {
            let result_len = len32(&case.tag);
            let key = MacKey { algorithm: *number, result_len, key: case.key.clone() };
            let operation = Operation::Mac { src: &case.input, result_len };
            let result = run(driver, stateless, &Parameters::Mac(key), &operation);
            if case.valid {
                assert_eq!(result?, case.tag, "{}", case.name);
            } else {
                assert_ne!(result.ok().as_ref(), Some(&case.tag), "{}", case.name);
            }
            Ok(())
        });
        assert!(count > 0, "no vectors of {name}");
    }
}

#[test]
fn aeads() {
    for (number, name, algorithm) in AEADS {
        let mut refused = 0;
        let count = each(Algorithm::Aead(*algorithm), |driver, stateless, case| {
            // 16 bytes mean J0 here, and more are not in the specification.
            if *algorithm == aead::Algorithm::AesGcm && case.iv.len() >= 16 {
                return Ok(());
            }
            let sealed = [&case.output[..], &case.tag].concat();
            let both = [
                (Direction::Encrypt, &case.input, &sealed),
                (Direction::Decrypt, &sealed, &case.input),
            ];
            for (direction, src, expected) in both {
                if !case.valid && direction == Direction::Encrypt {
                    continue;
                }
                let key = case.key.clone();
                let (tag_len, aad_len) = (len32(&case.tag), len32(&case.aad));
                let key = AeadKey { algorithm: *number, direction, key, tag_len, aad_len };
                let (iv, aad) = (&case.iv, &case.aad);
                let operation = Operation::Aead { direction, iv, aad, src, tag_len };
                let result = run(driver, stateless, &Parameters::Aead(key), &operation);
                if case.valid {
                    assert_eq!(&result?, expected, "{}", case.name);
                } else {
                    let status = super::status(result);
                    let known = matches!(status, Status::BadMsg | Status::Err);
                    assert!(known, "{}: {status}", case.name);
                    refused += usize::from(status == Status::BadMsg);
                }
            }
            Ok(())
        });
        assert!(count > 0 && refused > 0, "no vectors of {name}");
    }
}

fn rsa(padding: u32, hash: u32, kind: KeyKind, key: &[u8]) -> Parameters {
    Parameters::Akcipher(AkcipherKey {
        scheme: Scheme::Rsa { padding, hash },
        kind,
        key: key.to_vec(),
    })
}

fn hash_of(digest: Digest) -> Option<hash::Algorithm> {
    Some(match digest {
        Digest::Md5 => hash::Algorithm::Md5,
        Digest::Sha1 => hash::Algorithm::Sha1,
        Digest::Sha224 => hash::Algorithm::Sha224,
        Digest::Sha256 => hash::Algorithm::Sha256,
        Digest::Sha384 => hash::Algorithm::Sha384,
        Digest::Sha512 => hash::Algorithm::Sha512,
        _ => return None,
    })
}

#[test]
fn rsa_signatures() {
    let (mut good, mut bad, mut made) = (0, 0, 0);
    for (mut driver, stateless) in ways() {
        for key in rsa_keys().unwrap() {
            for case in &key.signatures {
                let number = RSA_HASHES.iter().find(|(_, _, hash)| *hash == Some(case.hash));
                let Some(algorithm) = hash_of(case.hash) else { continue };
                let number = number.unwrap().0;
                let mut signed = vec![0; algorithm.digest_len()];
                digest(algorithm, &case.message, &mut signed).unwrap();
                let public = rsa(1, number, KeyKind::Public, &key.public_key);
                let operation = Operation::Verify { signature: &case.signature, digest: &signed };
                let result = run(&mut driver, stateless, &public, &operation);
                if case.valid {
                    result.unwrap();
                    good += 1;
                } else {
                    assert_eq!(super::status(result), Status::KeyRejected, "{}", case.name);
                    bad += 1;
                }
                if key.private_key.is_empty() || !case.valid || made > 20 {
                    continue;
                }
                let private = rsa(1, number, KeyKind::Private, &key.private_key);
                let dst_len = len32(&case.signature);
                let operation =
                    Operation::Akcipher { operation: Akcipher::Sign, src: &signed, dst_len };
                let result = run(&mut driver, stateless, &private, &operation);
                assert_eq!(result.unwrap(), case.signature, "{}", case.name);
                made += 1;
            }
        }
    }
    assert!(good > 0 && bad > 0 && made > 0, "{good} good, {bad} bad, {made} made");
}

#[test]
fn rsa_encryption() {
    let (mut good, mut bad) = (0, 0);
    for (mut driver, stateless) in ways() {
        for key in rsa_keys().unwrap() {
            for case in key.encryptions.iter().filter(|_| !key.private_key.is_empty()) {
                let private = rsa(1, akcipher::RSA_SHA1, KeyKind::Private, &key.private_key);
                let (operation, src) = (Akcipher::Decrypt, &case.ciphertext[..]);
                let operation = Operation::Akcipher { operation, src, dst_len: 512 };
                let result = run(&mut driver, stateless, &private, &operation);
                if case.valid {
                    assert_eq!(result.unwrap(), case.message, "{}", case.name);
                    good += 1;
                } else {
                    assert_eq!(super::status(result), Status::Err, "{}", case.name);
                    bad += 1;
                }
            }
        }
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
}

fn encrypt(src: &[u8], dst_len: u32) -> Operation<'_> {
    Operation::Akcipher { operation: Akcipher::Encrypt, src, dst_len }
}

fn decrypt(src: &[u8], dst_len: u32) -> Operation<'_> {
    Operation::Akcipher { operation: Akcipher::Decrypt, src, dst_len }
}

#[test]
fn rsa_comes_back() {
    let key = rsa_keys().unwrap().into_iter().find(|key| !key.private_key.is_empty()).unwrap();
    let mut driver = driver(legacy());
    for padding in [0, 1] {
        let public = rsa(padding, 5, KeyKind::Public, &key.public_key);
        let private = rsa(padding, 5, KeyKind::Private, &key.private_key);
        let sealed = run(&mut driver, false, &public, &encrypt(b"secret", 512)).unwrap();
        // Without padding a number comes back as long as the modulus, zeros in front.
        let again = run(&mut driver, false, &public, &encrypt(b"secret", 512)).unwrap();
        assert_eq!(padding == 0, sealed == again, "padding is what makes them differ");
        let opened = run(&mut driver, false, &private, &decrypt(&sealed, 512)).unwrap();
        assert!(opened.ends_with(b"secret"));
        assert_eq!(opened.len(), if padding == 0 { sealed.len() } else { 6 });
        let short = run(&mut driver, false, &public, &encrypt(b"secret", len32(&sealed) - 1));
        assert_eq!(super::status(short), Status::Err, "no room for the result");
        let public_decrypt = run(&mut driver, false, &public, &decrypt(&sealed, 512));
        assert_eq!(super::status(public_decrypt), Status::Err, "not with a public key");
    }
    let raw = rsa(0, 0, KeyKind::Private, &key.private_key);
    let sign = Operation::Akcipher { operation: Akcipher::Sign, src: b"digest", dst_len: 512 };
    assert_eq!(super::status(run(&mut driver, false, &raw, &sign)), Status::NotSupp);
}

#[test]
fn ecdsa_signatures() {
    let (mut good, mut bad, mut made) = (0, 0, 0);
    for (mut driver, stateless) in ways() {
        for key in ecdsa_keys().unwrap() {
            let curve = CURVES.iter().find(|(_, _, curve)| *curve == key.curve).unwrap().0;
            let scheme = Scheme::Ecdsa { curve };
            let half = |kind, key: &Vec<u8>| {
                Parameters::Akcipher(AkcipherKey { scheme, kind, key: key.clone() })
            };
            let public = half(KeyKind::Public, &key.public_key);
            for case in key.signatures.iter().take(40) {
                let operation =
                    Operation::Verify { signature: &case.signature, digest: &case.digest };
                let result = run(&mut driver, stateless, &public, &operation);
                if case.valid {
                    result.unwrap();
                    good += 1;
                } else if case.signature.is_empty() {
                    assert!(result.is_err());
                } else {
                    assert_eq!(super::status(result), Status::KeyRejected, "{}", case.name);
                    bad += 1;
                }
            }
            let Some(case) = key.signatures.first() else { continue };
            if key.private_key.is_empty() || made > 12 {
                continue;
            }
            let private = half(KeyKind::Private, &key.private_key);
            let src = &case.digest[..];
            let sign = Operation::Akcipher { operation: Akcipher::Sign, src, dst_len: 200 };
            let signature = run(&mut driver, stateless, &private, &sign).unwrap();
            let verify = Operation::Verify { signature: &signature, digest: src };
            run(&mut driver, stateless, &public, &verify).unwrap();
            let seal = Operation::Akcipher { operation: Akcipher::Encrypt, src, dst_len: 200 };
            let result = run(&mut driver, stateless, &public, &seal);
            assert_eq!(super::status(result), Status::NotSupp);
            made += 1;
        }
    }
    assert!(good > 0 && bad > 0 && made > 0, "{good} good, {bad} bad, {made} made");
}
