//! The rules that monitors hold drivers to. The ledger (`conformance/requirements/driver.json`) has a
//! demand for each; a test of `understudy` compares the two.

/// What a finding is called, and the text that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// `area/what-is-wrong`: the area is `pci`, or what the device is.
    pub id: &'static str,
    /// Specification and section, or the header that drivers are written to.
    pub clause: &'static str,
}

const fn rule(id: &'static str, clause: &'static str) -> Rule {
    Rule { id, clause }
}

/// All of them.
pub const RULES: &[Rule] = &[
    rule("pci/reserved-bits", "PCI 3.0 §6.2.2"),
    rule("pci/doorbell-before-bus-master", "PCI 3.0 §6.2.2"),
    rule("pci/memory-disabled", "PCI 3.0 §6.2.2"),
    rule("pci/access-size", "the device's register widths"),
    rule("pci/intx-ignored", "PCI 3.0 §2.2.6"),
    rule("pci/msi-and-msix", "PCI 3.0 §6.8.2"),
    rule("virtio/descriptor-changed", "virtio 1.3 §2.7.13"),
    rule("virtio/isr-not-read", "virtio 1.3 §4.1.4.5.2"),
    rule("virtio/features-after-ok", "virtio 1.3 §3.1.1"),
    rule("virtio/feature-not-offered", "virtio 1.3 §2.2.1"),
    rule("virtio/available-index", "virtio 1.3 §2.7.6.1"),
    rule("virtio/descriptor-reused", "virtio 1.3 §2.7.13"),
    rule("virtio/unmapped-in-flight", "virtio 1.3 §2.7.13"),
    rule("virtio/reset-not-awaited", "virtio 1.3 §4.1.4.3.1"),
    rule("virtio/features-ok-not-read", "virtio 1.3 §3.1.1"),
    rule("virtio/reserved-bits", "virtio 1.3 §2.1"),
    rule("virtio/status-bit-cleared", "virtio 1.3 §2.1.1"),
    rule("virtio/initialisation-order", "virtio 1.3 §3.1.1"),
    rule("virtio/version-1-not-accepted", "virtio 1.3 §6.1"),
    rule("virtio/queue-enable-0", "virtio 1.3 §4.1.4.3.2"),
    rule("virtio/queue-not-configured", "virtio 1.3 §4.1.4.3.2"),
    rule("virtio/enabled-queue-changed", "virtio 1.3 §4.1.4.3.2"),
    rule("virtio/queue-size", "virtio 1.3 §4.1.4.3.2"),
    rule("virtio/notify-before-driver-ok", "virtio 1.3 §3.1.1"),
    rule("virtio/notify-disabled-queue", "virtio 1.3 §4.1.4.3.2"),
    rule("virtio/indirect-not-accepted", "virtio 1.3 §2.7.5.3.1"),
    rule("virtio/indirect-next", "virtio 1.3 §2.7.5.3.1"),
    rule("virtio/descriptor-order", "virtio 1.3 §2.7.4.2"),
    rule("qat/reserved-bits", "adf_gen2_hw_csr_data.h"),
    rule("qat/request-changed", "icp_qat_fw.h"),
    rule("qat/interrupt-ignored", "adf_gen2_hw_csr_data.h"),
    rule("qat/mailbox-origin", "adf_pfvf_msg.h"),
    rule("qat/request-not-valid", "icp_qat_fw.h"),
    rule("qat/unmapped-in-flight", "icp_qat_fw.h"),
    rule("qat/completions-missed", "adf_gen2_hw_csr_data.h"),
    rule("qat/ring-changed-in-flight", "adf_gen2_hw_csr_data.h"),
    rule("qat/tail-before-setup", "adf_gen2_hw_csr_data.h"),
    rule("qat/tail-before-enable", "adf_gen2_hw_csr_data.h"),
    rule("qat/rings-before-init", "adf_gen2_hw_csr_data.h"),
    rule("qat/tail-value", "adf_gen2_hw_csr_data.h"),
    rule("qaic/reset-not-awaited", "mhi/common.h"),
    rule("qaic/reserved-bits", "mhi/common.h"),
    rule("qaic/state-asked-for", "mhi.rst"),
    rule("qaic/m0-before-ready", "mhi.rst"),
    rule("qaic/m0-before-contexts", "mhi.rst"),
    rule("qaic/contexts-moved", "mhi.rst"),
    rule("qaic/image-while-loading", "mhi/boot.c"),
    rule("qaic/image-not-set", "mhi/boot.c"),
    rule("qaic/image-outside-pbl", "mhi.rst"),
    rule("qaic/doorbell-halves", "mhi/main.c"),
    rule("qaic/channel-not-started", "mhi.rst"),
    rule("qaic/doorbell-before-m0", "mhi.rst"),
    rule("qaic/doorbell-outside-ring", "mhi.rst"),
    rule("qaic/context", "mhi/common.h"),
    rule("qaic/command-element", "mhi/common.h"),
    rule("qaic/channel-order", "mhi.rst"),
    rule("qaic/transfer-element", "mhi/common.h"),
    rule("qaic/bridge-before-activation", "aic100.rst"),
    rule("qaic/bridge-pointer", "aic100.rst"),
    rule("qaic/response-head", "aic100.rst"),
    rule("qaic/request", "qaic_data.c"),
    rule("qaic/element-changed", "mhi.rst"),
    rule("qaic/interrupt-ignored", "qaic_data.c"),
    rule("qaic/unmapped-in-flight", "mhi.rst"),
];

/// The rule of this name.
pub(crate) fn find(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the monitors are written as: a rule that no driver breaks in a test is in there too.
    const MONITORS: &str = concat!(
        include_str!("pci.rs"),
        include_str!("qaic.rs"),
        include_str!("qaic/bridge.rs"),
        include_str!("qaic/rings.rs"),
        include_str!("qat.rs"),
        include_str!("virtio.rs")
    );

    #[test]
    fn monitors_use_these_rules_and_no_others() {
        let quoted = MONITORS.split('"').skip(1).step_by(2);
        let areas = ["pci/", "qaic/", "qat/", "virtio/"];
        let mut used: Vec<&str> =
            quoted.filter(|text| areas.iter().any(|area| text.starts_with(area))).collect();
        used.sort_unstable();
        used.dedup();
        let mut rules: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
        rules.sort_unstable();
        assert_eq!(used, rules);
    }
}
