//! The harness against QEMU's own virtio-crypto device, and against guests that go wrong.
//!
//! These boot guests, so they need what `ci/prepare` makes, and some time: `ci/test` runs them
//! with `--ignored`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use understudy_guest::virtio_crypto::{CIPHER_DRIVERS, QemuDevices, scenarios};
use understudy_guest::{
    Attachment, Booting, Config, Devices, Error, FOLDER_VARIABLE, Guest, Kernel, Kit, Task,
    Verdict, Wanted,
};

const SEED: u64 = 1;
const LIMIT: Duration = Duration::from_secs(20);

fn kit() -> Kit {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest");
    let folder = std::env::var_os(FOLDER_VARIABLE).map_or(default, PathBuf::from);
    Kit::open(&folder).unwrap()
}

fn config() -> Config {
    let agent = PathBuf::from(env!("CARGO_BIN_EXE_understudy-guest-agent"));
    Config { agent: Some(agent), ..Config::default() }
}

fn boot(kit: &Kit, kernel: &Kernel, config: &Config) -> Guest {
    Guest::boot(kit, kernel, config)
        .unwrap_or_else(|Booting { error, log }| panic!("{error}\n{log}"))
}

fn shell(script: &str) -> Task {
    Task::Shell { script: script.to_owned() }
}

/// Every scenario passes with a device that is known to be good, on every kernel.
#[test]
#[ignore = "boots guests"]
fn scenarios_pass_with_qemus_own_device() {
    let kit = kit();
    for kernel in kit.kernels() {
        for mut scenario in scenarios(CIPHER_DRIVERS, SEED) {
            scenario.config.agent = config().agent;
            let report = scenario.run(&kit, kernel, SEED, &mut QemuDevices);
            println!("{report}");
            assert!(report.passed(), "{}: {}", report.scenario, report.verdict());
        }
    }
}

/// Counts nothing, so a step that must show work of the device cannot pass.
struct Idle;

impl Devices for Idle {
    fn attach(&mut self, wanted: Wanted) -> Result<Vec<Attachment>, String> {
        QemuDevices.attach(wanted)
    }

    fn operations(&mut self, _: &mut Guest, _: usize) -> Result<u64, String> {
        Ok(0)
    }
}

/// A scenario fails, says where, and does not go on, if the device did not do the work.
#[test]
#[ignore = "boots guests"]
fn a_scenario_fails_if_the_device_did_nothing() {
    let kit = kit();
    let mut scenario = scenarios(CIPHER_DRIVERS, SEED).remove(0);
    scenario.config.agent = config().agent;
    let report = scenario.run(&kit, &kit.kernels()[0], SEED, &mut Idle);
    let expected = "the devices completed [0] operations, not 1 in all";
    assert_eq!(*report.verdict(), Verdict::Fail { reason: expected.to_owned() });
    let last = report.steps.last().unwrap();
    assert_eq!(last.verdict, Verdict::Missing { reason: "not reached".to_owned() });
    assert!(report.log.contains("Linux version"));
}

/// Tasks that fail say why and leave the guest as it was; a panic is missing, with its message.
#[test]
#[ignore = "boots guests"]
fn failures_and_panics_are_told_apart() {
    let kit = kit();
    let mut guest = boot(&kit, &kit.kernels()[0], &config());
    assert_eq!(guest.hello().release, kit.kernels()[0].release());

    let measured = guest.perform(&shell("echo hello; uname -m"), LIMIT).unwrap();
    assert_eq!(measured["output"], "hello\nx86_64");
    let error = guest.perform(&shell("echo no such luck; exit 3"), LIMIT).unwrap_err();
    assert!(
        matches!(&error, Error::Failed { reason } if reason.contains("no such luck")),
        "{error}"
    );
    let error = guest.perform(&Task::Load { modules: vec!["absent".into()] }, LIMIT).unwrap_err();
    assert!(matches!(&error, Error::Failed { reason } if reason.contains("absent")), "{error}");
    let driver = "absent".to_owned();
    let vectors = Task::CbcVectors { driver, transforms: 1, seed: SEED };
    let error = guest.perform(&vectors, LIMIT).unwrap_err();
    assert!(matches!(&error, Error::Failed { .. }), "{error}");

    guest.perform(&Task::KernelLog, LIMIT).unwrap();
    guest.perform(&shell("echo '<3>the device is on fire' > /dev/kmsg"), LIMIT).unwrap();
    let error = guest.perform(&Task::KernelLog, LIMIT).unwrap_err();
    assert!(error.to_string().contains("the device is on fire"), "{error}");
    guest.perform(&Task::KernelLog, LIMIT).unwrap();

    let error = guest.perform(&shell("echo c > /proc/sysrq-trigger"), LIMIT).unwrap_err();
    let expected = "Kernel panic - not syncing: sysrq triggered crash";
    assert!(matches!(&error, Error::Missing { reason } if reason.contains(expected)), "{error}");
    assert!(guest.log().contains("sysrq"));
}

/// A guest that hangs is given up on in time, and nothing of its QEMU is left.
#[test]
#[ignore = "boots guests"]
fn time_runs_out() {
    let kit = kit();
    let mut guest = boot(&kit, &kit.kernels()[0], &config());
    let start = Instant::now();
    let error = guest.perform(&shell("sleep 1000"), Duration::from_secs(1)).unwrap_err();
    assert!(matches!(&error, Error::Missing { reason } if reason == "time ran out"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// A QEMU that does not start, a kernel that has no time to, and one that finds no agent, are
/// missing verdicts.
#[test]
#[ignore = "boots guests"]
fn what_does_not_come_up_says_why() {
    let kit = kit();
    let absent = Attachment::vfio_user(Path::new("/nonexistent/socket"));
    let config = Config { devices: vec![absent], ..config() };
    let Booting { error, .. } = Guest::boot(&kit, &kit.kernels()[0], &config).err().unwrap();
    assert!(
        matches!(&error, Error::Missing { reason } if reason.contains("/nonexistent")),
        "{error}"
    );

    let config = Config { devices: Vec::new(), ..config };
    let never = Config { boot_limit: Duration::from_millis(100), ..config.clone() };
    let Booting { error, .. } = Guest::boot(&kit, &kit.kernels()[0], &never).err().unwrap();
    assert!(matches!(&error, Error::Missing { reason } if reason == "time ran out"), "{error}");

    let lost = Config { kernel_arguments: vec!["rdinit=/absent".into()], ..config };
    let Booting { error, log } = Guest::boot(&kit, &kit.kernels()[0], &lost).err().unwrap();
    assert!(
        matches!(&error, Error::Missing { reason } if reason.contains("Kernel panic")),
        "{error}"
    );
    assert!(log.contains("Linux version"), "{log}");
}
