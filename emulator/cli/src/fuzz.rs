//! `understudy fuzz`.

pub(crate) mod args;
mod client;
mod driver;
mod qemu;
mod server;
mod workload;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use understudy_fuzzing::{Executor, Finding, Outcome, Target, campaign, targets};

use crate::failure::{Failure, Outcome as CommandOutcome};
use crate::fuzz::args::{CampaignArgs, FuzzCommand, InProcessArgs, Language};
use crate::{guest, print};

pub(crate) fn run(command: &FuzzCommand) -> CommandOutcome {
    match command {
        FuzzCommand::InProcess(args) => in_process(args),
        FuzzCommand::Server(args) => server::run(args),
        FuzzCommand::Client(args) => client::run(args),
        FuzzCommand::Driver(args) => driver::run(args),
        FuzzCommand::Replay { file } => replay(file),
        FuzzCommand::Export { file, language } => {
            let finding = read(file)?;
            print(&match language {
                Language::Rust => finding.as_rust_test(),
                Language::C => finding.as_c_program(),
            })
        }
        FuzzCommand::Targets => print(&(targets::names().join("\n") + "\n")),
    }
}

fn target(name: &str) -> Result<Box<dyn Target>, Failure> {
    targets::find(name).ok_or_else(|| {
        let what = format!("no driver is called {name:?}");
        Failure::usage(what, "command line", "one of understudy fuzz targets")
    })
}

fn in_process(args: &InProcessArgs) -> CommandOutcome {
    let target = target(&args.target)?;
    let stop = stopped()?;
    let CampaignArgs { time, seed, out, json } = &args.campaign;
    let options = campaign::Options { jobs: args.jobs, time: *time, seed: *seed, out: out.clone() };
    let spinner = guest::spinner(&args.target);
    let stats = campaign::run(target.as_ref(), &options, &stop, |progress| {
        let seconds = progress.elapsed.as_secs().max(1);
        let rate = progress.executions / seconds;
        let (executions, findings) = (progress.executions, progress.findings);
        spinner.set_message(format!("{executions} executions, {rate}/s, {findings} findings"));
    });
    spinner.finish_and_clear();
    let stats = stats.map_err(|error| Failure::environment("cannot fuzz", out.display(), error))?;
    let line = format!(
        "{}: {} executions, {:.0}/s, {} in the corpus, {} findings\n",
        stats.target, stats.executions, stats.per_second, stats.corpus, stats.findings
    );
    report(*json, &stats, &line, out)?;
    Ok(stats.findings == 0)
}

/// Statistics for scripts, or a line and where the findings are for people.
fn report(json: bool, stats: &impl Serialize, line: &str, out: &Path) -> CommandOutcome {
    if json {
        return print(&(serde_json::to_string_pretty(stats).unwrap_or_default() + "\n"));
    }
    let mut text = line.to_owned();
    let files = std::fs::read_dir(out.join("findings"));
    let mut files: Vec<_> = files.into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    for file in files {
        let what = Finding::read(&file).map_or_else(|e| e.to_string(), |it| it.defect.to_string());
        text.push_str(&format!("  {what}\n    understudy fuzz replay {}\n", file.display()));
    }
    print(&text)
}

fn read(file: &Path) -> Result<Finding, Failure> {
    Finding::read(file)
        .map_err(|error| Failure::usage(error, file.display(), "a file that understudy fuzz wrote"))
}

fn replay(file: &Path) -> CommandOutcome {
    let finding = read(file)?;
    print(&format!("expected: {}\n", finding.defect))?;
    let defect = match finding.kind.as_str() {
        "in-process" => {
            let target = target(&finding.target)?;
            let wrong = |error: String| Failure::usage(error, file.display(), "a whole finding");
            let program = finding.in_process_program().map_err(|error| wrong(error.to_string()))?;
            let mut executor = Executor::new(target.as_ref()).map_err(wrong)?;
            match executor.run(&program).map_err(wrong)? {
                Outcome::Defect(defect) => Some(defect),
                Outcome::Done | Outcome::Refused(_) => None,
            }
        }
        "server" => server::replay(&finding)?,
        "client" => client::replay(&finding)?,
        "driver" => driver::replay(&finding)?,
        kind => {
            let what = format!("findings of kind {kind:?} are replayed by their own program");
            return Err(Failure::usage(what, file.display(), "PROGRAM replay FILE"));
        }
    };
    match &defect {
        Some(defect) => print(&format!("found: {defect}\n"))?,
        None => print("found: nothing\n")?,
    };
    Ok(defect.is_none())
}

/// Set by the first SIGINT or SIGTERM.
fn stopped() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::environment("cannot wait for signals", "process", error))?;
    }
    Ok(stop)
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
        _ => Err("expected a whole number of seconds, 1 or more".to_owned()),
    }
}

/// Writes a finding, and says so.
fn keep(finding: &Finding, out: &Path) -> Result<(), Failure> {
    let folder = out.join("findings");
    let (path, new) = finding
        .write(&folder)
        .map_err(|error| Failure::environment("cannot write", folder.display(), error))?;
    if new {
        print(&format!("{}\n  understudy fuzz replay {}\n", finding.defect, path.display()))?;
    }
    Ok(())
}

fn make_folder(out: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(out)
        .map_err(|error| Failure::environment("cannot make the folder", out.display(), error))
}

/// Findings in a campaign's folder, those of earlier runs included.
fn count_findings(out: &Path) -> usize {
    std::fs::read_dir(out.join("findings")).map_or(0, |files| files.flatten().count())
}

/// How often a campaign was run in a folder before: each round draws from elsewhere.
fn rounds(out: &Path) -> u64 {
    let text = std::fs::read_to_string(out.join("stats.json")).unwrap_or_default();
    let stats: Value = serde_json::from_str(&text).unwrap_or_default();
    // Those of a server are a list, one entry for each job.
    let stats = stats.get(0).unwrap_or(&stats);
    stats["rounds"].as_u64().unwrap_or(0)
}

/// Where the randomness of a round starts.
fn seed(args: &CampaignArgs, rounds: u64) -> u64 {
    args.seed ^ rounds << 40
}

/// Ends a campaign: statistics for whoever goes on with it, and a report.
fn end(args: &CampaignArgs, stats: &impl Serialize, line: &str) -> Result<(), Failure> {
    write_stats(&args.out, stats)?;
    report(args.json, stats, line, &args.out).map(drop)
}

fn write_stats(out: &Path, stats: &impl Serialize) -> Result<(), Failure> {
    campaign::write_stats(out, stats)
        .map_err(|error| Failure::environment("cannot write", out.display(), error))
}

/// Text in which numbers and addresses do not count, so that the same defect has the same name.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut hex = false;
    for character in text.chars() {
        hex = match character {
            'x' => out.ends_with('#'),
            _ => hex && character.is_ascii_hexdigit(),
        };
        match character {
            _ if hex => {}
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn numbers_and_addresses_do_not_tell_defects_apart() {
        assert_eq!(plain("unmap(0x5a0f, 0xfffc0000) = -14 of 2 xs"), "unmap(#, #) = -# of # xs");
    }
}
