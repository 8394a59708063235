//! With the hidden feature `broken`, a model has a bug: `check` must fail, and name the check.
//!
//! `cargo test -p understudy --features broken --test broken`

#[cfg(test)]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

use common::Understudy;

#[test]
fn a_broken_model_is_found_out_by_name() {
    let done = Understudy::new().run(&["check"]);
    assert_eq!(done.code, 1, "{}{}", done.stdout, done.stderr);
    let named = done.stdout.lines().filter(|line| line.starts_with("FAIL virtio-crypto/"));
    assert!(named.count() > 0, "{}", done.stdout);
    println!("{}", done.stdout);
}
