//! Everything outside a model, as one trait.

use std::any::Any;
use std::fmt;

/// Nanoseconds since an origin of the host's choosing. Virtual in a simulation.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Nanos(pub u64);

impl Nanos {
    /// This instant plus `nanos`, saturating.
    #[must_use]
    pub fn plus(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}

/// An interrupt vector of the function, from 0. With INTx there is only vector 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Vector(pub u16);

/// How the driver has set up the function's interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum InterruptMode {
    /// Neither MSI nor MSI-X is enabled: the INTx line, a level.
    Intx,
    /// MSI with this many vectors allotted (a power of two, 1 to 32).
    Msi {
        /// Vectors the driver enabled; a model folds higher vectors as its hardware does.
        vectors: u16,
    },
    /// MSI-X with this many table entries.
    Msix {
        /// Size of the table.
        vectors: u16,
    },
}

/// Why a DMA access did not happen.
// A whole word, since results of DMA are told apart by it and passed on word by word: reading a word
// of which only a byte has just been written stalls the processor, which took a tenth of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[repr(u64)]
pub enum DmaFaultKind {
    /// No mapping covers the whole range.
    Unmapped,
    /// The mapping forbids this direction.
    Denied,
    /// The driver has not set Bus Master Enable.
    BusMasterDisabled,
    /// The memory went away, or the peer did not carry out the transfer.
    Failed,
}

/// A DMA access that did not happen. No byte of a faulted write is promised to be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("DMA {kind:?} at {iova:#x}+{len:#x}")]
pub struct DmaFault {
    /// First I/O virtual address of the access.
    pub iova: u64,
    /// Length in bytes.
    pub len: u64,
    /// Why.
    pub kind: DmaFaultKind,
}

/// Where in the shared ring engine a [`Bus::tap`] is taken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Tap {
    /// A descriptor or request entry was copied from guest memory and not looked at yet.
    Fetched,
    /// A completion entry is about to be written to guest memory.
    Completing,
}

/// What the ring engine does with an entry after a tap has seen, and perhaps edited, it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    /// Go on with the entry as it now is.
    Pass,
    /// Forget the entry: a fetched one is never executed, a completion is never written.
    Drop,
    /// Keep the entry and offer it again no earlier than this instant.
    Delay(Nanos),
    /// Handle the entry twice.
    Duplicate,
    /// Handle the entry after the next one of the same queue.
    Reorder,
}

/// Names a job in flight. Unique for the life of a model instance.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct JobId(pub u64);

/// What a job returns: plain owned data of the model's own type.
pub type JobOutput = Box<dyn Any + Send>;

/// Heavy work over owned buffers: a pure function that may run on another thread, or later.
///
/// A job sees no guest memory and no model state. Hosts run it at most once and give its output
/// back through [`DeviceModel::finish`](crate::DeviceModel::finish).
pub struct Job {
    work: Box<dyn FnOnce() -> JobOutput + Send>,
    bytes: usize,
}

impl Job {
    /// Wraps pure work.
    pub fn new<T: Any + Send>(work: impl FnOnce() -> T + Send + 'static) -> Self {
        Self { work: Box::new(move || Box::new(work())), bytes: 0 }
    }

    /// Says how many bytes of guests' data the work holds, so that hosts can bound what all do.
    #[must_use]
    pub fn holding(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// Bytes of guests' data that the work holds; 0 if nobody said.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Runs the work where the caller stands.
    #[must_use]
    pub fn run(self) -> JobOutput {
        (self.work)()
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}

/// A job's output on its way back to the model.
#[derive(Debug)]
pub struct FinishedJob {
    /// The id that [`Bus::submit`] returned.
    pub id: JobId,
    /// What the work returned.
    pub output: JobOutput,
}

impl FinishedJob {
    /// The output as the type that the model's job returned, or `None` if it is another.
    #[must_use]
    pub fn into_output<T: Any>(self) -> Option<T> {
        self.output.downcast::<T>().ok().map(|boxed| *boxed)
    }
}

/// The world as a model sees it. Handed to each call, never stored.
///
/// Addresses are I/O virtual addresses: whatever the driver put in a descriptor.
pub trait Bus {
    /// Copies guest memory at `iova` into `into`. All of it or an error; `into` is unspecified then.
    ///
    /// # Errors
    /// [`DmaFault`] if any byte of the range cannot be read.
    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), DmaFault>;

    /// Copies `from` to guest memory at `iova`.
    ///
    /// # Errors
    /// [`DmaFault`] if any byte of the range cannot be written.
    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), DmaFault>;

    /// Has `work` use guest memory where it is, once, and returns `true`; or does nothing and
    /// returns `false`, the default: then the memory is to be copied. `work` says whether it changed
    /// any of it. Only a host lends whose memory nothing else can touch meanwhile, such as a
    /// simulation: never one whose memory a guest has mapped. For scatter-gather cursors, which copy
    /// if need be.
    fn dma_lend(&mut self, iova: u64, len: usize, work: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
        let (_, _, _) = (iova, len, work);
        false
    }

    /// Orders all earlier DMA before all later DMA, in both directions: data before completion,
    /// index before the entries it covers.
    fn dma_fence(&mut self);

    /// Sends an MSI or MSI-X message, or pulses INTx if neither is enabled. Masked vectors become
    /// pending and are sent when unmasked. A vector beyond those enabled is dropped.
    fn raise(&mut self, vector: Vector);

    /// Drives the INTx line. Has an effect only while neither MSI nor MSI-X is enabled.
    fn set_intx(&mut self, asserted: bool);

    /// How the driver has set up interrupts just now.
    fn interrupt_mode(&self) -> InterruptMode;

    /// The host's clock.
    fn now(&self) -> Nanos;

    /// Hands out heavy work. Its output comes back through
    /// [`DeviceModel::finish`](crate::DeviceModel::finish), in any order.
    fn submit(&mut self, job: Job) -> JobId;

    /// Called by the shared ring engine only, at fixed points. The default lets everything pass.
    fn tap(&mut self, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        let (_, _, _) = (at, queue, entry);
        Verdict::Pass
    }

    /// Asked by the shared ring engine only, before it looks for an entry: whether the device may
    /// take from this queue now. The default lets it.
    fn may_fetch(&mut self, queue: u16) -> bool {
        let _ = queue;
        true
    }

    /// Copies a part of a [`SharedArea`](crate::SharedArea), which the client may have mapped, into
    /// `into`. The client can change it at any time.
    ///
    /// # Errors
    /// [`DmaFaultKind::Unmapped`] if the range is not inside one shared area of `bar`.
    fn shared_read(
        &mut self,
        bar: crate::Bar,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), DmaFault>;

    /// Copies `from` into a part of a [`SharedArea`](crate::SharedArea).
    ///
    /// # Errors
    /// [`DmaFaultKind::Unmapped`] if the range is not inside one shared area of `bar`.
    fn shared_write(&mut self, bar: crate::Bar, offset: u64, from: &[u8]) -> Result<(), DmaFault>;
}
