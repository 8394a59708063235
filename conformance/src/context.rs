//! What a check is given.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::peer::Peer;
use crate::session::Session;
use crate::{Profile, Stop};

/// A device's socket, its profile, and the time a check has.
///
/// A check attaches for itself: no connection is open when it starts, and the device is at
/// power-on, as a server leaves it when a client has gone.
#[derive(Debug)]
pub struct Context<'a> {
    socket: &'a Path,
    pub(crate) profile: &'a Profile,
    deadline: Instant,
    seed: u64,
    restarts: bool,
}

/// How often a client attaches to a server that may be about to end.
const ATTEMPTS: u32 = 20;

impl<'a> Context<'a> {
    /// For a check that starts now and may take `limit`.
    #[must_use]
    pub fn new(socket: &'a Path, profile: &'a Profile, limit: Duration) -> Self {
        Self { socket, profile, deadline: Instant::now() + limit, seed: 1, restarts: false }
    }

    /// With another start for random contents.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// For a server that may end with its client, and is then started again.
    #[must_use]
    pub(crate) fn of_server_that_restarts(self, restarts: bool) -> Self {
        Self { restarts, ..self }
    }

    /// Where random contents start.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Where the device's server listens.
    pub(crate) fn socket(&self) -> &Path {
        self.socket
    }

    /// When the check's time is over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Time left to the check.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A connection on which nothing has been sent.
    pub(crate) fn connect(&self) -> Result<Peer, Stop> {
        Peer::connect(self.socket, self.deadline)
    }

    /// A client with a negotiated version.
    pub(crate) fn attach(&self) -> Result<Session, Stop> {
        let attach = || Session::start(self.connect()?, self.deadline);
        let mut result = attach();
        // A server that is ending may still have taken the connection.
        for _ in 0..if self.restarts { ATTEMPTS } else { 0 } {
            if !result.as_ref().is_err_and(Stop::is_closed) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            result = attach();
        }
        result.map_err(|stop| stop.during("attaching"))
    }

    /// Fails the check unless a new client can attach and use the device.
    pub(crate) fn next_client_works(&self) -> Result<(), Stop> {
        let try_it = || self.attach()?.in_step();
        try_it().map_err(|stop| stop.during("the next client attaches"))
    }
}
