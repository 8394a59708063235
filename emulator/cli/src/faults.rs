//! `understudy faults`, and fault plans from command lines.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use understudy_catalog::{DEVICES, Device};
use understudy_faults::{Fault, Mistake, Plan, Target, kinds, resolve, text};
use understudy_pci::PciFunction;

use crate::cli::{FaultArgs, FaultsCommand, FaultsListArgs};
use crate::control::{Method, ask_with, path_of};
use crate::devices::columns;
use crate::failure::{Failure, Outcome};
use crate::{host, print};

pub(crate) fn run(command: &FaultsCommand) -> Outcome {
    match command {
        FaultsCommand::List(args) => list(args),
        FaultsCommand::Check { plan, device } => check(plan, device.as_deref()),
        FaultsCommand::Inject { socket, faults } => {
            let Some(plan) = faults.plan()? else {
                return Err(Failure::usage("no faults", "command line", "--fault or --faults"));
            };
            let plan = json!({ "plan": plan });
            let answer = ask_with(&control(socket), Method::FaultsInject, plan)?;
            let ids = answer["ids"].as_array().map_or(&[][..], Vec::as_slice);
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            print(&format!("injected: {}\n", ids.join(" ")))
        }
        FaultsCommand::Show { socket, json } => {
            show(&ask_with(&control(socket), Method::FaultsList, Value::Null)?, *json)
        }
        FaultsCommand::Clear { socket, id } => {
            let answer = ask_with(&control(socket), Method::FaultsClear, json!({ "id": id }))?;
            print(&format!("cleared: {}\n", answer["cleared"]))
        }
    }
}

/// The control socket of a device's socket, or that itself.
fn control(socket: &Path) -> PathBuf {
    let is_control = socket.extension().is_some_and(|extension| extension == "control");
    if is_control { socket.to_owned() } else { path_of(socket) }
}

/// What plans can name of a device with default parameters.
pub(crate) fn target(device: &Device) -> Result<Target, Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        Failure::usage(error, device.name, "other default parameters")
    };
    let model = device.build(Value::Null).map_err(|error| refused(&error))?;
    let function = PciFunction::new(model).map_err(|error| refused(&error))?;
    Ok(Target::new(&function, device.vocabulary))
}

fn list(args: &FaultsListArgs) -> Outcome {
    let devices: Vec<&'static Device> = match &args.device {
        Some(name) => vec![host::device(name)?],
        None => DEVICES.iter().collect(),
    };
    let targets: Vec<Target> =
        devices.iter().map(|device| target(device)).collect::<Result<_, _>>()?;
    if args.json {
        let all = targets.iter().map(|target| {
            (
                target.device.clone(),
                serde_json::to_value(kinds::support(target)).unwrap_or_default(),
            )
        });
        let all = Value::Object(all.collect());
        return print(&(serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"));
    }
    let mut out = kind_table(&targets);
    for target in &targets {
        refusals(&mut out, target);
    }
    if args.names {
        targets.iter().for_each(|target| names(&mut out, target));
    }
    print(&out)
}

fn kind_table(targets: &[Target]) -> String {
    let rows: Vec<[String; 4]> = kinds::ALL
        .iter()
        .map(|kind| {
            let has = targets.iter().filter(|target| kinds::refusal(kind.name, target).is_none());
            let devices: Vec<_> = has.map(|target| target.device.as_str()).collect();
            let on: Vec<_> = kind.sites.iter().map(|site| json!(site)).collect();
            let on: Vec<_> = on.iter().filter_map(Value::as_str).collect();
            let on = if on.is_empty() { "any".to_owned() } else { on.join(", ") };
            let summary = match kind.parameters {
                [] => kind.summary.to_owned(),
                all => format!("{} ({})", kind.summary, all.join(", ")),
            };
            [kind.name.to_owned(), on, devices.join(", "), summary]
        })
        .collect();
    columns(&["KIND", "ON", "DEVICES", "WHAT HAPPENS"], &rows)
}

fn refusals(out: &mut String, target: &Target) {
    for support in kinds::support(target) {
        if let Some(reason) = support.refused {
            let _ = writeln!(out, "\n{} refuses {}: {reason}", target.device, support.kind.name);
        }
    }
}

/// What plans can say of a device.
fn names(out: &mut String, target: &Target) {
    let words = target.vocabulary;
    let mut line = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            let _ = writeln!(out, "  {what}: {}", names.join(", "));
        }
    };
    let plain = |all: &[understudy_device::Named]| all.iter().map(|n| n.name.to_owned()).collect();
    line(&target.device, vec!["names for plans".to_owned()]);
    line("queues", target.queues.iter().map(|(at, name)| format!("{at} ({name})")).collect());
    line("opcodes", plain(words.opcodes));
    line("statuses", plain(words.statuses));
    line("features", plain(words.features.map_or(&[][..], |window| window.features)));
    line("registers", target.registers.iter().map(|register| register.name.clone()).collect());
}

fn check(path: &Path, device: Option<&str>) -> Outcome {
    let plan = match read(path) {
        Ok(plan) => plan,
        Err(Wrong::Unreadable(failure)) => return Err(failure),
        Err(Wrong::Mistakes(mistakes)) => return told(path, &mistakes),
    };
    let name = device.or(plan.device.as_deref());
    let devices: Vec<&'static Device> = match name {
        Some(name) => vec![host::device(name)?],
        None => DEVICES.iter().collect(),
    };
    let mut out = String::new();
    let mut fits = false;
    for device in devices {
        let mistakes = resolve::check(&plan, &target(device)?);
        let place = format!("{} on {}", path.display(), device.name);
        if mistakes.is_empty() {
            fits = true;
            let _ = writeln!(out, "{place}: {} faults, no mistakes", plan.faults.len());
        }
        for mistake in mistakes {
            let _ = writeln!(out, "{place}: {mistake}");
        }
    }
    print(&out)?;
    Ok(fits)
}

fn told(path: &Path, mistakes: &[Mistake]) -> Outcome {
    let lines = mistakes.iter().map(|mistake| format!("{}: {mistake}\n", path.display()));
    print(&lines.collect::<String>())?;
    Ok(false)
}

enum Wrong {
    Unreadable(Failure),
    Mistakes(Vec<Mistake>),
}

fn read(path: &Path) -> Result<Plan, Wrong> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Wrong::Unreadable(Failure::usage("cannot read the fault plan", path.display(), error))
    })?;
    text::plan(&text).map_err(Wrong::Mistakes)
}

/// The plan in a file.
pub(crate) fn read_plan(path: &Path) -> Result<Plan, Failure> {
    read(path).map_err(|wrong| match wrong {
        Wrong::Unreadable(failure) => failure,
        Wrong::Mistakes(mistakes) => failure(&mistakes, path.display()),
    })
}

/// What is wrong with a plan, on one line.
pub(crate) fn failure(mistakes: &[Mistake], place: impl std::fmt::Display) -> Failure {
    let first = mistakes.first().map_or_else(String::new, ToString::to_string);
    let remedy = match mistakes.len() {
        0 | 1 => "see understudy faults list".to_owned(),
        more => format!("and {} more, see understudy faults check", more - 1),
    };
    Failure::usage(first, place, remedy)
}

impl FaultArgs {
    /// The plan of these arguments, if they have any.
    pub(crate) fn plan(&self) -> Result<Option<Plan>, Failure> {
        let mut plan = match &self.faults {
            None => Plan::default(),
            Some(path) => read_plan(path)?,
        };
        let given: Vec<Fault> = self
            .fault
            .iter()
            .map(|text| text::fault(text).map_err(|mistake| failure(&[mistake], "--fault")))
            .collect::<Result<_, _>>()?;
        plan.faults.extend(given);
        let any = self.faults.is_some() || !plan.faults.is_empty();
        Ok(any.then_some(plan))
    }
}

fn show(answer: &Value, json: bool) -> Outcome {
    if json {
        let text = serde_json::to_string_pretty(answer).unwrap_or_default();
        return print(&(text + "\n"));
    }
    let list = |name: &str| answer[name].as_array().map_or(&[][..], Vec::as_slice).to_vec();
    let rows: Vec<[String; 5]> = list("faults")
        .into_iter()
        .map(|listed| {
            let fault = json!({ "fault": listed["fault"], "when": listed.get("when"),
                "count": listed.get("count"), "once": listed.get("once") });
            let fault = Value::Object(
                fault
                    .as_object()
                    .cloned()
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|(_, value)| !value.is_null())
                    .collect(),
            );
            let short = serde_json::from_value(fault).map(|fault| text::short(&fault));
            let cell = |name: &str| listed[name].to_string();
            let lasting = if listed["lasting"] == json!(true) { "yes" } else { "" };
            [cell("id"), cell("seen"), cell("fired"), lasting.to_owned(), short.unwrap_or_default()]
        })
        .collect();
    let mut out = columns(&["ID", "SEEN", "FIRED", "LASTS", "FAULT"], &rows);
    for fired in list("log") {
        let nanos = fired["at"].as_u64().unwrap_or(0);
        let word = |name: &str| fired[name].as_str().unwrap_or("?").to_owned();
        let (kind, on) = (word("kind"), word("on"));
        let _ = writeln!(out, "{:>12} us  fault {} ({kind}) on {on}", nanos / 1000, fired["id"]);
    }
    print(&out)
}
