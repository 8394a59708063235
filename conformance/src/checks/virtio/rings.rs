//! Split and packed rings (virtio 1.3 §2.7, §2.8).

use understudy_client::Platform;
use understudy_client::virtio::{Completion, QueueOptions, Segment, feature};

use crate::rig::{PACKED, Plan, Rig, SPLIT};
use crate::verdict::{expect, expect_eq};
use crate::{Check, Context, Outcome, Stop};

/// With indirect descriptors.
const INDIRECT: fn(QueueOptions) -> QueueOptions = |o| QueueOptions { indirect: true, ..o };
/// With event index.
const EVENT_IDX: fn(QueueOptions) -> QueueOptions = |o| QueueOptions { event_idx: true, ..o };

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "virtio/2.7/1",
        title: "Split ring: buffers come back, far beyond one turn of the ring",
        clause: "virtio 1.3 §2.7.6, §2.7.8",
        run: |ctx| turns(ctx, SPLIT),
    },
    Check {
        id: "virtio/2.8/1",
        title: "Packed ring: buffers come back, far beyond one turn of the ring",
        clause: "virtio 1.3 §2.8.1, §2.8.5",
        run: |ctx| turns(ctx, PACKED),
    },
    Check {
        id: "virtio/2.7/2",
        title: "Split ring: a full ring of buffers made available at once comes back",
        clause: "virtio 1.3 §2.7.6, §2.7.8",
        run: |ctx| full(ctx, SPLIT),
    },
    Check {
        id: "virtio/2.8/2",
        title: "Packed ring: a full ring of buffers made available at once comes back",
        clause: "virtio 1.3 §2.8.5, §2.8.6",
        run: |ctx| full(ctx, PACKED),
    },
    Check {
        id: "virtio/2.7.4/1",
        title: "Split ring: a buffer may be cut into as many segments as the ring has descriptors",
        clause: "virtio 1.3 §2.7.4, §2.6.5 (message framing)",
        run: |ctx| segments(ctx, SPLIT),
    },
    Check {
        id: "virtio/2.8.4/1",
        title: "Packed ring: a buffer may be cut into as many segments as the ring has descriptors",
        clause: "virtio 1.3 §2.8.6, §2.6.5 (message framing)",
        run: |ctx| segments(ctx, PACKED),
    },
    Check {
        id: "virtio/2.7.5.3/1",
        title: "Split ring: indirect descriptors",
        clause: "virtio 1.3 §2.7.5.3",
        run: |ctx| segments(ctx, INDIRECT(SPLIT)),
    },
    Check {
        id: "virtio/2.8.7/1",
        title: "Packed ring: indirect descriptors",
        clause: "virtio 1.3 §2.8.7",
        run: |ctx| segments(ctx, INDIRECT(PACKED)),
    },
    Check {
        id: "virtio/2.7.7/1",
        title: "Split ring: no interrupt while the driver does not want one, one when it does",
        clause: "virtio 1.3 §2.7.7.2 (VIRTQ_AVAIL_F_NO_INTERRUPT)",
        run: |ctx| suppression(ctx, SPLIT),
    },
    Check {
        id: "virtio/2.8.10/1",
        title: "Packed ring: no interrupt while the driver does not want one, one when it does",
        clause: "virtio 1.3 §2.8.10 (RING_EVENT_FLAGS_DISABLE)",
        run: |ctx| suppression(ctx, PACKED),
    },
    Check {
        id: "virtio/2.7.7/2",
        title: "Split ring: used_event says which buffer interrupts",
        clause: "virtio 1.3 §2.7.7.2 (VIRTIO_F_EVENT_IDX)",
        run: |ctx| suppression(ctx, EVENT_IDX(SPLIT)),
    },
    Check {
        id: "virtio/2.8.10/2",
        title: "Packed ring: the event offset says which buffer interrupts",
        clause: "virtio 1.3 §2.8.10 (RING_EVENT_FLAGS_DESC)",
        run: |ctx| suppression(ctx, EVENT_IDX(PACKED)),
    },
    Check {
        id: "virtio/2.7.10/1",
        title: "Split ring: the device asks for notifications when it would miss buffers without",
        clause: "virtio 1.3 §2.7.10",
        run: |ctx| wanted_notifications(ctx, SPLIT),
    },
    Check {
        id: "virtio/2.7.10/2",
        title: "Split ring: with event index too",
        clause: "virtio 1.3 §2.7.10 (avail_event)",
        run: |ctx| wanted_notifications(ctx, EVENT_IDX(SPLIT)),
    },
    Check {
        id: "virtio/2.8.10/3",
        title: "Packed ring: the device asks for notifications when it would miss buffers without",
        clause: "virtio 1.3 §2.8.10",
        run: |ctx| wanted_notifications(ctx, PACKED),
    },
    Check {
        id: "virtio/4.1.5.2/1",
        title: "Notifications with data are taken",
        clause: "virtio 1.3 §4.1.5.2.1, §2.9 (VIRTIO_F_NOTIFICATION_DATA)",
        run: notification_data,
    },
    Check {
        id: "virtio/2.6.1/1",
        title: "A queue that is reset is disabled, forgets its buffers, and works again when enabled",
        clause: "virtio 1.3 §2.6.1 (VIRTIO_F_RING_RESET)",
        run: queue_reset,
    },
    Check {
        id: "virtio/2.7/3",
        title: "A queue of the smallest sizes works",
        clause: "virtio 1.3 §2.7, §4.1.5.1.3",
        run: small_queues,
    },
];

fn rig(ctx: &Context<'_>, queues: QueueOptions) -> Result<Rig, Stop> {
    Rig::new(ctx, Plan { queues, ..Plan::default() })
}

fn turns(ctx: &mut Context<'_>, queues: QueueOptions) -> Outcome {
    let mut rig = rig(ctx, queues)?;
    for _ in 0..100 {
        rig.round_trip()?;
    }
    Ok(())
}

/// Two descriptors a buffer, in a ring of 16 or as many as the device has.
fn full(ctx: &mut Context<'_>, queues: QueueOptions) -> Outcome {
    let mut rig = rig(ctx, queues)?;
    let buffers = rig.queue.size() / 2;
    for _ in 0..4 {
        let mut tokens = Vec::new();
        for _ in 0..buffers {
            tokens.push(rig.add()?);
        }
        rig.device.notify(&rig.queue)?;
        let mut used = Vec::new();
        for _ in 0..buffers {
            used.push(rig.used()?.token);
        }
        used.sort_unstable();
        expect_eq("the used buffers", &used, &tokens)?;
    }
    Ok(())
}

fn segments(ctx: &mut Context<'_>, queues: QueueOptions) -> Outcome {
    let mut rig = rig(ctx, queues)?;
    let page = rig.page();
    let size = usize::from(rig.queue.size());
    for count in [2, 5, 16, size].into_iter().filter(|count| *count <= size) {
        let piece = |n: usize| Segment { iova: page.at(64 * n), len: 16 };
        let readable: Vec<_> = (0..count - 1).map(piece).collect();
        let writable = [Segment { iova: page.at(2048), len: 64 }];
        rig.queue.add(&mut rig.device.platform, &readable, &writable, count as u64)?;
        rig.device.notify(&rig.queue)?;
        expect_eq("the used buffer", &rig.used()?.token, &(count as u64))?;
    }
    Ok(())
}

fn interrupting(ctx: &Context<'_>, queues: QueueOptions) -> Result<(Rig, u16), Stop> {
    ctx.profile.need(crate::profile::cap::MSIX, "MSI-X")?;
    let rig = Rig::new(ctx, Plan { queues, completion: Completion::Msix, ..Plan::default() })?;
    let vectors = rig.device.function.msix.as_ref().map_or(0, |msix| msix.vectors);
    Ok((rig, u16::from(vectors > 1)))
}

fn suppression(ctx: &mut Context<'_>, queues: QueueOptions) -> Outcome {
    let (mut rig, vector) = interrupting(ctx, queues)?;
    // A device may send the very first interrupt whatever the driver wants (a SHOULD NOT), as it
    // has no earlier index to compare with.
    rig.submit()?;
    wait_used_quietly(&mut rig)?;
    rig.platform().wait_interrupt(vector, understudy_device::Nanos(0))?;
    for _ in 0..40 {
        rig.queue.want_interrupt(&mut rig.device.platform, false)?;
        rig.submit()?;
        wait_used_quietly(&mut rig)?;
        let came = rig.platform().wait_interrupt(vector, understudy_device::Nanos(0))?;
        expect(!came, "no interrupt while it is not wanted", || "one".into())?;
        rig.queue.want_interrupt(&mut rig.device.platform, true)?;
        rig.submit()?;
        let deadline = rig.deadline();
        if !rig.platform().wait_interrupt(vector, deadline)? {
            return Err(Stop::Wedged("the interrupt that is wanted".into()));
        }
        rig.used()?;
    }
    Ok(())
}

/// Waits for a used buffer without touching what the driver wants of interrupts.
fn wait_used_quietly(rig: &mut Rig) -> Result<(), Stop> {
    let deadline = rig.deadline();
    while rig.queue.take(&mut rig.device.platform)?.is_none() {
        rig.device.check_health()?;
        if rig.platform().now() >= deadline {
            return Err(Stop::Wedged("a used buffer".into()));
        }
        rig.platform().idle(deadline)?;
    }
    rig.settle()
}

/// Rings the doorbell only if the device says so: nothing may be lost.
fn wanted_notifications(ctx: &mut Context<'_>, queues: QueueOptions) -> Outcome {
    let mut rig = rig(ctx, queues)?;
    for round in 0..200 {
        let token = rig.add()?;
        rig.device.kick(&mut rig.queue)?;
        expect_eq("the used buffer", &rig.used()?.token, &token)?;
        if round % 20 == 19 {
            // Long enough for a device that polls to go to sleep.
            rig.settle()?;
        }
    }
    Ok(())
}

fn notification_data(ctx: &mut Context<'_>) -> Outcome {
    for queues in [SPLIT, PACKED] {
        let plan = Plan { queues, features: feature::NOTIFICATION_DATA, ..Plan::default() };
        let mut rig = Rig::new(ctx, plan)?;
        for _ in 0..40 {
            rig.round_trip()?;
        }
    }
    Ok(())
}

fn queue_reset(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = Rig::new(ctx, Plan { features: feature::RING_RESET, ..Plan::default() })?;
    for _ in 0..4 {
        rig.round_trip()?;
        rig.device.reset_queue(0)?;
        let at = rig.device.common();
        let mut enabled = [0; 2];
        rig.platform().bar_read(at.bar, at.offset + 0x1c, &mut enabled)?;
        expect_eq("queue_enable after a queue reset", &enabled, &[0, 0])?;
        rig.add()?;
        rig.device.notify(&rig.queue)?;
        rig.settle()?;
        let used = rig.queue.has_used(&mut rig.device.platform)?;
        expect(!used, "no used buffer after a queue reset", || "one".into())?;
        rig.queue = rig.device.setup_queue(0, 16, SPLIT)?;
    }
    rig.round_trip()
}

fn small_queues(ctx: &mut Context<'_>) -> Outcome {
    for size in [2, 4] {
        let mut rig = Rig::new(ctx, Plan { size, ..Plan::default() })?;
        for _ in 0..10 {
            rig.round_trip()?;
        }
    }
    Ok(())
}
