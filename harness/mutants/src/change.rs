//! What gets something wrong between a function and its surroundings.

use std::collections::VecDeque;

use understudy_device::{
    DmaFault, Field, FinishedJob, Nanos, ResetKind, StatusPlace, Tap, Vector, Verdict, Vocabulary,
};
use understudy_pci::{Access, Action, Host, Interposer, Route, Signal};

use crate::Place;
use crate::words::Request;

/// Longest status that a virtqueue's request ends with, in bytes: what is longer is output.
const STATUS_BYTES: usize = 16;

/// One thing that a function gets wrong.
#[derive(Debug, Clone)]
pub enum Change {
    /// A register reads with bits flipped.
    Value {
        /// The register.
        at: Place,
        /// The bits.
        flip: u64,
    },
    /// A register loses what is written to it.
    Stuck {
        /// The register.
        at: Place,
        /// What it holds.
        value: u64,
    },
    /// Read-only bits of a register take what is written.
    Writable {
        /// The register.
        at: Place,
        /// The bits.
        bits: u64,
    },
    /// A register keeps its value over a reset that its driver asks for.
    Survives {
        /// The register.
        at: Place,
        /// The bits.
        bits: u64,
    },
    /// Bits of a register read as they were written, and do something else.
    Deaf {
        /// The register.
        at: Place,
        /// The bits.
        bits: u64,
        /// What the function makes of them, whatever is written.
        acts: u64,
    },
    /// Reading a register clears it.
    Cleared {
        /// The register.
        at: Place,
    },
    /// Entries of rings meet this, every so many.
    Entry {
        /// Where in their life.
        point: Tap,
        /// One queue, or all.
        queue: Option<u16>,
        /// Every how many, from 1.
        every: u32,
        /// What becomes of them.
        verdict: Verdict,
    },
    /// A field of entries of rings has bits flipped.
    Field {
        /// Where in their life.
        point: Tap,
        /// The field.
        field: Field,
        /// The bits.
        flip: u64,
    },
    /// Requests end with another status.
    Status {
        /// For requests with this opcode only.
        opcode: Option<u64>,
        /// Instead of this; any if `None`.
        from: Option<u64>,
        /// The status.
        to: u64,
    },
    /// What the device writes for requests is wrong.
    Output {
        /// For requests with this opcode only.
        opcode: Option<u64>,
        /// For requests of this algorithm only: opcode that creates its sessions, and its number.
        algorithm: Option<(u64, u32)>,
        /// Only in writes of so many bytes or more.
        least: usize,
        /// What is wrong.
        damage: Damage,
    },
    /// What the device reads is wrong, in reads of so many bytes or more.
    Input {
        /// The fewest bytes.
        least: usize,
        /// What is wrong.
        damage: Damage,
    },
    /// Interrupts are wrong.
    Interrupt(Interrupts),
    /// A reset that its driver or VMM asks for does nothing.
    NoReset,
    /// Heavy work never ends.
    NoJobs,
    /// A queue is never served.
    NoFetch(u16),
    /// The device never works.
    Asleep,
}

/// How data are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The first byte has a bit flipped.
    First,
    /// The last byte has a bit flipped.
    Last,
    /// All bytes are zero.
    Zero,
    /// Nothing is transferred.
    Lost,
    /// The last byte is not transferred.
    Short,
    /// A byte beyond the end is transferred too, and is zero.
    Long,
    /// It goes to, or comes from, the next byte.
    Shifted,
    /// Only what lies in the first page is transferred.
    OnePage,
}

/// How interrupts are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupts {
    /// None comes.
    Lost,
    /// Every second one does not come.
    Half,
    /// They come as the next vector.
    Next,
    /// They come as vector 0.
    First,
    /// One comes with every completion, wanted or not.
    Unasked,
    /// The INTx line is never asserted.
    NoLine,
    /// The INTx line stays asserted.
    StuckLine,
}

/// A change at work.
#[derive(Debug)]
pub struct Mutation {
    change: Change,
    words: &'static Vocabulary,
    /// The register by which a driver resets the device, and what it writes.
    resets: Option<(Place, u64)>,
    request: Request,
    /// The last session created was of the algorithm.
    session: bool,
    /// What was last written to the register, and which bits.
    written: (u64, u64),
    /// What the register shows instead, and which bits.
    ghost: (u64, u64),
    count: u32,
    due: VecDeque<Action>,
}

impl Mutation {
    /// Puts a change in front of a device with these words.
    #[must_use]
    pub fn new(change: Change, words: &'static Vocabulary, resets: Option<(Place, u64)>) -> Self {
        Self {
            change,
            words,
            resets,
            request: Request::default(),
            session: false,
            written: (0, 0),
            ghost: (0, 0),
            count: 0,
            due: VecDeque::new(),
        }
    }

    /// The device is about to be reset, by whatever its driver has for that.
    fn forget(&mut self) {
        self.request = Request::default();
        self.session = false;
        if let Change::Survives { bits, .. } = self.change {
            self.ghost = (self.written.0, self.written.1 & bits);
        }
        if let Change::Deaf { .. } = self.change {
            self.written = (0, 0);
        }
    }

    fn is_nth(&mut self, every: u32) -> bool {
        self.count += 1;
        self.count.is_multiple_of(every)
    }

    /// Whether the request at hand is one that is meant.
    fn is_meant(&self, opcode: Option<u64>, algorithm: Option<(u64, u32)>) -> bool {
        if opcode.is_some_and(|opcode| self.request.opcode != Some(opcode)) {
            return false;
        }
        let Some((create, number)) = algorithm else { return true };
        // Creating a session writes its id, which is no output of the algorithm.
        if self.request.opcode.is_none_or(|it| it >> 8 != create >> 8 || it == create) {
            return false;
        }
        let in_session = self.request.word(16).is_some_and(|flags| flags & 1 != 0);
        if in_session { self.session } else { self.request.word(4) == Some(number) }
    }

    fn learn(&mut self, data: &[u8]) {
        if self.request.read(self.words, data)
            && let Change::Output { algorithm: Some((create, number)), .. } = self.change
            && self.request.opcode == Some(create)
        {
            self.session = self.request.word(4) == Some(number);
        }
    }

    fn statuses(&self, data: &mut [u8]) {
        let Change::Status { opcode, from, to } = self.change else { return };
        let StatusPlace::LastWrite(fields) = self.words.status else { return };
        let field = fields.iter().find(|(len, _)| *len == data.len()).map(|(_, field)| field);
        if let Some(field) = field
            && self.is_meant(opcode, None)
            && from.is_none_or(|from| field.get(data) == Some(from))
        {
            field.set(data, to);
        }
    }
}

impl Interposer for Mutation {
    fn access(&mut self, _: &mut dyn Host, access: Access, data: &mut [u8]) -> Route {
        if !access.write {
            return Route::Pass;
        }
        if let Some((at, value)) = self.resets
            && at.touches(access, data.len())
        {
            let (written, mask) = at.written(access, data);
            if written == value & mask {
                if matches!(self.change, Change::NoReset) {
                    return Route::Absorb;
                }
                self.forget();
            }
        }
        match self.change {
            Change::Stuck { at, value } => at.overlay(access, data, value, u64::MAX),
            Change::Writable { at, bits } if at.touches(access, data.len()) => {
                let (value, mask) = at.written(access, data);
                let (old, known) = self.ghost;
                self.ghost = (old & !mask | value, (known | mask) & bits);
            }
            Change::Survives { at, .. } if at.touches(access, data.len()) => {
                let (value, mask) = at.written(access, data);
                let (old, known) = self.written;
                self.written = (old & !mask | value, known | mask);
                self.ghost = (0, 0);
            }
            Change::Deaf { at, bits, acts } if at.touches(access, data.len()) => {
                let (value, mask) = at.written(access, data);
                let (old, known) = self.written;
                self.written = (old & !mask | value, (known | mask) & bits);
                // A byte of zero is left alone: it resets some devices.
                if value != 0 || at.width > 1 {
                    at.overlay(access, data, acts, bits);
                }
            }
            _ => {}
        }
        Route::Pass
    }

    fn answer(&mut self, _: &mut dyn Host, access: Access, data: &mut [u8]) {
        match self.change {
            Change::Value { at, flip } => at.flip(access, data, flip),
            Change::Writable { at, .. } | Change::Survives { at, .. } => {
                at.overlay(access, data, self.ghost.0, self.ghost.1);
            }
            Change::Deaf { at, .. } => at.overlay(access, data, self.written.0, self.written.1),
            Change::Cleared { at } if at.touches(access, data.len()) => {
                if self.count > 0 {
                    at.overlay(access, data, 0, u64::MAX);
                }
                self.count += 1;
            }
            _ => {}
        }
    }

    fn may_work(&mut self, _: Nanos) -> bool {
        !matches!(self.change, Change::Asleep)
    }

    fn finish(&mut self, _: Nanos, done: FinishedJob) -> Option<FinishedJob> {
        (!matches!(self.change, Change::NoJobs)).then_some(done)
    }

    fn dma_read(
        &mut self,
        host: &mut dyn Host,
        iova: u64,
        into: &mut [u8],
    ) -> Result<(), DmaFault> {
        let Change::Input { least, damage } = self.change else {
            host.dma_read(iova, into)?;
            self.learn(into);
            return Ok(());
        };
        if into.len() < least {
            return host.dma_read(iova, into);
        }
        let iova = if damage == Damage::Shifted { iova.wrapping_add(1) } else { iova };
        host.dma_read(iova, into)?;
        match damage {
            Damage::First => into.iter_mut().take(1).for_each(|byte| *byte ^= 1),
            Damage::Last => into.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1),
            Damage::Zero | Damage::Lost => into.fill(0),
            Damage::Short => into.iter_mut().rev().take(1).for_each(|byte| *byte = 0),
            Damage::Long | Damage::Shifted | Damage::OnePage => {}
        }
        Ok(())
    }

    fn dma_write(&mut self, host: &mut dyn Host, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        let mut data = from.to_vec();
        self.statuses(&mut data);
        let Change::Output { opcode, algorithm, least, damage } = self.change else {
            return host.dma_write(iova, &data);
        };
        let is_status = match self.words.status {
            StatusPlace::LastWrite(fields) => fields.iter().any(|(len, _)| *len == from.len()),
            StatusPlace::Entry(_) => false,
        };
        // Statuses are for others to get wrong, unless lengths are told apart by nothing else.
        let is_output = !self.request.completing
            && from.len() >= least
            && (!is_status || from.len() == STATUS_BYTES && algorithm.is_some());
        if !is_output || !self.is_meant(opcode, algorithm) {
            return host.dma_write(iova, &data);
        }
        match damage {
            Damage::First => data.iter_mut().take(1).for_each(|byte| *byte ^= 1),
            Damage::Last => data.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1),
            Damage::Zero => data.fill(0),
            Damage::Lost => return Ok(()),
            Damage::Short => data.truncate(data.len() - 1),
            Damage::Long => data.push(0),
            Damage::Shifted => return host.dma_write(iova.wrapping_add(1), &data),
            Damage::OnePage => {
                let left = usize::try_from(4096 - iova % 4096).unwrap_or(data.len());
                data.truncate(left);
            }
        }
        host.dma_write(iova, &data)
    }

    fn raise(&mut self, _: Nanos, vector: Vector) -> Signal {
        let Change::Interrupt(wrong) = self.change else { return Signal::Pass };
        match wrong {
            Interrupts::Lost => Signal::Drop,
            Interrupts::Half if self.is_nth(2) => Signal::Drop,
            Interrupts::Next => Signal::Instead(Vector(vector.0 + 1)),
            Interrupts::First => Signal::Instead(Vector(0)),
            _ => Signal::Pass,
        }
    }

    fn line(&mut self, _: Nanos, asserted: bool) -> bool {
        match self.change {
            Change::Interrupt(Interrupts::Lost | Interrupts::NoLine) => !asserted,
            Change::Interrupt(Interrupts::StuckLine) => asserted,
            _ => true,
        }
    }

    fn tap(&mut self, _: &mut dyn Host, at: Tap, queue: u16, entry: &mut [u8]) -> Verdict {
        self.request.tap(self.words, at, entry);
        match self.change.clone() {
            Change::Entry { point, queue: wanted, every, verdict }
                if point == at
                    && wanted.is_none_or(|wanted| wanted == queue)
                    && self.is_nth(every) =>
            {
                return verdict;
            }
            Change::Field { point, field, flip } if point == at => {
                if let Some(value) = field.get(entry) {
                    field.set(entry, value ^ flip);
                }
            }
            Change::Status { opcode, from, to } if at == Tap::Completing => {
                if let StatusPlace::Entry(field) = self.words.status
                    && self.is_meant(opcode, None)
                    && let Some(value) = field.get(entry)
                {
                    let mask = self.words.status_mask;
                    if from.is_none_or(|from| value & mask == from) {
                        field.set(entry, value & !mask | to);
                    }
                }
            }
            Change::Interrupt(Interrupts::Unasked) if at == Tap::Completing => {
                self.due.push_back(Action::Raise(Vector(1)));
                self.due.push_back(Action::Raise(Vector(0)));
            }
            _ => {}
        }
        Verdict::Pass
    }

    fn may_fetch(&mut self, _: Nanos, queue: u16) -> bool {
        !matches!(self.change, Change::NoFetch(shut) if shut == queue)
    }

    fn reset(&mut self, kind: ResetKind) -> bool {
        if kind == ResetKind::PowerOn {
            let (change, words, resets) = (self.change.clone(), self.words, self.resets);
            *self = Self::new(change, words, resets);
            return true;
        }
        if matches!(self.change, Change::NoReset) {
            return false;
        }
        self.forget();
        true
    }

    fn due(&mut self, _: Nanos) -> Option<Action> {
        self.due.pop_front()
    }

    fn next_due(&self) -> Option<Nanos> {
        (!self.due.is_empty()).then_some(Nanos(0))
    }
}
