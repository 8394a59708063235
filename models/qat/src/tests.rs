//! The function against a driver that was written apart from it, in a simulated host.

mod compression;
mod hostile;
mod inspection;
mod interrupts;
mod load;
mod mailbox;
mod public_key;
mod rings;
mod symmetric;

use understudy_client::SimulationPlatform;
use understudy_client::qat::{Driver, Options};
use understudy_device::State;

use crate::{Parameters, Qat};

type TestDriver = Driver<SimulationPlatform>;

fn bare_driver(parameters: Parameters, options: Options) -> TestDriver {
    let model = Qat::new(parameters).unwrap();
    let platform = SimulationPlatform::new(Box::new(model), 1).unwrap();
    Driver::new(platform, options).unwrap()
}

/// Introduced, with rings of each service.
fn driver_with(parameters: Parameters, options: Options) -> TestDriver {
    let mut driver = bare_driver(parameters, options);
    driver.introduce().unwrap();
    for (index, message_len) in [(0, 64), (2, 128), (6, 128)] {
        driver.open(index, 64, message_len).unwrap();
    }
    driver
}

fn driver() -> TestDriver {
    driver_with(Parameters::default(), Options::default())
}

fn inspect(driver: &mut TestDriver) -> State {
    driver.platform.simulation().function().inspect()
}

fn counter(driver: &mut TestDriver, name: &str) -> u64 {
    inspect(driver).counter(name).unwrap_or_else(|| panic!("no counter {name}"))
}

/// A request that does nothing but come back.
fn null(opaque: u64, len: usize) -> Vec<u8> {
    let mut message = vec![0; len];
    message[3] = 0x80;
    message[24..32].copy_from_slice(&opaque.to_le_bytes());
    message
}

/// Bytes that differ from their neighbours.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 256) % 256).unwrap() ^ seed).collect()
}

#[test]
fn parameters_out_of_range_are_refused() {
    let defaults = Parameters::default;
    for parameters in [
        Parameters { mailbox_version: 0, ..defaults() },
        Parameters { mailbox_version: 6, ..defaults() },
        Parameters { max_request: 65535, ..defaults() },
        Parameters { max_request: (64 << 20) + 1, ..defaults() },
    ] {
        assert!(Qat::new(parameters).is_err());
    }
}
