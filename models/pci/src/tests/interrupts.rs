use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;

const MSIX: InterruptMode = InterruptMode::Msix { vectors: VECTORS };

/// Control registers in the benches of this module: MSI-X comes first, MSI second.
const MSIX_CONTROL: usize = 0x42;
const MSI_CONTROL: usize = 0x4e;
const MSI_MASK: usize = 0x5c;
const MSI_PENDING: usize = 0x60;

fn bench(host: FakeHost) -> Bench {
    let mut bench = Bench::with(identity(vec![msix(), msi(true)]), host);
    assert_eq!((bench.find(0x11, 0), bench.find(0x05, 0)), (0x40, 0x4c));
    bench.enable();
    bench
}

fn raised(bench: &mut Bench, vector: u16) -> Vec<(Irq, u16)> {
    bench.act(Act::Raise(vector));
    bench.host.take_signals()
}

#[test]
fn config_space_chooses_the_kind_and_triggers_do_if_it_does_not() {
    let all: BTreeSet<_> = [(Irq::Intx, 0), (Irq::Msi, 0), (Irq::Msix, 0)].into();
    let only = |irq| BTreeSet::from([(irq, 0)]);
    let rows = [
        ("nothing", 0, 0, BTreeSet::new(), InterruptMode::Intx),
        ("INTx triggers", 0, 0, only(Irq::Intx), InterruptMode::Intx),
        ("MSI triggers", 0, 0, only(Irq::Msi), InterruptMode::Msi { vectors: 4 }),
        ("MSI-X triggers", 0, 0, only(Irq::Msix), MSIX),
        ("all triggers", 0, 0, all.clone(), MSIX),
        ("MSI enabled, all triggers", 0, 0x11, all.clone(), InterruptMode::Msi { vectors: 2 }),
        ("MSI enabled beyond offer", 0, 0x51, all.clone(), InterruptMode::Msi { vectors: 4 }),
        ("MSI-X enabled, MSI triggers", 0x8000, 0, only(Irq::Msi), MSIX),
        ("both enabled", 0x8000, 0x1, only(Irq::Intx), MSIX),
    ];
    for (name, msix, msi, triggers, mode) in rows {
        let mut bench = bench(FakeHost { triggers, ..FakeHost::default() });
        bench.write(MSIX_CONTROL, 2, msix);
        bench.write(MSI_CONTROL, 2, msi);
        assert_eq!(bench.mode(), mode, "{name}");
    }
}

#[test]
fn each_vector_has_its_own_trigger() {
    let mut bench = bench(FakeHost::listening(Irq::Msix, 3));
    bench.write(MSIX_CONTROL, 2, 0x8000);
    assert_eq!(raised(&mut bench, 2), [(Irq::Msix, 2)]);
    assert_eq!(raised(&mut bench, 0), [(Irq::Msix, 0)]);
    assert_eq!(raised(&mut bench, 4), [], "no trigger");
    assert_eq!(bench.bar_read(PBA, 8), Ok(1 << 4));
    assert_eq!(raised(&mut bench, 5), [], "beyond the table");
    let state = bench.function.inspect();
    assert_eq!(state.counter("interrupts.sent"), Some(2));
    assert_eq!(state.counter("interrupts.pended"), Some(1));
    assert_eq!(state.counter("interrupts.dropped"), Some(1));
    bench.host.triggers.insert((Irq::Msix, 4));
    bench.function.triggers_changed(&mut bench.host);
    assert_eq!(bench.host.take_signals(), [(Irq::Msix, 4)]);
    assert_eq!(bench.bar_read(PBA, 8), Ok(0));
}

/// Each way to hold an MSI-X message back, and the one that lets it go.
#[test]
fn what_is_masked_is_pending_until_unmasked() {
    type Step = fn(&mut Bench);
    let rows: [(&str, Step, Step); 5] = [
        (
            "function mask",
            |b| b.write(MSIX_CONTROL, 2, 0xc000),
            |b| b.write(MSIX_CONTROL, 2, 0x8000),
        ),
        (
            "table entry",
            |b| b.bar_write(TABLE + 16 + 12, 4, 1).unwrap(),
            |b| b.bar_write(TABLE + 16 + 12, 1, 0).unwrap(),
        ),
        (
            "client",
            |b| b.function.set_irq_mask(&mut b.host, Irq::Msix, 1, 1, true),
            |b| b.function.set_irq_mask(&mut b.host, Irq::Msix, 0, u16::MAX, false),
        ),
        ("bus master", |b| b.write(0x04, 2, 0x2), |b| b.enable()),
        (
            "trigger",
            |b| {
                b.host.triggers.remove(&(Irq::Msix, 1));
                b.function.triggers_changed(&mut b.host);
            },
            |b| {
                b.host.triggers.insert((Irq::Msix, 1));
                b.function.triggers_changed(&mut b.host);
            },
        ),
    ];
    for (name, hold, release) in rows {
        let mut bench = bench(FakeHost::listening(Irq::Msix, VECTORS));
        bench.write(MSIX_CONTROL, 2, 0x8000);
        hold(&mut bench);
        assert_eq!(raised(&mut bench, 1), [], "{name}");
        assert_eq!(raised(&mut bench, 1), [], "{name}, again");
        assert_eq!(bench.bar_read(PBA, 4), Ok(2), "{name}");
        assert_eq!(bench.bar_write(PBA, 4, 0), Ok(()), "{name}");
        assert_eq!(bench.bar_read(PBA, 4), Ok(2), "{name}: read-only");
        release(&mut bench);
        assert_eq!(bench.host.take_signals(), [(Irq::Msix, 1)], "{name}: once");
        assert_eq!(bench.bar_read(PBA, 4), Ok(0), "{name}");
        assert_eq!(raised(&mut bench, 1), [(Irq::Msix, 1)], "{name}: released");
    }
}

#[test]
fn an_entry_that_was_never_written_reads_masked_and_does_not_mask() {
    let mut bench = bench(FakeHost::listening(Irq::Msix, VECTORS));
    bench.write(MSIX_CONTROL, 2, 0x8000);
    assert_eq!(bench.bar_read(TABLE + 12, 4), Ok(1));
    assert_eq!(raised(&mut bench, 0), [(Irq::Msix, 0)]);
    bench.bar_write(TABLE, 8, 0x1234_5678_fee0_1003).unwrap();
    assert_eq!(bench.bar_read(TABLE, 8), Ok(0x1234_5678_fee0_1000));
    assert_eq!(raised(&mut bench, 0), [(Irq::Msix, 0)], "the address alone is not a mask");
    bench.bar_write(TABLE + 12, 4, 0xffff_ffff).unwrap();
    assert_eq!(bench.bar_read(TABLE + 12, 4), Ok(1));
    assert_eq!(raised(&mut bench, 0), []);
}

#[test]
fn msi_has_its_own_masks_and_pending_bits() {
    let mut bench = bench(FakeHost::listening(Irq::Msi, 4));
    bench.write(MSI_CONTROL, 2, 0x21);
    bench.write(MSI_MASK, 4, 0b0100);
    assert_eq!(raised(&mut bench, 3), [(Irq::Msi, 3)]);
    assert_eq!(raised(&mut bench, 2), []);
    assert_eq!(bench.read(MSI_PENDING, 4), 0b0100);
    assert_eq!(raised(&mut bench, 4), [], "beyond those allotted");
    bench.write(MSI_MASK, 1, 0);
    assert_eq!(bench.host.take_signals(), [(Irq::Msi, 2)]);
    assert_eq!(bench.read(MSI_PENDING, 4), 0);
}

#[test]
fn a_client_that_never_writes_config_space_gets_its_interrupts() {
    let mut bench = bench(FakeHost::default());
    assert_eq!(raised(&mut bench, 1), [], "INTx has no vector 1");
    bench.host.triggers.extend((0..3).map(|v| (Irq::Msix, v)));
    bench.function.triggers_changed(&mut bench.host);
    assert_eq!(bench.mode(), MSIX);
    assert_eq!(raised(&mut bench, 1), [(Irq::Msix, 1)]);
    bench.write(MSIX_CONTROL, 2, 0x4000);
    assert_eq!(raised(&mut bench, 1), [], "function mask");
    bench.write(MSIX_CONTROL, 2, 0);
    assert_eq!(bench.host.take_signals(), [(Irq::Msix, 1)]);
}

#[test]
fn intx_is_signalled_once_until_unmasked() {
    let mut bench = bench(FakeHost::listening(Irq::Intx, 1));
    bench.act(Act::Line(true));
    bench.act(Act::Line(true));
    assert_eq!(bench.host.take_signals(), [(Irq::Intx, 0)]);
    assert_eq!(bench.read(0x06, 2), 0x0018);
    bench.function.set_irq_mask(&mut bench.host, Irq::Intx, 0, 1, false);
    assert_eq!(bench.host.take_signals(), [(Irq::Intx, 0)], "still asserted");
    bench.act(Act::Line(false));
    assert_eq!(bench.read(0x06, 2), 0x0010);
    bench.function.set_irq_mask(&mut bench.host, Irq::Intx, 0, 1, false);
    assert_eq!(bench.host.take_signals(), []);
    bench.act(Act::Line(true));
    assert_eq!(bench.host.take_signals(), [(Irq::Intx, 0)]);
}

#[test]
fn interrupt_disable_holds_intx_and_leaves_its_status() {
    let mut bench = bench(FakeHost::listening(Irq::Intx, 1));
    bench.write(0x04, 2, 0x0406);
    bench.act(Act::Line(true));
    assert_eq!(bench.host.take_signals(), []);
    assert_eq!(bench.read(0x06, 2), 0x0018);
    bench.write(0x04, 2, 0x0002);
    assert_eq!(bench.host.take_signals(), [(Irq::Intx, 0)], "without Bus Master Enable");
}

#[test]
fn a_raise_without_messages_pulses_intx() {
    let mut bench = bench(FakeHost::listening(Irq::Intx, 1));
    assert_eq!(raised(&mut bench, 0), [(Irq::Intx, 0)]);
    assert_eq!(bench.read(0x06, 2), 0x0010, "no level");
    assert_eq!(raised(&mut bench, 0), [], "auto-masked");
    bench.function.set_irq_mask(&mut bench.host, Irq::Intx, 0, 1, false);
    assert_eq!(bench.host.take_signals(), [(Irq::Intx, 0)]);
    bench.function.set_irq_mask(&mut bench.host, Irq::Intx, 0, 1, false);
    assert_eq!(bench.host.take_signals(), []);
}

#[test]
fn a_function_without_a_pin_has_no_intx() {
    let mut host = FakeHost::listening(Irq::Intx, 1);
    host.triggers.insert((Irq::Msi, 0));
    let mut bench = Bench::with(Identity { interrupt_pin: 0, ..identity(vec![]) }, host);
    bench.enable();
    bench.act(Act::Line(true));
    assert_eq!(raised(&mut bench, 0), []);
    assert_eq!(bench.mode(), InterruptMode::Intx, "triggers of kinds it lacks do not count");
    assert_eq!([Irq::Intx, Irq::Msi, Irq::Msix].map(|irq| bench.function.irq_count(irq)), [0; 3]);
}

#[test]
fn intx_is_dead_while_messages_are_enabled() {
    let mut bench = bench(FakeHost::listening(Irq::Intx, 1));
    bench.write(MSIX_CONTROL, 2, 0x8000);
    bench.act(Act::Line(true));
    assert_eq!(bench.read(0x06, 2), 0x0010);
    bench.write(MSIX_CONTROL, 2, 0);
    assert_eq!(bench.host.take_signals(), []);
}

#[test]
fn removing_the_last_trigger_drops_the_clients_masks() {
    let mut bench = bench(FakeHost::listening(Irq::Intx, 1));
    bench.act(Act::Line(true));
    bench.host.triggers.clear();
    bench.function.triggers_changed(&mut bench.host);
    bench.host.triggers.insert((Irq::Intx, 0));
    bench.function.triggers_changed(&mut bench.host);
    assert_eq!(bench.host.take_signals(), [(Irq::Intx, 0), (Irq::Intx, 0)]);
}

#[test]
fn a_function_reset_forgets_interrupts_but_not_the_clients_masks() {
    let mut bench = bench(FakeHost::listening(Irq::Msix, VECTORS));
    bench.function.set_irq_mask(&mut bench.host, Irq::Msix, 2, 1, true);
    bench.act(Act::Raise(2));
    bench.function.reset(ResetKind::Function);
    bench.enable();
    assert_eq!(bench.bar_read(PBA, 8), Ok(0));
    assert_eq!(raised(&mut bench, 2), []);
    bench.function.set_irq_mask(&mut bench.host, Irq::Msix, 2, 1, false);
    assert_eq!(bench.host.take_signals(), [(Irq::Msix, 2)]);
}

#[test]
fn masks_beyond_the_vectors_are_ignored() {
    let mut bench = bench(FakeHost::listening(Irq::Msix, VECTORS));
    for (first, count) in [(VECTORS, 1), (u16::MAX, u16::MAX), (0, 0)] {
        for irq in [Irq::Intx, Irq::Msi, Irq::Msix] {
            bench.function.set_irq_mask(&mut bench.host, irq, first, count, true);
        }
    }
    assert_eq!(raised(&mut bench, 4), [(Irq::Msix, 4)]);
}

/// One step of a driver, a client or the model.
#[derive(Debug, Clone)]
enum Step {
    Raise(u16),
    Line(bool),
    Command { master: bool, intx_disable: bool },
    MsixControl { enable: bool, mask: bool },
    MsiControl { enable: bool, order: u16 },
    MsiMask(u8),
    EntryMask(u16, bool),
    ClientMask(Irq, u16, u16, bool),
    Triggers(Irq, u16, bool),
    Reset,
}

/// The rules of delivery in their plainest form: flags per vector, and a full rescan at each step.
#[derive(Debug, Clone, Default)]
struct Reference {
    master: bool,
    intx_disable: bool,
    msix_enable: bool,
    function_mask: bool,
    msi_enable: bool,
    msi_order: u16,
    msi_mask: u8,
    entry_masked: [bool; VECTORS as usize],
    client_masked: BTreeSet<(Irq, u16)>,
    triggers: BTreeSet<(Irq, u16)>,
    pending: BTreeSet<(Irq, u16)>,
    asserted: bool,
    signals: Vec<(Irq, u16)>,
}

impl Reference {
    fn listens(&self, irq: Irq) -> bool {
        self.triggers.iter().any(|(kind, _)| *kind == irq)
    }

    fn mode(&self) -> (Irq, u16) {
        match (self.msix_enable, self.msi_enable) {
            (true, _) => (Irq::Msix, VECTORS),
            (_, true) => (Irq::Msi, 1 << self.msi_order.min(2)),
            _ if self.listens(Irq::Msix) => (Irq::Msix, VECTORS),
            _ if self.listens(Irq::Msi) => (Irq::Msi, 4),
            _ => (Irq::Intx, 1),
        }
    }

    fn held(&self, irq: Irq, vector: u16) -> bool {
        self.client_masked.contains(&(irq, vector))
            || match irq {
                Irq::Intx => self.intx_disable,
                Irq::Msi => !self.master || self.msi_mask >> vector & 1 != 0,
                Irq::Msix => {
                    !self.master || self.function_mask || self.entry_masked[usize::from(vector)]
                }
            }
    }

    fn deliver(&mut self) {
        let (irq, vectors) = self.mode();
        for vector in 0..vectors {
            let wanted =
                self.pending.contains(&(irq, vector)) || (irq == Irq::Intx && self.asserted);
            if wanted && !self.held(irq, vector) && self.triggers.contains(&(irq, vector)) {
                self.signals.push((irq, vector));
                self.pending.remove(&(irq, vector));
                if irq == Irq::Intx {
                    self.client_masked.insert((irq, vector));
                }
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Raise(vector) => {
                let (irq, vectors) = self.mode();
                if vector < vectors {
                    self.pending.insert((irq, vector));
                }
            }
            Step::Line(asserted) => {
                self.asserted = asserted && (self.asserted || self.mode().0 == Irq::Intx);
            }
            Step::Command { master, intx_disable } => {
                (self.master, self.intx_disable) = (master, intx_disable);
            }
            Step::MsixControl { enable, mask } => {
                (self.msix_enable, self.function_mask) = (enable, mask);
            }
            Step::MsiControl { enable, order } => {
                (self.msi_enable, self.msi_order) = (enable, order);
            }
            Step::MsiMask(mask) => self.msi_mask = mask,
            Step::EntryMask(vector, masked) => self.entry_masked[usize::from(vector)] = masked,
            Step::ClientMask(irq, first, count, masked) => {
                for vector in first..first + count {
                    if masked {
                        self.client_masked.insert((irq, vector));
                    } else {
                        self.client_masked.remove(&(irq, vector));
                    }
                }
            }
            Step::Triggers(irq, vector, set) => {
                if set {
                    self.triggers.insert((irq, vector));
                } else {
                    self.triggers.remove(&(irq, vector));
                }
                let idle: Vec<_> = [Irq::Intx, Irq::Msi, Irq::Msix]
                    .into_iter()
                    .filter(|irq| !self.listens(*irq))
                    .collect();
                self.client_masked.retain(|(irq, _)| !idle.contains(irq));
            }
            Step::Reset => {
                *self = Self {
                    client_masked: std::mem::take(&mut self.client_masked),
                    triggers: std::mem::take(&mut self.triggers),
                    signals: std::mem::take(&mut self.signals),
                    ..Self::default()
                };
            }
        }
        self.deliver();
    }
}

fn vectors_of(irq: Irq) -> u16 {
    match irq {
        Irq::Intx => 1,
        Irq::Msi => 4,
        Irq::Msix => VECTORS,
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let irq = prop_oneof![Just(Irq::Intx), Just(Irq::Msi), Just(Irq::Msix)];
    let vector = irq.prop_flat_map(|irq| (Just(irq), 0..vectors_of(irq)));
    prop_oneof![
        6 => (0..VECTORS + 1).prop_map(Step::Raise),
        3 => any::<bool>().prop_map(Step::Line),
        1 => (prop::bool::weighted(0.8), any::<bool>())
            .prop_map(|(master, intx_disable)| Step::Command { master, intx_disable }),
        2 => any::<(bool, bool)>().prop_map(|(enable, mask)| Step::MsixControl { enable, mask }),
        2 => (any::<bool>(), 0u16..8).prop_map(|(enable, order)| Step::MsiControl { enable, order }),
        1 => (0u8..16).prop_map(Step::MsiMask),
        2 => (0..VECTORS, any::<bool>()).prop_map(|(vector, masked)| Step::EntryMask(vector, masked)),
        3 => (vector.clone(), 1u16..4, any::<bool>())
            .prop_map(|((irq, first), count, masked)| Step::ClientMask(irq, first, count, masked)),
        6 => (vector, prop::bool::weighted(0.7))
            .prop_map(|((irq, vector), set)| Step::Triggers(irq, vector, set)),
        1 => Just(Step::Reset),
    ]
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self { master: true, ..Self::default() }).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        steps().boxed()
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        Reference::apply(&mut state, step);
        state
    }
}

struct Delivery;

impl StateMachineTest for Delivery {
    type SystemUnderTest = Bench;
    type Reference = Reference;

    fn init_test(_: &Reference) -> Bench {
        bench(FakeHost::default())
    }

    fn apply(mut bench: Bench, reference: &Reference, step: Step) -> Bench {
        let b = &mut bench;
        match step {
            Step::Raise(vector) => b.act(Act::Raise(vector)),
            Step::Line(asserted) => b.act(Act::Line(asserted)),
            Step::Command { master, intx_disable } => {
                let command = 0x2 | u64::from(master) << 2 | u64::from(intx_disable) << 10;
                b.write(0x04, 2, command);
            }
            Step::MsixControl { enable, mask } => {
                b.write(MSIX_CONTROL, 2, u64::from(enable) << 15 | u64::from(mask) << 14);
            }
            Step::MsiControl { enable, order } => {
                b.write(MSI_CONTROL, 2, u64::from(enable) | u64::from(order) << 4);
            }
            Step::MsiMask(mask) => b.write(MSI_MASK, 4, mask.into()),
            Step::EntryMask(vector, masked) => {
                // Memory space may be disabled after a reset.
                let command = b.read(0x04, 2);
                b.write(0x04, 2, command | 2);
                b.bar_write(TABLE + u64::from(vector) * 16 + 12, 4, masked.into()).unwrap();
                b.write(0x04, 2, command);
            }
            Step::ClientMask(irq, first, count, masked) => {
                b.function.set_irq_mask(&mut b.host, irq, first, count, masked);
            }
            Step::Triggers(irq, vector, set) => {
                if set {
                    b.host.triggers.insert((irq, vector));
                } else {
                    b.host.triggers.remove(&(irq, vector));
                }
                b.function.triggers_changed(&mut b.host);
            }
            Step::Reset => b.function.reset(ResetKind::Function),
        }
        assert_eq!(bench.host.signals, reference.signals);
        bench
    }

    /// What a driver can read agrees too: nothing is lost or made up.
    fn teardown(mut bench: Bench, reference: Reference) {
        let bits = |irq| {
            let vectors = reference.pending.iter().filter(|(kind, _)| *kind == irq);
            vectors.fold(0, |all, (_, vector)| all | 1u64 << vector)
        };
        assert_eq!(bench.read(MSI_PENDING, 4), bits(Irq::Msi));
        bench.write(0x04, 2, 0x2);
        assert_eq!(bench.bar_read(PBA, 8), Ok(bits(Irq::Msix)));
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 512, ..Config::default() })]

    /// Any sequence of raises, masks, enables and triggers delivers what the reference does, in
    /// its order: nothing lost, nothing twice.
    #[test]
    fn delivery_follows_the_reference(sequential 1..60 => Delivery);
}
