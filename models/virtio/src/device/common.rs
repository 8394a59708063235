//! The common configuration: features, status, queue set-up.

use understudy_device::{
    Bar, Bus, InterruptMode, RegisterOps, RegisterRef, RegisterState, ResetKind,
};
use understudy_ring::Pump;

use super::{Queue, VirtioDevice, VirtioPci};
use crate::layout::{NO_VECTOR, feature, status};
use crate::queue::Virtqueue;
use crate::registers::{COMMON, COMMON_OFFSET, Common};

/// What the select registers hold.
#[derive(Debug, Default)]
pub(super) struct Selected {
    device_feature: u32,
    driver_feature: u32,
    queue: u16,
}

/// The 32 bits of `features` that a select register shows.
fn word(features: u64, select: u32) -> u64 {
    match select {
        0 => features & 0xffff_ffff,
        1 => features >> 32,
        _ => 0,
    }
}

/// `old` with the bits in `mask` from `value`, as the width of `T`.
fn merge<T>(old: T, value: u64, mask: u64) -> T
where
    T: Into<u64> + TryFrom<u64> + Copy,
{
    let new = (old.into() & !mask) | (value & mask);
    T::try_from(new).unwrap_or(old)
}

impl<D: VirtioDevice> VirtioPci<D> {
    fn queue(&self) -> Option<&Queue> {
        self.queues.get(usize::from(self.selected.queue))
    }

    /// A register's value, without side effects.
    fn peek(&self, id: Common) -> u64 {
        let queue = |of: fn(&Queue) -> u64| self.queue().map_or(0, of);
        match id {
            Common::DeviceFeatureSelect => u64::from(self.selected.device_feature),
            Common::DeviceFeature => word(self.offered, self.selected.device_feature),
            Common::DriverFeatureSelect => u64::from(self.selected.driver_feature),
            Common::DriverFeature => word(self.driver_features, self.selected.driver_feature),
            Common::ConfigMsixVector => u64::from(self.config_vector),
            Common::NumQueues => self.queues.len() as u64,
            Common::DeviceStatus => u64::from(self.status),
            Common::ConfigGeneration => u64::from(self.generation),
            Common::QueueSelect => u64::from(self.selected.queue),
            Common::QueueSize => queue(|queue| u64::from(queue.size)),
            Common::QueueMsixVector => {
                self.queue().map_or(u64::from(NO_VECTOR), |queue| u64::from(queue.vector))
            }
            Common::QueueEnable => queue(|queue| u64::from(queue.pump.is_some())),
            Common::QueueNotifyOff => queue(|queue| u64::from(queue.index)),
            Common::QueueDesc => queue(|queue| queue.desc),
            Common::QueueDriver => queue(|queue| queue.driver),
            Common::QueueDevice => queue(|queue| queue.device),
            // A reset is over before the driver can look.
            Common::QueueReset => 0,
        }
    }

    /// The register table with values and what they mean.
    pub(super) fn common_state(&self, bar: Bar) -> Vec<RegisterState> {
        let mut state = COMMON.describe(bar, COMMON_OFFSET, |at| self.peek(at.id));
        for (register, at) in state.iter_mut().zip(COMMON.elements()) {
            register.meaning = match at.id {
                Common::DeviceStatus => status_names(self.status),
                Common::ConfigMsixVector | Common::QueueMsixVector
                    if register.value == u64::from(NO_VECTOR) =>
                {
                    "NO_VECTOR".to_owned()
                }
                _ => String::new(),
            };
        }
        state
    }

    fn set_status(&mut self, bus: &mut dyn Bus, value: u8) {
        if value == 0 {
            self.reset_device(ResetKind::Function);
            bus.set_intx(false);
            return;
        }
        // A driver only ever adds bits (virtio 1.3 §2.1.1).
        let mut added = value & !self.status & !status::DEVICE_NEEDS_RESET;
        if added & status::FEATURES_OK != 0 {
            if self.features_good() {
                self.features = self.driver_features;
            } else {
                added &= !status::FEATURES_OK;
            }
        }
        if added & status::DRIVER_OK != 0 {
            if (self.status | added) & status::FEATURES_OK == 0 {
                added &= !status::DRIVER_OK;
            } else {
                self.device.start(self.features);
            }
        }
        self.status |= added;
    }

    /// Whether the device can work with what the driver accepted (virtio 1.3 §2.2.2, §6.2).
    fn features_good(&self) -> bool {
        self.driver_features & !self.offered == 0
            && self.driver_features & feature::VERSION_1 != 0
            && self.device.accepts(self.driver_features)
    }

    fn set_driver_feature(&mut self, value: u64, mask: u64) {
        let shift = match self.selected.driver_feature {
            0 => 0,
            1 => 32,
            _ => return,
        };
        if self.status & status::FEATURES_OK == 0 {
            self.driver_features = merge(self.driver_features, value << shift, mask << shift);
        }
    }

    /// The vector, or `NO_VECTOR` if there is no such vector (virtio 1.3 §4.1.5.1.2.1).
    fn vector(&self, bus: &mut dyn Bus, value: u16) -> u16 {
        let vectors = match bus.interrupt_mode() {
            InterruptMode::Msix { vectors } => vectors,
            _ => self.identity.msix_vectors(),
        };
        if value < vectors { value } else { NO_VECTOR }
    }

    /// Writes to fields of a queue. Those of an enabled queue do not change, but for its vector.
    fn set_queue(&mut self, bus: &mut dyn Bus, id: Common, value: u64, mask: u64) {
        let index = usize::from(self.selected.queue);
        let features = self.features;
        let max_size = self.max_size(index);
        let vector = match id {
            Common::QueueMsixVector => self.vector(bus, merge(NO_VECTOR, value, mask)),
            _ => NO_VECTOR,
        };
        let Some(queue) = self.queues.get_mut(index) else { return };
        if id == Common::QueueMsixVector {
            queue.vector = vector;
            return;
        }
        if queue.pump.is_some() {
            return;
        }
        match id {
            Common::QueueSize => {
                let size: u16 = merge(queue.size, value, mask);
                let packed = features & feature::RING_PACKED != 0;
                if size > 0 && size <= max_size && (packed || size.is_power_of_two()) {
                    queue.size = size;
                }
            }
            Common::QueueDesc => queue.desc = merge(queue.desc, value, mask),
            Common::QueueDriver => queue.driver = merge(queue.driver, value, mask),
            Common::QueueDevice => queue.device = merge(queue.device, value, mask),
            Common::QueueEnable => {
                let place = queue.placement();
                let negotiated = self.status & status::FEATURES_OK != 0;
                if value & mask == 1 && negotiated && place.is_valid(features) {
                    queue.pump = Some(Pump::new(queue.index, Virtqueue::new(place, features)));
                    queue.listening = true;
                }
            }
            _ => {}
        }
    }
}

impl<D: VirtioDevice> RegisterOps<Common> for VirtioPci<D> {
    fn load(&mut self, _: &mut dyn Bus, at: RegisterRef<Common>) -> u64 {
        self.peek(at.id)
    }

    fn store(&mut self, bus: &mut dyn Bus, at: RegisterRef<Common>, value: u64, mask: u64) {
        let selected = &mut self.selected;
        match at.id {
            Common::DeviceFeatureSelect => {
                selected.device_feature = merge(selected.device_feature, value, mask);
            }
            Common::DriverFeatureSelect => {
                selected.driver_feature = merge(selected.driver_feature, value, mask);
            }
            Common::QueueSelect => selected.queue = merge(selected.queue, value, mask),
            Common::DriverFeature => self.set_driver_feature(value, mask),
            Common::ConfigMsixVector => {
                self.config_vector = self.vector(bus, merge(NO_VECTOR, value, mask));
            }
            Common::DeviceStatus => self.set_status(bus, merge(self.status, value, mask)),
            Common::QueueReset => {
                let index = usize::from(self.selected.queue);
                let offered = self.features & feature::RING_RESET != 0;
                if value & mask == 1 && offered && index < self.queues.len() {
                    self.reset_queue(index);
                }
            }
            id => self.set_queue(bus, id, value, mask),
        }
    }
}

fn status_names(value: u8) -> String {
    let names = [
        (status::ACKNOWLEDGE, "ACKNOWLEDGE"),
        (status::DRIVER, "DRIVER"),
        (status::DRIVER_OK, "DRIVER_OK"),
        (status::FEATURES_OK, "FEATURES_OK"),
        (status::DEVICE_NEEDS_RESET, "DEVICE_NEEDS_RESET"),
        (status::FAILED, "FAILED"),
    ];
    let set = names.into_iter().filter(|(bit, _)| value & bit != 0).map(|(_, name)| name);
    set.collect::<Vec<_>>().join("|")
}
