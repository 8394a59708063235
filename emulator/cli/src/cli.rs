//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use understudy_conformance::{Filter, Kind, Shard};
use understudy_workload::planted::Bug;

use crate::fuzz::args::FuzzArgs;

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
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

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
pub(crate) struct SimulateArgs {
    /// The device, by name; see `understudy devices`.
    #[arg(value_name = "DEVICE", required_unless_present = "replay", conflicts_with = "replay")]
    pub(crate) device: Option<String>,

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
    #[arg(long, value_name = "FILE")]
    pub(crate) replay: Option<PathBuf>,
}

fn bug_parser() -> impl TypedValueParser<Value = Bug> {
    PossibleValuesParser::new(Bug::ALL.map(Bug::name))
        .try_map(|name| Bug::find(&name).ok_or("no such bug"))
}

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

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Devices to check, by name; all if none is named.
    #[arg(value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,

    /// Check the server that listens on this socket, instead of models.
    #[arg(long, value_name = "PATH", alias = "socket", conflicts_with = "devices")]
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
    #[arg(long, value_name = "SCENARIO", conflicts_with_all = ["devices", "connect", "profile", "only", "skip", "shard", "list"])]
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

#[derive(Debug, Args)]
pub(crate) struct GuestArgs {
    /// The device, by name; see `understudy devices`.
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,

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
    #[arg(long, value_name = "ROUNDS", conflicts_with_all = ["scenario", "list"],
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
    #[arg(long, value_name = "PATH", conflicts_with_all = ["scenario", "list", "compare", "fault", "faults"])]
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
pub(crate) struct QaicArgs {
    #[command(subcommand)]
    pub(crate) command: QaicCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QaicCommand {
    /// Put an ONNX model into a container in the vendor's format.
    ///
    /// The network is loaded first, as the device would: what it would refuse is not packed.
    #[command(after_help = "\
Examples:
  understudy qaic pack classifier.onnx
      Writes classifier.qpc.
  understudy qaic pack model.onnx -o program.bin --name classifier")]
    Pack(QaicPackArgs),
    /// Show what is in a container, and whether the device would take it.
    ///
    /// Takes an ELF program or an ONNX model as well. Ends with exit code 1 if the device would
    /// refuse it.
    #[command(after_help = "\
Examples:
  understudy qaic show classifier.qpc
  understudy qaic show classifier.qpc --json | jq .inputs")]
    Show {
        /// The container.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct QaicPackArgs {
    /// The model. Its inputs have fixed sizes.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// Where to [default: the model's name with the extension qpc].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// The network's name in the container [default: the model's file name].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Which file.
    #[arg(value_name = "FILE")]
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
