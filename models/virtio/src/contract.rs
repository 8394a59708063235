//! What a device type brings: its description, its configuration, and what a request does.

use understudy_device::{
    AccessError, Bar, Bus, Counter, FinishedJob, JobId, RegisterState, ResetKind,
};

use crate::queue::Request;
#[cfg(doc)]
use crate::{queue, registers::MAX_QUEUES};
#[cfg(doc)]
use understudy_device::State;

/// What a virtio device is, as data.
#[derive(Debug, Clone)]
pub struct Description {
    /// Name of the model (`virtio-crypto`).
    pub name: &'static str,
    /// Virtio device id (virtio 1.3 §5).
    pub device_id: u16,
    /// PCI class code, as `0xbbsspp`.
    pub class_code: u32,
    /// Feature bits of the device type; the transport adds its own.
    pub features: u64,
    /// Queues in index order, 1 to [`MAX_QUEUES`].
    pub queues: Vec<QueueSpec>,
}

/// One queue of a device.
#[derive(Debug, Clone)]
pub struct QueueSpec {
    /// Name in reports (`controlq`).
    pub name: String,
    /// Most entries: a power of two up to 32768.
    pub max_size: u16,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; so many bytes of the writable part were written.
    Done(u32),
    /// The request goes on when this job is finished.
    Pending(JobId),
    /// The device cannot answer: it needs a reset, for this reason.
    Broken(&'static str),
}

/// What is unique to one type of virtio device.
///
/// A device sees requests as byte streams, and neither queues nor interrupts nor registers.
pub trait VirtioDevice: Send {
    /// What the device is. Constant.
    fn description(&self) -> &Description;

    /// Features of the transport that are not to be offered, of
    /// [`feature::TRANSPORT`](crate::feature::TRANSPORT). Constant.
    fn withheld(&self) -> u64 {
        0
    }

    /// Whether the device works with these features: a subset of those offered, with
    /// `VIRTIO_F_VERSION_1`. Called when the driver sets `FEATURES_OK`.
    fn accepts(&self, features: u64) -> bool {
        let _ = features;
        true
    }

    /// The driver is ready (`DRIVER_OK`) and has accepted these features.
    fn start(&mut self, features: u64);

    /// Reads the device configuration; bytes past its end stay as they are.
    ///
    /// # Errors
    /// [`AccessError::Unmapped`] if nothing is there.
    fn read_config(
        &mut self,
        bus: &mut dyn Bus,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError>;

    /// Writes the device configuration.
    ///
    /// # Errors
    /// [`AccessError::Unmapped`] if nothing is there that takes writes.
    fn write_config(
        &mut self,
        bus: &mut dyn Bus,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let (_, _) = (bus, data);
        Err(AccessError::Unmapped { offset })
    }

    /// Whether the device configuration has changed on its own since this was last asked. Asked
    /// after requests and jobs; the driver is told.
    fn take_config_change(&mut self) -> bool {
        false
    }

    /// Executes a request: reads its readable and writes its writable part.
    fn execute(&mut self, bus: &mut dyn Bus, request: &mut Request) -> Outcome;

    /// A job that [`execute`](Self::execute) submitted for this request is done. Not called if
    /// the device or the queue was reset meanwhile.
    fn finish(&mut self, bus: &mut dyn Bus, request: &mut Request, done: FinishedJob) -> Outcome {
        let (_, _, _) = (bus, request, done);
        Outcome::Broken("no job was submitted")
    }

    /// Forgets everything but parameters; counters too at power-on.
    fn reset(&mut self, kind: ResetKind);

    /// The device configuration for [`State`], lying at `base` of `bar`.
    fn config_state(&self, bar: Bar, base: u64) -> Vec<RegisterState>;

    /// Counters in a fixed order.
    fn counters(&self) -> Vec<Counter>;
}
