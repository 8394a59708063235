//! Commands, events, channel states.

use understudy_client::Platform;
use understudy_client::qaic::mhi;

use super::{Card, answers, appears, booted, card_with};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qaic/mhi":
    [1, "A command is completed with success and its own address", "Linux mhi/common.h, MHI_CC_EV_PTR, MHI_EV_CC_SUCCESS; mhi/host/main.c, mhi_process_cmd_completion", completion],
    [2, "Commands go round their ring, and events round theirs", "Linux mhi/host/main.c, mhi_add_ring_element, mhi_recycle_ev_ring_element", wrap],
    [3, "One doorbell may announce many commands; they are completed in order", "Linux mhi/host/main.c, mhi_ring_cmd_db", batch],
    [4, "Events are held back while their ring is full, and none is lost", "Linux mhi/host/main.c, mhi_process_ctrl_ev_ring (wp follows rp)", full],
    [5, "START_CHAN makes a channel run, and its context says so", "Linux mhi/common.h, MHI_CMD_START_CHAN, MHI_CH_STATE_RUNNING", start],
    [6, "STOP_CHAN stops a channel, and START_CHAN lets it go on where it was", "Linux mhi/common.h, MHI_CMD_STOP_CHAN, MHI_CH_STATE_STOP", stop],
    [7, "RESET_CHAN disables a channel, and it can be started anew", "Linux mhi/common.h, MHI_CMD_RESET_CHAN, MHI_CH_STATE_DISABLED", reset],
    [8, "Channels that do not exist, or are running already, are not started", "Linux mhi/host/main.c, mhi_update_channel_state (completion code)", not_started],
    [9, "Commands that do not exist fail, and the next works", "Linux mhi/common.h, MHI_EV_CC_UNDEFINED_ERR", unknown_command],
    [10, "A channel whose context makes no sense is not started", "Linux mhi/common.h, struct mhi_chan_ctxt", bad_context],
    [11, "Doorbells that point outside their rings are ignored", "Linux mhi/host/main.c, mhi_ring_db", bad_doorbells],
    [12, "The upper half of a doorbell alone rings nothing", "Linux mhi/host/main.c, mhi_write_db (upper, then lower half)", half_doorbell],
    [13, "Events interrupt the vector of their ring's context", "Linux mhi/common.h, struct mhi_event_ctxt (msivec)", vector],
    [14, "With one vector granted, everything interrupts on it", "Linux qaic_drv.c, init_msi (fallback to one vector)", one_vector],
    [15, "Contexts that make no sense end in SYS_ERR, from which a reset recovers", "Linux mhi/host/pm.c, mhi_pm_sys_error_transition", bad_contexts],
    [16, "The read pointer of the command ring's context follows the work", "Linux mhi/common.h, struct mhi_cmd_ctxt (rp)", command_pointer],
);

/// NOOP, as a command.
const NOOP: u8 = 1;
const START: u8 = 18;
const STOP: u8 = 17;
const UNDEFINED: u8 = 0x10;

fn noop(card: &mut Card) -> Outcome {
    expect_eq("the code of a NOOP", &card.host.command(NOOP, 0)?, &1)
}

fn completion(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    // The driver sees to the address.
    for _ in 0..5 {
        noop(&mut card)?;
    }
    let last = card.host.events_seen.last().copied().unwrap_or_default();
    expect_hex("the type of the event", last[14], 0x21)?;
    expect_eq("the length in the event", &u16::from_le_bytes([last[8], last[9]]), &0)
}

fn wrap(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    (0..400).try_for_each(|_| noop(&mut card))
}

/// Completions among the events since the start, as addresses.
fn completed(card: &Card) -> Vec<u64> {
    let events = card.host.events_seen.iter().filter(|event| event[14] == 0x21);
    events.map(|event| u64::from_le_bytes(*event.first_chunk().unwrap_or(&[0; 8]))).collect()
}

/// Puts commands in without telling the device.
fn put(card: &mut Card, count: usize) -> Result<Vec<u64>, Stop> {
    let mut addresses = Vec::new();
    for _ in 0..count {
        addresses.push(card.host.put_command(NOOP, 0)?);
    }
    Ok(addresses)
}

fn batch(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for _ in 0..20 {
        card.host.events_seen.clear();
        let addresses = put(&mut card, 17)?;
        card.host.ring_commands()?;
        card.host.wait("completions", |host| Ok(host.events_seen.len() >= 17))?;
        expect_eq("the addresses", &completed(&card), &addresses)?;
    }
    Ok(())
}

fn full(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    // The event ring has 32 elements, of which the driver gives 31.
    for _ in 0..3 {
        card.host.events_seen.clear();
        let addresses = put(&mut card, 100)?;
        card.host.ring_commands()?;
        for _ in 0..50 {
            card.host.read(mhi::STATUS)?;
        }
        card.host.wait("completions", |host| Ok(host.events_seen.len() >= 100))?;
        expect_eq("the addresses", &completed(&card), &addresses)?;
    }
    answers(&mut card)
}

/// A channel's state in its context.
fn state(card: &mut Card, channel: u8) -> Result<u8, Stop> {
    let mut byte = [0];
    card.host.platform.dma_read(card.host.channel_context(channel), &mut byte)?;
    Ok(byte[0])
}

/// The loopback pair, started.
pub(super) fn loopback(ctx: &Context<'_>) -> Result<Card, Stop> {
    let mut card = booted(ctx)?;
    for channel in [0, 1] {
        expect_eq("the code of the start", &card.host.start_channel(channel)?, &1)?;
    }
    Ok(card)
}

/// A message there and back.
pub(super) fn echo(card: &mut Card, message: &[u8]) -> Outcome {
    card.host.listen(1, 0x1000)?;
    card.host.send(0, &[message])?;
    let found = card.host.receive(1)?;
    expect_eq("the code of the event", &found.code, &2)?;
    crate::verdict::expect_bytes("the echo", &found.bytes, message)
}

fn start(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    for channel in [0, 1] {
        expect_eq("the channel's state", &state(&mut card, channel)?, &2)?;
    }
    echo(&mut card, b"started")
}

fn stop(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    echo(&mut card, b"before")?;
    expect_eq("the code of the stop", &card.host.command(STOP, 0)?, &1)?;
    expect_eq("the channel's state", &state(&mut card, 0)?, &4)?;
    card.host.listen(1, 64)?;
    card.host.send(0, &[b"while stopped"])?;
    noop(&mut card)?;
    let early = appears(&mut card, 2, |card| {
        Ok(card.host.events_seen.last().is_some_and(|event| event[14] == 0x22))
    })?;
    expect(!early, "no transfer on a channel that is stopped", || "one".into())?;
    expect_eq("the code of the start", &card.host.command(START, 0)?, &1)?;
    expect_eq("the channel's state", &state(&mut card, 0)?, &2)?;
    expect_eq("the echo", &card.host.receive(1)?.bytes, &b"while stopped".to_vec())
}

fn reset(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    for _ in 0..20 {
        echo(&mut card, b"round")?;
        for channel in [0, 1] {
            expect_eq("the code of the reset", &card.host.reset_channel(channel)?, &1)?;
            expect_eq("the channel's state", &state(&mut card, channel)?, &0)?;
        }
        for channel in [0, 1] {
            expect_eq("the code of the start", &card.host.start_channel(channel)?, &1)?;
        }
    }
    Ok(())
}

fn not_started(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    for channel in [0, 100, 127, 255] {
        let code = card.host.command(START, channel)?;
        expect(code != 1, &format!("no success for channel {channel}"), || code.to_string())?;
        crate::log::refused(format!("channel {channel}, with code {code}"));
    }
    let code = card.host.command(STOP, 4)?;
    expect(code != 1, "no success of stopping what does not run", || code.to_string())?;
    echo(&mut card, b"still there")
}

fn unknown_command(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for kind in [0, 2, 15, 19, 99, 255] {
        expect_hex(&format!("the code of command {kind}"), card.host.command(kind, 0)?, UNDEFINED)?;
        crate::log::refused(format!("command {kind}, with code {UNDEFINED:#x}"));
        noop(&mut card)?;
    }
    Ok(())
}

/// Bytes of a channel's context: its ring at `base`, so many bytes long, at these pointers.
fn context(base: u64, len: u64, pointer: u64, ring: u32) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0, 1, 0, 0, 0];
    bytes.extend(ring.to_le_bytes());
    for word in [base, len, pointer, pointer] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

fn bad_context(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let ring = card.host.platform.dma_alloc(1024, 1024)?.iova;
    for (what, bytes) in [
        ("no length", context(ring, 0, ring, 0)),
        ("a length of no whole elements", context(ring, 100, ring, 0)),
        ("an endless length", context(ring, u64::MAX, ring, 0)),
        ("pointers outside", context(ring, 1024, ring + 1024, 0)),
        ("pointers between elements", context(ring, 1024, ring + 8, 0)),
        ("an event ring that is none", context(ring, 1024, ring, 31)),
    ] {
        let at = card.host.channel_context(0);
        card.host.platform.dma_write(at, &bytes)?;
        let code = card.host.command(START, 0)?;
        expect(code != 1, &format!("{what}: no success"), || code.to_string())?;
        crate::log::refused(format!("{what}, with code {code}"));
    }
    expect_eq("the code of a start in order", &card.host.start_channel(0)?, &1)
}

fn bad_doorbells(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    let (channels, events) = (u64::from(card.host.read(0x18)?), u64::from(card.host.read(0x20)?));
    for value in [0, 0x10, u64::MAX, 0x1234_5678_9abc_def0] {
        for at in [mhi::CRDB, channels, channels + 8, channels + 8 * 60, events, events + 8] {
            card.host.write_long(at, value)?;
        }
    }
    echo(&mut card, b"no harm done")?;
    answers(&mut card)
}

fn half_doorbell(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let address = card.host.put_command(NOOP, 0)?;
    let before = card.host.events_seen.len();
    let upper = u32::try_from((address + 16) >> 32).unwrap_or(0);
    card.host.write(mhi::CRDB + 4, upper)?;
    let early = appears(&mut card, 2, |card| Ok(card.host.events_seen.len() > before))?;
    expect(!early, "no completion yet", || "one".into())?;
    card.host.ring_commands()?;
    card.host.wait("a completion", |host| Ok(host.events_seen.len() > before))?;
    Ok(())
}

/// One command: this vector interrupts.
fn interrupts(ctx: &Context<'_>, vectors: u16) -> Outcome {
    let mut card = card_with(ctx, vectors)?;
    card.power_up()?;
    while card.host.platform.wait_interrupt(0, understudy_device::Nanos(0))? {}
    card.host.put_command(NOOP, 0)?;
    card.host.ring_commands()?;
    let left = u64::try_from(ctx.left().as_nanos()).unwrap_or(u64::MAX);
    let deadline = card.host.now().plus(left);
    if !card.host.platform.wait_interrupt(0, deadline)? {
        return Err(Stop::Wedged("an interrupt for a completion".into()));
    }
    let there = appears(&mut card, 1000, |card| {
        Ok(card.host.events_seen.last().is_some_and(|event| event[14] == 0x21))
    })?;
    expect(there, "a completion behind its interrupt", || "none".into())
}

fn vector(ctx: &mut Context<'_>) -> Outcome {
    interrupts(ctx, 32)
}

fn one_vector(ctx: &mut Context<'_>) -> Outcome {
    interrupts(ctx, 1)
}

fn bad_contexts(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    card.host.reset()?;
    card.host.wait("READY", |host| Ok(host.read(mhi::STATUS)? & 1 != 0))?;
    for at in [mhi::CCABAP, mhi::ECABAP, mhi::CRCBAP] {
        card.host.write_long(at, 0x10)?;
    }
    let config = card.host.read(mhi::CONFIG)?;
    card.host.write(mhi::CONFIG, config & !0xff_0000 | 1 << 16)?;
    card.host.write(mhi::CONTROL, 2 << 8)?;
    card.host.wait("SYS_ERR", |host| Ok(host.read(mhi::STATUS)? & 4 != 0))?;
    crate::log::refused("contexts out of reach, with SYS_ERR");
    card.host.reset()?;
    card.power_up()?;
    answers(&mut card)
}

fn command_pointer(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let mut base = [0; 8];
    for at in [mhi::CRCBAP, mhi::CRCBAP + 4] {
        let half = card.host.read(at)?.to_le_bytes();
        let from = if at == mhi::CRCBAP { 0 } else { 4 };
        base[from..from + 4].copy_from_slice(&half);
    }
    let context = u64::from_le_bytes(base);
    for _ in 0..5 {
        let address = card.host.put_command(NOOP, 0)?;
        let before = card.host.events_seen.len();
        card.host.ring_commands()?;
        card.host.wait("a completion", |host| Ok(host.events_seen.len() > before))?;
        let mut rp = [0; 8];
        card.host.platform.dma_read(context + 28, &mut rp)?;
        let rp = u64::from_le_bytes(rp);
        // It wraps at the end of the ring.
        let moved = rp == address + 16 || rp < address;
        expect(moved, &format!("a read pointer behind {address:#x}"), || format!("{rp:#x}"))?;
    }
    Ok(())
}
