//! Confluent's framing: which registered schema a record was written with, in front of its body.
//!
//! ```text
//!  00 | id, u32 big-endian | body                          Avro, JSON Schema
//!  00 | id, u32 big-endian | message index | body          Protobuf
//!
//!  message index: which message of the file. count, then each nested level's index, as zigzag varints;
//!                 the first message of the file, [0], is one byte 00
//! ```

use crate::fault::{Fault, fault};
use crate::varint::write_varint;

/// The first byte of every framed record.
pub const MAGIC: u8 = 0;

/// Messages nested deeper than this are no message index but noise.
const MAX_NESTING: u64 = 64;

/// The schema's id and the index at which the body starts.
pub fn read_frame(bytes: &[u8]) -> Result<(u32, usize), Fault> {
    match bytes {
        [MAGIC, a, b, c, d, ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), 5)),
        _ => Err(no_frame(bytes)),
    }
}

#[cold]
fn no_frame(bytes: &[u8]) -> Fault {
    match bytes.first() {
        None => fault(0, "the value is empty; a schema id was expected"),
        Some(&MAGIC) => fault(bytes.len(), "the value ends within its schema id"),
        Some(byte) => fault(
            0,
            format!("the value begins with byte {byte:#04x}, not 0x00: it was written without a schema registry"),
        ),
    }
}

/// Appends the frame; the body follows.
pub fn write_frame(id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC);
    out.extend_from_slice(&id.to_be_bytes());
}

/// The path to the message within its file, from the top, and the index after it. `at` is behind the frame.
pub fn read_message_index(bytes: &[u8], at: usize) -> Result<(Vec<usize>, usize), Fault> {
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

/// Appends the path to the message within its file.
pub fn write_message_index(path: &[usize], out: &mut Vec<u8>) {
    if path == [0] {
        out.push(0);
        return;
    }
    write_varint((path.len() as u64) << 1, out);
    path.iter().for_each(|index| write_varint((*index as u64) << 1, out));
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

    #[test]
    fn a_frame_comes_back() {
        let mut out = Vec::new();
        write_frame(0x0102_0304, &mut out);
        assert_eq!(out, [0, 1, 2, 3, 4]);
        assert_eq!(read_frame(&out).unwrap(), (0x0102_0304, 5));
    }

    #[test]
    fn what_is_no_frame_says_why() {
        let message = |bytes: &[u8]| read_frame(bytes).unwrap_err().message;
        assert!(message(b"").contains("empty"));
        assert!(message(b"\0\0\0").contains("ends within"));
        assert!(message(b"{\"a\":1}").contains("without a schema registry"));
    }

    #[test]
    fn message_indices_come_back() {
        for (path, bytes) in [(&[0][..], &[0][..]), (&[1], &[2, 2]), (&[2, 0, 300], &[6, 4, 0, 0xd8, 4])] {
            let mut out = Vec::new();
            write_message_index(path, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(read_message_index(&out, 0).unwrap(), (path.to_vec(), bytes.len()));
        }
        assert_eq!(read_message_index(&[2, 0, 9], 0).unwrap(), (vec![0], 2));
    }

    #[test]
    fn noise_is_no_message_index() {
        for bytes in [&[][..], &[0x80], &[1], &[2], &[2, 1], &[0xff; 12], &[0xfe, 0xff, 0x7f]] {
            assert!(read_message_index(bytes, 0).is_err(), "{bytes:?}");
        }
    }
}
