//! Base address registers, and what the Command register lets through them (§6.2.5).

use crate::session::{CONFIG, Session};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "pci/6.2.5.1/1",
        title: "Writing all ones to a BAR shows a size that is a power of two of 16 bytes or more",
        clause: "PCI 3.0 §6.2.5.1",
        run: sizing,
    },
    Check {
        id: "pci/6.2.5.1/2",
        title: "A BAR's size is that of its region",
        clause: "PCI 3.0 §6.2.5.1; vfio-user, VFIO_USER_DEVICE_GET_REGION_INFO",
        run: region_size,
    },
    Check {
        id: "pci/6.2.5.1/3",
        title: "A BAR keeps an address aligned to its size, and its low bits stay what they are",
        clause: "PCI 3.0 §6.2.5.1",
        run: keeps_address,
    },
    Check {
        id: "pci/6.2.5.1/4",
        title: "The type bits of a memory BAR are 00b or 10b",
        clause: "PCI 3.0 §6.2.5.1",
        run: type_bits,
    },
    Check {
        id: "pci/6.2.5.1/5",
        title: "Registers of BARs that do not exist read as zero, whatever is written",
        clause: "PCI 3.0 §6.2.5.1",
        run: absent_bars,
    },
    Check {
        id: "pci/6.2.5.2/1",
        title: "Without an expansion ROM its register reads as zero",
        clause: "PCI 3.0 §6.2.5.2",
        run: no_rom,
    },
    Check {
        id: "pci/6.2.2/4",
        title: "With Memory Space clear a BAR answers nothing: all ones, or a refusal",
        clause: "PCI 3.0 §6.2.2 (Memory Space), §3.2.2.3.4 (Master-Abort)",
        run: memory_space_off,
    },
];

/// One base address register, sized.
#[derive(Debug, Clone, Copy)]
struct Bar {
    index: u32,
    is_64bit: bool,
    io: bool,
    /// What the register reads after all ones, without the type bits.
    mask: u64,
    size: u64,
    low_bits: u32,
}

fn at(index: u32) -> u64 {
    0x10 + 4 * u64::from(index)
}

/// Sizes BARs as firmware does (§6.2.5.1, implementation note). Bases are left at zero.
fn bars(session: &mut Session) -> Result<Vec<Bar>, Stop> {
    let mut found = Vec::new();
    let mut index = 0;
    while index < 6 {
        let before = session.read32(CONFIG, at(index))?;
        session.write32(CONFIG, at(index), u32::MAX)?;
        let ones = session.read32(CONFIG, at(index))?;
        let io = ones & 1 != 0;
        let is_64bit = !io && ones & 6 == 4;
        let low_bits = before & if io { 0x3 } else { 0xf };
        let mut mask = u64::from(ones & if io { !0x3 } else { !0xf }) | 0xffff_ffff << 32;
        if is_64bit && index < 5 {
            session.write32(CONFIG, at(index + 1), u32::MAX)?;
            mask &= 0xffff_ffff | u64::from(session.read32(CONFIG, at(index + 1))?) << 32;
            session.write32(CONFIG, at(index + 1), 0)?;
        }
        session.write32(CONFIG, at(index), 0)?;
        if ones != 0 {
            let size = (!mask).wrapping_add(1);
            found.push(Bar { index, is_64bit, io, mask, size, low_bits });
        }
        index += if is_64bit { 2 } else { 1 };
    }
    if found.is_empty() { Err(Stop::skip("the function has no BARs")) } else { Ok(found) }
}

fn sizing(ctx: &mut Context<'_>) -> Outcome {
    for bar in bars(&mut ctx.attach()?)? {
        let least = if bar.io { 4 } else { 16 };
        expect(
            bar.size.is_power_of_two() && bar.size >= least,
            &format!("BAR {}: a power of two of at least {least}", bar.index),
            || format!("{:#x}, from {:#x}", bar.size, bar.mask),
        )?;
    }
    Ok(())
}

fn region_size(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for bar in bars(&mut session)? {
        let region = session.region_info(bar.index)?.size;
        expect_hex(&format!("region {} of size", bar.index), region, bar.size)?;
    }
    Ok(())
}

fn keeps_address(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for bar in bars(&mut session)? {
        let wanted = if bar.is_64bit { 0x12_3456_7890_0000 } else { 0x9000_0000 } & bar.mask;
        let [low, high] = [wanted & 0xffff_ffff, wanted >> 32];
        session.write(CONFIG, at(bar.index), &low.to_le_bytes()[..4])?;
        let found = session.read32(CONFIG, at(bar.index))?;
        let type_bits = if bar.io { 0x3 } else { 0xf };
        expect_hex(&format!("BAR {}", bar.index), u64::from(found & !type_bits), low)?;
        expect_hex(&format!("low bits of BAR {}", bar.index), found & type_bits, bar.low_bits)?;
        if bar.is_64bit {
            session.write(CONFIG, at(bar.index + 1), &high.to_le_bytes()[..4])?;
            let found = session.read32(CONFIG, at(bar.index + 1))?;
            expect_hex(&format!("upper half of BAR {}", bar.index), u64::from(found), high)?;
        }
    }
    Ok(())
}

fn type_bits(ctx: &mut Context<'_>) -> Outcome {
    for bar in bars(&mut ctx.attach()?)?.iter().filter(|bar| !bar.io) {
        let kind = bar.low_bits >> 1 & 3;
        expect(kind == 0 || kind == 2, &format!("BAR {}: 00b or 10b", bar.index), || {
            format!("{kind:02b}b")
        })?;
        expect(kind != 2 || bar.index < 5, "a 64-bit BAR with an upper half", || {
            format!("BAR {}", bar.index)
        })?;
    }
    Ok(())
}

fn absent_bars(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let present = bars(&mut session).or_else(|stop| match stop {
        Stop::Skip(_) => Ok(Vec::new()),
        stop => Err(stop),
    })?;
    let taken = |index| {
        present.iter().any(|bar| bar.index == index || bar.is_64bit && bar.index + 1 == index)
    };
    for index in (0..6).filter(|index| !taken(*index)) {
        expect_eq("its region's size", &session.region_info(index)?.size, &0)?;
        session.write32(CONFIG, at(index), u32::MAX)?;
        expect_hex(&format!("BAR {index}"), session.read32(CONFIG, at(index))?, 0)?;
    }
    Ok(())
}

fn no_rom(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    if session.region_info(6)?.size != 0 {
        return Err(Stop::skip("the function has an expansion ROM"));
    }
    session.write32(CONFIG, 0x30, u32::MAX)?;
    expect_hex("Expansion ROM Base Address", session.read32(CONFIG, 0x30)?, 0)
}

fn memory_space_off(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for bar in bars(&mut session)?.iter().filter(|bar| !bar.io) {
        session.write16(CONFIG, 4, 0)?;
        let reply = session.try_read(bar.index, 0, 4)?;
        if reply.error.is_none() {
            let data = reply.payload.get(16..).unwrap_or(&[]);
            let what = format!("BAR {}: all ones, or an error", bar.index);
            expect(data == [0xff; 4], &what, || hex::encode(data))?;
        }
        session.write16(CONFIG, 4, 2)?;
        session.read(bar.index, 0, 4)?;
    }
    Ok(())
}
