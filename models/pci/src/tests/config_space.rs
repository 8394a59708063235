use proptest::prelude::*;
use understudy_device::IdentityError;

use super::*;

#[test]
fn the_header_says_what_the_identity_says() {
    let mut bench = Bench::new(every_capability());
    let rows = [
        ("vendor", 0x00, 2, 0x1af4),
        ("device", 0x02, 2, 0x1054),
        ("command", 0x04, 2, 0),
        ("status: capabilities", 0x06, 2, 0x0010),
        ("revision", 0x08, 1, 3),
        ("class code", 0x09, 3, 0x12_34_56),
        ("header type", 0x0e, 1, 0),
        ("BAR 0: 64-bit, prefetchable", 0x10, 4, 0xc),
        ("BAR 1", 0x14, 4, 0),
        ("BAR 2: 32-bit", 0x18, 4, 0),
        ("subsystem vendor", 0x2c, 2, 0x8086),
        ("subsystem", 0x2e, 2, 0x1100),
        ("expansion ROM", 0x30, 4, 0),
        ("interrupt pin", 0x3d, 1, 1),
        ("extended capabilities", 0x100, 4, 0),
    ];
    for (name, offset, len, value) in rows {
        assert_eq!(bench.read(offset, len), value, "{name}");
    }
}

#[test]
fn a_function_without_capabilities_says_so() {
    let mut bench = Bench::new(vec![]);
    assert_eq!(bench.function.config_size(), 256);
    assert_eq!((bench.read(0x06, 2), bench.read(0x34, 1)), (0, 0));
}

#[test]
fn capabilities_are_chained_in_order_on_dword_boundaries() {
    let mut bench = Bench::new(every_capability());
    let mut chain = vec![];
    let mut at = bench.read(0x34, 1) as usize;
    while at != 0 {
        assert_eq!(at % 4, 0);
        chain.push((at, bench.read(at, 1)));
        at = bench.read(at + 1, 1) as usize;
    }
    let at = [(0x40, 1), (0x48, 0x10), (0x84, 5), (0x9c, 0x11), (0xa8, 9), (0xb4, 9)];
    assert_eq!(chain, at);
    assert_eq!(bench.read(0xa8 + 2, 7), 0x06_05_04_03_02_01_09);
    assert_eq!(bench.read(0xb4 + 2, 2), 0x05_14);
}

#[test]
fn writing_all_ones_to_a_bar_gives_its_size() {
    let mut bench = Bench::new(vec![msix()]);
    bench.write(0x10, 8, u64::MAX);
    assert_eq!(bench.read(0x10, 8), 0xffff_ffff_ffff_c00c);
    bench.write(0x18, 4, 0xffff_ffff);
    assert_eq!(bench.read(0x18, 4), 0xffff_ff00);
    bench.write(0x1c, 4, 0xffff_ffff);
    assert_eq!(bench.read(0x1c, 4), 0, "a BAR that is not there");
    bench.write(0x10, 8, 0x12_3456_789a_bcde);
    assert_eq!(bench.read(0x10, 8), 0x12_3456_789a_800c);
}

#[test]
fn only_the_bits_that_pci_makes_writable_are() {
    let mut bench = Bench::new(every_capability());
    let rows = [
        ("command", 0x04, 2, 0x0546),
        ("cache line size", 0x0c, 1, 0xff),
        ("latency timer", 0x0d, 1, 0),
        ("interrupt line", 0x3c, 1, 0xff),
        ("interrupt pin", 0x3d, 1, 1),
        ("power state", 0x44, 2, 0x000b),
        ("link control", 0x58, 2, 0x00cb),
        ("device control 2", 0x70, 2, 0x0010),
        ("MSI control: 4 of 4 vectors asked for with 7", 0x86, 2, 0x01f5),
        ("MSI address", 0x88, 8, 0xffff_ffff_ffff_fffc),
        ("MSI mask: 4 vectors", 0x94, 4, 0x0000_000f),
        ("MSI-X control", 0x9e, 2, 0xc004),
        ("MSI-X table", 0xa0, 4, TABLE),
        ("MSI-X PBA", 0xa4, 4, PBA),
        ("vendor body", 0xab, 4, 0x0403_0201),
        ("window type", 0xb7, 1, 5),
        ("window BAR", 0xb8, 1, 0xff),
        ("window offset and length", 0xbc, 8, u64::MAX),
    ];
    for (name, offset, len, value) in rows {
        bench.write(offset, len, u64::MAX);
        assert_eq!(bench.read(offset, len), value, "{name}");
    }
}

#[test]
fn device_control_keeps_its_bits_and_never_shows_the_reset_bit() {
    let mut bench = Bench::new(vec![Capability::Express { flr: false }]);
    assert_eq!(bench.read(0x44, 4), 0x0000_8001);
    bench.write(0x48, 2, 0xffff);
    assert_eq!(bench.read(0x48, 2), 0x78ff);
    assert!(bench.saw().is_empty(), "no reset without the FLR capability");
}

#[test]
fn unsupported_power_states_are_not_entered() {
    let mut bench = Bench::new(vec![Capability::PowerManagement]);
    for (state, now) in [(1, 0), (2, 0), (3, 3), (1, 3), (2, 3), (0, 0)] {
        bench.write(0x44, 1, state);
        assert_eq!(bench.read(0x44, 2), 0x8 | now, "after writing D{state}");
    }
}

#[test]
fn accesses_past_the_end_are_out_of_range() {
    for (capabilities, size) in [(vec![], 256), (every_capability(), 4096)] {
        let mut bench = Bench::new(capabilities);
        assert_eq!(bench.function.config_size(), size);
        for (offset, len) in [(size, 1), (size - 1, 2), (u64::MAX, 2), (u64::MAX - 1, 1)] {
            let outside = AccessError::OutOfRange { offset, size: len as u64 };
            let mut data = vec![0; len];
            let read = bench.function.config_read(&mut bench.host, offset, &mut data);
            assert_eq!((read, data), (Err(outside), vec![0xff; len]));
            let written = bench.function.config_write(&mut bench.host, offset, &[0; 2][..len]);
            assert_eq!(written, Err(outside));
        }
        assert_eq!(bench.function.config_read(&mut bench.host, size, &mut []), Ok(()));
    }
}

#[test]
fn impossible_capability_lists_are_refused() {
    let refused = |capabilities| {
        let (_, acts) = channel();
        let (saw, _) = channel();
        let identity = identity(capabilities);
        let model = FakeModel { identity, storage: vec![], acts, saw };
        match PciFunction::new(Box::new(model)) {
            Err(IdentityError::Capability { what, .. }) => what,
            other => panic!("{:?}", other.err()),
        }
    };
    assert_eq!(refused(vec![msix(), msix()]), "given more than once");
    let body = vec![0; 100];
    let long = vec![Capability::Vendor { body: body.clone() }, Capability::Vendor { body }];
    assert_eq!(refused(long), "the chain does not fit 256 bytes");
}

/// Bits of config space that a driver can change, per byte, when neither FLR nor the window are
/// touched: from PCI's rules, not from the tables.
fn changeable() -> Vec<u8> {
    let mut mask = vec![0; 4096];
    let mut put = |at: usize, bits: &[u8]| mask[at..at + bits.len()].copy_from_slice(bits);
    put(0x04, &[0x46, 0x05]);
    put(0x0c, &[0xff]);
    put(0x10, &[0x00, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0xff, 0xff, 0xff]);
    put(0x3c, &[0xff]);
    put(0x44, &[0x03]);
    put(0x50, &[0xff, 0x78]);
    put(0x58, &[0xcb]);
    put(0x70, &[0x10]);
    put(0x78, &[0x0f]);
    put(0x86, &[0x71]);
    put(0x88, &[0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    put(0x94, &[0x0f]);
    put(0x9f, &[0xc0]);
    put(0xb8, &[0xff]);
    put(0xbc, &[0xff; 12]);
    mask
}

proptest! {
    /// No write changes a bit that PCI makes read-only.
    #[test]
    fn read_only_bits_never_change(
        writes in prop::collection::vec((0usize..0x120, prop::collection::vec(any::<u8>(), 1..64)), 1..20),
    ) {
        let mut bench = Bench::new(every_capability());
        let before = bench.image();
        for (offset, data) in writes {
            bench.function.config_write(&mut bench.host, offset as u64, &data).unwrap();
        }
        let after = bench.image();
        for (at, can) in changeable().into_iter().enumerate() {
            prop_assert_eq!((before[at] ^ after[at]) & !can, 0, "byte {:#x}", at);
        }
    }

    /// However a config access is cut, its effect is that of the whole. `pci_cfg_data` is left out:
    /// each access to it is an access to a BAR.
    #[test]
    fn cutting_an_access_changes_nothing(
        setup in prop::collection::vec(any::<u8>(), 0xc4..=0xc4),
        offset in 0usize..0xc4,
        data in prop::collection::vec(any::<u8>(), 1..48),
        cut in 0usize..48,
    ) {
        let data = &data[..data.len().min(0xc4 - offset)];
        let cut = cut.min(data.len());
        let bench = || {
            let host = FakeHost::listening(Irq::Msix, VECTORS);
            let mut bench = Bench::with(identity(every_capability()), host);
            for vector in 0..VECTORS {
                bench.act(Act::Raise(vector));
            }
            bench.function.config_write(&mut bench.host, 0, &setup).unwrap();
            bench
        };
        let (mut whole, mut parts) = (bench(), bench());
        whole.function.config_write(&mut whole.host, offset as u64, data).unwrap();
        parts.function.config_write(&mut parts.host, offset as u64, &data[..cut]).unwrap();
        let rest = (offset + cut) as u64;
        parts.function.config_write(&mut parts.host, rest, &data[cut..]).unwrap();
        prop_assert_eq!(&whole.host.signals, &parts.host.signals);
        prop_assert_eq!(whole.saw(), parts.saw());
        let image = whole.image();
        for at in (0..image.len()).step_by(1 + cut % 8) {
            let len = (1 + cut % 8).min(image.len() - at);
            let mut piece = vec![0; len];
            parts.function.config_read(&mut parts.host, at as u64, &mut piece).unwrap();
            prop_assert_eq!(&image[at..at + len], &piece[..]);
        }
    }
}
