//! A device's server as other threads hold it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, stat, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use serde::Serialize;
use understudy_device::State;
use understudy_pci::Host;
use understudy_trace::TracedFunction;

use crate::Options;
use crate::event_loop::{EventLoop, Shared};
use crate::link::Counters;
use crate::session::Session;
use crate::wake::Wake;

/// Clients that may wait to be accepted, or to be turned away.
const BACKLOG: i32 = 8;

/// Why a device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another server listens there.
    #[error("{path}: another server listens on this socket")]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something that is not a socket is there.
    #[error("{path}: exists and is not a socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path is longer than a socket address can hold (107 bytes).
    #[error("{path}: too long for a socket path (at most 107 bytes)")]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("{path}: cannot {action}")]
    System {
        /// The socket's path.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// The device's thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device's server has stopped")]
pub struct Stopped;

/// Clients that a device has had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sessions {
    /// Clients that attached so far.
    pub started: u64,
    /// Clients that are gone, and cleaned up after.
    pub ended: u64,
    /// Whether the device's thread has ended.
    pub stopped: bool,
}

impl Sessions {
    /// Whether a client is attached just now.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.started > self.ended
    }
}

/// Sessions, to be waited for.
#[derive(Debug, Default)]
pub(crate) struct Status {
    sessions: Mutex<Sessions>,
    changed: Condvar,
}

impl Status {
    pub(crate) fn attached(&self) {
        self.change(|sessions| sessions.started += 1);
    }

    pub(crate) fn detached(&self) {
        self.change(|sessions| sessions.ended += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Sessions)) {
        change(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn get(&self) -> Sessions {
        *self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&Sessions) -> bool) -> bool {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |sessions: &mut Sessions| !done(sessions) && !sessions.stopped;
        let (sessions, _) = self
            .changed
            .wait_timeout_while(sessions, timeout, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        done(&sessions)
    }
}

/// A device on its own thread, between two turns of its loop.
pub struct Device<'a> {
    /// The function.
    pub function: &'a mut TracedFunction,
    /// What the function reaches of its client. DMA fails while none is attached.
    pub host: &'a mut dyn Host,
    /// What the sessions have done.
    pub counters: Counters,
    /// Whether a client is attached.
    pub attached: bool,
}

pub(crate) type Request = Box<dyn FnOnce(&mut Device<'_>) + Send>;

/// Runs closures on a device's thread. Clones reach the same device.
#[derive(Clone)]
pub struct Control {
    requests: Sender<Request>,
    shared: Arc<Shared>,
}

impl Control {
    /// Runs `work` on the device's thread and returns its result. Waits at most for the current
    /// turn of its loop, in which the device may be waiting for a client's answer to DMA
    /// ([`Options::dma_timeout`]). Must not be called from within `work`.
    ///
    /// # Errors
    /// [`Stopped`] if the thread has ended, or ends first.
    pub fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Device<'_>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (result, done) = mpsc::sync_channel(1);
        let request: Request = Box::new(move |device| {
            // The caller waits for it, unless its thread was ended.
            let _ = result.send(work(device));
        });
        self.requests.send(request).map_err(|_| Stopped)?;
        self.shared.control.wake();
        done.recv().map_err(|_| Stopped)
    }
}

/// A device being served on a socket, by a thread of its own. Dropping it stops the thread and
/// removes the socket.
pub struct DeviceServer {
    path: PathBuf,
    /// Device and inode of the socket, so that another's is not removed.
    identity: (u64, u64),
    control: Control,
    thread: Option<JoinHandle<()>>,
}

impl DeviceServer {
    /// Listens on a socket at `path` and serves `function` there. A socket that a dead server left
    /// behind is replaced. Who may connect is decided by the directory's permissions and the umask.
    ///
    /// # Errors
    /// [`BindError`] if the path is taken or unusable, or descriptors or threads are exhausted.
    pub fn bind(
        path: impl AsRef<Path>,
        function: impl Into<TracedFunction>,
        options: Options,
    ) -> Result<Self, BindError> {
        let path = path.as_ref();
        let function = function.into();
        let options = options.clamped();
        let listener = listen_at(path)?;
        let system = |action| {
            move |source: io::Error| BindError::System { path: path.into(), action, source }
        };
        let errno = |action| move |errno: Errno| system(action)(errno.into());
        let identity = stat(path).map_err(errno("look at the socket"))?;
        let identity = (identity.st_dev, identity.st_ino);
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            stop: Arc::new(Wake::new().map_err(errno("make an eventfd"))?),
            control: Wake::new().map_err(errno("make an eventfd"))?,
            status: Status::default(),
        });
        let (requests, received) = mpsc::channel();
        let name: String = function.identity().name.chars().take(15).collect();
        let session = Session::new(function, &options).map_err(errno("prepare the device"))?;
        let mut event_loop =
            EventLoop::new(session, options, listener, received, Arc::clone(&shared))
                .map_err(errno("prepare the event loop"))?;
        let at_end = AtEnd(Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || {
                let _at_end = at_end;
                event_loop.run();
            })
            .map_err(system("start a thread"))?;
        let control = Control { requests, shared };
        Ok(Self { path: path.into(), identity, control, thread: Some(thread) })
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A way to run closures on the device's thread.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The function's registers, queues and counters.
    ///
    /// # Errors
    /// [`Stopped`] if the device's thread has ended.
    pub fn inspect(&self) -> Result<State, Stopped> {
        self.control.call(|device| device.function.inspect())
    }

    /// What the device's sessions have done.
    ///
    /// # Errors
    /// [`Stopped`] if the device's thread has ended.
    pub fn counters(&self) -> Result<Counters, Stopped> {
        self.control.call(|device| device.counters)
    }

    /// Clients that came and went.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        self.control.shared.status.get()
    }

    /// Waits until `count` clients have attached since the server started. `false` if they did not
    /// in this time.
    #[must_use]
    pub fn wait_attached(&self, count: u64, timeout: Duration) -> bool {
        self.control.shared.status.wait(timeout, |sessions| sessions.started >= count)
    }

    /// Waits until `count` clients have come and gone since the server started, and have been
    /// cleaned up after. `false` if they have not in this time.
    #[must_use]
    pub fn wait_detached(&self, count: u64, timeout: Duration) -> bool {
        self.control.shared.status.wait(timeout, |sessions| sessions.ended >= count)
    }

    /// Stops serving: disconnects the client, if any, and ends the thread.
    ///
    /// # Errors
    /// [`Stopped`] if the thread had already ended on its own, which it does only by a panic.
    pub fn stop(mut self) -> Result<(), Stopped> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Stopped> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let shared = &self.control.shared;
        shared.stopping.store(true, Ordering::Relaxed);
        shared.stop.wake();
        let ended = thread.join().map_err(|_| Stopped);
        if stat(&self.path).is_ok_and(|now| (now.st_dev, now.st_ino) == self.identity)
            && let Err(errno) = unlink(&self.path)
        {
            tracing::warn!(%errno, path = %self.path.display(), "cannot remove the socket");
        }
        ended
    }
}

impl Drop for DeviceServer {
    fn drop(&mut self) {
        if self.end().is_err() {
            tracing::error!(path = %self.path.display(), "the device's thread panicked");
        }
    }
}

/// Tells those who wait that the thread has ended, however it did.
struct AtEnd(Arc<Shared>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.status.change(|sessions| sessions.stopped = true);
    }
}

fn listen_at(path: &Path) -> Result<OwnedFd, BindError> {
    let path_buf = || path.to_path_buf();
    let address = SocketAddrUnix::new(path).map_err(|_| BindError::TooLong { path: path_buf() })?;
    let system = |action| {
        move |errno: Errno| BindError::System { path: path_buf(), action, source: errno.into() }
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = || {
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(system("make a socket"))
    };
    if let Ok(stat) = stat(path) {
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return Err(BindError::NotASocket { path: path_buf() });
        }
        // Only a socket that nobody listens on refuses.
        if connect(&socket()?, &address) != Err(Errno::CONNREFUSED) {
            return Err(BindError::InUse { path: path_buf() });
        }
        unlink(path).map_err(system("remove the socket that a dead server left"))?;
    }
    let listener = socket()?;
    bind(&listener, &address).map_err(|errno| match errno {
        Errno::ADDRINUSE => BindError::InUse { path: path_buf() },
        errno => system("bind")(errno),
    })?;
    listen(&listener, BACKLOG).map_err(system("listen"))?;
    Ok(listener)
}
