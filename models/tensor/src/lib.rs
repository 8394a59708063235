//! Neural networks of the Cloud AI 100 model: an ONNX model in the vendor's program container, run
//! on the CPU by `tract`. The only crate that depends on it.
//!
//! Format: the vendor's program container (QPC 0.1) and network descriptor 9.0, as published with
//! its open runtime, with one ELF section of our own, [`ONNX_SECTION`]. Networks: ONNX, operator
//! sets as far as `tract` implements them.
//!
//! - [`Network`]: a loaded network. Inputs and outputs are bytes, little-endian, row-major.
//! - [`pack`]: writes a container around an ONNX model. [`segments`], [`program`]: reads one.
//! - [`Limits`]: how large a network may be.
//! - `scan` and `check` refuse models before `tract` sees them, `guard` while it works out shapes,
//!   `doubts` those that it would compute wrongly.
//!
//! A container comes from a guest and is hostile: whatever is in it, loading ends in a network or
//! in a [`LoadError`], within the limits. Results depend on nothing but container and inputs.
//!
//! Not implemented: programs for the real chip's processors (a container that holds only those is
//! refused); tensors whose sizes are not known before the run; control flow, custom functions,
//! random numbers, strings, sequences, sparse tensors; inputs and outputs of other types than
//! [`Element`] has.
#![forbid(unsafe_code)]

mod check;
mod container;
mod doubts;
mod error;
mod guard;
mod limits;
mod network;
mod scan;

pub use container::{ContainerError, ONNX_SECTION, Segment, onnx, pack, program, segments};
pub use error::{LoadError, RunError};
pub use limits::Limits;
pub use network::{Binding, Element, Network};
