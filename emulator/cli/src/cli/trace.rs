//! Traces, and what is done with recordings.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use understudy_workload::planted::Bug;

use super::faults::bug_parser;

#[derive(Debug, Args)]
pub(crate) struct TraceFileArgs {
    #[command(subcommand)]
    pub(crate) command: TraceCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TraceCommand {
    /// Print a trace, one line for each record.
    Show(TraceShowArgs),
    /// Look for what the driver did wrong, for polls that led nowhere and for registers that are
    /// not modelled. Ends with exit code 1 if the driver did something wrong.
    Watch {
        /// The recording.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Make JSON lines or a capture for Wireshark of a recording.
    Convert {
        /// The recording.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where to: .jsonl or .pcapng.
        #[arg(value_name = "OUTPUT")]
        to: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TraceShowArgs {
    /// The trace: a recording or JSON lines.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Only records of a kind that starts so (`bar`, `dma-read`, `interrupt`).
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<String>,

    /// Only accesses to registers whose name contains this.
    #[arg(long, value_name = "NAME")]
    pub(crate) register: Vec<String>,

    /// Only records of this queue.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) queue: Vec<u16>,

    /// Start at this record.
    #[arg(long, value_name = "POSITION")]
    pub(crate) from: Option<u64>,

    /// Print at most so many lines.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The recording.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Plant a bug in the model, to see that it is found.
    #[arg(long, value_name = "BUG", value_parser = bug_parser())]
    pub(crate) bug: Option<Bug>,
}
