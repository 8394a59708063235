//! Bounds what `tract` allocates while it works out types and shapes.
//!
//! It evaluates operators whose inputs are constants on the way, before anyone could look at the
//! shapes that come out. While it analyses, each operator is wrapped: the shape is worked out
//! first, and an operator whose outputs are too large, or of unknown size, is not evaluated.

use tract_onnx::tract_hir::infer::{
    Factoid, InferenceFact, InferenceModel, InferenceModelExt, InferenceOp,
};
use tract_onnx::tract_hir::internal::*;

/// Works out all types and shapes of the model.
///
/// # Errors
/// [`TractError`] if a tensor would be larger than `tensor_bytes`, if a size is not known without
/// the inputs' values, and if the model is wrong.
pub(crate) fn analyse(model: &mut InferenceModel, tensor_bytes: u64) -> TractResult<()> {
    for node in model.nodes_mut() {
        if node.inputs.is_empty() {
            continue;
        }
        let inner = node.op.clone();
        node.op = Box::new(Guarded { inner, tensor_bytes });
    }
    let result = model.analyse(false);
    for node in model.nodes_mut() {
        if let Some(guarded) = node.op.as_op().downcast_ref::<Guarded>() {
            node.op = guarded.inner.clone();
        }
    }
    result?;
    if let Some(open) = model.missing_type_shape()?.first() {
        let node = model.node(open.node);
        bail!("the size of what {} ({}) gives is not known in advance", node.name, node.op.name());
    }
    Ok(())
}

/// An operator that is evaluated only if its outputs are known to be small enough.
#[derive(Debug, Clone)]
struct Guarded {
    inner: Box<dyn InferenceOp>,
    tensor_bytes: u64,
}

impl PartialEq for Guarded {
    /// Operators cannot be compared in general; `tract` then keeps both.
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Guarded {}

impl Op for Guarded {
    fn name(&self) -> StaticName {
        self.inner.name()
    }

    fn as_typed(&self) -> Option<&dyn TypedOp> {
        self.inner.as_typed()
    }
}

impl EvalOp for Guarded {
    not_out_of_plan!();
}

impl InferenceOp for Guarded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let facts = self.infer_facts(inputs.clone(), outputs.clone(), observed.clone())?;
        let mut known = true;
        for output in &facts.1 {
            match bytes(output)? {
                Some(bytes) if bytes > self.tensor_bytes => {
                    bail!("a tensor of {bytes} bytes, more than the {} allowed", self.tensor_bytes)
                }
                Some(_) => {}
                None => known = false,
            }
        }
        if !known {
            return Ok(facts);
        }
        self.inner.infer(inputs, outputs, observed)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.inner.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Vec<OutletId>> {
        self.inner.observe_outlets(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.inner.nboutputs()
    }

    as_op!();
}

/// Size of a tensor, if its type and shape are known.
fn bytes(fact: &InferenceFact) -> TractResult<Option<u64>> {
    let Some(element) = fact.datum_type.concretize() else { return Ok(None) };
    let Some(shape) = fact.shape.concretize() else { return Ok(None) };
    let mut bytes = element.size_of() as u64;
    for dim in &shape {
        let Ok(dim) = dim.to_i64() else { return Ok(None) };
        let dim = u64::try_from(dim).with_context(|| format!("a dimension of {dim}"))?;
        bytes = bytes.saturating_mul(dim);
    }
    Ok(Some(bytes))
}
