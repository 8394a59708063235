//! A device that answers anything: the driver says what is wrong, or works; it neither panics nor
//! hangs.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_client::virtio::{Completion, QueueOptions};
use understudy_client::virtio_crypto::{
    CipherKey, Direction, Driver, Options, Parameters, Target, cipher,
};
use understudy_client::{
    Activity, DmaBuffer, DriverError, Interrupts, Platform, PlatformError, SimulationPlatform,
};
use understudy_device::Nanos;
use understudy_virtio_crypto::{Parameters as DeviceParameters, VirtioCrypto};

/// Changes what the driver reads, now and then.
struct Liar {
    inner: SimulationPlatform,
    /// Lies from this read on.
    after: u32,
    /// One read in so many is a lie.
    every: u32,
    reads: u32,
    random: ChaCha8Rng,
}

impl Liar {
    fn lie(&mut self, data: &mut [u8]) {
        self.reads += 1;
        let honest = self.reads < self.after || !self.random.random_ratio(1, self.every);
        if data.is_empty() || honest {
            return;
        }
        let at = self.random.random_range(0..data.len());
        match self.random.random_range(0..4) {
            0 => data[at] ^= 1 << self.random.random_range(0..8),
            1 => data[at] = self.random.random(),
            2 => data.fill(0xff),
            _ => data.fill(0),
        }
    }
}

impl Platform for Liar {
    fn config_size(&self) -> u64 {
        self.inner.config_size()
    }

    fn config_read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.inner.config_read(offset, into)?;
        self.lie(into);
        Ok(())
    }

    fn config_write(&mut self, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.inner.config_write(offset, from)
    }

    fn bar_read(&mut self, bar: u8, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.inner.bar_read(bar, offset, into)?;
        self.lie(into);
        Ok(())
    }

    fn bar_write(&mut self, bar: u8, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.inner.bar_write(bar, offset, from)
    }

    fn dma_alloc(&mut self, len: usize, align: usize) -> Result<DmaBuffer, PlatformError> {
        self.inner.dma_alloc(len, align)
    }

    fn dma_free(&mut self, buffer: DmaBuffer) {
        self.inner.dma_free(buffer);
    }

    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.inner.dma_read(iova, into)?;
        self.lie(into);
        Ok(())
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.inner.dma_write(iova, from)
    }

    fn fence(&mut self) {
        self.inner.fence();
    }

    fn connect_interrupts(&mut self, interrupts: Interrupts) -> Result<(), PlatformError> {
        self.inner.connect_interrupts(interrupts)
    }

    fn unmask_intx(&mut self) -> Result<(), PlatformError> {
        self.inner.unmask_intx()
    }

    fn wait_interrupt(&mut self, vector: u16, deadline: Nanos) -> Result<bool, PlatformError> {
        self.inner.wait_interrupt(vector, deadline)
    }

    fn idle(&mut self, deadline: Nanos) -> Result<Activity, PlatformError> {
        self.inner.idle(deadline)
    }

    fn now(&self) -> Nanos {
        self.inner.now()
    }
}

fn drive(platform: Liar, options: Options) -> Result<usize, DriverError> {
    let mut driver = Driver::new(platform, options)?;
    let direction = Direction::Encrypt;
    let key = CipherKey { algorithm: cipher::AES_CBC, direction, key: vec![7; 16] };
    let key = Parameters::Cipher(key);
    let mut done = 0;
    for round in 0..30 {
        let session = driver.create_session(&key);
        let target = match &session {
            Ok(session) if round % 2 == 0 => Target::Session(*session),
            _ => Target::Stateless(&key),
        };
        let result = driver.cipher(target, direction, &[0; 16], &[9; 64]);
        done += usize::from(result.is_ok());
        if let Ok(session) = session {
            let _ = driver.destroy_session(session);
        }
    }
    driver.shut_down()?;
    Ok(done)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_lie_makes_the_driver_panic_or_hang(
        seed: u64,
        after in 0u32..600,
        every in 1u32..200,
        flags: [bool; 3],
        how in prop::sample::select(vec![Completion::Polling, Completion::Intx, Completion::Msix]),
    ) {
        let model = Box::new(VirtioCrypto::new(DeviceParameters::default()).unwrap());
        let inner = SimulationPlatform::new(model, seed).unwrap();
        let platform = Liar { inner, after, every, reads: 0, random: ChaCha8Rng::seed_from_u64(seed) };
        let [packed, indirect, event_idx] = flags;
        let queues = QueueOptions { packed, indirect, event_idx };
        let options = Options { queues, completion: how, ..Options::default() };
        // Any outcome is fine; that there is one is the test.
        let _ = drive(platform, options);
    }
}

#[test]
fn without_lies_it_works() {
    let model = Box::new(VirtioCrypto::new(DeviceParameters::default()).unwrap());
    let inner = SimulationPlatform::new(model, 1).unwrap();
    let platform =
        Liar { inner, after: u32::MAX, every: 1, reads: 0, random: ChaCha8Rng::seed_from_u64(1) };
    assert_eq!(drive(platform, Options::default()).unwrap(), 30);
}
