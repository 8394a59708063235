//! Config space as data: an image, what writes change in it, and what a reset keeps.

use understudy_device::{
    Access, Bar, BarKind, BarSpec, Capability, Identity, IdentityError, RegisterState,
};

use crate::registers::{
    self as regs, Block, EXPRESS, HEADER, MSI, MSI_MASKABLE, MSIX, POWER_MANAGEMENT, VENDOR,
    WINDOW, express, header, msi, msix, power, window,
};

/// The number that `inspect` gives as the BAR of a config space register: VFIO's region index of
/// config space (`VFIO_PCI_CONFIG_REGION_INDEX`).
pub const CONFIG_REGION: Bar = Bar(7);

/// Capabilities start here.
const FIRST_CAPABILITY: usize = 0x40;
/// Conventional config space, which holds header and capabilities.
const CONVENTIONAL_LEN: usize = 0x100;
/// Config space of PCI Express functions.
const EXPRESS_LEN: usize = 0x1000;

/// What a config write asks of the function beyond the new register values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Initiate Function Level Reset was written as one.
    FunctionReset,
}

/// Where capabilities were put.
#[derive(Debug, Clone, Default)]
struct Places {
    power: Option<usize>,
    express: Option<(usize, bool)>,
    msi: Option<(usize, bool)>,
    msix: Option<usize>,
    window: Option<usize>,
}

/// A function's config space.
#[derive(Debug, Clone)]
pub(crate) struct ConfigSpace {
    /// Values now.
    bytes: Vec<u8>,
    /// Of the first 256 bytes, which hold all there is: values after power-on, bits a write takes,
    /// bits a write of one clears, and bits that a reset of the function keeps.
    initial: Vec<u8>,
    writable: Vec<u8>,
    clearable: Vec<u8>,
    sticky: Vec<u8>,
    blocks: Vec<(usize, &'static Block)>,
    places: Places,
}

impl ConfigSpace {
    /// Builds config space at its power-on values.
    pub(crate) fn new(identity: &Identity) -> Result<Self, IdentityError> {
        let len = if identity.is_express() { EXPRESS_LEN } else { CONVENTIONAL_LEN };
        let mut this = Self {
            bytes: vec![0; len],
            initial: vec![0; CONVENTIONAL_LEN],
            writable: vec![0; CONVENTIONAL_LEN],
            clearable: vec![0; CONVENTIONAL_LEN],
            sticky: vec![0; CONVENTIONAL_LEN],
            blocks: Vec::new(),
            places: Places::default(),
        };
        this.place(0, &HEADER);
        this.put_header(identity);
        for spec in &identity.bars {
            this.put_bar(spec);
        }
        this.put_capabilities(identity)?;
        this.initial.copy_from_slice(&this.bytes[..CONVENTIONAL_LEN]);
        Ok(this)
    }

    fn place(&mut self, base: usize, block: &'static Block) {
        for at in block.elements() {
            let row = block.row(at);
            let offset = base + block.offset(at) as usize;
            let width = row.width as usize;
            self.set(offset, &row.reset.to_le_bytes()[..width]);
            let mask = match row.access {
                Access::WriteOneToClear => &mut self.clearable,
                _ => &mut self.writable,
            };
            mask[offset..offset + width].copy_from_slice(&row.writable.to_le_bytes()[..width]);
        }
        self.blocks.push((base, block));
    }

    fn put_header(&mut self, identity: &Identity) {
        self.set(header::VENDOR_ID, &identity.vendor_id.to_le_bytes());
        self.set(header::DEVICE_ID, &identity.device_id.to_le_bytes());
        self.set(header::REVISION_ID, &[identity.revision_id]);
        self.set(header::CLASS_CODE, &identity.class_code.to_le_bytes()[..3]);
        self.set(header::SUBSYSTEM_VENDOR_ID, &identity.subsystem_vendor_id.to_le_bytes());
        self.set(header::SUBSYSTEM_ID, &identity.subsystem_id.to_le_bytes());
        self.set(header::INTERRUPT_PIN, &[identity.interrupt_pin]);
    }

    /// Address bits below the size are hardwired to zero: a driver sizes a BAR by writing all ones
    /// (PCI 3.0 §6.2.5.1).
    fn put_bar(&mut self, spec: &BarSpec) {
        let offset = header::BARS + 4 * usize::from(spec.bar.0);
        let (kind, width) = match spec.kind {
            BarKind::Memory32 => (0x0, 4),
            BarKind::Memory64 => (0x4, 8),
        };
        let mask = !(spec.size - 1);
        self.writable[offset..offset + width].copy_from_slice(&mask.to_le_bytes()[..width]);
        self.set(offset, &[kind | u8::from(spec.prefetchable) << 3]);
    }

    fn put_capabilities(&mut self, identity: &Identity) -> Result<(), IdentityError> {
        let mut link = header::CAPABILITIES;
        let mut base = FIRST_CAPABILITY;
        for capability in &identity.capabilities {
            let (name, len) = describe(capability);
            let fail = |what| Err(IdentityError::Capability { capability: name, what });
            let end = base + len;
            if end > CONVENTIONAL_LEN {
                return fail("the chain does not fit 256 bytes");
            }
            if !self.put_capability(base, capability) {
                return fail("given more than once");
            }
            // `base` is below 0x100.
            self.set(link, &[base.to_le_bytes()[0]]);
            link = base + 1;
            base = end.next_multiple_of(4);
        }
        if !identity.capabilities.is_empty() {
            self.set(header::STATUS, &header::STATUS_CAPABILITIES.to_le_bytes());
        }
        Ok(())
    }

    /// `false` if the function has such a capability already and may have only one.
    fn put_capability(&mut self, base: usize, capability: &Capability) -> bool {
        match capability {
            Capability::PowerManagement => {
                self.place(base, &POWER_MANAGEMENT);
                self.places.power.replace(base).is_none()
            }
            Capability::Express { flr } => self.put_express(base, *flr),
            Capability::Msi { vectors, maskable } => self.put_msi(base, *vectors, *maskable),
            Capability::Msix { vectors, table, pba } => {
                self.place(base, &MSIX);
                self.set(base + msix::CONTROL, &vectors.saturating_sub(1).to_le_bytes());
                for (register, (bar, offset)) in [(msix::TABLE, table), (msix::PBA, pba)] {
                    self.set(base + register, &(offset | u32::from(bar.0)).to_le_bytes());
                }
                self.places.msix.replace(base).is_none()
            }
            Capability::Vendor { body } => {
                self.place(base, &VENDOR);
                // A body has at most 250 bytes.
                self.set(base + 2, &[(body.len() + 3).to_le_bytes()[0]]);
                self.set(base + 3, body);
                true
            }
            Capability::VirtioConfigWindow { cfg_type } => {
                self.place(base, &WINDOW);
                self.set(base + window::CFG_TYPE, &[*cfg_type]);
                self.places.window.replace(base).is_none()
            }
        }
    }

    fn put_express(&mut self, base: usize, flr: bool) -> bool {
        self.place(base, &EXPRESS);
        if flr {
            let at = base + express::DEVICE_CAPABILITIES;
            let bits = self.u32(at) | express::DEVICE_CAPABILITIES_FLR;
            self.set(at, &bits.to_le_bytes());
        }
        // PCI Express 5.0 §6.6.2: a Function Level Reset leaves these alone.
        let payload = express::DEVICE_CONTROL_PAYLOAD;
        let kept = [
            (express::DEVICE_CONTROL, payload),
            (express::LINK_CONTROL, 0xffff),
            (express::LINK_CONTROL_2, 0xffff),
        ];
        for (register, mask) in kept {
            let at = base + register;
            self.sticky[at..at + 2].copy_from_slice(&mask.to_le_bytes());
        }
        self.places.express.replace((base, flr)).is_none()
    }

    fn put_msi(&mut self, base: usize, vectors: u16, maskable: bool) -> bool {
        self.place(base, if maskable { &MSI_MASKABLE } else { &MSI });
        let capable = vectors.trailing_zeros() << msi::CONTROL_CAPABLE_SHIFT;
        let low = self.byte(base + msi::CONTROL) | capable.to_le_bytes()[0];
        self.set(base + msi::CONTROL, &[low]);
        if maskable {
            let bits = u32::MAX >> (32 - u32::from(vectors.clamp(1, 32)));
            let at = base + msi::MASK;
            self.writable[at..at + 4].copy_from_slice(&bits.to_le_bytes());
        }
        self.places.msi.replace((base, maskable)).is_none()
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A byte of the image, or zero past the end.
    pub(crate) fn byte(&self, offset: usize) -> u8 {
        self.bytes.get(offset).copied().unwrap_or(0)
    }

    fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.byte(offset), self.byte(offset + 1)])
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from(self.u16(offset)) | u32::from(self.u16(offset + 2)) << 16
    }

    /// Sets bytes from the device's side. Bytes past the end are dropped.
    pub(crate) fn set(&mut self, offset: usize, data: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(offset).zip(data) {
            *to = *from;
        }
    }

    /// A driver's write of one byte.
    pub(crate) fn write(&mut self, offset: usize, value: u8) -> Effect {
        let masks = self.writable.get(offset).zip(self.clearable.get(offset));
        let Some((byte, (writable, clearable))) = self.bytes.get_mut(offset).zip(masks) else {
            return Effect::None;
        };
        let old = *byte;
        *byte = ((old & !writable) | (value & writable)) & !(value & clearable);
        if self.places.power.is_some_and(|base| base + power::CONTROL == offset) {
            // PM 1.2 §3.2.4: a write of a state that is not supported changes no state.
            let state = value & power::CONTROL_STATE;
            if state == 1 || state == 2 {
                *byte = (*byte & !power::CONTROL_STATE) | (old & power::CONTROL_STATE);
            }
        }
        match self.places.express {
            Some((base, true))
                if base + express::DEVICE_CONTROL + 1 == offset
                    && value & express::DEVICE_CONTROL_FLR_HIGH != 0 =>
            {
                Effect::FunctionReset
            }
            _ => Effect::None,
        }
    }

    /// Back to power-on values.
    pub(crate) fn reset(&mut self) {
        self.set(0, &self.initial.clone());
    }

    /// Back to power-on values apart from what a Function Level Reset keeps.
    pub(crate) fn reset_function(&mut self) {
        for ((byte, initial), keep) in self.bytes.iter_mut().zip(&self.initial).zip(&self.sticky) {
            *byte = (*byte & keep) | (initial & !keep);
        }
    }

    fn command(&self, bit: u16) -> bool {
        self.u16(header::COMMAND) & bit != 0
    }

    /// The function is in D0.
    fn powered(&self) -> bool {
        self.places
            .power
            .is_none_or(|base| self.byte(base + power::CONTROL) & power::CONTROL_STATE == 0)
    }

    /// The function decodes memory accesses: Memory Space Enable, in D0.
    pub(crate) fn memory_enabled(&self) -> bool {
        self.command(header::COMMAND_MEMORY) && self.powered()
    }

    /// The function may access memory, MSI included: Bus Master Enable, in D0.
    pub(crate) fn master_enabled(&self) -> bool {
        self.command(header::COMMAND_MASTER) && self.powered()
    }

    /// The function may assert INTx: Interrupt Disable is clear, in D0.
    pub(crate) fn intx_enabled(&self) -> bool {
        !self.command(header::COMMAND_INTX_DISABLE) && self.powered()
    }

    /// Sets Received Master Abort.
    pub(crate) fn record_master_abort(&mut self) {
        let status = self.u16(header::STATUS) | header::STATUS_MASTER_ABORT;
        self.set(header::STATUS, &status.to_le_bytes());
    }

    /// Vectors that the driver has allotted, if it has enabled MSI.
    pub(crate) fn msi_enabled(&self) -> Option<u16> {
        let (base, _) = self.places.msi?;
        let control = self.u16(base + msi::CONTROL);
        if control & msi::CONTROL_ENABLE == 0 {
            return None;
        }
        let capable = control >> msi::CONTROL_CAPABLE_SHIFT & 7;
        let enabled = control >> msi::CONTROL_ENABLED_SHIFT & 7;
        // More than was offered is not defined (PCI 3.0 §6.8.1.3): we allot all there are.
        Some(1 << enabled.min(capable).min(5))
    }

    /// MSI mask bits; zero without per-vector masking.
    pub(crate) fn msi_mask(&self) -> u32 {
        match self.places.msi {
            Some((base, true)) => self.u32(base + msi::MASK),
            _ => 0,
        }
    }

    /// Where the MSI pending bits are read.
    pub(crate) fn msi_pending_at(&self) -> Option<usize> {
        match self.places.msi {
            Some((base, true)) => Some(base + msi::PENDING),
            _ => None,
        }
    }

    fn msix_control(&self, bit: u16) -> bool {
        self.places.msix.is_some_and(|base| self.u16(base + msix::CONTROL) & bit != 0)
    }

    /// The driver has enabled MSI-X.
    pub(crate) fn msix_enabled(&self) -> bool {
        self.msix_control(msix::CONTROL_ENABLE)
    }

    /// The driver has masked the whole function.
    pub(crate) fn msix_function_masked(&self) -> bool {
        self.msix_control(msix::CONTROL_FUNCTION_MASK)
    }

    /// Whether the range touches `pci_cfg_data` of the virtio config window.
    pub(crate) fn touches_window(&self, offset: usize, len: usize) -> bool {
        self.places.window.is_some_and(|base| {
            let data = base + window::DATA;
            offset < data + 4 && data < offset + len
        })
    }

    /// The BAR access that the virtio config window stands for, if the driver has set up a valid
    /// one: BAR, offset, length.
    pub(crate) fn window_target(&self) -> Option<(Bar, u64, usize)> {
        let base = self.places.window?;
        let offset = self.u32(base + window::OFFSET);
        let len = match self.u32(base + window::LENGTH) {
            1 => 1,
            2 => 2,
            4 => 4,
            _ => return None,
        };
        let aligned = offset.is_multiple_of(len);
        aligned.then_some((Bar(self.byte(base + window::BAR)), u64::from(offset), len as usize))
    }

    /// `pci_cfg_data` of the virtio config window.
    pub(crate) fn window_data(&self) -> [u8; 4] {
        self.places.window.map_or([0; 4], |base| self.u32(base + window::DATA).to_le_bytes())
    }

    /// Stores what the window read.
    pub(crate) fn set_window_data(&mut self, data: &[u8]) {
        if let Some(base) = self.places.window {
            self.set(base + window::DATA, data);
        }
    }

    /// All registers by name. `live` is ORed in, byte by byte: bits that are not in the image.
    pub(crate) fn inspect(&self, live: impl Fn(usize) -> u8) -> Vec<RegisterState> {
        let mut all = Vec::new();
        for (base, block) in &self.blocks {
            let value = |at| {
                let offset = base + block.offset(at) as usize;
                let mut bytes = [0; 8];
                for (n, byte) in bytes.iter_mut().enumerate().take(block.row(at).width as usize) {
                    *byte = self.byte(offset + n) | live(offset + n);
                }
                u64::from_le_bytes(bytes)
            };
            let mut states = block.describe(CONFIG_REGION, *base as u64, value);
            for (state, at) in states.iter_mut().zip(block.elements()) {
                state.meaning = meaning(block.row(at).id, state.value);
            }
            all.append(&mut states);
        }
        all
    }
}

/// The set bits by name.
fn meaning(flags: regs::Flags, value: u64) -> String {
    let set = flags.iter().filter(|(mask, _)| value & mask == *mask).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join("|")
}

/// A capability's name and length in bytes.
fn describe(capability: &Capability) -> (&'static str, usize) {
    match capability {
        Capability::PowerManagement => ("power management", POWER_MANAGEMENT.size as usize),
        Capability::Express { .. } => ("PCI Express", EXPRESS.size as usize),
        Capability::Msi { maskable: false, .. } => ("MSI", MSI.size as usize),
        Capability::Msi { maskable: true, .. } => ("MSI", MSI_MASKABLE.size as usize),
        Capability::Msix { .. } => ("MSI-X", MSIX.size as usize),
        Capability::Vendor { body } => ("vendor", body.len() + 3),
        Capability::VirtioConfigWindow { .. } => ("virtio config window", WINDOW.size as usize),
    }
}
