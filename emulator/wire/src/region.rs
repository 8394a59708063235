//! Region accesses: REGION_READ, REGION_WRITE and REGION_WRITE_MULTI.

use crate::error::{Problem, WireError};
use crate::header::Command;
use crate::layout::{self, Payload, region_access, write_multi, write_one};

/// The fixed fields of REGION_READ and REGION_WRITE, requests and replies ("VFIO_USER_REGION_READ",
/// "VFIO_USER_REGION_WRITE").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionAccess {
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// Index of the region.
    pub region: u32,
    /// Size of the data, in bytes; `offset + count` does not overflow.
    pub count: u32,
}

impl RegionAccess {
    fn fields(payload: &Payload<'_>, max: u32) -> Result<Self, WireError> {
        let access = Self {
            offset: payload.u64(&region_access::OFFSET)?,
            region: payload.u32(&region_access::REGION)?,
            count: payload.u32(&region_access::COUNT)?,
        };
        payload.at_most(&region_access::COUNT, access.count.into(), max)?;
        if access.offset.checked_add(access.count.into()).is_none() {
            let rule = "the access wraps around";
            return Err(payload.forbid(&region_access::OFFSET, access.offset, rule));
        }
        Ok(access)
    }

    /// A read request or a write reply: no data.
    pub(crate) fn decode(command: Command, bytes: &[u8], max: u32) -> Result<Self, WireError> {
        let payload = Payload::new(command, bytes, &region_access::COUNT)?;
        let access = Self::fields(&payload, max)?;
        payload.exactly(&region_access::COUNT, 0, &region_access::COUNT, access.count.into())?;
        Ok(access)
    }

    /// A write request or a read reply: `count` bytes of data.
    pub(crate) fn decode_with_data(
        command: Command,
        bytes: &[u8],
        max: u32,
    ) -> Result<(Self, &[u8]), WireError> {
        let payload = Payload::new(command, bytes, &region_access::COUNT)?;
        let access = Self::fields(&payload, max)?;
        let count = access.count.into();
        payload.exactly(&region_access::COUNT, count, &region_access::COUNT, count)?;
        Ok((access, payload.tail(&region_access::COUNT)))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [
            (&region_access::OFFSET, self.offset),
            (&region_access::REGION, self.region.into()),
            (&region_access::COUNT, self.count.into()),
        ];
        layout::put(out, &region_access::COUNT, &values);
    }
}

/// One write of a REGION_WRITE_MULTI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionWrite<'a> {
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// Index of the region.
    pub region: u32,
    /// The data: at most 8 bytes.
    pub data: &'a [u8],
}

/// REGION_WRITE_MULTI request ("VFIO_USER_REGION_WRITE_MULTI"): writes of at most 8 bytes each, to
/// be done in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteMulti<'a> {
    /// The writes as they lie in the message, 24 bytes each.
    writes: &'a [u8],
}

/// Size of one write, in bytes.
const WRITE_SIZE: usize = write_one::DATA.end();

impl<'a> WriteMulti<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let payload = Payload::new(Command::REGION_WRITE_MULTI, bytes, &write_multi::COUNT)?;
        let count = payload.u64(&write_multi::COUNT)?;
        let need = count.saturating_mul(WRITE_SIZE as u64);
        payload.exactly(&write_multi::COUNT, need, &write_multi::COUNT, count)?;
        let writes = payload.tail(&write_multi::COUNT);
        for (index, write) in writes.chunks_exact(WRITE_SIZE).enumerate() {
            let write = Payload { bytes: write, ..payload };
            // Errors name the place in the message, not in the entry.
            let place = |mut error: WireError| {
                error.offset += write_multi::COUNT.end() + index * WRITE_SIZE;
                error
            };
            let count = write.u32(&write_one::COUNT).map_err(place)?;
            let max = write_one::DATA.width as u64;
            if u64::from(count) > max {
                let problem = Problem::TooBig { value: count.into(), max };
                return Err(place(write.reject(&write_one::COUNT, problem)));
            }
            let offset = write.u64(&write_one::OFFSET).map_err(place)?;
            if offset.checked_add(count.into()).is_none() {
                let error = write.forbid(&write_one::OFFSET, offset, "the access wraps around");
                return Err(place(error));
            }
        }
        Ok(Self { writes })
    }

    /// How many writes there are.
    pub fn len(&self) -> usize {
        self.writes.len() / WRITE_SIZE
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The writes, in order.
    pub fn iter(&self) -> impl Iterator<Item = RegionWrite<'a>> + use<'a> {
        self.writes.chunks_exact(WRITE_SIZE).filter_map(|bytes| {
            let write = Payload { command: Command::REGION_WRITE_MULTI, bytes };
            let count = usize::try_from(write.u32(&write_one::COUNT).ok()?).ok()?;
            Some(RegionWrite {
                offset: write.u64(&write_one::OFFSET).ok()?,
                region: write.u32(&write_one::REGION).ok()?,
                data: bytes.get(write_one::DATA.offset..)?.get(..count)?,
            })
        })
    }

    /// Appends the payload of a request. Data beyond 8 bytes are cut off, though the count written
    /// still says how many there were.
    pub fn encode_writes(writes: &[RegionWrite<'_>], out: &mut Vec<u8>) {
        layout::put(out, &write_multi::COUNT, &[(&write_multi::COUNT, writes.len() as u64)]);
        for write in writes {
            let base = out.len();
            let values = [
                (&write_one::OFFSET, write.offset),
                (&write_one::REGION, write.region.into()),
                (&write_one::COUNT, write.data.len() as u64),
            ];
            layout::put(out, &write_one::DATA, &values);
            let data = out.get_mut(base + write_one::DATA.offset..).unwrap_or(&mut []);
            for (to, from) in data.iter_mut().zip(write.data) {
                *to = *from;
            }
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        layout::put(out, &write_multi::COUNT, &[(&write_multi::COUNT, self.len() as u64)]);
        out.extend_from_slice(self.writes);
    }
}
