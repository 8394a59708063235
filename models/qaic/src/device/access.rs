//! What reads and writes of registers do.

use understudy_device::{Bus, RegisterOps, RegisterRef};

use super::{PowerState, Qaic};
use crate::registers::{
    BRIDGE_OFFSET, BRIDGE_STRIDE, BridgeRegister, CHANNELS, CONTROL_RESET, MhiRegister,
    WAKE_DOORBELL,
};

impl Qaic {
    pub(super) fn mhi_register(&self, bus: Option<&dyn Bus>, at: RegisterRef<MhiRegister>) -> u64 {
        match at.id {
            MhiRegister::Status => self.status().into(),
            MhiRegister::Environment => self.environment as u64,
            // 19.2 MHz.
            MhiRegister::Timer => bus.map_or(0, |bus| {
                let ticks = u128::from(bus.now().0) * 192 / 10_000;
                u64::try_from(ticks).unwrap_or(u64::MAX)
            }),
            _ => self.file.get(at),
        }
    }

    pub(super) fn bridge_register(&self, channel: u16, id: BridgeRegister) -> u32 {
        let found = self.channels.get(usize::from(channel)).and_then(Option::as_ref);
        let Some(rings) = found.map(|channel| channel.rings()) else { return 0 };
        match id {
            BridgeRegister::RequestHead => rings.request_head,
            BridgeRegister::RequestTail => rings.request_tail,
            BridgeRegister::ResponseHead => rings.response_head,
            BridgeRegister::ResponseTail => rings.response_tail,
        }
    }
}

impl RegisterOps<MhiRegister> for Qaic {
    fn load(&mut self, bus: &mut dyn Bus, at: RegisterRef<MhiRegister>) -> u64 {
        self.mhi_register(Some(bus), at)
    }

    fn store(&mut self, _: &mut dyn Bus, at: RegisterRef<MhiRegister>, value: u64, mask: u64) {
        // A doorbell of 64 bits is written as two halves; the lower one comes last and rings.
        let rings = mask & 0xffff_ffff != 0;
        let value = match at.id {
            MhiRegister::CommandDoorbell
            | MhiRegister::EventDoorbell
            | MhiRegister::ChannelDoorbell => {
                let new = self.file.get(at) & !mask | value & mask;
                self.file.set(at, new);
                new
            }
            _ => self.file.store(at, value, mask),
        };
        match at.id {
            MhiRegister::CommandDoorbell if rings => self.mhi.ring_commands(value),
            MhiRegister::EventDoorbell if rings => self.mhi.ring_events(at.index, value),
            MhiRegister::ChannelDoorbell if rings && at.index == WAKE_DOORBELL => {
                self.counters.wakes += 1;
            }
            MhiRegister::ChannelDoorbell if rings => self.mhi.ring_channel(at.index, value),
            MhiRegister::ImageDoorbell => self.asked.image = true,
            MhiRegister::SocReset => self.asked.soc_reset |= value & 1 != 0,
            MhiRegister::Control => {
                let value = u32::try_from(value).unwrap_or(0);
                if value & CONTROL_RESET != 0 {
                    return self.reset_mhi();
                }
                let [_, state, ..] = value.to_le_bytes();
                let known = [PowerState::M0, PowerState::M2, PowerState::M3];
                let mut known = known.into_iter().chain([PowerState::SystemError]);
                self.asked.state = known.find(|it| *it as u8 == state);
            }
            _ => {}
        }
    }
}

/// The registers of one channel of the bridge.
pub(super) struct BridgeAccess<'a> {
    pub(super) device: &'a mut Qaic,
    pub(super) channel: u16,
}

impl RegisterOps<BridgeRegister> for BridgeAccess<'_> {
    fn load(&mut self, _: &mut dyn Bus, at: RegisterRef<BridgeRegister>) -> u64 {
        self.device.bridge_register(self.channel, at.id).into()
    }

    fn store(&mut self, _: &mut dyn Bus, at: RegisterRef<BridgeRegister>, value: u64, mask: u64) {
        let old = u64::from(self.device.bridge_register(self.channel, at.id));
        let new = u32::try_from(old & !mask | value & mask).unwrap_or(0);
        let channel = self.device.channels.get_mut(usize::from(self.channel));
        let Some(Some(channel)) = channel else { return };
        match at.id {
            BridgeRegister::RequestTail => channel.set_request_tail(new),
            BridgeRegister::ResponseHead => channel.set_response_head(new),
            _ => {}
        }
    }
}

/// The channel of the bridge that an offset belongs to, and the offset in its registers.
pub(super) fn bridge_channel(offset: u64) -> Option<(u16, u64)> {
    let offset = offset.checked_sub(BRIDGE_OFFSET)?;
    let channel = u16::try_from(offset / u64::from(BRIDGE_STRIDE)).ok()?;
    (channel < CHANNELS).then_some((channel, offset % u64::from(BRIDGE_STRIDE)))
}
