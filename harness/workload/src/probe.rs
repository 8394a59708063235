//! One request after the other, and what is seen of each: to show what a fault does, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Map;
use understudy_catalog::Device;
use understudy_client::{DriverError, Platform, SimulationPlatform};
use understudy_device::{AccessError, Around, Bar, Bus, DeviceModel, ResetKind, Vocabulary};
use understudy_faults::{Faults, Fired, Plan};
use understudy_pci::Irq;

use crate::book::{Book, FailureKind};
use crate::case::{Operation, Options, Work};
use crate::devices;
use crate::generate::WorkloadError;
use crate::watch::Watched;
pub use crate::watch::Written;

/// Steps after a request, in which a device that has nothing to do comes to rest.
const REST_STEPS: u64 = 2_000;

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The right result.
    Right,
    /// A wrong result.
    Wrong,
    /// An error status.
    Refused,
    /// The right result, and no interrupt for it.
    Silent,
    /// No completion in time.
    TimedOut,
    /// The driver found the device at fault.
    Confused,
}

/// Vectors that are looked at.
pub const VECTORS: u16 = 32;

/// What was seen of a turn: a request, or two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it came to.
    pub outcome: Outcome,
    /// Virtual time before it, in nanoseconds.
    pub start: u64,
    /// Virtual time after it and its reads.
    pub end: u64,
    /// Interrupts since the start, by vector.
    pub interrupts: Vec<u64>,
    /// Doorbells that the model heard.
    pub heard: u64,
    /// What the device wrote to memory.
    pub written: Vec<Written>,
    /// The numbers of the requests that completed, in the order in which they did.
    pub order: Vec<u64>,
    /// A register that changes with each request, read after it.
    pub register: u32,
    /// The first word of config space, read after it.
    pub config: u32,
}

/// What was seen of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Each request. Empty if the driver did not start.
    pub seen: Vec<Seen>,
    /// The faults that happened, in order; the last 256.
    pub fired: Vec<Fired>,
    /// The driver starts.
    pub starts: bool,
    /// The driver starts again after a reset of the function.
    pub starts_again: bool,
}

/// Puts a device through so many turns while a plan is in force. Each is one request or, in pairs,
/// two that are submitted together; then the device comes to rest.
///
/// # Errors
/// The device or the plan is none.
pub fn probe(
    device: &'static Device,
    plan: &Plan,
    options: &Options,
    turns: u8,
    pairs: bool,
) -> Result<Probed, WorkloadError> {
    let failed = |error: &dyn std::fmt::Display| WorkloadError::Device(error.to_string());
    let model = device.build(devices::parameters(device.name, options, &Map::new()));
    let heard = Arc::new(AtomicU64::new(0));
    let model = Box::new(Spy {
        model: model.map_err(|error| failed(&error))?,
        vocabulary: device.vocabulary,
        heard: Arc::clone(&heard),
    });
    let simulated = SimulationPlatform::new(model, 1).map_err(|error| failed(&error))?;
    let platform = Watched::new(simulated, device.vocabulary, None);
    let injected =
        platform.simulation(|it| Faults::inject_into(it.function_mut(), plan, device.vocabulary));
    injected.map_err(WorkloadError::Plan)?;
    let mut probed =
        Probed { seen: Vec::new(), fired: Vec::new(), starts: false, starts_again: false };
    if let Ok(mut worker) = devices::start(device.name, platform.clone(), options, None) {
        probed.starts = true;
        let mut book = Book::default();
        platform.take_written();
        heard.store(0, Ordering::Relaxed);
        for turn in 0..turns {
            let start = platform.now().0;
            let mut outcome = Outcome::Right;
            for operation in requests(device.name, turn, pairs) {
                let done = worker.perform(&operation, &mut book);
                if outcome == Outcome::Right {
                    outcome = judge(done, &mut book);
                }
            }
            // At rest: what comes late belongs to this request still, and the next begins with a
            // doorbell. One that does not come to rest shows in the time.
            platform.simulation(|it| it.drain(REST_STEPS)).ok();
            let rest = worker.reap(&mut book);
            if outcome == Outcome::Right {
                outcome = judge(rest, &mut book);
            }
            book.deviations.clear();
            let (register, config) = (read(device.name, &platform, turn), vendor(&platform));
            let (interrupts, end) = (interrupts(&platform), platform.now().0);
            let (written, order) = (platform.take_written(), std::mem::take(&mut book.order));
            let heard = heard.swap(0, Ordering::Relaxed);
            probed.seen.push(Seen {
                outcome,
                start,
                end,
                interrupts,
                heard,
                written,
                order,
                register,
                config,
            });
        }
    }
    platform.simulation(|it| it.reset(ResetKind::Function));
    platform.free_all();
    probed.starts_again = devices::start(device.name, platform.clone(), options, None).is_ok();
    probed.fired = platform.simulation(|it| {
        let faults = it.function_mut().interposer::<Faults>();
        faults.map(|faults| faults.log().cloned().collect()).unwrap_or_default()
    });
    Ok(probed)
}

fn requests(device: &str, turn: u8, pairs: bool) -> Vec<Operation> {
    let work = match device {
        // Of copies on a channel there is one at a time.
        "qaic" if pairs => Work::Null,
        "qaic" => Work::Copy,
        _ => Work::Cipher,
    };
    // Not of a session, whose creation would be a request of its own.
    let salt = if device == "virtio-crypto" { turn | 4 } else { turn };
    let leave = if pairs { 2 } else { 0 };
    let one = Operation { work, queue: 0, len: 64 + u16::from(turn), salt, leave };
    vec![one; 1 + usize::from(pairs)]
}

fn judge(done: Result<(), DriverError>, book: &mut Book) -> Outcome {
    let deviations = std::mem::take(&mut book.deviations);
    match (done, deviations.first().map(|it| it.kind)) {
        (Err(DriverError::Timeout(_) | DriverError::QueueFull { .. }), _) => Outcome::TimedOut,
        (Err(_), _) => Outcome::Confused,
        (Ok(()), None) => Outcome::Right,
        (Ok(()), Some(FailureKind::Refused)) => Outcome::Refused,
        (Ok(()), Some(FailureKind::Wrong)) => Outcome::Wrong,
        (Ok(()), Some(FailureKind::Silent)) => Outcome::Silent,
        (Ok(()), Some(_)) => Outcome::Confused,
    }
}

/// A register that is another number after each request.
fn read(device: &str, platform: &Watched, turn: u8) -> u32 {
    let mut word = [0; 4];
    platform.simulation(|it| {
        let (bar, offset) = match device {
            "virtio-crypto" => {
                // device_feature, of the half that device_feature_select says.
                let half = u32::from(turn % 2).to_le_bytes();
                let _ = it.bar_write(Bar(4), 0, &half);
                (Bar(4), 4)
            }
            // The place of a ring that nobody uses, and of a boot image that nobody needs.
            _ => {
                let (bar, offset) = if device == "qat" { (Bar(0), 0x7c) } else { (Bar(0), 0x108) };
                let value = u32::from(turn + 1) * 0x0101_1040;
                let _ = it.bar_write(bar, offset, &value.to_le_bytes());
                (bar, offset)
            }
        };
        // What is not answered reads as it does.
        let _ = it.bar_read(bar, offset, &mut word);
    });
    u32::from_le_bytes(word)
}

fn vendor(platform: &Watched) -> u32 {
    let mut word = [0; 4];
    platform.simulation(|it| {
        let _ = it.config_read(0, &mut word);
    });
    u32::from_le_bytes(word)
}

fn interrupts(platform: &Watched) -> Vec<u64> {
    platform.simulation(|it| {
        let all = [Irq::Intx, Irq::Msi, Irq::Msix];
        let of = |vector| all.into_iter().map(|irq| it.interrupts(irq, vector)).sum();
        (0..VECTORS).map(of).collect()
    })
}

/// A model whose doorbells are counted as it hears them.
struct Spy {
    model: Box<dyn DeviceModel>,
    vocabulary: &'static Vocabulary,
    heard: Arc<AtomicU64>,
}

impl Around for Spy {
    fn model(&self) -> &dyn DeviceModel {
        &*self.model
    }

    fn model_mut(&mut self) -> &mut dyn DeviceModel {
        &mut *self.model
    }

    fn write(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        if self.vocabulary.doorbells.iter().any(|bell| bell.queue(bar, offset).is_some()) {
            self.heard.fetch_add(1, Ordering::Relaxed);
        }
        self.model.write(bus, bar, offset, data)
    }
}
