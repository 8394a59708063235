//! Virtqueues against the reference driver.

use std::collections::BTreeMap;

use proptest::prelude::*;
use understudy_device::{Bus, DeviceModel, Progress};

use super::driver::Driver;
use super::{Echo, Guest, PLAIN, negotiate, write};
use crate::registers::Common;
use crate::{VirtioPci, feature, status};

struct Setup {
    model: VirtioPci<Echo>,
    guest: Guest,
    features: u64,
}

impl Setup {
    fn new(max_size: u16, features: u64) -> Self {
        let (mut model, mut guest) = (Echo::model(max_size), Guest::new());
        let features = PLAIN | features;
        let status = negotiate(&mut model, &mut guest, features);
        assert!(status & status::FEATURES_OK != 0);
        Self { model, guest, features }
    }

    fn queue(&mut self, index: u16, size: u16) -> Driver {
        Driver::new(&mut self.model, &mut self.guest, index, size, self.features)
    }

    fn start(&mut self) {
        write(&mut self.model, &mut self.guest, Common::DeviceStatus, 0x0f);
    }

    /// Polls until the device is idle, as a host does, and parks it.
    fn settle(&mut self) {
        for _ in 0..1000 {
            match self.model.poll(&mut self.guest, 7) {
                Progress::More => continue,
                Progress::Idle => {}
                Progress::Until(_) => unreachable!("nothing is delayed"),
            }
            if self.guest.finish_job(&mut self.model) {
                continue;
            }
            if self.model.park(&mut self.guest) == Progress::Idle {
                return;
            }
        }
        panic!("the device does not settle");
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Lengths of readable and writable buffers; indirect.
    Add(Vec<u32>, Vec<u32>, bool),
    /// Look at whether to notify, and settle if so.
    Kick,
    /// Take used chains.
    Take,
    /// The device polls unasked, as a busy host does.
    Poll(u32),
    Interrupts(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let lens = || prop::collection::vec(0_u32..40, 0..4);
    prop_oneof![
        4 => (lens(), lens(), any::<bool>()).prop_map(|(r, w, i)| Step::Add(r, w, i)),
        2 => Just(Step::Kick),
        2 => Just(Step::Take),
        1 => (1_u32..5).prop_map(Step::Poll),
        1 => any::<bool>().prop_map(Step::Interrupts),
    ]
}

/// What the driver knows of a request: what it sent, and where the answer goes.
type Sent = BTreeMap<u16, (Vec<u8>, Vec<(u64, u32)>)>;

/// Fills readable buffers, makes writable ones, adds them.
fn add(
    setup: &mut Setup,
    driver: &mut Driver,
    (readable, writable, indirect): (&[u32], &[u32], bool),
    sent: &mut Sent,
) -> bool {
    let guest = &mut setup.guest;
    let mut data = Vec::new();
    let mut buffers = Vec::new();
    for len in readable {
        let at = guest.alloc(*len as usize);
        let seed = u8::try_from(at / 64 % 251).unwrap();
        let bytes: Vec<u8> = (0..*len).map(|i| seed ^ u8::try_from(i).unwrap()).collect();
        guest.dma_write(at, &bytes).unwrap();
        data.extend(bytes);
        buffers.push((at, *len, false));
    }
    let mut room = Vec::new();
    for len in writable {
        let at = guest.alloc(*len as usize);
        room.push((at, *len));
        buffers.push((at, *len, true));
    }
    if buffers.is_empty() {
        return false;
    }
    let Some(id) = driver.add(guest, &buffers, indirect) else { return false };
    assert!(sent.insert(id, (data, room)).is_none());
    true
}

/// Takes what was used and compares the answers.
fn take(guest: &mut Guest, driver: &mut Driver, sent: &mut Sent) {
    while let Some((id, len)) = driver.take(guest) {
        let (data, room) = sent.remove(&id).unwrap();
        let total: u32 = room.iter().map(|(_, len)| *len).sum();
        assert_eq!(len as usize, data.len().min(total as usize));
        let mut answer = Vec::new();
        for (at, len) in room {
            let mut bytes = vec![0; len as usize];
            guest.dma_read(at, &mut bytes).unwrap();
            answer.extend(bytes);
        }
        assert_eq!(answer[..len as usize], data[..len as usize]);
        assert!(answer[len as usize..].iter().all(|byte| *byte == 0), "wrote past the answer");
    }
}

fn sizes() -> impl Strategy<Value = (u16, u64)> {
    let split = prop::sample::select(vec![2, 4, 8, 16]).prop_map(|size| (size, 0));
    let packed = (1_u16..=16).prop_map(|size| (size, feature::RING_PACKED));
    prop_oneof![split, packed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the driver does by the rules, each request is answered exactly once and rightly,
    /// and neither side waits for a notification that does not come.
    #[test]
    fn every_request_is_answered_once(
        (size, ring) in sizes(),
        event_idx in any::<bool>(),
        queue in 0_u16..2,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let event_idx = if event_idx { feature::EVENT_IDX } else { 0 };
        let mut setup = Setup::new(16, ring | event_idx | feature::INDIRECT_DESC);
        let mut driver = setup.queue(queue, size);
        setup.start();
        driver.want_interrupt(&mut setup.guest, true);
        let (mut sent, mut wanted) = (Sent::new(), true);
        let mut parked = true;
        for step in steps {
            match step {
                Step::Add(readable, writable, indirect) => {
                    add(&mut setup, &mut driver, (&readable, &writable, indirect), &mut sent);
                }
                Step::Kick => {
                    if driver.must_notify(&mut setup.guest) {
                        driver.notify(&mut setup.model, &mut setup.guest);
                        setup.settle();
                        parked = true;
                    } else {
                        // Not wanted: then a busy device has it, or will find it when parking.
                        prop_assert!(!parked || sent.is_empty());
                    }
                    if !sent.is_empty() {
                        setup.settle();
                        parked = true;
                    }
                    // The device is idle now: all requests are used, and told of if wanted.
                    let told = std::mem::take(&mut setup.guest.raised);
                    if wanted && !sent.is_empty() {
                        prop_assert!(told.contains(&(queue + 1)), "no interrupt");
                    }
                    take(&mut setup.guest, &mut driver, &mut sent);
                    prop_assert!(sent.is_empty());
                    driver.want_interrupt(&mut setup.guest, wanted);
                }
                Step::Take => {
                    take(&mut setup.guest, &mut driver, &mut sent);
                    driver.want_interrupt(&mut setup.guest, wanted);
                    // Interrupts for what was taken are stale.
                    if sent.is_empty() {
                        setup.guest.raised.clear();
                    }
                }
                Step::Poll(budget) => {
                    setup.model.poll(&mut setup.guest, budget);
                    parked = false;
                }
                Step::Interrupts(on) => {
                    // Only between requests: otherwise whether one came is a race.
                    if sent.is_empty() {
                        wanted = on;
                        driver.want_interrupt(&mut setup.guest, on);
                        setup.guest.raised.clear();
                    }
                }
            }
        }
        setup.settle();
        take(&mut setup.guest, &mut driver, &mut sent);
        prop_assert!(sent.is_empty());
        prop_assert_eq!(driver.outstanding(), 0);
        prop_assert_eq!(setup.model.broken(), None);
    }
}

#[test]
fn indices_wrap_around_many_times() {
    for ring in [0, feature::RING_PACKED] {
        let mut setup = Setup::new(4, ring | feature::EVENT_IDX);
        let mut driver = setup.queue(0, 4);
        setup.start();
        let (request, answer) = (setup.guest.alloc(16), setup.guest.alloc(16));
        for n in 0..70_000_u32 {
            setup.guest.put(request, n.to_le_bytes());
            driver.want_interrupt(&mut setup.guest, true);
            driver.add(&mut setup.guest, &[(request, 4, false), (answer, 4, true)], false).unwrap();
            assert!(driver.must_notify(&mut setup.guest), "request {n} would hang");
            setup.settle();
            assert_eq!(setup.guest.raised, [1], "after request {n}");
            setup.guest.raised.clear();
            assert!(driver.take(&mut setup.guest).is_some());
            assert_eq!(setup.guest.get(answer), n.to_le_bytes());
        }
    }
}

#[test]
fn a_busy_device_asks_for_no_notifications() {
    for features in [0, feature::EVENT_IDX, feature::RING_PACKED] {
        let mut setup = Setup::new(8, features);
        let mut driver = setup.queue(0, 8);
        setup.start();
        let at = setup.guest.alloc(16);
        let mut add = |setup: &mut Setup| {
            driver.add(&mut setup.guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
            driver.must_notify(&mut setup.guest)
        };
        assert!(add(&mut setup), "a device that never ran wants one");
        setup.model.poll(&mut setup.guest, 16);
        assert!(!add(&mut setup), "a polling device wants none");
        assert_eq!(setup.model.park(&mut setup.guest), Progress::More, "it missed that request");
        setup.model.poll(&mut setup.guest, 16);
        assert_eq!(setup.model.park(&mut setup.guest), Progress::Idle);
        assert!(add(&mut setup), "a parked device wants one");
    }
}

#[test]
fn queues_share_the_budget() {
    let mut setup = Setup::new(64, 0);
    let mut drivers = [setup.queue(0, 64), setup.queue(1, 64)];
    setup.start();
    let at = setup.guest.alloc(16);
    for driver in &mut drivers {
        for _ in 0..32 {
            driver.add(&mut setup.guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
        }
    }
    assert_eq!(setup.model.poll(&mut setup.guest, 32), Progress::More);
    assert_eq!(setup.guest.jobs.len(), 16, "the second queue had its turn");
    let state = setup.model.inspect();
    assert_eq!(state.counter("queue.requests"), Some(32));
}

#[test]
fn a_reset_queue_forgets_its_requests() {
    let mut setup = Setup::new(8, feature::RING_RESET);
    let mut driver = setup.queue(1, 8);
    setup.start();
    let at = setup.guest.alloc(16);
    driver.add(&mut setup.guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
    setup.model.poll(&mut setup.guest, 8);
    assert_eq!(setup.guest.jobs.len(), 1);
    let before = setup.guest.memory.clone();
    write(&mut setup.model, &mut setup.guest, Common::QueueReset, 1);
    assert!(setup.guest.finish_job(&mut setup.model));
    assert!(setup.guest.memory == before, "a forgotten request was answered");
    // The queue can be enabled again elsewhere and works.
    let mut driver = setup.queue(1, 4);
    driver.add(&mut setup.guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
    setup.settle();
    assert!(driver.take(&mut setup.guest).is_some());
}

#[test]
fn a_reset_device_ignores_jobs_from_before() {
    let mut setup = Setup::new(8, 0);
    let mut driver = setup.queue(1, 8);
    setup.start();
    let at = setup.guest.alloc(16);
    driver.add(&mut setup.guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
    setup.model.poll(&mut setup.guest, 8);
    write(&mut setup.model, &mut setup.guest, Common::DeviceStatus, 0);
    let before = setup.guest.memory.clone();
    assert!(setup.guest.finish_job(&mut setup.model));
    assert!(setup.guest.memory == before);
    assert_eq!(setup.guest.raised, []);
}

#[test]
fn jobs_in_flight_are_bounded() {
    let mut setup = Setup::new(256, 0);
    let mut driver = setup.queue(1, 256);
    setup.start();
    let at = setup.guest.alloc(16);
    for _ in 0..128 {
        driver.add(&mut setup.guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
    }
    while setup.model.poll(&mut setup.guest, 1000) == Progress::More {}
    assert_eq!(setup.guest.jobs.len(), 64);
    assert_eq!(setup.model.park(&mut setup.guest), Progress::Idle);
    setup.settle();
    let mut answered = 0;
    while driver.take(&mut setup.guest).is_some() {
        answered += 1;
    }
    assert_eq!(answered, 128);
}
