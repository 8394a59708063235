//! Drivers to fuzz: our small ones, and one with planted bugs.

mod planted;
#[cfg(feature = "qaic")]
mod qaic;
mod qat;
mod virtio_crypto;

use crate::target::Target;

pub use planted::{BUGS, Bug, Planted};
#[cfg(feature = "qaic")]
pub use qaic::QaicDriver;
pub use qat::QatDriver;
pub use virtio_crypto::VirtioCryptoDriver;

/// Names of the targets that are there, those with planted bugs last.
#[must_use]
pub fn names() -> Vec<String> {
    let mut names = vec!["virtio-crypto".to_owned(), "qat".to_owned()];
    if cfg!(feature = "qaic") {
        names.push("qaic".to_owned());
    }
    names.extend(BUGS.iter().map(|bug| format!("planted/{}", bug.name())));
    names
}

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<Box<dyn Target>> {
    match name {
        "virtio-crypto" => Some(Box::new(VirtioCryptoDriver)),
        "qat" => Some(Box::new(QatDriver)),
        #[cfg(feature = "qaic")]
        "qaic" => Some(Box::new(QaicDriver)),
        _ => {
            let bug = name.strip_prefix("planted/")?;
            let bug = BUGS.iter().find(|it| it.name() == bug)?;
            Some(Box::new(Planted::new(*bug)))
        }
    }
}

/// Bytes that tell lengths and places apart.
fn pattern(len: u16) -> Vec<u8> {
    (0..len).map(|at| (at ^ at >> 8).to_le_bytes()[0]).collect()
}
