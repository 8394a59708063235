//! Scatter-gather lists and cursors.

use understudy_device::{Bus, DmaFault};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A run of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First I/O virtual address.
    pub iova: u64,
    /// Length in bytes.
    pub len: u32,
}

/// How much a list may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Segments.
    pub segments: usize,
    /// Bytes in all segments together.
    pub bytes: u64,
}

/// Why a list could not be built, read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SgError {
    /// One segment more than [`Limits::segments`].
    #[error("more than {0} segments")]
    TooManySegments(usize),
    /// More bytes than [`Limits::bytes`].
    #[error("more than {0} bytes")]
    TooLong(u64),
    /// A segment runs past the end of the address space.
    #[error("segment {0:#x}+{1:#x} wraps around")]
    Wraps(u64, u32),
    /// The stream ends before the wanted bytes.
    #[error("{wanted} bytes wanted, {left} left")]
    Short {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes there are.
        left: u64,
    },
    /// Guest memory could not be accessed.
    #[error(transparent)]
    Fault(#[from] DmaFault),
}

/// A bounded list of segments. Cleared and filled again, it does not allocate.
#[derive(Debug, Clone)]
pub struct SgList {
    segments: Vec<Segment>,
    bytes: u64,
    limits: Limits,
}

impl SgList {
    /// An empty list.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { segments: Vec::new(), bytes: 0, limits }
    }

    /// Forgets all segments, keeping the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.segments.clear();
        self.bytes = 0;
    }

    /// Appends a segment. Empty segments are dropped: they carry nothing.
    ///
    /// # Errors
    /// [`SgError::TooManySegments`], [`SgError::TooLong`] or [`SgError::Wraps`].
    #[inline]
    pub fn push(&mut self, iova: u64, len: u32) -> Result<(), SgError> {
        if len == 0 {
            return Ok(());
        }
        if self.segments.len() >= self.limits.segments {
            return Err(SgError::TooManySegments(self.limits.segments));
        }
        if iova.checked_add(u64::from(len) - 1).is_none() {
            return Err(SgError::Wraps(iova, len));
        }
        let bytes = self.bytes.saturating_add(u64::from(len));
        if bytes > self.limits.bytes {
            return Err(SgError::TooLong(self.limits.bytes));
        }
        self.segments.push(Segment { iova, len });
        self.bytes = bytes;
        Ok(())
    }

    /// Bytes in all segments together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The segments in order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// A cursor over the whole list.
    #[must_use]
    #[inline]
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { segments: &self.segments, offset: 0, remaining: self.bytes }
    }
}

/// A position in a list, and how far one may go from there.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    segments: &'a [Segment],
    /// Bytes of the first segment that are behind.
    offset: u32,
    remaining: u64,
}

impl<'a> Cursor<'a> {
    /// Bytes ahead.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Splits off the next `len` bytes as a cursor of their own and moves past them.
    ///
    /// # Errors
    /// [`SgError::Short`]; nothing is moved then.
    pub fn take(&mut self, len: u64) -> Result<Cursor<'a>, SgError> {
        self.check(len)?;
        let taken = Cursor { remaining: len, ..*self };
        self.skip(len)?;
        Ok(taken)
    }

    /// Moves past `len` bytes.
    ///
    /// # Errors
    /// [`SgError::Short`]; nothing is moved then.
    #[inline]
    pub fn skip(&mut self, len: u64) -> Result<(), SgError> {
        self.check(len)?;
        let mut left = len;
        while let Some(run) = self.run(left) {
            left -= u64::from(run.len);
            self.advance(run.len);
        }
        Ok(())
    }

    /// Fills `into` from guest memory and moves past it.
    ///
    /// # Errors
    /// [`SgError::Short`] with nothing moved, or [`SgError::Fault`].
    pub fn read(&mut self, bus: &mut dyn Bus, into: &mut [u8]) -> Result<(), SgError> {
        self.check(into.len() as u64)?;
        let mut into = into;
        while let Some(run) = self.run(into.len() as u64) {
            let (now, later) = into.split_at_mut(run.len as usize);
            bus.dma_read(run.iova, now)?;
            self.advance(run.len);
            into = later;
        }
        Ok(())
    }

    /// Writes `from` to guest memory and moves past it.
    ///
    /// # Errors
    /// [`SgError::Short`] with nothing moved, or [`SgError::Fault`].
    pub fn write(&mut self, bus: &mut dyn Bus, from: &[u8]) -> Result<(), SgError> {
        self.check(from.len() as u64)?;
        let mut from = from;
        while let Some(run) = self.run(from.len() as u64) {
            let (now, later) = from.split_at(run.len as usize);
            bus.dma_write(run.iova, now)?;
            self.advance(run.len);
            from = later;
        }
        Ok(())
    }

    /// Has `work` look at the next `len` bytes and moves past them: in guest memory itself if the
    /// host lends it, else in `copy`.
    ///
    /// # Errors
    /// That of `work`, [`SgError::Short`] or [`SgError::Fault`]; nothing is moved then.
    pub fn view<E: From<SgError>>(
        &mut self,
        bus: &mut dyn Bus,
        len: usize,
        copy: &mut Vec<u8>,
        work: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.lend(bus, len, copy, false, |data| work(data))
    }

    /// Has `work` change the next `len` bytes and moves past them: in guest memory itself if the
    /// host lends it, else in `copy`, which is then written back. Work that fails must have changed
    /// nothing.
    ///
    /// # Errors
    /// That of `work`, [`SgError::Short`] or [`SgError::Fault`]; nothing is moved then.
    pub fn update<E: From<SgError>>(
        &mut self,
        bus: &mut dyn Bus,
        len: usize,
        copy: &mut Vec<u8>,
        work: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.lend(bus, len, copy, true, work)
    }

    fn lend<E: From<SgError>>(
        &mut self,
        bus: &mut dyn Bus,
        len: usize,
        copy: &mut Vec<u8>,
        changes: bool,
        work: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check(len as u64)?;
        let (mut work, mut result) = (Some(work), Ok(()));
        let mut once = |data: &mut [u8]| {
            if let Some(work) = work.take() {
                result = work(data);
            }
            changes && result.is_ok()
        };
        if let Some(run) = self.run(len as u64).filter(|run| run.len as usize == len)
            && bus.dma_lend(run.iova, len, &mut once)
        {
            result?;
            self.advance(run.len);
            return Ok(());
        }
        copy.resize(len, 0);
        let mut behind = *self;
        behind.read(bus, copy)?;
        once(copy);
        result?;
        if changes {
            let mut to = *self;
            to.write(bus, copy)?;
        }
        *self = behind;
        Ok(())
    }

    /// Reads a wire structure, wherever it is cut.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_struct<T>(&mut self, bus: &mut dyn Bus) -> Result<T, SgError>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        let mut value = T::new_zeroed();
        self.read(bus, value.as_mut_bytes())?;
        Ok(value)
    }

    #[inline]
    fn check(&self, wanted: u64) -> Result<(), SgError> {
        if wanted > self.remaining {
            return Err(SgError::Short { wanted, left: self.remaining });
        }
        Ok(())
    }

    /// The next contiguous run of at most `want` bytes, or `None` if `want` is 0.
    #[inline]
    fn run(&self, want: u64) -> Option<Segment> {
        let first = self.segments.first()?;
        let len = u64::from(first.len - self.offset).min(self.remaining).min(want);
        let len = u32::try_from(len).ok().filter(|len| *len > 0)?;
        Some(Segment { iova: first.iova + u64::from(self.offset), len })
    }

    /// Moves by a length that [`run`](Self::run) returned.
    #[inline]
    fn advance(&mut self, len: u32) {
        self.remaining -= u64::from(len);
        self.offset += len;
        if self.segments.first().is_some_and(|first| first.len == self.offset) {
            self.segments = &self.segments[1..];
            self.offset = 0;
        }
    }
}
