//! Every way of using the queues, with many requests in flight.

use understudy_client::virtio::{Completion, QueueOptions};
use understudy_client::virtio_crypto::{
    Chain, ChainKey, CipherKey, Direction, HashMode, MacKey, Operation, Options, Order, Parameters,
    Scatter, Span, Target, cipher, mac,
};
use understudy_client::{DriverError, Platform};
use understudy_virtio_crypto::Parameters as DeviceParameters;

use crate::rig::{ALL, AnyDriver, Rig, Served};

fn variants() -> impl Iterator<Item = Options> {
    let bits = (0..8).map(|bits| QueueOptions {
        packed: bits & 1 != 0,
        indirect: bits & 2 != 0,
        event_idx: bits & 4 != 0,
    });
    let how = [Completion::Polling, Completion::Intx, Completion::Msix];
    let scatters = [Scatter::Fields, Scatter::Merged, Scatter::Pieces { max: 40 }];
    bits.flat_map(move |queues| {
        how.into_iter().zip(scatters).map(move |(completion, scatter)| Options {
            queues,
            completion,
            scatter,
            queue_size: 64,
            ..Options::default()
        })
    })
}

fn aes(direction: Direction) -> Parameters {
    Parameters::Cipher(CipherKey { algorithm: cipher::AES_CBC, direction, key: vec![7; 16] })
}

/// Encrypts many messages at once and decrypts them again, in a session and statelessly.
fn many_in_flight(driver: &mut AnyDriver, count: u8) {
    let (to, from) = (aes(Direction::Encrypt), aes(Direction::Decrypt));
    let session = driver.create_session(&from).unwrap();
    let messages: Vec<Vec<u8>> =
        (0..count).map(|n| vec![n; 16 * (1 + usize::from(n) * 5 % 17)]).collect();
    let iv = [3; 16];
    let queues = driver.data_queues();
    let submit = |driver: &mut AnyDriver, target: Target<'_>, direction, all: &[Vec<u8>]| {
        let mut tickets = Vec::new();
        for (n, src) in all.iter().enumerate() {
            let operation = Operation::Cipher { direction, iv: &iv, src };
            let queue = n % queues;
            loop {
                match driver.submit(queue, target, &operation) {
                    Ok(ticket) => break tickets.push(ticket),
                    Err(DriverError::QueueFull { .. }) => {
                        // Without indirect descriptors the ring may be too small for all.
                        let first = tickets.remove(0);
                        let finished = driver.wait(first).unwrap();
                        driver.result(finished).unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        tickets
    };
    let tickets = submit(driver, Target::Stateless(&to), Direction::Encrypt, &messages);
    assert_eq!(driver.in_flight(), tickets.len());
    // Waited for from the last to the first: the others are kept meanwhile.
    let mut secrets = Vec::new();
    for ticket in tickets.into_iter().rev() {
        let finished = driver.wait(ticket).unwrap();
        secrets.push(driver.result(finished).unwrap());
    }
    secrets.reverse();
    let kept = messages.len() - secrets.len();
    assert!(secrets.len() >= 2);
    let target = Target::Session(session);
    for (secret, message) in secrets.iter().zip(&messages[kept..]) {
        assert_ne!(secret, message);
        let clear = driver.cipher(target, Direction::Decrypt, &iv, secret).unwrap();
        assert_eq!(&clear, message);
    }
    driver.destroy_session(session).unwrap();
}

#[test]
fn every_variant_works_on_every_transport() {
    for transport in ALL {
        for options in variants() {
            let parameters = DeviceParameters { data_queues: 2, ..DeviceParameters::default() };
            let options = Options { data_queues: 2, ..options };
            let mut rig = Rig::new(transport, parameters, options);
            assert_eq!(rig.driver.data_queues(), 2);
            many_in_flight(&mut rig.driver, 24);
        }
    }
}

#[test]
fn the_control_queue_follows_all_data_queues_even_unused_ones() {
    let parameters = DeviceParameters { data_queues: 5, ..DeviceParameters::default() };
    for transport in ALL {
        let mut rig = Rig::new(transport, parameters.clone(), Options::default());
        assert_eq!(rig.driver.config().max_dataqueues, 5);
        many_in_flight(&mut rig.driver, 8);
    }
}

#[test]
fn a_driver_before_revision_1_works_in_session_mode() {
    let options = Options { revision_1: false, stateless: 0, ..Options::default() };
    for transport in ALL {
        let mut rig = Rig::new(transport, DeviceParameters::default(), options);
        let driver = &mut rig.driver;
        let (to, from) = (aes(Direction::Encrypt), aes(Direction::Decrypt));
        let to = driver.create_session(&to).unwrap();
        let from = driver.create_session(&from).unwrap();
        let iv = [1; 16];
        let secret = driver.cipher(Target::Session(to), Direction::Encrypt, &iv, &[5; 64]).unwrap();
        let clear = driver.cipher(Target::Session(from), Direction::Decrypt, &iv, &secret).unwrap();
        assert_eq!(clear, [5; 64]);
    }
}

/// What IPsec does: encrypt, then authenticate header and ciphertext; and the way back.
#[test]
fn chains_encrypt_and_authenticate_in_one_request() {
    let chain_key = |order, direction| {
        Parameters::Chain(ChainKey {
            order,
            cipher: CipherKey { algorithm: cipher::AES_CBC, direction, key: vec![1; 16] },
            mode: HashMode::Auth,
            hash: MacKey { algorithm: mac::HMAC_SHA1, result_len: 20, key: vec![2; 20] },
            aad_len: 8,
        })
    };
    let mac_key = MacKey { algorithm: mac::HMAC_SHA1, result_len: 20, key: vec![2; 20] };
    let mac_key = Parameters::Mac(mac_key);
    let packet: Vec<u8> = (0..112).collect();
    for transport in ALL {
        let mut rig = Rig::plain(transport);
        let driver = &mut rig.driver;
        let sealing = chain_key(Order::CipherThenHash, Direction::Encrypt);
        let sealing_session = driver.create_session(&sealing).unwrap();
        for target in [Target::Session(sealing_session), Target::Stateless(&sealing)] {
            let (sealed, tag) = driver.chain(target, chain(Direction::Encrypt, &packet)).unwrap();
            assert_eq!(sealed[..16], packet[..16]);
            let plain = aes_with_key(driver, &packet[16..], &CHAIN_IV);
            assert_eq!(sealed[16..], plain);
            let whole = [&CHAIN_AAD[..], &sealed].concat();
            assert_eq!(driver.mac(Target::Stateless(&mac_key), &whole, 20).unwrap(), tag);
            let opening = chain_key(Order::HashThenCipher, Direction::Decrypt);
            let opening_target = Target::Stateless(&opening);
            let (opened, again) =
                driver.chain(opening_target, chain(Direction::Decrypt, &sealed)).unwrap();
            assert_eq!((opened, again), (packet.clone(), tag));
        }
    }
}

const CHAIN_IV: [u8; 16] = [9; 16];
const CHAIN_AAD: [u8; 8] = [4; 8];

/// Hashes all of a packet and encrypts what follows its header.
fn chain(direction: Direction, src: &[u8]) -> Chain<'_> {
    Chain {
        direction,
        iv: &CHAIN_IV,
        aad: &CHAIN_AAD,
        src,
        cipher: Span { start: 16, len: 96 },
        hash: Span { start: 0, len: 112 },
        dst_len: 112,
        hash_len: 20,
    }
}

fn aes_with_key(driver: &mut AnyDriver, src: &[u8], iv: &[u8]) -> Vec<u8> {
    let direction = Direction::Encrypt;
    let key = CipherKey { algorithm: cipher::AES_CBC, direction, key: vec![1; 16] };
    let key = Parameters::Cipher(key);
    driver.cipher(Target::Stateless(&key), direction, iv, src).unwrap()
}

#[test]
fn large_requests_in_many_pieces_arrive_whole() {
    let src: Vec<u8> = (0..1u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
    let key =
        CipherKey { algorithm: cipher::AES_CTR, direction: Direction::Encrypt, key: vec![8; 32] };
    let key = Parameters::Cipher(key);
    for transport in ALL {
        let mut results = Vec::new();
        for scatter in [Scatter::Merged, Scatter::Pieces { max: 5000 }] {
            let options = Options { scatter, queue_size: 1024, ..Options::default() };
            let mut rig = Rig::new(transport, DeviceParameters::default(), options);
            let target = Target::Stateless(&key);
            results.push(rig.driver.cipher(target, Direction::Encrypt, &[0; 16], &src).unwrap());
        }
        assert_eq!(results[0], results[1]);
        assert_ne!(results[0], src);
    }
}

/// One server, one client after the other; none leaves anything behind.
#[test]
fn clients_come_and_go() {
    let served = Served::new(DeviceParameters::default());
    for round in 0..20u8 {
        let shared = round % 2 == 0;
        let platform: Box<dyn Platform> = Box::new(served.connect(shared));
        let mut driver = AnyDriver::new(platform, Options::default()).unwrap();
        many_in_flight(&mut driver, 8);
        // Every other client dies without a word, with requests in flight.
        if round % 4 < 2 {
            let key = aes(Direction::Encrypt);
            let (direction, iv, src) = (Direction::Encrypt, &[0; 16], &[0; 4096]);
            let operation = Operation::Cipher { direction, iv, src };
            driver.submit(0, Target::Stateless(&key), &operation).unwrap();
        } else {
            driver.shut_down().unwrap();
        }
    }
}

#[test]
fn shutting_down_gives_all_memory_back() {
    use understudy_client::SimulationPlatform;
    use understudy_client::virtio_crypto::Driver;
    use understudy_virtio_crypto::VirtioCrypto;
    for options in variants() {
        let model = Box::new(VirtioCrypto::new(DeviceParameters::default()).unwrap());
        let platform = SimulationPlatform::new(model, 3).unwrap();
        let mut driver = Driver::new(platform, options).unwrap();
        let key = aes(Direction::Encrypt);
        for _ in 0..5 {
            let (direction, iv, src) = (Direction::Encrypt, &[0; 16], &[0; 256]);
            let operation = Operation::Cipher { direction, iv, src };
            // Some finish, some do not.
            let submitted = driver.submit(0, Target::Stateless(&key), &operation);
            let Ok(ticket) = submitted else { break };
            if driver.in_flight() > 2 {
                let finished = driver.wait(ticket).unwrap();
                driver.result(finished).unwrap();
            }
        }
        assert_eq!(driver.shut_down().unwrap().in_use(), 0);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    use understudy_client::SimulationPlatform;
    use understudy_client::virtio_crypto::Driver;
    use understudy_virtio_crypto::VirtioCrypto;
    let run = |seed| {
        let model = Box::new(VirtioCrypto::new(DeviceParameters::default()).unwrap());
        let platform = SimulationPlatform::new(model, seed).unwrap();
        let mut driver = Driver::new(platform, Options::default()).unwrap();
        let key = aes(Direction::Encrypt);
        let (direction, iv, src) = (Direction::Encrypt, &[0; 16], &[0; 256]);
        let operation = Operation::Cipher { direction, iv, src };
        for _ in 0..20 {
            driver.submit(0, Target::Stateless(&key), &operation).unwrap();
        }
        while driver.in_flight() > 0 {
            let _ = driver.device.platform.idle(understudy_device::Nanos(u64::MAX)).unwrap();
            while driver.reap().unwrap().is_some() {}
        }
        driver.device.platform.simulation().trace().hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn message_dma_is_used_exactly_when_memory_is_not_shared() {
    let served = Served::new(DeviceParameters::default());
    for shared in [true, false] {
        let platform = served.connect(shared);
        let mut driver =
            understudy_client::virtio_crypto::Driver::new(platform, Options::default()).unwrap();
        let key = aes(Direction::Encrypt);
        let target = Target::Stateless(&key);
        driver.cipher(target, Direction::Encrypt, &[0; 16], &[1; 64]).unwrap();
        let counts = driver.device.platform.client().dma_counts();
        assert_eq!(counts.reads == 0 && counts.writes == 0, shared, "{counts:?}");
        assert_eq!(counts.refused, 0);
    }
}
