//! Our small QAT driver.

use understudy_client::DriverError;
use understudy_client::qat::message::{command, compression_flag as flag};
use understudy_client::qat::{CompressionCall, Driver, Options};
use understudy_device::DeviceModel;
use understudy_qat::{Parameters, Qat};

use crate::platform::FuzzPlatform;
use crate::program::Call;
use crate::target::Target;

/// `understudy_client::qat`. The first call chooses interrupts and lists.
#[derive(Debug, Clone, Copy)]
pub struct QatDriver;

impl Target for QatDriver {
    fn name(&self) -> &str {
        "qat"
    }

    fn model(&self) -> Result<Box<dyn DeviceModel>, String> {
        let model = Qat::new(Parameters::default()).map_err(|error| error.to_string())?;
        Ok(Box::new(model))
    }

    fn drive(&self, device: &mut FuzzPlatform, calls: &[Call]) -> Result<(), String> {
        let how = calls.first().map_or(0, |call| call.1);
        let options = Options {
            interrupts: how & 1 != 0,
            piece: (how & 2 != 0).then_some(64),
            timeout_nanos: 100_000_000,
        };
        let mut driver = Driver::new(device, options).map_err(|error| error.to_string())?;
        driver.introduce().map_err(|error| error.to_string())?;
        driver.open(6, 16, 128).map_err(|error| error.to_string())?;
        for call in calls {
            make(&mut driver, *call).map_err(|error| error.to_string())?;
        }
        driver.close(6).map_err(|error| error.to_string())
    }
}

fn make(driver: &mut Driver<&mut FuzzPlatform>, call: Call) -> Result<(), DriverError> {
    let source = super::pattern(call.1 % 1024);
    match call.0 % 8 {
        0 => driver.introduce().map(|_| ()),
        1 => match driver.block(u32::from(call.1 % 8)) {
            // Not every block is there.
            Ok(_) | Err(DriverError::Missing(_)) => Ok(()),
            Err(error) => Err(error),
        },
        2 => {
            driver.close(6)?;
            driver.open(6, 16, 128)
        }
        3 | 4 => driver.mailbox().map(|_| ()),
        kind => {
            let flags = flag::START | flag::END | flag::FINAL_BLOCK;
            let command = if kind == 5 { command::DECOMPRESS } else { command::STATIC };
            let room = source.len() + 64;
            let call =
                CompressionCall { command, state: None, depth: 1, source: &source, room, flags };
            let found = driver.compression(&call)?;
            if found.data.len() > room {
                driver.platform.wrong("a result is longer than its buffer", "");
            }
            Ok(())
        }
    }
}
