//! Modular arithmetic, RSA and Diffie-Hellman (`icp_qat_fw_mmp_ids.h`).

use understudy_client::platform::Platform;
use understudy_client::qat::functions::RSA;
use understudy_client::qat::{PublicKey, status};
use understudy_engines::vectors::{RsaKey, rsa_keys};

use super::{PUBLIC_KEY, Qat, pattern, started};
use crate::verdict::{expect, expect_bytes, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qat/public-key":
    [1, "RSA encryption of published signatures, at every length that there are keys of", "DPDK icp_qat_fw_mmp_ids.h, PKE_RSA_EP_*", |ctx| rsa(ctx, Way::Encrypt)],
    [2, "RSA decryption makes the published signatures again", "DPDK icp_qat_fw_mmp_ids.h, PKE_RSA_DP1_*", |ctx| rsa(ctx, Way::Decrypt)],
    [3, "RSA decryption with the Chinese remainder theorem makes them too", "DPDK icp_qat_fw_mmp_ids.h, PKE_RSA_DP2_*", |ctx| rsa(ctx, Way::Crt)],
    [4, "Both sides of Diffie-Hellman agree, in the group of RFC 3526", "Linux qat_asym_algs.c, qat_dh_compute_value; DPDK icp_qat_fw_mmp_ids.h, PKE_DH_2048", diffie_hellman],
    [5, "Powers to the base 2 are those of the general function", "Linux qat_asym_algs.c, qat_dh_fn_id (g2); DPDK icp_qat_fw_mmp_ids.h, PKE_DH_G2_*", base_two],
    [6, "Modular exponentiation at every length", "DPDK icp_qat_fw_mmp_ids.h, MATHS_MODEXP_L*", powers],
    [7, "Modular inversion at every length, for odd and for even moduli", "DPDK icp_qat_fw_mmp_ids.h, MATHS_MODINV_ODD_L*, MATHS_MODINV_EVEN_L*", inverses],
    [8, "A response has its own form: status bits, opaque value, addresses of the tables", "Linux icp_qat_fw_pke.h, icp_qat_fw_pke_resp", response],
    [9, "Results are as long as the modulus, with leading zeros", "Linux qat_asym_algs.c, qat_rsa_cb (dst_len is the key's length)", leading_zeros],
    [10, "Modular exponentiation takes even moduli, and 1", "qatlib icp_qat_fw_mmp.h, icp_qat_fw_maths_modexp_l512_input_s (modulus > 0); cpa_cy_ln.h, CpaCyLnModExpOpData", any_modulus],
);

/// What a function gives, or the status and error code of its response.
type Answer = Result<Vec<Vec<u8>>, (u8, i8)>;

/// Runs a function.
pub(super) fn call(
    driver: &mut Qat,
    function: u32,
    operands: Vec<Vec<u8>>,
    results: Vec<usize>,
) -> Result<Answer, Stop> {
    let (response, found) = driver.public_key(&PublicKey { function, operands, results })?;
    super::well_formed(&response)?;
    expect_eq("the type of the response", &response.service(), &3)?;
    Ok(match response.status() {
        0 => Ok(found),
        status => Err((status, response.error())),
    })
}

/// As [`call`], of what must succeed with one result.
pub(super) fn value(
    driver: &mut Qat,
    function: u32,
    operands: Vec<Vec<u8>>,
    len: usize,
) -> Result<Vec<u8>, Stop> {
    match call(driver, function, operands, vec![len])? {
        Ok(mut results) => Ok(results.pop().unwrap_or_default()),
        Err((status, _)) => {
            let what = format!("function {function:#x} to succeed");
            Err(Stop::fail(what, format!("status {status:#x}")))
        }
    }
}

/// The function must fail, with the status bit of its service.
pub(super) fn fails(
    driver: &mut Qat,
    function: u32,
    operands: Vec<Vec<u8>>,
    results: Vec<usize>,
    what: &str,
) -> Outcome {
    match call(driver, function, operands, results)? {
        Ok(_) => Err(Stop::fail(format!("{what}: a failure"), "success")),
        Err((found, _)) => {
            crate::log::refused(format!("{what}, with status {found:#x}"));
            let bits = found & status::PUBLIC_KEY;
            expect_hex(&format!("{what}: the status"), bits, status::PUBLIC_KEY)
        }
    }
}

/// A number as so many bytes.
pub(super) fn wide(number: &[u8], len: usize) -> Vec<u8> {
    let digits = number.get(number.iter().take_while(|byte| **byte == 0).count()..);
    let digits = digits.unwrap_or_default();
    [vec![0; len.saturating_sub(digits.len())], digits.to_vec()].concat()
}

/// Head and body of a DER value, and what follows.
fn split(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match usize::from(*der.get(1)?) {
        len @ 0..0x80 => (len, der.get(2..)?),
        count => {
            let (digits, rest) = der.get(2..)?.split_at_checked(count - 0x80)?;
            (digits.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
    };
    rest.split_at_checked(len)
}

/// The integers of a DER sequence of integers.
pub(super) fn integers(der: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = split(der).map_or(&[][..], |(body, _)| body);
    while let Some((integer, next)) = split(rest) {
        found.push(integer.to_vec());
        rest = next;
    }
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Encrypt,
    Decrypt,
    Crt,
}

/// A key of a length that there are functions of.
struct Numbers {
    len: usize,
    functions: [u32; 3],
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    /// The private key's numbers, as far as the source tells.
    private: Vec<Vec<u8>>,
}

fn numbers(key: &RsaKey) -> Option<Numbers> {
    let public = integers(&key.public_key);
    let [modulus, exponent] = public.as_slice() else { return None };
    let len = modulus.iter().skip_while(|byte| **byte == 0).count();
    let (_, functions) = RSA.iter().find(|(known, _)| *known == len)?;
    let private = integers(&key.private_key);
    let (modulus, exponent) = (modulus.clone(), exponent.clone());
    Some(Numbers { len, functions: *functions, modulus, exponent, private })
}

fn rsa(ctx: &mut Context<'_>, way: Way) -> Outcome {
    let mut driver = started(ctx)?;
    let mut done: Vec<usize> = Vec::new();
    let keys = rsa_keys().map_err(|error| Stop::skip(format!("vectors: {error}")))?;
    for key in &keys {
        let Some(Numbers { len, functions, modulus, exponent, private }) = numbers(key) else {
            continue;
        };
        let [encrypt, decrypt, crt] = functions;
        // The 0th number is a version; the 4th is a prime, if the source tells.
        let knows = match way {
            Way::Encrypt => true,
            Way::Decrypt => private.len() > 3,
            Way::Crt => private.len() > 8 && private[4].len() > 1,
        };
        if !knows || done.iter().filter(|it| **it == len).count() > 1 {
            continue;
        }
        let Some(signature) = key.signatures.iter().find(|it| it.valid) else { continue };
        let signature = wide(&signature.signature, len);
        let operands = vec![signature.clone(), wide(&exponent, len), wide(&modulus, len)];
        let one = || {
            let padded = value(&mut driver, encrypt, operands, len)?;
            expect_bytes(
                "the padding",
                padded.get(..8).unwrap_or_default(),
                &[0, 1, 255, 255, 255, 255, 255, 255],
            )?;
            let half = |at: usize| wide(&private[at], len / 2);
            let (function, operands) = match way {
                Way::Encrypt => return Ok(()),
                Way::Decrypt => {
                    (decrypt, vec![padded, wide(&private[3], len), wide(&modulus, len)])
                }
                Way::Crt => (crt, vec![padded, half(4), half(5), half(6), half(7), half(8)]),
            };
            expect_bytes("the signature", &value(&mut driver, function, operands, len)?, &signature)
        };
        one().map_err(|stop| stop.during(&key.name))?;
        done.push(len);
    }
    expect(!done.is_empty(), "keys of lengths that there are", || "none".into())
}

/// RFC 3526 §3: 2048 bits.
const MODP_2048: &str = "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd1\
    29024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
    4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5\
    ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f\
    83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c\
    32905e462e36ce3be39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf695581718\
    3995497cea956ae515d2261898fa051015728e5a8aacaa68ffffffffffffffff";
const DH_2048: u32 = 0x4d0c_1a60;

fn diffie_hellman(ctx: &mut Context<'_>) -> Outcome {
    let modulus = hex::decode(MODP_2048).unwrap_or_default();
    let mut driver = started(ctx)?;
    let (a, b, base) = (pattern(256, 1), pattern(256, 2), wide(&[2], 256));
    let mut with = |base: &[u8], exponent: &[u8]| {
        let operands = vec![base.to_vec(), exponent.to_vec(), modulus.clone()];
        value(&mut driver, DH_2048, operands, 256)
    };
    let (public_a, public_b) = (with(&base, &a)?, with(&base, &b)?);
    let (secret_a, secret_b) = (with(&public_b, &a)?, with(&public_a, &b)?);
    expect_bytes("the other side's secret", &secret_a, &secret_b)?;
    let trivial = secret_a.iter().all(|byte| *byte == 0) || public_a == public_b;
    expect(!trivial, "secrets that are none by chance", || "a trivial one".into())
}

/// `PKE_DH_*` and `PKE_DH_G2_*` by length in bytes.
const DH: [(usize, u32, u32); 6] = [
    (96, 0x210c_1a1b, 0x1c0b_1a10),
    (128, 0x290c_1a32, 0x220b_1a27),
    (192, 0x390c_1a49, 0x2e0b_1a3e),
    (256, DH_2048, 0x3e0b_1a55),
    (384, 0x510c_1a77, 0x3a0b_1a6c),
    (512, 0x690c_1a8e, 0x4a0b_1a83),
];

fn base_two(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for (len, general, two) in DH {
        let mut modulus = pattern(len, 0x81);
        modulus[len - 1] |= 1;
        let exponent = wide(&pattern(12, 9), len);
        let operands = vec![wide(&[2], len), exponent.clone(), modulus.clone()];
        let wanted = value(&mut driver, general, operands, len)?;
        let found = value(&mut driver, two, vec![exponent, modulus], len)?;
        expect_bytes(&format!("the power of {len} bytes"), &found, &wanted)?;
        // Below the modulus, powers of two are plain to see.
        let operands = vec![wide(&[77], len), vec![0xff; len]];
        let found = value(&mut driver, two, operands, len)?;
        let wanted = wide(&[&[0x20][..], &[0; 9]].concat(), len);
        expect_bytes("two to the 77th", &found, &wanted)?;
    }
    Ok(())
}

const MODEXP: [(usize, u32); 8] = [
    (64, 0x150c_2327),
    (128, 0x2d0c_233e),
    (192, 0x410c_2355),
    (256, 0x5e12_236c),
    (320, 0x6016_2388),
    (384, 0x650c_23a9),
    (448, 0x8016_23c0),
    (512, 0x850c_23e1),
];

fn powers(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for (len, function) in MODEXP {
        let n = |number: &[u8]| wide(number, len);
        for (base, exponent, modulus, wanted) in [
            (&[7][..], &[5][..], &[11][..], &[10][..]),
            (&[0], &[5], &[11], &[0]),
            (&[7], &[0], &[11], &[1]),
            (&[18], &[5], &[11], &[10]),
            // Fermat: 2^65536 modulo 65537.
            (&[2], &[1, 0, 0], &[1, 0, 1], &[1]),
        ] {
            let found = value(&mut driver, function, vec![n(base), n(exponent), n(modulus)], len)?;
            expect_bytes(&format!("a power of {len} bytes"), &found, &n(wanted))?;
        }
    }
    Ok(())
}

fn any_modulus(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for (len, function) in MODEXP {
        let n = |number: u64| wide(&number.to_be_bytes(), len);
        let (base, exponent) = (0x0123_4567_89ab_cdef, 0xfedc_ba98);
        for base in [base, base + 1] {
            for modulus in [1, 2, 12, 1 << 40, 3 << 33, 10_u64.pow(19), u64::MAX - 1] {
                let wanted = n(power(base, exponent, modulus));
                let operands = vec![n(base), n(exponent), n(modulus)];
                let found = value(&mut driver, function, operands, len)?;
                expect_bytes(&format!("a power modulo {modulus}"), &found, &wanted)?;
            }
        }
    }
    Ok(())
}

/// By repeated squaring.
fn power(base: u64, exponent: u64, modulus: u64) -> u64 {
    let (base, modulus) = (u128::from(base), u128::from(modulus));
    let power = (0..u64::BITS).rev().fold(1 % modulus, |power, bit| {
        let square = power * power % modulus;
        if exponent >> bit & 1 == 0 { square } else { square * (base % modulus) % modulus }
    });
    u64::try_from(power).unwrap_or(u64::MAX)
}

const MODINV: [(usize, u32, u32); 11] = [
    (16, 0x0906_23f8, 0x0906_243a),
    (24, 0x0a06_23fe, 0x0a06_2440),
    (32, 0x0a06_2404, 0x0a06_2446),
    (48, 0x0b06_240a, 0x0e0b_244c),
    (64, 0x0c06_2410, 0x110b_2457),
    (96, 0x0e06_2416, 0x170b_2462),
    (128, 0x1006_241c, 0x1d0b_246d),
    (192, 0x1806_2422, 0x290b_2478),
    (256, 0x2006_2428, 0x350b_2483),
    (384, 0x3006_242e, 0x4d0b_248e),
    (512, 0x4006_2434, 0x650b_2499),
];

fn inverses(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for (len, odd, even) in MODINV {
        let n = |number: u8| wide(&[number], len);
        for (function, number, modulus, wanted) in
            [(odd, 3, 11, 4), (odd, 250, 251, 250), (even, 3, 16, 11)]
        {
            let found = value(&mut driver, function, vec![n(number), n(modulus)], len)?;
            expect_bytes(&format!("an inverse of {len} bytes"), &found, &n(wanted))?;
        }
        fails(&mut driver, odd, vec![n(0), n(11)], vec![len], "the inverse of 0")?;
        fails(&mut driver, even, vec![n(4), n(16)], vec![len], "the inverse of a divisor")?;
    }
    Ok(())
}

fn response(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let memory = driver.platform.dma_alloc(4096, 4096)?;
    let number = |value: u8| wide(&[value], 64);
    for (at, bytes) in [(0, number(7)), (64, number(5)), (128, number(11))] {
        driver.platform.dma_write(memory.at(at), &bytes)?;
    }
    let table: Vec<u8> = [0, 64, 128].iter().flat_map(|at| memory.at(*at).to_le_bytes()).collect();
    driver.platform.dma_write(memory.at(512), &table)?;
    driver.platform.dma_write(memory.at(1024), &memory.at(2048).to_le_bytes())?;
    let request = PublicKey { function: 0x150c_2327, operands: vec![vec![]; 3], results: vec![64] };
    let message = request.encode(0x55, memory.at(512), memory.at(1024));
    let found = driver.run(PUBLIC_KEY, &message)?;
    let mut wanted = vec![0, 0, 3, 0x80, 0, 0, 0, 0];
    for word in [0x55, memory.at(512), memory.at(1024)] {
        wanted.extend(word.to_le_bytes());
    }
    expect_bytes("the response", &found.bytes, &wanted)?;
    let mut result = [0; 64];
    driver.platform.dma_read(memory.at(2048), &mut result)?;
    expect_bytes("the result", &result, &number(10))
}

fn leading_zeros(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for (len, [encrypt, ..]) in RSA {
        // 3^5 = 243 below any modulus; the room is full of other bytes before.
        let operands = vec![wide(&[3], len), wide(&[5], len), vec![0xff; len]];
        let found = value(&mut driver, encrypt, operands, len)?;
        expect_bytes(&format!("the result of {len} bytes"), &found, &wide(&[243], len))?;
    }
    Ok(())
}
