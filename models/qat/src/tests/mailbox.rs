//! Every exchange of the mailbox, as the kernel and DPDK perform it.

use understudy_client::platform::Platform;
use understudy_client::qat::{Facts, Options, misc};
use understudy_pci::Irq;

use super::{TestDriver, bare_driver, counter, null};
use crate::Parameters;

const MISC: u8 = 2;
const IN_USE: u32 = 0x6ac2;

fn of_version(mailbox_version: u8) -> TestDriver {
    let parameters = Parameters { mailbox_version, ..Parameters::default() };
    bare_driver(parameters, Options::default())
}

/// A message of the virtual function, as it is written.
fn message(kind: u32, data: u32) -> u32 {
    (3 | kind << 2 | data << 6) << 16 | IN_USE
}

fn write(driver: &mut TestDriver, value: u32) {
    driver.write(MISC, misc::MAILBOX, value).unwrap();
}

#[test]
fn each_version_tells_what_it_knows() {
    let told = [(1, 0, 0), (2, 0x2f, 0), (3, 0x2f, 0), (4, 0x2f, 0x409), (5, 0x2f, 0x409)];
    for (version, capabilities, ring_map) in told {
        let mut driver = of_version(version);
        let facts = driver.introduce().unwrap();
        assert_eq!(facts, Facts { version, capabilities, ring_map });
        // Notifications leave the mark, which their sender clears: the message is left.
        assert_eq!(driver.mailbox().unwrap(), (2 | 3 << 2) << 16, "version {version}");
        driver.send(4, 0, true).unwrap();
        assert_eq!(driver.mailbox().unwrap(), (2 | 4 << 2) << 16);
    }
}

#[test]
fn versions_are_compared() {
    let mut driver = of_version(4);
    for (ours, compatible) in [(0, 2), (1, 1), (4, 1), (5, 3), (255, 3)] {
        assert_eq!(driver.ask_version(ours).unwrap(), (4, compatible), "{ours}");
    }
}

#[test]
fn the_first_protocol_is_answered() {
    let mut driver = of_version(5);
    driver.send(5, 0, false).unwrap();
    assert_eq!(driver.receive().unwrap(), (2, 0x111));
}

#[test]
fn blocks_are_read_byte_by_byte() {
    let mut driver = of_version(5);
    driver.ask_version(5).unwrap();
    let block = [2, 8, 0, 0, 0, 0, 0x2f, 0, 0, 0];
    for (at, byte) in (0..).zip(block) {
        assert_eq!(driver.ask_block(2, at, false).unwrap(), (0, byte), "byte {at}");
    }
    assert_eq!(driver.ask_block(3, 2, false).unwrap(), (0, 0x09));
    assert_eq!(driver.ask_block(3, 3, false).unwrap(), (0, 0x04));
    // CRC-8 with polynomial 0x97 from 0xff, of the header of the ring map.
    assert_eq!(driver.ask_block(3, 1, true).unwrap(), (1, 0x8b));
}

#[test]
fn blocks_that_are_not_there_are_errors() {
    const TYPE: u8 = 0;
    const BYTE: u8 = 1;
    let mut driver = of_version(3);
    driver.ask_version(3).unwrap();
    assert_eq!(driver.ask_block(2, 10, false).unwrap(), (2, BYTE));
    assert_eq!(driver.ask_block(2, 31, true).unwrap(), (2, BYTE));
    assert_eq!(driver.ask_block(0, 0, false).unwrap(), (2, TYPE));
    // The ring map came with version 4.
    assert_eq!(driver.ask_block(3, 0, false).unwrap(), (2, TYPE));
    // Medium and large blocks: there are none.
    for kind in [7, 8] {
        driver.send(kind, 0, false).unwrap();
        assert_eq!(driver.receive().unwrap(), (3, 2));
    }
}

#[test]
fn an_acknowledgement_leaves_a_notification_intact() {
    let mut driver = of_version(5);
    driver.ask_version(5).unwrap();
    for kind in [3, 4] {
        write(&mut driver, message(kind, 0));
        let left = driver.mailbox().unwrap();
        assert_eq!(left, message(kind, 0) & !(1 << 16));
        write(&mut driver, 0);
    }
}

#[test]
fn the_mark_of_a_request_is_cleared_if_both_sides_know_how() {
    for (version, mark) in [(2, IN_USE), (3, 0)] {
        let mut driver = of_version(5);
        driver.ask_version(version).unwrap();
        // RESTARTING_COMPLETE has no answer that would hide the acknowledgement.
        write(&mut driver, message(10, 0));
        assert_eq!(driver.mailbox().unwrap() & 0xffff, mark, "version {version}");
    }
}

#[test]
fn an_answer_waits_until_the_mailbox_is_free() {
    let mut driver = of_version(2);
    write(&mut driver, message(6, 2));
    // Acknowledged, but the lower half still has the mark: no room for the answer.
    let value = driver.mailbox().unwrap();
    assert_eq!(value, message(6, 2) & !(1 << 16));
    write(&mut driver, value & !0xfffe);
    assert_eq!(driver.mailbox().unwrap(), IN_USE << 16 | 3 | 2 << 2 | (2 | 1 << 8) << 6);
    // Acknowledged in turn: the sender removes its mark.
    write(&mut driver, IN_USE << 16 | 2 | 2 << 2 | (2 | 1 << 8) << 6);
    assert_eq!(driver.mailbox().unwrap() >> 16, 0);
}

#[test]
fn messages_of_others_and_unknown_ones_are_not_answered() {
    let mut driver = of_version(5);
    // Not of the system.
    write(&mut driver, message(6, 5) & !(2 << 16));
    assert_eq!(driver.mailbox().unwrap(), message(6, 5) & !(2 << 16));
    assert_eq!(counter(&mut driver, "mailbox.received"), 0);
    write(&mut driver, 0);
    for kind in [0, 1, 2, 11, 15] {
        driver.send(kind, 0, false).unwrap();
    }
    assert_eq!(driver.mailbox().unwrap() & 1, 0);
    assert_eq!(counter(&mut driver, "mailbox.ignored"), 5);
}

#[test]
fn messages_interrupt_once_and_not_while_masked() {
    let mut driver =
        bare_driver(Parameters::default(), Options { interrupts: true, ..Options::default() });
    let count = |driver: &mut TestDriver| driver.platform.simulation().interrupts(Irq::Msi, 0);
    driver.write(MISC, misc::VINTMSK, 2).unwrap();
    driver.send(6, 5, false).unwrap();
    assert_eq!(driver.read(MISC, misc::VINTSOU).unwrap(), 2);
    assert_eq!(count(&mut driver), 0);
    driver.write(MISC, misc::VINTMSK, 0).unwrap();
    assert_eq!(count(&mut driver), 1);
    // The kernel's handler masks, then its tasklet reads the message and unmasks.
    driver.write(MISC, misc::VINTMSK, 2).unwrap();
    driver.receive().unwrap();
    driver.write(MISC, misc::VINTMSK, 0).unwrap();
    assert_eq!(driver.read(MISC, misc::VINTSOU).unwrap(), 0);
    assert_eq!(count(&mut driver), 1);
    driver.send(6, 5, false).unwrap();
    assert_eq!(count(&mut driver), 2);
}

#[test]
fn a_restart_is_announced_to_drivers_that_are_there() {
    for introduced in [false, true] {
        let parameters = Parameters { restart_after: 3, ..Parameters::default() };
        let mut driver = bare_driver(parameters, Options::default());
        if introduced {
            driver.introduce().unwrap();
        }
        driver.open(2, 16, 128).unwrap();
        for opaque in 0..3 {
            assert_eq!(driver.mailbox().unwrap() & 1, 0);
            driver.run(2, &null(opaque, 128)).unwrap();
        }
        assert_eq!(counter(&mut driver, "mailbox.restarts"), u64::from(introduced));
        if !introduced {
            assert_eq!(driver.mailbox().unwrap() & 1, 0);
            continue;
        }
        assert_eq!(driver.receive().unwrap(), (1, 0));
        // Requests go on until the driver says that it is done.
        driver.run(2, &null(7, 128)).unwrap();
        driver.send(10, 0, false).unwrap();
        assert_eq!(driver.mailbox().unwrap() & 1, 0);
        driver.run(2, &null(8, 128)).unwrap();
        assert_eq!(counter(&mut driver, "mailbox.restarts"), 1);
    }
}

#[test]
fn a_restart_that_collides_with_a_request_is_announced_again() {
    let parameters = Parameters { restart_after: 1, ..Parameters::default() };
    let mut driver = bare_driver(parameters, Options::default());
    driver.introduce().unwrap();
    driver.open(2, 16, 128).unwrap();
    driver.run(2, &null(1, 128)).unwrap();
    assert_eq!(driver.mailbox().unwrap() & 1, 1);
    // The driver has not looked and overwrites it.
    write(&mut driver, message(6, 5));
    assert_eq!(driver.receive().unwrap(), (1, 0));
    // Its own request was received all the same.
    assert_eq!(driver.receive().unwrap().0, 2);
}

#[test]
fn a_restart_can_be_announced_later() {
    let parameters = Parameters { restart_after: 1, restart_delay_ms: 50, ..Parameters::default() };
    let mut driver = bare_driver(parameters, Options::default());
    driver.introduce().unwrap();
    driver.open(2, 16, 128).unwrap();
    let start = driver.platform.now();
    driver.run(2, &null(1, 128)).unwrap();
    assert_eq!(driver.mailbox().unwrap() & 1, 0);
    assert_eq!(driver.receive().unwrap(), (1, 0));
    assert!(driver.platform.now() >= start.plus(50_000_000));
}

#[test]
fn a_fatal_error_is_told_to_drivers_that_know_what_it_is() {
    for (pf, vf, told) in
        [(5, Some(5), true), (5, None, false), (5, Some(4), false), (4, Some(5), false)]
    {
        let parameters =
            Parameters { fatal_error_after: 2, mailbox_version: pf, ..Parameters::default() };
        let mut driver = bare_driver(parameters, Options::default());
        if let Some(version) = vf {
            driver.introduce().unwrap();
            driver.ask_version(version).unwrap();
        }
        driver.open(2, 16, 128).unwrap();
        for opaque in 0..2 {
            assert_eq!(driver.mailbox().unwrap() & 1, 0);
            driver.run(2, &null(opaque, 128)).unwrap();
        }
        assert_eq!(counter(&mut driver, "mailbox.fatal_errors"), u64::from(told), "{pf} {vf:?}");
        assert_eq!(driver.mailbox().unwrap() & 1, u32::from(told));
        if told {
            assert_eq!(driver.receive().unwrap(), (4, 0));
        }
        // That is all: requests and messages go on.
        driver.run(2, &null(7, 128)).unwrap();
        assert_eq!(driver.mailbox().unwrap() & 1, 0);
        assert!(driver.ask_version(5).is_ok());
        assert_eq!(counter(&mut driver, "mailbox.restarts"), 0);
    }
}
