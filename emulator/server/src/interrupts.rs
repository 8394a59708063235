//! Where interrupts go: one eventfd for each vector, set by the client.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, readlink};
use rustix::io;
use understudy_pci::Irq;
use understudy_trace::TracedFunction;
use understudy_wire::{Errno, IrqIndex};

/// An eventfd of the client.
#[derive(Debug)]
pub(crate) struct Trigger {
    fd: OwnedFd,
    /// Whether a write to it could wait for a reader.
    blocking: bool,
}

impl Trigger {
    /// Takes a descriptor, if it is an eventfd.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let link = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
        if !link.is_ok_and(|name| name.as_bytes() == b"anon_inode:[eventfd]") {
            return Err(Errno::INVAL);
        }
        let flags = fcntl_getfl(&fd).map_err(crate::errno)?;
        Ok(Self { fd, blocking: !flags.contains(OFlags::NONBLOCK) })
    }

    /// Adds one to the counter. A counter at its maximum stays there: its owner has an interrupt
    /// to see already. The device's thread does not wait for the owner to read it.
    pub(crate) fn fire(&self) {
        if self.blocking && !writable(&self.fd) {
            return;
        }
        if let Err(errno) = io::write(&self.fd, &1u64.to_ne_bytes())
            && errno != io::Errno::AGAIN
        {
            tracing::debug!(%errno, "an interrupt could not be delivered");
        }
    }

    /// Whether it was signalled since the last call.
    fn take(&self) -> bool {
        let mut ready = [PollFd::new(&self.fd, PollFlags::IN)];
        let any = poll(&mut ready, Some(&Timespec::default())).is_ok_and(|count| count == 1);
        any && io::read(&self.fd, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Trigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn writable(fd: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(fd, PollFlags::OUT)];
    poll(&mut ready, Some(&Timespec::default())).is_ok_and(|count| count == 1)
}

/// The triggers of one interrupt kind.
#[derive(Debug, Default)]
struct Bank {
    triggers: Vec<Option<Trigger>>,
    /// How many of them are set.
    set: usize,
}

impl Bank {
    /// Puts what `next` gives in the places from `first` on.
    fn put(&mut self, first: usize, count: usize, mut next: impl FnMut() -> Option<Trigger>) {
        for slot in self.triggers.iter_mut().skip(first).take(count) {
            self.set -= usize::from(slot.is_some());
            *slot = next();
            self.set += usize::from(slot.is_some());
        }
    }
}

/// Eventfds that the client signals to mask or unmask INTx, as a KVM irqfd resampler does (VFIO:
/// `VFIO_IRQ_SET_DATA_EVENTFD` with the mask or unmask action).
#[derive(Debug)]
pub(crate) struct LineControls {
    /// Watches both. An eventfd that is closed here lives on at the client, and would stay watched
    /// if it were not taken out.
    epoll: OwnedFd,
    mask: Option<Trigger>,
    unmask: Option<Trigger>,
}

impl LineControls {
    fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, mask: None, unmask: None })
    }

    /// Sets or removes the eventfd that masks (`true`) or unmasks.
    pub(crate) fn set(&mut self, masks: bool, control: Option<Trigger>) -> io::Result<()> {
        let place = if masks { &mut self.mask } else { &mut self.unmask };
        if let Some(old) = place.take() {
            epoll::delete(&self.epoll, &old)?;
        }
        if let Some(new) = control {
            epoll::add(&self.epoll, &new, EventData::new_u64(0), EventFlags::IN)?;
            *place = Some(new);
        }
        Ok(())
    }

    /// Whether the client has signalled the eventfd that masks (`true`) or unmasks.
    pub(crate) fn take(&self, masks: bool) -> bool {
        let control = if masks { &self.mask } else { &self.unmask };
        control.as_ref().is_some_and(Trigger::take)
    }

    fn clear(&mut self) {
        for masks in [true, false] {
            if let Err(errno) = self.set(masks, None) {
                tracing::error!(%errno, "cannot stop watching an eventfd");
            }
        }
    }
}

impl AsFd for LineControls {
    /// Readable while one of them is signalled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn place(index: IrqIndex) -> usize {
    usize::try_from(index.0).unwrap_or(usize::MAX)
}

/// All triggers of a device.
#[derive(Debug)]
pub(crate) struct Interrupts {
    /// By VFIO's index: INTx, MSI, MSI-X, errors. The function raises no error; clients that report
    /// them want to be able to listen.
    banks: [Bank; 4],
    pub(crate) line: LineControls,
    /// Interrupts signalled since the device was made.
    pub(crate) fired: u64,
}

impl Interrupts {
    pub(crate) fn new(function: &TracedFunction) -> io::Result<Self> {
        let bank = |count: u16| {
            let triggers = std::iter::repeat_with(|| None).take(count.into()).collect();
            Bank { triggers, set: 0 }
        };
        let [intx, msi, msix] = [Irq::Intx, Irq::Msi, Irq::Msix].map(|irq| function.irq_count(irq));
        let banks = [bank(intx), bank(msi), bank(msix), bank(1)];
        Ok(Self { banks, line: LineControls::new()?, fired: 0 })
    }

    /// How many interrupts of an index there are.
    pub(crate) fn count(&self, index: IrqIndex) -> u32 {
        let bank = self.banks.get(place(index)).map_or(0, |bank| bank.triggers.len());
        u32::try_from(bank).unwrap_or(u32::MAX)
    }

    /// Fires the trigger of a vector; `false` if it has none.
    #[inline]
    pub(crate) fn fire(&mut self, irq: Irq, vector: u16) -> bool {
        self.fire_at(irq as usize, vector.into())
    }

    /// Fires the trigger of an interrupt of any index.
    pub(crate) fn fire_index(&mut self, index: IrqIndex, vector: usize) {
        self.fire_at(place(index), vector);
    }

    fn fire_at(&mut self, place: usize, vector: usize) -> bool {
        match self.banks.get(place).and_then(|bank| bank.triggers.get(vector)) {
            Some(Some(trigger)) => {
                trigger.fire();
                self.fired += 1;
                true
            }
            _ => false,
        }
    }

    /// Whether any vector of this kind has a trigger.
    pub(crate) fn any(&self, irq: Irq) -> bool {
        self.banks[irq as usize].set > 0
    }

    /// Sets the triggers of vectors from `first` on.
    pub(crate) fn set(&mut self, index: IrqIndex, first: usize, triggers: Vec<Trigger>) {
        let count = triggers.len();
        let mut triggers = triggers.into_iter();
        if let Some(bank) = self.banks.get_mut(place(index)) {
            bank.put(first, count, || triggers.next());
        }
    }

    /// Removes the triggers of a range.
    pub(crate) fn clear(&mut self, index: IrqIndex, first: usize, count: usize) {
        if let Some(bank) = self.banks.get_mut(place(index)) {
            bank.put(first, count, || None);
        }
    }

    /// Removes all triggers, and the eventfds by which the client masks INTx.
    pub(crate) fn clear_all(&mut self) {
        for bank in &mut self.banks {
            bank.put(0, usize::MAX, || None);
        }
        self.line.clear();
    }
}
