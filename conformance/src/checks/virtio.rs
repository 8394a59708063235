//! `virtio/…`: the PCI transport, the device's life, and its rings.
//!
//! Numbers in ids are sections of virtio 1.3. Rings are tried with queue 0, which takes any request
//! and gives it back, be it as an error of the device type's own.

use crate::Check;

mod hostile;
mod lifecycle;
mod rings;
mod transport;

pub(super) const CHECKS: &[&[Check]] =
    &[transport::CHECKS, lifecycle::CHECKS, rings::CHECKS, hostile::CHECKS];
