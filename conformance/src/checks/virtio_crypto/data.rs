//! Data requests: modes, limits, framing, and what is refused (§5.9.7.3 to §5.9.7.7).

use understudy_client::DriverError;
use understudy_client::virtio::{Completion, QueueOptions};
use understudy_client::virtio_crypto::{
    AeadKey, Chain, ChainKey, CipherKey, CryptoError, Direction, Encoded, HashKey, HashMode,
    MacKey, Operation, Options, Order, Parameters, Scatter, Session, Span, Status, Target, aead,
    cipher, hash, mac, service,
};

use super::{Crypto, need_service, refused, sessions_only, stateless};
use crate::verdict::{expect, expect_bytes};
use crate::{Check, Context, Outcome, Stop};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "virtio-crypto/5.9.7.3/1",
        title: "A stateless request is refused while its mode was not negotiated",
        clause: "virtio 1.3 §5.9.7.3 (note)",
        run: stateless_not_negotiated,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/2",
        title: "An operation that does not exist is NOTSUPP",
        clause: "virtio 1.3 §5.9.7.1 (NOTSUPP)",
        run: unknown_operation,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/3",
        title: "A session id that was never given out is INVSESS, in every service",
        clause: "virtio 1.3 §5.9.7.1 (INVSESS)",
        run: unknown_session,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/4",
        title: "A request cut short is refused, wherever it is cut",
        clause: "virtio 1.3 §5.9.7.3 (ERR)",
        run: cut_short,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/5",
        title: "Lengths beyond what was sent, up to the greatest, are refused",
        clause: "virtio 1.3 §5.9.7.3 (ERR)",
        run: lengths_beyond,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/6",
        title: "A request of more than max_size is refused",
        clause: "virtio 1.3 §5.9.5.2 (max_size)",
        run: over_max_size,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/7",
        title: "The result is the same however a request is cut into segments",
        clause: "virtio 1.3 §2.6.5 (message framing)",
        run: framing,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/8",
        title: "Split and packed rings, direct and indirect, give the same results",
        clause: "virtio 1.3 §2.7, §2.8",
        run: ring_layouts,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/9",
        title: "Completion by MSI-X and by INTx",
        clause: "virtio 1.3 §4.1.5.3",
        run: completion,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/10",
        title: "Sixty-four requests in flight, or a full queue, all complete, once each",
        clause: "virtio 1.3 §2.7.8, §5.9.7.3",
        run: in_flight,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/11",
        title: "Memory without a descriptor works: the server sends DMA_READ and DMA_WRITE",
        clause: "vfio-user, VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE",
        run: message_dma,
    },
    Check {
        id: "virtio-crypto/5.9.7.3/12",
        title: "64 KiB and 1 MiB are encrypted and decrypted",
        clause: "virtio 1.3 §5.9.7.6, §5.9.5 (max_size)",
        run: large,
    },
    Check {
        id: "virtio-crypto/5.9.7.6/1",
        title: "CBC data that is no multiple of the block is refused",
        clause: "virtio 1.3 §5.9.7.6 (ERR)",
        run: partial_block,
    },
    Check {
        id: "virtio-crypto/5.9.7.6/2",
        title: "An IV of another length than the block's is refused",
        clause: "virtio 1.3 §5.9.7.6 (iv_len), (ERR)",
        run: wrong_iv,
    },
    Check {
        id: "virtio-crypto/5.9.7.6/3",
        title: "Chaining: cipher then MAC authenticates the ciphertext",
        clause: "virtio 1.3 §5.9.7.6 (algorithm chaining)",
        run: |ctx| chain(ctx, Order::CipherThenHash, false),
    },
    Check {
        id: "virtio-crypto/5.9.7.6/4",
        title: "Chaining: MAC then cipher authenticates the plaintext",
        clause: "virtio 1.3 §5.9.7.6 (algorithm chaining)",
        run: |ctx| chain(ctx, Order::HashThenCipher, false),
    },
    Check {
        id: "virtio-crypto/5.9.7.6/5",
        title: "Chaining, stateless",
        clause: "virtio 1.3 §5.9.7.6, §5.9.3",
        run: |ctx| {
            chain(ctx, Order::CipherThenHash, true)?;
            chain(ctx, Order::HashThenCipher, true)
        },
    },
    Check {
        id: "virtio-crypto/5.9.7.7/1",
        title: "Changed additional data or ciphertext is BADMSG",
        clause: "virtio 1.3 §5.9.7.7, §5.9.7.1 (BADMSG)",
        run: changed_message,
    },
    Check {
        id: "virtio-crypto/5.9.7.4/1",
        title: "Without room for the whole digest, a hash is refused or cut, not written beyond",
        clause: "virtio 1.3 §5.9.7.4 (hash_result_len)",
        run: short_digest,
    },
];

/// SP 800-38A F.2.1, the first two blocks.
const KEY: [u8; 16] = [
    0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c,
];
const IV: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const PLAIN: [u8; 32] = [
    0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a,
    0xae, 0x2d, 0x8a, 0x57, 0x1e, 0x03, 0xac, 0x9c, 0x9e, 0xb7, 0x6f, 0xac, 0x45, 0xaf, 0x8e, 0x51,
];
const SEALED: [u8; 32] = [
    0x76, 0x49, 0xab, 0xac, 0x81, 0x19, 0xb2, 0x46, 0xce, 0xe9, 0x8e, 0x9b, 0x12, 0xe9, 0x19, 0x7d,
    0x50, 0x86, 0xcb, 0x9b, 0x50, 0x72, 0x19, 0xee, 0x95, 0xdb, 0x11, 0x3a, 0x91, 0x76, 0x78, 0xb2,
];

fn cbc(direction: Direction) -> Parameters {
    let key = KEY.to_vec();
    Parameters::Cipher(CipherKey { algorithm: cipher::AES_CBC, direction, key })
}

fn need_cbc(driver: &Crypto) -> Result<(), Stop> {
    need_service(driver, service::CIPHER)?;
    if driver.config().ciphers >> cipher::AES_CBC & 1 == 0 {
        return Err(Stop::skip("the device does not announce AES-CBC"));
    }
    Ok(())
}

fn need_hmac(driver: &Crypto) -> Result<(), Stop> {
    need_service(driver, service::MAC)?;
    if driver.config().macs >> mac::HMAC_SHA1 & 1 == 0 {
        return Err(Stop::skip("the device does not announce HMAC-SHA-1"));
    }
    Ok(())
}

/// A device with an AES-CBC encryption session.
fn device(ctx: &Context<'_>, options: Options) -> Result<(Crypto, Session), Stop> {
    let mut driver = ctx.crypto(Options { stateless: 0, ..options })?;
    need_cbc(&driver)?;
    let session = driver.create_session(&cbc(Direction::Encrypt))?;
    Ok((driver, session))
}

const ENCRYPT: Operation<'static> =
    Operation::Cipher { direction: Direction::Encrypt, iv: &IV, src: &PLAIN };

/// The published block through a session: the device works.
fn works(driver: &mut Crypto, session: Session) -> Outcome {
    expect_bytes("the ciphertext", &driver.run(Target::Session(session), &ENCRYPT)?, &SEALED)
}

/// Sends a data request as given; `Ok` if the device says OK.
fn send(driver: &mut Crypto, encoded: &Encoded) -> Result<Vec<u8>, CryptoError> {
    let ticket = driver.submit_encoded(0, encoded)?;
    let finished = driver.wait(ticket)?;
    driver.result(finished)
}

fn stateless_not_negotiated(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, session) = device(ctx, Options::default())?;
    let result = driver.run(Target::Stateless(&cbc(Direction::Encrypt)), &ENCRYPT);
    let failure = [Status::Err, Status::NotSupp, Status::InvSess];
    refused(result, "a stateless request", &failure)?;
    works(&mut driver, session)
}

fn unknown_operation(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, session) = device(ctx, Options::default())?;
    for opcode in [0x0077_u32, 0x7f00, 0xffff_ffff] {
        let mut encoded = driver.encode(Target::Session(session), &ENCRYPT)?;
        encoded.readable[0][..4].copy_from_slice(&opcode.to_le_bytes());
        let result = send(&mut driver, &encoded);
        refused(result, &format!("opcode {opcode:#x}"), &[Status::NotSupp])?;
    }
    works(&mut driver, session)
}

fn unknown_session(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = sessions_only(ctx)?;
    let services = driver.config().services;
    let operations = [
        ENCRYPT,
        Operation::Hash { src: b"abc", result_len: 20 },
        Operation::Mac { src: b"abc", result_len: 20 },
        Operation::Aead {
            direction: Direction::Encrypt,
            iv: &[0; 12],
            aad: &[],
            src: &[0; 16],
            tag_len: 16,
        },
        Operation::Verify { signature: &[1; 128], digest: &[1; 20] },
    ];
    for operation in operations.iter().filter(|one| services >> one.service() & 1 != 0) {
        for id in [0x7fff_ffff, u64::MAX] {
            let session = Session { id, service: operation.service() };
            let result = driver.run(Target::Session(session), operation);
            let what = format!("session {id:#x} of service {}", operation.service());
            refused(result, &what, &[Status::InvSess])?;
        }
    }
    Ok(())
}

fn cut_short(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, session) = device(ctx, Options::default())?;
    let whole = driver.encode(Target::Session(session), &ENCRYPT)?.readable.concat();
    for len in [1, 8, 23, 24, 40, 71, 72, 80, 87, 88, whole.len() - 1] {
        let mut encoded = driver.encode(Target::Session(session), &ENCRYPT)?;
        encoded.readable = vec![whole[..len].to_vec()];
        let result = send(&mut driver, &encoded);
        refused(result, &format!("{len} bytes"), &[Status::Err, Status::NotSupp])?;
    }
    works(&mut driver, session)
}

/// iv_len, src_data_len and dst_data_len follow the 24 bytes of the header.
fn lengths_beyond(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, session) = device(ctx, Options::default())?;
    for field in [24, 28, 32] {
        for value in [0x40_u32, 0x7fff_fff0, 0xffff_fff0] {
            let mut encoded = driver.encode(Target::Session(session), &ENCRYPT)?;
            encoded.readable[0][field..field + 4].copy_from_slice(&value.to_le_bytes());
            let result = send(&mut driver, &encoded);
            refused(result, &format!("{value:#x} at byte {field}"), &[Status::Err])?;
        }
    }
    works(&mut driver, session)
}

fn over_max_size(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, session) = device(ctx, Options::default())?;
    let max = driver.config().max_size;
    let beyond = (max + 1).next_multiple_of(16);
    let Ok(len) = u32::try_from(beyond) else {
        return Err(Stop::skip("max_size is beyond what a length can say"));
    };
    // Segments may share memory: the source need not be as large as it says.
    let mut encoded = driver.encode(Target::Session(session), &ENCRYPT)?;
    for field in [28, 32] {
        encoded.readable[0][field..field + 4].copy_from_slice(&len.to_le_bytes());
    }
    refused(send(&mut driver, &encoded), "a request beyond max_size", &[Status::Err])?;
    works(&mut driver, session)
}

fn framing(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, session) = device(ctx, Options::default())?;
    for scatter in [
        Scatter::Fields,
        Scatter::Merged,
        Scatter::Pieces { max: 1 },
        Scatter::Pieces { max: 7 },
        Scatter::Pieces { max: 16 },
    ] {
        driver.set_scatter(scatter);
        works(&mut driver, session).map_err(|stop| stop.during(&format!("{scatter:?}")))?;
    }
    Ok(())
}

fn ring_layouts(ctx: &mut Context<'_>) -> Outcome {
    for bits in 0..8 {
        let queues = QueueOptions {
            packed: bits & 1 != 0,
            indirect: bits & 2 != 0,
            event_idx: bits & 4 != 0,
        };
        let (mut driver, session) = device(ctx, Options { queues, ..Options::default() })?;
        for _ in 0..8 {
            works(&mut driver, session).map_err(|stop| stop.during(&format!("{queues:?}")))?;
        }
    }
    Ok(())
}

fn completion(ctx: &mut Context<'_>) -> Outcome {
    let pin = ctx.profile.config.get(0x3d) != Some(&0);
    let msix = ctx.profile.capability(crate::profile::cap::MSIX).is_some();
    for (completion, present) in [(Completion::Msix, msix), (Completion::Intx, pin)] {
        if !present {
            continue;
        }
        let (mut driver, session) = device(ctx, Options { completion, ..Options::default() })?;
        for _ in 0..32 {
            works(&mut driver, session).map_err(|stop| stop.during(&format!("{completion:?}")))?;
        }
    }
    Ok(())
}

fn in_flight(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, session) = device(ctx, Options::default())?;
    let encoded = driver.encode(Target::Session(session), &ENCRYPT)?;
    let mut tickets = Vec::new();
    for _ in 0..64 {
        let request = driver.prepare(0, &encoded)?;
        match driver.post(0, request) {
            Ok(ticket) => tickets.push(ticket),
            // As many as a smaller queue takes.
            Err((DriverError::QueueFull { .. }, _)) if !tickets.is_empty() => break,
            Err((error, _)) => return Err(error.into()),
        }
    }
    driver.kick(0)?;
    for ticket in tickets {
        let finished = driver.wait(ticket)?;
        expect_bytes("the ciphertext", &driver.result(finished)?, &SEALED)?;
    }
    expect(driver.in_flight() == 0, "nothing in flight", || driver.in_flight().to_string())
}

fn message_dma(ctx: &mut Context<'_>) -> Outcome {
    let options = Options { stateless: 0, ..Options::default() };
    let mut driver = ctx.crypto_over(ctx.platform(false)?, options)?;
    need_cbc(&driver)?;
    let session = driver.create_session(&cbc(Direction::Encrypt))?;
    for _ in 0..4 {
        works(&mut driver, session)?;
    }
    let counts = driver.device.platform.client().dma_counts();
    expect(counts.reads > 0 && counts.writes > 0, "DMA messages both ways", || {
        format!("{} reads, {} writes", counts.reads, counts.writes)
    })
}

fn large(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, seal) = device(ctx, Options::default())?;
    let open = driver.create_session(&cbc(Direction::Decrypt))?;
    let max = driver.config().max_size;
    for len in [1 << 16, 1 << 20] {
        if 2 * len as u64 + 16 > max {
            continue;
        }
        let plain: Vec<u8> = (0..=250).cycle().take(len).collect();
        let (sealing, opening) = (Target::Session(seal), Target::Session(open));
        let sealed = driver.cipher(sealing, Direction::Encrypt, &IV, &plain)?;
        let opened = driver.cipher(opening, Direction::Decrypt, &IV, &sealed)?;
        expect_bytes("the plaintext", &opened, &plain)?;
    }
    Ok(())
}

fn partial_block(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, session) = device(ctx, Options::default())?;
    for len in [1, 15, 17, 31] {
        let src = &PLAIN[..len];
        let result = driver.cipher(Target::Session(session), Direction::Encrypt, &IV, src);
        refused(result, &format!("{len} bytes"), &[Status::Err])?;
    }
    works(&mut driver, session)
}

fn wrong_iv(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, session) = device(ctx, Options::default())?;
    for len in [1, 8, 15] {
        let iv = &IV[..len];
        let result = driver.cipher(Target::Session(session), Direction::Encrypt, iv, &PLAIN);
        refused(result, &format!("an IV of {len} bytes"), &[Status::Err])?;
    }
    works(&mut driver, session)
}

/// The chain's cipher must give the published ciphertext, and its MAC what the MAC service gives
/// for the same bytes.
fn chain(ctx: &mut Context<'_>, order: Order, is_stateless: bool) -> Outcome {
    let mut driver =
        if is_stateless { stateless(ctx, service::CIPHER)? } else { sessions_only(ctx)? };
    need_cbc(&driver)?;
    need_hmac(&driver)?;
    let hash = MacKey { algorithm: mac::HMAC_SHA1, result_len: 20, key: b"Jefe".to_vec() };
    let authenticated: &[u8] = match order {
        Order::CipherThenHash => &SEALED,
        Order::HashThenCipher => &PLAIN,
    };
    let session = driver.create_session(&Parameters::Mac(hash.clone()))?;
    let tag = driver.mac(Target::Session(session), authenticated, 20)?;
    let (algorithm, direction, key) = (cipher::AES_CBC, Direction::Encrypt, KEY.to_vec());
    let parameters = Parameters::Chain(ChainKey {
        order,
        cipher: CipherKey { algorithm, direction, key },
        mode: HashMode::Auth,
        hash,
        aad_len: 0,
    });
    let all = Span { start: 0, len: 32 };
    let operation = Chain {
        direction,
        iv: &IV,
        aad: &[],
        src: &PLAIN,
        cipher: all,
        hash: all,
        dst_len: 32,
        hash_len: 20,
    };
    let (sealed, seen) = if is_stateless {
        driver.chain(Target::Stateless(&parameters), operation)?
    } else {
        let session = driver.create_session(&parameters)?;
        driver.chain(Target::Session(session), operation)?
    };
    expect_bytes("the ciphertext", &sealed, &SEALED)?;
    expect_bytes("the MAC", &seen, &tag)
}

fn changed_message(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = sessions_only(ctx)?;
    need_service(&driver, service::AEAD)?;
    if driver.config().aeads >> aead::GCM & 1 == 0 {
        return Err(Stop::skip("the device does not announce GCM"));
    }
    let key = |direction| {
        let (algorithm, key) = (aead::GCM, KEY.to_vec());
        Parameters::Aead(AeadKey { algorithm, direction, key, tag_len: 16, aad_len: 8 })
    };
    let (iv, aad) = ([9; 12], *b"headers.");
    let seal = driver.create_session(&key(Direction::Encrypt))?;
    let open = driver.create_session(&key(Direction::Decrypt))?;
    let sealed = driver.aead(Target::Session(seal), Direction::Encrypt, &iv, &aad, &PLAIN, 16)?;
    let mut opened = |aad: &[u8], sealed: &[u8]| {
        driver.aead(Target::Session(open), Direction::Decrypt, &iv, aad, sealed, 16)
    };
    expect_bytes("the plaintext", &opened(&aad, &sealed)?, &PLAIN)?;
    refused(opened(b"Headers.", &sealed), "changed additional data", &[Status::BadMsg])?;
    let mut changed = sealed.clone();
    if let Some(first) = changed.first_mut() {
        *first ^= 0x80;
    }
    refused(opened(&aad, &changed), "changed ciphertext", &[Status::BadMsg])?;
    expect_bytes("the plaintext", &opened(&aad, &sealed)?, &PLAIN)
}

fn short_digest(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = sessions_only(ctx)?;
    need_service(&driver, service::HASH)?;
    let parameters = Parameters::Hash(HashKey { algorithm: hash::SHA1, result_len: 20 });
    let session = driver.create_session(&parameters)?;
    let whole = driver.hash(Target::Session(session), b"abc", 20)?;
    // The driver guards the bytes around its buffers: a longer digest would be found out.
    match driver.hash(Target::Session(session), b"abc", 12) {
        Ok(cut) => expect_bytes("the cut digest", &cut, &whole[..12]),
        result => refused(result, "room for 12 bytes", &[Status::Err]),
    }
}
