//! Requests that no driver should make.

use proptest::prelude::*;
use understudy_client::error::DriverError;
use understudy_client::platform::Platform;
use understudy_client::virtio_crypto::{
    AeadKey, CipherKey, Direction, Operation, Options, Parameters as Session, Target, request,
};

use super::{TestDriver, counter, driver, legacy, pattern};
use crate::layout::Status;

fn gcm() -> Session {
    let direction = Direction::Encrypt;
    Session::Aead(AeadKey { algorithm: 1, direction, key: pattern(16, 1), tag_len: 16, aad_len: 0 })
}

fn ctr() -> Session {
    let direction = Direction::Encrypt;
    Session::Cipher(CipherKey { algorithm: 4, direction, key: pattern(16, 1) })
}

/// Submits an encoded request and returns its status, or `None` if the device needs a reset.
fn outcome(driver: &mut TestDriver, queue: usize, encoded: &request::Encoded) -> Option<u8> {
    let ticket = driver.submit_encoded(queue, encoded).unwrap();
    match driver.wait(ticket) {
        Ok(finished) => Some(finished.status.map_or(0, |status| status as u8)),
        Err(DriverError::TooShort { .. }) => panic!("no status"),
        Err(_) => {
            assert_eq!(counter(driver, "device.needs_reset"), 1);
            None
        }
    }
}

#[test]
fn a_cut_header_is_an_error() {
    let mut driver = driver(legacy());
    let session = driver.create_session(&ctr()).unwrap();
    let operation =
        Operation::Cipher { direction: Direction::Encrypt, iv: &[0; 16], src: &[0; 16] };
    let encoded = driver.encode(Target::Session(session), &operation).unwrap();
    for len in [1, 23, 24, 71] {
        let mut encoded = encoded.clone();
        encoded.readable.truncate(1);
        encoded.readable[0].truncate(len);
        assert_eq!(outcome(&mut driver, 0, &encoded), Some(Status::Err as u8), "{len} bytes");
    }
    let control = driver.control_queue();
    let create = request::create_session(driver.features(), &ctr());
    for len in [1, 15, 16, 71] {
        let mut create = create.clone();
        create.readable.truncate(1);
        create.readable[0].truncate(len);
        assert_eq!(outcome(&mut driver, control, &create), Some(Status::Err as u8));
    }
}

#[test]
fn without_room_for_a_status_the_device_needs_a_reset() {
    let encoded = |writable: Vec<u32>| request::Encoded {
        readable: vec![vec![0; 72]],
        writable,
        exact: false,
    };
    // Data queue, nothing writable.
    let mut data = driver(legacy());
    assert_eq!(outcome(&mut data, 0, &encoded(vec![])), None);
    // Control queue, not enough for the result of a creation.
    let mut driver = driver(legacy());
    let mut create = request::create_session(driver.features(), &ctr());
    create.writable = vec![15];
    let control = driver.control_queue();
    assert_eq!(outcome(&mut driver, control, &create), None);
    // After a reset all is well.
    let platform = driver.device.platform;
    let mut driver = TestDriver::new(platform, legacy()).unwrap();
    assert!(driver.create_session(&ctr()).is_ok());
}

#[test]
fn memory_out_of_reach_is_an_error_if_the_status_is_not() {
    let mut driver = driver(Options { guard: false, ..legacy() });
    let session = driver.create_session(&ctr()).unwrap();
    let src = pattern(4096, 0);
    let operation = Operation::Cipher { direction: Direction::Encrypt, iv: &[0; 16], src: &src };
    let encoded = driver.encode(Target::Session(session), &operation).unwrap();
    // Header, IV, source; destination, status.
    for (readable, writable) in [(Some(1), None), (Some(2), None), (None, Some(0))] {
        let mut request = driver.prepare(0, &encoded).unwrap();
        if let Some(at) = readable {
            request.readable[at].iova = 0x1000;
        }
        if let Some(at) = writable {
            request.writable[at].iova = 0x1000;
        }
        let status = request.writable[1].iova;
        let ticket = driver.post(0, request).unwrap();
        driver.kick(0).unwrap();
        // The driver cannot read such a request back, but the status is there.
        let _ = driver.wait(ticket);
        let mut byte = [0xff];
        driver.device.platform.dma_read(status, &mut byte).unwrap();
        assert_eq!(byte, [Status::Err as u8]);
    }
    assert_eq!(counter(&mut driver, "device.needs_reset"), 0);
    let mut request = driver.prepare(0, &encoded).unwrap();
    request.writable[1].iova = 0x1000;
    let ticket = driver.post(0, request).unwrap();
    driver.kick(0).unwrap();
    assert!(driver.wait(ticket).is_err());
    assert_eq!(counter(&mut driver, "device.needs_reset"), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Requests with random bytes in headers and parameters: each is answered once with a status
    /// of the enumeration, or breaks the device in the way that is told; nothing panics.
    #[test]
    fn noise_is_answered(
        edits in prop::collection::vec((0_usize..100, any::<u8>()), 1..6),
        aead in any::<bool>(),
        stateless in any::<bool>(),
        control in any::<bool>(),
        room in 0_u32..64,
    ) {
        let mut driver = driver(Options::default());
        let parameters = if aead { gcm() } else { ctr() };
        let session = driver.create_session(&parameters).unwrap();
        let direction = Direction::Encrypt;
        let src = pattern(48, 0);
        let operation = if aead {
            Operation::Aead { direction, iv: &[0; 12], aad: b"a", src: &src, tag_len: 16 }
        } else {
            Operation::Cipher { direction, iv: &[0; 16], src: &src }
        };
        let target =
            if stateless { Target::Stateless(&parameters) } else { Target::Session(session) };
        let (queue, mut encoded) = if control {
            (driver.control_queue(), request::create_session(driver.features(), &parameters))
        } else {
            (0, driver.encode(target, &operation).unwrap())
        };
        for (at, value) in edits {
            let at = at % encoded.readable[0].len();
            // A CREATE that becomes a DESTROY is answered in one byte, where this driver looks for
            // a session.
            let destroys = control && at == 0 && matches!(value, 3 | 5);
            if !destroys {
                encoded.readable[0][at] = value;
            }
        }
        encoded.exact = false;
        if !control {
            encoded.writable.insert(0, room);
            encoded.writable.retain(|len| *len > 0);
        }
        let status = outcome(&mut driver, queue, &encoded);
        prop_assert!(status.is_some_and(|status| status <= 6));
        // And the device still works.
        prop_assert!(driver.create_session(&ctr()).is_ok());
    }
}
