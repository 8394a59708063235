//! `understudy guest DEVICE --reactions PATH`: what a stock driver does when things go wrong.
//!
//! One guest for each plan. The driver is loaded and its self-tests pass; then the plan is injected,
//! the driver is used, the faults end, and it is used again. Plans whose names begin with `probe-`
//! are there from the start.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use understudy_catalog::Device;
use understudy_faults::{Faults, Plan, text};
use understudy_guest::{Config, Devices, Guest, Kernel, Kit, Task, Wanted, qat, virtio_crypto};

use crate::failure::{Failure, Outcome};
use crate::guest::{Served, spinner};
use crate::{faults, print};

/// How long the driver may take for what it does in seconds.
const LIMIT: Duration = Duration::from_secs(45);
/// How long loading and self-tests may take on a busy host.
const LOAD_LIMIT: Duration = Duration::from_secs(150);
/// Plans that are there from the start.
const PROBE: &str = "probe-";

/// The faults did not happen.
const NOT_MET: &str = "not met";

/// What is logged when a kernel is unwell.
const OOPS: [&str; 5] =
    ["Oops", "BUG:", "general protection fault", "Kernel panic", "blocked for more than"];
const WARNING: [&str; 2] = ["WARNING:", "------------[ cut here"];

/// Since this version, `AF_ALG` refuses drivers of devices. There eCryptfs uses them.
const NO_AF_ALG: (u32, u32) = (7, 2);
/// Above the kernel's own ciphers, so that eCryptfs takes the device's.
const PRIORITY: u32 = 10_000;

/// How a driver is loaded and used.
struct Use {
    module: &'static str,
    cipher: &'static str,
    drivers: &'static [&'static str],
    config: Config,
}

/// What was seen of one plan.
struct Row {
    name: String,
    faults: String,
    fired: u64,
    reaction: &'static str,
    seen: String,
    after: &'static str,
}

pub(crate) fn run(
    device: &'static Device,
    kit: &Kit,
    kernels: &[&Kernel],
    path: &Path,
    timeout: Duration,
) -> Outcome {
    let plans = plans(path)?;
    let mut all_met = true;
    for kernel in kernels {
        let mut out = format!("### {} on Linux {}\n\n", device.name, kernel.release());
        out += "| Plan | Goes wrong | Times | Reaction | Seen | Afterwards |\n";
        out += "|---|---|---|---|---|---|\n";
        print(&out)?;
        for (name, plan) in &plans {
            let spinner = spinner(&format!("{name} on {}", kernel.release()));
            let row = react(device, kit, kernel, (name, plan), timeout)?;
            spinner.finish_and_clear();
            all_met &= row.reaction != NOT_MET;
            print(&row.line())?;
        }
        print("\n")?;
    }
    Ok(all_met)
}

/// The plans of a folder by name, or the one in a file.
fn plans(path: &Path) -> Result<Vec<(String, Plan)>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage("cannot read the fault plans", path.display(), error)
    };
    let mut files: Vec<PathBuf> = if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(unreadable)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<Result<_, _>>().map_err(unreadable)?
    } else {
        vec![path.to_owned()]
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    if files.is_empty() {
        return Err(Failure::usage("no fault plans", path.display(), "a .json file, or a folder"));
    }
    let named = |file: &PathBuf| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, faults::read_plan(file)?))
    };
    files.iter().map(named).collect()
}

fn usage(device: &Device) -> Result<Use, Failure> {
    let (module, cipher, drivers, scenarios): (_, _, &[&str], _) = match device.name {
        "virtio-crypto" => (
            "virtio_crypto",
            "virtio_crypto_aes_cbc",
            virtio_crypto::ALL_DRIVERS,
            virtio_crypto::scenarios(virtio_crypto::ALL_DRIVERS, 1),
        ),
        "qat" => ("qat_c62xvf", "qat_aes_cbc", &qat::DRIVERS, qat::scenarios(1)),
        name => {
            let what = format!("there is nothing to use {name} with in a guest");
            return Err(Failure::usage(what, "--reactions", "qat or virtio-crypto"));
        }
    };
    let config = scenarios.into_iter().next().map(|scenario| scenario.config).unwrap_or_default();
    Ok(Use { module, cipher, drivers, config })
}

/// Takes one guest through one plan.
fn react(
    device: &'static Device,
    kit: &Kit,
    kernel: &Kernel,
    (name, plan): (&str, &Plan),
    timeout: Duration,
) -> Result<Row, Failure> {
    let used = usage(device)?;
    let environment = |error: &dyn std::fmt::Display| {
        Failure::environment(error, format!("guest for {name}"), "try again")
    };
    let probe = name.starts_with(PROBE);
    let mut served = Served::new(device).faulty(probe.then(|| plan.clone()));
    let wanted = Wanted { count: 1, msix: true, parameters: "" };
    let devices = served.attach(wanted).map_err(|error| environment(&error))?;
    let config = Config { devices, total_limit: timeout, ..used.config.clone() };
    let mut guest = Guest::boot(kit, kernel, &config).map_err(|it| environment(&it.error))?;
    let used_by = if kernel.version() < NO_AF_ALG { "algif_skcipher" } else { "ecryptfs" };
    let modules = [used.module, used_by, "crypto_user"].map(str::to_owned).to_vec();
    let task = task(kernel, used.cipher);
    let load = guest.perform(&Task::Load { modules }, LOAD_LIMIT);
    let drivers = used.drivers.iter().map(|&driver| driver.to_owned()).collect();
    let tested = Task::Algorithms { module: algorithms_of(used.module), drivers };
    let mut before = served.resets();
    let mut during = load.map(|_| ());
    if probe {
        during = during.and_then(|()| use_it(&mut guest, &task));
    } else {
        let ready = during.and_then(|()| guest.perform(&tested, LOAD_LIMIT).map(|_| ()));
        ready.map_err(|error| environment(&error))?;
        served.inject(plan).map_err(|error| environment(&error))?;
        before = served.resets();
        during = use_it(&mut guest, &task);
    }
    // A fault that comes late: what is used once more meets it.
    if during.is_ok() && !probe {
        during = use_it(&mut guest, &task);
    }
    let resets = served.resets().saturating_sub(before);
    let fired = served.clear_faults();
    let hangs = matches!(during, Err(understudy_guest::Error::Missing { .. }));
    let again = if hangs { None } else { Some(use_it(&mut guest, &task)) };
    let log = guest.log();
    let alarm = |marks: &[&str]| {
        log.lines().find(|line| marks.iter().any(|mark| line.contains(mark))).map(plain)
    };
    let (reaction, seen) = match (alarm(&OOPS), alarm(&WARNING), &during) {
        (Some(line), _, _) => ("oops", line),
        (_, _, Err(understudy_guest::Error::Missing { reason })) => ("hang", silence(reason)),
        (_, Some(line), _) => ("warning", line),
        (_, _, Err(error)) => ("error to user", plain(&error.to_string())),
        (_, _, Ok(())) if fired == 0 => (NOT_MET, String::new()),
        (_, _, Ok(())) if resets > 0 => ("reset", "the driver reset the function".to_owned()),
        (_, _, Ok(())) => ("recovered", String::new()),
    };
    let after = match again {
        None => "does not answer",
        Some(Ok(())) => "works",
        Some(Err(_)) => "does not work",
    };
    let faults: Vec<_> = plan.faults.iter().map(text::short).collect();
    let (name, faults) = (name.to_owned(), faults.join("; "));
    Ok(Row { name, faults, fired, reaction, seen, after })
}

/// The module that `/proc/crypto` names.
fn algorithms_of(module: &str) -> String {
    if module.starts_with("qat") { "intel_qat".to_owned() } else { module.to_owned() }
}

/// What uses the driver.
fn task(kernel: &Kernel, cipher: &str) -> Task {
    let driver = cipher.to_owned();
    if kernel.version() < NO_AF_ALG {
        Task::CbcVectors { driver, transforms: 2, seed: 1 }
    } else {
        Task::Ecryptfs { driver, seed: 1 }
    }
}

fn use_it(guest: &mut Guest, task: &Task) -> Result<(), understudy_guest::Error> {
    if let Task::Ecryptfs { driver, .. } = task {
        let priority = Task::Priority { driver: driver.clone(), priority: PRIORITY };
        guest.perform(&priority, LIMIT)?;
    }
    guest.perform(task, LIMIT).map(|_| ())
}

/// What is known of a driver that did not answer.
fn silence(reason: &str) -> String {
    if reason == "time ran out" {
        return format!("no answer within {} s", LIMIT.as_secs());
    }
    plain(reason)
}

/// One line that a table can hold, without the time of a log.
fn plain(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    let line = match (line.starts_with('['), line.split_once("] ")) {
        (true, Some((_, rest))) => rest,
        _ => line,
    };
    line.replace('|', "/").chars().take(120).collect()
}

impl Row {
    fn line(&self) -> String {
        let Self { name, faults, fired, reaction, seen, after } = self;
        let mut out = String::new();
        let _ = writeln!(
            out,
            "| {name} | `{}` | {fired} | **{reaction}** | {seen} | {after} |",
            faults.replace('|', "/")
        );
        out
    }
}

/// What faults have done to the served device.
impl Served {
    fn inject(&self, plan: &Plan) -> Result<(), String> {
        let (plan, vocabulary) = (plan.clone(), self.device().vocabulary);
        let injected = self.call(move |device| {
            Faults::inject_into(device.function, &plan, vocabulary)
                .map_err(|mistakes| mistakes.first().map_or_else(String::new, ToString::to_string))
        });
        injected.unwrap_or_else(|| Err("the device is gone".to_owned())).map(|_| ())
    }

    /// Times that the function was reset.
    fn resets(&self) -> u64 {
        let count = self.call(|device| {
            let state = device.function.inspect();
            let resets = state.counters.iter().filter(|counter| counter.name.contains("reset"));
            resets.map(|counter| counter.value).sum()
        });
        count.unwrap_or(0)
    }

    /// Ends all faults. How often they happened.
    fn clear_faults(&self) -> u64 {
        let fired = self.call(|device| match device.function.interposer::<Faults>() {
            None => 0,
            Some(faults) => {
                let fired = faults.happened();
                faults.clear(None);
                fired
            }
        });
        fired.unwrap_or(0)
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut understudy_server::Device<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        self.server().and_then(|server| server.control().call(work).ok())
    }
}
