//! Requests of the Cloud AI 100's DMA bridge, and elements of MHI's rings (Linux `qaic_data.c`,
//! `drivers/bus/mhi/common.h`). Their lengths tell them apart.

use super::number;

const REQUEST_LEN: usize = 64;
const RESPONSE_LEN: usize = 4;

/// A request, a command or a transfer element.
pub(crate) fn fetched(entry: &[u8]) -> String {
    if entry.len() == REQUEST_LEN { request(entry) } else { element(entry) }
}

/// A response or an event.
pub(crate) fn completing(entry: &[u8]) -> String {
    if entry.len() != RESPONSE_LEN {
        return event(entry);
    }
    format!("response id {:#x}, status {}", number(entry, 0, 2), number(entry, 2, 2))
}

fn request(entry: &[u8]) -> String {
    let way = match number(entry, 3, 1) & 3 {
        0 => "no transfer",
        1 => "to device",
        2 => "from device",
        _ => "illegal",
    };
    let (id, len) = (number(entry, 0, 2), number(entry, 24, 4));
    let (source, destination) = (number(entry, 8, 8), number(entry, 16, 8));
    let mut text = format!("{way} id {id:#x}, {source:#x} to {destination:#x}, {len} bytes");
    if number(entry, 40, 1) & 0x80 != 0 {
        text += &format!(", doorbell {:#x}", number(entry, 32, 8));
    }
    for at in [48, 52, 56, 60] {
        text += &semaphore(number(entry, at, 4));
    }
    text
}

fn semaphore(word: u64) -> String {
    if word >> 31 & 1 == 0 {
        return String::new();
    }
    let operation = match word >> 24 & 7 {
        0 => "NOP",
        1 => "INIT",
        2 => "INC",
        3 => "DEC",
        4 => "WAIT_EQUAL",
        5 => "WAIT_GT_EQ",
        6 => "WAIT_GT_0",
        _ => "unknown",
    };
    let when = if word >> 22 & 1 == 1 { "before" } else { "after" };
    format!(", {when} {operation} {} {}", word >> 16 & 0x1f, word & 0xfff)
}

fn element(entry: &[u8]) -> String {
    let (kind, channel) = (number(entry, 14, 1), number(entry, 15, 1));
    match kind {
        1 => "NOOP".to_owned(),
        2 => {
            let chain = if number(entry, 12, 1) & 1 == 1 { ", chained" } else { "" };
            format!("transfer {:#x}, {} bytes{chain}", number(entry, 0, 8), number(entry, 8, 2))
        }
        0x10 => format!("RESET_CHAN {channel}"),
        0x11 => format!("STOP_CHAN {channel}"),
        0x12 => format!("START_CHAN {channel}"),
        _ => format!("unknown element {kind:#x}"),
    }
}

fn event(entry: &[u8]) -> String {
    let (kind, channel, code) = (number(entry, 14, 1), number(entry, 15, 1), number(entry, 11, 1));
    match kind {
        0x21 => format!("command completion, code {code}"),
        0x22 => format!("channel {channel}, code {code}, {} bytes", number(entry, 8, 2)),
        _ => format!("event {kind:#x}, code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_named() {
        let mut entry = [0; 64];
        (entry[0], entry[3], entry[9], entry[17], entry[24]) = (7, 0x19, 0x10, 0x20, 64);
        entry[48..52].copy_from_slice(&0x8201_0000_u32.to_le_bytes());
        assert_eq!(fetched(&entry), "to device id 0x7, 0x1000 to 0x2000, 64 bytes, after INC 1 0");
        assert_eq!(completing(&[7, 0, 3, 0]), "response id 0x7, status 3");
        let mut entry = [0; 16];
        (entry[14], entry[15]) = (0x12, 10);
        assert_eq!(fetched(&entry), "START_CHAN 10");
        (entry[8], entry[11], entry[14]) = (32, 2, 0x22);
        assert_eq!(completing(&entry), "channel 10, code 2, 32 bytes");
    }
}
