//! The interrupts of the bundle: from responses to one coalesced line.

use understudy_device::{Bus, Nanos};

use crate::registers::COALESCE_ENABLE;

/// The interrupt registers of the bundle.
///
/// A ring with responses that its driver has not taken, and whose interrupts are enabled, starts
/// the timer; when that ends, rings that still have some are flagged. A flagged and enabled ring
/// asserts the line until its driver disables it or clears the flag.
#[derive(Debug, Default)]
pub(crate) struct Interrupts {
    /// Rings that have interrupted.
    flag: u16,
    /// Rings that may.
    enable: u16,
    control: u32,
    /// Kept for the driver; rings here interrupt when they are not empty.
    pub(crate) select: [u32; 2],
    deadline: Option<Nanos>,
}

impl Interrupts {
    pub(crate) fn flag(&self) -> u16 {
        self.flag
    }

    pub(crate) fn enable(&self) -> u16 {
        self.enable
    }

    pub(crate) fn control(&self) -> u32 {
        self.control
    }

    pub(crate) fn clear_flags(&mut self, rings: u16) {
        self.flag &= !rings;
    }

    pub(crate) fn set_enable(&mut self, rings: u16) {
        self.enable = rings;
        if rings == 0 {
            self.deadline = None;
        }
    }

    /// `INT_FLAG_AND_COL`: the driver turns interrupts off while it works, and on again.
    pub(crate) fn set_flag_and_enable(&mut self, rings: u16) {
        self.flag = 0;
        self.set_enable(rings);
    }

    pub(crate) fn set_control(&mut self, control: u32) {
        self.control = control;
    }

    /// Whether the line is asserted.
    pub(crate) fn line(&self) -> bool {
        self.flag & self.enable != 0
    }

    /// When the timer ends, if it runs.
    pub(crate) fn deadline(&self) -> Option<Nanos> {
        self.deadline
    }

    /// Takes note of which rings are not empty. Looks at the clock only where that matters.
    pub(crate) fn update(&mut self, busy: u16, bus: &dyn Bus) {
        let waiting = busy & self.enable & !self.flag;
        if waiting == 0 {
            self.deadline = None;
            return;
        }
        let now = bus.now();
        // Nanoseconds: the default of 0x27ff stands for the 10 µs that Intel documents.
        let held = if self.control & COALESCE_ENABLE == 0 { 0 } else { self.control & 0xf_ffff };
        let deadline = *self.deadline.get_or_insert(now.plus(held.into()));
        if deadline <= now {
            self.deadline = None;
            self.flag |= waiting;
        }
    }
}
