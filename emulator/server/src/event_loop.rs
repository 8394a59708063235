//! One device's thread: socket, jobs, timers and requests of other threads.
//!
//! A turn serves what has arrived, then lets the device work a little, so that neither a client
//! that never stops sending nor a ring that never runs dry starves the other. Replies go out before
//! the device works. After anything happened, the loop turns on for a while without sleeping: most
//! often the next doorbell or completion is microseconds away, and waking up costs more than that.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags, add, delete, modify};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::thread::sched_yield;
use understudy_device::Progress;
use understudy_pci::Host;
use understudy_wire::Limits;

use crate::Options;
use crate::server::{Device, Request, Status};
use crate::session::Session;
use crate::transport::{Channel, Closed, Connection, timespec};
use crate::wake::Wake;

/// Messages served in one turn, if none of them is a write.
const BATCH: usize = 32;
/// Turns without sleep after which new clients are looked at all the same.
const TURNS_UNTIL_LOOK: u32 = 256;
/// How long the listener rests when accepting fails, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What woke the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Listener = 0,
    Client = 1,
    Jobs = 2,
    Control = 3,
    Stop = 4,
    LineControl = 5,
}

/// What the thread shares with its handle.
pub(crate) struct Shared {
    pub(crate) stopping: AtomicBool,
    pub(crate) stop: Arc<Wake>,
    pub(crate) control: Wake,
    pub(crate) status: Status,
}

/// How long to stay awake: all of [`Options::spin`] while that catches what comes next, less and
/// less while it does not, so that a client that takes its time does not cost a processor.
#[derive(Debug)]
struct Patience {
    most: Duration,
    now: Duration,
}

impl Patience {
    fn get(&self) -> Duration {
        self.now
    }

    /// Staying awake did not help; a sleep of this length followed.
    fn slept(&mut self, slept: Duration) {
        let would_have_helped = slept < self.most;
        self.now = if would_have_helped { self.most } else { self.now / 2 };
    }
}

pub(crate) struct EventLoop {
    session: Session<Connection>,
    options: Options,
    epoll: OwnedFd,
    listener: OwnedFd,
    requests: Receiver<Request>,
    shared: Arc<Shared>,
    /// What the client's socket is watched for.
    interest: EventFlags,
    /// Until when the listener is left alone.
    accept_after: Option<Instant>,
    patience: Patience,
    awake_until: Instant,
}

impl EventLoop {
    pub(crate) fn new(
        session: Session<Connection>,
        options: Options,
        listener: OwnedFd,
        requests: Receiver<Request>,
        shared: Arc<Shared>,
    ) -> rustix::io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        watch(&epoll, &listener, Source::Listener)?;
        watch(&epoll, session.link.jobs.wake_fd(), Source::Jobs)?;
        watch(&epoll, &session.link.interrupts.line, Source::LineControl)?;
        watch(&epoll, &shared.control, Source::Control)?;
        watch(&epoll, &*shared.stop, Source::Stop)?;
        Ok(Self {
            session,
            options,
            epoll,
            listener,
            requests,
            shared,
            interest: EventFlags::empty(),
            accept_after: None,
            patience: Patience { most: options.spin, now: options.spin },
            awake_until: Instant::now(),
        })
    }

    /// Serves until told to stop.
    pub(crate) fn run(&mut self) {
        let mut turns = 0u32;
        while !self.shared.stopping.load(Ordering::Relaxed) {
            let (active, progress) = self.turn();
            let now = Instant::now();
            if active {
                self.awake_until = now + self.patience.get();
            }
            turns = turns.wrapping_add(1);
            let busy = progress == Progress::More || self.session.can_serve();
            if busy || now < self.awake_until {
                if turns.is_multiple_of(TURNS_UNTIL_LOOK) {
                    self.sleep(Progress::More);
                }
                if !busy {
                    // The client may be waiting for this processor.
                    sched_yield();
                }
                continue;
            }
            let progress = self.park(progress);
            self.sleep(progress);
            self.patience.slept(now.elapsed());
        }
        self.detach();
    }

    /// Serves and works a little. Returns whether anything happened, and what is left to do.
    fn turn(&mut self) -> (bool, Progress) {
        let mut active = self.serve_requests();
        active |= self.session.finish_jobs();
        active |= self.serve_client();
        if !self.session.is_attached() {
            return (active, Progress::Idle);
        }
        let progress = self.session.poll(self.options.budget);
        (active, progress)
    }

    /// Runs what other threads asked for.
    fn serve_requests(&mut self) -> bool {
        let mut any = false;
        while let Ok(request) = self.requests.try_recv() {
            let counters = self.session.link.counters();
            let attached = self.session.is_attached();
            let Session { function, link, .. } = &mut self.session;
            request(&mut Device { function, host: link, counters, attached });
            any = true;
        }
        any
    }

    fn serve_client(&mut self) -> bool {
        if !self.session.is_attached() {
            return false;
        }
        match self.session.serve(BATCH) {
            Ok(served) if self.watch_client().is_ok() => served > 0,
            _ => {
                self.detach();
                true
            }
        }
    }

    /// Watches the client's socket for room while it is congested, and for messages otherwise.
    fn watch_client(&mut self) -> Result<(), Closed> {
        let Some(connection) = self.session.link.channel.as_mut() else { return Err(Closed) };
        if let Some(since) = connection.congested_since()
            && since.elapsed() > self.options.send_timeout
        {
            if let Some(suppressed) = self.session.link.log.admit() {
                tracing::warn!(suppressed, "client does not read its replies: disconnecting it");
            }
            return Err(Closed);
        }
        let interest = if connection.is_congested() { EventFlags::OUT } else { EventFlags::IN };
        if interest != self.interest {
            let data = EventData::new_u64(Source::Client as u64);
            modify(&self.epoll, connection.as_fd(), data, interest).map_err(|_| Closed)?;
            self.interest = interest;
        }
        Ok(())
    }

    /// The device is told that it will not be polled, unless it has something to do.
    fn park(&mut self, progress: Progress) -> Progress {
        if !self.session.is_attached() {
            return Progress::Idle;
        }
        let progress = progress.sooner(self.session.park());
        // What arrived while the device read memory by messages is no longer in the socket.
        if self.session.can_serve() { Progress::More } else { progress }
    }

    /// Sleeps until something happens, or not at all if there is more to do.
    fn sleep(&mut self, progress: Progress) {
        let timeout = self.timeout(progress);
        let mut events = [MaybeUninit::<Event>::uninit(); 8];
        let ready = match epoll::wait(&self.epoll, &mut events[..], timeout.map(timespec).as_ref())
        {
            Ok((ready, _)) => ready,
            // Interrupted by a signal: the next turn looks around.
            Err(_) => return,
        };
        for event in ready.iter() {
            self.handle(event.data.u64());
        }
        self.resume_accepting();
    }

    /// How long to sleep at most.
    fn timeout(&self, progress: Progress) -> Option<Duration> {
        let now = Instant::now();
        let work = match progress {
            Progress::More => Some(Duration::ZERO),
            Progress::Idle => None,
            Progress::Until(instant) => {
                let left = instant.0.saturating_sub(self.session.link.now().0);
                Some(Duration::from_nanos(left))
            }
        };
        let congested = self
            .session
            .link
            .channel
            .as_ref()
            .and_then(Connection::congested_since)
            .map(|since| (since + self.options.send_timeout).saturating_duration_since(now));
        let accept = self.accept_after.map(|after| after.saturating_duration_since(now));
        [work, congested, accept].into_iter().flatten().min()
    }

    fn handle(&mut self, source: u64) {
        const LISTENER: u64 = Source::Listener as u64;
        const CLIENT: u64 = Source::Client as u64;
        const JOBS: u64 = Source::Jobs as u64;
        const CONTROL: u64 = Source::Control as u64;
        const LINE_CONTROL: u64 = Source::LineControl as u64;
        match source {
            LISTENER => self.accept(),
            CLIENT => {
                let channel = self.session.link.channel.as_mut();
                if channel.is_some_and(|connection| connection.flush().is_err()) {
                    self.detach();
                }
            }
            JOBS => self.session.link.jobs.rearm(),
            CONTROL => self.shared.control.clear(),
            LINE_CONTROL => self.session.serve_line_controls(),
            // Source::Stop: the loop ends.
            _ => {}
        }
    }

    /// Takes a client, or turns it away: it sees its connection close.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            Err(errno) => return self.pause_accepting(errno),
        };
        // The one that is attached may be gone without the loop having seen it yet.
        if self.session.link.channel.as_ref().is_some_and(Connection::is_hung_up) {
            self.detach();
        }
        if self.session.is_attached() {
            self.session.link.counters.refused_clients += 1;
            if let Some(suppressed) = self.session.link.log.admit() {
                tracing::warn!(suppressed, "a second client was turned away");
            }
            return;
        }
        let data = EventData::new_u64(Source::Client as u64);
        if let Err(errno) = add(&self.epoll, &socket, data, EventFlags::IN) {
            tracing::error!(%errno, "cannot watch a client");
            return;
        }
        self.interest = EventFlags::IN;
        let limits = Limits { max_data_xfer_size: self.options.max_data_xfer_size };
        let stop = Arc::clone(&self.shared.stop);
        self.session.attach(Connection::new(socket, &limits, stop));
        self.shared.status.attached();
        if let Some(suppressed) = self.session.link.log.admit() {
            tracing::info!(suppressed, "client attached");
        }
    }

    fn pause_accepting(&mut self, errno: Errno) {
        tracing::error!(%errno, "cannot accept a client");
        if delete(&self.epoll, &self.listener).is_ok() {
            self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
        }
    }

    fn resume_accepting(&mut self) {
        if self.accept_after.is_some_and(|after| Instant::now() >= after)
            && watch(&self.epoll, &self.listener, Source::Listener).is_ok()
        {
            self.accept_after = None;
        }
    }

    /// The client is gone, or is sent away.
    fn detach(&mut self) {
        // Closing the descriptors also ends their being watched.
        if self.session.is_attached() {
            self.session.detach();
            self.shared.status.detached();
            if let Some(suppressed) = self.session.link.log.admit() {
                tracing::info!(suppressed, "client detached");
            }
        }
    }
}

fn watch(epoll: &OwnedFd, fd: impl AsFd, source: Source) -> rustix::io::Result<()> {
    add(epoll, fd, EventData::new_u64(source as u64), EventFlags::IN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_the_client() {
        let most = Duration::from_micros(50);
        let mut patience = Patience { most, now: most };
        for _ in 0..64 {
            patience.slept(Duration::from_millis(1));
        }
        assert_eq!(
            patience.get(),
            Duration::ZERO,
            "a client that takes its time costs a processor"
        );
        patience.slept(Duration::from_micros(10));
        assert_eq!(patience.get(), most);
    }

    #[test]
    fn without_spin_there_is_no_patience() {
        let mut patience = Patience { most: Duration::ZERO, now: Duration::ZERO };
        patience.slept(Duration::ZERO);
        assert_eq!(patience.get(), Duration::ZERO);
    }
}
