//! Arithmetic modulo a number, on big-endian operands of fixed length, as public-key accelerators
//! offer it.
//!
//! Over `crypto-bigint`, not in constant time: guests of an emulator hold their own keys.

use crypto_bigint::{BoxedUint, ConcatenatingMul, NonZero, Resize};

use crate::rsa::{MAX_MODULUS_BITS, params, pow, reduce};
use crate::{Error, der};

/// Raises `base` to `exponent` modulo any `modulus` above 0. The result is as long as `modulus`; the
/// base need not be below it.
///
/// # Errors
/// [`Error::InvalidKey`] if the modulus is 0 or longer than [`MAX_MODULUS_BITS`].
pub fn power(base: &[u8], exponent: &[u8], modulus: &[u8]) -> Result<Vec<u8>, Error> {
    let digits = der::trim(modulus);
    let (base, exponent) = (number(base), number(exponent));
    let power = match digits {
        [1] => BoxedUint::zero(),
        [.., last] if last & 1 == 0 => even_power(&base, &exponent, digits)?,
        _ => pow(&base, &exponent, &params(digits)?),
    };
    octets(&power, modulus.len())
}

/// The power modulo `2^twos` and modulo the odd rest, which Montgomery's method wants, put together
/// by the Chinese remainder theorem.
fn even_power(base: &BoxedUint, exponent: &BoxedUint, modulus: &[u8]) -> Result<BoxedUint, Error> {
    let modulo = number(modulus);
    let bits = modulo.bits_precision();
    if modulo.bit_width_vartime() > MAX_MODULUS_BITS {
        return Err(Error::InvalidKey);
    }
    let twos = modulo.trailing_zeros_vartime();
    let odd = modulo.unbounded_shr_vartime(twos);
    let of_odd = match der::trim(&odd.to_be_bytes()) {
        [1] => BoxedUint::zero(),
        odd => pow(base, exponent, &params(odd)?),
    };
    let of_odd = of_odd.resize_unchecked(bits);
    // The low bits of a power depend on no more than those of the base.
    let of_twos = base.resize_unchecked(twos).wrapping_pow_vartime(exponent).resize_unchecked(bits);
    let (inverse, _) = odd.invert_mod2k_vartime(twos);
    let above = bits - twos;
    let times = of_twos.wrapping_sub(&of_odd).wrapping_mul(&inverse);
    let times = times.unbounded_shl_vartime(above).unbounded_shr_vartime(above);
    Ok(of_odd.wrapping_add(odd.wrapping_mul(&times)))
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
