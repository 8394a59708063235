//! Runs the program in a folder of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A working directory, and the program in it.
pub(crate) struct Understudy(tempfile::TempDir);

/// What came of a run.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Understudy {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A path in the working directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        // As the program sees it: without links.
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
        command.args(arguments).current_dir(self.path("")).stdin(Stdio::null());
        for name in ["RUST_LOG", "UNDERSTUDY_GUEST_DIR", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done {
            code: output.status.code().expect("ended by a signal"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Starts `serve` and waits until it serves.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Serving {
        let arguments = [&["serve"], arguments].concat();
        let mut child = self.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        // The announcement ends with the last line of QEMU's arguments: the only one that does not
        // go on.
        loop {
            let before = said.len();
            assert_ne!(reader.read_line(&mut said).unwrap(), 0, "serve ended early: {said}");
            let last = &said[before..];
            if last.contains("-device") && !last.ends_with("\\\n") {
                break;
            }
        }
        Serving { child, said }
    }
}

/// A server that runs until it is stopped.
pub(crate) struct Serving {
    child: Child,
    said: String,
}

impl Serving {
    /// What it printed when it was ready.
    pub(crate) fn announcement(&self) -> &str {
        &self.said
    }

    /// Sends SIGTERM; returns the exit code.
    pub(crate) fn stop(mut self) -> i32 {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap().code().expect("ended by a signal")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Already gone if it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The one line that a failed run printed.
pub(crate) fn line(stderr: &str) -> String {
    assert!(stderr.starts_with("understudy: "), "{stderr}");
    assert!(stderr.ends_with('\n') && stderr.matches('\n').count() == 1, "{stderr}");
    stderr.trim_end().to_owned()
}

/// The devices' names as messages list them. What there is changes more often than what is said.
pub(crate) fn names() -> String {
    let json = Understudy::new().run(&["devices", "--json"]).stdout;
    let devices: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names = devices.as_array().unwrap().iter().map(|device| device["name"].as_str().unwrap());
    names.collect::<Vec<_>>().join(", ")
}
