//! The MSI-X table and pending bit array behind a BAR (PCI 3.0 §6.8.2).

use fixedbitset::FixedBitSet;
use understudy_device::{Bar, Capability, Identity, RegisterState};

const ENTRY_LEN: usize = 16;
const VECTOR_CONTROL: usize = 12;
const VECTOR_CONTROL_MASK: u8 = 1;

/// What of MSI-X an access touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The table, from this byte.
    Table(usize),
    /// The pending bit array, from this byte.
    Pending(usize),
}

/// Which BAR range an access falls into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// Neither table nor pending bits.
    Elsewhere,
    /// Wholly inside one of them.
    Inside(Part),
    /// Partly inside: the specification allows aligned 4 and 8 byte accesses only, none of which
    /// straddles.
    Straddles,
}

/// Table entries as the driver wrote them.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    table: (Bar, u64),
    pba: (Bar, u64),
    vectors: u16,
    entries: Vec<u8>,
    /// Entries whose vector control was written since reset.
    programmed: FixedBitSet,
}

impl Table {
    /// The table of an identity that has MSI-X.
    pub(crate) fn new(identity: &Identity) -> Option<Self> {
        let (vectors, table, pba) = identity.capabilities.iter().find_map(|cap| match cap {
            Capability::Msix { vectors, table, pba } => Some((*vectors, *table, *pba)),
            _ => None,
        })?;
        let mut this = Self {
            table: (table.0, table.1.into()),
            pba: (pba.0, pba.1.into()),
            vectors,
            entries: vec![0; usize::from(vectors) * ENTRY_LEN],
            programmed: FixedBitSet::with_capacity(vectors.into()),
        };
        this.reset();
        Some(this)
    }

    /// All entries zero and masked.
    pub(crate) fn reset(&mut self) {
        self.entries.fill(0);
        for entry in self.entries.chunks_exact_mut(ENTRY_LEN) {
            entry[VECTOR_CONTROL] = VECTOR_CONTROL_MASK;
        }
        self.programmed.clear();
    }

    /// Whether the entry keeps its vector from being sent. An entry whose vector control was never
    /// written does not, although it reads as masked: QEMU's client keeps the table to itself and
    /// masks by `SET_IRQS`, and others never touch the table.
    pub(crate) fn masked(&self, vector: u16) -> bool {
        let vector = usize::from(vector);
        self.programmed.contains(vector) && self.mask_bit(vector)
    }

    fn mask_bit(&self, vector: usize) -> bool {
        self.entries
            .get(vector * ENTRY_LEN + VECTOR_CONTROL)
            .is_some_and(|control| control & VECTOR_CONTROL_MASK != 0)
    }

    /// What an access of `len` bytes touches.
    pub(crate) fn decode(&self, bar: Bar, offset: u64, len: usize) -> Decoded {
        let table = inside(self.table, self.entries.len(), bar, offset, len);
        let pba_len = usize::from(self.vectors).div_ceil(64) * 8;
        match (table, inside(self.pba, pba_len, bar, offset, len)) {
            (Overlap::Whole(from), _) => Decoded::Inside(Part::Table(from)),
            (_, Overlap::Whole(from)) => Decoded::Inside(Part::Pending(from)),
            (Overlap::None, Overlap::None) => Decoded::Elsewhere,
            _ => Decoded::Straddles,
        }
    }

    /// Reads the table.
    pub(crate) fn read(&self, from: usize, data: &mut [u8]) {
        for (to, byte) in data.iter_mut().zip(self.entries.iter().skip(from)) {
            *to = *byte;
        }
    }

    /// Writes the table. The low two address bits and the reserved bits of vector control are
    /// hardwired to zero.
    pub(crate) fn write(&mut self, from: usize, data: &[u8]) {
        for (at, value) in (from..self.entries.len()).zip(data) {
            let writable = match at % ENTRY_LEN {
                0 => 0xfc,
                VECTOR_CONTROL => VECTOR_CONTROL_MASK,
                byte if byte > VECTOR_CONTROL => 0,
                _ => 0xff,
            };
            self.entries[at] = value & writable;
            if at % ENTRY_LEN == VECTOR_CONTROL {
                self.programmed.insert(at / ENTRY_LEN);
            }
        }
    }

    /// Vector control of each entry and the pending bits, by name.
    pub(crate) fn inspect(&self, pending: &FixedBitSet) -> Vec<RegisterState> {
        let row = |name, (bar, base): (Bar, u64), offset: usize, width, value| RegisterState {
            name,
            bar: bar.0,
            offset: base + offset as u64,
            width,
            value,
            meaning: String::new(),
        };
        let mut all = Vec::new();
        for vector in 0..usize::from(self.vectors) {
            let masked = self.mask_bit(vector);
            let name = format!("msix_table.vector_control[{vector}]");
            let mut state =
                row(name, self.table, vector * ENTRY_LEN + VECTOR_CONTROL, 4, masked.into());
            state.meaning = match (masked, self.programmed.contains(vector)) {
                (true, true) => "MASKED".into(),
                (true, false) => "never written, does not mask".into(),
                (false, _) => String::new(),
            };
            all.push(state);
        }
        for word in 0..usize::from(self.vectors).div_ceil(64) {
            let mut bytes = [0; 8];
            read_bits(pending, word * 8, &mut bytes);
            let name = format!("msix_pba.pending[{word}]");
            all.push(row(name, self.pba, word * 8, 8, u64::from_le_bytes(bytes)));
        }
        all
    }
}

/// How an access lies to a range.
enum Overlap {
    None,
    Partial,
    /// It is inside, from this byte of the range.
    Whole(usize),
}

fn inside(range: (Bar, u64), size: usize, bar: Bar, offset: u64, len: usize) -> Overlap {
    let (at, start) = range;
    let (past, end) = (start + size as u64, offset.saturating_add(len as u64));
    if at != bar || end <= start || offset >= past {
        return Overlap::None;
    }
    match offset.checked_sub(start).map(usize::try_from) {
        Some(Ok(from)) if end <= past => Overlap::Whole(from),
        _ => Overlap::Partial,
    }
}

/// Reads bits as little-endian bytes, from byte `from`.
pub(crate) fn read_bits(bits: &FixedBitSet, from: usize, data: &mut [u8]) {
    for (byte, at) in data.iter_mut().zip(from..) {
        *byte = (0..8).fold(0, |all, bit| all | u8::from(bits.contains(at * 8 + bit)) << bit);
    }
}
