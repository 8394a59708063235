//! The virtio-pci modern transport around a device.

mod common;

use std::collections::BTreeMap;
use std::fmt;

use understudy_device::{
    AccessError, Bar, BarKind, BarSpec, Bus, Capability, Counter, Decoder, DeviceModel,
    DmaFaultKind, FinishedJob, Identity, InterruptMode, JobId, Nanos, Progress, QueueState,
    RegisterOps, RegisterRef, RegisterState, ResetKind, State, Vector,
};
use understudy_ring::{Next, Pump};

use crate::layout::{MODERN_DEVICE_ID, NO_VECTOR, VENDOR_ID, cap, feature, status};
use crate::queue::{Available, Placement, QueueError, Request, Used, Virtqueue};
use crate::registers::{
    COMMON, COMMON_OFFSET, DEVICE_OFFSET, ISR, ISR_OFFSET, Isr, MAX_QUEUES, MODERN_BAR,
    MODERN_SIZE, MSIX_BAR, NOTIFY_MULTIPLIER, NOTIFY_OFFSET, PAGE,
};
use common::Selected;

/// Requests of one queue served before the next queue has its turn.
const TURN: u32 = 16;

/// Bytes of requests after which a poll ends, so that one poll has a bounded length.
const MAX_POLL_BYTES: u64 = 4 << 20;

/// Most jobs in flight. Queues are not fetched from meanwhile.
const MAX_JOBS: usize = 64;

/// Requests whose memory is kept for reuse.
const MAX_SPARE: usize = 64;

/// What a virtio device is, as data.
#[derive(Debug, Clone)]
pub struct Description {
    /// Name of the model (`virtio-crypto`).
    pub name: &'static str,
    /// Virtio device id (virtio 1.3 §5).
    pub device_id: u16,
    /// PCI class code, as `0xbbsspp`.
    pub class_code: u32,
    /// Feature bits of the device type; the transport adds its own.
    pub features: u64,
    /// Queues in index order, 1 to [`MAX_QUEUES`].
    pub queues: Vec<QueueSpec>,
}

/// One queue of a device.
#[derive(Debug, Clone)]
pub struct QueueSpec {
    /// Name in reports (`controlq`).
    pub name: String,
    /// Most entries: a power of two up to 32768.
    pub max_size: u16,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; so many bytes of the writable part were written.
    Done(u32),
    /// The request goes on when this job is finished.
    Pending(JobId),
    /// The device cannot answer: it needs a reset, for this reason.
    Broken(&'static str),
}

/// What is unique to one type of virtio device.
///
/// A device sees requests as byte streams, and neither queues nor interrupts nor registers.
pub trait VirtioDevice: Send {
    /// What the device is. Constant.
    fn description(&self) -> &Description;

    /// Features of the transport that are not to be offered, of
    /// [`feature::TRANSPORT`](crate::feature::TRANSPORT). Constant.
    fn withheld(&self) -> u64 {
        0
    }

    /// Whether the device works with these features: a subset of those offered, with
    /// `VIRTIO_F_VERSION_1`. Called when the driver sets `FEATURES_OK`.
    fn accepts(&self, features: u64) -> bool {
        let _ = features;
        true
    }

    /// The driver is ready (`DRIVER_OK`) and has accepted these features.
    fn start(&mut self, features: u64);

    /// Reads the device configuration; bytes past its end stay as they are.
    ///
    /// # Errors
    /// [`AccessError::Unmapped`] if nothing is there.
    fn read_config(
        &mut self,
        bus: &mut dyn Bus,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError>;

    /// Writes the device configuration.
    ///
    /// # Errors
    /// [`AccessError::Unmapped`] if nothing is there that takes writes.
    fn write_config(
        &mut self,
        bus: &mut dyn Bus,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let (_, _) = (bus, data);
        Err(AccessError::Unmapped { offset })
    }

    /// Whether the device configuration has changed on its own since this was last asked. Asked
    /// after requests and jobs; the driver is told.
    fn take_config_change(&mut self) -> bool {
        false
    }

    /// Executes a request: reads its readable and writes its writable part.
    fn execute(&mut self, bus: &mut dyn Bus, request: &mut Request) -> Outcome;

    /// A job that [`execute`](Self::execute) submitted for this request is done. Not called if
    /// the device or the queue was reset meanwhile.
    fn finish(&mut self, bus: &mut dyn Bus, request: &mut Request, done: FinishedJob) -> Outcome {
        let (_, _, _) = (bus, request, done);
        Outcome::Broken("no job was submitted")
    }

    /// Forgets everything but parameters; counters too at power-on.
    fn reset(&mut self, kind: ResetKind);

    /// The device configuration for [`State`], lying at `base` of `bar`.
    fn config_state(&self, bar: Bar, base: u64) -> Vec<RegisterState>;

    /// Counters in a fixed order.
    fn counters(&self) -> Vec<Counter>;
}

/// A device that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Not 1 to [`MAX_QUEUES`] queues.
    #[error("{0} queues")]
    Queues(usize),
    /// A queue's largest size is not a power of two up to 32768.
    #[error("queue of at most {0} entries")]
    QueueSize(u16),
}

/// One queue as the driver sets it up and uses it.
struct Queue {
    index: u16,
    /// Entries as the driver set them.
    size: u16,
    vector: u16,
    desc: u64,
    driver: u64,
    device: u64,
    /// The rings, while the queue is enabled.
    pump: Option<Pump<Virtqueue>>,
    /// The driver was asked for notifications.
    listening: bool,
    notifications: u64,
    interrupts: u64,
    requests: u64,
}

impl Queue {
    fn new(index: u16, max_size: u16) -> Self {
        Self {
            index,
            size: max_size,
            vector: NO_VECTOR,
            desc: 0,
            driver: 0,
            device: 0,
            pump: None,
            // Rings are born with notifications on: flags and events are zero.
            listening: true,
            notifications: 0,
            interrupts: 0,
            requests: 0,
        }
    }

    /// Back to what a reset leaves; counters stay.
    fn reset(&mut self, max_size: u16) {
        let kept = (self.notifications, self.interrupts, self.requests);
        *self = Self::new(self.index, max_size);
        (self.notifications, self.interrupts, self.requests) = kept;
    }

    fn placement(&self) -> Placement {
        Placement { size: self.size, desc: self.desc, driver: self.driver, device: self.device }
    }
}

/// How a queue's turn ended.
enum Turn {
    /// Nothing more to fetch.
    Drained,
    /// Perhaps more to fetch.
    More,
    /// Nothing before then.
    Until(Nanos),
}

/// A virtio device as a PCI function.
pub struct VirtioPci<D> {
    device: D,
    identity: Identity,
    offered: u64,
    driver_features: u64,
    /// What the driver accepted, once it was found good.
    features: u64,
    status: u8,
    config_vector: u16,
    selected: Selected,
    isr: u8,
    generation: u8,
    /// The configuration changed since the driver last read it.
    config_changed: bool,
    queues: Vec<Queue>,
    /// Queue that has the next turn.
    turn: usize,
    pending: BTreeMap<JobId, Request>,
    spare: Vec<Request>,
    table: Vec<u8>,
    needs_reset: u64,
    /// Why the device last needed a reset.
    broken: Option<Broken>,
}

/// Why a device needs a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A queue is not as virtio wants it.
    #[error("queue {0}: {1}")]
    Queue(u16, QueueError),
    /// A request that could not be answered.
    #[error("queue {0}: {1}")]
    Request(u16, &'static str),
}

impl<D: VirtioDevice> VirtioPci<D> {
    /// Wraps a device. Everything is at power-on.
    ///
    /// # Errors
    /// [`BuildError`] if the description is impossible.
    pub fn new(device: D) -> Result<Self, BuildError> {
        let description = device.description();
        let count = description.queues.len();
        if count == 0 || count > usize::from(MAX_QUEUES) {
            return Err(BuildError::Queues(count));
        }
        let mut queues = Vec::with_capacity(count);
        for (index, spec) in (0..).zip(&description.queues) {
            if !spec.max_size.is_power_of_two() {
                return Err(BuildError::QueueSize(spec.max_size));
            }
            queues.push(Queue::new(index, spec.max_size));
        }
        Ok(Self {
            identity: identity(description),
            offered: description.features | (feature::TRANSPORT & !device.withheld()),
            device,
            driver_features: 0,
            features: 0,
            status: 0,
            config_vector: NO_VECTOR,
            selected: Selected::default(),
            isr: 0,
            generation: 0,
            config_changed: false,
            queues,
            turn: 0,
            pending: BTreeMap::new(),
            spare: Vec::new(),
            table: Vec::new(),
            needs_reset: 0,
            broken: None,
        })
    }

    /// The device inside.
    #[must_use]
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Why the device last needed a reset, if it ever did.
    #[must_use]
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Whether queues are served (virtio 1.3 §2.1.2): the driver is ready and nothing is broken.
    fn running(&self) -> bool {
        let stopped = status::DEVICE_NEEDS_RESET | status::FAILED;
        self.status & (status::DRIVER_OK | stopped) == status::DRIVER_OK
    }

    fn max_size(&self, index: usize) -> u16 {
        self.device.description().queues.get(index).map_or(0, |spec| spec.max_size)
    }

    /// What writing 0 to `device_status` does, and what a reset of the function does too.
    fn reset_device(&mut self, kind: ResetKind) {
        self.device.reset(kind);
        self.driver_features = 0;
        self.features = 0;
        self.status = 0;
        self.config_vector = NO_VECTOR;
        self.selected = Selected::default();
        self.isr = 0;
        self.turn = 0;
        // Their jobs may still come back; nobody will know them then.
        self.pending.clear();
        for index in 0..self.queues.len() {
            let max_size = self.max_size(index);
            self.queues[index].reset(max_size);
        }
    }

    /// Resets one queue (virtio 1.3 §2.6.1). Its requests in flight are forgotten.
    fn reset_queue(&mut self, index: usize) {
        let max_size = self.max_size(index);
        self.queues[index].reset(max_size);
        self.pending.retain(|_, request| usize::from(request.queue()) != index);
    }

    /// Sets `DEVICE_NEEDS_RESET` and says so (virtio 1.3 §2.1.2).
    fn fail(&mut self, bus: &mut dyn Bus, why: Broken) {
        self.broken = Some(why);
        self.needs_reset += 1;
        self.status |= status::DEVICE_NEEDS_RESET;
        self.notify_config(bus);
    }

    /// Tells the driver that the configuration, or the status, has changed.
    fn notify_config(&mut self, bus: &mut dyn Bus) {
        if self.status & status::DRIVER_OK == 0 {
            return;
        }
        self.isr |= 2;
        match bus.interrupt_mode() {
            InterruptMode::Msix { .. } => {
                if self.config_vector != NO_VECTOR {
                    bus.raise(Vector(self.config_vector));
                }
            }
            _ => bus.set_intx(true),
        }
    }

    /// Interrupts for a queue with something new in its used ring.
    fn interrupt_queue(&mut self, bus: &mut dyn Bus, index: usize) -> Result<(), QueueError> {
        let queue = &mut self.queues[index];
        let Some(pump) = &mut queue.pump else { return Ok(()) };
        if !pump.ring_mut().wants_interrupt(bus)? {
            return Ok(());
        }
        match bus.interrupt_mode() {
            InterruptMode::Msix { .. } => {
                if queue.vector == NO_VECTOR {
                    return Ok(());
                }
                bus.raise(Vector(queue.vector));
            }
            _ => {
                self.isr |= 1;
                bus.set_intx(true);
            }
        }
        queue.interrupts += 1;
        Ok(())
    }

    /// Gives a queue its turn. `budget` counts requests, `bytes` their length.
    fn serve(
        &mut self,
        bus: &mut dyn Bus,
        index: usize,
        budget: &mut u32,
        bytes: &mut u64,
    ) -> Result<Turn, Broken> {
        let at = u16::try_from(index).unwrap_or(u16::MAX);
        let on_queue = |error| Broken::Queue(at, error);
        if self.queues[index].listening {
            self.listen(bus, index, false).map_err(on_queue)?;
        }
        let mut written = 0;
        let mut turn = Turn::More;
        for _ in 0..TURN.min(*budget) {
            if self.pending.len() >= MAX_JOBS {
                turn = Turn::Drained;
                break;
            }
            let Some(pump) = &mut self.queues[index].pump else { return Ok(Turn::Drained) };
            match pump.next(bus).map_err(on_queue)? {
                Next::Entry(entry) => {
                    *budget -= 1;
                    written += self.execute(bus, index, entry, bytes)?;
                    if *bytes >= MAX_POLL_BYTES {
                        *budget = 0;
                        break;
                    }
                }
                Next::Again => *budget -= 1,
                Next::Empty => {
                    turn = Turn::Drained;
                    break;
                }
                Next::Until(due) => {
                    turn = Turn::Until(due);
                    break;
                }
            }
        }
        if let Some(pump) = &mut self.queues[index].pump {
            let drained = matches!(turn, Turn::Drained);
            written += pump.flush(bus, drained).map_err(on_queue)?;
            if let (Turn::Drained, Some(due)) = (&turn, pump.next_due()) {
                turn = Turn::Until(due);
            }
        }
        if written > 0 {
            self.interrupt_queue(bus, index).map_err(on_queue)?;
        }
        Ok(turn)
    }

    /// Executes one chain. Returns completions written.
    fn execute(
        &mut self,
        bus: &mut dyn Bus,
        index: usize,
        entry: Available,
        bytes: &mut u64,
    ) -> Result<u32, Broken> {
        let at = u16::try_from(index).unwrap_or(u16::MAX);
        let on_queue = |error| Broken::Queue(at, error);
        let queue = &mut self.queues[index];
        let Some(pump) = &mut queue.pump else { return Ok(0) };
        let mut request = match self.spare.pop() {
            Some(mut request) => {
                request.retarget(at);
                request
            }
            None => Request::new(at),
        };
        let opened = pump.ring().open(bus, &entry, &mut self.table, &mut request);
        pump.recycle(entry);
        opened.map_err(on_queue)?;
        queue.requests += 1;
        *bytes += request.readable.bytes() + request.writable.bytes();
        let outcome = self.device.execute(bus, &mut request);
        self.settle(bus, request, outcome)
    }

    /// Acts on an outcome. Returns completions written.
    fn settle(
        &mut self,
        bus: &mut dyn Bus,
        request: Request,
        outcome: Outcome,
    ) -> Result<u32, Broken> {
        let index = request.queue();
        let written = match outcome {
            Outcome::Pending(job) => {
                self.pending.insert(job, request);
                return Ok(0);
            }
            Outcome::Broken(why) => return Err(Broken::Request(index, why)),
            Outcome::Done(written) => written,
        };
        let queue = self.queues.get_mut(usize::from(index));
        let completions = match queue.and_then(|queue| queue.pump.as_mut()) {
            Some(pump) => pump
                .complete(bus, Used::new(&request, written))
                .map_err(|error| Broken::Queue(index, error))?,
            None => 0,
        };
        if self.spare.len() < MAX_SPARE {
            self.spare.push(request);
        }
        Ok(completions)
    }

    /// Asks for notifications of a queue, or asks for none.
    fn listen(&mut self, bus: &mut dyn Bus, index: usize, on: bool) -> Result<(), QueueError> {
        let queue = &mut self.queues[index];
        if let Some(pump) = &mut queue.pump {
            pump.ring().want_notifications(bus, on)?;
            queue.listening = on;
        }
        Ok(())
    }

    /// Whether the error is that the driver has taken the bus away, which is no fault of anyone:
    /// the device just cannot work now.
    fn is_off_bus(error: &Broken) -> bool {
        matches!(error, Broken::Queue(_, QueueError::Ring(fault))
            if fault.kind == DmaFaultKind::BusMasterDisabled)
    }

    fn serve_all(&mut self, bus: &mut dyn Bus, budget: u32) -> Result<Progress, Broken> {
        let (mut budget, mut bytes) = (budget, 0);
        let mut progress = Progress::Idle;
        let mut busy = true;
        while busy {
            busy = false;
            progress = Progress::Idle;
            for _ in 0..self.queues.len() {
                if budget == 0 {
                    return Ok(Progress::More);
                }
                let index = self.turn;
                self.turn = (index + 1) % self.queues.len();
                if self.queues[index].pump.is_none() {
                    continue;
                }
                match self.serve(bus, index, &mut budget, &mut bytes)? {
                    Turn::Drained => {}
                    Turn::More => busy = true,
                    Turn::Until(due) => progress = progress.sooner(Progress::Until(due)),
                }
            }
        }
        Ok(progress)
    }

    /// Turns notifications on, then looks once more: what became available in between was not
    /// notified of.
    fn park_all(&mut self, bus: &mut dyn Bus) -> Result<Progress, Broken> {
        let mut progress = Progress::Idle;
        for index in 0..self.queues.len() {
            let at = u16::try_from(index).unwrap_or(u16::MAX);
            if !self.queues[index].listening {
                self.listen(bus, index, true).map_err(|error| Broken::Queue(at, error))?;
            }
        }
        bus.dma_fence();
        let stalled = self.pending.len() >= MAX_JOBS;
        for queue in &mut self.queues {
            let Some(pump) = &mut queue.pump else { continue };
            if let Some(due) = pump.next_due() {
                progress = progress.sooner(Progress::Until(due));
            }
            let more = pump.has_ready()
                || pump.may_fetch(bus)
                    && pump
                        .ring_mut()
                        .has_more(bus)
                        .map_err(|error| Broken::Queue(queue.index, error))?;
            if more && !stalled {
                progress = Progress::More;
            }
        }
        Ok(progress)
    }

    fn settled(&mut self, bus: &mut dyn Bus, result: Result<Progress, Broken>) -> Progress {
        if self.device.take_config_change() {
            self.config_changed = true;
            self.notify_config(bus);
        }
        match result {
            Ok(progress) => progress,
            Err(error) if Self::is_off_bus(&error) => Progress::Idle,
            Err(error) => {
                self.fail(bus, error);
                Progress::Idle
            }
        }
    }

    /// A write to the notification area. Nothing but a count: [`DeviceModel::poll`] looks at all
    /// queues.
    fn notified(&mut self, offset: u64) -> Result<(), AccessError> {
        let slot = offset / u64::from(NOTIFY_MULTIPLIER);
        let queue = usize::try_from(slot).ok().and_then(|slot| self.queues.get_mut(slot));
        let queue = queue.ok_or(AccessError::Unmapped { offset: NOTIFY_OFFSET + offset })?;
        queue.notifications += 1;
        Ok(())
    }

    fn queue_states(&self) -> Vec<QueueState> {
        self.queues.iter().zip(&self.device.description().queues).map(queue_state).collect()
    }
}

fn queue_state((queue, spec): (&Queue, &QueueSpec)) -> QueueState {
    let positions = queue.pump.as_ref().map(|pump| pump.ring().positions());
    let in_flight = queue.pump.as_ref().map_or(0, Pump::in_flight);
    let (avail, used) = positions.unwrap_or_default();
    let fields = [
        ("desc", queue.desc),
        ("driver", queue.driver),
        ("device", queue.device),
        ("vector", u64::from(queue.vector)),
        ("next_avail", u64::from(avail)),
        ("next_used", u64::from(used)),
        ("in_flight", in_flight as u64),
        ("requests", queue.requests),
        ("notifications", queue.notifications),
        ("interrupts", queue.interrupts),
    ];
    QueueState {
        index: queue.index,
        name: spec.name.clone(),
        enabled: queue.pump.is_some(),
        size: u32::from(queue.size),
        fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

impl<D: VirtioDevice> RegisterOps<Isr> for VirtioPci<D> {
    fn load(&mut self, bus: &mut dyn Bus, _: RegisterRef<Isr>) -> u64 {
        // Reading clears and releases the line (virtio 1.3 §4.1.4.5).
        bus.set_intx(false);
        u64::from(std::mem::take(&mut self.isr))
    }

    fn store(&mut self, _: &mut dyn Bus, _: RegisterRef<Isr>, _: u64, _: u64) {}
}

impl<D: VirtioDevice> DeviceModel for VirtioPci<D> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let unmapped = AccessError::Unmapped { offset };
        if bar != Bar(MODERN_BAR) {
            return Err(unmapped);
        }
        match offset - offset % PAGE {
            COMMON_OFFSET => Decoder(&COMMON).read(self, bus, offset, data).map_err(|_| unmapped),
            ISR_OFFSET => {
                Decoder(&ISR).read(self, bus, offset - ISR_OFFSET, data).map_err(|_| unmapped)
            }
            DEVICE_OFFSET => {
                // The generation moves only where the driver could have seen the change.
                if std::mem::take(&mut self.config_changed) {
                    self.generation = self.generation.wrapping_add(1);
                }
                self.device.read_config(bus, offset - DEVICE_OFFSET, data)
            }
            _ => Err(unmapped),
        }
    }

    fn write(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let unmapped = AccessError::Unmapped { offset };
        if bar != Bar(MODERN_BAR) {
            return Err(unmapped);
        }
        match offset - offset % PAGE {
            COMMON_OFFSET => Decoder(&COMMON).write(self, bus, offset, data).map_err(|_| unmapped),
            DEVICE_OFFSET => self.device.write_config(bus, offset - DEVICE_OFFSET, data),
            NOTIFY_OFFSET => self.notified(offset - NOTIFY_OFFSET),
            _ => Err(unmapped),
        }
    }

    fn poll(&mut self, bus: &mut dyn Bus, budget: u32) -> Progress {
        if !self.running() {
            return Progress::Idle;
        }
        let result = self.serve_all(bus, budget);
        self.settled(bus, result)
    }

    fn park(&mut self, bus: &mut dyn Bus) -> Progress {
        if !self.running() {
            return Progress::Idle;
        }
        let result = self.park_all(bus);
        self.settled(bus, result)
    }

    fn finish(&mut self, bus: &mut dyn Bus, done: FinishedJob) {
        let Some(mut request) = self.pending.remove(&done.id) else { return };
        if !self.running() {
            return;
        }
        let index = usize::from(request.queue());
        let outcome = self.device.finish(bus, &mut request, done);
        let result = self.settle(bus, request, outcome).and_then(|completions| {
            if completions > 0 {
                let at = u16::try_from(index).unwrap_or(u16::MAX);
                self.interrupt_queue(bus, index).map_err(|error| Broken::Queue(at, error))?;
            }
            Ok(Progress::Idle)
        });
        self.settled(bus, result);
    }

    fn reset(&mut self, kind: ResetKind) {
        self.reset_device(kind);
        self.generation = 0;
        self.config_changed = false;
        if kind == ResetKind::PowerOn {
            self.needs_reset = 0;
            self.broken = None;
            for queue in &mut self.queues {
                (queue.notifications, queue.interrupts, queue.requests) = (0, 0, 0);
            }
        }
    }

    fn inspect(&self) -> State {
        let bar = Bar(MODERN_BAR);
        let mut registers = self.common_state(bar);
        registers.extend(ISR.describe(bar, ISR_OFFSET, |_| u64::from(self.isr)));
        registers.extend(self.device.config_state(bar, DEVICE_OFFSET));
        let sum = |of: fn(&Queue) -> u64| self.queues.iter().map(of).sum();
        let mut counters: Vec<_> = [
            ("queue.notifications", sum(|queue| queue.notifications)),
            ("queue.interrupts", sum(|queue| queue.interrupts)),
            ("queue.requests", sum(|queue| queue.requests)),
            ("device.needs_reset", self.needs_reset),
        ]
        .into_iter()
        .map(|(name, value)| Counter { name: name.to_owned(), value })
        .collect();
        counters.extend(self.device.counters());
        State { registers, queues: self.queue_states(), counters }
    }
}

impl<D> fmt::Debug for VirtioPci<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtioPci")
            .field("name", &self.identity.name)
            .field("status", &self.status)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

/// The PCI function of a device: layout as QEMU's, so that what works there works here.
fn identity(description: &Description) -> Identity {
    let queues = u32::try_from(description.queues.len()).unwrap_or(u32::MAX);
    // One vector each, and one for the configuration.
    let vectors = description.queues.len() + 1;
    let table_len = vectors.next_multiple_of(64) * 16;
    let msix_size = (table_len * 2).next_power_of_two().max(0x1000);
    let pba = u32::try_from(msix_size / 2).unwrap_or(u32::MAX);
    let common = structure(cap::COMMON, COMMON_OFFSET, COMMON.size, None);
    let isr = structure(cap::ISR, ISR_OFFSET, ISR.size, None);
    let device = structure(cap::DEVICE, DEVICE_OFFSET, 0x1000, None);
    let notify_len = queues.saturating_mul(NOTIFY_MULTIPLIER);
    let notify = structure(cap::NOTIFY, NOTIFY_OFFSET, notify_len, Some(NOTIFY_MULTIPLIER));
    Identity {
        name: description.name,
        vendor_id: VENDOR_ID,
        device_id: MODERN_DEVICE_ID + description.device_id,
        subsystem_vendor_id: VENDOR_ID,
        // 0x40 and above for devices without a legacy interface (virtio 1.3 §4.1.2.1).
        subsystem_id: 0x1100,
        revision_id: 1,
        class_code: description.class_code,
        interrupt_pin: 1,
        bars: vec![
            BarSpec {
                bar: Bar(MSIX_BAR),
                kind: BarKind::Memory32,
                prefetchable: false,
                size: msix_size as u64,
                shared: Vec::new(),
            },
            BarSpec {
                bar: Bar(MODERN_BAR),
                kind: BarKind::Memory64,
                prefetchable: true,
                size: MODERN_SIZE,
                shared: Vec::new(),
            },
        ],
        capabilities: vec![
            Capability::PowerManagement,
            Capability::Express { flr: true },
            Capability::Msix {
                vectors: u16::try_from(vectors).unwrap_or(u16::MAX),
                table: (Bar(MSIX_BAR), 0),
                pba: (Bar(MSIX_BAR), pba),
            },
            common,
            isr,
            device,
            notify,
            Capability::VirtioConfigWindow { cfg_type: cap::PCI },
        ],
        unmapped_read: 0,
    }
}

/// A `struct virtio_pci_cap` from its `cfg_type` on (virtio 1.3 §4.1.4), with the extra word of
/// `struct virtio_pci_notify_cap`.
fn structure(cfg_type: u8, offset: u64, len: u32, extra: Option<u32>) -> Capability {
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    let mut body = vec![cfg_type, MODERN_BAR, 0, 0, 0];
    body.extend_from_slice(&offset.to_le_bytes());
    body.extend_from_slice(&len.to_le_bytes());
    if let Some(extra) = extra {
        body.extend_from_slice(&extra.to_le_bytes());
    }
    Capability::Vendor { body }
}
