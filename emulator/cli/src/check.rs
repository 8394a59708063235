//! `understudy check`.

mod driver;
mod reports;

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use understudy_catalog::{DEVICES, Device};
use understudy_conformance::ledger::Ledger;
use understudy_conformance::{
    Check, Report, Settings, Socket, Started, Target, checks, report, run as run_checks,
};
use understudy_server::{DeviceServer, Options};

use crate::cli::CheckArgs;
use crate::failure::{Failure, Outcome};
use crate::parameters::{SetArgs, quoted};
use crate::{host, print};

pub(crate) fn run(args: &CheckArgs) -> Outcome {
    if let Some(driver) = &args.driver.driver {
        return driver::run(driver, args);
    }
    if args.driver.faults.plan()?.is_some() {
        let what = "faults are for drivers: devices are checked as they are";
        return Err(Failure::usage(what, "--fault", "--driver"));
    }
    let chosen = chosen(args)?;
    if args.list {
        return print(&report::list(chosen.iter().copied()));
    }
    let mut targets = targets(args)?;
    let progress = progress(chosen.len() * targets.len());
    let mut devices = Vec::new();
    for target in &mut targets {
        let settings = settings(args, target.as_ref());
        devices.push(run_checks(target.as_mut(), &chosen, settings, &mut |result| {
            progress.set_message(result.id.clone());
            progress.inc(1);
        }));
        let failed = devices.last().is_some_and(|device| device.totals().is_bad());
        if args.fail_fast && failed {
            break;
        }
    }
    progress.finish_and_clear();
    let report = Report::new(tool(), devices).with_seed(args.seed);
    if report.totals.checks == 0 {
        let what = "none of the chosen checks say anything about this device";
        return Err(Failure::usage(what, "--only", "see understudy check --list"));
    }
    // Of a part, coverage says nothing.
    let is_whole = args.only.is_empty() && args.skip.is_empty() && args.shard.is_none();
    let report = match Ledger::load() {
        Ok(ledger) if is_whole => report.with_coverage(&ledger),
        _ => report,
    };
    reports::publish(&report, args.format, args.report_dir.as_deref())?;
    Ok(report.passed())
}

fn tool() -> String {
    format!("understudy {}", env!("CARGO_PKG_VERSION"))
}

fn chosen(args: &CheckArgs) -> Result<Vec<&'static Check>, Failure> {
    let all = checks::all();
    for (option, filters) in [("--only", &args.only), ("--skip", &args.skip)] {
        if let Some(filter) = filters.iter().find(|f| !all.iter().any(|c| f.matches(c.id))) {
            let what = format!("no check matches {filter}");
            return Err(Failure::usage(what, option, "see understudy check --list"));
        }
    }
    let wanted = |check: &&Check| {
        (args.only.is_empty() || args.only.iter().any(|filter| filter.matches(check.id)))
            && !args.skip.iter().any(|filter| filter.matches(check.id))
    };
    let mut chosen: Vec<_> = all.into_iter().filter(wanted).collect();
    if let Some(shard) = args.shard {
        let mut index = 0..;
        chosen.retain(|_| index.next().is_some_and(|index| shard.includes(index)));
    }
    Ok(chosen)
}

fn settings(args: &CheckArgs, target: &dyn Target) -> Settings {
    let mut replay = vec!["understudy check".to_owned()];
    match &args.connect {
        Some(path) => replay.push(format!("--connect {}", quoted(&path.display().to_string()))),
        // A model is called by its device and its settings.
        None => replay.extend(target.name().split(' ').next().map(str::to_owned)),
    }
    replay.extend(args.set.words());
    if let Some(command) = &args.start {
        replay.push(format!("--start {}", quoted(command)));
    }
    let kinds = understudy_conformance::Kind::ALL;
    if let Some((name, _)) = kinds.iter().find(|(_, kind)| Some(*kind) == args.profile) {
        replay.push(format!("--profile {name}"));
    }
    Settings {
        limit: args.timeout,
        seed: args.seed,
        shuffle: args.shuffle,
        repeat: args.repeat,
        fail_fast: args.fail_fast,
        patience: u32::MAX,
        kind: args.profile,
        replay: replay.join(" "),
    }
}

fn targets(args: &CheckArgs) -> Result<Vec<Box<dyn Target>>, Failure> {
    if let Some(socket) = &args.connect {
        let name = socket.display().to_string();
        let Some(command) = &args.start else {
            return Ok(vec![Box::new(Socket::new(&name, socket))]);
        };
        let started = Started::new(&name, socket, command)
            .map_err(|error| Failure::environment("cannot start the server", command, error))?;
        return Ok(vec![Box::new(started)]);
    }
    if args.devices.is_empty() && !args.set.is_empty() {
        return Err(Failure::usage("parameters of no device", "--set", "name the device"));
    }
    let named: Vec<&'static Device> = if args.devices.is_empty() {
        DEVICES.iter().collect()
    } else {
        args.devices.iter().map(|name| host::device(name)).collect::<Result<_, _>>()?
    };
    let mut targets: Vec<Box<dyn Target>> = Vec::new();
    for device in named {
        targets.push(Box::new(Hosted::start(device, &args.set)?));
    }
    Ok(targets)
}

/// A model on a socket of its own, in a folder of its own.
struct Hosted {
    device: &'static Device,
    parameters: Map<String, Value>,
    name: String,
    socket: PathBuf,
    server: Option<DeviceServer>,
    _folder: tempfile::TempDir,
}

impl Hosted {
    fn start(device: &'static Device, set: &SetArgs) -> Result<Self, Failure> {
        let parameters = set.of(device)?;
        let folder = tempfile::Builder::new().prefix("understudy-").tempdir().map_err(|error| {
            Failure::environment("cannot make a folder", std::env::temp_dir().display(), error)
        })?;
        let socket = folder.path().join("device.sock");
        let server = host::serve(device, parameters.clone().into(), &socket, options())
            .map_err(|error| error.into_failure(&socket))?;
        let name = set.name(device);
        Ok(Self { device, parameters, name, socket, server: Some(server), _folder: folder })
    }
}

impl Target for Hosted {
    fn name(&self) -> &str {
        &self.name
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn replace(&mut self) -> Result<(), String> {
        // The old one first: it holds the socket.
        self.server = None;
        let parameters = self.parameters.clone().into();
        let server = host::serve(self.device, parameters, &self.socket, options());
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
