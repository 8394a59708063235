//! Messages to and from the physical function (PFVF).

use super::{Driver, MISC};
use crate::error::DriverError;
use crate::platform::{Activity, Platform};
use crate::qat::misc;

const IN_USE: u32 = 0x6ac2;
const IN_USE_MASK: u32 = 0xfffe;
const PENDING: u32 = 1;
const SYSTEM: u32 = 2;
/// Receivers clear the mark from this version of the protocol.
const FAST_ACK: u8 = 3;

/// What the physical function tells at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Version of its protocol.
    pub version: u8,
    /// Capabilities; 0 if it is too old to tell.
    pub capabilities: u32,
    /// Services of rings; 0 if it is too old to tell.
    pub ring_map: u16,
}

impl<P: Platform> Driver<P> {
    /// Reads the mailbox.
    ///
    /// # Errors
    /// If the access fails.
    pub fn mailbox(&mut self) -> Result<u32, DriverError> {
        self.read(MISC, misc::MAILBOX)
    }

    fn wait_mailbox(
        &mut self,
        what: &'static str,
        done: impl Fn(u32) -> bool,
    ) -> Result<u32, DriverError> {
        let deadline = self.deadline();
        loop {
            let value = self.mailbox()?;
            if done(value) {
                return Ok(value);
            }
            let quiet = self.platform.idle(deadline)? == Activity::Quiet;
            if self.platform.now() >= deadline || quiet && !done(self.mailbox()?) {
                return Err(DriverError::Timeout(what));
            }
        }
    }

    /// Sends a message and waits until it is acknowledged.
    ///
    /// # Errors
    /// [`DriverError::Timeout`]; [`DriverError::NotKept`] if a notification was overwritten.
    pub fn send(&mut self, kind: u32, data: u32, notification: bool) -> Result<(), DriverError> {
        let free = |value: u32| value >> 16 & IN_USE_MASK != IN_USE;
        self.wait_mailbox("the mailbox to be free", free)?;
        let message = (SYSTEM | kind << 2 | data << 6) << 16 | IN_USE;
        self.write(MISC, misc::MAILBOX, message | PENDING << 16)?;
        let acknowledged = |value: u32| value & PENDING << 16 == 0;
        let found = self.wait_mailbox("an acknowledgement", acknowledged)?;
        if notification && found != message {
            let (written, found) = (message.into(), found.into());
            return Err(DriverError::NotKept { register: "PF2VF", written, found });
        }
        if found & IN_USE_MASK == IN_USE {
            self.write(MISC, misc::MAILBOX, found & !IN_USE_MASK)?;
        }
        Ok(())
    }

    /// Waits for a message and acknowledges it: its kind and data.
    ///
    /// # Errors
    /// [`DriverError::Timeout`].
    pub fn receive(&mut self) -> Result<(u32, u32), DriverError> {
        const RESTARTING: u32 = 1;
        let value = self.wait_mailbox("a message", |value| value & PENDING != 0)?;
        let (kind, data) = (value >> 2 & 0xf, value >> 6 & 0x3ff);
        let mut left = value & !PENDING;
        if self.version >= FAST_ACK && kind != RESTARTING {
            left &= !(IN_USE_MASK << 16);
        }
        self.write(MISC, misc::MAILBOX, left)?;
        Ok((kind, data))
    }

    /// Asks for the version of the protocol: it, and whether ours is compatible (1 to 3).
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`receive`](Self::receive).
    pub fn ask_version(&mut self, ours: u8) -> Result<(u8, u32), DriverError> {
        self.send(6, ours.into(), false)?;
        let (kind, data) = self.receive()?;
        if kind != 2 {
            return Err(DriverError::Missing("answer to a version request"));
        }
        let [version, ..] = data.to_le_bytes();
        Ok((version, data >> 8))
    }

    /// One byte of a block message, or its CRC: the kind of the answer and the byte.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`receive`](Self::receive).
    pub fn ask_block(
        &mut self,
        block: u32,
        byte: u32,
        crc: bool,
    ) -> Result<(u32, u8), DriverError> {
        self.send(9, block | byte << 4 | u32::from(crc) << 9, false)?;
        let (kind, data) = self.receive()?;
        if kind != 3 {
            return Err(DriverError::Missing("answer to a block request"));
        }
        let [value, ..] = (data >> 2).to_le_bytes();
        Ok((data & 3, value))
    }

    /// A whole block message without its header, checked by its CRC.
    ///
    /// # Errors
    /// As [`ask_block`](Self::ask_block).
    pub fn block(&mut self, block: u32) -> Result<Vec<u8>, DriverError> {
        let mut message = Vec::new();
        let mut len = 2;
        while message.len() < len {
            let at = u32::try_from(message.len()).unwrap_or(u32::MAX);
            let (kind, byte) = self.ask_block(block, at, false)?;
            if kind != 0 {
                return Err(DriverError::Missing("block message"));
            }
            message.push(byte);
            if let [_, payload] = message.as_slice() {
                len = 2 + usize::from(*payload);
            }
        }
        let last = u32::try_from(len - 1).unwrap_or(u32::MAX);
        match self.ask_block(block, last, true)? {
            (1, crc) if crc == crc8(&message) => Ok(message.split_off(2)),
            _ => Err(DriverError::Missing("right CRC for a block message")),
        }
    }

    /// What Linux does to learn about its function and announce itself.
    ///
    /// # Errors
    /// What the device did wrong.
    pub fn introduce(&mut self) -> Result<Facts, DriverError> {
        self.write(MISC, misc::VINTMSK, 0)?;
        let (version, compatible) = self.ask_version(5)?;
        if !matches!(compatible, 1 | 3) {
            return Err(DriverError::Missing("a compatible mailbox protocol"));
        }
        self.version = version;
        let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        let capabilities = match version {
            2.. => word(self.block(2)?.get(4..).unwrap_or_default()),
            _ => 0,
        };
        let ring_map = match version {
            4.. => self.block(3)?.first_chunk().map_or(0, |map| u16::from_le_bytes(*map)),
            _ => 0,
        };
        self.send(3, 0, true)?;
        Ok(Facts { version, capabilities, ring_map })
    }
}

/// The CRC of block messages, from its table-free definition.
fn crc8(bytes: &[u8]) -> u8 {
    let mut crc = 0xff;
    for byte in bytes {
        crc ^= byte;
        for _ in 0..8 {
            let carry = crc & 0x80 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x97;
            }
        }
    }
    crc
}
