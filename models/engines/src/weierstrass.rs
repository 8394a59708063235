//! Elliptic curves `y² = x³ + ax + b` over prime fields, with parameters that the caller gives.
//!
//! Accelerators take a curve's numbers with each request, so curves are not known by name here.
//! Points are added with the complete formulas of Renes, Costello and Batina (Algorithm 1), which
//! have no exceptions on curves of odd order; whatever the parameters, nothing panics.

use crypto_bigint::BoxedUint;
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};

use crate::modular::{number, octets};
use crate::rsa::{params, reduce};
use crate::{Error, der};

/// The longest field in bytes: that of P-521, in whole 64-bit words.
pub const MAX_FIELD_LEN: usize = 72;

/// Affine coordinates, big-endian and as long as the field's prime was given.
pub type Coordinates = (Vec<u8>, Vec<u8>);

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    field: BoxedMontyParams,
    a: BoxedMontyForm,
    b: BoxedMontyForm,
    b3: BoxedMontyForm,
    len: usize,
}

/// A base point and its order.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// x coordinate.
    pub x: &'a [u8],
    /// y coordinate.
    pub y: &'a [u8],
    /// Order, a prime.
    pub order: &'a [u8],
}

/// Homogeneous projective coordinates; infinity has `z = 0`.
#[derive(Clone)]
struct Point {
    x: BoxedMontyForm,
    y: BoxedMontyForm,
    z: BoxedMontyForm,
}

impl Curve {
    /// A curve over the field of `prime` elements. Results are as long as `prime`.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if `prime` is even, below 3 or longer than [`MAX_FIELD_LEN`].
    pub fn new(prime: &[u8], a: &[u8], b: &[u8]) -> Result<Self, Error> {
        if der::trim(prime).len() > MAX_FIELD_LEN {
            return Err(Error::InvalidKey);
        }
        let field = params(der::trim(prime))?;
        let a = reduce(&number(a), &field);
        let b = reduce(&number(b), &field);
        let b3 = &(&b + &b) + &b;
        Ok(Self { field, a, b, b3, len: prime.len() })
    }

    /// Whether a point lies on the curve. Coordinates that are not below the prime do not.
    #[must_use]
    pub fn contains(&self, x: &[u8], y: &[u8]) -> bool {
        let (x, y) = (number(x), number(y));
        let prime: &BoxedUint = self.field.modulus().as_ref();
        if x >= *prime || y >= *prime {
            return false;
        }
        let (x, y) = (reduce(&x, &self.field), reduce(&y, &self.field));
        let right = &(&x.square() + &self.a) * &x;
        y.square() == &right + &self.b
    }

    /// Multiplies a point of the curve.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the point is not on the curve or the product is infinite.
    pub fn multiply(&self, scalar: &[u8], x: &[u8], y: &[u8]) -> Result<Coordinates, Error> {
        let point = self.point(x, y)?;
        let (x, y) = self.affine(&self.times(scalar, &point))?;
        Ok((octets(&x, self.len)?, octets(&y, self.len)?))
    }

    /// ECDSA signature (FIPS 186-5 §6.4.1) of the number `digest` with the secrets `key` and
    /// `nonce`: `r` and `s`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the base point is not on the curve, the nonce has no inverse or
    /// one of the numbers is zero; [`Error::InvalidKey`] if the order cannot be one.
    pub fn sign(
        &self,
        base: &Base<'_>,
        key: &[u8],
        nonce: &[u8],
        digest: &[u8],
    ) -> Result<Coordinates, Error> {
        let order = order(base)?;
        let point = self.point(base.x, base.y)?;
        let (x, _) = self.affine(&self.times(nonce, &point))?;
        let r = reduce(&x, &order);
        let inverse = reduce(&number(nonce), &order).invert_vartime();
        let inverse = Option::<BoxedMontyForm>::from(inverse).ok_or(Error::OutOfRange)?;
        let e = reduce(&number(digest), &order);
        let s = &inverse * &(&e + &(&reduce(&number(key), &order) * &r));
        if bool::from(r.is_zero()) || bool::from(s.is_zero()) {
            return Err(Error::OutOfRange);
        }
        Ok((octets(&r.retrieve(), self.len)?, octets(&s.retrieve(), self.len)?))
    }

    /// Verifies an ECDSA signature (FIPS 186-5 §6.4.2) by the public point `public`.
    ///
    /// # Errors
    /// [`Error::SignatureMismatch`]; [`Error::OutOfRange`] if a point is not on the curve;
    /// [`Error::InvalidKey`] if the order cannot be one.
    pub fn verify(
        &self,
        base: &Base<'_>,
        public: (&[u8], &[u8]),
        digest: &[u8],
        signature: (&[u8], &[u8]),
    ) -> Result<(), Error> {
        let order = order(base)?;
        let base = self.point(base.x, base.y)?;
        let public = self.point(public.0, public.1)?;
        let (r, s) = (number(signature.0), number(signature.1));
        let limit: &BoxedUint = order.modulus().as_ref();
        if r >= *limit || s >= *limit || bool::from(r.is_zero()) {
            return Err(Error::SignatureMismatch);
        }
        let (r, s) = (reduce(&r, &order), reduce(&s, &order));
        let w = Option::<BoxedMontyForm>::from(s.invert_vartime());
        let w = w.ok_or(Error::SignatureMismatch)?;
        let u1 = (&reduce(&number(digest), &order) * &w).retrieve().to_be_bytes();
        let u2 = (&r * &w).retrieve().to_be_bytes();
        let sum = self.add(&self.times(&u1, &base), &self.times(&u2, &public));
        let (x, _) = self.affine(&sum).map_err(|_| Error::SignatureMismatch)?;
        if reduce(&x, &order) == r { Ok(()) } else { Err(Error::SignatureMismatch) }
    }

    fn point(&self, x: &[u8], y: &[u8]) -> Result<Point, Error> {
        if !self.contains(x, y) {
            return Err(Error::OutOfRange);
        }
        let z = BoxedMontyForm::one(&self.field);
        Ok(Point { x: reduce(&number(x), &self.field), y: reduce(&number(y), &self.field), z })
    }

    fn infinity(&self) -> Point {
        let (zero, one) = (BoxedMontyForm::zero(&self.field), BoxedMontyForm::one(&self.field));
        Point { x: zero.clone(), y: one, z: zero }
    }

    fn affine(&self, point: &Point) -> Result<(BoxedUint, BoxedUint), Error> {
        let inverse = Option::<BoxedMontyForm>::from(point.z.invert_vartime());
        let inverse = inverse.ok_or(Error::OutOfRange)?;
        Ok(((&point.x * &inverse).retrieve(), (&point.y * &inverse).retrieve()))
    }

    fn times(&self, scalar: &[u8], point: &Point) -> Point {
        let bits =
            der::trim(scalar).iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1));
        bits.skip_while(|bit| *bit == 0).fold(self.infinity(), |sum, bit| {
            let double = self.add(&sum, &sum);
            if bit == 0 { double } else { self.add(&double, point) }
        })
    }

    fn add(&self, p: &Point, q: &Point) -> Point {
        let (a, b3) = (&self.a, &self.b3);
        let xx = &p.x * &q.x;
        let yy = &p.y * &q.y;
        let zz = &p.z * &q.z;
        let xy = &(&(&p.x + &p.y) * &(&q.x + &q.y)) - &(&xx + &yy);
        let xz = &(&(&p.x + &p.z) * &(&q.x + &q.z)) - &(&xx + &zz);
        let yz = &(&(&p.y + &p.z) * &(&q.y + &q.z)) - &(&yy + &zz);
        let t = &(a * &xz) + &(b3 * &zz);
        let (minus, plus) = (&yy - &t, &yy + &t);
        let azz = a * &zz;
        let m = &(&(&xx + &xx) + &xx) + &azz;
        let n = &(b3 * &xz) + &(a * &(&xx - &azz));
        Point {
            x: &(&xy * &minus) - &(&yz * &n),
            y: &(&minus * &plus) + &(&m * &n),
            z: &(&yz * &plus) + &(&xy * &m),
        }
    }
}

fn order(base: &Base<'_>) -> Result<BoxedMontyParams, Error> {
    let order = der::trim(base.order);
    if order.len() > MAX_FIELD_LEN { Err(Error::InvalidKey) } else { params(order) }
}
