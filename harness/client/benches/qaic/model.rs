//! A network of matrix products, as ONNX by hand.

#[path = "../../../../models/qaic/tests/protobuf/mod.rs"]
mod protobuf;

use protobuf::{bytes, number};

/// A matrix of 32-bit floats among the inputs or outputs.
fn matrix(name: &str, rows: usize, columns: usize) -> Vec<u8> {
    let dims = [rows, columns].map(|dim| bytes(1, &number(1, dim as u64))).concat();
    let tensor = [number(1, 1), bytes(2, &dims)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|name| bytes(1, name.as_bytes()));
    let rest = [bytes(2, output.as_bytes()), bytes(4, operator.as_bytes())].concat();
    bytes(1, &inputs.chain(rest).collect::<Vec<_>>())
}

/// Numbers between -0.05 and 0.05 that look like noise, the same for the same seed.
pub(crate) fn values(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(state.to_be_bytes()[0]) / 2560.0 - 0.05
    };
    (0..count).map(|_| next()).collect()
}

/// `y = relu(… relu(x · w0) … · wn)`, all matrices `width` wide, `batch` rows of `x`.
pub(crate) fn onnx(batch: usize, width: usize, layers: usize) -> Vec<u8> {
    let mut graph = Vec::new();
    let mut last = "x".to_owned();
    for (layer, seed) in (0..layers).zip(7..) {
        let (weights, product) = (format!("w{layer}"), format!("p{layer}"));
        let output = if layer + 1 == layers { "y".to_owned() } else { format!("r{layer}") };
        graph.extend(node("MatMul", &[&last, &weights], &product));
        graph.extend(node("Relu", &[&product], &output));
        let raw: Vec<u8> =
            values(seed, width * width).iter().flat_map(|value| value.to_le_bytes()).collect();
        let dims = [number(1, width as u64), number(1, width as u64)].concat();
        let tensor = [dims, number(2, 1), bytes(8, weights.as_bytes()), bytes(9, &raw)].concat();
        graph.extend(bytes(5, &tensor));
        last = output;
    }
    graph.extend(bytes(2, b"bench"));
    graph.extend(bytes(11, &matrix("x", batch, width)));
    graph.extend(bytes(12, &matrix("y", batch, width)));
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}
