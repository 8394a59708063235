//! Replies: one variant for each command, and errors.

use crate::Limits;
use crate::device::{DeviceInfo, IrqInfo};
use crate::dma::{DmaAccess, DmaLayout, DmaReadReply, DmaUnmap};
use crate::error::{Errno, Problem, WireError};
use crate::feature::{DeviceFeature, MigData};
use crate::header::{Command, Header, Kind};
use crate::layout::{self, Payload, region_access, write_multi};
use crate::region::RegionAccess;
use crate::region_info::{RegionInfo, RegionIoFds};
use crate::request::{append, no_payload, unknown};
use crate::version::Version;

/// A reply, borrowing its data from the buffer it was decoded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The request failed.
    Error(Command, Errno),
    /// VERSION.
    Version(Version<'a>),
    /// DMA_MAP.
    DmaMap,
    /// DMA_UNMAP: the request, repeated.
    DmaUnmap(DmaUnmap<'a>),
    /// DEVICE_GET_INFO.
    Info(DeviceInfo),
    /// DEVICE_GET_REGION_INFO.
    RegionInfo(RegionInfo<'a>),
    /// DEVICE_GET_REGION_IO_FDS.
    RegionIoFds(RegionIoFds<'a>),
    /// DEVICE_GET_IRQ_INFO.
    IrqInfo(IrqInfo),
    /// DEVICE_SET_IRQS.
    SetIrqs,
    /// REGION_READ, with the data.
    RegionRead(RegionAccess, &'a [u8]),
    /// REGION_WRITE.
    RegionWrite(RegionAccess),
    /// DMA_READ, with the data.
    DmaRead(DmaReadReply<'a>),
    /// DMA_WRITE. QEMU sends no payload.
    DmaWrite(Option<DmaAccess>),
    /// DEVICE_RESET.
    Reset,
    /// REGION_WRITE_MULTI: how many writes were done.
    RegionWriteMulti(u64),
    /// DEVICE_FEATURE.
    Feature(DeviceFeature<'a>),
    /// MIG_DATA_READ.
    MigDataRead(MigData<'a>),
    /// MIG_DATA_WRITE.
    MigDataWrite,
}

impl<'a> Reply<'a> {
    /// Decodes a reply. An error reply is a value, not an error; its payload, which it should not
    /// have, is ignored.
    ///
    /// # Errors
    /// If it is malformed, not a reply, unknown, or carries more than `limits` allow. The errno has
    /// no one to go to.
    pub fn decode(header: &Header, payload: &'a [u8], limits: &Limits) -> Result<Self, WireError> {
        if header.kind() != Kind::Reply {
            let problem =
                Problem::Forbidden { value: header.flags.into(), rule: "this is not a reply" };
            return Err(header.reject(Errno::INVAL, &layout::header::FLAGS, problem));
        }
        match header.errno() {
            Some(errno) => Ok(Self::Error(header.command, errno)),
            None => Self::decode_payload(header, payload, limits),
        }
    }

    fn decode_payload(
        header: &Header,
        bytes: &'a [u8],
        limits: &Limits,
    ) -> Result<Self, WireError> {
        let max = limits.max_data_xfer_size;
        let command = header.command;
        let empty = |reply| no_payload(header, bytes).map(|()| reply);
        Ok(match command {
            Command::VERSION => Self::Version(Version::decode(bytes)?),
            Command::DMA_MAP => empty(Self::DmaMap)?,
            Command::DMA_UNMAP => Self::DmaUnmap(DmaUnmap::decode_reply(bytes)?),
            Command::DEVICE_GET_INFO => Self::Info(DeviceInfo::decode(bytes)?),
            Command::DEVICE_GET_REGION_INFO => Self::RegionInfo(RegionInfo::decode(bytes)?),
            Command::DEVICE_GET_REGION_IO_FDS => Self::RegionIoFds(RegionIoFds::decode(bytes)?),
            Command::DEVICE_GET_IRQ_INFO => Self::IrqInfo(IrqInfo::decode(bytes)?),
            Command::DEVICE_SET_IRQS => empty(Self::SetIrqs)?,
            Command::REGION_READ => {
                let (access, data) = RegionAccess::decode_with_data(command, bytes, max)?;
                Self::RegionRead(access, data)
            }
            Command::REGION_WRITE => Self::RegionWrite(RegionAccess::decode(command, bytes, max)?),
            Command::DMA_READ => Self::DmaRead(DmaReadReply::decode(bytes, max)?),
            Command::DMA_WRITE => Self::DmaWrite(DmaAccess::decode_written(bytes)?),
            Command::DEVICE_RESET => empty(Self::Reset)?,
            Command::REGION_WRITE_MULTI => {
                let payload = Payload::new(command, bytes, &write_multi::COUNT)?;
                Self::RegionWriteMulti(payload.u64(&write_multi::COUNT)?)
            }
            Command::DEVICE_FEATURE => Self::Feature(DeviceFeature::decode_reply(bytes)?),
            Command::MIG_DATA_READ => Self::MigDataRead(MigData::decode_read_reply(bytes, max)?),
            Command::MIG_DATA_WRITE => empty(Self::MigDataWrite)?,
            _ => return Err(unknown(header)),
        })
    }

    /// The command it answers.
    pub fn command(&self) -> Command {
        match self {
            Self::Error(command, _) => *command,
            Self::Version(_) => Command::VERSION,
            Self::DmaMap => Command::DMA_MAP,
            Self::DmaUnmap(_) => Command::DMA_UNMAP,
            Self::Info(_) => Command::DEVICE_GET_INFO,
            Self::RegionInfo(_) => Command::DEVICE_GET_REGION_INFO,
            Self::RegionIoFds(_) => Command::DEVICE_GET_REGION_IO_FDS,
            Self::IrqInfo(_) => Command::DEVICE_GET_IRQ_INFO,
            Self::SetIrqs => Command::DEVICE_SET_IRQS,
            Self::RegionRead(..) => Command::REGION_READ,
            Self::RegionWrite(_) => Command::REGION_WRITE,
            Self::DmaRead(_) => Command::DMA_READ,
            Self::DmaWrite(_) => Command::DMA_WRITE,
            Self::Reset => Command::DEVICE_RESET,
            Self::RegionWriteMulti(_) => Command::REGION_WRITE_MULTI,
            Self::Feature(_) => Command::DEVICE_FEATURE,
            Self::MigDataRead(_) => Command::MIG_DATA_READ,
            Self::MigDataWrite => Command::MIG_DATA_WRITE,
        }
    }

    /// Appends the whole message. `id` is the request's.
    pub fn encode(&self, id: u16, out: &mut Vec<u8>) {
        let header = match self {
            Self::Error(command, errno) => Header::error_reply(id, *command, *errno),
            _ => Header::reply(id, self.command(), 0),
        };
        append(header, out, |out| self.encode_payload(out));
    }

    /// Appends a REGION_READ reply whose data `fill` writes in place: `access.count` zero bytes at
    /// first. If it fails, nothing is left in `out` of the reply.
    ///
    /// # Errors
    /// Whatever `fill` returns.
    pub fn encode_region_read<E>(
        id: u16,
        access: &RegionAccess,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let base = out.len();
        let mut result = Ok(());
        append(Header::reply(id, Command::REGION_READ, 0), out, |out| {
            access.encode(out);
            let data = out.len();
            out.resize(data.saturating_add(access.count as usize), 0);
            result = fill(out.get_mut(data..).unwrap_or(&mut []));
        });
        if result.is_err() {
            out.truncate(base);
        }
        result
    }

    /// Appends a DMA_READ reply with the data where `layout` puts them.
    pub fn encode_dma_read(
        id: u16,
        address: u64,
        data: &[u8],
        layout: DmaLayout,
        out: &mut Vec<u8>,
    ) {
        let header = Header::reply(id, Command::DMA_READ, 0);
        append(header, out, |out| layout.encode(address, data, out));
    }

    /// Appends what follows the header.
    pub fn encode_payload(&self, out: &mut Vec<u8>) {
        match self {
            Self::Error(..)
            | Self::DmaMap
            | Self::SetIrqs
            | Self::Reset
            | Self::MigDataWrite
            | Self::DmaWrite(None) => {}
            Self::Version(version) => version.encode(out),
            Self::DmaUnmap(unmap) => unmap.encode(out),
            Self::Info(info) => info.encode(out),
            Self::RegionInfo(info) => info.encode(out),
            Self::RegionIoFds(fds) => fds.encode(out),
            Self::IrqInfo(info) => info.encode(out),
            Self::RegionRead(access, data) => {
                access.encode(out);
                out.extend_from_slice(data);
            }
            Self::RegionWrite(access) => access.encode(out),
            Self::DmaRead(read) => read.encode(out),
            Self::DmaWrite(Some(access)) => access.encode(out),
            Self::RegionWriteMulti(count) => {
                layout::put(out, &write_multi::COUNT, &[(&write_multi::COUNT, *count)]);
            }
            Self::Feature(feature) => feature.encode(out),
            Self::MigDataRead(data) => data.encode(out),
        }
    }
}

const _: () = assert!(region_access::COUNT.end() == 16);
