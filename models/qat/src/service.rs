//! What the services do with requests.

pub(crate) mod compression;
pub(crate) mod public_key;
pub(crate) mod symmetric;

mod content;
mod keys;

use understudy_device::{Bus, DmaFault};
use understudy_engines::Error;
use understudy_ring::{Limits, SgError, SgList};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::layout::{Buffers, ListEntry, ListHeader, common, error};

/// Most buffers of a list. Linux makes one for each piece of a scatterlist.
const MAX_BUFFERS: u32 = 4096;

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The part, or this model of it, cannot do it.
    Unsupported,
    /// Lengths, offsets or numbers are impossible.
    Invalid,
    /// A digest or signature does not match.
    Mismatch,
    /// Guest memory could not be accessed.
    Fault,
    /// Compression stopped, with this error code.
    Codec(i8),
}

impl From<DmaFault> for Failure {
    fn from(_: DmaFault) -> Self {
        Self::Fault
    }
}

impl From<SgError> for Failure {
    fn from(error: SgError) -> Self {
        match error {
            SgError::Fault(_) => Self::Fault,
            _ => Self::Invalid,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::TagMismatch | Error::SignatureMismatch => Self::Mismatch,
            Error::Unsupported => Self::Unsupported,
            Error::Unverified => Self::Codec(error::CNV),
            _ => Self::Invalid,
        }
    }
}

/// An empty list for data of up to `max_len` bytes.
pub(crate) fn list(max_len: u64) -> SgList {
    // A flat buffer may be longer than what a request takes of it.
    let bytes = max_len.max(u64::from(u32::MAX));
    SgList::new(Limits { segments: MAX_BUFFERS as usize, bytes })
}

/// Fills the lists with the buffers of a request.
pub(crate) fn read_buffers(
    bus: &mut dyn Bus,
    buffers: &Buffers,
    flags: u8,
    source: &mut SgList,
    destination: &mut SgList,
) -> Result<(), Failure> {
    source.clear();
    destination.clear();
    if flags & common::BUFFER_LISTS == 0 {
        source.push(buffers.source.get(), buffers.source_len.get())?;
        destination.push(buffers.destination.get(), buffers.destination_len.get())?;
        return Ok(());
    }
    read_list(bus, buffers.source.get(), source)?;
    if buffers.source == buffers.destination {
        // Read once: the driver may change it meanwhile.
        destination.clone_from(source);
        return Ok(());
    }
    read_list(bus, buffers.destination.get(), destination)
}

fn read_list(bus: &mut dyn Bus, address: u64, list: &mut SgList) -> Result<(), Failure> {
    let header: ListHeader = read_struct(bus, address)?;
    let count = header.count.get();
    if count > MAX_BUFFERS {
        return Err(Failure::Invalid);
    }
    let mut entries = [ListEntry::new_zeroed(); 32];
    let mut at = address.wrapping_add(size_of::<ListHeader>() as u64);
    let mut left = count as usize;
    while left > 0 {
        let chunk = entries.get_mut(..left.min(32)).unwrap_or_default();
        bus.dma_read(at, chunk.as_mut_bytes())?;
        for entry in chunk.iter() {
            list.push(entry.address.get(), entry.len.get())?;
        }
        at = at.wrapping_add(size_of_val(chunk) as u64);
        left -= chunk.len();
    }
    Ok(())
}

/// Reads a structure from guest memory.
pub(crate) fn read_struct<T: FromBytes + IntoBytes>(
    bus: &mut dyn Bus,
    address: u64,
) -> Result<T, Failure> {
    let mut value = T::new_zeroed();
    bus.dma_read(address, value.as_mut_bytes())?;
    Ok(value)
}
