//! Functions that are not what they should be: their identity is changed before they are built.

use understudy_device::{
    AccessError, Bar, Bus, Capability, DeviceModel, FinishedJob, Identity, Progress, ResetKind,
    State,
};

/// What is wrong with an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The vendor id that means that nothing is there.
    NoVendor,
    /// This class code.
    Class(u32),
    /// This revision.
    Revision(u8),
    /// This subsystem id.
    Subsystem(u16),
    /// This interrupt pin.
    Pin(u8),
    /// A capability is not there, by its place in the list.
    Without(usize),
    /// A byte of the body of a vendor's capability, by its place in the list, has bits flipped.
    Vendor(usize, usize, u8),
    /// The function does not have its PCI Express capability, nor its large config space.
    Conventional,
}

impl Wrong {
    /// The changed identity.
    #[must_use]
    pub fn apply(self, identity: &Identity) -> Identity {
        let mut identity = identity.clone();
        match self {
            Self::NoVendor => identity.vendor_id = 0xffff,
            Self::Class(class) => identity.class_code = class,
            Self::Revision(revision) => identity.revision_id = revision,
            Self::Subsystem(id) => identity.subsystem_id = id,
            Self::Pin(pin) => identity.interrupt_pin = pin,
            Self::Without(at) => {
                if at < identity.capabilities.len() {
                    identity.capabilities.remove(at);
                }
            }
            Self::Vendor(at, byte, bits) => {
                if let Some(Capability::Vendor { body }) = identity.capabilities.get_mut(at)
                    && let Some(byte) = body.get_mut(byte)
                {
                    *byte ^= bits;
                }
            }
            Self::Conventional => {
                identity.capabilities.retain(|c| !matches!(c, Capability::Express { .. }));
            }
        }
        identity
    }

    /// A model with this identity. `None` if there can be no such function.
    #[must_use]
    pub fn wrap(self, model: Box<dyn DeviceModel>) -> Option<Box<dyn DeviceModel>> {
        let identity = self.apply(model.identity());
        identity.validate().ok()?;
        Some(Box::new(Changed { identity, model }))
    }
}

/// A model that says that it is something else.
struct Changed {
    identity: Identity,
    model: Box<dyn DeviceModel>,
}

impl DeviceModel for Changed {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        self.model.read(bus, bar, offset, data)
    }

    fn write(
        &mut self,
        bus: &mut dyn Bus,
        bar: Bar,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        self.model.write(bus, bar, offset, data)
    }

    fn poll(&mut self, bus: &mut dyn Bus, budget: u32) -> Progress {
        self.model.poll(bus, budget)
    }

    fn park(&mut self, bus: &mut dyn Bus) -> Progress {
        self.model.park(bus)
    }

    fn finish(&mut self, bus: &mut dyn Bus, done: FinishedJob) {
        self.model.finish(bus, done);
    }

    fn reset(&mut self, kind: ResetKind) {
        self.model.reset(kind);
    }

    fn inspect(&self) -> State {
        self.model.inspect()
    }
}
