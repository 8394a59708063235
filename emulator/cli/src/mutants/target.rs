//! A mutant behind a socket.

use std::path::{Path, PathBuf};

use serde_json::Value;
use understudy_catalog::Device;
use understudy_conformance::Target;
use understudy_mutants::wire::{Change, Proxy, Wrong};
use understudy_mutants::{How, Mutant, inject};
use understudy_pci::PciFunction;
use understudy_server::{DeviceServer, Options};
use understudy_trace::TracedFunction;

use crate::failure::Failure;

/// A mutant, or a device with nothing wrong, in a folder of its own.
pub(super) struct Mutated {
    device: &'static Device,
    mutant: Option<Mutant>,
    path: PathBuf,
    folder: tempfile::TempDir,
    // Before the server that it is in front of.
    proxy: Option<Proxy>,
    server: Option<DeviceServer>,
}

impl Mutated {
    pub(super) fn start(device: &'static Device, mutant: Option<&Mutant>) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("understudy-").tempdir().map_err(|error| {
            Failure::environment("cannot make a folder", std::env::temp_dir().display(), error)
        })?;
        let path = folder.path().join("device.sock");
        let mutant = mutant.cloned();
        let mut target = Self { device, mutant, path, folder, proxy: None, server: None };
        target.serve().map_err(|error| {
            let name = target.mutant.as_ref().map_or(device.name, |mutant| mutant.id.as_str());
            Failure::environment("cannot serve a mutant", name, error)
        })?;
        Ok(target)
    }

    /// A server with nothing wrong, behind somebody in the middle who changes nothing.
    pub(super) fn proxied(device: &'static Device) -> Result<Self, Failure> {
        let how = How::Wire(Change { command: 0, wrong: Wrong::Nothing });
        let nothing = Mutant { id: "nothing/at-all".into(), what: "nothing is wrong".into(), how };
        Self::start(device, Some(&nothing))
    }

    fn serve(&mut self) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        (self.proxy, self.server) = (None, None);
        let mut model = self.device.build(Value::Null).map_err(|error| text(&error))?;
        let how = self.mutant.as_ref().map(|mutant| &mutant.how);
        if let Some(How::Identity(wrong)) = how {
            model = wrong.wrap(model).ok_or("there can be no such function")?;
        }
        let mut function = PciFunction::new(model).map_err(|error| text(&error))?;
        if let Some(How::Function(change)) = how {
            inject(&mut function, change.clone(), self.device.vocabulary);
        }
        let options = Options { write_multiple: true, ..Options::default() };
        let wire = match how {
            Some(How::Wire(change)) => Some(*change),
            _ => None,
        };
        let inner = match wire {
            Some(_) => self.folder.path().join("server.sock"),
            None => self.path.clone(),
        };
        let server = DeviceServer::bind(&inner, TracedFunction::from(function), options)
            .map_err(|error| text(&error))?;
        self.server = Some(server);
        if let Some(change) = wire {
            let proxy = Proxy::start(&self.path, &inner, change);
            self.proxy = Some(proxy.map_err(|error| text(&error))?);
        }
        Ok(())
    }
}

impl Target for Mutated {
    fn name(&self) -> &str {
        self.device.name
    }

    fn socket(&self) -> &Path {
        &self.path
    }

    fn replace(&mut self) -> Result<(), String> {
        self.serve()
    }
}
