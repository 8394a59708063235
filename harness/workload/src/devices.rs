//! The drivers of each device, as a run uses them.

mod qaic;
mod qat;
mod virtio_crypto;

use serde_json::{Map, Value, json};
use understudy_catalog::overlaid;
use understudy_client::DriverError;

use crate::book::{Book, FailureKind};
use crate::case::{Operation, Options, Work};
use crate::planted::Bug;
use crate::watch::Watched;

/// Longest virtual time that a driver waits for anything, in nanoseconds.
pub(crate) const PATIENCE: u64 = 10_000_000;

/// A driver at work.
pub(crate) trait Working {
    /// Does an operation. Requests may stay in flight.
    ///
    /// # Errors
    /// What the driver found wrong. [`DriverError::Timeout`] leaves requests in flight.
    fn perform(&mut self, operation: &Operation, book: &mut Book) -> Result<(), DriverError>;

    /// Waits until at most `leave` requests are in flight.
    ///
    /// # Errors
    /// As [`perform`](Self::perform).
    fn collect(&mut self, leave: usize, book: &mut Book) -> Result<(), DriverError>;

    /// Takes what has completed, without waiting.
    ///
    /// # Errors
    /// As [`perform`](Self::perform).
    fn reap(&mut self, book: &mut Book) -> Result<(), DriverError>;

    /// Requests in flight.
    fn in_flight(&self) -> usize;

    /// Whether the driver holds something whose state it does not know: it must start anew.
    fn is_lost(&self) -> bool {
        false
    }
}

/// What a device has.
struct Kit {
    device: &'static str,
    work: &'static [Work],
}

const KITS: [Kit; 3] = [
    Kit { device: "virtio-crypto", work: virtio_crypto::WORK },
    Kit { device: "qat", work: qat::WORK },
    Kit { device: "qaic", work: qaic::WORK },
];

/// Operations that every driver has.
const COMMON: [Work; 3] = [Work::Wait, Work::Idle, Work::Reset];

/// What a device's driver can do here. Empty for a device that has no driver here.
#[must_use]
pub fn work_of(device: &str) -> Vec<Work> {
    let kit = KITS.iter().find(|kit| kit.device == device);
    kit.map(|kit| kit.work.iter().chain(&COMMON).copied().collect()).unwrap_or_default()
}

/// Whether the driver relies on the order of completions, as that of MHI's transfer rings does.
pub(crate) fn completes_in_order(device: &str) -> bool {
    device == "qaic"
}

/// The model's parameters for these options, and what was asked for over them.
pub(crate) fn parameters(device: &str, options: &Options, over: &Map<String, Value>) -> Value {
    let parameters = match device {
        "virtio-crypto" => json!({ "data_queues": 3 }),
        "qaic" => json!({ "boot": if options.full_boot { "pbl" } else { "amss" } }),
        _ => Value::Null,
    };
    overlaid(parameters, over)
}

/// The options that a driver has with a model of these parameters.
pub(crate) fn possible(options: Options, parameters: &Map<String, Value>) -> Options {
    let packed = options.packed && parameters.get("packed_queues") != Some(&json!(false));
    Options { packed, ..options }
}

/// Starts the device's driver.
///
/// # Errors
/// What the driver found wrong.
pub(crate) fn start(
    device: &str,
    platform: Watched,
    options: &Options,
    bug: Option<Bug>,
) -> Result<Box<dyn Working>, DriverError> {
    Ok(match device {
        "virtio-crypto" => Box::new(virtio_crypto::Worker::start(platform, options, bug)?),
        "qat" => Box::new(qat::Worker::start(platform, options, bug)?),
        "qaic" => Box::new(qaic::Worker::start(platform, options, bug)?),
        _ => return Err(DriverError::Missing("driver here")),
    })
}

/// Every `n`th completion that a driver with that bug looks at, it overlooks.
#[derive(Debug, Default)]
pub(crate) struct Overlooked(u64);

impl Overlooked {
    fn strikes(&mut self, bug: Option<Bug>) -> bool {
        if bug != Some(Bug::DriverOverlooksCompletion) {
            return false;
        }
        self.0 += 1;
        self.0.is_multiple_of(3)
    }
}

/// Responses to nothing in a row. A register that points into a ring may be stuck, so a driver gives
/// up in the end.
#[derive(Debug, Default)]
pub(crate) struct Strangers(usize);

impl Strangers {
    const MAX: usize = 64;

    /// A response to nothing, on what it came by.
    fn met(&mut self, place: &str, book: &mut Book) -> Result<(), DriverError> {
        let what = format!("{place}: a response to no request in flight");
        book.deviate(FailureKind::Twice, what);
        self.0 += 1;
        if self.0 > Self::MAX {
            return Err(DriverError::Missing("response to a request in flight"));
        }
        Ok(())
    }

    /// A response to something.
    fn forget(&mut self) {
        self.0 = 0;
    }
}

/// Waits for a completion, whose interrupt must have come if the driver waited for one.
fn heard<T>(
    platform: &Watched,
    book: &mut Book,
    wait: impl FnOnce() -> Result<T, DriverError>,
) -> Result<T, DriverError> {
    platform.take_vain();
    let completed = wait()?;
    if platform.take_vain() {
        book.deviate(FailureKind::Silent, "a request completed without an interrupt");
    }
    Ok(completed)
}

/// Bytes that a salt chooses.
pub(crate) fn bytes(salt: u8, len: usize) -> Vec<u8> {
    let mut state = u32::from(salt).wrapping_mul(0x9e37_79b9) | 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}
