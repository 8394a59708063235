//! Small networks, as ONNX by hand and in containers.

#[path = "../../tests/protobuf/mod.rs"]
mod protobuf;

use protobuf::{bytes, number};
use understudy_tensor::{Limits, Network, pack};

/// A tensor of one dimension.
fn value(name: &str, element: u64, len: u64) -> Vec<u8> {
    let shape = bytes(1, &number(1, len));
    let tensor = [number(1, element), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// `y = operator(inputs)`.
fn onnx(operator: &str, operands: &[&str], inputs: &[&str], element: u64, len: u64) -> Vec<u8> {
    let mut node: Vec<u8> = operands.iter().flat_map(|name| bytes(1, name.as_bytes())).collect();
    node.extend([bytes(2, b"y"), bytes(4, operator.as_bytes())].concat());
    let mut graph = [bytes(1, &node), bytes(2, b"g")].concat();
    for name in inputs {
        graph.extend(bytes(11, &value(name, element, len)));
    }
    graph.extend(bytes(12, &value("y", element, len)));
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

fn container(onnx: &[u8]) -> Vec<u8> {
    let network = Network::from_onnx(onnx, &Limits::default()).unwrap();
    pack("test", onnx, network.inputs(), network.outputs()).unwrap()
}

/// An operator of two integers that the device refuses.
pub(super) fn refused(operator: &str) -> Vec<u8> {
    pack("test", &onnx(operator, &["a", "b"], &["a", "b"], 6, 2), &[], &[]).unwrap()
}

/// `y = x + x` for four numbers.
pub(super) fn doubler() -> Vec<u8> {
    container(&onnx("Add", &["x", "x"], &["x"], 1, 4))
}

/// `y = a / b` for two integers.
pub(super) fn divider() -> Vec<u8> {
    container(&onnx("Div", &["a", "b"], &["a", "b"], 6, 2))
}
