//! What faults do where a driver, a function and its host meet.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_device::{
    Bar, DmaFault, DmaFaultKind, Field, FinishedJob, Nanos, ResetKind, Tap, Vector, Verdict,
};
use understudy_pci::{Access, Action, Host, Interposer, Region, Route, Signal};

use super::requests::{Request, write_status};
use super::{Condition, Faults, Gate, Lasting, Later};
use crate::plan::Site;
use crate::resolve::Effect;
use crate::trigger::Event;

/// Registers whose last reads are remembered.
const MAX_READS: usize = 4096;
/// Longest access that can be stale or torn.
const MAX_STALE: usize = 8;
/// When an entry that hung firmware has taken is offered to it again, in nanoseconds.
const REOFFER: u64 = 1_000_000;

impl Faults {
    /// The driver selects which features it wants to see.
    fn note_select(&mut self, bar: Bar, offset: u64, data: &[u8]) {
        if let Some(place) = self.places.select
            && (bar, offset) == (place.bar, place.offset)
        {
            self.feature_select = Field::new(0, data.len().min(8)).get(data).unwrap_or(0);
        }
    }

    /// A write on its way to a BAR.
    fn write(&mut self, bar: Bar, offset: u64, data: &[u8]) -> Route {
        self.requests.written(bar, offset, data);
        let mut route = Route::Pass;
        let bells = self.target.vocabulary.doorbells;
        let queue = bells.iter().find_map(|bell| bell.queue(bar, offset));
        let known = |queue: &u16| self.target.queues.iter().any(|(index, _)| index == queue);
        if let Some(queue) = queue.filter(known) {
            route = self.doorbell(bar, offset, data, queue);
        }
        let event = Event { register: Some((bar, offset)), data, ..Event::at(Site::Write) };
        self.hits = self.observe(&event, |_| true);
        self.reset_register(bar, offset, data);
        if self.is_gone() { Route::Absorb } else { route }
    }

    fn doorbell(&mut self, bar: Bar, offset: u64, data: &[u8], queue: u16) -> Route {
        let event = Event {
            queue: Some(queue),
            register: Some((bar, offset)),
            data,
            ..Event::at(Site::Doorbell)
        };
        let hits = self.observe(&event, |_| true);
        let (mut route, mut late) = (Route::Pass, false);
        for at in &hits {
            match self.effect(*at) {
                Some(Effect::DoorbellLost) => route = Route::Absorb,
                Some(Effect::DoorbellLate(delay)) if route != Route::Absorb => {
                    let due = self.now.saturating_add(*delay);
                    let id = self.rules[*at].id;
                    let data = data.to_vec();
                    self.schedule(due, id, Later::Doorbell { bar, offset, data, queue });
                    (route, late) = (Route::Absorb, true);
                }
                Some(Effect::DoorbellTwice) if route == Route::Pass => route = Route::Twice,
                _ => {}
            }
        }
        self.hits = hits;
        if route != Route::Absorb || late {
            // A late one does not overtake: what it says is old.
            let newest = self.sequence;
            self.later.retain(|(_, sequence), (_, what)| {
                let same = matches!(what, Later::Doorbell { queue: other, .. } if *other == queue);
                !same || late && *sequence == newest
            });
        }
        let gate = self.gate(queue);
        if route == Route::Absorb {
            // A device that has not looked yet since the last one finds everything.
            gate.shut |= !gate.rung;
        } else {
            *gate = Gate { rung: true, ..Gate::default() };
        }
        route
    }

    /// A write that resets the device, on its way.
    fn reset_register(&mut self, bar: Bar, offset: u64, data: &[u8]) {
        let Some(reset) = self.target.vocabulary.reset else { return };
        let Some(place) = self.places.reset else { return };
        let value = Field::new(0, data.len().min(8)).get(data);
        if bar != place.bar || offset != place.offset || value != Some(reset.value) {
            return;
        }
        let hits = self.observe(&Event::at(Site::Reset), |_| true);
        for at in &hits {
            if let Some(Effect::ResetHang { lasts }) = self.effect(*at) {
                let until = lasts.map(|lasts| self.now.saturating_add(lasts));
                let id = self.rules[*at].id;
                self.lasts(id, Lasting::Busy(place, reset.busy), until);
            }
        }
        self.hits = hits;
        self.forget_device();
    }

    fn config(&mut self, access: Access, data: &mut [u8]) -> Route {
        let last = access.offset.saturating_add(data.len().saturating_sub(1) as u64);
        let event = Event { address: Some((access.offset, last)), data, ..Event::at(Site::Config) };
        let hits = self.observe(&event, |_| true);
        let fails = hits.iter().any(|at| self.effect(*at) == Some(&Effect::ConfigError));
        self.hits = hits;
        if fails || self.is_gone() {
            if !access.write {
                data.fill(0xff);
            }
            return Route::Absorb;
        }
        Route::Pass
    }

    /// What lasts, in the answer to a read.
    fn overlay(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        for Condition { what, .. } in &self.conditions {
            match what {
                Lasting::Stuck(place, mask, value) => {
                    set_bits(*place, (bar, offset), data, *mask, *value)
                }
                Lasting::Busy(place, value) => {
                    set_bits(*place, (bar, offset), data, u64::MAX, *value);
                }
                Lasting::Missing(bit) => self.hide_feature(*bit, (bar, offset), data),
                _ => {}
            }
        }
        // A read does not pass a write: a driver that reads a late doorbell back finds it.
        for (_, what) in self.later.values() {
            if let Later::Doorbell { bar: of, offset: start, data: written, .. } = what
                && *of == bar
            {
                overlap(*start, written, offset, data);
            }
        }
    }

    fn hide_feature(&self, bit: u64, at: (Bar, u64), data: &mut [u8]) {
        if let Some(place) = self.places.offered
            && self.feature_select == bit / 32
        {
            set_bits(place, at, data, 1 << (bit % 32), 0);
        }
    }

    fn read_faults(&mut self, bar: Bar, offset: u64, data: &mut [u8]) {
        let event = Event { register: Some((bar, offset)), data, ..Event::at(Site::Read) };
        let wide = data.len() >= 2 && data.len() <= MAX_STALE;
        let hits = self.observe(&event, |effect| *effect != Effect::TornRead || wide);
        let key = (bar, offset, data.len());
        for at in &hits {
            let before = self.reads.get(&key).filter(|before| before.len() == data.len());
            match (self.effect(*at), before) {
                (Some(Effect::AllOnes), _) => data.fill(0xff),
                (Some(Effect::StaleRead), Some(before)) => data.copy_from_slice(before),
                (Some(Effect::TornRead), Some(before)) => {
                    let half = data.len() / 2;
                    data[half..].copy_from_slice(&before[half..]);
                }
                _ => {}
            }
        }
        self.hits = hits;
        if data.len() <= MAX_STALE {
            if self.reads.len() >= MAX_READS {
                self.reads.pop_first();
            }
            self.reads.insert(key, data.to_vec());
        }
    }

    fn fetched(&mut self, host: &mut dyn Host, queue: u16, entry: &[u8]) -> Verdict {
        self.gate(queue).asked = false;
        if self.requests.take_held(Tap::Fetched, queue, entry, self.now) {
            return self.execute(queue, entry);
        }
        let described = self.target.describes(queue);
        let request =
            if described { self.requests.request(host, entry) } else { Request::default() };
        let event = Event {
            queue: Some(queue),
            opcode: request.opcode,
            entry: &request.bytes,
            ..Event::at(Site::Fetch)
        };
        self.hits = self.observe(&event, |_| true);
        if self.resetting || self.is_gone() {
            return Verdict::Drop;
        }
        self.execute(queue, entry)
    }

    /// A fetched entry is about to be looked at.
    fn execute(&mut self, queue: u16, entry: &[u8]) -> Verdict {
        if self.is(&Lasting::Hung) {
            // Taken, and offered again once the firmware works again.
            let again = self.now.saturating_add(REOFFER);
            self.requests.hold(Tap::Fetched, queue, entry, again);
            return Verdict::Delay(Nanos(again));
        }
        let slow = self.conditions.iter().filter_map(|condition| match condition.what {
            Lasting::Slow(delay) => Some(delay),
            _ => None,
        });
        if let Some(delay) = slow.max() {
            self.next_fetch = self.now.saturating_add(delay);
        }
        self.requests.execute();
        Verdict::Pass
    }

    fn completing(&mut self, host: &mut dyn Host, queue: u16, entry: &mut [u8]) -> Verdict {
        if self.resetting || self.is_gone() {
            return Verdict::Drop;
        }
        if self.requests.take_held(Tap::Completing, queue, entry, self.now) {
            self.requests.at_ring();
            return Verdict::Pass;
        }
        let described = self.target.describes(queue);
        let status = if described { self.requests.status(host, entry) } else { None };
        let good = status.is_some_and(|(status, _)| self.requests.is_good(status));
        let output = described && self.requests.output().iter().any(|piece| piece.len > 0);
        let event = Event {
            queue: Some(queue),
            opcode: if described { self.requests.opcode_of(entry) } else { None },
            entry,
            ..Event::at(Site::Completion)
        };
        let hits = self.observe(&event, |effect| match effect {
            Effect::Corrupt(_) => good && output,
            Effect::BeforeData(_) => output,
            Effect::Status(_) => status.is_some(),
            Effect::WrongTag(_) => described,
            _ => true,
        });
        let mut verdict = Verdict::Pass;
        for at in &hits {
            let Some(rule) = self.rules.get(*at) else { continue };
            let (id, effect, draw) = (rule.id, rule.effect.clone(), rule.fired);
            match effect {
                Effect::Lost => verdict = Verdict::Drop,
                Effect::Late(delay) => {
                    verdict = Verdict::Delay(Nanos(self.now.saturating_add(delay)));
                }
                Effect::Twice => verdict = Verdict::Duplicate,
                Effect::Reordered => verdict = Verdict::Reorder,
                Effect::Torn(delay) => self.requests.tear(id, delay),
                Effect::WrongTag(tag) => self.wrong_tag(entry, tag),
                Effect::Status(value) => self.wrong_status(host, entry, status, value),
                Effect::Corrupt(seed) => self.corrupt(host, seed.wrapping_add(draw)),
                Effect::BeforeData(delay) => self.take_back(host, id, delay),
                _ => {}
            }
        }
        self.hits = hits;
        if self.resetting || self.is_gone() {
            return Verdict::Drop;
        }
        if let Verdict::Delay(until) = verdict {
            self.requests.hold(Tap::Completing, queue, entry, until.0);
        }
        self.requests.at_ring();
        verdict
    }

    fn wrong_tag(&self, entry: &mut [u8], tag: Option<u64>) {
        if let Some(field) = self.target.vocabulary.tag {
            let right = field.get(entry).unwrap_or(0);
            field.set(entry, tag.unwrap_or(right.wrapping_add(1)));
        }
    }

    fn wrong_status(
        &self,
        host: &mut dyn Host,
        entry: &mut [u8],
        status: Option<(u64, Option<(u64, Field)>)>,
        value: u64,
    ) {
        match (status, self.target.vocabulary.status) {
            // Memory that went away meanwhile has no status to get wrong.
            (Some((_, Some((at, field)))), _) => {
                let _ = write_status(host, at, field, value);
            }
            (Some((_, None)), understudy_device::StatusPlace::Entry(field)) => {
                field.set(entry, value);
            }
            _ => {}
        }
    }

    /// Flips one bit of the output.
    fn corrupt(&self, host: &mut dyn Host, seed: u64) {
        let output = self.requests.output();
        let total: usize = output.iter().map(|piece| piece.len).sum();
        if total == 0 {
            return;
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut at, bit) = (random.random_range(0..total), random.random_range(0..8));
        for piece in output {
            if at >= piece.len {
                at -= piece.len;
                continue;
            }
            let address = piece.iova.wrapping_add(at as u64);
            let mut byte = [0];
            if host.dma_read(address, &mut byte).is_ok() {
                byte[0] ^= 1 << bit;
                // It was written a moment ago.
                let _ = host.dma_write(address, &byte);
            }
            return;
        }
    }

    /// Puts back what was there before the output, which comes later.
    fn take_back(&mut self, host: &mut dyn Host, rule: u32, delay: u64) {
        let pieces = self.requests.output().to_vec();
        let due = self.now.saturating_add(delay);
        for (new, old, iova) in pieces
            .iter()
            .rev()
            .filter_map(|p| p.change.as_ref().map(|(new, old)| (new, old, p.iova)))
        {
            if host.dma_write(iova, old).is_ok() {
                self.schedule(due, rule, Later::Dma { iova, data: new.clone() });
            }
        }
    }

    fn dma_event(&self, site: Site, iova: u64, len: usize) -> Event<'static> {
        let last = iova.saturating_add(len.saturating_sub(1) as u64);
        let payload = Some(self.requests.is_payload());
        Event { address: Some((iova, last)), payload, ..Event::at(site) }
    }
}

/// Copies what was written at `start` to the part of the data of a read at `offset` that it covers.
fn overlap(start: u64, written: &[u8], offset: u64, data: &mut [u8]) {
    for (at, byte) in (start..).zip(written) {
        let index = at.checked_sub(offset).and_then(|index| usize::try_from(index).ok());
        if let Some(slot) = index.and_then(|index| data.get_mut(index)) {
            *slot = *byte;
        }
    }
}

/// Sets bits of a register in the data of a read that touches it.
fn set_bits(
    place: crate::trigger::Place,
    (bar, offset): (Bar, u64),
    data: &mut [u8],
    mask: u64,
    value: u64,
) {
    if !place.touches(bar, offset, data.len()) {
        return;
    }
    let width = if place.width == 0 { data.len() as u64 } else { place.width };
    for (index, byte) in data.iter_mut().enumerate() {
        let at = (offset + index as u64).checked_sub(place.offset).filter(|at| *at < width.min(8));
        if let Some(at) = at {
            let [mask, value] =
                [mask, value].map(|all| all.to_le_bytes()[usize::try_from(at).unwrap_or(0)]);
            *byte = *byte & !mask | value & mask;
        }
    }
}

impl Interposer for Faults {
    fn access(&mut self, host: &mut dyn Host, access: Access, data: &mut [u8]) -> Route {
        self.tick(host.now());
        // One that is about to be reset does not answer yet.
        if self.is_gone() || self.resetting {
            if !access.write {
                data.fill(0xff);
            }
            return Route::Absorb;
        }
        match access.region {
            Region::Config => self.config(access, data),
            Region::Bar(bar) if access.write => {
                self.note_select(bar, access.offset, data);
                self.write(bar, access.offset, data)
            }
            Region::Bar(_) => Route::Pass,
        }
    }

    fn answer(&mut self, host: &mut dyn Host, access: Access, data: &mut [u8]) {
        self.tick(host.now());
        if let Region::Bar(bar) = access.region {
            self.overlay(bar, access.offset, data);
            self.read_faults(bar, access.offset, data);
            if self.is_gone() {
                data.fill(0xff);
            }
        }
    }

    fn may_work(&mut self, now: Nanos) -> bool {
        self.tick(now);
        self.requests.at_ring();
        !self.is_gone() && !self.is(&Lasting::Hung)
    }

    fn finish(&mut self, now: Nanos, done: FinishedJob) -> Option<FinishedJob> {
        self.tick(now);
        if self.is_gone() || self.is(&Lasting::Hung) {
            self.jobs.push_back(done);
            return None;
        }
        self.requests.execute();
        Some(done)
    }

    fn dma_read(
        &mut self,
        host: &mut dyn Host,
        iova: u64,
        into: &mut [u8],
    ) -> Result<(), DmaFault> {
        self.tick(host.now());
        let fault = |kind| DmaFault { iova, len: into.len() as u64, kind };
        let (off, failed) = (fault(DmaFaultKind::BusMasterDisabled), fault(DmaFaultKind::Failed));
        if self.is_gone() || self.resetting {
            return Err(off);
        }
        let event = self.dma_event(Site::DmaRead, iova, into.len());
        let hits = self.observe(&event, |_| true);
        let has = |effect: &Effect| hits.iter().any(|at| self.effect(*at) == Some(effect));
        let (error, partial, stale) =
            (has(&Effect::DmaError), has(&Effect::DmaPartial), has(&Effect::DmaStale));
        self.hits = hits;
        if self.is_gone() {
            return Err(off);
        }
        if error {
            return Err(failed);
        }
        host.dma_read(iova, into)?;
        let before = self.requests.read(iova, into);
        if stale {
            match before {
                Some(before) => into.copy_from_slice(&before),
                None => into.fill(0),
            }
        }
        if partial {
            let half = into.len() / 2;
            into[half..].fill(0);
        }
        Ok(())
    }

    fn dma_write(&mut self, host: &mut dyn Host, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.tick(host.now());
        let fault = |kind| DmaFault { iova, len: from.len() as u64, kind };
        if self.is_gone() || self.resetting {
            return Err(fault(DmaFaultKind::BusMasterDisabled));
        }
        let event = self.dma_event(Site::DmaWrite, iova, from.len());
        let hits = self.observe(&event, |_| true);
        let has = |effect: &Effect| hits.iter().any(|at| self.effect(*at) == Some(effect));
        let (error, partial) = (has(&Effect::DmaError), has(&Effect::DmaPartial));
        self.hits = hits;
        if self.is_gone() {
            return Err(fault(DmaFaultKind::BusMasterDisabled));
        }
        if error {
            return Err(fault(DmaFaultKind::Failed));
        }
        let torn = self.requests.take_tear();
        self.requests.note_write(host, iova, from);
        let half = from.len() / 2;
        if let Some((rule, delay)) = torn {
            let (iova, data) = (iova.wrapping_add(half as u64), from[half..].to_vec());
            self.schedule(self.now.saturating_add(delay), rule, Later::Dma { iova, data });
        }
        if torn.is_some() || partial {
            return host.dma_write(iova, &from[..half]);
        }
        host.dma_write(iova, from)
    }

    fn raise(&mut self, now: Nanos, vector: Vector) -> Signal {
        self.tick(now);
        if self.is_gone() || self.resetting {
            return Signal::Drop;
        }
        let event = Event { vector: Some(vector.0), ..Event::at(Site::Interrupt) };
        let hits = self.observe(&event, |_| true);
        let mut signal = Signal::Pass;
        for at in &hits {
            match self.effect(*at) {
                Some(Effect::InterruptLost) => signal = Signal::Drop,
                Some(Effect::InterruptLate(delay)) if signal != Signal::Drop => {
                    let (due, id) = (self.now.saturating_add(*delay), self.rules[*at].id);
                    self.schedule(due, id, Later::Raise(vector));
                    signal = Signal::Drop;
                }
                Some(Effect::WrongVector(other)) if signal == Signal::Pass => {
                    let next = (vector.0 + 1) % self.target.vectors.max(1);
                    signal = Signal::Instead(Vector(other.unwrap_or(next)));
                }
                _ => {}
            }
        }
        self.hits = hits;
        if self.is_gone() { Signal::Drop } else { signal }
    }

    fn line(&mut self, now: Nanos, asserted: bool) -> bool {
        self.tick(now);
        if !asserted {
            self.later.retain(|_, (_, what)| !matches!(what, Later::Line));
            return true;
        }
        if self.is_gone() || self.resetting {
            return false;
        }
        let event = Event { vector: Some(0), ..Event::at(Site::Interrupt) };
        let hits = self.observe(&event, |effect| !matches!(effect, Effect::WrongVector(_)));
        let mut goes_on = true;
        for at in &hits {
            match self.effect(*at) {
                Some(Effect::InterruptLost) => goes_on = false,
                Some(Effect::InterruptLate(delay)) if goes_on => {
                    let (due, id) = (self.now.saturating_add(*delay), self.rules[*at].id);
                    self.schedule(due, id, Later::Line);
                    goes_on = false;
                }
                _ => {}
            }
        }
        self.hits = hits;
        goes_on && !self.is_gone()
    }

    fn tap(&mut self, host: &mut dyn Host, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        self.tick(host.now());
        match at {
            Tap::Fetched => self.fetched(host, queue, entry),
            Tap::Completing => self.completing(host, queue, entry),
        }
    }

    fn may_fetch(&mut self, now: Nanos, queue: u16) -> bool {
        self.tick(now);
        self.requests.at_ring();
        let full = self.conditions.iter().any(|condition| match condition.what {
            Lasting::Full(of) => of.is_none_or(|of| of == queue),
            _ => false,
        });
        let (now, next_fetch) = (self.now, self.next_fetch);
        let held = self.requests.holds(queue, now);
        let gate = self.gate(queue);
        if full || held || gate.shut || now < next_fetch {
            return false;
        }
        // Let in before, and nothing was fetched since: the queue was empty.
        gate.rung &= !gate.asked;
        gate.asked = true;
        !self.resetting && !self.is_gone() && !self.is(&Lasting::Hung)
    }

    fn reset(&mut self, kind: ResetKind) -> bool {
        self.function_reset(kind)
    }

    fn due(&mut self, now: Nanos) -> Option<Action> {
        self.tick(now);
        self.next_action()
    }

    fn next_due(&self) -> Option<Nanos> {
        let later = self.later.keys().next().map(|(at, _)| *at);
        let over = self.conditions.iter().filter_map(|condition| condition.until);
        let fetch = Some(self.next_fetch).filter(|at| *at > self.now);
        later.into_iter().chain(over).chain(fetch).min().map(Nanos)
    }
}
