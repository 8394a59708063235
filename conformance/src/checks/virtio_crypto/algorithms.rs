//! Published vectors through every algorithm that is announced.

use understudy_client::virtio_crypto::{
    AeadKey, CipherKey, CryptoError, Direction, HashKey, MacKey, Operation, Parameters, service,
};
use understudy_engines::vectors::{Algorithm, Case};
use understudy_engines::{aead, cipher, hash, mac};

use super::{Crypto, need_service, run, sessions_only, stateless};
use crate::checks::vectors::sample;
use crate::verdict::expect_bytes;
use crate::{Check, Context, Outcome, Stop};

/// Most vectors that one check sends. Many sets have hundreds.
const MOST: usize = 48;

/// A session check and a stateless one for each algorithm.
macro_rules! algorithms {
    ($(#[$doc:meta])* $name:ident, $service:literal, $clause:literal, $send:ident,
     $([$number:literal, $title:literal, $algorithm:expr]),* $(,)?) => {
        $(#[$doc])*
        pub(super) const $name: &[Check] = &[$(
            Check {
                id: concat!("virtio-crypto/", $service, "/session/", $number),
                title: concat!($title, ": published vectors, in sessions"),
                clause: concat!("virtio 1.3 ", $clause, ", §5.9.7.2.1"),
                run: |ctx| $send(ctx, $number, $algorithm, false),
            },
            Check {
                id: concat!("virtio-crypto/", $service, "/stateless/", $number),
                title: concat!($title, ": published vectors, stateless"),
                clause: concat!("virtio 1.3 ", $clause, ", §5.9.3"),
                run: |ctx| $send(ctx, $number, $algorithm, true),
            },
        )*];
    };
}

algorithms!(
    /// Both directions.
    CIPHERS, "cipher", "§5.9.7.6", ciphers,
    [1, "ARC4", cipher::Algorithm::Arc4],
    [2, "AES-ECB", cipher::Algorithm::AesEcb],
    [3, "AES-CBC", cipher::Algorithm::AesCbc],
    [4, "AES-CTR", cipher::Algorithm::AesCtr],
    [5, "DES-ECB", cipher::Algorithm::DesEcb],
    [6, "DES-CBC", cipher::Algorithm::DesCbc],
    [7, "3DES-ECB", cipher::Algorithm::TdesEcb],
    [8, "3DES-CBC", cipher::Algorithm::TdesCbc],
    [9, "3DES-CTR", cipher::Algorithm::TdesCtr],
    [13, "AES-XTS", cipher::Algorithm::AesXts],
);

algorithms!(
    /// Digests.
    HASHES, "hash", "§5.9.7.4", hashes,
    [1, "MD5", hash::Algorithm::Md5],
    [2, "SHA-1", hash::Algorithm::Sha1],
    [3, "SHA-224", hash::Algorithm::Sha224],
    [4, "SHA-256", hash::Algorithm::Sha256],
    [5, "SHA-384", hash::Algorithm::Sha384],
    [6, "SHA-512", hash::Algorithm::Sha512],
    [7, "SHA3-224", hash::Algorithm::Sha3_224],
    [8, "SHA3-256", hash::Algorithm::Sha3_256],
    [9, "SHA3-384", hash::Algorithm::Sha3_384],
    [10, "SHA3-512", hash::Algorithm::Sha3_512],
    [11, "SHAKE128", hash::Algorithm::Shake128],
    [12, "SHAKE256", hash::Algorithm::Shake256],
);

algorithms!(
    /// Tags of full length.
    MACS, "mac", "§5.9.7.5", macs,
    [1, "HMAC-MD5", mac::Algorithm::Hmac(hash::Algorithm::Md5)],
    [2, "HMAC-SHA-1", mac::Algorithm::Hmac(hash::Algorithm::Sha1)],
    [3, "HMAC-SHA-224", mac::Algorithm::Hmac(hash::Algorithm::Sha224)],
    [4, "HMAC-SHA-256", mac::Algorithm::Hmac(hash::Algorithm::Sha256)],
    [5, "HMAC-SHA-384", mac::Algorithm::Hmac(hash::Algorithm::Sha384)],
    [6, "HMAC-SHA-512", mac::Algorithm::Hmac(hash::Algorithm::Sha512)],
    [25, "CMAC-3DES", mac::Algorithm::CmacTdes],
    [26, "CMAC-AES", mac::Algorithm::CmacAes],
    [49, "CBC-MAC-AES", mac::Algorithm::CbcMacAes],
    [53, "AES-XCBC-MAC", mac::Algorithm::XcbcAes],
);

algorithms!(
    /// Both directions; a forged tag must be found out.
    AEADS, "aead", "§5.9.7.7", aeads,
    [1, "AES-GCM", aead::Algorithm::AesGcm],
    [2, "AES-CCM", aead::Algorithm::AesCcm],
    [3, "ChaCha20-Poly1305", aead::Algorithm::ChaCha20Poly1305],
);

/// A device on which the algorithm is announced.
fn device(ctx: &Context<'_>, kind: u32, number: u32, is_stateless: bool) -> Result<Crypto, Stop> {
    let driver = if is_stateless { stateless(ctx, kind)? } else { sessions_only(ctx)? };
    need_service(&driver, kind)?;
    let config = driver.config();
    let mask = match kind {
        service::CIPHER => config.ciphers,
        service::HASH => config.hashes.into(),
        service::MAC => config.macs,
        service::AEAD => config.aeads.into(),
        _ => config.akciphers.into(),
    };
    if mask >> number & 1 == 0 {
        return Err(Stop::skip("the device does not announce the algorithm"));
    }
    Ok(driver)
}

/// Compares a result with a vector's, naming the vector.
fn compare(case: &Case, result: Result<Vec<u8>, CryptoError>, expected: &[u8]) -> Outcome {
    let judge = |result: Result<Vec<u8>, CryptoError>| -> Outcome {
        expect_bytes("a result", &result?, expected)
    };
    judge(result).map_err(|stop| stop.during(&case.name))
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn ciphers(
    ctx: &mut Context<'_>,
    number: u32,
    algorithm: cipher::Algorithm,
    is_stateless: bool,
) -> Outcome {
    let mut driver = device(ctx, service::CIPHER, number, is_stateless)?;
    for case in
        sample(MOST, Algorithm::Cipher(algorithm), |case| case.valid && !case.input.is_empty())?
    {
        for (direction, src, expected) in [
            (Direction::Encrypt, &case.input, &case.output),
            (Direction::Decrypt, &case.output, &case.input),
        ] {
            let key = case.key.clone();
            let parameters = Parameters::Cipher(CipherKey { algorithm: number, direction, key });
            let operation = Operation::Cipher { direction, iv: &case.iv, src };
            let result = run(&mut driver, &parameters, &operation, is_stateless);
            compare(&case, result, expected)?;
        }
    }
    Ok(())
}

fn hashes(
    ctx: &mut Context<'_>,
    number: u32,
    algorithm: hash::Algorithm,
    is_stateless: bool,
) -> Outcome {
    let mut driver = device(ctx, service::HASH, number, is_stateless)?;
    for case in sample(MOST, Algorithm::Hash(algorithm), |case| case.valid)? {
        let result_len = len32(&case.output);
        let parameters = Parameters::Hash(HashKey { algorithm: number, result_len });
        let operation = Operation::Hash { src: &case.input, result_len };
        let result = run(&mut driver, &parameters, &operation, is_stateless);
        compare(&case, result, &case.output)?;
    }
    Ok(())
}

fn macs(
    ctx: &mut Context<'_>,
    number: u32,
    algorithm: mac::Algorithm,
    is_stateless: bool,
) -> Outcome {
    let mut driver = device(ctx, service::MAC, number, is_stateless)?;
    let longest = driver.config().max_auth_key_len as usize;
    let whole = algorithm.mac_len();
    let usable = |case: &Case| {
        case.valid && case.tag.len() == whole && (1..=longest).contains(&case.key.len())
    };
    for case in sample(MOST, Algorithm::Mac(algorithm), usable)? {
        let (result_len, key) = (len32(&case.tag), case.key.clone());
        let parameters = Parameters::Mac(MacKey { algorithm: number, result_len, key });
        let operation = Operation::Mac { src: &case.input, result_len };
        let result = run(&mut driver, &parameters, &operation, is_stateless);
        compare(&case, result, &case.tag)?;
    }
    Ok(())
}

/// Whether the specification has a place for a vector's IV: GCM takes 12 bytes (16 would be J0).
fn iv_fits(algorithm: aead::Algorithm, case: &Case) -> bool {
    match algorithm {
        aead::Algorithm::AesGcm => case.iv.len() == 12,
        aead::Algorithm::AesCcm => (7..=13).contains(&case.iv.len()),
        _ => true,
    }
}

fn aeads(
    ctx: &mut Context<'_>,
    number: u32,
    algorithm: aead::Algorithm,
    is_stateless: bool,
) -> Outcome {
    let mut driver = device(ctx, service::AEAD, number, is_stateless)?;
    let all =
        sample(MOST, Algorithm::Aead(algorithm), |case| case.valid && iv_fits(algorithm, case))?;
    for case in all {
        let sealed = [case.output.as_slice(), case.tag.as_slice()].concat();
        let mut one = |direction, src: &[u8]| {
            let (tag_len, aad_len) = (len32(&case.tag), len32(&case.aad));
            let key = case.key.clone();
            let key = AeadKey { algorithm: number, direction, key, tag_len, aad_len };
            let (iv, aad) = (&case.iv, &case.aad);
            let operation = Operation::Aead { direction, iv, aad, src, tag_len };
            run(&mut driver, &Parameters::Aead(key), &operation, is_stateless)
        };
        compare(&case, one(Direction::Encrypt, &case.input), &sealed)?;
        compare(&case, one(Direction::Decrypt, &sealed), &case.input)?;
        let mut forged = sealed.clone();
        if let Some(last) = forged.last_mut() {
            *last ^= 1;
        }
        let result = one(Direction::Decrypt, &forged);
        super::refused(result, &case.name, &[understudy_client::virtio_crypto::Status::BadMsg])?;
    }
    Ok(())
}
