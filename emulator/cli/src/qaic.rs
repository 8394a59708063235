//! `understudy qaic`: program containers of the Cloud AI 100.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use understudy_qaic::{refusal, workload};
use understudy_tensor::{Binding, ContainerError, Element, Limits, LoadError, Network};

use crate::cli::{QaicCommand, QaicPackArgs};
use crate::devices::columns;
use crate::failure::{Failure, Outcome};
use crate::print;

pub(crate) fn run(command: &QaicCommand) -> Outcome {
    match command {
        QaicCommand::Pack(args) => pack(args),
        QaicCommand::Show { file, json } => show(file, *json),
    }
}

fn pack(args: &QaicPackArgs) -> Outcome {
    let model = &args.model;
    let limits = Limits::default();
    let onnx = read(model, &limits)?;
    let network = Network::from_onnx(&onnx, &limits)
        .map_err(|error| Failure::usage(&error, model.display(), remedy(&error)))?;
    let stem = || model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = args.name.clone().unwrap_or_else(stem);
    let container = understudy_tensor::pack(&name, &onnx, network.inputs(), network.outputs())
        .map_err(|error| Failure::usage(error, model.display(), "a smaller model"))?;
    let output = args.output.clone().unwrap_or_else(|| model.with_extension("qpc"));
    if is_same(&output, model) {
        let place = output.display();
        return Err(Failure::usage("the container would replace the model", place, "-o FILE"));
    }
    std::fs::write(&output, &container)
        .map_err(|error| Failure::environment("cannot write", output.display(), error))?;
    let (inputs, outputs) = (network.inputs().len(), network.outputs().len());
    let bytes = container.len();
    let place = output.display();
    print(&format!("{place}: network {name}, {inputs} inputs, {outputs} outputs, {bytes} bytes\n"))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let full = |path: &Path| path.canonicalize();
    full(one).ok().zip(full(other).ok()).is_some_and(|(one, other)| one == other)
}

/// What would make the device take it.
fn remedy(error: &LoadError) -> &'static str {
    match error {
        LoadError::Container(_) | LoadError::NoNetwork => "see understudy qaic pack",
        LoadError::Malformed(_) => "an ONNX model that onnx.checker accepts",
        LoadError::Unsupported(_) => "see what is not implemented in docs/qaic.md",
        LoadError::Limit { .. } => "a smaller model",
    }
}

/// The whole file, if it is not larger than what the device takes.
fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::environment("cannot read", path.display(), error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limits.container_bytes + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limits.container_bytes {
        let remedy = format!("at most {} bytes", limits.container_bytes);
        return Err(Failure::usage("too large for the device", path.display(), remedy));
    }
    Ok(bytes)
}

/// What is in a file.
#[derive(Debug, Serialize)]
struct Contents {
    file: PathBuf,
    bytes: usize,
    segments: Vec<Part>,
    /// Whether the device loads it, and why not.
    loads: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Refusal>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// A segment of a container.
#[derive(Debug, Serialize)]
struct Part {
    name: String,
    bytes: usize,
}

/// The device's answer to a load.
#[derive(Debug, Serialize)]
struct Refusal {
    status: i32,
    reason: String,
}

/// An input or output.
#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    #[serde(rename = "type")]
    element: &'static str,
    shape: Vec<usize>,
    bytes: usize,
    /// In the memory of an activation.
    offset: usize,
}

impl Tensor {
    fn new((binding, place): (&Binding, &Range<usize>)) -> Self {
        let element = match binding.element {
            Element::F32 => "float32",
            Element::F16 => "float16",
            Element::I8 => "int8",
            Element::U8 => "uint8",
            Element::I32 => "int32",
            Element::I64 => "int64",
            Element::Bool => "bool",
        };
        let Binding { name, shape, bytes, .. } = binding.clone();
        Self { name, element, shape, bytes, offset: place.start }
    }
}

fn show(file: &Path, json: bool) -> Outcome {
    let limits = Limits::default();
    let bytes = read(file, &limits)?;
    let contents = contents(file, &bytes, &limits);
    let text = if json {
        let text = serde_json::to_string_pretty(&contents)
            .map_err(|error| Failure::environment("cannot print", "JSON", error))?;
        text + "\n"
    } else {
        text(&contents)
    };
    print(&text)?;
    Ok(contents.loads)
}

fn contents(file: &Path, bytes: &[u8], limits: &Limits) -> Contents {
    let segments = understudy_tensor::segments(bytes).unwrap_or_default();
    let segments = segments.iter().map(|segment| Part {
        name: String::from_utf8_lossy(segment.name).into_owned(),
        bytes: segment.data.len(),
    });
    let mut contents = Contents {
        file: file.to_owned(),
        bytes: bytes.len(),
        segments: segments.collect(),
        loads: false,
        refusal: None,
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    let mut loaded = Network::load(bytes, limits);
    if let Err(LoadError::Container(ContainerError::Unknown(_))) = loaded {
        // A model that is not packed yet, if anything.
        if let Ok(network) = Network::from_onnx(bytes, limits) {
            loaded = Ok(network);
        }
    }
    match loaded {
        Ok(network) => {
            let (inputs, outputs) = workload::places(&network).unwrap_or_default();
            contents.inputs = network.inputs().iter().zip(&inputs).map(Tensor::new).collect();
            contents.outputs = network.outputs().iter().zip(&outputs).map(Tensor::new).collect();
            contents.loads = true;
        }
        Err(error) => {
            let refusal = Refusal { status: refusal(&error), reason: error.to_string() };
            contents.refusal = Some(refusal);
        }
    }
    contents
}

fn text(contents: &Contents) -> String {
    let mut out = format!("{}: {} bytes\n", contents.file.display(), contents.bytes);
    if !contents.segments.is_empty() {
        let rows = contents.segments.iter().map(|it| [it.name.clone(), it.bytes.to_string()]);
        let _ = write!(out, "\n{}", columns(&["SEGMENT", "BYTES"], &rows.collect::<Vec<_>>()));
    }
    if let Some(Refusal { status, reason }) = &contents.refusal {
        let _ = writeln!(out, "\nthe device refuses it with status {status}: {reason}");
        return out;
    }
    let tensors = contents.inputs.iter().map(|it| ("input", it));
    let tensors = tensors.chain(contents.outputs.iter().map(|it| ("output", it)));
    let rows = tensors.map(|(way, it)| {
        let shape = it.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
        let shape = if shape.is_empty() { "scalar".to_owned() } else { shape };
        let element = it.element.to_owned();
        let offset = format!("{:#x}", it.offset);
        [way.to_owned(), it.name.clone(), element, shape, it.bytes.to_string(), offset]
    });
    let head = ["", "NAME", "TYPE", "SHAPE", "BYTES", "MEMORY"];
    let _ = write!(out, "\n{}", columns(&head, &rows.collect::<Vec<_>>()));
    out
}
