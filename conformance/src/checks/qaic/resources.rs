//! What users load, activate and give back.

use understudy_client::qaic::Transaction;

use super::{
    USER, activate, answers, booted, command, doubles, doubling, is_status, load, program, status,
    transaction,
};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qaic/resources":
    [1, "A program loads, in one piece and in many", "Linux qaic_control.c, encode_dma; QNncProtocol.h, NNC_CMD_TYPE_LOAD_ELF_REQ", pieces],
    [2, "Addresses that do not fit a message are asked for, with the bytes that are there", "Linux qaic_control.c, encode_dma_cont, struct wire_trans_dma_xfer_cont", continued],
    [3, "A program is unloaded, once", "QNncProtocol.h, NNC_CMD_TYPE_UNLOAD_ELF_REQ", unload],
    [4, "An activation is answered by a command and a transaction that agree", "Linux qaic_control.c, decode_activate; QNncProtocol.h, nnc_cmd_activate_response_t", activation],
    [5, "A deactivation is answered with the channel that is free again", "Linux qaic_control.c, decode_deactivate", deactivation],
    [6, "Each network has a channel of its own, until there is none", "Linux qaic_control.c, decode_activate (dbc_id); QNncProtocol.h, NNC_STATUS_NSP_ALLOC_ERROR", exhaustion],
    [7, "TERMINATE gives back all that a user has, and nothing of others", "Linux qaic_control.c, qaic_release_usr", terminate],
    [8, "What is one user's is no other's", "QNncProtocol.h, NNC_STATUS_OPERATION_NOT_PERMITTED", foreign],
    [9, "A program with active networks is not unloaded", "QNncProtocol.h, NNC_STATUS_OPERATION_NOT_PERMITTED", busy],
    [10, "Constants are loaded, filled and unloaded", "QNncProtocol.h, NNC_CMD_TYPE_LOAD_CONSTANTS_REQ, _EX_REQ, _PAYLOAD_REQ", constants],
    [11, "Loads, activations and terminations go on for many rounds", "Linux qaic_control.c, qaic_manage_ioctl", rounds],
);

fn pieces(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for (piece, pieces) in [(1 << 20, 64), (100, 64), (7, 200)] {
        load(&mut card, USER, program::DOUBLE_F32)?;
        let id = card.load(USER, program::DOUBLE_F32, piece, pieces)?;
        let id = id.map_err(|status| Stop::fail("a load", format!("status {status}")))?;
        let active = activate(&mut card, USER, id, 16)?;
        doubles(&mut card, &active)?;
        card.terminate(USER)?;
    }
    Ok(())
}

/// A load command for a tag, and the addresses of so many of its bytes.
fn parts(total: usize, tag: u32, chunk: u32, pairs: &[(u64, u64)]) -> (Transaction, Transaction) {
    let mut body = vec![0; 96];
    for (at, word) in [(0, 3_u32), (4, tag), (8, 1)] {
        body[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    body[80..88].copy_from_slice(&(total as u64).to_le_bytes());
    let count = u32::try_from(pairs.len()).unwrap_or(0);
    let mut transfer = Transaction::command(&[tag, count, chunk, 0]);
    transfer.kind = transaction::DMA_TRANSFER;
    for (address, len) in pairs {
        transfer.body.extend(address.to_le_bytes());
        transfer.body.extend(len.to_le_bytes());
    }
    (Transaction::new(transaction::PASSTHROUGH, body), transfer)
}

fn continued(ctx: &mut Context<'_>) -> Outcome {
    use understudy_client::Platform;
    let mut card = booted(ctx)?;
    load(&mut card, USER, program::DOUBLE_F32)?;
    let total = program::DOUBLE_F32.len();
    let memory = card.host.platform.dma_alloc(4096, 4096)?.iova;
    card.host.platform.dma_write(memory, program::DOUBLE_F32)?;
    let (load, first) = parts(total, 5, 9, &[(memory, 100)]);
    let asked = super::only(card.request(USER, &[load, first])?)?;
    expect_eq("the type of the answer", &asked.kind, &transaction::DMA_CONTINUE)?;
    expect_eq("the chunk", &asked.word(0), &9)?;
    expect_eq("the bytes that are there", &asked.word(2), &100)?;
    let (_, second) = parts(total, 5, 9, &[(memory + 100, 28), (memory + 128, 72)]);
    let asked = super::only(card.request(USER, &[second])?)?;
    expect_eq("the bytes that are there", &(asked.kind, asked.word(2)), &(18, 200))?;
    let rest = (memory + 200, total as u64 - 200);
    let (_, third) = parts(total, 5, 9, &[rest]);
    let answer = super::only(card.request(USER, &[third])?)?;
    expect_eq("the type of the answer", &answer.kind, &transaction::PASSTHROUGH_FROM_DEVICE)?;
    is_status("the load", answer.word(2), 0)
}

fn unload(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let answer = command(&mut card, USER, &[7, id])?;
    expect_eq("the answer's command", &answer.word(0), &8)?;
    is_status("the first time", answer.word(1), 0)?;
    let again = command(&mut card, USER, &[7, id])?;
    is_status("the second time", again.word(1), status::RESOURCE_NOT_FOUND)
}

fn activation(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let queues = understudy_client::Platform::dma_alloc(&mut card.host.platform, 8192, 4096)?;
    let minus_one = u32::MAX;
    let request = Transaction::command(&[9, 1, 0, id, 0, minus_one, 1, minus_one, 1, 0, 0, 0]);
    let mut body = queues.iova.to_le_bytes().to_vec();
    body.extend(queues.at(4096).to_le_bytes());
    for word in [16_u32, 16, 8192, 0] {
        body.extend(word.to_le_bytes());
    }
    let answer = card.request(USER, &[request, Transaction::new(transaction::ACTIVATE, body)])?;
    let [first, second] = answer.as_slice() else {
        return Err(Stop::fail("an answer of two transactions", answer.len().to_string()));
    };
    expect_eq("the type of the first", &first.kind, &transaction::PASSTHROUGH_FROM_DEVICE)?;
    expect_eq("the answer's command", &first.word(0), &10)?;
    is_status("the command", first.word(1), 0)?;
    expect(first.word(2) != 0, "a number of the activation", || "0".into())?;
    expect_eq("the type of the second", &second.kind, &transaction::ACTIVATE_FROM_DEVICE)?;
    is_status("the transaction", second.word(0), 0)?;
    expect_eq("the channel in both", &second.word(1), &first.word(3))?;
    expect_eq("bytes of the transaction", &(second.body.len() + 8), &24)
}

fn deactivation(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    doubles(&mut card, &active)?;
    let answer = card.request(USER, &[Transaction::command(&[11, active.id, 1, 0])])?;
    let [first, second] = answer.as_slice() else {
        return Err(Stop::fail("an answer of two transactions", answer.len().to_string()));
    };
    expect_eq("the answer's command", &first.word(0), &12)?;
    is_status("the command", first.word(1), 0)?;
    expect_eq("the type of the second", &second.kind, &transaction::DEACTIVATE_FROM_DEVICE)?;
    is_status("the transaction", second.word(0), 0)?;
    expect_eq("the channel", &second.word(1), &active.channel)?;
    for at in [0, 4, 8, 12] {
        expect_hex("a pointer of the channel", card.bridge_read(active.channel, at)?, 0)?;
    }
    Ok(())
}

fn exhaustion(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let mut all = Vec::new();
    let refused = loop {
        match card.activate(USER, id, 16)? {
            Ok(active) => all.push(active),
            Err(status) => break status,
        }
        expect(all.len() <= 64, "an end of channels", || all.len().to_string())?;
    };
    expect(matches!(refused, -13 | -14), "status -13 or -14", || refused.to_string())?;
    let mut channels: Vec<u32> = all.iter().map(|active| active.channel).collect();
    channels.sort_unstable();
    channels.dedup();
    expect_eq("different channels", &channels.len(), &all.len())?;
    for active in &all {
        doubles(&mut card, active)?;
    }
    let Some(one) = all.pop() else { return Err(Stop::fail("a channel", "none")) };
    is_status("a deactivation", card.deactivate(USER, one)?.cast_unsigned(), 0)?;
    let again = activate(&mut card, USER, id, 16)?;
    expect_eq("the channel that is free again", &again.channel, &one.channel)?;
    doubles(&mut card, &again)
}

fn terminate(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let mut actives = Vec::new();
    for user in [1, 2] {
        let id = load(&mut card, user, program::DOUBLE_F32)?;
        actives.push((id, activate(&mut card, user, id, 16)?));
    }
    let (id, gone) = actives[0];
    doubles(&mut card, &gone)?;
    card.terminate(1)?;
    expect_hex("a pointer of the channel", card.bridge_read(gone.channel, 4)?, 0)?;
    let status = card.activate(1, id, 16)?;
    expect_eq("activating what is gone", &status.err(), &Some(status::RESOURCE_NOT_FOUND))?;
    doubles(&mut card, &actives[1].1)
}

fn foreign(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, 1, program::DOUBLE_F32)?;
    let wanted = status::OPERATION_NOT_PERMITTED;
    // Before it is in use, which would be a reason of its own.
    is_status("unloading", command(&mut card, 2, &[7, id])?.word(1), wanted)?;
    let active = activate(&mut card, 1, id, 16)?;
    expect_eq("activating", &card.activate(2, id, 16)?.err(), &Some(wanted))?;
    expect_eq("deactivating", &card.deactivate(2, active)?, &wanted)?;
    doubles(&mut card, &active)
}

fn busy(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let active = activate(&mut card, USER, id, 16)?;
    let answer = command(&mut card, USER, &[7, id])?;
    is_status("while it is active", answer.word(1), status::OPERATION_NOT_PERMITTED)?;
    doubles(&mut card, &active)?;
    is_status("a deactivation", card.deactivate(USER, active)?.cast_unsigned(), 0)?;
    is_status("afterwards", command(&mut card, USER, &[7, id])?.word(1), 0)
}

fn constants(ctx: &mut Context<'_>) -> Outcome {
    use understudy_client::Platform;
    let mut card = booted(ctx)?;
    let memory = card.host.platform.dma_alloc(4096, 4096)?.iova;
    // In one go: tag at 8, length at 16.
    let mut body = vec![0; 32];
    for (at, word) in [(0, 1_u32), (8, 6), (16, 4096)] {
        body[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    let (_, transfer) = parts(4096, 6, 0, &[(memory, 4096)]);
    let passthrough = |body| Transaction::new(transaction::PASSTHROUGH, body);
    let answer = super::only(card.request(USER, &[passthrough(body), transfer])?)?;
    expect_eq("the answer's command", &answer.word(0), &2)?;
    is_status("loading", answer.word(2), 0)?;
    is_status("unloading", command(&mut card, USER, &[5, answer.word(1)])?.word(1), 0)?;
    // Reserved, then filled.
    let mut body = vec![0; 112];
    for (at, word) in [(0, 15_u32), (72, 16), (80, 4096)] {
        body[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    let answer = super::only(card.request(USER, &[passthrough(body)])?)?;
    is_status("reserving", answer.word(2), 0)?;
    let id = answer.word(1);
    for (offset, wanted) in [(0_u32, 0), (2048, 0), (4000, -6)] {
        let mut body = vec![0; 32];
        for (at, word) in [(0, 16_u32), (8, 7), (12, id), (16, 2048), (24, offset)] {
            body[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let (_, transfer) = parts(2048, 7, 0, &[(memory, 2048)]);
        let answer = super::only(card.request(USER, &[passthrough(body), transfer])?)?;
        is_status(&format!("filling from {offset}"), answer.word(2), wanted)?;
    }
    is_status("unloading", command(&mut card, USER, &[5, id])?.word(1), 0)
}

fn rounds(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for round in 0..30 {
        let id = load(&mut card, round, program::DOUBLE_F32)?;
        let active = activate(&mut card, round, id, 16)?;
        doubles(&mut card, &active)?;
        match round % 3 {
            0 => card.terminate(round)?,
            1 => {
                is_status("a deactivation", card.deactivate(round, active)?.cast_unsigned(), 0)?;
                card.terminate(round)?;
            }
            _ => {}
        }
    }
    answers(&mut card)
}
