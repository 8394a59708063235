//! DEVICE_RESET, and clients that come and go.

use crate::peer::{Peer, command};
use crate::session::{CONFIG, Event, INTX, MSIX, Session, irq};
use crate::verdict::{expect_bytes, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

const RESET: &str = "vfio-user, VFIO_USER_DEVICE_RESET";
const GONE: &str = "vfio-user, Client Disconnection";
const BASE: u64 = 0x10_0000;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vfio-user/reset/1",
        title: "A device that says it can be reset answers a reset without payload",
        clause: RESET,
        run: reset,
    },
    Check {
        id: "vfio-user/reset/2",
        title: "A reset puts the Command register back to zero",
        clause: RESET,
        run: command_register,
    },
    Check {
        id: "vfio-user/reset/3",
        title: "Mappings are the client's, and outlive a reset",
        clause: "vfio-user, VFIO_USER_DMA_UNMAP (only the client unmaps)",
        run: mappings_stay,
    },
    Check {
        id: "vfio-user/reconnect/1",
        title: "A client that hangs up can come back, 20 times over",
        clause: GONE,
        run: again_and_again,
    },
    Check {
        id: "vfio-user/reconnect/2",
        title: "A client that dies inside a message leaves the device usable",
        clause: GONE,
        run: dies_inside_a_message,
    },
    Check {
        id: "vfio-user/reconnect/3",
        title: "Mappings of a client that has gone are gone",
        clause: GONE,
        run: mappings_go,
    },
    Check {
        id: "vfio-user/reconnect/4",
        title: "Eventfds of a client that has gone are not signalled",
        clause: GONE,
        run: eventfds_go,
    },
    Check {
        id: "vfio-user/reconnect/5",
        title: "A client that does not read its replies can be replaced",
        clause: "vfio-user, Security Considerations",
        run: does_not_read,
    },
];

fn resettable(ctx: &Context<'_>) -> Result<Session, Stop> {
    let mut session = ctx.attach()?;
    if session.info()?.flags & 1 == 0 {
        return Err(Stop::skip("the device does not offer DEVICE_RESET"));
    }
    Ok(session)
}

fn reset(ctx: &mut Context<'_>) -> Outcome {
    let mut session = resettable(ctx)?;
    for _ in 0..3 {
        let payload = session.peer.call(command::DEVICE_RESET, &[], &[])?.ok()?;
        expect_bytes("the reply's payload", &payload, &[])?;
    }
    session.in_step()
}

fn command_register(ctx: &mut Context<'_>) -> Outcome {
    let mut session = resettable(ctx)?;
    session.write16(CONFIG, 4, 0x0406)?;
    expect_hex("Command before", session.read16(CONFIG, 4)? & 0x0406, 0x0406)?;
    session.reset()?;
    expect_hex("Command after", session.read16(CONFIG, 4)? & 0x0406, 0)
}

fn mappings_stay(ctx: &mut Context<'_>) -> Outcome {
    let mut session = resettable(ctx)?;
    session.map(BASE, 0x1000)?;
    session.reset()?;
    session.try_unmap(BASE, 0x1000)?.ok().map(|_| ())
}

fn again_and_again(ctx: &mut Context<'_>) -> Outcome {
    for round in 1..=20 {
        ctx.attach()?.in_step().map_err(|stop| stop.during(&format!("client {round}")))?;
    }
    Ok(())
}

fn dies_inside_a_message(ctx: &mut Context<'_>) -> Outcome {
    let whole = Peer::frame(1, command::REGION_READ, 0, &Session::access(CONFIG, 0, 4).0);
    for cut in [1, 15, 16, whole.len() - 1] {
        let mut session = ctx.attach()?;
        session.peer.send(&whole[..cut], &[])?;
        session.peer.shut();
        drop(session);
        ctx.next_client_works().map_err(|stop| stop.during(&format!("after {cut} bytes")))?;
    }
    Ok(())
}

fn mappings_go(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    session.map(BASE, 0x1000)?;
    drop(session);
    let mut session = ctx.attach()?;
    session.try_unmap(BASE, 0x1000)?.refused()?;
    session.map(BASE, 0x1000).map(|_| ())
}

fn eventfds_go(ctx: &mut Context<'_>) -> Outcome {
    let event = Event::new()?;
    let mut session = ctx.attach()?;
    let index = if session.irq_info(MSIX)?.count > 0 { MSIX } else { INTX };
    if session.irq_info(index)?.count == 0 {
        return Err(Stop::skip("the function has no interrupts"));
    }
    session.assign(index, 0, &event)?;
    drop(session);
    let mut session = ctx.attach()?;
    // A server may refuse to trigger what has no eventfd.
    session.set_irqs(irq::NONE | irq::TRIGGER, index, 0, 1, &[], &[])?;
    expect_eq("signals", &event.count(), &0)
}

/// Sends reads whose replies nobody takes until the server, or the socket, has had enough.
fn does_not_read(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let frame = Peer::frame(1, command::REGION_READ, 0, &Session::access(CONFIG, 0, 256).0);
    session.peer.send_until_full(&frame.repeat(64), 4096)?;
    session.peer.shut();
    drop(session);
    ctx.next_client_works()
}
