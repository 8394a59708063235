//! The symmetric service: ciphers, hashes, both in either order, CCM and GCM (`icp_qat_fw_la.h`).
//!
//! Where a cipher changes data in place, a hash covers them, or GCM encrypts them in place, and the
//! digest is elsewhere, that is done in guest memory itself if the host lends it. Any other request
//! passes through memory of the model as a whole: read once, changed, written once, and not at all
//! if its digest does not match.

mod digest;
mod plan;

use std::ops::Range;

use understudy_device::Bus;
use understudy_engines::aead::Nonce;
use understudy_engines::cipher::{Algorithm as Cipher, Direction};
use understudy_engines::wireless;
use understudy_ring::{Cursor, SgList};

use super::content::{AuthContent, CipherContent, Engine, MAX_CONTENT_LEN};
use super::keys::KeyCache;
use super::{Failure, list, read_buffers};
use crate::layout::{SymmetricRequest, common, extended, flags, hash_flags, symmetric};
use digest::digest;
use plan::Plan;

/// Longest digest in bytes.
const MAX_TAG_LEN: usize = 64;

/// Memory that requests use one after the other.
#[derive(Debug)]
pub(crate) struct Scratch {
    content: Vec<u8>,
    data: Vec<u8>,
    aad: Vec<u8>,
    source: SgList,
    destination: SgList,
    keys: KeyCache,
    max_len: usize,
}

impl Scratch {
    /// For requests that cover up to `max_len` bytes.
    pub(crate) fn new(max_len: usize) -> Self {
        Self {
            content: vec![0; MAX_CONTENT_LEN],
            data: Vec::new(),
            aad: Vec::new(),
            source: list(max_len as u64),
            destination: list(max_len as u64),
            keys: KeyCache::default(),
            max_len,
        }
    }

    /// Forgets keys and data.
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.content.fill(0);
        self.data = Vec::new();
        self.aad = Vec::new();
    }
}

/// Which engines a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Cipher,
    Auth,
    Chain,
    Aead,
}

impl Kind {
    /// For counting; also of requests that fail.
    pub(crate) fn of(request: &SymmetricRequest) -> Option<Self> {
        let protocol = request.header.specific.get() >> flags::PROTOCOL_SHIFT & 7;
        match request.header.command {
            symmetric::CIPHER => Some(Self::Cipher),
            symmetric::AUTH => Some(Self::Auth),
            symmetric::CIPHER_HASH | symmetric::HASH_CIPHER => match protocol {
                flags::PROTOCOL_CCM | flags::PROTOCOL_GCM => Some(Self::Aead),
                _ => Some(Self::Chain),
            },
            _ => None,
        }
    }
}

/// Executes a request. Returns the bytes that it covered.
pub(crate) fn run(
    bus: &mut dyn Bus,
    request: &SymmetricRequest,
    scratch: &mut Scratch,
) -> Result<u64, Failure> {
    let kind = Kind::of(request).ok_or(Failure::Unsupported)?;
    let specific = request.header.specific.get();
    let absent =
        flags::PARTIAL | flags::CONFIG_IN_SHARED_RAM | flags::UPDATE_STATE | flags::OTHER_SLICES;
    let inline = request.header.common & common::CONTENT_INLINE != 0;
    if specific & absent != 0 || inline || request.header.extended & !extended::HASH_PROTOCOL != 0 {
        return Err(Failure::Unsupported);
    }
    let Scratch { content, data, aad, source, destination, keys, max_len } = scratch;
    let len = usize::from(request.content_words) * 8;
    let content = content.get_mut(..len).ok_or(Failure::Invalid)?;
    bus.dma_read(request.content.get(), content)?;
    let cipher = match kind {
        Kind::Auth => None,
        _ => Some(CipherContent::parse(content, &request.control)?),
    };
    let auth = match kind {
        Kind::Cipher => None,
        _ => Some(AuthContent::parse(content, &request.control)?),
    };
    check_protocol(request, auth.as_ref())?;
    read_buffers(bus, &request.buffers, request.header.common, source, destination)?;
    let plan = &Plan::new(request, cipher.is_some(), auth.as_ref(), *max_len)?;
    let tag = [0; MAX_TAG_LEN];
    let mut job = Job { bus, request, plan, source, destination, data, aad, keys, tag };
    job.read()?;
    match specific >> flags::PROTOCOL_SHIFT & 7 {
        flags::PROTOCOL_NONE | flags::PROTOCOL_SNOW_3G => job.plain(cipher, auth)?,
        flags::PROTOCOL_CCM => job.ccm(cipher, auth)?,
        flags::PROTOCOL_GCM => job.gcm(cipher, auth)?,
        _ => return Err(Failure::Unsupported),
    }
    job.write()?;
    Ok(plan.end as u64)
}

/// Where the request has flags for the protocol of its hash, they must be what the descriptor says.
fn check_protocol(
    request: &SymmetricRequest,
    auth: Option<&AuthContent<'_>>,
) -> Result<(), Failure> {
    let is = match auth {
        Some(AuthContent::Wireless { mac: wireless::Mac::Snow3g, .. }) => hash_flags::SNOW_3G,
        Some(AuthContent::Wireless { mac: wireless::Mac::Zuc, .. }) => hash_flags::ZUC,
        _ => 0,
    };
    let told = request.control.hash_flags & (hash_flags::SNOW_3G | hash_flags::ZUC);
    let tells = request.header.extended & extended::HASH_PROTOCOL != 0;
    if tells && told != is { Err(Failure::Invalid) } else { Ok(()) }
}

/// A request with all it needs.
struct Job<'a> {
    bus: &'a mut dyn Bus,
    request: &'a SymmetricRequest,
    plan: &'a Plan,
    source: &'a SgList,
    destination: &'a SgList,
    data: &'a mut Vec<u8>,
    aad: &'a mut Vec<u8>,
    keys: &'a mut KeyCache,
    /// The digest that was made, or that the data are to have.
    tag: [u8; MAX_TAG_LEN],
}

impl Job<'_> {
    fn read(&mut self) -> Result<(), Failure> {
        let plan = self.plan;
        if plan.direct {
            return Ok(());
        }
        let len = plan.end_with_tag();
        // A digest that is to be made need not have room in the source.
        let from_source = if plan.compares { len } else { plan.end };
        self.data.resize(len, 0);
        let (read, made) = self.data.split_at_mut(from_source);
        made.fill(0);
        Ok(self.source.cursor().read(self.bus, read)?)
    }

    /// Writes what the cipher changed; out of place, everything. A hash alone changes nothing. Then
    /// the digest.
    fn write(&mut self) -> Result<(), Failure> {
        let plan = self.plan;
        let changed = match self.request.header.command {
            symmetric::AUTH => 0..0,
            _ if plan.direct => 0..0,
            _ if plan.in_place => plan.cipher.clone(),
            _ => 0..plan.end,
        };
        let made = plan.tag.clone().filter(|_| plan.returns);
        for range in [changed, made.unwrap_or(0..0)] {
            if !range.is_empty() {
                let data = self.data.get(range.clone()).unwrap_or_default();
                part(self.destination, &range)?.write(self.bus, data)?;
            }
        }
        if plan.returns && plan.tag.is_none() {
            let tag = self.tag.get(..plan.tag_len).ok_or(Failure::Invalid)?;
            self.bus.dma_write(self.request.auth.result.get(), tag)?;
        }
        Ok(())
    }

    /// Puts the digest that was made into the data, if it belongs there. It may be enciphered yet.
    fn place_tag(&mut self) -> Result<(), Failure> {
        if let Some(range) = self.plan.tag.clone() {
            let tag = self.tag.get(..range.len()).ok_or(Failure::Invalid)?;
            self.data.get_mut(range).ok_or(Failure::Invalid)?.copy_from_slice(tag);
        }
        Ok(())
    }

    /// The IV: in the request, or where the request says.
    fn read_iv(&mut self, into: &mut [u8; 16]) -> Result<(), Failure> {
        let iv = &self.request.cipher.iv;
        if self.request.header.specific.get() & flags::IV_INLINE != 0 {
            *into = *iv;
            return Ok(());
        }
        let address = iv.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let len = usize::from(self.request.control.iv_words) * 8;
        Ok(self.bus.dma_read(address, into.get_mut(..len).ok_or(Failure::Invalid)?)?)
    }

    fn plain(
        &mut self,
        cipher: Option<CipherContent<'_>>,
        auth: Option<AuthContent<'_>>,
    ) -> Result<(), Failure> {
        if matches!(auth, Some(AuthContent::CbcMac { .. } | AuthContent::Galois { .. })) {
            return Err(Failure::Unsupported);
        }
        if self.plan.hash_first {
            self.authenticate(auth.as_ref(), &[0; 16])?;
        }
        if let Some(cipher) = cipher {
            self.encipher(cipher)?;
        }
        if !self.plan.hash_first {
            self.authenticate(auth.as_ref(), &[0; 16])?;
        }
        Ok(())
    }

    fn encipher(
        &mut self,
        CipherContent { engine, direction, key }: CipherContent<'_>,
    ) -> Result<(), Failure> {
        let mut iv = [0; 16];
        if engine != Engine::Null {
            self.read_iv(&mut iv)?;
        }
        let iv = |len| iv.get(..len).unwrap_or_default();
        let keys = &mut *self.keys;
        change(self.bus, self.source, self.plan, self.data, |data| match engine {
            Engine::Null => Ok(()),
            Engine::Block(algorithm) => {
                let key = keys.cipher(algorithm, key)?;
                key.apply(direction, iv(algorithm.iv_len()), data)?;
                Ok(())
            }
            Engine::Wireless(cipher) => Ok(cipher.apply(key, iv(cipher.iv_len()), data)?),
        })
    }

    /// CCM: counter block 0 hides the MAC, the following ones the data (SP 800-38C).
    fn ccm(
        &mut self,
        cipher: Option<CipherContent<'_>>,
        auth: Option<AuthContent<'_>>,
    ) -> Result<(), Failure> {
        let (Some(cipher), Some(AuthContent::CbcMac { .. })) = (cipher, &auth) else {
            return Err(Failure::Unsupported);
        };
        if cipher.engine != Engine::Block(Cipher::AesCtr) {
            return Err(Failure::Unsupported);
        }
        let mut iv = [0; 16];
        self.read_iv(&mut iv)?;
        let mut mask = [0; 16];
        self.keys.cipher(Cipher::AesCtr, cipher.key)?.apply(Direction::Encrypt, &iv, &mut mask)?;
        if self.plan.hash_first {
            self.authenticate(auth.as_ref(), &mask)?;
        }
        let mut stream =
            self.keys.cipher(Cipher::AesCtr, cipher.key)?.start(Direction::Encrypt, &iv)?;
        stream.update(&mut [0; 16])?;
        let data = self.data.get_mut(self.plan.cipher.clone()).ok_or(Failure::Invalid)?;
        stream.finish(data)?;
        if !self.plan.hash_first {
            self.authenticate(auth.as_ref(), &mask)?;
        }
        Ok(())
    }

    /// GCM; without anything to encrypt, GMAC over what the hash covers.
    fn gcm(
        &mut self,
        cipher: Option<CipherContent<'_>>,
        auth: Option<AuthContent<'_>>,
    ) -> Result<(), Failure> {
        let (Some(cipher), Some(AuthContent::Galois { aad_len })) = (cipher, auth) else {
            return Err(Failure::Unsupported);
        };
        let plan = self.plan;
        let encrypts = plan.returns && !plan.compares && !plan.hash_first;
        let decrypts = plan.compares && !plan.returns && plan.hash_first;
        let aligned = plan.cipher.is_empty() || plan.cipher == plan.auth;
        if cipher.engine != Engine::Block(Cipher::AesCtr) || encrypts == decrypts || !aligned {
            return Err(Failure::Unsupported);
        }
        let mut iv = [0; 16];
        self.read_iv(&mut iv)?;
        let nonce = match self.request.header.specific.get() & flags::GCM_IV_12_BYTES {
            0 => Nonce::J0(&iv),
            _ => Nonce::Bytes(iv.get(..12).unwrap_or_default()),
        };
        self.read_aad(aad_len)?;
        if decrypts {
            self.read_tag()?;
        }
        let plan = self.plan;
        if plan.cipher.is_empty() {
            self.aad.extend_from_slice(self.data.get(plan.auth.clone()).unwrap_or_default());
        }
        let (key, aad) = (self.keys.gcm(cipher.key)?, &*self.aad);
        let tag = self.tag.get_mut(..plan.tag_len).ok_or(Failure::Invalid)?;
        change(self.bus, self.source, plan, self.data, |data| match decrypts {
            true => Ok(key.decrypt(nonce, aad, data, tag)?),
            false => Ok(key.encrypt(nonce, aad, data, tag)?),
        })?;
        if encrypts { self.place_tag() } else { Ok(()) }
    }

    /// Computes the digest, then keeps or compares it. `mask` is added to a CBC-MAC.
    fn authenticate(
        &mut self,
        auth: Option<&AuthContent<'_>>,
        mask: &[u8; 16],
    ) -> Result<(), Failure> {
        let Some(auth) = auth else { return Ok(()) };
        let mut tag = [0; MAX_TAG_LEN];
        self.aad.clear();
        match auth {
            // The driver has put B0 and the padded associated data there.
            AuthContent::CbcMac { .. } => {
                self.read_aad(usize::from(self.request.auth.aad_len))?;
            }
            AuthContent::Wireless { mac, .. } => self.read_aad(mac.iv_len())?,
            _ => {}
        }
        let (keys, prefix) = (&mut *self.keys, &*self.aad);
        cover(self.bus, self.source, self.plan, self.data, |covered| {
            digest(auth, keys, prefix, covered, mask, &mut tag)
        })?;
        if self.plan.compares && !matches!(auth, AuthContent::Null) {
            self.read_tag()?;
            let len = self.plan.tag_len;
            if self.tag.get(..len) != tag.get(..len) {
                return Err(Failure::Mismatch);
            }
        }
        self.tag = tag;
        if self.plan.returns { self.place_tag() } else { Ok(()) }
    }

    fn read_aad(&mut self, len: usize) -> Result<(), Failure> {
        // The length of associated data is 8 bits wide, once it is padded.
        if len > 256 {
            return Err(Failure::Invalid);
        }
        self.aad.resize(len, 0);
        if len > 0 {
            self.bus.dma_read(self.request.auth.aad.get(), self.aad)?;
        }
        Ok(())
    }

    fn read_tag(&mut self) -> Result<(), Failure> {
        let into = self.tag.get_mut(..self.plan.tag_len).ok_or(Failure::Invalid)?;
        match self.plan.tag.clone() {
            Some(range) => into.copy_from_slice(self.data.get(range).ok_or(Failure::Invalid)?),
            None => self.bus.dma_read(self.request.auth.result.get(), into)?,
        }
        Ok(())
    }
}

/// Has `work` change what the cipher covers: in guest memory, or in what was read of it.
fn change(
    bus: &mut dyn Bus,
    source: &SgList,
    plan: &Plan,
    data: &mut Vec<u8>,
    work: impl FnOnce(&mut [u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !plan.direct {
        return work(data.get_mut(plan.cipher.clone()).ok_or(Failure::Invalid)?);
    }
    part(source, &plan.cipher)?.update(bus, plan.cipher.len(), data, work)
}

/// Has `work` look at what the hash covers: in guest memory, or in what was read of it.
fn cover(
    bus: &mut dyn Bus,
    source: &SgList,
    plan: &Plan,
    data: &mut Vec<u8>,
    work: impl FnOnce(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !plan.direct {
        return work(data.get(plan.auth.clone()).ok_or(Failure::Invalid)?);
    }
    part(source, &plan.auth)?.view(bus, plan.auth.len(), data, work)
}

/// A cursor that begins where the range does.
fn part<'a>(list: &'a SgList, range: &Range<usize>) -> Result<Cursor<'a>, Failure> {
    let mut cursor = list.cursor();
    cursor.skip(range.start as u64)?;
    Ok(cursor)
}
