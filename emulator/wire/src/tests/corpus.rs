//! The fuzzer's corpus, run as an ordinary test, and the seeds it starts from.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::{encode, encode_reply, split};
use crate::layout::{device_info, region_access};
use crate::{
    Command, DeviceFeature, DeviceInfo, DirtyBitmap, DmaAccess, DmaLayout, DmaMap, DmaUnmap, Errno,
    GetIrqInfo, GetRegionInfo, GetRegionIoFds, HEADER_SIZE, Header, IrqAction, IrqData, IrqIndex,
    IrqInfo, MigData, RegionAccess, RegionCaps, RegionIndex, RegionInfo, RegionIoFds, RegionWrite,
    Reply, Request, SetIrqs, SparseArea, SubRegionIoFd, Version, WriteMulti, fuzzing,
};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/corpus/wire"))
}

/// Every file of the corpus: name and content.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder()).expect("the corpus");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "md"))
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a file")))
        .collect();
    files.sort();
    files
}

#[test]
fn the_corpus_passes() {
    let files = corpus();
    assert!(files.len() > 50, "{} files", files.len());
    for (name, input) in files {
        eprintln!("{name}");
        fuzzing::wire(&input);
    }
}

#[test]
fn the_corpus_has_the_seeds_and_they_every_message() {
    let files: BTreeSet<_> = corpus().into_iter().map(|(_, input)| input).collect();
    let mut messages = BTreeSet::new();
    for (name, input) in seeds() {
        assert!(files.contains(&input), "{name} is missing: run the ignored test below");
        let (header, _) = split(&input[4..]);
        messages.insert((header.command.0, header.flags & 0xf));
    }
    for command in Command::ALL {
        for kind in [0, 1] {
            assert!(messages.contains(&(command.0, kind)), "{command} of type {kind}");
        }
    }
}

#[test]
#[ignore = "writes the seeds to fixtures/corpus/wire"]
fn write_seeds() {
    for (name, input) in seeds() {
        fs::write(folder().join(name), input).expect("written");
    }
}

/// One input for each message and each way the stream can go wrong.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut messages = requests();
    messages.extend(replies());
    let stream: Vec<u8> = messages.iter().flat_map(|(_, message)| message.clone()).collect();
    messages.push(("stream-all", stream));
    messages.extend(broken());
    let input = |message: Vec<u8>| [&[1, 7, 64, 255][..], &message].concat();
    messages.into_iter().map(|(name, message)| (format!("seed-{name}"), input(message))).collect()
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let json = crate::version::Offer::default().propose();
    let version = Version { major: 0, minor: 1, json: Some(&json) };
    let access = RegionAccess { offset: 0x3000, region: 0, count: 4 };
    let bitmap = Some(DirtyBitmap { page_size: 4096, size: 8, data: &[] });
    let dirty = DmaUnmap { argsz: 48, flags: 1, bitmap, ..DmaUnmap::new(0, 0x1000) };
    let set = |action, data| SetIrqs { index: IrqIndex::MSIX, start: 1, count: 2, action, data };
    let mut writes = Vec::new();
    let write = RegionWrite { offset: 0x3000, region: 2, data: &[1, 2] };
    WriteMulti::encode_writes(&[write; 3], &mut writes);
    let multi = WriteMulti::decode(&writes).expect("valid");
    let mut requests = vec![
        ("version", Request::Version(version)),
        ("version-bare", Request::Version(Version { json: None, ..version })),
        ("dma-map", Request::DmaMap(DmaMap::new(3, 0, 0xc_0000, 0x1000))),
        ("dma-unmap", Request::DmaUnmap(DmaUnmap::new(0xc_0000, 0x1000))),
        ("dma-unmap-all", Request::DmaUnmap(DmaUnmap::all())),
        ("dma-unmap-dirty", Request::DmaUnmap(dirty)),
        ("get-info", Request::GetInfo(DeviceInfo::request())),
        (
            "get-region-info",
            Request::GetRegionInfo(GetRegionInfo { argsz: 32, index: RegionIndex(0) }),
        ),
        (
            "get-region-io-fds",
            Request::GetRegionIoFds(GetRegionIoFds { argsz: 56, index: RegionIndex(0) }),
        ),
        ("get-irq-info", Request::GetIrqInfo(GetIrqInfo { argsz: 16, index: IrqIndex::MSIX })),
        ("set-irqs-disable", Request::SetIrqs(SetIrqs::disable(IrqIndex::MSIX))),
        ("set-irqs-eventfd", Request::SetIrqs(set(IrqAction::Trigger, IrqData::Eventfd))),
        ("set-irqs-bool", Request::SetIrqs(set(IrqAction::Mask, IrqData::Bool(&[1, 0])))),
        ("set-irqs-none", Request::SetIrqs(set(IrqAction::Unmask, IrqData::None))),
        ("region-read", Request::RegionRead(access)),
        ("region-write", Request::RegionWrite(access, &[1, 2, 3, 4])),
        ("dma-read", Request::DmaRead(DmaAccess { address: 0x1000, count: 4 })),
        ("dma-write", Request::DmaWrite(DmaAccess { address: 0x1000, count: 4 }, &[1, 2, 3, 4])),
        ("reset", Request::Reset),
        ("region-write-multi", Request::RegionWriteMulti(multi)),
        ("mig-data-read", Request::MigDataRead(MigData { argsz: 12, size: 4, data: &[] })),
        ("mig-data-write", Request::MigDataWrite(MigData { argsz: 12, size: 4, data: &[1; 4] })),
    ];
    for (name, operation) in
        [("feature-get", 1 << 16), ("feature-set", 1 << 17), ("feature-probe", 7 << 16)]
    {
        let feature = DeviceFeature { argsz: 16, flags: operation | 2, data: &[0; 8] };
        requests.push((name, Request::Feature(feature)));
    }
    requests.iter().map(|(name, request)| (*name, encode(request))).collect()
}

fn replies() -> Vec<(&'static str, Vec<u8>)> {
    let version = Version { major: 0, minor: 1, json: Some(r#"{"capabilities":{}}"#) };
    let access = RegionAccess { offset: 0x3000, region: 0, count: 4 };
    let mut caps = RegionCaps::new();
    caps.push(RegionCaps::TYPE, 1, &[0; 8]);
    caps.push_sparse_mmap(&[SparseArea { offset: 0, size: 4096 }; 2]);
    let info = GetRegionInfo { argsz: 4096, index: RegionIndex(2) };
    let get_fds = GetRegionIoFds { argsz: 4096, index: RegionIndex(2) };
    let fd = SubRegionIoFd { offset: 0, size: 4, fd_index: 0, kind: 0, flags: 0, data: 0 };
    let mut scratch = Vec::new();
    let data = MigData { argsz: 11, size: 3, data: &[1, 2, 3] };
    let replies = [
        ("reply-version", Reply::Version(version)),
        ("reply-error", Reply::Error(Command::DMA_MAP, Errno::EXIST)),
        ("reply-dma-map", Reply::DmaMap),
        ("reply-dma-unmap", Reply::DmaUnmap(DmaUnmap::new(0, 4096))),
        ("reply-info", Reply::Info(DeviceInfo::new(3, 9, 5))),
        ("reply-region-info", Reply::RegionInfo(RegionInfo::reply(&info, 7, 0x4000, 0, &caps))),
        (
            "reply-region-io-fds",
            Reply::RegionIoFds(RegionIoFds::reply(&get_fds, &[fd; 2], &mut scratch)),
        ),
        ("reply-irq-info", Reply::IrqInfo(IrqInfo::new(IrqIndex::INTX, 7, 1))),
        ("reply-set-irqs", Reply::SetIrqs),
        ("reply-region-read", Reply::RegionRead(access, &[1, 2, 3, 4])),
        ("reply-region-write", Reply::RegionWrite(access)),
        ("reply-dma-write", Reply::DmaWrite(Some(DmaAccess { address: 0, count: 4 }))),
        ("reply-reset", Reply::Reset),
        ("reply-region-write-multi", Reply::RegionWriteMulti(3)),
        (
            "reply-feature",
            Reply::Feature(DeviceFeature { argsz: 16, flags: 1 << 16 | 1, data: &[0; 8] }),
        ),
        ("reply-mig-data-read", Reply::MigDataRead(data)),
        ("reply-mig-data-write", Reply::MigDataWrite),
    ];
    let mut messages: Vec<_> =
        replies.iter().map(|(name, reply)| (*name, encode_reply(reply))).collect();
    for (name, layout) in
        [("reply-dma-read", DmaLayout::Standard), ("reply-dma-read-early", DmaLayout::Early)]
    {
        let mut message = Vec::new();
        Reply::encode_dma_read(7, 0x1000, &[1, 2, 3, 4, 5], layout, &mut message);
        messages.push((name, message));
    }
    messages
}

/// Streams that go wrong, each followed by a good message.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let then_reset = |message: &[u8]| [message, &encode(&Request::Reset)].concat();
    let short = Header::request(1, Command::DEVICE_RESET, 15).to_bytes();
    let unknown = Header::request(1, Command(14), 16).to_bytes();
    let oversized = super::blank(Header::request(1, Command::REGION_WRITE, 0), 9000);
    let mut argsz = encode(&Request::GetInfo(DeviceInfo::request()));
    device_info::ARGSZ.patch_message(&mut argsz, 15);
    let access = RegionAccess { offset: 0, region: 0, count: 4 };
    let mut count = encode(&Request::RegionWrite(access, &[1, 2, 3, 4]));
    region_access::COUNT.patch_message(&mut count, 5);
    vec![
        ("broken-size", then_reset(&short)),
        // More than the reader's buffer holds, so that it is full when the size is looked at.
        ("broken-size-full", [&short[..], &[0; 8000]].concat()),
        ("broken-command", then_reset(&unknown)),
        ("broken-oversized", then_reset(&oversized)),
        ("broken-argsz", then_reset(&argsz)),
        ("broken-count", then_reset(&count)),
        (
            "broken-end",
            encode(&Request::GetInfo(DeviceInfo::request()))[..HEADER_SIZE + 3].to_vec(),
        ),
    ]
}
