//! Registers, boot, power states, crashes.

use std::collections::BTreeMap;

use understudy_client::qaic::{Options, mhi};

use super::{amss, bare_driver, counter, doubler, driver, floats};
use crate::{Parameters, Qaic};

#[test]
fn parameters_out_of_range_are_refused() {
    for memory_mb in [0, 15, 32769] {
        assert!(Qaic::new(Parameters { memory_mb, ..Parameters::default() }).is_err());
    }
}

#[test]
fn firmware_boots_the_device() {
    let mut driver = bare_driver(Parameters::default(), Options::default());
    assert_eq!(driver.host.boot_read(mhi::EXECENV).unwrap(), 0);
    driver.power_up().unwrap();
    assert_eq!(driver.host.boot_read(mhi::EXECENV).unwrap(), 2);
    assert_eq!(counter(&mut driver, "sahara.images"), 2);
    assert_eq!(counter(&mut driver, "sahara.missing"), 6);
    let active = doubler(&mut driver);
    let x = floats(&[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(driver.infer(&active, &[&x], &[16]).unwrap(), [floats(&[2.0, 4.0, 6.0, 8.0])]);
}

#[test]
fn without_runtime_firmware_boot_stops_in_the_boot_loader() {
    let options = Options { firmware: BTreeMap::new(), ..Options::default() };
    let mut driver = bare_driver(Parameters::default(), options);
    assert!(driver.power_up().is_err());
    assert_eq!(driver.host.boot_read(mhi::EXECENV).unwrap(), 1);
}

#[test]
fn an_image_out_of_reach_is_an_error() {
    let mut driver = bare_driver(Parameters::default(), Options::default());
    driver.host.write_long(0x108, 0x10).unwrap();
    for size in [0, 4096, u32::MAX] {
        driver.host.boot_write(mhi::IMAGE_SIZE, size).unwrap();
        driver.host.boot_write(mhi::IMAGE_DOORBELL, 5).unwrap();
        driver.host.wait("status", |it| Ok(it.boot_read(mhi::BHI_STATUS)? != 0)).unwrap();
        assert_eq!(driver.host.boot_read(mhi::BHI_STATUS).unwrap(), 3 << 30 | 5);
        assert_ne!(driver.host.boot_read(0x30).unwrap(), 0);
        driver.host.boot_write(mhi::BHI_STATUS, 0).unwrap();
    }
    driver.power_up().unwrap();
}

#[test]
fn runtime_firmware_needs_no_files_and_comes_back_after_a_reset() {
    let mut driver = driver();
    for _ in 0..3 {
        doubler(&mut driver);
        driver.host.reset().unwrap();
        assert_eq!(driver.host.read(mhi::STATUS).unwrap(), 0x101);
        driver.power_up().unwrap();
    }
    assert_eq!(counter(&mut driver, "mhi.resets"), 3);
}

#[test]
fn suspended_is_m3_and_back() {
    let mut driver = driver();
    for state in [5, 2] {
        driver.host.write(mhi::CONTROL, state << 8).unwrap();
        driver.host.wait("state", |it| Ok(u32::from(it.state) == state)).unwrap();
        assert_eq!(driver.host.read(mhi::STATUS).unwrap(), state << 8 | 1);
    }
    driver.terminate(1).unwrap();
}

#[test]
fn a_crash_is_told_and_recovered_from() {
    let model = [amss(), Parameters::default()];
    for parameters in model {
        let mut driver =
            bare_driver(Parameters { crash_after: 1, ..parameters }, Options::default());
        driver.power_up().unwrap();
        let active = doubler(&mut driver);
        assert!(driver.infer(&active, &[&[0; 16]], &[16]).is_err());
        driver.host.wait("SYS_ERR", |it| Ok(it.state == 0xff)).unwrap();
        assert_eq!(driver.host.read(mhi::STATUS).unwrap(), 0xff04);
        driver.host.reset().unwrap();
        driver.power_up().unwrap();
        let active = doubler(&mut driver);
        driver.infer(&active, &[&[0; 16]], &[16]).unwrap();
        assert_eq!(counter(&mut driver, "system_errors"), 1);
    }
}

#[test]
fn the_chip_starts_over_when_told_so() {
    for parameters in [amss(), Parameters::default()] {
        let first = if parameters.boot == crate::Boot::Amss { 2 } else { 0 };
        let mut driver = bare_driver(parameters, Options::default());
        driver.power_up().unwrap();
        doubler(&mut driver);
        driver.host.write(mhi::SOC_RESET, 1).unwrap();
        driver.host.wait("SYS_ERR", |it| Ok(it.read(mhi::STATUS)? == 0xff04)).unwrap();
        assert_eq!(driver.host.boot_read(mhi::EXECENV).unwrap(), first);
        driver.host.reset().unwrap();
        driver.power_up().unwrap();
        let active = doubler(&mut driver);
        driver.infer(&active, &[&[0; 16]], &[16]).unwrap();
    }
}
