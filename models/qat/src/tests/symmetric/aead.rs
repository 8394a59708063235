//! GCM, GMAC and CCM with published vectors.

use understudy_client::qat::message::{cipher, command, flag, hash, mode};
use understudy_client::qat::{Content, SymmetricCall, status};
use understudy_engines::vectors::{Algorithm, Case, cases};
use understudy_engines::{aead, mac};

use super::{CASES, PIECES, byte, driver, len, pattern, run, valid_cases};

fn gcm_call<'a>(
    decrypt: bool,
    iv: &'a [u8],
    aad: &'a [u8],
    source: &'a [u8],
    tag: &'a [u8],
) -> SymmetricCall<'a> {
    let (command, digest) = match decrypt {
        true => (command::HASH_CIPHER, flag::COMPARE_DIGEST),
        false => (command::CIPHER_HASH, flag::RETURN_DIGEST),
    };
    let short = if iv.len() == 12 { flag::IV_12_BYTES } else { 0 };
    let all = (0, len(source));
    SymmetricCall {
        command,
        flags: flag::GCM | digest | short,
        iv,
        source,
        destination: None,
        cipher: all,
        auth: all,
        aad,
        digest: tag,
        ..SymmetricCall::default()
    }
}

#[test]
fn published_gcm() {
    let mut driver = driver();
    let all = cases(Algorithm::Aead(aead::Algorithm::AesGcm)).unwrap();
    let usable = all.filter(|case| case.iv.len() == 12 && case.aad.len() <= 240).take(2 * CASES);
    let (mut valid, mut invalid) = (0, 0);
    for (case, piece) in usable.zip(PIECES.iter().cycle()) {
        driver.set_piece(*piece);
        let (content, aad) = Content::gcm(&case.key, &case.aad, case.tag.len());
        let decryption = gcm_call(true, &case.iv, &aad, &case.output, &case.tag);
        let result = run(&mut driver, &content, &decryption);
        if !case.valid {
            assert_eq!(result.response.status(), status::CRYPTO, "{}", case.name);
            assert_eq!(result.data, case.output, "{}", case.name);
            invalid += 1;
            continue;
        }
        assert_eq!(result.response.status(), 0, "{}", case.name);
        assert_eq!(result.data, case.input, "{}", case.name);
        let room = vec![0; case.tag.len()];
        let encryption = gcm_call(false, &case.iv, &aad, &case.input, &room);
        let result = run(&mut driver, &content, &encryption);
        assert_eq!((result.data, result.digest), (case.output, case.tag), "{}", case.name);
        valid += 1;
    }
    assert!(valid > 50 && invalid > 0, "{valid} {invalid}");
}

#[test]
fn gcm_takes_a_ready_made_counter_block() {
    let mut driver = driver();
    let (key, data) = (pattern(32, 1), pattern(100, 2));
    let (content, aad) = Content::gcm(&key, b"associated", 16);
    let iv = pattern(12, 3);
    let first = [iv.as_slice(), &[0, 0, 0, 1]].concat();
    let short = run(&mut driver, &content, &gcm_call(false, &iv, &aad, &data, &[0; 16]));
    let long = run(&mut driver, &content, &gcm_call(false, &first, &aad, &data, &[0; 16]));
    assert_eq!(short.response.status(), 0);
    assert_eq!((short.data, short.digest), (long.data, long.digest));
}

#[test]
fn published_gmac() {
    let mut driver = driver();
    let mut count = 0;
    let all = valid_cases(Algorithm::Mac(mac::Algorithm::GmacAes));
    for case in all.iter().filter(|case| case.iv.len() == 12) {
        let (content, _) = Content::gcm(&case.key, &[], case.tag.len());
        let room = vec![0; case.tag.len()];
        let call = gcm_call(false, &case.iv, &[], &case.input, &room);
        let result = run(&mut driver, &content, &SymmetricCall { cipher: (0, 0), ..call });
        assert_eq!((result.response.status(), &result.digest), (0, &case.tag), "{}", case.name);
        assert_eq!(result.data, case.input);
        count += 1;
    }
    assert!(count > 0);
}

/// First counter block, B0 with the padded associated data, and the content, as DPDK makes them.
fn ccm_content(case: &Case) -> ([u8; 16], Vec<u8>, Content) {
    let mut iv = [0; 16];
    iv[0] = 14 - byte(case.iv.len());
    iv[1..=case.iv.len()].copy_from_slice(&case.iv);
    let mut blocks = iv;
    blocks[0] |= (((byte(case.tag.len()) - 2) / 2) << 3) | u8::from(!case.aad.is_empty()) << 6;
    let message = u128::try_from(case.input.len()).unwrap();
    blocks = (u128::from_be_bytes(blocks) | message).to_be_bytes();
    let mut blocks = blocks.to_vec();
    if !case.aad.is_empty() {
        blocks.extend(u16::try_from(case.aad.len()).unwrap().to_be_bytes());
        blocks.extend(&case.aad);
        blocks.resize(blocks.len().next_multiple_of(16), 0);
    }
    let content = Content::default().cipher(cipher::AES_128, mode::CTR, false, &case.key).auth(
        hash::AES_CBC_MAC,
        1,
        0,
        [&[0; 16], &case.key],
        byte(case.tag.len()),
    );
    (iv, blocks, content)
}

#[test]
fn published_ccm() {
    let mut driver = driver();
    let all = cases(Algorithm::Aead(aead::Algorithm::AesCcm)).unwrap();
    let fits = |case: &Case| {
        case.key.len() == 16
            && (7..=13).contains(&case.iv.len())
            && case.aad.len() <= 200
            && case.input.len() <= 200
            && [4, 6, 8, 10, 12, 14, 16].contains(&case.tag.len())
    };
    let (mut valid, mut invalid) = (0, 0);
    for mut case in all.filter(fits).take(2 * CASES) {
        if !case.valid {
            case.input = case.output.clone();
        }
        let (iv, aad, content) = ccm_content(&case);
        let call = |command, flags, source, digest| {
            let all = (0, len(source));
            let (cipher, auth, flags) = (all, all, flags | flag::CCM);
            let destination = Some(source.len());
            SymmetricCall {
                command,
                flags,
                iv: &iv,
                source,
                destination,
                cipher,
                auth,
                aad: &aad,
                digest,
                ..SymmetricCall::default()
            }
        };
        let decryption =
            call(command::CIPHER_HASH, flag::COMPARE_DIGEST, &case.output[..], &case.tag[..]);
        let result = run(&mut driver, &content, &decryption);
        if !case.valid {
            assert_eq!(result.response.status(), status::CRYPTO, "{}", case.name);
            invalid += 1;
            continue;
        }
        assert_eq!((result.response.status(), &result.data), (0, &case.input), "{}", case.name);
        let room = vec![0; case.tag.len()];
        let encryption =
            call(command::HASH_CIPHER, flag::RETURN_DIGEST, &case.input[..], &room[..]);
        let result = run(&mut driver, &content, &encryption);
        assert_eq!((result.data, result.digest), (case.output, case.tag), "{}", case.name);
        valid += 1;
    }
    assert!(valid > 5, "{valid} {invalid}");
}
