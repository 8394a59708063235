//! The function against a driver that was written apart from it, in a simulated host.

mod boot;
mod bridge;
mod control;
mod hostile;
mod network;

use understudy_client::SimulationPlatform;
use understudy_client::qaic::{Activation, Driver, Options};
use understudy_device::State;

use crate::{Boot, Parameters, Qaic};

type TestDriver = Driver<SimulationPlatform>;

fn bare_driver(parameters: Parameters, options: Options) -> TestDriver {
    let model = Qaic::new(parameters).unwrap();
    let platform = SimulationPlatform::new(Box::new(model), 1).unwrap();
    Driver::new(platform, options).unwrap()
}

fn amss() -> Parameters {
    Parameters { boot: Boot::Amss, ..Parameters::default() }
}

/// Booted straight from runtime firmware.
fn driver() -> TestDriver {
    let mut driver = bare_driver(amss(), Options::default());
    driver.power_up().unwrap();
    driver
}

fn inspect(driver: &mut TestDriver) -> State {
    driver.host.platform.simulation().function().inspect()
}

fn counter(driver: &mut TestDriver, name: &str) -> u64 {
    inspect(driver).counter(name).unwrap_or_else(|| panic!("no counter {name}"))
}

/// A network that doubles four numbers, active for user 1.
fn doubler(driver: &mut TestDriver) -> Activation {
    let program = driver.load(1, &network::doubler(), 1 << 20, 64).unwrap().unwrap();
    driver.activate(1, program, 64).unwrap().unwrap()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
