//! What `tract` panics about is an error, and nothing on standard error.
//!
//! Alone in its process: the hook that is looked at is the process's.

#[path = "../../qaic/tests/protobuf/mod.rs"]
mod protobuf;

use std::sync::atomic::{AtomicUsize, Ordering};

use protobuf::{bytes, number};
use understudy_tensor::{Limits, Network};

static SAID: AtomicUsize = AtomicUsize::new(0);

/// An input or output of one 32-bit integer.
fn integer(name: &str) -> Vec<u8> {
    let shape = bytes(1, &number(1, 1));
    let tensor = [number(1, 6), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// `y = a / b`.
fn divider() -> Vec<u8> {
    let node = [bytes(1, b"a"), bytes(1, b"b"), bytes(2, b"y"), bytes(4, b"Div")].concat();
    let inputs = [bytes(11, &integer("a")), bytes(11, &integer("b"))].concat();
    let graph = [bytes(1, &node), bytes(2, b"g"), inputs, bytes(12, &integer("y"))].concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

#[test]
fn a_division_by_zero_is_an_error_and_says_nothing() {
    std::panic::set_hook(Box::new(|_| {
        SAID.fetch_add(1, Ordering::Relaxed);
    }));
    let network = Network::from_onnx(&divider(), &Limits::default()).unwrap();
    let (six, two, zero) = (6_i32.to_le_bytes(), 2_i32.to_le_bytes(), 0_i32.to_le_bytes());
    network.run(&[&six, &zero]).unwrap_err();
    assert_eq!(SAID.load(Ordering::Relaxed), 0);
    // What was done before is done again, and panics of others are heard as before.
    assert_eq!(network.run(&[&six, &two]).unwrap(), [3_i32.to_le_bytes()]);
    std::panic::catch_unwind(|| panic!("of somebody else")).unwrap_err();
    assert_eq!(SAID.load(Ordering::Relaxed), 1);
}
