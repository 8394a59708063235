//! The containers in `fixtures/qaic/containers` are what `understudy-tensor` makes of these small networks.

mod protobuf;

use std::path::Path;

use protobuf::{bytes, number};

use understudy_tensor::{Limits, Network, pack};

/// A tensor's name, type and shape.
fn value(name: &str, element: u64, shape: &[u64]) -> Vec<u8> {
    let shape: Vec<u8> = shape.iter().flat_map(|len| bytes(1, &number(1, *len))).collect();
    let tensor = [number(1, element), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// `y = operator(operands)`.
struct Graph<'a> {
    operator: &'a str,
    operands: [&'a str; 2],
    element: u64,
    inputs: &'a [(&'a str, &'a [u64])],
    output: &'a [u64],
    /// Name, shape and values of a constant.
    constant: Option<(&'a str, &'a [u64], &'a [f32])>,
}

impl Graph<'_> {
    fn onnx(&self) -> Vec<u8> {
        let operands = self.operands.iter().flat_map(|name| bytes(1, name.as_bytes()));
        let node = operands.chain(bytes(2, b"y")).chain(bytes(4, self.operator.as_bytes()));
        let mut graph = [bytes(1, &node.collect::<Vec<_>>()), bytes(2, b"g")].concat();
        if let Some((name, shape, values)) = self.constant {
            let mut tensor: Vec<u8> = shape.iter().flat_map(|len| number(1, *len)).collect();
            tensor.extend(number(2, self.element));
            tensor.extend(bytes(8, name.as_bytes()));
            let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensor.extend(bytes(9, &raw));
            graph.extend(bytes(5, &tensor));
        }
        for (name, shape) in self.inputs {
            graph.extend(bytes(11, &value(name, self.element, shape)));
        }
        graph.extend(bytes(12, &value("y", self.element, self.output)));
        [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 14))].concat()
    }
}

/// Element types of ONNX.
const F32: u64 = 1;
const I8: u64 = 3;
const I32: u64 = 6;
const F16: u64 = 10;

fn networks() -> [(&'static str, Graph<'static>); 5] {
    let double = |element| Graph {
        operator: "Add",
        operands: ["x", "x"],
        element,
        inputs: &[("x", &[4])],
        output: &[4],
        constant: None,
    };
    [
        ("double-f32", double(F32)),
        ("double-f16", double(F16)),
        ("double-i8", double(I8)),
        (
            "divide-i32",
            Graph {
                operator: "Div",
                operands: ["a", "b"],
                inputs: &[("a", &[2]), ("b", &[2])],
                output: &[2],
                ..double(I32)
            },
        ),
        (
            "matmul-f32",
            Graph {
                operator: "MatMul",
                operands: ["x", "w"],
                inputs: &[("x", &[1, 3])],
                output: &[1, 2],
                constant: Some(("w", &[3, 2], &[1.0, -2.0, 0.5, 4.0, -1.5, 0.25])),
                ..double(F32)
            },
        ),
    ]
}

/// `UPDATE_FIXTURES=1` writes them.
#[test]
fn fixtures_are_what_the_packer_makes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/qaic/containers");
    for (name, graph) in networks() {
        let onnx = graph.onnx();
        let network = Network::from_onnx(&onnx, &Limits::default()).unwrap();
        let container = pack(name, &onnx, network.inputs(), network.outputs()).unwrap();
        let path = folder.join(format!("{name}.qpc"));
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&path, &container).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == container, "{name}: UPDATE_FIXTURES=1 writes it");
    }
}
