//! One result model, many renderings: a table and a page for people; JSON, JUnit XML, TAP, SARIF and
//! GitHub's annotations for machines.

mod coverage;
mod github;
mod html;
mod json;
mod junit;
mod sarif;
mod table;
mod tap;

pub use coverage::{coverage, requirements};
pub use github::{github, github_summary};
pub use html::html;
pub use json::{json, schema};
pub use junit::junit;
pub use sarif::sarif;
pub use table::{list, table};
pub use tap::tap;

#[cfg(test)]
mod tests;
