//! What a user can choose, and what the function is as a PCI device.

use understudy_device::{BarKind, BarSpec, Capability, Identity, ParameterError};

use crate::mailbox::LATEST_VERSION;
use crate::registers::{BAR_SIZE, MISC_BAR, RINGS_BAR};

/// The part whose virtual function this is. They differ in their PCI device id.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Part {
    /// C62x (Lewisburg): 37c9.
    C62x,
    /// C3xxx (Denverton): 19e3.
    C3xxx,
    /// DH895xCC (Coleto Creek): 0443.
    Dh895xcc,
}

impl Part {
    /// PCI device id of the virtual function.
    #[must_use]
    pub const fn device_id(self) -> u16 {
        match self {
            Self::C62x => 0x37c9,
            Self::C3xxx => 0x19e3,
            Self::Dh895xcc => 0x0443,
        }
    }
}

/// What a user can choose.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Which part.
    pub part: Part,
    /// Version of the mailbox protocol that the physical function speaks, 1 to 5.
    pub mailbox_version: u8,
    /// Most bytes that one request covers, and that its output takes: 65536 to 64 MiB.
    pub max_request: u32,
    /// The physical function announces a restart after so many responses; 0 for never.
    pub restart_after: u64,
    /// Milliseconds from that response to the announcement.
    pub restart_delay_ms: u32,
    /// The physical function tells of a fatal error after so many responses; 0 for never. Only
    /// drivers that speak version 5 of the protocol are told.
    pub fatal_error_after: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            part: Part::C62x,
            mailbox_version: LATEST_VERSION,
            max_request: 16 << 20,
            restart_after: 0,
            restart_delay_ms: 0,
            fatal_error_after: 0,
        }
    }
}

impl Parameters {
    /// # Errors
    /// [`ParameterError`] for the first that is out of its range.
    pub(crate) fn check(&self) -> Result<(), ParameterError> {
        ParameterError::check([
            ("mailbox_version", u64::from(self.mailbox_version), 1..=5, "1 to 5"),
            ("max_request", u64::from(self.max_request), 65536..=64 << 20, "65536 to 67108864"),
        ])
    }
}

/// The function as software finds it.
pub(crate) fn identity(part: Part) -> Identity {
    let bar = |bar| BarSpec {
        bar,
        kind: BarKind::Memory64,
        prefetchable: false,
        size: BAR_SIZE,
        shared: Vec::new(),
    };
    Identity {
        name: "qat",
        vendor_id: 0x8086,
        device_id: part.device_id(),
        subsystem_vendor_id: 0x8086,
        subsystem_id: 0x0000,
        revision_id: 0x04,
        // Co-processor.
        class_code: 0x0b_40_00,
        interrupt_pin: 0,
        bars: vec![bar(RINGS_BAR), bar(MISC_BAR)],
        capabilities: vec![
            Capability::Msi { vectors: 1, maskable: true },
            Capability::Express { flr: true },
        ],
        unmapped_read: 0x00,
    }
}
