//! MHI, the host's side.

use std::collections::{BTreeMap, VecDeque};

use understudy_device::Nanos;

use super::mhi;
use crate::error::DriverError;
use crate::platform::{Access, Activity, DmaBuffer, Platform};

const BAR: u8 = 0;
const ELEMENT: u64 = 16;
const CONTEXT: usize = 44;
const EVENTS: u64 = 32;
const COMMANDS: u64 = 128;
const CHANNELS: usize = 128;

const STATE_CHANGE: u8 = 0x20;
const COMMAND_COMPLETION: u8 = 0x21;
const TRANSFER_EVENT: u8 = 0x22;
const ENVIRONMENT: u8 = 0x40;

/// A message from the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Completion code: 2 for a whole one, 3 for one that was too long.
    pub code: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct Ring {
    memory: DmaBuffer,
    context: u64,
    elements: u64,
    rp: u64,
    wp: u64,
}

impl Ring {
    fn at(&self, element: u64) -> u64 {
        self.memory.iova + element * ELEMENT
    }

    fn next(&self, element: u64) -> u64 {
        (element + 1) % self.elements
    }

    /// The element at an address.
    fn index(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.memory.iova)?;
        (offset % ELEMENT == 0 && offset / ELEMENT < self.elements).then_some(offset / ELEMENT)
    }
}

#[derive(Debug)]
struct Channel {
    ring: Ring,
    to_device: bool,
    buffers: VecDeque<DmaBuffer>,
}

/// The host's side of MHI.
#[derive(Debug)]
pub struct Host<P> {
    /// The platform. Tests reach under the driver here.
    pub platform: P,
    /// Longest time that anything may take, in nanoseconds.
    pub timeout_nanos: u64,
    boot: u64,
    events: Option<Ring>,
    commands: Option<Ring>,
    contexts: Option<DmaBuffer>,
    channels: BTreeMap<u8, Channel>,
    received: BTreeMap<u8, VecDeque<Received>>,
    /// Of the last command that was done: its address, and the code.
    completion: Option<(u64, u8)>,
    /// Every event since MHI was set up, as it lay in the ring.
    pub events_seen: Vec<[u8; 16]>,
    /// Last state that an event told.
    pub state: u8,
    /// Last environment that an event told.
    pub environment: Option<u8>,
}

impl<P: Platform> Host<P> {
    /// A host that has set nothing up.
    ///
    /// # Errors
    /// If the device's registers cannot be read.
    pub fn new(mut platform: P, timeout_nanos: u64) -> Result<Self, DriverError> {
        let boot = platform.bar_u32(BAR, 0x28)?.into();
        Ok(Self {
            platform,
            timeout_nanos,
            boot,
            events: None,
            commands: None,
            contexts: None,
            channels: BTreeMap::new(),
            received: BTreeMap::new(),
            completion: None,
            events_seen: Vec::new(),
            state: 0,
            environment: None,
        })
    }

    /// Reads a register of MHI.
    ///
    /// # Errors
    /// If the access fails.
    pub fn read(&mut self, offset: u64) -> Result<u32, DriverError> {
        Ok(self.platform.bar_u32(BAR, offset)?)
    }

    /// Writes a register of MHI.
    ///
    /// # Errors
    /// If the access fails.
    pub fn write(&mut self, offset: u64, value: u32) -> Result<(), DriverError> {
        Ok(self.platform.bar_write(BAR, offset, &value.to_le_bytes())?)
    }

    /// Reads a register of the boot interface.
    ///
    /// # Errors
    /// If the access fails.
    pub fn boot_read(&mut self, offset: u64) -> Result<u32, DriverError> {
        self.read(self.boot + offset)
    }

    /// Writes a register of the boot interface.
    ///
    /// # Errors
    /// If the access fails.
    pub fn boot_write(&mut self, offset: u64, value: u32) -> Result<(), DriverError> {
        self.write(self.boot + offset, value)
    }

    /// Writes 64 bits as two halves, the upper one first.
    ///
    /// # Errors
    /// If an access fails.
    pub fn write_long(&mut self, offset: u64, value: u64) -> Result<(), DriverError> {
        let bytes = value.to_le_bytes();
        self.platform.bar_write(BAR, offset + 4, &bytes[4..])?;
        Ok(self.platform.bar_write(BAR, offset, &bytes[..4])?)
    }

    /// Waits until `done` says so.
    ///
    /// # Errors
    /// [`DriverError::Timeout`], or what `done` found.
    pub fn wait(
        &mut self,
        what: &'static str,
        mut done: impl FnMut(&mut Self) -> Result<bool, DriverError>,
    ) -> Result<(), DriverError> {
        let deadline = self.platform.now().plus(self.timeout_nanos);
        loop {
            self.take_events()?;
            if done(self)? {
                return Ok(());
            }
            let quiet = self.platform.idle(deadline)? == Activity::Quiet;
            self.take_events()?;
            if quiet && !done(self)? || self.platform.now() >= deadline {
                return Err(DriverError::Timeout(what));
            }
        }
    }

    /// Gives the primary boot loader an image. The result is the status's upper two bits.
    ///
    /// # Errors
    /// [`DriverError::Timeout`].
    pub fn load_image(&mut self, image: &[u8]) -> Result<u32, DriverError> {
        let buffer = self.platform.dma_alloc(image.len(), 4096)?;
        self.platform.dma_write(buffer.iova, image)?;
        self.boot_write(mhi::BHI_STATUS, 0)?;
        self.write_long(self.boot + mhi::IMAGE_ADDRESS, buffer.iova)?;
        let size = u32::try_from(image.len()).unwrap_or(u32::MAX);
        self.boot_write(mhi::IMAGE_SIZE, size)?;
        self.boot_write(mhi::IMAGE_DOORBELL, 0x1234)?;
        let result =
            self.wait("the boot image", |it| Ok(it.boot_read(mhi::BHI_STATUS)? >> 30 != 0));
        self.platform.dma_free(buffer);
        result?;
        Ok(self.boot_read(mhi::BHI_STATUS)? >> 30)
    }

    fn ring(&mut self, context: u64, elements: u64, index: u32) -> Result<Ring, DriverError> {
        let len = usize::try_from(elements * ELEMENT).unwrap_or(usize::MAX);
        let memory = self.platform.dma_alloc(len, len)?;
        let mut bytes = [0; CONTEXT];
        bytes[0] = 1;
        bytes[4] = 1;
        bytes[8..12].copy_from_slice(&index.to_le_bytes());
        bytes[12..20].copy_from_slice(&memory.iova.to_le_bytes());
        bytes[20..28].copy_from_slice(&(elements * ELEMENT).to_le_bytes());
        bytes[28..36].copy_from_slice(&memory.iova.to_le_bytes());
        bytes[36..44].copy_from_slice(&memory.iova.to_le_bytes());
        self.platform.dma_write(context, &bytes)?;
        Ok(Ring { memory, context, elements, rp: 0, wp: 0 })
    }

    /// Address of a channel's context.
    #[must_use]
    pub fn channel_context(&self, channel: u8) -> u64 {
        self.contexts.map_or(0, |it| it.at(usize::from(channel) * CONTEXT))
    }

    /// Waits for READY, sets up event and command rings, and goes to M0.
    ///
    /// # Errors
    /// What the device did not do.
    pub fn start(&mut self) -> Result<(), DriverError> {
        self.wait("READY", |it| {
            Ok(it.read(mhi::STATUS)? & 1 != 0 && it.read(mhi::CONTROL)? & 2 == 0)
        })?;
        self.forget();
        let contexts = self.platform.dma_alloc(CHANNELS * CONTEXT, 64)?;
        self.contexts = Some(contexts);
        let others = self.platform.dma_alloc(128, 64)?;
        let mut events = self.ring(others.iova, EVENTS, 0)?;
        let commands = self.ring(others.at(64), COMMANDS, 0)?;
        self.write_long(mhi::CCABAP, contexts.iova)?;
        self.write_long(mhi::ECABAP, others.iova)?;
        self.write_long(mhi::CRCBAP, others.at(64))?;
        let config = self.read(mhi::CONFIG)?;
        self.write(mhi::CONFIG, config & !0xff_0000 | 1 << 16)?;
        events.wp = EVENTS - 1;
        let last = events.at(events.wp);
        self.platform.dma_write(events.context + 36, &last.to_le_bytes())?;
        self.platform.fence();
        let doorbells = u64::from(self.read(0x20)?);
        self.write_long(doorbells, last)?;
        self.events = Some(events);
        self.commands = Some(commands);
        self.write(mhi::CONTROL, 2 << 8)?;
        self.wait("M0", |it| Ok(it.state == 2 && it.environment.is_some()))
    }

    /// Forgets what was set up, after a reset.
    pub fn forget(&mut self) {
        let rings = self.events.take().into_iter().chain(self.commands.take());
        let channels = std::mem::take(&mut self.channels);
        let mut memory: Vec<DmaBuffer> = rings.map(|ring| ring.memory).collect();
        for channel in channels.into_values() {
            memory.push(channel.ring.memory);
            memory.extend(channel.buffers);
        }
        memory.extend(self.contexts.take());
        memory.into_iter().for_each(|buffer| self.platform.dma_free(buffer));
        self.received.clear();
        self.events_seen.clear();
        self.state = 0;
        self.environment = None;
    }

    /// Resets MHI and forgets what was set up.
    ///
    /// # Errors
    /// [`DriverError::Timeout`].
    pub fn reset(&mut self) -> Result<(), DriverError> {
        self.write(mhi::CONTROL, 2)?;
        self.wait("the end of a reset", |it| Ok(it.read(mhi::CONTROL)? & 2 == 0))?;
        self.forget();
        self.boot_write(mhi::INTVEC, 0)
    }

    /// Takes the events that are there, and gives their places back to the device.
    ///
    /// # Errors
    /// What is wrong with them, or if an access fails.
    pub fn take_events(&mut self) -> Result<(), DriverError> {
        let Some(mut ring) = self.events.take() else { return Ok(()) };
        let result = self.take_from(&mut ring);
        self.events = Some(ring);
        result
    }

    fn take_from(&mut self, ring: &mut Ring) -> Result<(), DriverError> {
        let mut word = [0; 8];
        self.platform.dma_read(ring.context + 28, &mut word)?;
        let end = ring.index(u64::from_le_bytes(word));
        let end = end.ok_or(DriverError::Missing("read pointer inside the event ring"))?;
        self.platform.fence();
        let mut taken = false;
        while ring.rp != end {
            let mut event = [0; 16];
            self.platform.dma_read(ring.at(ring.rp), &mut event)?;
            self.event(&event)?;
            ring.rp = ring.next(ring.rp);
            ring.wp = ring.next(ring.wp);
            taken = true;
        }
        if taken {
            let last = ring.at(ring.wp);
            self.platform.dma_write(ring.context + 36, &last.to_le_bytes())?;
            let doorbells = u64::from(self.read(0x20)?);
            self.write_long(doorbells, last)?;
        }
        Ok(())
    }

    fn event(&mut self, event: &[u8; 16]) -> Result<(), DriverError> {
        let address = u64::from_le_bytes(*event.first_chunk().unwrap_or(&[0; 8]));
        self.events_seen.push(*event);
        let (len, code) = (u16::from_le_bytes([event[8], event[9]]), event[11]);
        match event[14] {
            STATE_CHANGE => self.state = code,
            ENVIRONMENT => self.environment = Some(code),
            COMMAND_COMPLETION => self.completion = Some((address, code)),
            TRANSFER_EVENT => return self.transferred(event[15], address, code, len),
            _ => return Err(DriverError::Missing("known event")),
        }
        Ok(())
    }

    fn transferred(
        &mut self,
        number: u8,
        address: u64,
        code: u8,
        len: u16,
    ) -> Result<(), DriverError> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let last = channel.ring.index(address);
        let last = last.ok_or(DriverError::Missing("event inside its ring"))?;
        let mut bytes = Vec::new();
        loop {
            let here = channel.ring.rp;
            let buffer = channel.buffers.pop_front();
            let buffer = buffer.ok_or(DriverError::Missing("buffer for an event"))?;
            channel.ring.rp = channel.ring.next(here);
            let used = if here == last { usize::from(len) } else { buffer.len };
            if !channel.to_device {
                let start = bytes.len();
                bytes.resize(start + used.min(buffer.len), 0);
                self.platform.dma_read(buffer.iova, &mut bytes[start..])?;
            }
            self.platform.dma_free(buffer);
            if here == last {
                break;
            }
        }
        let whole = !channel.to_device;
        if whole || code > 4 {
            self.received.entry(number).or_default().push_back(Received { code, bytes });
        }
        Ok(())
    }

    /// Puts a command about a channel into its ring without telling the device. Its address.
    ///
    /// # Errors
    /// If MHI is not set up, or memory cannot be accessed.
    pub fn put_command(&mut self, kind: u8, channel: u8) -> Result<u64, DriverError> {
        let Some(ring) = &mut self.commands else { return Err(DriverError::NeedsReset) };
        let mut element = [0; 16];
        (element[14], element[15]) = (kind, channel);
        let at = ring.at(ring.wp);
        ring.wp = ring.next(ring.wp);
        self.platform.dma_write(at, &element)?;
        Ok(at)
    }

    /// Rings the doorbell of the command ring.
    ///
    /// # Errors
    /// If MHI is not set up, or an access fails.
    pub fn ring_commands(&mut self) -> Result<(), DriverError> {
        let Some(ring) = &self.commands else { return Err(DriverError::NeedsReset) };
        let (context, wp) = (ring.context, ring.at(ring.wp));
        self.platform.dma_write(context + 36, &wp.to_le_bytes())?;
        self.platform.fence();
        self.write_long(mhi::CRDB, wp)
    }

    /// Sends a command about a channel and waits for its completion code.
    ///
    /// # Errors
    /// [`DriverError::Timeout`]; [`DriverError::Missing`] if another command was completed.
    pub fn command(&mut self, kind: u8, channel: u8) -> Result<u8, DriverError> {
        let sent = self.put_command(kind, channel)?;
        self.completion = None;
        self.ring_commands()?;
        self.wait("a command", |it| Ok(it.completion.is_some()))?;
        match self.completion.take() {
            Some((address, code)) if address == sent => Ok(code),
            _ => Err(DriverError::Missing("completion of the command that was sent")),
        }
    }

    /// Starts a channel with a ring of its own. Its completion code.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub fn start_channel(&mut self, channel: u8) -> Result<u8, DriverError> {
        let ring = self.ring(self.channel_context(channel), 128, 0)?;
        let to_device = channel.is_multiple_of(2);
        self.channels.insert(channel, Channel { ring, to_device, buffers: VecDeque::new() });
        self.command(18, channel)
    }

    /// Resets a channel and gives its memory back.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub fn reset_channel(&mut self, channel: u8) -> Result<u8, DriverError> {
        let code = self.command(16, channel)?;
        if let Some(it) = self.channels.remove(&channel) {
            self.platform.dma_free(it.ring.memory);
            it.buffers.into_iter().for_each(|buffer| self.platform.dma_free(buffer));
        }
        self.received.remove(&channel);
        Ok(code)
    }

    /// Puts a raw element into a channel's ring, with its buffer, without telling the device.
    ///
    /// # Errors
    /// If there is no such channel, or memory cannot be accessed.
    pub fn push(
        &mut self,
        channel: u8,
        buffer: DmaBuffer,
        element: [u8; 16],
    ) -> Result<(), DriverError> {
        let it = self.channels.get_mut(&channel).ok_or(DriverError::Missing("channel"))?;
        let ring = &mut it.ring;
        if ring.next(ring.wp) == ring.rp {
            return Err(DriverError::QueueFull { queue: channel.into() });
        }
        let at = ring.at(ring.wp);
        ring.wp = ring.next(ring.wp);
        it.buffers.push_back(buffer);
        Ok(self.platform.dma_write(at, &element)?)
    }

    /// Rings a channel's doorbell.
    ///
    /// # Errors
    /// If there is no such channel, or an access fails.
    pub fn ring_channel(&mut self, channel: u8) -> Result<(), DriverError> {
        let it = self.channels.get(&channel).ok_or(DriverError::Missing("channel"))?;
        let (context, wp) = (it.ring.context, it.ring.at(it.ring.wp));
        self.platform.dma_write(context + 36, &wp.to_le_bytes())?;
        self.platform.fence();
        let doorbells = u64::from(self.read(0x18)?);
        self.write_long(doorbells + u64::from(channel) * 8, wp)
    }

    /// Sends a message, cut into pieces.
    ///
    /// # Errors
    /// If there is no room, or an access fails.
    pub fn send(&mut self, channel: u8, pieces: &[&[u8]]) -> Result<(), DriverError> {
        for (index, piece) in pieces.iter().enumerate() {
            let buffer = self.platform.dma_alloc(piece.len().max(1), 8)?;
            self.platform.dma_write(buffer.iova, piece)?;
            let last = index + 1 == pieces.len();
            let len = u16::try_from(piece.len()).unwrap_or(u16::MAX);
            self.push(channel, buffer, element(buffer.iova, len, if last { 0x200 } else { 1 }))?;
        }
        self.ring_channel(channel)
    }

    /// Gives the device a buffer for a message.
    ///
    /// # Errors
    /// If there is no room, or an access fails.
    pub fn listen(&mut self, channel: u8, len: u16) -> Result<(), DriverError> {
        let buffer = self.platform.dma_alloc(len.into(), 8)?;
        self.push(channel, buffer, element(buffer.iova, len, 0x200))?;
        self.ring_channel(channel)
    }

    /// Whether a message has come that was not received yet.
    #[must_use]
    pub fn has_message(&self, channel: u8) -> bool {
        self.received.get(&channel).is_some_and(|list| !list.is_empty())
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// [`DriverError::Timeout`].
    pub fn receive(&mut self, channel: u8) -> Result<Received, DriverError> {
        self.wait("a message", |it| Ok(it.has_message(channel)))?;
        let message = self.received.get_mut(&channel).and_then(VecDeque::pop_front);
        message.ok_or(DriverError::Missing("message"))
    }

    /// The clock of the platform.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.platform.now()
    }
}

/// A transfer element of MHI: `address`, `len` and the flags CHAIN, IEOB and IEOT.
#[must_use]
pub fn element(address: u64, len: u16, flags: u32) -> [u8; 16] {
    let mut element = [0; 16];
    element[..8].copy_from_slice(&address.to_le_bytes());
    element[8..10].copy_from_slice(&len.to_le_bytes());
    element[12..].copy_from_slice(&(flags | 2 << 16).to_le_bytes());
    element
}
