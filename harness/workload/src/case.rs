//! What a run depends on.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use understudy_faults::Plan;

use crate::planted::Bug;

/// Everything that a run depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Name of the device.
    pub device: String,
    /// Parameters of the model, over those that the options ask for.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    /// Decides the order of the device's work.
    pub seed: u64,
    /// How the driver uses the device.
    #[serde(default)]
    pub options: Options,
    /// What goes wrong.
    #[serde(default)]
    pub plan: Plan,
    /// What the driver does, in order.
    pub operations: Vec<Operation>,
    /// A bug planted on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<Bug>,
}

/// How the driver uses the device. Options that a device does not have are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How the driver learns of completions.
    pub completion: Completion,
    /// Buffers are cut into pieces of so many bytes at most.
    pub pieces: Option<u32>,
    /// Requests in flight at most, from 1.
    pub depth: u8,
    /// Queues in use, from 1.
    pub queues: u8,
    /// Packed rings.
    pub packed: bool,
    /// Indirect descriptors.
    pub indirect: bool,
    /// Event index.
    pub event_idx: bool,
    /// The device boots from its first loader.
    pub full_boot: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            completion: Completion::Polling,
            pieces: None,
            depth: 4,
            queues: 1,
            packed: false,
            indirect: false,
            event_idx: false,
            full_boot: false,
        }
    }
}

/// How the driver learns of completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Completion {
    /// It looks at memory.
    Polling,
    /// By the INTx line, or one vector.
    Single,
    /// By a vector for each queue.
    Vectors,
}

/// One thing that the driver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// What.
    pub work: Work,
    /// Queue, modulo those in use.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queue: u8,
    /// Bytes of data.
    #[serde(default)]
    pub len: u16,
    /// Chooses the contents, and the key among a few.
    #[serde(default)]
    pub salt: u8,
    /// Requests that may stay in flight afterwards.
    #[serde(default)]
    pub leave: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u8) -> bool {
    *value == 0
}

/// What an operation is about. Each device has some of these ([`work_of`](crate::work_of)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Encrypt.
    Cipher,
    /// Hash.
    Hash,
    /// Authenticate.
    Mac,
    /// Encrypt and authenticate.
    Aead,
    /// Encrypt and authenticate with two algorithms.
    Chain,
    /// A digest that does not match.
    Forged,
    /// A request that does nothing but come back.
    Null,
    /// Compress.
    Compress,
    /// Decompress.
    Decompress,
    /// Decompress in two requests.
    Stream,
    /// Modular exponentiation.
    Power,
    /// Run a network.
    Infer,
    /// Data to the device and back.
    Copy,
    /// A message on the control channel.
    Control,
    /// A request that the device must refuse.
    Wrong,
    /// Give sessions, rings or networks back and get new ones.
    Renew,
    /// Wait for everything.
    Wait,
    /// Let time pass.
    Idle,
    /// Reset the function and start the driver anew.
    Reset,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Cipher,
        Self::Hash,
        Self::Mac,
        Self::Aead,
        Self::Chain,
        Self::Forged,
        Self::Null,
        Self::Compress,
        Self::Decompress,
        Self::Stream,
        Self::Power,
        Self::Infer,
        Self::Copy,
        Self::Control,
        Self::Wrong,
        Self::Renew,
        Self::Wait,
        Self::Idle,
        Self::Reset,
    ];
}
