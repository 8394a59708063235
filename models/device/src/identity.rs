//! What a PCI function is, as data. Config space is built from this by `understudy-pci`.

/// A BAR index, 0 to 5.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Bar(pub u8);

/// What kind of address space a BAR decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// 32-bit memory.
    Memory32,
    /// 64-bit memory; takes the next BAR register too.
    Memory64,
}

/// A part of a BAR that the client may map into its own memory, so that accesses do not trap.
/// The model sees it through [`Bus::shared_read`](crate::Bus::shared_read).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedArea {
    /// Offset in the BAR, a multiple of 4096.
    pub offset: u64,
    /// Length in bytes, a multiple of 4096.
    pub size: u64,
}

/// One base address register and what lies behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarSpec {
    /// Index of the (first) BAR register.
    pub bar: Bar,
    /// Address space.
    pub kind: BarKind,
    /// Prefetchable memory.
    pub prefetchable: bool,
    /// Size in bytes: a power of two, at least 16.
    pub size: u64,
    /// Parts a client may map. Empty for a BAR in which every access traps.
    pub shared: Vec<SharedArea>,
}

/// One PCI capability, in the order in which they are chained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// PCI Power Management, version 3, D0 and D3hot.
    PowerManagement,
    /// PCI Express endpoint. The function then has the 4 KiB extended config space.
    Express {
        /// Function Level Reset.
        flr: bool,
    },
    /// MSI with 64-bit addresses.
    Msi {
        /// Vectors offered: a power of two, 1 to 32.
        vectors: u16,
        /// Per-vector masking and pending bits.
        maskable: bool,
    },
    /// MSI-X. Table and pending bits are decoded outside the model.
    Msix {
        /// Table entries, 1 to 2048.
        vectors: u16,
        /// BAR that holds the table.
        table: (Bar, u32),
        /// BAR that holds the pending bit array.
        pba: (Bar, u32),
    },
    /// Vendor-specific (id 9): the bytes after the length byte, read-only.
    Vendor {
        /// Body, from offset 3 of the capability.
        body: Vec<u8>,
    },
    /// A vendor capability through which config space reaches a BAR
    /// (virtio 1.3 §4.1.4.9 `VIRTIO_PCI_CAP_PCI_CFG`): `body` as in [`Capability::Vendor`], in which
    /// the bar, offset and length fields are writable, and the last four bytes are the window.
    VirtioConfigWindow {
        /// `cfg_type` byte.
        cfg_type: u8,
    },
}

/// What a PCI function is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the model (`virtio-crypto`).
    pub name: &'static str,
    /// Vendor ID.
    pub vendor_id: u16,
    /// Device ID.
    pub device_id: u16,
    /// Subsystem Vendor ID.
    pub subsystem_vendor_id: u16,
    /// Subsystem ID.
    pub subsystem_id: u16,
    /// Revision ID.
    pub revision_id: u8,
    /// Class code: base class, subclass, programming interface, as `0xbbsspp`.
    pub class_code: u32,
    /// Interrupt Pin: 0 for none, 1 for INTA.
    pub interrupt_pin: u8,
    /// BARs in ascending order.
    pub bars: Vec<BarSpec>,
    /// Capabilities in chain order.
    pub capabilities: Vec<Capability>,
    /// The byte that reads of unmapped offsets return: 0x00 for parts that decode to zero, 0xff
    /// for those that abort.
    pub unmapped_read: u8,
}

/// Why an [`Identity`] cannot exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A BAR's index, size, order or shared area is impossible.
    #[error("BAR {bar}: {what}")]
    Bar {
        /// Index of the BAR.
        bar: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// A capability's parameters are impossible, or the chain does not fit.
    #[error("{capability} capability: {what}")]
    Capability {
        /// Which capability.
        capability: &'static str,
        /// What is wrong.
        what: &'static str,
    },
}

impl Identity {
    /// The BAR of that index, if the function has it.
    #[must_use]
    pub fn bar(&self, bar: Bar) -> Option<&BarSpec> {
        self.bars.iter().find(|spec| spec.bar == bar)
    }

    /// MSI-X table entries, or 0.
    #[must_use]
    pub fn msix_vectors(&self) -> u16 {
        self.find(|cap| match cap {
            Capability::Msix { vectors, .. } => Some(*vectors),
            _ => None,
        })
    }

    /// MSI vectors offered, or 0.
    #[must_use]
    pub fn msi_vectors(&self) -> u16 {
        self.find(|cap| match cap {
            Capability::Msi { vectors, .. } => Some(*vectors),
            _ => None,
        })
    }

    /// Whether the function is PCI Express, with 4096 bytes of config space instead of 256.
    #[must_use]
    pub fn is_express(&self) -> bool {
        self.capabilities.iter().any(|cap| matches!(cap, Capability::Express { .. }))
    }

    fn find(&self, pick: impl Fn(&Capability) -> Option<u16>) -> u16 {
        self.capabilities.iter().find_map(pick).unwrap_or(0)
    }

    /// Checks what PCI demands of BARs and capabilities.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), IdentityError> {
        self.validate_bars()?;
        self.validate_capabilities()
    }

    fn validate_bars(&self) -> Result<(), IdentityError> {
        let mut next = 0;
        for spec in &self.bars {
            let bar = spec.bar.0;
            let fail = |what| Err(IdentityError::Bar { bar, what });
            let slots = if spec.kind == BarKind::Memory64 { 2 } else { 1 };
            if bar < next || bar + slots > 6 {
                return fail("index out of order or beyond 5");
            }
            next = bar + slots;
            if !spec.size.is_power_of_two() || spec.size < 16 {
                return fail("size is not a power of two of at least 16");
            }
            if spec.kind == BarKind::Memory32 && spec.size > 1 << 31 {
                return fail("size does not fit 32 bits");
            }
            let mut end = 0;
            for area in &spec.shared {
                if area.offset % 4096 != 0 || area.size % 4096 != 0 || area.size == 0 {
                    return fail("shared area is not whole pages");
                }
                let past = area.offset.checked_add(area.size);
                if area.offset < end || past.is_none_or(|past| past > spec.size) {
                    return fail("shared area overlaps another or leaves the BAR");
                }
                end = area.offset + area.size;
            }
        }
        Ok(())
    }

    fn validate_capabilities(&self) -> Result<(), IdentityError> {
        for cap in &self.capabilities {
            match cap {
                Capability::Msi { vectors, .. } if !vectors.is_power_of_two() || *vectors > 32 => {
                    return Err(capability("MSI", "vectors is not a power of two up to 32"));
                }
                Capability::Msix { vectors, table, pba } => {
                    self.validate_msix(*vectors, *table, *pba)?;
                }
                Capability::Vendor { body } if body.len() > 250 => {
                    return Err(capability("vendor", "body is longer than 250 bytes"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn validate_msix(
        &self,
        vectors: u16,
        table: (Bar, u32),
        pba: (Bar, u32),
    ) -> Result<(), IdentityError> {
        if vectors == 0 || vectors > 2048 {
            return Err(capability("MSI-X", "vectors is not 1 to 2048"));
        }
        let table_len = u64::from(vectors) * 16;
        let pba_len = u64::from(vectors).div_ceil(64) * 8;
        for ((bar, offset), len) in [(table, table_len), (pba, pba_len)] {
            let fits = self.bar(bar).is_some_and(|spec| u64::from(offset) + len <= spec.size);
            if !fits || offset % 8 != 0 {
                return Err(capability("MSI-X", "table or PBA does not lie aligned in its BAR"));
            }
        }
        let (t, p) = (u64::from(table.1), u64::from(pba.1));
        if table.0 == pba.0 && t < p + pba_len && p < t + table_len {
            return Err(capability("MSI-X", "table and PBA overlap"));
        }
        Ok(())
    }
}

fn capability(capability: &'static str, what: &'static str) -> IdentityError {
    IdentityError::Capability { capability, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "test",
            vendor_id: 0x1af4,
            device_id: 0x1054,
            subsystem_vendor_id: 0x1af4,
            subsystem_id: 0x1100,
            revision_id: 1,
            class_code: 0x10_00_00,
            interrupt_pin: 1,
            bars: vec![BarSpec {
                bar: Bar(0),
                kind: BarKind::Memory64,
                prefetchable: false,
                size: 0x4000,
                shared: vec![],
            }],
            capabilities: vec![Capability::Msix {
                vectors: 3,
                table: (Bar(0), 0),
                pba: (Bar(0), 0x800),
            }],
            unmapped_read: 0,
        }
    }

    #[test]
    fn a_plain_identity_is_valid() {
        assert_eq!(identity().validate(), Ok(()));
        assert_eq!(identity().msix_vectors(), 3);
        assert_eq!(identity().msi_vectors(), 0);
    }

    #[test]
    fn impossible_identities_are_refused() {
        type Break = fn(&mut Identity);
        let breaks: [Break; 6] = [
            |i| i.bars[0].size = 0x3000,
            |i| i.bars[0].bar = Bar(5),
            |i| i.bars[0].shared = vec![SharedArea { offset: 0x3000, size: 0x2000 }],
            |i| i.bars[0].shared = vec![SharedArea { offset: 0x10, size: 0x1000 }],
            |i| {
                i.capabilities =
                    vec![Capability::Msix { vectors: 3, table: (Bar(0), 0), pba: (Bar(0), 0x20) }];
            },
            |i| i.capabilities = vec![Capability::Msi { vectors: 3, maskable: true }],
        ];
        for (n, broken) in breaks.iter().enumerate() {
            let mut id = identity();
            broken(&mut id);
            assert!(id.validate().is_err(), "break {n} was accepted");
        }
    }
}
