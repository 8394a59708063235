//! A driver to fuzz.

use understudy_device::DeviceModel;

use crate::platform::FuzzPlatform;
use crate::program::Call;

/// A user-space driver, and the model that it runs on.
pub trait Target: Send + Sync {
    /// Its name, as in findings.
    fn name(&self) -> &str;

    /// A model at power-on.
    ///
    /// # Errors
    /// Why there is none.
    fn model(&self) -> Result<Box<dyn DeviceModel>, String>;

    /// Has the driver find the device, do what it is asked, and let the device go.
    ///
    /// An error that the driver reports is no defect: it is what drivers are for. Defects are
    /// panics, what the platform sees, and what the target reports with
    /// [`FuzzPlatform::wrong`].
    ///
    /// # Errors
    /// The driver's error, in words in which numbers do not matter.
    fn drive(&self, device: &mut FuzzPlatform, calls: &[Call]) -> Result<(), String>;

    /// Whether the driver gives all DMA memory back, also when it fails.
    fn must_free(&self) -> bool {
        false
    }

    /// Kinds of calls that it knows: `Call.0` is taken modulo this.
    fn calls(&self) -> u8 {
        8
    }

    /// Calls of the platform that a run may make.
    fn budget(&self) -> u32 {
        crate::platform::DEFAULT_BUDGET
    }
}
