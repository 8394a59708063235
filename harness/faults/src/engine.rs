//! What makes faults happen.

mod effects;
mod requests;

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use understudy_device::{Bar, FinishedJob, Nanos, ResetKind, Vector};
use understudy_pci::{Action, PciFunction};

use crate::plan::{Fault, Plan, Site};
use crate::resolve::{Effect, MAX_FAULTS, Mistake, Rule, Target, resolve};
use crate::trigger::{Event, Place};
use requests::Requests;

/// Fired faults that are remembered.
const MAX_LOG: usize = 256;
/// Actions that wait; more are refused, so that memory is bounded.
const MAX_PENDING: usize = 4096;

/// One time that a fault happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fired {
    /// Nanoseconds since the plan began.
    pub at: u64,
    /// Number of the fault.
    pub id: u32,
    /// Its kind.
    pub kind: &'static str,
    /// What it happened on.
    pub on: Site,
}

/// A fault and how it is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its number, by which it can be cleared.
    pub id: u32,
    /// The fault.
    #[serde(flatten)]
    pub fault: Fault,
    /// Events that counted towards its trigger.
    pub seen: u64,
    /// Times that it happened.
    pub fired: u64,
    /// Whether it lasts at this moment.
    pub lasting: bool,
}

/// Something that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lasting {
    Removed,
    /// After a reset of the function that does not end.
    Unresponsive,
    Hung,
    Slow(u64),
    Full(Option<u16>),
    Stuck(Place, u64, u64),
    Busy(Place, u64),
    Missing(u64),
}

#[derive(Debug)]
struct Condition {
    rule: u32,
    what: Lasting,
    until: Option<u64>,
}

/// Something that happens later.
#[derive(Debug)]
enum Later {
    Doorbell { bar: Bar, offset: u64, data: Vec<u8>, queue: u16 },
    Raise(Vector),
    Line,
    Dma { iova: u64, data: Vec<u8> },
    Storm { left: u32, interval: u64, vector: u16 },
    Start,
}

/// A queue's doorbell.
#[derive(Debug, Clone, Copy, Default)]
struct Gate {
    /// A doorbell was lost and none came since.
    shut: bool,
    /// A doorbell came, and the queue was not found empty since.
    rung: bool,
    /// The engine was let in, and has not fetched anything since.
    asked: bool,
}

/// Registers that every access is compared with.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    select: Option<Place>,
    offered: Option<Place>,
    reset: Option<Place>,
}

impl Places {
    fn of(target: &Target) -> Self {
        let words = target.vocabulary;
        Self {
            select: words.features.and_then(|window| target.place(window.select)),
            offered: words.features.and_then(|window| target.place(window.offered)),
            reset: words.reset.and_then(|reset| target.place(reset.register)),
        }
    }
}

/// Faults between a function and its surroundings.
pub struct Faults {
    target: Target,
    places: Places,
    rules: Vec<Rule>,
    next_id: u32,
    /// When the plan began.
    start: Option<u64>,
    now: u64,
    conditions: Vec<Condition>,
    later: BTreeMap<(u64, u64), (u32, Later)>,
    sequence: u64,
    gates: BTreeMap<u16, Gate>,
    /// Nothing is fetched before then.
    next_fetch: u64,
    /// A reset that nobody asked for is about to happen.
    resetting: bool,
    /// Jobs that came back to hung firmware.
    jobs: VecDeque<FinishedJob>,
    requests: Requests,
    /// Which features the driver looks at.
    feature_select: u64,
    reads: BTreeMap<(Bar, u64, usize), Vec<u8>>,
    hits: Vec<usize>,
    log: VecDeque<Fired>,
    /// Times that any fault happened, power-ons of the function notwithstanding.
    happened: u64,
}

impl Faults {
    /// Understands a plan for a device.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(plan: &Plan, target: Target) -> Result<Self, Vec<Mistake>> {
        let mut faults = Self {
            requests: Requests::new(&target),
            places: Places::of(&target),
            target,
            rules: Vec::new(),
            next_id: 1,
            start: None,
            now: 0,
            conditions: Vec::new(),
            later: BTreeMap::new(),
            sequence: 0,
            gates: BTreeMap::new(),
            next_fetch: 0,
            resetting: false,
            jobs: VecDeque::new(),
            feature_select: 0,
            reads: BTreeMap::new(),
            hits: Vec::new(),
            log: VecDeque::new(),
            happened: 0,
        };
        faults.inject(plan)?;
        Ok(faults)
    }

    /// Adds the faults of a plan to those there are. Returns their numbers.
    ///
    /// # Errors
    /// Everything that is wrong with the plan; nothing was added.
    pub fn inject(&mut self, plan: &Plan) -> Result<Vec<u32>, Vec<Mistake>> {
        let rules = resolve(plan, &self.target)?;
        if self.rules.len() + rules.len() > MAX_FAULTS {
            let what = format!("more than {MAX_FAULTS} faults, clear some first");
            return Err(vec![Mistake { place: "faults".to_owned(), what }]);
        }
        let mut ids = Vec::new();
        for mut rule in rules {
            rule.id = self.next_id;
            self.next_id += 1;
            ids.push(rule.id);
            // Before the plan has begun, its beginning takes care of it.
            if self.start.is_some() && rule.trigger.is_start() {
                let at = self.start.unwrap_or(0).max(self.now);
                let from = rule.trigger.time.map_or(at, |(from, _)| at.max(from));
                self.schedule(from, rule.id, Later::Start);
            }
            self.rules.push(rule);
        }
        self.requests.look(&self.rules);
        Ok(ids)
    }

    /// Adds faults to a function, whose first they may be.
    ///
    /// # Errors
    /// Everything that is wrong with the plan; nothing was added.
    pub fn inject_into(
        function: &mut PciFunction,
        plan: &Plan,
        vocabulary: &'static understudy_device::Vocabulary,
    ) -> Result<Vec<u32>, Vec<Mistake>> {
        if let Some(faults) = function.interposer::<Self>() {
            return faults.inject(plan);
        }
        let target = Target::new(function, vocabulary);
        let faults = Self::new(plan, target)?;
        let ids = faults.rules.iter().map(|rule| rule.id).collect();
        function.interpose(Some(Box::new(faults)));
        Ok(ids)
    }

    /// Ends one fault, or all with `None`: what lasts is over, what waits happens now. Returns how
    /// many there were.
    pub fn clear(&mut self, id: Option<u32>) -> usize {
        let before = self.rules.len();
        let ends = |rule: u32| id.is_none_or(|id| id == rule);
        self.rules.retain(|rule| !ends(rule.id));
        let over = |condition: &Condition| ends(condition.rule);
        // A card that comes back was reset.
        self.resetting |= self.conditions.iter().any(|c| over(c) && c.what == Lasting::Removed);
        self.conditions.retain(|condition| !over(condition));
        let waiting = std::mem::take(&mut self.later);
        for ((at, sequence), (rule, what)) in waiting {
            match what {
                Later::Start | Later::Storm { .. } if ends(rule) => {}
                what => {
                    let at = if ends(rule) { self.now } else { at };
                    self.later.insert((at, sequence), (rule, what));
                }
            }
        }
        if self.rules.is_empty() {
            self.gates.values_mut().for_each(|gate| gate.shut = false);
            self.next_fetch = 0;
            self.requests.release(self.now);
        }
        self.requests.look(&self.rules);
        before - self.rules.len()
    }

    /// Whether there is nothing left to do: without it, everything would go on the same.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.rules.is_empty()
            && self.later.is_empty()
            && self.conditions.is_empty()
            && self.jobs.is_empty()
            && !self.resetting
            && self.requests.is_idle()
    }

    /// The faults there are.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let listed = self.rules.iter().map(|rule| Listed {
            id: rule.id,
            fault: rule.fault.clone(),
            seen: rule.trigger.seen(),
            fired: rule.fired,
            lasting: self.conditions.iter().any(|condition| condition.rule == rule.id),
        });
        listed.collect()
    }

    /// What happened, oldest first; the last 256.
    pub fn log(&self) -> impl Iterator<Item = &Fired> {
        self.log.iter()
    }

    /// Times that any fault happened.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.rules.iter().map(|rule| rule.fired).sum()
    }

    /// Times that any fault happened since the first was injected, those included that were cleared
    /// and those before the function was powered on anew.
    #[must_use]
    pub fn happened(&self) -> u64 {
        self.happened
    }

    /// Everything but the plan as at its beginning.
    fn restart(&mut self) {
        self.start = None;
        self.conditions.clear();
        self.later.clear();
        self.log.clear();
        self.reads.clear();
        self.forget_device();
        for rule in &mut self.rules {
            rule.fired = 0;
            rule.trigger.restart();
        }
    }

    /// What the device has forgotten too.
    fn forget_device(&mut self) {
        self.gates.clear();
        self.next_fetch = 0;
        self.resetting = false;
        self.jobs.clear();
        self.requests.forget();
        self.later.retain(|_, (_, what)| {
            !matches!(
                what,
                Later::Raise(_) | Later::Line | Later::Dma { .. } | Later::Doorbell { .. }
            )
        });
    }

    fn schedule(&mut self, at: u64, rule: u32, what: Later) {
        if self.later.len() < MAX_PENDING {
            self.sequence += 1;
            self.later.insert((at, self.sequence), (rule, what));
        }
    }

    /// Moves the clock, begins the plan, ends what is over.
    fn tick(&mut self, now: Nanos) {
        self.now = self.now.max(now.0);
        if self.start.is_none() {
            self.start = Some(self.now);
            let starts: Vec<_> = self.rules.iter().filter(|rule| rule.trigger.is_start()).collect();
            let starts: Vec<_> = starts
                .iter()
                .map(|rule| (rule.id, rule.trigger.time.map_or(0, |(from, _)| from)))
                .collect();
            for (id, from) in starts {
                if from == 0 {
                    self.start_rule(id);
                } else {
                    self.schedule(self.now.saturating_add(from), id, Later::Start);
                }
            }
        }
        let now = self.now;
        let over = |condition: &Condition| condition.until.is_some_and(|until| until <= now);
        if self.conditions.iter().any(over) {
            // A card that comes back was reset.
            self.resetting |= self.conditions.iter().any(|c| over(c) && c.what == Lasting::Removed);
            self.conditions.retain(|condition| !over(condition));
        }
    }

    fn elapsed(&self) -> u64 {
        self.now.saturating_sub(self.start.unwrap_or(self.now))
    }

    /// A rule that waited for its plan to begin.
    fn start_rule(&mut self, id: u32) {
        let Some(at) = self.rules.iter().position(|rule| rule.id == id) else { return };
        let rule = &mut self.rules[at];
        if rule.fired < rule.limit {
            rule.fired += 1;
            self.record(at, Site::Start);
            self.apply(at);
        }
    }

    fn record(&mut self, at: usize, on: Site) {
        let Some(rule) = self.rules.get(at) else { return };
        if self.log.len() == MAX_LOG {
            self.log.pop_front();
        }
        let (id, kind) = (rule.id, rule.fault.fault.name());
        self.happened += 1;
        self.log.push_back(Fired { at: self.elapsed(), id, kind, on });
    }

    /// Shows an event to all rules, and lets those that act at once act. Returns those that act on
    /// the event itself, in order; give them back with `self.hits = hits`.
    fn observe(&mut self, event: &Event<'_>, can: impl Fn(&Effect) -> bool) -> Vec<usize> {
        let elapsed = self.elapsed();
        let mut hits = std::mem::take(&mut self.hits);
        hits.clear();
        for (at, rule) in self.rules.iter_mut().enumerate() {
            if rule.fired < rule.limit && can(&rule.effect) && rule.trigger.observe(elapsed, event)
            {
                rule.fired += 1;
                hits.push(at);
            }
        }
        for at in &hits {
            self.record(*at, event.site);
            self.apply(*at);
        }
        hits
    }

    fn effect(&self, at: usize) -> Option<&Effect> {
        self.rules.get(at).map(|rule| &rule.effect)
    }

    /// What a rule does at once, wherever it was triggered.
    fn apply(&mut self, at: usize) {
        let Some(rule) = self.rules.get(at) else { return };
        let (id, now) = (rule.id, self.now);
        let until = |lasts: &Option<u64>| lasts.map(|lasts| now.saturating_add(lasts));
        let (what, until) = match &rule.effect {
            Effect::Removal { lasts } => (Lasting::Removed, until(lasts)),
            Effect::Stuck { place, mask, value, lasts } => {
                (Lasting::Stuck(*place, *mask, *value), until(lasts))
            }
            Effect::Full { queue, lasts } => (Lasting::Full(*queue), until(lasts)),
            Effect::Hang { lasts } => (Lasting::Hung, until(lasts)),
            Effect::Slow { delay, lasts } => (Lasting::Slow(*delay), until(lasts)),
            Effect::Missing(bit) => (Lasting::Missing(*bit), None),
            Effect::Spurious(vector) => {
                let vector = Vector(*vector);
                return self.schedule(now, id, Later::Raise(vector));
            }
            Effect::Storm { left, interval, vector } => {
                let (left, interval, vector) = (*left, *interval, *vector);
                return self.schedule(now, id, Later::Storm { left, interval, vector });
            }
            Effect::SelfReset => {
                self.resetting = true;
                return;
            }
            _ => return,
        };
        self.lasts(id, what, until);
    }

    fn lasts(&mut self, rule: u32, what: Lasting, until: Option<u64>) {
        self.conditions.retain(|condition| condition.rule != rule || condition.what != what);
        self.conditions.push(Condition { rule, what, until });
    }

    fn is(&self, what: &Lasting) -> bool {
        self.conditions.iter().any(|condition| condition.what == *what)
    }

    /// Nothing reaches the function, and nothing comes from it.
    fn is_gone(&self) -> bool {
        self.is(&Lasting::Removed) || self.is(&Lasting::Unresponsive)
    }

    fn gate(&mut self, queue: u16) -> &mut Gate {
        self.gates.entry(queue).or_default()
    }

    /// The next thing that is to be done.
    fn next_action(&mut self) -> Option<Action> {
        loop {
            if self.resetting {
                self.forget_device();
                return Some(Action::Reset);
            }
            if !self.is_gone()
                && !self.is(&Lasting::Hung)
                && let Some(done) = self.jobs.pop_front()
            {
                return Some(Action::Finish(done));
            }
            let ((at, sequence), (rule, what)) = self.later.pop_first()?;
            if at > self.now {
                self.later.insert((at, sequence), (rule, what));
                return None;
            }
            if let Some(action) = self.happen(rule, what) {
                return Some(action);
            }
        }
    }

    fn happen(&mut self, rule: u32, what: Later) -> Option<Action> {
        match what {
            Later::Start => {
                self.start_rule(rule);
                None
            }
            _ if self.is_gone() => None,
            Later::Doorbell { bar, offset, data, queue } => {
                *self.gate(queue) = Gate { rung: true, ..Gate::default() };
                Some(Action::Write { bar, offset, data })
            }
            Later::Raise(vector) => Some(Action::Raise(vector)),
            Later::Line => Some(Action::Line(true)),
            Later::Dma { iova, data } => Some(Action::Dma { iova, data }),
            Later::Storm { left, interval, vector } => {
                if left > 1 {
                    let next = self.now.saturating_add(interval.max(1));
                    self.schedule(next, rule, Later::Storm { left: left - 1, interval, vector });
                }
                Some(Action::Raise(Vector(vector)))
            }
        }
    }

    /// A reset of the function that its driver asked for.
    fn function_reset(&mut self, kind: ResetKind) -> bool {
        if kind == ResetKind::PowerOn {
            self.restart();
            return true;
        }
        if self.is(&Lasting::Removed) {
            return false;
        }
        let hits = self.observe(&Event::at(Site::Reset), |_| true);
        for at in &hits {
            if let Some(Rule { id, effect: Effect::ResetHang { lasts }, .. }) = self.rules.get(*at)
            {
                let (id, until) = (*id, lasts.map(|lasts| self.now.saturating_add(lasts)));
                self.lasts(id, Lasting::Unresponsive, until);
            }
        }
        self.hits = hits;
        self.forget_device();
        true
    }
}
