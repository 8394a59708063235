//! The device against a driver that was written apart from it, in a simulated host.

mod chains;
mod hostile;
mod protocol;
mod vectors;

use understudy_client::SimulationPlatform;
use understudy_client::virtio::QueueOptions;
use understudy_client::virtio_crypto::{
    CryptoError, Driver, Operation, Options, Parameters as SessionParameters, Status, Target,
};
use understudy_device::State;

use crate::{Parameters, VirtioCrypto};

type TestDriver = Driver<SimulationPlatform>;

fn driver_with(parameters: Parameters, options: Options, seed: u64) -> TestDriver {
    let model = VirtioCrypto::new(parameters).unwrap();
    let platform = SimulationPlatform::new(Box::new(model), seed).unwrap();
    Driver::new(platform, options).unwrap()
}

fn driver(options: Options) -> TestDriver {
    driver_with(Parameters::default(), options, 1)
}

/// Packed queues, all else as by default.
fn packed() -> QueueOptions {
    QueueOptions { packed: true, indirect: false, event_idx: true }
}

/// As Linux and DPDK: no `REVISION_1`, no stateless mode.
fn legacy() -> Options {
    Options { revision_1: false, stateless: 0, ..Options::default() }
}

/// Runs one operation with these parameters, in a session of its own or stateless.
fn run(
    driver: &mut TestDriver,
    stateless: bool,
    parameters: &SessionParameters,
    operation: &Operation<'_>,
) -> Result<Vec<u8>, CryptoError> {
    if stateless {
        return driver.run(Target::Stateless(parameters), operation);
    }
    let session = driver.create_session(parameters)?;
    let result = driver.run(Target::Session(session), operation);
    driver.destroy_session(session).unwrap();
    result
}

/// The status of a failed request; anything else wrong is a failed test.
fn status<T: std::fmt::Debug>(result: Result<T, CryptoError>) -> Status {
    let error = result.expect_err("the device accepted it");
    error.status().unwrap_or_else(|| panic!("{error}"))
}

fn inspect(driver: &mut TestDriver) -> State {
    driver.device.platform.simulation().function().inspect()
}

fn counter(driver: &mut TestDriver, name: &str) -> u64 {
    inspect(driver).counter(name).unwrap_or_else(|| panic!("no counter {name}"))
}

/// Bytes that differ from their neighbours.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 256) % 256).unwrap() ^ seed).collect()
}
