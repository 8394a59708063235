//! Fault plans: "lose the third completion, then pull the card", on any device.
//!
//! - [`plan`]: the format, one JSON schema for files, the command line and the control socket.
//! - [`text`]: plans from JSON and from the short form of the command line, with one line for each
//!   mistake.
//! - [`kinds`]: what can go wrong, and which kinds a device refuses, with the reason.
//! - [`resolve`]: names in a plan against a device: registers, queues, opcodes, statuses.
//! - [`trigger`]: when something goes wrong.
//! - [`Faults`]: the [`Interposer`](understudy_pci::Interposer) that makes it happen.
//!
//! No model knows of any of this. A fault acts where a driver, a function and its host meet; what
//! must be known of a device is data: its register table, its identity, and its
//! [`Vocabulary`](understudy_device::Vocabulary).
//!
//! A run is a pure function of plan, seed and what crosses the function: there is no clock and no
//! randomness here but the host's clock and seeded generators.
//!
//! Not here: faults of the vfio-user protocol itself (the conformance checks have those), faults of
//! mapped shared areas, which do not trap.
#![forbid(unsafe_code)]

mod engine;
pub mod kinds;
pub mod plan;
pub mod resolve;
pub mod text;
pub mod trigger;

pub use engine::{Faults, Fired, Listed};
pub use kinds::{Refusal, Support};
pub use plan::{Fault, Kind, Plan, Site, Time, When};
pub use resolve::{Mistake, Target};
