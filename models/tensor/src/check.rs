//! What can be said of a decoded model without working it out: is it of a kind that is supported,
//! and do its parts fit together?

use std::collections::BTreeSet;

use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::type_proto::Value as Type;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use crate::limits::within;
use crate::{Limits, LoadError};

/// Operators whose results would not depend on the inputs alone.
const RANDOM: [&str; 6] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// The operators of these domains are ONNX's own.
const DOMAINS: [&str; 3] = ["", "ai.onnx", "ai.onnx.ml"];

/// Refuses what is not supported or contradicts itself.
pub(crate) fn check(model: &ModelProto, limits: &Limits) -> Result<(), LoadError> {
    let graph = model.graph.as_ref().ok_or_else(|| malformed("there is no graph"))?;
    within("nodes", (graph.node.len() + graph.initializer.len()) as u64, limits.nodes)?;
    within("inputs", graph.input.len() as u64, limits.nodes)?;
    within("outputs", graph.output.len() as u64, limits.bindings)?;
    if graph.output.is_empty() {
        return Err(malformed("there are no outputs"));
    }
    for tensor in &graph.initializer {
        constant(tensor, limits)?;
    }
    for node in &graph.node {
        operator(node, limits)?;
    }
    names(graph)?;
    graph.input.iter().try_for_each(input)
}

fn malformed(what: impl Into<String>) -> LoadError {
    LoadError::Malformed(what.into())
}

fn unsupported(what: impl Into<String>) -> LoadError {
    LoadError::Unsupported(what.into())
}

fn operator(node: &NodeProto, limits: &Limits) -> Result<(), LoadError> {
    if !DOMAINS.contains(&node.domain.as_str()) {
        return Err(unsupported(format!("operator {} of {:?}", node.op_type, node.domain)));
    }
    if RANDOM.contains(&node.op_type.as_str()) {
        return Err(unsupported(format!("{}: its results are random", node.op_type)));
    }
    for attribute in &node.attribute {
        let tensors = attribute.t.iter().chain(&attribute.tensors);
        tensors.into_iter().try_for_each(|tensor| constant(tensor, limits))?;
    }
    Ok(())
}

/// A constant holds as many bytes as its shape says, and holds them itself.
fn constant(tensor: &TensorProto, limits: &Limits) -> Result<(), LoadError> {
    if tensor.data_location == Some(DataLocation::External as i32) {
        return Err(unsupported(format!("constant {:?} in another file", tensor.name)));
    }
    let elements = tensor.dims.iter().try_fold(1_u64, |product, &dim| {
        u64::try_from(dim).ok().and_then(|dim| product.checked_mul(dim))
    });
    let elements = elements.ok_or_else(|| {
        malformed(format!("constant {:?} has the shape {:?}", tensor.name, tensor.dims))
    })?;
    let size = element_bytes(tensor.data_type).ok_or_else(|| {
        unsupported(format!("constant {:?} of data type {}", tensor.name, tensor.data_type))
    })?;
    let bytes = elements.saturating_mul(size);
    within("bytes of a constant", bytes, limits.tensor_bytes)?;
    // Numbers in lists of their own are counted where they are read.
    if !tensor.raw_data.is_empty() && tensor.raw_data.len() as u64 != bytes {
        return Err(malformed(format!(
            "constant {:?} has {} bytes, and its shape needs {bytes}",
            tensor.name,
            tensor.raw_data.len()
        )));
    }
    Ok(())
}

/// Bytes of one element, for the types that have a size.
fn element_bytes(data_type: i32) -> Option<u64> {
    Some(match DataType::try_from(data_type).ok()? {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
        DataType::Int16 | DataType::Uint16 | DataType::Float16 => 2,
        DataType::Int32 | DataType::Uint32 | DataType::Float => 4,
        DataType::Int64 | DataType::Uint64 | DataType::Double => 8,
        _ => return None,
    })
}

/// Every tensor is made once, and used only if it is made.
fn names(graph: &GraphProto) -> Result<(), LoadError> {
    let constants: BTreeSet<&str> =
        graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    // Before version 4 of the format, constants are listed among the inputs too.
    let inputs = graph.input.iter().map(|value| value.name.as_str());
    let inputs = inputs.filter(|name| !constants.contains(name));
    let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let made = made.filter(|name| !name.is_empty());
    let mut known = constants.clone();
    for name in inputs.chain(made) {
        if !known.insert(name) {
            return Err(malformed(format!("{name:?} is made twice")));
        }
    }
    let used = graph.node.iter().flat_map(|node| &node.input).map(String::as_str);
    let used = used.filter(|name| !name.is_empty());
    let given = graph.output.iter().map(|value| value.name.as_str());
    match used.chain(given).find(|name| !known.contains(name)) {
        Some(name) => Err(malformed(format!("{name:?} is used, and nothing makes it"))),
        None => Ok(()),
    }
}

/// An input is a tensor with a number for each dimension: buffers have sizes.
fn input(value: &ValueInfoProto) -> Result<(), LoadError> {
    let Some(Type::TensorType(tensor)) = value.r#type.as_ref().and_then(|kind| kind.value.as_ref())
    else {
        return Err(unsupported(format!("input {:?} without a tensor type", value.name)));
    };
    let shape = tensor.shape.as_ref();
    let shape = shape.ok_or_else(|| {
        unsupported(format!("input {:?} without a shape: give it one", value.name))
    })?;
    for dim in &shape.dim {
        match &dim.value {
            Some(Dim::DimValue(size)) if *size >= 0 => {}
            Some(Dim::DimParam(name)) => {
                return Err(unsupported(format!(
                    "input {:?} with the open dimension {name:?}: give it a number",
                    value.name
                )));
            }
            _ => {
                return Err(unsupported(format!(
                    "input {:?} with an open dimension: give it a number",
                    value.name
                )));
            }
        }
    }
    Ok(())
}
