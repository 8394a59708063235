//! `understudy simulate`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use understudy_faults::{Plan, resolve, text};
use understudy_workload::planted::Bug;
use understudy_workload::{
    Case, Failure as Found, FailureKind, Generator, Run, WorkloadError, run, shrink,
};

use crate::cli::SimulateArgs;
use crate::failure::{Failure, Outcome};
use crate::{faults, host, print};

/// Where findings go, unless something else is said.
const FOLDER: &str = "understudy-findings";

/// A case that fails, and how.
#[derive(Debug, Serialize, Deserialize)]
struct Finding {
    /// Version of the program that found it.
    version: String,
    /// How it fails.
    failure: Found,
    /// Everything that the run depends on.
    case: Case,
    /// The last events. Not read.
    #[serde(default)]
    tail: Vec<String>,
}

/// What all runs did together.
#[derive(Debug, Default)]
struct Totals {
    operations: u64,
    completed: u64,
    restarts: u64,
    fired: BTreeMap<String, u64>,
    nanos: u128,
    hash: u64,
    failures: Vec<(u64, Found)>,
    error: Option<WorkloadError>,
}

pub(crate) fn command(args: &SimulateArgs) -> Outcome {
    // Panics are findings, and told as such.
    std::panic::set_hook(Box::new(|_| {}));
    match (&args.replay, &args.device) {
        (Some(file), _) => replay(file),
        (None, Some(device)) => simulate(args, device),
        (None, None) => Err(Failure::usage("no device", "command line", "its name, or --replay")),
    }
}

fn simulate(args: &SimulateArgs, device: &str) -> Outcome {
    let device = host::device(device)?;
    let parameters = args.set.of(device)?;
    let generator =
        Generator::with_parameters(device, parameters).map_err(|error| wrong(&error))?;
    let plan = match &args.plan {
        None => None,
        Some(path) => {
            let plan = faults::read_plan(path)?;
            let mistakes = resolve::check(&plan, generator.target());
            if !mistakes.is_empty() {
                return Err(faults::failure(&mistakes, path.display()));
            }
            Some(plan)
        }
    };
    let maker = Maker { generator, plan, bug: args.bug };
    let start = Instant::now();
    let threads =
        args.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
    let totals = all(args, &maker, threads);
    if let Some(error) = totals.error {
        return Err(wrong(&error));
    }
    print(&summary(args, &args.set.name(device), &totals, start.elapsed(), threads))?;
    let mut shrunk = BTreeSet::new();
    for (seed, found) in &totals.failures {
        print(&format!("FAIL seed {seed}: {found}\n"))?;
        // One of each kind is enough to look at.
        if shrunk.insert(found.kind) {
            print(&report(args, &maker.case(*seed), *seed, found)?)?;
        }
    }
    Ok(totals.failures.is_empty())
}

/// Makes the case of each seed.
struct Maker {
    generator: Generator,
    plan: Option<Plan>,
    bug: Option<Bug>,
}

impl Maker {
    fn case(&self, seed: u64) -> Case {
        let case = match &self.plan {
            None => self.generator.case(seed),
            Some(plan) => self.generator.case_with(seed, plan),
        };
        Case { planted: self.bug, ..case }
    }
}

fn all(args: &SimulateArgs, maker: &Maker, threads: usize) -> Totals {
    let totals = Mutex::new(Totals::default());
    let next = AtomicU64::new(0);
    let bar = ProgressBar::new(args.seeds).with_style(style());
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= args.seeds {
                        break;
                    }
                    let seed = args.seed.wrapping_add(at);
                    let done = once_or_twice(&maker.case(seed), args.once);
                    totals.lock().unwrap_or_else(PoisonError::into_inner).add(seed, done);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.failures.sort_by_key(|(seed, _)| seed.wrapping_sub(args.seed));
    totals
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left");
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A run is a pure function of its case: the second is the same as the first.
fn once_or_twice(case: &Case, once: bool) -> Result<Run, WorkloadError> {
    let mut first = run(case)?;
    if !once && first.failure.is_none() {
        let second = run(case)?;
        if second.hash != first.hash || second.failure.is_some() {
            let what = format!("trace hash {:#018x}, then {:#018x}", first.hash, second.hash);
            let kind = FailureKind::Different;
            first.failure = Some(Found { kind, what, operation: None, at: first.stats.nanos });
        }
    }
    Ok(first)
}

impl Totals {
    fn add(&mut self, seed: u64, done: Result<Run, WorkloadError>) {
        let Run { failure, hash, stats, .. } = match done {
            Ok(run) => run,
            Err(error) => {
                self.error = Some(error);
                return;
            }
        };
        self.operations += stats.operations;
        self.completed += stats.completed;
        self.restarts += stats.restarts;
        self.nanos += u128::from(stats.nanos);
        for (kind, times) in stats.fired {
            *self.fired.entry(kind).or_default() += times;
        }
        // In any order, with the seed in it.
        self.hash = self.hash.wrapping_add(hash.rotate_left(u32::from(seed.to_le_bytes()[0]) % 64));
        self.failures.extend(failure.map(|failure| (seed, failure)));
    }
}

fn summary(
    args: &SimulateArgs,
    device: &str,
    totals: &Totals,
    time: Duration,
    threads: usize,
) -> String {
    let Totals { operations, completed, restarts, fired, nanos, hash, failures, .. } = totals;
    let seeds = args.seeds;
    let twice = if args.once { "once" } else { "twice" };
    let happened: u64 = fired.values().sum();
    let mut out = format!("{device}: {seeds} seeds from {}, each run {twice}\n", args.seed);
    let _ = writeln!(
        out,
        "  {operations} operations, {completed} requests completed, {restarts} restarts of the driver"
    );
    let _ = write!(out, "  {happened} faults of {} kinds", fired.len());
    let least: Vec<String> = fired.iter().map(|(kind, times)| format!("{kind} {times}")).collect();
    let _ = writeln!(out, "{}{}", if least.is_empty() { "" } else { ": " }, least.join(", "));
    let _ = writeln!(
        out,
        "  {:.1} s of virtual time in {:.1} s on {threads} threads; all hashes together {hash:#018x}",
        Duration::from_nanos(u64::try_from(*nanos).unwrap_or(u64::MAX)).as_secs_f64(),
        time.as_secs_f64()
    );
    let _ = writeln!(out, "  {} passed, {} failed", seeds - failures.len() as u64, failures.len());
    out
}

/// Makes a failing case small, writes it down and says how to run it.
fn report(args: &SimulateArgs, case: &Case, seed: u64, found: &Found) -> Result<String, Failure> {
    let mut out = String::new();
    let (case, failure, tail) = match shrink(case) {
        Some(small) if found.kind != FailureKind::Different => {
            let faults = small.case.plan.faults.len();
            let operations = small.case.operations.len();
            let _ = writeln!(
                out,
                "  shrunk in {} runs to {operations} operations and {faults} faults:",
                small.runs
            );
            let failure = small.run.failure.unwrap_or_else(|| found.clone());
            (small.case, failure, small.run.tail)
        }
        // What is different from run to run cannot be made smaller.
        _ => (case.clone(), found.clone(), Vec::new()),
    };
    for fault in &case.plan.faults {
        let _ = writeln!(out, "    fault {}", text::short(fault));
    }
    for operation in &case.operations {
        let _ = writeln!(out, "    {}", serde_json::to_string(operation).unwrap_or_default());
    }
    let _ = writeln!(out, "    {failure}");
    let name = case.device.clone();
    let finding = Finding { version: env!("CARGO_PKG_VERSION").to_owned(), failure, case, tail };
    let folder = args.out.clone().unwrap_or_else(default_folder);
    let path = folder.join(format!("{name}-{seed}.json"));
    let text = serde_json::to_string_pretty(&finding).unwrap_or_default() + "\n";
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, text))
        .map_err(|error| Failure::environment("cannot write the finding", path.display(), error))?;
    let _ = writeln!(out, "  understudy simulate --replay {}", path.display());
    Ok(out)
}

fn default_folder() -> PathBuf {
    let target = Path::new("target");
    if target.is_dir() { target.join(FOLDER) } else { PathBuf::from(FOLDER) }
}

fn replay(file: &Path) -> Outcome {
    let place = file.display();
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::usage("cannot read the finding", place, error))?;
    let place = file.display();
    let Finding { failure, case, .. } = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(error, place, "a file that simulate wrote"))?;
    let done = once_or_twice(&case, false).map_err(|error| wrong(&error))?;
    let Some(now) = done.failure else {
        print(&format!("{}: does not fail any more\n  then: {failure}\n", case.device))?;
        return Ok(true);
    };
    let same = now.is_like(&failure);
    let word = if same { "fails in the same way" } else { "fails in another way" };
    let mut out = format!("{}: {word}\n  now:  {now}\n", case.device);
    if now != failure {
        let _ = writeln!(out, "  then: {failure}");
    }
    for line in done.tail {
        let _ = writeln!(out, "{line}");
    }
    print(&out)?;
    Ok(false)
}

fn wrong(error: &WorkloadError) -> Failure {
    Failure::usage(error, "simulation", "see understudy devices and understudy faults list")
}
