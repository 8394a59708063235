//! ECDSA (FIPS 186-5 §6) with the keys and signatures that virtio 1.3 §5.9.7 describes.
//!
//! RustCrypto's curves, whose signatures are deterministic (RFC 6979) and which take a digest
//! rather than a message; aws-lc-rs does neither.

use std::fmt;
use std::sync::Arc;

use ecdsa::elliptic_curve::point::AffinePoint;
use ecdsa::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use ecdsa::elliptic_curve::{CurveArithmetic, FieldBytes, FieldBytesSize};
use ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use ecdsa::{DigestAlgorithm, EcdsaCurve, Signature, SigningKey, VerifyingKey};
use p256::NistP256;
use p384::NistP384;
use p521::NistP521;

use crate::hash::MAX_DIGEST_LEN;
use crate::{Error, der};

/// A curve (SP 800-186).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
}

impl Curve {
    /// Every curve of this module.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];
}

/// A public key.
#[derive(Clone)]
pub struct PublicKey {
    curve: Curve,
    key: Arc<dyn Verify>,
}

impl PublicKey {
    /// Reads a point in the octets of SEC 1 §2.3.3, compressed or not.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if they are malformed or the point is not on the curve.
    pub fn from_sec1(curve: Curve, point: &[u8]) -> Result<Self, Error> {
        let key: Arc<dyn Verify> = match curve {
            Curve::P256 => Arc::new(verifying_key::<NistP256>(point)?),
            Curve::P384 => Arc::new(verifying_key::<NistP384>(point)?),
            Curve::P521 => Arc::new(verifying_key::<NistP521>(point)?),
        };
        Ok(Self { curve, key })
    }

    /// The curve.
    #[must_use]
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// Verifies a signature, an `Ecdsa-Sig-Value` (RFC 3279 §2.2.3) in DER, over a digest of 1 to
    /// [`MAX_DIGEST_LEN`] bytes; of one longer than the curve's order the leading bits count.
    ///
    /// # Errors
    /// [`Error::SignatureMismatch`], also for malformed DER; [`Error::InvalidLength`].
    pub fn verify(&self, digest: &[u8], signature: &[u8]) -> Result<(), Error> {
        check(digest)?;
        self.key.verify(digest, signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("curve", &self.curve).finish_non_exhaustive()
    }
}

/// A private key.
#[derive(Clone)]
pub struct PrivateKey {
    curve: Curve,
    key: Arc<dyn Sign>,
    public: PublicKey,
}

impl PrivateKey {
    /// Reads an `ECPrivateKey` (RFC 5915 §3). The curve is the caller's; the key's own parameters
    /// and public key, which are optional, are not looked at.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if the DER is malformed or the number is not between 1 and the order
    /// of the curve.
    pub fn from_der(curve: Curve, der: &[u8]) -> Result<Self, Error> {
        let secret = der::trim(der::ec_private_key(der)?);
        match curve {
            Curve::P256 => Self::new::<NistP256>(curve, secret),
            Curve::P384 => Self::new::<NistP384>(curve, secret),
            Curve::P521 => Self::new::<NistP521>(curve, secret),
        }
    }

    fn new<C>(curve: Curve, secret: &[u8]) -> Result<Self, Error>
    where
        C: EcdsaCurve + CurveArithmetic + DigestAlgorithm,
        SigningKey<C>: Sign + 'static,
        VerifyingKey<C>: Verify + 'static,
    {
        let mut bytes = FieldBytes::<C>::default();
        let zeros = bytes.len().checked_sub(secret.len()).ok_or(Error::InvalidKey)?;
        bytes.get_mut(zeros..).unwrap_or_default().copy_from_slice(secret);
        let key = SigningKey::<C>::from_bytes(&bytes).map_err(|_| Error::InvalidKey)?;
        let public = PublicKey { curve, key: Arc::new(*key.verifying_key()) };
        Ok(Self { curve, key: Arc::new(key), public })
    }

    /// The curve.
    #[must_use]
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a digest of 1 to [`MAX_DIGEST_LEN`] bytes. The nonce is that of RFC 6979 with the hash of the curve's strength
    /// (SHA-256, SHA-384, SHA-512). The signature is an `Ecdsa-Sig-Value` in DER.
    ///
    /// # Errors
    /// [`Error::InvalidLength`]; [`Error::InvalidKey`] if no signature exists, which no known key
    /// meets.
    pub fn sign(&self, digest: &[u8]) -> Result<Vec<u8>, Error> {
        check(digest)?;
        self.key.sign(digest)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("curve", &self.curve).finish_non_exhaustive()
    }
}

fn verifying_key<C>(point: &[u8]) -> Result<VerifyingKey<C>, Error>
where
    C: EcdsaCurve + CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    // The crate knows another compressed form, which is not SEC 1's.
    match point {
        [2..=4, ..] => VerifyingKey::from_sec1_bytes(point).map_err(|_| Error::InvalidKey),
        _ => Err(Error::InvalidKey),
    }
}

/// The curves' crates panic on an empty digest, and take the wrong bits of one longer than P-521's
/// order.
fn check(digest: &[u8]) -> Result<(), Error> {
    match digest.len() {
        1..=MAX_DIGEST_LEN => Ok(()),
        len => Err(Error::InvalidLength(len)),
    }
}

/// Hides the curve.
trait Verify: Send + Sync {
    fn verify(&self, digest: &[u8], signature: &[u8]) -> Result<(), Error>;
}

trait Sign: Send + Sync {
    fn sign(&self, digest: &[u8]) -> Result<Vec<u8>, Error>;
}

macro_rules! curve {
    ($curve:ty) => {
        impl Verify for VerifyingKey<$curve> {
            fn verify(&self, digest: &[u8], signature: &[u8]) -> Result<(), Error> {
                Signature::<$curve>::from_der(signature)
                    .and_then(|signature| self.verify_prehash(digest, &signature))
                    .map_err(|_| Error::SignatureMismatch)
            }
        }

        impl Sign for SigningKey<$curve> {
            fn sign(&self, digest: &[u8]) -> Result<Vec<u8>, Error> {
                let signature: Signature<$curve> =
                    self.sign_prehash(digest).map_err(|_| Error::InvalidKey)?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
        }
    };
}
curve!(NistP256);
curve!(NistP384);
curve!(NistP521);
