//! Boot: the image for the primary boot loader, Sahara, the log, the time.

use std::collections::BTreeMap;

use understudy_client::qaic::{Driver, Options, mhi};

use super::{Card, answers, appears, booted, card, card_with};
use crate::bytes::le32;
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qaic/boot":
    [1, "A boot image is taken: status, READY, environment SBL", "Linux mhi/host/boot.c, mhi_fw_load_bhi; common.h, BHI_STATUS_SUCCESS", image],
    [2, "A boot image out of reach, or without bytes, is an error, and the next is taken", "Linux mhi/host/boot.c, mhi_fw_load_bhi; common.h, BHI_STATUS_ERROR", bad_image],
    [3, "The end of the image interrupts the vector that the host chose", "Linux mhi/common.h, BHI_INTVEC; mhi/host/main.c, mhi_intvec_handler", image_interrupt],
    [4, "In M0 the boot loader tells its state and environment", "Linux mhi/common.h, MHI_PKT_TYPE_STATE_CHANGE_EVENT, MHI_PKT_TYPE_EE_EVENT", environment],
    [5, "Sahara begins with a hello of version 2", "Linux qaic/sahara.c, sahara_hello", hello],
    [6, "The boot loader asks for images by number, in pieces of at most 512 KiB, and gets on", "Linux qaic/sahara.c, sahara_read_data, SAHARA_TRANSFER_MAX_SIZE", images],
    [7, "An image that the host does not have ends in an error, or in a reset of the protocol", "Linux qaic/sahara.c, SAHARA_RESET_CMD", absent],
    [8, "Without the first image of the runtime firmware, boot stops in the boot loader", "Linux qaic/sahara.c, aic100_image_table", no_firmware],
    [9, "The runtime firmware announces itself, and its control channel opens", "Linux mhi/host/main.c, MHI_EE_AMSS; qaic_control.c, qaic_control_open", runtime],
    [10, "The boot loader sends its log, as text", "Linux mhi_controller.c, aic100_channels (QAIC_LOGGING)", log],
    [11, "The boot loader asks for the time, and takes it", "Linux qaic_timesync.c, QTS_MSG_TYPE_QUERY, QTS_MSG_TYPE_ACK", time],
    [12, "Channels of the runtime firmware cannot be started in the boot loader", "Linux mhi_controller.c, aic100_channels (ee_mask)", channels],
);

/// The device in its second boot loader, in M0; skips if it starts in its runtime firmware.
fn loader(ctx: &Context<'_>) -> Result<Card, Stop> {
    let mut card = card(ctx)?;
    need_loader(&mut card)?;
    expect_eq("the result of the image", &card.host.load_image(&[0x5b; 5000])?, &2)?;
    card.host.start()?;
    Ok(card)
}

fn need_loader(card: &mut Card) -> Outcome {
    match card.host.boot_read(mhi::EXECENV)? {
        0 => Ok(()),
        _ => Err(Stop::skip("the device starts in its runtime firmware")),
    }
}

fn image(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    need_loader(&mut card)?;
    expect_eq("the result of the image", &card.host.load_image(&[0x5b; 70_000])?, &2)?;
    card.host.wait("READY", |host| Ok(host.read(mhi::STATUS)? & 1 != 0))?;
    expect_eq("the environment", &card.host.boot_read(mhi::EXECENV)?, &1)?;
    expect_hex("MHISTATUS.SYSERR", card.host.read(mhi::STATUS)? & 4, 0)
}

fn bad_image(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    need_loader(&mut card)?;
    let boot = u64::from(card.host.read(0x28)?);
    for size in [0, 4096, u32::MAX] {
        card.host.boot_write(mhi::BHI_STATUS, 0)?;
        // Else the driver takes the last image's result for the next one's.
        expect_eq("the result, cleared", &(card.host.boot_read(mhi::BHI_STATUS)? >> 30), &0)?;
        card.host.write_long(boot + mhi::IMAGE_ADDRESS, 0x10)?;
        card.host.boot_write(mhi::IMAGE_SIZE, size)?;
        card.host.boot_write(mhi::IMAGE_DOORBELL, 5)?;
        card.host.wait("a result", |host| Ok(host.boot_read(mhi::BHI_STATUS)? >> 30 != 0))?;
        let result = card.host.boot_read(mhi::BHI_STATUS)? >> 30;
        expect_eq(&format!("the result of {size} bytes out of reach"), &result, &3)?;
        crate::log::refused(format!("an image of {size} bytes out of reach, with BHI status 3"));
        expect_eq("the environment", &card.host.boot_read(mhi::EXECENV)?, &0)?;
    }
    card.power_up()?;
    answers(&mut card)
}

fn image_interrupt(ctx: &mut Context<'_>) -> Outcome {
    use understudy_client::Platform;
    for vector in [0, 3] {
        let mut card = card_with(ctx, 32)?;
        need_loader(&mut card)?;
        card.host.boot_write(mhi::INTVEC, vector.into())?;
        card.host.load_image(&[0x5b; 100])?;
        let deadline =
            card.host.now().plus(u64::try_from(ctx.left().as_nanos()).unwrap_or(u64::MAX));
        if !card.host.platform.wait_interrupt(vector, deadline)? {
            return Err(Stop::Wedged(format!("vector {vector}")));
        }
    }
    Ok(())
}

fn environment(ctx: &mut Context<'_>) -> Outcome {
    let card = loader(ctx)?;
    expect_eq("the state", &card.host.state, &2)?;
    expect_eq("the environment", &card.host.environment, &Some(1))?;
    let kinds: Vec<u8> = card.host.events_seen.iter().map(|event| event[14]).collect();
    expect_eq("the events", &kinds, &vec![0x20, 0x40])
}

/// A packet of Sahara.
fn packet(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The next packet of the device.
fn next(card: &mut Card) -> Result<Vec<u8>, Stop> {
    card.host.listen(3, 0x1000)?;
    Ok(card.host.receive(3)?.bytes)
}

/// The device in its boot loader, its hello taken.
fn greeted(ctx: &Context<'_>) -> Result<(Card, Vec<u8>), Stop> {
    let mut card = loader(ctx)?;
    for channel in [2, 3] {
        expect_eq("the code of the start", &card.host.start_channel(channel)?, &1)?;
    }
    let hello = next(&mut card)?;
    Ok((card, hello))
}

fn hello(ctx: &mut Context<'_>) -> Outcome {
    let (_, hello) = greeted(ctx)?;
    expect_eq("the command", &le32(&hello, 0), &1)?;
    expect_eq("the length", &le32(&hello, 4), &0x30)?;
    expect_eq("the bytes", &hello.len(), &0x30)?;
    expect_eq("the version", &le32(&hello, 8), &2)?;
    expect(le32(&hello, 12) <= 2, "an oldest version of 2 or less", || le32(&hello, 12).to_string())
}

/// The answer to a hello.
fn respond(card: &mut Card, hello: &[u8]) -> Outcome {
    let mut words = vec![2, 0x30, 2, 2, 0, le32(hello, 20)];
    words.resize(12, 0);
    Ok(card.host.send(2, &[&packet(&words)])?)
}

fn images(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, hello) = greeted(ctx)?;
    respond(&mut card, &hello)?;
    let mut images = Vec::new();
    for _ in 0..200 {
        let message = next(&mut card)?;
        match le32(&message, 0) {
            3 => {
                expect_eq("the length of READ_DATA", &le32(&message, 4), &0x14)?;
                let (image, len) = (le32(&message, 8), le32(&message, 16));
                expect((1..=10).contains(&image), "an image of the table", || image.to_string())?;
                expect((1..=0x8_0000).contains(&len), "1 to 0x80000 bytes", || len.to_string())?;
                images.push(image);
                let data = vec![0x33; usize::try_from(len).unwrap_or(0)];
                let pieces: Vec<&[u8]> = data.chunks(8192).collect();
                card.host.send(2, &pieces)?;
            }
            4 => {
                expect_eq("the length of END_OF_IMAGE", &le32(&message, 4), &0x10)?;
                expect_eq(
                    "the image that ends",
                    &Some(le32(&message, 8)),
                    &images.last().copied(),
                )?;
                expect_eq("the status of the image", &le32(&message, 12), &0)?;
                card.host.send(2, &[&packet(&[5, 8])])?;
            }
            6 if le32(&message, 8) == 1 => break,
            6 => expect_eq("the length of DONE_RESPONSE", &le32(&message, 4), &0xc)?,
            other => return Err(Stop::fail("READ_DATA, END_OF_IMAGE or DONE", other.to_string())),
        }
    }
    card.host.wait("the runtime firmware", |host| Ok(host.environment == Some(2)))?;
    images.dedup();
    expect(!images.is_empty(), "images that are asked for", || "none".into())
}

fn absent(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, hello) = greeted(ctx)?;
    respond(&mut card, &hello)?;
    let asked = next(&mut card)?;
    expect_eq("the command", &le32(&asked, 0), &3)?;
    card.host.send(2, &[&packet(&[7, 8])])?;
    let answer = next(&mut card)?;
    // Linux takes both: a response to its RESET, or an end of the image that is no success.
    let reset = (le32(&answer, 0), le32(&answer, 4)) == (8, 8);
    let failed = (le32(&answer, 0), le32(&answer, 4)) == (4, 0x10) && le32(&answer, 12) != 0;
    expect(reset || failed, "RESET_RESPONSE, or END_OF_IMAGE with an error", || {
        format!("{answer:02x?}")
    })
}

fn no_firmware(ctx: &mut Context<'_>) -> Outcome {
    let mut probe = card(ctx)?;
    need_loader(&mut probe)?;
    drop(probe);
    let timeout_nanos = 100_000_000;
    let options =
        Options { vectors: 0, firmware: BTreeMap::new(), timeout_nanos, ..Options::default() };
    let mut card: Card = Driver::new(ctx.platform(true)?, options)?;
    let result = card.power_up();
    expect(result.is_err(), "no boot", || "one".into())?;
    expect_eq("the environment", &card.host.boot_read(mhi::EXECENV)?, &1)
}

fn runtime(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    expect_eq("the environment, as an event", &card.host.environment, &Some(2))?;
    expect_eq("the environment, as a register", &card.host.boot_read(mhi::EXECENV)?, &2)?;
    expect_hex("MHISTATUS", card.host.read(mhi::STATUS)?, 0x201)?;
    answers(&mut card)
}

fn log(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loader(ctx)?;
    expect_eq("the code of the start", &card.host.start_channel(13)?, &1)?;
    card.host.listen(13, 0x1000)?;
    let line = card.host.receive(13)?.bytes;
    let text = line.iter().all(|byte| matches!(byte, 0 | 9 | 10 | 13 | 32..=126));
    expect(text && !line.is_empty(), "a line of text", || format!("{line:02x?}"))
}

fn time(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loader(ctx)?;
    for channel in [20, 21] {
        expect_eq("the code of the start", &card.host.start_channel(channel)?, &1)?;
    }
    card.host.listen(21, 64)?;
    let query = card.host.receive(21)?.bytes;
    // Signature 0x55aa, a word of which the sixth byte is the type.
    expect_hex("the signature", le32(&query, 0) & 0xffff, 0x55aa)?;
    expect_eq("the type of the query", &query.get(5).copied(), &Some(0))?;
    let mut answer = vec![0xaa, 0x55, 0, 0, 0, 1, 0, 0];
    answer.resize(24, 7);
    card.host.send(20, &[&answer])?;
    card.host.listen(21, 64)?;
    let taken = card.host.receive(21)?.bytes;
    expect_eq("the type of the acknowledgement", &taken.get(5).copied(), &Some(2))
}

fn channels(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loader(ctx)?;
    for channel in [0, 10, 14, 24, 127] {
        let code = card.host.start_channel(channel)?;
        expect(code != 1, &format!("no success for channel {channel}"), || code.to_string())?;
        crate::log::refused(format!("channel {channel}, with code {code}"));
    }
    expect_eq("the code for the boot loader's channel", &card.host.start_channel(2)?, &1)?;
    let early = appears(&mut card, 1, |card| Ok(card.host.environment == Some(2)))?;
    expect(!early, "no runtime firmware before it is there", || "one".into())
}
