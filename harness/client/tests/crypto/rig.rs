//! A device behind one of the transports, and a driver on it.

use std::path::PathBuf;

use understudy_client::vfio_user::{SocketOptions, SocketPlatform};
use understudy_client::virtio_crypto::{Driver, Options};
use understudy_client::{Platform, SimulationPlatform};
use understudy_pci::PciFunction;
use understudy_server::DeviceServer;
use understudy_virtio_crypto::{Parameters, VirtioCrypto};

pub(crate) type AnyDriver = Driver<Box<dyn Platform>>;

/// How the driver reaches the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// In this thread, with this seed.
    Simulation(u64),
    /// Over a socket, memory shared by descriptor.
    Shared,
    /// Over a socket, memory reached by messages only.
    Messages,
}

pub(crate) const ALL: [Transport; 3] =
    [Transport::Simulation(0x5eed), Transport::Shared, Transport::Messages];

/// A driver, and what must outlive it.
pub(crate) struct Rig {
    pub(crate) driver: AnyDriver,
    _served: Option<Served>,
}

/// A server with a device of its own.
pub(crate) struct Served {
    _server: DeviceServer,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Served {
    pub(crate) fn new(parameters: Parameters) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let function = PciFunction::new(Box::new(VirtioCrypto::new(parameters).unwrap())).unwrap();
        let options = understudy_server::Options::default();
        let server = DeviceServer::bind(&socket, function, options).unwrap();
        Self { _server: server, socket, _directory: directory }
    }

    pub(crate) fn connect(&self, shared: bool) -> SocketPlatform {
        let options = SocketOptions { shared, ..SocketOptions::default() };
        SocketPlatform::connect(&self.socket, options).unwrap()
    }
}

impl Rig {
    pub(crate) fn new(transport: Transport, parameters: Parameters, options: Options) -> Self {
        let (platform, served): (Box<dyn Platform>, _) = match transport {
            Transport::Simulation(seed) => {
                let model = Box::new(VirtioCrypto::new(parameters).unwrap());
                (Box::new(SimulationPlatform::new(model, seed).unwrap()), None)
            }
            Transport::Shared | Transport::Messages => {
                let served = Served::new(parameters);
                let platform = served.connect(transport == Transport::Shared);
                (Box::new(platform), Some(served))
            }
        };
        let driver = Driver::new(platform, options);
        Self { driver: driver.unwrap_or_else(|e| panic!("{transport:?}: {e}")), _served: served }
    }

    pub(crate) fn plain(transport: Transport) -> Self {
        Self::new(transport, Parameters::default(), Options::default())
    }
}
