//! What the tests of this crate share: a small device, a server for it, and a client that can also
//! say what no client should.

pub(crate) mod device;
pub(crate) mod peer;

use std::time::Duration;

use tempfile::TempDir;
use understudy_pci::PciFunction;
use understudy_server::{DeviceServer, Options};

pub(crate) use device::TestDevice;
pub(crate) use peer::Peer;

/// Long enough for anything that should happen; nothing waits this long if it does.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A server of a [`TestDevice`] in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) server: DeviceServer,
    pub(crate) dir: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().unwrap();
        let function = PciFunction::new(Box::new(TestDevice::new())).unwrap();
        let server = DeviceServer::bind(dir.path().join("device"), function, options).unwrap();
        Self { server, dir }
    }

    /// A client that has agreed on a version.
    pub(crate) fn attach(&self) -> Peer {
        let mut peer = self.connect();
        peer.negotiate();
        peer
    }

    /// A client that has agreed on a version, after `count` others are gone.
    pub(crate) fn attach_after(&self, count: u64) -> Peer {
        assert!(self.server.wait_detached(count, SOON), "a client was not cleaned up after");
        self.attach()
    }

    /// A client that has said nothing yet.
    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.server.path())
    }

    /// A client that has agreed on a version and enabled memory space and bus mastering.
    pub(crate) fn enabled(&self) -> Peer {
        let mut peer = self.attach();
        peer.enable();
        peer
    }
}
