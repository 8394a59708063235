//! The bundle's interrupt: flags, coalescing, masks, as the kernel's handler uses them.

use understudy_client::platform::Platform;
use understudy_client::qat::{misc, ring};
use understudy_device::Nanos;

use super::{MISC, Qat, RINGS, SYMMETRIC, bare, null, until};
use crate::verdict::{expect, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qat/interrupts":
    [1, "A response interrupts, and VINTSOU and INT_FLAG say why", "Linux adf_vf_isr.c, adf_isr (ADF_VINTSOU_BUN); adf_gen2_hw_csr_data.h, ADF_RING_CSR_INT_FLAG", why],
    [2, "Responses that come together are one interrupt", "Linux adf_transport.c, adf_enable_ring_irq (write_csr_int_col_ctl)", coalesced],
    [3, "An interrupt is held back as long as INT_COL_CTL says", "Linux adf_transport_access_macros.h, ADF_COALESCING_DEF_TIME (10 us)", held_back],
    [4, "Without the enable bit of INT_COL_CTL nothing is held back", "Linux adf_gen2_hw_csr_data.h, ADF_RING_CSR_INT_COL_CTL_ENABLE", at_once],
    [5, "A ring that INT_COL_EN leaves out does not interrupt until it is let in", "Linux adf_transport.c, adf_enable_ring_irq, adf_disable_ring_irq", not_enabled],
    [6, "INT_FLAG_AND_COL of 0 ends the interrupt; responses left interrupt when it is written again", "Linux adf_transport.c, adf_response_handler (write_csr_int_flag_and_col)", handler],
    [7, "A masked bundle interrupts when it is unmasked", "Linux adf_vf_isr.c, adf_isr (ADF_VINTMSK_OFFSET)", masked],
    [8, "Writing ones to INT_FLAG clears them", "Linux adf_transport.c, adf_init_bank (write_csr_int_flag)", cleared],
    [9, "Nothing interrupts without a response", "Linux adf_vf_isr.c, adf_isr (IRQ_NONE)", nothing],
    [10, "A driver that sleeps until interrupts gets every response", "Linux adf_vf_isr.c, adf_isr; adf_transport.c, adf_response_handler", sleeper],
    [11, "A response that was taken before its interrupt is due does not flag its ring", "Linux adf_transport.c, adf_ring_response_handler (E_STAT & irq_mask)", taken_before],
);

/// Longest time that INT_COL_CTL can say, and its enable bit.
const LONGEST: u32 = 0xf_ffff;
const ENABLE: u32 = 1 << 31;
const RESPONSES: u32 = 1 << 10;

/// With the symmetric pair open, its responses interrupting, held back for `control`.
fn driver(ctx: &Context<'_>, control: u32) -> Result<Qat, Stop> {
    ctx.profile.need(crate::profile::cap::MSI, "MSI")?;
    let mut driver = bare(ctx, true)?;
    driver.open(SYMMETRIC, 64, 128)?;
    driver.write(RINGS, ring::INT_COL_CTL, control)?;
    Ok(driver)
}

fn submit(driver: &mut Qat) -> Outcome {
    let opaque = driver.opaque();
    Ok(driver.submit(SYMMETRIC, &null(opaque, 128))?)
}

fn comes(ctx: &Context<'_>, driver: &mut Qat, what: &str) -> Outcome {
    let left = u64::try_from(ctx.left().as_nanos()).unwrap_or(u64::MAX);
    let deadline = driver.platform.now().plus(left);
    if driver.platform.wait_interrupt(0, deadline)? {
        return Ok(());
    }
    Err(Stop::Wedged(format!("an interrupt: {what}")))
}

/// Fails the check if an interrupt comes in the next three milliseconds.
fn stays_away(driver: &mut Qat, what: &str) -> Outcome {
    let deadline = driver.platform.now().plus(3_000_000);
    let came = driver.platform.wait_interrupt(0, deadline)?;
    expect(!came, &format!("no interrupt: {what}"), || "one".into())
}

fn responded(ctx: &Context<'_>, driver: &mut Qat) -> Outcome {
    until(
        ctx,
        driver,
        "a response",
        |driver| Ok(driver.read(RINGS, ring::E_STAT)? & RESPONSES == 0),
    )
}

fn why(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = driver(ctx, ENABLE | 0x1ff)?;
    expect_hex("VINTSOU before", driver.read(MISC, misc::VINTSOU)? & 1, 0)?;
    submit(&mut driver)?;
    comes(ctx, &mut driver, "a response")?;
    expect_hex("VINTSOU", driver.read(MISC, misc::VINTSOU)? & 1, 1)?;
    expect_hex("INT_FLAG", driver.read(RINGS, ring::INT_FLAG)?, RESPONSES)
}

fn coalesced(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = driver(ctx, ENABLE | LONGEST)?;
    for _ in 0..20 {
        submit(&mut driver)?;
    }
    comes(ctx, &mut driver, "responses")?;
    // Until the driver has served it there is no other, whatever else arrives.
    for _ in 0..10 {
        submit(&mut driver)?;
    }
    stays_away(&mut driver, "it was not served yet")
}

fn held_back(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = driver(ctx, ENABLE | LONGEST)?;
    let start = driver.platform.now();
    submit(&mut driver)?;
    comes(ctx, &mut driver, "a response")?;
    let waited = driver.platform.now().0 - start.0;
    expect(waited >= LONGEST.into(), "at least 1048575 ns", || format!("{waited} ns"))
}

fn at_once(ctx: &mut Context<'_>) -> Outcome {
    // Quickest of a few, as this program may be kept waiting too.
    let mut quickest = u64::MAX;
    for _ in 0..10 {
        let mut driver = driver(ctx, LONGEST)?;
        let start = driver.platform.now();
        submit(&mut driver)?;
        comes(ctx, &mut driver, "a response")?;
        quickest = quickest.min(driver.platform.now().0 - start.0);
    }
    expect(quickest < LONGEST.into(), "less than 1048575 ns", || format!("{quickest} ns"))
}

fn not_enabled(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = driver(ctx, ENABLE | 0x1ff)?;
    driver.write(RINGS, ring::INT_COL_EN, 0xffff & !RESPONSES)?;
    submit(&mut driver)?;
    responded(ctx, &mut driver)?;
    stays_away(&mut driver, "the ring is not enabled")?;
    expect_hex("INT_FLAG", driver.read(RINGS, ring::INT_FLAG)?, 0)?;
    driver.write(RINGS, ring::INT_COL_EN, RESPONSES)?;
    comes(ctx, &mut driver, "the ring is enabled")
}

fn handler(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = driver(ctx, ENABLE | 0x1ff)?;
    submit(&mut driver)?;
    comes(ctx, &mut driver, "a response")?;
    driver.write(RINGS, ring::INT_FLAG_AND_COL, 0)?;
    expect_hex("VINTSOU in the handler", driver.read(MISC, misc::VINTSOU)? & 1, 0)?;
    expect_hex("INT_FLAG in the handler", driver.read(RINGS, ring::INT_FLAG)?, 0)?;
    driver.take(SYMMETRIC)?;
    // Arrives while interrupts are off.
    submit(&mut driver)?;
    responded(ctx, &mut driver)?;
    stays_away(&mut driver, "interrupts are off")?;
    driver.write(RINGS, ring::INT_FLAG_AND_COL, RESPONSES)?;
    comes(ctx, &mut driver, "interrupts are on again")
}

fn masked(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = driver(ctx, ENABLE | 0x1ff)?;
    driver.write(MISC, misc::VINTMSK, 1)?;
    submit(&mut driver)?;
    stays_away(&mut driver, "it is masked")?;
    until(ctx, &mut driver, "VINTSOU", |driver| Ok(driver.read(MISC, misc::VINTSOU)? & 1 != 0))?;
    driver.write(MISC, misc::VINTMSK, 0)?;
    comes(ctx, &mut driver, "it is unmasked")
}

fn cleared(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = driver(ctx, ENABLE | 0x1ff)?;
    submit(&mut driver)?;
    comes(ctx, &mut driver, "a response")?;
    driver.write(RINGS, ring::INT_COL_EN, 0)?;
    driver.write(RINGS, ring::INT_FLAG, 0xffff & !RESPONSES)?;
    expect_hex("INT_FLAG, others written", driver.read(RINGS, ring::INT_FLAG)?, RESPONSES)?;
    driver.write(RINGS, ring::INT_FLAG, RESPONSES)?;
    expect_hex("INT_FLAG, written", driver.read(RINGS, ring::INT_FLAG)?, 0)
}

fn nothing(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = driver(ctx, ENABLE | 0x1ff)?;
    driver.write(RINGS, ring::INT_FLAG_AND_COL, RESPONSES)?;
    stays_away(&mut driver, "there is no response")?;
    expect_hex("VINTSOU", driver.read(MISC, misc::VINTSOU)?, 0)?;
    // A request that is not served is no reason either.
    driver.write(RINGS, ring::ARBITER, 0)?;
    submit(&mut driver)?;
    stays_away(&mut driver, "the request is not served")
}

fn sleeper(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = driver(ctx, ENABLE | 0x1ff)?;
    for round in 0..60 {
        for opaque in 0..round % 7 {
            driver.submit(SYMMETRIC, &null(opaque, 128))?;
        }
        for opaque in 0..round % 7 {
            let found = driver.wait(SYMMETRIC)?.opaque();
            expect_hex("the next opaque value", found, opaque)?;
        }
    }
    Ok(())
}

fn taken_before(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = driver(ctx, ENABLE | LONGEST)?;
    // Only as far as this program is quick enough; a slow machine proves nothing.
    let start = driver.platform.now();
    submit(&mut driver)?;
    while driver.take(SYMMETRIC)?.is_none() {
        driver.platform.idle(Nanos(u64::MAX))?;
        if ctx.left().is_zero() {
            return Err(Stop::Wedged("a response".into()));
        }
    }
    driver.read(RINGS, ring::E_STAT)?;
    if driver.platform.now().0 - start.0 >= LONGEST.into() {
        return Ok(());
    }
    stays_away(&mut driver, "the response is taken")?;
    expect_hex("INT_FLAG", driver.read(RINGS, ring::INT_FLAG)?, 0)
}
