//! A driver that a monitor sees.

use understudy_device::{AccessError, Bar, Progress, Tap, Verdict};
use understudy_pci::{CONFIG_REGION, Irq};
use understudy_trace::{Header, Place, Record, RegisterName, Watch};

/// A driver, as its trace shows it.
pub(crate) struct Driver {
    pub(crate) header: Header,
    pub(crate) watch: Watch,
    pub(crate) position: u64,
}

impl Driver {
    pub(crate) fn new(header: Header) -> Self {
        let watch = Watch::new(&header);
        Self { header, watch, position: 0 }
    }

    pub(crate) fn record(&mut self, record: &Record<'_>) {
        self.position += 1;
        self.watch.record(Place { position: self.position, at: self.position }, record);
    }

    pub(crate) fn register(&self, name: &str) -> RegisterName {
        let found = self.header.registers.iter().find(|register| register.name == name);
        found.unwrap_or_else(|| panic!("no register {name}")).clone()
    }

    pub(crate) fn write(&mut self, name: &str, value: u64) {
        let RegisterName { bar, offset, width, .. } = self.register(name);
        let bytes = value.to_le_bytes();
        let data = &bytes[..usize::from(width)];
        if bar == CONFIG_REGION.0 {
            self.record(&Record::ConfigWrite { at: 0, offset, data, error: None });
        } else {
            self.record(&Record::BarWrite { at: 0, bar: Bar(bar), offset, data, error: None });
        }
    }

    pub(crate) fn read(&mut self, name: &str, value: u64) {
        let RegisterName { bar, offset, width, .. } = self.register(name);
        let data = &value.to_le_bytes()[..usize::from(width)];
        self.record(&Record::BarRead { at: 0, bar: Bar(bar), offset, data, error: None });
    }

    pub(crate) fn fails(&mut self, error: AccessError) {
        let (bar, data) = (Bar(0), &[0; 4]);
        self.record(&Record::BarWrite { at: 0, bar, offset: 0, data, error: Some(error) });
    }

    pub(crate) fn device_reads(&mut self, iova: u64, data: &[u8]) {
        let len = data.len() as u64;
        self.record(&Record::DmaRead { iova, len, data, fault: None });
    }

    pub(crate) fn tap(&mut self, point: Tap, queue: u16, entry: &[u8]) {
        let verdict = Verdict::Pass;
        self.record(&Record::Tap { point, queue, entry, edited: None, verdict });
    }

    pub(crate) fn changes_entry(&mut self) {
        self.record(&Record::EntryChanged { queue: 0, iova: 0x1000, was: &[0], is: &[1] });
    }

    pub(crate) fn unmaps(&mut self, iova: u64) {
        self.record(&Record::DmaUnmap { at: 0, iova, size: 0x1000 });
    }

    pub(crate) fn interrupts(&mut self, irq: Irq, count: u32) {
        for _ in 0..count {
            self.record(&Record::Signal { irq, vector: 0, heard: true });
            self.record(&Record::Poll { at: 0, budget: 1, progress: Progress::Idle });
        }
        // The place of the last interrupt.
        self.position -= 1;
    }

    pub(crate) fn found(&self) -> Vec<(&'static str, u64)> {
        let findings = self.watch.report().findings;
        findings.iter().map(|finding| (finding.id, finding.position)).collect()
    }
}
