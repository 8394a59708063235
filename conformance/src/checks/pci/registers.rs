//! Registers that must not change, or must read as zero: one table for the header, one for each
//! capability.

use crate::bytes::le16;
use crate::profile::cap;
use crate::session::{CONFIG, Session};
use crate::verdict::{expect, expect_bytes, expect_hex};
use crate::{Check, Context, Outcome, Stop};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "pci/6.2.3/4",
        title: "Reserved bits of the Status register read as zero",
        clause: "PCI 3.0 §6.2.3, PCI Express 4.0 §7.5.1.1.4",
        run: |ctx| reads_zero(ctx, "Status", 0x06, 0x0046),
    },
    Check {
        id: "pci/6.2.4/4",
        title: "The Cardbus CIS Pointer is read-only",
        clause: "PCI 3.0 §6.2.4",
        run: |ctx| read_only(ctx, "Cardbus CIS Pointer", 0x28, 4),
    },
    Check {
        id: "pci/6.2.4/5",
        title: "A function without a self-test reads BIST as zero, whatever is written",
        clause: "PCI 3.0 §6.2.4",
        run: bist,
    },
    Check {
        id: "pci/6.2.4/6",
        title: "Min_Gnt and Max_Lat are read-only",
        clause: "PCI 3.0 §6.2.4",
        run: |ctx| read_only(ctx, "Min_Gnt and Max_Lat", 0x3e, 2),
    },
    Check {
        id: "pci/6.2.4/7",
        title: "Cache Line Size keeps what is written, or stays zero",
        clause: "PCI 3.0 §6.2.4",
        run: cache_line_size,
    },
    Check {
        id: "pci/6.7/4",
        title: "The Capabilities Pointer is read-only",
        clause: "PCI 3.0 §6.7",
        run: |ctx| read_only(ctx, "Capabilities Pointer", 0x34, 1),
    },
    Check {
        id: "pci/6.8.1.3/2",
        title: "Reserved bits of MSI's Message Control read as zero",
        clause: "PCI 3.0 §6.8.1.3, PCI Express 4.0 §7.7.1.2",
        run: |ctx| {
            let at = ctx.profile.need(cap::MSI, "MSI")?;
            reads_zero(ctx, "Message Control", at + 2, 0xf800)
        },
    },
    Check {
        id: "pci/6.8.1.3/3",
        title: "MSI's address and data keep what is written",
        clause: "PCI 3.0 §6.8.1.4 to §6.8.1.6",
        run: msi_message,
    },
    Check {
        id: "pci/6.8.1.3/4",
        title: "MSI's mask bits keep what is written, one for each vector, and its pending bits are read-only",
        clause: "PCI 3.0 §6.8.1.7, §6.8.1.8",
        run: msi_masks,
    },
    Check {
        id: "pci/6.8.2.4/2",
        title: "Where the MSI-X table and the pending bits lie is read-only",
        clause: "PCI 3.0 §6.8.2.4, §6.8.2.5",
        run: |ctx| {
            let at = ctx.profile.need(cap::MSIX, "MSI-X")?;
            read_only(ctx, "Table Offset, PBA Offset and their BIRs", at + 4, 8)
        },
    },
    Check {
        id: "pci/pm/3",
        title: "Power Management Capabilities is read-only",
        clause: "PCI Power Management 1.2 §3.2.3",
        run: |ctx| {
            let at = ctx.profile.need(cap::POWER_MANAGEMENT, "power management")?;
            read_only(ctx, "Power Management Capabilities", at + 2, 2)
        },
    },
    Check {
        id: "pci/pm/4",
        title: "A function that signals no PME cannot be told to",
        clause: "PCI Power Management 1.2 §3.2.4 (PME_En)",
        run: no_pme,
    },
    Check {
        id: "pci/pm/5",
        title: "Back from D3hot the function was reset, unless it says that it is not",
        clause: "PCI Power Management 1.2 §3.2.4 (No_Soft_Reset), §5.4.1",
        run: back_from_d3,
    },
    Check {
        id: "pci/pm/6",
        title: "Reserved bits of PMCSR of a PCI Express function read as zero",
        clause: "PCI Express 4.0 §7.5.2.2, §7.4 (RsvdP)",
        run: |ctx| {
            ctx.profile.need(cap::EXPRESS, "PCI Express")?;
            let at = ctx.profile.need(cap::POWER_MANAGEMENT, "power management")?;
            reads_zero(ctx, "PMCSR", at + 4, 0x00f4)
        },
    },
    Check {
        id: "pci/express/6",
        title: "Writing Device Status sets no error bit",
        clause: "PCI Express 4.0 §7.5.3.5",
        run: device_status,
    },
    Check {
        id: "pci/express/8",
        title: "What the PCI Express capability says of the function is read-only",
        clause: "PCI Express 4.0 §7.5.3.2, §7.5.3.6, §7.5.3.15",
        run: |ctx| {
            let at = ctx.profile.need(cap::EXPRESS, "PCI Express")?;
            read_only(ctx, "PCI Express Capabilities", at + 2, 2)?;
            read_only(ctx, "Link Capabilities", at + 0x0c, 4)?;
            read_only(ctx, "Device Capabilities 2", at + 0x24, 4)?;
            read_only(ctx, "Link Capabilities 2", at + 0x2c, 4)
        },
    },
    Check {
        id: "pci/express/12",
        title: "Writing Link Status or Link Status 2 sets nothing",
        clause: "PCI Express 4.0 §7.5.3.8, §7.5.3.20",
        run: |ctx| {
            let at = ctx.profile.need(cap::EXPRESS, "PCI Express")?;
            sets_nothing(ctx, "Link Status", at + 0x12)?;
            sets_nothing(ctx, "Link Status 2", at + 0x32)
        },
    },
    Check {
        id: "pci/express/13",
        title: "What is reserved in Link Capabilities 2 and Device Status 2 reads as zero",
        clause: "PCI Express 4.0 §7.5.3.17, §7.5.3.18, §7.4 (RsvdP, RsvdZ)",
        run: |ctx| {
            let at = ctx.profile.need(cap::EXPRESS, "PCI Express")?;
            reads_zero(ctx, "Link Capabilities 2", at + 0x2c, 0x0001)?;
            reads_zero(ctx, "Device Status 2", at + 0x2a, 0xffff)
        },
    },
    Check {
        id: "pci/express/10",
        title: "A PCI Express function has no latency timer, Min_Gnt or Max_Lat",
        clause: "PCI Express 4.0 §7.5.1.1.6, §7.5.1.2.5",
        run: |ctx| {
            ctx.profile.need(cap::EXPRESS, "PCI Express")?;
            reads_zero(ctx, "Min_Gnt and Max_Lat", 0x3e, 0xffff)?;
            // The timer shares its word with Cache Line Size, which may be written.
            reads_zero(ctx, "Latency Timer", 0x0c, 0xff00)
        },
    },
];

/// All ones and all zeroes change nothing.
fn read_only(ctx: &Context<'_>, what: &str, at: u64, len: u32) -> Outcome {
    let mut session = ctx.attach()?;
    let before = session.read(CONFIG, at, len)?;
    for fill in [0xff, 0x00] {
        session.write(CONFIG, at, &vec![fill; len as usize])?;
        expect_bytes(what, &session.read(CONFIG, at, len)?, &before)?;
    }
    Ok(())
}

/// These bits of a word are zero, before and after all ones are written.
fn reads_zero(ctx: &Context<'_>, what: &str, at: u64, bits: u16) -> Outcome {
    let mut session = ctx.attach()?;
    let named = format!("bits {bits:#06x} of {what}");
    expect_hex(&named, session.read16(CONFIG, at)? & bits, 0)?;
    session.write16(CONFIG, at, u16::MAX)?;
    expect_hex(&named, session.read16(CONFIG, at)? & bits, 0)
}

/// No bit of a word is set by writing ones.
fn sets_nothing(ctx: &Context<'_>, what: &str, at: u64) -> Outcome {
    let mut session = ctx.attach()?;
    let before = session.read16(CONFIG, at)?;
    session.write16(CONFIG, at, u16::MAX)?;
    let after = session.read16(CONFIG, at)?;
    expect_hex(&format!("bits of {what} that were not set before"), after & !before, 0)
}

fn bist(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    if session.read8(CONFIG, 0x0f)? & 0x80 != 0 {
        return Err(Stop::skip("the function has a self-test"));
    }
    expect_hex("BIST", session.read8(CONFIG, 0x0f)?, 0)?;
    session.write8(CONFIG, 0x0f, 0xff)?;
    expect_hex("BIST", session.read8(CONFIG, 0x0f)?, 0)
}

fn cache_line_size(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for value in [0x10, 0x08, 0] {
        session.write8(CONFIG, 0x0c, value)?;
        let seen = session.read8(CONFIG, 0x0c)?;
        expect(seen == value || seen == 0, &format!("{value:#x}, or 0"), || format!("{seen:#x}"))?;
    }
    Ok(())
}

fn msi_message(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(cap::MSI, "MSI")?;
    let mut session = ctx.attach()?;
    let wide = session.read16(CONFIG, at + 2)? & 1 << 7 != 0;
    for address in [0xfee0_1004_u32, 0xfee1_2ff8] {
        session.write32(CONFIG, at + 4, address)?;
        expect_hex("Message Address", session.read32(CONFIG, at + 4)?, address)?;
    }
    // It is one of a doubleword: bits 0 and 1 are zero, whatever is written.
    session.write32(CONFIG, at + 4, 0xfee0_1007)?;
    expect_hex("Message Address", session.read32(CONFIG, at + 4)?, 0xfee0_1004)?;
    if wide {
        session.write32(CONFIG, at + 8, 0x12)?;
        expect_hex("Message Upper Address", session.read32(CONFIG, at + 8)?, 0x12)?;
    }
    let data = at + if wide { 12 } else { 8 };
    for value in [0x4041, 0x00a5] {
        session.write16(CONFIG, data, value)?;
        expect_hex("Message Data", session.read16(CONFIG, data)?, value)?;
    }
    Ok(())
}

fn msi_masks(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(cap::MSI, "MSI")?;
    let mut session = ctx.attach()?;
    let control = session.read16(CONFIG, at + 2)?;
    if control & 1 << 8 == 0 {
        return Err(Stop::skip("MSI has no mask bits"));
    }
    let (mask, pending) = if control & 1 << 7 == 0 { (0x0c, 0x10) } else { (0x10, 0x14) };
    let vectors = 1_u32 << (control >> 1 & 7).min(5);
    let all = u32::MAX >> (32 - vectors.min(32));
    expect_hex("Mask Bits at power-on", session.read32(CONFIG, at + mask)?, 0)?;
    for bits in [all, 1, 0] {
        session.write32(CONFIG, at + mask, bits | !all)?;
        expect_hex("Mask Bits", session.read32(CONFIG, at + mask)?, bits)?;
        session.write32(CONFIG, at + pending, u32::MAX)?;
        expect_hex("Pending Bits", session.read32(CONFIG, at + pending)?, 0)?;
    }
    Ok(())
}

fn no_pme(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(cap::POWER_MANAGEMENT, "power management")?;
    let mut session = ctx.attach()?;
    if session.read16(CONFIG, at + 2)? >> 11 != 0 {
        return Err(Stop::skip("the function signals PME"));
    }
    session.write16(CONFIG, at + 4, 1 << 8)?;
    expect_hex("PME_En and PME_Status", session.read16(CONFIG, at + 4)? & 0x8100, 0)
}

fn back_from_d3(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(cap::POWER_MANAGEMENT, "power management")?;
    let mut session = ctx.attach()?;
    let keeps = session.read16(CONFIG, at + 4)? & 1 << 3 != 0;
    session.write16(CONFIG, 4, 6)?;
    power(&mut session, at, 3)?;
    power(&mut session, at, 0)?;
    let command = session.read16(CONFIG, 4)? & 6;
    let what = if keeps { "Command as it was" } else { "Command of a function that was reset" };
    expect_hex(what, command, if keeps { 6 } else { 0 })
}

fn power(session: &mut Session, at: u64, state: u16) -> Result<(), Stop> {
    session.write16(CONFIG, at + 4, state)?;
    expect_hex("PowerState", le16(&session.read(CONFIG, at + 4, 2)?, 0) & 3, state)
}

fn device_status(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(cap::EXPRESS, "PCI Express")?;
    let mut session = ctx.attach()?;
    let before = session.read16(CONFIG, at + 0x0a)? & 0x0f;
    expect_hex("error bits at power-on", before, 0)?;
    session.write16(CONFIG, at + 0x0a, 0xffff)?;
    let after = session.read16(CONFIG, at + 0x0a)? & 0x0f;
    expect_hex("error bits that were not set before", after & !before, 0)
}
