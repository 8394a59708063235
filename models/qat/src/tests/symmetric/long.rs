//! Long requests, which are jobs.

use understudy_client::platform::Platform;
use understudy_client::qat::message::{self, Buffers, Symmetric};
use understudy_device::DmaFaultKind;

use super::*;

const LEN: usize = 200_000;

fn all() -> (u32, u32) {
    (0, u32::try_from(LEN).unwrap())
}

fn cbc(key: &[u8], iv: &[u8], data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let key = ciphers::Key::new(ciphers::Algorithm::AesCbc, key).unwrap();
    key.apply(ciphers::Direction::Encrypt, iv, &mut data).unwrap();
    data
}

#[test]
fn long_ciphers_and_hashes() {
    let mut driver = driver();
    let (key, iv, data) = (pattern(32, 1), pattern(16, 2), pattern(LEN, 3));
    let cipher = Content::default().cipher(cipher::AES_256, mode::CBC, false, &key);
    let hash = Content::default().plain_hash(Hash::Sha256, 32);
    let mut digest = [0; 32];
    hashes::digest(hashes::Algorithm::Sha256, &data, &mut digest).unwrap();
    for (piece, destination) in PIECES.into_iter().zip([None, None, Some(LEN)]) {
        driver.set_piece(piece.map(|len| len.max(1000)));
        let call = SymmetricCall {
            command: command::CIPHER,
            iv: &iv,
            source: &data,
            destination,
            cipher: all(),
            ..SymmetricCall::default()
        };
        let result = run(&mut driver, &cipher, &call);
        assert_eq!(result.response.status(), 0);
        assert!(result.data == cbc(&key, &iv, &data));
        // What lies before stays, in place.
        let rest = SymmetricCall { cipher: (32, all().1 - 32), destination: None, ..call };
        let result = run(&mut driver, &cipher, &rest);
        assert!(result.data[..32] == data[..32]);
        assert!(result.data[32..] == cbc(&key, &iv, &data[32..]));
        let call = SymmetricCall {
            command: command::AUTH,
            flags: flag::RETURN_DIGEST,
            source: &data,
            auth: all(),
            digest: &[0; 32],
            ..SymmetricCall::default()
        };
        let result = run(&mut driver, &hash, &call);
        assert_eq!((result.response.status(), result.digest.as_slice()), (0, &digest[..]));
        assert!(result.data == data);
    }
    assert_eq!(counter(&mut driver, "cipher.bytes"), 6 * LEN as u64);
}

/// With the digest in the buffer: returned, compared, and forged.
#[test]
fn a_long_request_whose_digest_does_not_match_writes_nothing() {
    let mut driver = driver();
    let (key, iv, mac_key) = (pattern(16, 1), pattern(16, 2), pattern(20, 3));
    let open = [pattern(LEN, 4), vec![0; 20]].concat();
    let seals = Content::default().cipher(cipher::AES_128, mode::CBC, false, &key);
    let seals = seals.hmac(Hash::Sha1, &mac_key, 20);
    let opens = Content::default().hmac(Hash::Sha1, &mac_key, 20);
    let opens = opens.cipher(cipher::AES_128, mode::CBC, true, &key);
    let call = |command, digest, source| SymmetricCall {
        command,
        flags: digest | flag::DIGEST_IN_BUFFER,
        iv: &iv,
        source,
        cipher: all(),
        auth: all(),
        ..SymmetricCall::default()
    };
    let sealing = call(command::CIPHER_HASH, flag::RETURN_DIGEST, &open[..]);
    let sealed = run(&mut driver, &seals, &sealing).data;
    assert!(sealed[..LEN] == cbc(&key, &iv, &open[..LEN]));
    let opening = call(command::HASH_CIPHER, flag::COMPARE_DIGEST, &sealed[..]);
    let result = run(&mut driver, &opens, &opening);
    assert_eq!(result.response.status(), 0);
    assert!(result.data[..LEN] == open[..LEN]);
    let mut forged = sealed.clone();
    forged[LEN] ^= 1;
    let result = run(&mut driver, &opens, &SymmetricCall { source: &forged, ..opening });
    assert_eq!(result.response.status(), status::CRYPTO);
    assert!(result.data == forged);
    assert_eq!(counter(&mut driver, "mismatches"), 1);
}

/// A request of `len` bytes in place that takes the engine long.
fn slow(driver: &mut TestDriver, len: usize) -> Vec<u8> {
    let content = Content::default().cipher(cipher::TDES, mode::CBC, false, &[1; 24]);
    let platform = &mut driver.platform;
    let [described, data] =
        [content.bytes.len(), len].map(|len| platform.dma_alloc(len, 4096).unwrap());
    platform.dma_write(described.iova, &content.bytes).unwrap();
    let len = u32::try_from(len).unwrap();
    let buffers = Buffers {
        opaque: driver.opaque(),
        source: data.iova,
        destination: data.iova,
        source_len: len,
        destination_len: len,
        lists: false,
    };
    let request = Symmetric {
        command: command::CIPHER,
        flags: message::flag::IV_INLINE,
        content: described.iova,
        content_len: content.bytes.len(),
        control: content.control,
        buffers,
        cipher: (0, len),
        ..Symmetric::default()
    };
    request.encode()
}

#[test]
fn what_follows_a_long_request_is_done_meanwhile_and_answered_after_it() {
    let mut driver = driver();
    let long = slow(&mut driver, 1 << 20);
    let short = slow(&mut driver, 64);
    for request in [&long, &short] {
        driver.submit(2, request).unwrap();
    }
    let deadline = driver.platform.now().plus(1_000_000);
    let mut seen = false;
    while counter(&mut driver, "responses") == 0 {
        driver.platform.idle(deadline).unwrap();
        seen |= counter(&mut driver, "cipher.bytes") == 64;
    }
    // The seed is fixed, and the job the later of the two in it.
    assert!(seen);
    let opaques = [&long, &short].map(|request| request[24..32].to_vec());
    for opaque in opaques {
        assert_eq!(driver.wait(2).unwrap().opaque().to_le_bytes(), opaque[..]);
    }
}

/// The host answers registers between polls: it must not wait for all that a driver can ask for.
#[test]
fn one_poll_does_not_do_all_requests() {
    let mut driver = driver();
    let request = slow(&mut driver, 64 << 10);
    for _ in 0..60 {
        driver.submit(2, &request).unwrap();
    }
    let before = counter(&mut driver, "cipher.bytes");
    let deadline = driver.platform.now().plus(1_000_000);
    driver.platform.idle(deadline).unwrap();
    let done = counter(&mut driver, "cipher.bytes") - before;
    assert!((1..=17 << 16).contains(&done), "{done}");
    for _ in 0..60 {
        assert_eq!(driver.wait(2).unwrap().status(), 0);
    }
}

#[test]
fn memory_that_goes_away_fails_a_long_request() {
    struct Fault;
    impl understudy_simulation::Hooks for Fault {
        fn dma(
            &mut self,
            _: understudy_device::Nanos,
            access: understudy_simulation::DmaAccess,
        ) -> Result<(), DmaFaultKind> {
            if access.write && access.len > 1 << 17 { Err(DmaFaultKind::Unmapped) } else { Ok(()) }
        }
    }
    let mut driver = driver();
    let request = slow(&mut driver, 1 << 20);
    driver.platform.simulation().host_mut().set_hooks(Some(Box::new(Fault)));
    assert_eq!(driver.run(2, &request).unwrap().status(), status::CRYPTO);
    assert_eq!(counter(&mut driver, "cipher.errors"), 1);
}
