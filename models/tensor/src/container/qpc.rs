//! The list of segments (`QAicQpc.h`, container version 0.1).
//!
//! The vendor writes its in-memory structures as they are: pointers count from the header's `base`,
//! which is zero in files and an address in containers that were copied from memory.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{ContainerError, name, part};

const MAGIC: u32 = 0x00a1_cd7c;
const MAJOR: u8 = 0;
const MINOR: u8 = 1;
/// Contents are part of the container ("slow path"), not pointed to from outside.
const CONTENTS_INSIDE: u16 = 1;
/// Containers have four to eight.
const SEGMENTS_MAX: u64 = 64;

/// `QpcHeader`, and the fields of `QAicQpc` that follow it.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: U32,
    major: u8,
    minor: u8,
    compression: U16,
    size: U64,
    base: U64,
    segment_count: U64,
    segments: U64,
}
const _: () = assert!(size_of::<Header>() == 40);

/// `QpcSegment`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    size: U64,
    /// Only for `constants.bin`: where its dynamic part starts.
    dynamic_offset: U64,
    name: U64,
    start: U64,
}
const _: () = assert!(size_of::<Entry>() == 32);

/// A named part of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its name (`network.elf`), as bytes: nothing promises that it is text.
    pub name: &'a [u8],
    /// Its contents.
    pub data: &'a [u8],
}

pub(super) fn read(container: &[u8]) -> Result<Vec<Segment<'_>>, ContainerError> {
    let start = container.get(..4).unwrap_or(container);
    if start != MAGIC.to_le_bytes() {
        return Err(ContainerError::Unknown(start.to_vec()));
    }
    let truncated =
        |what, offset| ContainerError::Truncated { what, offset, length: container.len() as u64 };
    let (header, _) =
        Header::read_from_prefix(container).map_err(|_| truncated("the header", 0))?;
    known("the container's major version", header.major.into(), MAJOR.into())?;
    known("the compression", header.compression.get().into(), CONTENTS_INSIDE.into())?;
    let count = header.segment_count.get();
    if count > SEGMENTS_MAX {
        return Err(ContainerError::TooMany {
            what: "segments",
            found: count,
            limit: SEGMENTS_MAX,
        });
    }
    let offset = |pointer: U64| pointer.get().wrapping_sub(header.base.get());
    let table = offset(header.segments);
    let bytes = part(container, "the list of segments", table, count * size_of::<Entry>() as u64)?;
    let entries =
        <[Entry]>::ref_from_bytes(bytes).map_err(|_| truncated("the list of segments", table))?;
    let segment = |entry: &Entry| {
        Ok(Segment {
            name: name(container, "a segment's name", offset(entry.name))?,
            data: part(container, "a segment", offset(entry.start), entry.size.get())?,
        })
    };
    entries.iter().map(segment).collect()
}

fn known(what: &'static str, found: u64, wanted: u64) -> Result<(), ContainerError> {
    if found != wanted {
        return Err(ContainerError::Version { what, found, wanted });
    }
    Ok(())
}

/// As the vendor lays it out: header, list, names, contents; each starts at a multiple of 8.
pub(super) fn write(segments: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tail = Vec::new();
    let tail_start = size_of::<Header>() + segments.len() * size_of::<Entry>();
    let mut append = |bytes: &[u8], terminator: &[u8]| {
        let offset = (tail_start + tail.len()) as u64;
        tail.extend_from_slice(bytes);
        tail.extend_from_slice(terminator);
        tail.resize(tail.len().next_multiple_of(8), 0);
        U64::new(offset)
    };
    let names: Vec<U64> = segments.iter().map(|(name, _)| append(name.as_bytes(), &[0])).collect();
    let starts: Vec<U64> = segments.iter().map(|(_, data)| append(data, &[])).collect();
    let header = Header {
        magic: U32::new(MAGIC),
        major: MAJOR,
        minor: MINOR,
        compression: U16::new(CONTENTS_INSIDE),
        size: U64::new((tail_start + tail.len()) as u64),
        base: U64::ZERO,
        segment_count: U64::new(segments.len() as u64),
        segments: U64::new(size_of::<Header>() as u64),
    };
    let mut container = header.as_bytes().to_vec();
    for ((name, start), (_, data)) in names.into_iter().zip(starts).zip(segments) {
        let size = U64::new(data.len() as u64);
        let entry = Entry { size, dynamic_offset: U64::ZERO, name, start };
        container.extend_from_slice(entry.as_bytes());
    }
    container.append(&mut tail);
    container
}
