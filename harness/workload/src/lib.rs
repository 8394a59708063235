//! Random work for a model and its driver, run in simulation, judged, and made small when it fails.
//!
//! - [`Case`]: everything that a run depends on, as data: device, seed, options, fault plan,
//!   operations. JSON by serde.
//! - [`Generator`]: cases from a seed, or from a fuzzer's bytes.
//! - [`run`]: one run. It is a pure function of its case: the same case has the same
//!   [`Run::hash`], always.
//! - [`shrink`]: the smallest case found that fails in the same way.
//! - [`planted`]: bugs planted in models and drivers, to see that they are found.
//! - [`probe`]: one request after the other, to show what a fault does and when.
//!
//! # What must hold
//! While faults happen: what a driver gets is right, unless a fault that fired explains it
//! (`excuse` says which explains what); nothing outside the driver's memory is accessed; each
//! request completes at most once; nothing panics. Then the faults stop: everything that no fault
//! lost completes, the driver starts anew if it must, every operation works, and the device comes
//! to rest with no job in flight.
//!
//! For fuzzers:
//! ```
//! # fn target(data: &[u8]) {
//! # let device = understudy_catalog::find("virtio-crypto").unwrap();
//! let generator = understudy_workload::Generator::new(device).unwrap();
//! let case = generator.case_from_bytes(data);
//! let run = understudy_workload::run(&case).unwrap();
//! assert!(run.failure.is_none(), "{:?}", run.failure);
//! # }
//! # target(b"some bytes");
//! ```
#![forbid(unsafe_code)]

mod book;
mod case;
mod devices;
mod excuse;
mod generate;
pub mod planted;
pub mod probe;
mod run;
mod shrink;
mod watch;

pub use book::{Failure, FailureKind};
pub use case::{Case, Completion, Operation, Options, Work};
pub use devices::work_of;
pub use generate::{Bytes, Generator, WorkloadError};
pub use run::{Run, Stats, run};
pub use shrink::{Shrunk, shrink};
