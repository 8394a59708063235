//! A look at the bytes of a model before they are decoded.
//!
//! Two bytes can announce an empty message that takes hundreds once it is decoded, and messages
//! nest. So announcements are counted first, and what is refused anyway is refused here: what
//! remains has a fixed depth.

use crate::LoadError;
use crate::limits::within;

/// Fields that may be announced for each node that is allowed: its names, attributes and so on.
const FIELDS_PER_NODE: u64 = 32;

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// What a field of a message holds, as far as that matters here.
enum Content {
    /// Text, bytes, numbers.
    Plain,
    /// A message with fields of its own.
    Message(Kind),
    /// Something that is refused, by name.
    Refused(&'static str),
}

/// The messages of `onnx.proto` that repeat others.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Value,
    Type,
    TensorType,
    Shape,
    Leaf,
}

impl Kind {
    /// What field `number` is.
    fn content(self, number: u64) -> Content {
        use Content::{Message, Plain, Refused};
        match (self, number) {
            (Self::Model, 7) => Message(Self::Graph),
            (Self::Model, 8 | 14) => Message(Self::Leaf),
            (Self::Model, 20) => Refused("training information"),
            (Self::Model, 25) => Refused("functions of the model's own"),
            (Self::Graph, 1) => Message(Self::Node),
            (Self::Graph, 5 | 14) => Message(Self::Leaf),
            (Self::Graph, 11..=13) => Message(Self::Value),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Refused("sparse tensors"),
            (Self::Node, 5) => Message(Self::Attribute),
            (Self::Attribute, 6 | 11) => Refused("control flow"),
            (Self::Attribute, 5 | 10) => Message(Self::Leaf),
            (Self::Value, 2) => Message(Self::Type),
            (Self::Type, 4 | 5 | 8 | 9) => Refused("values other than tensors"),
            (Self::Type, 1) => Message(Self::TensorType),
            (Self::TensorType, 2) => Message(Self::Shape),
            (Self::Shape, 1) => Message(Self::Leaf),
            _ => Plain,
        }
    }
}

/// Refuses models that announce more than `nodes` nodes could need, and what is not supported.
pub(crate) fn scan(model: &[u8], nodes: u64) -> Result<(), LoadError> {
    let limit = nodes.saturating_mul(FIELDS_PER_NODE);
    let mut fields = 0;
    // One entry for each message that is open; kinds never nest in themselves.
    let mut open = vec![(Kind::Model, model)];
    while let Some((kind, rest)) = open.pop() {
        let Some(field) = Field::first(rest)? else { continue };
        open.push((kind, field.rest));
        fields += 1;
        within("fields of the model", fields, limit)?;
        let Some(content) = field.content else { continue };
        match kind.content(field.number) {
            Content::Plain => {}
            Content::Message(inner) => open.push((inner, content)),
            Content::Refused(what) => return Err(LoadError::Unsupported(what.to_owned())),
        }
    }
    Ok(())
}

/// One field of a message, and what follows it.
struct Field<'a> {
    number: u64,
    /// Only of length-delimited fields.
    content: Option<&'a [u8]>,
    rest: &'a [u8],
}

impl<'a> Field<'a> {
    fn first(mut data: &'a [u8]) -> Result<Option<Self>, LoadError> {
        if data.is_empty() {
            return Ok(None);
        }
        let key = varint(&mut data)?;
        let mut content = None;
        match key & 7 {
            VARINT => drop(varint(&mut data)?),
            FIXED_64 => drop(take(&mut data, 8)?),
            FIXED_32 => drop(take(&mut data, 4)?),
            LENGTH_DELIMITED => {
                let length = varint(&mut data)?;
                content = Some(take(&mut data, length)?);
            }
            other => return Err(LoadError::Malformed(format!("protobuf wire type {other}"))),
        }
        Ok(Some(Self { number: key >> 3, content, rest: data }))
    }
}

fn varint(data: &mut &[u8]) -> Result<u64, LoadError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(data, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(LoadError::Malformed("a protobuf number of more than ten bytes".to_owned()))
}

fn take<'a>(data: &mut &'a [u8], length: u64) -> Result<&'a [u8], LoadError> {
    let split = usize::try_from(length).ok().and_then(|length| data.split_at_checked(length));
    let (taken, rest) =
        split.ok_or_else(|| LoadError::Malformed("a protobuf field is cut off".to_owned()))?;
    *data = rest;
    Ok(taken)
}
