//! `understudy mutants`.

mod reasons;
mod summary;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::Value;
use understudy_catalog::{DEVICES, Device};
use understudy_conformance::{Check, Kind, Settings, Target, Verdict, checks, run as run_checks};
use understudy_mutants::{Mutant, of_device, of_server};

use crate::cli::MutantsArgs;
use crate::failure::{Failure, Outcome};
use crate::{host, print};
use reasons::Reasons;
use summary::{Fate, Summary};
use target::Mutated;

/// What mutants of a server are called, and the device that it serves.
const SERVER: (&str, &str) = ("server", "virtio-crypto");
/// Checks in which a mutant may hang before the others are not tried on it.
const PATIENCE: u32 = 3;
/// The check that stands for all when a device cannot be attached to, and how often that is tried.
const ATTACH: &str = "vfio-user/attach/1";
const ATTEMPTS: u32 = 4;

pub(crate) fn run(args: &MutantsArgs) -> Outcome {
    let reasons = Reasons::load().map_err(|error| {
        Failure::environment("the reasons of this build are broken", "mutants.json", error)
    })?;
    let mut subjects = subjects(args)?;
    for subject in &mut subjects {
        let name = subject.name;
        subject.mutants.retain(|mutant| {
            args.only.is_empty() || args.only.iter().any(|filter| filter.matches(&mutant.id))
        });
        subject.mutants.retain(|mutant| reasons.equivalent(name, &mutant.id).is_none());
    }
    if subjects.iter().all(|subject| subject.mutants.is_empty()) {
        return Err(Failure::usage("no mutant is called so", "--only", "see --list"));
    }
    if args.list {
        return print(&summary::list(&subjects));
    }
    quiet_jobs();
    let mut summaries = Vec::new();
    for subject in subjects.iter().filter(|subject| !subject.mutants.is_empty()) {
        summaries.push(try_all(subject, args)?);
    }
    let good = if args.json {
        print(&summary::json(&summaries, &reasons)?)?;
        summaries.iter().all(|summary| summary.is_good(&reasons))
    } else {
        let mut good = true;
        for summary in &summaries {
            print(&summary.text(&reasons))?;
            good &= summary.is_good(&reasons);
        }
        good
    };
    let unnoticed = summary::idle_checks(&summaries);
    let mut every = true;
    if args.every_check {
        let (text, all) = summary::idle(&unnoticed, &reasons);
        every = all;
        if !args.json {
            print(&text)?;
        }
    }
    Ok(good && every)
}

/// A job that panics is an error of its device, as it should be. Mutants do it often, and nobody wants
/// to read of it.
fn quiet_jobs() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_job = std::thread::current().name().is_some_and(|name| name.starts_with("job-"));
        if !is_job {
            usual(info);
        }
    }));
}

/// What is broken in many ways.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    device: &'static Device,
    pub(crate) mutants: Vec<Mutant>,
}

impl Subject {
    /// The device with nothing wrong, reached as its mutants are.
    fn sound(&self) -> Result<Mutated, Failure> {
        if self.name == SERVER.0 {
            return Mutated::proxied(self.device);
        }
        Mutated::start(self.device, None)
    }
}

fn subjects(args: &MutantsArgs) -> Result<Vec<Subject>, Failure> {
    let all = DEVICES.iter().map(|device| device.name).chain([SERVER.0]);
    let names: Vec<&str> = match args.devices.as_slice() {
        [] => all.collect(),
        names => names.iter().map(String::as_str).collect(),
    };
    let mut subjects = Vec::new();
    for name in names {
        subjects.push(if name == SERVER.0 {
            Subject { name: SERVER.0, device: host::device(SERVER.1)?, mutants: of_server() }
        } else {
            let device = host::device(name)?;
            let build = || device.build(Value::Null).map_err(|error| error.to_string());
            let mutants = of_device(&build, device.vocabulary)
                .map_err(|error| Failure::environment("cannot probe the device", name, error))?;
            Subject { name: device.name, device, mutants }
        });
    }
    Ok(subjects)
}

/// Everything that the threads share.
struct Trial<'a> {
    subject: &'a Subject,
    /// In the order in which they are tried.
    checks: Vec<&'static Check>,
    /// Whether the device passes a check when nothing is wrong, for checks that noticed something.
    sound: Mutex<BTreeMap<&'static str, bool>>,
    settings: Settings,
    every_check: bool,
    next: AtomicUsize,
    /// Checks that noticed mutants of a kind, or of a place: they are tried first on others of it.
    killers: Mutex<BTreeMap<String, Vec<&'static str>>>,
    /// Checks that have noticed nothing yet.
    idle: Mutex<BTreeSet<&'static str>>,
    fates: Mutex<Vec<(usize, Fate)>>,
    progress: ProgressBar,
}

fn try_all(subject: &Subject, args: &MutantsArgs) -> Result<Summary, Failure> {
    let settings = Settings {
        limit: args.timeout,
        kind: kind(subject.device.name),
        patience: PATIENCE,
        ..Settings::default()
    };
    let checks = if args.every_check { healthy(subject, &settings)? } else { checks::all() };
    let trial = Trial {
        subject,
        checks: in_order(checks, subject),
        sound: Mutex::default(),
        settings,
        every_check: args.every_check,
        next: AtomicUsize::new(0),
        killers: Mutex::default(),
        idle: Mutex::default(),
        fates: Mutex::default(),
        progress: ProgressBar::new(subject.mutants.len() as u64),
    };
    if args.every_check {
        lock(&trial.idle).extend(trial.checks.iter().map(|check| check.id));
    }
    let workers = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs).map(|_| scope.spawn(|| trial.work())).collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_| ())).collect::<Vec<_>>()
    });
    trial.progress.finish_and_clear();
    for worker in workers {
        worker.map_err(|()| Failure::environment("a thread panicked", subject.name, "a bug"))??;
    }
    let Trial { idle, fates, checks, .. } = trial;
    let mut fates = fates.into_inner().unwrap_or_else(PoisonError::into_inner);
    fates.sort_by_key(|(index, _)| *index);
    Ok(Summary {
        name: subject.name,
        fates: fates.into_iter().map(|(_, fate)| fate).collect(),
        checks: checks.iter().map(|check| check.id).collect(),
        idle: idle.into_inner().unwrap_or_else(PoisonError::into_inner),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the device is, even if a mutant's ids say something else.
fn kind(device: &str) -> Option<Kind> {
    Kind::ALL.iter().find(|(name, _)| *name == device).map(|(_, kind)| *kind)
}

/// Checks about the subject itself first.
fn in_order(mut checks: Vec<&'static Check>, subject: &Subject) -> Vec<&'static Check> {
    if subject.name != SERVER.0 {
        checks.sort_by_key(|check| check.area() == "vfio-user");
    }
    checks
}

/// A busy machine is no reason to doubt a device with nothing wrong.
fn patient(settings: &Settings) -> Settings {
    Settings { limit: Duration::from_secs(30), ..settings.clone() }
}

/// The checks that the device passes when nothing is wrong.
fn healthy(subject: &Subject, settings: &Settings) -> Result<Vec<&'static Check>, Failure> {
    let mut target = subject.sound()?;
    let all = checks::all();
    let report = run_checks(&mut target, &all, patient(settings), &mut |_| {});
    let passed = |check: &&&Check| {
        let results = report.results.iter().filter(|result| result.id == check.id);
        results.map(|result| &result.verdict).any(is_pass)
    };
    let healthy: Vec<&'static Check> = all.iter().filter(passed).copied().collect();
    if healthy.is_empty() {
        let what = "the device passes no check even when nothing is broken";
        return Err(Failure::environment(what, subject.name, "see understudy check"));
    }
    Ok(healthy)
}

fn is_pass(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Pass | Verdict::Rejected { .. })
}

/// What mutants have in common that are noticed by the same checks: the kind, and the place
/// (`pci.command` of `deaf/pci.command/2-0`, `misc.pf2vf` of `stuck/misc.pf2vf[0]`).
fn families(mutant: &Mutant) -> [&str; 2] {
    let place = mutant.id.split(['/', '[']).nth(1).unwrap_or("");
    [mutant.kind(), place]
}

impl Trial<'_> {
    /// Tries one mutant after the other, until there is none left.
    fn work(&self) -> Result<(), Failure> {
        loop {
            let index = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(mutant) = self.subject.mutants.get(index) else { return Ok(()) };
            self.progress.set_message(mutant.id.clone());
            let fate = self.fate(mutant)?;
            lock(&self.fates).push((index, fate));
            self.progress.inc(1);
        }
    }

    /// What becomes of a mutant.
    fn fate(&self, mutant: &Mutant) -> Result<Fate, Failure> {
        let mut target = Mutated::start(self.subject.device, Some(mutant))?;
        let settings = Settings { fail_fast: true, ..self.settings.clone() };
        let mut order = self.order(mutant);
        let mut killer = None;
        let mut attempts = ATTEMPTS;
        while killer.is_none() && !order.is_empty() {
            let report = run_checks(&mut target, &order, settings.clone(), &mut |_| {});
            let Some(last) = report.results.last().filter(|last| last.verdict.is_bad()) else {
                break;
            };
            let is_wedged = matches!(last.verdict, Verdict::Wedged { .. });
            if is_wedged && last.id == ATTACH && attempts > 0 {
                // Its config space takes a busy machine longer to read than a check may.
                attempts -= 1;
                continue;
            }
            if !self.is_the_mutants_doing(&last.id, is_wedged)? {
                // The checks after it may still notice it.
                let done = order.iter().position(|check| check.id == last.id).unwrap_or(0);
                order.drain(..=done);
                continue;
            }
            killer = Some((last.id.clone(), last.verdict.detail()));
        }
        if let Some((id, _)) = &killer {
            self.credit(mutant, id);
        }
        if self.every_check {
            self.find_others(&mut target, mutant);
        }
        Ok(Fate { mutant: mutant.clone(), killer })
    }

    /// All checks, first those that noticed mutants like this one.
    fn order(&self, mutant: &Mutant) -> Vec<&'static Check> {
        let killers = lock(&self.killers);
        let lists =
            families(mutant).map(|family| killers.get(family).map_or(&[][..], Vec::as_slice));
        let rank = |check: &&Check| {
            let ranks = lists.iter().map(|list| list.iter().rev().position(|id| *id == check.id));
            ranks.flatten().min().unwrap_or(usize::MAX)
        };
        let mut order = self.checks.clone();
        order.sort_by_key(rank);
        order
    }

    fn credit(&self, mutant: &Mutant, id: &str) {
        let Some(check) = self.checks.iter().find(|check| check.id == id) else { return };
        lock(&self.idle).remove(check.id);
        let mut killers = lock(&self.killers);
        for family in families(mutant) {
            let killers = killers.entry(family.to_owned()).or_default();
            killers.retain(|known| *known != check.id);
            killers.push(check.id);
        }
    }

    /// Whether a device with nothing wrong passes what a mutant did not. If the mutant did not answer
    /// in time, it may be the machine that is busy, so that is asked again every time.
    fn is_the_mutants_doing(&self, id: &str, is_wedged: bool) -> Result<bool, Failure> {
        let Some(check) = self.checks.iter().find(|check| check.id == id) else { return Ok(true) };
        let known = lock(&self.sound).get(check.id).copied();
        if let Some(known) = known.filter(|known| !known || !is_wedged) {
            return Ok(known);
        }
        let mut target = self.subject.sound()?;
        let settings = if is_wedged { self.settings.clone() } else { patient(&self.settings) };
        let report = run_checks(&mut target, &[check], settings, &mut |_| {});
        let passes = report.results.iter().map(|result| &result.verdict).any(is_pass);
        if !is_wedged {
            lock(&self.sound).insert(check.id, passes);
        }
        Ok(passes)
    }

    /// Lets the checks that have noticed nothing yet look at this mutant too.
    fn find_others(&self, target: &mut dyn Target, mutant: &Mutant) {
        let idle = lock(&self.idle).clone();
        let others: Vec<&Check> =
            self.checks.iter().copied().filter(|check| idle.contains(check.id)).collect();
        if others.is_empty() {
            return;
        }
        let report = run_checks(target, &others, self.settings.clone(), &mut |_| {});
        for result in report.results.iter().filter(|result| result.verdict.is_bad()) {
            self.credit(mutant, &result.id);
        }
    }
}
