//! The network descriptor (`AICNetworkDesc.proto`, version 9.0), as far as the vendor's runtime
//! needs it to know inputs, outputs and their buffers: one DMA buffer for each, in order.

use crate::{Binding, Element};

const MAJOR_VERSION: u64 = 9;

/// `dataType`. Booleans are bytes.
fn data_type(element: Element) -> u64 {
    match element {
        Element::F32 => 0,
        Element::F16 => 1,
        Element::I8 => 2,
        Element::U8 => 3,
        Element::I32 => 6,
        Element::I64 => 7,
        Element::Bool => 8,
    }
}

/// `direction`, seen from the device.
#[derive(Clone, Copy)]
enum Direction {
    In = 0,
    Out = 1,
}

/// `transformKind`: the buffer is copied as it is.
const COPY_DMA_BUFFER: u64 = 6;

pub(super) fn write(name: &str, inputs: &[Binding], outputs: &[Binding]) -> Vec<u8> {
    let mut network = Message::default();
    network.number(1, MAJOR_VERSION);
    network.bytes(3, name.as_bytes());
    for (index, binding) in inputs.iter().enumerate() {
        network.message(4, &io_binding(binding, index, Direction::In));
    }
    for (index, binding) in outputs.iter().enumerate() {
        network.message(5, &io_binding(binding, inputs.len() + index, Direction::Out));
    }
    for binding in inputs {
        network.message(6, &dma_buffer(binding, Direction::In));
    }
    for binding in outputs {
        network.message(6, &dma_buffer(binding, Direction::Out));
    }
    // num_cores and batch_size.
    network.number(7, 1);
    network.number(14, 1);
    network.0
}

/// `IOBinding`: the device takes and gives tensors as the model declares them.
fn io_binding(binding: &Binding, buffer: usize, direction: Direction) -> Message {
    let mut io = Message::default();
    io.bytes(1, binding.name.as_bytes());
    let descriptor = io_descriptor(binding);
    io.message(2, &descriptor);
    io.message(3, &descriptor);
    let mut copy = Message::default();
    copy.number(1, direction as u64);
    copy.number(3, buffer as u64);
    let mut transform = Message::default();
    transform.number(1, COPY_DMA_BUFFER);
    transform.number(2, data_type(binding.element));
    transform.dims(5, &binding.shape);
    transform.message(9, &copy);
    io.message(4, &transform);
    io
}

/// `IODescriptor` in plain row-major order, not scaled.
fn io_descriptor(binding: &Binding) -> Message {
    let mut descriptor = Message::default();
    descriptor.number(1, data_type(binding.element));
    descriptor.float(2, 1.0);
    descriptor.dims(4, &binding.shape);
    descriptor
}

fn dma_buffer(binding: &Binding, direction: Direction) -> Message {
    let mut buffer = Message::default();
    buffer.number(1, binding.bytes as u64);
    buffer.number(2, direction as u64);
    buffer
}

/// A protobuf message in the making. Fields with the default value, zero, are left out (proto3).
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    const VARINT: u64 = 0;
    const LENGTH_DELIMITED: u64 = 2;
    const FIXED_32: u64 = 5;

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.varint(field << 3 | Self::VARINT);
            self.varint(value);
        }
    }

    fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | Self::FIXED_32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | Self::LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn message(&mut self, field: u64, value: &Self) {
        self.bytes(field, &value.0);
    }

    /// Repeated numbers, packed.
    fn dims(&mut self, field: u64, dims: &[usize]) {
        let mut packed = Self::default();
        for &dim in dims {
            packed.varint(dim as u64);
        }
        if !dims.is_empty() {
            self.message(field, &packed);
        }
    }
}
