//! The framings: which registered schema a record was written with, in front of its body.
//!
//! ```text
//!  Confluent   00 | id, u32 big-endian | body                                          Avro, JSON Schema
//!              00 | id, u32 big-endian | message index | body                          Protobuf
//!  Glue        03 | 00 or 05 | UUID of the schema's version, 16 bytes | body           as it is, or compressed by zlib
//!              03 | 00 or 05 | UUID of the schema's version, 16 bytes | message number, body
//!
//!  message index: which message of the file. count, then each nested level's index, as zigzag varints;
//!                 the first message of the file, [0], is one byte 00
//!  message number: the place of the message's full name among those of all messages of the file in order, as a varint;
//!                 part of what is compressed
//! ```
//!
//! Glue's are those of its own serialisers: `SerializationDataEncoder`, `ProtobufWireFormatEncoder` and `MessageIndexFinder` in
//! awslabs/aws-glue-schema-registry.

use super::SchemaId;
use crate::fault::{Fault, fault};
use crate::varint::write_varint;

/// The first byte of records framed as Confluent does.
pub const MAGIC: u8 = 0;
/// The first byte of records framed as Glue does.
pub const GLUE_HEADER: u8 = 3;
/// The second one, of a body as it is.
const PLAIN: u8 = 0;
/// The second one, of a body compressed by zlib.
const ZLIB: u8 = 5;

/// Messages nested deeper than this are no message index but noise.
const MAX_NESTING: u64 = 64;

/// What stands in front of records, which each registry has its own way for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    Confluent,
    Glue,
}

/// How a body stands behind its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Plain,
    Zlib,
}

/// Which message of its file a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageIndex {
    /// The path to it, from the top.
    Path(Vec<usize>),
    /// Its place among all messages of the file, by their full names.
    Place(usize),
}

impl Framing {
    /// The schema's id, the index at which the body starts, and how it stands there.
    #[inline]
    pub fn read(self, bytes: &[u8]) -> Result<(SchemaId, usize, Body), Fault> {
        match self {
            Self::Confluent => match bytes {
                [MAGIC, a, b, c, d, ..] => Ok((SchemaId::Number(u32::from_be_bytes([*a, *b, *c, *d])), 5, Body::Plain)),
                _ => Err(no_frame(bytes)),
            },
            Self::Glue => read_glue(bytes),
        }
    }

    /// Appends the frame; the body follows, as `body` says. Of a schema that another registry names: nothing.
    pub fn write(self, id: SchemaId, body: Body, out: &mut Vec<u8>) {
        match (self, id) {
            (Self::Confluent, SchemaId::Number(id)) => {
                out.push(MAGIC);
                out.extend_from_slice(&id.to_be_bytes());
            }
            (Self::Glue, SchemaId::Version(uuid)) => {
                out.extend_from_slice(&[GLUE_HEADER, if body == Body::Zlib { ZLIB } else { PLAIN }]);
                out.extend_from_slice(&uuid.to_be_bytes());
            }
            _ => {}
        }
    }

    /// The index of the byte at which a record's id starts.
    pub(super) fn id_at(self) -> usize {
        match self {
            Self::Confluent => 1,
            Self::Glue => 2,
        }
    }

    /// Which message a record is, and the index after that. `at` is where the body starts. In both framings the first is one byte 00.
    pub fn read_message_index(self, bytes: &[u8], at: usize) -> Result<(MessageIndex, usize), Fault> {
        match self {
            Self::Confluent => read_path(bytes, at).map(|(path, end)| (MessageIndex::Path(path), end)),
            Self::Glue => {
                let (place, end) = read_varint(bytes, at)?;
                let place = usize::try_from(place).map_err(|_| bad_index(at))?;
                Ok((MessageIndex::Place(place), end))
            }
        }
    }
}

impl MessageIndex {
    /// Appends it, in front of the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Path(path) if *path == [0] => out.push(0),
            Self::Path(path) => {
                write_varint((path.len() as u64) << 1, out);
                path.iter().for_each(|index| write_varint((*index as u64) << 1, out));
            }
            Self::Place(place) => write_varint(*place as u64, out),
        }
    }
}

/// Do the bytes look as if a registry's client had framed them? Of formats whose values never begin so.
pub(crate) fn looks_framed(bytes: &[u8]) -> bool {
    matches!(bytes, [MAGIC, ..] | [GLUE_HEADER, PLAIN | ZLIB, ..])
}

fn read_glue(bytes: &[u8]) -> Result<(SchemaId, usize, Body), Fault> {
    let body = match bytes {
        [GLUE_HEADER, PLAIN, ..] => Body::Plain,
        [GLUE_HEADER, ZLIB, ..] => Body::Zlib,
        [GLUE_HEADER, other, ..] => {
            return Err(fault(1, format!("the compression is {other}, expected 0 (none) or 5 (zlib)")));
        }
        _ => return Err(no_glue_frame(bytes)),
    };
    match bytes.get(2..).and_then(<[u8]>::first_chunk) {
        Some(uuid) => Ok((SchemaId::Version(u128::from_be_bytes(*uuid)), 18, body)),
        None => Err(fault(bytes.len(), "the value ends within the UUID of its schema's version")),
    }
}

#[cold]
fn no_frame(bytes: &[u8]) -> Fault {
    match bytes {
        [] => fault(0, "the value is empty; a schema id was expected"),
        [MAGIC, ..] => fault(bytes.len(), "the value ends within its schema id"),
        [GLUE_HEADER, PLAIN | ZLIB, ..] if bytes.len() >= 18 => {
            fault(0, "the value begins as AWS Glue frames it: schema_registry.type = 'glue' reads it")
        }
        [byte, ..] => fault(
            0,
            format!("the value begins with byte {byte:#04x}, not 0x00: it was written without a schema registry"),
        ),
    }
}

#[cold]
fn no_glue_frame(bytes: &[u8]) -> Fault {
    match bytes {
        [] => fault(0, "the value is empty; the UUID of a schema's version was expected"),
        [GLUE_HEADER] => fault(1, "the value ends within its frame"),
        [MAGIC, _, _, _, _, ..] => fault(
            0,
            "the value begins with byte 0x00, not 0x03: it was written with a schema registry of Confluent's protocol, or without any",
        ),
        [byte, ..] => {
            let what = "it was not written with AWS Glue's schema registry";
            fault(0, format!("the value begins with byte {byte:#04x}, not 0x03: {what}"))
        }
    }
}

/// The path to the message within its file, from the top, and the index after it. `at` is behind the frame.
fn read_path(bytes: &[u8], at: usize) -> Result<(Vec<usize>, usize), Fault> {
    let (count, mut at) = read_varint(bytes, at)?;
    if count == 0 {
        return Ok((vec![0], at));
    }
    let count = unzigzag(count).ok_or_else(|| bad_index(at))?;
    if count > MAX_NESTING {
        return Err(bad_index(at));
    }
    let mut path = Vec::new();
    for _ in 0..count {
        let (index, end) = read_varint(bytes, at)?;
        let index = unzigzag(index).and_then(|index| usize::try_from(index).ok());
        path.push(index.ok_or_else(|| bad_index(at))?);
        at = end;
    }
    Ok((path, at))
}

#[cold]
fn bad_index(at: usize) -> Fault {
    fault(at, "the message index behind the schema id is not one")
}

/// A zigzag number that is not negative.
fn unzigzag(value: u64) -> Option<u64> {
    (value & 1 == 0).then_some(value >> 1)
}

fn read_varint(bytes: &[u8], at: usize) -> Result<(u64, usize), Fault> {
    let mut value = 0u64;
    for (count, byte) in bytes.get(at..).unwrap_or_default().iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * count).min(63);
        if byte & 0x80 == 0 {
            return Ok((value, at + count + 1));
        }
    }
    Err(fault(at, "the value ends within the message index behind its schema id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: u128 = 0xb7b4_a7f0_9c96_4e4a_a687_fb5d_e9ef_0c63;

    /// The bytes of awslabs' `SerializationDataEncoder` for that UUID.
    fn glue(compression: u8) -> Vec<u8> {
        let uuid = [0xb7, 0xb4, 0xa7, 0xf0, 0x9c, 0x96, 0x4e, 0x4a, 0xa6, 0x87, 0xfb, 0x5d, 0xe9, 0xef, 0x0c, 0x63];
        [&[3, compression][..], &uuid].concat()
    }

    #[test]
    fn a_frame_comes_back() {
        let mut out = Vec::new();
        Framing::Confluent.write(SchemaId::Number(0x0102_0304), Body::Plain, &mut out);
        assert_eq!(out, [0, 1, 2, 3, 4]);
        assert_eq!(Framing::Confluent.read(&out).unwrap(), (SchemaId::Number(0x0102_0304), 5, Body::Plain));
        for (body, compression) in [(Body::Plain, 0), (Body::Zlib, 5)] {
            let mut out = Vec::new();
            Framing::Glue.write(SchemaId::Version(UUID), body, &mut out);
            assert_eq!(out, glue(compression));
            assert_eq!(Framing::Glue.read(&out).unwrap(), (SchemaId::Version(UUID), 18, body));
        }
    }

    #[test]
    fn what_is_no_frame_says_why() {
        let message = |framing: Framing, bytes: &[u8]| framing.read(bytes).unwrap_err().message;
        for framing in [Framing::Confluent, Framing::Glue] {
            assert!(message(framing, b"").contains("empty"));
            assert!(message(framing, b"{\"a\":1}").contains("was "));
        }
        assert!(message(Framing::Confluent, b"\0\0\0").contains("ends within"));
        assert!(message(Framing::Confluent, b"{\"a\":1}").contains("without a schema registry"));
        assert!(message(Framing::Confluent, &glue(5)).contains("'glue'"));
        assert!(message(Framing::Glue, b"\0\0\0\0\x01x").contains("Confluent"));
        assert!(message(Framing::Glue, &glue(1)).contains("compression is 1"));
        for length in 1..18 {
            let cut = glue(0).into_iter().take(length).collect::<Vec<_>>();
            assert!(message(Framing::Glue, &cut).contains("ends within"), "{length}");
        }
    }

    #[test]
    fn message_indices_come_back() {
        let check = |framing: Framing, index: MessageIndex, bytes: &[u8]| {
            let mut out = Vec::new();
            index.write(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(framing.read_message_index(&out, 0).unwrap(), (index, bytes.len()));
        };
        for (path, bytes) in [(&[0][..], &[0][..]), (&[1], &[2, 2]), (&[2, 0, 300], &[6, 4, 0, 0xd8, 4])] {
            check(Framing::Confluent, MessageIndex::Path(path.to_vec()), bytes);
        }
        for (place, bytes) in [(0, &[0][..]), (1, &[1]), (300, &[0xac, 2])] {
            check(Framing::Glue, MessageIndex::Place(place), bytes);
        }
        let (index, end) = Framing::Confluent.read_message_index(&[2, 0, 9], 0).unwrap();
        assert_eq!((index, end), (MessageIndex::Path(vec![0]), 2));
    }

    #[test]
    fn noise_is_no_message_index() {
        for bytes in [&[][..], &[0x80], &[1], &[2], &[2, 1], &[0xff; 12], &[0xfe, 0xff, 0x7f]] {
            assert!(Framing::Confluent.read_message_index(bytes, 0).is_err(), "{bytes:?}");
        }
        for bytes in [&[][..], &[0x80], &[0xff; 12]] {
            assert!(Framing::Glue.read_message_index(bytes, 0).is_err(), "{bytes:?}");
        }
    }
}
