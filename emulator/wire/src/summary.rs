//! One line for each message, for traces: `REGION_WRITE id=7 bar0+0x3000 len=2`.

use std::fmt;

use crate::device::RegionIndex;
use crate::dma::DmaUnmap;
use crate::feature::DeviceFeature;
use crate::header::{HEADER_SIZE, Header, Kind, Side};
use crate::irqs::{IrqAction, IrqData, SetIrqs};
use crate::region::RegionAccess;
use crate::version::Version;
use crate::{Limits, Reply, Request};

/// One line about a message: see [`summary`].
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a> {
    sender: Side,
    header: &'a Header,
    payload: &'a [u8],
}

/// One line about a message that `sender` sent, well-formed or not. The message is decoded only
/// when the line is written.
pub fn summary<'a>(sender: Side, header: &'a Header, payload: &'a [u8]) -> Summary<'a> {
    Summary { sender, header, payload }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sender, header, payload } = *self;
        let kind = match header.kind() {
            Kind::Command if header.no_reply() => " posted",
            Kind::Command => "",
            Kind::Reply => " reply",
            Kind::Unknown(_) => " of unknown type",
        };
        write!(f, "{}{kind} id={}", header.command, header.id)?;
        let limits = Limits { max_data_xfer_size: u32::MAX };
        let decoded = match header.kind() {
            Kind::Reply => Reply::decode(header, payload, &limits).map(|reply| reply.describe(f)),
            _ => {
                Request::decode(sender, header, payload, &limits).map(|request| request.describe(f))
            }
        };
        match decoded {
            Ok(result) => result,
            Err(error) => {
                let size = HEADER_SIZE + payload.len();
                write!(f, " malformed, {size} bytes: {} {}", error.field, error.problem)
            }
        }
    }
}

impl Request<'_> {
    /// What follows the command and the id: empty, or starts with a space.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => describe_version(version, f),
            Self::DmaMap(map) => {
                let access = access(map.flags);
                write!(f, " {} {access} offset={:#x}", range(map.address, map.size), map.offset)
            }
            Self::DmaUnmap(unmap) => describe_unmap(unmap, f),
            Self::GetInfo(info) => write!(f, " argsz={}", info.argsz),
            Self::GetRegionInfo(get) => write!(f, " {} argsz={}", get.index, get.argsz),
            Self::GetRegionIoFds(get) => write!(f, " {} argsz={}", get.index, get.argsz),
            Self::GetIrqInfo(get) => write!(f, " {} argsz={}", get.index, get.argsz),
            Self::SetIrqs(set) => describe_set(set, f),
            Self::RegionRead(access) | Self::RegionWrite(access, _) => describe_access(access, f),
            Self::DmaRead(access) | Self::DmaWrite(access, _) => {
                write!(f, " {:#x} len={}", access.address, access.count)
            }
            Self::Reset => Ok(()),
            Self::RegionWriteMulti(multi) => {
                write!(f, " writes={}", multi.len())?;
                match multi.iter().next() {
                    Some(first) => {
                        write!(f, " first={}+{:#x}", RegionIndex(first.region), first.offset)
                    }
                    None => Ok(()),
                }
            }
            Self::Feature(feature) => describe_feature(feature, f),
            Self::MigDataRead(data) | Self::MigDataWrite(data) => write!(f, " len={}", data.size),
        }
    }
}

impl Reply<'_> {
    /// What follows the command and the id: empty, or starts with a space.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(_, errno) => write!(f, " error={errno}"),
            Self::DmaMap | Self::SetIrqs | Self::Reset | Self::MigDataWrite => Ok(()),
            Self::Version(version) => describe_version(version, f),
            Self::DmaUnmap(unmap) => describe_unmap(unmap, f),
            Self::Info(info) => {
                let (regions, irqs) = (info.num_regions, info.num_irqs);
                write!(f, " flags={:#x} regions={regions} irqs={irqs}", info.flags)
            }
            Self::RegionInfo(info) => {
                let (index, size, argsz) = (info.index, info.size, info.argsz);
                write!(f, " {index} size={size:#x} flags={:#x} argsz={argsz}", info.flags)?;
                let areas = info.sparse_areas();
                areas.map_or(Ok(()), |areas| write!(f, " sparse={}", areas.len()))
            }
            Self::RegionIoFds(fds) => write!(f, " {} count={}", fds.index, fds.count),
            Self::IrqInfo(info) => {
                write!(f, " {} count={} flags={:#x}", info.index, info.count, info.flags)
            }
            Self::RegionRead(access, _) | Self::RegionWrite(access) => describe_access(access, f),
            Self::DmaRead(read) => write!(f, " {:#x} len={}", read.address, read.count),
            Self::DmaWrite(Some(access)) => {
                write!(f, " {:#x} len={}", access.address, access.count)
            }
            Self::DmaWrite(None) => Ok(()),
            Self::RegionWriteMulti(count) => write!(f, " writes={count}"),
            Self::Feature(feature) => describe_feature(feature, f),
            Self::MigDataRead(data) => write!(f, " len={}", data.size),
        }
    }
}

fn describe_version(version: &Version<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, " {}.{}", version.major, version.minor)?;
    // Debug escapes whatever the peer put there, so that it stays one line.
    version.json.map_or(Ok(()), |json| write!(f, " {json:?}"))
}

fn describe_unmap(unmap: &DmaUnmap<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if unmap.flags & DmaUnmap::ALL != 0 {
        return f.write_str(" all");
    }
    write!(f, " {}", range(unmap.address, unmap.size))?;
    let bitmap = unmap.bitmap;
    bitmap.map_or(Ok(()), |bitmap| write!(f, " dirty pgsize={}", bitmap.page_size))
}

fn describe_set(set: &SetIrqs<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if set.is_disable_all() {
        return write!(f, " {} disable", set.index);
    }
    let action = match set.action {
        IrqAction::Mask => "mask",
        IrqAction::Unmask => "unmask",
        IrqAction::Trigger => "trigger",
    };
    let data = match set.data {
        IrqData::None => "",
        IrqData::Bool(_) => " bool",
        IrqData::Eventfd => " eventfd",
    };
    let end = u64::from(set.start) + u64::from(set.count);
    write!(f, " {} {action}{data} {}..{end}", set.index, set.start)
}

fn describe_access(access: &RegionAccess, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, " {}+{:#x} len={}", RegionIndex(access.region), access.offset, access.count)
}

fn describe_feature(feature: &DeviceFeature<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, " {}", feature.feature())?;
    let operations =
        [(feature.is_probe(), "probe"), (feature.is_get(), "get"), (feature.is_set(), "set")];
    for (_, name) in operations.iter().filter(|(set, _)| *set) {
        write!(f, " {name}")?;
    }
    write!(f, " len={}", feature.data.len())
}

/// An address range, end included: it may be the last of the address space.
fn range(start: u64, size: u64) -> String {
    format!("{start:#x}..={:#x}", start.saturating_add(size.saturating_sub(1)))
}

fn access(flags: u32) -> &'static str {
    match flags & 0b11 {
        0b01 => "r",
        0b10 => "w",
        0b11 => "rw",
        _ => "-",
    }
}
