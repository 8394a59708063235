//! What the Cloud AI 100 model costs.
//!
//! - Round trip of one request of the DMA bridge, doorbell to response, with a polling driver: one
//!   that moves nothing, and one that moves 4 KiB into device memory; over the socket and in process.
//! - Inference through the device in process (inputs and outputs moved, semaphores, responses)
//!   against `tract` called directly on the same network, by turns. The goal is at most 10 % more
//!   for a network that takes 1 ms or longer.

#[path = "../virtio_crypto/in_process.rs"]
mod in_process;
mod model;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use in_process::InProcess;
use tract_onnx::prelude::{
    Framework, InferenceModelExt, IntoRunnable, Tensor, TypedRunnableModel, tvec,
};
use understudy_client::Platform;
use understudy_client::qaic::{Activation, Driver, Options, Request};
use understudy_client::vfio_user::{SocketOptions, SocketPlatform};
use understudy_device::DeviceModel;
use understudy_pci::PciFunction;
use understudy_qaic::{Boot, Parameters, Qaic};
use understudy_server::DeviceServer;
use understudy_tensor::{Limits, Network, pack};

/// Bytes that a request moves.
const MOVED: u32 = 4096;
/// Turns of a comparison.
const TURNS: usize = 200;

/// A network that is active in a device.
struct Bench<P> {
    driver: Driver<P>,
    active: Activation,
    buffer: u64,
}

impl<P: Platform> Bench<P> {
    fn new(platform: P, container: &[u8]) -> anyhow::Result<Self> {
        let options = Options { vectors: 0, ..Options::default() };
        let mut driver = Driver::new(platform, options)?;
        driver.power_up()?;
        let program = driver.load(1, container, 1 << 20, 64)?;
        let program = program.map_err(|status| anyhow::anyhow!("load: status {status}"))?;
        let active = driver.activate(1, program, 64)?;
        let active = active.map_err(|status| anyhow::anyhow!("activate: status {status}"))?;
        let buffer = driver.host.platform.dma_alloc(MOVED as usize, 4096)?.iova;
        Ok(Self { driver, active, buffer })
    }

    /// A request of the bridge, and its response.
    fn round_trip(&mut self, len: u32) -> anyhow::Result<()> {
        let request = Request {
            // A bulk transfer to the device, or none, with a response.
            command: if len > 0 { 0x19 } else { 0x18 },
            source: self.buffer,
            destination: self.active.memory,
            len,
            ..Request::default()
        };
        self.driver.submit(&self.active, &[request])?;
        let (_, status) = self.driver.wait_response(&self.active)?;
        anyhow::ensure!(status == 0, "status {status}");
        Ok(())
    }

    fn infer(&mut self, input: &[u8], output: usize) -> anyhow::Result<Vec<u8>> {
        let mut outputs = self.driver.infer(&self.active, &[input], &[output])?;
        outputs.pop().ok_or_else(|| anyhow::anyhow!("no output"))
    }
}

fn device() -> anyhow::Result<Box<dyn DeviceModel>> {
    Ok(Box::new(Qaic::new(Parameters { boot: Boot::Amss, ..Parameters::default() })?))
}

fn container(onnx: &[u8]) -> anyhow::Result<Vec<u8>> {
    let network = Network::from_onnx(onnx, &Limits::default())?;
    Ok(pack("bench", onnx, network.inputs(), network.outputs())?)
}

fn must<T>(result: anyhow::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        std::process::exit(1)
    })
}

fn round_trips(c: &mut Criterion) {
    let container = must(container(&model::onnx(8, 1024, 1)));
    let directory = must(tempfile::tempdir().map_err(Into::into));
    let path = directory.path().join("socket");
    let function = must(PciFunction::new(must(device())).map_err(Into::into));
    let server = DeviceServer::bind(&path, function, understudy_server::Options::default());
    let _server = must(server.map_err(Into::into));
    let options = SocketOptions::default();
    let socket = must(SocketPlatform::connect(&path, options).map_err(Into::into));
    let mut socket = must(Bench::new(socket, &container));
    let mut here = must(Bench::new(must(InProcess::new(must(device()))), &container));
    for (what, len) in [("nothing moved", 0), ("4 KiB moved", MOVED)] {
        let mut group = c.benchmark_group(format!("round trip of the DMA bridge, {what}"));
        group.bench_function("socket", |b| b.iter(|| must(socket.round_trip(len))));
        group.bench_function("in process", |b| b.iter(|| must(here.round_trip(len))));
        group.finish();
    }
}

/// `tract` alone: its own reader, its own optimiser, as its users call it.
struct Alone(std::sync::Arc<TypedRunnableModel>);

impl Alone {
    fn new(mut onnx: &[u8]) -> anyhow::Result<Self> {
        let model = tract_onnx::onnx().model_for_read(&mut onnx).and_then(|model| {
            let optimized = model.into_optimized()?;
            optimized.into_runnable()
        });
        Ok(Self(model.map_err(|error| anyhow::anyhow!("{error:#}"))?))
    }

    fn infer(&self, input: &Tensor) -> anyhow::Result<Vec<u8>> {
        let outputs = self.0.run(tvec!(input.clone().into()));
        let outputs = outputs.map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let output = outputs.first().ok_or_else(|| anyhow::anyhow!("no output"))?;
        Ok(output.try_as_plain_ram().map(|plain| plain.as_bytes().to_vec()).unwrap_or_default())
    }
}

fn inference(c: &mut Criterion) {
    let mut rows = Vec::new();
    let mut group = c.benchmark_group("inference");
    group.sample_size(20);
    for (name, batch, width, layers) in
        [("small", 4, 64, 2), ("1 ms and more", 64, 512, 4), ("10 ms and more", 128, 768, 5)]
    {
        let onnx = model::onnx(batch, width, layers);
        let values = model::values(1, batch * width);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = Tensor::from_shape(&[batch, width], &values);
        let tensor = must(tensor.map_err(|error| anyhow::anyhow!("{error:#}")));
        let alone = must(Alone::new(&onnx));
        let platform = must(InProcess::new(must(device())));
        let mut bench = must(Bench::new(platform, &must(container(&onnx))));
        assert_eq!(must(bench.infer(&bytes, bytes.len())), must(alone.infer(&tensor)), "{name}");
        group.bench_function(format!("{name}: device in process"), |b| {
            b.iter(|| must(bench.infer(&bytes, bytes.len())));
        });
        group.bench_function(format!("{name}: tract alone"), |b| {
            b.iter(|| must(alone.infer(&tensor)));
        });
        let mut works: [&mut dyn FnMut(); 2] =
            [&mut || drop(black_box(must(bench.infer(&bytes, bytes.len())))), &mut || {
                drop(black_box(must(alone.infer(&tensor))))
            }];
        rows.push((name, by_turns(&mut works)));
    }
    group.finish();
    println!("\ninference through the device, against tract alone (medians, by turns)");
    println!("  {:16} {:>10} {:>10} {:>9}", "", "device", "tract", "overhead");
    for (name, [device, alone]) in rows {
        let overhead = (device.as_secs_f64() / alone.as_secs_f64() - 1.0) * 100.0;
        println!("  {name:16} {device:>10.1?} {alone:>10.1?} {overhead:>8.1}%");
    }
}

/// The medians of two works that are done by turns, so that both see the same machine.
fn by_turns(works: &mut [&mut dyn FnMut(); 2]) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (times, work) in times.iter_mut().zip(works.iter_mut()) {
            let start = Instant::now();
            work();
            times.push(start.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times.get(TURNS / 2).copied().unwrap_or_default()
    })
}

criterion_group!(benches, round_trips, inference);
criterion_main!(benches);
