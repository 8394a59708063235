//! What the function shows of itself.

use understudy_device::{QueueState, RegisterRef, RegisterState, State};

use super::{Qat, Queue};
use crate::queue::RingState;
use crate::registers::{
    COALESCE_ENABLE, MISC, MISC_BAR, MiscRegister, RINGS, RINGS_BAR, RingRegister, SOURCE_BUNDLE,
    SOURCE_MAILBOX,
};

impl Qat {
    /// What `understudy inspect` shows.
    pub(super) fn described(&self) -> State {
        let mut registers: Vec<RegisterState> =
            RINGS.describe(RINGS_BAR, 0, |at| self.ring_register(at).into());
        for (register, at) in registers.iter_mut().zip(RINGS.elements()) {
            register.meaning = self.ring_meaning(at);
        }
        let mut misc = MISC.describe(MISC_BAR, 0, |at| self.misc_register(at.id).into());
        for (register, at) in misc.iter_mut().zip(MISC.elements()) {
            register.meaning = self.misc_meaning(at.id);
        }
        registers.append(&mut misc);
        State {
            registers,
            queues: self.queues.iter().map(|queue| queue_state(queue, self.arbiter)).collect(),
            counters: self.counters.list(self.mailbox.tally()),
        }
    }

    fn ring_meaning(&self, at: RegisterRef<RingRegister>) -> String {
        let value = self.ring_register(at);
        let set_up = self.ring(at.index).filter(|ring| ring.size() > 0);
        let address = |ring: &RingState| format!("ring at {:#x}", ring.address(0));
        match at.id {
            RingRegister::Config => {
                set_up.map_or_else(String::new, |ring| format!("{} bytes", ring.size()))
            }
            RingRegister::LowBase => set_up.map_or_else(String::new, address),
            RingRegister::EmptyStatus => listed("not empty:", !value & 0xffff),
            RingRegister::InterruptFlag
            | RingRegister::CoalesceEnable
            | RingRegister::FlagAndCoalesce => listed("rings", value),
            RingRegister::CoalesceControl if value & COALESCE_ENABLE != 0 => {
                format!("{} ns", value & !COALESCE_ENABLE)
            }
            RingRegister::ArbiterEnable => listed("pairs", value),
            RingRegister::HighBase
            | RingRegister::Head
            | RingRegister::Tail
            | RingRegister::SourceSelect
            | RingRegister::CoalesceControl => String::new(),
        }
    }

    fn misc_meaning(&self, id: MiscRegister) -> String {
        let value = self.misc_register(id);
        match id {
            MiscRegister::Mailbox => self.mailbox_meaning(),
            MiscRegister::InterruptSource | MiscRegister::InterruptMask => {
                words([(value & SOURCE_BUNDLE, "BUNDLE"), (value & SOURCE_MAILBOX, "PF2VF")])
            }
        }
    }

    /// Who speaks which version of the protocol, and what the virtual function has said.
    fn mailbox_meaning(&self) -> String {
        let peer = self.mailbox.peer();
        let mut parts = vec![format!("PF version {}", self.parameters.mailbox_version)];
        if peer.version > 0 {
            parts.push(format!("VF version {}", peer.version));
        }
        let said =
            words([(peer.initialised.into(), "INIT"), (peer.restarting.into(), "RESTARTING")]);
        if !said.is_empty() {
            parts.push(said);
        }
        if let Some(at) = self.restart_at {
            parts.push(format!("restart at {} ms", at.0 / 1_000_000));
        }
        parts.join(", ")
    }
}

/// Names of what is not zero.
fn words<const N: usize>(all: [(u32, &str); N]) -> String {
    let set = all.iter().filter(|(value, _)| *value != 0).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join("|")
}

/// The numbers of the bits that are set, if any is.
fn listed(what: &str, mask: u32) -> String {
    let bits = (0..u32::BITS).filter(|bit| mask >> bit & 1 != 0);
    let bits: Vec<String> = bits.map(|bit| bit.to_string()).collect();
    if bits.is_empty() { String::new() } else { format!("{what} {}", bits.join(", ")) }
}

fn queue_state(queue: &Queue, arbiter: u8) -> QueueState {
    let pair = queue.pump.ring();
    let fields = [
        ("requests.base", pair.requests.address(0)),
        ("requests.size", pair.requests.size().into()),
        ("requests.head", pair.requests.head().into()),
        ("requests.tail", pair.requests.tail().into()),
        ("responses.base", pair.responses.address(0)),
        ("responses.size", pair.responses.size().into()),
        ("responses.head", pair.responses.head().into()),
        ("responses.tail", pair.responses.tail().into()),
        ("responses.lost", pair.lost),
        ("in_flight", queue.slots.len() as u64),
        ("broken", queue.broken.into()),
    ];
    QueueState {
        index: queue.index,
        name: format!("pair {}", queue.index),
        enabled: queue.is_enabled(arbiter),
        size: pair.requests.size(),
        fields: fields.map(|(name, value)| (name.to_owned(), value)).into(),
        hexadecimal: ["requests.base", "responses.base"].map(str::to_owned).into(),
    }
}
