//! The input of a run.

use arbitrary::{Arbitrary, Unstructured};
use serde::{Deserialize, Serialize};

/// Acts and calls of one program at most, whoever made it.
pub const MAX_PARTS: usize = 512;

/// What a device does beyond its model, and what its driver is asked to do.
///
/// The device keeps to its specification for the first `honest` steps. Steps are all that passes
/// between driver and device: accesses, DMA, ring entries, interrupts, turns in which the driver
/// waits. After them, each act happens at its own count of its own kind of step, whether or not
/// other acts do: taking one away leaves the others as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Steps during which the device is as specified.
    pub honest: u32,
    /// What it does then.
    pub acts: Vec<Act>,
    /// What the driver is asked to do, in order.
    pub calls: Vec<Call>,
}

/// Something that a driver is asked to do. Each target has its own meaning for the numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Arbitrary)]
pub struct Call(
    /// What.
    pub u8,
    /// How much of it.
    pub u16,
);

/// One thing that the device does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// At which step of its kind, from 0, counted from when the device is no longer honest.
    pub nth: u16,
    /// At how many in a row; 0 is 1, 255 is all from there on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub times: u8,
    /// What.
    pub what: What,
}

fn is_zero(times: &u8) -> bool {
    *times == 0
}

/// Kinds of steps at which something can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// The driver reads config space.
    Config,
    /// The driver reads a BAR.
    Register,
    /// The driver looks at memory that it shares with the device.
    Look,
    /// The device reads memory: descriptors, requests.
    DeviceRead,
    /// The device writes memory: results, completions.
    DeviceWrite,
    /// The ring engine has fetched a request, or is about to complete one.
    Entry,
    /// The device interrupts.
    Interrupt,
    /// The driver waits, or rings a doorbell of a device that works at once.
    Turn,
}

impl Site {
    /// How many there are.
    pub(crate) const COUNT: usize = 8;
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Arbitrary)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A read of config space returns something else.
    Config(Edit),
    /// A read of a BAR returns something else.
    Register(Edit),
    /// The device writes memory just before the driver looks at it: between two looks, too.
    Look(Edit),
    /// The device reads something else from memory.
    DeviceRead(Edit),
    /// The device cannot read memory.
    ReadFault,
    /// The device writes something else.
    DeviceWrite(Edit),
    /// The device cannot write memory, and goes on.
    WriteLost,
    /// An entry of a queue is changed.
    Entry(Edit),
    /// An entry of a queue is not handled.
    EntryLost,
    /// An entry of a queue is handled twice.
    EntryTwice,
    /// An entry of a queue is handled after the next.
    EntryLater,
    /// An interrupt does not arrive.
    InterruptLost,
    /// An interrupt arrives for nothing.
    Interrupt(u8),
    /// The device does nothing while the driver waits.
    Stall,
    /// The device writes into a buffer that the driver shares with it: which, where, what.
    Scribble(u8, u16, Edit),
    /// The device resets itself.
    Reset,
    /// The device is gone: reads are all ones from now on.
    Gone,
}

/// Another value instead of the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Arbitrary)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    /// One bit is flipped.
    Flip(u16, u8),
    /// One byte.
    Byte(u16, u8),
    /// Two bytes, little-endian, at a multiple of two.
    Half(u16, u16),
    /// Four bytes, little-endian, at a multiple of four.
    Word(u16, u32),
    /// Four bytes, little-endian, at a multiple of four: that much more.
    Plus(u16, i16),
    /// Two bytes, little-endian, at a multiple of two: that much more.
    HalfPlus(u16, i8),
    /// All ones.
    Ones,
    /// All zeros.
    Zeros,
    /// What the step of this kind before had.
    Stale,
}

impl What {
    /// At which steps.
    #[must_use]
    pub fn site(&self) -> Site {
        match self {
            Self::Config(_) => Site::Config,
            Self::Register(_) => Site::Register,
            Self::Look(_) => Site::Look,
            Self::DeviceRead(_) | Self::ReadFault => Site::DeviceRead,
            Self::DeviceWrite(_) | Self::WriteLost => Site::DeviceWrite,
            Self::Entry(_) | Self::EntryLost | Self::EntryTwice | Self::EntryLater => Site::Entry,
            Self::InterruptLost => Site::Interrupt,
            Self::Interrupt(_) | Self::Stall | Self::Scribble(..) | Self::Reset | Self::Gone => {
                Site::Turn
            }
        }
    }

    /// The edit in it, if it has one.
    pub(crate) fn edit(mut self) -> Option<Edit> {
        self.edit_mut().copied()
    }

    /// The same, to be changed.
    pub(crate) fn edit_mut(&mut self) -> Option<&mut Edit> {
        match self {
            Self::Config(edit)
            | Self::Register(edit)
            | Self::Look(edit)
            | Self::DeviceRead(edit)
            | Self::DeviceWrite(edit)
            | Self::Entry(edit)
            | Self::Scribble(_, _, edit) => Some(edit),
            _ => None,
        }
    }
}

impl Edit {
    /// Changes `data`; `before` is what the step before had.
    pub fn apply(self, data: &mut [u8], before: &[u8]) {
        let len = data.len();
        if len == 0 {
            return;
        }
        let at = |place: u16, width: usize| {
            let slots = (len / width).max(1);
            (usize::from(place) % slots) * width
        };
        match self {
            Self::Flip(place, bit) => data[at(place, 1)] ^= 1 << (bit % 8),
            Self::Byte(place, value) => data[at(place, 1)] = value,
            Self::Half(place, value) => put(data, at(place, 2), &value.to_le_bytes()),
            Self::Word(place, value) => put(data, at(place, 4), &value.to_le_bytes()),
            Self::Plus(place, more) => {
                let start = at(place, 4);
                let mut word = [0; 4];
                get(data, start, &mut word);
                let sum = u32::from_le_bytes(word).wrapping_add_signed(more.into());
                put(data, start, &sum.to_le_bytes());
            }
            Self::HalfPlus(place, more) => {
                let start = at(place, 2);
                let mut half = [0; 2];
                get(data, start, &mut half);
                let sum = u16::from_le_bytes(half).wrapping_add_signed(more.into());
                put(data, start, &sum.to_le_bytes());
            }
            Self::Ones => data.fill(0xff),
            Self::Zeros => data.fill(0),
            Self::Stale => data.iter_mut().zip(before).for_each(|(to, from)| *to = *from),
        }
    }
}

fn put(data: &mut [u8], start: usize, value: &[u8]) {
    data.iter_mut().skip(start).zip(value).for_each(|(to, from)| *to = *from);
}

fn get(data: &[u8], start: usize, value: &mut [u8]) {
    value.iter_mut().zip(data.iter().skip(start)).for_each(|(to, from)| *to = *from);
}

impl Program {
    /// A program of any bytes: JSON as in findings, or else as `arbitrary` makes it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let json = (bytes.first() == Some(&b'{')).then(|| serde_json::from_slice(bytes).ok());
        let mut program: Self = json.flatten().unwrap_or_else(|| {
            Self::arbitrary_take_rest(Unstructured::new(bytes)).unwrap_or_default()
        });
        program.acts.truncate(MAX_PARTS);
        program.calls.truncate(MAX_PARTS);
        program
    }

    /// Acts and calls.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.acts.len() + self.calls.len()
    }

    /// Its size in bytes, as findings hold it.
    #[must_use]
    pub fn size(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |bytes| bytes.len())
    }
}

impl<'a> Arbitrary<'a> for Act {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let (nth, times) = (u.int_in_range(0..=600)?, u.int_in_range(0..=15)?);
        let times = if times == 15 { u8::MAX } else { times };
        Ok(Self { nth, times, what: u.arbitrary()? })
    }
}

impl<'a> Arbitrary<'a> for Program {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let honest = u.int_in_range(0..=600)?;
        let calls = u.int_in_range(1..=16)?;
        let calls = (0..calls).map(|_| u.arbitrary()).collect::<Result<_, _>>()?;
        let mut acts = Vec::new();
        while !u.is_empty() && acts.len() < MAX_PARTS {
            acts.push(u.arbitrary()?);
        }
        Ok(Self { honest, acts, calls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_stay_inside_and_do_what_they_say() {
        let edited = |edit: Edit, data: &[u8]| {
            let mut data = data.to_vec();
            edit.apply(&mut data, &[9, 9]);
            data
        };
        assert_eq!(edited(Edit::Flip(9, 8), &[0; 4]), [0, 1, 0, 0]);
        assert_eq!(edited(Edit::Word(1, 0x0403_0201), &[0; 8]), [0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(edited(Edit::Plus(0, -1), &[0, 1, 0, 0]), [0xff, 0, 0, 0]);
        assert_eq!(edited(Edit::HalfPlus(1, 2), &[0, 0, 0xff, 0]), [0, 0, 1, 1]);
        assert_eq!(edited(Edit::Word(7, u32::MAX), &[0]), [0xff]);
        assert_eq!(edited(Edit::Stale, &[0; 3]), [9, 9, 0]);
        for edit in [Edit::Ones, Edit::Half(3, 3), Edit::Plus(1, 1), Edit::Byte(1, 1)] {
            assert!(edited(edit, &[]).is_empty());
        }
    }

    #[test]
    fn any_bytes_are_a_program_and_a_program_is_its_json() {
        let long = vec![0xa7; 100_000];
        for bytes in [&b""[..], b"{", b"{}", &long, &[0xff; 64]] {
            let program = Program::from_bytes(bytes);
            assert!(program.acts.len() <= MAX_PARTS && program.calls.len() <= MAX_PARTS);
            let json = serde_json::to_vec(&program).unwrap();
            assert_eq!(Program::from_bytes(&json), program);
        }
    }
}
