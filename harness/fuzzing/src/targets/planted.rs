//! A small driver that hashes with a virtio-crypto device, and ten ways to write it wrong.
//!
//! It exists to test the fuzzer. Without a bug ([`Bug::None`]), it is right: it believes nothing
//! that a device can lie about. Each bug is one check left out, or one thing done once too often.

use understudy_client::virtio_crypto::{
    HashKey, Operation, Parameters, Target as Mode, hash, request,
};
use understudy_client::{Access, Activity, DmaBuffer, Platform, PlatformError};
use understudy_device::{DeviceModel, Nanos};

use crate::platform::FuzzPlatform;
use crate::program::Call;
use crate::target::Target;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// None.
    None,
    /// The list of capabilities is walked as long as it goes on.
    EndlessCapabilities,
    /// A reset is waited for without limit.
    EndlessReset,
    /// The queue's size is taken as the device says it.
    SizeTrusted,
    /// The ID of a used buffer is not compared with the number of buffers.
    IdUnchecked,
    /// The length of a used buffer is not compared with its room.
    LengthTrusted,
    /// A buffer is completed although the device does not have it.
    DoubleCompletion,
    /// The used index may be any number ahead.
    IndexTrusted,
    /// After a reset, the ring that was given back is looked at.
    UseAfterReset,
    /// The length is read once to check it, and again to use it.
    DoubleFetch,
    /// Chains are freed as the table says, which the device can write.
    ChainTrusted,
}

/// Every bug.
pub const BUGS: [Bug; 11] = [
    Bug::None,
    Bug::EndlessCapabilities,
    Bug::EndlessReset,
    Bug::SizeTrusted,
    Bug::IdUnchecked,
    Bug::LengthTrusted,
    Bug::DoubleCompletion,
    Bug::IndexTrusted,
    Bug::UseAfterReset,
    Bug::DoubleFetch,
    Bug::ChainTrusted,
];

impl Bug {
    /// Its name, as in targets.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::EndlessCapabilities => "endless-capabilities",
            Self::EndlessReset => "endless-reset",
            Self::SizeTrusted => "size-trusted",
            Self::IdUnchecked => "id-unchecked",
            Self::LengthTrusted => "length-trusted",
            Self::DoubleCompletion => "double-completion",
            Self::IndexTrusted => "index-trusted",
            Self::UseAfterReset => "use-after-reset",
            Self::DoubleFetch => "double-fetch",
            Self::ChainTrusted => "chain-trusted",
        }
    }
}

/// The driver with one of the bugs.
#[derive(Debug, Clone)]
pub struct Planted {
    bug: Bug,
    name: String,
}

impl Planted {
    /// The driver with this bug.
    #[must_use]
    pub fn new(bug: Bug) -> Self {
        Self { bug, name: format!("planted/{}", bug.name()) }
    }
}

impl Target for Planted {
    fn name(&self) -> &str {
        &self.name
    }

    fn model(&self) -> Result<Box<dyn DeviceModel>, String> {
        super::virtio_crypto::model(16)
    }

    fn drive(&self, device: &mut FuzzPlatform, calls: &[Call]) -> Result<(), String> {
        let mut driver = Driver::find(device, self.bug).map_err(|error| error.to_string())?;
        let driven = driver.start().and_then(|()| driver.serve(calls));
        driver.end();
        driven.map_err(|error| error.to_string())
    }

    fn must_free(&self) -> bool {
        true
    }

    fn calls(&self) -> u8 {
        3
    }

    fn budget(&self) -> u32 {
        5000
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("the device {0}")]
    Device(&'static str),
}

type Answer<T> = std::result::Result<T, Error>;

const COMMAND: u64 = 0x04;
const CAPABILITIES: u64 = 0x34;
const MEMORY_AND_MASTER: u16 = 6;
/// Descriptors of the ring, however many the device has.
const SLOTS: usize = 8;
/// Bytes of a digest, and of the status that follows it.
const RESULT: u32 = 33;
/// VERSION_1 and, in the low word, REVISION_1 with HASH_STATELESS.
const FEATURES: [u32; 2] = [0b101, 1];
const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// Longest wait for the next of the device's answers, in virtual nanoseconds.
const PATIENCE: u64 = 20_000_000;

/// Registers of the common configuration, by offset.
mod common {
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const STATUS: u64 = 0x14;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(super) const QUEUE_DESC: u64 = 0x20;
}

/// A structure in a BAR.
#[derive(Debug, Clone, Copy, Default)]
struct Structure {
    bar: u8,
    offset: u64,
    len: u64,
}

/// A request in a slot.
#[derive(Debug, Clone, Copy)]
struct Held {
    buffer: DmaBuffer,
    result: u64,
    ticket: u64,
}

/// Descriptor table, available ring, used ring.
#[derive(Debug, Clone, Copy)]
struct Rings {
    table: DmaBuffer,
    available: DmaBuffer,
    used: DmaBuffer,
}

struct Driver<'a> {
    p: &'a mut FuzzPlatform,
    bug: Bug,
    common: Structure,
    notify: Structure,
    doorbell: u64,
    size: u16,
    rings: Option<Rings>,
    /// By head descriptor. Chains take two: head and the next.
    held: [Option<Held>; SLOTS],
    free: Vec<u16>,
    available: u16,
    taken: u16,
    next_ticket: u64,
    /// Tickets that were completed.
    completed: Vec<u64>,
}

impl<'a> Driver<'a> {
    fn find(p: &'a mut FuzzPlatform, bug: Bug) -> Answer<Self> {
        let (mut common, mut notify) = (None, None);
        let mut at = u64::from(p.config_u8(CAPABILITIES)?);
        let mut count = 0;
        while at != 0 {
            count += 1;
            if count > 48 && bug != Bug::EndlessCapabilities {
                return Err(Error::Device("has a list of capabilities without end"));
            }
            let [id, next] = p.config_u16(at)?.to_le_bytes();
            if id == 9 {
                let kind = p.config_u8(at + 3)?;
                let structure = Structure {
                    bar: p.config_u8(at + 4)?,
                    offset: p.config_u32(at + 8)?.into(),
                    len: p.config_u32(at + 12)?.into(),
                };
                match kind {
                    1 if common.is_none() => common = Some(structure),
                    2 if notify.is_none() => notify = Some(structure),
                    _ => {}
                }
            }
            at = u64::from(next) & 0xfc;
        }
        let common = common.ok_or(Error::Device("has no common configuration"))?;
        let notify = notify.ok_or(Error::Device("has no notifications"))?;
        p.config_write(COMMAND, &MEMORY_AND_MASTER.to_le_bytes())?;
        Ok(Self {
            p,
            bug,
            common,
            notify,
            doorbell: 0,
            size: 0,
            rings: None,
            held: [None; SLOTS],
            free: Vec::new(),
            available: 0,
            taken: 0,
            next_ticket: 1,
            completed: Vec::new(),
        })
    }

    fn start(&mut self) -> Answer<()> {
        self.reset()?;
        self.set8(common::STATUS, 3)?;
        for (select, bits) in (0u32..).zip(FEATURES) {
            self.set(common::DRIVER_FEATURE_SELECT, &select.to_le_bytes())?;
            self.set(common::DRIVER_FEATURE, &bits.to_le_bytes())?;
        }
        self.set8(common::STATUS, 11)?;
        if self.get8(common::STATUS)? & 8 == 0 {
            return Err(Error::Device("refuses the features"));
        }
        self.set(common::QUEUE_SELECT, &0u16.to_le_bytes())?;
        let offered = self.get16(common::QUEUE_SIZE)?;
        if self.bug == Bug::SizeTrusted {
            self.size = offered.min(8);
        } else {
            let usable = offered >= 8 && offered.is_power_of_two();
            self.size = if usable { 8 } else { return Err(Error::Device("has a bad queue")) };
        }
        self.set(common::QUEUE_SIZE, &self.size.to_le_bytes())?;
        let doorbell = u64::from(self.get16(common::QUEUE_NOTIFY_OFF)?) * 4;
        if doorbell + 2 > self.notify.len {
            return Err(Error::Device("has a doorbell outside its place"));
        }
        self.doorbell = doorbell;
        let table = self.p.dma_alloc(16 * SLOTS, 16)?;
        let available = self.p.dma_alloc(6 + 2 * SLOTS, 2)?;
        let used = self.p.dma_alloc(6 + 8 * SLOTS, 4)?;
        self.rings = Some(Rings { table, available, used });
        self.free = (0..8).step_by(2).collect();
        for (index, area) in (0u64..).zip([table, available, used]) {
            let bytes = area.iova.to_le_bytes();
            let (low, high) = bytes.split_at(4);
            self.set(common::QUEUE_DESC + 8 * index, low)?;
            self.set(common::QUEUE_DESC + 8 * index + 4, high)?;
        }
        self.set(common::QUEUE_ENABLE, &1u16.to_le_bytes())?;
        self.set8(common::STATUS, 15)
    }

    fn serve(&mut self, calls: &[Call]) -> Answer<()> {
        for call in calls {
            match call.0 % 3 {
                0 => self.submit(call.1 % 256)?,
                1 => self.collect()?,
                _ => {
                    self.submit(call.1 % 256)?;
                    self.submit(call.1 % 64)?;
                    self.collect()?;
                }
            }
        }
        self.collect()
    }

    /// Asks for the digest of so many bytes.
    fn submit(&mut self, len: u16) -> Answer<()> {
        let (Some(rings), Some(head)) = (self.rings, self.free.pop()) else { return Ok(()) };
        let key = Parameters::Hash(HashKey { algorithm: hash::SHA_256, result_len: 32 });
        let src = super::pattern(len);
        let operation = Operation::Hash { src: &src, result_len: 32 };
        let encoded = request::data_request(0b101, Mode::Stateless(&key), &operation);
        let bytes = encoded.map(|encoded| encoded.readable.concat()).unwrap_or_default();
        let buffer = match self.p.dma_alloc(bytes.len() + RESULT as usize, 16) {
            Ok(buffer) => buffer,
            Err(error) => {
                self.free.push(head);
                return Err(error.into());
            }
        };
        let result = buffer.at(bytes.len());
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.held[usize::from(head)] = Some(Held { buffer, result, ticket });
        self.p.dma_write(buffer.iova, &bytes)?;
        self.p.dma_write(buffer.at(buffer.len - 1), &[0xff])?;
        let readable = u32::try_from(bytes.len()).unwrap_or(0);
        self.describe(rings, head, buffer.iova, readable, NEXT)?;
        self.describe(rings, head + 1, result, RESULT, WRITE)?;
        let place = usize::from(self.available % self.size.max(1));
        self.p.dma_write(rings.available.at(4 + 2 * place), &head.to_le_bytes())?;
        self.available = self.available.wrapping_add(1);
        self.p.dma_write(rings.available.at(2), &self.available.to_le_bytes())?;
        let at = self.notify.offset + self.doorbell;
        Ok(self.p.bar_write(self.notify.bar, at, &[0, 0])?)
    }

    fn describe(&mut self, rings: Rings, at: u16, iova: u64, len: u32, flags: u16) -> Answer<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&iova.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&(at + 1).to_le_bytes());
        Ok(self.p.dma_write(rings.table.at(16 * usize::from(at)), &bytes)?)
    }

    /// Takes what the device has done, until nothing is left or nothing comes.
    fn collect(&mut self) -> Answer<()> {
        let mut deadline = self.p.now().plus(PATIENCE);
        while self.held.iter().any(Option::is_some) {
            let taken = self.take();
            if taken.is_err() {
                self.recover()?;
                return taken.map(|_| ());
            }
            let taken = taken?;
            if taken {
                deadline = self.p.now().plus(PATIENCE);
            }
            if !taken && (self.p.idle(deadline)? == Activity::Quiet) && !self.take()? {
                let asked = self.get8(common::STATUS)? & 64 != 0;
                self.recover()?;
                let why = if asked { "asks for a reset" } else { "does not answer" };
                return Err(Error::Device(why));
            }
            if self.p.now() > deadline {
                self.recover()?;
                return Err(Error::Device("takes too long"));
            }
        }
        Ok(())
    }

    /// Takes what is in the used ring. Whether there was something.
    fn take(&mut self) -> Answer<bool> {
        let Some(rings) = self.rings else { return Ok(false) };
        let index = self.p.dma_u16(rings.used.at(2))?;
        let count = index.wrapping_sub(self.taken);
        let held = self.held.iter().filter(|held| held.is_some()).count();
        if usize::from(count) > held && self.bug != Bug::IndexTrusted {
            return Err(Error::Device("has used more than it was given"));
        }
        let mut batch = [(0, 0); SLOTS];
        for slot in &mut batch[..usize::from(count)] {
            let place = usize::from(self.taken % self.size);
            let at = rings.used.at(4 + 8 * place);
            *slot = (self.look32(at)?, at + 4);
            self.taken = self.taken.wrapping_add(1);
        }
        for (id, len_at) in &batch[..usize::from(count)] {
            self.complete(rings, *id, *len_at)?;
        }
        Ok(count > 0)
    }

    fn complete(&mut self, rings: Rings, id: u32, len_at: u64) -> Answer<()> {
        let slot = id as usize;
        if slot >= SLOTS && self.bug != Bug::IdUnchecked {
            return Err(Error::Device("names a buffer that cannot be"));
        }
        let found = self.held[slot];
        let held = match (found, self.bug) {
            (Some(held), _) => held,
            // What was in the slot before is completed again.
            (None, Bug::DoubleCompletion) => {
                let ticket = self.completed.last().copied().unwrap_or(0);
                self.done(ticket);
                return Ok(());
            }
            (None, _) => return Err(Error::Device("names a buffer that it does not have")),
        };
        let mut len = self.look32(len_at)?;
        if len > RESULT && self.bug != Bug::LengthTrusted {
            return Err(Error::Device("wrote more than there is room for"));
        }
        if self.bug == Bug::DoubleFetch {
            len = self.look32(len_at)?;
        }
        let mut result = vec![0; (len as usize).min(1 << 20)];
        self.p.dma_read(held.result, &mut result)?;
        self.held[slot] = None;
        self.release(rings, id)?;
        self.p.dma_free(held.buffer);
        self.done(held.ticket);
        Ok(())
    }

    /// Gives the descriptors of a chain back.
    fn release(&mut self, rings: Rings, head: u32) -> Answer<()> {
        let head = u16::try_from(head).unwrap_or(0);
        if self.bug == Bug::ChainTrusted {
            let mut at = head;
            loop {
                let mut bytes = [0; 16];
                self.p.dma_read(rings.table.at(16 * usize::from(at)), &mut bytes)?;
                if u16::from_le_bytes([bytes[12], bytes[13]]) & NEXT == 0 {
                    break;
                }
                at = u16::from_le_bytes([bytes[14], bytes[15]]) % 8;
            }
        }
        self.free.push(head);
        Ok(())
    }

    /// A request is done: its caller is told, once.
    fn done(&mut self, ticket: u64) {
        if self.completed.contains(&ticket) || ticket == 0 {
            self.p.wrong("a request is completed that is not under way", format!("{ticket}"));
        }
        self.completed.push(ticket);
    }

    /// Starts the device anew after it went wrong: all requests fail.
    fn recover(&mut self) -> Answer<()> {
        let rings = self.rings;
        self.end();
        if self.bug == Bug::UseAfterReset
            && let Some(rings) = rings
        {
            // "Was there anything left in the ring?"
            self.p.dma_u16(rings.used.at(2))?;
        }
        Ok(())
    }

    /// Stops the device and gives all memory back.
    fn end(&mut self) {
        let stopped = self.reset().is_ok();
        for slot in 0..SLOTS {
            if let Some(held) = self.held[slot].take() {
                self.p.dma_free(held.buffer);
            }
        }
        // A device that does not stop may still write: but it has no business of ours any more.
        let _ = stopped;
        if let Some(rings) = self.rings.take() {
            for buffer in [rings.table, rings.available, rings.used] {
                self.p.dma_free(buffer);
            }
        }
    }

    fn reset(&mut self) -> Answer<()> {
        self.set8(common::STATUS, 0)?;
        let mut looks = 0;
        while self.get8(common::STATUS)? != 0 {
            looks += 1;
            if looks > 100 && self.bug != Bug::EndlessReset {
                return Err(Error::Device("does not reset"));
            }
            self.p.idle(Nanos(self.p.now().0 + 1000))?;
        }
        Ok(())
    }

    fn look32(&mut self, iova: u64) -> Answer<u32> {
        let mut bytes = [0; 4];
        self.p.dma_read(iova, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn get8(&mut self, register: u64) -> Answer<u8> {
        Ok(self.p.bar_u8(self.common.bar, self.common.offset + register)?)
    }

    fn get16(&mut self, register: u64) -> Answer<u16> {
        Ok(self.p.bar_u16(self.common.bar, self.common.offset + register)?)
    }

    fn set8(&mut self, register: u64, value: u8) -> Answer<()> {
        self.set(register, &[value])
    }

    fn set(&mut self, register: u64, bytes: &[u8]) -> Answer<()> {
        Ok(self.p.bar_write(self.common.bar, self.common.offset + register, bytes)?)
    }
}
