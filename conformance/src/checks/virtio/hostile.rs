//! Drivers that break the rules: the device must not hang, and must work after a reset.
//!
//! What a device does with a broken ring is its own affair. It either gives the buffer back, as a
//! failed request, or sets DEVICE_NEEDS_RESET (§2.1.2); doing neither leaves the driver waiting.

use understudy_client::Platform;
use understudy_client::virtio::{Completion, QueueOptions, status};

use crate::rig::{PACKED, Plan, Rig, SPLIT};
use crate::verdict::expect;
use crate::{Check, Context, Outcome, Stop};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// An address that no check maps.
const NOWHERE: u64 = 0x7fff_0000_0000;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "virtio/hostile/1",
        title: "Split ring: a chain that loops",
        clause: "virtio 1.3 §2.7.5.2 (no loops), §2.1.2",
        run: |ctx| split(ctx, SPLIT, |page| vec![(page, 16, NEXT, 1), (page, 16, NEXT, 0)]),
    },
    Check {
        id: "virtio/hostile/2",
        title: "Split ring: a next index beyond the ring",
        clause: "virtio 1.3 §2.7.5, §2.1.2",
        run: |ctx| split(ctx, SPLIT, |page| vec![(page, 16, NEXT, 0xfff0)]),
    },
    Check {
        id: "virtio/hostile/3",
        title: "Split ring: a head index beyond the ring",
        clause: "virtio 1.3 §2.7.6, §2.1.2",
        run: |ctx| bad_available(ctx, 0xfff0, 1),
    },
    Check {
        id: "virtio/hostile/4",
        title: "Split ring: an available index that jumps by more than the ring",
        clause: "virtio 1.3 §2.7.6, §2.1.2",
        run: |ctx| bad_available(ctx, 0, 0x4000),
    },
    Check {
        id: "virtio/hostile/5",
        title: "Split ring: descriptors of memory that is not mapped",
        clause: "virtio 1.3 §2.7.5, §2.1.2",
        run: |ctx| split(ctx, SPLIT, |_| vec![(NOWHERE, 64, NEXT, 1), (NOWHERE, 64, WRITE, 0)]),
    },
    Check {
        id: "virtio/hostile/6",
        title: "Split ring: addresses that wrap, of the greatest length",
        clause: "virtio 1.3 §2.7.5, §2.1.2",
        run: |ctx| {
            split(ctx, SPLIT, |_| {
                vec![(u64::MAX - 8, u32::MAX, NEXT, 1), (u64::MAX - 8, u32::MAX, WRITE, 0)]
            })
        },
    },
    Check {
        id: "virtio/hostile/7",
        title: "Split ring: a writable descriptor before a readable one",
        clause: "virtio 1.3 §2.7.4.2, §2.1.2",
        run: |ctx| {
            split(ctx, SPLIT, |page| vec![(page + 512, 64, WRITE | NEXT, 1), (page, 64, 0, 0)])
        },
    },
    Check {
        id: "virtio/hostile/8",
        title: "Split ring: a buffer with nothing to write",
        clause: "virtio 1.3 §2.7.4, §2.1.2",
        run: |ctx| split(ctx, SPLIT, |page| vec![(page, 64, 0, 0)]),
    },
    Check {
        id: "virtio/hostile/9",
        title: "Split ring: an indirect table whose length is no multiple of 16, or zero",
        clause: "virtio 1.3 §2.7.5.3, §2.1.2",
        run: |ctx| {
            let options = QueueOptions { indirect: true, ..SPLIT };
            split(ctx, options, |page| vec![(page + 1024, 24, INDIRECT, 0)])?;
            split(ctx, options, |page| vec![(page + 1024, 0, INDIRECT, 0)])
        },
    },
    Check {
        id: "virtio/hostile/10",
        title: "Split ring: an indirect table inside an indirect table",
        clause: "virtio 1.3 §2.7.5.3.1, §2.1.2",
        run: nested_table,
    },
    Check {
        id: "virtio/hostile/11",
        title: "Split ring: an indirect descriptor that was not negotiated",
        clause: "virtio 1.3 §2.7.5.3.1, §2.1.2",
        run: |ctx| split(ctx, SPLIT, |page| vec![(page + 1024, 32, INDIRECT, 0)]),
    },
    Check {
        id: "virtio/hostile/12",
        title: "Split ring: a ring in memory that is not mapped",
        clause: "virtio 1.3 §4.1.5.1.3, §2.1.2",
        run: ring_nowhere,
    },
    Check {
        id: "virtio/hostile/13",
        title: "Packed ring: a chain longer than the ring",
        clause: "virtio 1.3 §2.8.6, §2.1.2",
        run: |ctx| packed(ctx, PACKED, |page| vec![(page, 16, NEXT); 16]),
    },
    Check {
        id: "virtio/hostile/14",
        title: "Packed ring: descriptors of memory that is not mapped",
        clause: "virtio 1.3 §2.8.5, §2.1.2",
        run: |ctx| packed(ctx, PACKED, |_| vec![(NOWHERE, 64, NEXT), (NOWHERE, 64, WRITE)]),
    },
    Check {
        id: "virtio/hostile/15",
        title: "Packed ring: an indirect table of length zero, or no multiple of 16",
        clause: "virtio 1.3 §2.8.7, §2.1.2",
        run: |ctx| {
            let options = QueueOptions { indirect: true, ..PACKED };
            packed(ctx, options, |page| vec![(page + 1024, 0, INDIRECT)])?;
            packed(ctx, options, |page| vec![(page + 1024, 40, INDIRECT)])
        },
    },
    Check {
        id: "virtio/hostile/16",
        title: "A device that asks for a reset says so by a configuration interrupt",
        clause: "virtio 1.3 §2.1.2",
        run: configuration_interrupt,
    },
    Check {
        id: "virtio/hostile/17",
        title: "Doorbells of queues that do not exist, and writes all over the common structure",
        clause: "virtio 1.3 §4.1.4.3, §4.1.5.2",
        run: wild_writes,
    },
];

/// A descriptor of a split ring: address, length, flags, next.
type Split = (u64, u32, u16, u16);
/// A descriptor of a packed ring: address, length, flags without AVAIL and USED.
type Packed = (u64, u32, u16);

fn split_bytes((address, len, flags, next): Split) -> Vec<u8> {
    let mut raw = address.to_le_bytes().to_vec();
    raw.extend(len.to_le_bytes());
    raw.extend(flags.to_le_bytes());
    raw.extend(next.to_le_bytes());
    raw
}

/// Writes descriptors into the ring behind the driver's back and makes the first available.
fn split(ctx: &mut Context<'_>, queues: QueueOptions, chain: fn(u64) -> Vec<Split>) -> Outcome {
    let mut rig = Rig::new(ctx, Plan { queues, ..Plan::default() })?;
    let [descriptors, available, _] = rig.queue.areas();
    let page = rig.page().iova;
    for (slot, descriptor) in chain(page).into_iter().enumerate() {
        rig.platform().dma_write(descriptors.at(16 * slot), &split_bytes(descriptor))?;
    }
    // flags, idx, ring[0]
    rig.platform().dma_write(available.at(4), &0_u16.to_le_bytes())?;
    rig.platform().dma_write(available.at(2), &1_u16.to_le_bytes())?;
    provoke(ctx, rig)
}

fn bad_available(ctx: &mut Context<'_>, head: u16, index: u16) -> Outcome {
    let mut rig = Rig::new(ctx, Plan::default())?;
    let available = rig.queue.areas()[1];
    rig.platform().dma_write(available.at(4), &head.to_le_bytes())?;
    rig.platform().dma_write(available.at(2), &index.to_le_bytes())?;
    provoke(ctx, rig)
}

fn nested_table(ctx: &mut Context<'_>) -> Outcome {
    let queues = QueueOptions { indirect: true, ..SPLIT };
    let mut rig = Rig::new(ctx, Plan { queues, ..Plan::default() })?;
    let page = rig.page().iova;
    // The table's only entry points at the table.
    let inner = split_bytes((page + 1024, 16, INDIRECT, 0));
    rig.platform().dma_write(page + 1024, &inner)?;
    let descriptors = rig.queue.areas()[0];
    rig.platform().dma_write(descriptors.at(0), &inner)?;
    let available = rig.queue.areas()[1];
    rig.platform().dma_write(available.at(2), &1_u16.to_le_bytes())?;
    provoke(ctx, rig)
}

fn packed(ctx: &mut Context<'_>, queues: QueueOptions, chain: fn(u64) -> Vec<Packed>) -> Outcome {
    const AVAIL: u16 = 1 << 7;
    let mut rig = Rig::new(ctx, Plan { queues, ..Plan::default() })?;
    let ring = rig.queue.areas()[0];
    let page = rig.page().iova;
    let chain = chain(page);
    // The first descriptor last: it makes the chain available.
    for (slot, (address, len, flags)) in chain.into_iter().enumerate().rev() {
        let mut raw = address.to_le_bytes().to_vec();
        raw.extend(len.to_le_bytes());
        raw.extend(0_u16.to_le_bytes());
        raw.extend((flags | AVAIL).to_le_bytes());
        rig.platform().dma_write(ring.at(16 * slot), &raw)?;
    }
    provoke(ctx, rig)
}

/// Moves the queue's rings, before it starts, to where no memory is.
fn ring_nowhere(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = Rig::new(ctx, Plan { start: false, ..Plan::default() })?;
    rig.device.reset()?;
    rig.device.negotiate(0, 0)?;
    let at = rig.device.common();
    rig.platform().bar_write(at.bar, at.offset + 0x16, &[0, 0])?;
    for (register, area) in [(0x20, 0_u64), (0x28, 0x1000), (0x30, 0x2000)] {
        let address = NOWHERE + area;
        rig.platform().bar_write(at.bar, at.offset + register, &address.to_le_bytes()[..4])?;
        rig.platform().bar_write(at.bar, at.offset + register + 4, &address.to_le_bytes()[4..])?;
    }
    rig.platform().bar_write(at.bar, at.offset + 0x1c, &[1, 0])?;
    rig.device.add_status(status::DRIVER_OK)?;
    provoke(ctx, rig)
}

/// Rings queue 0's doorbell and waits until the device says what it makes of it. Then the device
/// must work again.
fn provoke(ctx: &mut Context<'_>, mut rig: Rig) -> Outcome {
    ring(&mut rig)?;
    let used = rig.queue.areas()[2];
    let deadline = rig.deadline();
    let before = snapshot(&mut rig)?;
    loop {
        if rig.device.status()? & status::DEVICE_NEEDS_RESET != 0 {
            crate::log::refused("the ring, with DEVICE_NEEDS_RESET");
            break;
        }
        let mut index = [0; 4];
        rig.platform().dma_read(used.iova, &mut index)?;
        if snapshot(&mut rig)? != before || index[2..] != [0, 0] {
            crate::log::refused("the buffer, which came back");
            break;
        }
        if rig.platform().now() >= deadline {
            return Err(Stop::Wedged("the buffer back, or DEVICE_NEEDS_RESET".into()));
        }
        rig.platform().idle(deadline)?;
    }
    recovers(ctx, rig)
}

/// The first descriptor of the ring, which a packed ring's device overwrites when it uses it.
fn snapshot(rig: &mut Rig) -> Result<[u8; 16], Stop> {
    let at = rig.queue.areas()[0].iova;
    let mut raw = [0; 16];
    rig.platform().dma_read(at, &mut raw)?;
    Ok(raw)
}

fn ring(rig: &mut Rig) -> Result<(), Stop> {
    let (notify, _) = rig.device.notifications();
    Ok(rig.platform().bar_write(notify.bar, notify.offset, &[0, 0])?)
}

fn recovers(ctx: &mut Context<'_>, mut rig: Rig) -> Outcome {
    rig.device.reset().map_err(Stop::from).map_err(|stop| stop.during("the reset after it"))?;
    drop(rig);
    Rig::new(ctx, Plan::default())?
        .round_trip()
        .map_err(|stop| stop.during("the device works after a reset"))
}

fn configuration_interrupt(ctx: &mut Context<'_>) -> Outcome {
    ctx.profile.need(crate::profile::cap::MSIX, "MSI-X")?;
    let mut rig = Rig::new(ctx, Plan { completion: Completion::Msix, ..Plan::default() })?;
    // An available index that no driver can have reached.
    let available = rig.queue.areas()[1];
    rig.platform().dma_write(available.at(2), &0x4000_u16.to_le_bytes())?;
    ring(&mut rig)?;
    let deadline = rig.deadline();
    loop {
        if rig.device.status()? & status::DEVICE_NEEDS_RESET != 0 {
            break;
        }
        if rig.queue.has_used(&mut rig.device.platform)? {
            return Err(Stop::skip("the device goes on where others ask for a reset"));
        }
        if rig.platform().now() >= deadline {
            return Err(Stop::Wedged("DEVICE_NEEDS_RESET".into()));
        }
        rig.platform().idle(deadline)?;
    }
    if rig.platform().wait_interrupt(0, deadline)? {
        return recovers(ctx, rig);
    }
    Err(Stop::Wedged("the configuration change interrupt".into()))
}

fn wild_writes(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = Rig::new(ctx, Plan::default())?;
    let (notify, _) = rig.device.notifications();
    for queue in [1_u16, 7, 0x7fff, 0xffff] {
        rig.platform().bar_write(notify.bar, notify.offset, &queue.to_le_bytes())?;
    }
    let at = rig.device.common();
    for offset in (0..at.len.min(64)).filter(|offset| *offset != 0x14) {
        for value in [0xff, 0x00, 0x5a] {
            rig.platform().bar_write(at.bar, at.offset + offset, &[value])?;
        }
    }
    rig.device.reset()?;
    expect(rig.device.status()? == 0, "status 0 after a reset", || "another".into())?;
    recovers(ctx, rig)
}
