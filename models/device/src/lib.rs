//! The contract between a device model and the world.
//!
//! A **model** ([`DeviceModel`]) is a pure state machine. A **bus** ([`Bus`]) is everything outside
//! it: guest memory, interrupts, time, work, faults. A host hands the model a bus at each call;
//! the model never stores it, so a model's state is plain data that can be compared, inspected and
//! moved. The same model runs behind a vfio-user socket, in a simulation and in a fuzzer.
//!
//! - [`identity`]: what the function is, as data: ids, class, BARs, capabilities, vectors.
//! - [`registers`]: register tables as data, checked at compile time, decoded once for all devices.
//! - [`bus`]: DMA, interrupts, time, jobs and the tap points that faults hook.
//! - [`model`]: the trait every device implements.
//! - [`parameters`]: what users can choose, held to its ranges.
//! - [`inspect`]: a model's state, named, for people and reports.
//! - [`vocabulary`]: what faults and traces must know of a device's queues, as data.
//!
//! Not here: PCI config space and interrupt delivery (`understudy-pci`), rings and scatter-gather
//! (`understudy-ring`), sockets and threads (`understudy-server`).
#![forbid(unsafe_code)]

pub mod bus;
pub mod identity;
pub mod inspect;
pub mod model;
pub mod parameters;
pub mod registers;
pub mod vocabulary;

pub use bus::{
    Bus, DmaFault, DmaFaultKind, FinishedJob, InterruptMode, Job, JobId, JobOutput, Nanos, Tap,
    Vector, Verdict,
};
pub use identity::{Bar, BarKind, BarSpec, Capability, Identity, IdentityError, SharedArea};
pub use inspect::{Counter, QueueState, RegisterState, State};
pub use model::{AccessError, Around, DeviceModel, Progress, ResetKind, with_identity};
pub use parameters::{ParameterCheck, ParameterError};
pub use registers::{
    Access, Decoder, OutOfBlock, Register, RegisterBlock, RegisterFile, RegisterOps, RegisterRef,
    Width,
};
pub use vocabulary::{
    Doorbell, FeatureWindow, Field, Named, Requests, ResetRegister, StatusPlace, Vocabulary,
};
