//! Models from the catalog, behind sockets.

use std::path::Path;

use serde_json::Value;
use understudy_catalog::{CatalogError, DEVICES, Device, find};
use understudy_device::DeviceModel;
use understudy_pci::PciFunction;
use understudy_server::{BindError, DeviceServer, Options};

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

/// Why a device is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error(transparent)]
    Build(#[from] CatalogError),
    #[error("the model cannot be a PCI function: {0}")]
    Identity(#[from] understudy_device::IdentityError),
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
    bind(device.build(parameters)?, path, options)
}

/// Serves a model at a path.
pub(crate) fn bind(
    model: Box<dyn DeviceModel>,
    path: &Path,
    options: Options,
) -> Result<DeviceServer, HostError> {
    Ok(DeviceServer::bind(path, PciFunction::new(model)?, options)?)
}

impl HostError {
    /// For the user, who asked for a socket at this path.
    pub(crate) fn into_failure(self, path: &Path) -> Failure {
        let place = path.display();
        match self {
            Self::Build(error) => Failure::usage(error, place, "see understudy schema config"),
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
