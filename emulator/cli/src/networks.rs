//! The networks that guests run on the Cloud AI 100: `fixtures/qaic/networks`, packed.

use understudy_guest::qaic::{self, Network};
use understudy_guest::{Float, Scenario};
use understudy_tensor::{Limits, onnx, pack};

use crate::failure::Failure;

/// Bytes of a comment that make a model large.
const COMMENT_BYTES: usize = 3 << 20;
/// Field 6, `doc_string`, of an ONNX model, and that length as protobuf has it.
const COMMENT_HEAD: [u8; 5] = [6 << 3 | 2, 0x80, 0x80, 0xc0, 0x01];

macro_rules! fixture {
    ($name:literal, $float:ident, $tolerance:literal) => {
        Fixture {
            name: $name,
            onnx: include_bytes!(concat!("../../../fixtures/qaic/networks/", $name, "/model.onnx")),
            input: include_bytes!(concat!("../../../fixtures/qaic/networks/", $name, "/input.bin")),
            output: include_bytes!(concat!(
                "../../../fixtures/qaic/networks/",
                $name,
                "/output.bin"
            )),
            float: Float::$float,
            tolerance: $tolerance,
        }
    };
}

/// A model, an input, onnxruntime's output, and how far ours may be off in billionths.
struct Fixture {
    name: &'static str,
    onnx: &'static [u8],
    input: &'static [u8],
    output: &'static [u8],
    float: Float,
    tolerance: u32,
}

/// Tolerances: sums in another order for 32 bits, a unit in the last place or two for 16. One step
/// of the quantised output is far larger than what is allowed there: steps must be the same.
const FIXTURES: [Fixture; 4] = [
    fixture!("mlp", F32, 1_000),
    fixture!("classifier", F32, 5_000),
    fixture!("quantised", F32, 5_000),
    fixture!("half", F16, 2_000_000),
];

pub(crate) fn scenarios() -> Result<Vec<Scenario>, Failure> {
    let mut networks = Vec::new();
    for Fixture { name, onnx, input, output, float, tolerance } in FIXTURES {
        let container = container(name, onnx)?;
        let (input, output) = (input.to_vec(), output.to_vec());
        networks.push(Network { name, container, input, output, float, tolerance });
    }
    let first = &FIXTURES[0];
    Ok(qaic::scenarios(networks, foreign(first)?, large(first)?))
}

fn container(name: &str, onnx: &[u8]) -> Result<Vec<u8>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::environment(error, name, "a fixture");
    let network = understudy_tensor::Network::from_onnx(onnx, &Limits::default());
    let network = network.map_err(|error| failed(&error))?;
    pack(name, onnx, network.inputs(), network.outputs()).map_err(|error| failed(&error))
}

/// A container in which our section has another name: what is for the chip alone looks like that.
fn foreign(fixture: &Fixture) -> Result<Vec<u8>, Failure> {
    let mut container = container(fixture.name, fixture.onnx)?;
    let ours = understudy_tensor::ONNX_SECTION.as_bytes();
    if let Some(at) = container.windows(ours.len()).position(|bytes| bytes == ours) {
        container[at] = b'U';
    }
    match onnx(&container) {
        Err(_) => Ok(container),
        Ok(_) => Err(Failure::environment("our section is still there", fixture.name, "a fixture")),
    }
}

/// The same network, with a long comment.
fn large(fixture: &Fixture) -> Result<Vec<u8>, Failure> {
    let mut onnx = fixture.onnx.to_vec();
    onnx.extend(COMMENT_HEAD);
    onnx.resize(onnx.len() + COMMENT_BYTES, b' ');
    container(fixture.name, &onnx)
}
