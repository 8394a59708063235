//! The capability list, power management and PCI Express.

use crate::bytes::{le16, le32};
use crate::profile::cap;
use crate::session::{CONFIG, Session};
use crate::verdict::{expect, expect_bytes, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "pci/6.7/1",
        title: "The capability list is aligned, lies behind the header, and ends",
        clause: "PCI 3.0 §6.7",
        run: chain,
    },
    Check {
        id: "pci/6.7/2",
        title: "Capability IDs and next pointers are read-only",
        clause: "PCI 3.0 §6.7",
        run: headers_are_read_only,
    },
    Check {
        id: "pci/6.7/3",
        title: "A capability that must be unique is",
        clause: "PCI Code and ID Assignment §2",
        run: unique,
    },
    Check {
        id: "pci/pm/1",
        title: "The power management capability is version 3, and the function starts in D0",
        clause: "PCI Power Management 1.2 §3.2.3, §3.2.4",
        run: power_at_start,
    },
    Check {
        id: "pci/pm/2",
        title: "The function goes to D3hot and comes back to D0; other states are not taken",
        clause: "PCI Power Management 1.2 §3.2.4",
        run: power_states,
    },
    Check {
        id: "pci/express/1",
        title: "The PCI Express capability is version 2, of an endpoint",
        clause: "PCI Express 4.0 §7.5.3.2",
        run: express_capability,
    },
    Check {
        id: "pci/express/2",
        title: "A PCI Express function has 4096 bytes of config space, others 256",
        clause: "PCI Express 4.0 §7.2",
        run: config_size,
    },
    Check {
        id: "pci/express/3",
        title: "Extended capabilities start at 100h and form a list that ends",
        clause: "PCI Express 4.0 §7.6",
        run: extended_chain,
    },
    Check {
        id: "pci/express/4",
        title: "Device Capabilities is read-only",
        clause: "PCI Express 4.0 §7.5.3.3",
        run: device_capabilities_read_only,
    },
    Check {
        id: "pci/express/5",
        title: "A Function Level Reset clears the Command register, and its bit reads as zero",
        clause: "PCI Express 4.0 §6.6.2, §7.5.3.4",
        run: function_level_reset,
    },
    Check {
        id: "pci/express/11",
        title: "A Function Level Reset disables MSI-X and masks every vector",
        clause: "PCI Express 4.0 §6.6.2, PCI 3.0 §6.8.2.3, §6.8.2.9",
        run: reset_of_msix,
    },
    Check {
        id: "pci/express/14",
        title: "A reset of a PCI Express function puts config space back to what it was at power-on",
        clause: "PCI Express 4.0 §6.6.1, §6.6.2; vfio-user, VFIO_USER_DEVICE_RESET",
        run: reset_of_config,
    },
];

fn chain(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    if session.read16(CONFIG, 6)? & 0x10 == 0 {
        return Err(Stop::skip("the function has no capabilities"));
    }
    let mut pointer = session.read8(CONFIG, 0x34)?;
    let mut seen = Vec::new();
    while pointer != 0 {
        expect(pointer & 3 == 0 && pointer >= 0x40, "an aligned pointer of 40h or more", || {
            format!("{pointer:#x}")
        })?;
        expect(!seen.contains(&pointer), "a list that ends", || format!("{pointer:#x} again"))?;
        seen.push(pointer);
        let head = session.read(CONFIG, pointer.into(), 2)?;
        expect(head.first() != Some(&0xff), "a capability ID", || hex::encode(&head))?;
        pointer = head.get(1).copied().unwrap_or_default();
    }
    Ok(())
}

fn headers_are_read_only(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for (_, at) in &ctx.profile.capabilities {
        let at = u64::from(*at);
        let before = session.read(CONFIG, at, 2)?;
        for fill in [0xff, 0x00] {
            session.write(CONFIG, at, &[fill; 2])?;
            expect_bytes("ID and next pointer", &session.read(CONFIG, at, 2)?, &before)?;
        }
    }
    Ok(())
}

fn unique(ctx: &mut Context<'_>) -> Outcome {
    for id in [cap::POWER_MANAGEMENT, cap::MSI, cap::EXPRESS, cap::MSIX] {
        let count = ctx.profile.capabilities.iter().filter(|(found, _)| *found == id).count();
        expect(count <= 1, &format!("capability {id:#04x} at most once"), || count.to_string())?;
    }
    Ok(())
}

fn power_at_start(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(cap::POWER_MANAGEMENT, "power management")?;
    let mut session = ctx.attach()?;
    expect_eq("version", &(session.read16(CONFIG, at + 2)? & 7), &3)?;
    expect_eq("PowerState", &(session.read16(CONFIG, at + 4)? & 3), &0)
}

fn power_states(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(cap::POWER_MANAGEMENT, "power management")?;
    let mut session = ctx.attach()?;
    let capabilities = session.read16(CONFIG, at + 2)?;
    let supported = [true, capabilities & 1 << 9 != 0, capabilities & 1 << 10 != 0, true];
    for (state, supported) in (0_u16..).zip(supported) {
        session.write16(CONFIG, at + 4, state)?;
        let now = session.read16(CONFIG, at + 4)? & 3;
        if supported {
            expect_eq("PowerState", &now, &state)?;
        } else {
            expect(now != state, &format!("D{state} is not taken"), || format!("D{now}"))?;
        }
        session.write16(CONFIG, at + 4, 0)?;
        expect_eq("PowerState", &(session.read16(CONFIG, at + 4)? & 3), &0)?;
    }
    Ok(())
}

fn express_capability(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(cap::EXPRESS, "PCI Express")?;
    let flags = ctx.attach()?.read16(CONFIG, at + 2)?;
    expect_eq("Capability Version", &(flags & 0xf), &2)?;
    let kind = flags >> 4 & 0xf;
    expect(matches!(kind, 0 | 1 | 9), "an endpoint of some kind", || format!("type {kind}"))
}

fn config_size(ctx: &mut Context<'_>) -> Outcome {
    let express = ctx.profile.capability(cap::EXPRESS).is_some();
    let size = ctx.attach()?.region_info(CONFIG)?.size;
    expect_eq("bytes of config space", &size, &if express { 4096 } else { 256 })
}

fn extended_chain(ctx: &mut Context<'_>) -> Outcome {
    ctx.profile.need(cap::EXPRESS, "PCI Express")?;
    let mut session = ctx.attach()?;
    let (mut at, mut count) = (0x100_u32, 0);
    loop {
        let header = session.read32(CONFIG, at.into())?;
        let next = header >> 20;
        count += 1;
        expect(count <= 960, "a list that ends", || format!("{count} capabilities"))?;
        if next == 0 {
            return Ok(());
        }
        expect(next >= 0x100 && next & 3 == 0, "an aligned offset of 100h or more", || {
            format!("{next:#x}")
        })?;
        at = next;
    }
}

fn device_capabilities_read_only(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(cap::EXPRESS, "PCI Express")?;
    let mut session = ctx.attach()?;
    let before = session.read32(CONFIG, at + 4)?;
    for value in [u32::MAX, 0] {
        session.write32(CONFIG, at + 4, value)?;
        expect_hex("Device Capabilities", session.read32(CONFIG, at + 4)?, before)?;
    }
    Ok(())
}

/// Attaches to a function with FLR; returns the offset of Device Control.
fn with_flr(ctx: &Context<'_>) -> Result<(Session, u64), Stop> {
    let at = ctx.profile.need(cap::EXPRESS, "PCI Express")?;
    let mut session = ctx.attach()?;
    if session.read32(CONFIG, at + 4)? & 1 << 28 == 0 {
        return Err(Stop::skip("the function has no Function Level Reset"));
    }
    Ok((session, at + 8))
}

fn function_level_reset(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, control) = with_flr(ctx)?;
    session.write16(CONFIG, 4, 6)?;
    session.write8(CONFIG, 0x3c, 0x55)?;
    let before = session.read16(CONFIG, control)?;
    session.write16(CONFIG, control, before | 1 << 15)?;
    // Software waits 100 ms; a model is done sooner, and says so by clearing Command.
    session.until("Command is cleared by the reset", |session| {
        Ok((session.read16(CONFIG, 4)? == 0).then_some(()))
    })?;
    let header = session.read(CONFIG, 0, 64)?;
    expect_hex("Device ID", le32(&header, 0), ctx.profile.config32(0))?;
    expect_hex("BAR 0", le32(&header, 0x10), ctx.profile.config32(0x10))?;
    expect_hex("Device Control bit 15", le16(&session.read(CONFIG, control, 2)?, 0) >> 15, 0)
}

fn reset_of_msix(ctx: &mut Context<'_>) -> Outcome {
    let msix = ctx.profile.need(cap::MSIX, "MSI-X")?;
    let (mut session, control) = with_flr(ctx)?;
    session.write16(CONFIG, 4, 2)?;
    let table = session.read32(CONFIG, msix + 4)?;
    let (region, offset) = (table & 7, u64::from(table & !7));
    let before = session.read16(CONFIG, msix + 2)?;
    let last = u64::from(before & 0x7ff);
    let entries = [0, 1.min(last), last].map(|vector| offset + 16 * vector);
    for entry in entries {
        session.write32(region, entry + 12, 0)?;
    }
    session.write16(CONFIG, msix + 2, before | 3 << 14)?;
    let device_control = session.read16(CONFIG, control)?;
    session.write16(CONFIG, control, device_control | 1 << 15)?;
    session.until("Command is cleared by the reset", |session| {
        Ok((session.read16(CONFIG, 4)? == 0).then_some(()))
    })?;
    expect_hex("MSI-X Message Control", session.read16(CONFIG, msix + 2)?, before)?;
    session.write16(CONFIG, 4, 2)?;
    for entry in entries {
        expect_hex("Mask Bit", session.read32(region, entry + 12)? & 1, 1)?;
    }
    Ok(())
}

fn reset_of_config(ctx: &mut Context<'_>) -> Outcome {
    /// What keeps its value, by byte of the structure: Max_Payload_Size, Link Control and Status.
    const EXEMPT: [(u64, u8); 9] = [
        (0x08, 0xe0),
        (0x10, 0xff),
        (0x11, 0xff),
        (0x12, 0xff),
        (0x13, 0xff),
        (0x30, 0xff),
        (0x31, 0xff),
        (0x32, 0xff),
        (0x33, 0xff),
    ];
    let express = ctx.profile.need(cap::EXPRESS, "PCI Express")?;
    let mut session = ctx.attach()?;
    let control = express + 8;
    let has_flr = session.read32(CONFIG, express + 4)? & 1 << 28 != 0;
    if !has_flr && session.info()?.flags & 1 == 0 {
        return Err(Stop::skip("the function cannot be reset"));
    }
    let size = ctx.profile.config.len().min(256);
    let mut wanted = ctx.profile.config.get(..size).unwrap_or_default().to_vec();
    for bar in 0..6 {
        session.write32(CONFIG, 0x10 + 4 * bar, 0xa5a5_a5a5)?;
    }
    session.write8(CONFIG, 0x0c, 0x10)?;
    for (id, at) in &ctx.profile.capabilities {
        let at = u64::from(*at);
        match *id {
            cap::MSI => {
                for offset in [4, 8, 12, 16] {
                    session.write32(CONFIG, at + offset, 0xa5a5_a5a5)?;
                }
                session.write16(CONFIG, at + 2, 0x0071)?;
            }
            cap::MSIX => session.write16(CONFIG, at + 2, 0xc000)?,
            cap::POWER_MANAGEMENT => session.write16(CONFIG, at + 4, 3)?,
            _ => {}
        }
    }
    let device_control = session.read16(CONFIG, control)?;
    session.write16(CONFIG, control + 0x20, 0x041f)?;
    session.write16(CONFIG, 4, 0x0406)?;
    session.write16(CONFIG, control, device_control ^ 0x7f1f)?;
    if has_flr {
        session.write16(CONFIG, control, device_control ^ 0x7f1f | 1 << 15)?;
    } else {
        session.reset()?;
    }
    session.until("Command is cleared by the reset", |session| {
        Ok((session.read16(CONFIG, 4)? == 0).then_some(()))
    })?;
    let mut found = session.read(CONFIG, 0, u32::try_from(size).unwrap_or(256))?;
    // Interrupt Line has no value of its own.
    let exempt = EXEMPT.iter().map(|(at, bits)| (express + at, *bits)).chain([(0x3c, 0xff)]);
    for (at, bits) in exempt {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        for byte in [found.get_mut(at), wanted.get_mut(at)].into_iter().flatten() {
            *byte &= !bits;
        }
    }
    expect_bytes("config space", &found, &wanted)
}
