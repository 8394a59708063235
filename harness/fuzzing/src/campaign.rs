//! Campaigns of our own engine: jobs, a folder with corpus, findings and statistics, resumed as
//! often as one likes.
//!
//! The folder has `corpus/` (programs that showed something new), `findings/` (one file for each
//! defect) and `stats.json`. A campaign in a folder that has them goes on from there: it reads the
//! corpus, drops what adds nothing, and draws from where no earlier round of it has drawn.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::finding::{FileError, Finding};
use crate::minimise::minimise;
use crate::program::Program;
use crate::target::Target;

/// Runs between two looks at the clock.
const SLICE: u64 = 256;
/// Largest program of a corpus that is read, in bytes.
const MAX_PROGRAM: u64 = 1 << 20;

/// How long, with how many threads, from which seed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads, at least 1.
    pub jobs: u32,
    /// How long.
    pub time: Duration,
    /// Where randomness starts.
    pub seed: u64,
    /// The folder.
    pub out: PathBuf,
}

/// Statistics of all rounds in a folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// What is fuzzed.
    pub target: String,
    /// Where randomness started.
    pub seed: u64,
    /// Times that the campaign was started.
    pub rounds: u64,
    /// Jobs of the last round.
    pub jobs: u32,
    /// Seconds of all rounds.
    pub seconds: f64,
    /// Executions of all rounds.
    pub executions: u64,
    /// Executions a second in the last round.
    pub per_second: f64,
    /// Programs in the corpus.
    pub corpus: usize,
    /// Findings that are told apart.
    pub findings: usize,
    /// Executions that had a defect.
    pub defects: u64,
}

/// What is known while it runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Executions of this round.
    pub executions: u64,
    /// Findings that are told apart, in this round.
    pub findings: usize,
    /// How long this round has run.
    pub elapsed: Duration,
}

struct Shared<'a> {
    options: &'a Options,
    stop: &'a AtomicBool,
    executions: AtomicU64,
    defects: AtomicU64,
    keys: Mutex<BTreeSet<String>>,
    failure: Mutex<Option<String>>,
    start: Instant,
}

impl Shared<'_> {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.start.elapsed() >= self.options.time
    }

    fn fail(&self, error: String) {
        self.stop.store(true, Ordering::Relaxed);
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(error);
        }
    }
}

/// Runs a campaign until its time is over or `stop` is set. `progress` is called now and then.
///
/// # Errors
/// If the folder cannot be used, or the target's model cannot be made.
pub fn run(
    target: &dyn Target,
    options: &Options,
    stop: &AtomicBool,
    mut progress: impl FnMut(Progress),
) -> Result<Stats, String> {
    let corpus_folder = options.out.join("corpus");
    std::fs::create_dir_all(&corpus_folder)
        .map_err(|error| format!("{}: {error}", corpus_folder.display()))?;
    let before = read_stats(&options.out).filter(|stats| stats.target == target.name());
    let before = before.unwrap_or_default();
    let round = before.rounds;
    let corpus = read_corpus(&corpus_folder);
    let shared = Shared {
        options,
        stop,
        executions: AtomicU64::new(0),
        defects: AtomicU64::new(0),
        keys: Mutex::new(BTreeSet::new()),
        failure: Mutex::new(None),
        start: Instant::now(),
    };
    let kept = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..options.jobs.max(1))
            .map(|job| {
                let (shared, corpus) = (&shared, corpus.as_slice());
                scope.spawn(move || {
                    let seed = options.seed ^ round << 40 ^ u64::from(job) << 32;
                    work(target, shared, corpus, seed).unwrap_or_else(|error| {
                        shared.fail(error);
                        Vec::new()
                    })
                })
            })
            .collect();
        while jobs.iter().any(|job| !job.is_finished()) {
            std::thread::sleep(Duration::from_millis(100));
            progress(Progress {
                executions: shared.executions.load(Ordering::Relaxed),
                findings: shared.keys.lock().map_or(0, |keys| keys.len()),
                elapsed: shared.start.elapsed(),
            });
        }
        jobs.into_iter().flat_map(|job| job.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    if let Ok(Some(failure)) = shared.failure.into_inner() {
        return Err(failure);
    }
    let corpus = write_corpus(target, &corpus_folder, kept)?;
    let seconds = shared.start.elapsed().as_secs_f64();
    let executions = shared.executions.into_inner();
    let stats = Stats {
        target: target.name().to_owned(),
        seed: options.seed,
        rounds: round + 1,
        jobs: options.jobs,
        seconds: before.seconds + seconds,
        executions: before.executions + executions,
        per_second: executions as f64 / seconds.max(0.001),
        corpus,
        findings: count(&options.out.join("findings")),
        defects: before.defects + shared.defects.into_inner(),
    };
    write_stats(&options.out, &stats).map_err(|error| error.to_string())?;
    Ok(stats)
}

/// One job. The corpus that it ends with.
fn work(
    target: &dyn Target,
    shared: &Shared<'_>,
    corpus: &[Program],
    seed: u64,
) -> Result<Vec<Program>, String> {
    let mut engine = Engine::new(target, seed)?;
    for program in corpus {
        engine.add(program.clone())?;
    }
    while !shared.is_over() {
        let before = engine.executions();
        for _ in 0..SLICE {
            let (outcome, program) = engine.step()?;
            let (Some(defect), Some(first)) = (outcome.defect(), program) else { continue };
            shared.defects.fetch_add(1, Ordering::Relaxed);
            let key = format!("{}: {}", defect.kind, defect.clause);
            let new = shared.keys.lock().is_ok_and(|mut keys| keys.insert(key));
            if new {
                let execution = engine.executions();
                let (smaller, _) = minimise(engine.executor(), &first, defect)?;
                let executor = engine.executor();
                let finding =
                    Finding::in_process(executor, seed, execution, &first, &smaller, defect)?;
                let folder = shared.options.out.join("findings");
                finding.write(&folder).map_err(|error| error.to_string())?;
            }
        }
        shared.executions.fetch_add(engine.executions() - before, Ordering::Relaxed);
    }
    Ok(engine.corpus().to_vec())
}

fn read_corpus(folder: &Path) -> Vec<Program> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    let small = |path: &PathBuf| path.metadata().is_ok_and(|data| data.len() <= MAX_PROGRAM);
    let files = files.into_iter().filter(small);
    files.filter_map(|path| std::fs::read(path).ok()).map(|b| Program::from_bytes(&b)).collect()
}

/// Writes the programs of all jobs that add something to those before them, and nothing else.
fn write_corpus(
    target: &dyn Target,
    folder: &Path,
    mut programs: Vec<Program>,
) -> Result<usize, String> {
    // Small ones first: they stand for larger ones that show the same.
    programs.sort_by_cached_key(Program::size);
    let mut engine = Engine::new(target, 0)?;
    for program in programs {
        engine.add(program)?;
    }
    let mut names = BTreeSet::new();
    for program in engine.corpus() {
        let text = serde_json::to_string(program).unwrap_or_default();
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let name = format!("{hash:016x}.json");
        std::fs::write(folder.join(&name), text).map_err(|error| error.to_string())?;
        names.insert(name);
    }
    for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.len() == 21 && name.ends_with(".json");
        if ours && !names.contains(&name) {
            std::fs::remove_file(entry.path()).map_err(|error| error.to_string())?;
        }
    }
    Ok(names.len())
}

fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| entries.flatten().count())
}

fn read_stats(folder: &Path) -> Option<Stats> {
    let text = std::fs::read_to_string(folder.join("stats.json")).ok()?;
    serde_json::from_str(&text).ok()
}

/// Writes statistics of any kind into a folder.
///
/// # Errors
/// [`FileError::Io`].
pub fn write_stats(folder: &Path, stats: &impl Serialize) -> Result<(), FileError> {
    let mut text = serde_json::to_string_pretty(stats).unwrap_or_default();
    text.push('\n');
    Ok(std::fs::write(folder.join("stats.json"), text)?)
}
