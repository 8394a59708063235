//! Where a report goes: files, standard output, GitHub.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use understudy_conformance::{Report, report};

use crate::cli::ReportFormat;
use crate::failure::{Failure, Outcome};
use crate::print;

/// Writes all renderings to a folder and prints one.
pub(super) fn publish(report: &Report, format: ReportFormat, folder: Option<&Path>) -> Outcome {
    let folder = folder.map_or_else(default_folder, Path::to_owned);
    let failure = |path: &Path| {
        let path = path.display().to_string();
        move |error: &dyn Display| Failure::environment("cannot write the report", path, error)
    };
    fs::create_dir_all(&folder).map_err(|error| failure(&folder)(&error))?;
    for (name, format) in [
        ("report.json", ReportFormat::Json),
        ("junit.xml", ReportFormat::Junit),
        ("report.tap", ReportFormat::Tap),
        ("report.sarif", ReportFormat::Sarif),
        ("report.html", ReportFormat::Html),
    ] {
        let path = folder.join(name);
        let text = rendered(report, format)?;
        fs::write(&path, text).map_err(|error| failure(&path)(&error))?;
    }
    summarise(report)?;
    let mut text = rendered(report, format)?;
    if format == ReportFormat::Table {
        if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
            text.push_str(&report::github(report));
        }
        text.push_str(&format!("reports: {}\n", folder.display()));
    }
    print(&text)
}

fn rendered(report: &Report, format: ReportFormat) -> Result<String, Failure> {
    let failure = |error: &dyn Display| Failure::environment("cannot render", "report", error);
    Ok(match format {
        ReportFormat::Table => report::table(report),
        ReportFormat::Json => report::json(report).map_err(|error| failure(&error))?,
        ReportFormat::Junit => report::junit(report).map_err(|error| failure(&error))?,
        ReportFormat::Tap => report::tap(report),
        ReportFormat::Sarif => report::sarif(report).map_err(|error| failure(&error))?,
        ReportFormat::Github => report::github(report),
        ReportFormat::Html => report::html(report),
    })
}

/// In a workflow of GitHub's, the page of the run shows what is appended to this file.
fn summarise(report: &Report) -> Result<(), Failure> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let path = PathBuf::from(path);
    let written = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(report::github_summary(report).as_bytes()));
    written.map_err(|error| Failure::environment("cannot write the summary", path.display(), error))
}

fn default_folder() -> PathBuf {
    let name = Path::new("understudy-report");
    let target = Path::new("target");
    if target.is_dir() { target.join(name) } else { name.to_owned() }
}
