//! The server's session: any bytes as a client's stream, to a small device that does DMA by
//! descriptor and by message, raises every kind of interrupt and hands out jobs.
#![no_main]

#[allow(dead_code, reason = "shared with the server's tests")]
#[path = "../../../emulator/server/tests/common/device.rs"]
mod device;

use understudy_pci::PciFunction;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let function = PciFunction::new(Box::new(device::TestDevice::new())).expect("a valid device");
    understudy_server::fuzzing::session(function, input);
});
