//! What a fault that happened explains.
//!
//! A run is judged as strictly as its faults allow: a fault that says nothing here explains nothing.

use understudy_faults::Kind;

use crate::book::{Deviation, FailureKind};

/// As often as one likes.
const ANY: u64 = u64::MAX;

/// How often each deviation is explained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Excuse {
    /// Wrong results.
    wrong: u64,
    /// Refusals, and wrong requests that succeed.
    refused: u64,
    /// Requests that never complete.
    lost: u64,
    /// Completions of nothing.
    twice: u64,
    /// The driver may find anything wrong, wait in vain, and must start anew.
    confused: bool,
    /// Requests may take longer than the driver waits, but complete once the faults are over.
    slow: bool,
    /// The driver must start anew.
    anew: bool,
}

const NONE: Excuse =
    Excuse { wrong: 0, refused: 0, lost: 0, twice: 0, confused: false, slow: false, anew: false };
const SLOW: Excuse = Excuse { slow: true, ..NONE };
const CONFUSED: Excuse = Excuse { confused: true, lost: ANY, slow: true, anew: true, ..NONE };
/// The driver is lied to.
const LIES: Excuse = Excuse { wrong: ANY, refused: ANY, twice: ANY, ..CONFUSED };

/// What a run is like, as far as it decides what a fault explains.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    /// The transport relies on the order of completions.
    pub(crate) ordered: bool,
    /// Queues were taken away with requests in flight.
    pub(crate) abandons: bool,
}

/// What one time explains.
fn of(kind: &Kind, run: Circumstances) -> Excuse {
    let Circumstances { ordered, abandons } = run;
    match kind {
        Kind::CompletionLate { .. } | Kind::CompletionReordered {} if ordered => {
            Excuse { twice: ANY, ..CONFUSED }
        }
        // Nothing: each request is done, once, and right.
        Kind::DoorbellDuplicate {}
        | Kind::CompletionReordered {}
        | Kind::InterruptSpurious { .. }
        | Kind::InterruptStorm { .. } => NONE,
        // A doorbell of a queue that was taken away may reach the new one: it tells of entries that
        // are none, and the device answers them.
        Kind::DoorbellLate { .. } if abandons => Excuse { twice: ANY, ..CONFUSED },
        // Later, and right.
        Kind::DoorbellLate { .. }
        | Kind::QueueFull { .. }
        | Kind::CompletionLate { .. }
        | Kind::InterruptLate { .. }
        | Kind::FirmwareHang { .. }
        | Kind::SlowDevice { .. } => SLOW,
        // A device whose interrupt is not acknowledged sends no other: until its driver starts anew.
        Kind::InterruptLost {} | Kind::InterruptWrongVector { .. } => Excuse { anew: true, ..SLOW },
        // Requests behind a doorbell that was lost are found at the next one.
        Kind::DoorbellLost {} => Excuse { lost: ANY, ..SLOW },
        // One request, in one way.
        Kind::CompletionStatus { .. } => Excuse { refused: 1, ..NONE },
        Kind::CompletionLost {} => Excuse { lost: 1, ..SLOW },
        // The output may be the name of a session, or its status if it was written in pieces.
        Kind::CorruptOutput { .. } => {
            Excuse { wrong: 1, refused: ANY, confused: true, anew: true, ..NONE }
        }
        Kind::CompletionDuplicate {} => Excuse { twice: 1, confused: true, lost: ANY, ..SLOW },
        // Everything under way is gone. A driver that reads the device's pointers finds others.
        Kind::SurpriseRemoval { .. } | Kind::LinkFlap { .. } | Kind::SpontaneousReset {} => {
            Excuse { twice: ANY, ..CONFUSED }
        }
        // The device refuses to work.
        Kind::ResetHang { .. } | Kind::FeatureMissing { .. } => CONFUSED,
        Kind::DmaReadError {} | Kind::DmaWriteError {} => Excuse { refused: ANY, ..CONFUSED },
        Kind::AllOnes {}
        | Kind::ConfigError {}
        | Kind::StuckBit { .. }
        | Kind::StaleRead {}
        | Kind::TornRead {}
        | Kind::CompletionWrongTag { .. }
        | Kind::CompletionTorn { .. }
        | Kind::CompletionBeforeData { .. }
        | Kind::DmaPartial {}
        | Kind::DmaStale {} => LIES,
    }
}

impl Excuse {
    /// What these faults explain, each with how often it happened.
    pub(crate) fn of<'a>(fired: impl Iterator<Item = (&'a Kind, u64)>, run: Circumstances) -> Self {
        fired.filter(|(_, times)| *times > 0).fold(NONE, |all, (kind, times)| {
            let one = of(kind, run);
            let add = |all: u64, one: u64| all.saturating_add(one.saturating_mul(times));
            Self {
                wrong: add(all.wrong, one.wrong),
                refused: add(all.refused, one.refused),
                lost: add(all.lost, one.lost),
                twice: add(all.twice, one.twice),
                confused: all.confused || one.confused,
                slow: all.slow || one.slow,
                anew: all.anew || one.anew,
            }
        })
    }

    /// Whether the driver may wait in vain, as long as the faults go on.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow
    }

    /// Whether the driver may find anything wrong.
    pub(crate) fn is_confused(&self) -> bool {
        self.confused
    }

    /// Whether the driver must start anew once the faults are over.
    pub(crate) fn starts_anew(&self) -> bool {
        self.anew
    }

    /// Whether so many requests may be lost.
    pub(crate) fn loses(&self, count: u64) -> bool {
        count <= self.lost
    }
}

/// What has been explained so far.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    wrong: u64,
    refused: u64,
    twice: u64,
}

impl Judge {
    /// Whether the faults explain this one too.
    pub(crate) fn explains(&mut self, excuse: &Excuse, deviation: &Deviation) -> bool {
        let (seen, explained) = match deviation.kind {
            FailureKind::Wrong => (&mut self.wrong, excuse.wrong),
            FailureKind::Refused | FailureKind::Accepted => (&mut self.refused, excuse.refused),
            FailureKind::Twice => (&mut self.twice, excuse.twice),
            FailureKind::Stray => return excuse.wrong == ANY,
            FailureKind::Silent => return excuse.slow || excuse.confused,
            FailureKind::Driver => return excuse.confused,
            _ => return false,
        };
        *seen += 1;
        *seen <= explained
    }
}
