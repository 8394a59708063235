//! One request after the other, and what is seen of each: to show what a fault does, and when.

use understudy_catalog::Device;
use understudy_client::{DriverError, Platform, SimulationPlatform};
use understudy_device::{Bar, ResetKind};
use understudy_faults::{Faults, Fired, Plan};
use understudy_pci::Irq;

use crate::book::{Book, FailureKind};
use crate::case::{Operation, Options, Work};
use crate::devices;
use crate::generate::WorkloadError;
use crate::watch::Watched;

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
    /// No completion in time.
    TimedOut,
    /// The driver found the device at fault.
    Confused,
}

/// What was seen of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it came to.
    pub outcome: Outcome,
    /// Virtual time before it, in nanoseconds.
    pub start: u64,
    /// Virtual time after it and its reads.
    pub end: u64,
    /// Interrupts since the start.
    pub interrupts: u64,
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

/// Puts a device through `requests` requests, one at a time, while a plan is in force.
///
/// # Errors
/// The device or the plan is none.
pub fn probe(
    device: &'static Device,
    plan: &Plan,
    options: &Options,
    requests: u8,
) -> Result<Probed, WorkloadError> {
    let failed = |error: &dyn std::fmt::Display| WorkloadError::Device(error.to_string());
    let model = device.build(devices::parameters(device.name, options));
    let model = model.map_err(|error| failed(&error))?;
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
        for turn in 0..requests {
            let start = platform.now().0;
            let done = worker.perform(&request(device.name, turn), &mut book);
            let mut outcome = judge(done, &mut book);
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
            probed.seen.push(Seen { outcome, start, end, interrupts, register, config });
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

fn request(device: &str, turn: u8) -> Operation {
    let work = if device == "qaic" { Work::Copy } else { Work::Cipher };
    // Not of a session, whose creation would be a request of its own.
    let salt = if device == "virtio-crypto" { turn | 4 } else { turn };
    Operation { work, queue: 0, len: 64 + u16::from(turn), salt, leave: 0 }
}

fn judge(done: Result<(), DriverError>, book: &mut Book) -> Outcome {
    let deviations = std::mem::take(&mut book.deviations);
    match (done, deviations.first().map(|it| it.kind)) {
        (Err(DriverError::Timeout(_) | DriverError::QueueFull { .. }), _) => Outcome::TimedOut,
        (Err(_), _) => Outcome::Confused,
        (Ok(()), None) => Outcome::Right,
        (Ok(()), Some(FailureKind::Refused)) => Outcome::Refused,
        (Ok(()), Some(FailureKind::Wrong)) => Outcome::Wrong,
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
            // The head of the request ring.
            "qat" => (Bar(0), 0xc8),
            _ => (Bar(2), 0x2_0000),
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

fn interrupts(platform: &Watched) -> u64 {
    platform.simulation(|it| {
        let all = [Irq::Intx, Irq::Msi, Irq::Msix];
        let vectors = all.into_iter().flat_map(|irq| (0..32).map(move |vector| (irq, vector)));
        vectors.map(|(irq, vector)| it.interrupts(irq, vector)).sum()
    })
}
