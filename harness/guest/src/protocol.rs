//! What host and agent say to each other: one JSON object a line, over the guest's second serial
//! port. The host asks, the agent answers; only [`Hello`] comes unasked, once for each boot.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest line either side accepts, in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 256 << 10;

/// The most output of a [`Task::Shell`] that is sent back, in bytes: its end.
pub(crate) const MAX_OUTPUT_BYTES: usize = 32 << 10;

/// What the agent is asked to do. Each task answers pass or fail by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Runs a script with the guest's shell. Passes if its status is 0; measures its `output`.
    Shell {
        /// The script, as for `sh -c`.
        script: String,
    },
    /// Loads modules by name, with what they depend on.
    Load {
        /// Module names as `modprobe` takes them.
        modules: Vec<String>,
    },
    /// Unloads one module.
    Unload {
        /// The module's name.
        module: String,
    },
    /// Waits for `/proc/crypto` to list exactly these drivers for a module, their self-tests passed.
    Algorithms {
        /// The module's name, as `/proc/crypto` shows it.
        module: String,
        /// The driver names the module must have registered, no more and no fewer.
        drivers: Vec<String>,
    },
    /// Fails if the kernel logged a crash, a warning trace, a failed self-test or an error since
    /// the last time this was asked (or since boot).
    KernelLog,
    /// Encrypts and decrypts published and random vectors with a `cbc(aes)` driver over `AF_ALG`.
    CbcVectors {
        /// The driver, by its own name so that no other can answer for it.
        driver: String,
        /// Transforms kept open and used in turn, at least 1.
        transforms: u32,
        /// Where the random vectors start; the same seed gives the same vectors.
        seed: u64,
    },
    /// Times encryption with a `cbc(aes)` driver over `AF_ALG`.
    CbcTiming {
        /// The driver, by its own name.
        driver: String,
        /// Operations timed at each size, at least 1.
        operations: u32,
        /// Sizes of one operation in bytes: multiples of 16, at most 64 KiB.
        sizes: Vec<u32>,
    },
    /// Writes files through an eCryptfs mount, mounts it anew, and compares them; also looks at
    /// the files below, which must not hold the plain text.
    Ecryptfs {
        /// The driver that must serve the mount's `cbc(aes)`.
        driver: String,
        /// Where the contents start; the same seed gives the same files.
        seed: u64,
    },
    /// Computes with two drivers of one algorithm over `AF_ALG`, and compares.
    Compare {
        /// The driver to check, by its own name.
        driver: String,
        /// The driver it is compared with, by its own name.
        reference: String,
        /// What they are.
        shape: Shape,
        /// Where keys and contents start; the same seed gives the same ones.
        seed: u64,
    },
    /// Gives a driver another priority in the kernel's crypto core.
    Priority {
        /// The driver, by its own name.
        driver: String,
        /// The new priority.
        priority: u32,
    },
    /// Has memory paged out through zswap and in again, and compares it.
    PageOut {
        /// Pages of memory, 4 KiB each.
        pages: u32,
        /// Where the contents start; the same seed gives the same ones.
        seed: u64,
    },
    /// Runs one of DPDK's own tests (`dpdk-test`). Measures how many cases passed, were skipped
    /// and failed, and why they were skipped; passes only if none failed and each skip is explained.
    DpdkTest {
        /// The command, such as `compressdev_autotest`.
        command: String,
        /// The PCI function and options of its driver, as for `-a`.
        function: String,
        /// DPDK's drivers to load, as for `-d`.
        drivers: Vec<String>,
        /// Why cases are skipped.
        reasons: Vec<Reason>,
    },
    /// Compares two files of numbers. Measures how many there are, and the largest error.
    Near {
        /// The file.
        file: String,
        /// What should be in it.
        expected: String,
        /// The numbers' type; little-endian.
        float: Float,
        /// How far they may be off, in billionths: of the expected number if that is larger than
        /// 1, else of 1.
        tolerance: u32,
    },
    /// Runs networks of ONNX's backend test and compares their outputs. Measures how many passed, how
    /// many were refused as they must be, and how many are not for the device.
    Operators {
        /// Where the cases are, in the guest ([`crate::operators`]).
        folder: String,
    },
    /// Starts the guest anew, in order. Is not answered: [`Hello`] comes next.
    Reboot,
}

/// Why test cases are skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Text in the names of such cases, or in what they print: any of these.
    pub marks: Vec<String>,
    /// The reason, for people.
    pub why: String,
}

/// A type of floating-point numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Float {
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
}

/// What kind of algorithm a driver is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// A cipher with an IV of 16 bytes, on whole blocks.
    Cipher {
        /// Lengths of keys, in bytes.
        keys_bytes: Vec<u32>,
    },
    /// `authenc` with `cbc(aes)`.
    Authenc {
        /// Length of the authentication key, in bytes.
        auth_key_bytes: u32,
        /// Length of the tag, in bytes.
        tag_bytes: u32,
    },
}

/// The agent's first line after each boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The running kernel's release, as `uname -r` prints it.
    pub release: String,
    /// The guest's own time since its kernel started, in seconds.
    pub uptime_seconds: f64,
}

/// Everything the agent sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromAgent {
    /// The agent is up.
    Hello(Hello),
    /// The task passed, with what it measured.
    Pass(Value),
    /// The task failed, and why.
    Fail(String),
}
