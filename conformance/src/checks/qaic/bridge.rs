//! DMA bridge channels: rings, transfers, doorbells, interrupts, and requests that are refused.

use understudy_client::Platform;
use understudy_client::platform::DmaBuffer;
use understudy_client::qaic::{Activation, Request, sem};
use understudy_device::Nanos;

use super::{
    Card, USER, activate, answers, appears, booted, card_with, doubles, doubling, load, pattern_of,
    program,
};
use crate::verdict::{expect, expect_bytes, expect_eq};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qaic/bridge":
    [1, "Each request that asks for it has a response, with its id", "Linux qaic_data.c, struct dbc_req, struct dbc_rsp (req_id)", ids],
    [2, "Requests and responses go round their rings", "Linux qaic_data.c, copy_exec_reqs, dbc_irq_threaded_fn", wrap],
    [3, "Data goes to the device and comes back", "Linux qaic_data.c, INBOUND_XFER, OUTBOUND_XFER", both_ways],
    [4, "A request that asks for no response has none", "Linux qaic_data.c, REQ_COMPLETION (BIT(4))", no_completion],
    [5, "Responses wait while their ring is full, and none is lost", "Linux qaic_data.c, RSPHP_OFF, RSPTP_OFF", full],
    [6, "Heads and tails follow the work", "Linux qaic_data.c, get_dbc_req_elems, get_dbc_rsp elements", pointers],
    [7, "A response interrupts its channel's vector when the ring was empty", "Linux qaic_drv.c, init_msi (i + 1); qaic_data.c, dbc_irq_handler", interrupt],
    [8, "With one vector, channels interrupt on it", "Linux qaic_drv.c, init_msi (single MSI)", |ctx| one_interrupt(ctx, 1)],
    [9, "A response to a ring that is not empty interrupts only if it is forced to", "Linux qaic_data.c, GEN_COMPLETION, struct dbc_req (cmd, BIT(7))", forced],
    [10, "Doorbells of 32, 16 and 8 bits are written", "Linux qaic_data.c, struct dbc_req (db_len, BIT(7)); uapi qaic_accel.h, db_len", doorbells],
    [11, "A doorbell that does not exist is a failure of its request", "Linux qaic_data.c, struct dbc_rsp (status)", |ctx| fails(ctx, DOORBELLS)],
    [12, "Memory of the device that is not the network's is a failure of its request", "Linux qaic_data.c, struct dbc_rsp (status)", |ctx| fails(ctx, DEVICE)],
    [13, "Memory of the host that is out of reach is a failure of its request", "Linux qaic_data.c, struct dbc_rsp (status)", |ctx| fails(ctx, HOST)],
    [14, "Commands that make no sense are a failure of their request", "Linux qaic_data.c, struct dbc_req (cmd)", |ctx| fails(ctx, COMMANDS)],
    [15, "Channels work apart from each other", "Linux qaic_data.c, struct dma_bridge_chan", apart],
    [16, "Rings out of reach stop their channel alone", "Linux qaic_data.c, struct dma_bridge_chan (dma_addr)", out_of_reach],
    [17, "A channel that is activated anew has nothing left of its former life", "Linux qaic_data.c, release_dbc, wakeup_dbc", anew],
    [18, "A transfer of no bytes is done", "Linux qaic_data.c, copy_partial_exec_reqs (resize to 0)", no_bytes],
    [19, "Memory is written before the response that tells of it", "Linux qaic_data.c, dbc_irq_threaded_fn (dma_sync after response)", before_response],
);

const TO_DEVICE: u8 = 0x19;
const FROM_DEVICE: u8 = 0x1a;
const NO_TRANSFER: u8 = 0x18;

pub(super) fn buffer(card: &mut Card, len: usize) -> Result<DmaBuffer, Stop> {
    Ok(card.host.platform.dma_alloc(len, 4096)?)
}

/// Submits and waits for as many responses. Their statuses must be 0; their ids are returned.
pub(super) fn run(
    card: &mut Card,
    active: &Activation,
    requests: &[Request],
) -> Result<Vec<u16>, Stop> {
    card.submit(active, requests)?;
    responses(card, active, requests.len())
}

pub(super) fn responses(
    card: &mut Card,
    active: &Activation,
    count: usize,
) -> Result<Vec<u16>, Stop> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let (id, status) = card.wait_response(active)?;
        expect_eq(&format!("the status of request {id}"), &status, &0)?;
        ids.push(id);
    }
    Ok(ids)
}

/// A request that does nothing but answer.
pub(super) fn none(id: u16) -> Request {
    Request { id, command: NO_TRANSFER, ..Request::default() }
}

fn ids(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let wanted = vec![0, 1, 0xffff, 0x1234];
    let requests: Vec<Request> = wanted.iter().map(|id| none(*id)).collect();
    expect_eq("the ids", &run(&mut card, &active, &requests)?, &wanted)
}

fn wrap(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    for elements in [2, 3, 16, 1024] {
        let active = activate(&mut card, USER, id, elements)?;
        for round in 0..2100 / elements.max(16) {
            let id = u16::try_from(round).unwrap_or(0);
            expect_eq("the id", &run(&mut card, &active, &[none(id)])?, &vec![id])?;
        }
        card.deactivate(USER, active)?;
    }
    Ok(())
}

fn both_ways(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let (from, to) = (buffer(&mut card, 4096)?, buffer(&mut card, 8192)?);
    for (offset, len) in [(0, 16), (3, 1), (5, 11), (0, 4096), (100, 3996)] {
        let data = pattern_of(len);
        card.host.platform.dma_write(from.at(offset), &data)?;
        card.host.platform.dma_write(to.iova, &[0xa5; 8192])?;
        let len = u32::try_from(len).unwrap_or(0);
        let place = active.memory + offset as u64;
        let send = Request {
            id: 1,
            command: TO_DEVICE,
            source: from.at(offset),
            destination: place,
            len,
            ..Request::default()
        };
        let fetch = Request {
            id: 2,
            command: FROM_DEVICE,
            source: place,
            destination: to.at(offset),
            len,
            ..Request::default()
        };
        // One after the other: only fences and semaphores keep an order.
        run(&mut card, &active, &[send])?;
        run(&mut card, &active, &[fetch])?;
        let mut found = vec![0; 8192];
        card.host.platform.dma_read(to.iova, &mut found)?;
        let mut wanted = vec![0xa5; 8192];
        wanted[offset..offset + data.len()].copy_from_slice(&data);
        expect_bytes("all of the host's memory", &found, &wanted)?;
    }
    Ok(())
}

fn no_completion(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let silent = Request { command: 0x08, ..none(7) };
    let requests = [silent, none(1), silent, silent, none(2)];
    card.submit(&active, &requests)?;
    expect_eq("the ids", &responses(&mut card, &active, 2)?, &vec![1, 2])?;
    let more = appears(&mut card, 2, |card| Ok(card.take(&active)?.is_some()))?;
    expect(!more, "no other response", || "one".into())?;
    // It is done all the same.
    let host = buffer(&mut card, 4096)?;
    let data = pattern_of(64);
    card.host.platform.dma_write(host.iova, &data)?;
    let send = Request {
        id: 3,
        command: TO_DEVICE,
        source: host.iova,
        destination: active.memory,
        len: 64,
        ..Request::default()
    };
    run(&mut card, &active, &[send])?;
    let back = host.at(2048);
    let fetch = Request { id: 4, command: 0x0a, source: active.memory, destination: back, ..send };
    card.submit(&active, &[fetch])?;
    let mut found = vec![0; 64];
    let done = appears(&mut card, 1000, |card| {
        card.host.platform.dma_read(back, &mut found)?;
        Ok(found.iter().any(|byte| *byte != 0))
    })?;
    expect(done, "data without a response", || "none".into())?;
    expect_bytes("the data", &found, &data)
}

fn full(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let active = activate(&mut card, USER, id, 4)?;
    for round in 0..3 {
        for step in 0..3 {
            let head = card.bridge_read(active.channel, 0)?;
            card.submit(&active, &[none(round * 3 + step)])?;
            let taken =
                appears(&mut card, 500, |card| Ok(card.bridge_read(active.channel, 0)? != head))?;
            expect(taken, "a request that is taken", || "none".into())?;
        }
    }
    expect_eq("the ids", &responses(&mut card, &active, 9)?, &(0..9).collect::<Vec<u16>>())
}

fn pointers(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    for round in 1..130_u32 {
        card.submit(&active, &[none(1)])?;
        let there = appears(&mut card, 1000, |card| {
            Ok(card.bridge_read(active.channel, 12)? == round % 64)
        })?;
        expect(there, "a response tail that follows", || "none".into())?;
        let head = card.bridge_read(active.channel, 0)?;
        expect_eq("the request head", &head, &(round % 64))?;
        responses(&mut card, &active, 1)?;
    }
    Ok(())
}

/// A device that interrupts, with two networks on channels of their own.
fn interrupting(ctx: &Context<'_>, vectors: u16) -> Result<(Card, [Activation; 2]), Stop> {
    let mut card = card_with(ctx, vectors)?;
    card.power_up()?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let networks = [activate(&mut card, USER, id, 64)?, activate(&mut card, USER, id, 64)?];
    for vector in 0..vectors {
        while card.host.platform.wait_interrupt(vector, Nanos(0))? {}
    }
    Ok((card, networks))
}

/// Vectors that have interrupted, once this one has.
fn one_interrupt(ctx: &Context<'_>, vectors: u16) -> Outcome {
    let (mut card, networks) = interrupting(ctx, vectors)?;
    for active in networks {
        let own = u16::try_from(active.channel + 1).unwrap_or(0);
        let wanted = if own < vectors { own } else { 0 };
        card.submit(&active, &[none(3)])?;
        let left = u64::try_from(ctx.left().as_nanos()).unwrap_or(u64::MAX);
        let deadline = card.host.now().plus(left);
        if !card.host.platform.wait_interrupt(wanted, deadline)? {
            return Err(Stop::Wedged(format!("vector {wanted} for channel {}", active.channel)));
        }
        for vector in (0..vectors).filter(|vector| *vector != wanted) {
            let other = card.host.platform.wait_interrupt(vector, Nanos(0))?;
            expect(!other, "no other vector", || format!("vector {vector}"))?;
        }
        expect_eq("the id", &responses(&mut card, &active, 1)?, &vec![3])?;
    }
    Ok(())
}

fn interrupt(ctx: &mut Context<'_>) -> Outcome {
    one_interrupt(ctx, 32)
}

fn forced(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, [active, _]) = interrupting(ctx, 32)?;
    let vector = u16::try_from(active.channel + 1).unwrap_or(0);
    let comes = |card: &mut Card, millis: u64| {
        let deadline = card.host.now().plus(millis * 1_000_000);
        Ok::<bool, Stop>(card.host.platform.wait_interrupt(vector, deadline)?)
    };
    card.submit(&active, &[none(1)])?;
    expect(comes(&mut card, 2000)?, "an interrupt for the first response", || "none".into())?;
    card.submit(&active, &[none(2)])?;
    expect(!comes(&mut card, 3)?, "none while that is not taken", || "one".into())?;
    card.submit(&active, &[Request { command: NO_TRANSFER | 0x80, ..none(3) }])?;
    expect(comes(&mut card, 2000)?, "an interrupt that is forced", || "none".into())?;
    expect_eq("the ids", &responses(&mut card, &active, 3)?, &vec![1, 2, 3])
}

fn doorbells(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let host = buffer(&mut card, 4096)?;
    for kind in [0x80, 0x81, 0x82] {
        let bell = Request {
            doorbell: active.doorbells + 4,
            doorbell_kind: kind,
            doorbell_data: 1,
            ..none(1)
        };
        // A doorbell of ours starts a run, whose end semaphore 1 tells.
        let output = Request {
            id: 2,
            command: FROM_DEVICE,
            source: active.memory + 4096,
            destination: host.iova,
            len: 16,
            semaphores: [sem::pre(sem::P, 1, 0), 0, 0, 0],
            ..Request::default()
        };
        expect_eq("the ids", &run(&mut card, &active, &[bell, output])?, &vec![1, 2])?;
    }
    Ok(())
}

/// Requests that must fail, made from one that is in order.
type Bad = fn(&Activation, Request) -> Vec<(&'static str, Request)>;

const DOORBELLS: Bad = |active, good| {
    let bell = |kind, doorbell| Request { doorbell_kind: kind, doorbell, doorbell_data: 1, ..good };
    vec![
        ("a doorbell elsewhere", bell(0x80, 0x1000)),
        ("a doorbell that is not aligned", bell(0x80, active.doorbells + 2)),
        ("a doorbell at the end of all", bell(0x80, u64::MAX - 3)),
        ("a doorbell of a width that is none", bell(0x83, active.doorbells)),
    ]
};

const DEVICE: Bad = |active, good| {
    vec![
        ("before the memory", Request { destination: active.memory - 1, ..good }),
        ("beyond the memory", Request { len: 1 << 20, ..good }),
        ("an endless length", Request { len: u32::MAX, ..good }),
        ("at the end of all", Request { destination: u64::MAX - 3, ..good }),
        ("address 0", Request { destination: 0, ..good }),
    ]
};

const HOST: Bad = |active, good| {
    let back = Request { command: FROM_DEVICE, source: active.memory, ..good };
    vec![
        ("from nowhere", Request { source: 0x10, ..good }),
        ("to nowhere", Request { destination: 0x10, ..back }),
        ("at the end of all", Request { source: u64::MAX - 3, ..good }),
    ]
};

const COMMANDS: Bad = |_, good| {
    vec![
        ("both ways at once", Request { command: 0x1b, ..good }),
        (
            "an unknown semaphore operation",
            Request { semaphores: [sem::post(7, 0, 0), 0, 0, 0], ..good },
        ),
        (
            "two commands before the transfer",
            Request { semaphores: [sem::pre(1, 9, 0), sem::pre(1, 9, 0), 0, 0], ..good },
        ),
    ]
};

fn fails(ctx: &Context<'_>, bad: Bad) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let host = buffer(&mut card, 4096)?;
    let good = Request {
        id: 9,
        command: TO_DEVICE,
        source: host.iova,
        destination: active.memory,
        len: 16,
        ..Request::default()
    };
    for (what, request) in bad(&active, good) {
        card.submit(&active, &[request])?;
        let (id, status) =
            card.wait_response(&active).map_err(|error| Stop::from(error).during(what))?;
        expect_eq("the id", &id, &9)?;
        expect(status != 0, &format!("{what}: a failure"), || "success".into())?;
        crate::log::refused(format!("{what}, with status {status}"));
        run(&mut card, &active, &[good]).map_err(|stop| stop.during(&format!("after {what}")))?;
    }
    doubles(&mut card, &active)
}

fn apart(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let mut networks = Vec::new();
    for user in 1..=4 {
        let id = load(&mut card, user, program::DOUBLE_F32)?;
        networks.push(activate(&mut card, user, id, 16)?);
    }
    // A request that waits for ever on the first does not keep the others.
    let stuck = Request { semaphores: [sem::pre(sem::EQUAL, 9, 5), 0, 0, 0], ..none(1) };
    card.submit(&networks[0], &[stuck])?;
    for active in &networks[1..] {
        doubles(&mut card, active)?;
    }
    let none_yet = card.take(&networks[0])?;
    expect_eq("a response of what waits", &none_yet, &None)
}

fn out_of_reach(ctx: &mut Context<'_>) -> Outcome {
    use super::transaction;
    use understudy_client::qaic::Transaction;
    let (mut card, good) = doubling(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    let minus_one = u32::MAX;
    let command = Transaction::command(&[9, 1, 0, id, 0, minus_one, 1, minus_one, 1, 0, 0, 0]);
    let mut body = 0x1000_u64.to_le_bytes().to_vec();
    body.extend(0x3000_u64.to_le_bytes());
    for word in [16_u32, 16, 8192, 0] {
        body.extend(word.to_le_bytes());
    }
    let answer = card.request(USER, &[command, Transaction::new(transaction::ACTIVATE, body)])?;
    let first = answer.first().ok_or_else(|| Stop::fail("an answer", "none"))?;
    if first.word(1) == 0 {
        card.bridge_write(first.word(3), 4, 1)?;
        answers(&mut card)?;
    }
    doubles(&mut card, &good)
}

fn anew(ctx: &mut Context<'_>) -> Outcome {
    let mut card = booted(ctx)?;
    let id = load(&mut card, USER, program::DOUBLE_F32)?;
    for _ in 0..10 {
        let active = activate(&mut card, USER, id, 16)?;
        let stuck = Request { semaphores: [sem::pre(sem::EQUAL, 9, 5), 0, 0, 0], ..none(1) };
        let init = Request { semaphores: [sem::post(sem::INIT, 8, 77), 0, 0, 0], ..none(2) };
        card.submit(&active, &[stuck, init])?;
        responses(&mut card, &active, 1)?;
        card.deactivate(USER, active)?;
        let again = activate(&mut card, USER, id, 16)?;
        for at in [0, 4, 8, 12] {
            expect_eq("a pointer of the channel", &card.bridge_read(again.channel, at)?, &0)?;
        }
        let zero = Request { semaphores: [sem::pre(sem::EQUAL, 8, 0), 0, 0, 0], ..none(3) };
        expect_eq("the id", &run(&mut card, &again, &[zero])?, &vec![3])?;
        card.deactivate(USER, again)?;
    }
    Ok(())
}

fn no_bytes(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let host = buffer(&mut card, 64)?;
    let send =
        Request { command: TO_DEVICE, source: host.iova, destination: active.memory, ..none(1) };
    let fetch =
        Request { command: FROM_DEVICE, source: active.memory, destination: host.iova, ..none(2) };
    expect_eq("the ids", &run(&mut card, &active, &[send, fetch])?, &vec![1, 2])
}

fn before_response(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let (from, to) = (buffer(&mut card, 4096)?, buffer(&mut card, 4096)?);
    let len = 4096;
    for round in 0..50_u8 {
        card.host.platform.dma_write(from.iova, &[round; 4096])?;
        let send = Request {
            command: TO_DEVICE,
            source: from.iova,
            destination: active.memory,
            len,
            ..none(1)
        };
        run(&mut card, &active, &[send])?;
        let fetch = Request {
            command: FROM_DEVICE,
            source: active.memory,
            destination: to.iova,
            len,
            ..none(2)
        };
        card.submit(&active, &[fetch])?;
        while card.take(&active)?.is_none() {
            if ctx.left().is_zero() {
                return Err(Stop::Wedged("a response".into()));
            }
        }
        let mut found = [0; 4096];
        card.host.platform.dma_read(to.iova, &mut found)?;
        expect_bytes("the data", &found, &[round; 4096])?;
    }
    Ok(())
}
