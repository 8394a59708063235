//! Runs checks on one device after another.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::ledger::Ledger;
use crate::{Check, CheckResult, Context, DeviceReport, Kind, Profile, Stop, Verdict, log};

/// A device that can be attached to, and replaced when it hangs.
pub trait Target {
    /// What reports call it.
    fn name(&self) -> &str;

    /// Where its server listens.
    fn socket(&self) -> &Path;

    /// Waits until the next client can attach, where a server ends with its client and is started
    /// again. Called before each check.
    fn settle(&mut self) {}

    /// Whether the server may be about to end, and to be started again, when a client attaches.
    fn restarts(&self) -> bool {
        false
    }

    /// Puts a new device at the socket in place of one that has stopped answering.
    ///
    /// # Errors
    /// Why there is none; the rest of the device's checks are then skipped.
    fn replace(&mut self) -> Result<(), String>;
}

/// A server that somebody else runs. It cannot be replaced, only attached to again.
#[derive(Debug, Clone)]
pub struct Socket {
    name: String,
    path: PathBuf,
}

impl Socket {
    /// The server at a path.
    #[must_use]
    pub fn new(name: &str, path: &Path) -> Self {
        Self { name: name.to_owned(), path: path.to_owned() }
    }
}

impl Target for Socket {
    fn name(&self) -> &str {
        &self.name
    }

    fn socket(&self) -> &Path {
        &self.path
    }

    fn replace(&mut self) -> Result<(), String> {
        match UnixStream::connect(&self.path) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the server takes no connection: {error}")),
        }
    }
}

/// How checks are run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The time that each check has.
    pub limit: Duration,
    /// Where random contents start.
    pub seed: u64,
    /// Whether the order is drawn from the seed too; else it is that of the list.
    pub shuffle: bool,
    /// How often all checks run, at least once.
    pub repeat: u32,
    /// Whether the first failure ends the run.
    pub fail_fast: bool,
    /// After so many checks in which the device did not answer, the rest is skipped.
    pub patience: u32,
    /// What the device is, whatever its ids say.
    pub kind: Option<Kind>,
    /// The beginning of the command that runs a check again: the check's id is put after it.
    pub replay: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limit: Duration::from_secs(10),
            seed: 1,
            shuffle: false,
            repeat: 1,
            fail_fast: false,
            patience: u32::MAX,
            kind: None,
            replay: String::new(),
        }
    }
}

impl From<Duration> for Settings {
    fn from(limit: Duration) -> Self {
        Self { limit, ..Self::default() }
    }
}

/// A part of all checks, for runs that are spread over machines: every `of`-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 1.
    pub part: usize,
    /// How many parts there are.
    pub of: usize,
}

impl Shard {
    /// Parses `2/4`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(part, of)| {
            let (part, of) = (part.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&part).then_some(Self { part, of })
        });
        parsed.ok_or_else(|| "expected a part and how many there are, such as 2/4".to_owned())
    }

    /// Whether the item at this place of a list is in the part.
    #[must_use]
    pub fn includes(self, index: usize) -> bool {
        index % self.of == self.part - 1
    }
}

/// Runs the checks that say something about this device, each on a fresh attachment.
///
/// `seen` is called with each result as it comes. A [`Duration`] will do for settings.
pub fn run(
    target: &mut dyn Target,
    checks: &[&Check],
    settings: impl Into<Settings>,
    seen: &mut dyn FnMut(&CheckResult),
) -> DeviceReport {
    let settings = settings.into();
    let device = target.name().to_owned();
    log::start();
    let mut profile = match Profile::probe(target.socket(), settings.limit) {
        Ok(profile) => profile,
        Err(stop) => {
            let result = unreachable_device(stop, &settings);
            seen(&result);
            return DeviceReport { device, pci_id: "?".into(), results: vec![result] };
        }
    };
    profile.kind = settings.kind;
    let mut run = Run { ledger: Ledger::load().ok(), gone: None, settings: &settings };
    let mut results = Vec::new();
    'rounds: for round in 1..=settings.repeat.max(1) {
        for check in run.order(checks, &profile, round) {
            let result = run.one(target, &profile, check, round);
            seen(&result);
            results.push(result);
            let wedged = |r: &&CheckResult| matches!(r.verdict, Verdict::Wedged { .. });
            if run.gone.is_none()
                && results.iter().filter(wedged).count() as u64 >= u64::from(settings.patience)
            {
                run.gone = Some("it did not answer too often".to_owned());
            }
            if settings.fail_fast && results.last().is_some_and(|r| r.verdict.is_bad()) {
                break 'rounds;
            }
        }
    }
    DeviceReport { device, pci_id: profile.pci_id(), results }
}

/// One device's run.
struct Run<'a> {
    settings: &'a Settings,
    ledger: Option<Ledger>,
    /// Why there is no device any more.
    gone: Option<String>,
}

impl Run<'_> {
    fn seed(&self, round: u32) -> u64 {
        self.settings.seed.wrapping_add(u64::from(round) - 1)
    }

    fn order<'c>(&self, checks: &[&'c Check], profile: &Profile, round: u32) -> Vec<&'c Check> {
        let applies = |check: &&Check| profile.has_area(check.area());
        let mut order: Vec<&Check> = checks.iter().copied().filter(applies).collect();
        if self.settings.shuffle {
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(self.seed(round)));
        }
        order
    }

    fn one(
        &mut self,
        target: &mut dyn Target,
        profile: &Profile,
        check: &Check,
        round: u32,
    ) -> CheckResult {
        let start = Instant::now();
        let verdict = match &self.gone {
            Some(why) => Verdict::Skipped { reason: format!("there is no device: {why}") },
            None => {
                target.settle();
                let context = Context::new(target.socket(), profile, self.settings.limit)
                    .of_server_that_restarts(target.restarts());
                log::start();
                (check.run)(&mut context.with_seed(self.seed(round)))
                    .map_or_else(Verdict::from, |()| Verdict::Pass)
            }
        };
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let log = log::take();
        let verdict = match verdict {
            Verdict::Pass if !log.refusals.is_empty() => {
                Verdict::Rejected { how: log.refusals.join("; ") }
            }
            verdict => self.after(target, verdict),
        };
        let mut result = CheckResult {
            id: check.id.to_owned(),
            title: check.title.to_owned(),
            clause: check.clause.to_owned(),
            verdict,
            micros,
            round,
            requirements: Vec::new(),
            replay: String::new(),
            trace: Vec::new(),
        };
        if let Some(ledger) = &self.ledger {
            result.requirements = ledger.of(check.id).map(|demand| demand.id.clone()).collect();
        }
        if result.verdict.is_bad() {
            result.replay = replay(self.settings, check.id, self.seed(round));
            result.trace = log.lines();
        }
        result
    }

    /// Makes sure that there is a device for the next check.
    fn after(&mut self, target: &mut dyn Target, mut verdict: Verdict) -> Verdict {
        let hangs = matches!(verdict, Verdict::Wedged { .. });
        // A server that died fails the check at hand, and would fail all that follow.
        let is_dead = || verdict.is_bad() && UnixStream::connect(target.socket()).is_err();
        if !hangs && !is_dead() {
            return verdict;
        }
        if let Err(why) = target.replace() {
            if let Verdict::Wedged { waiting_for } = &mut verdict {
                waiting_for.push_str(&format!("; no new device: {why}"));
            }
            self.gone = Some(why);
        }
        verdict
    }
}

fn replay(settings: &Settings, id: &str, seed: u64) -> String {
    match settings.replay.as_str() {
        "" => String::new(),
        // Contents follow from the seed, so that it is part of the command; the order of one check
        // is no matter.
        command => format!("{command} --only {id} --seed {seed}"),
    }
}

/// The result that stands for all checks of a device that cannot even be identified.
fn unreachable_device(stop: Stop, settings: &Settings) -> CheckResult {
    let replay = match settings.replay.as_str() {
        "" => String::new(),
        command => command.to_owned(),
    };
    CheckResult {
        id: "vfio-user/attach/1".into(),
        title: "A client attaches and reads config space".into(),
        clause: "vfio-user, Connection Initiation".into(),
        verdict: stop.into(),
        micros: 0,
        round: 1,
        requirements: Vec::new(),
        replay,
        trace: log::take().lines(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_everything_once() {
        let shards: Vec<Shard> =
            ["1/3", "2/3", "3/3"].iter().map(|text| Shard::parse(text).unwrap()).collect();
        for index in 0..20 {
            assert_eq!(shards.iter().filter(|shard| shard.includes(index)).count(), 1);
        }
        for wrong in ["", "0/3", "4/3", "1", "a/b", "1/0", "-1/2"] {
            assert!(Shard::parse(wrong).is_err(), "{wrong}");
        }
    }
}
