//! Fuzzes a vfio-user server: conversations of any client, over its socket.
//!
//! After each conversation the server must answer a plain question. One that breaks off, hangs, or
//! takes ever more memory or descriptors has a defect; so has one that answers what nobody asked.
//! A server that this started is started again after it died.

mod exchange;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use serde::{Deserialize, Serialize};
use serde_json::json;
use understudy_client::vfio_user::{Client, ClientError, ClientOptions, Connection};
use understudy_wire::{RegionIndex, Request, version};

use crate::defect::{Defect, DefectKind, without_numbers};
use crate::finding::{FORMAT, Finding};
use crate::message::{self, Conversation, Sizes};
use exchange::Ended;

/// Longest wait for a connection and for plain questions. What takes longer is counted as slow.
const PATIENCE: Duration = Duration::from_secs(5);
/// A conversation without an answer for so long hangs. Less would tell of the machine's load.
const HANG: Duration = Duration::from_secs(60);
/// Conversations of one connection at most.
const PER_CONNECTION: usize = 64;
/// Growth is looked for once in so many conversations.
const LOOK_EVERY: u64 = 2000;
/// The first looks only tell what is normal.
const WARM_UP_LOOKS: u64 = 5;
/// Growth beyond what is normal that is no defect: bytes, descriptors, threads.
const MAX_GROWTH: [u64; 3] = [96 << 20, 64, 32];
const MEMORY: u64 = 64 << 12;

/// What a server is fuzzed with.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Its socket.
    pub socket: PathBuf,
    /// What starts it, if it is ours to start.
    pub command: Vec<String>,
    /// Where randomness starts.
    pub seed: u64,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct ServerStats {
    /// Conversations.
    pub executions: u64,
    /// Messages sent.
    pub messages: u64,
    /// Replies received.
    pub replies: u64,
    /// Of those, errors.
    pub errors: u64,
    /// DMA messages of the server.
    pub dma: u64,
    /// Connections made.
    pub connections: u64,
    /// Times that the server was started.
    pub starts: u64,
    /// Conversations that took longer than five seconds.
    pub slow: u64,
    /// Resident bytes, descriptors, threads of the server when last looked at.
    pub size: [u64; 3],
    /// The same after warming up.
    pub base: [u64; 3],
}

/// Fuzzes one server.
pub struct ServerFuzzer {
    options: ServerOptions,
    random: ChaCha8Rng,
    child: Option<Child>,
    log: Option<tempfile::NamedTempFile>,
    connection: Option<Connection>,
    pid: Option<u32>,
    sizes: Sizes,
    memory: OwnedFd,
    /// Of the present connection.
    history: VecDeque<Conversation>,
    stats: ServerStats,
    looks: u64,
    /// How long until a conversation hangs.
    patience: Duration,
}

/// The server cannot be fuzzed at all.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(String);

fn system(what: &str, error: impl std::fmt::Display) -> ServerError {
    ServerError(format!("{what}: {error}"))
}

impl ServerFuzzer {
    /// Starts the server if it is ours to start, connects, and looks at the device.
    ///
    /// # Errors
    /// If there is no server, or it does not answer plain questions.
    pub fn new(options: ServerOptions) -> Result<Self, ServerError> {
        let memory = memfd_create("understudy-fuzz", MemfdFlags::CLOEXEC)
            .map_err(|error| system("cannot make memory", error))?;
        ftruncate(&memory, MEMORY).map_err(|error| system("cannot make memory", error))?;
        let mut fuzzer = Self {
            random: ChaCha8Rng::seed_from_u64(options.seed),
            options,
            child: None,
            log: None,
            connection: None,
            pid: None,
            sizes: [0; 9],
            memory,
            history: VecDeque::new(),
            stats: ServerStats::default(),
            looks: 0,
            patience: HANG,
        };
        fuzzer.start()?;
        fuzzer.survey()?;
        Ok(fuzzer)
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.stats
    }

    /// Has a conversation. A finding, if there is a defect; the server is started anew if it can
    /// be.
    ///
    /// # Errors
    /// If the server is gone and cannot be started.
    pub fn step(&mut self) -> Result<Option<Finding>, ServerError> {
        let conversation = message::conversation(&mut self.random, &self.sizes);
        let defect = self.talk(conversation)?;
        let defect = match defect {
            None if self.stats.executions.is_multiple_of(LOOK_EVERY) => self.look(),
            other => other,
        };
        let Some(defect) = defect else { return Ok(None) };
        let finding = self.finding(defect);
        self.connection = None;
        self.start()?;
        self.base();
        Ok(Some(finding))
    }

    /// Has conversations from a file, on a new connection. The defect, if there is one.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn replay(
        &mut self,
        conversations: &[Conversation],
    ) -> Result<Option<Defect>, ServerError> {
        self.connection = None;
        self.start()?;
        for conversation in conversations {
            if let Some(defect) = self.talk(conversation.clone())? {
                return Ok(Some(defect));
            }
        }
        Ok(None)
    }

    /// Leaves out what the defect does not need, if the server can be started again and again.
    ///
    /// # Errors
    /// If the server is gone and cannot be started.
    pub fn minimise(&mut self, finding: &mut Finding) -> Result<(), ServerError> {
        let parsed: Result<Vec<Conversation>, _> = serde_json::from_value(finding.program.clone());
        let Ok(mut all) = parsed else { return Err(ServerError("not conversations".to_owned())) };
        if self.options.command.is_empty() || finding.defect.kind == DefectKind::Growth {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        // It hung for much longer.
        self.patience = PATIENCE;
        let wanted = finding.defect.clone();
        let mut holds = |some: &[Conversation]| {
            let again = Instant::now() < deadline && !some.is_empty();
            again && matches!(self.replay(some), Ok(Some(found)) if found.is_same(&wanted))
        };
        all = crate::minimise::without(&all, &mut holds);
        for index in 0..all.len() {
            let messages = all[index].messages.clone();
            let fewer = crate::minimise::without(&messages, |some| {
                let mut candidate = all.clone();
                candidate[index].messages = some.to_vec();
                holds(&candidate)
            });
            all[index].messages = fewer;
        }
        finding.program = serde_json::to_value(&all).unwrap_or_default();
        finding.bytes = finding.program.to_string().len();
        self.patience = HANG;
        self.connection = None;
        self.start()
    }

    fn finding(&self, defect: Defect) -> Finding {
        let program = serde_json::to_value(&self.history).unwrap_or_default();
        let bytes = program.to_string().len();
        let trace = self.log_tail();
        Finding {
            format: FORMAT,
            kind: "server".to_owned(),
            target: "vfio-user-server".to_owned(),
            seed: self.options.seed,
            execution: self.stats.executions,
            config: json!({ "socket": self.options.socket, "command": self.options.command }),
            defect,
            first_bytes: bytes,
            bytes,
            program,
            trace,
        }
    }

    fn log_tail(&self) -> Vec<String> {
        let text = self.log.as_ref().and_then(|log| std::fs::read(log.path()).ok());
        let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(200)..].iter().map(|line| (*line).to_owned()).collect()
    }

    /// Starts the server if it is ours and does not run, and waits until it can be reached.
    fn start(&mut self) -> Result<(), ServerError> {
        let runs = match &mut self.child {
            Some(child) => child.try_wait().is_ok_and(|status| status.is_none()),
            None => false,
        };
        if let Some((program, arguments)) = self.options.command.split_first()
            && !runs
        {
            let log = tempfile::NamedTempFile::new().map_err(|e| system("cannot write", e))?;
            let errors = log.reopen().map_err(|e| system("cannot write", e))?;
            let child = Process::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(errors)
                .spawn()
                .map_err(|error| system(&format!("cannot start {program}"), error))?;
            self.child = Some(child);
            self.log = Some(log);
            self.stats.starts += 1;
            self.looks = 0;
        }
        self.await_server()
    }

    fn await_server(&mut self) -> Result<(), ServerError> {
        let deadline = Instant::now() + HANG;
        loop {
            match self.connect() {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline || self.has_ended() => {
                    let socket = self.options.socket.display().to_string();
                    return Err(system(&format!("no server answers on {socket}"), error));
                }
                // One connection at a time: it may be cleaning up after the last.
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// The server is ours, and its process has ended.
    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|it| it.is_some()))
    }

    /// A connection that has agreed on a version.
    fn connect(&mut self) -> Result<(), ClientError> {
        let mut connection = Connection::connect(&self.options.socket)?;
        let offer = version::Offer { write_multiple: true, ..version::Offer::default() };
        let json = offer.propose();
        let version = understudy_wire::Version {
            major: version::MAJOR,
            minor: version::MINOR,
            json: Some(&json),
        };
        let mut bytes = Vec::new();
        Request::Version(version).encode(0, false, &mut bytes);
        let deadline = Instant::now() + PATIENCE;
        connection.send(&bytes, &[], deadline)?;
        connection.receive(deadline)?;
        self.pid = rustix::net::sockopt::socket_peercred(connection.as_fd())
            .ok()
            .and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
        self.connection = Some(connection);
        self.history.clear();
        self.stats.connections += 1;
        Ok(())
    }

    /// Learns how large the regions are.
    fn survey(&mut self) -> Result<(), ServerError> {
        self.connection = None;
        let deadline = Instant::now() + PATIENCE;
        let mut client = loop {
            match Client::connect(&self.options.socket, ClientOptions::default()) {
                Ok(client) => break client,
                Err(error) if Instant::now() > deadline => return Err(system("no server", error)),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        for (index, size) in (0..).zip(self.sizes.iter_mut()) {
            *size = client.region(RegionIndex(index)).map_or(0, |region| region.size);
        }
        drop(client);
        self.await_server()?;
        self.base();
        Ok(())
    }

    /// One conversation and the question after it.
    fn talk(&mut self, conversation: Conversation) -> Result<Option<Defect>, ServerError> {
        if self.history.len() >= PER_CONNECTION {
            self.connection = None;
        }
        if self.connection.is_none()
            && let Err(error) = self.await_server()
        {
            return Ok(Some(self.broken(&error.0)));
        }
        self.stats.executions += 1;
        self.history.push_back(conversation.clone());
        let Some(mut connection) = self.connection.take() else { return Ok(None) };
        match self.exchange(&mut connection, &conversation) {
            Ok(Ended::InStep) => {
                self.connection = Some(connection);
                Ok(None)
            }
            Ok(Ended::Closed) => {
                // Its right, if it was told nonsense: but it must take the next client.
                drop(connection);
                let history = std::mem::take(&mut self.history);
                let reached = self.await_server();
                let Err(error) = reached else { return Ok(None) };
                self.history = history;
                Ok(Some(self.broken(&error.0)))
            }
            Ok(Ended::Wrong(clause)) => {
                Ok(Some(Defect::new(DefectKind::Logic, clause, String::new())))
            }
            Err(error) => Ok(Some(self.broken(&error.to_string()))),
        }
    }

    /// What it means that the server does not answer.
    fn broken(&mut self, error: &str) -> Defect {
        let status = self.child.as_mut().and_then(|child| {
            // A process that is being killed by a sanitizer takes a while to end.
            for _ in 0..100 {
                if let Ok(Some(status)) = child.try_wait() {
                    return Some(status);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            None
        });
        let lives = self.pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
        if status.is_some() || !lives {
            let log = self.log_tail();
            let telling = ["SUMMARY:", "panicked at", "Assertion", "ERROR:"];
            let line = log.iter().find(|line| telling.iter().any(|word| line.contains(word)));
            let clause = line.map_or_else(
                || status.map_or("the server is gone".to_owned(), |status| status.to_string()),
                |line| without_numbers(line),
            );
            let mut defect = Defect::new(DefectKind::Crash, clause, error);
            defect.stack = sanitizer_stack(&log);
            return defect;
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        Defect::new(DefectKind::Hang, "the server does not answer", error)
    }

    /// Looks whether the server has grown.
    fn look(&mut self) -> Option<Defect> {
        self.looks += 1;
        let size = self.pid.and_then(size_of)?;
        self.stats.size = size;
        if self.looks <= WARM_UP_LOOKS {
            self.stats.base = size;
            return None;
        }
        let names = ["resident bytes", "descriptors", "threads"];
        let all = size.into_iter().zip(self.stats.base).zip(MAX_GROWTH).zip(names);
        for (((now, base), most), name) in all {
            if now > base.saturating_add(most) {
                let clause = format!("ever more {name}");
                return Some(Defect::new(DefectKind::Growth, clause, format!("{base}, now {now}")));
            }
        }
        None
    }

    fn base(&mut self) {
        self.looks = 0;
        self.stats.base = self.pid.and_then(size_of).unwrap_or_default();
        self.stats.size = self.stats.base;
    }
}

impl Drop for ServerFuzzer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Resident bytes, descriptors and threads of a process.
fn size_of(pid: u32) -> Option<[u64; 3]> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).ok();
    let fds = count("fd").map_or(0, |all| all.count() as u64);
    let threads = count("task").map_or(0, |all| all.count() as u64);
    Some([pages * 4096, fds, threads])
}

/// Functions in a sanitizer's report, innermost first, three at most.
fn sanitizer_stack(log: &[String]) -> Vec<String> {
    let frames = log.iter().filter_map(|line| {
        let (_, name) = line.trim_start().strip_prefix('#')?.split_once(" in ")?;
        let name = name.split([' ', '+']).next()?;
        let of_runtime = name.starts_with("__") || name.starts_with("std::");
        (!of_runtime).then(|| name.to_owned())
    });
    frames.take(3).collect()
}
