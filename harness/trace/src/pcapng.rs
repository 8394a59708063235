//! Traces as packets, for Wireshark.
//!
//! One packet for each record, of link type `USER0` (147), dissected by `docs/understudy.lua`. All
//! numbers are little-endian.
//!
//! | Offset | Bytes | What |
//! |---|---|---|
//! | 0 | 2 | Version of this layout: 1 |
//! | 2 | 2 | Queue, `0xffff` for none |
//! | 4 | 4 | Flags: bit 0 an address, 1 a length, 2 a value, 3 an error |
//! | 8 | 8 | Position of the record in the trace |
//! | 16 | 8 | Address or offset |
//! | 24 | 8 | Length |
//! | 32 | 8 | Value |
//! | 40 | 1 + n | Kind: length, then characters |
//! | … | 1 + n | Register |
//! | … | 2 + n | Detail |
//! | … | 2 + n | Error |
//! | … | 2 + n | Data, in hexadecimal |

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};

use crate::file::Header;
use crate::line::{Decoder, Line};
use crate::output::Limited;
use crate::pipe::{Consumer, Place};
use crate::record::Record;

/// Version of the layout of packets.
const VERSION: u16 = 1;
/// Nanoseconds: ten to the power of minus nine (`if_tsresol`).
const RESOLUTION: u8 = 9;

/// The packet of a line.
#[must_use]
pub fn packet(line: &Line) -> Vec<u8> {
    let flags = u32::from(line.address.is_some())
        | u32::from(line.length.is_some()) << 1
        | u32::from(line.value.is_some()) << 2
        | u32::from(!line.error.is_empty()) << 3;
    let mut out = Vec::with_capacity(128);
    out.extend(VERSION.to_le_bytes());
    out.extend(line.queue.unwrap_or(u16::MAX).to_le_bytes());
    out.extend(flags.to_le_bytes());
    let words = [Some(line.position), line.address, line.length, line.value];
    out.extend(words.iter().flat_map(|word| word.unwrap_or(0).to_le_bytes()));
    for text in [&*line.kind, &line.register] {
        let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
        out.push(len);
        out.extend(&text.as_bytes()[..usize::from(len)]);
    }
    for text in [&line.detail, &line.error, &line.data] {
        let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
        out.extend(len.to_le_bytes());
        out.extend(&text.as_bytes()[..usize::from(len)]);
    }
    out
}

/// Writes packets.
pub(crate) struct Packets {
    out: PcapNgWriter<Limited>,
    decoder: Decoder,
    full: bool,
}

impl Packets {
    pub(crate) fn new(out: Limited, header: &Header) -> io::Result<Self> {
        let mut out = PcapNgWriter::new(out).map_err(to_io)?;
        let name = InterfaceDescriptionOption::IfName(Cow::Owned(header.device.clone()));
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::USER0,
            snaplen: 0,
            options: vec![name, InterfaceDescriptionOption::IfTsResol(RESOLUTION)],
        };
        out.write_pcapng_block(interface).map_err(to_io)?;
        Ok(Self { out, decoder: Decoder::new(header), full: false })
    }
}

impl Consumer for Packets {
    fn record(&mut self, place: Place, record: &Record<'_>) -> io::Result<()> {
        if self.full {
            return Ok(());
        }
        let data = packet(&self.decoder.line(place, record));
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(place.at),
            original_len: u32::try_from(data.len()).unwrap_or(u32::MAX),
            data: Cow::Owned(data),
            options: Vec::new(),
        };
        let written = self.out.write_pcapng_block(block).map(drop).map_err(to_io);
        written.inspect_err(|_| self.full = true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.get_mut().flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.get_mut().flush()
    }
}

fn to_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
