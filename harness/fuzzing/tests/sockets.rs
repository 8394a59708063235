//! Over sockets: our server stands what any client says, our client what any server says.
#![cfg(test)]

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use understudy_client::vfio_user::{ClientOptions, SocketOptions, SocketPlatform};
use understudy_client::virtio_crypto::{
    Driver, HashKey, Options as DriverOptions, Parameters, Target as Mode, hash,
};
use understudy_fuzzing::client::{HostileServer, Plan, plan, serve};
use understudy_fuzzing::server::{ServerFuzzer, ServerOptions};
use understudy_pci::PciFunction;
use understudy_server::{DeviceServer, Options};
use understudy_virtio_crypto::VirtioCrypto;

const SEED: u64 = 3;

fn server(path: &Path) -> DeviceServer {
    let model = VirtioCrypto::new(understudy_virtio_crypto::Parameters::default()).unwrap();
    let function = PciFunction::new(Box::new(model)).unwrap();
    DeviceServer::bind(path, function, Options::default()).unwrap()
}

#[test]
fn our_server_stands_what_any_client_says() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("server.sock");
    let _server = server(&socket);
    let options = ServerOptions { socket, command: Vec::new(), seed: SEED };
    let mut fuzzer = ServerFuzzer::new(options).unwrap();
    for _ in 0..1500 {
        let finding = fuzzer.step().unwrap();
        assert!(finding.is_none(), "seed {SEED}: {finding:?}");
    }
    let stats = fuzzer.stats();
    assert!(stats.replies > stats.executions && stats.connections > 20, "{stats:?}");
}

/// A driver's work through the hostile server.
fn drive(socket: &Path) -> Result<(), String> {
    let client = ClientOptions { timeout: Duration::from_millis(300), ..ClientOptions::default() };
    let options = SocketOptions { client, memory_size: 1 << 20, ..SocketOptions::default() };
    let platform = SocketPlatform::connect(socket, options).map_err(|error| error.to_string())?;
    let options = DriverOptions { timeout_nanos: 300_000_000, ..DriverOptions::default() };
    let mut driver = Driver::new(platform, options).map_err(|error| error.to_string())?;
    let key = Parameters::Hash(HashKey { algorithm: hash::SHA_256, result_len: 32 });
    let digest = driver.hash(Mode::Stateless(&key), &[7; 100], 32);
    digest.map(drop).map_err(|error| error.to_string())
}

fn through(
    hostile: &HostileServer,
    socket: &Path,
    honest: &Path,
    plan: &Plan,
) -> Result<(), String> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + Duration::from_secs(20);
            let stream = hostile.accept(deadline).unwrap();
            stream.map(|stream| serve(stream, honest, plan, deadline, &stop))
        });
        drive(socket)
    })
}

#[test]
fn our_client_stands_what_any_server_says() {
    let folder = tempfile::tempdir().unwrap();
    let (honest, socket) = (folder.path().join("honest"), folder.path().join("hostile"));
    let _server = server(&honest);
    let hostile = HostileServer::bind(&socket).unwrap();
    // Nothing is changed: the driver does not notice.
    let plain = Plan { honest: u16::MAX, acts: Vec::new() };
    assert_eq!(through(&hostile, &socket, &honest, &plain), Ok(()));
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut refused = 0;
    for _ in 0..40 {
        let plan = plan(&mut random);
        refused += usize::from(through(&hostile, &socket, &honest, &plan).is_err());
    }
    assert!(refused > 0, "nothing that a hostile server did was noticed");
}
