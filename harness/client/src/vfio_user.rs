//! A vfio-user client over a Unix socket (QEMU `docs/interop/vfio-user.rst`, protocol 0.1).
//!
//! - [`Connection`]: whole messages with their descriptors, both ways; any bytes can be sent. No
//!   knowledge of commands.
//! - [`Client`]: a call for every command, pipelining, posted writes, and the server's DMA_READ and
//!   DMA_WRITE served from [`GuestMemory`] while a reply is awaited.
//! - [`SocketPlatform`]: the [`Platform`](crate::Platform) that drivers use.
//!
//! Every wait has a limit, and what the server may make us keep is bounded.
//!
//! # Not implemented
//! The `twin_socket` capability.

mod client;
mod connection;
mod error;
mod memory;
mod platform;

pub use client::{Client, ClientOptions, DmaCounts, MappedArea, Pending, Region};
pub use connection::{Connection, Message, Observer};
pub use error::ClientError;
pub use memory::GuestMemory;
pub use platform::{SocketOptions, SocketPlatform};
