//! Functions that are not what they should be: their identity is changed before they are built.

use understudy_device::{Capability, DeviceModel, Identity, with_identity};

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
        Some(with_identity(model, identity))
    }
}
