//! A server of somebody else's that the suite starts itself, and starts again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::Target;

/// How often it is asked whether the server still runs.
const LOOK: Duration = Duration::from_millis(10);

/// A server that a command starts. It is started again whenever it ends: some servers end with
/// their client, some die of one, and one that hangs is killed.
#[derive(Debug)]
pub struct Started {
    name: String,
    path: PathBuf,
    running: Arc<Running>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Running {
    command: String,
    socket: PathBuf,
    child: Mutex<Child>,
    stop: AtomicBool,
}

impl Started {
    /// Starts a command with the shell, in a process group of its own. It must listen on `path`;
    /// a socket that an earlier one left there is removed first.
    ///
    /// # Errors
    /// If there is no shell.
    pub fn new(name: &str, path: &Path, command: &str) -> std::io::Result<Self> {
        let child = Mutex::new(spawn(command, path)?);
        let running = Arc::new(Running {
            command: command.to_owned(),
            socket: path.to_owned(),
            child,
            stop: AtomicBool::new(false),
        });
        let keep = Arc::clone(&running);
        let keeper = thread::Builder::new().name("server".into()).spawn(move || keep.keep())?;
        let (name, path) = (name.to_owned(), path.to_owned());
        Ok(Self { name, path, running, keeper: Some(keeper) })
    }
}

impl Running {
    /// Starts the server again whenever it has ended.
    fn keep(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(child.try_wait(), Ok(Some(_)))
                && let Ok(new) = spawn(&self.command, &self.socket)
            {
                *child = new;
            }
            drop(child);
            thread::sleep(LOOK);
        }
    }

    fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Ended by itself, or killed: in any case it is gone afterwards.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
}

fn spawn(command: &str, socket: &Path) -> std::io::Result<Child> {
    use std::os::unix::process::CommandExt;
    // Only fails if it is not there.
    let _ = std::fs::remove_file(socket);
    Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

impl Target for Started {
    fn name(&self) -> &str {
        &self.name
    }

    fn socket(&self) -> &Path {
        &self.path
    }

    fn replace(&mut self) -> Result<(), String> {
        self.running.kill();
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.running.stop.store(true, Ordering::SeqCst);
        if let Some(keeper) = self.keeper.take() {
            // It does not panic; if it did, the server is killed all the same.
            let _ = keeper.join();
        }
        self.running.kill();
    }
}
