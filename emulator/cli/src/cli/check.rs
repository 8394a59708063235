//! Checks, and what they are held to.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use understudy_conformance::{Filter, Kind, Shard};

use super::{FaultArgs, seconds};
use crate::parameters::SetArgs;

#[derive(Debug, Args)]
pub(crate) struct RequirementsArgs {
    /// Only requirements whose id begins so (`virtio/2.7`), or matches as a shell would.
    #[arg(value_name = "FILTER", value_parser = Filter::new)]
    pub(crate) only: Vec<Filter>,

    /// List them instead of counting them.
    #[arg(long, conflicts_with = "json")]
    pub(crate) list: bool,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Devices to check, by name; all if none is named.
    #[arg(value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,

    #[command(flatten)]
    pub(crate) set: SetArgs,

    /// Check the server that listens on this socket, instead of models.
    #[arg(long, value_name = "PATH", alias = "socket", conflicts_with_all = ["devices", "set"])]
    pub(crate) connect: Option<PathBuf>,

    /// Start that server with this command of the shell, and again when it ends or hangs.
    #[arg(long, value_name = "COMMAND", requires = "connect")]
    pub(crate) start: Option<String>,

    /// What the server's device is, whatever its ids say: vfio-user, pci, virtio, virtio-crypto, qat
    /// or qaic [default: as its vendor and device ids tell].
    #[arg(long, value_name = "KIND", value_parser = kind, hide_default_value = true)]
    pub(crate) profile: Option<Kind>,

    #[command(flatten)]
    pub(crate) driver: DriverArgs,

    /// Run only checks with this id, or whose id starts with it or matches it as a shell pattern.
    #[arg(long, value_name = "ID", value_parser = Filter::new)]
    pub(crate) only: Vec<Filter>,

    /// Do not run these.
    #[arg(long, value_name = "ID", value_parser = Filter::new)]
    pub(crate) skip: Vec<Filter>,

    /// Run a part of what is chosen: 2/4 is the second of four.
    #[arg(long, value_name = "PART/OF", value_parser = Shard::parse)]
    pub(crate) shard: Option<Shard>,

    /// Run everything so many times.
    #[arg(long, value_name = "TIMES", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,

    /// Where random contents start. Each repetition takes the next number.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) seed: u64,

    /// Run the checks in an order drawn from the seed.
    #[arg(long)]
    pub(crate) shuffle: bool,

    /// End at the first failure.
    #[arg(long)]
    pub(crate) fail_fast: bool,

    /// List the checks, and run none.
    #[arg(long)]
    pub(crate) list: bool,

    /// What is printed. All of it is written to the report folder too.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ReportFormat::Table)]
    pub(crate) format: ReportFormat,

    /// Where the reports go [default: target/understudy-report if there is a target folder, else
    /// understudy-report].
    #[arg(long, value_name = "DIR")]
    pub(crate) report_dir: Option<PathBuf>,

    /// Seconds that one check may take.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// A driver that is checked, and where it runs.
#[derive(Debug, Args)]
pub(crate) struct DriverArgs {
    /// Check a driver in a guest, instead of a device: in all scenarios of a device
    /// (`virtio-crypto`), or one (`virtio-crypto/driver`; see `understudy guest DEVICE --list`).
    #[arg(long, value_name = "SCENARIO", conflicts_with_all = ["devices", "set", "connect", "profile", "only", "skip", "shard", "list"])]
    pub(crate) driver: Option<String>,

    /// The guest's kernel: a version, a release, a suite, or the path of an image [default: the
    /// oldest stock one].
    #[arg(long, value_name = "KERNEL", requires = "driver")]
    pub(crate) kernel: Option<String>,

    /// That kernel's modules (a folder with modules.dep), or a folder with a driver, which is /driver
    /// in the guest.
    #[arg(long, value_name = "DIR", requires = "driver")]
    pub(crate) modules: Option<PathBuf>,

    /// An archive for the guest's root file system (cpio, compressed or not).
    #[arg(long, value_name = "FILE", requires = "driver")]
    pub(crate) initrd: Option<PathBuf>,

    /// What the guest's shell does with the device, in place of the scenario's steps. The scenario
    /// still says what the device is.
    #[arg(long, value_name = "COMMAND", requires = "driver")]
    pub(crate) command: Option<String>,

    #[command(flatten)]
    pub(crate) faults: FaultArgs,
}

/// Renderings of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people, and annotations too if `GITHUB_ACTIONS` is set.
    Table,
    /// JSON; see `understudy schema report`.
    Json,
    /// JUnit XML.
    Junit,
    /// TAP version 14.
    Tap,
    /// SARIF 2.1.0.
    Sarif,
    /// Annotations of GitHub's workflows.
    Github,
    /// A page.
    Html,
}

fn kind(text: &str) -> Result<Kind, String> {
    let found = Kind::ALL.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
    found.ok_or_else(|| {
        let names: Vec<_> = Kind::ALL.iter().map(|(name, _)| *name).collect();
        format!("expected one of: {}", names.join(", "))
    })
}

#[derive(Debug, Args)]
pub(crate) struct MutantsArgs {
    /// What is broken: devices by name, or `server`; all of these if none is named.
    #[arg(value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,

    /// Only mutants whose id starts so, or matches as a shell would.
    #[arg(long, value_name = "ID", value_parser = Filter::new)]
    pub(crate) only: Vec<Filter>,

    /// List the mutants, and try none.
    #[arg(long)]
    pub(crate) list: bool,

    /// Find a mutant for every check.
    #[arg(long)]
    pub(crate) every_check: bool,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Mutants that are tried at the same time. Many of them only have to be waited for.
    #[arg(long, value_name = "NUMBER", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) jobs: u8,

    /// Seconds after which a mutant that does not answer is noticed.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(crate) timeout: Duration,
}
