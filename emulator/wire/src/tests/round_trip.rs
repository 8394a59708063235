//! Whatever is encoded decodes to the same, for every message.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{LIMITS, sender, split};
use crate::{
    Command, DeviceFeature, DeviceInfo, DirtyBitmap, DmaAccess, DmaLayout, DmaMap, DmaReadReply,
    DmaUnmap, Errno, GetIrqInfo, GetRegionInfo, GetRegionIoFds, IrqAction, IrqData, IrqIndex,
    IrqInfo, MigData, RegionAccess, RegionCaps, RegionIndex, RegionInfo, RegionInfoFlags,
    RegionIoFds, RegionWrite, Reply, Request, SetIrqs, SparseArea, SubRegionIoFd, Version,
    WriteMulti,
};

fn check(request: &Request<'_>, id: u16, posted: bool) {
    let mut message = vec![0xaa; 3];
    request.encode(id, posted, &mut message);
    assert_eq!(message[..3], [0xaa; 3], "encoding appends");
    let (header, payload) = split(&message[3..]);
    assert_eq!((header.id, header.no_reply(), header.errno()), (id, posted, None));
    assert_eq!(header.size as usize, message.len() - 3);
    assert_eq!(Request::decode(sender(&header), &header, payload, &LIMITS), Ok(*request));
}

fn check_reply(reply: &Reply<'_>, id: u16) {
    let mut message = Vec::new();
    reply.encode(id, &mut message);
    let (header, payload) = split(&message);
    assert_eq!((header.id, header.size as usize), (id, message.len()));
    assert_eq!(Reply::decode(&header, payload, &LIMITS), Ok(*reply));
}

/// A range that does not wrap and is at most `max` bytes.
fn range(max: u64) -> impl Strategy<Value = (u64, u64)> {
    (any::<u64>(), 1..=max).prop_map(|(start, size)| (start.min(u64::MAX - size), size))
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=64)
}

fn length(data: &[u8]) -> u32 {
    u32::try_from(data.len()).expect("short data")
}

proptest! {
    #[test]
    fn version(major: u16, minor: u16, json in proptest::option::of("[^\0]{0,64}"), id: u16) {
        let version = Version { major, minor, json: json.as_deref() };
        check(&Request::Version(version), id, false);
        check_reply(&Reply::Version(version), id);
    }

    #[test]
    fn dma_map(flags in 1_u32..8, at in range(1 << 40), offset in 0_u64..1 << 40, id: u16) {
        prop_assume!(flags & 3 != 0);
        check(&Request::DmaMap(DmaMap::new(flags, offset, at.0, at.1)), id, false);
        check_reply(&Reply::DmaMap, id);
    }

    #[test]
    fn dma_unmap(address: u64, size: u64, id: u16, shift in 0_u32..63, bits in data()) {
        let one = DmaUnmap::new(address, size);
        let (page_size, length) = (1_u64 << shift, bits.len() as u64);
        let bitmap = |data| Some(DirtyBitmap { page_size, size: length, data });
        let dirty = DmaUnmap { argsz: 4096, flags: DmaUnmap::GET_DIRTY_BITMAP, ..one };
        for unmap in [one, DmaUnmap::all(), DmaUnmap { bitmap: bitmap(&[]), ..dirty }] {
            check(&Request::DmaUnmap(unmap), id, false);
        }
        for unmap in [one, DmaUnmap::all(), DmaUnmap { bitmap: bitmap(&bits), ..dirty }] {
            check_reply(&Reply::DmaUnmap(unmap), id);
        }
    }

    #[test]
    fn infos(flags: u32, num_regions: u32, num_irqs: u32, index: u32, argsz in 32_u32.., id: u16) {
        check(&Request::GetInfo(DeviceInfo { argsz, ..DeviceInfo::request() }), id, false);
        check_reply(&Reply::Info(DeviceInfo::new(flags, num_regions, num_irqs)), id);
        let region = RegionIndex(index);
        check(&Request::GetRegionInfo(GetRegionInfo { argsz, index: region }), id, false);
        check(&Request::GetRegionIoFds(GetRegionIoFds { argsz, index: region }), id, false);
        check(&Request::GetIrqInfo(GetIrqInfo { argsz, index: IrqIndex(index) }), id, false);
        check_reply(&Reply::IrqInfo(IrqInfo::new(IrqIndex(index), flags, num_irqs)), id);
    }

    #[test]
    fn region_info(
        areas in vec((any::<u64>(), any::<u64>()), 0..5),
        others in vec((4_u16.., any::<u16>(), data()), 0..3),
        argsz in 32_u32..300,
        size: u64,
        offset: u64,
        id: u16,
    ) {
        let areas: Vec<_> = areas.iter().map(|&(offset, size)| SparseArea { offset, size }).collect();
        let mut caps = RegionCaps::new();
        if !areas.is_empty() {
            caps.push_sparse_mmap(&areas);
        }
        for (cap, version, body) in &others {
            caps.push(*cap, *version, body);
        }
        let request = GetRegionInfo { argsz, index: RegionIndex::BAR0 };
        let info = RegionInfo::reply(&request, RegionInfoFlags::READ, size, offset, &caps);
        check_reply(&Reply::RegionInfo(info), id);
        let mut message = Vec::new();
        Reply::RegionInfo(info).encode(id, &mut message);
        prop_assert!(message.len() - 16 <= argsz as usize, "the reply fits argsz");
        let full = 32 + caps.as_bytes().len();
        prop_assert_eq!(info.argsz as usize, full, "argsz is what it takes");
        let fits = full > 32 && full <= argsz as usize;
        prop_assert_eq!(info.flags & RegionInfoFlags::CAPS != 0, fits);
        let count = others.len() + usize::from(!areas.is_empty());
        prop_assert_eq!(info.capabilities().count(), if fits { count } else { 0 });
        if fits {
            let (_, payload) = split(&message);
            let (header, _) = split(&message);
            let Ok(Reply::RegionInfo(info)) = Reply::decode(&header, payload, &LIMITS) else {
                panic!("it does not decode");
            };
            prop_assert_eq!(info.sparse_areas(), (!areas.is_empty()).then_some(areas));
            let last = info.capabilities().last().expect("a capability");
            if let Some((cap, version, body)) = others.last() {
                prop_assert_eq!((last.id, last.version), (*cap, *version));
                prop_assert_eq!(&last.body[..body.len()], &body[..]);
            }
        }
    }

    #[test]
    fn region_io_fds(
        entries in vec((any::<u64>(), any::<u64>(), any::<u32>(), 0_u32..2, any::<u32>(), any::<u64>()), 0..4),
        argsz in 16_u32..200,
        id: u16,
    ) {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(offset, size, fd_index, kind, flags, data)| SubRegionIoFd {
                offset, size, fd_index, kind, flags, data,
            })
            .collect();
        let request = GetRegionIoFds { argsz, index: RegionIndex::BAR0 };
        let mut scratch = Vec::new();
        let fds = RegionIoFds::reply(&request, &entries, &mut scratch);
        check_reply(&Reply::RegionIoFds(fds), id);
        prop_assert_eq!((fds.argsz as usize, fds.count as usize), (16 + 40 * entries.len(), entries.len()));
        let fits = fds.argsz <= argsz;
        prop_assert_eq!(fds.iter().collect::<Vec<_>>(), if fits { entries } else { Vec::new() });
    }

    #[test]
    fn set_irqs(index: u32, start in 0_u32..1 << 16, bools in vec(any::<u8>(), 1..64), action in 0..3_usize, id: u16) {
        let action = [IrqAction::Mask, IrqAction::Unmask, IrqAction::Trigger][action];
        let (index, count) = (IrqIndex(index), length(&bools));
        for data in [IrqData::None, IrqData::Bool(&bools), IrqData::Eventfd] {
            check(&Request::SetIrqs(SetIrqs { index, start, count, action, data }), id, false);
        }
        check(&Request::SetIrqs(SetIrqs::disable(index)), id, false);
        check_reply(&Reply::SetIrqs, id);
    }

    #[test]
    fn region_accesses(at in range(4096), region: u32, data in data(), id: u16, posted: bool) {
        let read = RegionAccess { offset: at.0, region, count: u32::try_from(at.1).expect("small") };
        check(&Request::RegionRead(read), id, false);
        check_reply(&Reply::RegionWrite(read), id);
        let write = RegionAccess { offset: at.0.min(u64::MAX - 64), region, count: length(&data) };
        check(&Request::RegionWrite(write, &data), id, posted);
        check_reply(&Reply::RegionRead(write, &data), id);
        let mut in_place = Vec::new();
        let filled = Reply::encode_region_read(id, &write, &mut in_place, |to| {
            to.copy_from_slice(&data);
            Ok::<_, ()>(())
        });
        prop_assert_eq!(filled, Ok(()));
        let mut copied = Vec::new();
        Reply::RegionRead(write, &data).encode(id, &mut copied);
        prop_assert_eq!(in_place, copied);
    }

    #[test]
    fn write_multi(
        writes in vec((0..u64::MAX - 8, any::<u32>(), vec(any::<u8>(), 0..=8)), 0..20),
        id: u16,
        posted: bool,
    ) {
        let writes: Vec<_> = writes
            .iter()
            .map(|(offset, region, data)| RegionWrite { offset: *offset, region: *region, data })
            .collect();
        let mut payload = Vec::new();
        WriteMulti::encode_writes(&writes, &mut payload);
        let multi = WriteMulti::decode(&payload).expect("it decodes");
        prop_assert_eq!(multi.iter().collect::<Vec<_>>(), writes);
        check(&Request::RegionWriteMulti(multi), id, posted);
        check_reply(&Reply::RegionWriteMulti(multi.len() as u64), id);
    }

    #[test]
    fn dma_accesses(at in range(4096), data in data(), id: u16) {
        let read = DmaAccess { address: at.0, count: at.1 };
        check(&Request::DmaRead(read), id, false);
        check_reply(&Reply::DmaWrite(Some(read)), id);
        check_reply(&Reply::DmaWrite(None), id);
        let write = DmaAccess { address: at.0.min(u64::MAX - 64), count: data.len() as u64 };
        check(&Request::DmaWrite(write, &data), id, false);
    }

    /// Either layout is told apart from the other, unless nothing in the message can tell.
    #[test]
    fn dma_read_layouts(address: u64, data in data(), id: u16) {
        for layout in [DmaLayout::Standard, DmaLayout::Early] {
            let mut message = Vec::new();
            Reply::encode_dma_read(id, address, &data, layout, &mut message);
            prop_assert_eq!(message.len(), 32 + data.len(), "both have the same length");
            let (header, payload) = split(&message);
            let read = DmaReadReply::decode(payload, 4096).expect("it decodes");
            check_reply(&Reply::DmaRead(read), header.id);
            prop_assert_eq!(read.data(layout), &data[..]);
            prop_assert_eq!((read.address, read.count), (address, length(&data)));
            let told = match layout {
                DmaLayout::Standard => data.iter().rev().take(4),
                DmaLayout::Early => data[..data.len().min(4)].iter().rev().take(4),
            }
            .any(|byte| *byte != 0);
            prop_assert_eq!(read.layout(), told.then_some(layout));
        }
    }

    /// What an early peer finds where it looks is what was sent.
    #[test]
    fn dma_write_layouts(address: u64, data in data(), id: u16) {
        let mut early = Vec::new();
        Request::encode_dma_write(id, address, &data, DmaLayout::Early, &mut early);
        prop_assert_eq!(early.len(), 32 + data.len());
        prop_assert_eq!(&early[28..28 + data.len()], &data[..]);
        let mut standard = Vec::new();
        Request::encode_dma_write(id, address, &data, DmaLayout::Standard, &mut standard);
        prop_assert_eq!(&standard[32..], &data[..]);
        prop_assert_eq!(&early[..28], &standard[..28]);
    }

    #[test]
    fn features(feature: u16, data in data(), id: u16) {
        let operations = [
            DeviceFeature::GET,
            DeviceFeature::SET,
            DeviceFeature::PROBE,
            DeviceFeature::PROBE | DeviceFeature::GET | DeviceFeature::SET,
        ];
        for operation in operations {
            let flags = operation | u32::from(feature);
            let feature = DeviceFeature { argsz: 8 + length(&data), flags, data: &data };
            prop_assert_eq!(feature.feature().0, u16::try_from(flags & 0xffff).expect("16 bits"));
            check(&Request::Feature(feature), id, false);
            check_reply(&Reply::Feature(feature), id);
        }
    }

    #[test]
    fn migration_data(size in 0_u32..=4096, data in data(), id: u16) {
        check(&Request::MigDataRead(MigData { argsz: 8 + size, size, data: &[] }), id, false);
        let with_data = MigData { argsz: 8 + length(&data), size: length(&data), data: &data };
        check(&Request::MigDataWrite(with_data), id, false);
        check_reply(&Reply::MigDataRead(with_data), id);
        check_reply(&Reply::MigDataWrite, id);
    }

    #[test]
    fn errors_and_resets(command: u16, errno: u32, id: u16) {
        check_reply(&Reply::Error(Command(command), Errno(errno)), id);
        check(&Request::Reset, id, false);
        check_reply(&Reply::Reset, id);
    }
}

#[test]
fn a_failed_read_leaves_nothing_behind() {
    let mut out = vec![1, 2, 3];
    let access = RegionAccess { offset: 0, region: 0, count: 4 };
    let failed = Reply::encode_region_read(1, &access, &mut out, |_| Err(Errno::INVAL));
    assert_eq!(failed, Err(Errno::INVAL));
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn a_dma_write_reply_of_any_known_length_is_understood() {
    let header = crate::Header::reply(1, Command::DMA_WRITE, 0);
    let mut payload = [0_u8; 16];
    payload[..8].copy_from_slice(&0x1000_u64.to_ne_bytes());
    payload[8..12].copy_from_slice(&64_u32.to_ne_bytes());
    let written = Some(DmaAccess { address: 0x1000, count: 64 });
    for (length, expected) in [(0, None), (12, written), (16, written)] {
        let reply = Reply::decode(&header, &payload[..length], &LIMITS);
        assert_eq!(reply, Ok(Reply::DmaWrite(expected)), "{length} bytes");
    }
    assert!(Reply::decode(&header, &payload[..4], &LIMITS).is_err());
}
