//! A driver for the Cloud AI 100, as Linux's `mhi` and `qaic` drive it.
//!
//! - [`Host`]: MHI: boot, rings, channels.
//! - [`Driver`]: Sahara, the control channel, the DMA bridge.
//!
//! Numbers are from `drivers/bus/mhi/common.h` and `drivers/accel/qaic`.
//!
//! # Not implemented
//! Suspend, and what the channels other than Sahara and control are for.

mod driver;
mod host;
mod request;

pub use driver::{Driver, Options};
pub use host::{Host, Received, element};
pub use request::{Activation, Request, Transaction, sem};

/// Offsets in BAR 0.
pub mod mhi {
    /// Numbers of rings.
    pub const CONFIG: u64 = 0x10;
    /// The host asks for a state.
    pub const CONTROL: u64 = 0x38;
    /// The state.
    pub const STATUS: u64 = 0x48;
    /// Channel contexts.
    pub const CCABAP: u64 = 0x58;
    /// Event ring contexts.
    pub const ECABAP: u64 = 0x60;
    /// Command ring contexts.
    pub const CRCBAP: u64 = 0x68;
    /// Doorbell of the command ring.
    pub const CRDB: u64 = 0x70;
    /// Resets the chip.
    pub const SOC_RESET: u64 = 0xb0;
    /// Boot image: address.
    pub const IMAGE_ADDRESS: u64 = 0x08;
    /// Boot image: size.
    pub const IMAGE_SIZE: u64 = 0x10;
    /// Boot image: go.
    pub const IMAGE_DOORBELL: u64 = 0x18;
    /// Vector of boot interrupts.
    pub const INTVEC: u64 = 0x20;
    /// Execution environment.
    pub const EXECENV: u64 = 0x28;
    /// What became of the image.
    pub const BHI_STATUS: u64 = 0x2c;
}

/// Offset of a DMA bridge channel in BAR 2.
#[must_use]
pub const fn dbc(channel: u32) -> u64 {
    0x2_0000 + channel as u64 * 0x1000
}
