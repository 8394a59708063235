//! Conformance checks of vfio-user devices, their verdicts and reports.
//!
//! Written against: vfio-user as QEMU documents it (`docs/interop/vfio-user.rst`), PCI Local Bus
//! 3.0, PCI Express Base 4.0, virtio 1.3. A check holds a device to what a clause says and to
//! nothing more; where a clause leaves a choice, every choice passes.
//!
//! - [`Check`]: one requirement with a stable id, its clause, and code that tries it.
//! - [`checks`]: all of them, by area: `vfio-user`, `pci`, `virtio`, `virtio-crypto`, `qat`, `qaic`.
//! - [`Context`]: a socket and a deadline. Each check attaches for itself, with a client of this
//!   crate's own (`peer`, `session`) that shares no code with the server under test.
//!   Virtio devices are driven by `understudy-client`'s drivers (`rig`), written from the
//!   specification too.
//! - [`ledger`]: what the specifications demand, and which check or reason stands for each demand.
//! - [`run`]: runs checks on a [`Target`], and replaces a device that hangs.
//! - [`Report`]: the one result model; [`report`] renders it as a table, JSON, JUnit XML, TAP, SARIF,
//!   annotations for GitHub, and a page.
//!
//! Not here: performance, migration, and checks of a device's behaviour inside a guest (`understudy-guest`).
#![forbid(unsafe_code)]

mod bytes;
mod check;
pub mod checks;
mod context;
mod errno;
pub mod ledger;
mod log;
mod memory;
mod peer;
mod profile;
pub mod report;
mod rig;
mod runner;
mod server;
mod session;
mod verdict;

pub use check::{Check, Filter, Outcome};
pub use context::Context;
pub use profile::{Kind, Profile};
pub use runner::{Settings, Shard, Socket, Target, run};
pub use server::Started;
pub use verdict::{AreaCoverage, CheckResult, DeviceReport, Report, Stop, Totals, Verdict};

pub(crate) use memory::Memory;

/// The page's device is compiled, served and checked.
#[cfg(doctest)]
#[doc = include_str!("../../docs/adding-a-device.md")]
struct AddingADevice;
