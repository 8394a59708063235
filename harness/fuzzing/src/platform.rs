//! A driver's platform over a steered model, and what watches the driver.

use std::fmt;

use understudy_client::{Activity, DmaBuffer, Interrupts, Platform, PlatformError};
use understudy_device::{AccessError, Bar, DeviceModel, Nanos, Progress};
use understudy_pci::{Irq, PciFunction};

use crate::defect::{Defect, DefectKind, Overrun};
use crate::program::{Program, Site};
use crate::world::{Place, World, finish_job, hex};

/// Calls of the platform in one run, unless the target says otherwise: what does more hangs.
pub const DEFAULT_BUDGET: u32 = 50_000;
/// Virtual time of one access, in nanoseconds.
const ACCESS_NANOS: u64 = 100;
/// The same past half the budget: whoever looks with a limit of time comes to it, a few seconds, before
/// the budget is spent. What is left is work without end.
const LATE_ACCESS_NANOS: u64 = 1_000_000;
/// Virtual time of a turn in which the device works, in nanoseconds.
const WORK_NANOS: u64 = 50_000;
/// Virtual time of a turn in which it does nothing though it should, or interrupts for nothing:
/// whoever waits with a limit comes to it in few turns.
const STALL_NANOS: u64 = 1_000_000;
/// Entries' worth of work of one turn.
const POLL_BUDGET: u32 = 64;

/// A function that follows a [`Program`], seen from its driver.
///
/// What the driver does is watched: it may touch only DMA memory that it holds, must give each
/// buffer back once, and must come to an end. The first of its defects is kept.
pub struct FuzzPlatform {
    function: PciFunction,
    world: World,
    budget: u32,
    spent: u32,
    /// What the driver did last, for hangs.
    last: (&'static str, u64),
    unwinds: bool,
}

impl FuzzPlatform {
    /// A platform with a model at power-on, and a device that keeps to its specification.
    ///
    /// # Errors
    /// If the model is no PCI function, or there is no memory.
    pub fn new(model: Box<dyn DeviceModel>) -> Result<Self, String> {
        let function = PciFunction::new(model).map_err(|error| error.to_string())?;
        let mut world = World::new()?;
        world.restart(function.identity(), &Program::default(), false);
        let (budget, last) = (DEFAULT_BUDGET, ("nothing", 0));
        Ok(Self { function, world, budget, spent: 0, last, unwinds: true })
    }

    /// Starts over with a fresh model, as if nothing had been before. With `trace`, writes down
    /// what happens.
    ///
    /// # Errors
    /// If the model is no PCI function.
    pub fn restart(
        &mut self,
        model: Box<dyn DeviceModel>,
        program: &Program,
        trace: bool,
    ) -> Result<(), String> {
        self.function = PciFunction::new(model).map_err(|error| error.to_string())?;
        self.world.restart(self.function.identity(), program, trace);
        self.spent = 0;
        self.last = ("nothing", 0);
        Ok(())
    }

    /// Changes how many calls of the platform a run may make.
    pub fn set_budget(&mut self, calls: u32) {
        self.budget = calls;
    }

    /// For drivers in other languages: past the budget, accesses fail and the defect stands, but
    /// nothing is unwound. Buffers get bytes around them that must stay as they are.
    pub fn for_foreign_code(&mut self) {
        self.unwinds = false;
        self.world.guard();
    }

    /// The address of DMA memory in this process, and the device's address of the same byte.
    #[must_use]
    pub fn memory(&self) -> (*mut u8, u64) {
        (self.world.address(), crate::world::MEMORY_BASE)
    }

    /// Says that the driver is wrong by its own account: a request completed twice, a result that
    /// cannot be. `clause` names the rule, the same for the same mistake.
    pub fn wrong(&mut self, clause: &str, detail: impl Into<String>) {
        self.world.report(DefectKind::Logic, clause, detail);
    }

    /// The first defect so far.
    #[must_use]
    pub fn defect(&self) -> Option<&Defect> {
        self.world.defect.as_ref()
    }

    /// Buffers, and bytes in them, that were not given back.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        self.world.held()
    }

    /// Steps between driver and device so far.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.world.steering.steps()
    }

    /// Acts of the program that have happened.
    #[must_use]
    pub fn fired(&self) -> u32 {
        self.world.steering.fired()
    }

    /// The driver is done: looks for what it left behind. Leaks count if `must_free`.
    pub fn end(&mut self, must_free: bool) {
        self.world.check_all();
        let (count, bytes) = self.held();
        if must_free && count > 0 {
            let detail = format!("{count} buffers, {bytes} bytes");
            self.world.report(DefectKind::Leak, "DMA buffers are not given back", detail);
        }
    }

    /// Ends the run: its first defect, and the trace if there is one.
    pub fn finish(&mut self) -> (Option<Defect>, Vec<String>) {
        let defect = self.world.defect.take();
        (defect, self.world.take_trace())
    }

    /// What came after what, counted.
    pub(crate) fn map(&self) -> &[u8] {
        self.world.map.as_slice()
    }

    /// Reports work without end, for runs that were unwound.
    pub(crate) fn overrun(&mut self) {
        let (what, place) = self.last;
        let clause = format!("no end of {what} at {place:#x}");
        let detail = format!("after {} calls of the platform", self.spent);
        self.world.report(DefectKind::Hang, &clause, detail);
    }

    /// Counts a call. Past the budget, the driver is taken out of whatever it does.
    fn spend(&mut self, what: &'static str, place: u64) -> Result<(), PlatformError> {
        self.spent = self.spent.saturating_add(1);
        let late = self.spent > self.budget / 2;
        self.world.pass(if late { LATE_ACCESS_NANOS } else { ACCESS_NANOS });
        self.last = (what, place);
        if self.spent > self.budget {
            if self.unwinds {
                std::panic::resume_unwind(Box::new(Overrun));
            }
            self.overrun();
            return Err(PlatformError::Gone);
        }
        Ok(())
    }

    /// Checks an access of the driver to memory.
    fn owned(&mut self, iova: u64, len: usize, what: &str) -> Result<usize, PlatformError> {
        match self.world.place(iova, len) {
            Place::Live(start) => Ok(start),
            place => {
                let clause = match place {
                    Place::Freed => format!("the driver {what} DMA memory that it gave back"),
                    _ => format!("the driver {what} outside its DMA memory"),
                };
                self.world.report(DefectKind::Memory, &clause, format!("{iova:#x}+{len:#x}"));
                Err(PlatformError::OutsideMemory { iova, len })
            }
        }
    }

    /// Lets the device work once. What it says of more to come.
    fn turn(&mut self) -> Progress {
        let turn = self.world.turn();
        if turn.gone {
            self.world.gone = true;
        }
        if turn.reset {
            self.function.reset(understudy_device::ResetKind::Function);
        }
        if self.world.gone {
            return Progress::Idle;
        }
        if turn.stall || turn.idle {
            self.world.pass(STALL_NANOS);
        }
        if turn.stall {
            return Progress::More;
        }
        if let Some(done) = finish_job(&mut self.world) {
            self.function.finish(&mut self.world, done);
            return Progress::More;
        }
        let progress = match self.function.poll(&mut self.world, POLL_BUDGET) {
            Progress::More => return Progress::More,
            other => self.function.park(&mut self.world).sooner(other),
        };
        if self.world.jobs.is_empty() { progress } else { Progress::More }
    }
}

fn refused(error: AccessError) -> PlatformError {
    PlatformError::Refused(error.to_string())
}

fn irq(interrupts: Interrupts) -> Option<Irq> {
    match interrupts {
        Interrupts::None => None,
        Interrupts::Intx => Some(Irq::Intx),
        Interrupts::Msi(_) => Some(Irq::Msi),
        Interrupts::Msix(_) => Some(Irq::Msix),
    }
}

impl Platform for FuzzPlatform {
    fn config_size(&self) -> u64 {
        self.function.config_size()
    }

    fn config_read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.spend("reads of config space", 0)?;
        self.world.seen(Site::Config, offset);
        if self.world.gone {
            into.fill(0xff);
            return Ok(());
        }
        self.function.config_read(&mut self.world, offset, into).map_err(refused)?;
        self.world.steer(Site::Config, into);
        self.world.note(|| format!("config {offset:#x} is {}", hex(into)));
        Ok(())
    }

    fn config_write(&mut self, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.spend("writes of config space", 0)?;
        self.world.seen(Site::Config, offset | 1 << 32);
        self.world.note(|| format!("config {offset:#x} := {}", hex(from)));
        if self.world.gone {
            return Ok(());
        }
        self.function.config_write(&mut self.world, offset, from).map_err(refused)
    }

    fn bar_read(&mut self, bar: u8, offset: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.spend("register reads", offset)?;
        self.world.seen(Site::Register, offset);
        if self.world.gone {
            into.fill(0xff);
            return Ok(());
        }
        self.function.bar_read(&mut self.world, Bar(bar), offset, into).map_err(refused)?;
        self.world.steer(Site::Register, into);
        self.world.note(|| format!("bar {bar} {offset:#x} is {}", hex(into)));
        Ok(())
    }

    fn bar_write(&mut self, bar: u8, offset: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.spend("register writes", offset)?;
        self.world.seen(Site::Register, offset | 1 << 32);
        self.world.note(|| format!("bar {bar} {offset:#x} := {}", hex(from)));
        if self.world.gone {
            return Ok(());
        }
        self.function.bar_write(&mut self.world, Bar(bar), offset, from).map_err(refused)
    }

    fn dma_alloc(&mut self, len: usize, align: usize) -> Result<DmaBuffer, PlatformError> {
        self.spend("allocations", 0)?;
        let iova = self.world.alloc(len, align).ok_or(PlatformError::OutOfMemory { len })?;
        self.world.note(|| format!("alloc {len} bytes: {iova:#x}"));
        Ok(DmaBuffer { iova, len })
    }

    fn dma_free(&mut self, buffer: DmaBuffer) {
        self.world.note(|| format!("free {:#x}", buffer.iova));
        if !self.world.free(buffer.iova) {
            let detail = format!("{:#x}", buffer.iova);
            let clause = "the driver gives back a DMA buffer that it does not hold";
            self.world.report(DefectKind::Memory, clause, detail);
        }
    }

    fn dma_read(&mut self, iova: u64, into: &mut [u8]) -> Result<(), PlatformError> {
        self.spend("looks at memory", 0)?;
        let start = self.owned(iova, into.len(), "reads")?;
        self.world.copy_out(start, into);
        if into.len() <= 64 && !self.world.gone {
            let fired = self.fired();
            self.world.steer(Site::Look, into);
            if self.fired() != fired {
                self.world.copy_in(start, into);
            }
        }
        self.world.note(|| format!("driver sees {} at {iova:#x}", hex(into)));
        Ok(())
    }

    fn dma_write(&mut self, iova: u64, from: &[u8]) -> Result<(), PlatformError> {
        self.spend("writes of memory", 0)?;
        let start = self.owned(iova, from.len(), "writes")?;
        self.world.copy_in(start, from);
        self.world.note(|| format!("driver puts {} at {iova:#x}", hex(from)));
        Ok(())
    }

    fn fence(&mut self) {}

    fn connect_interrupts(&mut self, interrupts: Interrupts) -> Result<(), PlatformError> {
        self.spend("connections of interrupts", 0)?;
        let kind = irq(interrupts);
        if kind.is_some_and(|kind| self.function.irq_count(kind) == 0) {
            return Err(PlatformError::NoInterrupts);
        }
        self.world.connected = kind;
        self.world.forget_interrupts();
        self.function.triggers_changed(&mut self.world);
        Ok(())
    }

    fn unmask_intx(&mut self) -> Result<(), PlatformError> {
        self.spend("unmasking", 0)?;
        // A line that was up when the device went is up no longer.
        if self.world.gone {
            return Ok(());
        }
        self.function.set_irq_mask(&mut self.world, Irq::Intx, 0, 1, false);
        Ok(())
    }

    fn wait_interrupt(&mut self, vector: u16, deadline: Nanos) -> Result<bool, PlatformError> {
        loop {
            if self.world.take_interrupt(vector) {
                return Ok(true);
            }
            if self.idle(deadline)? == Activity::Quiet || self.now() >= deadline {
                return Ok(self.world.take_interrupt(vector));
            }
        }
    }

    fn idle(&mut self, deadline: Nanos) -> Result<Activity, PlatformError> {
        self.spend("waits", 0)?;
        self.world.seen(Site::Turn, 0);
        self.world.pass(WORK_NANOS);
        // The turn is a step itself.
        let before = self.steps().saturating_add(1);
        match self.turn() {
            Progress::More => Ok(Activity::Active),
            // It has just done something: whoever waited looks first, with its time left.
            Progress::Idle if self.steps() > before => Ok(Activity::Active),
            Progress::Until(instant) => {
                self.world.pass_until(instant.min(deadline));
                Ok(Activity::Active)
            }
            Progress::Idle => {
                // Nothing will come: whoever waits anyway waits as long as it wants to.
                self.world.pass_until(deadline);
                Ok(Activity::Quiet)
            }
        }
    }

    fn now(&self) -> Nanos {
        Nanos(self.world.clock())
    }
}

impl fmt::Debug for FuzzPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FuzzPlatform").field("steps", &self.steps()).finish_non_exhaustive()
    }
}
