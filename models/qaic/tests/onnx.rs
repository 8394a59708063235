//! Operators of ONNX through the whole device: container, control channel, DMA bridge. The answers
//! are those of ONNX's own backend test. Run by `ci/onnx`, which writes the cases.
//!
//! A case passes, or is refused when it is loaded. Anything else is a failure: a device may have few
//! operators, but it must not compute wrongly.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use understudy_client::SimulationPlatform;
use understudy_client::qaic::{Driver, Options};
use understudy_guest::operators::{self, Case, Tensor};
use understudy_qaic::{Boot, Parameters, Qaic, refusal};
use understudy_tensor::{Limits, Network, pack};

/// Names the folder with the cases.
const FOLDER: &str = "UNDERSTUDY_ONNX_CASES";
/// Names the file that the verdicts go to, if any is wanted.
const REPORT: &str = "UNDERSTUDY_ONNX_REPORT";
/// So many must pass.
const WANTED: usize = 500;
/// Reasons that are printed.
const REASONS: usize = 12;

enum Verdict {
    Passed,
    Unsupported(String),
    Failed(String),
}

#[test]
#[ignore = "needs the cases that ci/onnx writes"]
fn operators_are_right_or_refused() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let cases = operators::read(&folder).unwrap();
    let mut driver = driver();
    let (mut passed, mut unsupported, mut failed) = (0, 0, 0);
    let mut reasons = BTreeMap::<String, usize>::new();
    let mut report = String::new();
    for case in &cases {
        let line = match judge(&mut driver, &folder.join(&case.name), case) {
            Verdict::Passed => {
                passed += 1;
                "passed".to_owned()
            }
            Verdict::Unsupported(reason) => {
                unsupported += 1;
                let short = reason.split([':', '(']).next().unwrap_or_default().to_owned();
                *reasons.entry(short).or_default() += 1;
                format!("unsupported: {reason}")
            }
            Verdict::Failed(reason) => {
                failed += 1;
                println!("FAILED {}: {reason}", case.name);
                // Whatever state it left the device in.
                driver = self::driver();
                format!("failed: {reason}")
            }
        };
        report.push_str(&format!("{} {line}\n", case.name));
    }
    if let Some(file) = std::env::var_os(REPORT) {
        fs::write(file, report).unwrap();
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (reason, count) in reasons.iter().take(REASONS) {
        println!("unsupported {count:4}: {reason}");
    }
    println!("ONNX operator cases: {passed} passed, {unsupported} unsupported, {failed} failed");
    assert_eq!(failed, 0);
    assert!(passed >= WANTED, "{passed} passed");
}

type TestDriver = Driver<SimulationPlatform>;

fn driver() -> TestDriver {
    let parameters = Parameters { boot: Boot::Amss, ..Parameters::default() };
    let platform = SimulationPlatform::new(Box::new(Qaic::new(parameters).unwrap()), 1).unwrap();
    let mut driver = Driver::new(platform, Options::default()).unwrap();
    driver.power_up().unwrap();
    driver
}

fn judge(driver: &mut TestDriver, folder: &Path, case: &Case) -> Verdict {
    if let Some(reason) = &case.unsupported {
        return Verdict::Unsupported(format!("not the device's types: {reason}"));
    }
    let onnx = fs::read(folder.join("model.onnx")).unwrap();
    let network = match Network::from_onnx(&onnx, &Limits::default()) {
        Ok(network) => network,
        Err(error) => {
            // The device says the same.
            let container = pack(&case.name, &onnx, &[], &[]).unwrap();
            let answer = driver.load(1, &container, 1 << 20, 64).unwrap();
            assert_eq!(answer, Err(refusal(&error)), "{}", case.name);
            return Verdict::Unsupported(error.to_string());
        }
    };
    let container = pack(&case.name, &onnx, network.inputs(), network.outputs()).unwrap();
    let program = driver.load(1, &container, 1 << 20, 64).unwrap().unwrap();
    let active = driver.activate(1, program, 128).unwrap().unwrap();
    let mut verdict = Verdict::Passed;
    for set in &case.sets {
        let bytes = |tensor: &Tensor| fs::read(folder.join(&tensor.file)).unwrap();
        let given: BTreeMap<&str, Vec<u8>> =
            set.inputs.iter().map(|tensor| (tensor.name.as_str(), bytes(tensor))).collect();
        let names = network.inputs().iter().map(|binding| binding.name.as_str());
        let inputs: Option<Vec<&[u8]>> =
            names.map(|name| given.get(name).map(Vec::as_slice)).collect();
        let Some(inputs) = inputs else {
            return Verdict::Failed("its inputs have other names".to_owned());
        };
        let lengths: Vec<usize> = network.outputs().iter().map(|binding| binding.bytes).collect();
        let found = match driver.infer(&active, &inputs, &lengths) {
            Ok(found) => found,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        for (index, tensor) in set.outputs.iter().enumerate() {
            let Some(binding) = network.outputs().get(index) else {
                return Verdict::Failed("an output is missing".to_owned());
            };
            if binding.shape != tensor.shape {
                let (found, wanted) = (&binding.shape, &tensor.shape);
                return Verdict::Failed(format!("{} is {found:?}, not {wanted:?}", tensor.name));
            }
            if let Err(why) = case.compare(tensor, &found[index], &bytes(tensor)) {
                verdict = Verdict::Failed(format!("{}: {why}", tensor.name));
            }
        }
    }
    assert_eq!(driver.deactivate(1, active).unwrap(), 0);
    driver.terminate(1).unwrap();
    verdict
}
