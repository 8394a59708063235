//! Each rule for drivers of the Cloud AI 100 is broken once; the same driver without the mistake has
//! no findings.

#[cfg(test)]
#[path = "common/driver.rs"]
mod driver;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use understudy_device::{AccessError, Bar, ResetKind, Tap};
    use understudy_pci::Irq;
    use understudy_trace::{Header, RULES, Record, RegisterName};

    use crate::driver::Driver;

    const CHANNEL_CONTEXTS: u64 = 0x1_0000;
    const EVENT_CONTEXTS: u64 = 0x2_0000;
    const COMMAND_CONTEXT: u64 = 0x3_0000;
    const COMMANDS: u64 = 0x4_0000;
    const EVENTS: u64 = 0x5_0000;
    /// Of the control channel to the device.
    const TRANSFERS: u64 = 0x6_0000;
    const REQUESTS: u64 = 0x7_0000;
    const BUFFER: u64 = 0x8_0000;
    /// Queues of that channel and of the command ring.
    const CONTROL: u16 = 26;
    const COMMAND: u16 = 40;
    const START: u8 = 0x12;
    const RESET: u8 = 0x10;

    /// Where the registers lie is known from `drivers/bus/mhi/common.h` and `drivers/accel/qaic`; a
    /// test of `understudy` looks for them in the model.
    fn new() -> Driver {
        let registers = [
            ("mhicfg", 0x10, 4),
            ("mhictrl", 0x38, 4),
            ("mhistatus", 0x48, 4),
            ("ccabap", 0x58, 8),
            ("ecabap", 0x60, 8),
            ("crcbap", 0x68, 8),
            ("crdb", 0x70, 8),
            ("soc_reset_req", 0xb0, 4),
            ("imgaddr", 0x108, 8),
            ("imgsize", 0x110, 4),
            ("imgtxdb", 0x118, 4),
            ("execenv", 0x128, 4),
            ("status", 0x12c, 4),
            ("erdb[0]", 0xb00, 8),
            ("chdb[10]", 0xc50, 8),
            ("chdb[127]", 0xff8, 8),
        ];
        let mhi = registers.map(|(name, offset, width)| RegisterName {
            name: format!("mhi.{name}"),
            bar: 0,
            offset,
            width,
        });
        let bridge = [("reqhp", 0), ("reqtp", 4), ("rsphp", 8), ("rsptp", 12)];
        let bridge = bridge.map(|(name, offset)| RegisterName {
            name: format!("dbc.{name}[0]"),
            bar: 2,
            offset: 0x2_0000 + offset,
            width: 4,
        });
        let registers = mhi.into_iter().chain(bridge).collect();
        Driver::new(Header { device: "qaic".to_owned(), registers, ..Header::default() })
    }

    fn context(kind: u32, base: u64, len: u64, rp: u64) -> Vec<u8> {
        let mut raw = [0, kind, 0].map(u32::to_le_bytes).concat();
        raw.extend([base, len, rp, base].map(u64::to_le_bytes).as_flattened());
        raw
    }

    fn element(ptr: u64, low: u32, high: u32) -> Vec<u8> {
        let mut raw = ptr.to_le_bytes().to_vec();
        raw.extend([low, high].map(u32::to_le_bytes).as_flattened());
        raw
    }

    /// A message that asks for a channel with eight requests: header, transaction.
    fn activation() -> Vec<u8> {
        let mut raw = [0, 0x4349_4151, 0, 72, 1, 0, 0, 0, 9, 40].map(u32::to_le_bytes).concat();
        raw.extend([REQUESTS, REQUESTS + 0x1000].map(u64::to_le_bytes).as_flattened());
        raw.extend([8_u32, 8, 0, 0].map(u32::to_le_bytes).as_flattened());
        raw
    }

    fn request() -> [u8; 64] {
        let mut raw = [0; 64];
        // To the device, in one run of bytes, with a response.
        (raw[0], raw[3]) = (1, 0x19);
        raw[8..16].copy_from_slice(&BUFFER.to_le_bytes());
        raw[24] = 64;
        raw
    }

    impl Driver {
        fn halves(&mut self, name: &str, value: u64) {
            self.half(name, 4, value >> 32);
            self.half(name, 0, value & 0xffff_ffff);
        }

        fn half(&mut self, name: &str, at: u64, value: u64) {
            let RegisterName { bar, offset, .. } = self.register(name);
            let (bar, offset, data) = (Bar(bar), offset + at, &value.to_le_bytes()[..4]);
            self.record(&Record::BarWrite { at: 0, bar, offset, data, error: None });
        }

        fn contexts(&mut self) {
            self.write("mhi.mhicfg", 0x1_8000 | 1 << 16);
            self.halves("mhi.ccabap", CHANNEL_CONTEXTS);
            self.halves("mhi.ecabap", EVENT_CONTEXTS);
            self.halves("mhi.crcbap", COMMAND_CONTEXT);
        }

        fn reset_mhi(&mut self) {
            self.write("mhi.mhictrl", 2);
            self.read("mhi.mhictrl", 0);
        }

        fn boot(&mut self) {
            self.read("mhi.execenv", 0);
            self.halves("mhi.imgaddr", BUFFER);
            self.write("mhi.imgsize", 64);
            self.write("mhi.imgtxdb", 1);
            self.read("mhi.status", 2 << 30);
        }

        fn enter_m0(&mut self) {
            self.reset_mhi();
            self.read("mhi.mhistatus", 1);
            self.contexts();
            self.halves("mhi.erdb[0]", EVENTS + 0x10);
            self.write("mhi.mhictrl", 2 << 8);
            self.device_reads(EVENT_CONTEXTS, &context(1, EVENTS, 0x100, EVENTS));
            self.device_reads(COMMAND_CONTEXT, &context(0, COMMANDS, 0x100, COMMANDS));
            // The event that says so.
            let data = &element(0, 2 << 24, 0x20 << 16);
            self.record(&Record::DmaWrite { iova: EVENTS, len: 16, hash: 0, data, fault: None });
            self.halves("mhi.chdb[127]", 1);
        }

        fn command(&mut self, kind: u8) {
            self.halves("mhi.crdb", COMMANDS + 0x10);
            self.device_reads(COMMANDS, &[0; 16]);
            self.tap(Tap::Fetched, COMMAND, &element(0, 0, 10 << 24 | u32::from(kind) << 16));
        }

        fn channel_context(&mut self, context: &[u8]) {
            self.device_reads(CHANNEL_CONTEXTS + 10 * 44, context);
        }

        fn start_channel(&mut self) {
            self.enter_m0();
            self.command(START);
            self.channel_context(&context(1, TRANSFERS, 0x100, TRANSFERS));
        }

        fn transfer(&mut self, high: u32) {
            self.halves("mhi.chdb[10]", TRANSFERS + 0x10);
            self.device_reads(TRANSFERS, &[0; 16]);
            self.tap(Tap::Fetched, CONTROL, &element(BUFFER, 72, high));
        }

        fn activate(&mut self) {
            self.start_channel();
            self.transfer(0x2_0200);
            self.device_reads(BUFFER, &activation());
            self.tap(Tap::Completing, CONTROL, &element(TRANSFERS, 2 << 24, 0x22 << 16));
        }

        fn request(&mut self, raw: &[u8; 64]) {
            self.write("dbc.reqtp[0]", 1);
            self.device_reads(REQUESTS, raw);
            self.tap(Tap::Fetched, 0, raw);
        }
    }

    fn clean() -> Driver {
        let mut it = new();
        it.boot();
        it.activate();
        it.unmaps(BUFFER);
        for round in 1..=20 {
            it.request(&request());
            it.tap(Tap::Completing, 0, &[1, 0, 0, 0]);
            it.interrupts(Irq::Msi, 1);
            it.read("dbc.rsptp[0]", round % 8);
            it.write("dbc.rsphp[0]", round % 8);
        }
        it.unmaps(BUFFER);
        // The device crashed, and its pointers are as new.
        it.read("dbc.rsphp[0]", 0);
        it.read("dbc.rsptp[0]", 0);
        it.write("dbc.rsphp[0]", 0);
        it.halves("mhi.erdb[0]", EVENTS + 0x20);
        it.command(RESET);
        it.reset_mhi();
        it.contexts();
        it.record(&Record::Reset { at: 0, kind: ResetKind::Function });
        it
    }

    type Mistake = (&'static str, fn(&mut Driver));

    /// A mistake for each rule. It is made by the last thing that the driver does.
    const MISTAKES: [Mistake; 24] = [
        ("qaic/reset-not-awaited", |it| {
            it.write("mhi.mhictrl", 2);
            it.write("mhi.mhicfg", 0);
        }),
        ("qaic/reserved-bits", |it| it.write("mhi.mhictrl", 6)),
        ("qaic/state-asked-for", |it| it.write("mhi.mhictrl", 7 << 8)),
        ("qaic/m0-before-ready", |it| {
            it.reset_mhi();
            it.contexts();
            it.write("mhi.mhictrl", 2 << 8);
        }),
        ("qaic/m0-before-contexts", |it| {
            it.reset_mhi();
            it.read("mhi.mhistatus", 1);
            it.write("mhi.mhictrl", 2 << 8);
        }),
        ("qaic/contexts-moved", |it| {
            it.enter_m0();
            it.half("mhi.ccabap", 0, 0x9000);
        }),
        ("qaic/image-while-loading", |it| {
            it.halves("mhi.imgaddr", BUFFER);
            it.write("mhi.imgsize", 64);
            it.write("mhi.imgtxdb", 1);
            it.write("mhi.imgsize", 32);
        }),
        ("qaic/image-not-set", |it| it.write("mhi.imgtxdb", 1)),
        ("qaic/image-outside-pbl", |it| {
            it.read("mhi.execenv", 2);
            it.halves("mhi.imgaddr", BUFFER);
            it.write("mhi.imgsize", 64);
            it.write("mhi.imgtxdb", 1);
        }),
        ("qaic/doorbell-halves", |it| {
            it.enter_m0();
            it.half("mhi.crdb", 0, COMMANDS);
        }),
        ("qaic/channel-not-started", |it| {
            it.enter_m0();
            it.halves("mhi.chdb[10]", TRANSFERS);
        }),
        ("qaic/doorbell-before-m0", |it| {
            it.enter_m0();
            it.read("mhi.mhistatus", 5 << 8);
            it.halves("mhi.crdb", COMMANDS);
        }),
        ("qaic/doorbell-outside-ring", |it| {
            it.enter_m0();
            it.halves("mhi.crdb", COMMANDS + 0x100);
        }),
        ("qaic/context", |it| {
            it.enter_m0();
            it.command(START);
            it.channel_context(&context(1, TRANSFERS, 0x100, TRANSFERS + 8));
        }),
        ("qaic/command-element", |it| {
            it.enter_m0();
            it.command(0x13);
        }),
        ("qaic/channel-order", |it| {
            it.start_channel();
            it.command(START);
        }),
        ("qaic/transfer-element", |it| {
            it.start_channel();
            it.transfer(0x2_0202);
        }),
        ("qaic/bridge-before-activation", |it| {
            it.start_channel();
            it.write("dbc.reqtp[0]", 1);
        }),
        ("qaic/bridge-pointer", |it| {
            it.activate();
            it.write("dbc.reqtp[0]", 8);
        }),
        ("qaic/response-head", |it| {
            it.activate();
            it.request(&request());
            it.write("dbc.rsphp[0]", 1);
        }),
        ("qaic/request", |it| {
            it.activate();
            let mut raw = request();
            raw[28] = 1;
            it.request(&raw);
        }),
        ("qaic/element-changed", |it| {
            it.start_channel();
            it.changes_entry();
        }),
        ("qaic/interrupt-ignored", |it| it.interrupts(Irq::Msi, 256)),
        ("qaic/unmapped-in-flight", |it| {
            it.activate();
            it.request(&request());
            it.unmaps(BUFFER);
        }),
    ];

    #[test]
    fn each_rule_is_found_where_it_is_broken_and_nothing_else_is() {
        let mut wrong = Vec::new();
        for (rule, make) in MISTAKES {
            let mut driver = new();
            make(&mut driver);
            let found = driver.found();
            if found != [(rule, driver.position)] {
                wrong.push(format!("{rule} at {}: found {found:?}", driver.position));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn each_rule_has_a_mistake() {
        let made: BTreeSet<&str> = MISTAKES.iter().map(|(rule, _)| *rule).collect();
        let rules = RULES.iter().map(|rule| rule.id).filter(|id| id.starts_with("qaic/"));
        assert_eq!(made, rules.collect());
    }

    #[test]
    fn a_driver_without_mistakes_has_no_findings() {
        assert_eq!(clean().found(), []);
    }

    #[test]
    fn rules_of_pci_hold_too() {
        let mut it = new();
        it.fails(AccessError::Disabled);
        assert_eq!(it.found(), [("pci/memory-disabled", 1)]);
    }
}
