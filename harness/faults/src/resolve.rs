//! Names in a plan against a device.

use std::fmt;

use understudy_device::{Bar, Field, Named, RegisterState, Requests, Vocabulary};
use understudy_pci::PciFunction;

use crate::kinds::refusal;
use crate::plan::{Fault, Kind, Memory, Name, Number, Plan, Site, Time, When, parse_number};
use crate::trigger::{Pick, Place, Trigger};

/// Faults of one plan at most.
pub const MAX_FAULTS: usize = 256;
/// Most steps of `after`.
const MAX_STEPS: usize = 16;
/// Most interrupts of a storm.
const MAX_STORM: u32 = 1_000_000;

/// One thing that is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    /// Where: `faults[2].when.queue`.
    pub place: String,
    /// What, and what would be right.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// The device that a plan is for: what of it plans can name.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name of the device.
    pub device: String,
    /// Interrupt vectors of the kind it has most of.
    pub vectors: u16,
    /// Registers of the BARs.
    pub registers: Vec<RegisterState>,
    /// Numbers and names of queues.
    pub queues: Vec<(u16, String)>,
    /// Its words.
    pub vocabulary: &'static Vocabulary,
}

impl Target {
    /// What plans can name of a function.
    #[must_use]
    pub fn new(function: &PciFunction, vocabulary: &'static Vocabulary) -> Self {
        let identity = function.identity();
        let mut state = function.inspect();
        state.registers.retain(|register| register.bar < 6);
        let mut queues: Vec<(u16, String)> =
            state.queues.into_iter().map(|queue| (queue.index, queue.name)).collect();
        if let Requests::Inline { .. } = vocabulary.requests {
            // Queues that do not exist yet have doorbells already.
            let all = vocabulary.doorbells.iter().map(|bell| bell.count).max().unwrap_or(0);
            for index in 0..all {
                if queues.iter().all(|(known, _)| *known != index) {
                    queues.push((index, format!("queue-{index}")));
                }
            }
        }
        Self {
            device: identity.name.to_owned(),
            vectors: identity.msix_vectors().max(identity.msi_vectors()).max(1),
            registers: state.registers,
            queues,
            vocabulary,
        }
    }

    /// Whether the vocabulary describes the entries of this queue. Devices have others beside, such
    /// as those of a transport.
    pub(crate) fn describes(&self, queue: u16) -> bool {
        match self.vocabulary.requests {
            Requests::Inline { .. } => {
                self.vocabulary.doorbells.iter().any(|bell| queue < bell.count)
            }
            Requests::Virtqueue { .. } => true,
        }
    }

    /// A register by name, or by `bar:offset`.
    pub(crate) fn place(&self, name: &str) -> Option<Place> {
        if let Some(register) = self.registers.iter().find(|register| register.name == name) {
            let (bar, offset) = (Bar(register.bar), register.offset);
            return Some(Place { bar, offset, width: register.width.into() });
        }
        let (bar, offset) = name.split_once(':')?;
        let bar = u8::try_from(parse_number(bar)?).ok().filter(|bar| *bar < 6)?;
        Some(Place { bar: Bar(bar), offset: parse_number(offset)?, width: 0 })
    }
}

/// What happens, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Removal { lasts: Option<u64> },
    AllOnes,
    ConfigError,
    Stuck { place: Place, mask: u64, value: u64, lasts: Option<u64> },
    StaleRead,
    TornRead,
    DoorbellLost,
    DoorbellLate(u64),
    DoorbellTwice,
    Full { queue: Option<u16>, lasts: Option<u64> },
    Status(u64),
    Lost,
    Late(u64),
    Twice,
    Reordered,
    WrongTag(Option<u64>),
    Torn(u64),
    BeforeData(u64),
    InterruptLost,
    InterruptLate(u64),
    Spurious(u16),
    WrongVector(Option<u16>),
    Storm { left: u32, interval: u64, vector: u16 },
    DmaError,
    DmaPartial,
    DmaStale,
    ResetHang { lasts: Option<u64> },
    SelfReset,
    Hang { lasts: Option<u64> },
    Corrupt(u64),
    Slow { delay: u64, lasts: Option<u64> },
    Missing(u64),
}

/// A fault that is understood.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) id: u32,
    pub(crate) fault: Fault,
    pub(crate) effect: Effect,
    pub(crate) trigger: Trigger,
    pub(crate) limit: u64,
    pub(crate) fired: u64,
}

/// Understands a plan.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn resolve(plan: &Plan, target: &Target) -> Result<Vec<Rule>, Vec<Mistake>> {
    let mut resolver = Resolver { target, mistakes: Vec::new() };
    if let Some(device) = plan.device.as_ref().filter(|device| **device != target.device) {
        let what = format!("the plan is for {device}, and this is {}", target.device);
        resolver.mistake("device", what);
    }
    if plan.faults.len() > MAX_FAULTS {
        resolver.mistake("faults", format!("{} faults, at most {MAX_FAULTS}", plan.faults.len()));
    }
    let rules = plan.faults.iter().take(MAX_FAULTS).enumerate();
    let rules: Vec<_> = rules
        .filter_map(|(index, fault)| resolver.rule(fault, &format!("faults[{index}]")))
        .collect();
    if resolver.mistakes.is_empty() { Ok(rules) } else { Err(resolver.mistakes) }
}

/// Everything that is wrong with a plan for a device.
#[must_use]
pub fn check(plan: &Plan, target: &Target) -> Vec<Mistake> {
    resolve(plan, target).err().unwrap_or_default()
}

struct Resolver<'a> {
    target: &'a Target,
    mistakes: Vec<Mistake>,
}

impl Resolver<'_> {
    fn mistake(&mut self, place: &str, what: impl Into<String>) {
        self.mistakes.push(Mistake { place: place.to_owned(), what: what.into() });
    }

    fn rule(&mut self, fault: &Fault, place: &str) -> Option<Rule> {
        let before = self.mistakes.len();
        let info = fault.fault.info();
        if let Some(reason) = refusal(info.name, self.target) {
            let what = format!("{} is not possible on {}: {reason}", info.name, self.target.device);
            self.mistake(&format!("{place}.fault"), what);
            return None;
        }
        if fault.count == Some(0) {
            self.mistake(&format!("{place}.count"), "0 times is never, expected 1 or more");
        }
        if fault.once && fault.count.is_some_and(|count| count != 1) {
            self.mistake(place, "both once and a count other than 1, expected one of them");
        }
        let effect = self.effect(&fault.fault, &format!("{place}.fault"));
        let trigger = self.trigger(&fault.when, info.sites, &format!("{place}.when"), true);
        if before != self.mistakes.len() {
            return None;
        }
        let (fault, limit) = (fault.clone(), fault.limit());
        Some(Rule { id: 0, fault, effect: effect?, trigger, limit, fired: 0 })
    }

    fn effect(&mut self, kind: &Kind, place: &str) -> Option<Effect> {
        let nanos = |time: &Option<Time>| time.map(|time| time.0);
        Some(match kind {
            Kind::SurpriseRemoval { lasts } => Effect::Removal { lasts: nanos(lasts) },
            Kind::LinkFlap { down } => Effect::Removal { lasts: Some(down.0) },
            Kind::AllOnes {} => Effect::AllOnes,
            Kind::ConfigError {} => Effect::ConfigError,
            Kind::StuckBit { register, mask, value, lasts } => Effect::Stuck {
                place: self.register(register, &format!("{place}.register"))?,
                mask: mask.0,
                value: value.0,
                lasts: nanos(lasts),
            },
            Kind::StaleRead {} => Effect::StaleRead,
            Kind::TornRead {} => Effect::TornRead,
            Kind::DoorbellLost {} => Effect::DoorbellLost,
            Kind::DoorbellLate { delay } => Effect::DoorbellLate(delay.0),
            Kind::DoorbellDuplicate {} => Effect::DoorbellTwice,
            Kind::QueueFull { queue, lasts } => Effect::Full {
                queue: match queue {
                    Some(queue) => Some(self.queue(queue, &format!("{place}.queue"))?),
                    None => None,
                },
                lasts: nanos(lasts),
            },
            Kind::CompletionStatus { status } => {
                let known = self.target.vocabulary.statuses;
                Effect::Status(self.named(status, known, "status", &format!("{place}.status"))?)
            }
            Kind::CompletionLost {} => Effect::Lost,
            Kind::CompletionLate { delay } => Effect::Late(delay.0),
            Kind::CompletionDuplicate {} => Effect::Twice,
            Kind::CompletionReordered {} => Effect::Reordered,
            Kind::CompletionWrongTag { tag } => Effect::WrongTag(tag.map(|tag| tag.0)),
            Kind::CompletionTorn { delay } => Effect::Torn(delay.0),
            Kind::CompletionBeforeData { delay } => Effect::BeforeData(delay.0),
            Kind::InterruptLost {} => Effect::InterruptLost,
            Kind::InterruptLate { delay } => Effect::InterruptLate(delay.0),
            Kind::InterruptSpurious { vector } => Effect::Spurious(self.vector(*vector, place)?),
            Kind::InterruptWrongVector { vector } => {
                self.vector(*vector, place)?;
                Effect::WrongVector(*vector)
            }
            Kind::InterruptStorm { interrupts, interval, vector } => {
                if *interrupts == 0 || *interrupts > MAX_STORM {
                    let what = format!("{interrupts} interrupts, expected 1 to {MAX_STORM}");
                    self.mistake(&format!("{place}.interrupts"), what);
                }
                let vector = self.vector(*vector, place)?;
                Effect::Storm { left: *interrupts, interval: interval.0, vector }
            }
            Kind::DmaReadError {} | Kind::DmaWriteError {} => Effect::DmaError,
            Kind::DmaPartial {} => Effect::DmaPartial,
            Kind::DmaStale {} => Effect::DmaStale,
            Kind::ResetHang { lasts } => Effect::ResetHang { lasts: nanos(lasts) },
            Kind::SpontaneousReset {} => Effect::SelfReset,
            Kind::FirmwareHang { lasts } => Effect::Hang { lasts: nanos(lasts) },
            Kind::CorruptOutput { seed } => Effect::Corrupt(*seed),
            Kind::SlowDevice { delay, lasts } => {
                Effect::Slow { delay: delay.0, lasts: nanos(lasts) }
            }
            Kind::FeatureMissing { feature } => {
                let known = self.target.vocabulary.features.map_or(&[][..], |all| all.features);
                let place = format!("{place}.feature");
                Effect::Missing(self.named(feature, known, "feature", &place)?)
            }
        })
    }

    fn trigger(&mut self, when: &When, acts: &[Site], place: &str, outermost: bool) -> Trigger {
        let sites = self.sites(when, acts, place, outermost);
        self.check_filters(when, &sites, place);
        let mut trigger = Trigger::new(sites);
        let part = |name: &str| format!("{place}.{name}");
        trigger.queue = when.queue.as_ref().and_then(|queue| self.queue(queue, &part("queue")));
        trigger.register =
            when.register.as_ref().and_then(|name| self.register(name, &part("register")));
        trigger.value = when.value.map(|value| (value.0, mask(when.mask)));
        let opcodes = self.target.vocabulary.opcodes;
        trigger.opcode = when
            .opcode
            .as_ref()
            .and_then(|opcode| self.named(opcode, opcodes, "opcode", &part("opcode")));
        for (index, entry) in when.entry.iter().enumerate() {
            if !(1..=8).contains(&entry.width) {
                let what = format!("{} bytes, expected 1 to 8", entry.width);
                self.mistake(&format!("{place}.entry[{index}].width"), what);
            }
            let field = Field::new(entry.offset, entry.width);
            trigger.entry.push((field, entry.value.0, mask(entry.mask)));
        }
        if when.vector.is_some() {
            trigger.vector = self.vector(when.vector, place);
        }
        trigger.address = when.address.map(|[first, last]| (first.0, last.0));
        trigger.payload = when.of.map(|of| of == Memory::Payload);
        trigger.time = when.time.map(|[from, to]| (from.0, to.0));
        trigger.pick = self.pick(when, place);
        if when.after.len() > MAX_STEPS {
            self.mistake(&part("after"), format!("at most {MAX_STEPS} steps"));
        }
        if when.rearm && when.after.is_empty() {
            self.mistake(&part("rearm"), "there is nothing that must happen again, expected after");
        }
        for (index, step) in when.after.iter().take(MAX_STEPS).enumerate() {
            let place = format!("{place}.after[{index}]");
            if !step.after.is_empty() {
                self.mistake(&place, "a step has steps of its own, expected one list");
            } else {
                trigger.after.push(self.trigger(step, &[], &place, false));
            }
        }
        trigger.rearm = when.rearm;
        trigger
    }

    fn sites(&mut self, when: &When, acts: &[Site], place: &str, outermost: bool) -> Vec<Site> {
        match when.on {
            Some(on) if !acts.is_empty() && !acts.contains(&on) => {
                let acts: Vec<_> = acts.iter().map(|site| name_of(*site)).collect();
                let what = format!(
                    "this kind acts on {}, expected that, or {} as a step of after",
                    acts.join(" and "),
                    name_of(on)
                );
                self.mistake(&format!("{place}.on"), what);
                vec![on]
            }
            Some(on) => vec![on],
            None if !acts.is_empty() => acts.to_vec(),
            None if outermost => vec![Site::Start],
            None => {
                self.mistake(place, "a step needs on: what happens");
                Vec::new()
            }
        }
    }

    /// A filter that no event of these places has would never match.
    fn check_filters(&mut self, when: &When, sites: &[Site], place: &str) {
        use Site::{
            Completion, Config, DmaRead, DmaWrite, Doorbell, Fetch, Interrupt, Read, Write,
        };
        let filters: [(&str, bool, &[Site]); 8] = [
            ("queue", when.queue.is_some(), &[Doorbell, Fetch, Completion]),
            ("register", when.register.is_some(), &[Read, Write, Doorbell]),
            ("value", when.value.is_some(), &[Read, Write, Doorbell, Config]),
            ("opcode", when.opcode.is_some(), &[Fetch, Completion]),
            ("entry", !when.entry.is_empty(), &[Fetch, Completion]),
            ("vector", when.vector.is_some(), &[Interrupt]),
            ("address", when.address.is_some(), &[Config, DmaRead, DmaWrite]),
            ("of", when.of.is_some(), &[DmaRead, DmaWrite]),
        ];
        for (name, given, has) in filters {
            if given && !sites.iter().any(|site| has.contains(site)) {
                let sites: Vec<_> = sites.iter().map(|site| name_of(*site)).collect();
                let has: Vec<_> = has.iter().map(|site| name_of(*site)).collect();
                let what = format!("{} has no {name}; {} have", sites.join(" or "), has.join(", "));
                self.mistake(&format!("{place}.{name}"), what);
            }
        }
        if when.mask.is_some() && when.value.is_none() {
            self.mistake(&format!("{place}.mask"), "a mask without value");
        }
    }

    fn pick(&mut self, when: &When, place: &str) -> Pick {
        for (name, value) in [("nth", when.nth), ("every", when.every)] {
            if value == Some(0) {
                self.mistake(&format!("{place}.{name}"), "0, expected 1 or more");
            }
        }
        if let Some([from, to]) = when.range.filter(|[from, to]| from > to || *from == 0) {
            let what = format!("[{from}, {to}], expected numbers from 1, the smaller one first");
            self.mistake(&format!("{place}.range"), what);
        }
        if when.time.is_some_and(|[from, to]| from > to) {
            self.mistake(&format!("{place}.time"), "ends before it begins");
        }
        if when.address.is_some_and(|[first, last]| first > last) {
            self.mistake(&format!("{place}.address"), "the last is before the first");
        }
        if when.probability.is_some_and(|chance| chance.per_mille > 1000) {
            self.mistake(&format!("{place}.probability.per_mille"), "expected 0 to 1000");
        }
        Pick {
            nth: when.nth,
            every: when.every,
            range: when.range,
            per_mille: when.probability.map(|chance| (chance.per_mille, chance.seed)),
        }
    }

    fn queue(&mut self, queue: &Name, place: &str) -> Option<u16> {
        let queues = &self.target.queues;
        let found = queues.iter().find(|(index, name)| match queue {
            Name::Number(number) => u64::from(*index) == *number,
            Name::Name(wanted) => name == wanted,
        });
        if found.is_none() {
            let names: Vec<_> = queues.iter().map(|(at, name)| format!("{at} ({name})")).collect();
            let what = format!("there is no queue {queue}, expected one of {}", names.join(", "));
            self.mistake(place, what);
        }
        found.map(|(index, _)| *index)
    }

    fn register(&mut self, name: &str, place: &str) -> Option<Place> {
        let found = self.target.place(name);
        if found.is_none() {
            let near = self.near(name);
            let what = format!(
                "there is no register {name:?}, expected bar:offset or a name such as {near} \
                 (understudy faults list {} --names)",
                self.target.device
            );
            self.mistake(place, what);
        }
        found
    }

    /// Up to three registers whose names share the most with this one.
    fn near(&self, name: &str) -> String {
        let last = name.rsplit('.').next().unwrap_or(name);
        let all = || self.target.registers.iter().map(|register| register.name.as_str());
        let mut close: Vec<_> = all().filter(|other| other.contains(last)).take(3).collect();
        if close.is_empty() {
            close = all().take(3).collect();
        }
        close.join(", ")
    }

    fn vector(&mut self, vector: Option<u16>, place: &str) -> Option<u16> {
        let vector = vector.unwrap_or(0);
        if vector >= self.target.vectors {
            let what = format!("vector {vector}, expected one below {}", self.target.vectors);
            self.mistake(&format!("{place}.vector"), what);
            return None;
        }
        Some(vector)
    }

    fn named(&mut self, name: &Name, known: &[Named], what: &str, place: &str) -> Option<u64> {
        let name = match name {
            Name::Number(number) => return Some(*number),
            Name::Name(name) => name,
        };
        let found = known.iter().find(|known| known.name == name);
        if found.is_none() {
            let known: Vec<_> = known.iter().map(|known| known.name).collect();
            let text = format!(
                "there is no {what} {name:?}, expected a number or one of {}",
                known.join(", ")
            );
            self.mistake(place, text);
        }
        found.map(|known| known.value)
    }
}

fn mask(mask: Option<Number>) -> u64 {
    mask.map_or(u64::MAX, |mask| mask.0)
}

fn name_of(site: Site) -> &'static str {
    match site {
        Site::Start => "start",
        Site::Read => "read",
        Site::Write => "write",
        Site::Config => "config",
        Site::Doorbell => "doorbell",
        Site::Fetch => "fetch",
        Site::Completion => "completion",
        Site::Interrupt => "interrupt",
        Site::DmaRead => "dma-read",
        Site::DmaWrite => "dma-write",
        Site::Reset => "reset",
    }
}
