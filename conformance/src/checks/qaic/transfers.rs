//! Transfer rings: messages in one piece and in many, their events, and elements that make no sense.

use understudy_client::Platform;
use understudy_client::platform::DmaBuffer;
use understudy_client::qaic::element;

use super::mhi::{echo, loopback};
use super::{Card, answers, pattern_of};
use crate::verdict::{expect, expect_bytes, expect_eq, expect_hex};
use crate::{Check, Context, Outcome};

crate::checks::group!("qaic/transfers":
    [1, "A message to the device comes back on the loopback channel", "Linux mhi_controller.c, aic100_channels (QAIC_LOOPBACK)", there_and_back],
    [2, "Messages go round their rings", "Linux mhi/host/main.c, mhi_add_ring_element", wrap],
    [3, "Chained elements are one message", "Linux mhi/common.h, MHI_TRE_DATA_DWORD1 (chain)", chained],
    [4, "The event at the end of a transfer names its last element", "Linux mhi/host/main.c, parse_xfer_event (EOT)", last_element],
    [5, "With IEOB, an element within a chain has an event of its own", "Linux mhi/common.h, MHI_TRE_DATA_DWORD1 (ieob), MHI_EV_CC_EOB", end_of_block],
    [6, "A message may fill several buffers of the host", "Linux mhi/host/main.c, mhi_gen_tre (chain on a channel from the device)", many_buffers],
    [7, "A message longer than its buffer is an overflow", "Linux mhi/common.h, MHI_EV_CC_OVERFLOW", overflow],
    [8, "An element of another type is a bad TRE, and stops its channel alone", "Linux mhi/common.h, MHI_EV_CC_BAD_TRE, MHI_CH_STATE_ERROR", bad_type],
    [9, "A buffer out of reach is a bad TRE, and a reset mends the channel", "Linux mhi/common.h, MHI_EV_CC_BAD_TRE", out_of_reach],
    [10, "Messages keep their order, many at a time", "Linux mhi/host/main.c, mhi_process_data_event_ring", in_order],
    [11, "Messages wait for the host's buffers", "Linux mhi/host/main.c, mhi_queue_buf (DMA_FROM_DEVICE)", buffers_later],
    [12, "The length in an event is what was transferred", "Linux mhi/common.h, MHI_TRE_GET_EV_LEN", lengths],
);

fn there_and_back(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    for len in [1, 4, 64, 1000, 4096] {
        echo(&mut card, &pattern_of(len))?;
    }
    Ok(())
}

fn wrap(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    for round in 0..300_u32 {
        echo(&mut card, &round.to_le_bytes())?;
    }
    Ok(())
}

fn chained(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    let message = pattern_of(1000);
    for piece in [1000, 500, 333, 17] {
        let pieces: Vec<&[u8]> = message.chunks(piece).collect();
        card.host.listen(1, 0x1000)?;
        card.host.send(0, &pieces)?;
        expect_bytes("the echo", &card.host.receive(1)?.bytes, &message)?;
    }
    Ok(())
}

/// Events of transfers on a channel: their code, length, address.
fn transfers(card: &Card, channel: u8) -> Vec<(u8, u16, u64)> {
    let events = card.host.events_seen.iter();
    let of_channel = events.filter(|event| event[14] == 0x22 && event[15] == channel);
    of_channel
        .map(|event| {
            let address = u64::from_le_bytes(*event.first_chunk().unwrap_or(&[0; 8]));
            (event[11], u16::from_le_bytes([event[8], event[9]]), address)
        })
        .collect()
}

/// Where the channel's ring begins.
fn ring(card: &mut Card, channel: u8) -> Result<u64, crate::Stop> {
    let mut base = [0; 8];
    card.host.platform.dma_read(card.host.channel_context(channel) + 12, &mut base)?;
    Ok(u64::from_le_bytes(base))
}

fn last_element(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    let base = ring(&mut card, 0)?;
    card.host.listen(1, 0x1000)?;
    card.host.send(0, &[b"one", b"two", b"three"])?;
    card.host.receive(1)?;
    expect_eq("the events", &transfers(&card, 0), &vec![(2, 5, base + 32)])?;
    let base = ring(&mut card, 1)?;
    expect_eq("the events of the other way", &transfers(&card, 1), &vec![(2, 11, base)])
}

const CHAIN: u32 = 1;
const IEOB: u32 = 1 << 8;
const IEOT: u32 = 1 << 9;

/// Pushes a buffer of these bytes.
fn push(card: &mut Card, channel: u8, bytes: &[u8], flags: u32) -> Outcome {
    let buffer = card.host.platform.dma_alloc(bytes.len(), 8)?;
    card.host.platform.dma_write(buffer.iova, bytes)?;
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    Ok(card.host.push(channel, buffer, element(buffer.iova, len, flags))?)
}

fn end_of_block(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    let base = ring(&mut card, 0)?;
    card.host.listen(1, 0x1000)?;
    push(&mut card, 0, b"abc", CHAIN | IEOB | IEOT)?;
    push(&mut card, 0, b"defg", IEOT)?;
    card.host.ring_channel(0)?;
    expect_bytes("the echo", &card.host.receive(1)?.bytes, b"abcdefg")?;
    expect_eq("the events", &transfers(&card, 0), &vec![(4, 3, base), (2, 4, base + 16)])
}

fn many_buffers(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    for _ in 0..3 {
        push(&mut card, 1, &[0; 8], CHAIN | IEOT)?;
    }
    push(&mut card, 1, &[0; 8], IEOT)?;
    card.host.ring_channel(1)?;
    let message = pattern_of(29);
    card.host.send(0, &[&message])?;
    let found = card.host.receive(1)?;
    expect_eq("the code of the event", &found.code, &2)?;
    expect_bytes("the echo", &found.bytes, &message)
}

fn overflow(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    card.host.listen(1, 8)?;
    card.host.send(0, &[&[7; 20]])?;
    let found = card.host.receive(1)?;
    expect_eq("the code of the event", &found.code, &3)?;
    expect_bytes("what did fit", &found.bytes, &[7; 8])?;
    echo(&mut card, b"the next one fits")
}

/// A bad element was told of; other channels go on, and a reset mends this one.
fn mended(card: &mut Card) -> Outcome {
    expect_hex("the code of the event", card.host.receive(0)?.code, 0x11)?;
    let mut state = [0];
    card.host.platform.dma_read(card.host.channel_context(0), &mut state)?;
    expect_eq("the channel's state", &state[0], &5)?;
    answers(card)?;
    expect_eq("the code of the reset", &card.host.reset_channel(0)?, &1)?;
    expect_eq("the code of the start", &card.host.start_channel(0)?, &1)?;
    echo(card, b"mended")
}

fn bad_type(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    let buffer = card.host.platform.dma_alloc(16, 8)?;
    let mut bad = element(buffer.iova, 4, IEOT);
    bad[14] = 0x55;
    card.host.push(0, buffer, bad)?;
    card.host.ring_channel(0)?;
    mended(&mut card)
}

fn out_of_reach(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    card.host.push(0, DmaBuffer { iova: 0x10, len: 4 }, element(0x10, 4, IEOT))?;
    card.host.ring_channel(0)?;
    mended(&mut card)
}

fn in_order(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    for _ in 0..60 {
        card.host.listen(1, 64)?;
    }
    for round in 0..60_u32 {
        push(&mut card, 0, &round.to_le_bytes(), IEOT)?;
    }
    card.host.ring_channel(0)?;
    for round in 0..60_u32 {
        expect_bytes("the next echo", &card.host.receive(1)?.bytes, &round.to_le_bytes())?;
    }
    Ok(())
}

fn buffers_later(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    for round in 0..10_u32 {
        card.host.send(0, &[&round.to_le_bytes()])?;
    }
    card.host.wait("the transfers", |host| {
        Ok(host.events_seen.iter().filter(|event| event[14] == 0x22).count() >= 10)
    })?;
    for round in 0..10_u32 {
        card.host.listen(1, 64)?;
        expect_bytes("the next echo", &card.host.receive(1)?.bytes, &round.to_le_bytes())?;
    }
    Ok(())
}

fn lengths(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    for len in [1_u16, 100, 4096] {
        card.host.events_seen.clear();
        echo(&mut card, &pattern_of(len.into()))?;
        for channel in [0, 1] {
            let found = transfers(&card, channel).first().map(|(_, len, _)| *len);
            expect_eq(&format!("the length on channel {channel}"), &found, &Some(len))?;
        }
    }
    expect(card.host.state == 2, "M0 all along", || card.host.state.to_string())
}
