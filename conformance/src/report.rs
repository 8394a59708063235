//! One result model, three renderings: a table for people, JSON and JUnit XML for machines.

mod json;
mod junit;
mod table;

pub use json::{json, schema};
pub use junit::junit;
pub use table::{list, table};

#[cfg(test)]
mod tests;
