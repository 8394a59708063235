//! Registers by name.

use crate::file::RegisterName;

/// Names of registers, to be looked up by where they lie.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// By BAR and offset.
    sorted: Vec<RegisterName>,
}

impl Names {
    /// Names in any order.
    #[must_use]
    pub fn new(registers: &[RegisterName]) -> Self {
        let mut sorted = registers.to_vec();
        sorted.sort_by_key(|name| (name.bar, name.offset));
        Self { sorted }
    }

    /// Registers that an access touches, in order.
    pub fn touched(&self, bar: u8, offset: u64, len: u64) -> impl Iterator<Item = &RegisterName> {
        let end = offset.saturating_add(len);
        let first = self.sorted.partition_point(|name| {
            (name.bar, name.offset + u64::from(name.width)) <= (bar, offset)
        });
        let touched = self.sorted[first..].iter();
        touched.take_while(move |name| name.bar == bar && name.offset < end)
    }

    /// The registers that an access touches in one word, empty if there are none.
    #[must_use]
    pub fn name(&self, bar: u8, offset: u64, len: u64) -> String {
        let mut touched = self.touched(bar, offset, len).map(|name| name.name.as_str());
        let first = touched.next().unwrap_or_default();
        match touched.count() {
            0 => first.to_owned(),
            more => format!("{first}+{more}"),
        }
    }
}

/// The index in brackets at the end of a name, if there is one and the name starts so.
#[must_use]
pub fn index_of(name: &str, register: &str) -> Option<u16> {
    let index = name.strip_prefix(register)?.strip_prefix('[')?.strip_suffix(']')?;
    index.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_find_their_registers() {
        let register =
            |name: &str, offset, width| RegisterName { name: name.into(), bar: 4, offset, width };
        let names =
            Names::new(&[register("b", 4, 4), register("a", 0, 2), register("tail[3]", 8, 8)]);
        assert_eq!(names.name(4, 0, 2), "a");
        assert_eq!(names.name(4, 1, 4), "a+1");
        assert_eq!(names.name(4, 2, 2), "");
        assert_eq!(names.name(4, 12, 4), "tail[3]");
        assert_eq!(names.name(3, 0, 2), "");
        assert_eq!(index_of("tail[3]", "tail"), Some(3));
        assert_eq!(index_of("tail", "tail"), None);
    }
}
