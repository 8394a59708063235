//! What tracing costs: requests in process, by turns without the hook for traces, with it and nobody
//! tracing, and with each format being written to a file. At the end the throughput of each is
//! printed, as a part of that without the hook: of the device's thread, whose records another
//! thread writes meanwhile, and until the last record is written. The goals are 0.90 with
//! tracing, and 1.00 within what repeated runs differ by without. The files are `/dev/null`. Both
//! threads have a processor of their own.
//!
//! Run with `cargo bench -p understudy-trace`.

#[macro_use]
#[path = "../../client/benches/virtio_crypto/in_process.rs"]
mod in_process;
#[path = "../../client/benches/virtio_crypto/request.rs"]
mod request;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use in_process::{Function, InProcess};
use request::Bench;
use rustix::thread::{CpuSet, sched_setaffinity};
use understudy_client::Platform;
use understudy_client::qat::message::{
    Buffers, Symmetric, cipher as key_size, command, flag, mode,
};
use understudy_client::qat::{Content, Driver, Options};
use understudy_client::virtio_crypto::{Direction, cipher};
use understudy_device::DeviceModel;
use understudy_pci::PciFunction;
use understudy_qat::{Parameters as QatParameters, Qat};
use understudy_trace::{
    Format, Header, Pipe, Recorder, RegisterName, SHOWN_OF_READ, TracedFunction, output,
};
use understudy_virtio_crypto::{Parameters, VirtioCrypto};

function!(TracedFunction);

const SIZES: [usize; 2] = [4 << 10, 64 << 10];
/// Turns that each variant has, and the bytes of each turn's requests: so many that the thread that
/// writes is at work most of the time.
const TURNS: usize = 15;
const TURN_BYTES: usize = 48 << 20;
/// Variants: the file that a trace goes to, if there is one.
const TRACED: [(&str, &str); 3] =
    [("recording", "trace"), ("JSON lines", "jsonl"), ("pcapng", "pcapng")];

fn must<T>(result: anyhow::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        std::process::exit(1)
    })
}

/// Pins this thread, where there is that processor. Two threads that share one because others are at
/// work too would be measured as what tracing costs.
fn on_processor(number: usize) {
    let mut set = CpuSet::new();
    set.set(number);
    if let Err(error) = sched_setaffinity(None, &set) {
        eprintln!("cannot use processor {number} alone: {error}");
    }
}

/// A device's bench: one request over and over, on any platform.
trait Device {
    const NAME: &'static str;
    fn model() -> anyhow::Result<Box<dyn DeviceModel>>;
    fn request<F: Function + 'static>(
        platform: InProcess<F>,
        len: usize,
    ) -> anyhow::Result<Box<dyn FnMut()>>;
}

struct Crypto;

impl Device for Crypto {
    const NAME: &'static str = "virtio-crypto, AES-CBC";

    fn model() -> anyhow::Result<Box<dyn DeviceModel>> {
        Ok(Box::new(VirtioCrypto::new(Parameters::default())?))
    }

    fn request<F: Function + 'static>(
        platform: InProcess<F>,
        len: usize,
    ) -> anyhow::Result<Box<dyn FnMut()>> {
        let encrypt = Direction::Encrypt;
        let mut bench = Bench::new(platform, cipher::AES_CBC, encrypt, &[9; 16], len)?;
        Ok(Box::new(move || must(bench.round_trip())))
    }
}

struct Quick;

impl Device for Quick {
    const NAME: &'static str = "qat, AES-CBC";

    fn model() -> anyhow::Result<Box<dyn DeviceModel>> {
        Ok(Box::new(Qat::new(QatParameters::default())?))
    }

    fn request<F: Function + 'static>(
        platform: InProcess<F>,
        len: usize,
    ) -> anyhow::Result<Box<dyn FnMut()>> {
        const SYMMETRIC: u16 = 2;
        let mut driver = Driver::new(platform, Options::default())?;
        driver.introduce()?;
        driver.open(SYMMETRIC, 64, 128)?;
        let content = Content::default().cipher(key_size::AES_128, mode::CBC, false, &request::KEY);
        let described = driver.platform.dma_alloc(content.bytes.len(), 64)?;
        driver.platform.dma_write(described.iova, &content.bytes)?;
        let data = driver.platform.dma_alloc(len, 64)?;
        driver.platform.dma_write(data.iova, &vec![0x5a; len])?;
        let wide = u32::try_from(len)?;
        let message = Symmetric {
            command: command::CIPHER,
            flags: flag::IV_INLINE,
            content: described.iova,
            content_len: content.bytes.len(),
            control: content.control,
            buffers: Buffers {
                opaque: 1,
                source: data.iova,
                destination: data.iova,
                source_len: wide,
                destination_len: wide,
                lists: false,
            },
            cipher: (0, wide),
            iv: [9; 16],
            ..Symmetric::default()
        };
        let message = message.encode();
        Ok(Box::new(move || {
            must(driver.run(SYMMETRIC, &message).map(drop).map_err(Into::into));
        }))
    }
}

/// One way to run requests.
struct Variant {
    name: &'static str,
    work: Box<dyn FnMut()>,
    pipe: Option<Pipe>,
    /// Until the device was done, and until everything was written.
    times: Vec<[Duration; 2]>,
}

impl Variant {
    fn new(name: &'static str, work: Box<dyn FnMut()>, pipe: Option<Pipe>) -> Self {
        Self { name, work, pipe, times: Vec::new() }
    }

    fn traced<D: Device>(name: &'static str, path: Option<&Path>, len: usize) -> Self {
        let function = must(PciFunction::new(must(D::model())).map_err(Into::into));
        let header = Header {
            device: "bench".to_owned(),
            registers: RegisterName::all(function.identity(), &function.inspect()),
            ..Header::default()
        };
        let mut function = TracedFunction::from(function);
        let pipe = path.map(|path| {
            let file = must(output::create(path, &header, u64::MAX).map_err(Into::into));
            // The thread that writes inherits its processor.
            on_processor(1);
            let pipe = must(Pipe::start(vec![file]).map_err(Into::into));
            on_processor(0);
            let recorder = Recorder::new(pipe.sink());
            let whole = Format::of(path) == Format::Recording;
            let recorder = if whole { recorder } else { recorder.keep_of_reads(SHOWN_OF_READ) };
            function.set_recorder(Some(recorder));
            pipe
        });
        Self::new(name, must(D::request(InProcess::with(function), len)), pipe)
    }

    fn all<D: Device>(folder: &Path, len: usize) -> Vec<Self> {
        let plain = must(InProcess::new(must(D::model())));
        let mut all = vec![
            Self::new("no hook", must(D::request(plain, len)), None),
            Self::traced::<D>("off", None, len),
        ];
        all.extend(TRACED.iter().map(|(name, ending)| {
            // What the disk makes of it is not measured.
            let path: PathBuf = folder.join(format!("{len}.{ending}"));
            must(std::os::unix::fs::symlink("/dev/null", &path).map_err(Into::into));
            Self::traced::<D>(name, Some(&path), len)
        }));
        all
    }

    fn turn(&mut self, requests: usize) {
        let start = Instant::now();
        for _ in 0..requests {
            (self.work)();
        }
        let done = start.elapsed();
        // Else one variant's writing would cost the next one's turn.
        if let Some(pipe) = &self.pipe {
            pipe.flush();
        }
        self.times.push([done, start.elapsed()]);
    }

    /// Medians of both.
    fn medians(&self) -> [f64; 2] {
        [0, 1].map(|which| {
            let mut times: Vec<_> = self.times.iter().map(|times| times[which]).collect();
            times.sort_unstable();
            times.get(times.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
        })
    }
}

fn device<D: Device>(c: &mut Criterion) {
    on_processor(0);
    let mut group = c.benchmark_group(D::NAME);
    let mut lines = Vec::new();
    for len in SIZES {
        let folder = must(tempfile::tempdir().map_err(Into::into));
        let mut all = Variant::all::<D>(folder.path(), len);
        group.throughput(Throughput::Bytes(len as u64));
        for variant in &mut all[..2] {
            let name = format!("{} KiB, {}", len >> 10, variant.name);
            group.bench_function(name, |b| b.iter(|| (variant.work)()));
        }
        let requests = TURN_BYTES / len;
        for _ in 0..TURNS {
            all.iter_mut().for_each(|variant| variant.turn(requests));
        }
        let [plain, plain_written] = all[0].medians();
        for variant in &all {
            let lost = variant.pipe.as_ref().map_or(0, |pipe| pipe.finish().dropped);
            let [time, written] = variant.medians();
            let (kib, name) = (len >> 10, variant.name);
            let micros = 1e6 * time / f64::from(u32::try_from(requests).unwrap_or(1));
            let (part, written) = (plain / time, plain_written / written);
            lines.push(format!(
                "  {kib:>3} KiB  {name:10} {micros:>8.2} us {part:>8.3} {written:>8.3}  {lost} lost"
            ));
        }
    }
    group.finish();
    println!("\n{}: throughput, as a part of that without the hook", D::NAME);
    println!("  {:32} {:>8} {:>8}", "", "device", "written");
    for line in lines {
        println!("{line}");
    }
}

criterion_group!(benches, device::<Crypto>, device::<Quick>);
criterion_main!(benches);
