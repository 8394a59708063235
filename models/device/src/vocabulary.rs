//! What one must know of a device to speak of its queues: data, written once for each device.
//!
//! Registers and queues have their names from [`State`](crate::State). This adds what no register
//! table says: where doorbells are, where opcodes, tags and statuses lie in queue entries, and what
//! their values are called. Faults and traces read it; models do not.

use crate::Bar;

/// A little-endian number in an entry or a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// First byte.
    pub offset: usize,
    /// Bytes, 1 to 8.
    pub width: usize,
}

impl Field {
    /// A field.
    #[must_use]
    pub const fn new(offset: usize, width: usize) -> Self {
        Self { offset, width }
    }

    /// Its value in these bytes, if they hold all of it.
    #[must_use]
    pub fn get(self, bytes: &[u8]) -> Option<u64> {
        let part = bytes.get(self.offset..self.offset.checked_add(self.width)?)?;
        let mut value = [0; 8];
        value.get_mut(..part.len())?.copy_from_slice(part);
        Some(u64::from_le_bytes(value))
    }

    /// Sets it in these bytes. `false` if they do not hold all of it.
    pub fn set(self, bytes: &mut [u8], value: u64) -> bool {
        let end = self.offset.saturating_add(self.width);
        let value = value.to_le_bytes();
        match (bytes.get_mut(self.offset..end), value.get(..self.width)) {
            (Some(part), Some(value)) => {
                part.copy_from_slice(value);
                true
            }
            _ => false,
        }
    }
}

/// A value with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Name, as the specification or the driver calls it, in lower case.
    pub name: &'static str,
    /// Value.
    pub value: u64,
}

impl Named {
    /// A value with a name.
    #[must_use]
    pub const fn new(name: &'static str, value: u64) -> Self {
        Self { name, value }
    }
}

/// Registers through which a driver says that a queue has something new: the n-th for queue n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doorbell {
    /// BAR.
    pub bar: Bar,
    /// Offset of queue 0's, in bytes.
    pub offset: u64,
    /// Distance between queues, in bytes.
    pub stride: u64,
    /// How many.
    pub count: u16,
}

impl Doorbell {
    /// The queue whose doorbell an access at this place touches.
    #[must_use]
    pub fn queue(&self, bar: Bar, offset: u64) -> Option<u16> {
        let from = offset.checked_sub(self.offset)?;
        let queue = u16::try_from(from.checked_div(self.stride)?).ok()?;
        // What lies between two doorbells is something else.
        let inside = from % self.stride < DOORBELL_BYTES;
        (bar == self.bar && queue < self.count && inside).then_some(queue)
    }
}

/// Bytes of a doorbell.
const DOORBELL_BYTES: u64 = 4;

/// What a fetched entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requests {
    /// The request itself.
    Inline {
        /// What is asked.
        opcode: Field,
        /// What the completion will carry as its tag.
        tag: Option<Field>,
    },
    /// Descriptors of a virtqueue, split or packed (virtio 1.3 §2.7, §2.8). The request is what
    /// the device-readable ones hold.
    Virtqueue {
        /// What is asked: a field of the request.
        opcode: Field,
    },
}

/// Where the status of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPlace {
    /// In the completion entry.
    Entry(Field),
    /// In the last bytes that the device writes before it completes the request: which field, by
    /// how many bytes those are.
    LastWrite(&'static [(usize, Field)]),
}

/// A register by which a driver resets the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetRegister {
    /// Name of the register.
    pub register: &'static str,
    /// What a driver writes to reset the device.
    pub value: u64,
    /// What a driver reads while the reset is not done.
    pub busy: u64,
}

/// Registers in which a device offers features, 32 at a time (virtio 1.3 §4.1.4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureWindow {
    /// Register that selects which 32 are offered.
    pub select: &'static str,
    /// Register that shows them.
    pub offered: &'static str,
    /// Register that selects which 32 the driver accepts.
    pub accept_select: &'static str,
    /// Register that takes what the driver accepts.
    pub accepted: &'static str,
    /// Names and bit numbers.
    pub features: &'static [Named],
}

/// A device's words.
#[derive(Debug, Clone, Copy)]
pub struct Vocabulary {
    /// Doorbells.
    pub doorbells: &'static [Doorbell],
    /// Fetched entries.
    pub requests: Requests,
    /// Names of opcodes.
    pub opcodes: &'static [Named],
    /// What ties a completion to its request, in the completion entry.
    pub tag: Option<Field>,
    /// Where statuses are.
    pub status: StatusPlace,
    /// Bits of the status that tell success from failure.
    pub status_mask: u64,
    /// Those bits of a success.
    pub good: u64,
    /// Names of statuses that are failures.
    pub statuses: &'static [Named],
    /// Reset by register, if the device has it. The PCI function can always be reset.
    pub reset: Option<ResetRegister>,
    /// Feature bits, if registers offer them.
    pub features: Option<FeatureWindow>,
    /// Faults that make no sense on this device: name of the kind, and why.
    pub refused: &'static [(&'static str, &'static str)],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doorbell_is_not_what_lies_beside_it() {
        let bell = Doorbell { bar: Bar(2), offset: 0x2_0004, stride: 0x1000, count: 16 };
        let queue = |offset| bell.queue(Bar(2), offset);
        assert_eq!(
            (queue(0x2_0004), queue(0x2_0006), queue(0x2_f004)),
            (Some(0), Some(0), Some(15))
        );
        for other in [0x2_0000, 0x2_0008, 0x2_000c, 0x2_1000, 0x3_0004] {
            assert_eq!(queue(other), None, "{other:#x}");
        }
        assert_eq!(bell.queue(Bar(0), 0x2_0004), None);
    }
}
