//! REGION_READ, REGION_WRITE, REGION_WRITE_MULTI.

use serde_json::Value;

use crate::bytes::{Bytes, le64};
use crate::peer::{Reply, command};
use crate::session::{CONFIG, Session};
use crate::verdict::{expect_bytes, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

const READ: &str = "vfio-user, VFIO_USER_REGION_READ";
const WRITE: &str = "vfio-user, VFIO_USER_REGION_WRITE";
const MULTI: &str = "vfio-user, VFIO_USER_REGION_WRITE_MULTI";

/// Interrupt Line: a byte that any function stores and that does nothing.
const LINE: u64 = 0x3c;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vfio-user/region-read/1",
        title: "A read answers with offset, region, count and as many bytes",
        clause: READ,
        run: sizes,
    },
    Check {
        id: "vfio-user/region-read/2",
        title: "A byte is the same however wide the read that fetches it",
        clause: READ,
        run: widths_agree,
    },
    Check {
        id: "vfio-user/region-read/3",
        title: "A read that ends beyond its region, or wraps, is refused",
        clause: READ,
        run: |ctx| outside(ctx, |session, region, offset| session.try_read(region, offset, 4)),
    },
    Check {
        id: "vfio-user/region-read/4",
        title: "A read of a region that does not exist or has no bytes is refused",
        clause: READ,
        run: |ctx| absent(ctx, |session, region| session.try_read(region, 0, 4)),
    },
    Check {
        id: "vfio-user/region-read/5",
        title: "A count above max_data_xfer_size is refused, or ends the connection",
        clause: "vfio-user, Read and Write Operations",
        run: read_too_much,
    },
    Check {
        id: "vfio-user/region-write/1",
        title: "A write answers with offset, region and count, and can be read back",
        clause: WRITE,
        run: write_and_read,
    },
    Check {
        id: "vfio-user/region-write/2",
        title: "A posted write is done before a later command is answered",
        clause: "vfio-user, Command Concurrency",
        run: posted,
    },
    Check {
        id: "vfio-user/region-write/3",
        title: "A write that ends beyond its region, or wraps, is refused",
        clause: WRITE,
        run: |ctx| {
            outside(ctx, |session, region, offset| session.try_write(region, offset, &[0; 4]))
        },
    },
    Check {
        id: "vfio-user/region-write/4",
        title: "A write to a region that does not exist or has no bytes is refused",
        clause: WRITE,
        run: |ctx| absent(ctx, |session, region| session.try_write(region, 0, &[0; 4])),
    },
    Check {
        id: "vfio-user/region-write/5",
        title: "A count that is not the number of bytes sent is refused, and nothing is written",
        clause: WRITE,
        run: wrong_count,
    },
    Check {
        id: "vfio-user/region-write-multi/1",
        title: "All writes of a batch are done, in order, and their number is returned",
        clause: MULTI,
        run: batch,
    },
    Check {
        id: "vfio-user/region-write-multi/2",
        title: "A posted batch is done before a later command is answered",
        clause: MULTI,
        run: posted_batch,
    },
    Check {
        id: "vfio-user/region-write-multi/3",
        title: "A batch whose wr_cnt does not match its size is refused",
        clause: MULTI,
        run: wrong_batch_size,
    },
    Check {
        id: "vfio-user/region-write-multi/4",
        title: "A write of more than 8 bytes in a batch is refused",
        clause: MULTI,
        run: wide_write_in_batch,
    },
    Check {
        id: "vfio-user/region-write-multi/5",
        title: "Each write of a batch is done once",
        clause: MULTI,
        run: once,
    },
];

fn sizes(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for count in [1, 2, 4, 8, 64] {
        session.read(CONFIG, 0, count)?;
    }
    Ok(())
}

fn widths_agree(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let whole = session.read(CONFIG, 0, 64)?;
    for width in [1_u32, 2, 4] {
        let mut joined = Vec::new();
        for offset in (0..64).step_by(width as usize) {
            joined.extend(session.read(CONFIG, offset, width)?);
        }
        expect_bytes(&format!("a header read {width} bytes at a time"), &joined, &whole)?;
    }
    Ok(())
}

type Access<T> = fn(&mut Session, u32, T) -> Result<Reply, Stop>;

fn outside(ctx: &mut Context<'_>, access: Access<u64>) -> Outcome {
    let mut session = ctx.attach()?;
    for region in 0..session.info()?.regions {
        let size = session.region_info(region)?.size;
        if size == 0 {
            continue;
        }
        for offset in [size, size - 1, size - 3, u64::MAX, u64::MAX - 3] {
            access(&mut session, region, offset)?
                .refused()
                .map_err(|stop| stop.during(&format!("region {region} at {offset:#x}")))?;
        }
    }
    session.in_step()
}

fn absent(ctx: &mut Context<'_>, access: fn(&mut Session, u32) -> Result<Reply, Stop>) -> Outcome {
    let mut session = ctx.attach()?;
    let regions = session.info()?.regions;
    let mut absent = vec![regions, u32::MAX];
    for region in 0..regions {
        if session.region_info(region)?.size == 0 {
            absent.push(region);
        }
    }
    for region in absent {
        access(&mut session, region)?
            .refused()
            .map_err(|stop| stop.during(&format!("region {region}")))?;
    }
    session.in_step()
}

fn read_too_much(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let limit = session.max_data_xfer_size();
    for count in [limit + 1, u64::from(u32::MAX)] {
        let Ok(count) = u32::try_from(count) else { continue };
        // It is the client's mistake. What becomes of it is not said but that it harms no others.
        match session.try_read(CONFIG, 0, count) {
            Ok(reply) => reply.refused()?,
            Err(stop) if stop.is_closed() => {
                crate::log::refused(format!("{count} bytes: the connection closed"));
                session = ctx.attach()?;
            }
            Err(stop) => return Err(stop),
        }
        session.in_step()?;
    }
    drop(session);
    ctx.next_client_works()
}

fn write_and_read(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for value in [0x5a, 0xa5] {
        session.write8(CONFIG, LINE, value)?;
        expect_hex("Interrupt Line", session.read8(CONFIG, LINE)?, value)?;
    }
    Ok(())
}

fn posted(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for value in 1..=64 {
        let request = Session::access(CONFIG, LINE, 1).u8(value);
        session.peer.post(command::REGION_WRITE, &request.0)?;
        expect_hex("Interrupt Line", session.read8(CONFIG, LINE)?, value)?;
    }
    Ok(())
}

fn wrong_count(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    session.write8(CONFIG, LINE, 0x11)?;
    for (count, data) in [(1, vec![]), (1, vec![0x22; 2]), (2, vec![0x22]), (u32::MAX, vec![0x22])]
    {
        let request = Session::access(CONFIG, LINE, count).bytes(&data);
        session
            .peer
            .call(command::REGION_WRITE, &request.0, &[])?
            .refused()
            .map_err(|stop| stop.during(&format!("count {count}, {} bytes", data.len())))?;
    }
    expect_hex("Interrupt Line", session.read8(CONFIG, LINE)?, 0x11)
}

/// Attaches to a server that has agreed to batched writes.
fn batching(ctx: &Context<'_>) -> Result<Session, Stop> {
    let session = ctx.attach()?;
    match session.capabilities.get("write_multiple") {
        Some(Value::Bool(true)) => Ok(session),
        _ => Err(Stop::skip("the server does not offer write_multiple")),
    }
}

/// One write of a batch: 24 bytes, whatever its count.
fn one_write(offset: u64, count: u32, data: u64) -> Vec<u8> {
    one_write_to(CONFIG, offset, count, data)
}

fn one_write_to(region: u32, offset: u64, count: u32, data: u64) -> Vec<u8> {
    Session::access(region, offset, count).u64(data).0
}

fn batch(ctx: &mut Context<'_>) -> Outcome {
    let mut session = batching(ctx)?;
    let request = Bytes::new()
        .u64(3)
        .bytes(&one_write(LINE, 1, 0x11))
        .bytes(&one_write(0x0c, 1, 0x08))
        .bytes(&one_write(LINE, 1, 0x33));
    let payload = session.peer.call(command::WRITE_MULTI, &request.0, &[])?.ok()?;
    expect_eq("a reply payload of", &payload.len(), &8)?;
    expect_eq("wr_cnt", &le64(&payload, 0), &3)?;
    expect_hex("Interrupt Line", session.read8(CONFIG, LINE)?, 0x33)
}

fn posted_batch(ctx: &mut Context<'_>) -> Outcome {
    let mut session = batching(ctx)?;
    let request = Bytes::new().u64(1).bytes(&one_write(LINE, 1, 0x44));
    session.peer.post(command::WRITE_MULTI, &request.0)?;
    expect_hex("Interrupt Line", session.read8(CONFIG, LINE)?, 0x44)
}

fn wrong_batch_size(ctx: &mut Context<'_>) -> Outcome {
    let mut session = batching(ctx)?;
    session.write8(CONFIG, LINE, 0x11)?;
    for count in [0, 2, u64::from(u32::MAX), u64::MAX, u64::MAX / 24 + 2] {
        let request = Bytes::new().u64(count).bytes(&one_write(LINE, 1, 0x22));
        session
            .peer
            .call(command::WRITE_MULTI, &request.0, &[])?
            .refused()
            .map_err(|stop| stop.during(&format!("wr_cnt {count} with one write")))?;
    }
    session.in_step()
}

fn wide_write_in_batch(ctx: &mut Context<'_>) -> Outcome {
    let mut session = batching(ctx)?;
    for count in [9, u32::MAX] {
        let request = Bytes::new().u64(1).bytes(&one_write(LINE, count, 0x22));
        session.peer.call(command::WRITE_MULTI, &request.0, &[])?.refused()?;
    }
    session.in_step()
}

/// A batch that would do something else the second time: it writes a feature word, and then selects
/// the next.
fn once(ctx: &mut Context<'_>) -> Outcome {
    const SELECT: u64 = 8;
    const FEATURES: u64 = 12;
    let mut session = batching(ctx)?;
    if !ctx.profile.has_area("virtio") {
        return Err(Stop::skip("only a virtio device has registers that tell it here"));
    }
    let (region, at) = ctx.profile.common_config()?;
    session.write16(CONFIG, 4, 2)?;
    let request = Bytes::new()
        .u64(2)
        .bytes(&one_write_to(region, at + FEATURES, 4, 1))
        .bytes(&one_write_to(region, at + SELECT, 4, 1));
    session.peer.call(command::WRITE_MULTI, &request.0, &[])?.ok()?;
    expect_hex("the word selected", session.read32(region, at + SELECT)?, 1)?;
    expect_hex("features 32 to 63", session.read32(region, at + FEATURES)?, 0)?;
    session.write32(region, at + SELECT, 0)?;
    expect_hex("features 0 to 31", session.read32(region, at + FEATURES)?, 1)
}
