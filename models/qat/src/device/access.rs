//! What reads and writes of registers do.

use understudy_device::{Bus, RegisterOps, RegisterRef};

use super::Qat;
use crate::queue::RingState;
use crate::registers::{MISC, MiscRegister, RINGS, RingRegister};

impl Qat {
    pub(super) fn ring_register(&self, at: RegisterRef<RingRegister>) -> u32 {
        let ring = self.ring(at.index);
        let of_ring = |value: fn(&RingState) -> u32| ring.map_or(0, value);
        let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or(0);
        match at.id {
            RingRegister::Config => of_ring(RingState::config),
            RingRegister::LowBase => ring.map_or(0, |ring| low(ring.base())),
            RingRegister::HighBase => ring.map_or(0, |ring| low(ring.base() >> 32)),
            RingRegister::Head => of_ring(RingState::head),
            RingRegister::Tail => of_ring(RingState::tail),
            RingRegister::EmptyStatus => u32::from(!self.busy_rings()),
            RingRegister::InterruptFlag => self.interrupts.flag().into(),
            RingRegister::SourceSelect => self.interrupts.select[usize::from(at.index & 1)],
            RingRegister::CoalesceEnable | RingRegister::FlagAndCoalesce => {
                self.interrupts.enable().into()
            }
            RingRegister::CoalesceControl => self.interrupts.control(),
            RingRegister::ArbiterEnable => self.arbiter.into(),
        }
    }

    pub(super) fn misc_register(&self, id: MiscRegister) -> u32 {
        match id {
            MiscRegister::Mailbox => self.mailbox.value(),
            MiscRegister::InterruptSource => self.sources(),
            MiscRegister::InterruptMask => self.mask,
        }
    }
}

impl RegisterOps<RingRegister> for Qat {
    fn load(&mut self, _: &mut dyn Bus, at: RegisterRef<RingRegister>) -> u64 {
        self.ring_register(at).into()
    }

    fn store(&mut self, bus: &mut dyn Bus, at: RegisterRef<RingRegister>, value: u64, mask: u64) {
        let row = RINGS.row(at);
        let mask = mask & row.writable;
        let old = u64::from(self.ring_register(at));
        let new = u32::try_from(old & !mask | value & mask).unwrap_or(0);
        let [low, high, ..] = new.to_le_bytes();
        let rings = u16::from_le_bytes([low, high]);
        match at.id {
            RingRegister::Config
            | RingRegister::LowBase
            | RingRegister::HighBase
            | RingRegister::Head
            | RingRegister::Tail => self.store_ring(at, new),
            RingRegister::EmptyStatus => {}
            RingRegister::InterruptFlag => {
                let [low, high, ..] = (value & mask).to_le_bytes();
                self.interrupts.clear_flags(u16::from_le_bytes([low, high]));
            }
            RingRegister::SourceSelect => {
                self.interrupts.select[usize::from(at.index & 1)] = new;
            }
            RingRegister::CoalesceEnable => self.interrupts.set_enable(rings),
            RingRegister::FlagAndCoalesce => self.interrupts.set_flag_and_enable(rings),
            RingRegister::CoalesceControl => self.interrupts.set_control(new),
            RingRegister::ArbiterEnable => self.arbiter = low,
        }
        self.interrupt(bus);
    }
}

impl Qat {
    fn store_ring(&mut self, at: RegisterRef<RingRegister>, value: u32) {
        let Some((queue, is_requests)) = self.ring_mut(at.index) else { return };
        let pair = queue.pump.ring_mut();
        let ring = if is_requests { &mut pair.requests } else { &mut pair.responses };
        let (low, high) = (ring.base() & 0xffff_ffff, ring.base() >> 32 << 32);
        match at.id {
            RingRegister::Config => ring.set_config(value),
            RingRegister::LowBase => ring.set_base(high | u64::from(value)),
            RingRegister::HighBase => ring.set_base(u64::from(value) << 32 | low),
            RingRegister::Head => return ring.set_head(value),
            _ => return ring.set_tail(value),
        }
        queue.restart();
    }
}

impl RegisterOps<MiscRegister> for Qat {
    fn load(&mut self, _: &mut dyn Bus, at: RegisterRef<MiscRegister>) -> u64 {
        self.misc_register(at.id).into()
    }

    fn store(&mut self, bus: &mut dyn Bus, at: RegisterRef<MiscRegister>, value: u64, mask: u64) {
        let mask = mask & MISC.row(at).writable;
        let old = u64::from(self.misc_register(at.id));
        let new = u32::try_from(old & !mask | value & mask).unwrap_or(0);
        match at.id {
            MiscRegister::Mailbox => self.mailbox.write(new),
            MiscRegister::InterruptSource => {}
            MiscRegister::InterruptMask => self.mask = new,
        }
        self.deliver_mail(bus);
    }
}
