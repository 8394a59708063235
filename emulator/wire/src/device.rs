//! What the device is: DEVICE_GET_INFO, DEVICE_GET_IRQ_INFO. Structures as in `<linux/vfio.h>`.

use std::fmt;

use crate::error::WireError;
use crate::header::Command;
use crate::layout::{self, Payload, device_info, irq_info};

/// Index of a PCI device's region (`VFIO_PCI_*_REGION_INDEX`). Open: other numbers are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionIndex(pub u32);

impl RegionIndex {
    /// BAR 0; BARs 1 to 5 follow.
    pub const BAR0: Self = Self(0);
    /// BAR 5.
    pub const BAR5: Self = Self(5);
    /// Expansion ROM.
    pub const ROM: Self = Self(6);
    /// Configuration space.
    pub const CONFIG: Self = Self(7);
    /// Legacy VGA ranges.
    pub const VGA: Self = Self(8);
    /// How many regions every PCI device has, present or empty.
    pub const COUNT: u32 = 9;
}

impl fmt::Display for RegionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(bar @ 0..=5) => write!(f, "bar{bar}"),
            Self::ROM => f.write_str("rom"),
            Self::CONFIG => f.write_str("config"),
            Self::VGA => f.write_str("vga"),
            Self(other) => write!(f, "region{other}"),
        }
    }
}

impl fmt::Debug for RegionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Index of a PCI device's interrupt type (`VFIO_PCI_*_IRQ_INDEX`). Open: other numbers are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IrqIndex(pub u32);

impl IrqIndex {
    /// INTx.
    pub const INTX: Self = Self(0);
    /// MSI.
    pub const MSI: Self = Self(1);
    /// MSI-X.
    pub const MSIX: Self = Self(2);
    /// The device had an error.
    pub const ERR: Self = Self(3);
    /// The device asks to be released.
    pub const REQ: Self = Self(4);
    /// How many types every PCI device has, present or empty.
    pub const COUNT: u32 = 5;
}

impl fmt::Display for IrqIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::INTX => f.write_str("intx"),
            Self::MSI => f.write_str("msi"),
            Self::MSIX => f.write_str("msix"),
            Self::ERR => f.write_str("err"),
            Self::REQ => f.write_str("req"),
            Self(other) => write!(f, "irq{other}"),
        }
    }
}

impl fmt::Debug for IrqIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `VFIO_DEVICE_FLAGS_*`.
#[derive(Debug, Clone, Copy)]
pub struct DeviceInfoFlags;

impl DeviceInfoFlags {
    /// DEVICE_RESET is supported.
    pub const RESET: u32 = 1 << 0;
    /// It is a PCI device.
    pub const PCI: u32 = 1 << 1;
}

/// DEVICE_GET_INFO, request and reply ("VFIO_USER_DEVICE_GET_INFO"). Only `argsz` counts in a
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Maximum size of the reply's payload in bytes; in a reply, the size needed. At least 16.
    pub argsz: u32,
    /// [`DeviceInfoFlags`].
    pub flags: u32,
    /// Number of regions.
    pub num_regions: u32,
    /// Number of interrupt types.
    pub num_irqs: u32,
}

impl DeviceInfo {
    /// A request.
    pub fn request() -> Self {
        Self::new(0, 0, 0)
    }

    /// A reply.
    pub fn new(flags: u32, num_regions: u32, num_irqs: u32) -> Self {
        Self { argsz: 16, flags, num_regions, num_irqs }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DEVICE_GET_INFO, bytes, &device_info::NUM_IRQS)?;
        Ok(Self {
            argsz: payload.argsz(&device_info::ARGSZ, device_info::NUM_IRQS.end())?,
            flags: payload.u32(&device_info::FLAGS)?,
            num_regions: payload.u32(&device_info::NUM_REGIONS)?,
            num_irqs: payload.u32(&device_info::NUM_IRQS)?,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (&device_info::ARGSZ, self.argsz.into()),
            (&device_info::FLAGS, self.flags.into()),
            (&device_info::NUM_REGIONS, self.num_regions.into()),
            (&device_info::NUM_IRQS, self.num_irqs.into()),
        ];
        layout::put(out, &device_info::NUM_IRQS, &values);
    }
}

/// DEVICE_GET_IRQ_INFO request ("VFIO_USER_DEVICE_GET_IRQ_INFO"). Its other fields, which should be
/// zero, are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetIrqInfo {
    /// Maximum size of the reply's payload in bytes, at least 16.
    pub argsz: u32,
    /// Which interrupt type.
    pub index: IrqIndex,
}

/// `VFIO_IRQ_INFO_*`.
#[derive(Debug, Clone, Copy)]
pub struct IrqInfoFlags;

impl IrqInfoFlags {
    /// Eventfds can be signalled.
    pub const EVENTFD: u32 = 1 << 0;
    /// It can be masked and unmasked.
    pub const MASKABLE: u32 = 1 << 1;
    /// It masks itself when triggered.
    pub const AUTOMASKED: u32 = 1 << 2;
    /// The number of interrupts in use cannot change without disabling them all.
    pub const NORESIZE: u32 = 1 << 3;
}

/// DEVICE_GET_IRQ_INFO reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IrqInfo {
    /// Size that the reply payload needs, in bytes.
    pub argsz: u32,
    /// [`IrqInfoFlags`].
    pub flags: u32,
    /// Which interrupt type.
    pub index: IrqIndex,
    /// How many interrupts of this type there are.
    pub count: u32,
}

impl GetIrqInfo {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let IrqInfo { argsz, index, .. } = IrqInfo::decode(bytes)?;
        Ok(Self { argsz, index })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        IrqInfo { argsz: self.argsz, flags: 0, index: self.index, count: 0 }.encode(out);
    }
}

impl IrqInfo {
    /// A reply.
    pub fn new(index: IrqIndex, flags: u32, count: u32) -> Self {
        Self { argsz: 16, flags, index, count }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DEVICE_GET_IRQ_INFO, bytes, &irq_info::COUNT)?;
        Ok(Self {
            argsz: payload.argsz(&irq_info::ARGSZ, irq_info::COUNT.end())?,
            flags: payload.u32(&irq_info::FLAGS)?,
            index: IrqIndex(payload.u32(&irq_info::INDEX)?),
            count: payload.u32(&irq_info::COUNT)?,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (&irq_info::ARGSZ, self.argsz.into()),
            (&irq_info::FLAGS, self.flags.into()),
            (&irq_info::INDEX, self.index.0.into()),
            (&irq_info::COUNT, self.count.into()),
        ];
        layout::put(out, &irq_info::COUNT, &values);
    }
}
