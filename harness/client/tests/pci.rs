//! The PCI driver against a model with a bit of everything, in the simulation and over the socket.

#![cfg(test)]

use understudy_client::pci::{Function, cap};
use understudy_client::vfio_user::{SocketOptions, SocketPlatform};
use understudy_client::{
    Access, Activity, DriverError, Interrupts, Platform, PlatformError, SimulationPlatform,
};
use understudy_device::{
    AccessError, Bar, BarKind, BarSpec, Bus, Capability, DeviceModel, FinishedJob, Identity,
    InterruptMode, Nanos, Progress, ResetKind, SharedArea, State, Vector,
};
use understudy_pci::PciFunction;
use understudy_server::DeviceServer;

/// Writing n to register 0 raises vector n when the device next works; reading register 4 drops
/// the INTx line; reading register 8 gives the first byte of the shared page.
struct Bell {
    identity: Identity,
    rung: Vec<u16>,
}

const PAGE: u64 = 4096;

impl Bell {
    fn model() -> Box<dyn DeviceModel> {
        let bar = |bar, kind, size, shared| BarSpec {
            bar: Bar(bar),
            kind,
            prefetchable: kind == BarKind::Memory64,
            size,
            shared,
        };
        let page = SharedArea { offset: PAGE, size: PAGE };
        let identity = Identity {
            name: "bell",
            vendor_id: 0x1234,
            device_id: 0x5678,
            subsystem_vendor_id: 0x9abc,
            subsystem_id: 0xdef0,
            revision_id: 3,
            class_code: 0x12_34_56,
            interrupt_pin: 1,
            bars: vec![
                bar(0, BarKind::Memory64, 4 * PAGE, vec![page]),
                bar(2, BarKind::Memory32, PAGE, Vec::new()),
            ],
            capabilities: vec![
                Capability::PowerManagement,
                Capability::Express { flr: true },
                Capability::Msi { vectors: 4, maskable: true },
                Capability::Msix { vectors: 40, table: (Bar(2), 0), pba: (Bar(2), 0x800) },
                Capability::Vendor { body: vec![1, 2, 3, 4, 5] },
            ],
            unmapped_read: 0xff,
        };
        Box::new(Self { identity, rung: Vec::new() })
    }
}

impl DeviceModel for Bell {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        data.fill(0);
        match offset {
            4 => bus.set_intx(false),
            8 => {
                let read = bus.shared_read(bar, PAGE, &mut data[..1]);
                read.map_err(|_| AccessError::Unmapped { offset })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn write(
        &mut self,
        _: &mut dyn Bus,
        _: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        if offset != 0 {
            return Err(AccessError::Unmapped { offset });
        }
        self.rung.push(u16::from(data[0]));
        Ok(())
    }

    fn poll(&mut self, bus: &mut dyn Bus, _: u32) -> Progress {
        for vector in self.rung.drain(..) {
            if bus.interrupt_mode() == InterruptMode::Intx {
                bus.set_intx(true);
            } else {
                bus.raise(Vector(vector));
            }
        }
        Progress::Idle
    }

    fn finish(&mut self, _: &mut dyn Bus, _: FinishedJob) {}

    fn reset(&mut self, _: ResetKind) {
        self.rung.clear();
    }

    fn inspect(&self) -> State {
        State { registers: Vec::new(), queues: Vec::new(), counters: Vec::new() }
    }
}

/// Runs a test on each platform.
fn on_each(test: impl Fn(&mut dyn Platform)) {
    test(&mut SimulationPlatform::new(Bell::model(), 1).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let function = PciFunction::new(Bell::model()).unwrap();
    let options = understudy_server::Options::default();
    let _server = DeviceServer::bind(&path, function, options).unwrap();
    for map_regions in [true, false] {
        let options = SocketOptions { map_regions, ..SocketOptions::default() };
        test(&mut SocketPlatform::connect(&path, options).unwrap());
    }
}

fn ring(p: &mut dyn Platform, vector: u8) {
    p.bar_write(0, 0, &[vector, 0, 0, 0]).unwrap();
    // A read behind the write: it has arrived.
    p.bar_u32(0, 0).unwrap();
}

/// Waits for an interrupt that must come.
fn hear(p: &mut dyn Platform, vector: u16) {
    let deadline = p.now().plus(10_000_000_000);
    assert!(p.wait_interrupt(vector, deadline).unwrap(), "vector {vector}");
}

/// No interrupt has come by the time that the device has done all it was asked to.
fn silent(p: &mut dyn Platform, vector: u16) {
    // Over the socket, an access is answered after the work that earlier ones caused is begun; a
    // few of them, and it is done.
    for _ in 0..20 {
        p.bar_u32(0, 0).unwrap();
        if p.idle(Nanos(u64::MAX)).unwrap() == Activity::Quiet {
            break;
        }
    }
    let now = p.now();
    assert!(!p.wait_interrupt(vector, now).unwrap(), "vector {vector}");
}

#[test]
fn discovery_finds_what_the_identity_says() {
    on_each(|mut p| {
        let function = Function::discover(&mut p).unwrap();
        assert_eq!((function.vendor, function.device), (0x1234, 0x5678));
        assert_eq!((function.subsystem_vendor, function.subsystem), (0x9abc, 0xdef0));
        assert_eq!((function.revision, function.class), (3, 0x12_34_56));
        let bars: Vec<_> = function.bars.iter().map(|b| (b.index, b.size, b.is_64bit)).collect();
        assert_eq!(bars, [(0, 4 * PAGE, true), (2, PAGE, false)]);
        assert!(function.bars[0].address > u64::from(u32::MAX));
        let ids: Vec<_> = function.capabilities.iter().map(|c| c.id).collect();
        let [msi, vendor, express, msix] =
            [cap::MSI, cap::VENDOR, cap::EXPRESS, cap::MSIX].map(u16::from);
        assert_eq!(ids, [1, express, msi, msix, vendor]);
        let msix = function.msix.unwrap();
        assert_eq!((msix.vectors, msix.table, msix.pending), (40, (2, 0), (2, 0x800)));
        // Nothing is decoded before it is enabled: the bus answers with ones.
        assert_eq!(p.bar_u32(0, 0).ok().unwrap_or(u32::MAX), u32::MAX);
        function.enable(&mut p).unwrap();
        assert_eq!(p.bar_u32(0, 0).unwrap(), 0);
    });
}

#[test]
fn msix_vectors_arrive_and_masked_ones_wait() {
    on_each(|mut p| {
        let function = Function::discover(&mut p).unwrap();
        function.enable(&mut p).unwrap();
        function.connect(&mut p, Interrupts::Msix(40)).unwrap();
        let msix = function.msix.unwrap();
        for vector in [0, 39, 17] {
            ring(p, vector);
            hear(p, u16::from(vector));
            silent(p, u16::from(vector));
        }
        msix.mask(&mut p, 33, true).unwrap();
        ring(p, 33);
        silent(p, 33);
        assert!(msix.is_pending(&mut p, 33).unwrap());
        assert!(!msix.is_pending(&mut p, 32).unwrap());
        msix.mask(&mut p, 33, false).unwrap();
        hear(p, 33);
        assert!(!msix.is_pending(&mut p, 33).unwrap());
    });
}

#[test]
fn msi_vectors_arrive() {
    on_each(|mut p| {
        let function = Function::discover(&mut p).unwrap();
        function.enable(&mut p).unwrap();
        function.connect(&mut p, Interrupts::Msi(4)).unwrap();
        for vector in [3, 0, 2] {
            ring(p, vector);
            hear(p, u16::from(vector));
            silent(p, u16::from(vector));
        }
        let error = function.connect(&mut p, Interrupts::Msi(8)).unwrap_err();
        assert!(matches!(error, DriverError::Platform(PlatformError::NoInterrupts)));
    });
}

#[test]
fn intx_is_a_level_that_masks_itself() {
    on_each(|mut p| {
        let function = Function::discover(&mut p).unwrap();
        function.enable(&mut p).unwrap();
        function.connect(&mut p, Interrupts::Intx).unwrap();
        ring(p, 0);
        hear(p, 0);
        // Still asserted when unmasked: it comes again.
        p.unmask_intx().unwrap();
        hear(p, 0);
        // Dropped before it is unmasked: it does not.
        p.bar_u32(0, 4).unwrap();
        p.unmask_intx().unwrap();
        silent(p, 0);
        ring(p, 0);
        hear(p, 0);
    });
}

#[test]
fn interrupts_can_be_switched_from_one_kind_to_another() {
    on_each(|mut p| {
        let function = Function::discover(&mut p).unwrap();
        function.enable(&mut p).unwrap();
        for kind in [
            Interrupts::Msix(3),
            Interrupts::Intx,
            Interrupts::Msi(2),
            Interrupts::None,
            Interrupts::Msix(1),
        ] {
            function.connect(&mut p, kind).unwrap();
            ring(p, 0);
            if kind != Interrupts::None {
                hear(p, 0);
            }
            p.bar_u32(0, 4).unwrap();
        }
    });
}

#[test]
fn shared_pages_are_seen_by_the_model() {
    on_each(|mut p| {
        let function = Function::discover(&mut p).unwrap();
        function.enable(&mut p).unwrap();
        for value in [1u8, 77] {
            p.bar_write(0, PAGE, &[value]).unwrap();
            assert_eq!(p.bar_u8(0, 8).unwrap(), value);
            assert_eq!(p.bar_u8(0, PAGE).unwrap(), value);
        }
    });
}
