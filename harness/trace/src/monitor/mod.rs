//! Watching what a driver does against the specifications.
//!
//! Monitors see a driver only through what it does to its device: registers, queue entries as the
//! device fetched them, and when memory was unmapped. They are written from the specifications.

mod pci;
mod qaic;
mod qat;
pub(crate) mod rules;
mod virtio;

use crate::file::RegisterName;
use crate::pipe::Place;
use crate::record::Record;
use crate::watch::Findings;

/// An access to one register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Touch<'a> {
    pub(crate) name: &'a str,
    /// The bits that were read or written, in their places.
    pub(crate) value: u64,
    /// Which bits those are.
    pub(crate) mask: u64,
}

impl<'a> Touch<'a> {
    /// The part of an access that touches a register.
    pub(crate) fn new(register: &'a RegisterName, offset: u64, data: &[u8]) -> Self {
        let (mut value, mut mask) = (0, 0);
        for (byte, at) in data.iter().zip(offset..) {
            let Some(index) = at.checked_sub(register.offset) else { continue };
            if index < u64::from(register.width).min(8) {
                value |= u64::from(*byte) << (8 * index);
                mask |= 0xff << (8 * index);
            }
        }
        Self { name: &register.name, value, mask }
    }

    /// What a register holds after this write, if it takes everything.
    pub(crate) fn onto(&self, old: u64) -> u64 {
        old & !self.mask | self.value
    }
}

/// Watches for a kind of mistake.
pub(crate) trait Monitor: Send {
    /// The driver read a register.
    fn read(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
        let (_, _, _) = (place, touch, findings);
    }

    /// The driver wrote a register.
    fn write(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
        let (_, _, _) = (place, touch, findings);
    }

    /// Any record, after its registers.
    fn record(&mut self, place: Place, record: &Record<'_>, findings: &mut Findings) {
        let (_, _, _) = (place, record, findings);
    }
}

/// The monitors that know something about a device.
pub(crate) fn all(device: &str) -> Vec<Box<dyn Monitor>> {
    let mut all: Vec<Box<dyn Monitor>> = vec![Box::<pci::Pci>::default()];
    if device == "qat" {
        all.push(Box::<qat::Qat>::default());
    } else if device == "qaic" {
        all.push(Box::<qaic::Qaic>::default());
    } else if device.starts_with("virtio-") {
        all.push(Box::<virtio::Virtio>::default());
    }
    all
}
