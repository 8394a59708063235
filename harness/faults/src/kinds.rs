//! What can go wrong, and what a device refuses.

use serde::Serialize;
use understudy_device::Vocabulary;

use crate::plan::{Kind, Site};
use crate::resolve::Target;

/// A kind of fault, for lists and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KindInfo {
    /// Name, as in plans.
    pub name: &'static str,
    /// What it belongs to.
    pub group: &'static str,
    /// What happens, in one line.
    pub summary: &'static str,
    /// Where it acts. Empty: at once, whatever `when` is about.
    pub sites: &'static [Site],
    /// What it can or must be given.
    pub parameters: &'static [&'static str],
}

/// Why a device refuses a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Name of the kind.
    pub kind: &'static str,
    /// The reason.
    pub reason: String,
}

/// Whether a device has a kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Support {
    /// The kind.
    #[serde(flatten)]
    pub kind: KindInfo,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

const fn kind(
    name: &'static str,
    group: &'static str,
    sites: &'static [Site],
    parameters: &'static [&'static str],
    summary: &'static str,
) -> KindInfo {
    KindInfo { name, group, summary, sites, parameters }
}

/// Every kind, grouped.
#[rustfmt::skip]
pub const ALL: &[KindInfo] = &[
    kind("surprise-removal", "link", &[], &["for"], "the card is pulled: all ones, no DMA, no interrupts"),
    kind("link-flap", "link", &[], &["down"], "the link goes down and comes back, which resets the function"),
    kind("all-ones", "link", &[Site::Read], &[], "a register read returns all ones"),
    kind("config-error", "link", &[Site::Config], &[], "an access to config space fails"),
    kind("stuck-bit", "link", &[], &["register", "mask", "value", "for"], "bits of a register read as they should not"),
    kind("stale-read", "link", &[Site::Read], &[], "a register read returns what the one before it did"),
    kind("torn-read", "link", &[Site::Read], &[], "the upper half of a register read is old"),
    kind("doorbell-lost", "queue", &[Site::Doorbell], &[], "a doorbell does not reach the device"),
    kind("doorbell-late", "queue", &[Site::Doorbell], &["delay"], "a doorbell reaches the device later"),
    kind("doorbell-duplicate", "queue", &[Site::Doorbell], &[], "a doorbell reaches the device twice"),
    kind("queue-full", "queue", &[], &["queue", "for"], "nothing is taken from a queue, which its driver finds full"),
    kind("completion-status", "completion", &[Site::Completion], &["status"], "a request completes with an error of the device's own"),
    kind("completion-lost", "completion", &[Site::Completion], &[], "a completion is never written"),
    kind("completion-late", "completion", &[Site::Completion], &["delay"], "a completion is written later"),
    kind("completion-duplicate", "completion", &[Site::Completion], &[], "a completion is written twice"),
    kind("completion-reordered", "completion", &[Site::Completion], &[], "a completion is written after the next one"),
    kind("completion-wrong-tag", "completion", &[Site::Completion], &["tag"], "a completion names another request"),
    kind("completion-torn", "completion", &[Site::Completion], &["delay"], "half of a completion is there before the rest"),
    kind("completion-before-data", "completion", &[Site::Completion], &["delay"], "a completion is there before its data"),
    kind("interrupt-lost", "interrupt", &[Site::Interrupt], &[], "an interrupt is not sent"),
    kind("interrupt-late", "interrupt", &[Site::Interrupt], &["delay"], "an interrupt is sent later"),
    kind("interrupt-spurious", "interrupt", &[], &["vector"], "an interrupt is sent for no reason"),
    kind("interrupt-wrong-vector", "interrupt", &[Site::Interrupt], &["vector"], "an interrupt is sent with another vector"),
    kind("interrupt-storm", "interrupt", &[], &["interrupts", "interval", "vector"], "interrupts without end, or nearly so"),
    kind("dma-read-error", "dma", &[Site::DmaRead], &[], "the device cannot read guest memory"),
    kind("dma-write-error", "dma", &[Site::DmaWrite], &[], "the device cannot write guest memory"),
    kind("dma-partial", "dma", &[Site::DmaRead, Site::DmaWrite], &[], "half of a transfer is done, and the device is not told"),
    kind("dma-stale", "dma", &[Site::DmaRead], &[], "the device reads what was there the last time"),
    kind("reset-hang", "device", &[Site::Reset], &["for"], "a reset does not end"),
    kind("spontaneous-reset", "device", &[], &[], "the device resets itself, in the middle of whatever it does"),
    kind("firmware-hang", "device", &[], &["for"], "registers answer, and nothing else happens"),
    kind("corrupt-output", "device", &[Site::Completion], &["seed"], "a request succeeds with a bit of its output flipped"),
    kind("slow-device", "device", &[], &["delay", "for"], "one request at a time, so much time apart"),
    kind("feature-missing", "device", &[], &["feature"], "a feature is not offered"),
];

impl Kind {
    /// Its name, as in plans.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SurpriseRemoval { .. } => "surprise-removal",
            Self::LinkFlap { .. } => "link-flap",
            Self::AllOnes {} => "all-ones",
            Self::ConfigError {} => "config-error",
            Self::StuckBit { .. } => "stuck-bit",
            Self::StaleRead {} => "stale-read",
            Self::TornRead {} => "torn-read",
            Self::DoorbellLost {} => "doorbell-lost",
            Self::DoorbellLate { .. } => "doorbell-late",
            Self::DoorbellDuplicate {} => "doorbell-duplicate",
            Self::QueueFull { .. } => "queue-full",
            Self::CompletionStatus { .. } => "completion-status",
            Self::CompletionLost {} => "completion-lost",
            Self::CompletionLate { .. } => "completion-late",
            Self::CompletionDuplicate {} => "completion-duplicate",
            Self::CompletionReordered {} => "completion-reordered",
            Self::CompletionWrongTag { .. } => "completion-wrong-tag",
            Self::CompletionTorn { .. } => "completion-torn",
            Self::CompletionBeforeData { .. } => "completion-before-data",
            Self::InterruptLost {} => "interrupt-lost",
            Self::InterruptLate { .. } => "interrupt-late",
            Self::InterruptSpurious { .. } => "interrupt-spurious",
            Self::InterruptWrongVector { .. } => "interrupt-wrong-vector",
            Self::InterruptStorm { .. } => "interrupt-storm",
            Self::DmaReadError {} => "dma-read-error",
            Self::DmaWriteError {} => "dma-write-error",
            Self::DmaPartial {} => "dma-partial",
            Self::DmaStale {} => "dma-stale",
            Self::ResetHang { .. } => "reset-hang",
            Self::SpontaneousReset {} => "spontaneous-reset",
            Self::FirmwareHang { .. } => "firmware-hang",
            Self::CorruptOutput { .. } => "corrupt-output",
            Self::SlowDevice { .. } => "slow-device",
            Self::FeatureMissing { .. } => "feature-missing",
        }
    }

    /// Its entry in [`ALL`].
    #[must_use]
    pub fn info(&self) -> &'static KindInfo {
        let name = self.name();
        ALL.iter().find(|info| info.name == name).unwrap_or(&ALL[0])
    }
}

/// Every kind, and whether the device has it.
#[must_use]
pub fn support(target: &Target) -> Vec<Support> {
    ALL.iter().map(|kind| Support { kind: *kind, refused: refusal(kind.name, target) }).collect()
}

/// Why the device refuses a kind, if it does.
#[must_use]
pub fn refusal(kind: &str, target: &Target) -> Option<String> {
    let words: &Vocabulary = target.vocabulary;
    if let Some((_, reason)) = words.refused.iter().find(|(name, _)| *name == kind) {
        return Some((*reason).to_owned());
    }
    let reason = match kind {
        "doorbell-lost" | "doorbell-late" | "doorbell-duplicate" if words.doorbells.is_empty() => {
            "the device has no doorbells"
        }
        "completion-wrong-tag" if words.tag.is_none() => "completions carry no tag",
        "completion-status" if words.statuses.is_empty() => "the device has no error statuses",
        "interrupt-wrong-vector" if target.vectors < 2 => "the function has one vector",
        "feature-missing" if words.features.is_none() => "no register offers features",
        "queue-full" if target.queues.is_empty() => "the device has no queues",
        _ => return None,
    };
    Some(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_format() {
        let schema = serde_json::to_string(&schemars::schema_for!(Kind)).unwrap();
        for kind in ALL {
            assert!(schema.contains(&format!("\"const\":\"{}\"", kind.name)), "{}", kind.name);
        }
        assert_eq!(schema.matches("\"const\":").count(), ALL.len());
    }
}
