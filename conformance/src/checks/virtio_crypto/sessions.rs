//! The control queue and the life of sessions (§5.9.7.2).

use std::collections::BTreeSet;

use understudy_client::virtio_crypto::{
    AeadKey, CipherKey, CryptoError, Direction, Encoded, HashKey, MacKey, Operation, Options,
    Parameters, Session, Status, Target, cipher, hash, mac, request, service,
};

use super::{Crypto, need_service, refused, sessions_only};
use crate::verdict::{expect, expect_bytes};
use crate::{Check, Context, Outcome, Stop};

const CREATE: &str = "virtio 1.3 §5.9.7.2.1 (create session)";
const DESTROY: &str = "virtio 1.3 §5.9.7.2.1 (destroy session)";

/// More sessions than this are not opened in the search for the last one.
const MOST_SESSIONS: usize = 20_000;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "virtio-crypto/5.9.7.2/1",
        title: "Every session gets an id of its own",
        clause: CREATE,
        run: unique_ids,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/2",
        title: "An algorithm that is not announced is NOTSUPP",
        clause: "virtio 1.3 §5.9.7.2.1, §5.9.7.1 (NOTSUPP)",
        run: unsupported_algorithms,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/3",
        title: "A control operation that does not exist is NOTSUPP",
        clause: "virtio 1.3 §5.9.7.2.1, §5.9.7.1 (NOTSUPP)",
        run: unknown_operation,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/4",
        title: "A session is destroyed once; the second time it is ERR",
        clause: DESTROY,
        run: destroyed_once,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/5",
        title: "Destroying a session that never was is ERR",
        clause: DESTROY,
        run: destroy_unknown,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/6",
        title: "When no session is free, creating one is NOSPC until one is destroyed",
        clause: "virtio 1.3 §5.9.7.2.1, §5.9.7.1 (NOSPC)",
        run: no_space,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/7",
        title: "A key longer than max_cipher_key_len or max_auth_key_len is refused",
        clause: "virtio 1.3 §5.9.5.2, §5.9.7.2.1 (ERR)",
        run: key_too_long,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/8",
        title: "A key of a length that the cipher does not have is refused",
        clause: "virtio 1.3 §5.9.7.2.1 (ERR)",
        run: impossible_key,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/9",
        title: "A key_len beyond what was sent is refused",
        clause: "virtio 1.3 §5.9.7.2.1 (ERR)",
        run: key_not_sent,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/10",
        title: "A control request cut short is refused",
        clause: "virtio 1.3 §5.9.7.2 (ERR)",
        run: cut_short,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/11",
        title: "A session destroyed is INVSESS for requests",
        clause: "virtio 1.3 §5.9.7.1 (INVSESS)",
        run: destroyed_is_invalid,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/12",
        title: "Sessions do not outlive a device reset",
        clause: "virtio 1.3 §2.4, §5.9.7.1 (INVSESS)",
        run: reset_ends_sessions,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/13",
        title: "Many sessions keep their own keys",
        clause: "virtio 1.3 §5.9.7.2.1",
        run: many_keys,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/14",
        title: "Without REVISION_1, fixed-length fields are padded to 56 and 48 bytes",
        clause: "virtio 1.3 §5.9.7.2, §5.9.7.3",
        run: before_revision_1,
    },
    Check {
        id: "virtio-crypto/5.9.7.2/15",
        title: "A session of another service is INVSESS",
        clause: "virtio 1.3 §5.9.7.1 (INVSESS)",
        run: wrong_service,
    },
];

const IV: [u8; 16] = [7; 16];

fn cbc_key(fill: u8) -> Parameters {
    let (algorithm, direction) = (cipher::AES_CBC, Direction::Encrypt);
    Parameters::Cipher(CipherKey { algorithm, direction, key: vec![fill; 16] })
}

fn encrypt(driver: &mut Crypto, session: Session) -> Result<Vec<u8>, CryptoError> {
    driver.cipher(Target::Session(session), Direction::Encrypt, &IV, &[0x5a; 64])
}

/// Sends a control request as given; `Ok` if the device says OK.
fn control(driver: &mut Crypto, encoded: &Encoded) -> Result<Vec<u8>, CryptoError> {
    let queue = driver.control_queue();
    let ticket = driver.submit_encoded(queue, encoded)?;
    let finished = driver.wait(ticket)?;
    driver.result(finished)
}

/// A device with AES-CBC in sessions.
fn device(ctx: &Context<'_>) -> Result<Crypto, Stop> {
    let driver = sessions_only(ctx)?;
    need_service(&driver, service::CIPHER)?;
    if driver.config().ciphers >> cipher::AES_CBC & 1 == 0 {
        return Err(Stop::skip("the device does not announce AES-CBC"));
    }
    Ok(driver)
}

fn unique_ids(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let mut seen = BTreeSet::new();
    for round in 0..64 {
        let session = driver.create_session(&cbc_key(round))?;
        expect(seen.insert(session.id), "an id not in use", || session.id.to_string())?;
    }
    Ok(())
}

fn unsupported_algorithms(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let config = *driver.config();
    let (direction, key) = (Direction::Encrypt, vec![1; 16]);
    // The highest number that fits the mask, and one beyond every mask.
    for algorithm in [31, 0x7fff_ffff] {
        let cipher = Parameters::Cipher(CipherKey { algorithm, direction, key: key.clone() });
        refused(driver.create_session(&cipher), "a cipher", &[Status::NotSupp])?;
        if config.services >> service::AEAD & 1 != 0 {
            let (tag_len, aad_len) = (16, 8);
            let aead = AeadKey { algorithm, direction, key: key.clone(), tag_len, aad_len };
            let result = driver.create_session(&Parameters::Aead(aead));
            refused(result, "AEAD", &[Status::NotSupp])?;
        }
        if config.services >> service::HASH & 1 != 0 {
            let hash = Parameters::Hash(HashKey { algorithm, result_len: 20 });
            refused(driver.create_session(&hash), "a hash", &[Status::NotSupp])?;
        }
        if config.services >> service::MAC & 1 != 0 {
            let mac = Parameters::Mac(MacKey { algorithm, result_len: 20, key: key.clone() });
            refused(driver.create_session(&mac), "a MAC", &[Status::NotSupp])?;
        }
    }
    Ok(())
}

fn unknown_operation(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    for opcode in [0x0042_u32, 0x7f02, 0xffff_ffff] {
        // A destroy request by form: its outcome is the status byte alone.
        let session = Session { id: 1, service: service::CIPHER };
        let mut encoded = request::destroy_session(driver.features(), session);
        encoded.readable[0][..4].copy_from_slice(&opcode.to_le_bytes());
        let result = control(&mut driver, &encoded);
        refused(result, &format!("opcode {opcode:#x}"), &[Status::NotSupp])?;
    }
    Ok(())
}

fn destroyed_once(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let session = driver.create_session(&cbc_key(1))?;
    driver.destroy_session(session)?;
    refused(driver.destroy_session(session), "the second destruction", &[Status::Err])
}

fn destroy_unknown(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let offered = driver.config().services;
    let all = [service::CIPHER, service::HASH, service::MAC, service::AEAD, service::AKCIPHER];
    for service in all.into_iter().filter(|service| offered >> service & 1 != 0) {
        for id in [0x7fff_ffff_ffff_ffff, u64::MAX] {
            let session = Session { id, service };
            let what = format!("session {id:#x} of service {service}");
            refused(driver.destroy_session(session), &what, &[Status::Err])?;
        }
    }
    Ok(())
}

fn no_space(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let mut last = None;
    let mut seen = BTreeSet::new();
    for _ in 0..MOST_SESSIONS {
        match driver.create_session(&cbc_key(1)) {
            Ok(session) => {
                expect(seen.insert(session.id), "an id not in use", || session.id.to_string())?;
                last = Some(session);
            }
            Err(CryptoError::Status(status)) => {
                expect(status == Status::NoSpc, "NOSPC", || format!("{status:?}"))?;
                crate::log::refused("one session more, with status NOSPC");
                let last = last.ok_or_else(|| Stop::fail("one session at least", "none"))?;
                driver.destroy_session(last)?;
                driver.create_session(&cbc_key(1))?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Stop::skip(format!("more than {MOST_SESSIONS} sessions are free")))
}

fn key_too_long(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let config = *driver.config();
    let long = |max: u32| vec![1; max as usize + 1];
    if config.max_cipher_key_len < 1 << 16 {
        // ARC4 has the longest keys of all; AES would refuse this length anyway.
        let algorithm = if config.ciphers & 2 == 0 { cipher::AES_CBC } else { cipher::ARC4 };
        let key = long(config.max_cipher_key_len);
        let direction = Direction::Encrypt;
        let cipher = Parameters::Cipher(CipherKey { algorithm, direction, key });
        refused(driver.create_session(&cipher), "a cipher key", &[Status::Err])?;
    }
    if config.macs >> mac::HMAC_SHA1 & 1 != 0 && config.max_auth_key_len < 1 << 16 {
        let key = long(config.max_auth_key_len);
        let mac = Parameters::Mac(MacKey { algorithm: mac::HMAC_SHA1, result_len: 20, key });
        refused(driver.create_session(&mac), "an authentication key", &[Status::Err])?;
    }
    Ok(())
}

fn impossible_key(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    for len in [1, 15, 17, 33] {
        let (algorithm, direction) = (cipher::AES_CBC, Direction::Encrypt);
        let key = Parameters::Cipher(CipherKey { algorithm, direction, key: vec![1; len] });
        let result = driver.create_session(&key);
        let failure = [Status::Err, Status::NotSupp, Status::KeyRejected];
        refused(result, &format!("an AES key of {len} bytes"), &failure)?;
    }
    Ok(())
}

fn key_not_sent(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let mut encoded = request::create_session(driver.features(), &cbc_key(1));
    // The header says 16 bytes of key; 8 follow.
    if let Some(key) = encoded.readable.get_mut(1) {
        key.truncate(8);
    }
    refused(control(&mut driver, &encoded), "half a key", &[Status::Err])
}

fn cut_short(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let session = Session { id: 1, service: service::CIPHER };
    for len in [1, 15, 16, 20] {
        let mut encoded = request::destroy_session(driver.features(), session);
        encoded.readable[0].truncate(len);
        let result = control(&mut driver, &encoded);
        refused(result, &format!("{len} bytes"), &[Status::Err, Status::NotSupp])?;
    }
    Ok(())
}

fn destroyed_is_invalid(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let session = driver.create_session(&cbc_key(1))?;
    encrypt(&mut driver, session)?;
    driver.destroy_session(session)?;
    refused(encrypt(&mut driver, session), "a destroyed session", &[Status::InvSess])
}

fn reset_ends_sessions(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let session = driver.create_session(&cbc_key(1))?;
    encrypt(&mut driver, session)?;
    let platform = driver.shut_down()?;
    let mut driver = ctx.crypto_over(platform, Options { stateless: 0, ..Options::default() })?;
    refused(encrypt(&mut driver, session), "a session from before", &[Status::InvSess])
}

fn many_keys(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    let sessions =
        (0..32).map(|fill| driver.create_session(&cbc_key(fill))).collect::<Result<Vec<_>, _>>()?;
    let first = sessions
        .iter()
        .map(|session| encrypt(&mut driver, *session))
        .collect::<Result<Vec<_>, _>>()?;
    let different: BTreeSet<_> = first.iter().collect();
    expect(different.len() == 32, "32 keys, 32 results", || different.len().to_string())?;
    for (session, before) in sessions.iter().zip(&first).rev() {
        let again = encrypt(&mut driver, *session)?;
        expect_bytes("the session's result", &again, before)?;
    }
    Ok(())
}

fn before_revision_1(ctx: &mut Context<'_>) -> Outcome {
    let mut modern = device(ctx)?;
    let session = modern.create_session(&cbc_key(3))?;
    let expected = encrypt(&mut modern, session)?;
    drop(modern);
    let options = Options { revision_1: false, stateless: 0, ..Options::default() };
    let mut legacy = ctx.crypto(options)?;
    let session = legacy.create_session(&cbc_key(3))?;
    expect_bytes("the result", &encrypt(&mut legacy, session)?, &expected)?;
    legacy.destroy_session(session)?;
    Ok(())
}

fn wrong_service(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = device(ctx)?;
    need_service(&driver, service::HASH)?;
    let hash = Parameters::Hash(HashKey { algorithm: hash::SHA1, result_len: 20 });
    let hash = driver.create_session(&hash)?;
    refused(encrypt(&mut driver, hash), "a hash session", &[Status::InvSess])?;
    let cipher = driver.create_session(&cbc_key(1))?;
    let operation = Operation::Hash { src: b"abc", result_len: 20 };
    let result = driver.run(Target::Session(cipher), &operation);
    refused(result, "a cipher session", &[Status::InvSess])
}
