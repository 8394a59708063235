//! The DMA bridge.

use understudy_client::platform::Platform;
use understudy_client::qaic::{Options, Request, sem};

use super::{amss, bare_driver, counter, doubler, driver, floats, network};
use crate::bridge::status;

#[test]
fn networks_run_with_any_number_of_vectors() {
    for vectors in [0, 1, 32] {
        let mut driver = bare_driver(amss(), Options { vectors, ..Options::default() });
        driver.power_up().unwrap();
        let active = doubler(&mut driver);
        for step in 0_u8..70 {
            let x = [f32::from(step), 0.5, -1.0, 3.0];
            let y: Vec<f32> = x.iter().map(|value| value * 2.0).collect();
            let found = driver.infer(&active, &[&floats(&x)], &[16]).unwrap();
            assert_eq!(found, [floats(&y)], "{vectors} vectors, run {step}");
        }
        assert_eq!(counter(&mut driver, "runs"), 70);
    }
}

#[test]
fn every_illegal_request_has_its_status() {
    let mut driver = driver();
    let active = doubler(&mut driver);
    let host = driver.host.platform.dma_alloc(4096, 4096).unwrap().iova;
    let good = Request {
        id: 9,
        command: 0x19,
        source: host,
        destination: active.memory,
        len: 16,
        ..Request::default()
    };
    let cases = [
        (Request { command: 0x1b, ..good }, status::ILLEGAL),
        // A linked list.
        (Request { command: 0x11, ..good }, status::ILLEGAL),
        (Request { semaphores: [sem::post(7, 0, 0), 0, 0, 0], ..good }, status::ILLEGAL),
        (
            Request { semaphores: [sem::pre(1, 9, 0), sem::pre(1, 9, 0), 0, 0], ..good },
            status::ILLEGAL,
        ),
        (Request { doorbell_kind: 0x83, ..good }, status::ILLEGAL),
        (Request { destination: active.memory - 1, ..good }, status::DEVICE_ADDRESS),
        (Request { len: 1 << 20, ..good }, status::DEVICE_ADDRESS),
        (Request { source: 0x10, ..good }, status::HOST_FAULT),
        (Request { doorbell_kind: 0x80, doorbell: 0x1000, ..good }, status::DOORBELL),
        (Request { doorbell_kind: 0x80, doorbell: active.doorbells + 2, ..good }, status::DOORBELL),
        (good, status::SUCCESS),
    ];
    for (request, expected) in cases {
        driver.submit(&active, &[request]).unwrap();
        assert_eq!(driver.wait_response(&active).unwrap(), (9, expected), "{request:?}");
    }
}

#[test]
fn doorbells_of_each_width_start_runs() {
    let mut driver = driver();
    let active = doubler(&mut driver);
    let host = driver.host.platform.dma_alloc(4096, 4096).unwrap().iova;
    for kind in [0x80, 0x81, 0x82] {
        let bell = Request {
            command: 0x18,
            doorbell: active.doorbells + 4,
            doorbell_kind: kind,
            doorbell_data: 1,
            ..Request::default()
        };
        let output = Request {
            id: 2,
            command: 0x1a,
            source: active.memory + 4096,
            destination: host,
            len: 16,
            semaphores: [sem::pre(sem::P, 1, 0), 0, 0, 0],
            ..Request::default()
        };
        driver.submit(&active, &[bell, output]).unwrap();
        assert_eq!(driver.wait_response(&active).unwrap(), (0, 0));
        assert_eq!(driver.wait_response(&active).unwrap(), (2, 0));
    }
    assert_eq!(counter(&mut driver, "dbc.doorbells"), 3);
    assert_eq!(counter(&mut driver, "runs"), 3);
}

#[test]
fn semaphores_and_fences_hold_requests() {
    let mut driver = driver();
    let active = doubler(&mut driver);
    let host = driver.host.platform.dma_alloc(4096, 4096).unwrap().iova;
    let none = |id, semaphores| Request { id, command: 0x18, semaphores, ..Request::default() };
    let waits = Request {
        id: 1,
        command: 0x19,
        source: host,
        destination: active.memory,
        len: 16,
        semaphores: [sem::pre(sem::EQUAL, 7, 3), 0, 0, 0],
        ..Request::default()
    };
    // Waits behind the transfer of the first, by a fence.
    let fenced = none(2, [sem::post(0, 0, 0) | 1 << 30, 0, 0, 0]);
    driver
        .submit(&active, &[waits, fenced, none(3, [sem::post(sem::INIT, 7, 2), 0, 0, 0])])
        .unwrap();
    assert_eq!(driver.wait_response(&active).unwrap(), (3, 0));
    assert!(driver.wait_response(&active).is_err());
    let up = none(4, [sem::post(sem::INC, 7, 0), 0, 0, 0]);
    driver.submit(&active, &[up]).unwrap();
    let mut found: Vec<u16> = (0..3).map(|_| driver.wait_response(&active).unwrap().0).collect();
    found.sort_unstable();
    assert_eq!(found, [1, 2, 4]);
}

#[test]
fn a_full_response_ring_keeps_responses_back() {
    let mut driver = driver();
    let program = driver.load(1, &network::doubler(), 1 << 20, 64).unwrap().unwrap();
    let active = driver.activate(1, program, 4).unwrap().unwrap();
    for round in 0..3 {
        for id in 0..3 {
            let request = Request { id: round * 3 + id, command: 0x18, ..Request::default() };
            driver.submit(&active, &[request]).unwrap();
            let deadline = driver.host.now().plus(1000);
            driver.host.platform.idle(deadline).unwrap();
        }
    }
    for id in 0..9 {
        assert_eq!(driver.wait_response(&active).unwrap(), (id, 0));
    }
}

#[test]
fn a_network_that_cannot_be_computed_crashes_alone() {
    let mut driver = driver();
    let program = driver.load(1, &network::divider(), 1 << 20, 64).unwrap().unwrap();
    let bad = driver.activate(1, program, 16).unwrap().unwrap();
    let good = doubler(&mut driver);
    let words = |values: [i32; 2]| values.map(i32::to_le_bytes).concat();
    let (a, b) = (words([7, 9]), words([2, 3]));
    assert_eq!(driver.infer(&bad, &[&a, &b], &[8]).unwrap(), [words([3, 3])]);
    assert!(driver.infer(&bad, &[&a, &words([1, 0])], &[8]).is_err());
    assert_eq!(counter(&mut driver, "workload.crashes"), 1);
    driver.infer(&good, &[&[0; 16]], &[16]).unwrap();
    assert_eq!(driver.deactivate(1, bad).unwrap(), 0);
    let again = driver.activate(1, program, 16).unwrap().unwrap();
    assert_eq!(driver.infer(&again, &[&a, &b], &[8]).unwrap(), [words([3, 3])]);
}
