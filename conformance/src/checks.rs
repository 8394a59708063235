//! The checks, by area.

use crate::Check;

/// Checks of one group, a row each: number, title, clause, code.
macro_rules! group {
    ($group:literal: $([$number:literal, $title:literal, $clause:literal, $run:expr]),* $(,)?) => {
        pub(super) const CHECKS: &[Check] = &[$(Check {
            id: concat!($group, "/", $number),
            title: $title,
            clause: $clause,
            run: $run,
        }),*];
    };
}
pub(crate) use group;

mod pci;
mod qaic;
mod qat;
mod vectors;
mod vfio_user;
mod virtio;
mod virtio_crypto;

/// Every check, in the order in which they run.
#[must_use]
pub fn all() -> Vec<&'static Check> {
    let areas = [
        vfio_user::CHECKS,
        pci::CHECKS,
        virtio::CHECKS,
        virtio_crypto::CHECKS,
        qat::CHECKS,
        qaic::CHECKS,
    ];
    areas.into_iter().flatten().copied().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let mut seen = BTreeSet::new();
        for check in all() {
            assert!(seen.insert(check.id), "{} is used twice", check.id);
            let (group, number) = check.id.rsplit_once('/').unwrap();
            assert!(number.parse::<u32>().is_ok_and(|n| n > 0), "{} has no number", check.id);
            assert!(group.contains('/'), "{} has no part below its area", check.id);
            assert!(
                check
                    .id
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "/.-".contains(c)),
                "{} has other characters",
                check.id
            );
        }
    }

    #[test]
    fn every_check_says_what_and_where() {
        for check in all() {
            assert!(check.title.len() > 10, "{} has no title", check.id);
            assert!(!check.title.ends_with('.'), "{}: titles end without a full stop", check.id);
            assert!(check.clause.len() > 5, "{} names no clause", check.id);
        }
    }
}
