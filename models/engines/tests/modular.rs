//! Powers, against another implementation.
#![cfg(test)]

use num_bigint::BigUint;
use proptest::collection::vec;
use proptest::prelude::*;
use understudy_engines::Error;
use understudy_engines::modular::power;

/// A number whose lowest bits are zeros, up to all.
fn modulus() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 1..100), any::<prop::sample::Index>()).prop_map(|(bytes, zeros)| {
        let zeros = zeros.index(bytes.len() * 8);
        (BigUint::from_bytes_be(&bytes) >> zeros << zeros).to_bytes_be()
    })
}

fn expected(base: &[u8], exponent: &[u8], modulus: &[u8]) -> Vec<u8> {
    let [base, exponent, modulo] = [base, exponent, modulus].map(BigUint::from_bytes_be);
    let digits = base.modpow(&exponent, &modulo).to_bytes_be();
    let mut wide = vec![0; modulus.len()];
    // Zero has a digit too.
    wide[modulus.len() - digits.len()..].copy_from_slice(&digits);
    wide
}

proptest! {
    #[test]
    fn powers_agree_with_num_bigint(
        base in vec(any::<u8>(), 0..120),
        exponent in vec(any::<u8>(), 0..40),
        modulus in modulus(),
        zeros in 0..20_usize,
    ) {
        let modulus = [vec![0; zeros], modulus].concat();
        let found = power(&base, &exponent, &modulus);
        if modulus.iter().all(|byte| *byte == 0) {
            prop_assert_eq!(found, Err(Error::InvalidKey));
        } else {
            prop_assert_eq!(found.unwrap(), expected(&base, &exponent, &modulus));
        }
    }

    #[test]
    fn small_powers_agree_with_num_bigint(
        base in 0..20_u8,
        exponent in 0..20_u8,
        modulus in 1..=255_u8,
    ) {
        let found = power(&[base], &[exponent], &[modulus]).unwrap();
        prop_assert_eq!(found, expected(&[base], &[exponent], &[modulus]));
    }
}

#[test]
fn the_longest_moduli_have_a_power_and_longer_ones_none() {
    let (base, exponent) = ([0xa5; 512], [0xff; 8]);
    let odd = [0xff; 512];
    let (mut even, mut twos) = (odd, [0; 512]);
    even[511] = 0x80;
    twos[0] = 0x80;
    for modulus in [odd, even, twos] {
        let found = power(&base, &exponent, &modulus).unwrap();
        assert_eq!(found, expected(&base, &exponent, &modulus));
        let longer = [&[1], &modulus[..]].concat();
        assert_eq!(power(&base, &exponent, &longer), Err(Error::InvalidKey));
    }
}
