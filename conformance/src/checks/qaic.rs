//! `qaic/…`: the Cloud AI 100 and what lies above it: MHI, boot, control channel, DMA bridge, networks.
//!
//! There is no specification: clauses name the headers and sources of Linux (`drivers/bus/mhi`,
//! `drivers/accel/qaic`, its documentation) and of the vendor's open runtime. How a program computes
//! is the program's own; checks that need one load ours (`fixtures/qaic/containers`), and are skipped on a
//! device that refuses it.

use understudy_client::qaic::{Activation, Driver, Options, Transaction};
use understudy_client::vfio_user::SocketPlatform;

use crate::verdict::{expect, expect_eq};
use crate::{Check, Context, Stop};

mod boot;
mod bridge;
mod commands;
mod compute;
mod control;
mod mhi;
mod power;
mod refusals;
mod registers;
mod resources;
mod semaphores;
mod transfers;

pub(super) const CHECKS: &[&[Check]] = &[
    registers::CHECKS,
    boot::CHECKS,
    mhi::CHECKS,
    transfers::CHECKS,
    power::CHECKS,
    control::CHECKS,
    commands::CHECKS,
    resources::CHECKS,
    refusals::CHECKS,
    bridge::CHECKS,
    semaphores::CHECKS,
    compute::CHECKS,
];

type Card = Driver<SocketPlatform>;

/// The user that checks act for.
const USER: u32 = 1;

/// Transactions of NNC messages.
mod transaction {
    pub(super) const PASSTHROUGH_FROM_DEVICE: u32 = 3;
    pub(super) const PASSTHROUGH: u32 = 4;
    pub(super) const DMA_TRANSFER: u32 = 6;
    pub(super) const ACTIVATE_FROM_DEVICE: u32 = 8;
    pub(super) const ACTIVATE: u32 = 9;
    pub(super) const DEACTIVATE_FROM_DEVICE: u32 = 11;
    pub(super) const STATUS_FROM_DEVICE: u32 = 14;
    pub(super) const STATUS: u32 = 15;
    pub(super) const TERMINATE_FROM_DEVICE: u32 = 16;
    pub(super) const TERMINATE: u32 = 17;
    pub(super) const DMA_CONTINUE: u32 = 18;
    pub(super) const PARTITION_FROM_DEVICE: u32 = 19;
    pub(super) const PARTITION: u32 = 20;
}

/// Statuses of commands (`enum nnc_status_code`).
mod status {
    pub(super) const DMA_ERROR: i32 = -2;
    pub(super) const UNDEFINED_REQUEST: i32 = -3;
    pub(super) const MEM_ALLOC_ERROR: i32 = -4;
    pub(super) const METADATA_ERROR: i32 = -5;
    pub(super) const OPERATION_NOT_PERMITTED: i32 = -9;
    pub(super) const RESOURCE_NOT_FOUND: i32 = -11;
    pub(super) const CMD_LENGTH_ERROR: i32 = -17;
    pub(super) const VER_MISMATCH_ERROR: i32 = -102;
    pub(super) const NO_NETWORK_TO_DEACTIVATE: i32 = -116;
}

/// Programs that checks load.
mod program {
    pub(super) const DOUBLE_F32: &[u8] =
        include_bytes!("../../../fixtures/qaic/containers/double-f32.qpc");
    pub(super) const DOUBLE_F16: &[u8] =
        include_bytes!("../../../fixtures/qaic/containers/double-f16.qpc");
    pub(super) const DOUBLE_I8: &[u8] =
        include_bytes!("../../../fixtures/qaic/containers/double-i8.qpc");
    pub(super) const DIVIDE_I32: &[u8] =
        include_bytes!("../../../fixtures/qaic/containers/divide-i32.qpc");
    pub(super) const MATMUL_F32: &[u8] =
        include_bytes!("../../../fixtures/qaic/containers/matmul-f32.qpc");
}

/// A device that is not booted, with so many vectors; 0 for polling.
fn card_with(ctx: &Context<'_>, vectors: u16) -> Result<Card, Stop> {
    let timeout_nanos = u64::try_from(ctx.left().as_nanos()).unwrap_or(u64::MAX);
    let options = Options { vectors, timeout_nanos, ..Options::default() };
    Ok(Driver::new(ctx.platform_with(24 << 20, true)?, options)?)
}

/// A device that is not booted.
fn card(ctx: &Context<'_>) -> Result<Card, Stop> {
    card_with(ctx, 0)
}

/// A device with its control channel open.
fn booted(ctx: &Context<'_>) -> Result<Card, Stop> {
    let mut card = card(ctx)?;
    card.power_up()?;
    Ok(card)
}

/// Loads a program for a user, or skips on a device that has its own kind.
fn load(card: &mut Card, user: u32, program: &[u8]) -> Result<u32, Stop> {
    match card.load(user, program, 1 << 20, 64)? {
        Ok(id) => Ok(id),
        Err(status::METADATA_ERROR | status::VER_MISMATCH_ERROR) => {
            Err(Stop::skip("the device runs no networks given as ONNX"))
        }
        Err(status) => Err(Stop::fail("a program that loads", format!("status {status}"))),
    }
}

/// Activates a program with rings of so many elements.
fn activate(card: &mut Card, user: u32, program: u32, elements: u32) -> Result<Activation, Stop> {
    let found = card.activate(user, program, elements)?;
    found.map_err(|status| Stop::fail("an activation", format!("status {status}")))
}

/// A booted device with the network that doubles four numbers.
fn doubling(ctx: &Context<'_>) -> Result<(Card, Activation), Stop> {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let active = activate(&mut card, USER, id, 64)?;
    Ok((card, active))
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The network doubles: all of the device works.
fn doubles(card: &mut Card, active: &Activation) -> Result<(), Stop> {
    let found = card.infer(active, &[&floats(&[1.0, -2.5, 0.0, 3e9])], &[16])?;
    let wanted = floats(&[2.0, -5.0, 0.0, 6e9]);
    expect_eq("the outputs", &found, &vec![wanted])
}

/// The control channel answers.
fn answers(card: &mut Card) -> Result<(), Stop> {
    Ok(card.terminate(0x7777)?)
}

/// The one transaction of an answer.
fn only(answer: Vec<Transaction>) -> Result<Transaction, Stop> {
    let count = answer.len();
    let one = answer.into_iter().next().filter(|_| count == 1);
    one.ok_or_else(|| Stop::fail("an answer of one transaction", count.to_string()))
}

/// The answer to a command: type and status of what must be an answer to `kind`.
fn command(card: &mut Card, user: u32, words: &[u32]) -> Result<Transaction, Stop> {
    let answer = only(card.request(user, &[Transaction::command(words)])?)?;
    expect_eq("the type of the answer", &answer.kind, &transaction::PASSTHROUGH_FROM_DEVICE)?;
    Ok(answer)
}

/// Looks at the device for so many milliseconds; `false` if `there` was never so.
fn appears(
    card: &mut Card,
    millis: u64,
    mut there: impl FnMut(&mut Card) -> Result<bool, Stop>,
) -> Result<bool, Stop> {
    let end = card.host.now().plus(millis * 1_000_000);
    while card.host.now() < end {
        card.host.take_events()?;
        if there(card)? {
            return Ok(true);
        }
        card.host.read(understudy_client::qaic::mhi::STATUS)?;
    }
    Ok(false)
}

/// A status that tells of a failure, and of this one.
fn is_status(what: &str, word: u32, wanted: i32) -> Result<(), Stop> {
    let found = word.cast_signed();
    if found != 0 {
        crate::log::refused(format!("{what}, with status {found}"));
    }
    expect(found == wanted, &format!("{what}: status {wanted}"), || found.to_string())
}

/// Bytes that differ from their neighbours.
fn pattern_of(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256).to_le_bytes()[0]).collect()
}
