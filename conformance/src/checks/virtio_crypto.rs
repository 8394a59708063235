//! `virtio-crypto/…`: configuration, sessions, requests and every algorithm (virtio 1.3 §5.9).
//!
//! Under `virtio-crypto/<service>` the number is the algorithm's in the specification, and the
//! check sends published vectors through it: `…/session/3` in sessions, `…/stateless/3` without.

use understudy_client::vfio_user::SocketPlatform;
use understudy_client::virtio_crypto::{
    CryptoError, Driver, Operation, Options, Parameters, Status, Target,
};

use crate::{Check, Context, Stop};

mod algorithms;
mod config;
mod data;
mod ecdsa;
mod rsa;
mod sessions;

pub(super) const CHECKS: &[&[Check]] = &[
    config::CHECKS,
    sessions::CHECKS,
    data::CHECKS,
    algorithms::CIPHERS,
    algorithms::HASHES,
    algorithms::MACS,
    algorithms::AEADS,
    rsa::CHECKS,
    ecdsa::CHECKS,
];

type Crypto = Driver<SocketPlatform>;

/// Services by their bit, and the name of their stateless feature's service.
const SERVICES: [&str; 5] = ["CIPHER", "HASH", "MAC", "AEAD", "AKCIPHER"];

/// A started device without stateless modes.
fn sessions_only(ctx: &Context<'_>) -> Result<Crypto, Stop> {
    ctx.crypto(Options { stateless: 0, ..Options::default() })
}

/// A started device that has negotiated this service's stateless mode.
fn stateless(ctx: &Context<'_>, service: u32) -> Result<Crypto, Stop> {
    ctx.crypto(Options { stateless: 2 << service, ..Options::default() })
}

/// Skips unless the device offers a service.
fn need_service(driver: &Crypto, service: u32) -> Result<(), Stop> {
    if driver.config().services >> service & 1 != 0 {
        return Ok(());
    }
    let name = SERVICES.get(service as usize).unwrap_or(&"?");
    Err(Stop::skip(format!("the device does not offer service {name}")))
}

/// Fails the check unless the device refused with one of these statuses.
fn refused<T>(result: Result<T, CryptoError>, what: &str, allowed: &[Status]) -> Result<(), Stop> {
    let names = || {
        let names: Vec<_> = allowed.iter().map(|status| format!("{status:?}")).collect();
        format!("{what}: status {}", names.join(" or "))
    };
    match result {
        Ok(_) => Err(Stop::fail(names(), "status OK")),
        Err(CryptoError::Status(status)) if allowed.contains(&status) => {
            crate::log::refused(format!("{what} with status {status:?}"));
            Ok(())
        }
        Err(CryptoError::Status(status)) => Err(Stop::fail(names(), format!("{status:?}"))),
        Err(CryptoError::Driver(error)) => Err(Stop::from(error).during(what)),
    }
}

/// Runs an operation in a session of its own, or stateless.
fn run(
    driver: &mut Crypto,
    parameters: &Parameters,
    operation: &Operation<'_>,
    is_stateless: bool,
) -> Result<Vec<u8>, CryptoError> {
    if is_stateless {
        return driver.run(Target::Stateless(parameters), operation);
    }
    let session = driver.create_session(parameters)?;
    let result = driver.run(Target::Session(session), operation);
    driver.destroy_session(session)?;
    result
}
