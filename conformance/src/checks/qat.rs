//! `qat/…`: virtual functions of the second generation (C62x, C3xxx, DH895xCC).
//!
//! There is no specification: clauses name the headers and sources of Linux (`drivers/crypto/intel/qat`)
//! and DPDK (`drivers/common/qat`) that say so. Where these leave it open, nothing is demanded.

use understudy_client::qat::{Driver, Options, Response, ring};
use understudy_client::vfio_user::SocketPlatform;

use crate::verdict::{expect, expect_hex};
use crate::{Check, Context, Stop};

mod aead;
mod algorithms;
mod chains;
mod compression;
mod content;
mod curves;
mod errors;
mod interrupts;
mod pfvf;
mod public_key;
mod registers;
mod rings;
mod streams;
mod symmetric;
mod wireless;

pub(super) const CHECKS: &[&[Check]] = &[
    registers::CHECKS,
    pfvf::CHECKS,
    rings::CHECKS,
    interrupts::CHECKS,
    symmetric::CHECKS,
    algorithms::CIPHERS,
    algorithms::HASHES,
    algorithms::MACS,
    chains::CHECKS,
    aead::CHECKS,
    wireless::CHECKS,
    public_key::CHECKS,
    curves::CHECKS,
    compression::CHECKS,
    streams::CHECKS,
    errors::CHECKS,
];

type Qat = Driver<SocketPlatform>;

/// BAR of the rings.
const RINGS: u8 = 0;
/// BAR of the mailbox and what interrupts.
const MISC: u8 = 2;
/// Pairs that Linux uses, and the bytes of their requests: public key, symmetric, compression.
const PAIRS: [(u16, usize); 3] = [(PUBLIC_KEY, 64), (SYMMETRIC, 128), (COMPRESSION, 128)];
const PUBLIC_KEY: u16 = 0;
const SYMMETRIC: u16 = 2;
const COMPRESSION: u16 = 6;

/// Layouts of buffers that vectors go through in turn: flat, lists of one piece, of many.
const PIECES: [Option<usize>; 3] = [None, Some(1 << 20), Some(37)];

/// A device whose rings are not set up yet.
fn bare(ctx: &Context<'_>, interrupts: bool) -> Result<Qat, Stop> {
    let timeout_nanos = u64::try_from(ctx.left().as_nanos()).unwrap_or(u64::MAX);
    let options = Options { interrupts, piece: None, timeout_nanos };
    Ok(Driver::new(ctx.platform_with(24 << 20, true)?, options)?)
}

/// A device with rings for all services.
fn started(ctx: &Context<'_>) -> Result<Qat, Stop> {
    let mut driver = bare(ctx, false)?;
    for (pair, len) in PAIRS {
        driver.open(pair, 64, len)?;
    }
    Ok(driver)
}

/// A request that does nothing but come back (`ICP_QAT_FW_COMN_REQ_NULL`).
fn null(opaque: u64, len: usize) -> Vec<u8> {
    let mut message = vec![0; len];
    if let Some(flags) = message.get_mut(3) {
        *flags = 0x80;
    }
    if let Some(place) = message.get_mut(24..32) {
        place.copy_from_slice(&opaque.to_le_bytes());
    }
    message
}

/// A null request there and back on an open pair: the device works.
fn works(driver: &mut Qat, pair: u16) -> Result<(), Stop> {
    let len = if pair < 2 { 64 } else { 128 };
    let opaque = driver.opaque();
    let response = driver.run(pair, &null(opaque, len))?;
    expect_hex("the status of a null request", response.status(), 0)
}

/// A few round trips: whatever the device could do at once is done.
fn settle(driver: &mut Qat) -> Result<(), Stop> {
    for _ in 0..8 {
        driver.read(RINGS, ring::E_STAT)?;
    }
    Ok(())
}

/// Waits until `done` holds.
fn until(
    ctx: &Context<'_>,
    driver: &mut Qat,
    what: &str,
    mut done: impl FnMut(&mut Qat) -> Result<bool, Stop>,
) -> Result<(), Stop> {
    while !done(driver)? {
        if ctx.left().is_zero() {
            return Err(Stop::Wedged(what.to_owned()));
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// A response that has the form of its service and says that all went well.
fn succeeded(response: &Response) -> Result<(), Stop> {
    well_formed(response)?;
    // Decompression also tells of the end of the stream.
    let status = response.status() & !understudy_client::qat::status::END_OF_LAST_BLOCK;
    expect_hex("the status of the response", status, 0)?;
    expect(response.error() == 0, "error code 0", || response.error().to_string())
}

/// A response that has the form of its service.
fn well_formed(response: &Response) -> Result<(), Stop> {
    expect_hex("the valid flag of the response", response.flags() & 0x80, 0x80)?;
    let firmware = if response.service() == 3 { 0 } else { 1 };
    expect_hex("the service id of the response", response.bytes[1], firmware)
}

/// Bytes that differ from their neighbours.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256).to_le_bytes()[0] ^ seed).collect()
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn byte(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}
