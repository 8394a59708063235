//! QEMU as a client to fuzz: stopped, without a guest, told by its monitor to attach devices.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest time that QEMU may take to start.
const START: Duration = Duration::from_secs(30);

/// What QEMU said to a command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// It was done.
    Done,
    /// It was refused.
    Refused(String),
    /// QEMU is gone: how it ended, and its last words.
    Gone(String, Vec<String>),
    /// Nothing came in time.
    Silence,
}

/// A QEMU process. Killed and waited for when dropped.
pub(crate) struct Qemu {
    child: Child,
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    errors: tempfile::NamedTempFile,
    _folder: tempfile::TempDir,
}

impl Qemu {
    pub(crate) fn start(program: &Path) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let errors = tempfile::NamedTempFile::new()?;
        let monitor = folder.path().join("qmp");
        let listener = std::os::unix::net::UnixListener::bind(&monitor)?;
        listener.set_nonblocking(true)?;
        let chardev = format!("socket,id=qmp,path={}", monitor.display());
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-S"])
            .args(["-machine", "q35,memory-backend=ram", "-accel", "tcg", "-m", "64M"])
            .args(["-object", "memory-backend-memfd,share=on,id=ram,size=64M"])
            .args(["-device", "pcie-root-port,id=port0,chassis=1,slot=1"])
            .args(["-chardev", &chardev, "-mon", "chardev=qmp,mode=control"])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.reopen()?)
            .spawn()?;
        let deadline = Instant::now() + START;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) if Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(error);
                }
            }
        };
        stream.set_nonblocking(false)?;
        let reader = BufReader::new(stream.try_clone()?);
        let mut qemu = Self { child, reader, writer: stream, errors, _folder: folder };
        match qemu.ask("qmp_capabilities", &Value::Null, START) {
            Answer::Done => Ok(qemu),
            other => Err(std::io::Error::other(format!("{other:?}"))),
        }
    }

    /// Runs a command of the monitor.
    pub(crate) fn ask(&mut self, command: &str, arguments: &Value, limit: Duration) -> Answer {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments.clone();
        }
        if self.writer.write_all(format!("{request}\n").as_bytes()).is_err() {
            return self.gone();
        }
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.reader.get_ref().set_read_timeout(Some(left)).is_err() {
                return Answer::Silence;
            }
            let mut line = String::new();
            match self.reader.read_line(&mut line) {
                Ok(0) => return self.gone(),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => return self.gone(),
            }
            let message: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(error) = message.get("error") {
                return Answer::Refused(error["desc"].as_str().unwrap_or_default().to_owned());
            }
            if message.get("return").is_some() {
                return Answer::Done;
            }
        }
    }

    /// Attaches a device served at a socket.
    pub(crate) fn attach(&mut self, socket: &Path, limit: Duration) -> Answer {
        let device = json!({
            "driver": "vfio-user-pci", "id": "fuzzed", "bus": "port0",
            "socket": { "type": "unix", "path": socket },
        });
        self.ask("device_add", &device, limit)
    }

    /// Lets the firmware look for devices for a while.
    pub(crate) fn boot(&mut self, time: Duration) -> Answer {
        match self.ask("cont", &Value::Null, START) {
            Answer::Done => {}
            other => return other,
        }
        std::thread::sleep(time);
        self.ask("query-status", &Value::Null, START)
    }

    /// How QEMU ended. It is known to have closed its monitor.
    fn gone(&mut self) -> Answer {
        let deadline = Instant::now() + START;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status.to_string(),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => break "closed its monitor".to_owned(),
            }
        };
        let words = std::fs::read(self.errors.path()).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).lines().map(str::to_owned).collect();
        Answer::Gone(status, words)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
