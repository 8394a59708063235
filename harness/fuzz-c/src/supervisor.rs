//! Our own engine for code that can crash.
//!
//! A child process runs the engine and notes each program before it runs it. If the child dies or
//! stands still, the program in its note is the one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use understudy_fuzzing::engine::Engine;
use understudy_fuzzing::minimise::shrink;
use understudy_fuzzing::{Defect, DefectKind, Executor, Finding, Outcome, Program};

use crate::abi::CTarget;

/// A run that takes longer stands still.
const PATIENCE: Duration = Duration::from_secs(5);
/// Processes that minimising may start.
const MAX_ATTEMPTS: u32 = 600;
/// Exit code of a child that has a finding without dying.
const FOUND: i32 = 1;
/// Bytes of a note's head: runs so far, length of the program.
const HEAD: usize = 16;

struct Options {
    seed: u64,
    runs: u64,
    time: Duration,
    out: PathBuf,
}

pub(crate) fn main(arguments: Vec<String>, target: &CTarget) -> u8 {
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let done = match words.as_slice() {
        ["replay", file] => replay(Path::new(file), target),
        ["--child", note, seed, runs] => child(Path::new(note), seed, runs, target),
        ["--once", file] => once(Path::new(file), target),
        ["fuzz", rest @ ..] => options(rest).and_then(|options| fuzz(&options, target)),
        _ => {
            Err("expected: fuzz [--seed N] [--runs N] [--time SECONDS] [--out DIR], or replay FILE"
                .to_owned())
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("understudy: {error}");
        2
    })
}

fn options(words: &[&str]) -> Result<Options, String> {
    let mut options = Options {
        seed: 1,
        runs: u64::MAX,
        time: Duration::from_secs(60),
        out: PathBuf::from("understudy-findings"),
    };
    for pair in words.chunks(2) {
        let [name, value] = pair else { return Err(format!("{}: expected a value", pair[0])) };
        let number = || value.parse().map_err(|_| format!("{name}: expected a number"));
        match *name {
            "--seed" => options.seed = number()?,
            "--runs" => options.runs = number()?,
            "--time" => options.time = Duration::from_secs(number()?),
            "--out" => options.out = PathBuf::from(value),
            _ => return Err(format!("{name}: expected --seed, --runs, --time or --out")),
        }
    }
    Ok(options)
}

/// Runs the engine in a child until it has a finding or is done.
fn fuzz(options: &Options, target: &CTarget) -> Result<u8, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    std::fs::create_dir_all(&options.out)
        .map_err(|error| format!("{}: {error}", options.out.display()))?;
    let note = options.out.join(format!(".note-{}", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&note);
    let file = file.map_err(|error| format!("{}: {error}", note.display()))?;
    let mut child = Command::new(&here)
        .arg("--child")
        .arg(&note)
        .args([options.seed.to_string(), options.runs.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", here.display()))?;
    let ended = watch(&mut child, &file, options.time);
    let noted = read_note(&file);
    let _ = std::fs::remove_file(&note);
    let Some(defect) = ended else {
        println!("no finding in {} runs, seed {}", noted.as_ref().map_or(0, |n| n.0), options.seed);
        return Ok(0);
    };
    let (execution, first) = noted.ok_or("the child left no note")?;
    println!("run {execution}: {defect}");
    let path = options.out.join(".attempt");
    let smaller = minimise(&here, &path, &first, &defect);
    let _ = std::fs::remove_file(&path);
    let finding = Finding {
        format: understudy_fuzzing::finding::FORMAT,
        kind: "c".to_owned(),
        target: here.file_name().map_or_else(String::new, |name| name.to_string_lossy().into()),
        seed: options.seed,
        execution,
        config: json!({ "device": target.device }),
        defect,
        first_bytes: first.size(),
        bytes: smaller.size(),
        program: serde_json::to_value(&smaller).unwrap_or_default(),
        trace: Vec::new(),
    };
    let (path, _) = finding.write(&options.out).map_err(|error| error.to_string())?;
    println!("{} bytes, then {}: {}", finding.first_bytes, finding.bytes, path.display());
    println!("replay: {} replay {}", here.display(), path.display());
    Ok(1)
}

/// Waits for a child. What is wrong with how it ended, if something is.
fn watch(child: &mut Child, note: &File, time: Duration) -> Option<Defect> {
    let start = Instant::now();
    let mut last = (Instant::now(), 0);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return match (status.code(), status.signal()) {
                (Some(0), _) => None,
                (Some(FOUND), _) => {
                    let text = read_defect(note);
                    Some(text.unwrap_or_else(|| Defect::new(DefectKind::Logic, "unknown", "")))
                }
                (Some(code), _) => {
                    Some(Defect::new(DefectKind::Crash, format!("exit code {code}"), ""))
                }
                (None, signal) => {
                    let signal = signal.unwrap_or(0);
                    Some(Defect::new(DefectKind::Crash, format!("signal {signal}"), ""))
                }
            };
        }
        let runs = read_head(note).map_or(0, |(runs, _)| runs);
        if runs != last.1 {
            last = (Instant::now(), runs);
        }
        let stands = last.0.elapsed() > PATIENCE;
        if stands || start.elapsed() > time {
            let _ = child.kill();
            let _ = child.wait();
            let clause = "a run does not end";
            return stands.then(|| Defect::new(DefectKind::Hang, clause, ""));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The engine, in a process of its own.
fn child(note: &Path, seed: &str, runs: &str, target: &CTarget) -> Result<u8, String> {
    let seed = seed.parse().map_err(|_| "seed")?;
    let runs = runs.parse().map_err(|_| "runs")?;
    let file = File::options().write(true).open(note).map_err(|error| error.to_string())?;
    let writer = file.try_clone().map_err(|error| error.to_string())?;
    let mut engine = Engine::new(target, seed)?;
    engine.observe(move |execution, program| {
        let body = serde_json::to_vec(program).unwrap_or_default();
        write_note(&writer, execution, &body);
    });
    match engine.search(runs)? {
        None => Ok(0),
        Some((outcome, program)) => {
            // The defect stands behind the program.
            let mut body = serde_json::to_vec(&program).unwrap_or_default();
            let head = body.len();
            body.push(b'\n');
            body.extend(serde_json::to_vec(&outcome.defect()).unwrap_or_default());
            body.push(b'\n');
            write_note(&file, engine.executions(), &body);
            let _ = file.write_at(&(head as u64).to_le_bytes(), 8);
            Ok(1)
        }
    }
}

fn write_note(file: &File, execution: u64, body: &[u8]) {
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend(execution.to_le_bytes());
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(body);
    // A note that cannot be written costs a reproducer, not the run.
    let _ = file.write_all_at(&bytes, 0);
}

fn read_head(file: &File) -> Option<(u64, u64)> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, 0).ok()?;
    let [runs, len] = [0, 8].map(|at| head.get(at..).and_then(|rest| rest.first_chunk::<8>()));
    Some((u64::from_le_bytes(*runs?), u64::from_le_bytes(*len?)))
}

fn read_note(file: &File) -> Option<(u64, Program)> {
    let (runs, len) = read_head(file)?;
    let mut body = vec![0; usize::try_from(len.min(64 << 20)).ok()?];
    file.read_exact_at(&mut body, HEAD as u64).ok()?;
    Some((runs, serde_json::from_slice(&body).ok()?))
}

/// The line behind the program.
fn read_defect(file: &File) -> Option<Defect> {
    let (_, len) = read_head(file)?;
    let mut rest = vec![0; 64 << 10];
    let count = file.read_at(&mut rest, HEAD as u64 + len + 1).ok()?;
    let line = rest.get(..count)?.split(|byte| *byte == b'\n').next()?;
    serde_json::from_slice(line).ok()
}

/// Runs one program in this process: how it ends is the answer.
fn once(file: &Path, target: &CTarget) -> Result<u8, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let outcome = Executor::new(target)?.run(&Program::from_bytes(&bytes))?;
    match outcome {
        Outcome::Defect(defect) => {
            println!("{}", serde_json::to_string(&defect).unwrap_or_default());
            Ok(1)
        }
        _ => Ok(0),
    }
}

/// Runs a finding again in this process: it crashes, or says what is wrong, as it did then.
fn replay(file: &Path, target: &CTarget) -> Result<u8, String> {
    let finding = Finding::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let program = finding.in_process_program().map_err(|error| error.to_string())?;
    println!("expected: {}", finding.defect);
    match Executor::new(target)?.run(&program)? {
        Outcome::Defect(defect) => {
            println!("found: {defect}");
            Ok(1)
        }
        other => {
            println!("found: {other:?}");
            Ok(0)
        }
    }
}

/// The same defect with less, each attempt in a process of its own.
fn minimise(here: &Path, path: &Path, first: &Program, defect: &Defect) -> Program {
    let mut attempts = 0;
    let mut holds = |candidate: &Program| {
        attempts += 1;
        if attempts > MAX_ATTEMPTS {
            return false;
        }
        let body = serde_json::to_vec(candidate).unwrap_or_default();
        std::fs::write(path, body).is_ok() && attempt(here, path, defect)
    };
    shrink(first, &mut holds).0
}

fn attempt(here: &Path, path: &Path, defect: &Defect) -> bool {
    let spawned = Command::new(here)
        .arg("--once")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else { return false };
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_micros(300));
            }
            _ => break None,
        }
    };
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        return defect.kind == DefectKind::Hang;
    };
    let found = match (status.code(), status.signal()) {
        (Some(FOUND), _) => {
            let output = child.stdout.take().and_then(|out| std::io::read_to_string(out).ok());
            return output
                .and_then(|text| serde_json::from_str::<Defect>(&text).ok())
                .is_some_and(|found| found.is_same(defect));
        }
        (Some(0), _) => return false,
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or(0)),
    };
    defect.kind == DefectKind::Crash && found == defect.clause
}
