//! Registers and rings.
//!
//! - `mailbox`: messages to and from the physical function.
//! - `calls`: requests with their buffers.

mod calls;
mod mailbox;

use std::collections::BTreeMap;

use understudy_device::Nanos;

use super::{misc, ring};
use crate::error::DriverError;
use crate::pci::Function;
use crate::platform::{Access, Activity, DmaBuffer, Interrupts, Platform};

pub use calls::{CompressionCall, CompressionResult, SymmetricCall, SymmetricResult};
pub use mailbox::Facts;

const VENDOR: u16 = 0x8086;
const DEVICES: [u16; 3] = [0x37c9, 0x19e3, 0x0443];
const RINGS: u8 = 0;
const MISC: u8 = 2;
/// Response rings follow the request rings.
const RESPONSES: u64 = 8;
const EMPTY: [u8; 4] = [0x7f; 4];
const RESPONSE_LEN: usize = 32;
const NO_PAIR: DriverError = DriverError::BadRequest("no such pair");
/// What Linux lets interrupts be held back for.
const COALESCE_NANOS: u32 = 0x27ff;

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

/// A response, in the fields that all services have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// All of it.
    pub bytes: [u8; RESPONSE_LEN],
}

impl Response {
    /// The little-endian word at an offset; 0 beyond the end.
    #[must_use]
    pub fn word(&self, at: usize) -> u32 {
        let word = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        word.map_or(0, |bytes| u32::from_le_bytes(*bytes))
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

#[derive(Debug)]
struct Pair {
    requests: DmaBuffer,
    responses: DmaBuffer,
    message_len: usize,
    slots: usize,
    tail: usize,
    head: usize,
    in_flight: usize,
}

impl Pair {
    fn put(
        &mut self,
        platform: &mut impl Platform,
        index: u16,
        message: &[u8],
    ) -> Result<(), DriverError> {
        if message.len() != self.message_len {
            return Err(DriverError::BadRequest("a message of another length"));
        }
        if self.in_flight + 1 >= self.slots {
            return Err(DriverError::QueueFull { queue: index });
        }
        platform.dma_write(self.requests.at(self.tail), message)?;
        // Sizes of rings are powers of two.
        self.tail = (self.tail + message.len()) & (self.requests.len - 1);
        self.in_flight += 1;
        Ok(())
    }
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
        let pair = Pair { requests, responses, message_len, slots, tail: 0, head: 0, in_flight: 0 };
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
        // An interrupt may have been sent for responses that are lost with the ring.
        self.taken |= pair.in_flight > 0;
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
        self.submit_burst(index, [message])
    }

    /// Puts requests into a ring, then tells the device of all of them at once.
    ///
    /// # Errors
    /// [`DriverError::QueueFull`] if not all of them fit, or a failed access. No request is in the
    /// ring then.
    pub fn submit_burst<'m>(
        &mut self,
        index: u16,
        messages: impl IntoIterator<Item = &'m [u8]>,
    ) -> Result<(), DriverError> {
        let pair = self.pairs.get_mut(&index).ok_or(NO_PAIR)?;
        let before = (pair.tail, pair.in_flight);
        for message in messages {
            if let Err(error) = pair.put(&mut self.platform, index, message) {
                (pair.tail, pair.in_flight) = before;
                return Err(error);
            }
        }
        let tail = u32::try_from(pair.tail).unwrap_or(u32::MAX);
        self.platform.fence();
        self.write(RINGS, ring::TAIL + u64::from(index) * 4, tail)
    }

    /// Takes the next response of a pair, if there is one, without waiting.
    ///
    /// # Errors
    /// [`DriverError::UnknownId`] for a response without a request, or a failed access.
    pub fn take(&mut self, index: u16) -> Result<Option<Response>, DriverError> {
        let mut response = None;
        self.take_burst(index, 1, |it| response = Some(it))?;
        Ok(response)
    }

    /// Takes up to `most` responses that are there, then tells the device of all of them at once.
    /// Returns how many.
    ///
    /// # Errors
    /// As [`take`](Self::take), after those that could be taken.
    pub fn take_burst(
        &mut self,
        index: u16,
        most: usize,
        mut visit: impl FnMut(Response),
    ) -> Result<usize, DriverError> {
        let mut taken = 0;
        let mut looked = Ok(());
        while taken < most {
            match self.look(index) {
                Ok(Some(response)) => visit(response),
                Ok(None) => break,
                Err(error) => {
                    looked = Err(error);
                    break;
                }
            }
            taken += 1;
        }
        if taken > 0 {
            self.release(index)?;
        }
        looked.map(|()| taken)
    }

    /// Takes the next response without telling the device.
    fn look(&mut self, index: u16) -> Result<Option<Response>, DriverError> {
        let pair = self.pairs.get_mut(&index).ok_or(NO_PAIR)?;
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
        pair.head = (pair.head + RESPONSE_LEN) & (pair.responses.len - 1);
        let id = u32::from(index);
        let left = pair.in_flight.checked_sub(1);
        pair.in_flight = left.ok_or(DriverError::UnknownId { queue: index, id })?;
        self.taken = true;
        Ok(Some(Response { bytes }))
    }

    /// Tells the device which responses were taken.
    fn release(&mut self, index: u16) -> Result<(), DriverError> {
        let head = self.pairs.get(&index).map_or(0, |pair| pair.head);
        let head = u32::try_from(head).unwrap_or(u32::MAX);
        self.write(RINGS, ring::HEAD + (RESPONSES + u64::from(index)) * 4, head)
    }

    /// Waits for the next response of a pair.
    ///
    /// # Errors
    /// [`DriverError::Timeout`], or as [`take`](Self::take).
    pub fn wait(&mut self, index: u16) -> Result<Response, DriverError> {
        let mut response = None;
        self.wait_burst(index, 1, |it| response = Some(it))?;
        response.ok_or(DriverError::Timeout("a response"))
    }

    /// Waits for `count` responses of a pair and takes those that are there together, as
    /// [`take_burst`](Self::take_burst) does.
    ///
    /// # Errors
    /// [`DriverError::Timeout`], or as [`take`](Self::take).
    pub fn wait_burst(
        &mut self,
        index: u16,
        count: usize,
        mut visit: impl FnMut(Response),
    ) -> Result<(), DriverError> {
        let mut left = count;
        let (mut deadline, mut quiet) = (None, false);
        loop {
            let taken = self.take_burst(index, left, &mut visit)?;
            left -= taken;
            if left == 0 {
                return Ok(());
            }
            if taken > 0 {
                (deadline, quiet) = (None, false);
            }
            let now = self.platform.now();
            let deadline = *deadline.get_or_insert(now.plus(self.options.timeout_nanos));
            if quiet || now >= deadline {
                return Err(DriverError::Timeout("a response"));
            }
            if !self.options.interrupts {
                // Quiet means that all is done: the responses are there, or will not come.
                quiet = self.platform.idle(deadline)? == Activity::Quiet;
            } else if self.platform.wait_interrupt(0, deadline)? {
                self.serve_interrupt()?;
            } else {
                return Err(DriverError::Timeout("an interrupt"));
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

    /// Gives the platform back.
    pub fn into_platform(self) -> P {
        self.platform
    }
}
