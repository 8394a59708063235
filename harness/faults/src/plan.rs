//! The format of fault plans.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What goes wrong, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "understudy fault plan")]
pub struct Plan {
    /// Where this file's schema is, for editors. Not read.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The device that the plan is for; if it names one, it is refused for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What the plan is about. Not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The faults, at most 256.
    #[schemars(length(max = 256))]
    pub faults: Vec<Fault>,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub fault: Kind,
    /// When. Without it: every time that it can.
    #[serde(default, skip_serializing_if = "When::is_default")]
    pub when: When,
    /// How often at most. Without it: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<u64>,
    /// Once only: `count` of 1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
}

impl Fault {
    /// How often it may happen.
    #[must_use]
    pub fn limit(&self) -> u64 {
        if self.once { 1 } else { self.count.unwrap_or(u64::MAX) }
    }
}

/// What goes wrong. Kinds that last do so for `for`, or until they are cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// The card is pulled: reads return all ones, writes are lost, no DMA, no interrupts.
    SurpriseRemoval {
        /// How long it is out. When it is back, it was reset.
        #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
        lasts: Option<Time>,
    },
    /// The link goes down and comes back, which resets the function.
    LinkFlap {
        /// How long it is down.
        down: Time,
    },
    /// A read of a register returns all ones. `when` says which and when.
    AllOnes {},
    /// An access to config space fails: a read returns all ones, a write is lost.
    ConfigError {},
    /// Bits of a register read as they should not. Lasts.
    StuckBit {
        /// Name of the register.
        register: String,
        /// The bits.
        mask: Number,
        /// What they read as.
        value: Number,
        /// How long.
        #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
        lasts: Option<Time>,
    },
    /// A read of a register returns what the read before it returned.
    StaleRead {},
    /// The upper half of a read is that of the read before it. Registers of one byte do not tear.
    TornRead {},
    /// A doorbell does not reach the device.
    DoorbellLost {},
    /// A doorbell reaches the device later.
    DoorbellLate {
        /// How much.
        delay: Time,
    },
    /// A doorbell reaches the device twice.
    DoorbellDuplicate {},
    /// The device takes nothing more from a queue, which its driver finds full. Lasts.
    QueueFull {
        /// Number or name of the queue; all without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<Name>,
        /// How long.
        #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
        lasts: Option<Time>,
    },
    /// A request completes with an error of the device's own.
    CompletionStatus {
        /// Name or number of the status.
        status: Name,
    },
    /// A completion is never written.
    CompletionLost {},
    /// A completion is written later.
    CompletionLate {
        /// How much.
        delay: Time,
    },
    /// A completion is written twice.
    CompletionDuplicate {},
    /// A completion is written after the next one of its queue.
    CompletionReordered {},
    /// A completion names another request.
    CompletionWrongTag {
        /// The tag; without it, the right one plus one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<Number>,
    },
    /// Of a completion, the first half is there before the second.
    CompletionTorn {
        /// How much later the second half comes.
        delay: Time,
    },
    /// A completion is there before the data that it tells of.
    CompletionBeforeData {
        /// How much later the data come.
        delay: Time,
    },
    /// An interrupt is not sent.
    InterruptLost {},
    /// An interrupt is sent later.
    InterruptLate {
        /// How much.
        delay: Time,
    },
    /// An interrupt is sent for no reason.
    InterruptSpurious {
        /// Which; 0 without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vector: Option<u16>,
    },
    /// An interrupt is sent with another vector.
    InterruptWrongVector {
        /// Which; the next one without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vector: Option<u16>,
    },
    /// Interrupts without end, or nearly so.
    InterruptStorm {
        /// How many, 1 to 1,000,000.
        interrupts: u32,
        /// Time between two.
        interval: Time,
        /// Which; 0 without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vector: Option<u16>,
    },
    /// The device cannot read guest memory.
    DmaReadError {},
    /// The device cannot write guest memory.
    DmaWriteError {},
    /// Half of a DMA transfer is done, and the device is not told. What it did not read is zero.
    DmaPartial {},
    /// The device reads what was there when it last read there; zeros if it never did.
    DmaStale {},
    /// A reset does not end. While it lasts, the register that tells of its end says that it goes
    /// on; after a reset of the PCI function, nothing answers.
    ResetHang {
        /// How long it takes.
        #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
        lasts: Option<Time>,
    },
    /// The device resets itself. What it was doing is lost.
    SpontaneousReset {},
    /// The firmware hangs: registers answer, and nothing else happens.
    FirmwareHang {
        /// How long.
        #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
        lasts: Option<Time>,
    },
    /// A request succeeds, with a bit of its output flipped.
    CorruptOutput {
        /// Chooses the bit.
        #[serde(default)]
        seed: u64,
    },
    /// The device takes one request at a time, so much time apart. Lasts.
    SlowDevice {
        /// Time between two requests.
        delay: Time,
        /// How long.
        #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
        lasts: Option<Time>,
    },
    /// A feature is not offered. Lasts.
    FeatureMissing {
        /// Name or bit number of the feature.
        feature: Name,
    },
}

/// Where something can happen.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Site {
    /// The plan begins: with the device, or when it is injected.
    Start,
    /// A read of a BAR.
    Read,
    /// A write of a BAR, doorbells included.
    Write,
    /// An access to config space.
    Config,
    /// A doorbell.
    Doorbell,
    /// The device has taken an entry from a queue.
    Fetch,
    /// The device is about to complete a request.
    Completion,
    /// The device interrupts.
    Interrupt,
    /// The device is about to read guest memory.
    DmaRead,
    /// The device is about to write guest memory.
    DmaWrite,
    /// A reset, by register or of the PCI function.
    Reset,
}

/// Which guest memory the device accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// What requests point to.
    Payload,
    /// The queues themselves.
    Ring,
}

/// Bytes of an entry: of the request (virtqueues: what its readable descriptors hold) or of the
/// completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntryMatch {
    /// First byte.
    pub offset: usize,
    /// Bytes, 1 to 8; little-endian.
    #[schemars(range(min = 1, max = 8))]
    pub width: usize,
    /// What they must be.
    pub value: Number,
    /// Bits that count; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Number>,
}

/// When: which events count, and which of those it is.
///
/// `on` to `of` say which events count: all that are given must hold. `nth`, `every`, `range` and
/// `probability` choose among those that count, which are numbered from 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// What happens. Without it: where the fault acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Site>,
    /// Number or name of the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Name>,
    /// Name of the register, or `bar:offset` (`4:0x14`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<String>,
    /// What is read or written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Number>,
    /// Bits of `value` that count; all without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Number>,
    /// Name or number of the request's opcode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opcode: Option<Name>,
    /// Bytes of the entry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entry: Vec<EntryMatch>,
    /// Interrupt vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<u16>,
    /// Offsets in config space, or guest addresses: first and last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<[Number; 2]>,
    /// Which memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Memory>,
    /// From when to when, since the plan began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<[Time; 2]>,
    /// The n-th, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub nth: Option<u64>,
    /// Every n-th.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub every: Option<u64>,
    /// From the first number to the second, both included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[u64; 2]>,
    /// With this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<Probability>,
    /// What must have happened before, in this order, for events to count at all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<When>,
    /// Once it has happened, `after` must happen again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rearm: bool,
}

impl When {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A chance, drawn from a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probability {
    /// In thousandths, 0 to 1000.
    #[schemars(range(max = 1000))]
    pub per_mille: u16,
    /// Where the draws start.
    pub seed: u64,
}

/// A number, or a name from the device's vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// The number itself.
    Number(u64),
    /// The name.
    Name(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Name(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Scalar::deserialize(deserializer)? {
            Scalar::Number(number) => Self::Number(number),
            Scalar::Text(text) => parse_number(&text).map_or(Self::Name(text), Self::Number),
        })
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A name from the device's vocabulary, or a number.",
            "type": ["string", "integer"],
            "minimum": 0
        })
    }
}

/// A number: as a number, or as text such as `0x1f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Number(pub u64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:#x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Number(number) => Ok(Self(number)),
            Scalar::Text(text) => parse_number(&text).map(Self).ok_or_else(|| {
                let what = format!("{text:?} is no number, expected one such as 31 or \"0x1f\"");
                serde::de::Error::custom(what)
            }),
        }
    }
}

impl JsonSchema for Number {
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number, or text such as \"0x1f\".",
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^(0x[0-9a-fA-F_]{1,20}|[0-9_]{1,20})$"
        })
    }
}

/// A time in nanoseconds: as a number, or as text such as `2ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

/// Units of time and their nanoseconds, longest first.
const UNITS: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

impl Time {
    /// From text such as `2ms`; without a unit, nanoseconds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number = parse_number(number)?;
        let unit = unit.trim();
        let scale = if unit.is_empty() {
            1
        } else {
            UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)?
        };
        number.checked_mul(scale).map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, scale): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*scale);
        match UNITS.iter().find(fits) {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}ns", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Number(number) => Ok(Self(number)),
            Scalar::Text(text) => Self::parse(&text).ok_or_else(|| {
                let what = format!("{text:?} is no time, expected one such as \"2ms\"");
                serde::de::Error::custom(what)
            }),
        }
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Nanoseconds, or text such as \"2ms\" (ns, us, ms, s).",
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^[0-9_]{1,20} ?(ns|us|ms|s)?$"
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or text")]
enum Scalar {
    Number(u64),
    Text(String),
}

/// Decimal, or hexadecimal with `0x`; underscores are for people.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    let plain = text.trim().replace('_', "");
    match plain.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if plain.bytes().all(|byte| byte.is_ascii_digit()) => plain.parse().ok(),
        None => None,
    }
}
