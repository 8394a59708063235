//! DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_REGION_IO_FDS, DEVICE_GET_IRQ_INFO.

use crate::bytes::{Bytes, le16, le32, le64};
use crate::peer::command;
use crate::profile::cap;
use crate::session::{CONFIG, INTX, MSI, MSIX, RegionInfo, Session, region_flag};
use crate::verdict::{expect, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

const DEVICE: &str = "vfio-user, VFIO_USER_DEVICE_GET_INFO";
const REGION: &str = "vfio-user, VFIO_USER_DEVICE_GET_REGION_INFO";
const IO_FDS: &str = "vfio-user, VFIO_USER_DEVICE_GET_REGION_IO_FDS";
const IRQ: &str = "vfio-user, VFIO_USER_DEVICE_GET_IRQ_INFO";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vfio-user/info/1",
        title: "The device is a PCI device with all of VFIO's PCI regions and interrupt kinds",
        clause: DEVICE,
        run: device,
    },
    Check {
        id: "vfio-user/info/2",
        title: "argsz is 16, the size of the full reply, whatever the client has room for",
        clause: DEVICE,
        run: device_argsz,
    },
    Check {
        id: "vfio-user/info/3",
        title: "An argsz with no room for the fixed reply is refused",
        clause: "vfio-user, Message sizes",
        run: small_argsz,
    },
    Check {
        id: "vfio-user/region-info/1",
        title: "Each region's info names its index, and argsz covers the reply",
        clause: REGION,
        run: every_region,
    },
    Check {
        id: "vfio-user/region-info/2",
        title: "A region beyond num_regions is refused",
        clause: REGION,
        run: region_beyond,
    },
    Check {
        id: "vfio-user/region-info/3",
        title: "Config space is 256 or 4096 bytes, readable and writable",
        clause: REGION,
        run: config_region,
    },
    Check {
        id: "vfio-user/region-info/4",
        title: "A region that can be mapped comes with one descriptor, one that cannot with none",
        clause: REGION,
        run: mappable_has_fd,
    },
    Check {
        id: "vfio-user/region-info/5",
        title: "Sparse areas are whole pages inside their region",
        clause: "vfio-user, VFIO region info cap sparse mmap",
        run: sparse_areas,
    },
    Check {
        id: "vfio-user/region-info/6",
        title: "Capabilities that do not fit argsz are left out, and argsz says what is needed",
        clause: "vfio-user, Message sizes",
        run: caps_do_not_fit,
    },
    Check {
        id: "vfio-user/region-io-fds/1",
        title: "Sub-regions, if offered, lie in the region; a region beyond num_regions is refused",
        clause: IO_FDS,
        run: io_fds,
    },
    Check {
        id: "vfio-user/irq-info/1",
        title: "Each interrupt kind's info names its index",
        clause: IRQ,
        run: every_irq,
    },
    Check {
        id: "vfio-user/irq-info/2",
        title: "An interrupt kind beyond num_irqs is refused",
        clause: IRQ,
        run: irq_beyond,
    },
    Check {
        id: "vfio-user/irq-info/3",
        title: "There is one INTx interrupt if and only if Interrupt Pin names a pin",
        clause: IRQ,
        run: intx_count,
    },
    Check {
        id: "vfio-user/irq-info/4",
        title: "INTx takes eventfds, and can be unmasked if it masks itself",
        clause: IRQ,
        run: intx_flags,
    },
    Check {
        id: "vfio-user/irq-info/5",
        title: "MSI and MSI-X counts are those of config space, and take eventfds",
        clause: IRQ,
        run: message_counts,
    },
];

fn device(ctx: &mut Context<'_>) -> Outcome {
    let info = ctx.attach()?.info()?;
    expect_eq("argsz", &info.argsz, &16)?;
    expect(info.flags & 2 != 0, "VFIO_DEVICE_FLAGS_PCI", || format!("{:#x}", info.flags))?;
    expect(info.regions >= 9, "num_regions of at least 9", || info.regions.to_string())?;
    expect(info.irqs >= 3, "num_irqs of at least 3: INTx, MSI, MSI-X", || info.irqs.to_string())
}

fn device_argsz(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for room in [16, 64, u32::MAX] {
        let request = Bytes::new().u32(room).pad(16);
        let payload = session.peer.call(command::GET_INFO, &request.0, &[])?.ok()?;
        expect_eq("a reply payload of", &payload.len(), &16)?;
        expect_eq("argsz", &le32(&payload, 0), &16)?;
    }
    Ok(())
}

fn small_argsz(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for (number, fixed) in
        [(command::GET_INFO, 16), (command::GET_REGION_INFO, 32), (command::GET_IRQ_INFO, 16)]
    {
        for argsz in [0, fixed - 1] {
            let request = Bytes::new().u32(argsz).pad(fixed as usize);
            let reply = session.peer.call(number, &request.0, &[])?;
            reply.refused().map_err(|stop| stop.during(&format!("argsz {argsz}")))?;
        }
    }
    session.in_step()
}

fn every_region(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for index in 0..session.info()?.regions {
        let info = session.region_info(index)?;
        expect_eq("index", &info.index, &index)?;
        expect_eq("argsz, the size of the reply", &(info.argsz as usize), &info.payload.len())?;
    }
    Ok(())
}

fn region_beyond(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let regions = session.info()?.regions;
    for index in [regions, u32::MAX] {
        let request = Session::region_info_request(index, 4096);
        session.peer.call(command::GET_REGION_INFO, &request, &[])?.refused()?;
    }
    session.in_step()
}

fn config_region(ctx: &mut Context<'_>) -> Outcome {
    let info = ctx.attach()?.region_info(CONFIG)?;
    expect(matches!(info.size, 256 | 4096), "256 or 4096 bytes", || info.size.to_string())?;
    let both = region_flag::READ | region_flag::WRITE;
    expect_hex("flags", info.flags & both, both)
}

fn mappable_has_fd(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for index in 0..session.info()?.regions {
        let info = session.region_info(index)?;
        let wanted = usize::from(info.flags & region_flag::MMAP != 0);
        expect(
            info.fds.len() == wanted,
            &format!("region {index} with {wanted} descriptors"),
            || info.fds.len().to_string(),
        )?;
    }
    Ok(())
}

/// Offset and size of each area of a region's sparse capability.
fn areas(info: &RegionInfo) -> Result<Vec<(u64, u64)>, Stop> {
    const SPARSE_MMAP: u16 = 1;
    let mut areas = Vec::new();
    let mut at = info.cap_offset as usize;
    // A chain of capabilities only moves forward: offsets count from the start of the info.
    while at != 0 {
        expect(at >= 32 && at + 8 <= info.payload.len(), "a capability inside the reply", || {
            format!("offset {at}")
        })?;
        if le16(&info.payload, at) == SPARSE_MMAP {
            let count = le32(&info.payload, at + 8) as usize;
            let fits = count <= info.payload.len() / 16;
            expect(fits, "areas inside the reply", || format!("{count} areas"))?;
            for slot in (0..count).map(|n| at + 16 + 16 * n) {
                areas.push((le64(&info.payload, slot), le64(&info.payload, slot + 8)));
            }
        }
        let next = le32(&info.payload, at + 4) as usize;
        expect(next == 0 || next > at, "a chain that ends", || format!("{next} after {at}"))?;
        at = next;
    }
    Ok(areas)
}

fn with_caps(session: &mut Session) -> Result<Vec<RegionInfo>, Stop> {
    let mut found = Vec::new();
    for index in 0..session.info()?.regions {
        let info = session.region_info(index)?;
        if info.flags & region_flag::CAPS != 0 {
            found.push(info);
        }
    }
    if found.is_empty() { Err(Stop::skip("no region has capabilities")) } else { Ok(found) }
}

fn sparse_areas(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for info in with_caps(&mut session)? {
        for (offset, size) in areas(&info)? {
            let inside = offset.checked_add(size).is_some_and(|end| end <= info.size);
            let whole = offset % 4096 == 0 && size % 4096 == 0 && size > 0;
            expect(inside && whole, &format!("pages of region {}", info.index), || {
                format!("{offset:#x}+{size:#x}")
            })?;
        }
    }
    Ok(())
}

fn caps_do_not_fit(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for full in with_caps(&mut session)? {
        let cut = session.region_info_within(full.index, 32)?;
        expect_eq("a reply payload of", &cut.payload.len(), &32)?;
        expect_eq("argsz, the size needed", &cut.argsz, &full.argsz)?;
    }
    Ok(())
}

fn io_fds(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let regions = session.info()?.regions;
    let request = |index: u32| Bytes::new().u32(4096).u32(0).u32(index).u32(0).0;
    session.peer.call(command::GET_REGION_IO_FDS, &request(regions), &[])?.refused()?;
    for index in 0..regions {
        let size = session.region_info(index)?.size;
        let reply = session.peer.call(command::GET_REGION_IO_FDS, &request(index), &[])?;
        // The command is optional.
        if reply.error.is_some() {
            continue;
        }
        let count = le32(&reply.payload, 12) as usize;
        expect(count == 0 || !reply.fds.is_empty(), "descriptors for sub-regions", || {
            format!("{count} sub-regions and no descriptor")
        })?;
        for slot in (0..count.min(100)).map(|n| 16 + 40 * n) {
            let (offset, len) = (le64(&reply.payload, slot), le64(&reply.payload, slot + 8));
            let inside = offset.checked_add(len).is_some_and(|end| end <= size);
            expect(inside, "a sub-region inside its region", || format!("{offset:#x}+{len:#x}"))?;
        }
    }
    session.in_step()
}

fn every_irq(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for index in 0..session.info()?.irqs {
        let info = session.irq_info(index)?;
        expect_eq("index", &info.index, &index)?;
        expect_eq("argsz", &info.argsz, &16)?;
    }
    Ok(())
}

fn irq_beyond(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let irqs = session.info()?.irqs;
    for index in [irqs, u32::MAX] {
        let request = Bytes::new().u32(16).u32(0).u32(index).pad(16);
        session.peer.call(command::GET_IRQ_INFO, &request.0, &[])?.refused()?;
    }
    session.in_step()
}

fn intx_count(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let pin = session.read8(CONFIG, 0x3d)?;
    let count = session.irq_info(INTX)?.count;
    expect_eq(&format!("with Interrupt Pin {pin}, count"), &count, &u32::from(pin != 0))
}

fn intx_flags(ctx: &mut Context<'_>) -> Outcome {
    let info = ctx.attach()?.irq_info(INTX)?;
    if info.count == 0 {
        return Err(Stop::skip("the function has no INTx interrupt"));
    }
    expect_hex("EVENTFD", info.flags & 1, 1)?;
    let [maskable, masks_itself] = [2, 4].map(|bit| info.flags & bit != 0);
    // "The client must send an UNMASK action to receive new interrupts."
    expect(maskable || !masks_itself, "MASKABLE with AUTOMASKED", || format!("{:#x}", info.flags))
}

fn message_counts(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let of = |id: u8, vectors: fn(u16) -> u32| {
        let at = ctx.profile.capability(id).map(usize::from);
        at.map_or(0, |at| vectors(le16(&ctx.profile.config, at + 2)))
    };
    let msi = of(cap::MSI, |control| 1 << (control >> 1 & 7));
    let msix = of(cap::MSIX, |control| u32::from(control & 0x7ff) + 1);
    for (name, index, vectors) in [("MSI", MSI, msi), ("MSI-X", MSIX, msix)] {
        let info = session.irq_info(index)?;
        expect_eq(&format!("{name} count"), &info.count, &vectors)?;
        expect(vectors == 0 || info.flags & 1 != 0, &format!("{name} takes eventfds"), || {
            format!("flags {:#x}", info.flags)
        })?;
    }
    Ok(())
}
