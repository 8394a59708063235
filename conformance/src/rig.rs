//! A virtio device driven far enough to make it do something: `understudy-client`'s transport and
//! rings, with every error turned into a verdict.

use understudy_client::vfio_user::{
    Client, ClientError, ClientOptions, Connection, Observer, SocketOptions, SocketPlatform,
};
use understudy_client::virtio::{Completion, Device, Queue, QueueOptions, Segment, Used};
use understudy_client::virtio_crypto::{CryptoError, Driver, Options};
use understudy_client::{DmaBuffer, DriverError, Platform, PlatformError};
use understudy_device::Nanos;

use crate::{Context, Stop, log};

/// Device memory that a rig has, in bytes.
const MEMORY: usize = 4 << 20;

/// A split ring without options.
pub(crate) const SPLIT: QueueOptions =
    QueueOptions { packed: false, indirect: false, event_idx: false };
/// A packed ring without options.
pub(crate) const PACKED: QueueOptions =
    QueueOptions { packed: true, indirect: false, event_idx: false };

impl From<PlatformError> for Stop {
    fn from(error: PlatformError) -> Self {
        match error {
            PlatformError::Timeout => Self::Wedged("an answer".into()),
            PlatformError::OutOfMemory { .. } => Self::Skip(error.to_string()),
            error => Self::fail("a device that takes the driver's accesses", error.to_string()),
        }
    }
}

impl From<DriverError> for Stop {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::Platform(error) => error.into(),
            DriverError::Timeout(what) => Self::Wedged(what.into()),
            DriverError::FeaturesRefused(bits) => {
                Self::Skip(format!("the device does not offer features {bits:#x}"))
            }
            error => Self::fail("a device that keeps its driver's rules", error.to_string()),
        }
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        PlatformError::from(error).into()
    }
}

impl From<CryptoError> for Stop {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::Status(status) => Self::fail("status OK", status.to_string()),
            CryptoError::Driver(error) => error.into(),
        }
    }
}

impl Context<'_> {
    /// A driver's platform over this device's socket.
    pub(crate) fn platform(&self, shared: bool) -> Result<SocketPlatform, Stop> {
        self.platform_with(MEMORY, shared)
    }

    /// As [`Context::platform`], with memory of `memory_size` bytes.
    pub(crate) fn platform_with(
        &self,
        memory_size: usize,
        shared: bool,
    ) -> Result<SocketPlatform, Stop> {
        let observer = Observer::new(log::message);
        let client = ClientOptions {
            timeout: self.left(),
            observer: Some(observer),
            ..ClientOptions::default()
        };
        let options = SocketOptions { client, memory_size, shared, ..SocketOptions::default() };
        let stream = crate::peer::dial(self.socket(), self.deadline())
            .map_err(|error| Stop::fail("the server takes a connection", error.to_string()))?;
        let client = Client::new(Connection::new(stream), options.client.clone())?;
        Ok(SocketPlatform::new(client, &options)?)
    }

    /// The virtio device, found and reset.
    pub(crate) fn virtio(&self) -> Result<Device<SocketPlatform>, Stop> {
        let id = self.profile.device.wrapping_sub(0x1040);
        Ok(Device::discover(self.platform(true)?, id)?)
    }

    /// The virtio-crypto device, started.
    pub(crate) fn crypto(&self, options: Options) -> Result<Driver<SocketPlatform>, Stop> {
        self.crypto_over(self.platform(true)?, options)
    }

    /// As [`Context::crypto`], over this platform.
    pub(crate) fn crypto_over(
        &self,
        platform: SocketPlatform,
        options: Options,
    ) -> Result<Driver<SocketPlatform>, Stop> {
        let left = u64::try_from(self.left().as_nanos()).unwrap_or(u64::MAX);
        Ok(Driver::new(platform, Options { timeout_nanos: left, ..options })?)
    }
}

/// A started device with one queue, and a buffer to give to it.
pub(crate) struct Rig {
    pub(crate) device: Device<SocketPlatform>,
    pub(crate) queue: Queue,
    buffer: DmaBuffer,
    deadline: Nanos,
    tokens: u64,
}

/// How a rig is built.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) queues: QueueOptions,
    pub(crate) completion: Completion,
    pub(crate) size: u16,
    /// Features beyond those that the queue needs.
    pub(crate) features: u64,
    /// Set DRIVER_OK.
    pub(crate) start: bool,
}

impl Default for Plan {
    fn default() -> Self {
        let completion = Completion::Polling;
        Self { queues: SPLIT, completion, size: 16, features: 0, start: true }
    }
}

impl Rig {
    /// Negotiates, sets queue 0 up, and starts the device.
    pub(crate) fn new(ctx: &Context<'_>, plan: Plan) -> Result<Self, Stop> {
        use understudy_client::virtio::feature;
        let mut device = ctx.virtio()?;
        let bits = [
            (plan.queues.packed, feature::RING_PACKED),
            (plan.queues.indirect, feature::INDIRECT_DESC),
            (plan.queues.event_idx, feature::EVENT_IDX),
        ];
        let wanted = bits.iter().filter(|(on, _)| *on).fold(plan.features, |all, (_, b)| all | b);
        device.negotiate(wanted, 0)?;
        device.setup_interrupts(plan.completion, 1)?;
        let mut queue = device.setup_queue(0, plan.size, plan.queues)?;
        if plan.completion == Completion::Polling {
            queue.want_interrupt(&mut device.platform, false)?;
        }
        if plan.start {
            device.start()?;
        }
        let buffer = device.platform.dma_alloc(4096, 4096)?;
        let left = u64::try_from(ctx.left().as_nanos()).unwrap_or(u64::MAX);
        let deadline = device.platform.now().plus(left);
        Ok(Self { device, queue, buffer, deadline, tokens: 0 })
    }

    /// The platform beneath.
    pub(crate) fn platform(&mut self) -> &mut SocketPlatform {
        &mut self.device.platform
    }

    /// The end of the check's time.
    pub(crate) fn deadline(&self) -> Nanos {
        self.deadline
    }

    /// Memory that no ring uses: a page.
    pub(crate) fn page(&self) -> DmaBuffer {
        self.buffer
    }

    /// Makes a buffer available that any request queue takes: zeroes to read, room to write.
    pub(crate) fn add(&mut self) -> Result<u64, Stop> {
        let (read, write) = (self.buffer.at(0), self.buffer.at(2048));
        self.add_at(read, write)
    }

    /// As [`Rig::add`], of memory elsewhere: 128 bytes to read, 64 to write.
    pub(crate) fn add_at(&mut self, read: u64, write: u64) -> Result<u64, Stop> {
        let readable = [Segment { iova: read, len: 128 }];
        let writable = [Segment { iova: write, len: 64 }];
        self.tokens += 1;
        self.queue.add(&mut self.device.platform, &readable, &writable, self.tokens)?;
        Ok(self.tokens)
    }

    /// Makes a buffer available and rings the doorbell, wanted or not.
    pub(crate) fn submit(&mut self) -> Result<u64, Stop> {
        let token = self.add()?;
        self.device.notify(&self.queue)?;
        Ok(token)
    }

    /// Waits for a buffer to come back.
    pub(crate) fn used(&mut self) -> Result<Used, Stop> {
        Ok(self.device.wait_used(&mut self.queue, self.deadline)?)
    }

    /// One buffer there and back: the device works.
    pub(crate) fn round_trip(&mut self) -> Result<(), Stop> {
        let token = self.submit()?;
        let used = self.used()?;
        crate::verdict::expect_eq("the used buffer", &used.token, &token)
    }

    /// A round trip over the socket: whatever the device had to do for commands before it, and
    /// could do at once, is done.
    pub(crate) fn settle(&mut self) -> Result<(), Stop> {
        // A server may work between messages; a few rounds give it every occasion.
        for _ in 0..8 {
            self.device.status()?;
        }
        Ok(())
    }
}
