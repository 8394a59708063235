//! The vendor's program container and what is in it, as published with its open runtime
//! (`QAicQpc.h`, `AICNetworkDesc.proto`, `AICMetadata.h` of the Cloud AI 100 software kit).
//!
//! A container (QPC) is a list of named segments. `network.elf` is the program: the runtime sends
//! it to the device, the rest stays on the host. The section [`ONNX_SECTION`] of that ELF file is
//! ours; the vendor's tools carry sections that they do not know along.
//!
//! - `qpc`: the list of segments. `elf`: sections of a 32-bit ELF file. `description`: the network
//!   descriptor, a protobuf message.

mod description;
mod elf;
mod qpc;

use crate::{Binding, LoadError};

pub use qpc::Segment;

/// Section of `network.elf` that holds the ONNX model. Not the vendor's: Understudy's extension.
pub const ONNX_SECTION: &str = "understudy.onnx";

const PROGRAM: &str = "network.elf";
const DESCRIPTION: &str = "networkdesc.bin";
const CONSTANTS: &str = "constantsdesc.bin";

/// `AICConstantDescriptor` of a program without constants: sizes 0, no ECC.
const NO_CONSTANTS: [u8; 24] = [0; 24];

/// Offsets in the program have 32 bits.
const ONNX_BYTES_MAX: u64 = 1 << 31;

/// What is wrong with a container, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// Neither a QPC nor an ELF file.
    #[error("starts with {0:02x?}, neither a program container nor an ELF file")]
    Unknown(Vec<u8>),
    /// Ends before what it announces.
    #[error("{what} at byte {offset} does not lie within the {length} bytes there are")]
    Truncated {
        /// What does not fit.
        what: &'static str,
        /// Where it should be.
        offset: u64,
        /// Where the data ends.
        length: u64,
    },
    /// A format or version other than the one that is published.
    #[error("{what} is {found}, and only {wanted} is known")]
    Version {
        /// Which field.
        what: &'static str,
        /// Its value.
        found: u64,
        /// What it would have to be.
        wanted: u64,
    },
    /// More entries than any container has.
    #[error("{found} {what}, more than {limit}")]
    TooMany {
        /// Entries of what.
        what: &'static str,
        /// How many.
        found: u64,
        /// How many are read.
        limit: u64,
    },
    /// No segment of that name.
    #[error("no segment is called {0}")]
    NoSegment(&'static str),
}

/// Writes a container that holds `onnx`, described by the network's bindings.
///
/// The result is the same for the same arguments, always.
///
/// # Errors
/// [`ContainerError::TooMany`] for a model that a 32-bit program cannot hold.
pub fn pack(
    name: &str,
    onnx: &[u8],
    inputs: &[Binding],
    outputs: &[Binding],
) -> Result<Vec<u8>, ContainerError> {
    let found = onnx.len() as u64;
    if found > ONNX_BYTES_MAX {
        return Err(ContainerError::TooMany {
            what: "bytes of ONNX",
            found,
            limit: ONNX_BYTES_MAX,
        });
    }
    let program = elf::write(&[(ONNX_SECTION, onnx)]);
    let description = description::write(name, inputs, outputs);
    Ok(qpc::write(&[(CONSTANTS, &NO_CONSTANTS), (DESCRIPTION, &description), (PROGRAM, &program)]))
}

/// The segments of a container, in its order.
///
/// # Errors
/// [`ContainerError`] if it is no container, or a damaged one.
pub fn segments(container: &[u8]) -> Result<Vec<Segment<'_>>, ContainerError> {
    qpc::read(container)
}

/// The program within a container: what the vendor's runtime sends to the device. An ELF file is
/// taken for the program itself.
///
/// # Errors
/// [`ContainerError`] if it is neither, or damaged, or has no program.
pub fn program(container: &[u8]) -> Result<&[u8], ContainerError> {
    if elf::is(container) {
        return Ok(container);
    }
    let segments = qpc::read(container)?;
    let program = segments.iter().find(|segment| segment.name == PROGRAM.as_bytes());
    program.map(|segment| segment.data).ok_or(ContainerError::NoSegment(PROGRAM))
}

/// The ONNX model within a container or program.
///
/// # Errors
/// [`LoadError::Container`], or [`LoadError::NoNetwork`] if all is well except that our section is
/// not there.
pub fn onnx(container: &[u8]) -> Result<&[u8], LoadError> {
    elf::section(program(container)?, ONNX_SECTION)?.ok_or(LoadError::NoNetwork)
}

/// `length` bytes from `offset` on.
fn part<'a>(
    data: &'a [u8],
    what: &'static str,
    offset: u64,
    length: u64,
) -> Result<&'a [u8], ContainerError> {
    let missing = || ContainerError::Truncated { what, offset, length: data.len() as u64 };
    let end = offset.checked_add(length).ok_or_else(missing)?;
    let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
    range.and_then(|(start, end)| data.get(start..end)).ok_or_else(missing)
}

/// Bytes up to the first zero, from `offset` on.
fn name<'a>(data: &'a [u8], what: &'static str, offset: u64) -> Result<&'a [u8], ContainerError> {
    let missing = || ContainerError::Truncated { what, offset, length: data.len() as u64 };
    let rest = usize::try_from(offset).ok().and_then(|start| data.get(start..));
    let rest = rest.ok_or_else(missing)?;
    let end = rest.iter().position(|&byte| byte == 0).ok_or_else(missing)?;
    Ok(&rest[..end])
}

#[cfg(test)]
mod tests;
