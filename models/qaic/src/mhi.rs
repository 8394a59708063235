//! Channels: commands, transfers in both directions, and the events that tell of them.

use std::collections::VecDeque;

use understudy_device::{Bus, InterruptMode, Progress, QueueState, Vector};
use understudy_ring::{Next, Pump};

use crate::layout::{Element, channel_state, code, kind, transfer};
use crate::rings::{Event, Events, Place, RingError, Taken, Transfers};

/// Channels of the device, in pairs: to the device, from the device.
pub(crate) const CHANNELS: u8 = 24;
/// Index of channel 0 as a queue; before it are those of the DMA bridge.
pub(crate) const FIRST_QUEUE: u16 = crate::registers::CHANNELS;
/// Index of the command ring as a queue.
const COMMAND_QUEUE: u16 = FIRST_QUEUE + CHANNELS as u16;
/// Bytes of a context.
const CONTEXT_LEN: u64 = 44;
/// Most bytes of a message from the host: what Sahara transfers at once.
const MESSAGE_MAX: usize = 0x8_0000;
/// Most elements of a message.
const ELEMENTS_MAX: usize = 1024;
/// Most messages that wait for the host's buffers.
const OUTGOING_MAX: usize = 256;

/// Names of the channels, by pair (`aic100_channels`).
const NAMES: [&str; 12] = [
    "loopback",
    "sahara",
    "diag",
    "ssr",
    "qdss",
    "control",
    "logging",
    "status",
    "telemetry",
    "debug",
    "timesync",
    "timesync_periodic",
];

/// Channels of the second boot loader; all others are the runtime firmware's.
pub(crate) fn is_boot_channel(channel: u8) -> bool {
    matches!(channel, 2 | 3 | 12 | 13 | 20 | 21)
}

/// A message from the host.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) channel: u8,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Channel {
    pump: Option<Pump<Transfers>>,
    stopped: bool,
    /// An element made no sense.
    failed: bool,
    events: u32,
    /// Of a message from the host, what is there already.
    gathered: Vec<u8>,
    elements: usize,
    /// Messages to the host, and how many bytes of the first are delivered.
    outgoing: VecDeque<Vec<u8>>,
    delivered: usize,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) commands: u64,
    pub(crate) command_errors: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) bad_elements: u64,
    pub(crate) overflows: u64,
    pub(crate) bad_doorbells: u64,
    pub(crate) dropped: u64,
    pub(crate) events: u64,
}

/// Rings and channels, as far as the host has set them up.
#[derive(Debug)]
pub(crate) struct Mhi {
    channels: Vec<Channel>,
    commands: Option<Pump<Transfers>>,
    events: Vec<Events>,
    contexts: u64,
    pub(crate) tally: Tally,
    /// Rings cannot be used any more.
    pub(crate) broken: bool,
}

impl Default for Mhi {
    fn default() -> Self {
        let channels = (0..CHANNELS).map(|_| Channel::default()).collect();
        Self {
            channels,
            commands: None,
            events: Vec::new(),
            contexts: 0,
            tally: Tally::default(),
            broken: false,
        }
    }
}

impl Mhi {
    /// Forgets all rings. What was counted stays.
    pub(crate) fn reset(&mut self) {
        *self = Self { tally: self.tally, ..Self::default() };
    }

    /// Takes the event and command rings over from their contexts.
    pub(crate) fn start(
        &mut self,
        bus: &mut dyn Bus,
        event_contexts: u64,
        event_rings: u8,
        command_context: u64,
        channel_contexts: u64,
    ) -> Result<(), RingError> {
        self.contexts = channel_contexts;
        self.events.clear();
        for ring in 0..u64::from(event_rings) {
            let at = event_contexts.checked_add(ring * CONTEXT_LEN).ok_or(RingError::Context)?;
            self.events.push(Events::new(Place::read(bus, at)?));
        }
        if self.events.is_empty() {
            return Err(RingError::Context);
        }
        let place = Place::read(bus, command_context)?;
        self.commands = Some(Pump::new(COMMAND_QUEUE, Transfers::new(place)));
        Ok(())
    }

    /// The host rings the doorbell of an event ring.
    pub(crate) fn ring_events(&mut self, ring: u16, address: u64) {
        // Rung before M0, there is no ring yet; its context says the same.
        if let Some(events) = self.events.get_mut(usize::from(ring))
            && !events.place.ring(address)
        {
            self.tally.bad_doorbells += 1;
        }
    }

    /// The host rings the doorbell of the command ring.
    pub(crate) fn ring_commands(&mut self, address: u64) {
        let rung = self.commands.as_mut().is_some_and(|it| it.ring_mut().place.ring(address));
        self.tally.bad_doorbells += u64::from(!rung);
    }

    /// The host rings the doorbell of a channel.
    pub(crate) fn ring_channel(&mut self, channel: u16, address: u64) {
        let pump = self.channels.get_mut(usize::from(channel)).and_then(|it| it.pump.as_mut());
        let rung = pump.is_some_and(|it| it.ring_mut().place.ring(address));
        self.tally.bad_doorbells += u64::from(!rung);
    }

    /// An event of the device itself.
    pub(crate) fn notify(&mut self, kind: u8, code: u8) {
        self.emit(0, Event::new(Element::event(kind, code, 0, 0, 0), true));
    }

    fn emit(&mut self, ring: u32, event: Event) {
        self.tally.events += 1;
        let ring = usize::try_from(ring).ok().filter(|ring| *ring < self.events.len());
        match self.events.get_mut(ring.unwrap_or(0)) {
            Some(events) => events.push(event),
            None => self.tally.dropped += 1,
        }
    }

    fn is_crowded(&self) -> bool {
        self.events.iter().any(Events::is_crowded)
    }

    /// Writes events and interrupts.
    pub(crate) fn flush(&mut self, bus: &mut dyn Bus) {
        for channel in 0..self.channels.len() {
            self.collect(channel);
        }
        for index in 0..self.events.len() {
            if self.events[index].flush(bus) {
                raise(bus, self.events[index].vector());
            }
            self.broken |= self.events[index].broken;
        }
    }

    fn collect(&mut self, channel: usize) {
        let Some(it) = self.channels.get_mut(channel) else { return };
        let ring = it.events;
        let Some(pump) = &mut it.pump else { return };
        let events = std::mem::take(&mut pump.ring_mut().events);
        for event in events {
            self.emit(ring, event);
        }
    }

    /// Whether a channel is served.
    pub(crate) fn is_running(&self, channel: u8) -> bool {
        let it = self.channels.get(usize::from(channel));
        it.is_some_and(|it| it.pump.is_some() && !it.stopped && !it.failed)
    }

    /// Forgets messages of channels whose other side is gone.
    pub(crate) fn silence(&mut self, which: impl Fn(u8) -> bool) {
        for (channel, it) in (0..).zip(&mut self.channels) {
            if which(channel) {
                it.outgoing.clear();
                it.delivered = 0;
                it.gathered.clear();
                it.elements = 0;
            }
        }
    }

    /// Sends a message on a channel from the device.
    pub(crate) fn send(&mut self, channel: u8, bytes: Vec<u8>) {
        match self.channels.get_mut(usize::from(channel)) {
            Some(it) if it.outgoing.len() < OUTGOING_MAX => it.outgoing.push_back(bytes),
            _ => self.tally.dropped += 1,
        }
    }

    /// Whether everything that was sent on a channel has reached the host.
    pub(crate) fn is_delivered(&self, channel: u8) -> bool {
        self.channels.get(usize::from(channel)).is_none_or(|it| it.outgoing.is_empty())
    }

    /// Executes commands. Channels may be started if `allowed` says so. Returns those that were.
    pub(crate) fn serve_commands(
        &mut self,
        bus: &mut dyn Bus,
        budget: &mut u32,
        allowed: impl Fn(u8) -> bool,
    ) -> (Vec<u8>, Progress) {
        let mut started = Vec::new();
        let mut progress = Progress::Idle;
        while *budget > 0 && !self.is_crowded() {
            let Some(pump) = &mut self.commands else { break };
            match pump.next(bus) {
                Ok(Next::Entry(taken)) => {
                    *budget -= 1;
                    self.tally.commands += 1;
                    let result = self.command(bus, &taken.element(), &allowed);
                    if let Some(channel) = result.ok().flatten() {
                        started.push(channel);
                    }
                    self.tally.command_errors += u64::from(result.is_err());
                    let code = if result.is_ok() { code::SUCCESS } else { code::UNDEFINED };
                    let event = Element::event(kind::COMMAND_COMPLETION, code, 0, taken.address, 0);
                    self.finish_command(bus, Event::new(event, true));
                }
                Ok(Next::Again) => *budget -= 1,
                Ok(Next::Empty) => break,
                Ok(Next::Until(due)) => {
                    progress = Progress::Until(due);
                    break;
                }
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        if *budget == 0 {
            progress = Progress::More;
        }
        let drained = progress == Progress::Idle;
        if let Some(pump) = &mut self.commands {
            // Only memory errors end here, and completions touch no memory.
            let _ = pump.flush(bus, drained);
            if let Some(due) = pump.next_due() {
                progress = progress.sooner(Progress::Until(due));
            }
        }
        self.collect_commands();
        (started, progress)
    }

    fn finish_command(&mut self, bus: &mut dyn Bus, event: Event) {
        if let Some(pump) = &mut self.commands {
            let _ = pump.complete(bus, event);
        }
        self.collect_commands();
    }

    fn collect_commands(&mut self) {
        let Some(pump) = &mut self.commands else { return };
        let events = std::mem::take(&mut pump.ring_mut().events);
        for event in events {
            self.emit(0, event);
        }
    }

    /// The channel that a command started, or none. `Err` if it cannot be done.
    fn command(
        &mut self,
        bus: &mut dyn Bus,
        command: &Element,
        allowed: impl Fn(u8) -> bool,
    ) -> Result<Option<u8>, ()> {
        let number = command.channel();
        let context = self.contexts.checked_add(u64::from(number) * CONTEXT_LEN).ok_or(())?;
        match command.kind() {
            kind::NOOP => return Ok(None),
            kind::RESET_CHANNEL | kind::STOP_CHANNEL | kind::START_CHANNEL => {}
            _ => return Err(()),
        }
        let channel = self.channels.get_mut(usize::from(number)).ok_or(())?;
        let state = match command.kind() {
            kind::RESET_CHANNEL => {
                *channel = Channel::default();
                channel_state::DISABLED
            }
            kind::STOP_CHANNEL => {
                if channel.pump.is_none() {
                    return Err(());
                }
                channel.stopped = true;
                channel_state::STOP
            }
            _ if channel.stopped && channel.pump.is_some() => {
                channel.stopped = false;
                channel_state::RUNNING
            }
            _ => {
                if !allowed(number) || channel.pump.is_some() {
                    return Err(());
                }
                let place = Place::read(bus, context).map_err(|_| ())?;
                if usize::try_from(place.index).map_or(true, |ring| ring >= self.events.len()) {
                    return Err(());
                }
                *channel = Channel { events: place.index, ..Channel::default() };
                let queue = FIRST_QUEUE + u16::from(number);
                channel.pump = Some(Pump::new(queue, Transfers::new(place)));
                channel_state::RUNNING
            }
        };
        bus.dma_write(context, &[state]).map_err(|_| ())?;
        Ok((state == channel_state::RUNNING).then_some(number))
    }

    /// Takes the next message of a channel to the device, if there is a whole one.
    pub(crate) fn receive(
        &mut self,
        bus: &mut dyn Bus,
        channel: u8,
        budget: &mut u32,
    ) -> (Option<Message>, Progress) {
        while *budget > 0 && self.is_running(channel) && !self.is_crowded() {
            let Some(it) = self.channels.get_mut(usize::from(channel)) else { break };
            let Some(pump) = &mut it.pump else { break };
            match pump.next(bus) {
                Ok(Next::Entry(taken)) => {
                    *budget -= 1;
                    if let Some(bytes) = self.gather(bus, channel, &taken) {
                        self.tally.received += 1;
                        return (Some(Message { channel, bytes }), Progress::More);
                    }
                }
                Ok(Next::Again) => *budget -= 1,
                Ok(Next::Empty) => {
                    let _ = pump.flush(bus, true);
                    let due = pump.next_due().map_or(Progress::Idle, Progress::Until);
                    return (None, due);
                }
                Ok(Next::Until(due)) => return (None, Progress::Until(due)),
                Err(_) => self.fail(bus, channel, None),
            }
        }
        let more = *budget == 0 && self.is_running(channel);
        (None, if more { Progress::More } else { Progress::Idle })
    }

    /// One element of a message from the host. The message, if it is the last.
    fn gather(&mut self, bus: &mut dyn Bus, channel: u8, taken: &Taken) -> Option<Vec<u8>> {
        let element = taken.element();
        let it = self.channels.get_mut(usize::from(channel))?;
        let len = usize::from(element.len());
        let start = it.gathered.len();
        it.elements += 1;
        let fits = start + len <= MESSAGE_MAX && it.elements <= ELEMENTS_MAX;
        if element.kind() != kind::TRANSFER || !fits {
            self.fail(bus, channel, Some(taken.address));
            return None;
        }
        it.gathered.resize(start + len, 0);
        if bus.dma_read(element.ptr.get(), &mut it.gathered[start..]).is_err() {
            self.fail(bus, channel, Some(taken.address));
            return None;
        }
        let flags = element.word1.get();
        let last = flags & transfer::CHAIN == 0;
        let code = if last { code::EOT } else { code::EOB };
        let wanted = flags & if last { transfer::IEOT } else { transfer::IEOB } != 0;
        self.conclude(bus, channel, taken.address, wanted.then_some(code), element.len(), flags);
        let it = self.channels.get_mut(usize::from(channel))?;
        last.then(|| {
            it.elements = 0;
            std::mem::take(&mut it.gathered)
        })
    }

    /// An element is done with, with an event or without.
    fn conclude(
        &mut self,
        bus: &mut dyn Bus,
        channel: u8,
        address: u64,
        code: Option<u8>,
        len: u16,
        flags: u32,
    ) {
        let it = self.channels.get_mut(usize::from(channel));
        let Some(pump) = it.and_then(|it| it.pump.as_mut()) else { return };
        let Some(code) = code else { return pump.abandon() };
        let event = Element::event(kind::TRANSFER_EVENT, code, channel, address, len);
        // Completions of these rings touch no memory, so they cannot fail.
        let _ = pump.complete(bus, Event::new(event, flags & transfer::BEI == 0));
        self.collect(usize::from(channel));
    }

    /// The channel has an element that makes no sense, or a ring out of reach: it stops until it
    /// is reset.
    fn fail(&mut self, bus: &mut dyn Bus, channel: u8, address: Option<u64>) {
        self.tally.bad_elements += 1;
        let code = address.map(|_| code::BAD_TRE);
        self.conclude(bus, channel, address.unwrap_or(0), code, 0, 0);
        if let Some(it) = self.channels.get_mut(usize::from(channel)) {
            it.failed = true;
            it.gathered = Vec::new();
        }
        let context = self.contexts.wrapping_add(u64::from(channel) * CONTEXT_LEN);
        // Where the context is out of reach too, the event has to do.
        let _ = bus.dma_write(context, &[channel_state::ERROR]);
    }

    /// Moves messages into the host's buffers.
    pub(crate) fn deliver(&mut self, bus: &mut dyn Bus, channel: u8, budget: &mut u32) -> Progress {
        while *budget > 0 && self.is_running(channel) && !self.is_crowded() {
            let Some(it) = self.channels.get_mut(usize::from(channel)) else { break };
            let Some(pump) = &mut it.pump else { break };
            if it.outgoing.is_empty() {
                let _ = pump.flush(bus, true);
                return pump.next_due().map_or(Progress::Idle, Progress::Until);
            }
            match pump.next(bus) {
                Ok(Next::Entry(taken)) => {
                    *budget -= 1;
                    self.fill(bus, channel, &taken);
                }
                Ok(Next::Again) => *budget -= 1,
                Ok(Next::Empty) => {
                    let _ = pump.flush(bus, true);
                    return pump.next_due().map_or(Progress::Idle, Progress::Until);
                }
                Ok(Next::Until(due)) => return Progress::Until(due),
                Err(_) => self.fail(bus, channel, None),
            }
        }
        let more = *budget == 0 && self.is_running(channel);
        if more { Progress::More } else { Progress::Idle }
    }

    /// Puts bytes of the first message into one buffer.
    fn fill(&mut self, bus: &mut dyn Bus, channel: u8, taken: &Taken) {
        let element = taken.element();
        let Some(it) = self.channels.get_mut(usize::from(channel)) else { return };
        if element.kind() != kind::TRANSFER {
            return self.fail(bus, channel, Some(taken.address));
        }
        let Some(message) = it.outgoing.front() else { return };
        let rest = message.get(it.delivered..).unwrap_or_default();
        let count = rest.len().min(usize::from(element.len()));
        if bus.dma_write(element.ptr.get(), &rest[..count]).is_err() {
            return self.fail(bus, channel, Some(taken.address));
        }
        it.delivered += count;
        let flags = element.word1.get();
        let (whole, chained) = (count == rest.len(), flags & transfer::CHAIN != 0);
        if whole || !chained {
            it.outgoing.pop_front();
            it.delivered = 0;
            self.tally.sent += 1;
            self.tally.overflows += u64::from(!whole);
        }
        let code = match (whole, chained) {
            (true, _) => Some(code::EOT),
            (false, false) => Some(code::OVERFLOW),
            (false, true) if flags & transfer::IEOB != 0 => Some(code::EOB),
            (false, true) => None,
        };
        // A count of at most the element's length fits.
        let len = u16::try_from(count).unwrap_or(u16::MAX);
        self.conclude(bus, channel, taken.address, code, len, flags);
    }

    pub(crate) fn inspect(&self) -> Vec<QueueState> {
        let mut list = Vec::new();
        for (number, it) in (0_u16..).zip(&self.channels) {
            let Some(pump) = &it.pump else { continue };
            let mut fields = pump.ring().place.fields();
            let more = [
                ("failed", u64::from(it.failed)),
                ("outgoing", it.outgoing.len() as u64),
                ("waiting", u64::from(pump.ring().has_elements())),
            ];
            fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
            let name = NAMES.get(usize::from(number / 2)).unwrap_or(&"channel");
            let way = if number % 2 == 0 { "to device" } else { "from device" };
            list.push(QueueState {
                index: FIRST_QUEUE + number,
                name: format!("mhi {number} {name} {way}"),
                enabled: !it.stopped && !it.failed,
                size: pump.ring().place.elements(),
                fields,
                hexadecimal: vec!["base".to_owned()],
            });
        }
        for (ring, events) in self.events.iter().enumerate() {
            list.push(QueueState {
                index: COMMAND_QUEUE + 1 + u16::try_from(ring).unwrap_or(u16::MAX),
                name: format!("events {ring}"),
                enabled: !events.broken,
                size: events.place.elements(),
                fields: events.place.fields(),
                hexadecimal: vec!["base".to_owned()],
            });
        }
        list
    }
}

/// Raises a vector, or vector 0 if the driver has not got that many.
pub(crate) fn raise(bus: &mut dyn Bus, vector: Vector) {
    let granted = match bus.interrupt_mode() {
        InterruptMode::Msi { vectors } | InterruptMode::Msix { vectors } => vectors,
        InterruptMode::Intx => 1,
    };
    bus.raise(if vector.0 < granted { vector } else { Vector(0) });
}
