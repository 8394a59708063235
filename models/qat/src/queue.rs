//! A ring pair: requests in one ring, responses in another.

use understudy_device::{Bus, DmaFault};
use understudy_ring::{Entry, Ring};

use crate::layout::{REQUEST_LEN, RESPONSE_LEN, Response};

/// The registers of one ring.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RingState {
    config: u32,
    /// Bytes, 128 to 4 Mi, a power of two; 0 if the ring is not set up.
    size: u32,
    base: u64,
    /// Offset in bytes, below the size.
    head: u32,
    /// Offset in bytes, below the size.
    tail: u32,
}

impl RingState {
    pub(crate) fn config(&self) -> u32 {
        self.config
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    /// A new size or place is a new ring, which begins at its start.
    pub(crate) fn set_config(&mut self, config: u32) {
        let size = match config & 0x1f {
            log2 @ 1..=16 => 64 << log2,
            _ => 0,
        };
        *self = Self { config, size, base: self.base, head: 0, tail: 0 };
    }

    pub(crate) fn set_base(&mut self, base: u64) {
        *self = Self { base, head: 0, tail: 0, ..*self };
    }

    pub(crate) fn set_head(&mut self, head: u32) {
        self.head = head & self.mask();
    }

    pub(crate) fn set_tail(&mut self, tail: u32) {
        self.tail = tail & self.mask();
    }

    /// Size in bytes, 128 to 4 MiB; 0 if the ring is not set up.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    fn mask(&self) -> u32 {
        self.size().saturating_sub(1)
    }

    /// Address of an offset. Rings are aligned to their size.
    pub(crate) fn address(&self, offset: u32) -> u64 {
        (self.base << 6 & !u64::from(self.mask())).wrapping_add(offset.into())
    }

    /// Bytes between head and tail.
    fn used(&self) -> u32 {
        self.tail.wrapping_sub(self.head) & self.mask()
    }
}

/// A request as it lies in the ring. Boxed, since it is handed on more than it is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    bytes: Box<[u8; REQUEST_LEN]>,
    len: usize,
}

impl Default for Request {
    fn default() -> Self {
        Self { bytes: Box::new([0; REQUEST_LEN]), len: 0 }
    }
}

impl Request {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len.min(REQUEST_LEN)]
    }
}

impl Entry for Request {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len.min(REQUEST_LEN)]
    }
}

/// A response as it will lie in the ring.
#[derive(Debug, Clone, Default)]
// Aligned, so that it is copied by whole words.
#[repr(align(8))]
pub(crate) struct Completion([u8; RESPONSE_LEN]);

impl From<Response> for Completion {
    fn from(response: Response) -> Self {
        Self(zerocopy::transmute!(response))
    }
}

impl Entry for Completion {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A request ring and the ring of its responses.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) requests: RingState,
    pub(crate) responses: RingState,
    /// Bytes of a request.
    message_len: u32,
    /// Responses that had no room.
    pub(crate) lost: u64,
}

impl Pair {
    pub(crate) fn new(message_len: u32) -> Self {
        Self {
            requests: RingState::default(),
            responses: RingState::default(),
            message_len,
            lost: 0,
        }
    }

    /// Both rings are set up.
    pub(crate) fn is_ready(&self) -> bool {
        self.requests.size() > 0 && self.responses.size() > 0
    }

    /// Whole requests that wait.
    pub(crate) fn waiting(&self) -> u32 {
        self.requests.used() / self.message_len
    }

    /// Responses that fit before the driver moves the head. One slot stays free, so that a full
    /// ring does not look empty.
    pub(crate) fn room(&self) -> usize {
        let len = u32::try_from(RESPONSE_LEN).unwrap_or(u32::MAX);
        let slots = self.responses.size() / len;
        let used = self.responses.used().div_ceil(len);
        usize::try_from(slots.saturating_sub(used + 1)).unwrap_or(0)
    }
}

impl Ring for Pair {
    type Entry = Request;
    type Completion = Completion;
    type Error = DmaFault;

    fn fetch(&mut self, bus: &mut dyn Bus, entry: &mut Request) -> Result<bool, DmaFault> {
        let ring = &mut self.requests;
        if ring.used() < self.message_len {
            return Ok(false);
        }
        // The head stays a multiple of the length, which divides the size: no request wraps. Both
        // are powers of two.
        ring.head &= !(self.message_len - 1);
        entry.len = usize::try_from(self.message_len).unwrap_or(REQUEST_LEN);
        bus.dma_read(ring.address(ring.head), entry.bytes())?;
        ring.head = (ring.head + self.message_len) & ring.mask();
        Ok(true)
    }

    /// Drivers look at the first word of a slot, so that is written last. A response more than
    /// there is room for is lost: a fault wrote it twice, or the driver moved the head back.
    fn complete(&mut self, bus: &mut dyn Bus, completion: &mut Completion) -> Result<(), DmaFault> {
        if self.room() == 0 {
            self.lost += 1;
            return Ok(());
        }
        let len = u32::try_from(RESPONSE_LEN).unwrap_or(u32::MAX);
        let ring = &mut self.responses;
        let tail = ring.tail - ring.tail % len;
        let (first, rest) = completion.0.split_at(4);
        bus.dma_write(ring.address(tail + 4), rest)?;
        bus.dma_fence();
        bus.dma_write(ring.address(tail), first)?;
        ring.tail = (tail + len) & ring.mask();
        Ok(())
    }
}
