//! What Linux's `qaic` driver for the Cloud AI 100 is put through.
//!
//! Debian does not ship the driver; `ci/prepare --qaic` builds it from Debian's source of the same
//! kernel. Networks are run by `qaic-run` (`harness/guest/programs`), a C program that uses the
//! kernel's published ioctls alone.

use std::time::Duration;

use crate::guest::Config;
use crate::protocol::{Float, Task};
use crate::scenario::{Action, Scenario, Step, Wanted, Work};

/// The driver, and the modules of Debian's that it depends on.
const DRIVER: &str = "qaic";
const MODULES: [&str; 2] = ["mhi", "drm"];
/// What runs networks.
pub const PROGRAM: &str = "qaic-run";

/// How our counters end that count runs of networks.
pub const WORK: [&str; 1] = ["runs"];

/// The device file, which can be opened once the firmware runs.
const ACCEL: &str = "/dev/accel/accel0";

/// Firmware that the boot loader asks for. What is in it is not looked at.
const FIRMWARE: [(&str, &[u8]); 2] =
    [("sbl.bin", b"second boot loader of nothing"), ("fw1.bin", &[0x5b; 4096])];

/// Times that something is done which would leave things behind: more than the device has
/// channels (16), programs (64), or room for large programs in 16 MB.
const TIMES: u64 = 70;
/// Times that the driver is loaded, and the chip reset.
const RELOADS: u64 = 20;
const SOC_RESETS: u64 = 5;

/// From firmware that is there already, with little memory.
const AMSS: Wanted =
    Wanted { count: 1, msix: true, parameters: r#"{ "boot": "amss", "memory_mb": 16 }"# };
/// As a card boots.
const PBL: Wanted = Wanted { parameters: r#"{ "boot": "pbl" }"#, ..AMSS };

/// The scenario that runs ONNX's operator cases, and where the guest must have them.
pub const OPERATORS_ID: &str = "operators";
/// See [`OPERATORS_ID`]; without the leading slash.
pub const CASES: &str = "operators";
/// Cases that must pass there, at least.
const OPERATORS: u64 = 500;

/// A network with an input, and the output that another runtime computed of it.
#[derive(Clone, Debug)]
pub struct Network {
    /// A name for files and steps.
    pub name: &'static str,
    /// The program container.
    pub container: Vec<u8>,
    /// Contents of the only input.
    pub input: Vec<u8>,
    /// What the only output must be.
    pub output: Vec<u8>,
    /// What it consists of.
    pub float: Float,
    /// How far it may be off, in billionths: of itself if it is larger than 1, else of 1.
    pub tolerance: u32,
}

/// Everything. The first of the networks is the one that is run often; `foreign` is a container
/// without a network for the model, `large` one of some megabytes.
pub fn scenarios(networks: Vec<Network>, foreign: Vec<u8>, large: Vec<u8>) -> Vec<Scenario> {
    let suite = Suite { networks, foreign, large };
    vec![
        suite.pbl(),
        suite.amss(),
        suite.vectors(),
        suite.users(),
        suite.reload(),
        suite.kill(),
        suite.refusal(),
        suite.crash("crash", AMSS, r#"{ "boot": "amss", "crash_after": 3 }"#),
        suite.crash("crash-pbl", PBL, r#"{ "boot": "pbl", "crash_after": 3 }"#),
        suite.soc_reset("soc-reset", AMSS),
        suite.soc_reset("soc-reset-pbl", PBL),
        suite.operators(),
    ]
}

struct Suite {
    networks: Vec<Network>,
    foreign: Vec<u8>,
    large: Vec<u8>,
}

impl Suite {
    fn pbl(&self) -> Scenario {
        let mut steps = up();
        steps.extend(self.run_all("first", 1));
        steps
            .extend([shell("unload", "rmmod qaic && ! [ -e /dev/accel/accel0 ]"), insert("again")]);
        steps.extend(self.run("again", &self.networks[0], 1));
        steps.extend(at_rest());
        self.scenario(
            "pbl",
            "boots from the boot loader with firmware, and runs networks",
            PBL,
            steps,
        )
    }

    fn amss(&self) -> Scenario {
        let mut steps = up();
        steps.extend(self.run_all("first", 20));
        steps.extend(at_rest());
        self.scenario("amss", "boots without firmware files, and runs networks", AMSS, steps)
    }

    /// The driver wants 32 interrupt vectors, which x86 gives only with interrupt remapping.
    fn vectors(&self) -> Scenario {
        let mut steps = up();
        let count = "[ $(ls /sys/bus/pci/drivers/qaic/0000:*/msi_irqs | wc -l) -gt 16 ]";
        steps.push(shell("vectors", count));
        steps.extend(self.run_all("first", 20));
        steps.extend(at_rest());
        let mut scenario = self.scenario(
            "vectors",
            "each channel has an interrupt vector of its own",
            AMSS,
            steps,
        );
        let remapping = ["-device", "intel-iommu,intremap=on"];
        scenario.config.qemu_arguments = remapping.map(str::to_owned).into();
        scenario.config.kernel_arguments = vec!["intel_iommu=off".to_owned()];
        scenario
    }

    fn users(&self) -> Scenario {
        let mut steps = up();
        let names = self.networks.iter().map(|network| network.name);
        let names = names.collect::<Vec<_>>().join(" ");
        let script = format!(
            "for i in 1 2; do for name in {names}; do
                qaic-run -n 50 -i /qaic/$name.in -o /tmp/$name.$i /qaic/$name.qpc & pids=\"$pids $!\"
            done; done
            for pid in $pids; do wait $pid || exit 1; done
            for name in {names}; do cmp /tmp/$name.1 /tmp/$name.2 || exit 1; done"
        );
        let runs = 100 * self.networks.len() as u64;
        steps.push(shell("at-once", &script).with_work(Work::Total(runs)));
        for network in &self.networks {
            let id = format!("at-once-{}", network.name);
            steps.push(near(&id, network, &format!("/tmp/{}.1", network.name)));
        }
        steps.extend(at_rest());
        self.scenario("users", "eight users run four networks at the same time", AMSS, steps)
    }

    fn reload(&self) -> Scenario {
        let mut steps = up();
        let network = &self.networks[0];
        let script = format!(
            "for i in $(seq {RELOADS}); do
                rmmod qaic && {INSERT} || exit 1
                {}
                {} || exit 2
            done",
            online(START_LIMIT),
            run_command(network, 1),
        );
        let step = shell("reload", &script).within(Duration::from_secs(180));
        steps.push(step.with_work(Work::Total(RELOADS)));
        steps.push(near("reload-output", network, "/tmp/out"));
        steps.extend(at_rest());
        let title =
            "the driver is unloaded and loaded again 20 times, and runs a network each time";
        self.scenario("reload", title, PBL, steps)
    }

    fn kill(&self) -> Scenario {
        let mut steps = up();
        let name = self.networks[0].name;
        let kill = |container: &str| {
            format!(
                "for i in $(seq {TIMES}); do
                    rm -f /tmp/said; mkfifo /tmp/said
                    qaic-run -n 0 -r /qaic/{container}.qpc > /tmp/said &
                    read said < /tmp/said; [ \"$said\" = running ] || exit 1
                    kill -9 $!; wait $!; [ $? = 137 ] || exit 2
                done"
            )
        };
        let limit = Duration::from_secs(180);
        for (id, container) in [("kill", name), ("kill-large", "large")] {
            let step = shell(id, &kill(container)).within(limit);
            steps.push(step.with_work(Work::Total(TIMES)));
            steps.push(Step::new(format!("{id}-released"), Action::Released));
        }
        let leave =
            format!("for i in $(seq {TIMES}); do qaic-run -a /qaic/{name}.qpc || exit 1; done");
        steps.push(shell("leave", &leave).within(limit).with_work(Work::Total(TIMES)));
        steps.extend(self.run("last", &self.networks[0], 1));
        steps.extend(at_rest());
        let title = "processes are killed while they infer, and leave nothing behind";
        self.scenario("kill", title, AMSS, steps)
    }

    fn refusal(&self) -> Scenario {
        let refused = |container: &str, status: i32| {
            format!(
                "qaic-run /qaic/{container}.qpc > /tmp/said 2>&1; code=$?; cat /tmp/said
                [ $code = 3 ] && grep -q 'status {status}$' /tmp/said"
            )
        };
        let mut steps = up();
        steps.push(shell("foreign", &refused("foreign", -5)));
        // Two more than the device has channels hold what there is.
        let full = format!(
            "for i in $(seq 16); do
                mkfifo /tmp/said.$i; qaic-run -n 0 -r /qaic/{name}.qpc > /tmp/said.$i & pids=\"$pids $!\"
                read said < /tmp/said.$i; [ \"$said\" = running ] || exit 1
            done
            {refused} || exit 2
            kill $pids; wait; true",
            name = self.networks[0].name,
            refused = refused(self.networks[0].name, -13),
        );
        steps.push(shell("full", &full).with_work(Work::Total(16)));
        steps.extend(self.run("last", &self.networks[0], 1));
        steps.extend(at_rest());
        let title = "foreign programs, and users that find the device full, are refused";
        self.scenario("refusal", title, AMSS, steps)
    }

    fn crash(&self, id: &'static str, wanted: Wanted, parameters: &'static str) -> Scenario {
        let network = &self.networks[0];
        let script = format!(
            "qaic-run -n 0 /qaic/{}.qpc > /tmp/said 2>&1; code=$?; cat /tmp/said; [ $code = 1 ]",
            network.name
        );
        let mut steps = up();
        steps.push(shell("crash", &script).with_work(Work::Total(3)));
        steps.push(shell("recovery", &online(START_LIMIT)));
        steps.extend(self.run("recovered", network, 20));
        steps.push(Step::new("released", Action::Released));
        steps.push(shell("kernel-log", WORSE));
        let title = "the device crashes under a network, is booted again, and works";
        self.scenario(id, title, Wanted { parameters, ..wanted }, steps)
    }

    fn soc_reset(&self, id: &'static str, wanted: Wanted) -> Scenario {
        let network = &self.networks[0];
        let mut steps = up();
        for round in 1..=SOC_RESETS {
            let script = format!(
                "rm -f /tmp/said; mkfifo /tmp/said
                qaic-run -n 0 -r /qaic/{}.qpc > /tmp/said 2> /tmp/error & pid=$!
                exec 3< /tmp/said; read said <&3; [ \"$said\" = running ] || exit 1
                echo 1 > /sys/bus/mhi/devices/mhi0/soc_reset || exit 3
                wait $pid; code=$?; cat /tmp/error; [ $code = 1 ] || exit 2
                {}",
                network.name,
                online(START_LIMIT),
            );
            steps.push(shell(&format!("reset-{round}"), &script).with_work(Work::Total(1)));
            steps.extend(self.run(&format!("after-{round}"), network, 1));
        }
        steps.push(Step::new("released", Action::Released));
        steps.push(shell("kernel-log", WORSE));
        let title = "the chip is reset under load, is booted again, and works";
        self.scenario(id, title, wanted, steps)
    }

    /// Its cases are not here: they become a folder of the guest before it is run.
    fn operators(&self) -> Scenario {
        let mut steps = up();
        let task = Task::Operators { folder: format!("/{CASES}") };
        let limit = Duration::from_secs(1200);
        let step = Step::perform("operators", task).within(limit);
        steps.push(step.with_work(Work::Total(OPERATORS)));
        steps.extend(at_rest());
        let title = "networks of ONNX's backend test have the right outputs, or are refused";
        self.scenario(OPERATORS_ID, title, AMSS, steps)
    }

    /// Runs each network so many times.
    fn run_all(&self, when: &str, runs: u64) -> Vec<Step> {
        self.networks.iter().flat_map(|network| self.run(when, network, runs)).collect()
    }

    /// Runs a network so many times, and compares the last output.
    fn run(&self, when: &str, network: &Network, runs: u64) -> Vec<Step> {
        let id = format!("{when}-{}", network.name);
        let run = shell(&id, &run_command(network, runs)).with_work(Work::Total(runs));
        vec![run, near(&format!("{id}-output"), network, "/tmp/out")]
    }

    fn scenario(
        &self,
        id: &'static str,
        title: &'static str,
        devices: Wanted,
        steps: Vec<Step>,
    ) -> Scenario {
        let mut files = Vec::new();
        for (name, content) in FIRMWARE {
            files.push((format!("usr/lib/firmware/qcom/aic100/{name}"), content.to_vec()));
        }
        for network in &self.networks {
            let Network { name, container, input, output, .. } = network.clone();
            files.push((format!("qaic/{name}.qpc"), container));
            files.push((format!("qaic/{name}.in"), input));
            files.push((format!("qaic/{name}.expected"), output));
        }
        files.push(("qaic/foreign.qpc".to_owned(), self.foreign.clone()));
        files.push(("qaic/large.qpc".to_owned(), self.large.clone()));
        let config = Config {
            programs: vec![PROGRAM.to_owned()],
            modules: MODULES.map(str::to_owned).into(),
            drivers: vec![DRIVER.to_owned()],
            files,
            ..Config::default()
        };
        Scenario { id, title, config, devices, steps }
    }
}

/// Loads the driver.
pub const INSERT: &str = "insmod /lib/modules/$(uname -r)/updates/qaic.ko";

/// How long the firmware may take to run.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Waits until the firmware runs and the device can be used; ends with status 9 at the limit.
pub fn online(limit: Duration) -> String {
    let turns = limit.as_millis() / 50;
    format!(
        "n=0; until (: < {ACCEL}) 2> /dev/null; do
            n=$((n+1)); [ $n -lt {turns} ] || exit 9; sleep 0.05; done"
    )
}

/// A driver that learns of a crash from the event and from the interrupt logs an error when it has
/// recovered already. So only what is worse counts after a crash.
const WORSE: &str = "! dmesg | grep -E 'cut here|WARNING:|BUG:|Oops|blocked for more than'";

fn up() -> Vec<Step> {
    let modules = MODULES.map(str::to_owned).into();
    vec![Step::perform("modules", Task::Load { modules }), insert("load")]
}

fn insert(id: &str) -> Step {
    shell(id, &format!("{INSERT} && {}", online(START_LIMIT)))
}

/// What there is at the end: nothing.
fn at_rest() -> Vec<Step> {
    vec![Step::new("released", Action::Released), Step::perform("kernel-log", Task::KernelLog)]
}

fn run_command(network: &Network, runs: u64) -> String {
    let name = network.name;
    format!("qaic-run -n {runs} -i /qaic/{name}.in -o /tmp/out /qaic/{name}.qpc")
}

fn near(id: &str, network: &Network, file: &str) -> Step {
    let Network { name, float, tolerance, .. } = *network;
    let (file, expected) = (file.to_owned(), format!("/qaic/{name}.expected"));
    Step::perform(id, Task::Near { file, expected, float, tolerance })
}

fn shell(id: &str, script: &str) -> Step {
    Step::perform(id, Task::Shell { script: script.to_owned() })
}
