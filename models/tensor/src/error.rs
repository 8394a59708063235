//! Why a network is not loaded, and why a run has no outputs.

use crate::container::ContainerError;

/// Why a container gives no [`Network`](crate::Network).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The container is not in the vendor's format.
    #[error("container: {0}")]
    Container(#[from] ContainerError),
    /// The container is in the vendor's format, and what it holds is for the real chip alone.
    #[error("the container has no {} section", crate::ONNX_SECTION)]
    NoNetwork,
    /// The section does not hold an ONNX model, or one that contradicts itself.
    #[error("not a valid ONNX model: {0}")]
    Malformed(String),
    /// The model may be valid; this compute engine does not run it.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The model is larger than [`Limits`](crate::Limits) allow.
    #[error("{what}: {needed} is more than the limit, {limit}")]
    Limit {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// How much the model needs, as far as that was counted.
        needed: u64,
        /// How much is allowed.
        limit: u64,
    },
}

/// Why a run has no outputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Not as many inputs as [`Network::inputs`](crate::Network::inputs) has.
    #[error("{given} inputs given, {wanted} wanted")]
    InputCount {
        /// How many were given.
        given: usize,
        /// How many the network has.
        wanted: usize,
    },
    /// An input's length is not its binding's.
    #[error("input {index} has {given} bytes, {wanted} wanted")]
    InputLength {
        /// Position of the input.
        index: usize,
        /// Bytes given.
        given: usize,
        /// Bytes of the binding.
        wanted: usize,
    },
    /// The network cannot be computed for these inputs: an index out of range, a division by zero.
    #[error("not computable: {0}")]
    Failed(String),
}
