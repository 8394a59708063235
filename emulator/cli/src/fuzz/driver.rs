//! `understudy fuzz driver`: a stock driver in a guest, on a device with faults.
//!
//! A case: a plan is put into the device, the driver is loaded and made to work, the plan is taken
//! out, the driver is unloaded. What the driver answers does not matter; what the kernel says does:
//! an oops, a warning, a lockdep or KASAN report, a task that does not come to an end. After such a
//! case the guest is restarted; otherwise the next case uses it as it is.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Value, json};
use understudy_catalog::Device;
use understudy_faults::{Faults, Plan};
use understudy_fuzzing::{Defect, DefectKind, Finding, plans};
use understudy_guest::{Action, Attachment, Config, Error, Guest, Kernel, Kit, Scenario, Task};
use understudy_server::{DeviceServer, Options};

use super::{count_findings, end, keep, make_folder, stopped};
use crate::failure::{Failure, Outcome};
use crate::fuzz::args::DriverArgs;
use crate::{faults, guest, host, print};

/// What the kernel prints when it is unwell.
const ALARMS: [&str; 13] = [
    "BUG:",
    "WARNING:",
    "Oops",
    "KASAN:",
    "UBSAN:",
    "general protection fault",
    "Kernel panic",
    "possible recursive locking",
    "possible circular locking",
    "inconsistent lock state",
    "blocked for more than",
    "soft lockup",
    "rcu: INFO:",
];
/// Cases of one boot at most.
const PER_BOOT: u32 = 40;
/// Lines of the console in a finding.
const MAX_LINES: usize = 200;

#[derive(Debug, Clone, Default, Serialize)]
struct Stats {
    executions: u64,
    boots: u64,
    steps_failed: u64,
    faults_fired: u64,
    seconds: f64,
    per_minute: f64,
    findings: usize,
    defects: u64,
}

/// The module that drives a device, and a scenario that makes it work.
fn driver(device: &Device) -> Result<(&'static str, Scenario), Failure> {
    let module = match device.name {
        "qat" => "qat_c62xvf",
        "qaic" => "qaic",
        _ => "virtio_crypto",
    };
    let first = guest::all_scenarios(device, 1)?.into_iter().next();
    let first = first.ok_or_else(|| {
        Failure::usage("there are no guest scenarios", device.name, "qaic, qat or virtio-crypto")
    })?;
    Ok((module, first))
}

/// A guest, the device it has, and how much of its console has been judged.
struct Rig<'a> {
    device: &'static Device,
    module: &'static str,
    scenario: Scenario,
    kit: &'a Kit,
    kernel: &'a Kernel,
    patience: Duration,
    running: Option<Running>,
    stats: Stats,
}

struct Running {
    guest: Guest,
    server: DeviceServer,
    cases: u32,
    judged: usize,
    _folder: tempfile::TempDir,
}

impl Rig<'_> {
    fn boot(&mut self) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::environment("the guest does not boot", self.kernel.release(), error)
        };
        let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
        let socket = folder.path().join("device.sock");
        let parameters = match self.scenario.devices.parameters {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|error| failed(&error))?,
        };
        let server = host::serve(self.device, parameters, &socket, Options::default())
            .map_err(|error| error.into_failure(&socket))?;
        let mut config = Config {
            devices: vec![Attachment::vfio_user(&socket)],
            total_limit: Duration::from_secs(86_400),
            ..self.scenario.config.clone()
        };
        // A task that waits so long will wait for ever; and it says where.
        config.kernel_arguments.push("sysctl.kernel.hung_task_timeout_secs=15".to_owned());
        let guest = Guest::boot(self.kit, self.kernel, &config)
            .map_err(|booting| failed(&booting.error))?;
        let judged = guest.log().len();
        self.stats.boots += 1;
        self.running = Some(Running { guest, server, cases: 0, judged, _folder: folder });
        Ok(())
    }

    /// One case: the defect, and the console's lines.
    fn case(&mut self, plan: &Plan) -> Result<Option<(Defect, Vec<String>)>, Failure> {
        if self.running.as_ref().is_none_or(|running| running.cases >= PER_BOOT) {
            self.running = None;
            self.boot()?;
        }
        let Some(mut running) = self.running.take() else { return Ok(None) };
        running.cases += 1;
        self.stats.executions += 1;
        inject(&running.server, self.device, plan)?;
        let mut hung = self.work(&mut running);
        self.stats.faults_fired += clear(&running.server);
        if hung.is_none() {
            let unload = Task::Unload { module: self.module.to_owned() };
            hung = lost(running.guest.perform(&unload, self.patience)).map(|why| ("unload", why));
        }
        let log = running.guest.log();
        // The console's beginning is dropped in time.
        let new = log.get(running.judged.min(log.len())..).unwrap_or(&log).to_owned();
        running.judged = log.len();
        let lines: Vec<String> = new.lines().map(str::to_owned).collect();
        let defect = judge(&lines, hung);
        if defect.is_none() {
            self.running = Some(running);
        }
        let tail = lines.len().saturating_sub(MAX_LINES);
        Ok(defect.map(|defect| (defect, lines[tail..].to_vec())))
    }

    /// Loads the driver and makes it work. The step that did not come to an end, if one did not.
    fn work(&mut self, running: &mut Running) -> Option<(&'static str, String)> {
        for step in self.scenario.steps.iter().take(4) {
            let Action::Perform(task) = &step.action else { continue };
            if *task == Task::KernelLog {
                continue;
            }
            let result = running.guest.perform(task, self.patience);
            self.stats.steps_failed += u64::from(result.is_err());
            let failed = result.is_err();
            if let Some(why) = lost(result) {
                return Some(("work", why));
            }
            if failed {
                break;
            }
        }
        None
    }
}

/// Why a guest did not answer, if it did not: a task that failed has answered.
fn lost(result: Result<Value, Error>) -> Option<String> {
    match result {
        Err(error @ Error::Missing { .. }) => Some(error.to_string()),
        _ => None,
    }
}

fn inject(server: &DeviceServer, device: &'static Device, plan: &Plan) -> Result<(), Failure> {
    let plan = plan.clone();
    let vocabulary = device.vocabulary;
    let done = server
        .control()
        .call(move |device| Faults::inject_into(device.function, &plan, vocabulary).map(drop));
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(mistakes)) => Err(faults::failure(&mistakes, "the plan")),
        Err(_) => Err(Failure::environment("the device's thread is gone", device.name, "a report")),
    }
}

/// Ends all faults. How often they happened.
fn clear(server: &DeviceServer) -> u64 {
    let done = server.control().call(|device| {
        let Some(faults) = device.function.interposer::<Faults>() else { return 0 };
        let fired = faults.fired();
        faults.clear(None);
        if faults.is_idle() {
            device.function.interpose(None);
        }
        fired
    });
    done.unwrap_or(0)
}

/// What the console says, or that nothing came.
fn judge(lines: &[String], hung: Option<(&str, String)>) -> Option<Defect> {
    let plain = |line: &str| {
        let text = line.split_once("] ").map_or(line, |(_, text)| text);
        text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect::<String>()
    };
    let alarm = lines.iter().position(|line| ALARMS.iter().any(|text| line.contains(text)));
    if let Some(at) = alarm {
        let mut defect = Defect::new(DefectKind::Kernel, plain(&lines[at]), lines[at].clone());
        defect.stack = kernel_stack(&lines[at..]);
        return Some(defect);
    }
    let (step, why) = hung?;
    Some(Defect::new(DefectKind::Hang, format!("the guest does not answer: {step}"), why))
}

/// Functions of a kernel's trace, innermost first, three at most.
fn kernel_stack(lines: &[String]) -> Vec<String> {
    let names = lines.iter().take(60).filter_map(|line| {
        let text = line.split_once("] ").map_or(line.as_str(), |(_, text)| text).trim();
        let text = text.strip_prefix("RIP: 0010:").unwrap_or(text);
        let (name, rest) = text.split_once("+0x")?;
        let whole = rest.contains("/0x") && !name.contains(' ') && !name.starts_with('?');
        whole.then(|| name.to_owned())
    });
    let of_scheduler = ["__schedule", "schedule", "schedule_timeout", "__wait_for_common"];
    names.filter(|name| !of_scheduler.contains(&name.as_str())).take(3).collect()
}

pub(crate) fn run(args: &DriverArgs) -> Outcome {
    let device = host::device(&args.device)?;
    let (module, scenario) = driver(device)?;
    let target = faults::target(device)?;
    let kit = guest::kit(device)?;
    let kernel = one_kernel(&kit, &args.kernel)?;
    make_folder(&args.campaign.out)?;
    let stop = stopped()?;
    let (stats, patience) = (Stats::default(), args.patience);
    let mut rig =
        Rig { device, module, scenario, kit: &kit, kernel, patience, running: None, stats };
    let mut random = ChaCha8Rng::seed_from_u64(args.campaign.seed);
    let start = Instant::now();
    while start.elapsed() < args.campaign.time && !stop.load(Ordering::Relaxed) {
        let plan = plans::plan(&mut random, &target);
        let Some((defect, trace)) = rig.case(&plan)? else { continue };
        rig.stats.defects += 1;
        let program = serde_json::to_value(&plan).unwrap_or_default();
        let bytes = program.to_string().len();
        let finding = Finding {
            format: understudy_fuzzing::finding::FORMAT,
            kind: "driver".to_owned(),
            target: device.name.to_owned(),
            seed: args.campaign.seed,
            execution: rig.stats.executions,
            config: json!({ "kernel": kernel.release(), "module": module,
                "patience": args.patience.as_secs() }),
            defect,
            first_bytes: bytes,
            bytes,
            program,
            trace,
        };
        keep(&finding, &args.campaign.out)?;
    }
    let mut stats = rig.stats;
    stats.seconds = start.elapsed().as_secs_f64();
    stats.per_minute = stats.executions as f64 / (stats.seconds / 60.0).max(0.001);
    stats.findings = count_findings(&args.campaign.out);
    let line = format!(
        "{} on {}: {} cases in {:.0} s, {:.1} a minute, {} boots, {} faults fired, {} findings\n",
        module,
        kernel.release(),
        stats.executions,
        stats.seconds,
        stats.per_minute,
        stats.boots,
        stats.faults_fired,
        stats.findings
    );
    end(&args.campaign, &stats, &line)?;
    Ok(stats.findings == 0)
}

fn one_kernel<'k>(kit: &'k Kit, name: &str) -> Result<&'k Kernel, Failure> {
    let kernels = kit
        .select(name)
        .map_err(|error| Failure::usage(error, "--kernel", "a version, a release or a suite"))?;
    let first = kernels.into_iter().next();
    first.ok_or_else(|| Failure::usage("no kernel", "--kernel", "a version that is prepared"))
}

pub(crate) fn replay(finding: &Finding) -> Result<Option<Defect>, Failure> {
    let broken = |error: &dyn std::fmt::Display| {
        Failure::usage(error, "finding", "a whole finding of fuzz driver")
    };
    let plan: Plan =
        serde_json::from_value(finding.program.clone()).map_err(|error| broken(&error))?;
    let device = host::device(&finding.target)?;
    let (module, scenario) = driver(device)?;
    let kit = guest::kit(device)?;
    let release = finding.config["kernel"].as_str().ok_or_else(|| broken(&"no kernel"))?;
    let kernel = one_kernel(&kit, release)?;
    let patience = Duration::from_secs(finding.config["patience"].as_u64().unwrap_or(30));
    let stats = Stats::default();
    let mut rig =
        Rig { device, module, scenario, kit: &kit, kernel, patience, running: None, stats };
    print(&format!("booting {release}\n"))?;
    Ok(rig.case(&plan)?.map(|(defect, _)| defect))
}
