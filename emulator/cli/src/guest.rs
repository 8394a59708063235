//! `understudy guest`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar};
use serde_json::{Map, Value};
use understudy_catalog::{Device, overlaid};
use understudy_device::{Capability, DeviceModel, State, with_identity};
use understudy_faults::Plan;
use understudy_guest::{
    Attachment, Devices, Error, Guest, Kernel, Kit, Scenario, Wanted, qaic, qat, virtio_crypto,
};
use understudy_server::{DeviceServer, Options};
use understudy_trace::{TracedFunction, WatchReport};

use crate::cli::{GuestArgs, TraceArgs};
use crate::failure::{Failure, Outcome};
use crate::trace::Tracing;
use crate::{compare, host, networks, operators, print, reactions, trace};

pub(crate) fn run(args: &GuestArgs) -> Outcome {
    let device = host::device(&args.device)?;
    let set = args.set.of(device)?;
    let mut scenarios = scenarios(device, args)?;
    if args.list {
        let width = scenarios.iter().map(|scenario| scenario.id.len()).max().unwrap_or(0);
        let lines = scenarios.iter().map(|s| format!("{:width$}  {}\n", s.id, s.title));
        return print(&lines.collect::<String>());
    }
    let kit = kit(device)?;
    let kernels = kit.select(&args.kernel).map_err(|error| {
        Failure::usage(error, "--kernel", "a version, a release, a suite, or all")
    })?;
    if let Some(path) = &args.reactions {
        return reactions::run(device, &kit, &kernels, path, args.timeout);
    }
    let plan = args.faults.plan()?;
    if let Some(rounds) = args.compare {
        return compare::run(device, &kit, &kernels, rounds, args.timeout);
    }
    operators::provide(&mut scenarios)?;
    let runs: Vec<(&Kernel, &Scenario)> = kernels
        .into_iter()
        .flat_map(|kernel| scenarios.iter().map(move |scenario| (kernel, scenario)))
        .collect();
    let bars = MultiProgress::new();
    let one = |&(kernel, scenario): &(&Kernel, &Scenario)| {
        let name = format!("{}-{}", kernel.release(), scenario.id);
        let many = runs.len() > 1;
        let traced =
            Traced { args: Some(args.trace.clone()), monitor: !args.no_monitor, name, many };
        let mut devices = Served::new(device).faulty(plan.clone()).traced(traced).with(set.clone());
        let spinner = bars.add(spinner(&format!("{} on {}", scenario.id, kernel.release())));
        let report = scenario.run(&kit, kernel, args.seed, &mut devices);
        spinner.finish_and_clear();
        let evidence = devices.evidence();
        (report.passed(), format!("{report}{evidence}{}", devices.finish()))
    };
    let (mut passed, mut failed) = (0, 0);
    in_order(&runs, args.jobs, one, |(pass, text)| {
        if pass {
            passed += 1;
        } else {
            failed += 1;
        }
        print(&text).map(drop)
    })?;
    print(&format!("{} on {}: {passed} passed, {failed} failed\n", device.name, args.kernel))?;
    Ok(failed == 0 && passed > 0)
}

/// Does `work` on each of the items, `jobs` at a time, and `tell`s of each in their order, as soon
/// as that is known.
fn in_order<T: Sync, R: Send>(
    items: &[T],
    jobs: NonZeroUsize,
    work: impl Fn(&T) -> R + Sync,
    mut tell: impl FnMut(R) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let (sender, done) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.get().min(items.len()) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    // Nobody listens any more once output has failed.
                    if sender.send((index, work(item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (index, result) in done {
            early.insert(index, result);
            while let Some(result) = early.remove(&due) {
                tell(result)?;
                due += 1;
            }
        }
        Ok(())
    })
}

/// On a terminal only: indicatif draws nothing elsewhere.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}

/// The scenarios of a device that were asked for.
fn scenarios(device: &Device, args: &GuestArgs) -> Result<Vec<Scenario>, Failure> {
    let mut all = all_scenarios(device, args.seed)?;
    let known: Vec<&str> = all.iter().map(|scenario| scenario.id).collect();
    if let Some(unknown) = args.scenario.iter().find(|id| !known.contains(&id.as_str())) {
        let what = format!("no scenario is called {unknown:?}");
        return Err(Failure::usage(what, "--scenario", format!("one of: {}", known.join(", "))));
    }
    all.retain(|scenario| {
        args.scenario.is_empty() || args.scenario.iter().any(|id| id == scenario.id)
    });
    for scenario in &mut all {
        scenario.config.total_limit = args.timeout;
    }
    Ok(all)
}

/// Every scenario of a device.
pub(crate) fn all_scenarios(device: &Device, seed: u64) -> Result<Vec<Scenario>, Failure> {
    Ok(match device.name {
        "qaic" => networks::scenarios()?,
        "qat" => qat::scenarios(seed),
        "virtio-crypto" => virtio_crypto::scenarios(virtio_crypto::ALL_DRIVERS, seed),
        name => {
            let what = format!("there are no guest scenarios for {name}");
            return Err(Failure::usage(what, "command line", "qaic, qat or virtio-crypto"));
        }
    })
}

/// What `ci/prepare` made for the device; runs it if that is missing.
pub(crate) fn kit(device: &Device) -> Result<Kit, Failure> {
    let wanted: &[&str] = if device.name == "qaic" { &["--qaic"] } else { &[] };
    match Kit::find() {
        Err(Error::NotPrepared { folder, .. }) => {
            prepare(&folder, wanted)?;
            Kit::find()
        }
        Ok(kit) if !wanted.is_empty() && !kit.has_qaic() => {
            prepare(kit.folder(), wanted)?;
            Kit::find()
        }
        found => found,
    }
    .map_err(|error| Failure::environment(error, "guest kit", "ci/prepare"))
}

fn prepare(folder: &Path, wanted: &[&str]) -> Result<(), Failure> {
    let script = script("ci/prepare").ok_or_else(|| {
        let what = "QEMU and kernels are not prepared, and ci/prepare is not here";
        Failure::environment(what, folder.display(), "run this in the repository")
    })?;
    let arguments = wanted.iter().map(OsStr::new).chain([folder.as_os_str()]);
    run_script(&script, arguments, "cannot prepare QEMU and kernels")
}

/// Runs a script of the repository. Its progress is not part of our output.
pub(crate) fn run_script(
    script: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    what: &str,
) -> Result<(), Failure> {
    let failure = |why: &dyn std::fmt::Display| Failure::environment(what, script.display(), why);
    let mut command = Command::new(script);
    let command = command.args(arguments).stdin(Stdio::null()).stdout(io::stderr());
    let status = command.status().map_err(|error| failure(&error))?;
    if status.success() { Ok(()) } else { Err(failure(&status)) }
}

/// A script of the repository that the working directory is in.
pub(crate) fn script(name: &str) -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|folder| folder.join(name)).find(|script| script.is_file())
}

/// Our devices for one guest after the other.
pub(crate) struct Served {
    device: &'static Device,
    servers: Vec<DeviceServer>,
    /// Each device's state when it was last asked for its operations. A device is as new once its
    /// guest has gone.
    seen: Vec<State>,
    folder: Option<tempfile::TempDir>,
    /// Parameters over those of the scenario.
    set: Map<String, Value>,
    /// What goes wrong on purpose.
    plan: Option<Plan>,
    traced: Traced,
    tracing: Vec<Tracing>,
}

/// What is recorded of the devices of one guest.
#[derive(Default)]
pub(crate) struct Traced {
    pub(crate) args: Option<TraceArgs>,
    pub(crate) monitor: bool,
    /// Of the guest.
    pub(crate) name: String,
    /// There are other guests with traces of their own.
    pub(crate) many: bool,
}

impl Served {
    pub(crate) fn new(device: &'static Device) -> Self {
        Self {
            device,
            servers: Vec::new(),
            seen: Vec::new(),
            folder: None,
            set: Map::new(),
            plan: None,
            traced: Traced::default(),
            tracing: Vec::new(),
        }
    }

    pub(crate) fn device(&self) -> &'static Device {
        self.device
    }

    /// The first device's server.
    pub(crate) fn server(&self) -> Option<&DeviceServer> {
        self.servers.first()
    }

    /// The same, recorded and watched as asked for.
    pub(crate) fn traced(self, traced: Traced) -> Self {
        Self { traced, ..self }
    }

    /// The same, with parameters that count whatever the scenario's are.
    fn with(self, set: Map<String, Value>) -> Self {
        Self { set, ..self }
    }

    /// The same, with things that go wrong on purpose.
    pub(crate) fn faulty(self, plan: Option<Plan>) -> Self {
        Self { plan, ..self }
    }

    /// What was seen of the driver, once for each device.
    pub(crate) fn seen(&self) -> Vec<WatchReport> {
        self.tracing.iter().filter_map(Tracing::report).collect()
    }

    /// Begins the trace of a device, if there is to be one.
    fn trace(
        &mut self,
        index: usize,
        wanted: Wanted,
        parameters: &Value,
        function: &mut TracedFunction,
    ) -> Result<(), Failure> {
        let Traced { args, monitor, name, many } = &self.traced;
        let Some(args) = args else { return Ok(()) };
        let session = trace::Session {
            device: self.device,
            parameters,
            without_msix: !wanted.msix,
            plan: self.plan.as_ref(),
            name: name.clone(),
        };
        let file = args.trace.as_ref().map(|file| {
            let file = if *many { trace::with_suffix(file, name) } else { file.clone() };
            if index == 0 { file } else { trace::with_suffix(&file, &index.to_string()) }
        });
        self.tracing.extend(Tracing::start(args, *monitor, file, &session, function)?);
        Ok(())
    }

    /// Ends the devices, and says what their traces have to say.
    pub(crate) fn finish(mut self) -> String {
        self.servers.clear();
        self.tracing.iter().map(Tracing::finish).fold(String::new(), |mut out, text| {
            for line in text.lines() {
                let _ = writeln!(out, "  {line}");
            }
            out
        })
    }

    /// What the devices have done, by their own count.
    fn evidence(&self) -> String {
        let mut out = String::new();
        for (index, state) in self.seen.iter().enumerate() {
            let done = state.counters.iter().filter(|counter| counter.value > 0);
            let done: Vec<_> = done.map(|c| format!("{}={}", c.name, c.value)).collect();
            let _ = writeln!(out, "  {} {index}: {}", self.device.name, done.join(" "));
        }
        out
    }
}

impl Devices for Served {
    fn attach(&mut self, wanted: Wanted) -> Result<Vec<Attachment>, String> {
        self.servers.clear();
        self.tracing.clear();
        self.seen = vec![State::default(); wanted.count];
        let folder = tempfile::Builder::new().prefix("understudy-").tempdir();
        let folder = folder.map_err(|error| error.to_string())?;
        for (index, of_this) in parameters(wanted)?.into_iter().enumerate() {
            let socket = folder.path().join(format!("{index}.sock"));
            let of_this = overlaid(of_this, &self.set);
            let model = self.device.build(of_this.clone()).map_err(|error| error.to_string())?;
            let model = if wanted.msix { model } else { without_msix(model) };
            let mut function = host::function(self.device, model, self.plan.as_ref())
                .map_err(|error| error.to_string())?;
            self.trace(index, wanted, &of_this, &mut function)
                .map_err(|error| error.to_string())?;
            let server = DeviceServer::bind(&socket, function, Options::default());
            self.servers.push(server.map_err(|error| error.to_string())?);
        }
        self.folder = Some(folder);
        Ok(self.servers.iter().map(|server| Attachment::vfio_user(server.path())).collect())
    }

    fn operations(&mut self, _: &mut Guest, device: usize) -> Result<u64, String> {
        let server = self.servers.get(device).ok_or("no such device")?;
        let state = server.inspect().map_err(|error| error.to_string())?;
        let count = operations(self.device, &state);
        if let Some(seen) = self.seen.get_mut(device) {
            *seen = state;
        }
        Ok(count)
    }

    fn held(&mut self, device: usize) -> Result<String, String> {
        let server = self.servers.get(device).ok_or("no such device")?;
        let state = server.inspect().map_err(|error| error.to_string())?;
        let held = state.counters.iter().filter(|counter| counter.value > 0);
        let held = held.filter_map(|counter| {
            let name = counter.name.strip_prefix("held.")?;
            Some(format!("{name}={}", counter.value))
        });
        Ok(held.collect::<Vec<_>>().join(" "))
    }
}

/// The parameters of each of a scenario's devices.
pub(crate) fn parameters(wanted: Wanted) -> Result<Vec<Value>, String> {
    let parameters = match wanted.parameters {
        "" => Value::Null,
        text => serde_json::from_str(text).map_err(|error| error.to_string())?,
    };
    let of = |index| match &parameters {
        Value::Array(each) => each.get(index).cloned().unwrap_or_default(),
        all => all.clone(),
    };
    Ok((0..wanted.count).map(of).collect())
}

/// The same model with a function that does not have its MSI-X capability, so that drivers use INTx.
pub(crate) fn without_msix(model: Box<dyn DeviceModel>) -> Box<dyn DeviceModel> {
    let mut identity = model.identity().clone();
    identity.capabilities.retain(|capability| !matches!(capability, Capability::Msix { .. }));
    with_identity(model, identity)
}

/// Requests that computed something: what only the device can have done. Requests of queues and
/// those that do nothing are not counted.
fn operations(device: &Device, state: &State) -> u64 {
    let counts: &[&str] = match device.name {
        "qaic" => &qaic::WORK,
        "qat" => &qat::WORK,
        _ => &["crypt.requests"],
    };
    let counts = |name: &str| counts.iter().any(|end| name.ends_with(end));
    let requests = state.counters.iter().filter(|counter| counts(&counter.name));
    requests.map(|counter| counter.value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_told_in_order_whatever_ends_first() {
        let (first, last) = mpsc::channel();
        let last = std::sync::Mutex::new(last);
        let mut told = Vec::new();
        let work = |item: &u32| {
            // The first item ends only after the second.
            if *item == 0 {
                last.lock().ok().and_then(|last| last.recv().ok());
            } else if *item == 1 {
                first.send(()).ok();
            }
            *item
        };
        let jobs = NonZeroUsize::MIN.saturating_add(1);
        in_order(&[0, 1, 2, 3], jobs, work, |item| {
            told.push(item);
            Ok(())
        })
        .ok();
        assert_eq!(told, [0, 1, 2, 3]);
    }
}
