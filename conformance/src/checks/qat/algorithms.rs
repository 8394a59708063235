//! Published vectors through every cipher, hash and MAC that drivers use.

use understudy_client::qat::content::aes;
use understudy_client::qat::message::{cipher as number, command, flag, mode};
use understudy_client::qat::{Content, SymmetricCall, SymmetricResult, status};
use understudy_engines::vectors::{Algorithm, Case};
use understudy_engines::{cipher, hash, mac};

use super::content::{cmac, plain, sample, stateful, xcbc};
use super::{PIECES, Qat, len32, started, succeeded};
use crate::verdict::{expect, expect_bytes, expect_hex};
use crate::{Check, Context, Outcome, Stop};

/// A check for each algorithm of a group.
macro_rules! algorithms {
    ($name:ident, $group:literal, $clause:literal, $send:ident,
     $([$number:literal, $title:literal, $symbol:literal, $algorithm:expr]),* $(,)?) => {
        pub(super) const $name: &[Check] = &[$(Check {
            id: concat!("qat/", $group, "/", $number),
            title: concat!($title, ": published vectors, flat and in pieces"),
            clause: concat!($clause, $symbol),
            run: |ctx| $send(ctx, $algorithm),
        }),*];
    };
}

algorithms!(
    CIPHERS,
    "cipher",
    "Linux icp_qat_hw.h, ICP_QAT_HW_CIPHER_",
    ciphers,
    [1, "AES-ECB", "ECB_MODE", cipher::Algorithm::AesEcb],
    [2, "AES-CBC", "CBC_MODE", cipher::Algorithm::AesCbc],
    [3, "AES-CTR", "CTR_MODE", cipher::Algorithm::AesCtr],
    [4, "AES-XTS", "XTS_MODE", cipher::Algorithm::AesXts],
    [5, "DES-ECB", "ALGO_DES", cipher::Algorithm::DesEcb],
    [6, "DES-CBC", "ALGO_DES", cipher::Algorithm::DesCbc],
    [7, "3DES-ECB", "ALGO_3DES", cipher::Algorithm::TdesEcb],
    [8, "3DES-CBC", "ALGO_3DES", cipher::Algorithm::TdesCbc],
    [9, "3DES-CTR", "ALGO_3DES", cipher::Algorithm::TdesCtr],
);

algorithms!(
    HASHES,
    "hash",
    "Linux icp_qat_hw.h, ICP_QAT_HW_AUTH_ALGO_",
    hashes,
    [1, "MD5", "MD5", hash::Algorithm::Md5],
    [2, "SHA-1", "SHA1", hash::Algorithm::Sha1],
    [3, "SHA-224", "SHA224", hash::Algorithm::Sha224],
    [4, "SHA-256", "SHA256", hash::Algorithm::Sha256],
    [5, "SHA-384", "SHA384", hash::Algorithm::Sha384],
    [6, "SHA-512", "SHA512", hash::Algorithm::Sha512],
    [7, "SHA3-256, if the part has it", "SHA3_256", hash::Algorithm::Sha3_256],
    [8, "SHA3-512, if the part has it", "SHA3_512", hash::Algorithm::Sha3_512],
);

algorithms!(
    MACS,
    "mac",
    "Linux icp_qat_hw.h, ICP_QAT_HW_AUTH_",
    macs,
    [1, "HMAC-MD5", "MODE1", mac::Algorithm::Hmac(hash::Algorithm::Md5)],
    [2, "HMAC-SHA-1", "MODE1", mac::Algorithm::Hmac(hash::Algorithm::Sha1)],
    [3, "HMAC-SHA-224", "MODE1", mac::Algorithm::Hmac(hash::Algorithm::Sha224)],
    [4, "HMAC-SHA-256", "MODE1", mac::Algorithm::Hmac(hash::Algorithm::Sha256)],
    [5, "HMAC-SHA-384", "MODE1", mac::Algorithm::Hmac(hash::Algorithm::Sha384)],
    [6, "HMAC-SHA-512", "MODE1", mac::Algorithm::Hmac(hash::Algorithm::Sha512)],
    [7, "AES-XCBC-MAC", "ALGO_AES_XCBC_MAC", mac::Algorithm::XcbcAes],
    [8, "AES-CMAC", "ALGO_AES_XCBC_MAC", mac::Algorithm::CmacAes],
);

/// Algorithm and mode as a content descriptor has them, and the key it wants.
fn described(algorithm: cipher::Algorithm, key: &[u8]) -> (u32, u32, Vec<u8>) {
    use cipher::Algorithm as C;
    let (number, mode) = match algorithm {
        C::AesEcb => (aes(key.len()), mode::ECB),
        C::AesCbc => (aes(key.len()), mode::CBC),
        C::AesCtr => (aes(key.len()), mode::CTR),
        C::AesXts => (aes(key.len() / 2), mode::XTS),
        C::DesEcb => (number::DES, mode::ECB),
        C::DesCbc => (number::DES, mode::CBC),
        C::TdesEcb => (number::TDES, mode::ECB),
        C::TdesCbc => (number::TDES, mode::CBC),
        _ => (number::TDES, mode::CTR),
    };
    let mut key = key.to_vec();
    if number == number::TDES && key.len() == 16 {
        // Of two keys the first is used again.
        key.extend_from_within(..8);
    }
    (number, mode, key)
}

fn ciphers(ctx: &mut Context<'_>, algorithm: cipher::Algorithm) -> Outcome {
    let mut driver = started(ctx)?;
    let all = sample(Algorithm::Cipher(algorithm), |case| case.valid && !case.input.is_empty())?;
    for (case, piece) in all.iter().zip(PIECES.iter().cycle()) {
        driver.set_piece(*piece);
        let (number, mode, key) = described(algorithm, &case.key);
        // Counter mode is encryption both ways, as both drivers ask for it.
        for decrypt in [false, mode != mode::CTR] {
            let content = Content::default().cipher(number, mode, decrypt, &key);
            let (from, to) =
                if decrypt { (&case.output, &case.input) } else { (&case.input, &case.output) };
            let call = SymmetricCall {
                command: command::CIPHER,
                iv: &case.iv,
                source: from,
                cipher: (0, len32(from)),
                ..SymmetricCall::default()
            };
            judge(case, driver.symmetric(&content, &call)?, |it| {
                expect_bytes(if decrypt { "the plaintext" } else { "the ciphertext" }, &it.data, to)
            })?;
        }
    }
    Ok(())
}

/// A result that must be good, naming its vector.
fn judge(
    case: &Case,
    result: SymmetricResult,
    good: impl FnOnce(&SymmetricResult) -> Outcome,
) -> Outcome {
    succeeded(&result.response).and_then(|()| good(&result)).map_err(|stop| stop.during(&case.name))
}

/// The request for a digest of all of the source, beside it.
pub(super) fn authentication<'a>(flags: u16, source: &'a [u8], tag: &'a [u8]) -> SymmetricCall<'a> {
    SymmetricCall {
        command: command::AUTH,
        flags,
        source,
        auth: (0, len32(source)),
        digest: tag,
        ..SymmetricCall::default()
    }
}

fn computed(driver: &mut Qat, content: &Content, case: &Case, wanted: &[u8]) -> Outcome {
    let room = vec![0; wanted.len()];
    let call = authentication(flag::RETURN_DIGEST, &case.input, &room);
    judge(case, driver.symmetric(content, &call)?, |it| {
        expect_bytes("the digest", &it.digest, wanted)?;
        expect_bytes("the data that was hashed", &it.data, &case.input)
    })
}

fn hashes(ctx: &mut Context<'_>, algorithm: hash::Algorithm) -> Outcome {
    let mut driver = started(ctx)?;
    let content = plain(Content::default(), algorithm, algorithm.digest_len());
    let all = sample(Algorithm::Hash(algorithm), |case| case.valid)?;
    let optional = matches!(algorithm, hash::Algorithm::Sha3_256 | hash::Algorithm::Sha3_512);
    if optional {
        let room = vec![0; algorithm.digest_len()];
        let call = authentication(flag::RETURN_DIGEST, b"abc", &room);
        need(&mut driver, &content, &call)?;
    }
    for (case, piece) in all.iter().zip(PIECES.iter().cycle()) {
        driver.set_piece(*piece);
        computed(&mut driver, &content, case, &case.output)?;
    }
    Ok(())
}

/// Skips if the part says that it has no such algorithm.
pub(super) fn need(driver: &mut Qat, content: &Content, call: &SymmetricCall<'_>) -> Outcome {
    let found = driver.symmetric(content, call)?.response.status();
    if found & status::UNSUPPORTED == 0 {
        return Ok(());
    }
    Err(Stop::skip("the part does not support the algorithm"))
}

fn macs(ctx: &mut Context<'_>, algorithm: mac::Algorithm) -> Outcome {
    let mut driver = started(ctx)?;
    let usable = |case: &Case| {
        // The engine has these MACs for AES-128.
        let fits = matches!(algorithm, mac::Algorithm::Hmac(_)) || case.key.len() == 16;
        case.valid && fits && case.tag.len() >= 4
    };
    let all = sample(Algorithm::Mac(algorithm), usable)?;
    for (case, piece) in all.iter().zip(PIECES.iter().cycle()) {
        driver.set_piece(*piece);
        let tag_len = case.tag.len();
        let content = match algorithm {
            mac::Algorithm::Hmac(hash) => {
                let unknown = || Stop::skip("drivers compute no states of this hash");
                let hash = stateful(hash).ok_or_else(unknown)?;
                Content::default().hmac(hash, &case.key, tag_len)
            }
            mac::Algorithm::XcbcAes => xcbc(&case.key, tag_len)?,
            _ => cmac(&case.key, tag_len)?,
        };
        computed(&mut driver, &content, case, &case.tag)?;
        compared(&mut driver, &content, case)?;
    }
    Ok(())
}

/// The right digest is accepted, one that differs in any byte is not.
fn compared(driver: &mut Qat, content: &Content, case: &Case) -> Outcome {
    let call = authentication(flag::COMPARE_DIGEST, &case.input, &case.tag);
    judge(case, driver.symmetric(content, &call)?, |_| Ok(()))?;
    for at in [0, case.tag.len() - 1] {
        let mut forged = case.tag.clone();
        forged[at] ^= 0x40;
        let call = authentication(flag::COMPARE_DIGEST, &case.input, &forged);
        let found = driver.symmetric(content, &call)?.response.status() & status::CRYPTO;
        let what = format!("{}: the status for a digest that is wrong at byte {at}", case.name);
        expect_hex(&what, found, status::CRYPTO)?;
    }
    expect(!case.tag.is_empty(), "a tag in the vector", || case.name.clone())
}
