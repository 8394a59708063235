//! One client's requests: validated once, dispatched, answered. No sockets here.

use std::os::fd::{AsFd, OwnedFd};

use understudy_device::{AccessError, Bar, Progress, ResetKind};
use understudy_pci::Irq;
use understudy_trace::{Record, TracedFunction};
use understudy_wire::version::{self, Offer};
use understudy_wire::{
    Command, DeviceInfo, DeviceInfoFlags, DmaMap, DmaUnmap, Errno, GetIrqInfo, GetRegionInfo,
    GetRegionIoFds, Header, IrqAction, IrqData, IrqIndex, IrqInfo, IrqInfoFlags, Kind,
    RegionAccess, RegionCaps, RegionIndex, RegionInfo, RegionInfoFlags, RegionIoFds, Reply,
    Request, SetIrqs, Side, SparseArea, Version, WireError, WriteMulti,
};

use crate::Options;
use crate::interrupts::Trigger;
use crate::link::Link;
use crate::transport::{Channel, Closed, Message};

/// A PCI function and its client, if it has one.
pub(crate) struct Session<C> {
    pub(crate) function: TracedFunction,
    pub(crate) link: Link<C>,
    offer: Offer,
    /// Whether a client is here, or was and has not been cleaned up after.
    attached: bool,
    /// Whether the client has agreed on a version.
    negotiated: bool,
    message: Message,
    reply: Vec<u8>,
    /// The BAR whose shared memory goes with the reply.
    reply_file: Option<Bar>,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// It is malformed.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// It cannot be carried out.
    #[error("{0}")]
    Failed(Errno),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl Refusal {
    fn errno(&self) -> Errno {
        match self {
            Self::Malformed(error) => error.errno,
            Self::Failed(errno) => *errno,
        }
    }
}

/// What becomes of a request.
type Outcome = Result<(), Refusal>;

impl<C: Channel> Session<C> {
    pub(crate) fn new(function: TracedFunction, options: &Options) -> rustix::io::Result<Self> {
        let link = Link::new(&function, options)?;
        let offer = Offer {
            max_data_xfer_size: options.max_data_xfer_size,
            max_dma_maps: options.max_dma_maps,
            write_multiple: options.write_multiple,
            ..Offer::default()
        };
        Ok(Self {
            function,
            link,
            offer,
            attached: false,
            negotiated: false,
            message: Message::default(),
            reply: Vec::new(),
            reply_file: None,
        })
    }

    /// A client arrives.
    pub(crate) fn attach(&mut self, channel: C) {
        self.link.counters.clients += 1;
        self.link.channel = Some(channel);
        self.attached = true;
        self.function.note(&self.link, |at| Record::Attach { at });
    }

    /// The client is gone: the function is as new.
    pub(crate) fn detach(&mut self) {
        self.link.disconnect(&self.function);
        self.function.note(&self.link, |at| Record::Detach { at });
        self.function.reset(ResetKind::PowerOn);
        (self.attached, self.negotiated) = (false, false);
        self.message = Message::default();
        self.reply = Vec::new();
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.attached
    }

    /// Serves up to `limit` messages that come with one read, and none after one that may have
    /// given the function work. Returns how many.
    pub(crate) fn serve(&mut self, limit: usize) -> Result<usize, Closed> {
        for served in 1..=limit {
            // A client that does not take replies gets no more of them.
            if self.link.channel.as_ref().ok_or(Closed)?.is_congested()
                || !self.link.receive(&mut self.message)?
            {
                return Ok(served - 1);
            }
            let command = self.message.header.command;
            self.serve_one()?;
            let is_write = matches!(command, Command::REGION_WRITE | Command::REGION_WRITE_MULTI);
            if is_write || !self.can_serve() {
                return Ok(served);
            }
        }
        Ok(limit)
    }

    /// Whether [`Session::serve`] has something to do, whatever the socket says.
    pub(crate) fn can_serve(&self) -> bool {
        self.attached && self.link.can_serve()
    }

    /// Lets the function work on up to `budget` queue entries.
    pub(crate) fn poll(&mut self, budget: u32) -> Progress {
        self.function.poll(&mut self.link, budget)
    }

    /// Tells the function that nobody will poll it for a while.
    pub(crate) fn park(&mut self) -> Progress {
        self.function.park(&mut self.link)
    }

    /// Gives finished jobs back to the function. Returns whether there were any.
    pub(crate) fn finish_jobs(&mut self) -> bool {
        let finished = self.link.jobs.take();
        let any = !finished.is_empty();
        for job in finished {
            self.function.finish(&mut self.link, job);
        }
        any
    }

    /// Lets all jobs in flight finish, so that what they worked on is where it belongs.
    fn quiesce(&mut self) {
        for job in self.link.jobs.wait_all() {
            self.function.finish(&mut self.link, job);
        }
    }

    /// Masks or unmasks INTx as the client's eventfds ask.
    pub(crate) fn serve_line_controls(&mut self) {
        for masked in [true, false] {
            if self.link.interrupts.line.take(masked) {
                self.function.set_irq_mask(&mut self.link, Irq::Intx, 0, 1, masked);
            }
        }
    }

    fn serve_one(&mut self) -> Result<(), Closed> {
        let mut message = std::mem::take(&mut self.message);
        let header = message.header;
        self.link.counters.messages += 1;
        self.note_message(true, &header);
        let result = if header.kind() == Kind::Reply {
            // A reply is never answered, or two sides could do so for ever.
            self.link.stray_reply(header.id, header.command);
            Ok(())
        } else {
            self.serve_request(&mut message)
        };
        let last = message.last;
        // Keeps the allocation; descriptors that nobody took are closed.
        message.fds.clear();
        self.message = message;
        if last { Err(Closed) } else { result }
    }

    fn serve_request(&mut self, message: &mut Message) -> Result<(), Closed> {
        let header = message.header;
        self.reply.clear();
        self.reply_file = None;
        match self.answer(message) {
            Ok(()) if header.no_reply() => Ok(()),
            Ok(()) => self.send_reply(),
            Err(refusal) => {
                self.link.counters.errors += 1;
                let Header { id, command, .. } = header;
                if let Some(suppressed) = self.link.log.admit_detail() {
                    tracing::debug!(%command, id, %refusal, suppressed, "request refused");
                }
                if header.no_reply() {
                    return Ok(());
                }
                let reply = Header::error_reply(id, command, refusal.errno());
                self.note_message(false, &reply);
                let reply = reply.to_bytes();
                self.link.channel.as_mut().ok_or(Closed)?.send(&reply, None)
            }
        }
    }

    fn note_message(&mut self, received: bool, header: &Header) {
        self.function.note(&self.link, |at| Record::Message {
            at,
            received,
            id: header.id,
            command: header.command.0,
            flags: header.flags,
            size: header.size.into(),
            errno: header.errno().map_or(0, |errno| errno.0),
        });
    }

    fn send_reply(&mut self) -> Result<(), Closed> {
        if self.function.is_recorded()
            && let Some(header) = self.reply.first_chunk().map(Header::from_bytes)
        {
            self.note_message(false, &header);
        }
        let fd = self.reply_file.and_then(|bar| self.link.shared.file(bar));
        self.link.channel.as_mut().ok_or(Closed)?.send(&self.reply, fd)
    }

    /// Carries out a request; the reply is then in `self.reply`.
    fn answer(&mut self, message: &mut Message) -> Outcome {
        let header = message.header;
        if let Some(errno) = message.refused {
            return Err(errno.into());
        }
        if (header.command == Command::VERSION) == self.negotiated {
            return Err(Errno::INVAL.into());
        }
        let limits = self.offer.limits();
        let request = Request::decode(Side::Client, &header, &message.payload, &limits)?;
        request.check_fds(message.fds.len())?;
        let id = header.id;
        match request {
            Request::Version(version) => self.version(id, &version),
            Request::DmaMap(map) => self.dma_map(id, &map, message.fds.pop()),
            Request::DmaUnmap(unmap) => self.dma_unmap(id, &unmap),
            Request::GetInfo(_) => {
                let flags = DeviceInfoFlags::RESET | DeviceInfoFlags::PCI;
                let info = DeviceInfo::new(flags, RegionIndex::COUNT, IrqIndex::COUNT);
                self.reply_with(id, &Reply::Info(info))
            }
            Request::GetRegionInfo(get) => self.region_info(id, &get),
            Request::GetRegionIoFds(get) => self.region_io_fds(id, &get),
            Request::GetIrqInfo(get) => self.irq_info(id, get),
            Request::SetIrqs(set) => self.set_irqs(id, &set, std::mem::take(&mut message.fds)),
            Request::RegionRead(access) => self.region_read(id, &access),
            Request::RegionWrite(access, data) => {
                self.region_write(access.region, access.offset, data)?;
                self.reply_with(id, &Reply::RegionWrite(access))
            }
            Request::RegionWriteMulti(multi) => self.write_multi(id, &multi),
            Request::Reset => {
                self.link.jobs.abandon();
                self.function.reset(ResetKind::Function);
                self.reply_with(id, &Reply::Reset)
            }
            // As the kernel answers a feature it does not know.
            Request::Feature(_) => Err(Errno::NOTTY.into()),
            Request::MigDataRead(_) | Request::MigDataWrite(_) => Err(Errno::NOTSUP.into()),
            // The server sends these; the codec has refused them.
            Request::DmaRead(_) | Request::DmaWrite(..) => Err(Errno::INVAL.into()),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "ends the handlers, which return Outcome")]
    fn reply_with(&mut self, id: u16, reply: &Reply<'_>) -> Outcome {
        reply.encode(id, &mut self.reply);
        Ok(())
    }

    fn version(&mut self, id: u16, request: &Version<'_>) -> Outcome {
        let (agreed, reply) = version::negotiate(&self.offer, request)?;
        self.link.set_limits(agreed.peer_max_data_xfer_size, agreed.max_dma_maps);
        self.negotiated = true;
        self.reply_with(id, &Reply::Version(reply.as_version()))
    }

    fn dma_map(&mut self, id: u16, map: &DmaMap, file: Option<OwnedFd>) -> Outcome {
        self.link.dma.map(map, file.as_ref().map(AsFd::as_fd))?;
        let (iova, size) = (map.address, map.size);
        self.function.note(&self.link, |at| Record::DmaMap { at, iova, size });
        self.reply_with(id, &Reply::DmaMap)
    }

    fn dma_unmap(&mut self, id: u16, unmap: &DmaUnmap<'_>) -> Outcome {
        if unmap.bitmap.is_some() {
            return Err(Errno::NOTSUP.into());
        }
        // What is in flight may still belong into the region.
        self.quiesce();
        if unmap.flags == DmaUnmap::ALL {
            self.link.dma.clear();
        } else {
            self.link.dma.unmap(unmap.address, unmap.size)?;
        }
        let all = unmap.flags == DmaUnmap::ALL;
        let (iova, size) = if all { (0, u64::MAX) } else { (unmap.address, unmap.size) };
        self.function.note(&self.link, |at| Record::DmaUnmap { at, iova, size });
        self.reply_with(id, &Reply::DmaUnmap(*unmap))
    }

    /// Size of a region in bytes; 0 if the function does not have it.
    fn region_size(&self, region: RegionIndex) -> Result<u64, Errno> {
        if region.0 >= RegionIndex::COUNT {
            return Err(Errno::INVAL);
        }
        if region == RegionIndex::CONFIG {
            return Ok(self.function.config_size());
        }
        let spec = bar_of(region).and_then(|bar| self.function.identity().bar(bar));
        Ok(spec.map_or(0, |spec| spec.size))
    }

    fn region_info(&mut self, id: u16, get: &GetRegionInfo) -> Outcome {
        let size = self.region_size(get.index)?;
        let mut flags = if size == 0 { 0 } else { RegionInfoFlags::READ | RegionInfoFlags::WRITE };
        let mut caps = RegionCaps::new();
        let spec = bar_of(get.index).and_then(|bar| self.function.identity().bar(bar));
        if let Some(spec) = spec.filter(|spec| !spec.shared.is_empty()) {
            let areas = spec.shared.iter();
            let areas: Vec<_> =
                areas.map(|area| SparseArea { offset: area.offset, size: area.size }).collect();
            caps.push_sparse_mmap(&areas);
            flags |= RegionInfoFlags::MMAP;
        }
        let mut info = RegionInfo::reply(get, flags, size, 0, &caps);
        if info.caps.is_empty() {
            // The descriptor goes with the capability that says what of it may be mapped; a client
            // that has no room for that asks again with the size in `argsz`.
            info.flags &= !RegionInfoFlags::MMAP;
        } else {
            self.reply_file = bar_of(get.index);
        }
        self.reply_with(id, &Reply::RegionInfo(info))
    }

    fn region_io_fds(&mut self, id: u16, get: &GetRegionIoFds) -> Outcome {
        let max = self.offer.max_data_xfer_size;
        if self.region_size(get.index)? == 0 || get.argsz > max {
            return Err(Errno::INVAL.into());
        }
        // No region has any: doorbells trap, or lie in shared areas.
        let mut scratch = Vec::new();
        let fds = RegionIoFds::reply(get, &[], &mut scratch);
        self.reply_with(id, &Reply::RegionIoFds(fds))
    }

    fn irq_info(&mut self, id: u16, get: GetIrqInfo) -> Outcome {
        if get.index.0 >= IrqIndex::COUNT {
            return Err(Errno::INVAL.into());
        }
        let count = self.link.interrupts.count(get.index);
        let mut flags = IrqInfoFlags::EVENTFD;
        match get.index {
            IrqIndex::INTX => flags |= IrqInfoFlags::MASKABLE | IrqInfoFlags::AUTOMASKED,
            IrqIndex::MSI | IrqIndex::MSIX => flags |= IrqInfoFlags::MASKABLE,
            _ => {}
        }
        self.reply_with(id, &Reply::IrqInfo(IrqInfo::new(get.index, flags, count)))
    }

    fn set_irqs(&mut self, id: u16, set: &SetIrqs<'_>, fds: Vec<OwnedFd>) -> Outcome {
        let available = self.link.interrupts.count(set.index);
        set.check_range(available)?;
        match (set.action, set.data) {
            (IrqAction::Trigger, IrqData::Eventfd) => {
                self.set_triggers(set.index, set.start, set.count, fds)?;
            }
            (IrqAction::Trigger, IrqData::None) if set.is_disable_all() => {
                self.set_triggers(set.index, 0, available, Vec::new())?;
            }
            (IrqAction::Trigger, _) => {
                for vector in chosen(set) {
                    self.link.interrupts.fire_index(set.index, vector.into());
                }
            }
            (action, IrqData::Eventfd) => self.set_line_control(set.index, action, fds)?,
            (action, _) => {
                // Only these can be masked; the check above has refused others.
                let irq = irq_of(set.index).ok_or(Errno::INVAL)?;
                let masked = action == IrqAction::Mask;
                for vector in chosen(set) {
                    self.function.set_irq_mask(&mut self.link, irq, vector, 1, masked);
                }
            }
        }
        self.reply_with(id, &Reply::SetIrqs)
    }

    /// Sets the triggers of a range, or takes them away if there are no descriptors.
    fn set_triggers(
        &mut self,
        index: IrqIndex,
        first: u32,
        count: u32,
        fds: Vec<OwnedFd>,
    ) -> Outcome {
        let narrow = |value| usize::try_from(value).map_err(|_| Errno::INVAL);
        let (first, count) = (narrow(first)?, narrow(count)?);
        if fds.is_empty() {
            self.link.interrupts.clear(index, first, count);
        } else {
            // All of them or none.
            let triggers = fds.into_iter().map(Trigger::new).collect::<Result<_, _>>()?;
            self.link.interrupts.set(index, first, triggers);
        }
        self.function.triggers_changed(&mut self.link);
        Ok(())
    }

    /// Sets or takes away the eventfd by which the client masks or unmasks INTx. Messages have
    /// their mask bits; VFIO has no such eventfds for them.
    fn set_line_control(
        &mut self,
        index: IrqIndex,
        action: IrqAction,
        mut fds: Vec<OwnedFd>,
    ) -> Outcome {
        if index != IrqIndex::INTX {
            return Err(Errno::INVAL.into());
        }
        let control = fds.pop().map(Trigger::new).transpose()?;
        self.link.interrupts.line.set(action == IrqAction::Mask, control).map_err(crate::errno)?;
        Ok(())
    }

    /// Checks that an access lies within its region.
    fn check_access(&self, region: u32, offset: u64, count: u64) -> Outcome {
        let size = self.region_size(RegionIndex(region))?;
        if size == 0 || offset.checked_add(count).is_none_or(|end| end > size) {
            return Err(Errno::INVAL.into());
        }
        Ok(())
    }

    fn region_read(&mut self, id: u16, access: &RegionAccess) -> Outcome {
        self.check_access(access.region, access.offset, access.count.into())?;
        let (function, link) = (&mut self.function, &mut self.link);
        let region = RegionIndex(access.region);
        let mut taken = Ok(());
        Reply::encode_region_read(id, access, &mut self.reply, |data| {
            taken = match bar_of(region) {
                Some(bar) => function.bar_read(link, bar, access.offset, data),
                None => function.config_read(link, access.offset, data),
            };
            // What the bus returns for a failed read is in `data`, and is the answer.
            Ok::<_, Errno>(())
        })?;
        note(link, taken);
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Outcome {
        self.check_access(region, offset, data.len() as u64)?;
        let result = match bar_of(RegionIndex(region)) {
            Some(bar) => self.function.bar_write(&mut self.link, bar, offset, data),
            None => self.function.config_write(&mut self.link, offset, data),
        };
        // The bus drops a write that nothing takes.
        note(&mut self.link, result);
        Ok(())
    }

    fn write_multi(&mut self, id: u16, multi: &WriteMulti<'_>) -> Outcome {
        for write in multi.iter() {
            self.region_write(write.region, write.offset, write.data)?;
        }
        self.reply_with(id, &Reply::RegionWriteMulti(multi.len() as u64))
    }
}

/// The vectors that an action without descriptors applies to.
fn chosen<'a>(set: &SetIrqs<'a>) -> impl Iterator<Item = u16> + use<'a> {
    let (start, data) = (set.start, set.data);
    (0..set.count).filter_map(move |index| {
        let place = usize::try_from(index).ok()?;
        let chosen = match data {
            IrqData::Bool(flags) => flags.get(place).is_some_and(|on| *on != 0),
            _ => true,
        };
        // The range lies within what a function can have.
        u16::try_from(start.checked_add(index)?).ok().filter(|_| chosen)
    })
}

/// Counts an access that the function did not take.
fn note<C: Channel>(link: &mut Link<C>, result: Result<(), AccessError>) {
    if let Err(error) = result {
        link.counters.access_errors += 1;
        if let Some(suppressed) = link.log.admit_detail() {
            tracing::debug!(%error, suppressed, "access failed");
        }
    }
}

fn bar_of(region: RegionIndex) -> Option<Bar> {
    match region.0 {
        bar @ 0..=5 => u8::try_from(bar).ok().map(Bar),
        _ => None,
    }
}

fn irq_of(index: IrqIndex) -> Option<Irq> {
    match index {
        IrqIndex::INTX => Some(Irq::Intx),
        IrqIndex::MSI => Some(Irq::Msi),
        IrqIndex::MSIX => Some(Irq::Msix),
        _ => None,
    }
}
