//! What a request costs.
//!
//! - Round trip of an AES-CBC request of 4 KiB, doorbell to completion, with a polling driver: over
//!   the socket and in process.
//! - Requests of 64 KiB in process against the engine alone on the same bytes, in the same run. The
//!   ratio of the medians is printed at the end; the goal is 0.90.

mod by_turns;
mod in_process;
mod request;

use std::hint::black_box;

use by_turns::ratio;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use in_process::InProcess;
use request::Bench;
use understudy_client::vfio_user::{SocketOptions, SocketPlatform};
use understudy_client::virtio_crypto::{Direction, cipher};
use understudy_engines::cipher as engine;
use understudy_pci::PciFunction;
use understudy_server::DeviceServer;
use understudy_virtio_crypto::{Parameters as DeviceParameters, VirtioCrypto};

const IV: [u8; 16] = [9; 16];
const SMALL: usize = 4 << 10;
const LARGE: usize = 64 << 10;

fn function() -> anyhow::Result<Box<dyn understudy_device::DeviceModel>> {
    Ok(Box::new(VirtioCrypto::new(DeviceParameters::default())?))
}

fn must<T>(result: anyhow::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        std::process::exit(1)
    })
}

fn round_trips(c: &mut Criterion) {
    let mut group = c.benchmark_group("round trip AES-CBC 4 KiB");
    group.throughput(Throughput::Bytes(SMALL as u64));
    let directory = must(tempfile::tempdir().map_err(Into::into));
    let path = directory.path().join("socket");
    let options = understudy_server::Options::default();
    let function_over_socket = must(PciFunction::new(must(function())).map_err(Into::into));
    let server = DeviceServer::bind(&path, function_over_socket, options);
    let _server = must(server.map_err(Into::into));
    for shared in [true, false] {
        let options = SocketOptions { shared, ..SocketOptions::default() };
        let platform = must(SocketPlatform::connect(&path, options).map_err(Into::into));
        let encrypt = Direction::Encrypt;
        let mut bench = must(Bench::new(platform, cipher::AES_CBC, encrypt, &IV, SMALL));
        let name = if shared { "socket" } else { "socket, message DMA" };
        group.bench_function(name, |b| b.iter(|| must(bench.round_trip())));
    }
    let platform = must(InProcess::new(must(function())));
    let mut bench = must(Bench::new(platform, cipher::AES_CBC, Direction::Encrypt, &IV, SMALL));
    group.bench_function("in process", |b| b.iter(|| must(bench.round_trip())));
    group.finish();
}

/// The engine alone, in place.
fn run_engine(key: &engine::Key, direction: engine::Direction, iv: &[u8], data: &mut [u8]) {
    let done = key.start(direction, iv).and_then(|stream| stream.finish(black_box(data)));
    must(done.map(|_| ()).map_err(Into::into));
}

const CASES: [(&str, u32, engine::Algorithm, Direction); 4] = [
    ("AES-CBC encrypt", cipher::AES_CBC, engine::Algorithm::AesCbc, Direction::Encrypt),
    ("AES-CBC decrypt", cipher::AES_CBC, engine::Algorithm::AesCbc, Direction::Decrypt),
    ("AES-CTR encrypt", cipher::AES_CTR, engine::Algorithm::AesCtr, Direction::Encrypt),
    ("3DES-CBC encrypt", cipher::TDES_CBC, engine::Algorithm::TdesCbc, Direction::Encrypt),
];

fn throughput(c: &mut Criterion) {
    let mut ratios = Vec::new();
    let mut group = c.benchmark_group("64 KiB requests");
    group.throughput(Throughput::Bytes(LARGE as u64));
    for (name, number, algorithm, direction) in CASES {
        let platform = must(InProcess::new(must(function())));
        let iv = &IV[..algorithm.iv_len()];
        let mut bench = must(Bench::new(platform, number, direction, iv, LARGE));
        let key = must(engine::Key::new(algorithm, &request::KEY).map_err(Into::into));
        let way = match direction {
            Direction::Encrypt => engine::Direction::Encrypt,
            Direction::Decrypt => engine::Direction::Decrypt,
        };
        let mut data = vec![0x5a; LARGE];
        group.bench_function(BenchmarkId::new("device in process", name), |b| {
            b.iter(|| must(bench.round_trip()));
        });
        group.bench_function(BenchmarkId::new("engine alone", name), |b| {
            b.iter(|| run_engine(&key, way, iv, &mut data));
        });
        let device = || must(bench.round_trip());
        ratios.push((name, ratio(device, || run_engine(&key, way, iv, &mut data))));
    }
    group.finish();
    println!("\nthroughput of the device in process, as a part of the engine's own");
    println!("  {:18} {:>8} {:>8}", "", "median", "fastest");
    for (name, [median, fastest]) in ratios {
        println!("  {name:18} {median:>8.3} {fastest:>8.3}");
    }
}

criterion_group!(benches, round_trips, throughput);
criterion_main!(benches);
