//! Cases drawn from a seed, or from a fuzzer's bytes.

use std::convert::Infallible;

use rand::{Rng, RngExt, SeedableRng, TryRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use understudy_catalog::Device;
use understudy_faults::plan::{Name, Number, Probability};
use understudy_faults::{Fault, Kind, Mistake, Plan, Site, Target, Time, When, kinds, resolve};
use understudy_pci::PciFunction;

use crate::case::{Case, Completion, Operation, Options, Work};
use crate::devices;

/// Most operations of a case.
const MAX_OPERATIONS: usize = 40;
/// Most faults of a case.
const MAX_FAULTS: usize = 3;

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The device cannot be built.
    #[error("{0}")]
    Device(String),
    /// There is no driver here for the device.
    #[error("there is no driver for {0} in simulation")]
    NoDriver(String),
    /// The plan is not for the device.
    #[error("{}", .0.first().map_or_else(String::new, ToString::to_string))]
    Plan(Vec<Mistake>),
}

/// Makes cases for a device.
#[derive(Debug)]
pub struct Generator {
    device: &'static Device,
    parameters: Map<String, Value>,
    target: Target,
    work: Vec<Work>,
    kinds: Vec<&'static str>,
}

impl Generator {
    /// A generator for a device.
    ///
    /// # Errors
    /// There is no driver for it here.
    pub fn new(device: &'static Device) -> Result<Self, WorkloadError> {
        Self::with_parameters(device, Map::new())
    }

    /// A generator for a device with these parameters.
    ///
    /// # Errors
    /// There is no driver for it here, or no such device.
    pub fn with_parameters(
        device: &'static Device,
        parameters: Map<String, Value>,
    ) -> Result<Self, WorkloadError> {
        let work = devices::work_of(device.name);
        if work.is_empty() {
            return Err(WorkloadError::NoDriver(device.name.to_owned()));
        }
        let failed = |error: &dyn std::fmt::Display| WorkloadError::Device(error.to_string());
        let all = devices::parameters(device.name, &Options::default(), &parameters);
        let model = device.build(all).map_err(|error| failed(&error))?;
        let function = PciFunction::new(model).map_err(|error| failed(&error))?;
        let target = Target::new(&function, device.vocabulary);
        let all = kinds::ALL.iter().map(|kind| kind.name);
        let kinds = all.filter(|kind| kinds::refusal(kind, &target).is_none()).collect();
        Ok(Self { device, parameters, target, work, kinds })
    }

    /// What plans can name of the device.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The case of a seed.
    #[must_use]
    pub fn case(&self, seed: u64) -> Case {
        self.case_from(&mut ChaCha8Rng::seed_from_u64(seed), seed)
    }

    /// The case of a seed, with a plan that is given.
    #[must_use]
    pub fn case_with(&self, seed: u64, plan: &Plan) -> Case {
        Case { plan: plan.clone(), ..self.case(seed) }
    }

    /// The case that a fuzzer's bytes stand for. Any bytes stand for one.
    #[must_use]
    pub fn case_from_bytes(&self, bytes: &[u8]) -> Case {
        let mut random = Bytes::new(bytes);
        let seed = random.random();
        self.case_from(&mut random, seed)
    }

    /// A case drawn from anything, whose run has that seed.
    pub fn case_from(&self, random: &mut impl Rng, seed: u64) -> Case {
        let options = options(random);
        // Swarm: each case leaves out some kinds of operations and faults altogether.
        let work = some(&self.work, random);
        let kinds = some(&self.kinds, random);
        let faults = match random.random_range(0..4) {
            0 => 0,
            _ => random.random_range(1..=MAX_FAULTS),
        };
        let count = random.random_range(1..=MAX_OPERATIONS);
        let operations = (0..count).map(|_| operation(&work, random)).collect();
        let mut plan = Plan::default();
        for _ in 0..faults {
            let fault = self.fault(&kinds, random);
            let alone = Plan { faults: vec![fault], ..Plan::default() };
            if resolve::check(&alone, &self.target).is_empty() {
                plan.faults.extend(alone.faults);
            }
        }
        let device = self.device.name.to_owned();
        let parameters = self.parameters.clone();
        Case { device, parameters, seed, options, plan, operations, planted: None }
    }

    fn fault(&self, kinds: &[&'static str], random: &mut impl Rng) -> Fault {
        let name = pick(kinds, random);
        let fault = self.kind(name, random);
        let when = self.when(fault.info().sites, random);
        let (count, once) = match random.random_range(0..3) {
            0 => (None, true),
            1 => (Some(random.random_range(1..6)), false),
            _ => (None, false),
        };
        Fault { fault, when, count, once }
    }

    fn kind(&self, name: &str, random: &mut impl Rng) -> Kind {
        let words = self.target.vocabulary;
        let named = |all: &[understudy_device::Named], random: &mut _| {
            let names: Vec<_> = all.iter().map(|named| named.name).collect();
            Name::Name(pick(&names, random).to_owned())
        };
        match name {
            "surprise-removal" => Kind::SurpriseRemoval { lasts: lasts(random) },
            "link-flap" => Kind::LinkFlap { down: time(random) },
            "all-ones" => Kind::AllOnes {},
            "config-error" => Kind::ConfigError {},
            "stuck-bit" => {
                let registers = &self.target.registers;
                let register = &registers[random.random_range(0..registers.len().max(1))];
                let bit = 1 << random.random_range(0..u32::from(register.width) * 8);
                Kind::StuckBit {
                    register: register.name.clone(),
                    mask: Number(bit),
                    value: Number(if random.random() { bit } else { 0 }),
                    lasts: lasts(random),
                }
            }
            "stale-read" => Kind::StaleRead {},
            "torn-read" => Kind::TornRead {},
            "doorbell-lost" => Kind::DoorbellLost {},
            "doorbell-late" => Kind::DoorbellLate { delay: time(random) },
            "doorbell-duplicate" => Kind::DoorbellDuplicate {},
            "queue-full" => {
                let queue = random.random::<bool>().then(|| self.queue(random));
                Kind::QueueFull { queue, lasts: lasts(random) }
            }
            "completion-status" => Kind::CompletionStatus { status: named(words.statuses, random) },
            "completion-lost" => Kind::CompletionLost {},
            "completion-late" => Kind::CompletionLate { delay: time(random) },
            "completion-duplicate" => Kind::CompletionDuplicate {},
            "completion-reordered" => Kind::CompletionReordered {},
            "completion-wrong-tag" => {
                let tag = random.random::<bool>().then(|| Number(random.random_range(0..64)));
                Kind::CompletionWrongTag { tag }
            }
            "completion-torn" => Kind::CompletionTorn { delay: time(random) },
            "completion-before-data" => Kind::CompletionBeforeData { delay: time(random) },
            "interrupt-lost" => Kind::InterruptLost {},
            "interrupt-late" => Kind::InterruptLate { delay: time(random) },
            "interrupt-spurious" => Kind::InterruptSpurious { vector: self.vector(random) },
            "interrupt-wrong-vector" => Kind::InterruptWrongVector { vector: self.vector(random) },
            "interrupt-storm" => Kind::InterruptStorm {
                interrupts: random.random_range(1..100),
                interval: time(random),
                vector: self.vector(random),
            },
            "dma-read-error" => Kind::DmaReadError {},
            "dma-write-error" => Kind::DmaWriteError {},
            "dma-partial" => Kind::DmaPartial {},
            "dma-stale" => Kind::DmaStale {},
            "reset-hang" => Kind::ResetHang { lasts: lasts(random) },
            "spontaneous-reset" => Kind::SpontaneousReset {},
            "firmware-hang" => Kind::FirmwareHang { lasts: lasts(random) },
            "corrupt-output" => Kind::CorruptOutput { seed: random.random_range(0..1000) },
            "slow-device" => {
                Kind::SlowDevice { delay: Time(time(random).0 / 8), lasts: lasts(random) }
            }
            _ => {
                let known = words.features.map_or(&[][..], |window| window.features);
                match known {
                    [] => Kind::DoorbellDuplicate {},
                    known => Kind::FeatureMissing { feature: named(known, random) },
                }
            }
        }
    }

    fn queue(&self, random: &mut impl Rng) -> Name {
        let queues: Vec<u16> = self.target.queues.iter().map(|(index, _)| *index).collect();
        Name::Number(pick(&queues, random).into())
    }

    fn vector(&self, random: &mut impl Rng) -> Option<u16> {
        random.random::<bool>().then(|| random.random_range(0..self.target.vectors.clamp(1, 5)))
    }

    /// When a fault with these sites happens.
    fn when(&self, sites: &[Site], random: &mut impl Rng) -> When {
        let anywhere = [
            Site::Fetch,
            Site::Completion,
            Site::Doorbell,
            Site::Write,
            Site::DmaRead,
            Site::Start,
        ];
        let site = pick(if sites.is_empty() { &anywhere } else { sites }, random);
        let mut when = When::default();
        if sites.is_empty() || sites.len() > 1 {
            when.on = Some(site);
        }
        let has_queue = matches!(site, Site::Doorbell | Site::Fetch | Site::Completion);
        if has_queue && random.random_range(0..4) == 0 {
            when.queue = Some(self.queue(random));
        }
        match random.random_range(0..6) {
            0..=2 => when.nth = Some(random.random_range(1..30)),
            3 => when.every = Some(random.random_range(2..10)),
            4 => {
                let from = random.random_range(1..20);
                when.range = Some([from, from + random.random_range(0..5)]);
            }
            _ => {
                let per_mille = random.random_range(1..300);
                when.probability =
                    Some(Probability { per_mille, seed: random.random_range(0..1000) });
            }
        }
        if random.random_range(0..8) == 0 {
            let from = time(random).0;
            when.time = Some([Time(from), Time(from + time(random).0)]);
        }
        if random.random_range(0..8) == 0 && site != Site::Start {
            let on = Some(pick(&[Site::Doorbell, Site::Fetch, Site::Completion], random));
            let step = When { on, nth: Some(random.random_range(1..10)), ..When::default() };
            when.after = vec![step];
            when.rearm = random.random();
        }
        when
    }
}

fn options(random: &mut impl Rng) -> Options {
    Options {
        completion: pick(&[Completion::Polling, Completion::Single, Completion::Vectors], random),
        pieces: match random.random_range(0..3) {
            0 => Some(random.random_range(0..200)),
            _ => None,
        },
        depth: random.random_range(1..=9),
        queues: random.random_range(1..=3),
        packed: random.random(),
        indirect: random.random(),
        event_idx: random.random(),
        full_boot: random.random_range(0..4) == 0,
    }
}

fn operation(work: &[Work], random: &mut impl Rng) -> Operation {
    let mut chosen = pick(work, random);
    // What takes everything down comes seldom.
    if matches!(chosen, Work::Reset | Work::Renew) && random.random_range(0..4) != 0 {
        chosen = work[0];
    }
    let len = match random.random_range(0..4) {
        0 => random.random_range(0..32),
        1 => random.random_range(0..4096),
        _ => random.random_range(0..300),
    };
    Operation {
        work: chosen,
        queue: random.random_range(0..3),
        len,
        salt: random.random_range(0..16),
        leave: random.random_range(0..8),
    }
}

/// Nanoseconds, small ones as likely as large ones: 1 us to 4 ms.
fn time(random: &mut impl Rng) -> Time {
    Time(1000 << random.random_range(0..13_u32))
}

fn lasts(random: &mut impl Rng) -> Option<Time> {
    (random.random_range(0..4) != 0).then(|| time(random))
}

fn pick<T: Copy>(all: &[T], random: &mut impl Rng) -> T {
    all[random.random_range(0..all.len())]
}

/// Some of them, at least one, in their order.
fn some<T: Copy>(all: &[T], random: &mut impl Rng) -> Vec<T> {
    let share = random.random_range(1..=4);
    let mut some: Vec<T> =
        all.iter().filter(|_| random.random_range(0..4) < share).copied().collect();
    if some.is_empty() {
        some.push(pick(all, random));
    }
    some
}

/// A fuzzer's bytes as a source of random numbers: zeros once they are used up.
#[derive(Debug, Clone)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// From these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let len = N.min(self.0.len());
        let (now, rest) = self.0.split_at(len);
        taken[..len].copy_from_slice(now);
        self.0 = rest;
        taken
    }
}

impl TryRng for Bytes<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        // Two bytes decide: ranges here are small, and a fuzzer's bytes are dear. Ranges are scaled
        // from the upper bits.
        let [a, b] = self.take();
        Ok(u32::from_be_bytes([a, b, a, b]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let bytes: [u8; 4] = self.take();
        let [a, b, c, d] = bytes;
        Ok(u64::from_be_bytes([a, b, c, d, a, b, c, d]))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for byte in dst {
            [*byte] = self.take();
        }
        Ok(())
    }
}
