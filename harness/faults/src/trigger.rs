//! When something goes wrong.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_device::{Bar, Field};

use crate::plan::Site;

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Where.
    pub site: Site,
    /// Queue.
    pub queue: Option<u16>,
    /// Place of an access to a BAR.
    pub register: Option<(Bar, u64)>,
    /// What is read or written there.
    pub data: &'a [u8],
    /// Opcode of the request.
    pub opcode: Option<u64>,
    /// Request or completion.
    pub entry: &'a [u8],
    /// Interrupt vector.
    pub vector: Option<u16>,
    /// First and last address, or offset in config space.
    pub address: Option<(u64, u64)>,
    /// Whether the memory is what requests point to.
    pub payload: Option<bool>,
}

impl Event<'_> {
    /// An event of which nothing more is known.
    #[must_use]
    pub fn at(site: Site) -> Self {
        Self {
            site,
            queue: None,
            register: None,
            data: &[],
            opcode: None,
            entry: &[],
            vector: None,
            address: None,
            payload: None,
        }
    }
}

/// A register's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// BAR.
    pub bar: Bar,
    /// Offset in bytes.
    pub offset: u64,
    /// Width in bytes; 0 if only the first byte is known.
    pub width: u64,
}

impl Place {
    /// Whether an access touches it.
    #[must_use]
    pub fn touches(&self, bar: Bar, offset: u64, len: usize) -> bool {
        bar == self.bar
            && offset < self.offset.saturating_add(self.width.max(1))
            && self.offset < offset.saturating_add(len as u64)
    }

    /// What an access moves of it, little-endian.
    fn value(&self, offset: u64, data: &[u8]) -> Option<u64> {
        let start = usize::try_from(self.offset.checked_sub(offset)?).ok()?;
        let rest = data.get(start..)?;
        let width = usize::try_from(self.width).ok().filter(|width| *width > 0);
        Field::new(0, rest.len().min(width.unwrap_or(8)).min(8)).get(rest)
    }
}

/// Which events of those that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pick {
    pub(crate) nth: Option<u64>,
    pub(crate) every: Option<u64>,
    pub(crate) range: Option<[u64; 2]>,
    pub(crate) per_mille: Option<(u16, u64)>,
}

/// Counts events and says which of them it is.
#[derive(Debug, Clone)]
pub struct Trigger {
    pub(crate) sites: Vec<Site>,
    pub(crate) queue: Option<u16>,
    pub(crate) register: Option<Place>,
    pub(crate) value: Option<(u64, u64)>,
    pub(crate) opcode: Option<u64>,
    pub(crate) entry: Vec<(Field, u64, u64)>,
    pub(crate) vector: Option<u16>,
    pub(crate) address: Option<(u64, u64)>,
    pub(crate) payload: Option<bool>,
    pub(crate) time: Option<(u64, u64)>,
    pub(crate) pick: Pick,
    pub(crate) after: Vec<Trigger>,
    pub(crate) rearm: bool,
    /// How many of `after` have happened.
    stage: usize,
    /// Events that counted.
    seen: u64,
    random: Option<ChaCha8Rng>,
}

impl Trigger {
    /// Counts every event at these places.
    #[must_use]
    pub fn new(sites: Vec<Site>) -> Self {
        Self {
            sites,
            queue: None,
            register: None,
            value: None,
            opcode: None,
            entry: Vec::new(),
            vector: None,
            address: None,
            payload: None,
            time: None,
            pick: Pick::default(),
            after: Vec::new(),
            rearm: false,
            stage: 0,
            seen: 0,
            random: None,
        }
    }

    /// Forgets what has happened.
    pub fn restart(&mut self) {
        self.stage = 0;
        self.seen = 0;
        self.random = None;
        self.after.iter_mut().for_each(Self::restart);
    }

    /// Events that counted so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether it waits for the beginning of its plan and nothing else.
    pub(crate) fn is_start(&self) -> bool {
        self.sites == [Site::Start] && self.after.is_empty()
    }

    /// Whether it looks at what requests say.
    pub(crate) fn needs_requests(&self) -> bool {
        self.opcode.is_some()
            || !self.entry.is_empty()
            || self.after.iter().any(Self::needs_requests)
    }

    /// An event, `elapsed` nanoseconds after the plan began. Whether this is one.
    pub fn observe(&mut self, elapsed: u64, event: &Event<'_>) -> bool {
        if let Some(next) = self.after.get_mut(self.stage) {
            if next.observe(elapsed, event) {
                self.stage += 1;
            }
            // A plan that waits for nothing else goes on with what came last.
            let now = self.stage == self.after.len() && self.sites == [Site::Start];
            return now && self.in_time(elapsed) && self.hit();
        }
        self.matches(elapsed, event) && self.hit()
    }

    fn in_time(&self, elapsed: u64) -> bool {
        self.time.is_none_or(|(from, to)| (from..=to).contains(&elapsed))
    }

    fn matches(&self, elapsed: u64, event: &Event<'_>) -> bool {
        let wanted = |want: Option<u64>, is: Option<u64>| want.is_none() || want == is;
        self.sites.contains(&event.site)
            && self.in_time(elapsed)
            && wanted(self.queue.map(u64::from), event.queue.map(u64::from))
            && wanted(self.opcode, event.opcode)
            && wanted(self.vector.map(u64::from), event.vector.map(u64::from))
            && wanted(self.payload.map(u64::from), event.payload.map(u64::from))
            && self.matches_place(event)
            && self.matches_value(event)
            && self.entry.iter().all(|(field, value, mask)| {
                field.get(event.entry).is_some_and(|is| (is ^ value) & mask == 0)
            })
            && self.address.is_none_or(|(first, last)| {
                event.address.is_some_and(|(from, to)| from <= last && first <= to)
            })
    }

    fn matches_place(&self, event: &Event<'_>) -> bool {
        self.register.is_none_or(|place| {
            event.register.is_some_and(|(bar, at)| place.touches(bar, at, event.data.len()))
        })
    }

    fn matches_value(&self, event: &Event<'_>) -> bool {
        let Some((value, mask)) = self.value else { return true };
        let is = match (self.register, event.register) {
            (Some(place), Some((_, at))) => place.value(at, event.data),
            _ => Field::new(0, event.data.len().min(8)).get(event.data),
        };
        is.is_some_and(|is| (is ^ value) & mask == 0)
    }

    /// One more that counts: is it one of those that were asked for?
    fn hit(&mut self) -> bool {
        self.seen += 1;
        let seen = self.seen;
        let Pick { nth, every, range, per_mille } = self.pick;
        let hit = nth.is_none_or(|nth| seen == nth)
            && every.is_none_or(|every| every > 0 && seen.is_multiple_of(every))
            && range.is_none_or(|[from, to]| (from..=to).contains(&seen))
            && per_mille.is_none_or(|(chance, seed)| {
                let random = self.random.get_or_insert_with(|| ChaCha8Rng::seed_from_u64(seed));
                random.random_range(0..1000) < chance
            });
        if hit && self.rearm {
            self.stage = 0;
            self.seen = 0;
            self.after.iter_mut().for_each(Self::restart);
        }
        hit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hits(trigger: &mut Trigger, events: u64) -> Vec<u64> {
        let event = Event::at(Site::Completion);
        (1..=events).filter(|_| trigger.observe(0, &event)).collect()
    }

    fn on(pick: Pick) -> Trigger {
        Trigger { pick, ..Trigger::new(vec![Site::Completion]) }
    }

    #[test]
    fn a_sequence_counts_only_once_it_has_happened() {
        let mut first = Trigger::new(vec![Site::Doorbell]);
        first.pick.nth = Some(2);
        let mut trigger = on(Pick { nth: Some(1), ..Pick::default() });
        trigger.after = vec![first];
        trigger.rearm = true;
        let (bell, done) = (Event::at(Site::Doorbell), Event::at(Site::Completion));
        let run = [done, bell, done, bell, done, done, bell, bell, done];
        let hits: Vec<_> = run.iter().map(|event| trigger.observe(0, event)).collect();
        assert_eq!(hits, [false, false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn masks_and_places_decide() {
        let mut trigger = Trigger::new(vec![Site::Write]);
        trigger.register = Some(Place { bar: Bar(4), offset: 0x14, width: 1 });
        trigger.value = Some((4, 4));
        let write = |offset, data| Event {
            register: Some((Bar(4), offset)),
            data,
            ..Event::at(Site::Write)
        };
        assert!(trigger.observe(0, &write(0x14, &[0x07])));
        assert!(trigger.observe(0, &write(0x12, &[0, 0, 0x04, 0])));
        assert!(!trigger.observe(0, &write(0x14, &[0x03])));
        assert!(!trigger.observe(0, &write(0x15, &[0x04])));
    }

    proptest! {
        #[test]
        fn counting_is_exact(n in 1u64..20, every in 1u64..7, from in 0u64..10, len in 0u64..10) {
            let nth = on(Pick { nth: Some(n), ..Pick::default() });
            prop_assert_eq!(hits(&mut nth.clone(), 20), vec![n]);
            let wanted: Vec<_> = (1..=20).filter(|i| i % every == 0).collect();
            let mut each = on(Pick { every: Some(every), ..Pick::default() });
            prop_assert_eq!(hits(&mut each, 20), wanted);
            let range = [from, from + len];
            let wanted: Vec<_> = (1..=20).filter(|i| (range[0]..=range[1]).contains(i)).collect();
            prop_assert_eq!(hits(&mut on(Pick { range: Some(range), ..Pick::default() }), 20), wanted);
        }

        #[test]
        fn chance_is_repeatable(seed: u64, chance in 0u16..=1000) {
            let mut trigger = on(Pick { per_mille: Some((chance, seed)), ..Pick::default() });
            let first = hits(&mut trigger, 200);
            trigger.restart();
            prop_assert_eq!(&hits(&mut trigger, 200), &first);
            prop_assert!(chance != 0 || first.is_empty());
            prop_assert!(chance != 1000 || first.len() == 200);
        }
    }
}
