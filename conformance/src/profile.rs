//! What a device is, as its config space tells.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Stop;
use crate::bytes::{le16, le32};
use crate::peer::Peer;
use crate::session::{CONFIG, Session};

/// Capability ids (PCI Code and ID Assignment §2).
pub(crate) mod cap {
    pub(crate) const POWER_MANAGEMENT: u8 = 0x01;
    pub(crate) const MSI: u8 = 0x05;
    pub(crate) const VENDOR: u8 = 0x09;
    pub(crate) const EXPRESS: u8 = 0x10;
    pub(crate) const MSIX: u8 = 0x11;
}

/// A device's identity and layout, read once before its checks run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Config space at power-on: 256 or 4096 bytes.
    pub config: Vec<u8>,
    /// Capabilities in chain order, as id and offset. Cut short where the chain is broken.
    pub capabilities: Vec<(u8, u8)>,
    /// What the user says the device is, whatever its ids are.
    pub kind: Option<Kind>,
}

/// What a device is, for those whose ids do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything that speaks vfio-user.
    VfioUser,
    /// A PCI function.
    Pci,
    /// A virtio device.
    Virtio,
    /// A virtio-crypto device.
    VirtioCrypto,
    /// An Intel QAT gen2 virtual function.
    Qat,
    /// A Qualcomm Cloud AI 100.
    Qaic,
}

impl Kind {
    /// Every kind, with its name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("vfio-user", Self::VfioUser),
        ("pci", Self::Pci),
        ("virtio", Self::Virtio),
        ("virtio-crypto", Self::VirtioCrypto),
        ("qat", Self::Qat),
        ("qaic", Self::Qaic),
    ];

    /// The areas of checks that say something about such a device.
    #[must_use]
    pub fn areas(self) -> &'static [&'static str] {
        match self {
            Self::VfioUser => &["vfio-user"],
            Self::Pci => &["vfio-user", "pci"],
            Self::Virtio => &["vfio-user", "pci", "virtio"],
            Self::VirtioCrypto => &["vfio-user", "pci", "virtio", "virtio-crypto"],
            Self::Qat => &["vfio-user", "pci", "qat"],
            Self::Qaic => &["vfio-user", "pci", "qaic"],
        }
    }
}

impl Profile {
    /// Attaches to a server and reads its config space.
    ///
    /// # Errors
    /// What the server did instead of answering.
    pub fn probe(socket: &Path, limit: Duration) -> Result<Self, Stop> {
        let deadline = Instant::now() + limit;
        let mut session = Session::start(Peer::connect(socket, deadline)?, deadline)?;
        let size = session.region_info(CONFIG)?.size.min(4096);
        if size < 256 {
            return Err(Stop::fail("config space of 256 bytes or more", size.to_string()));
        }
        let mut config = Vec::new();
        for offset in (0..size).step_by(4) {
            config.extend(session.read(CONFIG, offset, 4)?);
        }
        Ok(Self::of(config))
    }

    fn of(config: Vec<u8>) -> Self {
        let mut capabilities = Vec::new();
        let first = config.get(0x34).copied().unwrap_or_default();
        let mut at = if le16(&config, 0x06) & 0x10 == 0 { 0 } else { first & !3 };
        // Longer than this, the chain is a loop.
        while at >= 0x40 && capabilities.len() < 48 {
            let Some(head) = config.get(usize::from(at)..usize::from(at) + 2) else { break };
            capabilities.push((head[0], at));
            at = head[1] & !3;
        }
        let (vendor, device) = (le16(&config, 0), le16(&config, 2));
        Self { vendor, device, config, capabilities, kind: None }
    }

    /// `1af4:1054`.
    #[must_use]
    pub fn pci_id(&self) -> String {
        format!("{:04x}:{:04x}", self.vendor, self.device)
    }

    /// Whether checks of an area say something about this device.
    #[must_use]
    pub fn has_area(&self, area: &str) -> bool {
        if let Some(kind) = self.kind {
            return kind.areas().contains(&area);
        }
        match area {
            "vfio-user" | "pci" => true,
            // Virtio 1.x §4.1.2: device ids 0x1040 + the virtio device id.
            "virtio" => self.vendor == 0x1af4 && (0x1040..0x1080).contains(&self.device),
            "virtio-crypto" => (self.vendor, self.device) == (0x1af4, 0x1054),
            // Virtual functions of C62x, C3xxx and DH895xCC.
            "qat" => self.vendor == 0x8086 && matches!(self.device, 0x37c9 | 0x19e3 | 0x0443),
            "qaic" => (self.vendor, self.device) == (0x17cb, 0xa100),
            _ => false,
        }
    }

    /// Offset of the first capability with this id.
    pub(crate) fn capability(&self, id: u8) -> Option<u8> {
        self.capabilities.iter().find(|(found, _)| *found == id).map(|(_, at)| *at)
    }

    /// Offset of a capability that the check is about.
    pub(crate) fn need(&self, id: u8, name: &str) -> Result<u64, Stop> {
        self.capability(id)
            .map(u64::from)
            .ok_or_else(|| Stop::skip(format!("the function has no {name} capability")))
    }

    /// Region and offset of a virtio device's common configuration (virtio 1.3 §4.1.4).
    pub(crate) fn common_config(&self) -> Result<(u32, u64), Stop> {
        let vendor = self.capabilities.iter().filter(|(id, _)| *id == cap::VENDOR);
        let mut heads = vendor.filter_map(|(_, at)| self.config.get(usize::from(*at)..)?.get(..16));
        let head = heads.find(|head| head[3] == 1);
        let head = head.ok_or_else(|| Stop::skip("the function has no common configuration"))?;
        Ok((u32::from(head[4]), u64::from(le32(head, 8))))
    }

    /// The BARs at power-on that are not zero or part of another: index and low register.
    pub(crate) fn config32(&self, offset: u8) -> u32 {
        le32(&self.config, usize::from(offset))
    }
}
