//! Mutants of registers: from the register tables, and from what probing says of each register.

use understudy_device::{Capability, DeviceModel};
use understudy_pci::{PciFunction, Region};

use super::place;
use crate::host::Nobody;
use crate::{Change, How, Mutant, Place};

/// Offset of the command register, and its bits that enable memory.
const COMMAND: (u64, u64) = (4, 0x06);

/// A register as probing finds it.
struct Probed {
    name: String,
    at: Place,
    reset: u64,
    /// Bits that take what is written.
    writable: u64,
    /// Bits of the register's width.
    width: u64,
}

type Build<'a> = &'a dyn Fn() -> Result<Box<dyn DeviceModel>, String>;

pub(super) fn of(build: Build<'_>) -> Result<Vec<Mutant>, String> {
    let mut mutants = Vec::new();
    for (name, at) in places(build)? {
        let probed = probe(build, name, at)?;
        mutants.extend(plain(&probed));
        mutants.extend(by_hand(&probed));
    }
    if build()?.identity().interrupt_pin == 0 {
        // Without INTx there is nothing to disable.
        mutants.retain(|mutant| !mutant.id.starts_with("deaf/pci.command/400"));
    }
    Ok(mutants)
}

/// Registers by name: of arrays the first element and the last, and of the MSI-X table too.
fn places(build: Build<'_>) -> Result<Vec<(String, Place)>, String> {
    let function = PciFunction::new(build()?).map_err(|error| error.to_string())?;
    let state = function.inspect();
    let array = |name: &'_ str| name.split_once('[').map(|(array, _)| array.to_owned());
    let rows: Vec<_> = state.registers.iter().map(|register| array(&register.name)).collect();
    let mut places: Vec<(String, Place)> = Vec::new();
    for (index, register) in state.registers.iter().enumerate() {
        let name = &register.name;
        let at = place(register.bar, register.offset, register.width);
        // What is told for inspection alone is nowhere. The MSI-X table follows below.
        if matches!(at.region, Region::Bar(bar) if bar.0 > 5) || name.starts_with("msix_table.") {
            continue;
        }
        let of_array = |other: &Option<String>| *other == rows[index];
        let is_first = rows.iter().position(of_array) == Some(index);
        let is_last = rows.iter().rposition(of_array) == Some(index);
        if rows[index].is_none() || is_first || is_last {
            // Capabilities may be there more than once.
            let is_new = places.iter().all(|(known, _)| known != name);
            let name = if is_new { name.clone() } else { format!("{name}@{:x}", register.offset) };
            places.push((name, at));
        }
    }
    for capability in &function.identity().capabilities {
        let Capability::Msix { vectors, table: (bar, offset), pba } = capability else { continue };
        let last = u64::from(*vectors - 1);
        // Vector 1 is the first queue's.
        let mut entries = vec![0, 1.min(last), last];
        entries.dedup();
        for entry in entries {
            for (name, field) in [("address", 0), ("upper", 4), ("data", 8), ("control", 12)] {
                let offset = u64::from(*offset) + 16 * entry + field;
                let at = Place { region: Region::Bar(*bar), offset, width: 4 };
                places.push((format!("msix.table.{name}[{entry}]"), at));
            }
        }
        let at = Place { region: Region::Bar(pba.0), offset: pba.1.into(), width: 4 };
        places.push(("msix.pending".to_owned(), at));
    }
    Ok(places)
}

fn probe(build: Build<'_>, name: String, at: Place) -> Result<Probed, String> {
    let width = u64::MAX >> (64 - 8 * u32::from(at.width));
    let reset = after(build, at, None)?;
    let ones = after(build, at, Some(width))?;
    let zeros = after(build, at, Some(0))?;
    Ok(Probed { name, at, reset, writable: (ones ^ zeros) & width, width })
}

/// What a fresh function's register reads, after a write if there is one.
fn after(build: Build<'_>, at: Place, write: Option<u64>) -> Result<u64, String> {
    let mut function = PciFunction::new(build()?).map_err(|error| error.to_string())?;
    let host = &mut Nobody;
    // What the function does not take reads as the bus would have it.
    if at.region != Region::Config {
        let _ = function.config_write(host, COMMAND.0, &COMMAND.1.to_le_bytes()[..2]);
    }
    let width = usize::from(at.width);
    if let Some(value) = write {
        let data = &value.to_le_bytes()[..width];
        let _ = match at.region {
            Region::Config => function.config_write(host, at.offset, data),
            Region::Bar(bar) => function.bar_write(host, bar, at.offset, data),
        };
    }
    let mut data = [0; 8];
    let _ = match at.region {
        Region::Config => function.config_read(host, at.offset, &mut data[..width]),
        Region::Bar(bar) => function.bar_read(host, bar, at.offset, &mut data[..width]),
    };
    Ok(u64::from_le_bytes(data))
}

/// What can be wrong with any register.
fn plain(probed: &Probed) -> Vec<Mutant> {
    let Probed { name, at, reset, writable, width } = probed;
    let (at, fixed) = (*at, width & !writable);
    let mut mutants = Vec::new();
    let mut add = |kind: &str, what: String, change| {
        let id = format!("{kind}/{name}");
        mutants.push(Mutant { id, what, how: How::Function(change) });
    };
    // A bit that its driver cannot change, if there is one.
    let bits = if fixed == 0 { *width } else { fixed };
    let flip = 1 << bits.trailing_zeros();
    add("value", format!("{name} reads with bits {flip:#x} wrong"), Change::Value { at, flip });
    if *writable != 0 {
        let change = Change::Stuck { at, value: *reset };
        add("stuck", format!("{name} loses what is written"), change);
        let change = Change::Survives { at, bits: *writable };
        add("survives", format!("{name} keeps its value over a reset"), change);
    }
    if fixed != 0 {
        let change = Change::Writable { at, bits: fixed };
        add("writable", format!("read-only bits of {name} take what is written"), change);
    }
    mutants
}

/// Bits that read as they were written, and that the function does not heed; what it does instead.
const DEAF: &[(&str, u64, u64, &str)] = &[
    ("pci.command", 0x02, 0x02, "Memory space is always enabled"),
    ("pci.command", 0x02, 0x00, "Memory space is never enabled"),
    ("pci.command", 0x04, 0x04, "Bus mastering is always enabled"),
    ("pci.command", 0x04, 0x00, "Bus mastering is never enabled"),
    ("pci.command", 0x400, 0x000, "Interrupt Disable is not heeded"),
    ("pci.command", 0x400, 0x400, "Interrupts by INTx are always disabled"),
    ("msix.control", 0x8000, 0x8000, "MSI-X is always enabled"),
    ("msix.control", 0x8000, 0x0000, "MSI-X is never enabled"),
    ("msix.control", 0x4000, 0x0000, "Function Mask is not heeded"),
    ("msix.control", 0x4000, 0x4000, "All vectors are always masked"),
    ("msix.table.control[1]", 0x01, 0x00, "The mask of vector 1 is not heeded"),
    ("msix.table.control[1]", 0x01, 0x01, "Vector 1 is always masked"),
    ("msi.control", 0x01, 0x00, "MSI is never enabled"),
    ("msi.control", 0x01, 0x01, "MSI is always enabled"),
    ("common.device_status", 0x04, 0x04, "The device starts before DRIVER_OK"),
    ("common.device_status", 0x08, 0x08, "The device takes features as agreed that are not"),
    ("common.queue_enable", 0x01, 0x00, "Queues that are enabled are not"),
    ("common.queue_msix_vector", 0xffff, 0x0001, "Queues always use vector 1"),
    ("common.queue_msix_vector", 0xffff, 0xffff, "Queues never have a vector"),
    ("common.msix_config", 0xffff, 0xffff, "Configuration changes never have a vector"),
    ("common.queue_select", 0xffff, 0x0000, "Only queue 0 can be selected"),
    ("common.driver_feature_select", 0xff, 0x00, "Only the first 32 features are taken"),
    ("common.queue_size", 0xffff, 0x0008, "Queues always have 8 entries"),
];

fn by_hand(probed: &Probed) -> Vec<Mutant> {
    let Probed { name, at, .. } = probed;
    let rows = DEAF.iter().filter(|(register, ..)| register == name);
    let mut mutants: Vec<Mutant> = rows
        .map(|(name, bits, acts, what)| Mutant {
            id: format!("deaf/{name}/{bits:x}-{acts:x}"),
            what: (*what).to_owned(),
            how: How::Function(Change::Deaf { at: *at, bits: *bits, acts: *acts }),
        })
        .collect();
    if probed.writable != 0 && matches!(at.region, Region::Bar(_)) {
        mutants.push(Mutant {
            id: format!("cleared/{name}"),
            what: format!("reading {name} clears it"),
            how: How::Function(Change::Cleared { at: *at }),
        });
    }
    mutants
}
