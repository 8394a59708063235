//! The agent as files for a guest: an executable without its debug information, and the very
//! libraries it was built against, whatever the guest itself has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::error::Error;

/// An executable and what it is started with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    /// The executable's content, cut down to what is loaded.
    pub(crate) program: Vec<u8>,
    /// The dynamic loader, unless the executable is static.
    pub(crate) loader: Option<PathBuf>,
    /// The shared libraries that the loader would load here.
    pub(crate) libraries: Vec<PathBuf>,
}

/// `Elf64_Ehdr`, System V gABI §4.
#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct FileHeader {
    identification: [u8; 16],
    kind: U16,
    machine: U16,
    version: U32,
    entry: U64,
    program_headers_offset: U64,
    section_headers_offset: U64,
    flags: U32,
    header_bytes: U16,
    program_header_bytes: U16,
    program_headers: U16,
    section_header_bytes: U16,
    section_headers: U16,
    section_names: U16,
}

/// `Elf64_Phdr`, System V gABI §5.
#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct ProgramHeader {
    kind: U32,
    flags: U32,
    offset: U64,
    address: U64,
    physical_address: U64,
    file_bytes: U64,
    memory_bytes: U64,
    alignment: U64,
}

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const EM_X86_64: u16 = 62;
/// `\x7fELF`, 64-bit, little-endian.
const IDENTIFICATION: [u8; 6] = *b"\x7fELF\x02\x01";
/// Where the file header holds the section table's offset and count, which are cut off.
const SECTIONS_OFFSET_AT: std::ops::Range<usize> = 0x28..0x30;
const SECTIONS_COUNT_AT: std::ops::Range<usize> = 0x3c..0x40;

/// Reads an executable for use in a guest.
///
/// # Errors
/// [`Error::UnfitAgent`] if it is no x86-64 program or its libraries are not found.
pub(crate) fn read(path: &Path) -> Result<Executable, Error> {
    let unfit = |reason: &str| Error::UnfitAgent { program: path.into(), reason: reason.into() };
    let mut program = fs::read(path).map_err(Error::io(path.display().to_string()))?;
    let (loader, end) = inspect(&program).ok_or_else(|| unfit("not an x86-64 Linux program"))?;
    program.truncate(end);
    program[SECTIONS_OFFSET_AT].fill(0);
    program[SECTIONS_COUNT_AT].fill(0);
    let libraries = match &loader {
        Some(loader) => list_libraries(loader, path).map_err(|reason| unfit(&reason))?,
        None => Vec::new(),
    };
    Ok(Executable { program, loader, libraries })
}

/// The loader's path, and where the last loaded byte ends. `None` if the file is not sound.
fn inspect(file: &[u8]) -> Option<(Option<PathBuf>, usize)> {
    let (header, _) = FileHeader::ref_from_prefix(file).ok()?;
    if !header.identification.starts_with(&IDENTIFICATION) || header.machine.get() != EM_X86_64 {
        return None;
    }
    let start = usize::try_from(header.program_headers_offset.get()).ok()?;
    let count = usize::from(header.program_headers.get());
    let (headers, _) =
        <[ProgramHeader]>::ref_from_prefix_with_elems(file.get(start..)?, count).ok()?;
    let mut loader = None;
    let mut end = size_of::<FileHeader>();
    for header in headers {
        let from = usize::try_from(header.offset.get()).ok()?;
        let to = from.checked_add(usize::try_from(header.file_bytes.get()).ok()?)?;
        let bytes = file.get(from..to)?;
        match header.kind.get() {
            PT_LOAD => end = end.max(to),
            PT_INTERP => {
                let path = std::str::from_utf8(bytes).ok()?;
                loader = Some(PathBuf::from(path.trim_end_matches('\0')));
            }
            _ => {}
        }
    }
    Some((loader, end))
}

/// Asks the loader itself, which knows this host's paths.
fn list_libraries(loader: &Path, program: &Path) -> Result<Vec<PathBuf>, String> {
    let output = Command::new(loader)
        .arg("--list")
        .arg(program)
        .output()
        .map_err(|e| format!("{}: {e}", loader.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} --list: {}", loader.display(), error.trim()));
    }
    parse_libraries(&text)
}

/// Lines are `name => path (address)`, or no `=>` for what the kernel and the loader bring.
fn parse_libraries(text: &str) -> Result<Vec<PathBuf>, String> {
    let found = text.lines().filter_map(|line| line.trim().split_once(" => "));
    found
        .map(|(name, place)| match place.rsplit_once(" (") {
            Some((path, _)) if path.starts_with('/') => Ok(PathBuf::from(path)),
            _ => Err(format!("library {name} is not found")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_test_can_be_read_and_is_cut_down() {
        let path = std::env::current_exe().unwrap();
        let executable = read(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        assert!(executable.program.len() < whole.len());
        // What is left still says what it said, and needs what it needed.
        let (loader, end) = inspect(&executable.program).unwrap();
        assert_eq!((loader, end), (executable.loader, executable.program.len()));
    }

    #[test]
    fn files_that_are_no_programs_are_refused() {
        assert_eq!(inspect(b""), None);
        assert_eq!(inspect(b"#!/bin/sh\n"), None);
        let mut header = vec![0; 64];
        header[..6].copy_from_slice(&IDENTIFICATION);
        header[18] = 62;
        assert_eq!(inspect(&header), Some((None, 64)));
        // Program headers beyond the end, and an offset that wraps.
        header[56] = 1;
        header[32] = 64;
        assert_eq!(inspect(&header), None);
        header[32..40].fill(0xff);
        assert_eq!(inspect(&header), None);
    }

    #[test]
    fn libraries_are_listed_by_path() {
        let text =
            "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so (0x3)\n";
        assert_eq!(parse_libraries(text).unwrap(), [PathBuf::from("/lib/libc.so.6")]);
        let error = parse_libraries("\tlibx.so => not found\n").unwrap_err();
        assert_eq!(error, "library libx.so is not found");
    }
}
