//! DEVICE_SET_IRQS in all its forms.
//!
//! Delivery is tried with interrupts that the client triggers itself, so that these checks hold for
//! any device. What a device raises is checked under `pci` and `virtio`.

use std::os::fd::AsFd;

use crate::bytes::Bytes;
use crate::peer::command;
use crate::session::{Event, INTX, MSI, MSIX, Session, irq, memory};
use crate::verdict::expect_eq;
use crate::{Check, Context, Outcome, Stop};

const CLAUSE: &str = "vfio-user, VFIO_USER_DEVICE_SET_IRQS";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vfio-user/set-irqs/1",
        title: "An eventfd given to INTx is signalled by a client's trigger",
        clause: CLAUSE,
        run: |ctx| trigger(ctx, INTX),
    },
    Check {
        id: "vfio-user/set-irqs/2",
        title: "An eventfd given to an MSI vector is signalled by a client's trigger",
        clause: CLAUSE,
        run: |ctx| trigger(ctx, MSI),
    },
    Check {
        id: "vfio-user/set-irqs/3",
        title: "An eventfd given to an MSI-X vector is signalled by a client's trigger",
        clause: CLAUSE,
        run: |ctx| trigger(ctx, MSIX),
    },
    Check {
        id: "vfio-user/set-irqs/4",
        title: "Eventfds are given to a range of vectors in one command",
        clause: CLAUSE,
        run: range_of_eventfds,
    },
    Check {
        id: "vfio-user/set-irqs/5",
        title: "DATA_BOOL triggers only the vectors whose byte is not zero",
        clause: CLAUSE,
        run: booleans,
    },
    Check {
        id: "vfio-user/set-irqs/6",
        title: "Count 0 with DATA_NONE disables all vectors of the kind",
        clause: CLAUSE,
        run: disable_all,
    },
    Check {
        id: "vfio-user/set-irqs/7",
        title: "DATA_EVENTFD without descriptors de-assigns the vectors of the range",
        clause: CLAUSE,
        run: de_assign,
    },
    Check {
        id: "vfio-user/set-irqs/8",
        title: "A new eventfd takes the place of the old one",
        clause: CLAUSE,
        run: replace,
    },
    Check {
        id: "vfio-user/set-irqs/9",
        title: "An interrupt kind beyond num_irqs is refused",
        clause: CLAUSE,
        run: unknown_index,
    },
    Check {
        id: "vfio-user/set-irqs/10",
        title: "A range of vectors that ends beyond the kind's count, or wraps, is refused",
        clause: CLAUSE,
        run: range_beyond,
    },
    Check {
        id: "vfio-user/set-irqs/11",
        title: "Two kinds of data, or none, are refused",
        clause: CLAUSE,
        run: |ctx| {
            let event = irq::EVENTFD | irq::TRIGGER;
            refused_flags(ctx, &[irq::TRIGGER, event | irq::NONE, event | irq::BOOL])
        },
    },
    Check {
        id: "vfio-user/set-irqs/12",
        title: "Two actions, or none, are refused",
        clause: CLAUSE,
        run: |ctx| {
            let both = irq::TRIGGER | irq::MASK;
            refused_flags(ctx, &[irq::NONE, irq::NONE | both, irq::NONE | irq::MASK | irq::UNMASK])
        },
    },
    Check {
        id: "vfio-user/set-irqs/13",
        title: "DATA_BOOL with fewer bytes than vectors is refused",
        clause: CLAUSE,
        run: too_few_booleans,
    },
    Check {
        id: "vfio-user/set-irqs/14",
        title: "DATA_EVENTFD with fewer descriptors than vectors is refused",
        clause: CLAUSE,
        run: too_few_eventfds,
    },
    Check {
        id: "vfio-user/set-irqs/15",
        title: "A descriptor that is no eventfd is refused",
        clause: CLAUSE,
        run: not_an_eventfd,
    },
    Check {
        id: "vfio-user/set-irqs/16",
        title: "An argsz smaller than the structure is refused",
        clause: CLAUSE,
        run: small_argsz,
    },
    Check {
        id: "vfio-user/set-irqs/17",
        title: "A maskable kind takes MASK and UNMASK with DATA_NONE and DATA_BOOL",
        clause: CLAUSE,
        run: mask_and_unmask,
    },
    Check {
        id: "vfio-user/set-irqs/18",
        title: "The reply has no payload",
        clause: CLAUSE,
        run: no_payload,
    },
];

/// Vectors of a kind, or a skip if there are fewer than `least`.
fn vectors(session: &mut Session, index: u32, least: u32) -> Result<u32, Stop> {
    let count = session.irq_info(index)?.count;
    if count < least {
        return Err(Stop::skip(format!("interrupt kind {index} has {count} vectors")));
    }
    Ok(count)
}

/// The message-signalled kind that the device has, with at least `least` vectors.
fn messages(session: &mut Session, least: u32) -> Result<(u32, u32), Stop> {
    match vectors(session, MSIX, least) {
        Ok(count) => Ok((MSIX, count)),
        Err(_) => vectors(session, MSI, least).map(|count| (MSI, count)),
    }
}

fn trigger(ctx: &mut Context<'_>, index: u32) -> Outcome {
    let mut session = ctx.attach()?;
    let last = vectors(&mut session, index, 1)? - 1;
    let event = Event::new()?;
    session.assign(index, last, &event)?;
    expect_eq("signals before the trigger", &event.count(), &0)?;
    session.trigger(index, last)?;
    expect_eq("signals after the trigger", &event.count(), &1)
}

fn events(count: u32) -> Result<Vec<Event>, Stop> {
    (0..count).map(|_| Event::new()).collect()
}

fn counts(events: &[Event]) -> Vec<u64> {
    events.iter().map(Event::count).collect()
}

/// Attaches and gives an eventfd to each of the first vectors of a message-signalled kind.
fn assigned(ctx: &Context<'_>, count: u32) -> Result<(Session, u32, Vec<Event>), Stop> {
    let mut session = ctx.attach()?;
    let (index, _) = messages(&mut session, count)?;
    let events = events(count)?;
    let fds: Vec<_> = events.iter().map(AsFd::as_fd).collect();
    session.set_irqs(irq::EVENTFD | irq::TRIGGER, index, 0, count, &[], &fds)?.ok()?;
    Ok((session, index, events))
}

fn range_of_eventfds(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, index, events) = assigned(ctx, 2)?;
    session.trigger(index, 1)?;
    expect_eq("signals", &counts(&events), &vec![0, 1])?;
    session.trigger_all(index, 0, 2, None)?;
    expect_eq("signals", &counts(&events), &vec![1, 1])
}

fn booleans(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, index, events) = assigned(ctx, 2)?;
    session.trigger_all(index, 0, 2, Some(&[0, 1]))?;
    expect_eq("signals", &counts(&events), &vec![0, 1])
}

fn disable_all(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, index, events) = assigned(ctx, 2)?;
    session.set_irqs(irq::NONE | irq::TRIGGER, index, 0, 0, &[], &[])?.ok()?;
    // A server may refuse to trigger what is disabled.
    session.set_irqs(irq::NONE | irq::TRIGGER, index, 0, 2, &[], &[])?;
    expect_eq("signals", &counts(&events), &vec![0, 0])
}

fn de_assign(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, index, events) = assigned(ctx, 2)?;
    session.set_irqs(irq::EVENTFD | irq::TRIGGER, index, 1, 1, &[], &[])?.ok()?;
    session.set_irqs(irq::NONE | irq::TRIGGER, index, 1, 1, &[], &[])?;
    session.trigger(index, 0)?;
    expect_eq("signals", &counts(&events), &vec![1, 0])
}

fn replace(ctx: &mut Context<'_>) -> Outcome {
    let (mut session, index, events) = assigned(ctx, 1)?;
    let newer = Event::new()?;
    session.assign(index, 0, &newer)?;
    session.trigger(index, 0)?;
    expect_eq("signals of the old eventfd", &counts(&events), &vec![0])?;
    expect_eq("signals of the new eventfd", &newer.count(), &1)
}

fn unknown_index(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let irqs = session.info()?.irqs;
    for index in [irqs, u32::MAX] {
        session.set_irqs(irq::NONE | irq::TRIGGER, index, 0, 1, &[], &[])?.refused()?;
    }
    session.in_step()
}

fn range_beyond(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let (index, count) = messages(&mut session, 1)?;
    let flags = irq::NONE | irq::TRIGGER;
    for (start, many) in [(count, 1), (0, count + 1), (count - 1, 2), (u32::MAX, 2), (1, u32::MAX)]
    {
        session
            .set_irqs(flags, index, start, many, &[], &[])?
            .refused()
            .map_err(|stop| stop.during(&format!("start {start}, count {many}")))?;
    }
    session.in_step()
}

fn refused_flags(ctx: &mut Context<'_>, all: &[u32]) -> Outcome {
    let mut session = ctx.attach()?;
    let (index, _) = messages(&mut session, 1)?;
    let event = Event::new()?;
    for flags in all {
        // Give each form the data that it would need, so that only the flags are at fault.
        let data: &[u8] = if flags & irq::BOOL == 0 { &[] } else { &[1] };
        let fd = [event.as_fd()];
        let fds = if flags & irq::EVENTFD == 0 { &[] } else { fd.as_slice() };
        session
            .set_irqs(*flags, index, 0, 1, data, fds)?
            .refused()
            .map_err(|stop| stop.during(&format!("flags {flags:#x}")))?;
    }
    session.in_step()
}

fn too_few_booleans(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let (index, _) = messages(&mut session, 2)?;
    session.set_irqs(irq::BOOL | irq::TRIGGER, index, 0, 2, &[1], &[])?.refused()?;
    session.set_irqs(irq::BOOL | irq::TRIGGER, index, 0, 1, &[], &[])?.refused()?;
    session.in_step()
}

fn too_few_eventfds(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let (index, _) = messages(&mut session, 2)?;
    let event = Event::new()?;
    let flags = irq::EVENTFD | irq::TRIGGER;
    session.set_irqs(flags, index, 0, 2, &[], &[event.as_fd()])?.refused()?;
    session.in_step()
}

fn not_an_eventfd(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let (index, _) = messages(&mut session, 1)?;
    let file = memory(0, 4096)?;
    let flags = irq::EVENTFD | irq::TRIGGER;
    session.set_irqs(flags, index, 0, 1, &[], &[file.as_fd()])?.refused()?;
    session.in_step()
}

fn small_argsz(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let (index, _) = messages(&mut session, 1)?;
    let request = Bytes::new().u32(19).u32(irq::NONE | irq::TRIGGER).u32(index).u32(0).u32(1);
    session.peer.call(command::SET_IRQS, &request.0, &[])?.refused()?;
    session.in_step()
}

fn mask_and_unmask(ctx: &mut Context<'_>) -> Outcome {
    const MASKABLE: u32 = 2;
    let mut session = ctx.attach()?;
    let mut tried = false;
    for index in [INTX, MSI, MSIX] {
        let info = session.irq_info(index)?;
        if info.count == 0 || info.flags & MASKABLE == 0 {
            continue;
        }
        tried = true;
        let event = Event::new()?;
        session.assign(index, 0, &event)?;
        for action in [irq::MASK, irq::UNMASK] {
            session.set_irqs(irq::NONE | action, index, 0, 1, &[], &[])?.ok()?;
            session.set_irqs(irq::BOOL | action, index, 0, 1, &[1], &[])?.ok()?;
        }
    }
    if tried { Ok(()) } else { Err(Stop::skip("no interrupt kind can be masked")) }
}

fn no_payload(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let (index, _) = messages(&mut session, 1)?;
    let event = Event::new()?;
    for (flags, count, fds) in
        [(irq::EVENTFD | irq::TRIGGER, 1, &[event.as_fd()][..]), (irq::NONE | irq::TRIGGER, 0, &[])]
    {
        let payload = session.set_irqs(flags, index, 0, count, &[], fds)?.ok()?;
        expect_eq("bytes of payload", &payload.len(), &0)?;
    }
    Ok(())
}
