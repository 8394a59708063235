//! Structures and registers of the PCI transport (virtio 1.3 §4.1).

use understudy_client::vfio_user::SocketPlatform;
use understudy_client::virtio::{Device, feature};
use understudy_client::{Access, Platform};

use crate::bytes::{le16, le32};
use crate::profile::cap;
use crate::session::{CONFIG, Session};
use crate::verdict::{expect, expect_bytes, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "virtio/4.1.2.1/1",
        title: "Revision ID is 1 or higher and Subsystem ID 40h or higher",
        clause: "virtio 1.3 §4.1.2.1",
        run: discovery,
    },
    Check {
        id: "virtio/4.1.4/1",
        title: "Common, notification, ISR and configuration access structures are all there",
        clause: "virtio 1.3 §4.1.4.3.1, §4.1.4.4.1, §4.1.4.5.1, §4.1.4.9.1",
        run: all_structures,
    },
    Check {
        id: "virtio/4.1.4/2",
        title: "Every structure lies inside a memory BAR, and cap_len covers its fields",
        clause: "virtio 1.3 §4.1.4, §4.1.4.1",
        run: structures_fit,
    },
    Check {
        id: "virtio/4.1.4/3",
        title: "Structures are aligned: common and device configuration to 4, notifications to 2",
        clause: "virtio 1.3 §4.1.4.3.1, §4.1.4.4.1, §4.1.4.6.1",
        run: structures_aligned,
    },
    Check {
        id: "virtio/4.1.4.4/1",
        title: "notify_off_multiplier is 0 or a power of 2, and every doorbell fits",
        clause: "virtio 1.3 §4.1.4.4.1",
        run: doorbells_fit,
    },
    Check {
        id: "virtio/4.1.4.3/1",
        title: "device_feature is 0 for selectors beyond the features defined",
        clause: "virtio 1.3 §4.1.4.3.1",
        run: feature_selectors,
    },
    Check {
        id: "virtio/4.1.4.3/2",
        title: "driver_feature shows the valid bits that the driver wrote, by selector",
        clause: "virtio 1.3 §4.1.4.3.1",
        run: driver_features,
    },
    Check {
        id: "virtio/4.1.4.3/3",
        title: "device_status is 0 after a reset, and so is every queue_enable",
        clause: "virtio 1.3 §4.1.4.3.1, §2.4.1",
        run: reset_values,
    },
    Check {
        id: "virtio/4.1.4.3/4",
        title: "queue_size is a power of 2 for queues that exist, and 0 beyond num_queues",
        clause: "virtio 1.3 §4.1.4.3.1",
        run: queue_sizes,
    },
    Check {
        id: "virtio/4.1.4.3/5",
        title: "Queue registers belong to the selected queue",
        clause: "virtio 1.3 §4.1.4.3 (queue_select)",
        run: queue_select,
    },
    Check {
        id: "virtio/4.1.4.3/7",
        title: "Selectors read back what was written, each time they are read",
        clause: "virtio 1.3 §4.1.4.3 (device_feature_select, driver_feature_select, queue_select)",
        run: selectors,
    },
    Check {
        id: "virtio/4.1.4.3/6",
        title: "64-bit queue addresses can be written and read by halves",
        clause: "virtio 1.3 §4.1.3.1, §4.1.4.3",
        run: queue_addresses,
    },
    Check {
        id: "virtio/4.1.5.1.2/1",
        title: "Events are not mapped to a vector after a reset",
        clause: "virtio 1.3 §4.1.5.1.2.1",
        run: unmapped_at_reset,
    },
    Check {
        id: "virtio/4.1.5.1.2/2",
        title: "Events can be mapped to every vector, and unmapped",
        clause: "virtio 1.3 §4.1.5.1.2.1",
        run: map_events,
    },
    Check {
        id: "virtio/4.1.5.1.2/3",
        title: "A vector beyond the table is not mapped: NO_VECTOR is read",
        clause: "virtio 1.3 §4.1.5.1.2.1",
        run: map_beyond,
    },
    Check {
        id: "virtio/4.1.4.6/1",
        title: "Device configuration can be read before FEATURES_OK, in any width alike",
        clause: "virtio 1.3 §2.5.2, §4.1.3.1",
        run: config_widths,
    },
    Check {
        id: "virtio/4.1.4.9/1",
        title: "The configuration access window reads a BAR as a direct access does",
        clause: "virtio 1.3 §4.1.4.9.1",
        run: window_reads,
    },
    Check {
        id: "virtio/4.1.4.9/2",
        title: "The configuration access window writes a BAR",
        clause: "virtio 1.3 §4.1.4.9.1",
        run: window_writes,
    },
    Check {
        id: "virtio/4.1.4.9/3",
        title: "Only bar, offset, length and data of the window can be written",
        clause: "virtio 1.3 §4.1.4.9, PCI 3.0 §6.7",
        run: window_read_only_parts,
    },
];

const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
const PCI_CFG: u8 = 5;

const NO_VECTOR: u16 = 0xffff;

/// One struct virtio_pci_cap of config space.
#[derive(Debug, Clone, Copy)]
struct Structure {
    at: u8,
    cap_len: u8,
    kind: u8,
    bar: u8,
    offset: u64,
    length: u64,
}

fn structures(ctx: &Context<'_>) -> Vec<Structure> {
    let vendor = ctx.profile.capabilities.iter().filter(|(id, _)| *id == cap::VENDOR);
    vendor
        .filter_map(|(_, at)| {
            let raw = ctx.profile.config.get(usize::from(*at)..usize::from(*at) + 16)?;
            Some(Structure {
                at: *at,
                cap_len: raw[2],
                kind: raw[3],
                bar: raw[4],
                offset: le32(raw, 8).into(),
                length: le32(raw, 12).into(),
            })
        })
        .collect()
}

fn structure(ctx: &Context<'_>, kind: u8) -> Result<Structure, Stop> {
    let found = structures(ctx).into_iter().find(|s| s.kind == kind);
    found.ok_or_else(|| Stop::fail(format!("a structure of type {kind}"), "none"))
}

fn discovery(ctx: &mut Context<'_>) -> Outcome {
    let config = &ctx.profile.config;
    let revision = config.get(0x08).copied().unwrap_or_default();
    expect(revision >= 1, "Revision ID of 1 or more", || revision.to_string())?;
    let subsystem = le16(config, 0x2e);
    expect(subsystem >= 0x40, "Subsystem ID of 40h or more", || format!("{subsystem:#x}"))
}

fn all_structures(ctx: &mut Context<'_>) -> Outcome {
    for kind in [COMMON_CFG, NOTIFY_CFG, ISR_CFG, PCI_CFG] {
        structure(ctx, kind)?;
    }
    Ok(())
}

fn structures_fit(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for s in structures(ctx).iter().filter(|s| (COMMON_CFG..=PCI_CFG).contains(&s.kind)) {
        let fields = match s.kind {
            NOTIFY_CFG | PCI_CFG => 20,
            _ => 16,
        };
        expect(s.cap_len >= fields, &format!("cap_len of {fields} or more"), || {
            format!("{} in the structure of type {}", s.cap_len, s.kind)
        })?;
        if s.kind == PCI_CFG {
            continue;
        }
        expect(s.bar <= 5, "BAR 0 to 5", || s.bar.to_string())?;
        let size = session.region_info(s.bar.into())?.size;
        expect(s.length > 0 && s.offset + s.length <= size, "a structure in its BAR", || {
            format!("type {}: {:#x}+{:#x} of {size:#x}", s.kind, s.offset, s.length)
        })?;
    }
    Ok(())
}

fn structures_aligned(ctx: &mut Context<'_>) -> Outcome {
    for s in structures(ctx) {
        let align = match s.kind {
            COMMON_CFG | DEVICE_CFG => 4,
            NOTIFY_CFG => 2,
            _ => 1,
        };
        expect(s.offset % align == 0, &format!("type {} aligned to {align}", s.kind), || {
            format!("{:#x}", s.offset)
        })?;
    }
    let length = structure(ctx, COMMON_CFG)?.length;
    expect(length >= 56, "a common structure of 56 bytes or more", || length.to_string())
}

/// Registers of the common structure used here.
mod reg {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DEVICE_FEATURE: u64 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const CONFIG_MSIX_VECTOR: u64 = 0x10;
    pub(super) const NUM_QUEUES: u64 = 0x12;
    pub(super) const DEVICE_STATUS: u64 = 0x14;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_MSIX_VECTOR: u64 = 0x1a;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(super) const QUEUE_DESC: u64 = 0x20;
}

/// The common structure of a device that was found and reset.
struct Common {
    device: Device<SocketPlatform>,
    bar: u8,
    base: u64,
}

impl Common {
    fn new(ctx: &Context<'_>) -> Result<Self, Stop> {
        let device = ctx.virtio()?;
        let at = device.common();
        Ok(Self { device, bar: at.bar, base: at.offset })
    }

    fn read8(&mut self, register: u64) -> Result<u8, Stop> {
        Ok(self.device.platform.bar_u8(self.bar, self.base + register)?)
    }

    fn read16(&mut self, register: u64) -> Result<u16, Stop> {
        Ok(self.device.platform.bar_u16(self.bar, self.base + register)?)
    }

    fn read32(&mut self, register: u64) -> Result<u32, Stop> {
        Ok(self.device.platform.bar_u32(self.bar, self.base + register)?)
    }

    fn write(&mut self, register: u64, bytes: &[u8]) -> Result<(), Stop> {
        Ok(self.device.platform.bar_write(self.bar, self.base + register, bytes)?)
    }

    fn write16(&mut self, register: u64, value: u16) -> Result<(), Stop> {
        self.write(register, &value.to_le_bytes())
    }

    fn write32(&mut self, register: u64, value: u32) -> Result<(), Stop> {
        self.write(register, &value.to_le_bytes())
    }

    fn vectors(&self) -> Result<u16, Stop> {
        let msix = self.device.function.msix.as_ref();
        msix.map(|msix| msix.vectors).ok_or_else(|| Stop::skip("the function has no MSI-X"))
    }
}

fn doorbells_fit(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    let wide = common.device.offered_features()? & feature::NOTIFICATION_DATA != 0;
    let (notify, multiplier) = common.device.notifications();
    let width = if wide { 4 } else { 2 };
    let fits = multiplier == 0 || multiplier.is_power_of_two() && multiplier >= width;
    expect(fits, &format!("0, or a power of 2 from {width}"), || multiplier.to_string())?;
    for queue in 0..common.read16(reg::NUM_QUEUES)? {
        common.write16(reg::QUEUE_SELECT, queue)?;
        let offset = u64::from(common.read16(reg::QUEUE_NOTIFY_OFF)?) * u64::from(multiplier);
        expect(
            offset + u64::from(width) <= notify.len,
            &format!("the doorbell of queue {queue} in {} bytes", notify.len),
            || format!("offset {offset:#x}"),
        )?;
    }
    Ok(())
}

fn feature_selectors(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    for select in [4, 5, 31, 32, 0x8000_0000, u32::MAX] {
        common.write32(reg::DEVICE_FEATURE_SELECT, select)?;
        let what = format!("device_feature with selector {select:#x}");
        expect_hex(&what, common.read32(reg::DEVICE_FEATURE)?, 0)?;
    }
    Ok(())
}

fn driver_features(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    let offered = common.device.offered_features()?;
    let halves = [(0, offered & 0xffff_ffff), (1, offered >> 32)];
    common.device.add_status(1)?;
    common.device.add_status(2)?;
    for (select, bits) in halves {
        common.write32(reg::DRIVER_FEATURE_SELECT, select)?;
        common.write32(reg::DRIVER_FEATURE, u32::try_from(bits).unwrap_or(0))?;
    }
    for (select, bits) in halves {
        common.write32(reg::DRIVER_FEATURE_SELECT, select)?;
        let seen = u64::from(common.read32(reg::DRIVER_FEATURE)?);
        expect_hex(&format!("driver_feature with selector {select}"), seen, bits)?;
    }
    Ok(())
}

fn reset_values(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    common.device.negotiate(0, 0)?;
    common.device.setup_queue(0, 16, crate::rig::SPLIT)?;
    common.device.start()?;
    common.device.reset()?;
    expect_hex("device_status", common.read8(reg::DEVICE_STATUS)?, 0)?;
    for queue in 0..common.read16(reg::NUM_QUEUES)? {
        common.write16(reg::QUEUE_SELECT, queue)?;
        expect_eq(
            &format!("queue_enable of queue {queue}"),
            &common.read16(reg::QUEUE_ENABLE)?,
            &0,
        )?;
    }
    Ok(())
}

fn queue_sizes(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    let queues = common.read16(reg::NUM_QUEUES)?;
    expect(queues > 0, "one queue or more", || queues.to_string())?;
    for queue in 0..queues {
        common.write16(reg::QUEUE_SELECT, queue)?;
        let size = common.read16(reg::QUEUE_SIZE)?;
        let fits = size == 0 || size.is_power_of_two() && size <= 1 << 15;
        expect(fits, "0, or a power of 2 up to 32768", || format!("queue {queue}: {size}"))?;
    }
    for beyond in [queues, NO_VECTOR] {
        common.write16(reg::QUEUE_SELECT, beyond)?;
        expect_eq(&format!("queue_size of queue {beyond}"), &common.read16(reg::QUEUE_SIZE)?, &0)?;
    }
    Ok(())
}

fn queue_select(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    if common.read16(reg::NUM_QUEUES)? < 2 {
        return Err(Stop::skip("the device has one queue"));
    }
    common.device.negotiate(0, 0)?;
    for (queue, address) in [(0, 0x1111_0000), (1, 0x2222_0000)] {
        common.write16(reg::QUEUE_SELECT, queue)?;
        common.write32(reg::QUEUE_DESC, address)?;
    }
    for (queue, address) in [(0, 0x1111_0000), (1, 0x2222_0000)] {
        common.write16(reg::QUEUE_SELECT, queue)?;
        expect_hex(
            &format!("queue_desc of queue {queue}"),
            common.read32(reg::QUEUE_DESC)?,
            address,
        )?;
    }
    Ok(())
}

fn queue_addresses(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    common.device.negotiate(0, 0)?;
    common.write16(reg::QUEUE_SELECT, 0)?;
    for register in [reg::QUEUE_DESC, reg::QUEUE_DESC + 8, reg::QUEUE_DESC + 16] {
        common.write32(register + 4, 0x0000_0012)?;
        common.write32(register, 0x3456_7000)?;
        expect_hex("the lower half", common.read32(register)?, 0x3456_7000)?;
        expect_hex("the upper half", common.read32(register + 4)?, 0x0000_0012)?;
    }
    Ok(())
}

fn selectors(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    for value in [1, 0] {
        for select in [reg::DEVICE_FEATURE_SELECT, reg::DRIVER_FEATURE_SELECT] {
            common.write32(select, value)?;
            for _ in 0..2 {
                expect_hex("a feature selector", common.read32(select)?, value)?;
            }
        }
    }
    for queue in 0..common.read16(reg::NUM_QUEUES)? {
        common.write16(reg::QUEUE_SELECT, queue)?;
        for _ in 0..2 {
            expect_eq("queue_select", &common.read16(reg::QUEUE_SELECT)?, &queue)?;
        }
    }
    Ok(())
}

fn unmapped_at_reset(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    common.vectors()?;
    common.write16(reg::CONFIG_MSIX_VECTOR, 0)?;
    for queue in 0..common.read16(reg::NUM_QUEUES)? {
        common.write16(reg::QUEUE_SELECT, queue)?;
        common.write16(reg::QUEUE_MSIX_VECTOR, 0)?;
    }
    common.device.reset()?;
    expect_hex("config_msix_vector", common.read16(reg::CONFIG_MSIX_VECTOR)?, NO_VECTOR)?;
    for queue in 0..common.read16(reg::NUM_QUEUES)? {
        common.write16(reg::QUEUE_SELECT, queue)?;
        let what = format!("queue_msix_vector of queue {queue}");
        expect_hex(&what, common.read16(reg::QUEUE_MSIX_VECTOR)?, NO_VECTOR)?;
    }
    Ok(())
}

fn map_events(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    let vectors = common.vectors()?;
    common.write16(reg::QUEUE_SELECT, 0)?;
    for register in [reg::CONFIG_MSIX_VECTOR, reg::QUEUE_MSIX_VECTOR] {
        for vector in (0..vectors).chain([NO_VECTOR]) {
            common.write16(register, vector)?;
            expect_hex("the vector read", common.read16(register)?, vector)?;
        }
    }
    Ok(())
}

fn map_beyond(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    let vectors = common.vectors()?;
    common.write16(reg::QUEUE_SELECT, 0)?;
    for register in [reg::CONFIG_MSIX_VECTOR, reg::QUEUE_MSIX_VECTOR] {
        for vector in [vectors, 0x7ff, 0xfffe] {
            if vector >= vectors {
                common.write16(register, vector)?;
                expect_hex("the vector read", common.read16(register)?, NO_VECTOR)?;
            }
        }
    }
    Ok(())
}

fn config_widths(ctx: &mut Context<'_>) -> Outcome {
    let at = structures(ctx).into_iter().find(|s| s.kind == DEVICE_CFG);
    let at = at.ok_or_else(|| Stop::skip("the device has no device-specific configuration"))?;
    let mut session = ctx.attach()?;
    session.write16(CONFIG, 4, 2)?;
    let len = u32::try_from(at.length & !3).unwrap_or(0).min(256);
    let read = |session: &mut Session, width: u32| -> Result<Vec<u8>, Stop> {
        let mut joined = Vec::new();
        for offset in (0..len).step_by(width as usize) {
            joined.extend(session.read(at.bar.into(), at.offset + u64::from(offset), width)?);
        }
        Ok(joined)
    };
    let whole = read(&mut session, 4)?;
    for width in [1, 2] {
        let joined = read(&mut session, width)?;
        expect_bytes(&format!("configuration read {width} bytes at a time"), &joined, &whole)?;
    }
    Ok(())
}

fn window_reads(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    let (bar, base) = (common.bar, common.base);
    for (register, width) in
        [(reg::NUM_QUEUES, 2), (reg::DEVICE_STATUS, 1), (reg::DEVICE_FEATURE, 4)]
    {
        let mut direct = vec![0; width];
        common.device.platform.bar_read(bar, base + register, &mut direct)?;
        let mut through = vec![0; width];
        let offset = u32::try_from(base + register).unwrap_or(u32::MAX);
        common.device.window_read(bar, offset, &mut through)?;
        expect_bytes("the window's data", &through, &direct)?;
    }
    Ok(())
}

fn window_writes(ctx: &mut Context<'_>) -> Outcome {
    let mut common = Common::new(ctx)?;
    let offset = u32::try_from(common.base).unwrap_or(u32::MAX);
    for value in [1_u32, 0x55aa_1234] {
        common.device.window_write(common.bar, offset, &value.to_le_bytes())?;
        let seen = common.read32(reg::DEVICE_FEATURE_SELECT)?;
        expect_hex("device_feature_select", seen, value)?;
    }
    Ok(())
}

fn window_read_only_parts(ctx: &mut Context<'_>) -> Outcome {
    let at = u64::from(structure(ctx, PCI_CFG)?.at);
    let mut session = ctx.attach()?;
    let before = session.read(CONFIG, at, 4)?;
    session.write(CONFIG, at, &[0xff; 4])?;
    expect_bytes("ID, next, cap_len and cfg_type", &session.read(CONFIG, at, 4)?, &before)?;
    session.write8(CONFIG, at + 4, 2)?;
    expect_eq("bar", &session.read8(CONFIG, at + 4)?, &2)?;
    for (field, value) in [(8, 0x40_u32), (12, 2)] {
        session.write32(CONFIG, at + field, value)?;
        expect_hex("offset or length", session.read32(CONFIG, at + field)?, value)?;
    }
    Ok(())
}
