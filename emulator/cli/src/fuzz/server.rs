//! `understudy fuzz server`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;
use understudy_fuzzing::server::{ServerError, ServerFuzzer, ServerOptions, ServerStats};
use understudy_fuzzing::{Defect, Finding};

use super::{end, keep, make_folder, rounds, seed, stopped};
use crate::failure::{Failure, Outcome};
use crate::fuzz::args::ServerArgs;

#[derive(Debug, Clone, Copy, Serialize)]
struct Stats {
    rounds: u64,
    #[serde(flatten)]
    server: ServerStats,
    seconds: f64,
    per_second: f64,
    findings: u64,
}

fn gone(error: &ServerError) -> Failure {
    Failure::environment(error, "server", "one that is alive, or a COMMAND that starts it")
}

pub(crate) fn run(args: &ServerArgs) -> Outcome {
    if args.connect.len() > 1 && !args.command.is_empty() {
        let what = "one COMMAND cannot start several servers";
        return Err(Failure::usage(what, "command line", "one --connect"));
    }
    make_folder(&args.campaign.out)?;
    let stop = stopped()?;
    let rounds = rounds(&args.campaign.out);
    let all: Vec<Result<Stats, Failure>> = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0u64..)
            .zip(&args.connect)
            .map(|(job, socket)| {
                let options = ServerOptions {
                    socket: socket.clone(),
                    command: args.command.clone(),
                    seed: seed(&args.campaign, rounds) ^ job << 32,
                };
                let stop = &stop;
                scope.spawn(move || work(options, args, rounds + 1, stop))
            })
            .collect();
        let panicked = || Failure::environment("a job panicked", "fuzzer", "a report of this");
        jobs.into_iter().map(|job| job.join().unwrap_or_else(|_| Err(panicked()))).collect()
    });
    let all: Vec<Stats> = all.into_iter().collect::<Result<_, _>>()?;
    let findings: u64 = all.iter().map(|stats| stats.findings).sum();
    let mut line = String::new();
    for (stats, socket) in all.iter().zip(&args.connect) {
        let Stats { server, seconds, per_second, findings, .. } = stats;
        line.push_str(&format!(
            "{}: {} executions in {seconds:.0} s, {per_second:.0}/s, {} messages, {} errors, {} \
             DMA, {} connections, {} slow, {:.1} MiB, {} descriptors, {findings} findings\n",
            socket.display(),
            server.executions,
            server.messages,
            server.errors,
            server.dma,
            server.connections,
            server.slow,
            server.size[0] as f64 / f64::from(1 << 20),
            server.size[1],
        ));
    }
    end(&args.campaign, &all, &line)?;
    Ok(findings == 0)
}

fn work(
    options: ServerOptions,
    args: &ServerArgs,
    rounds: u64,
    stop: &AtomicBool,
) -> Result<Stats, Failure> {
    let mut fuzzer = ServerFuzzer::new(options).map_err(|error| gone(&error))?;
    let start = Instant::now();
    let mut findings = 0;
    while start.elapsed() < args.campaign.time && !stop.load(Ordering::Relaxed) {
        match fuzzer.step() {
            Ok(None) => {}
            Ok(Some(mut finding)) => {
                findings += 1;
                keep(&finding, &args.campaign.out)?;
                if fuzzer.minimise(&mut finding).is_ok() {
                    // The same name: what is smaller takes its place.
                    let path = args.campaign.out.join("findings").join(finding.file_name());
                    let _ = std::fs::remove_file(path);
                    keep(&finding, &args.campaign.out)?;
                }
            }
            // Gone, and not ours to start: the finding has been written.
            Err(_) if findings > 0 => break,
            Err(error) => return Err(gone(&error)),
        }
    }
    let (server, seconds) = (fuzzer.stats(), start.elapsed().as_secs_f64());
    let per_second = server.executions as f64 / seconds.max(0.001);
    Ok(Stats { rounds, server, seconds, per_second, findings })
}

pub(crate) fn replay(finding: &Finding) -> Result<Option<Defect>, Failure> {
    let broken = |error: &dyn std::fmt::Display| {
        Failure::usage(error, "finding", "a whole finding of fuzz server")
    };
    let socket = finding.config["socket"].as_str().ok_or_else(|| broken(&"no socket"))?;
    let command = finding.config["command"].as_array().map_or(&[][..], Vec::as_slice);
    let command = command.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
    let conversations: Vec<_> =
        serde_json::from_value(finding.program.clone()).map_err(|error| broken(&error))?;
    let options = ServerOptions { socket: socket.into(), command, seed: finding.seed };
    let mut fuzzer = ServerFuzzer::new(options).map_err(|error| gone(&error))?;
    fuzzer.replay(&conversations).map_err(|error| gone(&error))
}
