//! Runs checks on one device after another.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Check, CheckResult, Context, DeviceReport, Profile, Stop, Verdict};

/// A device that can be attached to, and replaced when it hangs.
pub trait Target {
    /// What reports call it.
    fn name(&self) -> &str;

    /// Where its server listens.
    fn socket(&self) -> &Path;

    /// Puts a new device at the socket in place of one that has stopped answering.
    ///
    /// # Errors
    /// Why there is none; the rest of the device's checks then fail.
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
        Ok(())
    }
}

/// Runs the checks that say something about this device, in order, each on a fresh attachment.
///
/// `limit` is the time that each check has. `seen` is called with each result as it comes.
pub fn run(
    target: &mut dyn Target,
    checks: &[&Check],
    limit: Duration,
    seen: &mut dyn FnMut(&CheckResult),
) -> DeviceReport {
    let device = target.name().to_owned();
    let profile = match Profile::probe(target.socket(), limit) {
        Ok(profile) => profile,
        Err(stop) => {
            let result = unreachable_device(stop);
            seen(&result);
            return DeviceReport { device, pci_id: "?".into(), results: vec![result] };
        }
    };
    let mut results = Vec::new();
    for check in checks.iter().filter(|check| profile.has_area(check.area())) {
        let result = run_one(target, &profile, check, limit);
        seen(&result);
        results.push(result);
    }
    DeviceReport { device, pci_id: profile.pci_id(), results }
}

fn run_one(
    target: &mut dyn Target,
    profile: &Profile,
    check: &Check,
    limit: Duration,
) -> CheckResult {
    let start = Instant::now();
    let outcome = (check.run)(&mut Context::new(target.socket(), profile, limit));
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut verdict = outcome.map_or_else(Verdict::from, |()| Verdict::Pass);
    if let Verdict::Wedged { waiting_for } = &mut verdict
        && let Err(why) = target.replace()
    {
        waiting_for.push_str(&format!("; no new device: {why}"));
    }
    CheckResult {
        id: check.id.to_owned(),
        title: check.title.to_owned(),
        clause: check.clause.to_owned(),
        verdict,
        micros,
    }
}

/// The result that stands for all checks of a device that cannot even be identified.
fn unreachable_device(stop: Stop) -> CheckResult {
    CheckResult {
        id: "vfio-user/attach/1".into(),
        title: "A client attaches and reads config space".into(),
        clause: "vfio-user, Connection Initiation".into(),
        verdict: stop.into(),
        micros: 0,
    }
}
