//! Corners that vectors do not reach: loaded states, counters that overflow, hostile keys.
#![cfg(test)]

use proptest::collection::vec;
use proptest::prelude::*;
use understudy_engines::aead::Nonce;
use understudy_engines::cipher::{Algorithm, Direction, Key};
use understudy_engines::ecdsa::{self, Curve};
use understudy_engines::vectors::rsa_keys;
use understudy_engines::{Error, aead, hash, mac, rsa};

/// Jobs carry keys to other threads.
#[test]
fn keys_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Key>();
    shared::<mac::Key>();
    shared::<aead::Key>();
    shared::<rsa::PrivateKey>();
    shared::<ecdsa::PrivateKey>();
}

/// GCM counts in 32 bits, CTR in 128 (SP 800-38D §6.2): past the overflow the two part.
#[test]
fn gcm_counts_in_32_bits() {
    let secret = [7; 16];
    let mut j0 = [0x42; 16];
    j0[12..].copy_from_slice(&(u32::MAX - 1).to_be_bytes());
    let mut counters = Vec::new();
    for count in [u32::MAX, 0, 1, 2] {
        counters.extend_from_slice(&[0x42; 12]);
        counters.extend_from_slice(&count.to_be_bytes());
    }
    let ecb = Key::new(Algorithm::AesEcb, &secret).unwrap();
    ecb.apply(Direction::Encrypt, &[], &mut counters).unwrap();

    let gcm = aead::Key::new(aead::Algorithm::AesGcm, &secret).unwrap();
    let (mut keystream, mut tag) = ([0; 64], [0; 16]);
    gcm.encrypt(Nonce::J0(&j0), b"aad", &mut keystream, &mut tag).unwrap();
    assert_eq!(keystream, counters[..]);
    gcm.decrypt(Nonce::J0(&j0), b"aad", &mut keystream, &tag).unwrap();
    assert_eq!(keystream, [0; 64]);
}

#[test]
fn aead_lengths_are_checked() {
    let key = aead::Key::new(aead::Algorithm::AesCcm, &[0; 16]).unwrap();
    let (mut data, mut tag) = (vec![1; 1 << 16], [0; 16]);
    let encrypt = |nonce: &[u8], data: &mut [u8], tag: &mut [u8]| {
        key.encrypt(Nonce::Bytes(nonce), &[], data, tag)
    };
    // Two bytes hold the length next to a nonce of 13.
    assert_eq!(encrypt(&[0; 13], &mut data, &mut tag), Err(Error::InvalidLength(1 << 16)));
    assert_eq!(encrypt(&[0; 13], &mut data[1..], &mut tag), Ok(()));
    assert_eq!(encrypt(&[0; 12], &mut data, &mut tag), Ok(()));
    assert_eq!(encrypt(&[0; 6], &mut data, &mut tag), Err(Error::InvalidIvLength(6)));
    assert_eq!(encrypt(&[0; 14], &mut data, &mut tag), Err(Error::InvalidIvLength(14)));
    assert_eq!(encrypt(&[0; 13], &mut [], &mut tag[..5]), Err(Error::InvalidOutputLength(5)));
    let j0 = key.encrypt(Nonce::J0(&[0; 16]), &[], &mut [], &mut tag);
    assert_eq!(j0, Err(Error::Unsupported));

    let gcm = aead::Key::new(aead::Algorithm::AesGcm, &[0; 16]).unwrap();
    for len in [0, 3, 5, 7, 9, 11, 17] {
        let result = gcm.encrypt(Nonce::Bytes(&[0; 12]), &[], &mut [], &mut vec![0; len]);
        assert_eq!(result, Err(Error::InvalidOutputLength(len)));
    }
    let empty = gcm.encrypt(Nonce::Bytes(&[]), &[], &mut [], &mut tag);
    assert_eq!(empty, Err(Error::InvalidIvLength(0)));
}

#[test]
fn a_loaded_state_continues() {
    for (algorithm, state) in STATES {
        let state = hex::decode(state).unwrap();
        let block = vec![0x36; algorithm.block_len()];
        let mut resumed = hash::Hasher::resume(*algorithm, &state, 1).unwrap();
        resumed.update(b"what follows");
        let mut found = vec![0; algorithm.digest_len()];
        resumed.finish(&mut found).unwrap();
        let mut expected = vec![0; algorithm.digest_len()];
        hash::digest(*algorithm, &[&block[..], b"what follows"].concat(), &mut expected).unwrap();
        assert_eq!(found, expected, "{algorithm:?}");
        let short = hash::Hasher::resume(*algorithm, &state[1..], 1);
        assert_eq!(short.err(), Some(Error::InvalidLength(state.len() - 1)));
    }
    assert!(hash::Hasher::resume(hash::Algorithm::Sha3_256, &[0; 32], 0).is_err());
}

/// Chaining values after one block of 0x36, computed apart from this repository by the pseudocode
/// of the standards.
const STATES: &[(hash::Algorithm, &str)] = &[
    (hash::Algorithm::Md5, "1d20dee13f480bb598f7d8575b23e61b"),
    (hash::Algorithm::Sha1, "c9f7bd57621bd73bea0fead141a5a1324e4f361d"),
    (hash::Algorithm::Sha224, "b52ea0ab4c94b244f79822b5186b471680a9696e19a7468f397910532744ffd8"),
    (hash::Algorithm::Sha256, "f454dead9725214f90daf2a0df1228ea64e5750fa3924181824a932bf8e04e32"),
    (
        hash::Algorithm::Sha384,
        concat!(
            "53f869327560c3a2c237b05164a5bbe8e581f7394cfa66b8846fa61922faad62",
            "dd0b37ce462cff5e7ee8a4bdc87567f339bda99c75a047f7c7bd628bd3f9a734"
        ),
    ),
    (
        hash::Algorithm::Sha512,
        concat!(
            "1aa8caac196aa9cf157bc66ffacbb1132f5813b01a6d99fb6b15a0122ed28282",
            "b31bdcd996d81fa6151961af57cb87c1db05ba3a642721c93aa11644c5429812"
        ),
    ),
    (hash::Algorithm::Sm3, "8c854854f66e47eb0538ea9e5958a85f4d789aefe8cbb135b18826caf696d872"),
];

#[test]
fn hmac_from_loaded_states_is_hmac() {
    // The empty key's padded blocks are 0x36 and 0x5c throughout.
    let padded = |byte| {
        let mut hasher = hash::Hasher::new(hash::Algorithm::Sha256);
        hasher.update(&[byte; 64]);
        hasher
    };
    let loaded = mac::Key::hmac_from_states(padded(0x36), padded(0x5c)).unwrap();
    let derived = mac::Key::new(mac::Algorithm::Hmac(hash::Algorithm::Sha256), &[]).unwrap();
    let (mut a, mut b) = ([0; 32], [0; 32]);
    loaded.mac(&[], b"message", &mut a).unwrap();
    derived.mac(&[], b"message", &mut b).unwrap();
    assert_eq!(a, b);
    let mixed = mac::Key::hmac_from_states(padded(0x36), hash::Hasher::new(hash::Algorithm::Sha1));
    assert_eq!(mixed.err(), Some(Error::Unsupported));
    let shake = mac::Algorithm::Hmac(hash::Algorithm::Shake128);
    assert_eq!(mac::Key::new(shake, &[]).err(), Some(Error::Unsupported));
}

#[test]
fn output_lengths_are_checked() {
    let key = mac::Key::new(mac::Algorithm::CmacTdes, &[1; 24]).unwrap();
    for len in [0, 9] {
        let result = key.mac(&[], &[], &mut vec![0; len]);
        assert_eq!(result, Err(Error::InvalidOutputLength(len)));
        let stream = key.start(&[]).unwrap();
        assert_eq!(stream.verify(&vec![0; len]), Err(Error::InvalidOutputLength(len)));
    }
    for algorithm in hash::Algorithm::ALL {
        let too_long = hash::digest(*algorithm, &[], &mut [0; 65]);
        assert_eq!(too_long.is_ok(), algorithm.is_xof(), "{algorithm:?}");
        assert!(hash::digest(*algorithm, &[], &mut []).is_err());
    }
}

#[test]
fn raw_rsa_pads_and_checks_the_range() {
    let key = rsa_keys().unwrap().into_iter().find(|key| !key.private_key.is_empty()).unwrap();
    let private = rsa::PrivateKey::from_der(&key.private_key).unwrap();
    let len = private.public().modulus_len();
    let mut two = vec![0; len];
    two[len - 1] = 2;
    let sealed = private.public().raw(&[2]).unwrap();
    assert_eq!(sealed, private.public().raw(&two).unwrap());
    assert_eq!(sealed, private.public().raw(&[&[0, 0], &two[..]].concat()).unwrap());
    assert_eq!(private.raw(&sealed).unwrap(), two);
    assert_eq!(private.public().raw(&[]).unwrap(), vec![0; len]);
    assert_eq!(private.raw(&vec![0xff; len]), Err(Error::OutOfRange));
    assert_eq!(private.raw(&vec![1; len + 1]), Err(Error::OutOfRange));
    let mut random = |padding: &mut [u8]| padding.fill(0);
    let sealed = private.public().encrypt(b"zeros are no padding", &mut random).unwrap();
    assert_eq!(private.decrypt(&sealed).unwrap(), b"zeros are no padding");
    let long = private.public().encrypt(&vec![0; len - 10], &mut random);
    assert_eq!(long, Err(Error::InvalidLength(len - 10)));
    assert_eq!(private.sign(Some(rsa::Digest::Sha1), &[0; 19]), Err(Error::InvalidLength(19)));
}

/// A DER sequence of integers, bytes as given.
fn der(integers: &[&[u8]]) -> Vec<u8> {
    let element = |tag: u8, content: &[u8]| {
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &len[..], content].concat()
    };
    element(0x30, &integers.iter().flat_map(|integer| element(2, integer)).collect::<Vec<_>>())
}

/// As one key of Linux's self-tests has it.
#[test]
fn a_modulus_may_lack_its_sign() {
    let [n, e] = [&[0xdb; 64][..], &[1, 0, 1]];
    let with = rsa::PublicKey::from_der(&der(&[&[&[0], n].concat(), e])).unwrap();
    let without = rsa::PublicKey::from_der(&der(&[n, e])).unwrap();
    assert_eq!(with.modulus_len(), 64);
    assert_eq!(without.modulus_len(), 64);
    assert_eq!(with.raw(&[3]), without.raw(&[3]));
}

#[test]
fn bad_rsa_keys_are_refused() {
    let n = [0xdb; 64];
    for (what, bad) in [
        ("even modulus", der(&[&[0x10; 64], &[3]])),
        ("modulus of one", der(&[&[1], &[1]])),
        ("zero modulus", der(&[&[0], &[1]])),
        ("empty integer", der(&[&n, &[]])),
        ("long exponent", der(&[&n, &[1; 65]])),
        ("long modulus", der(&[&[0xdb; 513], &[3]])),
        ("one integer", der(&[&n])),
        ("trailing byte", [der(&[&n, &[3]]), vec![0]].concat()),
        ("nothing", vec![]),
        ("indefinite length", vec![0x30, 0x80, 0, 0]),
        ("length of five bytes", vec![0x30, 0x85, 0, 0, 0, 0, 0]),
        ("longer than its input", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 2]),
    ] {
        assert_eq!(rsa::PublicKey::from_der(&bad).err(), Some(Error::InvalidKey), "{what}");
        assert_eq!(rsa::PrivateKey::from_der(&bad).err(), Some(Error::InvalidKey), "{what}");
    }
}

/// A key of nonsense gives nonsense, in bounded time.
#[test]
fn odd_but_wrong_rsa_keys_work_somehow() {
    let n = 3233_u16.to_be_bytes(); // 53 * 61
    for [p, q, dp, dq, inverse] in [
        [53, 61, 0, 0, 0],
        [53, 61, 53, 49, 0],
        [61, 53, 255, 255, 255],
        [1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0],
        [2, 4, 6, 8, 10],
    ] {
        let key = der(&[&[0], &n, &[17], &[0], &[p], &[q], &[dp], &[dq], &[inverse]]);
        let key = rsa::PrivateKey::from_der(&key).unwrap();
        assert_eq!(key.raw(&[5]).unwrap().len(), 2);
    }
    let key = der(&[&[0], &n, &[17], &2753_u16.to_be_bytes(), &[61], &[53], &[53], &[49], &[38]]);
    let key = rsa::PrivateKey::from_der(&key).unwrap();
    for message in 0..=255 {
        let sealed = key.public().raw(&[message]).unwrap();
        assert_eq!(key.raw(&sealed).unwrap(), [0, message]);
    }
    assert_eq!(key.sign(None, &[]), Err(Error::InvalidLength(0)), "no room for padding");
}

#[test]
fn bad_ecdsa_keys_are_refused() {
    let private = |version: u8, secret: &[u8]| {
        let len = u8::try_from(secret.len()).unwrap();
        let content = [&[2, 1, version, 4, len], secret].concat();
        [&[0x30, len + 5], &content[..]].concat()
    };
    for curve in Curve::ALL {
        let key = ecdsa::PrivateKey::from_der(curve, &private(1, &[0, 0, 5])).unwrap();
        for len in [0, 65] {
            assert_eq!(key.sign(&vec![1; len]), Err(Error::InvalidLength(len)));
            assert_eq!(key.public().verify(&vec![1; len], &[]), Err(Error::InvalidLength(len)));
        }
        for len in [1, 20, 64] {
            let digest = vec![0xa5; len];
            let signature = key.sign(&digest).unwrap();
            assert_eq!(key.public().verify(&digest, &signature), Ok(()));
            let other = key.public().verify(b"another", &signature);
            assert_eq!(other, Err(Error::SignatureMismatch));
        }
        for bad in [private(0, &[5]), private(1, &[0]), private(1, &[0xff; 67]), vec![]] {
            let refused = ecdsa::PrivateKey::from_der(curve, &bad);
            assert_eq!(refused.err(), Some(Error::InvalidKey));
        }
        for bad in [&[][..], &[0], &[4; 65], &[5; 33], &[4; 97], &[4; 133]] {
            let refused = ecdsa::PublicKey::from_sec1(curve, bad);
            assert_eq!(refused.err(), Some(Error::InvalidKey), "{curve:?} {bad:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_der_is_answered(bytes in vec(any::<u8>(), 0..200)) {
        let _ = rsa::PublicKey::from_der(&bytes);
        let _ = rsa::PrivateKey::from_der(&bytes);
        for curve in Curve::ALL {
            let _ = ecdsa::PrivateKey::from_der(curve, &bytes);
            let _ = ecdsa::PublicKey::from_sec1(curve, &bytes);
        }
    }

    #[test]
    fn any_small_key_is_answered(numbers in vec(vec(any::<u8>(), 1..12), 9), input in vec(any::<u8>(), 0..12)) {
        let numbers: Vec<_> = numbers.iter().map(Vec::as_slice).collect();
        if let Ok(key) = rsa::PrivateKey::from_der(&der(&numbers)) {
            if let Ok(output) = key.raw(&input) {
                prop_assert_eq!(output.len(), key.public().modulus_len());
            }
            let _ = key.decrypt(&input);
            let _ = key.sign(None, &input);
            let _ = key.public().verify(None, &input, &input);
        }
    }
}
