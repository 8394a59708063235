//! A driver's platform over a vfio-user socket.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::io::Errno;
use understudy_device::Nanos;
use understudy_wire::{DmaMap, IrqAction, IrqData, IrqIndex, RegionIndex, SetIrqs};

use crate::allocator::Allocator;
use crate::error::PlatformError;
use crate::platform::{Activity, DmaBuffer, Interrupts, Platform};
use crate::vfio_user::connection::wait_for;
use crate::vfio_user::{Client, ClientError, ClientOptions, GuestMemory, MappedArea};

/// Guest memory starts above what 32 bits can say, so that a device that drops the upper half of an
/// address is found out.
const MEMORY_BASE: u64 = 0x1_4000_0000;
/// A polling driver looks at the socket once in this many looks at memory.
const SOCKET_INTERVAL: u32 = 256;
/// Longest sleep of a polling driver that can only be woken by a message.
const SLEEP: Duration = Duration::from_millis(1);

/// How a driver reaches the device.
#[derive(Debug, Clone)]
pub struct SocketOptions {
    /// The client's options.
    pub client: ClientOptions,
    /// Bytes of guest memory, a multiple of 4096.
    pub memory_size: usize,
    /// Hand the server a descriptor of guest memory; otherwise it sends DMA messages.
    pub shared: bool,
    /// Do not wait for answers to BAR writes.
    pub posted: bool,
    /// Map what the server lets us map, and access it there.
    pub map_regions: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            client: ClientOptions::default(),
            memory_size: 64 << 20,
            shared: true,
            posted: true,
            map_regions: true,
        }
    }
}

/// A function behind a socket.
#[derive(Debug)]
pub struct SocketPlatform {
    client: Client,
    memory: Arc<GuestMemory>,
    allocator: Allocator,
    shared: bool,
    posted: bool,
    config_size: u64,
    /// By BAR.
    mapped: [Vec<MappedArea>; 6],
    kind: Interrupts,
    events: Vec<OwnedFd>,
    origin: Instant,
    looks: u32,
}

impl SocketPlatform {
    /// Connects, maps guest memory and looks at the regions.
    ///
    /// # Errors
    /// If any of it fails.
    pub fn connect(socket: &Path, options: SocketOptions) -> Result<Self, ClientError> {
        Self::new(Client::connect(socket, options.client.clone())?, &options)
    }

    /// Uses an attached client.
    ///
    /// # Errors
    /// If mapping memory or asking for regions fails.
    pub fn new(mut client: Client, options: &SocketOptions) -> Result<Self, ClientError> {
        let memory = Arc::new(GuestMemory::new(MEMORY_BASE, options.memory_size)?);
        let flags = DmaMap::READ | DmaMap::WRITE;
        client.map(&memory, memory.base(), memory.size(), flags, options.shared)?;
        let config_size = client.region(RegionIndex::CONFIG)?.size;
        let mut mapped: [Vec<MappedArea>; 6] = Default::default();
        if options.map_regions {
            for (index, areas) in (0..).zip(mapped.iter_mut()) {
                let region = client.region(RegionIndex(index))?;
                *areas = client.map_region(&region)?;
            }
        }
        // As QEMU does: no posted writes on a device of which any region is mapped, because they
        // would overtake the accesses that do not go through the socket.
        let posted = options.posted && mapped.iter().all(Vec::is_empty);
        Ok(Self {
            client,
            allocator: Allocator::new(memory.base(), memory.size()),
            memory,
            shared: options.shared,
            posted,
            config_size,
            mapped,
            kind: Interrupts::None,
            events: Vec::new(),
            origin: Instant::now(),
            looks: 0,
        })
    }

    /// The client beneath.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Guest memory.
    #[must_use]
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// Bytes of guest memory in use.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.allocator.in_use()
    }

    fn instant(&self, at: Nanos) -> Instant {
        // A time beyond what the clock can say is as good as a day from now.
        let day = Duration::from_secs(86_400);
        let wanted = self.origin.checked_add(Duration::from_nanos(at.0));
        wanted.unwrap_or_else(|| Instant::now() + day)
    }

    fn mapped_area(&self, bar: u8, offset: u64, len: usize) -> Option<&MappedArea> {
        let inside = |at: &&MappedArea| {
            let end = offset.checked_add(len as u64);
            offset >= at.area.offset && end.is_some_and(|end| end <= at.area.offset + at.area.size)
        };
        self.mapped.get(usize::from(bar))?.iter().find(inside)
    }

    /// Takes a signal off an eventfd; `false` if there is none.
    fn take_signal(&self, vector: u16) -> Result<bool, PlatformError> {
        let event = self.events.get(usize::from(vector)).ok_or(PlatformError::NoInterrupts)?;
        match rustix::io::read(event, &mut [0; 8]) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(ClientError::io("reading an eventfd", error).into()),
        }
    }
}

impl Platform for SocketPlatform {
    fn config_size(&self) -> u64 {
        self.config_size
    }

    fn config_read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        Ok(self.client.read(RegionIndex::CONFIG, offset, into)?)
    }

    fn config_write(&mut self, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        Ok(self.client.write(RegionIndex::CONFIG, offset, from)?)
    }

    fn bar_read(&mut self, bar: u8, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        if self.mapped_area(bar, offset, into.len()).is_some_and(|area| area.read(offset, into)) {
            return Ok(());
        }
        Ok(self.client.read(RegionIndex(bar.into()), offset, into)?)
    }

    fn bar_write(&mut self, bar: u8, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        if self.mapped_area(bar, offset, from.len()).is_some_and(|area| area.write(offset, from)) {
            return Ok(());
        }
        let region = RegionIndex(bar.into());
        if self.posted {
            return Ok(self.client.write_posted(region, offset, from)?);
        }
        Ok(self.client.write(region, offset, from)?)
    }

    fn dma_alloc(&mut self, len: usize, align: usize) -> Result<DmaBuffer, PlatformError> {
        let at = self.allocator.alloc(len as u64, align as u64);
        let iova = at.ok_or(PlatformError::OutOfMemory { len })?;
        let buffer = DmaBuffer { iova, len };
        self.dma_write(iova, &vec![0; len])?;
        Ok(buffer)
    }

    fn dma_free(&mut self, buffer: DmaBuffer) {
        self.allocator.free(buffer.iova);
    }

    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        let len = into.len();
        if self.memory.read(iova, into) {
            return Ok(());
        }
        Err(PlatformError::OutsideMemory { iova, len })
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), PlatformError> {
        if self.memory.write(iova, from) {
            return Ok(());
        }
        Err(PlatformError::OutsideMemory { iova, len: from.len() })
    }

    fn fence(&mut self) {
        fence(Ordering::SeqCst);
    }

    fn connect_interrupts(&mut self, interrupts: Interrupts) -> Result<(), PlatformError> {
        if let Some((index, _)) = irq(self.kind) {
            self.client.set_irqs(&SetIrqs::disable(index), &[])?;
        }
        self.kind = Interrupts::None;
        self.events.clear();
        let Some((index, count)) = irq(interrupts) else { return Ok(()) };
        let available = self.client.irq_info(index)?.count;
        if u32::from(count) > available {
            return Err(PlatformError::NoInterrupts);
        }
        for _ in 0..count {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
            self.events.push(event.map_err(|error| ClientError::io("creating an eventfd", error))?);
        }
        let fds: Vec<_> = self.events.iter().map(AsFd::as_fd).collect();
        self.client.set_eventfds(index, 0, &fds)?;
        self.kind = interrupts;
        Ok(())
    }

    fn unmask_intx(&mut self) -> Result<(), PlatformError> {
        let (index, action) = (IrqIndex::INTX, IrqAction::Unmask);
        let set = SetIrqs { index, start: 0, count: 1, action, data: IrqData::None };
        Ok(self.client.set_irqs(&set, &[])?)
    }

    fn wait_interrupt(&mut self, vector: u16, deadline: Nanos) -> Result<bool, PlatformError> {
        let deadline = self.instant(deadline);
        loop {
            if self.take_signal(vector)? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            let event = self.events.get(usize::from(vector)).ok_or(PlatformError::NoInterrupts)?;
            let mut fds =
                [PollFd::new(event, PollFlags::IN), PollFd::new(&self.client, PollFlags::IN)];
            wait_for(&mut fds, deadline)?;
            if !fds[1].revents().is_empty() {
                self.client.serve()?;
            }
        }
    }

    fn idle(&mut self, deadline: Nanos) -> Result<Activity, PlatformError> {
        self.looks = self.looks.wrapping_add(1);
        if !self.shared {
            // Memory changes only by messages.
            let deadline = self.instant(deadline).min(Instant::now() + SLEEP);
            wait_for(&mut [PollFd::new(&self.client, PollFlags::IN)], deadline)?;
            self.client.serve()?;
        } else if self.looks.is_multiple_of(SOCKET_INTERVAL) {
            self.client.serve()?;
        } else {
            // With fewer processors than busy threads, the device needs ours.
            std::thread::yield_now();
        }
        Ok(Activity::Active)
    }

    fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

fn irq(kind: Interrupts) -> Option<(IrqIndex, u16)> {
    match kind {
        Interrupts::None => None,
        Interrupts::Intx => Some((IrqIndex::INTX, 1)),
        Interrupts::Msi(count) => Some((IrqIndex::MSI, count)),
        Interrupts::Msix(count) => Some((IrqIndex::MSIX, count)),
    }
}
