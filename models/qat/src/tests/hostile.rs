//! Requests and registers that no driver would write.

use proptest::prelude::*;
use understudy_client::platform::Platform;
use understudy_client::qat::{PublicKey, message, ring, status};
use understudy_simulation::Hooks;

use super::{TestDriver, counter, driver, null};

/// Where requests find memory: everything in it is an address in it.
fn memory(driver: &mut TestDriver) -> u64 {
    let buffer = driver.platform.dma_alloc(1 << 16, 4096).unwrap();
    let words = (0..1 << 13).flat_map(|word: u64| (buffer.iova + word % 997 * 8).to_le_bytes());
    driver.platform.dma_write(buffer.iova, &words.collect::<Vec<_>>()).unwrap();
    buffer.iova
}

/// A request that is in order, of one of the services, on its pair.
fn request(driver: &mut TestDriver, kind: u8, at: u64) -> (u16, Vec<u8>) {
    let buffers = message::Buffers {
        opaque: 1,
        source: at,
        destination: at + 4096,
        source_len: 1024,
        destination_len: 1024,
        lists: kind & 1 != 0,
    };
    match kind / 2 {
        0 | 3..=5 => {
            use message::{Content, command, flag, hash, mode};
            let aes =
                |mode| Content::default().cipher(message::cipher::AES_128, mode, false, &[0; 16]);
            let sha = |content: Content, mode| {
                content.auth(hash::SHA_1, mode, 64, [&[0; 20], &[0; 20]], 20)
            };
            let digest = flag::IV_INLINE | flag::RETURN_DIGEST;
            let (command, flags, content) = match kind / 2 {
                0 => (command::CIPHER_HASH, digest, sha(aes(mode::CBC), 1)),
                3 => (command::CIPHER, flag::IV_INLINE, aes(mode::XTS)),
                4 => (command::AUTH, digest, sha(Content::default(), 0)),
                _ => {
                    let state: &[u8] =
                        &[[0; 16], [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
                    let content =
                        aes(mode::CTR).auth(hash::GALOIS_128, 1, 0, [&[0; 16], state], 16);
                    (command::CIPHER_HASH, digest | flag::GCM | flag::IV_12_BYTES, content)
                }
            };
            driver.platform.dma_write(at + 8192, &content.bytes).unwrap();
            let destination = if kind / 2 == 0 { buffers.destination } else { at };
            let request = message::Symmetric {
                command,
                flags,
                content: at + 8192,
                content_len: content.bytes.len(),
                control: content.control,
                buffers: message::Buffers { destination, ..buffers },
                cipher: (0, 512),
                auth: (0, 512),
                aad: at + 12288,
                aad_len: 16,
                digest: at + 16384,
                ..message::Symmetric::default()
            };
            (2, request.encode())
        }
        1 => {
            let request = message::Compression {
                command: message::command::DYNAMIC,
                buffers,
                len: 512,
                room: 1024,
                flags: 0x40,
                ..message::Compression::default()
            };
            (6, request.encode())
        }
        _ => {
            let operands = vec![vec![]; 3];
            let request = PublicKey { function: 0x150c_2327, operands, results: vec![64] };
            (0, request.encode(1, at, at + 64))
        }
    }
}

#[test]
fn what_is_not_a_request_is_answered() {
    let mut driver = driver();
    for (pair, len) in [(0, 64), (2, 128), (6, 128)] {
        for (service, flags) in [(1, 0x80), (200, 0x80), (3, 0), (4, 0), (9, 0), (4, 0x7f)] {
            let mut message = null(7, len);
            message[2] = service;
            message[3] = flags;
            let response = driver.run(pair, &message).unwrap();
            assert_ne!(response.status(), 0, "pair {pair}, service {service}");
        }
        // Too short for its service.
        if len == 64 {
            for service in [4, 9] {
                let mut message = null(7, len);
                message[2] = service;
                assert_ne!(driver.run(pair, &message).unwrap().status(), 0);
            }
        }
    }
    assert_eq!(counter(&mut driver, "unknown.errors"), 20);
}

#[test]
fn lists_that_are_too_long_or_out_of_reach_are_errors() {
    let mut driver = driver();
    let at = memory(&mut driver);
    let invalid = status::CRYPTO | status::INVALID;
    for (count, bits) in [(4097_u32, invalid), (u32::MAX, invalid), (4096, status::CRYPTO)] {
        driver.platform.dma_write(at + 8, &count.to_le_bytes()).unwrap();
        let (pair, request) = request(&mut driver, 1, at);
        let response = driver.run(pair, &request).unwrap();
        assert_eq!(response.status() & bits, bits, "{count}");
    }
}

/// Where both are to be at one place, which no driver asks for, the digest is there in the end.
#[test]
fn the_digest_is_written_after_the_data() {
    const GCM: u8 = 10;
    for (kind, to) in [(0, 4096), (GCM, 0), (GCM, 4096)] {
        let [apart, inside] = [16384, to + 64].map(|digest| {
            let mut driver = driver();
            let at = memory(&mut driver);
            let (pair, mut request) = request(&mut driver, kind, at);
            request[40..48].copy_from_slice(&(at + to).to_le_bytes());
            request[96..104].copy_from_slice(&(at + digest).to_le_bytes());
            assert_eq!(driver.run(pair, &request).unwrap().status(), 0);
            let mut made = [0; 16];
            driver.platform.dma_read(at + digest, &mut made).unwrap();
            made
        });
        assert_eq!(apart, inside, "kind {kind} to {to}");
    }
}

/// A request and the memory that it is about, with changes.
fn noise(
    driver: &mut TestDriver,
    kind: u8,
    at: u64,
    edits: &[(usize, u8)],
    words: &[(u64, u32)],
) -> (u16, Vec<u8>) {
    let (pair, mut request) = request(driver, kind, at);
    for (offset, word) in words {
        driver.platform.dma_write(at + offset, &word.to_le_bytes()).unwrap();
    }
    for (offset, value) in edits {
        let at = offset % request.len();
        if !matches!(at, 40..48 | 96..104) {
            request[at] = *value;
        }
    }
    (pair, request)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// A host that lends its memory sees the same response, and the same in all of it, as one that
    /// has it copied.
    #[test]
    fn lending_does_not_show(
        kind in 0_u8..12,
        edits in prop::collection::vec((0_usize..128, any::<u8>()), 0..4),
        words in prop::collection::vec((0_u64..0x5000, any::<u32>()), 0..20),
    ) {
        struct Allow;
        impl Hooks for Allow {}
        let [lent, copied] = [false, true].map(|hooked| {
            let mut driver = driver();
            if hooked {
                driver.platform.simulation().host_mut().set_hooks(Some(Box::new(Allow)));
            }
            let at = memory(&mut driver);
            let (pair, request) = noise(&mut driver, kind, at, &edits, &words);
            let response = driver.run(pair, &request).unwrap();
            let mut after = vec![0; 1 << 16];
            driver.platform.dma_read(at, &mut after).unwrap();
            (response, after)
        });
        prop_assert!(lent == copied);
    }

    /// Noise in requests: each is answered once, and the device goes on. But for the addresses of
    /// destination and digest: a driver that lets its device write over the ring sees anything.
    #[test]
    fn noise_is_answered(
        kind in 0_u8..12,
        edits in prop::collection::vec((0_usize..128, any::<u8>()), 1..8),
        words in prop::collection::vec((0_u64..0x5000, any::<u32>()), 0..40),
    ) {
        let mut driver = driver();
        let at = memory(&mut driver);
        let (pair, request) = noise(&mut driver, kind, at, &edits, &words);
        driver.run(pair, &request).unwrap();
        prop_assert_eq!(counter(&mut driver, "responses"), 1);
        driver.run(pair, &null(2, request.len())).unwrap();
        prop_assert!(driver.take(pair).unwrap().is_none());
    }

    /// Noise in registers: nothing panics, nothing loops, and a new set-up works.
    #[test]
    fn registers_take_anything(
        writes in prop::collection::vec((any::<bool>(), 0_u64..0x220, any::<u32>()), 1..60),
        sparse in any::<bool>(),
    ) {
        let mut driver = driver();
        for (bar, offset, value) in writes {
            let value = if sparse { value & value.rotate_left(9) & value.rotate_left(14) } else { value };
            let (bar, offset) = if bar { (0, offset & !3) } else { (2, 0x200 + offset % 3 * 4) };
            // Where there is no register, the access is refused.
            let _ = driver.write(bar, offset, value);
            let _ = driver.read(bar, offset);
            let deadline = driver.platform.now().plus(10_000);
            driver.platform.idle(deadline).unwrap();
        }
        driver.platform.simulation().reset(understudy_device::ResetKind::Function);
        let platform = driver.into_platform();
        let mut driver = TestDriver::new(platform, Default::default()).unwrap();
        driver.introduce().unwrap();
        driver.open(4, 16, 128).unwrap();
        driver.run(4, &null(1, 128)).unwrap();
        prop_assert_eq!(driver.read(0, ring::E_STAT).unwrap(), 0xffff);
    }
}
