//! An attached client: the version is negotiated, and every command has a method.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use serde_json::{Value, json};

use crate::bytes::{Bytes, le16, le32, le64};
use crate::peer::{Peer, Reply, command};
use crate::{Memory, Stop};

/// Region index of PCI config space (`VFIO_PCI_CONFIG_REGION_INDEX`).
pub(crate) const CONFIG: u32 = 7;
/// Interrupt indexes (`VFIO_PCI_*_IRQ_INDEX`).
pub(crate) const INTX: u32 = 0;
pub(crate) const MSI: u32 = 1;
pub(crate) const MSIX: u32 = 2;

/// SET_IRQS flags: one for the data, one for the action.
pub(crate) mod irq {
    pub(crate) const NONE: u32 = 1 << 0;
    pub(crate) const BOOL: u32 = 1 << 1;
    pub(crate) const EVENTFD: u32 = 1 << 2;
    pub(crate) const MASK: u32 = 1 << 3;
    pub(crate) const UNMASK: u32 = 1 << 4;
    pub(crate) const TRIGGER: u32 = 1 << 5;
}

/// Region flags.
pub(crate) mod region_flag {
    pub(crate) const READ: u32 = 1;
    pub(crate) const WRITE: u32 = 2;
    pub(crate) const MMAP: u32 = 4;
    pub(crate) const CAPS: u32 = 8;
}

/// Answer to DEVICE_GET_INFO.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) regions: u32,
    pub(crate) irqs: u32,
}

/// Answer to DEVICE_GET_REGION_INFO.
#[derive(Debug)]
pub(crate) struct RegionInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) index: u32,
    pub(crate) cap_offset: u32,
    pub(crate) size: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Answer to DEVICE_GET_IRQ_INFO.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IrqInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) index: u32,
    pub(crate) count: u32,
}

/// An attached client.
pub(crate) struct Session {
    pub(crate) peer: Peer,
    pub(crate) deadline: Instant,
    /// The server's capabilities.
    pub(crate) capabilities: Value,
}

/// What the checks propose: nothing that a client need not support, and batched writes.
pub(crate) fn proposal() -> Value {
    json!({"capabilities": {
        "max_msg_fds": 8, "max_data_xfer_size": 1_048_576, "write_multiple": true,
    }})
}

/// VERSION's payload.
pub(crate) fn version_payload(major: u16, minor: u16, data: Option<&[u8]>) -> Vec<u8> {
    Bytes::new().u16(major).u16(minor).bytes(data.unwrap_or_default()).0
}

/// JSON as VERSION carries it.
pub(crate) fn nul_terminated(value: &Value) -> Vec<u8> {
    let mut text = value.to_string().into_bytes();
    text.push(0);
    text
}

/// The JSON of a VERSION payload: `Null` if it carries none.
pub(crate) fn version_data(payload: &[u8]) -> Result<Value, Stop> {
    let Some(data) = payload.get(4..).filter(|data| !data.is_empty()) else {
        return Ok(Value::Null);
    };
    let expected = "version data is UTF-8 JSON with a terminating NUL";
    let text = data
        .split_last()
        .filter(|(last, _)| **last == 0)
        .ok_or_else(|| Stop::fail(expected, "no NUL at the end"))?
        .1;
    serde_json::from_slice(text).map_err(|error| Stop::fail(expected, error.to_string()))
}

impl Session {
    /// Negotiates version 0.0.
    pub(crate) fn start(mut peer: Peer, deadline: Instant) -> Result<Self, Stop> {
        let payload = version_payload(0, 0, Some(&nul_terminated(&proposal())));
        let reply = peer.call(command::VERSION, &payload, &[])?.ok()?;
        let capabilities =
            version_data(&reply)?.get("capabilities").cloned().unwrap_or(Value::Null);
        Ok(Self { peer, deadline, capabilities })
    }

    /// Most bytes that one transfer may carry.
    pub(crate) fn max_data_xfer_size(&self) -> u64 {
        self.capabilities.get("max_data_xfer_size").and_then(Value::as_u64).unwrap_or(1 << 20)
    }

    pub(crate) fn info(&mut self) -> Result<DeviceInfo, Stop> {
        let request = Bytes::new().u32(16).pad(16);
        let payload = self.peer.call(command::GET_INFO, &request.0, &[])?.ok()?;
        sized("DEVICE_GET_INFO", &payload, 16)?;
        Ok(DeviceInfo {
            argsz: le32(&payload, 0),
            flags: le32(&payload, 4),
            regions: le32(&payload, 8),
            irqs: le32(&payload, 12),
        })
    }

    pub(crate) fn region_info_request(index: u32, argsz: u32) -> Vec<u8> {
        Bytes::new().u32(argsz).u32(0).u32(index).pad(32).0
    }

    pub(crate) fn region_info(&mut self, index: u32) -> Result<RegionInfo, Stop> {
        self.region_info_within(index, 4096)
    }

    /// As a client asks that has room for `argsz` bytes of reply.
    pub(crate) fn region_info_within(
        &mut self,
        index: u32,
        argsz: u32,
    ) -> Result<RegionInfo, Stop> {
        let request = Self::region_info_request(index, argsz);
        let reply = self.peer.call(command::GET_REGION_INFO, &request, &[])?.accepted()?;
        if reply.payload.len() < 32 {
            sized("DEVICE_GET_REGION_INFO", &reply.payload, 32)?;
        }
        Ok(RegionInfo {
            argsz: le32(&reply.payload, 0),
            flags: le32(&reply.payload, 4),
            index: le32(&reply.payload, 8),
            cap_offset: le32(&reply.payload, 12),
            size: le64(&reply.payload, 16),
            payload: reply.payload,
            fds: reply.fds,
        })
    }

    pub(crate) fn irq_info(&mut self, index: u32) -> Result<IrqInfo, Stop> {
        let request = Bytes::new().u32(16).u32(0).u32(index).pad(16);
        let payload = self.peer.call(command::GET_IRQ_INFO, &request.0, &[])?.ok()?;
        sized("DEVICE_GET_IRQ_INFO", &payload, 16)?;
        Ok(IrqInfo {
            argsz: le32(&payload, 0),
            flags: le32(&payload, 4),
            index: le32(&payload, 8),
            count: le32(&payload, 12),
        })
    }

    /// Sends SET_IRQS as given; `data` follows the fixed fields.
    pub(crate) fn set_irqs(
        &mut self,
        flags: u32,
        index: u32,
        start: u32,
        count: u32,
        data: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, Stop> {
        let argsz = u32::try_from(20 + data.len()).unwrap_or(u32::MAX);
        let request = Bytes::new().u32(argsz).u32(flags).u32(index).u32(start).u32(count);
        self.peer.call(command::SET_IRQS, &request.bytes(data).0, fds)
    }

    /// Has `event` signalled by vector `vector` of an interrupt kind.
    pub(crate) fn assign(&mut self, index: u32, vector: u32, event: &Event) -> Result<(), Stop> {
        let flags = irq::EVENTFD | irq::TRIGGER;
        self.set_irqs(flags, index, vector, 1, &[], &[event.as_fd()])?.ok().map(|_| ())
    }

    /// The client triggers a vector itself.
    pub(crate) fn trigger(&mut self, index: u32, vector: u32) -> Result<(), Stop> {
        self.trigger_all(index, vector, 1, None)
    }

    /// The client triggers vectors itself: those of the range, or of these booleans. Not every kind
    /// takes every action ("VFIO_USER_DEVICE_SET_IRQS"): a refusal ends the check without a verdict.
    pub(crate) fn trigger_all(
        &mut self,
        index: u32,
        start: u32,
        count: u32,
        which: Option<&[u8]>,
    ) -> Result<(), Stop> {
        let data = which.map_or(irq::NONE, |_| irq::BOOL);
        let which = which.unwrap_or_default();
        let reply = self.set_irqs(data | irq::TRIGGER, index, start, count, which, &[])?;
        if let Some(error) = reply.error {
            let error = crate::errno::name(error);
            return Err(Stop::skip(format!("a client cannot trigger kind {index}: {error}")));
        }
        reply.ok().map(|_| ())
    }

    pub(crate) fn access(region: u32, offset: u64, count: u32) -> Bytes {
        Bytes::new().u64(offset).u32(region).u32(count)
    }

    /// Sends REGION_READ and returns whatever reply comes.
    pub(crate) fn try_read(&mut self, region: u32, offset: u64, count: u32) -> Result<Reply, Stop> {
        self.peer.call(command::REGION_READ, &Self::access(region, offset, count).0, &[])
    }

    /// Reads a region.
    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> Result<Vec<u8>, Stop> {
        let payload = self.try_read(region, offset, count)?.ok()?;
        let head = Self::access(region, offset, count).0;
        let (echo, data) = payload.split_at_checked(16).unwrap_or((&payload, &[]));
        if echo != head || data.len() as u64 != u64::from(count) {
            return Err(Stop::fail(
                format!("REGION_READ echoes offset, region and count, then {count} bytes"),
                format!("{} bytes: {}", payload.len(), hex::encode(echo)),
            ));
        }
        Ok(data.to_vec())
    }

    /// Sends REGION_WRITE and returns whatever reply comes.
    pub(crate) fn try_write(
        &mut self,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<Reply, Stop> {
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let request = Self::access(region, offset, count).bytes(data);
        self.peer.call(command::REGION_WRITE, &request.0, &[])
    }

    /// Writes a region.
    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Stop> {
        let payload = self.try_write(region, offset, data)?.ok()?;
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if payload == Self::access(region, offset, count).0 {
            return Ok(());
        }
        Err(Stop::fail(
            "REGION_WRITE's reply echoes offset, region and count",
            format!("{} bytes: {}", payload.len(), hex::encode(&payload)),
        ))
    }

    pub(crate) fn read8(&mut self, region: u32, offset: u64) -> Result<u8, Stop> {
        Ok(self.read(region, offset, 1)?.first().copied().unwrap_or_default())
    }

    pub(crate) fn read16(&mut self, region: u32, offset: u64) -> Result<u16, Stop> {
        Ok(le16(&self.read(region, offset, 2)?, 0))
    }

    pub(crate) fn read32(&mut self, region: u32, offset: u64) -> Result<u32, Stop> {
        Ok(le32(&self.read(region, offset, 4)?, 0))
    }

    pub(crate) fn write8(&mut self, region: u32, offset: u64, value: u8) -> Result<(), Stop> {
        self.write(region, offset, &[value])
    }

    pub(crate) fn write16(&mut self, region: u32, offset: u64, value: u16) -> Result<(), Stop> {
        self.write(region, offset, &value.to_le_bytes())
    }

    pub(crate) fn write32(&mut self, region: u32, offset: u64, value: u32) -> Result<(), Stop> {
        self.write(region, offset, &value.to_le_bytes())
    }

    /// Sends DMA_MAP for memory, with its file if `shared`.
    pub(crate) fn try_map(&mut self, memory: &Memory, shared: bool) -> Result<Reply, Stop> {
        let request = dma_map(memory.base, memory.size, 0, 3);
        let fds = [memory.as_fd()];
        let fds = if shared { fds.as_slice() } else { &[] };
        self.peer.call(command::DMA_MAP, &request, fds)
    }

    /// Maps new memory of `size` bytes at `base`, shared by file.
    pub(crate) fn map(&mut self, base: u64, size: u64) -> Result<Memory, Stop> {
        let memory = memory(base, size)?;
        self.try_map(&memory, true)?.ok()?;
        Ok(memory)
    }

    /// Sends DMA_UNMAP.
    pub(crate) fn try_unmap(&mut self, base: u64, size: u64) -> Result<Reply, Stop> {
        self.peer.call(command::DMA_UNMAP, &dma_unmap(base, size), &[])
    }

    pub(crate) fn reset(&mut self) -> Result<(), Stop> {
        self.peer.call(command::DEVICE_RESET, &[], &[])?.ok().map(|_| ())
    }

    /// Fails the check unless the device still answers, in step.
    pub(crate) fn in_step(&mut self) -> Result<(), Stop> {
        self.read(CONFIG, 0, 4).map(|_| ()).map_err(|stop| stop.during("the stream stays in step"))
    }

    /// Waits until `done` returns something. Each round is a round trip to the device, so nothing
    /// spins.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Self) -> Result<Option<T>, Stop>,
    ) -> Result<T, Stop> {
        loop {
            if let Some(value) = done(self)? {
                return Ok(value);
            }
            if Instant::now() >= self.deadline {
                return Err(Stop::Wedged(what.to_owned()));
            }
            self.read(CONFIG, 0, 4)?;
        }
    }
}

/// DMA_MAP's payload.
pub(crate) fn dma_map(address: u64, size: u64, offset: u64, flags: u32) -> Vec<u8> {
    Bytes::new().u32(32).u32(flags).u64(offset).u64(address).u64(size).0
}

/// DMA_UNMAP's payload.
pub(crate) fn dma_unmap(address: u64, size: u64) -> Vec<u8> {
    Bytes::new().u32(24).u32(0).u64(address).u64(size).0
}

/// Memory for the device, or a failed check: nothing of the device's doing.
pub(crate) fn memory(base: u64, size: u64) -> Result<Memory, Stop> {
    Memory::new(base, size).map_err(|error| Stop::skip(format!("no memory for the check: {error}")))
}

fn sized(what: &str, payload: &[u8], len: usize) -> Result<(), Stop> {
    if payload.len() == len {
        return Ok(());
    }
    Err(Stop::fail(format!("{what}'s reply payload has {len} bytes"), payload.len().to_string()))
}

/// An eventfd that an interrupt signals.
#[derive(Debug)]
pub(crate) struct Event(OwnedFd);

impl Event {
    pub(crate) fn new() -> Result<Self, Stop> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = eventfd(0, flags)
            .map_err(|error| Stop::skip(format!("no eventfd for the check: {error}")))?;
        Ok(Self(fd))
    }

    /// Signals since the last call.
    pub(crate) fn count(&self) -> u64 {
        let mut raw = [0; 8];
        match rustix::io::read(&self.0, &mut raw) {
            Ok(8) => u64::from_ne_bytes(raw),
            _ => 0,
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
