//! Records as the device's thread leaves them: with the least work. Another thread makes of them
//! what goes to files.
//!
//! The usual ones have four words and their data; the rest are as in a file. A record in a file
//! begins with its number, which is below [`FIRST`].

use understudy_device::{Bar, Nanos, Progress, Tap, Verdict};

use crate::record::{DecodeError, Record};

/// First of the tags that are used here.
const FIRST: u8 = 0x80;
const BAR_READ: u8 = FIRST;
const BAR_WRITE: u8 = FIRST + 1;
const POLL: u8 = FIRST + 2;
const DMA_READ: u8 = FIRST + 3;
const DMA_WRITE: u8 = FIRST + 4;
const TAP: u8 = FIRST + 5;
/// Only this byte.
const FENCE: u8 = FIRST + 6;

/// Bytes before the data: tag, detail, queue and length of the data in the first word, then three.
const HEAD: usize = 32;

/// Appends a record.
#[inline]
pub(crate) fn encode(record: &Record<'_>, into: &mut Vec<u8>) {
    let (tag, detail, queue, words, data) = match *record {
        Record::Fence => return into.push(FENCE),
        Record::DmaRead { iova, len, data, fault: None } => (DMA_READ, 0, 0, [iova, len, 0], data),
        Record::DmaWrite { iova, len, hash, data, fault: None } => {
            (DMA_WRITE, 0, 0, [iova, len, hash], data)
        }
        Record::Tap { point, queue, entry, edited: None, verdict: Verdict::Pass } => {
            (TAP, u8::from(point == Tap::Completing), queue, [0; 3], entry)
        }
        Record::BarRead { at, bar, offset, data, error: None } => {
            (BAR_READ, bar.0, 0, [at, offset, 0], data)
        }
        Record::BarWrite { at, bar, offset, data, error: None } => {
            (BAR_WRITE, bar.0, 0, [at, offset, 0], data)
        }
        Record::Poll { at, budget, progress } => {
            let (progress, until) = match progress {
                Progress::Idle => (0, 0),
                Progress::More => (1, 0),
                Progress::Until(Nanos(until)) => (2, until),
            };
            (POLL, progress, 0, [at, budget.into(), until], &[][..])
        }
        ref other => return other.encode(into),
    };
    let Ok(len) = u32::try_from(data.len()) else { return record.encode(into) };
    let small = u64::from(tag) | u64::from(detail) << 8 | u64::from(queue) << 16;
    let [a, b, c] = words;
    into.reserve(HEAD + data.len());
    let head = [small | u64::from(len) << 32, a, b, c].map(u64::to_le_bytes);
    into.extend_from_slice(head.as_flattened());
    into.extend_from_slice(data);
}

/// The record at the start of `bytes`, and what follows it.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), DecodeError> {
    match bytes.first() {
        Some(&FENCE) => return Ok((Record::Fence, &bytes[1..])),
        Some(&tag) if tag >= FIRST => {}
        _ => return Record::decode(bytes),
    }
    let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(DecodeError::Short)?;
    let &[tag, detail, queue @ .., _, _, _, _] = head.first_chunk::<8>().unwrap_or(&[0; 8]);
    let word = |index: usize| crate::line::little_endian(&head[8 * index..8 * index + 8]);
    let len = usize::try_from(word(0) >> 32).map_err(|_| DecodeError::Invalid)?;
    let (data, rest) = rest.split_at_checked(len).ok_or(DecodeError::Short)?;
    let (first, second, third) = (word(1), word(2), word(3));
    let (at, iova, bar) = (first, first, Bar(detail));
    let record = match tag {
        BAR_READ => Record::BarRead { at, bar, offset: second, data, error: None },
        BAR_WRITE => Record::BarWrite { at, bar, offset: second, data, error: None },
        DMA_READ => Record::DmaRead { iova, len: second, data, fault: None },
        DMA_WRITE => Record::DmaWrite { iova, len: second, hash: third, data, fault: None },
        TAP => Record::Tap {
            point: if detail == 0 { Tap::Fetched } else { Tap::Completing },
            queue: u16::from_le_bytes(queue),
            entry: data,
            edited: None,
            verdict: Verdict::Pass,
        },
        POLL => Record::Poll {
            at,
            budget: u32::try_from(second).map_err(|_| DecodeError::Invalid)?,
            progress: match detail {
                0 => Progress::Idle,
                1 => Progress::More,
                _ => Progress::Until(Nanos(third)),
            },
        },
        _ => return Err(DecodeError::Invalid),
    };
    Ok((record, rest))
}

#[cfg(test)]
mod tests {
    use understudy_device::DmaFaultKind;

    use super::*;

    #[test]
    fn records_come_back_as_they_were() {
        let (at, bar, offset, iova, len, hash) = (u64::MAX, Bar(4), 0x8000, 1 << 40, 300, 1 << 63);
        let (data, queue, fault) = (&[7; 300][..], 0xabcd, None);
        let (entry, edited, verdict, budget) = (data, None, Verdict::Pass, u32::MAX);
        let point = Tap::Completing;
        let poll = |progress| Record::Poll { at, budget, progress };
        let records = [
            Record::BarRead { at, bar, offset, data, error: None },
            Record::BarWrite { at, bar, offset, data: &[], error: None },
            poll(Progress::Idle),
            poll(Progress::More),
            poll(Progress::Until(Nanos(5))),
            Record::DmaRead { iova, len, data, fault },
            Record::DmaWrite { iova, len, hash, data, fault },
            Record::Tap { point: Tap::Fetched, queue, entry, edited, verdict },
            Record::Tap { point, queue, entry, edited, verdict },
            Record::Fence,
            // These as in a file.
            Record::Tap { point, queue, entry, edited: Some(data), verdict },
            Record::Tap { point, queue, entry, edited, verdict: Verdict::Drop },
            Record::DmaRead { iova, len, data: &[], fault: Some(DmaFaultKind::Denied) },
            Record::Attach { at },
        ];
        let mut bytes = Vec::new();
        records.iter().for_each(|record| encode(record, &mut bytes));
        let mut rest = &bytes[..];
        for record in &records {
            let (decoded, next) = decode(rest).unwrap();
            assert_eq!(decoded, *record);
            rest = next;
        }
        assert_eq!(rest, b"");
        assert_eq!(decode(&[TAP]), Err(DecodeError::Short));
        assert_eq!(decode(&[0xff; HEAD]), Err(DecodeError::Short));
    }
}
