//! The C interface of `understudy-fuzzing`: `include/understudy_fuzz.h` describes it.
//!
//! - `abi`: the functions that C calls; the only unsafe code.
//! - `supervisor`: our own engine for code that can crash: it runs in a child process, which notes
//!   what it is about to run.

pub mod abi;
mod supervisor;
