//! `understudy check --driver`: a driver in a guest, judged by what it does to its device.

use std::path::Path;
use std::time::{Duration, Instant};

use understudy_catalog::Device;
use understudy_conformance::ledger::{Ledger, Requirement, Status};
use understudy_conformance::{CheckResult, DeviceReport, Report, Verdict};
use understudy_faults::Plan;
use understudy_guest::{Kernel, Kit, Scenario, Step, Task, Verdict as StepVerdict};
use understudy_trace::WatchReport;

use super::{reports, tool};
use crate::cli::{CheckArgs, DriverArgs, TraceArgs};
use crate::failure::{Failure, Outcome};
use crate::guest::{self, Served, Traced};
use crate::parameters::quoted;
use crate::{host, operators};

/// Lines of the guest's console that a failure shows.
const CONSOLE_LINES: usize = 24;
/// What a guest may take with a user's kernel or command, at most, is `--timeout` times this: it is
/// meant for a check.
const GUEST_LIMIT: Duration = Duration::from_secs(300);

pub(super) fn run(driver: &str, args: &CheckArgs) -> Outcome {
    let (name, scenario) = driver.split_once('/').unwrap_or((driver, ""));
    let device = host::device(name)?;
    let plan = args.driver.faults.plan()?;
    let ledger = Ledger::load().map_err(|error| {
        Failure::environment("the ledger of this build is broken", "conformance", error)
    })?;
    let mut scenarios = scenarios(device, scenario, args)?;
    let kit = guest::kit(device)?;
    let kernel = kernel(&kit, &args.driver)?;
    operators::provide(&mut scenarios)?;
    let mut results = Vec::new();
    for round in 1..=args.repeat {
        for scenario in &scenarios {
            let run = Run { device, scenario, kernel: &kernel, args, plan: plan.as_ref(), round };
            results.extend(run.results(&kit, &ledger));
            if args.fail_fast && results.iter().any(|result| result.verdict.is_bad()) {
                break;
            }
        }
    }
    let drivers: Vec<&str> = device.drivers.iter().map(|driver| driver.name).collect();
    let what = match &args.driver.command {
        Some(_) => format!("a driver of {name}, on {}", kernel.release()),
        None => format!("{} on {}", drivers.first().unwrap_or(&name), kernel.release()),
    };
    let pci_id = pci_ids(device, &scenarios)?;
    let report = Report::new(tool(), vec![DeviceReport { device: what, pci_id, results }]);
    let report = report.with_seed(args.seed);
    reports::publish(&report, args.format, args.report_dir.as_deref())?;
    Ok(report.passed())
}

/// The ids of what the guests have: scenarios differ in their devices' parameters.
fn pci_ids(device: &Device, scenarios: &[Scenario]) -> Result<String, Failure> {
    let failed = |why: String| Failure::environment("a broken scenario", device.name, why);
    let mut ids = Vec::new();
    for scenario in scenarios {
        for parameters in guest::parameters(scenario.devices).map_err(failed)? {
            let model = device.build(parameters).map_err(|error| failed(error.to_string()))?;
            let id = host::pci_id(model.identity());
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    Ok(ids.join(", "))
}

/// The scenarios that are meant, with what the user changes.
fn scenarios(device: &Device, wanted: &str, args: &CheckArgs) -> Result<Vec<Scenario>, Failure> {
    let all = guest::all_scenarios(device, args.seed)?;
    let known: Vec<&str> = all.iter().map(|scenario| scenario.id).collect();
    if !wanted.is_empty() && !known.contains(&wanted) {
        let what = format!("no scenario is called {wanted:?}");
        return Err(Failure::usage(what, "--driver", format!("one of: {}", known.join(", "))));
    }
    let mut chosen: Vec<Scenario> =
        all.into_iter().filter(|scenario| wanted.is_empty() || scenario.id == wanted).collect();
    if let Some(command) = &args.driver.command {
        // Once: the steps are the user's whatever the scenario.
        chosen.truncate(1);
        for scenario in &mut chosen {
            let script = command.clone();
            scenario.steps = vec![
                Step::perform("command", Task::Shell { script }).within(GUEST_LIMIT),
                Step::perform("kernel-log", Task::KernelLog),
            ];
        }
    }
    for scenario in &mut chosen {
        scenario.config.initrd.clone_from(&args.driver.initrd);
        if let Some(folder) = args.driver.modules.as_deref() {
            if is_tree(folder) {
                let kept = args.driver.command.is_none();
                scenario.config.modules.retain(|_| kept);
                if !kept {
                    scenario.config.modules.push("kernel/".to_owned());
                }
            } else {
                scenario.config.trees.push((folder.to_owned(), "driver".to_owned()));
            }
        }
    }
    Ok(chosen)
}

/// Whether a folder is a kernel's `/lib/modules/RELEASE`.
fn is_tree(folder: &Path) -> bool {
    folder.join("modules.dep").is_file()
}

fn kernel(kit: &Kit, args: &DriverArgs) -> Result<Kernel, Failure> {
    let wrong = |error: understudy_guest::Error| {
        Failure::usage(error, "--kernel", "a version, a release, a suite, or an image")
    };
    let tree = args.modules.as_deref().filter(|folder| is_tree(folder));
    match &args.kernel {
        Some(path) if Path::new(path).is_file() => {
            Kernel::of_user(Path::new(path), tree).map_err(wrong)
        }
        name => {
            let name = name.as_deref().unwrap_or("all");
            let kernels = kit.select(name).map_err(wrong)?;
            let first = kernels.first().copied().cloned();
            first.ok_or_else(|| Failure::usage("there is no kernel", "--kernel", "see ci/prepare"))
        }
    }
}

/// One scenario in one guest.
struct Run<'a> {
    device: &'static Device,
    scenario: &'a Scenario,
    kernel: &'a Kernel,
    args: &'a CheckArgs,
    plan: Option<&'a Plan>,
    round: u32,
}

impl Run<'_> {
    fn results(&self, kit: &Kit, ledger: &Ledger) -> Vec<CheckResult> {
        let start = Instant::now();
        let seed = self.args.seed.wrapping_add(u64::from(self.round) - 1);
        let traced = Traced {
            args: Some(TraceArgs { trace: None, trace_limit: 1 }),
            monitor: true,
            name: format!("{}-{}", self.kernel.release(), self.scenario.id),
            many: false,
        };
        let mut devices = Served::new(self.device).traced(traced).faulty(self.plan.cloned());
        let spinner = guest::spinner(&format!("{} in a guest", self.scenario.id));
        let report = self.scenario.run(kit, self.kernel, seed, &mut devices);
        let seen = devices.seen();
        // What it has to say is in `seen`.
        let _ = devices.finish();
        spinner.finish_and_clear();
        let mut results: Vec<CheckResult> = Vec::new();
        for step in &report.steps {
            let micros = Duration::try_from_secs_f64(step.seconds).unwrap_or_default().as_micros();
            results.push(CheckResult {
                id: format!("driver/{}/{}/{}", self.device.name, self.scenario.id, step.id),
                title: format!("{}: step {}", self.title(), step.id),
                clause: "what the driver is for".to_owned(),
                verdict: self.judged(&step.verdict),
                micros: u64::try_from(micros).unwrap_or(u64::MAX),
                ..self.blank()
            });
        }
        let has_run = report.steps.first().is_some_and(|boot| boot.verdict == StepVerdict::Pass);
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        for requirement in ledger.requirements() {
            results.extend(self.watched(requirement, &seen, has_run, micros));
        }
        for result in results.iter_mut().filter(|result| result.verdict.is_bad()) {
            result.replay = self.replay(seed);
            if result.trace.is_empty() {
                let lines: Vec<&str> = report.log.lines().collect();
                let from = lines.len().saturating_sub(CONSOLE_LINES);
                result.trace = lines.iter().skip(from).map(|line| (*line).to_owned()).collect();
            }
        }
        results
    }

    fn title(&self) -> &str {
        if self.args.driver.command.is_some() { "the command given" } else { self.scenario.title }
    }

    fn blank(&self) -> CheckResult {
        CheckResult {
            id: String::new(),
            title: String::new(),
            clause: String::new(),
            verdict: Verdict::Pass,
            micros: 0,
            round: self.round,
            requirements: Vec::new(),
            replay: String::new(),
            trace: Vec::new(),
        }
    }

    /// A step that fails is the driver's failure, unless faults were injected: then it need only
    /// fail in order.
    fn judged(&self, verdict: &StepVerdict) -> Verdict {
        match verdict {
            StepVerdict::Pass => Verdict::Pass,
            StepVerdict::Fail { reason } if self.plan.is_some() => {
                Verdict::Skipped { reason: format!("failed under the faults injected: {reason}") }
            }
            StepVerdict::Fail { reason } => {
                Verdict::Fail { expected: "the step passes".to_owned(), seen: reason.clone() }
            }
            StepVerdict::Missing { reason } if reason.contains("not reached") => {
                Verdict::Skipped { reason: "not reached".to_owned() }
            }
            StepVerdict::Missing { reason } => Verdict::Wedged { waiting_for: reason.clone() },
        }
    }

    /// What a monitor has to say of a demand on drivers.
    fn watched(
        &self,
        requirement: &Requirement,
        seen: &[WatchReport],
        has_run: bool,
        micros: u64,
    ) -> Option<CheckResult> {
        let Status::Watched(rules) = &requirement.status else { return None };
        let area = rules.first()?.split('/').next()?;
        let applies = area == "pci" || self.device.name.starts_with(area);
        if !applies {
            return None;
        }
        let findings = seen.iter().flat_map(|report| &report.findings);
        let broken: Vec<_> =
            findings.filter(|finding| rules.iter().any(|rule| rule == finding.id)).collect();
        let missing: u64 = seen.iter().map(|report| report.missing).sum();
        let verdict = match broken.first() {
            Some(finding) => Verdict::Fail {
                expected: requirement.text.clone(),
                seen: format!("{} ({} times)", finding.what, finding.count),
            },
            None if !has_run => Verdict::Skipped { reason: "the guest did not boot".to_owned() },
            None if missing > 0 => {
                Verdict::Skipped { reason: format!("{missing} records of the trace are missing") }
            }
            None => Verdict::Pass,
        };
        let trace = broken.iter().map(|finding| {
            let seconds = finding.at / 1_000_000_000;
            format!("record {} at {seconds} s: {}", finding.position, finding.what)
        });
        Some(CheckResult {
            id: requirement.id.clone(),
            title: requirement.text.clone(),
            clause: requirement.section.clone(),
            verdict,
            micros,
            requirements: vec![requirement.id.clone()],
            trace: trace.collect(),
            ..self.blank()
        })
    }

    /// The command that does it again.
    fn replay(&self, seed: u64) -> String {
        let DriverArgs { kernel, modules, initrd, command, faults, .. } = &self.args.driver;
        let name = format!("{}/{}", self.device.name, self.scenario.id);
        let mut words = vec![format!("understudy check --driver {name} --seed {seed}")];
        let paths = [("modules", modules), ("initrd", initrd), ("faults", &faults.faults)];
        if let Some(kernel) = kernel {
            words.push(format!("--kernel {}", quoted(kernel)));
        }
        for (option, path) in paths {
            if let Some(path) = path {
                words.push(format!("--{option} {}", quoted(&path.display().to_string())));
            }
        }
        words.extend(faults.fault.iter().map(|fault| format!("--fault {}", quoted(fault))));
        if let Some(command) = command {
            words.push(format!("--command {}", quoted(command)));
        }
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use understudy_trace::RULES;

    use super::*;

    #[test]
    fn each_rule_of_the_monitors_is_a_demand_of_the_ledger_and_each_demand_a_rule() {
        let ledger = Ledger::load().unwrap();
        let mut demands = BTreeMap::new();
        for requirement in ledger.requirements() {
            let Status::Watched(rules) = &requirement.status else { continue };
            for rule in rules {
                demands.insert(rule.as_str(), requirement.section.as_str());
            }
        }
        let rules: BTreeMap<_, _> = RULES.iter().map(|rule| (rule.id, rule.clause)).collect();
        assert_eq!(demands, rules);
    }

    #[test]
    fn a_report_names_the_ids_of_all_the_functions_that_guests_have() {
        let ids = |name: &str, scenario: &str| {
            let device = understudy_catalog::find(name).unwrap();
            let mut scenarios = guest::all_scenarios(device, 1).unwrap();
            scenarios.retain(|it| scenario.is_empty() || it.id == scenario);
            pci_ids(device, &scenarios).unwrap()
        };
        assert_eq!(ids("virtio-crypto", ""), "1af4:1054");
        assert_eq!(ids("qat", "driver"), "8086:37c9");
        assert_eq!(ids("qat", "c3xxx"), "8086:19e3");
        assert_eq!(ids("qat", ""), "8086:37c9, 8086:19e3, 8086:0443");
    }

    #[test]
    fn registers_that_the_monitor_of_qaic_looks_for_are_the_models() {
        let sources = concat!(
            include_str!("../../../../harness/trace/src/monitor/qaic.rs"),
            include_str!("../../../../harness/trace/src/monitor/qaic/bridge.rs"),
            include_str!("../../../../harness/trace/src/monitor/qaic/rings.rs"),
        );
        let names = sources.split('"').skip(1).step_by(2);
        let names = names.filter(|name| name.starts_with("mhi.") || name.starts_with("dbc."));
        let device = understudy_catalog::find("qaic").unwrap();
        let model = device.build(device.default_parameters()).unwrap();
        let function = understudy_pci::PciFunction::new(model).unwrap();
        let registers =
            understudy_trace::RegisterName::all(function.identity(), &function.inspect());
        for name in names {
            let is_there = registers.iter().any(|register| register.name.starts_with(name));
            assert!(is_there, "{name}");
        }
    }
}
