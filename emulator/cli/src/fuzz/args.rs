//! The command line of `understudy fuzz`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    #[command(subcommand)]
    pub(crate) command: FuzzCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FuzzCommand {
    /// Fuzz a small driver that runs in this process, on a model whose answers are steered.
    ///
    /// Ends with exit code 1 if there is a finding.
    InProcess(InProcessArgs),
    /// Fuzz any vfio-user server with conversations of any client.
    ///
    /// Ends with exit code 1 at the first crash, hang or growth; with a COMMAND that starts the
    /// server, it is started again and fuzzing goes on.
    Server(ServerArgs),
    /// Be a hostile vfio-user server for QEMU and other clients.
    Client(ClientArgs),
    /// Fuzz a stock driver in a guest: the device has faults by generated plans.
    Driver(DriverArgs),
    /// Run a finding again. Ends with exit code 1 if the defect is still there.
    Replay {
        /// The finding.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Make a test of a finding.
    Export {
        /// The finding.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// In which language.
        #[arg(long = "as", value_name = "LANGUAGE", default_value = "rust")]
        language: Language,
    },
    /// List the drivers that can be fuzzed in this process.
    Targets,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// A test for cargo.
    Rust,
    /// A program, linked with the driver and libunderstudy_fuzz.
    C,
}

/// How long, from where, and where to.
#[derive(Debug, Args)]
pub(crate) struct CampaignArgs {
    /// Seconds to run.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = super::seconds)]
    pub(crate) time: Duration,

    /// Where all randomness starts.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) seed: u64,

    /// Where findings, corpus and statistics go. A campaign that was stopped goes on there.
    #[arg(long, value_name = "DIR", default_value = "understudy-fuzz")]
    pub(crate) out: PathBuf,

    /// Print statistics as JSON at the end.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InProcessArgs {
    /// The driver, by name; see `understudy fuzz targets`.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    /// Threads.
    #[arg(long, value_name = "NUMBER", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) jobs: u32,

    #[command(flatten)]
    pub(crate) campaign: CampaignArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server's socket. Several, for as many jobs.
    #[arg(long, value_name = "PATH", required = true)]
    pub(crate) connect: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) campaign: CampaignArgs,

    /// What starts the server, for one socket.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Where to listen.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,

    /// The device that stands behind, as long as it is honest.
    #[arg(long, value_name = "DEVICE", default_value = "virtio-crypto")]
    pub(crate) device: String,

    /// Start QEMU, attach the device again and again, and watch QEMU. Without a path: that of
    /// `ci/prepare`.
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "")]
    pub(crate) qemu: Option<String>,

    #[command(flatten)]
    pub(crate) campaign: CampaignArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DriverArgs {
    /// The device, by name; see `understudy devices`.
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,

    /// The kernel: a version, a whole release, or a Debian suite.
    #[arg(long, value_name = "KERNEL", default_value = "6.12")]
    pub(crate) kernel: String,

    /// Seconds that one step of a case may take before it counts as a hang: more than the 30 in
    /// which the kernel says that a task is blocked.
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = super::seconds)]
    pub(crate) patience: Duration,

    #[command(flatten)]
    pub(crate) campaign: CampaignArgs,
}
