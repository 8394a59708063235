//! Rings: their set-up, order, limits and faults.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use understudy_client::error::DriverError;
use understudy_client::platform::{Activity, Platform};
use understudy_client::qat::{CompressionCall, Options, PublicKey, message, ring};
use understudy_device::{DmaFaultKind, Nanos, ResetKind, Tap, Verdict};
use understudy_simulation::{DmaAccess, Hooks};

use super::{TestDriver, bare_driver, counter, driver, inspect, null, pattern};
use crate::Parameters;

const RINGS: u8 = 0;

fn register(driver: &mut TestDriver, offset: u64) -> u32 {
    driver.read(RINGS, offset).unwrap()
}

/// Takes all responses there will be: their opaque values.
fn drain(driver: &mut TestDriver, pair: u16) -> Vec<u64> {
    let mut opaques = Vec::new();
    while driver.in_flight(pair) > 0 {
        match driver.wait(pair) {
            Ok(response) => opaques.push(response.opaque()),
            Err(DriverError::Timeout(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    opaques
}

#[test]
fn a_null_request_comes_back_on_every_pair() {
    let mut driver = bare_driver(Parameters::default(), Options::default());
    for pair in 0..8 {
        let len = if pair < 2 { 64 } else { 128 };
        driver.open(pair, 32, len).unwrap();
        for round in 0..100 {
            let response = driver.run(pair, &null(round, len)).unwrap();
            assert_eq!((response.status(), response.service()), (0, 0));
        }
        driver.close(pair).unwrap();
    }
    assert_eq!(counter(&mut driver, "null.requests"), 800);
}

#[test]
fn a_burst_that_does_not_fit_is_not_there() {
    let mut driver = bare_driver(Parameters::default(), Options::default());
    driver.open(2, 16, 128).unwrap();
    let burst = |count| (0..count).map(|value| null(value, 128)).collect::<Vec<_>>();
    for count in [15, 16, 15] {
        let requests = burst(count);
        let submitted = driver.submit_burst(2, requests.iter().map(Vec::as_slice));
        if count == 16 {
            assert!(matches!(submitted, Err(DriverError::QueueFull { queue: 2 })));
            assert_eq!(driver.in_flight(2), 0);
        } else {
            submitted.unwrap();
            let mut values = Vec::new();
            driver.wait_burst(2, 15, |response| values.push(response.opaque())).unwrap();
            assert_eq!(values, (0..15).collect::<Vec<_>>());
        }
    }
    assert_eq!(counter(&mut driver, "responses"), 30);
}

#[test]
fn rings_have_sizes_from_128_bytes_to_4_mib() {
    let mut driver = bare_driver(Parameters::default(), Options::default());
    for (slots, len) in [(4, 128), (32768, 128), (65536, 64)] {
        let pair = if len == 64 { 1 } else { 4 };
        driver.open(pair, slots, len).unwrap();
        for round in 0..10 {
            driver.run(pair, &null(round, len)).unwrap();
        }
        driver.close(pair).unwrap();
    }
}

#[test]
fn pointers_wrap_at_the_size() {
    let mut driver = bare_driver(Parameters::default(), Options::default());
    driver.open(3, 8, 128).unwrap();
    for offset in [ring::HEAD, ring::TAIL] {
        driver.write(RINGS, offset + 4 * 3, 1024 + 128).unwrap();
        assert_eq!(register(&mut driver, offset + 4 * 3), 128);
    }
}

#[test]
fn the_empty_status_shows_what_waits() {
    let mut driver = driver();
    assert_eq!(register(&mut driver, ring::E_STAT), 0xffff);
    driver.write(RINGS, ring::ARBITER, 0).unwrap();
    driver.submit(2, &null(1, 128)).unwrap();
    let deadline = driver.platform.now().plus(1_000_000);
    driver.platform.idle(deadline).unwrap();
    assert_eq!(register(&mut driver, ring::E_STAT), 0xffff & !(1 << 2));
    driver.write(RINGS, ring::ARBITER, 1 << 2).unwrap();
    driver.platform.idle(deadline).unwrap();
    assert_eq!(register(&mut driver, ring::E_STAT), 0xffff & !(1 << 10));
    driver.wait(2).unwrap();
    assert_eq!(register(&mut driver, ring::E_STAT), 0xffff);
}

#[test]
fn responses_come_in_the_order_of_requests() {
    let mut driver = driver();
    // Compressions are jobs, which end in any order; null requests are done at once.
    let data = pattern(4096, 0);
    let source = driver.platform.dma_alloc(4096, 64).unwrap();
    let destination = driver.platform.dma_alloc(8192, 64).unwrap();
    driver.platform.dma_write(source.iova, &data).unwrap();
    let mut expected = Vec::new();
    for round in 0..60 {
        let opaque = driver.opaque();
        expected.push(opaque);
        let request = message::Compression {
            command: message::command::DYNAMIC,
            buffers: message::Buffers {
                opaque,
                source: source.iova,
                destination: destination.iova,
                source_len: 4096,
                destination_len: 8192,
                lists: false,
            },
            len: 4096,
            room: 8192,
            flags: message::compression_flag::FINAL_BLOCK,
            ..message::Compression::default()
        };
        let request = if round % 3 == 0 { null(opaque, 128) } else { request.encode() };
        driver.submit(6, &request).unwrap();
    }
    assert_eq!(drain(&mut driver, 6), expected);
    assert_eq!(counter(&mut driver, "responses"), 60);
}

#[test]
fn nothing_is_taken_while_there_is_no_room_for_responses() {
    let mut driver = bare_driver(Parameters::default(), Options::default());
    driver.open(2, 64, 128).unwrap();
    // Four slots for responses, of which one stays free.
    driver.write(RINGS, ring::CONFIG + 4 * 10, 1).unwrap();
    let expected: Vec<u64> = (0..60).collect();
    for opaque in &expected {
        driver.submit(2, &null(*opaque, 128)).unwrap();
    }
    let deadline = driver.platform.now().plus(1_000_000);
    driver.platform.idle(deadline).unwrap();
    driver.platform.idle(deadline).unwrap();
    assert_eq!(counter(&mut driver, "responses"), 3);
    assert_eq!(register(&mut driver, ring::HEAD + 4 * 2), 3 * 128);
    // The driver believes in 64 slots: it finds three, then looks at what is no slot.
    for opaque in expected.iter().take(3) {
        assert_eq!(driver.wait(2).unwrap().opaque(), *opaque);
    }
    driver.platform.idle(deadline).unwrap();
    assert_eq!(counter(&mut driver, "responses"), 6);
}

#[test]
fn a_ring_that_is_torn_down_forgets_its_requests() {
    let mut driver = driver();
    let (request, result) = exponentiation(&mut driver);
    for round in 0..100 {
        for _ in 0..8 {
            driver.submit(0, &request).unwrap();
        }
        let deadline = driver.platform.now().plus(1_000_000);
        while driver.platform.simulation().host().jobs_in_flight() == 0 {
            driver.platform.idle(deadline).unwrap();
        }
        driver.close(0).unwrap();
        driver.open(0, 64, 64).unwrap();
        driver.platform.dma_write(result, &[0xee; 512]).unwrap();
        assert_eq!(driver.run(0, &null(9, 64)).unwrap().opaque(), 9);
        // Jobs of the ring that is gone end, and nobody hears of them.
        while driver.platform.idle(deadline).unwrap() == Activity::Active {}
        assert!(driver.take(0).unwrap().is_none());
        let mut found = [0; 512];
        driver.platform.dma_read(result, &mut found).unwrap();
        assert_eq!(found, [0xee; 512], "round {round}");
    }
    assert_eq!(driver.run(0, &request).unwrap().error(), 0);
    let mut found = [0; 512];
    driver.platform.dma_read(result, &mut found).unwrap();
    assert_ne!(found, [0xee; 512]);
}

/// A request for a modular exponentiation of 4096 bits, and where its result goes.
fn exponentiation(driver: &mut TestDriver) -> (Vec<u8>, u64) {
    let platform = &mut driver.platform;
    let [tables, operands, result] =
        [64, 3 * 512, 512].map(|len| platform.dma_alloc(len, 64).unwrap().iova);
    platform.dma_write(operands, &[7; 3 * 512]).unwrap();
    let addresses = [operands, operands + 512, operands + 1024, result];
    let table: Vec<u8> = addresses.iter().flat_map(|at| at.to_le_bytes()).collect();
    platform.dma_write(tables, &table).unwrap();
    let call = PublicKey { function: 0x850c_23e1, operands: vec![vec![]; 3], results: vec![512] };
    (call.encode(1, tables, tables + 24), result)
}

#[test]
fn a_ring_in_memory_out_of_reach_stops_alone() {
    for ring in [2, 10] {
        let mut driver = driver();
        driver.write(RINGS, ring::HIGH_BASE + 4 * ring, 0x4000).unwrap();
        driver.submit(2, &null(1, 128)).unwrap();
        assert!(driver.wait(2).is_err());
        assert_eq!(counter(&mut driver, "rings.broken"), 1);
        let pair = &inspect(&mut driver).queues[2];
        // The driver has not disabled it.
        assert!(pair.enabled && pair.fields.contains(&("broken".to_owned(), 1)), "{pair:?}");
        // Others go on, and so does this one once it is set up anew.
        let call = CompressionCall {
            command: message::command::STATIC,
            state: None,
            depth: 0,
            source: b"abc",
            room: 64,
            flags: message::compression_flag::FINAL_BLOCK,
        };
        assert_eq!(driver.compression(&call).unwrap().response.status(), 0);
        driver.close(2).unwrap();
        driver.open(2, 64, 128).unwrap();
        driver.run(2, &null(2, 128)).unwrap();
    }
}

#[test]
fn a_reset_of_the_function_forgets_all_but_counters() {
    let mut driver = driver();
    driver.run(2, &null(1, 128)).unwrap();
    driver.submit(6, &null(1, 128)).unwrap();
    driver.platform.simulation().reset(ResetKind::Function);
    let state = inspect(&mut driver);
    assert_eq!(state.counter("null.requests"), Some(1));
    let own = |name: &str| name.starts_with("rings.") || name.starts_with("misc.");
    for register in state.registers.iter().filter(|register| own(&register.name)) {
        let reset = if register.name == "rings.e_stat" { 0xffff } else { 0 };
        assert_eq!(register.value, reset, "{}", register.name);
    }
    driver.platform.simulation().reset(ResetKind::PowerOn);
    assert_eq!(counter(&mut driver, "null.requests"), 0);
}

#[test]
fn a_fault_of_memory_fails_one_request() {
    struct Fault(Arc<AtomicU32>);
    impl Hooks for Fault {
        fn dma(&mut self, _: Nanos, access: DmaAccess) -> Result<(), DmaFaultKind> {
            let armed = access.len == 4096 && self.0.swap(0, Ordering::Relaxed) != 0;
            if armed { Err(DmaFaultKind::Unmapped) } else { Ok(()) }
        }
    }
    let mut driver = driver();
    let armed = Arc::new(AtomicU32::new(0));
    let hooks = Box::new(Fault(Arc::clone(&armed)));
    driver.platform.simulation().host_mut().set_hooks(Some(hooks));
    let call = CompressionCall {
        command: message::command::STATIC,
        state: None,
        depth: 0,
        source: &pattern(4096, 0),
        room: 8192,
        flags: message::compression_flag::FINAL_BLOCK,
    };
    armed.store(1, Ordering::Relaxed);
    let response = driver.compression(&call).unwrap().response;
    assert_eq!((response.status() & 0x20, response.error()), (0x20, -17));
    assert_eq!(driver.compression(&call).unwrap().response.status(), 0);
}

/// Verdicts for requests and responses, in turn.
struct Verdicts(Arc<Mutex<Vec<(Tap, Verdict)>>>);

impl Hooks for Verdicts {
    fn tap(&mut self, _: Nanos, at: Tap, _: u16, entry: &mut [u8]) -> Verdict {
        let len = match at {
            Tap::Fetched => 128,
            _ => 32,
        };
        assert_eq!(entry.len(), len);
        let mut list = self.0.lock().unwrap();
        match list.iter().position(|(wanted, _)| *wanted == at) {
            Some(found) => list.remove(found).1,
            None => Verdict::Pass,
        }
    }
}

#[test]
fn requests_and_responses_can_be_made_to_fail() {
    let outcomes = [
        ((Tap::Fetched, Verdict::Drop), vec![2, 3, 4]),
        ((Tap::Completing, Verdict::Drop), vec![2, 3, 4]),
        ((Tap::Fetched, Verdict::Duplicate), vec![1, 1, 2, 3]),
        ((Tap::Completing, Verdict::Duplicate), vec![1, 1, 2, 3]),
    ];
    for (fault, expected) in outcomes {
        let mut driver = driver();
        let verdicts = Arc::new(Mutex::new(vec![fault]));
        let hooks = Box::new(Verdicts(Arc::clone(&verdicts)));
        driver.platform.simulation().host_mut().set_hooks(Some(hooks));
        for opaque in 1..=4 {
            driver.submit(2, &null(opaque, 128)).unwrap();
        }
        let found = drain(&mut driver, 2);
        assert_eq!(found, expected, "{fault:?}");
        assert!(verdicts.lock().unwrap().is_empty());
    }
}

#[test]
fn a_response_that_is_held_back_arrives_late() {
    let mut driver = driver();
    let due = driver.platform.now().plus(1_000_000);
    let verdicts = vec![(Tap::Completing, Verdict::Delay(due))];
    let hooks = Box::new(Verdicts(Arc::new(Mutex::new(verdicts))));
    driver.platform.simulation().host_mut().set_hooks(Some(hooks));
    driver.run(2, &null(1, 128)).unwrap();
    assert!(driver.platform.now() >= due);
}
