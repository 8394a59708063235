//! A running QEMU: its process and the four streams that come out of it.
//!
//! One thread, one `poll`: whoever waits for anything moves everything along meanwhile, so the
//! guest never stalls on a full pipe.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::error::Error;
use crate::protocol::MAX_LINE_BYTES;

/// How much of the console's end is kept, in bytes.
const MAX_LOG_BYTES: usize = 256 << 10;
/// How much of QEMU's own messages' end is kept, in bytes.
const MAX_STDERR_BYTES: usize = 16 << 10;
/// How many events and answers may wait to be looked at; a guest cannot cause more in one step.
const MAX_WAITING: usize = 4096;
/// How long QEMU may take to take a message that fits its socket's buffer.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// The names of the sockets, in the order QEMU connects to them.
const SOCKETS: [&str; 3] = ["qmp", "console", "agent"];

/// A QEMU process. Killed and waited for when dropped.
pub(crate) struct Machine {
    child: Child,
    /// Becomes readable when the process ends.
    ended: OwnedFd,
    stderr: ChildStderr,
    console: UnixStream,
    qmp: Lines,
    agent: Lines,
    log: Tail,
    errors: Tail,
    replies: VecDeque<Value>,
    events: VecDeque<Value>,
}

impl Machine {
    /// Starts QEMU with `arguments` and connects to its monitor and serial ports.
    ///
    /// # Errors
    /// [`Error::Io`] if the host cannot, [`Error::Missing`] if QEMU ends or `deadline` passes.
    pub(crate) fn start(
        qemu: &Path,
        arguments: &[String],
        folder: &Path,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let listeners = SOCKETS
            .iter()
            .map(|name| UnixListener::bind(folder.join(name)).map_err(Error::io(*name)))
            .collect::<Result<Vec<_>, _>>()?;
        // The kernel kills QEMU should this thread end without dropping it. The process group
        // keeps a terminal's Ctrl-C from QEMU: whoever gets it decides.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(qemu)
            .args(SOCKETS.iter().flat_map(|name| socket_arguments(name, folder)))
            .args(["-mon", "chardev=qmp,mode=control"])
            .args(["-serial", "chardev:console", "-serial", "chardev:agent"])
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io("setpriv (of util-linux), which starts QEMU"))?;
        let mut unconnected = Unconnected { stderr: child.stderr.take(), child: Some(child) };
        let connected = unconnected.connect(&listeners, deadline);
        let [qmp, console, agent] = connected.map_err(|error| unconnected.explain(error))?;
        let (Some(child), Some(stderr)) = (unconnected.child.take(), unconnected.stderr.take())
        else {
            return Err(Error::missing("QEMU has no standard error"));
        };
        let ended = watch(&child)?;
        let mut machine = Self {
            child,
            ended,
            stderr,
            console,
            qmp: Lines::new(qmp),
            agent: Lines::new(agent),
            log: Tail::new(MAX_LOG_BYTES),
            errors: Tail::new(MAX_STDERR_BYTES),
            replies: VecDeque::new(),
            events: VecDeque::new(),
        };
        machine.qmp("qmp_capabilities", Value::Null, deadline)?;
        Ok(machine)
    }

    /// The end of what the guest printed on its console.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Sends one line to the agent.
    pub(crate) fn tell_agent(&mut self, line: &str) -> Result<(), Error> {
        self.agent.send(line).map_err(|e| Error::missing(format!("the agent's port: {e}")))
    }

    /// Waits for a line from the agent.
    pub(crate) fn hear_agent(&mut self, deadline: Instant) -> Result<String, Error> {
        loop {
            if let Some(line) = self.agent.waiting.pop_front() {
                return Ok(line);
            }
            self.pump(deadline)?;
        }
    }

    /// Runs a monitor command and returns what it returns.
    ///
    /// # Errors
    /// [`Error::Failed`] with QEMU's description if it refuses.
    pub(crate) fn qmp(
        &mut self,
        command: &str,
        arguments: Value,
        deadline: Instant,
    ) -> Result<Value, Error> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let sent = self.qmp.send(&request.to_string());
        sent.map_err(|e| Error::missing(format!("QEMU's monitor: {e}")))?;
        loop {
            if let Some(mut reply) = self.replies.pop_front() {
                if let Some(error) = reply.get("error") {
                    let description = error["desc"].as_str().unwrap_or("no description");
                    return Err(Error::failed(format!("QEMU: {command}: {description}")));
                }
                return Ok(reply["return"].take());
            }
            self.pump(deadline)?;
        }
    }

    /// Waits for an event that `matches`, and forgets those before it.
    pub(crate) fn wait_event(
        &mut self,
        matches: impl Fn(&Value) -> bool,
        deadline: Instant,
    ) -> Result<(), Error> {
        loop {
            while let Some(event) = self.events.pop_front() {
                if matches(&event) {
                    return Ok(());
                }
            }
            self.pump(deadline)?;
        }
    }

    /// Waits until something happens, and takes in all that has.
    fn pump(&mut self, deadline: Instant) -> Result<(), Error> {
        let sources = [
            self.ended.as_fd(),
            self.console.as_fd(),
            self.stderr.as_fd(),
            self.qmp.stream.as_fd(),
            self.agent.stream.as_fd(),
        ];
        let [ended, console, stderr, qmp, agent] = wait_readable(sources, deadline)?;
        if console {
            self.log.read_once(&mut self.console);
        }
        if stderr {
            self.errors.read_once(&mut self.stderr);
        }
        if qmp {
            self.qmp.read_once().map_err(|reason| self.lost(&format!("monitor: {reason}")))?;
            self.sort_monitor()?;
        }
        if agent {
            self.agent.read_once().map_err(|reason| self.lost(&format!("agent: {reason}")))?;
        }
        if ended { Err(self.lost("QEMU ended")) } else { Ok(()) }
    }

    fn sort_monitor(&mut self) -> Result<(), Error> {
        while let Some(line) = self.qmp.waiting.pop_front() {
            let message: Value = serde_json::from_str(&line)
                .map_err(|e| Error::missing(format!("QEMU's monitor: {e}: {line}")))?;
            if message.get("event").is_some() {
                self.events.push_back(message);
            } else if message.get("QMP").is_none() {
                self.replies.push_back(message);
            }
        }
        if self.events.len() > MAX_WAITING {
            return Err(Error::missing("QEMU's monitor sends events without end"));
        }
        Ok(())
    }

    /// Says why nothing more will come, as well as can be known.
    fn lost(&mut self, what: &str) -> Error {
        // A stream may end before the process is seen to: kill it, so that the rest can be read.
        let status = match self.child.try_wait() {
            Ok(Some(status)) => Some(status),
            _ => {
                let _ = self.child.kill();
                self.child.wait().ok()
            }
        };
        while self.log.read_once(&mut self.console) {}
        while self.errors.read_once(&mut self.stderr) {}
        let log = self.log.text();
        if let Some(panic) = log.lines().rev().find(|l| l.contains("Kernel panic - not syncing")) {
            return Error::missing(panic.trim());
        }
        let errors = self.errors.text();
        let status = status.map_or_else(String::new, |status| format!(" ({status})"));
        Error::missing(format!("{what}{status}: {}", errors.trim()).trim_end_matches([':', ' ']))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A QEMU that has not connected to all of its sockets yet.
struct Unconnected {
    child: Option<Child>,
    stderr: Option<ChildStderr>,
}

impl Unconnected {
    fn connect(
        &mut self,
        listeners: &[UnixListener],
        deadline: Instant,
    ) -> Result<[UnixStream; 3], Error> {
        let Some(child) = &self.child else { return Err(Error::missing("QEMU is gone")) };
        let ended = watch(child)?;
        let mut streams = Vec::new();
        for listener in listeners {
            let [readable, ended] = wait_readable([listener.as_fd(), ended.as_fd()], deadline)?;
            // Its last words are in the sockets even if it has ended since.
            if !readable && ended {
                return Err(Error::missing("QEMU ended"));
            }
            let (stream, _) = listener.accept().map_err(Error::io("QEMU's socket"))?;
            stream.set_write_timeout(Some(WRITE_LIMIT)).map_err(Error::io("QEMU's socket"))?;
            streams.push(stream);
        }
        streams.try_into().map_err(|_| Error::missing("QEMU is not connected"))
    }

    /// Adds what QEMU said to why it did not start.
    fn explain(&mut self, error: Error) -> Error {
        let Error::Missing { reason } = error else { return error };
        self.child.as_mut().map(end);
        let mut errors = Tail::new(MAX_STDERR_BYTES);
        if let Some(stderr) = &mut self.stderr {
            while errors.read_once(stderr) {}
        }
        Error::missing(format!("{reason}: {}", errors.text().trim()))
    }
}

impl Drop for Unconnected {
    fn drop(&mut self) {
        self.child.as_mut().map(end);
    }
}

/// Kills a process and waits for it, so that nothing of it is left.
fn end(child: &mut Child) {
    // Fails only if it has ended already, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

fn watch(child: &Child) -> Result<OwnedFd, Error> {
    pidfd_open(Pid::from_child(child), PidfdFlags::empty())
        .map_err(|e| Error::io("QEMU's process")(e.into()))
}

fn socket_arguments(name: &str, folder: &Path) -> [String; 2] {
    // A comma in a path is doubled in QEMU's option syntax.
    let path = folder.join(name).display().to_string().replace(',', ",,");
    ["-chardev".to_owned(), format!("socket,id={name},path={path}")]
}

/// Waits until at least one source can be read, or has ended, and says which.
fn wait_readable<const N: usize>(
    sources: [std::os::fd::BorrowedFd<'_>; N],
    deadline: Instant,
) -> Result<[bool; N], Error> {
    let mut polled = sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::missing("time ran out"));
        }
        let left = Timespec::try_from(left).ok();
        match poll(&mut polled, left.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(polled.each_ref().map(|source| !source.revents().is_empty())),
            Err(error) => return Err(Error::io("poll")(error.into())),
        }
    }
}

/// A stream of lines, both ways.
struct Lines {
    stream: UnixStream,
    partial: Vec<u8>,
    waiting: VecDeque<String>,
}

impl Lines {
    fn new(stream: UnixStream) -> Self {
        Self { stream, partial: Vec::new(), waiting: VecDeque::new() }
    }

    fn send(&mut self, line: &str) -> std::io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }

    /// Takes in what is there, which must be something.
    fn read_once(&mut self) -> Result<(), String> {
        let mut bytes = [0; 4096];
        let length = match self.stream.read(&mut bytes) {
            Ok(0) => return Err("the stream ended".to_owned()),
            Ok(length) => length,
            Err(error) => return Err(error.to_string()),
        };
        for &byte in &bytes[..length] {
            if byte == b'\n' {
                let line = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
                self.waiting.push_back(line);
                self.partial.clear();
            } else {
                self.partial.push(byte);
            }
        }
        if self.partial.len() > MAX_LINE_BYTES || self.waiting.len() > MAX_WAITING {
            return Err("more came than is ever sent".to_owned());
        }
        Ok(())
    }
}

/// The end of a stream.
struct Tail {
    bytes: VecDeque<u8>,
    max_bytes: usize,
}

impl Tail {
    fn new(max_bytes: usize) -> Self {
        Self { bytes: VecDeque::new(), max_bytes }
    }

    /// Takes in what is there; false if the stream has ended.
    fn read_once(&mut self, stream: &mut impl Read) -> bool {
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).unwrap_or(0);
        self.bytes.extend(&bytes[..length]);
        let excess = self.bytes.len().saturating_sub(self.max_bytes);
        self.bytes.drain(..excess);
        length > 0
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_bounded() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(near);
        far.write_all(b"one\ntw").unwrap();
        lines.read_once().unwrap();
        far.write_all(b"o\r\n").unwrap();
        lines.read_once().unwrap();
        assert_eq!(lines.waiting, ["one", "two"]);
        let flood = vec![b'x'; 4096];
        let flooded = (0..=MAX_LINE_BYTES / flood.len()).try_for_each(|_| {
            far.write_all(&flood).unwrap();
            lines.read_once()
        });
        assert_eq!(flooded.unwrap_err(), "more came than is ever sent");
        drop(far);
    }

    #[test]
    fn an_ended_stream_is_an_error() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        assert_eq!(Lines::new(near).read_once().unwrap_err(), "the stream ended");
    }

    #[test]
    fn a_tail_keeps_the_end() {
        let mut tail = Tail::new(4);
        assert!(tail.read_once(&mut &b"abcdef\r\n"[..]));
        assert_eq!(tail.text(), "ef\n");
        assert!(!tail.read_once(&mut &b""[..]));
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let (near, _far) = UnixStream::pair().unwrap();
        let error = wait_readable([near.as_fd()], Instant::now()).unwrap_err();
        assert_eq!(error.to_string(), "time ran out");
    }
}
