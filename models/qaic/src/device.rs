//! The function: power states, boot, channels.
//!
//! - `access`: what reads and writes of registers do.
//! - `inspect`: what it shows of itself.

mod access;
mod inspect;

use understudy_device::{
    AccessError, Bar, Bus, Decoder, DeviceModel, FinishedJob, Identity, ParameterError, Progress,
    RegisterFile, ResetKind, State, Vector,
};

use crate::boot::{Loader, SAHARA_FROM_HOST, TIMESYNC_FROM_HOST, is_time};
use crate::bridge::{self, Channel};
use crate::control::Control;
use crate::layout::kind;
use crate::message::number;
use crate::mhi::{CHANNELS as MHI_CHANNELS, Message, Mhi, is_boot_channel, raise};
use crate::parameters::{Boot, Parameters, identity};
use crate::registers::{
    BRIDGE, BRIDGE_BAR, CHANNELS, MHI, MHI_BAR, MhiRegister, STATE_SHIFT, STATUS_READY,
    STATUS_SYSERR,
};
use crate::workload::Finished;
use access::{BridgeAccess, bridge_channel};

/// Channels of the runtime firmware.
const LOOPBACK_FROM_HOST: u8 = 0;
const LOOPBACK_TO_HOST: u8 = 1;
const SSR_FROM_HOST: u8 = 6;
const SSR_TO_HOST: u8 = 7;
const CONTROL_FROM_HOST: u8 = 10;
const CONTROL_TO_HOST: u8 = 11;
const TIMESYNC_PERIODIC_FROM_HOST: u8 = 22;

/// Messages about the restart of a workload, and its events (`qaic_ssr.c`).
const SSR_EVENT: u32 = 1 << 8;
const SSR_EVENT_RESPONSE: u32 = 1 << 9;
const SSR_BEFORE_SHUTDOWN: u32 = 1 << 1;
const SSR_AFTER_POWER_UP: u32 = 1 << 4;

/// Most bytes of a boot image.
const IMAGE_MAX: u32 = 64 << 20;
/// Bytes of an image that are read at once.
const IMAGE_STEP: usize = 1 << 20;
/// `BHI_STATUS`
const IMAGE_SUCCESS: u32 = 2 << 30;
const IMAGE_ERROR: u32 = 3 << 30;
/// Why an image was not taken: its size, its memory.
const ERROR_SIZE: u64 = 1;
const ERROR_MEMORY: u64 = 2;

/// Execution environment (`enum mhi_ee_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Environment {
    /// Primary boot loader.
    Pbl = 0,
    /// Second boot loader.
    Sbl = 1,
    /// Runtime firmware.
    Amss = 2,
}

/// Power state (`enum mhi_state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PowerState {
    Reset = 0,
    Ready = 1,
    M0 = 2,
    M2 = 4,
    M3 = 5,
    SystemError = 0xff,
}

impl PowerState {
    fn name(self) -> &'static str {
        match self {
            Self::Reset => "RESET",
            Self::Ready => "READY",
            Self::M0 => "M0",
            Self::M2 => "M2",
            Self::M3 => "M3",
            Self::SystemError => "SYS_ERR",
        }
    }
}

/// What the host asked for that takes memory accesses or interrupts.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    image: bool,
    state: Option<PowerState>,
    soc_reset: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    runs: u64,
    crashes: u64,
    system_errors: u64,
    soc_resets: u64,
    mhi_resets: u64,
    images: u64,
    image_errors: u64,
    wakes: u64,
    times: u64,
}

/// A Cloud AI 100.
pub struct Qaic {
    identity: Identity,
    parameters: Parameters,
    file: RegisterFile<MhiRegister>,
    environment: Environment,
    state: PowerState,
    ready: bool,
    /// The environment was told since MHI was reset.
    announced: bool,
    asked: Asked,
    mhi: Mhi,
    loader: Loader,
    control: Control,
    channels: Vec<Option<Box<Channel>>>,
    /// The channel to serve first, so that none starves.
    first: usize,
    bridge: bridge::Tally,
    counters: Counters,
    /// Why the device or a workload crashed last.
    crash: String,
}

impl Qaic {
    /// The function at power-on.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn new(parameters: Parameters) -> Result<Self, ParameterError> {
        let memory = parameters.memory_mb;
        ParameterError::check([("memory_mb", memory.into(), 16..=32768, "16 to 32768")])?;
        let mut it = Self {
            identity: identity(),
            file: RegisterFile::new(&MHI),
            environment: Environment::Pbl,
            state: PowerState::Reset,
            ready: false,
            announced: false,
            asked: Asked::default(),
            mhi: Mhi::default(),
            loader: Loader::default(),
            control: Control::new(u64::from(memory) << 20, parameters.crc),
            channels: (0..CHANNELS).map(|_| None).collect(),
            first: 0,
            bridge: bridge::Tally::default(),
            counters: Counters::default(),
            crash: String::new(),
            parameters,
        };
        it.power_on();
        Ok(it)
    }

    /// The chip is where it is at power-on. Counters stay.
    fn power_on(&mut self) {
        self.file.reset();
        self.asked = Asked::default();
        self.forget();
        let ready = self.parameters.boot == Boot::Amss;
        self.environment = if ready { Environment::Amss } else { Environment::Pbl };
        self.state = if ready { PowerState::Ready } else { PowerState::Reset };
        self.ready = ready;
    }

    /// Everything that the host has set up is gone.
    fn forget(&mut self) {
        self.mhi.reset();
        self.announced = false;
        self.loader = Loader::default();
        self.control.reset();
        self.channels.iter_mut().for_each(|channel| *channel = None);
    }

    fn register(&self, id: MhiRegister) -> u64 {
        self.file.at(id, 0).map_or(0, |at| self.file.get(at))
    }

    fn set(&mut self, id: MhiRegister, value: u64) {
        if let Some(at) = self.file.at(id, 0) {
            self.file.set(at, value);
        }
    }

    fn status(&self) -> u32 {
        let error = self.state == PowerState::SystemError;
        let bits = [(self.ready, STATUS_READY), (error, STATUS_SYSERR)];
        let flags = bits.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum::<u32>();
        flags | (self.state as u32) << STATE_SHIFT
    }

    /// An interrupt of the boot interface.
    fn boot_interrupt(&self, bus: &mut dyn Bus) {
        let vector = self.register(MhiRegister::InterruptVector);
        raise(bus, Vector(u16::try_from(vector).unwrap_or(0)));
    }

    /// The primary boot loader takes the image.
    fn load_image(&mut self, bus: &mut dyn Bus) {
        let session = self.register(MhiRegister::ImageDoorbell);
        let size = u32::try_from(self.register(MhiRegister::ImageSize)).unwrap_or(u32::MAX);
        let address = self.register(MhiRegister::ImageAddress);
        let result = match size {
            1..=IMAGE_MAX => read_image(bus, address, size).map_err(|()| ERROR_MEMORY),
            _ => Err(ERROR_SIZE),
        };
        let status = if result.is_ok() { IMAGE_SUCCESS } else { IMAGE_ERROR };
        self.set(MhiRegister::BootStatus, u64::from(status) | session);
        self.set(MhiRegister::ErrorCode, result.err().unwrap_or(0));
        if result.is_ok() {
            self.counters.images += 1;
            self.environment = Environment::Sbl;
            self.state = PowerState::Ready;
            self.ready = true;
        } else {
            self.counters.image_errors += 1;
        }
        self.boot_interrupt(bus);
    }

    /// The host wants another power state.
    fn change_state(&mut self, bus: &mut dyn Bus, state: PowerState) {
        match (self.state, state) {
            (PowerState::Ready, PowerState::M0) => self.start(bus),
            (PowerState::M2 | PowerState::M3, PowerState::M0)
            | (PowerState::M0 | PowerState::M2, PowerState::M3) => {
                self.state = state;
                self.mhi.notify(kind::STATE_CHANGE, state as u8);
            }
            (PowerState::M0, PowerState::M2) => self.state = state,
            (PowerState::M0 | PowerState::M2 | PowerState::M3, PowerState::SystemError) => {
                self.fail(bus, "the host asked for it");
            }
            // Not possible from here.
            _ => {}
        }
    }

    /// The rings are taken over, and the host learns the environment.
    fn start(&mut self, bus: &mut dyn Bus) {
        let [_, _, event_rings, _] =
            u32::try_from(self.register(MhiRegister::Config)).unwrap_or(0).to_le_bytes();
        let started = self.mhi.start(
            bus,
            self.register(MhiRegister::EventContexts),
            event_rings,
            self.register(MhiRegister::CommandContexts),
            self.register(MhiRegister::ChannelContexts),
        );
        if started.is_err() {
            return self.fail(bus, "the contexts of rings cannot be used");
        }
        self.state = PowerState::M0;
        self.mhi.notify(kind::STATE_CHANGE, PowerState::M0 as u8);
        if !self.announced {
            self.announced = true;
            self.mhi.notify(kind::ENVIRONMENT, self.environment as u8);
        }
    }

    /// The device crashes: it tells, and waits for MHI reset.
    fn fail(&mut self, bus: &mut dyn Bus, why: &str) {
        self.counters.system_errors += 1;
        why.clone_into(&mut self.crash);
        self.state = PowerState::SystemError;
        self.ready = false;
        self.mhi.notify(kind::STATE_CHANGE, PowerState::SystemError as u8);
        self.mhi.flush(bus);
        self.forget();
        self.boot_interrupt(bus);
    }

    /// MHI reset: the device does not touch the host's memory any more.
    fn reset_mhi(&mut self) {
        self.counters.mhi_resets += 1;
        if self.state == PowerState::SystemError {
            self.power_on();
        } else {
            self.forget();
            let booted = self.environment != Environment::Pbl;
            self.state = if booted { PowerState::Ready } else { PowerState::Reset };
            self.ready = booted;
            self.asked = Asked { image: self.asked.image && !booted, ..Asked::default() };
        }
        self.set(MhiRegister::Control, 0);
        self.set(MhiRegister::InterruptVector, 0);
    }

    /// The chip starts over. A host that had MHI running learns of it as of a crash.
    fn reset_soc(&mut self, bus: &mut dyn Bus) {
        self.counters.soc_resets += 1;
        let ran = !matches!(self.state, PowerState::Reset | PowerState::Ready);
        let vector = self.register(MhiRegister::InterruptVector);
        if ran && self.parameters.boot == Boot::Amss {
            // Nothing else would tell: the environment is the same.
            self.mhi.notify(kind::STATE_CHANGE, PowerState::SystemError as u8);
            self.mhi.flush(bus);
        }
        self.power_on();
        if ran {
            self.state = PowerState::SystemError;
            self.ready = false;
            self.set(MhiRegister::InterruptVector, vector);
            self.boot_interrupt(bus);
        }
    }

    /// What the host asked for by registers.
    fn obey(&mut self, bus: &mut dyn Bus) {
        let asked = std::mem::take(&mut self.asked);
        if asked.soc_reset {
            return self.reset_soc(bus);
        }
        if asked.image && self.environment == Environment::Pbl {
            self.load_image(bus);
        }
        if let Some(state) = asked.state {
            self.change_state(bus, state);
        }
    }

    /// Serves commands and channels.
    fn serve(&mut self, bus: &mut dyn Bus, budget: &mut u32) -> Progress {
        let environment = self.environment;
        let allowed = |channel| match environment {
            Environment::Sbl => is_boot_channel(channel),
            Environment::Amss => !is_boot_channel(channel) && channel < MHI_CHANNELS,
            Environment::Pbl => false,
        };
        let (started, mut progress) = self.mhi.serve_commands(bus, budget, allowed);
        if environment == Environment::Sbl {
            for channel in started {
                self.loader.started(&mut self.mhi, channel);
            }
        }
        for channel in (0..MHI_CHANNELS).filter(|channel| allowed(*channel)) {
            let then = if channel % 2 == 0 {
                self.receive(bus, channel, budget)
            } else {
                self.mhi.deliver(bus, channel, budget)
            };
            progress = progress.sooner(then);
        }
        if environment == Environment::Sbl && self.loader.is_done() && self.mhi.is_delivered(3) {
            self.environment = Environment::Amss;
            self.mhi.silence(is_boot_channel);
            self.mhi.notify(kind::ENVIRONMENT, Environment::Amss as u8);
        }
        self.mhi.flush(bus);
        progress
    }

    fn receive(&mut self, bus: &mut dyn Bus, channel: u8, budget: &mut u32) -> Progress {
        loop {
            if channel == CONTROL_FROM_HOST && self.control.is_busy() {
                return Progress::Idle;
            }
            let (message, progress) = self.mhi.receive(bus, channel, budget);
            let Some(message) = message else { return progress };
            self.take(bus, message);
        }
    }

    fn take(&mut self, bus: &mut dyn Bus, Message { channel, bytes }: Message) {
        match channel {
            LOOPBACK_FROM_HOST => self.mhi.send(LOOPBACK_TO_HOST, bytes),
            SAHARA_FROM_HOST => self.loader.sahara(&mut self.mhi, &bytes),
            TIMESYNC_FROM_HOST => self.loader.timesync(&mut self.mhi, &bytes),
            CONTROL_FROM_HOST => {
                if let Some(reply) = self.control.handle(bus, &mut self.channels, &bytes) {
                    self.mhi.send(CONTROL_TO_HOST, reply);
                }
            }
            SSR_FROM_HOST => self.go_on_restarting(&bytes),
            TIMESYNC_PERIODIC_FROM_HOST if is_time(&bytes) => self.counters.times += 1,
            _ => self.mhi.tally.dropped += 1,
        }
    }

    fn serve_bridge(&mut self, bus: &mut dyn Bus, budget: &mut u32) -> Progress {
        let count = self.channels.len();
        let mut progress = Progress::Idle;
        for step in 0..count {
            let index = (self.first + step) % count;
            if let Some(Some(channel)) = self.channels.get_mut(index) {
                progress = progress.sooner(channel.poll(bus, budget, &mut self.bridge));
            }
        }
        self.first = (self.first + 1) % count.max(1);
        progress
    }

    /// Runs until this point are over; counts, and crashes if a parameter says so.
    fn ran(&mut self, bus: &mut dyn Bus, index: usize, finished: Finished) {
        self.counters.runs += 1;
        if let Finished::Crash(why) = finished {
            self.counters.crashes += 1;
            self.crash = why;
            self.report_restart(u32::try_from(index).unwrap_or(0), SSR_BEFORE_SHUTDOWN);
        }
        if self.counters.runs == self.parameters.crash_after {
            self.fail(bus, "parameter crash_after");
        }
    }

    /// One event of the restart of a crashed workload (`struct ssr_event`).
    fn report_restart(&mut self, channel: u32, event: u32) {
        if self.mhi.is_running(SSR_TO_HOST) {
            let words = [SSR_EVENT, 16, channel, event];
            self.mhi.send(SSR_TO_HOST, words.iter().flat_map(|it| it.to_le_bytes()).collect());
        }
    }

    /// The host has taken note of an event: the next one follows.
    fn go_on_restarting(&mut self, message: &[u8]) {
        let word = |at| number(message, at).unwrap_or(0);
        let (kind, channel, event) = (word(0), word(8), word(12));
        let known = kind == SSR_EVENT_RESPONSE && event.is_power_of_two();
        if known && (SSR_BEFORE_SHUTDOWN..SSR_AFTER_POWER_UP).contains(&event) {
            self.report_restart(channel, event << 1);
        }
    }
}

fn read_image(bus: &mut dyn Bus, address: u64, size: u32) -> Result<(), ()> {
    let size = usize::try_from(size).map_err(|_| ())?;
    let mut buffer = vec![0; size.min(IMAGE_STEP)];
    let mut done = 0;
    while done < size {
        let step = (size - done).min(IMAGE_STEP);
        let at = address.checked_add(done as u64).ok_or(())?;
        bus.dma_read(at, &mut buffer[..step]).map_err(|_| ())?;
        done += step;
    }
    Ok(())
}

impl DeviceModel for Qaic {
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
        if bar == MHI_BAR {
            return Decoder(&MHI).read(self, bus, offset, data).map_err(|_| unmapped);
        }
        let found = bridge_channel(offset).filter(|_| bar == BRIDGE_BAR);
        let (channel, offset) = found.ok_or(unmapped)?;
        let mut access = BridgeAccess { device: self, channel };
        Decoder(&BRIDGE).read(&mut access, bus, offset, data).map_err(|_| unmapped)
    }

    fn write(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let unmapped = AccessError::Unmapped { offset };
        if bar == MHI_BAR {
            return Decoder(&MHI).write(self, bus, offset, data).map_err(|_| unmapped);
        }
        let found = bridge_channel(offset).filter(|_| bar == BRIDGE_BAR);
        let (channel, offset) = found.ok_or(unmapped)?;
        let mut access = BridgeAccess { device: self, channel };
        Decoder(&BRIDGE).write(&mut access, bus, offset, data).map_err(|_| unmapped)
    }

    fn poll(&mut self, bus: &mut dyn Bus, budget: u32) -> Progress {
        let mut budget = budget;
        self.obey(bus);
        // In M3 the device does not touch the host's memory.
        if !matches!(self.state, PowerState::M0 | PowerState::M2) {
            self.mhi.flush(bus);
            return Progress::Idle;
        }
        let progress = self.serve(bus, &mut budget);
        let progress = progress.sooner(self.serve_bridge(bus, &mut budget));
        if self.mhi.broken {
            self.fail(bus, "a ring cannot be accessed");
            return Progress::Idle;
        }
        progress
    }

    fn finish(&mut self, bus: &mut dyn Bus, done: FinishedJob) {
        let mut done = Some(done);
        if let Some(reply) = self.control.finish(bus, &mut self.channels, &mut done) {
            self.mhi.send(CONTROL_TO_HOST, reply);
        }
        for index in 0..self.channels.len() {
            let Some(Some(channel)) = self.channels.get_mut(index) else { continue };
            let finished = channel.workload.finish(&mut done);
            if finished != Finished::Other {
                return self.ran(bus, index, finished);
            }
        }
    }

    fn reset(&mut self, kind: ResetKind) {
        self.power_on();
        self.first = 0;
        if kind == ResetKind::PowerOn {
            self.counters = Counters::default();
            self.bridge = bridge::Tally::default();
            self.mhi = Mhi::default();
            self.control =
                Control::new(u64::from(self.parameters.memory_mb) << 20, self.parameters.crc);
            self.crash = String::new();
        }
    }

    fn inspect(&self) -> State {
        self.described()
    }
}
