//! The driver's platform, which knows what memory the device may access.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use understudy_client::{
    Activity, DmaBuffer, Interrupts, Platform, PlatformError, SimulationPlatform,
};
use understudy_device::{Bar, DmaFaultKind, Nanos, Vocabulary};
use understudy_simulation::{DmaAccess, Hooks, Simulation};

use crate::planted::Bug;

/// Strays that are remembered; the first matters.
const MAX_STRAYS: usize = 8;

/// What the driver has given to the device, and what the device accessed beside it.
#[derive(Debug, Default)]
struct Granted {
    /// Start and length.
    ranges: BTreeMap<u64, u64>,
    strays: Vec<String>,
    /// What the device wrote, if somebody wants to know.
    written: Option<Vec<Written>>,
}

/// A write of the device to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Virtual time in nanoseconds.
    pub at: u64,
    /// First address.
    pub iova: u64,
    /// Bytes.
    pub len: u64,
}

/// Looks at each access, and lets all pass.
struct Watching(Arc<Mutex<Granted>>);

impl Hooks for Watching {
    fn dma(&mut self, now: Nanos, access: DmaAccess) -> Result<(), DmaFaultKind> {
        let DmaAccess { write, iova, len } = access;
        let mut granted = lock(&self.0);
        if let Some(written) = granted.written.as_mut().filter(|_| write) {
            written.push(Written { at: now.0, iova, len });
        }
        let range = granted.ranges.range(..=iova).next_back();
        let inside = range.is_some_and(|(start, room)| {
            iova.checked_add(len).is_some_and(|end| end <= start + room)
        });
        if !inside && len > 0 && granted.strays.len() < MAX_STRAYS {
            let verb = if write { "wrote" } else { "read" };
            let what =
                format!("the device {verb} {len} bytes at {iova:#x}, which it was not given");
            granted.strays.push(what);
        }
        Ok(())
    }
}

fn lock(granted: &Mutex<Granted>) -> MutexGuard<'_, Granted> {
    granted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A platform in a simulation, shared by the run and its driver: a driver that fails takes its
/// platform with it. All memory is given back when a driver is abandoned.
#[derive(Clone)]
pub(crate) struct Watched(Rc<RefCell<Inner>>);

struct Inner {
    platform: SimulationPlatform,
    granted: Arc<Mutex<Granted>>,
    vocabulary: &'static Vocabulary,
    bug: Option<Bug>,
    doorbells: u64,
    writes: u64,
    /// Waits since the driver last did something.
    waits: u32,
    accesses: u64,
    /// The last wait for an interrupt was in vain.
    vain: bool,
}

/// Virtual time that taking an interrupt costs: an interrupt that is there at once, again and again,
/// does not stop the clock.
const INTERRUPT_NANOS: u64 = 1_000;
/// Accesses and waits of the drivers of one run. Whoever needs more goes round in circles.
const MAX_ACCESSES: u64 = 2_000_000;
/// A driver that only waits sees the clock run faster after so many waits, by so many nanoseconds
/// each, and ever faster: a long wait costs few steps.
const PATIENT_WAITS: u32 = 256;
const LEAP_NANOS: u64 = 100_000;

impl Watched {
    pub(crate) fn new(
        mut platform: SimulationPlatform,
        vocabulary: &'static Vocabulary,
        bug: Option<Bug>,
    ) -> Self {
        let granted = Arc::new(Mutex::new(Granted::default()));
        let hooks = Box::new(Watching(Arc::clone(&granted)));
        platform.simulation().host_mut().set_hooks(Some(hooks));
        let inner = Inner {
            platform,
            granted,
            vocabulary,
            bug,
            doorbells: 0,
            writes: 0,
            waits: 0,
            accesses: 0,
            vain: false,
        };
        Self(Rc::new(RefCell::new(inner)))
    }

    /// Does something to the simulation.
    pub(crate) fn simulation<T>(&self, act: impl FnOnce(&mut Simulation) -> T) -> T {
        act(self.0.borrow_mut().platform.simulation())
    }

    /// What the device accessed and may not; forgets it.
    pub(crate) fn take_strays(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0.borrow().granted).strays)
    }

    /// What the device wrote since the last call, which is when that began to be noted.
    pub(crate) fn take_written(&self) -> Vec<Written> {
        let inner = self.0.borrow();
        let before = lock(&inner.granted).written.replace(Vec::new());
        before.unwrap_or_default()
    }

    /// Whether drivers have used up what a run may do: all their accesses fail from then on.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.0.borrow().accesses > MAX_ACCESSES
    }

    /// Whether the driver last waited for an interrupt in vain; forgets it.
    pub(crate) fn take_vain(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().vain)
    }

    /// The driver is gone, and its memory with it.
    pub(crate) fn free_all(&self) {
        let mut inner = self.0.borrow_mut();
        let ranges = std::mem::take(&mut lock(&inner.granted).ranges);
        for (iova, len) in ranges {
            let len = usize::try_from(len).unwrap_or(0);
            inner.platform.dma_free(DmaBuffer { iova, len });
        }
    }
}

impl Inner {
    /// One more access or wait.
    fn spend(&mut self) -> Result<(), PlatformError> {
        self.accesses = self.accesses.saturating_add(1);
        if self.accesses > MAX_ACCESSES { Err(PlatformError::Gone) } else { Ok(()) }
    }

    fn idle(&mut self, deadline: Nanos) -> Result<Activity, PlatformError> {
        self.spend()?;
        self.waits = self.waits.saturating_add(1);
        if self.waits > PATIENT_WAITS {
            let faster = ((self.waits - PATIENT_WAITS) / 64).min(7);
            let leap = self.platform.now().plus(LEAP_NANOS << faster).min(deadline);
            self.platform.simulation().host_mut().advance_to(leap);
        }
        self.platform.idle(deadline)
    }

    fn wait_interrupt(&mut self, vector: u16, deadline: Nanos) -> Result<bool, PlatformError> {
        loop {
            // Looks before it waits, and after: with a deadline that is over, it waits for one step.
            let now = self.platform.now();
            if self.platform.wait_interrupt(vector, now)? {
                return Ok(true);
            }
            if self.idle(deadline)? == Activity::Quiet || self.platform.now() >= deadline {
                let now = self.platform.now();
                return self.platform.wait_interrupt(vector, now);
            }
        }
    }
}

/// As on the bus: what nobody answers reads as it does, and a driver goes on.
fn as_on_the_bus(done: Result<(), PlatformError>) -> Result<(), PlatformError> {
    match done {
        Err(PlatformError::Refused(_)) => Ok(()),
        done => done,
    }
}

impl Platform for Watched {
    fn config_size(&self) -> u64 {
        self.0.borrow().platform.config_size()
    }

    fn config_read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.0.borrow_mut().platform.config_read(offset, into)
    }

    fn config_write(&mut self, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.0.borrow_mut().platform.config_write(offset, from)
    }

    fn bar_read(&mut self, bar: u8, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        let mut inner = self.0.borrow_mut();
        inner.spend()?;
        as_on_the_bus(inner.platform.bar_read(bar, offset, into))
    }

    fn bar_write(&mut self, bar: u8, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        let mut inner = self.0.borrow_mut();
        inner.spend()?;
        inner.waits = 0;
        let mut bells = inner.vocabulary.doorbells.iter();
        if bells.any(|bell| bell.queue(Bar(bar), offset).is_some()) {
            inner.doorbells += 1;
            if inner.bug == Some(Bug::DriverSkipsDoorbell) && inner.doorbells.is_multiple_of(3) {
                return Ok(());
            }
        }
        as_on_the_bus(inner.platform.bar_write(bar, offset, from))
    }

    fn dma_alloc(&mut self, len: usize, align: usize) -> Result<DmaBuffer, PlatformError> {
        let mut inner = self.0.borrow_mut();
        let buffer = inner.platform.dma_alloc(len, align)?;
        lock(&inner.granted).ranges.insert(buffer.iova, buffer.len.max(1) as u64);
        Ok(buffer)
    }

    fn dma_free(&mut self, buffer: DmaBuffer) {
        let mut inner = self.0.borrow_mut();
        let held = lock(&inner.granted).ranges.remove(&buffer.iova).is_some();
        if held {
            inner.platform.dma_free(buffer);
        }
    }

    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.0.borrow_mut().platform.dma_read(iova, into)
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), PlatformError> {
        let mut inner = self.0.borrow_mut();
        if inner.bug == Some(Bug::DriverTearsBuffer) && from.len() >= 32 {
            inner.writes += 1;
            if inner.writes.is_multiple_of(11) {
                return inner.platform.dma_write(iova, &from[..from.len() / 2]);
            }
        }
        inner.platform.dma_write(iova, from)
    }

    fn fence(&mut self) {
        self.0.borrow_mut().platform.fence();
    }

    fn connect_interrupts(&mut self, interrupts: Interrupts) -> Result<(), PlatformError> {
        self.0.borrow_mut().platform.connect_interrupts(interrupts)
    }

    fn unmask_intx(&mut self) -> Result<(), PlatformError> {
        self.0.borrow_mut().platform.unmask_intx()
    }

    fn wait_interrupt(&mut self, vector: u16, deadline: Nanos) -> Result<bool, PlatformError> {
        let mut inner = self.0.borrow_mut();
        let came = inner.wait_interrupt(vector, deadline)?;
        inner.vain = !came;
        if came {
            let after = inner.platform.now().plus(INTERRUPT_NANOS);
            inner.platform.simulation().host_mut().advance_to(after);
        }
        Ok(came)
    }

    fn idle(&mut self, deadline: Nanos) -> Result<Activity, PlatformError> {
        self.0.borrow_mut().idle(deadline)
    }

    fn now(&self) -> Nanos {
        self.0.borrow().platform.now()
    }
}
