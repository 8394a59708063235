//! Fault plans from a seed, for devices whose drivers run in a guest.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use understudy_faults::plan::{Fault, Kind, Name, Number, Plan, Time, When};
use understudy_faults::{Target, kinds, resolve};

/// Attempts to make a fault that the device takes.
const MAX_ATTEMPTS: u32 = 50;

/// A plan of 1 to 4 faults that the device has, the first of them after it was good for a while.
#[must_use]
pub fn plan(random: &mut ChaCha8Rng, target: &Target) -> Plan {
    let count = random.random_range(1..=4);
    let device = Some(target.device.clone());
    let mut plan = Plan { device, faults: Vec::new(), ..Plan::default() };
    for _ in 0..MAX_ATTEMPTS {
        plan.faults.push(fault(random, target));
        if !resolve::check(&plan, target).is_empty() {
            plan.faults.pop();
        }
        if plan.faults.len() == count {
            break;
        }
    }
    plan
}

fn fault(random: &mut ChaCha8Rng, target: &Target) -> Fault {
    let support: Vec<_> = kinds::support(target);
    let usable: Vec<_> = support.iter().filter(|kind| kind.refused.is_none()).collect();
    let name = usable.get(random.random_range(0..usable.len().max(1)));
    let kind = kind(random, target, name.map_or("all-ones", |it| it.kind.name));
    let mut when = When::default();
    match random.random_range(0..4) {
        0 => when.nth = Some(1 << random.random_range(0..8)),
        1 => when.every = Some(random.random_range(1..=16)),
        2 => {
            let from = random.random_range(1..=100);
            when.range = Some([from, from + random.random_range(0..=20)]);
        }
        _ => {}
    }
    let count = Some(1 << random.random_range(0..6));
    Fault { fault: kind, when, count, once: false }
}

fn kind(random: &mut ChaCha8Rng, target: &Target, name: &str) -> Kind {
    let time = Time(1_000 << random.random_range(0..20));
    let lasts = Some(Time(1_000_000 << random.random_range(0..11)));
    let vector = Some(random.random_range(0..target.vectors.max(1)));
    let seed = random.random();
    match name {
        "surprise-removal" => Kind::SurpriseRemoval { lasts },
        "link-flap" => Kind::LinkFlap { down: time },
        "config-error" => Kind::ConfigError {},
        "stuck-bit" => {
            let count = target.registers.len().max(1);
            let register = target.registers.get(random.random_range(0..count));
            let register = register.map_or_else(String::new, |it| it.name.clone());
            let bit = Number(1 << random.random_range(0..32));
            let value = if random.random() { bit } else { Number(0) };
            Kind::StuckBit { register, mask: bit, value, lasts }
        }
        "stale-read" => Kind::StaleRead {},
        "torn-read" => Kind::TornRead {},
        "doorbell-lost" => Kind::DoorbellLost {},
        "doorbell-late" => Kind::DoorbellLate { delay: time },
        "doorbell-duplicate" => Kind::DoorbellDuplicate {},
        "queue-full" => Kind::QueueFull { queue: None, lasts },
        "completion-status" => {
            let statuses = target.vocabulary.statuses;
            let status = statuses.get(random.random_range(0..statuses.len().max(1)));
            Kind::CompletionStatus { status: Name::Number(status.map_or(1, |it| it.value)) }
        }
        "completion-lost" => Kind::CompletionLost {},
        "completion-late" => Kind::CompletionLate { delay: time },
        "completion-duplicate" => Kind::CompletionDuplicate {},
        "completion-reordered" => Kind::CompletionReordered {},
        "completion-wrong-tag" => {
            let tag = random.random::<bool>().then(|| Number(random.random_range(0..0x1_0000)));
            Kind::CompletionWrongTag { tag }
        }
        "completion-torn" => Kind::CompletionTorn { delay: time },
        "completion-before-data" => Kind::CompletionBeforeData { delay: time },
        "interrupt-lost" => Kind::InterruptLost {},
        "interrupt-late" => Kind::InterruptLate { delay: time },
        "interrupt-spurious" => Kind::InterruptSpurious { vector },
        "interrupt-wrong-vector" => Kind::InterruptWrongVector { vector },
        "interrupt-storm" => Kind::InterruptStorm {
            interrupts: 1 << random.random_range(0..12),
            interval: Time(10_000),
            vector,
        },
        "dma-read-error" => Kind::DmaReadError {},
        "dma-write-error" => Kind::DmaWriteError {},
        "dma-partial" => Kind::DmaPartial {},
        "dma-stale" => Kind::DmaStale {},
        "reset-hang" => Kind::ResetHang { lasts },
        "spontaneous-reset" => Kind::SpontaneousReset {},
        "firmware-hang" => Kind::FirmwareHang { lasts },
        "corrupt-output" => Kind::CorruptOutput { seed },
        "slow-device" => Kind::SlowDevice { delay: time, lasts },
        "feature-missing" => {
            let features = target.vocabulary.features.map_or(&[][..], |it| it.features);
            let feature = features.get(random.random_range(0..features.len().max(1)));
            Kind::FeatureMissing { feature: Name::Number(feature.map_or(0, |it| it.value)) }
        }
        _ => Kind::AllOnes {},
    }
}
