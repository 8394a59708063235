//! The control socket beside a device's socket. Protocol: `docs/control.md`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use understudy_catalog::Device;
use understudy_device::{State, Vocabulary};
use understudy_faults::{Faults, Mistake, text};
use understudy_server::{Control, Counters, DeviceServer};
use understudy_trace::WatchReport;

use crate::failure::Failure;
use crate::trace::Tracing;

/// Version of the protocol.
pub(crate) const PROTOCOL: u32 = 1;
/// Longest request, in bytes.
const MAX_REQUEST: u64 = 64 << 10;
/// Connections served at the same time.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection may be silent, or not read its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The control socket of a device's socket.
pub(crate) fn path_of(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".control");
    PathBuf::from(path)
}

/// One line from a client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// Given back with the answer.
    #[serde(default)]
    pub(crate) id: Value,
    /// What is asked.
    pub(crate) method: Method,
    /// What the method needs.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) params: Value,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Method {
    /// Which device this is.
    Describe,
    /// Registers, queues and counters.
    Inspect,
    /// Adds faults.
    FaultsInject,
    /// The faults there are, and what they did.
    FaultsList,
    /// Ends faults.
    FaultsClear,
    /// What the monitors have seen.
    Watch,
}

/// One line to a client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The request's.
    pub(crate) id: Value,
    /// Either this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Value>,
    /// Or this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// Answer to `describe`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) protocol: u32,
    pub(crate) device: String,
    pub(crate) pci_id: String,
    pub(crate) socket: PathBuf,
    pub(crate) attached: bool,
}

/// Answer to `inspect`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inspection {
    #[serde(flatten)]
    pub(crate) description: Description,
    /// The device's.
    pub(crate) state: State,
    /// The server's, by name.
    pub(crate) server: serde_json::Map<String, Value>,
}

/// A device's control socket, served by threads of its own until it is dropped.
pub(crate) struct ControlSocket {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ControlSocket {
    /// Listens beside a device's socket. The device's own socket has shown that no other server is
    /// alive there, so what lies in the way was left behind.
    pub(crate) fn bind(
        server: &DeviceServer,
        device: &Device,
        pci_id: &str,
        tracing: Option<Arc<Tracing>>,
    ) -> Result<Self, Failure> {
        let path = path_of(server.path());
        let failure = |what: &'static str| {
            let path = path.clone();
            move |error: io::Error| Failure::environment(what, path.display(), error)
        };
        if UnixStream::connect(&path).is_ok() {
            let what = "another server is alive on this control socket";
            return Err(Failure::environment(what, path.display(), "choose another path"));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failure("cannot remove the old control socket")(error));
            }
            _ => {}
        }
        let listener =
            UnixListener::bind(&path).map_err(failure("cannot listen on the control socket"))?;
        let answers = Arc::new(Answers {
            description: Description {
                protocol: PROTOCOL,
                device: device.name.to_owned(),
                pci_id: pci_id.to_owned(),
                socket: server.path().to_owned(),
                attached: false,
            },
            control: server.control().clone(),
            vocabulary: device.vocabulary,
            tracing,
            connections: AtomicUsize::new(0),
        });
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&listener, &answers, &stop))
            .map_err(failure("cannot start a thread for the control socket"))?;
        Ok(Self { path, stopping, thread: Some(thread) })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread, which then sees that it is to stop.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the control socket");
        }
        if let Some(thread) = self.thread.take().filter(|_| woken)
            && thread.join().is_err()
        {
            tracing::error!("the control socket's thread panicked");
        }
    }
}

fn accept(listener: &UnixListener, answers: &Arc<Answers>, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if answers.connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            answers.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let of_thread = Arc::clone(answers);
        let spawned = std::thread::Builder::new().name("control client".into()).spawn(move || {
            if let Err(error) = of_thread.serve(stream) {
                tracing::debug!(%error, "control connection");
            }
            of_thread.connections.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            answers.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What answering needs.
struct Answers {
    description: Description,
    control: Control,
    vocabulary: &'static Vocabulary,
    tracing: Option<Arc<Tracing>>,
    connections: AtomicUsize,
}

impl Answers {
    fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = Vec::new();
            let len = (&mut reader).take(MAX_REQUEST).read_until(b'\n', &mut line)?;
            if len == 0 {
                return Ok(());
            }
            let whole = line.last() == Some(&b'\n');
            let answer = if whole || (len as u64) < MAX_REQUEST {
                self.answer(&line)
            } else {
                error(Value::Null, "a request has at most 65536 bytes")
            };
            let mut text = serde_json::to_vec(&answer)?;
            text.push(b'\n');
            stream.write_all(&text)?;
            if !whole {
                return Ok(());
            }
        }
    }

    fn answer(&self, line: &[u8]) -> Answer {
        let request: Request = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(problem) => return error(Value::Null, &format!("not a request: {problem}")),
        };
        let result = match request.method {
            Method::Describe => self.describe().and_then(to_value),
            Method::Inspect => self.inspect().and_then(to_value),
            Method::FaultsInject => self.inject(request.params),
            Method::FaultsList => self.faults(),
            Method::FaultsClear => self.clear(request.params),
            Method::Watch => self.watch().and_then(to_value),
        };
        match result {
            Ok(result) => Answer { id: request.id, result: Some(result), error: None },
            Err(problem) => error(request.id, &problem),
        }
    }

    fn inject(&self, params: Value) -> Result<Value, String> {
        let Value::Object(mut params) = params else {
            return Err("params: expected {\"plan\": ...}".to_owned());
        };
        let plan = params.remove("plan").unwrap_or_default();
        let plan = text::plan_of(plan).map_err(|mistakes| lines(&mistakes))?;
        let vocabulary = self.vocabulary;
        let inject = move |device: &mut understudy_server::Device<'_>| {
            Faults::inject_into(device.function, &plan, vocabulary)
        };
        let ids = self.control.call(inject).map_err(|e| e.to_string())?;
        ids.map(|ids| json!({ "ids": ids })).map_err(|mistakes| lines(&mistakes))
    }

    fn faults(&self) -> Result<Value, String> {
        let look = |device: &mut understudy_server::Device<'_>| {
            let Some(faults) = device.function.interposer::<Faults>() else {
                return json!({ "faults": [], "log": [] });
            };
            json!({ "faults": faults.list(), "log": faults.log().collect::<Vec<_>>() })
        };
        self.control.call(look).map_err(|e| e.to_string())
    }

    fn clear(&self, params: Value) -> Result<Value, String> {
        let id = match params.get("id") {
            None | Some(Value::Null) => None,
            Some(id) => {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                Some(id.ok_or("params: id is no number of a fault")?)
            }
        };
        let clear = move |device: &mut understudy_server::Device<'_>| {
            let Some(faults) = device.function.interposer::<Faults>() else { return 0 };
            let cleared = faults.clear(id);
            // Without faults, nothing stands between.
            if faults.is_idle() {
                device.function.interpose(None);
            }
            cleared
        };
        match (self.control.call(clear).map_err(|e| e.to_string())?, id) {
            (0, Some(id)) => Err(format!("there is no fault {id}")),
            (cleared, _) => Ok(json!({ "cleared": cleared })),
        }
    }

    fn watch(&self) -> Result<WatchReport, String> {
        let report = self.tracing.as_ref().and_then(|tracing| tracing.report());
        report.ok_or_else(|| "the driver is not watched: serve with --monitor".to_owned())
    }

    fn describe(&self) -> Result<Description, String> {
        let attached = self.control.call(|device| device.attached).map_err(|e| e.to_string())?;
        Ok(Description { attached, ..self.description.clone() })
    }

    fn inspect(&self) -> Result<Inspection, String> {
        let look = |device: &mut understudy_server::Device<'_>| {
            (device.attached, device.function.inspect(), device.counters)
        };
        let (attached, state, counters): (bool, State, Counters) =
            self.control.call(look).map_err(|e| e.to_string())?;
        let description = Description { attached, ..self.description.clone() };
        let server = match to_value(counters)? {
            Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        Ok(Inspection { description, state, server })
    }
}

fn to_value(value: impl Serialize) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

fn error(id: Value, text: &str) -> Answer {
    Answer { id, result: None, error: Some(text.to_owned()) }
}

/// Mistakes of a plan in an answer, which is one line.
fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Asks a control socket one thing.
pub(crate) fn ask(path: &Path, method: Method) -> Result<Value, Failure> {
    ask_with(path, method, Value::Null)
}

/// Asks a control socket one thing that needs to be told more.
pub(crate) fn ask_with(path: &Path, method: Method, params: Value) -> Result<Value, Failure> {
    let gone = |error: io::Error| {
        let what = "no server answers on the control socket";
        Failure::environment(
            what,
            path.display(),
            format!("start one with understudy serve ({error})"),
        )
    };
    let mut stream = UnixStream::connect(path).map_err(gone)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(gone)?;
    let mut request = serde_json::to_vec(&Request { id: Value::from(1), method, params })
        .map_err(|error| Failure::environment("cannot ask", path.display(), error))?;
    request.push(b'\n');
    stream.write_all(&request).map_err(gone)?;
    let mut line = String::new();
    // A state is some kilobytes for each queue; a peer that is no device must not fill memory.
    BufReader::new(stream).take(64 << 20).read_line(&mut line).map_err(gone)?;
    let answer: Answer = serde_json::from_str(&line).map_err(|error| {
        Failure::environment("this is no control socket", path.display(), error)
    })?;
    match (answer.result, answer.error) {
        (Some(result), None) => Ok(result),
        (_, error) => {
            let reason = error.unwrap_or_else(|| "an answer with a result".to_owned());
            Err(Failure::environment("the server refused", path.display(), reason))
        }
    }
}
