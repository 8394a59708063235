//! Models from the catalog, behind sockets.

use std::path::Path;

use serde_json::Value;
use understudy_catalog::{CatalogError, DEVICES, Device, find};
use understudy_device::{DeviceModel, Identity};
use understudy_faults::{Faults, Mistake, Plan};
use understudy_pci::PciFunction;
use understudy_server::{BindError, DeviceServer, Options};
use understudy_trace::TracedFunction;

use crate::failure::Failure;

/// The device of that name, or a failure that names those there are.
pub(crate) fn device(name: &str) -> Result<&'static Device, Failure> {
    find(name).map_err(|error| {
        Failure::usage(error, "command line", format!("one of: {}", names().join(", ")))
    })
}

/// Names of all devices.
pub(crate) fn names() -> Vec<&'static str> {
    DEVICES.iter().map(|device| device.name).collect()
}

/// Vendor and device id, as `lspci -n` writes them. Those of a function: parameters may change them.
pub(crate) fn pci_id(identity: &Identity) -> String {
    format!("{:04x}:{:04x}", identity.vendor_id, identity.device_id)
}

/// Why a device is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error(transparent)]
    Build(#[from] CatalogError),
    #[error("the model cannot be a PCI function: {0}")]
    Identity(#[from] understudy_device::IdentityError),
    #[error("{}", .0.first().map_or_else(String::new, ToString::to_string))]
    Faults(Vec<Mistake>),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Serves a device at a path.
pub(crate) fn serve(
    device: &Device,
    parameters: Value,
    path: &Path,
    options: Options,
) -> Result<DeviceServer, HostError> {
    bind(device, device.build(parameters)?, path, options, None)
}

/// A model of a device as a function, with what goes wrong on purpose.
pub(crate) fn function(
    device: &Device,
    model: Box<dyn DeviceModel>,
    plan: Option<&Plan>,
) -> Result<TracedFunction, HostError> {
    let mut function = PciFunction::new(model)?;
    if let Some(plan) = plan {
        Faults::inject_into(&mut function, plan, device.vocabulary).map_err(HostError::Faults)?;
    }
    Ok(function.into())
}

/// Serves a model of a device at a path, with what goes wrong on purpose.
pub(crate) fn bind(
    device: &Device,
    model: Box<dyn DeviceModel>,
    path: &Path,
    options: Options,
    plan: Option<&Plan>,
) -> Result<DeviceServer, HostError> {
    Ok(DeviceServer::bind(path, function(device, model, plan)?, options)?)
}

impl HostError {
    /// For the user, who asked for a socket at this path.
    pub(crate) fn into_failure(self, path: &Path) -> Failure {
        let place = path.display();
        match self {
            Self::Build(error) => Failure::usage(error, place, "see understudy schema config"),
            Self::Faults(mistakes) => crate::faults::failure(&mistakes, place),
            Self::Identity(error) => Failure::usage(error, place, "other parameters"),
            Self::Bind(BindError::InUse { .. }) => Failure::environment(
                "another server is alive on this socket",
                place,
                "stop it, or choose another path",
            ),
            Self::Bind(BindError::NotASocket { .. }) => Failure::environment(
                "something that is not a socket is in the way",
                place,
                "choose another path, or move it",
            ),
            Self::Bind(BindError::TooLong { .. }) => {
                Failure::usage("the path is too long for a socket", place, "at most 107 bytes")
            }
            Self::Bind(BindError::System { action, source, .. }) => {
                let remedy = if source.kind() == std::io::ErrorKind::NotFound {
                    "a folder that exists".to_owned()
                } else {
                    source.to_string()
                };
                Failure::environment(format!("cannot {action}"), place, remedy)
            }
        }
    }
}
