//! Registers of a virtual function: its bundle of rings and its mailbox.
//!
//! Offsets are those of `adf_gen2_hw_csr_data.h`, `adf_gen2_pfvf.c` and `adf_vf_isr.c`.

use understudy_device::{Bar, Register, RegisterBlock, Width};

/// BAR of [`RINGS`]. BARs are 64-bit, so the next one is 2.
pub const RINGS_BAR: Bar = Bar(0);
/// BAR of [`MISC`].
pub const MISC_BAR: Bar = Bar(2);
/// Size of each BAR in bytes.
pub const BAR_SIZE: u64 = 0x1000;

/// Rings of the bundle: requests in the first half, their responses in the second.
pub const RINGS_COUNT: u16 = 16;
/// Pairs of a request ring and a response ring.
pub const PAIRS: u16 = RINGS_COUNT / 2;

/// `ADF_RING_CSR_INT_COL_CTL_ENABLE`
pub const COALESCE_ENABLE: u32 = 1 << 31;

/// Registers of the ring bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingRegister {
    /// Size, in the low five bits, and watermarks.
    Config,
    /// Bits 6 to 37 of the address.
    LowBase,
    /// Bits 38 and up of the address.
    HighBase,
    /// Offset of the next message to be taken.
    Head,
    /// Offset behind the last message.
    Tail,
    /// One bit for each ring that is empty.
    EmptyStatus,
    /// Rings that have interrupted.
    InterruptFlag,
    /// What makes a ring interrupt: one hexadecimal digit each.
    SourceSelect,
    /// Rings whose interrupts are coalesced and delivered.
    CoalesceEnable,
    /// Whether and for how many nanoseconds interrupts are held back.
    CoalesceControl,
    /// [`InterruptFlag`](Self::InterruptFlag) and [`CoalesceEnable`](Self::CoalesceEnable) at once.
    FlagAndCoalesce,
    /// Request rings that are served.
    ArbiterEnable,
}

/// The bundle, in [`RINGS_BAR`].
pub static RINGS: RegisterBlock<RingRegister> = RegisterBlock::new(
    "rings",
    0x1000,
    &[
        Register::rw(RingRegister::Config, "config", 0x000, Width::B4).array(RINGS_COUNT, 4),
        Register::rw(RingRegister::LowBase, "lbase", 0x040, Width::B4).array(RINGS_COUNT, 4),
        Register::rw(RingRegister::HighBase, "ubase", 0x080, Width::B4).array(RINGS_COUNT, 4),
        Register::rw(RingRegister::Head, "head", 0x0c0, Width::B4).array(RINGS_COUNT, 4),
        Register::rw(RingRegister::Tail, "tail", 0x100, Width::B4).array(RINGS_COUNT, 4),
        Register::ro(RingRegister::EmptyStatus, "e_stat", 0x14c, Width::B4).reset(0xffff),
        Register::w1c(RingRegister::InterruptFlag, "int_flag", 0x170, Width::B4).writable(0xffff),
        Register::rw(RingRegister::SourceSelect, "int_srcsel", 0x174, Width::B4).array(2, 4),
        Register::rw(RingRegister::CoalesceEnable, "int_col_en", 0x17c, Width::B4).writable(0xffff),
        Register::rw(RingRegister::CoalesceControl, "int_col_ctl", 0x180, Width::B4)
            .writable(0x800f_ffff),
        Register::rw(RingRegister::FlagAndCoalesce, "int_flag_and_col", 0x184, Width::B4)
            .writable(0xffff),
        Register::rw(RingRegister::ArbiterEnable, "ringsrvarben", 0x19c, Width::B4).writable(0xff),
    ],
);

/// The other registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MiscRegister {
    /// Mailbox between virtual and physical function.
    Mailbox,
    /// What interrupts: [`SOURCE_BUNDLE`], [`SOURCE_MAILBOX`].
    InterruptSource,
    /// What of it is held back.
    InterruptMask,
}

/// `ADF_VINTSOU_BUN`
pub const SOURCE_BUNDLE: u32 = 1 << 0;
/// `ADF_VINTSOU_PF2VF`
pub const SOURCE_MAILBOX: u32 = 1 << 1;

/// The other registers, in [`MISC_BAR`].
pub static MISC: RegisterBlock<MiscRegister> = RegisterBlock::new(
    "misc",
    0x1000,
    &[
        Register::rw(MiscRegister::Mailbox, "pf2vf", 0x200, Width::B4),
        Register::ro(MiscRegister::InterruptSource, "vintsou", 0x204, Width::B4),
        Register::rw(MiscRegister::InterruptMask, "vintmsk", 0x208, Width::B4).writable(0x3),
    ],
);
