//! Requests: one variant for each command.

use crate::Limits;
use crate::device::{DeviceInfo, GetIrqInfo};
use crate::dma::{self, DmaAccess, DmaLayout, DmaMap, DmaUnmap};
use crate::error::{Errno, Problem, WireError};
use crate::feature::{DeviceFeature, MigData};
use crate::header::{Command, HEADER_SIZE, Header, Kind, Side};
use crate::irqs::SetIrqs;
use crate::layout;
use crate::region::{RegionAccess, WriteMulti};
use crate::region_info::{GetRegionInfo, GetRegionIoFds};
use crate::version::Version;

/// A request, borrowing its data from the buffer it was decoded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// VERSION.
    Version(Version<'a>),
    /// DMA_MAP.
    DmaMap(DmaMap),
    /// DMA_UNMAP.
    DmaUnmap(DmaUnmap<'a>),
    /// DEVICE_GET_INFO.
    GetInfo(DeviceInfo),
    /// DEVICE_GET_REGION_INFO.
    GetRegionInfo(GetRegionInfo),
    /// DEVICE_GET_REGION_IO_FDS.
    GetRegionIoFds(GetRegionIoFds),
    /// DEVICE_GET_IRQ_INFO.
    GetIrqInfo(GetIrqInfo),
    /// DEVICE_SET_IRQS.
    SetIrqs(SetIrqs<'a>),
    /// REGION_READ.
    RegionRead(RegionAccess),
    /// REGION_WRITE, with the data.
    RegionWrite(RegionAccess, &'a [u8]),
    /// DMA_READ.
    DmaRead(DmaAccess),
    /// DMA_WRITE, with the data, in the standard layout.
    DmaWrite(DmaAccess, &'a [u8]),
    /// DEVICE_RESET.
    Reset,
    /// REGION_WRITE_MULTI.
    RegionWriteMulti(WriteMulti<'a>),
    /// DEVICE_FEATURE.
    Feature(DeviceFeature<'a>),
    /// MIG_DATA_READ.
    MigDataRead(MigData<'a>),
    /// MIG_DATA_WRITE.
    MigDataWrite(MigData<'a>),
}

impl<'a> Request<'a> {
    /// Decodes a request that `sender` sent.
    ///
    /// # Errors
    /// EINVAL if it is malformed, not a request, or not one for this side to send; E2BIG if it asks
    /// for more than `limits` allow; ENOTSUP if the command is unknown.
    pub fn decode(
        sender: Side,
        header: &Header,
        payload: &'a [u8],
        limits: &Limits,
    ) -> Result<Self, WireError> {
        if header.kind() != Kind::Command {
            let problem =
                Problem::Forbidden { value: header.flags.into(), rule: "this is not a request" };
            return Err(header.reject(Errno::INVAL, &layout::header::FLAGS, problem));
        }
        let value = header.command.0.into();
        match header.command.requester() {
            Some(requester) if requester == sender => {}
            Some(_) => {
                let problem = Problem::Forbidden { value, rule: "the other side sends this" };
                return Err(header.reject(Errno::INVAL, &layout::header::COMMAND, problem));
            }
            None => return Err(unknown(header)),
        }
        Self::decode_payload(header, payload, limits)
    }

    fn decode_payload(
        header: &Header,
        bytes: &'a [u8],
        limits: &Limits,
    ) -> Result<Self, WireError> {
        let max = limits.max_data_xfer_size;
        let command = header.command;
        Ok(match command {
            Command::VERSION => Self::Version(Version::decode(bytes)?),
            Command::DMA_MAP => Self::DmaMap(DmaMap::decode(bytes)?),
            Command::DMA_UNMAP => Self::DmaUnmap(DmaUnmap::decode_request(bytes, max)?),
            Command::DEVICE_GET_INFO => Self::GetInfo(DeviceInfo::decode(bytes)?),
            Command::DEVICE_GET_REGION_INFO => Self::GetRegionInfo(GetRegionInfo::decode(bytes)?),
            Command::DEVICE_GET_REGION_IO_FDS => {
                Self::GetRegionIoFds(GetRegionIoFds::decode(bytes)?)
            }
            Command::DEVICE_GET_IRQ_INFO => Self::GetIrqInfo(GetIrqInfo::decode(bytes)?),
            Command::DEVICE_SET_IRQS => Self::SetIrqs(SetIrqs::decode(bytes)?),
            Command::REGION_READ => Self::RegionRead(RegionAccess::decode(command, bytes, max)?),
            Command::REGION_WRITE => {
                let (access, data) = RegionAccess::decode_with_data(command, bytes, max)?;
                Self::RegionWrite(access, data)
            }
            Command::DMA_READ => Self::DmaRead(DmaAccess::decode_read(bytes, max)?),
            Command::DMA_WRITE => {
                let (access, data) = DmaAccess::decode_write(bytes, max)?;
                Self::DmaWrite(access, data)
            }
            Command::DEVICE_RESET => {
                no_payload(header, bytes)?;
                Self::Reset
            }
            Command::REGION_WRITE_MULTI => Self::RegionWriteMulti(WriteMulti::decode(bytes)?),
            Command::DEVICE_FEATURE => Self::Feature(DeviceFeature::decode_request(bytes)?),
            Command::MIG_DATA_READ => Self::MigDataRead(MigData::decode_read(bytes, max)?),
            Command::MIG_DATA_WRITE => Self::MigDataWrite(MigData::decode_write(bytes, max)?),
            _ => return Err(unknown(header)),
        })
    }

    /// Checks the number of descriptors that came with the message.
    ///
    /// # Errors
    /// EINVAL if there are more than the command takes: one for DMA_MAP, as many as interrupts or
    /// none for DEVICE_SET_IRQS with eventfds, none for all others.
    pub fn check_fds(&self, count: usize) -> Result<(), WireError> {
        match self {
            Self::DmaMap(map) => dma::check_map_fds(map, count),
            Self::SetIrqs(set) => set.check_fds(count),
            _ if count == 0 => Ok(()),
            _ => {
                let rule = "the number of descriptors; this command takes none";
                let problem = Problem::Forbidden { value: count as u64, rule };
                let field = &layout::header::COMMAND;
                let header = Header::request(0, self.command(), 0);
                Err(header.reject(Errno::INVAL, field, problem))
            }
        }
    }

    /// Its command.
    pub fn command(&self) -> Command {
        match self {
            Self::Version(_) => Command::VERSION,
            Self::DmaMap(_) => Command::DMA_MAP,
            Self::DmaUnmap(_) => Command::DMA_UNMAP,
            Self::GetInfo(_) => Command::DEVICE_GET_INFO,
            Self::GetRegionInfo(_) => Command::DEVICE_GET_REGION_INFO,
            Self::GetRegionIoFds(_) => Command::DEVICE_GET_REGION_IO_FDS,
            Self::GetIrqInfo(_) => Command::DEVICE_GET_IRQ_INFO,
            Self::SetIrqs(_) => Command::DEVICE_SET_IRQS,
            Self::RegionRead(_) => Command::REGION_READ,
            Self::RegionWrite(..) => Command::REGION_WRITE,
            Self::DmaRead(_) => Command::DMA_READ,
            Self::DmaWrite(..) => Command::DMA_WRITE,
            Self::Reset => Command::DEVICE_RESET,
            Self::RegionWriteMulti(_) => Command::REGION_WRITE_MULTI,
            Self::Feature(_) => Command::DEVICE_FEATURE,
            Self::MigDataRead(_) => Command::MIG_DATA_READ,
            Self::MigDataWrite(_) => Command::MIG_DATA_WRITE,
        }
    }

    /// Appends the whole message. `posted` sets the no_reply flag.
    pub fn encode(&self, id: u16, posted: bool, out: &mut Vec<u8>) {
        let header = Header::request(id, self.command(), 0);
        let header = if posted { header.posted() } else { header };
        append(header, out, |out| self.encode_payload(out));
    }

    /// Appends a DMA_WRITE request with the data where `layout` puts them.
    pub fn encode_dma_write(
        id: u16,
        address: u64,
        data: &[u8],
        layout: DmaLayout,
        out: &mut Vec<u8>,
    ) {
        let header = Header::request(id, Command::DMA_WRITE, 0);
        append(header, out, |out| layout.encode(address, data, out));
    }

    /// Appends what follows the header.
    pub fn encode_payload(&self, out: &mut Vec<u8>) {
        match self {
            Self::Version(version) => version.encode(out),
            Self::DmaMap(map) => map.encode(out),
            Self::DmaUnmap(unmap) => unmap.encode(out),
            Self::GetInfo(info) => info.encode(out),
            Self::GetRegionInfo(get) => get.encode(out),
            Self::GetRegionIoFds(get) => get.encode(out),
            Self::GetIrqInfo(get) => get.encode(out),
            Self::SetIrqs(set) => set.encode(out),
            Self::RegionRead(access) => access.encode(out),
            Self::RegionWrite(access, data) => {
                access.encode(out);
                out.extend_from_slice(data);
            }
            Self::DmaRead(access) => access.encode(out),
            Self::DmaWrite(access, data) => {
                access.encode(out);
                out.extend_from_slice(data);
            }
            Self::Reset => {}
            Self::RegionWriteMulti(multi) => multi.encode(out),
            Self::Feature(feature) => feature.encode(out),
            Self::MigDataRead(data) | Self::MigDataWrite(data) => data.encode(out),
        }
    }
}

/// Appends a header, what `payload` appends, and corrects the size in the header.
pub(crate) fn append(header: Header, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let base = out.len();
    out.extend_from_slice(&header.to_bytes());
    payload(out);
    let size = (out.len() - base) as u64;
    if let Some(message) = out.get_mut(base..) {
        layout::header::SIZE.patch(message, size);
    }
}

/// Fails unless there is no payload.
pub(crate) fn no_payload(header: &Header, bytes: &[u8]) -> Result<(), WireError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let value = (HEADER_SIZE + bytes.len()) as u64;
    let problem = Problem::TooBig { value, max: HEADER_SIZE as u64 };
    Err(header.reject(Errno::INVAL, &layout::header::SIZE, problem))
}

/// The error for a command that the protocol does not define.
pub(crate) fn unknown(header: &Header) -> WireError {
    let value = header.command.0.into();
    let problem = Problem::Forbidden { value, rule: "no such command" };
    header.reject(Errno::NOTSUP, &layout::header::COMMAND, problem)
}
