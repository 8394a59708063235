//! AKCIPHER: RSA (§5.9.7.8).

use understudy_client::virtio_crypto::{
    Akcipher, AkcipherKey, KeyKind, Operation, Parameters, Scheme, Status, akcipher, service,
};
use understudy_engines::rsa::Digest;
use understudy_engines::vectors::{RsaKey, Signature, rsa_keys};
use understudy_oracle::{self as oracle, Hash};

use super::{Crypto, need_service, refused, run, sessions_only, stateless};
use crate::verdict::expect_bytes;
use crate::{Check, Context, Outcome, Stop};

const CLAUSE: &str = "virtio 1.3 §5.9.7.8, §5.9.7.2.1.6";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "virtio-crypto/akcipher/verify/1",
        title: "RSA: published PKCS #1 signatures verify, forged ones are KEY_REJECTED",
        clause: "virtio 1.3 §5.9.7.8, §5.9.7.1 (KEY_REJECTED)",
        run: |ctx| verify(ctx, false),
    },
    Check {
        id: "virtio-crypto/akcipher/verify/2",
        title: "RSA: published PKCS #1 signatures verify, stateless",
        clause: "virtio 1.3 §5.9.7.8, §5.9.3",
        run: |ctx| verify(ctx, true),
    },
    Check {
        id: "virtio-crypto/akcipher/sign/1",
        title: "RSA: signing gives the published PKCS #1 signatures",
        clause: CLAUSE,
        run: |ctx| sign(ctx, false),
    },
    Check {
        id: "virtio-crypto/akcipher/sign/2",
        title: "RSA: signing gives the published PKCS #1 signatures, stateless",
        clause: "virtio 1.3 §5.9.7.8, §5.9.3",
        run: |ctx| sign(ctx, true),
    },
    Check {
        id: "virtio-crypto/akcipher/decrypt/1",
        title: "RSA: published PKCS #1 ciphertexts decrypt",
        clause: CLAUSE,
        run: |ctx| decrypt(ctx, false),
    },
    Check {
        id: "virtio-crypto/akcipher/decrypt/2",
        title: "RSA: published PKCS #1 ciphertexts decrypt, stateless",
        clause: "virtio 1.3 §5.9.7.8, §5.9.3",
        run: |ctx| decrypt(ctx, true),
    },
    Check {
        id: "virtio-crypto/akcipher/encrypt/1",
        title: "RSA: what is encrypted with PKCS #1 padding decrypts to the message",
        clause: CLAUSE,
        run: encrypt,
    },
    Check {
        id: "virtio-crypto/akcipher/raw/1",
        title: "RSA: without padding, a published signature opens to its encoded message",
        clause: "virtio 1.3 §5.9.7.2.1.6 (RAW_PADDING), RFC 8017 §9.2",
        run: raw,
    },
    Check {
        id: "virtio-crypto/akcipher/raw/2",
        title: "RSA: a session without padding does not sign or verify",
        clause: "virtio 1.3 §5.9.7.2.1.6 (RAW_PADDING)",
        run: raw_does_not_sign,
    },
    Check {
        id: "virtio-crypto/akcipher/key/1",
        title: "RSA: a public key does not sign or decrypt",
        clause: "virtio 1.3 §5.9.7.8 (ERR)",
        run: public_key_does_not_sign,
    },
    Check {
        id: "virtio-crypto/akcipher/key/2",
        title: "RSA: a key that is no DER is refused",
        clause: "virtio 1.3 §5.9.7.2.1.6, §5.9.7.2.1 (ERR)",
        run: broken_keys,
    },
];

fn device(ctx: &Context<'_>, is_stateless: bool) -> Result<Crypto, Stop> {
    let driver =
        if is_stateless { stateless(ctx, service::AKCIPHER)? } else { sessions_only(ctx)? };
    need_service(&driver, service::AKCIPHER)?;
    if driver.config().akciphers >> akcipher::RSA & 1 == 0 {
        return Err(Stop::skip("the device does not announce RSA"));
    }
    Ok(driver)
}

fn keys() -> Result<Vec<RsaKey>, Stop> {
    rsa_keys().map_err(|error| Stop::skip(format!("the vectors cannot be read: {error}")))
}

/// Virtio's number of a digest, and the digest of a message.
fn digest(signature: &Signature) -> Result<(u32, Vec<u8>), Stop> {
    let (number, hash) = match signature.hash {
        Digest::Md5 => (akcipher::RSA_MD5, Hash::Md5),
        Digest::Sha1 => (akcipher::RSA_SHA1, Hash::Sha1),
        Digest::Sha224 => (akcipher::RSA_SHA224, Hash::Sha224),
        Digest::Sha256 => (akcipher::RSA_SHA256, Hash::Sha256),
        Digest::Sha384 => (akcipher::RSA_SHA384, Hash::Sha384),
        Digest::Sha512 => (akcipher::RSA_SHA512, Hash::Sha512),
        other => return Err(Stop::skip(format!("no digest {other:?} here"))),
    };
    Ok((number, oracle::digest(hash, &[&signature.message])))
}

fn parameters(kind: KeyKind, padding: u32, hash: u32, key: &[u8]) -> Parameters {
    let scheme = Scheme::Rsa { padding, hash };
    Parameters::Akcipher(AkcipherKey { scheme, kind, key: key.to_vec() })
}

/// A few signatures of each key: verification is cheap, so more of it than of signing.
fn signatures(private: bool) -> Result<Vec<(RsaKey, Vec<Signature>)>, Stop> {
    let most = if private { 1 } else { 6 };
    let mut found = Vec::new();
    for mut key in keys()? {
        let all = std::mem::take(&mut key.signatures);
        let (good, bad): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.valid);
        let mut chosen: Vec<_> = good.into_iter().take(most).collect();
        if !private {
            chosen.extend(bad.into_iter().step_by(17).take(most));
        }
        if !chosen.is_empty() && (!private || !key.private_key.is_empty()) {
            found.push((key, chosen));
        }
    }
    Ok(found)
}

fn verify(ctx: &mut Context<'_>, is_stateless: bool) -> Outcome {
    let mut driver = device(ctx, is_stateless)?;
    for (key, signatures) in signatures(false)? {
        for signature in signatures {
            let what = format!("{} {}", key.name, signature.name);
            let (hash, digest) = digest(&signature)?;
            let parameters =
                parameters(KeyKind::Public, akcipher::RSA_PKCS1, hash, &key.public_key);
            let operation = Operation::Verify { signature: &signature.signature, digest: &digest };
            let result = run(&mut driver, &parameters, &operation, is_stateless);
            if signature.valid {
                result.map_err(|error| Stop::from(error).during(&what))?;
            } else {
                // Some of the forged have impossible lengths, which is a failure of another kind.
                refused(result, &what, &[Status::KeyRejected, Status::Err])?;
            }
        }
    }
    Ok(())
}

fn modulus_len(signature: &[u8]) -> u32 {
    u32::try_from(signature.len()).unwrap_or(u32::MAX)
}

fn sign(ctx: &mut Context<'_>, is_stateless: bool) -> Outcome {
    let mut driver = device(ctx, is_stateless)?;
    for (key, signatures) in signatures(true)? {
        for signature in signatures {
            let what = format!("{} {}", key.name, signature.name);
            let (hash, digest) = digest(&signature)?;
            let parameters =
                parameters(KeyKind::Private, akcipher::RSA_PKCS1, hash, &key.private_key);
            let operation = Operation::Akcipher {
                operation: Akcipher::Sign,
                src: &digest,
                dst_len: modulus_len(&signature.signature),
            };
            let seen = run(&mut driver, &parameters, &operation, is_stateless)
                .map_err(|error| Stop::from(error).during(&what))?;
            expect_bytes("a signature", &seen, &signature.signature)
                .map_err(|stop| stop.during(&what))?;
        }
    }
    Ok(())
}

fn decrypt(ctx: &mut Context<'_>, is_stateless: bool) -> Outcome {
    let mut driver = device(ctx, is_stateless)?;
    for key in keys()?.iter().filter(|key| !key.private_key.is_empty()) {
        let good = key.encryptions.iter().filter(|one| one.valid && !one.message.is_empty());
        for encryption in good.take(2) {
            let what = format!("{} {}", key.name, encryption.name);
            let none = akcipher::RSA_NO_HASH;
            let parameters =
                parameters(KeyKind::Private, akcipher::RSA_PKCS1, none, &key.private_key);
            let operation = Operation::Akcipher {
                operation: Akcipher::Decrypt,
                src: &encryption.ciphertext,
                dst_len: modulus_len(&encryption.ciphertext),
            };
            let seen = run(&mut driver, &parameters, &operation, is_stateless)
                .map_err(|error| Stop::from(error).during(&what))?;
            expect_bytes("a message", &seen, &encryption.message)
                .map_err(|stop| stop.during(&what))?;
        }
    }
    Ok(())
}

/// The key of 1024 bits or so that is quickest to use, with its modulus' length.
fn small_key() -> Result<(RsaKey, u32), Stop> {
    let keys = keys()?.into_iter().filter(|key| {
        !key.private_key.is_empty() && key.signatures.iter().any(|signature| signature.valid)
    });
    let key = keys.min_by_key(|key| key.public_key.len());
    let key = key.ok_or_else(|| Stop::skip("no RSA key among the vectors"))?;
    let len = key.signatures.first().map_or(0, |signature| modulus_len(&signature.signature));
    Ok((key, len))
}

fn encrypt(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx, false)?;
    let (key, dst_len) = small_key()?;
    let none = akcipher::RSA_NO_HASH;
    let public = parameters(KeyKind::Public, akcipher::RSA_PKCS1, none, &key.public_key);
    let private = parameters(KeyKind::Private, akcipher::RSA_PKCS1, none, &key.private_key);
    let message = b"a message to keep secret";
    let operation = Operation::Akcipher { operation: Akcipher::Encrypt, src: message, dst_len };
    let sealed = run(&mut driver, &public, &operation, false)?;
    let operation = Operation::Akcipher { operation: Akcipher::Decrypt, src: &sealed, dst_len };
    let opened = run(&mut driver, &private, &operation, false)?;
    expect_bytes("the message", &opened, message)
}

/// EMSA-PKCS1-v1_5 of a SHA-1 digest (RFC 8017 §9.2).
fn encoded(digest: &[u8], len: usize) -> Vec<u8> {
    const SHA1: [u8; 15] =
        [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14];
    let mut message = vec![0, 1];
    message.resize(len.saturating_sub(SHA1.len() + digest.len() + 1), 0xff);
    message.push(0);
    message.extend(SHA1);
    message.extend(digest);
    message
}

fn raw(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx, false)?;
    let (key, dst_len) = small_key()?;
    let sha1 = key.signatures.iter().find(|one| one.valid && one.hash == Digest::Sha1);
    let signature = sha1.ok_or_else(|| Stop::skip("no SHA-1 signature among the vectors"))?;
    let (_, digest) = digest(signature)?;
    let none = akcipher::RSA_NO_HASH;
    let public = parameters(KeyKind::Public, akcipher::RSA_RAW, none, &key.public_key);
    let operation =
        Operation::Akcipher { operation: Akcipher::Encrypt, src: &signature.signature, dst_len };
    let seen = run(&mut driver, &public, &operation, false)?;
    let expected = encoded(&digest, signature.signature.len());
    expect_bytes("the encoded message", &seen, &expected)?;
    // The other way round it is the signature itself.
    let private = parameters(KeyKind::Private, akcipher::RSA_RAW, none, &key.private_key);
    let operation = Operation::Akcipher { operation: Akcipher::Decrypt, src: &expected, dst_len };
    let seen = run(&mut driver, &private, &operation, false)?;
    expect_bytes("the signature", &seen, &signature.signature)
}

fn raw_does_not_sign(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx, false)?;
    let (key, dst_len) = small_key()?;
    let none = akcipher::RSA_NO_HASH;
    let private = parameters(KeyKind::Private, akcipher::RSA_RAW, none, &key.private_key);
    let operation = Operation::Akcipher { operation: Akcipher::Sign, src: &[1; 20], dst_len };
    let failure = [Status::Err, Status::NotSupp];
    refused(run(&mut driver, &private, &operation, false), "signing", &failure)?;
    let operation = Operation::Verify { signature: &[1; 128], digest: &[1; 20] };
    refused(run(&mut driver, &private, &operation, false), "verifying", &failure)
}

fn public_key_does_not_sign(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx, false)?;
    let (key, dst_len) = small_key()?;
    let sha1 = akcipher::RSA_SHA1;
    let public = parameters(KeyKind::Public, akcipher::RSA_PKCS1, sha1, &key.public_key);
    for (operation, src) in [(Akcipher::Sign, vec![1; 20]), (Akcipher::Decrypt, vec![1; 128])] {
        let operation = Operation::Akcipher { operation, src: &src, dst_len };
        let result = run(&mut driver, &public, &operation, false);
        refused(result, "a public key", &[Status::Err, Status::NotSupp])?;
    }
    Ok(())
}

fn broken_keys(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx, false)?;
    let (key, _) = small_key()?;
    let whole = &key.private_key;
    let cut = whole.get(..whole.len() / 2).unwrap_or_default().to_vec();
    for bytes in [vec![0xff; 64], cut, vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]] {
        let broken = parameters(KeyKind::Private, akcipher::RSA_PKCS1, akcipher::RSA_SHA1, &bytes);
        let result = driver.create_session(&broken);
        refused(result, "a broken key", &[Status::Err, Status::NotSupp, Status::KeyRejected])?;
    }
    Ok(())
}
