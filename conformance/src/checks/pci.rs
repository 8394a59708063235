//! `pci/…`: config space, BARs, capabilities and interrupts of the function.
//!
//! Numbers in ids are sections of PCI Local Bus 3.0, except under `pci/express` and `pci/pm`.

use crate::Check;

mod bars;
mod capabilities;
mod header;
mod interrupts;
mod registers;

pub(super) const CHECKS: &[&[Check]] =
    &[header::CHECKS, bars::CHECKS, capabilities::CHECKS, registers::CHECKS, interrupts::CHECKS];
