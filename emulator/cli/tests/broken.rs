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
    // The planted bug is in AES-CBC: its vectors must fail, and no other algorithm's.
    let failed: Vec<_> = done
        .stdout
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("FAIL  "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    for id in ["virtio-crypto/cipher/session/3", "virtio-crypto/cipher/stateless/3"] {
        assert!(failed.contains(&id), "{id} passed; failed: {failed:?}");
    }
    let others = failed.iter().filter(|id| id.contains("/session/") || id.contains("/stateless/"));
    assert_eq!(others.count(), 2, "{failed:?}");
}
