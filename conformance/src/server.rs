//! A server of somebody else's that the suite starts itself, and starts again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::Target;

/// How often it is asked whether the server still runs.
const LOOK: Duration = Duration::from_millis(5);
/// How long a server that ends with its client may take to do so, and how often in a row it may not
/// before it is taken for one that goes on.
const PATIENCE: Duration = Duration::from_millis(250);
const TRIES: u32 = 3;
/// How long a new one may take to listen.
const START: Duration = Duration::from_secs(5);

/// A server that a command starts. It is started again whenever it ends: some servers end with
/// their client, some die of one, and one that hangs is killed.
#[derive(Debug)]
pub struct Started {
    name: String,
    path: PathBuf,
    running: Arc<Running>,
    keeper: Option<JoinHandle<()>>,
    /// Starts that were known of when a client last attached.
    seen: u64,
    /// Times that it is still waited for to end with its client.
    tries: u32,
}

#[derive(Debug)]
struct Running {
    command: String,
    socket: PathBuf,
    child: Mutex<Child>,
    stop: AtomicBool,
    /// How often it was started again.
    starts: AtomicU64,
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
            starts: AtomicU64::new(0),
        });
        let keep = Arc::clone(&running);
        let keeper = thread::Builder::new().name("server".into()).spawn(move || keep.keep())?;
        let (name, path) = (name.to_owned(), path.to_owned());
        let started = Self { name, path, running, keeper: Some(keeper), seen: 0, tries: TRIES };
        started.listening();
        Ok(started)
    }
}

impl Started {
    /// Waits until there is a socket.
    fn listening(&self) {
        let end = Instant::now() + START;
        while !self.path.exists() && Instant::now() < end {
            thread::sleep(LOOK);
        }
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
                self.starts.fetch_add(1, Ordering::SeqCst);
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

    fn settle(&mut self) {
        let now = || self.running.starts.load(Ordering::SeqCst);
        let end = Instant::now() + PATIENCE;
        // It has outlived its clients a few times: it will again, or is started again when it dies.
        while self.tries > 0 && now() == self.seen && Instant::now() < end {
            thread::sleep(LOOK);
        }
        let starts = now();
        if starts == self.seen {
            self.tries = self.tries.saturating_sub(1);
            return;
        }
        if self.tries > 0 {
            self.tries = TRIES;
        }
        self.seen = starts;
        self.listening();
    }

    fn restarts(&self) -> bool {
        true
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
