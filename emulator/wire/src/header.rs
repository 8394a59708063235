//! The header before every message ("Header"), and the commands ("Commands").

use std::fmt;

use crate::error::{Errno, Problem, WireError};

/// Size of the header, in bytes.
pub const HEADER_SIZE: usize = 16;

const _: () = assert!(HEADER_SIZE == crate::layout::header::ERROR.end());

const TYPE_MASK: u32 = 0xf;
const TYPE_COMMAND: u32 = 0;
const TYPE_REPLY: u32 = 1;
const NO_REPLY: u32 = 0x10;
const ERROR: u32 = 0x20;

/// Which end of the connection sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The VMM.
    Client,
    /// The device.
    Server,
}

/// A command number. Open: a number without a name is kept as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Command(pub u16);

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal, $side:ident;)*) => {
        impl Command {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Every command of the protocol, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self($value)),*];

            /// The name without its prefix, or `None` for a number the protocol does not define.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }

            /// Which side sends requests with this command; `None` for an unknown command.
            pub fn requester(self) -> Option<Side> {
                match self.0 {
                    $($value => Some(Side::$side),)*
                    _ => None,
                }
            }
        }
    };
}

commands! {
    /// Propose or agree on a version and capabilities.
    VERSION = 1, "VERSION", Client;
    /// Make client memory accessible.
    DMA_MAP = 2, "DMA_MAP", Client;
    /// Take client memory back.
    DMA_UNMAP = 3, "DMA_UNMAP", Client;
    /// Numbers of regions and interrupt types.
    DEVICE_GET_INFO = 4, "DEVICE_GET_INFO", Client;
    /// Size, access and capabilities of a region.
    DEVICE_GET_REGION_INFO = 5, "DEVICE_GET_REGION_INFO", Client;
    /// Descriptors that stand for parts of a region.
    DEVICE_GET_REGION_IO_FDS = 6, "DEVICE_GET_REGION_IO_FDS", Client;
    /// Kind and count of an interrupt type.
    DEVICE_GET_IRQ_INFO = 7, "DEVICE_GET_IRQ_INFO", Client;
    /// Configure, mask, unmask or trigger interrupts.
    DEVICE_SET_IRQS = 8, "DEVICE_SET_IRQS", Client;
    /// Read from a region.
    REGION_READ = 9, "REGION_READ", Client;
    /// Write to a region.
    REGION_WRITE = 10, "REGION_WRITE", Client;
    /// Read client memory.
    DMA_READ = 11, "DMA_READ", Server;
    /// Write client memory.
    DMA_WRITE = 12, "DMA_WRITE", Server;
    /// Reset the device.
    DEVICE_RESET = 13, "DEVICE_RESET", Client;
    /// Several small region writes at once.
    REGION_WRITE_MULTI = 15, "REGION_WRITE_MULTI", Client;
    /// Get, set or probe a device feature.
    DEVICE_FEATURE = 16, "DEVICE_FEATURE", Client;
    /// Read migration data.
    MIG_DATA_READ = 17, "MIG_DATA_READ", Client;
    /// Write migration data.
    MIG_DATA_WRITE = 18, "MIG_DATA_WRITE", Client;
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "command {}", self.0),
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The type bits of a header's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request.
    Command,
    /// A reply to a request with the same id.
    Reply,
    /// Any other type (2 to 15): not defined.
    Unknown(u8),
}

/// The header before every message. All fields are public and written as they are, so that tests
/// can also write wrong ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Chosen by the requester, echoed in the reply; need not be unique.
    pub id: u16,
    /// What is asked or answered.
    pub command: Command,
    /// Size of the message in bytes, header included.
    pub size: u32,
    /// Type in bits 0 to 3, no_reply in bit 4, error in bit 5; other bits are ignored.
    pub flags: u32,
    /// The errno of an error reply; reserved in a request.
    pub error: u32,
}

impl Header {
    /// The header of a request. `size` counts the whole message, in bytes.
    pub fn request(id: u16, command: Command, size: u32) -> Self {
        Self { id, command, size, flags: TYPE_COMMAND, error: 0 }
    }

    /// The header of a reply. `size` counts the whole message, in bytes.
    pub fn reply(id: u16, command: Command, size: u32) -> Self {
        Self { id, command, size, flags: TYPE_REPLY, error: 0 }
    }

    /// A whole error reply: it is the header alone.
    pub fn error_reply(id: u16, command: Command, errno: Errno) -> Self {
        Self { id, command, size: 16, flags: TYPE_REPLY | ERROR, error: errno.0 }
    }

    /// This request, posted: the receiver must not reply to it.
    #[must_use]
    pub fn posted(mut self) -> Self {
        self.flags |= NO_REPLY;
        self
    }

    /// Request or reply.
    pub fn kind(&self) -> Kind {
        match self.flags & TYPE_MASK {
            TYPE_COMMAND => Kind::Command,
            TYPE_REPLY => Kind::Reply,
            other => Kind::Unknown(u8::try_from(other).unwrap_or(u8::MAX)),
        }
    }

    /// Whether the receiver of this request must not reply.
    pub fn no_reply(&self) -> bool {
        self.flags & NO_REPLY != 0
    }

    /// The errno of an error reply; `None` if this is not one.
    pub fn errno(&self) -> Option<Errno> {
        (self.kind() == Kind::Reply && self.flags & ERROR != 0).then_some(Errno(self.error))
    }

    /// Reads a header.
    pub fn from_bytes(bytes: &[u8; HEADER_SIZE]) -> Self {
        let [i0, i1, c0, c1, s0, s1, s2, s3, f0, f1, f2, f3, e0, e1, e2, e3] = *bytes;
        Self {
            id: u16::from_ne_bytes([i0, i1]),
            command: Command(u16::from_ne_bytes([c0, c1])),
            size: u32::from_ne_bytes([s0, s1, s2, s3]),
            flags: u32::from_ne_bytes([f0, f1, f2, f3]),
            error: u32::from_ne_bytes([e0, e1, e2, e3]),
        }
    }

    /// The header as it goes over the wire.
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let [i0, i1] = self.id.to_ne_bytes();
        let [c0, c1] = self.command.0.to_ne_bytes();
        let [s0, s1, s2, s3] = self.size.to_ne_bytes();
        let [f0, f1, f2, f3] = self.flags.to_ne_bytes();
        let [e0, e1, e2, e3] = self.error.to_ne_bytes();
        [i0, i1, c0, c1, s0, s1, s2, s3, f0, f1, f2, f3, e0, e1, e2, e3]
    }

    /// An error about a field of this header.
    pub(crate) fn reject(
        &self,
        errno: Errno,
        field: &crate::layout::Field,
        problem: Problem,
    ) -> WireError {
        // Header fields are laid out from the start of the message, not of the payload.
        WireError { errno, command: self.command, field: field.name, offset: field.offset, problem }
    }
}
