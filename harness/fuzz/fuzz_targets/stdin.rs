//! One run of a driver (the first argument, `virtio-crypto` without one) with a program from standard
//! input. Panics if there is a defect.

use std::io::Read;

use understudy_fuzzing::{Executor, Program, targets};

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "virtio-crypto".to_owned());
    let target = targets::find(&name).expect("one of understudy fuzz targets");
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).expect("a readable standard input");
    let mut executor = Executor::new(target.as_ref()).expect("a model with these parameters");
    executor.run_or_panic(&Program::from_bytes(&input));
}
