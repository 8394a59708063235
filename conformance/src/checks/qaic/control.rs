//! The control channel: messages, their headers, transactions of the driver itself.

use understudy_client::qaic::Transaction;

use super::{Card, answers, appears, booted, command, is_status, only, status, transaction};
use crate::bytes::{crc32, le32};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qaic/control":
    [1, "STATUS is answered with protocol 5.0, and whether CRCs are wanted", "Linux qaic_control.c, get_cntl_version, qaic_manage_ioctl (status_flags)", version],
    [2, "A reply has the magic, its own length and count, and the sequence number and handle of its message", "Linux qaic_control.c, struct wire_msg_hdr, resp_worker", headers],
    [3, "A reply's CRC covers all that follows it", "Linux qaic_control.c, valid_crc", reply_crc],
    [4, "A message whose CRC is wrong is not executed, if CRCs are wanted", "Linux qaic_control.c, gen_crc; QNncProtocol.h, NNC_STATUS_SAFETY_SWIV_BCS_MHI_ERROR", wrong_crc],
    [5, "TERMINATE is always answered with success, whoever the user is", "Linux qaic_control.c, qaic_release_usr (TERMINATE)", terminate],
    [6, "VALIDATE_PARTITION tells whether a partition is there", "Linux qaic_control.c, QAIC_TRANS_VALIDATE_PARTITION_TO_DEV", partition],
    [7, "A message of several transactions is answered in their order", "Linux qaic_control.c, decode_message (count)", several],
    [8, "A message may be sent in several elements", "Linux qaic_control.c, msg_xfer (wrapper list)", pieces],
    [9, "Messages that are not well formed are refused, and the next is answered", "Linux qaic_control.c, struct wire_msg_hdr, struct wire_trans_hdr", malformed],
    [10, "A message without the magic is not answered", "Linux qaic_control.c, MANAGE_MAGIC_NUMBER", no_magic],
    [11, "A transaction of unknown type is refused", "Linux uapi qaic_accel.h, enum qaic_manage_transaction_type", unknown_transaction],
    [12, "An empty message is answered", "Linux qaic_control.c, decode_message", empty],
    [13, "Many messages at once are answered in their order", "Linux qaic_control.c, msg_xfer (queue)", many],
    [14, "Replies are not longer than 4096 bytes", "Linux qaic_control.c, QAIC_MANAGE_MAX_MSG_LENGTH", long_replies],
);

/// Sends bytes and returns the reply as it is.
fn raw(card: &mut Card, message: &[u8]) -> Result<Vec<u8>, Stop> {
    card.host.listen(11, 0x1000)?;
    card.host.send(10, &[message])?;
    Ok(card.host.receive(11)?.bytes)
}

fn nothing(kind: u32) -> Transaction {
    Transaction::new(kind, Vec::new())
}

fn words(kind: u32, words: &[u32]) -> Transaction {
    Transaction { kind, ..Transaction::command(words) }
}

fn version(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let answer = only(card.request(0, &[nothing(transaction::STATUS)])?)?;
    expect_eq("the type of the answer", &answer.kind, &transaction::STATUS_FROM_DEVICE)?;
    expect_hex("major and minor version", answer.word(0), 5)?;
    is_status("STATUS", answer.word(1), 0)?;
    expect_eq("the bytes of the transaction", &(answer.body.len() + 8), &24)
}

fn headers(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for handle in [0, 5, u32::MAX] {
        let message = card.encode(handle, &[nothing(transaction::STATUS)]);
        let reply = raw(&mut card, &message)?;
        let len = u32::try_from(reply.len()).unwrap_or(0);
        for (at, name, wanted) in [
            (4, "the magic", 0x4349_4151),
            (8, "the sequence number", le32(&message, 8)),
            (12, "the length", len),
            (16, "the count", 1),
            (20, "the handle", handle),
            (28, "the padding", 0),
        ] {
            expect_hex(name, le32(&reply, at), wanted)?;
        }
    }
    Ok(())
}

/// Whether the device wants CRCs; skips if it does not.
fn need_crc(card: &mut Card) -> Outcome {
    let answer = only(card.request(0, &[nothing(transaction::STATUS)])?)?;
    if answer.word(2) & 1 != 0 {
        return Ok(());
    }
    Err(Stop::skip("the device wants no CRCs"))
}

fn reply_crc(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    need_crc(&mut card)?;
    let message =
        card.encode(3, &[nothing(transaction::STATUS), words(transaction::PARTITION, &[1, 0])]);
    let mut reply = raw(&mut card, &message)?;
    let found = le32(&reply, 0);
    reply.iter_mut().take(4).for_each(|byte| *byte = 0);
    expect_hex("the CRC", found, crc32(&reply))
}

fn wrong_crc(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    need_crc(&mut card)?;
    for at in [0, 9, 33] {
        let mut message = card.encode(3, &[words(transaction::TERMINATE, &[3, 0])]);
        message[at] ^= 1;
        let reply = raw(&mut card, &message)?;
        let terminated = le32(&reply, 32) == transaction::TERMINATE_FROM_DEVICE;
        expect(!terminated, "a refusal", || "an answer as if nothing was wrong".into())?;
        crate::log::refused(format!("a wrong CRC, from byte {at}"));
        answers(&mut card)?;
    }
    Ok(())
}

fn terminate(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for user in [0, 1, 77, u32::MAX] {
        let answer = only(card.request(user, &[words(transaction::TERMINATE, &[user, 0])])?)?;
        expect_eq("the type of the answer", &answer.kind, &transaction::TERMINATE_FROM_DEVICE)?;
        is_status("TERMINATE", answer.word(0), 0)?;
    }
    Ok(())
}

fn partition(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    // QAIC_NO_PARTITION is there always; a number this high is not.
    for (number, there) in [(u32::MAX, true), (0x7fff_fff0, false)] {
        let answer = only(card.request(1, &[words(transaction::PARTITION, &[number, 0])])?)?;
        expect_eq("the type of the answer", &answer.kind, &transaction::PARTITION_FROM_DEVICE)?;
        let found = answer.word(0) == 0;
        expect_eq(&format!("whether partition {number:#x} is there"), &found, &there)?;
    }
    Ok(())
}

fn several(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let list = [
        nothing(transaction::STATUS),
        words(transaction::PARTITION, &[u32::MAX, 0]),
        Transaction::command(&[32, 0, u32::MAX, 0]),
        words(transaction::TERMINATE, &[9, 0]),
    ];
    let kinds: Vec<u32> = card.request(9, &list)?.iter().map(|it| it.kind).collect();
    let wanted = vec![
        transaction::STATUS_FROM_DEVICE,
        transaction::PARTITION_FROM_DEVICE,
        transaction::PASSTHROUGH_FROM_DEVICE,
        transaction::TERMINATE_FROM_DEVICE,
    ];
    expect_eq("the types of the answers", &kinds, &wanted)
}

fn pieces(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let message =
        card.encode(1, &[nothing(transaction::STATUS), words(transaction::TERMINATE, &[1, 0])]);
    for len in [32, 7, 4] {
        card.host.listen(11, 0x1000)?;
        let pieces: Vec<&[u8]> = message.chunks(len).collect();
        card.host.send(10, &pieces)?;
        let reply = card.host.receive(11)?.bytes;
        expect_eq("the count", &le32(&reply, 16), &2)?;
    }
    Ok(())
}

/// A message with words of its header or transaction replaced, and a CRC that fits.
fn edited(card: &mut Card, edits: &[(usize, u32)], len: usize) -> Vec<u8> {
    let mut message = card.encode(4, &[words(transaction::TERMINATE, &[4, 0])]);
    for (at, word) in edits {
        message[*at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    message.resize(len, 0);
    message[..4].fill(0);
    let covered = usize::try_from(le32(&message, 12)).unwrap_or(usize::MAX).min(message.len());
    let crc = crc32(&message[..covered]);
    message[..4].copy_from_slice(&crc.to_le_bytes());
    message
}

fn malformed(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for (what, edits, len) in [
        ("a length beyond the message", &[(12, 100)][..], 48),
        ("an endless length", &[(12, u32::MAX)], 48),
        ("a length of less than a header", &[(12, 8)], 48),
        ("more transactions than there are", &[(16, 2)], 48),
        ("endless transactions", &[(16, u32::MAX)], 48),
        ("a transaction beyond the message", &[(36, 100)], 48),
        ("a transaction of less than its header", &[(36, 4)], 48),
        ("bytes behind the last transaction", &[(12, 56)], 56),
    ] {
        let message = edited(&mut card, edits, len);
        let reply = raw(&mut card, &message).map_err(|stop| stop.during(what))?;
        let accepted = le32(&reply, 32) == transaction::TERMINATE_FROM_DEVICE;
        expect(!accepted, &format!("{what}: a refusal"), || "an answer as to a good one".into())?;
        crate::log::refused(what);
        answers(&mut card).map_err(|stop| stop.during(what))?;
    }
    Ok(())
}

fn no_magic(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let message = edited(&mut card, &[(4, 0x1234_5678)], 48);
    card.host.send(10, &[&message])?;
    card.host.send(10, &[&[0; 3]])?;
    card.host.events_seen.clear();
    card.host.listen(11, 0x1000)?;
    let early = appears(&mut card, 2, |card| {
        Ok(card.host.events_seen.iter().any(|event| (event[14], event[15]) == (0x22, 11)))
    })?;
    expect(!early, "no answer", || "one".into())?;
    // The buffer is still there for the next.
    let message = card.encode(1, &[nothing(transaction::STATUS)]);
    card.host.send(10, &[&message])?;
    let reply = card.host.receive(11)?.bytes;
    expect_hex("the sequence number", le32(&reply, 8), le32(&message, 8))
}

fn unknown_transaction(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for kind in [0, 1, 2, 21, 99, u32::MAX] {
        let answer = only(card.request(1, &[words(kind, &[0, 0])])?)?;
        let refused = answer.kind == transaction::STATUS_FROM_DEVICE && answer.word(1) != 0;
        let wanted = format!("type {kind}: a status transaction that refuses");
        expect(refused, &wanted, || format!("type {} status {}", answer.kind, answer.word(1)))?;
        crate::log::refused(format!(
            "a transaction of type {kind}, with status {}",
            answer.word(1)
        ));
    }
    answers(&mut card)
}

fn empty(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let answer = card.request(1, &[])?;
    expect_eq("the transactions of the answer", &answer.len(), &0)
}

fn many(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for _ in 0..20 {
        card.host.listen(11, 256)?;
    }
    let mut wanted = Vec::new();
    for _ in 0..20 {
        let message = card.encode(1, &[nothing(transaction::STATUS)]);
        wanted.push(le32(&message, 8));
        card.host.send(10, &[&message])?;
    }
    let mut found = Vec::new();
    for _ in 0..20 {
        found.push(le32(&card.host.receive(11)?.bytes, 8));
    }
    expect_eq("the sequence numbers", &found, &wanted)
}

fn long_replies(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    // Each is answered with 504 bytes and more.
    let list = vec![Transaction::command(&[13, 0]); 40];
    let message = card.encode(1, &list);
    let pieces: Vec<&[u8]> = message.chunks(4000).collect();
    card.host.listen(11, 0x1000)?;
    card.host.send(10, &pieces)?;
    let reply = card.host.receive(11)?;
    expect_eq("the code of the event", &reply.code, &2)?;
    expect(reply.bytes.len() <= 4096, "at most 4096 bytes", || reply.bytes.len().to_string())?;
    let one = command(&mut card, 1, &[32, 0, u32::MAX, 0])?;
    is_status(
        "a command of no sense",
        command(&mut card, 1, &[28, 0])?.word(1),
        status::UNDEFINED_REQUEST,
    )?;
    expect_eq("the answer to a query", &one.word(0), &33)
}
