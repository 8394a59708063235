//! What the function shows of itself.

use understudy_device::{Counter, QueueState, RegisterState, State};

use super::Qaic;
use crate::registers::{BRIDGE, BRIDGE_BAR, BRIDGE_OFFSET, BRIDGE_STRIDE, CHANNELS, MHI, MHI_BAR};

impl Qaic {
    /// What `understudy inspect` shows.
    pub(super) fn described(&self) -> State {
        let mut registers: Vec<RegisterState> =
            MHI.describe(MHI_BAR, 0, |at| self.mhi_register(None, at));
        for channel in 0..CHANNELS {
            let base = BRIDGE_OFFSET + u64::from(channel) * u64::from(BRIDGE_STRIDE);
            let rows =
                BRIDGE.describe(BRIDGE_BAR, base, |at| self.bridge_register(channel, at.id).into());
            registers.extend(rows.into_iter().map(|row| {
                let name = row.name.replacen("dbc.", "", 1);
                RegisterState { name: format!("dbc.{name}[{channel}]"), ..row }
            }));
        }
        let words = [
            ("mhi.mhistatus", self.state.name().to_owned()),
            ("mhi.execenv", format!("{:?}", self.environment).to_uppercase()),
            ("mhi.errdbg[0]", self.crash.clone()),
            ("mhi.errcode", self.control.refusal.clone()),
        ];
        for (name, meaning) in words {
            if let Some(register) = registers.iter_mut().find(|it| it.name == name) {
                register.meaning = meaning;
            }
        }
        let mut queues = Vec::new();
        for (index, channel) in (0..).zip(&self.channels) {
            let Some(channel) = channel else { continue };
            let (size, enabled, fields) = channel.fields();
            queues.push(QueueState {
                index,
                name: format!("dbc {index}"),
                enabled,
                size,
                fields,
                hexadecimal: ["requests", "responses"].map(str::to_owned).into(),
            });
        }
        queues.extend(self.mhi.inspect());
        State { registers, queues, counters: self.counter_list() }
    }

    fn counter_list(&self) -> Vec<Counter> {
        let (mhi, nnc, dbc, own) = (self.mhi.tally, self.control.tally, self.bridge, self.counters);
        let (images, missing) = self.loader.images();
        let held = self.control.facts();
        [
            ("runs", own.runs),
            ("workload.crashes", own.crashes),
            ("system_errors", own.system_errors),
            ("soc_resets", own.soc_resets),
            ("mhi.resets", own.mhi_resets),
            ("boot.images", own.images),
            ("boot.image_errors", own.image_errors),
            ("sahara.images", images),
            ("sahara.missing", missing),
            ("mhi.commands", mhi.commands),
            ("mhi.command_errors", mhi.command_errors),
            ("mhi.received", mhi.received),
            ("mhi.sent", mhi.sent),
            ("mhi.events", mhi.events),
            ("mhi.bad_elements", mhi.bad_elements),
            ("mhi.overflows", mhi.overflows),
            ("mhi.bad_doorbells", mhi.bad_doorbells),
            ("mhi.dropped", mhi.dropped),
            ("mhi.wakes", own.wakes),
            ("timesync.received", own.times),
            ("nnc.messages", nnc.messages),
            ("nnc.refused", nnc.refused),
            ("nnc.malformed", nnc.malformed),
            ("nnc.commands", nnc.commands),
            ("nnc.command_errors", nnc.command_errors),
            ("nnc.continued", nnc.continued),
            ("nnc.loaded", nnc.loaded),
            ("nnc.load_errors", nnc.load_errors),
            ("nnc.activated", nnc.activated),
            ("nnc.deactivated", nnc.deactivated),
            ("nnc.terminated", nnc.terminated),
            ("held.memory", self.control.used()),
            ("held.programs", held.programs as u64),
            ("held.constants", held.constants as u64),
            ("held.activations", held.active as u64),
            ("held.channels", self.channels.iter().flatten().count() as u64),
            ("dbc.requests", dbc.requests),
            ("dbc.responses", dbc.responses),
            ("dbc.errors", dbc.errors),
            ("dbc.bytes_in", dbc.bytes_in),
            ("dbc.bytes_out", dbc.bytes_out),
            ("dbc.doorbells", dbc.doorbells),
            ("dbc.interrupts", dbc.interrupts),
            ("dbc.broken", dbc.broken),
        ]
        .map(|(name, value)| Counter { name: name.to_owned(), value })
        .into()
    }
}
