//! Cases of ONNX's backend test, one operator or few each, as `fixtures/qaic/node_cases.py` writes
//! them: what a network's outputs must be for its inputs.

use std::fs;
use std::path::Path;

use half::f16;
use serde::{Deserialize, Serialize};

use crate::protocol::Float;

/// The file in a folder of cases that lists them.
pub const LIST: &str = "cases.json";
/// The program container of a case, in a folder of its name, for those who run it by a driver.
pub const CONTAINER: &str = "program.qpc";

/// A network and what it must compute. Files are in a folder of the case's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// Its name in the backend test.
    pub name: String,
    /// Why the device cannot take it at all, such as types that it does not have; no files then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsupported: Option<String>,
    /// The status that the device must refuse its program with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<i32>,
    /// How far floating-point numbers may be off, relatively.
    #[serde(default)]
    pub rtol: f64,
    /// And absolutely.
    #[serde(default)]
    pub atol: f64,
    /// Inputs, and the outputs that they have.
    #[serde(default)]
    pub sets: Vec<Set>,
}

/// Values for all inputs and outputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Set {
    /// The inputs.
    pub inputs: Vec<Tensor>,
    /// The outputs, in the model's order.
    pub outputs: Vec<Tensor>,
}

/// A value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tensor {
    /// Its name in the model.
    pub name: String,
    /// The type of its elements, as numpy calls it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Sizes of its dimensions.
    pub shape: Vec<usize>,
    /// The file: elements in order, little-endian.
    pub file: String,
}

/// The cases that a folder lists.
///
/// # Errors
/// What is wrong with the list.
pub fn read(folder: &Path) -> Result<Vec<Case>, String> {
    let list = folder.join(LIST);
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", list.display());
    let text = fs::read(&list).map_err(|error| failed(&error))?;
    serde_json::from_slice(&text).map_err(|error| failed(&error))
}

impl Case {
    /// Compares an output with what it must be: as numpy's `assert_allclose` for floating point,
    /// exactly for all else. The case's tolerances are 1e-3 and 1e-7 of most; but sums in another
    /// order differ by more than 1e-7 around 0, and two units in the last place of 16 bits are 2e-3.
    ///
    /// # Errors
    /// Where they differ.
    pub fn compare(&self, tensor: &Tensor, found: &[u8], wanted: &[u8]) -> Result<(), String> {
        if found.len() != wanted.len() {
            return Err(format!("{} bytes, not {}", found.len(), wanted.len()));
        }
        let (float, rtol) = match tensor.kind.as_str() {
            "float32" => (Float::F32, self.rtol),
            "float16" => (Float::F16, self.rtol.max(2e-3)),
            _ if found == wanted => return Ok(()),
            _ => return Err("not the same integers".to_owned()),
        };
        let atol = self.atol.max(1e-5);
        let numbers = numbers(found, float).into_iter().zip(numbers(wanted, float));
        for (index, (found, wanted)) in numbers.enumerate() {
            // Everything is within a part of infinity.
            let near = wanted.is_finite() && (found - wanted).abs() <= atol + rtol * wanted.abs();
            if !(near || found == wanted || found.is_nan() && wanted.is_nan()) {
                return Err(format!("number {index} is {found}, not {wanted}"));
            }
        }
        Ok(())
    }
}

/// Little-endian floating-point numbers.
pub(crate) fn numbers(bytes: &[u8], float: Float) -> Vec<f64> {
    match float {
        Float::F32 => {
            bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).into()).collect()
        }
        Float::F16 => {
            bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(rtol: f64) -> Case {
        let (unsupported, refused, sets) = (None, None, Vec::new());
        Case { name: "case".to_owned(), unsupported, refused, rtol, atol: 1e-7, sets }
    }

    fn tensor(kind: &str) -> Tensor {
        let (name, file) = ("y".to_owned(), "y.bin".to_owned());
        Tensor { name, kind: kind.to_owned(), shape: vec![1], file }
    }

    #[test]
    fn floating_point_is_compared_within_tolerances_and_integers_exactly() {
        let floats = |a: f32, b: f32, rtol: f64| {
            case(rtol).compare(&tensor("float32"), &a.to_le_bytes(), &b.to_le_bytes())
        };
        floats(1.0005, 1.0, 1e-3).unwrap();
        floats(f32::NAN, f32::NAN, 0.0).unwrap();
        floats(f32::INFINITY, f32::INFINITY, 0.0).unwrap();
        for (found, wanted) in [(1.002, 1.0), (f32::NAN, 1.0), (f32::MAX, f32::INFINITY)] {
            floats(found, wanted, 1e-3).unwrap_err();
        }
        let integers = tensor("int8");
        case(1.0).compare(&integers, &[1, 2], &[1, 2]).unwrap();
        case(1.0).compare(&integers, &[1, 2], &[1, 3]).unwrap_err();
        case(1.0).compare(&integers, &[1], &[1, 3]).unwrap_err();
    }
}
