//! RSA (RFC 8017): raw and PKCS#1 v1.5, with the keys that drivers pass in PKCS#1 DER.
//!
//! Straight over `crypto-bigint`: the `rsa` crate refuses the short keys of Linux's self-tests and
//! answers bad padding with made-up plaintext, which no device does. There is no blinding, as
//! guests of an emulator hold their own keys.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd, Resize};

use crate::{Error, der};

/// The longest modulus in bits, as in Linux. It bounds the time that a guest's key can cost.
pub const MAX_MODULUS_BITS: u32 = 4096;

/// The hash whose digest is signed: it decides the `DigestInfo` prefix (RFC 8017 §9.2 note 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Digest {
    /// MD4.
    Md4,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Digest {
    /// The digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md4 | Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The DER of `DigestInfo` up to the digest itself.
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Md4 => {
                b"\x30\x20\x30\x0c\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x04\x05\x00\x04\x10"
            }
            Self::Md5 => {
                b"\x30\x20\x30\x0c\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x05\x05\x00\x04\x10"
            }
            Self::Sha1 => b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
            Self::Sha224 => {
                b"\x30\x2d\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x04\x05\x00\x04\x1c"
            }
            Self::Sha256 => {
                b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
            }
            Self::Sha384 => {
                b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"
            }
            Self::Sha512 => {
                b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
            }
        }
    }
}

/// A public key.
#[derive(Clone)]
pub struct PublicKey {
    modulus: BoxedMontyParams,
    modulus_len: usize,
    exponent: BoxedUint,
}

impl PublicKey {
    /// Reads an `RSAPublicKey` (RFC 8017 A.1.1). Integers may lack the leading zero that DER
    /// wants before a high bit, as in Linux's self-tests; none is negative.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if the DER is malformed, the modulus is even, less than 3 or longer
    /// than [`MAX_MODULUS_BITS`], or the exponent is longer than the modulus.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let [n, e] = der::integers(der::sequence(der)?)?;
        Self::new(n, e)
    }

    fn new(n: &[u8], e: &[u8]) -> Result<Self, Error> {
        let modulus = params(n)?;
        if e.len() > n.len() {
            return Err(Error::InvalidKey);
        }
        Ok(Self { modulus, modulus_len: n.len(), exponent: BoxedUint::from_be_slice_vartime(e) })
    }

    /// The modulus in bytes: the length of every ciphertext and signature.
    #[must_use]
    pub fn modulus_len(&self) -> usize {
        self.modulus_len
    }

    /// RSAEP and RSAVP1 (RFC 8017 §5.1.1, §5.2.2): `input` to the public exponent. The output is
    /// [`PublicKey::modulus_len`] bytes long; the input may be shorter, or longer by zeros.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `input`, as a number, is not below the modulus.
    pub fn raw(&self, input: &[u8]) -> Result<Vec<u8>, Error> {
        let message = self.integer(input)?;
        self.octets(&pow(&message, &self.exponent, &self.modulus))
    }

    /// RSAES-PKCS1-v1_5 encryption (RFC 8017 §7.2.1). `random` fills a buffer with padding; its
    /// zeros are replaced, for the padding has none.
    ///
    /// # Errors
    /// [`Error::InvalidLength`] if `message` is longer than the modulus less 11 bytes.
    pub fn encrypt(
        &self,
        message: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Vec<u8>, Error> {
        let encoded = self.encode(2, &[message], |padding| {
            random(padding);
            padding.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 0xa5);
        })?;
        self.raw(&encoded)
    }

    /// RSASSA-PKCS1-v1_5 verification (RFC 8017 §8.2.2) of a signature over `digest`. Without a
    /// hash the encoding holds `digest` alone, of any length.
    ///
    /// # Errors
    /// [`Error::SignatureMismatch`], also for a signature of the wrong length;
    /// [`Error::InvalidLength`] if `digest` does not have the hash's length.
    pub fn verify(
        &self,
        hash: Option<Digest>,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        let expected = self.encode_digest(hash, digest)?;
        if signature.len() != self.modulus_len {
            return Err(Error::SignatureMismatch);
        }
        let found = self.raw(signature).map_err(|_| Error::SignatureMismatch)?;
        if found == expected { Ok(()) } else { Err(Error::SignatureMismatch) }
    }

    /// EMSA-PKCS1-v1_5 (RFC 8017 §9.2).
    fn encode_digest(&self, hash: Option<Digest>, digest: &[u8]) -> Result<Vec<u8>, Error> {
        if hash.is_some_and(|hash| hash.digest_len() != digest.len()) {
            return Err(Error::InvalidLength(digest.len()));
        }
        let prefix = hash.map_or(&[][..], Digest::prefix);
        self.encode(1, &[prefix, digest], |padding| padding.fill(0xff))
    }

    /// `00 || block type || padding || 00 || content`, with at least 8 bytes of padding.
    fn encode(
        &self,
        block_type: u8,
        content: &[&[u8]],
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Vec<u8>, Error> {
        let len = content.iter().map(|part| part.len()).sum::<usize>();
        let padding_len = self
            .modulus_len
            .checked_sub(3)
            .and_then(|room| room.checked_sub(len))
            .filter(|padding| *padding >= 8)
            .ok_or(Error::InvalidLength(len))?;
        let mut padding = vec![0; padding_len];
        fill(&mut padding);
        Ok([&[0, block_type], &padding[..], &[0]]
            .into_iter()
            .chain(content.iter().copied())
            .flatten()
            .copied()
            .collect())
    }

    /// An input as a number below the modulus.
    fn integer(&self, input: &[u8]) -> Result<BoxedUint, Error> {
        let input = der::trim(input);
        if input.len() > self.modulus_len {
            return Err(Error::OutOfRange);
        }
        let value = BoxedUint::from_be_slice(input, self.modulus.bits_precision())
            .map_err(|_| Error::OutOfRange)?;
        if value < *self.modulus.modulus().as_ref() { Ok(value) } else { Err(Error::OutOfRange) }
    }

    /// A number below the modulus as exactly that many bytes.
    fn octets(&self, value: &BoxedUint) -> Result<Vec<u8>, Error> {
        let bytes = value.to_be_bytes();
        let skip = bytes.len().checked_sub(self.modulus_len).ok_or(Error::OutOfRange)?;
        Ok(bytes.get(skip..).unwrap_or_default().to_vec())
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey").field("modulus_len", &self.modulus_len).finish_non_exhaustive()
    }
}

/// A private key.
#[derive(Clone)]
pub struct PrivateKey {
    public: PublicKey,
    exponent: BoxedUint,
    crt: Option<Crt>,
}

/// What the Chinese remainder theorem needs (RFC 8017 §3.2 second form), which saves two thirds of
/// the work.
#[derive(Clone)]
struct Crt {
    p: BoxedMontyParams,
    q: BoxedMontyParams,
    dp: BoxedUint,
    dq: BoxedUint,
    q_inverse: BoxedUint,
}

impl PrivateKey {
    /// Reads an `RSAPrivateKey` (RFC 8017 A.1.2), with the leniency of [`PublicKey::from_der`].
    ///
    /// If the two primes do not multiply to the modulus (a key of more primes, or placeholders)
    /// the private exponent alone is used. That the numbers belong together is not checked
    /// further; a wrong key gives wrong results.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] as [`PublicKey::from_der`], or if any number is longer than the
    /// modulus.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let [_version, n, e, d, p, q, dp, dq, q_inverse] = der::integers(der::sequence(der)?)?;
        let public = PublicKey::new(n, e)?;
        if [d, p, q, dp, dq, q_inverse].iter().any(|number| number.len() > n.len()) {
            return Err(Error::InvalidKey);
        }
        let crt = Crt::new(&public.modulus, [p, q, dp, dq, q_inverse]);
        Ok(Self { public, exponent: BoxedUint::from_be_slice_vartime(d), crt })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// RSADP and RSASP1 (RFC 8017 §5.1.2, §5.2.1): `input` to the private exponent, with lengths
    /// as in [`PublicKey::raw`].
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `input`, as a number, is not below the modulus.
    pub fn raw(&self, input: &[u8]) -> Result<Vec<u8>, Error> {
        let input = self.public.integer(input)?;
        let output = match &self.crt {
            Some(crt) => crt.pow(&input, &self.public.modulus),
            None => pow(&input, &self.exponent, &self.public.modulus),
        };
        self.public.octets(&output)
    }

    /// RSAES-PKCS1-v1_5 decryption (RFC 8017 §7.2.2).
    ///
    /// # Errors
    /// [`Error::InvalidLength`] if the ciphertext is not as long as the modulus,
    /// [`Error::OutOfRange`] if it is not below it, [`Error::InvalidPadding`] if what it holds is
    /// not padded so.
    pub fn decrypt(&self, ciphertext: &[u8]) -> Result<Vec<u8>, Error> {
        if ciphertext.len() != self.public.modulus_len {
            return Err(Error::InvalidLength(ciphertext.len()));
        }
        let encoded = self.raw(ciphertext)?;
        let padded = encoded.strip_prefix(&[0, 2]).ok_or(Error::InvalidPadding)?;
        let padding_len = padded.iter().position(|byte| *byte == 0).filter(|len| *len >= 8);
        let (_, message) = padded.split_at(padding_len.ok_or(Error::InvalidPadding)?);
        Ok(message.get(1..).unwrap_or_default().to_vec())
    }

    /// RSASSA-PKCS1-v1_5 signature (RFC 8017 §8.2.1) of `digest`. Without a hash the encoding
    /// holds `digest` alone, of any length.
    ///
    /// # Errors
    /// [`Error::InvalidLength`] if `digest` does not have the hash's length or the modulus is too
    /// short for it.
    pub fn sign(&self, hash: Option<Digest>, digest: &[u8]) -> Result<Vec<u8>, Error> {
        self.raw(&self.public.encode_digest(hash, digest)?)
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Crt {
    fn new(modulus: &BoxedMontyParams, numbers: [&[u8]; 5]) -> Option<Self> {
        let [p, q, dp, dq, q_inverse] = numbers;
        let (p, q) = (params(p).ok()?, params(q).ok()?);
        let bits = modulus.bits_precision();
        let wide = |prime: &BoxedMontyParams| prime.modulus().as_ref().clone().try_resize(bits);
        let product = Option::<BoxedUint>::from(wide(&p)?.checked_mul(&wide(&q)?))?;
        (product == *modulus.modulus().as_ref()).then(|| Self {
            p,
            q,
            dp: BoxedUint::from_be_slice_vartime(dp),
            dq: BoxedUint::from_be_slice_vartime(dq),
            q_inverse: BoxedUint::from_be_slice_vartime(q_inverse),
        })
    }

    /// RFC 8017 §5.1.2 step 2b: `m = m2 + q * ((m1 - m2) * qInv mod p)`, which is below `p * q`.
    fn pow(&self, input: &BoxedUint, modulus: &BoxedMontyParams) -> BoxedUint {
        let m1 = pow(input, &self.dp, &self.p);
        let m2 = pow(input, &self.dq, &self.q);
        let difference = reduce(&m1, &self.p) - &reduce(&m2, &self.p);
        let h = (difference * &reduce(&self.q_inverse, &self.p)).retrieve();
        let bits = modulus.bits_precision();
        let q = self.q.modulus().as_ref().resize_unchecked(bits);
        m2.resize_unchecked(bits).wrapping_add(h.resize_unchecked(bits).wrapping_mul(&q))
    }
}

/// Prepares arithmetic modulo an odd number above 1, given without leading zeros.
pub(crate) fn params(modulus: &[u8]) -> Result<BoxedMontyParams, Error> {
    let bits = u32::try_from(modulus.len()).map_or(u32::MAX, |len| len.saturating_mul(8));
    if bits > MAX_MODULUS_BITS || matches!(modulus, [] | [0..=1]) {
        return Err(Error::InvalidKey);
    }
    let modulus = Option::from(Odd::new(BoxedUint::from_be_slice_vartime(modulus)));
    Ok(BoxedMontyParams::new_vartime(modulus.ok_or(Error::InvalidKey)?))
}

pub(crate) fn reduce(value: &BoxedUint, modulus: &BoxedMontyParams) -> BoxedMontyForm {
    BoxedMontyForm::new(value.rem_vartime(modulus.modulus().as_nz_ref()), modulus)
}

pub(crate) fn pow(base: &BoxedUint, exponent: &BoxedUint, modulus: &BoxedMontyParams) -> BoxedUint {
    reduce(base, modulus).pow_bounded_exp(exponent, exponent.bit_width_vartime()).retrieve()
}
