//! The codec: any bytes, both directions, in any pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| understudy_wire::fuzzing::wire(input));
