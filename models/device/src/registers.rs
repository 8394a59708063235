//! Register tables as data.
//!
//! One row describes a register; [`RegisterBlock::new`] checks order, overlap and alignment when
//! the program is compiled. The same table decodes accesses of any width ([`Decoder`]), stores plain
//! registers ([`RegisterFile`]), names them for `inspect`, and drives the conformance checks of
//! reset values and read-only bits.

use crate::{Bar, Bus, RegisterState};

/// How a register reacts to its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Access {
    /// Writes are ignored.
    ReadOnly,
    /// Writable bits take what is written.
    ReadWrite,
    /// Writing one to a writable bit clears it.
    WriteOneToClear,
    /// A read clears the register after returning it.
    ReadToClear,
    /// Reads return zero.
    WriteOnly,
}

/// Width of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Width {
    /// 8 bits.
    B1 = 1,
    /// 16 bits.
    B2 = 2,
    /// 32 bits.
    B4 = 4,
    /// 64 bits.
    B8 = 8,
}

impl Width {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self as u32
    }

    /// A value with all bits of this width set.
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// One row of a register table. `Id` is the device's own enum of its registers.
#[derive(Debug, Clone, Copy)]
pub struct Register<Id: 'static> {
    /// Which register.
    pub id: Id,
    /// Its name in the specification or driver header.
    pub name: &'static str,
    /// Offset of the first element in its block, in bytes.
    pub offset: u32,
    /// Width of one element.
    pub width: Width,
    /// Elements.
    pub count: u16,
    /// Distance between elements in bytes.
    pub stride: u32,
    /// How it reacts.
    pub access: Access,
    /// Value after reset.
    pub reset: u64,
    /// Bits that a write can change.
    pub writable: u64,
}

impl<Id: Copy + 'static> Register<Id> {
    const fn row(id: Id, name: &'static str, offset: u32, width: Width, access: Access) -> Self {
        let writable = match access {
            Access::ReadOnly | Access::ReadToClear => 0,
            _ => width.mask(),
        };
        let stride = width.bytes();
        Self { id, name, offset, width, count: 1, stride, access, reset: 0, writable }
    }

    /// A read-only register.
    #[must_use]
    pub const fn ro(id: Id, name: &'static str, offset: u32, width: Width) -> Self {
        Self::row(id, name, offset, width, Access::ReadOnly)
    }

    /// A read-write register, all bits writable.
    #[must_use]
    pub const fn rw(id: Id, name: &'static str, offset: u32, width: Width) -> Self {
        Self::row(id, name, offset, width, Access::ReadWrite)
    }

    /// A write-one-to-clear register, all bits clearable.
    #[must_use]
    pub const fn w1c(id: Id, name: &'static str, offset: u32, width: Width) -> Self {
        Self::row(id, name, offset, width, Access::WriteOneToClear)
    }

    /// A register that a read clears.
    #[must_use]
    pub const fn rc(id: Id, name: &'static str, offset: u32, width: Width) -> Self {
        Self::row(id, name, offset, width, Access::ReadToClear)
    }

    /// A write-only register, such as a doorbell.
    #[must_use]
    pub const fn wo(id: Id, name: &'static str, offset: u32, width: Width) -> Self {
        Self::row(id, name, offset, width, Access::WriteOnly)
    }

    /// With this value after reset.
    #[must_use]
    pub const fn reset(mut self, value: u64) -> Self {
        self.reset = value;
        self
    }

    /// With only these bits writable (or clearable).
    #[must_use]
    pub const fn writable(mut self, mask: u64) -> Self {
        self.writable = mask;
        self
    }

    /// With `count` elements, `stride` bytes apart.
    #[must_use]
    pub const fn array(mut self, count: u16, stride: u32) -> Self {
        self.count = count;
        self.stride = stride;
        self
    }

    const fn end(&self) -> u64 {
        self.offset as u64
            + self.stride as u64 * (self.count as u64 - 1)
            + self.width.bytes() as u64
    }
}

/// A table of registers that are decoded together.
#[derive(Debug)]
pub struct RegisterBlock<Id: 'static> {
    /// Name of the block (`common_cfg`).
    pub name: &'static str,
    /// Size in bytes.
    pub size: u32,
    /// Rows in ascending order of offset.
    pub registers: &'static [Register<Id>],
}

impl<Id: Copy + 'static> RegisterBlock<Id> {
    /// Checks and makes a block. Meant for a `const` or `static`, where a wrong table fails to
    /// compile.
    ///
    /// # Panics
    /// If rows are out of order, overlap, are unaligned, leave the block, or have reset or writable
    /// bits beyond their width.
    #[must_use]
    pub const fn new(name: &'static str, size: u32, registers: &'static [Register<Id>]) -> Self {
        let mut i = 0;
        let mut next = 0;
        while i < registers.len() {
            let row = &registers[i];
            assert!(row.count > 0, "a register has no elements");
            assert!(row.stride >= row.width.bytes(), "elements overlap");
            assert!(row.offset as u64 >= next, "registers overlap or are out of order");
            assert!(row.offset.is_multiple_of(row.width.bytes()), "a register is unaligned");
            assert!(row.stride.is_multiple_of(row.width.bytes()), "an element is unaligned");
            assert!(row.reset & !row.width.mask() == 0, "a reset value is too wide");
            assert!(row.writable & !row.width.mask() == 0, "a writable mask is too wide");
            next = row.end();
            i += 1;
        }
        assert!(next <= size as u64, "a register leaves its block");
        Self { name, size, registers }
    }

    /// Every element of every register.
    pub fn elements(&self) -> impl Iterator<Item = RegisterRef<Id>> {
        self.registers.iter().enumerate().flat_map(|(slot, row)| {
            (0..row.count).map(move |index| RegisterRef { id: row.id, index, slot })
        })
    }

    /// The row of an element.
    #[must_use]
    pub fn row(&self, at: RegisterRef<Id>) -> &Register<Id> {
        &self.registers[at.slot]
    }

    /// Offset of an element in the block, in bytes.
    #[must_use]
    pub fn offset(&self, at: RegisterRef<Id>) -> u32 {
        let row = self.row(at);
        row.offset + row.stride * u32::from(at.index)
    }

    /// Names and values of all elements for [`State`](crate::State), the block lying at `base` of
    /// `bar`.
    pub fn describe(
        &self,
        bar: Bar,
        base: u64,
        mut value: impl FnMut(RegisterRef<Id>) -> u64,
    ) -> Vec<RegisterState> {
        self.elements()
            .map(|at| {
                let row = self.row(at);
                let name = if row.count == 1 {
                    format!("{}.{}", self.name, row.name)
                } else {
                    format!("{}.{}[{}]", self.name, row.name, at.index)
                };
                RegisterState {
                    name,
                    bar: bar.0,
                    offset: base + u64::from(self.offset(at)),
                    width: row.width as u8,
                    value: value(at),
                    meaning: String::new(),
                }
            })
            .collect()
    }
}

/// Names one element of one register of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterRef<Id> {
    /// Which register.
    pub id: Id,
    /// Which element, below the row's `count`.
    pub index: u16,
    /// Position of the row in its table.
    slot: usize,
}

/// What a device does when its registers are touched.
pub trait RegisterOps<Id> {
    /// The value of a register as its driver reads it, with the side effects of a read.
    fn load(&mut self, bus: &mut dyn Bus, at: RegisterRef<Id>) -> u64;

    /// A write of the bits in `mask` (whole bytes) of a register. Not called for read-only rows.
    fn store(&mut self, bus: &mut dyn Bus, at: RegisterRef<Id>, value: u64, mask: u64);
}

/// No register lies in the accessed range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no register in the accessed range")]
pub struct OutOfBlock;

/// Splits an access of any width and alignment into the registers it touches.
#[derive(Debug)]
pub struct Decoder<Id: 'static>(pub &'static RegisterBlock<Id>);

impl<Id: Copy + 'static> Decoder<Id> {
    /// Reads `data.len()` bytes at `offset` of the block. Bytes between registers keep what `data`
    /// held.
    ///
    /// # Errors
    /// [`OutOfBlock`] if no register is touched.
    pub fn read(
        &self,
        ops: &mut dyn RegisterOps<Id>,
        bus: &mut dyn Bus,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), OutOfBlock> {
        let mut load = |row: &Register<Id>, at| {
            if row.access == Access::WriteOnly { 0 } else { ops.load(bus, at) }
        };
        if let Some((row, at)) = self.whole(offset, data.len()) {
            put_word(load(row, at), data);
            return Ok(());
        }
        self.each(offset, data.len(), |row, at, part| {
            let bytes = load(row, at).to_le_bytes();
            data[part.access..part.access + part.len]
                .copy_from_slice(&bytes[part.register..part.register + part.len]);
        })
    }

    /// Writes `data` at `offset` of the block.
    ///
    /// # Errors
    /// [`OutOfBlock`] if no register is touched.
    pub fn write(
        &self,
        ops: &mut dyn RegisterOps<Id>,
        bus: &mut dyn Bus,
        offset: u64,
        data: &[u8],
    ) -> Result<(), OutOfBlock> {
        let read_only =
            |row: &Register<Id>| matches!(row.access, Access::ReadOnly | Access::ReadToClear);
        if let Some((row, at)) = self.whole(offset, data.len()) {
            if !read_only(row) {
                ops.store(bus, at, word(data), row.width.mask());
            }
            return Ok(());
        }
        self.each(offset, data.len(), |row, at, part| {
            if read_only(row) {
                return;
            }
            let (mut value, mut mask) = ([0; 8], [0; 8]);
            value[part.register..part.register + part.len]
                .copy_from_slice(&data[part.access..part.access + part.len]);
            mask[part.register..part.register + part.len].fill(0xff);
            ops.store(bus, at, u64::from_le_bytes(value), u64::from_le_bytes(mask));
        })
    }

    /// The element that the access covers, if that is exactly one: what drivers do, and what
    /// needs no cutting.
    fn whole(&self, offset: u64, len: usize) -> Option<(&'static Register<Id>, RegisterRef<Id>)> {
        let rows = self.0.registers;
        // Tables have some dozens of rows at most, and a driver uses few of them often: processors
        // foresee a loop better than a search.
        let (slot, row) = rows.iter().enumerate().find(|(_, row)| offset < row.end())?;
        let from = u32::try_from(offset).ok()?.checked_sub(row.offset)?;
        let index = if row.count == 1 { 0 } else { from / row.stride };
        let is_whole = from == index * row.stride && len as u64 == u64::from(row.width.bytes());
        let index = u16::try_from(index).ok().filter(|_| is_whole)?;
        Some((row, RegisterRef { id: row.id, index, slot }))
    }

    /// Calls `visit` for each element that the access touches, in ascending order.
    fn each(
        &self,
        offset: u64,
        len: usize,
        mut visit: impl FnMut(&Register<Id>, RegisterRef<Id>, Part),
    ) -> Result<(), OutOfBlock> {
        let end = offset.saturating_add(len as u64);
        let rows = self.0.registers;
        let first = rows.partition_point(|row| row.end() <= offset);
        let mut touched = false;
        for (slot, row) in rows.iter().enumerate().skip(first) {
            let start = u64::from(row.offset);
            if start >= end {
                break;
            }
            let stride = u64::from(row.stride);
            let skip = u16::try_from(offset.saturating_sub(start) / stride).unwrap_or(u16::MAX);
            for index in skip..row.count {
                let at = start + stride * u64::from(index);
                if at >= end {
                    break;
                }
                if let Some(part) = Part::of(at, row.width, offset, end) {
                    touched = true;
                    visit(row, RegisterRef { id: row.id, index, slot }, part);
                }
            }
        }
        if touched { Ok(()) } else { Err(OutOfBlock) }
    }
}

/// The little-endian value of up to 8 bytes, of which there are nearly always 4.
fn word(bytes: &[u8]) -> u64 {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return u32::from_le_bytes(bytes).into();
    }
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The other way round.
fn put_word(value: u64, into: &mut [u8]) {
    if let (Ok(into), [a, b, c, d, ..]) =
        (<&mut [u8; 4]>::try_from(&mut *into), value.to_le_bytes())
    {
        *into = [a, b, c, d];
        return;
    }
    into.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
}

/// The bytes that an access and a register share.
struct Part {
    access: usize,
    register: usize,
    len: usize,
}

impl Part {
    fn of(at: u64, width: Width, offset: u64, end: u64) -> Option<Self> {
        let from = at.max(offset);
        let to = (at + u64::from(width.bytes())).min(end);
        let len = usize::try_from(to.checked_sub(from)?).ok().filter(|len| *len > 0)?;
        // Both differences are below the lengths of the register and of the caller's slice.
        let access = usize::try_from(from - offset).ok()?;
        let register = usize::try_from(from - at).ok()?;
        Some(Self { access, register, len })
    }
}

/// Values of a block's registers, with the plain effects of reads and writes.
#[derive(Debug, Clone)]
pub struct RegisterFile<Id: 'static> {
    block: &'static RegisterBlock<Id>,
    first: Vec<usize>,
    values: Vec<u64>,
}

impl<Id: Copy + PartialEq + 'static> RegisterFile<Id> {
    /// A file with all registers at their reset values.
    #[must_use]
    pub fn new(block: &'static RegisterBlock<Id>) -> Self {
        let mut first = Vec::with_capacity(block.registers.len());
        let mut values = Vec::new();
        for row in block.registers {
            first.push(values.len());
            values.resize(values.len() + usize::from(row.count), row.reset);
        }
        Self { block, first, values }
    }

    /// All registers back to their reset values.
    pub fn reset(&mut self) {
        for (row, first) in self.block.registers.iter().zip(&self.first) {
            self.values[*first..*first + usize::from(row.count)].fill(row.reset);
        }
    }

    /// Names element `index` of register `id`.
    #[must_use]
    pub fn at(&self, id: Id, index: u16) -> Option<RegisterRef<Id>> {
        let slot = self.block.registers.iter().position(|row| row.id == id)?;
        (index < self.block.registers[slot].count).then_some(RegisterRef { id, index, slot })
    }

    /// The value, without side effects.
    #[must_use]
    pub fn get(&self, at: RegisterRef<Id>) -> u64 {
        self.values[self.first[at.slot] + usize::from(at.index)]
    }

    /// Sets the value from the device's side, whatever the driver may do with it.
    pub fn set(&mut self, at: RegisterRef<Id>, value: u64) {
        let mask = self.block.row(at).width.mask();
        self.values[self.first[at.slot] + usize::from(at.index)] = value & mask;
    }

    /// A driver's read: returns the value and clears a read-to-clear register.
    pub fn load(&mut self, at: RegisterRef<Id>) -> u64 {
        let value = self.get(at);
        match self.block.row(at).access {
            Access::ReadToClear => self.set(at, 0),
            Access::WriteOnly => return 0,
            _ => {}
        }
        value
    }

    /// A driver's write of the bits in `mask`. Returns the new value.
    pub fn store(&mut self, at: RegisterRef<Id>, value: u64, mask: u64) -> u64 {
        let row = self.block.row(at);
        let old = self.get(at);
        let can = row.writable & mask;
        let new = match row.access {
            Access::ReadOnly | Access::ReadToClear => old,
            Access::ReadWrite | Access::WriteOnly => (old & !can) | (value & can),
            Access::WriteOneToClear => old & !(value & can),
        };
        self.set(at, new);
        new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DmaFault, InterruptMode, Job, JobId, Nanos, Vector};

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Id {
        A,
        B,
        C,
        D,
        E,
    }

    static BLOCK: RegisterBlock<Id> = RegisterBlock::new(
        "test",
        0x40,
        &[
            Register::rw(Id::A, "a", 0x00, Width::B4).reset(0x1234_5678).writable(0x00ff_ff00),
            Register::ro(Id::B, "b", 0x04, Width::B2).reset(0xbeef),
            Register::w1c(Id::C, "c", 0x07, Width::B1).reset(0xff),
            Register::rc(Id::D, "d", 0x08, Width::B8).reset(0x0102_0304_0506_0708),
            Register::wo(Id::E, "e", 0x10, Width::B4).array(3, 8),
        ],
    );

    struct Nothing;
    impl Bus for Nothing {
        fn dma_read(&mut self, _: u64, _: &mut [u8]) -> Result<(), DmaFault> {
            unreachable!()
        }
        fn dma_write(&mut self, _: u64, _: &[u8]) -> Result<(), DmaFault> {
            unreachable!()
        }
        fn dma_fence(&mut self) {}
        fn raise(&mut self, _: Vector) {}
        fn set_intx(&mut self, _: bool) {}
        fn interrupt_mode(&self) -> InterruptMode {
            InterruptMode::Intx
        }
        fn now(&self) -> Nanos {
            Nanos(0)
        }
        fn submit(&mut self, _: Job) -> JobId {
            unreachable!()
        }
        fn shared_read(&mut self, _: Bar, _: u64, _: &mut [u8]) -> Result<(), DmaFault> {
            unreachable!()
        }
        fn shared_write(&mut self, _: Bar, _: u64, _: &[u8]) -> Result<(), DmaFault> {
            unreachable!()
        }
    }

    struct Plain(RegisterFile<Id>);
    impl RegisterOps<Id> for Plain {
        fn load(&mut self, _: &mut dyn Bus, at: RegisterRef<Id>) -> u64 {
            self.0.load(at)
        }
        fn store(&mut self, _: &mut dyn Bus, at: RegisterRef<Id>, value: u64, mask: u64) {
            self.0.store(at, value, mask);
        }
    }

    fn read(plain: &mut Plain, offset: u64, len: usize) -> Result<Vec<u8>, OutOfBlock> {
        let mut data = vec![0; len];
        Decoder(&BLOCK).read(plain, &mut Nothing, offset, &mut data).map(|()| data)
    }

    #[test]
    fn sub_width_and_straddling_reads_see_the_same_bytes() {
        let mut plain = Plain(RegisterFile::new(&BLOCK));
        assert_eq!(read(&mut plain, 1, 2), Ok(vec![0x56, 0x34]));
        assert_eq!(
            read(&mut plain, 0, 8),
            Ok(vec![0x78, 0x56, 0x34, 0x12, 0xef, 0xbe, 0x00, 0xff])
        );
        assert_eq!(read(&mut plain, 6, 1), Err(OutOfBlock));
        assert_eq!(read(&mut plain, 0x14, 4), Err(OutOfBlock));
        assert_eq!(read(&mut plain, 0x18, 4), Ok(vec![0; 4]));
    }

    #[test]
    fn each_kind_of_access_has_its_effect() {
        let mut plain = Plain(RegisterFile::new(&BLOCK));
        Decoder(&BLOCK).write(&mut plain, &mut Nothing, 0, &[0xaa; 8]).unwrap();
        assert_eq!(
            read(&mut plain, 0, 8),
            Ok(vec![0x78, 0xaa, 0xaa, 0x12, 0xef, 0xbe, 0x00, 0x55])
        );
        assert_eq!(read(&mut plain, 8, 8).unwrap()[0], 0x08);
        assert_eq!(read(&mut plain, 8, 8), Ok(vec![0; 8]));
        plain.0.reset();
        assert_eq!(read(&mut plain, 7, 1), Ok(vec![0xff]));
    }

    #[test]
    fn names_and_offsets_come_from_the_table() {
        let file = RegisterFile::new(&BLOCK);
        let seen: Vec<_> = BLOCK
            .describe(Bar(2), 0x100, |at| file.get(at))
            .into_iter()
            .map(|r| (r.name, r.offset))
            .collect();
        assert_eq!(seen[1], ("test.b".into(), 0x104));
        assert_eq!(seen[6], ("test.e[2]".into(), 0x120));
        assert_eq!(file.at(Id::E, 3), None);
    }

    proptest! {
        /// However a read or write is cut into pieces, its effect is that of the whole.
        #[test]
        fn cutting_an_access_changes_nothing(
            offset in 0usize..0x08,
            data in prop::collection::vec(any::<u8>(), 1..8),
            cut in 0usize..8,
        ) {
            let data = &data[..data.len().min(0x08 - offset)];
            let cut = cut.min(data.len());
            let mut whole = Plain(RegisterFile::new(&BLOCK));
            let mut parts = Plain(RegisterFile::new(&BLOCK));
            let decoder = Decoder(&BLOCK);
            let write = |plain: &mut Plain, from: usize, piece: &[u8]| {
                let _ = decoder.write(plain, &mut Nothing, from as u64, piece);
            };
            write(&mut whole, offset, data);
            write(&mut parts, offset, &data[..cut]);
            write(&mut parts, offset + cut, &data[cut..]);
            prop_assert_eq!(&whole.0.values, &parts.0.values);
        }
    }
}
