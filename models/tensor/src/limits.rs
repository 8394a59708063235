//! How large a network may be.

use crate::LoadError;

/// What loading and running one network may take. All counts are inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the container.
    pub container_bytes: u64,
    /// Nodes and constants of the graph, also after it was made ready to run.
    pub nodes: u64,
    /// Inputs, and outputs, each.
    pub bindings: u64,
    /// Bytes of any one tensor: constant, input, output or between.
    pub tensor_bytes: u64,
    /// Bytes of all tensors of the graph together.
    pub memory_bytes: u64,
    /// Multiplications and additions of one run, where they can be counted in advance.
    pub operations: u64,
}

impl Default for Limits {
    /// Room for the image classifiers and small transformers that tests run, and seconds, not
    /// minutes, for one of them.
    fn default() -> Self {
        Self {
            container_bytes: 256 << 20,
            nodes: 20_000,
            bindings: 64,
            tensor_bytes: 256 << 20,
            memory_bytes: 1 << 30,
            operations: 100_000_000_000,
        }
    }
}

/// `needed`, if it is within `limit`.
pub(crate) fn within(what: &'static str, needed: u64, limit: u64) -> Result<(), LoadError> {
    if needed > limit {
        return Err(LoadError::Limit { what, needed, limit });
    }
    Ok(())
}
