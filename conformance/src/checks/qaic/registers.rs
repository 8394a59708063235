//! Registers of MHI, its boot interface, and the DMA bridge.

use understudy_client::platform::{Access, Platform};
use understudy_client::qaic::{dbc, mhi};

use super::{Card, appears, card, doubling};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qaic/registers":
    [1, "There are BARs 0, 2 and 4, of 64 bits, large enough for MHI and the DMA bridge", "Linux qaic_drv.c, init_pci (bars); qaic.h, QAIC_DBC_OFF", bars],
    [2, "The blocks that MHI's offsets name lie inside BAR 0", "Linux mhi/host/init.c, mhi_init_mmio (CHDBOFF, ERDBOFF); common.h, BHIOFF", offsets],
    [3, "No register that a driver reads is all ones", "Linux mhi/host/main.c, mhi_read_reg; PCI_INVALID_READ", not_gone],
    [4, "Addresses of contexts and of limits hold both halves", "Linux mhi/common.h, CCABAP_LOWER to MHIDATALIMIT_HIGHER", |ctx| hold(ctx, &[0x58, 0x5c, 0x60, 0x64, 0x68, 0x6c, 0x80, 0x84, 0x88, 0x8c, 0x98, 0x9c, 0xa0, 0xa4], false)],
    [5, "Address and size of the boot image, and its vector, hold", "Linux mhi/common.h, BHI_IMGADDR_LOW, BHI_IMGADDR_HIGH, BHI_IMGSIZE, BHI_INTVEC", |ctx| hold(ctx, &[0x08, 0x0c, 0x10, 0x20], true)],
    [6, "MHICFG holds the number of event rings, and tells that of channels", "Linux mhi/common.h, MHICFG_NER_MASK, MHICFG_NCH_MASK", config],
    [7, "What the device tells of itself cannot be written", "Linux mhi/common.h, MHIREGLEN, MHIVER, CHDBOFF, ERDBOFF, BHIOFF, MHISTATUS, BHI_EXECENV", read_only],
    [8, "The device starts in its primary boot loader, not ready, or in its runtime firmware, ready", "Linux Documentation/accel/qaic/aic100.rst, Boot flow; mhi/common.h, MHISTATUS_READY_MASK", start],
    [9, "The clock at 0xa28 goes on", "Linux qaic_timesync.c, QTIMER_REG_OFFSET", clock],
    [10, "A channel of the bridge that is not in use has empty rings", "Linux qaic_data.c, REQHP_OFF to RSPTP_OFF", idle_bridge],
    [11, "Only the request tail and the response head of the bridge can be written", "Linux qaic_data.c, REQTP_OFF, RSPHP_OFF", bridge_pointers],
    [13, "With Bus Master clear no request of the bridge is taken, and no memory written", "PCI 3.0 §6.2.2 (Bus Master)", bus_master_off],
    [12, "Pointers of the bridge beyond its rings do no harm", "Linux qaic_data.c, REQTP_OFF (indexes are below nelem)", bridge_beyond],
);

fn bars(ctx: &mut Context<'_>) -> Outcome {
    let card = card(ctx)?;
    // The driver's discovery has seen to which there are.
    for (index, needed) in [(0, 0x1000), (2, dbc(16)), (4, 1)] {
        let size = card.function().bar(index).map_or(0, |bar| bar.size);
        let wanted = format!("BAR {index} of {needed:#x} bytes or more");
        expect(size >= needed, &wanted, || format!("{size:#x}"))?;
    }
    Ok(())
}

fn offsets(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    let size = card.function().bar(0).map_or(0, |bar| bar.size);
    // 128 channels and at least one event ring, 8 bytes each; the boot interface to its end.
    for (at, name, len) in
        [(0x18, "CHDBOFF", 128 * 8), (0x20, "ERDBOFF", 8), (0x28, "BHIOFF", 0xc8)]
    {
        let offset = u64::from(card.host.read(at)?);
        let inside = offset != 0 && offset % 4 == 0 && offset + len <= size;
        expect(inside, &format!("{name} inside BAR 0"), || format!("{offset:#x}"))?;
    }
    Ok(())
}

fn not_gone(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    for at in [0x00, 0x08, 0x10, 0x18, 0x20, 0x28, mhi::CONTROL, mhi::STATUS] {
        let value = card.host.read(at)?;
        expect(value != u32::MAX, &format!("{at:#x} other than all ones"), || "all ones".into())?;
    }
    for at in [mhi::EXECENV, mhi::BHI_STATUS, 0x30, 0x40] {
        let value = card.host.boot_read(at)?;
        expect(value != u32::MAX, &format!("BHI {at:#x} other than all ones"), || {
            "all ones".into()
        })?;
    }
    Ok(())
}

fn hold(ctx: &mut Context<'_>, offsets: &[u64], boot: bool) -> Outcome {
    let mut card = card(ctx)?;
    let base = if boot { u64::from(card.host.read(0x28)?) } else { 0 };
    for round in [0, u32::MAX] {
        let value = |at: u64| u32::try_from(at).unwrap_or(0).wrapping_mul(0x0135_79bd) ^ round;
        for at in offsets {
            card.host.write(base + at, value(*at))?;
        }
        for at in offsets {
            expect_hex(&format!("{at:#x} after a write"), card.host.read(base + at)?, value(*at))?;
        }
    }
    Ok(())
}

fn config(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    let before = card.host.read(mhi::CONFIG)?;
    expect(before & 0xff != 0, "a number of channels", || format!("{before:#x}"))?;
    for rings in [1, 5, 32] {
        card.host.write(mhi::CONFIG, before & !0x00ff_0000 | rings << 16)?;
        let found = card.host.read(mhi::CONFIG)?;
        expect_hex("the number of event rings", found >> 16 & 0xff, rings)?;
        expect_hex("the number of channels", found & 0xff, before & 0xff)?;
    }
    Ok(())
}

fn read_only(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    let boot = u64::from(card.host.read(0x28)?);
    let own = [0x00, 0x08, 0x18, 0x20, 0x28, 0x2c, 0x30, mhi::STATUS];
    // Version, environment, error code and its details, serial number and all that follows it.
    let boots =
        [0x00, mhi::EXECENV, 0x30, 0x34, 0x38, 0x3c, 0x40, 0x44, 0x48, 0x4c, 0x60, 0x64, 0xc0];
    for at in own.into_iter().chain(boots.map(|at| boot + at)) {
        let before = card.host.read(at)?;
        card.host.write(at, !before)?;
        expect_hex(&format!("{at:#x} after a write"), card.host.read(at)?, before)?;
    }
    Ok(())
}

fn start(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    let environment = card.host.boot_read(mhi::EXECENV)?;
    let status = card.host.read(mhi::STATUS)?;
    expect_hex("MHICTRL.RESET", card.host.read(mhi::CONTROL)? & 2, 0)?;
    expect_hex("MHISTATUS.SYSERR", status & 4, 0)?;
    match environment {
        0 => expect_hex("MHISTATUS.READY in PBL", status & 1, 0),
        2 => expect_hex("MHISTATUS.READY in AMSS", status & 1, 1),
        other => Err(Stop::fail("environment 0 (PBL) or 2 (AMSS)", other.to_string())),
    }
}

fn clock(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    let first = card.host.read(0xa28)?;
    let goes_on = appears(&mut card, 100, |card| Ok(card.host.read(0xa28)? != first))?;
    expect(goes_on, "another time within 100 ms", || format!("{first:#x} again"))
}

fn idle_bridge(ctx: &mut Context<'_>) -> Outcome {
    let mut card = card(ctx)?;
    for channel in 0..16 {
        for at in [0, 4, 8, 12] {
            let what = format!("{at:#x} of channel {channel}");
            expect_hex(&what, card.bridge_read(channel, at)?, 0)?;
        }
    }
    Ok(())
}

/// All four pointers of a channel.
fn pointers(card: &mut Card, channel: u32) -> Result<[u32; 4], Stop> {
    let mut found = [0; 4];
    for (slot, at) in found.iter_mut().zip([0, 4, 8, 12]) {
        *slot = card.bridge_read(channel, at)?;
    }
    Ok(found)
}

fn bridge_pointers(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    super::doubles(&mut card, &active)?;
    let before = pointers(&mut card, active.channel)?;
    for at in [0, 12] {
        card.bridge_write(active.channel, at, 9)?;
    }
    expect_eq("the pointers", &pointers(&mut card, active.channel)?, &before)?;
    super::doubles(&mut card, &active)
}

fn bridge_beyond(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    for at in [4, 8] {
        for value in [active_end(), u32::MAX, 0x1_0000] {
            let before = card.bridge_read(active.channel, at)?;
            card.bridge_write(active.channel, at, value)?;
            super::answers(&mut card)?;
            card.bridge_write(active.channel, at, before)?;
        }
    }
    // And of channels that are not in use, or are none.
    for channel in [15, 16, 100] {
        let at = dbc(channel) + 4;
        card.host.platform.bar_write(2, at, &[5, 0, 0, 0])?;
        card.host.platform.bar_u32(2, at)?;
    }
    super::doubles(&mut card, &active)
}

/// The index behind the last of rings of 64 elements.
const fn active_end() -> u32 {
    64
}

fn bus_master_off(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let host = super::bridge::buffer(&mut card, 4096)?;
    card.host.platform.dma_write(host.iova, &[0xa5; 64])?;
    let function = card.function().clone();
    function.bus_master(&mut card.host.platform, false)?;
    let fetch = understudy_client::qaic::Request {
        id: 1,
        command: 0x1a,
        source: active.memory,
        destination: host.iova,
        len: 64,
        ..Default::default()
    };
    card.submit(&active, &[fetch])?;
    let taken = appears(&mut card, 2, |card| Ok(card.take(&active)?.is_some()))?;
    expect(!taken, "no response while Bus Master is clear", || "one".into())?;
    let mut found = [0; 64];
    card.host.platform.dma_read(host.iova, &mut found)?;
    crate::verdict::expect_bytes("the host's memory", &found, &[0xa5; 64])
}
