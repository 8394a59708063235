//! The lists of mutants.

mod registers;
mod requests;
mod server;

use understudy_device::{Capability, DeviceModel, Vocabulary};
use understudy_pci::{CONFIG_REGION, PciFunction, Region};

use crate::{How, Mutant, Place, Wrong};

pub use server::of_server;

/// Every mutant of a device, and how its driver resets it. `build` makes a fresh model.
///
/// # Errors
/// Why there is no function to probe.
pub fn of_device(
    build: &dyn Fn() -> Result<Box<dyn DeviceModel>, String>,
    words: &'static Vocabulary,
) -> Result<Vec<Mutant>, String> {
    let mut mutants = identities(build()?.as_ref());
    mutants.extend(registers::of(build)?);
    mutants.extend(requests::of(build()?.as_ref(), words));
    Ok(mutants)
}

/// The register by which a driver resets the device, and what it writes there.
pub(crate) fn reset_register(function: &PciFunction, words: &Vocabulary) -> Option<(Place, u64)> {
    let reset = words.reset?;
    let state = function.inspect();
    let register = state.registers.iter().find(|register| register.name == reset.register)?;
    Some((place(register.bar, register.offset, register.width), reset.value))
}

/// A register's place, from how it is listed.
fn place(bar: u8, offset: u64, width: u8) -> Place {
    let region = match understudy_device::Bar(bar) {
        CONFIG_REGION => Region::Config,
        bar => Region::Bar(bar),
    };
    Place { region, offset, width }
}

fn identities(model: &dyn DeviceModel) -> Vec<Mutant> {
    let identity = model.identity();
    let mut all = vec![
        ("vendor".to_owned(), "The vendor id is FFFFh", Wrong::NoVendor),
        ("class".to_owned(), "The class code names no class", Wrong::Class(0x77_0000)),
        ("pin".to_owned(), "The interrupt pin is 7", Wrong::Pin(7)),
    ];
    if identity.vendor_id == 0x1af4 {
        all.push((
            "revision".to_owned(),
            "The revision of a virtio device is 0",
            Wrong::Revision(0),
        ));
        let wrong = Wrong::Subsystem(0x12);
        all.push(("subsystem".to_owned(), "The subsystem id is below 40h", wrong));
    }
    for (at, capability) in identity.capabilities.iter().enumerate() {
        // A function that has any other twice cannot be built.
        let Capability::Vendor { body } = capability else { continue };
        all.push((
            format!("without-vendor-{at}"),
            "A structure of the device is not announced",
            Wrong::Without(at),
        ));
        for (byte, bits, what) in [
            (1, 0x03, "A structure is announced in a BAR that does not exist"),
            (5, 0x01, "A structure is announced at an odd offset"),
            (8, 0x80, "A structure is announced beyond its BAR"),
            (9, 0xff, "A structure is announced with another length"),
            (13, 0x03, "The distance between doorbells is no power of two"),
        ] {
            if byte < body.len() {
                let id = format!("vendor-{at}-byte-{byte}");
                all.push((id, what, Wrong::Vendor(at, byte, bits)));
            }
        }
    }
    let valid = all.into_iter().filter(|(_, _, wrong)| wrong.apply(identity).validate().is_ok());
    valid
        .map(|(id, what, wrong)| Mutant {
            id: format!("identity/{id}"),
            what: what.to_owned(),
            how: How::Identity(wrong),
        })
        .collect()
}
