//! `understudy check`.

use std::fs;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use understudy_catalog::{DEVICES, Device};
use understudy_conformance::{Check, Report, Socket, Target, checks, report, run as run_checks};
use understudy_server::{DeviceServer, Options};

use crate::cli::CheckArgs;
use crate::failure::{Failure, Outcome};
use crate::{host, print};

pub(crate) fn run(args: &CheckArgs) -> Outcome {
    let chosen = chosen(args)?;
    let mut targets = targets(args)?;
    if args.list {
        return print(&report::list(chosen.iter().copied()));
    }
    let progress = progress(chosen.len() * targets.len());
    let mut devices = Vec::new();
    for target in &mut targets {
        devices.push(run_checks(target.as_mut(), &chosen, args.timeout, &mut |result| {
            progress.set_message(result.id.clone());
            progress.inc(1);
        }));
    }
    progress.finish_and_clear();
    let report = Report::new(format!("understudy {}", env!("CARGO_PKG_VERSION")), devices);
    if report.totals.checks == 0 {
        let what = "none of the chosen checks say anything about this device";
        return Err(Failure::usage(what, "--only", "see understudy check --list"));
    }
    let folder = write_reports(&report, args.report_dir.as_deref())?;
    print(&format!("{}reports: {}\n", report::table(&report), folder.display()))?;
    Ok(report.passed())
}

fn chosen(args: &CheckArgs) -> Result<Vec<&'static Check>, Failure> {
    let all = checks::all();
    if let Some(filter) = args.only.iter().find(|f| !all.iter().any(|c| f.matches(c.id))) {
        let what = format!("no check matches {filter}");
        return Err(Failure::usage(what, "--only", "see understudy check --list"));
    }
    let wanted = |check: &&Check| {
        args.only.is_empty() || args.only.iter().any(|filter| filter.matches(check.id))
    };
    Ok(all.into_iter().filter(wanted).collect())
}

fn targets(args: &CheckArgs) -> Result<Vec<Box<dyn Target>>, Failure> {
    if let Some(socket) = &args.socket {
        return Ok(vec![Box::new(Socket::new(&socket.display().to_string(), socket))]);
    }
    let named: Vec<&'static Device> = if args.devices.is_empty() {
        DEVICES.iter().collect()
    } else {
        args.devices.iter().map(|name| host::device(name)).collect::<Result<_, _>>()?
    };
    let mut targets: Vec<Box<dyn Target>> = Vec::new();
    for device in named {
        targets.push(Box::new(Hosted::start(device)?));
    }
    Ok(targets)
}

/// A model on a socket of its own, in a folder of its own.
struct Hosted {
    device: &'static Device,
    socket: PathBuf,
    server: Option<DeviceServer>,
    _folder: tempfile::TempDir,
}

impl Hosted {
    fn start(device: &'static Device) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("understudy-").tempdir().map_err(|error| {
            Failure::environment("cannot make a folder", std::env::temp_dir().display(), error)
        })?;
        let socket = folder.path().join("device.sock");
        let server = host::serve(device, Value::Null, &socket, options())
            .map_err(|error| error.into_failure(&socket))?;
        Ok(Self { device, socket, server: Some(server), _folder: folder })
    }
}

impl Target for Hosted {
    fn name(&self) -> &str {
        self.device.name
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn replace(&mut self) -> Result<(), String> {
        // The old one first: it holds the socket.
        self.server = None;
        let server = host::serve(self.device, Value::Null, &self.socket, options());
        self.server = Some(server.map_err(|error| error.to_string())?);
        Ok(())
    }
}

/// Everything that the protocol has, so that all of it is checked.
fn options() -> Options {
    Options { write_multiple: true, ..Options::default() }
}

/// On a terminal only: indicatif draws nothing elsewhere.
fn progress(checks: usize) -> ProgressBar {
    let bar = ProgressBar::new(checks as u64);
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {wide_msg}") {
        bar.set_style(style);
    }
    bar
}

fn write_reports(report: &Report, folder: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = folder.map_or_else(default_folder, Path::to_owned);
    let failure = |path: &Path| {
        let path = path.display().to_string();
        move |error: &dyn std::fmt::Display| {
            Failure::environment("cannot write the report", path, error)
        }
    };
    fs::create_dir_all(&folder).map_err(|error| failure(&folder)(&error))?;
    let json = report::json(report).map_err(|error| failure(&folder)(&error))?;
    let junit = report::junit(report).map_err(|error| failure(&folder)(&error))?;
    for (name, text) in [("report.json", json), ("junit.xml", junit)] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| failure(&path)(&error))?;
    }
    Ok(folder)
}

fn default_folder() -> PathBuf {
    let name = Path::new("understudy-report");
    let target = Path::new("target");
    if target.is_dir() { target.join(name) } else { name.to_owned() }
}
