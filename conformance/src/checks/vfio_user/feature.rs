//! DEVICE_FEATURE and migration data.

use crate::bytes::Bytes;
use crate::errno::{EINVAL, ENOTTY};
use crate::peer::command;
use crate::verdict::expect_bytes;
use crate::{Check, Context, Outcome};

const CLAUSE: &str = "vfio-user, VFIO_USER_DEVICE_FEATURE";
const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const PROBE: u32 = 1 << 18;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vfio-user/feature/1",
        title: "A feature that does not exist is refused with EINVAL or ENOTTY, body drained",
        clause: "vfio-user, VFIO_USER_DEVICE_FEATURE; QEMU hw/vfio-user (probe of optional features)",
        run: unknown,
    },
    Check {
        id: "vfio-user/feature/2",
        title: "A probe answers with the request's payload, or with an error",
        clause: CLAUSE,
        run: probe,
    },
    Check {
        id: "vfio-user/feature/3",
        title: "GET and SET together without PROBE are refused",
        clause: CLAUSE,
        run: get_and_set,
    },
    Check {
        id: "vfio-user/feature/4",
        title: "Migration data outside of a migration is refused",
        clause: "vfio-user, VFIO_USER_MIG_DATA_READ, VFIO_USER_MIG_DATA_WRITE",
        run: migration_data,
    },
];

fn unknown(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for index in [0x7ffe, 0xffff] {
        for (method, body) in [(GET, 0), (SET, 256), (PROBE | GET, 0)] {
            let request = Bytes::new().u32(4096).u32(index | method).bytes(&vec![0xa5; body]);
            let reply = session.peer.call(command::FEATURE, &request.0, &[])?;
            reply.refused_with(&[EINVAL, ENOTTY])?;
            session.in_step()?;
        }
    }
    Ok(())
}

fn probe(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for index in [1, 2, 6, 7, 8] {
        let request = Bytes::new().u32(8).u32(index | PROBE);
        let reply = session.peer.call(command::FEATURE, &request.0, &[])?;
        if reply.error.is_none() {
            expect_bytes("the request's payload", &reply.payload, &request.0)?;
        }
        session.in_step()?;
    }
    Ok(())
}

fn get_and_set(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for index in [1, 2] {
        let request = Bytes::new().u32(64).u32(index | GET | SET).pad(16);
        session.peer.call(command::FEATURE, &request.0, &[])?.refused()?;
    }
    session.in_step()
}

fn migration_data(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let read = Bytes::new().u32(4096).u32(1024);
    session.peer.call(command::MIG_DATA_READ, &read.0, &[])?.refused()?;
    let write = Bytes::new().u32(24).u32(16).bytes(&[0; 16]);
    session.peer.call(command::MIG_DATA_WRITE, &write.0, &[])?.refused()?;
    session.in_step()
}
