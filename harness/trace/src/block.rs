//! Memory that records are collected in, on their way from the device's thread to another.
//!
//! A call is known when it ends, after its events, and comes before them in a trace. So a block is
//! made of groups: the lengths of both parts (eight bytes each), the events, then the rest, which
//! is the call and what comes before its events. Nothing is copied to put them in order.

use crate::raw;
use crate::record::Record;

/// Bytes of a block that is full. The last group may reach beyond.
pub(crate) const FULL: usize = 1 << 20;
/// Memory of a block that is made ahead, so that most groups fit.
const CAPACITY: usize = FULL + (80 << 10);
/// Before each group.
const LENGTHS: usize = 16;

/// Whole groups, and perhaps one that is being made.
#[derive(Debug, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    /// Where the last group begins.
    start: usize,
    /// It is being made.
    unfinished: bool,
    /// Records of whole groups.
    records: u64,
}

impl Block {
    /// An empty one whose memory is there: the first access of fresh memory costs much.
    pub(crate) fn fresh() -> Self {
        let mut bytes = vec![1; CAPACITY];
        bytes.clear();
        Self { bytes, ..Self::default() }
    }

    /// The same without its memory being there.
    pub(crate) fn unused() -> Self {
        Self { bytes: Vec::with_capacity(CAPACITY), ..Self::default() }
    }

    /// Empties it. `false` if its memory is not worth keeping.
    pub(crate) fn recycle(&mut self) -> bool {
        self.bytes.clear();
        (self.start, self.unfinished, self.records) = (0, false, 0);
        (FULL..=2 * CAPACITY).contains(&self.bytes.capacity())
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// A group begins.
    pub(crate) fn begin(&mut self) {
        self.drop_unfinished();
        self.unfinished = true;
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTHS]);
    }

    /// Takes back a group that was not finished: the call panicked.
    pub(crate) fn drop_unfinished(&mut self) {
        if self.unfinished {
            self.undo(0);
        }
    }

    /// Where the group's next record goes.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The group's records so far.
    pub(crate) fn events(&self) -> &[u8] {
        self.bytes.get(self.start + LENGTHS..).unwrap_or_default()
    }

    /// The group's events are all there. `rest` appends what comes before them in the trace, and
    /// says how many records the group has.
    pub(crate) fn finish(&mut self, rest: impl FnOnce(&mut Vec<u8>) -> u64) -> u64 {
        let events = self.events().len();
        let records = rest(&mut self.bytes);
        let rest = self.events().len() - events;
        let lengths = [events as u64, rest as u64].map(u64::to_le_bytes);
        self.bytes[self.start..][..LENGTHS].copy_from_slice(lengths.as_flattened());
        self.records += records;
        self.unfinished = false;
        records
    }

    /// Takes back the last group. Returns its bytes, if it was finished with `records`.
    pub(crate) fn undo(&mut self, records: u64) -> usize {
        let len = self.bytes.len() - self.start;
        self.bytes.truncate(self.start);
        self.unfinished = false;
        self.records -= records;
        len.saturating_sub(LENGTHS)
    }

    /// Shows the records of its groups, in the order of the trace.
    pub(crate) fn each(&self, mut show: impl FnMut(&Record<'_>)) {
        for mut part in Groups(&self.bytes).flatten() {
            // Whole records only: they were encoded here.
            while let Ok((record, next)) = raw::decode(part) {
                show(&record);
                part = next;
            }
        }
    }
}

struct Groups<'b>(&'b [u8]);

impl<'b> Iterator for Groups<'b> {
    type Item = [&'b [u8]; 2];

    fn next(&mut self) -> Option<Self::Item> {
        let (events, rest) = self.0.split_first_chunk()?;
        let (before, rest) = rest.split_first_chunk()?;
        let len = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).ok();
        let (events, rest) = rest.split_at_checked(len(events)?)?;
        let (before, rest) = rest.split_at_checked(len(before)?)?;
        self.0 = rest;
        Some([before, events])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(block: &mut Block, events: &[Record<'_>], call: Record<'_>) {
        block.begin();
        events.iter().for_each(|event| raw::encode(event, block.end()));
        block.finish(|into| {
            raw::encode(&call, into);
            1 + events.len() as u64
        });
    }

    #[test]
    fn a_call_comes_before_its_events() {
        let mut block = Block::default();
        group(&mut block, &[Record::Fence, Record::Fence], Record::Attach { at: 1 });
        group(&mut block, &[], Record::Attach { at: 2 });
        let mut seen = Vec::new();
        block.each(|record| seen.push(format!("{record:?}")));
        assert_eq!(seen, ["Attach { at: 1 }", "Fence", "Fence", "Attach { at: 2 }"]);
        assert_eq!(block.records(), 4);
    }

    #[test]
    fn a_group_can_be_taken_back() {
        let mut block = Block::default();
        group(&mut block, &[Record::Fence], Record::Attach { at: 1 });
        let len = block.len();
        group(&mut block, &[const { Record::Fence }; 5], Record::Attach { at: 2 });
        assert_eq!(block.undo(6), 7);
        assert_eq!((block.len(), block.records()), (len, 2));
        block.begin();
        block.end().extend_from_slice(b"half");
        block.drop_unfinished();
        assert_eq!((block.len(), block.records()), (len, 2));
        assert!(!block.recycle());
        assert!(Block::fresh().recycle());
    }
}
