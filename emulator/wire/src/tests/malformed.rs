//! Each way a message can be malformed, with the errno it gets: one row breaks one thing of a valid
//! message.

use super::{LIMITS, blank, encode, encode_reply, sender, split};
use crate::layout::{self, Field};
use crate::{
    Command, DeviceFeature, DeviceInfo, DirtyBitmap, DmaAccess, DmaMap, DmaUnmap, Errno,
    GetIrqInfo, GetRegionInfo, GetRegionIoFds, HEADER_SIZE, Header, IrqAction, IrqData, IrqIndex,
    MigData, Problem, RegionAccess, RegionCaps, RegionIndex, RegionInfo, RegionWrite, Reply,
    Request, SetIrqs, Side, SparseArea, Version, WireError, WriteMulti,
};

const MAP: Request<'_> =
    Request::DmaMap(DmaMap { argsz: 32, flags: 3, offset: 0, address: 0x1000, size: 0x1000 });
const UNMAP: Request<'_> = Request::DmaUnmap(DmaUnmap {
    argsz: 24,
    flags: 0,
    address: 0x1000,
    size: 0x1000,
    bitmap: None,
});
const UNMAP_DIRTY: Request<'_> = Request::DmaUnmap(DmaUnmap {
    argsz: 48,
    flags: DmaUnmap::GET_DIRTY_BITMAP,
    address: 0x1000,
    size: 0x1000,
    bitmap: Some(DirtyBitmap { page_size: 4096, size: 8, data: &[] }),
});
const INFO: Request<'_> =
    Request::GetInfo(DeviceInfo { argsz: 16, flags: 0, num_regions: 0, num_irqs: 0 });
const REGION_INFO: Request<'_> =
    Request::GetRegionInfo(GetRegionInfo { argsz: 32, index: RegionIndex::BAR0 });
const IO_FDS: Request<'_> =
    Request::GetRegionIoFds(GetRegionIoFds { argsz: 16, index: RegionIndex::BAR0 });
const IRQ_INFO: Request<'_> = Request::GetIrqInfo(GetIrqInfo { argsz: 16, index: IrqIndex::MSIX });
const SET_EVENTFD: Request<'_> = Request::SetIrqs(set(IrqData::Eventfd));
const SET_BOOL: Request<'_> = Request::SetIrqs(set(IrqData::Bool(&[1, 0])));
const SET_NONE: Request<'_> = Request::SetIrqs(set(IrqData::None));
const ACCESS: RegionAccess = RegionAccess { offset: 8, region: 0, count: 4 };
const READ: Request<'_> = Request::RegionRead(ACCESS);
const WRITE: Request<'_> = Request::RegionWrite(ACCESS, &[1, 2, 3, 4]);
const DMA_READ: Request<'_> = Request::DmaRead(DmaAccess { address: 8, count: 4 });
const DMA_WRITE: Request<'_> = Request::DmaWrite(DmaAccess { address: 8, count: 4 }, &[1, 2, 3, 4]);
const PROBE: Request<'_> =
    Request::Feature(DeviceFeature { argsz: 8, flags: DeviceFeature::PROBE | 1, data: &[] });
const FEATURE_SET: Request<'_> =
    Request::Feature(DeviceFeature { argsz: 12, flags: DeviceFeature::SET | 2, data: &[0; 4] });
const MIG_READ: Request<'_> = Request::MigDataRead(MigData { argsz: 24, size: 16, data: &[] });
const MIG_WRITE: Request<'_> = Request::MigDataWrite(MigData { argsz: 12, size: 4, data: &[0; 4] });
const VERSION: Request<'_> = Request::Version(Version { major: 0, minor: 1, json: Some("{}") });

const fn set(data: IrqData<'_>) -> SetIrqs<'_> {
    SetIrqs { index: IrqIndex::MSIX, start: 1, count: 2, action: IrqAction::Trigger, data }
}

fn decode(message: &[u8]) -> Result<(), WireError> {
    let (header, payload) = split(message);
    Request::decode(sender(&header), &header, payload, &LIMITS).map(|_| ())
}

/// Decodes with one field overwritten.
fn with(request: &Request<'_>, field: &Field, value: u64) -> Result<(), WireError> {
    let mut message = encode(request);
    decode(&message).expect("valid before the change");
    assert!(field.patch_message(&mut message, value), "{} is there", field.name);
    decode(&message)
}

#[test]
fn fields_out_of_range_are_refused() {
    use layout::{
        device_feature, device_info, dma_access, dma_bitmap, dma_map, dma_unmap, irq_info,
        mig_data, region_access, region_info, region_io_fds, set_irqs,
    };
    const INVAL: Errno = Errno::INVAL;
    const TOO_BIG: Errno = Errno::TOO_BIG;
    const MAX: u64 = u64::MAX;
    let over = u64::from(LIMITS.max_data_xfer_size) + 1;
    let rows: &[(&Request<'_>, &Field, u64, Errno)] = &[
        (&MAP, &dma_map::ARGSZ, 31, INVAL),
        (&MAP, &dma_map::FLAGS, 0, INVAL),
        (&MAP, &dma_map::FLAGS, 4, INVAL),
        (&MAP, &dma_map::FLAGS, 8 | 3, INVAL),
        (&MAP, &dma_map::FLAGS, 1 << 31 | 3, INVAL),
        (&MAP, &dma_map::SIZE, 0, INVAL),
        (&MAP, &dma_map::SIZE, MAX, INVAL),
        (&MAP, &dma_map::ADDRESS, MAX - 0xffe, INVAL),
        (&MAP, &dma_map::OFFSET, MAX - 0xffe, INVAL),
        (&UNMAP, &dma_unmap::ARGSZ, 23, INVAL),
        (&UNMAP, &dma_unmap::ARGSZ, over, TOO_BIG),
        (&UNMAP, &dma_unmap::FLAGS, 1, INVAL), // and no bitmap
        (&UNMAP, &dma_unmap::FLAGS, 2, INVAL), // and an address
        (&UNMAP, &dma_unmap::FLAGS, 3, INVAL),
        (&UNMAP, &dma_unmap::FLAGS, 4, INVAL),
        (&UNMAP_DIRTY, &dma_unmap::ARGSZ, 47, INVAL),
        (&UNMAP_DIRTY, &dma_unmap::FLAGS, 3, INVAL),
        (&UNMAP_DIRTY, &dma_bitmap::PAGE_SIZE, 0, INVAL),
        (&UNMAP_DIRTY, &dma_bitmap::PAGE_SIZE, 4095, INVAL),
        (&UNMAP_DIRTY, &dma_bitmap::SIZE, 9, INVAL),
        (&UNMAP_DIRTY, &dma_bitmap::SIZE, MAX, INVAL),
        (&INFO, &device_info::ARGSZ, 15, INVAL),
        (&REGION_INFO, &region_info::ARGSZ, 31, INVAL),
        (&IO_FDS, &region_io_fds::ARGSZ, 15, INVAL),
        (&IO_FDS, &region_io_fds::FLAGS, 1, INVAL),
        (&IO_FDS, &region_io_fds::COUNT, 1, INVAL),
        (&IRQ_INFO, &irq_info::ARGSZ, 15, INVAL),
        (&SET_NONE, &set_irqs::ARGSZ, 19, INVAL),
        (&SET_NONE, &set_irqs::COUNT, 0, INVAL), // start is not 0
        (&SET_NONE, &set_irqs::COUNT, 0xffff_ffff, INVAL),
        (&SET_NONE, &set_irqs::START, 0xffff_fffe, INVAL),
        (&SET_BOOL, &set_irqs::ARGSZ, 21, INVAL),
        (&SET_BOOL, &set_irqs::COUNT, 1, INVAL),
        (&SET_BOOL, &set_irqs::COUNT, 3, INVAL),
        (&READ, &region_access::COUNT, over, TOO_BIG),
        (&READ, &region_access::OFFSET, MAX - 3, INVAL),
        (&WRITE, &region_access::COUNT, 3, INVAL),
        (&WRITE, &region_access::COUNT, 5, INVAL),
        (&WRITE, &region_access::COUNT, over, TOO_BIG),
        (&WRITE, &region_access::OFFSET, MAX, INVAL),
        (&DMA_READ, &dma_access::COUNT, over, TOO_BIG),
        (&DMA_READ, &dma_access::COUNT, MAX, TOO_BIG),
        (&DMA_READ, &dma_access::ADDRESS, MAX - 2, INVAL),
        (&DMA_WRITE, &dma_access::COUNT, 3, INVAL),
        (&DMA_WRITE, &dma_access::COUNT, 5, INVAL),
        (&DMA_WRITE, &dma_access::COUNT, MAX, TOO_BIG),
        (&PROBE, &device_feature::ARGSZ, 7, INVAL),
        (&PROBE, &device_feature::FLAGS, 1, INVAL),
        (&PROBE, &device_feature::FLAGS, 3 << 16, INVAL),
        (&PROBE, &device_feature::FLAGS, 1 << 19 | 1 << 16, INVAL),
        (&FEATURE_SET, &device_feature::ARGSZ, 11, INVAL),
        (&MIG_READ, &mig_data::ARGSZ, 23, INVAL),
        (&MIG_READ, &mig_data::SIZE, over, TOO_BIG),
        (&MIG_WRITE, &mig_data::SIZE, 3, INVAL),
        (&MIG_WRITE, &mig_data::SIZE, 5, INVAL),
        (&MIG_WRITE, &mig_data::SIZE, over, TOO_BIG),
    ];
    for (request, field, value, errno) in rows {
        let row = format!("{} {} = {value:#x}", request.command(), field.name);
        let error = with(request, field, *value).expect_err(&row);
        assert_eq!(error.errno, *errno, "{row}: {error}");
        assert_eq!(error.command, request.command(), "{row}");
    }
}

#[test]
fn set_irqs_takes_one_data_bit_and_one_action_bit() {
    let mut accepted = Vec::new();
    for flags in (0..64).chain((6..32).map(|bit| 1 << bit | 0x24)) {
        // A single interrupt, and one byte of data if the flags announce data.
        let data: &[u8] = if flags & 7 == 2 { &[1] } else { &[] };
        let mut message = encode(&Request::SetIrqs(SetIrqs {
            start: 0,
            count: 1,
            data: IrqData::Bool(data),
            ..set(IrqData::None)
        }));
        assert!(layout::set_irqs::FLAGS.patch_message(&mut message, flags));
        match decode(&message) {
            Ok(()) => accepted.push(flags),
            Err(error) => assert_eq!(error.errno, Errno::INVAL, "{flags:#x}: {error}"),
        }
    }
    let one_of_each = [1, 2, 4].map(|data| [8, 16, 32].map(|action| data | action));
    let mut one_of_each = one_of_each.concat();
    one_of_each.sort_unstable();
    assert_eq!(accepted, one_of_each);
}

#[test]
fn an_empty_range_only_disables() {
    for data in [IrqData::None, IrqData::Bool(&[]), IrqData::Eventfd] {
        for action in [IrqAction::Mask, IrqAction::Unmask, IrqAction::Trigger] {
            let set = SetIrqs { action, data, ..SetIrqs::disable(IrqIndex::MSIX) };
            let valid = set == SetIrqs::disable(IrqIndex::MSIX);
            assert_eq!(decode(&encode(&Request::SetIrqs(set))).is_ok(), valid, "{set:?}");
        }
    }
}

#[test]
fn set_irqs_ranges_are_checked_against_the_device() {
    let range = |start, count| SetIrqs { start, count, ..set(IrqData::None) };
    for (start, count, available, valid) in [
        (0, 4, 4, true),
        (3, 1, 4, true),
        (0, 5, 4, false),
        (4, 1, 4, false),
        (3, 2, 4, false),
        (0, u32::MAX, 4, false),
        (u32::MAX, 1, 4, false),
        (0, 1, 0, false),
        (0, 0, 4, true),
        (0, 0, 0, false),
    ] {
        let checked = range(start, count).check_range(available);
        assert_eq!(checked.is_ok(), valid, "{start}+{count} of {available}");
        assert!(checked.is_ok_and(|()| true) == valid);
    }
    for index in [IrqIndex::ERR, IrqIndex::REQ] {
        for action in [IrqAction::Mask, IrqAction::Unmask, IrqAction::Trigger] {
            let set = SetIrqs { index, action, ..range(0, 1) };
            assert_eq!(set.check_range(1).is_ok(), action == IrqAction::Trigger, "{index}");
        }
    }
}

#[test]
fn every_request_cut_short_is_refused_and_every_fixed_one_too_long() {
    let mut multi = Vec::new();
    let write = RegionWrite { offset: 0, region: 0, data: &[1; 8] };
    WriteMulti::encode_writes(&[write; 2], &mut multi);
    let multi = Request::RegionWriteMulti(WriteMulti::decode(&multi).expect("valid"));
    let requests = [
        VERSION,
        MAP,
        UNMAP,
        UNMAP_DIRTY,
        INFO,
        REGION_INFO,
        IO_FDS,
        IRQ_INFO,
        SET_EVENTFD,
        SET_BOOL,
        READ,
        WRITE,
        DMA_READ,
        DMA_WRITE,
        multi,
        FEATURE_SET,
        MIG_READ,
        MIG_WRITE,
    ];
    for request in requests {
        let message = encode(&request);
        for end in HEADER_SIZE..message.len() {
            // Version data and feature data may have any length that the rest allows.
            let ends_well = match request {
                Request::Version(_) => end == HEADER_SIZE + 4,
                Request::Feature(_) => end >= HEADER_SIZE + 8,
                _ => false,
            };
            let decoded = decode(&message[..end]);
            assert_eq!(decoded.is_ok(), ends_well, "{request:?} cut to {end}: {decoded:?}");
            assert!(decoded.err().is_none_or(|error| error.errno == Errno::INVAL));
        }
        // Structures that begin with argsz may grow in later versions; others have their length.
        let grows = matches!(
            request,
            Request::DmaMap(_)
                | Request::DmaUnmap(_)
                | Request::GetInfo(_)
                | Request::GetRegionInfo(_)
                | Request::GetRegionIoFds(_)
                | Request::GetIrqInfo(_)
        );
        // A zero more is padding to a VERSION; one of text is not.
        let longer = [&message[..], b"x"].concat();
        assert_eq!(decode(&longer).is_ok(), grows, "{request:?} with a byte more");
    }
    let reset = encode(&Request::Reset);
    assert_eq!(reset.len(), HEADER_SIZE);
    let error = decode(&[&reset[..], &[0]].concat()).expect_err("a payload");
    assert_eq!(error.errno, Errno::INVAL);
}

#[test]
fn version_data_must_be_text_ended_by_a_nul() {
    let head = blank(Header::request(1, Command::VERSION, 0), 4);
    let mut long = vec![b' '; 8192];
    long.push(0);
    let rows: &[(&[u8], Option<Errno>)] = &[
        (b"", None),
        (b"{}\0", None),
        (b"{}\0\0\0", None),
        (b"\0", None), // its text, "", is refused by the negotiation
        (b"{}", Some(Errno::INVAL)),
        (b"{}\0{}\0", Some(Errno::INVAL)),
        (b"\xff\xfe\0", Some(Errno::INVAL)),
        (&long, None),
        (&[b" ", &long[..]].concat(), Some(Errno::TOO_BIG)),
    ];
    for (data, expected) in rows {
        let message = [&head[..], data].concat();
        let errno = decode(&message).err().map(|error| error.errno);
        assert_eq!(errno, *expected, "{} bytes of data", data.len());
    }
}

#[test]
fn bad_writes_of_a_multi_are_named_by_their_place() {
    use layout::write_one;
    let write = RegionWrite { offset: 0, region: 0, data: &[1; 4] };
    let mut payload = Vec::new();
    WriteMulti::encode_writes(&[write; 3], &mut payload);
    let second = 8 + 24;
    let rows =
        [(&write_one::COUNT, 9), (&write_one::COUNT, u64::MAX), (&write_one::OFFSET, u64::MAX - 2)];
    for (field, value) in rows {
        let mut broken = payload.clone();
        assert!(field.patch(&mut broken[second..], value));
        let error = WriteMulti::decode(&broken).expect_err("a bad write");
        assert_eq!(error.errno, Errno::INVAL);
        assert_eq!(error.offset, HEADER_SIZE + second + field.offset, "{error}");
    }
    for count in [0, 2, 4, u64::MAX, u64::MAX / 24 + 1] {
        let mut broken = payload.clone();
        assert!(layout::write_multi::COUNT.patch(&mut broken, count));
        WriteMulti::decode(&broken).expect_err("a bad count");
    }
}

#[test]
fn commands_are_refused_from_the_wrong_side_and_if_unknown() {
    for command in (0..=20).chain([999, u16::MAX]).map(Command) {
        for side in [Side::Client, Side::Server] {
            let header = Header::request(1, command, 16);
            let error = Request::decode(side, &header, &[], &LIMITS);
            match command.requester() {
                None => assert_eq!(error.map_err(|error| error.errno), Err(Errno::NOTSUP)),
                Some(requester) if requester != side => {
                    assert_eq!(error.map_err(|error| error.errno), Err(Errno::INVAL));
                }
                Some(_) if command == Command::DEVICE_RESET => {
                    assert_eq!(error, Ok(Request::Reset))
                }
                // Every other command needs a payload.
                Some(_) => assert_eq!(error.map_err(|error| error.errno), Err(Errno::INVAL)),
            }
        }
    }
}

#[test]
fn types_are_told_apart() {
    for flags in 0..16 {
        let header = Header { flags, ..Header::request(1, Command::DEVICE_RESET, 16) };
        let request = Request::decode(Side::Client, &header, &[], &LIMITS);
        let reply = Reply::decode(&header, &[], &LIMITS);
        assert_eq!((request.is_ok(), reply.is_ok()), (flags == 0, flags == 1), "type {flags}");
    }
}

#[test]
fn descriptors_are_counted() {
    let rows: &[(&Request<'_>, &[usize])] = &[
        (&MAP, &[0, 1]),
        (&UNMAP, &[0]),
        (&READ, &[0]),
        (&VERSION, &[0]),
        (&Request::Reset, &[0]),
        (&SET_NONE, &[0]),
        (&SET_BOOL, &[0]),
        (&SET_EVENTFD, &[0, 2]),
    ];
    for (request, allowed) in rows {
        for count in 0..5 {
            let checked = request.check_fds(count);
            assert_eq!(checked.is_ok(), allowed.contains(&count), "{request:?} with {count}");
            assert!(checked.err().is_none_or(|error| error.errno == Errno::INVAL));
        }
    }
    let mmap = DmaMap::new(DmaMap::READ | DmaMap::MMAP, 0, 0, 4096);
    assert!(Request::DmaMap(mmap).check_fds(0).is_err());
    assert!(Request::DmaMap(mmap).check_fds(1).is_ok());
}

/// A region info reply with a chain of three capabilities, at 32, 72 and 96.
fn chain() -> (RegionCaps, GetRegionInfo) {
    let mut caps = RegionCaps::new();
    caps.push(RegionCaps::TYPE, 1, &[0; 32]);
    caps.push_sparse_mmap(&[SparseArea { offset: 0x1000, size: 0x1000 }]);
    caps.push(RegionCaps::MSIX_MAPPABLE, 1, &[]);
    (caps, GetRegionInfo { argsz: 4096, index: RegionIndex::BAR0 })
}

#[test]
fn broken_capability_chains_are_refused() {
    use layout::{region_cap, region_info, sparse_mmap};
    let (caps, request) = chain();
    let reply = Reply::RegionInfo(RegionInfo::reply(&request, 7, 0x4000, 0, &caps));
    let good = encode_reply(&reply);
    let decode = |message: &[u8]| {
        let (header, payload) = split(message);
        Reply::decode(&header, payload, &LIMITS).map(|_| ())
    };
    decode(&good).expect("valid before the change");
    let (first, second, third) = (16 + 32, 16 + 72, 16 + 104);
    assert_eq!(good.len(), third + 8);
    let rows: &[(usize, &Field, u64)] = &[
        (16, &region_info::ARGSZ, 111),
        (16, &region_info::CAP_OFFSET, 31),
        (16, &region_info::CAP_OFFSET, 105),
        (16, &region_info::CAP_OFFSET, 112),
        (16, &region_info::CAP_OFFSET, 0xffff_ffff),
        (first, &region_cap::NEXT, 32),  // itself
        (second, &region_cap::NEXT, 32), // back
        (second, &region_cap::NEXT, 8),
        (third, &region_cap::NEXT, 112),
        (third, &region_cap::ID, RegionCaps::SPARSE_MMAP.into()),
        (second + 8, &sparse_mmap::NR_AREAS, 2),
        (second + 8, &sparse_mmap::NR_AREAS, 0xffff_ffff),
    ];
    for (base, field, value) in rows {
        let mut broken = good.clone();
        assert!(field.patch(&mut broken[*base..], *value));
        let error = decode(&broken).expect_err(field.name);
        match error.problem {
            Problem::Truncated { need, have } => {
                assert!(need > have && have == broken.len(), "{error}");
            }
            _ => assert!(error.offset < broken.len(), "{error}"),
        }
    }
    for end in 16..good.len() {
        decode(&good[..end]).expect_err("cut short");
    }
}

#[test]
fn replies_with_the_wrong_length_are_refused() {
    let info = DeviceInfo { argsz: 16, flags: 0, num_regions: 9, num_irqs: 5 };
    let read = encode_reply(&Reply::RegionRead(ACCESS, &[1, 2, 3, 4]));
    let mut dma_read = Vec::new();
    Reply::encode_dma_read(1, 8, &[1, 2, 3, 4], crate::DmaLayout::Standard, &mut dma_read);
    let messages = [
        encode_reply(&Reply::Info(info)),
        encode_reply(&Reply::RegionWrite(ACCESS)),
        encode_reply(&Reply::RegionWriteMulti(3)),
        read,
        dma_read,
    ];
    for message in messages {
        for end in 16..message.len() {
            let (header, payload) = split(&message[..end]);
            Reply::decode(&header, payload, &LIMITS).expect_err("cut short");
        }
    }
    for command in [Command::DMA_MAP, Command::DEVICE_SET_IRQS, Command::DEVICE_RESET] {
        let header = Header::reply(1, command, 17);
        Reply::decode(&header, &[0], &LIMITS).expect_err("a payload");
    }
}

#[test]
fn errors_say_where_and_why() {
    let mut texts = Vec::new();
    for (request, field, value) in [
        (&MAP, &layout::dma_map::ARGSZ, 12),
        (&MAP, &layout::dma_map::SIZE, 0),
        (&WRITE, &layout::region_access::COUNT, 3),
        (&READ, &layout::region_access::COUNT, 4097),
        (&SET_NONE, &layout::set_irqs::FLAGS, 0x29),
    ] {
        texts.push(with(request, field, value).expect_err("broken").to_string());
    }
    texts.push(decode(&encode(&MAP)[..40]).expect_err("cut").to_string());
    let unknown = Header::request(1, Command(14), 16);
    let unknown = Request::decode(Side::Client, &unknown, &[], &LIMITS);
    texts.push(unknown.expect_err("unknown").to_string());
    texts.push(MAP.check_fds(2).expect_err("two").to_string());
    texts.push(SET_EVENTFD.check_fds(3).expect_err("three").to_string());
    insta::assert_snapshot!(texts.join("\n"));
}
