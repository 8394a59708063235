//! Error statuses, each provoked.

use understudy_client::DriverError;
use understudy_client::virtio_crypto::{
    AeadKey, Akcipher, AkcipherKey, CipherKey, CryptoError, Direction, HashKey, KeyKind, Operation,
    Options, Parameters, Scheme, Session, Status, Target, aead, akcipher, cipher, feature, hash,
    request, service,
};
use understudy_virtio_crypto::Parameters as DeviceParameters;

use crate::rig::{ALL, Rig};

fn aes(algorithm: u32, key: &[u8]) -> Parameters {
    let direction = Direction::Encrypt;
    Parameters::Cipher(CipherKey { algorithm, direction, key: key.to_vec() })
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, CryptoError>, status: Status) {
    match result {
        Err(CryptoError::Status(found)) => assert_eq!(found, status),
        other => panic!("{other:?} instead of {status:?}"),
    }
}

#[test]
fn every_status_is_reported_and_the_device_goes_on() {
    for transport in ALL {
        let mut rig = Rig::plain(transport);
        let driver = &mut rig.driver;
        let good = aes(cipher::AES_CBC, &[1; 16]);
        let iv = [0; 16];
        let encrypt = Direction::Encrypt;

        // NOTSUPP: an algorithm that is not announced, in both modes.
        let unknown = aes(cipher::KASUMI_F8, &[1; 16]);
        refused(driver.create_session(&unknown), Status::NotSupp);
        refused(
            driver.cipher(Target::Stateless(&unknown), encrypt, &iv, &[0; 16]),
            Status::NotSupp,
        );
        // ERR: a key length that the cipher does not have; not whole blocks.
        refused(driver.create_session(&aes(cipher::AES_CBC, &[1; 15])), Status::Err);
        refused(driver.cipher(Target::Stateless(&good), encrypt, &iv, &[0; 17]), Status::Err);
        refused(driver.cipher(Target::Stateless(&good), encrypt, &iv[..8], &[0; 16]), Status::Err);
        // INVSESS: never created; of another service; destroyed.
        let nowhere = Session { id: 0xdead_beef, service: service::CIPHER };
        refused(driver.cipher(Target::Session(nowhere), encrypt, &iv, &[0; 16]), Status::InvSess);
        let digest = HashKey { algorithm: hash::SHA_256, result_len: 32 };
        let digest = driver.create_session(&Parameters::Hash(digest)).unwrap();
        refused(driver.cipher(Target::Session(digest), encrypt, &iv, &[0; 16]), Status::InvSess);
        driver.destroy_session(digest).unwrap();
        refused(driver.hash(Target::Session(digest), b"abc", 32), Status::InvSess);
        assert!(driver.destroy_session(digest).is_err());
        // BADMSG: a tag that is wrong.
        let sealing = AeadKey {
            algorithm: aead::GCM,
            direction: Direction::Decrypt,
            key: vec![1; 16],
            tag_len: 16,
            aad_len: 0,
        };
        let sealing = Parameters::Aead(sealing);
        let target = Target::Stateless(&sealing);
        let opened = driver.aead(target, Direction::Decrypt, &[0; 12], &[], &[0; 32], 16);
        refused(opened, Status::BadMsg);
        // And after all that:
        driver.cipher(Target::Stateless(&good), encrypt, &iv, &[0; 16]).unwrap();
    }
}

#[test]
fn rsa_refuses_wrong_signatures_keys_and_operations() {
    let key = understudy_engines::vectors::rsa_keys().unwrap();
    let key = key.iter().find(|key| !key.private_key.is_empty()).unwrap();
    let parameters = |padding, kind, der: &[u8]| {
        let scheme = Scheme::Rsa { padding, hash: akcipher::RSA_SHA256 };
        Parameters::Akcipher(AkcipherKey { scheme, kind, key: der.to_vec() })
    };
    for transport in ALL {
        let mut rig = Rig::plain(transport);
        let driver = &mut rig.driver;
        let public = parameters(akcipher::RSA_PKCS1, KeyKind::Public, &key.public_key);
        let wrong = driver.verify(Target::Stateless(&public), &[1; 128], &[2; 32]);
        refused(wrong, Status::KeyRejected);
        // A public key cannot decrypt; a raw session cannot sign.
        let target = Target::Stateless(&public);
        assert!(driver.akcipher(target, Akcipher::Decrypt, &[1; 128], 128).is_err());
        let raw = parameters(akcipher::RSA_RAW, KeyKind::Private, &key.private_key);
        refused(
            driver.akcipher(Target::Stateless(&raw), Akcipher::Sign, &[1; 32], 128),
            Status::NotSupp,
        );
        let nonsense = parameters(akcipher::RSA_PKCS1, KeyKind::Public, b"not DER");
        refused(driver.create_session(&nonsense), Status::Err);
        let ecdsa = AkcipherKey {
            scheme: Scheme::Ecdsa { curve: akcipher::P192 },
            kind: KeyKind::Public,
            key: vec![4; 65],
        };
        refused(driver.create_session(&Parameters::Akcipher(ecdsa)), Status::NotSupp);
    }
}

#[test]
fn sessions_run_out_and_come_back() {
    let parameters = DeviceParameters { max_sessions: 3, ..DeviceParameters::default() };
    for transport in ALL {
        let mut rig = Rig::new(transport, parameters.clone(), Options::default());
        let driver = &mut rig.driver;
        let key = aes(cipher::AES_CBC, &[1; 16]);
        let held: Vec<_> = (0..3).map(|_| driver.create_session(&key).unwrap()).collect();
        refused(driver.create_session(&key), Status::NoSpc);
        driver.destroy_session(held[1]).unwrap();
        let again = driver.create_session(&key).unwrap();
        assert!(again != held[0] && again != held[2]);
    }
}

#[test]
fn stateless_requests_need_their_feature() {
    let options = Options { stateless: feature::HASH_STATELESS, ..Options::default() };
    for transport in ALL {
        let mut rig = Rig::new(transport, DeviceParameters::default(), options);
        let driver = &mut rig.driver;
        let key = aes(cipher::AES_CBC, &[1; 16]);
        let target = Target::Stateless(&key);
        let result = driver.cipher(target, Direction::Encrypt, &[0; 16], &[0; 16]);
        refused(result, Status::NotSupp);
        let digest = HashKey { algorithm: hash::SHA_256, result_len: 32 };
        let digest = Parameters::Hash(digest);
        driver.hash(Target::Stateless(&digest), b"abc", 32).unwrap();
    }
}

/// Requests that no driver would send; each is answered or ends in a reset, and nothing hangs.
#[test]
fn malformed_requests_are_answered() {
    let key = aes(cipher::AES_CBC, &[1; 16]);
    let operation =
        Operation::Cipher { direction: Direction::Encrypt, iv: &[0; 16], src: &[0; 64] };
    for transport in ALL {
        let mut rig = Rig::plain(transport);
        let driver = &mut rig.driver;
        let good =
            request::data_request(driver.features(), Target::Stateless(&key), &operation).unwrap();
        // Cut short anywhere: ERR, since something is always missing.
        for len in (0..good.readable.concat().len()).step_by(7).skip(1) {
            let mut bytes = good.readable.concat();
            bytes.truncate(len);
            let mut cut = good.clone();
            cut.readable = vec![bytes];
            let ticket = driver.submit_encoded(0, &cut).unwrap();
            let finished = driver.wait(ticket).unwrap();
            assert_eq!(finished.status, Some(Status::Err), "cut to {len} bytes");
            driver.result(finished).unwrap_err();
        }
        // No room for the result, but for the status.
        let mut narrow = good.clone();
        narrow.writable = vec![1];
        let ticket = driver.submit_encoded(0, &narrow).unwrap();
        assert_eq!(driver.wait(ticket).unwrap().status, Some(Status::Err));
        // An opcode that does not exist.
        let mut strange = good.clone();
        strange.readable[0][..4].copy_from_slice(&0x0733u32.to_le_bytes());
        let ticket = driver.submit_encoded(0, &strange).unwrap();
        assert_eq!(driver.wait(ticket).unwrap().status, Some(Status::NotSupp));
        // Lengths that nothing backs.
        for word in 0..19 {
            let mut huge = good.clone();
            huge.readable[0][24 + 4 * word..28 + 4 * word].fill(0xff);
            let ticket = driver.submit_encoded(0, &huge).unwrap();
            let finished = driver.wait(ticket).unwrap();
            driver.result(finished).ok();
        }
        let target = Target::Stateless(&key);
        driver.cipher(target, Direction::Encrypt, &[0; 16], &[0; 16]).unwrap();
        // No room for the status either: the device cannot answer at all.
        let mut silent = good.clone();
        silent.writable = vec![];
        let ticket = driver.submit_encoded(0, &silent).unwrap();
        let error = driver.wait(ticket).unwrap_err();
        assert!(matches!(error, DriverError::NeedsReset), "{error}");
    }
}
