//! Two files of floating-point numbers, compared.

use std::fs;

use serde_json::{Value, json};

use super::Failure;
use crate::operators::numbers;
use crate::protocol::Float;

/// Passes if each number is as near to the expected one as `tolerance`, in billionths: of the
/// expected one if that is larger than 1, else of 1.
pub(super) fn check(
    file: &str,
    expected: &str,
    float: Float,
    tolerance: u32,
) -> Result<Value, Failure> {
    let read = |path: &str| fs::read(path).map_err(|error| format!("{path}: {error}"));
    let (found, wanted) = (numbers(&read(file)?, float), numbers(&read(expected)?, float));
    let largest = distance(&found, &wanted)?;
    let tolerance = f64::from(tolerance) / 1e9;
    if largest > tolerance {
        return Err(format!("{file}: off by {largest:e}, more than {tolerance:e}"));
    }
    Ok(json!({ "numbers": found.len(), "largest_error": largest }))
}

/// The largest of the distances.
fn distance(found: &[f64], wanted: &[f64]) -> Result<f64, Failure> {
    if found.len() != wanted.len() || wanted.is_empty() {
        return Err(format!("{} numbers, not {}", found.len(), wanted.len()));
    }
    let mut largest = 0.0_f64;
    for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let distance = (found - wanted).abs() / wanted.abs().max(1.0);
        if !distance.is_finite() {
            return Err(format!("number {index} is {found}, not {wanted}"));
        }
        largest = largest.max(distance);
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn halves_are_what_ieee_754_says() {
        let cases = [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x0001, 2.0_f64.powi(-24))];
        for (bits, value) in cases {
            assert_eq!(f16::from_bits(bits).to_f64(), value, "{bits:#x}");
        }
        assert!(f16::from_bits(0x7e00).is_nan());
        assert!(f16::from_bits(0xfc00).to_f64() == f64::NEG_INFINITY);
    }

    #[test]
    fn distances_are_relative_above_one_and_absolute_below() {
        assert_eq!(distance(&[0.5, 110.0], &[0.25, 100.0]).unwrap(), 0.25);
        assert_eq!(distance(&[2.0], &[4.0]).unwrap(), 0.5);
        for (found, wanted) in [(&[1.0][..], &[][..]), (&[], &[]), (&[f64::NAN], &[1.0])] {
            assert!(distance(found, wanted).is_err(), "{found:?} {wanted:?}");
        }
    }
}
