//! Each rule of the monitors is broken once, by what a driver does to a real device's registers; the
//! same driver without the mistake has no findings.

#[cfg(test)]
#[path = "common/driver.rs"]
mod driver;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use understudy_device::{AccessError, DeviceModel, ResetKind, Tap};
    use understudy_pci::{Irq, PciFunction};
    use understudy_trace::{Header, Record, RegisterName, Watch};

    use crate::driver::Driver;

    const SOURCES: [&str; 3] = [
        include_str!("../src/monitor/pci.rs"),
        include_str!("../src/monitor/virtio.rs"),
        include_str!("../src/monitor/qat.rs"),
    ];

    fn new(device: &str) -> Driver {
        let model: Box<dyn DeviceModel> = if device == "qat" {
            Box::new(understudy_qat::Qat::new(understudy_qat::Parameters::default()).unwrap())
        } else {
            let parameters = understudy_virtio_crypto::Parameters::default();
            Box::new(understudy_virtio_crypto::VirtioCrypto::new(parameters).unwrap())
        };
        let function = PciFunction::new(model).unwrap();
        let registers = RegisterName::all(function.identity(), &function.inspect());
        Driver::new(Header { device: device.to_owned(), registers, ..Header::default() })
    }

    impl Driver {
        // virtio 1.3 §3.1.1, as far as `until`.

        fn reset(&mut self) {
            self.write("common.device_status", 0);
            self.read("common.device_status", 0);
        }

        fn negotiate(&mut self, words: [u64; 2]) {
            self.write("pci.command", 6);
            self.reset();
            self.write("common.device_status", 1);
            self.write("common.device_status", 3);
            for (word, offered) in [(0, 1 << 28), (1, 5)] {
                self.write("common.device_feature_select", word);
                self.read("common.device_feature", offered);
            }
            for (word, accepted) in (0..).zip(words) {
                self.write("common.driver_feature_select", word);
                self.write("common.driver_feature", accepted);
            }
        }

        fn set_up_queue(&mut self) {
            self.write("common.device_status", 11);
            self.read("common.device_status", 11);
            self.write("common.queue_select", 0);
            self.write("common.queue_size", 8);
            self.write("common.queue_desc", 0x1000);
            self.write("common.queue_driver", 0x2000);
            self.write("common.queue_device", 0x3000);
            self.write("common.queue_enable", 1);
        }

        fn start(&mut self, words: [u64; 2]) {
            self.negotiate(words);
            self.set_up_queue();
            self.write("common.device_status", 15);
        }

        /// Makes entry 0 available, which the device then takes.
        fn request(&mut self, index: u16, descriptors: &[u8]) {
            self.write("notify[0]", 0);
            self.device_reads(0x2002, &index.to_le_bytes());
            self.device_reads(0x2002 + 2 * u64::from(index), &[0, 0]);
            self.tap(Tap::Fetched, 0, descriptors);
        }

        // QAT.

        fn start_rings(&mut self) {
            self.write("pci.command", 6);
            // INIT to the physical function.
            self.write("misc.pf2vf", (1 | 2 | 3 << 2) << 16);
            for ring in [2, 10] {
                self.write(&format!("rings.config[{ring}]"), 6);
                self.write(&format!("rings.lbase[{ring}]"), 0x1000 * ring);
            }
            self.write("rings.ringsrvarben", 0xff);
        }

        fn qat_request(&mut self, flags: u8) {
            self.write("rings.tail[2]", 128);
            let mut entry = [0; 128];
            entry[3] = flags;
            entry[24] = 7;
            entry[32..40].copy_from_slice(&0x9000_u64.to_le_bytes());
            entry[48] = 16;
            self.tap(Tap::Fetched, 2, &entry);
        }

        fn qat_response(&mut self) {
            let mut response = [0; 32];
            response[8] = 7;
            self.tap(Tap::Completing, 2, &response);
        }
    }

    const VERSION_1: [u64; 2] = [0, 1];
    const INDIRECT_DESC: [u64; 2] = [1 << 28, 1];

    fn descriptor(flags: u8) -> [u8; 16] {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&0x8000_u64.to_le_bytes());
        (raw[8], raw[12]) = (16, flags);
        raw
    }

    /// A driver that makes no mistake: start, a request, its completion, an interrupt, reset.
    fn clean(device: &str) -> Driver {
        let mut it = new(device);
        if device == "qat" {
            it.start_rings();
            it.qat_request(0x80);
            it.qat_response();
            it.interrupts(Irq::Msi, 1);
            it.write("rings.head[10]", 32);
            it.unmaps(0x9000);
        } else {
            it.start(INDIRECT_DESC);
            it.request(1, &[descriptor(1), descriptor(2)].concat());
            it.tap(Tap::Completing, 0, &[0; 8]);
            it.interrupts(Irq::Intx, 1);
            it.read("isr.status", 1);
            it.request(2, &descriptor(4));
            it.device_reads(0x8000, &[descriptor(1), descriptor(2)].concat());
            it.tap(Tap::Completing, 0, &[0; 8]);
            it.unmaps(0x8000);
            it.reset();
        }
        it.record(&Record::Reset { at: 0, kind: ResetKind::Function });
        it.record(&Record::Detach { at: 0 });
        it
    }

    type Mistake = (&'static str, fn(&mut Driver));

    /// A mistake for each rule. It is made by the last thing that the driver does.
    const PCI: [Mistake; 6] = [
        ("pci/reserved-bits", |it| it.write("pci.command", 0x8006)),
        ("pci/doorbell-before-bus-master", |it| {
            it.start_rings();
            it.write("pci.command", 2);
            it.write("rings.tail[2]", 128);
        }),
        ("pci/memory-disabled", |it| it.fails(AccessError::Disabled)),
        ("pci/access-size", |it| it.fails(AccessError::Width { offset: 0, size: 3 })),
        ("pci/intx-ignored", |it| it.interrupts(Irq::Intx, 64)),
        ("pci/msi-and-msix", |it| {
            // No device has both: this one has now.
            let other = RegisterName {
                name: "msix.control".into(),
                offset: 0xf0,
                ..it.register("msi.control")
            };
            it.header.registers.push(other);
            it.watch = Watch::new(&it.header);
            it.write("msi.control", 1);
            it.write("msix.control", 0x8000);
        }),
    ];

    const VIRTIO: [Mistake; 22] = [
        ("virtio/reset-not-awaited", |it| {
            it.start(VERSION_1);
            it.write("common.device_status", 0);
            it.write("common.queue_select", 0);
        }),
        ("virtio/features-ok-not-read", |it| {
            it.negotiate(VERSION_1);
            it.write("common.device_status", 11);
            it.write("common.queue_size", 8);
        }),
        ("virtio/isr-not-read", |it| {
            it.start(VERSION_1);
            it.interrupts(Irq::Intx, 16);
        }),
        ("virtio/descriptor-changed", |it| {
            it.start(VERSION_1);
            it.changes_entry();
        }),
        ("virtio/reserved-bits", |it| {
            it.start(VERSION_1);
            it.write("common.device_status", 15 | 0x10);
        }),
        ("virtio/status-bit-cleared", |it| {
            it.start(VERSION_1);
            it.write("common.device_status", 11);
        }),
        ("virtio/initialisation-order", |it| {
            it.reset();
            it.write("common.device_status", 2);
        }),
        ("virtio/version-1-not-accepted", |it| {
            it.negotiate([0, 0]);
            it.write("common.device_status", 11);
        }),
        ("virtio/features-after-ok", |it| {
            it.start(VERSION_1);
            it.write("common.driver_feature", 1);
        }),
        ("virtio/feature-not-offered", |it| {
            it.negotiate(VERSION_1);
            it.write("common.driver_feature", 1 | 1 << 7);
        }),
        ("virtio/queue-enable-0", |it| {
            it.start(VERSION_1);
            it.write("common.queue_enable", 0);
        }),
        ("virtio/queue-not-configured", |it| {
            it.start(VERSION_1);
            it.write("common.queue_select", 1);
            it.write("common.queue_enable", 1);
        }),
        ("virtio/enabled-queue-changed", |it| {
            it.start(VERSION_1);
            it.write("common.queue_size", 8);
        }),
        ("virtio/queue-size", |it| {
            it.start(VERSION_1);
            it.write("common.queue_select", 1);
            it.write("common.queue_size", 6);
        }),
        ("virtio/notify-before-driver-ok", |it| {
            it.negotiate(VERSION_1);
            it.set_up_queue();
            it.write("notify[0]", 0);
        }),
        ("virtio/notify-disabled-queue", |it| {
            it.start(VERSION_1);
            it.write("notify[1]", 1);
        }),
        ("virtio/available-index", |it| {
            it.start(VERSION_1);
            it.device_reads(0x2002, &[1, 0]);
            it.device_reads(0x2002, &[0, 0]);
        }),
        ("virtio/descriptor-reused", |it| {
            it.start(VERSION_1);
            it.request(1, &descriptor(2));
            it.request(2, &descriptor(2));
        }),
        ("virtio/indirect-not-accepted", |it| {
            it.start(VERSION_1);
            it.request(1, &descriptor(4));
        }),
        ("virtio/indirect-next", |it| {
            it.start(INDIRECT_DESC);
            it.request(1, &descriptor(4 | 1));
        }),
        ("virtio/descriptor-order", |it| {
            it.start(VERSION_1);
            it.request(1, &[descriptor(2 | 1), descriptor(0)].concat());
        }),
        ("virtio/unmapped-in-flight", |it| {
            it.start(VERSION_1);
            it.request(1, &descriptor(2));
            it.unmaps(0x8000);
        }),
    ];

    const QAT: [Mistake; 12] = [
        ("qat/reserved-bits", |it| it.write("rings.int_col_en", 0x1_0000)),
        ("qat/request-changed", |it| {
            it.start_rings();
            it.changes_entry();
        }),
        ("qat/interrupt-ignored", |it| {
            it.start_rings();
            it.interrupts(Irq::Msi, 256);
        }),
        ("qat/mailbox-origin", |it| it.write("misc.pf2vf", (1 | 3 << 2) << 16)),
        ("qat/ring-changed-in-flight", |it| {
            it.start_rings();
            it.qat_request(0x80);
            it.write("rings.config[2]", 7);
        }),
        ("qat/tail-before-setup", |it| {
            it.start_rings();
            it.write("rings.config[3]", 6);
            it.write("rings.tail[3]", 128);
        }),
        ("qat/tail-before-enable", |it| {
            it.start_rings();
            it.write("rings.ringsrvarben", 0);
            it.write("rings.tail[2]", 128);
        }),
        ("qat/rings-before-init", |it| {
            it.write("pci.command", 6);
            it.write("rings.config[2]", 6);
            it.write("rings.lbase[2]", 0x1000);
            it.write("rings.ringsrvarben", 0xff);
            it.write("rings.tail[2]", 128);
        }),
        ("qat/tail-value", |it| {
            it.start_rings();
            it.write("rings.tail[2]", 65);
        }),
        ("qat/request-not-valid", |it| {
            it.start_rings();
            it.qat_request(0);
        }),
        ("qat/unmapped-in-flight", |it| {
            it.start_rings();
            it.qat_request(0x80);
            it.unmaps(0x9000);
        }),
        ("qat/completions-missed", |it| {
            it.start_rings();
            (0..65).for_each(|_| it.qat_response());
            it.record(&Record::Detach { at: 0 });
        }),
    ];

    #[test]
    fn each_rule_is_found_where_it_is_broken_and_nothing_else_is() {
        let rules = [("qat", &PCI[..]), ("virtio-crypto", &VIRTIO), ("qat", &QAT)];
        let mut wrong = Vec::new();
        for (device, mistakes) in rules {
            for (rule, make) in mistakes {
                let mut driver = new(device);
                make(&mut driver);
                let found = driver.found();
                if found != [(*rule, driver.position)] {
                    wrong.push(format!("{rule} at {}: found {found:?}", driver.position));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn each_rule_has_a_mistake() {
        let made: BTreeSet<&str> =
            PCI.iter().chain(&VIRTIO).chain(&QAT).map(|(rule, _)| *rule).collect();
        let quoted = SOURCES.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
        let is_rule = |word: &&str| {
            let kebab = |word: &str| {
                word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b.is_ascii_digit())
            };
            word.split_once('/')
                .is_some_and(|(of, rule)| ["pci", "virtio", "qat"].contains(&of) && kebab(rule))
        };
        let all: BTreeSet<&str> = quoted.filter(is_rule).collect();
        assert!(all.len() >= 40, "{all:?}");
        assert_eq!(all, made);
    }

    #[test]
    fn drivers_without_mistakes_have_no_findings() {
        for device in ["virtio-crypto", "qat"] {
            assert_eq!(clean(device).found(), [], "{device}");
        }
    }
}
