//! `understudy serve`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use understudy_faults::Plan;
use understudy_server::{DeviceServer, Options};

use crate::cli::ServeArgs;
use crate::config::{self, Wanted, numbered};
use crate::control::ControlSocket;
use crate::failure::{Failure, Outcome};
use crate::host::HostError;
use crate::trace::Tracing;
use crate::{host, print, trace};

pub(crate) fn run(args: &ServeArgs) -> Outcome {
    let plan = args.faults.plan()?;
    let wanted = match (&args.config, &args.socket) {
        (Some(file), _) => config::read(file)?,
        (None, Some(socket)) => from_arguments(args, socket)?,
        (None, None) => {
            return Err(Failure::usage("no socket", "command line", "--socket or --config"));
        }
    };
    // Before the sockets exist: a signal that comes early must not leave them behind.
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::environment("cannot wait for signals", "process", error))?;
    let many = wanted.len() > 1;
    let mut served = Vec::new();
    for one in wanted {
        served.push(Served::start(one, args, plan.as_ref(), many)?);
    }
    print(&announcement(&served)?)?;
    if let Some(signal) = signals.forever().next() {
        tracing::info!(signal, "stopping");
    }
    for one in served {
        print(&one.stop())?;
    }
    Ok(true)
}

/// A device with both its sockets; dropping it removes them.
struct Served {
    // First, so that it is gone before the device that it speaks for.
    _control: ControlSocket,
    server: DeviceServer,
    tracing: Option<Arc<Tracing>>,
    name: &'static str,
    pci_id: String,
}

impl Served {
    fn start(
        wanted: Wanted,
        args: &ServeArgs,
        plan: Option<&Plan>,
        many: bool,
    ) -> Result<Self, Failure> {
        let Wanted { device, parameters, socket } = wanted;
        let failed = |error: HostError| error.into_failure(&socket);
        let model = device.build(parameters.clone()).map_err(|error| failed(error.into()))?;
        let pci_id = host::pci_id(model.identity());
        let mut function = host::function(device, model, plan).map_err(failed)?;
        let session = trace::Session {
            device,
            parameters: &parameters,
            without_msix: false,
            plan,
            name: format!("served on {}", socket.display()),
        };
        let file = args.trace.trace.as_ref().map(|file| match socket.file_stem() {
            Some(name) if many => trace::with_suffix(file, &name.to_string_lossy()),
            _ => file.clone(),
        });
        let tracing = Tracing::start(&args.trace, args.monitor, file, &session, &mut function)?;
        let tracing = tracing.map(Arc::new);
        let server = DeviceServer::bind(&socket, function, Options::default())
            .map_err(|error| failed(error.into()))?;
        let control = ControlSocket::bind(&server, device, &pci_id, tracing.clone())?;
        Ok(Self { _control: control, server, tracing, name: device.name, pci_id })
    }

    /// Ends it, and says what there is to say.
    fn stop(self) -> String {
        let Self { _control: control, server, tracing, name, .. } = self;
        drop(control);
        if server.stop().is_err() {
            tracing::error!(name, "the device's thread panicked");
        }
        tracing.map(|tracing| tracing.finish()).unwrap_or_default()
    }
}

fn from_arguments(args: &ServeArgs, socket: &Path) -> Result<Vec<Wanted>, Failure> {
    let devices = &args.devices;
    let is_folder = socket.is_dir();
    if devices.len() > 1 && !is_folder {
        let what = format!("{} devices need a folder for their sockets", devices.len());
        return Err(Failure::usage(what, socket.display(), "a folder that exists"));
    }
    let mut taken = BTreeSet::new();
    let mut wanted = Vec::new();
    for name in devices {
        let device = host::device(name)?;
        let path = if is_folder { numbered(socket, name, &taken) } else { socket.to_owned() };
        taken.insert(path.clone());
        wanted.push(Wanted { device, parameters: args.set.of(device)?.into(), socket: path });
    }
    Ok(wanted)
}

/// What is served where, and how QEMU attaches it.
fn announcement(served: &[Served]) -> Result<String, Failure> {
    let mut out = String::new();
    let mut arguments = vec![
        "-M q35 -m 2G".to_owned(),
        "-object memory-backend-memfd,id=mem0,size=2G,share=on -machine memory-backend=mem0"
            .to_owned(),
    ];
    for one in served {
        let path = one.server.path();
        let absolute: PathBuf = absolute(path)
            .map_err(|error| Failure::environment("no absolute path", path.display(), error))?;
        let _ = writeln!(out, "serving {} ({}) on {}", one.name, one.pci_id, absolute.display());
        let socket = json!({ "type": "unix", "path": absolute });
        let device = json!({ "driver": "vfio-user-pci", "socket": socket });
        arguments.push(format!("-device {}", shell_quoted(&device.to_string())));
    }
    let _ = writeln!(out, "attach with QEMU 10.1 or newer:");
    let _ = writeln!(out, "  qemu-system-x86_64 {}", arguments.join(" \\\n    "));
    Ok(out)
}

/// In single quotes, as a shell takes it literally.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_survive_a_shell() {
        assert_eq!(shell_quoted("it's"), r"'it'\''s'");
    }
}
