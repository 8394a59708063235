//! Our small virtio-crypto driver.

use understudy_client::virtio::{Completion, QueueOptions};
use understudy_client::virtio_crypto::{
    CipherKey, CryptoError, Direction, Driver, HashKey, MacKey, Operation, Options, Parameters,
    Scatter, Session, Target as Mode, cipher, hash, mac,
};
use understudy_device::DeviceModel;
use understudy_virtio_crypto::{Parameters as ModelParameters, VirtioCrypto};

use crate::platform::FuzzPlatform;
use crate::program::Call;
use crate::target::Target;

/// `understudy_client::virtio_crypto`. The first call chooses ring layout and interrupts.
#[derive(Debug, Clone, Copy)]
pub struct VirtioCryptoDriver;

impl Target for VirtioCryptoDriver {
    fn name(&self) -> &str {
        "virtio-crypto"
    }

    fn model(&self) -> Result<Box<dyn DeviceModel>, String> {
        model(32)
    }

    fn drive(&self, device: &mut FuzzPlatform, calls: &[Call]) -> Result<(), String> {
        let how = calls.first().map_or(0, |call| call.1);
        let mut driver = Driver::new(device, options(how)).map_err(|error| error.to_string())?;
        let mut session = None;
        for call in calls {
            if let Err(CryptoError::Driver(error)) = make(&mut driver, *call, &mut session) {
                return Err(error.to_string());
            }
        }
        driver.shut_down().map(|_| ()).map_err(|error| error.to_string())
    }
}

/// A model with small queues and few sessions.
pub(super) fn model(queue_size: u16) -> Result<Box<dyn DeviceModel>, String> {
    let parameters = ModelParameters { queue_size, max_sessions: 16, ..ModelParameters::default() };
    let model = VirtioCrypto::new(parameters).map_err(|error| error.to_string())?;
    Ok(Box::new(model))
}

fn options(how: u16) -> Options {
    let bit = |at: u16| how >> at & 1 != 0;
    let completion = match how >> 3 & 3 {
        0 | 1 => Completion::Polling,
        2 => Completion::Intx,
        _ => Completion::Msix,
    };
    Options {
        queues: QueueOptions { packed: bit(0), indirect: bit(1), event_idx: bit(2) },
        // Three requests at once, whichever way they are cut up.
        queue_size: 32,
        completion,
        scatter: if bit(5) { Scatter::Merged } else { Scatter::Fields },
        timeout_nanos: 100_000_000,
        ..Options::default()
    }
}

fn make(
    driver: &mut Driver<&mut FuzzPlatform>,
    call: Call,
    session: &mut Option<Session>,
) -> Result<(), CryptoError> {
    let direction = Direction::Encrypt;
    let key =
        Parameters::Cipher(CipherKey { algorithm: cipher::AES_CBC, direction, key: vec![7; 16] });
    let src = super::pattern(call.1 % 512);
    match call.0 % 8 {
        0 => *session = Some(driver.create_session(&key)?),
        1 => {
            if let Some(session) = session.take() {
                driver.destroy_session(session)?;
            }
        }
        2 | 3 => {
            let mode = session.map_or(Mode::Stateless(&key), Mode::Session);
            let len = src.len() / 16 * 16;
            let found = driver.cipher(mode, direction, &[9; 16], &src[..len])?;
            check(driver, found.len() == len, "a cipher's result has another length");
        }
        4 => {
            let key = HashKey { algorithm: hash::SHA_256, result_len: 32 };
            let found = driver.hash(Mode::Stateless(&Parameters::Hash(key)), &src, 32)?;
            check(driver, found.len() == 32, "a digest has another length");
        }
        5 => {
            let key = MacKey { algorithm: mac::HMAC_SHA1, result_len: 20, key: vec![3; 20] };
            let found = driver.mac(Mode::Stateless(&Parameters::Mac(key)), &src, 20)?;
            check(driver, found.len() == 20, "a tag has another length");
        }
        6 => several(driver, &key, &src)?,
        _ => {
            while let Some(finished) = driver.reap()? {
                let _ = driver.result(finished);
            }
        }
    }
    Ok(())
}

/// A few requests at once, answered in any order.
fn several(
    driver: &mut Driver<&mut FuzzPlatform>,
    key: &Parameters,
    src: &[u8],
) -> Result<(), CryptoError> {
    let mut tickets = Vec::new();
    for part in src.chunks(32).take(3) {
        let operation = Operation::Cipher {
            direction: Direction::Encrypt,
            iv: &[1; 16],
            src: &part[..part.len() / 16 * 16],
        };
        tickets.push(driver.submit(0, Mode::Stateless(key), &operation)?);
    }
    for ticket in tickets.into_iter().rev() {
        let finished = driver.wait(ticket)?;
        let _ = driver.result(finished);
    }
    Ok(())
}

fn check(driver: &mut Driver<&mut FuzzPlatform>, holds: bool, clause: &str) {
    if !holds {
        driver.device.platform.wrong(clause, "");
    }
}
