//! Serves PCI functions over vfio-user.
//!
//! Protocol: vfio-user 0.1 as in QEMU's `docs/interop/vfio-user.rst`; structures and interrupt
//! semantics as in `<linux/vfio.h>` and the kernel's vfio-pci.
//!
//! - [`DeviceServer`]: one device, one socket, one thread; any number of them in a process. Clients
//!   come, die and come back; the function is as new for each. A second client is turned away while
//!   one is attached: its connection is closed at once.
//! - [`Control`]: runs a closure on the device's thread, between two turns of its loop.
//! - `transport`: unix socket, whole messages, descriptors, no blocking. `session`: validates each
//!   message once and dispatches it. `link`: what the function sees of the client, the
//!   [`Host`](understudy_pci::Host). `dma`: I/O virtual addresses to mapped memory or messages, and
//!   the only unsafe code. `interrupts`: eventfds. `shared`: memory the client may map. `jobs`: a
//!   pool for heavy work. `event_loop`: turns of serving and working.
//!
//! A trapped doorbell: `recvmsg` → session → `PciFunction::bar_write` → `sendmsg` →
//! `PciFunction::poll` → completion in client memory → eventfd.
//!
//! Limits: [`Options`] for what is negotiated; 16 descriptors with a message; 1,024 requests or
//! 16 MiB kept while a reply to server-to-client DMA is awaited; 32,768 mappings in a process;
//! 1,024 jobs queued; 10 log lines a second for a device.
//!
//! Not implemented: migration (MIG_DATA_*, every DEVICE_FEATURE: refused), dirty tracking (an unmap
//! that asks for a bitmap is refused), ioeventfds (REGION_IO_FDS lists none), the second socket
//! (`twin_socket` is not agreed to), the request interrupt, sockets other than `AF_UNIX`. The error
//! interrupt can be listened to and is never raised.

mod dma;
mod event_loop;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod interrupts;
mod jobs;
mod link;
mod log;
mod server;
mod session;
mod shared;
#[cfg(test)]
mod tests;
mod transport;
mod wake;

use std::time::Duration;

use understudy_wire::version::{DEFAULT_MAX_DMA_MAPS, MAX_MAX_DATA_XFER_SIZE};

pub use link::Counters;
pub use server::{BindError, Control, Device, DeviceServer, Sessions, Stopped};

/// How a device is served. Values out of range are taken as the nearest in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long a device's thread stays awake after it last had something to do, at most: less and
    /// less if that does not catch what comes next. Zero: it sleeps as soon as there is nothing
    /// left, and each message costs a wake-up.
    pub spin: Duration,
    /// Queue entries that the device may work on before the socket is looked at again; at least 1.
    pub budget: u32,
    /// Most bytes of one region access, and of one DMA message; 1 to 64 MiB.
    pub max_data_xfer_size: u32,
    /// Most DMA regions of a client, 1 to 65,535. The process can have 32,768 in all.
    pub max_dma_maps: u32,
    /// Whether clients are told that they may send several writes in one message. Such messages are
    /// served in any case. Off by default: it makes QEMU (10.1 to 11) send everything from another
    /// thread, later, because its flag for it contains the one for queued sends.
    pub write_multiple: bool,
    /// How long the device waits for the client to carry out a DMA message. Below the 5 seconds
    /// after which QEMU gives up on a device that does not answer.
    pub dma_timeout: Duration,
    /// How long a client may leave its replies unread before it is disconnected.
    pub send_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // A guest under emulation takes 150 to 300 µs from one request to the next.
            spin: Duration::from_micros(400),
            budget: 64,
            max_data_xfer_size: 1 << 20,
            max_dma_maps: 4096,
            write_multiple: false,
            dma_timeout: Duration::from_secs(2),
            send_timeout: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// These options with every value in its range.
    fn clamped(self) -> Self {
        Self {
            budget: self.budget.max(1),
            max_data_xfer_size: self.max_data_xfer_size.clamp(1, MAX_MAX_DATA_XFER_SIZE),
            max_dma_maps: self.max_dma_maps.clamp(1, DEFAULT_MAX_DMA_MAPS),
            ..self
        }
    }
}

/// A kernel errno as the protocol carries it.
fn errno(errno: rustix::io::Errno) -> understudy_wire::Errno {
    understudy_wire::Errno(u32::try_from(errno.raw_os_error()).unwrap_or(0))
}
