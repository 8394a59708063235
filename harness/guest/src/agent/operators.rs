//! ONNX's operator cases, each by a process of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Failure, command};
use crate::operators::{self, CONTAINER, Case, Set};
use crate::qaic::PROGRAM;

/// The status of [`PROGRAM`] when the device refused something.
const REFUSED: i32 = 3;
/// Failures that are told.
const TOLD: usize = 10;

/// Runs all cases of a folder. Passes if each has the right outputs, or is refused as it must be.
pub(super) fn check(folder: &str) -> Result<Value, Failure> {
    let folder = Path::new(folder);
    let (mut passed, mut refused, mut unsupported) = (0, 0, 0);
    let mut failures = Vec::new();
    for case in &operators::read(folder)? {
        if case.unsupported.is_some() {
            unsupported += 1;
            continue;
        }
        let place = folder.join(&case.name);
        let outcome = match case.refused {
            Some(status) => refusal(&place, status).map(|()| &mut refused),
            None => {
                case.sets.iter().try_for_each(|set| run(&place, case, set)).map(|()| &mut passed)
            }
        };
        match outcome {
            Ok(count) => *count += 1,
            Err(why) => failures.push(format!("{}: {why}", case.name)),
        }
    }
    if !failures.is_empty() {
        let told = failures.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
        return Err(format!("passed {passed}, failed {}: {told}", failures.len()));
    }
    Ok(json!({
        "passed": passed, "refused": refused, "not the device's types": unsupported, "failed": 0
    }))
}

fn program(place: &Path) -> Command {
    let mut command = command(PROGRAM);
    command.current_dir(place);
    command
}

fn refusal(place: &Path, status: i32) -> Result<(), Failure> {
    let output = program(place).arg(CONTAINER).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(REFUSED)
        && said.trim_end().ends_with(&format!("status {status}"))
    {
        return Ok(());
    }
    Err(format!("not refused with status {status}: {}: {}", output.status, said.trim_end()))
}

fn run(place: &Path, case: &Case, set: &Set) -> Result<(), Failure> {
    let mut command = program(place);
    for input in &set.inputs {
        command.args(["-i", &input.file]);
    }
    let found: Vec<String> = (0..set.outputs.len()).map(|at| format!("/tmp/output.{at}")).collect();
    for file in &found {
        command.args(["-o", file]);
    }
    let output = command.arg(CONTAINER).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, said.trim_end()));
    }
    for (tensor, file) in set.outputs.iter().zip(&found) {
        let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
        let (found, wanted) = (read(Path::new(file))?, read(&place.join(&tensor.file))?);
        case.compare(tensor, &found, &wanted).map_err(|why| format!("{}: {why}", tensor.name))?;
    }
    Ok(())
}
