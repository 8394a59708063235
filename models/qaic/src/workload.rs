//! An active network: its device memory, and its runs.
//!
//! How a program for the real chip takes its inputs is the program's own business. Ours has its
//! inputs and then its outputs in device memory, each at a multiple of [`ALIGN`], and uses three
//! semaphores of its channel: [`START`], [`DONE`], [`FREE`].

use std::ops::Range;
use std::sync::Arc;

use understudy_device::{Bus, FinishedJob, Job, JobId};
use understudy_tensor::{Binding, Network, RunError};

use crate::bridge::Semaphores;

/// Inputs and outputs start at multiples of this.
pub const ALIGN: usize = 4096;
/// A run starts when it is above 0, and takes one away.
pub const START: usize = 0;
/// One is added when outputs are in memory, which they are put into while it is 0.
pub const DONE: usize = 1;
/// Is 1 at first; one is added when inputs were taken out of memory.
pub const FREE: usize = 2;

/// Distance of the device memories of activations.
const MEMORY_STRIDE: u64 = 1 << 32;
/// Device address of the first one.
const MEMORY_BASE: u64 = 1 << 36;
/// Device address of the doorbells.
const DOORBELL_BASE: u64 = 1 << 44;
/// Bytes of an activation's doorbells; all of them start a run.
const DOORBELL_LEN: u64 = 4096;

/// What one run gave.
type Outputs = Result<Vec<Vec<u8>>, RunError>;

/// Device addresses of an activation on this channel: of its memory, and of its doorbells.
pub(crate) fn addresses(channel: u16) -> (u64, u64) {
    let channel = u64::from(channel);
    (MEMORY_BASE + channel * MEMORY_STRIDE, DOORBELL_BASE + channel * DOORBELL_LEN)
}

/// Where inputs, and where outputs lie.
pub type Places = (Vec<Range<usize>>, Vec<Range<usize>>);

/// The same, and how long the memory is.
type Layout = (Vec<Range<usize>>, Vec<Range<usize>>, usize);

/// Places the bindings. `None` if they do not fit.
fn lay_out(network: &Network) -> Option<Layout> {
    let mut end = 0_usize;
    let mut place = |bindings: &[Binding]| -> Option<Vec<Range<usize>>> {
        let mut ranges = Vec::new();
        for binding in bindings {
            let start = end.checked_next_multiple_of(ALIGN)?;
            end = start.checked_add(binding.bytes)?;
            ranges.push(start..end);
        }
        Some(ranges)
    };
    let (inputs, outputs) = (place(network.inputs())?, place(network.outputs())?);
    let fits = u64::try_from(end).is_ok_and(|end| end <= MEMORY_STRIDE);
    fits.then_some((inputs, outputs, end))
}

/// Where inputs, and outputs, lie in the device memory of an activation. `None` for a network that
/// is too large to be activated.
#[must_use]
pub fn places(network: &Network) -> Option<Places> {
    lay_out(network).map(|(inputs, outputs, _)| (inputs, outputs))
}

/// Bytes of device memory that an activation takes.
pub(crate) fn memory_len(network: &Network) -> Option<u64> {
    lay_out(network).and_then(|(_, _, len)| u64::try_from(len).ok())
}

#[derive(Debug)]
enum Run {
    None,
    Running(JobId),
    /// Its outputs wait until the last ones were fetched.
    Finished(Vec<Vec<u8>>),
    /// It could not be computed. Nothing more happens.
    Crashed,
}

/// A network on a channel.
#[derive(Debug)]
pub(crate) struct Workload {
    network: Arc<Network>,
    memory: Vec<u8>,
    base: u64,
    doorbells: u64,
    inputs: Vec<Range<usize>>,
    outputs: Vec<Range<usize>>,
    /// Doorbells that were rung and have started no run yet.
    rung: u32,
    run: Run,
}

/// What a finished job means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// It is not this workload's.
    Other,
    /// Outputs are there.
    Run,
    /// The workload has crashed.
    Crash(String),
}

impl Workload {
    pub(crate) fn new(network: Arc<Network>, channel: u16) -> Option<Self> {
        let (inputs, outputs, len) = lay_out(&network)?;
        let (base, doorbells) = addresses(channel);
        let memory = vec![0; len];
        Some(Self { network, memory, base, doorbells, inputs, outputs, rung: 0, run: Run::None })
    }

    /// Device memory at an address, if all of it is there.
    pub(crate) fn memory(&mut self, address: u64, len: u32) -> Option<&mut [u8]> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.memory.get_mut(start..end)
    }

    /// A doorbell is rung. `false` if there is none at that address.
    pub(crate) fn ring(&mut self, address: u64, len: u64) -> bool {
        let offset = address.checked_sub(self.doorbells);
        let inside = offset.is_some_and(|offset| offset + len <= DOORBELL_LEN);
        self.rung = self.rung.saturating_add(u32::from(inside));
        inside
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.run, Run::Running(_))
    }

    pub(crate) fn is_crashed(&self) -> bool {
        matches!(self.run, Run::Crashed)
    }

    /// Starts a run, or puts the outputs of one into memory. `false` if there is nothing to do.
    pub(crate) fn step(&mut self, bus: &mut dyn Bus, semaphores: &mut Semaphores) -> bool {
        match std::mem::replace(&mut self.run, Run::None) {
            Run::Finished(outputs) if semaphores.get(DONE) == 0 => {
                for (range, output) in self.outputs.iter().zip(&outputs) {
                    if let Some(place) = self.memory.get_mut(range.clone()) {
                        // As long as their bindings, which the network sees to.
                        place.copy_from_slice(output);
                    }
                }
                semaphores.increment(DONE);
                true
            }
            Run::None if self.rung > 0 || semaphores.get(START) > 0 => {
                if self.rung > 0 {
                    self.rung -= 1;
                } else {
                    semaphores.decrement(START);
                }
                self.start(bus);
                semaphores.increment(FREE);
                true
            }
            other => {
                self.run = other;
                false
            }
        }
    }

    fn start(&mut self, bus: &mut dyn Bus) {
        let ranges = self.inputs.iter();
        let inputs: Vec<Vec<u8>> = ranges
            .map(|range| self.memory.get(range.clone()).unwrap_or_default().to_vec())
            .collect();
        let bytes = inputs.iter().map(Vec::len).sum();
        let network = Arc::clone(&self.network);
        let work = move || -> Outputs {
            let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            network.run(&inputs)
        };
        self.run = Run::Running(bus.submit(Job::new(work).holding(bytes)));
    }

    /// A job is done.
    pub(crate) fn finish(&mut self, done: &mut Option<FinishedJob>) -> Finished {
        let mine = |job: &FinishedJob| matches!(self.run, Run::Running(id) if id == job.id);
        let Some(done) = done.take_if(|job| mine(job)) else { return Finished::Other };
        match done.into_output::<Outputs>() {
            Some(Ok(outputs)) => {
                self.run = Run::Finished(outputs);
                Finished::Run
            }
            Some(Err(error)) => {
                self.run = Run::Crashed;
                Finished::Crash(error.to_string())
            }
            None => {
                self.run = Run::Crashed;
                Finished::Crash("the job gave something else".to_owned())
            }
        }
    }
}
