//! Power states, MHI reset, SYS_ERR, and resets of the whole chip.

use understudy_client::qaic::mhi;

use super::mhi::{echo, loopback};
use super::{Card, answers, appears, booted, card, doubles, doubling};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome};

crate::checks::group!("qaic/power":
    [1, "M3 and back to M0, told by register and event", "Linux mhi/host/pm.c, mhi_pm_suspend, mhi_pm_resume", suspend],
    [2, "In M3 nothing is transferred; what waits is served in M0", "Linux mhi/host/pm.c, mhi_pm_suspend (MHI_STATE_M3)", asleep],
    [3, "MHI reset ends by itself; the device is READY and boots again", "Linux mhi/host/pm.c, mhi_ready_state_transition; common.h, MHICTRL_RESET_MASK", reset],
    [4, "A reset forgets channels, networks and users", "Linux mhi/host/pm.c, mhi_pm_disable_transition; qaic_drv.c, qaic_dev_reset_clean_local_state", forgets],
    [5, "SYS_ERR is told by register and event, and a reset recovers", "Linux mhi/host/pm.c, mhi_pm_sys_error_transition; common.h, MHISTATUS_SYSERR_MASK", system_error],
    [6, "A reset of the chip puts it where it is at power-on", "Linux mhi/host/main.c, mhi_soc_reset; MHI_SOC_RESET_REQ_OFFSET", chip],
    [7, "A reset of the chip under load loses nothing but the load", "Linux mhi/host/main.c, mhi_soc_reset; qaic_drv.c, qaic_pci_reset_prepare", chip_under_load],
    [8, "States that cannot be reached from here change nothing", "Linux mhi/host/pm.c, dev_state_transitions", unreachable],
    [9, "Boot, use and reset go on for many rounds", "Linux qaic_drv.c, qaic_mhi_reset_done", rounds],
    [10, "A reset of the function puts the device where it is at power-on", "vfio-user, DEVICE_RESET; Linux qaic_drv.c, qaic_pci_reset_done", function],
);

fn state(card: &mut Card, wanted: u32) -> Outcome {
    card.host.write(mhi::CONTROL, wanted << 8)?;
    card.host.wait("the state", |host| Ok(u32::from(host.state) == wanted))?;
    expect_hex("MHISTATUS", card.host.read(mhi::STATUS)?, wanted << 8 | 1)
}

fn suspend(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for _ in 0..10 {
        state(&mut card, 5)?;
        state(&mut card, 2)?;
    }
    answers(&mut card)
}

fn asleep(ctx: &mut Context<'_>) -> Outcome {
    let mut card = loopback(ctx)?;
    echo(&mut card, b"awake")?;
    state(&mut card, 5)?;
    let before = card.host.events_seen.len();
    card.host.listen(1, 64)?;
    card.host.send(0, &[b"asleep"])?;
    let early = appears(&mut card, 2, |card| Ok(card.host.events_seen.len() > before))?;
    expect(!early, "no event in M3", || "one".into())?;
    state(&mut card, 2)?;
    expect_eq("the echo", &card.host.receive(1)?.bytes, &b"asleep".to_vec())
}

fn reset(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for _ in 0..5 {
        card.host.reset()?;
        card.host.wait("READY", |host| Ok(host.read(mhi::STATUS)? & 1 != 0))?;
        expect_hex("MHISTATUS.SYSERR", card.host.read(mhi::STATUS)? & 4, 0)?;
        card.power_up()?;
        answers(&mut card)?;
    }
    Ok(())
}

fn forgets(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    doubles(&mut card, &active)?;
    card.host.reset()?;
    for at in [0, 4, 8, 12] {
        expect_hex("a pointer of the bridge", card.bridge_read(active.channel, at)?, 0)?;
    }
    card.power_up()?;
    let status = card.deactivate(super::USER, active)?;
    expect(status != 0, "no network of before", || "one".into())?;
    let id = super::load(&mut card, super::USER, super::program::DOUBLE_F32)?;
    let again = super::activate(&mut card, super::USER, id, 64)?;
    doubles(&mut card, &again)
}

fn system_error(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    card.host.write(mhi::CONTROL, 0xff << 8)?;
    let there = appears(&mut card, 500, |card| Ok(card.host.read(mhi::STATUS)? & 4 != 0))?;
    if !there {
        return Err(crate::Stop::skip("the device does not crash when it is asked to"));
    }
    card.host.wait("the event", |host| Ok(host.state == 0xff))?;
    expect_hex("MHISTATUS", card.host.read(mhi::STATUS)?, 0xff04)?;
    card.host.reset()?;
    card.power_up()?;
    answers(&mut card)
}

/// Resets the chip; it is where it is at power-on.
fn reset_chip(card: &mut Card, environment: u32) -> Outcome {
    card.host.write(mhi::SOC_RESET, 1)?;
    card.host.wait("the environment of power-on", |host| {
        Ok(host.boot_read(mhi::EXECENV)? == environment
            && host.read(mhi::STATUS)? & 0xff00 != 0x200)
    })?;
    card.host.reset()?;
    card.power_up()?;
    answers(card)
}

fn chip(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    let first = card.host.boot_read(mhi::EXECENV)?;
    card.power_up()?;
    (0..3).try_for_each(|_| reset_chip(&mut card, first))
}

fn chip_under_load(ctx: &mut Context<'_>) -> Outcome {
    let mut probe = card(ctx)?;
    let first = probe.host.boot_read(mhi::EXECENV)?;
    drop(probe);
    let (mut card, active) = doubling(ctx)?;
    let buffer = understudy_client::Platform::dma_alloc(&mut card.host.platform, 4096, 4096)?;
    let request = understudy_client::qaic::Request {
        command: 0x1a,
        source: active.memory,
        destination: buffer.iova,
        len: 16,
        ..Default::default()
    };
    card.submit(&active, &[request; 40])?;
    reset_chip(&mut card, first)?;
    let id = super::load(&mut card, super::USER, super::program::DOUBLE_F32)?;
    let again = super::activate(&mut card, super::USER, id, 64)?;
    doubles(&mut card, &again)
}

fn unreachable(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    for wanted in [1, 3, 7, 100] {
        card.host.write(mhi::CONTROL, wanted << 8)?;
        answers(&mut card)?;
        expect_hex("MHISTATUS", card.host.read(mhi::STATUS)?, 0x201)?;
        crate::log::refused(format!("state {wanted}: the device stays in M0"));
    }
    Ok(())
}

fn rounds(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    doubles(&mut card, &active)?;
    for _ in 0..8 {
        card.host.reset()?;
        card.power_up()?;
        let id = super::load(&mut card, super::USER, super::program::DOUBLE_F32)?;
        let again = super::activate(&mut card, super::USER, id, 16)?;
        doubles(&mut card, &again)?;
    }
    Ok(())
}

fn function(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    let first = card.host.boot_read(mhi::EXECENV)?;
    card.power_up()?;
    card.host.platform.client().reset()?;
    let function = card.function().clone();
    function.enable(&mut card.host.platform)?;
    expect_eq("the environment", &card.host.boot_read(mhi::EXECENV)?, &first)?;
    card.host.forget();
    card.power_up()?;
    answers(&mut card)
}
