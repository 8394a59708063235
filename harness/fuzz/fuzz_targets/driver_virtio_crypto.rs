//! Our small driver for virtio-crypto, on a model that any bytes steer.
#![no_main]

use understudy_fuzzing::{Executor, Program, targets};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let target = targets::find("virtio-crypto").expect("a target that is there");
    let mut executor = Executor::new(target.as_ref()).expect("a model with these parameters");
    executor.run_or_panic(&Program::from_bytes(input));
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, room: usize, seed: u32| {
    understudy_fuzzing::mutate_bytes(&mut data[..room], size, seed)
});
