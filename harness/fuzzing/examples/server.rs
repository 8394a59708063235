//! Our server and its fuzzer in one small program, for builds with sanitizers.
//!
//! ```text
//! export ASAN_OPTIONS=quarantine_size_mb=4:thread_local_quarantine_size_kb=64
//! RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo run --release -p understudy-fuzzing \
//!     --example server --target x86_64-unknown-linux-gnu -- fuzz virtio-crypto /tmp/s.sock 3600
//! ```
//!
//! Without a small quarantine, what ASan keeps of freed memory, 256 MiB, looks like growth.

use std::path::Path;
use std::time::{Duration, Instant};

use understudy_fuzzing::server::{ServerFuzzer, ServerOptions};
use understudy_fuzzing::targets;
use understudy_pci::PciFunction;
use understudy_server::{DeviceServer, Options};

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", device, socket] => serve(device, Path::new(socket)),
        ["fuzz", device, socket, seconds] => fuzz(device, socket, seconds.parse()?),
        _ => Err("expected: serve DEVICE SOCKET, or fuzz DEVICE SOCKET SECONDS".into()),
    }
}

fn serve(device: &str, socket: &Path) -> Result {
    let target = targets::find(device).ok_or("expected virtio-crypto or qat")?;
    let function = PciFunction::new(target.model()?)?;
    let _server = DeviceServer::bind(socket, function, Options::default())?;
    loop {
        std::thread::park();
    }
}

fn fuzz(device: &str, socket: &str, seconds: u64) -> Result {
    let here = std::env::current_exe()?.display().to_string();
    let command = vec![here, "serve".to_owned(), device.to_owned(), socket.to_owned()];
    let mut fuzzer = ServerFuzzer::new(ServerOptions { socket: socket.into(), command, seed: 1 })?;
    let start = Instant::now();
    let mut findings = 0;
    let mut said = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        if let Some(mut finding) = fuzzer.step()? {
            findings += 1;
            println!("{}", finding.defect);
            fuzzer.minimise(&mut finding)?;
            finding.write(Path::new("understudy-fuzz/findings"))?;
        }
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            println!("{:?} after {} s", fuzzer.stats(), start.elapsed().as_secs());
        }
    }
    let (stats, seconds) = (fuzzer.stats(), start.elapsed().as_secs_f64());
    let rate = stats.executions as f64 / seconds;
    println!("{stats:?}\n{seconds:.0} s, {rate:.0} executions/s, {findings} findings");
    Ok(())
}
