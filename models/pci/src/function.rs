//! The function: routes accesses, gates what the model does.

mod gate;

use understudy_device::{
    AccessError, Bar, Bus, Counter, DeviceModel, FinishedJob, Identity, IdentityError, Progress,
    ResetKind, State,
};

use crate::config_space::{ConfigSpace, Effect};
use crate::interpose::{Access, Action, Interposer, Region, Route};
use crate::interrupts::Interrupts;
use crate::jobs::Jobs;
use crate::msix::{Decoded, Part};
use crate::registers::header;
use crate::{Host, Irq};
use gate::Gate;

/// A model with its PCI config space and interrupts.
pub struct PciFunction {
    model: Box<dyn DeviceModel>,
    shell: Shell,
}

/// The function without its model.
struct Shell {
    config: ConfigSpace,
    interrupts: Interrupts,
    jobs: Jobs,
    stale_jobs: u64,
    function_resets: u64,
    interposer: Option<Box<dyn Interposer>>,
}

/// Actions of an interposer in one go, so that it cannot keep the host to itself.
const MAX_ACTIONS: usize = 64;

/// What an access to a BAR reaches.
enum Target {
    Msix(Part),
    Shared,
    Model,
}

impl PciFunction {
    /// Wraps a model, checking its identity. All state is at power-on.
    ///
    /// # Errors
    /// [`IdentityError`] if the identity cannot be a PCI function.
    pub fn new(model: Box<dyn DeviceModel>) -> Result<Self, IdentityError> {
        let identity = model.identity();
        identity.validate()?;
        let shell = Shell {
            config: ConfigSpace::new(identity)?,
            interrupts: Interrupts::new(identity),
            jobs: Jobs::default(),
            stale_jobs: 0,
            function_resets: 0,
            interposer: None,
        };
        Ok(Self { model, shell })
    }

    /// What the function is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.model.identity()
    }

    /// Size of config space in bytes: 4096 for PCI Express, else 256.
    #[must_use]
    pub fn config_size(&self) -> u64 {
        self.shell.config.len() as u64
    }

    /// Reads config space, any length at any offset. A read that touches `pci_cfg_data` of a virtio
    /// config window first reads the BAR it points to, whether or not memory space is enabled.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] past its end; `data` is then all ones.
    pub fn config_read(
        &mut self,
        host: &mut dyn Host,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let start = self.config_range(offset, data.len()).inspect_err(|_| data.fill(0xff))?;
        let access = Access { region: Region::Config, offset, write: false };
        if self.shell.route(host, access, data) == Route::Absorb {
            return Ok(());
        }
        if self.shell.config.touches_window(start, data.len()) {
            self.window_read(host);
        }
        for (byte, at) in data.iter_mut().zip(start..) {
            *byte = self.shell.config_byte(at);
        }
        self.shell.answer(host, access, data);
        self.act(host);
        Ok(())
    }

    /// Writes config space, any length at any offset, as if byte by byte in ascending order. May
    /// deliver pending interrupts (function mask cleared, MSI-X or Bus Master enabled) or reset the
    /// function (FLR). A write that touches `pci_cfg_data` of a virtio config window then writes
    /// the BAR it points to, once.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] past its end; nothing was written.
    pub fn config_write(
        &mut self,
        host: &mut dyn Host,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let start = self.config_range(offset, data.len())?;
        if self.shell.interposer.is_some() {
            let mut data = data.to_vec();
            let access = Access { region: Region::Config, offset, write: true };
            if self.shell.route(host, access, &mut data) != Route::Absorb {
                self.write_config(host, start, &data);
            }
            self.act(host);
        } else {
            self.write_config(host, start, data);
        }
        Ok(())
    }

    fn write_config(&mut self, host: &mut dyn Host, start: usize, data: &[u8]) {
        for (byte, at) in data.iter().zip(start..) {
            if self.shell.config.write(at, *byte) == Effect::FunctionReset {
                self.reset(ResetKind::Function);
            }
            self.shell.deliver(host);
        }
        if self.shell.config.touches_window(start, data.len()) {
            self.window_write(host);
        }
    }

    fn config_range(&self, offset: u64, len: usize) -> Result<usize, AccessError> {
        let size = len as u64;
        let past = offset.checked_add(size).filter(|past| *past <= self.config_size());
        match (past, usize::try_from(offset)) {
            (Some(_), Ok(start)) => Ok(start),
            _ => Err(AccessError::OutOfRange { offset, size }),
        }
    }

    /// virtio 1.3 §4.1.4.9. A window that points nowhere valid reads back what was last stored.
    fn window_read(&mut self, host: &mut dyn Host) {
        let Some((bar, offset, len)) = self.shell.config.window_target() else { return };
        let mut data = [0; 4];
        // What a failed access would have returned is in `data`, and config space reports no error.
        let _ = self.read(host, bar, offset, &mut data[..len]);
        self.shell.config.set_window_data(&data[..len]);
    }

    fn window_write(&mut self, host: &mut dyn Host) {
        let Some((bar, offset, len)) = self.shell.config.window_target() else { return };
        let data = self.shell.config.window_data();
        // A write that the BAR does not take is lost, as on the bus.
        let _ = self.write(host, bar, offset, &data[..len]);
    }

    /// Reads a BAR: MSI-X table and PBA, a shared area, or the model.
    ///
    /// # Errors
    /// [`AccessError`]; `data` then holds what the bus would have returned (all ones if memory
    /// space is disabled, the identity's `unmapped_read` otherwise). An access that is partly in
    /// the MSI-X table, the PBA or a shared area is refused as [`AccessError::Width`].
    pub fn bar_read(
        &mut self,
        host: &mut dyn Host,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        if !self.shell.config.memory_enabled() {
            data.fill(0xff);
            return Err(AccessError::Disabled);
        }
        if self.shell.interposer.is_none() {
            return self.read(host, bar, offset, data);
        }
        let access = Access { region: Region::Bar(bar), offset, write: false };
        if self.shell.route(host, access, data) == Route::Absorb {
            return Ok(());
        }
        let result = self.read(host, bar, offset, data);
        self.shell.answer(host, access, data);
        self.act(host);
        result
    }

    /// Writes a BAR.
    ///
    /// # Errors
    /// [`AccessError`], as for [`bar_read`](Self::bar_read); nothing was written.
    pub fn bar_write(
        &mut self,
        host: &mut dyn Host,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        if !self.shell.config.memory_enabled() {
            return Err(AccessError::Disabled);
        }
        if self.shell.interposer.is_none() {
            return self.write(host, bar, offset, data);
        }
        let mut data = data.to_vec();
        let access = Access { region: Region::Bar(bar), offset, write: true };
        let result = match self.shell.route(host, access, &mut data) {
            Route::Absorb => Ok(()),
            Route::Pass => self.write(host, bar, offset, &data),
            Route::Twice => {
                let first = self.write(host, bar, offset, &data);
                first.and(self.write(host, bar, offset, &data))
            }
        };
        self.act(host);
        result
    }

    fn read(
        &mut self,
        host: &mut dyn Host,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let unmapped = self.identity().unmapped_read;
        data.fill(unmapped);
        let size = data.len() as u64;
        let result = match self.target(bar, offset, data.len())? {
            _ if data.is_empty() => Ok(()),
            Target::Msix(part) => {
                self.shell.msix_read(part, data);
                Ok(())
            }
            Target::Shared => {
                let failed = AccessError::OutOfRange { offset, size };
                host.shared_read(bar, offset, data).map_err(|_| failed)
            }
            Target::Model => {
                let mut bus = Gate { host, shell: &mut self.shell };
                self.model.read(&mut bus, bar, offset, data)
            }
        };
        result.inspect_err(|_| data.fill(unmapped))
    }

    fn write(
        &mut self,
        host: &mut dyn Host,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let size = data.len() as u64;
        match self.target(bar, offset, data.len())? {
            _ if data.is_empty() => Ok(()),
            Target::Msix(part) => {
                self.shell.msix_write(part, data);
                self.shell.deliver(host);
                Ok(())
            }
            Target::Shared => {
                let failed = AccessError::OutOfRange { offset, size };
                host.shared_write(bar, offset, data).map_err(|_| failed)
            }
            Target::Model => {
                let mut bus = Gate { host, shell: &mut self.shell };
                self.model.write(&mut bus, bar, offset, data)
            }
        }
    }

    fn target(&self, bar: Bar, offset: u64, len: usize) -> Result<Target, AccessError> {
        let size = len as u64;
        let outside = AccessError::OutOfRange { offset, size };
        let straddles = AccessError::Width { offset, size };
        let spec = self.identity().bar(bar).ok_or(outside)?;
        let past = offset.checked_add(size).filter(|past| *past <= spec.size).ok_or(outside)?;
        let table = self.shell.interrupts.table.as_ref();
        match table.map_or(Decoded::Elsewhere, |table| table.decode(bar, offset, len)) {
            Decoded::Inside(part) => return Ok(Target::Msix(part)),
            Decoded::Straddles => return Err(straddles),
            Decoded::Elsewhere => {}
        }
        let area = spec.shared.iter().find(|a| offset < a.offset + a.size && a.offset < past);
        match area {
            Some(area) if offset >= area.offset && past <= area.offset + area.size => {
                Ok(Target::Shared)
            }
            Some(_) => Err(straddles),
            None => Ok(Target::Model),
        }
    }

    /// Lets the model work. See [`DeviceModel::poll`]. A model with more jobs under way than hosts
    /// are to carry, 256 or 256 MiB, does not work until one is finished.
    pub fn poll(&mut self, host: &mut dyn Host, budget: u32) -> Progress {
        if self.shell.interposer.is_none() {
            if self.shell.jobs.are_full() {
                return Progress::Idle;
            }
            return self.model.poll(&mut Gate { host, shell: &mut self.shell }, budget);
        }
        self.interposed(host, |model, bus| model.poll(bus, budget))
    }

    /// The host is about to sleep. See [`DeviceModel::park`].
    pub fn park(&mut self, host: &mut dyn Host) -> Progress {
        if self.shell.interposer.is_none() {
            return self.model.park(&mut Gate { host, shell: &mut self.shell });
        }
        self.interposed(host, |model, bus| model.park(bus))
    }

    /// Lets the model work as far as the interposer does, and does what that has to be done.
    fn interposed(
        &mut self,
        host: &mut dyn Host,
        work: impl FnOnce(&mut dyn DeviceModel, &mut dyn Bus) -> Progress,
    ) -> Progress {
        self.act(host);
        let now = host.now();
        let may_work = self.shell.interposer.as_mut().is_none_or(|it| it.may_work(now));
        let may_work = may_work && !self.shell.jobs.are_full();
        let mut progress = Progress::Idle;
        if may_work {
            progress = work(self.model.as_mut(), &mut Gate { host, shell: &mut self.shell });
        }
        self.act(host);
        let due = self.shell.interposer.as_ref().and_then(|it| it.next_due());
        progress.sooner(due.map_or(Progress::Idle, Progress::Until))
    }

    /// Does what the interposer wants done now.
    fn act(&mut self, host: &mut dyn Host) {
        for _ in 0..MAX_ACTIONS {
            let now = host.now();
            let Some(action) = self.shell.interposer.as_mut().and_then(|it| it.due(now)) else {
                return;
            };
            match action {
                // What the function does not take is lost, as on the bus.
                Action::Write { bar, offset, data } => {
                    let _ = self.write(host, bar, offset, &data);
                }
                Action::Raise(vector) => {
                    self.shell.interrupts.raise(&self.shell.config, host, vector);
                }
                Action::Line(on) => self.shell.interrupts.set_line(&self.shell.config, host, on),
                Action::Dma { iova, data } => {
                    if self.shell.config.master_enabled() {
                        let _ = host.dma_write(iova, &data);
                    }
                }
                Action::Reset => {
                    self.shell.reset(ResetKind::Function);
                    self.model.reset(ResetKind::Function);
                }
                Action::Finish(done) => self.give_back(host, done),
            }
        }
    }

    /// Puts an interposer in, or takes it out with `None`. Returns the one before.
    pub fn interpose(&mut self, it: Option<Box<dyn Interposer>>) -> Option<Box<dyn Interposer>> {
        std::mem::replace(&mut self.shell.interposer, it)
    }

    /// The interposer, if it is one of this type.
    pub fn interposer<T: Interposer>(&mut self) -> Option<&mut T> {
        let it: &mut dyn std::any::Any = self.shell.interposer.as_deref_mut()?;
        it.downcast_mut()
    }

    /// Gives a finished job back to the model. One from before the last reset is dropped: the
    /// function remembers which jobs it handed out since then.
    pub fn finish(&mut self, host: &mut dyn Host, done: FinishedJob) {
        let done = match &mut self.shell.interposer {
            None => Some(done),
            Some(it) => it.finish(host.now(), done),
        };
        if let Some(done) = done {
            self.give_back(host, done);
        }
    }

    fn give_back(&mut self, host: &mut dyn Host, done: FinishedJob) {
        if self.shell.jobs.remove(done.id) {
            self.model.finish(&mut Gate { host, shell: &mut self.shell }, done);
        } else {
            self.shell.stale_jobs += 1;
        }
    }

    /// Resets model, config space and interrupts. Jobs in flight are forgotten: their output will
    /// not reach the model, whether or not the caller waits for them.
    ///
    /// [`ResetKind::Function`] (FLR, VFIO `DEVICE_RESET`) keeps what PCI Express exempts from a
    /// Function Level Reset, counters, and the client's own interrupt masks.
    pub fn reset(&mut self, kind: ResetKind) {
        let resets = self.shell.interposer.as_mut().is_none_or(|it| it.reset(kind));
        if !resets && kind != ResetKind::PowerOn {
            return;
        }
        self.shell.reset(kind);
        self.model.reset(kind);
    }

    /// Masks (`true`) or unmasks vectors `first..first + count` as VFIO `SET_IRQS` does, apart from
    /// the masks in config space and table. Vectors that do not exist are ignored. Unmasking
    /// delivers what is pending; for INTx, what is still asserted.
    pub fn set_irq_mask(
        &mut self,
        host: &mut dyn Host,
        irq: Irq,
        first: u16,
        count: u16,
        masked: bool,
    ) {
        self.shell.interrupts.set_client_mask(irq, first, count, masked);
        self.shell.deliver(host);
    }

    /// The client has set or removed triggers: delivers what is pending and deliverable now. A kind
    /// that has no trigger left loses its masks of [`set_irq_mask`](Self::set_irq_mask).
    pub fn triggers_changed(&mut self, host: &mut dyn Host) {
        self.shell.interrupts.drop_idle_masks(host);
        self.shell.deliver(host);
    }

    /// Vectors of an interrupt kind, as VFIO `GET_IRQ_INFO` reports them; 0 if it has none.
    #[must_use]
    pub fn irq_count(&self, irq: Irq) -> u16 {
        match irq {
            Irq::Intx => u16::from(self.identity().interrupt_pin != 0),
            Irq::Msi => self.identity().msi_vectors(),
            Irq::Msix => self.identity().msix_vectors(),
        }
    }

    /// Registers (config space first, then interrupts, then the model's), queues and counters by
    /// name, without side effects. Config space registers have
    /// [`CONFIG_REGION`](crate::CONFIG_REGION) as their BAR.
    #[must_use]
    pub fn inspect(&self) -> State {
        let shell = &self.shell;
        let mut state = self.model.inspect();
        let mut registers = shell.config.inspect(|at| shell.live_byte(at));
        registers.append(&mut shell.interrupts.inspect(&shell.config));
        registers.append(&mut state.registers);
        state.registers = registers;
        let counter = |name: &str, value| Counter { name: name.into(), value };
        let mut counters = shell.interrupts.counters().to_vec();
        counters.push(counter("jobs.stale", shell.stale_jobs));
        counters.push(counter("resets.function", shell.function_resets));
        counters.append(&mut state.counters);
        state.counters = counters;
        state
    }
}

impl Shell {
    /// Shows an access to the interposer, if there is one.
    fn route(&mut self, host: &mut dyn Host, access: Access, data: &mut [u8]) -> Route {
        self.interposer.as_mut().map_or(Route::Pass, |it| it.access(host, access, data))
    }

    /// Shows the answer to a read to the interposer, if there is one.
    fn answer(&mut self, host: &mut dyn Host, access: Access, data: &mut [u8]) {
        if let Some(it) = &mut self.interposer {
            it.answer(host, access, data);
        }
    }

    fn deliver(&mut self, host: &mut dyn Host) {
        self.interrupts.deliver(&self.config, host);
    }

    fn reset(&mut self, kind: ResetKind) {
        self.jobs.clear();
        match kind {
            ResetKind::Function => {
                self.config.reset_function();
                self.interrupts.reset_function();
                self.function_resets += 1;
            }
            ResetKind::PowerOn => {
                self.config.reset();
                self.interrupts.reset();
                (self.stale_jobs, self.function_resets) = (0, 0);
            }
        }
    }

    fn config_byte(&self, at: usize) -> u8 {
        self.config.byte(at) | self.live_byte(at)
    }

    /// Config space bits that follow interrupt state and are zero in the image.
    fn live_byte(&self, at: usize) -> u8 {
        let mut live = [0];
        if at == header::STATUS && self.interrupts.line_status(&self.config) {
            live = [header::STATUS_INTERRUPT.to_le_bytes()[0]];
        }
        let pending = self.config.msi_pending_at();
        if let Some(from) = pending.and_then(|base| at.checked_sub(base)).filter(|n| *n < 4) {
            self.interrupts.read_msi_pending(from, &mut live);
        }
        live[0]
    }

    fn msix_read(&self, part: Part, data: &mut [u8]) {
        match (part, &self.interrupts.table) {
            (Part::Table(from), Some(table)) => table.read(from, data),
            (Part::Pending(from), _) => self.interrupts.read_msix_pending(from, data),
            (Part::Table(_), None) => {}
        }
    }

    /// The pending bits are read-only.
    fn msix_write(&mut self, part: Part, data: &[u8]) {
        if let (Part::Table(from), Some(table)) = (part, &mut self.interrupts.table) {
            table.write(from, data);
        }
    }
}
