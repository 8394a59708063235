//! What goes wrong, and simulated time.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use understudy_workload::planted::Bug;

use super::FaultArgs;
use crate::parameters::SetArgs;

#[derive(Debug, Args)]
pub(crate) struct FaultsArgs {
    #[command(subcommand)]
    pub(crate) command: FaultsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FaultsCommand {
    /// List the kinds of faults, which devices have them, and why others do not.
    List(FaultsListArgs),
    /// Look for mistakes in a plan: one line for each.
    Check {
        /// The plan.
        #[arg(value_name = "FILE")]
        plan: PathBuf,
        /// The device that it is for; without it, the plan's own, or each.
        #[arg(long, value_name = "DEVICE")]
        device: Option<String>,
    },
    /// Add faults to a device that is being served.
    Inject {
        /// The device's socket, as given to `understudy serve`.
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        #[command(flatten)]
        faults: FaultArgs,
    },
    /// Show the faults of a device that is being served, and what they did.
    Show {
        /// The device's socket, as given to `understudy serve`.
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// End faults of a device that is being served.
    Clear {
        /// The device's socket, as given to `understudy serve`.
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// Number of the fault; all without it.
        #[arg(value_name = "ID")]
        id: Option<u32>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct FaultsListArgs {
    /// The device, by name; all without it.
    #[arg(value_name = "DEVICE")]
    pub(crate) device: Option<String>,

    /// Also list what plans can name: queues, opcodes, statuses, features, registers.
    #[arg(long)]
    pub(crate) names: bool,

    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The device, by name; see `understudy devices`.
    #[arg(value_name = "DEVICE", required_unless_present = "replay", conflicts_with = "replay")]
    pub(crate) device: Option<String>,

    #[command(flatten)]
    pub(crate) set: SetArgs,

    /// How many seeds.
    #[arg(long, value_name = "NUMBER", default_value = "100",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: u64,

    /// The first seed.
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    pub(crate) seed: u64,

    /// Runs at the same time; as many as there are processors without it.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) jobs: Option<usize>,

    /// What goes wrong in every run, instead of what the seeds decide.
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,

    /// Run each seed once; without this, twice, and the second run must be the same as the first.
    #[arg(long)]
    pub(crate) once: bool,

    /// Plant a bug in the model or its driver.
    #[arg(long, value_name = "BUG", value_parser = bug_parser())]
    pub(crate) bug: Option<Bug>,

    /// Where findings go [default: target/understudy-findings if there is a target folder, else
    /// understudy-findings].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Run what a finding holds. Ends with exit code 1 if it still fails.
    #[arg(long, value_name = "FILE", conflicts_with = "set")]
    pub(crate) replay: Option<PathBuf>,
}

pub(super) fn bug_parser() -> impl TypedValueParser<Value = Bug> {
    PossibleValuesParser::new(Bug::ALL.map(Bug::name))
        .try_map(|name| Bug::find(&name).ok_or("no such bug"))
}
