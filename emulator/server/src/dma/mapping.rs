//! Memory of the client, mapped: the only unsafe code of this crate.
//!
//! A client may truncate a file after it was mapped; touching the lost pages raises SIGBUS. Every
//! mapping is therefore entered in a fixed table that a process-wide handler reads without locks.
//! If the faulting address lies in a mapping, the handler puts anonymous zero pages over all of it
//! and marks it as poisoned: the access that faulted goes on, and then reports [`MapFault::Lost`],
//! as do all later ones. A SIGBUS of any other cause goes where it went before.
#![expect(unsafe_code, reason = "maps client memory and handles the SIGBUS it may raise")]

use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{FileType, fstat};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use vm_memory::VolatileSlice;

/// What may be done with mapped memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// Why a file cannot be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MapError {
    /// Not a regular file (memfd, tmpfs and hugetlbfs files are regular).
    #[error("the descriptor is not a file that can be mapped")]
    NotAFile,
    /// The range does not lie in the file.
    #[error("the range does not lie in the file")]
    PastEnd,
    /// The process has as many mappings as it may have.
    #[error("too many mappings")]
    TooMany,
    /// The kernel refused.
    #[error("mmap: {0}")]
    Kernel(rustix::io::Errno),
}

/// Why mapped memory cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapFault {
    /// The range does not lie in the mapping.
    OutOfRange,
    /// The file was truncated, or its memory failed.
    Lost,
}

/// A mapped range of a file. Unmapped when dropped. The file need not stay open.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Start of the kernel's mapping: page aligned.
    base: *mut c_void,
    /// Length of the kernel's mapping: whole pages of the file.
    mapped: usize,
    /// Where the range starts in the mapping.
    skip: usize,
    /// Length of the range.
    len: usize,
    slot: usize,
}

// SAFETY: the memory belongs to the mapping and is only reached through volatile accesses, which
// may come from any thread; the table entry is atomic.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes of a file from `offset`, a multiple of 4096.
    pub(crate) fn new(
        file: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        access: Access,
    ) -> Result<Self, MapError> {
        install_handler()?;
        let page = file_page_size(file, offset, len)?;
        let start = offset - offset % page;
        let skip = offset - start;
        // A file of huge pages is a whole number of them long, so rounding up stays inside.
        let mapped = (skip + len).div_ceil(page).checked_mul(page).ok_or(MapError::PastEnd)?;
        let usize_of = |value: u64| usize::try_from(value).map_err(|_| MapError::PastEnd);
        let (mapped, skip, len) = (usize_of(mapped)?, usize_of(skip)?, usize_of(len)?);
        let slot = TABLE.take().ok_or(MapError::TooMany)?;
        let mut prot = ProtFlags::empty();
        prot.set(ProtFlags::READ, access.read);
        prot.set(ProtFlags::WRITE, access.write);
        // SAFETY: a new mapping at an address of the kernel's choosing touches no memory of ours.
        let base =
            unsafe { mmap(std::ptr::null_mut(), mapped, prot, MapFlags::SHARED, file, start) };
        let base = match base {
            Ok(base) => base,
            Err(errno) => {
                TABLE.give_back(slot);
                return Err(MapError::Kernel(errno));
            }
        };
        TABLE.set(slot, base as usize, base as usize + mapped);
        Ok(Self { base, mapped, skip, len, slot })
    }

    /// Copies from the mapping.
    #[inline]
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), MapFault> {
        self.slice(offset, into.len())?.copy_to(into);
        self.check()
    }

    /// Copies to the mapping.
    #[inline]
    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> Result<(), MapFault> {
        self.slice(offset, from.len())?.copy_from(from);
        self.check()
    }

    #[inline]
    fn slice(&self, offset: u64, len: usize) -> Result<VolatileSlice<'_>, MapFault> {
        self.check()?;
        let offset = usize::try_from(offset).map_err(|_| MapFault::OutOfRange)?;
        let end = offset.checked_add(len).ok_or(MapFault::OutOfRange)?;
        if end > self.len {
            return Err(MapFault::OutOfRange);
        }
        // SAFETY: skip + len <= mapped, so the range lies in the mapping, which lives as long as
        // `self`; every access to it is through a VolatileSlice.
        Ok(unsafe { VolatileSlice::new(self.base.cast::<u8>().add(self.skip + offset), len) })
    }

    /// Whether all accesses so far touched memory that is still the client's.
    #[inline]
    fn check(&self) -> Result<(), MapFault> {
        // The handler runs on this thread, in the middle of a copy: only the compiler could move
        // this load before it.
        compiler_fence(Ordering::SeqCst);
        if TABLE.slots[self.slot].poisoned.load(Ordering::Relaxed) {
            return Err(MapFault::Lost);
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        TABLE.set(self.slot, 0, 0);
        // SAFETY: the range is this mapping's own and nothing borrows from it any more.
        if let Err(errno) = unsafe { munmap(self.base, self.mapped) } {
            tracing::error!(%errno, "cannot unmap client memory");
        }
        TABLE.give_back(self.slot);
    }
}

/// The size of the file's pages, after checking that the range lies in the file.
fn file_page_size(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<u64, MapError> {
    let stat = fstat(file).map_err(MapError::Kernel)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(MapError::NotAFile);
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if len == 0 || offset.checked_add(len).is_none_or(|end| end > size) {
        return Err(MapError::PastEnd);
    }
    // Only hugetlbfs reports a block size beyond a page that mmap insists on.
    let block = u64::try_from(stat.st_blksize).unwrap_or(0);
    let huge = block > PAGE && block.is_power_of_two() && size % block == 0;
    Ok(if huge { block } else { PAGE })
}

const PAGE: u64 = 4096;

/// Mappings that the whole process can have: half of what Linux allows a process by default
/// (`vm.max_map_count`), so that clients cannot starve the allocator.
const SLOTS: usize = 32 * 1024;

struct Slot {
    /// Odd while the range is being changed.
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    poisoned: AtomicBool,
}

struct Table {
    slots: [Slot; SLOTS],
    /// Slots below this have been used.
    used: AtomicUsize,
    free: Mutex<Vec<usize>>,
}

static TABLE: Table = Table {
    slots: [const {
        Slot {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            poisoned: AtomicBool::new(false),
        }
    }; SLOTS],
    used: AtomicUsize::new(0),
    free: Mutex::new(Vec::new()),
};

impl Table {
    fn take(&self) -> Option<usize> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = free.pop() {
            return Some(slot);
        }
        let next = self.used.load(Ordering::Relaxed);
        if next == SLOTS {
            return None;
        }
        self.used.store(next + 1, Ordering::Release);
        Some(next)
    }

    fn give_back(&self, slot: usize) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
    }

    /// Sets the range of a slot that the caller owns; an empty one matches no address.
    fn set(&self, slot: usize, start: usize, end: usize) {
        let slot = &self.slots[slot];
        slot.version.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        slot.start.store(start, Ordering::Relaxed);
        slot.end.store(end, Ordering::Relaxed);
        slot.poisoned.store(false, Ordering::Relaxed);
        slot.version.fetch_add(1, Ordering::Release);
    }

    /// The slot whose range holds `address`. Async-signal-safe.
    fn find(&self, address: usize) -> Option<(&Slot, usize, usize)> {
        self.slots.iter().take(self.used.load(Ordering::Acquire)).find_map(|slot| {
            let version = slot.version.load(Ordering::Acquire);
            let start = slot.start.load(Ordering::Relaxed);
            let end = slot.end.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            // A slot that is being changed belongs to a mapping of another thread.
            let stable = version % 2 == 0 && slot.version.load(Ordering::Relaxed) == version;
            (stable && start <= address && address < end).then_some((slot, start, end))
        })
    }
}

/// Where SIGBUS went before this module took it.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

fn install_handler() -> Result<(), MapError> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let installed = *INSTALLED.get_or_init(|| {
        // SAFETY: sigaction is plain data for which all zeroes are valid; both calls read and write
        // only the structures given. The handler is async-signal-safe: atomics, mmap, and what was
        // there before.
        unsafe {
            let mut previous: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut previous) != 0 {
                return false;
            }
            let _ = PREVIOUS.set(previous);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_sigbus as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) == 0
        }
    });
    if installed { Ok(()) } else { Err(MapError::Kernel(rustix::io::Errno::NOSYS)) }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // A positive code: from the kernel, on account of the address.
    if code <= 0 || !replace_lost_memory(address) {
        // SAFETY: the arguments are the kernel's own.
        unsafe { call_previous(signal, info, context) };
    }
}

/// Puts zero pages over the mapping that holds `address`, if there is one.
fn replace_lost_memory(address: usize) -> bool {
    let Some((slot, start, end)) = TABLE.find(address) else { return false };
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: the thread that faulted is in the middle of a copy from or to this mapping, so the
    // mapping is alive; only the memory behind it changes. All of it, since huge pages cannot be
    // replaced in part.
    let done = unsafe { mmap_anonymous(start as *mut c_void, end - start, prot, flags) };
    slot.poisoned.store(true, Ordering::Relaxed);
    done.is_ok()
}

/// Does with a SIGBUS what would have been done without this module.
///
/// # Safety
/// Only from a signal handler, with the arguments it was given.
unsafe fn call_previous(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let previous = PREVIOUS.get();
    let handler = previous.map_or(libc::SIG_DFL, |action| action.sa_sigaction);
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // SAFETY: both are async-signal-safe. The signal is blocked here, so it is taken, and ends
        // the process, when the handler returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    } else if previous.is_some_and(|action| action.sa_flags & libc::SA_SIGINFO != 0) {
        type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: with SA_SIGINFO the address is that of a function of this type.
        let handler: Handler = unsafe { std::mem::transmute(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without SA_SIGINFO the address is that of a function of this type.
        let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
        handler(signal);
    }
}
