//! PCI: the command register, message interrupts, INTx, sizes of accesses.

use understudy_device::AccessError;
use understudy_pci::Irq;

use super::{Monitor, Touch};
use crate::names::index_of;
use crate::pipe::Place;
use crate::record::Record;
use crate::watch::Findings;

const BUS_MASTER: u64 = 1 << 2;
const COMMAND_RESERVED: u64 = 0xf800;
/// Enable bits of the control registers of MSI and MSI-X.
const MSI_ENABLE: u64 = 1 << 0;
const MSIX_ENABLE: u64 = 1 << 15;
/// INTx assertions without any access to the function that make a driver deaf.
const IGNORED: u64 = 64;

#[derive(Debug, Default)]
pub(crate) struct Pci {
    command: u64,
    msi: bool,
    msix: bool,
    /// INTx messages since the driver last accessed a BAR.
    unanswered: u64,
}

impl Monitor for Pci {
    fn read(&mut self, _: Place, _: &Touch<'_>, _: &mut Findings) {
        self.unanswered = 0;
    }

    fn write(&mut self, place: Place, touch: &Touch<'_>, findings: &mut Findings) {
        self.unanswered = 0;
        match touch.name {
            "pci.command" => {
                self.command = touch.onto(self.command);
                if touch.value & COMMAND_RESERVED != 0 {
                    let what = format!("reserved bits of the command register: {:#x}", touch.value);
                    findings.add(place, "pci/reserved-bits", what);
                }
            }
            "msi.control" if touch.mask & MSI_ENABLE != 0 => {
                self.msi = touch.value & MSI_ENABLE != 0;
                self.both(place, findings);
            }
            "msix.control" if touch.mask & MSIX_ENABLE != 0 => {
                self.msix = touch.value & MSIX_ENABLE != 0;
                self.both(place, findings);
            }
            name if is_doorbell(name) && self.command & BUS_MASTER == 0 => {
                let what = format!("{name} was written while Bus Master Enable is clear");
                findings.add(place, "pci/doorbell-before-bus-master", what);
            }
            _ => {}
        }
    }

    fn record(&mut self, place: Place, record: &Record<'_>, findings: &mut Findings) {
        match record {
            Record::BarRead { error: Some(error), .. }
            | Record::BarWrite { error: Some(error), .. } => match error {
                AccessError::Disabled => {
                    let what = "a BAR was accessed while Memory Space Enable is clear".to_owned();
                    findings.add(place, "pci/memory-disabled", what);
                }
                AccessError::Width { .. } | AccessError::Unaligned { .. } => {
                    let id = "pci/access-size";
                    findings.add(place, id, error.to_string());
                }
                _ => {}
            },
            Record::Signal { irq: Irq::Intx, heard: true, .. } => {
                self.unanswered += 1;
                if self.unanswered == IGNORED {
                    let what = format!("{IGNORED} INTx interrupts, and no access to the function");
                    findings.add(place, "pci/intx-ignored", what);
                }
            }
            Record::Reset { .. } => *self = Self::default(),
            _ => {}
        }
    }
}

impl Pci {
    fn both(&self, place: Place, findings: &mut Findings) {
        if self.msi && self.msix {
            let what = "MSI and MSI-X are both enabled".to_owned();
            findings.add(place, "pci/msi-and-msix", what);
        }
    }
}

fn is_doorbell(name: &str) -> bool {
    ["notify", "rings.tail"].iter().any(|register| index_of(name, register).is_some())
}
