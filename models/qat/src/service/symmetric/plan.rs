//! What a request does to its buffers.

use std::ops::Range;

use super::MAX_TAG_LEN;
use crate::layout::{SymmetricRequest, flags, symmetric};
use crate::service::Failure;
use crate::service::content::AuthContent;

/// Which bytes of the buffers a request touches.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// What the cipher changes.
    pub(super) cipher: Range<usize>,
    /// What the hash covers.
    pub(super) auth: Range<usize>,
    /// Where the digest is, if it is in the buffer.
    pub(super) tag: Option<Range<usize>>,
    pub(super) tag_len: usize,
    pub(super) returns: bool,
    pub(super) compares: bool,
    pub(super) hash_first: bool,
    /// Behind the last byte of cipher and hash.
    pub(super) end: usize,
    pub(super) in_place: bool,
    /// Cipher or hash use the buffer where it is, and nothing else of it is read or written.
    pub(super) direct: bool,
}

impl Plan {
    /// Plans a request. In place, since a plan is large.
    pub(super) fn make(
        &mut self,
        request: &SymmetricRequest,
        ciphers: bool,
        auth: Option<&AuthContent<'_>>,
        max_len: usize,
    ) -> Result<(), Failure> {
        let specific = request.header.specific.get();
        let has = |flag| auth.is_some() && specific & flag != 0;
        let (returns, compares) = (has(flags::RETURN_DIGEST), has(flags::COMPARE_DIGEST));
        let parameters = &request.cipher;
        let cipher = match ciphers {
            true => span(parameters.offset.get(), parameters.len.get(), max_len)?,
            false => 0..0,
        };
        let parameters = &request.auth;
        let covered = match auth {
            Some(_) => span(parameters.offset.get(), parameters.len.get(), max_len)?,
            None => 0..0,
        };
        let tag_len = usize::from(request.control.digest_len);
        let longest = auth.map_or(0, AuthContent::max_digest_len);
        if (returns || compares) && !(1..=longest.min(MAX_TAG_LEN)).contains(&tag_len) {
            return Err(Failure::Invalid);
        }
        let in_buffer = has(flags::DIGEST_IN_BUFFER) && (returns || compares);
        let hash_first = request.header.command != symmetric::CIPHER_HASH;
        let buffers = &request.buffers;
        let in_place = buffers.source == buffers.destination;
        let same = in_place && buffers.source_len == buffers.destination_len;
        let direct = match (ciphers, auth) {
            (true, None) => same,
            // What does not match must leave the buffer as it is.
            (true, Some(AuthContent::Galois { .. })) => same && !compares && !cipher.is_empty(),
            (true, Some(_)) => false,
            (false, _) => true,
        };
        *self = Self {
            end: cipher.end.max(covered.end),
            tag: in_buffer.then_some(covered.end..covered.end + tag_len),
            direct: direct && !in_buffer,
            cipher,
            auth: covered,
            tag_len,
            returns,
            compares,
            hash_first,
            in_place,
        };
        Ok(())
    }

    /// What is read of the source. A digest that is to be made need not have room there.
    pub(super) fn used(&self) -> Range<usize> {
        match self.direct {
            true if self.cipher.is_empty() => self.auth.clone(),
            true => self.cipher.clone(),
            false if self.compares => 0..self.end_with_tag(),
            false => 0..self.end,
        }
    }

    /// Behind the digest if that is in the buffer, else as [`end`](Self::end).
    pub(super) fn end_with_tag(&self) -> usize {
        self.tag.as_ref().map_or(self.end, |tag| tag.end.max(self.end))
    }
}

fn span(offset: u32, len: u32, max_len: usize) -> Result<Range<usize>, Failure> {
    let start = usize::try_from(offset).map_err(|_| Failure::Invalid)?;
    let len = usize::try_from(len).map_err(|_| Failure::Invalid)?;
    let end = start.checked_add(len).filter(|end| *end <= max_len).ok_or(Failure::Invalid)?;
    Ok(start..end)
}
