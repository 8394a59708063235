//! What no driver should do: it ends in `DEVICE_NEEDS_RESET`, and in nothing worse.

use proptest::prelude::*;
use understudy_device::{Bus, DeviceModel};

use super::driver::Driver;
use super::{Echo, Guest, PLAIN, negotiate, write};
use crate::layout::descriptor::{AVAIL, INDIRECT, NEXT, WRITE};
use crate::registers::Common;
use crate::{Broken, QueueError, VirtioPci, feature, status};

struct Attack {
    model: VirtioPci<Echo>,
    guest: Guest,
    driver: Driver,
}

impl Attack {
    fn new(features: u64) -> Self {
        let (mut model, mut guest) = (Echo::model(8), Guest::new());
        let features = PLAIN | features;
        negotiate(&mut model, &mut guest, features);
        let driver = Driver::new(&mut model, &mut guest, 0, 8, features);
        write(&mut model, &mut guest, Common::ConfigMsixVector, 2);
        write(&mut model, &mut guest, Common::DeviceStatus, 0x0f);
        Self { model, guest, driver }
    }

    /// Writes descriptor `slot` of the table at `table`.
    fn descriptor(&mut self, table: u64, slot: u64, (addr, len): (u64, u32), words: [u16; 2]) {
        let at = table + 16 * slot;
        self.guest.put(at, addr.to_le_bytes());
        self.guest.put(at + 8, len.to_le_bytes());
        self.guest.put(at + 12, words);
    }

    /// Makes head 0 available (split).
    fn offer(&mut self) {
        self.guest.put(self.driver.driver + 2, 1_u16);
    }

    /// Polls. Returns what is wrong, having checked that the driver is told.
    fn run(&mut self) -> Option<QueueError> {
        self.model.poll(&mut self.guest, 100);
        let state = self.model.inspect();
        let status = state.registers.iter().find(|r| r.name == "common.device_status").unwrap();
        let needs_reset = status.value & u64::from(status::DEVICE_NEEDS_RESET) != 0;
        assert_eq!(needs_reset, self.model.broken().is_some());
        match self.model.broken()? {
            Broken::Queue(0, error) => {
                assert_eq!(self.guest.raised, [2], "a configuration change notification");
                assert_eq!(state.counter("device.needs_reset"), Some(1));
                Some(error)
            }
            other => panic!("{other}"),
        }
    }
}

/// Runs one request whose ring descriptors are these (split, head 0).
fn split(descriptors: &[(u64, u32, u16, u16)]) -> Option<QueueError> {
    let mut attack = Attack::new(feature::INDIRECT_DESC);
    let at = attack.driver.desc;
    for (slot, (addr, len, flags, next)) in (0..).zip(descriptors) {
        attack.descriptor(at, slot, (*addr, *len), [*flags, *next]);
    }
    attack.offer();
    attack.run()
}

/// Runs one request with an indirect table of these descriptors (split).
fn table(descriptors: &[(u64, u32, u16, u16)]) -> Option<QueueError> {
    let mut attack = Attack::new(feature::INDIRECT_DESC);
    let table = attack.guest.alloc(16 * descriptors.len());
    for (slot, (addr, len, flags, next)) in (0..).zip(descriptors) {
        attack.descriptor(table, slot, (*addr, *len), [*flags, *next]);
    }
    let len = u32::try_from(descriptors.len()).unwrap() * 16;
    let ring = attack.driver.desc;
    attack.descriptor(ring, 0, (table, len), [INDIRECT, 0]);
    attack.offer();
    attack.run()
}

const AT: u64 = super::BASE;

#[test]
fn good_chains_are_no_attack() {
    assert_eq!(split(&[(AT, 4, NEXT, 1), (AT, 4, WRITE, 0)]), None);
    assert_eq!(table(&[(AT, 4, NEXT, 1), (AT, 4, WRITE, 0)]), None);
}

#[test]
fn loops_and_long_chains_end() {
    assert_eq!(split(&[(AT, 4, NEXT, 0)]), Some(QueueError::ChainTooLong));
    assert_eq!(split(&[(AT, 4, NEXT, 1), (AT, 4, NEXT, 0)]), Some(QueueError::ChainTooLong));
    assert_eq!(table(&[(AT, 4, NEXT, 0)]), Some(QueueError::ChainTooLong));
    assert_eq!(table(&[(AT, 4, NEXT, 1), (AT, 4, NEXT, 0)]), Some(QueueError::ChainTooLong));
}

#[test]
fn indices_out_of_range_are_found() {
    assert_eq!(split(&[(AT, 4, NEXT, 8)]), Some(QueueError::DescriptorIndex(8)));
    assert_eq!(table(&[(AT, 4, NEXT, 2), (AT, 4, 0, 0)]), Some(QueueError::DescriptorIndex(2)));
    let mut attack = Attack::new(0);
    attack.guest.put(attack.driver.driver + 4, 8_u16);
    attack.offer();
    assert_eq!(attack.run(), Some(QueueError::DescriptorIndex(8)));
    let mut attack = Attack::new(0);
    attack.guest.put(attack.driver.driver + 2, 9_u16);
    assert_eq!(attack.run(), Some(QueueError::IndexJump(9)));
}

#[test]
fn indirect_tables_are_checked() {
    for len in [0, 8, 17, 16 * 1025] {
        assert_eq!(split(&[(AT, len, INDIRECT, 0)]), Some(QueueError::IndirectLength(len)));
    }
    let nested = table(&[(AT, 16, INDIRECT, 0)]);
    assert_eq!(nested, Some(QueueError::IndirectNested));
    let next = split(&[(AT, 16, INDIRECT | NEXT, 1)]);
    assert_eq!(next, Some(QueueError::IndirectNext));
    assert!(matches!(split(&[(0, 16, INDIRECT, 0)]), Some(QueueError::Ring(_))));
}

#[test]
fn buffers_are_checked() {
    let order = split(&[(AT, 4, WRITE | NEXT, 1), (AT, 4, 0, 0)]);
    assert_eq!(order, Some(QueueError::Order));
    let huge = split(&[(AT, u32::MAX, NEXT, 1), (AT, u32::MAX, 0, 0)]);
    assert!(matches!(huge, Some(QueueError::Buffers(_))));
    let wraps = split(&[(u64::MAX, 2, 0, 0)]);
    assert!(matches!(wraps, Some(QueueError::Buffers(_))));
}

#[test]
fn packed_lists_are_checked() {
    let run = |descriptors: &[(u64, u32, u16)]| {
        let mut attack = Attack::new(feature::RING_PACKED);
        let ring = attack.driver.desc;
        for (slot, (addr, len, flags)) in (0..).zip(descriptors) {
            attack.descriptor(ring, slot, (*addr, *len), [7, flags | AVAIL]);
        }
        attack.run()
    };
    assert_eq!(run(&[(AT, 4, NEXT), (AT, 4, WRITE)]), None);
    assert_eq!(run(&[(AT, 4, NEXT); 8]), Some(QueueError::ChainTooLong));
    assert_eq!(run(&[(AT, 8, INDIRECT)]), Some(QueueError::IndirectLength(8)));
    assert_eq!(run(&[(AT, 4, WRITE | NEXT), (AT, 4, 0)]), Some(QueueError::Order));
}

#[test]
fn a_broken_device_works_again_after_a_reset() {
    let mut attack = Attack::new(0);
    attack.guest.put(attack.driver.driver + 2, 9_u16);
    assert!(attack.run().is_some());
    let (model, guest) = (&mut attack.model, &mut attack.guest);
    negotiate(model, guest, PLAIN);
    let mut driver = Driver::new(model, guest, 0, 8, PLAIN);
    write(model, guest, Common::DeviceStatus, 0x0f);
    let at = guest.alloc(16);
    driver.add(guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
    model.poll(guest, 8);
    assert!(driver.take(guest).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Random rings, tables and register writes: nothing panics or hangs, and the device answers
    /// again after a reset.
    #[test]
    fn noise_does_no_harm(
        packed in any::<bool>(),
        noise in prop::collection::vec((0_usize..1400, any::<u8>()), 1..200),
        registers in prop::collection::vec((0_u64..0x3c, any::<u32>()), 0..10),
        index in 0_u16..10,
        jobs in any::<bool>(),
    ) {
        let mut attack = Attack::new(if packed { feature::RING_PACKED } else { 0 });
        // Descriptors point into the memory, so that noise hits tables too.
        for slot in 0..8 {
            let ring = attack.driver.desc;
            let flags = if packed { [slot, AVAIL] } else { [NEXT, slot] };
            attack.descriptor(ring, slot.into(), (AT + 64 * u64::from(slot), 48), flags);
        }
        for (at, value) in &noise {
            attack.guest.memory[*at] = *value;
        }
        if !packed {
            attack.guest.put(attack.driver.driver + 2, index);
        }
        let (model, guest) = (&mut attack.model, &mut attack.guest);
        for _ in 0..20 {
            model.poll(guest, 50);
            if jobs {
                guest.finish_job(model);
            }
        }
        for (at, value) in registers {
            let _ = model.write(guest, super::BAR, at, &value.to_le_bytes());
            model.poll(guest, 50);
            model.park(guest);
        }
        negotiate(model, guest, PLAIN);
        let mut driver = Driver::new(model, guest, 1, 8, PLAIN);
        write(model, guest, Common::DeviceStatus, 0x0f);
        let at = guest.alloc(16);
        driver.add(guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
        model.poll(guest, 8);
        while guest.finish_job(model) {}
        prop_assert!(driver.take(guest).is_some());
    }
}

#[test]
fn a_write_fault_in_the_used_ring_breaks_the_queue() {
    let mut attack = Attack::new(0);
    let at = attack.guest.alloc(16);
    attack.driver.add(&mut attack.guest, &[(at, 4, false), (at, 4, true)], false).unwrap();
    // The available ring stays reachable, the used ring does not.
    let end = usize::try_from(attack.driver.device - super::BASE).unwrap();
    attack.guest.memory.truncate(end);
    assert!(attack.guest.dma_write(attack.driver.device, &[0]).is_err());
    attack.model.poll(&mut attack.guest, 8);
    assert!(attack.model.broken().is_some());
}
