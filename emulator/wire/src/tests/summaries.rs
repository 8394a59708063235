//! The one-line texts of traces.

use super::{blank, encode, encode_reply, sender, split};
use crate::{
    Command, DeviceFeature, DeviceInfo, DirtyBitmap, DmaAccess, DmaLayout, DmaMap, DmaUnmap, Errno,
    GetIrqInfo, GetRegionInfo, GetRegionIoFds, Header, IrqAction, IrqData, IrqIndex, IrqInfo,
    MigData, RegionAccess, RegionCaps, RegionIndex, RegionInfo, RegionWrite, Reply, Request,
    SetIrqs, Side, SparseArea, Version, WriteMulti, summary,
};

const VERSION: Version<'_> = Version { major: 0, minor: 1, json: Some("{\"a\":\n1}") };
const ACCESS: RegionAccess = RegionAccess { offset: 0x3000, region: 0, count: 2 };
const CONFIG: RegionAccess = RegionAccess { offset: 4, region: 7, count: 2 };
const DMA: DmaAccess = DmaAccess { address: 0x1_0000_0000, count: 3 };
const FEATURE: DeviceFeature<'_> =
    DeviceFeature { argsz: 16, flags: DeviceFeature::GET | 1, data: &[0; 8] };
const DATA: MigData<'_> = MigData { argsz: 11, size: 3, data: &[1, 2, 3] };

fn line(sender: Side, message: &[u8]) -> String {
    let (header, payload) = split(message);
    summary(sender, &header, payload).to_string()
}

#[test]
fn requests() {
    let mut payload = Vec::new();
    let write = RegionWrite { offset: 0x3000, region: 2, data: &[1, 2] };
    WriteMulti::encode_writes(&[write; 3], &mut payload);
    let multi = WriteMulti::decode(&payload).expect("valid");
    let bitmap = Some(DirtyBitmap { page_size: 4096, size: 8, data: &[] });
    let dirty = DmaUnmap { argsz: 48, flags: 1, bitmap, ..DmaUnmap::new(0x1000, 0x8000) };
    let set = |action, data| SetIrqs { index: IrqIndex::MSIX, start: 1, count: 2, action, data };
    let requests = [
        Request::Version(VERSION),
        Request::DmaMap(DmaMap::new(3, 0x2000, 0xc_0000, 0x1000)),
        Request::DmaMap(DmaMap::new(1, 0, u64::MAX, 1)),
        Request::DmaUnmap(DmaUnmap::new(0x1000, 0x8000)),
        Request::DmaUnmap(DmaUnmap::all()),
        Request::DmaUnmap(dirty),
        Request::GetInfo(DeviceInfo::request()),
        Request::GetRegionInfo(GetRegionInfo { argsz: 32, index: RegionIndex(1) }),
        Request::GetRegionIoFds(GetRegionIoFds { argsz: 16, index: RegionIndex(12) }),
        Request::GetIrqInfo(GetIrqInfo { argsz: 16, index: IrqIndex::INTX }),
        Request::SetIrqs(SetIrqs::disable(IrqIndex::MSI)),
        Request::SetIrqs(set(IrqAction::Trigger, IrqData::Eventfd)),
        Request::SetIrqs(set(IrqAction::Mask, IrqData::Bool(&[1, 0]))),
        Request::SetIrqs(set(IrqAction::Unmask, IrqData::None)),
        Request::RegionRead(CONFIG),
        Request::RegionWrite(ACCESS, &[1, 2]),
        Request::DmaRead(DMA),
        Request::DmaWrite(DMA, &[1, 2, 3]),
        Request::Reset,
        Request::RegionWriteMulti(multi),
        Request::Feature(FEATURE),
        Request::Feature(DeviceFeature { argsz: 8, flags: 7 << 16 | 99, data: &[] }),
        Request::MigDataRead(MigData { data: &[], ..DATA }),
        Request::MigDataWrite(DATA),
    ];
    let mut lines: Vec<_> = requests
        .iter()
        .map(|request| {
            let message = encode(request);
            line(sender(&split(&message).0), &message)
        })
        .collect();
    let mut posted = Vec::new();
    Request::RegionWrite(ACCESS, &[1, 2]).encode(8, true, &mut posted);
    lines.push(line(Side::Client, &posted));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn replies() {
    let mut caps = RegionCaps::new();
    caps.push_sparse_mmap(&[SparseArea { offset: 0, size: 4096 }; 2]);
    let none = RegionCaps::new();
    let request = GetRegionInfo { argsz: 4096, index: RegionIndex(2) };
    let replies = [
        Reply::Error(Command::DMA_MAP, Errno::EXIST),
        Reply::Error(Command(99), Errno(1234)),
        Reply::Version(Version { json: None, ..VERSION }),
        Reply::DmaMap,
        Reply::DmaUnmap(DmaUnmap::new(0x1000, 0x8000)),
        Reply::Info(DeviceInfo::new(3, 9, 5)),
        Reply::RegionInfo(RegionInfo::reply(&request, 7, 0x4000, 0, &caps)),
        Reply::RegionInfo(RegionInfo::reply(&request, 3, 0x1000, 0, &none)),
        Reply::IrqInfo(IrqInfo::new(IrqIndex::INTX, 7, 1)),
        Reply::SetIrqs,
        Reply::RegionRead(CONFIG, &[1, 2]),
        Reply::RegionWrite(ACCESS),
        Reply::DmaWrite(None),
        Reply::DmaWrite(Some(DMA)),
        Reply::Reset,
        Reply::RegionWriteMulti(3),
        Reply::Feature(FEATURE),
        Reply::MigDataRead(DATA),
        Reply::MigDataWrite,
    ];
    let mut lines: Vec<_> =
        replies.iter().map(|reply| line(Side::Server, &encode_reply(reply))).collect();
    let mut read = Vec::new();
    Reply::encode_dma_read(7, DMA.address, &[1, 2, 3], DmaLayout::Standard, &mut read);
    lines.push(line(Side::Client, &read));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn malformed_messages_have_a_line_too() {
    let mut lines = Vec::new();
    let mut short = encode(&Request::RegionWrite(ACCESS, &[1, 2]));
    short.pop();
    lines.push(line(Side::Client, &short));
    lines.push(line(Side::Client, &blank(Header::request(1, Command(14), 0), 4)));
    lines.push(line(Side::Server, &encode(&Request::Reset)));
    let odd = Header { flags: 5, ..Header::request(2, Command::VERSION, 0) };
    lines.push(line(Side::Client, &blank(odd, 4)));
    lines.push(line(Side::Server, &blank(Header::reply(3, Command::DMA_MAP, 0), 1)));
    insta::assert_snapshot!(lines.join("\n"));
}
