//! Mixes of operations drawn from a seed; every result is checked by computing it another way.

use std::collections::VecDeque;

use proptest::prelude::*;
use understudy_client::virtio::{Completion, QueueOptions};
use understudy_client::virtio_crypto::{
    AeadKey, CipherKey, CryptoError, Direction, HashKey, MacKey, Operation, Options, Parameters,
    Scatter, Session, Target, Ticket, aead, cipher, hash, mac,
};
use understudy_engines::{aead as ea, cipher as ec, hash as eh, mac as em};
use understudy_virtio_crypto::Parameters as DeviceParameters;

use crate::rig::{AnyDriver, Rig, Transport};

/// One operation of a mix.
#[derive(Debug, Clone)]
struct Step {
    kind: u8,
    /// Which of two keys.
    key: u8,
    stateless: bool,
    queue: u8,
    data: Vec<u8>,
    /// Wait for this many of the oldest requests afterwards.
    reap: u8,
    /// Destroy and create sessions afterwards.
    renew: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let data = prop::collection::vec(any::<u8>(), 0..600);
    (0u8..6, 0u8..2, any::<bool>(), 0u8..3, data, 0u8..4, prop::bool::weighted(0.1)).prop_map(
        |(kind, key, stateless, queue, data, reap, renew)| Step {
            kind,
            key,
            stateless,
            queue,
            data,
            reap,
            renew,
        },
    )
}

fn options() -> impl Strategy<Value = Options> {
    let scatter = prop_oneof![
        Just(Scatter::Fields),
        Just(Scatter::Merged),
        (1u32..90).prop_map(|max| Scatter::Pieces { max }),
    ];
    let how = prop::sample::select(vec![Completion::Polling, Completion::Intx, Completion::Msix]);
    (any::<[bool; 3]>(), scatter, how).prop_map(|([packed, indirect, event_idx], scatter, how)| {
        Options {
            queues: QueueOptions { packed, indirect, event_idx },
            queue_size: 64,
            data_queues: 3,
            completion: how,
            scatter,
            ..Options::default()
        }
    })
}

const IV: [u8; 16] = [0x42; 16];
const AAD: &[u8] = b"additional";

fn key_bytes(key: u8) -> Vec<u8> {
    vec![key.wrapping_mul(91) ^ 0x3c; 32]
}

fn parameters(step: &Step) -> Parameters {
    let key = key_bytes(step.key);
    let tag = |algorithm, result_len| MacKey { algorithm, result_len, key: key.clone() };
    let cipher = |algorithm, direction| {
        Parameters::Cipher(CipherKey { algorithm, direction, key: key.clone() })
    };
    match step.kind {
        0 => cipher(cipher::AES_CBC, Direction::Encrypt),
        1 => cipher(cipher::AES_CTR, Direction::Decrypt),
        2 => Parameters::Hash(HashKey { algorithm: hash::SHA3_256, result_len: 32 }),
        3 => Parameters::Mac(tag(mac::HMAC_SHA_256, 32)),
        4 => Parameters::Mac(tag(mac::CMAC_AES, 16)),
        _ => Parameters::Aead(AeadKey {
            algorithm: aead::CHACHA20_POLY1305,
            direction: Direction::Encrypt,
            key,
            tag_len: 16,
            aad_len: 10,
        }),
    }
}

/// The source: CBC takes whole blocks.
fn source(step: &Step) -> &[u8] {
    let whole = if step.kind == 0 { step.data.len() / 16 * 16 } else { step.data.len() };
    &step.data[..whole]
}

fn operation(step: &Step) -> Operation<'_> {
    let src = source(step);
    match step.kind {
        0 => Operation::Cipher { direction: Direction::Encrypt, iv: &IV, src },
        1 => Operation::Cipher { direction: Direction::Decrypt, iv: &IV, src },
        2 => Operation::Hash { src, result_len: 32 },
        3 => Operation::Mac { src, result_len: 32 },
        4 => Operation::Mac { src, result_len: 16 },
        _ => {
            let (direction, iv) = (Direction::Encrypt, &IV[..12]);
            Operation::Aead { direction, iv, aad: AAD, src, tag_len: 16 }
        }
    }
}

/// The result as the engines compute it without a device.
fn expected(step: &Step) -> Vec<u8> {
    let (key, mut data) = (key_bytes(step.key), source(step).to_vec());
    let mut run = |algorithm, direction| {
        let key = ec::Key::new(algorithm, &key).unwrap();
        key.start(direction, &IV).unwrap().finish(&mut data).map(|_| ()).unwrap();
        data.clone()
    };
    match step.kind {
        0 => run(ec::Algorithm::AesCbc, ec::Direction::Encrypt),
        1 => run(ec::Algorithm::AesCtr, ec::Direction::Decrypt),
        2 => {
            let mut digest = vec![0; 32];
            let mut hasher = eh::Hasher::new(eh::Algorithm::Sha3_256);
            hasher.update(&data);
            hasher.finish(&mut digest).unwrap();
            digest
        }
        3 => tag(em::Algorithm::Hmac(eh::Algorithm::Sha256), &key, &data, 32),
        4 => tag(em::Algorithm::CmacAes, &key, &data, 16),
        _ => {
            let key = ea::Key::new(ea::Algorithm::ChaCha20Poly1305, &key).unwrap();
            let mut tag = [0; 16];
            key.encrypt(ea::Nonce::Bytes(&IV[..12]), AAD, &mut data, &mut tag).unwrap();
            [&data[..], &tag].concat()
        }
    }
}

fn tag(algorithm: em::Algorithm, key: &[u8], data: &[u8], len: usize) -> Vec<u8> {
    let key = em::Key::new(algorithm, key).unwrap();
    let mut stream = key.start(&[]).unwrap();
    stream.update(data).unwrap();
    let mut tag = vec![0; len];
    stream.finish(&mut tag).unwrap();
    tag
}

/// Runs a mix with as many in flight as the mix leaves there.
fn run(driver: &mut AnyDriver, steps: &[Step]) -> Result<(), CryptoError> {
    let mut sessions: Vec<(u8, u8, Session)> = Vec::new();
    let mut flying: VecDeque<(Ticket, &Step)> = VecDeque::new();
    let take = |driver: &mut AnyDriver, (ticket, step): (Ticket, &Step)| {
        let finished = driver.wait(ticket)?;
        assert_eq!(driver.result(finished)?, expected(step), "{step:?}");
        Ok::<_, CryptoError>(())
    };
    for step in steps {
        let parameters = parameters(step);
        let known = sessions.iter().find(|(kind, key, _)| (*kind, *key) == (step.kind, step.key));
        let target = match (step.stateless, known) {
            (true, _) => Target::Stateless(&parameters),
            (false, Some((_, _, session))) => Target::Session(*session),
            (false, None) => {
                let session = driver.create_session(&parameters)?;
                sessions.push((step.kind, step.key, session));
                Target::Session(session)
            }
        };
        // Room for the longest request, whatever it is cut into.
        while flying.len() >= 9 {
            take(driver, flying.pop_front().unwrap())?;
        }
        let queue = usize::from(step.queue);
        let ticket = loop {
            match driver.submit(queue, target, &operation(step)) {
                Ok(ticket) => break ticket,
                Err(understudy_client::DriverError::QueueFull { .. }) => {
                    take(driver, flying.pop_front().expect("a request that fills the queue"))?;
                }
                Err(error) => return Err(error.into()),
            }
        };
        flying.push_back((ticket, step));
        for _ in 0..step.reap.min(u8::try_from(flying.len()).unwrap()) {
            take(driver, flying.pop_front().unwrap())?;
        }
        if step.renew {
            // Sessions end only when nothing uses them.
            while let Some(first) = flying.pop_front() {
                take(driver, first)?;
            }
            for (_, _, session) in sessions.drain(..) {
                driver.destroy_session(session)?;
            }
        }
    }
    while let Some(first) = flying.pop_front() {
        take(driver, first)?;
    }
    Ok(())
}

fn device() -> DeviceParameters {
    DeviceParameters { data_queues: 3, ..DeviceParameters::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn mixes_in_the_simulation(
        seed: u64,
        options in options(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut rig = Rig::new(Transport::Simulation(seed), device(), options);
        run(&mut rig.driver, &steps).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn mixes_over_the_socket(
        shared: bool,
        options in options(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let transport = if shared { Transport::Shared } else { Transport::Messages };
        let mut rig = Rig::new(transport, device(), options);
        run(&mut rig.driver, &steps).unwrap();
    }
}
