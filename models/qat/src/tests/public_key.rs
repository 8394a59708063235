//! Modular arithmetic, RSA and elliptic curves.

use understudy_client::qat::functions::{self, RSA};
use understudy_client::qat::{PublicKey, status};
use understudy_engines::ecdsa::Curve;
use understudy_engines::vectors::{ecdsa_keys, rsa_keys};

use super::{TestDriver, counter, driver, pattern};

const FAILED: u8 = status::PUBLIC_KEY;

/// A number as so many bytes.
fn wide(number: &[u8], len: usize) -> Vec<u8> {
    let digits = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    [vec![0; len - digits.len()], digits.to_vec()].concat()
}

fn call(
    driver: &mut TestDriver,
    function: u32,
    operands: Vec<Vec<u8>>,
    results: Vec<usize>,
) -> Result<Vec<Vec<u8>>, (u8, i8)> {
    let (response, found) = driver.public_key(&PublicKey { function, operands, results }).unwrap();
    assert_eq!((response.service(), response.flags()), (3, 0x80));
    match (response.status(), response.error()) {
        (0, 0) => Ok(found),
        failure => {
            assert!(found.iter().flatten().all(|byte| *byte == 0xa5), "a failure wrote results");
            Err(failure)
        }
    }
}

/// The integers of a DER sequence of integers.
fn integers(der: &[u8]) -> Vec<Vec<u8>> {
    fn split(der: &[u8]) -> (&[u8], &[u8]) {
        let (len, rest) = match usize::from(der[1]) {
            len @ 0..0x80 => (len, &der[2..]),
            count => {
                let (digits, rest) = der[2..].split_at(count - 0x80);
                (digits.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
        };
        rest.split_at(len)
    }
    let (mut rest, _) = split(der);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (integer, next) = split(rest);
        found.push(integer.to_vec());
        rest = next;
    }
    found
}

#[test]
fn published_rsa_signatures() {
    let mut driver = driver();
    let (mut lengths, mut crt) = (Vec::new(), 0);
    for key in rsa_keys().unwrap() {
        let [modulus, exponent] = integers(&key.public_key).try_into().unwrap();
        let modulus_len = modulus.len() - usize::from(modulus[0] == 0);
        let Some((len, functions)) = RSA.iter().find(|(len, _)| *len == modulus_len) else {
            continue;
        };
        let [encrypt, decrypt, decrypt_crt] = *functions;
        let done = lengths.iter().filter(|done| *done == len).count();
        let signatures = key.signatures.iter().filter(|signature| signature.valid);
        for signature in signatures.take(if done > 1 { 0 } else { 2 }) {
            let signature = wide(&signature.signature, *len);
            let operands = vec![signature.clone(), wide(&exponent, *len), wide(&modulus, *len)];
            let padded = call(&mut driver, encrypt, operands, vec![*len]).unwrap().remove(0);
            assert_eq!(padded[..8], [0, 1, 255, 255, 255, 255, 255, 255], "{}", key.name);
            lengths.push(*len);
            if key.private_key.is_empty() {
                continue;
            }
            let private = integers(&key.private_key);
            let operands = vec![padded.clone(), wide(&private[3], *len), wide(&modulus, *len)];
            assert_eq!(
                call(&mut driver, decrypt, operands, vec![*len]),
                Ok(vec![signature.clone()])
            );
            if private[4].len() == 1 {
                // This source does not tell the primes.
                continue;
            }
            crt += 1;
            let half = |at: usize| wide(&private[at], len / 2);
            let operands = vec![padded, half(4), half(5), half(6), half(7), half(8)];
            assert_eq!(call(&mut driver, decrypt_crt, operands, vec![*len]), Ok(vec![signature]));
        }
    }
    assert!([128, 256, 384, 512].iter().all(|len| lengths.contains(len)), "{lengths:?}");
    assert!(crt > 0);
}

#[test]
fn both_sides_of_diffie_hellman_agree() {
    // The modulus of RFC 3526 §3 (2048 bits); `PKE_DH_2048` and `PKE_DH_G2_2048`.
    let modulus = hex::decode(MODP_2048).unwrap();
    let mut driver = driver();
    let (a, b) = (pattern(256, 1), pattern(256, 2));
    let mut base = vec![0; 256];
    base[255] = 2;
    let mut with =
        |function, operands| call(&mut driver, function, operands, vec![256]).unwrap().remove(0);
    let public_a = with(0x3e0b_1a55, vec![a.clone(), modulus.clone()]);
    let public_b = with(0x4d0c_1a60, vec![base, b.clone(), modulus.clone()]);
    let secret_a = with(0x4d0c_1a60, vec![public_b, a, modulus.clone()]);
    let secret_b = with(0x4d0c_1a60, vec![public_a, b, modulus]);
    assert_eq!(secret_a, secret_b);
    assert_ne!(secret_a, vec![0; 256]);
}

const MODP_2048: &str = "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd1\
29024e088a67cc74020bbea63b139b22514a08798e3404dd\
ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245\
e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed\
ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3d\
c2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f\
83655d23dca3ad961c62f356208552bb9ed529077096966d\
670c354e4abc9804f1746c08ca18217c32905e462e36ce3b\
e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9\
de2bcbf6955817183995497cea956ae515d2261898fa0510\
15728e5a8aacaa68ffffffffffffffff";

#[test]
fn powers_and_inverses_of_small_numbers() {
    let mut driver = driver();
    let n = |number: u8, len| wide(&[number], len);
    // `MATHS_MODEXP_L*`: 7^5 mod 11 = 10.
    for (function, len) in [(0x150c_2327, 64), (0x6016_2388, 320), (0x850c_23e1, 512)] {
        let operands = vec![n(7, len), n(5, len), n(11, len)];
        assert_eq!(call(&mut driver, function, operands, vec![len]), Ok(vec![n(10, len)]));
        // Any modulus above 0 will do: 7^5 mod 12 = 7, and modulo 1 there is only 0.
        for (modulus, power) in [(12, 7), (16, 7), (2, 1), (1, 0)] {
            let operands = vec![n(7, len), n(5, len), n(modulus, len)];
            assert_eq!(call(&mut driver, function, operands, vec![len]), Ok(vec![n(power, len)]));
        }
        let operands = vec![n(7, len), n(5, len), n(0, len)];
        assert_eq!(call(&mut driver, function, operands, vec![len]), Err((FAILED, 0)));
    }
    // `MATHS_MODINV_ODD_L*`, then `_EVEN_`.
    for (function, len, value, modulus, inverse) in [
        (0x0906_23f8, 16, 3, 11, 4),
        (0x4006_2434, 512, 3, 11, 4),
        (0x0906_243a, 16, 3, 16, 11),
        (0x650b_2499, 512, 3, 16, 11),
    ] {
        let operands = vec![n(value, len), n(modulus, len)];
        assert_eq!(call(&mut driver, function, operands, vec![len]), Ok(vec![n(inverse, len)]));
        // Nothing is the inverse of zero.
        let operands = vec![n(0, len), n(modulus, len)];
        assert_eq!(call(&mut driver, function, operands, vec![len]), Err((FAILED, 0)));
    }
}

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
    let [p, b, order, x, y] = digits;
    let of = |digits: &str| wide(&hex::decode(digits).unwrap(), len);
    let (p, b, order, x, y) = (of(p), of(b), of(order), of(x), of(y));
    let mut a = p.clone();
    // All of these curves have a = -3.
    a[len - 1] -= 3;
    Numbers { len, a, b, p, order, x, y, functions }
}

/// The private number of an `ECPrivateKey`: an octet string after the version.
fn private_number(der: &[u8]) -> &[u8] {
    let start = 2 + usize::from(der[1] == 0x81) + 3;
    &der[start + 2..start + 2 + usize::from(der[start + 1])]
}

fn coordinates(point: &[u8], len: usize) -> (Vec<u8>, Vec<u8>) {
    let (x, y) = point[1..].split_at(point.len() / 2);
    (wide(x, len), wide(y, len))
}

#[test]
fn published_keys_are_products_of_the_base_point() {
    let mut driver = driver();
    let mut count = 0;
    for key in ecdsa_keys().unwrap().iter().filter(|key| !key.private_key.is_empty()) {
        let n = numbers(key.curve);
        let [multiply, verify, ..] = n.functions;
        let d = wide(private_number(&key.private_key), n.len);
        let (x, y) = coordinates(&key.public_key, n.len);
        let one = wide(&[1], n.len);
        let operands = vec![d, n.x, n.y, n.a.clone(), n.b.clone(), n.p.clone(), one];
        let found = call(&mut driver, multiply, operands, vec![n.len; 2]);
        assert_eq!(found, Ok(vec![x.clone(), y.clone()]), "{}", key.name);

        let operands = vec![x.clone(), y.clone(), n.p.clone(), n.a.clone(), n.b.clone()];
        assert_eq!(call(&mut driver, verify, operands, vec![]), Ok(vec![]));
        let operands = vec![y, x, n.p, n.a, n.b];
        assert_eq!(call(&mut driver, verify, operands, vec![]), Err((FAILED, 0)));
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn points_that_are_not_on_the_curve_are_not_multiplied() {
    let mut driver = driver();
    let n = numbers(Curve::P256);
    let one = wide(&[1], 32);
    let operands = vec![one.clone(), one.clone(), one.clone(), n.a, n.b, n.p, one];
    assert_eq!(call(&mut driver, n.functions[0], operands, vec![32; 2]), Err((FAILED, 0)));
    // And the order times the base point is no point.
    let n = numbers(Curve::P256);
    let operands = vec![n.order, n.x, n.y, n.a, n.b, n.p, wide(&[1], 32)];
    assert_eq!(call(&mut driver, n.functions[0], operands, vec![32; 2]), Err((FAILED, 0)));
}

#[test]
fn published_ecdsa_signatures() {
    let mut driver = driver();
    let mut counts = [0; 3];
    for key in ecdsa_keys().unwrap() {
        let count = &mut counts[key.curve as usize];
        if *count > 5 {
            continue;
        }
        let n = numbers(key.curve);
        let (x, y) = coordinates(&key.public_key, n.len);
        for signature in key.signatures.iter().filter(|signature| signature.valid).take(3) {
            let [r, s] = integers(&signature.signature).try_into().unwrap();
            // The leftmost bits of the digest, as many as the order has.
            let order_len = n.order.iter().skip_while(|byte| **byte == 0).count();
            let cut = signature.digest.len().min(order_len);
            let e = wide(&signature.digest[..cut], n.len);
            let (r, s) = (wide(&r, n.len), wide(&s, n.len));
            let verify = |driver: &mut TestDriver, e: &[u8]| {
                let parts = [&n.p[..], &n.b, &n.a, &y, &x, &n.y, &n.x, &n.order, &r, &s, e];
                call(driver, n.functions[3], vec![parts.concat()], vec![])
            };
            assert_eq!(verify(&mut driver, &e), Ok(vec![]), "{} {}", key.name, signature.name);
            let mut other = e.clone();
            other[n.len - 1] ^= 1;
            assert_eq!(verify(&mut driver, &other), Err((FAILED, 0)));
            *count += 1;
        }
    }
    assert!(counts.iter().all(|count| *count > 3), "{counts:?}");
}

/// RFC 6979 §A.2.5, with SHA-256 and the message "sample".
#[test]
fn a_published_ecdsa_signature_is_made() {
    let mut driver = driver();
    let n = numbers(Curve::P256);
    let of = |digits: &str| hex::decode(digits).unwrap();
    let d = of("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let k = of("a6e3c57dd01abe90086538398355dd4c3b17aa873382b0f24d6129493d8aad60");
    let e = of("af2bdbe1aa9b6ec1e2ade1d694f41fc71a831d0268e9891562113d8a62add1bf");
    let r = of("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716");
    let s = of("f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8");
    let with = |k: &[u8]| [&d[..], &e, k, &n.b, &n.a, &n.p, &n.order, &n.y, &n.x].concat();
    let found = call(&mut driver, n.functions[2], vec![with(&k)], vec![32; 2]);
    assert_eq!(found, Ok(vec![r, s]));
    let found = call(&mut driver, n.functions[2], vec![with(&[0; 32])], vec![32; 2]);
    assert_eq!(found, Err((FAILED, 0)));
}

#[test]
fn what_is_no_function_or_has_other_operands_is_refused() {
    const FATAL: i8 = -13;
    let mut driver = driver();
    let operands = vec![vec![1; 64]; 3];
    let found = call(&mut driver, 0x1234_5678, operands.clone(), vec![64]);
    assert_eq!(found, Err((FAILED, FATAL)));
    for (inputs, results) in [(2, vec![64]), (3, vec![]), (3, vec![64; 2]), (0, vec![64])] {
        let found = call(&mut driver, 0x150c_2327, operands[..inputs].to_vec(), results);
        assert_eq!(found, Err((FAILED, 0)));
    }
    assert_eq!(counter(&mut driver, "public_key.errors"), 5);
    assert_eq!(counter(&mut driver, "public_key.requests"), 5);
}

#[test]
fn operands_out_of_reach_are_errors() {
    const ENDPOINT: i8 = -17;
    let mut driver = driver();
    let operands = vec![vec![1; 64]; 3];
    let request = PublicKey { function: 0x150c_2327, operands, results: vec![64] };
    let response = driver.run(0, &request.encode(77, 0x10, 0x20)).unwrap();
    assert_eq!((response.status(), response.error()), (FAILED, ENDPOINT));
    assert_eq!(response.opaque(), 77);
}
