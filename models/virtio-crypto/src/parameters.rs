//! What a user can choose.

use understudy_device::ParameterError;
use understudy_virtio::BuildError;

/// What a user can choose.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Data queues, 1 to 64.
    pub data_queues: u16,
    /// Most entries of a queue: a power of two, 2 to 32768.
    pub queue_size: u16,
    /// Most sessions at a time, 1 to 65536.
    pub max_sessions: u32,
    /// `max_size`: most bytes of IV, source, additional data, destination and result of one
    /// request together, 4096 to 256 MiB.
    pub max_size: u64,
    /// Offer packed queues. DPDK since 25.03 accepts them but assumes that each request takes four
    /// descriptors and is used in order, which is true of RSA alone: turn them off for it, as they
    /// are in QEMU by default.
    pub packed_queues: bool,
    /// Makes the random padding of RSA encryption, which a seed makes repeatable.
    pub seed: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            data_queues: 1,
            queue_size: 1024,
            max_sessions: 4096,
            max_size: 16 << 20,
            packed_queues: true,
            seed: 0,
        }
    }
}

/// Why no device can be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// A parameter is wrong.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The transport refused.
    #[error(transparent)]
    Transport(#[from] BuildError),
}

impl Parameters {
    /// # Errors
    /// [`ParameterError`] for the first that is out of its range.
    pub(crate) fn check(&self) -> Result<(), ParameterError> {
        let (name, value) = ("queue_size", u64::from(self.queue_size));
        let range = "a power of two from 2 to 32768";
        if !value.is_power_of_two() {
            return Err(ParameterError { name, value, range });
        }
        ParameterError::check([
            ("data_queues", u64::from(self.data_queues), 1..=64, "1 to 64"),
            (name, value, 2..=32768, range),
            ("max_sessions", u64::from(self.max_sessions), 1..=65536, "1 to 65536"),
            ("max_size", self.max_size, 4096..=256 << 20, "4096 to 268435456"),
        ])
    }
}
