//! `understudy schema`.

use crate::cli::{SchemaArgs, SchemaOf};
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::print;

pub(crate) fn run(args: &SchemaArgs) -> Outcome {
    let schema = match args.of {
        SchemaOf::Config => schemars::schema_for!(config::File<'_>),
        SchemaOf::Faults => schemars::schema_for!(understudy_faults::Plan),
        SchemaOf::Report => understudy_conformance::report::schema(),
    };
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|error| Failure::environment("cannot print", "JSON", error))?;
    print(&(text + "\n"))
}
