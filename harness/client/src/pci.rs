//! The PCI part of a driver: discovery, BARs, bus mastering, MSI-X.
//!
//! PCI Local Bus 3.0 §6 and PCI Express 4.0 §7; names follow the specifications.

use crate::error::{DriverError, PlatformError};
use crate::platform::{Access, Interrupts, Platform};

const COMMAND: u64 = 0x04;
const STATUS: u64 = 0x06;
const BAR0: u64 = 0x10;
const CAPABILITIES: u64 = 0x34;
const EXTENDED: u64 = 0x100;

const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;
const COMMAND_INTX_DISABLE: u16 = 1 << 10;
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// Capability IDs that drivers here look for.
pub mod cap {
    /// Message Signalled Interrupts.
    pub const MSI: u8 = 0x05;
    /// Vendor specific.
    pub const VENDOR: u8 = 0x09;
    /// PCI Express.
    pub const EXPRESS: u8 = 0x10;
    /// MSI-X.
    pub const MSIX: u8 = 0x11;
}

/// Addresses handed to BARs start here. Nothing decodes them in a test, but they are plausible:
/// aligned, and for 64-bit BARs above what 32 bits can say.
const WINDOW_32: u64 = 0xc000_0000;
const WINDOW_64: u64 = 0x40_0000_0000;

/// A base address register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Index, 0 to 5.
    pub index: u8,
    /// Size in bytes.
    pub size: u64,
    /// Decodes 64-bit addresses.
    pub is_64bit: bool,
    /// Prefetchable.
    pub prefetchable: bool,
    /// I/O space.
    pub io: bool,
    /// The address that was assigned.
    pub address: u64,
}

/// A capability of config space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilityAt {
    /// Capability ID; for an extended capability, 16 bits of it.
    pub id: u16,
    /// Offset in config space.
    pub offset: u64,
}

/// The MSI-X capability, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Msix {
    /// Offset of the capability in config space.
    pub offset: u64,
    /// Entries of the table.
    pub vectors: u16,
    /// BAR and offset of the table.
    pub table: (u8, u64),
    /// BAR and offset of the pending bits.
    pub pending: (u8, u64),
}

/// A function as discovery found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Revision ID.
    pub revision: u8,
    /// Class code, `0xbbsspp`.
    pub class: u32,
    /// Subsystem Vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
    /// Interrupt Pin: 0 for none.
    pub interrupt_pin: u8,
    /// BARs that exist.
    pub bars: Vec<Bar>,
    /// Capabilities in chain order.
    pub capabilities: Vec<CapabilityAt>,
    /// Extended capabilities in chain order.
    pub extended: Vec<CapabilityAt>,
    /// MSI-X, if the function has it.
    pub msix: Option<Msix>,
}

impl Function {
    /// Reads config space, sizes all BARs and gives them addresses. Leaves memory decoding and bus
    /// mastering off.
    ///
    /// # Errors
    /// [`DriverError::BadConfig`] if config space is inconsistent.
    pub fn discover(p: &mut impl Platform) -> Result<Self, DriverError> {
        let vendor = p.config_u16(0x00)?;
        let device = p.config_u16(0x02)?;
        if vendor == 0xffff {
            return Err(DriverError::WrongDevice { vendor, device });
        }
        if p.config_u8(0x0e)? & 0x7f != 0 {
            return Err(bad(0x0e, "not a type 0 header"));
        }
        set_command(p, COMMAND_MEMORY | COMMAND_MASTER, 0)?;
        let bars = size_bars(p)?;
        let capabilities = walk_capabilities(p)?;
        let extended = walk_extended(p)?;
        let msix = capabilities.iter().find(|c| c.id == u16::from(cap::MSIX));
        let msix = msix.map(|at| read_msix(p, at.offset, &bars)).transpose()?;
        Ok(Self {
            vendor,
            device,
            revision: p.config_u8(0x08)?,
            class: p.config_u32(0x08)? >> 8,
            subsystem_vendor: p.config_u16(0x2c)?,
            subsystem: p.config_u16(0x2e)?,
            interrupt_pin: p.config_u8(0x3d)?,
            bars,
            capabilities,
            extended,
            msix,
        })
    }

    /// The BAR of that index.
    #[must_use]
    pub fn bar(&self, index: u8) -> Option<&Bar> {
        self.bars.iter().find(|bar| bar.index == index)
    }

    /// Capabilities of one kind, in chain order.
    pub fn capabilities(&self, id: u8) -> impl Iterator<Item = CapabilityAt> + '_ {
        self.capabilities.iter().copied().filter(move |c| c.id == u16::from(id))
    }

    /// Sets Memory Space Enable and Bus Master Enable.
    ///
    /// # Errors
    /// If they do not stay set, or an access fails.
    pub fn enable(&self, p: &mut impl Platform) -> Result<(), DriverError> {
        let wanted = COMMAND_MEMORY | COMMAND_MASTER;
        let found = set_command(p, 0, wanted)?;
        if found & wanted != wanted {
            let (written, found) = (u64::from(wanted), u64::from(found));
            return Err(DriverError::NotKept { register: "Command", written, found });
        }
        Ok(())
    }

    /// Sets or clears Bus Master Enable alone.
    ///
    /// # Errors
    /// If an access fails.
    pub fn bus_master(&self, p: &mut impl Platform, on: bool) -> Result<(), DriverError> {
        let (clear, set) = if on { (0, COMMAND_MASTER) } else { (COMMAND_MASTER, 0) };
        set_command(p, clear, set)?;
        Ok(())
    }

    /// Sets up the interrupts in the function and has the platform receive them.
    ///
    /// MSI-X is enabled with the function masked, as operating systems do, so that no vector fires
    /// half programmed. Messages are addressed to the x86 interrupt window; hosts here deliver
    /// vectors by their number.
    ///
    /// # Errors
    /// [`PlatformError::NoInterrupts`] if the function lacks the kind or has fewer vectors.
    pub fn connect(&self, p: &mut impl Platform, kind: Interrupts) -> Result<(), DriverError> {
        if let Some(msix) = &self.msix {
            let control = p.config_u16(msix.offset + 2)?;
            p.config_write(msix.offset + 2, &(control & !MSIX_ENABLE).to_le_bytes())?;
        }
        match kind {
            Interrupts::None => {
                set_command(p, 0, COMMAND_INTX_DISABLE)?;
                p.connect_interrupts(kind)?;
            }
            Interrupts::Intx => {
                if self.interrupt_pin == 0 {
                    return Err(PlatformError::NoInterrupts.into());
                }
                p.connect_interrupts(kind)?;
                set_command(p, COMMAND_INTX_DISABLE, 0)?;
            }
            Interrupts::Msi(vectors) => self.connect_msi(p, vectors)?,
            Interrupts::Msix(vectors) => self.connect_msix(p, vectors)?,
        }
        Ok(())
    }

    fn connect_msix(&self, p: &mut impl Platform, vectors: u16) -> Result<(), DriverError> {
        let msix = self.msix.as_ref().filter(|msix| vectors <= msix.vectors);
        let msix = msix.ok_or(PlatformError::NoInterrupts)?;
        set_command(p, 0, COMMAND_INTX_DISABLE)?;
        let control = p.config_u16(msix.offset + 2)?;
        let masked = control | MSIX_ENABLE | MSIX_MASK;
        p.config_write(msix.offset + 2, &masked.to_le_bytes())?;
        for vector in 0..msix.vectors {
            msix.mask(p, vector, true)?;
        }
        p.connect_interrupts(Interrupts::Msix(vectors))?;
        for vector in 0..vectors {
            msix.program(p, vector)?;
        }
        let open = (control | MSIX_ENABLE) & !MSIX_MASK;
        p.config_write(msix.offset + 2, &open.to_le_bytes())?;
        Ok(())
    }

    fn connect_msi(&self, p: &mut impl Platform, vectors: u16) -> Result<(), DriverError> {
        let at = self.capabilities(cap::MSI).next().ok_or(PlatformError::NoInterrupts)?.offset;
        let control = p.config_u16(at + 2)?;
        let offered = control >> 1 & 7;
        let wanted = (0..=5u16).find(|log2| 1 << log2 >= vectors).unwrap_or(u16::MAX);
        if offered < wanted {
            return Err(PlatformError::NoInterrupts.into());
        }
        set_command(p, 0, COMMAND_INTX_DISABLE)?;
        p.config_write(at + 4, &MESSAGE_ADDRESS.to_le_bytes())?;
        let data = if control & MSI_64BIT != 0 {
            p.config_write(at + 8, &0u32.to_le_bytes())?;
            at + 12
        } else {
            at + 8
        };
        p.config_write(data, &MESSAGE_DATA.to_le_bytes()[..2])?;
        p.connect_interrupts(Interrupts::Msi(vectors))?;
        let enabled = control & !(7 << 4) | wanted << 4 | MSI_ENABLE;
        p.config_write(at + 2, &enabled.to_le_bytes())?;
        Ok(())
    }
}

const MSI_ENABLE: u16 = 1;
const MSI_64BIT: u16 = 1 << 7;
const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_MASK: u16 = 1 << 14;
const MESSAGE_ADDRESS: u32 = 0xfee0_0000;
const MESSAGE_DATA: u32 = 0x40;

impl Msix {
    /// Writes the message of one table entry and unmasks it.
    ///
    /// # Errors
    /// If the table does not keep the address, or an access fails.
    pub fn program(&self, p: &mut impl Platform, vector: u16) -> Result<(), DriverError> {
        let (bar, at) = (self.table.0, self.entry(vector));
        p.bar_write(bar, at, &MESSAGE_ADDRESS.to_le_bytes())?;
        p.bar_write(bar, at + 4, &0u32.to_le_bytes())?;
        p.bar_write(bar, at + 8, &(MESSAGE_DATA + u32::from(vector)).to_le_bytes())?;
        let found = p.bar_u32(bar, at)?;
        if found != MESSAGE_ADDRESS {
            let (written, found) = (u64::from(MESSAGE_ADDRESS), u64::from(found));
            return Err(DriverError::NotKept { register: "MSI-X Message Address", written, found });
        }
        self.mask(p, vector, false)
    }

    /// Masks or unmasks one vector in the table.
    ///
    /// # Errors
    /// If an access fails.
    pub fn mask(&self, p: &mut impl Platform, vector: u16, on: bool) -> Result<(), DriverError> {
        let control = u32::from(on);
        Ok(p.bar_write(self.table.0, self.entry(vector) + 12, &control.to_le_bytes())?)
    }

    /// The pending bit of a vector.
    ///
    /// # Errors
    /// If an access fails.
    pub fn is_pending(&self, p: &mut impl Platform, vector: u16) -> Result<bool, DriverError> {
        let (bar, at) = self.pending;
        let word = p.bar_u32(bar, at + u64::from(vector / 32) * 4)?;
        Ok(word >> (vector % 32) & 1 != 0)
    }

    fn entry(&self, vector: u16) -> u64 {
        self.table.1 + u64::from(vector) * 16
    }
}

fn bad(offset: u64, what: &'static str) -> DriverError {
    DriverError::BadConfig { offset, what }
}

/// Changes Command bits; returns the register as it then reads.
fn set_command(p: &mut impl Platform, clear: u16, set: u16) -> Result<u16, PlatformError> {
    let command = p.config_u16(COMMAND)?;
    p.config_write(COMMAND, &(command & !clear | set).to_le_bytes())?;
    p.config_u16(COMMAND)
}

fn size_bars(p: &mut impl Platform) -> Result<Vec<Bar>, DriverError> {
    let mut bars = Vec::new();
    let (mut low, mut high) = (WINDOW_32, WINDOW_64);
    let mut index = 0;
    while index < 6 {
        let Some(mut bar) = size_bar(p, index)? else {
            index += 1;
            continue;
        };
        let next = if bar.is_64bit { &mut high } else { &mut low };
        // BARs decode naturally aligned addresses only.
        bar.address = next.next_multiple_of(bar.size);
        *next = bar.address.saturating_add(bar.size);
        assign(p, &bar)?;
        index += if bar.is_64bit { 2 } else { 1 };
        bars.push(bar);
    }
    Ok(bars)
}

fn size_bar(p: &mut impl Platform, index: u8) -> Result<Option<Bar>, DriverError> {
    let at = BAR0 + u64::from(index) * 4;
    p.config_write(at, &u32::MAX.to_le_bytes())?;
    let low = p.config_u32(at)?;
    if low == 0 {
        return Ok(None);
    }
    let (io, is_64bit) = (low & 1 != 0, low & 7 == 4);
    let mut mask = u64::from(low & if io { !0x3 } else { !0xf }) | 0xffff_ffff << 32;
    if is_64bit {
        if index == 5 {
            return Err(bad(at, "a 64-bit BAR without an upper half"));
        }
        p.config_write(at + 4, &u32::MAX.to_le_bytes())?;
        mask = mask & 0xffff_ffff | u64::from(p.config_u32(at + 4)?) << 32;
    }
    let size = (!mask).wrapping_add(1);
    // A quarter of a terabyte is more than the windows above leave room for.
    if !size.is_power_of_two() || size > 1 << 38 || (!is_64bit && size > 1 << 29) {
        return Err(bad(at, "BAR size is not a power of two in range"));
    }
    Ok(Some(Bar { index, size, is_64bit, prefetchable: low & 8 != 0, io, address: 0 }))
}

fn assign(p: &mut impl Platform, bar: &Bar) -> Result<(), DriverError> {
    let at = BAR0 + u64::from(bar.index) * 4;
    let bytes = bar.address.to_le_bytes();
    let (low, high) = bytes.split_at(4);
    p.config_write(at, low)?;
    let mut found = u64::from(p.config_u32(at)? & if bar.io { !0x3 } else { !0xf });
    if bar.is_64bit {
        p.config_write(at + 4, high)?;
        found |= u64::from(p.config_u32(at + 4)?) << 32;
    }
    if found != bar.address {
        let register = "Base Address";
        return Err(DriverError::NotKept { register, written: bar.address, found });
    }
    Ok(())
}

fn walk_capabilities(p: &mut impl Platform) -> Result<Vec<CapabilityAt>, DriverError> {
    let mut found = Vec::new();
    if p.config_u16(STATUS)? & STATUS_CAPABILITIES == 0 {
        return Ok(found);
    }
    let mut at = u64::from(p.config_u8(CAPABILITIES)?) & !3;
    while at != 0 {
        if at < 0x40 {
            return Err(bad(at, "capability inside the header"));
        }
        // 48 capabilities of 4 bytes fill the space: more is a loop.
        if found.len() == 48 {
            return Err(bad(at, "capability list loops"));
        }
        let [id, next] = p.config_u16(at)?.to_le_bytes();
        found.push(CapabilityAt { id: u16::from(id), offset: at });
        at = u64::from(next) & !3;
    }
    Ok(found)
}

fn walk_extended(p: &mut impl Platform) -> Result<Vec<CapabilityAt>, DriverError> {
    let mut found = Vec::new();
    if p.config_size() <= EXTENDED {
        return Ok(found);
    }
    let mut at = EXTENDED;
    while at != 0 {
        let header = p.config_u32(at)?;
        if header == 0 && at == EXTENDED {
            break;
        }
        if found.len() == 960 {
            return Err(bad(at, "extended capability list loops"));
        }
        found.push(CapabilityAt { id: (header & 0xffff) as u16, offset: at });
        at = u64::from(header >> 20) & !3;
        if at != 0 && at < EXTENDED {
            return Err(bad(at, "extended capability below 0x100"));
        }
    }
    Ok(found)
}

fn read_msix(p: &mut impl Platform, at: u64, bars: &[Bar]) -> Result<Msix, DriverError> {
    let vectors = (p.config_u16(at + 2)? & 0x7ff) + 1;
    let (table, pending) = (p.config_u32(at + 4)?, p.config_u32(at + 8)?);
    let place = |word: u32, len: u64| {
        let (bir, offset) = ((word & 7) as u8, u64::from(word & !7));
        let bar = bars.iter().find(|bar| bar.index == bir && !bar.io);
        bar.filter(|bar| offset + len <= bar.size)
            .map(|_| (bir, offset))
            .ok_or(bad(at, "MSI-X structure outside its BAR"))
    };
    let table = place(table, u64::from(vectors) * 16)?;
    let pending = place(pending, u64::from(vectors).div_ceil(64) * 8)?;
    Ok(Msix { offset: at, vectors, table, pending })
}
