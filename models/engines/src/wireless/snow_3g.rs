//! SNOW 3G.

use super::words;

/// `x⁸ + x⁷ + x⁵ + x³ + 1`, over which α's field is built.
const ALPHA: u8 = 0xa9;
/// The polynomials of the two S-boxes' MixColumn steps, without their leading term.
const MIX_1: u8 = 0x1b;
const MIX_2: u8 = 0x69;

const fn times_x(value: u8, polynomial: u8) -> u8 {
    (value << 1) ^ if value & 0x80 != 0 { polynomial } else { 0 }
}

const fn times_x_to(mut value: u8, power: usize, polynomial: u8) -> u8 {
    let mut step = 0;
    while step < power {
        value = times_x(value, polynomial);
        step += 1;
    }
    value
}

const fn multiply(mut a: u8, mut b: u8, polynomial: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = times_x(a, polynomial);
        b >>= 1;
    }
    product
}

const fn power(mut base: u8, mut exponent: u32, polynomial: u8) -> u8 {
    let mut result = 1;
    while exponent != 0 {
        if exponent & 1 != 0 {
            result = multiply(result, base, polynomial);
        }
        base = multiply(base, base, polynomial);
        exponent >>= 1;
    }
    result
}

/// Rijndael's S-box: the inverse, then an affine map.
const fn s_1(value: u8) -> u8 {
    let v = power(value, 254, MIX_1);
    v ^ v.rotate_left(1) ^ v.rotate_left(2) ^ v.rotate_left(3) ^ v.rotate_left(4) ^ 0x63
}

/// A Dickson polynomial.
const fn s_2(value: u8) -> u8 {
    const EXPONENTS: [u32; 9] = [1, 9, 13, 15, 33, 41, 45, 47, 49];
    let (mut sum, mut at) = (0x25, 0);
    while at < EXPONENTS.len() {
        sum ^= power(value, EXPONENTS[at], MIX_2);
        at += 1;
    }
    sum
}

/// An S-box, then its MixColumn step, for the first byte of a word; others are rotations of it.
const fn mixed(second: bool) -> [u32; 256] {
    let mut table = [0; 256];
    let mut value = 0_usize;
    while value < 256 {
        let byte = value.to_le_bytes()[0];
        let (s, mix) = if second { (s_2(byte), MIX_2) } else { (s_1(byte), MIX_1) };
        let doubled = times_x(s, mix);
        table[value] = u32::from_be_bytes([doubled, doubled ^ s, s, s]);
        value += 1;
    }
    table
}

const fn alpha(powers: [usize; 4]) -> [u32; 256] {
    let mut table = [0; 256];
    let mut value = 0_usize;
    while value < 256 {
        let byte = value.to_le_bytes()[0];
        table[value] = u32::from_be_bytes([
            times_x_to(byte, powers[0], ALPHA),
            times_x_to(byte, powers[1], ALPHA),
            times_x_to(byte, powers[2], ALPHA),
            times_x_to(byte, powers[3], ALPHA),
        ]);
        value += 1;
    }
    table
}

static S_1: [u32; 256] = mixed(false);
static S_2: [u32; 256] = mixed(true);
static TIMES_ALPHA: [u32; 256] = alpha([23, 245, 48, 239]);
static OVER_ALPHA: [u32; 256] = alpha([16, 39, 6, 64]);

fn substitute(table: &[u32; 256], word: u32) -> u32 {
    let bytes = word.to_be_bytes().map(usize::from);
    table[bytes[0]]
        ^ table[bytes[1]].rotate_right(8)
        ^ table[bytes[2]].rotate_right(16)
        ^ table[bytes[3]].rotate_right(24)
}

/// The generator: a shift register of 16 words and three registers of the state machine.
pub(super) struct Generator {
    s: [u32; 16],
    r: [u32; 3],
}

impl Generator {
    pub(super) fn new(key: &[u8; 16], iv: &[u8; 16]) -> Self {
        // The documents number words from the end.
        let ([k3, k2, k1, k0], [iv3, iv2, iv1, iv0]) = (words(key), words(iv));
        let s = [
            !k0,
            !k1,
            !k2,
            !k3,
            k0,
            k1,
            k2,
            k3, // 0 to 7
            !k0,
            !k1 ^ iv3,
            !k2 ^ iv2,
            !k3,
            k0 ^ iv1,
            k1,
            k2,
            k3 ^ iv0,
        ];
        let mut generator = Self { s, r: [0; 3] };
        for _ in 0..32 {
            let f = generator.clock_machine();
            generator.clock_register(f);
        }
        generator.clock_machine();
        generator.clock_register(0);
        generator
    }

    fn clock_machine(&mut self) -> u32 {
        let [r1, r2, r3] = self.r;
        let f = self.s[15].wrapping_add(r1) ^ r2;
        self.r = [r2.wrapping_add(r3 ^ self.s[5]), substitute(&S_1, r1), substitute(&S_2, r2)];
        f
    }

    fn clock_register(&mut self, f: u32) {
        let [top, ..] = self.s[0].to_be_bytes();
        let [bottom, ..] = self.s[11].to_le_bytes();
        let feedback = (self.s[0] << 8)
            ^ TIMES_ALPHA[usize::from(top)]
            ^ self.s[2]
            ^ (self.s[11] >> 8)
            ^ OVER_ALPHA[usize::from(bottom)]
            ^ f;
        self.s.rotate_left(1);
        self.s[15] = feedback;
    }

    /// The next word of the key stream.
    pub(super) fn word(&mut self) -> u32 {
        let word = self.clock_machine() ^ self.s[0];
        self.clock_register(0);
        word
    }
}

/// Multiplies in the field of 2⁶⁴ elements with `x⁶⁴ + x⁴ + x³ + x + 1`.
fn multiply_64(mut value: u64, mut by: u64) -> u64 {
    let mut product = 0;
    while by != 0 {
        if by & 1 != 0 {
            product ^= value;
        }
        value = (value << 1) ^ if value >> 63 != 0 { 0x1b } else { 0 };
        by >>= 1;
    }
    product
}

/// UIA2.
pub(super) fn mac(key: &[u8; 16], iv: &[u8; 16], data: &[u8]) -> u32 {
    let mut generator = Generator::new(key, iv);
    let mut pair = || u64::from(generator.word()) << 32 | u64::from(generator.word());
    let (p, q) = (pair(), pair());
    let mut sum = 0;
    for chunk in data.chunks(8) {
        let mut block = [0; 8];
        block.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        sum = multiply_64(sum ^ u64::from_be_bytes(block), p);
    }
    sum = multiply_64(sum ^ (data.len() as u64) << 3, q);
    let [a, b, c, d, ..] = sum.to_be_bytes();
    u32::from_be_bytes([a, b, c, d]) ^ generator.word()
}
