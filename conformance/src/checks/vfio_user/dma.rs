//! DMA_MAP and DMA_UNMAP.

use std::os::fd::AsFd;

use crate::errno::EEXIST;
use crate::peer::{Peer, command};
use crate::session::{Event, Session, dma_map, dma_unmap, memory};
use crate::verdict::{expect, expect_bytes};
use crate::{Check, Context, Outcome, Stop};

const MAP: &str = "vfio-user, VFIO_USER_DMA_MAP";
const UNMAP: &str = "vfio-user, VFIO_USER_DMA_UNMAP";

const BASE: u64 = 0x10_0000;
const SIZE: u64 = 0x4000;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vfio-user/dma/1",
        title: "Memory without a descriptor is mapped; the reply has no payload",
        clause: MAP,
        run: |ctx| map_and_unmap(ctx, false),
    },
    Check {
        id: "vfio-user/dma/2",
        title: "Memory with a descriptor is mapped; the reply has no payload",
        clause: MAP,
        run: |ctx| map_and_unmap(ctx, true),
    },
    Check {
        id: "vfio-user/dma/3",
        title: "Mapping a range again is refused with EEXIST",
        clause: MAP,
        run: |ctx| overlap(ctx, BASE, SIZE),
    },
    Check {
        id: "vfio-user/dma/4",
        title: "Mapping over the end of a range is refused with EEXIST",
        clause: MAP,
        run: |ctx| overlap(ctx, BASE + SIZE - 0x1000, SIZE),
    },
    Check {
        id: "vfio-user/dma/5",
        title: "Mapping over the start of a range is refused with EEXIST",
        clause: MAP,
        run: |ctx| overlap(ctx, BASE - 0x1000, 0x2000),
    },
    Check {
        id: "vfio-user/dma/6",
        title: "Mapping inside a range is refused with EEXIST",
        clause: MAP,
        run: |ctx| overlap(ctx, BASE + 0x1000, 0x1000),
    },
    Check {
        id: "vfio-user/dma/7",
        title: "Mapping around a range is refused with EEXIST",
        clause: MAP,
        run: |ctx| overlap(ctx, BASE - 0x1000, SIZE + 0x2000),
    },
    Check {
        id: "vfio-user/dma/8",
        title: "Ranges that touch do not overlap",
        clause: MAP,
        run: adjacent,
    },
    Check {
        id: "vfio-user/dma/9",
        title: "A range that wraps is refused, and one of no bytes does no harm",
        clause: MAP,
        run: impossible_ranges,
    },
    Check {
        id: "vfio-user/dma/10",
        title: "An argsz smaller than the structure is refused",
        clause: MAP,
        run: small_argsz,
    },
    Check {
        id: "vfio-user/dma/11",
        title: "A descriptor that cannot be mapped is refused, and nothing stays mapped",
        clause: MAP,
        run: unmappable_descriptor,
    },
    Check {
        id: "vfio-user/dma/12",
        title: "DMA_MAP commands that arrive together are all served, in order",
        clause: "vfio-user, Command Concurrency",
        run: pipelined,
    },
    Check {
        id: "vfio-user/dma/13",
        title: "Unmapping answers with the entry of the request",
        clause: UNMAP,
        run: unmap_echo,
    },
    Check {
        id: "vfio-user/dma/14",
        title: "Unmapping what is not mapped is refused",
        clause: UNMAP,
        run: unmap_unknown,
    },
    Check {
        id: "vfio-user/dma/15",
        title: "Unmapping must match a mapping exactly: a part of it, or more, is refused",
        clause: UNMAP,
        run: unmap_inexact,
    },
    Check {
        id: "vfio-user/dma/16",
        title: "A range can be mapped again after it was unmapped",
        clause: UNMAP,
        run: map_again,
    },
    Check {
        id: "vfio-user/dma/17",
        title: "256 mappings can be valid at once",
        clause: "vfio-user, VFIO_USER_VERSION, max_dma_maps",
        run: many,
    },
    Check {
        id: "vfio-user/dma/18",
        title: "A refused mapping leaves earlier ones as they were",
        clause: MAP,
        run: refusal_changes_nothing,
    },
];

fn map_and_unmap(ctx: &mut Context<'_>, shared: bool) -> Outcome {
    let mut session = ctx.attach()?;
    let payload = session.try_map(&memory(BASE, SIZE)?, shared)?.ok()?;
    expect_bytes("DMA_MAP's reply payload", &payload, &[])?;
    session.try_unmap(BASE, SIZE)?.ok().map(|_| ())
}

fn overlap(ctx: &mut Context<'_>, address: u64, size: u64) -> Outcome {
    let mut session = ctx.attach()?;
    session.map(BASE, SIZE)?;
    for shared in [true, false] {
        session.try_map(&memory(address, size)?, shared)?.refused_with(&[EEXIST])?;
    }
    session.in_step()
}

fn adjacent(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    session.map(BASE, SIZE)?;
    session.map(BASE + SIZE, SIZE)?;
    session.map(BASE - SIZE, SIZE)?;
    Ok(())
}

fn try_map(session: &mut Session, address: u64, size: u64) -> Result<crate::peer::Reply, Stop> {
    session.peer.call(command::DMA_MAP, &dma_map(address, size, 0, 3), &[])
}

fn impossible_ranges(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    // Whether no bytes are a mapping is not said: they may be refused or mapped.
    if let Some(error) = try_map(&mut session, BASE, 0)?.error {
        crate::log::refused(format!("no bytes with {}", crate::errno::name(error)));
    }
    session.in_step()?;
    for (address, size) in [(u64::MAX - 0xfff, 0x2000), (0x2000, u64::MAX - 0xfff)] {
        try_map(&mut session, address, size)?
            .refused()
            .map_err(|stop| stop.during(&format!("{address:#x}+{size:#x}")))?;
    }
    session.in_step()
}

fn small_argsz(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let mut request = dma_map(BASE, SIZE, 0, 3);
    request.splice(0..4, 31_u32.to_le_bytes());
    session.peer.call(command::DMA_MAP, &request, &[])?.refused()?;
    session.in_step()
}

fn unmappable_descriptor(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let event = Event::new()?;
    let request = dma_map(BASE, SIZE, 0, 3);
    session.peer.call(command::DMA_MAP, &request, &[event.as_fd()])?.refused()?;
    session.map(BASE, SIZE).map(|_| ()).map_err(|stop| stop.during("after an eventfd was refused"))
}

fn pipelined(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let ids = 1..=32;
    let mut frames = Vec::new();
    for id in ids.clone() {
        let address = BASE + u64::from(id) * SIZE;
        frames.extend(Peer::frame(id, command::DMA_MAP, 0, &dma_map(address, SIZE, 0, 3)));
    }
    session.peer.send(&frames, &[])?;
    for id in ids {
        session.peer.reply(id, command::DMA_MAP)?.ok()?;
    }
    Ok(())
}

fn unmap_echo(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    session.map(BASE, SIZE)?;
    let payload = session.try_unmap(BASE, SIZE)?.ok()?;
    expect_bytes("the entry", &payload, &dma_unmap(BASE, SIZE))
}

fn unmap_unknown(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    session.try_unmap(BASE, SIZE)?.refused()?;
    session.map(BASE, SIZE)?;
    session.try_unmap(BASE, SIZE)?.ok()?;
    session.try_unmap(BASE, SIZE)?.refused()
}

fn unmap_inexact(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    session.map(BASE, SIZE)?;
    for (address, size) in [
        (BASE, SIZE / 2),
        (BASE + SIZE / 2, SIZE / 2),
        (BASE, SIZE * 2),
        (BASE - 0x1000, SIZE + 0x1000),
        (BASE + 1, SIZE),
    ] {
        session
            .try_unmap(address, size)?
            .refused()
            .map_err(|stop| stop.during(&format!("{address:#x}+{size:#x}")))?;
    }
    session.try_unmap(BASE, SIZE)?.ok().map(|_| ())
}

fn map_again(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for _ in 0..8 {
        session.map(BASE, SIZE)?;
        session.try_unmap(BASE, SIZE)?.ok()?;
    }
    Ok(())
}

fn many(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let limit = session.capabilities.get("max_dma_maps").and_then(serde_json::Value::as_u64);
    let count = limit.unwrap_or(65535).min(256);
    for n in 0..count {
        try_map(&mut session, BASE + n * 0x2000, 0x1000)?
            .ok()
            .map_err(|stop| stop.during(&format!("mapping {}", n + 1)))?;
    }
    expect(count == 256, "256 mappings", || format!("max_dma_maps {count}"))
}

fn refusal_changes_nothing(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    session.map(BASE, SIZE)?;
    try_map(&mut session, BASE, SIZE * 4)?.refused()?;
    session.try_unmap(BASE, SIZE)?.ok()?;
    try_map(&mut session, BASE, SIZE * 4)?.ok().map(|_| ())
}
