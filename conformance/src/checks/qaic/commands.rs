//! Commands of the vendor's runtime: what the device tells of itself.

use super::{Card, USER, booted, command, is_status, load, only, program, status, transaction};
use crate::verdict::{expect, expect_eq};
use crate::{Check, Context, Outcome, Stop};
use understudy_client::qaic::Transaction;

crate::checks::group!("qaic/commands":
    [1, "STATUS tells information of format 12 and command protocol 17.0", "Runtime QAicHostApiInfo.h, host_api_info_format_version; QNncProtocol.h, NNC_COMMAND_PROTOCOL_MAJOR_VERSION", status_query],
    [2, "RESOURCE_INFO tells memory, processors and channels, and what of them is free", "Runtime QNncProtocol.h, nnc_cmd_resource_info_response_t", resources],
    [3, "PERFORMANCE_INFO is answered", "Runtime QNncProtocol.h, nnc_cmd_performance_info_response_t", performance],
    [4, "Commands that do not exist are undefined requests, answered in their form", "Runtime QNncProtocol.h, NNC_STATUS_ERROR_UNDEFINED_REQUEST", undefined],
    [5, "Commands cut short are told by length", "Runtime QNncProtocol.h, NNC_STATUS_CMD_LENGTH_ERROR", cut_short],
    [6, "Memory that a program takes is told as taken, and given back", "Runtime QAicHostApiInfo.h, dramFree", memory],
    [7, "Programs and networks are counted", "Runtime QAicHostApiInfo.h, numLoadedNWs, numActiveNWs", counts],
);

/// Offsets in the answer to a status query: format; then in the device's data.
const FORMAT: usize = 8;
const DEVICE: usize = 16;
/// Sizes of memory in megabytes, all and free, within the device's data.
const MEMORY: usize = DEVICE + 152;
const LOADED: usize = DEVICE + 192 + 56;

fn query(card: &mut Card) -> Result<Vec<u8>, Stop> {
    let answer = command(card, USER, &[13, 0])?;
    expect_eq("the answer's command", &answer.word(0), &14)?;
    is_status("STATUS", answer.word(1), 0)?;
    Ok(answer.body)
}

fn status_query(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let body = query(&mut card)?;
    expect_eq("the format", &body.get(FORMAT).copied(), &Some(12))?;
    let protocol = body.get(LOADED + 14..LOADED + 18).unwrap_or_default();
    expect_eq("the command protocol", &protocol, &[17, 0, 0, 0].as_slice())?;
    expect_eq("bytes of the answer", &body.len(), &504)
}

fn resources(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for group in [u32::MAX, 0] {
        let answer = command(&mut card, USER, &[32, 0, group, 0])?;
        expect_eq("the answer's command", &answer.word(0), &33)?;
        let (all, free) = (answer.word(2), answer.word(3));
        expect(all > 0 && free <= all, "memory, no more free than there is", || {
            format!("{free} of {all}")
        })?;
        let [channels, channels_free, processors, processors_free] = answer.word(5).to_le_bytes();
        expect(channels > 0 && channels_free == channels, "channels, all free", || {
            format!("{channels_free} of {channels}")
        })?;
        expect(processors > 0 && processors_free == processors, "processors, all free", || {
            format!("{processors_free} of {processors}")
        })?;
    }
    Ok(())
}

fn performance(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let answer = command(&mut card, USER, &[34, 0])?;
    expect_eq("the answer's command", &answer.word(0), &35)
}

fn undefined(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for kind in [0, 28, 40, 1000, u32::MAX] {
        let answer = command(&mut card, USER, &[kind, 0])?;
        expect_eq("the answer's command", &answer.word(0), &kind.wrapping_add(1))?;
        is_status(&format!("command {kind}"), answer.word(1), status::UNDEFINED_REQUEST)?;
    }
    Ok(())
}

fn cut_short(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    // Status is the third word of answers to loads, the second of others.
    for (kind, answered, at) in [(3, 4, 2), (1, 2, 2), (16, 2, 2), (7, 8, 1), (5, 6, 1)] {
        let short = Transaction::new(transaction::PASSTHROUGH, u32::to_le_bytes(kind).to_vec());
        let answer = only(card.request(USER, &[short])?)?;
        expect_eq(&format!("the answer to command {kind}"), &answer.word(0), &answered)?;
        is_status(&format!("command {kind} cut short"), answer.word(at), status::CMD_LENGTH_ERROR)?;
    }
    Ok(())
}

/// Free memory in megabytes as a query tells, and of programs and networks the numbers.
fn told(card: &mut Card) -> Result<(u32, u8, u8), Stop> {
    let body = query(card)?;
    let free = crate::bytes::le32(&body, MEMORY + 4);
    let byte = |at: usize| body.get(LOADED + at).copied().unwrap_or(0);
    Ok((free, byte(8), byte(9)))
}

fn memory(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let (before, ..) = told(&mut card)?;
    // Constants that are only reserved: 8 MB.
    let mut body = vec![0; 112];
    body[..4].copy_from_slice(&15_u32.to_le_bytes());
    body[72..76].copy_from_slice(&16_u32.to_le_bytes());
    body[80..88].copy_from_slice(&(8_u64 << 20).to_le_bytes());
    let answer = only(card.request(USER, &[Transaction::new(transaction::PASSTHROUGH, body)])?)?;
    if answer.word(2) != 0 {
        return Err(Stop::skip("the device reserves no constants like this"));
    }
    let (during, ..) = told(&mut card)?;
    expect_eq("megabytes taken", &before.wrapping_sub(during), &8)?;
    let gone = command(&mut card, USER, &[5, answer.word(1)])?;
    is_status("unloading constants", gone.word(1), 0)?;
    let (after, ..) = told(&mut card)?;
    expect_eq("megabytes free again", &after, &before)
}

fn counts(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let (_, loaded, active) = told(&mut card)?;
    expect_eq("programs and networks", &(loaded, active), &(1, 0))?;
    super::activate(&mut card, USER, id, 16)?;
    let (_, loaded, active) = told(&mut card)?;
    expect_eq("programs and networks", &(loaded, active), &(1, 1))?;
    card.terminate(USER)?;
    let (_, loaded, active) = told(&mut card)?;
    expect_eq("programs and networks", &(loaded, active), &(0, 0))
}
