//! `understudy fuzz client`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Value, json};
use understudy_fuzzing::client::{HostileServer, Plan, Served, plan, serve};
use understudy_fuzzing::{Defect, DefectKind, Finding};
use understudy_guest::Kit;
use understudy_server::{DeviceServer, Options};

use super::qemu::{Answer, Qemu};
use super::{count_findings, end, keep, make_folder, plain, rounds, seed, stopped};
use crate::failure::{Failure, Outcome};
use crate::fuzz::args::ClientArgs;
use crate::{host, print};

/// QEMU waits 5 seconds for an answer, several times over.
const HANG: Duration = Duration::from_secs(40);
/// How long the firmware may look for devices.
const BOOT: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Default, Serialize)]
struct Stats {
    rounds: u64,
    executions: u64,
    requests: u64,
    deeds: u64,
    attached: u64,
    refused: u64,
    seconds: f64,
    per_second: f64,
    findings: usize,
    defects: u64,
}

/// The hostile server and the honest one behind it.
struct Rig {
    hostile: HostileServer,
    socket: PathBuf,
    honest: DeviceServer,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new(device: &str, socket: &Path) -> Result<Self, Failure> {
        let device = host::device(device)?;
        let cannot =
            |error: std::io::Error| Failure::environment("cannot listen", socket.display(), error);
        let folder = tempfile::tempdir().map_err(cannot)?;
        let path = folder.path().join("honest.sock");
        let honest = host::serve(device, Value::Null, &path, Options::default())
            .map_err(|error| error.into_failure(&path))?;
        let hostile = HostileServer::bind(socket).map_err(cannot)?;
        Ok(Self { hostile, socket: socket.to_owned(), honest, _folder: folder })
    }

    /// Serves the next client, if one comes in time.
    fn serve(&self, plan: &Plan, limit: Duration, stop: &AtomicBool) -> Option<Served> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline && !stop.load(Ordering::Relaxed) {
            let slice = Instant::now() + Duration::from_millis(100);
            if let Ok(Some(stream)) = self.hostile.accept(slice) {
                return serve(stream, self.honest.path(), plan, deadline, stop).ok();
            }
        }
        None
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Ours: it was not there before.
        let _ = std::fs::remove_file(&self.socket);
    }
}

pub(crate) fn run(args: &ClientArgs) -> Outcome {
    let qemu = args.qemu.as_deref().map(program).transpose()?;
    make_folder(&args.campaign.out)?;
    let rig = Rig::new(&args.device, &args.socket)?;
    let stop = stopped()?;
    if qemu.is_none() {
        print(&format!("a hostile {} waits on {}\n", args.device, args.socket.display()))?;
    }
    let rounds = rounds(&args.campaign.out);
    let mut random = ChaCha8Rng::seed_from_u64(seed(&args.campaign, rounds));
    let mut stats = Stats { rounds: rounds + 1, ..Stats::default() };
    let mut running: Option<Qemu> = None;
    let start = Instant::now();
    while start.elapsed() < args.campaign.time && !stop.load(Ordering::Relaxed) {
        let plan = plan(&mut random);
        let Some(qemu) = &qemu else {
            let left = args.campaign.time.saturating_sub(start.elapsed());
            if let Some(served) = rig.serve(&plan, left, &stop) {
                count(&mut stats, served);
            }
            continue;
        };
        let (defect, words) = case(&rig, qemu, &mut running, &plan, &mut stats)?;
        if let Some(defect) = defect {
            stats.defects += 1;
            running = None;
            let finding = finding(args, qemu, &plan, defect, words, stats.executions);
            let path = args.campaign.out.join("findings").join(finding.file_name());
            if !path.exists() {
                let smaller = minimise(&rig, qemu, &finding, &plan)?;
                keep(&smaller, &args.campaign.out)?;
            }
        }
    }
    stats.seconds = start.elapsed().as_secs_f64();
    stats.per_second = stats.executions as f64 / stats.seconds.max(0.001);
    stats.findings = count_findings(&args.campaign.out);
    let line = format!(
        "{} executions in {:.0} s, {:.1}/s, {} attached, {} refused, {} findings\n",
        stats.executions,
        stats.seconds,
        stats.per_second,
        stats.attached,
        stats.refused,
        stats.findings
    );
    end(&args.campaign, &stats, &line)?;
    Ok(stats.findings == 0)
}

fn count(stats: &mut Stats, served: Served) {
    stats.executions += 1;
    stats.requests += u64::from(served.requests);
    stats.deeds += u64::from(served.deeds);
}

/// The QEMU that was asked for, or the one of the guests' kit.
fn program(path: &str) -> Result<PathBuf, Failure> {
    if !path.is_empty() {
        return Ok(PathBuf::from(path));
    }
    let kit = Kit::find().map_err(|error| Failure::environment(error, "--qemu", "ci/prepare"))?;
    Ok(kit.qemu())
}

/// Has QEMU attach a device that follows the plan.
fn case(
    rig: &Rig,
    program: &Path,
    running: &mut Option<Qemu>,
    plan: &Plan,
    stats: &mut Stats,
) -> Result<(Option<Defect>, Vec<String>), Failure> {
    let mut qemu = match running.take() {
        Some(qemu) => qemu,
        None => Qemu::start(program)
            .map_err(|error| Failure::environment("cannot start QEMU", program.display(), error))?,
    };
    let done = AtomicBool::new(false);
    let (answer, served) = std::thread::scope(|scope| {
        let server = scope.spawn(|| rig.serve(plan, HANG, &done));
        let mut answer = qemu.attach(&rig.socket, HANG);
        if answer == Answer::Done {
            stats.attached += 1;
            answer = qemu.boot(BOOT);
        } else if matches!(answer, Answer::Refused(_)) {
            stats.refused += 1;
        }
        done.store(true, Ordering::Relaxed);
        (answer, server.join().ok().flatten())
    });
    count(stats, served.unwrap_or_default());
    Ok(match answer {
        // Attached once, its place is taken: the next case gets a fresh QEMU.
        Answer::Done => (None, Vec::new()),
        Answer::Refused(_) => {
            *running = Some(qemu);
            (None, Vec::new())
        }
        Answer::Silence => {
            let clause = "QEMU does not answer its monitor";
            (Some(Defect::new(DefectKind::Hang, clause, format!("for {HANG:?}"))), Vec::new())
        }
        Answer::Gone(status, words) => {
            (Some(Defect::new(DefectKind::Crash, cause(&status, &words), status)), words)
        }
    })
}

/// How QEMU ended and what it said of it: the line that tells most, or else the last one.
fn cause(status: &str, words: &[String]) -> String {
    let telling = ["Assertion", "hardware error:", "fatal:", "ERROR:", "terminate called"];
    // Registers and warnings say nothing of the cause.
    let said = |line: &&String| line.starts_with("qemu") && !line.contains("warning:");
    let line = words.iter().find(|line| telling.iter().any(|word| line.contains(word)));
    let line = line.or_else(|| words.iter().rev().find(said));
    line.map_or_else(
        || status.to_owned(),
        |line| {
            // Without the program's name.
            let text = line.split_once(": ").map_or(line.as_str(), |(_, text)| text);
            format!("{status}: {}", plain(text))
        },
    )
}

fn finding(
    args: &ClientArgs,
    qemu: &Path,
    plan: &Plan,
    defect: Defect,
    trace: Vec<String>,
    execution: u64,
) -> Finding {
    let program = serde_json::to_value(plan).unwrap_or_default();
    let bytes = program.to_string().len();
    Finding {
        format: understudy_fuzzing::finding::FORMAT,
        kind: "client".to_owned(),
        target: "qemu".to_owned(),
        seed: args.campaign.seed,
        execution,
        config: json!({ "device": args.device, "qemu": qemu }),
        defect,
        first_bytes: bytes,
        bytes,
        program,
        trace,
    }
}

/// Leaves out what the defect does not need.
fn minimise(rig: &Rig, qemu: &Path, finding: &Finding, plan: &Plan) -> Result<Finding, Failure> {
    let mut smaller = finding.clone();
    // A hang takes too long to see again and again.
    if finding.defect.kind == DefectKind::Hang {
        return Ok(smaller);
    }
    let mut failure = None;
    let mut attempts = 0;
    let acts = understudy_fuzzing::minimise::without(&plan.acts, |acts| {
        attempts += 1;
        if attempts > 24 {
            return false;
        }
        let candidate = Plan { honest: plan.honest, acts: acts.to_vec() };
        match case(rig, qemu, &mut None, &candidate, &mut Stats::default()) {
            Ok((found, _)) => found.is_some_and(|found| found.is_same(&finding.defect)),
            Err(error) => {
                failure = Some(error);
                false
            }
        }
    });
    let plan = Plan { honest: plan.honest, acts };
    smaller.program = serde_json::to_value(&plan).unwrap_or_default();
    smaller.bytes = smaller.program.to_string().len();
    failure.map_or(Ok(smaller), Err)
}

pub(crate) fn replay(finding: &Finding) -> Result<Option<Defect>, Failure> {
    let broken = |error: &dyn std::fmt::Display| {
        Failure::usage(error, "finding", "a whole finding of fuzz client")
    };
    let plan: Plan =
        serde_json::from_value(finding.program.clone()).map_err(|error| broken(&error))?;
    let device = finding.config["device"].as_str().ok_or_else(|| broken(&"no device"))?;
    let given = finding.config["qemu"].as_str().map(PathBuf::from).filter(|path| path.exists());
    let qemu = given.map_or_else(|| program(""), Ok)?;
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::environment("no temporary folder", "replay", error))?;
    let rig = Rig::new(device, &folder.path().join("hostile.sock"))?;
    let (defect, _) = case(&rig, &qemu, &mut None, &plan, &mut Stats::default())?;
    Ok(defect)
}
