//! Guest memory: told to the server, and served to it by messages.

use std::sync::Arc;
use std::time::Instant;

use understudy_wire::{
    Command, DmaAccess, DmaLayout, DmaMap, DmaUnmap, Errno, Reply, Request, Side, WireError,
};

use super::Client;
use crate::vfio_user::{ClientError, GuestMemory, Message};

/// DMA messages served so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DmaCounts {
    /// DMA_READ carried out.
    pub reads: u64,
    /// DMA_WRITE carried out.
    pub writes: u64,
    /// Refused: outside mapped memory, against its permissions, or malformed.
    pub refused: u64,
}

/// Memory that the server may use, by address.
#[derive(Debug)]
pub(super) struct Mapping {
    memory: Arc<GuestMemory>,
    map: DmaMap,
}

impl Client {
    /// Maps `size` bytes at `iova` of guest memory. With `shared` its descriptor goes along;
    /// without, the server reaches it through messages that this client serves.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn map(
        &mut self,
        memory: &Arc<GuestMemory>,
        iova: u64,
        size: u64,
        flags: u32,
        shared: bool,
    ) -> Result<(), ClientError> {
        let offset = if shared { iova.saturating_sub(memory.base()) } else { 0 };
        let map = DmaMap::new(flags, offset, iova, size);
        let fds = [memory.fd()];
        let fds = if shared { fds.as_slice() } else { &[] };
        // Before the server can use it.
        self.mappings.push(Mapping { memory: Arc::clone(memory), map });
        let done = self.request(&Request::DmaMap(map), fds);
        if done.is_err() {
            self.mappings.pop();
        }
        done.map(|_| ())
    }

    /// Unmaps what [`map`](Self::map) mapped.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn unmap(&mut self, iova: u64, size: u64) -> Result<(), ClientError> {
        self.request(&Request::DmaUnmap(DmaUnmap::new(iova, size)), &[])?;
        self.mappings.retain(|mapping| (mapping.map.address, mapping.map.size) != (iova, size));
        Ok(())
    }

    /// Unmaps everything.
    ///
    /// # Errors
    /// The server's errno, or what went wrong.
    pub fn unmap_all(&mut self) -> Result<(), ClientError> {
        self.request(&Request::DmaUnmap(DmaUnmap::all()), &[])?;
        self.mappings.clear();
        Ok(())
    }

    pub(super) fn serve_request(&mut self, message: &Message) -> Result<(), ClientError> {
        let (header, limits) = (&message.header, self.options.offer.limits());
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let done = Request::decode(Side::Server, header, &message.payload, &limits)
            .map_err(|error: WireError| error.errno)
            .and_then(|request| self.transfer(header.id, &request, &message.payload, &mut out));
        match done {
            Ok(Command::DMA_READ) => self.dma.reads += 1,
            Ok(_) => self.dma.writes += 1,
            Err(errno) => {
                self.dma.refused += 1;
                out.clear();
                Reply::Error(header.command, errno).encode(header.id, &mut out);
            }
        }
        let sent = if header.no_reply() {
            Ok(())
        } else {
            self.connection.send(&out, &[], Instant::now() + self.options.timeout)
        };
        self.scratch = out;
        sent
    }

    /// Carries out a DMA request and appends the reply.
    fn transfer(
        &self,
        id: u16,
        request: &Request<'_>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Command, Errno> {
        let layout = self.options.dma_layout;
        match *request {
            Request::DmaRead(access) => {
                let memory = self.reachable(access, DmaMap::READ)?;
                let len = usize::try_from(access.count).map_err(|_| Errno::TOO_BIG)?;
                let mut data = vec![0; len];
                if !memory.read(access.address, &mut data) {
                    return Err(Errno::FAULT);
                }
                Reply::encode_dma_read(id, access.address, &data, layout, out);
                Ok(Command::DMA_READ)
            }
            Request::DmaWrite(access, data) => {
                let memory = self.reachable(access, DmaMap::WRITE)?;
                let early = || payload.get(12..)?.get(..data.len());
                let data = match layout {
                    DmaLayout::Standard => data,
                    DmaLayout::Early => early().ok_or(Errno::INVAL)?,
                };
                if !memory.write(access.address, data) {
                    return Err(Errno::FAULT);
                }
                // QEMU's reply is the header alone.
                let written = (layout == DmaLayout::Standard).then_some(access);
                Reply::DmaWrite(written).encode(id, out);
                Ok(Command::DMA_WRITE)
            }
            _ => Err(Errno::NOTSUP),
        }
    }

    /// The memory behind a DMA request, if a mapping covers all of it and allows it.
    fn reachable(&self, access: DmaAccess, flag: u32) -> Result<&GuestMemory, Errno> {
        let inside = |map: &DmaMap| {
            let start = access.address.checked_sub(map.address);
            start.is_some_and(|start| {
                start.checked_add(access.count).is_some_and(|end| end <= map.size)
            })
        };
        let mapping = self.mappings.iter().find(|mapping| inside(&mapping.map));
        let mapping = mapping.ok_or(Errno::FAULT)?;
        if mapping.map.flags & flag == 0 {
            return Err(Errno::ACCES);
        }
        Ok(&mapping.memory)
    }
}
