//! Queues, submission and completion.

use std::collections::{BTreeMap, VecDeque};

use crate::error::DriverError;
use crate::platform::Platform;
use crate::virtio::{Completion, Device, Queue, QueueOptions, Used, feature as ring_feature};
use crate::virtio_crypto::buffer::{Prepared, Scatter};
use crate::virtio_crypto::feature;
use crate::virtio_crypto::request::{
    self, Akcipher, Chain, Direction, Encoded, Operation, Parameters, Session, Status, Target,
};

/// Virtio device type (§5.9.1).
const DEVICE_TYPE: u16 = 20;
/// `VIRTIO_CRYPTO_S_HW_READY`.
const HW_READY: u32 = 1;
const CONFIG_WORDS: usize = 14;
/// Bytes of struct virtio_crypto_create_session_input.
const CREATE_RESULT_LEN: u32 = 16;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// The device answered with an error status, as devices may.
    #[error(transparent)]
    Status(#[from] Status),
    /// The device or the driver did something wrong.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

impl CryptoError {
    /// The status that the device answered with, if it did.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Status(status) => Some(*status),
            Self::Driver(_) => None,
        }
    }
}

/// The device configuration (§5.9.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Config {
    /// Bit 0: ready.
    pub status: u32,
    /// Data queues.
    pub max_dataqueues: u32,
    /// One bit for each [`service`](crate::virtio_crypto::service).
    pub services: u32,
    /// One bit for each [`cipher`](crate::virtio_crypto::cipher).
    pub ciphers: u64,
    /// One bit for each [`hash`](crate::virtio_crypto::hash).
    pub hashes: u32,
    /// One bit for each [`mac`](crate::virtio_crypto::mac).
    pub macs: u64,
    /// One bit for each [`aead`](crate::virtio_crypto::aead).
    pub aeads: u32,
    /// Longest cipher key in bytes.
    pub max_cipher_key_len: u32,
    /// Longest MAC key in bytes.
    pub max_auth_key_len: u32,
    /// One bit for each [`akcipher`](crate::virtio_crypto::akcipher) algorithm.
    pub akciphers: u32,
    /// Most bytes of a request's variable-length fields.
    pub max_size: u64,
}

impl Config {
    fn from_words(words: [u32; CONFIG_WORDS]) -> Self {
        let [status, queues, services, c0, c1, hashes, m0, m1, aeads, ckey, akey, ak, s0, s1] =
            words;
        let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        Self {
            status,
            max_dataqueues: queues,
            services,
            ciphers: wide(c0, c1),
            hashes,
            macs: wide(m0, m1),
            aeads,
            max_cipher_key_len: ckey,
            max_auth_key_len: akey,
            akciphers: ak,
            max_size: wide(s0, s1),
        }
    }
}

/// How to use the device. What is asked for must be offered, or [`Driver::new`] fails; what is not
/// asked for is not negotiated.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Layout of the queues.
    pub queues: QueueOptions,
    /// Most descriptors in a queue.
    pub queue_size: u16,
    /// Data queues to use, as far as the device has them.
    pub data_queues: u16,
    /// How to learn of completions.
    pub completion: Completion,
    /// `VIRTIO_CRYPTO_F_REVISION_1`.
    pub revision_1: bool,
    /// Stateless modes to negotiate, of [`feature::STATELESS`].
    pub stateless: u64,
    /// Notifications carry the ring position (`NOTIFICATION_DATA`).
    pub notification_data: bool,
    /// How requests are cut into segments.
    pub scatter: Scatter,
    /// Check that the device writes only where it may. Costs a copy of each request.
    pub guard: bool,
    /// Longest time that one request may take, in nanoseconds.
    pub timeout_nanos: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queues: QueueOptions { packed: false, indirect: true, event_idx: true },
            queue_size: 256,
            data_queues: 1,
            completion: Completion::Polling,
            revision_1: true,
            stateless: feature::STATELESS,
            notification_data: false,
            scatter: Scatter::Fields,
            guard: true,
            timeout_nanos: 10_000_000_000,
        }
    }
}

impl Options {
    fn required(&self) -> u64 {
        let bits = [
            (self.queues.packed, ring_feature::RING_PACKED),
            (self.queues.indirect, ring_feature::INDIRECT_DESC),
            (self.queues.event_idx, ring_feature::EVENT_IDX),
            (self.notification_data, ring_feature::NOTIFICATION_DATA),
            (self.revision_1, feature::REVISION_1),
        ];
        let bits = bits.into_iter().filter(|(on, _)| *on).map(|(_, bit)| bit);
        bits.fold(self.stateless & feature::STATELESS, |all, bit| all | bit)
    }
}

/// Names a submitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A request that the device has used.
#[derive(Debug)]
pub struct Finished {
    /// Which request.
    pub ticket: Ticket,
    /// `None` for success.
    pub status: Option<Status>,
    /// Bytes that the device wrote, the status field included.
    pub len: u32,
    /// The request, which can be submitted again.
    pub request: Prepared,
}

#[derive(Debug)]
struct InFlight {
    queue: usize,
    request: Prepared,
}

/// A virtio-crypto device in use.
#[derive(Debug)]
pub struct Driver<P> {
    /// The transport. Tests reach under the driver here.
    pub device: Device<P>,
    config: Config,
    options: Options,
    /// Data queues, then the control queue.
    queues: Vec<Queue>,
    in_flight: BTreeMap<Ticket, InFlight>,
    finished: BTreeMap<Ticket, Finished>,
    /// The finished ones, in the order in which they finished.
    order: VecDeque<Ticket>,
    next_ticket: u64,
}

impl<P: Platform> Driver<P> {
    /// Finds the device, negotiates, sets up queues and starts it (§3.1, §5.9.6).
    ///
    /// # Errors
    /// What the device lacks or did wrong.
    pub fn new(platform: P, options: Options) -> Result<Self, DriverError> {
        let mut device = Device::discover(platform, DEVICE_TYPE)?;
        device.negotiate(options.required(), 0)?;
        let config = read_config(&mut device)?;
        let available = u16::try_from(config.max_dataqueues).unwrap_or(u16::MAX);
        let data = options.data_queues.clamp(1, available.max(1));
        device.setup_interrupts(options.completion, data.saturating_add(1))?;
        let mut queues = Vec::with_capacity(usize::from(data) + 1);
        // The control queue follows all data queues that the device has, used or not.
        for index in (0..data).chain([available]) {
            let mut queue = device.setup_queue(index, options.queue_size, options.queues)?;
            queue.want_interrupt(&mut device.platform, false)?;
            queues.push(queue);
        }
        device.start()?;
        if config.status & HW_READY == 0 {
            return Err(DriverError::Missing("HW_READY in its status"));
        }
        Ok(Self {
            device,
            config,
            options,
            queues,
            in_flight: BTreeMap::new(),
            finished: BTreeMap::new(),
            order: VecDeque::new(),
            next_ticket: 0,
        })
    }

    /// The device configuration as it was at the start.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was negotiated.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.device.features()
    }

    /// Data queues in use.
    #[must_use]
    pub fn data_queues(&self) -> usize {
        self.queues.len() - 1
    }

    /// A queue: data queues from 0, then the control queue. Tests reach under the driver here.
    pub fn queue(&mut self, index: usize) -> Option<(&mut Queue, &mut Device<P>)> {
        Some((self.queues.get_mut(index)?, &mut self.device))
    }

    /// Index of the control queue.
    #[must_use]
    pub fn control_queue(&self) -> usize {
        self.queues.len() - 1
    }

    /// Requests that the device holds.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Changes how later requests are cut into segments.
    pub fn set_scatter(&mut self, scatter: Scatter) {
        self.options.scatter = scatter;
    }

    /// Resets the device, frees all memory and gives the platform back.
    ///
    /// # Errors
    /// If the device does not reset.
    pub fn shut_down(mut self) -> Result<P, DriverError> {
        self.device.reset()?;
        let p = &mut self.device.platform;
        let held = self.in_flight.into_values().map(|held| held.request);
        for request in held.chain(self.finished.into_values().map(|done| done.request)) {
            request.release(p);
        }
        for queue in self.queues {
            queue.release(p);
        }
        Ok(self.device.platform)
    }

    // Requests, asynchronously.

    /// Encodes a data request for this device.
    ///
    /// # Errors
    /// [`DriverError::BadRequest`] if parameters and operation are of different kinds.
    pub fn encode(
        &self,
        target: Target<'_>,
        operation: &Operation<'_>,
    ) -> Result<Encoded, DriverError> {
        let encoded = request::data_request(self.features(), target, operation);
        encoded.ok_or(DriverError::BadRequest("parameters and operation do not match"))
    }

    /// Puts a request in memory for DMA.
    ///
    /// # Errors
    /// Out of memory.
    pub fn prepare(&mut self, queue: usize, encoded: &Encoded) -> Result<Prepared, DriverError> {
        let size = self.queues.get(queue).map_or(0, Queue::size);
        let (scatter, guard) = (self.options.scatter, self.options.guard);
        Prepared::new(&mut self.device.platform, encoded, scatter, size, guard)
    }

    /// Gives a prepared request to the device. The device is not notified until
    /// [`kick`](Self::kick).
    ///
    /// # Errors
    /// [`DriverError::QueueFull`], and the request back.
    pub fn post(
        &mut self,
        queue: usize,
        request: Prepared,
    ) -> Result<Ticket, (DriverError, Box<Prepared>)> {
        let Some(ring) = self.queues.get_mut(queue) else {
            return Err((DriverError::BadRequest("no such queue"), Box::new(request)));
        };
        let ticket = Ticket(self.next_ticket);
        let (p, token) = (&mut self.device.platform, ticket.0);
        if let Err(error) = ring.add(p, &request.readable, &request.writable, token) {
            return Err((error, Box::new(request)));
        }
        self.next_ticket += 1;
        self.in_flight.insert(ticket, InFlight { queue, request });
        Ok(ticket)
    }

    /// Notifies the device of what was posted on a queue, if it wants to know.
    ///
    /// # Errors
    /// If an access fails.
    pub fn kick(&mut self, queue: usize) -> Result<(), DriverError> {
        let ring = self.queues.get_mut(queue).ok_or(DriverError::BadRequest("no such queue"))?;
        self.device.kick(ring)
    }

    /// Prepares, posts and kicks.
    ///
    /// # Errors
    /// [`DriverError::QueueFull`], out of memory, or a failed access.
    pub fn submit_encoded(
        &mut self,
        queue: usize,
        encoded: &Encoded,
    ) -> Result<Ticket, DriverError> {
        let request = self.prepare(queue, encoded)?;
        match self.post(queue, request) {
            Ok(ticket) => {
                self.kick(queue)?;
                Ok(ticket)
            }
            Err((error, request)) => {
                request.release(&mut self.device.platform);
                Err(error)
            }
        }
    }

    /// Submits a data request on a data queue.
    ///
    /// # Errors
    /// As [`submit_encoded`](Self::submit_encoded) and [`encode`](Self::encode).
    pub fn submit(
        &mut self,
        queue: usize,
        target: Target<'_>,
        operation: &Operation<'_>,
    ) -> Result<Ticket, DriverError> {
        let encoded = self.encode(target, operation)?;
        self.submit_encoded(queue, &encoded)
    }

    /// Takes the request that has finished first, if there is one, without waiting.
    ///
    /// # Errors
    /// What the device did wrong.
    pub fn reap(&mut self) -> Result<Option<Finished>, DriverError> {
        for queue in 0..self.queues.len() {
            while let Some(ring) = self.queues.get_mut(queue) {
                let Some(used) = ring.take(&mut self.device.platform)? else { break };
                self.finish(queue, used)?;
            }
        }
        let first = self.order.pop_front();
        Ok(first.and_then(|ticket| self.finished.remove(&ticket)))
    }

    /// Waits for one request; others that finish meanwhile are kept.
    ///
    /// # Errors
    /// [`DriverError::Timeout`], or what the device did wrong.
    pub fn wait(&mut self, ticket: Ticket) -> Result<Finished, DriverError> {
        let deadline = self.device.platform.now().plus(self.options.timeout_nanos);
        loop {
            if let Some(finished) = self.finished.remove(&ticket) {
                self.order.retain(|other| *other != ticket);
                return Ok(finished);
            }
            let held = self.in_flight.get(&ticket);
            let queue = held.ok_or(DriverError::BadRequest("no such ticket"))?.queue;
            let Some(ring) = self.queues.get_mut(queue) else {
                return Err(DriverError::BadRequest("no such queue"));
            };
            let used = self.device.wait_used(ring, deadline)?;
            self.finish(queue, used)?;
        }
    }

    /// Moves a request from in flight to finished, and checks what the device left in it.
    fn finish(&mut self, queue: usize, used: Used) -> Result<(), DriverError> {
        let ticket = Ticket(used.token);
        let index = self.queues.get(queue).map_or(0, Queue::index);
        let held = self.in_flight.remove(&ticket);
        let held = held.ok_or(DriverError::UnknownId { queue: index, id: 0 })?;
        let p = &mut self.device.platform;
        held.request.check(p, index)?;
        let status = read_status(p, &held.request, index)?;
        let request = held.request;
        // A success without all of its result is a lie; so is one without a status.
        let need = if request.exact && status.is_none() { request.room } else { 1 };
        if used.len < need {
            let need = u64::from(need);
            return Err(DriverError::TooShort { queue: index, len: used.len, need });
        }
        self.finished.insert(ticket, Finished { ticket, status, len: used.len, request });
        self.order.push_back(ticket);
        Ok(())
    }

    /// The result of a finished data request; frees its memory.
    ///
    /// # Errors
    /// The device's status, or a failed access.
    pub fn result(&mut self, finished: Finished) -> Result<Vec<u8>, CryptoError> {
        let (status, request) = (finished.status, finished.request);
        let written = request.written(&mut self.device.platform);
        let status_len = request.status_len;
        request.release(&mut self.device.platform);
        if let Some(status) = status {
            return Err(status.into());
        }
        let mut written = written?;
        // What the device did not write is not part of the result.
        let len = finished.len.saturating_sub(status_len);
        written.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(written)
    }

    // Requests, one at a time.

    /// Creates a session.
    ///
    /// # Errors
    /// The device's status, or what went wrong.
    pub fn create_session(&mut self, parameters: &Parameters) -> Result<Session, CryptoError> {
        let encoded = request::create_session(self.features(), parameters);
        let ticket = self.submit_encoded(self.control_queue(), &encoded)?;
        let finished = self.wait(ticket)?;
        let written = finished.request.written(&mut self.device.platform);
        finished.request.release(&mut self.device.platform);
        if let Some(status) = finished.status {
            return Err(status.into());
        }
        let id = written?.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Ok(Session { id, service: parameters.service() })
    }

    /// Destroys a session.
    ///
    /// # Errors
    /// The device's status, or what went wrong.
    pub fn destroy_session(&mut self, session: Session) -> Result<(), CryptoError> {
        let encoded = request::destroy_session(self.features(), session);
        let ticket = self.submit_encoded(self.control_queue(), &encoded)?;
        let finished = self.wait(ticket)?;
        self.result(finished).map(|_| ())
    }

    /// Submits an operation on the first data queue and waits for its result.
    ///
    /// # Errors
    /// The device's status, or what went wrong.
    pub fn run(
        &mut self,
        target: Target<'_>,
        operation: &Operation<'_>,
    ) -> Result<Vec<u8>, CryptoError> {
        let ticket = self.submit(0, target, operation)?;
        let finished = self.wait(ticket)?;
        self.result(finished)
    }

    /// Encrypts or decrypts.
    ///
    /// # Errors
    /// The device's status, or what went wrong.
    pub fn cipher(
        &mut self,
        target: Target<'_>,
        direction: Direction,
        iv: &[u8],
        src: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.run(target, &Operation::Cipher { direction, iv, src })
    }

    /// Encrypts or decrypts, and hashes: destination data and hash.
    ///
    /// # Errors
    /// The device's status, or what went wrong.
    pub fn chain(
        &mut self,
        target: Target<'_>,
        chain: Chain<'_>,
    ) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        let mut data = self.run(target, &Operation::Chain(chain))?;
        let dst_len = usize::try_from(chain.dst_len).unwrap_or(usize::MAX);
        let hash = data.split_off(dst_len.min(data.len()));
        Ok((data, hash))
    }

    /// Hashes.
    ///
    /// # Errors
    /// The device's status, or what went wrong.
    pub fn hash(
        &mut self,
        target: Target<'_>,
        src: &[u8],
        result_len: u32,
    ) -> Result<Vec<u8>, CryptoError> {
        self.run(target, &Operation::Hash { src, result_len })
    }

    /// Authenticates.
    ///
    /// # Errors
    /// The device's status, or what went wrong.
    pub fn mac(
        &mut self,
        target: Target<'_>,
        src: &[u8],
        result_len: u32,
    ) -> Result<Vec<u8>, CryptoError> {
        self.run(target, &Operation::Mac { src, result_len })
    }

    /// Encrypts and authenticates (the result ends in the tag), or the reverse (`src` does).
    ///
    /// # Errors
    /// [`Status::BadMsg`] if the tag is wrong; the device's other status, or what went wrong.
    pub fn aead(
        &mut self,
        target: Target<'_>,
        direction: Direction,
        iv: &[u8],
        aad: &[u8],
        src: &[u8],
        tag_len: u32,
    ) -> Result<Vec<u8>, CryptoError> {
        self.run(target, &Operation::Aead { direction, iv, aad, src, tag_len })
    }

    /// Encrypts, decrypts or signs with an asymmetric key; at most `dst_len` bytes.
    ///
    /// # Errors
    /// The device's status, or what went wrong.
    pub fn akcipher(
        &mut self,
        target: Target<'_>,
        operation: Akcipher,
        src: &[u8],
        dst_len: u32,
    ) -> Result<Vec<u8>, CryptoError> {
        self.run(target, &Operation::Akcipher { operation, src, dst_len })
    }

    /// Checks a signature.
    ///
    /// # Errors
    /// [`Status::KeyRejected`] if it is wrong; the device's other status, or what went wrong.
    pub fn verify(
        &mut self,
        target: Target<'_>,
        signature: &[u8],
        digest: &[u8],
    ) -> Result<(), CryptoError> {
        self.run(target, &Operation::Verify { signature, digest }).map(|_| ())
    }
}

fn read_config<P: Platform>(device: &mut Device<P>) -> Result<Config, DriverError> {
    let mut words = [0; CONFIG_WORDS];
    device.device_config(&mut words)?;
    let config = Config::from_words(words);
    if !(1..=0xffff).contains(&config.max_dataqueues) {
        return Err(DriverError::Missing("data queues"));
    }
    Ok(config)
}

/// Decodes the status: the last byte, or the field after the session ID.
fn read_status(
    p: &mut impl Platform,
    request: &Prepared,
    queue: u16,
) -> Result<Option<Status>, DriverError> {
    let bytes = request.status_bytes(p)?;
    let status = if request.status_len == CREATE_RESULT_LEN {
        bytes
            .get(8..)
            .and_then(|rest| rest.first_chunk())
            .map_or(u32::MAX, |b| u32::from_le_bytes(*b))
    } else {
        bytes.first().map_or(u32::MAX, |byte| u32::from(*byte))
    };
    Status::from_wire(status).map_err(|status| DriverError::BadStatus { queue, status })
}
