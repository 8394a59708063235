//! Registers, the mailbox, rings, and requests with their buffers.

use std::collections::BTreeMap;

use understudy_device::Nanos;

use super::memory::{Buffer, Memory};
use super::message::{self, Buffers, Compression, Content, PublicKey, Symmetric};
use super::{misc, ring};
use crate::error::DriverError;
use crate::pci::Function;
use crate::platform::{Access, Activity, DmaBuffer, Interrupts, Platform};

const VENDOR: u16 = 0x8086;
const DEVICES: [u16; 3] = [0x37c9, 0x19e3, 0x0443];
const RINGS: u8 = 0;
const MISC: u8 = 2;
/// Response rings follow the request rings.
const RESPONSES: u64 = 8;
const EMPTY: [u8; 4] = [0x7f; 4];
const RESPONSE_LEN: usize = 32;
/// What Linux lets interrupts be held back for.
const COALESCE_NANOS: u32 = 0x27ff;

const IN_USE: u32 = 0x6ac2;
const IN_USE_MASK: u32 = 0xfffe;
const PENDING: u32 = 1;
const SYSTEM: u32 = 2;
/// Receivers clear the mark from this version of the protocol.
const FAST_ACK: u8 = 3;

/// How to use the device.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Learn of responses by interrupt, as Linux does; else look at memory, as DPDK does.
    pub interrupts: bool,
    /// Buffers are lists of pieces of this many bytes; `None` for flat ones.
    pub piece: Option<usize>,
    /// Longest time that one request may take, in nanoseconds.
    pub timeout_nanos: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { interrupts: false, piece: None, timeout_nanos: 10_000_000_000 }
    }
}

/// What the physical function tells at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Version of its protocol.
    pub version: u8,
    /// Capabilities; 0 if it is too old to tell.
    pub capabilities: u32,
    /// Services of rings; 0 if it is too old to tell.
    pub ring_map: u16,
}

/// A response, in the fields that all services have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// All of it.
    pub bytes: [u8; RESPONSE_LEN],
}

impl Response {
    fn word(&self, at: usize) -> u32 {
        self.bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// The request's opaque value.
    #[must_use]
    pub fn opaque(&self) -> u64 {
        u64::from(self.word(8)) | u64::from(self.word(12)) << 32
    }

    /// The request's service.
    #[must_use]
    pub fn service(&self) -> u8 {
        self.bytes[2]
    }

    /// Flags of the header.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.bytes[3]
    }

    /// Status bits: of public-key responses, those of their own place.
    #[must_use]
    pub fn status(&self) -> u8 {
        if self.service() == 3 { self.bytes[5] } else { self.bytes[6] }
    }

    /// Error code of the compressor; of a whole public-key request.
    #[must_use]
    pub fn error(&self) -> i8 {
        let at = if self.service() == 3 { 4 } else { 5 };
        i8::from_le_bytes([self.bytes[at]])
    }
}

/// A symmetric request with its data.
#[derive(Debug, Clone, Copy, Default)]
pub struct SymmetricCall<'a> {
    /// Command.
    pub command: u8,
    /// Flags, without those for IV and digest placement that follow from the rest.
    pub flags: u16,
    /// The IV, 16 bytes at most.
    pub iv: &'a [u8],
    /// The source.
    pub source: &'a [u8],
    /// Bytes of destination; `None` for a request in place.
    pub destination: Option<usize>,
    /// First byte and length of what is ciphered.
    pub cipher: (u32, u32),
    /// First byte and length of what is hashed.
    pub auth: (u32, u32),
    /// Associated data, padded.
    pub aad: &'a [u8],
    /// A digest beside the buffers: what is there before.
    pub digest: &'a [u8],
    /// Extended protocol flags.
    pub extended: u8,
}

/// What a symmetric request left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymmetricResult {
    /// The response.
    pub response: Response,
    /// The destination.
    pub data: Vec<u8>,
    /// The digest beside the buffers.
    pub digest: Vec<u8>,
}

/// A compression request with its data.
#[derive(Debug, Clone, Copy)]
pub struct CompressionCall<'a> {
    /// Command.
    pub command: u8,
    /// The session has state, kept at this address.
    pub state: Option<u64>,
    /// Search depth.
    pub depth: u32,
    /// The source.
    pub source: &'a [u8],
    /// Bytes of destination.
    pub room: usize,
    /// Flags.
    pub flags: u32,
}

/// What a compression request left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressionResult {
    /// The response.
    pub response: Response,
    /// Bytes taken.
    pub consumed: u32,
    /// What was produced.
    pub data: Vec<u8>,
    /// CRC-32 of the uncompressed data.
    pub crc32: u32,
    /// Adler-32 of the uncompressed data.
    pub adler32: u32,
}

#[derive(Debug)]
struct Pair {
    requests: DmaBuffer,
    responses: DmaBuffer,
    message_len: usize,
    tail: usize,
    head: usize,
    in_flight: usize,
}

/// A virtual function in use.
#[derive(Debug)]
pub struct Driver<P> {
    /// The platform. Tests reach under the driver here.
    pub platform: P,
    function: Function,
    options: Options,
    version: u8,
    pairs: BTreeMap<u16, Pair>,
    next: u64,
    /// Responses were taken since the last interrupt, which may have been sent for them.
    taken: bool,
}

impl<P: Platform> Driver<P> {
    /// Finds the function and puts its rings into a known state.
    ///
    /// # Errors
    /// What the device lacks or did wrong.
    pub fn new(mut platform: P, options: Options) -> Result<Self, DriverError> {
        let function = Function::discover(&mut platform)?;
        if function.vendor != VENDOR || !DEVICES.contains(&function.device) {
            let (vendor, device) = (function.vendor, function.device);
            return Err(DriverError::WrongDevice { vendor, device });
        }
        for bar in [RINGS, MISC] {
            function.bar(bar).ok_or(DriverError::Missing("BAR for its registers"))?;
        }
        function.enable(&mut platform)?;
        let kind = if options.interrupts { Interrupts::Msi(1) } else { Interrupts::None };
        function.connect(&mut platform, kind)?;
        let pairs = BTreeMap::new();
        let mut driver =
            Self { platform, function, options, version: 0, pairs, next: 1, taken: false };
        for index in 0..2 * RESPONSES {
            driver.set_ring(index, 0, 0)?;
        }
        driver.write(RINGS, ring::INT_FLAG, 0xffff)?;
        driver.write(RINGS, ring::INT_SRCSEL, 0x4444_444c)?;
        driver.write(RINGS, ring::INT_SRCSEL_2, 0x4444_4444)?;
        Ok(driver)
    }

    /// The function, as discovery found it.
    #[must_use]
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// Changes how buffers are laid out.
    pub fn set_piece(&mut self, piece: Option<usize>) {
        self.options.piece = piece;
    }

    /// Reads a register.
    ///
    /// # Errors
    /// If the access fails.
    pub fn read(&mut self, bar: u8, offset: u64) -> Result<u32, DriverError> {
        Ok(self.platform.bar_u32(bar, offset)?)
    }

    /// Writes a register.
    ///
    /// # Errors
    /// If the access fails.
    pub fn write(&mut self, bar: u8, offset: u64, value: u32) -> Result<(), DriverError> {
        Ok(self.platform.bar_write(bar, offset, &value.to_le_bytes())?)
    }

    fn deadline(&self) -> Nanos {
        self.platform.now().plus(self.options.timeout_nanos)
    }

    // The mailbox.

    /// Reads the mailbox.
    ///
    /// # Errors
    /// If the access fails.
    pub fn mailbox(&mut self) -> Result<u32, DriverError> {
        self.read(MISC, misc::MAILBOX)
    }

    fn wait_mailbox(
        &mut self,
        what: &'static str,
        done: impl Fn(u32) -> bool,
    ) -> Result<u32, DriverError> {
        let deadline = self.deadline();
        loop {
            let value = self.mailbox()?;
            if done(value) {
                return Ok(value);
            }
            let quiet = self.platform.idle(deadline)? == Activity::Quiet;
            if self.platform.now() >= deadline || quiet && !done(self.mailbox()?) {
                return Err(DriverError::Timeout(what));
            }
        }
    }

    /// Sends a message and waits until it is acknowledged.
    ///
    /// # Errors
    /// [`DriverError::Timeout`]; [`DriverError::NotKept`] if a notification was overwritten.
    pub fn send(&mut self, kind: u32, data: u32, notification: bool) -> Result<(), DriverError> {
        let free = |value: u32| value >> 16 & IN_USE_MASK != IN_USE;
        self.wait_mailbox("the mailbox to be free", free)?;
        let message = (SYSTEM | kind << 2 | data << 6) << 16 | IN_USE;
        self.write(MISC, misc::MAILBOX, message | PENDING << 16)?;
        let acknowledged = |value: u32| value & PENDING << 16 == 0;
        let found = self.wait_mailbox("an acknowledgement", acknowledged)?;
        if notification && found != message {
            let (written, found) = (message.into(), found.into());
            return Err(DriverError::NotKept { register: "PF2VF", written, found });
        }
        if found & IN_USE_MASK == IN_USE {
            self.write(MISC, misc::MAILBOX, found & !IN_USE_MASK)?;
        }
        Ok(())
    }

    /// Waits for a message and acknowledges it: its kind and data.
    ///
    /// # Errors
    /// [`DriverError::Timeout`].
    pub fn receive(&mut self) -> Result<(u32, u32), DriverError> {
        const RESTARTING: u32 = 1;
        let value = self.wait_mailbox("a message", |value| value & PENDING != 0)?;
        let (kind, data) = (value >> 2 & 0xf, value >> 6 & 0x3ff);
        let mut left = value & !PENDING;
        if self.version >= FAST_ACK && kind != RESTARTING {
            left &= !(IN_USE_MASK << 16);
        }
        self.write(MISC, misc::MAILBOX, left)?;
        Ok((kind, data))
    }

    /// Asks for the version of the protocol: it, and whether ours is compatible (1 to 3).
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`receive`](Self::receive).
    pub fn ask_version(&mut self, ours: u8) -> Result<(u8, u32), DriverError> {
        self.send(6, ours.into(), false)?;
        let (kind, data) = self.receive()?;
        if kind != 2 {
            return Err(DriverError::Missing("answer to a version request"));
        }
        let [version, ..] = data.to_le_bytes();
        Ok((version, data >> 8))
    }

    /// One byte of a block message, or its CRC: the kind of the answer and the byte.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`receive`](Self::receive).
    pub fn ask_block(
        &mut self,
        block: u32,
        byte: u32,
        crc: bool,
    ) -> Result<(u32, u8), DriverError> {
        self.send(9, block | byte << 4 | u32::from(crc) << 9, false)?;
        let (kind, data) = self.receive()?;
        if kind != 3 {
            return Err(DriverError::Missing("answer to a block request"));
        }
        let [value, ..] = (data >> 2).to_le_bytes();
        Ok((data & 3, value))
    }

    /// A whole block message without its header, checked by its CRC.
    ///
    /// # Errors
    /// As [`ask_block`](Self::ask_block).
    pub fn block(&mut self, block: u32) -> Result<Vec<u8>, DriverError> {
        let mut message = Vec::new();
        let mut len = 2;
        while message.len() < len {
            let at = u32::try_from(message.len()).unwrap_or(u32::MAX);
            let (kind, byte) = self.ask_block(block, at, false)?;
            if kind != 0 {
                return Err(DriverError::Missing("block message"));
            }
            message.push(byte);
            if let [_, payload] = message.as_slice() {
                len = 2 + usize::from(*payload);
            }
        }
        let last = u32::try_from(len - 1).unwrap_or(u32::MAX);
        match self.ask_block(block, last, true)? {
            (1, crc) if crc == crc8(&message) => Ok(message.split_off(2)),
            _ => Err(DriverError::Missing("right CRC for a block message")),
        }
    }

    /// What Linux does to learn about its function and announce itself.
    ///
    /// # Errors
    /// What the device did wrong.
    pub fn introduce(&mut self) -> Result<Facts, DriverError> {
        self.write(MISC, misc::VINTMSK, 0)?;
        let (version, compatible) = self.ask_version(5)?;
        if !matches!(compatible, 1 | 3) {
            return Err(DriverError::Missing("a compatible mailbox protocol"));
        }
        self.version = version;
        let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        let capabilities = match version {
            2.. => word(self.block(2)?.get(4..).unwrap_or_default()),
            _ => 0,
        };
        let ring_map = match version {
            4.. => self.block(3)?.first_chunk().map_or(0, |map| u16::from_le_bytes(*map)),
            _ => 0,
        };
        self.send(3, 0, true)?;
        Ok(Facts { version, capabilities, ring_map })
    }

    // Rings.

    fn set_ring(&mut self, index: u64, config: u32, base: u64) -> Result<(), DriverError> {
        self.write(RINGS, ring::CONFIG + index * 4, config)?;
        let halves = [(ring::LOW_BASE, base), (ring::HIGH_BASE, base >> 32)];
        for (at, half) in halves {
            let half = u32::try_from(half & 0xffff_ffff).unwrap_or(0);
            self.write(RINGS, at + index * 4, half)?;
        }
        Ok(())
    }

    /// Sets up a pair of rings for `slots` messages of `message_len` bytes, and has it served.
    ///
    /// # Errors
    /// Out of memory, a size that rings do not have, or a failed access.
    pub fn open(
        &mut self,
        index: u16,
        slots: usize,
        message_len: usize,
    ) -> Result<(), DriverError> {
        let mut rings = Vec::new();
        for (at, len) in [(0, message_len), (RESPONSES, RESPONSE_LEN)] {
            let size = slots * len;
            let impossible = !size.is_power_of_two() || !(128..=4 << 20).contains(&size);
            if impossible {
                return Err(DriverError::BadRequest("rings have 128 bytes to 4 MiB"));
            }
            let memory = self.platform.dma_alloc(size, size)?;
            self.platform.dma_write(memory.iova, &vec![0x7f; size])?;
            let log2 = size.trailing_zeros() - 6;
            let base = memory.iova >> 6 & u64::MAX << log2;
            self.set_ring(at + u64::from(index), log2, base)?;
            rings.push(memory);
        }
        let [requests, responses] = rings[..] else {
            return Err(DriverError::BadRequest("a pair has two rings"));
        };
        let pair = Pair { requests, responses, message_len, tail: 0, head: 0, in_flight: 0 };
        self.pairs.insert(index, pair);
        self.arbitrate()?;
        if self.options.interrupts {
            self.write(RINGS, ring::INT_COL_EN, self.interrupting())?;
            self.write(RINGS, ring::INT_COL_CTL, 1 << 31 | COALESCE_NANOS)?;
        }
        Ok(())
    }

    /// Tears a pair down.
    ///
    /// # Errors
    /// If an access fails.
    pub fn close(&mut self, index: u16) -> Result<(), DriverError> {
        let Some(pair) = self.pairs.remove(&index) else { return Ok(()) };
        self.arbitrate()?;
        self.write(RINGS, ring::INT_COL_EN, self.interrupting())?;
        self.set_ring(index.into(), 0, 0)?;
        self.set_ring(RESPONSES + u64::from(index), 0, 0)?;
        self.platform.dma_free(pair.requests);
        self.platform.dma_free(pair.responses);
        Ok(())
    }

    fn arbitrate(&mut self) -> Result<(), DriverError> {
        let served = self.pairs.keys().fold(0, |all, index| all | 1 << index);
        self.write(RINGS, ring::ARBITER, served)
    }

    /// Response rings that interrupt.
    fn interrupting(&self) -> u32 {
        self.pairs.keys().fold(0, |all, index| all | 1 << (index + 8))
    }

    /// Requests of a pair that have no response yet.
    #[must_use]
    pub fn in_flight(&self, index: u16) -> usize {
        self.pairs.get(&index).map_or(0, |pair| pair.in_flight)
    }

    /// Puts a request into a ring and tells the device.
    ///
    /// # Errors
    /// [`DriverError::QueueFull`], or a failed access.
    pub fn submit(&mut self, index: u16, message: &[u8]) -> Result<(), DriverError> {
        let tail = self.put(index, message)?;
        self.write(RINGS, ring::TAIL + u64::from(index) * 4, tail)
    }

    /// Puts a request into a ring without telling the device. Returns the tail to tell.
    ///
    /// # Errors
    /// [`DriverError::QueueFull`], or a failed access.
    pub fn put(&mut self, index: u16, message: &[u8]) -> Result<u32, DriverError> {
        let no_pair = DriverError::BadRequest("no such pair");
        let pair = self.pairs.get_mut(&index).ok_or(no_pair)?;
        let slots = pair.requests.len / pair.message_len;
        if message.len() != pair.message_len {
            return Err(DriverError::BadRequest("a message of another length"));
        }
        if pair.in_flight + 1 >= slots {
            return Err(DriverError::QueueFull { queue: index });
        }
        self.platform.dma_write(pair.requests.at(pair.tail), message)?;
        pair.tail = (pair.tail + message.len()) % pair.requests.len;
        pair.in_flight += 1;
        let tail = pair.tail;
        self.platform.fence();
        Ok(u32::try_from(tail).unwrap_or(u32::MAX))
    }

    /// Takes the next response of a pair, if there is one, without waiting.
    ///
    /// # Errors
    /// [`DriverError::UnknownId`] for a response without a request, or a failed access.
    pub fn take(&mut self, index: u16) -> Result<Option<Response>, DriverError> {
        let no_pair = DriverError::BadRequest("no such pair");
        let pair = self.pairs.get_mut(&index).ok_or(no_pair)?;
        let at = pair.responses.at(pair.head);
        let mut first = [0; 4];
        self.platform.dma_read(at, &mut first)?;
        if first == EMPTY {
            return Ok(None);
        }
        self.platform.fence();
        let mut bytes = [0; RESPONSE_LEN];
        self.platform.dma_read(at, &mut bytes)?;
        self.platform.dma_write(at, &[0x7f; RESPONSE_LEN])?;
        pair.head = (pair.head + RESPONSE_LEN) % pair.responses.len;
        let head = u32::try_from(pair.head).unwrap_or(u32::MAX);
        let id = u32::from(index);
        let left = pair.in_flight.checked_sub(1);
        pair.in_flight = left.ok_or(DriverError::UnknownId { queue: index, id })?;
        self.taken = true;
        self.write(RINGS, ring::HEAD + (RESPONSES + u64::from(index)) * 4, head)?;
        Ok(Some(Response { bytes }))
    }

    /// Waits for the next response of a pair.
    ///
    /// # Errors
    /// [`DriverError::Timeout`], or as [`take`](Self::take).
    pub fn wait(&mut self, index: u16) -> Result<Response, DriverError> {
        let mut deadline = None;
        loop {
            if let Some(response) = self.take(index)? {
                return Ok(response);
            }
            let deadline = match deadline {
                Some(deadline) if self.platform.now() >= deadline => {
                    return Err(DriverError::Timeout("a response"));
                }
                Some(deadline) => deadline,
                None => *deadline.insert(self.deadline()),
            };
            if self.options.interrupts {
                if !self.platform.wait_interrupt(0, deadline)? {
                    return Err(DriverError::Timeout("an interrupt"));
                }
                self.serve_interrupt()?;
            } else if self.platform.idle(deadline)? == Activity::Quiet {
                return self.take(index)?.ok_or(DriverError::Timeout("a response"));
            }
        }
    }

    /// What Linux's handler does with the interrupt of the bundle: turns interrupts off and, once
    /// the responses that are there will be taken, on again.
    fn serve_interrupt(&mut self) -> Result<(), DriverError> {
        let sources = self.read(MISC, misc::VINTSOU)? & !self.read(MISC, misc::VINTMSK)?;
        if sources & 1 != 0 {
            self.write(RINGS, ring::INT_FLAG_AND_COL, 0)?;
            let busy = !self.read(RINGS, ring::E_STAT)? & self.interrupting();
            let taken = std::mem::take(&mut self.taken);
            if busy == 0 && !taken {
                return Err(DriverError::Missing("response behind its interrupt"));
            }
            self.write(RINGS, ring::INT_FLAG_AND_COL, self.interrupting())?;
        }
        Ok(())
    }

    /// Submits one request and waits for its response, which must be to it.
    ///
    /// # Errors
    /// As [`submit`](Self::submit) and [`wait`](Self::wait).
    pub fn run(&mut self, index: u16, message: &[u8]) -> Result<Response, DriverError> {
        self.submit(index, message)?;
        let response = self.wait(index)?;
        let wanted = message.get(24..).and_then(|rest| rest.first_chunk());
        if wanted.map(|bytes| u64::from_le_bytes(*bytes)) != Some(response.opaque()) {
            return Err(DriverError::UnknownId { queue: index, id: response.word(8) });
        }
        Ok(response)
    }

    /// A value that no other request has.
    pub fn opaque(&mut self) -> u64 {
        self.next += 1;
        self.next << 32 | !self.next & 0xffff_ffff
    }

    // Requests with their buffers.

    /// Executes a symmetric request on pair 2, whose rings must be open.
    ///
    /// # Errors
    /// Out of memory, [`DriverError::StrayWrite`], or as [`run`](Self::run).
    pub fn symmetric(
        &mut self,
        content: &Content,
        call: &SymmetricCall<'_>,
    ) -> Result<SymmetricResult, DriverError> {
        let mut memory = Memory::default();
        let result = self.symmetric_in(&mut memory, content, call);
        memory.release(&mut self.platform);
        result
    }

    fn symmetric_in(
        &mut self,
        memory: &mut Memory,
        content: &Content,
        call: &SymmetricCall<'_>,
    ) -> Result<SymmetricResult, DriverError> {
        let p = &mut self.platform;
        let piece = self.options.piece;
        let described = memory.copy(p, &content.bytes)?;
        let source = memory.buffer(p, call.source, piece)?;
        let destination = match call.destination {
            Some(len) => memory.buffer(p, &vec![0xa5; len], piece)?,
            None => source.clone(),
        };
        let aad = memory.copy(p, call.aad)?;
        let digest = memory.copy(p, call.digest)?;
        let mut iv = [0; 16];
        iv.iter_mut().zip(call.iv).for_each(|(to, from)| *to = *from);
        let opaque = self.opaque();
        let request = Symmetric {
            command: call.command,
            flags: call.flags | message::flag::IV_INLINE,
            content: described.iova,
            content_len: content.bytes.len(),
            control: content.control,
            buffers: buffers(opaque, &source, &destination, piece),
            cipher: call.cipher,
            iv,
            auth: call.auth,
            aad: aad.iova,
            aad_len: u8::try_from(call.aad.len()).unwrap_or(u8::MAX),
            digest: digest.iova,
            extended: call.extended,
        };
        let response = self.run(2, &request.encode())?;
        memory.check(&mut self.platform)?;
        let p = &mut self.platform;
        let mut found = vec![0; call.digest.len()];
        p.dma_read(digest.iova, &mut found)?;
        Ok(SymmetricResult { response, data: destination.read(p)?, digest: found })
    }

    /// Executes a compression request on pair 6, whose rings must be open.
    ///
    /// # Errors
    /// As [`symmetric`](Self::symmetric).
    pub fn compression(
        &mut self,
        call: &CompressionCall<'_>,
    ) -> Result<CompressionResult, DriverError> {
        let mut memory = Memory::default();
        let result = self.compression_in(&mut memory, call);
        memory.release(&mut self.platform);
        result
    }

    fn compression_in(
        &mut self,
        memory: &mut Memory,
        call: &CompressionCall<'_>,
    ) -> Result<CompressionResult, DriverError> {
        let p = &mut self.platform;
        let piece = self.options.piece;
        let source = memory.buffer(p, call.source, piece)?;
        let destination = memory.buffer(p, &vec![0xa5; call.room], piece)?;
        let opaque = self.opaque();
        let request = Compression {
            command: call.command,
            state: call.state,
            depth: call.depth,
            buffers: buffers(opaque, &source, &destination, piece),
            len: u32::try_from(call.source.len()).unwrap_or(u32::MAX),
            room: u32::try_from(call.room).unwrap_or(u32::MAX),
            flags: call.flags,
        };
        let response = self.run(6, &request.encode())?;
        memory.check(&mut self.platform)?;
        let mut data = destination.read(&mut self.platform)?;
        data.truncate(usize::try_from(response.word(20)).unwrap_or(usize::MAX));
        Ok(CompressionResult {
            response,
            consumed: response.word(16),
            data,
            crc32: response.word(24),
            adler32: response.word(28),
        })
    }

    /// Executes a public-key request on pair 0, whose rings must be open: response and results.
    ///
    /// # Errors
    /// As [`symmetric`](Self::symmetric).
    pub fn public_key(
        &mut self,
        call: &PublicKey,
    ) -> Result<(Response, Vec<Vec<u8>>), DriverError> {
        let mut memory = Memory::default();
        let result = self.public_key_in(&mut memory, call);
        memory.release(&mut self.platform);
        result
    }

    fn public_key_in(
        &mut self,
        memory: &mut Memory,
        call: &PublicKey,
    ) -> Result<(Response, Vec<Vec<u8>>), DriverError> {
        let p = &mut self.platform;
        let mut tables = [Vec::new(), Vec::new()];
        let mut results = Vec::new();
        for operand in &call.operands {
            tables[0].extend(memory.copy(p, operand)?.iova.to_le_bytes());
        }
        for len in &call.results {
            let result = memory.guarded(p, &vec![0xa5; *len])?;
            tables[1].extend(result.iova.to_le_bytes());
            results.push(result);
        }
        let [source, destination] = tables;
        let (source, destination) = (memory.copy(p, &source)?, memory.copy(p, &destination)?);
        let opaque = self.opaque();
        let response = self.run(0, &call.encode(opaque, source.iova, destination.iova))?;
        memory.check(&mut self.platform)?;
        let mut found = Vec::new();
        for result in results {
            let mut bytes = vec![0; result.len];
            self.platform.dma_read(result.iova, &mut bytes)?;
            found.push(bytes);
        }
        Ok((response, found))
    }

    /// Gives the platform back.
    pub fn into_platform(self) -> P {
        self.platform
    }
}

fn buffers(opaque: u64, source: &Buffer, destination: &Buffer, piece: Option<usize>) -> Buffers {
    let len = |buffer: &Buffer| u32::try_from(buffer.len).unwrap_or(u32::MAX);
    Buffers {
        opaque,
        source: source.address,
        destination: destination.address,
        source_len: if piece.is_some() { 0 } else { len(source) },
        destination_len: if piece.is_some() { 0 } else { len(destination) },
        lists: piece.is_some(),
    }
}

/// The CRC of block messages, from its table-free definition.
fn crc8(bytes: &[u8]) -> u8 {
    let mut crc = 0xff;
    for byte in bytes {
        crc ^= byte;
        for _ in 0..8 {
            let carry = crc & 0x80 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x97;
            }
        }
    }
    crc
}
