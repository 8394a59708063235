//! What the service manager tells of the device (`QAicHostApiInfo.h`, format version 12).

use zerocopy::IntoBytes;

use crate::control::PROCESSORS;
use crate::message::{ResourceInfo, command};
use crate::registers::CHANNELS;

/// `deviceInfoFormatVersion`
const FORMAT: u8 = 12;
/// Version of the commands (`NNC_COMMAND_PROTOCOL_MAJOR_VERSION`).
const COMMAND_PROTOCOL: (u16, u16) = (17, 0);
/// Bytes of `host_api_info_data_internal_t`: header, device, processors.
const DEVICE_LEN: usize = 320;
const PROCESSOR_LEN: usize = 168;
const PERFORMANCE_LEN: usize = 56;
const MEGABYTE: u64 = 1 << 20;

/// What is loaded, active, and free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) memory: u64,
    pub(crate) used: u64,
    pub(crate) programs: usize,
    pub(crate) constants: usize,
    pub(crate) constants_used: usize,
    pub(crate) active: usize,
}

fn byte(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

fn resource_info(facts: &Facts) -> ResourceInfo {
    let megabytes = |bytes: u64| u32::try_from(bytes / MEGABYTE).unwrap_or(u32::MAX);
    let channels = usize::from(CHANNELS);
    ResourceInfo {
        memory_mb: megabytes(facts.memory).into(),
        memory_free_mb: megabytes(facts.memory.saturating_sub(facts.used)).into(),
        fragmentation: 0.into(),
        channels: byte(channels),
        channels_free: byte(channels.saturating_sub(facts.active)),
        processors: byte(PROCESSORS),
        processors_free: byte(PROCESSORS.saturating_sub(facts.active)),
        multicast: 0.into(),
        multicast_free: 0.into(),
        semaphores: u32::from(CHANNELS * 32).into(),
        semaphores_free: u32::from(CHANNELS * 32).into(),
        physical_channels: 0,
        physical_channels_reserved: 0,
        padding: [0; 6],
    }
}

/// Puts bytes at a place, as far as there is room.
fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in into.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// `nnc_cmd_status_query_response`
pub(crate) fn status(facts: &Facts) -> Vec<u8> {
    let mut answer = (command::STATUS + 1).to_le_bytes().to_vec();
    answer.extend([0; 4]);
    answer.extend([FORMAT, 0, 0, 0, 0, 0, 0, 0]);
    let mut device = vec![0; DEVICE_LEN];
    // Version 0.0.0.1 of a firmware that is none; the strings say so.
    device[3] = 1;
    put(&mut device, 4, b"understudy");
    put(&mut device, 42, b"understudy");
    put(&mut device, 80, b"model");
    put(&mut device, 96, &0x6011_0200_u32.to_le_bytes());
    put(&mut device, 100, b"UNDERSTUDY");
    put(&mut device, 116, b"UNDERSTUDY");
    put(&mut device, 152, resource_info(facts).as_bytes());
    // Frequencies and bandwidths stay 0: there are none.
    let after = 192 + PERFORMANCE_LEN;
    let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    put(&mut device, after, &count(facts.constants));
    put(&mut device, after + 4, &count(facts.constants_used));
    put(&mut device, after + 8, &[byte(facts.programs), byte(facts.active)]);
    put(&mut device, after + 14, &COMMAND_PROTOCOL.0.to_le_bytes());
    put(&mut device, after + 16, &COMMAND_PROTOCOL.1.to_le_bytes());
    answer.append(&mut device);
    answer.extend([0; PROCESSOR_LEN]);
    answer
}

/// `nnc_cmd_resource_info_response`
pub(crate) fn resources(facts: &Facts, group: u32) -> Vec<u8> {
    let mut answer = (command::RESOURCE_INFO + 1).to_le_bytes().to_vec();
    answer.extend(group.to_le_bytes());
    answer.extend(resource_info(facts).as_bytes());
    answer.extend([0; 8]);
    answer
}

/// `nnc_cmd_performance_info_response`: a model has no frequencies.
pub(crate) fn performance() -> Vec<u8> {
    let mut answer = (command::PERFORMANCE_INFO + 1).to_le_bytes().to_vec();
    answer.extend([0; 4]);
    answer.extend([0; PERFORMANCE_LEN]);
    answer
}
