//! MHI's rings: transfer and command rings through the shared ring engine, and event rings.

use std::collections::VecDeque;

use understudy_device::{Bus, DmaFault, Vector};
use understudy_ring::{Entry, Ring};
use zerocopy::{FromBytes, IntoBytes};

use crate::layout::{CONTEXT_RP, Context, ELEMENT_LEN, Element};

/// Bytes of an element, as a number of the ring's kind.
const STEP: u64 = ELEMENT_LEN as u64;
/// Most bytes of a ring.
const RING_LEN_MAX: u64 = 1 << 20;
/// Events that wait for room, above which nothing is taken that would cause more.
pub(crate) const EVENTS_MAX: usize = 512;

/// Why a ring cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RingError {
    /// Its context makes no sense.
    Context,
    /// Memory cannot be accessed.
    Fault(DmaFault),
}

impl From<DmaFault> for RingError {
    fn from(fault: DmaFault) -> Self {
        Self::Fault(fault)
    }
}

/// Where a ring lies, and how far its two ends are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Address of the context.
    context: u64,
    base: u64,
    len: u64,
    /// Offsets in bytes, multiples of [`STEP`] below the length.
    rp: u64,
    wp: u64,
    pub(crate) index: u32,
}

impl Place {
    /// Reads and checks a context.
    pub(crate) fn read(bus: &mut dyn Bus, context: u64) -> Result<Self, RingError> {
        let mut bytes = [0; size_of::<Context>()];
        bus.dma_read(context, &mut bytes)?;
        let found = Context::read_from_bytes(&bytes).map_err(|_| RingError::Context)?;
        let (base, len) = (found.base.get(), found.len.get());
        let whole = (2 * STEP..=RING_LEN_MAX).contains(&len) && len.is_multiple_of(STEP);
        if !whole || base.checked_add(len).is_none() {
            return Err(RingError::Context);
        }
        let mut place = Self { context, base, len, rp: 0, wp: 0, index: found.index.get() };
        place.rp = place.offset(found.rp.get()).ok_or(RingError::Context)?;
        place.wp = place.offset(found.wp.get()).ok_or(RingError::Context)?;
        Ok(place)
    }

    /// Offset of an element's address.
    fn offset(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.base)?;
        (offset < self.len && offset % STEP == 0).then_some(offset)
    }

    /// The host rings a doorbell. `false` if it points outside the ring.
    pub(crate) fn ring(&mut self, address: u64) -> bool {
        let offset = self.offset(address);
        self.wp = offset.unwrap_or(self.wp);
        offset.is_some()
    }

    fn next(&self, offset: u64) -> u64 {
        (offset + STEP) % self.len
    }

    /// Tells the host how far the device is.
    fn publish(&self, bus: &mut dyn Bus) -> Result<(), DmaFault> {
        bus.dma_write(self.context.wrapping_add(CONTEXT_RP), &(self.base + self.rp).to_le_bytes())
    }

    pub(crate) fn fields(&self) -> Vec<(String, u64)> {
        let fields = [("base", self.base), ("rp", self.rp / STEP), ("wp", self.wp / STEP)];
        fields.map(|(name, value)| (name.to_owned(), value)).into()
    }

    pub(crate) fn elements(&self) -> u32 {
        u32::try_from(self.len / STEP).unwrap_or(u32::MAX)
    }
}

/// An element as it lies in a ring, and where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    bytes: [u8; ELEMENT_LEN],
    pub(crate) address: u64,
}

impl Taken {
    pub(crate) fn element(&self) -> Element {
        Element::read_from_bytes(&self.bytes).unwrap_or_default()
    }
}

impl Entry for Taken {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// An event on its way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Event {
    bytes: [u8; ELEMENT_LEN],
    /// It interrupts.
    pub(crate) interrupts: bool,
}

impl Event {
    pub(crate) fn new(element: Element, interrupts: bool) -> Self {
        let mut bytes = [0; ELEMENT_LEN];
        bytes.copy_from_slice(element.as_bytes());
        Self { bytes, interrupts }
    }
}

impl Entry for Event {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// A command or transfer ring. Its completions are events, which go to a ring of their own.
#[derive(Debug)]
pub(crate) struct Transfers {
    pub(crate) place: Place,
    /// Events to be moved to the event ring.
    pub(crate) events: VecDeque<Event>,
}

impl Transfers {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, events: VecDeque::new() }
    }

    /// Whether the host has given elements.
    pub(crate) fn has_elements(&self) -> bool {
        self.place.rp != self.place.wp
    }
}

impl Ring for Transfers {
    type Entry = Taken;
    type Completion = Event;
    type Error = RingError;

    fn fetch(&mut self, bus: &mut dyn Bus, entry: &mut Taken) -> Result<bool, RingError> {
        let place = &mut self.place;
        if place.rp == place.wp {
            return Ok(false);
        }
        entry.address = place.base + place.rp;
        bus.dma_read(entry.address, &mut entry.bytes)?;
        place.rp = place.next(place.rp);
        place.publish(bus)?;
        Ok(true)
    }

    fn complete(&mut self, _: &mut dyn Bus, event: &mut Event) -> Result<(), RingError> {
        self.events.push_back(event.clone());
        Ok(())
    }
}

/// An event ring: the device writes, the host reads.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) place: Place,
    waiting: VecDeque<Event>,
    /// Its memory cannot be accessed.
    pub(crate) broken: bool,
}

impl Events {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, waiting: VecDeque::new(), broken: false }
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.waiting.push_back(event);
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.waiting.len() >= EVENTS_MAX
    }

    /// Writes what there is room for. `true` if the host is to be interrupted.
    pub(crate) fn flush(&mut self, bus: &mut dyn Bus) -> bool {
        let mut interrupt = false;
        while !self.broken && self.place.next(self.place.rp) != self.place.wp {
            let Some(event) = self.waiting.pop_front() else { break };
            let written = bus.dma_write(self.place.base + self.place.rp, &event.bytes);
            // The element, then the pointer that makes it visible, then the interrupt.
            bus.dma_fence();
            self.place.rp = self.place.next(self.place.rp);
            self.broken = written.and_then(|()| self.place.publish(bus)).is_err();
            interrupt |= event.interrupts && !self.broken;
        }
        if interrupt {
            bus.dma_fence();
        }
        interrupt
    }

    /// The vector that its context names, as far as there are such.
    pub(crate) fn vector(&self) -> Vector {
        Vector(u16::try_from(self.place.index).unwrap_or(0))
    }
}
