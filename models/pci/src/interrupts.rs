//! Interrupt delivery: which kind, what masks, what is pending.
//!
//! - The kind is the one enabled in config space, MSI-X before MSI. If neither is, it is the first
//!   of MSI-X and MSI that the client has set triggers for, since some clients never write config
//!   space; else INTx.
//! - A message is sent if nothing masks it (client, function mask, table entry, MSI mask bit), the
//!   function may master the bus, and the client has a trigger. PCI leaves open what becomes of a
//!   message that Bus Master Enable forbids: here it is pending like a masked one.
//! - Pending bits belong to their kind and stay until sent or reset. Raising a pending vector again
//!   adds nothing, as in hardware.
//! - INTx is a level that VFIO masks when it signals it, until the client unmasks it: then it is
//!   signalled again if still asserted.

use fixedbitset::FixedBitSet;
use understudy_device::{Counter, Identity, InterruptMode, RegisterState, Vector};

use crate::config_space::ConfigSpace;
use crate::msix::{self, Table};
use crate::{Host, Irq};

/// The number that `inspect` gives as the BAR of what no region holds.
const NO_REGION: u8 = 0xff;

/// State of one kind of message interrupt.
#[derive(Debug, Clone)]
struct Messages {
    pending: FixedBitSet,
    /// Masked by the client with `SET_IRQS`.
    client_masked: FixedBitSet,
}

impl Messages {
    fn new(vectors: u16) -> Self {
        let bits = FixedBitSet::with_capacity(vectors.into());
        Self { pending: bits.clone(), client_masked: bits }
    }
}

/// State of the INTx line.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    /// The level the model drives.
    asserted: bool,
    /// A pulse that could not be signalled yet.
    latched: bool,
    /// Masked by the client, or by VFIO's auto-mask.
    masked: bool,
}

/// A function's interrupts.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    has_pin: bool,
    line: Line,
    msi: Messages,
    msix: Messages,
    pub(crate) table: Option<Table>,
    sent: u64,
    pended: u64,
    dropped: u64,
}

impl Interrupts {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            has_pin: identity.interrupt_pin != 0,
            line: Line::default(),
            msi: Messages::new(identity.msi_vectors()),
            msix: Messages::new(identity.msix_vectors()),
            table: Table::new(identity),
            sent: 0,
            pended: 0,
            dropped: 0,
        }
    }

    /// Forgets levels, pending bits and table. The client's masks are the client's and stay.
    pub(crate) fn reset_function(&mut self) {
        self.line = Line { masked: self.line.masked, ..Line::default() };
        self.msi.pending.clear();
        self.msix.pending.clear();
        if let Some(table) = &mut self.table {
            table.reset();
        }
    }

    /// As new.
    pub(crate) fn reset(&mut self) {
        self.reset_function();
        self.line = Line::default();
        self.msi.client_masked.clear();
        self.msix.client_masked.clear();
        (self.sent, self.pended, self.dropped) = (0, 0, 0);
    }

    /// The kind of interrupt in use. See the module for the rule.
    pub(crate) fn mode(&self, config: &ConfigSpace, host: &dyn Host) -> InterruptMode {
        let offered = |messages: &Messages| messages.pending.len();
        self.enabled(config).unwrap_or_else(|| {
            if offered(&self.msix) > 0 && host.has_triggers(Irq::Msix) {
                InterruptMode::Msix { vectors: count(&self.msix) }
            } else if offered(&self.msi) > 0 && host.has_triggers(Irq::Msi) {
                InterruptMode::Msi { vectors: count(&self.msi) }
            } else {
                InterruptMode::Intx
            }
        })
    }

    /// The kind that config space enables.
    fn enabled(&self, config: &ConfigSpace) -> Option<InterruptMode> {
        if config.msix_enabled() {
            return Some(InterruptMode::Msix { vectors: count(&self.msix) });
        }
        config.msi_enabled().map(|vectors| InterruptMode::Msi { vectors })
    }

    /// The model raises a vector.
    pub(crate) fn raise(&mut self, config: &ConfigSpace, host: &mut dyn Host, vector: Vector) {
        let Vector(vector) = vector;
        match self.mode(config, host) {
            InterruptMode::Intx if self.has_pin && vector == 0 => {
                self.line.latched = true;
                self.deliver_line(config, host);
                self.pended += u64::from(self.line.latched);
            }
            InterruptMode::Msi { vectors } if vector < vectors => {
                self.raise_message(config, host, Irq::Msi, vector);
            }
            InterruptMode::Msix { vectors } if vector < vectors => {
                self.raise_message(config, host, Irq::Msix, vector);
            }
            _ => self.dropped += 1,
        }
    }

    fn raise_message(&mut self, config: &ConfigSpace, host: &mut dyn Host, irq: Irq, vector: u16) {
        self.messages(irq).pending.insert(vector.into());
        if !self.send(config, host, irq, vector) {
            self.pended += 1;
        }
    }

    /// The model drives the line.
    pub(crate) fn set_line(&mut self, config: &ConfigSpace, host: &mut dyn Host, asserted: bool) {
        if !asserted {
            self.line.asserted = false;
        } else if self.has_pin && self.mode(config, host) == InterruptMode::Intx {
            self.line.asserted = true;
            self.deliver_line(config, host);
        }
    }

    /// Sends all that is pending and can be sent.
    pub(crate) fn deliver(&mut self, config: &ConfigSpace, host: &mut dyn Host) {
        match self.mode(config, host) {
            InterruptMode::Intx => self.deliver_line(config, host),
            InterruptMode::Msi { vectors } => self.deliver_all(config, host, Irq::Msi, vectors),
            InterruptMode::Msix { vectors } => self.deliver_all(config, host, Irq::Msix, vectors),
        }
    }

    fn deliver_all(&mut self, config: &ConfigSpace, host: &mut dyn Host, irq: Irq, vectors: u16) {
        if self.messages(irq).pending.is_clear() {
            return;
        }
        for vector in 0..vectors {
            if self.messages(irq).pending.contains(vector.into()) {
                self.send(config, host, irq, vector);
            }
        }
    }

    /// Sends a pending message if it may be sent and the client has a trigger for it.
    fn send(&mut self, config: &ConfigSpace, host: &mut dyn Host, irq: Irq, vector: u16) -> bool {
        let held = !config.master_enabled()
            || self.messages(irq).client_masked.contains(vector.into())
            || self.masked(config, irq, vector);
        if held || !host.signal(irq, vector) {
            return false;
        }
        self.messages(irq).pending.remove(vector.into());
        self.sent += 1;
        true
    }

    /// Masked by the driver.
    fn masked(&self, config: &ConfigSpace, irq: Irq, vector: u16) -> bool {
        match irq {
            Irq::Msix => {
                config.msix_function_masked()
                    || self.table.as_ref().is_some_and(|table| table.masked(vector))
            }
            _ => config.msi_mask() >> u32::from(vector).min(31) & 1 != 0,
        }
    }

    fn deliver_line(&mut self, config: &ConfigSpace, host: &mut dyn Host) {
        let wanted = self.line.asserted || self.line.latched;
        if !wanted || self.line.masked || !config.intx_enabled() || !host.signal(Irq::Intx, 0) {
            return;
        }
        self.line.latched = false;
        self.line.masked = true;
        self.sent += 1;
    }

    /// The client masks or unmasks with `SET_IRQS`. Vectors beyond the kind's are ignored.
    pub(crate) fn set_client_mask(&mut self, irq: Irq, first: u16, count: u16, masked: bool) {
        if irq == Irq::Intx {
            if first == 0 && count > 0 {
                self.line.masked = masked;
            }
            return;
        }
        let bits = &mut self.messages(irq).client_masked;
        let end = (usize::from(first) + usize::from(count)).min(bits.len());
        bits.set_range(usize::from(first).min(end)..end, masked);
    }

    /// A kind without triggers is disabled at the client: its masks go, as with VFIO.
    pub(crate) fn drop_idle_masks(&mut self, host: &dyn Host) {
        if !host.has_triggers(Irq::Intx) {
            self.line.masked = false;
        }
        for irq in [Irq::Msi, Irq::Msix] {
            if !host.has_triggers(irq) {
                self.messages(irq).client_masked.clear();
            }
        }
    }

    /// Messages of a kind other than INTx.
    fn messages(&mut self, irq: Irq) -> &mut Messages {
        if irq == Irq::Msix { &mut self.msix } else { &mut self.msi }
    }

    /// The Interrupt Status bit: the line is asserted and config space enables no messages.
    pub(crate) fn line_status(&self, config: &ConfigSpace) -> bool {
        self.line.asserted && self.enabled(config).is_none()
    }

    /// MSI pending bits as bytes.
    pub(crate) fn read_msi_pending(&self, from: usize, data: &mut [u8]) {
        msix::read_bits(&self.msi.pending, from, data);
    }

    /// MSI-X pending bits as bytes.
    pub(crate) fn read_msix_pending(&self, from: usize, data: &mut [u8]) {
        msix::read_bits(&self.msix.pending, from, data);
    }

    /// Mode, line, masks and pending bits by name.
    pub(crate) fn inspect(&self, config: &ConfigSpace) -> Vec<RegisterState> {
        let row = |name: &str, value, meaning| RegisterState {
            name: format!("interrupts.{name}"),
            bar: NO_REGION,
            offset: 0,
            width: 8,
            value,
            meaning,
        };
        let (mode, words) = match self.enabled(config) {
            None => (0, "no messages enabled".into()),
            Some(InterruptMode::Msi { vectors }) => (1, format!("MSI, {vectors} vectors")),
            Some(_) => (2, format!("MSI-X, {} vectors", count(&self.msix))),
        };
        let Line { asserted, latched, masked } = self.line;
        let line = [(asserted, "ASSERTED"), (latched, "LATCHED"), (masked, "MASKED")];
        let bits = (0u64..).zip(&line).fold(0, |all, (n, (on, _))| all | u64::from(*on) << n);
        let names: Vec<_> = line.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        let mut all = vec![row("enabled", mode, words), row("line", bits, names.join("|"))];
        for (kind, messages) in [("msi", &self.msi), ("msix", &self.msix)] {
            for (what, set) in
                [("pending", &messages.pending), ("client_masked", &messages.client_masked)]
            {
                if !messages.pending.is_empty() {
                    let vectors: Vec<_> = set.ones().map(|n| n.to_string()).collect();
                    let value = vectors.len() as u64;
                    all.push(row(&format!("{kind}.{what}"), value, vectors.join(" ")));
                }
            }
        }
        if let Some(table) = &self.table {
            all.append(&mut table.inspect(&self.msix.pending));
        }
        all
    }

    pub(crate) fn counters(&self) -> [Counter; 3] {
        [
            ("interrupts.sent", self.sent),
            ("interrupts.pended", self.pended),
            ("interrupts.dropped", self.dropped),
        ]
        .map(|(name, value)| Counter { name: name.into(), value })
    }
}

/// Vectors of a kind; at most 2048, since identities are validated.
fn count(messages: &Messages) -> u16 {
    u16::try_from(messages.pending.len()).unwrap_or(u16::MAX)
}
