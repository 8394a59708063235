//! Properties that hold for any input, and agreement with other implementations.
#![cfg(test)]

use cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, StreamCipher, array::Array};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use understudy_engines::aead::Nonce;
use understudy_engines::cipher::{Algorithm, Direction, Key};
use understudy_engines::{Error, aead, hash, mac};

/// A valid key, IV and request for any cipher.
fn request() -> impl Strategy<Value = (Key, Vec<u8>, Vec<u8>)> {
    (
        select(Algorithm::ALL.to_vec()),
        vec(any::<u8>(), 64),
        vec(any::<u8>(), 16),
        any::<Index>(),
        vec(any::<u8>(), 0..3000),
    )
        .prop_map(|(algorithm, key, iv, choice, mut data)| {
            let lens: Vec<_> = (0..=64).filter(|len| algorithm.accepts_key_len(*len)).collect();
            while !algorithm.accepts_len(data.len()) {
                data.push(0);
            }
            let key = Key::new(algorithm, &key[..*choice.get(&lens)]).unwrap();
            (key, iv[..algorithm.iv_len()].to_vec(), data)
        })
}

/// Runs a request in chunks whose sizes `sizes` decides, of as many bytes as `update` takes.
fn in_chunks(key: &Key, direction: Direction, iv: &[u8], data: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut data = data.to_vec();
    let block_len = key.algorithm().block_len();
    let middle = data.len() - key.algorithm().final_len(data.len());
    let (mut whole, tail) = data.split_at_mut(middle);
    let mut stream = key.start(direction, iv).unwrap();
    for blocks in sizes {
        let (chunk, rest) = whole.split_at_mut(whole.len().min(blocks * block_len));
        stream.update(chunk).unwrap();
        whole = rest;
    }
    stream.update(whole).unwrap();
    stream.finish(tail).unwrap();
    data
}

proptest! {
    #[test]
    fn decryption_undoes_encryption((key, iv, data) in request()) {
        let mut changed = data.clone();
        key.apply(Direction::Encrypt, &iv, &mut changed).unwrap();
        key.apply(Direction::Decrypt, &iv, &mut changed).unwrap();
        prop_assert_eq!(changed, data);
    }

    #[test]
    fn chunks_make_no_difference((key, iv, data) in request(), sizes in vec(0..20_usize, 0..20)) {
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            let mut whole = data.clone();
            key.apply(direction, &iv, &mut whole).unwrap();
            prop_assert_eq!(in_chunks(&key, direction, &iv, &data, &sizes), whole);
        }
    }

    /// A request may continue another one from the IV that it left.
    #[test]
    fn a_chained_iv_continues((key, iv, data) in request(), at in any::<Index>()) {
        let algorithm = key.algorithm();
        let chains = key.start(Direction::Encrypt, &iv).unwrap().iv().len() == algorithm.iv_len();
        prop_assume!(chains && algorithm != Algorithm::Arc4 && data.len() >= algorithm.block_len());
        let at = at.index(data.len() / algorithm.block_len() + 1) * algorithm.block_len();
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            let (mut whole, mut parts) = (data.clone(), data.clone());
            let last = key.apply(direction, &iv, &mut whole).unwrap();
            let (first, second) = parts.split_at_mut(at);
            let middle = key.apply(direction, &iv, first).unwrap();
            prop_assert_eq!(key.apply(direction, &middle, second).unwrap(), last);
            prop_assert_eq!(&parts, &whole);
        }
    }

    /// Whatever lengths come, the answer is a result, and what fails changes nothing.
    #[test]
    fn any_lengths_are_answered(
        algorithm in select(Algorithm::ALL.to_vec()),
        key in vec(any::<u8>(), 0..300),
        iv in vec(any::<u8>(), 0..40),
        data in vec(any::<u8>(), 0..100),
    ) {
        let made = Key::new(algorithm, &key);
        prop_assert_eq!(made.is_ok(), algorithm.accepts_key_len(key.len()));
        let Ok(key) = made else { return Ok(()) };
        let mut changed = data.clone();
        let done = key.apply(Direction::Encrypt, &iv, &mut changed);
        if iv.len() != algorithm.iv_len() {
            prop_assert_eq!(done, Err(Error::InvalidIvLength(iv.len())));
        } else if !algorithm.accepts_len(data.len()) {
            prop_assert_eq!(done, Err(Error::InvalidLength(data.len())));
        } else {
            prop_assert!(done.is_ok());
            return Ok(());
        }
        prop_assert_eq!(changed, data);
    }

    #[test]
    fn aes_cbc_agrees_with_rustcrypto(
        key in vec(any::<u8>(), 32), iv in any::<[u8; 16]>(), mut data in vec(any::<u8>(), 0..1000),
    ) {
        data.resize(data.len() / 16 * 16, 0);
        let blocks = |data: &mut Vec<u8>| Array::slice_as_chunks_mut(data.as_mut_slice()).0.to_vec();
        macro_rules! agree { ($cipher:ty, $len:literal) => {
            let ours = Key::new(Algorithm::AesCbc, &key[..$len]).unwrap();
            let mut changed = data.clone();
            ours.apply(Direction::Encrypt, &iv, &mut changed).unwrap();
            let mut theirs = blocks(&mut data.clone());
            cbc::Encryptor::<$cipher>::new_from_slices(&key[..$len], &iv).unwrap().encrypt_blocks(&mut theirs);
            prop_assert_eq!(Array::slice_as_flattened(&theirs), &changed[..]);
            let mut changed = data.clone();
            ours.apply(Direction::Decrypt, &iv, &mut changed).unwrap();
            let mut theirs = blocks(&mut data.clone());
            cbc::Decryptor::<$cipher>::new_from_slices(&key[..$len], &iv).unwrap().decrypt_blocks(&mut theirs);
            prop_assert_eq!(Array::slice_as_flattened(&theirs), &changed[..]);
        }; }
        agree!(aes::Aes128, 16);
        agree!(aes::Aes192, 24);
        agree!(aes::Aes256, 32);
    }

    /// Also where parts of the counter overflow.
    #[test]
    fn aes_ctr_agrees_with_rustcrypto(
        key in any::<[u8; 16]>(),
        counter in prop_oneof![any::<u128>(), (0..70_u128, 0..3_u32).prop_map(|(below, word)| {
            (u128::MAX >> (32 * word)) - below
        })],
        data in vec(any::<u8>(), 0..2000),
    ) {
        let iv = counter.to_be_bytes();
        let (mut ours, mut theirs) = (data.clone(), data);
        Key::new(Algorithm::AesCtr, &key).unwrap().apply(Direction::Encrypt, &iv, &mut ours).unwrap();
        ctr::Ctr128BE::<aes::Aes128>::new(&key.into(), &iv.into()).apply_keystream(&mut theirs);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn xts_agrees_with_xts_mode(key in any::<[u8; 32]>(), tweak in any::<[u8; 16]>(), data in vec(any::<u8>(), 16..3000)) {
        macro_rules! agree { ($algorithm:expr, $cipher:ty) => {{
            use cipher::KeyInit;
            let ours = Key::new($algorithm, &key).unwrap();
            let cipher = |key: &[u8]| <$cipher>::new_from_slice(key).unwrap();
            let theirs = xts_mode::Xts128::new(cipher(&key[..16]), cipher(&key[16..]));
            let (mut a, mut b) = (data.clone(), data.clone());
            ours.apply(Direction::Encrypt, &tweak, &mut a).unwrap();
            theirs.encrypt_sector(&mut b, tweak.into());
            prop_assert_eq!(&a, &b);
            let (mut a, mut b) = (data.clone(), data.clone());
            ours.apply(Direction::Decrypt, &tweak, &mut a).unwrap();
            theirs.decrypt_sector(&mut b, tweak.into());
            prop_assert_eq!(&a, &b);
        }}; }
        agree!(Algorithm::AesXts, aes::Aes128);
        agree!(Algorithm::Sm4Xts, sm4::Sm4);
    }

    #[test]
    fn digests_agree_with_aws_lc(data in vec(any::<u8>(), 0..1000), at in any::<Index>()) {
        use aws_lc_rs::digest as aws;
        for (algorithm, theirs) in [
            (hash::Algorithm::Sha1, &aws::SHA1_FOR_LEGACY_USE_ONLY),
            (hash::Algorithm::Sha224, &aws::SHA224),
            (hash::Algorithm::Sha256, &aws::SHA256),
            (hash::Algorithm::Sha384, &aws::SHA384),
            (hash::Algorithm::Sha512, &aws::SHA512),
            (hash::Algorithm::Sha3_256, &aws::SHA3_256),
            (hash::Algorithm::Sha3_384, &aws::SHA3_384),
            (hash::Algorithm::Sha3_512, &aws::SHA3_512),
        ] {
            let mut hasher = hash::Hasher::new(algorithm);
            let (first, second) = data.split_at(at.index(data.len() + 1));
            hasher.update(first);
            hasher.update(second);
            let mut ours = vec![0; algorithm.digest_len()];
            hasher.finish(&mut ours).unwrap();
            let theirs = aws::digest(theirs, &data);
            prop_assert_eq!(&ours[..], theirs.as_ref());
        }
    }

    #[test]
    fn hmac_agrees_with_aws_lc(key in vec(any::<u8>(), 0..300), data in vec(any::<u8>(), 0..300)) {
        use aws_lc_rs::hmac as aws;
        for (algorithm, theirs) in [
            (hash::Algorithm::Sha1, aws::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            (hash::Algorithm::Sha224, aws::HMAC_SHA224),
            (hash::Algorithm::Sha256, aws::HMAC_SHA256),
            (hash::Algorithm::Sha384, aws::HMAC_SHA384),
            (hash::Algorithm::Sha512, aws::HMAC_SHA512),
        ] {
            let mut ours = vec![0; algorithm.digest_len()];
            let prepared = mac::Key::new(mac::Algorithm::Hmac(algorithm), &key).unwrap();
            prepared.mac(&[], &data, &mut ours).unwrap();
            let theirs = aws::sign(&aws::Key::new(theirs, &key), &data);
            prop_assert_eq!(&ours[..], theirs.as_ref());
        }
    }

    #[test]
    fn cmac_agrees_with_the_cmac_crate(key in any::<[u8; 24]>(), data in vec(any::<u8>(), 0..1500), sizes in vec(1..600_usize, 0..5)) {
        use cmac::{KeyInit, Mac};
        macro_rules! agree { ($algorithm:expr, $cipher:ty, $len:literal) => {
            let prepared = mac::Key::new($algorithm, &key[..$len]).unwrap();
            let mut stream = prepared.start(&[]).unwrap();
            let mut rest = &data[..];
            for size in &sizes {
                let (chunk, after) = rest.split_at(rest.len().min(*size));
                stream.update(chunk).unwrap();
                rest = after;
            }
            stream.update(rest).unwrap();
            let mut theirs = cmac::Cmac::<$cipher>::new_from_slice(&key[..$len]).unwrap();
            theirs.update(&data);
            stream.verify(&theirs.finalize().into_bytes()).unwrap();
        }; }
        agree!(mac::Algorithm::CmacAes, aes::Aes128, 16);
        agree!(mac::Algorithm::CmacAes, aes::Aes192, 24);
        agree!(mac::Algorithm::CmacTdes, des::TdesEde3, 24);
    }

    /// The fast path and the one for odd lengths are the same algorithm: a full tag made by the
    /// first is accepted cut short, which takes the second.
    #[test]
    fn both_ways_through_gcm_agree(
        key in any::<[u8; 32]>(), iv in any::<[u8; 12]>(), aad in vec(any::<u8>(), 0..100), data in vec(any::<u8>(), 0..500),
    ) {
        for key_len in [16, 24, 32] {
            let key = aead::Key::new(aead::Algorithm::AesGcm, &key[..key_len]).unwrap();
            let (mut sealed, mut tag) = (data.clone(), [0; 16]);
            key.encrypt(Nonce::Bytes(&iv), &aad, &mut sealed, &mut tag).unwrap();
            for tag_len in [4, 8, 12, 13, 14, 15, 16] {
                let mut opened = sealed.clone();
                key.decrypt(Nonce::Bytes(&iv), &aad, &mut opened, &tag[..tag_len]).unwrap();
                prop_assert_eq!(&opened, &data);
            }
            let j0 = [&iv[..], &[0, 0, 0, 1]].concat().try_into().unwrap();
            key.decrypt(Nonce::J0(&j0), &aad, &mut sealed, &tag).unwrap();
            prop_assert_eq!(&sealed, &data);
        }
    }

    #[test]
    fn ccm_agrees_with_the_ccm_crate(
        key in any::<[u8; 16]>(), nonce in any::<[u8; 13]>(), aad in vec(any::<u8>(), 0..100), data in vec(any::<u8>(), 0..500),
    ) {
        use ccm::{KeyInit, aead::AeadInOut, consts::{U4, U7, U12, U13, U16}};
        macro_rules! agree { ($tag:ty, $nonce:ty, $tag_len:literal, $nonce_len:literal) => {
            let ours = aead::Key::new(aead::Algorithm::AesCcm, &key).unwrap();
            let (mut a, mut b, mut tag) = (data.clone(), data.clone(), [0; $tag_len]);
            ours.encrypt(Nonce::Bytes(&nonce[..$nonce_len]), &aad, &mut a, &mut tag).unwrap();
            let theirs = ccm::Ccm::<aes::Aes128, $tag, $nonce>::new(&key.into());
            let nonce = nonce[..$nonce_len].try_into().unwrap();
            let their_tag = theirs.encrypt_inout_detached(&nonce, &aad, b.as_mut_slice().into()).unwrap();
            prop_assert_eq!((&a, &tag[..]), (&b, &their_tag[..]));
        }; }
        agree!(U16, U13, 16, 13);
        agree!(U4, U7, 4, 7);
        agree!(U16, U12, 16, 12);
    }

    #[test]
    fn chacha20_poly1305_agrees_with_rustcrypto(
        key in any::<[u8; 32]>(), nonce in any::<[u8; 12]>(), aad in vec(any::<u8>(), 0..100), data in vec(any::<u8>(), 0..500),
    ) {
        use chacha20poly1305::{KeyInit, aead::AeadInOut};
        let ours = aead::Key::new(aead::Algorithm::ChaCha20Poly1305, &key).unwrap();
        let (mut a, mut b, mut tag) = (data.clone(), data, [0; 16]);
        ours.encrypt(Nonce::Bytes(&nonce), &aad, &mut a, &mut tag).unwrap();
        let theirs = chacha20poly1305::ChaCha20Poly1305::new(&key.into());
        let their_tag = theirs.encrypt_inout_detached(&nonce.into(), &aad, b.as_mut_slice().into()).unwrap();
        prop_assert_eq!((&a, &tag[..]), (&b, &their_tag[..]));
    }

    #[test]
    fn a_changed_message_is_not_opened(
        algorithm in select(aead::Algorithm::ALL.to_vec()),
        key in any::<[u8; 32]>(), nonce in any::<[u8; 12]>(), aad in vec(any::<u8>(), 1..50), data in vec(any::<u8>(), 1..200),
        part in 0..3_usize, at in any::<Index>(), flip in 1..=255_u8,
    ) {
        let key = aead::Key::new(algorithm, &key).unwrap();
        let (mut data, mut aad, mut tag) = (data, aad, [0; 16]);
        key.encrypt(Nonce::Bytes(&nonce), &aad, &mut data, &mut tag).unwrap();
        let changed = [&mut data[..], &mut aad[..], &mut tag[..]].into_iter().nth(part).unwrap();
        changed[at.index(changed.len())] ^= flip;
        let result = key.decrypt(Nonce::Bytes(&nonce), &aad, &mut data, &tag);
        prop_assert_eq!(result, Err(Error::TagMismatch));
        prop_assert!(data.iter().all(|byte| *byte == 0));
    }
}
