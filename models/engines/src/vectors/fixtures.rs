//! Vectors from the repository's fixtures.

use serde::Deserialize;

use super::{Algorithm, Case, VectorError};

/// Names the files once, each with its content.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../fixtures/vectors/", $name)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "draft-ribose-cfrg-sm4.json",
    "gbt32905-sm3.json",
    "nist-cavp-aes.json",
    "nist-cavp-ccm.json",
    "nist-cavp-gcm.json",
    "nist-cavp-hashes.json",
    "nist-cavp-tdes.json",
    "nist-cavp-xts.json",
    "nist-sp800-38a.json",
    "nist-sp800-38b.json",
    "nist-tdes-examples.json",
    "rfc1321-md5.json",
    "rfc2202-hmac.json",
    "rfc2286-hmac.json",
    "rfc3566-xcbc.json",
    "rfc3686-aes-ctr.json",
    "rfc4231-hmac.json",
    "rfc6229-arc4.json",
    "ripemd160.json",
];

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    cases: Vec<Record<'a>>,
}

/// A case with its values still in hex.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    algorithm: &'a str,
    name: &'a str,
    #[serde(default)]
    key: &'a str,
    #[serde(default)]
    iv: &'a str,
    #[serde(default)]
    aad: &'a str,
    #[serde(default)]
    input: &'a str,
    #[serde(default)]
    output: &'a str,
    #[serde(default)]
    tag: &'a str,
    #[serde(default = "yes")]
    valid: bool,
}

fn yes() -> bool {
    true
}

pub(super) fn cases(algorithm: Algorithm) -> Result<Vec<Case>, VectorError> {
    let wanted = algorithm.name();
    let mut cases = Vec::new();
    for (file, json) in FILES {
        let parsed: File<'_> =
            serde_json::from_str(json).map_err(|error| VectorError::new(file, error))?;
        let bytes = |digits| hex::decode(digits).map_err(|error| VectorError::new(file, error));
        for record in parsed.cases.into_iter().filter(|record| record.algorithm == wanted) {
            cases.push(Case {
                algorithm,
                name: format!("{file}/{}", record.name),
                key: bytes(record.key)?,
                iv: bytes(record.iv)?,
                aad: bytes(record.aad)?,
                input: bytes(record.input)?,
                output: bytes(record.output)?,
                tag: bytes(record.tag)?,
                valid: record.valid,
            });
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_record_names_an_algorithm_and_no_two_cases_share_a_name() {
        let known: BTreeSet<_> = Algorithm::all().map(Algorithm::name).collect();
        for (_, json) in FILES {
            let file: File<'_> = serde_json::from_str(json).unwrap();
            for record in file.cases {
                assert!(known.contains(record.algorithm), "{}", record.algorithm);
            }
        }
        let mut names = BTreeSet::new();
        for case in Algorithm::all().flat_map(|algorithm| cases(algorithm).unwrap()) {
            assert!(names.insert((case.algorithm, case.name.clone())), "{} twice", case.name);
        }
    }
}
