//! A network that is ready to run.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use tract_onnx::prelude::{
    DatumType, Framework, InferenceModelExt, IntoRunnable, TValue, Tensor, TractResult, TypedModel,
    TypedRunnableModel,
};
use tract_onnx::tract_hir::infer::InferenceModel;
use tract_onnx::tract_hir::internal::{Cost, TVec};

use crate::limits::within;
use crate::{Limits, LoadError, RunError, check, container, doubts, guard, scan};

/// Type of a tensor's elements. All are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// A byte: 0 is false, all else is true; outputs are 0 or 1.
    Bool,
}

impl Element {
    fn of(datum: DatumType) -> Option<Self> {
        Some(match datum {
            DatumType::F32 => Self::F32,
            DatumType::F16 => Self::F16,
            DatumType::I8 | DatumType::QI8(_) => Self::I8,
            DatumType::U8 | DatumType::QU8(_) => Self::U8,
            DatumType::I32 | DatumType::QI32(_) => Self::I32,
            // Sizes computed from shapes: ONNX says they are 64-bit integers.
            DatumType::I64 | DatumType::TDim => Self::I64,
            DatumType::Bool => Self::Bool,
            _ => return None,
        })
    }

    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// An input or output of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Name in the model.
    pub name: String,
    /// Type of the elements.
    pub element: Element,
    /// Sizes of the dimensions, outermost first; none for a scalar.
    pub shape: Vec<usize>,
    /// Bytes of the whole tensor.
    pub bytes: usize,
}

/// A loaded network. Immutable: runs do not influence each other, and may happen at the same time.
#[derive(Debug)]
pub struct Network {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<Binding>,
    outputs: Vec<Binding>,
}

const _: () = {
    const fn shareable<T: Send + Sync>() {}
    shareable::<Network>();
};

impl Network {
    /// Loads the network in a container, or in the program that a container holds.
    ///
    /// # Errors
    /// [`LoadError`], whatever the bytes are.
    pub fn load(container: &[u8], limits: &Limits) -> Result<Self, LoadError> {
        within("bytes of the container", container.len() as u64, limits.container_bytes)?;
        Self::from_onnx(container::onnx(container)?, limits)
    }

    /// Loads an ONNX model as such.
    ///
    /// # Errors
    /// [`LoadError`], whatever the bytes are.
    pub fn from_onnx(onnx: &[u8], limits: &Limits) -> Result<Self, LoadError> {
        within("bytes of the model", onnx.len() as u64, limits.container_bytes)?;
        scan::scan(onnx, limits.nodes)?;
        let loaded = contained(|| prepare(onnx, limits));
        loaded.unwrap_or_else(|panic| Err(LoadError::Unsupported(panic)))
    }

    /// The inputs, in order.
    #[must_use]
    pub fn inputs(&self) -> &[Binding] {
        &self.inputs
    }

    /// The outputs, in order.
    #[must_use]
    pub fn outputs(&self) -> &[Binding] {
        &self.outputs
    }

    /// Computes the outputs, each as long as its binding says.
    ///
    /// # Errors
    /// [`RunError`] if the inputs are not as the bindings say, or values make no sense.
    pub fn run(&self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, RunError> {
        if inputs.len() != self.inputs.len() {
            return Err(RunError::InputCount { given: inputs.len(), wanted: self.inputs.len() });
        }
        for (index, (data, binding)) in inputs.iter().zip(&self.inputs).enumerate() {
            if data.len() != binding.bytes {
                let (given, wanted) = (data.len(), binding.bytes);
                return Err(RunError::InputLength { index, given, wanted });
            }
        }
        let outputs = contained(|| self.compute(inputs)).map_err(RunError::Failed)?;
        outputs.map_err(|error| RunError::Failed(told(&error)))
    }

    fn compute(&self, inputs: &[&[u8]]) -> TractResult<Vec<Vec<u8>>> {
        let inputs: TractResult<TVec<TValue>> = self
            .inputs
            .iter()
            .zip(inputs)
            .map(|(binding, data)| Ok(tensor(binding, data)?.into()))
            .collect();
        let outputs = self.plan.run(inputs?)?;
        outputs.iter().zip(&self.outputs).map(|(value, binding)| bytes(binding, value)).collect()
    }
}

/// Runs `tract`'s code. It has assertions and indexing that a model can hit which contradicts
/// itself, and divides integers as they come; this is the one place where such a panic ends. Nothing
/// that the closures touch is used again after one, so it cannot be seen half changed.
fn contained<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    QUIET.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !CONTAINED.get() {
                others(panic);
            }
        }));
    });
    let outside = CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    CONTAINED.set(outside);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        one_line(text.unwrap_or("the compute engine gave up"))
    })
}

/// Makes panics that [`contained`] turns into errors say nothing on standard error, once for the
/// process: a guest must not be able to fill a server's log, or alarm who reads it.
static QUIET: Once = Once::new();

thread_local! {
    /// Whether this thread is in [`contained`].
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// An error of `tract` in one line; they quote whole nodes.
fn told(error: &tract_onnx::prelude::TractError) -> String {
    one_line(&format!("{error:#}"))
}

fn one_line(text: &str) -> String {
    const CHARACTERS_MAX: usize = 300;
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(CHARACTERS_MAX).collect()
}

fn prepare(onnx: &[u8], limits: &Limits) -> Result<Network, LoadError> {
    let framework = tract_onnx::onnx().with_ignore_value_info(true);
    let mut bytes = onnx;
    let proto = framework
        .proto_model_for_read(&mut bytes)
        .map_err(|error| LoadError::Malformed(told(&error)))?;
    check::check(&proto, limits)?;
    proto.graph.as_ref().map_or(Ok(()), doubts::written)?;
    let unsupported = |error| LoadError::Unsupported(told(&error));
    let model = framework.model_for_proto_model(&proto).map_err(unsupported)?;
    let names = |model: &InferenceModel| -> (Vec<String>, Vec<String>) {
        let inputs = model.inputs.iter().map(|input| model.node(input.node).name.clone());
        let graph = proto.graph.iter();
        let outputs = graph.flat_map(|graph| &graph.output).map(|output| output.name.clone());
        (inputs.collect(), outputs.collect())
    };
    let (input_names, output_names) = names(&model);
    let typed = typed(model, limits)?;
    let (inputs, outputs) = bindings(&typed, input_names, output_names, limits)?;
    let optimized = typed.into_optimized().map_err(unsupported)?;
    bounded(&optimized, limits)?;
    let plan = optimized.into_runnable().map_err(unsupported)?;
    Ok(Network { plan, inputs, outputs })
}

/// The model with all types and sizes known and within limits, not yet rewritten for speed.
fn typed(mut model: InferenceModel, limits: &Limits) -> Result<TypedModel, LoadError> {
    let unsupported = |error| LoadError::Unsupported(told(&error));
    guard::analyse(&mut model, limits.tensor_bytes).map_err(unsupported)?;
    let typed = model.into_typed().map_err(unsupported)?;
    bounded(&typed, limits)?;
    doubts::typed(&typed)?;
    Ok(typed)
}

/// Whether all tensors, and the work of one run, are within limits.
fn bounded(model: &TypedModel, limits: &Limits) -> Result<(), LoadError> {
    within("nodes", model.nodes().len() as u64, limits.nodes)?;
    let (mut memory, mut operations) = (0_u64, 0_u64);
    for node in model.nodes() {
        for output in &node.outputs {
            let shape = output.fact.shape.as_concrete().ok_or_else(|| {
                LoadError::Unsupported(format!("{}: its size depends on values", node.name))
            })?;
            let bytes = volume(shape).saturating_mul(output.fact.datum_type.size_of() as u64);
            within("bytes of a tensor", bytes, limits.tensor_bytes)?;
            memory = memory.saturating_add(bytes);
        }
        operations = operations.saturating_add(work(model, node.id)?);
    }
    within("bytes of all tensors", memory, limits.memory_bytes)?;
    within("operations of one run", operations, limits.operations)
}

fn volume(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |product: u64, &dim| product.saturating_mul(dim as u64))
}

/// Operations of one node, as far as `tract` counts them.
fn work(model: &TypedModel, node: usize) -> Result<u64, LoadError> {
    let unsupported = |error| LoadError::Unsupported(told(&error));
    let (inputs, _) = model.node_facts(node).map_err(unsupported)?;
    let costs = model.node(node).op.cost(&inputs).map_err(unsupported)?;
    let counted = costs.iter().filter(|(kind, _)| matches!(kind, Cost::FMA(_) | Cost::Div(_)));
    Ok(counted.fold(0, |sum: u64, (_, count)| {
        let count = count.to_i64().ok().and_then(|count| u64::try_from(count).ok());
        sum.saturating_add(count.unwrap_or(u64::MAX))
    }))
}

fn bindings(
    model: &TypedModel,
    input_names: Vec<String>,
    output_names: Vec<String>,
    limits: &Limits,
) -> Result<(Vec<Binding>, Vec<Binding>), LoadError> {
    let one = |outlet, name: String| {
        let fact = model.outlet_fact(outlet).map_err(|error| LoadError::Malformed(told(&error)))?;
        let element = Element::of(fact.datum_type).ok_or_else(|| {
            LoadError::Unsupported(format!("{name:?} is of the type {:?}", fact.datum_type))
        })?;
        let shape = fact.shape.as_concrete().unwrap_or_default().to_vec();
        let bytes = volume(&shape).saturating_mul(element.bytes() as u64);
        within("bytes of a tensor", bytes, limits.tensor_bytes)?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(Binding { name, element, shape, bytes })
    };
    within("inputs", input_names.len() as u64, limits.bindings)?;
    let inputs = model.inputs.iter().zip(input_names).map(|(&outlet, name)| one(outlet, name));
    let outputs = model.outputs.iter().zip(output_names).map(|(&outlet, name)| one(outlet, name));
    Ok((inputs.collect::<Result<_, _>>()?, outputs.collect::<Result<_, LoadError>>()?))
}

/// Checked before: `data` is as long as the binding says.
fn tensor(binding: &Binding, data: &[u8]) -> TractResult<Tensor> {
    let datum = match binding.element {
        Element::F32 => DatumType::F32,
        Element::F16 => DatumType::F16,
        Element::I8 => DatumType::I8,
        Element::U8 => DatumType::U8,
        Element::I32 => DatumType::I32,
        Element::I64 => DatumType::I64,
        Element::Bool => {
            let flags: Vec<bool> = data.iter().map(|&byte| byte != 0).collect();
            return Tensor::from_shape(&binding.shape, &flags);
        }
    };
    let mut tensor = Tensor::zero_dt(datum, &binding.shape)?;
    tensor.as_bytes_mut().copy_from_slice(data);
    Ok(tensor)
}

fn bytes(binding: &Binding, value: &Tensor) -> TractResult<Vec<u8>> {
    let mut bytes = match value.datum_type() {
        DatumType::TDim => value.cast_to::<i64>()?.try_as_plain_ram()?.as_bytes().to_vec(),
        _ => value.try_as_plain_ram()?.as_bytes().to_vec(),
    };
    // The analysis said so; an operator that does otherwise must not reach a guest's buffers.
    tract_onnx::tract_hir::internal::ensure!(
        bytes.len() == binding.bytes,
        "{} came out with {} bytes instead of {}",
        binding.name,
        bytes.len(),
        binding.bytes
    );
    bytes.shrink_to_fit();
    Ok(bytes)
}
