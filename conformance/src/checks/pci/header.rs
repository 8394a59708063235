//! The predefined header (PCI Local Bus 3.0 §6.1, §6.2).

use crate::bytes::le;
use crate::profile::cap;
use crate::session::{CONFIG, Session};
use crate::verdict::{expect, expect_bytes, expect_hex};
use crate::{Check, Context, Outcome};

const MEMORY_SPACE: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;
const INTX_DISABLE: u16 = 1 << 10;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "pci/6.2.1/1",
        title: "The function is there: Vendor ID is not FFFFh",
        clause: "PCI 3.0 §6.2.1",
        run: present,
    },
    Check {
        id: "pci/6.2.1/2",
        title: "Header Type is 00h, single-function",
        clause: "PCI 3.0 §6.2.1",
        run: header_type,
    },
    Check {
        id: "pci/6.2.1/3",
        title: "Device identification does not change when written",
        clause: "PCI 3.0 §6.2.1",
        run: identification_is_read_only,
    },
    Check {
        id: "pci/6.2.1/4",
        title: "The class code names a class that exists",
        clause: "PCI 3.0 §6.2.1, PCI Code and ID Assignment §1",
        run: class_code,
    },
    Check {
        id: "pci/6.2.2/1",
        title: "The Command register is zero at power-on",
        clause: "PCI 3.0 §6.2.2",
        run: command_at_power_on,
    },
    Check {
        id: "pci/6.2.2/2",
        title: "Memory Space, Bus Master and Interrupt Disable can be set and cleared one by one",
        clause: "PCI 3.0 §6.2.2",
        run: command_bits,
    },
    Check {
        id: "pci/6.2.2/3",
        title: "Reserved bits of the Command register of a PCI Express function read as zero",
        clause: "PCI Express 5.0 §7.4 (RsvdP), §7.5.1.1.3",
        run: reserved_command_bits,
    },
    Check {
        id: "pci/6.2.3/1",
        title: "Writing the Status register sets nothing",
        clause: "PCI 3.0 §6.2.3",
        run: status_sets_nothing,
    },
    Check {
        id: "pci/6.2.3/2",
        title: "Capabilities List is set if and only if there is a Capabilities Pointer",
        clause: "PCI 3.0 §6.2.3",
        run: capabilities_list,
    },
    Check {
        id: "pci/6.2.4/1",
        title: "Interrupt Line keeps what is written",
        clause: "PCI 3.0 §6.2.4",
        run: interrupt_line,
    },
    Check {
        id: "pci/6.2.4/2",
        title: "Interrupt Pin is 0 to 4 and read-only",
        clause: "PCI 3.0 §6.2.4",
        run: interrupt_pin,
    },
    Check {
        id: "pci/6.2.4/3",
        title: "Subsystem Vendor ID and Subsystem ID are read-only",
        clause: "PCI 3.0 §6.2.4",
        run: subsystem_is_read_only,
    },
    Check {
        id: "pci/6.1/1",
        title: "Reserved registers of the header read as zero, and ignore writes",
        clause: "PCI 3.0 §6.1",
        run: reserved_registers,
    },
    Check {
        id: "pci/6.1/2",
        title: "Config space takes byte, word and doubleword writes alike",
        clause: "PCI 3.0 §6.1",
        run: write_widths,
    },
];

/// Writes all ones and all zeroes to a range that must not change.
fn unchanged(session: &mut Session, offset: u64, len: u32, what: &str) -> Outcome {
    let before = session.read(CONFIG, offset, len)?;
    for fill in [0xff, 0x00] {
        session.write(CONFIG, offset, &vec![fill; len as usize])?;
        expect_bytes(what, &session.read(CONFIG, offset, len)?, &before)?;
    }
    Ok(())
}

fn present(ctx: &mut Context<'_>) -> Outcome {
    let vendor = ctx.attach()?.read16(CONFIG, 0)?;
    expect(vendor != 0xffff, "a Vendor ID", || format!("{vendor:#x}"))
}

fn header_type(ctx: &mut Context<'_>) -> Outcome {
    expect_hex("Header Type", ctx.attach()?.read8(CONFIG, 0x0e)?, 0)
}

fn identification_is_read_only(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    unchanged(&mut session, 0x00, 4, "Vendor ID and Device ID")?;
    unchanged(&mut session, 0x08, 4, "Revision ID and Class Code")?;
    unchanged(&mut session, 0x0e, 1, "Header Type")
}

fn class_code(ctx: &mut Context<'_>) -> Outcome {
    let base = ctx.attach()?.read8(CONFIG, 0x0b)?;
    expect(base <= 0x13 || base == 0x40 || base == 0xff, "a defined base class", || {
        format!("{base:#x}")
    })
}

fn command_at_power_on(ctx: &mut Context<'_>) -> Outcome {
    expect_hex("Command", ctx.attach()?.read16(CONFIG, 4)?, 0)
}

fn command_bits(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let all = MEMORY_SPACE | BUS_MASTER | INTX_DISABLE;
    for value in [MEMORY_SPACE, BUS_MASTER, INTX_DISABLE, all, 0] {
        session.write16(CONFIG, 4, value)?;
        expect_hex("Command", session.read16(CONFIG, 4)? & all, value)?;
    }
    Ok(())
}

fn reserved_command_bits(ctx: &mut Context<'_>) -> Outcome {
    // PCI 3.0 leaves reserved bits open: "may not rely on reserved bits being any particular value".
    ctx.profile.need(cap::EXPRESS, "PCI Express")?;
    let mut session = ctx.attach()?;
    session.write16(CONFIG, 4, 0xffff)?;
    let reserved = 0xf800;
    expect_hex("Command bits 11 to 15", session.read16(CONFIG, 4)? & reserved, 0)
}

fn status_sets_nothing(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let before = session.read16(CONFIG, 6)?;
    session.write16(CONFIG, 6, 0xffff)?;
    let after = session.read16(CONFIG, 6)?;
    expect(after & !before == 0, "no bit set by the write", || format!("{before:#x}, {after:#x}"))?;
    // Only the error bits, which a one clears, may have changed.
    let errors = 0xf900;
    expect_hex("Status bits that are no errors", after & !errors, before & !errors)
}

fn capabilities_list(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let listed = session.read16(CONFIG, 6)? & 0x10 != 0;
    let pointer = session.read8(CONFIG, 0x34)?;
    expect(listed == (pointer != 0), "both or neither", || {
        format!("Capabilities List {listed}, pointer {pointer:#x}")
    })
}

fn interrupt_line(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for value in [0x0b, 0xff, 0x00] {
        session.write8(CONFIG, 0x3c, value)?;
        expect_hex("Interrupt Line", session.read8(CONFIG, 0x3c)?, value)?;
    }
    Ok(())
}

fn interrupt_pin(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let pin = session.read8(CONFIG, 0x3d)?;
    expect(pin <= 4, "0 to 4", || pin.to_string())?;
    unchanged(&mut session, 0x3d, 1, "Interrupt Pin")
}

fn subsystem_is_read_only(ctx: &mut Context<'_>) -> Outcome {
    unchanged(&mut ctx.attach()?, 0x2c, 4, "Subsystem Vendor ID and Subsystem ID")
}

fn reserved_registers(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for (offset, len) in [(0x35, 3), (0x38, 4)] {
        let zeroes = vec![0; len as usize];
        expect_bytes(
            &format!("reserved bytes at {offset:#x}"),
            &session.read(CONFIG, offset, len)?,
            &zeroes,
        )?;
        unchanged(&mut session, offset, len, "reserved bytes")?;
    }
    Ok(())
}

fn write_widths(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    // Command with its neighbours, and Interrupt Line in a doubleword with read-only bytes.
    session.write32(CONFIG, 0x3c, 0xffff_ff21)?;
    expect_hex("Interrupt Line", session.read8(CONFIG, 0x3c)?, 0x21)?;
    session.write16(CONFIG, 0x3c, 0xff43)?;
    expect_hex("Interrupt Line", session.read8(CONFIG, 0x3c)?, 0x43)?;
    session.write8(CONFIG, 0x05, 0x04)?;
    session.write8(CONFIG, 0x04, 0x02)?;
    let command = le(&session.read(CONFIG, 4, 4)?, 0, 2);
    expect_hex("Command written byte by byte", command & 0x0406, 0x0402)
}
