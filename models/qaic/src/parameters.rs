//! What a user can choose, and what the function is as a PCI device.

use understudy_device::{BarKind, BarSpec, Capability, Identity};

use crate::registers::{BRIDGE_BAR, MHI_BAR, SPARE_BAR};

/// What the device does first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Boot {
    /// The primary boot loader waits for firmware, as on a card.
    Pbl,
    /// The runtime firmware is there: no firmware files are needed.
    Amss,
}

/// What a user can choose.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Where the device starts.
    pub boot: Boot,
    /// Messages of the control channel carry CRCs.
    pub crc: bool,
    /// Megabytes of device memory, 16 to 32768.
    pub memory_mb: u32,
    /// The device crashes once (SYS_ERR) after so many runs of networks; 0 for never.
    pub crash_after: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { boot: Boot::Pbl, crc: true, memory_mb: 2048, crash_after: 0 }
    }
}

/// The function as software finds it.
pub(crate) fn identity() -> Identity {
    let bar = |bar, size| BarSpec {
        bar,
        kind: BarKind::Memory64,
        prefetchable: false,
        size,
        shared: Vec::new(),
    };
    Identity {
        name: "qaic",
        vendor_id: 0x17cb,
        device_id: 0xa100,
        subsystem_vendor_id: 0x17cb,
        subsystem_id: 0xa100,
        revision_id: 0x00,
        // Processing accelerator.
        class_code: 0x12_00_00,
        interrupt_pin: 0,
        bars: vec![bar(MHI_BAR, 0x1000), bar(BRIDGE_BAR, 0x20_0000), bar(SPARE_BAR, 0x1_0000)],
        capabilities: vec![
            Capability::PowerManagement,
            Capability::Msi { vectors: 32, maskable: true },
            Capability::Express { flr: false },
        ],
        unmapped_read: 0x00,
    }
}
