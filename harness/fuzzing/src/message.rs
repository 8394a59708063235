//! Messages of a vfio-user client that may be anything.

use arbitrary::Arbitrary;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use understudy_wire::{
    Command, DeviceFeature, DeviceInfo, DmaMap, DmaUnmap, GetIrqInfo, GetRegionInfo,
    GetRegionIoFds, HEADER_SIZE, Header, IrqAction, IrqData, IrqIndex, MigData, RegionAccess,
    RegionIndex, RegionWrite, Request, SetIrqs, WriteMulti,
};

use crate::program::Edit;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Arbitrary)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// DEVICE_GET_INFO with this argsz.
    Info(u8),
    /// DEVICE_GET_REGION_INFO: region, argsz.
    RegionInfo(u8, u16),
    /// DEVICE_GET_REGION_IO_FDS: region, argsz.
    RegionIoFds(u8, u16),
    /// DEVICE_GET_IRQ_INFO: index.
    IrqInfo(u8),
    /// DMA_MAP: place, pages, flags, whether with a descriptor, offset in pages.
    Map(u8, u8, u8, bool, u8),
    /// DMA_UNMAP: place, pages; of all with 0 pages.
    Unmap(u8, u8),
    /// REGION_READ: region, offset, length.
    Read(u8, u64, u16),
    /// REGION_WRITE: region, offset, data.
    Write(u8, u64, Vec<u8>),
    /// REGION_WRITE_MULTI of the same value: region, offset, value, how often.
    Many(u8, u16, u32, u8),
    /// DEVICE_SET_IRQS: index, first, count, action, whether as booleans, descriptors.
    Irqs(u8, u16, u16, u8, bool, u8),
    /// DEVICE_RESET.
    Reset,
    /// DEVICE_FEATURE: flags, length of data.
    Feature(u32, u8),
    /// MIG_DATA_READ of so many bytes.
    MigRead(u32),
    /// MIG_DATA_WRITE of so many bytes.
    MigWrite(u8),
    /// VERSION, once more.
    Version(u8),
    /// Any command with any payload.
    Raw(u16, Vec<u8>),
}

/// A message: what is asked, and what is wrong with how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Arbitrary)]
#[serde(deny_unknown_fields)]
pub struct Ill {
    /// What is asked.
    pub ask: Ask,
    /// Changes to the payload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payload: Vec<Edit>,
    /// Changes to the header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<Edit>,
    /// No reply is wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub posted: bool,
    /// Descriptors beside those that belong there, up to 8.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fds: u8,
}

fn is_zero(count: &u8) -> bool {
    *count == 0
}

/// Messages in order, then perhaps the end of the connection in the middle of the last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Arbitrary)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// The messages.
    pub messages: Vec<Ill>,
    /// How DMA messages of the server are answered: 0 as they should be.
    #[serde(default)]
    pub answers: u8,
    /// So many bytes of the last message are missing.
    #[serde(default)]
    pub cut: u8,
}

/// A message as bytes, with what goes beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Header and payload.
    pub bytes: Vec<u8>,
    /// Goes along: memory.
    pub memory: bool,
    /// Go along: eventfds.
    pub events: u8,
    /// The header gives another length than the message has.
    pub out_of_step: bool,
}

const PAGE: u64 = 4096;
const MEMORY_BASE: u64 = 0x1_0000;

impl Ill {
    /// The message under this id.
    #[must_use]
    pub fn encode(&self, id: u16) -> Encoded {
        let mut bytes = Vec::new();
        self.ask.encode(id, self.posted, &mut bytes);
        let head = HEADER_SIZE.min(bytes.len());
        let (header, payload) = bytes.split_at_mut(head);
        for edit in &self.payload {
            edit.apply(payload, &[]);
        }
        for edit in &self.header {
            edit.apply(header, &[]);
        }
        let (memory, events) = match self.ask {
            Ask::Map(_, _, _, memory, _) => (memory, 0),
            Ask::Irqs(.., false, events) => (false, events % 17),
            _ => (false, 0),
        };
        let len = bytes.len();
        let size = bytes.first_chunk().map_or(0, |head| Header::from_bytes(head).size);
        let events = events + self.fds % 9;
        Encoded { bytes, memory, events, out_of_step: size as usize != len }
    }
}

impl Ask {
    fn encode(&self, id: u16, posted: bool, out: &mut Vec<u8>) {
        let request = match self {
            Self::Info(argsz) => {
                let info = DeviceInfo::request();
                Request::GetInfo(DeviceInfo { argsz: (*argsz).into(), ..info })
            }
            Self::RegionInfo(region, argsz) => {
                let index = RegionIndex((*region).into());
                Request::GetRegionInfo(GetRegionInfo { argsz: (*argsz).into(), index })
            }
            Self::RegionIoFds(region, argsz) => {
                let index = RegionIndex((*region).into());
                Request::GetRegionIoFds(GetRegionIoFds { argsz: (*argsz).into(), index })
            }
            Self::IrqInfo(index) => {
                Request::GetIrqInfo(GetIrqInfo { argsz: 16, index: IrqIndex((*index).into()) })
            }
            Self::Map(place, pages, flags, _, offset) => {
                let address = MEMORY_BASE + u64::from(*place) * PAGE;
                let (offset, size) = (u64::from(*offset) * PAGE, u64::from(*pages) * PAGE);
                Request::DmaMap(DmaMap::new((*flags).into(), offset, address, size))
            }
            Self::Unmap(_, 0) => Request::DmaUnmap(DmaUnmap::all()),
            Self::Unmap(place, pages) => {
                let address = MEMORY_BASE + u64::from(*place) * PAGE;
                Request::DmaUnmap(DmaUnmap::new(address, u64::from(*pages) * PAGE))
            }
            Self::Read(region, offset, count) => Request::RegionRead(RegionAccess {
                offset: *offset,
                region: (*region).into(),
                count: (*count).into(),
            }),
            Self::Write(region, offset, data) => {
                let count = u32::try_from(data.len()).unwrap_or(0);
                let access = RegionAccess { offset: *offset, region: (*region).into(), count };
                Request::RegionWrite(access, data)
            }
            Self::Many(region, offset, value, count) => {
                let data = value.to_le_bytes();
                let write =
                    RegionWrite { offset: (*offset).into(), region: (*region).into(), data: &data };
                let mut payload = Vec::new();
                WriteMulti::encode_writes(&vec![write; usize::from(*count)], &mut payload);
                return raw(id, Command::REGION_WRITE_MULTI, posted, &payload, out);
            }
            Self::Irqs(index, start, count, action, booleans, _) => {
                let flags = vec![1; usize::from(*count)];
                let action = match action % 3 {
                    0 => IrqAction::Trigger,
                    1 => IrqAction::Mask,
                    _ => IrqAction::Unmask,
                };
                let data = if *booleans { IrqData::Bool(&flags) } else { IrqData::Eventfd };
                let set = SetIrqs {
                    index: IrqIndex((*index).into()),
                    start: (*start).into(),
                    count: (*count).into(),
                    action,
                    data,
                };
                return Request::SetIrqs(set).encode(id, posted, out);
            }
            Self::Reset => Request::Reset,
            Self::Feature(flags, len) => {
                let data = vec![0x5a; usize::from(*len)];
                let feature = DeviceFeature { argsz: 64, flags: *flags, data: &data };
                return Request::Feature(feature).encode(id, posted, out);
            }
            Self::MigRead(size) => {
                let argsz = size.saturating_add(8);
                Request::MigDataRead(MigData { argsz, size: *size, data: &[] })
            }
            Self::MigWrite(len) => {
                let data = vec![0x5a; usize::from(*len)];
                let mig = MigData { argsz: 8, size: (*len).into(), data: &data };
                return Request::MigDataWrite(mig).encode(id, posted, out);
            }
            Self::Version(minor) => {
                let version = understudy_wire::Version {
                    major: 0,
                    minor: (*minor).into(),
                    json: Some(r#"{"capabilities":{"max_msg_fds":8}}"#),
                };
                Request::Version(version)
            }
            Self::Raw(command, payload) => {
                return raw(id, Command(*command), posted, payload, out);
            }
        };
        request.encode(id, posted, out);
    }
}

fn raw(id: u16, command: Command, posted: bool, payload: &[u8], out: &mut Vec<u8>) {
    let size = u32::try_from(HEADER_SIZE + payload.len()).unwrap_or(u32::MAX);
    let header = Header::request(id, command, size);
    let header = if posted { header.posted() } else { header };
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(payload);
}

/// What is known of a device: how large its regions are.
pub(crate) type Sizes = [u64; 9];

/// A conversation for a device with such regions: mostly sensible, so that it gets somewhere.
pub(crate) fn conversation(random: &mut ChaCha8Rng, sizes: &Sizes) -> Conversation {
    let count = random.random_range(1..=16);
    let messages = (0..count).map(|_| message(random, sizes)).collect();
    let cut = if random.random_ratio(1, 200) { random.random_range(1..=32) } else { 0 };
    let answers = if random.random_ratio(1, 4) { random.random() } else { 0 };
    Conversation { messages, answers, cut }
}

fn message(random: &mut ChaCha8Rng, sizes: &Sizes) -> Ill {
    let ask = ask(random, sizes);
    let edits = |random: &mut ChaCha8Rng, chance| {
        let count = if random.random_ratio(1, chance) { random.random_range(1..=3) } else { 0 };
        (0..count).map(|_| edit(random)).collect()
    };
    Ill {
        ask,
        payload: edits(random, 6),
        header: edits(random, 80),
        posted: random.random_ratio(1, 12),
        fds: if random.random_ratio(1, 40) { random.random_range(1..=8) } else { 0 },
    }
}

fn ask(random: &mut ChaCha8Rng, sizes: &Sizes) -> Ask {
    match random.random_range(0..32) {
        0 => Ask::Info(random.random_range(0..32)),
        1 => Ask::RegionInfo(random.random_range(0..10), random.random_range(0..200)),
        2 => Ask::RegionIoFds(random.random_range(0..10), random.random_range(0..200)),
        3 => Ask::IrqInfo(random.random_range(0..6)),
        4..=6 => Ask::Map(
            random.random_range(0..16),
            random.random_range(0..8),
            random.random_range(0..5),
            random.random(),
            random.random_range(0..4),
        ),
        7 => Ask::Unmap(random.random_range(0..16), random.random_range(0..8)),
        8..=13 => {
            let (region, offset) = place(random, sizes);
            Ask::Read(region, offset, 1 << random.random_range(0..7))
        }
        14..=23 => {
            let (region, offset) = place(random, sizes);
            let len = 1 << random.random_range(0..4);
            Ask::Write(region, offset, (0..len).map(|_| byte(random)).collect())
        }
        24 => {
            let (region, offset) = place(random, sizes);
            let offset = u16::try_from(offset & 0xffff).unwrap_or(0);
            Ask::Many(region, offset, random.random_range(0..16), random.random_range(0..20))
        }
        25..=26 => Ask::Irqs(
            random.random_range(0..6),
            random.random_range(0..4),
            random.random_range(0..5),
            random.random(),
            random.random(),
            random.random_range(0..5),
        ),
        27 => Ask::Reset,
        28 => Ask::Feature(random.random_range(0..12) | 1 << random.random_range(16..20), 8),
        29 => Ask::MigRead(random.random_range(0..8192)),
        30 if random.random() => Ask::Version(random.random_range(0..3)),
        30 => Ask::MigWrite(random.random()),
        _ => {
            let len = random.random_range(0..64);
            Ask::Raw(random.random_range(0..24), (0..len).map(|_| byte(random)).collect())
        }
    }
}

fn byte(random: &mut ChaCha8Rng) -> u8 {
    match random.random_range(0..4) {
        0 => 0,
        1 => random.random_range(0..16),
        2 => 0xff,
        _ => random.random(),
    }
}

/// A region and an offset in it: at its beginning more often than elsewhere, rarely beyond.
fn place(random: &mut ChaCha8Rng, sizes: &Sizes) -> (u8, u64) {
    let region: u8 = random.random_range(0..=9);
    let there = sizes.get(usize::from(region)).is_some_and(|size| *size > 0);
    // Those that there are, most of the time.
    let region = if there || random.random_ratio(1, 8) {
        region
    } else {
        let found = sizes.iter().position(|size| *size > 0).unwrap_or(7);
        u8::try_from(found).unwrap_or(7)
    };
    let size = sizes.get(usize::from(region)).copied().unwrap_or(0);
    let offset = match random.random_range(0..16) {
        0 => random.random(),
        1 => size.wrapping_sub(random.random_range(0..8)),
        2..=5 if size > 0 => random.random_range(0..size),
        _ => random.random_range(0..0x80) & !3,
    };
    (region, offset)
}

fn edit(random: &mut ChaCha8Rng) -> Edit {
    let at = random.random_range(0..32);
    match random.random_range(0..7) {
        0 | 1 => Edit::Flip(at, random.random_range(0..8)),
        2 => Edit::Byte(at, random.random()),
        3 => Edit::Word(at, random.random()),
        4 => Edit::Word(at, u32::MAX),
        5 => Edit::Plus(at, random.random_range(-16..=16)),
        _ => Edit::Half(at, random.random_range(0..64)),
    }
}
