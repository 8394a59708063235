//! What engines do to the data of a request.

use std::ops::Range;

use understudy_device::Bus;
use understudy_engines::aead::Nonce;
use understudy_engines::cipher::{Algorithm as Cipher, Direction};
use understudy_engines::wireless;
use understudy_ring::SgList;

use super::digest::digest;
use super::plan::Plan;
use super::{Kind, MAX_TAG_LEN, part};
use crate::layout::{SymmetricRequest, extended, flags, hash_flags};
use crate::service::Failure;
use crate::service::content::{AuthContent, CipherContent, Engine};
use crate::service::keys::KeyCache;

/// Longest associated data: their length is 8 bits wide, once they are padded.
const MAX_AAD_LEN: usize = 256;

/// The data of a request.
pub(super) enum Data<'a> {
    /// What was read of the source.
    Copied(&'a mut Vec<u8>),
    /// The source itself, or a copy in `buffer` if the host does not lend it.
    InPlace { bus: &'a mut dyn Bus, source: &'a SgList, buffer: &'a mut Vec<u8> },
}

impl Data<'_> {
    /// Has `work` change a range.
    fn change(
        &mut self,
        range: &Range<usize>,
        work: impl FnOnce(&mut [u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Copied(data) => work(data.get_mut(range.clone()).ok_or(Failure::Invalid)?),
            Self::InPlace { bus, source, buffer } => {
                part(source, range)?.update(*bus, range.len(), buffer, work)
            }
        }
    }

    /// Has `work` look at a range.
    fn cover(
        &mut self,
        range: &Range<usize>,
        work: impl FnOnce(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Copied(data) => work(data.get(range.clone()).ok_or(Failure::Invalid)?),
            Self::InPlace { bus, source, buffer } => {
                part(source, range)?.view(*bus, range.len(), buffer, work)
            }
        }
    }
}

/// What a request needs beside its data, read once, and the digest that it makes.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    iv: [u8; 16],
    /// The digest that the data are to have, or the one that was made.
    pub(super) tag: [u8; MAX_TAG_LEN],
    pub(super) aad: Vec<u8>,
}

impl Default for Inputs {
    fn default() -> Self {
        Self { iv: [0; 16], tag: [0; MAX_TAG_LEN], aad: Vec::new() }
    }
}

impl Inputs {
    /// Reads the IV, the associated data, and the digest to compare with if that is not in the
    /// buffer.
    pub(super) fn read(
        &mut self,
        bus: &mut dyn Bus,
        request: &SymmetricRequest,
        plan: &Plan,
        task: &Task<'_>,
    ) -> Result<(), Failure> {
        if task.cipher.as_ref().is_some_and(|cipher| cipher.engine != Engine::Null) {
            read_iv(bus, request, &mut self.iv)?;
        }
        let aad_len = match &task.auth {
            // The driver has put B0 and the padded associated data there.
            Some(AuthContent::CbcMac { .. }) => usize::from(request.auth.aad_len),
            Some(AuthContent::Galois { aad_len }) => *aad_len,
            Some(AuthContent::Wireless { mac, .. }) => mac.iv_len(),
            _ => 0,
        };
        if aad_len > MAX_AAD_LEN {
            return Err(Failure::Invalid);
        }
        self.aad.resize(aad_len, 0);
        if aad_len > 0 {
            bus.dma_read(request.auth.aad.get(), &mut self.aad)?;
        }
        if plan.compares && plan.tag.is_none() && !matches!(task.auth, Some(AuthContent::Null)) {
            let tag = self.tag.get_mut(..plan.tag_len).ok_or(Failure::Invalid)?;
            bus.dma_read(request.auth.result.get(), tag)?;
        }
        Ok(())
    }
}

/// The IV: in the request, or where the request says.
fn read_iv(
    bus: &mut dyn Bus,
    request: &SymmetricRequest,
    into: &mut [u8; 16],
) -> Result<(), Failure> {
    let iv = &request.cipher.iv;
    if request.header.specific.get() & flags::IV_INLINE != 0 {
        *into = *iv;
        return Ok(());
    }
    let address = iv.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let len = usize::from(request.control.iv_words) * 8;
    Ok(bus.dma_read(address, into.get_mut(..len).ok_or(Failure::Invalid)?)?)
}

/// How cipher and hash go together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Protocol {
    #[default]
    Plain,
    Ccm,
    Gcm {
        iv_len: usize,
    },
}

/// What engines have to do, as request and content descriptor say.
#[derive(Default)]
pub(super) struct Task<'a> {
    pub(super) cipher: Option<CipherContent<'a>>,
    pub(super) auth: Option<AuthContent<'a>>,
    protocol: Protocol,
}

impl<'a> Task<'a> {
    /// Takes the task from a request. In place, since a task is large.
    pub(super) fn parse(
        &mut self,
        request: &SymmetricRequest,
        content: &'a [u8],
    ) -> Result<(), Failure> {
        let kind = Kind::of(request);
        if kind != Some(Kind::Auth) {
            self.cipher = Some(CipherContent::parse(content, &request.control)?);
        }
        if kind != Some(Kind::Cipher) {
            self.auth = Some(AuthContent::parse(content, &request.control)?);
        }
        let specific = request.header.specific.get();
        self.protocol = match specific >> flags::PROTOCOL_SHIFT & 7 {
            flags::PROTOCOL_NONE | flags::PROTOCOL_SNOW_3G => Protocol::Plain,
            flags::PROTOCOL_CCM => Protocol::Ccm,
            flags::PROTOCOL_GCM if specific & flags::GCM_IV_12_BYTES != 0 => {
                Protocol::Gcm { iv_len: 12 }
            }
            flags::PROTOCOL_GCM => Protocol::Gcm { iv_len: 16 },
            _ => return Err(Failure::Unsupported),
        };
        Ok(())
    }

    /// Whether the parts go together, and with what the request says of them.
    pub(super) fn check(&self, request: &SymmetricRequest, plan: &Plan) -> Result<(), Failure> {
        let is = match self.auth {
            Some(AuthContent::Wireless { mac: wireless::Mac::Snow3g, .. }) => hash_flags::SNOW_3G,
            Some(AuthContent::Wireless { mac: wireless::Mac::Zuc, .. }) => hash_flags::ZUC,
            _ => 0,
        };
        let told = request.control.hash_flags & (hash_flags::SNOW_3G | hash_flags::ZUC);
        let tells = request.header.extended & extended::HASH_PROTOCOL != 0;
        if tells && told != is {
            return Err(Failure::Invalid);
        }
        let counts =
            self.cipher.as_ref().map(|cipher| cipher.engine) == Some(Engine::Block(Cipher::AesCtr));
        let possible = match (self.protocol, &self.auth) {
            (Protocol::Plain, Some(AuthContent::CbcMac { .. } | AuthContent::Galois { .. })) => {
                false
            }
            (Protocol::Plain, _) => true,
            (Protocol::Ccm, Some(AuthContent::CbcMac { .. })) => counts,
            (Protocol::Gcm { .. }, Some(AuthContent::Galois { .. })) => {
                let encrypts = plan.returns && !plan.compares && !plan.hash_first;
                let decrypts = plan.compares && !plan.returns && plan.hash_first;
                let aligned = plan.cipher.is_empty() || plan.cipher == plan.auth;
                counts && encrypts != decrypts && aligned
            }
            _ => false,
        };
        // B0 comes before all else that is authenticated.
        let headless = self.protocol == Protocol::Ccm && request.auth.aad_len < 16;
        match possible {
            true if headless => Err(Failure::Invalid),
            true => Ok(()),
            false => Err(Failure::Unsupported),
        }
    }

    /// Changes the data, and makes or compares the digest.
    pub(super) fn run(
        &self,
        plan: &Plan,
        keys: &mut KeyCache,
        inputs: &mut Inputs,
        data: &mut Data<'_>,
    ) -> Result<(), Failure> {
        if let Protocol::Gcm { iv_len } = self.protocol {
            return self.gcm(plan, keys, inputs, iv_len, data);
        }
        // CCM: counter block 0 hides the MAC, the following ones the data (SP 800-38C).
        let mut mask = [0; 16];
        if let (Protocol::Ccm, Some(cipher)) = (self.protocol, &self.cipher) {
            let key = keys.cipher(Cipher::AesCtr, cipher.key)?;
            key.apply(Direction::Encrypt, &inputs.iv, &mut mask)?;
        }
        if plan.hash_first {
            self.authenticate(plan, keys, inputs, &mask, data)?;
        }
        if let Some(cipher) = &self.cipher {
            self.encipher(cipher, plan, keys, &inputs.iv, data)?;
        }
        if !plan.hash_first {
            self.authenticate(plan, keys, inputs, &mask, data)?;
        }
        Ok(())
    }

    fn encipher(
        &self,
        cipher: &CipherContent<'_>,
        plan: &Plan,
        keys: &mut KeyCache,
        iv: &[u8; 16],
        data: &mut Data<'_>,
    ) -> Result<(), Failure> {
        let iv = |len| iv.get(..len).unwrap_or_default();
        data.change(&plan.cipher, |data| match cipher.engine {
            Engine::Null => Ok(()),
            Engine::Block(algorithm) if self.protocol == Protocol::Ccm => {
                let key = keys.cipher(algorithm, cipher.key)?;
                let mut stream = key.start(Direction::Encrypt, iv(16))?;
                stream.update(&mut [0; 16])?;
                stream.finish(data)?;
                Ok(())
            }
            Engine::Block(algorithm) => {
                let key = keys.cipher(algorithm, cipher.key)?;
                key.apply(cipher.direction, iv(algorithm.iv_len()), data)?;
                Ok(())
            }
            Engine::Wireless(wireless) => {
                Ok(wireless.apply(cipher.key, iv(wireless.iv_len()), data)?)
            }
        })
    }

    /// GCM; without anything to encrypt, GMAC over what the hash covers.
    fn gcm(
        &self,
        plan: &Plan,
        keys: &mut KeyCache,
        inputs: &mut Inputs,
        iv_len: usize,
        data: &mut Data<'_>,
    ) -> Result<(), Failure> {
        let Some(cipher) = &self.cipher else { return Err(Failure::Unsupported) };
        let Inputs { iv, tag, aad } = inputs;
        if plan.compares {
            take_tag(plan, tag, data)?;
        }
        if plan.cipher.is_empty() {
            data.cover(&plan.auth, |covered| {
                aad.extend_from_slice(covered);
                Ok(())
            })?;
        }
        let key = keys.gcm(cipher.key)?;
        let nonce = match iv_len {
            12 => Nonce::Bytes(iv.get(..12).unwrap_or_default()),
            _ => Nonce::J0(iv),
        };
        let made = tag.get_mut(..plan.tag_len).ok_or(Failure::Invalid)?;
        data.change(&plan.cipher, |data| match plan.compares {
            true => Ok(key.decrypt(nonce, aad, data, made)?),
            false => Ok(key.encrypt(nonce, aad, data, made)?),
        })?;
        if plan.returns { place_tag(plan, tag, data) } else { Ok(()) }
    }

    /// Computes the digest, then keeps or compares it. `mask` is added to a CBC-MAC.
    fn authenticate(
        &self,
        plan: &Plan,
        keys: &mut KeyCache,
        inputs: &mut Inputs,
        mask: &[u8; 16],
        data: &mut Data<'_>,
    ) -> Result<(), Failure> {
        let Some(auth) = &self.auth else { return Ok(()) };
        let Inputs { tag, aad, .. } = inputs;
        if plan.compares && !matches!(auth, AuthContent::Null) {
            take_tag(plan, tag, data)?;
            let wanted = *tag;
            data.cover(&plan.auth, |covered| digest(auth, keys, aad, covered, mask, tag))?;
            if wanted.get(..plan.tag_len) != tag.get(..plan.tag_len) {
                return Err(Failure::Mismatch);
            }
        } else {
            data.cover(&plan.auth, |covered| digest(auth, keys, aad, covered, mask, tag))?;
        }
        if plan.returns { place_tag(plan, tag, data) } else { Ok(()) }
    }
}

/// Takes the digest to compare with out of the data, if it is there.
fn take_tag(plan: &Plan, tag: &mut [u8; MAX_TAG_LEN], data: &mut Data<'_>) -> Result<(), Failure> {
    let Some(range) = &plan.tag else { return Ok(()) };
    let into = tag.get_mut(..range.len()).ok_or(Failure::Invalid)?;
    data.cover(range, |found| {
        into.copy_from_slice(found);
        Ok(())
    })
}

/// Puts the digest that was made into the data, if it belongs there. It may be enciphered yet.
fn place_tag(plan: &Plan, tag: &[u8; MAX_TAG_LEN], data: &mut Data<'_>) -> Result<(), Failure> {
    let Some(range) = &plan.tag else { return Ok(()) };
    let tag = tag.get(..range.len()).ok_or(Failure::Invalid)?;
    data.change(range, |place| {
        place.copy_from_slice(tag);
        Ok(())
    })
}
