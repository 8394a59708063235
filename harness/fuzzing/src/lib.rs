//! Fuzzing: drivers against models whose answers are steered, vfio-user servers, vfio-user clients.
//!
//! - [`program`]: the input, structured: what the device does beyond its model, and what the driver
//!   is asked to do. Made of any bytes ([`arbitrary`]), or by a seeded generator.
//! - [`platform`]: a driver's [`Platform`](understudy_client::Platform) over a model that follows a
//!   program. It also watches the driver: memory it does not own, memory it gave back, work without
//!   end.
//! - [`target`]: a driver to fuzz. [`targets`]: our small drivers, and copies with planted bugs.
//! - [`executor`]: one run of a target with a program. [`engine`]: many, from a seed, with a corpus
//!   of programs that showed something new. [`minimise`]: the same defect with less.
//! - [`finding`]: a file with seed, configuration, program and trace, from which it is replayed.
//!
//! The same target, program and build give the same run.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod client;
pub mod defect;
pub mod engine;
pub mod executor;
pub mod finding;
mod generate;
pub mod message;
pub mod minimise;
pub mod plans;
pub mod platform;
pub mod program;
pub mod server;
mod steering;
pub mod target;
pub mod targets;
mod world;

pub use defect::{Defect, DefectKind};
pub use executor::{Executor, Outcome};
pub use finding::Finding;
pub use generate::mutate_bytes;
pub use platform::FuzzPlatform;
pub use program::{Act, Call, Edit, Program, What};
pub use target::Target;
