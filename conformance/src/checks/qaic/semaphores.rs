//! Semaphores and fences of the DMA bridge.

use understudy_client::qaic::{Activation, Request, sem};

use super::bridge::{buffer, none, responses, run};
use super::{Card, appears, doubling};
use crate::verdict::{expect, expect_eq};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qaic/semaphores":
    [1, "INIT sets a semaphore, to any value of 12 bits", "Linux uapi qaic_accel.h, QAIC_SEM_INIT; qaic_data.c, SEM_VAL_MASK", init],
    [2, "INC adds one, DEC takes one away", "Linux uapi qaic_accel.h, QAIC_SEM_INC, QAIC_SEM_DEC", inc_and_dec],
    [3, "WAIT_EQUAL waits until the value is equal", "Linux uapi qaic_accel.h, QAIC_SEM_WAIT_EQUAL", equal],
    [4, "WAIT_GT_EQ waits until the value is as large", "Linux uapi qaic_accel.h, QAIC_SEM_WAIT_GT_EQ", at_least],
    [5, "WAIT_GT_0 waits until the value is not 0, and takes one away", "Linux uapi qaic_accel.h, QAIC_SEM_WAIT_GT_0", positive],
    [6, "There are 32 semaphores, each with its own value", "Linux qaic_data.c, SEM_MAX (index of 5 bits)", thirty_two],
    [7, "A command before the transfer holds the transfer back", "Linux uapi qaic_accel.h, qaic_sem (presync)", presync],
    [8, "A command after the transfer follows it", "Linux uapi qaic_accel.h, qaic_sem (presync 0)", postsync],
    [9, "All four commands of a request are carried out", "Linux qaic_data.c, encode_reqs (sem_cmd0 to sem_cmd3)", four],
    [10, "A request that waits holds up no other, but those behind it on the same semaphore", "Linux Documentation/accel/qaic/aic100.rst, DMA Bridge", out_of_order],
    [11, "A fence on transfers to the device waits for those before it", "Linux uapi qaic_accel.h, QAIC_SEM_INSYNCFENCE", |ctx| fence(ctx, true)],
    [12, "A fence on transfers from the device waits for those before it", "Linux uapi qaic_accel.h, QAIC_SEM_OUTSYNCFENCE", |ctx| fence(ctx, false)],
    [13, "A request that is done after its semaphores rings its doorbell last", "Linux Documentation/accel/qaic/aic100.rst, DMA Bridge", doorbell_last],
    [14, "Channels have semaphores of their own", "Linux Documentation/accel/qaic/aic100.rst, DMA Bridge (per workload)", own],
);

/// A request of these commands after its transfer, of which there is none.
fn after(id: u16, commands: &[u32]) -> Request {
    let mut semaphores = [0; 4];
    semaphores.iter_mut().zip(commands).for_each(|(slot, word)| *slot = *word);
    Request { semaphores, ..none(id) }
}

/// The semaphore has this value: a request that waits for it is answered.
fn has(card: &mut Card, active: &Activation, index: u32, value: u32) -> Outcome {
    let found = run(card, active, &[after(99, &[sem::post(sem::EQUAL, index, value)])]);
    let what = format!("semaphore {index} is {value}");
    expect_eq("the id", &found.map_err(|stop| stop.during(&what))?, &vec![99])
}

/// The request waits; so does the check, a little.
fn waits(card: &mut Card, active: &Activation, request: Request, what: &str) -> Outcome {
    card.submit(active, &[request])?;
    let early = appears(card, 2, |card| Ok(card.take(active)?.is_some()))?;
    expect(!early, &format!("{what}: no response yet"), || "one".into())
}

fn set(index: u32, value: u32) -> Request {
    after(50, &[sem::post(sem::INIT, index, value)])
}

fn init(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    for value in [0, 1, 77, 0x7ff, 0xfff] {
        run(&mut card, &active, &[set(9, value)])?;
        has(&mut card, &active, 9, value)?;
    }
    Ok(())
}

fn inc_and_dec(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    run(&mut card, &active, &[set(9, 5)])?;
    run(&mut card, &active, &[after(1, &[sem::post(sem::INC, 9, 0)])])?;
    has(&mut card, &active, 9, 6)?;
    run(&mut card, &active, &[after(1, &[sem::post(sem::DEC, 9, 0)])])?;
    run(&mut card, &active, &[after(1, &[sem::post(sem::DEC, 9, 0)])])?;
    has(&mut card, &active, 9, 4)
}

fn equal(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    run(&mut card, &active, &[set(9, 5)])?;
    waits(&mut card, &active, after(1, &[sem::post(sem::EQUAL, 9, 3)]), "5 is not 3")?;
    card.submit(&active, &[set(9, 3)])?;
    let mut found = responses(&mut card, &active, 2)?;
    found.sort_unstable();
    expect_eq("the ids", &found, &vec![1, 50])
}

fn at_least(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    run(&mut card, &active, &[set(9, 5)])?;
    for value in [0, 4, 5] {
        run(&mut card, &active, &[after(1, &[sem::post(sem::AT_LEAST, 9, value)])])?;
    }
    waits(&mut card, &active, after(1, &[sem::post(sem::AT_LEAST, 9, 6)]), "5 is less than 6")?;
    card.submit(&active, &[after(2, &[sem::post(sem::INC, 9, 0)])])?;
    responses(&mut card, &active, 2)?;
    has(&mut card, &active, 9, 6)
}

fn positive(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    run(&mut card, &active, &[set(9, 2)])?;
    let take = |id| after(id, &[sem::post(sem::P, 9, 0)]);
    run(&mut card, &active, &[take(1)])?;
    has(&mut card, &active, 9, 1)?;
    run(&mut card, &active, &[take(2)])?;
    waits(&mut card, &active, take(3), "the value is 0")?;
    card.submit(&active, &[after(4, &[sem::post(sem::INC, 9, 0)])])?;
    responses(&mut card, &active, 2)?;
    has(&mut card, &active, 9, 0)
}

fn thirty_two(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    // The first three are the network's own.
    for index in 3..32 {
        run(&mut card, &active, &[set(index, index * 100)])?;
    }
    (3..32).try_for_each(|index| has(&mut card, &active, index, index * 100))
}

/// A transfer to the device with this command, and what is in the device's memory.
fn transfer(card: &mut Card, active: &Activation, command: u32) -> Result<(Request, u64), Stop> {
    let host = buffer(card, 4096)?;
    understudy_client::Platform::dma_write(&mut card.host.platform, host.iova, &[0x77; 16])?;
    let request = Request {
        id: 1,
        command: 0x19,
        source: host.iova,
        destination: active.memory,
        len: 16,
        semaphores: [command, 0, 0, 0],
        ..Request::default()
    };
    Ok((request, host.at(2048)))
}

/// The first byte of the device's memory.
fn peek(card: &mut Card, active: &Activation, at: u64) -> Result<u8, Stop> {
    let fetch =
        Request { command: 0x1a, source: active.memory, destination: at, len: 1, ..none(60) };
    run(card, active, &[fetch])?;
    let mut byte = [0];
    understudy_client::Platform::dma_read(&mut card.host.platform, at, &mut byte)?;
    Ok(byte[0])
}

fn presync(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let (request, at) = transfer(&mut card, &active, sem::pre(sem::EQUAL, 9, 1))?;
    waits(&mut card, &active, request, "the semaphore is 0")?;
    expect_eq("memory before", &peek(&mut card, &active, at)?, &0)?;
    card.submit(&active, &[set(9, 1)])?;
    responses(&mut card, &active, 2)?;
    expect_eq("memory after", &peek(&mut card, &active, at)?, &0x77)
}

fn postsync(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let (request, at) = transfer(&mut card, &active, sem::post(sem::EQUAL, 9, 1))?;
    waits(&mut card, &active, request, "the semaphore is 0")?;
    expect_eq("memory while it waits", &peek(&mut card, &active, at)?, &0x77)?;
    card.submit(&active, &[set(9, 1)])?;
    responses(&mut card, &active, 2)?;
    Ok(())
}

fn four(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let commands = [
        sem::pre(sem::INIT, 9, 10),
        sem::post(sem::INIT, 10, 20),
        sem::post(sem::INIT, 11, 30),
        sem::post(sem::INC, 11, 0),
    ];
    run(&mut card, &active, &[after(1, &commands)])?;
    for (index, value) in [(9, 10), (10, 20), (11, 31)] {
        has(&mut card, &active, index, value)?;
    }
    Ok(())
}

fn out_of_order(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let wait = |id| Request { semaphores: [sem::pre(sem::P, 9, 0), 0, 0, 0], ..none(id) };
    card.submit(&active, &[wait(1), wait(2), none(3), wait(4)])?;
    expect_eq("the id of what waits for nothing", &responses(&mut card, &active, 1)?, &vec![3])?;
    for id in [1, 2, 4] {
        card.submit(&active, &[after(9, &[sem::post(sem::INC, 9, 0)])])?;
        let mut found = responses(&mut card, &active, 2)?;
        found.sort_unstable();
        let mut wanted = vec![id, 9];
        wanted.sort_unstable();
        expect_eq("the ids", &found, &wanted)?;
    }
    Ok(())
}

fn fence(ctx: &Context<'_>, inward: bool) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let (mut request, at) = transfer(&mut card, &active, sem::pre(sem::EQUAL, 9, 1))?;
    if !inward {
        request = Request { command: 0x1a, source: active.memory, destination: at, ..request };
    }
    let bit = if inward { 1 << 30 } else { 1 << 29 };
    let fenced = after(2, &[sem::post(sem::INIT, 12, 1) | bit]);
    let other = after(3, &[sem::post(sem::INIT, 13, 1) | (bit ^ (3 << 29))]);
    card.submit(&active, &[request, fenced, other])?;
    expect_eq("the id of the other fence", &responses(&mut card, &active, 1)?, &vec![3])?;
    let early = appears(&mut card, 2, |card| Ok(card.take(&active)?.is_some()))?;
    expect(!early, "no response behind the fence", || "one".into())?;
    card.submit(&active, &[set(9, 1)])?;
    let mut found = responses(&mut card, &active, 3)?;
    found.sort_unstable();
    expect_eq("the ids", &found, &vec![1, 2, 50])
}

fn doorbell_last(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, active) = doubling(ctx)?;
    let bell = Request {
        doorbell: active.doorbells,
        doorbell_kind: 0x80,
        ..after(1, &[sem::post(sem::EQUAL, 9, 1)])
    };
    waits(&mut card, &active, bell, "the semaphore is 0")?;
    // A run would set semaphore 1.
    has(&mut card, &active, 1, 0)?;
    card.submit(&active, &[set(9, 1)])?;
    responses(&mut card, &active, 2)?;
    has(&mut card, &active, 1, 1)
}

fn own(ctx: &mut Context<'_>) -> Outcome {
    let (mut card, first) = doubling(ctx)?;
    let id = super::load(&mut card, super::USER, super::program::DOUBLE_F32)?;
    let second = super::activate(&mut card, super::USER, id, 16)?;
    run(&mut card, &first, &[set(9, 5)])?;
    has(&mut card, &second, 9, 0)?;
    has(&mut card, &first, 9, 5)
}
