use super::*;
use crate::Interposer;

#[test]
fn memory_space_enable_gates_bars() {
    let mut bench = Bench::new(vec![]);
    let mut data = [0; 4];
    let read = bench.function.bar_read(&mut bench.host, Bar(0), 0, &mut data);
    assert_eq!((read, data), (Err(AccessError::Disabled), [0xff; 4]));
    assert_eq!(bench.bar_write(0, 4, 1), Err(AccessError::Disabled));
    assert!(bench.saw().is_empty());
    bench.write(0x04, 2, 0x2);
    assert_eq!(bench.bar_write(0, 4, 0x1234), Ok(()));
    assert_eq!(bench.bar_read(0, 4), Ok(0x1234));
}

#[test]
fn failed_reads_return_the_parts_unmapped_byte() {
    let mut bench = Bench::new(vec![msix()]);
    bench.enable();
    let out = |offset, size| AccessError::OutOfRange { offset, size };
    let rows = [
        (Bar(0), 0x200, AccessError::Unmapped { offset: 0x200 }),
        (Bar(0), 0x3ffd, out(0x3ffd, 4)),
        (Bar(0), u64::MAX - 1, out(u64::MAX - 1, 4)),
        (Bar(1), 0, out(0, 4)),
        (Bar(6), 0, out(0, 4)),
        (Bar(0), TABLE - 2, AccessError::Width { offset: TABLE - 2, size: 4 }),
        (Bar(0), PBA + 6, AccessError::Width { offset: PBA + 6, size: 4 }),
        (Bar(0), SHARED - 2, AccessError::Width { offset: SHARED - 2, size: 4 }),
        (Bar(0), SHARED + 0xffe, AccessError::Width { offset: SHARED + 0xffe, size: 4 }),
    ];
    for (bar, offset, error) in rows {
        let mut data = [0; 4];
        let read = bench.function.bar_read(&mut bench.host, bar, offset, &mut data);
        assert_eq!((read, data), (Err(error), [0x5a; 4]), "{bar:?} {offset:#x}");
        assert_eq!(bench.function.bar_write(&mut bench.host, bar, offset, &[0; 4]), Err(error));
    }
}

#[test]
fn shared_areas_are_the_hosts_even_when_they_trap() {
    let mut bench = Bench::new(vec![]);
    bench.enable();
    assert_eq!(bench.bar_write(SHARED + 8, 4, 0xabcd), Ok(()));
    assert_eq!(bench.host.shared[&(SHARED + 8)], 0xcd);
    assert_eq!(bench.bar_read(SHARED + 8, 4), Ok(0xabcd));
    assert!(bench.saw().is_empty());
}

#[test]
fn bus_master_enable_gates_dma() {
    let mut bench = Bench::new(vec![Capability::PowerManagement]);
    let fault = |iova, kind| Saw::Dma(Err(DmaFault { iova, len: 4, kind }));
    let dma = |bench: &mut Bench| {
        bench.saw();
        bench.act(Act::Read(0x10));
        bench.act(Act::Write(0x10));
        let mut saw = bench.saw();
        saw.retain(|saw| matches!(saw, Saw::Dma(_)));
        saw
    };
    let disabled = fault(0x10, DmaFaultKind::BusMasterDisabled);
    assert_eq!(dma(&mut bench), [disabled.clone(), disabled.clone()]);
    assert!(bench.host.memory.is_empty());
    bench.enable();
    assert_eq!(dma(&mut bench), [Saw::Dma(Ok(())), Saw::Dma(Ok(()))]);
    bench.write(0x44, 1, 3);
    assert_eq!(dma(&mut bench), [disabled.clone(), disabled], "in D3hot");
    assert_eq!(bench.bar_read(0, 4), Err(AccessError::Disabled), "in D3hot");
    bench.write(0x44, 1, 0);
    assert_eq!(dma(&mut bench), [Saw::Dma(Ok(())), Saw::Dma(Ok(()))], "no soft reset");
}

#[test]
fn memory_is_lent_to_bus_masters_and_not_past_interposers() {
    struct Spectator;
    impl Interposer for Spectator {}
    let mut bench = Bench::new(vec![]);
    let lent = |bench: &mut Bench| {
        bench.saw();
        bench.act(Act::Lend(0x10));
        bench.saw().contains(&Saw::Lent(true))
    };
    assert!(!lent(&mut bench), "no bus master");
    bench.enable();
    assert!(lent(&mut bench));
    bench.function.interpose(Some(Box::new(Spectator)));
    assert!(!lent(&mut bench));
    bench.function.interpose(None);
    assert!(lent(&mut bench));
}

#[test]
fn a_read_that_nobody_answers_is_a_received_master_abort() {
    let mut bench = Bench::new(vec![]);
    bench.enable();
    bench.act(Act::Write(0x1000));
    assert_eq!(bench.read(0x06, 2), 0);
    bench.act(Act::Read(0x1000));
    assert_eq!(bench.read(0x06, 2), 0x2000);
    bench.write(0x06, 2, 0xdfff);
    assert_eq!(bench.read(0x06, 2), 0x2000, "zeros clear nothing");
    bench.write(0x06, 2, 0x2000);
    assert_eq!(bench.read(0x06, 2), 0);
}

#[test]
fn function_level_reset_resets_all_but_the_link() {
    let mut bench = Bench::new(every_capability());
    let initial = bench.image();
    bench.enable();
    bench.write(0x10, 8, 0x1000_0000);
    bench.write(0x9e, 2, 0xc000);
    bench.bar_write(TABLE, 8, 0xfee0_0000).unwrap();
    bench.bar_write(0, 4, 9).unwrap();
    bench.write(0x50, 2, 0x20);
    bench.write(0x58, 2, 0x40);
    bench.saw();
    bench.write(0x50, 2, 0x8000 | 0x20);
    assert_eq!(bench.saw(), [Saw::Reset(ResetKind::Function)]);
    let mut expected = initial;
    expected[0x50] = 0x30;
    expected[0x58] = 0x40;
    assert_eq!(bench.image(), expected);
    bench.enable();
    assert_eq!(bench.bar_read(0, 4), Ok(0));
    assert_eq!(bench.bar_read(TABLE, 8), Ok(0));
    assert_eq!(bench.bar_read(TABLE + 12, 4), Ok(1));
    assert_eq!(bench.function.inspect().counter("resets.function"), Some(1));
}

#[test]
fn jobs_from_before_a_reset_never_come_back() {
    let mut bench = Bench::new(vec![]);
    let finish = |bench: &mut Bench, id| {
        bench.saw();
        let done = FinishedJob { id: JobId(id), output: Box::new(()) };
        bench.function.finish(&mut bench.host, done);
        bench.saw()
    };
    bench.act(Act::Submit(0));
    bench.act(Act::Submit(0));
    assert_eq!(finish(&mut bench, 1), [Saw::Finished(JobId(1))]);
    assert_eq!(finish(&mut bench, 1), [], "once only");
    bench.function.reset(ResetKind::Function);
    bench.act(Act::Submit(0));
    assert_eq!(finish(&mut bench, 2), []);
    assert_eq!(finish(&mut bench, 3), [Saw::Finished(JobId(3))]);
    assert_eq!(finish(&mut bench, 77), [], "never handed out");
    assert_eq!(bench.function.inspect().counter("jobs.stale"), Some(3));
}

/// A model that forgets its jobs cannot have the host carry ever more of them.
#[test]
fn a_model_with_too_many_jobs_does_not_work_until_one_is_finished() {
    for (count, bytes) in [(256, 0), (2, 128 << 20)] {
        let mut bench = Bench::new(vec![]);
        for _ in 0..count {
            bench.act(Act::Submit(bytes));
        }
        bench.saw();
        bench.act(Act::Submit(0));
        assert_eq!((bench.saw(), bench.host.jobs), (vec![], count));
        let done = FinishedJob { id: JobId(1), output: Box::new(()) };
        bench.function.finish(&mut bench.host, done);
        bench.act(Act::Line(false));
        assert_eq!(bench.host.jobs, count + 1);
        bench.function.reset(ResetKind::Function);
        bench.act(Act::Submit(0));
        assert_eq!(bench.host.jobs, count + 2, "a reset forgets them");
    }
}

#[test]
fn power_on_reset_makes_all_as_new() {
    let mut bench = Bench::new(every_capability());
    let (image, state) = (bench.image(), bench.function.inspect());
    bench.enable();
    bench.write(0x58, 2, 0x40);
    bench.act(Act::Raise(0));
    bench.function.set_irq_mask(&mut bench.host, Irq::Msix, 0, 3, true);
    bench.function.set_irq_mask(&mut bench.host, Irq::Intx, 0, 1, true);
    assert_ne!(bench.function.inspect(), state);
    bench.function.reset(ResetKind::PowerOn);
    assert_eq!(bench.image(), image);
    assert_eq!(bench.function.inspect(), state);
}

/// virtio 1.3 §4.1.4.9
mod config_window {
    use super::*;

    const WINDOW: usize = 0x40;

    fn bench() -> Bench {
        Bench::new(vec![Capability::VirtioConfigWindow { cfg_type: 5 }, msix()])
    }

    fn aim(bench: &mut Bench, bar: u64, offset: u64, len: u64) {
        bench.write(WINDOW + 4, 1, bar);
        bench.write(WINDOW + 8, 4, offset);
        bench.write(WINDOW + 12, 4, len);
    }

    #[test]
    fn accesses_have_the_length_and_place_the_driver_set() {
        let mut bench = bench();
        for (offset, len) in [(0x10, 1), (0x10, 2), (0x10, 4)] {
            aim(&mut bench, 0, offset, len);
            bench.write(WINDOW + 16, 4, 0x4433_2211);
            let len = len as usize;
            let data = [0x11, 0x22, 0x33, 0x44][..len].to_vec();
            assert_eq!(bench.saw(), [Saw::Write(offset, data)]);
            bench.read(WINDOW + 16, 4);
            assert_eq!(bench.saw(), [Saw::Read(offset, len)]);
        }
    }

    #[test]
    fn reads_show_the_bar_even_as_part_of_a_longer_read() {
        let mut bench = bench();
        bench.write(0x04, 2, 2);
        bench.bar_write(0x20, 4, 0xdead_beef).unwrap();
        bench.write(0x04, 2, 0);
        aim(&mut bench, 0, 0x20, 4);
        assert_eq!(bench.read(WINDOW + 12, 8) >> 32, 0xdead_beef);
        assert_eq!(bench.read(WINDOW + 18, 1), 0xad);
        bench.saw();
        bench.image();
        assert_eq!(bench.saw(), [Saw::Read(0x20, 4)]);
    }

    #[test]
    fn invalid_windows_reach_nothing() {
        let mut bench = bench();
        bench.saw();
        let rows = [(0, 0, 0), (0, 0, 3), (0, 0, 8), (0, 2, 4), (7, 0, 4), (0, 0x4000, 4)];
        for (bar, offset, len) in rows {
            aim(&mut bench, bar, offset, len);
            bench.write(WINDOW + 16, 4, 0x1234_5678);
            bench.read(WINDOW + 16, 4);
            assert!(bench.saw().is_empty(), "bar {bar} {offset:#x}+{len}");
        }
    }

    #[test]
    fn the_window_reaches_the_msix_table() {
        let mut bench = bench();
        aim(&mut bench, 0, TABLE + 12, 4);
        assert_eq!(bench.read(WINDOW + 16, 4), 1);
        bench.write(WINDOW + 16, 4, 0);
        assert_eq!(bench.read(WINDOW + 16, 4), 0);
    }
}

#[test]
fn inspect_shows_config_space_by_name_and_changes_nothing() {
    let mut bench = Bench::new(every_capability());
    bench.enable();
    bench.write(0x9e, 2, 0x8000);
    let image = bench.image();
    let state = bench.function.inspect();
    let rows = [
        ("pci.vendor_id", 0x00, 0x1af4, ""),
        ("pci.command", 0x04, 0x0006, "MEMORY|MASTER"),
        ("pci.status", 0x06, 0x0010, "CAPABILITIES"),
        ("power_management.control", 0x44, 0x0008, "NO_SOFT_RESET"),
        ("msix.control", 0x9e, 0x8004, "ENABLE"),
    ];
    for (name, offset, value, meaning) in rows {
        let row = state.registers.iter().find(|row| row.name == name).unwrap();
        assert_eq!((row.bar, row.offset, row.value), (crate::CONFIG_REGION.0, offset, value));
        assert_eq!(row.meaning, meaning, "{name}");
    }
    assert_eq!(state.registers[0].name, "pci.vendor_id");
    let enabled = state.registers.iter().find(|row| row.name == "interrupts.enabled").unwrap();
    assert_eq!(enabled.meaning, "MSI-X, 5 vectors");
    for row in state.registers.iter().filter(|row| row.bar == crate::CONFIG_REGION.0) {
        let read = bench.read(row.offset as usize, row.width.into());
        assert_eq!(row.value, read, "{} reads the same", row.name);
    }
    assert_eq!(bench.image(), image);
}
