//! A guest: what it is made of, and what can be done with it once it runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::initramfs;
use crate::kit::{Kernel, Kit};
use crate::machine::Machine;
use crate::protocol::{FromAgent, Hello, Task};

/// How long QEMU may take to start, and to answer its monitor.
const MONITOR_LIMIT: Duration = Duration::from_secs(20);
/// How long a guest may take to let a device go.
const UNPLUG_LIMIT: Duration = Duration::from_secs(30);

/// How a guest is built. `Config::default()` boots with one processor, 512 MiB of shared memory
/// and `-cpu max`, without devices; this executable is the agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// QEMU's `-cpu`.
    pub cpu: String,
    /// Processors, at least 1.
    pub processors: u32,
    /// Memory in MiB; at least 256, for the kernel and the files of the guest.
    pub memory_mib: u32,
    /// Whether devices in other processes can map the guest's memory. If not, they must ask QEMU
    /// for every byte, by message.
    pub shared_memory: bool,
    /// Programs to have besides busybox and kmod: `ip`, `dpdk-test`.
    pub programs: Vec<String>,
    /// Modules to have at hand, by name, or by folder (`kernel/crypto/`); what they depend on
    /// comes along. None is loaded unless the kernel or a task asks.
    pub modules: Vec<String>,
    /// Drivers to have at hand that the kernel's package lacks, by name; `ci/prepare` built them.
    /// They are at `/lib/modules/RELEASE/updates/NAME.ko`, for `insmod`.
    pub drivers: Vec<String>,
    /// More files: their paths in the guest, without the leading slash, and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// An archive of a user's, compressed or not, below the kit's root file system and the agent.
    pub initrd: Option<PathBuf>,
    /// Folders of the host whose content the guest has, and where it has it (`driver`).
    pub trees: Vec<(PathBuf, String)>,
    /// More of the kernel's command line.
    pub kernel_arguments: Vec<String>,
    /// More of QEMU's command line.
    pub qemu_arguments: Vec<String>,
    /// The devices, each behind a PCI Express root port of its own.
    pub devices: Vec<Attachment>,
    /// The agent: an executable that calls [`crate::agent::main`] if [`crate::agent::is_agent`].
    /// `None` for the running one.
    pub agent: Option<PathBuf>,
    /// How long the guest may take from power-on to its agent's first word, each time.
    pub boot_limit: Duration,
    /// How long the guest may run in all.
    pub total_limit: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cpu: "max".to_owned(),
            processors: 1,
            memory_mib: 512,
            shared_memory: true,
            programs: Vec::new(),
            modules: Vec::new(),
            drivers: Vec::new(),
            initrd: None,
            trees: Vec::new(),
            files: Vec::new(),
            kernel_arguments: Vec::new(),
            qemu_arguments: Vec::new(),
            devices: Vec::new(),
            agent: None,
            // Idle hosts boot in 4 seconds; hosts that build at the same time took over 60.
            boot_limit: Duration::from_secs(120),
            total_limit: Duration::from_secs(300),
        }
    }
}

/// A device as QEMU attaches it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    /// `-object` arguments that the device refers to.
    pub objects: Vec<String>,
    /// The device's `driver` and properties, without `id` and `bus`, which are given to it.
    pub device: Map<String, Value>,
}

impl Attachment {
    /// A device served over vfio-user at a socket.
    pub fn vfio_user(socket: &Path) -> Self {
        let mut device = Map::new();
        device.insert("driver".into(), "vfio-user-pci".into());
        device.insert("socket".into(), json!({ "type": "unix", "path": socket }));
        Self { objects: Vec::new(), device }
    }
}

/// A running guest. Its QEMU ends when it is dropped.
///
/// QEMU also ends with the thread that booted the guest.
pub struct Guest {
    machine: Machine,
    devices: Vec<Attachment>,
    hello: Hello,
    boot_time: Duration,
    boot_limit: Duration,
    end: Instant,
    /// Sockets and the archive; QEMU reads it again at each reset.
    _folder: tempfile::TempDir,
}

impl Guest {
    /// Builds the guest's files, starts QEMU and waits for the agent.
    ///
    /// # Errors
    /// [`Booting::error`] says what is wrong; if a kernel ran, [`Booting::log`] has its messages.
    pub fn boot(kit: &Kit, kernel: &Kernel, config: &Config) -> Result<Self, Booting> {
        let quiet = |error| Booting { error, log: String::new() };
        let folder = write_files(kit, kernel, config).map_err(quiet)?;
        let start = Instant::now();
        let end = start + config.total_limit;
        let arguments = arguments(kernel, config, &folder.path().join(INITRD));
        let deadline = end.min(start + MONITOR_LIMIT);
        let mut machine =
            Machine::start(&kit.qemu(), &arguments, folder.path(), deadline).map_err(quiet)?;
        let hello = match hear_hello(&mut machine, end.min(start + config.boot_limit)) {
            Ok(hello) => hello,
            Err(error) => return Err(Booting { error, log: machine.log() }),
        };
        let guest = Self {
            machine,
            devices: config.devices.clone(),
            hello,
            boot_time: start.elapsed(),
            boot_limit: config.boot_limit,
            end,
            _folder: folder,
        };
        Ok(guest)
    }

    /// What the agent said when it last came up.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// From QEMU's start to the agent's first word.
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// The end of the console's output, 256 KiB at most.
    pub fn log(&self) -> String {
        self.machine.log()
    }

    /// Has the agent perform a task and returns what it measured. A reboot is waited for.
    ///
    /// # Errors
    /// [`Error::Failed`] if the task did, [`Error::Missing`] if no answer comes within `limit`.
    pub fn perform(&mut self, task: &Task, limit: Duration) -> Result<Value, Error> {
        let line = serde_json::to_string(task)
            .map_err(|e| Error::failed(format!("the task cannot be written: {e}")))?;
        if *task == Task::Reboot {
            return self.reboot(|machine, _| machine.tell_agent(&line));
        }
        self.machine.tell_agent(&line)?;
        let deadline = self.deadline(limit);
        match hear(&mut self.machine, deadline)? {
            FromAgent::Pass(measured) => Ok(measured),
            FromAgent::Fail(reason) => Err(Error::Failed { reason }),
            FromAgent::Hello(_) => Err(Error::missing("the guest started anew by itself")),
        }
    }

    /// Resets the guest as its power button's long press would, and waits for the agent.
    ///
    /// # Errors
    /// [`Error::Missing`] if the agent does not come up within the boot limit.
    pub fn reset(&mut self) -> Result<Value, Error> {
        self.reboot(|machine, deadline| {
            machine.qmp("system_reset", Value::Null, deadline).map(drop)
        })
    }

    /// Lets the guest restart once, however `how` makes it.
    fn reboot(
        &mut self,
        how: impl FnOnce(&mut Machine, Instant) -> Result<(), Error>,
    ) -> Result<Value, Error> {
        // At other times a restart means that the kernel panicked, and ends QEMU.
        let start = Instant::now();
        self.qmp("set-action", json!({ "reboot": "reset" }))?;
        let (monitor, boot) = (self.deadline(MONITOR_LIMIT), self.deadline(self.boot_limit));
        how(&mut self.machine, monitor)?;
        self.hello = hear_hello(&mut self.machine, boot)?;
        self.qmp("set-action", json!({ "reboot": "shutdown" }))?;
        Ok(json!({ "boot_seconds": tenths(start.elapsed()) }))
    }

    /// Unplugs a device (by its index in [`Config::devices`]) and waits until the guest has let
    /// it go.
    ///
    /// # Errors
    /// [`Error::Failed`] if QEMU refuses, [`Error::Missing`] if the guest does not let it go.
    pub fn unplug(&mut self, device: usize) -> Result<(), Error> {
        let id = device_id(device);
        self.qmp("device_del", json!({ "id": id }))?;
        let is_deleted =
            |event: &Value| event["event"] == "DEVICE_DELETED" && event["data"]["device"] == *id;
        let deadline = self.deadline(UNPLUG_LIMIT);
        self.machine.wait_event(is_deleted, deadline)
    }

    /// Plugs an unplugged device in again. The guest finds it in its own time.
    ///
    /// # Errors
    /// [`Error::Failed`] if there is no such device or QEMU refuses.
    pub fn plug(&mut self, device: usize) -> Result<(), Error> {
        let attachment = self.devices.get(device);
        let attachment = attachment.ok_or_else(|| Error::failed("there is no such device"))?;
        let arguments = device_arguments(device, attachment);
        self.qmp("device_add", arguments).map(drop)
    }

    /// Runs a command of QEMU's monitor.
    ///
    /// # Errors
    /// [`Error::Failed`] with QEMU's description if it refuses.
    pub fn qmp(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let deadline = self.deadline(MONITOR_LIMIT);
        self.machine.qmp(command, arguments, deadline)
    }

    fn deadline(&self, limit: Duration) -> Instant {
        self.end.min(Instant::now() + limit)
    }
}

/// A guest that did not come up.
#[derive(Debug)]
pub struct Booting {
    /// Why.
    pub error: Error,
    /// The end of the console's output.
    pub log: String,
}

/// The archive's name in the guest's folder.
const INITRD: &str = "initrd";

fn write_files(kit: &Kit, kernel: &Kernel, config: &Config) -> Result<tempfile::TempDir, Error> {
    let agent = match &config.agent {
        Some(agent) => agent.clone(),
        None => std::env::current_exe().map_err(Error::io("this executable's path"))?,
    };
    let folder = tempfile::Builder::new()
        .prefix("understudy-guest-")
        .tempdir()
        .map_err(Error::io("the guest's temporary folder"))?;
    let archive = initramfs::build(kit, kernel, config, &agent)?;
    std::fs::write(folder.path().join(INITRD), archive)
        .map_err(Error::io("the guest's root file system"))?;
    Ok(folder)
}

fn hear(machine: &mut Machine, deadline: Instant) -> Result<FromAgent, Error> {
    let line = machine.hear_agent(deadline)?;
    serde_json::from_str(&line).map_err(|e| Error::missing(format!("the agent: {e}: {line}")))
}

fn hear_hello(machine: &mut Machine, deadline: Instant) -> Result<Hello, Error> {
    match hear(machine, deadline)? {
        FromAgent::Hello(hello) => Ok(hello),
        other => Err(Error::missing(format!("the agent did not say hello but {other:?}"))),
    }
}

/// Seconds, to a tenth.
pub(crate) fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

fn device_id(index: usize) -> String {
    format!("device{index}")
}

fn device_arguments(index: usize, attachment: &Attachment) -> Value {
    let mut device = attachment.device.clone();
    device.insert("id".into(), device_id(index).into());
    device.insert("bus".into(), format!("port{index}").into());
    Value::Object(device)
}

/// Room for the archive, for what is unpacked from it (which may fill half of the memory), and for
/// the guest to run.
fn memory_mib(config: &Config, initrd: &Path) -> u32 {
    let bytes = initrd.metadata().map_or(0, |file| file.len());
    let archive = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
    config.memory_mib.max(archive.saturating_mul(3).saturating_add(256).next_multiple_of(2))
}

/// QEMU's command line, but for the sockets.
fn arguments(kernel: &Kernel, config: &Config, initrd: &Path) -> Vec<String> {
    let memory = memory_mib(config, initrd);
    // With `share=off`, QEMU still hands out the memfd, whose pages are not the guest's.
    let backend =
        if config.shared_memory { "memory-backend-memfd,share=on" } else { "memory-backend-ram" };
    // Any restart that was not asked for ends QEMU: the kernel makes one of a panic.
    // And a host too busy to emulate ticks in time is no reason for one.
    let mut command_line: Vec<String> =
        ["console=ttyS0", "panic=-1", "no_timer_check"].map(str::to_owned).into();
    command_line.extend(config.kernel_arguments.iter().cloned());
    let mut arguments =
        vec!["-nodefaults".to_owned(), "-no-user-config".to_owned(), "-no-reboot".to_owned()];
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("-display", "none".to_owned());
    add("-machine", "q35,memory-backend=ram".to_owned());
    add("-accel", "tcg".to_owned());
    add("-cpu", config.cpu.clone());
    add("-smp", config.processors.to_string());
    add("-m", format!("{memory}M"));
    add("-object", format!("{backend},id=ram,size={memory}M"));
    add("-kernel", kernel.image().display().to_string());
    add("-initrd", initrd.display().to_string());
    add("-append", command_line.join(" "));
    for (index, attachment) in config.devices.iter().enumerate() {
        let number = index + 1;
        for object in &attachment.objects {
            add("-object", object.clone());
        }
        add("-device", format!("pcie-root-port,id=port{index},chassis={number},slot={number}"));
        add("-device", device_arguments(index, attachment).to_string());
    }
    arguments.extend(config.qemu_arguments.iter().cloned());
    arguments
}
