//! Sections of a 32-bit little-endian ELF file (System V gABI, chapter 4), as programs for the
//! chip's Hexagon processors are.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{ContainerError, name, part};

const MAGIC: [u8; 4] = *b"\x7fELF";
const CLASS_32: u8 = 1;
const LITTLE_ENDIAN: u8 = 1;
const VERSION: u8 = 1;
const TYPE_EXECUTABLE: u16 = 2;
const MACHINE_HEXAGON: u16 = 164;
const SECTION_PROGBITS: u32 = 1;
const SECTION_STRTAB: u32 = 3;
const SECTION_NOBITS: u32 = 8;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    class: u8,
    endianness: u8,
    ident_version: u8,
    ident_rest: [u8; 9],
    kind: U16,
    machine: U16,
    version: U32,
    entry: U32,
    segments: U32,
    sections: U32,
    flags: U32,
    header_size: U16,
    segment_size: U16,
    segment_count: U16,
    section_size: U16,
    section_count: U16,
    names: U16,
}
const _: () = assert!(size_of::<Header>() == 52);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Default)]
#[repr(C)]
struct Section {
    name: U32,
    kind: U32,
    flags: U32,
    address: U32,
    offset: U32,
    size: U32,
    link: U32,
    info: U32,
    align: U32,
    entry_size: U32,
}
const _: () = assert!(size_of::<Section>() == 40);

pub(super) fn is(data: &[u8]) -> bool {
    data.starts_with(&MAGIC)
}

/// Contents of the first section with that name, if there is one.
pub(super) fn section<'a>(
    file: &'a [u8],
    wanted: &str,
) -> Result<Option<&'a [u8]>, ContainerError> {
    if !is(file) {
        return Err(ContainerError::Unknown(file.get(..4).unwrap_or(file).to_vec()));
    }
    let truncated =
        |what, offset| ContainerError::Truncated { what, offset, length: file.len() as u64 };
    let (header, _) = Header::read_from_prefix(file).map_err(|_| truncated("the ELF header", 0))?;
    let expect = |what, found: u64, wanted: u64| match found == wanted {
        true => Ok(()),
        false => Err(ContainerError::Version { what, found, wanted }),
    };
    expect("the ELF class", header.class.into(), CLASS_32.into())?;
    expect("the ELF byte order", header.endianness.into(), LITTLE_ENDIAN.into())?;
    if header.section_count.get() == 0 {
        return Ok(None);
    }
    let entry = size_of::<Section>() as u64;
    expect("the size of an ELF section header", header.section_size.get().into(), entry)?;
    let offset = u64::from(header.sections.get());
    let count = u64::from(header.section_count.get());
    let bytes = part(file, "the ELF section headers", offset, count * entry)?;
    let sections = <[Section]>::ref_from_bytes(bytes)
        .map_err(|_| truncated("the ELF section headers", offset))?;
    let names = sections
        .get(usize::from(header.names.get()))
        .ok_or_else(|| truncated("the ELF section names", header.names.get().into()))?;
    let names = contents(file, names)?;
    for section in sections {
        // A section without a name, or with one elsewhere, is not the one looked for.
        let found = name(names, "an ELF section name", section.name.get().into());
        if found.is_ok_and(|found| found == wanted.as_bytes()) {
            return contents(file, section).map(Some);
        }
    }
    Ok(None)
}

fn contents<'a>(file: &'a [u8], section: &Section) -> Result<&'a [u8], ContainerError> {
    if section.kind.get() == SECTION_NOBITS {
        return Ok(&[]);
    }
    part(file, "an ELF section", section.offset.get().into(), section.size.get().into())
}

/// An ELF file of the given sections and the names of them. Contents beyond 4 GiB do not fit, and
/// callers do not have them: a container is limited to less.
pub(super) fn write(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const NAMES: &str = ".shstrtab";
    let mut names = vec![0];
    let mut table = vec![Section::default()];
    let mut body = vec![0; size_of::<Header>()];
    let add = |body: &mut Vec<u8>, names: &mut Vec<u8>, name: &str, kind, data: Option<&[u8]>| {
        let name_offset = small(names.len());
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        let data = data.map_or_else(|| names.clone(), <[u8]>::to_vec);
        let section = Section {
            name: name_offset,
            kind: U32::new(kind),
            offset: small(body.len()),
            size: small(data.len()),
            align: U32::new(8),
            ..Section::default()
        };
        body.extend_from_slice(&data);
        body.resize(body.len().next_multiple_of(8), 0);
        section
    };
    body.resize(body.len().next_multiple_of(8), 0);
    for (name, data) in sections {
        table.push(add(&mut body, &mut names, name, SECTION_PROGBITS, Some(data)));
    }
    table.push(add(&mut body, &mut names, NAMES, SECTION_STRTAB, None));
    let count = u16::try_from(table.len()).unwrap_or(u16::MAX);
    let header = Header {
        magic: MAGIC,
        class: CLASS_32,
        endianness: LITTLE_ENDIAN,
        ident_version: VERSION,
        ident_rest: [0; 9],
        kind: U16::new(TYPE_EXECUTABLE),
        machine: U16::new(MACHINE_HEXAGON),
        version: U32::new(VERSION.into()),
        entry: U32::ZERO,
        segments: U32::ZERO,
        sections: small(body.len()),
        flags: U32::ZERO,
        header_size: U16::new(52),
        segment_size: U16::new(32),
        segment_count: U16::ZERO,
        section_size: U16::new(40),
        section_count: U16::new(count),
        names: U16::new(count - 1),
    };
    body.splice(..size_of::<Header>(), header.as_bytes().iter().copied());
    for section in &table {
        body.extend_from_slice(section.as_bytes());
    }
    body
}

/// An offset or size in the file.
fn small(value: usize) -> U32 {
    U32::new(u32::try_from(value).unwrap_or(u32::MAX))
}
