//! `vfio-user/…`: the protocol itself.

use crate::Check;

mod dma;
mod dma_use;
mod feature;
mod header;
mod info;
mod irqs;
mod regions;
mod session;
mod version;

pub(super) const CHECKS: &[&[Check]] = &[
    version::CHECKS,
    header::CHECKS,
    info::CHECKS,
    dma::CHECKS,
    dma_use::CHECKS,
    irqs::CHECKS,
    regions::CHECKS,
    feature::CHECKS,
    session::CHECKS,
];
