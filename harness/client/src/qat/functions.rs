//! Functions of the public-key service, and the numbers of the curves that some work on
//! (`icp_qat_fw_mmp_ids.h`).

/// `PKE_RSA_EP_*`, `_DP1_*` and `_DP2_*` by modulus length in bytes.
pub const RSA: [(usize, [u32; 3]); 6] = [
    (64, [0x1c16_1b21, 0x1c16_1b3c, 0x1c13_1b57]),
    (128, [0x3511_1bf7, 0x3511_1c12, 0x2613_1c2d]),
    (192, [0x4d11_1cdc, 0x4d11_1cf7, 0x4511_1d12]),
    (256, [0x6e11_1dba, 0x6e11_1dda, 0x5912_1dfa]),
    (384, [0x7d11_1ea3, 0x7d11_1ebe, 0x8112_1ed9]),
    (512, [0xa510_1f7e, 0xa510_1f98, 0xb111_1fb2]),
];

/// A curve over a prime field with a = -3, and its functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Curve {
    /// Bytes of each number.
    pub len: usize,
    /// Multiplication, point verification, signature, signature verification.
    pub functions: [u32; 4],
    /// p, b, n, x and y in hexadecimal (SP 800-186 §3.2.1).
    pub digits: [&'static str; 5],
}

/// P-256.
pub const P256: Curve = Curve {
    len: 32,
    functions: [0x4320_33a6, 0x1f0c_33fc, 0x6a3c_2fa6, 0x325b_3023],
    digits: [
        "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
        "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    ],
};

/// P-384.
pub const P384: Curve = Curve {
    len: 64,
    functions: [0x4125_3419, 0x2612_345c, 0x5a2b_3127, 0x3553_318a],
    digits: [
        "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
        "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
        "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
    ],
};

/// P-521.
pub const P521: Curve = Curve {
    len: 72,
    functions: [0x5511_346e, 0x0e07_34be, 0x494a_329b, 0x554c_331f],
    digits: [
        "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
     ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109\
     e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa\
     51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
        "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3d\
     baa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66",
        "011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e66\
     2c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650",
    ],
};
