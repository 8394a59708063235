//! A model's state, named, for people, reports and monitors.

use serde::{Deserialize, Serialize};

/// A snapshot of a model for reading. The names are the device's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Registers in table order.
    pub registers: Vec<RegisterState>,
    /// Queues in index order.
    pub queues: Vec<QueueState>,
    /// What the device has done since power-on, in a fixed order.
    pub counters: Vec<Counter>,
}

impl State {
    /// The counter of that name.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.counters.iter().find(|c| c.name == name).map(|c| c.value)
    }
}

/// One register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterState {
    /// `block.register` or `block.register[index]`.
    pub name: String,
    /// BAR index.
    pub bar: u8,
    /// Offset in the BAR.
    pub offset: u64,
    /// Width in bytes.
    pub width: u8,
    /// Value as a read without side effects would give it.
    pub value: u64,
    /// The value decoded, where it has a meaning worth words (`DRIVER_OK|FEATURES_OK`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
}

/// One queue or ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Index in the device.
    pub index: u16,
    /// What the device calls it (`dataq 0`, `controlq`).
    pub name: String,
    /// Whether the driver has enabled it.
    pub enabled: bool,
    /// Entries.
    pub size: u32,
    /// Everything else worth seeing, by name: addresses, indexes, vectors.
    pub fields: Vec<(String, u64)>,
    /// Names of fields that people read in hexadecimal: addresses, masks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hexadecimal: Vec<String>,
}

/// One number that only grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Stable, dotted name (`cipher.encrypt.requests`).
    pub name: String,
    /// Events or bytes since power-on.
    pub value: u64,
}
