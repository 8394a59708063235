//! Our small Cloud AI 100 driver.

use understudy_client::DriverError;
use understudy_client::qaic::{Driver, Options, Transaction};
use understudy_device::DeviceModel;
use understudy_qaic::{Boot, Parameters, Qaic};

use crate::platform::FuzzPlatform;
use crate::program::Call;
use crate::target::Target;

/// `understudy_client::qaic`. The first call chooses interrupts.
#[derive(Debug, Clone, Copy)]
pub struct QaicDriver;

impl Target for QaicDriver {
    fn name(&self) -> &str {
        "qaic"
    }

    fn model(&self) -> Result<Box<dyn DeviceModel>, String> {
        let parameters = Parameters { boot: Boot::Amss, ..Parameters::default() };
        let model = Qaic::new(parameters).map_err(|error| error.to_string())?;
        Ok(Box::new(model))
    }

    fn drive(&self, device: &mut FuzzPlatform, calls: &[Call]) -> Result<(), String> {
        let how = calls.first().map_or(0, |call| call.1);
        let options = Options {
            vectors: if how & 1 == 0 { 0 } else { 32 },
            timeout_nanos: 100_000_000,
            ..Options::default()
        };
        let mut driver = Driver::new(device, options).map_err(|error| error.to_string())?;
        driver.power_up().map_err(|error| error.to_string())?;
        for call in calls {
            make(&mut driver, *call).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn make(driver: &mut Driver<&mut FuzzPlatform>, call: Call) -> Result<(), DriverError> {
    let data = super::pattern(call.1 % 512);
    match call.0 % 8 {
        0 => driver.request(0, &[Transaction::new(15, Vec::new())]).map(|_| ()),
        1 => driver.terminate(u32::from(call.1 % 4)),
        2 => driver.load(1, &data, 64, 4).map(|_| ()),
        3 => driver.activate(1, u32::from(call.1 % 4), 16).map(|_| ()),
        4 => driver.exchange(&data).map(|_| ()),
        5 => driver.bridge_read(u32::from(call.1 % 16), 0).map(|_| ()),
        6 => driver.host.reset(),
        _ => driver.request(1, &[Transaction::command(&[u32::from(call.1), 0, 0, 0])]).map(|_| ()),
    }
}
