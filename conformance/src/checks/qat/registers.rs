//! Registers: reset values, bits that hold, and which do not.

use understudy_client::pci::Function;
use understudy_client::platform::{Access, Platform};
use understudy_client::vfio_user::SocketPlatform;

use super::{MISC, RINGS};
use crate::verdict::{expect, expect_hex};
use crate::{Check, Context, Outcome, Stop};

/// How a register takes what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The bits hold.
    Holds(u32),
    /// Nothing holds.
    ReadOnly,
    /// Ones clear; none are set.
    Clears,
    /// Offsets in a ring: below its size.
    Pointer,
}

/// A register, or one for each ring.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    bar: u8,
    offset: u64,
    count: u32,
    /// Bits that are known at reset, and their values.
    reset: (u32, u32),
    kind: Kind,
}

const fn row(name: &'static str, bar: u8, offset: u64, count: u32, kind: Kind) -> Row {
    Row { name, bar, offset, count, reset: (u32::MAX, 0), kind }
}

const ROWS: [Row; 15] = [
    row("ring config", RINGS, 0x000, 16, Kind::Holds(0x7fff)),
    row("ring lower base", RINGS, 0x040, 16, Kind::Holds(u32::MAX)),
    row("ring upper base", RINGS, 0x080, 16, Kind::Holds(u32::MAX)),
    row("ring head", RINGS, 0x0c0, 16, Kind::Pointer),
    row("ring tail", RINGS, 0x100, 16, Kind::Pointer),
    Row { reset: (0xffff, 0xffff), ..row("E_STAT", RINGS, 0x14c, 1, Kind::ReadOnly) },
    row("INT_FLAG", RINGS, 0x170, 1, Kind::Clears),
    row("INT_SRCSEL", RINGS, 0x174, 2, Kind::Holds(u32::MAX)),
    row("INT_COL_EN", RINGS, 0x17c, 1, Kind::Holds(0xffff)),
    row("INT_COL_CTL", RINGS, 0x180, 1, Kind::Holds(0x800f_ffff)),
    row("INT_FLAG_AND_COL", RINGS, 0x184, 1, Kind::Holds(0xffff)),
    row("RINGSRVARBEN", RINGS, 0x19c, 1, Kind::Holds(0xff)),
    row("PF2VF", MISC, 0x200, 1, Kind::Holds(0)),
    row("VINTSOU", MISC, 0x204, 1, Kind::ReadOnly),
    row("VINTMSK", MISC, 0x208, 1, Kind::Holds(0x3)),
];

crate::checks::group!("qat/registers":
    [1, "Ring configurations hold, each its own", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_RING_CONFIG", |ctx| one(ctx, 0)],
    [2, "Lower halves of ring addresses hold, each its own", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_RING_LBASE", |ctx| one(ctx, 1)],
    [3, "Upper halves of ring addresses hold, each its own", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_RING_UBASE", |ctx| one(ctx, 2)],
    [4, "Ring heads hold offsets in their rings, each its own", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_RING_HEAD", |ctx| one(ctx, 3)],
    [5, "Ring tails hold offsets in their rings, each its own", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_RING_TAIL", |ctx| one(ctx, 4)],
    [6, "All rings are empty at first, and E_STAT is read-only", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_E_STAT", |ctx| one(ctx, 5)],
    [7, "Writing INT_FLAG sets no flag", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_INT_FLAG", |ctx| one(ctx, 6)],
    [8, "Both words of INT_SRCSEL hold", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_INT_SRCSEL", |ctx| one(ctx, 7)],
    [9, "INT_COL_EN holds a bit for each ring", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_INT_COL_EN", |ctx| one(ctx, 8)],
    [10, "INT_COL_CTL holds its enable bit and a time of 20 bits", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_INT_COL_CTL; adf_transport_access_macros.h, ADF_COALESCING_MAX_TIME", |ctx| one(ctx, 9)],
    [11, "INT_FLAG_AND_COL sets INT_COL_EN", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_INT_FLAG_AND_COL", flag_and_enable],
    [12, "The arbiter's register holds a bit for each pair", "Linux adf_gen2_hw_csr_data.h, ADF_ARB_RINGSRVARBEN_OFFSET", |ctx| one(ctx, 11)],
    [13, "VINTSOU is read-only, and nothing interrupts at first", "Linux adf_vf_isr.c, ADF_VINTSOU_OFFSET", |ctx| one(ctx, 13)],
    [14, "VINTMSK holds a bit for each source", "Linux adf_vf_isr.c, ADF_VINTMSK_OFFSET", |ctx| one(ctx, 14)],
    [15, "A reset of the function puts every register back", "Linux adf_aer.c, adf_reset_flr; PCI Express 4.0 §6.6.2", reset],
    [16, "There are two 64-bit memory BARs, the rings' and the other registers'", "Linux adf_c62xvf_hw_data.h; adf_vf drivers, adf_probe (ADF_PCI_MAX_BARS)", bars],
    [18, "With Bus Master clear no ring is read, and no response written", "PCI 3.0 §6.2.2 (Bus Master)", bus_master_off],
    [17, "The part is one that drivers know, with one MSI vector", "Linux adf_accel_devices.h, *_VF_PCI_DEVICE_ID; adf_vf_isr.c, adf_enable_msi", identity],
);

/// The function with its memory on, before anything was written to it.
fn function(ctx: &Context<'_>) -> Result<(SocketPlatform, Function), Stop> {
    let mut platform = ctx.platform(true)?;
    let function = Function::discover(&mut platform)?;
    function.enable(&mut platform)?;
    Ok((platform, function))
}

impl Row {
    fn at(&self, index: u32) -> u64 {
        self.offset + u64::from(index) * 4
    }

    fn read(&self, p: &mut SocketPlatform, index: u32) -> Result<u32, Stop> {
        Ok(p.bar_u32(self.bar, self.at(index))?)
    }

    fn write(&self, p: &mut SocketPlatform, index: u32, value: u32) -> Outcome {
        Ok(p.bar_write(self.bar, self.at(index), &value.to_le_bytes())?)
    }

    fn name(&self, index: u32) -> String {
        if self.count == 1 { self.name.to_owned() } else { format!("{} {index}", self.name) }
    }

    fn is_reset(&self, p: &mut SocketPlatform) -> Outcome {
        let (mask, value) = self.reset;
        for index in 0..self.count {
            let found = self.read(p, index)? & mask;
            expect_hex(&format!("{} at reset", self.name(index)), found, value)?;
        }
        Ok(())
    }

    /// A value that no other index has.
    fn value(&self, index: u32, round: u32) -> u32 {
        let digits = (index + 1).wrapping_mul(0x1357_9bdf) ^ round.wrapping_mul(0xffff_ffff);
        match self.kind {
            Kind::Holds(mask) => digits & mask,
            Kind::ReadOnly | Kind::Clears => 0,
            Kind::Pointer => (digits & 0x3f_ffff) & !0x7f,
        }
    }

    fn holds(&self, p: &mut SocketPlatform) -> Outcome {
        for round in 0..2 {
            for index in 0..self.count {
                let value = self.value(index, round);
                let noise = match self.kind {
                    Kind::Pointer => value,
                    Kind::ReadOnly if round == 0 => 0,
                    _ => value | !self.mask(),
                };
                self.write(p, index, noise)?;
            }
            for index in 0..self.count {
                let found = self.read(p, index)?;
                let (mask, reset) = self.reset;
                let read_only = self.kind == Kind::ReadOnly;
                let expected = if read_only { reset } else { self.value(index, round) };
                expect_hex(&format!("{} after a write", self.name(index)), found & mask, expected)?;
            }
        }
        Ok(())
    }

    /// Bits that hold.
    fn mask(&self) -> u32 {
        if let Kind::Holds(mask) = self.kind { mask } else { 0 }
    }
}

fn one(ctx: &mut Context<'_>, index: usize) -> Outcome {
    let (mut p, _) = function(ctx)?;
    let Some(row) = ROWS.get(index) else { return Err(Stop::skip("no such register")) };
    row.is_reset(&mut p)?;
    if row.kind == Kind::Pointer {
        // Rings of 4 MiB, which nothing serves.
        for ring in 0..16 {
            ROWS[0].write(&mut p, ring, 16)?;
        }
    }
    // The watermarks of a ring's configuration need bits 5 to 14; what is above is nobody's.
    if index == 0 {
        return (0..16).try_for_each(|ring| {
            let value = 0x4 | (ring & 0x7) << 5 | (0xf - ring) << 10;
            row.write(&mut p, ring, value)?;
            expect_hex(&row.name(ring), row.read(&mut p, ring)?, value)
        });
    }
    row.holds(&mut p)
}

fn flag_and_enable(ctx: &mut Context<'_>) -> Outcome {
    let (mut p, _) = function(ctx)?;
    let (both, enable) = (ROWS[10], ROWS[8]);
    for value in [0x0400, 0xffff, 0] {
        both.write(&mut p, 0, value)?;
        expect_hex("INT_COL_EN after INT_FLAG_AND_COL", enable.read(&mut p, 0)?, value)?;
    }
    Ok(())
}

fn reset(ctx: &mut Context<'_>) -> Outcome {
    let (mut p, function) = function(ctx)?;
    ROWS[0].write(&mut p, 3, 16)?;
    for row in ROWS.iter().filter(|row| row.kind != Kind::ReadOnly && row.name != "PF2VF") {
        for index in 0..row.count {
            row.write(&mut p, index, row.value(index, 0) | u32::from(row.mask() != 0))?;
        }
    }
    p.client().reset()?;
    function.enable(&mut p)?;
    ROWS.iter()
        .try_for_each(|row| row.is_reset(&mut p).map_err(|stop| stop.during("after a reset")))
}

fn bars(ctx: &mut Context<'_>) -> Outcome {
    let (_, function) = function(ctx)?;
    for (index, needed) in [(RINGS, 0x1000), (MISC, 0x20c)] {
        let bar = function.bar(index);
        let bar = bar.ok_or_else(|| Stop::fail(format!("BAR {index}"), "none"))?;
        let fits = bar.is_64bit && bar.size >= needed;
        let wanted = format!("BAR {index} of 64 bits and {needed:#x} bytes");
        crate::verdict::expect(fits, &wanted, || format!("{bar:?}"))?;
    }
    Ok(())
}

fn identity(ctx: &mut Context<'_>) -> Outcome {
    let at = ctx.profile.need(crate::profile::cap::MSI, "MSI")?;
    let mut p = ctx.platform(true)?;
    let control = p.config_u16(at + 2)?;
    expect_hex("the vectors in MSI's control", control >> 1 & 7, 0)
}

fn bus_master_off(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = super::started(ctx)?;
    let function = driver.function().clone();
    function.bus_master(&mut driver.platform, false)?;
    driver.submit(super::SYMMETRIC, &super::null(1, 128))?;
    super::settle(&mut driver)?;
    let response = driver.take(super::SYMMETRIC)?;
    expect(response.is_none(), "no response while Bus Master is clear", || "one".into())
}
