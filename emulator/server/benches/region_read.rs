//! A region read's round trip: our server against the `vfio_user` crate's, with that crate's client
//! for both, in the same run. Prints the medians, the 99th percentiles and their ratios.
#![expect(clippy::unwrap_used, reason = "in tests, what must not be is a failure")]

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use criterion::Criterion;
use understudy_device::{
    AccessError, Bar, BarKind, BarSpec, Bus, DeviceModel, FinishedJob, Identity, Progress,
    ResetKind, State,
};
use understudy_pci::PciFunction;
use understudy_server::{DeviceServer, Options};
use vfio_user::{Client, DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};

const SIZE: u64 = 0x1000;
const REGISTER: u32 = 0x1234_5678;

/// A device of one register.
struct OneRegister(Identity);

impl OneRegister {
    fn new() -> Self {
        let bar = BarSpec {
            bar: Bar(0),
            kind: BarKind::Memory64,
            prefetchable: false,
            size: SIZE,
            shared: Vec::new(),
        };
        Self(Identity {
            name: "bench",
            vendor_id: 0x1234,
            device_id: 0x5678,
            subsystem_vendor_id: 0,
            subsystem_id: 0,
            revision_id: 0,
            class_code: 0x0b_40_00,
            interrupt_pin: 0,
            bars: vec![bar],
            capabilities: Vec::new(),
            unmapped_read: 0,
        })
    }
}

impl DeviceModel for OneRegister {
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn read(
        &mut self,
        _: &mut dyn Bus,
        _: Bar,
        _: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        data.copy_from_slice(&REGISTER.to_le_bytes()[..data.len()]);
        Ok(())
    }

    fn write(&mut self, _: &mut dyn Bus, _: Bar, _: u64, _: &[u8]) -> Result<(), AccessError> {
        Ok(())
    }

    fn poll(&mut self, _: &mut dyn Bus, _: u32) -> Progress {
        Progress::Idle
    }

    fn finish(&mut self, _: &mut dyn Bus, _: FinishedJob) {}

    fn reset(&mut self, _: ResetKind) {}

    fn inspect(&self) -> State {
        State::default()
    }
}

/// The same for the other server.
struct Backend;

impl ServerBackend for Backend {
    fn region_read(&mut self, _: u32, _: u64, data: &mut [u8]) -> io::Result<()> {
        data.copy_from_slice(&REGISTER.to_le_bytes()[..data.len()]);
        Ok(())
    }
    fn region_write(&mut self, _: u32, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn dma_map(
        &mut self,
        _: DmaMapFlags,
        _: u64,
        _: u64,
        _: u64,
        _: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }
    fn dma_unmap(&mut self, _: DmaUnmapFlags, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, _: Vec<File>) -> io::Result<()> {
        Ok(())
    }
}

/// Serves one client of the `vfio_user` crate's server.
fn serve_theirs(path: &Path) -> thread::JoinHandle<()> {
    let region = |index| {
        let mut region = ServerRegion {
            region_info: Default::default(),
            sparse_areas: Vec::new(),
            mmap_fd: None,
        };
        (region.region_info.argsz, region.region_info.index) = (32, index);
        if index == 0 || index == 7 {
            // Readable and writable.
            (region.region_info.size, region.region_info.flags) = (SIZE, 3);
        }
        region
    };
    let irqs = (0..5).map(|index| IrqInfo { index, flags: 1, count: 0 }).collect();
    let server = Server::new(path, true, irqs, (0..9).map(region).collect()).unwrap();
    thread::spawn(move || server.run(&mut Backend).unwrap())
}

fn read(client: &mut Client) {
    let mut data = [0; 4];
    client.region_read(0, 0, &mut data).unwrap();
    assert_eq!(black_box(u32::from_le_bytes(data)), REGISTER);
}

/// Round trips of both, taken in turns so that what else the machine does hits both.
fn round_trips(ours: &mut Client, theirs: &mut Client) -> [Vec<Duration>; 2] {
    const ROUNDS: usize = 200;
    const READS: usize = 200;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (client, times) in [&mut *ours, &mut *theirs].into_iter().zip(&mut times) {
            for _ in 0..READS {
                let start = Instant::now();
                read(client);
                times.push(start.elapsed());
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    times
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let (our_path, their_path) = (dir.path().join("ours"), dir.path().join("theirs"));
    let function = PciFunction::new(Box::new(OneRegister::new())).unwrap();
    let mut options = Options::default();
    if let Ok(micros) = std::env::var("SPIN_MICROS") {
        options.spin = Duration::from_micros(micros.parse().unwrap());
    }
    let server = DeviceServer::bind(&our_path, function, options).unwrap();
    let their_thread = serve_theirs(&their_path);
    let mut ours = Client::new(&our_path).unwrap();
    ours.region_write(7, 4, &[6, 0]).unwrap();
    let mut theirs = Client::new(&their_path).unwrap();

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("region_read");
    group.bench_function("understudy", |bencher| bencher.iter(|| read(&mut ours)));
    group.bench_function("vfio_user", |bencher| bencher.iter(|| read(&mut theirs)));
    group.finish();

    let [our_times, their_times] = round_trips(&mut ours, &mut theirs);
    println!("region read round trip, spin {:?}, {} reads each", options.spin, our_times.len());
    for (name, percent) in [("p50", 50), ("p99", 99)] {
        let at = |times: &[Duration]| times[times.len() * percent / 100];
        let (ours, theirs) = (at(&our_times), at(&their_times));
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!("{name}: understudy {ours:?}, vfio_user {theirs:?}, ratio {ratio:.2}");
    }
    theirs.shutdown().unwrap();
    drop((ours, theirs));
    server.stop().unwrap();
    their_thread.join().unwrap();
    criterion.final_summary();
}
