//! The modern PCI transport (virtio 1.3 §4.1).

use understudy_device::Nanos;

use crate::error::DriverError;
use crate::pci::{self, Function};
use crate::platform::{Access, Activity, Interrupts, Platform};
use crate::virtio::queue::{Queue, QueueOptions, Used};
use crate::virtio::{feature, status};

/// Registers of the common configuration structure (§4.1.4.3), by offset.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DEVICE_FEATURE: u64 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const CONFIG_MSIX_VECTOR: u64 = 0x10;
    pub(super) const NUM_QUEUES: u64 = 0x12;
    pub(super) const DEVICE_STATUS: u64 = 0x14;
    pub(super) const CONFIG_GENERATION: u64 = 0x15;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_MSIX_VECTOR: u64 = 0x1a;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(super) const QUEUE_DESC: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
    pub(super) const QUEUE_RESET: u64 = 0x3a;
    pub(super) const LEN: u64 = 0x38;
}

const VENDOR: u16 = 0x1af4;
const MODERN_BASE: u16 = 0x1040;
const NO_VECTOR: u16 = 0xffff;
/// A device that does not finish a register operation in this time is broken.
const REGISTER_TIMEOUT_NANOS: u64 = 5_000_000_000;
/// While waiting, look at this interval whether the device has given up.
const HEALTH_INTERVAL_NANOS: u64 = 20_000_000;

/// How a driver learns of used buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// It looks at the ring.
    Polling,
    /// The INTx line.
    Intx,
    /// MSI-X: vector 0 for configuration changes, one for each queue while they last.
    Msix,
}

/// Where a configuration structure lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structure {
    /// BAR.
    pub bar: u8,
    /// Offset in the BAR.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

#[derive(Debug)]
struct Structures {
    common: Structure,
    notify: Structure,
    multiplier: u32,
    isr: Structure,
    device: Option<Structure>,
    /// Offset in config space of the configuration access capability.
    window: Option<u64>,
}

/// A virtio device over PCI, and its driver's part of the transport.
#[derive(Debug)]
pub struct Device<P> {
    /// What the device is reached through.
    pub platform: P,
    /// The PCI function.
    pub function: Function,
    structures: Structures,
    completion: Completion,
    vectors: u16,
    features: u64,
    /// Byte offset of each queue's doorbell in the notification structure, by queue.
    doorbells: Vec<u64>,
}

impl<P: Platform> Device<P> {
    /// Finds a modern virtio device of type `id` (§5) and its structures, enables memory decoding
    /// and bus mastering, and resets the device.
    ///
    /// # Errors
    /// What is missing or inconsistent.
    pub fn discover(mut platform: P, id: u16) -> Result<Self, DriverError> {
        let function = Function::discover(&mut platform)?;
        let (vendor, device) = (function.vendor, function.device);
        if vendor != VENDOR || Some(device) != MODERN_BASE.checked_add(id) {
            return Err(DriverError::WrongDevice { vendor, device });
        }
        let structures = Structures::find(&mut platform, &function)?;
        function.enable(&mut platform)?;
        let mut device = Self {
            platform,
            function,
            structures,
            completion: Completion::Polling,
            vectors: 0,
            features: 0,
            doorbells: Vec::new(),
        };
        device.reset()?;
        Ok(device)
    }

    /// Resets the device and waits until it has (§4.1.4.3.2). All queues are gone then.
    ///
    /// # Errors
    /// [`DriverError::Timeout`], or a failed access.
    pub fn reset(&mut self) -> Result<(), DriverError> {
        self.write_u8(common::DEVICE_STATUS, 0)?;
        self.features = 0;
        self.doorbells.clear();
        self.until("reset", |device| Ok(device.status()? == 0))
    }

    /// The device status field.
    ///
    /// # Errors
    /// If the access fails.
    pub fn status(&mut self) -> Result<u8, DriverError> {
        let at = self.structures.common;
        Ok(self.platform.bar_u8(at.bar, at.offset + common::DEVICE_STATUS)?)
    }

    /// Sets bits of the device status field.
    ///
    /// # Errors
    /// If an access fails.
    pub fn add_status(&mut self, bits: u8) -> Result<(), DriverError> {
        let status = self.status()?;
        self.write_u8(common::DEVICE_STATUS, status | bits)
    }

    /// The features that the device offers.
    ///
    /// # Errors
    /// If an access fails.
    pub fn offered_features(&mut self) -> Result<u64, DriverError> {
        self.write_u32(common::DEVICE_FEATURE_SELECT, 0)?;
        let low = self.read_u32(common::DEVICE_FEATURE)?;
        self.write_u32(common::DEVICE_FEATURE_SELECT, 1)?;
        let high = self.read_u32(common::DEVICE_FEATURE)?;
        Ok(u64::from(low) | u64::from(high) << 32)
    }

    /// Steps 2 to 6 of initialization (§3.1.1): takes what is offered of `optional`, and all of
    /// `required`, which always includes `VERSION_1`. Returns what was agreed on.
    ///
    /// # Errors
    /// [`DriverError::FeaturesRefused`].
    pub fn negotiate(&mut self, required: u64, optional: u64) -> Result<u64, DriverError> {
        self.add_status(status::ACKNOWLEDGE)?;
        self.add_status(status::DRIVER)?;
        let required = required | feature::VERSION_1;
        let offered = self.offered_features()?;
        if required & !offered != 0 {
            self.add_status(status::FAILED)?;
            return Err(DriverError::FeaturesRefused(required & !offered));
        }
        let chosen = offered & (required | optional);
        for (select, shift) in [(0, 0), (1, 32)] {
            let bits = u32::try_from(chosen >> shift & 0xffff_ffff).unwrap_or(0);
            self.write_u32(common::DRIVER_FEATURE_SELECT, select)?;
            self.write_u32(common::DRIVER_FEATURE, bits)?;
        }
        self.add_status(status::FEATURES_OK)?;
        if self.status()? & status::FEATURES_OK == 0 {
            return Err(DriverError::FeaturesRefused(chosen));
        }
        self.features = chosen;
        Ok(chosen)
    }

    /// What was negotiated.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Sets up interrupts for `queues` queues, before [`setup_queue`](Self::setup_queue). Fewer
    /// MSI-X vectors than queues are shared.
    ///
    /// # Errors
    /// [`PlatformError::NoInterrupts`](crate::PlatformError::NoInterrupts), or a failed access.
    pub fn setup_interrupts(&mut self, how: Completion, queues: u16) -> Result<(), DriverError> {
        self.completion = how;
        let kind = match how {
            Completion::Polling => Interrupts::None,
            Completion::Intx => Interrupts::Intx,
            Completion::Msix => {
                let table = self.function.msix.as_ref().map_or(0, |msix| msix.vectors);
                self.vectors = table.min(queues.saturating_add(1));
                Interrupts::Msix(self.vectors)
            }
        };
        self.function.connect(&mut self.platform, kind)?;
        if how == Completion::Msix {
            self.write_vector(common::CONFIG_MSIX_VECTOR, 0)?;
        }
        Ok(())
    }

    /// The number of queues that the device has.
    ///
    /// # Errors
    /// If the access fails.
    pub fn num_queues(&mut self) -> Result<u16, DriverError> {
        self.read_u16(common::NUM_QUEUES)
    }

    /// Allocates queue `index` with at most `max_size` descriptors, programs and enables it
    /// (§4.1.5.1.3).
    ///
    /// # Errors
    /// [`DriverError::BadQueueSize`] if the device has no such queue; or what it does not keep.
    pub fn setup_queue(
        &mut self,
        index: u16,
        max_size: u16,
        options: QueueOptions,
    ) -> Result<Queue, DriverError> {
        self.write_u16(common::QUEUE_SELECT, index)?;
        let offered = self.read_u16(common::QUEUE_SIZE)?;
        if offered == 0 || (!options.packed && !offered.is_power_of_two()) {
            return Err(DriverError::BadQueueSize { queue: index, size: offered });
        }
        let size = offered.min(max_size);
        self.write_u16(common::QUEUE_SIZE, size)?;
        let vector = self.vector_of(index);
        if let Some(vector) = vector {
            self.write_vector(common::QUEUE_MSIX_VECTOR, vector)?;
        }
        let doorbell = self.doorbell(index)?;
        let queue = Queue::new(&mut self.platform, index, size, options)?;
        let [descriptors, driver, device] = queue.areas();
        self.write_u64(common::QUEUE_DESC, descriptors.iova)?;
        self.write_u64(common::QUEUE_DRIVER, driver.iova)?;
        self.write_u64(common::QUEUE_DEVICE, device.iova)?;
        self.write_u16(common::QUEUE_ENABLE, 1)?;
        let slot = usize::from(index);
        if self.doorbells.len() <= slot {
            self.doorbells.resize(slot + 1, 0);
        }
        if let Some(entry) = self.doorbells.get_mut(slot) {
            *entry = doorbell;
        }
        Ok(queue)
    }

    /// Sets `DRIVER_OK`: the device is live.
    ///
    /// # Errors
    /// [`DriverError::NeedsReset`], or a failed access.
    pub fn start(&mut self) -> Result<(), DriverError> {
        self.add_status(status::DRIVER_OK)?;
        self.check_health()
    }

    /// Resets one queue (`RING_RESET`, §2.6.1) and waits until that is done.
    ///
    /// # Errors
    /// [`DriverError::Timeout`], or a failed access.
    pub fn reset_queue(&mut self, index: u16) -> Result<(), DriverError> {
        self.write_u16(common::QUEUE_SELECT, index)?;
        self.write_u16(common::QUEUE_RESET, 1)?;
        self.until("queue reset", |device| Ok(device.read_u16(common::QUEUE_RESET)? == 0))
    }

    /// Tells the device about new buffers, unless it does not want to know.
    ///
    /// # Errors
    /// If an access fails.
    pub fn kick(&mut self, queue: &mut Queue) -> Result<(), DriverError> {
        if queue.must_notify(&mut self.platform)? { self.notify(queue) } else { Ok(()) }
    }

    /// Rings the queue's doorbell (§4.1.5.2).
    ///
    /// # Errors
    /// If the access fails.
    pub fn notify(&mut self, queue: &Queue) -> Result<(), DriverError> {
        let at = self.structures.notify;
        let doorbell = self.doorbells.get(usize::from(queue.index())).copied().unwrap_or(0);
        let [a, b] = queue.index().to_le_bytes();
        let [c, d] = queue.position().to_le_bytes();
        let value = [a, b, c, d];
        let len = if self.features & feature::NOTIFICATION_DATA != 0 { 4 } else { 2 };
        Ok(self.platform.bar_write(at.bar, at.offset + doorbell, &value[..len])?)
    }

    /// Waits for the next used buffer of a queue, by the means chosen in
    /// [`setup_interrupts`](Self::setup_interrupts).
    ///
    /// # Errors
    /// [`DriverError::Timeout`] at `deadline`, or as soon as it is clear that nothing will come;
    /// [`DriverError::NeedsReset`]; or what the device did wrong.
    pub fn wait_used(&mut self, queue: &mut Queue, deadline: Nanos) -> Result<Used, DriverError> {
        let mut checked = self.platform.now();
        loop {
            if let Some(used) = queue.take(&mut self.platform)? {
                return Ok(used);
            }
            let now = self.platform.now();
            if now.0.saturating_sub(checked.0) >= HEALTH_INTERVAL_NANOS {
                checked = now;
                self.check_health()?;
            }
            if now >= deadline || !self.wait_activity(queue, deadline)? {
                // It may have come between the look and the end of the wait.
                if let Some(used) = queue.take(&mut self.platform)? {
                    return Ok(used);
                }
                self.check_health()?;
                return Err(DriverError::Timeout("a used buffer"));
            }
        }
    }

    /// Waits for a sign of life. `false` if waiting longer is of no use.
    fn wait_activity(&mut self, queue: &mut Queue, deadline: Nanos) -> Result<bool, DriverError> {
        let vector = match self.completion {
            Completion::Polling => return Ok(self.platform.idle(deadline)? == Activity::Active),
            Completion::Intx => 0,
            Completion::Msix => self.vector_of(queue.index()).unwrap_or(0),
        };
        queue.want_interrupt(&mut self.platform, true)?;
        // Sleep only if nothing came in before the device knew that we want an interrupt.
        if queue.has_used(&mut self.platform)? {
            return Ok(true);
        }
        let slice = self.platform.now().plus(HEALTH_INTERVAL_NANOS).min(deadline);
        let came = self.platform.wait_interrupt(vector, slice)?;
        queue.want_interrupt(&mut self.platform, false)?;
        if self.completion == Completion::Intx {
            self.isr()?;
            self.platform.unmask_intx()?;
        }
        // A slice that ran out is not the end; a platform that gave up early is.
        Ok(came || self.platform.now() >= slice)
    }

    /// Reads and so clears the ISR status (§4.1.4.5).
    ///
    /// # Errors
    /// If the access fails.
    pub fn isr(&mut self) -> Result<u8, DriverError> {
        let at = self.structures.isr;
        Ok(self.platform.bar_u8(at.bar, at.offset)?)
    }

    /// Fails if the device asks for a reset.
    ///
    /// # Errors
    /// [`DriverError::NeedsReset`], or a failed access.
    pub fn check_health(&mut self) -> Result<(), DriverError> {
        if self.status()? & status::DEVICE_NEEDS_RESET != 0 {
            return Err(DriverError::NeedsReset);
        }
        Ok(())
    }

    /// Reads the device-specific configuration in 32-bit accesses, all of it from one generation
    /// (§2.5.1).
    ///
    /// # Errors
    /// [`DriverError::Missing`] if there is none that long.
    pub fn device_config(&mut self, words: &mut [u32]) -> Result<(), DriverError> {
        let at = self.structures.device.filter(|at| at.len >= words.len() as u64 * 4);
        let at = at.ok_or(DriverError::Missing("device configuration structure"))?;
        // A configuration that changes faster than it can be read is a broken device.
        for _ in 0..16 {
            let before = self.read_u8(common::CONFIG_GENERATION)?;
            for (offset, word) in (at.offset..).step_by(4).zip(words.iter_mut()) {
                *word = self.platform.bar_u32(at.bar, offset)?;
            }
            if self.read_u8(common::CONFIG_GENERATION)? == before {
                return Ok(());
            }
        }
        Err(DriverError::Timeout("a stable device configuration"))
    }

    /// Reads `into.len()` bytes (1, 2 or 4) of a BAR through the window in config space (§4.1.4.9).
    ///
    /// # Errors
    /// [`DriverError::Missing`] if the device has no such window.
    pub fn window_read(
        &mut self,
        bar: u8,
        offset: u32,
        into: &mut [u8],
    ) -> Result<(), DriverError> {
        let at = self.aim_window(bar, offset, into.len())?;
        Ok(self.platform.config_read(at + 16, into)?)
    }

    /// Writes `from.len()` bytes (1, 2 or 4) of a BAR through the window in config space.
    ///
    /// # Errors
    /// [`DriverError::Missing`] if the device has no such window.
    pub fn window_write(&mut self, bar: u8, offset: u32, from: &[u8]) -> Result<(), DriverError> {
        let at = self.aim_window(bar, offset, from.len())?;
        Ok(self.platform.config_write(at + 16, from)?)
    }

    fn aim_window(&mut self, bar: u8, offset: u32, len: usize) -> Result<u64, DriverError> {
        let at = self.structures.window.ok_or(DriverError::Missing("configuration window"))?;
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.platform.config_write(at + 4, &[bar])?;
        self.platform.config_write(at + 8, &offset.to_le_bytes())?;
        self.platform.config_write(at + 12, &len.to_le_bytes())?;
        Ok(at)
    }

    /// Where the common configuration structure is.
    #[must_use]
    pub fn common(&self) -> Structure {
        self.structures.common
    }

    /// Where the notification structure is, and its `notify_off_multiplier`.
    #[must_use]
    pub fn notifications(&self) -> (Structure, u32) {
        (self.structures.notify, self.structures.multiplier)
    }

    fn until(
        &mut self,
        what: &'static str,
        mut done: impl FnMut(&mut Self) -> Result<bool, DriverError>,
    ) -> Result<(), DriverError> {
        let deadline = self.platform.now().plus(REGISTER_TIMEOUT_NANOS);
        loop {
            if done(self)? {
                return Ok(());
            }
            let quiet = self.platform.idle(deadline)? == Activity::Quiet;
            if quiet || self.platform.now() >= deadline {
                return if done(self)? { Ok(()) } else { Err(DriverError::Timeout(what)) };
            }
        }
    }

    fn vector_of(&self, queue: u16) -> Option<u16> {
        let last = self.vectors.checked_sub(1)?;
        (self.completion == Completion::Msix).then(|| queue.saturating_add(1).min(last))
    }

    /// Maps an event to a vector and checks that the device accepted it (§4.1.5.1.2.2).
    fn write_vector(&mut self, register: u64, vector: u16) -> Result<(), DriverError> {
        self.write_u16(register, vector)?;
        let found = self.read_u16(register)?;
        if found == NO_VECTOR || found != vector {
            let (written, found) = (u64::from(vector), u64::from(found));
            return Err(DriverError::NotKept { register: "msix_vector", written, found });
        }
        Ok(())
    }

    fn doorbell(&mut self, index: u16) -> Result<u64, DriverError> {
        let off = u64::from(self.read_u16(common::QUEUE_NOTIFY_OFF)?);
        let doorbell = off * u64::from(self.structures.multiplier);
        let width = if self.features & feature::NOTIFICATION_DATA != 0 { 4 } else { 2 };
        if doorbell + width > self.structures.notify.len {
            let (written, found) = (u64::from(index), off);
            return Err(DriverError::NotKept { register: "queue_notify_off", written, found });
        }
        Ok(doorbell)
    }

    fn read_u8(&mut self, register: u64) -> Result<u8, DriverError> {
        let at = self.structures.common;
        Ok(self.platform.bar_u8(at.bar, at.offset + register)?)
    }

    fn read_u16(&mut self, register: u64) -> Result<u16, DriverError> {
        let at = self.structures.common;
        Ok(self.platform.bar_u16(at.bar, at.offset + register)?)
    }

    fn read_u32(&mut self, register: u64) -> Result<u32, DriverError> {
        let at = self.structures.common;
        Ok(self.platform.bar_u32(at.bar, at.offset + register)?)
    }

    fn write_u8(&mut self, register: u64, value: u8) -> Result<(), DriverError> {
        self.write(register, &[value])
    }

    fn write_u16(&mut self, register: u64, value: u16) -> Result<(), DriverError> {
        self.write(register, &value.to_le_bytes())
    }

    fn write_u32(&mut self, register: u64, value: u32) -> Result<(), DriverError> {
        self.write(register, &value.to_le_bytes())
    }

    /// As two 32-bit accesses, low half first (§4.1.3.1).
    fn write_u64(&mut self, register: u64, value: u64) -> Result<(), DriverError> {
        let bytes = value.to_le_bytes();
        let (low, high) = bytes.split_at(4);
        self.write(register, low)?;
        self.write(register + 4, high)
    }

    fn write(&mut self, register: u64, bytes: &[u8]) -> Result<(), DriverError> {
        let at = self.structures.common;
        Ok(self.platform.bar_write(at.bar, at.offset + register, bytes)?)
    }
}

impl Structures {
    /// Reads the vendor capabilities; the first of each kind counts (§4.1.4).
    fn find(p: &mut impl Platform, function: &Function) -> Result<Self, DriverError> {
        let (mut common, mut notify, mut isr, mut device) = (None, None, None, None);
        let mut window = None;
        for capability in function.capabilities(pci::cap::VENDOR) {
            let at = capability.offset;
            let (len, cfg_type) = (p.config_u8(at + 2)?, p.config_u8(at + 3)?);
            if len < 16 {
                return Err(DriverError::BadConfig { offset: at, what: "capability too short" });
            }
            match cfg_type {
                1 => keep(&mut common, read_structure(p, function, at)?),
                2 if len >= 20 => {
                    let structure = read_structure(p, function, at)?;
                    let multiplier = p.config_u32(at + 16)?;
                    keep(&mut notify, structure.map(|structure| (structure, multiplier)));
                }
                3 => keep(&mut isr, read_structure(p, function, at)?),
                4 => keep(&mut device, read_structure(p, function, at)?),
                5 if len >= 20 => keep(&mut window, Some(at)),
                _ => {}
            }
        }
        let common = common.filter(|at: &Structure| at.len >= common::LEN);
        let common = common.ok_or(DriverError::Missing("common configuration structure"))?;
        let (notify, multiplier) = notify.ok_or(DriverError::Missing("notification structure"))?;
        let isr = isr.ok_or(DriverError::Missing("ISR structure"))?;
        Ok(Self { common, notify, multiplier, isr, device, window })
    }
}

fn keep<T>(slot: &mut Option<T>, found: Option<T>) {
    if slot.is_none() {
        *slot = found;
    }
}

/// `None` for a reserved BAR value, which drivers must ignore.
fn read_structure(
    p: &mut impl Platform,
    function: &Function,
    at: u64,
) -> Result<Option<Structure>, DriverError> {
    let bar = p.config_u8(at + 4)?;
    let (offset, len) = (u64::from(p.config_u32(at + 8)?), u64::from(p.config_u32(at + 12)?));
    if bar > 5 {
        return Ok(None);
    }
    let inside = function.bar(bar).is_some_and(|bar| offset + len <= bar.size && len > 0);
    if !inside {
        return Err(DriverError::BadConfig { offset: at, what: "structure outside its BAR" });
    }
    Ok(Some(Structure { bar, offset, len }))
}
