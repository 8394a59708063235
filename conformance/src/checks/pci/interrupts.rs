//! MSI-X, MSI, INTx and Bus Master (PCI Local Bus 3.0 §6.8, §6.2.2).
//!
//! What a function raises is tried with a virtio queue, on devices that have one.

use understudy_client::vfio_user::SocketPlatform;
use understudy_client::virtio::{Completion, Device};
use understudy_client::{Access, Platform};
use understudy_device::Nanos;

use crate::profile::cap;
use crate::rig::{Plan, Rig};
use crate::session::{CONFIG, INTX, Session};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "pci/6.8.2.3/1",
        title: "MSI-X is disabled and not masked at power-on; both bits can be written",
        clause: "PCI 3.0 §6.8.2.3",
        run: msix_control,
    },
    Check {
        id: "pci/6.8.2.3/2",
        title: "MSI-X Table Size is read-only, reserved control bits read as zero",
        clause: "PCI 3.0 §6.8.2.3",
        run: msix_table_size,
    },
    Check {
        id: "pci/6.8.2.4/1",
        title: "The MSI-X table and pending bits lie inside memory BARs and do not overlap",
        clause: "PCI 3.0 §6.8.2.4, §6.8.2.5",
        run: msix_layout,
    },
    Check {
        id: "pci/6.8.2.9/1",
        title: "Every MSI-X vector is masked at power-on",
        clause: "PCI 3.0 §6.8.2.9",
        run: vectors_start_masked,
    },
    Check {
        id: "pci/6.8.2.7/1",
        title: "Message address and data of MSI-X entries keep what is written",
        clause: "PCI 3.0 §6.8.2.6 to §6.8.2.8",
        run: entries_keep,
    },
    Check {
        id: "pci/6.8.2.9/2",
        title: "Reserved bits of Vector Control read as zero",
        clause: "PCI 3.0 §6.8.2.9",
        run: vector_control_reserved,
    },
    Check {
        id: "pci/6.8.2.10/1",
        title: "Pending bits are clear at power-on and ignore writes",
        clause: "PCI 3.0 §6.8.2.10",
        run: pending_bits_start_clear,
    },
    Check {
        id: "pci/6.8.3.5/1",
        title: "An interrupt of a masked vector is kept pending, and sent when it is unmasked",
        clause: "PCI 3.0 §6.8.3.5",
        run: masked_vector,
    },
    Check {
        id: "pci/6.8.3.5/2",
        title: "Function Mask holds back all vectors, and clearing it sends what is pending",
        clause: "PCI 3.0 §6.8.2.3, §6.8.3.5",
        run: function_mask,
    },
    Check {
        id: "pci/6.8.3.5/3",
        title: "While MSI-X is enabled the function does not use INTx",
        clause: "PCI 3.0 §6.8.3.3",
        run: no_intx_with_msix,
    },
    Check {
        id: "pci/6.8.1.3/1",
        title: "MSI: enable and vector count can be written, the number offered is read-only",
        clause: "PCI 3.0 §6.8.1.3",
        run: msi_control,
    },
    Check {
        id: "pci/6.2.3/3",
        title: "Interrupt Status follows the function's INTx request",
        clause: "PCI 3.0 §6.2.3",
        run: interrupt_status,
    },
    Check {
        id: "pci/6.2.2/5",
        title: "Interrupt Disable keeps INTx from being signalled, clearing it signals",
        clause: "PCI 3.0 §6.2.2",
        run: interrupt_disable,
    },
    Check {
        id: "pci/6.2.2/6",
        title: "With Bus Master clear the function reads and writes no memory",
        clause: "PCI 3.0 §6.2.2",
        run: bus_master_off,
    },
    Check {
        id: "pci/6.8.2.7/2",
        title: "The MSI-X table takes aligned accesses of four and of eight bytes alike",
        clause: "PCI 3.0 §6.8.2",
        run: table_widths,
    },
    Check {
        id: "pci/6.8.3.5/4",
        title: "Events while a vector is masked become one interrupt when it is unmasked",
        clause: "PCI 3.0 §6.8.3.5",
        run: masked_events_are_one,
    },
    Check {
        id: "vfio-user/irq-info/6",
        title: "An INTx that masks itself is signalled again after UNMASK, and not before",
        clause: "vfio-user, VFIO_USER_DEVICE_GET_IRQ_INFO (VFIO_IRQ_INFO_AUTOMASKED)",
        run: masks_itself,
    },
];

/// Attaches to a function with MSI-X and memory decoding on; returns the capability's offset.
fn with_msix(ctx: &Context<'_>) -> Result<(Session, u64), Stop> {
    let at = ctx.profile.need(cap::MSIX, "MSI-X")?;
    let mut session = ctx.attach()?;
    session.write16(CONFIG, 4, 2)?;
    Ok((session, at))
}

/// Region and offset that a table or PBA register names.
fn place(session: &mut Session, register: u64) -> Result<(u32, u64), Stop> {
    let word = session.read32(CONFIG, register)?;
    Ok((word & 7, u64::from(word & !7)))
}

fn vectors(session: &mut Session, at: u64) -> Result<u64, Stop> {
    Ok(u64::from(session.read16(CONFIG, at + 2)? & 0x7ff) + 1)
}

fn msix_control(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, at) = with_msix(ctx)?;
    let before = session.read16(CONFIG, at + 2)?;
    expect_hex("MSI-X Enable and Function Mask", before >> 14, 0)?;
    for bits in [1_u16 << 15, 1 << 14, 3 << 14, 0] {
        session.write16(CONFIG, at + 2, before | bits)?;
        expect_hex("Message Control", session.read16(CONFIG, at + 2)?, before | bits)?;
    }
    Ok(())
}

fn msix_table_size(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, at) = with_msix(ctx)?;
    let before = session.read16(CONFIG, at + 2)?;
    for value in [0x3fff, 0] {
        session.write16(CONFIG, at + 2, value)?;
        expect_hex("Message Control", session.read16(CONFIG, at + 2)?, before & 0x07ff)?;
    }
    Ok(())
}

fn msix_layout(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, at) = with_msix(ctx)?;
    let count = vectors(&mut session, at)?;
    let mut spans = Vec::new();
    for (name, register, len) in
        [("table", at + 4, count * 16), ("pending bits", at + 8, count.div_ceil(64) * 8)]
    {
        let (region, offset) = place(&mut session, register)?;
        expect(region < 6, &format!("{name} in BAR 0 to 5"), || region.to_string())?;
        let size = session.region_info(region)?.size;
        expect(offset + len <= size, &format!("{name} inside region {region}"), || {
            format!("{offset:#x}+{len:#x} of {size:#x}")
        })?;
        spans.push((region, offset, offset + len));
    }
    let [table, pba] = [spans[0], spans[1]];
    let apart = table.0 != pba.0 || table.2 <= pba.1 || pba.2 <= table.1;
    expect(apart, "table and pending bits apart", || format!("{table:#x?} and {pba:#x?}"))
}

fn vectors_start_masked(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, at) = with_msix(ctx)?;
    let (region, table) = place(&mut session, at + 4)?;
    for vector in 0..vectors(&mut session, at)? {
        let control = session.read32(region, table + vector * 16 + 12)?;
        // The other bits are reserved: zero after a reset.
        expect_hex(&format!("Vector Control of vector {vector}"), control, 1)?;
    }
    Ok(())
}

fn entries_keep(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, at) = with_msix(ctx)?;
    let (region, table) = place(&mut session, at + 4)?;
    let last = vectors(&mut session, at)? - 1;
    for vector in [0, 1.min(last), last] {
        let entry = table + vector * 16;
        for (field, value) in [(0, 0xfee0_1004_u32), (4, 0x1234_5678), (8, 0x0000_4041)] {
            session.write32(region, entry + field, value)?;
            for _ in 0..2 {
                expect_hex("an entry's field", session.read32(region, entry + field)?, value)?;
            }
        }
        session.write32(region, entry + 12, 1)?;
        for _ in 0..2 {
            expect_hex("Vector Control", session.read32(region, entry + 12)? & 1, 1)?;
        }
        session.write32(region, entry + 12, 0)?;
        expect_hex("Vector Control", session.read32(region, entry + 12)? & 1, 0)?;
    }
    Ok(())
}

fn vector_control_reserved(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, at) = with_msix(ctx)?;
    let (region, table) = place(&mut session, at + 4)?;
    // What becomes of reserved bits that are written is undefined in PCI 3.0 (§6.8.2.9).
    let is_express = ctx.profile.capability(cap::EXPRESS).is_some();
    let last = vectors(&mut session, at)? - 1;
    for vector in [0, 1.min(last), last] {
        let control = table + vector * 16 + 12;
        expect_hex("Vector Control at power-on", session.read32(region, control)?, 1)?;
        if is_express {
            session.write32(region, control, u32::MAX)?;
            let seen = session.read32(region, control)?;
            expect_hex("Vector Control of a PCI Express function", seen, 1)?;
        }
    }
    Ok(())
}

fn pending_bits_start_clear(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, at) = with_msix(ctx)?;
    let (region, pba) = place(&mut session, at + 8)?;
    let words = vectors(&mut session, at)?.div_ceil(64) * 2;
    for word in 0..words {
        let offset = pba + word * 4;
        expect_hex("pending bits", session.read32(region, offset)?, 0)?;
        // Software should not write them (§6.8.2.10); a function that takes the write ignores it.
        session.try_write(region, offset, &[0xff; 4])?;
        expect_hex("pending bits after a write", session.read32(region, offset)?, 0)?;
    }
    Ok(())
}

/// A virtio queue that interrupts by MSI-X, its vector, and the function's MSI-X.
fn msix_rig(ctx: &Context<'_>) -> Result<Rig, Stop> {
    needs_queue(ctx)?;
    ctx.profile.need(cap::MSIX, "MSI-X")?;
    let mut rig = Rig::new(ctx, Plan { completion: Completion::Msix, ..Plan::default() })?;
    rig.queue.want_interrupt(&mut rig.device.platform, true)?;
    Ok(rig)
}

fn needs_queue(ctx: &Context<'_>) -> Result<(), Stop> {
    if ctx.profile.has_area("virtio") {
        return Ok(());
    }
    Err(Stop::skip("only devices with a virtio queue can be made to interrupt here"))
}

/// The queue's vector: one follows the configuration vector, if there are two.
fn vector(rig: &Rig) -> u16 {
    rig.device.function.msix.as_ref().map_or(0, |msix| u16::from(msix.vectors > 1))
}

fn pending(device: &mut Device<SocketPlatform>, vector: u16) -> Result<bool, Stop> {
    let msix = device.function.msix;
    let msix = msix.ok_or_else(|| Stop::skip("the function has no MSI-X"))?;
    Ok(msix.is_pending(&mut device.platform, vector)?)
}

/// Sends one buffer around and waits for its used entry, not for the interrupt.
fn use_one(rig: &mut Rig) -> Result<(), Stop> {
    rig.submit()?;
    let deadline = rig.deadline();
    while !rig.queue.has_used(&mut rig.device.platform)? {
        rig.device.check_health()?;
        if rig.platform().now() >= deadline {
            return Err(Stop::Wedged("a used buffer".into()));
        }
        rig.platform().idle(deadline)?;
    }
    rig.settle()?;
    rig.queue.take(&mut rig.device.platform)?;
    Ok(())
}

fn no_interrupt(rig: &mut Rig, vector: u16, why: &str) -> Result<(), Stop> {
    let came = rig.platform().wait_interrupt(vector, Nanos(0))?;
    expect(!came, &format!("no interrupt {why}"), || "an interrupt".into())
}

fn interrupt(rig: &mut Rig, vector: u16, what: &str) -> Result<(), Stop> {
    let deadline = rig.deadline();
    if rig.platform().wait_interrupt(vector, deadline)? {
        return Ok(());
    }
    Err(Stop::Wedged(what.into()))
}

fn masked_vector(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = msix_rig(ctx)?;
    let vector = vector(&rig);
    let msix = rig.device.function.msix.ok_or_else(|| Stop::skip("no MSI-X"))?;
    msix.mask(rig.platform(), vector, true)?;
    // The write is posted, and the device may see the ring first: a read brings it home.
    expect(!pending(&mut rig.device, vector)?, "the pending bit clear", || "set".into())?;
    use_one(&mut rig)?;
    expect(pending(&mut rig.device, vector)?, "the pending bit set", || "clear".into())?;
    no_interrupt(&mut rig, vector, "while the vector is masked")?;
    msix.mask(rig.platform(), vector, false)?;
    interrupt(&mut rig, vector, "the pending interrupt after unmasking")?;
    expect(!pending(&mut rig.device, vector)?, "the pending bit clear", || "set".into())
}

fn function_mask(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = msix_rig(ctx)?;
    let vector = vector(&rig);
    let at = ctx.profile.need(cap::MSIX, "MSI-X")? + 2;
    let control = rig.platform().config_u16(at)?;
    rig.platform().config_write(at, &(control | 1 << 14).to_le_bytes())?;
    use_one(&mut rig)?;
    expect(pending(&mut rig.device, vector)?, "the pending bit set", || "clear".into())?;
    no_interrupt(&mut rig, vector, "while the function is masked")?;
    rig.platform().config_write(at, &control.to_le_bytes())?;
    interrupt(&mut rig, vector, "the pending interrupt after Function Mask was cleared")?;
    expect(!pending(&mut rig.device, vector)?, "the pending bit clear", || "set".into())
}

fn no_intx_with_msix(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = msix_rig(ctx)?;
    // With Interrupt Disable clear, only MSI-X Enable keeps the line quiet.
    let command = rig.platform().config_u16(4)?;
    rig.platform().config_write(4, &(command & !(1 << 10)).to_le_bytes())?;
    use_one(&mut rig)?;
    let status = rig.platform().config_u16(6)?;
    expect_hex("Interrupt Status", status >> 3 & 1, 0)
}

fn msi_control(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(cap::MSI, "MSI")?;
    let mut session = ctx.attach()?;
    let before = session.read16(CONFIG, at + 2)?;
    expect_hex("MSI Enable at power-on", before & 1, 0)?;
    let offered = before >> 1 & 7;
    expect(offered <= 5, "at most 32 vectors", || format!("2^{offered}"))?;
    session.write16(CONFIG, at + 2, 0xffff)?;
    let after = session.read16(CONFIG, at + 2)?;
    expect_hex("MSI Enable", after & 1, 1)?;
    expect_eq("Multiple Message Capable", &(after >> 1 & 7), &offered)?;
    session.write16(CONFIG, at + 2, 0)?;
    expect_hex("Message Control", session.read16(CONFIG, at + 2)?, before & !0x71)
}

/// A virtio queue that interrupts by INTx.
fn intx_rig(ctx: &Context<'_>) -> Result<Rig, Stop> {
    needs_queue(ctx)?;
    if ctx.profile.config.get(0x3d) == Some(&0) {
        return Err(Stop::skip("the function has no INTx interrupt"));
    }
    let mut rig = Rig::new(ctx, Plan { completion: Completion::Intx, ..Plan::default() })?;
    rig.queue.want_interrupt(&mut rig.device.platform, true)?;
    Ok(rig)
}

fn status_bit(rig: &mut Rig) -> Result<u16, Stop> {
    Ok(rig.platform().config_u16(6)? >> 3 & 1)
}

fn interrupt_status(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = intx_rig(ctx)?;
    expect_hex("Interrupt Status before", status_bit(&mut rig)?, 0)?;
    use_one(&mut rig)?;
    interrupt(&mut rig, 0, "INTx")?;
    expect_hex("Interrupt Status while requesting", status_bit(&mut rig)?, 1)?;
    // Reading ISR status withdraws the request (virtio 1.3 §4.1.4.5).
    rig.device.isr()?;
    expect_hex("Interrupt Status after", status_bit(&mut rig)?, 0)
}

fn interrupt_disable(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = intx_rig(ctx)?;
    let command = rig.platform().config_u16(4)?;
    rig.platform().config_write(4, &(command | 1 << 10).to_le_bytes())?;
    use_one(&mut rig)?;
    no_interrupt(&mut rig, 0, "while Interrupt Disable is set")?;
    expect_hex("Interrupt Status", status_bit(&mut rig)?, 1)?;
    rig.platform().config_write(4, &(command & !(1 << 10)).to_le_bytes())?;
    interrupt(&mut rig, 0, "INTx after Interrupt Disable was cleared")
}

fn bus_master_off(ctx: &mut Context<'_>) -> Outcome {
    needs_queue(ctx)?;
    let mut rig = Rig::new(ctx, Plan::default())?;
    rig.round_trip()?;
    let function = rig.device.function.clone();
    function.bus_master(rig.platform(), false)?;
    rig.submit()?;
    rig.settle()?;
    let used = rig.queue.has_used(&mut rig.device.platform)?;
    expect(!used, "no used buffer while Bus Master is clear", || "one".into())?;
    function.bus_master(rig.platform(), true)?;
    // The device may have noticed that it could not reach its ring, and ask for a reset; it must
    // not have been lost.
    drop(rig);
    Rig::new(ctx, Plan::default())?.round_trip()
}

fn table_widths(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, at) = with_msix(ctx)?;
    let (region, table) = place(&mut session, at + 4)?;
    let whole = 0x0000_0012_fee0_1004_u64.to_le_bytes();
    session.write(region, table, &whole)?;
    expect_hex("the lower half", session.read32(region, table)?, 0xfee0_1004)?;
    expect_hex("the upper half", session.read32(region, table + 4)?, 0x12)?;
    session.write32(region, table + 4, 0x34)?;
    session.write32(region, table, 0xfee0_2008)?;
    let seen = session.read(region, table, 8)?;
    crate::verdict::expect_bytes("the address", &seen, &0x0000_0034_fee0_2008_u64.to_le_bytes())
}

fn masked_events_are_one(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = msix_rig(ctx)?;
    let vector = vector(&rig);
    let msix = rig.device.function.msix.ok_or_else(|| Stop::skip("no MSI-X"))?;
    msix.mask(rig.platform(), vector, true)?;
    expect(!pending(&mut rig.device, vector)?, "the pending bit clear", || "set".into())?;
    for _ in 0..3 {
        rig.queue.want_interrupt(&mut rig.device.platform, true)?;
        use_one(&mut rig)?;
    }
    msix.mask(rig.platform(), vector, false)?;
    interrupt(&mut rig, vector, "the pending interrupt after unmasking")?;
    rig.settle()?;
    no_interrupt(&mut rig, vector, "for events that the first one told of")
}

fn masks_itself(ctx: &mut Context<'_>) -> Outcome {
    needs_queue(ctx)?;
    let masks_itself = ctx.attach()?.irq_info(INTX)?.flags & 4 != 0;
    let mut rig = intx_rig(ctx)?;
    for _ in 0..2 {
        rig.queue.want_interrupt(&mut rig.device.platform, true)?;
        use_one(&mut rig)?;
        interrupt(&mut rig, 0, "INTx")?;
        rig.device.isr()?;
        rig.queue.want_interrupt(&mut rig.device.platform, true)?;
        use_one(&mut rig)?;
        if masks_itself {
            no_interrupt(&mut rig, 0, "before UNMASK")?;
            rig.platform().unmask_intx()?;
        }
        interrupt(&mut rig, 0, "INTx again")?;
        rig.device.isr()?;
        rig.platform().unmask_intx()?;
    }
    Ok(())
}
