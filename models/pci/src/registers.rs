//! Register tables of the type-0 header and the capabilities.
//!
//! PCI Local Bus 3.0 §6.1-6.8, PCI Power Management 1.2 §3.2, PCI Express Base 5.0 §7.5. Values that
//! depend on the identity are put in by [`ConfigSpace`](crate::config_space::ConfigSpace).

use understudy_device::{Register, RegisterBlock, Width};

/// The names of a register's bits, as its row's id.
pub(crate) type Flags = &'static [(u64, &'static str)];

type Row = Register<Flags>;
pub(crate) type Block = RegisterBlock<Flags>;

const fn ro(name: &'static str, offset: u32, width: Width) -> Row {
    Row::ro(&[], name, offset, width)
}

const fn rw(name: &'static str, offset: u32, width: Width, writable: u64) -> Row {
    Row::rw(&[], name, offset, width).writable(writable)
}

const fn flags(mut row: Row, names: Flags) -> Row {
    row.id = names;
    row
}

/// Capability IDs (PCI Code and ID Assignment, chapter 2).
pub(crate) mod id {
    pub(crate) const POWER_MANAGEMENT: u8 = 0x01;
    pub(crate) const MSI: u8 = 0x05;
    pub(crate) const VENDOR: u8 = 0x09;
    pub(crate) const EXPRESS: u8 = 0x10;
    pub(crate) const MSIX: u8 = 0x11;
}

/// Type-0 header.
pub(crate) mod header {
    pub(crate) const VENDOR_ID: usize = 0x00;
    pub(crate) const DEVICE_ID: usize = 0x02;
    pub(crate) const COMMAND: usize = 0x04;
    pub(crate) const STATUS: usize = 0x06;
    pub(crate) const REVISION_ID: usize = 0x08;
    pub(crate) const CLASS_CODE: usize = 0x09;
    pub(crate) const BARS: usize = 0x10;
    pub(crate) const SUBSYSTEM_VENDOR_ID: usize = 0x2c;
    pub(crate) const SUBSYSTEM_ID: usize = 0x2e;
    pub(crate) const CAPABILITIES: usize = 0x34;
    pub(crate) const INTERRUPT_PIN: usize = 0x3d;

    pub(crate) const COMMAND_MEMORY: u16 = 1 << 1;
    pub(crate) const COMMAND_MASTER: u16 = 1 << 2;
    pub(crate) const COMMAND_INTX_DISABLE: u16 = 1 << 10;
    pub(crate) const STATUS_INTERRUPT: u16 = 1 << 3;
    pub(crate) const STATUS_CAPABILITIES: u16 = 1 << 4;
    pub(crate) const STATUS_MASTER_ABORT: u16 = 1 << 13;
}

/// No I/O Space bit: no BAR decodes I/O. Fast back-to-back, palette snoop, special cycles and
/// memory-write-and-invalidate are hardwired to zero, as in PCI Express.
pub(crate) static HEADER: Block = RegisterBlock::new(
    "pci",
    0x40,
    &[
        ro("vendor_id", 0x00, Width::B2),
        ro("device_id", 0x02, Width::B2),
        flags(
            rw("command", 0x04, Width::B2, 0x0546),
            &[
                (1 << 1, "MEMORY"),
                (1 << 2, "MASTER"),
                (1 << 6, "PARITY"),
                (1 << 8, "SERR"),
                (1 << 10, "INTX_DISABLE"),
            ],
        ),
        Row::w1c(
            &[
                (1 << 3, "INTERRUPT"),
                (1 << 4, "CAPABILITIES"),
                (1 << 8, "MASTER_PARITY"),
                (1 << 11, "SIGNALED_TARGET_ABORT"),
                (1 << 12, "RECEIVED_TARGET_ABORT"),
                (1 << 13, "RECEIVED_MASTER_ABORT"),
                (1 << 14, "SIGNALED_SYSTEM_ERROR"),
                (1 << 15, "PARITY"),
            ],
            "status",
            0x06,
            Width::B2,
        )
        .writable(0xf900),
        ro("revision_id", 0x08, Width::B1),
        ro("prog_if", 0x09, Width::B1),
        ro("subclass", 0x0a, Width::B1),
        ro("base_class", 0x0b, Width::B1),
        rw("cache_line_size", 0x0c, Width::B1, 0xff),
        ro("latency_timer", 0x0d, Width::B1),
        ro("header_type", 0x0e, Width::B1),
        ro("bist", 0x0f, Width::B1),
        // The identity says which bits of which BAR are writable.
        rw("bar", 0x10, Width::B4, 0).array(6, 4),
        ro("cardbus_cis", 0x28, Width::B4),
        ro("subsystem_vendor_id", 0x2c, Width::B2),
        ro("subsystem_id", 0x2e, Width::B2),
        ro("expansion_rom", 0x30, Width::B4),
        ro("capabilities", 0x34, Width::B1),
        rw("interrupt_line", 0x3c, Width::B1, 0xff),
        ro("interrupt_pin", 0x3d, Width::B1),
        ro("min_gnt", 0x3e, Width::B1),
        ro("max_lat", 0x3f, Width::B1),
    ],
);

/// Power Management, version 3: D0 and D3hot, no PME.
pub(crate) mod power {
    pub(crate) const CONTROL: usize = 4;
    pub(crate) const CONTROL_STATE: u8 = 0x03;
}

/// `No_Soft_Reset` is set: going from D3hot to D0 keeps all state.
pub(crate) static POWER_MANAGEMENT: Block = RegisterBlock::new(
    "power_management",
    8,
    &[
        ro("id", 0, Width::B1).reset(id::POWER_MANAGEMENT as u64),
        ro("next", 1, Width::B1),
        ro("capabilities", 2, Width::B2).reset(0x0003),
        flags(
            rw("control", 4, Width::B2, 0x0003).reset(0x0008),
            &[(0x3, "D3HOT"), (1 << 3, "NO_SOFT_RESET")],
        ),
    ],
);

/// PCI Express, version 2, endpoint.
pub(crate) mod express {
    pub(crate) const DEVICE_CAPABILITIES: usize = 0x04;
    pub(crate) const DEVICE_CONTROL: usize = 0x08;
    pub(crate) const LINK_CONTROL: usize = 0x10;
    pub(crate) const LINK_CONTROL_2: usize = 0x30;

    pub(crate) const DEVICE_CAPABILITIES_FLR: u32 = 1 << 28;
    pub(crate) const DEVICE_CONTROL_PAYLOAD: u16 = 0x00e0;
    /// Initiate Function Level Reset, in the upper byte of Device Control.
    pub(crate) const DEVICE_CONTROL_FLR_HIGH: u8 = 0x80;
}

/// An 8 GT/s x4 endpoint with 256-byte payloads and role-based error reporting.
pub(crate) static EXPRESS: Block = RegisterBlock::new(
    "express",
    0x3c,
    &[
        ro("id", 0x00, Width::B1).reset(id::EXPRESS as u64),
        ro("next", 0x01, Width::B1),
        ro("capabilities", 0x02, Width::B2).reset(0x0002),
        ro("device_capabilities", 0x04, Width::B4).reset(0x0000_8001),
        // Bit 15 starts a Function Level Reset and always reads as zero.
        flags(
            rw("device_control", 0x08, Width::B2, 0x78ff).reset(0x2810),
            &[
                (1 << 0, "CORRECTABLE"),
                (1 << 1, "NON_FATAL"),
                (1 << 2, "FATAL"),
                (1 << 3, "UNSUPPORTED_REQUEST"),
                (1 << 4, "RELAXED_ORDERING"),
                (1 << 11, "NO_SNOOP"),
            ],
        ),
        Row::w1c(&[], "device_status", 0x0a, Width::B2).writable(0x000f),
        ro("link_capabilities", 0x0c, Width::B4).reset(0x0040_0043),
        rw("link_control", 0x10, Width::B2, 0x00cb),
        ro("link_status", 0x12, Width::B2).reset(0x1043),
        ro("device_capabilities_2", 0x24, Width::B4).reset(0x0000_0010),
        rw("device_control_2", 0x28, Width::B2, 0x0010),
        ro("device_status_2", 0x2a, Width::B2),
        ro("link_capabilities_2", 0x2c, Width::B4).reset(0x0000_000e),
        rw("link_control_2", 0x30, Width::B2, 0x000f).reset(0x0003),
        ro("link_status_2", 0x32, Width::B2),
    ],
);

/// MSI with 64-bit addresses.
pub(crate) mod msi {
    pub(crate) const CONTROL: usize = 2;
    pub(crate) const MASK: usize = 0x10;
    pub(crate) const PENDING: usize = 0x14;

    pub(crate) const CONTROL_ENABLE: u16 = 1 << 0;
    pub(crate) const CONTROL_CAPABLE_SHIFT: u32 = 1;
    pub(crate) const CONTROL_ENABLED_SHIFT: u32 = 4;
}

const MSI_CONTROL_FLAGS: Flags = &[(1 << 0, "ENABLE"), (1 << 7, "64BIT"), (1 << 8, "MASKABLE")];

pub(crate) static MSI: Block = RegisterBlock::new(
    "msi",
    0x10,
    &[
        ro("id", 0x00, Width::B1).reset(id::MSI as u64),
        ro("next", 0x01, Width::B1),
        flags(rw("control", 0x02, Width::B2, 0x0071).reset(0x0080), MSI_CONTROL_FLAGS),
        rw("address_low", 0x04, Width::B4, 0xffff_fffc),
        rw("address_high", 0x08, Width::B4, 0xffff_ffff),
        rw("data", 0x0c, Width::B2, 0xffff),
    ],
);

/// With per-vector masking. The identity says how many mask bits there are.
pub(crate) static MSI_MASKABLE: Block = RegisterBlock::new(
    "msi",
    0x18,
    &[
        ro("id", 0x00, Width::B1).reset(id::MSI as u64),
        ro("next", 0x01, Width::B1),
        flags(rw("control", 0x02, Width::B2, 0x0071).reset(0x0180), MSI_CONTROL_FLAGS),
        rw("address_low", 0x04, Width::B4, 0xffff_fffc),
        rw("address_high", 0x08, Width::B4, 0xffff_ffff),
        rw("data", 0x0c, Width::B2, 0xffff),
        rw("mask", 0x10, Width::B4, 0),
        ro("pending", 0x14, Width::B4),
    ],
);

/// MSI-X.
pub(crate) mod msix {
    pub(crate) const CONTROL: usize = 2;
    pub(crate) const TABLE: usize = 4;
    pub(crate) const PBA: usize = 8;

    pub(crate) const CONTROL_FUNCTION_MASK: u16 = 1 << 14;
    pub(crate) const CONTROL_ENABLE: u16 = 1 << 15;
}

pub(crate) static MSIX: Block = RegisterBlock::new(
    "msix",
    12,
    &[
        ro("id", 0, Width::B1).reset(id::MSIX as u64),
        ro("next", 1, Width::B1),
        flags(
            rw("control", 2, Width::B2, 0xc000),
            &[(1 << 14, "FUNCTION_MASK"), (1 << 15, "ENABLE")],
        ),
        ro("table", 4, Width::B4),
        ro("pba", 8, Width::B4),
    ],
);

/// Any vendor capability; its body follows.
pub(crate) static VENDOR: Block = RegisterBlock::new(
    "vendor",
    3,
    &[
        ro("id", 0, Width::B1).reset(id::VENDOR as u64),
        ro("next", 1, Width::B1),
        ro("length", 2, Width::B1),
    ],
);

/// virtio 1.3 §4.1.4.9, `struct virtio_pci_cfg_cap`.
pub(crate) mod window {
    pub(crate) const CFG_TYPE: usize = 3;
    pub(crate) const BAR: usize = 4;
    pub(crate) const OFFSET: usize = 8;
    pub(crate) const LENGTH: usize = 12;
    pub(crate) const DATA: usize = 16;
    pub(crate) const SIZE: u8 = 20;
}

pub(crate) static WINDOW: Block = RegisterBlock::new(
    "virtio_pci_cfg_cap",
    window::SIZE as u32,
    &[
        ro("cap_vndr", 0, Width::B1).reset(id::VENDOR as u64),
        ro("cap_next", 1, Width::B1),
        ro("cap_len", 2, Width::B1).reset(window::SIZE as u64),
        ro("cfg_type", 3, Width::B1),
        rw("bar", 4, Width::B1, 0xff),
        ro("id", 5, Width::B1),
        rw("offset", 8, Width::B4, 0xffff_ffff),
        rw("length", 12, Width::B4, 0xffff_ffff),
        rw("pci_cfg_data", 16, Width::B4, 0xffff_ffff),
    ],
);

#[cfg(test)]
mod tests {
    use understudy_device::RegisterBlock;

    use super::*;

    /// The offsets by which the code reaches registers are those of the tables.
    #[test]
    fn constants_agree_with_the_tables() {
        fn at(block: &RegisterBlock<Flags>, name: &str) -> usize {
            block.registers.iter().find(|row| row.name == name).unwrap().offset as usize
        }
        assert_eq!(at(&HEADER, "command"), header::COMMAND);
        assert_eq!(at(&HEADER, "status"), header::STATUS);
        assert_eq!(at(&HEADER, "bar"), header::BARS);
        assert_eq!(at(&HEADER, "capabilities"), header::CAPABILITIES);
        assert_eq!(at(&HEADER, "interrupt_pin"), header::INTERRUPT_PIN);
        assert_eq!(at(&HEADER, "subsystem_id"), header::SUBSYSTEM_ID);
        assert_eq!(at(&POWER_MANAGEMENT, "control"), power::CONTROL);
        assert_eq!(at(&EXPRESS, "device_capabilities"), express::DEVICE_CAPABILITIES);
        assert_eq!(at(&EXPRESS, "device_control"), express::DEVICE_CONTROL);
        assert_eq!(at(&EXPRESS, "link_control"), express::LINK_CONTROL);
        assert_eq!(at(&EXPRESS, "link_control_2"), express::LINK_CONTROL_2);
        assert_eq!(at(&MSI_MASKABLE, "control"), msi::CONTROL);
        assert_eq!(at(&MSI_MASKABLE, "mask"), msi::MASK);
        assert_eq!(at(&MSI_MASKABLE, "pending"), msi::PENDING);
        assert_eq!(at(&MSIX, "control"), msix::CONTROL);
        assert_eq!(at(&MSIX, "table"), msix::TABLE);
        assert_eq!(at(&MSIX, "pba"), msix::PBA);
        assert_eq!(at(&WINDOW, "cfg_type"), window::CFG_TYPE);
        assert_eq!(at(&WINDOW, "bar"), window::BAR);
        assert_eq!(at(&WINDOW, "offset"), window::OFFSET);
        assert_eq!(at(&WINDOW, "length"), window::LENGTH);
        assert_eq!(at(&WINDOW, "pci_cfg_data"), window::DATA);
    }
}
