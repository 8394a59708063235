//! Firmware messages of QAT gen2 (Linux `icp_qat_fw.h`, `icp_qat_fw_la.h`, `icp_qat_fw_comp.h`).

use super::number;

fn service(id: u64) -> &'static str {
    match id {
        0 => "NULL",
        3 => "PKE",
        4 => "LA",
        9 => "COMP",
        _ => "unknown service",
    }
}

fn command(service: u64, command: u64) -> &'static str {
    match (service, command) {
        (4, 0) => "CIPHER",
        (4, 1) => "AUTH",
        (4, 2) => "CIPHER_HASH",
        (4, 3) => "HASH_CIPHER",
        (9, 0) => "STATIC",
        (9, 1) => "DYNAMIC",
        (9, 2) => "DECOMPRESS",
        _ => "",
    }
}

pub(crate) fn request(entry: &[u8]) -> String {
    let id = number(entry, 2, 1);
    let command = command(id, number(entry, 1, 1));
    let valid = if number(entry, 3, 1) & 0x80 == 0 { ", not valid" } else { "" };
    let (opaque, source) = (number(entry, 24, 8), number(entry, 32, 8));
    let destination = number(entry, 40, 8);
    let lengths = if id == 3 {
        format!("function {:#x}", number(entry, 20, 4))
    } else {
        format!("{} to {} bytes", number(entry, 48, 4), number(entry, 52, 4))
    };
    let service = service(id);
    format!(
        "{service} {command} opaque {opaque:#x}, {source:#x} to {destination:#x}, {lengths}{valid}"
    )
}

pub(crate) fn response(entry: &[u8]) -> String {
    let id = number(entry, 2, 1);
    let service = service(id);
    // Public-key responses have their status in another byte.
    let (error, status) = match id {
        3 => (number(entry, 4, 1), number(entry, 5, 1)),
        _ => (number(entry, 4, 2), number(entry, 6, 1)),
    };
    let opaque = number(entry, 8, 8);
    format!("{service} response opaque {opaque:#x}, status {status:#x}, error {error:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_named() {
        let mut entry = [0; 128];
        (entry[1], entry[2], entry[3]) = (2, 4, 0x80);
        (entry[24], entry[33], entry[41], entry[48], entry[52]) = (7, 0x10, 0x20, 64, 80);
        assert_eq!(request(&entry), "LA CIPHER_HASH opaque 0x7, 0x1000 to 0x2000, 64 to 80 bytes");
        let mut entry = [0; 32];
        (entry[2], entry[6], entry[8]) = (4, 0x80, 7);
        assert_eq!(response(&entry), "LA response opaque 0x7, status 0x80, error 0x0");
    }
}
