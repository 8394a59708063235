//! Findings: everything that it takes to see a defect again, in one file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::defect::Defect;
use crate::executor::Executor;
use crate::program::Program;

/// The format of files written here.
pub const FORMAT: u32 = 1;
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// A defect and how to see it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Of this file: 1.
    pub format: u32,
    /// What was fuzzed: `in-process`, `server`, `client`, `driver`.
    pub kind: String,
    /// Which target of that kind.
    pub target: String,
    /// Where the campaign's randomness started.
    pub seed: u64,
    /// Number of the execution, from 1.
    pub execution: u64,
    /// Whatever else it depends on: parameters, kernel, command line.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub config: Value,
    /// What is wrong.
    pub defect: Defect,
    /// Size of the program that first showed it, in bytes of JSON.
    pub first_bytes: usize,
    /// Size of the program in this file, in bytes of JSON.
    pub bytes: usize,
    /// The input: a [`Program`], messages, answers or a fault plan, by kind.
    pub program: Value,
    /// What happened: the end of it, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<String>,
}

/// A file that is no finding, or cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is not a finding.
    #[error("not a finding: {0}")]
    Format(String),
}

impl Finding {
    /// Describes a defect in a driver that runs in this process: runs the program once more for
    /// its trace and its stack.
    ///
    /// # Errors
    /// If the target's model cannot be made.
    pub fn in_process(
        executor: &mut Executor<'_>,
        seed: u64,
        execution: u64,
        first: &Program,
        program: &Program,
        defect: &Defect,
    ) -> Result<Self, String> {
        let (outcome, trace) = executor.trace(program)?;
        let defect = outcome.defect().unwrap_or(defect).clone();
        Ok(Self {
            format: FORMAT,
            kind: "in-process".to_owned(),
            target: executor.target().name().to_owned(),
            seed,
            execution,
            config: Value::Null,
            defect,
            first_bytes: first.size(),
            bytes: program.size(),
            program: serde_json::to_value(program).unwrap_or_default(),
            trace,
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let len = std::fs::metadata(path)?.len();
        if len > MAX_FILE {
            return Err(FileError::Format(format!("{len} bytes are more than {MAX_FILE}")));
        }
        let text = std::fs::read_to_string(path)?;
        let finding: Self =
            serde_json::from_str(&text).map_err(|error| FileError::Format(error.to_string()))?;
        if finding.format != FORMAT {
            let what = format!("format {}, expected {FORMAT}", finding.format);
            return Err(FileError::Format(what));
        }
        Ok(finding)
    }

    /// Writes the file into a folder, under a name that the same defect has again. The path, and
    /// whether it is new.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn write(&self, folder: &Path) -> Result<(PathBuf, bool), FileError> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(self.file_name());
        let new = !path.exists();
        if new {
            let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
            text.push('\n');
            std::fs::write(&path, text)?;
        }
        Ok((path, new))
    }

    /// A name from what tells defects apart.
    #[must_use]
    pub fn file_name(&self) -> String {
        let key = self.defect.key();
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let target: String = self
            .target
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(40)
            .collect();
        format!("{target}-{}-{:08x}.json", self.defect.kind, hash >> 32)
    }

    /// The program of a finding in a driver that runs in process.
    ///
    /// # Errors
    /// [`FileError::Format`].
    pub fn in_process_program(&self) -> Result<Program, FileError> {
        serde_json::from_value(self.program.clone())
            .map_err(|error| FileError::Format(format!("program: {error}")))
    }

    /// A Rust test that fails as long as the defect is there.
    #[must_use]
    pub fn as_rust_test(&self) -> String {
        let name: String = self
            .file_name()
            .trim_end_matches(".json")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let program = serde_json::to_string_pretty(&self.program).unwrap_or_default();
        let mut out = String::new();
        let _ = writeln!(out, "//! {}", self.defect.to_string().replace('\n', " "));
        let _ = writeln!(out, "//! Made by `understudy fuzz export`.\n");
        let _ = writeln!(out, "const PROGRAM: &str = r####\"{program}\"####;\n");
        let _ = writeln!(out, "#[test]\nfn {name}() {{");
        let _ = writeln!(
            out,
            "    let target = understudy_fuzzing::targets::find({:?}).unwrap();",
            self.target
        );
        let _ = writeln!(
            out,
            "    let program = understudy_fuzzing::Program::from_bytes(PROGRAM.as_bytes());"
        );
        let _ = writeln!(
            out,
            "    let mut executor = understudy_fuzzing::Executor::new(target.as_ref()).unwrap();"
        );
        let _ = writeln!(out, "    let outcome = executor.run(&program).unwrap();");
        let _ = writeln!(out, "    assert_eq!(outcome.defect(), None);\n}}");
        out
    }

    /// A C program that ends badly as long as the defect is there. It is linked with the driver,
    /// which defines `us_drive`, and with `libunderstudy_fuzz`.
    #[must_use]
    pub fn as_c_program(&self) -> String {
        let program = serde_json::to_string(&self.program).unwrap_or_default();
        let device = self.config["device"].as_str().unwrap_or("virtio-crypto");
        let mut text = String::new();
        for line in program.as_bytes().chunks(80) {
            let line = String::from_utf8_lossy(line).replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(text, "    \"{line}\"");
        }
        format!(
            "/* {}\n * Made by `understudy fuzz export`. */\n\
             #include <string.h>\n#include <understudy_fuzz.h>\n\n\
             static const char program[] =\n{text}    ;\n\n\
             int main(void)\n{{\n    return us_run(\"{device}\", (const uint8_t *)program, \
             strlen(program), us_drive);\n}}\n",
            self.defect.to_string().replace("*/", "* /"),
        )
    }
}
