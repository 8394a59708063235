//! Every algorithm against published vectors, whole and in chunks, in both directions.
#![cfg(test)]

use understudy_engines::cipher::Direction;
use understudy_engines::vectors::{Algorithm, Case, cases, ecdsa_keys, rsa_keys};
use understudy_engines::{Error, aead, cipher, ecdsa, hash, mac, rsa};

#[test]
fn every_algorithm_with_published_vectors_has_some() {
    // SM4-XTS has been published only with the other standard's tweak arithmetic.
    let without: Vec<_> = Algorithm::all()
        .filter(|algorithm| cases(*algorithm).unwrap().next().is_none())
        .map(Algorithm::name)
        .collect();
    assert_eq!(without, ["sm4-xts"]);
}

#[test]
fn ciphers_match() {
    for case in of(|algorithm| matches!(algorithm, Algorithm::Cipher(_))) {
        let Algorithm::Cipher(algorithm) = case.algorithm else { continue };
        let key = cipher::Key::new(algorithm, &case.key).unwrap();
        for (direction, from, to) in [
            (Direction::Encrypt, &case.input, &case.output),
            (Direction::Decrypt, &case.output, &case.input),
        ] {
            let mut data = from.clone();
            key.apply(direction, &case.iv, &mut data).unwrap();
            assert_eq!(&data, to, "{} {direction:?}", case.name);
            assert_eq!(&in_blocks(&key, direction, &case.iv, from), to, "{}", case.name);
        }
    }
}

/// One block at a time.
fn in_blocks(key: &cipher::Key, direction: Direction, iv: &[u8], data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let middle = data.len() - key.algorithm().final_len(data.len());
    let (whole, tail) = data.split_at_mut(middle);
    let mut stream = key.start(direction, iv).unwrap();
    for block in whole.chunks_mut(key.algorithm().block_len()) {
        stream.update(block).unwrap();
    }
    stream.finish(tail).unwrap();
    data
}

#[test]
fn hashes_match() {
    for case in of(|algorithm| matches!(algorithm, Algorithm::Hash(_))) {
        let Algorithm::Hash(algorithm) = case.algorithm else { continue };
        let mut hasher = hash::Hasher::new(algorithm);
        for byte in &case.input {
            hasher.update(&[*byte]);
        }
        let mut out = vec![0; case.output.len()];
        hasher.clone().finish(&mut out).unwrap();
        assert_eq!(out, case.output, "{}", case.name);
        hash::digest(algorithm, &case.input, &mut out).unwrap();
        assert_eq!(out, case.output, "{}", case.name);
        let mut cut = vec![0; out.len() / 2];
        hasher.finish(&mut cut).unwrap();
        assert_eq!(cut, case.output[..cut.len()], "{}", case.name);
    }
}

#[test]
fn macs_match() {
    for case in of(|algorithm| matches!(algorithm, Algorithm::Mac(_))) {
        let Algorithm::Mac(algorithm) = case.algorithm else { continue };
        match (verify(algorithm, &case), case.valid) {
            (Ok(()), true) | (Err(_), false) => {}
            (result, _) => panic!("{}: {result:?}", case.name),
        }
    }
}

fn verify(algorithm: mac::Algorithm, case: &Case) -> Result<(), Error> {
    let key = mac::Key::new(algorithm, &case.key)?;
    for chunk_len in [1, 7, 16, usize::MAX] {
        let mut stream = key.start(&case.iv)?;
        for chunk in case.input.chunks(chunk_len) {
            stream.update(chunk)?;
        }
        stream.verify(&case.tag)?;
    }
    let mut tag = vec![0; case.tag.len()];
    key.mac(&case.iv, &case.input, &mut tag)?;
    assert_eq!(tag, case.tag, "{}", case.name);
    Ok(())
}

#[test]
fn aeads_match() {
    for case in of(|algorithm| matches!(algorithm, Algorithm::Aead(_))) {
        let Algorithm::Aead(algorithm) = case.algorithm else { continue };
        let opened = decrypt(algorithm, &case);
        if !case.valid {
            assert!(opened.is_err(), "{}", case.name);
            continue;
        }
        assert_eq!(opened.as_ref(), Ok(&case.input), "{}", case.name);
        let key = aead::Key::new(algorithm, &case.key).unwrap();
        let nonce = aead::Nonce::Bytes(&case.iv);
        let (mut data, mut tag) = (case.input.clone(), vec![0; case.tag.len()]);
        key.encrypt(nonce, &case.aad, &mut data, &mut tag).unwrap();
        assert_eq!((&data, &tag), (&case.output, &case.tag), "{}", case.name);
    }
}

fn decrypt(algorithm: aead::Algorithm, case: &Case) -> Result<Vec<u8>, Error> {
    let key = aead::Key::new(algorithm, &case.key)?;
    let mut data = case.output.clone();
    let result = key.decrypt(aead::Nonce::Bytes(&case.iv), &case.aad, &mut data, &case.tag);
    if result == Err(Error::TagMismatch) {
        assert!(data.iter().all(|byte| *byte == 0), "{} releases plaintext", case.name);
    }
    result.map(|()| data)
}

#[test]
fn rsa_signatures_match() {
    let mut signed = 0;
    for key in rsa_keys().unwrap() {
        let public = rsa::PublicKey::from_der(&key.public_key).unwrap();
        for case in &key.signatures {
            let mut digest = vec![0; case.hash.digest_len()];
            hash::digest(hash_of(case.hash), &case.message, &mut digest).unwrap();
            let result = public.verify(Some(case.hash), &digest, &case.signature);
            assert_eq!(result.is_ok(), case.valid, "{} {}", key.name, case.name);
            if case.valid && !key.private_key.is_empty() {
                let private = rsa::PrivateKey::from_der(&key.private_key).unwrap();
                let signature = private.sign(Some(case.hash), &digest).unwrap();
                assert_eq!(signature, case.signature, "{} {}", key.name, case.name);
                signed += 1;
            }
        }
    }
    assert_eq!(signed, 25, "the fixtures' signatures are made again");
}

fn hash_of(digest: rsa::Digest) -> hash::Algorithm {
    match digest {
        rsa::Digest::Sha1 => hash::Algorithm::Sha1,
        rsa::Digest::Sha224 => hash::Algorithm::Sha224,
        rsa::Digest::Sha256 => hash::Algorithm::Sha256,
        rsa::Digest::Sha384 => hash::Algorithm::Sha384,
        rsa::Digest::Sha512 => hash::Algorithm::Sha512,
        other => panic!("no vectors use {other:?}"),
    }
}

#[test]
fn rsa_encryptions_match() {
    let mut encrypted = 0;
    for key in rsa_keys().unwrap().into_iter().filter(|key| !key.encryptions.is_empty()) {
        let private = rsa::PrivateKey::from_der(&key.private_key).unwrap();
        for case in &key.encryptions {
            let decrypted = private.decrypt(&case.ciphertext);
            match case.valid {
                true => assert_eq!(decrypted.as_ref(), Ok(&case.message), "{}", case.name),
                false => assert!(decrypted.is_err(), "{} {}", key.name, case.name),
            }
            if !case.padding.is_empty() {
                let mut random = |to: &mut [u8]| to.copy_from_slice(&case.padding);
                let ciphertext = private.public().encrypt(&case.message, &mut random).unwrap();
                assert_eq!(ciphertext, case.ciphertext, "{} {}", key.name, case.name);
                encrypted += 1;
            }
        }
    }
    assert_eq!(encrypted, 8, "the fixtures' encryptions are made again");
}

#[test]
fn ecdsa_signatures_match() {
    let mut signed = 0;
    for key in ecdsa_keys().unwrap() {
        let public = ecdsa::PublicKey::from_sec1(key.curve, &key.public_key).unwrap();
        for case in &key.signatures {
            let result = public.verify(&case.digest, &case.signature);
            assert_eq!(result.is_ok(), case.valid, "{} {}", key.name, case.name);
            if !key.private_key.is_empty() {
                let private = ecdsa::PrivateKey::from_der(key.curve, &key.private_key).unwrap();
                assert_eq!(private.sign(&case.digest).unwrap(), case.signature, "{}", key.name);
                private.public().verify(&case.digest, &case.signature).unwrap();
                signed += 1;
            }
        }
    }
    assert_eq!(signed, 6, "the fixtures' signatures are made again");
}

/// The cases of one engine.
fn of(engine: fn(&Algorithm) -> bool) -> impl Iterator<Item = Case> {
    Algorithm::all().filter(engine).flat_map(|algorithm| cases(algorithm).unwrap())
}
