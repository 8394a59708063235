//! Our own engine: many runs from one seed.
//!
//! No instrumentation: programs are kept that led to an order of accesses, or an answer of the
//! driver, that was not seen before. For instrumented builds there are libFuzzer and AFL++
//! (`harness/fuzz`).

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::executor::{Executor, Outcome};
use crate::generate;
use crate::program::Program;
use crate::target::Target;
use crate::world::MAP_SIZE;

/// Programs that are kept at most.
const MAX_CORPUS: usize = 4096;

/// Places of the map that are looked at together: it is a multiple of this.
const PIECE: usize = 16;

/// A run of the engine. The same target and seed give the same runs.
pub struct Engine<'t> {
    executor: Executor<'t>,
    random: ChaCha8Rng,
    corpus: Vec<Program>,
    /// By place in the map: bits of how often it was passed in a run.
    seen: Box<[u8; MAP_SIZE]>,
    answers: BTreeSet<u64>,
    executions: u64,
    steps: u64,
    observer: Option<Observer>,
}

/// Told of each program, with its number, before it is run.
type Observer = Box<dyn FnMut(u64, &Program)>;

impl<'t> Engine<'t> {
    /// An engine without a corpus.
    ///
    /// # Errors
    /// If the target's model cannot be made.
    pub fn new(target: &'t dyn Target, seed: u64) -> Result<Self, String> {
        Ok(Self {
            executor: Executor::new(target)?,
            random: ChaCha8Rng::seed_from_u64(seed),
            corpus: Vec::new(),
            seen: Box::new([0; MAP_SIZE]),
            answers: BTreeSet::new(),
            executions: 0,
            steps: 0,
            observer: None,
        })
    }

    /// Tells `observer` of each program before it is run: whoever survives a crash knows what it
    /// was.
    pub fn observe(&mut self, observer: impl FnMut(u64, &Program) + 'static) {
        self.observer = Some(Box::new(observer));
    }

    /// Runs a program that is known, and keeps it if it shows something new.
    ///
    /// # Errors
    /// If the target's model cannot be made.
    pub fn add(&mut self, program: Program) -> Result<Outcome, String> {
        let outcome = self.executor.run(&program)?;
        self.executions += 1;
        self.steps += u64::from(self.executor.steps());
        if self.is_new(&outcome) && self.corpus.len() < MAX_CORPUS {
            self.corpus.push(program);
        }
        Ok(outcome)
    }

    /// Makes a program and runs it. The program comes back if there is a defect.
    ///
    /// # Errors
    /// If the target's model cannot be made.
    pub fn step(&mut self) -> Result<(Outcome, Option<Program>), String> {
        let calls = self.executor.target().calls();
        let fresh = self.corpus.len() < 8 || self.random.random_ratio(1, 4);
        let program = if fresh {
            generate::program(&mut self.random, calls)
        } else {
            let [one, other] = [0; 2].map(|_| self.random.random_range(0..self.corpus.len()));
            generate::mutate(&mut self.random, &self.corpus[one], &self.corpus[other], calls)
        };
        if let Some(observer) = &mut self.observer {
            observer(self.executions + 1, &program);
        }
        let outcome = self.executor.run(&program)?;
        self.executions += 1;
        self.steps += u64::from(self.executor.steps());
        let new = self.is_new(&outcome);
        if outcome.defect().is_some() {
            return Ok((outcome, Some(program)));
        }
        if new && self.corpus.len() < MAX_CORPUS {
            self.corpus.push(program);
        }
        Ok((outcome, None))
    }

    /// Runs until there is a defect, or `limit` runs were made.
    ///
    /// # Errors
    /// If the target's model cannot be made.
    pub fn search(&mut self, limit: u64) -> Result<Option<(Outcome, Program)>, String> {
        for _ in 0..limit {
            if let (outcome, Some(program)) = self.step()? {
                return Ok(Some((outcome, program)));
            }
        }
        Ok(None)
    }

    /// Runs so far.
    #[must_use]
    pub fn executions(&self) -> u64 {
        self.executions
    }

    /// Steps between driver and device in all runs.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Programs that showed something new, in order.
    #[must_use]
    pub fn corpus(&self) -> &[Program] {
        &self.corpus
    }

    /// Places in the map that were passed.
    #[must_use]
    pub fn places(&self) -> usize {
        self.seen.iter().filter(|bits| **bits != 0).count()
    }

    /// The executor, for minimising and traces.
    pub fn executor(&mut self) -> &mut Executor<'t> {
        &mut self.executor
    }

    fn is_new(&mut self, outcome: &Outcome) -> bool {
        let mut new = false;
        let pieces = self.executor.map().chunks_exact(PIECE);
        for (seen, counts) in self.seen.chunks_exact_mut(PIECE).zip(pieces) {
            // Most of the map is empty.
            if counts == [0; PIECE] {
                continue;
            }
            for (seen, count) in seen.iter_mut().zip(counts) {
                let bits = bucket(*count);
                new |= bits & !*seen != 0;
                *seen |= bits;
            }
        }
        let answer = match outcome {
            Outcome::Done => String::new(),
            Outcome::Refused(reason) => reason.clone(),
            Outcome::Defect(defect) => defect.key(),
        };
        let mut hasher = DefaultHasher::new();
        answer.hash(&mut hasher);
        self.answers.insert(hasher.finish()) || new
    }
}

/// How often, as one bit of eight.
fn bucket(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        _ => 128,
    }
}
