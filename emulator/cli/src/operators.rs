//! ONNX's operator cases for guests: `ci/onnx` writes them, here they become containers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use understudy_guest::Scenario;
use understudy_guest::operators::{self, CONTAINER, Case, LIST, Tensor};
use understudy_guest::qaic::{CASES, OPERATORS_ID};
use understudy_qaic::refusal;
use understudy_tensor::{Limits, Network, pack};

use crate::failure::Failure;
use crate::guest;

/// Where `ci/onnx` writes them, in the repository.
const FOLDER: &str = "target/onnx-cases";

/// Gives the scenario that runs them, if it is there, its cases.
pub(crate) fn provide(scenarios: &mut [Scenario]) -> Result<(), Failure> {
    for scenario in scenarios.iter_mut().filter(|scenario| scenario.id == OPERATORS_ID) {
        let folder = folder()?;
        let fit = folder.join("guest");
        let failed = |error| Failure::environment(error, folder.display(), "rm -r, and again");
        prepare(&folder, &fit).map_err(failed)?;
        scenario.config.trees.push((fit, CASES.to_owned()));
    }
    Ok(())
}

/// The cases; has them written if they are not there.
fn folder() -> Result<PathBuf, Failure> {
    let missing = "ONNX's operator cases are not here, and neither is ci/onnx";
    let script = guest::script("ci/onnx")
        .ok_or_else(|| Failure::environment(missing, FOLDER, "run this in the repository"))?;
    let root = script.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let folder = root.join(FOLDER);
    if !folder.join(LIST).is_file() {
        guest::run_script(&script, ["--cases"], "cannot write ONNX's operator cases")?;
    }
    Ok(folder)
}

/// Makes the folder for the guest: a container in the place of each model, inputs in the order in
/// which a device has them.
fn prepare(from: &Path, to: &Path) -> Result<(), String> {
    let cases = operators::read(from)?;
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", to.display()));
        }
        _ => fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?,
    }
    let ready = cases.into_iter().map(|case| ready(from, to, case));
    let ready = ready.collect::<Result<Vec<_>, String>>()?;
    let list = serde_json::to_vec(&ready).map_err(|error| error.to_string())?;
    write(&to.join(LIST), &list)
}

fn ready(from: &Path, to: &Path, mut case: Case) -> Result<Case, String> {
    if case.unsupported.is_some() {
        return Ok(case);
    }
    let (from, to) = (from.join(&case.name), to.join(&case.name));
    fs::create_dir_all(&to).map_err(|error| format!("{}: {error}", to.display()))?;
    let onnx = read(&from.join("model.onnx"))?;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", case.name);
    let container = match Network::from_onnx(&onnx, &Limits::default()) {
        Ok(network) => {
            for set in &mut case.sets {
                let mut given: BTreeMap<String, Tensor> =
                    set.inputs.drain(..).map(|tensor| (tensor.name.clone(), tensor)).collect();
                for binding in network.inputs() {
                    let tensor = given.remove(&binding.name);
                    set.inputs.push(tensor.ok_or_else(|| failed(&"an input is missing"))?);
                }
            }
            for tensor in case.sets.iter().flat_map(|set| set.inputs.iter().chain(&set.outputs)) {
                write(&to.join(&tensor.file), &read(&from.join(&tensor.file))?)?;
            }
            pack(&case.name, &onnx, network.inputs(), network.outputs())
        }
        Err(error) => {
            case.refused = Some(refusal(&error));
            case.sets.clear();
            pack(&case.name, &onnx, &[], &[])
        }
    };
    write(&to.join(CONTAINER), &container.map_err(|error| failed(&error))?)?;
    Ok(case)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}
