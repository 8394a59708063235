//! One result model, three renderings: a table for people, JSON and JUnit XML for machines.

mod coverage;
mod json;
mod junit;
mod table;

pub use coverage::{coverage, requirements};
pub use json::{json, schema};
pub use junit::junit;
pub use table::{list, table};

#[cfg(test)]
mod tests;
