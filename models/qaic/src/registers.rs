//! Registers: MHI with its boot interface (BAR 0), the DMA bridge (BAR 2).
//!
//! Offsets are those of `drivers/bus/mhi/common.h` and `drivers/accel/qaic`; where MHI leaves the
//! place of a block to the device, these are ours.

use understudy_device::{Bar, Register, RegisterBlock, Width};

/// BAR of [`MHI`].
pub const MHI_BAR: Bar = Bar(0);
/// BAR of [`BRIDGE`].
pub const BRIDGE_BAR: Bar = Bar(2);
/// A BAR without a purpose.
pub const SPARE_BAR: Bar = Bar(4);

/// DMA bridge channels.
pub const CHANNELS: u16 = 16;

/// Offset of the boot interface (BHI).
pub const BHI: u32 = 0x100;
/// Offset of its extension (BHIe).
pub const BHIE: u32 = 0x200;
/// Offset of the event ring doorbells.
pub const EVENT_DOORBELLS: u32 = 0xb00;
/// Event ring doorbells.
pub const EVENT_RINGS: u16 = 32;
/// Offset of the channel doorbells.
pub const CHANNEL_DOORBELLS: u32 = 0xc00;
/// The doorbell that wakes the device.
pub const WAKE_DOORBELL: u16 = 127;

/// Registers of MHI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MhiRegister {
    /// Bytes of the block.
    Length,
    /// Version of MHI.
    Version,
    /// Numbers of channels and event rings.
    Config,
    /// Offset of the channel doorbells.
    ChannelDoorbellOffset,
    /// Offset of the event ring doorbells.
    EventDoorbellOffset,
    /// Offset of the boot interface.
    BootOffset,
    /// Offset of its extension.
    BootExtensionOffset,
    /// Offset of debug registers; there are none.
    DebugOffset,
    /// The host asks for a state.
    Control,
    /// The state.
    Status,
    /// Address of the channel contexts.
    ChannelContexts,
    /// Address of the event ring contexts.
    EventContexts,
    /// Address of the command ring contexts.
    CommandContexts,
    /// Doorbell of the command ring.
    CommandDoorbell,
    /// First address of control structures.
    ControlBase,
    /// Last address of control structures.
    ControlLimit,
    /// First address of data.
    DataBase,
    /// Last address of data.
    DataLimit,
    /// Bit 0 resets the whole chip.
    SocReset,
    /// Version of the boot interface.
    BootVersion,
    /// Address of the boot image.
    ImageAddress,
    /// Bytes of the boot image.
    ImageSize,
    /// Starts to take the image.
    ImageDoorbell,
    /// Vector of boot and error interrupts.
    InterruptVector,
    /// Execution environment.
    Environment,
    /// What became of the image.
    BootStatus,
    /// Why the image was not taken.
    ErrorCode,
    /// More about that.
    ErrorDebug,
    /// Serial number.
    SerialNumber,
    /// Oldest image that is accepted.
    AntiRollback,
    /// Memory segments.
    Segments,
    /// Hardware ids.
    HardwareId,
    /// Hash of the manufacturer's public key.
    KeyHash,
    /// Version of the hardware.
    HardwareVersion,
    /// A clock of 19.2 MHz.
    Timer,
    /// Doorbells of event rings.
    EventDoorbell,
    /// Doorbells of channels.
    ChannelDoorbell,
}

/// `MHICTRL_RESET`
pub const CONTROL_RESET: u32 = 1 << 1;
/// `MHISTATUS_READY`
pub const STATUS_READY: u32 = 1 << 0;
/// `MHISTATUS_SYSERR`
pub const STATUS_SYSERR: u32 = 1 << 2;
/// Where the state lies in control and status.
pub const STATE_SHIFT: u32 = 8;

use MhiRegister as M;

/// MHI, in [`MHI_BAR`].
pub static MHI: RegisterBlock<MhiRegister> = RegisterBlock::new(
    "mhi",
    0x1000,
    &[
        Register::ro(M::Length, "mhireglen", 0x00, Width::B4).reset(0x1000),
        Register::ro(M::Version, "mhiver", 0x08, Width::B4).reset(0x0100_0000),
        Register::rw(M::Config, "mhicfg", 0x10, Width::B4).reset(0x80).writable(0xffff_ff00),
        Register::ro(M::ChannelDoorbellOffset, "chdboff", 0x18, Width::B4)
            .reset(CHANNEL_DOORBELLS as u64),
        Register::ro(M::EventDoorbellOffset, "erdboff", 0x20, Width::B4)
            .reset(EVENT_DOORBELLS as u64),
        Register::ro(M::BootOffset, "bhioff", 0x28, Width::B4).reset(BHI as u64),
        Register::ro(M::BootExtensionOffset, "bhieoff", 0x2c, Width::B4).reset(BHIE as u64),
        Register::ro(M::DebugOffset, "debugoff", 0x30, Width::B4),
        Register::rw(M::Control, "mhictrl", 0x38, Width::B4).writable(0xff02),
        Register::ro(M::Status, "mhistatus", 0x48, Width::B4),
        Register::rw(M::ChannelContexts, "ccabap", 0x58, Width::B8),
        Register::rw(M::EventContexts, "ecabap", 0x60, Width::B8),
        Register::rw(M::CommandContexts, "crcbap", 0x68, Width::B8),
        Register::wo(M::CommandDoorbell, "crdb", 0x70, Width::B8),
        Register::rw(M::ControlBase, "mhictrlbase", 0x80, Width::B8),
        Register::rw(M::ControlLimit, "mhictrllimit", 0x88, Width::B8),
        Register::rw(M::DataBase, "mhidatabase", 0x98, Width::B8),
        Register::rw(M::DataLimit, "mhidatalimit", 0xa0, Width::B8),
        Register::wo(M::SocReset, "soc_reset_req", 0xb0, Width::B4).writable(1),
        Register::ro(M::BootVersion, "bhiversion", BHI, Width::B8).reset(1 << 32),
        Register::rw(M::ImageAddress, "imgaddr", BHI + 0x08, Width::B8),
        Register::rw(M::ImageSize, "imgsize", BHI + 0x10, Width::B4),
        Register::rw(M::ImageDoorbell, "imgtxdb", BHI + 0x18, Width::B4).writable(0x3fff_ffff),
        Register::rw(M::InterruptVector, "intvec", BHI + 0x20, Width::B4),
        Register::ro(M::Environment, "execenv", BHI + 0x28, Width::B4),
        Register::rw(M::BootStatus, "status", BHI + 0x2c, Width::B4),
        Register::ro(M::ErrorCode, "errcode", BHI + 0x30, Width::B4),
        Register::ro(M::ErrorDebug, "errdbg", BHI + 0x34, Width::B4).array(3, 4),
        Register::ro(M::SerialNumber, "serialnu", BHI + 0x40, Width::B4).reset(0x0a1c_0100),
        Register::ro(M::AntiRollback, "sblantirollver", BHI + 0x44, Width::B4),
        Register::ro(M::Segments, "numseg", BHI + 0x48, Width::B4),
        Register::ro(M::HardwareId, "msmhwid", BHI + 0x4c, Width::B4).array(6, 4),
        Register::ro(M::KeyHash, "oempkhash", BHI + 0x64, Width::B4).array(24, 4),
        Register::ro(M::HardwareVersion, "soc_hw_version", BHIE + 0x24, Width::B4)
            .reset(0x6011_0200),
        Register::ro(M::Timer, "qtimer", 0xa28, Width::B8),
        Register::wo(M::EventDoorbell, "erdb", EVENT_DOORBELLS, Width::B8).array(EVENT_RINGS, 8),
        Register::wo(M::ChannelDoorbell, "chdb", CHANNEL_DOORBELLS, Width::B8).array(128, 8),
    ],
);

/// Registers of a DMA bridge channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeRegister {
    /// Index of the next request that the device takes.
    RequestHead,
    /// Index behind the last request.
    RequestTail,
    /// Index of the next response that the host takes.
    ResponseHead,
    /// Index behind the last response.
    ResponseTail,
}

/// Offset of channel 0's registers in [`BRIDGE_BAR`].
pub const BRIDGE_OFFSET: u64 = 0x2_0000;
/// Bytes between channels.
pub const BRIDGE_STRIDE: u32 = 0x1000;

/// The registers of one channel; channel 0's lie [`BRIDGE_OFFSET`] bytes into [`BRIDGE_BAR`].
pub static BRIDGE: RegisterBlock<BridgeRegister> = RegisterBlock::new(
    "dbc",
    BRIDGE_STRIDE,
    &[
        Register::ro(BridgeRegister::RequestHead, "reqhp", 0x0, Width::B4),
        Register::rw(BridgeRegister::RequestTail, "reqtp", 0x4, Width::B4),
        Register::rw(BridgeRegister::ResponseHead, "rsphp", 0x8, Width::B4),
        Register::ro(BridgeRegister::ResponseTail, "rsptp", 0xc, Width::B4),
    ],
);
