//! The public-key service (`icp_qat_fw_pke.h`, `icp_qat_fw_mmp_ids.h`).
//!
//! A request names a function and has two tables of addresses: of its operands and of its results.
//! All are big-endian numbers of the lengths that the function's name says.

use understudy_device::{Bus, FinishedJob, Job};
use understudy_engines::modular::{self, RsaCrt};
use understudy_engines::weierstrass::{Base, Curve};
use zerocopy::little_endian::U64;
use zerocopy::{FromZeros, IntoBytes};

use super::Failure;
use crate::layout::{PublicKeyRequest, Response};

/// Entries of a table, at most: drivers make them of this size.
const MAX_OPERANDS: usize = 8;

/// What a function computes. Lengths are those of its numbers in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    /// Base, exponent, modulus: RSA, Diffie-Hellman and plain exponentiation.
    Power(usize),
    /// Exponent and modulus, to the base 2.
    PowerOfTwo(usize),
    /// Value and modulus.
    Inverse(usize),
    /// Ciphertext, then p, q, dp, dq and the inverse of q, half as long.
    RsaCrt(usize),
    /// k, x, y, a, b, p, h.
    PointMultiply(usize),
    /// x, y, p, a, b.
    PointVerify(usize),
    /// d, e, k, b, a, p, n, y, x in one buffer.
    EcdsaSign(usize),
    /// p, b, a, y, x of the key, y, x of the base, n, r, s, e in one buffer.
    EcdsaVerify(usize),
}

/// Numbers in the buffer of a signature and of its verification.
const SIGN_NUMBERS: usize = 9;
const VERIFY_NUMBERS: usize = 11;

/// The functions that Linux and DPDK use, and their neighbours of other lengths.
const FUNCTIONS: &[(u32, Function)] = &[
    // PKE_DH_*
    (0x210c_1a1b, Function::Power(96)),
    (0x290c_1a32, Function::Power(128)),
    (0x390c_1a49, Function::Power(192)),
    (0x4d0c_1a60, Function::Power(256)),
    (0x510c_1a77, Function::Power(384)),
    (0x690c_1a8e, Function::Power(512)),
    // PKE_DH_G2_*
    (0x1c0b_1a10, Function::PowerOfTwo(96)),
    (0x220b_1a27, Function::PowerOfTwo(128)),
    (0x2e0b_1a3e, Function::PowerOfTwo(192)),
    (0x3e0b_1a55, Function::PowerOfTwo(256)),
    (0x3a0b_1a6c, Function::PowerOfTwo(384)),
    (0x4a0b_1a83, Function::PowerOfTwo(512)),
    // PKE_RSA_EP_*
    (0x1c16_1b21, Function::Power(64)),
    (0x3511_1bf7, Function::Power(128)),
    (0x4d11_1cdc, Function::Power(192)),
    (0x6e11_1dba, Function::Power(256)),
    (0x7d11_1ea3, Function::Power(384)),
    (0xa510_1f7e, Function::Power(512)),
    // PKE_RSA_DP1_*
    (0x1c16_1b3c, Function::Power(64)),
    (0x3511_1c12, Function::Power(128)),
    (0x4d11_1cf7, Function::Power(192)),
    (0x6e11_1dda, Function::Power(256)),
    (0x7d11_1ebe, Function::Power(384)),
    (0xa510_1f98, Function::Power(512)),
    // PKE_RSA_DP2_*
    (0x1c13_1b57, Function::RsaCrt(64)),
    (0x2613_1c2d, Function::RsaCrt(128)),
    (0x4511_1d12, Function::RsaCrt(192)),
    (0x5912_1dfa, Function::RsaCrt(256)),
    (0x8112_1ed9, Function::RsaCrt(384)),
    (0xb111_1fb2, Function::RsaCrt(512)),
    // MATHS_MODEXP_L*
    (0x150c_2327, Function::Power(64)),
    (0x2d0c_233e, Function::Power(128)),
    (0x410c_2355, Function::Power(192)),
    (0x5e12_236c, Function::Power(256)),
    (0x6016_2388, Function::Power(320)),
    (0x650c_23a9, Function::Power(384)),
    (0x8016_23c0, Function::Power(448)),
    (0x850c_23e1, Function::Power(512)),
    // MATHS_MODINV_ODD_L*
    (0x0906_23f8, Function::Inverse(16)),
    (0x0a06_23fe, Function::Inverse(24)),
    (0x0a06_2404, Function::Inverse(32)),
    (0x0b06_240a, Function::Inverse(48)),
    (0x0c06_2410, Function::Inverse(64)),
    (0x0e06_2416, Function::Inverse(96)),
    (0x1006_241c, Function::Inverse(128)),
    (0x1806_2422, Function::Inverse(192)),
    (0x2006_2428, Function::Inverse(256)),
    (0x3006_242e, Function::Inverse(384)),
    (0x4006_2434, Function::Inverse(512)),
    // MATHS_MODINV_EVEN_L*
    (0x0906_243a, Function::Inverse(16)),
    (0x0a06_2440, Function::Inverse(24)),
    (0x0a06_2446, Function::Inverse(32)),
    (0x0e0b_244c, Function::Inverse(48)),
    (0x110b_2457, Function::Inverse(64)),
    (0x170b_2462, Function::Inverse(96)),
    (0x1d0b_246d, Function::Inverse(128)),
    (0x290b_2478, Function::Inverse(192)),
    (0x350b_2483, Function::Inverse(256)),
    (0x4d0b_248e, Function::Inverse(384)),
    (0x650b_2499, Function::Inverse(512)),
    // MATHS_POINT_MULTIPLICATION_GFP_*
    (0x4320_33a6, Function::PointMultiply(32)),
    (0x4125_3419, Function::PointMultiply(64)),
    (0x5511_346e, Function::PointMultiply(72)),
    // MATHS_POINT_VERIFY_GFP_*
    (0x1f0c_33fc, Function::PointVerify(32)),
    (0x2612_345c, Function::PointVerify(64)),
    (0x0e07_34be, Function::PointVerify(72)),
    // PKE_ECDSA_SIGN_RS_GFP_*
    (0x6a3c_2fa6, Function::EcdsaSign(32)),
    (0x5a2b_3127, Function::EcdsaSign(64)),
    (0x494a_329b, Function::EcdsaSign(72)),
    // PKE_ECDSA_VERIFY_GFP_*
    (0x325b_3023, Function::EcdsaVerify(32)),
    (0x3553_318a, Function::EcdsaVerify(64)),
    (0x554c_331f, Function::EcdsaVerify(72)),
];

impl Function {
    fn of(id: u32) -> Option<Self> {
        FUNCTIONS.iter().find(|(known, _)| *known == id).map(|(_, function)| *function)
    }

    /// Lengths of the operands in bytes.
    fn operands(self) -> Vec<usize> {
        match self {
            Self::Power(len) => vec![len; 3],
            Self::PowerOfTwo(len) | Self::Inverse(len) => vec![len; 2],
            Self::RsaCrt(len) => [len].into_iter().chain([len / 2; 5]).collect(),
            Self::PointMultiply(len) => vec![len; 7],
            Self::PointVerify(len) => vec![len; 5],
            Self::EcdsaSign(len) => vec![len * SIGN_NUMBERS],
            Self::EcdsaVerify(len) => vec![len * VERIFY_NUMBERS],
        }
    }

    fn results(self) -> usize {
        match self {
            Self::Power(_) | Self::PowerOfTwo(_) | Self::Inverse(_) | Self::RsaCrt(_) => 1,
            Self::PointMultiply(_) | Self::EcdsaSign(_) => 2,
            Self::PointVerify(_) | Self::EcdsaVerify(_) => 0,
        }
    }

    fn compute(self, operands: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Failure> {
        let operands: Vec<&[u8]> = operands.iter().map(Vec::as_slice).collect();
        match (self, operands.as_slice()) {
            (Self::Power(_), [base, exponent, modulus]) => {
                Ok(vec![modular::power(base, exponent, modulus)?])
            }
            (Self::PowerOfTwo(_), [exponent, modulus]) => {
                Ok(vec![modular::power(&[2], exponent, modulus)?])
            }
            (Self::Inverse(_), [value, modulus]) => Ok(vec![modular::inverse(value, modulus)?]),
            (Self::RsaCrt(_), [input, p, q, dp, dq, q_inverse]) => {
                let key = RsaCrt { p, q, dp, dq, q_inverse };
                Ok(vec![modular::rsa_crt(input, &key)?])
            }
            (Self::PointMultiply(_), [k, x, y, a, b, p, _cofactor]) => {
                let (x, y) = Curve::new(p, a, b)?.multiply(k, x, y)?;
                Ok(vec![x, y])
            }
            (Self::PointVerify(_), [x, y, p, a, b]) => {
                let on_curve = Curve::new(p, a, b)?.contains(x, y);
                on_curve.then(Vec::new).ok_or(Failure::Mismatch)
            }
            (Self::EcdsaSign(len), [buffer]) => sign(&numbers(buffer, len)),
            (Self::EcdsaVerify(len), [buffer]) => verify(&numbers(buffer, len)),
            _ => Err(Failure::Invalid),
        }
    }
}

fn numbers(buffer: &[u8], len: usize) -> Vec<&[u8]> {
    buffer.chunks_exact(len).collect()
}

fn sign(numbers: &[&[u8]]) -> Result<Vec<Vec<u8>>, Failure> {
    let [d, e, k, b, a, p, order, y, x] = numbers else { return Err(Failure::Invalid) };
    let (r, s) = Curve::new(p, a, b)?.sign(&Base { x, y, order }, d, k, e)?;
    Ok(vec![r, s])
}

fn verify(numbers: &[&[u8]]) -> Result<Vec<Vec<u8>>, Failure> {
    let [p, b, a, y_key, x_key, y, x, order, r, s, e] = numbers else {
        return Err(Failure::Invalid);
    };
    Curve::new(p, a, b)?.verify(&Base { x, y, order }, (x_key, y_key), e, (r, s))?;
    Ok(Vec::new())
}

/// A request whose job is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    request: PublicKeyRequest,
    /// Addresses of the results.
    results: Vec<u64>,
    bytes: u64,
}

type Output = Result<Vec<Vec<u8>>, Failure>;

/// Reads operands and makes the job.
pub(crate) fn start(
    bus: &mut dyn Bus,
    request: &PublicKeyRequest,
) -> Result<(Job, Pending), Failure> {
    let function = Function::of(request.function.get()).ok_or(Failure::Unsupported)?;
    let lengths = function.operands();
    let counts = (usize::from(request.inputs), usize::from(request.outputs));
    if counts != (lengths.len(), function.results()) {
        return Err(Failure::Invalid);
    }
    let addresses = read_table(bus, request.source.get(), lengths.len())?;
    let results = read_table(bus, request.destination.get(), function.results())?;
    let mut operands = Vec::with_capacity(lengths.len());
    for (address, len) in addresses.iter().zip(&lengths) {
        let mut operand = vec![0; *len];
        bus.dma_read(*address, &mut operand)?;
        operands.push(operand);
    }
    let bytes: usize = lengths.iter().sum();
    let job = Job::new(move || -> Output { function.compute(&operands) });
    Ok((job.holding(bytes), Pending { request: *request, results, bytes: bytes as u64 }))
}

fn read_table(bus: &mut dyn Bus, address: u64, count: usize) -> Result<Vec<u64>, Failure> {
    let mut table = [U64::new_zeroed(); MAX_OPERANDS];
    let table = table.get_mut(..count).ok_or(Failure::Invalid)?;
    if count > 0 {
        bus.dma_read(address, table.as_mut_bytes())?;
    }
    Ok(table.iter().map(|address| address.get()).collect())
}

impl Pending {
    /// Writes the results. Returns the response, and what to count.
    pub(crate) fn finish(
        self,
        bus: &mut dyn Bus,
        done: FinishedJob,
    ) -> (Response, Result<u64, Failure>) {
        let output = done.into_output::<Output>().unwrap_or(Err(Failure::Invalid));
        let written = output.and_then(|numbers| {
            for (address, number) in self.results.iter().zip(&numbers) {
                bus.dma_write(*address, number)?;
            }
            Ok(())
        });
        let request = &self.request;
        let tables = [request.source.get(), request.destination.get()];
        let response = Response::public_key(&request.header, request.opaque, tables, written);
        (response, written.map(|()| self.bytes))
    }
}
