//! AKCIPHER: ECDSA (§5.9.7.8).

use understudy_client::virtio_crypto::{
    Akcipher, AkcipherKey, KeyKind, Operation, Parameters, Scheme, Status, akcipher, service,
};
use understudy_engines::ecdsa::Curve;
use understudy_engines::vectors::{EcdsaKey, ecdsa_keys};

use super::{Crypto, need_service, refused, run, sessions_only, stateless};
use crate::{Check, Context, Outcome, Stop};

const CLAUSE: &str = "virtio 1.3 §5.9.7.8, §5.9.7.2.1.6";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "virtio-crypto/akcipher/ecdsa/1",
        title: "ECDSA: published signatures verify, forged ones are KEY_REJECTED",
        clause: "virtio 1.3 §5.9.7.8, §5.9.7.1 (KEY_REJECTED)",
        run: |ctx| verify(ctx, false),
    },
    Check {
        id: "virtio-crypto/akcipher/ecdsa/2",
        title: "ECDSA: published signatures verify, stateless",
        clause: "virtio 1.3 §5.9.7.8, §5.9.3",
        run: |ctx| verify(ctx, true),
    },
    Check {
        id: "virtio-crypto/akcipher/ecdsa/3",
        title: "ECDSA: what is signed with a published key verifies, and nothing else does",
        clause: CLAUSE,
        run: sign,
    },
    Check {
        id: "virtio-crypto/akcipher/ecdsa/4",
        title: "ECDSA: keys neither encrypt nor decrypt",
        clause: CLAUSE,
        run: does_not_encrypt,
    },
    Check {
        id: "virtio-crypto/akcipher/ecdsa/5",
        title: "ECDSA: an unknown curve is refused",
        clause: CLAUSE,
        run: unknown_curve,
    },
];

/// Signatures of one key that a check sends.
const MOST: usize = 6;

fn device(ctx: &Context<'_>, is_stateless: bool) -> Result<Crypto, Stop> {
    let driver =
        if is_stateless { stateless(ctx, service::AKCIPHER)? } else { sessions_only(ctx)? };
    need_service(&driver, service::AKCIPHER)?;
    if driver.config().akciphers >> akcipher::ECDSA & 1 == 0 {
        return Err(Stop::skip("the device does not announce ECDSA"));
    }
    Ok(driver)
}

fn keys() -> Result<Vec<EcdsaKey>, Stop> {
    let broken = |error| Stop::skip(format!("the vectors cannot be read: {error}"));
    ecdsa_keys().map_err(broken)
}

fn number(curve: Curve) -> u32 {
    match curve {
        Curve::P256 => akcipher::P256,
        Curve::P384 => akcipher::P384,
        Curve::P521 => akcipher::P521,
        // VIRTIO_CRYPTO_CURVE_UNKNOWN
        _ => 0,
    }
}

fn parameters(key: &EcdsaKey, kind: KeyKind) -> Parameters {
    let scheme = Scheme::Ecdsa { curve: number(key.curve) };
    let bytes = if kind == KeyKind::Public { &key.public_key } else { &key.private_key };
    Parameters::Akcipher(AkcipherKey { scheme, kind, key: bytes.clone() })
}

/// A device need not know every curve: those that it refuses are left out, but not all of them.
fn each_curve(
    driver: &mut Crypto,
    mut one: impl FnMut(&mut Crypto, &EcdsaKey) -> Outcome,
    wanted: impl Fn(&EcdsaKey) -> bool,
) -> Outcome {
    let keys = keys()?;
    let mut curves = 0;
    for curve in Curve::ALL {
        let of_curve: Vec<_> =
            keys.iter().filter(|key| key.curve == curve && wanted(key)).take(4).collect();
        let Some(first) = of_curve.first() else { continue };
        match driver.create_session(&parameters(first, KeyKind::Public)) {
            Ok(session) => driver.destroy_session(session)?,
            Err(error) if error.status() == Some(Status::NotSupp) => continue,
            Err(error) => return Err(error.into()),
        }
        curves += 1;
        for key in of_curve {
            one(driver, key)?;
        }
    }
    if curves > 0 { Ok(()) } else { Err(Stop::fail("a curve that is supported", "none")) }
}

fn verify(ctx: &mut Context<'_>, is_stateless: bool) -> Outcome {
    let mut driver = device(ctx, is_stateless)?;
    let one = |driver: &mut Crypto, key: &EcdsaKey| {
        let parameters = parameters(key, KeyKind::Public);
        let (good, bad): (Vec<_>, Vec<_>) = key.signatures.iter().partition(|one| one.valid);
        for signature in good.into_iter().take(MOST).chain(bad.into_iter().take(MOST)) {
            let what = format!("{} {}", key.name, signature.name);
            let operation =
                Operation::Verify { signature: &signature.signature, digest: &signature.digest };
            let result = run(driver, &parameters, &operation, is_stateless);
            if signature.valid {
                result.map_err(|error| Stop::from(error).during(&what))?;
            } else {
                // Some of the forged are no signatures by form, which is a failure of another kind.
                refused(result, &what, &[Status::KeyRejected, Status::Err])?;
            }
        }
        Ok(())
    };
    // Without a signature there is nothing to try; an empty one cannot be sent.
    each_curve(&mut driver, one, |key| key.signatures.iter().all(|s| !s.signature.is_empty()))
}

fn sign(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx, false)?;
    let one = |driver: &mut Crypto, key: &EcdsaKey| {
        let digest = [0x5a; 32];
        let operation =
            Operation::Akcipher { operation: Akcipher::Sign, src: &digest, dst_len: 256 };
        let private = parameters(key, KeyKind::Private);
        let signature = run(driver, &private, &operation, false)?;
        let public = parameters(key, KeyKind::Public);
        let verify = |driver: &mut Crypto, digest: &[u8]| {
            run(driver, &public, &Operation::Verify { signature: &signature, digest }, false)
        };
        verify(driver, &digest)?;
        refused(verify(driver, &[0x5b; 32]), "another digest", &[Status::KeyRejected])
    };
    each_curve(&mut driver, one, |key| !key.private_key.is_empty())
}

fn does_not_encrypt(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx, false)?;
    let one = |driver: &mut Crypto, key: &EcdsaKey| {
        for operation in [Akcipher::Encrypt, Akcipher::Decrypt] {
            let operation = Operation::Akcipher { operation, src: &[1; 32], dst_len: 256 };
            let result = run(driver, &parameters(key, KeyKind::Public), &operation, false);
            refused(result, "a key of ECDSA", &[Status::NotSupp, Status::Err])?;
        }
        Ok(())
    };
    each_curve(&mut driver, one, |_| true)
}

fn unknown_curve(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx, false)?;
    for curve in [0, 6, 0xffff] {
        let (scheme, kind) = (Scheme::Ecdsa { curve }, KeyKind::Public);
        let key = Parameters::Akcipher(AkcipherKey { scheme, kind, key: vec![4; 65] });
        let result = driver.create_session(&key);
        refused(result, &format!("curve {curve}"), &[Status::NotSupp, Status::Err])?;
    }
    Ok(())
}
