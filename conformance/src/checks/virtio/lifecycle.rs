//! Features, status, reset and interrupts' status (virtio 1.3 §2.1 to §2.4, §4.1.4.5).

use understudy_client::virtio::{Completion, feature, status};
use understudy_client::{Access, Platform};

use crate::rig::{Plan, Rig, SPLIT};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "virtio/6.2/1",
        title: "VIRTIO_F_VERSION_1 is offered",
        clause: "virtio 1.3 §6.2",
        run: version_1,
    },
    Check {
        id: "virtio/2.2/1",
        title: "All features that are offered are accepted together",
        clause: "virtio 1.3 §2.2.2",
        run: all_features,
    },
    Check {
        id: "virtio/2.2/2",
        title: "A feature that was not offered is not accepted: FEATURES_OK stays clear",
        clause: "virtio 1.3 §2.2.2",
        run: unoffered_feature,
    },
    Check {
        id: "virtio/2.2/3",
        title: "Features once accepted are accepted again after a reset",
        clause: "virtio 1.3 §2.2.2",
        run: renegotiation,
    },
    Check {
        id: "virtio/2.1/1",
        title: "Status bits stay set until the driver resets the device",
        clause: "virtio 1.3 §2.1",
        run: status_bits,
    },
    Check {
        id: "virtio/2.1/2",
        title: "No buffer is used before DRIVER_OK",
        clause: "virtio 1.3 §2.1.2",
        run: nothing_before_driver_ok,
    },
    Check {
        id: "virtio/2.4/1",
        title: "After a reset the device touches no queue until it is initialized again",
        clause: "virtio 1.3 §2.4.1",
        run: nothing_after_reset,
    },
    Check {
        id: "virtio/2.4/2",
        title: "The device works again after each of 20 resets",
        clause: "virtio 1.3 §2.4.1",
        run: reset_again_and_again,
    },
    Check {
        id: "virtio/4.1.4.5/1",
        title: "A used buffer sets the Queue Interrupt bit, reading ISR status clears it",
        clause: "virtio 1.3 §4.1.4.5.1",
        run: isr_status,
    },
    Check {
        id: "virtio/4.1.5.4/1",
        title: "A queue that is mapped to no vector does not interrupt",
        clause: "virtio 1.3 §4.1.5.3.1",
        run: unmapped_queue_is_silent,
    },
    Check {
        id: "virtio/4.1.5.3/1",
        title: "A used buffer sends the vector that its queue is mapped to",
        clause: "virtio 1.3 §4.1.5.3",
        run: queue_vector,
    },
];

fn version_1(ctx: &mut Context<'_>) -> Outcome {
    let offered = ctx.virtio()?.offered_features()?;
    expect(offered & feature::VERSION_1 != 0, "bit 32", || format!("{offered:#x}"))
}

fn all_features(ctx: &mut Context<'_>) -> Outcome {
    let mut device = ctx.virtio()?;
    let offered = device.offered_features()?;
    let agreed = device.negotiate(0, u64::MAX)?;
    expect_hex("features", agreed, offered)
}

/// Writes exactly these feature bits and asks for them; true if the device accepts.
fn accepted(ctx: &Context<'_>, bits: u64) -> Result<bool, Stop> {
    let mut device = ctx.virtio()?;
    let at = device.common();
    device.add_status(status::ACKNOWLEDGE)?;
    device.add_status(status::DRIVER)?;
    for (select, half) in [(0_u32, bits & 0xffff_ffff), (1, bits >> 32)] {
        let half = u32::try_from(half).unwrap_or(0);
        device.platform.bar_write(at.bar, at.offset + 8, &select.to_le_bytes())?;
        device.platform.bar_write(at.bar, at.offset + 12, &half.to_le_bytes())?;
    }
    device.add_status(status::FEATURES_OK)?;
    Ok(device.status()? & status::FEATURES_OK != 0)
}

fn unoffered_feature(ctx: &mut Context<'_>) -> Outcome {
    let offered = ctx.virtio()?.offered_features()?;
    let version_1 = offered & feature::VERSION_1;
    // One of the device type's bits, one of the transport's, one beyond what is defined.
    for bit in [23, 34, 40, 63].map(|n| 1_u64 << n).into_iter().filter(|bit| offered & bit == 0) {
        let accepted = accepted(ctx, version_1 | bit)?;
        expect(!accepted, &format!("feature {bit:#x} not accepted"), || "FEATURES_OK".into())?;
    }
    Ok(())
}

fn renegotiation(ctx: &mut Context<'_>) -> Outcome {
    let mut device = ctx.virtio()?;
    let first = device.negotiate(0, u64::MAX)?;
    device.reset()?;
    let second = device.negotiate(0, u64::MAX)?;
    expect_hex("features after a reset", second, first)
}

fn status_bits(ctx: &mut Context<'_>) -> Outcome {
    let mut device = ctx.virtio()?;
    expect_hex("status after reset", device.status()?, 0)?;
    device.add_status(status::ACKNOWLEDGE)?;
    expect_hex("status", device.status()?, 1)?;
    device.add_status(status::DRIVER)?;
    expect_hex("status", device.status()?, 3)?;
    device.negotiate(0, 0)?;
    expect_hex("status", device.status()?, 0x0b)?;
    device.setup_queue(0, 16, SPLIT)?;
    device.start()?;
    expect_hex("status", device.status()?, 0x0f)?;
    device.add_status(status::FAILED)?;
    expect(device.status()? & status::FAILED != 0, "FAILED stays", || "clear".into())?;
    device.reset()?;
    expect_hex("status after reset", device.status()?, 0)
}

fn nothing_before_driver_ok(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = Rig::new(ctx, Plan { start: false, ..Plan::default() })?;
    let token = rig.submit()?;
    rig.settle()?;
    let used = rig.queue.has_used(&mut rig.device.platform)?;
    expect(!used, "no used buffer before DRIVER_OK", || "one".into())?;
    rig.device.start()?;
    rig.device.notify(&rig.queue)?;
    expect_eq("the buffer after DRIVER_OK", &rig.used()?.token, &token)
}

fn nothing_after_reset(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = Rig::new(ctx, Plan::default())?;
    rig.round_trip()?;
    rig.device.reset()?;
    rig.add()?;
    // The doorbell of a queue that is not enabled: notify() no longer knows its place.
    let (notify, _) = rig.device.notifications();
    rig.platform().bar_write(notify.bar, notify.offset, &[0, 0])?;
    rig.settle()?;
    let used = rig.queue.has_used(&mut rig.device.platform)?;
    expect(!used, "no used buffer after a reset", || "one".into())
}

fn reset_again_and_again(ctx: &mut Context<'_>) -> Outcome {
    let mut device = ctx.virtio()?;
    for _ in 0..20 {
        device.negotiate(0, 0)?;
        let queue = device.setup_queue(0, 16, SPLIT)?;
        device.start()?;
        device.reset()?;
        queue.release(&mut device.platform);
    }
    drop(device);
    Rig::new(ctx, Plan::default())?.round_trip()
}

fn isr_status(ctx: &mut Context<'_>) -> Outcome {
    if ctx.profile.config.get(0x3d) == Some(&0) {
        return Err(Stop::skip("the function has no INTx interrupt"));
    }
    let mut rig = Rig::new(ctx, Plan { completion: Completion::Intx, ..Plan::default() })?;
    rig.queue.want_interrupt(&mut rig.device.platform, true)?;
    expect_hex("ISR status before", rig.device.isr()?, 0)?;
    rig.submit()?;
    let deadline = rig.deadline();
    if !rig.platform().wait_interrupt(0, deadline)? {
        return Err(Stop::Wedged("INTx for a used buffer".into()));
    }
    expect_hex("Queue Interrupt", rig.device.isr()? & 1, 1)?;
    expect_hex("ISR status once read", rig.device.isr()?, 0)
}

fn msix_plan(ctx: &Context<'_>) -> Result<Plan, Stop> {
    ctx.profile.need(crate::profile::cap::MSIX, "MSI-X")?;
    Ok(Plan { completion: Completion::Msix, ..Plan::default() })
}

fn unmapped_queue_is_silent(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = Rig::new(ctx, msix_plan(ctx)?)?;
    let at = rig.device.common();
    rig.platform().bar_write(at.bar, at.offset + 0x16, &[0, 0])?;
    rig.platform().bar_write(at.bar, at.offset + 0x1a, &[0xff, 0xff])?;
    expect_hex("queue_msix_vector", rig.platform().bar_u16(at.bar, at.offset + 0x1a)?, 0xffff)?;
    rig.queue.want_interrupt(&mut rig.device.platform, true)?;
    rig.submit()?;
    let deadline = rig.deadline();
    while !rig.queue.has_used(&mut rig.device.platform)? {
        if rig.platform().now() >= deadline {
            return Err(Stop::Wedged("a used buffer".into()));
        }
        rig.platform().idle(deadline)?;
    }
    rig.settle()?;
    let vectors = rig.device.function.msix.as_ref().map_or(0, |msix| msix.vectors.min(2));
    for vector in 0..vectors {
        let came = rig.platform().wait_interrupt(vector, understudy_device::Nanos(0))?;
        expect(!came, "no interrupt", || format!("vector {vector}"))?;
    }
    Ok(())
}

fn queue_vector(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = Rig::new(ctx, msix_plan(ctx)?)?;
    rig.queue.want_interrupt(&mut rig.device.platform, true)?;
    let vectors = rig.device.function.msix.as_ref().map_or(0, |msix| msix.vectors);
    let vector = u16::from(vectors > 1);
    rig.submit()?;
    let deadline = rig.deadline();
    if !rig.platform().wait_interrupt(vector, deadline)? {
        return Err(Stop::Wedged(format!("vector {vector} for a used buffer")));
    }
    rig.used().map(|_| ())
}
