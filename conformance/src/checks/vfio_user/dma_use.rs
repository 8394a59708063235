//! What a server does with memory: only what the mapping allows. Tried with a virtio queue.

use std::os::fd::AsFd;

use understudy_client::Platform;
use understudy_client::virtio::status;
use understudy_wire::Command;

use crate::rig::{Plan, Rig};
use crate::session::{dma_map, dma_unmap, memory};
use crate::verdict::expect_bytes;
use crate::{Check, Context, Memory, Outcome, Stop};

const BASE: u64 = 0x40_0000;
const SIZE: u64 = 0x2000;
/// The half of the memory that the device writes.
const WRITTEN: u64 = BASE + 0x1000;
const READABLE: u32 = 1;
const WRITABLE: u32 = 2;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vfio-user/dma-use/1",
        title: "A second mapping is read and written like the first",
        clause: "vfio-user, VFIO_USER_DMA_MAP",
        run: second_mapping,
    },
    Check {
        id: "vfio-user/dma-use/2",
        title: "A mapping that is not writeable is not written",
        clause: "vfio-user, VFIO_USER_DMA_MAP (flags)",
        run: read_only_mapping,
    },
    Check {
        id: "vfio-user/dma-use/3",
        title: "Memory is not written after it was unmapped",
        clause: "vfio-user, VFIO_USER_DMA_UNMAP",
        run: unmapped,
    },
    Check {
        id: "vfio-user/dma-use/4",
        title: "A file that shrinks after it was mapped costs the request, not the server",
        clause: "vfio-user, Security Considerations",
        run: file_shrinks,
    },
    Check {
        id: "vfio-user/dma-use/5",
        title: "A mapping longer than its file costs the request, not the server",
        clause: "vfio-user, Security Considerations",
        run: file_too_short,
    },
];

/// A started device and further memory, mapped with these flags.
fn with_memory(ctx: &Context<'_>, flags: u32, file: u64) -> Result<(Rig, Memory), Stop> {
    if !ctx.profile.has_area("virtio") {
        return Err(Stop::skip("only devices with a virtio queue can be made to use memory here"));
    }
    let mut rig = Rig::new(ctx, Plan::default())?;
    let memory = memory(BASE, SIZE)?;
    let broken = |error: std::io::Error| Stop::skip(format!("no file for the check: {error}"));
    memory.write_at(WRITTEN, &[0xee; 64]).map_err(broken)?;
    memory.resize_file(file).map_err(broken)?;
    let client = rig.platform().client();
    let request = dma_map(BASE, SIZE, 0, flags);
    let pending = client.submit_raw(Command::DMA_MAP, &request, &[memory.as_fd()])?;
    client.finish(pending)?;
    Ok((rig, memory))
}

/// Gives the device a buffer in the further memory and waits until it says what it makes of it.
fn use_memory(rig: &mut Rig) -> Result<(), Stop> {
    rig.add_at(BASE, WRITTEN)?;
    rig.device.notify(&rig.queue)?;
    let deadline = rig.deadline();
    while rig.device.status()? & status::DEVICE_NEEDS_RESET == 0
        && !rig.queue.has_used(&mut rig.device.platform)?
    {
        if rig.platform().now() >= deadline {
            return Err(Stop::Wedged("the buffer back, or DEVICE_NEEDS_RESET".into()));
        }
        rig.platform().idle(deadline)?;
    }
    rig.settle()
}

fn written(memory: &Memory) -> Result<Vec<u8>, Stop> {
    memory.read_at(WRITTEN, 64).map_err(|error| Stop::skip(error.to_string()))
}

fn recovers(ctx: &Context<'_>, rig: Rig) -> Outcome {
    drop(rig);
    Rig::new(ctx, Plan::default())?
        .round_trip()
        .map_err(|stop| stop.during("the next client's device works"))
}

fn second_mapping(ctx: &mut Context<'_>) -> Outcome {
    let (mut rig, memory) = with_memory(ctx, READABLE | WRITABLE, SIZE)?;
    let token = rig.add_at(BASE, WRITTEN)?;
    rig.device.notify(&rig.queue)?;
    crate::verdict::expect_eq("the used buffer", &rig.used()?.token, &token)?;
    if written(&memory)? == [0xee; 64] {
        return Err(Stop::fail("something written", "the memory as it was"));
    }
    Ok(())
}

fn read_only_mapping(ctx: &mut Context<'_>) -> Outcome {
    let (mut rig, memory) = with_memory(ctx, READABLE, SIZE)?;
    use_memory(&mut rig)?;
    expect_bytes("memory", &written(&memory)?, &[0xee; 64])?;
    recovers(ctx, rig)
}

fn unmapped(ctx: &mut Context<'_>) -> Outcome {
    let (mut rig, memory) = with_memory(ctx, READABLE | WRITABLE, SIZE)?;
    let client = rig.platform().client();
    let pending = client.submit_raw(Command::DMA_UNMAP, &dma_unmap(BASE, SIZE), &[])?;
    client.finish(pending)?;
    use_memory(&mut rig)?;
    expect_bytes("memory", &written(&memory)?, &[0xee; 64])?;
    recovers(ctx, rig)
}

fn file_shrinks(ctx: &mut Context<'_>) -> Outcome {
    let (mut rig, memory) = with_memory(ctx, READABLE | WRITABLE, SIZE)?;
    memory.resize_file(0).map_err(|error| Stop::skip(error.to_string()))?;
    use_memory(&mut rig)?;
    recovers(ctx, rig)
}

fn file_too_short(ctx: &mut Context<'_>) -> Outcome {
    let mut rig = match with_memory(ctx, READABLE | WRITABLE, 0x1000) {
        Ok((rig, _)) => rig,
        // To refuse such a mapping is as good.
        Err(Stop::Fail { seen, .. }) if seen.contains("DMA_MAP") => return ctx.next_client_works(),
        Err(stop) => return Err(stop),
    };
    use_memory(&mut rig)?;
    recovers(ctx, rig)
}
