//! The mailbox between virtual and physical function, whose other end the device plays.

use understudy_client::platform::Platform;
use understudy_client::qat::misc;
use understudy_device::Nanos;

use super::{MISC, Qat, bare, until};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qat/pfvf":
    [1, "A version request is answered with a version and whether it is compatible", "Linux adf_pfvf_msg.h, COMPAT_VER_REQ; adf_pfvf_pf_proto.c", versions],
    [2, "The first protocol's version request is answered", "Linux adf_pfvf_msg.h, ADF_VF2PF_MSGTYPE_VERSION_REQ", first_version],
    [3, "The capabilities block has its version, length, payload, and CRCs of every prefix", "Linux adf_pfvf_msg.h, ADF_VF2PF_BLKMSG_REQ_CAP_SUMMARY", |ctx| block(ctx, 2, 2, 4)],
    [4, "The ring-to-service block has its version, length, payload, and CRCs", "Linux adf_pfvf_msg.h, ADF_VF2PF_BLKMSG_REQ_RING_SVC_MAP", |ctx| block(ctx, 3, 4, 2)],
    [5, "A byte beyond a block, or its CRC, is an error of its own", "Linux adf_pfvf_msg.h, ADF_PF2VF_INVALID_BYTE_NUM_REQ", beyond_block],
    [6, "A block that does not exist is an error of its own, in all three classes", "Linux adf_pfvf_msg.h, ADF_PF2VF_INVALID_BLOCK_TYPE", unknown_blocks],
    [7, "INIT and SHUTDOWN are acknowledged, and their message is left intact", "Linux adf_gen2_pfvf.c, adf_gen2_pfvf_send (notifications)", notifications],
    [8, "Between two ends that know fast acknowledgement, the receiver clears the mark", "Linux adf_pfvf_msg.h, ADF_PFVF_COMPAT_FAST_ACK; adf_gen2_pfvf.c", |ctx| mark(ctx, 5)],
    [9, "With an end that does not know fast acknowledgement, the sender clears the mark", "Linux adf_pfvf_msg.h, ADF_PFVF_COMPAT_FAST_ACK; adf_gen2_pfvf.c", |ctx| mark(ctx, 2)],
    [10, "An answer waits until the mailbox is free", "Linux adf_gen2_pfvf.c, gen2_csr_is_in_use (before sending)", waits],
    [11, "A message that is not of the system is left alone", "Linux adf_gen2_pfvf.c, is_legacy_user_pfvf_message", not_of_the_system],
    [12, "Messages of unknown types are acknowledged and not answered", "Linux adf_pfvf_pf_proto.c, adf_handle_vf2pf_msg (default)", unknown_types],
    [13, "A message asserts VINTSOU bit 1 until it is acknowledged, and interrupts once", "Linux adf_vf_isr.c, ADF_VINTSOU_PF2VF", interrupt],
    [14, "A masked message interrupts when it is unmasked", "Linux adf_vf_isr.c, adf_enable_pf2vf_interrupts", masked],
    [15, "RESTARTING_COMPLETE is acknowledged", "Linux adf_pfvf_msg.h, ADF_VF2PF_MSGTYPE_RESTARTING_COMPLETE", restarting_complete],
    [16, "The four exchanges of a driver's probe succeed, again and again", "Linux adf_pfvf_vf_msg.c, adf_vf2pf_notify_init and requests", probe],
    [17, "Capabilities name symmetric, public-key and compression services as rings do", "Linux icp_qat_hw.h, icp_qat_capabilities_mask; adf_cfg_common.h", capabilities],
    [18, "A reset of the function empties the mailbox", "Linux adf_aer.c, adf_reset_flr", reset],
);

const IN_USE: u32 = 0x6ac2;
const IN_USE_MASK: u32 = 0xfffe;
const COMPATIBLE: u32 = 1;
const INCOMPATIBLE: u32 = 2;
const UNKNOWN: u32 = 3;
/// Answers to block requests: a byte, a CRC, an error.
const DATA: u32 = 0;
const CRC: u32 = 1;
const ERROR: u32 = 2;

/// A message of the virtual function, as it is written.
const fn message(kind: u32, data: u32) -> u32 {
    (3 | kind << 2 | data << 6) << 16 | IN_USE
}

fn write(driver: &mut Qat, value: u32) -> Outcome {
    Ok(driver.write(MISC, misc::MAILBOX, value)?)
}

/// A device that was told a version, and its own.
fn introduced(ctx: &Context<'_>, ours: u8) -> Result<(Qat, u8), Stop> {
    let mut driver = bare(ctx, false)?;
    let (version, _) = driver.ask_version(ours)?;
    Ok((driver, version))
}

fn need(version: u8, least: u8) -> Outcome {
    if version >= least {
        return Ok(());
    }
    Err(Stop::skip(format!("version {version} of the protocol; this is of {least}")))
}

fn versions(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, version) = introduced(ctx, 5)?;
    expect((1..=5).contains(&version), "a version from 1 to 5", || version.to_string())?;
    for ours in [0, 1, version, version + 1, 255] {
        let expected = match ours {
            0 => INCOMPATIBLE,
            _ if ours <= version => COMPATIBLE,
            _ => UNKNOWN,
        };
        let (theirs, result) = driver.ask_version(ours)?;
        expect_eq("the same version every time", &theirs, &version)?;
        expect_eq(&format!("for version {ours}, compatibility"), &result, &expected)?;
    }
    Ok(())
}

fn first_version(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    driver.send(5, 0, false)?;
    let (kind, data) = driver.receive()?;
    expect_eq("the type of the answer", &kind, &2)?;
    expect_eq("compatibility", &(data >> 8), &COMPATIBLE)
}

fn block(ctx: &mut Context<'_>, number: u32, least: u8, bytes: usize) -> Outcome {
    let (mut driver, version) = introduced(ctx, 5)?;
    need(version, least)?;
    let mut message = Vec::new();
    for at in 0..2 {
        message.push(byte(&mut driver, number, at)?);
    }
    expect(message[0] >= 1, "a block version of 1 or more", || message[0].to_string())?;
    let len = usize::from(message[1]);
    expect((bytes..=30).contains(&len), &format!("a payload of {bytes} to 30 bytes"), || {
        len.to_string()
    })?;
    for at in (2_u32..).take(len) {
        message.push(byte(&mut driver, number, at)?);
    }
    for at in (0_u32..).take(message.len()) {
        let covered = message.get(..=usize::try_from(at).unwrap_or(0)).unwrap_or_default();
        let found = driver.ask_block(number, at, true)?;
        expect_eq(&format!("the CRC of {} bytes", covered.len()), &found, &(CRC, crc8(covered)))?;
    }
    Ok(())
}

fn byte(driver: &mut Qat, number: u32, at: u32) -> Result<u8, Stop> {
    let (kind, value) = driver.ask_block(number, at, false)?;
    expect_eq(&format!("the kind of answer for byte {at}"), &kind, &DATA)?;
    Ok(value)
}

/// CRC-8, polynomial 0x97, from 0xff (`pfvf_crc8_table`).
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0xff, |crc: u8, byte| {
        (0..8).fold(crc ^ byte, |crc, _| crc << 1 ^ if crc & 0x80 == 0 { 0 } else { 0x97 })
    })
}

fn beyond_block(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, version) = introduced(ctx, 5)?;
    need(version, 2)?;
    let end = 2 + u32::from(byte(&mut driver, 2, 1)?);
    for (at, crc) in [(end, false), (31, false), (end, true)] {
        let found = driver.ask_block(2, at, crc)?;
        expect_eq(&format!("the answer for byte {at} of {end}"), &found, &(ERROR, 1))?;
        crate::log::refused(format!("byte {at} of {end}, with error 1"));
    }
    Ok(())
}

fn unknown_blocks(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, version) = introduced(ctx, 5)?;
    need(version, 2)?;
    for number in [0, 15] {
        let found = driver.ask_block(number, 0, false)?;
        expect_eq(&format!("the answer for block {number}"), &found, &(ERROR, 0))?;
        crate::log::refused(format!("block {number}, with error 0"));
    }
    // Medium and large blocks; none are defined.
    for kind in [8, 7] {
        driver.send(kind, 0, false)?;
        expect_eq(&format!("the answer to type {kind}"), &driver.receive()?, &(3, ERROR))?;
    }
    Ok(())
}

fn notifications(ctx: &mut Context<'_>) -> Outcome {
    for ours in [2, 5] {
        let (mut driver, _) = introduced(ctx, ours)?;
        for kind in [3, 4, 3] {
            write(&mut driver, message(kind, 0))?;
            until(ctx, &mut driver, "an acknowledgement", |driver| {
                Ok(driver.mailbox()? & 1 << 16 == 0)
            })?;
            expect_hex("the mailbox", driver.mailbox()?, message(kind, 0) & !(1 << 16))?;
            write(&mut driver, 0)?;
        }
    }
    Ok(())
}

fn mark(ctx: &mut Context<'_>, ours: u8) -> Outcome {
    let (mut driver, version) = introduced(ctx, ours)?;
    if ours == 5 {
        need(version, 3)?;
    }
    // This one has no answer, which would hide the acknowledgement.
    write(&mut driver, message(10, 0))?;
    until(ctx, &mut driver, "an acknowledgement", |driver| Ok(driver.mailbox()? & 1 << 16 == 0))?;
    let expected = if ours < 3 { IN_USE } else { 0 };
    expect_hex("the mark", driver.mailbox()? & IN_USE_MASK, expected)
}

fn waits(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, version) = introduced(ctx, 2)?;
    write(&mut driver, message(6, 2))?;
    until(ctx, &mut driver, "an acknowledgement", |driver| Ok(driver.mailbox()? & 1 << 16 == 0))?;
    // The lower half still has the driver's mark: there is no room for the answer.
    let value = driver.mailbox()?;
    expect_hex("the mailbox", value, message(6, 2) & !(1 << 16))?;
    write(&mut driver, value & !IN_USE_MASK)?;
    until(ctx, &mut driver, "the answer", |driver| Ok(driver.mailbox()? & 1 != 0))?;
    let value = driver.mailbox()?;
    expect_hex("the mark of the answer", value >> 16 & IN_USE_MASK, IN_USE)?;
    expect_hex("the origin of the answer", value & 2, 2)?;
    expect_hex("the version in the answer", value >> 6 & 0xff, version.into())?;
    // Acknowledged in turn: its sender takes its mark away.
    write(&mut driver, value & !1)?;
    until(ctx, &mut driver, "an empty upper half", |driver| {
        Ok(driver.mailbox()? >> 16 & IN_USE_MASK != IN_USE)
    })
}

fn not_of_the_system(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, _) = introduced(ctx, 5)?;
    let foreign = message(6, 5) & !(2 << 16);
    write(&mut driver, foreign)?;
    for _ in 0..20 {
        expect_hex("the mailbox", driver.mailbox()?, foreign)?;
    }
    write(&mut driver, 0)?;
    driver.ask_version(5).map(|_| ()).map_err(Stop::from)
}

fn unknown_types(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, _) = introduced(ctx, 5)?;
    for kind in [0, 1, 2, 11, 15] {
        driver.send(kind, 0, false)?;
        for _ in 0..4 {
            expect_hex(&format!("an answer to type {kind}"), driver.mailbox()? & 1, 0)?;
        }
    }
    driver.ask_version(5).map(|_| ()).map_err(Stop::from)
}

fn wait_interrupt(driver: &mut Qat, millis: u64) -> Result<bool, Stop> {
    let deadline = driver.platform.now().plus(millis * 1_000_000);
    Ok(driver.platform.wait_interrupt(0, deadline)?)
}

/// Interrupts connected and unmasked, and a version request sent.
fn asking(ctx: &Context<'_>, mask: u32) -> Result<Qat, Stop> {
    ctx.profile.need(crate::profile::cap::MSI, "MSI")?;
    let mut driver = bare(ctx, true)?;
    driver.write(MISC, misc::VINTMSK, mask)?;
    driver.send(6, 5, false)?;
    until(ctx, &mut driver, "the answer", |driver| Ok(driver.mailbox()? & 1 != 0))?;
    expect_hex("VINTSOU", driver.read(MISC, misc::VINTSOU)? & 2, 2)?;
    Ok(driver)
}

fn interrupt(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = asking(ctx, 0)?;
    let left = u64::try_from(ctx.left().as_millis()).unwrap_or(u64::MAX);
    if !wait_interrupt(&mut driver, left)? {
        return Err(Stop::Wedged("an interrupt for a message".into()));
    }
    // As the kernel's handler: masked until the message is read.
    driver.write(MISC, misc::VINTMSK, 2)?;
    driver.receive()?;
    driver.write(MISC, misc::VINTMSK, 0)?;
    expect_hex("VINTSOU once read", driver.read(MISC, misc::VINTSOU)?, 0)?;
    let more = driver.platform.wait_interrupt(0, Nanos(0))?;
    expect(!more, "one interrupt", || "another".into())
}

fn masked(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = asking(ctx, 2)?;
    let early = wait_interrupt(&mut driver, 2)?;
    expect(!early, "no interrupt while it is masked", || "one".into())?;
    driver.write(MISC, misc::VINTMSK, 0)?;
    let left = u64::try_from(ctx.left().as_millis()).unwrap_or(u64::MAX);
    if !wait_interrupt(&mut driver, left)? {
        return Err(Stop::Wedged("an interrupt once it is unmasked".into()));
    }
    Ok(())
}

fn restarting_complete(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, _) = introduced(ctx, 5)?;
    driver.send(3, 0, true)?;
    driver.send(10, 0, false)?;
    driver.ask_version(5).map(|_| ()).map_err(Stop::from)
}

fn probe(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    let first = driver.introduce()?;
    for _ in 0..10 {
        driver.send(4, 0, true)?;
        expect_eq("the same facts again", &driver.introduce()?, &first)?;
    }
    Ok(())
}

fn capabilities(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    let facts = driver.introduce()?;
    need(facts.version, 4)?;
    // Four services of three bits: none, crypto, compression, symmetric, public key alone.
    for index in 0..4 {
        let service = facts.ring_map >> (3 * index) & 7;
        expect(service <= 4, "a service of adf_cfg_service_type", || service.to_string())?;
        let wanted = match service {
            1 => 0b11,
            2 => 1 << 5,
            3 => 0b01,
            4 => 0b10,
            _ => 0,
        };
        let what = format!("capabilities for service {service}");
        expect_hex(&what, facts.capabilities & wanted, wanted)?;
    }
    Ok(())
}

fn reset(ctx: &mut Context<'_>) -> Outcome {
    let (mut driver, _) = introduced(ctx, 5)?;
    // An answer that nobody took.
    driver.send(6, 5, false)?;
    until(ctx, &mut driver, "the answer", |driver| Ok(driver.mailbox()? & 1 != 0))?;
    driver.platform.client().reset()?;
    let function = driver.function().clone();
    function.enable(&mut driver.platform)?;
    expect_hex("the mailbox after a reset", driver.mailbox()?, 0)?;
    driver.ask_version(5).map(|_| ()).map_err(Stop::from)
}
