//! The PCI function of a device.

use understudy_device::{Bar, BarKind, BarSpec, Capability, Identity};

use crate::contract::Description;
use crate::layout::{MODERN_DEVICE_ID, VENDOR_ID, cap};
use crate::registers::{
    COMMON, COMMON_OFFSET, DEVICE_OFFSET, ISR, ISR_OFFSET, MODERN_BAR, MODERN_SIZE, MSIX_BAR,
    NOTIFY_MULTIPLIER, NOTIFY_OFFSET,
};

/// The PCI function of a device: layout as QEMU's, so that what works there works here.
pub(super) fn identity(description: &Description) -> Identity {
    let queues = u32::try_from(description.queues.len()).unwrap_or(u32::MAX);
    // One vector each, and one for the configuration.
    let vectors = description.queues.len() + 1;
    let table_len = vectors.next_multiple_of(64) * 16;
    let msix_size = (table_len * 2).next_power_of_two().max(0x1000);
    let pba = u32::try_from(msix_size / 2).unwrap_or(u32::MAX);
    let common = structure(cap::COMMON, COMMON_OFFSET, COMMON.size, None);
    let isr = structure(cap::ISR, ISR_OFFSET, ISR.size, None);
    let device = structure(cap::DEVICE, DEVICE_OFFSET, 0x1000, None);
    let notify_len = queues.saturating_mul(NOTIFY_MULTIPLIER);
    let notify = structure(cap::NOTIFY, NOTIFY_OFFSET, notify_len, Some(NOTIFY_MULTIPLIER));
    Identity {
        name: description.name,
        vendor_id: VENDOR_ID,
        device_id: MODERN_DEVICE_ID + description.device_id,
        subsystem_vendor_id: VENDOR_ID,
        // 0x40 and above for devices without a legacy interface (virtio 1.3 §4.1.2.1).
        subsystem_id: 0x1100,
        revision_id: 1,
        class_code: description.class_code,
        interrupt_pin: 1,
        bars: vec![
            BarSpec {
                bar: Bar(MSIX_BAR),
                kind: BarKind::Memory32,
                prefetchable: false,
                size: msix_size as u64,
                shared: Vec::new(),
            },
            BarSpec {
                bar: Bar(MODERN_BAR),
                kind: BarKind::Memory64,
                prefetchable: true,
                size: MODERN_SIZE,
                shared: Vec::new(),
            },
        ],
        capabilities: vec![
            Capability::PowerManagement,
            Capability::Express { flr: true },
            Capability::Msix {
                vectors: u16::try_from(vectors).unwrap_or(u16::MAX),
                table: (Bar(MSIX_BAR), 0),
                pba: (Bar(MSIX_BAR), pba),
            },
            common,
            isr,
            device,
            notify,
            Capability::VirtioConfigWindow { cfg_type: cap::PCI },
        ],
        unmapped_read: 0,
    }
}

/// A `struct virtio_pci_cap` from its `cfg_type` on (virtio 1.3 §4.1.4), with the extra word of
/// `struct virtio_pci_notify_cap`.
fn structure(cfg_type: u8, offset: u64, len: u32, extra: Option<u32>) -> Capability {
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    let mut body = vec![cfg_type, MODERN_BAR, 0, 0, 0];
    body.extend_from_slice(&offset.to_le_bytes());
    body.extend_from_slice(&len.to_le_bytes());
    if let Some(extra) = extra {
        body.extend_from_slice(&extra.to_le_bytes());
    }
    Capability::Vendor { body }
}
