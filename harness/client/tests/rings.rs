//! The transport and ring drivers against the virtio models, with a device that answers each
//! request with its bytes reversed.
#![cfg(test)]

use proptest::prelude::*;
use understudy_client::virtio::{Completion, Device, Queue, QueueOptions, Segment, feature};
use understudy_client::{DmaBuffer, DriverError, Platform, SimulationPlatform};
use understudy_device::{
    AccessError, Bar, Bus, Counter, FinishedJob, Job, Nanos, RegisterState, ResetKind,
};
use understudy_virtio::{Description, Outcome, QueueSpec, Request, VirtioDevice, VirtioPci};

/// A virtio device type that is not assigned.
const TYPE: u16 = 63;

struct Mirror {
    description: Description,
    /// Every third request goes through a job.
    count: u32,
}

impl Mirror {
    fn platform(seed: u64) -> SimulationPlatform {
        let queue = |name: &str| QueueSpec { name: name.into(), max_size: 64 };
        let description = Description {
            name: "mirror",
            device_id: TYPE,
            class_code: 0xff_0000,
            features: 0,
            queues: vec![queue("first"), queue("second")],
        };
        let model = VirtioPci::new(Self { description, count: 0 }).unwrap();
        SimulationPlatform::new(Box::new(model), seed).unwrap()
    }

    fn answer(bus: &mut dyn Bus, request: &Request, data: &[u8]) -> Outcome {
        let len = data.len().min(usize::try_from(request.writable.bytes()).unwrap());
        match request.writable.cursor().write(bus, &data[..len]) {
            Ok(()) => Outcome::Done(u32::try_from(len).unwrap()),
            Err(_) => Outcome::Broken("cannot write"),
        }
    }
}

impl VirtioDevice for Mirror {
    fn description(&self) -> &Description {
        &self.description
    }

    fn start(&mut self, _: u64) {}

    fn read_config(
        &mut self,
        _: &mut dyn Bus,
        offset: u64,
        _: &mut [u8],
    ) -> Result<(), AccessError> {
        Err(AccessError::Unmapped { offset })
    }

    fn execute(&mut self, bus: &mut dyn Bus, request: &mut Request) -> Outcome {
        let mut data = vec![0; usize::try_from(request.readable.bytes()).unwrap()];
        if request.readable.cursor().read(bus, &mut data).is_err() {
            return Outcome::Broken("cannot read");
        }
        data.reverse();
        self.count += 1;
        if self.count.is_multiple_of(3) {
            return Outcome::Pending(bus.submit(Job::new(move || data)));
        }
        Self::answer(bus, request, &data)
    }

    fn finish(&mut self, bus: &mut dyn Bus, request: &mut Request, done: FinishedJob) -> Outcome {
        let data: Vec<u8> = done.into_output().unwrap();
        Self::answer(bus, request, &data)
    }

    fn reset(&mut self, _: ResetKind) {}

    fn config_state(&self, _: Bar, _: u64) -> Vec<RegisterState> {
        Vec::new()
    }

    fn counters(&self) -> Vec<Counter> {
        Vec::new()
    }
}

/// One buffer: bytes for the device in pieces, and room for the answer in pieces.
struct Buffer {
    memory: DmaBuffer,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
    data: Vec<u8>,
}

impl Buffer {
    fn new(p: &mut impl Platform, data: &[u8], pieces: usize) -> Self {
        let len = data.len();
        let memory = p.dma_alloc(2 * len, 1).unwrap();
        p.dma_write(memory.iova, data).unwrap();
        let step = len.div_ceil(pieces);
        let cut = |base: u64| {
            let starts = (0..len).step_by(step);
            starts.map(move |at| Segment {
                iova: base + at as u64,
                len: u32::try_from(step.min(len - at)).unwrap(),
            })
        };
        let (readable, writable) = (cut(memory.iova), cut(memory.at(len)));
        Self {
            memory,
            readable: readable.collect(),
            writable: writable.collect(),
            data: data.to_vec(),
        }
    }

    fn check(self, p: &mut impl Platform) {
        let mut answer = vec![0; self.data.len()];
        p.dma_read(self.memory.at(self.data.len()), &mut answer).unwrap();
        answer.reverse();
        assert_eq!(answer, self.data);
        p.dma_free(self.memory);
    }
}

fn start(
    options: QueueOptions,
    completion: Completion,
    size: u16,
    seed: u64,
) -> (Device<SimulationPlatform>, Queue) {
    let mut device = Device::discover(Mirror::platform(seed), TYPE).unwrap();
    let mut wanted = if options.packed { feature::RING_PACKED } else { 0 };
    wanted |= if options.indirect { feature::INDIRECT_DESC } else { 0 };
    wanted |= if options.event_idx { feature::EVENT_IDX } else { 0 };
    device.negotiate(wanted, 0).unwrap();
    device.setup_interrupts(completion, 2).unwrap();
    let mut queue = device.setup_queue(0, size, options).unwrap();
    queue.want_interrupt(&mut device.platform, false).unwrap();
    device.start().unwrap();
    (device, queue)
}

fn variants() -> impl Iterator<Item = (QueueOptions, Completion)> {
    let bits = (0..8).map(|bits| QueueOptions {
        packed: bits & 1 != 0,
        indirect: bits & 2 != 0,
        event_idx: bits & 4 != 0,
    });
    let how = [Completion::Polling, Completion::Intx, Completion::Msix];
    bits.flat_map(move |options| how.map(|how| (options, how)))
}

const DEADLINE: Nanos = Nanos(u64::MAX);

/// Submits in bursts and takes everything back, many times around the ring.
fn exercise(
    options: QueueOptions,
    completion: Completion,
    size: u16,
    seed: u64,
    bursts: &[(u8, u8)],
) {
    let (mut device, mut queue) = start(options, completion, size, seed);
    let before = device.platform.in_use();
    let mut held = std::collections::BTreeMap::new();
    let mut token = 0u64;
    for &(count, pieces) in bursts {
        for n in 0..count {
            let len = 1 + usize::from(n) * 37 % 300;
            let data: Vec<u8> =
                (0..=255u8).cycle().take(len).map(|at| at.wrapping_mul(7) ^ n).collect();
            let p = &mut device.platform;
            let buffer = Buffer::new(p, &data, usize::from(pieces).min(len));
            match queue.add(p, &buffer.readable, &buffer.writable, token) {
                Ok(()) => held.insert(token, buffer),
                Err(DriverError::QueueFull { .. } | DriverError::BadRequest(_)) => {
                    p.dma_free(buffer.memory);
                    break;
                }
                Err(error) => panic!("{error}"),
            };
            token += 1;
        }
        device.kick(&mut queue).unwrap();
        while queue.outstanding() > 0 {
            let used = device.wait_used(&mut queue, DEADLINE).unwrap();
            let buffer = held.remove(&used.token).expect("a token that we hold");
            assert_eq!(usize::try_from(used.len).unwrap(), buffer.data.len());
            buffer.check(&mut device.platform);
        }
    }
    assert!(held.is_empty());
    assert!(token > 0);
    if !options.indirect {
        assert_eq!(device.platform.in_use(), before);
    }
    queue.release(&mut device.platform);
}

#[test]
fn every_variant_carries_requests_around_the_ring() {
    for (options, completion) in variants() {
        let bursts: Vec<_> = (0..60).map(|n| (1 + n % 9, 1 + n % 3)).collect();
        exercise(options, completion, 16, 7, &bursts);
    }
}

#[test]
fn a_packed_ring_need_not_be_a_power_of_two() {
    let options = QueueOptions { packed: true, indirect: false, event_idx: true };
    exercise(options, Completion::Msix, 11, 7, &[(3, 1); 50]);
    exercise(options, Completion::Polling, 7, 7, &[(3, 2); 50]);
}

#[test]
fn a_full_ring_refuses_and_goes_on() {
    for packed in [false, true] {
        let options = QueueOptions { packed, indirect: false, event_idx: false };
        let (mut device, mut queue) = start(options, Completion::Polling, 4, 1);
        let buffer = Buffer::new(&mut device.platform, b"abcd", 1);
        let add = |queue: &mut Queue, p: &mut SimulationPlatform, token| {
            queue.add(p, &buffer.readable, &buffer.writable, token)
        };
        add(&mut queue, &mut device.platform, 0).unwrap();
        add(&mut queue, &mut device.platform, 1).unwrap();
        let error = add(&mut queue, &mut device.platform, 2).unwrap_err();
        assert!(matches!(error, DriverError::QueueFull { queue: 0 }));
        device.kick(&mut queue).unwrap();
        assert_eq!(device.wait_used(&mut queue, DEADLINE).unwrap().token, 0);
        add(&mut queue, &mut device.platform, 3).unwrap();
        device.kick(&mut queue).unwrap();
        for token in [1, 3] {
            assert_eq!(device.wait_used(&mut queue, DEADLINE).unwrap().token, token);
        }
        let error = device.wait_used(&mut queue, DEADLINE).unwrap_err();
        assert!(matches!(error, DriverError::Timeout(_)), "{error}");
    }
}

#[test]
fn the_device_asking_for_a_reset_is_reported_and_a_reset_helps() {
    for packed in [false, true] {
        let options = QueueOptions { packed, indirect: false, event_idx: false };
        let (mut device, mut queue) = start(options, Completion::Polling, 4, 1);
        let outside = Segment { iova: 0x1000, len: 16 };
        queue.add(&mut device.platform, &[outside], &[], 0).unwrap();
        device.kick(&mut queue).unwrap();
        let error = device.wait_used(&mut queue, DEADLINE).unwrap_err();
        assert!(matches!(error, DriverError::NeedsReset), "{error}");
        device.reset().unwrap();
        queue.release(&mut device.platform);
        assert_eq!(device.status().unwrap(), 0);
    }
}

#[test]
fn one_queue_can_be_reset_alone() {
    let mut device = Device::discover(Mirror::platform(1), TYPE).unwrap();
    device.negotiate(feature::RING_RESET, 0).unwrap();
    device.setup_interrupts(Completion::Polling, 2).unwrap();
    let options = QueueOptions { packed: false, indirect: false, event_idx: false };
    let first = device.setup_queue(0, 8, options).unwrap();
    let mut second = device.setup_queue(1, 8, options).unwrap();
    device.start().unwrap();
    device.reset_queue(0).unwrap();
    first.release(&mut device.platform);
    let mut first = device.setup_queue(0, 4, options).unwrap();
    for queue in [&mut second, &mut first] {
        let buffer = Buffer::new(&mut device.platform, b"hello", 2);
        queue.add(&mut device.platform, &buffer.readable, &buffer.writable, 9).unwrap();
        device.kick(queue).unwrap();
        assert_eq!(device.wait_used(queue, DEADLINE).unwrap().token, 9);
        buffer.check(&mut device.platform);
    }
}

#[test]
fn registers_are_reachable_through_the_window_in_config_space() {
    let (mut device, _queue) = start(
        QueueOptions { packed: false, indirect: false, event_idx: false },
        Completion::Polling,
        4,
        1,
    );
    let common = device.common();
    let offset = u32::try_from(common.offset).unwrap() + 0x14;
    let mut status = [0];
    device.window_read(common.bar, offset, &mut status).unwrap();
    assert_eq!(status[0], device.status().unwrap());
    device.window_write(common.bar, offset, &[0]).unwrap();
    assert_eq!(device.status().unwrap(), 0);
}

#[test]
fn another_device_is_not_driven() {
    let error = Device::discover(Mirror::platform(1), 20).unwrap_err();
    assert!(matches!(error, DriverError::WrongDevice { vendor: 0x1af4, device: 0x107f }));
}

#[test]
fn features_that_are_not_offered_are_an_error() {
    let mut device = Device::discover(Mirror::platform(1), TYPE).unwrap();
    let error = device.negotiate(1 << 35, 0).unwrap_err();
    assert!(matches!(error, DriverError::FeaturesRefused(bits) if bits == 1 << 35));
}

/// What a device can do wrong in a ring, done by hand.
#[test]
fn a_ring_that_lies_is_an_error() {
    let split = QueueOptions { packed: false, indirect: false, event_idx: false };
    let packed = QueueOptions { packed: true, ..split };
    type Lie = fn(&[DmaBuffer; 3]) -> Vec<(u64, Vec<u8>)>;
    let cases: [(QueueOptions, Lie, &str); 8] = [
        (split, |a| vec![(a[2].at(2), vec![2, 0])], "used index 2, at most 1"),
        (split, |a| vec![(a[2].at(2), vec![255, 255])], "used index 65535, at most 1"),
        (split, |a| vec![(a[2].at(4), vec![1]), (a[2].at(2), vec![1])], "used buffer 1 "),
        (split, |a| vec![(a[2].at(7), vec![1]), (a[2].at(2), vec![1])], "used buffer 16777216 "),
        (split, |a| vec![(a[2].at(8), vec![17]), (a[2].at(2), vec![1])], "17 bytes written"),
        (packed, |a| vec![(a[0].at(12), vec![3, 0, 0x82, 0x80])], "used buffer 3 "),
        (packed, |a| vec![(a[0].at(12), vec![255, 255, 0x82, 0x80])], "used buffer 65535 "),
        (packed, |a| vec![(a[0].at(8), vec![17, 0, 0, 0, 0, 0, 0x82, 0x80])], "17 bytes written"),
    ];
    // A device that was never told to start does not interfere.
    let p = &mut Mirror::platform(1);
    for (options, lie, text) in cases {
        let mut queue = Queue::new(p, 0, 8, options).unwrap();
        let room = p.dma_alloc(16, 1).unwrap();
        let segment = Segment { iova: room.iova, len: 16 };
        queue.add(p, &[], &[segment], 5).unwrap();
        assert_eq!(queue.take(p).unwrap(), None);
        for (iova, bytes) in lie(&queue.areas()) {
            p.dma_write(iova, &bytes).unwrap();
        }
        let error = queue.take(p).unwrap_err();
        assert!(error.to_string().contains(text), "{error} does not say {text:?}");
        // It stays an error; nothing is handed out twice.
        assert!(queue.take(p).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_burst_in_any_variant(
        variant in 0usize..24,
        size in 1u32..6,
        seed: u64,
        bursts in prop::collection::vec((1u8..40, 1u8..6), 1..20),
    ) {
        let (options, completion) = variants().nth(variant).unwrap();
        let size = 1 << size;
        if u16::from(bursts[0].1) * 2 <= size {
            exercise(options, completion, size, seed, &bursts);
        }
    }
}
