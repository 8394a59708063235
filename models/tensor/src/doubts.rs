//! What `tract` 0.23 computes otherwise than ONNX says, as ONNX's backend test shows (`ci/onnx`):
//! refused, as narrowly as can be told before a run. A new version of `tract` may need less of it.
//!
//! One thing cannot be told in advance: a minimum or maximum of nothing but infinities that come up
//! during a run is the largest finite number instead. Models with infinite constants are refused.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Size;
use tract_onnx::pb::type_proto::Value as Type;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::{DatumType, TypedModel};

use crate::LoadError;

fn refused(operator: &str, why: &str) -> LoadError {
    LoadError::Unsupported(format!("{operator}: {why}"))
}

/// Refuses what can be told from the model as it is written.
pub(crate) fn written(graph: &GraphProto) -> Result<(), LoadError> {
    for node in &graph.node {
        if let Some(why) = doubt(node, graph) {
            return Err(refused(&node.op_type, why));
        }
    }
    Ok(())
}

/// Refuses what can be told once types are known.
pub(crate) fn typed(model: &TypedModel) -> Result<(), LoadError> {
    for node in model.nodes() {
        let name = node.op.name();
        if !["Reduce<Max>", "Reduce<Min>"].contains(&name.as_ref()) {
            continue;
        }
        let facts = model.node_input_facts(node.id).unwrap_or_default();
        if facts.iter().any(|fact| fact.datum_type == DatumType::Bool) {
            return Err(refused(&name, "not of truth values"));
        }
    }
    Ok(())
}

fn doubt(node: &NodeProto, graph: &GraphProto) -> Option<&'static str> {
    let found = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let says = |name: &str, value: &[u8]| found(name).is_some_and(|it| it.s == value);
    match node.op_type.as_str() {
        "BitShift" => Some("shifts by all bits there are, or more, would go wrong"),
        "Celu" if has_halves(graph) => Some("of 16-bit floats, it would go wrong"),
        "Dropout" if node.input.get(2).is_some_and(|name| !name.is_empty()) => {
            Some("in training its results are random")
        }
        "GRU" | "LSTM" | "RNN" if says("direction", b"reverse") => {
            Some("backwards alone, its last state would be wrong")
        }
        "OneHot" => Some("indices out of range would stop it"),
        "ReduceMax" | "ReduceMin" if has_infinities(graph) => {
            Some("of infinities it would go wrong")
        }
        "ReduceMax" | "ReduceMin" if has_nothing(graph) => Some("of nothing it would go wrong"),
        "SpaceToDepth" if says("mode", b"CRD") => Some("its mode CRD would go wrong"),
        "Swish" if found("alpha").is_some_and(|it| it.f != 1.0) => Some("its alpha is 1 only"),
        _ => None,
    }
}

/// Whether 16-bit floats occur, as far as the model names types.
fn has_halves(graph: &GraphProto) -> bool {
    let half = DataType::Float16 as i32;
    let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
    let mut types = values.filter_map(|value| match value.r#type.as_ref()?.value.as_ref()? {
        Type::TensorType(tensor) => Some(tensor.elem_type),
    });
    let mut casts = graph.node.iter().filter(|node| node.op_type == "Cast");
    types.any(|kind| kind == half)
        || constants(graph).any(|tensor| tensor.data_type == half)
        || casts.any(|node| node.attribute.iter().any(|it| it.i == i64::from(half)))
}

/// Whether an input or a constant has no elements.
fn has_nothing(graph: &GraphProto) -> bool {
    let empty = |value: &ValueInfoProto| match value.r#type.as_ref()?.value.as_ref()? {
        Type::TensorType(tensor) => {
            let sizes = &tensor.shape.as_ref()?.dim;
            Some(sizes.iter().any(|size| size.value == Some(Size::DimValue(0))))
        }
    };
    graph.input.iter().any(|input| empty(input) == Some(true))
        || constants(graph).any(|tensor| tensor.dims.contains(&0))
}

fn has_infinities(graph: &GraphProto) -> bool {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let mut numbers = attributes.flat_map(|it| it.floats.iter().chain([&it.f]));
    numbers.any(|number| number.is_infinite()) || constants(graph).any(is_infinite)
}

/// The constants of a graph, and those in its nodes.
fn constants(graph: &GraphProto) -> impl Iterator<Item = &TensorProto> {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    graph.initializer.iter().chain(attributes.filter_map(|attribute| attribute.t.as_ref()))
}

fn is_infinite(tensor: &TensorProto) -> bool {
    let half = |bits: u16| bits & 0x7fff == 0x7c00;
    let raw = &tensor.raw_data;
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => {
            let mut raw = raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            raw.any(f32::is_infinite) || tensor.float_data.iter().any(|it| it.is_infinite())
        }
        Ok(DataType::Float16) => {
            let mut raw = raw.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
            let mut list = tensor.int32_data.iter().map(|&it| u16::try_from(it).unwrap_or(0));
            raw.any(half) || list.any(half)
        }
        Ok(DataType::Double) => {
            let mut raw = raw.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
            raw.any(f64::is_infinite) || tensor.double_data.iter().any(|it| it.is_infinite())
        }
        _ => false,
    }
}
