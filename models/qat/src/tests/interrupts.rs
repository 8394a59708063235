//! The bundle's interrupt, as the kernel's handler uses it.

use understudy_client::platform::Platform;
use understudy_client::qat::{Options, misc, ring};
use understudy_pci::Irq;

use super::{TestDriver, bare_driver, null};
use crate::Parameters;

const RINGS: u8 = 0;
const MISC: u8 = 2;

/// With pair 2 open, its responses interrupting, held back for `control`.
fn driver(control: u32) -> TestDriver {
    let options = Options { interrupts: true, ..Options::default() };
    let mut driver = bare_driver(Parameters::default(), options);
    driver.open(2, 64, 128).unwrap();
    driver.write(RINGS, ring::INT_COL_CTL, control).unwrap();
    driver
}

/// When the first interrupt after a request comes, in nanoseconds from it.
fn delay(driver: &mut TestDriver) -> Option<u64> {
    let start = driver.platform.now();
    driver.submit(2, &null(1, 128)).unwrap();
    let came = driver.platform.wait_interrupt(0, start.plus(10_000_000)).unwrap();
    let now = driver.platform.now();
    came.then(|| now.0 - start.0)
}

#[test]
fn interrupts_are_held_back_as_long_as_the_driver_says() {
    for (control, expected) in [
        (1 << 31 | 0x27ff, 0x27ff),
        (1 << 31 | 0xf_ffff, 0xf_ffff),
        (1 << 31, 0),
        // Not enabled.
        (0x27ff, 0),
    ] {
        let found = delay(&mut driver(control)).unwrap();
        // The simulated host takes a few microseconds to notice the doorbell.
        assert!((expected..expected + 5000).contains(&found), "{control:#x}: {found} ns");
    }
}

#[test]
fn many_responses_are_one_interrupt() {
    let mut driver = driver(1 << 31 | 0x27ff);
    for opaque in 0..20 {
        driver.submit(2, &null(opaque, 128)).unwrap();
    }
    let start = driver.platform.now();
    assert!(driver.platform.wait_interrupt(0, start.plus(1_000_000)).unwrap());
    assert_eq!(driver.platform.simulation().interrupts(Irq::Msi, 0), 1);
    // Until the driver has served it, there is no other.
    driver.submit(2, &null(20, 128)).unwrap();
    assert!(!driver.platform.wait_interrupt(0, start.plus(2_000_000)).unwrap());
    assert_eq!(driver.read(MISC, misc::VINTSOU).unwrap(), 1);
    assert_eq!(driver.read(RINGS, ring::INT_FLAG).unwrap(), 1 << 10);
}

#[test]
fn responses_during_the_handler_interrupt_when_it_ends() {
    let mut driver = driver(1 << 31 | 0x27ff);
    assert!(delay(&mut driver).is_some());
    driver.write(RINGS, ring::INT_FLAG_AND_COL, 0).unwrap();
    assert_eq!(driver.read(MISC, misc::VINTSOU).unwrap(), 0);
    driver.take(2).unwrap().unwrap();
    // Arrives while interrupts are off.
    assert_eq!(delay(&mut driver), None);
    driver.write(RINGS, ring::INT_FLAG_AND_COL, 1 << 10).unwrap();
    let start = driver.platform.now();
    assert!(driver.platform.wait_interrupt(0, start.plus(1_000_000)).unwrap());
}

/// With nothing held back, a flag that is cleared while there are responses is set again at once, and
/// that is another interrupt: a driver that acknowledges before it looks loses none.
#[test]
fn clearing_the_flag_of_a_ring_with_responses_interrupts_again() {
    let mut driver = driver(0);
    for opaque in 0..4 {
        driver.submit(2, &null(opaque, 128)).unwrap();
        let mut found = None;
        let deadline = driver.platform.now().plus(1_000_000);
        while driver.platform.wait_interrupt(0, deadline).unwrap() {
            driver.write(RINGS, ring::INT_FLAG, 1 << 10).unwrap();
            found = found.or(driver.take(2).unwrap());
        }
        assert_eq!(found.map(|response| response.opaque()), Some(opaque));
        assert_eq!(driver.read(RINGS, ring::INT_FLAG).unwrap(), 0);
    }
}

#[test]
fn a_masked_bundle_interrupts_when_it_is_unmasked() {
    let mut driver = driver(1 << 31 | 0x27ff);
    driver.write(MISC, misc::VINTMSK, 1).unwrap();
    assert_eq!(delay(&mut driver), None);
    assert_eq!(driver.read(MISC, misc::VINTSOU).unwrap(), 1);
    driver.write(MISC, misc::VINTMSK, 0).unwrap();
    assert!(driver.platform.wait_interrupt(0, driver.platform.now()).unwrap());
}

#[test]
fn rings_that_are_not_enabled_do_not_interrupt() {
    let mut driver = driver(1 << 31 | 0x27ff);
    driver.write(RINGS, ring::INT_COL_EN, 0xffff & !(1 << 10)).unwrap();
    assert_eq!(delay(&mut driver), None);
    assert_eq!(driver.read(RINGS, ring::INT_FLAG).unwrap(), 0);
    driver.write(RINGS, ring::INT_COL_EN, 1 << 10).unwrap();
    let start = driver.platform.now();
    assert!(driver.platform.wait_interrupt(0, start.plus(1_000_000)).unwrap());
    driver.write(RINGS, ring::INT_FLAG, 1 << 10).unwrap();
    assert_eq!(driver.read(RINGS, ring::INT_FLAG).unwrap(), 0);
}

#[test]
fn a_driver_with_interrupts_gets_all_its_responses() {
    let options = Options { interrupts: true, ..Options::default() };
    let mut driver = super::driver_with(Parameters::default(), options);
    for round in 0..200 {
        for opaque in 0..round % 7 {
            driver.submit(2, &null(opaque, 128)).unwrap();
        }
        for opaque in 0..round % 7 {
            assert_eq!(driver.wait(2).unwrap().opaque(), opaque);
        }
    }
}
