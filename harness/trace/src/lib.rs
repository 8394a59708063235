//! Traces: what a function and its driver did, recorded, decoded by name, replayed and watched.
//!
//! - [`function`]: [`TracedFunction`], a PCI function with a recorder between it and its host.
//! - [`record`], [`recorder`]: what is recorded, and in which order.
//! - [`pipe`]: from the device's thread to consumers, without ever stopping the device.
//! - [`output`]: consumers that write files: [`mod@file`] (recordings), JSON lines ([`line`]),
//!   [`pcapng`].
//! - [`replay`]: plays a recording to a fresh function and finds where the two part.
//! - [`watch`], `monitor`: what a driver does against the specifications, polls in vain, and wants
//!   that is not modelled.
//! - `decode`: queue entries in the words of their device, written from the specifications.
//!
//! Everything but [`pipe`] and [`output`] is pure, and runs in a simulation or under a fuzzer too.
//!
//! Not recorded: accesses to shared areas that the client has mapped (the model's reads of them
//! are), payload of DMA messages apart from the DMA itself, and the bytes of a device's write
//! beyond the first 64, of which there is a hash.
#![forbid(unsafe_code)]

mod block;
mod decode;
pub mod file;
pub mod function;
pub mod line;
mod monitor;
pub mod names;
pub mod output;
pub mod pcapng;
pub mod pipe;
mod raw;
pub mod record;
pub mod recorder;
pub mod replay;
pub mod watch;

pub use file::{Header, ReadError, Reader, RegisterName};
pub use function::TracedFunction;
pub use line::{Decoder, Line};
pub use monitor::rules::{RULES, Rule};
pub use names::Names;
pub use output::Format;
pub use pipe::{Consumer, Pipe, Place, Sink, Summary, Wants};
pub use record::{Record, Role};
pub use recorder::{Recorder, SHOWN_OF_READ};
pub use watch::{Finding, StuckPoll, Unmodelled, Watch, WatchReport};
