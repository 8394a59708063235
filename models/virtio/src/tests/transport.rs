//! Registers, status, features, interrupts.

use understudy_device::{Bar, Capability, DeviceModel, Progress, ResetKind};

use super::driver::Driver;
use super::{BAR, ECHO_LOUD, ECHO_OTHER, Echo, Guest, PLAIN, negotiate, read, write};
use crate::layout::NO_VECTOR;
use crate::registers::{COMMON, Common, DEVICE_OFFSET, ISR_OFFSET, NOTIFY_OFFSET};
use crate::{VirtioPci, feature, status};

#[test]
fn the_function_is_what_drivers_look_for() {
    let model = Echo::model(8);
    let identity = model.identity();
    assert_eq!(identity.validate(), Ok(()));
    assert_eq!((identity.vendor_id, identity.device_id), (0x1af4, 0x1040 + 63));
    assert_eq!(identity.msix_vectors(), 3);
    let bodies: Vec<_> = identity
        .capabilities
        .iter()
        .filter_map(|cap| match cap {
            Capability::Vendor { body } => Some(body.clone()),
            _ => None,
        })
        .collect();
    // cfg_type, bar, id, padding, offset, length.
    assert_eq!(bodies[0], [1, 4, 0, 0, 0, 0, 0, 0, 0, 0x3c, 0, 0, 0]);
    assert_eq!(bodies[1], [3, 4, 0, 0, 0, 0, 0x10, 0, 0, 4, 0, 0, 0]);
    assert_eq!(bodies[2], [4, 4, 0, 0, 0, 0, 0x20, 0, 0, 0, 0x10, 0, 0]);
    assert_eq!(bodies[3], [2, 4, 0, 0, 0, 0, 0x30, 0, 0, 8, 0, 0, 0, 4, 0, 0, 0]);
}

#[test]
fn features_are_negotiated() {
    let (mut model, mut guest) = (Echo::model(8), Guest::new());
    let mut offered = 0;
    for select in 0..3 {
        write(&mut model, &mut guest, Common::DeviceFeatureSelect, select);
        let word = read(&mut model, &mut guest, Common::DeviceFeature);
        offered |= if select < 2 { word << (32 * select) } else { 0 };
        assert!(select < 2 || word == 0);
    }
    assert_eq!(offered, feature::TRANSPORT | ECHO_LOUD | ECHO_OTHER);
    let good = |features: u64| {
        let (mut model, mut guest) = (Echo::model(8), Guest::new());
        negotiate(&mut model, &mut guest, features) & status::FEATURES_OK != 0
    };
    assert!(good(offered));
    assert!(good(PLAIN));
    assert!(!good(0), "VERSION_1 is needed");
    assert!(!good(PLAIN | 1 << 63), "a feature that was not offered");
    assert!(!good(PLAIN | ECHO_LOUD), "a feature without the one it needs");
    assert!(good(PLAIN | ECHO_LOUD | ECHO_OTHER));
}

#[test]
fn features_are_fixed_once_agreed() {
    let (mut model, mut guest) = (Echo::model(8), Guest::new());
    negotiate(&mut model, &mut guest, PLAIN);
    write(&mut model, &mut guest, Common::DriverFeatureSelect, 0);
    write(&mut model, &mut guest, Common::DriverFeature, ECHO_OTHER);
    assert_eq!(read(&mut model, &mut guest, Common::DriverFeature), 0);
}

#[test]
fn the_status_only_grows_until_reset() {
    let (mut model, mut guest) = (Echo::model(8), Guest::new());
    write(&mut model, &mut guest, Common::DeviceStatus, 3);
    write(&mut model, &mut guest, Common::DeviceStatus, 1);
    assert_eq!(read(&mut model, &mut guest, Common::DeviceStatus), 3);
    write(&mut model, &mut guest, Common::DeviceStatus, 3 | u64::from(status::DRIVER_OK));
    assert_eq!(read(&mut model, &mut guest, Common::DeviceStatus), 3, "no FEATURES_OK yet");
    write(&mut model, &mut guest, Common::DeviceStatus, u64::from(status::DEVICE_NEEDS_RESET));
    assert_eq!(read(&mut model, &mut guest, Common::DeviceStatus), 3, "not the driver's to set");
    write(&mut model, &mut guest, Common::DeviceStatus, 0);
    assert_eq!(read(&mut model, &mut guest, Common::DeviceStatus), 0);
}

#[test]
fn queue_fields_follow_the_selected_queue() {
    let (mut model, mut guest) = (Echo::model(8), Guest::new());
    negotiate(&mut model, &mut guest, PLAIN);
    assert_eq!(read(&mut model, &mut guest, Common::NumQueues), 2);
    let select = |model: &mut dyn DeviceModel, guest: &mut Guest, queue| {
        write(model, guest, Common::QueueSelect, queue);
        (read(model, guest, Common::QueueSize), read(model, guest, Common::QueueNotifyOff))
    };
    assert_eq!(select(&mut model, &mut guest, 1), (8, 1));
    write(&mut model, &mut guest, Common::QueueDesc, 0x1234_5678_9abc_def0);
    assert_eq!(select(&mut model, &mut guest, 2), (0, 0), "there is no such queue");
    write(&mut model, &mut guest, Common::QueueDesc, 1);
    write(&mut model, &mut guest, Common::QueueEnable, 1);
    assert_eq!(read(&mut model, &mut guest, Common::QueueEnable), 0);
    assert_eq!(select(&mut model, &mut guest, 1), (8, 1));
    assert_eq!(read(&mut model, &mut guest, Common::QueueDesc), 0x1234_5678_9abc_def0);
    // Linux writes addresses as two halves.
    model.write(&mut guest, BAR, 0x24, &[0; 4]).unwrap();
    assert_eq!(read(&mut model, &mut guest, Common::QueueDesc), 0x9abc_def0);
    for (size, then) in [(4, 4), (3, 4), (0, 4), (16, 4), (8, 8)] {
        write(&mut model, &mut guest, Common::QueueSize, size);
        assert_eq!(read(&mut model, &mut guest, Common::QueueSize), then);
    }
}

#[test]
fn impossible_queues_are_not_enabled() {
    for (desc, driver, device) in
        [(8, 0, 0), (0, 1, 0), (0, 0, 2), (u64::MAX - 15, 0, 0), (0, u64::MAX - 1, 0)]
    {
        let (mut model, mut guest) = (Echo::model(8), Guest::new());
        negotiate(&mut model, &mut guest, PLAIN);
        write(&mut model, &mut guest, Common::QueueDesc, desc);
        write(&mut model, &mut guest, Common::QueueDriver, driver);
        write(&mut model, &mut guest, Common::QueueDevice, device);
        write(&mut model, &mut guest, Common::QueueEnable, 1);
        assert_eq!(read(&mut model, &mut guest, Common::QueueEnable), 0);
    }
}

#[test]
fn vectors_beyond_the_table_are_refused() {
    let (mut model, mut guest) = (Echo::model(8), Guest::new());
    for (id, value, then) in [
        (Common::ConfigMsixVector, 2, 2),
        (Common::ConfigMsixVector, 3, NO_VECTOR),
        (Common::QueueMsixVector, 0, 0),
        (Common::QueueMsixVector, 0xfffe, NO_VECTOR),
    ] {
        write(&mut model, &mut guest, id, value);
        assert_eq!(read(&mut model, &mut guest, id), u64::from(then));
    }
}

/// A started device with one request that the driver has made available.
fn with_request(guest: &mut Guest) -> (VirtioPci<Echo>, Driver) {
    let mut model = Echo::model(8);
    negotiate(&mut model, guest, PLAIN);
    let mut driver = Driver::new(&mut model, guest, 0, 8, PLAIN);
    write(&mut model, guest, Common::ConfigMsixVector, 0);
    write(&mut model, guest, Common::DeviceStatus, 0x0f);
    let at = guest.alloc(16);
    driver.add(guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
    (model, driver)
}

#[test]
fn intx_follows_the_isr() {
    let mut guest = Guest::new();
    guest.msix = false;
    let (mut model, _) = with_request(&mut guest);
    model.poll(&mut guest, 8);
    assert!(guest.intx);
    let mut isr = [0xff];
    model.read(&mut guest, BAR, ISR_OFFSET, &mut isr).unwrap();
    assert_eq!((isr, guest.intx), ([1], false));
    model.read(&mut guest, BAR, ISR_OFFSET, &mut isr).unwrap();
    assert_eq!(isr, [0]);
    assert_eq!(guest.raised, []);
}

#[test]
fn no_vector_means_no_interrupt() {
    let mut guest = Guest::new();
    let (mut model, mut driver) = with_request(&mut guest);
    write(&mut model, &mut guest, Common::QueueMsixVector, NO_VECTOR.into());
    model.poll(&mut guest, 8);
    assert!(driver.take(&mut guest).is_some());
    assert_eq!((guest.raised.len(), guest.intx), (0, false));
}

#[test]
fn nothing_happens_before_driver_ok() {
    let mut guest = Guest::new();
    let mut model = Echo::model(8);
    negotiate(&mut model, &mut guest, PLAIN);
    let mut driver = Driver::new(&mut model, &mut guest, 0, 8, PLAIN);
    let at = guest.alloc(16);
    driver.add(&mut guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
    driver.notify(&mut model, &mut guest);
    assert_eq!(model.poll(&mut guest, 8), Progress::Idle);
    assert!(driver.take(&mut guest).is_none());
    write(&mut model, &mut guest, Common::DeviceStatus, 0x0f);
    model.poll(&mut guest, 8);
    assert!(driver.take(&mut guest).is_some());
}

#[test]
fn without_the_bus_the_device_waits() {
    let mut guest = Guest::new();
    let (mut model, mut driver) = with_request(&mut guest);
    guest.bus_master = false;
    assert_eq!(model.poll(&mut guest, 8), Progress::Idle);
    assert_eq!(model.park(&mut guest), Progress::Idle);
    guest.bus_master = true;
    model.poll(&mut guest, 8);
    assert!(driver.take(&mut guest).is_some());
    assert_eq!(read(&mut model, &mut guest, Common::DeviceStatus), 0x0f);
}

#[test]
fn a_reset_leaves_the_registers_as_at_power_on() {
    let mut guest = Guest::new();
    let fresh = Echo::model(8).inspect().registers;
    let (mut model, _) = with_request(&mut guest);
    model.poll(&mut guest, 8);
    write(&mut model, &mut guest, Common::DeviceStatus, 0);
    assert_eq!(model.inspect().registers, fresh);
    assert_ne!(model.inspect().counter("queue.requests"), Some(0), "counters outlive resets");
    model.reset(ResetKind::PowerOn);
    assert_eq!(model.inspect(), Echo::model(8).inspect());
}

#[test]
fn reset_values_of_the_table_are_true() {
    let model = Echo::model(8);
    for (register, at) in model.inspect().registers.iter().zip(COMMON.elements()) {
        let owned =
            [Common::DeviceFeature, Common::NumQueues, Common::QueueSize, Common::ConfigGeneration];
        if !owned.contains(&at.id) {
            assert_eq!(register.value, COMMON.row(at).reset, "{}", register.name);
        }
    }
}

#[test]
fn registers_say_what_they_mean() {
    let mut guest = Guest::new();
    let (model, _) = with_request(&mut guest);
    let state = model.inspect();
    let status = state.registers.iter().find(|r| r.name == "common.device_status").unwrap();
    assert_eq!(status.meaning, "ACKNOWLEDGE|DRIVER|DRIVER_OK|FEATURES_OK");
    assert!(state.queues[0].enabled && !state.queues[1].enabled);
}

#[test]
fn what_is_not_there_is_unmapped() {
    let (mut model, mut guest) = (Echo::model(8), Guest::new());
    let mut byte = [0];
    for (bar, at) in [
        (BAR, 0x40),
        (BAR, 0x38),
        (BAR, ISR_OFFSET + 4),
        (BAR, DEVICE_OFFSET + 8),
        (BAR, NOTIFY_OFFSET),
        (Bar(1), 0),
    ] {
        assert!(model.read(&mut guest, bar, at, &mut byte).is_err(), "{bar:?} {at:#x}");
    }
    assert!(model.write(&mut guest, BAR, NOTIFY_OFFSET + 8, &[0, 0]).is_err());
    assert!(model.write(&mut guest, BAR, NOTIFY_OFFSET + 4, &[1, 0]).is_ok());
    let mut config = [0; 4];
    model.read(&mut guest, BAR, DEVICE_OFFSET + 4, &mut config).unwrap();
    assert_eq!(&config, b"1234");
}

#[test]
fn a_changed_configuration_is_told_and_has_another_generation() {
    let mut guest = Guest::new();
    let (mut model, mut driver) = with_request(&mut guest);
    model.poll(&mut guest, 8);
    guest.raised.clear();
    let look = |model: &mut VirtioPci<Echo>, guest: &mut Guest| {
        let before = read(model, guest, Common::ConfigGeneration);
        let mut config = [0; 4];
        model.read(guest, BAR, DEVICE_OFFSET + 4, &mut config).unwrap();
        (before, config, read(model, guest, Common::ConfigGeneration))
    };
    assert_eq!(look(&mut model, &mut guest), (0, *b"1234", 0));
    let at = guest.alloc(16);
    guest.put(at, *b"!5678");
    driver.add(&mut guest, &[(at, 5, false), (at, 5, true)], false).unwrap();
    model.poll(&mut guest, 8);
    assert_eq!(guest.raised, [1, 0], "the queue's vector, then the configuration's");
    // A driver that had begun to read sees that it must read again.
    assert_eq!(look(&mut model, &mut guest), (0, *b"5678", 1));
    assert_eq!(look(&mut model, &mut guest), (1, *b"5678", 1));
}
