use proptest::prelude::*;

use super::*;
use crate::{Element, Limits, Network};

fn binding(name: &str, element: Element, shape: &[usize]) -> Binding {
    let bytes = shape.iter().product::<usize>() * element.bytes();
    Binding { name: name.to_owned(), element, shape: shape.to_vec(), bytes }
}

fn sample() -> Vec<u8> {
    let inputs = [binding("x", Element::F32, &[1, 4])];
    let outputs = [binding("y", Element::I8, &[2])];
    pack("sample", b"a model", &inputs, &outputs).unwrap()
}

#[test]
fn a_container_gives_back_what_was_packed() {
    let container = sample();
    let segments = segments(&container).unwrap();
    let names: Vec<_> = segments.iter().map(|segment| segment.name).collect();
    assert_eq!(names, [&b"constantsdesc.bin"[..], b"networkdesc.bin", b"network.elf"]);
    assert_eq!(onnx(&container).unwrap(), b"a model");
    assert_eq!(onnx(program(&container).unwrap()).unwrap(), b"a model");
}

/// The vendor's reader takes contents where its in-memory structures point, counted from `base`.
#[test]
fn a_container_copied_from_memory_is_the_same() {
    const BASE: u64 = 0x7f00_1234_5000;
    let mut container = sample();
    let mut shift = |at: usize| {
        let old = u64::from_le_bytes(container[at..at + 8].try_into().unwrap());
        container[at..at + 8].copy_from_slice(&(old + BASE).to_le_bytes());
    };
    shift(16);
    shift(32);
    for segment in 0..3 {
        shift(40 + 32 * segment + 16);
        shift(40 + 32 * segment + 24);
    }
    assert_eq!(onnx(&container).unwrap(), b"a model");
}

#[test]
fn a_container_without_our_section_is_refused() {
    let program = elf::write(&[("metadata", b"for the chip")]);
    let container = qpc::write(&[(PROGRAM, &program)]);
    assert_eq!(Network::load(&container, &Limits::default()).unwrap_err(), LoadError::NoNetwork);
    let container = qpc::write(&[(CONSTANTS, &NO_CONSTANTS)]);
    let error = Network::load(&container, &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "container: no segment is called network.elf");
    let error = Network::load(b"GGUF", &Limits::default()).unwrap_err();
    assert!(matches!(error, LoadError::Container(ContainerError::Unknown(_))), "{error}");
}

/// A descriptor of one input and one output, field by field, as `protoc --decode_raw` shows it.
#[test]
fn the_description_is_the_published_protobuf() {
    let bytes = description::write(
        "n",
        &[binding("x", Element::F32, &[1, 300])],
        &[binding("y", Element::I8, &[2])],
    );
    // type F32 is 0 and left out; qscale 1.0; dims 1, 300.
    let x = b"\x0a\x01x\x12\x0a\x15\x00\x00\x80\x3f\x22\x03\x01\xac\x02\
        \x1a\x0a\x15\x00\x00\x80\x3f\x22\x03\x01\xac\x02\x22\x09\x08\x06\x2a\x03\x01\xac\x02\x4a\x00";
    let y = b"\x0a\x01y\x12\x0a\x08\x02\x15\x00\x00\x80\x3f\x22\x01\x02\
        \x1a\x0a\x08\x02\x15\x00\x00\x80\x3f\x22\x01\x02\x22\x0d\x08\x06\x10\x02\x2a\x01\x02\x4a\x04\
        \x08\x01\x18\x01";
    let mut expected = b"\x08\x09\x1a\x01n".to_vec();
    for (field, io) in [(0x22, &x[..]), (0x2a, &y[..])] {
        expected.push(field);
        expected.push(u8::try_from(io.len()).unwrap());
        expected.extend_from_slice(io);
    }
    expected.extend_from_slice(b"\x32\x03\x08\xb0\x09\x32\x04\x08\x02\x10\x01\x38\x01\x70\x01");
    assert_eq!(bytes, expected);
}

proptest! {
    /// Whatever is damaged, reading ends in an answer.
    #[test]
    fn damaged_containers_end_in_answers(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 1..12),
        length in any::<prop::sample::Index>(),
    ) {
        let mut container = sample();
        let at = at.index(container.len());
        for (to, from) in container[at..].iter_mut().zip(bytes) {
            *to = from;
        }
        container.truncate(length.index(container.len() + 1));
        let _ = onnx(&container);
    }
}
