//! The example driver in C: its planted bug is found, by our engine and by libFuzzer.
#![cfg(test)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The static library beside this test, the newest.
fn library() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let folders = here.ancestors().skip(1).take(2);
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
    let libraries = files.map(|file| file.path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libunderstudy_fuzz") && !name.contains("fuzzing") && name.ends_with(".a")
    });
    libraries.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap()
}

fn build(compiler: &str, flags: &[&str], to: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(compiler)
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(here.join("include"))
        .args(flags)
        .arg(here.join("examples/virtqueue.c"))
        .arg(library())
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(to)
        .output()
        .unwrap();
    assert!(output.status.success(), "{compiler}: {}", text(&output));
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{}\n{out}{err}", output.status)
}

#[test]
fn our_engine_finds_the_bug_and_replays_it() {
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
    build("cc", &[], &right);
    build("cc", &["-DPLANTED_BUG"], &wrong);
    let fuzz = |program: &Path, runs: &str| {
        let out = folder.path().join("findings");
        let mut command = Command::new(program);
        command.args(["fuzz", "--seed", "1", "--runs", runs, "--time", "300", "--out"]).arg(out);
        command.output().unwrap()
    };
    let clean = fuzz(&right, "300");
    assert_eq!(clean.status.code(), Some(0), "{}", text(&clean));
    let found = fuzz(&wrong, "20000");
    assert_eq!(found.status.code(), Some(1), "{}", text(&found));
    let out = String::from_utf8(found.stdout).unwrap();
    let replay = out.lines().find_map(|line| line.strip_prefix("replay: ")).unwrap();
    let file = replay.rsplit(' ').next().unwrap();
    let again = Command::new(&wrong).args(["replay", file]).output().unwrap();
    assert!(!again.status.success(), "{}", text(&again));
    // The driver that checks the ID takes the same input well.
    let fixed = Command::new(&right).args(["replay", file]).output().unwrap();
    assert_eq!(fixed.status.code(), Some(0), "{}", text(&fixed));

    // Exported as a C program, it is the same.
    let source = folder.path().join("exported.c");
    let finding = understudy_fuzzing::Finding::read(Path::new(file)).unwrap();
    std::fs::write(&source, finding.as_c_program()).unwrap();
    let source = source.display().to_string();
    let exported = |flags: &[&str], name: &str| {
        let program = folder.path().join(name);
        let flags = [flags, &[source.as_str()]].concat();
        build("cc", &flags, &program);
        Command::new(&program).output().unwrap()
    };
    // The driver's own main is not wanted.
    let wrong = exported(&["-DPLANTED_BUG", "-DNO_MAIN"], "exported-wrong");
    assert!(!wrong.status.success(), "{}", text(&wrong));
    let right = exported(&["-DNO_MAIN"], "exported-right");
    assert_eq!(right.status.code(), Some(0), "{}", text(&right));
}

/// A program that our engine found to trigger the bug.
const PROGRAM: &str = r#"{"acts": [{"nth": 2, "what": {"entry": {"flip": [1, 7]}}}], "calls": [[0, 0], [0, 0], [0, 0]], "honest": 63}"#;

#[test]
fn what_is_installed_builds_the_driver_from_its_pkg_config_file() {
    if Command::new("pkg-config").arg("--version").output().is_err() {
        eprintln!("skipped: there is no pkg-config");
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("prefix");
    let output = Command::new(here.join("install")).arg(&prefix).arg(library()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let output = Command::new("pkg-config")
        .args(["--cflags", "--libs", "understudy-fuzz"])
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let flags = String::from_utf8(output.stdout).unwrap();
    let (source, program) = (here.join("examples/virtqueue.c"), folder.path().join("driver"));
    let output = Command::new("cc")
        .arg(source)
        .args(flags.split_whitespace())
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let mut fuzz = Command::new(&program);
    fuzz.args(["fuzz", "--seed", "1", "--runs", "20", "--out"]).arg(folder.path().join("out"));
    let output = fuzz.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn libfuzzer_and_asan_show_the_bug_in_its_place() {
    if Command::new("clang").arg("--version").output().is_err() {
        eprintln!("skipped: there is no clang");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("libfuzzer");
    build("clang", &["-fsanitize=fuzzer,address", "-DLIBFUZZER", "-DPLANTED_BUG"], &program);
    let input = folder.path().join("input");
    std::fs::write(&input, PROGRAM).unwrap();
    let output = Command::new(&program).arg(&input).current_dir(folder.path()).output().unwrap();
    let said = text(&output);
    assert!(!output.status.success() && said.contains("in take"), "{said}");

    // From nothing.
    let arguments = ["-seed=1", "-runs=20000", "-max_len=16384", "-len_control=0"];
    let output = Command::new(&program).args(arguments).current_dir(folder.path()).output();
    let said = text(&output.unwrap());
    // What the driver takes for a buffer there may also be none, which the platform sees first.
    let seen = ["in take", "a DMA buffer that it does not hold"];
    let seen = seen.iter().any(|text| said.contains(text));
    assert!(seen && said.contains("Test unit written"), "{said}");
}
