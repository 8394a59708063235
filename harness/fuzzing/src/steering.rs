//! Which act is due.

use crate::program::{Edit, Program, Site, What};

/// The acts of one program, by kind of step.
#[derive(Debug, Default)]
pub(crate) struct Steering {
    honest: u32,
    steps: u32,
    counts: [u32; Site::COUNT],
    lanes: [Lane; Site::COUNT],
    fired: u32,
}

#[derive(Debug, Default)]
struct Lane {
    /// First step, step after the last, what; by first step.
    acts: Vec<(u32, u32, What)>,
    next: usize,
    /// Indices of acts that have begun and not ended.
    active: Vec<usize>,
    /// Some act needs what the step before had.
    stale: bool,
}

impl Steering {
    /// Starts over with a program.
    pub(crate) fn restart(&mut self, program: &Program) {
        self.honest = program.honest;
        self.steps = 0;
        self.fired = 0;
        self.counts = [0; Site::COUNT];
        for lane in &mut self.lanes {
            lane.acts.clear();
            lane.active.clear();
            lane.next = 0;
            lane.stale = false;
        }
        for act in &program.acts {
            let start = u32::from(act.nth);
            let end = match act.times {
                u8::MAX => u32::MAX,
                times => start + u32::from(times).max(1),
            };
            let lane = &mut self.lanes[act.what.site() as usize];
            lane.stale |= act.what.edit() == Some(Edit::Stale);
            lane.acts.push((start, end, act.what));
        }
        for lane in &mut self.lanes {
            // Stable: acts at the same step happen in the program's order.
            lane.acts.sort_by_key(|(start, _, _)| *start);
        }
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> u32 {
        self.steps
    }

    /// Acts that have happened.
    pub(crate) fn fired(&self) -> u32 {
        self.fired
    }

    /// Whether what a step of this kind has is of use to a later one.
    pub(crate) fn wants_last(&self, site: Site) -> bool {
        self.lanes[site as usize].stale
    }

    /// A step: hands what is due to `act`.
    pub(crate) fn step(&mut self, site: Site, mut act: impl FnMut(&What)) {
        self.steps = self.steps.saturating_add(1);
        if self.steps <= self.honest {
            return;
        }
        let now = self.counts[site as usize];
        self.counts[site as usize] = now.saturating_add(1);
        let lane = &mut self.lanes[site as usize];
        while lane.acts.get(lane.next).is_some_and(|(start, _, _)| *start <= now) {
            lane.active.push(lane.next);
            lane.next += 1;
        }
        if lane.active.is_empty() {
            return;
        }
        let acts = &lane.acts;
        lane.active.retain(|index| acts.get(*index).is_some_and(|(_, end, _)| *end > now));
        for (_, _, what) in lane.active.iter().filter_map(|index| acts.get(*index)) {
            self.fired += 1;
            act(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Act;

    #[test]
    fn acts_happen_at_their_count_of_their_kind_after_the_honest_steps() {
        let act = |nth, times, what| Act { nth, times, what };
        let acts = vec![act(1, 2, What::Stall), act(0, 0, What::ReadFault)];
        let mut steering = Steering::default();
        steering.restart(&Program { honest: 2, acts, calls: Vec::new() });
        let mut seen = Vec::new();
        let sites = [Site::Turn, Site::DeviceRead, Site::Turn, Site::DeviceRead, Site::Turn];
        for site in sites.into_iter().chain([Site::DeviceRead, Site::Turn, Site::Turn]) {
            let step = steering.steps() + 1;
            steering.step(site, |what| seen.push((step, *what)));
        }
        assert_eq!(seen, [(4, What::ReadFault), (5, What::Stall), (7, What::Stall)]);
    }
}
