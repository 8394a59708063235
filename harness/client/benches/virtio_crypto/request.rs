//! A request to virtio-crypto, again and again.

use understudy_client::Platform;
use understudy_client::virtio_crypto::buffer::Prepared;
use understudy_client::virtio_crypto::{
    CipherKey, Direction, Driver, Operation, Options, Parameters, Target,
};

pub(crate) const KEY: [u8; 16] = [7; 16];

/// One request, ready to be given to the device again and again.
pub(crate) struct Bench<P> {
    driver: Driver<P>,
    request: Option<Prepared>,
}

impl<P: Platform> Bench<P> {
    pub(crate) fn new(
        platform: P,
        algorithm: u32,
        direction: Direction,
        iv: &[u8],
        len: usize,
    ) -> anyhow::Result<Self> {
        let options = Options { guard: false, ..Options::default() };
        let mut driver = Driver::new(platform, options)?;
        let key = Parameters::Cipher(CipherKey { algorithm, direction, key: KEY.to_vec() });
        let session = driver.create_session(&key)?;
        let src = vec![0x5a; len];
        let operation = Operation::Cipher { direction, iv, src: &src };
        let encoded = driver.encode(Target::Session(session), &operation)?;
        let request = driver.prepare(0, &encoded)?;
        Ok(Self { driver, request: Some(request) })
    }

    /// Doorbell to completion.
    pub(crate) fn round_trip(&mut self) -> anyhow::Result<()> {
        let request = self.request.take().ok_or_else(|| anyhow::anyhow!("no request"))?;
        let ticket = self.driver.post(0, request).map_err(|(error, _)| error)?;
        self.driver.kick(0)?;
        let finished = self.driver.wait(ticket)?;
        anyhow::ensure!(finished.status.is_none(), "the device answers {:?}", finished.status);
        self.request = Some(finished.request);
        Ok(())
    }
}
