//! QAT: symmetric, public-key and compression requests on a pair of rings each.

mod request;

use std::collections::BTreeMap;

use understudy_client::DriverError;
use understudy_client::qat::{Driver, Memory, Options as DriverOptions, Response, status};

use super::{Overlooked, PATIENCE, Strangers, Working};
use crate::book::{Book, Outcome};
use crate::case::{Completion, Operation, Options, Work};
use crate::planted::Bug;
use crate::watch::Watched;
use request::{Left, Maker, Next, Request};

pub(super) const WORK: &[Work] = &[
    Work::Null,
    Work::Cipher,
    Work::Hash,
    Work::Chain,
    Work::Aead,
    Work::Forged,
    Work::Compress,
    Work::Decompress,
    Work::Stream,
    Work::Power,
    Work::Wrong,
    Work::Renew,
];

/// Pairs of rings, and the length of their messages.
const PAIRS: [(u16, usize); 3] = [(PUBLIC_KEY, 64), (SYMMETRIC, 128), (COMPRESSION, 128)];
const PUBLIC_KEY: u16 = 0;
const SYMMETRIC: u16 = 2;
const COMPRESSION: u16 = 6;
/// Slots of a ring.
const SLOTS: usize = 32;
/// What a destination holds before the device writes it.
const UNWRITTEN: u8 = 0xa5;

struct Flying {
    id: u64,
    memory: Memory,
    left: Left,
    next: Option<Next>,
}

pub(super) struct Worker {
    driver: Driver<Watched>,
    /// By pair, then by what ties a response to its request.
    flying: BTreeMap<(u16, u64), Flying>,
    pieces: Option<usize>,
    depth: usize,
    bug: Option<Bug>,
    overlooked: Overlooked,
    strangers: Strangers,
}

/// A failure, as the book has it.
fn told(status: u8, error: i8) -> String {
    format!("status {status:#x}, error {error}")
}

impl Worker {
    pub(super) fn start(
        platform: Watched,
        options: &Options,
        bug: Option<Bug>,
    ) -> Result<Self, DriverError> {
        let interrupts = options.completion != Completion::Polling;
        let pieces = options.pieces.map(|len| usize::try_from(len).unwrap_or(0).max(16));
        let driver_options = DriverOptions { interrupts, piece: pieces, timeout_nanos: PATIENCE };
        let mut driver = Driver::new(platform, driver_options)?;
        driver.introduce()?;
        for (pair, len) in PAIRS {
            driver.open(pair, SLOTS, len)?;
        }
        let (flying, depth) = (BTreeMap::new(), usize::from(options.depth.max(1)).min(SLOTS - 2));
        let (overlooked, strangers) = (Overlooked::default(), Strangers::default());
        Ok(Self { driver, flying, pieces, depth, bug, overlooked, strangers })
    }

    fn pending(&self, pair: u16) -> usize {
        self.flying.range((pair, 0)..=(pair, u64::MAX)).count()
    }

    fn took(&mut self, pair: u16, response: &Response, book: &mut Book) -> Result<(), DriverError> {
        let Some(flying) = self.flying.remove(&(pair, response.opaque())) else {
            return self.strangers.met(&format!("pair {pair}"), book);
        };
        self.strangers.forget();
        if self.overlooked.strikes(self.bug) {
            return Ok(());
        }
        let Flying { id, memory, left, next } = flying;
        let p = &mut self.driver.platform;
        memory.check(p)?;
        let (consumed, produced) = (response.word(16), response.word(20));
        let data = left.read(p, produced)?;
        memory.release(p);
        let (status, error) = (response.status() & !status::END_OF_LAST_BLOCK, response.error());
        let good = (status, error) == (0, 0);
        let outcome = match good {
            true => Outcome::Done(data),
            false => Outcome::Refused { status: told(status, error), left: data },
        };
        book.complete(id, &outcome);
        match next {
            Some(next) if good => self.go_on(next, [consumed, produced], book),
            Some(next) => {
                next.memory.release(&mut self.driver.platform);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Submits the request that follows one of which so much was taken and came out.
    fn go_on(
        &mut self,
        mut next: Next,
        [consumed, produced]: [u32; 2],
        book: &mut Book,
    ) -> Result<(), DriverError> {
        let mut memory = std::mem::take(&mut next.memory);
        let opaque = self.driver.opaque();
        let (p, pieces) = (&mut self.driver.platform, self.pieces);
        let mut maker = Maker { p, memory: &mut memory, pieces, opaque };
        let request = maker.end(&next, consumed, produced)?;
        self.submit(request, opaque, memory, "the end of a stream".to_owned(), book)
    }

    /// Builds the first request of an operation, and submits it.
    fn begin(&mut self, operation: &Operation, book: &mut Book) -> Result<(), DriverError> {
        let mut memory = Memory::default();
        let opaque = self.driver.opaque();
        let (p, pieces) = (&mut self.driver.platform, self.pieces);
        let request = Maker { p, memory: &mut memory, pieces, opaque }.make(operation)?;
        let Operation { work, len, .. } = operation;
        let name = format!("{work:?} of {len} bytes on pair {}", request.pair);
        self.submit(request, opaque, memory, name, book)
    }

    fn submit(
        &mut self,
        request: Request,
        opaque: u64,
        memory: Memory,
        name: String,
        book: &mut Book,
    ) -> Result<(), DriverError> {
        let Request { pair, message, left, expect, next } = request;
        let id = book.submit(name, expect);
        let submitted = self.driver.submit(pair, &message);
        let flying = Flying { id, memory, left, next };
        match submitted {
            Ok(()) => {
                self.flying.insert((pair, opaque), flying);
            }
            Err(_) => {
                book.withdraw(id);
                self.release(flying);
            }
        }
        submitted
    }

    fn release(&mut self, flying: Flying) {
        let p = &mut self.driver.platform;
        flying.memory.release(p);
        if let Some(next) = flying.next {
            next.memory.release(p);
        }
    }

    /// Tears a pair down and sets it up anew, sometimes with requests in flight: these will never be
    /// answered, and the device must not touch their memory any more.
    fn renew(&mut self, operation: &Operation, book: &mut Book) -> Result<(), DriverError> {
        if operation.salt & 3 == 0 {
            self.collect(0, book)?;
        }
        let (pair, len) = PAIRS[usize::from(operation.queue) % PAIRS.len()];
        self.driver.close(pair)?;
        let gone: Vec<_> =
            self.flying.range((pair, 0)..=(pair, u64::MAX)).map(|(key, _)| *key).collect();
        for key in gone {
            if let Some(flying) = self.flying.remove(&key) {
                book.abandon(flying.id);
                self.release(flying);
            }
        }
        self.driver.open(pair, SLOTS, len)
    }
}

impl Working for Worker {
    fn perform(&mut self, operation: &Operation, book: &mut Book) -> Result<(), DriverError> {
        if operation.work == Work::Renew {
            return self.renew(operation, book);
        }
        self.collect(self.depth.saturating_sub(1), book)?;
        self.begin(operation, book)?;
        self.collect(usize::from(operation.leave), book)
    }

    fn collect(&mut self, leave: usize, book: &mut Book) -> Result<(), DriverError> {
        while self.flying.len() > leave {
            let busy = PAIRS.map(|(pair, _)| (self.pending(pair), pair));
            let Some((_, pair)) = busy.into_iter().max() else { break };
            let response = self.driver.wait(pair)?;
            self.took(pair, &response, book)?;
        }
        Ok(())
    }

    fn reap(&mut self, book: &mut Book) -> Result<(), DriverError> {
        for (pair, _) in PAIRS {
            while let Some(response) = self.driver.take(pair)? {
                self.took(pair, &response, book)?;
            }
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.flying.len()
    }
}
