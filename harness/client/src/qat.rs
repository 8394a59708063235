//! A driver for QAT virtual functions of the second generation, as Linux and DPDK drive them.
//!
//! - [`message`]: content descriptors and requests of the three services, as bytes.
//! - [`content`]: what a driver computes for its content descriptors.
//! - [`functions`]: of the public-key service.
//! - [`Memory`]: a request's buffers, with guards.
//! - [`Driver`]: registers, the mailbox, rings; requests with their buffers on top.
//!
//! Numbers are from the drivers' headers (`adf_gen2_*`, `adf_pfvf_msg.h`, `icp_qat_*`).
//!
//! # Not implemented
//! What only other generations have; more than one bundle.

pub mod content;
mod driver;
pub mod functions;
mod memory;
pub mod message;

pub use driver::{
    CompressionCall, CompressionResult, Driver, Facts, Options, Response, SymmetricCall,
    SymmetricResult,
};
pub use memory::{Buffer, Memory};
pub use message::{Content, PublicKey};

/// Offsets in BAR 0.
pub mod ring {
    /// Size and watermarks of a ring; one word each.
    pub const CONFIG: u64 = 0x000;
    /// Lower half of a ring's address.
    pub const LOW_BASE: u64 = 0x040;
    /// Upper half of a ring's address.
    pub const HIGH_BASE: u64 = 0x080;
    /// Where the next message is taken.
    pub const HEAD: u64 = 0x0c0;
    /// Where the next message is put.
    pub const TAIL: u64 = 0x100;
    /// Rings that are empty.
    pub const E_STAT: u64 = 0x14c;
    /// Rings that have interrupted.
    pub const INT_FLAG: u64 = 0x170;
    /// What interrupts, first half.
    pub const INT_SRCSEL: u64 = 0x174;
    /// What interrupts, second half.
    pub const INT_SRCSEL_2: u64 = 0x178;
    /// Rings that may interrupt.
    pub const INT_COL_EN: u64 = 0x17c;
    /// How long interrupts are held back.
    pub const INT_COL_CTL: u64 = 0x180;
    /// The two before at once.
    pub const INT_FLAG_AND_COL: u64 = 0x184;
    /// Rings that are served.
    pub const ARBITER: u64 = 0x19c;
}

/// Offsets in the second BAR.
pub mod misc {
    /// The mailbox.
    pub const MAILBOX: u64 = 0x200;
    /// What interrupts.
    pub const VINTSOU: u64 = 0x204;
    /// What of it is held back.
    pub const VINTMSK: u64 = 0x208;
}

/// Bits of the status byte of a response.
pub mod status {
    /// A symmetric request failed.
    pub const CRYPTO: u8 = 0x80;
    /// A public-key request failed.
    pub const PUBLIC_KEY: u8 = 0x40;
    /// A compression request failed.
    pub const COMPRESSION: u8 = 0x20;
    /// The last block has ended.
    pub const END_OF_LAST_BLOCK: u8 = 0x08;
    /// Not supported.
    pub const UNSUPPORTED: u8 = 0x04;
    /// A parameter is impossible.
    pub const INVALID: u8 = 0x02;
}
