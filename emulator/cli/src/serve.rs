//! `understudy serve`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf, absolute};

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use understudy_faults::Plan;
use understudy_server::{DeviceServer, Options};

use crate::cli::ServeArgs;
use crate::config::{self, Wanted, numbered};
use crate::control::ControlSocket;
use crate::failure::{Failure, Outcome};
use crate::{host, print};

pub(crate) fn run(args: &ServeArgs) -> Outcome {
    let plan = args.faults.plan()?;
    let wanted = match (&args.config, &args.socket) {
        (Some(file), _) => config::read(file)?,
        (None, Some(socket)) => from_arguments(&args.devices, socket)?,
        (None, None) => {
            return Err(Failure::usage("no socket", "command line", "--socket or --config"));
        }
    };
    // Before the sockets exist: a signal that comes early must not leave them behind.
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::environment("cannot wait for signals", "process", error))?;
    let mut served = Vec::new();
    for one in wanted {
        served.push(Served::start(one, plan.as_ref())?);
    }
    print(&announcement(&served)?)?;
    if let Some(signal) = signals.forever().next() {
        tracing::info!(signal, "stopping");
    }
    Ok(true)
}

/// A device with both its sockets; dropping it removes them.
struct Served {
    // First, so that it is gone before the device that it speaks for.
    _control: ControlSocket,
    server: DeviceServer,
    name: &'static str,
    pci_id: String,
}

impl Served {
    fn start(wanted: Wanted, plan: Option<&Plan>) -> Result<Self, Failure> {
        let Wanted { device, parameters, socket } = wanted;
        let server = device
            .build(parameters)
            .map_err(host::HostError::from)
            .and_then(|model| host::bind(device, model, &socket, Options::default(), plan))
            .map_err(|error| error.into_failure(&socket))?;
        let pci_id = format!("{:04x}:{:04x}", device.vendor_id, device.device_id);
        let control = ControlSocket::bind(&server, device, &pci_id)?;
        Ok(Self { _control: control, server, name: device.name, pci_id })
    }
}

fn from_arguments(devices: &[String], socket: &Path) -> Result<Vec<Wanted>, Failure> {
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
        wanted.push(Wanted { device, parameters: Value::Null, socket: path });
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
