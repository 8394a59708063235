//! The `understudy` command.
//!
//! - `cli`: the command line, as data for clap.
//! - `failure`: one line for people, one exit code for scripts.
//! - `devices`, `serve`, `check`, `requirements`, `mutants`, `guest`, `inspect`, `faults`, `simulate`,
//!   `schema`: one module for each command.
//! - `qaic`: containers of the Cloud AI 100. `networks`: those that guests run.
//! - `fuzz`: drivers, servers and clients under fuzz inputs.
//! - `trace`, `replay`: what is recorded, shown and played again.
//! - `config`: the file behind `serve --config`. `parameters`: `--set`. `host`: models from the catalog behind sockets.
//! - `control`: the socket beside each device's, through which `inspect` asks.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Outcome};

mod check;
mod cli;
mod compare;
mod config;
mod control;
mod devices;
mod failure;
mod faults;
mod fuzz;
mod guest;
mod host;
mod inspect;
mod mutants;
mod networks;
mod operators;
mod parameters;
mod qaic;
mod reactions;
mod replay;
mod requirements;
mod schema;
mod serve;
mod simulate;
mod trace;

fn main() -> ExitCode {
    // In a guest, this executable is the first process.
    if understudy_guest::agent::is_agent() {
        return understudy_guest::agent::main();
    }
    let outcome = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) if is_answer(error.kind()) => {
            return match error.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::from(3),
            };
        }
        Err(error) => Err(Failure::command_line(&error)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("understudy: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// Whether clap's "error" is what was asked for.
fn is_answer(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

fn run(cli: Cli) -> Outcome {
    log_to_stderr(cli.verbose);
    match cli.command {
        Command::Devices(args) => devices::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Requirements(args) => requirements::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Guest(args) => guest::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Faults(args) => faults::run(&args.command),
        Command::Simulate(args) => simulate::command(&args),
        Command::Fuzz(args) => fuzz::run(&args.command),
        Command::Trace(args) => trace::run(&args.command),
        Command::Replay(args) => replay::run(&args),
        Command::Qaic(args) => qaic::run(&args.command),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "understudy", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Writes to standard output. A reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(Failure::environment("cannot write", "standard output", error)),
    }
}

/// Warnings at least; more with each `-v`, or as `RUST_LOG` says.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        // tract warns of each model that is of another year than it; guests may load many.
        0 => "warn,tract_onnx=error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ansi = !no_color && io::IsTerminal::is_terminal(&io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(ansi)
        .init();
}
