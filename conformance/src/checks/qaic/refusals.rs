//! Commands that cannot be carried out, each with its status.

use understudy_client::qaic::Transaction;

use super::{
    Card, USER, answers, booted, command, is_status, load, only, program, status, transaction,
};
use crate::verdict::{expect, expect_eq};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qaic/refusals":
    [1, "What is no program is a metadata error", "QNncProtocol.h, NNC_STATUS_METADATA_ERROR", no_program],
    [2, "A program that was changed is refused, and never faked", "QNncProtocol.h, NNC_STATUS_METADATA_ERROR", changed],
    [3, "A program out of reach is a DMA error", "QNncProtocol.h, NNC_STATUS_DMA_ERROR", out_of_reach],
    [4, "Addresses that add up to another length are a DMA error", "QNncProtocol.h, NNC_STATUS_DMA_ERROR", other_length],
    [5, "A load without its transfer is a DMA error", "QNncProtocol.h, NNC_STATUS_DMA_ERROR", no_transfer],
    [6, "A program larger than the device's memory is an allocation error", "QNncProtocol.h, NNC_STATUS_MEM_ALLOC_ERROR", too_large],
    [7, "Activating what is not loaded is told as not found", "QNncProtocol.h, NNC_STATUS_RESOURCE_NOT_FOUND", not_loaded],
    [8, "Rings that cannot be are refused, and take no channel", "QNncProtocol.h, NNC_STATUS_VC_CONFIGURE_ERROR", bad_rings],
    [9, "An activation without memory for its channel is refused", "QNncProtocol.h, NNC_STATUS_PARAMETER_ERROR", no_memory],
    [10, "Deactivating what is not active is told so", "QNncProtocol.h, NNC_STATUS_NO_NETWORK_TO_DEACTIVATE", not_active],
    [11, "Unloading what is not loaded is told as not found", "QNncProtocol.h, NNC_STATUS_RESOURCE_NOT_FOUND", not_there],
    [12, "A transfer that is given up ends in an error, and its memory is free", "Linux qaic_control.c, abort_dma_cont", given_up],
);

/// Loads must be refused with one of these.
fn refused(card: &mut Card, what: &str, program: &[u8], wanted: &[i32]) -> Outcome {
    match card.load(USER, program, 1 << 20, 64)? {
        Ok(_) => Err(Stop::fail(format!("{what}: a refusal"), "success")),
        Err(found) => {
            crate::log::refused(format!("{what}, with status {found}"));
            expect(wanted.contains(&found), &format!("{what}: status {wanted:?}"), || {
                found.to_string()
            })?;
            answers(card)
        }
    }
}

fn no_program(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for bytes in [&b"not a program"[..], &[0; 4096], &[0x7f, b'E', b'L', b'F']] {
        refused(&mut card, "what is no program", bytes, &[status::METADATA_ERROR])?;
    }
    Ok(())
}

fn changed(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    load(&mut card, USER, program::DOUBLE_F32)?;
    // Without the section that holds the network there is nothing to run.
    let mut nameless = program::DOUBLE_F32.to_vec();
    let place = nameless.windows(10).position(|window| window == b"understudy");
    let at = place.ok_or_else(|| Stop::skip("the program has no section of ours"))?;
    nameless[at] = b'x';
    refused(&mut card, "a program without a network", &nameless, &[status::METADATA_ERROR])?;
    let wanted = [status::METADATA_ERROR, status::VER_MISMATCH_ERROR, status::MEM_ALLOC_ERROR];
    for len in [1, 16, 100, program::DOUBLE_F32.len() / 2] {
        refused(&mut card, "a program cut short", &program::DOUBLE_F32[..len], &wanted)?;
    }
    Ok(())
}

/// A load of `total` bytes, whose transfer has these pieces.
fn load_of(
    card: &mut Card,
    total: u64,
    pieces: Option<&[(u64, u64)]>,
) -> Result<Transaction, Stop> {
    let mut body = vec![0; 96];
    for (at, word) in [(0, 3_u32), (4, 8), (8, 1)] {
        body[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    body[80..88].copy_from_slice(&total.to_le_bytes());
    let mut list = vec![Transaction::new(transaction::PASSTHROUGH, body)];
    if let Some(pieces) = pieces {
        let count = u32::try_from(pieces.len()).unwrap_or(0);
        let mut transfer = Transaction::command(&[8, count, 0, 0]);
        transfer.kind = transaction::DMA_TRANSFER;
        for (address, len) in pieces {
            transfer.body.extend(address.to_le_bytes());
            transfer.body.extend(len.to_le_bytes());
        }
        list.push(transfer);
    }
    only(card.request(USER, &list)?)
}

/// The status of a load, in the answer to the command or to the message.
fn load_status(answer: &Transaction) -> u32 {
    let of_message = answer.kind == transaction::STATUS_FROM_DEVICE;
    if of_message { answer.word(1) } else { answer.word(2) }
}

fn out_of_reach(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for pieces in [[(0x10, 4096)], [(u64::MAX - 100, 4096)]] {
        let answer = load_of(&mut card, 4096, Some(&pieces))?;
        is_status("a program out of reach", load_status(&answer), status::DMA_ERROR)?;
    }
    answers(&mut card)
}

fn other_length(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let memory = understudy_client::Platform::dma_alloc(&mut card.host.platform, 8192, 4096)?.iova;
    for pieces in [
        &[(memory, 1000)][..],
        &[(memory, 4097)],
        &[(memory, 4000), (memory, 97)],
        &[(memory, u64::MAX)],
    ] {
        let answer = load_of(&mut card, 4096, Some(pieces))?;
        is_status("another length", load_status(&answer), status::DMA_ERROR)?;
    }
    answers(&mut card)
}

fn no_transfer(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let answer = load_of(&mut card, 4096, None)?;
    is_status("a load without its transfer", load_status(&answer), status::DMA_ERROR)
}

fn too_large(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for total in [1 << 50, u64::MAX] {
        let answer = load_of(&mut card, total, Some(&[(0x10, 4096)]))?;
        is_status("a program of too many bytes", load_status(&answer), status::MEM_ALLOC_ERROR)?;
    }
    answers(&mut card)
}

fn not_loaded(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for id in [0, 999, u32::MAX] {
        let found = card.activate(USER, id, 16)?.err();
        expect_eq("the status", &found, &Some(status::RESOURCE_NOT_FOUND))?;
        crate::log::refused(format!("network {id}, with status {}", status::RESOURCE_NOT_FOUND));
    }
    Ok(())
}

/// An activation with this for its channel; the statuses of command and transaction.
fn activation(card: &mut Card, id: u32, memory: Option<[u64; 4]>) -> Result<Vec<u32>, Stop> {
    let minus_one = u32::MAX;
    let command = Transaction::command(&[9, 1, 0, id, 0, minus_one, 1, minus_one, 1, 0, 0, 0]);
    let mut list = vec![command];
    if let Some([requests, responses, first, second]) = memory {
        let mut body = requests.to_le_bytes().to_vec();
        body.extend(responses.to_le_bytes());
        for count in [first, second, 8192, 0] {
            body.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        }
        list.push(Transaction::new(transaction::ACTIVATE, body));
    }
    let answer = card.request(USER, &list)?;
    let status = |it: &Transaction| {
        if it.kind == transaction::ACTIVATE_FROM_DEVICE { it.word(0) } else { it.word(1) }
    };
    Ok(answer.iter().map(status).collect())
}

fn bad_rings(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let base = understudy_client::Platform::dma_alloc(&mut card.host.platform, 8192, 4096)?.iova;
    for (what, memory) in [
        ("no elements", [base, base + 4096, 0, 0]),
        ("one element", [base, base + 4096, 1, 1]),
        ("other numbers of requests and responses", [base, base + 4096, 16, 32]),
        (
            "more elements than there can be",
            [base, base + (1 << 32), u64::from(u32::MAX), u64::from(u32::MAX)],
        ),
        ("rings that overlap", [base, base + 64, 16, 16]),
        ("rings that wrap", [u64::MAX - 100, base, 16, 16]),
    ] {
        let found = activation(&mut card, id, Some(memory))?;
        let all = found.len() == 2 && found.iter().all(|status| *status != 0);
        expect(all, &format!("{what}: failures of command and transaction"), || {
            format!("{found:?}")
        })?;
        crate::log::refused(format!("{what}, with statuses {found:?}"));
        let free = command(&mut card, USER, &[32, 0, u32::MAX, 0])?.word(5).to_le_bytes();
        expect_eq(&format!("{what}: free channels"), &free[1], &free[0])?;
    }
    let active = super::activate(&mut card, USER, id, 16)?;
    super::doubles(&mut card, &active)
}

fn no_memory(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let found = activation(&mut card, id, None)?;
    let refused = found.iter().all(|status| *status != 0);
    expect(refused && found.len() == 1, "a failure of the command", || format!("{found:?}"))?;
    crate::log::refused(format!("an activation without memory, with status {found:?}"));
    Ok(())
}

fn not_active(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for id in [0, 999] {
        let answer = command(&mut card, USER, &[11, id, 1, 0])?;
        expect_eq("the answer's command", &answer.word(0), &12)?;
        is_status("a deactivation", answer.word(1), status::NO_NETWORK_TO_DEACTIVATE)?;
    }
    Ok(())
}

fn not_there(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for (kind, id) in [(7, 0), (7, 999), (5, 0), (5, 999)] {
        let answer = command(&mut card, USER, &[kind, id])?;
        expect_eq("the answer's command", &answer.word(0), &(kind + 1))?;
        is_status(&format!("command {kind}"), answer.word(1), status::RESOURCE_NOT_FOUND)?;
    }
    Ok(())
}

fn given_up(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let memory = understudy_client::Platform::dma_alloc(&mut card.host.platform, 8192, 4096)?.iova;
    let mut body = vec![0; 96];
    for (at, word) in [(0, 3_u32), (4, 8), (8, 1), (80, 4 << 20)] {
        body[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    let mut first = Transaction::command(&[8, 1, 3, 0]);
    first.kind = transaction::DMA_TRANSFER;
    first.body.extend(memory.to_le_bytes());
    first.body.extend(4096_u64.to_le_bytes());
    let free = |card: &mut Card| Ok::<u32, Stop>(command(card, 5, &[32, 0, u32::MAX, 0])?.word(3));
    let before = free(&mut card)?;
    let load = Transaction::new(transaction::PASSTHROUGH, body);
    let asked = only(card.request(USER, &[load, first])?)?;
    expect_eq("the type of the answer", &asked.kind, &transaction::DMA_CONTINUE)?;
    let mut none = Transaction::command(&[8, 0, 3, 0]);
    none.kind = transaction::DMA_TRANSFER;
    let ended = only(card.request(USER, &[none])?)?;
    expect(load_status(&ended) != 0, "a failure", || "success".into())?;
    crate::log::refused(format!(
        "a transfer that was given up, with status {}",
        load_status(&ended)
    ));
    expect_eq("megabytes free again", &free(&mut card)?, &before)?;
    answers(&mut card)
}
