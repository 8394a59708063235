//! The simulation with a small device: a ring whose entries point at bytes to invert.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use understudy_device::{
    AccessError, Bar, BarKind, BarSpec, Bus, Capability, DeviceModel, DmaFaultKind, FinishedJob,
    Identity, Job, JobId, Nanos, Progress, ResetKind, SharedArea, State, Tap, Vector, Verdict,
};
use understudy_pci::{Host, Irq};

use crate::{DmaAccess, Hooks, Permission, Simulation, Step, StuckReason};

/// Registers, 8 bytes each: ring address, tail (a doorbell), timer in nanoseconds.
const RING: u64 = 0;
const TAIL: u64 = 8;
const TIMER: u64 = 16;
/// An area in the same BAR that the driver maps; its first byte is a doorbell for vector 2.
const SHARED: u64 = 0x1000;

const ENTRIES: u64 = 16;
const ENTRY_LEN: u64 = 16;

struct Inverter {
    identity: Identity,
    ring: u64,
    tail: u64,
    head: u64,
    deadline: Option<Nanos>,
    jobs: BTreeMap<JobId, (u64, u64)>,
}

impl Inverter {
    fn new() -> Self {
        let spec = BarSpec {
            bar: Bar(0),
            kind: BarKind::Memory32,
            prefetchable: false,
            size: 0x4000,
            shared: vec![SharedArea { offset: SHARED, size: 0x1000 }],
        };
        let msix = Capability::Msix { vectors: 3, table: (Bar(0), 0x2000), pba: (Bar(0), 0x3000) };
        let identity = Identity {
            name: "inverter",
            vendor_id: 1,
            device_id: 2,
            subsystem_vendor_id: 3,
            subsystem_id: 4,
            revision_id: 0,
            class_code: 0,
            interrupt_pin: 0,
            bars: vec![spec],
            capabilities: vec![msix],
            unmapped_read: 0xff,
        };
        let jobs = BTreeMap::new();
        Self { identity, ring: 0, tail: 0, head: 0, deadline: None, jobs }
    }

    fn register(&mut self, offset: u64) -> Result<&mut u64, AccessError> {
        match offset {
            RING => Ok(&mut self.ring),
            TAIL => Ok(&mut self.tail),
            _ => Err(AccessError::Unmapped { offset }),
        }
    }

    fn start(&mut self, bus: &mut dyn Bus) {
        let at = self.ring + self.head % ENTRIES * ENTRY_LEN;
        self.head += 1;
        let mut entry = [0; 16];
        if bus.dma_read(at, &mut entry).is_err()
            || bus.tap(Tap::Fetched, 0, &mut entry) == Verdict::Drop
        {
            return;
        }
        let [address, len] =
            [0, 8].map(|n| u64::from_le_bytes(entry[n..n + 8].try_into().unwrap()));
        let mut data = vec![0; usize::try_from(len.min(64)).unwrap()];
        if bus.dma_read(address, &mut data).is_ok() {
            let job = bus.submit(Job::new(move || data.iter().map(|b| !b).collect::<Vec<u8>>()));
            self.jobs.insert(job, (address, at));
        }
    }
}

impl DeviceModel for Inverter {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn read(
        &mut self,
        _: &mut dyn Bus,
        _: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let value = *self.register(offset)?;
        data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
        Ok(())
    }
    fn write(
        &mut self,
        bus: &mut dyn Bus,
        _: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let value = u64::from_le_bytes(data.try_into().unwrap());
        if offset == TIMER {
            self.deadline = Some(bus.now().plus(value));
            return Ok(());
        }
        *self.register(offset)? = value;
        Ok(())
    }
    fn poll(&mut self, bus: &mut dyn Bus, budget: u32) -> Progress {
        let mut rung = [0];
        bus.shared_read(Bar(0), SHARED, &mut rung).unwrap();
        if rung != [0] {
            bus.shared_write(Bar(0), SHARED, &[0]).unwrap();
            bus.raise(Vector(2));
        }
        for _ in 0..budget {
            if self.head == self.tail {
                break;
            }
            self.start(bus);
        }
        if self.head != self.tail {
            return Progress::More;
        }
        match self.deadline {
            Some(deadline) if deadline <= bus.now() => {
                self.deadline = None;
                bus.raise(Vector(1));
                Progress::Idle
            }
            Some(deadline) => Progress::Until(deadline),
            None => Progress::Idle,
        }
    }
    fn finish(&mut self, bus: &mut dyn Bus, done: FinishedJob) {
        let (address, entry) = self.jobs.remove(&done.id).expect("a job of this life");
        let data: Vec<u8> = done.into_output().expect("what the job returned");
        bus.dma_write(address, &data).unwrap();
        bus.dma_fence();
        bus.dma_write(entry + 8, &[0; 8]).unwrap();
        bus.raise(Vector(0));
    }
    fn reset(&mut self, _: ResetKind) {
        *self = Self::new();
    }
    fn inspect(&self) -> State {
        State::default()
    }
}

const DATA: u64 = 0x10_0000;

/// A driver of the inverter. Request `n` is the bytes of `n`.
struct Driver {
    sim: Simulation,
    submitted: u64,
}

impl Driver {
    fn new(seed: u64) -> Self {
        let mut sim = Simulation::new(Box::new(Inverter::new()), seed).unwrap();
        sim.memory().map(0, 0x1000, Permission::ReadWrite).unwrap();
        sim.memory().map(DATA, 0x1000, Permission::ReadWrite).unwrap();
        let mut this = Self { sim, submitted: 0 };
        this.set_up();
        this
    }

    fn set_up(&mut self) {
        self.sim.config_write(4, &6u16.to_le_bytes()).unwrap();
        self.sim.config_write(0x42, &0x8000u16.to_le_bytes()).unwrap();
        self.sim.set_triggers(Irq::Msix, 0, 3, true).unwrap();
        self.write(RING, 0x100);
        self.submitted = 0;
    }

    fn write(&mut self, offset: u64, value: u64) {
        self.sim.bar_write(Bar(0), offset, &value.to_le_bytes()).unwrap();
    }

    fn request(&mut self) -> u64 {
        let n = self.submitted;
        let (entry, address) = (0x100 + n % ENTRIES * ENTRY_LEN, DATA + n % ENTRIES * 8);
        self.sim.memory().write(address, &n.to_le_bytes()).unwrap();
        self.sim.memory().write(entry, &address.to_le_bytes()).unwrap();
        self.sim.memory().write(entry + 8, &8u64.to_le_bytes()).unwrap();
        self.submitted += 1;
        self.write(TAIL, self.submitted);
        n
    }

    fn result(&mut self, n: u64) -> u64 {
        let mut bytes = [0; 8];
        self.sim.memory().read(DATA + n % ENTRIES * 8, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn is_done(&mut self, n: u64) -> bool {
        let mut len = [0; 8];
        let entry = 0x100 + n % ENTRIES * ENTRY_LEN;
        self.sim.memory().read(entry + 8, &mut len).unwrap();
        len == [0; 8]
    }

    /// Submits `count` requests, steps between them as `gaps` says, waits for all. Returns the
    /// order of completion.
    fn run(&mut self, count: u64, gaps: &[u8]) -> Vec<u64> {
        let mut order = vec![];
        for n in 0..count {
            self.request();
            for _ in 0..gaps.get(n as usize).copied().unwrap_or(0) {
                self.step(&mut order);
            }
        }
        while self.step(&mut order) != Step::Quiet {}
        order
    }

    fn step(&mut self, order: &mut Vec<u64>) -> Step {
        let step = self.sim.step();
        if let Step::Finished(_) = step {
            let done: Vec<_> =
                (0..self.submitted).filter(|n| !order.contains(n) && self.is_done(*n)).collect();
            order.extend(done);
        }
        step
    }
}

#[test]
fn the_seed_decides_the_order_of_completion() {
    let orders: BTreeSet<_> = (0..20).map(|seed| Driver::new(seed).run(6, &[])).collect();
    assert!(orders.len() > 10, "20 seeds gave only {} orders", orders.len());
    for mut order in orders {
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn different_seeds_and_different_drivers_give_different_hashes() {
    let hash = |seed, count| {
        let mut driver = Driver::new(seed);
        driver.run(count, &[]);
        driver.sim.trace().hash()
    };
    assert_eq!(hash(1, 6), hash(1, 6));
    assert_ne!(hash(1, 6), hash(2, 6));
    assert_ne!(hash(1, 6), hash(1, 5));
    let mut driver = Driver::new(1);
    driver.run(6, &[]);
    let before = driver.sim.trace().hash();
    driver.sim.config_read(0, &mut [0; 4]).unwrap();
    assert_ne!(driver.sim.trace().hash(), before);
}

#[test]
fn jobs_in_flight_at_a_reset_never_reach_the_device() {
    for seed in 0..50 {
        let mut driver = Driver::new(seed);
        (0..8).for_each(|_| {
            driver.request();
        });
        let started = driver.sim.run_until(|sim| sim.host().jobs_in_flight() >= 4, 100);
        assert!(started.is_ok(), "seed {seed}");
        let in_flight = driver.sim.host().jobs_in_flight() as u64;
        let interrupts = driver.sim.interrupts(Irq::Msix, 0);
        driver.sim.reset(ResetKind::Function);
        driver.set_up();
        let n = driver.request();
        driver.sim.drain(1000).unwrap();
        let stale = driver.sim.function().inspect().counter("jobs.stale");
        assert_eq!(stale, Some(in_flight), "seed {seed}");
        assert_eq!(driver.sim.interrupts(Irq::Msix, 0), interrupts + 1, "seed {seed}");
        assert_eq!(driver.result(n), !n, "seed {seed}");
    }
}

#[test]
fn interrupts_are_counted_and_taken() {
    let mut driver = Driver::new(1);
    assert!(driver.sim.set_triggers(Irq::Msix, 2, 2, true).is_err());
    assert!(driver.sim.set_triggers(Irq::Msix, u16::MAX, 2, true).is_err());
    assert!(driver.sim.set_triggers(Irq::Intx, 0, 1, true).is_err());
    driver.request();
    driver.request();
    let steps = driver.sim.run_until(|sim| sim.take_interrupt(Irq::Msix, 0), 100);
    assert!(steps.is_ok());
    driver.sim.drain(100).unwrap();
    assert_eq!(driver.sim.interrupts(Irq::Msix, 0), 2);
    assert!(driver.sim.take_interrupt(Irq::Msix, 0));
    assert!(!driver.sim.take_interrupt(Irq::Msix, 0));
    driver.sim.set_irq_mask(Irq::Msix, 0, 1, true);
    driver.request();
    driver.sim.drain(100).unwrap();
    assert!(!driver.sim.take_interrupt(Irq::Msix, 0));
    driver.sim.set_irq_mask(Irq::Msix, 0, 1, false);
    assert!(driver.sim.take_interrupt(Irq::Msix, 0));
}

#[test]
fn time_passes_in_steps_and_jumps_to_deadlines() {
    let mut driver = Driver::new(1);
    driver.sim.drain(10).unwrap();
    let quiet = driver.sim.now();
    assert_eq!(driver.sim.step(), Step::Quiet);
    assert_eq!(driver.sim.now(), quiet);
    driver.write(TIMER, 1_000_000_000);
    let deadline = quiet.plus(1_000_000_000);
    assert_eq!([driver.sim.step(), driver.sim.step()], [Step::Polled, Step::Parked]);
    let early = Nanos(5_000_000);
    assert_eq!(driver.sim.step_before(early), Step::Advanced(early));
    assert_eq!(driver.sim.interrupts(Irq::Msix, 1), 0);
    assert_eq!(driver.sim.step(), Step::Advanced(deadline));
    assert_eq!(driver.sim.step(), Step::Polled);
    assert_eq!(driver.sim.interrupts(Irq::Msix, 1), 1);
}

#[test]
fn a_mapped_doorbell_wakes_the_device() {
    let mut driver = Driver::new(1);
    driver.sim.drain(10).unwrap();
    driver.sim.shared_write(Bar(0), SHARED, &[1]).unwrap();
    assert!(driver.sim.run_until(|sim| sim.take_interrupt(Irq::Msix, 2), 10).is_ok());
    driver.sim.bar_write(Bar(0), SHARED, &[1]).unwrap();
    assert!(driver.sim.run_until(|sim| sim.take_interrupt(Irq::Msix, 2), 10).is_ok(), "trapped");
    assert!(driver.sim.shared_write(Bar(0), SHARED + 0xfff, &[0; 2]).is_err());
    assert!(driver.sim.shared_read(Bar(1), SHARED, &mut [0]).is_err());
}

#[test]
fn waiting_for_what_cannot_come_ends() {
    let mut driver = Driver::new(7);
    let stuck = driver.sim.run_until(|_| false, 100).unwrap_err();
    assert_eq!((stuck.reason, stuck.seed), (StuckReason::Quiet, 7));
    driver.request();
    let stuck = driver.sim.run_until(|_| false, 1).unwrap_err();
    assert_eq!((stuck.reason, stuck.steps), (StuckReason::Steps, 1));
}

#[test]
fn hooks_decide_about_entries_and_dma() {
    struct Faults;
    impl Hooks for Faults {
        /// The second request is lost, the third goes to the fourth's buffer.
        fn tap(&mut self, _: Nanos, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
            assert_eq!((at, queue), (Tap::Fetched, 0));
            match entry[0] {
                8 => return Verdict::Drop,
                16 => entry[0] = 24,
                _ => {}
            }
            Verdict::Pass
        }
        /// The first request's data cannot be read.
        fn dma(&mut self, _: Nanos, access: DmaAccess) -> Result<(), DmaFaultKind> {
            let poisoned = !access.write && access.iova == DATA;
            if poisoned { Err(DmaFaultKind::Failed) } else { Ok(()) }
        }
    }
    let mut driver = Driver::new(3);
    driver.sim.host_mut().set_hooks(Some(Box::new(Faults)));
    (0..3).for_each(|_| {
        driver.request();
    });
    driver.sim.drain(100).unwrap();
    assert_eq!([0, 1, 2, 3].map(|n| driver.result(n)), [0, 1, 2, !0]);
    driver.sim.host_mut().set_hooks(None);
    let n = driver.request();
    driver.sim.drain(100).unwrap();
    assert_eq!(driver.result(n), !n);
}

#[test]
fn memory_that_is_lent_is_recorded_as_if_copied() {
    struct Allow;
    impl Hooks for Allow {}
    let host = || {
        let mut sim = Driver::new(3).sim;
        for (iova, permission) in
            [(0x20_0000, Permission::ReadWrite), (0x21_0000, Permission::Read)]
        {
            sim.memory().map(iova, 0x1000, permission).unwrap();
        }
        sim
    };
    let (mut lent, mut copied) = (host(), host());
    for (iova, change) in [(0x20_0000, true), (0x20_0ff0, false), (0x20_0000, true)] {
        assert!(lent.host_mut().dma_lend(iova, 16, &mut |data| {
            data.iter_mut().for_each(|byte| *byte ^= u8::from(change));
            change
        }));
        let mut data = [0; 16];
        copied.host_mut().dma_read(iova, &mut data).unwrap();
        if change {
            data.iter_mut().for_each(|byte| *byte ^= 1);
            copied.host_mut().dma_write(iova, &data).unwrap();
        }
    }
    assert_eq!(lent.trace().hash(), copied.trace().hash());
    let mut refuses = |iova, len| !lent.host_mut().dma_lend(iova, len, &mut |_| unreachable!());
    assert!(refuses(0x21_0000, 1), "read-only");
    assert!(refuses(0x20_0ff8, 16) && refuses(0x22_0000, 1), "not mapped");
    lent.host_mut().set_hooks(Some(Box::new(Allow)));
    assert!(!lent.host_mut().dma_lend(0x20_0000, 1, &mut |_| unreachable!()), "hooks");
}

#[test]
fn only_the_last_events_are_kept() {
    let mut driver = Driver::new(3);
    for _ in 0..1000 {
        driver.sim.config_read(0, &mut [0; 4]).unwrap();
    }
    assert_eq!(driver.sim.trace().recent().count(), crate::Trace::RECENT);
    assert!(driver.sim.trace().events() > 1000);
    assert!(format!("{:?}", driver.sim.trace()).contains("ConfigRead { offset: 0, len: 4"));
}

proptest! {
    /// For any seed and any timing, each request is done exactly once, with one interrupt, and the
    /// run repeats event for event.
    #[test]
    fn a_run_is_a_function_of_seed_and_driver(
        seed: u64,
        count in 0..ENTRIES,
        gaps in prop::collection::vec(0u8..6, 0..16),
    ) {
        let mut first = Driver::new(seed);
        let order = first.run(count, &gaps);
        prop_assert_eq!(order.len() as u64, count);
        for n in 0..count {
            prop_assert_eq!(first.result(n), !n);
        }
        prop_assert_eq!(first.sim.interrupts(Irq::Msix, 0), count);
        let mut second = Driver::new(seed);
        prop_assert_eq!(second.run(count, &gaps), order);
        prop_assert_eq!(second.sim.trace().hash(), first.sim.trace().hash());
        prop_assert_eq!(second.sim.trace().events(), first.sim.trace().events());
        prop_assert!(second.sim.trace().recent().eq(first.sim.trace().recent()));
    }
}
