//! Arithmetic modulo a number, on big-endian operands of fixed length, as public-key accelerators
//! offer it.
//!
//! Over `crypto-bigint`, not in constant time: guests of an emulator hold their own keys.

use crypto_bigint::{BoxedUint, ConcatenatingMul, NonZero};

use crate::rsa::{params, pow, reduce};
use crate::{Error, der};

/// Raises `base` to `exponent` modulo an odd `modulus`. The result is as long as `modulus`; the
/// base need not be below it.
///
/// # Errors
/// [`Error::InvalidKey`] if the modulus is even, below 3 or longer than
/// [`MAX_MODULUS_BITS`](crate::rsa::MAX_MODULUS_BITS).
pub fn power(base: &[u8], exponent: &[u8], modulus: &[u8]) -> Result<Vec<u8>, Error> {
    let modulo = params(der::trim(modulus))?;
    octets(&pow(&number(base), &number(exponent), &modulo), modulus.len())
}

/// The inverse of `value` modulo any `modulus` above 1. The result is as long as `modulus`.
///
/// # Errors
/// [`Error::OutOfRange`] if there is none; [`Error::InvalidKey`] for another modulus.
pub fn inverse(value: &[u8], modulus: &[u8]) -> Result<Vec<u8>, Error> {
    let modulo = number(modulus);
    if modulo.bit_width_vartime() < 2 {
        return Err(Error::InvalidKey);
    }
    let modulo = Option::<NonZero<_>>::from(NonZero::new(modulo)).ok_or(Error::InvalidKey)?;
    let value = number(value).rem_vartime(&modulo);
    let inverse = Option::from(value.invert_mod(&modulo)).ok_or(Error::OutOfRange)?;
    octets(&inverse, modulus.len())
}

/// The numbers of an RSA private key for the Chinese remainder theorem (RFC 8017 §3.2).
#[derive(Clone, Copy, Debug)]
pub struct RsaCrt<'a> {
    /// First prime.
    pub p: &'a [u8],
    /// Second prime.
    pub q: &'a [u8],
    /// Exponent modulo `p - 1`.
    pub dp: &'a [u8],
    /// Exponent modulo `q - 1`.
    pub dq: &'a [u8],
    /// Inverse of `q` modulo `p`.
    pub q_inverse: &'a [u8],
}

/// RSADP with the Chinese remainder theorem (RFC 8017 §5.1.2 step 2b). The result is as long as
/// `input`.
///
/// # Errors
/// [`Error::InvalidKey`] if a prime cannot be one; [`Error::OutOfRange`] if the result is longer
/// than `input`.
pub fn rsa_crt(input: &[u8], key: &RsaCrt<'_>) -> Result<Vec<u8>, Error> {
    let (p, q) = (params(der::trim(key.p))?, params(der::trim(key.q))?);
    let value = number(input);
    let m1 = pow(&value, &number(key.dp), &p);
    let m2 = pow(&value, &number(key.dq), &q);
    let difference = reduce(&m1, &p) - &reduce(&m2, &p);
    let h = (difference * &reduce(&number(key.q_inverse), &p)).retrieve();
    let product = h.concatenating_mul(q.modulus().as_ref());
    let sum = product.wrapping_add(&m2);
    octets(&sum, input.len())
}

/// Big-endian bytes as a number.
pub(crate) fn number(bytes: &[u8]) -> BoxedUint {
    BoxedUint::from_be_slice_vartime(bytes)
}

/// A number as exactly `len` big-endian bytes.
pub(crate) fn octets(value: &BoxedUint, len: usize) -> Result<Vec<u8>, Error> {
    let bytes = value.to_be_bytes();
    let digits = der::trim(&bytes);
    let zeros = len.checked_sub(digits.len()).ok_or(Error::OutOfRange)?;
    let mut octets = vec![0; len];
    octets.get_mut(zeros..).unwrap_or_default().copy_from_slice(digits);
    Ok(octets)
}
