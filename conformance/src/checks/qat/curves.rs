//! Elliptic curves over prime fields.

use understudy_client::qat::functions;
use understudy_engines::ecdsa::Curve;
use understudy_engines::vectors::ecdsa_keys;

use super::public_key::{call, fails, integers, wide};
use super::{Qat, started};
use crate::verdict::{expect, expect_bytes};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qat/curves":
    [1, "Point multiplication makes published keys", "DPDK icp_qat_fw_mmp_ids.h, MATHS_POINT_MULTIPLICATION_GFP_*", products],
    [2, "Point verification tells points on the curve from others", "DPDK icp_qat_fw_mmp_ids.h, MATHS_POINT_VERIFY_GFP_*", points],
    [3, "A published ECDSA signature is made", "DPDK icp_qat_fw_mmp_ids.h, PKE_ECDSA_SIGN_RS_GFP_L256; RFC 6979 §A.2.5", sign],
    [4, "Published ECDSA signatures verify on P-256, and nothing else", "DPDK icp_qat_fw_mmp_ids.h, PKE_ECDSA_VERIFY_GFP_L256", |ctx| verify(ctx, Curve::P256)],
    [5, "Published ECDSA signatures verify on P-384, and nothing else", "DPDK icp_qat_fw_mmp_ids.h, PKE_ECDSA_VERIFY_GFP_L512", |ctx| verify(ctx, Curve::P384)],
    [6, "Published ECDSA signatures verify on P-521, and nothing else", "DPDK icp_qat_fw_mmp_ids.h, PKE_ECDSA_VERIFY_GFP_521", |ctx| verify(ctx, Curve::P521)],
    [7, "A point that is not on the curve, or at infinity, is no product", "DPDK icp_qat_fw_mmp_ids.h, MATHS_POINT_MULTIPLICATION_GFP_* (status)", no_products],
    [8, "A signature with a nonce of 0 is refused", "DPDK icp_qat_fw_mmp_ids.h, PKE_ECDSA_SIGN_RS_GFP_* (status)", zero_nonce],
);

/// a, b, p, n, x and y of a curve, as long as its functions want them.
struct Numbers {
    len: usize,
    a: Vec<u8>,
    b: Vec<u8>,
    p: Vec<u8>,
    order: Vec<u8>,
    x: Vec<u8>,
    y: Vec<u8>,
    /// Multiplication, point verification, signature, signature verification.
    functions: [u32; 4],
}

fn numbers(curve: Curve) -> Numbers {
    let functions::Curve { len, functions, digits } = match curve {
        Curve::P256 => functions::P256,
        Curve::P384 => functions::P384,
        _ => functions::P521,
    };
    let [p, b, order, x, y] = digits.map(|digits| wide(&bytes(digits), len));
    let mut a = p.clone();
    // All of these curves have a = -3.
    a.iter_mut().rev().take(1).for_each(|last| *last -= 3);
    Numbers { len, a, b, p, order, x, y, functions }
}

fn bytes(digits: &str) -> Vec<u8> {
    hex::decode(digits).unwrap_or_default()
}

/// A published key: curve, private number, point.
type Known = (Numbers, Vec<u8>, Vec<u8>, Vec<u8>);

/// Published keys whose private numbers are known.
fn keys() -> Result<Vec<Known>, Stop> {
    let all = ecdsa_keys().map_err(|error| Stop::skip(format!("vectors: {error}")))?;
    let known = all.iter().filter(|key| !key.private_key.is_empty());
    Ok(known
        .filter_map(|key| {
            let n = numbers(key.curve);
            let (x, y) = coordinates(&key.public_key, n.len)?;
            let private = wide(private_number(&key.private_key)?, n.len);
            Some((n, private, x, y))
        })
        .collect())
}

/// The private number of an `ECPrivateKey`: an octet string after the version.
fn private_number(der: &[u8]) -> Option<&[u8]> {
    let start = 2 + usize::from(*der.get(1)? == 0x81) + 3;
    let len = usize::from(*der.get(start + 1)?);
    der.get(start + 2..start + 2 + len)
}

fn coordinates(point: &[u8], len: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    let (x, y) = point.get(1..)?.split_at_checked(point.len() / 2)?;
    Some((wide(x, len), wide(y, len)))
}

/// A function of many results, all of them.
fn values(
    driver: &mut Qat,
    function: u32,
    operands: Vec<Vec<u8>>,
    results: Vec<usize>,
) -> Result<Vec<Vec<u8>>, Stop> {
    let found = call(driver, function, operands, results)?;
    found.map_err(|(status, _)| {
        Stop::fail(format!("function {function:#x} to succeed"), format!("status {status:#x}"))
    })
}

fn multiply(n: &Numbers, k: Vec<u8>, x: &[u8], y: &[u8]) -> Vec<Vec<u8>> {
    let one = wide(&[1], n.len);
    vec![k, x.to_vec(), y.to_vec(), n.a.clone(), n.b.clone(), n.p.clone(), one]
}

fn products(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let keys = keys()?;
    for (n, private, x, y) in &keys {
        let operands = multiply(n, private.clone(), &n.x, &n.y);
        let found = values(&mut driver, n.functions[0], operands, vec![n.len; 2])?;
        expect_bytes("the point", &found.concat(), &[x.as_slice(), y].concat())?;
    }
    expect(keys.len() == 3, "keys of three curves", || keys.len().to_string())
}

fn points(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for (n, _, x, y) in keys()? {
        let operands = |x: &[u8], y: &[u8]| {
            vec![x.to_vec(), y.to_vec(), n.p.clone(), n.a.clone(), n.b.clone()]
        };
        values(&mut driver, n.functions[1], operands(&x, &y), vec![])?;
        values(&mut driver, n.functions[1], operands(&n.x, &n.y), vec![])?;
        let (swapped, mixed) = (operands(&y, &x), operands(&x, &n.y));
        for operands in [swapped, mixed] {
            fails(
                &mut driver,
                n.functions[1],
                operands,
                vec![],
                "a point that is not on the curve",
            )?;
        }
    }
    Ok(())
}

/// RFC 6979 §A.2.5, with SHA-256 and the message "sample".
fn signature(k: &[u8]) -> (u32, Vec<u8>) {
    let n = numbers(Curve::P256);
    let d = bytes("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let e = bytes("af2bdbe1aa9b6ec1e2ade1d694f41fc71a831d0268e9891562113d8a62add1bf");
    let buffer = [&d[..], &e, k, &n.b, &n.a, &n.p, &n.order, &n.y, &n.x].concat();
    (n.functions[2], buffer)
}

fn sign(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let k = bytes("a6e3c57dd01abe90086538398355dd4c3b17aa873382b0f24d6129493d8aad60");
    let (function, buffer) = signature(&k);
    let found = values(&mut driver, function, vec![buffer], vec![32; 2])?;
    let wanted = bytes(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
         f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    );
    expect_bytes("r and s", &found.concat(), &wanted)
}

fn zero_nonce(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (function, buffer) = signature(&[0; 32]);
    fails(&mut driver, function, vec![buffer], vec![32; 2], "a nonce of 0")
}

fn verify(ctx: &mut Context<'_>, curve: Curve) -> Outcome {
    let mut driver = started(ctx)?;
    let n = numbers(curve);
    let mut count = 0;
    let all = ecdsa_keys().map_err(|error| Stop::skip(format!("vectors: {error}")))?;
    for key in all.iter().filter(|key| key.curve == curve).take(8) {
        let Some((x, y)) = coordinates(&key.public_key, n.len) else { continue };
        for signature in key.signatures.iter().filter(|it| it.valid).take(2) {
            let numbers = integers(&signature.signature);
            let [r, s] = numbers.as_slice() else { continue };
            // The leftmost bits of the digest, as many as the order has.
            let order_len = n.order.iter().skip_while(|byte| **byte == 0).count();
            let cut = signature.digest.len().min(order_len);
            let e = wide(signature.digest.get(..cut).unwrap_or_default(), n.len);
            let (r, s) = (wide(r, n.len), wide(s, n.len));
            let mut other = e.clone();
            other.iter_mut().rev().take(1).for_each(|last| *last ^= 1);
            let buffer = |r: &[u8], s: &[u8], e: &[u8]| {
                vec![[&n.p[..], &n.b, &n.a, &y, &x, &n.y, &n.x, &n.order, r, s, e].concat()]
            };
            let named = |stop: Stop| stop.during(&format!("{} {}", key.name, signature.name));
            values(&mut driver, n.functions[3], buffer(&r, &s, &e), vec![]).map_err(named)?;
            let what = "a signature of something else";
            fails(&mut driver, n.functions[3], buffer(&r, &s, &other), vec![], what)?;
            if r != s {
                let what = "r and s exchanged";
                fails(&mut driver, n.functions[3], buffer(&s, &r, &e), vec![], what)?;
            }
            count += 1;
        }
    }
    expect(count > 3, "signatures on the curve", || count.to_string())
}

fn no_products(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for curve in [Curve::P256, Curve::P384, Curve::P521] {
        let n = numbers(curve);
        let one = wide(&[1], n.len);
        for (k, x, y, what) in [
            (one.clone(), &one, &one, "a point that is not on the curve"),
            (n.order.clone(), &n.x, &n.y, "the order times the base point"),
        ] {
            let operands = multiply(&n, k, x, y);
            fails(&mut driver, n.functions[0], operands, vec![n.len; 2], what)?;
        }
    }
    Ok(())
}
