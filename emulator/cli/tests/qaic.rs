//! `understudy qaic` from outside.

#[cfg(test)]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

use common::{Understudy, line};

const MLP: &[u8] = include_bytes!("../../../fixtures/qaic/networks/mlp/model.onnx");

/// A working directory with a model in it.
#[cfg(test)]
fn with_model() -> Understudy {
    let understudy = Understudy::new();
    std::fs::write(understudy.path("mlp.onnx"), MLP).unwrap();
    understudy
}

#[test]
fn a_packed_model_is_shown_as_a_container_that_loads() {
    let understudy = with_model();
    let done = understudy.run(&["qaic", "pack", "mlp.onnx"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let shown = understudy.run(&["qaic", "show", "mlp.qpc"]);
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(format!("{}\n{}", done.stdout, shown.stdout));
    let json = understudy.run(&["qaic", "show", "mlp.qpc", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["loads"], true);
    assert_eq!(json["inputs"][0]["shape"], serde_json::json!([4, 32]));
    assert_eq!(json["outputs"][0]["type"], "float32");
    // Packed twice, it is the same.
    let done = understudy.run(&["qaic", "pack", "mlp.onnx", "-o", "again.qpc"]);
    assert_eq!(done.code, 0);
    let read = |name: &str| std::fs::read(understudy.path(name)).unwrap();
    assert_eq!(read("mlp.qpc"), read("again.qpc"));
}

#[test]
fn what_the_device_would_refuse_is_shown_with_its_status() {
    let understudy = with_model();
    understudy.run(&["qaic", "pack", "mlp.onnx"]);
    let mut container = std::fs::read(understudy.path("mlp.qpc")).unwrap();
    let section = b"understudy.onnx";
    let at = container.windows(section.len()).position(|bytes| bytes == section).unwrap();
    container[at] = b'U';
    std::fs::write(understudy.path("foreign.qpc"), &container).unwrap();
    container.truncate(container.len() / 2);
    std::fs::write(understudy.path("half.qpc"), &container).unwrap();
    let mut all = String::new();
    for file in ["foreign.qpc", "half.qpc"] {
        let shown = understudy.run(&["qaic", "show", file]);
        assert_eq!((shown.code, shown.stderr.as_str()), (1, ""));
        all.push_str(&shown.stdout);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn mistakes_are_one_line() {
    let understudy = with_model();
    std::fs::write(understudy.path("text.onnx"), "not a model").unwrap();
    std::fs::create_dir(understudy.path("folder")).unwrap();
    let mut lines = Vec::new();
    for (arguments, code) in [
        (&["qaic"][..], 2),
        (&["qaic", "pack"], 2),
        (&["qaic", "pack", "missing.onnx"], 3),
        (&["qaic", "pack", "folder"], 3),
        (&["qaic", "pack", "text.onnx"], 2),
        (&["qaic", "pack", "mlp.onnx", "-o", "no/folder/x.qpc"], 3),
        (&["qaic", "pack", "mlp.onnx", "-o", "mlp.onnx"], 2),
        (&["qaic", "show", "missing.qpc"], 3),
    ] {
        let done = understudy.run(arguments);
        assert_eq!(done.code, code, "{arguments:?}: {}", done.stderr);
        lines.push(format!("$ understudy {}\n{}", arguments.join(" "), line(&done.stderr)));
    }
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(std::fs::read(understudy.path("mlp.onnx")).unwrap(), MLP);
}
