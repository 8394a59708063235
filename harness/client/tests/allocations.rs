//! Once a device is warm, requests are served without allocating memory.

#[path = "../benches/virtio_crypto/in_process.rs"]
mod in_process;

use std::cell::Cell;

use in_process::InProcess;
use understudy_client::virtio_crypto::{
    AeadKey, CipherKey, Direction, Driver, HashKey, MacKey, Operation, Options, Parameters, Target,
    aead, cipher, hash, mac,
};
use understudy_virtio_crypto::{Parameters as DeviceParameters, VirtioCrypto};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what the device's work allocates; what the driver does is not counted.
fn count(work: &mut dyn FnMut()) {
    let info = allocation_counter::measure(work);
    ALLOCATIONS.set(ALLOCATIONS.get() + info.count_total);
}

const SRC: [u8; 5000] = [0x5a; 5000];
const CIPHERED: &[u8] = &[0x5a; 4096];
const KEY: [u8; 16] = [7; 16];

fn cases() -> Vec<(&'static str, Parameters, Operation<'static>)> {
    let direction = Direction::Encrypt;
    let key = KEY.to_vec();
    let cipher = |algorithm| {
        let key = Parameters::Cipher(CipherKey { algorithm, direction, key: KEY.to_vec() });
        (key, Operation::Cipher { direction, iv: &[9; 16], src: CIPHERED })
    };
    let (cbc, encrypt_cbc) = cipher(cipher::AES_CBC);
    let (ctr, encrypt_ctr) = cipher(cipher::AES_CTR);
    let hash = Parameters::Hash(HashKey { algorithm: hash::SHA_256, result_len: 32 });
    let mac = MacKey { algorithm: mac::HMAC_SHA_256, result_len: 32, key: key.clone() };
    let gcm = AeadKey { algorithm: aead::GCM, direction, key, tag_len: 16, aad_len: 8 };
    let seal = Operation::Aead { direction, iv: &[1; 12], aad: &[2; 8], src: &SRC, tag_len: 16 };
    vec![
        ("AES-CBC", cbc, encrypt_cbc),
        ("AES-CTR", ctr, encrypt_ctr),
        ("SHA-256", hash, Operation::Hash { src: &SRC, result_len: 32 }),
        ("HMAC-SHA-256", Parameters::Mac(mac), Operation::Mac { src: &SRC, result_len: 32 }),
        ("AES-GCM", Parameters::Aead(gcm), seal),
    ]
}

#[test]
fn a_warm_device_serves_requests_without_allocating() {
    for packed in [false, true] {
        let mut options = Options { guard: false, ..Options::default() };
        options.queues.packed = packed;
        let model = Box::new(VirtioCrypto::new(DeviceParameters::default()).unwrap());
        let mut platform = InProcess::new(model).unwrap();
        platform.around = count;
        let mut driver = Driver::new(platform, options).unwrap();
        let mut warming_up = 0;
        for (name, key, operation) in cases() {
            let session = driver.create_session(&key).unwrap();
            let encoded = driver.encode(Target::Session(session), &operation).unwrap();
            let mut request = driver.prepare(0, &encoded).unwrap();
            for round in 0..300 {
                // More than a turn of the ring, so that what grows once has grown.
                if round == 280 {
                    warming_up += ALLOCATIONS.replace(0);
                }
                let ticket = driver.post(0, request).map_err(|(error, _)| error).unwrap();
                driver.kick(0).unwrap();
                let finished = driver.wait(ticket).unwrap();
                assert_eq!(finished.status, None);
                request = finished.request;
            }
            assert_eq!(ALLOCATIONS.get(), 0, "{name}, packed: {packed}");
        }
        assert_ne!(warming_up, 0, "nothing is counted");
    }
}
