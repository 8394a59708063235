//! The command line.

mod check;
mod faults;
mod qaic;
mod trace;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::fuzz::args::FuzzArgs;
use crate::parameters::SetArgs;

pub(crate) use check::{CheckArgs, DriverArgs, MutantsArgs, ReportFormat, RequirementsArgs};
pub(crate) use faults::{FaultsArgs, FaultsCommand, FaultsListArgs, SimulateArgs};
pub(crate) use qaic::{QaicArgs, QaicCommand, QaicPackArgs};
pub(crate) use trace::{ReplayArgs, TraceCommand, TraceFileArgs, TraceShowArgs};

const EXIT_CODES: &str = "\
Exit codes:
  0  all went well
  1  a check, or a step in a guest, failed or gave no verdict
  2  the command line or a configuration file is wrong
  3  the environment does not allow it: sockets, files, missing programs";

/// Software models of hardware accelerators, for drivers that do not know the difference.
///
/// Serves device models over vfio-user, so that QEMU attaches them to a guest; checks them, and any
/// other vfio-user server, against their specifications; boots stock kernels on them.
#[derive(Debug, Parser)]
#[command(name = "understudy", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Log more to standard error; twice or three times for more still.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, display_order = 100)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what is modelled, and what is not.
    #[command(after_help = "\
Examples:
  understudy devices
  understudy devices --json | jq -r '.[].name'")]
    Devices(DevicesArgs),

    /// Serve devices over vfio-user until SIGINT or SIGTERM.
    ///
    /// Prints the QEMU arguments that attach each device. A socket that a dead server left behind
    /// is replaced; one on which a server is alive is refused. Beside each device's socket is its
    /// control socket, `<socket>.control`, which `understudy inspect` uses.
    #[command(after_help = "\
Examples:
  understudy serve virtio-crypto --socket /tmp/crypto.sock
  understudy serve virtio-crypto virtio-crypto --socket /tmp/devices/
      A folder holds virtio-crypto.sock and virtio-crypto-2.sock.
  understudy serve qat --set part=c3xxx --set mailbox_version=1 --socket /tmp/qat.sock
      Parameters: understudy schema config.
  understudy serve --config fixtures/configs/two-devices.json
      The format: understudy schema config.")]
    Serve(ServeArgs),

    /// Check devices against their specifications.
    ///
    /// Hosts each model on a private socket, runs the checks that say something about it, prints a
    /// table, and writes `report.json`, `report.html`, `junit.xml`, `report.tap` and `report.sarif`.
    ///
    /// A device passes a check, rejects what the check demands that it rejects, fails, or is wedged: it
    /// no longer answers, is replaced, and the next check goes on. Checks that do not apply are skipped
    /// with a reason.
    #[command(after_help = "\
Examples:
  understudy check
  understudy check virtio-crypto --only 'vfio-user/dma' --only 'pci/6.8*'
  understudy check qat --set mailbox_version=1
  understudy check --list
  understudy check --connect /tmp/other-server.sock --profile pci
      Checks a server that is already running, whoever wrote it.
  understudy check --connect /tmp/s.sock --start './server /tmp/s.sock'
      Starts it, and again whenever it ends or hangs.
  understudy check --shard 2/4 --repeat 3 --shuffle --seed 7 --format tap
  understudy check --driver virtio-crypto/driver --kernel 6.12
      Checks Linux's driver: what it does to the device, against the specifications.
  understudy check --driver virtio-crypto --kernel ./bzImage --modules ./driver \\
        --command 'insmod /driver/mine.ko && selftest' --fault completion-late,nth=3
      Checks yours, on your kernel, with a fault.")]
    Check(Box<CheckArgs>),

    /// Show what the specifications demand, and what becomes of each demand.
    ///
    /// Every requirement is tested by checks, watched in drivers by monitors, or has a reason why
    /// neither.
    #[command(after_help = "\
Examples:
  understudy requirements
  understudy requirements virtio/2.7 --list
  understudy requirements --json | jq '.areas[].requirements[] | select(.waived)'")]
    Requirements(RequirementsArgs),

    /// Break devices on purpose, and count how often the checks notice.
    ///
    /// A mutant is a device, or a server, that gets one thing wrong. Ends with exit code 0 if at least
    /// 95 % are noticed and there is a reason for each of the others.
    #[command(after_help = "\
Examples:
  understudy mutants
  understudy mutants virtio-crypto --only ring
  understudy mutants server --list
  understudy mutants --every-check
      Also looks, for every check, for a mutant that it notices.")]
    Mutants(MutantsArgs),

    /// Boot stock kernels in QEMU with a device, and put its driver through scenarios.
    ///
    /// Needs what `ci/prepare` fetches: QEMU 10.1 or newer and Debian's kernels. It is run first if
    /// that is missing.
    #[command(after_help = "\
Examples:
  understudy guest virtio-crypto
  understudy guest virtio-crypto --kernel 6.12 --scenario ecryptfs
  understudy guest virtio-crypto --list
  understudy guest virtio-crypto --kernel 6.12 --set queue_size=64
  understudy guest qat --kernel 6.12 --scenario driver --faults fixtures/faults/qat/completion-lost.json
  understudy guest qat --kernel 6.12 --reactions fixtures/faults/qat
      What the stock driver does when things go wrong, as a table.
  understudy guest virtio-crypto --kernel 6.12 --compare 5
      How long requests take on our device and on QEMU's own, by turns.")]
    Guest(GuestArgs),

    /// Show the registers, queues and counters of a device that is being served.
    #[command(after_help = "\
Examples:
  understudy inspect --socket /tmp/crypto.sock
  understudy inspect --socket /tmp/crypto.sock --json | jq .state.queues")]
    Inspect(InspectArgs),

    /// List what can go wrong on purpose, check plans, and make it happen on a running server.
    #[command(
        after_help = "\
Examples:
  understudy faults list qat
  understudy faults check fixtures/faults/virtio-crypto/then-removed.json
  understudy faults inject --socket /tmp/crypto.sock --fault completion-lost,nth=3
  understudy faults show --socket /tmp/crypto.sock
  understudy faults clear --socket /tmp/crypto.sock
  The format: docs/faults.md.",
        subcommand_required = true
    )]
    Faults(FaultsArgs),

    /// Put a model and its driver through random work and faults, in simulated time.
    ///
    /// Each seed decides everything of its run: the work, how the driver uses the device, what goes
    /// wrong, and the order in which things happen. Afterwards the faults stop, and everything must
    /// work again. A run that fails is made small, written to a file, and can be replayed.
    #[command(after_help = "\
Examples:
  understudy simulate virtio-crypto --seeds 10000
  understudy simulate qat --seeds 1 --seed 4711
  understudy simulate qat --set part=c3xxx --set mailbox_version=1
  understudy simulate virtio-crypto --plan fixtures/faults/virtio-crypto/then-removed.json
  understudy simulate qaic --bug model-flips-bit
      Plants a bug in the model, to see that it is found.
  understudy simulate --replay target/understudy-findings/qat-17.json
  What must hold, and what each fault explains: docs/faults.md.")]
    Simulate(SimulateArgs),

    /// Show, check and convert traces.
    #[command(
        after_help = "\
Examples:
  understudy trace show crypto.trace --kind bar-write --register device_status
  understudy trace show crypto.trace --queue 0 --limit 20
  understudy trace watch crypto.trace
  understudy trace convert crypto.trace crypto.pcapng
  The formats: docs/trace.md.",
        subcommand_required = true
    )]
    Trace(TraceFileArgs),

    /// Play a recording to a fresh model, and say where it behaves differently.
    ///
    /// Ends with exit code 0 if nothing is different, and 1 at the first difference.
    #[command(after_help = "\
Examples:
  understudy serve virtio-crypto --socket /tmp/crypto.sock --trace crypto.trace
  understudy replay crypto.trace")]
    Replay(ReplayArgs),

    /// Make and look into the program containers that the Cloud AI 100 model runs.
    #[command(
        after_help = "\
Examples:
  understudy qaic pack classifier.onnx -o classifier.qpc
  understudy qaic show classifier.qpc
  What a container is, and how to run it: docs/qaic.md.",
        subcommand_required = true
    )]
    Qaic(QaicArgs),

    /// Fuzz drivers, vfio-user servers and vfio-user clients; replay what was found.
    #[command(
        after_help = "\
Examples:
  understudy fuzz in-process virtio-crypto --time 60 --jobs 2
  understudy fuzz in-process planted/double-fetch --out /tmp/demo
  understudy fuzz server --connect /tmp/crypto.sock --time 3600
  understudy fuzz client --socket /tmp/hostile.sock --qemu
  understudy fuzz driver virtio-crypto --kernel 6.12 --time 3600
  understudy fuzz replay understudy-fuzz/findings/some-finding.json
  The guide: docs/fuzzing.md.",
        subcommand_required = true
    )]
    Fuzz(FuzzArgs),

    /// Print the JSON schema of a file that understudy reads or writes.
    #[command(after_help = "\
Examples:
  understudy schema config
  understudy schema report")]
    Schema(SchemaArgs),

    /// Print a completion script for a shell.
    #[command(after_help = "\
Examples:
  understudy completions bash > ~/.local/share/bash-completion/completions/understudy")]
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Devices to serve, by name; see `understudy devices`.
    #[arg(value_name = "DEVICE", required_unless_present = "config", conflicts_with = "config")]
    pub(crate) devices: Vec<String>,

    /// Where to listen: the socket's path for one device, a folder for several.
    ///
    /// In a folder, sockets are named after their devices: `<device>.sock`, `<device>-2.sock`.
    #[arg(
        long,
        value_name = "PATH",
        required_unless_present = "config",
        conflicts_with = "config"
    )]
    pub(crate) socket: Option<PathBuf>,

    /// Serve what this JSON file lists.
    #[arg(long, value_name = "FILE", conflicts_with = "set")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) set: SetArgs,

    #[command(flatten)]
    pub(crate) faults: FaultArgs,

    #[command(flatten)]
    pub(crate) trace: TraceArgs,

    /// Watch what the driver does against the specifications, and report at the end.
    #[arg(long)]
    pub(crate) monitor: bool,
}

/// What goes wrong on purpose.
#[derive(Debug, Args)]
pub(crate) struct FaultArgs {
    /// Something that goes wrong: a kind and its settings (`completion-lost,nth=3`), or JSON. Can
    /// be given several times.
    #[arg(long, value_name = "FAULT")]
    pub(crate) fault: Vec<String>,

    /// A file of things that go wrong; see `understudy schema faults`.
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
}

/// What is written down.
#[derive(Debug, Clone, Args)]
pub(crate) struct TraceArgs {
    /// Write everything that happens to this file: JSON lines (.jsonl), a capture for Wireshark
    /// (.pcapng), or else a recording for `understudy replay`.
    ///
    /// For several devices or guests, their names are put before the extension.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,

    /// Most mebibytes of a trace file; it ends there.
    #[arg(long, value_name = "MIB", default_value = "1024", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) trace_limit: u64,
}

#[derive(Debug, Args)]
pub(crate) struct GuestArgs {
    /// The device, by name; see `understudy devices`.
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,

    #[command(flatten)]
    pub(crate) set: SetArgs,

    /// Kernels to boot: a version, a whole release, a Debian suite, or all.
    #[arg(long, value_name = "KERNEL", default_value = "all")]
    pub(crate) kernel: String,

    /// Run only these scenarios.
    #[arg(long, value_name = "ID")]
    pub(crate) scenario: Vec<String>,

    /// List the scenarios, and run none.
    #[arg(long)]
    pub(crate) list: bool,

    /// How many guests run at a time.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) jobs: NonZeroUsize,

    /// Run no scenario; time requests on our device and on QEMU's own, in so many guests each.
    #[arg(long, value_name = "ROUNDS", conflicts_with_all = ["scenario", "list", "set"],
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) compare: Option<u32>,

    /// Seconds that one guest may run.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Where all random contents start.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) faults: FaultArgs,

    /// Run no scenario; see what the driver does with the faults of this plan, or of each plan in
    /// this folder, and print it as a table.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["scenario", "list", "compare", "fault", "faults", "set"])]
    pub(crate) reactions: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) trace: TraceArgs,

    /// Do not watch what the driver does.
    #[arg(long)]
    pub(crate) no_monitor: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The device's socket, as given to `understudy serve`.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,

    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Which format.
    #[arg(value_name = "FORMAT")]
    pub(crate) of: SchemaOf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// What `serve --config` reads.
    Config,
    /// What `check` writes as report.json.
    Report,
    /// What `serve --faults` reads.
    Faults,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
        _ => Err("expected a whole number of seconds, 1 or more".to_owned()),
    }
}
