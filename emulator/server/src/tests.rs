//! The fuzzer's corpus and what resembles it, run as ordinary tests.

#[expect(dead_code, reason = "shared with the integration tests")]
#[path = "../tests/common/device.rs"]
mod device;

use std::fs;
use std::path::PathBuf;

use device::{COPY, COPY_BY_JOB, TestDevice, reg};
use proptest::prelude::*;
use understudy_pci::PciFunction;
use understudy_wire::{
    Command, DeviceFeature, DeviceInfo, DirtyBitmap, DmaLayout, DmaMap, DmaUnmap, GetIrqInfo,
    GetRegionInfo, GetRegionIoFds, Header, IrqAction, IrqData, IrqIndex, MigData, RegionAccess,
    RegionIndex, RegionWrite, Reply, Request, SetIrqs, Version, WriteMulti, layout,
};

use crate::{Counters, fuzzing};

fn run(input: &[u8]) -> Counters {
    fuzzing::session(PciFunction::new(Box::new(TestDevice::new())).unwrap(), input)
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/corpus/session"))
}

#[test]
fn the_corpus_passes() {
    let mut seeds = seeds();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            continue;
        }
        let input = fs::read(&path).unwrap();
        println!("{}", path.display());
        run(&input);
        seeds.retain(|(_, seed)| *seed != input);
    }
    let missing: Vec<_> = seeds.iter().map(|(name, _)| name).collect();
    assert!(missing.is_empty(), "{missing:?} are missing: run the ignored test below");
}

/// The seeds do what they are there for.
#[test]
fn the_seeds_reach_what_they_are_named_after() {
    let seeds = seeds();
    let counters = |wanted| {
        let (_, input) = seeds.iter().find(|(name, _)| name == wanted).unwrap();
        run(input)
    };
    let memory = counters("memory");
    assert_eq!((memory.errors, memory.dma_read_bytes, memory.dma_write_bytes), (0, 8, 8));
    let messages = counters("messages");
    assert_eq!((messages.errors, messages.dma_messages, messages.dma_write_bytes), (0, 2, 8));
    let early = counters("messages-early");
    assert_eq!((early.errors, early.dma_messages, early.dma_write_bytes), (0, 4, 8));
    let interrupts = counters("interrupts");
    assert_eq!((interrupts.errors, interrupts.interrupts), (0, 7));
    assert_eq!(counters("intx").interrupts, 2);
    assert_eq!(counters("unsupported").errors, 2);
}

#[test]
#[ignore = "writes the seeds to fixtures/corpus/session"]
fn write_seeds() {
    fs::create_dir_all(folder()).unwrap();
    for (name, input) in seeds() {
        fs::write(folder().join(format!("seed-{name}")), input).unwrap();
    }
}

/// A stream being written.
#[derive(Clone)]
struct Stream(Vec<u8>);

impl Stream {
    /// A client that has agreed on a version and enabled the device.
    fn enabled() -> Self {
        let version = Version { major: 0, minor: 1, json: Some("{\"capabilities\":{}}") };
        Self(Vec::new()).request(&Request::Version(version)).write(7, 4, &[6, 0])
    }

    fn request(self, request: &Request<'_>) -> Self {
        self.with_fds(request, 0)
    }

    /// A request with descriptors, as [`fuzzing`] makes them.
    fn with_fds(mut self, request: &Request<'_>, kind: u64) -> Self {
        let start = self.0.len();
        request.encode(1, false, &mut self.0);
        let error = &layout::header::ERROR;
        assert!(error.patch(&mut self.0[start..], kind));
        self
    }

    fn write(self, region: u32, offset: u64, data: &[u8]) -> Self {
        let access = RegionAccess { offset, region, count: u32::try_from(data.len()).unwrap() };
        self.request(&Request::RegionWrite(access, data))
    }

    fn read(self, region: u32, offset: u64, count: u32) -> Self {
        self.request(&Request::RegionRead(RegionAccess { offset, region, count }))
    }

    fn copy(self, doorbell: u32) -> Self {
        self.write(0, reg::SOURCE, &0x1000u64.to_le_bytes())
            .write(0, reg::TARGET, &0x2000u64.to_le_bytes())
            .write(0, reg::LENGTH, &8u32.to_le_bytes())
            .write(0, reg::DOORBELL, &doorbell.to_le_bytes())
    }

    fn reply(mut self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        write(&mut self.0);
        self
    }
}

fn map(address: u64, size: u64) -> Request<'static> {
    Request::DmaMap(DmaMap::new(3, 0, address, size))
}

/// Streams that reach each command and each way to client memory.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let on = Stream::enabled;
    let irqs = |index, start, count, action, data| {
        Request::SetIrqs(SetIrqs { index, start, count, action, data })
    };
    let trigger = |data| irqs(IrqIndex::MSIX, 0, 4, IrqAction::Trigger, data);
    let bitmap = DirtyBitmap { page_size: 4096, size: 8, data: &[] };
    let dirty = DmaUnmap {
        argsz: 48,
        flags: DmaUnmap::GET_DIRTY_BITMAP,
        bitmap: Some(bitmap),
        ..DmaUnmap::new(0, 0x1000)
    };
    let feature = DeviceFeature { argsz: 16, flags: DeviceFeature::GET | 1, data: &[] };
    let mut multi = Vec::new();
    let writes = [RegionWrite { offset: reg::SCRATCH, region: 0, data: &[1, 2, 3, 4] }; 2];
    WriteMulti::encode_writes(&writes, &mut multi);
    let size = 16 + u32::try_from(multi.len()).unwrap();
    let header = Header::request(1, Command::REGION_WRITE_MULTI, size).to_bytes();
    multi.splice(0..0, header);
    let index = RegionIndex(4);
    let streams = [
        ("registers", on().read(7, 0, 64).read(0, 0, 4).write(0, reg::SCRATCH, &[7; 4])),
        (
            "information",
            on().request(&Request::GetInfo(DeviceInfo::request()))
                .request(&Request::GetRegionInfo(GetRegionInfo { argsz: 64, index }))
                .request(&Request::GetRegionIoFds(GetRegionIoFds { argsz: 64, index }))
                .request(&Request::GetIrqInfo(GetIrqInfo { argsz: 16, index: IrqIndex::MSIX })),
        ),
        ("multi", on().reply(|out| out.extend_from_slice(&multi))),
        ("memory", on().with_fds(&map(0, 0x1_0000), 1).copy(COPY).read(0, reg::STATUS, 4)),
        ("job", on().with_fds(&map(0, 0x1_0000), 1).copy(COPY_BY_JOB).request(&unmap_all())),
        ("short-file", on().with_fds(&map(0, 0x1_0000), 2).with_fds(&map(0, 0x8000), 2)),
        (
            "unmap",
            on().request(&map(0, 0x1000))
                .request(&Request::DmaUnmap(dirty))
                .request(&Request::DmaUnmap(DmaUnmap::new(0, 0x1000)))
                .request(&unmap_all()),
        ),
        (
            "messages",
            on().request(&map(0, 0x1_0000))
                .copy(COPY)
                .read(7, 0, 4)
                .reply(|out| {
                    Reply::encode_dma_read(1, 0x1000, &[5; 8], DmaLayout::Standard, out);
                })
                .reply(|out| Reply::DmaWrite(None).encode(2, out))
                .read(0, reg::STATUS, 4),
        ),
        (
            "messages-early",
            on().request(&map(0, 0x1_0000)).copy(COPY).reply(|out| {
                Reply::encode_dma_read(1, 0x1000, &[0, 0, 0, 0, 1, 0, 0, 0], DmaLayout::Early, out);
                Reply::encode_dma_read(2, 0x1004, &[1, 0, 0, 0], DmaLayout::Early, out);
                Reply::encode_dma_read(3, 0x1000, &[0, 0, 0, 0, 1, 0, 0, 0], DmaLayout::Early, out);
                Reply::DmaWrite(None).encode(4, out);
            }),
        ),
        (
            "interrupts",
            on().with_fds(&trigger(IrqData::Eventfd), 0x14)
                .request(&trigger(IrqData::None))
                .request(&trigger(IrqData::Bool(&[0, 1, 0, 1])))
                .request(&irqs(IrqIndex::MSIX, 0, 2, IrqAction::Mask, IrqData::None))
                .write(0, reg::RAISE, &[1, 0, 0, 0])
                .request(&irqs(IrqIndex::MSIX, 0, 2, IrqAction::Unmask, IrqData::None))
                .request(&Request::SetIrqs(SetIrqs::disable(IrqIndex::MSIX))),
        ),
        (
            "intx",
            on().with_fds(&irqs(IrqIndex::INTX, 0, 1, IrqAction::Trigger, IrqData::Eventfd), 0x11)
                .with_fds(&irqs(IrqIndex::INTX, 0, 1, IrqAction::Unmask, IrqData::Eventfd), 0x11)
                .write(0, reg::LINE, &[1, 0, 0, 0])
                .request(&irqs(IrqIndex::INTX, 0, 1, IrqAction::Unmask, IrqData::None)),
        ),
        (
            "unsupported",
            on().request(&Request::Feature(feature)).request(&Request::MigDataRead(MigData {
                argsz: 16,
                size: 8,
                data: &[],
            })),
        ),
        ("reset", on().with_fds(&map(0, 0x1_0000), 1).copy(COPY_BY_JOB).request(&Request::Reset)),
    ];
    streams.map(|(name, stream)| (name.to_owned(), stream.0)).to_vec()
}

fn unmap_all() -> Request<'static> {
    Request::DmaUnmap(DmaUnmap::all())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Sessions survive streams that are nearly right.
    #[test]
    fn damaged_streams_pass(
        seed in 0..seeds().len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut input = seeds()[seed].1.clone();
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
        }
        input.truncate(cut.index(input.len()) + input.len() / 2);
        run(&input);
    }

    /// Sessions survive any bytes.
    #[test]
    fn any_bytes_pass(input in prop::collection::vec(any::<u8>(), 0..256)) {
        run(&input);
    }
}
