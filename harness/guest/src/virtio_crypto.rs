//! What Linux's `virtio_crypto` driver is put through.

use serde_json::{Map, json};

use crate::guest::{Attachment, Config, Guest};
use crate::protocol::Task;
use crate::scenario::{Action, Devices, For, Scenario, Step, Wanted, Work};

/// The driver's name for `cbc(aes)`, which every device announces.
const CBC: &str = "virtio_crypto_aes_cbc";

/// The driver's names for a device with `cbc(aes)` alone, such as QEMU's own.
pub const CIPHER_DRIVERS: &[&str] = &[CBC];

/// The driver's names for a device that also announces RSA (service AKCIPHER).
pub const ALL_DRIVERS: &[&str] = &[CBC, "virtio-crypto-rsa", "virtio-pkcs1-rsa"];

/// The modules that the steps need.
const MODULES: [&str; 3] = ["virtio_crypto", "algif_skcipher", "ecryptfs"];

/// A processor without AES instructions: with them, the kernel's own `cbc(aes)` has a higher
/// priority (400) than the device's (150).
const CPU_WITHOUT_AES: &str = "max,aes=off,vaes=off";

/// The last kernels whose `AF_ALG` lets devices serve it. Later ones ask for drivers that are
/// neither asynchronous nor allocate memory, whatever their name or priority.
const AF_ALG: For = For::Before(7, 2);
/// The kernels on which eCryptfs must show what `AF_ALG` shows on the others.
const NO_AF_ALG: For = For::Since(7, 2);

/// eCryptfs ciphers 4 KiB at a time; the agent writes some 280 of them and reads them again.
const ECRYPTFS_OPERATIONS: u64 = 500;

const ONE: Wanted = Wanted { count: 1, msix: true, parameters: "" };

/// Everything, for a device of which Linux registers `drivers`.
///
/// The device's answers are checked over `AF_ALG` if the kernel still lets devices serve it, with
/// published vectors; otherwise by eCryptfs, whose files are compared with what they must be. Both
/// come on top of the kernel's self-tests. `seed` is where all random contents start.
pub fn scenarios(drivers: &[&str], seed: u64) -> Vec<Scenario> {
    let drivers = drivers.iter().map(|&d| d.to_owned()).collect();
    let suite = Suite { drivers, seed };
    vec![suite.driver(), suite.ecryptfs(), suite.two_devices(), suite.reboot(), suite.unplug()]
}

/// Times the driver at each of the sizes in bytes and does nothing else; for kernels whose
/// `AF_ALG` lets devices serve it.
pub fn timing(drivers: &[&str], operations: u32, sizes: &[u32]) -> Scenario {
    let suite = Suite { drivers: drivers.iter().map(|&d| d.to_owned()).collect(), seed: 0 };
    let mut steps = suite.registration("first");
    let task = Task::CbcTiming { driver: CBC.into(), operations, sizes: sizes.to_vec() };
    steps.push(Step::perform("timing", task).with_work(Work::Total(operations.into())).on(AF_ALG));
    Scenario {
        id: "timing",
        title: "how long single requests take",
        config: config(),
        devices: ONE,
        steps,
    }
}

struct Suite {
    drivers: Vec<String>,
    seed: u64,
}

impl Suite {
    fn driver(&self) -> Scenario {
        let mut steps = self.checks("first");
        let sizes = vec![16, 4096, 65_536];
        let timing = Task::CbcTiming { driver: CBC.into(), operations: 1000, sizes };
        steps.push(Step::perform("timing", timing).on(AF_ALG));
        steps.push(Step::perform("unload", Task::Unload { module: "virtio_crypto".into() }));
        steps.push(self.unregistered("unloaded"));
        steps.extend(self.checks("reloaded"));
        Scenario {
            id: "driver",
            title: "the driver registers, its self-tests pass, its answers are right; it reloads",
            config: config(),
            devices: ONE,
            steps,
        }
    }

    fn ecryptfs(&self) -> Scenario {
        let mut steps = self.registration("first");
        steps.push(self.files("files"));
        steps.push(Step::perform("files-kernel-log", Task::KernelLog));
        Scenario {
            id: "ecryptfs",
            title: "an eCryptfs mount chooses the device by priority; its files come back",
            config: config(),
            devices: ONE,
            steps,
        }
    }

    fn two_devices(&self) -> Scenario {
        let mut steps = self.checks("first");
        steps.extend(self.answers("shared", 8).map(|step| step.with_work(Work::Each(1))));
        steps.push(Step::perform("shared-kernel-log", Task::KernelLog));
        Scenario {
            id: "two-devices",
            title: "two devices in one guest share the work",
            config: config(),
            devices: Wanted { count: 2, ..ONE },
            steps,
        }
    }

    fn reboot(&self) -> Scenario {
        let mut steps = self.checks("first");
        steps.push(Step::new("reset", Action::Reset));
        steps.extend(self.checks("reset"));
        steps.push(Step::perform("reboot", Task::Reboot));
        steps.extend(self.checks("rebooted"));
        Scenario {
            id: "reboot",
            title: "the device survives the guest's reset and its reboot",
            config: config(),
            devices: ONE,
            steps,
        }
    }

    /// Without MSI-X: QEMU 11.1 aborts when a vfio-user device that has it is
    /// unplugged, as it takes the pending bits' region out of a BAR that is gone. This way the
    /// driver also shows that it works with the interrupt line.
    fn unplug(&self) -> Scenario {
        let mut steps = self.checks("first");
        steps.push(Step::new("unplug", Action::Unplug(0)));
        steps.push(self.unregistered("unplugged"));
        steps.push(Step::perform("unplugged-kernel-log", Task::KernelLog));
        steps.push(Step::new("plug", Action::Plug(0)));
        steps.extend(self.checks("plugged"));
        Scenario {
            id: "unplug",
            title: "a device without MSI-X is unplugged and plugged in again while the guest runs",
            config: config(),
            devices: Wanted { msix: false, ..ONE },
            steps,
        }
    }

    /// Shows that the driver works: what it registers, right answers, a clean log. `when` makes
    /// the steps' names unique.
    fn checks(&self, when: &str) -> Vec<Step> {
        let mut steps = self.registration(when);
        steps.extend(self.answers(when, 3));
        steps.push(Step::perform(format!("{when}-kernel-log"), Task::KernelLog));
        steps
    }

    /// Loads the modules that are not there, and waits for the driver's self-tests.
    fn registration(&self, when: &str) -> Vec<Step> {
        let (module, drivers) = ("virtio_crypto".to_owned(), self.drivers.clone());
        let modules = MODULES.map(str::to_owned).to_vec();
        vec![
            Step::perform(format!("{when}-load"), Task::Load { modules }),
            Step::perform(format!("{when}-self-tests"), Task::Algorithms { module, drivers }),
        ]
    }

    /// Has the device compute, over several transforms at once, and compares. One step for each
    /// kind of kernel.
    fn answers(&self, when: &str, transforms: u32) -> [Step; 2] {
        let vectors = Task::CbcVectors { driver: CBC.into(), transforms, seed: self.seed };
        let vectors = Step::perform(format!("{when}-vectors"), vectors);
        [
            vectors.with_work(Work::Total(1)).on(AF_ALG),
            self.files(&format!("{when}-files")).on(NO_AF_ALG),
        ]
    }

    fn files(&self, id: &str) -> Step {
        let task = Task::Ecryptfs { driver: CBC.into(), seed: self.seed };
        Step::perform(id, task).with_work(Work::Total(ECRYPTFS_OPERATIONS))
    }

    fn unregistered(&self, id: &str) -> Step {
        let (module, drivers) = ("virtio_crypto".to_owned(), Vec::new());
        Step::perform(id, Task::Algorithms { module, drivers })
    }
}

/// A guest with the modules that the steps load, and those the kernel may ask for.
fn config() -> Config {
    let mut modules = MODULES.map(str::to_owned).to_vec();
    modules.push("kernel/crypto/".to_owned());
    Config { cpu: CPU_WITHOUT_AES.to_owned(), modules, ..Config::default() }
}

/// QEMU's own virtio-crypto device: an oracle for the scenarios, and what ours is measured by.
#[derive(Debug, Default)]
pub struct QemuDevices;

impl Devices for QemuDevices {
    fn attach(&mut self, wanted: Wanted) -> Result<Vec<Attachment>, String> {
        let attachment = |index: usize| {
            let mut device = Map::new();
            device.insert("driver".into(), "virtio-crypto-pci".into());
            device.insert("cryptodev".into(), backend_id(index).into());
            if !wanted.msix {
                device.insert("vectors".into(), 0.into());
            }
            let object = format!("cryptodev-backend-builtin,id={}", backend_id(index));
            Attachment { objects: vec![object], device }
        };
        Ok((0..wanted.count).map(attachment).collect())
    }

    fn operations(&mut self, guest: &mut Guest, device: usize) -> Result<u64, String> {
        let statistics = guest.qmp("query-stats", json!({ "target": "cryptodev" }));
        let statistics = statistics.map_err(|e| e.to_string())?;
        let path = format!("/objects/{}", backend_id(device));
        let of_device = statistics.as_array().into_iter().flatten();
        let of_device = of_device.filter(|entry| entry["qom-path"] == *path);
        let counters = of_device.flat_map(|entry| entry["stats"].as_array().into_iter().flatten());
        let operations = counters.filter(|counter| {
            counter["name"].as_str().is_some_and(|name| name.ends_with("crypt-ops"))
        });
        Ok(operations.filter_map(|counter| counter["value"].as_u64()).sum())
    }
}

fn backend_id(index: usize) -> String {
    format!("cryptodev{index}")
}
