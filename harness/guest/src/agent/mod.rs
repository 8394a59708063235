//! The guest's side: the first process of the guest, which does what the host asks.
//!
//! It is the same executable as the host's side, started again inside the guest, so both always
//! speak the same protocol.

mod alg;
mod compare;
mod crypto_list;
mod dpdk;
mod ecryptfs;
mod kernel_log;
mod near;
mod operators;
mod page_out;
mod priority;
mod software;
mod vectors;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use rustix::mount::{MountFlags, mount};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use crate::protocol::{FromAgent, Hello, MAX_OUTPUT_BYTES, Task};

/// Set (by the guest's `/init`) in the environment of an executable that is to be the agent.
pub(crate) const AGENT_VARIABLE: &str = "UNDERSTUDY_GUEST_AGENT";

/// The guest's serial port for [`crate::protocol`]; the first one is the console.
const PORT: &str = "/dev/ttyS1";

/// Why a task failed, for people.
type Failure = String;

/// Whether this process runs as a guest's first process and must call [`main`].
pub fn is_agent() -> bool {
    std::process::id() == 1 && std::env::var_os(AGENT_VARIABLE).is_some()
}

/// Serves the host until the guest is stopped. Call it first thing if [`is_agent`].
///
/// Never returns in order: the host ends the guest. An error is printed to the console, and the
/// kernel then stops for want of its first process, which the host sees.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("agent: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Failure> {
    set_up()?;
    let mut port = open_port().map_err(|e| format!("{PORT}: {e}"))?;
    let mut log = kernel_log::KernelLog::open()?;
    send(&mut port, &FromAgent::Hello(hello()?))?;
    let requests = BufReader::new(port.try_clone().map_err(|e| e.to_string())?);
    for line in requests.lines() {
        let line = line.map_err(|e| format!("{PORT}: {e}"))?;
        let answer = match serde_json::from_str::<Task>(&line) {
            Ok(task) => {
                // The console then shows which task the kernel's messages belong to.
                println!("agent: {line}");
                perform(&task, &mut log)
            }
            Err(error) => Err(format!("not a task: {error}")),
        };
        let answer = match answer {
            Ok(measured) => FromAgent::Pass(measured),
            Err(reason) => FromAgent::Fail(reason),
        };
        send(&mut port, &answer)?;
    }
    Err(format!("{PORT} was closed"))
}

fn perform(task: &Task, log: &mut kernel_log::KernelLog) -> Result<Value, Failure> {
    match task {
        Task::Shell { script } => shell(script),
        Task::Load { modules } => {
            let mut arguments = vec!["--all", "--"];
            arguments.extend(modules.iter().map(String::as_str));
            run("modprobe", &arguments).map(|_| Value::Null)
        }
        Task::Unload { module } => {
            run("modprobe", &["--remove", "--", module]).map(|_| Value::Null)
        }
        Task::Algorithms { module, drivers } => crypto_list::wait_for(module, drivers),
        Task::KernelLog => log.check(),
        Task::CbcVectors { driver, transforms, seed } => vectors::check(driver, *transforms, *seed),
        Task::CbcTiming { driver, operations, sizes } => vectors::time(driver, *operations, sizes),
        Task::Ecryptfs { driver, seed } => ecryptfs::check(driver, *seed),
        Task::Compare { driver, reference, shape, seed } => {
            compare::check(driver, reference, shape, *seed)
        }
        Task::Priority { driver, priority } => priority::set(driver, *priority),
        Task::PageOut { pages, seed } => page_out::check(*pages, *seed),
        Task::DpdkTest { command, function, drivers, reasons } => {
            dpdk::check(command, function, drivers, reasons)
        }
        Task::Near { file, expected, float, tolerance } => {
            near::check(file, expected, *float, *tolerance)
        }
        Task::Operators { folder } => operators::check(folder),
        Task::Reboot => {
            rustix::fs::sync();
            match rustix::system::reboot(rustix::system::RebootCommand::Restart) {
                Ok(()) => Ok(Value::Null),
                Err(error) => Err(format!("reboot: {error}")),
            }
        }
    }
}

/// Lays the file systems that Linux programs expect, and names busybox's programs.
fn set_up() -> Result<(), Failure> {
    let systems = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("devpts", "/dev/pts"),
    ];
    for (kind, at) in systems {
        fs::create_dir_all(at).map_err(|e| format!("{at}: {e}"))?;
        mount(kind, at, kind, MountFlags::empty(), None).map_err(|e| format!("mount {at}: {e}"))?;
    }
    // Programs that are there already (kmod's) stay.
    run("/bin/busybox", &["--install", "-s", "/bin"]).map(drop)
}

fn hello() -> Result<Hello, Failure> {
    let uptime = fs::read_to_string("/proc/uptime").map_err(|e| format!("/proc/uptime: {e}"))?;
    let uptime_seconds = uptime.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or_default();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Ok(Hello { release, uptime_seconds })
}

/// The port as a plain byte pipe: no echo, no line editing.
fn open_port() -> std::io::Result<File> {
    let port = OpenOptions::new().read(true).write(true).open(PORT)?;
    let mut settings = tcgetattr(&port)?;
    settings.make_raw();
    tcsetattr(&port, OptionalActions::Flush, &settings)?;
    Ok(port)
}

fn send(port: &mut File, message: &FromAgent) -> Result<(), Failure> {
    let mut line = serde_json::to_string(message).map_err(|e| e.to_string())?;
    line.push('\n');
    port.write_all(line.as_bytes()).map_err(|e| format!("{PORT}: {e}"))
}

fn shell(script: &str) -> Result<Value, Failure> {
    run("/bin/sh", &["-c", script]).map(|output| json!({ "output": output }))
}

/// A program of the guest's, with nothing on its standard input.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// Runs a program and returns the end of what it printed; fails, with it, on another status than 0.
fn run(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output =
        command(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    let mut printed = output.stdout;
    printed.extend_from_slice(&output.stderr);
    let printed = &printed[printed.len().saturating_sub(MAX_OUTPUT_BYTES)..];
    let printed = String::from_utf8_lossy(printed).trim_end().to_owned();
    if output.status.success() {
        return Ok(printed);
    }
    Err(format!("{program} {}: {}: {printed}", arguments.join(" "), output.status))
}
