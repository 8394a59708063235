//! A call for every command.

mod area;
mod dma;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use understudy_wire::version::{self, Negotiated, Offer};
use understudy_wire::{
    Command, DeviceFeature, DeviceInfo, DmaLayout, GetIrqInfo, GetRegionInfo, GetRegionIoFds,
    IrqData, IrqIndex, IrqInfo, Kind, Limits, MigData, RegionAccess, RegionIndex, RegionInfoFlags,
    RegionWrite, Reply, Request, SetIrqs, SparseArea, SubRegionIoFd, Version, WriteMulti,
};

use crate::vfio_user::{ClientError, Connection, Message, Observer};

use area::map_area;
use dma::Mapping;

pub use area::{MappedArea, Region};
pub use dma::DmaCounts;

/// Room for a reply with capabilities, in bytes: enough for thousands of sparse areas.
const INFO_ARGSZ: u32 = 64 << 10;
/// Replies kept for requests that nobody has asked about yet. Ids are 16 bits.
const MAX_PENDING: usize = 4096;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// What it proposes in VERSION.
    pub offer: Offer,
    /// Longest wait for a reply.
    pub timeout: Duration,
    /// Where it puts the data of DMA_READ replies and expects those of DMA_WRITE:
    /// [`DmaLayout::Early`] imitates QEMU 10.1.
    pub dma_layout: DmaLayout,
    /// Is shown every message.
    pub observer: Option<Observer>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            offer: Offer { write_multiple: true, ..Offer::default() },
            timeout: Duration::from_secs(10),
            dma_layout: DmaLayout::Standard,
            observer: None,
        }
    }
}

/// A request whose reply has not been looked at.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reply that is never taken is kept"]
pub struct Pending {
    id: u16,
    command: Command,
}

/// An attached client.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    options: ClientOptions,
    negotiated: Negotiated,
    mappings: Vec<Mapping>,
    next_id: u16,
    replies: BTreeMap<u16, Message>,
    dma: DmaCounts,
    scratch: Vec<u8>,
}

impl Client {
    /// Connects and agrees on a version.
    ///
    /// # Errors
    /// If the server cannot be reached or does not agree.
    pub fn connect(socket: &Path, options: ClientOptions) -> Result<Self, ClientError> {
        Self::new(Connection::connect(socket)?, options)
    }

    /// Agrees on a version over a new connection.
    ///
    /// # Errors
    /// If the server does not agree.
    pub fn new(mut connection: Connection, options: ClientOptions) -> Result<Self, ClientError> {
        connection.observe(options.observer);
        let json = options.offer.propose();
        let request = Version { major: version::MAJOR, minor: version::MINOR, json: Some(&json) };
        let mut bytes = Vec::new();
        Request::Version(request).encode(0, false, &mut bytes);
        let deadline = Instant::now() + options.timeout;
        connection.send(&bytes, &[], deadline)?;
        let message = connection.receive(deadline)?;
        let limits = options.offer.limits();
        let negotiated = match Reply::decode(&message.header, &message.payload, &limits)? {
            Reply::Version(reply) => version::accept(&options.offer, &reply)?,
            Reply::Error(command, errno) => return Err(ClientError::Refused { command, errno }),
            other => return Err(unexpected(other.command())),
        };
        connection.set_limits(&limits);
        Ok(Self {
            connection,
            options,
            negotiated,
            mappings: Vec::new(),
            next_id: 1,
            replies: BTreeMap::new(),
            dma: DmaCounts::default(),
            scratch: Vec::new(),
        })
    }

    /// What both sides agreed on.
    #[must_use]
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// DMA messages served so far.
    #[must_use]
    pub fn dma_counts(&self) -> DmaCounts {
        self.dma
    }

    /// The connection beneath. What is received from it directly is not seen here.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    // What the device is.

    /// DEVICE_GET_INFO.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn device_info(&mut self) -> Result<DeviceInfo, ClientError> {
        let message = self.request(&Request::GetInfo(DeviceInfo::request()), &[])?;
        match self.decode(&message)? {
            Reply::Info(info) => Ok(info),
            other => Err(unexpected(other.command())),
        }
    }

    /// DEVICE_GET_REGION_INFO.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn region(&mut self, index: RegionIndex) -> Result<Region, ClientError> {
        let get = GetRegionInfo { argsz: INFO_ARGSZ, index };
        let mut message = self.request(&Request::GetRegionInfo(get), &[])?;
        let fd = message.fds.drain(..).next();
        let Reply::RegionInfo(info) = self.decode(&message)? else {
            return Err(unexpected(message.header.command));
        };
        let whole = SparseArea { offset: 0, size: info.size };
        let mappable = info.flags & RegionInfoFlags::MMAP != 0;
        let areas = info.sparse_areas().unwrap_or_else(|| vec![whole]);
        let areas = if mappable { areas } else { Vec::new() };
        let (flags, size, offset) = (info.flags, info.size, info.offset);
        Ok(Region { index, flags, size, offset, areas, fd: fd.filter(|_| mappable) })
    }

    /// Maps all parts of a region that can be mapped.
    ///
    /// # Errors
    /// If an area lies outside the region or cannot be mapped.
    pub fn map_region(&mut self, region: &Region) -> Result<Vec<MappedArea>, ClientError> {
        let Some(fd) = &region.fd else { return Ok(Vec::new()) };
        region.areas.iter().map(|area| map_area(region, fd, *area)).collect()
    }

    /// DEVICE_GET_REGION_IO_FDS.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn region_io_fds(
        &mut self,
        index: RegionIndex,
    ) -> Result<(Vec<SubRegionIoFd>, Vec<OwnedFd>), ClientError> {
        let get = GetRegionIoFds { argsz: INFO_ARGSZ, index };
        let mut message = self.request(&Request::GetRegionIoFds(get), &[])?;
        let fds = std::mem::take(&mut message.fds);
        match self.decode(&message)? {
            Reply::RegionIoFds(reply) => Ok((reply.iter().collect(), fds)),
            other => Err(unexpected(other.command())),
        }
    }

    // Regions.

    /// Reads a region, in as many messages as the negotiated size asks for.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn read(
        &mut self,
        region: RegionIndex,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), ClientError> {
        let max = self.max_data();
        let mut at = offset;
        for part in into.chunks_mut(max) {
            let count = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let access = RegionAccess { offset: at, region: region.0, count };
            let message = self.request(&Request::RegionRead(access), &[])?;
            match self.decode(&message)? {
                Reply::RegionRead(reply, data) if reply == access => part.copy_from_slice(data),
                _ => return Err(unexpected(Command::REGION_READ)),
            }
            at = at.wrapping_add(u64::from(count));
        }
        Ok(())
    }

    /// Writes a region and waits until that is done.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn write(
        &mut self,
        region: RegionIndex,
        offset: u64,
        from: &[u8],
    ) -> Result<(), ClientError> {
        let max = self.max_data();
        let mut at = offset;
        for part in from.chunks(max) {
            let count = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let access = RegionAccess { offset: at, region: region.0, count };
            let message = self.request(&Request::RegionWrite(access, part), &[])?;
            match self.decode(&message)? {
                Reply::RegionWrite(reply) if reply == access => {}
                _ => return Err(unexpected(Command::REGION_WRITE)),
            }
            at = at.wrapping_add(u64::from(count));
        }
        Ok(())
    }

    /// Writes a region without waiting for an answer; the server sends none, nor an error.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn write_posted(
        &mut self,
        region: RegionIndex,
        offset: u64,
        from: &[u8],
    ) -> Result<(), ClientError> {
        let count = u32::try_from(from.len()).unwrap_or(u32::MAX);
        let access = RegionAccess { offset, region: region.0, count };
        self.send(&Request::RegionWrite(access, from), &[], true).map(|_| ())
    }

    /// REGION_WRITE_MULTI: up to 8 bytes each, in order. Returns how many were done.
    ///
    /// # Errors
    /// [`ClientError::Limit`] if it was not negotiated; the server's errno, or what went wrong.
    pub fn write_multi(&mut self, writes: &[RegionWrite<'_>]) -> Result<u64, ClientError> {
        if !self.negotiated.write_multiple {
            return Err(ClientError::Limit("write_multiple"));
        }
        let mut payload = Vec::new();
        WriteMulti::encode_writes(writes, &mut payload);
        let pending = self.submit_raw(Command::REGION_WRITE_MULTI, &payload, &[])?;
        let message = self.finish(pending)?;
        match self.decode(&message)? {
            Reply::RegionWriteMulti(count) => Ok(count),
            other => Err(unexpected(other.command())),
        }
    }

    // Interrupts.

    /// DEVICE_GET_IRQ_INFO.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn irq_info(&mut self, index: IrqIndex) -> Result<IrqInfo, ClientError> {
        let message = self.request(&Request::GetIrqInfo(GetIrqInfo { argsz: 16, index }), &[])?;
        match self.decode(&message)? {
            Reply::IrqInfo(info) => Ok(info),
            other => Err(unexpected(other.command())),
        }
    }

    /// DEVICE_SET_IRQS in any form. Descriptors go with [`IrqData::Eventfd`] only, and in one
    /// message: see [`set_eventfds`](Self::set_eventfds) for many.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn set_irqs(
        &mut self,
        set: &SetIrqs<'_>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        self.request(&Request::SetIrqs(*set), fds).map(|_| ())
    }

    /// Connects eventfds to interrupts `start` and on, in as many messages as the server's
    /// `max_msg_fds` asks for.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn set_eventfds(
        &mut self,
        index: IrqIndex,
        start: u32,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let max = usize::try_from(self.negotiated.peer_max_msg_fds).unwrap_or(usize::MAX);
        if max == 0 {
            return Err(ClientError::Limit("max_msg_fds"));
        }
        let mut start = start;
        for part in fds.chunks(max) {
            let count = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let (action, data) = (understudy_wire::IrqAction::Trigger, IrqData::Eventfd);
            self.set_irqs(&SetIrqs { index, start, count, action, data }, part)?;
            start = start.saturating_add(count);
        }
        Ok(())
    }

    // The rest.

    /// DEVICE_RESET.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.request(&Request::Reset, &[]).map(|_| ())
    }

    /// DEVICE_FEATURE: flags (index and operation) and data; returns the reply's data.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn feature(&mut self, flags: u32, data: &[u8]) -> Result<Vec<u8>, ClientError> {
        let request = DeviceFeature { argsz: INFO_ARGSZ, flags, data };
        let message = self.request(&Request::Feature(request), &[])?;
        match self.decode(&message)? {
            Reply::Feature(feature) => Ok(feature.data.to_vec()),
            other => Err(unexpected(other.command())),
        }
    }

    /// MIG_DATA_READ of up to `size` bytes.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn mig_data_read(&mut self, size: u32) -> Result<Vec<u8>, ClientError> {
        let request = MigData { argsz: size.saturating_add(8), size, data: &[] };
        let message = self.request(&Request::MigDataRead(request), &[])?;
        match self.decode(&message)? {
            Reply::MigDataRead(reply) => Ok(reply.data.to_vec()),
            other => Err(unexpected(other.command())),
        }
    }

    /// MIG_DATA_WRITE.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn mig_data_write(&mut self, data: &[u8]) -> Result<(), ClientError> {
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let request = MigData { argsz: 8, size, data };
        self.request(&Request::MigDataWrite(request), &[]).map(|_| ())
    }

    // Beneath the calls.

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn request(
        &mut self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Message, ClientError> {
        let pending = self.send(request, fds, false)?;
        self.finish(pending)
    }

    /// Sends a request and does not wait: many can be under way.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn submit(
        &mut self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Pending, ClientError> {
        self.send(request, fds, false)
    }

    /// Sends any payload under any command.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn submit_raw(
        &mut self,
        command: Command,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Pending, ClientError> {
        let id = self.take_id();
        let size = u32::try_from(understudy_wire::HEADER_SIZE + payload.len()).unwrap_or(u32::MAX);
        let mut bytes = understudy_wire::Header::request(id, command, size).to_bytes().to_vec();
        bytes.extend_from_slice(payload);
        self.connection.send(&bytes, fds, self.deadline())?;
        Ok(Pending { id, command })
    }

    /// Waits for the reply to a request, in any order. Serves DMA meanwhile.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn finish(&mut self, pending: Pending) -> Result<Message, ClientError> {
        let deadline = self.deadline();
        let message = loop {
            if let Some(message) = self.replies.remove(&pending.id) {
                break message;
            }
            let message = self.connection.receive(deadline)?;
            self.take(message)?;
        };
        let command = message.header.command;
        if command != pending.command {
            return Err(unexpected(command));
        }
        match message.header.errno() {
            Some(errno) => Err(ClientError::Refused { command, errno }),
            None => Ok(message),
        }
    }

    /// Serves what the server has sent, without waiting. Returns how many messages there were.
    ///
    /// # Errors
    /// [`ClientError::Closed`], or what the server did wrong.
    pub fn serve(&mut self) -> Result<usize, ClientError> {
        let mut served = 0;
        while let Some(message) = self.connection.try_receive()? {
            self.take(message)?;
            served += 1;
        }
        Ok(served)
    }

    /// A reply is kept, a request is served.
    fn take(&mut self, message: Message) -> Result<(), ClientError> {
        match message.header.kind() {
            Kind::Reply if self.replies.len() >= MAX_PENDING => Err(ClientError::Limit("replies")),
            Kind::Reply => {
                let id = message.header.id;
                match self.replies.insert(id, message) {
                    None => Ok(()),
                    Some(_) => Err(ClientError::Unexpected(format!("two replies with id {id}"))),
                }
            }
            _ => self.serve_request(&message),
        }
    }

    fn send(
        &mut self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
        posted: bool,
    ) -> Result<Pending, ClientError> {
        let id = self.take_id();
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        request.encode(id, posted, &mut bytes);
        let sent = self.connection.send(&bytes, fds, self.deadline());
        self.scratch = bytes;
        sent.map(|()| Pending { id, command: request.command() })
    }

    fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    fn decode<'a>(&self, message: &'a Message) -> Result<Reply<'a>, ClientError> {
        let limits: Limits = self.options.offer.limits();
        Ok(Reply::decode(&message.header, &message.payload, &limits)?)
    }

    /// Most bytes in one read or write: both sides have a say.
    fn max_data(&self) -> usize {
        let max = self.negotiated.peer_max_data_xfer_size;
        let max = max.min(self.options.offer.max_data_xfer_size);
        usize::try_from(max).unwrap_or(usize::MAX).max(1)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

fn unexpected(command: Command) -> ClientError {
    ClientError::Unexpected(format!("a reply to {command} that does not fit what was asked"))
}
