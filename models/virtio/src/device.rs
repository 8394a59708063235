//! The virtio-pci modern transport around a device.
//!
//! - `common`: the common configuration: features, status, queue set-up.
//! - `identity`: the PCI function.
//! - `service`: from what is available to what is used.

mod common;
mod identity;
mod service;

use std::collections::BTreeMap;
use std::fmt;

use understudy_device::{
    AccessError, Bar, Bus, Counter, Decoder, DeviceModel, FinishedJob, Identity, InterruptMode,
    JobId, Progress, QueueState, RegisterOps, RegisterRef, ResetKind, State, Vector,
};
use understudy_ring::Pump;

use crate::contract::{QueueSpec, VirtioDevice};
use crate::layout::{NO_VECTOR, feature, status};
use crate::queue::{Placement, QueueError, Request, Virtqueue};
use crate::registers::{
    COMMON, COMMON_OFFSET, DEVICE_OFFSET, ISR, ISR_OFFSET, Isr, MAX_QUEUES, MODERN_BAR,
    NOTIFY_MULTIPLIER, NOTIFY_OFFSET, PAGE,
};
use common::Selected;
use identity::identity;

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
        // Without a vector, its register has all bits set.
        hexadecimal: ["desc", "driver", "device", "vector"].map(str::to_owned).into(),
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
